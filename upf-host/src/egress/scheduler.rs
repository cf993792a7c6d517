//! Owns the eight queues of a port at one lcore: who waits, how many may, and whose turn it is. The rules are in
//! [`crate::egress`].

use super::{Class, Marking, Profile, wire_bytes};
use crate::counters::{DropReason, LcoreCounters, QueueCounters};
use crate::packet::Packet;
use std::collections::VecDeque;
use std::sync::Arc;

/// Priority queues of a port.
pub const QUEUES: usize = 8;
/// Places that packets of our own have in a full queue.
const OWN_PLACES: usize = upf_config::Egress::OWN_PACKETS as usize;

/// A packet that waits.
struct Held<P> {
    packet: P,
    wire_bytes: u32,
    since_ns: u64,
    marking: Option<Marking>,
}

/// One queue. Its ring is as long as its limit from the start, and never grows.
struct Queue<P> {
    ring: VecDeque<Held<P>>,
    /// On the wire.
    bytes: u64,
    /// What it may still send before the next one's turn, if it is a weighted one.
    deficit: u64,
}

/// The queues of a port at one lcore.
pub struct Scheduler<P> {
    queues: [Queue<P>; QUEUES],
    profile: Arc<Profile>,
    counters: Arc<QueueCounters>,
    /// Bit `i`: queue `i` has packets.
    occupied: u8,
    held: usize,
    /// The weighted queue whose turn it is.
    turn: usize,
    /// It has got its quantum for this turn.
    granted: bool,
}

impl<P: Packet> Scheduler<P> {
    /// Empty; all memory that it will ever use is taken here.
    pub fn new(profile: Arc<Profile>, counters: Arc<QueueCounters>) -> Self {
        let queue = |_| Queue {
            ring: VecDeque::with_capacity(profile.packets + OWN_PLACES),
            bytes: 0,
            deficit: 0,
        };
        Self {
            queues: std::array::from_fn(queue),
            profile,
            counters,
            occupied: 0,
            held: 0,
            turn: 0,
            granted: false,
        }
    }

    /// Packets that wait.
    #[inline]
    pub fn held(&self) -> usize {
        self.held
    }

    /// A packet comes: it is given back if it need not wait. `behind`: others are on their way out.
    #[inline]
    pub fn admit(&mut self, packet: P, class: Class, behind: bool, now_ns: u64, counters: &LcoreCounters) -> Option<P> {
        if self.held() == 0 && !behind && self.pass(packet.bytes().len(), class, now_ns) {
            return Some(packet);
        }
        if let Err(packet) = self.enqueue(packet, class, now_ns) {
            counters.dropped(DropReason::QueueFull, packet.bytes().len());
        }
        None
    }

    /// A packet that need not wait: it goes if the rate lets it. Only where nothing is [held](Self::held).
    #[inline]
    pub fn pass(&self, frame_bytes: usize, class: Class, now_ns: u64) -> bool {
        let passes = self.profile.take(now_ns, wire_bytes(frame_bytes));
        if passes {
            self.counters.sent(class.queue.into(), frame_bytes);
        }
        passes
    }

    /// Put a packet behind the others of its queue, or have it back, counted: the queue is full.
    ///
    /// # Errors
    /// The packet.
    pub fn enqueue(&mut self, packet: P, class: Class, now_ns: u64) -> Result<(), P> {
        let number = usize::from(class.queue) % QUEUES;
        let queue = &mut self.queues[number];
        let frame_bytes = packet.bytes().len();
        let wire_bytes = wire_bytes(frame_bytes);
        let bytes = queue.bytes + u64::from(wire_bytes);
        let room = if class.own {
            queue.ring.len() < self.profile.packets + OWN_PLACES
        } else {
            queue.ring.len() < self.profile.packets && bytes <= self.profile.bytes
        };
        if !room {
            self.counters.dropped(number, frame_bytes);
            return Err(packet);
        }
        queue.ring.push_back(Held {
            packet,
            wire_bytes,
            since_ns: now_ns,
            marking: class.marking,
        });
        queue.bytes = bytes;
        self.counters.backlog(number, bytes);
        self.occupied |= 1 << number;
        self.held += 1;
        Ok(())
    }

    /// The packet whose turn it is, if the rate lets it go.
    pub fn dequeue(&mut self, now_ns: u64) -> Option<(P, u8)> {
        let number = self.strict().or_else(|| self.weighted())?;
        let queue = &mut self.queues[number];
        let wire_bytes = queue.ring.front()?.wire_bytes;
        if !self.profile.take(now_ns, wire_bytes) {
            return None;
        }
        let Held {
            mut packet,
            since_ns,
            marking,
            ..
        } = queue.ring.pop_front()?;
        queue.bytes -= u64::from(wire_bytes);
        queue.deficit = queue.deficit.saturating_sub(wire_bytes.into());
        if queue.ring.is_empty() {
            queue.deficit = 0; // who has nothing to send saves nothing up
            self.occupied &= !(1 << number);
        }
        self.held -= 1;
        let late = now_ns.saturating_sub(since_ns) > self.profile.mark_after_ns;
        if late && marking.is_some_and(|marking| marking.mark(packet.bytes_mut())) {
            self.counters.marked(number);
        }
        self.counters.sent(number, packet.bytes().len());
        Some((packet, number as u8))
    }

    /// When the next packet may leave; none: none waits.
    pub fn next_departure(&self, now_ns: u64) -> Option<u64> {
        (self.held > 0).then(|| self.profile.ready_at(now_ns))
    }

    /// The highest strict queue that has packets.
    #[inline]
    fn strict(&self) -> Option<usize> {
        let strict = self.occupied & self.profile.strict;
        strict.checked_ilog2().map(|number| number as usize)
    }

    /// The weighted queue whose turn it is. A turn ends when what is left of the deficit is less than the next packet.
    fn weighted(&mut self) -> Option<usize> {
        let active = self.occupied & !self.profile.strict;
        if active == 0 {
            return None;
        }
        loop {
            if active & 1 << self.turn != 0 {
                let queue = &mut self.queues[self.turn];
                if !self.granted {
                    queue.deficit += self.profile.quanta[self.turn];
                    self.granted = true;
                }
                if queue
                    .ring
                    .front()
                    .is_some_and(|next| u64::from(next.wire_bytes) <= queue.deficit)
                {
                    return Some(self.turn);
                }
            }
            self.turn = (self.turn + 1) % QUEUES;
            self.granted = false;
        }
    }
}
