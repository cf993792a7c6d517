//! The hash and checksum algorithms that BMv2 knows, with BMv2's results.

/// An algorithm over bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Csum16,
    Crc8,
    Crc16,
    Crc32,
    Crc64,
    CrcCcitt,
    Xor16,
    Xor32,
    /// The first eight bytes.
    Identity,
    /// A counter.
    RoundRobin,
    /// Uniform.
    Random,
}

impl Algorithm {
    /// The algorithm that the JSON calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "csum16" | "cksum16" => Self::Csum16,
            "crc8_custom" => Self::Crc8,
            "crc16" | "crc16_custom" => Self::Crc16,
            "crc32" | "crc32_custom" => Self::Crc32,
            "crc64_custom" => Self::Crc64,
            "crcCCITT" => Self::CrcCcitt,
            "xor16" => Self::Xor16,
            "xor32" => Self::Xor32,
            "identity" => Self::Identity,
            "round_robin" | "round_robin_consistent" => Self::RoundRobin,
            "random" => Self::Random,
            _ => return None,
        })
    }

    /// The value for `bytes`. `counter` serves the algorithms that look at no bytes.
    pub(crate) fn hash(self, bytes: &[u8], counter: &mut u64) -> u64 {
        match self {
            Self::Csum16 => fold(sum16(bytes)) as u64,
            Self::Crc8 => bytes.iter().fold(0u8, |crc, b| CRC8[(crc ^ b) as usize]) as u64,
            Self::Crc16 => bytes
                .iter()
                .fold(0u16, |crc, b| crc >> 8 ^ CRC16[(crc as u8 ^ b) as usize]) as u64,
            Self::Crc32 => {
                let crc = bytes
                    .iter()
                    .fold(u32::MAX, |crc, b| crc >> 8 ^ CRC32[(crc as u8 ^ b) as usize]);
                !crc as u64
            }
            Self::Crc64 => bytes
                .iter()
                .fold(0u64, |crc, b| crc >> 8 ^ CRC64[(crc as u8 ^ b) as usize]),
            Self::CrcCcitt => bytes
                .iter()
                .fold(u16::MAX, |crc, b| crc << 8 ^ CRC_CCITT[((crc >> 8) as u8 ^ b) as usize])
                as u64,
            Self::Xor16 => chunks(bytes, 2).fold(0, |x, w| x ^ w),
            Self::Xor32 => chunks(bytes, 4).fold(0, |x, w| x ^ w),
            Self::Identity => bytes.iter().take(8).fold(0, |v, b| v << 8 | *b as u64),
            Self::RoundRobin => {
                *counter = counter.wrapping_add(1);
                counter.wrapping_sub(1)
            }
            Self::Random => {
                *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(*counter)
            }
        }
    }
}

/// A bijection that scatters (splitmix64's finisher).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Big-endian words of so many bytes; the last is padded with zeros.
fn chunks(bytes: &[u8], size: usize) -> impl Iterator<Item = u64> {
    bytes.chunks(size).map(move |chunk| {
        let value = chunk.iter().fold(0u64, |v, b| v << 8 | *b as u64);
        value << (8 * (size - chunk.len()))
    })
}

/// The sum of big-endian 16-bit words, not folded; a last odd byte is a high byte.
#[inline]
pub(crate) fn sum16(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    let mut fours = bytes.chunks_exact(4);
    for four in &mut fours {
        sum += u32::from_be_bytes([four[0], four[1], four[2], four[3]]) as u64;
    }
    match *fours.remainder() {
        [a] => sum += (a as u64) << 8,
        [a, b] => sum += (a as u64) << 8 | b as u64,
        [a, b, c] => sum += ((a as u64) << 8 | b as u64) + ((c as u64) << 8),
        _ => {}
    }
    sum
}

/// Folds a sum of words to the Internet checksum (RFC 1071).
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

macro_rules! table {
    ($name:ident, $t:ty, reflected $poly:expr) => {
        static $name: [$t; 256] = {
            let mut table = [0; 256];
            let mut i = 0;
            while i < 256 {
                let mut crc = i as $t;
                let mut bit = 0;
                while bit < 8 {
                    crc = if crc & 1 == 1 { crc >> 1 ^ $poly } else { crc >> 1 };
                    bit += 1;
                }
                table[i] = crc;
                i += 1;
            }
            table
        };
    };
    ($name:ident, $t:ty, straight $poly:expr) => {
        static $name: [$t; 256] = {
            let top: $t = 1 << (<$t>::BITS - 1);
            let mut table = [0; 256];
            let mut i = 0;
            while i < 256 {
                let mut crc = (i as $t) << (<$t>::BITS - 8);
                let mut bit = 0;
                while bit < 8 {
                    crc = if crc & top != 0 {
                        crc << 1 ^ $poly
                    } else {
                        crc << 1
                    };
                    bit += 1;
                }
                table[i] = crc;
                i += 1;
            }
            table
        };
    };
}

table!(CRC8, u8, straight 0x07);
table!(CRC16, u16, reflected 0xa001);
table!(CRC32, u32, reflected 0xedb8_8320);
table!(CRC64, u64, reflected 0xd800_0000_0000_0000);
table!(CRC_CCITT, u16, straight 0x1021);

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &[u8] = b"123456789";

    fn hash(algorithm: &str, bytes: &[u8]) -> u64 {
        Algorithm::named(algorithm).unwrap().hash(bytes, &mut 0)
    }

    #[test]
    fn crcs_give_their_catalogued_check_values() {
        assert_eq!(hash("crc8_custom", CHECK), 0xf4);
        assert_eq!(hash("crc16", CHECK), 0xbb3d);
        assert_eq!(hash("crc32", CHECK), 0xcbf4_3926);
        assert_eq!(hash("crcCCITT", CHECK), 0x29b1);
    }

    #[test]
    fn csum16_is_the_internet_checksum() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
        ];
        assert_eq!(hash("csum16", &header), 0xb861);
        assert_eq!(hash("csum16", &[1]), 0xfeff);
        assert_eq!(hash("csum16", &[1, 2, 3]), 0xfbfd);
        assert_eq!(hash("csum16", &[]), 0xffff);
    }

    #[test]
    fn xors_pad_the_last_word_and_identity_takes_eight_bytes() {
        assert_eq!(hash("xor16", &[1, 2, 3]), 0x0202);
        assert_eq!(hash("xor32", &[1, 2, 3, 4, 5]), 0x0402_0304);
        assert_eq!(hash("identity", &[1, 2, 3, 4, 5, 6, 7, 8, 9]), 0x0102_0304_0506_0708);
        assert_eq!(hash("identity", &[7]), 7);
    }
}
