//! Actions: lists of operations on the packet state and the externs, with jumps resolved.

use num_traits::{Signed, ToPrimitive};

use super::ast::{Ast, HeaderRef, Reader};
use super::expr::{Compiler, Cond, Demand, E, Element, Num, Place, X};
use super::layout::{HeaderId, Layout, StackId};
use super::packing::{Argument, Packing};
use super::slot::{Slot, Span};
use super::{LoadError, Names};
use crate::json::Node;

/// One step of an action. The short forms are what p4c's output mostly consists of.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Field becomes a constant.
    Const(Slot, u64),
    /// Field becomes another's value.
    Copy(Slot, Slot),
    /// Field becomes an argument.
    Param(Slot, Argument),
    /// Field becomes what is computed.
    Set(Slot, E),
    /// The same beyond 64 bits.
    SetDouble(Box<(Span, X)>),
    /// Wide field becomes another's value.
    CopySpan(Box<(Span, Span)>),
    /// Anything else: a field of a stack's element, or wider than 128 bits.
    SetAny(Box<(Target, Num)>),
    /// A varbit field becomes another's value.
    SetVarbit(Box<(Place, usize, Place, usize)>),
    /// A header becomes valid, with fields of zero if it was not.
    AddHeader(Box<Place>),
    RemoveHeader(Box<Place>),
    /// [`Op::AddHeader`] and constants for some of its fields, at once.
    InitHeader(Box<InitHeader>),
    /// A header becomes a copy of another, validity included.
    CopyHeader(Box<(Place, Place)>),
    /// All of a stack, next index included.
    CopyStack(StackId, StackId),
    Push(StackId, E),
    Pop(StackId, E),
    Jump(u32),
    JumpUnless(Cond, u32),
    Exit,
    MarkToDrop,
    Count(u32, E),
    Meter(Box<(u32, E, Target)>),
    RegisterRead(Box<(Target, u32, E)>),
    RegisterWrite(Box<(u32, E, Num)>),
    /// target = base + hash % size
    Hash(Box<(Target, E, u32, E)>),
    /// Uniform between two bounds.
    Random(Box<(Target, E, E)>),
    Digest(u32),
    Clone(Box<(E, E)>),
    Resubmit(E),
    Recirculate(E),
    Truncate(E),
    Log(Box<(String, Vec<Num>)>),
    Assert(Box<Cond>),
    /// The packet must reach so many bits beyond the cursor (parser only).
    NeedAhead(u32),
}

/// A header that becomes valid with known contents.
#[derive(Debug, Clone)]
pub(crate) struct InitHeader {
    pub(crate) valid: u32,
    pub(crate) base: u32,
    /// What it contains if it was not valid.
    pub(crate) template: Box<[u8]>,
    /// What is written if it was.
    pub(crate) fields: Vec<(Slot, u64)>,
}

/// Where a number is written.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Slot(Slot),
    Span(Span),
    Element(Element, Span),
    /// A header's hidden validity bit, or a field without bits: writes are lost.
    Nowhere,
}

/// An action.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) parameters: Vec<String>,
    pub(crate) widths: Vec<usize>,
    /// How the arguments stand in words.
    pub(crate) packing: Packing,
    pub(crate) ops: Box<[Op]>,
    /// Cells that the packet will need: the argument that becomes the field which names them.
    pub(crate) ahead: Box<[(Argument, Cell)]>,
}

/// An array of which a field names the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Counter(u32),
    Meter(u32),
}

/// Finds out which actions name cells that others use.
pub(crate) fn find_cells(actions: &mut [Action]) {
    let mut uses = Vec::new();
    for op in actions.iter().flat_map(|a| &a.ops) {
        match op {
            Op::Count(counter, E::Load(slot)) => uses.push((*slot, Cell::Counter(*counter))),
            Op::Meter(parts) => {
                if let (meter, E::Load(slot), _) = &**parts {
                    uses.push((*slot, Cell::Meter(*meter)));
                }
            }
            _ => {}
        }
    }
    for action in actions {
        let argument = |slot: Slot| {
            action.ops.iter().find_map(|op| match op {
                Op::Param(s, from) if *s == slot => Some(*from),
                _ => None,
            })
        };
        let named = |(slot, cell): &(Slot, Cell)| argument(*slot).map(|from| (from, *cell));
        let mut ahead: Vec<(Argument, Cell)> = uses.iter().filter_map(named).collect();
        ahead.dedup();
        action.ahead = ahead.into_boxed_slice();
    }
}

