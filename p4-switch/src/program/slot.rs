//! Where a value of up to 64 bits stands in the packet state, and how it is read and written.
//!
//! The packet state (PHV) is one flat byte array. Headers stand in it in network format, so that extracting and
//! deparsing are copies; each metadata field has a big-endian cell of eight bytes. Every access is the same few
//! instructions: load eight bytes, turn them round, shift left and right. Fields of one header that lie in the same eight
//! bytes use the same window, so that a store and a later load meet at the same address, which the processor forwards
//! without a stall.

/// Bytes at the end of the packet state that no field uses: a window may reach into them.
pub(crate) const PADDING: usize = 32;

/// A value of 1 to 64 bits at a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// First byte of the window.
    offset: u32,
    /// Bits of the window before the value.
    before: u8,
    /// Bits of the window that are not the value's.
    others: u8,
    /// Nothing else is in the window: the rest of it is zero.
    alone: bool,
}

/// The eight bytes, big endian, in which a slot's value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// First byte.
    pub(crate) offset: u32,
    /// Bits before the value.
    pub(crate) before: u8,
    /// Bits that are not the value's.
    pub(crate) others: u8,
    /// Nothing else is in the window: the rest of it is zero.
    pub(crate) alone: bool,
}

impl Window {
    /// All ones where the value stands.
    pub(crate) fn mask(self) -> u64 {
        (u64::MAX >> self.others) << (self.others - self.before)
    }
}

impl Slot {
    pub(crate) fn window(self) -> Window {
        Window {
            offset: self.offset,
            before: self.before,
            others: self.others,
            alone: self.alone,
        }
    }

    /// The `width` bits that begin at bit `bit` of the packet state, counted from the most significant bit of its first
    /// byte; `base` is the first byte of the header. None if they reach over nine bytes.
    pub(crate) fn in_header(base: usize, bit: usize, width: usize) -> Option<Self> {
        debug_assert!((1..=64).contains(&width));
        let aligned = base + (bit - base * 8) / 64 * 8;
        let offset = if bit + width <= aligned * 8 + 64 {
            aligned
        } else {
            bit / 8
        };
        let before = bit - offset * 8;
        (before + width <= 64).then_some(Self {
            offset: offset as u32,
            before: before as u8,
            others: (64 - width) as u8,
            alone: false,
        })
    }

    /// A cell of eight bytes with the value at its end.
    pub(crate) fn cell(offset: usize, width: usize) -> Self {
        Self {
            offset: offset as u32,
            before: 64 - width as u8,
            others: 64 - width as u8,
            alone: true,
        }
    }

    /// Width in bits.
    pub(crate) fn width(self) -> usize {
        64 - self.others as usize
    }

    /// All ones under the slot's width.
    #[inline(always)]
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> self.others
    }

    /// First bit, and the bit after the last.
    pub(crate) fn bits(self) -> (usize, usize) {
        let begin = self.offset as usize * 8 + self.before as usize;
        (begin, begin + self.width())
    }

    /// Whether its bits are all in these bytes.
    pub(crate) fn is_within(self, bytes: &std::ops::Range<usize>) -> bool {
        let (begin, end) = self.bits();
        begin >= bytes.start * 8 && end <= bytes.end * 8
    }

    /// Whether any of its bits are in these bytes.
    pub(crate) fn touches(self, bytes: &std::ops::Range<usize>) -> bool {
        let (begin, end) = self.bits();
        begin < bytes.end * 8 && bytes.start * 8 < end
    }

    /// Whether the two have bits in common.
    pub(crate) fn overlaps(self, other: Slot) -> bool {
        let ((a, b), (c, d)) = (self.bits(), other.bits());
        a < d && c < b
    }

    /// The same slot `bytes` bytes further on.
    #[inline(always)]
    pub(crate) fn moved(self, bytes: usize) -> Self {
        Self {
            offset: self.offset + bytes as u32,
            ..self
        }
    }

    /// Reads.
    #[inline(always)]
    pub(crate) fn load(self, phv: &[u8]) -> u64 {
        (window(phv, self.offset as usize) << self.before) >> self.others
    }

    /// Writes the low bits of `value`.
    #[inline(always)]
    pub(crate) fn store(self, phv: &mut [u8], value: u64) {
        if self.alone {
            return put(phv, self.offset as usize, value & self.mask());
        }
        let shift = self.others - self.before;
        let mask = self.mask() << shift;
        let old = window(phv, self.offset as usize);
        let new = (old & !mask) | ((value << shift) & mask);
        put(phv, self.offset as usize, new);
    }
}

#[inline(always)]
fn window(phv: &[u8], at: usize) -> u64 {
    debug_assert!(at + 8 <= phv.len());
    // SAFETY: the layout made this slot: it lies in the packet state, which has the layout's length and ends with more
    // than a window of padding. A slot that is moved stays within its stack, for indices are checked.
    let bytes = unsafe { phv.as_ptr().add(at).cast::<[u8; 8]>().read() };
    u64::from_be_bytes(bytes)
}

