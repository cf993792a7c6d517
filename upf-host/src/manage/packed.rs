//! Sessions as the management thread remembers them: for what the next change is made from, to undo a change, to say whose
//! counts are whose. A million of them are kept, and each is looked at seldom, so they are packed: some 150 bytes
//! instead of more than a thousand in a dozen pieces.

use upf_model::Session;

/// A session, packed. Equal ones are of equal sessions. Cost: about a microsecond each way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Pack.
    pub fn of(session: &Session) -> Self {
        let packed = postcard::to_stdvec(session).expect("a session has nothing that postcard does not write");
        Self(packed.into())
    }

    /// Unpack.
    pub fn session(&self) -> Session {
        postcard::from_bytes(&self.0).expect("it was packed here")
    }
}
