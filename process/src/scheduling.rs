//! How soon a thread runs after it was woken, where CPUs are few: a slice ([`set_slice`]), and a place ([`keep_off`]).
//!
//! A change of a user's rules crosses threads that sleep in between. Each of them needs microseconds, but Linux lets the
//! thread that has a CPU finish its slice, some milliseconds, before one that wakes gets its turn: an lcore that polls then
//! holds up the change that it is to follow, and a control thread that computes holds up packets. A thread that asks for a
//! short slice (`sched_setattr`, Linux 6.12) is let in ahead of those with longer ones, and has to make room as soon: it
//! gains no CPU time by it, and needs no privilege. And a control thread has other CPUs to go to; an lcore has one.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

/// The shortest slice that Linux grants.
pub const SHORTEST: Duration = Duration::from_micros(100);

/// The slice of the calling thread, and of all threads it starts from now on; zero: as the system has it. A thread that
/// somebody gave a real-time policy keeps that: it waits for no slice.
///
/// # Errors
/// What the system says. Before Linux 6.12 it takes the call and does nothing.
pub fn set_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = attributes()?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads `size` octets from the structure, which outlives the call; 0 is the calling thread.
    succeeded(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// The calling thread, and all threads it starts from now on, leave these CPUs to who polls there. Where it may use no
/// others, it stays where it is.
///
/// # Errors
/// What the system says.
pub fn keep_off(cpus: &[u32]) -> io::Result<()> {
    let mut allowed = sched_getaffinity(Pid::from_raw(0))?;
    for &cpu in cpus {
        // A CPU beyond the largest set is none that it could be on.
        let _ = allowed.unset(cpu as usize);
    }
    let is_any = (0..CpuSet::count()).any(|cpu| allowed.is_set(cpu).unwrap_or(false));
    if is_any {
        sched_setaffinity(Pid::from_raw(0), &allowed)?;
    }
    Ok(())
}

/// Of the calling thread.
fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: integers all of them, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: the kernel writes at most `size` octets to the structure, which outlives the call.
    succeeded(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_taken_up_inherited_and_given_back() -> io::Result<()> {
        let system = attributes()?.sched_runtime;
        set_slice(SHORTEST)?;
        let asked = attributes()?.sched_runtime;
        if asked == system {
            eprintln!("SKIPPED: this kernel does not know slices (Linux 6.12 does)");
            return Ok(());
        }
        assert_eq!(asked, SHORTEST.as_nanos() as u64);
        let inherited = std::thread::spawn(|| attributes().map(|a| a.sched_runtime)).join();
        assert_eq!(inherited.expect("it does not panic")?, asked);
        set_slice(Duration::ZERO)?;
        assert_eq!(attributes()?.sched_runtime, system);
        Ok(())
    }

    #[test]
    fn a_thread_keeps_off_cpus_unless_they_are_all() -> io::Result<()> {
        let own = |set: &CpuSet| -> Vec<u32> {
            let is_set = |cpu: &u32| set.is_set(*cpu as usize).unwrap_or(false);
            (0..CpuSet::count() as u32).filter(is_set).collect()
        };
        let before = own(&sched_getaffinity(Pid::from_raw(0))?);
        keep_off(&before)?;
        assert_eq!(
            own(&sched_getaffinity(Pid::from_raw(0))?),
            before,
            "there are no others"
        );
        let Some((last, rest)) = before.split_last().filter(|(_, rest)| !rest.is_empty()) else {
            eprintln!("SKIPPED: one CPU");
            return Ok(());
        };
        keep_off(&[*last, u32::MAX])?;
        assert_eq!(own(&sched_getaffinity(Pid::from_raw(0))?), rest);
        Ok(())
    }

    #[test]
    fn niceness_stays() -> io::Result<()> {
        // SAFETY: changes the priority of this thread only, downwards.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
        set_slice(SHORTEST)?;
        assert_eq!(attributes()?.sched_nice, 5);
        Ok(())
    }
}