/// Whether operations are not simply done one after the other.
pub(crate) fn has_jumps(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(op, Op::Jump(_) | Op::JumpUnless(..)))
}

impl Op {
    /// `slot = e`, in its shortest form.
    fn assign(slot: Slot, e: E) -> Op {
        match e {
            E::Const(c) => Op::Const(slot, c & slot.mask()),
            E::Load(from) => Op::Copy(slot, from),
            E::Param(from) => Op::Param(slot, from),
            e => Op::Set(slot, e),
        }
    }
}

impl Action {
    pub(crate) fn has_jumps(&self) -> bool {
        has_jumps(&self.ops)
    }
}

/// Compiles the primitives of one scope: an action, or a parser state.
pub(crate) struct ActionCompiler<'l> {
    pub(crate) reader: Reader<'l>,
    pub(crate) compiler: Compiler<'l>,
    pub(crate) names: &'l Names,
}

impl<'l> ActionCompiler<'l> {
    pub(crate) fn new(layout: &'l Layout, names: &'l Names, params: &'l [usize]) -> Self {
        Self {
            reader: Reader { layout, params },
            compiler: Compiler { layout, params },
            names,
        }
    }

    /// An item of `actions`.
    pub(crate) fn action(layout: &Layout, names: &Names, node: &Node) -> Result<Action, LoadError> {
        let mut parameters = Vec::new();
        let mut widths = Vec::new();
        for data in node.get("runtime_data").items()? {
            parameters.push(data.get("name").str()?.to_owned());
            let width = data.get("bitwidth").usize()?;
            if width > 1 << 16 {
                return Err(data.error("parameter is too wide"));
            }
            widths.push(width);
        }
        let compiler = ActionCompiler::new(layout, names, &widths);
        let primitives = node.get("primitives");
        let mut ops = Vec::new();
        // Where each primitive's operations begin: the targets of jumps.
        let mut begins = Vec::new();
        for primitive in primitives.items()? {
            begins.push(ops.len() as u32);
            compiler.primitive(&primitive, &mut ops)?;
        }
        begins.push(ops.len() as u32);
        for op in &mut ops {
            if let Op::Jump(target) | Op::JumpUnless(_, target) = op {
                *target = *begins
                    .get(*target as usize)
                    .ok_or_else(|| primitives.error(format_args!("jump to {target}, beyond the action")))?;
            }
        }
        let ops = super::peephole::improve(ops, layout);
        let name = node.get("name").str()?.to_owned();
        let ops = ops.into_boxed_slice();
        Ok(Action {
            name,
            parameters,
            packing: Packing::new(widths.iter().copied()),
            widths: widths.clone(),
            ops,
            ahead: Box::default(),
        })
    }

    fn target(&self, node: &Node) -> Result<Target, LoadError> {
        match self.reader.read(node)? {
            Ast::Field(header, field) => Ok(self.target_of(&header, field)),
            Ast::ToBool(inner) => match *inner {
                Ast::Field(header, field) => Ok(self.target_of(&header, field)),
                _ => Err(node.error("cannot be assigned to")),
            },
            Ast::ValidBit(_) => Ok(Target::Nowhere),
            _ => Err(node.error("cannot be assigned to")),
        }
    }

    fn target_of(&self, header: &HeaderRef, field: usize) -> Target {
        let layout = self.compiler.layout;
        let model = header.model(layout);
        let width = layout.type_of(model).fields[field].width;
        if width == 0 {
            return Target::Nowhere;
        }
        let place = self.compiler.place(header);
        match place.element {
            Some(element) => Target::Element(*element, layout.span(model, field)),
            None => match layout.slot(model, field) {
                Some(slot) => Target::Slot(slot),
                None => Target::Span(layout.span(model, field)),
            },
        }
    }

    fn index(&self, node: &Node) -> Result<E, LoadError> {
        Ok(self.compiler.index(&self.reader.number(node)?))
    }

