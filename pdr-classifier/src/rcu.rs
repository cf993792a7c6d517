//! Grace periods: when may the writer free what it has replaced?
//!
//! The writer *unlinks* a thing (stores over the last pointer to it) and wants to know when no reader can still hold
//! it. Readers hold things only within a burst, between [`Epochs::enter`] and [`Epochs::exit`]. So there is a clock,
//! ticked by the writer after unlinking, and one word per reader: the time at which its burst began, or [`IDLE`].
//! What was unlinked before tick *t* is free once every reader is idle or began its burst at *t* or later.
//!
//! Why that is enough, with the two orderings that matter:
//! * A reader whose word says *t* or later read the clock after the writer's tick (acquire, release), hence sees the
//!   unlinking, hence cannot reach the thing.
//! * A reader that the writer saw idle may be entering at this moment. Between unlinking and looking at the words the
//!   writer has a sequentially consistent fence; between writing its word and following any pointer the reader has
//!   one. One of the two fences is first: either the writer sees the word, or the reader sees the unlinking.
//!
//! Costs: entering is one load, one store and one fence for a whole burst; leaving is one store. Readers never wait,
//! never retry, never write to a line that another reader writes. A lcore that sleeps is idle and holds nobody up.

#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard, atomic};
use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard, atomic};

use atomic::{AtomicU64, Ordering, fence};

/// The word of a reader that is not in a burst.
const IDLE: u64 = u64::MAX;

/// A point in time: once it has [passed](crate::Writer::passed), no reader uses anything that was replaced before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    /// Passed from the start.
    pub(crate) const START: Self = Self(0);
    /// Never passes.
    pub(crate) const NEVER: Self = Self(u64::MAX);
}

/// One reader's word, alone on its cache lines (two: adjacent lines are fetched together).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Presence(AtomicU64);

/// A reader's word as both sides hold it.
pub(crate) type Registered = Arc<Presence>;

/// The clock and the words of all readers.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    now: AtomicU64,
    readers: Mutex<Vec<Arc<Presence>>>,
}

impl Epochs {
    fn readers(&self) -> MutexGuard<'_, Vec<Arc<Presence>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A word for a new reader, idle.
    pub fn register(&self) -> Arc<Presence> {
        let presence = Arc::new(Presence(AtomicU64::new(IDLE)));
        self.readers().push(Arc::clone(&presence));
        presence
    }

    /// Forgets a reader. It must be idle.
    pub fn deregister(&self, presence: &Arc<Presence>) {
        self.readers().retain(|p| !Arc::ptr_eq(p, presence));
    }

    /// The reader's burst begins.
    #[inline]
    pub fn enter(&self, presence: &Presence) {
        presence.0.store(self.now.load(Ordering::Acquire), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The reader's burst ends.
    #[inline]
    pub fn exit(&self, presence: &Presence) {
        presence.0.store(IDLE, Ordering::Release);
    }

    /// Ticks the clock: the ticket of everything unlinked before. Only the one writer calls it.
    pub fn tick(&self) -> Ticket {
        fence(Ordering::SeqCst);
        Ticket(self.now.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The ticket that the next tick will draw: of everything unlinked until then. Cost: a load.
    pub fn upcoming(&self) -> Ticket {
        Ticket(self.now.load(Ordering::Relaxed) + 1)
    }

    /// The latest ticket that has passed. Cost: one load per reader.
    pub fn passed(&self) -> Ticket {
        let now = self.now.load(Ordering::Relaxed);
        let began = self.readers().iter().map(|p| p.0.load(Ordering::Acquire)).min();
        Ticket(began.map_or(now, |began| began.min(now)))
    }
}

/// What the writer has unlinked and may not free yet, in the order of its tickets.
#[derive(Debug)]
pub(crate) struct Limbo<G>(VecDeque<(Ticket, G)>);

impl<G> Limbo<G> {
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Keeps `garbage`, unlinked before `ticket` was drawn, until it has passed.
    pub fn push(&mut self, ticket: Ticket, garbage: G) {
        self.0.push_back((ticket, garbage));
    }

    /// The next thing whose ticket is not after `passed`.
    pub fn pop(&mut self, passed: Ticket) -> Option<G> {
        let has_passed = self.0.front().is_some_and(|(ticket, _)| *ticket <= passed);
        if has_passed {
            self.0.pop_front().map(|(_, garbage)| garbage)
        } else {
            None
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything, passed or not: for when there are no readers left.
    pub fn drain(&mut self) -> impl Iterator<Item = G> {
        self.0.drain(..).map(|(_, garbage)| garbage)
    }
}

/// All interleavings, and all that the memory model allows, of one reader and the writer:
/// `RUSTFLAGS="--cfg loom" cargo test --release -p pdr-classifier --lib rcu`.
#[cfg(all(test, loom))]
mod interleavings {
    use super::*;
    use atomic::AtomicUsize;
    use loom::cell::UnsafeCell;
    use loom::thread;

    /// Two places for a thing, of which the number in force says which is looked at.
    struct World {
        epochs: Epochs,
        in_force: AtomicUsize,
        places: [UnsafeCell<u32>; 2],
    }

    #[test]
    fn what_a_ticket_has_passed_for_is_looked_at_by_nobody() {
        loom::model(|| {
            let world = Arc::new(World {
                epochs: Epochs::default(),
                in_force: AtomicUsize::new(0),
                places: [UnsafeCell::new(1), UnsafeCell::new(2)],
            });
            let presence = world.epochs.register();
            let reader = thread::spawn({
                let world = Arc::clone(&world);
                move || {
                    for _ in 0..2 {
                        world.epochs.enter(&presence);
                        let place = &world.places[world.in_force.load(Ordering::Acquire)];
                        // SAFETY: loom tells if anybody writes there meanwhile.
                        let seen = place.with(|value| unsafe { *value });
                        assert!(seen == 1 || seen == 2, "never what was written after it had been freed");
                        world.epochs.exit(&presence);
                    }
                }
            });
            world.in_force.store(1, Ordering::Release);
            let ticket = world.epochs.tick();
            if world.epochs.passed() >= ticket {
                // SAFETY: loom tells if anybody looks there meanwhile.
                world.places[0].with_mut(|value| unsafe { *value = 3 });
            }
            reader.join().expect("the reader ends");
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_passes_at_once_without_readers_and_with_idle_ones() {
        let epochs = Epochs::default();
        let ticket = epochs.tick();
        assert!(epochs.passed() >= ticket);
        let _idle = epochs.register();
        let ticket = epochs.tick();
        assert!(epochs.passed() >= ticket);
    }

    #[test]
    fn a_ticket_waits_for_the_bursts_that_were_running_and_for_no_later_ones() {
        let epochs = Epochs::default();
        let (slow, quick) = (epochs.register(), epochs.register());
        epochs.enter(&slow);
        let ticket = epochs.tick();
        assert!(epochs.passed() < ticket);
        epochs.enter(&quick);
        epochs.exit(&slow);
        assert!(epochs.passed() >= ticket, "the burst of `quick` began after the tick");
        let ticket = epochs.tick();
        assert!(epochs.passed() < ticket);
        epochs.exit(&quick);
        assert!(epochs.passed() >= ticket);
    }

    #[test]
    fn a_reader_that_has_gone_holds_nothing_up() {
        let epochs = Epochs::default();
        let reader = epochs.register();
        epochs.enter(&reader);
        epochs.deregister(&reader);
        let ticket = epochs.tick();
        assert!(epochs.passed() >= ticket);
    }
}
