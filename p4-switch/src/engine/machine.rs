//! The machine that runs actions: the packet state, and the externs that actions use.

mod computed;
mod headers;

use num_bigint::BigInt;

use super::execute::MAX_LOOPS;
use super::packet::Packet;
use crate::control::Unit;
use crate::externs::calculation::Gather;
use crate::externs::hash::mix;
use crate::externs::meter::MeterMut;
use crate::memory::Cells;
use crate::program::Program;
use crate::program::action::{Action, Op, Target};
use crate::program::expr::Env;
use crate::program::layout::Layout;
use crate::program::native::Frame;
use crate::program::parser::ValueSet;
use crate::program::slot::Slot;
use computed::{Computed, format_log};

/// What an action asks the switch to do later.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Requests {
    /// Session and field list.
    pub(crate) clone: Option<(u64, u64)>,
    pub(crate) digest: Option<u32>,
    pub(crate) resubmit: u64,
    pub(crate) recirculate: u64,
    pub(crate) exit: bool,
    pub(crate) failed: bool,
}

/// Members of a value set.
#[derive(Debug, Clone)]
pub(crate) struct ValueSetState {
    pub(crate) members: Vec<crate::program::table::MatchSpec>,
}

impl ValueSetState {
    pub(crate) fn new(_: &ValueSet) -> Self {
        Self { members: Vec::new() }
    }
}

/// What belongs to the packet at hand. Boxed, so that packets change places at the cost of a pointer.
#[derive(Debug, Clone)]
pub(crate) struct PacketState {
    pub(crate) phv: Vec<u8>,
    pub(crate) requests: Requests,
    pub(super) frame: Frame,
}

impl PacketState {
    pub(crate) fn new(program: &Program) -> Box<Self> {
        Box::new(Self {
            phv: program.layout.template.clone(),
            requests: Requests::default(),
            frame: Frame::default(),
        })
    }
}

/// The packet state and the externs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) state: Box<PacketState>,
    pub(crate) now_ns: u64,
    /// Packets and bytes: all zero until counted, so that an array of millions costs no memory.
    pub(crate) counters: Vec<Cells<[u64; 2]>>,
    pub(crate) meters: Vec<Cells<[u64; 8]>>,
    pub(crate) registers: Vec<Vec<u64>>,
    pub(crate) value_sets: Vec<ValueSetState>,
    pub(crate) gather: Gather,
    pub(crate) hash_counter: u64,
    random: u64,
    drop_port: u64,
    /// Lines of `log_msg`, if anybody wants them.
    pub(crate) log: Option<Vec<String>>,
}

impl Machine {
    pub(crate) fn new(program: &Program, seed: u64) -> Self {
        let names = &program.names;
        Self {
            state: PacketState::new(program),
            now_ns: 0,
            counters: names.counters.iter().map(|c| Cells::new(c.size)).collect(),
            meters: names.meters.iter().map(|m| Cells::new(m.size)).collect(),
            registers: names
                .registers
                .iter()
                .map(|r| vec![0; r.size * r.bitwidth.div_ceil(64)])
                .collect(),
            value_sets: program.parser.value_sets.iter().map(ValueSetState::new).collect(),
            gather: Gather::default(),
            hash_counter: 0,
            random: seed,
            drop_port: 511,
            log: None,
        }
    }

    pub(crate) fn set_drop_port(&mut self, port: u32) {
        self.drop_port = port as u64;
    }

    /// Writes a field that the program may lack.
    #[inline]
    pub(crate) fn set(&mut self, slot: Option<Slot>, value: u64) {
        if let Some(slot) = slot {
            slot.store(&mut self.state.phv, value);
        }
    }

    /// Reads a field that the program may lack.
    #[inline]
    pub(crate) fn get(&self, slot: Option<Slot>) -> Option<u64> {
        slot.map(|slot| slot.load(&self.state.phv))
    }

    /// Runs an action.
    #[inline]
    pub(crate) fn run(&mut self, program: &Program, action: &Action, arguments: &[u64], packet: &mut Packet) {
        let ops = &*action.ops;
        let env = Env {
            layout: &program.layout,
            params: arguments,
            widths: &action.widths,
            ahead: &[],
        };
        let mut at = 0;
        let mut loops = 0;
        while let Some(op) = ops.get(at) {
            at += 1;
            let target = match op {
                Op::Const(slot, value) => {
                    slot.store(&mut self.state.phv, *value);
                    continue;
                }
                Op::Copy(to, from) => {
                    let value = from.load(&self.state.phv);
                    to.store(&mut self.state.phv, value);
                    continue;
                }
                Op::Param(slot, argument) => {
                    slot.store(&mut self.state.phv, argument.load(arguments));
                    continue;
                }
                Op::Set(slot, e) => {
                    let value = e.eval(&self.state.phv, &env);
                    slot.store(&mut self.state.phv, value);
                    continue;
                }
                Op::Jump(target) => *target as usize,
                Op::JumpUnless(condition, target) => {
                    if condition.eval(&self.state.phv, &env) {
                        continue;
                    }
                    *target as usize
                }
                op => {
                    self.step_rest(program, op, arguments, &action.widths, packet);
                    continue;
                }
            };
            loops += u32::from(target < at);
            if loops > MAX_LOOPS {
                self.state.requests.failed = true;
                return;
            }
            at = target;
        }
    }

