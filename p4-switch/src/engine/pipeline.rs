//! Match-action: walking a pipeline's control flow and applying its tables.

use super::Engine;
use super::machine::{MAX_LOOPS, Machine};
use super::packet::Packet;
use crate::control::Unit;
use crate::externs::meter::MeterMut;
use crate::program::Program;
use crate::program::code::{Instruction, REGISTERS};
use crate::program::expr::{Env, holds};
use crate::program::table::{END, Flow, Pipeline, TablePart};
use crate::tables::profile::ActionProfile;
use crate::tables::{Control, DEFAULT_ROW, MatchTable};
use crate::trace::Trace;

impl Engine {
    /// Runs a pipeline over the packet state.
    #[inline]
    pub(crate) fn run_pipeline<const TRACE: bool>(
        &mut self,
        program: &Program,
        pipeline: &Pipeline,
        packet: &mut Packet,
    ) {
        let env = Env {
            layout: &program.layout,
            params: &[],
            widths: &[],
            ahead: &[],
        };
        let mut at = pipeline.start;
        self.machine.requests.exit = false;
        while at != END {
            at = match &pipeline.flow[at as usize] {
                Flow::If { condition, yes, no } => {
                    if condition.eval(&self.machine.phv, &env) {
                        *yes
                    } else {
                        *no
                    }
                }
                Flow::Call { action, next } => {
                    let action = &program.actions[*action as usize];
                    if TRACE && let Some(trace) = &mut self.trace {
                        trace.call(&action.name);
                    }
                    self.machine.run(program, action, &[], packet);
                    if action.exits && self.machine.requests.exit || self.machine.requests.failed {
                        return;
                    }
                    *next
                }
                Flow::Apply(table) => {
                    let next = apply::<TRACE>(
                        program,
                        *table as usize,
                        &mut self.tables[*table as usize],
                        &mut self.profiles,
                        &mut self.machine,
                        packet,
                        &mut self.trace,
                    );
                    if self.machine.requests.exit || self.machine.requests.failed {
                        return;
                    }
                    next
                }
            };
        }
    }
}

/// Which pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ingress,
    Egress,
}

impl Engine {
    /// Runs a pipeline's code over the packet state.
    pub(crate) fn run_code(&mut self, program: &Program, side: Side, packet: &mut Packet) {
        let code = &program.code;
        let (nodes, mut at) = match side {
            Side::Ingress => (&code.ingress, code.ingress_start),
            Side::Egress => (&code.egress, code.egress_start),
        };
        self.machine.requests.exit = false;
        loop {
            let Some(table) = self.machine.execute(program, at, &[], &[], packet) else {
                return;
            };
            let next = apply::<false>(
                program,
                table as usize,
                &mut self.tables[table as usize],
                &mut self.profiles,
                &mut self.machine,
                packet,
                &mut None,
            );
            if next == END || self.machine.requests.exit || self.machine.requests.failed {
                return;
            }
            at = nodes[next as usize];
        }
    }
}

