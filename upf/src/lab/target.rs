//! The P4 target of a lab, or none: which program it is, how it is started, and what the configuration says of it.
//!
//! ```text
//!    with a target                                             without
//!          n3 ──1 p4-switch 2── n6                             n3 ── upf-host ── n6
//!                     3
//!                   punt0 ──veth── host0 upf-host
//! ```

use super::{LabError, LabOptions};
use std::fmt::{Display, Formatter};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

/// Where the target serves P4Runtime, inside the UPF's namespace.
pub const P4RUNTIME: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9559));
/// The target's end of the link to upf-host, and upf-host's.
pub const HOST_LINK: [&str; 2] = ["punt0", "host0"];
/// Room for a full frame and the headers of the host port.
pub(super) const HOST_LINK_MTU: &str = "1600";
/// The target's interfaces; the first is its port 1.
const PORTS: [&str; 3] = ["n3", "n6", HOST_LINK[0]];
/// The hardware addresses of the ports n3 and n6.
pub const PORT_MACS: [&str; 2] = ["02:00:00:00:03:01", "02:00:00:00:06:01"];

/// The sizes for tests: BMv2 takes gigabytes for the full ones, and nobody here has a million sessions.
const PROGRAM: &[u8] = include_bytes!("../../../p4/compiled/upf-small.json");
const P4INFO: &[u8] = include_bytes!("../../../p4/compiled/upf-small.p4info.bin");

/// What has the ports of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Target {
    /// upf-host itself.
    None,
    /// The embedded P4 switch.
    #[default]
    P4Switch,
    /// BMv2's simple_switch_grpc, from PATH.
    Bmv2,
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::P4Switch => "p4-switch",
            Self::Bmv2 => "bmv2",
        })
    }
}

impl Target {
    /// Its program; none where there is no target.
    pub const fn program(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::P4Switch => Some("p4-switch"),
            Self::Bmv2 => Some("simple_switch_grpc"),
        }
    }

    /// The command that starts it. Both programs take the same options.
    ///
    /// # Errors
    /// The program is not there.
    pub(super) fn command(self, programs: &Path) -> Result<Vec<String>, LabError> {
        let program = match self {
            Self::None => return Ok(Vec::new()),
            Self::P4Switch => programs.join("p4-switch"),
            Self::Bmv2 => on_path("simple_switch_grpc").ok_or(LabError::NoBmv2)?,
        };
        let mut command = vec![program.display().to_string(), "--no-p4".into()];
        // BMv2's other server would take the port of upf-ctl's metrics.
        command.extend(["--thrift-port".into(), "9091".into()]);
        for (number, interface) in (1..).zip(PORTS) {
            command.extend(["-i".into(), format!("{number}@{interface}")]);
        }
        let specific = [
            "--",
            "--grpc-server-addr",
            &P4RUNTIME.to_string(),
            "--cpu-port",
            "255",
            "--priority-queues",
            "8",
        ];
        command.extend(specific.map(str::to_owned));
        Ok(command)
    }

    /// Write the P4 program where the configuration says that it is.
    pub(super) fn write_program(self, directory: &Path) -> std::io::Result<()> {
        if self != Self::None {
            std::fs::write(directory.join("upf-small.json"), PROGRAM)?;
            std::fs::write(directory.join("upf-small.p4info.bin"), P4INFO)?;
        }
        Ok(())
    }

    /// What the configuration says of the ports n3 and n6: their devices and, at a target, their hardware addresses.
    pub(super) fn ports(self, options: &LabOptions) -> [String; 2] {
        let LabOptions { devices: [n3, n6], .. } = options;
        match self {
            Self::None => [n3, n6].map(|device| format!("device: '{device}'")),
            Self::P4Switch | Self::Bmv2 => {
                [0, 1].map(|port| format!("device: 'p4:{}', mac: '{}'", port + 1, PORT_MACS[port]))
            }
        }
    }

    /// The configuration's `p4:` section.
    pub(super) fn section(self, directory: &Path, placement: &str) -> String {
        if self == Self::None {
            return String::new();
        }
        let directory = directory.display();
        let host = HOST_LINK[1];
        format!(
            "p4:
  target: {P4RUNTIME}
  host_port: 3
  host_device: net_af_packet0,iface={host}
  program: {{ device_config: '{directory}/upf-small.json', p4info: '{directory}/upf-small.p4info.bin' }}
{placement}"
        )
    }
}

/// The program of this name that a shell would find.
fn on_path(program: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}
