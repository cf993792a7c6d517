//! The writer's directory: session identifiers to what the writer knows of the session.
//!
//! Identifiers are dense, so this is an array, in pages that exist only where there are sessions: a stray identifier
//! costs a page, not four thousand million slots. Pages lie on huge pages of the kernel's, so that a million sessions
//! are looked up without misses of the address translation.

use crate::memory::Slab;
use std::ptr::NonNull;
use upf_model::SessionId;

/// (Pages are made on the stack, and those of loom are small.)
const PAGE: usize = if cfg!(loom) { 8 } else { 1024 };

/// A sparse array of `S`.
pub(crate) struct Slots<S> {
    pages: Vec<Option<NonNull<Page<S>>>>,
    places: Slab<Page<S>>,
    len: usize,
}

// SAFETY: it owns its pages like a vector of boxes.
unsafe impl<S: Send> Send for Slots<S> {}
// SAFETY: as above.
unsafe impl<S: Sync> Sync for Slots<S> {}

struct Page<S> {
    slots: [Option<S>; PAGE],
    used: usize,
}

impl<S> Slots<S> {
    pub const fn new() -> Self {
        Self {
            pages: Vec::new(),
            places: Slab::new(),
            len: 0,
        }
    }

    const fn position(id: SessionId) -> (usize, usize) {
        (id.0 as usize / PAGE, id.0 as usize % PAGE)
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    fn page(&self, page: usize) -> Option<&Page<S>> {
        // SAFETY: pages in the list are in the slab, and are changed through `&mut self` only.
        self.pages.get(page)?.map(|page| unsafe { page.as_ref() })
    }

    fn page_mut(&mut self, page: usize) -> Option<&mut Page<S>> {
        // SAFETY: as above.
        self.pages.get(page)?.map(|mut page| unsafe { page.as_mut() })
    }

    #[inline]
    pub fn get(&self, id: SessionId) -> Option<&S> {
        let (page, slot) = Self::position(id);
        self.page(page)?.slots[slot].as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut S> {
        let (page, slot) = Self::position(id);
        self.page_mut(page)?.slots[slot].as_mut()
    }

    /// Asks for the cache line of a slot.
    #[inline]
    pub fn prefetch(&self, id: SessionId) {
        let (page, slot) = Self::position(id);
        if let Some(page) = self.page(page) {
            crate::memory::prefetch(&page.slots[slot]);
        }
    }

    /// Puts `value` there; gives what was there.
    pub fn insert(&mut self, id: SessionId, value: S) -> Option<S> {
        let (page, slot) = Self::position(id);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let place = *self.pages[page].get_or_insert_with(|| {
            self.places.insert(Page {
                slots: [const { None }; PAGE],
                used: 0,
            })
        });
        // SAFETY: as in `page_mut`.
        let page = unsafe { &mut *place.as_ptr() };
        let former = page.slots[slot].replace(value);
        if former.is_none() {
            page.used += 1;
            self.len += 1;
        }
        former
    }

    /// Takes it out.
    pub fn remove(&mut self, id: SessionId) -> Option<S> {
        let (at, slot) = Self::position(id);
        let page = self.page_mut(at)?;
        let former = page.slots[slot].take()?;
        page.used -= 1;
        let is_bare = page.used == 0;
        self.len -= 1;
        if is_bare && let Some(place) = self.pages[at].take() {
            // SAFETY: it was in the list, and is there no more.
            unsafe { self.places.remove(place) };
        }
        Some(former)
    }

    /// All of them, in order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &S)> {
        let pages = (0..self.pages.len()).filter_map(|at| Some((at, self.page(at)?)));
        pages.flat_map(|(at, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(slot, value)| Some((SessionId((at * PAGE + slot) as u32), value.as_ref()?)))
        })
    }
}

impl<S> Drop for Slots<S> {
    fn drop(&mut self) {
        for page in self.pages.drain(..).flatten() {
            // SAFETY: it was in the list.
            unsafe { self.places.remove(page) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distant_identifiers_cost_a_page_each_and_nothing_when_removed() {
        let mut slots = Slots::new();
        // Four million empty pages are nothing, except to an interpreter.
        let far = SessionId(if cfg!(miri) { 100_000 } else { u32::MAX });
        assert_eq!(slots.insert(far, 'a'), None);
        assert_eq!(slots.insert(SessionId(0), 'b'), None);
        assert_eq!(slots.insert(SessionId(0), 'c'), Some('b'));
        assert_eq!(
            slots.iter().map(|(id, c)| (id.0, *c)).collect::<Vec<_>>(),
            [(0, 'c'), (far.0, 'a')]
        );
        assert_eq!(
            (slots.remove(SessionId(0)), slots.remove(SessionId(0))),
            (Some('c'), None)
        );
        assert_eq!(slots.remove(far), Some('a'));
        assert_eq!(slots.len(), 0);
        assert!(slots.pages.iter().all(Option::is_none));
    }
}
