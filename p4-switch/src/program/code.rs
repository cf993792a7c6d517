//! Pipelines and actions as straight code: one list of small instructions with registers and jumps.
//!
//! The trees of [`expr`](super::expr) and the nodes of [`table`](super::table) are what a program means, and what runs
//! while a packet is traced. This is the same, laid out for speed: conditions become jumps, expressions become register
//! operations, actions that p4c made of statements stand in line. What is rare stays a tree and is referred to. The simple
//! instructions run as machine code where that can be ([`native`](super::native)).

mod expressions;

use super::action::{Action, InitHeader, Op, Target};
use super::application::Application;
use super::ast::Compare;
use super::expr::{Cond, E};
use super::graph::{Graph, Node};
use super::layout::Layout;
use super::native::Native;
use super::packing::Argument;
use super::slot::Slot;
use super::table::{END, Table};
use expressions::fits;

/// Registers there are. Expressions that need more stay trees.
pub(crate) const REGISTERS: usize = 4;

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
    /// Fields become arguments: so many of [`Code::arguments`] from here.
    Arguments(u32, u32),
    Load(Register, Slot),
    LoadAnd(Register, Slot, u64),
    LoadAdd(Register, Slot, u64),
    Immediate(Register, u64),
    LoadArgument(Register, Argument),
    Store(Slot, Register),
    /// Target and first operand, second operand.
    Add(Register, Register),
    Sub(Register, Register),
    And(Register, Register),
    Or(Register, Register),
    Xor(Register, Register),
    AddField(Register, Slot),
    SubField(Register, Slot),
    AndField(Register, Slot),
    OrField(Register, Slot),
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
    JumpCompareField(Compare, Register, Slot, Label),
    JumpCompareFields(Compare, Slot, Slot, Label),
    JumpFieldImmediate(Compare, Slot, u64, Label),
    JumpCompareImmediate(Compare, Register, u64, Label),
    /// A condition that stays a tree, by number, and the outcome that jumps.
    JumpTree(u32, bool, Label),
    /// A jump backwards in an action: counted.
    Loop(Label),
    /// Headers become invalid: so many of [`Code::removed`] from here.
    Invalidate(u32, u32),
    /// A header becomes valid with known contents, by number.
    Init(u32),
    /// A field becomes the colour that a meter's cell, which the register names, gives the packet.
    Meter(u32, Register, Slot),
    /// The packet leaves with at most so many bytes.
    Truncate(Register),
    /// Counts the packet in the cell that the register names.
    Count(u32, Register),
    /// An operation that stays what it is, by number.
    Step(u32),
    /// Leaves if the packet exits or an assertion failed.
    CheckExit,
    /// Applies a table; goes on where the outcome says.
    Apply(u32),
    /// The end of an action.
    Return,
    /// The end of the pipeline.
    Finish,
}

/// The code of a program.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) trees: Vec<E>,
    pub(crate) conditions: Vec<Cond>,
    pub(crate) ops: Vec<Op>,
    /// Fields that become arguments.
    pub(crate) arguments: Vec<(Slot, Argument)>,
    /// Headers that become invalid: byte of the validity, length.
    pub(crate) removed: Vec<(u32, u32)>,
    pub(crate) inits: Vec<InitHeader>,
    /// Where the actions end and the pipelines begin.
    pub(crate) pipelines: Label,
    /// The same as machine code.
    pub(crate) native: Option<Native>,
    /// Where each action begins.
    pub(crate) actions: Vec<Label>,
    /// How each table is applied.
    pub(crate) tables: Vec<Application>,
    /// Where ingress and egress start.
    pub(crate) ingress_start: Label,
    pub(crate) egress_start: Label,
}

/// A label that has no place yet.
const OPEN: Label = Label::MAX;

/// Where a pipeline ends: the first instruction.
pub(crate) const FINISH: Label = 0;

/// A jump to be completed: where it is.
type Jumps = Vec<usize>;

