//! The ToS octet of IPv4 and the traffic class of IPv6: DSCP (RFC 2474) and ECN (RFC 3168), read and written in place.

use crate::checksum;

/// DSCP bits; the other two are ECN.
pub const DSCP: u8 = 0xfc;
/// ECN bits.
pub const ECN: u8 = 0x03;
/// ECN: Congestion Experienced.
pub const CE: u8 = 0x03;

/// The octet of an IP packet.
#[inline]
pub fn of(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 {
        ip[1]
    } else {
        ip[0] << 4 | ip[1] >> 4
    }
}

/// Replace it; the IPv4 header checksum follows (RFC 1624).
pub fn set(ip: &mut [u8], class: u8) {
    if ip[0] >> 4 == 4 {
        let before = u16::from_be_bytes([ip[0], ip[1]]);
        ip[1] = class;
        let sum = u16::from_be_bytes([ip[10], ip[11]]);
        let sum = checksum::update(sum, before, u16::from_be_bytes([ip[0], ip[1]]));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[0] = 0x60 | class >> 4;
        ip[1] = ip[1] & 0x0f | class << 4;
    }
}
