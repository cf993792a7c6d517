//! Changes of single rules: one lane of a block, a few rows of sections, or everything anew.

use super::grace::RECLAIM_PER_CHANGE;
use super::holdings::Scratch;
use super::precedences::Present;
use super::{Holdings, PutError, Writer};
use crate::block;
use crate::compile::{self, Gate, MAX_KEYS, MAX_RULES, RuleKeys};
use crate::entry::{Entry, Own, Parts, Source};
use crate::order;
use crate::precedence::Ranking;
use crate::rcu::Ticket;
use crate::row::Row;
use crate::ruleset::RuleSet;
use crate::section::Section;
use crate::shape::{self, Personal};
use crate::{PdrMatch, RuleIndex};
use std::ptr::NonNull;
use std::sync::Arc;
use upf_model::{Precedence, SessionId};

/// A change of one rule: see [`Writer::change`].
#[derive(Debug, Clone, Copy)]
pub enum RuleChange<'r> {
    /// Adds a rule behind the others.
    Insert(&'r PdrMatch),
    /// Puts a rule in the place of the one at that index.
    Replace(RuleIndex, &'r PdrMatch),
    /// Takes the rule at that index out; the indexes of those behind it become lower by one.
    Remove(RuleIndex),
    /// Gives the rule at that index another precedence.
    Precedence(RuleIndex, Precedence),
}

impl RuleChange<'_> {
    fn make(&self, rules: &mut Vec<PdrMatch>) -> Result<(), ChangeError> {
        let found = rules.len();
        let existing = |index: RuleIndex| {
            let index = index as usize;
            (index < found)
                .then_some(index)
                .ok_or(ChangeError::NoRule { index, found })
        };
        match *self {
            Self::Insert(rule) => rules.push(rule.clone()),
            Self::Replace(index, rule) => rules[existing(index)?].clone_from(rule),
            Self::Remove(index) => drop(rules.remove(existing(index)?)),
            Self::Precedence(index, precedence) => rules[existing(index)?].precedence = precedence,
        }
        Ok(())
    }
}

