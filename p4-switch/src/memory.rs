//! Memory for what packets look up: large arrays in large pages, and asking for cache lines ahead of their use.
//!
//! At ten thousand sessions a packet touches some ten places in tables, counters and meters of hundreds of megabytes. In
//! pages of 4 KB most of these accesses walk the page table, and a prefetch waits for that walk; in pages of 2 MB next to
//! none does.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A large page.
const LARGE_PAGE: usize = 2 << 20;

/// A small page: what first-level caches spread over their sets.
const PAGE: usize = 4096;

/// A cache line.
const LINE: usize = 64;

/// Most bytes that are set aside before they are used.
const RESERVE: usize = 4 << 30;

/// Where in its page an array begins: each elsewhere. Their first elements, which are those in use while there are few,
/// would be in the same set of the caches if all began with the page.
fn next_line() -> usize {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    // An odd number of lines further each time, so that all have their turn, far from each other.
    LINES.fetch_add(13 * LINE, Ordering::Relaxed) % PAGE
}

/// What an array may consist of.
///
/// # Safety
/// Any bytes are a value, zeros too, and nothing is to be dropped.
pub(crate) unsafe trait Word: Copy {}

// SAFETY: these are plain numbers.
unsafe impl Word for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Word for [u64; N] {}

/// An array that is zero until written, and takes no memory until touched. It begins at a cache line.
pub(crate) struct Cells<T: Word> {
    begin: NonNull<T>,
    len: usize,
    /// Elements that there is room for.
    capacity: usize,
    /// The mapping: first byte and length.
    mapping: (NonNull<u8>, usize),
}

// SAFETY: the mapping belongs to this value alone, as a vector's memory does.
unsafe impl<T: Word + Send> Send for Cells<T> {}
// SAFETY: as above.
unsafe impl<T: Word + Sync> Sync for Cells<T> {}

impl<T: Word> Cells<T> {
    /// So many zeros.
    pub(crate) fn new(len: usize) -> Self {
        let mut cells = Self::with_room(len);
        cells.len = len;
        cells
    }

    /// None yet, with address space for so many, or for as many as is reasonable.
    pub(crate) fn for_up_to(len: usize) -> Self {
        Self::with_room(len.min(RESERVE / size_of::<T>()))
    }

    fn with_room(capacity: usize) -> Self {
        let layout = Layout::array::<T>(capacity.max(1)).unwrap_or(Layout::new::<T>());
        let is_large = layout.size() >= LARGE_PAGE;
        // Room to begin somewhere behind the beginning of a page.
        let len = layout.size() + PAGE + if is_large { LARGE_PAGE } else { 0 };
        // SAFETY: a new private mapping that belongs to nobody else.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let begin = NonNull::new(mapping.cast::<u8>()).filter(|_| mapping != libc::MAP_FAILED);
        let (Some(mapping), true) = (begin, layout.size() / size_of::<T>() >= capacity) else {
            handle_alloc_error(layout)
        };
        let mut skip = 0;
        if is_large {
            skip = mapping.align_offset(LARGE_PAGE);
            #[cfg(target_os = "linux")]
            // SAFETY: advice about the mapping made above; refused where there are no large pages, and then nothing is lost.
            unsafe {
                libc::madvise(
                    mapping.as_ptr().add(skip).cast(),
                    layout.size() + PAGE,
                    libc::MADV_HUGEPAGE,
                )
            };
        }
        skip += next_line();
        // SAFETY: the mapping is longer than the array by more than what is skipped.
        let begin = unsafe { mapping.add(skip) };
        Self {
            begin: begin.cast(),
            len: 0,
            capacity,
            mapping: (mapping, len),
        }
    }

    /// Makes it longer, by zeros.
    pub(crate) fn grow_to(&mut self, len: usize) {
        if len > self.capacity {
            let mut larger = Self::with_room(len.max(2 * self.capacity).max(PAGE / size_of::<T>()));
            larger.len = self.len;
            larger.copy_from_slice(self);
            *self = larger;
        }
        self.len = self.len.max(len);
    }
}

impl<T: Word> Deref for Cells<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for so many, which are zero or written, from `begin`, which is aligned to a line.
        unsafe { slice::from_raw_parts(self.begin.as_ptr(), self.len) }
    }
}

impl<T: Word> DerefMut for Cells<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the mapping is this value's alone.
        unsafe { slice::from_raw_parts_mut(self.begin.as_ptr(), self.len) }
    }
}

impl<T: Word> Default for Cells<T> {
    fn default() -> Self {
        Self {
            begin: NonNull::dangling(),
            len: 0,
            capacity: 0,
            mapping: (NonNull::dangling(), 0),
        }
    }
}

impl<T: Word> Drop for Cells<T> {
    fn drop(&mut self) {
        let (begin, len) = self.mapping;
        if len > 0 {
            // SAFETY: the mapping is this value's own, and nobody refers to it beyond the value's life.
            unsafe { libc::munmap(begin.as_ptr().cast(), len) };
        }
    }
}

impl<T: Word> fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Asks for the cache line of a value. A hint: nothing where the processor has none.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_zero_and_keep_their_values_when_they_grow_beyond_their_room() {
        let mut cells = Cells::<[u64; 2]>::for_up_to(10);
        cells.grow_to(3);
        cells[2] = [1, 2];
        for len in [10, 11, 1 << 20] {
            cells.grow_to(len);
            assert_eq!(cells.len(), len);
            assert_eq!((cells[0], cells[2], cells[len - 1]), ([0, 0], [1, 2], [0, 0]));
        }
    }

    #[test]
    fn an_array_begins_at_a_cache_line_and_the_empty_one_has_none() {
        let cells = Cells::<[u64; 8]>::new(1 << 22);
        assert_eq!(cells.as_ptr().cast::<u8>().align_offset(LINE), 0);
        assert!(cells[(1 << 22) - 1] == [0; 8]);
        assert!(Cells::<u64>::new(0).is_empty() && Cells::<u64>::default().is_empty());
    }
}