    /// Runs one operation of a parser state, which may look ahead in the packet.
    pub(crate) fn step(
        &mut self,
        program: &Program,
        op: &Op,
        arguments: &[u64],
        widths: &[usize],
        packet: &mut Packet,
    ) {
        match op {
            Op::Const(slot, value) => slot.store(&mut self.state.phv, *value),
            Op::Copy(to, from) => {
                let value = from.load(&self.state.phv);
                to.store(&mut self.state.phv, value);
            }
            Op::Param(slot, argument) => slot.store(&mut self.state.phv, argument.load(arguments)),
            Op::Set(slot, e) => {
                let env = Env {
                    layout: &program.layout,
                    params: arguments,
                    widths,
                    ahead: packet.ahead(),
                };
                let value = e.eval(&self.state.phv, &env);
                slot.store(&mut self.state.phv, value);
            }
            op => self.step_rest(program, op, arguments, widths, packet),
        }
    }

    #[inline(never)]
    pub(super) fn step_rest(
        &mut self,
        program: &Program,
        op: &Op,
        arguments: &[u64],
        widths: &[usize],
        packet: &mut Packet,
    ) {
        let layout = &program.layout;
        macro_rules! env {
            () => {
                Env {
                    layout,
                    params: arguments,
                    widths,
                    ahead: packet.ahead(),
                }
            };
        }
        match op {
            Op::Const(..) | Op::Copy(..) | Op::Param(..) | Op::Set(..) => {}
            // Only the loop above and the parser know about these.
            Op::Jump(_) | Op::JumpUnless(..) | Op::NeedAhead(_) => {}
            Op::SetDouble(pair) => {
                let value = pair.1.eval(&self.state.phv, &env!());
                pair.0.store128(&mut self.state.phv, value);
            }
            Op::CopySpan(pair) => pair.0.copy_from(&mut self.state.phv, pair.1),
            Op::SetAny(pair) => {
                let value = Computed::of(&pair.1, &self.state.phv, &env!());
                self.assign(layout, &pair.0, value, arguments, widths, packet);
            }
            Op::SetVarbit(parts) => {
                let (to, to_field, from, from_field) = &**parts;
                if let (Some(a), Some(b)) = (to.find(&self.state.phv, &env!()), from.find(&self.state.phv, &env!())) {
                    let (x, y) = (layout.span(a.header, *to_field), layout.span(b.header, *from_field));
                    x.moved(a.shift).copy_from_left(&mut self.state.phv, y.moved(b.shift));
                    if let (Some(x), Some(y)) = (a.varbit_length(layout), b.varbit_length(layout)) {
                        let length = y.load(&self.state.phv);
                        x.store(&mut self.state.phv, length);
                    }
                }
            }
            Op::AddHeader(place) => {
                if let Some(found) = place.find(&self.state.phv, &env!()) {
                    self.add_header(layout, place, found, packet);
                }
            }
            Op::InitHeader(init) => init.apply(&mut self.state.phv, packet),
            Op::RemoveHeader(place) => {
                if let Some(found) = place.find(&self.state.phv, &env!())
                    && self.state.phv[found.valid] != 0
                {
                    packet.length -= self.header_len(layout, found) as i64;
                    self.state.phv[found.valid] = 0;
                }
            }
            Op::CopyHeader(pair) => {
                let (to, from) = (
                    pair.0.find(&self.state.phv, &env!()),
                    pair.1.find(&self.state.phv, &env!()),
                );
                if let (Some(to), Some(from)) = (to, from) {
                    self.copy_header(layout, to, from);
                }
            }
            Op::CopyStack(to, from) => self.copy_stack(layout, *to, *from),
            Op::Push(stack, count) => {
                let count = count.eval(&self.state.phv, &env!());
                self.shift_stack(layout, *stack, count, true);
            }
            Op::Pop(stack, count) => {
                let count = count.eval(&self.state.phv, &env!());
                self.shift_stack(layout, *stack, count, false);
            }
            Op::Exit => self.state.requests.exit = true,
            Op::MarkToDrop => {
                self.set(program.standard.egress_spec, self.drop_port);
                self.set(program.standard.mcast_grp, 0);
            }
            Op::Count(counter, index) => {
                let index = index.eval(&self.state.phv, &env!());
                self.count(*counter, index, packet);
            }
            Op::Meter(parts) => {
                let (meter, index, target) = &**parts;
                let index = index.eval(&self.state.phv, &env!());
                if let Some(colour) = self.meter(program, *meter, index, packet) {
                    self.assign(layout, target, Computed::Word(colour), arguments, widths, packet);
                }
            }
            Op::RegisterRead(parts) => {
                let (target, register, index) = &**parts;
                let index = index.eval(&self.state.phv, &env!()) as usize;
                let info = &program.names.registers[*register as usize];
                if index < info.size {
                    let words = info.bitwidth.div_ceil(64);
                    let cell = &self.registers[*register as usize][index * words..][..words];
                    let value = match *cell {
                        [] => Computed::Word(0),
                        [word] => Computed::Word(word),
                        [high, low] => Computed::Double((high as u128) << 64 | low as u128),
                        _ => Computed::Big(cell.iter().fold(BigInt::default(), |n, w| (n << 64) + *w)),
                    };
                    self.assign(layout, target, value, arguments, widths, packet);
                }
            }
            Op::RegisterWrite(parts) => {
                let (register, index, value) = &**parts;
                let (index, value) = (
                    index.eval(&self.state.phv, &env!()) as usize,
                    Computed::of(value, &self.state.phv, &env!()),
                );
                let info = &program.names.registers[*register as usize];
                if index < info.size {
                    let words = info.bitwidth.div_ceil(64);
                    value.put(
                        &mut self.registers[*register as usize][index * words..][..words],
                        info.bitwidth,
                    );
                }
            }
            Op::Hash(parts) => {
                let (target, base, calculation, size) = &**parts;
                let (base, size) = (base.eval(&self.state.phv, &env!()), size.eval(&self.state.phv, &env!()));
                let calculation = &program.calculations[*calculation as usize];
                let hash = calculation.output(
                    &self.state.phv,
                    packet.ahead(),
                    &mut self.gather,
                    &mut self.hash_counter,
                );
                let value = (hash % size.max(1)).wrapping_add(base);
                self.assign(layout, target, Computed::Word(value), arguments, widths, packet);
            }
            Op::Random(parts) => {
                let (target, low, high) = &**parts;
                let (low, high) = (low.eval(&self.state.phv, &env!()), high.eval(&self.state.phv, &env!()));
                if low <= high {
                    self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let span = (high - low) as u128 + 1;
                    let value = low + ((mix(self.random) as u128 * span) >> 64) as u64;
                    self.assign(layout, target, Computed::Word(value), arguments, widths, packet);
                }
            }
            Op::Digest(list) => self.state.requests.digest = Some(*list),
            Op::Clone(pair) => {
                self.state.requests.clone = Some((
                    pair.0.eval(&self.state.phv, &env!()),
                    pair.1.eval(&self.state.phv, &env!()),
                ))
            }
            Op::Resubmit(list) => self.state.requests.resubmit = list.eval(&self.state.phv, &env!()),
            Op::Recirculate(list) => self.state.requests.recirculate = list.eval(&self.state.phv, &env!()),
            Op::Truncate(length) => {
                let length = length.eval(&self.state.phv, &env!());
                packet.truncated = packet.truncated.min(length as usize);
            }
            Op::Log(parts) => {
                if self.log.is_some() {
                    let values: Vec<BigInt> = parts
                        .1
                        .iter()
                        .map(|v| Computed::of(v, &self.state.phv, &env!()).into_big())
                        .collect();
                    let line = format_log(&parts.0, &values);
                    if let Some(log) = &mut self.log {
                        log.push(line);
                    }
                }
            }
            Op::Assert(condition) => {
                if !condition.eval(&self.state.phv, &env!()) {
                    self.state.requests.failed = true;
                    self.state.requests.exit = true;
                }
            }
        }
    }

