//! SDF filters (TS 29.244 8.2.5): what they hold and what they match.
//!
//! The text of a flow description is read and printed in [`crate::ip_filter_rule`]. It is written for the
//! downlink (`permit out PROTO from REMOTE to UE`); [`IpFilterRule`] keeps the two ends by what they are,
//! *remote* and *ue*, so that one rule serves both directions: on an uplink packet the UE end is the source, on
//! a downlink packet the destination.
//!
//! [`SdfFilter::matches`] is the meaning of a filter, written to be read rather than to be fast: faster ones
//! (`pdr-classifier`, the P4 tables) are tested against it.

use crate::IpPrefix;
use rkyv::{Archive, Deserialize, Serialize};
use std::net::IpAddr;

/// One SDF filter: present parts are AND.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct SdfFilter {
    /// SDF Filter ID, if signalled (bidirectional filters).
    pub id: Option<u32>,
    /// Flow description.
    pub flow: Option<IpFilterRule>,
    /// ToS / traffic class.
    pub tos: Option<TosMatch>,
    /// IPsec security parameter index.
    pub spi: Option<u32>,
    /// IPv6 flow label, 20 bits.
    pub flow_label: Option<u32>,
}

/// A match on the traffic class octet: `octet & mask == value`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct TosMatch {
    /// Already masked.
    pub value: u8,
    /// Bits compared.
    pub mask: u8,
}

/// A parsed `permit out` rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct IpFilterRule {
    /// IP protocol number; none: `ip`, any protocol.
    pub protocol: Option<u8>,
    /// The far end (`from` of a `permit out` rule).
    pub remote: AddressMatch,
    /// OR of ranges; empty: any port. Ascending, neither overlapping nor adjacent.
    pub remote_ports: Vec<PortRange>,
    /// The UE's end (`to` of a `permit out` rule).
    pub ue: AddressMatch,
    /// OR of ranges; empty: any port. Ascending, neither overlapping nor adjacent.
    pub ue_ports: Vec<PortRange>,
}

/// An address of a flow description.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub enum AddressMatch {
    /// `any`.
    Any,
    /// `assigned`: the UE's own address, which session identification and anti-spoofing have checked already, so
    /// that nothing is left to compare. Only ever at the UE's end.
    Assigned,
    /// An address or prefix.
    Prefix(IpPrefix),
}

/// An inclusive range of ports, `low <= high`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
}

/// What filters look at in a packet, with the ends named by what they are rather than by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowFields {
    /// The UE's address: source of an uplink packet, destination of a downlink packet.
    pub ue_addr: IpAddr,
    /// The other end's.
    pub remote_addr: IpAddr,
    /// IP protocol, after any IPv6 extension headers.
    pub protocol: u8,
    /// Ports as (UE's, remote). None for a fragment other than the first and for protocols without ports.
    pub ports: Option<(u16, u16)>,
    /// ToS or traffic class octet.
    pub tos: u8,
    /// Security parameter index of AH and ESP.
    pub spi: Option<u32>,
    /// Flow label of IPv6.
    pub flow_label: Option<u32>,
}

impl SdfFilter {
    /// Whether every part of the filter that is present matches. Cost: linear in the port ranges.
    pub fn matches(&self, packet: &FlowFields) -> bool {
        self.flow.as_ref().is_none_or(|rule| rule.matches(packet))
            && self.tos.is_none_or(|tos| tos.matches(packet.tos))
            && self.spi.is_none_or(|spi| packet.spi == Some(spi))
            && self.flow_label.is_none_or(|label| packet.flow_label == Some(label))
    }

    /// Whether the filter says something about packets, rather than naming another filter by its id alone.
    pub fn is_defined(&self) -> bool {
        self.flow.is_some() || self.tos.is_some() || self.spi.is_some() || self.flow_label.is_some()
    }
}