#[inline(always)]
fn put(phv: &mut [u8], at: usize, value: u64) {
    debug_assert!(at + 8 <= phv.len());
    // SAFETY: as for `window`.
    unsafe { phv.as_mut_ptr().add(at).cast::<[u8; 8]>().write(value.to_be_bytes()) };
}

/// A value of any width at a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    /// First bit, counted as in [`Slot::in_header`].
    pub(crate) bit: u32,
    /// Width in bits.
    pub(crate) width: u32,
}

/// Up to 64 bits anywhere: one window, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    high: Option<Slot>,
    low: Slot,
}

impl From<Slot> for Chunk {
    fn from(low: Slot) -> Self {
        Chunk { high: None, low }
    }
}

impl Chunk {
    fn new(bit: usize, width: usize) -> Self {
        let whole = |bit: usize, width: usize| Slot::in_header(bit / 8, bit, width);
        match whole(bit, width) {
            Some(low) => Chunk { high: None, low },
            // 57 bits or more: the low 32 fit into a window, and so does the rest.
            None => {
                let slot = |bit, width| {
                    whole(bit, width).unwrap_or(Slot {
                        offset: 0,
                        before: 0,
                        others: 63,
                        alone: false,
                    })
                };
                Chunk {
                    high: Some(slot(bit, width - 32)),
                    low: slot(bit + width - 32, 32),
                }
            }
        }
    }

    /// The high bits, if they have a window of their own, and the low ones: all, or the low 32.
    pub(crate) fn slots(self) -> (Option<Slot>, Slot) {
        (self.high, self.low)
    }

    fn width(self) -> usize {
        self.low.width() + self.high.map_or(0, Slot::width)
    }

    /// All ones under its width.
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - self.width())
    }

    #[inline(always)]
    pub(crate) fn load(self, phv: &[u8]) -> u64 {
        match self.high {
            None => self.low.load(phv),
            Some(high) => high.load(phv) << 32 | self.low.load(phv),
        }
    }

    #[inline(always)]
    fn store(self, phv: &mut [u8], value: u64) {
        self.low.store(phv, value);
        if let Some(high) = self.high {
            high.store(phv, value >> 32);
        }
    }
}

impl Span {
    /// The chunks that the span consists of, the most significant first: all have 64 bits but perhaps the first.
    pub(crate) fn chunks(self) -> impl DoubleEndedIterator<Item = Chunk> + Clone {
        let words = (self.width as usize).div_ceil(64);
        (0..words).map(move |i| {
            let below = (words - 1 - i) * 64;
            let width = (self.width as usize - below).min(64);
            Chunk::new(self.bit as usize + self.width as usize - below - width, width)
        })
    }

    /// The bytes that hold any of its bits.
    pub(crate) fn touched(self) -> std::ops::Range<usize> {
        let (begin, end) = (self.bit as usize, (self.bit + self.width) as usize);
        begin / 8..end.div_ceil(8)
    }

    /// The high bits and the low 64, of a span of 65 to 128 bits, if a slot can hold either.
    pub(crate) fn halves(self) -> Option<(Slot, Slot)> {
        let (bit, width) = (self.bit as usize, self.width as usize);
        if !(65..=128).contains(&width) {
            return None;
        }
        let low = bit + width - 64;
        let high = Slot::in_header(bit / 8, bit, width - 64)?;
        Some((high, Slot::in_header(low / 8, low, 64)?))
    }

    /// The same span `bytes` bytes further on.
    #[inline]
    pub(crate) fn moved(self, bytes: usize) -> Self {
        Self {
            bit: self.bit + 8 * bytes as u32,
            ..self
        }
    }

    /// Reads up to 128 bits.
    #[inline]
    pub(crate) fn load128(self, phv: &[u8]) -> u128 {
        debug_assert!(self.width <= 128);
        if self.width == 128 && self.bit.is_multiple_of(8) {
            let at = self.bit as usize / 8;
            return (window(phv, at) as u128) << 64 | window(phv, at + 8) as u128;
        }
        self.chunks()
            .fold(0u128, |value, chunk| value << 64 | chunk.load(phv) as u128)
    }

    /// Writes the low bits of `value` (spans of up to 128 bits).
    #[inline]
    pub(crate) fn store128(self, phv: &mut [u8], value: u128) {
        if self.width == 128 && self.bit.is_multiple_of(8) {
            let at = self.bit as usize / 8;
            put(phv, at, (value >> 64) as u64);
            put(phv, at + 8, value as u64);
            return;
        }
        for (i, chunk) in self.chunks().rev().enumerate() {
            chunk.store(phv, (value >> (64 * i)) as u64);
        }
    }

