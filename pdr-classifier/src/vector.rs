//! Comparing a block of rows with a packet, by the widest vectors that the processor has.
//!
//! The three ways give the same results: the portable one is the definition, the others say it in instructions.

use crate::PacketFields;
use crate::block::generic;
use crate::order;
use crate::packet::word;
use crate::row::{COMPACT, Compact, agrees};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

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

    /// Of the rows in `matching`, the one of least rank: see [`order`].
    fn least(order: u64, matching: u32) -> u32;

    #[cfg_attr(loom, allow(dead_code, reason = "vectors see nothing of loom's atomics"))]
    /// Which of the first words of four pairs is `word`; 4: none. A hint: other threads may be writing there.
    fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize;
}

/// [`Vectors::find_even`] word by word.
#[cfg_attr(loom, allow(dead_code, reason = "as above"))]
#[inline(always)]
fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize {
    // SAFETY: the caller's bucket.
    let pairs = unsafe { &*pairs };
    let is_it = |pair: usize| usize::from(pairs[2 * pair].load(Ordering::Relaxed) == word) << pair;
    let found = is_it(0) | is_it(1) | is_it(2) | is_it(3) | 1 << 4;
    found.trailing_zeros() as usize
}

/// Which of 64 bytes are not zero but 1, one bit each. (Eight at a time: a product has the bits of its bytes on top.)
#[inline(always)]
fn bits_of(ones: [u8; 64]) -> u64 {
    let eight = |set: u64, (at, bytes): (usize, &[u8; 8])| {
        let bits = u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        set | bits << (8 * at)
    };
    ones.as_chunks().0.iter().enumerate().fold(0, eight)
}

/// Plain loops.
pub(crate) struct Portable;

impl Vectors for Portable {
    #[inline(always)]
    unsafe fn compare<const L: usize>(columns: u16, block: *const u32, packet: &PacketFields, kind: u32) -> u32 {
        let mut set = (1u32 << L) - 1;
        let mut at = block;
        // SAFETY: `L` words for each lane that the columns have, says the caller.
        let lane = |at: *const u32| unsafe { &*at.cast::<[u32; L]>() };
        if columns & COMPACT != 0 {
            let [remote, kinds, ports] = [0, 1, 2].map(|i| lane(at.wrapping_add(i * L)));
            for i in 0..L {
                let row = Compact {
                    remote: remote[i],
                    kind: kinds[i],
                    ports: ports[i],
                };
                set &= !(u32::from(!row.agrees(packet, kind)) << i);
            }
            at = at.wrapping_add(3 * L);
        }
        for w in generic(columns) {
            let [a, b] = [0, 1].map(|i| lane(at.wrapping_add(i * L)));
            for i in 0..L {
                set &= !(u32::from(!agrees(packet, w, [a[i], b[i]])) << i);
            }
            at = at.wrapping_add(2 * L);
        }
        set
    }

    type Apart<const L: usize> = [Compact; L];

    #[inline(always)]
    unsafe fn apart<const L: usize>(block: *const u32) -> [Compact; L] {
        // SAFETY: three times `L` words, says the caller.
        let [remote, kinds, ports] = unsafe { &*block.cast::<[[u32; L]; 3]>() };
        std::array::from_fn(|i| Compact {
            remote: remote[i],
            kind: kinds[i],
            ports: ports[i],
        })
    }

    type Three = [Compact; 4];

    #[inline(always)]
    unsafe fn three(rows: *const u32) -> [Compact; 4] {
        // SAFETY: ten words, says the caller. The fourth row is made of what comes next.
        let [remote, kinds, ports] = [0, 3, 6].map(|at| unsafe { rows.add(at).cast::<[u32; 4]>().read() });
        std::array::from_fn(|i| Compact {
            remote: remote[i],
            kind: kinds[i],
            ports: ports[i],
        })
    }

    #[inline(always)]
    fn matching_three(rows: [Compact; 4], packet: &PacketFields, kind: u32) -> u32 {
        Self::matching::<4>(rows, packet, kind) & 0b111
    }

    #[inline(always)]
    fn matching<const L: usize>(rows: [Compact; L], packet: &PacketFields, kind: u32) -> u32 {
        let bit = |(i, row): (usize, &Compact)| u32::from(row.agrees(packet, kind)) << i;
        rows.iter().enumerate().map(bit).sum()
    }

    #[inline(always)]
    unsafe fn equal(some: u64, bytes: *const [u8; 64], byte: u8) -> u64 {
        // SAFETY: the caller's word.
        some & bits_of(unsafe { &*bytes }.map(|of| u8::from(of == byte)))
    }

