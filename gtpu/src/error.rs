//! Owns what can be wrong with a message, or with a request to build one: where, what was expected, what was found.

use crate::ExtensionType;
use thiserror::Error;

/// Why octets are not a GTPv1-U message, or why a message does not fit its buffer.
///
/// `offset` counts octets from the first octet of the GTP-U header. No variant owns memory, so that refusing a
/// hostile packet costs no more than accepting a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The buffer, or the message its Length field announces, ends inside a field.
    #[error("{field} at offset {offset}: expected {expected} octets, found {actual}")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where it starts.
        offset: usize,
        /// Octets it needs.
        expected: usize,
        /// Octets there are.
        actual: usize,
    },
    /// Not version 1 (TS 29.281 5.1); GTPv2-C and the like come to other ports.
    #[error("version at offset 0: expected 1, found {actual}")]
    Version {
        /// The three bits found.
        actual: u8,
    },
    /// Protocol Type 0 is GTP' (TS 32.295), which is charging data, not a tunnel.
    #[error("protocol type at offset 0: expected 1 (GTP), found 0 (GTP')")]
    ProtocolType,
    /// The Length field announces more than the buffer holds.
    #[error("length at offset 2: announces {announced} octets after the mandatory header, the buffer has {actual}")]
    LengthBeyondBuffer {
        /// The field's value.
        announced: usize,
        /// Octets that follow the first eight.
        actual: usize,
    },
    /// An extension header of length zero would never end (TS 29.281 5.2.1).
    #[error("extension header {kind} at offset {offset}: expected a length of 1 or more times 4 octets, found 0")]
    ExtensionLengthZero {
        /// Its type.
        kind: ExtensionType,
        /// Where its length octet is.
        offset: usize,
    },
    /// The PDU Type of a PDU Session Container is neither downlink nor uplink (TS 38.415 5.5.3.1).
    #[error("PDU Session Container: expected PDU type 0 (downlink) or 1 (uplink), found {actual}")]
    PduType {
        /// The four bits found.
        actual: u8,
    },
    /// The message is of another type than the reader reads.
    #[error("message type at offset 1: expected {expected}, found {actual}")]
    MessageType {
        /// Its value in TS 29.281 table 6.1-1.
        expected: u8,
        /// The value found.
        actual: u8,
    },
    /// A mandatory information element is absent (TS 29.281 7).
    #[error("information element {name} (type {kind}): mandatory, not found")]
    MissingElement {
        /// Its name.
        name: &'static str,
        /// Its type.
        kind: u8,
    },
    /// An element in TV form of unknown type: its length is unknown, so nothing after it can be read.
    #[error("information element at offset {offset}: type {kind} in TV form is unknown, so its length is too")]
    UnknownElement {
        /// Its type, below 128.
        kind: u8,
        /// Where it starts.
        offset: usize,
    },
    /// GTP-U Peer Address of a length that no IP address has (TS 29.281 8.4).
    #[error("GTP-U Peer Address: expected 4 or 16 octets, found {actual}")]
    PeerAddressLength {
        /// Its Length field.
        actual: usize,
    },
    /// The buffer given to a builder is too small.
    #[error("buffer: expected at least {expected} octets, found {actual}")]
    BufferTooSmall {
        /// Octets the message takes.
        expected: usize,
        /// Octets there are.
        actual: usize,
    },
    /// The payload does not fit the 16-bit Length field together with the optional and extension headers.
    #[error("payload: expected at most {expected} octets, found {actual}")]
    PayloadTooLong {
        /// The longest that fits.
        expected: usize,
        /// What was asked.
        actual: usize,
    },
}
