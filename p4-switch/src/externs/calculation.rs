//! Calculations: hashes and checksums over fields, constants, headers and the payload.

use num_bigint::BigInt;

use super::hash::{Algorithm, fold, sum16};
use crate::json::Node;
use crate::program::LoadError;
use crate::program::ast::hex;
use crate::program::layout::{HeaderId, Layout};
use crate::program::slot::{Slot, Span, copy_bits};

/// One piece of the input, skipped if its header is invalid.
#[derive(Debug, Clone)]
enum Piece {
    /// Whole bytes of the packet state.
    Bytes {
        valid: Option<u32>,
        begin: u32,
        len: u32,
    },
    /// Bits.
    Field {
        valid: Option<u32>,
        span: Span,
    },
    /// A varbit field: present length in bytes, first bit.
    Varbit {
        valid: u32,
        length: Slot,
        bit: u32,
    },
    Constant {
        bytes: Box<[u8]>,
        width: u32,
    },
}

/// A calculation.
#[derive(Debug, Clone)]
pub(crate) struct Calculation {
    pub(crate) algorithm: Algorithm,
    pieces: Box<[Piece]>,
    payload: bool,
    /// All pieces are an even number of whole bytes: a sum needs no gathering.
    summable: bool,
}

/// Room to gather an input in, kept between packets.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    bytes: Vec<u8>,
    bits: usize,
}

impl Gather {
    fn room(&mut self, width: usize) -> usize {
        let at = self.bits;
        self.bits += width;
        self.bytes.resize(self.bits.div_ceil(8), 0);
        at
    }
}

impl Calculation {
    /// An item of `calculations`, or an action selector.
    pub(crate) fn load(node: &Node, layout: &Layout) -> Result<Self, LoadError> {
        let algorithm = node.get("algo");
        let algorithm = Algorithm::named(algorithm.str()?).ok_or_else(|| algorithm.error("unknown hash algorithm"))?;
        let mut pieces = Vec::new();
        let mut payload = false;
        for input in node.get("input").items()? {
            let value = input.get("value");
            match input.get("type").str()? {
                "field" => {
                    let header = layout.header(&value.at(0))?;
                    let name = value.at(1);
                    if name.str()? == "$valid$" {
                        let span = layout.headers[header.0].valid_bit();
                        push(&mut pieces, Piece::Field { valid: None, span });
                    } else {
                        let field = layout.field(header, &name)?;
                        push_field(&mut pieces, layout, header, field);
                    }
                }
                "header" => {
                    let header = layout.header(&value)?;
                    for field in 0..layout.type_of(header).fields.len() {
                        push_field(&mut pieces, layout, header, field);
                    }
                }
                "hexstr" => {
                    let width = input.get("bitwidth").usize()?;
                    if width > 1 << 16 {
                        return Err(input.error("constant is too wide"));
                    }
                    let number: BigInt = hex(&value)? & ((BigInt::from(1) << width) - 1);
                    let (_, digits) = number.to_bytes_be();
                    let mut bytes = vec![0; width.div_ceil(8)];
                    let start = bytes.len().saturating_sub(digits.len());
                    if width > 0 {
                        bytes[start..].copy_from_slice(&digits[digits.len() - (width.div_ceil(8) - start)..]);
                    }
                    pieces.push(Piece::Constant {
                        bytes: bytes.into_boxed_slice(),
                        width: width as u32,
                    });
                }
                "payload" => payload = true,
                other => return Err(input.error(format_args!("{other:?} cannot be calculated over"))),
            }
        }
        let summable = pieces.iter().all(|p| match p {
            Piece::Bytes { len, .. } => len.is_multiple_of(2),
            Piece::Constant { width, .. } => width.is_multiple_of(16),
            _ => false,
        });
        Ok(Self {
            algorithm,
            pieces: pieces.into_boxed_slice(),
            payload,
            summable,
        })
    }