    #[inline(always)]
    unsafe fn within(some: u64, lows: *const [u8; 64], more: *const [u8; 64], byte: u8) -> u64 {
        // SAFETY: the caller's word.
        let (lows, more) = unsafe { (&*lows, &*more) };
        let mut ones = [0; 64];
        for (one, (low, more)) in ones.iter_mut().zip(lows.iter().zip(more)) {
            *one = u8::from(byte.wrapping_sub(*low) <= *more);
        }
        some & bits_of(ones)
    }

    #[inline(always)]
    fn least(order: u64, matching: u32) -> u32 {
        order::least(order, matching)
    }

    #[inline(always)]
    fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize {
        find_even(pairs, word)
    }
}

/// Eight rows of the compact form, or four and nothing, each part of them in eight lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Apart {
    remote: std::arch::x86_64::__m256i,
    mask: std::arch::x86_64::__m256i,
    kinds: std::arch::x86_64::__m256i,
    asked: std::arch::x86_64::__m256i,
    low: std::arch::x86_64::__m256i,
    span: std::arch::x86_64::__m256i,
}

#[cfg(target_arch = "x86_64")]
impl Apart {
    /// # Safety
    /// As for [`Vectors::apart`], and AVX2 is there.
    #[inline(always)]
    unsafe fn of<const L: usize>(block: *const u32) -> Self {
        use std::arch::x86_64::*;
        const { assert!(L == 4 || L == 8) };
        // SAFETY: the caller's word; three loads of `L` words each.
        unsafe {
            let load = |part: usize| {
                let at = block.add(part * L);
                if L == 8 {
                    _mm256_load_si256(at.cast())
                } else {
                    _mm256_zextsi128_si256(_mm_load_si128(at.cast()))
                }
            };
            Self::of_parts(load(0), load(1), load(2))
        }
    }

    /// Three rows, and a fourth that means nothing.
    ///
    /// # Safety
    /// As for [`Vectors::three`], and AVX2 is there.
    #[inline(always)]
    unsafe fn of_three(rows: *const u32) -> Self {
        use std::arch::x86_64::*;
        // SAFETY: the caller's word; three loads of four of ten words.
        unsafe {
            let load = |part: usize| _mm256_zextsi128_si256(_mm_loadu_si128(rows.add(3 * part).cast()));
            Self::of_parts(load(0), load(1), load(2))
        }
    }

    /// Of the rows' words: remote ends, kinds, ports.
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    unsafe fn of_parts(
        remote: std::arch::x86_64::__m256i,
        kinds: std::arch::x86_64::__m256i,
        ports: std::arch::x86_64::__m256i,
    ) -> Self {
        use std::arch::x86_64::*;
        // SAFETY: the caller's word.
        unsafe {
            let low = _mm256_and_si256(ports, _mm256_set1_epi32(0xffff));
            Self {
                remote,
                mask: _mm256_sllv_epi32(_mm256_set1_epi32(-1), _mm256_srli_epi32(kinds, 24)),
                kinds,
                asked: _mm256_and_si256(_mm256_srli_epi32(kinds, 12), _mm256_set1_epi32(0xfff)),
                low,
                span: _mm256_sub_epi32(_mm256_srli_epi32(ports, 16), low),
            }
        }
    }
}

/// How [`Apart`] serves both kinds of vectors of x86-64: AVX-512 has AVX2, and differs in comparing only.
#[cfg(target_arch = "x86_64")]
macro_rules! rows_in_registers {
    () => {
        type Apart<const L: usize> = Apart;

        #[inline(always)]
        unsafe fn apart<const L: usize>(block: *const u32) -> Apart {
            // SAFETY: the caller's word, and AVX2 is there, says the type.
            unsafe { Apart::of::<L>(block) }
        }

        type Three = Apart;

        #[inline(always)]
        unsafe fn three(rows: *const u32) -> Apart {
            // SAFETY: the caller's word, and the type's.
            unsafe { Apart::of_three(rows) }
        }

        #[inline(always)]
        fn matching_three(rows: Apart, packet: &PacketFields, kind: u32) -> u32 {
            Self::matching::<4>(rows, packet, kind) & 0b111
        }
    };
}

