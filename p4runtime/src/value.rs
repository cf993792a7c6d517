//! Canonical byte strings: how P4Runtime carries a `bit<W>` (specification, section "Bytestrings").
//!
//! A value is unsigned and big-endian. The canonical form is the shortest one that holds it, and zero is one zero
//! octet. A server accepts padded forms and answers canonical ones; an empty string is not a value. Whether a value
//! fits a field of W bits is a question of its most significant bit, never of the length of the string.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One unsigned value of any width, in canonical form.
///
/// ```
/// use p4runtime::Value;
/// assert_eq!(Value::from(0x0102u32).as_bytes(), [1, 2]);
/// assert_eq!(Value::from(0u8).as_bytes(), [0]);
/// assert!(Value::from(511u16).fits(9) && !Value::from(512u16).fits(9));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Vec<u8>);

impl Value {
    /// The value of a big-endian byte string, padded or not. An empty one counts as zero.
    pub fn from_be_bytes(bytes: &[u8]) -> Value {
        Value(canonical(bytes).to_vec())
    }

    /// The canonical byte string.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The canonical byte string, for a message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether a field of `width` bits can hold it.
    pub fn fits(&self, width: u32) -> bool {
        significant_bits(&self.0) <= width
    }

    /// As a number, unless it is wider than 128 bits.
    pub fn to_u128(&self) -> Option<u128> {
        to_u128(&self.0)
    }

    /// As exactly `ceil(width / 8)` octets, or `None` if it does not fit `width` bits.
    pub fn padded(&self, width: u32) -> Option<Vec<u8>> {
        padded(&self.0, width)
    }

    /// The first `length` of `width` bits set: the mask of a prefix. `length` above `width` counts as `width`.
    pub fn prefix_mask(length: u32, width: u32) -> Value {
        let length = length.min(width);
        let mut octets = vec![0u8; width.div_ceil(8) as usize];
        let unused = octets.len() as u32 * 8 - width;
        for bit in unused..unused + length {
            octets[(bit / 8) as usize] |= 0x80 >> (bit % 8);
        }
        Value::from_be_bytes(&octets)
    }

    /// Bit by bit both.
    pub fn and(&self, mask: &Value) -> Value {
        let octets: Vec<u8> = self
            .0
            .iter()
            .rev()
            .zip(mask.0.iter().rev())
            .map(|(a, b)| a & b)
            .collect();
        Value::from_be_bytes(&octets.into_iter().rev().collect::<Vec<u8>>())
    }
}

/// The canonical form of a byte string: no leading zero octets but the last one. Empty stays empty-as-zero.
pub fn canonical(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|&octet| octet != 0) {
        Some(first) => &bytes[first..],
        None => &[0],
    }
}

/// Whether a string is in canonical form.
pub fn is_canonical(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [_] => true,
        [first, ..] => *first != 0,
    }
}

/// Position of the most significant bit set, counted from 1; 0 for the value zero.
pub fn significant_bits(bytes: &[u8]) -> u32 {
    match bytes.iter().position(|&octet| octet != 0) {
        Some(first) => (bytes.len() - first) as u32 * 8 - bytes[first].leading_zeros(),
        None => 0,
    }
}

/// As a number, unless it is wider than 128 bits.
pub fn to_u128(bytes: &[u8]) -> Option<u128> {
    let bytes = canonical(bytes);
    if bytes.len() > 16 {
        return None;
    }
    Some(bytes.iter().fold(0, |value, &octet| value << 8 | u128::from(octet)))
}

/// As exactly `ceil(width / 8)` octets, or `None` if the value does not fit `width` bits.
pub fn padded(bytes: &[u8], width: u32) -> Option<Vec<u8>> {
    if significant_bits(bytes) > width {
        return None;
    }
    let length = width.div_ceil(8) as usize;
    let mut octets = vec![0; length];
    let kept = bytes.len().min(length);
    octets[length - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
    Some(octets)
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

macro_rules! from_integer {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(value: $integer) -> Value {
                Value::from_be_bytes(&value.to_be_bytes())
            }
        }
    )*};
}
from_integer!(u8, u16, u32, u64, u128, usize);

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value(vec![u8::from(value)])
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Value {
        Value::from_be_bytes(&address.octets())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Value {
        Value::from_be_bytes(&address.octets())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Value {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(octets: [u8; N]) -> Value {
        Value::from_be_bytes(&octets)
    }
}

impl From<&[u8]> for Value {
    fn from(octets: &[u8]) -> Value {
        Value::from_be_bytes(octets)
    }
}

impl From<Vec<u8>> for Value {
    fn from(octets: Vec<u8>) -> Value {
        Value::from_be_bytes(&octets)
    }
}

impl From<&Value> for Value {
    fn from(value: &Value) -> Value {
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_is_one_octet_and_an_empty_string_is_not_canonical() {
        assert_eq!(Value::from(0u128).as_bytes(), [0]);
        assert_eq!(canonical(&[]), [0]);
        assert!(is_canonical(&[0]) && !is_canonical(&[]) && !is_canonical(&[0, 1]));
    }

    #[test]
    fn prefix_masks_count_from_the_most_significant_bit_of_the_field() {
        assert_eq!(Value::prefix_mask(24, 32), Value::from(0xffff_ff00u32));
        assert_eq!(Value::prefix_mask(1, 9), Value::from(0x100u16));
        assert_eq!(Value::prefix_mask(0, 9), Value::from(0u8));
        assert_eq!(Value::prefix_mask(200, 128), Value::from(u128::MAX));
    }

    proptest! {
        #[test]
        fn padding_changes_no_value(octets in proptest::collection::vec(any::<u8>(), 1..20), pad in 0usize..8) {
            let mut longer = vec![0; pad];
            longer.extend(&octets);
            let (short, long) = (Value::from_be_bytes(&octets), Value::from_be_bytes(&longer));
            prop_assert_eq!(&short, &long);
            prop_assert!(is_canonical(short.as_bytes()));
            prop_assert_eq!(significant_bits(&octets), significant_bits(&longer));
        }

        #[test]
        fn numbers_survive(number in any::<u128>()) {
            prop_assert_eq!(Value::from(number).to_u128(), Some(number));
        }

        #[test]
        fn a_value_fits_exactly_the_widths_from_its_top_bit_on(number in any::<u128>(), width in 0u32..140) {
            let fits = width >= 128 || number >> width == 0;
            prop_assert_eq!(Value::from(number).fits(width), fits);
            let padded = Value::from(number).padded(width);
            prop_assert_eq!(padded.is_some(), fits);
            if let Some(padded) = padded {
                prop_assert_eq!(padded.len() as u32, width.div_ceil(8));
                prop_assert_eq!(to_u128(&padded), Some(number));
            }
        }

        #[test]
        fn masking_is_and(a in any::<u128>(), b in any::<u128>()) {
            prop_assert_eq!(Value::from(a).and(&Value::from(b)), Value::from(a & b));
        }

        #[test]
        fn prefix_masks_have_their_length_in_ones(length in 0u32..=128, width in 1u32..=128) {
            let mask = Value::prefix_mask(length, width);
            let ones = mask.to_u128().expect("128 bits at most").count_ones();
            prop_assert_eq!(ones, length.min(width));
            prop_assert!(mask.fits(width));
        }
    }
}
