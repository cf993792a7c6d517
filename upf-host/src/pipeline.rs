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
mod detect;
pub mod flows;
mod forward;
mod icmp;
mod local;
pub mod parse;
mod resolve;
pub mod tunnel;
pub mod wire;

use crate::compile::{Buffering, CompiledAction, CompiledPdr, CompiledSession, More};
use crate::counters::{DropReason, HostEvent, LcoreCounters};
use crate::egress::Class;
use crate::environment::Environment;
use crate::fence::Fence;
use crate::neighbours::{NextHopId, PortIndex};
pub use crate::packet::BURST;
use crate::packet::{Allocator, Packet};
use crate::reports::Reporter;
use arrayvec::ArrayVec;
use buffer::{Buffers, Held};
use detect::{Detection, FoundSession, SessionGuard, framed, rule_of, turn, unmatched};
use flows::Missed;
use gtpu::PduSessionContainer;
use parse::{Kind, UserPacket, parse_into};
use pdr_classifier::{Reader, SessionKey};
use qos::{Color, Direction, QerMeter, Verdict};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use tunnel::Tunnel;
use upf_model::batch::Event;
use upf_model::{FarId, PdrId, Qfi, Seid};

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
    /// There is no other lcore: what it alone writes needs no locked instructions.
    alone: bool,
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
    /// What parsing finds in a burst.
    users: Box<[UserPacket]>,
}

