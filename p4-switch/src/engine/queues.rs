//! The traffic manager: per port, priority queues with an optional rate and depth.
//!
//! As in BMv2, a queue may have a rate in packets per second; of the queues of a port whose turn has come the highest
//! number goes first. Besides, which BMv2 has not, a port may have a rate on the wire, as its line would have: then the
//! queues share it, strictly by priority, and a frame waits for the one that is leaving. A port without any rate never
//! holds a packet back: the engine then skips the queue.

use std::collections::{BTreeMap, VecDeque};

use super::Waiting;
use crate::switch::{PortRate, SwitchConfig};

/// A queue of a port.
#[derive(Debug)]
struct Queue {
    packets: VecDeque<Waiting>,
    /// Packets per second; 0: no limit.
    rate: u64,
    depth: usize,
    /// When the next packet may go.
    ready_ns: u64,
}

/// A port's rate on the wire, in the form of virtual scheduling (ITU-T I.371): frames may go while what was sent is no
/// more than the burst ahead of the time that it takes.
#[derive(Debug)]
struct Line {
    rate: PortRate,
    /// When all that was sent is through, picoseconds.
    through_ps: u128,
}

impl Line {
    fn is_free(&self, now_ns: u64) -> bool {
        self.through_ps <= (u128::from(now_ns) + u128::from(self.rate.burst_ns)) * 1_000
    }

    fn sent(&mut self, frame_bytes: usize, now_ns: u64) {
        let bits = (frame_bytes.max(SHORTEST) + WIRE_OVERHEAD) as u128 * 8;
        let takes_ps = bits * 1_000_000_000_000 / u128::from(self.rate.bits_per_second.max(1));
        self.through_ps = self.through_ps.max(u128::from(now_ns) * 1_000) + takes_ps;
    }
}

/// Bytes that the wire needs besides a frame: preamble and start 8, frame check sequence 4, gap 12.
const WIRE_OVERHEAD: usize = 24;
/// Shorter frames are padded to this.
const SHORTEST: usize = 60;

/// All queues of the switch.
#[derive(Debug)]
pub(crate) struct Queues {
    ports: BTreeMap<u32, Vec<Queue>>,
    per_port: usize,
    /// What ports that nobody has spoken of get, per queue: rate and depth.
    defaults: Vec<(u64, usize)>,
    /// Ports with a rate on the wire.
    lines: BTreeMap<u32, Line>,
    /// Some queue or port has a rate.
    limited: bool,
    waiting: usize,
}

impl Queues {
    pub(crate) fn new(config: &SwitchConfig) -> Self {
        let per_port = config.priority_queues.max(1);
        let defaults = vec![(0, config.queue_depth); per_port];
        let line = |(port, rate): (&u32, &PortRate)| {
            let through_ps = 0;
            (
                *port,
                Line {
                    rate: *rate,
                    through_ps,
                },
            )
        };
        Self {
            ports: BTreeMap::new(),
            per_port,
            defaults,
            limited: !config.port_rates.is_empty(),
            lines: config.port_rates.iter().map(line).collect(),
            waiting: 0,
        }
    }

    /// Whether a packet to this port goes at once.
    #[inline]
    pub(crate) fn immediate(&self, port: u32) -> bool {
        !self.limited || self.is_immediate(port)
    }

    fn is_immediate(&self, port: u32) -> bool {
        if self.lines.contains_key(&port) {
            return false;
        }
        match self.ports.get(&port) {
            Some(queues) => queues.iter().all(|q| q.rate == 0 && q.packets.is_empty()),
            None => self.defaults.iter().all(|(rate, _)| *rate == 0),
        }
    }

    fn port(&mut self, port: u32) -> &mut Vec<Queue> {
        let defaults = &self.defaults;
        self.ports.entry(port).or_insert_with(|| {
            let queue = |(rate, depth): &(u64, usize)| Queue {
                packets: VecDeque::new(),
                rate: *rate,
                depth: *depth,
                ready_ns: 0,
            };
            defaults.iter().map(queue).collect()
        })
    }

    /// Packets in a queue.
    pub(crate) fn depth_of(&self, port: u32, queue: usize) -> usize {
        self.ports
            .get(&port)
            .and_then(|q| q.get(queue))
            .map_or(0, |q| q.packets.len())
    }

    /// Adds a packet; given back if the queue is full.
    pub(crate) fn push(&mut self, port: u32, queue: usize, waiting: Waiting) -> Result<(), Waiting> {
        let Some(queue) = self.port(port).get_mut(queue) else {
            return Err(waiting);
        };
        if queue.packets.len() >= queue.depth {
            return Err(waiting);
        }
        queue.packets.push_back(waiting);
        self.waiting += 1;
        Ok(())
    }

    /// The next packet whose time has come.
    pub(crate) fn pop(&mut self, now_ns: u64) -> Option<(u32, usize, Waiting)> {
        if self.waiting == 0 {
            return None;
        }
        for (port, queues) in &mut self.ports {
            if self.lines.get(port).is_some_and(|line| !line.is_free(now_ns)) {
                continue;
            }
            let ready = |q: &Queue| !q.packets.is_empty() && (q.rate == 0 || q.ready_ns <= now_ns);
            let best = queues.iter_mut().enumerate().rev().find(|(_, q)| ready(q));
            if let Some((number, queue)) = best {
                let packet = queue.packets.pop_front()?;
                if let Some(gap) = 1_000_000_000u64.checked_div(queue.rate) {
                    queue.ready_ns = queue.ready_ns.max(packet.packet.enqueued_ns) + gap;
                }
                self.waiting -= 1;
                return Some((*port, number, packet));
            }
        }
        None
    }

    /// A packet that was taken with [`Self::pop`] has left as a frame of so many bytes.
    pub(crate) fn sent(&mut self, port: u32, frame_bytes: usize, now_ns: u64) {
        if let Some(line) = self.lines.get_mut(&port) {
            line.sent(frame_bytes, now_ns);
        }
    }

    /// Packets that wait in any queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sets a rate; absent port or queue: all.
    pub(crate) fn set_rate(&mut self, port: Option<u32>, queue: Option<usize>, rate: u64) {
        self.change(port, queue, |q| q.rate = rate, |d| d.0 = rate);
        self.limited = !self.lines.is_empty()
            || self.defaults.iter().any(|(rate, _)| *rate > 0)
            || self.waiting > 0
            || self.ports.values().flatten().any(|q| q.rate > 0);
    }

    /// Sets a depth; absent port or queue: all.
    pub(crate) fn set_depth(&mut self, port: Option<u32>, queue: Option<usize>, depth: usize) {
        self.change(port, queue, |q| q.depth = depth, |d| d.1 = depth);
    }

    fn change(
        &mut self,
        port: Option<u32>,
        queue: Option<usize>,
        mut change: impl FnMut(&mut Queue),
        mut default: impl FnMut(&mut (u64, usize)),
    ) {
        let chosen = |i: usize| queue.is_none_or(|q| q == i);
        match port {
            Some(port) => self
                .port(port)
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| chosen(*i))
                .for_each(|(_, q)| change(q)),
            None => {
                self.defaults
                    .iter_mut()
                    .enumerate()
                    .filter(|(i, _)| chosen(*i))
                    .for_each(|(_, d)| default(d));
                for queues in self.ports.values_mut() {
                    queues
                        .iter_mut()
                        .enumerate()
                        .filter(|(i, _)| chosen(*i))
                        .for_each(|(_, q)| change(q));
                }
            }
        }
        debug_assert!(self.defaults.len() == self.per_port);
    }
}
