//! Owns the question which PDRs packets of one session entry can meet, and so in which mode the entry is.
//!
//! An entry of `uplink_sessions` or `downlink_sessions_*` stands for all packets that come by one key: a tunnel
//! endpoint of ours, or a user's address. How they arrive is settled by the key, and so is the user's address: the
//! program accepts uplink packets from the session's own addresses only. What remains open is the rest of the PDI.
//!
//! | mode | when |
//! | --- | --- |
//! | direct | whatever the packet, the same PDR wins: the first that can match at all takes everything |
//! | by flow | several can win: `flows` says which, under the mask of all that they look at |
//! | on the host | a PDR asks for what the program does not parse, or packets travel against the tunnel's usual direction |
//!
//! Two packets of an entry that are alike under its mask have the same winner: every part of a PDI that can tell two of
//! them apart has its bits in the mask. Port numbers need the protocol beside them, because a packet without ports has
//! ports 0 in the program; and [`flow_of`] gives no flow to packets whose ports are 0 or cut off, which the program
//! cannot tell apart.

use super::HostReason;
use super::entry::{FlowFields, FlowMask, Key, Sources};
use super::world::{Arrival, World};
use pdr_classifier::{PdrMatch, SessionKey, SessionKeys};
use std::net::{IpAddr, Ipv4Addr};
use upf_model::batch::FlowPacket;
use upf_model::sdf::{AddressMatch, IpFilterRule};
use upf_model::{IpPrefix, PdrId, SdfFilter, Session};

/// How an entry finds the rule of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// This PDR takes every packet.
    Direct(PdrId),
    /// One of several, under this mask.
    ByFlow(FlowMask),
    /// The host does.
    OnHost(HostReason),
}

/// One entry of a session, before it has numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Table and key.
    pub key: Key,
    /// See [`Mode`].
    pub mode: Mode,
    /// Where uplink packets may come from; none for a downlink entry.
    pub sources: Option<Sources>,
    /// Places of the PDRs that can win in the session's, by precedence.
    pub candidates: Vec<u16>,
    /// Frames of the ports are tagged, and the tunnel is over IPv6: what is usually around a packet.
    pub tagged: bool,
    /// See `tagged`.
    pub over_ipv6: bool,
}

/// The user's addresses that packets of an entry may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UeSpace {
    V4(Option<Ipv4Addr>),
    /// A /64.
    V6(Option<u64>),
}

/// How many of a space's addresses a PDR accepts.
enum Accepts {
    All,
    /// Those that agree with it in these bits.
    Some(u128),
    None,
}

impl UeSpace {
    const fn is_ipv6(self) -> bool {
        matches!(self, Self::V6(_))
    }

    /// How much of it is within any of these.
    fn within(self, prefixes: &[IpPrefix]) -> Accepts {
        if prefixes.is_empty() {
            return Accepts::All;
        }
        let mut mask = 0;
        for prefix in prefixes {
            match (self, prefix) {
                (Self::V4(None), IpPrefix::V4(p)) if p.len() > 0 => mask |= u128::from(p.mask()),
                (Self::V4(own), IpPrefix::V4(p)) if own.is_none_or(|own| p.contains(own)) => return Accepts::All,
                (Self::V6(None), IpPrefix::V6(p)) if p.len() > 0 => mask |= p.mask(),
                (Self::V6(Some(own)), IpPrefix::V6(p)) if p.len() > 64 => {
                    let within = p.addr().to_bits() >> 64 == u128::from(own);
                    mask |= if within { p.mask() } else { 0 };
                }
                (Self::V6(own), IpPrefix::V6(p)) if own.is_none_or(|own| p.contains(address_in(own))) => {
                    return Accepts::All;
                }
                _ => {}
            }
        }
        if mask == 0 { Accepts::None } else { Accepts::Some(mask) }
    }
}

fn address_in(prefix: u64) -> std::net::Ipv6Addr {
    (u128::from(prefix) << 64).into()
}

/// Which addresses uplink packets of a session may come from, as far as the program can check.
fn sources(session: &Session) -> Sources {
    let mut sources = Sources {
        any: session.ue_ips.is_empty() && session.framed_routes.is_empty(),
        others: !session.framed_routes.is_empty(),
        ..Sources::default()
    };
    for ue in &session.ue_ips {
        if let Some(addr) = ue.ipv4 {
            sources.others |= sources.v4.is_some_and(|first| first != addr);
            sources.v4.get_or_insert(addr);
        }
        if let Some(prefix) = ue.ipv6 {
            let upper = (prefix.addr().to_bits() >> 64) as u64;
            if prefix.len() == 64 && sources.v6.is_none_or(|first| first == upper) {
                sources.v6 = Some(upper);
            } else {
                sources.others = true;
            }
        }
    }
    sources
}

