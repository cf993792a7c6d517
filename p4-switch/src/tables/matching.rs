//! Matches: from a controller's big-endian values to key words and masks, and back.

use num_bigint::{BigInt, Sign};
use num_traits::{ToPrimitive, Zero};

use crate::control::{ControlError, FieldMatch, MatchKind, Value};
use crate::program::packing::Packing;
use crate::program::table::{ConstMatch, KeyField, MatchSpec, RangeCheck, Table};

/// Knows a key: a table's, or a value set's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matcher<'t> {
    /// What it belongs to, for messages.
    pub(crate) name: &'t str,
    pub(crate) fields: &'t [KeyField],
    pub(crate) key: &'t Packing,
}

fn invalid(reason: impl ToString) -> ControlError {
    ControlError::InvalidArgument(reason.to_string())
}

/// A value's number; refused if it does not fit.
pub(crate) fn number(value: &[u8], width: usize, what: &str) -> Result<BigInt, ControlError> {
    if value.is_empty() {
        return Err(invalid(format_args!("{what}: a value has at least one byte")));
    }
    let number = BigInt::from_bytes_be(Sign::Plus, value);
    if number.bits() > width as u64 {
        return Err(invalid(format_args!(
            "{what}: {number:#x} does not fit into {width} bits"
        )));
    }
    Ok(number)
}

/// A number's canonical form: no leading zeros, at least one byte.
pub(crate) fn canonical(number: &BigInt) -> Value {
    number.to_bytes_be().1
}

fn ones(bits: usize) -> BigInt {
    (BigInt::from(1) << bits) - 1
}

fn prefix_mask(width: usize, len: usize) -> BigInt {
    ones(width) ^ ones(width - len)
}

impl<'t> Matcher<'t> {
    /// A table's key.
    pub(crate) fn of(table: &'t Table) -> Self {
        Self {
            name: &table.name,
            fields: &table.fields,
            key: &table.key,
        }
    }

    /// Whether every field is compared whole.
    pub(crate) fn is_exact(&self) -> bool {
        self.fields
            .iter()
            .all(|f| matches!(f.kind, MatchKind::Exact | MatchKind::Valid))
    }

    pub(crate) fn has_ranges(&self) -> bool {
        self.fields.iter().any(|f| f.kind == MatchKind::Range)
    }

    /// All bits of all fields.
    pub(crate) fn full_mask(&self) -> Box<[u64]> {
        let mut words = vec![0; self.key.words];
        for (i, field) in self.fields.iter().enumerate() {
            self.key.put(i, &ones(field.width), &mut words);
        }
        words.into_boxed_slice()
    }

    /// A match that a controller wrote, and the length of its prefix. Exact fields of up to 64 bits are read directly.
    pub(crate) fn spec(&self, key: &[FieldMatch]) -> Result<(MatchSpec, usize), ControlError> {
        if key.len() != self.fields.len() {
            let (want, have) = (self.fields.len(), key.len());
            return Err(invalid(format_args!(
                "{} has {want} key fields, {have} are given",
                self.name
            )));
        }
        let words = self.key.words;
        let (mut value, mut mask) = (vec![0u64; words], vec![0u64; words]);
        let mut ranges = Vec::new();
        let mut prefix = 0;
        for (i, (field, wanted)) in self.fields.iter().zip(key).enumerate() {
            let what = || format!("key field {} of {}", field.name, self.name);
            let mismatch = || invalid(format_args!("{} is not {:?}", what(), field.kind));
            match (field.kind, wanted) {
                (
                    MatchKind::Exact | MatchKind::Valid | MatchKind::Optional | MatchKind::Ternary,
                    FieldMatch::Exact(bytes),
                ) if field.width <= 64 && !bytes.is_empty() => {
                    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
                    let digits = &bytes[start..];
                    let word = digits.iter().take(8).fold(0u64, |w, b| w << 8 | *b as u64);
                    let all = if field.width == 0 {
                        0
                    } else {
                        u64::MAX >> (64 - field.width)
                    };
                    if digits.len() > 8 || word & !all != 0 {
                        number(bytes, field.width, &what())?;
                    }
                    if let Some((at, shift, _)) = self.key.fields[i].1.first() {
                        value[*at] |= word << shift;
                        mask[*at] |= all << shift;
                    }
                }
                (
                    MatchKind::Exact | MatchKind::Valid | MatchKind::Optional | MatchKind::Ternary,
                    FieldMatch::Exact(bytes),
                ) => {
                    self.key.put(i, &number(bytes, field.width, &what())?, &mut value);
                    self.key.put(i, &ones(field.width), &mut mask);
                }
                (MatchKind::Exact | MatchKind::Valid, FieldMatch::Any) => {
                    return Err(invalid(format_args!("{} is missing", what())));
                }
                (_, FieldMatch::Any) => {}
                (
                    MatchKind::Lpm,
                    FieldMatch::Lpm {
                        value: bytes,
                        prefix_len,
                    },
                ) => {
                    if *prefix_len > field.width {
                        return Err(invalid(format_args!("{} has {} bits only", what(), field.width)));
                    }
                    let number = number(bytes, field.width, &what())?;
                    let bits = prefix_mask(field.width, *prefix_len);
                    if &number & &bits != number {
                        return Err(invalid(format_args!("{}: bits beyond the prefix are set", what())));
                    }
                    self.key.put(i, &number, &mut value);
                    self.key.put(i, &bits, &mut mask);
                    prefix = *prefix_len;
                }
                (
                    MatchKind::Ternary | MatchKind::Optional,
                    FieldMatch::Ternary {
                        value: bytes,
                        mask: bits,
                    },
                ) => {
                    let bits = number(bits, field.width, &what())?;
                    let number = number(bytes, field.width, &what())?;
                    if &number & &bits != number {
                        return Err(invalid(format_args!("{}: bits outside the mask are set", what())));
                    }
                    if field.kind == MatchKind::Optional && !bits.is_zero() && bits != ones(field.width) {
                        return Err(mismatch());
                    }
                    self.key.put(i, &number, &mut value);
                    self.key.put(i, &bits, &mut mask);
                }
                (MatchKind::Range, FieldMatch::Range { low, high }) => {
                    let (low, high) = (number(low, field.width, &what())?, number(high, field.width, &what())?);
                    if low > high {
                        return Err(invalid(format_args!("{}: the range is empty", what())));
                    }
                    self.range(i, field, &low, &high, &mut ranges);
                }
                _ => return Err(mismatch()),
            }
        }
        Ok((
            MatchSpec {
                value: value.into(),
                mask: mask.into(),
                ranges,
            },
            prefix,
        ))
    }

