//! Rust declarations of the distribution's libdpdk, and nothing else.
//!
//! # What it is
//! The build script asks `pkg-config` for libdpdk, reads its headers with bindgen and links its shared libraries. What
//! is bound is what the data plane calls (the list is in `build.rs`), under the names DPDK's own documentation uses, so
//! that the [DPDK API reference](https://doc.dpdk.org/api/) is the reference of this crate. There is no policy here, no
//! ownership and no error type: `upf-host`'s `dpdk` module turns these functions into types.
//!
//! # Why it is cut this way
//! * **Data-path functions are `static inline`.** `rte_eth_rx_burst` and its like exist in headers only; bindgen writes
//!   one C wrapper for each, which is compiled into this crate. A call costs a nanosecond or two per *burst*; measured
//!   at bursts of 32 it cannot be told from the same code re-implemented in Rust.
//! * **No structure layout is assumed.** One source has to build with 22.11 (Debian 12) up to 25.11, and `rte_mbuf`,
//!   `rte_eth_link` and others were regrouped in between. [`rte_mbuf`] is opaque: its fields are read at the
//!   `RTE_MBUF_OFFSET_*` that the installed header gives, so that a per-packet access is one load and no call.
//! * **Constants come from C.** Offload flags are macros around `RTE_BIT64()`; `wrapper.h` lets the C compiler evaluate
//!   them.
//! * **All of `pkg-config --cflags` is passed on.** `-include rte_config.h` and `-march` change structure sizes and
//!   which inline functions exist; leaving them out compiles and then corrupts memory.
//! * **Thread-local variables are not bound.** DPDK's `per_lcore_*` are TLS in C, and bindgen would declare them as
//!   plain globals: [`rte_lcore_id`] and [`dpdk_errno`] are functions.
//! * **No driver is linked.** The EAL loads the poll-mode drivers from the distribution's plug-in directory when it
//!   starts; the linker keeps the handful of libraries that are called.
//!
//! # Building
//! Needed are `libdpdk-dev` (22.11 or later), `libclang-dev`, `clang` and `pkg-config`; the build stops with that list
//! where one is missing. There is no fallback and there are no stubs.
//!
//! # Safety
//! Everything is `unsafe` as in C. Three rules are easily missed: no function may be called before [`rte_eal_init`]
//! succeeded (except [`rte_rdtsc`], [`rte_version`], [`rte_strerror`] and [`dpdk_errno`]); a queue of a port belongs
//! to one thread at a time; `rte_eal_init` pins the calling thread, and threads spawned later inherit that.
//!
//! ```
//! // SAFETY: rte_version returns a static string and needs no EAL.
//! let version = unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) };
//! assert!(version.to_string_lossy().starts_with("DPDK "));
//! ```

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, unused_qualifications)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
