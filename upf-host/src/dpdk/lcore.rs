//! Worker threads: one CPU each, known to DPDK as an lcore so that its per-core caches work for them.

use super::{Eal, Errno};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LcoreError {
    /// The CPU does not exist, is offline, or this process may not use it.
    #[error("cannot run on CPU {cpu}: {reason}; `nproc` and `taskset -p $$` tell which there are")]
    Cpu {
        /// As configured.
        cpu: usize,
        /// The kernel's reason.
        reason: nix::errno::Errno,
    },
    /// DPDK has a fixed number of lcores, 128 as Debian builds it.
    #[error("DPDK takes no more lcores: {0}")]
    Register(Errno),
    /// The thread could not be made.
    #[error("cannot start a thread: {0}")]
    Spawn(#[from] io::Error),
}

/// Run `work` in a new thread on `cpu`, registered as an lcore until it ends. Returns once the thread is on its CPU:
/// what was configured wrong is told here and not by a worker that is silently slow.
///
/// Several workers may share a CPU, if none has a real-time priority.
pub fn spawn_worker(
    eal: &Eal,
    cpu: usize,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, LcoreError> {
    let (report, prepared) = mpsc::sync_channel(1);
    let eal = eal.clone();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver below waits for exactly this message, so that sending cannot fail.
        match Lcore::register(eal, cpu) {
            Ok(_lcore) => {
                let _ = report.send(Ok(()));
                work();
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    })?;
    match prepared.recv() {
        Ok(Err(error)) => Err(error),
        _ => Ok(thread),
    }
}

/// The calling thread's registration; dropped, also by a panic, when its work is over.
struct Lcore {
    _eal: Eal,
}

impl Lcore {
    fn register(eal: Eal, cpu: usize) -> Result<Self, LcoreError> {
        let mut only = CpuSet::new();
        // DPDK notes the CPUs of a thread when it registers: pin it first.
        only.set(cpu)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &only))
            .map_err(|reason| LcoreError::Cpu { cpu, reason })?;
        // SAFETY: the EAL is initialised, and this thread is new and not registered.
        match unsafe { dpdk_sys::rte_thread_register() } {
            0 => Ok(Self { _eal: eal }),
            _ => Err(LcoreError::Register(Errno::last())),
        }
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: registered by this thread; an Lcore does not leave the function that made it.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
