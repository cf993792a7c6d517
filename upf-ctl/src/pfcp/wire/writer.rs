//! Writing messages: header, elements, grouped elements, with the lengths filled in afterwards.

use rs_pfcp::ie::IeType;
use rs_pfcp::message::MsgType;
use rs_pfcp::message::header::Header as Frame;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A message with more in it than its 16-bit length fields can say. Only unbounded lists (usage reports, created
/// PDRs) can cause it: send them in several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message does not fit into one datagram")]
pub struct TooLong;

/// The largest UDP payload over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// One message being written.
#[derive(Debug)]
pub(super) struct Writer {
    octets: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// Starts a message: its header, with the length still open.
    pub fn message(message_type: MsgType, seid: Option<u64>, sequence: u32) -> Self {
        let mut octets = Vec::with_capacity(128);
        let frame = Frame::new(message_type, seid.is_some(), seid.unwrap_or(0), sequence & 0x00ff_ffff);
        frame.marshal_into(&mut octets);
        Self {
            octets,
            too_long: false,
        }
    }

    /// Ends the message.
    pub fn finish(mut self) -> Result<Vec<u8>, TooLong> {
        if self.too_long || self.octets.len() > MAX_DATAGRAM {
            return Err(TooLong);
        }
        self.set_length(2, 4);
        Ok(self.octets)
    }

    /// Writes one IE, whose value or elements `value` writes.
    pub fn element(&mut self, ie_type: IeType, value: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        self.octets.extend_from_slice(&(ie_type as u16).to_be_bytes());
        let length_at = self.octets.len();
        self.octets.extend_from_slice(&[0, 0]);
        value(self);
        self.set_length(length_at, length_at + 2);
        self
    }

    /// Stores how many octets there are from `start` to the end.
    fn set_length(&mut self, at: usize, start: usize) {
        match u16::try_from(self.octets.len() - start) {
            Ok(length) => self.octets[at..at + 2].copy_from_slice(&length.to_be_bytes()),
            Err(_) => self.too_long = true,
        }
    }

    pub fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.octets.extend_from_slice(octets);
        self
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.octets(&[value])
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    pub fn optional_u8(&mut self, value: Option<u8>) -> &mut Self {
        value.into_iter().fold(self, Self::u8)
    }

    pub fn optional_u64(&mut self, value: Option<u64>) -> &mut Self {
        value.into_iter().fold(self, Self::u64)
    }

    pub fn ipv4(&mut self, address: Option<Ipv4Addr>) -> &mut Self {
        address.into_iter().fold(self, |w, address| w.octets(&address.octets()))
    }

    pub fn ipv6(&mut self, address: Option<Ipv6Addr>) -> &mut Self {
        address.into_iter().fold(self, |w, address| w.octets(&address.octets()))
    }
}
