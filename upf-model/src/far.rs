//! Forwarding action rules, validated (TS 29.244 7.5.2.3, 8.2.26).

// rkyv's derive makes types for the fields of enum variants, and gives them no documentation.
#![allow(missing_docs)]

use crate::{BarId, FarId, Interface, NetworkInstanceId, Teid};
use rkyv::{Archive, Deserialize, Serialize};
use std::net::IpAddr;

/// A forwarding action rule.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Far {
    /// Unique in the session.
    pub id: FarId,
    /// What becomes of the packet.
    pub action: Action,
    /// Present whenever `action.disposition` is `Forward`; may be present otherwise.
    pub forwarding: Option<ForwardingParameters>,
    /// Where copies go, when `action.duplicate`.
    pub duplicating: Vec<ForwardingParameters>,
    /// Which BAR rules the buffering, if any.
    pub bar: Option<BarId>,
}

/// Apply Action, validated: exactly one of DROP, FORW, BUFF; NOCP only with BUFF; DUPL only with FORW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Action {
    /// DROP, FORW or BUFF.
    pub disposition: Disposition,
    /// DUPL: send a copy by each of the duplicating parameters too.
    pub duplicate: bool,
}

/// What becomes of the packet itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// DROP.
    Drop,
    /// FORW.
    Forward,
    /// BUFF; `notify` is NOCP: send one Downlink Data Report when the first packet is buffered.
    Buffer {
        /// NOCP was set.
        notify: bool,
    },
}

/// Forwarding (or duplicating) parameters.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct ForwardingParameters {
    /// Where it goes.
    pub destination_interface: Interface,
    /// Whose routes it takes: the signalled instance or the interface's default.
    pub network_instance: NetworkInstanceId,
    /// The tunnel to put it in; none: send it plain.
    pub outer_header_creation: Option<OuterHeaderCreation>,
    /// Traffic class octet for the outer header (for the packet itself where none is created): value and mask
    /// (TS 29.244 8.2.12). Bits outside the mask keep what they would be.
    pub transport_level_marking: Option<(u8, u8)>,
}

/// The peer's tunnel endpoint (TS 29.244 8.2.56, GTP-U/UDP/IPv4 or IPv6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct OuterHeaderCreation {
    /// The peer's TEID.
    pub teid: Teid,
    /// The peer's address.
    pub peer: IpAddr,
}
