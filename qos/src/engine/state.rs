//! Owns what outlives a restart.

use crate::context::Fact;
use serde::{Deserialize, Serialize};

/// What the engine remembers: with the same policies and sessions, an engine that has it decides the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EngineState {
    /// Every fact.
    pub facts: Vec<Fact>,
}
