//! What the meters promise: the rate, the burst, the colours, and that a dropped packet spends nothing.

use proptest::prelude::*;
use qos::{Bandwidth, Color, Meter, Profile, Verdict, admit, admit_colored};

const SECOND: u64 = 1_000_000_000;

fn single(bits_per_second: u64, burst_bytes: u64) -> Meter {
    Meter::new(
        Profile::single_rate(Bandwidth {
            bits_per_second,
            burst_bytes,
        }),
        0,
    )
}

fn bandwidth(bits_per_second: u64, burst_bytes: u64) -> Bandwidth {
    Bandwidth {
        bits_per_second,
        burst_bytes,
    }
}

/// Empties the bucket at time 0, then offers packets evenly spread over some seconds; returns bytes passed.
fn offer(meter: &Meter, offered_bits_per_second: f64, packet: u32, seconds: u64) -> u64 {
    while admit(0, packet, &[meter]).passes() {}
    let spacing = f64::from(packet) * 8e9 / offered_bits_per_second;
    let count = ((seconds * SECOND) as f64 / spacing) as u64;
    (1..=count)
        .map(|i| {
            if admit((i as f64 * spacing) as u64, packet, &[meter]).passes() {
                u64::from(packet)
            } else {
                0
            }
        })
        .sum()
}

#[test]
fn traffic_just_below_the_rate_loses_nothing() {
    for mbps in [1, 10, 100, 1000] {
        let rate = mbps * 1_000_000;
        let meter = single(rate, 15_000);
        while admit(0, 1250, &[&meter]).passes() {}
        let spacing = 1250.0 * 8e9 / (rate as f64 * 0.99);
        for i in 1..=(rate / 10_000).min(20_000) {
            // The emptied bucket needs two packet times before the first one.
            let now = ((i + 2) as f64 * spacing) as u64;
            assert!(admit(now, 1250, &[&meter]).passes(), "{mbps} Mbit/s, packet {i}");
        }
    }
}

#[test]
fn of_twice_the_rate_half_is_lost_to_within_a_thousandth() {
    for mbps in [1u64, 10, 100, 1000] {
        let rate = mbps * 1_000_000;
        let packet = 125 * mbps.min(8) as u32;
        let passed = offer(&single(rate, 15_000), 2.0 * rate as f64, packet, 1);
        let expected = rate as f64 / 8.0;
        assert!(
            (passed as f64 / expected - 1.0).abs() < 0.001 + f64::from(packet) / expected,
            "{mbps}: {passed}"
        );
    }
}

#[test]
fn the_rate_is_true_to_a_thousandth_from_one_kilobit_to_one_and_a_half_terabit() {
    // (bit/s, packet, nanoseconds between packets): all offered far above the rate.
    for (rate, packet, spacing, packets) in [
        (1_000, 20, 20_000_000, 200_000u64),
        (64_000, 60, 500_000, 200_000),
        (1_000_000_000, 64, 100, 500_000),
        (100_000_000_000, 20, 1, 500_000),
        (1_600_000_000_000, 20, 1, 500_000),
        (1_600_000_000_000, 1500, 1, 500_000),
    ] {
        let meter = single(rate, 100_000);
        while admit(0, packet, &[&meter]).passes() {}
        let mut passed = 0u64;
        for i in 1..=packets {
            // Where a nanosecond is long, offer many packets in it.
            let offers = (rate as f64 * spacing as f64 / 8e9 / f64::from(packet)) as u64 + 2;
            for _ in 0..offers {
                passed += if admit(i * spacing, packet, &[&meter]).passes() {
                    u64::from(packet)
                } else {
                    0
                };
            }
        }
        let expected = rate as f64 / 8.0 * (packets * spacing) as f64 / 1e9;
        assert!(
            (passed as f64 / expected - 1.0).abs() < 0.001,
            "{rate} bit/s: {passed} of {expected}"
        );
    }
}

#[test]
fn a_full_bucket_lets_exactly_its_burst_pass_at_once() {
    let meter = single(1_000_000, 10_000);
    let passed = (0..100).filter(|_| admit(0, 1000, &[&meter]).passes()).count();
    assert_eq!(passed, 10);
}

#[test]
fn a_packet_longer_than_the_burst_never_passes() {
    let meter = single(1_000_000_000, 1000);
    assert!(!admit(0, 1001, &[&meter]).passes());
    assert!(!admit(100 * SECOND, 1001, &[&meter]).passes());
    assert!(admit(100 * SECOND, 1000, &[&meter]).passes());
}

#[test]
fn a_rate_of_zero_lets_nothing_pass() {
    let meter = single(0, 10_000);
    assert!(!admit(SECOND, 1, &[&meter]).passes());
    assert!(!admit(1_000_000 * SECOND, 1, &[&meter]).passes());
}

