//! The atomics through which readers and the writer meet: those of the standard library, or, under `--cfg loom`, loom's,
//! which are taken through every interleaving and everything that the memory model allows (see the module `interleavings`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