    /// `target = value`.
    pub(crate) fn assign(&self, target: &Node, value: Ast, ops: &mut Vec<Op>) -> Result<(), LoadError> {
        let value = if value.is_bool() {
            Ast::FromBool(Box::new(value))
        } else {
            value
        };
        let target = self.target(target)?;
        let wide = |ops: &mut Vec<Op>, span: Span| match self.compiler.number(&value, Demand::Bits(span.width)) {
            Num::Double(x) => match (span.halves(), x.halves()) {
                // The low half first: the high half never looks at it.
                (Some((high, low)), Some((x_high, x_low))) => {
                    ops.extend([Op::assign(low, x_low), Op::assign(high, x_high)]);
                }
                _ => match x {
                    X::Load(from) if from.width == span.width => ops.push(Op::CopySpan(Box::new((span, from)))),
                    x => ops.push(Op::SetDouble(Box::new((span, x)))),
                },
            },
            Num::Big(ast) => match &*ast {
                Ast::Field(HeaderRef::Fixed(header), field) => {
                    let from = self.compiler.layout.span(*header, *field);
                    ops.push(Op::CopySpan(Box::new((span, from))));
                }
                _ => ops.push(Op::SetAny(Box::new((Target::Span(span), Num::Big(ast))))),
            },
            word => ops.push(Op::SetAny(Box::new((Target::Span(span), word)))),
        };
        match target {
            Target::Nowhere => {}
            Target::Slot(slot) => match self.compiler.number(&value, Demand::Bits(slot.width() as u32)) {
                Num::Word(e) => ops.push(Op::assign(slot, e)),
                other => ops.push(Op::SetAny(Box::new((Target::Slot(slot), other)))),
            },
            Target::Span(span) => wide(ops, span),
            element @ Target::Element(..) => {
                let Target::Element(_, span) = &element else {
                    return Ok(());
                };
                let number = self.compiler.number(&value, Demand::Bits(span.width));
                ops.push(Op::SetAny(Box::new((element, number))));
            }
        }
        Ok(())
    }

