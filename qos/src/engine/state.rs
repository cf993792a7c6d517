//! Owns what outlives a restart.

use super::Engine;
use super::evaluate::Remembered;
use crate::admission::{Booking, Resource, Source};
use crate::context::{Fact, Flow};
use crate::policy::{Arp, Rates};
use serde::{Deserialize, Serialize};
use upf_model::{Seid, SessionId};

/// What the engine remembers: with the same policies and sessions, an engine that has it decides the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EngineState {
    /// Every fact, by (subject, key).
    pub facts: Vec<Fact>,
    /// What policies remember, by session.
    pub policies: Vec<PolicyState>,
    /// What is guaranteed, by session.
    pub bookings: Vec<BookingState>,
}

/// What a policy remembers of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The session.
    pub seid: Seid,
    /// The policy's name.
    pub policy: String,
    /// The flow, if the policy is about those of facts.
    pub flow: Option<Flow>,
    /// What.
    pub remembered: Remembered,
}

/// A guaranteed bit rate that is promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookingState {
    /// To which session.
    pub seid: Seid,
    /// For what.
    pub source: Source,
    /// Where.
    pub resources: Vec<Resource>,
    /// How much.
    pub rates: Rates,
    /// How much it matters.
    pub arp: Arp,
}

impl Engine {
    /// What an engine has to [`Engine::restore`] to decide the same.
    pub fn state(&self) -> EngineState {
        EngineState {
            facts: self.facts.list(None, "").into_iter().cloned().collect(),
            ..self.remembered()
        }
    }

    /// The same without facts, for who keeps those one by one.
    pub fn remembered(&self) -> EngineState {
        let remembered = self.sessions.entries().flat_map(|(_, entry)| {
            entry
                .more()
                .memory
                .iter()
                .map(|((index, flow), remembered)| PolicyState {
                    seid: entry.seid,
                    policy: self.policies.policies[*index].name.clone(),
                    flow: flow.clone(),
                    remembered: *remembered,
                })
        });
        let bookings = self.ledger.bookings().filter_map(|booking| {
            Some(BookingState {
                seid: self.sessions.get(booking.session)?.seid,
                source: booking.source.clone(),
                resources: booking.resources.clone(),
                rates: booking.rates,
                arp: booking.arp,
            })
        });
        // Of sessions that have not come back yet, too.
        let waiting = self.restored.values();
        EngineState {
            facts: Vec::new(),
            policies: remembered
                .chain(waiting.clone().flat_map(|(policies, _)| policies.iter().cloned()))
                .collect(),
            bookings: bookings
                .chain(waiting.flat_map(|(_, bookings)| bookings.iter().cloned()))
                .collect(),
        }
    }

    /// Puts back what was remembered, before or after the sessions come back. Facts that have expired meanwhile are
    /// returned by the next [`Engine::advance`]; facts that are no longer possible (a profile, a limit) are left out.
    pub fn restore(&mut self, state: EngineState, now_ms: u64) {
        for fact in state.facts {
            let (about, key) = (fact.about.clone(), fact.key.clone());
            if self.facts.put(fact, &self.policies.limits).is_ok() {
                self.changed(&about, &key, now_ms);
            }
        }
        for policy in state.policies {
            self.restored.entry(policy.seid).or_default().0.push(policy);
        }
        for booking in state.bookings {
            self.restored.entry(booking.seid).or_default().1.push(booking);
        }
        let sessions: Vec<(SessionId, Seid)> = self.sessions.entries().map(|(id, e)| (id, e.seid)).collect();
        for (id, seid) in sessions {
            self.recall(id, seid);
        }
        self.mark_all();
    }

    /// A session is there (again): what was remembered of it. A booking that no longer fits is asked for anew, and may be
    /// refused.
    pub(super) fn recall(&mut self, id: SessionId, seid: Seid) {
        let Some((policies, bookings)) = self.restored.remove(&seid) else {
            return;
        };
        for state in policies {
            let place = self
                .policies
                .policies
                .iter()
                .position(|policy| policy.name == state.policy);
            if let (Some(index), Some(entry)) = (place, self.sessions.get_mut(id)) {
                entry.change(|more| more.memory.insert((index, state.flow), state.remembered));
            }
        }
        for state in bookings {
            let known = self.ledger.limited(state.resources.into_iter());
            let booking = Booking {
                session: id,
                source: state.source,
                resources: known,
                rates: state.rates,
                arp: state.arp,
            };
            self.ledger.recall(booking);
        }
    }
}
