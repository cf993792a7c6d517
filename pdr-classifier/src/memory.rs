//! Large zeroed arrays on huge pages: at a million sessions a miss of the address translation costs as much as the
//! miss of the data.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;

/// A type whose all-zero bytes are a valid value.
///
/// # Safety
/// They must be, and dropping a value must do nothing.
pub(crate) unsafe trait Zeroable {}

/// A boxed slice that starts as zeroes. Pages are not touched until they are used.
pub(crate) struct ZeroedArray<Z: Zeroable> {
    start: NonNull<Z>,
    len: usize,
}

// SAFETY: it owns its elements like a `Box<[Z]>`.
unsafe impl<Z: Zeroable + Send> Send for ZeroedArray<Z> {}
// SAFETY: as above.
unsafe impl<Z: Zeroable + Sync> Sync for ZeroedArray<Z> {}

impl<Z: Zeroable> ZeroedArray<Z> {
    const NOT_ZERO_SIZED: () = assert!(size_of::<Z>() > 0);

    fn layout(len: usize) -> Layout {
        let natural = Layout::array::<Z>(len.max(1)).expect("an array of fewer than isize::MAX bytes");
        let align = if natural.size() >= HUGE_PAGE {
            HUGE_PAGE
        } else {
            natural.align()
        };
        natural.align_to(align).expect("a huge page is a power of two")
    }

    pub fn new(len: usize) -> Self {
        const { Self::NOT_ZERO_SIZED };
        let layout = Self::layout(len);
        // SAFETY: the layout is not zero-sized: at least one element, and elements are not zero-sized.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        #[cfg(all(target_os = "linux", not(miri)))]
        if layout.align() == HUGE_PAGE {
            // SAFETY: the range is ours and page-aligned; the advice changes no contents, and may be refused.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Self {
            start: start.cast(),
            len,
        }
    }
}

impl<Z: Zeroable> Deref for ZeroedArray<Z> {
    type Target = [Z];
    #[inline]
    fn deref(&self) -> &[Z] {
        // SAFETY: `len` elements were allocated at `start`, and zeroes are valid elements.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<Z: Zeroable> Drop for ZeroedArray<Z> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout; elements need no dropping.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.len)) }
    }
}

/// Asks for the cache line at `p`. Any address is allowed.
#[inline(always)]
pub(crate) fn prefetch<P>(p: *const P) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch of any address has no effect but on the caches.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = p;
}
