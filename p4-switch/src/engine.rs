//! The engine: a program's state, and the way of a packet through it.
//!
//! A packet's way, downwards: [`Engine::receive`] → [`parse`] → verify checksums → ingress ([`pipeline`]) → clone,
//! digest, resubmit, multicast, unicast or drop ([`forward`]) → queue ([`queues`]) → egress → update checksums →
//! [`deparse`] → out. Everything a packet needs is in buffers that the engine keeps; nothing is allocated for a packet
//! that neither is copied nor waits.

pub(crate) mod control;
pub(crate) mod deparse;
pub(crate) mod digest;
mod execute;
pub(crate) mod forward;
mod group;
pub(crate) mod machine;
pub(crate) mod packet;
pub(crate) mod parse;
pub(crate) mod pipeline;
pub(crate) mod queues;
pub(crate) mod read;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::control::{CloneSession, Event, Replica};
use crate::program::Program;
use crate::switch::SwitchConfig;
use crate::tables::MatchTable;
use crate::tables::matching::Matcher;
use crate::tables::profile::ActionProfile;
use crate::trace::Trace;
use digest::Digests;
use group::{Context, GROUP};
use machine::Machine;
use packet::{Packet, Pool};
use queues::Queues;

/// What v1model calls `instance_type`.
pub(crate) mod instance {
    pub(crate) const NORMAL: u64 = 0;
    pub(crate) const INGRESS_CLONE: u64 = 1;
    pub(crate) const EGRESS_CLONE: u64 = 2;
    pub(crate) const RECIRCULATED: u64 = 4;
    pub(crate) const REPLICATION: u64 = 5;
    pub(crate) const RESUBMITTED: u64 = 6;
}

/// Passes (ingress or egress) that one received packet and its copies may take. A program that clones or recirculates
/// without end loses the packet then; BMv2 would go on for ever.
const MAX_PASSES: u32 = 4096;

/// Counts of what the switch itself did with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets received.
    pub received: u64,
    /// Packets sent, to the CPU port too.
    pub sent: u64,
    /// Dropped by the program, in ingress or egress.
    pub dropped: u64,
    /// Dropped because a queue was full, or the priority beyond the queues there are.
    pub queue_full: u64,
    /// Dropped after too many passes.
    pub looped: u64,
    /// Dropped because an `assert` or `assume` did not hold.
    pub assertion_failed: u64,
    /// Packets whose parser ended with an error.
    pub parser_errors: u64,
}

/// A copy of a packet that waits: the packet state is saved beside it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) packet: Packet,
    pub(crate) phv: Vec<u8>,
    pub(crate) stage: Stage,
}

/// What comes next for a packet that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Ingress,
    Egress { port: u32 },
}

/// A program at work.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) program: Arc<Program>,
    pub(crate) config: SwitchConfig,
    pub(crate) tables: Vec<MatchTable>,
    pub(crate) profiles: Vec<ActionProfile>,
    pub(crate) machine: Machine,
    pub(crate) multicast: HashMap<u32, Vec<Replica>>,
    pub(crate) clones: HashMap<u32, CloneSession>,
    pub(crate) digests: Digests,
    pub(crate) queues: Queues,
    pub(crate) pending: VecDeque<Waiting>,
    pub(crate) pool: Pool,
    /// Packets that are in ingress together.
    contexts: Vec<Context>,
    /// Packets that have left, with their ports.
    pub(crate) out: Vec<(u32, Packet)>,
    pub(crate) events: Vec<Event>,
    pub(crate) statistics: Statistics,
    pub(crate) passes: u32,
    pub(crate) trace: Option<Box<Trace>>,
    /// When idle timeouts are looked at next.
    pub(crate) next_sweep_ns: u64,
}

impl Engine {
    pub(crate) fn new(program: Arc<Program>, config: SwitchConfig, seed: u64) -> Self {
        let tables = program
            .tables
            .iter()
            .enumerate()
            .map(|(i, table)| {
                let words = |a: &crate::program::table::TableAction| program.actions[a.action].packing.words;
                let arguments = table.actions.iter().map(words).max().unwrap_or(0);
                MatchTable::new(
                    table,
                    arguments,
                    &Matcher::of(table),
                    crate::externs::hash::mix(seed ^ i as u64),
                )
            })
            .collect();
        let mut engine = Self {
            tables,
            profiles: program.profiles.iter().map(|_| ActionProfile::default()).collect(),
            machine: Machine::new(&program, seed),
            multicast: HashMap::new(),
            clones: HashMap::new(),
            digests: Digests::new(program.learn_lists.len()),
            queues: Queues::new(&config),
            pending: VecDeque::new(),
            pool: Pool::default(),
            contexts: Vec::new(),
            out: Vec::new(),
            events: Vec::new(),
            statistics: Statistics::default(),
            passes: 0,
            trace: None,
            next_sweep_ns: 0,
            config,
            program,
        };
        engine.install_constants();
        engine
    }

