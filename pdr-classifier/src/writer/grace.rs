//! When what was replaced is freed, and the index grows: what every change pays a little of.

use super::Writer;
use super::holdings::Garbage;
use crate::rcu::Ticket;
use crate::sync::Ordering;
use std::ptr::NonNull;

/// Changes between two looks at the readers. Each look is a fence and frees what it may.
const CHANGES_PER_TICK: usize = 32;
/// How many retired things such a look frees at most, so that none takes long.
pub(super) const RECLAIM_PER_TICK: usize = 16 * CHANGES_PER_TICK;

/// How many retired things a change frees beside that, while it waits for memory.
pub(super) const RECLAIM_PER_CHANGE: usize = 2;

/// How many times more keys an idle moment moves than a change does.
const IDLE_STRIDES: usize = 256;
impl<T: Send + Sync> Writer<T> {
    /// A ticket for everything replaced so far.
    pub fn grace_ticket(&mut self) -> Ticket {
        self.shared.epochs.tick()
    }

    /// Whether every reader has finished the burst it was in when the ticket was drawn.
    pub fn passed(&self, ticket: Ticket) -> bool {
        if ticket >= self.shared.epochs.upcoming() {
            self.shared.epochs.tick();
        }
        ticket <= self.shared.epochs.passed()
    }

    /// Frees everything that no reader looks at any more, and goes on with growing; gives how many things it freed.
    /// For idle moments.
    pub fn try_reclaim(&mut self) -> usize {
        self.move_keys(IDLE_STRIDES);
        self.shared.epochs.tick();
        self.reclaim(usize::MAX)
    }

    /// How many replaced things wait to be freed.
    pub fn pending(&self) -> usize {
        self.holdings.limbo.len()
    }

    /// Waits until every reader has finished the burst it is in, and frees everything replaced so far.
    pub fn synchronize(&mut self) {
        let ticket = self.grace_ticket();
        self.wait_for(ticket);
        self.reclaim(usize::MAX);
    }

    fn wait_for(&self, ticket: Ticket) {
        let mut turns = 0u32;
        while !self.passed(ticket) {
            turns = turns.saturating_add(1);
            // Bursts last microseconds; a reader that was preempted needs the processor more than this thread does.
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            if turns < 100 {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
        }
    }

    /// After a change: pays its share of growing, and now and then looks at the readers and frees. The change's ticket
    /// is the one that the next tick draws.
    pub(super) fn settle(&mut self) -> Ticket {
        let ticket = self.shared.epochs.upcoming();
        self.move_keys(1);
        self.holdings.unticked += 1;
        if self.holdings.unticked >= CHANGES_PER_TICK {
            self.holdings.unticked = 0;
            self.shared.epochs.tick();
            self.reclaim(RECLAIM_PER_TICK);
        }
        ticket
    }

    pub(super) fn reclaim(&mut self, at_most: usize) -> usize {
        let passed = self.shared.epochs.passed();
        let mut freed = 0;
        while freed < at_most
            && let Some(garbage) = self.holdings.limbo.pop(passed)
        {
            // SAFETY: it was unlinked before its ticket was drawn, and the ticket has passed.
            unsafe { self.holdings.free(garbage) };
            freed += 1;
        }
        freed
    }

    /// Sees to it that so many new keys fit.
    pub(super) fn make_room(&mut self, keys: usize) {
        if !self.holdings.index.is_tight(keys) {
            return;
        }
        if let Some(ready) = self.holdings.index.moves_from() {
            // The index has to grow again before it has finished growing: only if a reader's burst outlasts as many
            // insertions as there are sessions.
            self.wait_for(ready);
            self.move_keys(usize::MAX);
        }
        if self.holdings.index.is_tight(keys) {
            self.holdings.index.grow(keys, Ticket::NEVER);
            let known = self.publish_generation();
            self.holdings.index.known_from(known);
        }
    }

    fn move_keys(&mut self, strides: usize) {
        if self.holdings.index.is_growing() && self.holdings.index.move_some(strides, self.shared.epochs.passed()) {
            self.publish_generation();
        }
    }

    fn publish_generation(&mut self) -> Ticket {
        let new = NonNull::from(Box::leak(self.holdings.generation()));
        let old = self.shared.generation.swap(new.as_ptr(), Ordering::AcqRel);
        let ticket = self.shared.epochs.tick();
        if let Some(old) = NonNull::new(old) {
            self.holdings.limbo.push(ticket, Garbage::Generation(old));
        }
        ticket
    }
}
