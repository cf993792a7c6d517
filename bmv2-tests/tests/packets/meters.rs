//! `meters.p4`: policing, and counting so that usage is exact.

use crate::scene::*;
use bmv2_tests::entry::{Entry, FarAction, Rule, RuleAction};
use bmv2_tests::frame::{Tunnel, UserPacket, padded};
use bmv2_tests::target::Count;
use bmv2_tests::world::*;
use bmv2_tests::{Target, on_every_target};
use std::time::{Duration, Instant};
use upf_model::punt::PuntReason;

/// What the controller makes of a cell: packets, and octets of users' IP packets.
fn usage(target: &Target, cell: u32, usual_overhead: u8) -> (i64, i64) {
    let passed = target.counter("passed", cell);
    let odd = target.counter("odd", cell).packets;
    let mut around = (passed.packets - odd) * i64::from(usual_overhead);
    for bit in 0..8 {
        around += target.counter("odd_overhead", cell * 8 + bit).packets << bit;
    }
    (passed.packets, passed.bytes - around)
}

fn octets(packet: &UserPacket) -> i64 {
    packet.bytes().len() as i64
}

#[test]
fn usage_is_exact_whatever_is_around_the_users_packets() {
    on_every_target(|target| {
        usual(target);
        let (up_before, down_before) = (
            usage(target, UP, UPLINK_OVERHEAD),
            usage(target, DOWN, DOWNLINK_OVERHEAD),
        );
        let (small, large) = (uplink_packet().payload_len(0), uplink_packet().payload_len(1_000));
        let inner = large.bytes();
        let v6 = Tunnel::new(GNB_V6, UPF_N3_V6, UPLINK_TEID);
        let mut trailing = inner.clone();
        trailing.extend([0; 100]);
        let up = [
            uplink(&large),
            uplink(&small),
            from(
                N3,
                &Tunnel {
                    container: None,
                    ..n3_tunnel()
                }
                .around(&inner),
            ),
            from(N3, &v6.around(&inner)),
            from(N3, &v6.qfi(1).around(&inner)),
            from(N3, &n3_tunnel().around(&trailing)),
        ];
        let down = [small.bytes(), large.bytes()].map(|mut packet| {
            packet[12..20].rotate_left(4);
            packet
        });
        let down = [padded(from(N6, &down[0]), 0), from(N6, &down[1])];
        let up_octets = 5 * octets(&large) + octets(&small);
        let down_octets = octets(&large) + octets(&small);
        let frames: Vec<_> = up.into_iter().map(|f| (N3, f)).chain(down.map(|f| (N6, f))).collect();
        assert_eq!(target.exchange(&frames).len(), frames.len(), "{}", target.name);
        let (up, down) = (
            usage(target, UP, UPLINK_OVERHEAD),
            usage(target, DOWN, DOWNLINK_OVERHEAD),
        );
        assert_eq!(
            (up.0 - up_before.0, up.1 - up_before.1),
            (6, up_octets),
            "{}: uplink",
            target.name
        );
        assert_eq!(
            (down.0 - down_before.0, down.1 - down_before.1),
            (2, down_octets),
            "{}: downlink",
            target.name
        );
    });
}

#[test]
fn what_is_punted_is_not_counted_here_the_host_does() {
    on_every_target(|target| {
        usual(target);
        let counters = |target: &Target| (target.counter("passed", UP), target.counter("dropped", UP));
        let before = counters(target);
        punts_of_session(target, N3, &uplink(&uplink_packet().hop_limit(1)), PuntReason::HopLimit);
        target.modify([Entry::Far {
            far: UP,
            does: FarAction::Buffer,
        }]);
        punts_of_session(target, N3, &uplink(&uplink_packet()), PuntReason::Buffer);
        assert_eq!(counters(target), before, "{}", target.name);
    });
}

#[test]
fn what_is_dropped_is_counted_under_its_rule() {
    on_every_target(|target| {
        usual(target);
        let frame = uplink(&uplink_packet());
        let one = Count {
            packets: 1,
            bytes: frame.len() as i64,
        };
        let dropped = |target: &Target| {
            let before = (target.counter("passed", UP), target.counter("dropped", UP));
            assert_eq!(
                target.send(N3, &frame).len(),
                1,
                "{}: punted, that we see why",
                target.name
            );
            let after = (target.counter("passed", UP), target.counter("dropped", UP));
            assert_eq!(
                (after.0 - before.0, after.1 - before.1),
                (Count::default(), one),
                "{}",
                target.name
            );
        };
        target.modify([Entry::Far {
            far: UP,
            does: FarAction::Drop,
        }]);
        dropped(target);
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::GateClosed { cell: UP },
        }]);
        dropped(target);
    });
}

/// Frames of 1,000 bytes.
fn kilobyte() -> Vec<u8> {
    let frame = uplink(&uplink_packet().payload_len(914));
    assert_eq!(frame.len(), 1_000);
    frame
}

/// Which of `n` frames pass; the others must have been policed.
fn pass(target: &Target, n: usize) -> usize {
    let out = target.exchange(&vec![(N3, kilobyte()); n]);
    let policed = punted(N3, &kilobyte(), PuntReason::Policed, Some((SESSION, EPOCH)));
    let passed = out.iter().filter(|(port, _)| *port == N6).count();
    let dropped = out.iter().filter(|o| **o == policed).count();
    assert_eq!(passed + dropped, n, "{}", target.name);
    passed
}

