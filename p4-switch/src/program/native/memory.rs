//! Memory for machine code: written once, then executable and no longer writable.

use std::ptr::{self, NonNull};

/// A mapping of its own, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Executable {
    begin: NonNull<u8>,
    len: usize,
}

// SAFETY: nobody can write to the memory any more.
unsafe impl Send for Executable {}
// SAFETY: as above.
unsafe impl Sync for Executable {}

impl Executable {
    /// Memory with these bytes; none if the system does not give any, or does not let it be executed.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let len = bytes.len().max(1);
        // SAFETY: a new private mapping that belongs to nobody else.
        let begin = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if begin == libc::MAP_FAILED {
            return None;
        }
        let this = Self {
            begin: NonNull::new(begin.cast())?,
            len,
        };
        // SAFETY: the mapping is writable, at least as long as the bytes, and does not overlap them.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), this.begin.as_ptr(), bytes.len()) };
        // SAFETY: this is the mapping made above.
        let done = unsafe { libc::mprotect(begin, len, libc::PROT_READ | libc::PROT_EXEC) };
        (done == 0).then_some(this)
    }

    /// Its first byte.
    #[inline]
    pub(super) fn address(&self) -> *const u8 {
        self.begin.as_ptr()
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody refers to it beyond the value's life.
        unsafe { libc::munmap(self.begin.as_ptr().cast(), self.len) };
    }
}
