//! Everything that must not outlive a lab: processes and namespaces. Released once, by whoever comes first: the end
//! of the lab, or a signal.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// Processes and namespaces of one lab.
#[derive(Default)]
pub struct Resources(Mutex<Held>);

#[derive(Default)]
struct Held {
    children: Vec<Child>,
    namespaces: Vec<String>,
}

impl Resources {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Watch over a process; its process id.
    pub fn add_child(&self, child: Child) -> Pid {
        let pid = Pid::from_raw(child.id().cast_signed());
        self.held().children.push(child);
        pid
    }

    /// Watch over a namespace of this name.
    pub fn add_namespace(&self, name: String) {
        self.held().namespaces.push(name);
    }

    /// Send a signal to a process of ours and, if it should end by it, wait until it has.
    pub fn signal(&self, pid: Pid, signal: Signal) {
        let mut held = self.held();
        let Some(at) = held.children.iter().position(|c| c.id().cast_signed() == pid.as_raw()) else {
            return;
        };
        let _ = kill(pid, signal);
        if matches!(signal, Signal::SIGKILL | Signal::SIGTERM | Signal::SIGINT) {
            let mut child = held.children.swap_remove(at);
            drop(held);
            let _ = child.wait();
        }
    }

    /// Whether a process of ours is still running.
    pub fn is_running(&self, pid: Pid) -> bool {
        let mut held = self.held();
        let child = held.children.iter_mut().find(|c| c.id().cast_signed() == pid.as_raw());
        child.is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Stop the processes and remove the namespaces.
    pub fn release(&self) {
        let mut held = self.held();
        for child in &held.children {
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = kill(pid, Signal::SIGTERM);
            let _ = kill(pid, Signal::SIGCONT); // one that was stopped could not end
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3);
        for mut child in held.children.drain(..) {
            while matches!(child.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in held.namespaces.drain(..) {
            remove_namespace(&name);
        }
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        self.release();
    }
}

/// Remove a namespace that we made, with what still runs in it. It need not exist.
pub(super) fn remove_namespace(name: &str) {
    let listed = Command::new("ip")
        .args(["netns", "pids", name])
        .stderr(Stdio::null())
        .output();
    let listed = listed.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned());
    let pids = listed.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    for pid in pids.filter(|&pid| pid != std::process::id().cast_signed()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = Command::new("ip")
        .args(["netns", "del", name])
        .stderr(Stdio::null())
        .status();
}

/// Start a program that is to end by SIGTERM and SIGINT, also where [`release_on_signal`] has blocked them in this thread:
/// a child inherits what is blocked.
///
/// # Errors
/// It does not start.
pub fn spawn_interruptible(command: &mut Command) -> std::io::Result<Child> {
    let before = SigSet::thread_get_mask()?;
    watched().thread_unblock()?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

/// What ends a lab.
fn watched() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals
}

/// Does something with resources that are released when it ends, whether well or not, or by a signal
/// ([`release_on_signal`]).
///
/// # Errors
/// The work's, and those of [`release_on_signal`].
pub fn with_resources<T, E: From<std::io::Error>>(work: impl FnOnce(&Arc<Resources>) -> Result<T, E>) -> Result<T, E> {
    let resources = Arc::new(Resources::default());
    release_on_signal(&resources)?;
    let done = work(&resources);
    resources.release();
    done
}

/// Block SIGINT and SIGTERM in this thread and those it starts; when one comes, release and end the process with
/// status 130. To be called before any other thread is started.
///
/// # Errors
/// The signals cannot be blocked, or the thread that waits for them cannot be started.
pub fn release_on_signal(resources: &Arc<Resources>) -> std::io::Result<()> {
    let signals = watched();
    signals.thread_block()?;
    let resources = resources.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("interrupted: cleaning up");
            resources.release();
            std::process::exit(130);
        }
    })?;
    Ok(())
}
