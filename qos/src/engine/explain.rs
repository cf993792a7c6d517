//! Owns the explanation of a session: which contexts and policies made it what it is.

use super::decide::{FIELDS, meet, queues};
use super::evaluate::{Active, Scope, evaluate};
use super::{Decision, Engine, Layer};
use crate::context::Fact;
use crate::overlay;
use serde::Serialize;
use serde_json::Value;
use upf_model::{Session, SessionId};

/// Why a session is what it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Explanation {
    /// Local SEID; 0: there is no such session.
    pub seid: u64,
    /// Facts about the session, its flows, user, cell, slice and the network.
    pub contexts: Vec<Fact>,
    /// Each policy and its state, in the order of the file; once for each flow where it is about those of facts.
    pub policies: Vec<PolicyExplanation>,
    /// What each policy and profile in force sets, the first to win first.
    pub effects: Vec<EffectExplanation>,
    /// What should be in force and is not.
    pub refusals: Vec<Refusal>,
    /// What differs from the SMF's rules.
    pub differences: Vec<Difference>,
}

/// A policy's state in a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyExplanation {
    /// Its name.
    pub name: String,
    /// The flow, if it is about those of facts.
    pub flow: Option<String>,
    /// Whether the condition holds now.
    pub condition: bool,
    /// Whether the policy acts.
    pub in_force: bool,
    /// Since when the condition holds, milliseconds since the UNIX epoch, if it is remembered.
    pub holds_since_ms: Option<u64>,
    /// Since when the policy acts, if it is remembered.
    pub in_force_since_ms: Option<u64>,
    /// When it will act or may end, if nothing changes.
    pub until_ms: Option<u64>,
}

/// One field that a policy or profile sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EffectExplanation {
    /// `policy NAME` or `profile NAME`.
    pub source: String,
    /// The flow; none: PDRs as they are.
    pub flow: Option<String>,
    /// As in the policy file.
    pub field: &'static str,
    /// To what.
    pub value: String,
    /// `in force`, or `overruled by` another.
    pub state: String,
}

/// What should be in force and is not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refusal {
    /// `policy NAME` or `profile NAME`.
    pub source: String,
    /// Why not.
    pub reason: String,
}

/// A field of the session that differs from the SMF's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Such as `pdrs[2].precedence`: rules by their id.
    pub field: String,
    /// The SMF's; null: there is none.
    pub base: Value,
    /// Ours; null: there is none.
    pub effective: Value,
}

impl Engine {
    /// Why a session is what it is now: as it would be decided, with what was refused when it was decided last.
    pub fn explain(&self, id: SessionId, base: &Session, now_ms: u64) -> Explanation {
        let Some(entry) = self.sessions.get(id) else {
            return Explanation::default();
        };
        let evaluation = evaluate(&self.policies, &self.facts, entry, now_ms, true);
        let mut active = evaluation.active;
        active.retain(|active| {
            !entry
                .more()
                .denied
                .contains_key(&active.source.identity(&self.policies))
        });
        let policies = evaluation.states.into_iter().flatten().map(|state| PolicyExplanation {
            name: self.policies.policies[state.policy].name.clone(),
            flow: state.flow.map(|flow| flow.to_string()),
            condition: state.condition,
            in_force: state.in_force,
            holds_since_ms: state.remembered.holds_since_ms,
            in_force_since_ms: state.remembered.in_force_since_ms,
            until_ms: state.until_ms,
        });
        let refusals = entry.more().denied.iter().map(|(source, reason)| Refusal {
            source: super::decide::describe(source, self),
            reason: reason.clone(),
        });
        Explanation {
            seid: entry.seid.0,
            contexts: Scope::new(&self.facts, entry, now_ms).facts().cloned().collect(),
            policies: policies.collect(),
            effects: self.effects(base, &active),
            refusals: refusals.collect(),
            differences: {
                let decision = Decision {
                    queues: queues(&self.policies.queues, base),
                    layers: active.into_iter().map(|active| active.layer).collect(),
                };
                differences(base, &overlay(base, &decision).session)
            },
        }
    }

    /// Every field that something sets, and who overrules it.
    fn effects(&self, base: &Session, active: &[Active]) -> Vec<EffectExplanation> {
        let mut effects = Vec::new();
        for (i, one) in active.iter().enumerate() {
            for (field, value) in FIELDS {
                let Some(mine) = value(&one.layer.effects) else {
                    continue;
                };
                let over = active[..i].iter().filter(|other| value(&other.layer.effects).is_some());
                let over = over.filter(|other| field == "session_ambr_percent" || meet(base, &other.layer, &one.layer));
                let whole = |other: &&Active| holds(&other.layer, &one.layer) || field == "session_ambr_percent";
                let same_priority = |other: &Active| other.rank.0 == one.rank.0;
                let named = |words: &str, other: &Active| {
                    let tie = if same_priority(other) {
                        " (of the same priority)"
                    } else {
                        ""
                    };
                    format!("{words} {}{tie}", other.source.name(&self.policies))
                };
                let over: Vec<&Active> = over.collect();
                let state = match (over.iter().copied().find(|o| whole(o)), over.first()) {
                    (Some(other), _) => named("overruled by", other),
                    (None, Some(other)) => named("in force, but in part overruled by", other),
                    (None, None) => "in force".into(),
                };
                effects.push(EffectExplanation {
                    source: one.source.name(&self.policies),
                    flow: one.layer.flow.as_ref().map(ToString::to_string),
                    field,
                    value: mine,
                    state,
                });
            }
        }
        effects
    }
}

/// Whether every packet of the second layer is one of the first, as far as is plain to see.
fn holds(wide: &Layer, narrow: &Layer) -> bool {
    (wide.flow.is_none() || wide.flow == narrow.flow)
        && (wide.select == Default::default() || wide.select == narrow.select)
}

/// Field by field, from the JSON forms of both.
fn differences(base: &Session, effective: &Session) -> Vec<Difference> {
    let mut found = Vec::new();
    if let (Ok(base), Ok(effective)) = (serde_json::to_value(base), serde_json::to_value(effective)) {
        compare(String::new(), &base, &effective, &mut found);
    }
    found
}

fn compare(field: String, base: &Value, effective: &Value, found: &mut Vec<Difference>) {
    match (base, effective) {
        _ if base == effective => {}
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let path = if field.is_empty() {
                    name.clone()
                } else {
                    format!("{field}.{name}")
                };
                compare(
                    path,
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if by_id(a).is_some() && by_id(b).is_some() => {
            let find = |list: &[Value], id: &Value| list.iter().find(|item| item.get("id") == Some(id)).cloned();
            let ids = by_id(a).into_iter().flatten().chain(by_id(b).into_iter().flatten());
            let mut seen = Vec::new();
            for id in ids {
                if !seen.contains(&id) {
                    let (old, new) = (find(a, id), find(b, id));
                    seen.push(id);
                    compare(
                        format!("{field}[{id}]"),
                        &old.unwrap_or(Value::Null),
                        &new.unwrap_or(Value::Null),
                        found,
                    );
                }
            }
        }
        _ => found.push(Difference {
            field,
            base: base.clone(),
            effective: effective.clone(),
        }),
    }
}

/// The identifiers of a list of rules.
fn by_id(list: &[Value]) -> Option<Vec<&Value>> {
    list.iter()
        .map(|item| item.get("id").filter(|id| id.is_number()))
        .collect()
}
