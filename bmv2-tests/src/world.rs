//! The little world that the tests begin with: a UPF with a gNB at port 1, a data network at port 2, another UPF at
//! port 3, and the host at port 4.
//!
//! ```text
//!   gNB 10.3.0.2, fd03::2 ── 1 ┤             ├ 2 ── data network 10.6.0.2, fd06::2, and all behind it
//!                              │  P4 target  │
//!   UPF 10.9.0.2, fd09::2 ──── 3 ┤           ├ 4 ── host
//! ```

use crate::entry::{Entry, FarAction, Mac, ReasonAction, Rule, RuleAction, Session, Sources};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::punt::PuntReason;

/// The gNB's port.
pub const N3: u16 = 1;
/// The data network's port.
pub const N6: u16 = 2;
/// The other UPF's port.
pub const N9: u16 = 3;
/// The host's port.
pub const HOST: u16 = 4;

/// Network instance of N3.
pub const ACCESS: u16 = 1;
/// Network instance of N6.
pub const INTERNET: u16 = 2;
/// Network instance of N9.
pub const CORE: u16 = 3;

/// Our hardware address at a port.
pub const fn our_mac(port: u16) -> Mac {
    [2, 0, 0, 0, 1, port as u8]
}
/// The neighbour's hardware address at a port.
pub const fn peer_mac(port: u16) -> Mac {
    [2, 0, 0, 0, 2, port as u8]
}

/// Our addresses.
pub const UPF_N3: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
/// Of N3, IPv6.
pub const UPF_N3_V6: Ipv6Addr = Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, 1);
/// Of N9.
pub const UPF_N9: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The gNB.
pub const GNB: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
/// The gNB, IPv6.
pub const GNB_V6: Ipv6Addr = Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, 2);
/// The other UPF.
pub const OTHER_UPF: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// A server behind the data network.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The same, IPv6.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 7);
/// The user.
pub const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
/// The user, IPv6.
pub const UE_V6: Ipv6Addr = Ipv6Addr::new(0xfd60, 0, 0, 1, 0, 0, 0, 0x1234);

/// The endpoints' numbers.
pub const ENDPOINT_V4: u16 = 10;
/// Of N3, IPv6.
pub const ENDPOINT_V6: u16 = 11;
/// Of N9.
pub const ENDPOINT_N9: u16 = 12;

/// The session of [`session`], its rules, FARs and cells.
pub const SESSION: u32 = 7;
/// Version of its rules.
pub const EPOCH: u32 = 3;
/// Uplink tunnel.
pub const UPLINK_TEID: u32 = 0x100;
/// Downlink tunnel, at the gNB.
pub const DOWNLINK_TEID: u32 = 0x200;
/// Uplink rule, FAR and cell.
pub const UP: u32 = 71;
/// Downlink rule, FAR and cell.
pub const DOWN: u32 = 72;

/// Longest IP packet on all links.
pub const MTU: u16 = 1_500;
/// The next hops are numbered as the ports they are at.
pub const fn hop(port: u16) -> u32 {
    port as u32
}

/// What every target needs to be tested at all: the host port, and a way for every packet that is not on the fast path.
/// Dropped reasons are punted as well, so that a test sees why; the drops' own test configures them as a UPF does.
pub fn plumbing() -> Vec<Entry> {
    let punted = |&reason: &PuntReason| Entry::Reason {
        reason,
        does: to_host(),
    };
    let unpunted = [PuntReason::Forged, PuntReason::BadReinject, PuntReason::Limited];
    let reasons = PuntReason::ALL.iter().filter(|reason| !unpunted.contains(reason));
    reasons.map(punted).chain([Entry::HostPort(HOST)]).collect()
}

/// Punt without limits.
pub const fn to_host() -> ReasonAction {
    ReasonAction::Punt {
        port: HOST,
        limit_users: false,
        limit: None,
    }
}

