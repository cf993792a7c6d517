//! Who and when: Node ID, F-SEID, time stamps, and names on the wire (TS 29.244 8.2.38, 8.2.37, 8.2.65, 8.2.4).

use super::cause::{self, Refusal};
use super::element::Element;
use super::writer::Writer;
use rs_pfcp::ie::IeType;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from the NTP epoch (1900) to the UNIX epoch (1970), RFC 5905.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// A PFCP node's name (8.2.38).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeId {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A domain name, as text with dots.
    Fqdn(String),
}

impl From<IpAddr> for NodeId {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Fqdn(name) => name.fmt(f),
        }
    }
}

impl NodeId {
    pub(super) fn read(element: &Element<'_>) -> Result<Self, Refusal> {
        let mut octets = element.octets();
        match octets.u8()? & 0x0f {
            0 => Ok(Self::Ipv4(Ipv4Addr::from(octets.u32()?))),
            1 => Ok(Self::Ipv6(Ipv6Addr::from_bits(
                (u128::from(octets.u64()?) << 64) | u128::from(octets.u64()?),
            ))),
            2 => name(element.ie_type, octets.rest()).map(Self::Fqdn),
            other => Err(cause::incorrect(
                element.ie_type,
                format!("Node ID: type {other}, expected 0, 1 or 2"),
            )),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.element(IeType::NodeId, |w| match self {
            Self::Ipv4(address) => w.u8(0).octets(&address.octets()),
            Self::Ipv6(address) => w.u8(1).octets(&address.octets()),
            Self::Fqdn(name) => w.u8(2).octets(&labels(name)),
        });
    }
}

/// F-SEID (8.2.37): a session endpoint and the addresses to reach it at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct FSeid {
    pub seid: u64,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl FSeid {
    /// At one address.
    pub fn at(seid: u64, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ipv4) => Self {
                seid,
                ipv4: Some(ipv4),
                ipv6: None,
            },
            IpAddr::V6(ipv6) => Self {
                seid,
                ipv4: None,
                ipv6: Some(ipv6),
            },
        }
    }

    /// Flags: V6 bit 1, V4 bit 2.
    pub(super) fn read(element: &Element<'_>) -> Result<Self, Refusal> {
        let mut octets = element.octets();
        let flags = octets.u8()?;
        Ok(Self {
            seid: octets.u64()?,
            ipv4: octets.ipv4(flags & 2 != 0)?,
            ipv6: octets.ipv6(flags & 1 != 0)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let flags = u8::from(self.ipv6.is_some()) | u8::from(self.ipv4.is_some()) << 1;
        writer.element(IeType::Fseid, |w| {
            w.u8(flags).u64(self.seid).ipv4(self.ipv4).ipv6(self.ipv6)
        });
    }
}

/// Whole seconds of NTP time (RFC 5905), modulo 2^32 (era 1 starts in 2036): Recovery Time Stamp, Start Time...
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpSeconds(pub u32);

impl From<SystemTime> for NtpSeconds {
    /// Times before 1970 become 1970.
    fn from(time: SystemTime) -> Self {
        let unix = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        Self(unix.wrapping_add(NTP_TO_UNIX) as u32)
    }
}

impl NtpSeconds {
    pub(super) fn read(element: &Element<'_>) -> Result<Self, Refusal> {
        element.u32().map(Self)
    }

    pub(super) fn write(self, writer: &mut Writer, ie_type: IeType) {
        writer.element(ie_type, |w| w.u32(self.0));
    }
}

/// A Network Instance or FQDN as text. SMFs send both plain text (`internet`) and DNS labels (`\x08internet`):
/// octets that divide exactly into labels of letters, digits, `-` and `_` are labels, everything else is text.
/// No plain name in use reads as labels too: it would have to start with a digit that is its own exact length.
pub(super) fn name(ie_type: IeType, octets: &[u8]) -> Result<String, Refusal> {
    if let Some(name) = from_labels(octets) {
        return Ok(name);
    }
    std::str::from_utf8(octets)
        .map(str::to_owned)
        .map_err(|error| cause::incorrect(ie_type, format!("{ie_type:?}: neither labels nor text: {error}")))
}

fn from_labels(octets: &[u8]) -> Option<String> {
    // A trailing root label is tolerated.
    let mut rest = octets.strip_suffix(&[0]).unwrap_or(octets);
    let mut name = String::with_capacity(rest.len());
    while let Some((&length, after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(usize::from(length))?;
        let printable = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if label.is_empty() || length > 63 || !label.iter().all(printable) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().copied().map(char::from));
        rest = after;
    }
    (!name.is_empty()).then_some(name)
}

/// DNS labels of a dotted name; a label over 63 octets is cut there.
fn labels(name: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len() + 1);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        octets.push(label.len() as u8);
        octets.extend_from_slice(label);
    }
    octets
}
