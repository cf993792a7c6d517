//! `flows.p4`: which rule takes a packet, where a session has several.

use crate::scene::*;
use bmv2_tests::entry::{Entry, FarAction, FlowFields, Session, Sources};
use bmv2_tests::frame::{Tunnel, UserPacket, fill_ipv4_checksum, v4, v6};
use bmv2_tests::world::*;
use bmv2_tests::{Target, on_every_target};
use upf_model::punt::PuntReason;

const ALL: FlowFields = FlowFields {
    remote: u128::MAX,
    ue: u128::MAX,
    remote_port: u16::MAX,
    ue_port: u16::MAX,
    protocol: 0xff,
    tos: 0xff,
    qfi: 0xff,
};
const NOTHING: FlowFields = FlowFields {
    remote: 0,
    ue: 0,
    remote_port: 0,
    ue_port: 0,
    protocol: 0,
    tos: 0,
    qfi: 0,
};

/// The usual network and rules; the session goes by flow, under this mask and epoch.
fn by_flow(target: &Target, mask: FlowFields) {
    target.insert(network());
    target.insert(session());
    masked(target, mask, EPOCH);
}

fn masked(target: &Target, mask: FlowFields, epoch: u32) {
    let session = Session::ByFlow {
        session: SESSION,
        epoch,
        mask,
    };
    target.modify([
        Entry::UplinkSession {
            endpoint: ENDPOINT_V4,
            teid: UPLINK_TEID,
            sources: Sources::Any,
            session,
        },
        Entry::DownlinkSession {
            instance: INTERNET,
            ue: UE.into(),
            session,
        },
        Entry::DownlinkSession {
            instance: INTERNET,
            ue: UE_V6.into(),
            session,
        },
    ]);
}

fn flow(epoch: u32, uplink: bool, ipv6: bool, fields: FlowFields) -> Entry {
    let rule = if uplink { UP } else { DOWN };
    Entry::Flow {
        session: SESSION,
        epoch,
        uplink,
        ipv6,
        fields,
        rule,
    }
}

/// The fields of `uplink_packet()` and `downlink_packet()`.
fn usual_fields(qfi: u8) -> FlowFields {
    FlowFields {
        remote: u32::from(SERVER).into(),
        ue: u32::from(UE).into(),
        remote_port: 53,
        ue_port: 4000,
        protocol: 17,
        tos: 0,
        qfi,
    }
}

#[track_caller]
fn goes_up(target: &Target, packet: &UserPacket) {
    forwards(target, N3, &uplink(packet), N6, &packet.aged().bytes());
}

#[track_caller]
fn misses(target: &Target, packet: &UserPacket) {
    punts_of_session(target, N3, &uplink(packet), PuntReason::FlowMiss);
}

#[test]
fn a_flow_that_is_not_there_is_punted_and_one_that_is_takes_its_rule() {
    on_every_target(|target| {
        by_flow(target, ALL);
        misses(target, &uplink_packet());
        punts_of_session(target, N6, &downlink(&downlink_packet()), PuntReason::FlowMiss);
        target.insert([flow(EPOCH, true, false, usual_fields(0x80 | 9))]);
        goes_up(target, &uplink_packet());
        punts_of_session(target, N6, &downlink(&downlink_packet()), PuntReason::FlowMiss);
        target.insert([flow(EPOCH, false, false, usual_fields(0))]);
        let tunnelled = gnb_tunnel().around(&downlink_packet().aged().bytes());
        forwards(target, N6, &downlink(&downlink_packet()), N3, &tunnelled);
    });
}

#[test]
fn every_field_under_the_mask_tells_flows_apart() {
    on_every_target(|target| {
        by_flow(target, ALL);
        target.insert([flow(EPOCH, true, false, usual_fields(0x80 | 9))]);
        let others: [&dyn Fn(&mut UserPacket); 5] = [
            &|p| p.dst = v4("198.51.100.8").into(),
            &|p| p.src = v4("10.60.0.2").into(),
            &|p| p.transport = bmv2_tests::frame::Transport::Udp(4000, 54),
            &|p| p.transport = bmv2_tests::frame::Transport::Udp(4001, 53),
            &|p| p.tos = 0x20,
        ];
        for change in others {
            let mut packet = uplink_packet();
            change(&mut packet);
            misses(target, &packet);
        }
        let mut tcp = uplink_packet();
        tcp.transport = bmv2_tests::frame::Transport::Tcp(4000, 53);
        misses(target, &tcp);
        for tunnel in [
            n3_tunnel().qfi(8),
            Tunnel {
                container: None,
                ..n3_tunnel()
            },
        ] {
            let frame = from(N3, &tunnel.around(&uplink_packet().bytes()));
            punts_of_session(target, N3, &frame, PuntReason::FlowMiss);
        }
    });
}

