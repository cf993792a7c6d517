//! A packet's way through one lcore, from receive burst to transmit, read downwards:
//!
//! ```text
//!  parse ─▶ find session ─▶ classify ─▶ spoof? ─▶ gate? ─▶ buffer? ─▶ police ─▶ count ─▶ forward ─▶ next hop
//!    │            │                                                                          │
//!    ▼            ▼                                                                          ▼
//!  local      unknown TEID: Error Indication                             too big, TTL: ICMP; copies: DUPL
//! ```
//! [`Pipeline::process`] takes a burst through all of it. Every packet ends as sent, buffered, waiting for a next hop,
//! or counted under a [`DropReason`]. The rules a packet meets are those of one version of its session, from its
//! session's lookup to its last header.
//!
//! Costs: no lock, no allocation, no system call and no log line on a forwarded packet's way; those that answer ARP,
//! buffer, or send errors are on cold paths beside it.

pub mod buffer;
pub mod flows;
mod icmp;
mod local;
pub mod parse;
mod resolve;
pub mod tunnel;
pub mod wire;

use crate::checksum;
use crate::compile::{CompiledAction, CompiledPdr, CompiledSession, Destination, Forward};
use crate::counters::{DropReason, HostEvent, LcoreCounters};
use crate::delay;
use crate::dpdk::prefetch;
use crate::egress::{Class, Marking};
use crate::environment::Environment;
use crate::fence::Fence;
use crate::neighbours::{NextHopId, PortIndex};
pub use crate::packet::BURST;
use crate::packet::{Allocator, Packet};
use crate::reports::Reporter;
use crate::traffic_class::{self, DSCP, ECN};
use arrayvec::ArrayVec;
use buffer::{Buffers, Held};
use flows::Missed;
use gtpu::PduSessionContainer;
use parse::{Parsed, UserPacket, parse};
use pdr_classifier::{Found, Guard, Reader, RuleIndex};
use qos::{Decision, Direction};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use tunnel::Tunnel;
use upf_model::batch::Event;
use upf_model::{FarId, Gate, Qfi, Seid};

/// Most QERs of one PDR that are enforced; validation refuses more.
pub const QERS_PER_PDR: usize = 16;

/// What the pipeline needs of the world besides [`Environment`]: packets to fill, ports to send from.
pub trait Io<P>: Allocator<P> {
    /// Send a frame, now or in its turn; the port takes it or counts it.
    fn send(&mut self, port: PortIndex, packet: P, class: Class);
    /// Hand over to the ports what may leave now. Needed only where somebody waits for that; it happens soon anyhow.
    fn flush(&mut self);
}

/// The time, as one burst sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds; the meters' clock.
    pub ns: u64,
    /// Nanoseconds since the UNIX epoch, as coarse as a millisecond; for usage reports.
    pub wall_ns: u64,
    /// The exact wall clock is so much ahead of `ns`.
    pub wall_offset_ns: u64,
}

impl Now {
    /// Nanoseconds since the UNIX epoch, as exact as `ns` is.
    pub fn exact_wall_ns(self) -> u64 {
        self.ns + self.wall_offset_ns
    }

    fn ms(self) -> u64 {
        self.ns / 1_000_000
    }
}

/// What the management thread asks of an lcore.
#[derive(Debug, Clone)]
pub enum Command {
    /// Let the buffered packets of a session take their way under the present rules.
    Drain(Seid),
    /// Throw away what these FARs have buffered.
    Discard(Seid, Vec<FarId>),
    /// The session is gone: throw away all it has buffered.
    Forget(Seid),
    /// Send an End Marker into each of these tunnels (TS 29.281 7.3.2), by a queue that overtakes none of its packets.
    EndMarkers(Vec<(Tunnel, u8)>),
    /// Say when everything asked for before is done, and what it sent is with the ports or in their queues.
    Pass(Fence),
}

/// One lcore's pipeline.
pub struct Pipeline<P> {
    reader: Reader<CompiledSession>,
    lane: Lane<P>,
}

