//! Match-action: what an entry of a table makes of a packet, and a pipeline's way from table to table.

use super::Engine;
use super::execute::Call;
use super::machine::Machine;
use super::packet::Packet;
use crate::control::Unit;
use crate::externs::meter::MeterMut;
use crate::program::Program;
use crate::program::code::FINISH;
use crate::program::expr::Env;
use crate::program::table::{END, Flow, Pipeline, Table, TablePart};
use crate::tables::profile::{ActionProfile, Member};
use crate::tables::{Control, DEFAULT_ROW, MatchTable};

/// Most words of a table's key.
const KEY: usize = 64;

/// Which pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ingress,
    Egress,
}

impl Engine {
    /// Walks a pipeline's nodes and traces the way: what [`Self::run_code`] does, as the program says it.
    pub(crate) fn run_traced(&mut self, program: &Program, pipeline: &Pipeline, packet: &mut Packet) {
        let env = Env {
            layout: &program.layout,
            params: &[],
            widths: &[],
            ahead: &[],
        };
        let mut at = pipeline.start;
        self.machine.state.requests.exit = false;
        while at != END {
            at = match &pipeline.flow[at as usize] {
                Flow::If { condition, yes, no } => {
                    if condition.eval(&self.machine.state.phv, &env) {
                        *yes
                    } else {
                        *no
                    }
                }
                Flow::Call { action, next } => {
                    let action = &program.actions[*action as usize];
                    if let Some(trace) = &mut self.trace {
                        trace.call(&action.name);
                    }
                    self.machine.run(program, action, &[], packet);
                    *next
                }
                Flow::Apply(table) => self.apply_traced(program, *table as usize, packet),
            };
            if self.machine.state.requests.exit || self.machine.state.requests.failed {
                return;
            }
        }
    }

    /// Applies a table, action included. Gives the next node.
    fn apply_traced(&mut self, program: &Program, number: usize, packet: &mut Packet) -> u32 {
        let table = &mut self.tables[number];
        let model = &program.tables[number];
        let mut room = [0; KEY];
        let key = build_key(&model.parts, &self.machine.state.phv, &mut room[..table.layout.key]);
        let found = table.lookup(key);
        if let Some(row) = found {
            mark(program, model, table, row, &mut self.machine, packet);
        }
        let row = found.unwrap_or(DEFAULT_ROW);
        let (action, arguments) = match table.control(row) {
            Control::Action(position) => {
                let action = model.actions[position as usize].action;
                (Some(action), table.arguments(row))
            }
            control => {
                let member = member(program, number, &mut self.profiles, &mut self.machine, packet, control);
                member.map_or((None, &[][..]), |m| (Some(m.action), &m.arguments))
            }
        };
        if let Some(trace) = &mut self.trace {
            trace.key(model, key);
            trace.table(program, number, table, found, action, arguments);
        }
        if let Some(action) = action {
            self.machine.run(program, &program.actions[action], arguments, packet);
        }
        let fixed = if found.is_some() { model.on_hit } else { model.on_miss };
        let of_action = action.and_then(|action| model.actions.iter().find(|a| a.action == action));
        fixed.unwrap_or(of_action.map_or(model.base_default, |a| a.next))
    }

    /// Runs a pipeline's code over the packet state.
    pub(crate) fn run_code(&mut self, program: &Program, side: Side, packet: &mut Packet) {
        let start = match side {
            Side::Ingress => program.code.ingress_start,
            Side::Egress => program.code.egress_start,
        };
        self.machine.begin();
        if start == FINISH {
            return;
        }
        let mut reached = self.machine.execute(program, start, Call::NONE, packet);
        while let Some(table) = reached {
            let found = self.look_up(program, table as usize);
            reached = self.act(program, table as usize, found, packet);
        }
        self.machine.settle(packet);
    }

    /// The row that the packet hits of a table that the code has reached.
    #[inline]
    pub(super) fn look_up(&self, program: &Program, number: usize) -> Option<u32> {
        let table = &self.tables[number];
        let state = &self.machine.state;
        match state.frame.key.get(..table.layout.key) {
            Some(key) => table.lookup(key),
            None => {
                let parts = &program.code.tables[number].parts;
                table.lookup(build_key(parts, &state.phv, &mut [0; KEY][..table.layout.key]))
            }
        }
    }

