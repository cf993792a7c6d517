//! Expressions compiled to trees over the packet state.
//!
//! Three machines do the arithmetic: 64 bits, 128 bits (IPv6 addresses), and integers of any size, which is BMv2's own
//! and the slowest. A value is computed on the smallest machine that gives the same result: either the machine holds
//! every value that the expression can have ([`Range`]), or only so many low bits are asked for ([`Demand`]) and the
//! operation's low bits depend on nothing but its operands' low bits.

use num_bigint::{BigInt, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::ast::{Ast, BinaryOp, Compare, HeaderRef, Range, UnionRef};
use super::layout::{HeaderId, Layout, StackId};
use super::slot::{Slot, Span};

/// What expressions look at besides the packet state: the same for a whole action.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    pub(crate) layout: &'a Layout,
    /// The action's arguments, each in as many words as it needs, the most significant first.
    pub(crate) params: &'a [u64],
    /// Widths of those arguments.
    pub(crate) widths: &'a [usize],
    /// The packet beyond the parser's cursor.
    pub(crate) ahead: &'a [u8],
}

/// How much of a value is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The value itself: as an unsigned number if it fits, otherwise in two's complement.
    Exact,
    /// So many low bits; the rest may be anything.
    Bits(u32),
}

/// Where a header stands whose place in a stack is known only at run time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    stride: u32,
    valid_stride: u32,
    size: u32,
    index: Index,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Index {
    /// One less than the next index at this byte.
    Last(u32),
    Computed(E),
}

impl Element {
    /// Bytes from one element to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride as usize
    }

    /// The index; none if it is beyond the stack.
    #[inline]
    pub(crate) fn index(&self, phv: &[u8], env: &Env) -> Option<usize> {
        let index = match &self.index {
            Index::Last(next) => (phv[*next as usize] as u64).wrapping_sub(1),
            Index::Computed(e) => e.eval(phv, env),
        };
        (index < self.size as u64).then_some(index as usize)
    }
}

/// A header in the packet state, perhaps an element of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) header: HeaderId,
    pub(crate) element: Option<Box<Element>>,
}

/// A header found: how far its bytes and its validity are from those of [`Place::header`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) header: HeaderId,
    pub(crate) shift: usize,
    pub(crate) valid: usize,
}

impl Found {
    /// Where the present length of its varbit is.
    pub(crate) fn varbit_length(&self, layout: &Layout) -> Option<Slot> {
        let header = &layout.headers[self.header.0];
        header
            .varbit_length
            .map(|slot| slot.moved(8 * (self.valid - header.valid)))
    }

    fn varbit_bytes(&self, phv: &[u8], env: &Env) -> usize {
        self.varbit_length(env.layout).map_or(0, |slot| slot.load(phv) as usize)
    }
}

impl Place {
    pub(crate) fn find(&self, phv: &[u8], env: &Env) -> Option<Found> {
        let valid = env.layout.headers[self.header.0].valid;
        match &self.element {
            None => Some(Found {
                header: self.header,
                shift: 0,
                valid,
            }),
            Some(element) => {
                let index = element.index(phv, env)?;
                Some(Found {
                    header: self.header,
                    shift: index * element.stride as usize,
                    valid: valid + index * element.valid_stride as usize,
                })
            }
        }
    }
}

/// A 64-bit expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum E {
    Const(u64),
    Load(Slot),
    LoadSigned(Slot),
    /// `slot & mask`
    LoadMasked(Box<(Slot, u64)>),
    /// `slot + constant`
    LoadPlus(Box<(Slot, u64)>),
    Element(Box<(Element, Slot, bool)>),
    ElementValid(Box<(Element, u32)>),
    Param(u32),
    Add(Box<(E, E)>),
    Sub(Box<(E, E)>),
    And(Box<(E, E)>),
    Or(Box<(E, E)>),
    Binary(BinaryOp, Box<(E, E)>),
    AndConst(Box<E>, u64),
    ShlConst(Box<E>, u8),
    ShrConst(Box<E>, u8),
    ShrSigned(Box<(E, E)>),
    DivSigned(Box<(E, E)>),
    ModSigned(Box<(E, E)>),
    Complement(Box<E>),
    SignExtend(Box<E>, u8),
    /// The operand is signed; clamp to between 0 and a bound.
    ClampFromSigned(Box<E>, u64),
    Min(Box<E>, u64),
    /// The operand is signed; clamp to a signed number of so many bits.
    ClampSigned(Box<E>, u8),
    Choice(Box<(Cond, E, E)>),
    Bool(Box<Cond>),
    StackSize(u32),
    LastIndex(u32),
    Lookahead(u32, u32),
    Low(Box<X>),
    LowBig(Box<Ast>),
}

