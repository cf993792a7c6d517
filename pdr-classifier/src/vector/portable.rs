//! Comparing in plain words: the definition of what the other ways do.

use super::Vectors;
use crate::PacketFields;
use crate::block::generic;
use crate::row::{COMPACT, Compact, agrees};

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
}
