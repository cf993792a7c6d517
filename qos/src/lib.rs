//! Quality of service in the data plane: gates, rates and classes.
//!
//! A QER (TS 29.244 5.4) closes a gate, bounds a rate, promises a rate, or several of these. [`QerMeter`] is a QER made
//! ready for packets; [`enforce()`] applies all QERs of a PDR to one packet and says what becomes of it:
//!
//! ```
//! use qos::{BurstPolicy, Decision, Direction, QerMeter, enforce};
//! use upf_model::{BitRates, Gate, Qer, QerId};
//!
//! let ambr = Qer {
//!     id: QerId(1),
//!     correlation_id: None,
//!     gate_uplink: Gate::Open,
//!     gate_downlink: Gate::Closed,
//!     mbr: Some(BitRates { uplink_kbps: 1_000, downlink_kbps: 1_000 }),
//!     gbr: None,
//!     qfi: None,
//!     rqi: false,
//!     ppi: None,
//!     averaging_window_ms: None,
//!     scheduling: upf_model::Scheduling::default(),
//! };
//! let session = QerMeter::new(&ambr, &BurstPolicy { milliseconds: 16, at_least_bytes: 0 }, 0);
//! let uplink = |now_ns| enforce(now_ns, 1000, Direction::Uplink, &[&session]);
//! assert_eq!(uplink(0), Decision::Pass { above_gbr: false }); // a burst of 2,000 bytes
//! assert_eq!(uplink(0), Decision::Pass { above_gbr: false });
//! assert_eq!(uplink(0), Decision::Policed { qer: 0 });
//! assert_eq!(uplink(8_000_000), Decision::Pass { above_gbr: false }); // 8 ms fill in 1,000 bytes
//! assert_eq!(enforce(0, 1000, Direction::Downlink, &[&session]), Decision::Gated { qer: 0 });
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `bucket` | the token bucket: one atomic word, virtual scheduling |
//! | [`meter`] | single rate, RFC 2698, RFC 4115; several meters at once |
//! | [`mod@enforce`] | QERs: gates, meters from MBR and GBR, burst sizes |
//! | [`context`] | facts about users, slices and cells |
//! | [`five_qi`] | the standardized 5QIs and their default DSCP |
//!
//! Everything is shared by lcores through `&self`: no locks, no allocation on a packet's way, no `unsafe`.
#![forbid(unsafe_code)]

pub mod admission;
mod bucket;
pub mod context;
pub mod enforce;
pub mod engine;
pub mod five_qi;
pub mod meter;
pub mod overlay;
pub mod policy;

pub use context::{Fact, Key, Subject, User, Value};
pub use enforce::{BurstPolicy, Decision, Direction, QerMeter, enforce};
pub use engine::{Engine, EngineState, Explanation, FactError, Notice, SessionProfile};
pub use five_qi::{FiveQi, PacketErrorRate, ResourceType};
pub use meter::{Bandwidth, Color, Meter, PeakBelowCommitted, Profile, Verdict, admit, admit_colored};
pub use overlay::{Overlaid, overlay};
pub use policy::{Policies, PolicyErrors, policy_schema};
