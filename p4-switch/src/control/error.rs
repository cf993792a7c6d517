//! Why a control request was refused. Each maps to one of the canonical codes that P4Runtime asks for.

use thiserror::Error;

/// Why an update or a query was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// No program is loaded. FAILED_PRECONDITION.
    #[error("no P4 program is loaded; load one first")]
    NoProgram,
    /// The entity, or something that it refers to, does not exist. NOT_FOUND.
    #[error("{0} does not exist")]
    NotFound(String),
    /// An entity with this identity exists. ALREADY_EXISTS.
    #[error("{0} exists already; modify it")]
    AlreadyExists(String),
    /// The request is malformed: a value too wide, a missing field, a wrong match kind. INVALID_ARGUMENT.
    #[error("{0}")]
    InvalidArgument(String),
    /// The table, profile or group is full. RESOURCE_EXHAUSTED.
    #[error("{0} is full ({1} entries)")]
    ResourceExhausted(String, usize),
    /// A cell index beyond the array. OUT_OF_RANGE.
    #[error("{name} has {size} cells, there is no cell {index}")]
    OutOfRange {
        /// The array.
        name: String,
        /// Its size.
        size: usize,
        /// What was asked for.
        index: u64,
    },
    /// The entity is constant, or is still referred to. FAILED_PRECONDITION (PERMISSION_DENIED for constants).
    #[error("{0} is constant")]
    Constant(String),
    /// The entity is still in use. FAILED_PRECONDITION.
    #[error("{0} is still in use by {1}")]
    InUse(String, String),
    /// The operation makes no sense for this kind of entity. INVALID_ARGUMENT.
    #[error("{0} can only be modified")]
    ModifyOnly(&'static str),
    /// What v1model does not have. UNIMPLEMENTED.
    #[error("{0} is not supported")]
    Unsupported(String),
}

/// Why an atomic batch was refused: the first update that failed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("update {index}: {error}")]
pub struct BatchError {
    /// Position of the update in the batch.
    pub index: usize,
    /// What was wrong with it.
    pub error: ControlError,
}
