//! `punt.p4`: the way to the host and back.

use crate::scene::*;
use bmv2_tests::entry::{Entry, ReasonAction};
use bmv2_tests::frame::{Tunnel, UserPacket, v4};
use bmv2_tests::target::Count;
use bmv2_tests::world::*;
use bmv2_tests::{Target, on_every_target};
use upf_model::punt::{PuntReason, ReinjectHeader};

fn reason(reason: PuntReason, does: ReasonAction) -> Entry {
    Entry::Reason { reason, does }
}

fn limited(limit_users: bool, limit: Option<(u32, u32)>) -> ReasonAction {
    ReasonAction::Punt {
        port: HOST,
        limit_users,
        limit,
    }
}

#[test]
fn a_punted_frame_says_why_where_and_whose() {
    on_every_target(|target| {
        usual(target);
        let unknown = from(N9, &Tunnel::new(OTHER_UPF, UPF_N9, 5).around(&uplink_packet().bytes()));
        let found = target.send(N9, &unknown);
        let header = [
            0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5, // to the host
            1, 10, 0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, // unknown_teid, from port 3, of no session
        ];
        assert_eq!(found, vec![(HOST, [&header[..], &unknown].concat())], "{}", target.name);
        let expired = uplink(&uplink_packet().hop_limit(1));
        let found = target.send(N3, &expired);
        assert_eq!(
            found[0].1[14..26],
            [1, 23, 0, 1, 0, 0, 0, 7, 0, 0, 0, 3],
            "{}",
            target.name
        );
    });
}

#[test]
fn a_reason_that_is_discarded_or_not_configured_is_dropped() {
    on_every_target(|target| {
        usual(target);
        let unknown = from(N3, &Tunnel::new(GNB, UPF_N3, 5).around(&uplink_packet().bytes()));
        punts(target, N3, &unknown, PuntReason::UnknownTeid);
        target.modify([reason(PuntReason::UnknownTeid, ReasonAction::Discard)]);
        drops(target, N3, &unknown);
        target.delete([reason(PuntReason::UnknownTeid, ReasonAction::Discard)]);
        drops(target, N3, &unknown);
    });
}

#[test]
fn every_packet_off_the_fast_path_is_counted_under_its_reason() {
    on_every_target(|target| {
        usual(target);
        let frame = from(N3, &Tunnel::new(GNB, UPF_N3, 5).around(&uplink_packet().bytes()));
        for does in [to_host(), ReasonAction::Discard] {
            let entry = reason(PuntReason::UnknownTeid, does);
            target.modify([entry.clone()]);
            let before = target.direct_counter(&entry);
            target.exchange(&vec![(N3, frame.clone()); 3]);
            let expected = Count {
                packets: 3,
                bytes: 3 * frame.len() as i64,
            };
            assert_eq!(
                target.direct_counter(&entry) - before,
                expected,
                "{}: {does:?}",
                target.name
            );
        }
    });
}

#[test]
fn a_flood_of_one_reason_is_cut_short_and_starves_no_other() {
    on_every_target(|target| {
        usual(target);
        let entry = reason(PuntReason::UnknownTeid, limited(false, Some((1, 5))));
        target.modify([entry.clone()]);
        let flood = |n: u32| -> Vec<_> {
            let tunnel = |i| Tunnel::new(GNB, UPF_N3, 1_000 + i).around(&uplink_packet().bytes());
            (0..n).map(|i| (N3, from(N3, &tunnel(i)))).collect()
        };
        let limited = u32::from(PuntReason::UnknownTeid as u8);
        let before = target.counter("limited", limited);
        let out = target.exchange(&flood(20u32));
        assert_eq!(out.len(), 5, "{}", target.name);
        assert_eq!(
            (target.counter("limited", limited) - before).packets,
            15,
            "{}",
            target.name
        );
        let mut unknown = downlink_packet();
        unknown.dst = v4("10.60.0.2").into();
        punts(target, N6, &downlink(&unknown), PuntReason::UnknownUe);
    });
}

