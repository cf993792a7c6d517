//! Expressions as the JSON has them, with names resolved: the form that [`expr`](super::expr) compiles.
//!
//! BMv2 computes with integers of any size; the compiler bounds them where the language says so (`& 0xff`,
//! `two_comp_mod`). [`Range`] finds out how large a value can be, so that almost everything is compiled to 64-bit
//! arithmetic with the same results.

use num_bigint::BigInt;
use num_traits::{Num, Signed, Zero};

use super::LoadError;
use super::layout::{HeaderId, Layout, StackId, UnionId};
use crate::json::Node;

/// Deepest expression that is accepted.
const MAX_DEPTH: usize = 500;

/// A header, known now or found while a packet is processed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum HeaderRef {
    Fixed(HeaderId),
    /// Element of a stack (member `member` of it, if a stack of unions): the last one extracted.
    Last(StackId, usize),
    /// Element of a stack at a computed index.
    At(StackId, usize, Box<Ast>),
}

/// A header union.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum UnionRef {
    Fixed(UnionId),
    Last(StackId),
    At(StackId, Box<Ast>),
}

/// What two operands give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Shl,
    Shr,
    And,
    Or,
    Xor,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A typed expression: numbers and booleans are told apart by [`Ast::is_bool`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Ast {
    Const(BigInt),
    Bool(bool),
    Field(HeaderRef, usize),
    /// A header's validity, as a number.
    ValidBit(HeaderRef),
    /// Argument of the action.
    Param(usize),
    Binary(BinaryOp, Box<Ast>, Box<Ast>),
    /// -a - 1.
    Complement(Box<Ast>),
    /// The value that a two's complement number of this width has.
    Wrap(Box<Ast>, u32),
    /// Saturate to an unsigned number of this width.
    SaturateUnsigned(Box<Ast>, u32),
    /// Saturate to a signed number of this width.
    SaturateSigned(Box<Ast>, u32),
    Choice(Box<Ast>, Box<Ast>, Box<Ast>),
    FromBool(Box<Ast>),
    ToBool(Box<Ast>),
    Compare(Compare, Box<Ast>, Box<Ast>),
    AndAlso(Box<Ast>, Box<Ast>),
    OrElse(Box<Ast>, Box<Ast>),
    Not(Box<Ast>),
    /// Both booleans are the same.
    SameBool(Box<Ast>, Box<Ast>),
    Valid(HeaderRef),
    ValidUnion(UnionRef),
    SameHeader(HeaderRef, HeaderRef),
    SameUnion(UnionRef, UnionRef),
    /// Index of the stack's last element: next index less one.
    LastIndex(StackId),
    /// Number of elements extracted.
    StackSize(StackId),
    /// Bits of the packet ahead of the parser: offset, width.
    Lookahead(usize, usize),
}

/// A number's hexadecimal form, with or without sign and prefix.
pub(crate) fn hex(node: &Node) -> Result<BigInt, LoadError> {
    let text = node.str()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) || digits.len() > 1 << 16 {
        return Err(node.error(format_args!("{text:?} is not a hexadecimal number")));
    }
    let value = BigInt::from_str_radix(digits, 16).map_err(|e| node.error(e))?;
    Ok(if negative { -value } else { value })
}

/// Reads expressions: names come from `layout`, arguments from the action at hand.
pub(crate) struct Reader<'l> {
    pub(crate) layout: &'l Layout,
    /// Widths of the action's arguments; none outside actions.
    pub(crate) params: &'l [usize],
}

