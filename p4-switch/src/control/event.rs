//! What the switch tells its controller unasked.

use super::entity::{TableEntry, Value};
use super::info::DigestId;

/// A notification. Sent from the thread that processes packets, between bursts, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A packet left through the CPU port. The program's packet-in header, if any, leads it.
    PacketIn(Vec<u8>),
    /// Digests.
    Digest(DigestList),
    /// Entries that no packet has hit within their idle timeout. Told once per timeout.
    IdleTimeout(Vec<TableEntry>),
}

/// A list of digests of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestList {
    /// The digest.
    pub digest: DigestId,
    /// What the controller acknowledges.
    pub list_id: u64,
    /// The digests: a value for each element of the tuple.
    pub data: Vec<Vec<Value>>,
    /// When the list was begun, in nanoseconds since the switch started.
    pub timestamp_ns: u64,
}
