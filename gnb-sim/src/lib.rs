//! A gNB and the UEs behind it, on Linux: the other end of N3 for tests and for the demo.
//!
//! Each UE is a TUN device in a network namespace of its own: whatever runs there (ping, curl, iperf3) has the
//! UE's address and no idea of tunnels. An uplink packet is read from the TUN device, gets a GTP-U header with an
//! uplink PDU Session Container, and goes to the UPF by UDP; a downlink packet is found by its TEID, loses its
//! headers, and is written to that UE's TUN device.
//!
//! ```text
//!   namespace ue1          namespace of the gNB (N3)
//!   ┌──────────────┐      ┌───────────────────────────────┐
//!   │ ping ── tun0 │═════▶│ uplink thread ──▶ UDP 2152 ───┼──▶ UPF
//!   │              │◀═════│ downlink thread ◀── by TEID ──┼───
//!   └──────────────┘      └───────────────────────────────┘
//! ```
//!
//! Radio is not simulated: no RRC, no NGAP, no delay. What the N3 side shows is: Echo answered, Error Indication
//! sent for a TEID nobody has and reported when received, End Markers counted together with where among the data
//! they came ([`DownlinkReport`]), QoS flows by what the PDU Session Containers say, QoS monitoring answered with time
//! stamps and the delay of the air that the configuration pretends ([`AirDelay`]).
//!
//! Two threads a gNB: one moves all uplink packets, one all downlink packets, in batches of system calls
//! (`sendmmsg`, `recvmmsg`); neither ever waits for the other. [`Gnb::move_ue`] hands a UE's TUN device to another
//! gNB of the same process, as a handover does, while packets flow.
//!
//! * [`config`]: what to simulate; [`namespace`] and [`tun`]: the devices;
//! * [`Gnb`]: the running thing; [`uplink`], [`downlink`]: its threads; [`report`]: what it counted.
//!
//! ```no_run
//! use gnb_sim::{Gnb, GnbConfig, UeConfig};
//! let mut config = GnbConfig::new("192.0.2.1:2152".parse().unwrap(), "192.0.2.2:2152".parse().unwrap());
//! config.ues.push("netns=ue1,teid-ul=0x101,teid-dl=1,addr=10.60.0.1,qfi=9".parse::<UeConfig>().unwrap());
//! let gnb = Gnb::start(config)?;
//! std::thread::sleep(std::time::Duration::from_secs(10));
//! println!("{}", gnb.stop().to_json());
//! # Ok::<(), gnb_sim::GnbError>(())
//! ```

pub mod config;
pub mod downlink;
mod error;
mod gnb;
mod monitoring;
pub mod namespace;
pub mod report;
pub mod tun;
pub mod uplink;

pub use config::{GnbConfig, UeAddress, UeConfig, UeConfigError};
pub use error::GnbError;
pub use gnb::{Gnb, NewTunnel};
pub use monitoring::AirDelay;
pub use report::{
    DownlinkReport, EndMarkerSeen, ErrorIndicationSeen, GnbReport, MonitoringReport, QfiCount, TunnelReport,
    UplinkReport,
};