impl Code {
    /// Lays a program out.
    pub(crate) fn new(layout: &Layout, actions: &[Action], ingress: &Graph, egress: &Graph, tables: &[Table]) -> Self {
        let mut code = Code::default();
        code.emit(Instruction::Finish);
        for action in actions {
            let begin = code.here();
            code.actions.push(begin);
            code.operations(&action.ops, layout);
            code.emit(Instruction::Return);
        }
        code.pipelines = code.here();
        let (in_ingress, ingress_start) = code.pipeline(ingress, tables, layout);
        let (in_egress, egress_start) = code.pipeline(egress, tables, layout);
        (code.ingress_start, code.egress_start) = (ingress_start, egress_start);
        let is_applied = |number: u32| move |node: &Node| matches!(node, Node::Apply(table) if *table == number);
        for (number, table) in (0..).zip(tables) {
            let places = if ingress.nodes.iter().any(is_applied(number)) {
                &in_ingress
            } else {
                &in_egress
            };
            let place = |node: u32| match node {
                END => FINISH,
                node => places.get(node as usize).copied().unwrap_or(FINISH),
            };
            code.tables.push(Application::new(table, actions, &code.actions, place));
        }
        code.native = Native::new(&code);
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
            | JumpCompareField(_, _, _, label)
            | JumpCompareFields(_, _, _, label)
            | JumpFieldImmediate(_, _, _, label)
            | JumpCompareImmediate(_, _, _, label)
            | JumpTree(_, _, label)
            | Loop(label) => *label = to,
            _ => {}
        }
    }

    fn jump(&mut self, instruction: Instruction, jumps: &mut Jumps) {
        jumps.push(self.instructions.len());
        self.emit(instruction);
    }

    /// Operations, in line. Runs of arguments, and of headers that become invalid, are one instruction each.
    fn operations(&mut self, ops: &[Op], layout: &Layout) {
        let mut places = vec![OPEN; ops.len() + 1];
        let mut jumps: Vec<(usize, u32)> = Vec::new();
        let mut loops = false;
        // Where a run must not be joined across.
        let targets: Vec<u32> = ops
            .iter()
            .filter_map(|op| match op {
                Op::Jump(target) | Op::JumpUnless(_, target) => Some(*target),
                _ => None,
            })
            .collect();
        let mut at = 0;
        while let Some(op) = ops.get(at) {
            places[at] = self.here();
            let run = |belongs: &dyn Fn(&Op) -> bool| {
                let rest = (at + 1..ops.len()).take_while(|i| belongs(&ops[*i]) && !targets.contains(&(*i as u32)));
                rest.count() + 1
            };
            let length = match op {
                Op::Param(..) => run(&|op| matches!(op, Op::Param(..))),
                Op::RemoveHeader(_) => run(&|op| removed(op, layout).is_some()),
                _ => 1,
            };
            let after = at + length;
            self.operation(&ops[at..after], at, layout, &mut jumps, &mut loops);
            at = after;
        }
        places[ops.len()] = self.here();
        for (at, target) in jumps {
            let to = places.get(target as usize).copied().unwrap_or(places[ops.len()]);
            self.point(at, to);
        }
        if loops || ops.iter().any(|op| matches!(op, Op::Exit | Op::Assert(_))) {
            self.emit(Instruction::CheckExit);
        }
    }

    /// A run of operations that begins at position `at`.
    fn operation(&mut self, run: &[Op], at: usize, layout: &Layout, jumps: &mut Vec<(usize, u32)>, loops: &mut bool) {
        use Instruction::*;
        match &run[0] {
            Op::Const(slot, value) => self.emit(Const(*slot, *value)),
            Op::Copy(to, from) => self.emit(Copy(*to, *from)),
            Op::Param(..) => {
                let first = self.arguments.len() as u32;
                self.arguments.extend(run.iter().filter_map(|op| match op {
                    Op::Param(slot, argument) => Some((*slot, *argument)),
                    _ => None,
                }));
                self.emit(Arguments(first, run.len() as u32));
            }
            Op::Set(slot, e) if fits(e, 0) => {
                self.expression(e, 0);
                self.emit(Store(*slot, 0));
            }
            Op::Jump(target) => {
                let backwards = *target as usize <= at;
                *loops |= backwards;
                jumps.push((self.instructions.len(), *target));
                self.emit(if backwards { Loop(OPEN) } else { Jump(OPEN) });
            }
            Op::JumpUnless(condition, target) if *target as usize > at => {
                let mut open = Jumps::new();
                self.branch(condition, false, &mut open);
                jumps.extend(open.into_iter().map(|at| (at, *target)));
            }
            Op::JumpUnless(condition, target) => {
                let mut past = Jumps::new();
                self.branch(condition, true, &mut past);
                *loops = true;
                jumps.push((self.instructions.len(), *target));
                self.emit(Loop(OPEN));
                self.land(past);
            }
            op if removed(op, layout).is_some() => {
                let first = self.removed.len() as u32;
                self.removed.extend(run.iter().filter_map(|op| removed(op, layout)));
                self.emit(Invalidate(first, run.len() as u32));
            }
            Op::InitHeader(init) => {
                self.inits.push((**init).clone());
                self.emit(Init(self.inits.len() as u32 - 1));
            }
            Op::Count(counter, index) if fits(index, 0) => {
                self.expression(index, 0);
                self.emit(Count(*counter, 0));
            }
            Op::Truncate(length) if fits(length, 0) => {
                self.expression(length, 0);
                self.emit(Truncate(0));
            }
            Op::Meter(parts) if fits(&parts.1, 0) && matches!(parts.2, Target::Slot(_)) => {
                self.expression(&parts.1, 0);
                if let (meter, _, Target::Slot(slot)) = &**parts {
                    self.emit(Meter(*meter, 0, *slot));
                }
            }
            op => {
                self.ops.push(op.clone());
                self.emit(Step(self.ops.len() as u32 - 1));
            }
        }
    }

    /// A pipeline's nodes, each once; the place of each, and of the start.
    fn pipeline(&mut self, graph: &Graph, tables: &[Table], layout: &Layout) -> (Vec<Label>, Label) {
        let mut places = vec![OPEN; graph.nodes.len()];
        let mut open: Vec<(usize, u32)> = Vec::new();
        let mut todo = vec![graph.start];
        while let Some(start) = todo.pop() {
            let mut node = start;
            let mut applies = false;
            // As long as it leads to new nodes, one follows the other without a jump.
            while node != END && places[node as usize] == OPEN {
                places[node as usize] = self.here();
                node = match &graph.nodes[node as usize] {
                    Node::If { condition, yes, no } => {
                        let mut jumps = Jumps::new();
                        self.branch(condition, false, &mut jumps);
                        open.extend(jumps.into_iter().map(|at| (at, *no)));
                        todo.push(*no);
                        *yes
                    }
                    Node::Do { ops, next } => {
                        self.operations(ops, layout);
                        *next
                    }
                    Node::Apply(table) => {
                        self.emit(Instruction::Apply(*table));
                        todo.extend(tables[*table as usize].successors());
                        // The outcome says where it goes on.
                        applies = true;
                        break;
                    }
                };
            }
            if node == END && !applies {
                self.emit(Instruction::Finish);
            } else if !applies && node != start {
                open.push((self.instructions.len(), node));
                self.emit(Instruction::Jump(OPEN));
            }
        }
        let place = |node: u32| if node == END { FINISH } else { places[node as usize] };
        let start = place(graph.start);
        for (at, node) in open {
            self.point(at, place(node));
        }
        (places, start)
    }
}

/// A header of fixed length at a fixed place that becomes invalid: byte of the validity, length.
fn removed(op: &Op, layout: &Layout) -> Option<(u32, u32)> {
    match op {
        Op::RemoveHeader(place) if place.element.is_none() && layout.type_of(place.header).varbit.is_none() => {
            let bytes = layout.type_of(place.header).bits / 8;
            Some((layout.headers[place.header.0].valid as u32, bytes as u32))
        }
        _ => None,
    }
}