impl Reader<'_> {
    /// A type-value object as a number or boolean.
    pub(crate) fn read(&self, node: &Node) -> Result<Ast, LoadError> {
        self.value(node, 0)
    }

    /// A type-value object that must be a number; a boolean becomes 0 or 1.
    pub(crate) fn number(&self, node: &Node) -> Result<Ast, LoadError> {
        let ast = self.read(node)?;
        Ok(if ast.is_bool() {
            Ast::FromBool(Box::new(ast))
        } else {
            ast
        })
    }

    /// A type-value object that must be a boolean; a number is true unless 0.
    pub(crate) fn condition(&self, node: &Node) -> Result<Ast, LoadError> {
        let ast = self.read(node)?;
        Ok(if ast.is_bool() { ast } else { Ast::ToBool(Box::new(ast)) })
    }

    fn value(&self, node: &Node, depth: usize) -> Result<Ast, LoadError> {
        if depth > MAX_DEPTH {
            return Err(node.error("expression is nested too deeply"));
        }
        let value = node.get("value");
        let type_node = node.get("type");
        match type_node.str()? {
            "expression" if value.has("op") => self.operation(&value, depth),
            "expression" => self.value(&value, depth + 1),
            "hexstr" => Ok(Ast::Const(hex(&value)?)),
            "bool" => Ok(Ast::Bool(value.bool()?)),
            "field" => self.field(&value),
            "stack_field" => {
                let stack = self.layout.stack(&value.at(0))?;
                self.member(HeaderRef::Last(stack, 0), &value.at(1))
            }
            "union_stack_field" => {
                let stack = self.layout.stack(&value.at(0))?;
                let member = self.union_member(stack, &value.at(1))?;
                self.member(HeaderRef::Last(stack, member), &value.at(2))
            }
            "local" | "runtime_data" => {
                let index = value.usize()?;
                if index >= self.params.len() {
                    return Err(value.error(format_args!("the action has {} parameters", self.params.len())));
                }
                Ok(Ast::Param(index))
            }
            "lookahead" => {
                let (offset, width) = (value.at(0).usize()?, value.at(1).usize()?);
                if offset > 1 << 16 || width > 1 << 16 {
                    return Err(value.error("lookahead is too wide"));
                }
                Ok(Ast::Lookahead(offset, width))
            }
            "header" => Ok(Ast::Valid(HeaderRef::Fixed(self.layout.header(&value)?))),
            other => Err(node.error(format_args!("{other:?} is not an expression"))),
        }
    }

    /// A pair of header name and field name.
    fn field(&self, pair: &Node) -> Result<Ast, LoadError> {
        self.member(HeaderRef::Fixed(self.layout.header(&pair.at(0))?), &pair.at(1))
    }

    fn member(&self, header: HeaderRef, name: &Node) -> Result<Ast, LoadError> {
        if name.str()? == "$valid$" {
            return Ok(Ast::ValidBit(header));
        }
        let field = self.layout.field(header.model(self.layout), name)?;
        Ok(Ast::Field(header, field))
    }

    /// Which member of the unions of `stack` is called by `name`'s string.
    fn union_member(&self, stack: StackId, name: &Node) -> Result<usize, LoadError> {
        let wanted = name.str()?;
        let first = &self.layout.stacks[stack.0].first;
        first
            .iter()
            .position(|m| {
                let full = &self.layout.headers[m.0].name;
                full == wanted || full.rsplit('.').next() == Some(wanted)
            })
            .ok_or_else(|| name.error("the union has no such member"))
    }

    /// A pair of a union stack and a member: that member of the element extracted last (or next).
    pub(crate) fn header_ref_in_union_stack(&self, pair: &Node) -> Result<HeaderRef, LoadError> {
        let stack = self.layout.stack(&pair.at(0))?;
        Ok(HeaderRef::Last(stack, self.union_member(stack, &pair.at(1))?))
    }

    /// Something that is a header.
    pub(crate) fn header_ref(&self, node: &Node) -> Result<HeaderRef, LoadError> {
        self.header_at(node, 0)
    }

    fn header_at(&self, node: &Node, depth: usize) -> Result<HeaderRef, LoadError> {
        if depth > MAX_DEPTH {
            return Err(node.error("expression is nested too deeply"));
        }
        let value = node.get("value");
        match node.get("type").str()? {
            "header" => Ok(HeaderRef::Fixed(self.layout.header(&value)?)),
            "stack_field" => Ok(HeaderRef::Last(self.layout.stack(&value.at(0))?, 0)),
            "union_stack_field" => {
                let stack = self.layout.stack(&value.at(0))?;
                Ok(HeaderRef::Last(stack, self.union_member(stack, &value.at(1))?))
            }
            "expression" if value.has("op") => match value.get("op").str()? {
                "dereference_header_stack" | "dereference_stack" => {
                    let stack = self.layout.stack(&value.get("left").get("value"))?;
                    let index = self.index(&value.get("right"), depth)?;
                    Ok(HeaderRef::At(stack, 0, Box::new(index)))
                }
                "access_union_header" => {
                    let right = value.get("right");
                    let member = if right.has("value") {
                        return Err(right.error("expected the number of a member"));
                    } else {
                        right.usize()?
                    };
                    let union = self.union_at(&value.get("left"), depth + 1)?;
                    let (count, reference) = match union {
                        UnionRef::Fixed(u) => {
                            let members = &self.layout.unions[u.0].members;
                            (members.len(), members.get(member).map(|m| HeaderRef::Fixed(*m)))
                        }
                        UnionRef::Last(s) => (self.layout.stacks[s.0].first.len(), Some(HeaderRef::Last(s, member))),
                        UnionRef::At(s, i) => (self.layout.stacks[s.0].first.len(), Some(HeaderRef::At(s, member, i))),
                    };
                    reference
                        .filter(|_| member < count)
                        .ok_or_else(|| right.error("the union has no such member"))
                }
                other => Err(value.error(format_args!("{other:?} does not give a header"))),
            },
            "expression" => self.header_at(&value, depth + 1),
            other => Err(node.error(format_args!("expected a header, found {other:?}"))),
        }
    }

    /// Something that is a header union.
    pub(crate) fn union_ref(&self, node: &Node) -> Result<UnionRef, LoadError> {
        self.union_at(node, 0)
    }

    fn union_at(&self, node: &Node, depth: usize) -> Result<UnionRef, LoadError> {
        if depth > MAX_DEPTH {
            return Err(node.error("expression is nested too deeply"));
        }
        let value = node.get("value");
        match node.get("type").str()? {
            "header_union" => Ok(UnionRef::Fixed(self.layout.union(&value)?)),
            "stack_field" => Ok(UnionRef::Last(self.layout.stack(&value.at(0))?)),
            "expression" if value.has("op") => match value.get("op").str()? {
                "dereference_union_stack" | "dereference_header_stack" => {
                    let stack = self.layout.stack(&value.get("left").get("value"))?;
                    let index = self.index(&value.get("right"), depth)?;
                    Ok(UnionRef::At(stack, Box::new(index)))
                }
                other => Err(value.error(format_args!("{other:?} does not give a header union"))),
            },
            "expression" => self.union_at(&value, depth + 1),
            other => Err(node.error(format_args!("expected a header union, found {other:?}"))),
        }
    }

    fn index(&self, node: &Node, depth: usize) -> Result<Ast, LoadError> {
        let index = self.value(node, depth + 1)?;
        if index.is_bool() {
            Err(node.error("an index is a number"))
        } else {
            Ok(index)
        }
    }

    fn operation(&self, node: &Node, depth: usize) -> Result<Ast, LoadError> {
        let op = node.get("op").str()?;
        let (left, right) = (node.get("left"), node.get("right"));
        let number = |n: &Node| -> Result<Box<Ast>, LoadError> {
            let ast = self.value(n, depth + 1)?;
            Ok(Box::new(if ast.is_bool() {
                Ast::FromBool(Box::new(ast))
            } else {
                ast
            }))
        };
        let boolean = |n: &Node| -> Result<Box<Ast>, LoadError> {
            let ast = self.value(n, depth + 1)?;
            Ok(Box::new(if ast.is_bool() { ast } else { Ast::ToBool(Box::new(ast)) }))
        };
        let width = |n: &Node| -> Result<u32, LoadError> {
            let w = hex(&n.get("value"))?;
            u32::try_from(&w)
                .ok()
                .filter(|w| (1..=1 << 20).contains(w))
                .ok_or_else(|| n.error(format_args!("{w} is no width")))
        };
        let binary = |op| Ok(Ast::Binary(op, number(&left)?, number(&right)?));
        let compare = |op| Ok(Ast::Compare(op, number(&left)?, number(&right)?));
        match op {
            "+" => binary(BinaryOp::Add),
            "-" if left.is_null() => Ok(Ast::Binary(
                BinaryOp::Sub,
                Box::new(Ast::Const(BigInt::zero())),
                number(&right)?,
            )),
            "-" => binary(BinaryOp::Sub),
            "*" => binary(BinaryOp::Mul),
            "/" => binary(BinaryOp::Div),
            "%" => binary(BinaryOp::Mod),
            "<<" => binary(BinaryOp::Shl),
            ">>" => binary(BinaryOp::Shr),
            "&" => binary(BinaryOp::And),
            "|" => binary(BinaryOp::Or),
            "^" => binary(BinaryOp::Xor),
            "~" => Ok(Ast::Complement(number(&right)?)),
            "two_comp_mod" => Ok(Ast::Wrap(number(&left)?, width(&right)?)),
            "usat_cast" => Ok(Ast::SaturateUnsigned(number(&left)?, width(&right)?)),
            "sat_cast" => Ok(Ast::SaturateSigned(number(&left)?, width(&right)?)),
            "?" => {
                let condition = boolean(&node.get("cond"))?;
                let (yes, no) = (self.value(&left, depth + 1)?, self.value(&right, depth + 1)?);
                if yes.is_bool() != no.is_bool() {
                    return Err(node.error("one branch is a boolean, the other a number"));
                }
                Ok(Ast::Choice(condition, Box::new(yes), Box::new(no)))
            }
            "b2d" => Ok(Ast::FromBool(boolean(&right)?)),
            "d2b" => Ok(Ast::ToBool(number(&right)?)),
            "==" | "!=" => {
                let same = self.equality(&left, &right, depth)?;
                Ok(match (op, same) {
                    ("==", same) => same,
                    (_, Ast::Compare(_, l, r)) => Ast::Compare(Compare::Ne, l, r),
                    (_, same) => Ast::Not(Box::new(same)),
                })
            }
            "<" => compare(Compare::Lt),
            "<=" => compare(Compare::Le),
            ">" => compare(Compare::Gt),
            ">=" => compare(Compare::Ge),
            "and" => Ok(Ast::AndAlso(boolean(&left)?, boolean(&right)?)),
            "or" => Ok(Ast::OrElse(boolean(&left)?, boolean(&right)?)),
            "not" => Ok(Ast::Not(boolean(&right)?)),
            "valid" => Ok(Ast::Valid(self.header_at(&right, depth + 1)?)),
            "valid_union" => Ok(Ast::ValidUnion(self.union_at(&right, depth + 1)?)),
            "last_stack_index" => Ok(Ast::LastIndex(self.layout.stack(&right.get("value"))?)),
            "size_stack" => Ok(Ast::StackSize(self.layout.stack(&right.get("value"))?)),
            "access_field" => {
                let header = self.header_at(&left, depth + 1)?;
                let field = right.usize()?;
                let fields = self.layout.type_of(header.model(self.layout)).fields.len();
                match field {
                    f if f < fields => Ok(Ast::Field(header, f)),
                    f if f == fields => Ok(Ast::ValidBit(header)),
                    _ => Err(right.error(format_args!("the header has {fields} fields"))),
                }
            }
            other => Err(node.error(format_args!("unknown operation {other:?}"))),
        }
    }

    fn equality(&self, left: &Node, right: &Node, depth: usize) -> Result<Ast, LoadError> {
        if let (Ok(l), Ok(r)) = (self.header_at(left, depth + 1), self.header_at(right, depth + 1)) {
            return Ok(Ast::SameHeader(l, r));
        }
        if let (Ok(l), Ok(r)) = (self.union_at(left, depth + 1), self.union_at(right, depth + 1)) {
            return Ok(Ast::SameUnion(l, r));
        }
        let (l, r) = (self.value(left, depth + 1)?, self.value(right, depth + 1)?);
        let number = |a: Ast| Box::new(if a.is_bool() { Ast::FromBool(Box::new(a)) } else { a });
        Ok(match (l.is_bool(), r.is_bool()) {
            (true, true) => Ast::SameBool(Box::new(l), Box::new(r)),
            _ => Ast::Compare(Compare::Eq, number(l), number(r)),
        })
    }
}

