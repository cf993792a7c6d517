//! The linear oracle: what TS 29.244 5.2.1 says, written to be read, not to be fast. Everything else in this crate
//! is tested against it, and explanations come from it.

use crate::ethernet::header_mismatch;
use crate::{EthernetFields, EthernetFilter, EthernetMismatch, PacketFields, PdrMatch, RuleIndex, SessionKey};
use upf_model::{IpFilterRule, PortRange, SdfFilter};

/// The part of a rule that did not match: the first one in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// The rule expects another source interface.
    SourceInterface,
    /// The rule expects another network instance.
    NetworkInstance,
    /// The rule expects another tunnel, or a plain packet.
    Tunnel,
    /// The UE's end is none of the rule's UE addresses or framed routes.
    UeAddress,
    /// The QoS flow is unknown or none of the rule's.
    Qfi,
    /// The flow is another application's, or nobody knows.
    Application,
    /// No SDF filter of the rule matches; the furthest that any of them got.
    Sdf(SdfMismatch),
    /// No Ethernet packet filter of the rule matches; the furthest that any of them got.
    Ethernet(EthernetMismatch),
}

/// The part of an SDF filter that did not match: the first one in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SdfMismatch {
    /// Another protocol number.
    Protocol,
    /// The far end lies outside the filter's prefix, or is of the other family.
    RemoteAddress,
    /// The UE's end lies outside the filter's prefix, or is of the other family.
    UeAddress,
    /// The far end's port lies in none of the ranges, or there is none.
    RemotePort,
    /// The UE's port lies in none of the ranges, or there is none.
    UePort,
    /// The ToS octet differs under the filter's mask.
    Tos,
    /// Another security parameter index, or none.
    Spi,
    /// Another flow label, or none.
    FlowLabel,
}

/// The index of the rule that detects a packet which came by `key`: of those that match, the one with the lowest
/// precedence value; of equals, the first.
pub fn classify(rules: &[PdrMatch], key: SessionKey, packet: &PacketFields) -> Option<RuleIndex> {
    classify_frame(rules, key, packet, None)
}

/// The same for what an Ethernet frame carries, if there is one.
pub fn classify_frame(
    rules: &[PdrMatch],
    key: SessionKey,
    packet: &PacketFields,
    frame: Option<&EthernetFields>,
) -> Option<RuleIndex> {
    let matching = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| mismatch_of(rule, key, packet, frame).is_none());
    matching
        .min_by_key(|(index, rule)| (rule.precedence, *index))
        .map(|(index, _)| index as RuleIndex)
}

/// Why `rule` does not match; `None` if it does.
pub fn mismatch(rule: &PdrMatch, key: SessionKey, packet: &PacketFields) -> Option<Mismatch> {
    mismatch_of(rule, key, packet, None)
}

/// The same for what an Ethernet frame carries, if there is one.
pub fn mismatch_of(
    rule: &PdrMatch,
    key: SessionKey,
    packet: &PacketFields,
    frame: Option<&EthernetFields>,
) -> Option<Mismatch> {
    if !packet.source_interfaces().contains(rule.source_interface) {
        return Some(Mismatch::SourceInterface);
    }
    if packet.network_instance() != rule.network_instance {
        return Some(Mismatch::NetworkInstance);
    }
    let arrival_fits = if rule.tunnel.is_empty() {
        !key.is_tunnel()
    } else {
        rule.tunnel.contains(&key)
    };
    if !arrival_fits {
        return Some(Mismatch::Tunnel);
    }
    if !rule.ue.is_empty() && !rule.ue.iter().any(|prefix| prefix.contains(packet.ue())) {
        return Some(Mismatch::UeAddress);
    }
    if rule.qfis != 0 && packet.qfi().is_none_or(|q| rule.qfis >> q.0 & 1 == 0) {
        return Some(Mismatch::Qfi);
    }
    if rule.application.is_some_and(|a| packet.application() != Some(a)) {
        return Some(Mismatch::Application);
    }
    let sdf = furthest(rule.sdf.iter().map(|filter| sdf_mismatch(filter, packet)));
    let ethernet = || furthest(rule.ethernet.iter().map(|filter| frame_mismatch(filter, packet, frame)));
    sdf.map(Mismatch::Sdf).or_else(|| ethernet().map(Mismatch::Ethernet))
}

/// `None` if one of the alternatives matches or there is none; otherwise the furthest that any of them got.
fn furthest<M: Ord>(alternatives: impl Iterator<Item = Option<M>>) -> Option<M> {
    let mut furthest = None;
    for mismatch in alternatives {
        furthest = furthest.max(Some(mismatch?));
    }
    furthest
}

fn frame_mismatch(
    filter: &EthernetFilter,
    packet: &PacketFields,
    frame: Option<&EthernetFields>,
) -> Option<EthernetMismatch> {
    header_mismatch(filter, frame).or_else(|| {
        let is_ip = frame.is_some_and(EthernetFields::carries_ip);
        let fits = |sdf: &SdfFilter| is_ip && sdf_mismatch(sdf, packet).is_none();
        (!filter.sdf.is_empty() && !filter.sdf.iter().any(fits)).then_some(EthernetMismatch::Sdf)
    })
}

fn sdf_mismatch(filter: &SdfFilter, packet: &PacketFields) -> Option<SdfMismatch> {
    if let Some(mismatch) = filter.flow.as_ref().and_then(|flow| flow_mismatch(flow, packet)) {
        return Some(mismatch);
    }
    if filter.tos.is_some_and(|tos| !tos.matches(packet.tos())) {
        return Some(SdfMismatch::Tos);
    }
    if filter.spi.is_some_and(|spi| packet.spi() != Some(spi)) {
        return Some(SdfMismatch::Spi);
    }
    if filter
        .flow_label
        .is_some_and(|label| packet.flow_label() != Some(label))
    {
        return Some(SdfMismatch::FlowLabel);
    }
    None
}

fn flow_mismatch(flow: &IpFilterRule, packet: &PacketFields) -> Option<SdfMismatch> {
    if flow.protocol.is_some_and(|p| p != packet.protocol()) {
        return Some(SdfMismatch::Protocol);
    }
    if !flow.remote.matches(packet.remote()) {
        return Some(SdfMismatch::RemoteAddress);
    }
    if !flow.ue.matches(packet.ue()) {
        return Some(SdfMismatch::UeAddress);
    }
    let (remote, ue) = packet.ports().unzip();
    if !port_fits(&flow.remote_ports, remote) {
        return Some(SdfMismatch::RemotePort);
    }
    if !port_fits(&flow.ue_ports, ue) {
        return Some(SdfMismatch::UePort);
    }
    None
}

fn port_fits(ranges: &[PortRange], port: Option<u16>) -> bool {
    ranges.is_empty() || port.is_some_and(|p| ranges.iter().any(|r| r.contains(p)))
}
