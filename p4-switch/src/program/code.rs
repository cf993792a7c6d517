//! Pipelines and actions as straight code: one list of small instructions with registers and jumps.
//!
//! The trees of [`expr`](super::expr) and the nodes of [`table`](super::table) are what a program means, and what runs
//! while a packet is traced. This is the same, laid out for speed: conditions become jumps, expressions become register
//! operations, actions that p4c made of statements stand in line. What is rare stays a tree and is referred to.

use super::action::{Action, Op};
use super::ast::{BinaryOp, Compare};
use super::expr::{Cond, E};
use super::layout::Layout;
use super::slot::Slot;
use super::table::{END, Flow, Pipeline, Table};

/// Registers there are. Expressions that need more stay trees.
pub(crate) const REGISTERS: usize = 8;

/// A register.
pub(crate) type Register = u8;

/// A position in the code.
pub(crate) type Label = u32;

/// An instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Instruction {
    /// Field becomes a constant.
    Const(Slot, u64),
    /// Field becomes another's value.
    Copy(Slot, Slot),
    /// Field becomes an argument.
    Argument(Slot, u32),
    Load(Register, Slot),
    LoadAnd(Register, Slot, u64),
    LoadAdd(Register, Slot, u64),
    Immediate(Register, u64),
    LoadArgument(Register, u32),
    Store(Slot, Register),
    /// Target and first operand, second operand.
    Add(Register, Register),
    Sub(Register, Register),
    And(Register, Register),
    Or(Register, Register),
    Xor(Register, Register),
    AddImmediate(Register, u64),
    AndImmediate(Register, u64),
    OrImmediate(Register, u64),
    Shl(Register, u8),
    Shr(Register, u8),
    Complement(Register),
    /// An expression that stays a tree, by number.
    Tree(Register, u32),
    Jump(Label),
    JumpIs(Slot, u64, Label),
    JumpIsNot(Slot, u64, Label),
    JumpValid(u32, Label),
    JumpInvalid(u32, Label),
    JumpZero(Register, Label),
    JumpNonZero(Register, Label),
    JumpCompare(Compare, Register, Register, Label),
    /// A condition that stays a tree, by number, and the outcome that jumps.
    JumpTree(u32, bool, Label),
    /// A jump backwards in an action: counted.
    Loop(Label),
    /// A header becomes invalid: validity, length.
    Invalidate(u32, u32),
    /// Counts the packet in the cell that the register names.
    Count(u32, Register),
    /// An operation that stays what it is, by number.
    Step(u32),
    /// Leaves if the packet exits or an assertion failed.
    CheckExit,
    /// Applies a table; goes on where the outcome says.
    Apply(u32),
    /// The end of an action or of the pipeline.
    Return,
}

/// The code of a program.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) trees: Vec<E>,
    pub(crate) conditions: Vec<Cond>,
    pub(crate) ops: Vec<Op>,
    /// Where each action begins.
    pub(crate) actions: Vec<Label>,
    /// Where each node of ingress and egress begins.
    pub(crate) ingress: Vec<Label>,
    pub(crate) egress: Vec<Label>,
    /// Where they start.
    pub(crate) ingress_start: Label,
    pub(crate) egress_start: Label,
}

/// A label that has no place yet.
const OPEN: Label = Label::MAX;

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

/// A jump to be completed: where it is.
type Jumps = Vec<usize>;

impl Code {
    /// Lays a program out.
    pub(crate) fn new(
        layout: &Layout,
        actions: &[Action],
        ingress: &Pipeline,
        egress: &Pipeline,
        tables: &[Table],
    ) -> Self {
        let mut code = Code::default();
        for action in actions {
            let begin = code.here();
            code.actions.push(begin);
            code.action(action, layout);
            code.emit(Instruction::Return);
        }
        (code.ingress, code.ingress_start) = code.pipeline(ingress, actions, tables, layout);
        (code.egress, code.egress_start) = code.pipeline(egress, actions, tables, layout);
        code
    }

    fn here(&self) -> Label {
        self.instructions.len() as Label
    }