impl HeaderRef {
    /// A header of the same type: the element 0 of a stack.
    pub(crate) fn model(&self, layout: &Layout) -> HeaderId {
        match self {
            HeaderRef::Fixed(header) => *header,
            HeaderRef::Last(stack, member) | HeaderRef::At(stack, member, _) => layout.stacks[stack.0].first[*member],
        }
    }
}

impl Ast {
    /// Whether this is a boolean rather than a number.
    pub(crate) fn is_bool(&self) -> bool {
        match self {
            Ast::Bool(_)
            | Ast::ToBool(_)
            | Ast::Compare(..)
            | Ast::AndAlso(..)
            | Ast::OrElse(..)
            | Ast::Not(_)
            | Ast::SameBool(..)
            | Ast::Valid(_)
            | Ast::ValidUnion(_)
            | Ast::SameHeader(..)
            | Ast::SameUnion(..) => true,
            Ast::Choice(_, yes, _) => yes.is_bool(),
            _ => false,
        }
    }
}

/// Bounds of a number v: -2^below <= v < 2^above; `below` absent: v is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) above: u32,
    pub(crate) below: Option<u32>,
}

/// A range whose size nobody knows.
const HUGE: u32 = 1 << 24;

impl Range {
    pub(crate) fn unsigned(bits: u32) -> Self {
        Range {
            above: bits,
            below: None,
        }
    }