/// A 128-bit expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum X {
    Const(Box<u128>),
    Load(Span),
    LoadSigned(Span),
    Element(Box<(Element, Span, bool)>),
    Param(u32),
    FromUnsigned(E),
    FromSigned(E),
    Binary(BinaryOp, Box<(X, X)>),
    /// Shifts: by a 64-bit amount.
    Shl(Box<(X, E)>),
    Shr(Box<(X, E)>),
    ShrSigned(Box<(X, E)>),
    DivSigned(Box<(X, X)>),
    ModSigned(Box<(X, X)>),
    Complement(Box<X>),
    SignExtend(Box<X>, u8),
    ClampFromSigned(Box<(X, u128)>),
    Min(Box<(X, u128)>),
    ClampSigned(Box<X>, u8),
    Choice(Box<(Cond, X, X)>),
    Lookahead(u32, u32),
    LowBig(Box<Ast>),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Cond {
    Const(bool),
    Valid(u32),
    ElementValid(Box<(Element, u32)>),
    AnyValid(Box<[u32]>),
    AnyValidAt(Box<(Element, u32, u32)>),
    Is(Slot, u64),
    IsNot(Slot, u64),
    NonZero(E),
    Unsigned(Compare, Box<(E, E)>),
    Signed(Compare, Box<(E, E)>),
    Unsigned128(Compare, Box<(X, X)>),
    Signed128(Compare, Box<(X, X)>),
    Big(Compare, Box<(Ast, Ast)>),
    And(Box<(Cond, Cond)>),
    Or(Box<(Cond, Cond)>),
    Not(Box<Cond>),
    Same(Box<(Cond, Cond)>),
    SameHeader(Box<(Place, Place)>),
    SameUnion(Box<(Vec<Place>, Vec<Place>)>),
}

/// A number compiled for one of the three machines.
#[derive(Debug, Clone)]
pub(crate) enum Num {
    Word(E),
    Double(X),
    Big(Box<Ast>),
}

/// Compiles expressions of one scope.
pub(crate) struct Compiler<'l> {
    pub(crate) layout: &'l Layout,
    /// Widths of the action's arguments.
    pub(crate) params: &'l [usize],
}

/// First word of argument `index`.
pub(crate) fn param_word(params: &[usize], index: usize) -> usize {
    params[..index].iter().map(|w| w.div_ceil(64)).sum()
}

fn low64(value: &BigInt) -> u64 {
    let low = value & BigInt::from(u64::MAX);
    low.to_u64().unwrap_or(0)
}

fn low128(value: &BigInt) -> u128 {
    let low = value & BigInt::from(u128::MAX);
    low.to_u128().unwrap_or(0)
}

