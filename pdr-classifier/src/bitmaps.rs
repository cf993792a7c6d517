//! Bit maps: which rows are worth comparing with a packet, by three bytes of it.
//!
//! For each of three bytes there are 256 sets of rows: those that a packet with that byte may match. The intersection of
//! the packet's three sets is what is left, in order of precedence; usually one or two rows. Which bytes is decided when
//! the maps are made, by which of them tell the rows apart best. A packet costs three words per 64 rows, and nothing that
//! rules could ask makes it more.
//!
//! A change of a few rows copies the maps and writes their bits ([`BitMaps::spliced`]): what other rows have moves along.

use crate::PacketFields;
use crate::packet::{octets, word};
use crate::row::Row;
use std::ops::Range;

/// Rows that bit maps are worth their memory for.
pub(crate) const MOST_MAPPED: usize = 2_048;
/// Words of the longest set.
const MOST_WORDS: usize = MOST_MAPPED / 64;
/// Bytes that bit maps look at.
const BYTES: usize = 3;
/// Sets in all.
const SETS: usize = BYTES * 256;

/// A byte of a packet: which word of it, and how far that has to be shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Byte {
    word: u8,
    shift: u8,
}

/// The bytes that are worth looking at.
const CANDIDATES: [Byte; 26] = {
    let mut bytes = [Byte { word: 0, shift: 0 }; 26];
    let mut at = 0;
    // Both addresses' leading eight bytes: what lies behind is a host's, and four of the UE's are enough.
    while at < 12 {
        let word = if at < 8 { word::REMOTE + at / 4 } else { word::UE };
        bytes[at] = Byte {
            word: word as u8,
            shift: 24 - 8 * (at as u8 % 4),
        };
        at += 1;
    }
    let others = [
        (word::REMOTE + 2, 24),
        (word::REMOTE + 3, 0),
        (word::REMOTE_PORT, 8),
        (word::REMOTE_PORT, 0),
        (word::UE_PORT, 8),
        (word::UE_PORT, 0),
        (word::OCTETS, 0),
        (word::OCTETS, 8),
        (word::SPI, 0),
        (word::SPI, 8),
        (word::FLOW_LABEL, 0),
        (word::FLOW_LABEL, 8),
        (word::QFI_LOW, 0),
        (word::QFI_LOW, 8),
    ];
    let mut i = 0;
    while i < others.len() {
        bytes[at] = Byte {
            word: others[i].0 as u8,
            shift: others[i].1,
        };
        at += 1;
        i += 1;
    }
    bytes
};

impl Byte {
    #[inline(always)]
    fn of(self, packet: &PacketFields) -> usize {
        usize::from(packet.byte(usize::from(self.word), usize::from(self.shift) / 8))
    }

    /// How a packet's byte may be, if it matches the row.
    fn accepted(self, row: &Row) -> Accepted {
        let w = usize::from(self.word);
        let (a, b) = (row.a[w], row.b[w]);
        if word::RANGES >> w & 1 == 1 {
            let (low, high) = (a >> self.shift, a.saturating_add(b) >> self.shift);
            return if b > 0xffff || high - low >= 0xff {
                Accepted::Every
            } else {
                Accepted::Cyclic(low as u8, high as u8)
            };
        }
        let b = if w == word::OCTETS {
            b & (octets::PROTOCOL | octets::TOS)
        } else {
            b
        };
        match (a >> self.shift & 0xff, b >> self.shift & 0xff) {
            (_, 0) => Accepted::Every,
            (a, b) => Accepted::Masked(a as u8, b as u8),
        }
    }
}

/// Values of a byte.
#[derive(Debug, Clone, Copy)]
enum Accepted {
    Every,
    /// From the first to the last, both included; beyond 255 it goes on with 0.
    Cyclic(u8, u8),
    /// Those that agree with the first in the bits of the second.
    Masked(u8, u8),
}

impl Accepted {
    fn contains(self, value: u8) -> bool {
        match self {
            Self::Every => true,
            Self::Cyclic(low, high) => value.wrapping_sub(low) <= high.wrapping_sub(low),
            Self::Masked(a, b) => (value ^ a) & b == 0,
        }
    }

    /// One of them.
    const fn any_of(self, random: u8) -> u8 {
        match self {
            Self::Every => random,
            Self::Cyclic(low, _) => low,
            Self::Masked(a, b) => a & b | random & !b,
        }
    }

    fn each(self, mut seen: impl FnMut(usize)) {
        match self {
            Self::Masked(a, 0xff) => seen(usize::from(a)),
            Self::Cyclic(low, high) => {
                (0..=high.wrapping_sub(low)).for_each(|more| seen(usize::from(low.wrapping_add(more))));
            }
            _ => (0..=255u8)
                .filter(|v| self.contains(*v))
                .for_each(|v| seen(usize::from(v))),
        }
    }
}

