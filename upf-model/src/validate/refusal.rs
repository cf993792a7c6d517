//! Why a request is refused: a cause of TS 29.244 8.2.1, the IE at fault, the rule it was in, and words for people.

use super::table::RuleId;
use std::fmt;

/// Cause (TS 29.244 table 8.2.1-1). A [`Refusal`] only ever carries the rejecting ones, 64 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// The request took effect.
    RequestAccepted = 1,
    /// Session Deletion Response: usage reports follow.
    MoreUsageReportToSend = 2,
    /// With the PSUCC feature only.
    RequestPartiallyAccepted = 3,
    /// Reason not specified.
    RequestRejected = 64,
    /// The F-SEID is unknown.
    SessionContextNotFound = 65,
    /// A mandatory IE is absent.
    MandatoryIeMissing = 66,
    /// An IE is absent that these circumstances demand.
    ConditionalIeMissing = 67,
    /// An IE's length is wrong.
    InvalidLength = 68,
    /// An IE holds a value that the standard does not allow.
    MandatoryIeIncorrect = 69,
    /// The forwarding policy is unknown.
    InvalidForwardingPolicy = 70,
    /// The F-TEID is allocated by the wrong side, or in a way that is contradictory.
    InvalidFTeidAllocationOption = 71,
    /// There is no association with this peer.
    NoEstablishedPfcpAssociation = 72,
    /// A rule cannot be created or changed as asked.
    RuleCreationModificationFailure = 73,
    /// Try later.
    PfcpEntityInCongestion = 74,
    /// Out of memory, identifiers or table room.
    NoResourcesAvailable = 75,
    /// The function asked for is not supported.
    ServiceNotSupported = 76,
    /// Something broke here.
    SystemFailure = 77,
    /// Ask another UP function.
    RedirectionRequested = 78,
    /// The pool of UE addresses is empty.
    AllDynamicAddressesAreOccupied = 79,
    /// No such predefined rule.
    UnknownPredefinedRule = 80,
    /// No such application.
    UnknownApplicationId = 81,
}

impl Cause {
    /// The octet of the Cause IE.
    pub const fn value(self) -> u8 {
        self as u8
    }
    /// Whether the request was taken (values 1 to 63).
    pub const fn is_acceptance(self) -> bool {
        self.value() < 64
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::RequestAccepted => "request accepted",
            Self::MoreUsageReportToSend => "more usage report to send",
            Self::RequestPartiallyAccepted => "request partially accepted",
            Self::RequestRejected => "request rejected",
            Self::SessionContextNotFound => "session context not found",
            Self::MandatoryIeMissing => "mandatory IE missing",
            Self::ConditionalIeMissing => "conditional IE missing",
            Self::InvalidLength => "invalid length",
            Self::MandatoryIeIncorrect => "mandatory IE incorrect",
            Self::InvalidForwardingPolicy => "invalid forwarding policy",
            Self::InvalidFTeidAllocationOption => "invalid F-TEID allocation option",
            Self::NoEstablishedPfcpAssociation => "no established PFCP association",
            Self::RuleCreationModificationFailure => "rule creation/modification failure",
            Self::PfcpEntityInCongestion => "PFCP entity in congestion",
            Self::NoResourcesAvailable => "no resources available",
            Self::ServiceNotSupported => "service not supported",
            Self::SystemFailure => "system failure",
            Self::RedirectionRequested => "redirection requested",
            Self::AllDynamicAddressesAreOccupied => "all dynamic addresses are occupied",
            Self::UnknownPredefinedRule => "unknown predefined rule",
            Self::UnknownApplicationId => "unknown application ID",
        };
        write!(f, "{words} ({})", self.value())
    }
}

