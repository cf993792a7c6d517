//! What meters and queues come to over time, exactly: on `p4-switch` with a clock that only the test moves.

use crate::scene::*;
use bmv2_tests::Target;
use bmv2_tests::entry::{Entry, Rule, RuleAction};
use bmv2_tests::frame::UserPacket;
use bmv2_tests::target::embedded::simulated;
use bmv2_tests::world::*;
use p4_switch::{PortRate, Switch};
use qos::BurstPolicy;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use upf_ctl::placement::rules::rates;
use upf_model::punt::ReinjectHeader;
use upf_model::{BitRates, Gate, Qer, QerId, Scheduling};

/// The usual session's uplink packets have this rule.
fn uplink_under(target: &Target, rule: Rule) {
    target.modify([Entry::Rule {
        rule: UP,
        does: RuleAction::Forward(rule),
    }]);
}

fn mbr(mbps: u64) -> Qer {
    Qer {
        id: QerId(1),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: Some(BitRates {
            uplink_kbps: mbps * 1_000,
            downlink_kbps: mbps * 1_000,
        }),
        gbr: None,
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    }
}

/// A session whose uplink has the rates that upf-ctl gives a QER of this MBR.
fn limited(mbps: u64) -> (Target, Arc<Switch>) {
    let (mut target, switch) = simulated(BTreeMap::new()).unwrap();
    target.reset();
    usual(&target);
    let rates = rates(&mbr(mbps), true, &BurstPolicy::default()).expect("it has an MBR");
    assert_eq!((rates.cir, rates.cburst), (rates.pir, rates.pburst));
    target.set_meter("flow_meters", [500], rates.pir as u32, rates.pburst as u32);
    uplink_under(
        &target,
        Rule {
            flow_meter: 500,
            ..usual_uplink_rule()
        },
    );
    (target, switch)
}

/// Frames that come one after another at `load` times the rate, the next one always being of the next length: which share
/// of their bytes has passed since the bucket was first empty (since the start if it never was), and how much of the rate
/// that was.
fn passed(mbps: u64, load: f64, payloads: &[usize]) -> (f64, f64) {
    let (_target, switch) = limited(mbps);
    let frames: Vec<Vec<u8>> = payloads
        .iter()
        .map(|&len| uplink(&uplink_packet().payload_len(len)))
        .collect();
    let byte_ns = 8e3 / (mbps as f64 * load);
    let (mut now_ns, mut clock_ns) = (0.0, 0u64);
    let (mut came, mut passed, mut since_ns) = (0, 0, None);
    let mut packets = 0;
    for frame in frames.iter().cycle() {
        now_ns += frame.len() as f64 * byte_ns;
        let step = now_ns as u64 - clock_ns;
        clock_ns += step;
        switch.advance(Duration::from_nanos(step));
        let out = switch.inject(u32::from(N3), frame);
        let passes = out.iter().any(|output| output.port == u32::from(N6));
        if since_ns.is_none() && (!passes || load < 1.0) {
            since_ns = Some(now_ns);
            continue;
        }
        if since_ns.is_none() {
            continue;
        }
        came += frame.len();
        passed += if passes { frame.len() } else { 0 };
        packets += 1;
        if packets == 5_000 {
            break;
        }
    }
    let seconds = (now_ns - since_ns.unwrap_or(0.0)) / 1e9;
    let share = passed as f64 / came as f64;
    (share, passed as f64 * 8e-6 / seconds / mbps as f64)
}

#[test]
fn an_mbr_of_frames_is_kept_within_a_per_cent_whatever_their_lengths() {
    let lengths = [&[1_300][..], &[64], &[100, 1_300, 400, 64, 1_000]];
    for mbps in [1, 10, 100, 1_000] {
        for lengths in lengths {
            let (share, _) = passed(mbps, 0.99, lengths);
            assert_eq!(share, 1.0, "{mbps} Mbit/s, {lengths:?}: nothing is lost below it");
            let (share, of_rate) = passed(mbps, 2.0, lengths);
            let off = |found: f64, wanted: f64| (found / wanted - 1.0).abs();
            assert!(
                off(share, 0.5) < 0.01 && off(of_rate, 1.0) < 0.01,
                "{mbps} Mbit/s, {lengths:?}: {share} of twice the rate passes, {of_rate} of the rate"
            );
        }
    }
}

