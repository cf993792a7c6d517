//! Precedences: what the writer knows of them, and changing them.

use super::Writer;
use super::grace::RECLAIM_PER_TICK;
use super::holdings::Garbage;
use crate::block::Form;
use crate::compile::Matcher;
use crate::order;
use crate::precedence::{Changes, Precedences, Publish};
use crate::ruleset::RuleSet;
use crate::{PdrMatch, RuleIndex};
use upf_model::{Precedence, SessionId};

/// The present precedences of a session's rules.
pub(super) enum Present {
    /// Of at most four rules, each of one row, and how many they are.
    Few([u32; 4], u16),
    /// Of any others.
    Many(Box<Many>),
}

pub(super) struct Many {
    pub values: Vec<u32>,
    /// Of a block: the rule of each row.
    rule_of: Vec<RuleIndex>,
    /// Of sections.
    pub changes: Changes,
}

impl Present {
    pub fn of(rules: &[PdrMatch], matcher: &Matcher) -> Self {
        let values = rules.iter().map(|rule| rule.precedence.0);
        if let Matcher::Block(form, _) = matcher
            && form.is_plain
            && rules.len() <= 4
        {
            let mut few = [u32::MAX; 4];
            few.iter_mut().zip(values).for_each(|(place, value)| *place = value);
            return Self::Few(few, rules.len() as u16);
        }
        let rule_of = match matcher {
            Matcher::Block(_, rows) => rows.iter().map(|row| row.rule).collect(),
            Matcher::Sections(..) => Vec::new(),
        };
        Self::Many(Box::new(Many {
            values: values.collect(),
            rule_of,
            changes: Changes::NONE,
        }))
    }

    /// How many rules there are.
    pub fn len(&self) -> u32 {
        match self {
            Self::Few(_, len) => u32::from(*len),
            Self::Many(many) => many.values.len() as u32,
        }
    }

    pub fn get(&self, rule: usize) -> Precedence {
        let value = match self {
            Self::Few(few, _) => few.get(rule),
            Self::Many(many) => many.values.get(rule),
        };
        Precedence(value.copied().unwrap_or(u32::MAX))
    }

    /// Whether the order says where the row of that rule stands, in a block where row *r* is of rule *r*.
    pub fn ranks(&self, rule: RuleIndex) -> bool {
        match self {
            Self::Few(..) => true,
            Self::Many(many) => (rule as usize) < many.rule_of.len(),
        }
    }

    pub fn set(&mut self, rule: usize, precedence: Precedence) {
        let value = match self {
            Self::Few(few, _) => few.get_mut(rule),
            Self::Many(many) => many.values.get_mut(rule),
        };
        value.into_iter().for_each(|value| *value = precedence.0);
    }

    /// The order of the rows of a block.
    pub fn order(&self, form: Form) -> u64 {
        match self {
            Self::Few(few, _) => order::of_four(*few),
            Self::Many(many) => many.order(form),
        }
    }
}

impl Many {
    /// Of sections: the rule at that index has this precedence now, is a new one behind the others, or has gone; and the
    /// ranking of the rules has been made for it.
    pub fn replace(&mut self, index: RuleIndex, precedence: Option<Precedence>) {
        let index = index as usize;
        match (precedence, self.values.get_mut(index)) {
            (Some(precedence), Some(value)) => *value = precedence.0,
            (Some(precedence), None) => self.values.push(precedence.0),
            (None, _) => drop(self.values.remove(index)),
        }
        self.changes = Changes::NONE;
    }

    fn order(&self, form: Form) -> u64 {
        let mut rows = [0; order::MOST];
        let of_rows = self.rule_of.iter().map(|rule| self.values[*rule as usize]);
        rows.iter_mut().zip(of_rows).for_each(|(place, value)| *place = value);
        order::of(&rows[..self.rule_of.len().min(order::MOST)], form.lanes.into())
    }
}

