//! Match-action: walking a pipeline's control flow and applying its tables.

use super::Engine;
use super::machine::Machine;
use super::packet::Packet;
use crate::control::Unit;
use crate::externs::meter::MeterMut;
use crate::program::Program;
use crate::program::expr::Env;
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
        let mut at = pipeline.start;
        self.machine.requests.exit = false;
        while at != END {
            at = match &pipeline.flow[at as usize] {
                Flow::If { condition, yes, no } => {
                    let env = Env {
                        layout: &program.layout,
                        phv: &self.machine.phv,
                        params: &[],
                        widths: &[],
                        ahead: &[],
                    };
                    if condition.eval(&env) { *yes } else { *no }
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

#[inline(always)]
fn build_key(parts: &[TablePart], phv: &[u8], words: &mut [u64]) {
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
fn apply<const TRACE: bool>(
    program: &Program,
    number: usize,
    table: &mut MatchTable,
    profiles: &mut [ActionProfile],
    machine: &mut Machine,
    packet: &mut Packet,
    trace: &mut Option<Box<Trace>>,
) -> u32 {
    let model = &program.tables[number];
    let words = table.layout.key;
    if TRACE && let Some(trace) = trace {
        let mut key = vec![0; words];
        build_key(&model.parts, &machine.phv, &mut key);
        trace.key(model, &key);
    }
    let found = if words <= 8 {
        let mut key = [0u64; 8];
        build_key(&model.parts, &machine.phv, &mut key[..words]);
        table.lookup(&key[..words])
    } else {
        let mut key = [0u64; 64];
        build_key(&model.parts, &machine.phv, &mut key[..words]);
        table.lookup(&key[..words])
    };
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
    machine.run(program, &program.actions[action], arguments, packet);
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
