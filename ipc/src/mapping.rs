//! The shared pages: what lies where in the channel file, and the mapping of it into this process.
//!
//! ```text
//! offset 0      header: magic, version, the two ends' states, the four cursors   (HEADER_BYTES)
//!        4096   ring 0, controller to host                                       (RING_BYTES)
//!        ...    ring 1, host to controller                                       (RING_BYTES)
//! ```
//!
//! Each ring is mapped twice, back to back, so that a record that runs over the ring's end goes on at the
//! right place: every record is one slice, whatever its position, and can be read and written in place.

use crate::error::ChannelError;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of one ring: a power of two and a multiple of every page size in use.
pub(crate) const RING_BYTES: usize = 8 << 20;
/// Bytes before the first ring.
pub(crate) const HEADER_BYTES: usize = 64 << 10;
/// Bytes of the channel file.
pub(crate) const FILE_BYTES: usize = HEADER_BYTES + 2 * RING_BYTES;

const MAGIC: u64 = u64::from_be_bytes(*b"UPFchan\x01");

/// What both ends must agree on: layout and release. Archived messages are only understood by the release that
/// wrote them.
pub(crate) const VERSION: u64 = fnv(concat!("layout 3, release ", env!("CARGO_PKG_VERSION")).as_bytes());

const fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    hash
}

/// One end's state. Written by that end alone, except for `rings`, which its peer counts up.
#[repr(C, align(128))]
pub(crate) struct EndState {
    /// Odd: attached. Grows at every attachment and every clean detachment; never goes back.
    pub(crate) incarnation: AtomicU32,
    /// Doorbell: counted up for every reason this end may have to wake up. A futex.
    pub(crate) rings: AtomicU32,
    /// Not 0: this end sleeps on `rings`, or is about to.
    pub(crate) asleep: AtomicU32,
}

/// A position in a ring: bytes since the ring was made; on a cache line pair of its own.
#[repr(C, align(128))]
pub(crate) struct Cursor(pub(crate) AtomicU64);

/// The cursors of one ring.
#[repr(C)]
pub(crate) struct RingState {
    /// Everything before it is written. Moved by the producer.
    pub(crate) tail: Cursor,
    /// Everything before it is read. Moved by the consumer.
    pub(crate) head: Cursor,
    /// Not 0: the producer found the ring full and wants its doorbell rung once half of it is free.
    pub(crate) starved: AtomicU32,
}

#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    /// Controller, host.
    pub(crate) ends: [EndState; 2],
    /// Controller to host, host to controller.
    pub(crate) rings: [RingState; 2],
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);

/// The channel file, mapped. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The header; the rings' double mappings follow at `HEADER_BYTES` and `HEADER_BYTES + 2 * RING_BYTES`.
    base: NonNull<u8>,
}

/// Address space of one mapping: the header and each ring twice.
const SPAN: usize = HEADER_BYTES + 4 * RING_BYTES;

// SAFETY: the mapping is plain memory that stays mapped until drop. Shared references hand out atomics only; the
// bytes of the rings are reached through `ring`, whose callers (`ring.rs`) keep writers and readers apart.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Sizes a fresh file and writes its header. All its memory is reserved here, so that no later access can fail
    /// for want of it.
    pub(crate) fn format(file: &File, path: &Path) -> Result<(), ChannelError> {
        // SAFETY: no pointers; the descriptor is open for the length of the call.
        let rc = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, FILE_BYTES as libc::off_t) };
        if rc != 0 {
            return Err(ChannelError::io(
                "reserve memory for",
                path,
                std::io::Error::from_raw_os_error(rc),
            ));
        }
        let mapping = Self::map(file, path)?;
        mapping.header().version.store(VERSION, Ordering::Relaxed);
        mapping.header().magic.store(MAGIC, Ordering::Release);
        Ok(())
    }

    /// Whether the file is a channel of this release; otherwise what it is, in words.
    pub(crate) fn open(file: &File, path: &Path) -> Result<Result<Self, String>, ChannelError> {
        let bytes = file.metadata().map_err(|e| ChannelError::io("examine", path, e))?.len();
        if bytes != FILE_BYTES as u64 {
            return Ok(Err(format!("a file of {bytes} bytes")));
        }
        let mapping = Self::map(file, path)?;
        let magic = mapping.header().magic.load(Ordering::Acquire);
        let version = mapping.header().version.load(Ordering::Relaxed);
        Ok(match (magic, version) {
            (MAGIC, VERSION) => Ok(mapping),
            (MAGIC, _) => Err("a channel of another release".into()),
            _ => Err("no channel".into()),
        })
    }

    fn map(file: &File, path: &Path) -> Result<Self, ChannelError> {
        let failed = || ChannelError::io("map", path, std::io::Error::last_os_error());
        let (rw, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a fresh reservation of address space that overlaps nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SPAN,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let Some(base) = (base != libc::MAP_FAILED)
            .then_some(base)
            .and_then(|b| NonNull::new(b.cast::<u8>()))
        else {
            return Err(failed());
        };
        let mapping = Self { base };
        let first = HEADER_BYTES;
        let second = HEADER_BYTES + RING_BYTES;
        // (address within the span, bytes, offset in the file)
        let parts = [
            (0, HEADER_BYTES, 0),
            (first, RING_BYTES, first),
            (first + RING_BYTES, RING_BYTES, first),
            (first + 2 * RING_BYTES, RING_BYTES, second),
            (first + 3 * RING_BYTES, RING_BYTES, second),
        ];
        for (at, bytes, offset) in parts {
            // SAFETY: `at + bytes <= SPAN`: MAP_FIXED replaces pages of our own reservation only.
            let got = unsafe {
                let to = mapping.base.as_ptr().add(at).cast();
                libc::mmap(
                    to,
                    bytes,
                    rw,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    fd,
                    offset as libc::off_t,
                )
            };
            if got == libc::MAP_FAILED {
                return Err(failed());
            }
        }
        Ok(mapping)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the first HEADER_BYTES are mapped, page-aligned and live as long as `self`; `Header` is made of
        // atomics only, for which every bit pattern is valid and concurrent change by the peer is allowed.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Start of ring `index` (0 or 1); `2 * RING_BYTES` from there are mapped, the second half mirroring the first.
    pub(crate) fn ring(&self, index: usize) -> NonNull<u8> {
        // SAFETY: within the span for index 0 and 1; the index is masked to them.
        unsafe { self.base.add(HEADER_BYTES + 2 * RING_BYTES * (index & 1)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` reserved; nobody holds a reference into it once the last owner drops it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), SPAN) };
    }
}
