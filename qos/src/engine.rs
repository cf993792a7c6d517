//! The engine: facts in, decisions out.

mod explain;
mod notice;
mod state;

pub use explain::{Difference, EffectExplanation, Explanation, PolicyExplanation, Refusal};
pub use notice::{FactError, Notice};
pub use state::EngineState;

use crate::context::{Fact, Key, Subject};
use crate::policy::{Effects, Policies, Select};
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
#[derive(Debug)]
pub struct Engine {
    policies: Policies,
}

#[allow(unused_variables, missing_docs, unused_mut)]
impl Engine {
    pub fn new(policies: Policies) -> Self {
        Self { policies }
    }
    pub fn replace_policies(&mut self, policies: Policies, now_ms: u64) {
        self.policies = policies;
    }
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
    pub fn put_session(&mut self, profile: SessionProfile, base: &Session, now_ms: u64) {}
    pub fn remove_session(&mut self, id: SessionId) -> Vec<Fact> {
        Vec::new()
    }
    pub fn put_fact(&mut self, fact: Fact, now_ms: u64) -> Result<Option<Fact>, FactError> {
        Ok(None)
    }
    pub fn remove_fact(&mut self, about: &Subject, key: &Key) -> Option<Fact> {
        None
    }
    pub fn facts(&self, about: Option<&Subject>, key_prefix: &str) -> Vec<&Fact> {
        Vec::new()
    }
    pub fn due_ms(&self) -> Option<u64> {
        None
    }
    pub fn advance(&mut self, now_ms: u64) -> Vec<Fact> {
        Vec::new()
    }
    pub fn marked(&mut self, limit: usize) -> Vec<SessionId> {
        Vec::new()
    }
    pub fn sessions_of(&self, about: &Subject) -> Vec<SessionId> {
        Vec::new()
    }
    pub fn decide(&mut self, id: SessionId, base: &Session, now_ms: u64) -> Decision {
        Decision::default()
    }
    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }
    pub fn explain(&self, id: SessionId, base: &Session, now_ms: u64) -> Explanation {
        Explanation::default()
    }
    pub fn state(&self) -> EngineState {
        EngineState::default()
    }
    pub fn restore(&mut self, state: EngineState, now_ms: u64) {}
}
