//! `station.p4`: whose frame is it, is it whole, and did it come in a tunnel.

use crate::scene::*;
use bmv2_tests::entry::Entry;
use bmv2_tests::frame::{Tunnel, fill_ipv4_checksum, frame, raw_frame};
use bmv2_tests::on_every_target;
use bmv2_tests::world::*;
use upf_model::punt::PuntReason;

/// What is done to a good packet.
type Breaking = dyn Fn(&mut Vec<u8>);

#[test]
fn a_frame_to_another_hardware_address_is_not_ours() {
    on_every_target(|target| {
        usual(target);
        let frame = frame(
            peer_mac(N6),
            peer_mac(N3),
            0,
            &n3_tunnel().around(&uplink_packet().bytes()),
        );
        punts(target, N3, &frame, PuntReason::NotOurs);
        let at_another_port = uplink(&uplink_packet());
        punts(target, N6, &at_another_port, PuntReason::NotOurs);
    });
}

#[test]
fn a_station_with_a_vlan_takes_only_frames_with_its_tag() {
    on_every_target(|target| {
        usual(target);
        let mac = [2, 0, 0, 0, 1, 0x64];
        target.insert([Entry::Station {
            port: N3,
            vlan: 100,
            mac,
            instance: ACCESS,
        }]);
        let packet = n3_tunnel().around(&uplink_packet().bytes());
        let tagged = |vlan| frame(mac, peer_mac(N3), vlan, &packet);
        forwards(target, N3, &tagged(100), N6, &uplink_packet().aged().bytes());
        let with_priority = tagged(0x6000 | 100);
        forwards(target, N3, &with_priority, N6, &uplink_packet().aged().bytes());
        punts(target, N3, &tagged(101), PuntReason::NotOurs);
        punts(target, N3, &tagged(0), PuntReason::NotOurs);
        punts(
            target,
            N3,
            &frame(our_mac(N3), peer_mac(N3), 100, &packet),
            PuntReason::NotOurs,
        );
    });
}

#[test]
fn a_priority_tag_is_a_tag() {
    on_every_target(|target| {
        usual(target);
        let frame = frame(
            our_mac(N3),
            peer_mac(N3),
            0x2000,
            &n3_tunnel().around(&uplink_packet().bytes()),
        );
        punts(target, N3, &frame, PuntReason::NotOurs);
    });
}

#[test]
fn group_frames_and_arp_are_for_the_upf_itself() {
    on_every_target(|target| {
        usual(target);
        let arp = [0, 1, 8, 0, 6, 4, 0, 1].repeat(4);
        punts(
            target,
            N3,
            &raw_frame([0xff; 6], peer_mac(N3), 0, 0x0806, &arp),
            PuntReason::Local,
        );
        punts(
            target,
            N3,
            &raw_frame(our_mac(N3), peer_mac(N3), 0, 0x0806, &arp),
            PuntReason::Local,
        );
        let solicitation = downlink_packet_v6().bytes();
        punts(
            target,
            N6,
            &frame([0x33, 0x33, 0, 0, 0, 1], peer_mac(N6), 0, &solicitation),
            PuntReason::Local,
        );
    });
}

#[test]
fn what_is_neither_ip_nor_arp_has_its_own_reason() {
    on_every_target(|target| {
        usual(target);
        for ether_type in [0x88cc, 0x8847, 0x8100, 0x05dc] {
            let frame = raw_frame(our_mac(N6), peer_mac(N6), 0, ether_type, &[0; 46]);
            let reason = if ether_type == 0x8100 {
                PuntReason::NotOurs
            } else {
                PuntReason::EtherType
            };
            punts(target, N6, &frame, reason);
        }
        let tagged_twice = raw_frame([2, 0, 0, 0, 1, 0x64], peer_mac(N6), 100, 0x8100, &[0; 46]);
        target.insert([Entry::Station {
            port: N6,
            vlan: 100,
            mac: [2, 0, 0, 0, 1, 0x64],
            instance: INTERNET,
        }]);
        punts(target, N6, &tagged_twice, PuntReason::EtherType);
    });
}

