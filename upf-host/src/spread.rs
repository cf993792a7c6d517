//! Owns which lcore a user's packets go to, and the rings between lcores.
//!
//! A device spreads what it receives by the headers that it knows. Of a tunnel packet these are the outer ones, and they are
//! the same for all users of a gNB: all of its uplink is one lcore's work. Where that is not wanted
//! (`host.distribution: software`), an lcore looks at the user's address of what it receives, keeps its own users' packets and
//! hands over the others':
//!
//! ```text
//!   queue 0 ─▶ lcore 0 ─┬─ its users ──────────────────────▶ pipeline of lcore 0
//!                       └─ others' ─▶ ring 0→1 ─┐
//!   queue 1 ─▶ lcore 1 ─── its users ───────────┴──────────▶ pipeline of lcore 1
//! ```
//! Uplink and downlink packets of a user meet in one lcore, which alone writes their counters, meters and buffers, and they
//! keep their order as far as they came into one queue. What is no user's packet (ARP, GTP-U signalling, what nobody can
//! read) stays where it came.
//!
//! A ring has one writer and one reader, so that nobody waits. One that is full takes no more: such packets are dropped and
//! counted by the lcore that received them, [`DropReason::LcoreFull`]. Packets wait in rings as they came; their owner parses
//! them again.
//!
//! An lcore that sleeps is woken by who hands something over to it: it says so before, and looks at its rings once more.
//!
//! Costs: a packet that stays is parsed once more (some 40 cycles, in the cache for the second time); one that is handed over
//! crosses to the other core's cache as well, in bursts. Nothing is allocated, nothing locked.

use crate::counters::{DropReason, HostEvent, LcoreCounters};
use crate::environment::{Environment, PortEnvironment};
use crate::neighbours::PortIndex;
use crate::packet::{BURST, Packet};
use crate::pipeline::parse::{Kind, UserPacket, parse_into};
use arrayvec::ArrayVec;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtrb::{Consumer, Producer, RingBuffer};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Packets that may wait in a ring, while their owner sleeps or is busy: what a port's queue takes.
const RING: usize = 4_096;

/// A packet, and where it came in.
type Handed<P> = (PortIndex, P);

/// What one lcore has of the rings.
pub struct Spread<P> {
    env: Arc<Environment>,
    counters: Arc<LcoreCounters>,
    /// To each lcore; none to itself.
    outboxes: Box<[Option<Outbox<P>>]>,
    /// From each other lcore.
    inboxes: Box<[Consumer<Handed<P>>]>,
    bell: Arc<Bell>,
    /// Whose turn it is.
    next: usize,
    /// What parsing finds.
    user: Box<UserPacket>,
}

/// A ring to another lcore, and what of this burst goes into it.
struct Outbox<P> {
    ring: Producer<Handed<P>>,
    /// Of the lcore at the other end.
    bell: Arc<Bell>,
    burst: ArrayVec<Handed<P>, BURST>,
}

/// Wakes an lcore. On a line of its own: others read it with each burst.
#[repr(align(64))]
struct Bell {
    /// It sleeps, or is about to.
    asleep: AtomicBool,
    event: EventFd,
}

impl<P: Packet> Spread<P> {
    /// For each lcore, in order, with rings to all others. `counters` are theirs.
    ///
    /// # Errors
    /// The system has no event descriptor left.
    pub fn between(env: &Arc<Environment>, counters: &[Arc<LcoreCounters>]) -> io::Result<Vec<Self>> {
        let lcores = counters.len();
        let bells: Vec<Arc<Bell>> = (0..lcores)
            .map(|_| Bell::new().map(Arc::new))
            .collect::<io::Result<_>>()?;
        let mut inboxes: Vec<Vec<Consumer<Handed<P>>>> = (0..lcores).map(|_| Vec::new()).collect();
        let mut outboxes: Vec<Vec<Option<Outbox<P>>>> = Vec::new();
        for from in 0..lcores {
            let mut to_each = Vec::new();
            for (to, inboxes) in inboxes.iter_mut().enumerate() {
                to_each.push((from != to).then(|| {
                    let (ring, other_end) = RingBuffer::new(RING);
                    inboxes.push(other_end);
                    Outbox {
                        ring,
                        bell: bells[to].clone(),
                        burst: ArrayVec::new(),
                    }
                }));
            }
            outboxes.push(to_each);
        }
        let mut spreads = Vec::new();
        for (((outboxes, inboxes), bell), counters) in outboxes.into_iter().zip(inboxes).zip(bells).zip(counters) {
            spreads.push(Self {
                env: env.clone(),
                counters: counters.clone(),
                bell,
                outboxes: outboxes.into(),
                inboxes: inboxes.into(),
                next: 0,
                user: Box::new(UserPacket::blank()),
            });
        }
        Ok(spreads)
    }

    /// Of frames received at a port: leaves this lcore's, hands over the others'.
    pub fn keep_own(&mut self, ingress: PortIndex, frames: &mut ArrayVec<P, BURST>) {
        self.keep_own_by(ingress, frames, |frame| Some((ingress, frame)));
    }

