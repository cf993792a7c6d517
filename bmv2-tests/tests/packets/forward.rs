//! `forward.p4` and the checksums in `parser.p4`: the bytes that leave.

use crate::scene::*;
use bmv2_tests::entry::{Entry, FarAction, Rule, RuleAction};
use bmv2_tests::frame::{Transport, Tunnel, UserPacket, frame, padded};
use bmv2_tests::world::*;
use bmv2_tests::{Target, on_every_target};
use std::net::IpAddr;
use upf_model::punt::PuntReason;

/// Both families outside: our end and the gNB's.
const OUTSIDE: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(UPF_N3), IpAddr::V4(GNB)),
    (IpAddr::V6(UPF_N3_V6), IpAddr::V6(GNB_V6)),
];

fn downlink_by(target: &Target, rule: Rule, (src, dst): (IpAddr, IpAddr), mark: (u8, u8)) {
    let far = FarAction::Tunnel {
        instance: ACCESS,
        src,
        dst,
        teid: DOWNLINK_TEID,
        mark,
    };
    target.modify(downlink_rule(rule, far));
}

#[test]
fn every_container_goes_into_every_tunnel_around_every_packet() {
    on_every_target(|target| {
        usual(target);
        for ends in OUTSIDE {
            for (qfi, rqi, ppi) in [
                (None, false, None),
                (Some(9), false, None),
                (Some(63), true, None),
                (Some(0), false, Some(0)),
                (Some(1), true, Some(7)),
                (None, true, Some(3)),
            ] {
                downlink_by(
                    target,
                    Rule {
                        qfi,
                        rqi,
                        ppi,
                        ..usual_downlink_rule()
                    },
                    ends,
                    (0, 0),
                );
                let tunnel = Tunnel::new(ends.0, ends.1, DOWNLINK_TEID);
                let tunnel = qfi.map_or(tunnel, |qfi| tunnel.downlink(qfi, rqi, ppi));
                for packet in [downlink_packet(), downlink_packet_v6()] {
                    for len in [0, 1, 2, 17, 1_200] {
                        let packet = packet.clone().payload_len(len);
                        let out = tunnel.around(&packet.aged().bytes());
                        forwards(target, N6, &downlink(&packet), N3, &out);
                    }
                }
            }
        }
    });
}

#[test]
fn every_transport_header_passes_as_it_is() {
    on_every_target(|target| {
        usual(target);
        for ends in OUTSIDE {
            downlink_by(target, usual_downlink_rule(), ends, (0, 0));
            let tunnel = Tunnel::new(ends.0, ends.1, DOWNLINK_TEID).downlink(9, false, None);
            for transport in [
                Transport::Udp(1, 2),
                Transport::Tcp(3, 4),
                Transport::IcmpEcho,
                Transport::Raw(33),
                Transport::Raw(50),
                Transport::Raw(132),
                Transport::Raw(136),
                Transport::Raw(254),
            ] {
                for packet in [downlink_packet(), downlink_packet_v6()] {
                    let down = UserPacket { transport, ..packet };
                    let out = tunnel.around(&down.aged().bytes());
                    forwards(target, N6, &downlink(&down), N3, &out);
                    let up = UserPacket {
                        src: down.dst,
                        dst: down.src,
                        ..down
                    };
                    forwards(target, N3, &uplink(&up), N6, &up.aged().bytes());
                }
            }
        }
    });
}

#[test]
fn a_tunnel_is_marked_outside_and_a_plain_packet_itself() {
    on_every_target(|target| {
        usual(target);
        let marks = [
            ((0xb8, 0xfc), 0xb8, 0xb8),
            ((0xff, 0xf0), 0xf0, 0xf8),
            ((0x00, 0xfc), 0, 0),
            ((0xff, 0x03), 0, 0x48),
        ];
        for (mark, outside, plain) in marks {
            downlink_by(target, usual_downlink_rule(), OUTSIDE[0], mark);
            for packet in [downlink_packet(), downlink_packet_v6()] {
                let packet = packet.tos(0x48 | 1);
                let out = gnb_tunnel().tos(outside | 1).around(&packet.aged().bytes());
                forwards(target, N6, &downlink(&packet), N3, &out);
            }
            target.modify(uplink_rule(
                usual_uplink_rule(),
                FarAction::Plain {
                    instance: INTERNET,
                    mark,
                },
            ));
            for packet in [uplink_packet(), uplink_packet_v6()] {
                let packet = packet.tos(0x48 | 1);
                forwards(target, N3, &uplink(&packet), N6, &packet.aged().tos(plain | 1).bytes());
            }
        }
    });
}

#[test]
fn ethernet_padding_stays_behind() {
    on_every_target(|target| {
        usual(target);
        let small = downlink_packet().payload_len(1);
        let out = gnb_tunnel().around(&small.aged().bytes());
        for byte in [0, 0xa5] {
            forwards(target, N6, &padded(downlink(&small), byte), N3, &out);
        }
        let mut long = uplink(&uplink_packet());
        long.extend([0x5a; 30]);
        forwards(target, N3, &long, N6, &uplink_packet().aged().bytes());
    });
}