#[test]
fn tunnels_end_only_at_endpoints_of_the_frames_own_network_instance() {
    on_every_target(|target| {
        usual(target);
        let inner = uplink_packet().bytes();
        let to = |dst| Tunnel::new(GNB, dst, UPLINK_TEID).around(&inner);
        punts(target, N3, &from(N3, &to(SERVER)), PuntReason::Endpoint);
        punts(target, N3, &from(N3, &to(UPF_N9)), PuntReason::Endpoint);
        punts(target, N9, &from(N9, &to(UPF_N3)), PuntReason::Endpoint);
        let v6 = Tunnel::new(GNB_V6, SERVER_V6, UPLINK_TEID).around(&inner);
        punts(target, N3, &from(N3, &v6), PuntReason::Endpoint);
    });
}

#[test]
fn a_users_packet_to_the_gtpu_port_is_not_taken_for_a_tunnel() {
    on_every_target(|target| {
        usual(target);
        let mut packet = downlink_packet();
        packet.transport = bmv2_tests::frame::Transport::Udp(2152, 2152);
        punts(target, N6, &downlink(&packet), PuntReason::Endpoint);
        packet.payload.truncate(3);
        punts(target, N6, &downlink(&packet), PuntReason::Endpoint);
    });
}

#[test]
fn an_ipv4_header_that_cannot_be_is_malformed() {
    on_every_target(|target| {
        usual(target);
        let broken = |break_it: &Breaking| {
            let mut packet = downlink_packet().bytes();
            break_it(&mut packet);
            from(N6, &packet)
        };
        let cases: [&Breaking; 5] = [
            &|p| (p[0] = 0x55, fill_ipv4_checksum(p)).1,
            &|p| p[0] = 0x44,
            &|p| (p[3] = 19, fill_ipv4_checksum(p)).1,
            &|p| (p[3] += 1, fill_ipv4_checksum(p)).1,
            &|p| (p[2..4].fill(0xff), fill_ipv4_checksum(p)).1,
        ];
        for case in cases {
            punts(target, N6, &broken(case), PuntReason::Malformed);
        }
        punts(target, N6, &broken(&|p| p[10] ^= 1), PuntReason::Checksum);
        punts(target, N6, &broken(&|p| p[15] ^= 1), PuntReason::Checksum);
        let options = |p: &mut Vec<u8>| {
            p[0] = 0x46;
            p[3] += 4;
            p.splice(20..20, [1, 1, 1, 0]);
            fill_ipv4_checksum(p);
        };
        punts(target, N6, &broken(&options), PuntReason::Options);
    });
}

#[test]
fn an_ipv6_header_that_cannot_be_is_malformed() {
    on_every_target(|target| {
        usual(target);
        let broken = |break_it: &Breaking| {
            let mut packet = downlink_packet_v6().bytes();
            break_it(&mut packet);
            let mut frame = from(N6, &packet);
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame
        };
        let cases: [&Breaking; 3] = [&|p| p[0] = 0x40, &|p| p[5] += 1, &|p| p[4..6].fill(0xff)];
        for case in cases {
            punts(target, N6, &broken(case), PuntReason::Malformed);
        }
    });
}