    /// The same where the frame and the port that it came in by are to be found in what was received. `unwrap` gives none
    /// for what is nobody's.
    pub fn keep_own_by(
        &mut self,
        ingress: PortIndex,
        frames: &mut ArrayVec<P, BURST>,
        unwrap: impl Fn(&[u8]) -> Option<(PortIndex, &[u8])>,
    ) {
        frames.iter().for_each(P::prefetch);
        let mut own: ArrayVec<P, BURST> = ArrayVec::new();
        for packet in frames.drain(..) {
            let owner = unwrap(packet.bytes()).and_then(|(port, frame)| self.owner(port, frame));
            match owner.and_then(|owner| self.outboxes[owner].as_mut()) {
                Some(outbox) => outbox.burst.push((ingress, packet)),
                None => own.push(packet),
            }
        }
        *frames = own;
        for outbox in self.outboxes.iter_mut().flatten() {
            outbox.hand_over(&self.counters);
        }
    }

    /// The lcore of the user whose packet this is; none if it is no user's.
    fn owner(&mut self, port: PortIndex, frame: &[u8]) -> Option<usize> {
        let port: &PortEnvironment = self.env.ports.get(usize::from(port))?;
        // Whether its checksum is right is for the owner to find out.
        let kind = parse_into(&mut self.user, port, frame, true);
        (kind == Kind::User).then(|| owner(self.user.fields.ue(), self.outboxes.len()))
    }

    /// Packets that another lcore has handed over, and the port that they came in by; none if there are none. At most `most`
    /// at a time, and lcores take turns.
    pub fn take(&mut self, most: usize, frames: &mut ArrayVec<P, BURST>) -> Option<PortIndex> {
        for _ in 0..self.inboxes.len() {
            let turn = self.next;
            self.next = (turn + 1) % self.inboxes.len();
            let inbox = &mut self.inboxes[turn];
            let waiting = inbox.slots().min(most);
            let Ok(&(ingress, _)) = inbox.peek() else { continue };
            let from_there = inbox.read_chunk(waiting).map_or(0, |chunk| {
                let (first, second) = chunk.as_slices();
                let all = first.iter().chain(second);
                all.take_while(|(port, _)| *port == ingress).count()
            });
            if let Ok(chunk) = inbox.read_chunk(from_there) {
                frames.extend(chunk.into_iter().map(|(_, packet)| packet));
            }
            return Some(ingress);
        }
        None
    }

    /// This lcore is about to sleep: what it is to wait for, so that it is woken when something is handed over to it. None:
    /// something has been. Afterwards, [`Self::awake`].
    pub fn about_to_sleep(&self) -> Option<BorrowedFd<'_>> {
        self.bell.asleep.store(true, Ordering::Relaxed);
        // Either this sees what another lcore has put into a ring, or that one sees that this sleeps: see `hand_over`.
        fence(Ordering::SeqCst);
        if self.inboxes.iter().all(Consumer::is_empty) {
            return Some(self.bell.event.as_fd());
        }
        self.awake();
        None
    }

    /// It does not sleep any more.
    pub fn awake(&self) {
        self.bell.asleep.store(false, Ordering::Relaxed);
        // Nothing to read is no error: nobody has rung.
        let _ = self.bell.event.read();
    }

    /// How many lcores may have something for this one.
    pub fn peers(&self) -> usize {
        self.inboxes.len()
    }
}

impl<P: Packet> Outbox<P> {
    fn hand_over(&mut self, counters: &LcoreCounters) {
        if self.burst.is_empty() {
            return;
        }
        let taken = self.burst.len().min(self.ring.slots());
        if let Ok(chunk) = self.ring.write_chunk_uninit(taken) {
            counters.happened(HostEvent::HandedOver, taken);
            chunk.fill_from_iter(self.burst.drain(..taken));
        }
        for (_, packet) in self.burst.drain(..) {
            counters.dropped(DropReason::LcoreFull, packet.bytes().len());
        }
        fence(Ordering::SeqCst);
        if self.bell.asleep.load(Ordering::Relaxed) {
            self.bell.ring();
        }
    }
}

impl Bell {
    fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let event = EventFd::from_value_and_flags(0, flags)?;
        let asleep = AtomicBool::new(false);
        Ok(Self { asleep, event })
    }

    /// Once for each sleep.
    #[cold]
    fn ring(&self) {
        if self.asleep.swap(false, Ordering::Relaxed) {
            // A counter that is full is readable as well.
            let _ = self.event.write(1);
        }
    }
}

/// The lcore, of so many, of the user with this address. Of an IPv6 address the prefix counts, which the whole of it belongs
/// to.
fn owner(ue: IpAddr, lcores: usize) -> usize {
    let bits = match ue {
        IpAddr::V4(ue) => u64::from(ue.to_bits()),
        IpAddr::V6(ue) => (ue.to_bits() >> 64) as u64,
    };
    // Neighbouring addresses of a pool are to differ in the upper bits, which choose.
    let mixed = (bits ^ bits >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * lcores as u128) >> 64) as usize
}