#[test]
fn an_idle_bucket_is_full_after_any_time_even_beyond_the_wrap_of_its_clock() {
    for idle in [1, 60, 3600, 86_400, 7 * 86_400, 13 * 86_400, 14 * 86_400, 400 * 86_400] {
        let meter = single(1_000_000, 10_000);
        while admit(5, 1000, &[&meter]).passes() {}
        let now = idle * SECOND;
        let passed = (0..20).filter(|_| admit(now, 1000, &[&meter]).passes()).count();
        assert_eq!(passed, 10, "idle for {idle} s");
    }
}

#[test]
fn a_meter_works_across_the_wrap_of_its_clock() {
    let wrap = 1u64 << 50;
    let meter = Meter::new(Profile::single_rate(bandwidth(8_000_000, 3000)), wrap - SECOND / 2);
    let mut passed = 0;
    for i in 0..1_000_000u64 {
        passed += u64::from(admit(wrap - SECOND / 2 + i * 1000, 100, &[&meter]).passes()) * 100;
    }
    assert!((1_000_000..=1_003_100).contains(&passed), "{passed}");
}

#[test]
fn an_lcore_whose_clock_lags_cannot_refill_the_bucket() {
    let meter = single(1_000_000, 10_000);
    let now = 10 * SECOND;
    while admit(now, 1000, &[&meter]).passes() {}
    assert!(!admit(now - SECOND / 2, 1000, &[&meter]).passes());
    assert!(!admit(now, 1000, &[&meter]).passes());
}

#[test]
fn rfc_2698_marks_green_within_committed_yellow_within_peak_red_beyond() {
    let profile = Profile::rfc2698(bandwidth(8_000, 1000), bandwidth(16_000, 3000)).unwrap();
    let meter = Meter::new(profile, 0);
    let mark = || meter.mark(0, 500, Color::Green);
    let colors: Vec<_> = std::iter::repeat_with(mark).take(7).collect();
    use Color::{Green as G, Red as R, Yellow as Y};
    assert_eq!(colors, [G, G, Y, Y, Y, Y, R]);
    // Half a second: 500 bytes committed, 1,000 peak.
    let later = || meter.mark(SECOND / 2, 500, Color::Green);
    assert_eq!([later(), later(), later()], [G, Y, R]);
}

#[test]
fn rfc_2698_yellow_packets_count_against_the_peak_only() {
    let profile = Profile::rfc2698(bandwidth(8_000, 1000), bandwidth(16_000, 2000)).unwrap();
    let meter = Meter::new(profile, 0);
    assert_eq!(meter.mark(0, 1000, Color::Yellow), Color::Yellow);
    assert_eq!(meter.mark(0, 1000, Color::Green), Color::Green);
    assert_eq!(meter.mark(0, 1000, Color::Green), Color::Red);
}

#[test]
fn rfc_4115_yellow_packets_never_take_from_the_committed_rate() {
    let meter = Meter::new(Profile::rfc4115(bandwidth(8_000, 1000), bandwidth(8_000, 1000)), 0);
    assert_eq!(meter.mark(0, 1000, Color::Yellow), Color::Yellow);
    assert_eq!(meter.mark(0, 1000, Color::Yellow), Color::Red);
    assert_eq!(meter.mark(0, 1000, Color::Green), Color::Green);
    assert_eq!(meter.mark(0, 1000, Color::Green), Color::Red);
}

#[test]
fn rfc_4115_green_packets_over_the_committed_rate_become_yellow_within_the_excess() {
    let meter = Meter::new(Profile::rfc4115(bandwidth(8_000, 1000), bandwidth(8_000, 500)), 0);
    assert_eq!(meter.mark(0, 1000, Color::Green), Color::Green);
    assert_eq!(meter.mark(0, 500, Color::Green), Color::Yellow);
    assert_eq!(meter.mark(0, 500, Color::Green), Color::Red);
}

#[test]
fn a_red_packet_stays_red_and_spends_nothing() {
    for profile in [
        Profile::single_rate(bandwidth(8_000, 1000)),
        Profile::rfc2698(bandwidth(8_000, 1000), bandwidth(8_000, 1000)).unwrap(),
        Profile::rfc4115(bandwidth(8_000, 1000), bandwidth(8_000, 1000)),
    ] {
        let meter = Meter::new(profile, 0);
        assert_eq!(meter.mark(0, 1000, Color::Red), Color::Red);
        assert_eq!(
            admit_colored(0, 1000, Color::Red, [&meter, &meter].into_iter()),
            Verdict::Red { meter: 0 }
        );
        assert_eq!(meter.mark(0, 1000, Color::Green), Color::Green);
    }
}

