//! The UPF's processes in the lab: started, killed and started again.

use super::{LabError, LabOptions, Namespaces, Resources, Side, Target, tail};
use crate::client::Client;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a daemon may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// The P4 target, in a lab that has one.
    Target,
    /// The data plane.
    Host,
    /// The controller.
    Ctl,
}

/// The processes.
pub struct Daemons {
    namespaces: Namespaces,
    upf: String,
    directory: PathBuf,
    programs: PathBuf,
    configuration: PathBuf,
    target: Target,
    resources: Arc<Resources>,
    running: Vec<(Daemon, Pid)>,
}

impl Daemons {
    pub(super) fn new(
        namespaces: &Namespaces,
        options: &LabOptions,
        configuration: PathBuf,
        resources: Arc<Resources>,
    ) -> Self {
        Self {
            namespaces: namespaces.clone(),
            upf: options.name.clone(),
            directory: options.directory.clone(),
            programs: options.programs.clone(),
            configuration,
            target: options.target,
            resources,
            running: Vec::new(),
        }
    }

    /// Those that the UPF of this lab consists of.
    pub fn all(&self) -> &'static [Daemon] {
        match self.target {
            Target::None => &[Daemon::Host, Daemon::Ctl],
            Target::P4Switch | Target::Bmv2 => &[Daemon::Target, Daemon::Host, Daemon::Ctl],
        }
    }

    /// Start those that are not running.
    ///
    /// # Errors
    /// A program is missing.
    pub fn start_all(&mut self) -> Result<(), LabError> {
        let missing = self.all().iter().filter(|&&daemon| self.pid(daemon).is_none());
        missing
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|daemon| self.start(daemon))
    }

    /// Start one.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start(&mut self, daemon: Daemon) -> Result<(), LabError> {
        let of_upf = |program: &str| {
            let program = self.programs.join(program).display().to_string();
            vec![program, "--config".into(), self.configuration.display().to_string()]
        };
        let command = match daemon {
            Daemon::Target => self.target.command(&self.programs)?,
            Daemon::Host | Daemon::Ctl => of_upf(self.name(daemon)),
        };
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let log = self.log(daemon);
        let pid = self.namespaces.spawn(Side::Upf, &command, &log, &self.resources)?;
        self.running.push((daemon, pid));
        Ok(())
    }

    /// Kill it as a crash would: `kill -9`.
    pub fn kill(&mut self, daemon: Daemon) {
        if let Some(at) = self.running.iter().position(|(which, _)| *which == daemon) {
            let (_, pid) = self.running.swap_remove(at);
            self.resources.signal(pid, Signal::SIGKILL);
        }
    }

    /// Its process id while it runs.
    pub fn pid(&self, daemon: Daemon) -> Option<Pid> {
        self.running
            .iter()
            .find(|(which, _)| *which == daemon)
            .map(|(_, pid)| *pid)
    }

    /// Its program's name.
    fn name(&self, daemon: Daemon) -> &'static str {
        match daemon {
            Daemon::Target => self.target.program().unwrap_or("no target"),
            Daemon::Host => "upf-host",
            Daemon::Ctl => "upf-ctl",
        }
    }

    /// Where it writes.
    pub fn log(&self, daemon: Daemon) -> PathBuf {
        self.directory.join(format!("{}.log", self.name(daemon)))
    }

    /// The controller's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.upf))
    }

    /// The configuration both read.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Wait until the controller answers and the data planes follow it.
    ///
    /// # Errors
    /// One of them ended, or they took too long: with the end of its log.
    pub fn wait_ready(&self) -> Result<(), LabError> {
        let client = Client::new(&self.socket());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = client.get("/v1/status");
            if status
                .as_ref()
                .is_ok_and(|s| s["planes"].as_array().is_some_and(|p| p.iter().all(is_ready)))
            {
                return Ok(());
            }
            let culprit = culprit(status.as_ref().ok());
            for &daemon in self.all() {
                let ended = self.pid(daemon).is_none_or(|pid| !self.resources.is_running(pid));
                let late = Instant::now() > deadline && daemon == culprit;
                if ended || late {
                    let log = self.log(daemon);
                    return Err(LabError::NotReady {
                        name: self.name(daemon).to_owned(),
                        seconds: PATIENCE.as_secs(),
                        tail: tail(&log, 20),
                        log: log.display().to_string(),
                    });
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whose fault it is that not all is ready.
fn culprit(status: Option<&serde_json::Value>) -> Daemon {
    let Some(status) = status else { return Daemon::Ctl };
    let mut planes = status["planes"].as_array().into_iter().flatten();
    match planes.find(|plane| !is_ready(plane)) {
        Some(plane) if plane["name"] == "p4" => Daemon::Target,
        _ => Daemon::Host,
    }
}

fn is_ready(plane: &serde_json::Value) -> bool {
    plane["state"] == "ready"
}