/// Rates of the target count frames; a user's share is smaller by what is around the packets.
#[test]
fn an_mbr_leaves_the_user_what_the_headers_do_not_take() {
    let user = |payload: usize| (payload + 28) as f64;
    for payload in [64, 400, 1_300] {
        let (_, of_rate) = passed(10, 2.0, &[payload]);
        let frame = user(payload) + f64::from(UPLINK_OVERHEAD);
        let users = of_rate * user(payload) / frame;
        let expected = 1.0 - f64::from(UPLINK_OVERHEAD) / frame;
        assert!(
            (users / expected - 1.0).abs() < 0.01,
            "{payload} bytes: {users} of the MBR"
        );
    }
}

// --- queues -------------------------------------------------------------------------------------------------------

/// Mbit/s of N6.
const RATE: u64 = 100;
/// Bytes of a frame on the wire, and its time.
const FRAME: usize = 1_514;
const FRAME_NS: u64 = (FRAME as u64 + 24) * 8_000 / RATE;
const STEP_NS: u64 = 1_000;

/// The usual session, its uplink in this queue, and N6 at [`RATE`].
fn slow_port(queue: u8) -> (Target, Arc<Switch>) {
    let rate = PortRate {
        bits_per_second: RATE * 1_000_000,
        burst_ns: 0,
    };
    let (mut target, switch) = simulated(BTreeMap::from([(N6.into(), rate)])).unwrap();
    target.reset();
    usual(&target);
    uplink_under(
        &target,
        Rule {
            queue,
            ..usual_uplink_rule()
        },
    );
    (target, switch)
}

/// A packet of the user's that leaves in a frame of [`FRAME`] bytes, told apart by its port.
fn numbered(number: u16) -> Vec<u8> {
    let packet = UserPacket::udp(UE, SERVER, number, 53).payload_len(FRAME - 14 - 28);
    uplink(&packet)
}

/// Half a second of a flow of 250 packets in a queue, and beside it so many times what N6 sends from the host, in queue 0.
/// Delay of each packet of the flow that has left, its own time on the wire included, ascending; and how much of the port's
/// rate was used in all.
fn delays(queue: u8, load: f64) -> (Vec<u64>, f64) {
    const EVERY_NS: u64 = 1_970_000;
    const END_NS: u64 = 250 * EVERY_NS;
    let (_target, switch) = slow_port(queue);
    let header = ReinjectHeader {
        egress_port: N6,
        queue: 0,
    };
    let other = [&header.to_bytes()[..], &to(N6, &[0; FRAME - 14])].concat();
    let other_ns = if load > 0.0 {
        (FRAME_NS as f64 / load) as u64
    } else {
        u64::MAX
    };
    let (mut next, mut next_other) = (0, other_ns);
    let (mut came, mut delays, mut bytes) = (HashMap::new(), Vec::new(), 0);
    for now_ns in (0..END_NS).step_by(STEP_NS as usize) {
        let mut out = switch.advance(Duration::from_nanos(STEP_NS));
        if now_ns >= next {
            let number = 1_000 + came.len() as u16;
            came.insert(number, now_ns);
            out.extend(switch.inject(u32::from(N3), &numbered(number)));
            next += EVERY_NS;
        }
        if now_ns >= next_other {
            out.extend(switch.inject(u32::from(HOST), &other));
            next_other += other_ns;
        }
        for output in out {
            assert_eq!((output.port, output.bytes.len()), (u32::from(N6), FRAME));
            bytes += FRAME as u64 + 24;
            let number = u16::from_be_bytes([output.bytes[34], output.bytes[35]]);
            if let Some(at) = came.get(&number) {
                delays.push(now_ns - at + FRAME_NS);
            }
        }
    }
    delays.sort_unstable();
    (delays, bytes as f64 * 8e3 / RATE as f64 / END_NS as f64)
}

fn p99(delays: &[u64]) -> u64 {
    delays[delays.len() * 99 / 100]
}

#[test]
fn a_priority_flow_keeps_its_delay_while_the_port_is_overloaded_twice() {
    let (unloaded, _) = delays(6, 0.0);
    assert_eq!(unloaded.len(), 250);
    assert!(p99(&unloaded) <= FRAME_NS + STEP_NS, "{}", p99(&unloaded));

    let (loaded, used) = delays(6, 2.0);
    assert_eq!(loaded.len(), 250, "none is lost");
    assert!(
        p99(&loaded) <= 2 * p99(&unloaded) + STEP_NS,
        "{} ns, unloaded {} ns",
        p99(&loaded),
        p99(&unloaded)
    );
    assert!((used - 1.0).abs() < 0.01, "{used} of the port's rate is used");

    let (among_others, _) = delays(0, 2.0);
    assert!(
        p99(&among_others) > 10 * p99(&unloaded),
        "without priority it waits or is lost"
    );
}