#[test]
fn lengths_within_a_tunnel_must_fit_into_one_another() {
    on_every_target(|target| {
        usual(target);
        let broken = |at: usize, add: i32| {
            let mut packet = n3_tunnel().around(&uplink_packet().bytes());
            let length = i32::from(u16::from_be_bytes([packet[at], packet[at + 1]])) + add;
            packet[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            from(N3, &packet)
        };
        let (udp, gtpu, inner) = (24, 30, 46);
        for at in [udp, gtpu, inner] {
            punts(target, N3, &broken(at, 1), PuntReason::Malformed);
        }
        for at in [udp, gtpu] {
            punts(target, N3, &broken(at, -1), PuntReason::Malformed);
        }
    });
}

#[test]
fn a_longer_tunnel_than_its_packet_needs_is_as_good() {
    on_every_target(|target| {
        usual(target);
        let mut inner = uplink_packet().bytes();
        inner.extend([0xaa; 7]); // behind the user's packet, within the G-PDU
        let frame = from(N3, &n3_tunnel().around(&inner));
        forwards(target, N3, &frame, N6, &uplink_packet().aged().bytes());
    });
}

#[test]
fn a_frame_that_is_cut_short_anywhere_is_punted_and_never_forwarded() {
    on_every_target(|target| {
        usual(target);
        let whole = uplink(&uplink_packet());
        for len in 15..whole.len() {
            let frame = &whole[..len];
            punts(target, N3, frame, PuntReason::Malformed);
        }
    });
}

#[test]
fn signalling_and_unusual_headers_go_to_the_host() {
    on_every_target(|target| {
        usual(target);
        let message = |break_it: &Breaking| {
            let inner = uplink_packet().bytes();
            let mut message = vec![0; 64];
            let n = gtpu::write_gpdu_header(
                &mut message,
                UPLINK_TEID,
                inner.len(),
                Some(&gtpu::PduSessionContainer::uplink(9)),
            );
            message.truncate(n.unwrap());
            message.extend(inner);
            break_it(&mut message);
            from(N3, &Tunnel::new(GNB, UPF_N3, 0).around_message(&message))
        };
        let cases: [(&str, &Breaking); 9] = [
            ("echo request", &|m| m[1] = 1),
            ("end marker", &|m| m[1] = 254),
            ("version 2", &|m| m[0] = m[0] & 0x1f | 0x40),
            ("GTP'", &|m| m[0] &= !0x10),
            ("another extension header", &|m| m[11] = 0xc0),
            ("extension flag without one", &|m| m[11] = 0),
            ("a longer container", &|m| m[12] = 2),
            ("a container with time stamps", &|m| m[13] |= 8),
            ("another extension header behind", &|m| m[15] = 0xc0),
        ];
        for (what, break_it) in cases {
            eprintln!("{what}");
            punts(target, N3, &message(break_it), PuntReason::Gtpu);
        }
        punts(target, N3, &message(&|m| m[16] = 0x55), PuntReason::Gtpu); // inside, neither IPv4 nor IPv6
    });
}

#[test]
fn sequence_numbers_in_gtpu_are_read_over() {
    on_every_target(|target| {
        usual(target);
        let inner = uplink_packet().bytes();
        let length = (inner.len() + 4) as u16;
        let header = [
            &[0x32, 255][..],
            &length.to_be_bytes(),
            &UPLINK_TEID.to_be_bytes(),
            &[0x12, 0x34, 0, 0x77],
        ];
        let message = [&header.concat()[..], &inner].concat();
        let frame = from(N3, &Tunnel::new(GNB, UPF_N3, 0).around_message(&message));
        forwards(target, N3, &frame, N6, &uplink_packet().aged().bytes());
    });
}

#[test]
fn fragments_of_a_tunnel_packet_are_the_hosts_to_count() {
    on_every_target(|target| {
        usual(target);
        for (flags, offset) in [(0x20, 0), (0x20, 100), (0, 100)] {
            let mut packet = n3_tunnel().around(&uplink_packet().bytes());
            packet[6..8].copy_from_slice(&[flags, offset]);
            fill_ipv4_checksum(&mut packet);
            punts(target, N3, &from(N3, &packet), PuntReason::Fragment);
        }
        let mut packet = Tunnel::new(GNB_V6, UPF_N3_V6, UPLINK_TEID).around(&uplink_packet().bytes());
        packet[6] = 44;
        punts(target, N3, &from(N3, &packet), PuntReason::Fragment);
    });
}

#[test]
fn fragments_of_a_users_packet_are_forwarded_like_others() {
    on_every_target(|target| {
        usual(target);
        for (flags, offset) in [(0x20, 0), (0x20, 100), (0, 100)] {
            let fragment = |packet: bmv2_tests::frame::UserPacket| {
                let mut packet = packet.bytes();
                packet[6..8].copy_from_slice(&[flags, offset]);
                fill_ipv4_checksum(&mut packet);
                packet
            };
            let (before, after) = (fragment(uplink_packet()), fragment(uplink_packet().aged()));
            forwards(target, N3, &from(N3, &n3_tunnel().around(&before)), N6, &after);
            let (before, after) = (fragment(downlink_packet()), fragment(downlink_packet().aged()));
            forwards(target, N6, &from(N6, &before), N3, &gnb_tunnel().around(&after));
        }
    });
}
