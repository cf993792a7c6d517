//! How exactly a QER keeps its MBR. Time is simulated.

use qos::{BurstPolicy, Decision, Direction, QerMeter, enforce};
use upf_model::{BitRates, Gate, Qer, QerId, Scheduling};

/// Of 20,000 packets of `bytes` that come evenly at `load` times the MBR: the share that passed, once the burst that a
/// fresh bucket allows is over.
fn share_passed(mbps: u64, load: f64, bytes: u32, burst: &BurstPolicy) -> f64 {
    let rates = BitRates {
        uplink_kbps: mbps * 1_000,
        downlink_kbps: mbps * 1_000,
    };
    let qer = Qer {
        id: QerId(1),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: Some(rates),
        gbr: None,
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    };
    let start = 1_000_000_000;
    let meter = QerMeter::new(&qer, burst, start);
    let every_ns = f64::from(bytes) * 8e3 / (mbps as f64 * load);
    let burst_ns = f64::from(burst.milliseconds) * 1e6 + f64::from(burst.at_least_bytes) * 8e3 / mbps as f64;
    let (settled, enough) = ((burst_ns * 3.0 / every_ns) as u64 + 1, 20_000);
    let passes = |packet: &u64| {
        let now = start + (*packet as f64 * every_ns) as u64;
        matches!(enforce(now, bytes, Direction::Uplink, &[&meter]), Decision::Pass { .. })
    };
    let _ = (0..settled).filter(passes).count();
    let passed = (settled..settled + enough).filter(passes).count();
    passed as f64 / enough as f64
}

#[test]
fn below_the_mbr_nothing_is_lost_and_at_twice_the_mbr_half_is() {
    for policy in [(100, 3_000), (10, 3_000), (1, 1_500)] {
        let burst = BurstPolicy {
            milliseconds: policy.0,
            at_least_bytes: policy.1,
        };
        for mbps in [1, 10, 100, 1_000] {
            for bytes in [64, 576, 1_500] {
                let what = format!("{mbps} Mbit/s, {bytes} bytes, burst {policy:?}");
                assert_eq!(share_passed(mbps, 0.99, bytes, &burst), 1.0, "{what}, at 0.99 of it");
                let share = share_passed(mbps, 2.0, bytes, &burst);
                assert!(
                    (share / 0.5 - 1.0).abs() < 0.01,
                    "{what}, at twice of it: {share} passes"
                );
            }
        }
    }
}