/// Everything of an lcore but the classifier's reader.
pub(crate) struct Lane<P> {
    env: Arc<Environment>,
    lcore: usize,
    counters: Arc<LcoreCounters>,
    buffers: Buffers<P>,
    waiting: resolve::Waiting<P>,
    learnt: HashMap<(PortIndex, IpAddr), NextHopId>,
    reports: Reporter,
    told: flows::Told,
    error_indications: RateLimit,
    icmp_errors: RateLimit,
    /// Packets made here that take the whole way from the start, as if received.
    looped: VecDeque<(PortIndex, P)>,
}

impl<P: Packet> Pipeline<P> {
    /// A pipeline for lcore number `lcore`; events for the controller go to `reports`.
    pub fn new(
        env: Arc<Environment>,
        reader: Reader<CompiledSession>,
        lcore: usize,
        counters: Arc<LcoreCounters>,
        reports: Reporter,
    ) -> Self {
        let lane = Lane {
            lcore,
            counters,
            buffers: Buffers::new(env.buffered.clone(), env.buffering.packets_total),
            waiting: resolve::Waiting::default(),
            learnt: HashMap::new(),
            reports,
            told: flows::Told::default(),
            error_indications: RateLimit::new(env.error_indications_per_second),
            icmp_errors: RateLimit::new(env.icmp_errors_per_second),
            looped: VecDeque::new(),
            env,
        };
        Self { reader, lane }
    }

    /// Take a burst received at `ingress` all the way.
    pub fn process(&mut self, ingress: PortIndex, burst: &mut ArrayVec<P, BURST>, now: Now, io: &mut impl Io<P>) {
        self.process_missed(ingress, burst, &[], now, io);
    }

    /// The same for packets of which a P4 target missed the flows: `missed` is beside `burst`, or empty.
    pub fn process_missed(
        &mut self,
        ingress: PortIndex,
        burst: &mut ArrayVec<P, BURST>,
        missed: &[Missed],
        now: Now,
        io: &mut impl Io<P>,
    ) {
        self.lane.burst(&self.reader.enter(), ingress, burst, missed, now, io);
        while let Some((port, packet)) = self.lane.looped.pop_front() {
            burst.push(packet);
            self.lane.burst(&self.reader.enter(), port, burst, &[], now, io);
        }
    }

    /// Do what the management thread asked.
    pub fn execute(&mut self, command: Command, now: Now, io: &mut impl Io<P>) {
        match command {
            Command::Drain(seid) => self.lane.drain(&self.reader.enter(), seid, now, io),
            Command::Discard(seid, fars) => {
                for held in self.lane.buffers.take_of(seid, &fars) {
                    self.lane.discard(&held.user, DropReason::BufferDiscarded);
                }
            }
            Command::Forget(seid) => {
                for held in self.lane.buffers.take(seid) {
                    self.lane.discard(&held.user, DropReason::BufferSessionGone);
                }
            }
            Command::EndMarkers(tunnels) => {
                for (tunnel, queue) in &tunnels {
                    self.lane.end_marker(tunnel, *queue, now, io);
                }
            }
            Command::Pass(fence) => {
                io.flush();
                fence.pass();
                self.lane.reports.wake();
            }
        }
    }

    /// Periodic work, about every 10 ms; `lead` is true on one lcore.
    pub fn tick(&mut self, lead: bool, now: Now, io: &mut impl Io<P>) {
        self.lane.error_indications.refill(now.ns);
        self.lane.icmp_errors.refill(now.ns);
        self.lane.resolve_tick(lead, now, io);
    }
}

type SessionGuard<'r> = Guard<'r, CompiledSession>;
type FoundSession<'g> = Found<'g, CompiledSession>;