/// Why a change was refused; the session is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such session.
    #[error("expected a session that was put, found none with id {id}")]
    NoSession {
        /// Its id.
        id: SessionId,
    },
    /// The session has no such rule.
    #[error("expected an index below {found}, the number of the session's rules, found {index}")]
    NoRule {
        /// The index.
        index: usize,
        /// How many rules there are.
        found: usize,
    },
    /// The session would have more than it may.
    #[error(transparent)]
    Put(#[from] PutError),
}
impl<T: Send + Sync> Writer<T> {
    /// Changes rules of session `id` and leaves its keys and its payload as they are: all changes at once for all
    /// packets. They are made in their order, each on what those before it have left.
    ///
    /// Cost: linear in the rules; small if it is one change of a rule that asks for no more than the rules there are
    /// ask for: of up to sixteen rows, the entry is copied and one lane of it written; of up to 2,048, the rows and their
    /// sieve are copied and a few bytes written.
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn change(&mut self, id: SessionId, changes: &[RuleChange<'_>]) -> Result<Ticket, ChangeError> {
        if let [change] = changes
            && let Some(ticket) = self.change_alone(id, change)
        {
            return Ok(ticket);
        }
        let slot = self.holdings.slots.get(id).ok_or(ChangeError::NoSession { id })?;
        // SAFETY: in its slot.
        let entry = unsafe { slot.entry.as_ref() };
        let own = entry.own();
        let account = slot.account();
        let mut rules = own.to_rules(|rule| slot.precedences.get(rule));
        let (keys, framed) = (own.keys.to_vec(), own.framed());
        let payload = NonNull::new(entry.payload().cast_mut().cast::<T>());
        for change in changes {
            change.make(&mut rules)?;
        }
        let accounts = &self.holdings.accounts;
        accounts.expect_room(account.0, Some(account), rules.len())?;
        let prepared = self.prepare(&keys, &framed, &rules)?;
        let Some(payload) = payload else {
            return Err(ChangeError::NoSession { id });
        };
        Ok(self.publish((account.0, id), &keys, &rules, prepared, payload, false))
    }

    /// Adds a rule behind the others; gives its index. See [`Self::change`].
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn insert_rule(&mut self, id: SessionId, rule: &PdrMatch) -> Result<RuleIndex, ChangeError> {
        let slot = self.holdings.slots.get(id).ok_or(ChangeError::NoSession { id })?;
        let index = slot.precedences.len();
        self.change(id, &[RuleChange::Insert(rule)]).map(|_| index)
    }

    /// Puts `rule` in the place of the one at that index. See [`Self::change`].
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn replace_rule(&mut self, id: SessionId, index: RuleIndex, rule: &PdrMatch) -> Result<Ticket, ChangeError> {
        self.change(id, &[RuleChange::Replace(index, rule)])
    }

    /// Takes the rule at that index out; the indexes of those behind it become lower by one. See [`Self::change`].
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn remove_rule(&mut self, id: SessionId, index: RuleIndex) -> Result<Ticket, ChangeError> {
        self.change(id, &[RuleChange::Remove(index)])
    }

    /// One change without all the others' being looked at again. `None`: it takes more than that, or is refused.
    fn change_alone(&mut self, id: SessionId, change: &RuleChange<'_>) -> Option<Ticket> {
        let patched = match *change {
            RuleChange::Replace(index, rule) => self.patch(id, index, rule),
            _ => None,
        };
        patched.or_else(|| self.splice(id, change))
    }

    /// [`RuleChange::Replace`] where one lane of a block is all that changes, which is the usual case: the entry is
    /// copied, the lane written, and nothing compiled. `None`: it takes more than that.
    fn patch(&mut self, id: SessionId, index: RuleIndex, rule: &PdrMatch) -> Option<Ticket> {
        // What the rule comes to does not depend on the session: it is found out, and some of what was replaced before is
        // freed, while the session is on its way.
        self.holdings.slots.prefetch(id);
        let row = only_row(index, rule)?;
        self.reclaim(RECLAIM_PER_CHANGE);
        let holdings = &mut self.holdings;
        shape::write_which(rule, &mut holdings.scratch.which);
        let slot = holdings.slots.get_mut(id)?;
        let (former, back) = (slot.entry, slot.back);
        Entry::prefetch(former, (back, slot.back_lines as usize));
        holdings.index.prefetch(slot.hash);
        // SAFETY: in its slot until it is replaced below, and then in limbo.
        let entry = unsafe { former.as_ref() };
        if index >= slot.precedences.len().min(entry.form().lanes.into()) || !slot.precedences.ranks(index) {
            return None;
        }
        // SAFETY: the back is its.
        let own = unsafe { entry.own_at(back) };
        let patch = Patch::of(entry, own, (index, row), rule)?;
        let Scratch { block, shapes, which } = &mut holdings.scratch;
        block.clear();
        entry.with_block(|lines| block.extend_from_slice(lines));
        block::patch(entry.form(), &patch.row, index as u16, block);
        let shape = ((rule, &**which), patch.ue_set);
        shape::replace(own.shapes, index, Some(shape), own.keys, shapes);
        let set = holdings.rule_sets.block(entry.form(), block, shapes);
        slot.precedences.set(index as usize, rule.precedence);
        let parts = Parts {
            id,
            keys: own.keys,
            gates: &patch.gates[..own.gates.len()],
            gate_of: own.gate_of,
            framed_gate: own.framed_gate(),
            form: entry.form(),
            own_ue: entry.own_ue(),
            order: slot.precedences.order(entry.form()),
            personal: own.personal,
            source: match set {
                Some(set) => Source::Set(set),
                None => Source::Own(block, shapes),
            },
            payload: NonNull::new(entry.payload().cast_mut())?,
        };
        let link = parts.build(&mut holdings.arena);
        slot.put(link);
        Some(self.switch(link, Some((former, back)), false))
    }

    /// A change of one rule among the rows of sections: copies of those that its packets come to, with some rows less and
    /// some more.
    fn splice(&mut self, id: SessionId, change: &RuleChange<'_>) -> Option<Ticket> {
        let Holdings {
            slots,
            accounts,
            rule_sets,
            arena,
            scratch: Scratch { shapes, which, .. },
            ..
        } = &mut self.holdings;
        let slot = slots.get_mut(id)?;
        let (former, back) = (slot.entry, slot.back);
        // SAFETY: in its slot until it is replaced below, and then in limbo.
        let entry = unsafe { former.as_ref() };
        let (set, own) = (entry.sections()?, entry.own());
        let (account, count) = (slot.account(), slot.precedences.len());
        let (index, rule, rules) = match *change {
            RuleChange::Insert(rule) => (count, Some(rule), count + 1),
            RuleChange::Replace(index, rule) if index < count => (index, Some(rule), count),
            RuleChange::Remove(index) if index < count => (index, None, count - 1),
            _ => return None,
        };
        let Present::Many(many) = &mut slot.precedences else {
            return None;
        };
        if rules as usize > MAX_RULES
            || many.changes.are_upset()
            || accounts.expect_room(account.0, Some(account), rules as usize).is_err()
        {
            return None;
        }
        let splice = Splice::of(entry, own, (set, &many.values), (index, rule))?;
        rule.into_iter().for_each(|rule| shape::write_which(rule, which));
        let shape = rule.map(|rule| ((rule, &**which), splice.ue_set));
        shape::replace(own.shapes, index, shape, own.keys, shapes);
        let set = rule_sets.spliced(splice.sections, splice.ranking, shapes);
        many.replace(index, rule.map(|rule| rule.precedence));
        accounts.book(Some(account), Some(slot.account()));
        let parts = Parts {
            id,
            keys: own.keys,
            gates: own.gates,
            gate_of: own.gate_of,
            framed_gate: own.framed_gate(),
            form: entry.form(),
            own_ue: entry.own_ue(),
            order: 0,
            personal: own.personal,
            source: Source::Set(set),
            payload: NonNull::new(entry.payload().cast_mut())?,
        };
        let link = parts.build(arena);
        slot.put(link);
        Some(self.switch(link, Some((former, back)), false))
    }
}

/// The row of a rule that comes to one.
fn only_row(index: RuleIndex, rule: &PdrMatch) -> Option<Row> {
    let filters_are_one = rule.sdf.len() <= 1 && rule.ethernet.is_empty();
    let flow = rule.sdf.first().and_then(|filter| filter.flow.as_ref());
    let ports_are_one = flow.is_none_or(|flow| flow.remote_ports.len() <= 1 && flow.ue_ports.len() <= 1);
    let mut rows = Vec::with_capacity(1);
    if filters_are_one && ports_are_one {
        Row::of(rule, index, &mut rows).ok()?;
    }
    rows.pop()
}

/// By which keys packets come to a rule, and how it asks for the UE's address.
struct Access {
    accepted: u32,
    ue_set: Option<u8>,
    /// The packet's UE end is to be the session's.
    of_own_ue: bool,
}

impl Access {
    /// `None`: the rule asks for UE addresses in a way that the entry has no place for.
    fn of(entry: &Entry, own: Own<'_>, rule: &PdrMatch) -> Option<Self> {
        let has_framed = own.framed_gate() != Gate::NO_GATE;
        let RuleKeys { free, checked } = compile::keys_of(rule, own.keys, has_framed);
        let ue_set = if rule.ue.is_empty() {
            None
        } else {
            Some(Personal::read(own.personal).known(&rule.ue)?)
        };
        if checked != 0 && (free != 0 || !entry.own_ue().is_of(&rule.ue)) {
            return None;
        }
        Some(Self {
            accepted: free | checked,
            ue_set,
            of_own_ue: checked != 0,
        })
    }

