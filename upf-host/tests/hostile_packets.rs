//! A million mutated GTP-U and IP packets, and as many punted ones: no panic, the sessions as they were.

mod support;

use support::*;
use upf_host::counters::{DropReason, HostEvent};
use upf_model::{Epoch, PuntReason, SessionId};

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

fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(frame.len());
        match random.below(4) {
            0 => frame[at] = random.next() as u8,
            1 => frame[at] ^= 1 << random.below(8),
            2 => frame.truncate(at.max(1)),
            _ => frame.insert(at, random.next() as u8),
        }
    }
    frame
}

#[test]
fn a_million_mutated_packets_do_no_harm() {
    let mut upf = Upf::new();
    upf.put(&session());
    let seeds = seeds();
    let mut random = Random(0x6c65_6176_656e_6f6e);
    for _ in 0..1_000_000 {
        let (port, seed) = &seeds[random.below(seeds.len())];
        upf.receive(*port, &mutated(seed, &mut random));
        upf.reports();
    }
    // The session is still the one that was put: both directions go through as before.
    upf.wait_ms(10_000);
    upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"hello")));
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"hello")));
    assert!(upf.counters.drops(DropReason::GtpuMalformed).packets > 0);
    assert!(upf.events(HostEvent::EchoAnswered) > 0);
}

#[test]
fn a_million_mutated_punted_frames_do_no_harm_and_each_is_counted() {
    let mut upf = Upf::behind_p4();
    upf.put(&session());
    let known = Some((SessionId(1), Epoch(1)));
    let punted_seeds = |(port, frame): (u8, Vec<u8>)| {
        let reasons = [PuntReason::FlowMiss, PuntReason::HostSession];
        reasons.map(|reason| punted(reason, port, known, &frame))
    };
    let seeds: Vec<_> = seeds().into_iter().flat_map(punted_seeds).collect();
    let mut random = Random(0x7075_6e74_6564_2121);
    for _ in 0..1_000_000 / 8 {
        let burst: Vec<_> = (0..8)
            .map(|_| mutated(&seeds[random.below(seeds.len())], &mut random))
            .collect();
        for (_, frame) in upf.receive_at_host(&burst) {
            reinjected(&frame);
        }
        upf.reports();
    }
    let punts: u64 = PuntReason::ALL.iter().map(|&r| upf.counters.punts(r).packets).sum();
    let others = upf.counters.drops(DropReason::NotPunted).packets;
    assert_eq!(punts + others, 1_000_000);
    assert!(others > 0 && upf.counters.drops(DropReason::PuntPort).packets > 0);
    upf.wait_ms(10_000);
    let good = uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"hello"));
    let sent = upf.receive_at_host(&[punted(PuntReason::FlowMiss, N3, known, &good)]);
    assert_eq!(sent.len(), 1);
}

#[test]
fn mutated_frames_have_the_same_answer_with_a_target_and_without() {
    let (mut ours, mut behind) = (Upf::new(), Upf::behind_p4());
    ours.put(&session());
    behind.put(&session());
    let seeds = seeds();
    let mut random = Random(0x6571_7569_7661_6c65);
    for _ in 0..200_000 {
        let (port, seed) = &seeds[random.below(seeds.len())];
        let frame = mutated(seed, &mut random);
        let expected: Vec<_> = ours
            .receive(*port, &frame)
            .into_iter()
            .map(|(port, frame)| (p4_port(port), frame))
            .collect();
        let sent = behind.receive_at_host(&[punted(PuntReason::HostSession, *port, None, &frame)]);
        let found: Vec<_> = sent.iter().map(|(_, frame)| reinjected(frame)).collect();
        assert_eq!(found, expected, "{frame:02x?}");
        ours.wait_ms(1);
        behind.wait_ms(1);
        assert_eq!(behind.reports(), ours.reports());
    }
    assert_eq!(behind.drops(), ours.drops());
}