impl Machine {
    /// Executes code from `at` until it returns, or until a table is to be applied: that table.
    pub(crate) fn execute(
        &mut self,
        program: &Program,
        at: u32,
        arguments: &[u64],
        widths: &[usize],
        packet: &mut Packet,
    ) -> Option<u32> {
        use Instruction::*;
        let code = &program.code;
        let env = Env {
            layout: &program.layout,
            params: arguments,
            widths,
            ahead: &[],
        };
        let mut registers = [0u64; REGISTERS];
        let mut loops = 0;
        let mut at = at as usize;
        macro_rules! r {
            ($register:expr) => {
                registers[($register) as usize % REGISTERS]
            };
        }
        let instructions = &*code.instructions;
        while let Some(instruction) = instructions.get(at) {
            at += 1;
            match instruction {
                Const(slot, value) => slot.store(&mut self.phv, *value),
                Copy(to, from) => {
                    let value = from.load(&self.phv);
                    to.store(&mut self.phv, value);
                }
                Argument(slot, word) => slot.store(&mut self.phv, arguments.get(*word as usize).copied().unwrap_or(0)),
                Load(to, slot) => r!(*to) = slot.load(&self.phv),
                LoadAnd(to, slot, mask) => r!(*to) = slot.load(&self.phv) & mask,
                LoadAdd(to, slot, value) => r!(*to) = slot.load(&self.phv).wrapping_add(*value),
                Immediate(to, value) => r!(*to) = *value,
                LoadArgument(to, word) => r!(*to) = arguments.get(*word as usize).copied().unwrap_or(0),
                Store(slot, from) => slot.store(&mut self.phv, r!(*from)),
                Add(to, by) => r!(*to) = r!(*to).wrapping_add(r!(*by)),
                Sub(to, by) => r!(*to) = r!(*to).wrapping_sub(r!(*by)),
                And(to, by) => r!(*to) &= r!(*by),
                Or(to, by) => r!(*to) |= r!(*by),
                Xor(to, by) => r!(*to) ^= r!(*by),
                AddImmediate(to, value) => r!(*to) = r!(*to).wrapping_add(*value),
                AndImmediate(to, value) => r!(*to) &= value,
                OrImmediate(to, value) => r!(*to) |= value,
                Shl(to, by) => r!(*to) <<= by,
                Shr(to, by) => r!(*to) >>= by,
                Complement(to) => r!(*to) = !r!(*to),
                Tree(to, number) => r!(*to) = code.trees[*number as usize].eval(&self.phv, &env),
                Jump(label) => at = *label as usize,
                JumpIs(slot, value, label) => {
                    if slot.load(&self.phv) == *value {
                        at = *label as usize;
                    }
                }
                JumpIsNot(slot, value, label) => {
                    if slot.load(&self.phv) != *value {
                        at = *label as usize;
                    }
                }
                JumpValid(valid, label) => {
                    if self.phv[*valid as usize] != 0 {
                        at = *label as usize;
                    }
                }
                JumpInvalid(valid, label) => {
                    if self.phv[*valid as usize] == 0 {
                        at = *label as usize;
                    }
                }
                JumpZero(register, label) => {
                    if r!(*register) == 0 {
                        at = *label as usize;
                    }
                }
                JumpNonZero(register, label) => {
                    if r!(*register) != 0 {
                        at = *label as usize;
                    }
                }
                JumpCompare(op, a, b, label) => {
                    if holds(*op, r!(*a), r!(*b)) {
                        at = *label as usize;
                    }
                }
                JumpTree(number, outcome, label) => {
                    if code.conditions[*number as usize].eval(&self.phv, &env) == *outcome {
                        at = *label as usize;
                    }
                }
                Loop(label) => {
                    loops += 1;
                    if loops > MAX_LOOPS {
                        self.requests.failed = true;
                        return None;
                    }
                    at = *label as usize;
                }
                Invalidate(valid, bytes) => {
                    let valid = &mut self.phv[*valid as usize];
                    if *valid != 0 {
                        *valid = 0;
                        packet.length -= *bytes as i64;
                    }
                }
                Count(counter, register) => {
                    if let Some(cell) = self.counters[*counter as usize].get_mut(r!(*register) as usize) {
                        cell[0] += 1;
                        cell[1] += packet.ingress_length as u64;
                    }
                }
                Step(number) => self.step_rest(program, &code.ops[*number as usize], arguments, widths, packet),
                CheckExit => {
                    if self.requests.exit || self.requests.failed {
                        return None;
                    }
                }
                Apply(table) => return Some(*table),
                Return => return None,
            }
        }
        None
    }
}

#[inline(always)]
pub(super) fn build_key(parts: &[TablePart], phv: &[u8], words: &mut [u64]) {
    for part in parts {
        // All ones if the header is valid: fields of invalid headers match as zero.
        let present = match part.valid {
            Some(valid) => (phv[valid as usize] as u64).wrapping_neg(),
            None => u64::MAX,
        };
        words[part.word as usize] |= (part.chunk.load(phv) & part.mask & present) << part.shift;
    }
}

