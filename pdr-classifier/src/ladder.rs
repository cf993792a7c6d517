//! Ladders: the rows of a large group, by tuple-space search over a bounded number of tuples.
//!
//! Plain tuple-space search keeps one hash table for each combination of masks, so that a session with odd masks
//! costs one probe for each. Here the combinations are merged onto a few *steps*: the remote prefix is rounded down
//! to one of [`V4_STEPS`] or [`V6_STEPS`] (or to nothing), and beside it a row either names a *service* (one
//! protocol, one remote port) or does not. That makes at most 10 steps for an IPv4 packet and 12 for an IPv6 one,
//! whatever the masks are; rows that round to the same key share a bucket and are compared there in full.
//!
//! Steps stand in order of the best place in them, and the search ends when no later step can do better. The worst
//! case, all rows in one bucket, costs what comparing all of them costs, and the packets of that session pay it.

use crate::PacketFields;
use crate::packet::{octets, word};
use crate::program::{Assembler, Chunks, Line, words};
use crate::row::{Place, Row};
use crate::vector::{self, Task, Vectors};
use foldhash::fast::RandomState;
use std::collections::HashMap;

const V4_STEPS: [u32; 4] = [32, 24, 16, 8];
const V6_STEPS: [u32; 5] = [128, 64, 56, 48, 32];

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    /// Family and length of the remote prefix; `None`: any remote end.
    remote: Option<(bool, u32)>,
    /// Whether protocol and remote port are looked at.
    service: bool,
}

/// The values of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    remote: [u64; 2],
    /// Remote port above protocol.
    service: u32,
}

impl Tuple {
    fn of(row: &Row) -> Self {
        let len = (0..4).map(|i| row.b[word::REMOTE + i].count_ones()).sum::<u32>();
        let v6 = row.a[word::OCTETS] & octets::V6 != 0;
        let steps: &[u32] = if v6 { &V6_STEPS } else { &V4_STEPS };
        let one_protocol = row.b[word::OCTETS] & octets::PROTOCOL == octets::PROTOCOL;
        Self {
            remote: steps.iter().find(|step| **step <= len).map(|step| (v6, *step)),
            service: one_protocol && row.b[word::REMOTE_PORT] == 0,
        }
    }

    /// The key of a row or packet with these words.
    #[inline(always)]
    fn key(&self, words: &[u32; word::COUNT]) -> Key {
        let bits = |i: usize| (words[word::REMOTE + i] as u64) << 32 | words[word::REMOTE + i + 1] as u64;
        let len = self.remote.map_or(0, |(_, len)| len);
        let mask = |len: u32| if len == 0 { 0 } else { u64::MAX << (64 - len) };
        let service = words[word::REMOTE_PORT] << 8 | words[word::OCTETS] & octets::PROTOCOL;
        Key {
            remote: [bits(0) & mask(len.min(64)), bits(2) & mask(len.saturating_sub(64))],
            service: if self.service { service } else { 0 },
        }
    }

    #[inline(always)]
    fn fits(&self, packet: &PacketFields) -> bool {
        self.remote.is_none_or(|(v6, _)| v6 == packet.is_v6())
    }
}

struct Step {
    tuple: Tuple,
    /// The lowest place in it.
    best: Place,
    buckets: HashMap<Key, Chunks, RandomState>,
}

/// The rows of one large group.
pub(crate) struct Ladder {
    steps: Box<[Step]>,
    program: Box<[Line]>,
}

impl Ladder {
    /// Of rows in order of precedence.
    pub fn of(rows: &[Row]) -> Self {
        let mut steps: Vec<(Tuple, HashMap<Key, Vec<Row>>)> = Vec::new();
        for row in rows {
            let tuple = Tuple::of(row);
            let at = steps.iter().position(|(t, _)| *t == tuple).unwrap_or_else(|| {
                steps.push((tuple, HashMap::new()));
                steps.len() - 1
            });
            steps[at].1.entry(tuple.key(&row.a)).or_default().push(*row);
        }
        let mut program = Assembler::default();
        let finish = |(tuple, buckets): (Tuple, HashMap<Key, Vec<Row>>)| {
            let best = buckets
                .values()
                .filter_map(|rows| rows.first())
                .map(|row| row.place)
                .min();
            let buckets = buckets
                .into_iter()
                .map(|(key, rows)| (key, program.rows(&rows)))
                .collect();
            Step {
                tuple,
                best: best.unwrap_or(Place::NONE),
                buckets,
            }
        };
        let mut steps: Box<[Step]> = steps.into_iter().map(finish).collect();
        steps.sort_by_key(|step| step.best);
        Self {
            steps,
            program: program.finish(&[]),
        }
    }

    /// The lowest place of a row that matches, if it is lower than `bound`. Kept apart from its caller, most of whose
    /// packets do not come here.
    #[inline(never)]
    pub fn first(&self, packet: &PacketFields, bound: Place) -> Option<Place> {
        vector::run(First {
            ladder: self,
            packet,
            bound,
        })
    }

    /// The places of all rows that match.
    #[inline(always)]
    pub fn each<V: Vectors>(&self, packet: &PacketFields, seen: &mut impl FnMut(Place)) {
        for step in self.steps.iter().filter(|step| step.tuple.fits(packet)) {
            if let Some(bucket) = step.buckets.get(&step.tuple.key(&packet.0)) {
                bucket.each::<V>(words(&self.program), packet, seen);
            }
        }
    }
}

struct First<'a> {
    ladder: &'a Ladder,
    packet: &'a PacketFields,
    bound: Place,
}

impl Task for First<'_> {
    type Output = Option<Place>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Option<Place> {
        let Self {
            ladder,
            packet,
            mut bound,
        } = self;
        let mut first = None;
        for step in &ladder.steps {
            if step.best >= bound {
                break;
            }
            if !step.tuple.fits(packet) {
                continue;
            }
            if let Some(bucket) = step.buckets.get(&step.tuple.key(&packet.0))
                && let Some(place) = bucket.first::<V>(words(&ladder.program), packet, bound)
            {
                bound = place;
                first = Some(place);
            }
        }
        first
    }
}
