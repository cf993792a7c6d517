//! Where entries live: each has a [front](fronts), the lines that packets need, and a *back*, those that few need.
//!
//! Both are blocks of whole cache lines, cut from huge pages. A block is one allocation whose lines stand side by side, so
//! that a packet that knows where an entry begins can ask for its next lines too. Blocks of one size are reused for that
//! size. Large backs, which are rare, are the allocator's.

mod fronts;

use crate::memory::ZeroedArray;
use fronts::Fronts;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

pub(crate) use fronts::{back_of, prefetch_back_of};

/// A cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u32; 16]);

impl Line {
    pub const ZERO: Self = Self([0; LINE_WORDS]);
}

/// Words in a line.
pub(crate) const LINE_WORDS: usize = 16;
/// Bytes in a line.
pub(crate) const LINE: usize = size_of::<Line>();

/// Lines of the largest block that is cut from a chunk.
const LARGEST: usize = 64;
/// Lines of the first chunk; each is twice the one before.
const FIRST_CHUNK: usize = 1 << 10;
/// 64 MB.
const LARGEST_CHUNK: usize = 1 << 20;

/// Fronts and backs, at addresses that do not change.
pub(crate) struct Arena {
    fronts: Fronts,
    backs: Blocks,
}

impl Arena {
    pub fn new() -> Self {
        Self {
            fronts: Fronts::new(),
            backs: Blocks::new(),
        }
    }

    /// A front and a back of so many lines, of unknown contents: [`back_of`] leads from the one to the other.
    pub fn take(&mut self, front: usize, back: usize) -> (NonNull<Line>, NonNull<Line>) {
        let back = self.backs.take(back);
        (self.fronts.take(front, back), back)
    }

    /// Gives both back.
    ///
    /// # Safety
    /// They are from [`Self::take`] of this arena, of that many lines, and nobody looks at them any more.
    pub unsafe fn give_back(&mut self, front: (NonNull<Line>, usize), back: (NonNull<Line>, usize)) {
        // SAFETY: the caller's word.
        unsafe {
            self.fronts.give_back(front.0, front.1);
            self.backs.give_back(back.0, back.1);
        }
    }
}

/// Blocks of lines, at addresses that do not change.
struct Blocks {
    chunks: Vec<ZeroedArray<MaybeUninit<Line>>>,
    /// Lines of the last chunk that were ever used.
    used: usize,
    /// Blocks given back, by lines.
    vacant: Vec<Vec<NonNull<Line>>>,
}

impl Blocks {
    pub fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            vacant: vec![Vec::new(); LARGEST + 1],
        }
    }

    /// A block of that many lines, of unknown contents.
    pub fn take(&mut self, lines: usize) -> NonNull<Line> {
        let Some(vacant) = self.vacant.get_mut(lines) else {
            let layout = Self::layout(lines);
            // SAFETY: not zero-sized.
            return NonNull::new(unsafe { alloc(layout) })
                .unwrap_or_else(|| handle_alloc_error(layout))
                .cast();
        };
        if let Some(block) = vacant.pop() {
            return block;
        }
        let last = self.chunks.last().map_or(0, |chunk| chunk.len());
        if self.used + lines > last {
            self.keep_rest(last);
            let len = (last * 2).clamp(FIRST_CHUNK, LARGEST_CHUNK);
            self.chunks.push(ZeroedArray::new(len));
            self.used = 0;
        }
        self.cut(lines)
    }

    fn cut(&mut self, lines: usize) -> NonNull<Line> {
        let chunk = &self.chunks[self.chunks.len() - 1];
        debug_assert!(self.used + lines <= chunk.len());
        // SAFETY: before the end of the chunk: the callers have looked.
        let block = unsafe { chunk.start().add(self.used) }.cast();
        self.used += lines;
        block
    }

    /// What is left of the last chunk is a vacant block of its size.
    fn keep_rest(&mut self, last: usize) {
        let rest = last - self.used;
        if rest > 0 {
            let block = self.cut(rest);
            self.vacant[rest].push(block);
        }
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// It is from [`Self::take`] of these blocks, of that many lines, and nobody looks at it any more.
    pub unsafe fn give_back(&mut self, block: NonNull<Line>, lines: usize) {
        match self.vacant.get_mut(lines) {
            Some(vacant) => vacant.push(block),
            // SAFETY: such blocks are the allocator's, of this layout.
            None => unsafe { dealloc(block.as_ptr().cast(), Self::layout(lines)) },
        }
    }

    fn layout(lines: usize) -> Layout {
        Layout::array::<Line>(lines).expect("fewer than isize::MAX bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_used_again_for_their_size() {
        let mut arena = Blocks::new();
        let mut blocks = Vec::new();
        for round in 0..700 {
            let lines = 1 + round % 70;
            let block = arena.take(lines);
            for line in 0..lines {
                // SAFETY: within the block, which is ours.
                unsafe { block.add(line).write(Line([round as u32; LINE_WORDS])) };
            }
            blocks.push((block, lines, round as u32));
        }
        for &(block, lines, round) in &blocks {
            for line in 0..lines {
                // SAFETY: written above.
                assert_eq!(unsafe { block.add(line).read() }, Line([round; LINE_WORDS]));
            }
        }
        let (block, lines, _) = blocks[3];
        // SAFETY: taken above, and not looked at below.
        unsafe { arena.give_back(block, lines) };
        assert_eq!(arena.take(lines), block);
        for (block, lines, _) in blocks {
            // SAFETY: taken above.
            unsafe { arena.give_back(block, lines) };
        }
    }
}
