//! Sleeping and waking across processes: a futex on a counter in shared memory.
//!
//! The sleeper announces itself (`asleep`), looks once more for a reason to stay awake, and sleeps only if the
//! counter has not moved since. The ringer makes its reason visible, moves the counter, and calls the kernel only
//! if somebody announced sleep. Both do so in sequentially consistent order: one of the two sees the other. So no
//! wake-up is lost, and a peer that polls costs the ringer no system call.

use crate::mapping::EndState;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Wakes the owner of `end` if it sleeps, and keeps it from falling asleep if it is about to.
pub(crate) fn ring(end: &EndState) {
    end.rings.fetch_add(1, Ordering::SeqCst);
    if end.asleep.load(Ordering::SeqCst) != 0 {
        futex_wake(&end.rings);
    }
}

/// Sleeps until the doorbell rings or `longest` has passed, unless `awake` finds a reason not to. Says whether it did.
pub(crate) fn sleep_unless(end: &EndState, longest: Duration, awake: impl FnOnce() -> bool) -> bool {
    end.asleep.store(1, Ordering::SeqCst);
    let seen = end.rings.load(Ordering::SeqCst);
    let stays = awake();
    if !stays {
        futex_wait(&end.rings, seen, longest);
    }
    end.asleep.store(0, Ordering::SeqCst);
    stays
}

fn futex_wait(word: &AtomicU32, seen: u32, longest: Duration) {
    let longest = libc::timespec {
        tv_sec: libc::time_t::try_from(longest.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(longest.subsec_nanos()),
    };
    // SAFETY: the word is mapped and aligned for the length of the borrow; the time lives through the call. Not
    // FUTEX_PRIVATE: the waker is another process. Every way of returning early is allowed: the caller looks again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            std::ptr::from_ref(&longest),
        );
    }
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word is mapped and aligned for the length of the borrow; waking touches no memory.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, libc::c_int::MAX);
    }
}
