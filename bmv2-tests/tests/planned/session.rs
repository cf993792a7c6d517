//! Random sessions out of small pools, so that their rules overlap and packets meet them.

use crate::world::{INTERNET, RAN};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use upf_model::{
    Action, BitRates, Disposition, Epoch, Far, FarId, ForwardingParameters, Gate, Interface, IpPrefix, Ipv6Prefix,
    LocalFTeid, OuterHeaderCreation, OuterHeaderRemoval, Pdi, Pdr, PdrId, Precedence, Qer, QerId, Qfi, SdfFilter, Seid,
    Session, SessionId, Teid, TosMatch, UeIpAddress,
};

/// TEIDs of the session's tunnels; others are nobody's.
pub const TEIDS: [u32; 3] = [7, 8, 9];
pub const UE_V4: [&str; 3] = ["10.60.0.2", "10.60.0.2", "10.60.0.3"];
pub const UE_V6: [&str; 3] = ["fd60:0:0:2::/64", "fd60:0:0:2::/64", "fd60:0:0:3::/64"];
const FRAMED: [&str; 3] = ["172.16.0.0/24", "172.16.0.0/16", "fd61::/48"];
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
const UES: [&str; 6] = [
    "assigned",
    "assigned",
    "any",
    "10.60.0.2/32",
    "172.16.0.0/20",
    "fd60:0:0:2::1/128",
];
const PEERS: [&str; 10] = [
    "10.3.0.2",
    "10.3.0.2",
    "10.3.0.50",
    "10.4.1.1",
    "10.9.0.2",
    "10.99.0.1",
    "fd03::2",
    "fd03::2",
    "fd03::50",
    "fd99::1",
];
const PORTS: [&str; 6] = ["", "", " 53", " 53,80-90", " 0-65535", " 0"];

/// A session with up to 64 PDRs, most with few.
pub fn session() -> impl Strategy<Value = Session> {
    let count = prop_oneof![4 => 1..=4usize, 3 => 5..=16usize, 1 => 17..=64usize];
    // Most sessions have a rule for each direction that takes everything of the usual user, as real ones have.
    let usual = prop::bool::weighted(0.8);
    let pdrs = (vec(pdr(), 1..=64), count, usual).prop_map(|(mut pdrs, count, usual)| {
        pdrs.truncate(count.max(2));
        if let [up, down, ..] = &mut pdrs[..]
            && usual
        {
            for (pdr, uplink) in [(up, true), (down, false)] {
                pdr.precedence = Precedence(pdr.precedence.0 | 0x8000_0000);
                pdr.outer_header_removal = uplink.then_some(OuterHeaderRemoval::GtpuUdpIp);
                pdr.pdi = Pdi {
                    source_interface: if uplink { Interface::Access } else { Interface::Core },
                    network_instance: if uplink { RAN } else { INTERNET },
                    local_fteid: uplink.then(|| tunnel(7, "10.3.0.1", Some("fd03::1"))),
                    ue_ip: Some(usual_ue()),
                    framed_routes: vec![],
                    sdf: vec![],
                    qfis: vec![],
                };
            }
        }
        for (id, pdr) in (1..).zip(&mut pdrs) {
            pdr.id = PdrId(id);
        }
        pdrs
    });
    let fars = (1..=4u32).map(far).collect::<Vec<_>>();
    let qers = (1..=4u32).map(qer).collect::<Vec<_>>();
    (pdrs, fars, qers, prop::bool::weighted(0.1)).prop_map(|(pdrs, fars, qers, anonymous)| {
        let mut session = Session {
            id: SessionId(5),
            seid: Seid(0xabc),
            epoch: Epoch(1),
            pdrs,
            fars,
            qers,
            ..Session::default()
        };
        if anonymous {
            // Nobody's addresses: there is nothing to check sources against.
            for pdr in &mut session.pdrs {
                pdr.pdi.ue_ip = None;
                pdr.pdi.framed_routes.clear();
            }
            session.pdrs.retain(|pdr| pdr.pdi.local_fteid.is_some());
        }
        // As validation has it: lowest precedence first, and whoever has no tunnel says whose packets it means.
        session.pdrs.sort_by_key(|p| (p.precedence, p.id));
        session.pdrs.retain(|p| {
            let pdi = &p.pdi;
            pdi.local_fteid.is_some() || pdi.ue_ip.is_some() || !pdi.framed_routes.is_empty()
        });
        for pdr in &session.pdrs {
            if let Some(ue) = pdr.pdi.ue_ip.filter(|ue| !session.ue_ips.contains(ue)) {
                session.ue_ips.push(ue);
            }
            for route in &pdr.pdi.framed_routes {
                if !session.framed_routes.contains(route) {
                    session.framed_routes.push(*route);
                }
            }
        }
        session
    })
}