/// Every entry of a session, downlink ones once for each way in which packets may arrive.
pub fn lookups(world: &World, session: &Session) -> Vec<Lookup> {
    let endpoint = |addr| world.endpoint(addr);
    let rules: Vec<PdrMatch> = session.pdrs.iter().map(|pdr| PdrMatch::of(pdr, endpoint)).collect();
    let mut lookups = Vec::new();
    for key in SessionKeys::of(session, endpoint).exact {
        match key {
            SessionKey::FTeid { endpoint, teid } => {
                if let Some((arrival, over_ipv6)) = world.arrival_at(endpoint) {
                    let own = Key::Uplink {
                        endpoint: endpoint.0,
                        teid: teid.0,
                    };
                    lookups.push(uplink(session, &rules, key, own, arrival, over_ipv6));
                }
            }
            SessionKey::UeV4 { ni, addr } => {
                lookups.extend(world.arrivals_from(ni).filter_map(|arrival| {
                    let own = Key::DownlinkV4 {
                        arrival: arrival.id.0,
                        ue: addr,
                    };
                    downlink(session, &rules, key, own, arrival, UeSpace::V4(Some(addr)))
                }));
            }
            SessionKey::UeV6 { ni, prefix64 } => {
                lookups.extend(world.arrivals_from(ni).filter_map(|arrival| {
                    let own = Key::DownlinkV6 {
                        arrival: arrival.id.0,
                        prefix: prefix64,
                    };
                    downlink(session, &rules, key, own, arrival, UeSpace::V6(Some(prefix64)))
                }));
            }
        }
    }
    lookups
}

fn arrives(rule: &PdrMatch, key: SessionKey, arrival: &Arrival) -> bool {
    rule.network_instance == arrival.network_instance
        && arrival.stands_for(rule.source_interface)
        && if rule.tunnel.is_empty() {
            !key.is_tunnel()
        } else {
            rule.tunnel.contains(&key)
        }
}

fn uplink(
    session: &Session,
    rules: &[PdrMatch],
    key: SessionKey,
    own: Key,
    arrival: &Arrival,
    over_ipv6: bool,
) -> Lookup {
    let mut from = sources(session);
    let mut met = Met::default();
    if from.any {
        let [v4, v6] = [UeSpace::V4(None), UeSpace::V6(None)].map(|space| met.add(rules, key, arrival, space));
        if v4 != v6 {
            // What one family's rule takes, packets of the other would take too: a flow names its family.
            met.sole = Some(None);
        }
    } else {
        // What comes from addresses that no rule takes is the host's to drop and count.
        let mut keep = |space| met.add(rules, key, arrival, space);
        let (v4, v6) = (from.v4, from.v6);
        from.v4 = v4.filter(|a| keep(UeSpace::V4(Some(*a))));
        from.v6 = v6.filter(|p| keep(UeSpace::V6(Some(*p))));
        from.others |= (from.v4, from.v6) != (v4, v6);
    }
    // A tunnel that carries downlink packets (N9 from another UPF) has its ends the other way round.
    let against = |rule: &PdrMatch| rule.tunnel.contains(&key) && !rule.source_interface.is_uplink();
    let mode = if rules.iter().any(against) {
        Mode::OnHost(HostReason::DownlinkTunnel)
    } else {
        met.mode(session)
    };
    Lookup {
        key: own,
        mode,
        sources: Some(from),
        candidates: met.candidates(mode),
        tagged: arrival.tagged,
        over_ipv6,
    }
}

/// `None`: no packet that arrives like this can meet a rule, the host drops and counts it.
fn downlink(
    session: &Session,
    rules: &[PdrMatch],
    key: SessionKey,
    own: Key,
    arrival: &Arrival,
    space: UeSpace,
) -> Option<Lookup> {
    let mut met = Met::default();
    if !met.add(rules, key, arrival, space) {
        return None;
    }
    let against = |place: &u16| rules[usize::from(*place)].source_interface.is_uplink();
    let mode = if met.places.iter().any(against) {
        Mode::OnHost(HostReason::PlainUplink)
    } else {
        met.mode(session)
    };
    Some(Lookup {
        key: own,
        mode,
        sources: None,
        candidates: met.candidates(mode),
        tagged: arrival.tagged,
        over_ipv6: false,
    })
}

