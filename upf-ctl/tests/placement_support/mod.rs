//! Random sessions and packets out of small pools, so that rules overlap and packets meet them.

#![allow(dead_code, reason = "each test uses its part")]

use pdr_classifier::{InterfaceSet, PacketFields, PdrMatch, SessionKey, oracle};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use std::sync::Arc;
use upf_config::Config;
use upf_ctl::placement::walk::{By, Packet};
use upf_ctl::placement::{Ids, Planner, World};
use upf_model::batch::FlowPacket;
use upf_model::{
    Action, BitRates, Disposition, EndpointId, Far, FarId, ForwardingParameters, Gate, Interface, IpPrefix, LocalFTeid,
    NetworkInstanceId, OuterHeaderCreation, OuterHeaderRemoval, Pdi, Pdr, PdrId, Precedence, Qer, QerId, Qfi,
    SdfFilter, Session, SessionId, Teid, TosMatch, UeIpAddress, UrrId,
};

pub const CONFIG: &str = r#"
pfcp: { listen: 127.0.0.8:8805 }
p4: { target: 127.0.0.1:9559, host_port: 9, host_device: net_null0 }
ports:
  - { name: n3, device: "p4:1", mac: 02:00:00:00:03:01, addresses: [192.0.2.1/24, "2001:db8::1/64"], network_instance: ran, interfaces: [access], gtpu: true }
  - { name: n9, device: "p4:2", mac: 02:00:00:00:09:01, vlan: 7, addresses: [203.0.113.1/24], network_instance: ran, interfaces: [core, access], gtpu: true }
  - { name: n6, device: "p4:3", mac: 02:00:00:00:06:01, addresses: [198.51.100.1/24, "2001:db8:6::1/64"], network_instance: internet, interfaces: [core] }
network_instances:
  - name: internet
    routes: [{ prefix: 0.0.0.0/0, via: 198.51.100.2 }, { prefix: "::/0", via: "2001:db8:6::2" }]
  - name: ran
    routes: [{ prefix: 10.0.0.0/8, via: 192.0.2.9 }]
"#;

pub const INTERNET: NetworkInstanceId = NetworkInstanceId(0);
pub const RAN: NetworkInstanceId = NetworkInstanceId(1);

pub fn config() -> Config {
    upf_config::parse(CONFIG, "text").unwrap_or_else(|e| panic!("{e}"))
}

pub fn world() -> World {
    World::new(&config()).unwrap()
}

pub fn planner(world: &World) -> Planner<'_> {
    Planner {
        world,
        burst: qos::BurstPolicy::default(),
    }
}

