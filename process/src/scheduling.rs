//! How soon a thread runs after it was woken, where it shares its CPU.
//!
//! A change of a user's rules crosses five threads that sleep in between. Each of them needs microseconds, but Linux lets
//! the thread that has a CPU finish its slice, 3 ms on small machines, before one that wakes gets its turn: an lcore that
//! polls then holds up the change that it is to follow. A thread that asks for a short slice (`sched_setattr`, Linux 6.12)
//! is let in ahead of those with longer ones, and has to make room as soon: it gains no CPU time by it, and needs no
//! privilege.

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
    fn niceness_stays() -> io::Result<()> {
        // SAFETY: changes the priority of this thread only, downwards.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
        set_slice(SHORTEST)?;
        assert_eq!(attributes()?.sched_nice, 5);
        Ok(())
    }
}
