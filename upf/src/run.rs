//! `upf run`: the daemons under one roof, and the embedded P4 switch too if asked for. Each is started again when it
//! dies; the others go on meanwhile. A P4 target of the configuration is somebody else's to run otherwise.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use upf_config::Config;

/// A daemon that dies sooner than this after its start is not started again at once.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the daemons may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why nothing can be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `--with-p4-switch`, but nothing for it to do.
    #[error("--with-p4-switch needs a configuration with a `p4:` section, which says where the switch is reached")]
    NoTarget,
    /// A port of the configuration without an interface.
    #[error("port {number} of the P4 target ({name}) has no interface: add --interface {number}@INTERFACE")]
    NoInterface {
        /// The target's port number.
        number: u16,
        /// What it is for.
        name: String,
    },
    /// Not `PORT@INTERFACE`.
    #[error("expected --interface PORT@INTERFACE, found {0:?}")]
    Interface(String),
    /// A program ends at once in its very first start: its own words stand above.
    #[error("{program} ended at once ({status})")]
    EndedAtOnce {
        /// Which.
        program: &'static str,
        /// How.
        status: std::process::ExitStatus,
    },
    /// A program is missing.
    #[error("cannot start {program}: {error}")]
    Missing {
        /// Its path.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// Signals or processes.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What is run, in the order in which it starts.
#[derive(Debug, Clone)]
pub struct Plan(Vec<Program>);

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    name: &'static str,
    path: PathBuf,
    arguments: Vec<String>,
}

impl Plan {
    /// The two daemons, which lie in `programs` and read `file`.
    pub fn daemons(file: &Path, programs: &Path) -> Self {
        let daemon = |name: &'static str| Program {
            name,
            path: programs.join(name),
            arguments: vec!["--config".into(), file.display().to_string()],
        };
        Self(vec![daemon("upf-host"), daemon("upf-ctl")])
    }

    /// With the embedded P4 switch before them, its ports on these `PORT@INTERFACE`s.
    ///
    /// # Errors
    /// The configuration has no target, or a port of it no interface.
    pub fn with_p4_switch(mut self, config: &Config, programs: &Path, interfaces: &[String]) -> Result<Self, RunError> {
        let p4 = config.p4.as_ref().ok_or(RunError::NoTarget)?;
        let number = |text: &String| -> Result<u16, RunError> {
            let number = text.split_once('@').and_then(|(number, _)| number.parse().ok());
            number.ok_or_else(|| RunError::Interface(text.clone()))
        };
        let given = interfaces.iter().map(number).collect::<Result<Vec<u16>, _>>()?;
        let ports = config
            .ports
            .iter()
            .filter_map(|port| Some((port.p4_port()?, port.name.clone())));
        for (number, name) in ports.chain([(p4.host_port, "host_port".to_owned())]) {
            if !given.contains(&number) {
                return Err(RunError::NoInterface { number, name });
            }
        }
        let mut arguments = vec!["--no-p4".to_owned(), "--device-id".into(), p4.device_id.to_string()];
        arguments.extend(
            interfaces
                .iter()
                .flat_map(|interface| ["-i".to_owned(), interface.clone()]),
        );
        let server = [
            "--",
            "--grpc-server-addr",
            &p4.target.to_string(),
            "--priority-queues",
            "8",
        ];
        arguments.extend(server.map(str::to_owned));
        arguments.extend(["--queue-depth".to_owned(), p4.switch.queue_packets.to_string()]);
        for port in &config.ports {
            let rate = p4.switch.port_rates_mbps.get(&port.name);
            if let (Some(number), Some(mbps)) = (port.p4_port(), rate) {
                arguments.extend(["--port-rate".to_owned(), format!("{number}@{mbps}")]);
            }
        }
        let switch = Program {
            name: "p4-switch",
            path: programs.join("p4-switch"),
            arguments,
        };
        self.0.insert(0, switch);
        Ok(self)
    }
}

/// Run until SIGTERM or SIGINT, or until a program cannot be run.
///
/// # Errors
/// See [`RunError`].
pub async fn run(plan: Plan) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (failing, mut failures) = mpsc::channel(1);
    let mut running = Vec::new();
    for program in plan.0 {
        let supervised = Supervised::start(program)?;
        let (stop, stopped) = oneshot::channel();
        let failing = failing.clone();
        let keeping = tokio::spawn(async move {
            if let Err(error) = supervised.keep(stopped).await {
                let _ = failing.send(error).await;
            }
        });
        running.push((stop, keeping));
    }
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(error) = failures.recv() => Err(error),
    };
    // Each before what it talks to: the controller first.
    for (stop, keeping) in running.into_iter().rev() {
        let _ = stop.send(());
        let _ = keeping.await;
    }
    outcome
}