#[test]
fn a_qfi_of_zero_is_not_the_absence_of_one() {
    on_every_target(|target| {
        by_flow(target, FlowFields { qfi: 0xff, ..NOTHING });
        target.insert([flow(EPOCH, true, false, FlowFields { qfi: 0x80, ..NOTHING })]);
        let inner = uplink_packet().bytes();
        let with_zero = from(N3, &n3_tunnel().qfi(0).around(&inner));
        forwards(target, N3, &with_zero, N6, &uplink_packet().aged().bytes());
        let without = from(
            N3,
            &Tunnel {
                container: None,
                ..n3_tunnel()
            }
            .around(&inner),
        );
        punts_of_session(target, N3, &without, PuntReason::FlowMiss);
    });
}

#[test]
fn bits_outside_the_mask_do_not_matter() {
    on_every_target(|target| {
        let mask = FlowFields {
            remote: 0xffff_ff00,
            remote_port: 0xfff0,
            protocol: 0xff,
            tos: 0xfc,
            ..NOTHING
        };
        by_flow(target, mask);
        let fields = FlowFields {
            remote: 0xc633_6400,
            remote_port: 48,
            protocol: 17,
            ..NOTHING
        };
        target.insert([flow(EPOCH, true, false, fields)]);
        for (dst, port, ue_port, tos) in [("198.51.100.7", 53, 4000, 0), ("198.51.100.255", 63, 1, 3)] {
            let mut packet = UserPacket::udp(UE, v4(dst), ue_port, port).tos(tos);
            packet.src = v4("10.60.99.99").into();
            goes_up(target, &packet);
        }
        misses(target, &UserPacket::udp(UE, v4("198.51.101.7"), 4000, 53));
        misses(target, &UserPacket::udp(UE, SERVER, 4000, 64));
        misses(target, &uplink_packet().tos(4));
    });
}

#[test]
fn under_an_empty_mask_one_entry_takes_all_of_a_family() {
    on_every_target(|target| {
        by_flow(target, NOTHING);
        target.insert([flow(EPOCH, true, false, NOTHING)]);
        goes_up(target, &uplink_packet());
        goes_up(target, &UserPacket::udp(UE, v4("192.0.2.1"), 1, 2));
        misses(target, &uplink_packet_v6());
        target.insert([flow(EPOCH, true, true, NOTHING)]);
        goes_up(target, &uplink_packet_v6());
    });
}

#[test]
fn ipv6_addresses_are_compared_in_full() {
    on_every_target(|target| {
        by_flow(target, ALL);
        let fields = |remote: std::net::Ipv6Addr| FlowFields {
            remote: remote.to_bits(),
            ue: UE_V6.to_bits(),
            ..usual_fields(0)
        };
        target.insert([flow(EPOCH, false, true, fields(SERVER_V6))]);
        let tunnelled = gnb_tunnel().around(&downlink_packet_v6().aged().bytes());
        forwards(target, N6, &downlink(&downlink_packet_v6()), N3, &tunnelled);
        let mut other = downlink_packet_v6();
        other.src = v6("2001:db8:0:7:8000::7").into();
        punts_of_session(target, N6, &downlink(&other), PuntReason::FlowMiss);
    });
}

#[test]
fn one_modify_to_a_new_epoch_makes_every_stale_flow_miss() {
    on_every_target(|target| {
        by_flow(target, ALL);
        target.insert([flow(EPOCH, true, false, usual_fields(0x80 | 9))]);
        goes_up(target, &uplink_packet());
        masked(target, ALL, EPOCH + 1);
        let frame = uplink(&uplink_packet());
        let out = punted(N3, &frame, PuntReason::FlowMiss, Some((SESSION, EPOCH + 1)));
        expect(target, N3, &frame, vec![out]);
        target.insert([flow(EPOCH + 1, true, false, usual_fields(0x80 | 9))]);
        goes_up(target, &uplink_packet());
    });
}

