//! The rules of a user plane, as TS 29.244 names them, in two forms.
//!
//! * [`decoded`]: what arrived in a PFCP message, faithfully, right or wrong. `upf-ctl` reads it off the wire.
//! * [`session`], [`pdr`], [`far`], [`qer`], [`urr`], [`bar`], [`sdf`]: *validated* rules. They are complete,
//!   their references resolve, their addresses are ours, and every data plane may rely on it. Only
//!   [`validate`] makes them out of decoded ones, and it names the offending IE when it refuses.
//! * [`punt`]: what passes between a P4 target and the host.
//! * [`batch`]: what the controller tells the host data plane and hears back, in validated rules.
//!
//! | module | owns |
//! | --- | --- |
//! | [`ids`] | TEID, SEID, QFI, Precedence, rule identifiers: one newtype each |
//! | [`ie`] | IE types of TS 29.244 that refusals name |
//! | [`sdf`] | SDF filters and what they match |
//! | [`ip_filter_rule`] | the text of flow descriptions: the IPFilterRule grammar of TS 29.212 5.4.2 |
//! | [`candidates`] | an index of sessions that keeps hashes instead of keys |
//! | [`packed`] | values at rest, in a tenth of the memory |
//! | [`validate`] | decoded + the session as it is -> the session as it will be, or a refusal |
//!
//! All integers are in host byte order; rates are bit/s unless the name says otherwise.

pub mod bar;
pub mod batch;
pub mod candidates;
pub mod decoded;
pub mod far;
pub mod ids;
pub mod ie;
pub mod ip_filter_rule;
pub mod packed;
pub mod pdr;
pub mod prefix;
pub mod punt;
pub mod qer;
pub mod sdf;
pub mod session;
pub mod urr;
pub mod validate;

pub use bar::Bar;
pub use far::{Action, Disposition, Far, ForwardingParameters, OuterHeaderCreation};
pub use ids::*;
pub use pdr::{Interface, LocalFTeid, OuterHeaderRemoval, Pdi, Pdr, UeIpAddress};
pub use prefix::{IpPrefix, Ipv4Prefix, Ipv6Prefix};
pub use punt::{PuntHeader, PuntReason, ReinjectHeader};
pub use qer::{BitRates, Gate, Qer, Scheduling};
pub use sdf::{AddressMatch, FlowFields, IpFilterRule, PortRange, SdfFilter, TosMatch};
pub use session::Session;
pub use urr::{MeasurementMethod, Reporting, ReportingTriggers, Urr, VolumeThreshold};
