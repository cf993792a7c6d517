//! Comparing the rows of a chunk with a packet, by the widest vectors that the processor has.
//!
//! The three ways give the same results: the portable one is the definition, the others say it in instructions.

use crate::PacketFields;
use crate::packet::word;
use std::sync::atomic::{AtomicU8, Ordering};

/// A way to compare.
pub(crate) trait Vectors {
    /// Which rows of a chunk match, one bit each. `columns` names the packet words that are looked at; `lanes` holds
    /// for each of them the `a` and the `b` of every row (see [`crate::row`]).
    fn compare<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32;
}

/// The packet word of each pair of columns, and whether it is compared with a range.
#[inline(always)]
fn pairs<'l, const L: usize>(
    columns: u16,
    lanes: &'l [[u32; L]],
    packet: &PacketFields,
) -> impl Iterator<Item = (u32, bool, &'l [u32; L], &'l [u32; L])> {
    let mut left = columns;
    lanes.as_chunks::<2>().0.iter().map(move |[a, b]| {
        let w = left.trailing_zeros() as usize % word::COUNT;
        left &= left.wrapping_sub(1);
        (packet.0[w], word::RANGES >> w & 1 == 1, a, b)
    })
}

/// Plain loops.
pub(crate) struct Portable;

impl Vectors for Portable {
    #[inline(always)]
    fn compare<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32 {
        let mut misses = [0u32; L];
        for (p, is_range, a, b) in pairs(columns, lanes, packet) {
            for lane in 0..L {
                misses[lane] |= if is_range {
                    u32::from(p.wrapping_sub(a[lane]) > b[lane])
                } else {
                    (p ^ a[lane]) & b[lane]
                };
            }
        }
        (0..L).fold(0, |set, lane| set | u32::from(misses[lane] == 0) << lane)
    }
}

/// Eight rows at a time. Only for code that is compiled for AVX2, and run where it is.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Vectors for Avx2 {
    #[inline(always)]
    fn compare<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32 {
        use std::arch::x86_64::*;
        const { assert!(L == 4 || L == 8 || L == 16) };
        // SAFETY: AVX2 is there, says the type; each load is of 4 or 8 lanes that the arrays have.
        unsafe {
            if L == 4 {
                let mut hits = _mm_set1_epi32(-1);
                for (p, is_range, a, b) in pairs(columns, lanes, packet) {
                    let p = _mm_set1_epi32(p as i32);
                    let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
                    let hit = if is_range {
                        _mm_cmpeq_epi32(_mm_max_epu32(_mm_sub_epi32(p, a), b), b)
                    } else {
                        _mm_cmpeq_epi32(_mm_and_si128(_mm_xor_si128(p, a), b), _mm_setzero_si128())
                    };
                    hits = _mm_and_si128(hits, hit);
                }
                return _mm_movemask_ps(_mm_castsi128_ps(hits)) as u32;
            }
            let mut set = 0;
            for half in 0..L / 8 {
                let mut hits = _mm256_set1_epi32(-1);
                for (p, is_range, a, b) in pairs(columns, lanes, packet) {
                    let p = _mm256_set1_epi32(p as i32);
                    let a = _mm256_loadu_si256(a.as_ptr().add(8 * half).cast());
                    let b = _mm256_loadu_si256(b.as_ptr().add(8 * half).cast());
                    let hit = if is_range {
                        _mm256_cmpeq_epi32(_mm256_max_epu32(_mm256_sub_epi32(p, a), b), b)
                    } else {
                        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_xor_si256(p, a), b), _mm256_setzero_si256())
                    };
                    hits = _mm256_and_si256(hits, hit);
                }
                set |= (_mm256_movemask_ps(_mm256_castsi256_ps(hits)) as u32) << (8 * half);
            }
            set
        }
    }
}