/// The low `bits` of ones.
fn ones(bits: u32) -> BigInt {
    (BigInt::one() << bits) - 1
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
            Ast::Param(i) => {
                let words = self.params[*i].div_ceil(64);
                match words {
                    0 => E::Const(0),
                    _ => E::Param((param_word(self.params, *i) + words - 1) as u32),
                }
            }
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
                let end = param_word(self.params, *i) + self.params[*i].div_ceil(64);
                X::Param((end - 2) as u32)
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

#[inline]
pub(crate) fn holds<T: Ord>(op: Compare, a: T, b: T) -> bool {
    match op {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::Gt => a > b,
        Compare::Ge => a >= b,
    }
}

#[inline]
fn sign_extend(value: u64, bits: u8) -> u64 {
    let up = 64 - bits as u32;
    ((value << up) as i64 >> up) as u64
}

#[inline]
fn sign_extend128(value: u128, bits: u8) -> u128 {
    let up = 128 - bits as u32;
    ((value << up) as i128 >> up) as u128
}

/// Bits of a byte string; what lies beyond its end is zero.
#[inline]
pub(crate) fn peek(bytes: &[u8], offset: usize, width: usize) -> u128 {
    if let Some(window) = bytes.get(offset / 8..).and_then(|rest| rest.first_chunk::<8>())
        && width > 0
        && offset % 8 + width <= 64
    {
        return (u64::from_be_bytes(*window) << (offset % 8) >> (64 - width)) as u128;
    }
    peek_bytes(bytes, offset, width)
}

fn peek_bytes(bytes: &[u8], offset: usize, width: usize) -> u128 {
    let end = offset + width;
    let begin = if width > 128 { end - 128 } else { offset };
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0) as u128;
    let mut value = 0u128;
    for i in begin / 8..end.div_ceil(8) {
        if i == begin / 8 {
            value = byte(i) & (0xff >> (begin % 8));
        } else if (i + 1) * 8 > end {
            let keep = end - i * 8;
            value = value << keep | byte(i) >> (8 - keep);
            return value;
        } else {
            value = value << 8 | byte(i);
        }
    }
    if begin / 8 + 1 == end.div_ceil(8) && !end.is_multiple_of(8) {
        value >> (8 - end % 8)
    } else {
        value
    }
}

impl E {
    /// The value.
    #[inline(always)]
    pub(crate) fn eval(&self, phv: &[u8], env: &Env) -> u64 {
        match self {
            E::Const(c) => *c,
            E::Load(slot) => slot.load(phv),
            E::Param(word) => env.params.get(*word as usize).copied().unwrap_or(0),
            E::LoadMasked(at) => at.0.load(phv) & at.1,
            E::LoadPlus(at) => at.0.load(phv).wrapping_add(at.1),
            other => other.eval_more(phv, env),
        }
    }

    /// What is neither a leaf nor rare.
    fn eval_more(&self, phv: &[u8], env: &Env) -> u64 {
        match self {
            E::AndConst(a, mask) => a.eval(phv, env) & mask,
            E::Add(pair) => pair.0.eval(phv, env).wrapping_add(pair.1.eval(phv, env)),
            E::Sub(pair) => pair.0.eval(phv, env).wrapping_sub(pair.1.eval(phv, env)),
            E::And(pair) => pair.0.eval(phv, env) & pair.1.eval(phv, env),
            E::Or(pair) => pair.0.eval(phv, env) | pair.1.eval(phv, env),
            E::ShlConst(a, by) => a.eval(phv, env) << by,
            E::ShrConst(a, by) => a.eval(phv, env) >> by,
            E::Complement(a) => !a.eval(phv, env),
            E::Bool(cond) => cond.eval(phv, env) as u64,
            other => other.eval_rest(phv, env),
        }
    }