#[test]
fn a_tunnel_over_ipv6_has_its_checksum_over_the_packet_and_not_its_padding() {
    on_every_target(|target| {
        usual(target);
        downlink_by(target, usual_downlink_rule(), OUTSIDE[1], (0, 0));
        let tunnel = Tunnel::new(UPF_N3_V6, GNB_V6, DOWNLINK_TEID).downlink(9, false, None);
        for len in [1, 2, 5] {
            let small = downlink_packet().payload_len(len);
            forwards(
                target,
                N6,
                &padded(downlink(&small), 0),
                N3,
                &tunnel.around(&small.aged().bytes()),
            );
        }
        // What is no Ethernet padding is the host's: v1model would sum it up as well.
        let mut long = downlink(&downlink_packet().payload_len(100));
        long.extend([1, 2, 3]);
        punts_of_session(target, N6, &long, PuntReason::Malformed);
    });
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    on_every_target(|target| {
        usual(target);
        downlink_by(target, usual_downlink_rule(), OUTSIDE[1], (0, 0));
        let tunnel = Tunnel::new(UPF_N3_V6, GNB_V6, DOWNLINK_TEID).downlink(9, false, None);
        let with = |last: u16| {
            let mut packet = downlink_packet().payload_len(20).bytes();
            packet[46..48].copy_from_slice(&last.to_be_bytes());
            packet
        };
        let sent = |mut packet: Vec<u8>| {
            packet[8] -= 1;
            bmv2_tests::frame::fill_ipv4_checksum(&mut packet);
            tunnel.around(&packet)
        };
        // Adding the checksum of the packet with zeros there to the sum makes it all ones.
        let checksum = sent(with(0));
        let packet = with(u16::from_be_bytes([checksum[46], checksum[47]]));
        let expected = sent(packet.clone());
        assert_eq!(expected[46..48], [0xff, 0xff]);
        forwards(target, N6, &from(N6, &packet), N3, &expected);
    });
}

#[test]
fn the_ipv4_header_checksum_is_updated_whatever_it_was() {
    on_every_target(|target| {
        usual(target);
        for id in [0u16, 1, 0xff00, 0xfeff, 0xffff] {
            for hop_limit in [2, 64, 255] {
                let with_id = |packet: UserPacket| {
                    let mut packet = packet.bytes();
                    packet[4..6].copy_from_slice(&id.to_be_bytes());
                    bmv2_tests::frame::fill_ipv4_checksum(&mut packet);
                    packet
                };
                let packet = uplink_packet().hop_limit(hop_limit);
                let (before, after) = (with_id(packet.clone()), with_id(packet.aged()));
                forwards(target, N3, &from(N3, &n3_tunnel().around(&before)), N6, &after);
            }
        }
        // A user's wrong checksum stays as wrong as it was: it is for the receiver to see.
        let (mut before, mut after) = (uplink_packet().bytes(), uplink_packet().aged().bytes());
        before[11] ^= 0x10;
        after[11] ^= 0x10;
        forwards(target, N3, &from(N3, &n3_tunnel().around(&before)), N6, &after);
    });
}

#[test]
fn a_next_hop_behind_a_vlan_gets_tagged_frames() {
    on_every_target(|target| {
        usual(target);
        let tagged = |port| Entry::NextHop {
            hop: hop(port),
            port,
            dst: peer_mac(port),
            src: our_mac(port),
            vlan: 0xabc,
            mtu: MTU,
        };
        target.modify([tagged(N6), tagged(N3)]);
        let expected = |port, packet: &[u8]| vec![(port, frame(peer_mac(port), our_mac(port), 0xabc, packet))];
        for packet in [uplink_packet(), uplink_packet_v6()] {
            expect(target, N3, &uplink(&packet), expected(N6, &packet.aged().bytes()));
        }
        let mac = [2, 0, 0, 0, 1, 0x64];
        target.insert([Entry::Station {
            port: N6,
            vlan: 0x123,
            mac,
            instance: INTERNET,
        }]);
        for packet in [downlink_packet(), downlink_packet_v6()] {
            let out = expected(N3, &gnb_tunnel().around(&packet.aged().bytes()));
            expect(target, N6, &downlink(&packet), out.clone());
            expect(target, N6, &frame(mac, peer_mac(N6), 0x123, &packet.bytes()), out);
        }
    });
}

#[test]
fn options_inside_a_tunnel_are_carried_on() {
    on_every_target(|target| {
        usual(target);
        let with_options = |packet: UserPacket| {
            let mut packet = packet.bytes();
            packet[0] = 0x46;
            packet[3] += 4;
            packet.splice(20..20, [1, 1, 1, 0]);
            bmv2_tests::frame::fill_ipv4_checksum(&mut packet);
            packet
        };
        let frame = from(N3, &n3_tunnel().around(&with_options(uplink_packet())));
        forwards(target, N3, &frame, N6, &with_options(uplink_packet().aged()));
    });
}

#[test]
fn the_queue_changes_nothing_in_the_packet() {
    on_every_target(|target| {
        usual(target);
        for queue in 0..8 {
            let rule = Rule {
                queue,
                ..usual_uplink_rule()
            };
            target.modify([Entry::Rule {
                rule: UP,
                does: RuleAction::Forward(rule),
            }]);
            forwards(
                target,
                N3,
                &uplink(&uplink_packet()),
                N6,
                &uplink_packet().aged().bytes(),
            );
        }
    });
}
