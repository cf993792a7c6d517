//! Owns what policies say about one session now: conditions over facts, hysteresis, waiting and holding.
//!
//! Pure: from policies, facts, what is remembered and the time, to what acts and what is to be remembered. So that
//! deciding and explaining cannot differ.

use super::Layer;
use super::facts::{Facts, Held, OfUser};
use super::sessions::Entry;
use crate::admission::Source;
use crate::context::{Fact, Flow, Key, Subject, User, Value};
use crate::policy::condition::Condition;
use crate::policy::{Arp, CELL, Policies, Policy, PolicyTarget, Select, is_profile_key};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use upf_model::IpFilterRule;

/// What a policy remembers of a session (or of one flow of it) from one decision to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remembered {
    /// Since when the condition holds.
    pub holds_since_ms: Option<u64>,
    /// Since when the policy acts.
    pub in_force_since_ms: Option<u64>,
    /// A bit for each threshold with hysteresis that is passed.
    pub latches: u64,
}

/// By index of the policy, and flow. Only what has something to remember.
pub(super) type Memory = BTreeMap<(usize, Option<Flow>), Remembered>;

/// Something that acts.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) source: ActiveSource,
    /// Policies by their place in the file, then facts by the width of their subject and key: the lower wins.
    pub(super) rank: (u32, bool, usize),
    pub(super) layer: Layer,
    pub(super) arp: Arp,
    /// A fact that made it act.
    pub(super) fact: Option<Fact>,
}

/// What acts.
#[derive(Debug, Clone)]
pub(super) enum ActiveSource {
    /// A policy, by its place in the file, and the flow if it is about those of facts.
    Policy(usize, Option<Flow>),
    /// A fact of that subject and key, which names this profile.
    Fact(Subject, Key, String),
}

impl ActiveSource {
    pub(super) fn identity(&self, policies: &Policies) -> Source {
        match self {
            Self::Policy(index, flow) => Source::Policy(policies.policies[*index].name.clone(), flow.clone()),
            Self::Fact(about, key, _) => Source::Fact(about.clone(), key.clone()),
        }
    }

    /// For people.
    pub(super) fn name(&self, policies: &Policies) -> String {
        match self {
            Self::Policy(index, _) => format!("policy {}", policies.policies[*index].name),
            Self::Fact(_, _, profile) => format!("profile {profile}"),
        }
    }
}

/// A policy's state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) policy: usize,
    pub(super) flow: Option<Flow>,
    pub(super) condition: bool,
    pub(super) in_force: bool,
    pub(super) remembered: Remembered,
    pub(super) until_ms: Option<u64>,
}

/// What there is to say about a session now.
#[derive(Debug)]
pub(super) struct Evaluation {
    /// In order of rank.
    pub(super) active: Vec<Active>,
    /// Of each policy (and flow), if somebody wants to know.
    pub(super) states: Option<Vec<State>>,
    pub(super) memory: Memory,
    /// When time alone may change it.
    pub(super) due_ms: Option<u64>,
}

/// The facts that count for a session, from the narrowest subject to the widest; expired ones do not.
pub(super) struct Scope<'f> {
    entry: &'f Entry,
    pub(super) held: Vec<&'f Held>,
    pub(super) flows: BTreeMap<&'f Flow, (&'f Arc<IpFilterRule>, Vec<&'f Held>)>,
    now_ms: u64,
}

impl<'f> Scope<'f> {
    pub(super) fn new(facts: &'f Facts, entry: &'f Entry, now_ms: u64) -> Self {
        let mut scope = Self {
            entry,
            held: Vec::new(),
            flows: BTreeMap::new(),
            now_ms,
        };
        for user in users(facts, entry) {
            scope.enter(Some(&user.own));
            for (flow, of_flow) in &user.flows {
                let (_, held) = scope.flows.entry(flow).or_insert_with(|| (&of_flow.rule, Vec::new()));
                held.push(&of_flow.held);
            }
        }
        let cell = cell(&scope.held, now_ms).and_then(|cell| facts.cell(cell));
        scope.enter(cell);
        scope.enter(entry.affiliation.slice.as_deref().and_then(|slice| facts.slice(slice)));
        scope.enter(Some(&facts.network));
        scope
    }

