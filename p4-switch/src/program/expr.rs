//! Expressions compiled to trees over the packet state.
//!
//! Three machines do the arithmetic: 64 bits, 128 bits (IPv6 addresses), and integers of any size, which is BMv2's own
//! and the slowest. A value is computed on the smallest machine that gives the same result: either the machine holds
//! every value that the expression can have ([`Range`]), or only so many low bits are asked for ([`Demand`]) and the
//! operation's low bits depend on nothing but its operands' low bits.

mod big;
mod compile;
mod eval;
#[cfg(test)]
mod tests;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::ast::{Ast, BinaryOp, Compare};
use super::layout::{HeaderId, Layout};
use super::packing::Argument;
use super::slot::{Slot, Span};
pub(crate) use big::big;
pub(crate) use compile::Compiler;
pub(crate) use eval::{holds, peek};

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
    Param(Argument),
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
    /// The first of two words.
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

impl X {
    /// The high and the low 64 bits, where each can be computed without the other.
    pub(crate) fn halves(&self) -> Option<(E, E)> {
        Some(match self {
            X::Const(c) => (E::Const((**c >> 64) as u64), E::Const(**c as u64)),
            X::Load(span) => {
                let (high, low) = span.halves()?;
                (E::Load(high), E::Load(low))
            }
            X::Param(first) => (E::Param(Argument::whole(*first)), E::Param(Argument::whole(first + 1))),
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
    (BigInt::from(1) << bits) - 1
}
