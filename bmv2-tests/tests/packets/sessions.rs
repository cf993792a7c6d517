//! `sessions.p4`: whose packet is it, and may it come from there.

use crate::scene::*;
use bmv2_tests::entry::{Entry, Session, Sources};
use bmv2_tests::frame::{Tunnel, UserPacket, v4, v6};
use bmv2_tests::world::*;
use bmv2_tests::{Target, on_every_target};
use std::net::IpAddr;
use upf_model::punt::PuntReason;

#[test]
fn a_packet_of_a_direct_session_takes_its_one_rule() {
    on_every_target(|target| {
        usual(target);
        forwards(
            target,
            N3,
            &uplink(&uplink_packet()),
            N6,
            &uplink_packet().aged().bytes(),
        );
        forwards(
            target,
            N3,
            &uplink(&uplink_packet_v6()),
            N6,
            &uplink_packet_v6().aged().bytes(),
        );
        let tunnelled = |packet: UserPacket| gnb_tunnel().around(&packet.aged().bytes());
        forwards(
            target,
            N6,
            &downlink(&downlink_packet()),
            N3,
            &tunnelled(downlink_packet()),
        );
        forwards(
            target,
            N6,
            &downlink(&downlink_packet_v6()),
            N3,
            &tunnelled(downlink_packet_v6()),
        );
    });
}

#[test]
fn an_uplink_packet_of_unknown_teid_is_punted_with_its_reason() {
    on_every_target(|target| {
        usual(target);
        let inner = uplink_packet().bytes();
        let unknown = Tunnel::new(GNB, UPF_N3, UPLINK_TEID + 1).qfi(9);
        punts(target, N3, &from(N3, &unknown.around(&inner)), PuntReason::UnknownTeid);
        let known_elsewhere = Tunnel::new(OTHER_UPF, UPF_N9, UPLINK_TEID);
        punts(
            target,
            N9,
            &from(N9, &known_elsewhere.around(&inner)),
            PuntReason::UnknownTeid,
        );
    });
}

#[test]
fn a_downlink_packet_of_unknown_address_is_punted_with_its_reason() {
    on_every_target(|target| {
        usual(target);
        let mut packet = downlink_packet();
        packet.dst = v4("10.60.0.2").into();
        punts(target, N6, &downlink(&packet), PuntReason::UnknownUe);
        let mut packet = downlink_packet_v6();
        packet.dst = v6("fd60:0:0:2::1234").into();
        punts(target, N6, &downlink(&packet), PuntReason::UnknownUe);
    });
}

#[test]
fn a_user_is_known_only_in_his_network_instance() {
    on_every_target(|target| {
        usual(target);
        let frame = from(N3, &downlink_packet().bytes());
        punts(target, N3, &frame, PuntReason::UnknownUe);
    });
}

#[test]
fn any_address_of_a_users_prefix_is_his() {
    on_every_target(|target| {
        usual(target);
        let mut packet = downlink_packet_v6();
        packet.dst = v6("fd60:0:0:1:ffff::1").into();
        forwards(
            target,
            N6,
            &downlink(&packet),
            N3,
            &gnb_tunnel().around(&packet.aged().bytes()),
        );
        let mut packet = uplink_packet_v6();
        packet.src = v6("fd60:0:0:1:ffff::1").into();
        forwards(target, N3, &uplink(&packet), N6, &packet.aged().bytes());
    });
}

#[test]
fn a_session_at_the_host_is_punted_with_its_number_and_epoch() {
    on_every_target(|target| {
        usual(target);
        let on_host = Session::OnHost {
            session: SESSION,
            epoch: EPOCH,
        };
        target.modify([
            Entry::UplinkSession {
                endpoint: ENDPOINT_V4,
                teid: UPLINK_TEID,
                sources: Sources::Any,
                session: on_host,
            },
            Entry::DownlinkSession {
                instance: INTERNET,
                ue: UE.into(),
                session: on_host,
            },
            Entry::DownlinkSession {
                instance: INTERNET,
                ue: UE_V6.into(),
                session: on_host,
            },
        ]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::HostSession);
        punts_of_session(target, N6, &downlink(&downlink_packet()), PuntReason::HostSession);
        punts_of_session(target, N6, &downlink(&downlink_packet_v6()), PuntReason::HostSession);
    });
}

#[test]
fn a_foreign_source_address_is_punted_as_spoofed() {
    on_every_target(|target| {
        usual(target);
        for source in ["10.60.0.2", "10.60.0.0", "198.51.100.7"] {
            let mut packet = uplink_packet();
            packet.src = v4(source).into();
            punts_of_session(target, N3, &uplink(&packet), PuntReason::Spoofed);
        }
        for source in ["fd60:0:0:2::1234", "::ffff:10.60.0.1", "2001:db8::1"] {
            let mut packet = uplink_packet_v6();
            packet.src = v6(source).into();
            punts_of_session(target, N3, &uplink(&packet), PuntReason::Spoofed);
        }
    });
}

#[test]
fn a_session_of_one_family_accepts_no_source_of_the_other() {
    on_every_target(|target| {
        usual(target);
        sources(target, Sources::Only(Some(UE), None));
        forwards(
            target,
            N3,
            &uplink(&uplink_packet()),
            N6,
            &uplink_packet().aged().bytes(),
        );
        punts_of_session(target, N3, &uplink(&uplink_packet_v6()), PuntReason::Spoofed);
        sources(target, Sources::Only(None, Some(UE_V6)));
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::Spoofed);
        forwards(
            target,
            N3,
            &uplink(&uplink_packet_v6()),
            N6,
            &uplink_packet_v6().aged().bytes(),
        );
        sources(target, Sources::Only(None, None));
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::Spoofed);
    });
}

#[test]
fn a_session_that_names_no_address_accepts_all() {
    on_every_target(|target| {
        usual(target);
        sources(target, Sources::Any);
        for source in [IpAddr::from(v4("192.0.2.99")), v6("2001:db8::9").into()] {
            let mut packet = if source.is_ipv4() {
                uplink_packet()
            } else {
                uplink_packet_v6()
            };
            packet.src = source;
            forwards(target, N3, &uplink(&packet), N6, &packet.aged().bytes());
        }
    });
}

fn sources(target: &Target, sources: Sources) {
    let session = Session::Direct {
        session: SESSION,
        epoch: EPOCH,
        rule: UP,
    };
    target.modify([Entry::UplinkSession {
        endpoint: ENDPOINT_V4,
        teid: UPLINK_TEID,
        sources,
        session,
    }]);
}