    /// Counts the packet in a cell.
    #[inline]
    pub(super) fn count(&mut self, counter: u32, index: u64, packet: &Packet) {
        if let Some(cell) = self.counters[counter as usize].get_mut(index as usize) {
            cell[0] += 1;
            cell[1] += packet.ingress_length as u64;
        }
    }

    /// The colour that a meter's cell gives the packet; none: there is no such cell.
    #[inline]
    pub(super) fn meter(&mut self, program: &Program, meter: u32, index: u64, packet: &Packet) -> Option<u64> {
        let size = match program.names.meters[meter as usize].unit {
            Unit::Bytes => packet.ingress_length as u64,
            _ => 1,
        };
        let cell = self.meters[meter as usize].get_mut(index as usize)?;
        Some(MeterMut(cell).execute(size, self.now_ns))
    }

    fn assign(
        &mut self,
        layout: &Layout,
        target: &Target,
        value: Computed,
        arguments: &[u64],
        widths: &[usize],
        packet: &Packet,
    ) {
        let span = match target {
            Target::Nowhere => return,
            Target::Slot(slot) => return slot.store(&mut self.state.phv, value.low()),
            Target::Span(span) => *span,
            Target::Element(element, span) => {
                let env = Env {
                    layout,
                    params: arguments,
                    widths,
                    ahead: packet.ahead(),
                };
                let Some(index) = element.index(&self.state.phv, &env) else {
                    return;
                };
                span.moved(index * element.stride())
            }
        };
        match value {
            Computed::Word(word) => span.store_words(&mut self.state.phv, &[word]),
            Computed::Double(double) => span.store_words(&mut self.state.phv, &[(double >> 64) as u64, double as u64]),
            Computed::Big(number) => {
                let mut words = vec![0u64; span.width.div_ceil(64) as usize];
                Computed::Big(number).put(&mut words, span.width as usize);
                span.store_words(&mut self.state.phv, &words);
            }
        }
    }
}
