//! Owns the explanation of a session: which contexts and policies made it what it is.

use crate::context::Fact;
use serde::Serialize;

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
    pub base: serde_json::Value,
    /// Ours; null: there is none.
    pub effective: serde_json::Value,
}
