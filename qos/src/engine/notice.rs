//! Owns what the engine tells its caller besides decisions.

use crate::admission::{Resource, Way};
use crate::context::Fact;
use upf_model::SessionId;

/// Why a fact is not kept. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// One user, or that user's flows, has as many as may be.
    #[error("{limit} facts about this user already, the most there may be")]
    UserQuota {
        /// The most.
        limit: usize,
    },
    /// There are as many as may be.
    #[error("{limit} facts already, the most there may be")]
    Quota {
        /// The most.
        limit: usize,
    },
    /// The value of a `qod` fact.
    #[error("expected the name of a QoS profile, found {0:?}")]
    UnknownProfile(String),
    /// It has expired.
    #[error("expected to expire after {now_ms} ms since the UNIX epoch, found {expires_ms}")]
    Expired {
        /// When it does.
        expires_ms: u64,
        /// Now.
        now_ms: u64,
    },
    /// NaN or infinite.
    #[error("expected a finite number, found {0}")]
    NotFinite(String),
    /// A text that is too long, or a flow that is no filter rule.
    #[error("expected {expected}, found {found}")]
    Malformed {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// What happened while deciding.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Something that should be in force is not.
    Refused {
        /// In which session.
        session: SessionId,
        /// `policy NAME` or `profile NAME`.
        source: String,
        /// The fact that asked for it; none: none did, such as a time of the day.
        fact: Option<Fact>,
        /// Why.
        reason: String,
    },
    /// Something that was in force no longer is, for something that matters more.
    Preempted {
        /// In which session.
        session: SessionId,
        /// `policy NAME` or `profile NAME`.
        source: String,
        /// The fact that asked for it.
        fact: Option<Fact>,
        /// What took its place.
        by: String,
        /// Why.
        reason: String,
    },
    /// Two policies set the same field of the same packets.
    Conflict {
        /// In which session.
        session: SessionId,
        /// Whose value counts: `policy NAME` or `profile NAME`.
        winner: String,
        /// Whose does not.
        loser: String,
        /// The field, as in the policy file.
        field: &'static str,
    },
    /// The SMF promises more than there is. It is not refused.
    Overbooked {
        /// Where.
        resource: Resource,
        /// Which way.
        way: Way,
        /// Promised, kbit/s.
        booked_kbps: u64,
        /// There is, kbit/s.
        capacity_kbps: u64,
    },
}
