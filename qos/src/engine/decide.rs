//! Owns the way from what acts to a decision: admission, the bound of derived PDRs, conflicts.

use super::evaluate::{Active, ActiveSource, Evaluation, evaluate};
use super::notice::Notice;
use super::sessions::Entry;
use super::{Decision, Engine, Layer};
use crate::admission::{Booking, Resource, Source};
use crate::context::{Fact, Value};
use crate::overlay::qers::{flow_qer, selects, session_qer};
use crate::overlay::regions::{self, Regions};
use crate::overlay::treatment::{Treatment, blank_qer};
use crate::policy::{Effects, Rates};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use upf_model::{BitRates, Qer, QerId, Session, SessionId};

/// What was refused, and why.
type Denied = BTreeMap<Source, String>;

/// A named field of [`Effects`] and how to print its value, if it is set.
type Field = (&'static str, fn(&Effects) -> Option<String>);

/// Every field of effects.
pub(super) const FIELDS: [Field; 10] = [
    ("precedence", |e| e.precedence.map(|p| format!("{p:?}"))),
    ("qfi", |e| e.qfi.map(|v| v.to_string())),
    ("mbr", |e| e.mbr.map(rates)),
    ("gbr", |e| e.gbr.map(rates)),
    ("session_ambr_percent", |e| {
        e.session_ambr_percent.map(|v| v.to_string())
    }),
    ("queue", |e| e.queue.map(|v| v.to_string())),
    ("dscp", |e| e.dscp.map(|v| v.to_string())),
    ("l4s", |e| e.l4s.map(|v| v.to_string())),
    ("gate.uplink", |e| {
        e.gate?.uplink.map(|v| format!("{v:?}").to_lowercase())
    }),
    ("gate.downlink", |e| {
        e.gate?.downlink.map(|v| format!("{v:?}").to_lowercase())
    }),
];

fn rates(rates: Rates) -> String {
    format!("{} kbit/s up, {} down", rates.uplink_kbps, rates.downlink_kbps)
}

/// `policy NAME` or `profile NAME`, as notices call it.
pub(super) fn describe(source: &Source, engine: &Engine) -> String {
    match (source, engine.fact_of(source).map(|fact| fact.value)) {
        (Source::Policy(name, _), _) => format!("policy {name}"),
        (Source::Fact(..), Some(Value::Text(profile))) => format!("profile {profile}"),
        (Source::Fact(..), _) => "a profile".into(),
    }
}

impl Engine {
    /// What policies make of a session now. Books what they guarantee, which may pre-empt others: their sessions are
    /// marked then. An unknown session is left as it is.
    pub fn decide(&mut self, id: SessionId, base: &Session, now_ms: u64) -> Decision {
        let Some(entry) = self.sessions.get(id) else {
            return Decision::default();
        };
        let evaluation = evaluate(&self.policies, &self.facts, entry, now_ms, false);
        let Evaluation {
            mut active,
            memory,
            due_ms,
            ..
        } = evaluation;
        self.sessions.set_due(id, due_ms);
        let mut known = BTreeMap::new();
        let concerned = |entry: &&mut Entry| !memory.is_empty() || entry.is_concerned();
        if let Some(entry) = self.sessions.get_mut(id).filter(concerned) {
            known = entry.change(|more| {
                more.memory = memory;
                std::mem::take(&mut more.denied)
            });
        }
        self.admit(id, base, &mut active, &known, now_ms);
        self.bound(id, base, &mut active, &known);
        self.tell_conflicts(id, base, &active);
        self.mark_ready();
        Decision {
            queues: queues(&self.policies.queues, base),
            layers: active.into_iter().map(|active| active.layer).collect(),
        }
    }

    /// The fact that asks for a profile.
    pub(super) fn fact_of(&self, source: &Source) -> Option<Fact> {
        match source {
            Source::Policy(..) => None,
            Source::Fact(about, key) => self.facts.get(about, key).cloned(),
        }
    }

    /// Counts what the SMF guarantees to a session.
    pub(super) fn book_base(&mut self, id: SessionId, base: &Session) {
        let Some(entry) = self.sessions.get(id).filter(|_| !self.ledger.is_idle()) else {
            return;
        };
        let resources = self.ledger.limited(resources(entry));
        let Some(evicted) = self.ledger.set_base(id, &resources, guaranteed(base)) else {
            return;
        };
        for (resource, way, booked_kbps, capacity_kbps) in self.ledger.overbooked(&resources) {
            self.notify(Notice::Overbooked {
                resource,
                way,
                booked_kbps,
                capacity_kbps,
            });
        }
        self.notify_preempted(evicted, "the SMF's own guaranteed bit rate");
    }

    /// Books what is guaranteed; what is refused does not act at all. `known` was refused before.
    fn admit(&mut self, id: SessionId, base: &Session, active: &mut Vec<Active>, known: &Denied, now_ms: u64) {
        if self.ledger.is_idle() {
            return;
        }
        self.look_up_cell(id, now_ms);
        self.book_base(id, base);
        let guarantees = active.iter().any(|active| active.layer.effects.gbr.is_some());
        if !guarantees && known.is_empty() && self.ledger.of_session(id).next().is_none() {
            return;
        }
        let Some(entry) = self.sessions.get(id) else { return };
        let resources = self.ledger.limited(resources(entry));
        let wanted = wanted(id, base, active, &resources, |source| source.identity(&self.policies));
        let of_session: Vec<Booking> = self.ledger.of_session(id).cloned().collect();
        for old in of_session
            .iter()
            .filter(|old| !wanted.iter().any(|(_, new)| new == *old))
        {
            self.ledger.release(id, &old.source);
        }
        self.ledger.stop_waiting(id);
        for (index, booking) in &wanted {
            if self.ledger.has(id, &booking.source) {
                continue;
            }
            match self.ledger.book(booking.clone()) {
                Ok(preempted) => {
                    let by = active[*index].source.name(&self.policies);
                    self.notify_preempted(preempted, &by);
                }
                Err(reason) => self.refuse(id, &active[*index], &booking.source, &reason.to_string(), known),
            }
        }
        // Or one of the same session has taken its place.
        let refused: HashSet<usize> = wanted
            .iter()
            .filter(|(_, booking)| !self.ledger.has(id, &booking.source))
            .map(|(index, _)| *index)
            .collect();
        retain(active, |index| !refused.contains(&index));
    }

    /// Says so once, not again with every decision.
    fn refuse(&mut self, id: SessionId, active: &Active, source: &Source, reason: &str, known: &Denied) {
        if !known.contains_key(source) {
            self.notify(Notice::Refused {
                session: id,
                source: active.source.name(&self.policies),
                fact: active.fact.clone().or_else(|| self.fact_of(source)),
                reason: reason.to_owned(),
            });
        }
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.change(|more| more.denied.insert(source.clone(), reason.to_owned()));
        }
    }

    /// Takes away layers whose flows would make too many derived PDRs.
    fn bound(&mut self, id: SessionId, base: &Session, active: &mut Vec<Active>, known: &Denied) {
        let flows = active.iter().filter(|active| active.layer.flow.is_some()).count();
        // n flows make at most 2^n - 1 parts of each PDR.
        if flows == 0 || (flows < 6 && base.pdrs.len() * ((1 << flows) - 1) <= regions::derived_max(base)) {
            return;
        }
        let layers: Vec<Layer> = active.iter().map(|active| active.layer.clone()).collect();
        let refused = Regions::new(base, &layers).refused;
        let is_refused = |layer: &Layer| layer.flow.as_ref().is_some_and(|flow| refused.contains(flow));
        for refused in active.iter().filter(|active| is_refused(&active.layer)) {
            let source = refused.source.identity(&self.policies);
            let reason = format!(
                "the flows of one session may have {} derived PDRs",
                regions::derived_max(base)
            );
            self.ledger.release(id, &source);
            self.refuse(id, refused, &source, &reason, known);
        }
        active.retain(|active| !is_refused(&active.layer));
    }

    /// Two of the same priority that set the same field of the same packets to different values: told once.
    fn tell_conflicts(&mut self, id: SessionId, base: &Session, active: &[Active]) {
        let mut conflicts = BTreeSet::new();
        for (i, winner) in active.iter().enumerate() {
            for loser in active[i + 1..].iter().take_while(|other| other.rank.0 == winner.rank.0) {
                for (field, value) in FIELDS {
                    let values = (value(&winner.layer.effects), value(&loser.layer.effects));
                    if matches!(&values, (Some(a), Some(b)) if a != b) && meet(base, &winner.layer, &loser.layer) {
                        let names = (winner.source.name(&self.policies), loser.source.name(&self.policies));
                        conflicts.insert((names.0, names.1, field));
                    }
                }
            }
        }
        let concerned = |entry: &&mut Entry| !conflicts.is_empty() || entry.is_concerned();
        let Some(entry) = self.sessions.get_mut(id).filter(concerned) else {
            return;
        };
        let known = entry.change(|more| std::mem::replace(&mut more.conflicts, conflicts.clone()));
        for (winner, loser, field) in conflicts.difference(&known).cloned() {
            self.notify(Notice::Conflict {
                session: id,
                winner,
                loser,
                field,
            });
        }
    }
}

