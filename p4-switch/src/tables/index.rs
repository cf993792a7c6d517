//! An open-addressing index from hashes to rows: eight bytes a slot, eight slots a cache line, linear probing.

use crate::memory::Cells;

/// A slot: 32 bits of hash above, row number plus one below; 0 is free.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Cells<u64>,
    used: usize,
}

/// Scatters key words. Seeded, for keys come from the network.
#[inline(always)]
pub(crate) fn hash_words(seed: u64, words: &[u64]) -> u32 {
    let mut hash = seed;
    for word in words {
        let product = (hash ^ word) as u128 * 0x9e37_79b9_7f4a_7c15_u128;
        hash = product as u64 ^ (product >> 64) as u64;
    }
    (hash ^ hash >> 32) as u32
}

impl Index {
    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// The row with this hash that `same` accepts.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.mask();
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == hash {
                let row = slot as u32 - 1;
                if same(row) {
                    return Some(row);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Where a search for this hash begins.
    #[inline]
    pub(crate) fn slot(&self, hash: u32) -> Option<&u64> {
        self.slots.get(hash as usize & self.slots.len().wrapping_sub(1))
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, hash: u32, row: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow(((self.used + 1) * 2).next_power_of_two().max(16));
        }
        self.put((hash as u64) << 32 | (row as u64 + 1));
        self.used += 1;
    }

    fn put(&mut self, slot: u64) {
        let mask = self.mask();
        let mut at = (slot >> 32) as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.slots, Cells::new(size));
        for slot in old.iter().copied().filter(|s| *s != 0) {
            self.put(slot);
        }
    }

    fn position(&self, hash: u32, row: u32) -> Option<usize> {
        let wanted = (hash as u64) << 32 | (row as u64 + 1);
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            if self.slots[at] == wanted {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Makes a row's slot another row's, which has the same hash.
    pub(crate) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        if let Some(at) = self.position(hash, old) {
            self.slots[at] = (hash as u64) << 32 | (new as u64 + 1);
        }
    }

    /// Takes a row out; what stands behind it moves up.
    pub(crate) fn remove(&mut self, hash: u32, row: u32) {
        let Some(mut hole) = self.position(hash, row) else {
            return;
        };
        let mask = self.mask();
        self.used -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            // The slot may move to the hole if the hole is not before its home.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = 0;
    }
}