fn ue_ip() -> impl Strategy<Value = UeIpAddress> {
    let v4 = option::weighted(0.8, select(&UE_V4[..]));
    let v6 = option::weighted(0.6, select(&UE_V6[..]));
    (v4, v6).prop_map(|(v4, v6)| {
        let v4 = v4.or(v6.is_none().then_some(UE_V4[0]));
        UeIpAddress {
            ipv4: v4.map(|a| a.parse().expect("an address")),
            ipv6: v6.map(prefix_v6),
        }
    })
}

fn prefix_v6(text: &str) -> Ipv6Prefix {
    match text.parse() {
        Ok(IpPrefix::V6(prefix)) => prefix,
        _ => panic!("{text} is no IPv6 prefix"),
    }
}

fn usual_ue() -> UeIpAddress {
    UeIpAddress {
        ipv4: UE_V4[0].parse().ok(),
        ipv6: Some(prefix_v6(UE_V6[0])),
    }
}

fn tunnel(teid: u32, v4: &str, v6: Option<&str>) -> LocalFTeid {
    LocalFTeid {
        teid: Teid(teid),
        ipv4: v4.parse().ok(),
        ipv6: v6.and_then(|a| a.parse().ok()),
    }
}

fn filter() -> impl Strategy<Value = SdfFilter> {
    let ends = (
        select(&REMOTES[..]),
        select(&PORTS[..]),
        select(&UES[..]),
        select(&PORTS[..]),
    );
    let protocol = select(&["ip", "ip", "6", "17", "1", "58"][..]);
    let flow = option::weighted(0.85, (protocol, ends));
    let tos = option::weighted(0.2, select(&[(0xb8, 0xfc), (0x10, 0x1c), (0, 0)][..]));
    let beyond = select(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2][..]);
    (flow, tos, beyond).prop_map(|(flow, tos, beyond)| SdfFilter {
        id: None,
        flow: flow.map(|(protocol, (remote, remote_ports, ue, ue_ports))| {
            // Both ends of a rule are of one family.
            let mixed = ue.contains('/') && ue.contains(':') != remote.contains(':');
            let ue = if mixed { "assigned" } else { ue };
            let text = format!("permit out {protocol} from {remote}{remote_ports} to {ue}{ue_ports}");
            text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
        }),
        tos: tos.map(|(value, mask)| TosMatch { value, mask }),
        spi: (beyond == 1).then_some(7),
        flow_label: (beyond == 2).then_some(0x12345),
    })
}

