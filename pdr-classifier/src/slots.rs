//! The writer's directory: session identifiers to what the writer knows of the session.
//!
//! Identifiers are dense, so this is an array, in pages that exist only where there are sessions: a stray identifier
//! costs a page, not four thousand million slots.

use upf_model::SessionId;

const PAGE: usize = 1024;

/// A sparse array of `S`.
pub(crate) struct Slots<S> {
    pages: Vec<Option<Box<Page<S>>>>,
    len: usize,
}

struct Page<S> {
    slots: [Option<S>; PAGE],
    used: usize,
}

impl<S> Slots<S> {
    pub const fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }

    const fn position(id: SessionId) -> (usize, usize) {
        (id.0 as usize / PAGE, id.0 as usize % PAGE)
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, id: SessionId) -> Option<&S> {
        let (page, slot) = Self::position(id);
        self.pages.get(page)?.as_ref()?.slots[slot].as_ref()
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut S> {
        let (page, slot) = Self::position(id);
        self.pages.get_mut(page)?.as_mut()?.slots[slot].as_mut()
    }

    /// Asks for the cache line of a slot.
    #[inline]
    pub fn prefetch(&self, id: SessionId) {
        let (page, slot) = Self::position(id);
        if let Some(Some(page)) = self.pages.get(page) {
            crate::memory::prefetch(&page.slots[slot]);
        }
    }

    /// Puts `value` there; gives what was there.
    pub fn insert(&mut self, id: SessionId, value: S) -> Option<S> {
        let (page, slot) = Self::position(id);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| {
            Box::new(Page {
                slots: [const { None }; PAGE],
                used: 0,
            })
        });
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
        let page = self.pages.get_mut(at)?.as_mut()?;
        let former = page.slots[slot].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages[at] = None;
        }
        Some(former)
    }

    /// All of them, in order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &S)> {
        let pages = self
            .pages
            .iter()
            .enumerate()
            .filter_map(|(at, page)| Some((at, page.as_ref()?)));
        pages.flat_map(|(at, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(slot, value)| Some((SessionId((at * PAGE + slot) as u32), value.as_ref()?)))
        })
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