#[test]
fn a_flow_over_its_rate_is_policed() {
    on_every_target(|target| {
        usual(target);
        let rule = Rule {
            flow_meter: 500,
            ..usual_uplink_rule()
        };
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(rule),
        }]);
        assert_eq!(pass(target, 20), 20, "{}: a meter without rates is green", target.name);
        target.set_meter("flow_meters", [500], 1, 5_500);
        let dropped = target.counter("dropped", UP);
        assert_eq!(pass(target, 20), 5, "{}", target.name);
        let expected = Count {
            packets: 15,
            bytes: 15_000,
        };
        assert_eq!(target.counter("dropped", UP) - dropped, expected, "{}", target.name);
        forwards(
            target,
            N6,
            &downlink(&downlink_packet()),
            N3,
            &gnb_tunnel().around(&downlink_packet().aged().bytes()),
        );
    });
}

/// Wherever time is real: what passes between two moments at which the bucket is empty is the rate's, however slow or
/// uneven the target and this machine are. The moments are known as well as an exchange lasts.
#[test]
fn a_rate_in_real_time_is_kept_within_a_per_cent() {
    const SPAN: Duration = Duration::from_millis(2_500);
    on_every_target(|target| {
        for (cell, mbps) in [(510, 1), (511, 10)] {
            usual(target);
            let rule = Rule {
                flow_meter: cell,
                ..usual_uplink_rule()
            };
            target.modify([Entry::Rule {
                rule: UP,
                does: RuleAction::Forward(rule),
            }]);
            // Deep enough that it does not overflow while a machine is busy with something else.
            let rate = mbps * 125_000;
            target.set_meter("flow_meters", [cell], rate, rate);
            let exchange = |target: &Target| {
                let before = Instant::now();
                let passed = pass(target, 16);
                (before, passed, Instant::now())
            };
            let emptied = std::iter::repeat_with(|| exchange(target)).find(|(_, passed, _)| *passed < 16);
            let (first_before, _, first_after) = emptied.expect("no bucket lasts for ever");
            let mut bytes = 0;
            let (last_before, last_after) = loop {
                let (before, passed, after) = exchange(target);
                bytes += passed * 1_000;
                if passed < 16 && before - first_after >= SPAN {
                    break (before, after);
                }
            };
            let at_rate = |time: Duration| time.as_secs_f64() * f64::from(rate);
            let (least, most) = (at_rate(last_before - first_after), at_rate(last_after - first_before));
            let bytes = bytes as f64;
            // A frame is in or out at either end.
            assert!(
                0.99 * least - 1_000.0 <= bytes && bytes <= 1.01 * most + 1_000.0,
                "{}: {bytes} bytes at {mbps} Mbit/s, of {least} to {most}",
                target.name
            );
            println!("{}: {:.4} of {mbps} Mbit/s", target.name, bytes / least);
            target.reset();
        }
    });
}

#[test]
fn all_rules_of_a_session_share_its_meter() {
    on_every_target(|target| {
        usual(target);
        for (rule, does) in [(UP, usual_uplink_rule()), (DOWN, usual_downlink_rule())] {
            let does = RuleAction::Forward(Rule {
                session_meter: 501,
                ..does
            });
            target.modify([Entry::Rule { rule, does }]);
        }
        target.set_meter("session_meters", [501], 1, 5_600);
        assert_eq!(pass(target, 3), 3, "{}", target.name);
        let down = downlink(&downlink_packet().payload_len(2_500 - 42).hop_limit(64));
        target.modify([Entry::NextHop {
            hop: hop(N3),
            port: N3,
            dst: peer_mac(N3),
            src: our_mac(N3),
            vlan: 0,
            mtu: 9_000,
        }]);
        assert_eq!(down.len(), 2_500);
        assert_eq!(target.send(N6, &down)[0].0, N3, "{}", target.name);
        assert_eq!(pass(target, 3), 0, "{}", target.name);
    });
}

#[test]
fn a_packet_that_is_punted_spends_no_tokens() {
    on_every_target(|target| {
        usual(target);
        let rule = Rule {
            flow_meter: 502,
            session_meter: 502,
            ..usual_uplink_rule()
        };
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(rule),
        }]);
        target.set_meter("flow_meters", [502], 1, 3_500);
        target.set_meter("session_meters", [502], 1, 3_500);
        let expired = uplink(&uplink_packet().payload_len(914).hop_limit(1));
        for _ in 0..10 {
            punts_of_session(target, N3, &expired, PuntReason::HopLimit);
        }
        let too_long = uplink(&uplink_packet().payload_len(1_600));
        punts_of_session(target, N3, &too_long, PuntReason::Mtu);
        assert_eq!(pass(target, 5), 3, "{}", target.name);
    });
}

#[test]
fn what_the_flows_meter_drops_spends_none_of_the_sessions() {
    on_every_target(|target| {
        usual(target);
        let rule = Rule {
            flow_meter: 503,
            session_meter: 503,
            ..usual_uplink_rule()
        };
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(rule),
        }]);
        target.set_meter("flow_meters", [503], 1, 2_500);
        target.set_meter("session_meters", [503], 1, 4_500);
        assert_eq!(pass(target, 10), 2, "{}", target.name);
        let without = Rule { flow_meter: 0, ..rule };
        target.modify([Entry::Rule {
            rule: UP,
            does: RuleAction::Forward(without),
        }]);
        assert_eq!(pass(target, 10), 2, "{}", target.name);
    });
}