    /// One primitive call.
    pub(crate) fn primitive(&self, node: &Node, ops: &mut Vec<Op>) -> Result<(), LoadError> {
        let op_node = node.get("op");
        let op = op_node.str()?;
        let parameters = node.get("parameters");
        let (p0, p1, p2, p3) = (parameters.at(0), parameters.at(1), parameters.at(2), parameters.at(3));
        let place = |n: &Node| -> Result<Place, LoadError> { Ok(self.compiler.place(&self.reader.header_ref(n)?)) };
        let binary = |name: &str, left: &Node, right: &Node| -> Result<Ast, LoadError> {
            use super::ast::BinaryOp::*;
            let op = match name {
                "add" | "add_to_field" => Add,
                "subtract" | "subtract_from_field" => Sub,
                "bit_xor" => Xor,
                "bit_or" => Or,
                "bit_and" => And,
                "shift_left" => Shl,
                _ => Shr,
            };
            Ok(Ast::Binary(
                op,
                Box::new(self.reader.number(left)?),
                Box::new(self.reader.number(right)?),
            ))
        };
        match op {
            "assign" | "modify_field" | "set" => self.assign(&p0, self.reader.read(&p1)?, ops)?,
            "add_to_field" | "subtract_from_field" => self.assign(&p0, binary(op, &p0, &p1)?, ops)?,
            "add" | "subtract" | "bit_xor" | "bit_or" | "bit_and" | "shift_left" | "shift_right" => {
                self.assign(&p0, binary(op, &p1, &p2)?, ops)?;
            }
            "assign_VL" => {
                let (Ast::Field(to, to_field), Ast::Field(from, from_field)) =
                    (self.reader.read(&p0)?, self.reader.read(&p1)?)
                else {
                    return Err(node.error("assign_VL takes two fields"));
                };
                let layout = self.compiler.layout;
                let is_varbit = |h: &HeaderRef, f| layout.type_of(h.model(layout)).varbit == Some(f);
                if !is_varbit(&to, to_field) || !is_varbit(&from, from_field) {
                    return Err(node.error("assign_VL takes two varbit fields"));
                }
                let (to, from) = (self.compiler.place(&to), self.compiler.place(&from));
                ops.push(Op::SetVarbit(Box::new((to, to_field, from, from_field))));
            }
            "assign_header" | "copy_header" => {
                let (to, from) = (place(&p0)?, place(&p1)?);
                self.copy_header(node, to, from, ops)?;
            }
            "assign_union" => {
                let to = self.compiler.members(&self.reader.union_ref(&p0)?);
                let from = self.compiler.members(&self.reader.union_ref(&p1)?);
                // Invalid members first: making one valid makes the others invalid, never the other way round.
                for (to, from) in to.into_iter().zip(from) {
                    self.copy_header(node, to, from, ops)?;
                }
            }
            "assign_header_stack" | "assign_union_stack" => {
                let (to, from) = (self.stack(&p0)?, self.stack(&p1)?);
                let layout = self.compiler.layout;
                let (a, b) = (&layout.stacks[to.0], &layout.stacks[from.0]);
                let kinds = |first: &[HeaderId]| -> Vec<usize> {
                    first.iter().map(|h| layout.headers[h.0].header_type).collect()
                };
                if a.size != b.size || kinds(&a.first) != kinds(&b.first) {
                    return Err(node.error("the stacks differ in type"));
                }
                ops.push(Op::CopyStack(to, from));
            }
            "add_header" | "add_header_fast" => ops.push(Op::AddHeader(Box::new(place(&p0)?))),
            "remove_header" => ops.push(Op::RemoveHeader(Box::new(place(&p0)?))),
            "push" => ops.push(Op::Push(self.stack(&p0)?, self.index(&p1)?)),
            "pop" => ops.push(Op::Pop(self.stack(&p0)?, self.index(&p1)?)),
            "_jump" => ops.push(Op::Jump(self.constant(&p0)?)),
            "_jump_if_zero" => {
                let condition = self.reader.condition(&p0)?;
                ops.push(Op::JumpUnless(self.compiler.condition(&condition), self.constant(&p1)?));
            }
            "exit" => ops.push(Op::Exit),
            "no_op" => {}
            "mark_to_drop" | "drop" => ops.push(Op::MarkToDrop),
            "count" => ops.push(Op::Count(self.names.counter(&p0.get("value"))?, self.index(&p1)?)),
            "execute_meter" => {
                let meter = self.names.meter(&p0.get("value"))?;
                ops.push(Op::Meter(Box::new((meter, self.index(&p1)?, self.target(&p2)?))));
            }
            "register_read" => {
                let register = self.names.register(&p1.get("value"))?;
                ops.push(Op::RegisterRead(Box::new((
                    self.target(&p0)?,
                    register,
                    self.index(&p2)?,
                ))));
            }
            "register_write" => {
                let register = self.names.register(&p0.get("value"))?;
                let width = self.names.registers[register as usize].bitwidth as u32;
                let value = self
                    .compiler
                    .number(&self.reader.number(&p2)?, Demand::Bits(width.max(1)));
                ops.push(Op::RegisterWrite(Box::new((register, self.index(&p1)?, value))));
            }
            "modify_field_with_hash_based_offset" => {
                let calculation = self.names.calculation(&p2.get("value"))?;
                ops.push(Op::Hash(Box::new((
                    self.target(&p0)?,
                    self.index(&p1)?,
                    calculation,
                    self.index(&p3)?,
                ))));
            }
            "modify_field_rng_uniform" => {
                ops.push(Op::Random(Box::new((
                    self.target(&p0)?,
                    self.index(&p1)?,
                    self.index(&p2)?,
                ))));
            }
            "generate_digest" => ops.push(Op::Digest(self.names.learn_list(&p1, self.constant(&p1)?)?)),
            "clone_ingress_pkt_to_egress" | "clone_egress_pkt_to_egress" => {
                ops.push(Op::Clone(Box::new((self.index(&p0)?, self.index(&p1)?))));
            }
            "resubmit" => ops.push(Op::Resubmit(self.index(&p0)?)),
            "recirculate" => ops.push(Op::Recirculate(self.index(&p0)?)),
            "truncate" => ops.push(Op::Truncate(self.index(&p0)?)),
            "log_msg" => {
                let mut values = Vec::new();
                for value in p1.get("value").items()? {
                    values.push(self.compiler.number(&self.reader.number(&value)?, Demand::Exact));
                }
                ops.push(Op::Log(Box::new((p0.get("value").str()?.to_owned(), values))));
            }
            "assert" | "assume" => {
                ops.push(Op::Assert(Box::new(
                    self.compiler.condition(&self.reader.condition(&p0)?),
                )));
            }
            other => return Err(op_node.error(format_args!("unknown primitive {other:?}"))),
        }
        Ok(())
    }

    fn copy_header(&self, node: &Node, to: Place, from: Place, ops: &mut Vec<Op>) -> Result<(), LoadError> {
        let headers = &self.compiler.layout.headers;
        if headers[to.header.0].header_type != headers[from.header.0].header_type {
            return Err(node.error("the headers differ in type"));
        }
        ops.push(Op::CopyHeader(Box::new((to, from))));
        Ok(())
    }

    fn stack(&self, node: &Node) -> Result<StackId, LoadError> {
        self.compiler.layout.stack(&node.get("value"))
    }

    fn constant(&self, node: &Node) -> Result<u32, LoadError> {
        match self.reader.number(node)? {
            Ast::Const(c) if !c.is_negative() => c.to_u32().ok_or_else(|| node.error("number is too large")),
            _ => Err(node.error("must be a constant")),
        }
    }
}
