//! The PFCP message header (TS 29.244 7.2.2), over `rs-pfcp`'s framing.
//!
//! ```text
//!  octet 1    version (3 bits) | spare (2) | FO | MP | S
//!        2    message type
//!        3-4  length of everything after octet 4
//!        5-12 SEID, if S
//!        then sequence number (24 bits), message priority (4 bits, if MP), spare
//! ```

use rs_pfcp::message::header::Header as Frame;

/// The only version there is.
pub const VERSION: u8 = 1;

/// Octets that the length field does not count.
const UNCOUNTED: usize = 4;

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Message type as on the wire, known or not.
    pub message_type: u8,
    /// The session endpoint that the message is for: the receiver's own. `None`: S is 0, a node related message.
    pub seid: Option<u64>,
    /// 24 bits, chosen by the requester and repeated in the response.
    pub sequence: u32,
    /// 0 (highest) to 15, if the sender gave one.
    pub priority: Option<u8>,
}

/// A header taken off its datagram, and what the length field says about the rest.
pub(super) struct Framed<'a> {
    pub version: u8,
    pub header: Header,
    /// What the length field counts after the header, or a description of how it disagrees with the datagram.
    pub body: Result<&'a [u8], String>,
}

/// Takes the header off. `None`: too short for one, so that nothing can be said to anyone.
pub(super) fn read(datagram: &[u8]) -> Option<Framed<'_>> {
    let frame = Frame::unmarshal(datagram).ok()?;
    let header = Header {
        message_type: frame.message_type_code(),
        seid: frame.has_seid.then_some(frame.seid.0),
        sequence: frame.sequence_number.0,
        priority: frame.has_mp.then_some(frame.message_priority >> 4),
    };
    let counted = usize::from(frame.length) + UNCOUNTED;
    let header_length = usize::from(frame.len());
    let body = if frame.has_fo {
        Err("FO is set: bundled messages (BUNDL) were not offered".to_owned())
    } else if counted != datagram.len() {
        Err(format!(
            "the length field makes it {counted} octets, the datagram has {}",
            datagram.len()
        ))
    } else {
        datagram
            .get(header_length..)
            .ok_or_else(|| "shorter than its header".to_owned())
    };
    Some(Framed {
        version: frame.version,
        header,
        body,
    })
}
