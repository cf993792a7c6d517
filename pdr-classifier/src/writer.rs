//! The writer: the one side that changes a table.

use crate::entry::{Entry, Own, Superseded};
use crate::framed::Branch;
use crate::index::{Generation, Grave, Index, ORDINAL_UNSAID};
use crate::memory::Slab;
use crate::precedence::{Changes, Precedences, Publish};
use crate::rcu::{Limbo, Ticket};
use crate::row::{MAX_ROWS, TooManyRows};
use crate::ruleset::{RuleSet, RuleSets};
use crate::shape::{MAX_KEYS, Shapes};
use crate::slots::Slots;
use crate::table::Shared;
use crate::{PdrMatch, SessionKey};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use upf_model::{IpPrefix, NetworkInstanceId, Precedence, SessionId};

/// How many retired things a change frees at most, so that none of them takes long.
const RECLAIM_PER_CHANGE: usize = 16;

/// How many times more keys an idle moment moves than a change does.
const IDLE_STRIDES: usize = 256;

/// A framed route.
type Route = (NetworkInstanceId, IpPrefix);

/// Why a session was refused; the table is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Keys are exclusive: another session has this one.
    #[error("expected a key that no other session has, found {key:?}, which session {owner} has")]
    KeyTaken {
        /// Which key.
        key: SessionKey,
        /// Whose it is.
        owner: SessionId,
    },
    /// Framed routes are exclusive within a network instance: another session has this very prefix.
    #[error("expected a framed route that no other session has, found {prefix}, which session {owner} has")]
    FramedRouteTaken {
        /// Which prefix.
        prefix: IpPrefix,
        /// Whose it is.
        owner: SessionId,
    },
    /// More than a session may have.
    #[error("expected at most {limit} {what}, found {found}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
        /// How many there were, at least.
        found: usize,
    },
}

impl PutError {
    pub(crate) const fn limit(what: &'static str, limit: usize, found: usize) -> Result<(), Self> {
        if found <= limit {
            Ok(())
        } else {
            Err(Self::TooMany { what, limit, found })
        }
    }
}

/// What the writer knows of a session.
struct Slot<T> {
    /// In [`Holdings::entries`].
    entry: NonNull<Entry<T>>,
    changes: Changes,
}

/// What readers may still look at.
enum Garbage<T> {
    Entry(NonNull<Entry<T>>),
    /// From `Box::leak`.
    Generation(NonNull<Generation<Entry<T>>>),
    Branch(Branch<Entry<T>>),
    Precedences(Superseded),
    Grave(Grave),
}

/// Everything that a table owns besides what readers search.
pub(crate) struct Holdings<T> {
    slots: Slots<Slot<T>>,
    entries: Slab<Entry<T>>,
    index: Index<Entry<T>>,
    rule_sets: RuleSets,
    limbo: Limbo<Garbage<T>>,
}

// SAFETY: it owns the entries that its pointers lead to; nothing in it is tied to a thread.
unsafe impl<T: Send + Sync> Send for Holdings<T> {}

impl<T> Holdings<T> {
    pub fn new() -> Self {
        Self {
            slots: Slots::new(),
            entries: Slab::new(),
            index: Index::new(),
            rule_sets: RuleSets::default(),
            limbo: Limbo::new(),
        }
    }

    pub fn generation(&self) -> Box<Generation<Entry<T>>> {
        self.index.generation()
    }

    fn entry(&self, id: SessionId) -> Option<&Entry<T>> {
        // SAFETY: a slot's entry is freed only after it has left the slot.
        self.slots.get(id).map(|slot| unsafe { slot.entry.as_ref() })
    }

