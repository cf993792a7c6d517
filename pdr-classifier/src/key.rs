//! Session keys: what of a packet names its session before any rule is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::{EndpointId, NetworkInstanceId, Teid};

/// The exact key of a session. A session has several: an F-TEID per address family and tunnel, a UE address per
/// network instance. Two sessions never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionKey {
    /// The packet arrived in a GTP-U tunnel of ours (TS 29.244 8.2.3).
    FTeid {
        /// The local address it was sent to.
        endpoint: EndpointId,
        /// Its TEID.
        teid: Teid,
    },
    /// The packet arrived plain, towards this UE (TS 29.244 8.2.62).
    UeV4 {
        /// The network instance it arrived from.
        ni: NetworkInstanceId,
        /// Its IPv4 destination.
        addr: Ipv4Addr,
    },
    /// The packet arrived plain, towards a UE that owns this /64.
    UeV6 {
        /// The network instance it arrived from.
        ni: NetworkInstanceId,
        /// The upper 64 bits of its IPv6 destination.
        prefix64: u64,
    },
}

const _: () = assert!(size_of::<SessionKey>() == 16);

impl SessionKey {
    /// The key of a plain packet towards `addr`, as it arrives from `ni`.
    pub const fn ue(ni: NetworkInstanceId, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::UeV4 { ni, addr },
            IpAddr::V6(addr) => Self::ue_v6(ni, addr),
        }
    }

    /// The key of a plain IPv6 packet towards `addr`, as it arrives from `ni`.
    pub const fn ue_v6(ni: NetworkInstanceId, addr: Ipv6Addr) -> Self {
        Self::UeV6 {
            ni,
            prefix64: (addr.to_bits() >> 64) as u64,
        }
    }

    /// Whether the packet arrived in a tunnel.
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Self::FTeid { .. })
    }
}