    #[cold]
    fn eval_rest(&self, phv: &[u8], env: &Env) -> u64 {
        match self {
            E::Const(_) | E::Load(_) | E::Param(_) | E::LoadMasked(_) | E::LoadPlus(_) => self.eval(phv, env),
            E::AndConst(..)
            | E::Add(_)
            | E::Sub(_)
            | E::And(_)
            | E::Or(_)
            | E::ShlConst(..)
            | E::ShrConst(..)
            | E::Complement(_)
            | E::Bool(_) => self.eval_more(phv, env),
            E::LoadSigned(slot) => sign_extend(slot.load(phv), slot.width() as u8),
            E::Element(at) => {
                let (element, slot, signed) = &**at;
                let Some(index) = element.index(phv, env) else { return 0 };
                let value = slot.moved(index * element.stride as usize).load(phv);
                if *signed {
                    sign_extend(value, slot.width() as u8)
                } else {
                    value
                }
            }
            E::ElementValid(at) => element_valid(&at.0, at.1, phv, env) as u64,
            E::Binary(op, pair) => {
                let (a, b) = (pair.0.eval(phv, env), pair.1.eval(phv, env));
                match op {
                    BinaryOp::Add => a.wrapping_add(b),
                    BinaryOp::Sub => a.wrapping_sub(b),
                    BinaryOp::Mul => a.wrapping_mul(b),
                    BinaryOp::And => a & b,
                    BinaryOp::Or => a | b,
                    BinaryOp::Xor => a ^ b,
                    BinaryOp::Shl => {
                        if b < 64 {
                            a << b
                        } else {
                            0
                        }
                    }
                    BinaryOp::Shr => {
                        if b < 64 {
                            a >> b
                        } else {
                            0
                        }
                    }
                    BinaryOp::Div => a.checked_div(b).unwrap_or(0),
                    BinaryOp::Mod => a.checked_rem(b).unwrap_or(0),
                }
            }
            E::ShrSigned(pair) => (pair.0.eval(phv, env) as i64 >> pair.1.eval(phv, env).min(63)) as u64,
            E::DivSigned(pair) => (pair.0.eval(phv, env) as i64)
                .checked_div(pair.1.eval(phv, env) as i64)
                .unwrap_or(0) as u64,
            E::ModSigned(pair) => (pair.0.eval(phv, env) as i64)
                .checked_rem(pair.1.eval(phv, env) as i64)
                .unwrap_or(0) as u64,
            E::SignExtend(a, bits) => sign_extend(a.eval(phv, env), *bits),
            E::ClampFromSigned(a, bound) => (a.eval(phv, env) as i64).clamp(0, *bound as i64) as u64,
            E::Min(a, bound) => a.eval(phv, env).min(*bound),
            E::ClampSigned(a, bits) => {
                let max = i64::MAX >> (64 - bits);
                (a.eval(phv, env) as i64).clamp(-max - 1, max) as u64
            }
            E::Choice(parts) => {
                if parts.0.eval(phv, env) {
                    parts.1.eval(phv, env)
                } else {
                    parts.2.eval(phv, env)
                }
            }
            E::StackSize(next) => phv[*next as usize] as u64,
            E::LastIndex(next) => (phv[*next as usize] as u64).wrapping_sub(1),
            E::Lookahead(offset, width) => peek(env.ahead, *offset as usize, *width as usize) as u64,
            E::Low(x) => x.eval(phv, env) as u64,
            E::LowBig(ast) => low64(&big(ast, phv, env)),
        }
    }
}

fn element_valid(element: &Element, valid: u32, phv: &[u8], env: &Env) -> bool {
    match element.index(phv, env) {
        Some(index) => phv[valid as usize + index * element.valid_stride as usize] != 0,
        None => false,
    }
}

impl X {
    /// The high and the low 64 bits, where each can be computed without the other.
    pub(crate) fn halves(&self) -> Option<(E, E)> {
        Some(match self {
            X::Const(c) => (E::Const((**c >> 64) as u64), E::Const(**c as u64)),
            X::Load(span) => {
                let (high, low) = span.halves()?;
                (E::Load(high), E::Load(low))
            }
            X::Param(first) => (E::Param(*first), E::Param(first + 1)),
            X::FromUnsigned(e) => (E::Const(0), e.clone()),
            X::Lookahead(offset, width) if (65..=128).contains(width) => {
                (E::Lookahead(*offset, width - 64), E::Lookahead(offset + width - 64, 64))
            }
            X::Binary(op @ (BinaryOp::And | BinaryOp::Or | BinaryOp::Xor), pair) => {
                let ((a_high, a_low), (b_high, b_low)) = (pair.0.halves()?, pair.1.halves()?);
                let join = |a, b| match op {
                    BinaryOp::And => E::And(Box::new((a, b))),
                    BinaryOp::Or => E::Or(Box::new((a, b))),
                    _ => E::Binary(*op, Box::new((a, b))),
                };
                (join(a_high, b_high), join(a_low, b_low))
            }
            _ => return None,
        })
    }

