//! The `idle` suite: CPU time follows the load. What an idle upf-host takes, what it takes at little and at much load, how
//! long it takes to wake up, and what becomes of the first packets.
//!
//! | file | owns |
//! | --- | --- |
//! | [`shared_memory`] | the real upf-host behind memif ports: CPU time against load, waking up, the first burst |
//! | [`kernel_ports`] | the whole UPF behind `af_packet` ports and taps in network namespaces (root): the same with the kernel in between |

mod kernel_ports;
mod shared_memory;

use crate::Outcome;
use crate::figure::Figure;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use upf::lab::{Resources, release_on_signal};

/// Packets of a first burst, and none of them may be lost.
const BURST: usize = 1_000;

/// Measures everything; the part that needs root is left out without, and said to be.
///
/// # Errors
/// upf-host cannot be had.
pub fn run(quick: bool) -> Outcome<Vec<Figure>> {
    let resources = Arc::new(Resources::default());
    release_on_signal(&resources)?;
    let measured = shared_memory::measure(quick, &resources);
    resources.release();
    let mut figures = measured?;
    figures.extend(kernel_ports::run(quick, &resources));
    Ok(figures)
}

/// CPU time of a process so far, all its threads.
pub fn cpu_time(process: Pid) -> nix::Result<Duration> {
    Ok(clock_gettime(clock_getcpuclockid(process)?)?.into())
}