/// For each of three bytes, 256 sets of rows.
pub(crate) struct BitMaps {
    bytes: [Byte; BYTES],
    /// Words of a set.
    words: usize,
    /// The sets of the first byte, of the second, of the third.
    sets: Box<[u64]>,
}

impl BitMaps {
    /// Of rows in order of precedence, at most [`MOST_MAPPED`].
    pub fn of(rows: &[Row]) -> Self {
        let words = rows.len().div_ceil(64).max(1);
        let bytes = Self::telling(rows);
        let mut sets = vec![0u64; SETS * words];
        for (byte, sets) in bytes.iter().zip(sets.chunks_mut(256 * words)) {
            let accepted: Vec<_> = rows.iter().map(|row| byte.accepted(row)).collect();
            // What all values have is written once and copied.
            let (first, others) = sets.split_at_mut(words);
            for (row, accepted) in accepted.iter().enumerate() {
                first[row / 64] |= u64::from(matches!(accepted, Accepted::Every)) << (row % 64);
            }
            others.chunks_mut(words).for_each(|set| set.copy_from_slice(first));
            for (row, accepted) in accepted.iter().enumerate() {
                if !matches!(accepted, Accepted::Every) {
                    accepted.each(|value| sets[value * words + row / 64] |= 1 << (row % 64));
                }
            }
        }
        Self {
            bytes,
            words,
            sets: sets.into(),
        }
    }

    /// The same maps for rows of which those in `removed` are gone and `rows` have come in at `at`, a position among
    /// those that are left. `len` is how many there were.
    pub fn spliced(&self, len: usize, removed: Range<usize>, (at, rows): (usize, &[Row])) -> Self {
        let words = (len - removed.len() + rows.len()).div_ceil(64).max(1);
        let stay = words == self.words && at == removed.start && rows.len() == removed.len();
        let mut sets = if stay {
            self.sets.to_vec()
        } else {
            vec![0; SETS * words]
        };
        if !stay {
            let mut bits = [0; MOST_WORDS + 1];
            for (new, old) in sets.chunks_mut(words).zip(self.sets.chunks(self.words)) {
                let bits = &mut bits[..=self.words.max(words)];
                bits.fill(0);
                bits[..old.len()].copy_from_slice(old);
                removed.clone().for_each(|_| remove_bit(bits, removed.start));
                rows.iter().for_each(|_| insert_bit(bits, at));
                new.copy_from_slice(&bits[..words]);
            }
        }
        for (row, bit) in rows.iter().zip(at..) {
            let (word, bit) = (bit / 64, bit % 64);
            for (byte, sets) in self.bytes.iter().zip(sets.chunks_mut(256 * words)) {
                let accepted = byte.accepted(row);
                let every = u64::from(matches!(accepted, Accepted::Every));
                for set in sets.chunks_mut(words) {
                    set[word] = set[word] & !(1 << bit) | every << bit;
                }
                if every == 0 {
                    accepted.each(|value| sets[value * words + word] |= 1 << bit);
                }
            }
        }
        Self {
            bytes: self.bytes,
            words,
            sets: sets.into(),
        }
    }

    /// The three bytes that leave the fewest rows: one after the other, each the best beside those before it, judged
    /// by a few packets that are each meant for one of the rows, and by some of the rows.
    fn telling(rows: &[Row]) -> [Byte; BYTES] {
        const PACKETS: usize = 16;
        const JUDGED: usize = 64;
        let some = |most: usize| rows.iter().step_by(rows.len().div_ceil(most).max(1));
        let used = rows.iter().fold(0, |set, row| set | row.looked_at());
        // For each byte worth looking at: the rows that each packet may match after a look at it.
        let look = |byte: &Byte| {
            let judged: Vec<Accepted> = some(JUDGED).map(|row| byte.accepted(row)).collect();
            let of_packet = |(number, row): (usize, &Row)| {
                let value = byte.accepted(row).any_of((number * 0x9d) as u8);
                let set =
                    |set: u64, (at, accepted): (usize, &Accepted)| set | u64::from(accepted.contains(value)) << at;
                judged.iter().enumerate().fold(0u64, set)
            };
            let mut left = [0u64; PACKETS];
            left.iter_mut()
                .zip(some(PACKETS).enumerate().map(of_packet))
                .for_each(|(left, set)| *left = set);
            (*byte, left)
        };
        let worth = CANDIDATES.iter().filter(|byte| used >> byte.word & 1 == 1);
        let looks: Vec<(Byte, [u64; PACKETS])> = worth.map(look).collect();
        let mut left = [u64::MAX; PACKETS];
        [(); BYTES].map(|()| {
            let cost = |look: &[u64; PACKETS]| left.iter().zip(look).map(|(l, r)| (l & r).count_ones()).sum::<u32>();
            match looks.iter().min_by_key(|(_, look)| cost(look)) {
                Some((byte, look)) => {
                    left.iter_mut().zip(look).for_each(|(left, look)| *left &= look);
                    *byte
                }
                None => CANDIDATES[0],
            }
        })
    }

