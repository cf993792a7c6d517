//! Refusals of messages that cannot be decoded: the model's [`Refusal`], made of what the readers find.

use rs_pfcp::ie::IeType;

pub use upf_model::validate::{Cause, FailedRule, Refusal, RuleKind};

fn refusal(cause: Cause, offending_ie: Option<u16>, message: String) -> Refusal {
    Refusal {
        cause,
        offending_ie,
        failed_rule: None,
        message,
    }
}

/// A mandatory IE is not there: cause 66.
pub(super) fn missing(ie_type: IeType, inside: &str) -> Refusal {
    refusal(
        Cause::MandatoryIeMissing,
        Some(ie_type as u16),
        format!("{inside} has no {ie_type:?}"),
    )
}

/// A length that cannot be: cause 68. The type is as on the wire.
pub(super) fn invalid_length(ie_type: Option<u16>, message: String) -> Refusal {
    refusal(Cause::InvalidLength, ie_type, message)
}

/// A value that cannot be: cause 69.
pub(super) fn incorrect(ie_type: IeType, message: String) -> Refusal {
    refusal(Cause::MandatoryIeIncorrect, Some(ie_type as u16), message)
}