    fn enter(&mut self, held: Option<&'f Held>) {
        self.held.extend(held.filter(|held| !held.is_empty()));
    }

    fn is_live(&self, fact: &Fact) -> bool {
        fact.expires_ms.is_none_or(|expires_ms| expires_ms > self.now_ms)
    }

    /// The fact of a key that counts for a flow (none: for the session).
    fn find(&self, flow: Option<&Flow>, key: &Key) -> Option<&'f Fact> {
        let of_flow = flow.and_then(|flow| self.flows.get(flow)).map(|(_, held)| held.iter());
        let mut held = of_flow.into_iter().flatten().chain(&self.held);
        held.find_map(|held| held.get(key).filter(|fact| self.is_live(fact)))
    }

    /// Every fact that counts or is hidden by a narrower one.
    pub(super) fn facts(&self) -> impl Iterator<Item = &'f Fact> {
        let flows = self.flows.values().flat_map(|(_, held)| held);
        let held = flows.chain(&self.held).flat_map(|held| held.values());
        held.filter(|fact| self.is_live(fact))
    }
}

/// The user, by every name that there are facts under, from the narrowest.
fn users<'f>(facts: &'f Facts, entry: &'f Entry) -> impl Iterator<Item = &'f OfUser> {
    let session = facts.user(&User::Session(entry.seid));
    let addresses = entry.prefixes().flat_map(|prefix| facts.users_within(prefix));
    let subscribers = entry
        .names()
        .filter_map(|name| facts.user(&User::Subscriber(name.to_owned())));
    session.into_iter().chain(addresses).chain(subscribers)
}

fn cell<'f>(held: &[&'f Held], now_ms: u64) -> Option<&'f str> {
    let key = Key::try_from(CELL.to_owned()).ok()?;
    let live = |fact: &&Fact| fact.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms);
    match &held.iter().find_map(|held| held.get(&key).filter(live))?.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}

/// The cell that facts about the user say the session is in.
pub(super) fn cell_of(facts: &Facts, entry: &Entry, now_ms: u64) -> Option<String> {
    let held: Vec<&Held> = users(facts, entry).map(|user| &user.own).collect();
    cell(&held, now_ms).map(str::to_owned)
}

/// One evaluation of a condition.
struct Look<'s, 'f> {
    scope: &'s Scope<'f>,
    flow: Option<&'s Flow>,
    before: u64,
    latches: u64,
    /// The first fact that made a part of it true.
    fact: Option<&'f Fact>,
    /// When a time window may open or close.
    boundary_ms: Option<u64>,
}

impl Look<'_, '_> {
    /// Every part is looked at, as hysteresis goes on in each.
    fn holds(&mut self, condition: &Condition) -> bool {
        match condition {
            Condition::All(parts) => parts.iter().fold(true, |all, part| all & self.holds(part)),
            Condition::Any(parts) => parts.iter().fold(false, |any, part| any | self.holds(part)),
            Condition::Not(part) => !self.holds(part),
            Condition::Exists(key, wanted) => {
                let fact = self.scope.find(self.flow, key);
                self.fact = self.fact.or(fact);
                fact.is_some() == *wanted
            }
            Condition::In(key, values) => {
                let fact = self
                    .scope
                    .find(self.flow, key)
                    .filter(|fact| values.contains(&fact.value));
                self.fact = self.fact.or(fact);
                fact.is_some()
            }
            Condition::Threshold {
                key,
                above,
                bound,
                clear,
            } => {
                let fact = self.scope.find(self.flow, key);
                let Some(Value::Number(number)) = fact.map(|fact| &fact.value) else {
                    return false;
                };
                let passed = clear.is_some_and(|(_, latch)| self.before & 1 << latch != 0);
                let bound = clear.filter(|_| passed).map_or(*bound, |(clear, _)| clear);
                let holds = if *above { *number > bound } else { *number < bound };
                if holds {
                    self.fact = self.fact.or(fact);
                    self.latches |= clear.map_or(0, |(_, latch)| 1 << latch);
                }
                holds
            }
            Condition::Time(window) => {
                let next = window.next_boundary_ms(self.scope.now_ms);
                self.boundary_ms = Some(self.boundary_ms.map_or(next, |at| at.min(next)));
                window.contains(self.scope.now_ms)
            }
            Condition::Slice(name) => self.scope.entry.affiliation.slice.as_ref() == Some(name),
            Condition::Dnn(name) => self.scope.entry.affiliation.dnn.as_ref() == Some(name),
            Condition::Subscriber(prefix) => self.scope.entry.names().any(|name| name.starts_with(prefix)),
        }
    }
}