impl<P: Packet> Pipeline<P> {
    /// A pipeline for lcore number `lcore` of so many; events for the controller go to `reports`.
    pub fn new(
        env: Arc<Environment>,
        reader: Reader<CompiledSession>,
        (lcore, lcores): (usize, usize),
        counters: Arc<LcoreCounters>,
        reports: Reporter,
    ) -> Self {
        let lane = Lane {
            lcore,
            alone: lcores == 1,
            counters,
            buffers: Buffers::new(env.buffered.clone(), env.buffering.packets_total),
            waiting: resolve::Waiting::default(),
            learnt: HashMap::new(),
            reports,
            told: flows::Told::default(),
            error_indications: RateLimit::new(env.error_indications_per_second),
            icmp_errors: RateLimit::new(env.icmp_errors_per_second),
            looped: VecDeque::new(),
            users: vec![UserPacket::blank(); BURST].into(),
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

impl<P: Packet> Lane<P> {
    /// The batch stages: parse all, find all sessions and rules, ask for all that the rest of the way will read; then let
    /// each packet take that way.
    fn burst(
        &mut self,
        guard: &SessionGuard<'_>,
        ingress: PortIndex,
        burst: &mut ArrayVec<P, BURST>,
        missed: &[Missed],
        now: Now,
        io: &mut impl Io<P>,
    ) {
        burst.iter().for_each(P::prefetch);
        let mut users = std::mem::take(&mut self.users);
        let mut others: ArrayVec<(usize, Kind), BURST> = ArrayVec::new();
        let port = &self.env.ports[usize::from(ingress)];
        for (at, (packet, user)) in burst.iter().zip(users.iter_mut()).enumerate() {
            match parse_into(user, port, packet.bytes(), packet.ipv4_checksum_verified()) {
                Kind::User => {}
                other => others.push((at, other)),
            }
        }
        let mut detected = [Detection::default(); BURST];
        let mut rules = [None; BURST];
        let (detected, rules) = (&mut detected[..burst.len()], &mut rules[..burst.len()]);
        detect::all(guard, &mut users, &others, self.lcore, detected, rules);
        let mut others = others.into_iter();
        let mut other = others.next();
        for (at, (packet, user)) in burst.drain(..).zip(users.iter_mut()).enumerate() {
            let rule = rules[at];
            if let Some(Some(missed)) = missed.get(at) {
                self.report_flow(*missed, rule, user, now);
            }
            match (rule, other) {
                (_, Some((its, kind))) if its == at => {
                    self.other(kind, ingress, packet, now, io);
                    other = others.next();
                }
                (Some((session, pdr)), _) if user.stamped == 0 => {
                    self.user(guard, session, pdr, ingress, user, packet, now, io);
                }
                _ => self.unusual(guard, detected[at], ingress, user, packet, now, io),
            }
        }
        self.users = users;
    }

    /// No user's packet.
    #[cold]
    fn other(&mut self, kind: Kind, ingress: PortIndex, packet: P, now: Now, io: &mut impl Io<P>) {
        match kind {
            Kind::Local(kind) => self.local(kind, ingress, packet, now, io),
            Kind::Drop(reason) => self.counters.dropped(reason, packet.bytes().len()),
            Kind::User => unreachable!("users have their own way"),
        }
    }

    /// A user's packet, and what it was detected by.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn user(
        &mut self,
        guard: &SessionGuard<'_>,
        session: &CompiledSession,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if session.drain && self.buffers.holds(session.rare.seid) {
            self.drain(guard, session.rare.seid, now, io); // what came first goes first
        }
        self.detected(session, pdr, ingress, user, packet, Arrival::Now, now, io);
    }

    /// A packet with time stamps, or one that no PDR of its session detects, or whose key no session has.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    fn unusual<'g>(
        &mut self,
        guard: &'g SessionGuard<'_>,
        mut detected: Detection<'g>,
        ingress: PortIndex,
        user: &mut UserPacket,
        packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if detected.session.is_none()
            && let Some(session) = framed(guard, user)
        {
            detected = turn(session, user);
        }
        let Some(session) = detected.session.map(FoundSession::payload) else {
            return match user.key {
                SessionKey::FTeid { teid, .. } => self.unknown_teid(teid.0, ingress, packet, io),
                _ => self.discard(user, DropReason::UnknownUe),
            };
        };
        let stamped = usize::from(std::mem::take(&mut user.stamped));
        if stamped > 0 {
            let header = usize::from(user.ip_offset) - stamped;
            self.answered(session, &packet.bytes()[header..], now);
            if user.ip_len == 0 {
                return; // an answer and nothing else
            }
        }
        match rule_of(&detected) {
            Some((session, pdr)) => self.user(guard, session, pdr, ingress, user, packet, now, io),
            None => self.discard(user, unmatched(session, user)),
        }
    }

    /// Take in what a GTP-U header's time stamps say of its QoS flow's delay.
    fn answered(&self, session: &CompiledSession, header: &[u8], now: Now) {
        let measured = match gtpu::Header::parse(header).map(|header| header.pdu_session_container()) {
            Ok(Ok(Some(PduSessionContainer::Uplink(information)))) => {
                let delay = session.delay(Qfi(information.qfi));
                delay.is_some_and(|delay| delay.answered(&information, now))
            }
            _ => false,
        };
        self.counters.event(if measured {
            HostEvent::MonitoringAnswered
        } else {
            HostEvent::MonitoringIgnored
        });
    }

    /// From session to action: the rules apply.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn detected(
        &mut self,
        session: &CompiledSession,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        packet: P,
        arrival: Arrival,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let bytes = u64::from(user.ip_len);
        let line = session.counters.line(pdr.lines(), self.lcore);
        if arrival == Arrival::Now {
            line.detected(bytes);
        }
        if pdr.direction == Direction::Uplink && !session.may_come_from(user.fields.ue()) {
            return self.discard(user, DropReason::Spoofed);
        }
        match &pdr.action {
            CompiledAction::Gated => {
                line.refused(bytes);
                return self.discard(user, DropReason::GateClosed);
            }
            CompiledAction::Buffer(how) => return self.buffer(session, pdr.id, how, ingress, *user, packet),
            CompiledAction::Forward(_) | CompiledAction::Drop => {}
        }
        if let Some(meter) = &pdr.meter
            && !self.within(meter, pdr.direction, user.ip_len, now)
        {
            line.refused(bytes);
            return self.discard(user, DropReason::Policed);
        }
        if let Some(more) = &pdr.more
            && !self.more(session, pdr, more, ingress, user, &packet, now, io)
        {
            return self.discard(user, DropReason::Policed);
        }
        line.passed(bytes, now.wall_ns);
        match &pdr.action {
            CompiledAction::Forward(forward) => {
                let delay = pdr.more.as_ref().and_then(|more| more.delay.as_deref());
                self.forward(forward, pdr, delay, ingress, user, packet, now, io);
            }
            _ => self.discard(user, DropReason::FarDrop),
        }
    }

