//! The UPF as processes, with shared-memory ports (memif) that a generator in this process can open: no root, no
//! interfaces, no network namespaces. And in its place the bare forwarder, which is the limit of the same ports.
//!
//! ```text
//!   this process                    CPU of the lcore
//!   generator ── n3.sock, memif ── upf-host | bare ── n6.sock, memif ── generator
//!   sessions  ── shared memory ────── upf-host          (or SMF ── PFCP over loopback ── upf-ctl ── upf-host)
//! ```

use crate::host::sessions::{self, usual_session};
use crate::pages::Pages;
use crate::pktgen::bare;
use crate::pktgen::frames::{Headers, Link};
use crate::{Outcome, ipc};
use ::ipc::{ControllerEnd, SendError};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use upf::client::Client;
use upf::lab::{Resources, spawn_interruptible};
use upf_model::batch::{Change, FromHost, ToHost};

const PATIENCE: Duration = Duration::from_secs(30);
/// For upf-ctl to read a store of a million sessions and bring upf-host to it.
const RESTART_PATIENCE: Duration = Duration::from_secs(120);
const CONFIGURATION: &str = "upf.yaml";
/// Sessions of one batch.
const PER_BATCH: u32 = 256;
/// So many warnings of a daemon are shown at its end.
const COMPLAINTS: usize = 5;
const UPF_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 6, 1]];
const OUR_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 3, 2], [2, 0, 0, 0, 6, 2]];
const UPF_N6: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// What a stage has.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many sessions there may be.
    pub sessions: u32,
    /// The CPU of upf-host's lcore.
    pub cpu: usize,
    /// upf-ctl too: sessions come over PFCP.
    pub ctl: bool,
    /// Packet memory in huge pages, where they can be had.
    pub huge: bool,
    /// As a power of two, packets in each ring.
    pub ring: u8,
    /// Into the `host:` section, YAML lines.
    pub host: String,
}

impl Options {
    /// Without upf-ctl.
    pub fn new(sessions: u32, cpu: usize) -> Self {
        Self {
            sessions,
            cpu,
            ctl: false,
            huge: true,
            ring: 11,
            host: String::new(),
        }
    }
}

/// A forwarder between two ports: upf-host, or nothing but a forwarder.
pub struct Stage {
    directory: PathBuf,
    name: String,
    resources: Arc<Resources>,
    /// What has the ports.
    pub host: Pid,
    /// The controller, if there is one.
    pub ctl: Option<Pid>,
    /// Packet memory.
    pub memory: &'static str,
    ring: u8,
}

impl Stage {
    /// upf-host, and upf-ctl if it is wanted; ready when this returns.
    ///
    /// # Errors
    /// A program is not beside this one, or does not come up: with the end of its log.
    pub fn upf(options: &Options, resources: &Arc<Resources>) -> Outcome<Self> {
        let host = program("upf-host")?;
        let ctl = options.ctl.then(|| program("upf-ctl")).transpose()?;
        let (name, directory) = place()?;
        let pages = pages(options.huge, bare::MEMORY_MB);
        std::fs::write(
            directory.join(CONFIGURATION),
            configuration_text(&name, &directory, options, pages.are_huge()),
        )?;
        let start = |program: &Path, log: &str| daemon(program, &directory, log, resources);
        let mut stage = Self {
            host: start(&host, "upf-host.log")?,
            ctl: None,
            memory: pages.name(),
            ring: options.ring,
            resources: resources.clone(),
            directory: directory.clone(),
            name,
        };
        stage.ctl = ctl.map(|ctl| start(&ctl, "upf-ctl.log")).transpose()?;
        stage.wait_ready(PATIENCE)?;
        Ok(stage)
    }