    /// # Safety
    /// No reader may look at it any more.
    unsafe fn free(&mut self, garbage: Garbage<T>) {
        match garbage {
            Garbage::Entry(entry) => {
                // SAFETY: unlinked, but not freed before this.
                let rules = Arc::clone(&unsafe { entry.as_ref() }.own().rules);
                // SAFETY: from `publish`, and no reader has it, says the caller.
                unsafe { self.entries.remove(entry) };
                self.rule_sets.release(rules);
            }
            // SAFETY: as for the entry.
            Garbage::Generation(generation) => drop(unsafe { Box::from_raw(generation.as_ptr()) }),
            Garbage::Branch(branch) => drop(branch),
            Garbage::Precedences(superseded) => drop(superseded),
            Garbage::Grave(grave) => self.index.fill_grave(grave),
        }
    }
}

impl<T> Drop for Holdings<T> {
    fn drop(&mut self) {
        for (_, slot) in self.slots.iter() {
            // SAFETY: dropped with the shared side, hence no reader is left; each entry is in one slot or in limbo.
            unsafe { self.entries.remove(slot.entry) };
        }
        let garbage: Vec<_> = self.limbo.drain().collect();
        for garbage in garbage {
            // SAFETY: no reader is left.
            unsafe { self.free(garbage) };
        }
    }
}

/// The one side that changes a [`Table`](crate::Table): for the control thread.
///
/// Each change takes effect with one store and returns at once; what it replaced is freed by later changes, by
/// [`Self::try_reclaim`] or by [`Self::synchronize`], when no reader looks at it any more.
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    holdings: Holdings<T>,
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        // Readers may go on with the table as it is; the last handle frees it.
        let estate = std::mem::replace(&mut self.holdings, Holdings::new());
        *self.shared.estate.lock().unwrap_or_else(PoisonError::into_inner) = Some(estate);
    }
}

impl<T: Send + Sync> Writer<T> {
    pub(crate) const fn new(shared: Arc<Shared<T>>, holdings: Holdings<T>) -> Self {
        Self { shared, holdings }
    }

    /// Makes session `id` be this: inserts it, or replaces all of it (keys, rules and payload) at once, so that no
    /// packet sees a mixture. Packets of keys that stay are never lost; keys that come are there before it, keys that
    /// go are there until after it. Repeated keys count once.
    ///
    /// Once the ticket has [passed](Self::passed), no reader uses what was replaced.
    ///
    /// Cost: linear in the keys and rules; rules are compiled only if no session has such rules yet. In a large table
    /// about one cache miss per key and a few more.
    ///
    /// # Errors
    /// [`PutError`]; the table is then as it was.
    pub fn put(
        &mut self,
        id: SessionId,
        keys: &[SessionKey],
        framed: &[(NetworkInstanceId, IpPrefix)],
        rules: &[PdrMatch],
        payload: T,
    ) -> Result<Ticket, PutError> {
        let keys = each_once(keys);
        self.expect_unowned(id, &keys, framed)?;
        let (shapes, ue_sets) = Shapes::of(&keys, !framed.is_empty(), rules)?;
        let own = Own {
            framed: framed.into(),
            ue_sets,
            precedences: rules.iter().map(|rule| rule.precedence).collect(),
            rules: self.intern(id, shapes)?,
            keys,
        };
        self.make_room(own.keys.len());
        Ok(self.publish(id, Entry::new(id, own, payload)))
    }

    fn expect_unowned(
        &self,
        id: SessionId,
        keys: &[SessionKey],
        framed: &[(NetworkInstanceId, IpPrefix)],
    ) -> Result<(), PutError> {
        for &key in keys {
            if let Some(link) = self.holdings.index.get(key) {
                // SAFETY: the index leads to entries that are in slots.
                let owner = unsafe { &*link.entry() }.id();
                if owner != id {
                    return Err(PutError::KeyTaken { key, owner });
                }
            }
        }
        for &(ni, prefix) in framed {
            if let Some(entry) = self.shared.framed.get(ni, prefix) {
                // SAFETY: framed routes lead to entries that are in slots.
                let owner = unsafe { entry.as_ref() }.id();
                if owner != id {
                    return Err(PutError::FramedRouteTaken { prefix, owner });
                }
            }
        }
        Ok(())
    }

