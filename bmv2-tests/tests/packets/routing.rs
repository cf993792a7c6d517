//! `routing.p4`: where to, and may it go there.

use crate::scene::*;
use bmv2_tests::entry::{Entry, FarAction, Mac, Rule, RuleAction};
use bmv2_tests::frame::{UserPacket, v4};
use bmv2_tests::on_every_target;
use bmv2_tests::world::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::punt::PuntReason;

fn to_internet(address: impl Into<IpAddr>, len: u32, via: &[u32]) -> Entry {
    Entry::Route {
        instance: INTERNET,
        prefix: (address.into(), len),
        via: via.to_vec(),
    }
}

#[test]
fn the_longest_prefix_of_the_fars_network_instance_wins() {
    on_every_target(|target| {
        usual(target);
        target.insert([
            to_internet(v4("198.51.0.0"), 16, &[hop(N9)]),
            to_internet(v4("198.51.100.0"), 24, &[hop(N6)]),
            to_internet(v4("198.51.100.128"), 25, &[hop(N9)]),
            Entry::Route {
                instance: CORE,
                prefix: (SERVER.into(), 32),
                via: vec![hop(N9)],
            },
        ]);
        for (dst, port) in [
            ("198.51.1.1", N9),
            ("198.51.100.7", N6),
            ("198.51.100.128", N9),
            ("198.51.100.127", N6),
            ("203.0.113.1", N6),
        ] {
            let packet = UserPacket::udp(UE, v4(dst), 4000, 53);
            forwards(target, N3, &uplink(&packet), port, &packet.aged().bytes());
        }
    });
}

#[test]
fn without_a_route_the_packet_is_punted() {
    on_every_target(|target| {
        usual(target);
        target.delete([
            to_internet(Ipv4Addr::UNSPECIFIED, 0, &[hop(N6)]),
            to_internet(Ipv6Addr::UNSPECIFIED, 0, &[hop(N6)]),
        ]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::NoRoute);
        punts_of_session(target, N3, &uplink(&uplink_packet_v6()), PuntReason::NoRoute);
    });
}

#[test]
fn an_on_link_destination_or_unknown_neighbour_is_the_hosts_to_ask_for() {
    on_every_target(|target| {
        usual(target);
        target.insert([to_internet(v4("198.51.100.0"), 24, &[])]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::NoNeighbour);
        target.insert([to_internet(SERVER, 32, &[777])]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::NoNeighbour);
        target.insert([Entry::NextHop {
            hop: 777,
            port: N6,
            dst: peer_mac(N6),
            src: our_mac(N6),
            vlan: 0,
            mtu: MTU,
        }]);
        forwards(
            target,
            N3,
            &uplink(&uplink_packet()),
            N6,
            &uplink_packet().aged().bytes(),
        );
    });
}

#[test]
fn a_flow_keeps_to_one_of_several_next_hops_and_all_are_used() {
    on_every_target(|target| {
        usual(target);
        let mac = |n: u32| -> Mac { [2, 0, 0, 0, 0xec, n as u8] };
        let hops = [801, 802, 803];
        target.insert(hops.map(|hop| Entry::NextHop {
            hop,
            port: N6,
            dst: mac(hop),
            src: our_mac(N6),
            vlan: 0,
            mtu: MTU,
        }));
        target.insert([to_internet(v4("198.51.100.0"), 24, &hops)]);
        let frames: Vec<_> = (0..64u16)
            .flat_map(|flow| {
                let packet = UserPacket::udp(UE, SERVER, 4000 + flow, 53);
                [packet.clone().payload_len(10), packet.payload_len(11)]
            })
            .map(|packet| (N3, uplink(&packet)))
            .collect();
        let mut taken: HashMap<u16, Mac> = HashMap::new();
        for (port, frame) in target.exchange(&frames) {
            assert_eq!(port, N6);
            let (mac, flow) = (
                frame[..6].try_into().unwrap(),
                u16::from_be_bytes([frame[34], frame[35]]),
            );
            assert_eq!(
                *taken.entry(flow).or_insert(mac),
                mac,
                "{}: flow {flow} changed its way",
                target.name
            );
        }
        assert_eq!(taken.len(), 64);
        let used = |hop: &u32| taken.values().any(|m| *m == mac(*hop));
        assert!(hops.iter().all(used), "{}: ways taken: {taken:?}", target.name);
    });
}

#[test]
fn a_hop_limit_that_is_used_up_is_the_hosts_to_answer() {
    on_every_target(|target| {
        usual(target);
        for hop_limit in [0, 1] {
            let up = uplink(&uplink_packet().hop_limit(hop_limit));
            punts_of_session(target, N3, &up, PuntReason::HopLimit);
            let up = uplink(&uplink_packet_v6().hop_limit(hop_limit));
            punts_of_session(target, N3, &up, PuntReason::HopLimit);
            let down = downlink(&downlink_packet().hop_limit(hop_limit));
            punts_of_session(target, N6, &down, PuntReason::HopLimit);
        }
        let last = uplink_packet().hop_limit(2);
        forwards(target, N3, &uplink(&last), N6, &last.aged().bytes());
    });
}

/// A packet whose IP length is `len`.
fn of_length(packet: UserPacket, len: usize) -> UserPacket {
    let headers = if packet.src.is_ipv4() { 28 } else { 48 };
    packet.payload_len(len - headers)
}

#[test]
fn a_plain_packet_longer_than_the_links_mtu_is_punted_as_it_came() {
    on_every_target(|target| {
        usual(target);
        target.modify([Entry::NextHop {
            hop: hop(N6),
            port: N6,
            dst: peer_mac(N6),
            src: our_mac(N6),
            vlan: 0,
            mtu: 1_400,
        }]);
        for packet in [uplink_packet(), uplink_packet_v6()] {
            let fits = of_length(packet.clone(), 1_400);
            forwards(target, N3, &uplink(&fits), N6, &fits.aged().bytes());
            punts_of_session(target, N3, &uplink(&of_length(packet, 1_401)), PuntReason::Mtu);
        }
    });
}

#[test]
fn the_mtu_holds_for_the_packet_with_its_tunnel() {
    on_every_target(|target| {
        usual(target);
        let tunnels = [
            (UPF_N3.into(), IpAddr::from(GNB), 20),
            (UPF_N3_V6.into(), IpAddr::from(GNB_V6), 40),
        ];
        let containers = [(None, None, 0), (Some(9), None, 8), (Some(9), Some(3), 12)];
        for (src, dst, ip_header) in tunnels {
            let far = FarAction::Tunnel {
                instance: ACCESS,
                src,
                dst,
                teid: DOWNLINK_TEID,
                mark: (0, 0),
            };
            target.modify([Entry::Far { far: DOWN, does: far }]);
            for (qfi, ppi, container) in containers {
                let rule = Rule {
                    qfi,
                    ppi,
                    ..usual_downlink_rule()
                };
                target.modify([Entry::Rule {
                    rule: DOWN,
                    does: RuleAction::Forward(rule),
                }]);
                let room = usize::from(MTU) - ip_header - 16 - container;
                let fits = of_length(downlink_packet(), room);
                let out = target.send(N6, &downlink(&fits));
                assert_eq!(out.len(), 1, "{}", target.name);
                assert_eq!(out[0].1.len(), 14 + usize::from(MTU), "{}", target.name);
                let too_long = downlink(&of_length(downlink_packet(), room + 1));
                punts_of_session(target, N6, &too_long, PuntReason::Mtu);
            }
        }
    });
}
