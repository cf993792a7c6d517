//! Refusals: the canonical code and the sentence that a client gets, for one update or for a whole request.
//!
//! The specification fixes the code of most of them. For a value that does not fit its field it has two: OUT_OF_RANGE
//! (section "Bytestrings") and INVALID_ARGUMENT (sections "Match Format" and "Action Specification"); table entries use
//! the latter, as BMv2's own server does, everything else the former.

use p4runtime::api::google::rpc;
use p4runtime::v1;
use prost::Message;
use tonic::{Code, Status};

use crate::control::ControlError;

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC's canonical code.
    pub code: Code,
    /// What was expected, and what was found.
    pub message: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal {
            code,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal::new(Code::InvalidArgument, message)
    }

    pub fn unimplemented(message: impl Into<String>) -> Self {
        Refusal::new(Code::Unimplemented, message)
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::NoProgram | ControlError::InUse(..) => Code::FailedPrecondition,
            ControlError::NotFound(_) => Code::NotFound,
            ControlError::AlreadyExists(_) => Code::AlreadyExists,
            ControlError::InvalidArgument(_) | ControlError::ModifyOnly(_) => Code::InvalidArgument,
            ControlError::ResourceExhausted(..) => Code::ResourceExhausted,
            ControlError::OutOfRange { .. } => Code::OutOfRange,
            ControlError::Constant(_) => Code::PermissionDenied,
            ControlError::Unsupported(_) => Code::Unimplemented,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        Status::new(refusal.code, refusal.message)
    }
}

/// The status of a batch (specification, section "Error Reporting"): UNKNOWN, with one `p4.v1.Error` for each element.
pub fn batch_status(what: &str, results: Vec<Result<(), Refusal>>) -> Status {
    let failed = results.iter().filter(|result| result.is_err()).count();
    let message = format!("{failed} of {} {what} failed", results.len());
    let details = results.into_iter().map(|result| {
        let error = match result {
            Ok(()) => v1::Error::default(),
            Err(refusal) => v1::Error {
                canonical_code: refusal.code as i32,
                message: refusal.message,
                space: "p4-switch-v1model-6g-upf".into(),
                ..Default::default()
            },
        };
        prost_types::Any {
            type_url: "type.googleapis.com/p4.v1.Error".into(),
            value: error.encode_to_vec(),
        }
    });
    let code = Code::Unknown;
    let status = rpc::Status {
        code: code as i32,
        message: message.clone(),
        details: details.collect(),
    };
    Status::with_details(code, message, status.encode_to_vec().into())
}
