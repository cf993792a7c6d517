//! Ladders: thousands of rows of one direction, by tuple-space search over a bounded number of tuples.
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
use crate::row::Row;
use crate::section::{Rows, Subject};
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
    /// The position of its first row.
    best: u32,
    /// Positions of rows, ascending.
    buckets: HashMap<Key, Box<[u32]>, RandomState>,
}

/// A step in the making.
struct NewStep {
    tuple: Tuple,
    best: u32,
    buckets: HashMap<Key, Vec<u32>, RandomState>,
}

/// Where the rows of a large section are.
pub(crate) struct Ladder(Box<[Step]>);

impl Ladder {
    /// Of rows in order of precedence.
    pub fn of(rows: &[Row]) -> Self {
        let mut steps: Vec<NewStep> = Vec::new();
        for (position, row) in rows.iter().enumerate() {
            let tuple = Tuple::of(row);
            let at = steps.iter().position(|step| step.tuple == tuple).unwrap_or_else(|| {
                // The first row of a step is its best, and steps are met in the order of their first rows.
                steps.push(NewStep {
                    tuple,
                    best: position as u32,
                    buckets: HashMap::default(),
                });
                steps.len() - 1
            });
            let bucket = steps[at].buckets.entry(tuple.key(&row.a)).or_default();
            bucket.push(position as u32);
        }
        let finish = |step: NewStep| Step {
            tuple: step.tuple,
            best: step.best,
            buckets: step.buckets.into_iter().map(|(key, rows)| (key, rows.into())).collect(),
        };
        Self(steps.into_iter().map(finish).collect())
    }

    /// The position of the first row that matches.
    #[inline(never)]
    pub fn first(&self, rows: &Rows, subject: Subject<'_>) -> Option<usize> {
        let mut first = None;
        for step in &self.0 {
            if first.is_some_and(|first| step.best as usize >= first) {
                break;
            }
            let of_step = step.positions(subject.packet).find(|row| rows.matches(*row, subject));
            first = first.into_iter().chain(of_step).min();
        }
        first
    }

    /// The positions of all rows that the packet may match.
    pub fn candidates(&self, packet: &PacketFields) -> impl Iterator<Item = usize> {
        self.0.iter().flat_map(|step| step.positions(packet))
    }
}

impl Step {
    /// The rows that share the packet's bucket.
    #[inline(always)]
    fn positions(&self, packet: &PacketFields) -> impl Iterator<Item = usize> {
        let bucket = if self.tuple.fits(packet) {
            self.buckets.get(&self.tuple.key(&packet.0))
        } else {
            None
        };
        bucket.into_iter().flatten().map(|row| *row as usize)
    }
}
