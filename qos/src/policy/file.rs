//! Owns the form of the policy file: one type for each part. `config/qos.yaml` is an example with everything in it.

use super::effects::{Arp, Effects};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Policies of context-aware QoS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFile {
    /// Local time is so many minutes ahead of UTC; times of the day are local.
    #[schemars(range(min = -840, max = 840))]
    pub utc_offset_minutes: i32,
    /// How many facts there may be.
    pub limits: Limits,
    /// Priority queue of each QFI's packets, 0 to 7: the lowest layer, under all policies.
    pub queues: BTreeMap<u8, u8>,
    /// QFI of each 5QI that effects name.
    pub five_qis: BTreeMap<u8, u8>,
    /// How much guaranteed bit rate may be promised.
    pub capacities: Capacities,
    /// Named sets of effects: a fact `qod` or `qod.*` whose value is the name applies one. CAMARA calls them QoS profiles.
    pub profiles: BTreeMap<String, Profile>,
    /// In order: of two with the same priority, the earlier one wins.
    pub policies: Vec<PolicyEntry>,
}

/// How many facts there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// About one user and the user's flows.
    pub facts_per_user: usize,
    /// In all.
    pub facts: usize,
}

impl Default for Limits {
    /// 64 and a million.
    fn default() -> Self {
        Self {
            facts_per_user: 64,
            facts: 1_000_000,
        }
    }
}

/// Guaranteed bit rate that may be promised in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacities {
    /// By name of a port.
    pub ports: BTreeMap<String, Capacity>,
    /// By S-NSSAI, as `SST` or `SST-SD`.
    pub slices: BTreeMap<String, Capacity>,
    /// By name of a cell.
    pub cells: BTreeMap<String, Capacity>,
}

/// A bound of the sum of guaranteed bit rates, kbit/s; absent: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// From UEs.
    pub uplink_kbps: Option<u64>,
    /// To UEs.
    pub downlink_kbps: Option<u64>,
}

/// A named set of effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Against policies on the same field: the lower number wins.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// What a flow of this profile may expect at most from the UE, kbit/s: told to applications, enforced only by `effects.mbr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uplink_kbps: Option<u64>,
    /// To the UE, kbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downlink_kbps: Option<u64>,
    /// The shortest session of this profile, seconds.
    #[serde(default = "default_min_duration_s")]
    pub min_duration_s: u64,
    /// The longest, seconds.
    #[serde(default = "default_max_duration_s")]
    pub max_duration_s: u64,
    /// What counts when a guaranteed bit rate cannot be had for all.
    #[serde(default)]
    pub arp: Arp,
    /// What it changes.
    pub effects: Effects,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyEntry {
    /// Unique.
    pub name: String,
    /// When it acts; absent: always.
    #[serde(default)]
    pub when: Option<ConditionEntry>,
    /// Milliseconds that the condition must hold before the policy acts.
    #[serde(default)]
    pub for_ms: u64,
    /// Milliseconds that it stays in force at least, once it acts.
    #[serde(default)]
    pub hold_ms: u64,
    /// Against others on the same field: the lower number wins.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// To which packets of the session; absent: all.
    #[serde(default)]
    pub apply_to: ApplyTo,
    /// What counts when a guaranteed bit rate cannot be had for all.
    #[serde(default)]
    pub arp: Arp,
    /// What it changes.
    pub effects: Effects,
}

/// A condition: exactly one of `all`, `any`, `not`, `key`, `time`, `slice`, `dnn`, `subscriber`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionEntry {
    /// Every one of these.
    pub all: Option<Vec<ConditionEntry>>,
    /// At least one of these.
    pub any: Option<Vec<ConditionEntry>>,
    /// Not this one.
    pub not: Option<Box<ConditionEntry>>,
    /// The fact of this key, with one of `equals`, `in`, `exists`, `above`, `below`. The fact about the narrowest subject
    /// counts: flow, session, address, subscriber, cell, slice, network.
    pub key: Option<String>,
    /// Its value is this one.
    pub equals: Option<Scalar>,
    /// Its value is one of these.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<Scalar>>,
    /// There is one (true) or there is none (false).
    pub exists: Option<bool>,
    /// Its value is a number above this one.
    pub above: Option<f64>,
    /// Its value is a number below this one.
    pub below: Option<f64>,
    /// Once above (below), it counts as such until it is at or below (at or above) this one.
    pub clear: Option<f64>,
    /// Times of the day.
    pub time: Option<TimeEntry>,
    /// The session's slice, as `SST` or `SST-SD`.
    pub slice: Option<String>,
    /// The session's data network name.
    pub dnn: Option<String>,
    /// What one of the user's identities begins with.
    pub subscriber: Option<String>,
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
}

/// A time window, local.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeEntry {
    /// `HH:MM`, from then on.
    pub from: String,
    /// `HH:MM`, until before then. Not later than `from`: on the next day.
    pub to: String,
    /// Days on which the window begins; empty: every day.
    #[serde(default)]
    pub weekdays: Vec<Weekday>,
}

/// A day of the week, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are what they are")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Which packets of a session: parts that are there must all agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyTo {
    /// Of one direction only.
    pub direction: Option<Way>,
    /// Those of these QoS flows.
    pub qfis: Vec<u8>,
    /// Those of these PDRs.
    pub pdrs: Vec<u16>,
    /// Those of a flow, `permit out PROTOCOL from REMOTE to UE` (TS 29.212 5.4.2), or `fact`: of the flow that the fact
    /// itself is about.
    pub flow: Option<String>,
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the UE.
    Uplink,
    /// To the UE.
    Downlink,
}

fn default_priority() -> u32 {
    100
}
fn default_min_duration_s() -> u64 {
    1
}
fn default_max_duration_s() -> u64 {
    86_400
}
