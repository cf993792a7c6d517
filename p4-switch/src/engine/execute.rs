//! Runs the straight code ([`code`](crate::program::code)): machine code as far as it goes, the interpreter for the rest.

use super::machine::Machine;
use super::packet::Packet;
use crate::program::Program;
use crate::program::code::{FINISH, Instruction, Label, REGISTERS};
use crate::program::expr::{Env, holds};
use crate::program::native::Frame;

/// Backward jumps that one action may take.
pub(super) const MAX_LOOPS: u32 = 1 << 20;

/// An action under way: its arguments, and where the pipeline goes on after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) arguments: &'a [u64],
    pub(super) widths: &'a [usize],
    /// Words that the action's code reads.
    pub(super) words: usize,
    pub(super) then: Label,
}

impl Call<'_> {
    /// No action: the pipeline itself.
    pub(super) const NONE: Self = Call {
        arguments: &[],
        widths: &[],
        words: 0,
        then: FINISH,
    };
}

impl Machine {
    /// Executes code from `at` until the pipeline ends, or until a table is to be applied: that table.
    pub(super) fn execute(
        &mut self,
        program: &Program,
        mut at: Label,
        mut call: Call,
        packet: &mut Packet,
    ) -> Option<u32> {
        use Instruction::*;
        let code = &program.code;
        let mut frame = Frame::default();
        let mut loops = 0;
        let native = code.native.as_ref().filter(|_| call.arguments.len() >= call.words);
        if let Some(native) = native {
            native.enter(&mut frame, call.then);
        }
        // The packet state, borrowed anew after each step that may change anything.
        let mut phv = &mut *self.state.phv;
        macro_rules! r {
            ($register:expr) => {
                frame.registers[($register) as usize % REGISTERS]
            };
        }
        macro_rules! env {
            () => {
                Env {
                    layout: &program.layout,
                    params: call.arguments,
                    widths: call.widths,
                    ahead: &[],
                }
            };
        }
        macro_rules! jump_if {
            ($condition:expr, $label:expr) => {
                if $condition {
                    at = *$label;
                }
            };
        }
        loop {
            if let Some(native) = native {
                // SAFETY: the packet state has its layout's length, the arguments have been counted, and the frame was
                // prepared above.
                at = unsafe { native.run(at, phv, call.arguments, &mut frame) };
            }
            let instruction = &code.instructions[at as usize];
            at += 1;
            match instruction {
                Const(slot, value) => slot.store(phv, *value),
                Copy(to, from) => {
                    let value = from.load(phv);
                    to.store(phv, value);
                }
                Arguments(first, count) => {
                    for (slot, word) in &code.arguments[*first as usize..][..*count as usize] {
                        slot.store(phv, call.arguments.get(*word as usize).copied().unwrap_or(0));
                    }
                }
                Load(to, slot) => r!(*to) = slot.load(phv),
                LoadAnd(to, slot, mask) => r!(*to) = slot.load(phv) & mask,
                LoadAdd(to, slot, value) => r!(*to) = slot.load(phv).wrapping_add(*value),
                Immediate(to, value) => r!(*to) = *value,
                LoadArgument(to, word) => r!(*to) = call.arguments.get(*word as usize).copied().unwrap_or(0),
                Store(slot, from) => slot.store(phv, r!(*from)),
                Add(to, by) => r!(*to) = r!(*to).wrapping_add(r!(*by)),
                Sub(to, by) => r!(*to) = r!(*to).wrapping_sub(r!(*by)),
                And(to, by) => r!(*to) &= r!(*by),
                Or(to, by) => r!(*to) |= r!(*by),
                Xor(to, by) => r!(*to) ^= r!(*by),
                AddField(to, by) => r!(*to) = r!(*to).wrapping_add(by.load(phv)),
                SubField(to, by) => r!(*to) = r!(*to).wrapping_sub(by.load(phv)),
                AndField(to, by) => r!(*to) &= by.load(phv),
                OrField(to, by) => r!(*to) |= by.load(phv),
                AddImmediate(to, value) => r!(*to) = r!(*to).wrapping_add(*value),
                AndImmediate(to, value) => r!(*to) &= value,
                OrImmediate(to, value) => r!(*to) |= value,
                Shl(to, by) => r!(*to) <<= by,
                Shr(to, by) => r!(*to) >>= by,
                Complement(to) => r!(*to) = !r!(*to),
                Tree(to, number) => r!(*to) = code.trees[*number as usize].eval(phv, &env!()),
                Jump(label) => at = *label,
                JumpIs(slot, value, label) => jump_if!(slot.load(phv) == *value, label),
                JumpIsNot(slot, value, label) => jump_if!(slot.load(phv) != *value, label),
                JumpValid(valid, label) => jump_if!(phv[*valid as usize] != 0, label),
                JumpInvalid(valid, label) => jump_if!(phv[*valid as usize] == 0, label),
                JumpZero(register, label) => jump_if!(r!(*register) == 0, label),
                JumpNonZero(register, label) => jump_if!(r!(*register) != 0, label),
                JumpCompare(op, a, b, label) => jump_if!(holds(*op, r!(*a), r!(*b)), label),
                JumpCompareField(op, a, b, label) => jump_if!(holds(*op, r!(*a), b.load(phv)), label),
                JumpCompareFields(op, a, b, label) => jump_if!(holds(*op, a.load(phv), b.load(phv)), label),
                JumpFieldImmediate(op, slot, value, label) => jump_if!(holds(*op, slot.load(phv), *value), label),
                JumpCompareImmediate(op, register, value, label) => jump_if!(holds(*op, r!(*register), *value), label),
                JumpTree(number, outcome, label) => {
                    jump_if!(code.conditions[*number as usize].eval(phv, &env!()) == *outcome, label);
                }
                Loop(label) => {
                    loops += 1;
                    if loops > MAX_LOOPS {
                        self.state.requests.failed = true;
                        return None;
                    }
                    at = *label;
                }
                Invalidate(first, count) => {
                    for (valid, bytes) in &code.removed[*first as usize..][..*count as usize] {
                        let valid = &mut phv[*valid as usize];
                        if *valid != 0 {
                            *valid = 0;
                            packet.length -= *bytes as i64;
                        }
                    }
                }
                Init(number) => code.inits[*number as usize].apply(phv, packet),
                Count(counter, register) => {
                    self.count(*counter, r!(*register), packet);
                    phv = &mut *self.state.phv;
                }
                Meter(meter, register, slot) => {
                    let colour = self.meter(program, *meter, r!(*register), packet);
                    phv = &mut *self.state.phv;
                    if let Some(colour) = colour {
                        slot.store(phv, colour);
                    }
                }
                Truncate(register) => packet.truncated = packet.truncated.min(r!(*register) as usize),
                Step(number) => {
                    let op = &code.ops[*number as usize];
                    self.step_rest(program, op, call.arguments, call.widths, packet);
                    phv = &mut *self.state.phv;
                }
                CheckExit => {
                    if self.state.requests.exit || self.state.requests.failed {
                        return None;
                    }
                }
                Apply(table) => return Some(*table),
                Return => {
                    at = call.then;
                    call = Call::NONE;
                }
                Finish => return None,
            }
        }
    }
}
