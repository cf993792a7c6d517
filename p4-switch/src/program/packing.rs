//! Values side by side in words of 64 bits: the keys of tables and selects, and the arguments of actions.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

/// Where up to 64 bits of a value are: word, shift, width.
pub(crate) type Part = (usize, u32, usize);

/// The layout of a key, or of arguments: fields one after another, each word filled from its low end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packing {
    /// Width of each field, and its chunks (word, shift, width), the most significant first.
    pub(crate) fields: Vec<(usize, Vec<Part>)>,
    pub(crate) words: usize,
}

impl Packing {
    /// Fields are put into a word as long as they fit; wider ones have words of their own.
    pub(crate) fn new(widths: impl IntoIterator<Item = usize>) -> Self {
        let mut layout = Packing::default();
        let mut used = 64;
        for width in widths {
            let mut chunks = Vec::new();
            if (1..=64).contains(&width) {
                if used + width > 64 {
                    layout.words += 1;
                    used = 0;
                }
                chunks.push((layout.words - 1, used as u32, width));
                used += width;
            } else if width > 64 {
                let words = width.div_ceil(64);
                for i in 0..words {
                    let below = (words - 1 - i) * 64;
                    chunks.push((layout.words + i, 0, (width - below).min(64)));
                }
                layout.words += words;
                used = 64;
            }
            layout.fields.push((width, chunks));
        }
        layout
    }

    /// Puts a field's value (low bits of a big-endian number) into words.
    pub(crate) fn put(&self, field: usize, value: &BigInt, words: &mut [u64]) {
        let (_, chunks) = &self.fields[field];
        for (i, (word, shift, width)) in chunks.iter().rev().enumerate() {
            let chunk = (value >> (64 * i)) & BigInt::from(u64::MAX >> (64 - width));
            words[*word] |= chunk.to_u64().unwrap_or(0) << shift;
        }
    }

    /// Splits a number whose fields are padded to bytes, as the JSON writes select values.
    pub(crate) fn split_padded(&self, value: &BigInt) -> Vec<u64> {
        let mut words = vec![0; self.words];
        let mut rest = value.clone();
        for field in (0..self.fields.len()).rev() {
            self.put(field, &rest, &mut words);
            rest >>= self.fields[field].0.div_ceil(8) * 8;
        }
        words
    }

    /// The value of a field.
    pub(crate) fn get(&self, field: usize, words: &[u64]) -> BigInt {
        let (_, parts) = &self.fields[field];
        parts.iter().fold(BigInt::default(), |value, (word, shift, width)| {
            let part = words
                .get(*word)
                .map_or(0, |word| word >> shift & u64::MAX >> (64 - width));
            (value << *width) + part
        })
    }
}

/// An argument of an action, or the low 64 bits of one that is wider: where it stands in the words of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Argument {
    pub(crate) word: u32,
    pub(crate) shift: u8,
    /// From 1 to 64.
    pub(crate) width: u8,
}

impl Argument {
    /// The `index`th of arguments of these widths; none if it has no bits.
    pub(crate) fn new(widths: &[usize], index: usize) -> Option<Self> {
        let packing = Packing::new(widths.iter().copied());
        let (word, shift, width) = *packing.fields[index].1.last()?;
        Some(Self {
            word: word as u32,
            shift: shift as u8,
            width: width as u8,
        })
    }

    /// A word.
    pub(crate) fn whole(word: u32) -> Self {
        Self {
            word,
            shift: 0,
            width: 64,
        }
    }

    /// Its value; zero if the words do not reach so far.
    #[inline(always)]
    pub(crate) fn load(self, words: &[u64]) -> u64 {
        let word = words.get(self.word as usize).copied().unwrap_or(0);
        word >> self.shift & u64::MAX >> (64 - self.width)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_values_come_back_and_narrow_ones_share_words(
            values in proptest::collection::vec((0usize..200, proptest::collection::vec(any::<u8>(), 25)), 0..12)
        ) {
            let widths: Vec<usize> = values.iter().map(|(width, _)| *width).collect();
            let packing = Packing::new(widths.iter().copied());
            let mut words = vec![0; packing.words];
            let cut = |(width, bytes): &(usize, Vec<u8>)| {
                BigInt::from_bytes_be(num_bigint::Sign::Plus, bytes) & ((BigInt::from(1) << *width) - 1)
            };
            for (field, value) in values.iter().enumerate() {
                packing.put(field, &cut(value), &mut words);
            }
            for (field, value) in values.iter().enumerate() {
                prop_assert_eq!(packing.get(field, &words), cut(value));
                let low = Argument::new(&widths, field).map_or(0, |argument| argument.load(&words));
                prop_assert_eq!(BigInt::from(low), cut(value) & BigInt::from(u64::MAX));
            }
            prop_assert!(packing.words <= widths.iter().map(|width| width.div_ceil(64)).sum());
        }
    }
}