    /// The value.
    pub(crate) fn eval(&self, phv: &[u8], env: &Env) -> u128 {
        match self {
            X::Const(c) => **c,
            X::Load(span) => span.load128(phv),
            X::LoadSigned(span) => sign_extend128(span.load128(phv), span.width as u8),
            X::Element(at) => {
                let (element, span, signed) = &**at;
                let Some(index) = element.index(phv, env) else { return 0 };
                let value = span.moved(index * element.stride as usize).load128(phv);
                if *signed {
                    sign_extend128(value, span.width as u8)
                } else {
                    value
                }
            }
            X::Param(first) => {
                let word = |i: u32| env.params.get(i as usize).copied().unwrap_or(0) as u128;
                word(*first) << 64 | word(first + 1)
            }
            X::FromUnsigned(e) => e.eval(phv, env) as u128,
            X::FromSigned(e) => e.eval(phv, env) as i64 as i128 as u128,
            X::Binary(op, pair) => {
                let (a, b) = (pair.0.eval(phv, env), pair.1.eval(phv, env));
                match op {
                    BinaryOp::Add => a.wrapping_add(b),
                    BinaryOp::Sub => a.wrapping_sub(b),
                    BinaryOp::Mul => a.wrapping_mul(b),
                    BinaryOp::And => a & b,
                    BinaryOp::Or => a | b,
                    BinaryOp::Xor => a ^ b,
                    BinaryOp::Div => a.checked_div(b).unwrap_or(0),
                    BinaryOp::Mod => a.checked_rem(b).unwrap_or(0),
                    BinaryOp::Shl | BinaryOp::Shr => 0,
                }
            }
            X::Shl(pair) => match pair.1.eval(phv, env) {
                by @ 0..128 => pair.0.eval(phv, env) << by,
                _ => 0,
            },
            X::Shr(pair) => match pair.1.eval(phv, env) {
                by @ 0..128 => pair.0.eval(phv, env) >> by,
                _ => 0,
            },
            X::ShrSigned(pair) => (pair.0.eval(phv, env) as i128 >> pair.1.eval(phv, env).min(127)) as u128,
            X::DivSigned(pair) => (pair.0.eval(phv, env) as i128)
                .checked_div(pair.1.eval(phv, env) as i128)
                .unwrap_or(0) as u128,
            X::ModSigned(pair) => (pair.0.eval(phv, env) as i128)
                .checked_rem(pair.1.eval(phv, env) as i128)
                .unwrap_or(0) as u128,
            X::Complement(a) => !a.eval(phv, env),
            X::SignExtend(a, bits) => sign_extend128(a.eval(phv, env), *bits),
            X::ClampFromSigned(pair) => (pair.0.eval(phv, env) as i128).clamp(0, pair.1 as i128) as u128,
            X::Min(pair) => pair.0.eval(phv, env).min(pair.1),
            X::ClampSigned(a, bits) => {
                let max = i128::MAX >> (128 - bits);
                (a.eval(phv, env) as i128).clamp(-max - 1, max) as u128
            }
            X::Choice(parts) => {
                if parts.0.eval(phv, env) {
                    parts.1.eval(phv, env)
                } else {
                    parts.2.eval(phv, env)
                }
            }
            X::Lookahead(offset, width) => peek(env.ahead, *offset as usize, *width as usize),
            X::LowBig(ast) => low128(&big(ast, phv, env)),
        }
    }
}

impl Cond {
    /// Whether it holds.
    #[inline(always)]
    pub(crate) fn eval(&self, phv: &[u8], env: &Env) -> bool {
        match self {
            Cond::Is(slot, value) => slot.load(phv) == *value,
            Cond::IsNot(slot, value) => slot.load(phv) != *value,
            Cond::Valid(valid) => phv[*valid as usize] != 0,
            other => other.eval_more(phv, env),
        }
    }

