//! `upf run`: both daemons under one roof. Each is started again when it dies; the other goes on meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// A daemon that dies sooner than this after its start is not started again at once.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the daemons may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

struct Supervised {
    program: &'static str,
    child: Option<Child>,
    started: Instant,
    pause: Duration,
}

/// Run until SIGTERM or SIGINT.
///
/// # Errors
/// A program is missing, or dies at once in its very first start: then its own words stand above.
pub async fn run(config: &Path, programs: &Path) -> Result<(), std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut host = Supervised::start("upf-host", config, programs)?;
    let mut ctl = Supervised::start("upf-ctl", config, programs)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            status = host.ended() => host.again(status?, config, programs).await?,
            status = ctl.ended() => ctl.again(status?, config, programs).await?,
        }
    }
    // The controller first: it has no one to talk to afterwards.
    ctl.stop().await;
    host.stop().await;
    Ok(())
}

impl Supervised {
    fn start(program: &'static str, config: &Path, programs: &Path) -> Result<Self, std::io::Error> {
        let child = spawn(program, config, programs)?;
        Ok(Self {
            program,
            child: Some(child),
            started: Instant::now(),
            pause: Duration::ZERO,
        })
    }

    async fn ended(&mut self) -> Result<std::process::ExitStatus, std::io::Error> {
        match &mut self.child {
            Some(child) => child.wait().await,
            None => std::future::pending().await,
        }
    }

    async fn again(
        &mut self,
        status: std::process::ExitStatus,
        config: &Path,
        programs: &Path,
    ) -> Result<(), std::io::Error> {
        let first = self.pause.is_zero() && self.started.elapsed() < Duration::from_secs(2);
        if first && status.signal().is_none() {
            return Err(std::io::Error::other(format!(
                "{} ended at once ({status})",
                self.program
            )));
        }
        self.pause = if self.started.elapsed() < STEADY {
            (self.pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE)
        } else {
            Duration::from_millis(50)
        };
        tracing::warn!(program = self.program, %status, pause = ?self.pause, "ended, starting again");
        tokio::time::sleep(self.pause).await;
        self.child = Some(spawn(self.program, config, programs)?);
        self.started = Instant::now();
        Ok(())
    }

    async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = child.id() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(FAREWELL, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

fn spawn(program: &'static str, config: &Path, programs: &Path) -> Result<Child, std::io::Error> {
    Command::new(programs.join(program))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .process_group(0) // Ctrl-C reaches us alone; we stop them in order
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| std::io::Error::other(format!("cannot start {}: {e}", programs.join(program).display())))
}