impl<P: Packet> Lane<P> {
    /// The batch stages: parse all, look all sessions up together so that their cache misses overlap, then let each
    /// packet take the rest of its way.
    fn burst(
        &mut self,
        guard: &SessionGuard<'_>,
        ingress: PortIndex,
        burst: &mut ArrayVec<P, BURST>,
        missed: &[Missed],
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let port = &self.env.ports[usize::from(ingress)];
        for packet in burst.iter() {
            packet.prefetch();
        }
        // Filled and read where it stands: it is 12 KiB, too much to be moved for each burst.
        let mut parsed: ArrayVec<Parsed, BURST> = ArrayVec::new();
        let mut keys: ArrayVec<_, BURST> = ArrayVec::new();
        for packet in burst.iter() {
            parsed.push(parse(port, packet.bytes(), packet.ipv4_checksum_verified()));
            if let Some(Parsed::User(user)) = parsed.last() {
                keys.push(user.key);
            }
        }
        let mut sessions = [None; BURST];
        let sessions = &mut sessions[..keys.len()];
        guard.sessions(&keys, sessions);
        let mut detected = ArrayVec::new();
        self.detect_all(sessions, &mut parsed, &mut detected);
        if !missed.is_empty() {
            self.report_flows(missed, &parsed, &detected, now);
        }

        let mut detected = detected.iter();
        for (packet, parsed) in burst.drain(..).zip(&mut parsed) {
            match parsed {
                Parsed::User(user) => {
                    let detected = detected.next().copied().flatten();
                    self.user(guard, detected, ingress, user, packet, now, io);
                }
                Parsed::Local(kind) => self.local(*kind, ingress, packet, now, io),
                Parsed::Drop(reason) => self.counters.dropped(*reason, packet.bytes().len()),
            }
        }
    }

    /// The rules of a burst's packets. What the rest of their way will read is asked for in three rounds, each of
    /// which finds what the one before has asked for: the session, its rule, its meters and counters. So a burst
    /// waits for memory three times, not every packet ten times.
    #[inline]
    fn detect_all<'g>(
        &self,
        sessions: &[Option<FoundSession<'g>>],
        parsed: &mut [Parsed],
        detected: &mut ArrayVec<Option<Detected<'g>>, BURST>,
    ) {
        for session in sessions.iter().flatten() {
            prefetch(session.payload());
        }
        let users = parsed
            .iter_mut()
            .filter_map(|p| if let Parsed::User(user) = p { Some(user) } else { None });
        for (user, session) in users.zip(sessions) {
            let found = session.map(|session| detect(session, user));
            if let Some((session, pdr)) = found.and_then(Detected::rule) {
                prefetch(pdr);
                session.sources.first().into_iter().for_each(prefetch);
                session.qers.first().into_iter().for_each(prefetch);
                session.urr_cells.first().into_iter().for_each(prefetch);
            }
            detected.push(found);
        }
        for (session, pdr) in detected.iter().flatten().filter_map(|d| d.rule()) {
            session.qers[range(&pdr.qers)]
                .iter()
                .for_each(|qer| prefetch(&*qer.meter));
            prefetch(session.counters.cell(self.lcore, pdr.cell));
            for urr in &session.urr_cells[range(&pdr.urrs)] {
                prefetch(session.counters.cell(self.lcore, urr.times));
            }
        }
    }

