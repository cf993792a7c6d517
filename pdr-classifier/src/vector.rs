//! Comparing a block of rows with a packet, by the widest vectors that the processor has.
//!
//! The three ways give the same results: the portable one is the definition, the others say it in instructions.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::PacketFields;
use crate::order;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// A way to compare.
pub(crate) trait Vectors {
    /// Which rows of a [block](crate::block) match, one bit each.
    ///
    /// # Safety
    /// `block` is a block of `L` lanes and those columns, aligned to a line.
    unsafe fn compare<const L: usize>(columns: u16, block: *const u32, packet: &PacketFields, kind: u32) -> u32;

    /// Four or eight rows of the compact form, taken apart to be compared with one packet after the other.
    type Apart<const L: usize>: Copy;

    /// Takes the rows of a block apart.
    ///
    /// # Safety
    /// `block` is a block of `L` lanes, 4 or 8, that has the compact form, aligned to a line.
    unsafe fn apart<const L: usize>(block: *const u32) -> Self::Apart<L>;

    /// Three rows of the compact form, likewise.
    type Three: Copy;

    /// Takes three rows apart.
    ///
    /// # Safety
    /// There are ten words: the rows' first words, second words and third words, and one more; and they stay.
    unsafe fn three(rows: *const u32) -> Self::Three;

    /// Which of three match.
    fn matching_three(rows: Self::Three, packet: &PacketFields, kind: u32) -> u32;

    /// Which of them match. (Bits of rows that there are not mean nothing.)
    fn matching<const L: usize>(rows: Self::Apart<L>, packet: &PacketFields, kind: u32) -> u32;

    /// Which of some of 64 bytes are `byte`, one bit each.
    ///
    /// # Safety
    /// There are 64, aligned to a line.
    unsafe fn equal(some: u64, bytes: *const [u8; 64], byte: u8) -> u64;

    /// For which of some of 64 bytes `byte` is that one or up to so many more (beyond 255 it goes on with 0).
    ///
    /// # Safety
    /// As above, twice.
    unsafe fn within(some: u64, lows: *const [u8; 64], more: *const [u8; 64], byte: u8) -> u64;

    /// Of the rows in `matching`, the one of least rank: see [`order`](crate::order).
    #[inline(always)]
    fn least(order: u64, matching: u32) -> u32 {
        order::least(order, matching)
    }

    /// Which of the first words of four pairs is `word`; 4: none. A hint: other threads may be writing there.
    #[cfg_attr(loom, allow(dead_code, reason = "vectors see nothing of loom's atomics"))]
    #[inline(always)]
    fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize {
        // SAFETY: the caller's bucket.
        let pairs = unsafe { &*pairs };
        let is_it = |pair: usize| usize::from(pairs[2 * pair].load(Ordering::Relaxed) == word) << pair;
        let found = is_it(0) | is_it(1) | is_it(2) | is_it(3) | 1 << 4;
        found.trailing_zeros() as usize
    }
}

/// Work that compares rows, to be compiled for each kind of vectors.
pub(crate) trait Task {
    type Output;

    /// Mark it `#[inline(always)]`, so that it is compiled for the vectors of its caller.
    fn run<V: Vectors>(self) -> Self::Output;
}

