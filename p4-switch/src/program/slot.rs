//! Where a value of up to 64 bits stands in the packet state, and how it is read and written.
//!
//! The packet state (PHV) is one flat byte array. Headers stand in it in network format, so that extracting and
//! deparsing are copies; metadata fields stand in cells of 1, 2, 4 or 8 bytes of their own, big endian. A slot reads the
//! smallest window of bytes that holds its bits: a store and a later load of the same field use the same window, which
//! the processor forwards without a stall.

/// Bytes at the end of the packet state that no field uses: a window may reach into them.
pub(crate) const PADDING: usize = 32;

/// How many bytes are read, and whether the value fills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Full1,
    Full2,
    Full4,
    Full8,
    Part1,
    Part2,
    Part4,
    Part8,
    Part16,
}

/// A value of 1 to 64 bits at a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    offset: u32,
    shift: u8,
    width: u8,
    window: Window,
}

impl Slot {
    /// The `width` (1 to 64) bits that begin at bit `bit` of the packet state, counted from the most significant bit
    /// of its first byte.
    pub(crate) fn bits(bit: usize, width: usize) -> Self {
        debug_assert!((1..=64).contains(&width));
        let offset = bit / 8;
        let lead = bit % 8;
        let bytes = (lead + width).div_ceil(8);
        let (size, full, part) = match bytes {
            1 => (1, Window::Full1, Window::Part1),
            2 => (2, Window::Full2, Window::Part2),
            3 | 4 => (4, Window::Full4, Window::Part4),
            5..=8 => (8, Window::Full8, Window::Part8),
            _ => (16, Window::Part16, Window::Part16),
        };
        let shift = size * 8 - lead - width;
        let window = if shift == 0 && lead == 0 { full } else { part };
        Self {
            offset: offset as u32,
            shift: shift as u8,
            width: width as u8,
            window,
        }
    }

    /// A cell of `bytes` (1, 2, 4, 8) bytes of which the value has `width` bits, at the right; the rest is zero.
    pub(crate) fn cell(offset: usize, bytes: usize, width: usize) -> Self {
        let window = match bytes {
            1 => Window::Full1,
            2 => Window::Full2,
            4 => Window::Full4,
            _ => Window::Full8,
        };
        Self {
            offset: offset as u32,
            shift: 0,
            width: width as u8,
            window,
        }
    }

    /// Width in bits.
    pub(crate) fn width(self) -> usize {
        self.width as usize
    }

    /// All ones under the slot's width.
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    /// The first byte that the slot reads, and how many.
    pub(crate) fn reach(self) -> (usize, usize) {
        let bytes = match self.window {
            Window::Full1 | Window::Part1 => 1,
            Window::Full2 | Window::Part2 => 2,
            Window::Full4 | Window::Part4 => 4,
            Window::Full8 | Window::Part8 => 8,
            Window::Part16 => 16,
        };
        (self.offset as usize, bytes)
    }

    /// The same slot `bytes` bytes further on.
    #[inline]
    pub(crate) fn moved(self, bytes: usize) -> Self {
        Self {
            offset: self.offset + bytes as u32,
            ..self
        }
    }

    /// Reads.
    #[inline(always)]
    pub(crate) fn load(self, phv: &[u8]) -> u64 {
        let at = self.offset as usize;
        match self.window {
            Window::Full1 => phv[at] as u64,
            Window::Full2 => u16::from_be_bytes(array(phv, at)) as u64,
            Window::Full4 => u32::from_be_bytes(array(phv, at)) as u64,
            Window::Full8 => u64::from_be_bytes(array(phv, at)),
            Window::Part1 => (phv[at] as u64 >> self.shift) & self.mask(),
            Window::Part2 => (u16::from_be_bytes(array(phv, at)) as u64 >> self.shift) & self.mask(),
            Window::Part4 => (u32::from_be_bytes(array(phv, at)) as u64 >> self.shift) & self.mask(),
            Window::Part8 => (u64::from_be_bytes(array(phv, at)) >> self.shift) & self.mask(),
            Window::Part16 => (u128::from_be_bytes(array(phv, at)) >> self.shift) as u64 & self.mask(),
        }
    }

    /// Writes the low bits of `value`.
    #[inline(always)]
    pub(crate) fn store(self, phv: &mut [u8], value: u64) {
        let at = self.offset as usize;
        let value = value & self.mask();
        macro_rules! merge {
            ($t:ty) => {{
                let old = <$t>::from_be_bytes(array(phv, at));
                let mask = (self.mask() as $t) << self.shift;
                put(
                    phv,
                    at,
                    ((old & !mask) | ((value as $t) << self.shift)).to_be_bytes(),
                );
            }};
        }
        match self.window {
            Window::Full1 => phv[at] = value as u8,
            Window::Full2 => put(phv, at, (value as u16).to_be_bytes()),
            Window::Full4 => put(phv, at, (value as u32).to_be_bytes()),
            Window::Full8 => put(phv, at, value.to_be_bytes()),
            Window::Part1 => merge!(u8),
            Window::Part2 => merge!(u16),
            Window::Part4 => merge!(u32),
            Window::Part8 => merge!(u64),
            Window::Part16 => merge!(u128),
        }
    }
}

