//! The writer: the one side that changes a table.

mod change;
mod grace;
mod holdings;
mod precedences;

use crate::arena::Line;
use crate::block::{self, Form};
use crate::compile::{Compiled, MAX_KEYS, Matcher};
use crate::entry::{Entry, Own, Parts, Source};
use crate::index::Hint;
use crate::quota::{OwnerId, Quota};
use crate::rcu::Ticket;
use crate::ruleset::RuleSet;
use crate::shape::{self, Personal};
use crate::table::Shared;
use crate::{PdrMatch, SessionKey};
use holdings::{Garbage, Scratch, Slot};
use precedences::Present;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};
use upf_model::{IpPrefix, NetworkInstanceId, SessionId};

pub use change::{ChangeError, RuleChange};
pub(crate) use holdings::Holdings;

/// An entry and its back.
type Block = (NonNull<Entry>, NonNull<Line>);

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
        let Scratch { block, shapes, which } = &mut self.holdings.scratch;
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
            shape::write_which(rule, which);
            shape::append((rule, which), ue_set, keys, shapes);
        }
        let sets = &mut self.holdings.rule_sets;
        let set = match &compiled.matcher {
            Matcher::Block(form, rows) => {
                block.resize(form.lines(), Line::ZERO);
                block::write(*form, rows, block);
                sets.block(*form, block, shapes)
            }
            Matcher::Sections(sections, ranking) => Some(sets.sections(sections, ranking.clone(), shapes)),
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
            Matcher::Sections(..) => Form::NONE,
        };
        let order = match &compiled.matcher {
            Matcher::Block(..) => precedences.order(form),
            Matcher::Sections(..) => 0,
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
        let (back, back_lines) = Slot::back_of(link);
        let slot = Slot {
            entry: link,
            back,
            back_lines,
            precedences,
            hash: keys.first().map_or(0, |key| holdings.index.hash(*key)),
            owner,
        };
        let now = slot.account();
        let former = holdings.slots.insert(id, slot);
        holdings.accounts.book(former.as_ref().map(Slot::account), Some(now));
        self.switch(link, former.map(|slot| (slot.entry, slot.back)), is_new_payload)
    }

    /// Leads keys and framed routes to the new entry, which is in its slot already, and retires the former one.
    fn switch(&mut self, link: NonNull<Entry>, former: Option<Block>, is_new_payload: bool) -> Ticket {
        // SAFETY: just made, and freed only by `Holdings::free` when something has replaced it.
        let entry = unsafe { link.as_ref() };
        let new = entry.own();
        // SAFETY: it was in its slot until now, and goes to limbo below.
        let old = former.as_ref().map(|(former, _)| unsafe { former.as_ref() });
        // SAFETY: as above, and the back is its.
        let of_old = former
            .as_ref()
            .map(|(former, back)| unsafe { former.as_ref().own_at(*back) });
        let stays = |key: &SessionKey| of_old.is_some_and(|old| old.keys.contains(key));
        let (new_routes, old_routes) = (new.framed(), of_old.map_or_else(Vec::new, Own::framed));
        let route_stays = |route: &Route| old_routes.contains(route);

        self.lead(link, new, |key| !stays(key));
        self.lead_routes(link, new_routes.iter().filter(|route| !route_stays(route)));
        let (Some(old), Some(of_old), Some(former)) = (old, of_old, former) else {
            return self.settle();
        };
        old.replace_by(of_old, link.as_ptr());
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
        (entry, back): Block,
        keys: impl Fn(&SessionKey) -> bool,
        framed: impl Fn(&Route) -> bool,
        with_payload: bool,
    ) -> Ticket {
        let ticket = self.shared.epochs.upcoming();
        {
            // SAFETY: freed only once it is garbage, and a grace period later; the back is its.
            let own = unsafe { entry.as_ref().own_at(back) };
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
        self.holdings
            .limbo
            .push(ticket, Holdings::garbage((entry, back), with_payload));
        self.settle();
        ticket
    }

    /// Removes session `id`: none of its keys finds it any more. `None` if there is no such session.
    pub fn remove(&mut self, id: SessionId) -> Option<Ticket> {
        let slot = self.holdings.slots.remove(id)?;
        self.holdings.accounts.book(Some(slot.account()), None);
        // SAFETY: it was in its slot until now, and goes to limbo below.
        unsafe { slot.entry.as_ref() }.remove();
        Some(self.retire((slot.entry, slot.back), |_| true, |_| true, true))
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