/// A program that runs.
struct Supervised {
    program: Program,
    child: Child,
    started: Instant,
    pause: Duration,
}

impl Supervised {
    fn start(program: Program) -> Result<Self, RunError> {
        Ok(Self {
            child: program.spawn()?,
            program,
            started: Instant::now(),
            pause: Duration::ZERO,
        })
    }

    /// Until it is told to stop, or cannot be started.
    async fn keep(mut self, mut stop: oneshot::Receiver<()>) -> Result<(), RunError> {
        let until_it_fails = async {
            loop {
                let status = self.child.wait().await?;
                self.again(status).await?;
            }
        };
        let outcome = tokio::select! {
            _ = &mut stop => Ok(()),
            failure = until_it_fails => failure,
        };
        self.stop().await;
        outcome
    }

    async fn again(&mut self, status: std::process::ExitStatus) -> Result<(), RunError> {
        let program = self.program.name;
        let first = self.pause.is_zero() && self.started.elapsed() < Duration::from_secs(2);
        if first && status.signal().is_none() {
            return Err(RunError::EndedAtOnce { program, status });
        }
        self.pause = if self.started.elapsed() < STEADY {
            (self.pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE)
        } else {
            Duration::from_millis(50)
        };
        tracing::warn!(program, %status, pause = ?self.pause, "ended, starting again");
        tokio::time::sleep(self.pause).await;
        self.child = self.program.spawn()?;
        self.started = Instant::now();
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(pid) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(FAREWELL, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

impl Program {
    fn spawn(&self) -> Result<Child, RunError> {
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .process_group(0) // Ctrl-C reaches us alone; we stop them in order
            .kill_on_drop(true)
            .spawn();
        child.map_err(|error| RunError::Missing {
            program: self.path.display().to_string(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(p4: &str) -> Config {
        let text = format!(
            "pfcp: {{ listen: '127.0.0.8:8805' }}
{p4}
ports:
  - {{ name: n3, device: 'p4:1', mac: '02:00:00:00:03:01', addresses: [192.0.2.1/24], network_instance: access, interfaces: [access], gtpu: true }}
  - {{ name: n6, device: 'p4:2', mac: '02:00:00:00:06:01', addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }}
network_instances: [{{ name: access }}, {{ name: internet }}]
"
        );
        upf_config::parse(&text, "text").unwrap_or_else(|error| panic!("{error}"))
    }

    fn plan(interfaces: &[&str]) -> Result<Plan, RunError> {
        let p4 =
            "p4: { target: '127.0.0.1:9559', device_id: 7, host_port: 3, host_device: 'net_af_packet0,iface=host0',
  switch: { port_rates_mbps: { n6: 100 }, queue_packets: 256 } }";
        let interfaces: Vec<String> = interfaces.iter().map(|&i| i.to_owned()).collect();
        let programs = Path::new("/opt/upf");
        Plan::daemons(Path::new("upf.yaml"), programs).with_p4_switch(&config(p4), programs, &interfaces)
    }

    #[test]
    fn the_switch_starts_first_where_the_configuration_expects_it() {
        let plan = plan(&["1@n3", "2@n6", "3@punt0"]).unwrap();
        let names: Vec<_> = plan.0.iter().map(|program| program.name).collect();
        assert_eq!(names, ["p4-switch", "upf-host", "upf-ctl"]);
        let said = plan.0[0].arguments.join(" ");
        let expected = "--no-p4 --device-id 7 -i 1@n3 -i 2@n6 -i 3@punt0 -- --grpc-server-addr 127.0.0.1:9559";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.ends_with("--queue-depth 256 --port-rate 2@100"), "{said}");
    }

    #[test]
    fn every_port_of_the_configuration_needs_an_interface() {
        for (given, missing) in [(&["1@n3", "3@punt0"][..], 2), (&["1@n3", "2@n6"], 3)] {
            let error = plan(given).unwrap_err();
            assert!(
                matches!(error, RunError::NoInterface { number, .. } if number == missing),
                "{error}"
            );
        }
        assert!(matches!(plan(&["n3"]), Err(RunError::Interface(_))));
    }
}
