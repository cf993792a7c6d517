//! Finding the entry that a packet matches.

use super::index::hash_words;
use super::{FAR, LINE, MatchTable, NONE, Tuple};
use crate::memory::prefetch;
use crate::program::native::KEY;
use crate::program::table::RangeCheck;

impl MatchTable {
    /// The row that `key` matches best.
    #[inline]
    pub(crate) fn lookup(&self, key: &[u64]) -> Option<u32> {
        if self.exact {
            return self.lookup_hashed(self.hash(key), key);
        }
        self.lookup_best(key)
    }

    /// Too large for the caches, and such that a packet may wait for its row: an exact table whose keys frames have room
    /// for.
    #[inline]
    pub(crate) fn is_far(&self) -> bool {
        self.exact && self.count >= FAR && self.layout.key <= KEY
    }

    /// A key's hash, for the three functions below.
    #[inline]
    pub(crate) fn hash(&self, key: &[u64]) -> u32 {
        hash_words(self.seed, key)
    }

    /// Asks for the line of an exact table's index that would have a key.
    #[inline]
    pub(crate) fn prefetch_index(&self, hash: u32) {
        if let Some(slot) = self.tuples[0].index.slot(hash) {
            prefetch(slot);
        }
    }

    /// Asks for what a hit will touch of a row, two lines at most.
    #[inline]
    pub(crate) fn prefetch_row(&self, row: u32) {
        let row = self.row(row);
        prefetch(&row[0]);
        if self.reach > LINE {
            prefetch(&row[LINE]);
        }
    }

    /// A row of an exact table with the hash: most likely the key's.
    #[inline]
    pub(crate) fn candidate(&self, hash: u32) -> Option<u32> {
        self.tuples[0].index.find(hash, |_| true)
    }

    /// Whether a row of an exact table is a key's.
    #[inline]
    pub(crate) fn has_key(&self, row: u32, key: &[u64]) -> bool {
        same_words(&self.row(row)[..key.len()], key)
    }

    /// [`Self::lookup`] in an exact table.
    #[inline]
    pub(crate) fn lookup_hashed(&self, hash: u32, key: &[u64]) -> Option<u32> {
        // The usual lengths, so that the comparison is a few instructions.
        match *key {
            [a] => self.probe_exact(hash, &[a]),
            [a, b] => self.probe_exact(hash, &[a, b]),
            [a, b, c] => self.probe_exact(hash, &[a, b, c]),
            _ => self.tuples[0]
                .index
                .find(hash, |row| self.row(row)[..key.len()] == *key),
        }
    }

    #[inline(always)]
    fn probe_exact<const N: usize>(&self, hash: u32, key: &[u64; N]) -> Option<u32> {
        let stride = self.layout.stride;
        self.tuples[0].index.find(hash, |row| {
            self.rows
                .get(row as usize * stride..)
                .and_then(|words| words.first_chunk::<N>())
                == Some(key)
        })
    }

    pub(super) fn probe(&self, tuple: &Tuple, key: &[u64]) -> Option<u32> {
        let hash = hash_words(self.seed, key);
        tuple
            .index
            .find(hash, |row| same_words(&self.row(row)[..key.len()], key))
    }

    fn lookup_best(&self, key: &[u64]) -> Option<u32> {
        // Room is cleared for each look-up: the less the better.
        if key.len() <= KEY {
            self.best_of(key, &mut [0; KEY][..key.len()])
        } else {
            self.best_of(key, &mut [0; 64][..key.len()])
        }
    }

    /// `masked`: room for a key.
    #[inline(always)]
    fn best_of(&self, key: &[u64], masked: &mut [u64]) -> Option<u32> {
        let mut best: Option<(i64, u64, u32)> = None;
        for tuple in &self.order {
            let tuple = &self.tuples[*tuple as usize];
            // A later tuple may still hold an older entry of the same priority.
            if best.is_some_and(|(priority, _, _)| priority > tuple.best) {
                break;
            }
            for ((m, k), mask) in masked.iter_mut().zip(key).zip(&tuple.mask) {
                *m = k & mask;
            }
            let mut row = self.probe(tuple, masked).unwrap_or(NONE);
            while row != NONE {
                let cold = &self.cold[row as usize];
                if !self.has_ranges || within(&cold.ranges, key) {
                    let wins = best.is_none_or(|(priority, sequence, _)| {
                        (cold.priority, std::cmp::Reverse(cold.sequence)) > (priority, std::cmp::Reverse(sequence))
                    });
                    if wins {
                        best = Some((cold.priority, cold.sequence, row));
                    }
                    break;
                }
                row = cold.next;
            }
        }
        best.map(|(_, _, row)| row)
    }
}

/// Whether two keys are the same: a few words, which are compared before a function could be called.
#[inline(always)]
fn same_words(a: &[u64], b: &[u64]) -> bool {
    a.len() == b.len() && (0..a.len()).all(|at| a[at] == b[at])
}

fn within(ranges: &Option<Box<[RangeCheck]>>, key: &[u64]) -> bool {
    ranges
        .as_deref()
        .unwrap_or_default()
        .iter()
        .all(|range| range.holds(key))
}