#[test]
fn a_peak_rate_below_the_committed_rate_is_refused_with_both_named() {
    let error = Profile::rfc2698(bandwidth(2_000, 1), bandwidth(1_000, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "peak rate: expected at least the committed rate of 2000 bit/s, found 1000 bit/s"
    );
}

#[test]
fn a_packet_that_the_session_meter_drops_spends_no_tokens_of_its_flow() {
    let (flow, session) = (single(1_000_000, 10_000), single(1_000_000, 1000));
    assert_eq!(admit(0, 1000, &[&flow, &session]), Verdict::Green);
    for _ in 0..1000 {
        assert_eq!(admit(0, 1000, &[&flow, &session]), Verdict::Red { meter: 1 });
    }
    // Nine of ten packets of the flow's burst are still there.
    assert_eq!((0..100).filter(|_| admit(0, 1000, &[&flow]).passes()).count(), 9);
}

#[test]
fn a_packet_without_meters_passes() {
    assert_eq!(admit(0, 1500, &[]), Verdict::Green);
}

#[test]
fn a_meter_listed_twice_is_charged_twice_and_refused_whole() {
    let meter = single(8_000, 1500);
    assert_eq!(admit(0, 1000, &[&meter, &meter]), Verdict::Red { meter: 1 });
    // What the first place took was given back.
    assert_eq!(admit(0, 1500, &[&meter]), Verdict::Green);
}

#[test]
fn a_meter_that_replaces_another_hands_out_no_second_burst() {
    let old = single(1_000_000, 10_000);
    while admit(0, 1000, &[&old]).passes() {}
    let new = single(2_000_000, 20_000);
    new.inherit(&old, 0);
    // The old one lacked 10,000 bytes, so does the new one.
    assert_eq!((0..100).filter(|_| admit(0, 1000, &[&new]).passes()).count(), 10);
}

#[test]
fn several_lcores_together_keep_the_rate() {
    const THREADS: u64 = 4;
    let (flow, session) = (single(80_000_000, 20_000), single(40_000_000, 10_000));
    let passed: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    // Each its own clock over the same 100 ms, so that they interleave and lag each other.
                    (0..100_000u64)
                        .filter(|i| admit(i * 1000, 500, &[&flow, &session]).passes())
                        .count() as u64
                        * 500
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    // 40 Mbit/s for 100 ms and the burst; each lcore may overfill by a packet.
    assert!(passed <= 500_000 + 10_000 + THREADS * 500, "{passed}");
    assert!(passed >= 450_000, "{passed}");
}

#[test]
fn one_meter_shared_by_lcores_never_exceeds_rate_and_burst_by_a_byte() {
    let meter = single(40_000_000, 10_000);
    let passed: u64 = std::thread::scope(|scope| {
        let worker = || {
            (0..100_000u64)
                .filter(|i| admit(i * 1000, 500, &[&meter]).passes())
                .count() as u64
                * 500
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert!((500_000..=510_000).contains(&passed), "{passed}");
}

fn meter_of(kind: u8, rate: u64, burst: u64) -> Meter {
    let (committed, peak) = (bandwidth(rate / 2, burst), bandwidth(rate, burst));
    Meter::new(
        match kind {
            0 => Profile::single_rate(peak),
            1 => Profile::rfc2698(committed, peak).unwrap(),
            _ => Profile::rfc4115(committed, committed),
        },
        0,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn over_any_window_no_more_passes_than_rate_times_window_plus_burst(
        rate in 1_000u64..100_000_000_000,
        burst in 1u64..200_000,
        arrivals in prop::collection::vec((0u64..5_000_000, 20u32..9000), 1..300),
    ) {
        let meter = single(rate, burst);
        let mut now = 0;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (gap, bytes) in arrivals {
            now += gap;
            if admit(now, bytes, &[&meter]).passes() {
                passed.push((now, bytes.into()));
            }
        }
        for first in 0..passed.len() {
            let mut sum = 0;
            for &(at, bytes) in &passed[first..] {
                sum += bytes;
                let window = (at - passed[first].0) as f64 / 1e9;
                prop_assert!(sum as f64 <= (rate as f64 / 8.0 * window) * 1.0003 + burst as f64 + 1.0);
            }
        }
    }

    #[test]
    fn what_any_meter_drops_changes_no_meter(
        kinds in prop::collection::vec((0u8..3, 8_000u64..10_000_000, 1_000u64..20_000), 1..5),
        packets in prop::collection::vec((0u64..2_000_000, 20u32..3000), 1..100),
    ) {
        // The same meters twice: one set sees every packet, the other only those that the first let pass.
        let all: Vec<Meter> = kinds.iter().map(|&(kind, rate, burst)| meter_of(kind, rate, burst)).collect();
        let spared: Vec<Meter> = kinds.iter().map(|&(kind, rate, burst)| meter_of(kind, rate, burst)).collect();
        let mut now = 0;
        for (gap, bytes) in packets {
            now += gap;
            let verdict = admit_colored(now, bytes, Color::Green, all.iter());
            if verdict.passes() {
                prop_assert_eq!(admit_colored(now, bytes, Color::Green, spared.iter()), verdict);
            }
        }
    }

    #[test]
    fn any_times_and_lengths_are_survived(
        rate in any::<u64>(), burst in any::<u64>(), packets in prop::collection::vec(any::<(u64, u32)>(), 1..50),
    ) {
        for kind in 0..3 {
            let meter = meter_of(kind, rate, burst);
            for &(now, bytes) in &packets {
                admit(now, bytes, &[&meter, &meter]);
                meter.inherit(&meter_of((kind + 1) % 3, rate / 3, burst), now);
            }
        }
    }
}
