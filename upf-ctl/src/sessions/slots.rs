//! Dense slot numbers: the one allocator behind session identifiers, TEIDs and UE address pools.
//!
//! A slot is handed out fresh (0, 1, 2 ...) until enough freed ones have gathered, then the one that has been
//! free for longest. So numbers stay dense, which lets data planes index arrays by them, and a number that was
//! just given back is not seen again soon: a late packet of a removed session finds nothing, not a stranger.

use std::collections::VecDeque;

/// Allocator of the numbers `0..capacity`. Every operation is O(1).
#[derive(Debug)]
pub struct Slots {
    capacity: u64,
    fresh: u64,
    freed: VecDeque<u64>,
    rest: usize,
}

impl Slots {
    /// Numbers `0..capacity`. A freed one rests until `rest` others have been freed after it, or until
    /// nothing else is left.
    pub fn new(capacity: u64, rest: usize) -> Self {
        Self {
            capacity,
            fresh: 0,
            freed: VecDeque::new(),
            rest,
        }
    }

    /// How many numbers there are.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// A number that `in_use` does not claim; `None` if all are taken. `in_use` tells of numbers that were
    /// taken without asking (by a session that came back from the store, by an SMF that chose an address
    /// itself): they are passed over, and come back by [`Slots::free`] as the others do.
    pub fn take(&mut self, mut in_use: impl FnMut(u64) -> bool) -> Option<u64> {
        loop {
            let candidate = if self.freed.len() > self.rest || self.fresh == self.capacity {
                self.freed.pop_front()?
            } else {
                self.fresh += 1;
                self.fresh - 1
            };
            if !in_use(candidate) {
                return Some(candidate);
            }
        }
    }

    /// Gives a number back. One that was never handed out here, being beyond the fresh ones, needs no note:
    /// its turn will come.
    pub fn free(&mut self, slot: u64) {
        if slot < self.fresh {
            self.freed.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_handed_out_once_and_then_none() {
        let mut slots = Slots::new(3, 8);
        let mut taken: Vec<_> = std::iter::from_fn(|| slots.take(|_| false)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
    }

    #[test]
    fn a_freed_number_rests_while_others_are_to_be_had() {
        let mut slots = Slots::new(100, 4);
        let first = slots.take(|_| false).unwrap();
        slots.free(first);
        for _ in 0..20 {
            assert_ne!(slots.take(|_| false), Some(first));
        }
    }

    #[test]
    fn a_freed_number_is_used_when_it_is_the_last() {
        let mut slots = Slots::new(1, 4);
        let only = slots.take(|_| false).unwrap();
        assert_eq!(slots.take(|_| false), None);
        slots.free(only);
        assert_eq!(slots.take(|_| false), Some(only));
    }

    #[test]
    fn numbers_taken_without_asking_are_passed_over_and_found_again_when_free() {
        let mut slots = Slots::new(2, 0);
        assert_eq!(slots.take(|n| n == 0), Some(1));
        assert_eq!(slots.take(|_| false), None);
        slots.free(0);
        assert_eq!(slots.take(|_| false), Some(0));
    }
}