/// What the table of the policy file says of the SMF's QERs, where it is not so already.
pub(super) fn queues(table: &BTreeMap<u8, u8>, base: &Session) -> Vec<(QerId, u8)> {
    if table.is_empty() {
        return Vec::new();
    }
    let queues = base.qers.iter().filter_map(|qer| {
        let queue = *table.get(&qer.qfi?.0)?;
        (queue != qer.scheduling.queue).then_some((qer.id, queue))
    });
    queues.collect()
}

/// The resources that a session uses, limited or not.
fn resources(entry: &Entry) -> impl Iterator<Item = Resource> {
    let affiliation = &entry.affiliation;
    let ports = affiliation.ports.iter().cloned().map(Resource::Port);
    let slice = affiliation.slice.iter().cloned().map(Resource::Slice);
    ports
        .chain(slice)
        .chain(entry.more().cell.iter().cloned().map(Resource::Cell))
}

/// The SMF's guaranteed bit rates of a session.
fn guaranteed(base: &Session) -> Rates {
    let none = Rates {
        uplink_kbps: 0,
        downlink_kbps: 0,
    };
    base.qers
        .iter()
        .filter_map(|qer| qer.gbr)
        .fold(none, |sum, gbr: BitRates| Rates {
            uplink_kbps: sum.uplink_kbps.saturating_add(gbr.uplink_kbps),
            downlink_kbps: sum.downlink_kbps.saturating_add(gbr.downlink_kbps),
        })
}

