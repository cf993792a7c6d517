//! What can go wrong, with what was expected and what was found; for a batch, update by update.

use crate::api::google::rpc;
use crate::api::p4::v1;
use prost::Message;
use std::fmt;
use tonic::Code;

/// P4Info that cannot be read, contradicts itself, or lacks what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum P4InfoError {
    /// The file cannot be read.
    #[error("cannot read P4Info {path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not a binary P4Info.
    #[error("not a binary P4Info: {0}")]
    Binary(#[from] prost::DecodeError),
    /// Not a text-format P4Info.
    #[error("not a text-format P4Info: {0}")]
    Text(#[from] crate::text::TextError),
    /// An object has no preamble.
    #[error("a {kind} of the P4Info has no preamble")]
    NoPreamble {
        /// Kind of object.
        kind: &'static str,
    },
    /// An id is zero or used twice.
    #[error("{kind} {name:?} has id {id:#010x}, which is zero or taken")]
    Id {
        /// Kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The id.
        id: u32,
    },
    /// A name is used twice.
    #[error("two objects of kind {kind} are called {name:?}")]
    DuplicateName {
        /// Kind of object.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A width is negative or beyond [`crate::p4info::MAX_BITWIDTH`].
    #[error("field {field:?} of {owner:?} has a width of {width} bits")]
    Width {
        /// Table, action or header.
        owner: String,
        /// The field.
        field: String,
        /// Its width.
        width: i32,
    },
    /// A size is negative.
    #[error("{name:?} has size {size}")]
    Size {
        /// The object.
        name: String,
        /// The size.
        size: i64,
    },
    /// A match kind that P4Runtime does not define.
    #[error("field {field:?} of {owner:?} has a match kind this crate does not know")]
    MatchKind {
        /// Table or value set.
        owner: String,
        /// The field.
        field: String,
    },
    /// An id leads nowhere.
    #[error("{from:?} refers to {id:#010x}, which is not in the P4Info")]
    Reference {
        /// Who refers.
        from: String,
        /// To what.
        id: u32,
    },
    /// No object of that name, alias or id.
    #[error("the P4Info has no {kind} {key}")]
    Unknown {
        /// Kind of object.
        kind: &'static str,
        /// What was asked for.
        key: String,
    },
}

/// An entity that P4Info does not allow.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A table, action, ... is not in the P4Info.
    #[error(transparent)]
    P4Info(#[from] P4InfoError),
    /// No such field or parameter.
    #[error("{owner:?} has no field or parameter {name}")]
    UnknownField {
        /// Table, action or header.
        owner: String,
        /// What was asked for.
        name: String,
    },
    /// A value is too large for its field.
    #[error("{value} does not fit the {width} bits of {owner}.{field}")]
    TooWide {
        /// Table, action or header.
        owner: String,
        /// The field.
        field: String,
        /// Its width.
        width: u32,
        /// The value.
        value: String,
    },
    /// A field of one kind was given a match of another.
    #[error("{owner}.{field} is matched {expected:?}, not {found}")]
    WrongKind {
        /// The table.
        owner: String,
        /// The field.
        field: String,
        /// What the P4Info says.
        expected: crate::p4info::MatchKind,
        /// What was given.
        found: &'static str,
    },
    /// A field or parameter was given twice, or an exact field or a parameter not at all.
    #[error("{owner}.{field} is given {times} times, once is expected")]
    Times {
        /// Table or action.
        owner: String,
        /// Field or parameter.
        field: String,
        /// How often it was given.
        times: usize,
    },
    /// The action is not one of the table's, or not in this place.
    #[error("table {table:?} does not allow action {action:?} here")]
    ActionNotAllowed {
        /// The table.
        table: String,
        /// The action.
        action: String,
    },
    /// A priority is missing where entries need one, or given where they have none.
    #[error("entries of table {table:?} {} a priority", if *needed { "need" } else { "must not have" })]
    Priority {
        /// The table.
        table: String,
        /// Whether one is needed.
        needed: bool,
    },
    /// The entry sets a meter, counter or timeout that the table does not have.
    #[error("table {table:?} has no {what}")]
    NoResource {
        /// The table.
        table: String,
        /// The resource.
        what: &'static str,
    },
    /// The entry lacks an action.
    #[error("an entry of table {table:?} is written without an action")]
    NoAction {
        /// The table.
        table: String,
    },
    /// A range whose low end is above its high end, or a prefix longer than its field.
    #[error("{owner}.{field}: {problem}")]
    Match {
        /// The table.
        owner: String,
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

/// What a server says about one update of a batch (`p4.v1.Error`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateError {
    /// Which update of the batch, from 0.
    pub index: usize,
    /// gRPC's canonical code.
    pub code: Code,
    /// Explanation.
    pub message: String,
    /// Space of the target's own code, if it has any.
    pub space: String,
    /// The target's own code.
    pub target_code: i32,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "update {}: {:?}: {}", self.index, self.code, self.message)
    }
}

/// A Write that did not do all it should.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Some updates failed, each with its reason. Which of the others took effect depends on the atomicity: all of
    /// them with `CONTINUE_ON_ERROR`, none with the other two.
    #[error("{} of {total} updates failed; {}", errors.len(), errors.first().map(ToString::to_string).unwrap_or_default())]
    Updates {
        /// The updates that failed, in order.
        errors: Vec<UpdateError>,
        /// How many the batch had.
        total: usize,
    },
    /// The request as a whole failed: not primary, not connected, no pipeline, ...
    #[error("write failed: {:?}: {}", .0.code(), .0.message())]
    Request(#[source] Box<tonic::Status>),
}

impl WriteError {
    /// Read a status of the Write RPC (specification, section "Error Reporting Messages"): with one `p4.v1.Error` for
    /// each update in its details it is about updates, otherwise about the whole request.
    pub fn from_status(status: tonic::Status, total: usize) -> WriteError {
        let details = rpc::Status::decode(status.details()).unwrap_or_default().details;
        let errors: Option<Vec<v1::Error>> = details
            .iter()
            .map(|any| v1::Error::decode(any.value.as_slice()).ok())
            .collect();
        match errors {
            Some(errors) if !errors.is_empty() && errors.len() == total => {
                let failed = errors
                    .into_iter()
                    .enumerate()
                    .filter(|(_, error)| error.canonical_code != 0);
                let errors = failed
                    .map(|(index, error)| UpdateError {
                        index,
                        code: Code::from_i32(error.canonical_code),
                        message: error.message,
                        space: error.space,
                        target_code: error.code,
                    })
                    .collect();
                WriteError::Updates { errors, total }
            }
            _ => WriteError::Request(Box::new(status)),
        }
    }

    /// The errors of single updates; empty if the whole request failed.
    pub fn updates(&self) -> &[UpdateError] {
        match self {
            WriteError::Updates { errors, .. } => errors,
            WriteError::Request(_) => &[],
        }
    }
}

/// Anything a client call may meet besides a failed Write.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("{address:?} is not the address of a P4Runtime server: {source}")]
    Address {
        /// What was given.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The server answered with an error, or could not be reached.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(#[source] Box<tonic::Status>),
    /// The server did not accept this client as primary in time.
    #[error("not primary after {waited:?}; the stream is {state}")]
    NotPrimary {
        /// How long was waited.
        waited: std::time::Duration,
        /// What the stream's state was.
        state: String,
    },
    /// There is no stream at the moment.
    #[error("no stream to the target: reconnecting")]
    Disconnected,
    /// A write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An entity is not what P4Info allows.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The target has no pipeline, or its P4Info cannot be used.
    #[error(transparent)]
    P4Info(#[from] P4InfoError),
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        ClientError::Status(Box::new(status))
    }
}

impl ClientError {
    /// gRPC's code, where the server answered with one.
    pub fn code(&self) -> Option<Code> {
        match self {
            ClientError::Status(status) => Some(status.code()),
            ClientError::Write(WriteError::Request(status)) => Some(status.code()),
            _ => None,
        }
    }
}
