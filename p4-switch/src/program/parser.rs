//! Parser states: what each extracts and sets, and where it goes next.

use std::collections::HashMap;

use num_bigint::BigInt;
use num_traits::Signed;

use super::action::{ActionCompiler, Op};
use super::ast::{Ast, HeaderRef, hex};
use super::expr::{Compiler, Cond, E};
use super::layout::{HeaderId, Layout, StackId};
use super::packing::Packing;
use super::slot::Slot;
use super::{LoadError, Names};
use crate::json::Node;

/// The end of parsing.
pub(crate) const ACCEPT: u32 = u32::MAX;

/// One step of a state.
#[derive(Debug, Clone)]
pub(crate) enum ParserOp {
    /// A header of fixed length that is no member of a union: so many bytes to this place, validity.
    Copy {
        bytes: u32,
        base: u32,
        valid: u32,
    },
    Extract(HeaderId),
    /// The varbit's length in bits, and the greatest length of the whole header in bytes.
    ExtractVarbit(Box<(HeaderId, E, usize)>),
    /// Into the next element of a stack; which member, if of unions.
    ExtractNext(StackId, usize),
    ExtractNextVarbit(Box<(StackId, usize, E, usize)>),
    /// The condition, and the error if it does not hold.
    Verify(Box<(Cond, E)>),
    /// So many bits.
    Advance(E),
    /// Anything that actions do.
    Do(Op),
}

/// A state.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) ops: Box<[ParserOp]>,
    pub(crate) select: Select,
    /// Where to go if nothing matches.
    pub(crate) default: u32,
}

/// How a state chooses the next one.
#[derive(Debug, Clone)]
pub(crate) enum Select {
    /// It does not.
    None,
    /// All of the key stands in eight bytes of the packet state, which are compared in order: value, mask, next.
    Window {
        at: Slot,
        /// If the state has just extracted the key: where the same bytes begin in the packet, so many before the cursor.
        /// Reading them there does not wait for the copies of the header, which are not aligned as the window is.
        before_cursor: Option<usize>,
        cases: Box<[(u64, u64, u32)]>,
    },
    /// Key of up to 64 bits, compared in order: value, mask, next.
    Word {
        key: Box<[KeyPart]>,
        cases: Box<[(u64, u64, u32)]>,
        ahead: u32,
    },
    /// Wider keys, and value sets.
    Wide {
        key: Box<[KeyPart]>,
        words: usize,
        cases: Box<[Case]>,
        ahead: u32,
    },
}

/// `words[word] |= value << shift`
#[derive(Debug, Clone)]
pub(crate) struct KeyPart {
    pub(crate) value: E,
    pub(crate) word: usize,
    pub(crate) shift: u32,
}

/// A case of a wide select.
#[derive(Debug, Clone)]
pub(crate) enum Case {
    Value {
        value: Box<[u64]>,
        mask: Box<[u64]>,
        next: u32,
    },
    Set {
        set: u32,
        mask: Box<[u64]>,
        next: u32,
    },
}

/// A value set's declaration, completed by the state that uses it.
#[derive(Debug, Clone)]
pub(crate) struct ValueSet {
    pub(crate) name: String,
    pub(crate) bitwidth: usize,
    pub(crate) max_size: usize,
    pub(crate) key: Packing,
}

/// The parser.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parser {
    pub(crate) states: Vec<State>,
    pub(crate) start: u32,
    pub(crate) value_sets: Vec<ValueSet>,
}