    /// A user's packet, its session looked up.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn user(
        &mut self,
        guard: &SessionGuard<'_>,
        detected: Option<Detected<'_>>,
        ingress: PortIndex,
        user: &mut UserPacket,
        packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let Some(detected) = detected.or_else(|| framed(guard, user).map(|session| detect(session, user))) else {
            return match user.key {
                pdr_classifier::SessionKey::FTeid { teid, .. } => self.unknown_teid(teid.0, ingress, packet, io),
                _ => self.discard(user, DropReason::UnknownUe),
            };
        };
        let session = detected.session.payload();
        if user.stamped > 0 && !self.answered(session, user, packet.bytes(), now) {
            return;
        }
        if session.drain && self.buffers.holds(session.seid) {
            self.drain(guard, session.seid, now, io); // what came first goes first
        }
        self.detected(detected, ingress, user, packet, Arrival::Now, now, io);
    }

    /// Take in what a packet's time stamps say of its QoS flow's delay. False: there is no user's packet behind them.
    #[cold]
    fn answered(&self, session: &CompiledSession, user: &UserPacket, frame: &[u8], now: Now) -> bool {
        let end = usize::from(user.ip_offset);
        let header = gtpu::Header::parse(&frame[end - usize::from(user.stamped)..]);
        let measured = match header.map(|header| header.pdu_session_container()) {
            Ok(Ok(Some(PduSessionContainer::Uplink(information)))) => {
                delay::of(&session.delays, Qfi(information.qfi)).is_some_and(|delay| delay.answered(&information, now))
            }
            _ => false,
        };
        self.counters.event(if measured {
            HostEvent::MonitoringAnswered
        } else {
            HostEvent::MonitoringIgnored
        });
        user.ip_len > 0
    }

    /// From session to action: the rules apply.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn detected(
        &mut self,
        detected: Detected<'_>,
        ingress: PortIndex,
        user: &UserPacket,
        packet: P,
        arrival: Arrival,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let Some((session, pdr)) = detected.rule() else {
            return self.discard(user, unmatched(detected.session.payload(), user));
        };
        let bytes = u64::from(user.ip_len);
        if arrival == Arrival::Now {
            session.counters.cell(self.lcore, pdr.cell).count(bytes);
        }
        if pdr.direction == Direction::Uplink && !is_own_source(session, user) {
            return self.discard(user, DropReason::Spoofed);
        }
        if let Some(closed) = closed_gate(session, pdr) {
            session
                .counters
                .cell(self.lcore, session.qers[closed].cells.gated)
                .count(bytes);
            return self.discard(user, DropReason::GateClosed);
        }
        if let CompiledAction::Buffer { notify } = pdr.action {
            return self.buffer(session, pdr, notify, ingress, *user, packet);
        }
        self.measure(session, pdr, bytes, true, now);
        if let Err(over) = police(session, pdr, user.ip_len, now) {
            session
                .counters
                .cell(self.lcore, session.qers[over].cells.policed)
                .count(bytes);
            return self.discard(user, DropReason::Policed);
        }
        for qer in &session.qers[range(&pdr.qers)] {
            session.counters.cell(self.lcore, qer.cells.passed).count(bytes);
        }
        for copy in &pdr.duplicates {
            self.duplicate(copy, pdr, ingress, user, &packet, now, io);
        }
        match &pdr.action {
            CompiledAction::Forward(forward) => {
                self.measure(session, pdr, bytes, false, now);
                self.forward(forward, pdr, ingress, user, packet, now, io);
            }
            CompiledAction::Drop | CompiledAction::Buffer { .. } => self.discard(user, DropReason::FarDrop),
        }
    }

    /// Count for the URRs that measure before (or after) QoS enforcement.
    #[inline]
    fn measure(&self, session: &CompiledSession, pdr: &CompiledPdr, bytes: u64, before_qos: bool, now: Now) {
        for urr in session.urr_cells[range(&pdr.urrs)]
            .iter()
            .filter(|u| u.before_qos == before_qos)
        {
            session.counters.cell(self.lcore, urr.volume).count(bytes);
            session.counters.seen(self.lcore, urr.times, now.wall_ns);
        }
    }

    /// Headers off, hop limit down, headers on, out.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn forward(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        mut packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if !pdr.decapsulates {
            return self.discard(user, DropReason::NotServed);
        }
        if user.hop_limit <= 1 {
            return self.time_exceeded(forward, pdr, ingress, *user, packet, now, io);
        }
        packet.advance(usize::from(user.ip_offset));
        packet.truncate(usize::from(user.ip_len));
        if !age(packet.bytes_mut(), user.outer_ecn) {
            return self.discard(user, DropReason::EcnCongestion);
        }
        let hop = match self.towards(forward, pdr, user) {
            Ok(hop) => hop,
            Err(reason) => return self.discard(user, reason),
        };
        let mtu = usize::from(self.env.ports[usize::from(self.env.neighbours.get(hop).port)].mtu);
        let room = mtu.saturating_sub(forward.overhead(user.qfi));
        if usize::from(user.ip_len) > room {
            return self.too_big(forward, pdr, ingress, *user, packet, room, hop, now, io);
        }
        self.emit(forward, user, packet, hop, now, io);
    }

    /// The next hop: the tunnel's, or by the routes.
    #[inline]
    fn towards(&mut self, forward: &Forward, pdr: &CompiledPdr, user: &UserPacket) -> Result<NextHopId, DropReason> {
        match &forward.to {
            Destination::Tunnel(tunnel) => tunnel.next_hop.ok_or(DropReason::NoRoute),
            Destination::Plain(instance) => self.next_hop(*instance, destination(pdr, user)),
            Destination::Unreachable => Err(DropReason::NoRoute),
        }
    }

    /// An IP packet that fits: outer header or marking, then to the next hop.
    #[inline]
    fn emit(
        &mut self,
        forward: &Forward,
        user: &UserPacket,
        mut packet: P,
        hop: NextHopId,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let user_len = packet.bytes().len();
        let mut udp_checksum = None;
        match (&forward.to, forward.marking) {
            (Destination::Tunnel(tunnel), marking) => {
                let port = &self.env.ports[usize::from(self.env.neighbours.get(hop).port)];
                let class = tunnel::outer_traffic_class(traffic_class::of(packet.bytes()), marking);
                let (ethernet, offload) = (port.ethernet_len(), port.udp_checksum_offload);
                let fits = || user_len + tunnel.overhead(user.qfi) + delay::STAMP_LEN <= usize::from(port.mtu);
                let stamp = forward.delay.as_ref().and_then(|delay| delay.mark(now, fits));
                if !tunnel.encapsulate(&mut packet, class, user.qfi, stamp, ethernet, offload) {
                    return self.discard(user, DropReason::NoHeadroom);
                }
                if stamp.is_some() {
                    self.counters.event(HostEvent::MonitoringMarked);
                }
                udp_checksum = tunnel.udp_checksum(offload);
            }
            (_, Some(marking)) => mark(packet.bytes_mut(), marking),
            (_, None) => {}
        }
        let marking = forward.scheduling.l4s.then(|| Marking {
            user_len: user_len as u16,
            udp_checksum: udp_checksum.map_or(0, |at| (packet.bytes().len() - at) as u16),
        });
        let class = Class {
            marking,
            ..Class::queue(forward.scheduling.queue)
        };
        self.send_to(hop, packet, class, now, io);
    }

    /// DUPL: a copy by other parameters.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    fn duplicate(
        &mut self,
        to: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        packet: &P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let mut copy = io.allocate();
        match copy.take_if(|c| wire::rewrite(c, &[packet.bytes()])) {
            Some(copy) => {
                self.counters.event(HostEvent::Duplicated);
                self.forward(to, pdr, ingress, user, copy, now, io);
            }
            None => self.discard(user, DropReason::NoMbuf),
        }
    }

    /// BUFF: wait, and tell the SMF once.
    #[cold]
    fn buffer(
        &mut self,
        session: &CompiledSession,
        pdr: &CompiledPdr,
        notify: bool,
        ingress: PortIndex,
        user: UserPacket,
        packet: P,
    ) {
        let counters = &self.counters;
        let dropped = |_: P, user: UserPacket, reason| counters.dropped(reason, user.ip_len.into());
        let waiting = (ingress, pdr.far, user, packet);
        if self
            .buffers
            .push(session.seid, &session.buffer, session.bounds, waiting, dropped)
        {
            self.counters.event(HostEvent::Buffered);
        }
        if notify && session.buffer.claim_notification() {
            let event = Event::DownlinkData {
                session: session.id,
                pdr: pdr.id,
                qfi: pdr.qfi,
                dscp: user.fields.tos(),
            };
            if !self.report(event) {
                session.buffer.rearm(); // the next packet tries again
            }
        }
    }

    /// Let a session's buffered packets, oldest first, take their way under the present rules.
    #[cold]
    fn drain(&mut self, guard: &SessionGuard<'_>, seid: Seid, now: Now, io: &mut impl Io<P>) {
        for Held {
            ingress, user, packet, ..
        } in self.buffers.take(seid)
        {
            match guard
                .session(user.key)
                .or_else(|| framed(guard, &user))
                .filter(|s| s.payload().seid == seid)
            {
                Some(session) => {
                    self.counters.event(HostEvent::Drained);
                    // Its ends were told apart when it came.
                    let detected = Detected {
                        session,
                        rule: session.classify(&user.fields),
                    };
                    self.detected(detected, ingress, &user, packet, Arrival::FromBuffer, now, io);
                }
                None => self.discard(&user, DropReason::BufferSessionGone),
            }
        }
    }

    fn end_marker(&mut self, tunnel: &Tunnel, queue: u8, now: Now, io: &mut impl Io<P>) {
        let Some(mut packet) = io.allocate() else {
            return self.counters.dropped(DropReason::NoMbuf, 0);
        };
        let mut message = [0; 8];
        let Some(hop) = tunnel.next_hop else {
            return self.counters.dropped(DropReason::NoRoute, message.len());
        };
        let ethernet = self.env.ports[usize::from(self.env.neighbours.get(hop).port)].ethernet_len();
        if gtpu::write_end_marker(&mut message, tunnel.teid()).is_ok()
            && wire::rewrite(&mut packet, &[&message])
            && tunnel.outer(&mut packet, 0, ethernet, false)
        {
            self.counters.event(HostEvent::EndMarkerSent);
            let class = Class { queue, ..Class::OWN };
            self.send_to(hop, packet, class, now, io);
        }
    }

    #[inline]
    fn discard(&self, user: &UserPacket, reason: DropReason) {
        self.counters.dropped(reason, user.ip_len.into());
    }

    /// Tell the management thread. False: its queue is full, which is counted.
    fn report(&self, event: Event) -> bool {
        let told = self.reports.event(event);
        if !told {
            self.counters.event(HostEvent::EventLost);
        }
        told
    }
}