pub fn ids() -> Ids {
    Ids::new(65_536, 65_536, 1_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const UE_V4: [&str; 2] = ["10.45.0.2", "10.45.0.3"];
const UE_V6: [&str; 2] = ["2001:db8:45:2::/64", "2001:db8:45:3::/64"];
const FRAMED: [&str; 3] = ["172.16.0.0/24", "172.16.0.0/16", "2001:db8:f::/48"];
const REMOTES: [&str; 8] = [
    "8.8.8.8/32",
    "8.8.8.0/24",
    "8.0.0.0/8",
    "0.0.0.0/0",
    "2001:db8:8::8/128",
    "2001:db8:8::/64",
    "2001:db8::/32",
    "::/0",
];
const PORTS: [&str; 5] = ["", " 53", " 53,80-90", " 0-65535", " 0"];

fn ue_ip() -> impl Strategy<Value = UeIpAddress> {
    let v4 = option::weighted(0.8, select(&UE_V4[..]));
    let v6 = option::weighted(0.6, select(&UE_V6[..]));
    (v4, v6).prop_map(|(v4, v6)| {
        let v6 = match (v4, v6) {
            (None, None) => Some(UE_V6[0]),
            _ => v6,
        };
        UeIpAddress {
            ipv4: v4.map(|a| a.parse().unwrap()),
            ipv6: v6.map(|p| match p.parse().unwrap() {
                IpPrefix::V6(p) => p,
                IpPrefix::V4(_) => unreachable!("a list of IPv6 prefixes"),
            }),
        }
    })
}

fn filter() -> impl Strategy<Value = SdfFilter> {
    let ends = (select(&REMOTES[..]), select(&PORTS[..]), select(&PORTS[..]));
    let ue = select(
        &[
            "assigned",
            "assigned",
            "any",
            "10.45.0.2/32",
            "172.16.0.0/20",
            "2001:db8:45:2::1/128",
        ][..],
    );
    let protocol = select(&["ip", "ip", "6", "17", "1", "58"][..]);
    let flow = option::weighted(0.85, (protocol, ends, ue));
    let tos = option::weighted(0.2, select(&[(0xb8, 0xfc), (0x10, 0x1c), (0, 0)][..]));
    let beyond = select(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2][..]);
    (flow, tos, beyond).prop_map(|(flow, tos, beyond)| SdfFilter {
        id: None,
        flow: flow.map(|(protocol, (remote, remote_ports, ue_ports), ue)| {
            // Both ends of a rule are of one family.
            let mixed = ue.contains('/') && ue.contains(':') != remote.contains(':');
            let ue = if mixed { "assigned" } else { ue };
            let text = format!("permit out {protocol} from {remote}{remote_ports} to {ue}{ue_ports}");
            text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
        }),
        tos: tos.map(|(value, mask)| TosMatch { value, mask }),
        spi: (beyond == 1).then_some(7),
        flow_label: (beyond == 2).then_some(9),
    })
}

fn pdr(id: u16) -> impl Strategy<Value = Pdr> {
    let sdf = prop_oneof![2 => Just(Vec::new()), 3 => vec(filter(), 1..3)];
    let qfis = prop_oneof![4 => Just(Vec::new()), 1 => vec((1..4u8).prop_map(Qfi), 1..3)];
    let kind = select(&["up", "up", "down", "down", "n9", "plain-up", "up2"][..]);
    let framed = prop_oneof![5 => Just(Vec::new()), 1 => vec(select(&FRAMED[..]), 1..2)];
    let what = (sdf, qfis, kind, framed, option::weighted(0.7, ue_ip()));
    let rest = (
        0..6u32,
        1..5u32,
        vec(1..5u32, 0..3),
        vec(1..3u32, 0..2),
        prop::bool::weighted(0.9),
    );
    (what, rest).prop_map(
        move |((sdf, qfis, kind, framed, ue_ip), (precedence, far, qers, urrs, removal))| {
            let tunnel = |teid, v6: bool| LocalFTeid {
                teid: Teid(teid),
                ipv4: Some(if teid == 9 {
                    "203.0.113.1".parse().unwrap()
                } else {
                    "192.0.2.1".parse().unwrap()
                }),
                ipv6: v6.then(|| "2001:db8::1".parse().unwrap()),
            };
            let (source_interface, network_instance, local_fteid) = match kind {
                "up" => (Interface::Access, RAN, Some(tunnel(7, true))),
                "up2" => (Interface::Access, RAN, Some(tunnel(8, false))),
                "n9" => (Interface::Core, RAN, Some(tunnel(9, false))),
                "plain-up" => (Interface::Access, RAN, None),
                _ => (Interface::Core, INTERNET, None),
            };
            let dedup = |mut ids: Vec<u32>| {
                ids.sort_unstable();
                ids.dedup();
                ids
            };
            Pdr {
                id: PdrId(id),
                precedence: Precedence(precedence),
                pdi: Pdi {
                    source_interface,
                    network_instance,
                    local_fteid,
                    ue_ip,
                    framed_routes: framed.iter().map(|p| p.parse().unwrap()).collect(),
                    sdf,
                    qfis,
                },
                outer_header_removal: (local_fteid.is_some() && removal).then_some(OuterHeaderRemoval::GtpuUdpIp),
                far: FarId(far),
                qers: dedup(qers).into_iter().map(QerId).collect(),
                urrs: dedup(urrs).into_iter().map(UrrId).collect(),
            }
        },
    )
}

fn far(id: u32) -> impl Strategy<Value = Far> {
    let disposition = prop_oneof![
        6 => Just(Disposition::Forward),
        1 => Just(Disposition::Drop),
        1 => Just(Disposition::Buffer { notify: true }),
    ];
    let tunnel = option::of((
        1..9u32,
        select(&["192.0.2.50", "10.1.1.1", "2001:db8::50", "2001:db9::1"][..]),
    ));
    (
        disposition,
        tunnel,
        option::weighted(0.2, Just((0xb8, 0xfc))),
        prop::bool::weighted(0.1),
    )
        .prop_map(move |(disposition, tunnel, marking, duplicate)| {
            let parameters = ForwardingParameters {
                destination_interface: Interface::Core,
                network_instance: if tunnel.is_some() { RAN } else { INTERNET },
                outer_header_creation: tunnel.map(|(teid, peer)| OuterHeaderCreation {
                    teid: Teid(teid),
                    peer: ip(peer),
                }),
                transport_level_marking: marking,
            };
            let duplicate = duplicate && disposition == Disposition::Forward;
            Far {
                id: FarId(id),
                action: Action { disposition, duplicate },
                duplicating: if duplicate {
                    vec![parameters.clone()]
                } else {
                    Vec::new()
                },
                forwarding: Some(parameters),
                bar: None,
            }
        })
}

fn qer(id: u32) -> impl Strategy<Value = Qer> {
    let gate = || prop_oneof![6 => Just(Gate::Open), 1 => Just(Gate::Closed)];
    let rates = || {
        option::of((0..3u64, 0..3u64).prop_map(|(up, down)| BitRates {
            uplink_kbps: up * 1_000,
            downlink_kbps: down * 1_000,
        }))
    };
    (gate(), gate(), rates(), rates(), option::of(1..4u8), option::of(0..8u8)).prop_map(
        move |(gate_uplink, gate_downlink, mbr, gbr, qfi, ppi)| Qer {
            id: QerId(id),
            correlation_id: None,
            gate_uplink,
            gate_downlink,
            mbr,
            gbr,
            qfi: qfi.map(Qfi),
            rqi: ppi == Some(3),
            ppi,
            averaging_window_ms: None,
            scheduling: upf_model::Scheduling::default(),
        },
    )
}

/// A session with up to `pdrs` PDRs.
pub fn session(pdrs: usize) -> impl Strategy<Value = Session> {
    let pdrs = vec(0..1u16, 1..=pdrs).prop_flat_map(|list| {
        let each: Vec<_> = (0..list.len() as u16).map(|i| pdr(i + 1)).collect();
        each
    });
    let fars = (far(1), far(2), far(3), far(4));
    let qers = (qer(1), qer(2), qer(3), qer(4));
    (pdrs, fars, qers, prop::bool::weighted(0.1)).prop_map(|(mut pdrs, fars, qers, anonymous)| {
        pdrs.sort_by_key(|p| (p.precedence, p.id));
        let urr = |id, before_qos| upf_model::Urr {
            id: UrrId(id),
            method: upf_model::MeasurementMethod {
                volume: true,
                duration: false,
                event: false,
            },
            before_qos,
            reporting: Default::default(),
        };
        let mut session = Session {
            id: SessionId(5),
            pdrs,
            fars: vec![fars.0, fars.1, fars.2, fars.3],
            qers: vec![qers.0, qers.1, qers.2, qers.3],
            urrs: vec![urr(1, false), urr(2, true)],
            ..Session::default()
        };
        if anonymous {
            // Nobody's addresses: nothing to check sources against.
            for pdr in &mut session.pdrs {
                pdr.pdi.ue_ip = None;
                pdr.pdi.framed_routes.clear();
            }
            session.pdrs.retain(|pdr| pdr.pdi.local_fteid.is_some());
        }
        for pdr in &session.pdrs {
            if let Some(ue) = pdr.pdi.ue_ip.filter(|ue| !session.ue_ips.contains(ue)) {
                session.ue_ips.push(ue);
            }
            session.framed_routes.extend(&pdr.pdi.framed_routes);
        }
        session
    })
}

/// A packet that may well be the session's.
pub fn packet() -> impl Strategy<Value = Packet> {
    let by = prop_oneof![
        4 => (0..2u16).prop_map(|endpoint| By::Tunnel { endpoint, teid: 7 }),
        1 => Just(By::Tunnel { endpoint: 0, teid: 8 }),
        1 => Just(By::Tunnel { endpoint: 2, teid: 9 }),
        4 => (0..3u16).prop_map(By::Plain),
    ];
    let v4 = (
        select(&["8.8.8.8", "8.8.8.9", "8.9.9.9", "9.9.9.9"][..]),
        select(&["10.45.0.2", "10.45.0.3", "172.16.0.7", "172.16.9.7"][..]),
    );
    let v6 = (
        select(&["2001:db8:8::8", "2001:db8:8::9", "2001:db8:9::9", "2003::1"][..]),
        select(
            &[
                "2001:db8:45:2::1",
                "2001:db8:45:2::2",
                "2001:db8:45:3::1",
                "2001:db8:f::1",
            ][..],
        ),
    );
    let ends = prop_oneof![v4, v6];
    let port = || select(&[0u16, 53, 80, 85, 90, 443][..]);
    let ports = option::weighted(0.9, (port(), port()));
    let protocol = select(&[6u8, 17, 1, 58, 50][..]);
    let tos = select(&[0u8, 0xb8, 0xb9, 0x10, 0x12][..]);
    let qfi = option::of((1..4u8).prop_map(Qfi));
    (by, ends, protocol, ports, tos, qfi).prop_map(|(by, (remote, ue), protocol, ports, tos, qfi)| {
        let uplink = matches!(by, By::Tunnel { .. });
        Packet {
            by,
            flow: FlowPacket {
                uplink,
                remote: ip(remote),
                ue: ip(ue),
                protocol,
                ports: ports.filter(|_| matches!(protocol, 6 | 17)),
                tos,
                qfi: qfi.filter(|_| uplink),
            },
            complete: true,
        }
    })
}

/// What the host says of a packet: its PDR, by the classifier's oracle, unless its source is not the session's.
pub fn host_pdr(session: &Session, packet: &Packet) -> Option<PdrId> {
    let world = world();
    let endpoint = |addr| world.endpoint(addr);
    let rules: Vec<PdrMatch> = session.pdrs.iter().map(|p| PdrMatch::of(p, endpoint)).collect();
    let flow = &packet.flow;
    let (key, ni, interfaces) = match packet.by {
        By::Tunnel { endpoint, teid } => {
            let key = SessionKey::FTeid {
                endpoint: EndpointId(endpoint),
                teid: Teid(teid),
            };
            (key, RAN, if endpoint == 2 { 0b11 } else { 0b01 })
        }
        // Arrivals of this configuration: 0 n6, 1 n3, 2 n9.
        By::Plain(0) => (SessionKey::ue(INTERNET, flow.ue), INTERNET, 0b10),
        By::Plain(1) => (SessionKey::ue(RAN, flow.ue), RAN, 0b01),
        By::Plain(_) => (SessionKey::ue(RAN, flow.ue), RAN, 0b11),
    };
    let mut fields = match (flow.remote, flow.ue) {
        (IpAddr::V4(remote), IpAddr::V4(ue)) => PacketFields::v4(remote, ue, flow.protocol, flow.tos),
        (IpAddr::V6(remote), IpAddr::V6(ue)) => PacketFields::v6(remote, ue, flow.protocol, flow.tos, 0),
        _ => unreachable!("both ends of a packet are of one family"),
    };
    fields = fields.arrived(InterfaceSet::from_bits(interfaces), ni);
    if let Some((remote, ue)) = flow.ports {
        fields = fields.with_ports(remote, ue);
    }
    if let Some(qfi) = flow.qfi {
        fields = fields.with_qfi(qfi);
    }
    let place = oracle::classify(&rules, key, &fields)?;
    let pdr = &session.pdrs[place as usize];
    let mut sources = session.ue_ips.iter().flat_map(|ue| {
        let v4 = ue.ipv4.and_then(|a| IpPrefix::new(a.into(), 32));
        v4.into_iter().chain(ue.ipv6.map(IpPrefix::V6))
    });
    let anonymous = session.ue_ips.is_empty() && session.framed_routes.is_empty();
    let own =
        anonymous || sources.any(|p| p.contains(flow.ue)) || session.framed_routes.iter().any(|p| p.contains(flow.ue));
    (own || pdr.pdi.source_interface != Interface::Access).then_some(pdr.id)
}

/// Shared.
pub fn arc(session: &Session) -> Arc<Session> {
    Arc::new(session.clone())
}