    /// Kills upf-ctl and starts it again. How long it takes until upf-host has what its store has.
    ///
    /// # Errors
    /// There is none, or it does not come up.
    pub fn restart_ctl(&mut self) -> Outcome<Duration> {
        let killed = self.ctl.take().ok_or("the stage has no upf-ctl")?;
        self.resources.signal(killed, Signal::SIGKILL);
        while self.resources.is_running(killed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        let ctl = daemon(&program("upf-ctl")?, &self.directory, "upf-ctl.log", &self.resources)?;
        self.ctl = Some(ctl);
        self.wait_ready(RESTART_PATIENCE)?;
        Ok(start.elapsed())
    }

    /// The same ports, and nothing done but to pass packets from one to the other.
    ///
    /// # Errors
    /// It does not come up.
    pub fn bare(options: &Options, resources: &Arc<Resources>) -> Outcome<Self> {
        let (name, directory) = place()?;
        let pages = pages(options.huge, bare::MEMORY_MB);
        let devices = devices(&directory, "server", 10);
        let (program, words) = bare::Options::command(&name, &devices, options.cpu, pages.are_huge());
        let log = directory.join("bare.log");
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut child = spawn_interruptible(command.process_group(0))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let _ = child.wait();
            return Err(format!("the bare forwarder did not come up: {}", tail(&log)).into());
        }
        Ok(Self {
            host: resources.add_child(child),
            ctl: None,
            memory: pages.name(),
            ring: options.ring,
            resources: resources.clone(),
            directory,
            name,
        })
    }

    /// What this process opens to be at the other end of N3 and N6; `number` tells stages' devices apart.
    pub fn devices(&self, number: usize) -> [String; 2] {
        devices(&self.directory, "client", 20 + 2 * number).map(|device| format!("{device},rsize={}", self.ring))
    }

    /// The generator's side of N3 and N6.
    pub fn headers(&self) -> Headers {
        let link = |port: usize, addr, upf| Link {
            mac: OUR_MACS[port],
            addr,
            upf_mac: UPF_MACS[port],
            upf,
        };
        Headers {
            n3: link(0, sessions::GNB, sessions::UPF_N3),
            n6: link(1, sessions::ROUTER, UPF_N6),
            qfi: Some(sessions::QFI),
            server: SERVER,
        }
    }

    /// Stop it where it is; it takes no CPU until [`Self::resume`].
    pub fn pause(&self) {
        self.resources.signal(self.host, Signal::SIGSTOP);
    }

    /// Let it go on.
    pub fn resume(&self) {
        self.resources.signal(self.host, Signal::SIGCONT);
    }

    /// Installs usual sessions in upf-host, as upf-ctl would: for stages without one.
    ///
    /// # Errors
    /// upf-host refuses or is silent.
    pub fn install(&self, numbers: std::ops::Range<u32>) -> Outcome<()> {
        let mut channel = ControllerEnd::open(&self.name)?;
        send(&mut channel, &ToHost::Hello { controller: 1 })?;
        send(&mut channel, &ToHost::SyncBegin)?;
        for start in numbers.clone().step_by(PER_BATCH as usize) {
            let batch = start..numbers.end.min(start + PER_BATCH);
            let changes = batch.map(|number| Change::Put {
                session: usual_session(number, 1),
                end_markers: Vec::new(),
                discard_buffered: Vec::new(),
            });
            let seq = u64::from(start) + 1;
            let changes = changes.collect();
            send(&mut channel, &ToHost::Apply { seq, changes })?;
            applied(&mut channel, seq)?;
        }
        let seq = u64::from(numbers.end) + PER_BATCH as u64;
        send(&mut channel, &ToHost::SyncEnd { seq })?;
        applied(&mut channel, seq)
    }