    /// Whether a packet is within the rate of a PDR's only QER.
    #[inline(always)]
    fn within(&self, meter: &QerMeter, direction: Direction, bytes: u16, now: Now) -> bool {
        let Some(meter) = meter.meter(direction) else {
            return true;
        };
        let color = if self.alone {
            meter.mark_alone(now.ns, bytes.into())
        } else {
            meter.mark(now.ns, bytes.into(), Color::Green)
        };
        color != Color::Red
    }

    /// What few PDRs have beside the usual: URRs before QoS enforcement, several rates (all, or none: a packet that is
    /// dropped spends no tokens), copies. False: over a rate.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    fn more(
        &mut self,
        session: &CompiledSession,
        pdr: &CompiledPdr,
        more: &More,
        ingress: PortIndex,
        user: &UserPacket,
        packet: &P,
        now: Now,
        io: &mut impl Io<P>,
    ) -> bool {
        let (counters, lines, bytes) = (&session.counters, pdr.lines(), u64::from(user.ip_len));
        if more.measures_before {
            counters.offered(lines, self.lcore, bytes, now.wall_ns);
        }
        let meters = more.meters.iter().filter_map(|meter| meter.meter(pdr.direction));
        if let Verdict::Red { meter } = qos::admit_colored(now.ns, user.ip_len.into(), Color::Green, meters) {
            counters.over_rate(lines, self.lcore, more.measures_before, meter, bytes);
            return false;
        }
        for copy in &more.duplicates {
            self.duplicate(copy, pdr, ingress, user, packet, now, io);
        }
        true
    }

    /// BUFF: wait, and tell the SMF once.
    #[cold]
    fn buffer(
        &mut self,
        session: &CompiledSession,
        pdr: PdrId,
        how: &Buffering,
        ingress: PortIndex,
        user: UserPacket,
        packet: P,
    ) {
        let counters = &self.counters;
        let dropped = |_: P, user: UserPacket, reason| counters.dropped(reason, user.ip_len.into());
        let rare = &session.rare;
        let waiting = (ingress, how.far, user, packet);
        if self.buffers.push(rare.seid, &how.account, how.bounds, waiting, dropped) {
            self.counters.event(HostEvent::Buffered);
        }
        if how.notify && how.account.claim_notification() {
            let event = Event::DownlinkData {
                session: rare.id,
                pdr,
                qfi: how.qfi,
                dscp: user.fields.tos(),
            };
            if !self.report(event) {
                how.account.rearm(); // the next packet tries again
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
                .filter(|s| s.payload().rare.seid == seid)
            {
                Some(session) => {
                    self.counters.event(HostEvent::Drained);
                    // Its ends were told apart when it came.
                    let (found, session) = (session.classify(&user.fields), session.payload());
                    match found.map(|rule| session.pdr(rule)) {
                        Some(pdr) => {
                            self.detected(session, pdr, ingress, &user, packet, Arrival::FromBuffer, now, io);
                        }
                        None => self.discard(&user, unmatched(session, &user)),
                    }
                }
                None => self.discard(&user, DropReason::BufferSessionGone),
            }
        }
    }

    fn end_marker(&mut self, tunnel: &Tunnel, queue: u8, now: Now, io: &mut impl Io<P>) {
        let Some(mut packet) = io.allocate() else {
            return self.counters.dropped(DropReason::NoMbuf, 0);
        };
        let (mut message, hop) = ([0; 8], tunnel.next_hop);
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
