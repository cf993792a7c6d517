//! Comparing by the vectors of x86-64: AVX2 and AVX-512.

use super::Vectors;
use crate::PacketFields;
use crate::block::generic;
use crate::order;
use crate::packet::word;
use crate::row::COMPACT;
use std::arch::x86_64::__m256i;
use std::sync::atomic::AtomicU64;

/// Eight rows of the compact form, or four and nothing, each part of them in eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Apart {
    remote: __m256i,
    mask: __m256i,
    kinds: __m256i,
    asked: __m256i,
    low: __m256i,
    span: __m256i,
}

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
    unsafe fn of_parts(remote: __m256i, kinds: __m256i, ports: __m256i) -> Self {
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

    /// In which bits of its remote end and its kind a packet differs from each row, and how far its port is above the lowest.
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    unsafe fn beside(self, packet: &PacketFields, kind: u32) -> (__m256i, __m256i, __m256i) {
        use std::arch::x86_64::*;
        let word = |w: usize| packet.0[w] as i32;
        // SAFETY: the caller's word.
        unsafe {
            (
                _mm256_xor_si256(_mm256_set1_epi32(word(word::REMOTE)), self.remote),
                _mm256_xor_si256(_mm256_set1_epi32(kind as i32), self.kinds),
                _mm256_sub_epi32(_mm256_set1_epi32(word(word::REMOTE_PORT)), self.low),
            )
        }
    }
}

/// How [`Apart`] serves both kinds of vectors of x86-64: AVX-512 has AVX2, and differs in comparing only.
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
pub(crate) struct Avx2;

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
        // SAFETY: AVX2 is there, says the type.
        unsafe {
            let (differs, other, port) = rows.beside(packet, kind);
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
}

/// All rows of a block at a time. Only for code that is compiled for AVX-512 F, BW, DQ and VL, and run where they are.
pub(crate) struct Avx512;

/// The body of [`Avx512::compare`] for one width.
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
        // SAFETY: AVX-512 is there, says the type.
        unsafe {
            let (differs, other, port) = rows.beside(packet, kind);
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