impl<T: Send + Sync> Writer<T> {
    /// Changes the precedence of the rule at index `rule` of the rules that were put, at once for all packets.
    /// `false` if there is no such session or rule.
    ///
    /// Cost: constant: up to sixteen rows, one store of the session's [order](crate::order) and, in a large table, the
    /// cache miss of what the writer knows of the session. Above that, linear for the first change of a session, and if
    /// a reader is still in the burst it was in at its last one.
    #[inline]
    pub fn set_precedence(&mut self, id: SessionId, rule: RuleIndex, precedence: Precedence) -> bool {
        let Some(slot) = self.holdings.slots.get_mut(id) else {
            return false;
        };
        let Present::Few(few, len) = &mut slot.precedences else {
            return self.set_precedence_of_many(id, rule, precedence);
        };
        if rule >= (*len).into() {
            return false;
        }
        few[rule as usize % few.len()] = precedence.0;
        let order = order::of_four(*few);
        // SAFETY: in its slot.
        unsafe { slot.entry.as_ref() }.set_order(order);
        true
    }

    /// Changes many precedences, each as [`Self::set_precedence`] would, but asks for the memory of those to come while
    /// it changes the first ones: a push of the context to thousands of sessions costs no cache miss after the other.
    /// Changes of one session that follow each other take effect at once. Gives how many there were sessions and rules
    /// for.
    pub fn set_precedences(&mut self, changes: &[(SessionId, RuleIndex, Precedence)]) -> usize {
        const AHEAD: usize = 12;
        changes
            .iter()
            .take(AHEAD)
            .for_each(|(id, ..)| self.holdings.slots.prefetch(*id));
        let mut made = 0;
        for (at, (id, rule, precedence)) in changes.iter().enumerate() {
            if let Some((ahead, ..)) = changes.get(at + AHEAD) {
                self.holdings.slots.prefetch(*ahead);
            }
            let goes_on = changes.get(at + 1).is_some_and(|(next, ..)| next == id);
            made += usize::from(if goes_on {
                self.note_precedence(*id, *rule, *precedence)
            } else {
                self.set_precedence(*id, *rule, *precedence)
            });
        }
        made
    }

    /// The same for a change that is not to be seen before the next one of the session.
    fn note_precedence(&mut self, id: SessionId, rule: RuleIndex, precedence: Precedence) -> bool {
        let Some(slot) = self
            .holdings
            .slots
            .get_mut(id)
            .filter(|slot| rule < slot.precedences.len())
        else {
            return false;
        };
        match &mut slot.precedences {
            Present::Few(few, _) => few[rule as usize % few.len()] = precedence.0,
            Present::Many(many) if !many.rule_of.is_empty() => many.values[rule as usize] = precedence.0,
            Present::Many(_) => return self.set_precedence(id, rule, precedence),
        }
        true
    }

    #[inline(never)]
    fn set_precedence_of_many(&mut self, id: SessionId, rule: RuleIndex, precedence: Precedence) -> bool {
        let Some(slot) = self.holdings.slots.get_mut(id) else {
            return false;
        };
        let Present::Many(many) = &mut slot.precedences else {
            return false;
        };
        if rule as usize >= many.values.len() {
            return false;
        }
        // SAFETY: in its slot.
        let entry = unsafe { slot.entry.as_ref() };
        let Some(ranking) = entry.sections().and_then(RuleSet::ranking) else {
            many.values[rule as usize] = precedence.0;
            entry.set_order(many.order(entry.form()));
            return true;
        };
        let change = (rule, precedence);
        let passed = self.shared.epochs.passed();
        let publish = match entry.outlook() {
            Some(now) => many.changes.apply(now, ranking, change, passed),
            None => {
                let as_put = Box::new(Precedences::new(many.values.iter().map(|p| Precedence(*p))));
                match many.changes.apply((&as_put, 0), ranking, change, passed) {
                    Publish::Marks(marks) => Publish::Anew(as_put, marks),
                    anew => anew,
                }
            }
        };
        many.values[rule as usize] = precedence.0;
        let superseded = match publish {
            Publish::Marks(marks) => {
                entry.turn(marks);
                None
            }
            Publish::Anew(precedences, marks) => entry.turn_to(precedences, marks),
        };
        let ticket = self.shared.epochs.tick();
        many.changes.published(ticket);
        if let Some(superseded) = superseded {
            self.holdings.limbo.push(ticket, Garbage::Precedences(superseded));
            self.reclaim(RECLAIM_PER_TICK);
        }
        true
    }
}