    /// The first of the packet's candidates that `is_it` takes. (A plain loop: iterators over three sets would be built
    /// in memory, and read back before they are there.)
    #[inline(always)]
    pub fn first(&self, packet: &PacketFields, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let [a, b, c] = self.sets_of(packet);
        let (b, c) = (&b[..a.len()], &c[..a.len()]);
        for word in 0..a.len() {
            let mut rows = a[word] & b[word] & c[word];
            while rows != 0 {
                let row = word * 64 + rows.trailing_zeros() as usize;
                if is_it(row) {
                    return Some(row);
                }
                rows &= rows - 1;
            }
        }
        None
    }

    /// The rows that the packet may match, the best first.
    #[inline(always)]
    pub fn candidates(&self, packet: &PacketFields) -> impl Iterator<Item = usize> {
        let sets = self.sets_of(packet);
        (0..self.words).flat_map(move |word| {
            let mut left = sets.iter().fold(u64::MAX, |left, set| left & set[word]);
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let row = word * 64 + left.trailing_zeros() as usize;
                    left &= left - 1;
                    row
                })
            })
        })
    }

    /// The maps, if their sets are `W` words each.
    #[inline(always)]
    pub fn narrow<const W: usize>(&self) -> Option<NarrowMaps<'_, W>> {
        if self.words != W {
            return None;
        }
        let (first, rest) = self.sets.as_chunks::<W>().0.split_first_chunk()?;
        let (second, rest) = rest.split_first_chunk()?;
        Some(NarrowMaps {
            bytes: self.bytes,
            sets: [first, second, rest.first_chunk()?],
        })
    }

    #[inline(always)]
    fn sets_of(&self, packet: &PacketFields) -> [&[u64]; BYTES] {
        let set = |i: usize| &self.sets[(i * 256 + self.bytes[i].of(packet)) * self.words..][..self.words];
        [set(0), set(1), set(2)]
    }
}

/// Maps of few rows: nothing is left to be asked about them before their sets are read.
#[derive(Clone, Copy)]
pub(crate) struct NarrowMaps<'m, const W: usize> {
    bytes: [Byte; BYTES],
    sets: [&'m [[u64; W]; 256]; BYTES],
}

impl<const W: usize> NarrowMaps<'_, W> {
    /// The rows that the packet may match, one bit each; of at most 128.
    #[inline(always)]
    pub fn candidates(&self, packet: &PacketFields) -> u128 {
        const { assert!(W <= 2) };
        let [a, b, c] = [0, 1, 2].map(|i| &self.sets[i][self.bytes[i].of(packet)]);
        let word = |i: usize| u128::from(a[i] & b[i] & c[i]) << (64 * i);
        (0..W).map(word).sum()
    }
}

/// Takes a bit out; those above move down.
fn remove_bit(words: &mut [u64], at: usize) {
    let (first, bit) = (at / 64, at % 64);
    let below = (1u64 << bit) - 1;
    for word in first..words.len() {
        let next = words.get(word + 1).map_or(0, |next| next << 63);
        let moved = words[word] >> 1 | next;
        words[word] = if word == first {
            words[word] & below | moved & !below
        } else {
            moved
        };
    }
}

/// Puts a zero in; what was there and above moves up.
fn insert_bit(words: &mut [u64], at: usize) {
    let (first, bit) = (at / 64, at % 64);
    let below = (1u64 << bit) - 1;
    for word in (first..words.len()).rev() {
        let carried = if word == first { 0 } else { words[word - 1] >> 63 };
        let kept = if word == first { words[word] & below } else { 0 };
        let moving = if word == first {
            words[word] & !below
        } else {
            words[word]
        };
        words[word] = kept | moving << 1 | carried;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_move_as_the_elements_of_a_list_do(
            list in prop::collection::vec(any::<bool>(), 1..256),
            at in any::<prop::sample::Index>(),
            removes in any::<bool>(),
        ) {
            let mut list = list;
            let mut words = [0u64; 5];
            let pack = |list: &[bool], words: &mut [u64; 5]| {
                words.fill(0);
                list.iter().enumerate().for_each(|(i, bit)| words[i / 64] |= u64::from(*bit) << (i % 64));
            };
            pack(&list, &mut words);
            let at = at.index(list.len());
            if removes {
                remove_bit(&mut words, at);
                list.remove(at);
            } else {
                insert_bit(&mut words, at);
                list.insert(at, false);
            }
            let mut expected = [0; 5];
            pack(&list, &mut expected);
            prop_assert_eq!(words, expected);
        }
    }
}