    /// Does what the row says that was found, or the default entry, and goes on in the pipeline: to the next table.
    #[inline]
    pub(super) fn act(
        &mut self,
        program: &Program,
        number: usize,
        found: Option<u32>,
        packet: &mut Packet,
    ) -> Option<u32> {
        let application = &program.code.tables[number];
        let table = &mut self.tables[number];
        let (row, outcomes) = match found {
            Some(row) => {
                if application.marks {
                    mark(program, &program.tables[number], table, row, &mut self.machine, packet);
                }
                (row, &application.hit)
            }
            None => (DEFAULT_ROW, &application.miss),
        };
        let control = table.control(row);
        let (entrance, arguments) = if let Control::Action(position) = control {
            (outcomes.actions[position as usize], table.arguments(row))
        } else {
            let member = member(program, number, &mut self.profiles, &mut self.machine, packet, control);
            let Some(Member { action, arguments, .. }) = member else {
                return self.machine.execute(program, outcomes.past, Call::NONE, packet);
            };
            let words = program.actions[*action].packing.words;
            (
                outcomes.of_action(*action, &program.code.actions, words),
                &arguments[..],
            )
        };
        let call = Call {
            arguments,
            words: entrance.words as usize,
            action: entrance.action as usize,
            then: entrance.then,
        };
        self.machine.execute(program, entrance.at, call, packet)
    }
}

/// Fills `words`, which are zero, with the packet's key.
#[inline(always)]
pub(super) fn build_key<'k>(parts: &[TablePart], phv: &[u8], words: &'k mut [u64]) -> &'k [u64] {
    for part in parts {
        // All ones if the header is valid: fields of invalid headers match as zero.
        let present = match part.valid {
            Some(valid) => (phv[valid as usize] as u64).wrapping_neg(),
            None => u64::MAX,
        };
        words[part.word as usize] |= (part.chunk.load(phv) & part.mask & present) << part.shift;
    }
    words
}

/// Counts and meters a hit in the row itself.
fn mark(program: &Program, model: &Table, table: &mut MatchTable, row: u32, machine: &mut Machine, packet: &Packet) {
    let layout = table.layout;
    if model.counters {
        let cells = &mut table.row_mut(row)[layout.counter..layout.counter + 2];
        cells[0] += 1;
        cells[1] += packet.ingress_length as u64;
    }
    if model.timeouts {
        table.row_mut(row)[layout.last_hit] = machine.now_ns;
    }
    if let Some(meter) = model.meter {
        let meter = &program.names.direct_meters[meter];
        let size = match meter.unit {
            Unit::Bytes => packet.ingress_length as u64,
            _ => 1,
        };
        let colour = MeterMut(&mut table.meters[row as usize]).execute(size, machine.now_ns);
        machine.set(meter.target, colour);
    }
}

/// The member of a table's action profile that a row names, by itself or by its group.
fn member<'p>(
    program: &Program,
    table: usize,
    profiles: &'p mut [ActionProfile],
    machine: &mut Machine,
    packet: &Packet,
    control: Control,
) -> Option<&'p Member> {
    let number = program.tables[table].profile?;
    let profile = &mut profiles[number];
    let at = match control {
        Control::Member(at) => at,
        Control::Group(at) => {
            let selector = program.profiles[number].selector.map(|at| &program.selectors[at]);
            match (&*profile.groups[at as usize].slots, selector) {
                ([], _) => return None,
                // Whatever the hash would be: one-shot entries with a single action are such.
                ([only], Some(selector)) if selector.is_of_packet() => *only,
                ([first, ..], None) => *first,
                (slots, Some(selector)) => {
                    let phv = &machine.state.phv;
                    let hash = selector.output(phv, packet.ahead(), &mut machine.gather, &mut profile.counter);
                    slots[(hash % slots.len() as u64) as usize]
                }
            }
        }
        Control::Action(_) | Control::Nothing => return None,
    };
    Some(&profile.members[at as usize])
}
