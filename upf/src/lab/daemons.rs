//! The UPF's two processes in the lab: started, killed and started again.

use super::{LabError, LabOptions, Namespaces, Resources, Side, tail};
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
    /// The data plane.
    Host,
    /// The controller.
    Ctl,
}

impl Daemon {
    const fn program(self) -> &'static str {
        match self {
            Self::Host => "upf-host",
            Self::Ctl => "upf-ctl",
        }
    }
}

/// The processes.
pub struct Daemons {
    namespaces: Namespaces,
    name: String,
    directory: PathBuf,
    programs: PathBuf,
    configuration: PathBuf,
    resources: Arc<Resources>,
    host: Option<Pid>,
    ctl: Option<Pid>,
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
            name: options.name.clone(),
            directory: options.directory.clone(),
            programs: options.programs.clone(),
            configuration,
            resources,
            host: None,
            ctl: None,
        }
    }

    /// Start the data plane.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start_host(&mut self) -> Result<(), LabError> {
        self.host = Some(self.start(Daemon::Host)?);
        Ok(())
    }

    /// Start the controller.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start_ctl(&mut self) -> Result<(), LabError> {
        self.ctl = Some(self.start(Daemon::Ctl)?);
        Ok(())
    }

    fn start(&self, daemon: Daemon) -> Result<Pid, LabError> {
        let program = self.programs.join(daemon.program()).display().to_string();
        let configuration = self.configuration.display().to_string();
        let command = [program.as_str(), "--config", &configuration];
        self.namespaces
            .spawn(Side::Upf, &command, &self.log(daemon), &self.resources)
    }

    /// Kill it as a crash would: `kill -9`.
    pub fn kill(&mut self, daemon: Daemon) {
        let pid = match daemon {
            Daemon::Host => self.host.take(),
            Daemon::Ctl => self.ctl.take(),
        };
        if let Some(pid) = pid {
            self.resources.signal(pid, Signal::SIGKILL);
        }
    }

    /// Its process id while it runs.
    pub const fn pid(&self, daemon: Daemon) -> Option<Pid> {
        match daemon {
            Daemon::Host => self.host,
            Daemon::Ctl => self.ctl,
        }
    }

    /// Where it writes.
    pub fn log(&self, daemon: Daemon) -> PathBuf {
        self.directory.join(format!("{}.log", daemon.program()))
    }

    /// The controller's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.name))
    }

    /// The configuration both read.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Wait until the controller answers and the data plane follows it.
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
            for (daemon, pid) in [(Daemon::Host, self.host), (Daemon::Ctl, self.ctl)] {
                let ended = pid.is_none_or(|pid| !self.resources.is_running(pid));
                let late = Instant::now() > deadline && (daemon == Daemon::Ctl) == status.is_err();
                if ended || late {
                    let log = self.log(daemon);
                    return Err(LabError::NotReady {
                        name: daemon.program().to_owned(),
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

fn is_ready(plane: &serde_json::Value) -> bool {
    plane["state"] == "ready"
}
