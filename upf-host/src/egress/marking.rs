//! Congestion Experienced, told to the user's packet (TS 23.501 5.37.3, RFC 9331): the mark goes where its ends see it,
//! into the user's own IP header. Around it, checksums stay right.

use crate::checksum;
use crate::traffic_class::{self, CE, ECN};

/// Where a frame has its user's packet. Counted from the frame's end, so that headers put in front change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marking {
    /// Length of the user's IP packet, which ends the frame.
    pub user_len: u16,
    /// Where the checksum field of an outer UDP header begins; 0: none covers the user's packet, or the device fills it
    /// in. Over an IPv4 user packet that sum stays as it is: the header checksum inside takes the change back.
    pub udp_checksum: u16,
}

impl Marking {
    /// Mark, if the packet's ends know ECN. False: they do not, or were told before.
    pub fn mark(self, frame: &mut [u8]) -> bool {
        let Some(at) = frame.len().checked_sub(self.user_len.into()) else {
            return false;
        };
        let class = match frame.get(at..) {
            Some(ip) if ip.len() >= 20 => traffic_class::of(ip),
            _ => return false,
        };
        if matches!(class & ECN, 0 | CE) {
            return false;
        }
        let before = word(frame, at);
        traffic_class::set(&mut frame[at..], class | CE);
        let after = word(frame, at);
        let ipv6 = frame[at] >> 4 == 6;
        let field = frame.len().checked_sub(self.udp_checksum.into());
        if let (true, 1.., Some(field)) = (ipv6, self.udp_checksum, field) {
            let sum = match checksum::update(word(frame, field), before, after) {
                0 => 0xffff, // zero would mean that there is none (RFC 768)
                sum => sum,
            };
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        true
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
