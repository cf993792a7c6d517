//! What a QER does to packets: gates, MBR, GBR, session AMBR, bursts.

use qos::{BurstPolicy, Decision, Direction, QerMeter, enforce};
use upf_model::{BitRates, Gate, Qer, QerId};

const BURST: BurstPolicy = BurstPolicy {
    milliseconds: 10,
    at_least_bytes: 3000,
};
const PASS: Decision = Decision::Pass { above_gbr: false };

fn qer(mbr: Option<(u64, u64)>, gbr: Option<(u64, u64)>) -> Qer {
    let rates = |(uplink_kbps, downlink_kbps)| BitRates {
        uplink_kbps,
        downlink_kbps,
    };
    Qer {
        id: QerId(7),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: mbr.map(rates),
        gbr: gbr.map(rates),
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: upf_model::Scheduling::default(),
    }
}

fn bytes_passed_at_once(meter: &QerMeter, direction: Direction) -> u32 {
    (0..10_000)
        .filter(|_| matches!(enforce(0, 500, direction, &[meter]), Decision::Pass { .. }))
        .count() as u32
        * 500
}

#[test]
fn a_closed_gate_drops_its_direction_only() {
    let meter = QerMeter::new(
        &Qer {
            gate_uplink: Gate::Closed,
            ..qer(None, None)
        },
        &BURST,
        0,
    );
    assert_eq!(
        enforce(0, 100, Direction::Uplink, &[&meter]),
        Decision::Gated { qer: 0 }
    );
    assert_eq!(enforce(0, 100, Direction::Downlink, &[&meter]), PASS);
}

#[test]
fn a_qer_without_mbr_does_not_police() {
    let meter = QerMeter::new(&qer(None, Some((1, 1))), &BURST, 0);
    assert_eq!(bytes_passed_at_once(&meter, Direction::Uplink), 5_000_000);
}

#[test]
fn an_mbr_of_zero_drops_everything() {
    let meter = QerMeter::new(&qer(Some((0, 1000)), None), &BURST, 0);
    assert_eq!(bytes_passed_at_once(&meter, Direction::Uplink), 0);
    assert_eq!(bytes_passed_at_once(&meter, Direction::Downlink), 3000);
}

#[test]
fn uplink_and_downlink_have_their_own_rates_and_tokens() {
    let meter = QerMeter::new(&qer(Some((8_000, 80_000)), None), &BURST, 0);
    assert_eq!(bytes_passed_at_once(&meter, Direction::Uplink), 10_000);
    assert_eq!(bytes_passed_at_once(&meter, Direction::Downlink), 100_000);
}

#[test]
fn between_gbr_and_mbr_packets_pass_but_are_known_to_be_above_the_gbr() {
    let meter = QerMeter::new(&qer(Some((16_000, 16_000)), Some((8_000, 8_000))), &BURST, 0);
    let decisions: Vec<_> = (0..5).map(|_| enforce(0, 5000, Direction::Uplink, &[&meter])).collect();
    let above = Decision::Pass { above_gbr: true };
    assert_eq!(decisions, [PASS, PASS, above, above, Decision::Policed { qer: 0 }]);
}

#[test]
fn a_gbr_above_the_mbr_is_bounded_by_the_mbr() {
    let meter = QerMeter::new(&qer(Some((8_000, 8_000)), Some((16_000, 16_000))), &BURST, 0);
    assert_eq!(enforce(0, 10_000, Direction::Uplink, &[&meter]), PASS);
    assert_eq!(
        enforce(0, 500, Direction::Uplink, &[&meter]),
        Decision::Policed { qer: 0 }
    );
}

#[test]
fn the_qer_that_polices_is_named_by_its_place_among_all_of_the_pdr() {
    let unlimited = QerMeter::new(&qer(None, None), &BURST, 0);
    let flow = QerMeter::new(&qer(Some((80_000, 80_000)), None), &BURST, 0);
    let session = QerMeter::new(&qer(Some((8_000, 8_000)), None), &BURST, 0);
    let qers = [&unlimited, &flow, &session];
    assert_eq!(enforce(0, 10_000, Direction::Uplink, &qers), PASS);
    assert_eq!(
        enforce(0, 10_000, Direction::Uplink, &qers),
        Decision::Policed { qer: 2 }
    );
    // And the flow was not charged for it.
    assert_eq!(enforce(0, 90_000, Direction::Uplink, &[&flow]), PASS);
}

#[test]
fn a_closed_gate_of_any_qer_charges_no_meter_of_the_others() {
    let flow = QerMeter::new(&qer(Some((8_000, 8_000)), None), &BURST, 0);
    let closed = QerMeter::new(
        &Qer {
            gate_downlink: Gate::Closed,
            ..qer(None, None)
        },
        &BURST,
        0,
    );
    assert_eq!(
        enforce(0, 10_000, Direction::Downlink, &[&flow, &closed]),
        Decision::Gated { qer: 1 }
    );
    assert_eq!(enforce(0, 10_000, Direction::Downlink, &[&flow]), PASS);
}

#[test]
fn the_averaging_window_bounds_the_burst_from_above() {
    let narrow = Qer {
        averaging_window_ms: Some(5),
        ..qer(Some((80_000, 80_000)), None)
    };
    assert_eq!(
        bytes_passed_at_once(&QerMeter::new(&narrow, &BURST, 0), Direction::Uplink),
        50_000
    );
    let wide = Qer {
        averaging_window_ms: Some(2000),
        ..narrow
    };
    assert_eq!(
        bytes_passed_at_once(&QerMeter::new(&wide, &BURST, 0), Direction::Uplink),
        100_000
    );
}

#[test]
fn an_updated_qer_keeps_the_debt_of_the_one_it_replaces() {
    let old = QerMeter::new(&qer(Some((8_000, 8_000)), None), &BURST, 0);
    assert_eq!(bytes_passed_at_once(&old, Direction::Uplink), 10_000);
    let new = QerMeter::replacing(&qer(Some((16_000, 16_000)), None), &BURST, &old, 0);
    assert_eq!(bytes_passed_at_once(&new, Direction::Uplink), 10_000);
    assert_eq!(bytes_passed_at_once(&new, Direction::Downlink), 20_000);
}

#[test]
fn rates_at_the_limit_of_the_encoding_do_not_overflow() {
    let meter = QerMeter::new(
        &qer(Some((u64::MAX, (1 << 40) - 1)), Some((u64::MAX, 1))),
        &BURST,
        u64::MAX,
    );
    assert!(matches!(
        enforce(u64::MAX, 1500, Direction::Uplink, &[&meter]),
        Decision::Pass { .. }
    ));
    assert!(matches!(
        enforce(0, 1500, Direction::Downlink, &[&meter]),
        Decision::Pass { .. }
    ));
}