/// Looks a packet up in a table and does what the entry says. Gives the next node.
#[inline]
pub(super) fn apply<const TRACE: bool>(
    program: &Program,
    number: usize,
    table: &mut MatchTable,
    profiles: &mut [ActionProfile],
    machine: &mut Machine,
    packet: &mut Packet,
    trace: &mut Option<Box<Trace>>,
) -> u32 {
    let words = table.layout.key;
    let model = &program.tables[number];
    let parts = &model.parts;
    if TRACE && let Some(trace) = trace {
        let mut key = vec![0; words];
        build_key(parts, &machine.phv, &mut key);
        trace.key(model, &key);
    }
    let found = if words <= 8 {
        let mut key = [0u64; 8];
        build_key(parts, &machine.phv, &mut key[..words]);
        table.lookup(&key[..words])
    } else {
        let mut key = [0u64; 64];
        build_key(parts, &machine.phv, &mut key[..words]);
        table.lookup(&key[..words])
    };
    act::<TRACE>(program, number, table, found, profiles, machine, packet, trace)
}

/// Does what the entry that was found says, or the default entry. Gives the next node.
#[inline]
#[allow(clippy::too_many_arguments)]
pub(super) fn act<const TRACE: bool>(
    program: &Program,
    number: usize,
    table: &mut MatchTable,
    found: Option<u32>,
    profiles: &mut [ActionProfile],
    machine: &mut Machine,
    packet: &mut Packet,
    trace: &mut Option<Box<Trace>>,
) -> u32 {
    let model = &program.tables[number];
    let row = found.unwrap_or(DEFAULT_ROW);
    let layout = table.layout;
    if found.is_some() {
        let now = machine.now_ns;
        if model.counters {
            let cells = &mut table.row_mut(row)[layout.counter..layout.counter + 2];
            cells[0] += 1;
            cells[1] += packet.ingress_length as u64;
        }
        if model.timeouts {
            table.row_mut(row)[layout.last_hit] = now;
        }
        if let Some(meter) = model.meter {
            let meter = &program.names.direct_meters[meter];
            let size = if meter.unit == Unit::Bytes {
                packet.ingress_length as u64
            } else {
                1
            };
            let colour = MeterMut(&mut table.meters[row as usize]).execute(size, now);
            machine.set(meter.target, colour);
        }
    }
    let control = Control::from_word(table.row(row)[layout.control]);
    let (action, arguments): (usize, &[u64]) = match control {
        Control::Action(slot) => (model.actions[slot as usize].action, table.arguments(row)),
        Control::Nothing => {
            if TRACE && let Some(trace) = trace {
                trace.table(program, number, table, found, None, &[]);
            }
            let next = if found.is_some() { model.on_hit } else { model.on_miss };
            return next.unwrap_or(model.base_default);
        }
        indirect => {
            let Some(profile) = model.profile else {
                return model.base_default;
            };
            match select_member(program, profile, &mut profiles[profile], machine, packet, indirect) {
                Some(member) => {
                    let member = &profiles[profile].members[member as usize];
                    (member.action, &member.arguments)
                }
                // An empty group does nothing.
                None => {
                    if TRACE && let Some(trace) = trace {
                        trace.table(program, number, table, found, None, &[]);
                    }
                    let next = if found.is_some() { model.on_hit } else { model.on_miss };
                    return next.unwrap_or(model.base_default);
                }
            }
        }
    };
    if TRACE && let Some(trace) = trace {
        trace.table(program, number, table, found, Some(action), arguments);
    }
    if TRACE {
        machine.run(program, &program.actions[action], arguments, packet);
    } else {
        let widths = &program.actions[action].widths;
        machine.execute(program, program.code.actions[action], arguments, widths, packet);
    }
    let fixed = if found.is_some() { model.on_hit } else { model.on_miss };
    match (fixed, control) {
        (Some(next), _) => next,
        (None, Control::Action(slot)) => model.actions[slot as usize].next,
        (None, _) => model
            .actions
            .iter()
            .find(|a| a.action == action)
            .map_or(model.base_default, |a| a.next),
    }
}

fn select_member(
    program: &Program,
    number: usize,
    profile: &mut ActionProfile,
    machine: &mut Machine,
    packet: &Packet,
    control: Control,
) -> Option<u32> {
    match control {
        Control::Member(at) => Some(at),
        Control::Group(at) => {
            let slots = &profile.groups[at as usize].slots;
            if slots.is_empty() {
                return None;
            }
            let hash = match program.profiles[number].selector {
                Some(selector) => program.selectors[selector].output(
                    &machine.phv,
                    packet.ahead(),
                    &mut machine.gather,
                    &mut profile.counter,
                ),
                None => 0,
            };
            Some(slots[(hash % slots.len() as u64) as usize])
        }
        _ => None,
    }
}
