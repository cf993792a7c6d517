//! Keys of tables: the fields they are put together of, and what entries ask of them.

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive};

use crate::control::MatchKind;
use crate::json::Node;
use crate::program::LoadError;
use crate::program::ast::hex;
use crate::program::layout::Layout;
use crate::program::packing::Packing;
use crate::program::slot::Chunk;

/// A field of a table's key.
#[derive(Debug, Clone)]
pub(crate) struct KeyField {
    pub(crate) name: String,
    pub(crate) kind: MatchKind,
    pub(crate) width: usize,
}

/// `words[word] |= slot << shift`, nothing if the header is invalid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TablePart {
    pub(crate) chunk: Chunk,
    /// Byte of the header's validity.
    pub(crate) valid: Option<u32>,
    pub(crate) word: u32,
    pub(crate) shift: u32,
    /// The static mask.
    pub(crate) mask: u64,
}

/// A match of an entry given by the program.
#[derive(Debug, Clone)]
pub(crate) enum ConstMatch {
    Exact(BigInt),
    Lpm(BigInt, usize),
    Ternary(BigInt, BigInt),
    Range(BigInt, BigInt),
}

/// What an entry asks of a key: `key & mask == value`, and its ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MatchSpec {
    pub(crate) value: Box<[u64]>,
    pub(crate) mask: Box<[u64]>,
    pub(crate) ranges: Vec<RangeCheck>,
}

/// Bounds of a field, both included, in the field's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeCheck {
    pub(crate) field: usize,
    pub(crate) low: Vec<u64>,
    pub(crate) high: Vec<u64>,
    /// Word, shift, width, the most significant first.
    pub(crate) chunks: Vec<(usize, u32, usize)>,
}

impl RangeCheck {
    /// Whether the field is within the bounds.
    pub(crate) fn holds(&self, key: &[u64]) -> bool {
        let value = self
            .chunks
            .iter()
            .map(|(word, shift, width)| key[*word] >> shift & u64::MAX >> (64 - width));
        value.clone().cmp(self.low.iter().copied()).is_ge() && value.cmp(self.high.iter().copied()).is_le()
    }
}

impl MatchSpec {
    /// Whether the fields with ranges are within them.
    pub(crate) fn in_ranges(&self, key: &[u64]) -> bool {
        self.ranges.iter().all(|range| range.holds(key))
    }
}

/// `kind` of the JSON.
pub(super) fn match_kind(node: &Node) -> Result<MatchKind, LoadError> {
    Ok(match node.str()? {
        "exact" => MatchKind::Exact,
        "lpm" => MatchKind::Lpm,
        "ternary" => MatchKind::Ternary,
        "range" => MatchKind::Range,
        "optional" => MatchKind::Optional,
        "valid" => MatchKind::Valid,
        other => return Err(node.error(format_args!("unknown match kind {other:?}"))),
    })
}

/// Reads a match of an entry.
pub(super) fn const_match(node: &Node) -> Result<ConstMatch, LoadError> {
    let number = |name: &str| -> Result<BigInt, LoadError> {
        let field = node.get(name);
        let value = hex(&field)?;
        if value.is_negative() {
            Err(field.error("key values are not negative"))
        } else {
            Ok(value)
        }
    };
    Ok(match match_kind(&node.get("match_type"))? {
        MatchKind::Exact => ConstMatch::Exact(number("key")?),
        MatchKind::Valid => ConstMatch::Exact(BigInt::from(node.get("key").bool()? as u8)),
        MatchKind::Lpm => ConstMatch::Lpm(number("key")?, node.get("prefix_length").usize()?),
        MatchKind::Ternary | MatchKind::Optional => ConstMatch::Ternary(number("key")?, number("mask")?),
        MatchKind::Range => ConstMatch::Range(number("start")?, number("end")?),
    })
}

pub(super) type TableKey = (Vec<KeyField>, Packing, Box<[TablePart]>);

/// Reads a table's key.
pub(super) fn table_key(node: &Node, layout: &Layout) -> Result<TableKey, LoadError> {
    let mut fields = Vec::new();
    let mut sources = Vec::new();
    for item in node.get("key").items()? {
        let kind = match_kind(&item.get("match_type"))?;
        let (target, name, mask) = (item.get("target"), item.get("name"), item.get("mask"));
        let header = layout.header(&if kind == MatchKind::Valid { target } else { target.at(0) })?;
        let at = &layout.headers[header.0];
        let (default_name, width, slots, valid) = if kind == MatchKind::Valid {
            (at.name.clone(), 1, at.valid_bit().chunks().collect(), None)
        } else {
            let field_name = target.at(1);
            let default_name = format!("{}.{}", at.name, field_name.str()?);
            if field_name.str()? == "$valid$" {
                (default_name, 1, at.valid_bit().chunks().collect(), None)
            } else {
                let field = layout.field(header, &field_name)?;
                let width = layout.type_of(header).fields[field].width;
                let slots: Vec<Chunk> = match layout.slot(header, field) {
                    Some(slot) => vec![slot.into()],
                    None => layout.span(header, field).chunks().collect(),
                };
                (default_name, width, slots, (!at.metadata).then_some(at.valid as u32))
            }
        };
        let mask = if mask.is_null() { None } else { Some(hex(&mask)?) };
        let name = if name.is_null() {
            default_name
        } else {
            name.str()?.to_owned()
        };
        fields.push(KeyField { name, kind, width });
        sources.push((slots, valid, mask));
    }
    let key = Packing::new(fields.iter().map(|f| f.width));
    if key.words > 64 {
        return Err(node.error("the key is wider than 4096 bits"));
    }
    let mut parts = Vec::new();
    for (i, (slots, valid, mask)) in sources.into_iter().enumerate() {
        let chunks = &key.fields[i].1;
        for (j, (slot, (word, shift, width))) in slots.iter().rev().zip(chunks.iter().rev()).enumerate() {
            let all = u64::MAX >> (64 - width);
            let mask = match &mask {
                Some(mask) => ((mask >> (64 * j)) & BigInt::from(all)).to_u64().unwrap_or(0),
                None => all,
            };
            parts.push(TablePart {
                chunk: *slot,
                valid,
                word: *word as u32,
                shift: *shift,
                mask,
            });
        }
    }
    Ok((fields, key, parts.into_boxed_slice()))
}
