//! A small network on this machine, made of kernel network namespaces and gone without a trace afterwards.
//!
//! ```text
//!    ue1 ue2 ue3      gnb                      upf                      dn
//!     tun ═══════▶ gnb-sim ── n3 ──veth── n3 p4-switch n6 ──veth── n6 servers
//!                                             │ punt0
//!                                            veth
//!                                             │ host0
//!                                            upf-host
//!                  smf ────── n4 ──veth── n4 upf-ctl
//! ```
//! The ports are those of a P4 target, or of upf-host itself: [`Target`] says which. The UPF has no kernel addresses on
//! n3 and n6: what answers there is upf-host. Everything that a lab starts or makes is released when it is dropped, when
//! the process is interrupted, or, after a `kill -9`, by the next lab of the same name.

mod daemons;
mod namespaces;
pub mod probe;
mod resources;
mod target;
pub mod traffic;
mod web;

pub use daemons::{Daemon, Daemons};
pub use namespaces::{Namespaces, Side};
pub use resources::{Resources, release_on_signal, spawn_interruptible, with_resources};
pub use target::{HOST_LINK, P4RUNTIME, PORT_MACS, Target};
pub use web::WebServer;

use gnb_sim::{Gnb, GnbConfig};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// N3 and N6 addresses of the UPF, and their neighbours.
pub const UPF_N3: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
/// The gNB.
pub const GNB: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
/// A second gNB, for handovers.
pub const GNB2: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 3);
/// The gNB's IPv6 address.
pub const GNB_V6: Ipv6Addr = Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, 2);
/// The UPF's N3 IPv6 address.
pub const UPF_N3_V6: Ipv6Addr = Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, 1);
/// The data network's server.
pub const DN: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
/// The same, IPv6.
pub const DN_V6: Ipv6Addr = Ipv6Addr::new(0xfd06, 0, 0, 0, 0, 0, 0, 2);
/// PFCP at the UPF.
pub const UPF_N4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 4, 0, 1)), 8805);
/// The SMF.
pub const SMF_N4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 4, 0, 2)), 8805);

/// What can go wrong while building or using a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Not root.
    #[error("network namespaces need root: run as root, or with sudo")]
    NotRoot,
    /// The target asked for is not installed.
    #[error("BMv2's simple_switch_grpc is not on PATH: install it, or use the embedded switch with --target p4-switch")]
    NoBmv2,
    /// A story that needs upf-host's own ports.
    #[error("the bottleneck of this demo is a port of upf-host: use --target none")]
    BottleneckAtHost,
    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// As typed.
        command: String,
        /// What it printed, or why it did not start.
        reason: String,
    },
    /// A daemon did not come up.
    #[error("{name} did not come up within {seconds} s; its log, {log}, ends:\n{tail}")]
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited for.
        seconds: u64,
        /// Where it writes.
        log: String,
        /// Its last lines.
        tail: String,
    },
    /// The gNB.
    #[error("gNB: {0}")]
    Gnb(#[from] gnb_sim::GnbError),
    /// Files.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A running lab.
pub struct Lab {
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// The UPF's processes.
    pub daemons: Daemons,
    /// Where logs, captures and the configuration are.
    pub directory: PathBuf,
    /// What has its ports.
    pub target: Target,
    resources: Arc<Resources>,
}

/// What of a lab's configuration differs between uses.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Short and unique on this machine: it names namespaces and the shared-memory channel.
    pub name: String,
    /// Where its files go.
    pub directory: PathBuf,
    /// How many UE namespaces.
    pub ues: usize,
    /// Where the daemons' programs are.
    pub programs: PathBuf,
    /// What has the ports n3 and n6.
    pub target: Target,
    /// How many lcores upf-host has, on the last CPUs.
    pub lcores: usize,
    /// Inserted into the `host:` section of the configuration, YAML lines.
    pub host_options: String,
    /// Inserted into the `p4:` section, YAML lines.
    pub p4_options: String,
    /// Sections besides, YAML lines.
    pub sections: String,
    /// Inserted into the port n3, as `field: value`.
    pub n3_options: Option<String>,
    /// DPDK devices of the ports n3 and n6, where upf-host has them.
    pub devices: [String; 2],
}

impl LabOptions {
    /// The usual lab: `target` or `upf-host` on the links of its namespace, everything else by default.
    pub fn new(name: &str, directory: PathBuf, ues: usize, programs: PathBuf, target: Target) -> Self {
        let devices = ["net_af_packet0,iface=n3".into(), "net_af_packet1,iface=n6".into()];
        Self {
            name: name.into(),
            directory,
            ues,
            programs,
            target,
            lcores: 1,
            host_options: String::new(),
            p4_options: String::new(),
            sections: String::new(),
            n3_options: None,
            devices,
        }
    }
}

