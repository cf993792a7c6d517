//! Nanoseconds per packet for one, two and three meters: `cargo run --release -p qos --example meter_cost`.

use qos::{Bandwidth, Meter, Profile, admit};
use std::hint::black_box;
use std::time::Instant;

const PACKETS: u64 = 20_000;

fn main() {
    let bandwidth = |bits_per_second| Bandwidth {
        bits_per_second,
        burst_bytes: 100_000,
    };
    let (slow, fast) = (bandwidth(1_000_000), bandwidth(1_000_000_000_000));
    let single = |rate| Meter::new(Profile::single_rate(rate), 0);
    let two_rate = Meter::new(Profile::rfc2698(slow, fast).expect("slow is slower"), 0);
    let (flow, session, refusing) = (single(fast), single(fast), single(slow));
    let mut now = 0;
    for (name, meters) in [
        ("one, passing", &[&flow][..]),
        ("one, refusing", &[&refusing]),
        ("RFC 2698, yellow", &[&two_rate]),
        ("two, passing", &[&flow, &session]),
        ("two, the second refusing", &[&flow, &refusing]),
        ("three, passing", &[&flow, &two_rate, &session]),
    ] {
        // The fastest of many runs: what other work on the machine adds is not ours.
        let mut fastest = f64::INFINITY;
        let mut passed = 0;
        for _ in 0..1000 {
            let start = Instant::now();
            for _ in 0..PACKETS {
                // A packet every 20 ns: 1,500 bytes are 12 ns at 1 Tbit/s.
                now += 20;
                passed += u64::from(admit(black_box(now), black_box(1500), black_box(meters)).passes());
            }
            fastest = fastest.min(start.elapsed().as_secs_f64() * 1e9 / PACKETS as f64);
        }
        println!(
            "{name:<26} {fastest:5.1} ns per packet, {:5.1} % passed",
            passed as f64 / PACKETS as f64 / 10.0
        );
    }
}