    /// Keeps everything of the UPF but its lcores off their CPU, and lets it go again.
    ///
    /// # Errors
    /// A process has ended.
    pub fn hold_control(&self, cpus: &[usize]) -> Outcome<()> {
        let mut set = CpuSet::new();
        cpus.iter().try_for_each(|&cpu| set.set(cpu))?;
        for pid in [Some(self.host), self.ctl].into_iter().flatten() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                let tid = task.file_name().to_str().and_then(|tid| tid.parse().ok());
                if let Some(tid) = tid.filter(|_| !name.starts_with("lcore-")) {
                    // A thread that has just ended needs none.
                    let _ = sched_setaffinity(Pid::from_raw(tid), &set);
                }
            }
        }
        Ok(())
    }

    /// Where the UPF and the SMF have N4: loopback addresses that no other stage has.
    pub fn n4(&self) -> (SocketAddr, SocketAddr) {
        n4()
    }

    /// Why upf-host has dropped packets since it started, as upf-ctl knows it, in words: for stages with one.
    pub fn drops(&self) -> String {
        let counters = self.client().get("/v1/counters").unwrap_or_default();
        let planes = counters.as_object().into_iter().flatten();
        let mut words: Vec<String> = Vec::new();
        for (_, plane) in planes {
            for drop in plane["drops"].as_array().into_iter().flatten() {
                let packets = &drop[1]["packets"];
                words.extend((*packets != 0).then(|| format!("{packets} {}", drop[0].as_str().unwrap_or("?"))));
            }
            for port in plane["ports"].as_array().into_iter().flatten() {
                let (missed, refused) = (&port["rx_missed"], &port["tx_dropped"]);
                if *missed != 0 || *refused != 0 {
                    words.push(format!(
                        "port {}: {missed} missed, {refused} not sent",
                        port["name"].as_str().unwrap_or("?")
                    ));
                }
            }
        }
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }

    /// A client of upf-ctl's socket.
    pub fn client(&self) -> Client {
        Client::new(&self.directory.join(format!("{}.sock", self.name)))
    }

    fn wait_ready(&self, patience: Duration) -> Outcome<()> {
        let deadline = Instant::now() + patience;
        let ready: Box<dyn Fn() -> bool> = if self.ctl.is_some() {
            let client = self.client();
            let is_ready = |status: &serde_json::Value| {
                let planes = status["planes"].as_array();
                planes.is_some_and(|planes| planes.iter().all(|plane| plane["state"] == "ready"))
            };
            Box::new(move || client.get("/v1/status").is_ok_and(|status| is_ready(&status)))
        } else {
            let sockets = ["n3.sock", "n6.sock"].map(|socket| self.directory.join(socket));
            let log = self.directory.join("upf-host.log");
            Box::new(move || {
                let forwarding = std::fs::read_to_string(&log).is_ok_and(|log| log.contains("forwarding"));
                forwarding && sockets.iter().all(|socket| socket.exists())
            })
        };
        while !ready() {
            for (pid, log) in [(Some(self.host), "upf-host.log"), (self.ctl, "upf-ctl.log")] {
                if pid.is_some_and(|pid| !self.resources.is_running(pid)) || Instant::now() > deadline {
                    return Err(format!("the UPF did not come up: {}", tail(&self.directory.join(log))).into());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for log in ["upf-host.log", "upf-ctl.log"] {
            let text = std::fs::read_to_string(self.directory.join(log)).unwrap_or_default();
            let complaints: Vec<&str> = text
                .lines()
                .filter(|l| l.contains("WARN") || l.contains("ERROR"))
                .collect();
            for line in complaints.iter().take(COMPLAINTS) {
                eprintln!("{log}: {line}");
            }
        }
        self.resume();
        for pid in [self.ctl, Some(self.host)].into_iter().flatten() {
            self.resources.signal(pid, Signal::SIGTERM);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The first and the last CPU this process may use: the generator's and the UPF's lcore's.
///
/// # Errors
/// There is only one.
pub fn two_cpus() -> Outcome<(usize, usize)> {
    let cpus = ipc::cpus();
    match (cpus.first(), cpus.last()) {
        (Some(&first), Some(&last)) if first != last => Ok((first, last)),
        _ => Err("expected two CPUs, one for the generator and one for the UPF, found one".into()),
    }
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: Pid) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or("no VmRSS in /proc/PID/status")?;
    Ok(kib * 1_024)
}

/// A program beside this one.
fn program(name: &str) -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    let path = this.parent().unwrap_or(Path::new(".")).join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{name} is not beside this program: build it with the same profile").into())
    }
}

/// A name and a directory that no other stage has.
fn place() -> Outcome<(String, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&directory)?;
    Ok((name, directory))
}

fn pages(wanted: bool, mb: u32) -> Pages {
    if wanted { Pages::huge(mb) } else { Pages::Small }
}

fn devices(directory: &Path, role: &str, first: usize) -> [String; 2] {
    let device = |number: usize, port: &str| {
        let socket = directory.join(format!("{port}.sock"));
        format!(
            "net_memif{number},role={role},id=0,socket-abstract=no,socket={}",
            socket.display()
        )
    };
    [device(first, "n3"), device(first + 1, "n6")]
}

/// Ours and the SMF's, from this process's id.
fn n4() -> (SocketAddr, SocketAddr) {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let at = |last: u8| SocketAddr::from((Ipv4Addr::new(127, 1 + (high & 0x7f), low, last), 8_805));
    (at(8), at(9))
}

/// A daemon with the directory's configuration.
fn daemon(program: &Path, directory: &Path, log: &str, resources: &Resources) -> Outcome<Pid> {
    let mut command = Command::new(program);
    let configuration = directory.join(CONFIGURATION);
    command.arg("--config").arg(configuration).stdin(Stdio::null());
    Ok(resources.add_child(logged(&mut command, &directory.join(log))?))
}

fn logged(command: &mut Command, log: &Path) -> Outcome<Child> {
    // A daemon that is started again goes on in the same file.
    let file = File::options().create(true).append(true).open(log)?;
    let errors = file.try_clone()?;
    command.stdout(file).stderr(errors).process_group(0); // Ctrl-C goes to us alone
    Ok(spawn_interruptible(command)?)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

fn send(channel: &mut ControllerEnd, message: &ToHost) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match channel.send(message) {
            Err(SendError::Full { .. } | SendError::NoPeer) if Instant::now() < deadline => {
                channel.wait(Duration::from_millis(10));
            }
            other => return Ok(other?),
        }
    }
}

