//! A network namespace without a name: it is gone when the last of its threads, processes and sockets is, however the
//! test program ends. So there is nothing to clean up, and nothing left behind.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::process::Command;
use std::sync::mpsc::{self, Sender};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace, and the thread that keeps it.
pub struct Namespace {
    jobs: Sender<Job>,
}

impl Namespace {
    /// A new one, with its loopback up and without IPv6 of its own (the kernel would speak on the wires).
    ///
    /// # Errors
    /// Usually that this is not root.
    pub fn new() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (made, ready) = mpsc::channel();
        std::thread::Builder::new().name("namespace".into()).spawn(move || {
            let unshared = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let entered = unshared.is_ok();
            let _ = made.send(unshared);
            if entered {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        ready.recv().map_err(io::Error::other)??;
        let namespace = Self { jobs };
        namespace.run(|| {
            for which in ["all", "default"] {
                // A kernel without IPv6 has no such file, and nothing to say either.
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
            }
            ip(&["link", "set", "lo", "up"])
        })?;
        Ok(namespace)
    }

    /// Run something in it, on the thread that keeps it. That thread lives as long as the namespace is wanted, so a
    /// child process that shall die with its parent thread may be started here.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(job());
        });
        let sent = self.jobs.send(job).is_ok();
        match result.recv() {
            Ok(result) if sent => result,
            _ => panic!("the thread that keeps the namespace has ended"),
        }
    }

    /// A handle by which other threads may [`enter`].
    ///
    /// # Errors
    /// If there is no /proc.
    pub fn handle(&self) -> io::Result<File> {
        self.run(|| File::open("/proc/thread-self/ns/net"))
    }
}

/// Take the calling thread into the namespace.
///
/// # Errors
/// What the system says.
pub fn enter(handle: &File) -> io::Result<()> {
    Ok(setns(handle, CloneFlags::CLONE_NEWNET)?)
}

/// Run `ip` in the calling thread's namespace.
///
/// # Errors
/// What `ip` says.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {}: {said}", arguments.join(" "))))
}
