//! Several packets in ingress at once, so that they wait for memory together.
//!
//! With a hundred thousand sessions every table look-up misses the caches twice: for the line of the index and for the
//! row. A packet that comes to a large exact table asks for the index line and lets the next packet of the group go on;
//! when its turn comes again it asks for the row; then it acts. Each packet has a packet state of its own, and what
//! follows ingress is done in the order in which packets came. Programs in which the order within ingress could be seen
//! (registers) take one packet at a time.

use super::Engine;
use super::machine::Requests;
use super::packet::Packet;
use super::pipeline::{act, apply, build_key};
use crate::program::Program;
use crate::program::table::END;
use crate::tables::prefetch::prefetch;

/// Packets that are in ingress together: their states fit into the first-level cache.
pub(super) const GROUP: usize = 8;

/// Tables with fewer entries are in the caches anyway.
const LARGE: usize = 512;

/// Key words that are kept while a look-up waits.
const KEY: usize = 8;

/// What a packet does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Executes code from here.
    Run(u32),
    /// Looks for its row in the index, whose line was asked for.
    Index {
        table: u32,
        key: [u64; KEY],
    },
    /// Acts on the row, which was asked for.
    Row {
        table: u32,
        key: [u64; KEY],
    },
    Done,
}

/// A packet in ingress.
#[derive(Debug)]
pub(super) struct Context {
    phv: Vec<u8>,
    packet: Packet,
    requests: Requests,
    length: u64,
    step: Step,
}

impl Engine {
    /// Takes packets through ingress together, and then one after the other through what follows.
    pub(super) fn receive_group(&mut self, program: &Program, packets: impl Iterator<Item = (u32, Packet)>) {
        let mut contexts = std::mem::take(&mut self.contexts);
        let mut count = 0;
        for (port, mut packet) in packets {
            if contexts.len() == count {
                contexts.push(Context {
                    phv: program.layout.template.clone(),
                    packet: Packet::default(),
                    requests: Requests::default(),
                    length: 0,
                    step: Step::Done,
                });
            }
            let context = &mut contexts[count];
            count += 1;
            std::mem::swap(&mut self.machine.phv, &mut context.phv);
            self.machine.requests = Requests::default();
            self.enter(program, port, &mut packet);
            context.length = packet.len() as u64;
            self.parse_and_verify::<false>(program, &mut packet);
            std::mem::swap(&mut self.machine.phv, &mut context.phv);
            context.requests = self.machine.requests;
            context.packet = packet;
            context.step = Step::Run(program.code.ingress_start);
        }
        let mut running = count;
        while running > 0 {
            for context in contexts[..count].iter_mut().filter(|c| !matches!(c.step, Step::Done)) {
                std::mem::swap(&mut self.machine.phv, &mut context.phv);
                self.machine.requests = context.requests;
                self.advance(program, context);
                context.requests = self.machine.requests;
                std::mem::swap(&mut self.machine.phv, &mut context.phv);
                running -= usize::from(matches!(context.step, Step::Done));
            }
        }
        for context in &mut contexts[..count] {
            std::mem::swap(&mut self.machine.phv, &mut context.phv);
            self.machine.requests = context.requests;
            self.passes = 0;
            self.after_ingress::<false>(program, std::mem::take(&mut context.packet), context.length);
            self.drain::<false>(program);
            std::mem::swap(&mut self.machine.phv, &mut context.phv);
        }
        self.contexts = contexts;
    }

    /// As far as a packet gets without waiting for memory.
    fn advance(&mut self, program: &Program, context: &mut Context) {
        let packet = &mut context.packet;
        let mut step = context.step;
        loop {
            step = match step {
                Step::Done => break,
                Step::Run(at) => match self.machine.execute(program, at, &[], &[], packet) {
                    None => Step::Done,
                    Some(number) => {
                        let table = &mut self.tables[number as usize];
                        let words = table.layout.key;
                        if table.is_exact() && table.count >= LARGE && words <= KEY {
                            let mut key = [0; KEY];
                            let parts = &program.tables[number as usize].parts;
                            build_key(parts, &self.machine.phv, &mut key[..words]);
                            if let Some(slot) = table.index_slot(&key[..words]) {
                                prefetch(slot);
                            }
                            context.step = Step::Index { table: number, key };
                            return;
                        }
                        let (profiles, machine) = (&mut self.profiles, &mut self.machine);
                        let next =
                            apply::<false>(program, number as usize, table, profiles, machine, packet, &mut None);
                        self.next(program, next)
                    }
                },
                Step::Index { table: number, key } => {
                    let table = &self.tables[number as usize];
                    if let Some(row) = table.candidate(&key[..table.layout.key]) {
                        table.row(row).chunks(8).for_each(|line| prefetch(&line[0]));
                    }
                    context.step = Step::Row { table: number, key };
                    return;
                }
                Step::Row { table: number, key } => {
                    let table = &mut self.tables[number as usize];
                    let found = table.lookup(&key[..table.layout.key]);
                    let (profiles, machine) = (&mut self.profiles, &mut self.machine);
                    let next = act::<false>(
                        program,
                        number as usize,
                        table,
                        found,
                        profiles,
                        machine,
                        packet,
                        &mut None,
                    );
                    self.next(program, next)
                }
            };
        }
        context.step = step;
    }

    /// Where a packet goes on after a table.
    fn next(&self, program: &Program, node: u32) -> Step {
        if node == END || self.machine.requests.exit || self.machine.requests.failed {
            return Step::Done;
        }
        Step::Run(program.code.ingress[node as usize])
    }
}