/// Everything that policies and profiles say about a session.
pub(super) fn evaluate(
    policies: &Policies,
    facts: &Facts,
    entry: &Entry,
    now_ms: u64,
    with_states: bool,
) -> Evaluation {
    let scope = Scope::new(facts, entry, now_ms);
    let mut evaluation = Evaluation {
        active: Vec::new(),
        states: with_states.then(Vec::new),
        memory: Memory::new(),
        due_ms: None,
    };
    for (index, policy) in policies.policies.iter().enumerate() {
        let (PolicyTarget::Pdrs(select) | PolicyTarget::Flow(select, _) | PolicyTarget::FlowOfFact(select)) =
            &policy.target;
        let whole = Case {
            index,
            policy,
            select,
            flow: None,
            rule: None,
            is_asked: true,
        };
        match &policy.target {
            PolicyTarget::Pdrs(_) => evaluation.policy(&scope, entry, &whole),
            PolicyTarget::Flow(_, rule) => {
                let rule = Some(rule);
                evaluation.policy(&scope, entry, &Case { rule, ..whole });
            }
            PolicyTarget::FlowOfFact(_) => {
                for (flow, rule, is_asked) in &flows_of(&scope, entry, index, policy) {
                    let case = Case {
                        flow: Some(flow),
                        rule: Some(rule),
                        is_asked: *is_asked,
                        ..whole
                    };
                    evaluation.policy(&scope, entry, &case);
                }
            }
        }
    }
    evaluation.profiles(policies, &scope);
    evaluation.active.sort_by_key(|active| active.rank);
    evaluation
}

/// A policy, and what it would act on.
#[derive(Clone, Copy)]
struct Case<'p> {
    index: usize,
    policy: &'p Policy,
    select: &'p Select,
    /// The flow whose facts count, if the policy is about those of facts.
    flow: Option<&'p Flow>,
    rule: Option<&'p Arc<IpFilterRule>>,
    /// False: no fact about the flow is asked for any more, so that the condition does not hold.
    is_asked: bool,
}

/// Flows that have a fact the policy asks for, and others that it still acts on.
fn flows_of(scope: &Scope<'_>, entry: &Entry, index: usize, policy: &Policy) -> Vec<(Flow, Arc<IpFilterRule>, bool)> {
    let mut keys = BTreeSet::new();
    if !scope.flows.is_empty() {
        policy.when.condition.keys(&mut keys);
    }
    let asked = |held: &&Held| held.iter().any(|(key, fact)| keys.contains(key) && scope.is_live(fact));
    let flows = scope.flows.iter().filter(|(_, (_, held))| held.iter().any(asked));
    let mut flows: Vec<(Flow, Arc<IpFilterRule>, bool)> = flows
        .map(|(flow, (rule, _))| ((*flow).clone(), Arc::clone(rule), true))
        .collect();
    let remembered = entry.more().memory.range((index, None)..(index + 1, None));
    for flow in remembered.filter_map(|((_, flow), _)| flow.as_ref()) {
        if !flows.iter().any(|(other, ..)| other == flow)
            && let Some(rule) = flow.rule()
        {
            flows.push((flow.clone(), Arc::new(rule), false));
        }
    }
    flows.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    flows
}