    /// The compiled rules of those shapes, for session `id`.
    fn intern(&mut self, id: SessionId, shapes: Shapes<'_>) -> Result<Arc<RuleSet>, PutError> {
        let too_many = |TooManyRows| PutError::TooMany {
            what: "combinations of filters and port ranges in the rules of a session",
            limit: MAX_ROWS,
            found: MAX_ROWS + 1,
        };
        // SAFETY: a slot's entry is freed only after it has left the slot.
        let former = self
            .holdings
            .slots
            .get(id)
            .map(|slot| &unsafe { slot.entry.as_ref() }.own().rules);
        self.holdings.rule_sets.get(shapes, former).map_err(too_many)
    }

    /// Puts the entry in force, in this order: what comes; the switch; what stays; what goes.
    fn publish(&mut self, id: SessionId, entry: Entry<T>) -> Ticket {
        let link = self.holdings.entries.insert(entry);
        let former = self.holdings.slots.insert(
            id,
            Slot {
                entry: link,
                changes: Changes::NONE,
            },
        );
        // SAFETY: just made, and freed only by `Holdings::free` when something has replaced it.
        let new = unsafe { link.as_ref() }.own();
        // SAFETY: it was in its slot until now, and goes to limbo below.
        let old = former.as_ref().map(|slot| unsafe { slot.entry.as_ref() });
        let stays = |key: &SessionKey| old.is_some_and(|old| old.own().keys.contains(key));
        let route_stays = |route: &Route| old.is_some_and(|old| old.own().framed.contains(route));

        self.lead(link, new, |key| !stays(key), |route| !route_stays(route));
        if let Some(old) = old {
            old.replace_by(link.as_ptr());
            self.lead(link, new, stays, route_stays);
        }
        match former {
            Some(slot) => self.retire(
                slot.entry,
                |key| !new.keys.contains(key),
                |route| !new.framed.contains(route),
            ),
            None => self.settle(),
        }
    }

    /// Makes those keys and framed routes of `own` lead to `entry`.
    fn lead(
        &mut self,
        entry: NonNull<Entry<T>>,
        own: &Own,
        keys: impl Fn(&SessionKey) -> bool,
        framed: impl Fn(&Route) -> bool,
    ) {
        for (key, ordinal) in own.keys.iter().zip(0u8..).filter(|(key, _)| keys(key)) {
            self.holdings.index.set(*key, entry, ordinal.min(ORDINAL_UNSAID));
        }
        for (ni, prefix) in own.framed.iter().filter(|route| framed(route)) {
            self.shared.framed.set(*ni, *prefix, entry);
        }
    }

    /// Makes those of its keys and framed routes lead nowhere, and the entry garbage. It is out of its slot, and
    /// replaced or removed.
    fn retire(
        &mut self,
        entry: NonNull<Entry<T>>,
        keys: impl Fn(&SessionKey) -> bool,
        framed: impl Fn(&Route) -> bool,
    ) -> Ticket {
        let mut cut = Vec::new();
        {
            // SAFETY: freed only once it is garbage, and a grace period later.
            let own = unsafe { entry.as_ref() }.own();
            let graves = own
                .keys
                .iter()
                .filter(|key| keys(key))
                .filter_map(|key| self.holdings.index.bury(*key));
            cut.extend(graves.map(Garbage::Grave));
            let routes = own.framed.iter().filter(|route| framed(route));
            let branches = routes.filter_map(|(ni, prefix)| self.shared.framed.remove(*ni, *prefix));
            cut.extend(branches.map(Garbage::Branch));
        }
        cut.push(Garbage::Entry(entry));
        let ticket = self.settle();
        cut.into_iter()
            .for_each(|garbage| self.holdings.limbo.push(ticket, garbage));
        ticket
    }

    /// Removes session `id`: none of its keys finds it any more. `None` if there is no such session.
    pub fn remove(&mut self, id: SessionId) -> Option<Ticket> {
        let slot = self.holdings.slots.remove(id)?;
        // SAFETY: it was in its slot until now, and goes to limbo below.
        unsafe { slot.entry.as_ref() }.remove();
        Some(self.retire(slot.entry, |_| true, |_| true))
    }