    pub(crate) fn signed(bits: u32) -> Self {
        Range {
            above: bits.saturating_sub(1),
            below: Some(bits.saturating_sub(1)),
        }
    }

    /// Whether every value is exact as an unsigned number of so many bits.
    pub(crate) fn fits_unsigned(self, bits: u32) -> bool {
        self.below.is_none() && self.above <= bits
    }

    /// Whether every value is exact as a two's complement number of so many bits.
    pub(crate) fn fits_signed(self, bits: u32) -> bool {
        self.above < bits && self.below.is_none_or(|b| b < bits)
    }

    fn union(self, other: Range) -> Range {
        let below = match (self.below, other.below) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        Range {
            above: self.above.max(other.above),
            below,
        }
    }

    /// Bounds of the absolute value, in bits.
    fn magnitude(self) -> u32 {
        self.above.max(self.below.map_or(0, |b| b + 1))
    }

    /// Bounds of `ast`.
    pub(crate) fn of(ast: &Ast, layout: &Layout, params: &[usize]) -> Range {
        let of = |a: &Ast| Range::of(a, layout, params);
        let cap = |r: Range| Range {
            above: r.above.min(HUGE),
            below: r.below.map(|b| b.min(HUGE)),
        };
        cap(match ast {
            Ast::Const(c) if c.is_negative() => Range {
                above: 0,
                below: Some((c + 1u8).bits() as u32),
            },
            Ast::Const(c) => Range::unsigned(c.bits() as u32),
            Ast::Field(header, field) => {
                let info = &layout.type_of(header.model(layout)).fields[*field];
                if info.signed {
                    Range::signed(info.width as u32)
                } else {
                    Range::unsigned(info.width as u32)
                }
            }
            Ast::Param(i) => Range::unsigned(params.get(*i).map_or(HUGE, |w| *w as u32)),
            Ast::Lookahead(_, width) => Range::unsigned(*width as u32),
            Ast::ValidBit(_) | Ast::FromBool(_) => Range::unsigned(1),
            Ast::LastIndex(_) => Range {
                above: 8,
                below: Some(0),
            },
            Ast::StackSize(_) => Range::unsigned(8),
            Ast::Wrap(_, width) => Range::signed(*width),
            Ast::SaturateUnsigned(_, width) => Range::unsigned(*width),
            Ast::SaturateSigned(_, width) => Range::signed(*width),
            Ast::Choice(_, yes, no) => of(yes).union(of(no)),
            Ast::Complement(a) => {
                let a = of(a);
                Range {
                    above: a.below.unwrap_or(0),
                    below: Some(a.above),
                }
            }
            Ast::Binary(op, l, r) => {
                let (a, b) = (of(l), of(r));
                match op {
                    BinaryOp::Add => Range {
                        above: a.above.max(b.above) + 1,
                        below: (a.below.is_some() || b.below.is_some())
                            .then(|| a.below.unwrap_or(0).max(b.below.unwrap_or(0)) + 1),
                    },
                    BinaryOp::Sub => Range {
                        above: a.above.max(b.below.map_or(0, |x| x + 1)) + 1,
                        below: Some(a.below.unwrap_or(0).max(b.above) + 1),
                    },
                    BinaryOp::Mul => {
                        let bits = a.magnitude() + b.magnitude();
                        Range {
                            above: bits,
                            below: (a.below.is_some() || b.below.is_some()).then_some(bits),
                        }
                    }
                    BinaryOp::Div => Range {
                        above: a.magnitude(),
                        below: (a.below.is_some() || b.below.is_some()).then_some(a.magnitude()),
                    },
                    BinaryOp::Mod => Range {
                        above: a.magnitude().min(b.magnitude()),
                        below: a.below.map(|_| a.magnitude().min(b.magnitude())),
                    },
                    BinaryOp::Shl => {
                        let by = match &**r {
                            Ast::Const(c) => u32::try_from(c).unwrap_or(HUGE),
                            _ => 1u32.checked_shl(b.above).unwrap_or(HUGE),
                        }
                        .min(HUGE);
                        Range {
                            above: a.above + by,
                            below: a.below.map(|x| x + by),
                        }
                    }
                    BinaryOp::Shr => {
                        let by = match &**r {
                            Ast::Const(c) => u32::try_from(c).unwrap_or(HUGE),
                            _ => 0,
                        };
                        Range {
                            above: a.above.saturating_sub(by),
                            below: a.below.map(|x| x.saturating_sub(by)),
                        }
                    }
                    BinaryOp::And => match (a.below, b.below) {
                        (None, None) => Range::unsigned(a.above.min(b.above)),
                        (None, Some(_)) => Range::unsigned(a.above),
                        (Some(_), None) => Range::unsigned(b.above),
                        (Some(_), Some(_)) => a.union(b),
                    },
                    BinaryOp::Or => a.union(b),
                    BinaryOp::Xor => {
                        let bits = a.union(b);
                        let all = bits.above.max(bits.below.unwrap_or(0));
                        Range {
                            above: all,
                            below: bits.below.map(|_| all),
                        }
                    }
                }
            }
            _ => Range::unsigned(1),
        })
    }
}