/// Eight rows at a time. Only for code that is compiled for AVX2, and run where it is.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Vectors for Avx2 {
    #[inline(always)]
    unsafe fn compare<const L: usize>(columns: u16, block: *const u32, packet: &PacketFields, kind: u32) -> u32 {
        use std::arch::x86_64::*;
        const { assert!(L == 4 || L == 8 || L == 16) };
        let word = |w: usize| packet.0[w] as i32;
        // SAFETY: AVX2 is there, says the type; each load is of 4 or 8 of the `L` words of a lane, says the caller.
        unsafe {
            if L == 4 {
                let mut at = block.cast::<__m128i>();
                let mut hits = _mm_set1_epi32(-1);
                if columns & COMPACT != 0 {
                    let (remote, kinds, ports) =
                        (_mm_load_si128(at), _mm_load_si128(at.add(1)), _mm_load_si128(at.add(2)));
                    let mask = _mm_sllv_epi32(_mm_set1_epi32(-1), _mm_srli_epi32(kinds, 24));
                    let differs = _mm_and_si128(_mm_xor_si128(_mm_set1_epi32(word(word::REMOTE)), remote), mask);
                    let other = _mm_and_si128(
                        _mm_xor_si128(_mm_set1_epi32(kind as i32), kinds),
                        _mm_srli_epi32(kinds, 12),
                    );
                    let other = _mm_and_si128(other, _mm_set1_epi32(0xfff));
                    let low = _mm_and_si128(ports, _mm_set1_epi32(0xffff));
                    let span = _mm_sub_epi32(_mm_srli_epi32(ports, 16), low);
                    let port = _mm_sub_epi32(_mm_set1_epi32(word(word::REMOTE_PORT)), low);
                    let agree = _mm_cmpeq_epi32(_mm_or_si128(differs, other), _mm_setzero_si128());
                    hits = _mm_and_si128(agree, _mm_cmpeq_epi32(_mm_max_epu32(port, span), span));
                    at = at.add(3);
                }
                for w in generic(columns) {
                    let (p, a, b) = (_mm_set1_epi32(word(w)), _mm_load_si128(at), _mm_load_si128(at.add(1)));
                    let hit = if word::RANGES >> w & 1 == 1 {
                        _mm_cmpeq_epi32(_mm_max_epu32(_mm_sub_epi32(p, a), b), b)
                    } else {
                        _mm_cmpeq_epi32(_mm_and_si128(_mm_xor_si128(p, a), b), _mm_setzero_si128())
                    };
                    hits = _mm_and_si128(hits, hit);
                    at = at.add(2);
                }
                return _mm_movemask_ps(_mm_castsi128_ps(hits)) as u32;
            }
            let mut set = 0;
            for half in 0..L / 8 {
                let mut at = block.add(8 * half);
                let load = |at: *const u32| _mm256_load_si256(at.cast());
                let mut hits = _mm256_set1_epi32(-1);
                if columns & COMPACT != 0 {
                    let (remote, kinds, ports) = (load(at), load(at.add(L)), load(at.add(2 * L)));
                    let mask = _mm256_sllv_epi32(_mm256_set1_epi32(-1), _mm256_srli_epi32(kinds, 24));
                    let differs =
                        _mm256_and_si256(_mm256_xor_si256(_mm256_set1_epi32(word(word::REMOTE)), remote), mask);
                    let other = _mm256_xor_si256(_mm256_set1_epi32(kind as i32), kinds);
                    let other = _mm256_and_si256(other, _mm256_srli_epi32(kinds, 12));
                    let other = _mm256_and_si256(other, _mm256_set1_epi32(0xfff));
                    let low = _mm256_and_si256(ports, _mm256_set1_epi32(0xffff));
                    let span = _mm256_sub_epi32(_mm256_srli_epi32(ports, 16), low);
                    let port = _mm256_sub_epi32(_mm256_set1_epi32(word(word::REMOTE_PORT)), low);
                    let agree = _mm256_cmpeq_epi32(_mm256_or_si256(differs, other), _mm256_setzero_si256());
                    hits = _mm256_and_si256(agree, _mm256_cmpeq_epi32(_mm256_max_epu32(port, span), span));
                    at = at.add(3 * L);
                }
                for w in generic(columns) {
                    let (p, a, b) = (_mm256_set1_epi32(word(w)), load(at), load(at.add(L)));
                    let hit = if word::RANGES >> w & 1 == 1 {
                        _mm256_cmpeq_epi32(_mm256_max_epu32(_mm256_sub_epi32(p, a), b), b)
                    } else {
                        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_xor_si256(p, a), b), _mm256_setzero_si256())
                    };
                    hits = _mm256_and_si256(hits, hit);
                    at = at.add(2 * L);
                }
                set |= (_mm256_movemask_ps(_mm256_castsi256_ps(hits)) as u32) << (8 * half);
            }
            set
        }
    }

    rows_in_registers!();

    #[inline(always)]
    fn matching<const L: usize>(rows: Apart, packet: &PacketFields, kind: u32) -> u32 {
        use std::arch::x86_64::*;
        let word = |w: usize| packet.0[w] as i32;
        // SAFETY: AVX2 is there, says the type.
        unsafe {
            let differs = _mm256_xor_si256(_mm256_set1_epi32(word(word::REMOTE)), rows.remote);
            let other = _mm256_xor_si256(_mm256_set1_epi32(kind as i32), rows.kinds);
            let port = _mm256_sub_epi32(_mm256_set1_epi32(word(word::REMOTE_PORT)), rows.low);
            let (differs, other) = (
                _mm256_and_si256(differs, rows.mask),
                _mm256_and_si256(other, rows.asked),
            );
            let agree = _mm256_cmpeq_epi32(_mm256_or_si256(differs, other), _mm256_setzero_si256());
            let is_in = _mm256_cmpeq_epi32(_mm256_max_epu32(port, rows.span), rows.span);
            _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_and_si256(agree, is_in))) as u32
        }
    }

    #[inline(always)]
    unsafe fn equal(some: u64, bytes: *const [u8; 64], byte: u8) -> u64 {
        use std::arch::x86_64::*;
        // SAFETY: AVX2 is there, says the type; two loads of 32 of 64 bytes.
        unsafe {
            let (bytes, byte) = (bytes.cast::<__m256i>(), _mm256_set1_epi8(byte as i8));
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_load_si256(bytes), byte));
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_load_si256(bytes.add(1)), byte));
            some & (u64::from(low as u32) | u64::from(high as u32) << 32)
        }
    }

    #[inline(always)]
    unsafe fn within(some: u64, lows: *const [u8; 64], more: *const [u8; 64], byte: u8) -> u64 {
        use std::arch::x86_64::*;
        // SAFETY: AVX2 is there, says the type; two loads each of 32 of 64 bytes.
        unsafe {
            let mut set = 0u64;
            for half in 0..2 {
                let low = _mm256_load_si256(lows.cast::<__m256i>().add(half));
                let more = _mm256_load_si256(more.cast::<__m256i>().add(half));
                let above = _mm256_sub_epi8(_mm256_set1_epi8(byte as i8), low);
                let is_in = _mm256_cmpeq_epi8(_mm256_max_epu8(above, more), more);
                set |= u64::from(_mm256_movemask_epi8(is_in) as u32) << (32 * half);
            }
            some & set
        }
    }

    #[inline(always)]
    fn least(order: u64, matching: u32) -> u32 {
        order::least(order, matching)
    }

    #[inline(always)]
    fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize {
        find_even(pairs, word)
    }
}

