//! Evaluates expressions and conditions over a packet state.

use super::{Cond, E, Element, Env, Place, X, big, low64, low128};
use crate::program::ast::{BinaryOp, Compare};

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
            E::Param(argument) => argument.load(env.params),
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