impl Parser {
    /// Reads `parse_vsets` and the parser called `parser` (or the first).
    pub(crate) fn load(root: &Node, layout: &Layout, names: &Names) -> Result<Self, LoadError> {
        let mut parser = Parser {
            start: ACCEPT,
            ..Parser::default()
        };
        for node in root.get("parse_vsets").items()? {
            let bitwidth = node.get("compressed_bitwidth").usize()?;
            if bitwidth > 1 << 16 {
                return Err(node.error("value set is too wide"));
            }
            parser.value_sets.push(ValueSet {
                name: node.get("name").str()?.to_owned(),
                bitwidth,
                max_size: node.get("max_size").usize_or(1024)?,
                key: Packing::new([bitwidth]),
            });
        }
        let parsers = root.get("parsers");
        let chosen = (0..parsers.len()).find(|i| {
            let node = parsers.at(*i);
            let name = node.get("name");
            name.str() == Ok("parser")
        });
        let node = parsers.at(chosen.unwrap_or(0));
        if node.is_null() {
            return Ok(parser);
        }
        let states = node.get("parse_states");
        let mut numbers = HashMap::new();
        for (i, state) in states.items()?.enumerate() {
            let name = state.get("name");
            if numbers.insert(name.str()?.to_owned(), i as u32).is_some() {
                return Err(name.error("a state of this name exists already"));
            }
        }
        let number = |node: &Node| -> Result<u32, LoadError> {
            if node.is_null() {
                return Ok(ACCEPT);
            }
            let name = node.str()?;
            numbers
                .get(name)
                .copied()
                .ok_or_else(|| node.error(format_args!("there is no state {name}")))
        };
        for state in states.items()? {
            let loaded = parser.state(&state, layout, names, &number)?;
            parser.states.push(loaded);
        }
        parser.start = number(&node.get("init_state"))?;
        Ok(parser)
    }

    fn state(
        &mut self,
        node: &Node,
        layout: &Layout,
        names: &Names,
        number: &dyn Fn(&Node) -> Result<u32, LoadError>,
    ) -> Result<State, LoadError> {
        let actions = ActionCompiler::new(layout, names, &[]);
        let mut ops = Vec::new();
        for op in node.get("parser_ops").items()? {
            parser_op(&op, layout, &actions, &mut ops)?;
        }
        let mut key_fields = Vec::new();
        let mut ahead = 0;
        for part in node.get("transition_key").items()? {
            let ast = actions.reader.read(&part)?;
            let width = match &ast {
                Ast::Field(header, field) => layout.type_of(header.model(layout)).fields[*field].width,
                Ast::ValidBit(_) => 1,
                Ast::Lookahead(offset, width) => {
                    ahead = ahead.max(offset + width);
                    *width
                }
                _ => return Err(part.error("a select key consists of fields and lookaheads")),
            };
            key_fields.push((ast, width));
        }
        let key = Packing::new(key_fields.iter().map(|(_, w)| *w));
        let parts = key_parts(&key, &key_fields, &actions.compiler);
        let mut default = ACCEPT;
        let mut cases = Vec::new();
        for transition in node.get("transitions").items()? {
            let next = number(&transition.get("next_state"))?;
            let (kind, value, mask) = (transition.get("type"), transition.get("value"), transition.get("mask"));
            let mask = if mask.is_null() {
                None
            } else {
                Some(key.split_padded(&hex(&mask)?).into_boxed_slice())
            };
            // Old files have no type: the value says "default".
            match if kind.is_null() {
                if value.is_null() { "default" } else { value.str()? }
            } else {
                kind.str()?
            } {
                "default" => default = next,
                "parse_vset" => {
                    let name = value.str()?;
                    let set = self.value_sets.iter().position(|s| s.name == name);
                    let set = set.ok_or_else(|| value.error(format_args!("there is no value set {name}")))?;
                    let declared = &mut self.value_sets[set];
                    if key.fields.iter().map(|(w, _)| w).sum::<usize>() != declared.bitwidth {
                        return Err(value.error("the value set's width is not that of the select key"));
                    }
                    declared.key = key.clone();
                    let mask = mask.unwrap_or_else(|| vec![u64::MAX; key.words].into_boxed_slice());
                    cases.push(Case::Set {
                        set: set as u32,
                        mask,
                        next,
                    });
                }
                _ => {
                    let number = hex(&value)?;
                    if number.is_negative() {
                        return Err(value.error("select values are not negative"));
                    }
                    let mask = mask.unwrap_or_else(|| vec![u64::MAX; key.words].into_boxed_slice());
                    let value = key
                        .split_padded(&number)
                        .iter()
                        .zip(&mask)
                        .map(|(v, m)| v & m)
                        .collect();
                    cases.push(Case::Value { value, mask, next });
                }
            }
        }
        let simple = key.words <= 1 && cases.iter().all(|c| matches!(c, Case::Value { .. }));
        let ahead = ahead as u32;
        let select = if key_fields.is_empty() {
            Select::None
        } else if simple {
            let word = |w: &[u64]| w.first().copied().unwrap_or(0);
            let cases = cases.iter().filter_map(|case| match case {
                Case::Value { value, mask, next } => Some((word(value), word(mask), *next)),
                Case::Set { .. } => None,
            });
            let cases: Box<[_]> = cases.collect();
            window(&parts, &cases, ops.last()).unwrap_or(Select::Word {
                key: parts,
                cases,
                ahead,
            })
        } else {
            Select::Wide {
                key: parts,
                words: key.words,
                cases: cases.into_boxed_slice(),
                ahead,
            }
        };
        Ok(State {
            name: node.get("name").str()?.to_owned(),
            ops: ops.into_boxed_slice(),
            select,
            default,
        })
    }
}

