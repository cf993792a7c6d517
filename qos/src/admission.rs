//! Admission control: how much guaranteed bit rate is promised where, and to whom.
//!
//! A *resource* is a port, slice or cell with a capacity in the policy file. A *booking* is the GBR of one effect in one
//! session, on all resources of that session at once. The SMF's own GBR comes first: it is counted and never refused.
//!
//! # Invariant
//! On every resource and in each direction: what policies booked, and what the SMF promised, together are at most the
//! capacity; unless the SMF's share alone is more, and then policies have nothing booked there.
//!
//! A booking counts beside the SMF's GBR even where it takes that one's place in a QER: so that the base can come back at
//! any time.
//!
//! # Pre-emption (TS 23.501 5.7.2.2)
//! A booking that does not fit takes the place of others if it may pre-empt, they are preemptable, and their priority level
//! is worse (a higher number): the worst first, as few as needed, and none if all of them would not be enough. When the
//! SMF promises more, or a capacity shrinks, bookings make room whether preemptable or not: the worst first.
//!
//! Who is refused waits for the resource that was lacking. When something is released there, those that wait are told, by
//! priority level and then as they came, as far as the room reaches.
//!
//! Cost: logarithmic in the bookings for one that fits or does not; linear in those of a resource to pre-empt.

mod bookings;

/// Which way packets go.
pub use crate::policy::file::Way;
pub(crate) use bookings::Ledger;

use crate::context::{Flow, Key, Subject};
use crate::policy::{Arp, Rates};
use serde::{Deserialize, Serialize};
use std::fmt;
use upf_model::SessionId;

/// Where guaranteed bit rates add up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// A port, by name.
    Port(String),
    /// A slice, by S-NSSAI.
    Slice(String),
    /// A cell, by name.
    Cell(String),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::Slice(name) => write!(f, "slice {name}"),
            Self::Cell(name) => write!(f, "cell {name}"),
        }
    }
}

/// What asks for an effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A policy, and the flow if it is about those of facts.
    Policy(String, Option<Flow>),
    /// A fact that names a profile.
    Fact(Subject, Key),
}

/// A guaranteed bit rate that is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booking {
    pub(crate) session: SessionId,
    pub(crate) source: Source,
    /// Ascending.
    pub(crate) resources: Vec<Resource>,
    pub(crate) rates: Rates,
    pub(crate) arp: Arp,
}

/// Why a booking was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{resource} has {free_kbps} kbit/s {} left for guaranteed rates, and {asked_kbps} are asked for", direction(*.way))]
pub struct NoRoom {
    /// Where it does not fit.
    pub resource: Resource,
    /// Which way.
    pub way: Way,
    /// Left, kbit/s.
    pub free_kbps: u64,
    /// Asked for, kbit/s.
    pub asked_kbps: u64,
}

fn direction(way: Way) -> &'static str {
    match way {
        Way::Uplink => "uplink",
        Way::Downlink => "downlink",
    }
}
