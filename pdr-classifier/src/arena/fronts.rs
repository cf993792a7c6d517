//! The lines of entries that packets need, side by side with those of other entries.
//!
//! Lines that a million packets need lie as close together as they can: what translates addresses, be it the processor's
//! tables or those of a host below, reaches the further the fewer pages there are, and one line in four of a gigabyte costs
//! half as much again as all lines of a quarter. So an entry has a *front* here and a *back* elsewhere. A front has no
//! room to say where its back is; the segment that it lies in has.

use super::{LARGEST_CHUNK, LINE, Line};
use crate::memory::{Zeroable, ZeroedArray, prefetch};
use std::ptr::NonNull;

/// Bytes of a segment, which is aligned to as many.
const SEGMENT: usize = 1 << 16;
/// Lines of fronts in a segment, and a pointer for each.
const LINES: usize = SEGMENT / (LINE + size_of::<*mut Line>());

/// So many lines, and where the back of each is.
#[repr(C, align(65536))]
struct Segment {
    backs: [*mut Line; LINES],
    lines: [Line; LINES],
}

const _: () = assert!(size_of::<Segment>() == SEGMENT);

// SAFETY: zeroes are null pointers and lines of zeroes, and nothing is dropped.
unsafe impl Zeroable for Segment {}

/// Lines of the longest front: a header, and a block of sixteen rows that ask for everything.
const LONGEST: usize = 64;

/// Fronts, at addresses that do not change.
pub(super) struct Fronts {
    chunks: Vec<ZeroedArray<Segment>>,
    /// Segments of the last chunk that were ever used, and lines of the last of them.
    used: (usize, usize),
    /// Fronts given back, by lines.
    vacant: Vec<Vec<NonNull<Line>>>,
}

impl Fronts {
    pub fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: (0, LINES),
            vacant: vec![Vec::new(); LONGEST + 1],
        }
    }

    /// A front of that many lines, of unknown contents, that knows its back.
    pub fn take(&mut self, lines: usize, back: NonNull<Line>) -> NonNull<Line> {
        let front = match self.vacant[lines].pop() {
            Some(front) => front,
            None => self.fresh(lines),
        };
        // SAFETY: the place is one of ours, and the front nobody else's.
        unsafe { place_of_back(front.as_ptr()).write(back.as_ptr()) };
        front
    }

    fn fresh(&mut self, lines: usize) -> NonNull<Line> {
        let (mut segments, mut used) = self.used;
        if used + lines > LINES {
            // What is left of the segment is a vacant front of its size.
            if used < LINES && LINES - used <= LONGEST {
                let rest = self.cut(LINES - used);
                self.vacant[LINES - used].push(rest);
            }
            let last = self.chunks.last().map_or(0, |chunk| chunk.len());
            if segments == last {
                let most = LARGEST_CHUNK * LINE / SEGMENT;
                self.chunks.push(ZeroedArray::new((last * 2).clamp(1, most)));
                segments = 0;
            }
            (segments, used) = (segments + 1, 0);
        }
        self.used = (segments, used);
        self.cut(lines)
    }

    /// The next lines of the last segment.
    fn cut(&mut self, lines: usize) -> NonNull<Line> {
        let chunk = &self.chunks[self.chunks.len() - 1];
        let (segments, used) = &mut self.used;
        debug_assert!(*segments <= chunk.len() && *used + lines <= LINES);
        // SAFETY: within the chunk, and before the end of the segment: the callers have looked.
        let front = unsafe {
            chunk
                .start()
                .add(*segments - 1)
                .byte_add(SEGMENT - LINES * LINE)
                .cast::<Line>()
                .add(*used)
        };
        *used += lines;
        front
    }

    /// Gives a front back.
    ///
    /// # Safety
    /// It is from [`Self::take`] of these fronts, of that many lines, and nobody looks at it any more.
    pub unsafe fn give_back(&mut self, front: NonNull<Line>, lines: usize) {
        self.vacant[lines].push(front);
    }
}

/// Where the pointer to a front's back is.
#[inline(always)]
fn place_of_back(front: *mut Line) -> *mut *mut Line {
    let segment = front.map_addr(|address| address & !(SEGMENT - 1));
    let line = (front.addr() % SEGMENT - (SEGMENT - LINES * LINE)) / LINE;
    segment.cast::<*mut Line>().wrapping_add(line)
}

/// The back of a front.
///
/// # Safety
/// It was [taken](Fronts::take), and not given back.
#[inline(always)]
pub(crate) unsafe fn back_of(front: *const Line) -> *const Line {
    // SAFETY: the segment of a front that was taken has the place, and a pointer was written there.
    unsafe { place_of_back(front.cast_mut()).read() }
}

/// Asks for the line that says where the back is: it is written when the front is used again.
pub(crate) fn prefetch_back_of(front: *const Line) {
    prefetch(place_of_back(front.cast_mut()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_do_not_overlap_know_their_backs_and_are_used_again_for_their_size() {
        let mut fronts = Fronts::new();
        let mut taken = Vec::new();
        for round in 0..3_000usize {
            let lines = 1 + round % 35;
            let back = NonNull::without_provenance((64 * (round + 1)).try_into().expect("not zero"));
            let front = fronts.take(lines, back);
            for line in 0..lines {
                // SAFETY: within the front, which is ours.
                unsafe { front.add(line).write(Line([round as u32; 16])) };
            }
            taken.push((front, lines, back, round));
        }
        for &(front, lines, back, round) in &taken {
            // SAFETY: taken above.
            assert_eq!(unsafe { back_of(front.as_ptr()) }, back.as_ptr().cast_const());
            for line in 0..lines {
                // SAFETY: written above.
                assert_eq!(unsafe { front.add(line).read() }, Line([round as u32; 16]));
            }
        }
        let (front, lines, back, _) = taken[3];
        // SAFETY: taken above, and not looked at below.
        unsafe { fronts.give_back(front, lines) };
        assert_eq!(fronts.take(lines, back), front);
    }
}