/// All rows of a chunk at a time. Only for code that is compiled for AVX-512 F, BW, DQ and VL, and run where they are.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Vectors for Avx512 {
    #[inline(always)]
    fn compare<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32 {
        use std::arch::x86_64::*;
        const { assert!(L == 4 || L == 8 || L == 16) };
        // SAFETY: AVX-512 is there, says the type; each load is of `L` lanes.
        unsafe {
            match L {
                4 => {
                    let mut hits: __mmask8 = 0b1111;
                    for (p, is_range, a, b) in pairs(columns, lanes, packet) {
                        let p = _mm_set1_epi32(p as i32);
                        let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
                        hits = if is_range {
                            _mm_mask_cmple_epu32_mask(hits, _mm_sub_epi32(p, a), b)
                        } else {
                            _mm_mask_testn_epi32_mask(hits, _mm_xor_si128(p, a), b)
                        };
                    }
                    u32::from(hits)
                }
                8 => {
                    let mut hits: __mmask8 = !0;
                    for (p, is_range, a, b) in pairs(columns, lanes, packet) {
                        let p = _mm256_set1_epi32(p as i32);
                        let (a, b) = (
                            _mm256_loadu_si256(a.as_ptr().cast()),
                            _mm256_loadu_si256(b.as_ptr().cast()),
                        );
                        hits = if is_range {
                            _mm256_mask_cmple_epu32_mask(hits, _mm256_sub_epi32(p, a), b)
                        } else {
                            _mm256_mask_testn_epi32_mask(hits, _mm256_xor_si256(p, a), b)
                        };
                    }
                    u32::from(hits)
                }
                _ => {
                    let mut hits: __mmask16 = !0;
                    for (p, is_range, a, b) in pairs(columns, lanes, packet) {
                        let p = _mm512_set1_epi32(p as i32);
                        let (a, b) = (
                            _mm512_loadu_si512(a.as_ptr().cast()),
                            _mm512_loadu_si512(b.as_ptr().cast()),
                        );
                        hits = if is_range {
                            _mm512_mask_cmple_epu32_mask(hits, _mm512_sub_epi32(p, a), b)
                        } else {
                            _mm512_mask_testn_epi32_mask(hits, _mm512_xor_si512(p, a), b)
                        };
                    }
                    u32::from(hits)
                }
            }
        }
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

/// A width of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Width {
    /// Whatever the target has at least.
    Portable = 1,
    /// [`Avx2`].
    Avx2 = 2,
    /// [`Avx512`].
    Avx512 = 3,
}

/// The widest that this processor has. Cost: a load; the processor is asked once.
#[inline(always)]
fn widest() -> Width {
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
    use proptest::prelude::*;

    #[target_feature(enable = "avx2")]
    fn avx2<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32 {
        Avx2::compare(columns, lanes, packet)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512<const L: usize>(columns: u16, lanes: &[[u32; L]], packet: &PacketFields) -> u32 {
        Avx512::compare(columns, lanes, packet)
    }

    /// Words of few values, the extreme ones among them, so that comparisons come out both ways.
    fn words(few: &[u8]) -> Vec<u32> {
        few.iter()
            .map(|few| [0, 1, 2, 80, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX][*few as usize % 9])
            .collect()
    }

    fn agree<const L: usize>(columns: u16, words: &[u32], packet: &PacketFields) -> Result<(), TestCaseError> {
        let lanes = &words.as_chunks::<L>().0[..2 * columns.count_ones() as usize];
        let expected = Portable::compare(columns, lanes, packet);
        if ask_processor() >= Width::Avx2 {
            // SAFETY: the processor has it.
            prop_assert_eq!(unsafe { avx2(columns, lanes, packet) }, expected);
        }
        if ask_processor() >= Width::Avx512 {
            // SAFETY: the processor has it.
            prop_assert_eq!(unsafe { avx512(columns, lanes, packet) }, expected);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn all_widths_give_the_same_rows(
            packet in prop::collection::vec(0..9u8, word::COUNT),
            columns in any::<u16>(),
            more_columns in any::<u16>(),
            rows in prop::collection::vec(0..9u8, 2 * 16 * 16),
        ) {
            let mut fields = PacketFields([0; word::COUNT]);
            fields.0.copy_from_slice(&words(&packet));
            let rows = words(&rows);
            // Few columns, so that some rows match.
            let columns = columns & more_columns;
            agree::<4>(columns, &rows, &fields)?;
            agree::<8>(columns, &rows, &fields)?;
            agree::<16>(columns, &rows, &fields)?;
        }
    }
}
