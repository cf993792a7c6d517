//! What the context side asks of the controller, and what it is told.

use qos::{Fact, Key, Subject};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tokio::sync::{broadcast, mpsc, oneshot};

/// What the context side asks of the controller's task.
#[derive(Debug)]
pub enum Command {
    /// These facts are so from now on. Answered when what follows from them is in effect, fact by fact.
    Put {
        /// Put in order.
        facts: Vec<Fact>,
        /// When they became known: what becomes of them is timed from here.
        since: Instant,
        /// One outcome each, in order.
        reply: oneshot::Sender<Vec<Outcome>>,
    },
    /// They are so no longer. Answered when that is in effect, with those that there were.
    Remove {
        /// By identity.
        facts: Vec<(Subject, Key)>,
        /// As in [`Command::Put`].
        since: Instant,
        /// What was removed.
        reply: oneshot::Sender<Vec<Fact>>,
    },
    /// What is so of somebody (none: of all), keys beginning with this.
    List {
        /// Of whom.
        about: Option<Subject>,
        /// Beginning of the key; empty: every key.
        key_prefix: String,
        /// In order of (about, key).
        reply: oneshot::Sender<Vec<Fact>>,
    },
    /// Which contexts and policies made a session what it is. None: there is no such session.
    Explain {
        /// Its local SEID.
        seid: u64,
        /// As JSON for people and tools.
        reply: oneshot::Sender<Option<serde_json::Value>>,
    },
    /// What of a profile's name ([`qos`] policies) there is, for the list of CAMARA's QoS profiles; name to description.
    Profiles {
        /// As JSON: the policy file's profiles.
        reply: oneshot::Sender<serde_json::Value>,
    },
}

/// What became of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// What follows from it is in effect, in this many sessions.
    InEffect {
        /// Changed by it.
        sessions: usize,
    },
    /// Kept; it says nothing about a session that there is now, or no policy asks for it.
    Kept,
    /// Nothing was changed, and it was not kept.
    Refused {
        /// Why: admission, quota, an unknown profile.
        reason: String,
    },
    /// Kept, but a data plane could not follow; it is tried again.
    Delayed {
        /// Which one and why.
        reason: String,
    },
}

/// What happened to a fact without anybody asking now.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// To which.
    pub fact: Fact,
    /// What.
    pub what: What,
}

/// Kinds of [`Happened`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What follows from it is in effect now.
    InEffect,
    /// Its lifetime is over, and its effects are undone.
    Expired,
    /// It was taken back, and its effects are undone.
    Removed,
    /// Its guaranteed rate was given to somebody of higher priority (TS 23.501 5.7.2.2).
    Preempted(String),
    /// The session it was about has ended.
    SessionEnded,
}

/// How the context side reaches the controller, and hears of it.
#[derive(Debug, Clone)]
pub struct Contexts {
    /// To the controller's task.
    pub commands: mpsc::Sender<Command>,
    /// From it. Those that lag behind miss the oldest.
    pub happened: broadcast::Sender<Happened>,
}
