//! An SMF stand-in: it sets up, changes and removes PFCP sessions on a UPF by messages on the wire.
//!
//! Tests, the demo and the load generator need the other end of N4, and it must not share the UPF's own idea of the
//! protocol, or a mistake made once would be made on both sides and never seen. So nothing here is taken from the
//! UPF's crates: message and IE *framing* is `rs-pfcp`'s, and what is inside a rule IE is written octet by octet
//! from TS 29.244 in [`wire`], because several of that crate's typed IEs are wrong on the wire (a closed uplink gate
//! leaves as an open one).
//!
//! * [`rules`]: PDR, FAR, QER, URR, BAR as an SMF declares them;
//! * [`session`]: [`SessionSpec`], a whole Session Establishment Request, with the usual session in one call;
//! * [`modification`]: [`ModificationSpec`], a Session Modification Request: handover, idle, active, QoS changes;
//! * [`wire`] and [`encode`]: from these to IEs; [`answer`]: from the UPF's IEs to [`Established`], [`Modified`],
//!   [`UsageReport`], [`SessionReport`];
//! * [`transport`]: the UDP socket, T1/N1 retransmission, answers to the UPF's own requests;
//! * [`Smf`]: the procedures; [`load`]: many of them at once, timed.
//!
//! ```no_run
//! use smf_sim::{ModificationSpec, SessionSpec, Smf, UeIps};
//! # async fn demo() -> Result<(), smf_sim::PfcpError> {
//! let smf = Smf::connect("127.0.0.2:8805".parse().unwrap(), "127.0.0.1:8805".parse().unwrap(), [127, 0, 0, 2]).await?;
//! smf.associate().await?;
//! let ue = UeIps::v4([10, 60, 0, 1]);
//! let session = smf.establish(&SessionSpec::basic(ue, [192, 0, 2, 1].into(), 0x1001).with_mbr(50_000, 100_000)).await?;
//! println!("uplink TEID {:#x}", session.uplink_teid().unwrap());
//! smf.modify(session.up_seid, &ModificationSpec::handover([192, 0, 2, 2].into(), 0x2001)).await?;
//! for usage in smf.delete(session.up_seid).await? {
//!     println!("URR {}: {:?}", usage.urr_id, usage.volume);
//! }
//! # Ok(())
//! # }
//! ```

pub mod answer;
pub mod encode;
mod error;
pub mod load;
pub mod modification;
pub mod rules;
pub mod session;
mod smf;
pub mod transport;
pub mod wire;

pub use answer::{
    AssociationInfo, CreatedPdr, Established, Modified, Report, SessionReport, UsageReport, VolumeMeasurement,
};
pub use error::{PfcpError, Rejection, cause};
pub use modification::ModificationSpec;
pub use rs_pfcp::ie::{Ie, IeType};
pub use session::{FlowQos, SessionSpec};
pub use smf::Smf;
pub use transport::{RawAnswer, Timers};
pub use wire::{NodeId, UeIps, raw_ie};