fn pdr() -> impl Strategy<Value = Pdr> {
    let sdf = prop_oneof![2 => Just(Vec::new()), 3 => vec(filter(), 1..3)];
    let qfis = prop_oneof![4 => Just(Vec::new()), 1 => vec((0..4u8).prop_map(Qfi), 1..3)];
    let kind = select(
        &[
            "up", "up", "up", "up", "up", "down", "down", "down", "down", "up2", "up-n9", "n9", "plain-up",
        ][..],
    );
    let framed = prop_oneof![8 => Just(Vec::new()), 1 => vec(select(&FRAMED[..]), 1..2)];
    let precedence = prop_oneof![2 => 0..6u32, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    let qers = vec(1..5u32, 0..3);
    let what = (sdf, qfis, kind, framed, option::weighted(0.7, ue_ip()));
    (what, precedence, 1..5u32, qers, prop::bool::weighted(0.95)).prop_map(
        move |((sdf, qfis, kind, framed, ue_ip), precedence, far, mut qers, removal)| {
            qers.sort_unstable();
            qers.dedup();
            let (source_interface, network_instance, local_fteid) = match kind {
                "up" => (Interface::Access, RAN, Some(tunnel(7, "10.3.0.1", Some("fd03::1")))),
                "up2" => (Interface::Access, RAN, Some(tunnel(8, "10.3.0.1", None))),
                "up-n9" => (Interface::Access, RAN, Some(tunnel(8, "10.9.0.1", None))),
                "n9" => (Interface::Core, RAN, Some(tunnel(9, "10.9.0.1", None))),
                "plain-up" => (Interface::Access, RAN, None),
                _ => (Interface::Core, INTERNET, None),
            };
            Pdr {
                id: PdrId(0),
                precedence: Precedence(precedence),
                pdi: Pdi {
                    source_interface,
                    network_instance,
                    local_fteid,
                    // A plain packet is found by its user's address only.
                    ue_ip: ue_ip.or_else(|| local_fteid.is_none().then(usual_ue)),
                    framed_routes: framed.iter().map(|p| p.parse().expect("a prefix")).collect(),
                    sdf,
                    qfis,
                },
                outer_header_removal: (local_fteid.is_some() && removal).then_some(OuterHeaderRemoval::GtpuUdpIp),
                far: FarId(far),
                qers: qers.into_iter().map(QerId).collect(),
                urrs: vec![],
            }
        },
    )
}

fn far(id: u32) -> impl Strategy<Value = Far> {
    let disposition = prop_oneof![
        8 => Just(Disposition::Forward),
        1 => Just(Disposition::Drop),
        1 => Just(Disposition::Buffer { notify: true }),
    ];
    let tunnel = option::of((any::<u32>(), select(&PEERS[..])));
    let marking = option::weighted(0.3, select(&[(0xb8, 0xfc), (0x48, 0xf0), (0xff, 0xff)][..]));
    (disposition, tunnel, marking, prop::bool::weighted(0.1)).prop_map(
        move |(disposition, tunnel, marking, duplicate)| {
            let parameters = ForwardingParameters {
                destination_interface: Interface::Core,
                network_instance: if tunnel.is_some() { RAN } else { INTERNET },
                outer_header_creation: tunnel.map(|(teid, peer)| OuterHeaderCreation {
                    teid: Teid(teid),
                    peer: peer.parse::<IpAddr>().expect("an address"),
                }),
                transport_level_marking: marking,
            };
            Far {
                id: FarId(id),
                action: Action { disposition, duplicate },
                duplicating: if duplicate { vec![parameters.clone()] } else { vec![] },
                forwarding: (disposition == Disposition::Forward).then_some(parameters),
                bar: None,
            }
        },
    )
}

/// Gates and marks. Rates are either none, so high that nothing is over them, or zero: how many tokens a bucket holds at
/// an instant is not the same in two planes.
fn qer(id: u32) -> impl Strategy<Value = Qer> {
    let gate = || prop_oneof![8 => Just(Gate::Open), 1 => Just(Gate::Closed)];
    let rate = || prop_oneof![12 => Just(100_000_000u64), 1 => Just(0)];
    let rates = option::of((rate(), rate()).prop_map(|(uplink_kbps, downlink_kbps)| BitRates {
        uplink_kbps,
        downlink_kbps,
    }));
    let marks = (option::of(0..64u8), any::<bool>(), option::weighted(0.3, 0..8u8));
    (gate(), gate(), rates, marks).prop_map(move |(gate_uplink, gate_downlink, mbr, (qfi, rqi, ppi))| Qer {
        id: QerId(id),
        correlation_id: None,
        gate_uplink,
        gate_downlink,
        mbr,
        gbr: None,
        qfi: qfi.map(Qfi),
        rqi,
        ppi,
        averaging_window_ms: None,
        scheduling: upf_model::Scheduling::default(),
    })
}
