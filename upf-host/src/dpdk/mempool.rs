//! Packet memory: a fixed number of mbufs of one size, taken and given back by any thread without locks.

use super::{Eal, Errno, Mbuf};
use crate::packet::Allocator;
use dpdk_sys::{RTE_MEMPOOL_CACHE_MAX_SIZE, RTE_PKTMBUF_HEADROOM, rte_mempool};
use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

/// A handle on a pool of mbufs. Clones are handles on the same pool.
///
/// A pool that is dropped while packets of it are still held somewhere is never freed, and the environment with it is
/// not cleaned up: a leak, and no dangling packet. The same happens with packets that a `net_ring` or `net_af_xdp`
/// still had when it was closed, which these drivers do not give back.
#[derive(Clone, Debug)]
pub struct Mempool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    raw: NonNull<rte_mempool>,
    eal: Eal,
    room: u16,
}

// SAFETY: a mempool is made for concurrent use; it is what its ring and its per-lcore caches are for.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// Why a pool could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MempoolError {
    /// No C string, or too long.
    #[error("mempool name {0:?}: expected 1 to 25 bytes without NUL")]
    Name(String),
    /// The cache would keep most of the pool away from other lcores.
    #[error(
        "mempool cache of {cache} for {packets} packets: expected at most {RTE_MEMPOOL_CACHE_MAX_SIZE} and two thirds \
         of the packets"
    )]
    Cache {
        /// As asked for.
        cache: u32,
        /// As asked for.
        packets: u32,
    },
    /// Headroom and room together exceed what a 16-bit length can tell.
    #[error("mempool room of {0} bytes: expected at most 65407")]
    Room(u16),
    /// DPDK refused; usually there is no memory.
    #[error(
        "mempool {name:?} of {packets} packets with {room} bytes each: {errno}; give DPDK more memory, or use fewer \
         packets"
    )]
    Create {
        /// As asked for.
        name: String,
        /// As asked for.
        packets: u32,
        /// As asked for.
        room: u16,
        /// DPDK's reason.
        errno: Errno,
    },
}

impl Mempool {
    /// A pool of `packets` (best a power of two less one), each with `room` bytes for data behind the headroom. Every
    /// lcore keeps up to 1.5 times `cache` free ones to itself and so seldom touches the shared ring.
    pub fn new(eal: &Eal, name: &str, packets: u32, cache: u32, room: u16) -> Result<Self, MempoolError> {
        let c_name = CString::new(name)
            .ok()
            .filter(|name| (1..26).contains(&name.count_bytes()))
            .ok_or_else(|| MempoolError::Name(name.to_owned()))?;
        if u64::from(cache) > RTE_MEMPOOL_CACHE_MAX_SIZE || cache.saturating_mul(3) > packets.saturating_mul(2) {
            return Err(MempoolError::Cache { cache, packets });
        }
        let buffer = room
            .checked_add(RTE_PKTMBUF_HEADROOM as u16)
            .ok_or(MempoolError::Room(room))?;
        const ANY_SOCKET: i32 = -1;
        // SAFETY: the EAL is initialised and the name is a C string that DPDK copies.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), packets, cache, 0, buffer, ANY_SOCKET) };
        let raw = NonNull::new(raw).ok_or_else(|| MempoolError::Create {
            name: name.to_owned(),
            packets,
            room,
            errno: Errno::last(),
        })?;
        Ok(Self(Arc::new(Pool {
            raw,
            eal: eal.clone(),
            room,
        })))
    }

    /// An empty packet with the full headroom; `None` when all are in use.
    #[must_use]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive. A fresh mbuf has one segment and one reference, which is handed on.
        unsafe { NonNull::new(dpdk_sys::rte_pktmbuf_alloc(self.as_ptr())).map(|raw| Mbuf::from_raw(raw)) }
    }

    /// Packets that nobody holds, including those in the caches of lcores. Visits every cache: for management, not for
    /// the packet path.
    #[must_use]
    pub fn free_count(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// Bytes for data behind the headroom in each packet.
    #[must_use]
    pub fn room(&self) -> u16 {
        self.0.room
    }

    pub(super) fn eal(&self) -> &Eal {
        &self.0.eal
    }

    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.0.raw.as_ptr()
    }
}

// What an `Allocator` promises; distributions build DPDK with 128.
const _: () = assert!(RTE_PKTMBUF_HEADROOM >= 128);

impl Allocator<Mbuf> for Mempool {
    fn allocate(&mut self) -> Option<Mbuf> {
        Self::allocate(self)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is alive; it is freed only if every mbuf is back, and nobody is left to take one.
        unsafe {
            if dpdk_sys::rte_mempool_full(self.raw.as_ptr()) == 1 {
                dpdk_sys::rte_mempool_free(self.raw.as_ptr());
            } else {
                self.eal.keep_forever();
            }
        }
    }
}
