//! Memory for many small things: large zeroed arrays on huge pages, and a slab on top of them. At a million sessions
//! a miss of the address translation costs as much as the miss of the data.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;

/// A type whose all-zero bytes are a valid value.
///
/// # Safety
/// They must be, and dropping a value must do nothing.
pub(crate) unsafe trait Zeroable {}

// SAFETY: it asks for nothing, and is never dropped.
unsafe impl<V> Zeroable for MaybeUninit<V> {}

/// A boxed slice that starts as zeroes. Large ones are on huge pages, and a page of theirs costs nothing until it is
/// used.
pub(crate) struct ZeroedArray<Z: Zeroable> {
    start: NonNull<Z>,
    len: usize,
}

// SAFETY: it owns its elements like a `Box<[Z]>`.
unsafe impl<Z: Zeroable + Send> Send for ZeroedArray<Z> {}
// SAFETY: as above.
unsafe impl<Z: Zeroable + Sync> Sync for ZeroedArray<Z> {}

impl<Z: Zeroable> ZeroedArray<Z> {
    const FITS: () = assert!(align_of::<Z>() <= HUGE_PAGE);

    fn layout(len: usize) -> Layout {
        Layout::array::<Z>(len.max(1)).expect("an array of fewer than isize::MAX bytes")
    }

    pub fn new(len: usize) -> Self {
        const { Self::FITS };
        assert!(size_of::<Z>() > 0, "elements that take room");
        let layout = Self::layout(len);
        let start = if is_mapped(layout) {
            map(layout.size())
        } else {
            allocate(layout)
        };
        match start {
            Some(start) => Self {
                start: start.cast(),
                len,
            },
            None => handle_alloc_error(layout),
        }
    }

    /// The first element. Pointers made from it reach all of them.
    pub const fn start(&self) -> NonNull<Z> {
        self.start
    }
}

fn allocate(layout: Layout) -> Option<NonNull<u8>> {
    // SAFETY: the layout is not zero-sized: at least one element, and elements are not zero-sized.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

const fn is_mapped(layout: Layout) -> bool {
    cfg!(all(target_os = "linux", not(miri))) && layout.size() >= HUGE_PAGE
}

/// `size` rounded up to huge pages, plus one to align the start within: fresh zero pages of the kernel's.
#[cfg(all(target_os = "linux", not(miri)))]
fn map(size: usize) -> Option<NonNull<u8>> {
    let size = size.checked_next_multiple_of(HUGE_PAGE)?;
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address of the kernel's choice.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size.checked_add(HUGE_PAGE)?,
            protection,
            flags,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let before = mapped.addr().next_multiple_of(HUGE_PAGE) - mapped.addr();
    // SAFETY: the three parts are within the mapping, and nobody uses the first and the last. The advice changes no
    // contents, and may be refused.
    unsafe {
        let start = mapped.byte_add(before);
        if before > 0 {
            libc::munmap(mapped, before);
        }
        if before < HUGE_PAGE {
            libc::munmap(start.byte_add(size), HUGE_PAGE - before);
        }
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
        NonNull::new(start.cast())
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn map(_size: usize) -> Option<NonNull<u8>> {
    None
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
        let layout = Self::layout(self.len);
        #[cfg(all(target_os = "linux", not(miri)))]
        if is_mapped(layout) {
            // SAFETY: what is left of the mapping made by `map`; elements need no dropping.
            unsafe { libc::munmap(self.start.as_ptr().cast(), layout.size().next_multiple_of(HUGE_PAGE)) };
            return;
        }
        // SAFETY: allocated by `allocate` with this layout; elements need no dropping.
        unsafe { dealloc(self.start.as_ptr().cast(), layout) }
    }
}

/// Places for values of one type, at addresses that do not change. Memory is reused, and given back with the slab.
pub(crate) struct Slab<V> {
    chunks: Vec<ZeroedArray<MaybeUninit<V>>>,
    /// Places of the last chunk that were ever used.
    used: usize,
    vacant: Vec<NonNull<V>>,
}

impl<V> Slab<V> {
    const FIRST_CHUNK: usize = {
        let fit = (64 << 10) / (size_of::<V>() + 1);
        if fit == 0 {
            1
        } else if fit > 32 {
            32
        } else {
            fit
        }
    };
    /// A chunk is at most some 64 MB.
    const LARGEST_CHUNK: usize = (64 << 20) / (size_of::<V>() + 1);

    pub const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            vacant: Vec::new(),
        }
    }

    /// Puts a value somewhere.
    pub fn insert(&mut self, value: V) -> NonNull<V> {
        let place = match self.vacant.pop() {
            _ if size_of::<V>() == 0 => NonNull::dangling(),
            Some(place) => place,
            None => self.fresh(),
        };
        // SAFETY: a place of ours that nothing else uses.
        unsafe { place.write(value) };
        place
    }

    fn fresh(&mut self) -> NonNull<V> {
        let last = self.chunks.last().map_or(0, |chunk| chunk.len());
        if self.used == last {
            let len = (last * 2).clamp(Self::FIRST_CHUNK, Self::LARGEST_CHUNK.max(Self::FIRST_CHUNK));
            self.chunks.push(ZeroedArray::new(len));
            self.used = 0;
        }
        let chunk = &self.chunks[self.chunks.len() - 1];
        self.used += 1;
        // SAFETY: before the end of the chunk, which is longer than what was used.
        unsafe { chunk.start().add(self.used - 1).cast() }
    }

    /// Drops the value at a place.
    ///
    /// # Safety
    /// It is there, put by [`Self::insert`] of this slab, and nobody looks at it any more.
    pub unsafe fn remove(&mut self, place: NonNull<V>) {
        // SAFETY: the caller's word.
        unsafe { place.drop_in_place() };
        if size_of::<V>() > 0 {
            self.vacant.push(place);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_zero_and_writable_from_end_to_end_whatever_their_size() {
        for bytes in [3, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE] {
            if cfg!(miri) && bytes > 4096 {
                continue;
            }
            let array = ZeroedArray::<MaybeUninit<u8>>::new(bytes);
            for at in [0, bytes / 2, bytes - 1] {
                // SAFETY: within the array, which is ours and zero.
                unsafe {
                    let byte = array.start().cast::<u8>().add(at);
                    assert_eq!(byte.read(), 0);
                    byte.write(1);
                }
            }
            assert_eq!(array.len(), bytes);
        }
    }

    #[test]
    fn a_slab_keeps_values_where_they_are_and_uses_places_again() {
        let mut slab = Slab::new();
        let places: Vec<_> = (0..500).map(|n| slab.insert(Box::new(n))).collect();
        for (n, place) in places.iter().enumerate() {
            // SAFETY: put there above.
            assert_eq!(unsafe { **place.as_ref() }, n);
        }
        // SAFETY: put there above, and not looked at below.
        unsafe { slab.remove(places[7]) };
        let again = slab.insert(Box::new(7));
        assert_eq!(again, places[7]);
        for place in places {
            // SAFETY: put there above.
            unsafe { slab.remove(place) };
        }
    }
}