    /// Changes the precedence of the rule at index `rule` of the rules that were put, at once for all packets; the
    /// next [`Self::put`] of the session sets precedences anew. `false` if there is no such session or rule.
    ///
    /// Cost: constant, one store for readers to see; but linear in the session's rules for its first change, and if
    /// a reader is still in the burst it was in at its last one.
    pub fn set_precedence(&mut self, id: SessionId, rule: u16, precedence: Precedence) -> bool {
        let passed = self.shared.epochs.passed();
        let Some(slot) = self.holdings.slots.get_mut(id) else {
            return false;
        };
        // SAFETY: in its slot.
        let entry = unsafe { slot.entry.as_ref() };
        let Own { rules, precedences, .. } = entry.own();
        if usize::from(rule) >= precedences.len() {
            return false;
        }
        let change = (rule, precedence);
        let publish = match entry.outlook() {
            Some(now) => slot.changes.apply(now, rules, change, passed),
            None => {
                let as_put = Box::new(Precedences::new(precedences.iter().copied()));
                match slot.changes.apply((&as_put, 0), rules, change, passed) {
                    Publish::Marks(marks) => Publish::Anew(as_put, marks),
                    anew => anew,
                }
            }
        };
        let superseded = match publish {
            Publish::Marks(marks) => {
                entry.turn(marks);
                None
            }
            Publish::Anew(precedences, marks) => entry.turn_to(precedences, marks),
        };
        let ticket = self.shared.epochs.tick();
        slot.changes.published(ticket);
        if let Some(superseded) = superseded {
            self.holdings.limbo.push(ticket, Garbage::Precedences(superseded));
            self.reclaim(RECLAIM_PER_CHANGE);
        }
        true
    }

    /// The payload of session `id`, as put last.
    pub fn get(&self, id: SessionId) -> Option<&T> {
        self.holdings.entry(id).map(Entry::payload)
    }

    /// The rules of session `id` with their present precedences. Allocates.
    pub fn rules(&self, id: SessionId) -> Option<Vec<PdrMatch>> {
        self.holdings.entry(id).map(Entry::rules)
    }

    /// The identifiers of all sessions, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.holdings.slots.iter().map(|(id, _)| id)
    }

    /// How many sessions there are.
    pub const fn len(&self) -> usize {
        self.holdings.slots.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different sets of rules the sessions have: those that differ in F-TEIDs, UE addresses or precedence
    /// values only are one.
    pub fn rule_sets(&self) -> usize {
        self.holdings.rule_sets.len()
    }

    /// A ticket for everything replaced so far.
    pub fn grace_ticket(&mut self) -> Ticket {
        self.shared.epochs.tick()
    }

    /// Whether every reader has finished the burst it was in when the ticket was drawn.
    pub fn passed(&self, ticket: Ticket) -> bool {
        ticket <= self.shared.epochs.passed()
    }

    /// Frees everything that no reader looks at any more, and goes on with growing; gives how many things it freed.
    /// For idle moments.
    pub fn try_reclaim(&mut self) -> usize {
        self.move_keys(IDLE_STRIDES);
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
            if turns < 100 {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
        }
    }

    /// After a change: draws its ticket, and pays its share of freeing and growing.
    fn settle(&mut self) -> Ticket {
        let ticket = self.shared.epochs.tick();
        self.move_keys(1);
        self.reclaim(RECLAIM_PER_CHANGE);
        ticket
    }

    fn reclaim(&mut self, at_most: usize) -> usize {
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
    fn make_room(&mut self, keys: usize) {
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

/// The distinct keys, or as many as are too many.
fn each_once(keys: &[SessionKey]) -> Box<[SessionKey]> {
    let mut distinct = Vec::with_capacity(keys.len().min(MAX_KEYS + 1));
    for key in keys {
        if distinct.len() <= MAX_KEYS && !distinct.contains(key) {
            distinct.push(*key);
        }
    }
    distinct.into()
}