impl Lab {
    /// Make the namespaces and start the UPF; it is forwarding and reachable over N4 when this returns.
    ///
    /// # Errors
    /// What is missing on this machine, in words.
    pub fn start(options: &LabOptions, resources: Arc<Resources>) -> Result<Self, LabError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let target = options.target;
        target.command(&options.programs)?; // before anything is made
        std::fs::create_dir_all(&options.directory)?;
        let namespaces = Namespaces::create(&options.name, options.ues, target, &resources)?;
        let configuration = options.directory.join("upf.yaml");
        let state = options.directory.join("state");
        if state.exists() {
            std::fs::remove_dir_all(&state)?;
        }
        target.write_program(&options.directory)?;
        std::fs::write(&configuration, configuration_text(options))?;
        let mut daemons = Daemons::new(&namespaces, options, configuration, resources.clone());
        daemons.start_all()?;
        daemons.wait_ready()?;
        Ok(Self {
            namespaces,
            daemons,
            directory: options.directory.clone(),
            target,
            resources,
        })
    }

    /// A gNB at this N3 address, without UEs yet.
    ///
    /// # Errors
    /// See [`gnb_sim::GnbError`].
    pub fn gnb(&self, address: impl Into<IpAddr>) -> Result<Gnb, LabError> {
        let address = address.into();
        let upf: IpAddr = if address.is_ipv4() {
            UPF_N3.into()
        } else {
            UPF_N3_V6.into()
        };
        let mut config = GnbConfig::new((address, 2152).into(), (upf, 2152).into());
        config.netns = Some(self.namespaces.name(Side::Gnb));
        Ok(Gnb::start(config)?)
    }

    /// A client of this lab's upf-ctl.
    pub fn client(&self) -> crate::client::Client {
        crate::client::Client::new(&self.daemons.socket())
    }

    /// Run a program in a namespace until it ends; its standard output.
    ///
    /// # Errors
    /// It does not start, or ends with a failure: with what it printed.
    pub fn run(&self, side: Side, command: &[&str]) -> Result<String, LabError> {
        self.namespaces.run(side, command)
    }

    /// Start a program in a namespace; it is stopped with the lab, if not by [`Self::signal`] before.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn(&self, side: Side, command: &[&str], log: &str) -> Result<Pid, LabError> {
        self.namespaces
            .spawn(side, command, &self.directory.join(log), &self.resources)
    }

    /// Send a signal to a program that [`Self::spawn`] started; wait for its end if the signal asks for that.
    pub fn signal(&self, pid: Pid, signal: Signal) {
        self.resources.signal(pid, signal);
    }

    /// A UDP socket in a namespace, for packets that no tool sends; its buffer holds whatever a test sends before it
    /// reads. Reading gives up after five seconds.
    ///
    /// # Errors
    /// The address is not there, or taken.
    pub fn udp(&self, side: Side, address: impl Into<SocketAddr> + Send) -> Result<UdpSocket, LabError> {
        let socket = self.namespaces.within(side, || UdpSocket::bind(address.into()))??;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).map_err(std::io::Error::from)?;
        Ok(socket)
    }

    /// Capture a link's packets into a file of the lab's directory until the lab ends; `filter` is tcpdump's.
    ///
    /// # Errors
    /// tcpdump does not start.
    pub fn capture(&self, side: Side, interface: &str, file: &str, filter: &str) -> Result<PathBuf, LabError> {
        let path = self.directory.join(file);
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        let target = path.display().to_string();
        let mut command = vec![
            "tcpdump",
            "-i",
            interface,
            "-w",
            &target,
            "-U",
            "--immediate-mode",
            "-s",
            "0",
            "-Z",
            "root",
        ];
        command.extend(filter.split_whitespace());
        self.spawn(side, &command, &format!("{file}.log"))?;
        // tcpdump writes the file's header when it has attached to the interface.
        for _ in 0..100 {
            if path.metadata().is_ok_and(|m| m.len() >= 24) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(path)
    }
}

fn configuration_text(options: &LabOptions) -> String {
    let LabOptions {
        name,
        directory,
        target,
        host_options,
        sections,
        ..
    } = options;
    let n3_options = options
        .n3_options
        .as_ref()
        .map(|o| format!(", {o}"))
        .unwrap_or_default();
    let p4 = target.section(directory, &options.p4_options);
    let [n3, n6] = target.ports(options);
    let directory = directory.display();
    let cpus = last_cpus(options.lcores);
    format!(
        "# Written for a lab; see config/upf.yaml for every field explained.
name: {name}
runtime_dir: {directory}
state_dir: {directory}/state
pfcp: {{ listen: '{UPF_N4}', t1_ms: 500, n1: 3 }}
metrics: {{ listen: '127.0.0.1:9090' }}
host:
  lcores: {cpus:?}
{host_options}
{p4}
{sections}
ports:
  - {{ name: n3, {n3}, addresses: [{UPF_N3}/24, '{UPF_N3_V6}/64'], network_instance: access, interfaces: [access], gtpu: true{n3_options} }}
  - {{ name: n6, {n6}, addresses: [10.6.0.1/24, 'fd06::1/64'], network_instance: internet, interfaces: [core] }}
network_instances:
  - {{ name: access }}
  - name: internet
    routes: [{{ prefix: 0.0.0.0/0, via: {DN} }}, {{ prefix: '::/0', via: '{DN_V6}' }}]
    ue_pools: [10.60.128.0/17, 'fd60:0:0:8000::/49']
"
    )
}

/// The last CPUs this process may use: the first ones have more to do.
fn last_cpus(wanted: usize) -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let cpus = (0..nix::sched::CpuSet::count()).rev();
    cpus.filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .take(wanted)
        .collect()
}

/// The end of a log.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
