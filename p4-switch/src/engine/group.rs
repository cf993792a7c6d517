//! Several packets in ingress at once, so that they wait for memory together.
//!
//! With a hundred thousand sessions every table look-up misses the caches twice: for the line of the index and for the
//! row. A packet that comes to a large exact table asks for the index line and lets the next packet of the group go on;
//! when its turn comes again it asks for the row; then it acts. Each packet has a packet state of its own, and what
//! follows ingress is done in the order in which packets came. Programs in which the order within ingress could be seen
//! (registers) take one packet at a time.

use super::Engine;
use super::execute::Call;
use super::machine::PacketState;
use super::packet::Packet;
use crate::memory::prefetch;
use crate::program::Program;
use crate::program::action::Cell;
use crate::tables::Control;

/// Packets that are in ingress together. Among eight a row is not there yet when its packet's turn comes; thirty-two
/// crowd each other out of the caches.
pub(super) const GROUP: usize = 16;

/// What a packet does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Begins with ingress.
    Begin,
    /// Looks for its row in the index of a table, whose line was asked for.
    Index(u32),
    /// Acts on the row, which was asked for.
    Row(u32),
    Done,
}

/// A packet in ingress.
#[derive(Debug)]
pub(super) struct Context {
    state: Box<PacketState>,
    /// None: it has gone on.
    packet: Option<Packet>,
    length: u64,
    step: Step,
    /// Of the key that it waits for.
    hash: u32,
    /// A row with this hash; none: there is none with the key.
    candidate: Option<u32>,
}

impl Engine {
    /// Takes packets through ingress together, and then one after the other through what follows.
    pub(super) fn receive_group(&mut self, program: &Program, packets: impl Iterator<Item = (u32, Packet)>) {
        let mut contexts = std::mem::take(&mut self.contexts);
        let mut count = 0;
        for (port, mut packet) in packets {
            if contexts.len() == count {
                contexts.push(Context {
                    state: PacketState::new(program),
                    packet: None,
                    length: 0,
                    step: Step::Done,
                    hash: 0,
                    candidate: None,
                });
            }
            let context = &mut contexts[count];
            count += 1;
            context.step = Step::Begin;
            std::mem::swap(&mut self.machine.state, &mut context.state);
            self.machine.state.requests = Default::default();
            self.enter(program, port, &mut packet);
            context.length = packet.len() as u64;
            self.parse_and_verify::<false>(program, &mut packet);
            context.packet = Some(packet);
            self.advance(program, context);
            std::mem::swap(&mut self.machine.state, &mut context.state);
        }
        let contexts_now = &mut contexts[..count];
        while contexts_now.iter().any(|c| c.step != Step::Done) {
            for context in contexts_now.iter_mut().filter(|c| c.step != Step::Done) {
                std::mem::swap(&mut self.machine.state, &mut context.state);
                self.advance(program, context);
                std::mem::swap(&mut self.machine.state, &mut context.state);
            }
        }
        for context in contexts_now {
            std::mem::swap(&mut self.machine.state, &mut context.state);
            self.passes = 0;
            if let Some(packet) = context.packet.take() {
                self.after_ingress::<false>(program, packet, context.length);
                self.drain::<false>(program);
            }
            std::mem::swap(&mut self.machine.state, &mut context.state);
        }
        self.contexts = contexts;
    }

    /// As far as a packet gets without waiting for memory.
    fn advance(&mut self, program: &Program, context: &mut Context) {
        let Some(packet) = &mut context.packet else {
            return;
        };
        let mut reached = match context.step {
            Step::Done => return,
            Step::Begin => {
                self.machine.begin();
                self.machine
                    .execute(program, program.code.ingress_start, Call::NONE, packet)
            }
            Step::Index(number) => {
                let table = &self.tables[number as usize];
                context.candidate = table.candidate(context.hash);
                if let Some(row) = context.candidate {
                    table.prefetch_row(row);
                }
                context.step = Step::Row(number);
                return;
            }
            Step::Row(number) => {
                let table = &self.tables[number as usize];
                let key = &self.machine.state.frame.key[..table.layout.key];
                let found = context.candidate.and_then(|row| {
                    if table.has_key(row, key) {
                        Some(row)
                    } else {
                        table.lookup_hashed(context.hash, key)
                    }
                });
                self.prefetch_cells(program, number, found);
                self.act(program, number as usize, found, packet)
            }
        };
        while let Some(number) = reached {
            let table = &self.tables[number as usize];
            if table.is_far() {
                context.hash = table.hash(&self.machine.state.frame.key[..table.layout.key]);
                table.prefetch_index(context.hash);
                context.step = Step::Index(number);
                return;
            }
            let found = self.look_up(program, number as usize);
            reached = self.act(program, number as usize, found, packet);
        }
        self.machine.settle(packet);
        context.step = Step::Done;
    }

    /// Asks for the counters and meters that an entry names.
    fn prefetch_cells(&self, program: &Program, table: u32, row: Option<u32>) {
        let (application, table) = (&program.code.tables[table as usize], &self.tables[table as usize]);
        let Some(row) = row.filter(|_| application.names_cells) else {
            return;
        };
        let Control::Action(position) = table.control(row) else {
            return;
        };
        let action = application.hit.actions[position as usize].action as usize;
        let arguments = table.arguments(row);
        for (argument, cell) in &program.actions[action].ahead {
            let index = argument.load(arguments) as usize;
            match cell {
                Cell::Counter(counter) => {
                    if let Some(cell) = self.machine.counters[*counter as usize].get(index) {
                        prefetch(cell);
                    }
                }
                Cell::Meter(meter) => {
                    if let Some(cell) = self.machine.meters[*meter as usize].get(index) {
                        prefetch(&cell[0]);
                        prefetch(&cell[7]);
                    }
                }
            }
        }
    }
}