/// Whether a packet comes from the wire or from a buffer; those from a buffer have been detected before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Now,
    FromBuffer,
}

/// A packet's session, and which of its PDRs detects the packet.
#[derive(Clone, Copy)]
struct Detected<'g> {
    session: FoundSession<'g>,
    rule: Option<RuleIndex>,
}

impl<'g> Detected<'g> {
    #[inline]
    fn rule(self) -> Option<(&'g CompiledSession, &'g CompiledPdr)> {
        let session = self.session.payload();
        self.rule.map(|rule| (session, &session.pdrs[rule as usize]))
    }
}

/// Classify among the session's rules (TS 29.244 5.2.1). Tells the ends of a packet apart if its tunnel carries
/// downlink packets: the UE is its destination then.
#[inline]
fn detect<'g>(session: FoundSession<'g>, user: &mut UserPacket) -> Detected<'g> {
    let downlink_tunnels = &session.payload().downlink_tunnels;
    if !downlink_tunnels.is_empty() && downlink_tunnels.contains(&user.key) {
        user.fields = user.fields.reversed();
    }
    Detected {
        session,
        rule: session.classify(&user.fields),
    }
}

/// The session of a UE whose own prefix is known only by a framed route finer than a /64.
#[cold]
fn framed<'g>(guard: &'g SessionGuard<'_>, user: &UserPacket) -> Option<FoundSession<'g>> {
    (!user.key.is_tunnel())
        .then(|| guard.framed(user.fields.network_instance(), user.fields.ue()))
        .flatten()
}

