//! The policy engine: facts in, decisions out.
//!
//! # The idea
//! The SMF's rules are the base, and what is in effect is a function of it:
//!
//! ```text
//!   facts, policies, what is remembered, what is booked, now ──decide──▶ Decision
//!   base, Decision                                           ──overlay─▶ the session in effect
//! ```
//!
//! Nothing is ever undone. When facts end, the decision becomes empty, and `overlay(base, empty)` is the base. When the SMF
//! changes the base, the next overlay is made of the new one. What is *remembered* is little: since when a
//! condition holds or a policy acts, which thresholds are passed (only of policies that wait, hold or have hysteresis),
//! and the bookings of guaranteed bit rates. [`EngineState`] is that and the facts; with it, a restart decides the same.
//!
//! # The walk
//! 1. [`Engine::put_fact`], [`Engine::remove_fact`], [`Engine::advance`] (expiry), [`Engine::put_session`] and
//!    [`Engine::replace_policies`] *mark* the sessions that may change. A session marked twice is marked once: so updates
//!    of one user coalesce.
//! 2. [`Engine::marked`] gives them out, as many at a time as the caller wants to handle.
//! 3. [`Engine::decide`] evaluates all policies for one of them (`evaluate`), books what is guaranteed (`decide`), and
//!    returns layers in order of priority.
//! 4. [`crate::overlay()`] makes the session.
//!
//! There is no clock, no thread and no I/O here: the time comes in, and [`Engine::due_ms`] says when it should come next.
//! Between decisions time does not pass: a threshold that was passed and left between two of them was not passed.
//!
//! # Whose fact counts
//! Of facts with the same key, the one about the narrowest subject: flow, session, address, subscriber, cell, slice,
//! network. Facts about a flow count for policies that apply to `flow: fact` only, once for each flow that has a fact whose
//! key such a policy asks for. Facts `qod` and `qod.*` apply the profile they name to what they are about, each of them.
//!
//! # Who wins
//! Layers are in order of (priority, policies before profiles, place in the file); a field is set by the first layer
//! that has it and holds the packet. [`Engine::explain`] says of every field whether it is in force or who overrules it.
//!
//! # Costs
//! Facts are found by subject, sessions by subject, expiries and times to look again by time: a fact costs hash lookups and
//! a logarithm, however many there are. A decision costs the policies of the file times the facts about the session's
//! user. `cargo run --release -p qos --example updates` measures it.
//!
//! | file | owns |
//! | --- | --- |
//! | `facts` | facts by subject, quotas, expiry |
//! | `sessions` | sessions, and which of them a subject means |
//! | `evaluate` | conditions, hysteresis, waiting and holding: pure |
//! | `decide` | admission, bounds, conflicts: from what acts to a decision |
//! | `explain` | the same for people |
//! | `state` | what outlives a restart |
//! | `notice` | refusals, pre-emptions, errors |

mod decide;
mod evaluate;
mod explain;
mod facts;
mod notice;
mod sessions;
mod state;

pub use evaluate::Remembered;
pub use explain::{Difference, EffectExplanation, Explanation, PolicyExplanation, Refusal};
pub use notice::{FactError, Notice};
pub use state::{BookingState, EngineState, PolicyState};

use crate::admission::{Booking, Ledger};
use crate::context::{Fact, Key, Subject, User, Value};
use crate::policy::{CELL, Effects, Policies, Select, is_profile_key};
use facts::Facts;
use sessions::Sessions;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use upf_model::{IpFilterRule, QerId, Seid, Session, SessionId};

/// Who a session belongs to. Addresses come from the session itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionProfile {
    /// Slot in the data planes.
    pub id: SessionId,
    /// Our SEID.
    pub seid: Seid,
    /// The user's identities: `imsi-...`, `msisdn-...`, a network access identifier.
    pub subscriber: Vec<String>,
    /// S-NSSAI as `SST` or `SST-SD`.
    pub slice: Option<String>,
    /// Data network name.
    pub dnn: Option<String>,
    /// Names of the ports that its packets leave by, for admission.
    pub ports: Vec<String>,
}

/// What policies make of a session now: layers over the SMF's rules. Empty: the SMF's rules as they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// Priority queues of QERs by the table of the policy file: under all layers.
    pub(crate) queues: Vec<(QerId, u8)>,
    /// The first that sets a field wins.
    pub(crate) layers: Vec<Layer>,
}