#[test]
fn a_flood_of_one_user_is_cut_short_and_starves_no_other() {
    on_every_target(|target| {
        usual(target);
        target.modify([reason(PuntReason::UnknownUe, limited(true, None))]);
        target.set_meter("punt_users", 0..4_096, 1, 5);
        let of_user = |last: u8, n| {
            let packet = UserPacket::udp(SERVER, v4("10.60.1.0"), 53, 4000);
            let dst = std::net::Ipv4Addr::new(10, 60, 1, last);
            vec![
                (
                    N6,
                    downlink(&UserPacket {
                        dst: dst.into(),
                        ..packet
                    })
                );
                n
            ]
        };
        assert_eq!(
            target.exchange(&of_user(1, 20)).len(),
            5,
            "{}: the flooder",
            target.name
        );
        // Two users share a meter in 1 of 4,096 cases; of eight at least seven do not.
        let others = (2..10)
            .filter(|&user| target.exchange(&of_user(user, 3)).len() == 3)
            .count();
        assert!(others >= 7, "{}: {others} of 8 others passed", target.name);
    });
}

fn reinjected(egress_port: u16, frame: &[u8]) -> Vec<u8> {
    [&ReinjectHeader { egress_port, queue: 3 }.to_bytes()[..], frame].concat()
}

#[test]
fn the_host_sends_through_any_port() {
    on_every_target(|target| {
        usual(target);
        let frame = to(N6, &uplink_packet().bytes());
        for port in [N3, N6, N9, HOST] {
            expect(target, HOST, &reinjected(port, &frame), vec![(port, frame.clone())]);
        }
        let short = &frame[..20];
        expect(target, HOST, &reinjected(N6, short), vec![(N6, short.to_vec())]);
        let long = vec![0x5a; 1_600];
        expect(target, HOST, &reinjected(N6, &long), vec![(N6, long.clone())]);
    });
}

#[test]
fn nobody_but_the_host_may_reinject() {
    on_every_target(|target| {
        usual(target);
        let frame = to(N6, &uplink_packet().bytes());
        let forged = reason(PuntReason::Forged, ReasonAction::Discard);
        target.insert([forged.clone()]);
        let before = target.direct_counter(&forged);
        for port in [N3, N6, N9] {
            drops(target, port, &reinjected(N6, &frame));
        }
        assert_eq!((target.direct_counter(&forged) - before).packets, 3, "{}", target.name);
    });
}

#[test]
fn a_reinject_header_that_makes_no_sense_is_dropped() {
    on_every_target(|target| {
        usual(target);
        let bad = reason(PuntReason::BadReinject, ReasonAction::Discard);
        target.insert([bad.clone()]);
        let before = target.direct_counter(&bad);
        let frame = to(N6, &uplink_packet().bytes());
        let mut other_version = reinjected(N6, &frame);
        other_version[14] = 2;
        let cut_short = &reinjected(N6, &[])[..17];
        for frame in [
            other_version.as_slice(),
            cut_short,
            &reinjected(511, &frame),
            &reinjected(0x200, &frame),
        ] {
            drops(target, HOST, frame);
        }
        assert_eq!((target.direct_counter(&bad) - before).packets, 4, "{}", target.name);
    });
}

#[test]
fn the_host_port_itself_is_no_station() {
    on_every_target(|target| {
        usual(target);
        punts(target, HOST, &uplink(&uplink_packet()), PuntReason::NotOurs);
    });
}

#[test]
fn what_the_target_drops_by_itself_never_reaches_the_host() {
    on_every_target(|target: &mut Target| {
        usual(target);
        let drops_itself = PuntReason::ALL.iter().filter(|reason| reason.is_drop());
        let already = |reason: &PuntReason| {
            matches!(
                reason,
                PuntReason::Forged | PuntReason::BadReinject | PuntReason::Limited
            )
        };
        for &why in drops_itself.filter(|reason| !already(reason)) {
            target.modify([reason(why, ReasonAction::Discard)]);
        }
        let mut not_ours = uplink(&uplink_packet());
        not_ours[5] ^= 1;
        drops(target, N3, &not_ours);
        let closed = bmv2_tests::entry::RuleAction::GateClosed { cell: UP };
        target.modify([Entry::Rule { rule: UP, does: closed }]);
        drops(target, N3, &uplink(&uplink_packet()));
    });
}
