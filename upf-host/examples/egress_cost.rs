//! What a packet costs on its way out of a port, without packet memory and device: nanoseconds, median of several runs.
//! `cargo run --release -p upf-host --example egress_cost`

use arrayvec::ArrayVec;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use upf_config::Egress;
use upf_host::counters::{LcoreCounters, QueueCounters};
use upf_host::egress::{Class, Line, PortOutlet, Profile};
use upf_host::packet::{BURST, Packet};

/// A frame of which there is only the length, as with an mbuf whose bytes nobody looks at.
struct Frame([u8; 64]);

impl Packet for Frame {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn advance(&mut self, _: usize) {}
    fn prepend(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn reframe(&mut self, _: usize, _: usize, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn truncate(&mut self, _: usize) {}
    fn append(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
}

/// What stands for an mbuf: a pointer.
struct Pointer(&'static Frame);

impl Packet for Pointer {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }
    fn advance(&mut self, _: usize) {}
    fn prepend(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn reframe(&mut self, _: usize, _: usize, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn truncate(&mut self, _: usize) {}
    fn append(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
}

/// A device that takes everything, or nothing.
struct Device {
    busy: bool,
}

impl Line<Pointer> for Device {
    #[inline(never)]
    fn transmit(&mut self, frames: &mut ArrayVec<Pointer, BURST>) {
        if !self.busy {
            black_box(&frames[..]);
            frames.clear();
        }
    }
}

/// Nanoseconds a packet, 32 to a flush; the device takes them in one of so many rounds.
fn cost(egress: Option<Egress>, one_of: u32) -> f64 {
    const ROUNDS: u32 = 20_000;
    let frame: &'static Frame = Box::leak(Box::new(Frame([0; 64])));
    let mut runs: Vec<f64> = (0..9)
        .map(|_| {
            let mut port = PortOutlet::new(Device { busy: false });
            if let Some(egress) = &egress {
                let profile = Arc::new(Profile::new(egress, 1_500));
                port = port.scheduled(profile, Arc::new(QueueCounters::default()));
            }
            let counters = LcoreCounters::default();
            let start = Instant::now();
            for round in 0..ROUNDS {
                let now_ns = 1_000_000_000 + u64::from(round) * 10_000; // 2,250 Mbit/s on the wire
                port.line().busy = round % one_of != 0;
                for queue in 0..32u8 {
                    port.send(Pointer(frame), Class::queue(black_box(queue % 8)), now_ns, &counters);
                }
                port.flush(now_ns, &counters);
            }
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS * 32)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn main() {
    let rate = |rate_mbps| Egress {
        rate_mbps,
        ..Egress::default()
    };
    let cases = [
        ("no queues", None, 1),
        ("queues, nothing waits", Some(rate(None)), 1),
        ("queues and a rate that is not reached", Some(rate(Some(10_000))), 1),
        (
            "the device is busy in 3 rounds of 4: half of the packets wait",
            Some(rate(None)),
            4,
        ),
        (
            "a rate of 98 % of what comes: all wait, some find no room",
            Some(rate(Some(2_200))),
            1,
        ),
    ];
    for (case, egress, one_of) in cases {
        println!("{:5.1} ns  {case}", cost(egress, one_of));
    }
}