/// All rows of a block at a time. Only for code that is compiled for AVX-512 F, BW, DQ and VL, and run where they are.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

/// The body of [`Avx512::compare`] for one width.
#[cfg(target_arch = "x86_64")]
macro_rules! compare_avx512 {
    ($columns:ident, $block:ident, $packet:ident, $kind:ident, $lanes:ty: $load:ident $set1:ident $srli:ident $sllv:ident
     $xor:ident $and:ident $sub:ident $testn:ident $mask_testn:ident $mask_cmple:ident) => {{
        let word = |w: usize| $packet.0[w] as i32;
        let mut at = $block.cast::<$lanes>();
        let mut hits = !0;
        if $columns & COMPACT != 0 {
            let (remote, kinds, ports) = ($load(at.cast()), $load(at.add(1).cast()), $load(at.add(2).cast()));
            let mask = $sllv($set1(-1), $srli(kinds, 24));
            hits = $testn($xor($set1(word(word::REMOTE)), remote), mask);
            let other = $and($xor($set1($kind as i32), kinds), $set1(0xfff));
            hits = $mask_testn(hits, other, $srli(kinds, 12));
            let low = $and(ports, $set1(0xffff));
            let span = $sub($srli(ports, 16), low);
            hits = $mask_cmple(hits, $sub($set1(word(word::REMOTE_PORT)), low), span);
            at = at.add(3);
        }
        for w in generic($columns) {
            let (p, a, b) = ($set1(word(w)), $load(at.cast()), $load(at.add(1).cast()));
            hits = if word::RANGES >> w & 1 == 1 {
                $mask_cmple(hits, $sub(p, a), b)
            } else {
                $mask_testn(hits, $xor(p, a), b)
            };
            at = at.add(2);
        }
        u32::from(hits)
    }};
}