/// Anti-spoofing: an uplink packet comes from an address of its session.
#[inline]
fn is_own_source(session: &CompiledSession, user: &UserPacket) -> bool {
    session.sources.is_empty() || {
        let source = user.fields.ue();
        session.sources.iter().any(|p| p.contains(source))
    }
}

/// Why a packet matched no PDR of its session. A PDI that names the UE's address matches no foreign source: that is
/// spoofing before it is anything else.
#[cold]
fn unmatched(session: &CompiledSession, user: &UserPacket) -> DropReason {
    let uplink =
        matches!(user.key, pdr_classifier::SessionKey::FTeid { .. }) && !session.downlink_tunnels.contains(&user.key);
    if uplink && !is_own_source(session, user) {
        DropReason::Spoofed
    } else {
        DropReason::NoPdr
    }
}

/// The first QER whose gate is closed: its index among the session's.
#[inline]
fn closed_gate(session: &CompiledSession, pdr: &CompiledPdr) -> Option<usize> {
    let range = range(&pdr.qers);
    let closed = session.qers[range.clone()]
        .iter()
        .position(|q| q.meter.gate(pdr.direction) == Gate::Closed);
    closed.map(|i| range.start + i)
}

/// All rates of the PDR's QERs, or none: a packet that is dropped spends no tokens. Gives the QER it is over.
#[inline]
fn police(session: &CompiledSession, pdr: &CompiledPdr, bytes: u16, now: Now) -> Result<(), usize> {
    let range = range(&pdr.qers);
    let meters: ArrayVec<_, QERS_PER_PDR> = session.qers[range.clone()]
        .iter()
        .take(QERS_PER_PDR)
        .map(|q| q.meter.as_ref())
        .collect();
    match qos::enforce(now.ns, bytes.into(), pdr.direction, &meters) {
        Decision::Pass { .. } => Ok(()),
        Decision::Gated { qer } | Decision::Policed { qer } => Err(range.start + qer),
    }
}