/// What has to be booked, by place in the list of what acts. What is wholly overruled needs nothing.
fn wanted(
    id: SessionId,
    base: &Session,
    active: &[Active],
    resources: &[Resource],
    identity: impl Fn(&ActiveSource) -> Source,
) -> Vec<(usize, Booking)> {
    let mut wanted = Vec::new();
    for (index, one) in active.iter().enumerate() {
        let Some(gbr) = one.layer.effects.gbr else { continue };
        let overrules = |other: &Active| {
            other.layer.effects.gbr.is_some()
                && (&other.layer.select, &other.layer.flow) == (&one.layer.select, &one.layer.flow)
        };
        if active[..index].iter().any(overrules) {
            continue;
        }
        wanted.push((
            index,
            Booking {
                session: id,
                source: identity(&one.source),
                resources: resources.to_vec(),
                rates: times(gbr, base, &one.layer),
                arp: one.arp,
            },
        ));
    }
    wanted
}

/// A rate is promised once for each QER that will have it. Of whole PDRs, that is each of their flow QERs; the parts of a
/// flow share one as far as their QERs differ in nothing else.
fn times(gbr: Rates, base: &Session, layer: &Layer) -> Rates {
    let session_qer = session_qer(base);
    let treatment = Treatment::of(std::iter::once(layer));
    let promises = |uplink: bool| {
        let meant = base.pdrs.iter().filter(|pdr| {
            pdr.pdi.source_interface.is_uplink() == uplink
                && selects(base, session_qer, &layer.select, pdr)
                && layer
                    .flow
                    .as_ref()
                    .is_none_or(|flow| regions::touches(&pdr.pdi.sdf, flow))
        });
        let ids: BTreeSet<Option<QerId>> = meant.map(|pdr| flow_qer(base, session_qer, pdr)).collect();
        if layer.flow.is_none() {
            return ids.len() as u64;
        }
        let mut qers: Vec<Qer> = Vec::new();
        for id in ids {
            let origin = id.and_then(|id| base.qer(id)).cloned().unwrap_or_else(blank_qer);
            let qer = Qer {
                id: QerId(0),
                ..treatment.of_qer(&origin)
            };
            if !qers.contains(&qer) {
                qers.push(qer);
            }
        }
        qers.len() as u64
    };
    Rates {
        uplink_kbps: gbr.uplink_kbps.saturating_mul(promises(true)),
        downlink_kbps: gbr.downlink_kbps.saturating_mul(promises(false)),
    }
}

/// Whether two layers have packets in common.
pub(super) fn meet(base: &Session, a: &Layer, b: &Layer) -> bool {
    let flows = match (&a.flow, &b.flow) {
        (Some(a), Some(b)) => regions::meet(a, b),
        _ => true,
    };
    let session_qer = session_qer(base);
    let both = |pdr| selects(base, session_qer, &a.select, pdr) && selects(base, session_qer, &b.select, pdr);
    flows && base.pdrs.iter().any(both)
}

fn retain<T>(items: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        keep(index - 1)
    });
}
