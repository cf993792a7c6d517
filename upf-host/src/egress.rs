//! How frames leave a port: at once while nothing is in their way, by priority when the port is busy.
//!
//! ```text
//!   no egress configured    send ─▶ staged ─▶ port                       full: the higher queues go first, the rest is dropped
//!   egress configured       send ─▶ staged ─▶ port                       nothing waits, the rate is not reached
//!                             └──▶ queue 0..=7 ─▶ turn, rate ─▶ staged ─▶ port
//! ```
//! A [`Scheduler`] has eight queues for a port and lcore, the higher the sooner:
//!
//! * **Strict** queues, the upper ones: a packet leaves only when no higher queue has any.
//! * **Weighted** queues, the lower ones, share what the strict ones leave by *deficit round robin* (Shreedhar and
//!   Varghese, SIGCOMM 1995). In its turn a queue gets a quantum of bytes, its weight times the longest frame, and sends
//!   until that is used up; what is left over counts next time, unless the queue has run empty. As a quantum is never
//!   less than a frame, every turn sends something, and whose turn it is is found in constant time. Two queues that both
//!   have packets all the time get bytes as their weights are, to within a quantum.
//! * A **rate** on the wire ([`Shaper`]) where the line is faster than what comes behind it. All lcores share it.
//!   Without it the bottleneck is the device's ring, a FIFO of hundreds of frames in which priorities no longer count.
//! * **Limits**: packets in each queue (they are mbufs, which the pool must have) and, with a rate, how long a full queue
//!   takes to send. What comes to a full queue is dropped (`queue_full`). Packets of our own have some places more.
//! * **Marks** for L4S: a packet whose PDR asks for it, and whose ends know ECN, leaves with Congestion Experienced if it
//!   has waited longer than a threshold. That is judged when it leaves: by then its time in the queue is known whatever
//!   the queues above it took, which at its arrival could only be guessed.
//!
//! Within a queue order is kept. A flow that is lifted to a higher queue overtakes what it has in the lower one, once: ADR 9
//! says what keeping its order would cost.
//!
//! Costs, by `examples/egress_cost.rs` on a 2-core virtual machine, packet memory and device left out: 3 ns a packet
//! without queues, 4 ns with queues in which nothing waits, 5 ns with a rate too, 17 ns if every packet waits. No lock, no
//! allocation, no system call. One thread uses a scheduler; the rate may be shared.

mod marking;
mod scheduler;
mod shaper;

use crate::counters::{DropReason, LcoreCounters, QueueCounters};
use crate::packet::{BURST, Packet};
use arrayvec::ArrayVec;
pub use marking::Marking;
pub use scheduler::{QUEUES, Scheduler};
pub use shaper::{Shaper, wire_bytes};
use std::sync::Arc;
use upf_model::Scheduling;

/// Attempts to hand a burst to a port without queues before what is left is dropped.
const TX_ATTEMPTS: usize = 8;
/// A device that was busy is asked again after this long: it has frames for longer, and a link that is down for ever does
/// not keep a CPU busy.
const DEVICE_RETRY_NS: u64 = 20_000;
/// Ethernet header and VLAN tag.
const ETHERNET: usize = 18;

/// How a frame waits for its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Priority queue, 0..=7; the higher, the sooner.
    pub queue: u8,
    /// Sent by the UPF itself, to keep its links and tunnels alive.
    pub own: bool,
    /// Congestion may be marked in the user's packet, which is here.
    pub marking: Option<Marking>,
}

impl Class {
    /// Of what keeps links and tunnels alive: users never starve it.
    pub const OWN: Self = Self {
        queue: Scheduling::HIGHEST,
        own: true,
        marking: None,
    };

    /// Of a packet in this queue that is not marked.
    pub const fn queue(queue: u8) -> Self {
        Self {
            queue,
            own: false,
            marking: None,
        }
    }
}

/// A port's egress as configured, in the scheduler's units. Its lcores share it.
#[derive(Debug)]
pub struct Profile {
    rate: Option<Shaper>,
    /// Bit `i`: queue `i` is strict.
    strict: u8,
    /// Bytes a turn, of the weighted queues.
    quanta: [u64; QUEUES],
    packets: usize,
    bytes: u64,
    mark_after_ns: u64,
}

impl Profile {
    /// Of a port with this MTU.
    pub fn new(egress: &upf_config::Egress, mtu: u16) -> Self {
        let longest = u64::from(wire_bytes(usize::from(mtu) + ETHERNET));
        let weights = &egress.weights[..egress.weights.len().min(QUEUES)];
        let least = weights.iter().copied().min().unwrap_or(1).max(1);
        let mut quanta = [0; QUEUES];
        for (quantum, &weight) in quanta.iter_mut().zip(weights) {
            *quantum = (longest * u64::from(weight) / u64::from(least)).max(longest);
        }
        let bytes_per_ms = egress.rate_mbps.map(|mbps| u64::from(mbps) * 125);
        let bytes = bytes_per_ms.map_or(u64::MAX, |bytes| (bytes * u64::from(egress.queue_ms)).max(2 * longest));
        Self {
            rate: egress
                .rate_mbps
                .map(|mbps| Shaper::new(u64::from(mbps) * 1_000_000, u64::from(egress.burst_us) * 1_000)),
            strict: !((1u16 << weights.len()) - 1) as u8,
            quanta,
            packets: egress.queue_packets as usize,
            bytes,
            mark_after_ns: u64::from(egress.ecn_threshold_us) * 1_000,
        }
    }