/// Stations, endpoints, routes and neighbours.
pub fn network() -> Vec<Entry> {
    let instance = |port| [ACCESS, INTERNET, CORE][usize::from(port) - 1];
    let ports = [N3, N6, N9];
    let stations = ports.map(|port| Entry::Station {
        port,
        vlan: 0,
        mac: our_mac(port),
        instance: instance(port),
    });
    let endpoint = |instance, address: IpAddr, id| Entry::Endpoint { instance, address, id };
    let endpoints = [
        endpoint(ACCESS, UPF_N3.into(), ENDPOINT_V4),
        endpoint(ACCESS, UPF_N3_V6.into(), ENDPOINT_V6),
        endpoint(CORE, UPF_N9.into(), ENDPOINT_N9),
    ];
    let hops = ports.map(|port| Entry::NextHop {
        hop: hop(port),
        port,
        dst: peer_mac(port),
        src: our_mac(port),
        vlan: 0,
        mtu: MTU,
    });
    let route = |instance, prefix: (IpAddr, u32), port| Entry::Route {
        instance,
        prefix,
        via: vec![hop(port)],
    };
    let routes = [
        route(ACCESS, (GNB.into(), 32), N3),
        route(ACCESS, (GNB_V6.into(), 128), N3),
        route(CORE, (OTHER_UPF.into(), 32), N9),
        route(INTERNET, (Ipv4Addr::UNSPECIFIED.into(), 0), N6),
        route(INTERNET, (Ipv6Addr::UNSPECIFIED.into(), 0), N6),
    ];
    [stations.as_slice(), &endpoints, &hops, &routes].concat()
}

/// The usual session: one rule in each direction, both addresses, QFI 9 downlink.
pub fn session() -> Vec<Entry> {
    let direct = |rule| Session::Direct {
        session: SESSION,
        epoch: EPOCH,
        rule,
    };
    let uplink = |endpoint| Entry::UplinkSession {
        endpoint,
        teid: UPLINK_TEID,
        sources: Sources::Only(Some(UE), Some(UE_V6)),
        session: direct(UP),
    };
    let downlink = |ue: IpAddr| Entry::DownlinkSession {
        instance: INTERNET,
        ue,
        session: direct(DOWN),
    };
    let mut entries = vec![
        uplink(ENDPOINT_V4),
        uplink(ENDPOINT_V6),
        downlink(UE.into()),
        downlink(UE_V6.into()),
    ];
    entries.extend(uplink_rule(usual_uplink_rule(), usual_uplink_far()));
    entries.extend(downlink_rule(usual_downlink_rule(), usual_downlink_far()));
    entries
}

/// The uplink rule and FAR.
pub fn uplink_rule(rule: Rule, far: FarAction) -> [Entry; 2] {
    rule_and_far(UP, rule, far)
}

/// The downlink rule and FAR.
pub fn downlink_rule(rule: Rule, far: FarAction) -> [Entry; 2] {
    rule_and_far(DOWN, rule, far)
}

fn rule_and_far(number: u32, rule: Rule, far: FarAction) -> [Entry; 2] {
    [
        Entry::Rule {
            rule: number,
            does: RuleAction::Forward(rule),
        },
        Entry::Far { far: number, does: far },
    ]
}

/// Ethernet, IPv4, UDP, GTP-U with a container.
pub const UPLINK_OVERHEAD: u8 = 14 + 20 + 8 + 16;
/// Ethernet.
pub const DOWNLINK_OVERHEAD: u8 = 14;

/// No meters, no marking.
pub fn usual_uplink_rule() -> Rule {
    Rule {
        cell: UP,
        far: UP,
        usual_overhead: UPLINK_OVERHEAD,
        ..Rule::default()
    }
}

/// QFI 9.
pub fn usual_downlink_rule() -> Rule {
    Rule {
        cell: DOWN,
        far: DOWN,
        usual_overhead: DOWNLINK_OVERHEAD,
        qfi: Some(9),
        ..Rule::default()
    }
}

/// Plain, into the data network.
pub fn usual_uplink_far() -> FarAction {
    FarAction::Plain {
        instance: INTERNET,
        mark: (0, 0),
    }
}

/// In a tunnel to the gNB.
pub fn usual_downlink_far() -> FarAction {
    FarAction::Tunnel {
        instance: ACCESS,
        src: UPF_N3.into(),
        dst: GNB.into(),
        teid: DOWNLINK_TEID,
        mark: (0, 0),
    }
}
