//! The placement planner: which entries of the P4 program carry a session, and how one set of entries becomes another
//! without any packet meeting a mixture. No input or output here: the plane ([`crate::planes::p4`]) does what is planned,
//! and tests compare plans with the host.
//!
//! ## The contract with the host
//! The host has every session, always, and finishes every packet that the target punts. So the target may know less than
//! everything at any time: a session that does not fit, or asks for what the program cannot do, is the host's, and works.
//! What the target does know must be *right*: for each packet that it forwards by itself the host would have chosen the
//! same PDR and sent the same bytes to the same port.
//!
//! ## From a session to entries
//! ```text
//!  Session ──lookup──▶ one Lookup per tunnel endpoint and user address: direct, by flow, or on the host
//!          ──rules───▶ one rule per PDR that can win there, one FAR entry per FAR that they name, meters
//!          ──plan────▶ the same with numbers, of which what stays keeps its own, and the Change from the plan before
//! ```
//!
//! ## Why a change is atomic
//! Every packet's way through the tables starts at one session entry, and everything behind that entry is found by
//! numbers that it gave out: a rule, or an epoch under which flows are looked up. [`Change`] therefore has phases:
//!
//! 1. **prepare**: rules, FARs and flows under numbers that no packet can have yet; rates of meters;
//! 2. **switch**: one MODIFY per session entry. The packet that finds the old entry meets old rules only, the packet that
//!    finds the new one meets new rules only. Uplink first, then downlink;
//! 3. **clean up**, when no packet of before can be on its way any more: what the old numbers named goes, and only then
//!    may a number be used again.
//!
//! Where one rule or one FAR is all that changes (a handover, an opened gate), its one MODIFY is the whole switch. An
//! entry whose rules are all as before keeps its epoch, and its flows. Epochs are the plane's own and count over all
//! sessions: no two entries share one unless they have the same rules and the same mask.
//!
//! A token bucket has no versions: new rates of a meter hold for old and new rules alike, from the prepare phase on.
//!
//! | module | owns |
//! | --- | --- |
//! | [`entry`] | entries as values |
//! | [`world`] | what does not belong to a session: stations, endpoints, routes, neighbours, punt reasons |
//! | [`lookup`] | modes and flow masks |
//! | [`rules`] | what PDRs, QERs and FARs become |
//! | [`ids`] | the numbers |
//! | [`walk`] | a packet's way through a session's entries, for explanations and tests |
//! | [`plan`] | plans, and the change from one to the next |

pub mod entry;
pub mod ids;
pub mod lookup;
pub mod plan;
pub mod rules;
pub mod walk;
pub mod world;

pub use entry::{Action, Entry, FlowFields, FlowMask, Key, MeterCell, Rates, Table, Write};
pub use ids::{Freed, Ids};
pub use lookup::{Lookup, Mode, flow_of};
pub use plan::{Change, Place, Planner, SessionPlan};
pub use world::World;

use serde::Serialize;

/// The FAR that sends everything to the host: always there.
pub const FAR_ON_HOST: u32 = 1;

/// Why a session, or one of its entries, is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostReason {
    /// No PDR can match.
    NoRule,
    /// Its tunnel carries downlink packets: N9 from another UPF.
    DownlinkTunnel,
    /// A PDR of the access side takes plain packets.
    PlainUplink,
    /// A PDR asks for what the program does not parse: a security parameter index, a flow label.
    NotParsed,
    /// It is near a volume threshold.
    NearThreshold,
    /// A table of the target has no room.
    Full,
    /// The target did not do what it was asked.
    Failed,
}

impl HostReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::NoRule,
        Self::DownlinkTunnel,
        Self::PlainUplink,
        Self::NotParsed,
        Self::NearThreshold,
        Self::Full,
        Self::Failed,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::DownlinkTunnel => "downlink_tunnel",
            Self::PlainUplink => "plain_uplink",
            Self::NotParsed => "not_parsed",
            Self::NearThreshold => "near_threshold",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// How much a target holds, from its P4Info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSizes {
    /// Entries of each table, as [`Table::ALL`].
    pub tables: [u64; Table::ALL.len()],
    /// Cells of the counters.
    pub cells: u64,
    /// Cells of the meters.
    pub meters: u64,
    /// Cells that limit punted users.
    pub punt_users: u64,
    /// Flows can time out by themselves.
    pub idle_timeout: bool,
}

impl TargetSizes {
    /// Entries of a table.
    pub fn of(&self, table: Table) -> u64 {
        self.tables[table as usize]
    }
}