impl Decision {
    /// Whether the SMF's rules stay as they are.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.layers.is_empty()
    }
}

/// What one policy or profile changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    /// Of which PDRs.
    pub(crate) select: Select,
    /// Of them, packets of this flow only.
    pub(crate) flow: Option<Arc<IpFilterRule>>,
    pub(crate) effects: Arc<Effects>,
}

/// The engine. See the module.
#[derive(Debug, Default)]
pub struct Engine {
    policies: Policies,
    facts: Facts,
    sessions: Sessions,
    ledger: Ledger,
    marks: VecDeque<SessionId>,
    notices: Vec<Notice>,
    /// State of sessions that are not there (again) yet.
    restored: BTreeMap<Seid, (Vec<PolicyState>, Vec<BookingState>)>,
}

/// Notices kept until they are taken; further ones are dropped.
const NOTICES_MAX: usize = 100_000;
/// Room that the queue of marked sessions keeps when it is empty.
const MARKS_KEPT: usize = 1_024;

impl Engine {
    /// With these policies, and nothing else.
    pub fn new(policies: Policies) -> Self {
        let mut engine = Self::default();
        engine.ledger.set_capacities(&policies.capacities);
        engine.policies = policies;
        engine
    }

    /// The policies in force.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Other policies from now on. What is remembered of a policy goes over to the one of the same name. Marks every session.
    pub fn replace_policies(&mut self, policies: Policies, _now_ms: u64) {
        let places: Vec<Option<usize>> = self
            .policies
            .policies
            .iter()
            .map(|old| {
                let same = |new: &crate::policy::Policy| new.name == old.name && new.when.latches == old.when.latches;
                policies.policies.iter().position(same)
            })
            .collect();
        for entry in self
            .sessions
            .entries_mut()
            .filter(|entry| !entry.more().memory.is_empty())
        {
            entry.change(|more| {
                let memory = std::mem::take(&mut more.memory).into_iter();
                more.memory = memory
                    .filter_map(|((old, flow), r)| Some(((places[old]?, flow), r)))
                    .collect();
            });
        }
        let evicted = self.ledger.set_capacities(&policies.capacities);
        self.policies = policies;
        self.notify_preempted(evicted, "a smaller capacity");
        self.mark_all();
    }

    /// A new session, or one whose profile or base has changed. Marks it.
    pub fn put_session(&mut self, profile: SessionProfile, base: &Session, now_ms: u64) {
        let (id, seid) = (profile.id, profile.seid);
        let replaces = self.sessions.get(id).is_some_and(|entry| entry.seid != seid);
        if replaces {
            self.remove_session(id);
        }
        if self.sessions.put(profile, base) {
            self.recall(id, seid);
        }
        self.look_up_cell(id, now_ms);
        self.book_base(id, base);
        self.mark(id);
    }

    /// The session is no more. Returns the facts that were about it alone: they end with it.
    pub fn remove_session(&mut self, id: SessionId) -> Vec<Fact> {
        let Some(entry) = self.sessions.remove(id) else {
            return Vec::new();
        };
        self.ledger.remove_session(id);
        self.mark_ready();
        self.facts.remove_user(&User::Session(entry.seid))
    }

    /// Keeps a fact; marks the sessions that it may change. Returns the one that it replaced.
    ///
    /// # Errors
    /// [`FactError`]; nothing has changed then.
    pub fn put_fact(&mut self, fact: Fact, now_ms: u64) -> Result<Option<Fact>, FactError> {
        if let Some(expires_ms) = fact.expires_ms.filter(|at| *at <= now_ms) {
            return Err(FactError::Expired { expires_ms, now_ms });
        }
        if is_profile_key(&fact.key) {
            let known = matches!(&fact.value, Value::Text(name) if self.policies.profiles.contains_key(name));
            if !known {
                return Err(FactError::UnknownProfile(fact.value.to_string()));
            }
        }
        let (about, key, value) = (fact.about.clone(), fact.key.clone(), fact.value.clone());
        let replaced = self.facts.put(fact, &self.policies.limits)?;
        let same = |old: &Fact| old.value == value && old.expires_ms.is_none_or(|at| at > now_ms);
        if !replaced.as_ref().is_some_and(same) {
            self.changed(&about, &key, now_ms);
        }
        Ok(replaced)
    }