impl TosMatch {
    /// Whether the octet agrees in the compared bits.
    pub const fn matches(&self, octet: u8) -> bool {
        octet & self.mask == self.value
    }
}

impl IpFilterRule {
    /// Whether protocol, addresses and ports all match. A rule with ports matches no packet without any: RFC
    /// 6733 4.3.1 lets fragments with an offset match only rules that do not look at ports.
    pub fn matches(&self, packet: &FlowFields) -> bool {
        self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && self.remote.matches(packet.remote_addr)
            && self.ue.matches(packet.ue_addr)
            && any_port_matches(&self.ue_ports, packet.ports.map(|(ue, _)| ue))
            && any_port_matches(&self.remote_ports, packet.ports.map(|(_, remote)| remote))
    }
}

impl AddressMatch {
    /// Whether the address is one of these; never across families.
    pub const fn matches(&self, addr: IpAddr) -> bool {
        match self {
            Self::Any | Self::Assigned => true,
            Self::Prefix(prefix) => prefix.contains(addr),
        }
    }
}

impl PortRange {
    /// Whether the port is within.
    pub const fn contains(&self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

fn any_port_matches(ranges: &[PortRange], port: Option<u16>) -> bool {
    ranges.is_empty() || port.is_some_and(|port| ranges.iter().any(|range| range.contains(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> FlowFields {
        FlowFields {
            ue_addr: "10.45.0.2".parse().unwrap(),
            remote_addr: "192.0.2.80".parse().unwrap(),
            protocol: 6,
            ports: Some((50000, 443)),
            tos: 0b1011_1000,
            spi: None,
            flow_label: None,
        }
    }

    fn filter(flow: &str) -> SdfFilter {
        SdfFilter {
            flow: Some(flow.parse().unwrap()),
            ..SdfFilter::default()
        }
    }

    #[test]
    fn one_rule_names_the_same_ends_in_both_directions() {
        // The caller has put the UE's end first, whichever way the packet goes.
        assert!(filter("permit out 6 from 192.0.2.0/24 443 to assigned").matches(&packet()));
        assert!(filter("permit in 6 from assigned to 192.0.2.0/24 443").matches(&packet()));
        assert!(!filter("permit out 6 from 192.0.2.0/24 to 192.0.2.0/24").matches(&packet()));
        assert!(!filter("permit out 6 from any 50000 to assigned").matches(&packet()));
    }

    #[test]
    fn a_rule_with_ports_matches_no_packet_without_them() {
        let fragment = FlowFields {
            ports: None,
            ..packet()
        };
        assert!(!filter("permit out ip from any 0-65535 to assigned").matches(&fragment));
        assert!(!filter("permit out ip from any to assigned 0-65535").matches(&fragment));
        assert!(filter("permit out ip from any to assigned").matches(&fragment));
    }

    #[test]
    fn every_part_of_a_filter_must_match() {
        let tos = Some(TosMatch {
            value: 0b1011_1000,
            mask: 0b1111_1100,
        });
        let filter = SdfFilter {
            tos,
            spi: Some(7),
            ..filter("permit out ip from any to assigned")
        };
        assert!(!filter.matches(&packet()));
        assert!(filter.matches(&FlowFields {
            spi: Some(7),
            ..packet()
        }));
        assert!(!filter.matches(&FlowFields {
            spi: Some(7),
            tos: 0,
            ..packet()
        }));
        let labelled = SdfFilter {
            flow_label: Some(0xabcde),
            ..SdfFilter::default()
        };
        assert!(!labelled.matches(&packet()));
        assert!(labelled.matches(&FlowFields {
            flow_label: Some(0xabcde),
            ..packet()
        }));
    }

    #[test]
    fn addresses_never_match_across_families() {
        assert!(
            !filter("permit out ip from 0.0.0.0/0 to assigned").matches(&FlowFields {
                remote_addr: "2001:db8::1".parse().unwrap(),
                ..packet()
            })
        );
    }
}