    /// Whether packets of a gate come to the rule; `None` if some do and some do not.
    fn comes_by(&self, gate: u8, own: Own<'_>) -> Option<bool> {
        let keys = compile::keys_of_gate(gate, own.gate_of, own.framed_gate());
        match self.accepted & keys {
            0 => Some(false),
            some => (some == keys).then_some(true),
        }
    }
}

/// What one rule in the place of another comes to, if nothing but one lane of the block changes.
struct Patch {
    row: Row,
    gates: [Gate; MAX_KEYS + 1],
    ue_set: Option<u8>,
}

impl Patch {
    fn of(entry: &Entry, own: Own<'_>, (index, mut row): (RuleIndex, Row), rule: &PdrMatch) -> Option<Self> {
        let form = entry.form();
        let access = Access::of(entry, own, rule)?;
        if access.of_own_ue {
            row.require_own_ue();
        }
        if !form.is_plain || row.columns() & !form.columns != 0 || row.asks_for_header() {
            return None;
        }
        let (arrival, bit) = (compile::arrival(rule), 1u16 << index);
        let mut gates = [Gate::SHUT; MAX_KEYS + 1];
        let places = gates.iter_mut().zip(own.gates);
        for (number, (gate, own_gate)) in (0..).zip(places) {
            *gate = *own_gate;
            let accepts = access.comes_by(number, own)?;
            let others = gate.accept & !bit;
            if accepts && others != 0 && gate.arrival != arrival || gate.arrival == 0 && gate.accept != 0 {
                return None;
            }
            if accepts {
                *gate = Gate {
                    arrival,
                    accept: others | bit,
                };
            } else {
                gate.accept = others;
            }
        }
        Some(Self {
            row,
            gates,
            ue_set: access.ue_set,
        })
    }
}

/// What a change of one rule comes to, if every section can be had from what it was.
struct Splice {
    sections: Box<[Arc<Section>]>,
    ranking: Arc<Ranking>,
    ue_set: Option<u8>,
}

impl Splice {
    /// `values` are the present precedences, which the ranking agrees with; `index` is that of a rule to come, or of one
    /// to be replaced, or, with no rule, to go.
    fn of(
        entry: &Entry,
        own: Own<'_>,
        (set, values): (&RuleSet, &[u32]),
        (index, rule): (RuleIndex, Option<&PdrMatch>),
    ) -> Option<Self> {
        let mut all = Vec::with_capacity(1);
        let access = match rule {
            Some(rule) => {
                Row::of(rule, index, &mut all).ok()?;
                let access = Access::of(entry, own, rule)?;
                if access.of_own_ue {
                    all.iter_mut().for_each(Row::require_own_ue);
                }
                Some(access)
            }
            None => None,
        };
        let precedence = rule.map_or(0, |rule| rule.precedence.0);
        let is_before = |other: RuleIndex| (values[other as usize], other) < (precedence, index);
        let goes = rule.is_none();
        let renumber = |other: RuleIndex| if goes && other > index { other - 1 } else { other };
        let mut sections: Vec<_> = set.sections().to_vec();
        for (gate, number) in own.gates.iter().zip(0..) {
            let section = set.section(gate.accept)?;
            let mut rows = match &access {
                Some(access) if access.comes_by(number, own)? => all.clone(),
                _ => Vec::new(),
            };
            let removed = section.rows_of(index);
            if rows.is_empty() && removed.is_empty() && !goes {
                continue;
            }
            let arrival = rule.map_or(0, compile::arrival);
            match gate.arrival {
                _ if rows.is_empty() => {}
                // Nobody has said how packets arrive.
                0 if section.len() == 0 => return None,
                0 => rows.iter_mut().for_each(|row| row.require_arrival(arrival)),
                of_all if of_all == arrival => {}
                _ => return None,
            }
            let at = section.position(&removed, is_before);
            sections[usize::from(gate.accept)] = Arc::new(section.spliced(removed, (at, &rows), renumber)?);
        }
        let total: usize = sections.iter().map(|section| section.len()).sum();
        if total <= order::MOST && !sections.iter().any(|section| section.has_headers()) {
            return None;
        }
        let ranking = set.ranking()?;
        let stays = rule.is_some() && values.get(index as usize) == Some(&precedence);
        let ranking = if stays {
            Arc::clone(ranking)
        } else {
            let others = ranking.order.iter().copied().filter(|other| *other != index);
            let mut order: Vec<RuleIndex> = others.collect();
            if rule.is_some() {
                order.insert(order.partition_point(|other| is_before(*other)), index);
            }
            order.iter_mut().for_each(|other| *other = renumber(*other));
            Arc::new(Ranking::in_order(order.into()))
        };
        Some(Self {
            sections: sections.into(),
            ranking,
            ue_set: access.and_then(|access| access.ue_set),
        })
    }
}
