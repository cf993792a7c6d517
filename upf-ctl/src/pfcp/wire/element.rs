//! Information elements on the wire: type, length, value, and readers of their octets (TS 29.244 8.1).
//!
//! ```text
//!  octets  1-2   type, big endian; bit 16 set: vendor specific, the value starts with an enterprise number
//!          3-4   length of the value
//!          5-    the value: octets, or further elements (a grouped IE)
//! ```
//!
//! Everything borrows from the datagram and nothing recurses: a grouped IE is entered only by the reader that
//! knows it, so that nesting is as deep as the standard's tables (four levels) and no deeper. `rs-pfcp` names the
//! types; its own splitter copies every value and refuses empty ones (by which an Update removes a value, 5.6.3), so
//! the split is done here. Its answers and these agree on every vector in `tests/wire_vectors.rs`.
//!
//! Every integer is big endian. A value shorter than its type's fixed part is an error with cause 68 and the
//! IE's type; a longer one is a later release's, whose extra octets are ignored.

use super::cause::{self, Refusal};
use rs_pfcp::ie::IeType;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of type and length before a value.
pub(super) const ELEMENT_HEADER_LEN: usize = 4;

/// One IE, borrowed from the datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    /// [`IeType::Unknown`] for every type the standard's tables do not have, vendor specific ones included.
    pub ie_type: IeType,
    /// Its octets.
    pub value: &'a [u8],
}

/// The elements of a message body or of a grouped IE, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Elements<'a> {
    rest: &'a [u8],
    container: Option<IeType>,
}

impl<'a> Elements<'a> {
    /// Of a message, after its header.
    pub fn of_message(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            container: None,
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((&[t0, t1, l0, l1], after)) = rest.split_first_chunk::<ELEMENT_HEADER_LEN>() else {
            let inside = self.container.map_or("the message".to_owned(), |c| format!("{c:?}"));
            let message = format!("{} octets at the end of {inside} are too few for an IE", rest.len());
            return Some(Err(cause::invalid_length(self.container.map(|c| c as u16), message)));
        };
        let raw_type = u16::from_be_bytes([t0, t1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let ie_type = IeType::from(raw_type);
        let Some((value, rest)) = after.split_at_checked(length) else {
            let message = format!("IE of type {raw_type} claims {length} octets, {} are left", after.len());
            return Some(Err(cause::invalid_length(Some(raw_type), message)));
        };
        self.rest = rest;
        Some(Ok(Element { ie_type, value }))
    }
}

impl<'a> Element<'a> {
    /// The elements of this grouped IE.
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            rest: self.value,
            container: Some(self.ie_type),
        }
    }

    /// A reader at the first octet of the value.
    pub fn octets(&self) -> Octets<'a> {
        Octets {
            ie_type: self.ie_type,
            rest: self.value,
            length: self.value.len(),
        }
    }

    /// The first octet.
    pub fn u8(&self) -> Result<u8, Refusal> {
        self.octets().u8()
    }

    /// Octets 1 and 2 of the value.
    pub fn u16(&self) -> Result<u16, Refusal> {
        self.octets().u16()
    }

    /// Octets 1 to 4 of the value.
    pub fn u32(&self) -> Result<u32, Refusal> {
        self.octets().u32()
    }

    /// The whole value as text.
    pub fn text(&self) -> Result<String, Refusal> {
        self.octets().text(self.value.len())
    }
}

/// A reader of one value that knows whose value it is, for its errors.
#[derive(Debug, Clone)]
pub(super) struct Octets<'a> {
    ie_type: IeType,
    rest: &'a [u8],
    length: usize,
}

impl<'a> Octets<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.too_short(N))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn too_short(&self, wanted: usize) -> Refusal {
        let at = self.length - self.rest.len();
        let message = format!(
            "{:?}: {} octets, expected at least {}",
            self.ie_type,
            self.length,
            at + wanted
        );
        cause::invalid_length(Some(self.ie_type as u16), message)
    }

    /// The next octet.
    pub fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.take::<1>()?[0])
    }

    /// The next octet, if there is one.
    pub fn optional_u8(&mut self) -> Option<u8> {
        self.take::<1>().ok().map(|[octet]| octet)
    }

    /// The next 2 octets.
    pub fn u16(&mut self) -> Result<u16, Refusal> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    /// The next 3 octets.
    pub fn u24(&mut self) -> Result<u32, Refusal> {
        let [a, b, c] = self.take()?;
        Ok(u32::from_be_bytes([0, a, b, c]))
    }

    /// The next 4 octets.
    pub fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// The next 5 octets: a bit rate.
    pub fn u40(&mut self) -> Result<u64, Refusal> {
        let [a, b, c, d, e] = self.take()?;
        Ok(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    /// The next 8 octets.
    pub fn u64(&mut self) -> Result<u64, Refusal> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// An IPv4 address if `present`.
    pub fn ipv4(&mut self, present: bool) -> Result<Option<Ipv4Addr>, Refusal> {
        present.then(|| Ok(Ipv4Addr::from(self.take::<4>()?))).transpose()
    }

    /// An IPv6 address if `present`.
    pub fn ipv6(&mut self, present: bool) -> Result<Option<Ipv6Addr>, Refusal> {
        present.then(|| Ok(Ipv6Addr::from(self.take::<16>()?))).transpose()
    }

    /// The next `length` octets.
    pub fn octets(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (octets, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.too_short(length))?;
        self.rest = rest;
        Ok(octets)
    }

    /// The next `length` octets as UTF-8 text.
    pub fn text(&mut self, length: usize) -> Result<String, Refusal> {
        let octets = self.octets(length)?;
        let text = std::str::from_utf8(octets)
            .map_err(|error| cause::incorrect(self.ie_type, format!("{:?}: not text: {error}", self.ie_type)))?;
        Ok(text.to_owned())
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Keeps the first value: a repeated IE that may not repeat is ignored after its first instance.
pub(super) fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}
