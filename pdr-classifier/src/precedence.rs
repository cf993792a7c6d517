//! Precedences of a large set that have changed since its rules were put. (Small ones have an [order](crate::order).)
//!
//! Rows stand in the order of the precedences that the rules were put with, and usually the first row that matches
//! wins. When a change upsets that order, all rows that match are compared by their present precedences instead. A
//! session's *outlook* says which of the two holds and where the precedences are; it is one pointer with two marks in
//! its low bits, and changing a precedence is one store of it.
//!
//! The precedences are kept twice. A change is written into the copy that readers do not look at, and the store of
//! the pointer turns them to it. The other copy may be written to once a grace period has passed; if it has not (two
//! changes of one session within one burst), the change goes into a new allocation instead.

use crate::sync::{AtomicU32, Ordering};
use upf_model::Precedence;

use crate::RuleIndex;
use crate::rcu::Ticket;

/// The rules of a large set in the order of the precedences that they were put with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranking {
    /// Indexes of the rules, the first to win first.
    pub order: Box<[RuleIndex]>,
    /// The rank of each rule.
    pub ranks: Box<[RuleIndex]>,
}

impl Ranking {
    /// Of rules of those precedences; of equals, the earlier one comes first.
    pub fn of(precedences: impl Iterator<Item = Precedence>) -> Self {
        let mut order: Vec<(Precedence, RuleIndex)> = precedences.zip(0..).collect();
        order.sort_unstable();
        Self::in_order(order.into_iter().map(|(_, rule)| rule).collect())
    }

    /// Of rules in that order.
    pub fn in_order(order: Box<[RuleIndex]>) -> Self {
        let mut ranks = vec![0; order.len()];
        for (rank, rule) in (0..).zip(&order) {
            ranks[*rule as usize] = rank;
        }
        Self {
            order,
            ranks: ranks.into(),
        }
    }
}

/// Mark: the order of the rows is not that of the precedences.
pub(crate) const UPSET: usize = 0b01;
/// Mark: the second copy is the valid one.
pub(crate) const SECOND: usize = 0b10;

/// The present precedences of a session's rules, in two copies.
#[repr(align(8))]
pub(crate) struct Precedences {
    values: Box<[[AtomicU32; 2]]>,
}

impl Precedences {
    pub fn new(values: impl Iterator<Item = Precedence>) -> Self {
        Self {
            values: values.map(|p| [AtomicU32::new(p.0), AtomicU32::new(p.0)]).collect(),
        }
    }

    /// The precedence of a rule in the copy that `marks` names.
    #[inline(always)]
    pub fn get(&self, rule: RuleIndex, marks: usize) -> Precedence {
        Precedence(self.values[rule as usize][copy(marks)].load(Ordering::Relaxed))
    }

    fn set(&self, rule: RuleIndex, marks: usize, precedence: Precedence) {
        self.values[rule as usize][copy(marks)].store(precedence.0, Ordering::Relaxed);
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }
}

const fn copy(marks: usize) -> usize {
    (marks & SECOND != 0) as usize
}

/// The writer's notes on a session whose precedences have changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes {
    /// The rule whose last change is in the valid copy only.
    latest: RuleIndex,
    /// When readers were turned to the valid copy.
    turned: Ticket,
    /// Neighbours in the order of rows that are not in the order of precedence.
    inversions: u32,
}

/// What to publish after a change.
pub(crate) enum Publish {
    /// These marks, with the same precedences.
    Marks(usize),
    /// These precedences, with these marks.
    Anew(Box<Precedences>, usize),
}

impl Changes {
    pub const NONE: Self = Self {
        latest: RuleIndex::MAX,
        turned: Ticket::START,
        inversions: 0,
    };

    /// Whether the order of the rows is not that of the precedences.
    pub const fn are_upset(&self) -> bool {
        self.inversions > 0
    }

    /// Readers have been turned; `turned` was drawn after that.
    pub fn published(&mut self, turned: Ticket) {
        self.turned = turned;
    }

    /// Gives `rule` another precedence. `now` are the present precedences and their marks; `passed` is the latest
    /// ticket that has. Cost: constant, or linear in the rules if the last change is too recent.
    pub fn apply(
        &mut self,
        (now, marks): (&Precedences, usize),
        Ranking { order, ranks }: &Ranking,
        (rule, precedence): (RuleIndex, Precedence),
        passed: Ticket,
    ) -> Publish {
        let key = |of: RuleIndex| (if of == rule { precedence } else { now.get(of, marks) }, of);
        let old_key = |of: RuleIndex| (now.get(of, marks), of);
        let rank = ranks[rule as usize] as usize;
        for (before, after) in [rank.checked_sub(1).map(|r| (r, r + 1)), Some((rank, rank + 1))]
            .into_iter()
            .flatten()
        {
            if let (Some(&before), Some(&after)) = (order.get(before), order.get(after)) {
                self.inversions += u32::from(key(before) > key(after));
                self.inversions -= u32::from(old_key(before) > old_key(after));
            }
        }
        let upset = if self.inversions > 0 { UPSET } else { 0 };
        if self.turned <= passed {
            let other = marks & SECOND ^ SECOND;
            if self.latest != RuleIndex::MAX {
                now.set(self.latest, other, now.get(self.latest, marks));
            }
            now.set(rule, other, precedence);
            self.latest = rule;
            Publish::Marks(other | upset)
        } else {
            self.latest = RuleIndex::MAX;
            let values = (0..now.len() as RuleIndex).map(|of| key(of).0);
            Publish::Anew(Box::new(Precedences::new(values)), upset)
        }
    }
}