impl Evaluation {
    fn due(&mut self, at_ms: Option<u64>) {
        self.due_ms = match (self.due_ms, at_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Evaluates a policy, for one flow if it is about those of facts.
    fn policy(&mut self, scope: &Scope<'_>, entry: &Entry, case: &Case<'_>) {
        let Case { policy, flow, .. } = *case;
        let identity = || (case.index, flow.cloned());
        let remembers = policy.for_ms > 0 || policy.hold_ms > 0 || policy.when.latches > 0;
        let memory = &entry.more().memory;
        let before = if remembers && !memory.is_empty() {
            memory.get(&identity()).copied().unwrap_or_default()
        } else {
            Remembered::default()
        };
        let mut look = Look {
            scope,
            flow,
            before: before.latches,
            latches: 0,
            fact: None,
            boundary_ms: None,
        };
        let condition = case.is_asked && look.holds(&policy.when.condition);
        let (latches, fact, boundary_ms) = (look.latches, look.fact, look.boundary_ms);
        let now_ms = scope.now_ms;
        let holds_since_ms = condition.then(|| before.holds_since_ms.unwrap_or(now_ms));
        let acts_at_ms = holds_since_ms.map(|since| since.saturating_add(policy.for_ms));
        let in_force_since_ms = match before.in_force_since_ms {
            Some(since) if condition || now_ms < since.saturating_add(policy.hold_ms) => Some(since),
            _ => acts_at_ms.is_some_and(|at| at <= now_ms).then_some(now_ms),
        };
        let until_ms = match (condition, in_force_since_ms) {
            (true, None) => acts_at_ms,
            (false, Some(since)) => Some(since.saturating_add(policy.hold_ms)),
            _ => None,
        };
        self.due(until_ms);
        self.due(boundary_ms);
        let remembered = Remembered {
            holds_since_ms,
            in_force_since_ms,
            latches,
        };
        if remembers && remembered != Remembered::default() {
            self.memory.insert(identity(), remembered);
        }
        if let Some(states) = &mut self.states {
            states.push(State {
                policy: case.index,
                flow: flow.cloned(),
                condition,
                in_force: in_force_since_ms.is_some(),
                remembered: if remembers { remembered } else { Remembered::default() },
                until_ms: until_ms.or(boundary_ms),
            });
        }
        if in_force_since_ms.is_some() {
            self.active.push(Active {
                source: ActiveSource::Policy(case.index, flow.cloned()),
                rank: (policy.priority, false, case.index),
                layer: Layer {
                    select: case.select.clone(),
                    flow: case.rule.cloned(),
                    effects: Arc::clone(&policy.effects),
                },
                arp: policy.arp,
                fact: fact.filter(|_| policy.effects.gbr.is_some()).cloned(),
            });
        }
    }

    /// Facts that name a profile: each acts on what it is about.
    fn profiles(&mut self, policies: &Policies, scope: &Scope<'_>) {
        if policies.profiles.is_empty() {
            return;
        }
        let flows = scope
            .flows
            .values()
            .flat_map(|(rule, held)| held.iter().map(move |held| (Some(*rule), *held)));
        let session = scope.held.iter().map(|held| (None, *held));
        let mut place = 0;
        for (rule, held) in flows.chain(session) {
            let Ok(first) = Key::try_from("qod".to_owned()) else {
                return;
            };
            let facts = held
                .range(first..)
                .take_while(|(key, _)| key.as_str().starts_with("qod"));
            for (key, fact) in facts.filter(|(key, fact)| is_profile_key(key) && scope.is_live(fact)) {
                let Value::Text(name) = &fact.value else { continue };
                let Some((profile, effects)) = policies.profiles.get(name) else {
                    continue;
                };
                self.active.push(Active {
                    source: ActiveSource::Fact(fact.about.clone(), key.clone(), name.clone()),
                    rank: (profile.priority, true, place),
                    layer: Layer {
                        select: Select::default(),
                        flow: rule.cloned(),
                        effects: Arc::clone(effects),
                    },
                    arp: profile.arp,
                    fact: profile.effects.gbr.is_some().then(|| fact.clone()),
                });
                place += 1;
            }
        }
    }
}