    /// A fact is so no longer; marks the sessions that it may change.
    pub fn remove_fact(&mut self, about: &Subject, key: &Key) -> Option<Fact> {
        let removed = self.facts.remove(about, key)?;
        self.changed(about, key, 0);
        Some(removed)
    }

    /// Facts about a subject (none: about all) whose keys begin so, by (subject, key).
    pub fn facts(&self, about: Option<&Subject>, key_prefix: &str) -> Vec<&Fact> {
        self.facts.list(about, key_prefix)
    }

    /// When [`Engine::advance`] will have something to do, if nothing else happens.
    pub fn due_ms(&self) -> Option<u64> {
        let expiry = self.facts.next_expiry().map(|(at, ..)| at);
        let session = self.sessions.next_due().map(|(at, _)| at);
        expiry.into_iter().chain(session).min()
    }

    /// It is now so late: removes and returns the facts that have expired, in order; marks the sessions that may change.
    pub fn advance(&mut self, now_ms: u64) -> Vec<Fact> {
        let mut expired = Vec::new();
        while let Some((_, about, key)) = self.facts.next_expiry().filter(|(at, ..)| *at <= now_ms) {
            let (about, key) = (about.clone(), key.clone());
            expired.extend(self.facts.remove(&about, &key));
            self.changed(&about, &key, now_ms);
        }
        while let Some((_, id)) = self.sessions.next_due().filter(|(at, _)| *at <= now_ms) {
            self.sessions.set_due(id, None);
            self.mark(id);
        }
        expired
    }

    /// Takes up to `limit` marked sessions, in order of marking.
    pub fn marked(&mut self, limit: usize) -> Vec<SessionId> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(id) = self.marks.pop_front()
        {
            // A session that was removed meanwhile is in the queue without its mark.
            let entry = self.sessions.get_mut(id);
            if entry.is_some_and(|entry| std::mem::take(&mut entry.is_marked)) {
                taken.push(id);
            }
        }
        if self.marks.is_empty() {
            // All sessions were in it, perhaps.
            self.marks.shrink_to(MARKS_KEPT);
        }
        taken
    }

    /// The sessions that a subject means, ascending.
    pub fn sessions_of(&self, about: &Subject) -> Vec<SessionId> {
        self.sessions.of(about)
    }

    /// What was refused, pre-empted or found in conflict since they were taken last.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// Tells of bookings that had to go, and marks their sessions.
    fn notify_preempted(&mut self, bookings: Vec<Booking>, by: &str) {
        for booking in bookings {
            let reason = format!("priority level {} had to make room", booking.arp.priority_level);
            self.mark(booking.session);
            if let Some(entry) = self.sessions.get_mut(booking.session) {
                let why = format!("pre-empted by {by}: {reason}");
                entry.change(|more| more.denied.insert(booking.source.clone(), why));
            }
            self.notify(Notice::Preempted {
                session: booking.session,
                fact: self.fact_of(&booking.source),
                source: decide::describe(&booking.source, self),
                by: by.to_owned(),
                reason,
            });
        }
    }

    /// A fact has come, gone or become another.
    fn changed(&mut self, about: &Subject, key: &Key, now_ms: u64) {
        if !self.policies.asks_for(key) {
            return;
        }
        for id in self.sessions.of(about) {
            if key.as_str() == CELL && matches!(about, Subject::User(_)) {
                self.look_up_cell(id, now_ms);
            }
            self.mark(id);
        }
    }

    fn look_up_cell(&mut self, id: SessionId, now_ms: u64) {
        let cell = self
            .sessions
            .get(id)
            .and_then(|entry| evaluate::cell_of(&self.facts, entry, now_ms));
        self.sessions.set_cell(id, cell);
    }

    fn mark(&mut self, id: SessionId) {
        let entry = self.sessions.get_mut(id);
        if entry.is_some_and(|entry| !std::mem::replace(&mut entry.is_marked, true)) {
            self.marks.push_back(id);
        }
    }

    fn mark_all(&mut self) {
        let ids: Vec<SessionId> = self.sessions.ids().collect();
        ids.into_iter().for_each(|id| self.mark(id));
    }

    /// Marks those that waited for what was released.
    fn mark_ready(&mut self) {
        self.ledger.take_ready().into_iter().for_each(|id| self.mark(id));
    }
}