#[test]
fn a_packet_that_was_not_parsed_to_its_end_is_classified_by_the_host() {
    on_every_target(|target| {
        by_flow(
            target,
            FlowFields {
                protocol: 0xff,
                ..NOTHING
            },
        );
        target.insert([flow(
            EPOCH,
            true,
            false,
            FlowFields {
                protocol: 17,
                ..NOTHING
            },
        )]);
        goes_up(target, &uplink_packet());
        let with = |break_it: &dyn Fn(&mut Vec<u8>)| {
            let mut inner = uplink_packet().bytes();
            break_it(&mut inner);
            fill_ipv4_checksum(&mut inner);
            from(N3, &n3_tunnel().around(&inner))
        };
        let later_fragment = with(&|p| p[6..8].copy_from_slice(&[0, 100]));
        let options = with(&|p| {
            (p[0], p[3]) = (0x46, p[3] + 4);
            p.splice(20..20, [1, 1, 1, 0]);
        });
        let no_ports = with(&|p| {
            p[3] = 22;
            p.truncate(22);
        });
        for frame in [later_fragment, options, no_ports] {
            punts_of_session(target, N3, &frame, PuntReason::Unparsed);
        }
        let mut first_fragment = uplink_packet().bytes();
        first_fragment[6] = 0x20;
        fill_ipv4_checksum(&mut first_fragment);
        let mut sent = uplink_packet().aged().bytes();
        sent[6] = 0x20;
        fill_ipv4_checksum(&mut sent);
        forwards(target, N3, &from(N3, &n3_tunnel().around(&first_fragment)), N6, &sent);
    });
}

#[test]
fn ipv6_extension_headers_are_walked_by_the_host() {
    on_every_target(|target| {
        by_flow(target, NOTHING);
        target.insert([flow(EPOCH, true, true, NOTHING)]);
        for next_header in [0, 43, 44, 60, 135] {
            let mut packet = uplink_packet_v6();
            packet.transport = bmv2_tests::frame::Transport::Raw(next_header);
            packet.payload = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &packet.payload].concat();
            punts_of_session(target, N3, &uplink(&packet), PuntReason::Unparsed);
        }
        let mut without = uplink_packet_v6();
        without.transport = bmv2_tests::frame::Transport::Raw(59);
        goes_up(target, &without);
    });
}

#[test]
fn a_protocol_without_ports_has_ports_of_zero() {
    on_every_target(|target| {
        by_flow(target, ALL);
        let mut echo = uplink_packet();
        echo.transport = bmv2_tests::frame::Transport::IcmpEcho;
        misses(target, &echo);
        let fields = FlowFields {
            protocol: 1,
            remote_port: 0,
            ue_port: 0,
            ..usual_fields(0x80 | 9)
        };
        target.insert([flow(EPOCH, true, false, fields)]);
        goes_up(target, &echo);
    });
}

#[test]
fn what_becomes_of_a_flow_is_its_rules_to_say() {
    on_every_target(|target| {
        by_flow(
            target,
            FlowFields {
                remote_port: 0xffff,
                ..NOTHING
            },
        );
        target.insert([
            flow(
                EPOCH,
                true,
                false,
                FlowFields {
                    remote_port: 53,
                    ..NOTHING
                },
            ),
            Entry::Flow {
                session: SESSION,
                epoch: EPOCH,
                uplink: true,
                ipv6: false,
                fields: FlowFields {
                    remote_port: 80,
                    ..NOTHING
                },
                rule: 99,
            },
            Entry::Rule {
                rule: 99,
                does: bmv2_tests::entry::RuleAction::Forward(bmv2_tests::entry::Rule {
                    far: 99,
                    ..usual_uplink_rule()
                }),
            },
            Entry::Far {
                far: 99,
                does: FarAction::Plain {
                    instance: INTERNET,
                    mark: (0xb8, 0xfc),
                },
            },
        ]);
        goes_up(target, &uplink_packet());
        let web = UserPacket::udp(UE, SERVER, 4000, 80);
        forwards(target, N3, &uplink(&web), N6, &web.aged().tos(0xb8).bytes());
    });
}
