//! The policy file: what it says, typed, and how it is read.
//!
//! | file | owns |
//! | --- | --- |
//! | `file` | the form: one type for each part of the file |
//! | `condition` | conditions as they are evaluated, and times of the day |
//! | `effects` | what a policy or profile changes |
//! | `parse` | from text to [`Policies`] |
//! | `validate` | what types cannot say |
//! | `problem` | what is wrong, told to the person who wrote it |
//! | `source` | where each field stands in the text |

pub(crate) mod condition;
pub mod effects;
pub mod file;
mod parse;
mod problem;
mod source;
mod validate;

pub use effects::{Arp, Effects, GateStatus, Gates, Precedence, Rates};
pub use file::{Capacity, Limits, Profile};
pub use problem::{PolicyErrors, Position, Problem};

use crate::context::Key;
use condition::{Condition, When};
use file::PolicyFile;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use upf_model::{IpFilterRule, PdrId, Qfi};

/// A parsed, validated policy file.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    pub(crate) limits: Limits,
    /// Priority queue of each QFI's packets, where the file says so.
    pub(crate) queues: BTreeMap<u8, u8>,
    pub(crate) capacities: file::Capacities,
    /// Each with its effects, to be shared.
    pub(crate) profiles: BTreeMap<String, (Profile, Arc<Effects>)>,
    /// In the order of the file.
    pub(crate) policies: Vec<Policy>,
    /// Keys that some policy asks for.
    pub(crate) keys: BTreeSet<Key>,
}

/// A policy as the engine evaluates it.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) for_ms: u64,
    pub(crate) hold_ms: u64,
    pub(crate) priority: u32,
    pub(crate) target: PolicyTarget,
    pub(crate) effects: Arc<Effects>,
    pub(crate) arp: Arp,
}

/// Which packets of a session a policy means.
#[derive(Debug, Clone)]
pub(crate) enum PolicyTarget {
    /// Those of these PDRs.
    Pdrs(Select),
    /// Of these PDRs, those of a flow.
    Flow(Select, Arc<IpFilterRule>),
    /// Of these PDRs, those of the flow that a fact is about.
    FlowOfFact(Select),
}

/// A choice of PDRs: all parts that are there must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// Of one direction only.
    pub uplink: Option<bool>,
    /// Whose QoS flow is one of these; empty: any.
    pub qfis: Vec<Qfi>,
    /// These; empty: any.
    pub pdrs: Vec<PdrId>,
}

impl Policies {
    /// Reads a policy file. `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, with line, column and field.
    pub fn parse(text: &str, name: &str) -> Result<Self, PolicyErrors> {
        parse::parse(text, name)
    }

    /// No policies, no profiles, no capacities: nothing is ever changed.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The profiles, by ascending name.
    pub fn profiles(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles
            .iter()
            .map(|(name, (profile, _))| (name.as_str(), profile))
    }

    /// Keys of facts that some policy asks for, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Those that policies about the flows of facts (`apply_to: {flow: fact}`) ask for.
    pub fn keys_of_flows(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let of_flows = |policy: &&Policy| matches!(policy.target, PolicyTarget::FlowOfFact(_));
        for policy in self.policies.iter().filter(of_flows) {
            policy.when.condition.keys(&mut keys);
        }
        keys
    }

    /// Whether a fact of that key can change anything.
    pub fn asks_for(&self, key: &Key) -> bool {
        self.keys.contains(key) || is_profile_key(key) || key.as_str() == CELL
    }
}

/// Key of the fact that says in which cell a user is.
pub(crate) const CELL: &str = "cell";

/// Whether a fact of that key asks for the profile that its value names.
pub(crate) fn is_profile_key(key: &Key) -> bool {
    key.as_str() == "qod" || key.as_str().starts_with("qod.")
}

/// The JSON schema (draft 2020-12) of the policy file. `config/qos.schema.json` is this, and a test keeps it so.
pub fn policy_schema() -> serde_json::Value {
    schemars::schema_for!(PolicyFile).to_value()
}

impl Condition {
    /// Adds the keys that it asks for.
    pub(crate) fn keys(&self, keys: &mut BTreeSet<Key>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.keys(keys)),
            Self::Not(part) => part.keys(keys),
            Self::Exists(key, _) | Self::In(key, _) | Self::Threshold { key, .. } => {
                keys.insert(key.clone());
            }
            Self::Time(_) | Self::Slice(_) | Self::Dnn(_) | Self::Subscriber(_) => {}
        }
    }
}
