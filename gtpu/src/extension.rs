//! Owns the extension header chain (TS 29.281 5.2): types, who must understand them, and walking them.
//!
//! Every extension header is a multiple of four octets long and starts with that multiple; its last octet is the
//! type of the next one, 0 ending the chain. [`crate::Header::parse`] walks the chain once and refuses a broken
//! one, so that [`ExtensionHeaders`] is an iterator that cannot fail.

use crate::Error;
use core::fmt;

/// Next Extension Header Type (TS 29.281 table 5.2.1-3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionType(pub u8);

impl ExtensionType {
    /// No more extension headers.
    pub const NONE: Self = Self(0x00);
    /// Long PDCP PDU Number, the value whose comprehension is not required.
    pub const LONG_PDCP_PDU_NUMBER_OPTIONAL: Self = Self(0x03);
    /// Service Class Indicator.
    pub const SERVICE_CLASS_INDICATOR: Self = Self(0x20);
    /// UDP Port: the source port of the packet that an Error Indication answers.
    pub const UDP_PORT: Self = Self(0x40);
    /// RAN Container (TS 36.423).
    pub const RAN_CONTAINER: Self = Self(0x81);
    /// Long PDCP PDU Number.
    pub const LONG_PDCP_PDU_NUMBER: Self = Self(0x82);
    /// Xw RAN Container (TS 36.463).
    pub const XW_RAN_CONTAINER: Self = Self(0x83);
    /// NR RAN Container (TS 38.425).
    pub const NR_RAN_CONTAINER: Self = Self(0x84);
    /// PDU Session Container (TS 38.415): see [`crate::PduSessionContainer`].
    pub const PDU_SESSION_CONTAINER: Self = Self(0x85);
    /// PDCP PDU Number.
    pub const PDCP_PDU_NUMBER: Self = Self(0xc0);

    /// Who must understand a header of this type: its two highest bits.
    pub const fn comprehension(self) -> Comprehension {
        match self.0 >> 6 {
            0b00 => Comprehension::NotRequired,
            0b01 => Comprehension::NotRequiredAndNotForwarded,
            0b10 => Comprehension::RequiredByEndpoint,
            _ => Comprehension::RequiredByEveryone,
        }
    }

    /// The name in the table, if this is in the table.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NONE => "no more extension headers",
            Self::LONG_PDCP_PDU_NUMBER_OPTIONAL | Self::LONG_PDCP_PDU_NUMBER => "Long PDCP PDU Number",
            Self::SERVICE_CLASS_INDICATOR => "Service Class Indicator",
            Self::UDP_PORT => "UDP Port",
            Self::RAN_CONTAINER => "RAN Container",
            Self::XW_RAN_CONTAINER => "Xw RAN Container",
            Self::NR_RAN_CONTAINER => "NR RAN Container",
            Self::PDU_SESSION_CONTAINER => "PDU Session Container",
            Self::PDCP_PDU_NUMBER => "PDCP PDU Number",
            _ => return None,
        })
    }
}

impl fmt::Display for ExtensionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{:#04x} ({name})", self.0),
            None => write!(f, "{:#04x}", self.0),
        }
    }
}

impl fmt::Debug for ExtensionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node does with an extension header it does not know (TS 29.281 figure 5.2.1-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comprehension {
    /// Bits 00: pass over it; an intermediate node forwards it.
    NotRequired,
    /// Bits 01: pass over it; an intermediate node takes it off.
    NotRequiredAndNotForwarded,
    /// Bits 10: the endpoint of the tunnel must know it; an intermediate node forwards it.
    RequiredByEndpoint,
    /// Bits 11: the endpoint and every intermediate node must know it.
    RequiredByEveryone,
}

impl Comprehension {
    /// A UPF that ends the tunnel must discard a message with an unknown header of this kind, log it, and answer
    /// with a Supported Extension Headers Notification (TS 29.281 5.2.1, 7.2.3).
    pub const fn required_by_endpoint(self) -> bool {
        matches!(self, Self::RequiredByEndpoint | Self::RequiredByEveryone)
    }
}

/// One extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionHeader<'a> {
    /// Its type, taken from the octet before it.
    pub kind: ExtensionType,
    /// Its content, without the length octet and the next type octet: 2 octets, or 6, 10, 14...
    pub content: &'a [u8],
}

/// The extension headers of a message, outermost first. Cost of a step: three loads.
#[derive(Debug, Clone)]
pub struct ExtensionHeaders<'a> {
    next: ExtensionType,
    /// Starts at the length octet of the next header. Checked by [`chain_len`] unless `next` is `NONE`.
    rest: &'a [u8],
}

impl<'a> ExtensionHeaders<'a> {
    /// Of a chain that [`chain_len`] accepted.
    pub(crate) fn new(next: ExtensionType, rest: &'a [u8]) -> Self {
        Self { next, rest }
    }
}

impl<'a> Iterator for ExtensionHeaders<'a> {
    type Item = ExtensionHeader<'a>;

    fn next(&mut self) -> Option<ExtensionHeader<'a>> {
        if self.next == ExtensionType::NONE {
            return None;
        }
        let len = usize::from(*self.rest.first()?) * 4;
        let (header, rest) = self.rest.split_at_checked(len)?;
        let [_, content @ .., next] = header else { return None };
        let kind = core::mem::replace(&mut self.next, ExtensionType(*next));
        self.rest = rest;
        Some(ExtensionHeader { kind, content })
    }
}

impl core::iter::FusedIterator for ExtensionHeaders<'_> {}

/// Octets that the chain takes at the start of `octets`, `first` being the type announced before it.
/// Bounded by the buffer, for every header takes at least four octets of it.
///
/// # Errors
/// [`Error::ExtensionLengthZero`], and [`Error::Truncated`] where the chain leaves the buffer; offsets are counted
/// from `offset`, where `octets` start in the message.
pub(crate) fn chain_len(first: ExtensionType, octets: &[u8], offset: usize) -> Result<usize, Error> {
    let mut kind = first;
    let mut at = 0;
    while kind != ExtensionType::NONE {
        let truncated = |expected| Error::Truncated {
            field: "extension header",
            offset: offset + at,
            expected,
            actual: octets.len() - at,
        };
        let len = match octets.get(at) {
            None => return Err(truncated(4)),
            Some(0) => {
                return Err(Error::ExtensionLengthZero {
                    kind,
                    offset: offset + at,
                });
            }
            Some(&units) => usize::from(units) * 4,
        };
        kind = ExtensionType(*octets.get(at + len - 1).ok_or(truncated(len))?);
        at += len;
    }
    Ok(at)
}