    /// A packet from a port; what comes of it is in [`Self::out`] and [`Self::events`].
    pub(crate) fn receive(&mut self, port: u32, packet: Packet) {
        let program = Arc::clone(&self.program);
        if self.trace.is_some() {
            self.receive_with::<true>(&program, port, packet);
        } else {
            self.receive_with::<false>(&program, port, packet);
        }
    }

    /// Packets from ports: several at a time where their order within ingress cannot be seen.
    pub(crate) fn receive_burst(&mut self, burst: &mut Vec<(u32, Packet)>) {
        let program = Arc::clone(&self.program);
        if self.trace.is_some() || program.ordered || self.machine.log.is_some() {
            for (port, packet) in burst.drain(..) {
                self.receive(port, packet);
            }
            return;
        }
        let mut rest = burst.drain(..);
        while rest.len() > 0 {
            self.receive_group(&program, rest.by_ref().take(GROUP));
        }
    }

    fn receive_with<const TRACE: bool>(&mut self, program: &Program, port: u32, mut packet: Packet) {
        self.enter(program, port, &mut packet);
        if TRACE && let Some(trace) = &mut self.trace {
            trace.received(port, packet.bytes());
        }
        self.ingress::<TRACE>(program, packet);
        self.drain::<TRACE>(program);
    }

    /// The packet state of a packet that has just come.
    pub(crate) fn enter(&mut self, program: &Program, port: u32, packet: &mut Packet) {
        self.statistics.received += 1;
        self.passes = 0;
        let length = packet.len() as u64;
        packet.ingress_length = length as u32;
        packet.length = length as i64;
        packet.ingress_port = port;
        let machine = &mut self.machine;
        machine.state.phv.copy_from_slice(&program.layout.template);
        let standard = &program.standard;
        machine.set(standard.ingress_port, port as u64);
        machine.set(standard.packet_length, length);
        machine.set(standard.ingress_timestamp, machine.now_ns / 1000);
    }

    /// Everything that waits for nothing but its turn.
    pub(crate) fn drain<const TRACE: bool>(&mut self, program: &Program) {
        while let Some(Waiting { packet, phv, stage }) = self.pending.pop_front() {
            self.passes += 1;
            if self.passes > MAX_PASSES {
                self.statistics.looped += 1;
                self.pool.put(packet);
                self.pool.put_state(phv);
                continue;
            }
            self.machine.state.phv.copy_from_slice(&phv);
            self.pool.put_state(phv);
            match stage {
                Stage::Ingress => self.ingress::<TRACE>(program, packet),
                Stage::Egress { port } => self.egress::<TRACE>(program, port, packet),
            }
        }
    }

    /// Packets whose time in a rate-limited queue is over, timeouts of digests and entries. Call it after each burst.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.machine.now_ns = now_ns;
        let program = Arc::clone(&self.program);
        while let Some((port, queue, waiting)) = self.queues.pop(now_ns) {
            self.passes = 0;
            let Waiting { packet, phv, .. } = waiting;
            self.machine.state.phv.copy_from_slice(&phv);
            self.pool.put_state(phv);
            let depth = self.queues.depth_of(port, queue);
            self.machine.set(program.standard.deq_qdepth, depth as u64);
            self.machine.set(program.standard.qid, queue as u64);
            let before = self.out.len();
            if self.trace.is_some() {
                self.egress::<true>(&program, port, packet);
                self.drain::<true>(&program);
            } else {
                self.egress::<false>(&program, port, packet);
                self.drain::<false>(&program);
            }
            // How long a frame is shows when it has passed egress.
            for (_, frame) in self.out[before..].iter().filter(|(to, _)| *to == port) {
                self.queues.sent(port, frame.len(), now_ns);
            }
        }
        self.digests.tick(now_ns, &mut self.events);
        if now_ns >= self.next_sweep_ns {
            self.next_sweep_ns = now_ns + 10_000_000;
            self.sweep_timeouts(now_ns);
        }
    }
}
