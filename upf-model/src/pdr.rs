//! Packet detection rules, validated (TS 29.244 5.2.1, 7.5.2.2).

use crate::{FarId, IpPrefix, Ipv6Prefix, NetworkInstanceId, PdrId, Precedence, QerId, Qfi, SdfFilter, Teid, UrrId};
use rkyv::{Archive, Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A packet detection rule whose references resolve within its [`crate::Session`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Pdr {
    /// Unique in the session.
    pub id: PdrId,
    /// The lower value wins.
    pub precedence: Precedence,
    /// What packets it detects.
    pub pdi: Pdi,
    /// Which outer header to take off, if any.
    pub outer_header_removal: Option<OuterHeaderRemoval>,
    /// What to do with the packet.
    pub far: FarId,
    /// Every one of them is enforced (flow and session QERs compose).
    pub qers: Vec<QerId>,
    /// Every one of them measures.
    pub urrs: Vec<UrrId>,
}

/// Packet detection information (TS 29.244 7.5.2.2-2): different fields are AND, values of one field are OR,
/// an absent or empty field matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Pdi {
    /// Where the packet comes from.
    pub source_interface: Interface,
    /// Resolved: the signalled one or the interface's default.
    pub network_instance: NetworkInstanceId,
    /// Present: the packet arrives in this tunnel. Absent: it arrives plain, identified by UE address.
    pub local_fteid: Option<LocalFTeid>,
    /// UE address as signalled in this PDI.
    pub ue_ip: Option<UeIpAddress>,
    /// Framed routes (TS 29.244 5.16): prefixes behind the UE.
    pub framed_routes: Vec<IpPrefix>,
    /// OR of filters; empty: every packet.
    pub sdf: Vec<SdfFilter>,
    /// OR of QoS flows; empty: every one.
    pub qfis: Vec<Qfi>,
}

/// Source or destination interface (TS 29.244 8.2.2, 8.2.24).
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
#[rkyv(derive(Debug))]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Interface {
    /// Towards the RAN (N3), or an upstream UPF's access side (N9).
    Access = 0,
    /// Towards the data network (N6) or the next UPF (N9).
    Core = 1,
    /// SGi-LAN / N6-LAN.
    SgiLan = 2,
    /// The control plane.
    CpFunction = 3,
    /// 5G VN internal.
    VnInternal = 4,
}

impl Interface {
    /// From the 4-bit value of a Source Interface IE (8.2.2).
    pub const fn from_value(v: u8) -> Option<Self> {
        Some(match v & 0x0f {
            0 => Self::Access,
            1 => Self::Core,
            2 => Self::SgiLan,
            3 => Self::CpFunction,
            4 => Self::VnInternal,
            _ => return None,
        })
    }
    /// From the 4-bit value of a Destination Interface IE (8.2.24), which counts differently: 4 is the LI
    /// function, which has no place here, and 5 is 5G VN internal.
    pub const fn from_destination_value(v: u8) -> Option<Self> {
        Some(match v & 0x0f {
            0 => Self::Access,
            1 => Self::Core,
            2 => Self::SgiLan,
            3 => Self::CpFunction,
            5 => Self::VnInternal,
            _ => return None,
        })
    }
    /// A packet from here goes towards the data network: the UE is its source.
    pub const fn is_uplink(self) -> bool {
        matches!(self, Self::Access)
    }
}

/// A tunnel endpoint of ours, allocated (TS 29.244 8.2.3). At least one address is present.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct LocalFTeid {
    /// Never zero.
    pub teid: Teid,
    /// Our IPv4 address, one of the configured endpoints.
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, one of the configured endpoints.
    pub ipv6: Option<Ipv6Addr>,
}

/// UE IP address (TS 29.244 8.2.62), allocated. At least one family is present.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct UeIpAddress {
    /// The UE's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The UE's IPv6 prefix: /64 unless a shorter delegated prefix was signalled.
    pub ipv6: Option<Ipv6Prefix>,
}

/// Outer header removal (TS 29.244 8.2.64).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum OuterHeaderRemoval {
    /// Value 0: GTP-U/UDP/IPv4.
    GtpuUdpIpv4,
    /// Value 1: GTP-U/UDP/IPv6.
    GtpuUdpIpv6,
    /// Value 6: GTP-U/UDP/IP, whichever family it is.
    GtpuUdpIp,
}