/// A select over fields that stand in the same eight bytes: the cases say what they want of those bytes. `last`: what the
/// state does before it selects.
fn window(parts: &[KeyPart], cases: &[(u64, u64, u32)], last: Option<&ParserOp>) -> Option<Select> {
    let fields = parts.iter().map(|part| match part.value {
        E::Load(slot) => Some((slot, part.shift)),
        _ => None,
    });
    let fields: Vec<(Slot, u32)> = fields.collect::<Option<_>>()?;
    let first = fields.iter().map(|(slot, _)| slot.bits().0).min()? / 8;
    let end = fields.iter().map(|(slot, _)| slot.bits().1).max()?;
    let at = Slot::in_header(first, first * 8, 64).filter(|_| end <= first * 8 + 64)?;
    // A key's bits, where they stand in the window.
    let moved = |key: u64| {
        fields.iter().fold(0, |window, (slot, shift)| {
            let behind = first * 8 + 64 - slot.bits().1;
            window | (key >> shift & slot.mask()) << behind
        })
    };
    let cases = cases
        .iter()
        .map(|(value, mask, next)| (moved(*value), moved(*mask), *next));
    let before_cursor = match last {
        Some(ParserOp::Copy { bytes, base, .. }) => {
            let header = *base as usize..(*base + *bytes) as usize;
            let extracted = fields.iter().all(|(slot, _)| slot.is_within(&header));
            extracted.then(|| header.end - first)
        }
        _ => None,
    };
    Some(Select::Window {
        at,
        before_cursor,
        cases: cases.collect(),
    })
}

/// The parts that build a select key. Wide values are cut by shifting.
fn key_parts(key: &Packing, fields: &[(Ast, usize)], compiler: &Compiler) -> Box<[KeyPart]> {
    let mut parts = Vec::new();
    for (i, (ast, _)) in fields.iter().enumerate() {
        let chunks = &key.fields[i].1;
        for (j, (word, shift, width)) in chunks.iter().rev().enumerate() {
            let ast = match (ast, j) {
                (ast, 0) => ast.clone(),
                (Ast::Lookahead(offset, total), _) => Ast::Lookahead(*offset, total - 64 * j),
                (ast, _) => Ast::Binary(
                    super::ast::BinaryOp::Shr,
                    Box::new(ast.clone()),
                    Box::new(Ast::Const(BigInt::from(64 * j))),
                ),
            };
            // The key's own bits and nothing above them.
            let mask = Ast::Const((BigInt::from(1) << *width) - 1);
            let bounded = Ast::Binary(super::ast::BinaryOp::And, Box::new(ast), Box::new(mask));
            let value = compiler.index(&bounded);
            parts.push(KeyPart {
                value,
                word: *word,
                shift: *shift,
            });
        }
    }
    parts.into_boxed_slice()
}