    fn emit(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    /// Completes jumps: they lead to the next instruction.
    fn land(&mut self, jumps: Jumps) {
        let here = self.here();
        for at in jumps {
            self.point(at, here);
        }
    }

    fn point(&mut self, at: usize, to: Label) {
        use Instruction::*;
        match &mut self.instructions[at] {
            Jump(label)
            | JumpIs(_, _, label)
            | JumpIsNot(_, _, label)
            | JumpValid(_, label)
            | JumpInvalid(_, label)
            | JumpZero(_, label)
            | JumpNonZero(_, label)
            | JumpCompare(_, _, _, label)
            | JumpTree(_, _, label)
            | Loop(label) => *label = to,
            _ => {}
        }
    }

    fn jump(&mut self, instruction: Instruction, jumps: &mut Jumps) {
        jumps.push(self.instructions.len());
        self.emit(instruction);
    }

    /// Jumps if the condition's outcome is `sense`; falls through otherwise.
    fn branch(&mut self, condition: &Cond, sense: bool, jumps: &mut Jumps) {
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
                self.expression(&pair.0, 0);
                self.expression(&pair.1, 1);
                let op = if sense { *op } else { negated(*op) };
                self.jump(JumpCompare(op, 0, 1, OPEN), jumps);
            }
            tree => {
                self.conditions.push(tree.clone());
                self.jump(JumpTree(self.conditions.len() as u32 - 1, sense, OPEN), jumps);
            }
        }
    }

    /// Computes an expression into a register; uses that one and those above it.
    fn expression(&mut self, e: &E, to: Register) {
        use Instruction::*;
        match e {
            E::Const(c) => self.emit(Immediate(to, *c)),
            E::Load(slot) => self.emit(Load(to, *slot)),
            E::LoadMasked(at) => self.emit(LoadAnd(to, at.0, at.1)),
            E::LoadPlus(at) => self.emit(LoadAdd(to, at.0, at.1)),
            E::Param(word) => self.emit(LoadArgument(to, *word)),
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
        self.expression(&pair.1, to + 1);
        self.emit(instruction);
    }

    /// An action's operations, in line.
    fn action(&mut self, action: &Action, layout: &Layout) {
        use Instruction::*;
        let mut places = Vec::with_capacity(action.ops.len() + 1);
        let mut jumps: Vec<(usize, u32)> = Vec::new();
        let mut loops = false;
        for op in &action.ops {
            places.push(self.here());
            match op {
                Op::Const(slot, value) => self.emit(Const(*slot, *value)),
                Op::Copy(to, from) => self.emit(Copy(*to, *from)),
                Op::Param(slot, word) => self.emit(Argument(*slot, *word)),
                Op::Set(slot, e) if fits(e, 0) => {
                    self.expression(e, 0);
                    self.emit(Store(*slot, 0));
                }
                Op::Jump(target) => {
                    let backwards = (*target as usize) < places.len();
                    loops |= backwards;
                    jumps.push((self.instructions.len(), *target));
                    self.emit(if backwards { Loop(OPEN) } else { Jump(OPEN) });
                }
                Op::JumpUnless(condition, target) if *target as usize >= places.len() => {
                    let mut open = Jumps::new();
                    self.branch(condition, false, &mut open);
                    jumps.extend(open.into_iter().map(|at| (at, *target)));
                }
                Op::JumpUnless(condition, target) => {
                    let mut past = Jumps::new();
                    self.branch(condition, true, &mut past);
                    loops = true;
                    jumps.push((self.instructions.len(), *target));
                    self.emit(Loop(OPEN));
                    self.land(past);
                }
                Op::RemoveHeader(place) if place.element.is_none() && layout.type_of(place.header).varbit.is_none() => {
                    let bytes = layout.type_of(place.header).bits / 8;
                    self.emit(Invalidate(layout.headers[place.header.0].valid as u32, bytes as u32));
                }
                Op::Count(counter, index) if fits(index, 0) => {
                    self.expression(index, 0);
                    self.emit(Count(*counter, 0));
                }
                op => {
                    self.ops.push(op.clone());
                    self.emit(Step(self.ops.len() as u32 - 1));
                }
            }
        }
        places.push(self.here());
        for (at, target) in jumps {
            let to = places.get(target as usize).copied().unwrap_or(places[places.len() - 1]);
            self.point(at, to);
        }
        if loops || action.ops.iter().any(|op| matches!(op, Op::Exit | Op::Assert(_))) {
            self.emit(CheckExit);
        }
    }

    /// A pipeline's nodes, each once; the place of each, and of the start.
    fn pipeline(
        &mut self,
        pipeline: &Pipeline,
        actions: &[Action],
        tables: &[Table],
        layout: &Layout,
    ) -> (Vec<Label>, Label) {
        let end = self.here();
        self.emit(Instruction::Return);
        let mut places = vec![OPEN; pipeline.flow.len()];
        let mut open: Vec<(usize, u32)> = Vec::new();
        let mut todo = vec![pipeline.start];
        while let Some(start) = todo.pop() {
            let mut node = start;
            let mut applies = false;
            // As long as it leads to new nodes, one follows the other without a jump.
            while node != END && places[node as usize] == OPEN {
                places[node as usize] = self.here();
                node = match &pipeline.flow[node as usize] {
                    Flow::If { condition, yes, no } => {
                        let mut jumps = Jumps::new();
                        self.branch(condition, false, &mut jumps);
                        open.extend(jumps.into_iter().map(|at| (at, *no)));
                        todo.push(*no);
                        *yes
                    }
                    Flow::Call { action, next } => {
                        self.action(&actions[*action as usize], layout);
                        *next
                    }
                    Flow::Apply(table) => {
                        self.emit(Instruction::Apply(*table));
                        let model = &tables[*table as usize];
                        todo.extend(model.actions.iter().map(|a| a.next));
                        todo.extend(
                            model
                                .on_hit
                                .into_iter()
                                .chain(model.on_miss)
                                .chain([model.base_default]),
                        );
                        // The outcome says where it goes on.
                        applies = true;
                        break;
                    }
                };
            }
            if node == END && !applies {
                self.emit(Instruction::Return);
            } else if !applies && node != start {
                open.push((self.instructions.len(), node));
                self.emit(Instruction::Jump(OPEN));
            }
        }
        for (at, node) in open {
            let to = if node == END { end } else { places[node as usize] };
            self.point(at, to);
        }
        let start = if pipeline.start == END {
            end
        } else {
            places[pipeline.start as usize]
        };
        (places, start)
    }
}

/// Whether an expression gets by with the registers from `from`, and its conditions with none that hold something.
fn fits(e: &E, from: usize) -> bool {
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
