//! The writer: the one side that changes a table.

use crate::arena::{Arena, Line};
use crate::block::{self, Form};
use crate::compile::{self, Compiled, Gate, MAX_KEYS, Matcher, RuleKeys};
use crate::entry::{Entry, Own, Parts, Source, Superseded};
use crate::framed::Branch;
use crate::index::{Generation, Grave, Hint, Index};
use crate::memory::Slab;
use crate::order;
use crate::precedence::{Changes, Precedences, Publish};
use crate::quota::{Accounts, OwnerId, Quota};
use crate::rcu::{Limbo, Ticket};
use crate::row::{Place, Row};
use crate::ruleset::{RuleSet, RuleSets};
use crate::shape::{self, Personal};
use crate::slots::Slots;
use crate::table::Shared;
use crate::{PdrMatch, SessionKey};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use upf_model::{IpPrefix, NetworkInstanceId, Precedence, SessionId};

/// Changes between two looks at the readers. Each look is a fence and frees what it may.
const CHANGES_PER_TICK: usize = 32;
/// How many retired things such a look frees at most, so that none takes long.
const RECLAIM_PER_TICK: usize = 16 * CHANGES_PER_TICK;

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
    /// More than its owner may have.
    #[error("expected at most {limit} {what} of owner {}, found {found}", owner.0)]
    OverQuota {
        /// Whose.
        owner: OwnerId,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
        /// How many there would be.
        found: usize,
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

/// A change of one rule: see [`Writer::change`].
#[derive(Debug, Clone, Copy)]
pub enum RuleChange<'r> {
    /// Adds a rule behind the others.
    Insert(&'r PdrMatch),
    /// Puts a rule in the place of the one at that index.
    Replace(u16, &'r PdrMatch),
    /// Takes the rule at that index out; the indexes of those behind it become lower by one.
    Remove(u16),
    /// Gives the rule at that index another precedence.
    Precedence(u16, Precedence),
}

impl RuleChange<'_> {
    fn make(&self, rules: &mut Vec<PdrMatch>) -> Result<(), ChangeError> {
        let found = rules.len();
        let existing = |index: u16| {
            let index = usize::from(index);
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

/// What the writer knows of a session.
struct Slot {
    /// In the arena.
    entry: NonNull<Entry>,
    precedences: Present,
    /// The [hash](Index::hash) of its first key, to ask for its bucket while other lines are on their way.
    hash: u32,
    /// How many rules the session has.
    rules: u16,
    owner: OwnerId,
}

impl Slot {
    const fn account(&self) -> (OwnerId, u16) {
        (self.owner, self.rules)
    }
}

/// The present precedences of a session's rules.
enum Present {
    /// Of at most four rules, each of one row.
    Few([u32; 4]),
    /// Of any others.
    Many(Box<Many>),
}

struct Many {
    values: Vec<u32>,
    /// Of a block: the rule of each row.
    rule_of: Vec<u16>,
    /// Of sections.
    changes: Changes,
}

impl Present {
    fn of(rules: &[PdrMatch], matcher: &Matcher) -> Self {
        let values = rules.iter().map(|rule| rule.precedence.0);
        if let Matcher::Block(form, _) = matcher
            && form.is_plain
            && rules.len() <= 4
        {
            let mut few = [u32::MAX; 4];
            few.iter_mut().zip(values).for_each(|(place, value)| *place = value);
            return Self::Few(few);
        }
        let rule_of = match matcher {
            Matcher::Block(_, rows) => rows.iter().map(|row| row.place.rule()).collect(),
            Matcher::Sections(_) => Vec::new(),
        };
        Self::Many(Box::new(Many {
            values: values.collect(),
            rule_of,
            changes: Changes::NONE,
        }))
    }

    fn get(&self, rule: usize) -> Precedence {
        let value = match self {
            Self::Few(few) => few.get(rule),
            Self::Many(many) => many.values.get(rule),
        };
        Precedence(value.copied().unwrap_or(u32::MAX))
    }

    /// Whether the order says where the row of that rule stands, in a block where row *r* is of rule *r*.
    fn ranks(&self, rule: u16) -> bool {
        match self {
            Self::Few(_) => true,
            Self::Many(many) => usize::from(rule) < many.rule_of.len(),
        }
    }

    fn set(&mut self, rule: usize, precedence: Precedence) {
        let value = match self {
            Self::Few(few) => few.get_mut(rule),
            Self::Many(many) => many.values.get_mut(rule),
        };
        value.into_iter().for_each(|value| *value = precedence.0);
    }

    /// The order of the rows of a block.
    fn order(&self, form: Form) -> u64 {
        match self {
            Self::Few(few) => order::of_four(*few),
            Self::Many(many) => many.order(form),
        }
    }
}

impl Many {
    fn order(&self, form: Form) -> u64 {
        let mut rows = [0; order::MOST];
        let of_rows = self.rule_of.iter().map(|rule| self.values[usize::from(*rule)]);
        rows.iter_mut().zip(of_rows).for_each(|(place, value)| *place = value);
        order::of(&rows[..self.rule_of.len().min(order::MOST)], form.lanes.into())
    }
}

/// What readers may still look at.
enum Garbage<T> {
    /// An entry's block and how many lines it has, what it held, and its payload, if that has gone too.
    Entry {
        block: NonNull<Line>,
        lines: usize,
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
    slots: Slots<Slot>,
    arena: Arena,
    payloads: Slab<T>,
    index: Index<Entry>,
    rule_sets: RuleSets,
    accounts: Accounts,
    limbo: Limbo<Garbage<T>>,
    /// Changes since the last tick.
    unticked: usize,
    scratch: Scratch,
}

/// Room that is used again and again.
#[derive(Default)]
struct Scratch {
    block: Vec<Line>,
    shapes: Vec<u8>,
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

    fn entry(&self, id: SessionId) -> Option<&Entry> {
        // SAFETY: a slot's entry is freed only after it has left the slot.
        self.slots.get(id).map(|slot| unsafe { slot.entry.as_ref() })
    }

    /// What there is to free of an entry that is in no slot any more.
    fn garbage(entry: NonNull<Entry>, with_payload: bool) -> Garbage<T> {
        // SAFETY: it is freed only as garbage, that is, after this.
        let of = unsafe { entry.as_ref() };
        let own = of.own();
        // SAFETY: from `Arc::into_raw`, and given back once: here.
        let set = (!own.set().is_null()).then(|| unsafe { Arc::from_raw(own.set()) });
        Garbage::Entry {
            block: entry.cast(),
            lines: own.lines(),
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
    unsafe fn free(&mut self, garbage: Garbage<T>) {
        match garbage {
            Garbage::Entry {
                block,
                lines,
                set,
                precedences,
                payload,
            } => {
                // SAFETY: of the arena, of that many lines, and no reader has it, says the caller.
                unsafe { self.arena.give_back(block, lines) };
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
        let entries: Vec<_> = self.slots.iter().map(|(_, slot)| slot.entry).collect();
        let mut garbage: Vec<_> = self.limbo.drain().collect();
        garbage.extend(entries.into_iter().map(|entry| Self::garbage(entry, true)));
        for garbage in garbage {
            // SAFETY: dropped with the shared side, hence no reader is left; each entry is in one slot or in limbo.
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
        let estate = std::mem::replace(&mut self.holdings, Holdings::new(0));
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
    /// Cost: linear in the keys and rules. In a large table about one cache miss per key and a few more.
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
        self.put_for(OwnerId::default(), id, keys, framed, rules, payload)
    }

    /// [`Self::put`] on behalf of an owner: within its [`Quota`], if it has one. A session that was another's is this
    /// one's then.
    ///
    /// # Errors
    /// [`PutError`]; the table is then as it was.
    pub fn put_for(
        &mut self,
        owner: OwnerId,
        id: SessionId,
        keys: &[SessionKey],
        framed: &[(NetworkInstanceId, IpPrefix)],
        rules: &[PdrMatch],
        payload: T,
    ) -> Result<Ticket, PutError> {
        let former = self.holdings.slots.get(id).map(Slot::account);
        self.holdings.accounts.expect_room(owner, former, rules.len())?;
        let keys = each_once(keys);
        self.expect_unowned(id, &keys, framed)?;
        let prepared = self.prepare(&keys, framed, rules)?;
        self.make_room(keys.len());
        let payload = self.holdings.payloads.insert(payload);
        Ok(self.publish((owner, id), &keys, rules, prepared, payload, true))
    }

    /// Changes rules of session `id` and leaves its keys and its payload as they are: all changes at once for all
    /// packets. They are made in their order, each on what those before it have left.
    ///
    /// Cost: linear in the rules.
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn change(&mut self, id: SessionId, changes: &[RuleChange<'_>]) -> Result<Ticket, ChangeError> {
        if let [RuleChange::Replace(index, rule)] = changes
            && let Some(ticket) = self.patch(id, *index, rule)
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
    pub fn insert_rule(&mut self, id: SessionId, rule: &PdrMatch) -> Result<u16, ChangeError> {
        let slot = self.holdings.slots.get(id).ok_or(ChangeError::NoSession { id })?;
        let index = slot.rules;
        self.change(id, &[RuleChange::Insert(rule)]).map(|_| index)
    }

    /// Puts `rule` in the place of the one at that index. See [`Self::change`].
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn replace_rule(&mut self, id: SessionId, index: u16, rule: &PdrMatch) -> Result<Ticket, ChangeError> {
        self.change(id, &[RuleChange::Replace(index, rule)])
    }

    /// Takes the rule at that index out; the indexes of those behind it become lower by one. See [`Self::change`].
    ///
    /// # Errors
    /// [`ChangeError`]; the session is then as it was.
    pub fn remove_rule(&mut self, id: SessionId, index: u16) -> Result<Ticket, ChangeError> {
        self.change(id, &[RuleChange::Remove(index)])
    }

    /// [`RuleChange::Replace`] where one lane of a block is all that changes, which is the usual case: the entry is
    /// copied, the lane written, and nothing compiled. `None`: it takes more than that.
    fn patch(&mut self, id: SessionId, index: u16, rule: &PdrMatch) -> Option<Ticket> {
        let holdings = &mut self.holdings;
        let slot = holdings.slots.get_mut(id)?;
        let former = slot.entry;
        // SAFETY: in its slot until it is replaced below, and then in limbo.
        let entry = unsafe { former.as_ref() };
        entry.prefetch_own();
        holdings.index.prefetch(slot.hash);
        if index >= slot.rules.min(entry.form().lanes.into())
            || entry.sections().is_some()
            || !slot.precedences.ranks(index)
        {
            return None;
        }
        let own = entry.own();
        let patch = Patch::of(entry, own, index, rule)?;
        let Scratch { block, shapes } = &mut holdings.scratch;
        block.clear();
        block.extend_from_slice(entry.block());
        block::patch(entry.form(), &patch.row, index, block);
        shapes.clear();
        for (number, shape) in shape::each(own.shapes).enumerate() {
            if number == usize::from(index) {
                shape::append(rule, patch.ue_set, own.keys, shapes);
            } else {
                shapes.extend_from_slice(shape);
            }
        }
        let set = holdings.rule_sets.block(entry.form(), block, shapes);
        slot.precedences.set(usize::from(index), rule.precedence);
        let parts = Parts {
            id,
            keys: own.keys,
            gates: &patch.gates,
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
        slot.entry = link;
        Some(self.switch(link, Some(former), false))
    }

    fn expect_unowned(
        &self,
        id: SessionId,
        keys: &[SessionKey],
        framed: &[(NetworkInstanceId, IpPrefix)],
    ) -> Result<(), PutError> {
        for &key in keys {
            if let Some(link) = self.holdings.index.get(key) {
                let mine = self.holdings.slots.get(id).map(|slot| slot.entry.as_ptr());
                if mine != Some(link.entry()) {
                    // SAFETY: the index leads to entries that are in slots.
                    let owner = unsafe { &*link.entry() }.own().id();
                    return Err(PutError::KeyTaken { key, owner });
                }
            }
        }
        for &(ni, prefix) in framed {
            if let Some(entry) = self.shared.framed.get(ni, prefix) {
                // SAFETY: framed routes lead to entries that are in slots.
                let owner = unsafe { entry.as_ref() }.own().id();
                if owner != id {
                    return Err(PutError::FramedRouteTaken { prefix, owner });
                }
            }
        }
        Ok(())
    }

    /// Compiles, and looks for sessions with such rules.
    fn prepare(&mut self, keys: &[SessionKey], framed: &[Route], rules: &[PdrMatch]) -> Result<Prepared, PutError> {
        let compiled = Compiled::of(keys, !framed.is_empty(), rules)?;
        let mut personal = Personal {
            framed: framed.to_vec(),
            ..Personal::default()
        };
        let Scratch { block, shapes } = &mut self.holdings.scratch;
        block.clear();
        shapes.clear();
        for rule in rules {
            let ue_set = personal.set(&rule.ue);
            if ue_set.is_none() && !rule.ue.is_empty() {
                PutError::limit(
                    "different sets of UE addresses in a session",
                    Personal::MOST_SETS,
                    Personal::MOST_SETS + 1,
                )?;
            }
            shape::append(rule, ue_set, keys, shapes);
        }
        let sets = &mut self.holdings.rule_sets;
        let set = match &compiled.matcher {
            Matcher::Block(form, rows) => {
                block.resize(form.lines(), Line::ZERO);
                block::write(*form, rows, block);
                sets.block(*form, block, shapes)
            }
            Matcher::Sections(sections) => Some(sets.sections(sections, compile::order_of(rules), shapes)),
        };
        Ok(Prepared {
            compiled,
            personal: personal.write(),
            set,
        })
    }

    /// Puts a new entry in force, in this order: what comes; the switch; what stays; what goes.
    fn publish(
        &mut self,
        (owner, id): (OwnerId, SessionId),
        keys: &[SessionKey],
        rules: &[PdrMatch],
        prepared: Prepared,
        payload: NonNull<T>,
        is_new_payload: bool,
    ) -> Ticket {
        let Prepared {
            compiled,
            personal,
            set,
        } = prepared;
        let precedences = Present::of(rules, &compiled.matcher);
        let holdings = &mut self.holdings;
        let form = match &compiled.matcher {
            Matcher::Block(form, _) => *form,
            Matcher::Sections(_) => Form::NONE,
        };
        let order = match &compiled.matcher {
            Matcher::Block(..) => precedences.order(form),
            Matcher::Sections(_) => 0,
        };
        let source = match set {
            Some(set) => Source::Set(set),
            None => Source::Own(&holdings.scratch.block, &holdings.scratch.shapes),
        };
        let parts = Parts {
            id,
            keys,
            gates: &compiled.gates,
            gate_of: &compiled.gate_of,
            framed_gate: compiled.framed_gate,
            form,
            own_ue: compiled.own_ue,
            order,
            personal: &personal,
            source,
            payload: payload.cast(),
        };
        let link = parts.build(&mut holdings.arena);
        let slot = Slot {
            entry: link,
            precedences,
            hash: keys.first().map_or(0, |key| holdings.index.hash(*key)),
            rules: rules.len() as u16,
            owner,
        };
        let now = slot.account();
        let former = holdings.slots.insert(id, slot);
        holdings.accounts.book(former.as_ref().map(Slot::account), Some(now));
        self.switch(link, former.map(|slot| slot.entry), is_new_payload)
    }

    /// Leads keys and framed routes to the new entry, which is in its slot already, and retires the former one.
    fn switch(&mut self, link: NonNull<Entry>, former: Option<NonNull<Entry>>, is_new_payload: bool) -> Ticket {
        // SAFETY: just made, and freed only by `Holdings::free` when something has replaced it.
        let entry = unsafe { link.as_ref() };
        let new = entry.own();
        // SAFETY: it was in its slot until now, and goes to limbo below.
        let old = former.as_ref().map(|former| unsafe { former.as_ref() });
        let stays = |key: &SessionKey| old.is_some_and(|old| old.own().keys.contains(key));
        let (new_routes, old_routes) = (new.framed(), old.map_or_else(Vec::new, |old| old.own().framed()));
        let route_stays = |route: &Route| old_routes.contains(route);

        self.lead(link, new, |key| !stays(key));
        self.lead_routes(link, new_routes.iter().filter(|route| !route_stays(route)));
        let (Some(old), Some(former)) = (old, former) else {
            return self.settle();
        };
        old.replace_by(link.as_ptr());
        self.lead(link, new, stays);
        self.lead_routes(link, new_routes.iter().filter(|route| route_stays(route)));
        self.retire(
            former,
            |key| !new.keys.contains(key),
            |route| !new_routes.contains(route),
            is_new_payload,
        )
    }

    /// Makes those keys of `own` lead to `entry`.
    fn lead(&mut self, entry: NonNull<Entry>, own: Own<'_>, keys: impl Fn(&SessionKey) -> bool) {
        // SAFETY: the caller's entry, which is in its slot.
        let tail = unsafe { entry.as_ref() }.tail();
        for (key, gate) in own.keys.iter().zip(own.gate_of).filter(|(key, _)| keys(key)) {
            self.holdings.index.set(*key, entry, Hint::new(*gate, tail));
        }
    }

    fn lead_routes<'r>(&self, entry: NonNull<Entry>, routes: impl Iterator<Item = &'r Route>) {
        routes.for_each(|(ni, prefix)| self.shared.framed.set(*ni, *prefix, entry));
    }

    /// Makes those of its keys and framed routes lead nowhere, and the entry garbage. It is out of its slot, and
    /// replaced or removed.
    fn retire(
        &mut self,
        entry: NonNull<Entry>,
        keys: impl Fn(&SessionKey) -> bool,
        framed: impl Fn(&Route) -> bool,
        with_payload: bool,
    ) -> Ticket {
        let ticket = self.shared.epochs.upcoming();
        {
            // SAFETY: freed only once it is garbage, and a grace period later.
            let own = unsafe { entry.as_ref() }.own();
            let holdings = &mut self.holdings;
            for key in own.keys.iter().filter(|key| keys(key)) {
                if let Some(grave) = holdings.index.bury(*key) {
                    holdings.limbo.push(ticket, Garbage::Grave(grave));
                }
            }
            for (ni, prefix) in own.framed().iter().filter(|route| framed(route)) {
                if let Some(branch) = self.shared.framed.remove(*ni, *prefix) {
                    holdings.limbo.push(ticket, Garbage::Branch(branch));
                }
            }
        }
        self.holdings.limbo.push(ticket, Holdings::garbage(entry, with_payload));
        self.settle();
        ticket
    }

    /// Removes session `id`: none of its keys finds it any more. `None` if there is no such session.
    pub fn remove(&mut self, id: SessionId) -> Option<Ticket> {
        let slot = self.holdings.slots.remove(id)?;
        self.holdings.accounts.book(Some(slot.account()), None);
        // SAFETY: it was in its slot until now, and goes to limbo below.
        unsafe { slot.entry.as_ref() }.remove();
        Some(self.retire(slot.entry, |_| true, |_| true, true))
    }

    /// Changes the precedence of the rule at index `rule` of the rules that were put, at once for all packets.
    /// `false` if there is no such session or rule.
    ///
    /// Cost: constant: up to sixteen rows, one store of the session's [order](crate::order) and, in a large table, the
    /// cache miss of what the writer knows of the session. Above that, linear for the first change of a session, and if
    /// a reader is still in the burst it was in at its last one.
    #[inline]
    pub fn set_precedence(&mut self, id: SessionId, rule: u16, precedence: Precedence) -> bool {
        let Some(slot) = self.holdings.slots.get_mut(id) else {
            return false;
        };
        if rule >= slot.rules {
            return false;
        }
        let Present::Few(few) = &mut slot.precedences else {
            return self.set_precedence_of_many(id, rule, precedence);
        };
        few[usize::from(rule) % few.len()] = precedence.0;
        let order = order::of_four(*few);
        // SAFETY: in its slot.
        unsafe { slot.entry.as_ref() }.set_order(order);
        true
    }

    /// Changes many precedences, each as [`Self::set_precedence`] would, but asks for the memory of those to come while
    /// it changes the first ones: a push of the context to thousands of sessions costs no cache miss after the other.
    /// Changes of one session that follow each other take effect at once. Gives how many there were sessions and rules
    /// for.
    pub fn set_precedences(&mut self, changes: &[(SessionId, u16, Precedence)]) -> usize {
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
    fn note_precedence(&mut self, id: SessionId, rule: u16, precedence: Precedence) -> bool {
        let Some(slot) = self.holdings.slots.get_mut(id).filter(|slot| rule < slot.rules) else {
            return false;
        };
        match &mut slot.precedences {
            Present::Few(few) => few[usize::from(rule) % few.len()] = precedence.0,
            Present::Many(many) if !many.rule_of.is_empty() => many.values[usize::from(rule)] = precedence.0,
            Present::Many(_) => return self.set_precedence(id, rule, precedence),
        }
        true
    }

    #[inline(never)]
    fn set_precedence_of_many(&mut self, id: SessionId, rule: u16, precedence: Precedence) -> bool {
        let Some(slot) = self.holdings.slots.get_mut(id) else {
            return false;
        };
        let Present::Many(many) = &mut slot.precedences else {
            return false;
        };
        // SAFETY: in its slot.
        let entry = unsafe { slot.entry.as_ref() };
        let Some(set) = entry.sections() else {
            many.values[usize::from(rule)] = precedence.0;
            entry.set_order(many.order(entry.form()));
            return true;
        };
        let change = (rule, precedence);
        let passed = self.shared.epochs.passed();
        let publish = match entry.outlook() {
            Some(now) => many.changes.apply(now, set.order(), change, passed),
            None => {
                let as_put = Box::new(Precedences::new(many.values.iter().map(|p| Precedence(*p))));
                match many.changes.apply((&as_put, 0), set.order(), change, passed) {
                    Publish::Marks(marks) => Publish::Anew(as_put, marks),
                    anew => anew,
                }
            }
        };
        many.values[usize::from(rule)] = precedence.0;
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

    /// Limits what an owner may have from now on; what it has stays.
    pub fn set_quota(&mut self, owner: OwnerId, quota: Quota) {
        self.holdings.accounts.set_quota(owner, quota);
    }

    /// How many sessions an owner has, and how many rules in all of them.
    pub fn usage(&self, owner: OwnerId) -> (u32, u32) {
        self.holdings.accounts.usage(owner)
    }

    /// The payload of session `id`, as put last.
    pub fn get(&self, id: SessionId) -> Option<&T> {
        let entry = self.holdings.entry(id)?;
        // SAFETY: the payloads of this table's entries are `T`s, and live as long as the entries that lead to them.
        unsafe { entry.payload().cast::<T>().as_ref() }
    }

    /// The rules of session `id` with their present precedences. Allocates.
    pub fn rules(&self, id: SessionId) -> Option<Vec<PdrMatch>> {
        let slot = self.holdings.slots.get(id)?;
        // SAFETY: in its slot.
        let own = unsafe { slot.entry.as_ref() }.own();
        Some(own.to_rules(|rule| slot.precedences.get(rule)))
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

    /// How many sets of rules are kept for sharing: those that differ in F-TEIDs, UE addresses or precedence values only
    /// are one, and a small one counts from its second session on.
    pub fn rule_sets(&self) -> usize {
        self.holdings.rule_sets.len()
    }

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
            if turns < 100 {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
        }
    }

    /// After a change: pays its share of growing, and now and then looks at the readers and frees. The change's ticket
    /// is the one that the next tick draws.
    fn settle(&mut self) -> Ticket {
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

/// Compiled rules on their way to an entry. An own block and own shapes are in [`Scratch`].
struct Prepared {
    compiled: Compiled,
    personal: Vec<u8>,
    set: Option<Arc<RuleSet>>,
}

/// What one rule in the place of another comes to, if nothing but one lane of the block changes.
struct Patch {
    row: Row,
    gates: Vec<Gate>,
    ue_set: Option<u8>,
}

impl Patch {
    fn of(entry: &Entry, own: Own<'_>, index: u16, rule: &PdrMatch) -> Option<Self> {
        let form = entry.form();
        let has_framed = own.framed_gate() != Gate::NO_GATE;
        let RuleKeys { free, checked } = compile::keys_of(rule, own.keys, has_framed);
        let ue_set = if rule.ue.is_empty() {
            None
        } else {
            Some(Personal::read(own.personal).known(&rule.ue)?)
        };
        let mut rows = Vec::with_capacity(1);
        Row::of(rule, Place::new(0, index), &mut rows).ok()?;
        let &[mut row] = rows.as_slice() else { return None };
        if checked != 0 {
            if free != 0 || !entry.own_ue().is_of(&rule.ue) {
                return None;
            }
            row.require_own_ue();
        }
        if !form.is_plain || row.columns() & !form.columns != 0 {
            return None;
        }
        let (accepted, arrival, bit) = (free | checked, compile::arrival(rule), 1u16 << index);
        let keys_of_gate = |gate: u8| compile::keys_of_gate(gate, own.gate_of, own.framed_gate());
        let mut gates = own.gates.to_vec();
        for (gate, number) in gates.iter_mut().zip(0..) {
            let keys = keys_of_gate(number);
            let accepts = accepted & keys == keys;
            let is_alike = accepts || accepted & keys == 0;
            let others = gate.accept & !bit;
            if !is_alike || accepts && others != 0 && gate.arrival != arrival || gate.arrival == 0 && gate.accept != 0 {
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
        Some(Self { row, gates, ue_set })
    }
}
