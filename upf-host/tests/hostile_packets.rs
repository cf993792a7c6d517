//! A million mutated GTP-U and IP packets: no panic, every packet accounted for, the sessions as they were.

mod support;

use support::*;
use upf_host::counters::{DropReason, HostEvent};

/// xorshift64*: the same packets in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn seeds() -> Vec<(u8, Vec<u8>)> {
    let v6 = udp6("fd60::5".parse().unwrap(), "2001:db8::7".parse().unwrap(), b"six");
    let mut echo = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut echo, 7).unwrap();
    let mut error = [0; gtpu::ERROR_INDICATION_MAX_LEN];
    let indication = gtpu::ErrorIndication {
        teid: 0x200,
        peer: GNB.into(),
        udp_source_port: Some(2152),
    };
    let m = gtpu::write_error_indication(&mut error, &indication).unwrap();
    vec![
        (N3, uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"hello"))),
        (N3, uplink(0x100, None, &udp(UE, SERVER, 64, &[0; 1400]))),
        (N3, uplink(0x100, Some(9), &v6)),
        (N3, uplink(0x999, Some(9), &v6)),
        (N3, gtpu_frame(&echo[..n])),
        (N3, gtpu_frame(&error[..m])),
        (N6, downlink(&udp(SERVER, UE, 64, b"hello"))),
        (N6, downlink(&v6)),
    ]
}

#[test]
fn a_million_mutated_packets_do_no_harm() {
    let mut upf = Upf::new();
    upf.put(&session());
    let seeds = seeds();
    let mut random = Random(0x6c65_6176_656e_6f6e);
    for _ in 0..1_000_000 {
        let (port, seed) = &seeds[random.below(seeds.len())];
        let mut frame = seed.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len());
            match random.below(4) {
                0 => frame[at] = random.next() as u8,
                1 => frame[at] ^= 1 << random.below(8),
                2 => frame.truncate(at.max(1)),
                _ => frame.insert(at, random.next() as u8),
            }
        }
        upf.receive(*port, &frame);
        upf.reports();
    }
    // The session is still the one that was put: both directions go through as before.
    upf.wait_ms(10_000);
    upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"hello")));
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"hello")));
    assert!(upf.counters.drops(DropReason::GtpuMalformed).packets > 0);
    assert!(upf.events(HostEvent::EchoAnswered) > 0);
}
