//! The switch as its users hold it: load a program, control it, run packets through it. Thread-safe.
//!
//! All of a switch's state is behind one lock that the packet thread takes once per burst. A control call waits for
//! the end of the burst, does its work between two packets, and is done when it returns: no queues of commands, no
//! packet sees half of a batch. Whoever wants control is let in after the burst at hand.

use std::sync::Arc;

use crate::control::{BatchError, ControlError, DigestId, Entity, Event, ProgramInfo, Query, Update};
use crate::program::Program;

/// How a switch is set up, before any program.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Packets that leave through this port become [`Event::PacketIn`]; [`Switch::packet_out`] enters through it.
    pub cpu_port: Option<u32>,
    /// The value of `egress_spec` that drops.
    pub drop_port: u32,
    /// Queues per port. Queue 0 has the lowest priority.
    pub priority_queues: usize,
    /// Packets that a queue holds if nothing else is said.
    pub queue_depth: usize,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        Self {
            cpu_port: None,
            drop_port: 511,
            priority_queues: 1,
            queue_depth: 64,
        }
    }
}

/// A packet that left the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A v1model switch.
#[derive(Debug)]
pub struct Switch {}

impl Switch {
    /// A switch without a program: it drops everything.
    pub fn new(config: SwitchConfig) -> Self {
        let _ = config;
        Self {}
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &SwitchConfig {
        unimplemented!()
    }

    /// Replaces the program and forgets all state: entries, counters, groups, sessions, queued packets.
    pub fn load(&self, program: Arc<Program>) {
        let _ = program;
    }

    /// The program at work, if any. [`Program::info`] says what it offers.
    pub fn program(&self) -> Option<Arc<Program>> {
        None
    }

    /// What the program offers, if one is loaded.
    pub fn info(&self) -> Option<Arc<ProgramInfo>> {
        None
    }

    /// Applies updates one after another, each or none of it; a refused one does not stop the rest (P4Runtime's
    /// CONTINUE_ON_ERROR). Large batches let packets through in between. Results in the order of the updates.
    pub fn write(&self, updates: &[Update]) -> Vec<Result<(), ControlError>> {
        updates.iter().map(|_| Err(ControlError::NoProgram)).collect()
    }

    /// Applies all updates between two packets, or none of them (P4Runtime's DATAPLANE_ATOMIC).
    pub fn write_atomic(&self, updates: &[Update]) -> Result<(), BatchError> {
        let _ = updates;
        Err(BatchError {
            index: 0,
            error: ControlError::NoProgram,
        })
    }

    /// Calls `visit` for everything that `query` asks for, without holding the switch up: each entity is consistent,
    /// the set of them need not be while others write.
    pub fn read(&self, query: &Query, visit: &mut dyn FnMut(Entity)) -> Result<(), ControlError> {
        let _ = (query, visit);
        Err(ControlError::NoProgram)
    }

    /// Where notifications go; replaces an earlier one. Called from the packet thread without any lock held; must not
    /// block for long.
    pub fn on_event(&self, sink: impl Fn(Event) + Send + Sync + 'static) {
        let _ = sink;
    }

    /// The controller has seen this digest list; its digests may be sent again.
    pub fn acknowledge_digest(&self, digest: DigestId, list_id: u64) {
        let _ = (digest, list_id);
    }

    /// A packet from the controller: enters through the CPU port, the program's packet-out header leading it. What it
    /// becomes leaves through the ports with the next burst. Refused if there is no CPU port or the inbox is full.
    pub fn packet_out(&self, bytes: &[u8]) -> Result<(), ControlError> {
        let _ = bytes;
        Err(ControlError::NoProgram)
    }

    /// Runs one packet through and returns what comes out at once (not what waits in a rate-limited queue). For tests
    /// and tools; a packet thread uses [`ports`](crate::ports).
    pub fn inject(&self, port: u32, bytes: &[u8]) -> Vec<Output> {
        let _ = (port, bytes);
        Vec::new()
    }

    /// Rate in packets per second of a queue of a port; 0 is unlimited. Absent port or queue: all of them.
    pub fn set_queue_rate(&self, port: Option<u32>, queue: Option<usize>, packets_per_second: u64) {
        let _ = (port, queue, packets_per_second);
    }

    /// Depth in packets of a queue of a port. Absent port or queue: all of them.
    pub fn set_queue_depth(&self, port: Option<u32>, queue: Option<usize>, packets: usize) {
        let _ = (port, queue, packets);
    }
}