    fn range(&self, i: usize, field: &KeyField, low: &BigInt, high: &BigInt, ranges: &mut Vec<RangeCheck>) {
        if low.is_zero() && *high == ones(field.width) {
            return;
        }
        let chunks = self.key.fields[i].1.clone();
        let split = |number: &BigInt| -> Vec<u64> {
            let n = chunks.len();
            let chunk = |j: usize| (number >> (64 * (n - 1 - j))) & BigInt::from(u64::MAX);
            (0..n).map(|j| chunk(j).to_u64().unwrap_or(0)).collect()
        };
        ranges.push(RangeCheck {
            field: i,
            low: split(low),
            high: split(high),
            chunks,
        });
    }

    /// A match that the program gives, and the length of its prefix.
    pub(crate) fn const_spec(&self, key: &[ConstMatch]) -> (MatchSpec, usize) {
        let words = self.key.words;
        let (mut value, mut mask) = (vec![0u64; words], vec![0u64; words]);
        let mut ranges = Vec::new();
        let mut prefix = 0;
        for (i, (field, wanted)) in self.fields.iter().zip(key).enumerate() {
            let all = ones(field.width);
            let mut put = |number: BigInt, bits: &BigInt| {
                self.key.put(i, &(number & bits), &mut value);
                self.key.put(i, bits, &mut mask);
            };
            match wanted {
                ConstMatch::Exact(number) => put(number.clone(), &all),
                ConstMatch::Lpm(number, len) => {
                    prefix = (*len).min(field.width);
                    put(number.clone(), &prefix_mask(field.width, prefix));
                }
                ConstMatch::Ternary(number, bits) => put(number.clone(), &(bits & &all)),
                ConstMatch::Range(low, high) => self.range(i, field, &(low & &all), &(high & &all), &mut ranges),
            }
        }
        (
            MatchSpec {
                value: value.into(),
                mask: mask.into(),
                ranges,
            },
            prefix,
        )
    }

    /// What a controller would write for this match.
    pub(crate) fn describe(&self, spec: &MatchSpec) -> Vec<FieldMatch> {
        let fields = self.fields.iter().enumerate();
        fields
            .map(|(i, field)| {
                let get = |words: &[u64]| {
                    self.key.fields[i]
                        .1
                        .iter()
                        .fold(BigInt::zero(), |n, (word, shift, width)| {
                            let chunk = words[*word] >> shift & u64::MAX >> (64 - width);
                            (n << 64) + chunk
                        })
                };
                let (value, mask) = (get(&spec.value), get(&spec.mask));
                match field.kind {
                    MatchKind::Exact | MatchKind::Valid => FieldMatch::Exact(canonical(&value)),
                    MatchKind::Range => match spec.ranges.iter().find(|r| r.field == i) {
                        None => FieldMatch::Any,
                        Some(range) => {
                            let join = |words: &[u64]| words.iter().fold(BigInt::zero(), |n, w| (n << 64) + *w);
                            FieldMatch::Range {
                                low: canonical(&join(&range.low)),
                                high: canonical(&join(&range.high)),
                            }
                        }
                    },
                    _ if mask.is_zero() => FieldMatch::Any,
                    MatchKind::Optional => FieldMatch::Exact(canonical(&value)),
                    MatchKind::Lpm => {
                        let prefix_len = mask.magnitude().count_ones() as usize;
                        FieldMatch::Lpm {
                            value: canonical(&value),
                            prefix_len,
                        }
                    }
                    MatchKind::Ternary => FieldMatch::Ternary {
                        value: canonical(&value),
                        mask: canonical(&mask),
                    },
                }
            })
            .collect()
    }
}
