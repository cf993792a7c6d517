//! Safe wrappers around DPDK: the only module of this crate with `unsafe` in it.
//!
//! ```text
//!   Eal ◀── Mempool ◀── Port ──▶ RxQueue ─burst─▶ [Mbuf] ─burst─▶ TxQueue
//!    ▲                              └── one owner each, moved to the lcore that polls it
//!    └── spawn_worker: a thread on one CPU, known to DPDK as an lcore
//! ```
//! An arrow is ownership: whoever holds a queue keeps its port started, the port keeps its packet memory, and all of
//! them keep the environment, so that nothing is torn down under a packet in flight. A packet has one owner, a queue
//! has one thread; the compiler checks both.
#![allow(unsafe_code)]

pub mod acl;
pub mod device;
pub mod eal;
pub mod interrupt;
pub mod lcore;
pub mod mbuf;
pub mod mempool;
pub mod port;
pub mod queue;

pub use acl::{Acl, AclError, AclKey, AclRule};
pub use eal::{Eal, EalConfig, EalError, LogLevel};
pub use interrupt::Interrupts;
pub use lcore::{LcoreError, spawn_worker};
pub use mbuf::{Checksum, Mbuf, TxChecksums};
pub use mempool::{Mempool, MempoolError};
pub use port::{LinkStatus, Port, PortConfig, PortError, PortStatistics, Queues};
pub use queue::{RxQueue, TxQueue};

use std::ffi::CStr;
use std::fmt;

/// An error number of DPDK: those of errno(3) and a few of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(i32);

impl Errno {
    /// What the last failing call of this thread left behind.
    fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self(unsafe { dpdk_sys::dpdk_errno() })
    }

    /// `Ok` for zero and above; DPDK's calls return minus the error number otherwise.
    fn check(result: i32) -> Result<(), Self> {
        if result < 0 { Err(Self(-result)) } else { Ok(()) }
    }

    /// The call is not available for this device, which is an answer rather than a failure.
    fn is_unsupported(self) -> bool {
        matches!(self.0, libc::ENOTSUP | libc::ENOSYS)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror gives a string of this thread that lives until the next call.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

impl std::error::Error for Errno {}

/// Bring every cache line of a value closer, without waiting. What it points to is not looked at.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..=size_of::<T>().saturating_sub(1) / LINE {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; SSE is part of the architecture, and no address faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>().wrapping_add(line * LINE)) };
    }
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// The library's name and version, such as `DPDK 22.11.5`.
#[must_use]
pub fn version() -> String {
    // SAFETY: a static string, which needs no environment.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }
        .to_string_lossy()
        .into_owned()
}

/// Now, in ticks of the time stamp counter: the same on all CPUs, [`tsc_hz`] per second. About 10 ns.
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: reads a register.
    unsafe { dpdk_sys::rte_rdtsc() }
}

/// Ticks of [`tsc`] per second, as measured when the [`Eal`] was initialised; 0 before that.
#[must_use]
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a variable that rte_eal_init writes once.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