    /// Whether the result depends on nothing but the packet, and asking for it changes nothing.
    pub(crate) fn is_of_packet(&self) -> bool {
        !matches!(self.algorithm, Algorithm::RoundRobin | Algorithm::Random)
    }

    /// The result for the present packet state.
    pub(crate) fn output(&self, phv: &[u8], payload: &[u8], gather: &mut Gather, counter: &mut u64) -> u64 {
        if self.algorithm == Algorithm::Csum16 && self.summable {
            let mut sum = 0;
            for piece in &self.pieces {
                match piece {
                    Piece::Bytes { valid, begin, len } if holds(*valid, phv) => {
                        sum += sum16(&phv[*begin as usize..][..*len as usize]);
                    }
                    Piece::Constant { bytes, .. } => sum += sum16(bytes),
                    _ => {}
                }
            }
            if self.payload {
                sum += sum16(payload);
            }
            return fold(sum) as u64;
        }
        self.gather(phv, payload, gather);
        self.algorithm.hash(&gather.bytes, counter)
    }

    fn gather(&self, phv: &[u8], payload: &[u8], gather: &mut Gather) {
        gather.bytes.clear();
        gather.bits = 0;
        for piece in &self.pieces {
            match piece {
                Piece::Bytes { valid, begin, len } if holds(*valid, phv) => {
                    let at = gather.room(*len as usize * 8);
                    copy_bits(&mut gather.bytes, at, phv, *begin as usize * 8, *len as usize * 8);
                }
                Piece::Field { valid, span } if holds(*valid, phv) => {
                    let at = gather.room(span.width as usize);
                    copy_bits(&mut gather.bytes, at, phv, span.bit as usize, span.width as usize);
                }
                Piece::Varbit { valid, length, bit } if phv[*valid as usize] != 0 => {
                    let width = length.load(phv) as usize * 8;
                    let at = gather.room(width);
                    copy_bits(&mut gather.bytes, at, phv, *bit as usize, width);
                }
                Piece::Constant { bytes, width } => {
                    let at = gather.room(*width as usize);
                    let from = bytes.len() * 8 - *width as usize;
                    copy_bits(&mut gather.bytes, at, bytes, from, *width as usize);
                }
                _ => {}
            }
        }
        if self.payload {
            gather.bytes.extend_from_slice(payload);
        }
    }
}

fn holds(valid: Option<u32>, phv: &[u8]) -> bool {
    valid.is_none_or(|v| phv[v as usize] != 0)
}

fn push_field(pieces: &mut Vec<Piece>, layout: &Layout, header: HeaderId, field: usize) {
    let at = &layout.headers[header.0];
    let span = layout.span(header, field);
    if layout.type_of(header).varbit == Some(field) {
        if let Some(length) = at.varbit_length {
            pieces.push(Piece::Varbit {
                valid: at.valid as u32,
                length,
                bit: span.bit,
            });
        }
        return;
    }
    if span.width > 0 {
        let valid = (!at.metadata).then_some(at.valid as u32);
        push(pieces, Piece::Field { valid, span });
    }
}

/// Adds a field; fields that stand side by side become one, and whole bytes where they make such.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    let Piece::Field { valid, span } = piece else {
        return pieces.push(piece);
    };
    let mut span = span;
    let previous = match pieces.last() {
        Some(Piece::Field { valid: v, span: s }) => Some((*v, *s)),
        Some(Piece::Bytes { valid: v, begin, len }) => Some((
            *v,
            Span {
                bit: begin * 8,
                width: len * 8,
            },
        )),
        _ => None,
    };
    if let Some((v, s)) = previous
        && v == valid
        && s.bit + s.width == span.bit
    {
        span = Span {
            bit: s.bit,
            width: s.width + span.width,
        };
        pieces.pop();
    }
    pieces.push(if span.bit.is_multiple_of(8) && span.width.is_multiple_of(8) {
        Piece::Bytes {
            valid,
            begin: span.bit / 8,
            len: span.width / 8,
        }
    } else {
        Piece::Field { valid, span }
    });
}