#[inline]
fn range(r: &std::ops::Range<u16>) -> std::ops::Range<usize> {
    r.start.into()..r.end.into()
}

/// Where an IP packet goes by its own header.
#[inline]
fn destination(pdr: &CompiledPdr, user: &UserPacket) -> IpAddr {
    match pdr.direction {
        Direction::Uplink => user.fields.remote(),
        Direction::Downlink => user.fields.ue(),
    }
}

/// One hop older: hop limit down, and congestion seen outside carried inside (RFC 6040 4.2). False: congestion was
/// signalled to a packet whose ends do not know ECN, so it has to be dropped.
#[inline]
fn age(ip: &mut [u8], outer_ecn: u8) -> bool {
    if ip[0] >> 4 == 4 {
        let before = u16::from_be_bytes([ip[8], ip[9]]);
        ip[8] -= 1;
        let sum = u16::from_be_bytes([ip[10], ip[11]]);
        let sum = checksum::update(sum, before, u16::from_be_bytes([ip[8], ip[9]]));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[7] -= 1;
    }
    if outer_ecn == 0 {
        return true;
    }
    let before = traffic_class::of(ip);
    match decapsulated_ecn(before, outer_ecn) {
        Some(class) if class != before => traffic_class::set(ip, class),
        Some(_) => {}
        None => return false,
    }
    true
}

#[inline]
const fn decapsulated_ecn(inner: u8, outer_ecn: u8) -> Option<u8> {
    match (outer_ecn, inner & ECN) {
        (0b11, 0b00) => None,
        (0b11, _) => Some(inner | 0b11),
        (0b01, 0b10) => Some(inner & !ECN | 0b01),
        _ => Some(inner),
    }
}

/// Transport-level marking of a packet that gets no outer header: DSCP under the mask, ECN untouched.
fn mark(ip: &mut [u8], (value, mask): (u8, u8)) {
    let mask = mask & DSCP;
    traffic_class::set(ip, traffic_class::of(ip) & !mask | value & mask);
}

/// At most so many a second, with a burst of as many.
pub(crate) struct RateLimit {
    per_second: u32,
    tokens: f64,
    refilled_ns: u64,
}

impl RateLimit {
    fn new(per_second: u32) -> Self {
        Self {
            per_second,
            tokens: per_second.into(),
            refilled_ns: 0,
        }
    }
    fn refill(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.refilled_ns) as f64 / 1e9;
        self.refilled_ns = now_ns;
        self.tokens = (self.tokens + elapsed * f64::from(self.per_second)).min(self.per_second.into());
    }
    fn take(&mut self) -> bool {
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}
