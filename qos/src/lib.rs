//! Quality of service: what is enforced on packets, and what decides it.
//!
//! The crate has two halves that share no code: the data plane's, which meters, and the controller's, which turns what is
//! true of users now into changes of their rules (*context-aware QoS*).
//!
//! # In the data plane
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
//! Everything in this half is shared by lcores through `&self`: no locks, no allocation on a packet's way.
//!
//! | module | owns |
//! | --- | --- |
//! | `bucket` | the token bucket: one atomic word, virtual scheduling |
//! | [`meter`] | single rate, RFC 2698, RFC 4115; several meters at once |
//! | [`mod@enforce`] | QERs: gates, meters from MBR and GBR, burst sizes |
//! | [`five_qi`] | the standardized 5QIs and their default DSCP |
//!
//! # In the controller
//! A [`Fact`] says that something is so of somebody for a time. A policy file says what follows: conditions on facts, and
//! effects on rules. The SMF's rules are the base, and what is in effect is computed from it, never edited:
//!
//! ```
//! use qos::{Engine, Fact, Key, Policies, SessionProfile, Subject, Value, overlay};
//! use upf_model::{Seid, Session, SessionId};
//!
//! let policies = Policies::parse(
//!     "policies: [{name: calm, when: {key: load, above: 80, clear: 60}, effects: {session_ambr_percent: 50}}]",
//!     "qos.yaml",
//! )?;
//! let mut engine = Engine::new(policies);
//! let base = Session { id: SessionId(7), seid: Seid(1), ..Session::default() }; // the SMF's rules
//! engine.put_session(SessionProfile { id: base.id, seid: base.seid, ..Default::default() }, &base, 0);
//! engine.marked(1);
//!
//! let load = |value| Fact {
//!     about: Subject::Network,
//!     key: Key::try_from("load".to_owned()).unwrap(),
//!     value: Value::Number(value),
//!     expires_ms: Some(60_000),
//!     note: None,
//! };
//! engine.put_fact(load(90.0), 1_000)?;
//! assert_eq!(engine.marked(100), [base.id]);
//! let decision = engine.decide(base.id, &base, 1_000);
//! assert!(!decision.is_empty());
//! let in_effect = overlay(&base, &decision).session; // for the data planes
//!
//! assert_eq!(engine.due_ms(), Some(60_000));
//! engine.advance(60_000); // the fact has expired
//! assert_eq!(engine.marked(100), [base.id]);
//! assert_eq!(overlay(&base, &engine.decide(base.id, &base, 60_000)).session, base);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This half is pure and deterministic: no clock, no I/O, no threads; the time comes in.
//!
//! | module | owns |
//! | --- | --- |
//! | [`context`] | facts about users, slices and cells |
//! | [`policy`] | the policy file: form, errors with line and field, schema |
//! | [`engine`] | facts and policies to decisions; hysteresis, holding, explanation, what outlives a restart |
//! | [`admission`] | guaranteed bit rates within capacities, pre-emption |
//! | [`mod@overlay`] | base and decision to the session in effect |
//!
//! No `unsafe` in either half.
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
