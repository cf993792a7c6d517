//! BMv2's own machine: integers of any size, straight from the syntax tree.

use num_bigint::{BigInt, Sign};
use num_traits::{One, ToPrimitive, Zero};

use super::{Compiler, Env, ones, peek};
use crate::program::ast::{Ast, BinaryOp};
use crate::program::packing::Packing;

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
            let packing = Packing::new(env.widths.iter().copied());
            packing.get(*i, env.params)
        }
        Ast::ValidBit(h) => BigInt::from(cond(&Ast::Valid(h.clone())) as u8),
        Ast::LastIndex(stack) => BigInt::from(phv[env.layout.stacks[stack.0].next]) - 1,
        Ast::StackSize(stack) => BigInt::from(phv[env.layout.stacks[stack.0].next]),
        boolean => BigInt::from(cond(boolean) as u8),
    }
}