/// Does the work by the widest vectors that this processor has.
#[inline(always)]
pub(crate) fn run<T: Task>(task: T) -> T::Output {
    match widest() {
        // SAFETY: `widest` has found the features.
        #[cfg(target_arch = "x86_64")]
        Width::Avx512 => unsafe { run_avx512(task) },
        // SAFETY: `widest` has found the features.
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 => unsafe { run_avx2(task) },
        _ => task.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// What the work comes to by each kind of vectors that this processor has.
#[cfg(test)]
pub(crate) fn run_by_each<T: Task>(task: impl Fn() -> T) -> Vec<T::Output> {
    let mut outputs = vec![task().run::<Portable>()];
    #[cfg(target_arch = "x86_64")]
    {
        if ask_processor() >= Width::Avx2 {
            // SAFETY: the processor has it.
            outputs.push(unsafe { run_avx2(task()) });
        }
        if ask_processor() >= Width::Avx512 {
            // SAFETY: the processor has it.
            outputs.push(unsafe { run_avx512(task()) });
        }
    }
    outputs
}

/// A width of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Width {
    /// Whatever the target has at least.
    Portable = 1,
    /// [`Avx2`].
    Avx2 = 2,
    /// [`Avx512`].
    Avx512 = 3,
}

/// The widest that this processor has. Cost: a load; the processor is asked once.
#[inline(always)]
pub(crate) fn widest() -> Width {
    static WIDEST: AtomicU8 = AtomicU8::new(0);
    match WIDEST.load(Ordering::Relaxed) {
        3 => Width::Avx512,
        2 => Width::Avx2,
        1 => Width::Portable,
        _ => {
            let widest = ask_processor();
            WIDEST.store(widest as u8, Ordering::Relaxed);
            widest
        }
    }
}

#[cold]
fn ask_processor() -> Width {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::is_x86_feature_detected as has;
        let has_bits = has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
        if has_bits && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            return Width::Avx512;
        }
        if has_bits && has!("avx2") {
            return Width::Avx2;
        }
    }
    Width::Portable
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;
    use crate::arena::{LINE_WORDS, Line};
    use crate::packet::word;
    use proptest::prelude::*;

    /// Compares, and finds the least of what matches.
    struct Compare<'a, const L: usize> {
        columns: u16,
        block: &'a [Line],
        packet: &'a PacketFields,
        kind: u32,
        order: u64,
    }

    impl<const L: usize> Task for Compare<'_, L> {
        type Output = (u32, u32, [u32; 3]);
        #[inline(always)]
        fn run<V: Vectors>(self) -> (u32, u32, [u32; 3]) {
            let block = self.block.as_ptr().cast();
            // SAFETY: the test has made the block long enough.
            let matching = unsafe { V::compare::<L>(self.columns, block, self.packet, self.kind) };
            // SAFETY: as above.
            let four = V::matching::<4>(unsafe { V::apart::<4>(block) }, self.packet, self.kind) & 0xf;
            // SAFETY: as above.
            let eight = V::matching::<8>(unsafe { V::apart::<8>(block) }, self.packet, self.kind);
            // SAFETY: as above.
            let three = V::matching_three(unsafe { V::three(block) }, self.packet, self.kind);
            (matching, V::least(self.order, matching), [three, four, eight])
        }
    }

    /// Looks for a byte among 64.
    struct Look<'a> {
        some: u64,
        lines: &'a [Line; 2],
        byte: u8,
    }

    impl Task for Look<'_> {
        type Output = (u64, u64);
        #[inline(always)]
        fn run<V: Vectors>(self) -> (u64, u64) {
            let [lows, more] = self.lines.each_ref().map(|line| line.0.as_ptr().cast());
            // SAFETY: lines are 64 bytes.
            unsafe {
                (
                    V::equal(self.some, lows, self.byte),
                    V::within(self.some, lows, more, self.byte),
                )
            }
        }
    }

    /// Words of few values, the extreme ones among them, so that comparisons come out both ways.
    fn words(few: &[u8]) -> Vec<u32> {
        let some = [
            0,
            1,
            2,
            80,
            0xffff,
            0x1_0000,
            0x0050_0050,
            0x8000_0000,
            u32::MAX,
            0x2000_0000,
            0x00ff_f006,
        ];
        few.iter().map(|few| some[*few as usize % some.len()]).collect()
    }

    fn agree<const L: usize>(
        columns: u16,
        words: &[u32],
        packet: &PacketFields,
        (kind, order): (u32, u64),
    ) -> Result<(), TestCaseError> {
        let block: Vec<Line> = words
            .as_chunks::<LINE_WORDS>()
            .0
            .iter()
            .map(|line| Line(*line))
            .collect();
        let task = || Compare::<L> {
            columns,
            block: &block,
            packet,
            kind,
            order,
        };
        let expected = task().run::<Portable>();
        for found in run_by_each(task) {
            prop_assert_eq!(found, expected);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn all_widths_give_the_same_rows(
            packet in prop::collection::vec(0..11u8, word::COUNT),
            columns in any::<u16>(),
            more_columns in any::<u16>(),
            rows in prop::collection::vec(0..11u8, 33 * 16),
            kind in 0..0x1000u32,
            order in Just((0..16u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut fields = PacketFields([0; word::COUNT]);
            fields.0.copy_from_slice(&words(&packet));
            let rows = words(&rows);
            let order = order.iter().fold(0, |word, rank| word << 4 | rank);
            // Few columns, so that some rows match.
            let columns = (columns & more_columns).max(1);
            agree::<4>(columns, &rows, &fields, (kind, order))?;
            agree::<8>(columns, &rows, &fields, (kind, order))?;
            agree::<16>(columns, &rows, &fields, (kind, order))?;
        }

        #[test]
        fn all_widths_find_the_same_bytes(
            lows in prop::collection::vec(prop_oneof![any::<u8>(), 0..4u8], 64),
            more in prop::collection::vec(prop_oneof![any::<u8>(), 0..4u8, Just(255)], 64),
            (some, byte) in (prop_oneof![any::<u64>(), Just(u64::MAX)], prop_oneof![any::<u8>(), 0..4u8]),
        ) {
            let line = |bytes: &[u8]| {
                let mut words = bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
                Line(std::array::from_fn(|_| words.next().expect("sixteen words")))
            };
            let lines = [line(&lows), line(&more)];
            let bit = |is: &dyn Fn(usize) -> bool| (0..64).map(|at| u64::from(is(at)) << at).sum::<u64>() & some;
            let expected = (
                bit(&|at| lows[at] == byte),
                bit(&|at| byte.wrapping_sub(lows[at]) <= more[at]),
            );
            for found in run_by_each(|| Look { some, lines: &lines, byte }) {
                prop_assert_eq!(found, expected);
            }
        }
    }
}
