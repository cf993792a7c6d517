//! How a PFCP procedure fails, seen from the SMF.

use std::fmt;

/// Cause values (TS 29.244 8.2.1) that the project's tests name.
pub mod cause {
    /// Request accepted (success).
    pub const REQUEST_ACCEPTED: u8 = 1;
    /// Request rejected (reason not specified).
    pub const REQUEST_REJECTED: u8 = 64;
    /// Session context not found.
    pub const SESSION_CONTEXT_NOT_FOUND: u8 = 65;
    /// Mandatory IE missing.
    pub const MANDATORY_IE_MISSING: u8 = 66;
    /// Conditional IE missing.
    pub const CONDITIONAL_IE_MISSING: u8 = 67;
    /// Invalid length.
    pub const INVALID_LENGTH: u8 = 68;
    /// Mandatory IE incorrect.
    pub const MANDATORY_IE_INCORRECT: u8 = 69;
    /// Invalid Forwarding Policy.
    pub const INVALID_FORWARDING_POLICY: u8 = 70;
    /// Invalid F-TEID allocation option.
    pub const INVALID_F_TEID_ALLOCATION_OPTION: u8 = 71;
    /// No established PFCP Association.
    pub const NO_ESTABLISHED_PFCP_ASSOCIATION: u8 = 72;
    /// Rule creation/modification failure.
    pub const RULE_CREATION_MODIFICATION_FAILURE: u8 = 73;
    /// PFCP entity in congestion.
    pub const PFCP_ENTITY_IN_CONGESTION: u8 = 74;
    /// No resources available.
    pub const NO_RESOURCES_AVAILABLE: u8 = 75;
    /// Service not supported.
    pub const SERVICE_NOT_SUPPORTED: u8 = 76;
    /// System failure.
    pub const SYSTEM_FAILURE: u8 = 77;
    /// Redirection requested.
    pub const REDIRECTION_REQUESTED: u8 = 78;
    /// All dynamic addresses are occupied.
    pub const ALL_DYNAMIC_ADDRESSES_ARE_OCCUPIED: u8 = 79;

    /// The standard's words for a cause value.
    pub fn name(cause: u8) -> &'static str {
        match cause {
            REQUEST_ACCEPTED => "Request accepted",
            REQUEST_REJECTED => "Request rejected",
            SESSION_CONTEXT_NOT_FOUND => "Session context not found",
            MANDATORY_IE_MISSING => "Mandatory IE missing",
            CONDITIONAL_IE_MISSING => "Conditional IE missing",
            INVALID_LENGTH => "Invalid length",
            MANDATORY_IE_INCORRECT => "Mandatory IE incorrect",
            INVALID_FORWARDING_POLICY => "Invalid Forwarding Policy",
            INVALID_F_TEID_ALLOCATION_OPTION => "Invalid F-TEID allocation option",
            NO_ESTABLISHED_PFCP_ASSOCIATION => "No established PFCP Association",
            RULE_CREATION_MODIFICATION_FAILURE => "Rule creation/modification failure",
            PFCP_ENTITY_IN_CONGESTION => "PFCP entity in congestion",
            NO_RESOURCES_AVAILABLE => "No resources available",
            SERVICE_NOT_SUPPORTED => "Service not supported",
            SYSTEM_FAILURE => "System failure",
            REDIRECTION_REQUESTED => "Redirection Requested",
            ALL_DYNAMIC_ADDRESSES_ARE_OCCUPIED => "All dynamic addresses are occupied",
            _ => "unnamed cause",
        }
    }
}

/// A response that arrived and said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Cause (8.2.1).
    pub cause: u8,
    /// Type of the IE at fault (8.2.22), if the UPF named it.
    pub offending_ie: Option<u16>,
    /// Failed Rule ID (8.2.80), undecoded: rule type octet, then the rule's identifier.
    pub failed_rule: Option<Vec<u8>>,
    /// SEID in the response's header.
    pub header_seid: Option<u64>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause {} ({})", self.cause, cause::name(self.cause))?;
        if let Some(ie) = self.offending_ie {
            write!(f, ", offending IE {ie}")?;
        }
        if let Some(rule) = &self.failed_rule {
            write!(f, ", failed rule {rule:02x?}")?;
        }
        Ok(())
    }
}

/// Why a procedure did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PfcpError {
    /// The UPF refused.
    #[error("the UPF refused {request}: {rejection}")]
    Rejected {
        /// The message it refused.
        request: &'static str,
        /// What it said.
        rejection: Rejection,
    },
    /// N1 transmissions, each followed by T1 of silence.
    #[error("no response to {request} after {attempts} transmissions: is the UPF running, and at that address?")]
    NoResponse {
        /// The message sent.
        request: &'static str,
        /// N1.
        attempts: u32,
    },
    /// The response cannot be what TS 29.244 says it is.
    #[error("malformed response to {request}: {reason}")]
    Malformed {
        /// The message sent.
        request: &'static str,
        /// What was expected and what was found.
        reason: String,
    },
    /// The UPF answered another PFCP version.
    #[error("the UPF answered {request} with Version Not Supported")]
    VersionNotSupported {
        /// The message sent.
        request: &'static str,
    },
    /// The socket failed.
    #[error("PFCP socket: {0}")]
    Io(#[from] std::io::Error),
}

impl PfcpError {
    /// The cause, if the UPF answered with one.
    pub fn cause(&self) -> Option<u8> {
        self.rejection().map(|r| r.cause)
    }

    /// The type of the IE at fault, if the UPF named it.
    pub fn offending_ie(&self) -> Option<u16> {
        self.rejection().and_then(|r| r.offending_ie)
    }

    /// The refusal, if it is one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected { rejection, .. } => Some(rejection),
            _ => None,
        }
    }
}