/// The PDRs that packets of an entry can meet, gathered over the user's addresses.
#[derive(Debug, Default)]
struct Met {
    /// Places of PDRs that can win.
    places: Vec<u16>,
    /// What they look at.
    mask: FlowMask,
    /// One of them looks at what the program does not parse.
    unparsed: bool,
    /// The one that takes everything, for all addresses so far; `Some(None)`: there is no such one.
    sole: Option<Option<u16>>,
}

impl Met {
    /// Adds what packets with these addresses can meet. False: nothing.
    fn add(&mut self, rules: &[PdrMatch], key: SessionKey, arrival: &Arrival, space: UeSpace) -> bool {
        let (mut met, mut sole) = (0, None);
        for (place, rule) in rules.iter().enumerate() {
            let Some((mask, unparsed)) = looks_at(rule, key, arrival, space) else {
                continue;
            };
            let place = place as u16;
            met += 1;
            self.places.push(place);
            self.mask |= mask;
            self.unparsed |= unparsed;
            if mask == FlowMask::default() && !unparsed {
                // It takes everything: rules behind it win nothing.
                sole = (met == 1).then_some(place);
                break;
            }
        }
        if met > 0 {
            self.sole = match self.sole {
                None => Some(sole),
                Some(before) => Some(before.filter(|_| before == sole)),
            };
        }
        met > 0
    }

    fn mode(&self, session: &Session) -> Mode {
        match self.sole {
            None => Mode::OnHost(HostReason::NoRule),
            Some(Some(place)) => Mode::Direct(session.pdrs[usize::from(place)].id),
            Some(None) if self.unparsed => Mode::OnHost(HostReason::NotParsed),
            Some(None) => Mode::ByFlow(self.mask),
        }
    }

    fn candidates(mut self, mode: Mode) -> Vec<u16> {
        if matches!(mode, Mode::OnHost(_)) {
            return Vec::new();
        }
        self.places.sort_unstable();
        self.places.dedup();
        self.places
    }
}

/// What a rule looks at in packets with these addresses, and whether in something that the program does not parse;
/// `None`: it matches none of them. Nothing: it takes all of them.
fn looks_at(rule: &PdrMatch, key: SessionKey, arrival: &Arrival, space: UeSpace) -> Option<(FlowMask, bool)> {
    if !arrives(rule, key, arrival) || rule.qfis != 0 && !key.is_tunnel() {
        return None; // a plain packet names no QoS flow
    }
    let mut mask = FlowMask::default();
    match space.within(&rule.ue) {
        Accepts::None => return None,
        Accepts::Some(bits) => mask.ue |= bits,
        Accepts::All => {}
    }
    if rule.qfis != 0 {
        mask.qfi = 0xff;
    }
    let filters: Vec<(FlowMask, bool)> = rule.sdf.iter().filter_map(|f| filter_looks_at(f, space)).collect();
    // Which application a flow is, the host finds out.
    let mut unparsed = rule.application.is_some();
    if rule.sdf.is_empty() || filters.contains(&(FlowMask::default(), false)) {
        return Some((mask, unparsed));
    }
    if filters.is_empty() {
        return None;
    }
    for (bits, beyond) in filters {
        mask |= bits;
        unparsed |= beyond;
    }
    Some((mask, unparsed))
}

fn filter_looks_at(filter: &SdfFilter, space: UeSpace) -> Option<(FlowMask, bool)> {
    let mut mask = match &filter.flow {
        Some(flow) => flow_looks_at(flow, space)?,
        None => FlowMask::default(),
    };
    mask.tos |= filter.tos.map_or(0, |tos| tos.mask);
    if filter.flow_label.is_some() && !space.is_ipv6() {
        return None;
    }
    Some((mask, filter.spi.is_some() || filter.flow_label.is_some()))
}

