//! Compiles syntax trees to expressions: each to the smallest machine that gives the same result.

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use super::{Cond, Demand, E, Element, Index, Num, Place, X, low64, low128};
use crate::program::ast::{Ast, BinaryOp, Compare, HeaderRef, Range, UnionRef};
use crate::program::layout::{Layout, StackId};
use crate::program::packing::Argument;
use crate::program::slot::{Slot, Span};

/// Compiles expressions of one scope.
pub(crate) struct Compiler<'l> {
    pub(crate) layout: &'l Layout,
    /// Widths of the action's arguments.
    pub(crate) params: &'l [usize],
}

impl Compiler<'_> {
    fn range(&self, ast: &Ast) -> Range {
        Range::of(ast, self.layout, self.params)
    }

    fn fits(&self, ast: &Ast, demand: Demand, bits: u32) -> bool {
        match demand {
            Demand::Bits(d) => d <= bits,
            Demand::Exact => {
                let range = self.range(ast);
                range.fits_unsigned(bits) || range.fits_signed(bits)
            }
        }
    }

    /// A number on the smallest machine.
    pub(crate) fn number(&self, ast: &Ast, demand: Demand) -> Num {
        if self.fits(ast, demand, 64) {
            Num::Word(self.word(ast, demand))
        } else if self.fits(ast, demand, 128) {
            Num::Double(self.double(ast, demand))
        } else {
            Num::Big(Box::new(ast.clone()))
        }
    }

    /// A number as exact as a `u64` can say it: an index, a rate, a session.
    pub(crate) fn index(&self, ast: &Ast) -> E {
        if self.fits(ast, Demand::Exact, 64) {
            self.word(ast, Demand::Exact)
        } else {
            self.word(ast, Demand::Bits(64))
        }
    }

    pub(crate) fn place(&self, header: &HeaderRef) -> Place {
        Place {
            header: header.model(self.layout),
            element: self.element(header).map(Box::new),
        }
    }

    fn element(&self, header: &HeaderRef) -> Option<Element> {
        let (stack, index) = match header {
            HeaderRef::Fixed(_) => return None,
            HeaderRef::Last(stack, _) => (stack, None),
            HeaderRef::At(stack, _, index) => (stack, Some(&**index)),
        };
        Some(self.element_of(*stack, index))
    }

    fn element_of(&self, stack: StackId, index: Option<&Ast>) -> Element {
        let stack = &self.layout.stacks[stack.0];
        Element {
            stride: stack.stride as u32,
            valid_stride: stack.first.len() as u32,
            size: stack.size as u32,
            index: match index {
                None => Index::Last(stack.next as u32),
                Some(ast) => Index::Computed(self.index(ast)),
            },
        }
    }

    /// The members of a union.
    pub(crate) fn members(&self, union: &UnionRef) -> Vec<Place> {
        let stack_members = |stack: StackId, index: Option<&Ast>| {
            let first = &self.layout.stacks[stack.0].first;
            first
                .iter()
                .map(|m| Place {
                    header: *m,
                    element: Some(Box::new(self.element_of(stack, index))),
                })
                .collect()
        };
        match union {
            UnionRef::Fixed(u) => self.layout.unions[u.0]
                .members
                .iter()
                .map(|m| Place {
                    header: *m,
                    element: None,
                })
                .collect(),
            UnionRef::Last(stack) => stack_members(*stack, None),
            UnionRef::At(stack, index) => stack_members(*stack, Some(index)),
        }
    }

    fn valid(&self, header: &HeaderRef) -> Cond {
        let valid = self.layout.headers[header.model(self.layout).0].valid as u32;
        match self.element(header) {
            None => Cond::Valid(valid),
            Some(element) => Cond::ElementValid(Box::new((element, valid))),
        }
    }

    /// An operand that is exact and has 64 bits, if it can.
    fn exact_word(&self, ast: &Ast) -> Option<E> {
        self.fits(ast, Demand::Exact, 64).then(|| self.word(ast, Demand::Exact))
    }

    /// Only where [`Self::fits`] says so.
    fn word(&self, ast: &Ast, demand: Demand) -> E {
        let bits = match demand {
            Demand::Bits(b) => b.min(64),
            Demand::Exact => 64,
        };
        let inner = Demand::Bits(bits);
        // Operations on exact operands that are too wide for this machine are done on the next and cut.
        let wider = || {
            if self.fits_inside(ast, 128) {
                E::Low(Box::new(self.double_whole(ast, inner)))
            } else {
                E::LowBig(Box::new(ast.clone()))
            }
        };
        match ast {
            Ast::Const(c) => E::Const(low64(c)),
            Ast::Field(header, field) => self.field_word(header, *field, demand),
            Ast::ValidBit(header) => match self.valid(header) {
                Cond::ElementValid(at) => E::ElementValid(at),
                other => E::Bool(Box::new(other)),
            },
            Ast::Param(i) => Argument::new(self.params, *i).map_or(E::Const(0), E::Param),
            Ast::Lookahead(offset, width) => E::Lookahead(*offset as u32, *width as u32),
            Ast::LastIndex(stack) => E::LastIndex(self.layout.stacks[stack.0].next as u32),
            Ast::StackSize(stack) => E::StackSize(self.layout.stacks[stack.0].next as u32),
            Ast::FromBool(b) => match self.condition(b) {
                Cond::Const(b) => E::Const(b as u64),
                condition => E::Bool(Box::new(condition)),
            },
            Ast::Choice(c, yes, no) => E::Choice(Box::new((
                self.condition(c),
                self.word(yes, demand),
                self.word(no, demand),
            ))),
            Ast::Complement(a) => E::Complement(Box::new(self.word(a, inner))),
            Ast::Wrap(a, width) => {
                if demand != Demand::Exact && bits <= *width || self.range(a).fits_signed(*width) {
                    return self.word(a, if self.fits(a, demand, 64) { demand } else { inner });
                }
                E::SignExtend(Box::new(self.word(a, Demand::Bits(*width))), *width as u8)
            }
            Ast::SaturateUnsigned(a, width) => match self.exact_word(a) {
                Some(e) => {
                    let bound = if *width >= 64 { u64::MAX } else { (1 << width) - 1 };
                    if self.range(a).fits_unsigned(64) {
                        E::Min(Box::new(e), bound)
                    } else {
                        E::ClampFromSigned(Box::new(e), bound.min(i64::MAX as u64))
                    }
                }
                None => wider(),
            },
            Ast::SaturateSigned(a, width) => match self.exact_word(a) {
                Some(e) if self.range(a).fits_signed(64) && *width <= 64 => E::ClampSigned(Box::new(e), *width as u8),
                _ => wider(),
            },
            Ast::Binary(op, l, r) => match op {
                BinaryOp::And => self.and_word(l, r, bits, demand),
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Or | BinaryOp::Xor => {
                    let (a, b) = (self.word(l, inner), self.word(r, inner));
                    match (op, &a, &b) {
                        (BinaryOp::Add, E::Load(s), E::Const(c)) | (BinaryOp::Add, E::Const(c), E::Load(s)) => {
                            E::LoadPlus(Box::new((*s, *c)))
                        }
                        (BinaryOp::Sub, E::Load(s), E::Const(c)) => E::LoadPlus(Box::new((*s, c.wrapping_neg()))),
                        (BinaryOp::Or | BinaryOp::Xor | BinaryOp::Add, E::Const(0), _) => b,
                        (_, _, E::Const(0)) if *op != BinaryOp::Mul => a,
                        _ => {
                            let pair = Box::new((a, b));
                            match op {
                                BinaryOp::Add => E::Add(pair),
                                BinaryOp::Sub => E::Sub(pair),
                                BinaryOp::Or => E::Or(pair),
                                _ => E::Binary(*op, pair),
                            }
                        }
                    }
                }
                BinaryOp::Shl => match &**r {
                    Ast::Const(c) => match c.to_u32() {
                        Some(by) if by < bits => E::ShlConst(Box::new(self.word(l, Demand::Bits(bits - by))), by as u8),
                        _ => E::Const(0),
                    },
                    _ => match self.exact_word(r) {
                        Some(by) => E::Binary(BinaryOp::Shl, Box::new((self.word(l, inner), by))),
                        None => E::LowBig(Box::new(ast.clone())),
                    },
                },
                BinaryOp::Shr => {
                    if let (Ast::Const(c), Demand::Bits(d)) = (&**r, demand)
                        && let Some(by) = c.to_u32()
                        && by + d <= 64
                        && by < 64
                    {
                        return E::ShrConst(Box::new(self.word(l, Demand::Bits(d + by))), by as u8);
                    }
                    match (self.exact_word(l), self.exact_word(r)) {
                        (Some(a), Some(by)) if self.range(l).fits_unsigned(64) => match by {
                            E::Const(c) if c < 64 => E::ShrConst(Box::new(a), c as u8),
                            by => E::Binary(BinaryOp::Shr, Box::new((a, by))),
                        },
                        (Some(a), Some(by)) => E::ShrSigned(Box::new((a, by))),
                        _ => wider(),
                    }
                }
                BinaryOp::Div | BinaryOp::Mod => match (self.exact_word(l), self.exact_word(r)) {
                    (Some(a), Some(b)) => {
                        let (ra, rb) = (self.range(l), self.range(r));
                        if ra.fits_unsigned(64) && rb.fits_unsigned(64) {
                            E::Binary(*op, Box::new((a, b)))
                        } else if ra.fits_signed(64) && rb.fits_signed(64) {
                            let pair = Box::new((a, b));
                            if *op == BinaryOp::Div {
                                E::DivSigned(pair)
                            } else {
                                E::ModSigned(pair)
                            }
                        } else {
                            wider()
                        }
                    }
                    _ => wider(),
                },
            },
            boolean => E::Bool(Box::new(self.condition(boolean))),
        }
    }

    /// Whether the operation at the top of `ast` can be done with so many bits, its operands being exact.
    fn fits_inside(&self, ast: &Ast, bits: u32) -> bool {
        match ast {
            Ast::SaturateUnsigned(a, width) | Ast::SaturateSigned(a, width) => {
                self.fits(a, Demand::Exact, bits - 1) && *width < bits
            }
            Ast::Binary(BinaryOp::Shr | BinaryOp::Div | BinaryOp::Mod, l, r) => {
                let (a, b) = (self.range(l), self.range(r));
                a.fits_unsigned(bits) && b.fits_unsigned(bits) || a.fits_signed(bits) && b.fits_signed(bits)
            }
            _ => false,
        }
    }

    fn and_word(&self, l: &Ast, r: &Ast, bits: u32, demand: Demand) -> E {
        let (value, mask) = match (l, r) {
            (Ast::Const(c), v) | (v, Ast::Const(c)) if !c.is_negative() => (v, c),
            _ => {
                let pair = (self.word(l, Demand::Bits(bits)), self.word(r, Demand::Bits(bits)));
                return E::And(Box::new(pair));
            }
        };
        let low = low64(mask);
        let wanted = u64::MAX >> (64 - bits);
        if demand != Demand::Exact && low & wanted == wanted {
            return self.word(value, demand);
        }
        let range = self.range(value);
        if range.below.is_none() && range.above < 64 && low & ((1 << range.above) - 1) == (1 << range.above) - 1 {
            return self.word(value, Demand::Exact);
        }
        let needed = 64 - (low & wanted).leading_zeros();
        if needed == 0 {
            return E::Const(0);
        }
        match self.word(value, Demand::Bits(needed)) {
            E::Load(slot) => E::LoadMasked(Box::new((slot, low))),
            E::Const(c) => E::Const(c & low),
            e => E::AndConst(Box::new(e), low),
        }
    }

    fn field_word(&self, header: &HeaderRef, field: usize, demand: Demand) -> E {
        let model = header.model(self.layout);
        let info = &self.layout.type_of(model).fields[field];
        if info.width == 0 {
            return E::Const(0);
        }
        let span = self.layout.span(model, field);
        let low = Span {
            bit: span.bit + span.width - span.width.min(64),
            width: span.width.min(64),
        };
        let slot = match self.layout.slot(model, field) {
            Some(slot) => slot,
            None => match Slot::in_header(low.bit as usize / 8, low.bit as usize, low.width as usize) {
                Some(slot) => slot,
                // Over nine bytes: the next machine can read it.
                None => {
                    return E::Low(Box::new(match self.element(header) {
                        Some(element) => X::Element(Box::new((element, low, info.signed))),
                        None if info.signed && info.width <= 64 => X::LoadSigned(low),
                        None => X::Load(low),
                    }));
                }
            },
        };
        let signed = info.signed && info.width < 64 && !matches!(demand, Demand::Bits(b) if b as usize <= info.width);
        match self.element(header) {
            Some(element) => E::Element(Box::new((element, slot, signed))),
            None if signed => E::LoadSigned(slot),
            None => E::Load(slot),
        }
    }

    /// Only where [`Self::fits`] says so. What the smaller machine can do exactly is done there.
    fn double(&self, ast: &Ast, demand: Demand) -> X {
        let range = self.range(ast);
        if range.fits_unsigned(64) {
            return X::FromUnsigned(self.word(ast, Demand::Exact));
        }
        if range.fits_signed(64) {
            return X::FromSigned(self.word(ast, Demand::Exact));
        }
        self.double_whole(ast, demand)
    }

    /// The operation at the top of `ast` with 128 bits.
    fn double_whole(&self, ast: &Ast, demand: Demand) -> X {
        let bits = match demand {
            Demand::Bits(b) => b.min(128),
            Demand::Exact => 128,
        };
        let inner = Demand::Bits(bits);
        let big = || X::LowBig(Box::new(ast.clone()));
        let exact = |a: &Ast| self.fits(a, Demand::Exact, 128).then(|| self.double(a, Demand::Exact));
        match ast {
            Ast::Const(c) => X::Const(Box::new(low128(c))),
            Ast::Field(header, field) => {
                let model = header.model(self.layout);
                let info = &self.layout.type_of(model).fields[*field];
                let mut span = self.layout.span(model, *field);
                if span.width > 128 {
                    span = Span {
                        bit: span.bit + span.width - 128,
                        width: 128,
                    };
                }
                match self.element(header) {
                    Some(element) => X::Element(Box::new((element, span, info.signed))),
                    None if info.signed && span.width < 128 => X::LoadSigned(span),
                    None => X::Load(span),
                }
            }
            Ast::Param(i) => {
                // Wider than 64 bits: the low words are its own.
                let low = Argument::new(self.params, *i).map_or(1, |low| low.word);
                X::Param(low - 1)
            }
            Ast::Lookahead(offset, width) => X::Lookahead(*offset as u32, *width as u32),
            Ast::Choice(c, yes, no) => X::Choice(Box::new((
                self.condition(c),
                self.double(yes, demand),
                self.double(no, demand),
            ))),
            Ast::Complement(a) => X::Complement(Box::new(self.double(a, inner))),
            Ast::Wrap(a, width) => {
                if demand != Demand::Exact && bits <= *width {
                    return self.double(a, inner);
                }
                X::SignExtend(Box::new(self.double(a, Demand::Bits(*width))), *width as u8)
            }
            Ast::SaturateUnsigned(a, width) => match exact(a) {
                Some(x) => {
                    let bound = if *width >= 128 { u128::MAX } else { (1 << width) - 1 };
                    if self.range(a).fits_unsigned(128) {
                        X::Min(Box::new((x, bound)))
                    } else {
                        X::ClampFromSigned(Box::new((x, bound.min(i128::MAX as u128))))
                    }
                }
                None => big(),
            },
            Ast::SaturateSigned(a, width) => match exact(a) {
                Some(x) if self.range(a).fits_signed(128) && *width <= 128 => X::ClampSigned(Box::new(x), *width as u8),
                _ => big(),
            },
            Ast::Binary(op, l, r) => match op {
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => {
                    X::Binary(*op, Box::new((self.double(l, inner), self.double(r, inner))))
                }
                BinaryOp::Shl => match self.exact_word(r) {
                    Some(by) => X::Shl(Box::new((self.double(l, inner), by))),
                    None => big(),
                },
                BinaryOp::Shr => match (exact(l), self.exact_word(r)) {
                    (Some(a), Some(by)) if self.range(l).fits_unsigned(128) => X::Shr(Box::new((a, by))),
                    (Some(a), Some(by)) => X::ShrSigned(Box::new((a, by))),
                    _ => big(),
                },
                BinaryOp::Div | BinaryOp::Mod => match (exact(l), exact(r)) {
                    (Some(a), Some(b)) => {
                        let (ra, rb) = (self.range(l), self.range(r));
                        if ra.fits_unsigned(128) && rb.fits_unsigned(128) {
                            X::Binary(*op, Box::new((a, b)))
                        } else if ra.fits_signed(128) && rb.fits_signed(128) {
                            let pair = Box::new((a, b));
                            if *op == BinaryOp::Div {
                                X::DivSigned(pair)
                            } else {
                                X::ModSigned(pair)
                            }
                        } else {
                            big()
                        }
                    }
                    _ => big(),
                },
            },
            other => X::FromUnsigned(self.word(other, Demand::Exact)),
        }
    }

    /// A condition.
    pub(crate) fn condition(&self, ast: &Ast) -> Cond {
        match ast {
            Ast::Bool(b) => Cond::Const(*b),
            Ast::ToBool(a) => match &**a {
                Ast::ValidBit(header) => self.valid(header),
                Ast::FromBool(b) => self.condition(b),
                a => match self.number(a, Demand::Exact) {
                    Num::Word(E::Load(slot)) => Cond::IsNot(slot, 0),
                    Num::Word(E::Bool(cond)) => *cond,
                    Num::Word(e) => Cond::NonZero(e),
                    _ => self.compare(Compare::Ne, a, &Ast::Const(BigInt::zero())),
                },
            },
            Ast::Compare(op, l, r) => self.compare(*op, l, r),
            Ast::AndAlso(l, r) => match (self.condition(l), self.condition(r)) {
                (Cond::Const(true), c) | (c, Cond::Const(true)) => c,
                (Cond::Const(false), _) => Cond::Const(false),
                pair => Cond::And(Box::new(pair)),
            },
            Ast::OrElse(l, r) => match (self.condition(l), self.condition(r)) {
                (Cond::Const(false), c) | (c, Cond::Const(false)) => c,
                (Cond::Const(true), _) => Cond::Const(true),
                pair => Cond::Or(Box::new(pair)),
            },
            Ast::Not(a) => match self.condition(a) {
                Cond::Const(b) => Cond::Const(!b),
                Cond::Is(slot, c) => Cond::IsNot(slot, c),
                Cond::IsNot(slot, c) => Cond::Is(slot, c),
                Cond::Not(inner) => *inner,
                c => Cond::Not(Box::new(c)),
            },
            Ast::SameBool(l, r) => Cond::Same(Box::new((self.condition(l), self.condition(r)))),
            Ast::Valid(header) => self.valid(header),
            Ast::ValidUnion(union) => match union {
                UnionRef::Fixed(u) => {
                    let members = &self.layout.unions[u.0].members;
                    Cond::AnyValid(members.iter().map(|m| self.layout.headers[m.0].valid as u32).collect())
                }
                UnionRef::Last(stack) | UnionRef::At(stack, _) => {
                    let index = if let UnionRef::At(_, index) = union {
                        Some(&**index)
                    } else {
                        None
                    };
                    let first = &self.layout.stacks[stack.0].first;
                    let valid = self.layout.headers[first[0].0].valid as u32;
                    Cond::AnyValidAt(Box::new((self.element_of(*stack, index), valid, first.len() as u32)))
                }
            },
            Ast::SameHeader(l, r) => Cond::SameHeader(Box::new((self.place(l), self.place(r)))),
            Ast::SameUnion(l, r) => Cond::SameUnion(Box::new((self.members(l), self.members(r)))),
            Ast::Choice(c, yes, no) => {
                let (c, yes, no) = (self.condition(c), self.condition(yes), self.condition(no));
                Cond::NonZero(E::Choice(Box::new((c, E::Bool(Box::new(yes)), E::Bool(Box::new(no))))))
            }
            number => self.compare(Compare::Ne, number, &Ast::Const(BigInt::zero())),
        }
    }

    fn compare(&self, op: Compare, l: &Ast, r: &Ast) -> Cond {
        let (a, b) = (self.range(l), self.range(r));
        if a.fits_unsigned(64) && b.fits_unsigned(64) {
            let (x, y) = (self.word(l, Demand::Exact), self.word(r, Demand::Exact));
            return match (op, x, y) {
                (Compare::Eq, E::Load(s), E::Const(c)) | (Compare::Eq, E::Const(c), E::Load(s)) => Cond::Is(s, c),
                (Compare::Ne, E::Load(s), E::Const(c)) | (Compare::Ne, E::Const(c), E::Load(s)) => Cond::IsNot(s, c),
                (_, x, y) => Cond::Unsigned(op, Box::new((x, y))),
            };
        }
        if a.fits_signed(64) && b.fits_signed(64) {
            return Cond::Signed(op, Box::new((self.word(l, Demand::Exact), self.word(r, Demand::Exact))));
        }
        if a.fits_unsigned(128) && b.fits_unsigned(128) {
            return Cond::Unsigned128(
                op,
                Box::new((self.double(l, Demand::Exact), self.double(r, Demand::Exact))),
            );
        }
        if a.fits_signed(128) && b.fits_signed(128) {
            return Cond::Signed128(
                op,
                Box::new((self.double(l, Demand::Exact), self.double(r, Demand::Exact))),
            );
        }
        Cond::Big(op, Box::new((l.clone(), r.clone())))
    }
}