/// Rule type of a Failed Rule ID (TS 29.244 8.2.80).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RuleKind {
    /// Packet detection rule: the identifier is 2 octets on the wire.
    Pdr = 0,
    /// Forwarding action rule: 4 octets.
    Far = 1,
    /// QoS enforcement rule: 4 octets.
    Qer = 2,
    /// Usage reporting rule: 4 octets.
    Urr = 3,
    /// Buffering action rule: 1 octet.
    Bar = 4,
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pdr => "PDR",
            Self::Far => "FAR",
            Self::Qer => "QER",
            Self::Urr => "URR",
            Self::Bar => "BAR",
        })
    }
}

/// The rule that was at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailedRule {
    /// Which sort of rule.
    pub kind: RuleKind,
    /// Its identifier, widened.
    pub id: u32,
}

/// A request that takes no effect at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Never an acceptance.
    pub cause: Cause,
    /// Type of the IE at fault, if one is.
    pub offending_ie: Option<u16>,
    /// The rule at fault, where it could be identified. PFCP sends Failed Rule ID with cause 73 only (table
    /// 7.5.3.1-1); with other causes it serves logs.
    pub failed_rule: Option<FailedRule>,
    /// What was expected and what was found.
    pub message: String,
}

impl Refusal {
    /// A refusal because of one IE.
    pub fn new(cause: Cause, offending_ie: u16, message: impl Into<String>) -> Self {
        Self {
            cause,
            offending_ie: Some(offending_ie),
            failed_rule: None,
            message: message.into(),
        }
    }

    /// The IE is absent and the standard always demands it.
    pub(super) fn missing(ie: u16, what: &str) -> Self {
        Self::new(Cause::MandatoryIeMissing, ie, format!("{what} is absent"))
    }

    /// The IE is absent and these circumstances demand it.
    pub(super) fn conditional(ie: u16, message: impl Into<String>) -> Self {
        Self::new(Cause::ConditionalIeMissing, ie, message)
    }

    /// The IE's value is not allowed.
    pub(super) fn incorrect(ie: u16, message: impl Into<String>) -> Self {
        Self::new(Cause::MandatoryIeIncorrect, ie, message)
    }

    /// The rule contradicts what is there.
    pub(super) fn rule(ie: u16, message: impl Into<String>) -> Self {
        Self::new(Cause::RuleCreationModificationFailure, ie, message)
    }

    /// Allowed by the standard, not by this UPF.
    pub(super) fn unsupported(ie: u16, message: impl Into<String>) -> Self {
        Self::new(Cause::ServiceNotSupported, ie, message)
    }

    /// Over a limit of [`super::limits`].
    pub(super) fn too_many(ie: u16, what: &str, limit: usize) -> Self {
        Self::new(Cause::NoResourcesAvailable, ie, format!("more than {limit} {what}"))
    }

    /// The first of the IEs that would change a rule's meaning and that nothing here honours, if there is one.
    pub(super) fn of_unsupported(types: &[u16]) -> Result<(), Self> {
        match types.first() {
            Some(&ie) => Err(Self::unsupported(ie, "this IE is not supported here")),
            None => Ok(()),
        }
    }

    /// The first of the IEs of length 0 in a Create IE: there is nothing yet to remove.
    pub(super) fn of_removed(types: &[u16]) -> Result<(), Self> {
        match types.first() {
            Some(&ie) => Err(Self::new(
                Cause::InvalidLength,
                ie,
                "length 0 removes an IE, which only an Update can",
            )),
            None => Ok(()),
        }
    }

    /// An IE of length 0 that its rule cannot be without.
    pub(super) fn irremovable(ie: u16) -> Self {
        Self::incorrect(ie, "length 0 asks to remove an IE that this rule cannot be without")
    }

    /// Names the rule, unless a closer one is named already.
    pub(super) fn in_rule<Id: RuleId>(mut self, id: Id) -> Self {
        self.failed_rule.get_or_insert(FailedRule {
            kind: Id::KIND,
            id: id.number(),
        });
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(rule) = self.failed_rule {
            write!(f, ", {} {}", rule.kind, rule.id)?;
        }
        if let Some(ie) = self.offending_ie {
            write!(f, ", IE {ie}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Refusal {}