fn applied(channel: &mut ControllerEnd, wanted: u64) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match channel.try_receive()? {
            Some(FromHost::Applied { seq, error, .. }) if seq == wanted => {
                return error.map_or(
                    Ok(()),
                    |error| Err(format!("upf-host refused sessions: {error}").into()),
                );
            }
            Some(_) => {}
            None => drop(channel.wait(Duration::from_millis(100))),
        }
    }
    Err("upf-host did not answer".into())
}

fn configuration_text(name: &str, directory: &Path, options: &Options, huge: bool) -> String {
    let [n3, n6] = devices(directory, "server", 0);
    let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let [mac_n3, mac_n6] = UPF_MACS.map(mac);
    let Options {
        sessions, cpu, host, ..
    } = options;
    let (upf, directory) = (n4().0, directory.display());
    let (packets, upf_n3, router) = (bare::PACKETS, sessions::UPF_N3, sessions::ROUTER);
    format!(
        "# Written for a measurement; see config/upf.yaml for every field explained.
name: {name}
runtime_dir: {directory}
state_dir: {directory}/state
pfcp: {{ listen: '{upf}', max_sessions: {sessions} }}
host:
  lcores: [{cpu}]
  hugepages: {huge}
  mempool_packets: {packets}
  buffering: {{ packets_total: 4096 }}
{host}
ports:
  - {{ name: n3, device: '{n3}', mac: '{mac_n3}', addresses: [{upf_n3}/24], network_instance: access, interfaces: [access], gtpu: true }}
  - {{ name: n6, device: '{n6}', mac: '{mac_n6}', addresses: [{UPF_N6}/24], network_instance: internet, interfaces: [core] }}
network_instances:
  - {{ name: access }}
  - {{ name: internet, routes: [{{ prefix: 0.0.0.0/0, via: {router} }}] }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_stage_is_one_that_the_daemons_take() {
        let text = configuration_text("bench1-0", Path::new("/tmp/bench1-0"), &Options::new(10, 1), true);
        let config = upf_config::parse(&text, "upf.yaml").map_err(|e| e.to_string()).unwrap();
        assert_eq!((config.ports.len(), config.pfcp.max_sessions), (2, 10));
    }
}
