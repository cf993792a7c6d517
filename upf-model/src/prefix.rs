//! IP prefixes in canonical form: bits beyond the length are zero.

use rkyv::{Archive, Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 prefix; `len` is 0..=32 and the host bits are zero.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Ipv4Prefix {
    addr: Ipv4Addr,
    len: u8,
}

/// An IPv6 prefix; `len` is 0..=128 and the host bits are zero.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Ipv6Prefix {
    addr: Ipv6Addr,
    len: u8,
}

impl Ipv4Prefix {
    /// Masks the host bits away; `None` if `len` is over 32.
    pub fn new(addr: Ipv4Addr, len: u8) -> Option<Self> {
        (len <= 32).then(|| Self {
            addr: Ipv4Addr::from_bits(addr.to_bits() & Self::mask_of(len)),
            len,
        })
    }
    /// The network address.
    pub const fn addr(&self) -> Ipv4Addr {
        self.addr
    }
    /// Prefix length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u8 {
        self.len
    }
    /// The netmask as an integer.
    pub const fn mask(&self) -> u32 {
        Self::mask_of(self.len)
    }
    const fn mask_of(len: u8) -> u32 {
        if len == 0 { 0 } else { u32::MAX << (32 - len) }
    }
    /// Whether `addr` lies within.
    pub const fn contains(&self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & self.mask() == self.addr.to_bits()
    }
}

impl Ipv6Prefix {
    /// Masks the host bits away; `None` if `len` is over 128.
    pub fn new(addr: Ipv6Addr, len: u8) -> Option<Self> {
        (len <= 128).then(|| Self {
            addr: Ipv6Addr::from_bits(addr.to_bits() & Self::mask_of(len)),
            len,
        })
    }
    /// The network address.
    pub const fn addr(&self) -> Ipv6Addr {
        self.addr
    }
    /// Prefix length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u8 {
        self.len
    }
    /// The netmask as an integer.
    pub const fn mask(&self) -> u128 {
        Self::mask_of(self.len)
    }
    const fn mask_of(len: u8) -> u128 {
        if len == 0 { 0 } else { u128::MAX << (128 - len) }
    }
    /// Whether `addr` lies within.
    pub const fn contains(&self, addr: Ipv6Addr) -> bool {
        addr.to_bits() & self.mask() == self.addr.to_bits()
    }
}

/// A prefix of either family.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum IpPrefix {
    /// IPv4.
    V4(Ipv4Prefix),
    /// IPv6.
    V6(Ipv6Prefix),
}

impl IpPrefix {
    /// Masks the host bits away; `None` if `len` is too long for the family.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(a) => Ipv4Prefix::new(a, len).map(Self::V4),
            IpAddr::V6(a) => Ipv6Prefix::new(a, len).map(Self::V6),
        }
    }
    /// The network address.
    pub const fn addr(&self) -> IpAddr {
        match self {
            Self::V4(p) => IpAddr::V4(p.addr()),
            Self::V6(p) => IpAddr::V6(p.addr()),
        }
    }
    /// Prefix length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u8 {
        match self {
            Self::V4(p) => p.len(),
            Self::V6(p) => p.len(),
        }
    }
    /// Whether `addr` lies within; never across families.
    pub const fn contains(&self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(p), IpAddr::V4(a)) => p.contains(a),
            (Self::V6(p), IpAddr::V6(a)) => p.contains(a),
            _ => false,
        }
    }
}

impl std::fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len())
    }
}

/// Why a text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or ADDRESS/LENGTH, found {0:?}")]
pub struct PrefixError(pub String);

impl std::str::FromStr for IpPrefix {
    type Err = PrefixError;
    /// `10.0.0.0/8`, `2001:db8::/32`, or a bare address (a full-length prefix). Host bits are masked away.
    fn from_str(s: &str) -> Result<Self, PrefixError> {
        let bad = || PrefixError(s.chars().take(64).collect());
        let (addr, len) = match s.split_once('/') {
            Some((a, l)) if l.bytes().all(|b| b.is_ascii_digit()) => (a, Some(l.parse::<u8>().map_err(|_| bad())?)),
            Some(_) => return Err(bad()),
            None => (s, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        Self::new(addr, len.unwrap_or(if addr.is_ipv4() { 32 } else { 128 })).ok_or_else(bad)
    }
}
