//! SDF filters (TS 29.244 8.2.5) and their flow descriptions: the IPFilterRule subset of TS 29.212 5.4.2.
//!
//! A flow description is written for the downlink (`permit out PROTO from REMOTE to UE`). [`IpFilterRule`]
//! keeps the two ends by what they are, *remote* and *ue*, so that one rule serves both directions: on an
//! uplink packet the UE end is the source, on a downlink packet the destination.

use crate::IpPrefix;
use rkyv::{Archive, Deserialize, Serialize};

/// One SDF filter: present parts are AND.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Default,
    Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
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
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct IpFilterRule {
    /// IP protocol number; none: `ip`, any protocol.
    pub protocol: Option<u8>,
    /// The far end (`from` of a `permit out` rule).
    pub remote: AddressMatch,
    /// OR of ranges; empty: any port.
    pub remote_ports: Vec<PortRange>,
    /// The UE's end (`to` of a `permit out` rule).
    pub ue: AddressMatch,
    /// OR of ranges; empty: any port.
    pub ue_ports: Vec<PortRange>,
}

/// An address of a flow description.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub enum AddressMatch {
    /// `any`.
    Any,
    /// `assigned`: the UE's own address, which session identification and anti-spoofing have checked already.
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