#[cfg(target_arch = "x86_64")]
impl Vectors for Avx512 {
    #[inline(always)]
    unsafe fn compare<const L: usize>(columns: u16, block: *const u32, packet: &PacketFields, kind: u32) -> u32 {
        use std::arch::x86_64::*;
        const { assert!(L == 4 || L == 8 || L == 16) };
        // SAFETY: AVX-512 is there, says the type; each load is of the `L` words of a lane, says the caller.
        unsafe {
            match L {
                4 => {
                    compare_avx512!(columns, block, packet, kind, __m128i: _mm_load_si128 _mm_set1_epi32 _mm_srli_epi32
                    _mm_sllv_epi32 _mm_xor_si128 _mm_and_si128 _mm_sub_epi32 _mm_testn_epi32_mask
                    _mm_mask_testn_epi32_mask _mm_mask_cmple_epu32_mask)
                }
                8 => compare_avx512!(columns, block, packet, kind, __m256i: _mm256_load_si256 _mm256_set1_epi32
                    _mm256_srli_epi32 _mm256_sllv_epi32 _mm256_xor_si256 _mm256_and_si256 _mm256_sub_epi32
                    _mm256_testn_epi32_mask _mm256_mask_testn_epi32_mask _mm256_mask_cmple_epu32_mask),
                _ => compare_avx512!(columns, block, packet, kind, __m512i: _mm512_load_si512 _mm512_set1_epi32
                    _mm512_srli_epi32 _mm512_sllv_epi32 _mm512_xor_si512 _mm512_and_si512 _mm512_sub_epi32
                    _mm512_testn_epi32_mask _mm512_mask_testn_epi32_mask _mm512_mask_cmple_epu32_mask),
            }
        }
    }

    rows_in_registers!();

    #[inline(always)]
    fn matching<const L: usize>(rows: Apart, packet: &PacketFields, kind: u32) -> u32 {
        use std::arch::x86_64::*;
        let word = |w: usize| packet.0[w] as i32;
        // SAFETY: AVX-512 is there, says the type.
        unsafe {
            let differs = _mm256_xor_si256(_mm256_set1_epi32(word(word::REMOTE)), rows.remote);
            let other = _mm256_xor_si256(_mm256_set1_epi32(kind as i32), rows.kinds);
            let port = _mm256_sub_epi32(_mm256_set1_epi32(word(word::REMOTE_PORT)), rows.low);
            let hits = _mm256_testn_epi32_mask(differs, rows.mask);
            let hits = _mm256_mask_testn_epi32_mask(hits, other, rows.asked);
            u32::from(_mm256_mask_cmple_epu32_mask(hits, port, rows.span))
        }
    }

    #[inline(always)]
    unsafe fn equal(some: u64, bytes: *const [u8; 64], byte: u8) -> u64 {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, says the type; one load of 64 bytes.
        unsafe { _mm512_mask_cmpeq_epi8_mask(some, _mm512_load_si512(bytes.cast()), _mm512_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    unsafe fn within(some: u64, lows: *const [u8; 64], more: *const [u8; 64], byte: u8) -> u64 {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, says the type; two loads of 64 bytes.
        unsafe {
            let above = _mm512_sub_epi8(_mm512_set1_epi8(byte as i8), _mm512_load_si512(lows.cast()));
            _mm512_mask_cmple_epu8_mask(some, above, _mm512_load_si512(more.cast()))
        }
    }

    /// Each row's rank goes above its number in a byte, bytes that do not match become the greatest, and the least
    /// of sixteen is found at once.
    #[inline(always)]
    fn least(order: u64, matching: u32) -> u32 {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, says the type.
        unsafe {
            let pairs = _mm_cvtsi64_si128(order as i64);
            let (even, odd) = (_mm_slli_epi16(pairs, 4), pairs);
            let ranks = _mm_and_si128(_mm_unpacklo_epi8(even, odd), _mm_set1_epi8(0xf0u8 as i8));
            let rows = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let candidates = _mm_mask_mov_epi8(_mm_set1_epi8(-1), matching as __mmask16, _mm_or_si128(ranks, rows));
            let least = _mm_minpos_epu16(_mm_min_epu8(candidates, _mm_srli_epi16(candidates, 8)));
            let row = _mm_cvtsi128_si32(least) as u32 & 0xf;
            if matching as u16 == 0 { order::NOTHING } else { row }
        }
    }

    /// One load of the whole line, which the compiler neither repeats nor splits: it may be written to meanwhile, word by
    /// word, and what comes out is a hint.
    #[inline(always)]
    fn find_even(pairs: *const [AtomicU64; 8], word: u64) -> usize {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, says the type; a bucket is a line, aligned to 64 bytes.
        unsafe {
            let line = pairs.cast::<__m512i>().read_volatile();
            let equal = u32::from(_mm512_mask_cmpeq_epi64_mask(0x55, line, _mm512_set1_epi64(word as i64)));
            ((equal | 0x100).trailing_zeros() / 2) as usize
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
