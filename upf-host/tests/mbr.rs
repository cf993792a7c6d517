//! How exactly the pipeline keeps an MBR. Time is simulated.

mod support;

use support::*;
use upf_model::*;

/// Of packets that come evenly at `load` times the MBR, in each direction: the share that was sent, once the burst that
/// a fresh bucket allows is over.
fn share_sent(mbps: u64, load: f64, uplink_direction: bool) -> f64 {
    let mut s = session();
    s.qers[0].mbr = Some(BitRates {
        uplink_kbps: mbps * 1_000,
        downlink_kbps: mbps * 1_000,
    });
    let mut upf = Upf::new();
    upf.put(&s);
    let payload = [0; 1_200];
    let (port, frame) = if uplink_direction {
        (N3, uplink(0x100, Some(9), &udp(UE, SERVER, 64, &payload)))
    } else {
        (N6, downlink(&udp(SERVER, UE, 64, &payload)))
    };
    let bits = (payload.len() + 28) as f64 * 8.0;
    let every_ns = bits * 1e3 / (mbps as f64 * load);
    // 10 ms of burst, or 3,000 bytes; used up at twice the rate in that time.
    let settle_ns = 100e6_f64.max(3_000.0 * 8.0 * 1e3 / mbps as f64 * 4.0);
    let measure_ns = 1_000.0 * every_ns.max(500_000.0);
    let start = upf.now.ns;
    let (mut came, mut sent) = (0u64, 0u64);
    for packet in 0.. {
        let at_ns = f64::from(packet) * every_ns;
        if at_ns >= settle_ns + measure_ns {
            break;
        }
        upf.now.ns = start + at_ns as u64;
        let left = upf.receive(port, &frame).len() as u64;
        upf.wire.classes.clear();
        if at_ns >= settle_ns {
            came += 1;
            sent += left;
        }
    }
    sent as f64 / came as f64
}

#[test]
fn below_the_mbr_nothing_is_lost_and_at_twice_the_mbr_half_is() {
    for mbps in [1, 10, 100, 1_000] {
        for uplink in [true, false] {
            assert_eq!(share_sent(mbps, 0.99, uplink), 1.0, "{mbps} Mbit/s at 0.99 of it");
            let share = share_sent(mbps, 2.0, uplink);
            assert!(
                (share / 0.5 - 1.0).abs() < 0.01,
                "{mbps} Mbit/s at twice of it: {share} is sent"
            );
        }
    }
}