    /// The value, big endian, in `width.div_ceil(8)` bytes.
    pub(crate) fn bytes(self, phv: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.width.div_ceil(8) as usize + 8);
        for chunk in self.chunks() {
            let word = chunk.load(phv).to_be_bytes();
            out.extend_from_slice(&word[8 - chunk.width().div_ceil(8)..]);
        }
        out
    }

    /// Writes words, the most significant first; missing high words are zero, excess ones dropped.
    pub(crate) fn store_words(self, phv: &mut [u8], words: &[u64]) {
        let mut words = words.iter().rev();
        for chunk in self.chunks().rev() {
            chunk.store(phv, words.next().copied().unwrap_or(0));
        }
    }

    /// Copies the first bits of `from`, as many as both have.
    pub(crate) fn copy_from_left(self, phv: &mut [u8], from: Span) {
        let width = self.width.min(from.width);
        Span { width, ..self }.copy_from(phv, Span { width, ..from });
    }

    /// Copies the low bits of `from` here; missing high bits are zero.
    pub(crate) fn copy_from(self, phv: &mut [u8], from: Span) {
        if self.width == from.width && (self.width | self.bit | from.bit).is_multiple_of(8) {
            let begin = from.bit as usize / 8;
            phv.copy_within(begin..begin + self.width as usize / 8, self.bit as usize / 8);
            return;
        }
        let mut sources = from.chunks().rev();
        for chunk in self.chunks().rev() {
            let word = sources.next().map_or(0, |s| s.load(phv));
            chunk.store(phv, word);
        }
    }
}

/// Copies a header: as many bytes as `source` has, of which there are few. `target` is at least as long.
#[inline(always)]
pub(crate) fn copy_header(target: &mut [u8], source: &[u8]) {
    /// The first and the last `N` bytes, which may overlap.
    #[inline(always)]
    fn ends<const N: usize>(target: &mut [u8], source: &[u8]) {
        if let (Some(first), Some(last)) = (source.first_chunk::<N>(), source.last_chunk::<N>()) {
            if let Some(to) = target.first_chunk_mut::<N>() {
                *to = *first;
            }
            if let Some(to) = target.last_chunk_mut::<N>() {
                *to = *last;
            }
        }
    }
    let target = &mut target[..source.len()];
    match source.len() {
        4..8 => ends::<4>(target, source),
        8..16 => ends::<8>(target, source),
        16..=32 => ends::<16>(target, source),
        33..=64 => ends::<32>(target, source),
        _ => target.copy_from_slice(source),
    }
}

/// Copies `width` bits from `source` at bit `from` to `target` at bit `to`. For the rare unaligned header; slow.
pub(crate) fn copy_bits(target: &mut [u8], to: usize, source: &[u8], from: usize, width: usize) {
    if to.is_multiple_of(8) && from.is_multiple_of(8) && width.is_multiple_of(8) {
        target[to / 8..][..width / 8].copy_from_slice(&source[from / 8..][..width / 8]);
        return;
    }
    for i in 0..width {
        let bit = source[(from + i) / 8] >> (7 - (from + i) % 8) & 1;
        let place = 7 - (to + i) % 8;
        let byte = &mut target[(to + i) / 8];
        *byte = *byte & !(1 << place) | bit << place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bit(phv: &[u8], at: usize) -> u8 {
        phv[at / 8] >> (7 - at % 8) & 1
    }

    proptest! {
        #[test]
        fn a_span_gives_back_what_was_stored_and_leaves_its_neighbours_alone(
            start in 0usize..64, width in 1usize..=64, value: u64, fill: u8
        ) {
            let mut phv = vec![fill; 32 + PADDING];
            let span = Span { bit: start as u32, width: width as u32 };
            span.store_words(&mut phv, &[value]);
            prop_assert_eq!(span.load128(&phv) as u64, value & u64::MAX >> (64 - width));
            for other in (0..phv.len() * 8).filter(|b| !(start..start + width).contains(b)) {
                prop_assert_eq!(bit(&phv, other), bit(&[fill], other % 8));
            }
        }

        #[test]
        fn slots_of_a_header_see_the_bits_that_spans_see(base in 0usize..4, at in 0usize..64, width in 1usize..=56, value: u64) {
            let mut phv = vec![0x5a; 32 + PADDING];
            let start = base * 8 + at;
            let slot = Slot::in_header(base, start, width).unwrap();
            slot.store(&mut phv, value);
            prop_assert_eq!(slot.load(&phv), value & slot.mask());
            prop_assert_eq!(Span { bit: start as u32, width: width as u32 }.load128(&phv) as u64, value & slot.mask());
        }

        #[test]
        fn a_span_of_any_width_copies_and_reads(
            start in 0u32..16, words in proptest::collection::vec(any::<u64>(), 1..6), extra in 0u32..63
        ) {
            let span = Span { bit: start, width: words.len() as u32 * 64 - extra };
            let mut phv = vec![0xa5; 256 + PADDING];
            span.store_words(&mut phv, &words);
            let mut expected: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            expected.drain(..extra as usize / 8);
            expected[0] &= 0xff >> (extra % 8);
            prop_assert_eq!(span.bytes(&phv), expected.clone());
            let copy = Span { bit: 640, width: span.width + 9 };
            copy.copy_from(&mut phv, span);
            let bytes = copy.bytes(&phv);
            prop_assert_eq!(&bytes[bytes.len() - expected.len()..], &expected[..]);
            prop_assert!(bytes[..bytes.len() - expected.len()].iter().all(|b| *b == 0));
        }
    }
}