#[inline(always)]
fn array<const N: usize>(phv: &[u8], at: usize) -> [u8; N] {
    *phv[at..]
        .first_chunk::<N>()
        .expect("the packet state ends with padding")
}

#[inline(always)]
fn put<const N: usize>(phv: &mut [u8], at: usize, bytes: [u8; N]) {
    *phv[at..]
        .first_chunk_mut::<N>()
        .expect("the packet state ends with padding") = bytes;
}

/// A value of any width at a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First bit, as in [`Slot::bits`].
    pub(crate) bit: u32,
    /// Width in bits.
    pub(crate) width: u32,
}

impl Span {
    /// The slots that the span consists of, the most significant first: all have 64 bits but perhaps the first.
    pub(crate) fn slots(self) -> impl DoubleEndedIterator<Item = Slot> + Clone {
        let words = (self.width as usize).div_ceil(64);
        (0..words).map(move |i| {
            let below = (words - 1 - i) * 64;
            let width = (self.width as usize - below).min(64);
            Slot::bits(self.bit as usize + self.width as usize - below - width, width)
        })
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
            return u128::from_be_bytes(array(phv, self.bit as usize / 8));
        }
        self.slots()
            .fold(0u128, |value, slot| value << 64 | slot.load(phv) as u128)
    }

    /// Writes the low bits of `value` (spans of up to 128 bits).
    #[inline]
    pub(crate) fn store128(self, phv: &mut [u8], value: u128) {
        if self.width == 128 && self.bit.is_multiple_of(8) {
            put(phv, self.bit as usize / 8, value.to_be_bytes());
            return;
        }
        for (i, slot) in self.slots().rev().enumerate() {
            slot.store(phv, (value >> (64 * i)) as u64);
        }
    }

    /// The value, big endian, in `width.div_ceil(8)` bytes.
    pub(crate) fn bytes(self, phv: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.width.div_ceil(8) as usize + 8);
        for slot in self.slots() {
            let word = slot.load(phv).to_be_bytes();
            out.extend_from_slice(&word[8 - slot.width().div_ceil(8)..]);
        }
        out
    }

    /// Writes a big-endian value of any length; excess high bits are dropped.
    pub(crate) fn put_bytes(self, phv: &mut [u8], value: &[u8]) {
        let mut end = value.len();
        for slot in self.slots().rev() {
            let begin = end.saturating_sub(8);
            let word = value[begin..end].iter().fold(0u64, |w, b| w << 8 | *b as u64);
            slot.store(phv, word);
            end = begin;
        }
    }

    /// Writes words, the most significant first; missing high words are zero, excess ones dropped.
    pub(crate) fn store_words(self, phv: &mut [u8], words: &[u64]) {
        let mut words = words.iter().rev();
        for slot in self.slots().rev() {
            slot.store(phv, words.next().copied().unwrap_or(0));
        }
    }

    /// Copies the first bits of `from`, as many as both have.
    pub(crate) fn copy_from_left(self, phv: &mut [u8], from: Span) {
        let width = self.width.min(from.width);
        Span { width, ..self }.copy_from(phv, Span { width, ..from });
    }

    /// Copies the low bits of `from` here; missing high bits are zero.
    pub(crate) fn copy_from(self, phv: &mut [u8], from: Span) {
        let mut sources = from.slots().rev();
        for slot in self.slots().rev() {
            let word = sources.next().map_or(0, |s| s.load(phv));
            slot.store(phv, word);
        }
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

    proptest! {
        #[test]
        fn a_slot_gives_back_what_was_stored_and_leaves_its_neighbours_alone(
            bit in 0usize..64, width in 1usize..=64, value: u64, fill: u8
        ) {
            let mut phv = vec![fill; 32 + PADDING];
            let slot = Slot::bits(bit, width);
            slot.store(&mut phv, value);
            prop_assert_eq!(slot.load(&phv), value & slot.mask());
            for other in (0..phv.len() * 8).filter(|b| !(bit..bit + width).contains(b)) {
                prop_assert_eq!(phv[other / 8] >> (7 - other % 8) & 1, fill >> (7 - other % 8) & 1);
            }
        }

        #[test]
        fn a_span_of_any_width_gives_back_what_was_stored(
            bit in 0u32..16, value in proptest::collection::vec(any::<u8>(), 1..40), extra in 0u32..8
        ) {
            let width = (value.len() as u32 * 8 - extra).max(1);
            let span = Span { bit, width };
            let mut phv = vec![0xa5; 64 + PADDING];
            span.put_bytes(&mut phv, &value);
            let mut expected = value.clone();
            expected[0] &= 0xff >> extra;
            prop_assert_eq!(span.bytes(&phv), expected.clone());
            let copy = Span { bit: 320, width: width + 9 };
            phv.resize(160 + PADDING, 0);
            copy.copy_from(&mut phv, span);
            let bytes = copy.bytes(&phv);
            prop_assert_eq!(&bytes[bytes.len() - expected.len()..], &expected[..]);
            prop_assert!(bytes[..bytes.len() - expected.len()].iter().all(|b| *b == 0));
        }
    }
}