    #[inline]
    fn take(&self, now_ns: u64, wire_bytes: u32) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.take(now_ns, wire_bytes))
    }

    fn ready_at(&self, now_ns: u64) -> u64 {
        self.rate.as_ref().map_or(now_ns, |rate| rate.ready_at(now_ns))
    }
}

/// Where frames leave: a transmit queue of a device.
pub trait Line<P> {
    /// Take frames, from the front; those that do not fit stay, in their order.
    fn transmit(&mut self, frames: &mut ArrayVec<P, BURST>);
}

/// One port's way out at one lcore.
pub struct PortOutlet<P, L> {
    line: L,
    staged: ArrayVec<P, BURST>,
    /// Their queues.
    queues: ArrayVec<u8, BURST>,
    scheduler: Option<Box<Scheduler<P>>>,
}

impl<P: Packet, L: Line<P>> PortOutlet<P, L> {
    /// Without queues.
    pub fn new(line: L) -> Self {
        Self {
            line,
            staged: ArrayVec::new(),
            queues: ArrayVec::new(),
            scheduler: None,
        }
    }

    /// With queues.
    #[must_use]
    pub fn scheduled(self, profile: Arc<Profile>, counters: Arc<QueueCounters>) -> Self {
        Self {
            scheduler: Some(Box::new(Scheduler::new(profile, counters))),
            ..self
        }
    }

    /// Where frames leave.
    pub fn line(&mut self) -> &mut L {
        &mut self.line
    }

    /// Packets held back by queues, staged ones not counted.
    pub fn held(&self) -> usize {
        self.scheduler.as_ref().map_or(0, |s| s.held())
    }

    /// Send a frame, now or in its turn.
    #[inline(always)]
    pub fn send(&mut self, packet: P, class: Class, now_ns: u64, counters: &LcoreCounters) {
        let packet = match &mut self.scheduler {
            None => Some(packet),
            Some(scheduler) => scheduler.admit(packet, class, self.staged.is_full(), now_ns, counters),
        };
        if let Some(packet) = packet {
            self.staged.push(packet);
            self.queues.push(class.queue);
            if self.staged.is_full() {
                self.flush(now_ns, counters);
            }
        }
    }

    /// Hand over to the port what may leave now. With queues, what the port does not take stays staged; without, it is
    /// dropped after some attempts, the lowest queues first.
    pub fn flush(&mut self, now_ns: u64, counters: &LcoreCounters) {
        let Some(scheduler) = &mut self.scheduler else {
            return self.flush_or_drop(counters);
        };
        loop {
            transmit(&mut self.line, &mut self.staged, &mut self.queues);
            if !self.staged.is_empty() {
                return; // the port is busy
            }
            while let Some((packet, queue)) = (!self.staged.is_full()).then(|| scheduler.dequeue(now_ns)).flatten() {
                self.staged.push(packet);
                self.queues.push(queue);
            }
            if self.staged.is_empty() {
                return;
            }
        }
    }

    #[inline]
    fn flush_or_drop(&mut self, counters: &LcoreCounters) {
        transmit(&mut self.line, &mut self.staged, &mut self.queues);
        if !self.staged.is_empty() {
            self.insist(counters);
        }
    }

    #[cold]
    fn insist(&mut self, counters: &LcoreCounters) {
        let Self { staged, queues, .. } = self;
        // Higher queues to the front, in their order; there are at most a burst of them.
        for end in 1..staged.len() {
            for at in (1..=end).rev() {
                if queues[at - 1] >= queues[at] {
                    break;
                }
                queues.swap(at - 1, at);
                staged.swap(at - 1, at);
            }
        }
        for _ in 1..TX_ATTEMPTS {
            transmit(&mut self.line, &mut self.staged, &mut self.queues);
        }
        self.queues.clear();
        for refused in self.staged.drain(..) {
            counters.dropped(DropReason::TxFull, refused.bytes().len());
        }
    }

    /// When there is something to do again without new packets; none: nothing waits.
    pub fn next_departure(&self, now_ns: u64) -> Option<u64> {
        if !self.staged.is_empty() {
            return Some(now_ns + DEVICE_RETRY_NS);
        }
        self.scheduler.as_ref()?.next_departure(now_ns)
    }
}

/// What the line does not take stays, with its queues.
#[inline]
fn transmit<P>(line: &mut impl Line<P>, staged: &mut ArrayVec<P, BURST>, queues: &mut ArrayVec<u8, BURST>) {
    if !staged.is_empty() {
        line.transmit(staged);
        queues.drain(..queues.len() - staged.len());
    }
}