fn flow_looks_at(flow: &IpFilterRule, space: UeSpace) -> Option<FlowMask> {
    let mut mask = FlowMask::default();
    match (flow.remote, space) {
        (AddressMatch::Any | AddressMatch::Assigned, _) => {}
        (AddressMatch::Prefix(IpPrefix::V4(p)), UeSpace::V4(_)) => mask.remote = p.mask().into(),
        (AddressMatch::Prefix(IpPrefix::V6(p)), UeSpace::V6(_)) => mask.remote = p.mask(),
        (AddressMatch::Prefix(_), _) => return None,
    }
    if let AddressMatch::Prefix(prefix) = flow.ue {
        match space.within(&[prefix]) {
            Accepts::None => return None,
            Accepts::Some(bits) => mask.ue = bits,
            Accepts::All => {}
        }
    }
    if !flow.remote_ports.is_empty() {
        mask.remote_port = u16::MAX;
    }
    if !flow.ue_ports.is_empty() {
        mask.ue_port = u16::MAX;
    }
    if flow.protocol.is_some() || mask.remote_port | mask.ue_port != 0 {
        mask.protocol = u8::MAX;
    }
    Some(mask)
}

impl Lookup {
    /// Whether packets like this one are looked up by this entry, and let through to its rules.
    fn concerns(&self, packet: &FlowPacket) -> bool {
        let v6 = |prefix: u64, addr: IpAddr| matches!(addr, IpAddr::V6(a) if (a.to_bits() >> 64) as u64 == prefix);
        match (self.key, &self.sources) {
            (Key::Uplink { .. }, Some(from)) if packet.uplink => {
                from.any
                    || from.v4.is_some_and(|own| packet.ue == IpAddr::V4(own))
                    || from.v6.is_some_and(|own| v6(own, packet.ue))
            }
            (Key::DownlinkV4 { ue, .. }, _) if !packet.uplink => packet.ue == IpAddr::V4(ue),
            (Key::DownlinkV6 { prefix, .. }, _) if !packet.uplink => v6(prefix, packet.ue),
            _ => false,
        }
    }

    /// Which PDR detects a packet that is looked up by this entry. Cost: linear in rules and filters.
    pub fn classify(&self, session: &Session, packet: &FlowPacket) -> Option<PdrId> {
        if !self.concerns(packet) || packet.ue.is_ipv4() != packet.remote.is_ipv4() {
            return None;
        }
        let fields = upf_model::sdf::FlowFields {
            ue_addr: packet.ue,
            remote_addr: packet.remote,
            protocol: packet.protocol,
            ports: packet.ports.map(|(remote, ue)| (ue, remote)),
            tos: packet.tos,
            spi: None,
            flow_label: None,
        };
        let pdrs = self.candidates.iter().filter_map(|i| session.pdrs.get(usize::from(*i)));
        let mut matching = pdrs.filter(|pdr| {
            let pdi = &pdr.pdi;
            let own = pdi.ue_ip.is_none() && pdi.framed_routes.is_empty()
                || pdi.framed_routes.iter().any(|route| route.contains(packet.ue))
                || pdi.ue_ip.is_some_and(|ue| match packet.ue {
                    IpAddr::V4(addr) => ue.ipv4 == Some(addr),
                    IpAddr::V6(addr) => ue.ipv6.is_some_and(|prefix| prefix.contains(addr)),
                });
            own && (pdi.qfis.is_empty() || packet.qfi.is_some_and(|qfi| pdi.qfis.contains(&qfi)))
                && (pdi.sdf.is_empty() || pdi.sdf.iter().any(|filter| filter.matches(&fields)))
        });
        matching.next().map(|pdr| pdr.id)
    }
}

/// Protocols whose header begins with two ports.
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// A packet's flow under a mask; `None` if packets that rules tell apart would have the same one.
pub fn flow_of(packet: &FlowPacket, mask: &FlowMask) -> Option<FlowFields> {
    let bits = |addr| match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    };
    let (remote_port, ue_port) = packet.ports.unwrap_or((0, 0));
    if has_ports(packet.protocol) && (mask.remote_port != 0 && remote_port == 0 || mask.ue_port != 0 && ue_port == 0) {
        return None;
    }
    Some(FlowFields {
        downlink: !packet.uplink,
        ipv6: packet.ue.is_ipv6(),
        remote: bits(packet.remote) & mask.remote,
        ue: bits(packet.ue) & mask.ue,
        remote_port: remote_port & mask.remote_port,
        ue_port: ue_port & mask.ue_port,
        protocol: packet.protocol & mask.protocol,
        tos: packet.tos & mask.tos,
        qfi: packet.qfi.map_or(0, |qfi| 0x80 | qfi.0) & mask.qfi,
    })
}