    /// What is neither the simplest nor rare.
    fn eval_more(&self, phv: &[u8], env: &Env) -> bool {
        match self {
            Cond::And(pair) => pair.0.eval(phv, env) && pair.1.eval(phv, env),
            Cond::Or(pair) => pair.0.eval(phv, env) || pair.1.eval(phv, env),
            Cond::Not(a) => !a.eval(phv, env),
            Cond::Unsigned(op, pair) => holds(*op, pair.0.eval(phv, env), pair.1.eval(phv, env)),
            other => other.eval_rest(phv, env),
        }
    }

    #[cold]
    fn eval_rest(&self, phv: &[u8], env: &Env) -> bool {
        match self {
            Cond::Valid(_) | Cond::Is(..) | Cond::IsNot(..) => self.eval(phv, env),
            Cond::And(_) | Cond::Or(_) | Cond::Not(_) | Cond::Unsigned(..) => self.eval_more(phv, env),
            Cond::Const(b) => *b,
            Cond::ElementValid(at) => element_valid(&at.0, at.1, phv, env),
            Cond::AnyValid(valid) => valid.iter().any(|v| phv[*v as usize] != 0),
            Cond::AnyValidAt(at) => {
                let (element, valid, members) = &**at;
                match element.index(phv, env) {
                    Some(index) => {
                        let first = *valid as usize + index * element.valid_stride as usize;
                        phv[first..first + *members as usize].iter().any(|v| *v != 0)
                    }
                    None => false,
                }
            }
            Cond::NonZero(e) => e.eval(phv, env) != 0,
            Cond::Signed(op, pair) => holds(*op, pair.0.eval(phv, env) as i64, pair.1.eval(phv, env) as i64),
            Cond::Unsigned128(op, pair) => holds(*op, pair.0.eval(phv, env), pair.1.eval(phv, env)),
            Cond::Signed128(op, pair) => holds(*op, pair.0.eval(phv, env) as i128, pair.1.eval(phv, env) as i128),
            Cond::Big(op, pair) => holds(*op, big(&pair.0, phv, env), big(&pair.1, phv, env)),
            Cond::Same(pair) => pair.0.eval(phv, env) == pair.1.eval(phv, env),
            Cond::SameHeader(pair) => same_header(&pair.0, &pair.1, phv, env),
            Cond::SameUnion(pair) => {
                // Equal if the same member is valid in both, with the same contents.
                pair.0.iter().zip(&pair.1).any(|(l, r)| same_header(l, r, phv, env))
            }
        }
    }
}

/// Both valid, of the same type, with the same contents: BMv2 finds two invalid headers unequal.
fn same_header(l: &Place, r: &Place, phv: &[u8], env: &Env) -> bool {
    let (Some(l), Some(r)) = (l.find(phv, env), r.find(phv, env)) else {
        return false;
    };
    let layout = env.layout;
    let (a, b) = (&layout.headers[l.header.0], &layout.headers[r.header.0]);
    if phv[l.valid] == 0 || phv[r.valid] == 0 || a.header_type != b.header_type {
        return false;
    }
    let kind = layout.type_of(l.header);
    (0..kind.fields.len()).all(|field| {
        let (mut x, mut y) = (
            layout.span(l.header, field).moved(l.shift),
            layout.span(r.header, field).moved(r.shift),
        );
        if kind.varbit == Some(field) {
            (x.width, y.width) = (l.varbit_bytes(phv, env) as u32 * 8, r.varbit_bytes(phv, env) as u32 * 8);
        }
        x.width == y.width && (x.width == 0 || x.bytes(phv) == y.bytes(phv))
    })
}

