//! Damaged messages: 100,000 mutations of real and complete ones, from a fixed seed. None may panic, and every
//! error must say enough to be acted on.

mod wire_support;

use upf_ctl::pfcp::wire::{WireError, read_message};
use wire_support::vectors;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to four changes: flip, overwrite, cut, repeat, splice in another message; half of the time the length field
/// is made to agree again, so that the change reaches the readers of IEs.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len());
        let to = at + random.below(octets.len() - at + 1);
        match random.below(6) {
            0 if !octets.is_empty() => octets[at] ^= 1 << random.below(8),
            1 if !octets.is_empty() => octets[at] = random.next() as u8,
            2 => octets.truncate(at),
            3 => drop(octets.drain(at..to)),
            4 => {
                let again = octets[at..to.min(at + 64)].to_vec();
                octets.splice(at..at, again);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                octets.extend(&other[from..other.len().min(from + 128)]);
            }
        }
    }
    if random.below(2) == 0 && octets.len() >= 4 {
        let length = (octets.len() - 4) as u16;
        octets[2..4].copy_from_slice(&length.to_be_bytes());
    }
    octets
}

#[test]
fn a_hundred_thousand_damaged_messages_are_read_or_refused() {
    let files = ["scapy.txt", "go_pfcp_messages.txt"];
    let seeds: Vec<Vec<u8>> = files
        .iter()
        .flat_map(|file| vectors(file))
        .map(|(_, octets)| octets)
        .collect();
    let mut random = Random(29_244);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..100_000 {
        match read_message(&mutate(&mut random, &seeds)) {
            Ok(_) => read += 1,
            Err(WireError::Refused { refusal, .. }) => {
                assert!(!refusal.cause.is_acceptance() && !refusal.message.is_empty());
                refused += 1;
            }
            Err(WireError::NoHeader { .. } | WireError::Version { .. }) => {}
        }
    }
    // Most of the mutations get past the header, and both ways are taken often.
    assert!(read > 10_000 && refused > 10_000, "{read} read, {refused} refused");
}
