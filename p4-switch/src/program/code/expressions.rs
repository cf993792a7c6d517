//! Expressions as register operations, conditions as jumps.

use super::{Code, Instruction, Jumps, OPEN, REGISTERS, Register};
use crate::program::ast::{BinaryOp, Compare};
use crate::program::expr::{Cond, E};

fn negated(op: Compare) -> Compare {
    match op {
        Compare::Eq => Compare::Ne,
        Compare::Ne => Compare::Eq,
        Compare::Lt => Compare::Ge,
        Compare::Le => Compare::Gt,
        Compare::Gt => Compare::Le,
        Compare::Ge => Compare::Lt,
    }
}

impl Code {
    /// Jumps if the condition's outcome is `sense`; falls through otherwise.
    pub(super) fn branch(&mut self, condition: &Cond, sense: bool, jumps: &mut Jumps) {
        use Instruction::*;
        match condition {
            Cond::Const(b) => {
                if *b == sense {
                    self.jump(Jump(OPEN), jumps);
                }
            }
            Cond::Is(slot, value) if sense => self.jump(JumpIs(*slot, *value, OPEN), jumps),
            Cond::Is(slot, value) => self.jump(JumpIsNot(*slot, *value, OPEN), jumps),
            Cond::IsNot(slot, value) if sense => self.jump(JumpIsNot(*slot, *value, OPEN), jumps),
            Cond::IsNot(slot, value) => self.jump(JumpIs(*slot, *value, OPEN), jumps),
            Cond::Valid(at) if sense => self.jump(JumpValid(*at, OPEN), jumps),
            Cond::Valid(at) => self.jump(JumpInvalid(*at, OPEN), jumps),
            Cond::Not(inner) => self.branch(inner, !sense, jumps),
            Cond::And(pair) if !sense => {
                self.branch(&pair.0, false, jumps);
                self.branch(&pair.1, false, jumps);
            }
            Cond::Or(pair) if sense => {
                self.branch(&pair.0, true, jumps);
                self.branch(&pair.1, true, jumps);
            }
            Cond::And(pair) | Cond::Or(pair) => {
                // The first operand alone may decide against the jump.
                let mut past = Jumps::new();
                self.branch(&pair.0, !sense, &mut past);
                self.branch(&pair.1, sense, jumps);
                self.land(past);
            }
            Cond::NonZero(e) if fits(e, 0) => {
                self.expression(e, 0);
                self.jump(if sense { JumpNonZero(0, OPEN) } else { JumpZero(0, OPEN) }, jumps);
            }
            Cond::Unsigned(op, pair) if fits(&pair.0, 0) && fits(&pair.1, 1) => {
                let op = if sense { *op } else { negated(*op) };
                match (&pair.0, &pair.1) {
                    (E::Load(slot), E::Const(c)) => self.jump(JumpFieldImmediate(op, *slot, *c, OPEN), jumps),
                    (E::Load(a), E::Load(b)) => self.jump(JumpCompareFields(op, *a, *b, OPEN), jumps),
                    (e, E::Load(slot)) => {
                        self.expression(e, 0);
                        self.jump(JumpCompareField(op, 0, *slot, OPEN), jumps);
                    }
                    (e, E::Const(c)) => {
                        self.expression(e, 0);
                        self.jump(JumpCompareImmediate(op, 0, *c, OPEN), jumps);
                    }
                    (a, b) => {
                        self.expression(a, 0);
                        self.expression(b, 1);
                        self.jump(JumpCompare(op, 0, 1, OPEN), jumps);
                    }
                }
            }
            tree => {
                self.conditions.push(tree.clone());
                self.jump(JumpTree(self.conditions.len() as u32 - 1, sense, OPEN), jumps);
            }
        }
    }

    /// Computes an expression into a register; uses that one and those above it.
    pub(super) fn expression(&mut self, e: &E, to: Register) {
        use Instruction::*;
        match e {
            E::Const(c) => self.emit(Immediate(to, *c)),
            E::Load(slot) => self.emit(Load(to, *slot)),
            E::LoadMasked(at) => self.emit(LoadAnd(to, at.0, at.1)),
            E::LoadPlus(at) => self.emit(LoadAdd(to, at.0, at.1)),
            E::Param(argument) => self.emit(LoadArgument(to, *argument)),
            E::AndConst(a, mask) => {
                self.expression(a, to);
                self.emit(AndImmediate(to, *mask));
            }
            E::ShlConst(a, by) => {
                self.expression(a, to);
                self.emit(Shl(to, *by));
            }
            E::ShrConst(a, by) => {
                self.expression(a, to);
                self.emit(Shr(to, *by));
            }
            E::Complement(a) => {
                self.expression(a, to);
                self.emit(Complement(to));
            }
            E::Add(pair) => self.binary(pair, to, Add(to, to + 1), |c| Some(AddImmediate(to, c))),
            E::Sub(pair) => self.binary(pair, to, Sub(to, to + 1), |c| Some(AddImmediate(to, c.wrapping_neg()))),
            E::And(pair) => self.binary(pair, to, And(to, to + 1), |c| Some(AndImmediate(to, c))),
            E::Or(pair) => self.binary(pair, to, Or(to, to + 1), |c| Some(OrImmediate(to, c))),
            E::Binary(BinaryOp::Xor, pair) => self.binary(pair, to, Xor(to, to + 1), |_| None),
            E::Bool(condition) => {
                let mut jumps = Jumps::new();
                // The condition may use any register from 0: only where nothing else is held.
                self.branch(condition, false, &mut jumps);
                self.emit(Immediate(to, 1));
                let end = self.instructions.len();
                self.emit(Jump(OPEN));
                self.land(jumps);
                self.emit(Immediate(to, 0));
                self.land(vec![end]);
            }
            tree => {
                self.trees.push(tree.clone());
                self.emit(Tree(to, self.trees.len() as u32 - 1));
            }
        }
    }

    fn binary(
        &mut self,
        pair: &(E, E),
        to: Register,
        instruction: Instruction,
        immediate: impl Fn(u64) -> Option<Instruction>,
    ) {
        self.expression(&pair.0, to);
        if let E::Const(c) = &pair.1
            && let Some(short) = immediate(*c)
        {
            return self.emit(short);
        }
        if let E::Load(slot) = &pair.1 {
            let short = match instruction {
                Instruction::Add(..) => Some(Instruction::AddField(to, *slot)),
                Instruction::Sub(..) => Some(Instruction::SubField(to, *slot)),
                Instruction::And(..) => Some(Instruction::AndField(to, *slot)),
                Instruction::Or(..) => Some(Instruction::OrField(to, *slot)),
                _ => None,
            };
            if let Some(short) = short {
                return self.emit(short);
            }
        }
        self.expression(&pair.1, to + 1);
        self.emit(instruction);
    }
}

/// Whether an expression gets by with the registers from `from`, and its conditions with none that hold something.
pub(super) fn fits(e: &E, from: usize) -> bool {
    if from + 2 > REGISTERS {
        return false;
    }
    match e {
        E::Add(pair) | E::Sub(pair) | E::And(pair) | E::Or(pair) | E::Binary(BinaryOp::Xor, pair) => {
            fits(&pair.0, from) && fits(&pair.1, from + 1)
        }
        E::AndConst(a, _) | E::ShlConst(a, _) | E::ShrConst(a, _) | E::Complement(a) => fits(a, from),
        E::Bool(_) => from == 0,
        _ => true,
    }
}