/// The value on BMv2's own machine. Also what the other two are tested against.
pub(crate) fn big(ast: &Ast, phv: &[u8], env: &Env) -> BigInt {
    let compiler = Compiler {
        layout: env.layout,
        params: env.widths,
    };
    let cond = |a: &Ast| compiler.condition(a).eval(phv, env);
    match ast {
        Ast::Const(c) => c.clone(),
        Ast::Field(header, field) => {
            let Some(found) = compiler.place(header).find(phv, env) else {
                return BigInt::zero();
            };
            let info = &env.layout.type_of(found.header).fields[*field];
            if info.width == 0 {
                return BigInt::zero();
            }
            let value = BigInt::from_bytes_be(
                Sign::Plus,
                &env.layout.span(found.header, *field).moved(found.shift).bytes(phv),
            );
            if info.signed && value.bit(info.width as u64 - 1) {
                value - (BigInt::one() << info.width)
            } else {
                value
            }
        }
        Ast::Binary(op, l, r) => {
            let (a, b) = (big(l, phv, env), big(r, phv, env));
            let shift = || b.to_usize().unwrap_or(usize::MAX).min(1 << 20);
            match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div => a.checked_div(&b).unwrap_or_default(),
                BinaryOp::Mod if b.is_zero() => BigInt::zero(),
                BinaryOp::Mod => a % b,
                BinaryOp::Shl => a << shift(),
                BinaryOp::Shr => a >> shift(),
                BinaryOp::And => a & b,
                BinaryOp::Or => a | b,
                BinaryOp::Xor => a ^ b,
            }
        }
        Ast::Complement(a) => -big(a, phv, env) - 1,
        Ast::Wrap(a, width) => {
            let low = big(a, phv, env) & ones(*width);
            if low.bit(*width as u64 - 1) {
                low - (BigInt::one() << *width)
            } else {
                low
            }
        }
        Ast::SaturateUnsigned(a, width) => big(a, phv, env).clamp(BigInt::zero(), ones(*width)),
        Ast::SaturateSigned(a, width) => {
            let max = ones(*width - 1);
            big(a, phv, env).clamp(-max.clone() - 1, max)
        }
        Ast::Choice(c, yes, no) => {
            if cond(c) {
                big(yes, phv, env)
            } else {
                big(no, phv, env)
            }
        }
        Ast::FromBool(b) => BigInt::from(cond(b) as u8),
        Ast::Lookahead(offset, width) if *width > 128 => {
            let bytes: Vec<u8> = (0..width.div_ceil(8))
                .map(|i| {
                    let first = if i == 0 && !width.is_multiple_of(8) {
                        width % 8
                    } else {
                        8
                    };
                    let begin = if i == 0 {
                        *offset
                    } else {
                        offset + (width - 1) % 8 + 1 + (i - 1) * 8
                    };
                    peek(env.ahead, begin, first) as u8
                })
                .collect();
            BigInt::from_bytes_be(Sign::Plus, &bytes)
        }
        Ast::Lookahead(offset, width) => BigInt::from(peek(env.ahead, *offset, *width)),
        Ast::Param(i) => {
            let first = param_word(env.widths, *i);
            let words = env.widths.get(*i).map_or(0, |w| w.div_ceil(64));
            env.params[first..]
                .iter()
                .take(words)
                .fold(BigInt::zero(), |value, word| (value << 64) + word)
        }
        Ast::ValidBit(h) => BigInt::from(cond(&Ast::Valid(h.clone())) as u8),
        Ast::LastIndex(stack) => BigInt::from(phv[env.layout.stacks[stack.0].next]) - 1,
        Ast::StackSize(stack) => BigInt::from(phv[env.layout.stacks[stack.0].next]),
        boolean => BigInt::from(cond(boolean) as u8),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Node;

    /// A layout with fields of many widths, metadata and header.
    fn layout() -> Layout {
        let fields = serde_json::json!([
            ["f1", 1, false],
            ["f7", 7, false],
            ["f8", 8, false],
            ["f16", 16, false],
            ["f31", 31, false],
            ["f32", 32, false],
            ["f33", 33, false],
            ["f63", 63, false],
            ["f64", 64, false],
            ["f65", 65, false],
            ["f127", 127, false],
            ["f128", 128, false],
            ["f200", 200, false],
            ["s8", 8, true],
            ["s64", 64, true],
            ["s72", 72, true],
            ["pad", 9, false]
        ]);
        let document = serde_json::json!({
            "header_types": [{"name": "t", "id": 0, "fields": fields}],
            "headers": [
                {"name": "m", "id": 0, "header_type": "t", "metadata": true},
                {"name": "h", "id": 1, "header_type": "t", "metadata": false}
            ]
        });
        Layout::load(&Node::root(&document)).unwrap()
    }

    const FIELDS: usize = 16;

    fn number() -> impl Strategy<Value = Ast> {
        let field = (0..2usize, 0..FIELDS).prop_map(|(h, f)| Ast::Field(HeaderRef::Fixed(HeaderId(h)), f));
        let constant = prop_oneof![
            any::<u8>().prop_map(BigInt::from),
            any::<u64>().prop_map(BigInt::from),
            any::<i16>().prop_map(BigInt::from),
            any::<u128>().prop_map(BigInt::from),
            (1u32..140).prop_map(ones),
        ];
        let leaf = prop_oneof![3 => field, 1 => constant.prop_map(Ast::Const)];
        leaf.prop_recursive(5, 40, 3, |inner| {
            let op = prop::sample::select(vec![
                BinaryOp::Add,
                BinaryOp::Sub,
                BinaryOp::Mul,
                BinaryOp::And,
                BinaryOp::And,
                BinaryOp::Or,
                BinaryOp::Xor,
            ]);
            let compare = prop::sample::select(vec![
                Compare::Eq,
                Compare::Ne,
                Compare::Lt,
                Compare::Le,
                Compare::Gt,
                Compare::Ge,
            ]);
            let shift = prop::sample::select(vec![BinaryOp::Shl, BinaryOp::Shr]);
            let two = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
            prop_oneof![
                (op, two()).prop_map(|(op, (a, b))| Ast::Binary(op, a, b)),
                (shift, inner.clone(), 0u32..140).prop_map(|(op, a, by)| Ast::Binary(
                    op,
                    Box::new(a),
                    Box::new(Ast::Const(by.into()))
                )),
                inner.clone().prop_map(|a| Ast::Complement(Box::new(a))),
                (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::Wrap(Box::new(a), w)),
                (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::SaturateUnsigned(Box::new(a), w)),
                (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::SaturateSigned(Box::new(a), w)),
                (inner.clone(), 1u32..130)
                    .prop_map(|(a, w)| { Ast::Binary(BinaryOp::And, Box::new(a), Box::new(Ast::Const(ones(w)))) }),
                (compare, two(), two())
                    .prop_map(|(op, (a, b), (yes, no))| { Ast::Choice(Box::new(Ast::Compare(op, a, b)), yes, no) }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Every machine gives the low bits that integers of any size give.
        #[test]
        fn the_smaller_machines_agree_with_integers_of_any_size(
            ast in number(), width in 1u32..200, seed in proptest::collection::vec(any::<u8>(), 400)
        ) {
            let layout = layout();
            let mut phv = layout.template.clone();
            for header in 0..2 {
                for field in 0..FIELDS {
                    let span = layout.span(HeaderId(header), field);
                    let words: Vec<u64> = seed[header * 200 + field * 8..].chunks(8).take(4)
                        .map(|c| c.iter().fold(0, |w, b| w << 8 | *b as u64)).collect();
                    span.store_words(&mut phv, &words);
                }
            }
            let env = Env { layout: &layout, params: &[], widths: &[], ahead: &[] };
            let compiler = Compiler { layout: &layout, params: &[] };
            let expected = big(&ast, &phv, &env);
            let got = match compiler.number(&ast, Demand::Bits(width)) {
                Num::Word(e) => BigInt::from(e.eval(&phv, &env)),
                Num::Double(x) => BigInt::from(x.eval(&phv, &env)),
                Num::Big(ast) => big(&ast, &phv, &env),
            };
            prop_assert_eq!(got & ones(width), &expected & ones(width));
            let range = Range::of(&ast, &layout, &[]);
            prop_assert!(expected < BigInt::one() << range.above);
            prop_assert!(expected >= range.below.map_or(BigInt::zero(), |b| -(BigInt::one() << b)));
            let zero = Ast::Compare(Compare::Gt, Box::new(ast), Box::new(Ast::Const(BigInt::zero())));
            prop_assert_eq!(compiler.condition(&zero).eval(&phv, &env), expected.is_positive());
        }
    }
}