fn parser_op(node: &Node, layout: &Layout, actions: &ActionCompiler, ops: &mut Vec<ParserOp>) -> Result<(), LoadError> {
    let parameters = node.get("parameters");
    let (p0, p1) = (parameters.at(0), parameters.at(1));
    let op_node = node.get("op");
    match op_node.str()? {
        "extract" => {
            let value = p0.get("value");
            match p0.get("type").str()? {
                "regular" | "header" => {
                    let header = layout.header(&value)?;
                    match layout.type_of(header).varbit {
                        Some(_) if layout.type_of(header).has_length_expression => {
                            return Err(node.error("headers with a length expression (P4-14) are not supported"));
                        }
                        // Without a length the varbit is empty.
                        Some(_) => ops.push(ParserOp::ExtractVarbit(Box::new((header, E::Const(0), 0)))),
                        None => {
                            let at = &layout.headers[header.0];
                            ops.push(match at.member_of {
                                Some(_) => ParserOp::Extract(header),
                                None => ParserOp::Copy {
                                    bytes: layout.type_of(header).bits as u32 / 8,
                                    base: at.base as u32,
                                    valid: at.valid as u32,
                                },
                            });
                        }
                    }
                }
                "stack" => ops.push(ParserOp::ExtractNext(layout.stack(&value)?, 0)),
                "union_stack" => {
                    let HeaderRef::Last(stack, member) = actions.reader.header_ref_in_union_stack(&value)? else {
                        return Err(value.error("expected a stack of unions and a member"));
                    };
                    ops.push(ParserOp::ExtractNext(stack, member));
                }
                other => return Err(p0.error(format_args!("cannot extract to {other:?}"))),
            }
        }
        "extract_VL" => {
            let value = p0.get("value");
            let length = actions.reader.number(&p1)?;
            let length = actions.compiler.index(&length);
            let (stack, member, model) = match p0.get("type").str()? {
                "regular" | "header" => (None, 0, layout.header(&value)?),
                "stack" => {
                    let stack = layout.stack(&value)?;
                    (Some(stack), 0, layout.stacks[stack.0].first[0])
                }
                "union_stack" => {
                    let header = actions.reader.header_ref_in_union_stack(&value)?;
                    let HeaderRef::Last(stack, member) = header else {
                        return Err(value.error("expected a stack of unions and a member"));
                    };
                    (Some(stack), member, header.model(layout))
                }
                other => return Err(p0.error(format_args!("cannot extract to {other:?}"))),
            };
            let kind = layout.type_of(model);
            if kind.varbit.is_none() {
                return Err(p0.error(format_args!("header type {} has no varbit field", kind.name)));
            }
            let max = kind.bits / 8;
            ops.push(match stack {
                None => ParserOp::ExtractVarbit(Box::new((model, length, max))),
                Some(stack) => ParserOp::ExtractNextVarbit(Box::new((stack, member, length, max))),
            });
        }
        "set" => {
            let value = actions.reader.read(&p1)?;
            if let Some(bits) = lookahead_bits(&value) {
                ops.push(ParserOp::Do(Op::NeedAhead(bits as u32)));
            }
            let mut out = Vec::new();
            actions.assign(&p0, value, &mut out)?;
            ops.extend(out.into_iter().map(ParserOp::Do));
        }
        "verify" => {
            let condition = actions.compiler.condition(&actions.reader.condition(&p0)?);
            let error = actions.compiler.index(&actions.reader.number(&p1)?);
            ops.push(ParserOp::Verify(Box::new((condition, error))));
        }
        "shift" => {
            let bytes = if p0.has("value") {
                p0.get("value").usize()?
            } else {
                p0.usize()?
            };
            ops.push(ParserOp::Advance(E::Const(8 * bytes.min(1 << 32) as u64)));
        }
        "advance" => {
            let bits = actions.reader.number(&p0)?;
            ops.push(ParserOp::Advance(actions.compiler.index(&bits)));
        }
        "primitive" => {
            let mut out = Vec::new();
            actions.primitive(&p0, &mut out)?;
            if out.iter().any(|op| matches!(op, Op::Jump(_) | Op::JumpUnless(..))) {
                return Err(p0.error("a parser state cannot jump"));
            }
            ops.extend(out.into_iter().map(ParserOp::Do));
        }
        other => return Err(op_node.error(format_args!("unknown parser operation {other:?}"))),
    }
    Ok(())
}

/// How many bits ahead of the cursor an expression looks.
fn lookahead_bits(ast: &Ast) -> Option<usize> {
    match ast {
        Ast::Lookahead(offset, width) => Some(offset + width),
        Ast::Binary(_, l, r) | Ast::Compare(_, l, r) | Ast::AndAlso(l, r) | Ast::OrElse(l, r) | Ast::SameBool(l, r) => {
            lookahead_bits(l).max(lookahead_bits(r))
        }
        Ast::Complement(a)
        | Ast::Wrap(a, _)
        | Ast::SaturateUnsigned(a, _)
        | Ast::SaturateSigned(a, _)
        | Ast::FromBool(a)
        | Ast::ToBool(a)
        | Ast::Not(a) => lookahead_bits(a),
        Ast::Choice(c, y, n) => lookahead_bits(c).max(lookahead_bits(y)).max(lookahead_bits(n)),
        _ => None,
    }
}
