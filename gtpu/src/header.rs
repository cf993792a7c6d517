//! Owns the GTP-U header (TS 29.281 5.1): eight mandatory octets, four optional ones, the extension headers.
//!
//! ```text
//!  octet 1   version (3) = 1 | PT = 1 | spare | E | S | PN
//!        2   message type
//!      3-4   length: octets after octet 8
//!      5-8   TEID
//!     9-10   sequence number             \
//!       11   N-PDU number                 | present if any of E, S, PN is set;
//!       12   next extension header type  /  each meaningful only if its own flag is
//! ```

use crate::extension::{ExtensionHeaders, ExtensionType, chain_len};
use crate::{Error, PduSessionContainer};
use core::fmt;

/// Octets of the mandatory part of the header.
pub const MANDATORY_LEN: usize = 8;
/// Octets of the optional part of the header.
pub const OPTIONAL_LEN: usize = 4;

/// Version 1 and Protocol Type GTP, no optional part.
pub(crate) const FLAGS_GTPV1: u8 = 0x30;
pub(crate) const FLAG_E: u8 = 0x04;
pub(crate) const FLAG_S: u8 = 0x02;
pub(crate) const FLAG_PN: u8 = 0x01;

/// Message Type (TS 29.281 table 6.1-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// Is the peer's path alive?
    pub const ECHO_REQUEST: Self = Self(1);
    /// It is.
    pub const ECHO_RESPONSE: Self = Self(2);
    /// The peer does not know the tunnel.
    pub const ERROR_INDICATION: Self = Self(26);
    /// The extension headers the peer understands.
    pub const SUPPORTED_EXTENSION_HEADERS_NOTIFICATION: Self = Self(31);
    /// Tunnel status of the peer.
    pub const TUNNEL_STATUS: Self = Self(253);
    /// Nothing more will come on this path.
    pub const END_MARKER: Self = Self(254);
    /// A user's packet.
    pub const G_PDU: Self = Self(255);

    /// The name in the table, if this is in the table.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ECHO_REQUEST => "Echo Request",
            Self::ECHO_RESPONSE => "Echo Response",
            Self::ERROR_INDICATION => "Error Indication",
            Self::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION => "Supported Extension Headers Notification",
            Self::TUNNEL_STATUS => "Tunnel Status",
            Self::END_MARKER => "End Marker",
            Self::G_PDU => "G-PDU",
            _ => return None,
        })
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A view of a message whose header, extension headers included, was checked against its buffer.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Header and payload, without trailing octets; at least [`MANDATORY_LEN`] of them.
    message: &'a [u8],
    mandatory: &'a [u8; MANDATORY_LEN],
    optional: Option<&'a [u8; OPTIONAL_LEN]>,
    header_len: usize,
    trailing: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header at the start of a UDP payload. Any message type is accepted.
    ///
    /// Octets beyond what the Length field announces are tolerated, as padding of a lower layer may leave some:
    /// see [`Header::trailing`]. The spare bit is ignored, as 5.1 asks.
    ///
    /// Cost: some tens of nanoseconds, and a loop over the extension headers; [`crate::parse_gpdu`] is the fast path.
    ///
    /// # Errors
    /// Every way in which the octets contradict TS 29.281 5.1 and 5.2.1, with the place; see [`Error`].
    pub fn parse(udp_payload: &'a [u8]) -> Result<Self, Error> {
        let Some((mandatory, after)) = udp_payload.split_first_chunk::<MANDATORY_LEN>() else {
            return Err(Error::Truncated {
                field: "mandatory header",
                offset: 0,
                expected: MANDATORY_LEN,
                actual: udp_payload.len(),
            });
        };
        let flags = mandatory[0];
        if flags >> 5 != 1 {
            return Err(Error::Version { actual: flags >> 5 });
        }
        if flags & 0x10 == 0 {
            return Err(Error::ProtocolType);
        }
        let announced = usize::from(u16::from_be_bytes([mandatory[2], mandatory[3]]));
        let Some((after, trailing)) = after.split_at_checked(announced) else {
            return Err(Error::LengthBeyondBuffer {
                announced,
                actual: after.len(),
            });
        };
        let message = &udp_payload[..MANDATORY_LEN + announced];
        if flags & (FLAG_E | FLAG_S | FLAG_PN) == 0 {
            return Ok(Self {
                message,
                mandatory,
                optional: None,
                header_len: MANDATORY_LEN,
                trailing,
            });
        }
        let Some((optional, after)) = after.split_first_chunk::<OPTIONAL_LEN>() else {
            return Err(Error::Truncated {
                field: "optional header",
                offset: MANDATORY_LEN,
                expected: OPTIONAL_LEN,
                actual: announced,
            });
        };
        let mut header_len = MANDATORY_LEN + OPTIONAL_LEN;
        if flags & FLAG_E != 0 {
            header_len += chain_len(ExtensionType(optional[3]), after, header_len)?;
        }
        Ok(Self {
            message,
            mandatory,
            optional: Some(optional),
            header_len,
            trailing,
        })
    }

    /// What the message is.
    pub fn message_type(&self) -> MessageType {
        MessageType(self.mandatory[1])
    }

    /// The receiver's tunnel; 0 for signalling of the path.
    pub fn teid(&self) -> u32 {
        let [.., a, b, c, d] = *self.mandatory;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Sequence number, if the S flag gives it a meaning.
    pub fn sequence_number(&self) -> Option<u16> {
        let [a, b, ..] = *self.optional?;
        self.has(FLAG_S).then_some(u16::from_be_bytes([a, b]))
    }

    /// N-PDU number, if the PN flag gives it a meaning.
    pub fn npdu_number(&self) -> Option<u8> {
        let [_, _, n, _] = *self.optional?;
        self.has(FLAG_PN).then_some(n)
    }

    /// The extension headers; none unless the E flag is set.
    pub fn extensions(&self) -> ExtensionHeaders<'a> {
        match self.optional {
            Some(&[.., next]) if self.has(FLAG_E) => {
                let chain = &self.message[MANDATORY_LEN + OPTIONAL_LEN..self.header_len];
                ExtensionHeaders::new(ExtensionType(next), chain)
            }
            _ => ExtensionHeaders::new(ExtensionType::NONE, &[]),
        }
    }

    /// The first PDU Session Container, if there is one.
    ///
    /// # Errors
    /// As [`PduSessionContainer::parse`].
    pub fn pdu_session_container(&self) -> Result<Option<PduSessionContainer>, Error> {
        self.extensions()
            .find(|e| e.kind == ExtensionType::PDU_SESSION_CONTAINER)
            .map(|e| PduSessionContainer::parse(e.content))
            .transpose()
    }

    /// The first extension header that an endpoint must understand and that is not among `understood`: then the
    /// message is to be discarded and a Supported Extension Headers Notification sent (TS 29.281 5.2.1).
    pub fn not_understood(&self, understood: &[ExtensionType]) -> Option<ExtensionType> {
        self.extensions()
            .map(|e| e.kind)
            .find(|kind| kind.comprehension().required_by_endpoint() && !understood.contains(kind))
    }

    /// Octets of the header with its optional part and extension headers: the payload starts there.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// What follows the header: the user's packet of a G-PDU, the information elements of the others.
    pub fn payload(&self) -> &'a [u8] {
        &self.message[self.header_len..]
    }

    /// Octets of the buffer that are not part of the message.
    pub fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    fn has(&self, flag: u8) -> bool {
        self.mandatory[0] & flag != 0
    }
}
