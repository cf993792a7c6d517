//! Everything that a table owns besides what readers search.

use super::precedences::Present;
use crate::arena::{Arena, Line};
use crate::entry::{Entry, Superseded};
use crate::framed::Branch;
use crate::index::{Generation, Grave, Index};
use crate::memory::Slab;
use crate::quota::{Accounts, OwnerId};
use crate::rcu::Limbo;
use crate::ruleset::{RuleSet, RuleSets};
use crate::slots::Slots;
use std::ptr::NonNull;
use std::sync::Arc;
use upf_model::SessionId;

/// What the writer knows of a session: one cache line.
#[repr(align(64))]
pub(super) struct Slot {
    /// In the arena, and its back.
    pub entry: NonNull<Entry>,
    pub back: NonNull<Line>,
    pub precedences: Present,
    /// How many lines the back has.
    pub back_lines: u32,
    /// The [hash](Index::hash) of its first key, to ask for its bucket while other lines are on their way.
    pub hash: u32,
    pub owner: OwnerId,
}

impl Slot {
    /// Makes `entry` the session's.
    pub fn put(&mut self, entry: NonNull<Entry>) {
        self.entry = entry;
        (self.back, self.back_lines) = Self::back_of(entry);
    }

    /// The back of an entry that was just made, and its lines.
    pub fn back_of(entry: NonNull<Entry>) -> (NonNull<Line>, u32) {
        // SAFETY: just made, and freed only after it has left its slot.
        let entry = unsafe { entry.as_ref() };
        (entry.back(), entry.own().lines() as u32)
    }

    /// Whose it is, and how many rules it has.
    pub fn account(&self) -> (OwnerId, u32) {
        (self.owner, self.precedences.len())
    }
}

/// What readers may still look at.
pub(super) enum Garbage<T> {
    /// An entry's front and back and how many lines they have, what it held, and its payload, if that has gone too.
    Entry {
        front: NonNull<Line>,
        back: NonNull<Line>,
        lines: [u32; 2],
        set: Option<Arc<RuleSet>>,
        precedences: Option<Superseded>,
        payload: Option<NonNull<T>>,
    },
    /// From `Box::leak`.
    Generation(NonNull<Generation<Entry>>),
    Branch(Branch<Entry>),
    Precedences(Superseded),
    Grave(Grave),
}

/// Everything that a table owns besides what readers search.
pub(crate) struct Holdings<T> {
    pub(super) slots: Slots<Slot>,
    pub(super) arena: Arena,
    pub(super) payloads: Slab<T>,
    pub(super) index: Index<Entry>,
    pub(super) rule_sets: RuleSets,
    pub(super) accounts: Accounts,
    pub(super) limbo: Limbo<Garbage<T>>,
    /// Changes since the last tick.
    pub(super) unticked: usize,
    pub(super) scratch: Scratch,
}

/// Room that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    pub block: Vec<Line>,
    pub shapes: Vec<u8>,
    pub which: Vec<u8>,
}

// SAFETY: it owns the entries and payloads that its pointers lead to; nothing in it is tied to a thread.
unsafe impl<T: Send + Sync> Send for Holdings<T> {}

impl<T> Holdings<T> {
    /// Of no session, with so many cells that F-TEIDs index.
    pub fn new(direct_teids: usize) -> Self {
        Self {
            slots: Slots::new(),
            arena: Arena::new(),
            payloads: Slab::new(),
            index: Index::new(direct_teids),
            rule_sets: RuleSets::default(),
            accounts: Accounts::default(),
            limbo: Limbo::new(),
            unticked: 0,
            scratch: Scratch::default(),
        }
    }

    pub fn generation(&self) -> Box<Generation<Entry>> {
        self.index.generation()
    }

    pub(super) fn entry(&self, id: SessionId) -> Option<&Entry> {
        // SAFETY: a slot's entry is freed only after it has left the slot.
        self.slots.get(id).map(|slot| unsafe { slot.entry.as_ref() })
    }

    /// What there is to free of an entry that is in no slot any more.
    pub(super) fn garbage((entry, back): (NonNull<Entry>, NonNull<Line>), with_payload: bool) -> Garbage<T> {
        // SAFETY: it is freed only as garbage, that is, after this, and the back is its.
        let (of, own) = unsafe { (entry.as_ref(), entry.as_ref().own_at(back)) };
        // SAFETY: from `Arc::into_raw`, and given back once: here.
        let set = (!own.set().is_null()).then(|| unsafe { Arc::from_raw(own.set()) });
        Garbage::Entry {
            front: entry.cast(),
            back,
            lines: [of.front_lines() as u32, own.lines() as u32],
            set,
            precedences: of.superseded(),
            payload: if with_payload {
                NonNull::new(of.payload().cast_mut().cast())
            } else {
                None
            },
        }
    }

    /// # Safety
    /// No reader may look at it any more.
    pub(super) unsafe fn free(&mut self, garbage: Garbage<T>) {
        match garbage {
            Garbage::Entry {
                front,
                back,
                lines: [front_lines, back_lines],
                set,
                precedences,
                payload,
            } => {
                // SAFETY: it is an entry still.
                #[cfg(loom)]
                unsafe { front.cast::<Entry>().as_ref() }.witness.with_mut(|_| ());
                // SAFETY: of the arena, of that many lines, and no reader has it, says the caller.
                unsafe {
                    self.arena
                        .give_back((front, front_lines as usize), (back, back_lines as usize));
                }
                drop(precedences);
                if let Some(set) = set {
                    self.rule_sets.release(set);
                }
                if let Some(payload) = payload {
                    // SAFETY: as for the entry: it was the last one that led to the payload.
                    unsafe { self.payloads.remove(payload) };
                }
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
        let entries: Vec<_> = self.slots.iter().map(|(_, slot)| (slot.entry, slot.back)).collect();
        let mut garbage: Vec<_> = self.limbo.drain().collect();
        garbage.extend(entries.into_iter().map(|entry| Self::garbage(entry, true)));
        for garbage in garbage {
            // SAFETY: dropped with the shared side, hence no reader is left; each entry is in one slot or in limbo.
            unsafe { self.free(garbage) };
        }
    }
}
