//! From a validated session to what a packet needs of it: references resolved, headers built, cells and meters found.
//!
//! Compiled sessions are immutable. A change makes a new one, which the classifier publishes in one store; what must
//! outlive a change (counters, token buckets, buffer accounts) is shared between the old and the new.

use crate::delay::{self, FlowDelay, FlowDelays};
use crate::environment::Environment;
use crate::pipeline::buffer::{BufferAccount, BufferBounds};
use crate::pipeline::tunnel::{QosFlowMark, Tunnel};
use crate::usage::{Fitted, Ledger, Lines, SessionCounters, closed_gate};
use pdr_classifier::{PdrMatch, RuleIndex, SessionKey, SessionKeys};
use qos::{BurstPolicy, Direction, QerMeter};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use upf_model::batch::Count;
use upf_model::{
    Disposition, EndpointId, Epoch, FarId, ForwardingParameters, IpPrefix, NetworkInstanceId, Pdr, PdrId, Qer, Qfi,
    Scheduling, Seid, Session, SessionId,
};

/// A session, ready for packets: a cache line that each of them reads, one for each of the first PDRs, and what is rare
/// or long elsewhere.
#[repr(C, align(64))]
pub struct CompiledSession {
    /// The session's lines on all lcores.
    pub counters: SessionCounters,
    /// The PDRs behind the first ones, in the order of the classifier's rules.
    more: Box<[CompiledPdr]>,
    sources: Sources,
    /// Packets may wait in buffers from before this version: they go first.
    pub drain: bool,
    /// Some of its tunnels carry downlink packets.
    pub turns: bool,
    /// What few packets need.
    pub rare: Box<Rare>,
    first: [CompiledPdr; FIRST],
}

/// PDRs beside the session: most have no more.
const FIRST: usize = 2;
const _: () = assert!(size_of::<CompiledSession>() == 64 * (1 + FIRST));

/// What few packets need of a session.
pub struct Rare {
    /// Unique among all sessions ever.
    pub seid: Seid,
    /// Its slot.
    pub id: SessionId,
    /// This version of its rules.
    pub epoch: Epoch,
    /// What few sessions have.
    unusual: Option<Box<Unusual>>,
}

/// What few sessions have.
struct Unusual {
    /// Tunnels that carry downlink packets (N9 from another UPF): the UE is the destination.
    downlink_tunnels: Box<[SessionKey]>,
    /// Further addresses that uplink packets may come from.
    sources: Box<[IpPrefix]>,
    /// Its QoS flows whose delay is measured.
    delays: FlowDelays,
}

impl CompiledSession {
    /// A PDR by its place among the classifier's rules.
    #[inline(always)]
    pub fn pdr(&self, rule: RuleIndex) -> &CompiledPdr {
        match self.first.get(rule as usize) {
            Some(pdr) => pdr,
            None => &self.more[rule as usize - FIRST],
        }
    }

    /// A PDR, if it is one of those beside the session: to ask for its line before the session's own is there.
    #[inline(always)]
    pub fn pdr_beside(&self, rule: RuleIndex) -> Option<&CompiledPdr> {
        self.first.get(rule as usize)
    }

    /// Anti-spoofing: whether an uplink packet may come from there.
    #[inline(always)]
    pub fn may_come_from(&self, source: IpAddr) -> bool {
        let further = || self.rare.unusual.as_ref().map_or(&[][..], |unusual| &unusual.sources);
        self.sources.has(source) || further().iter().any(|p| p.contains(source))
    }

    /// Whether packets of this tunnel go to the UE.
    pub fn is_downlink_tunnel(&self, key: SessionKey) -> bool {
        let unusual = self.rare.unusual.as_ref();
        unusual.is_some_and(|unusual| unusual.downlink_tunnels.contains(&key))
    }

    /// What measures the delay of a QoS flow.
    pub fn delay(&self, qfi: Qfi) -> Option<&FlowDelay> {
        self.rare.unusual.as_ref()?.delays.of(qfi).map(Arc::as_ref)
    }
}

/// Addresses that uplink packets may come from: the usual ones, one of each family.
struct Sources {
    /// The session names no address: nothing is checked.
    any: bool,
    has_v4: bool,
    has_v6: bool,
    v4: Ipv4Addr,
    /// The upper 64 bits.
    v6: u64,
}

impl Sources {
    #[inline(always)]
    fn has(&self, source: IpAddr) -> bool {
        self.any
            || match source {
                IpAddr::V4(addr) => self.has_v4 && addr == self.v4,
                IpAddr::V6(addr) => self.has_v6 && (addr.to_bits() >> 64) as u64 == self.v6,
            }
    }
}

/// A PDR, ready for packets: a cache line.
#[repr(C, align(64))]
pub struct CompiledPdr {
    /// Its id.
    pub id: PdrId,
    /// Which way its packets go.
    pub direction: Direction,
    /// It takes the tunnel header off, or there is none.
    pub decapsulates: bool,
    /// The first of the lines in which its packets are counted.
    pub line: u32,
    /// The rates of its only QER that has any.
    pub meter: Option<Arc<QerMeter>>,
    /// What few PDRs have; then their rates are here as well.
    pub more: Option<Box<More>>,
    /// What its FAR does.
    pub action: CompiledAction,
}

const _: () = assert!(size_of::<CompiledPdr>() == 64);

/// What few PDRs have.
pub struct More {
    /// Lines of the PDR at each lcore.
    lines_each: u32,
    /// All rates that its packets must be within.
    pub meters: Box<[Arc<QerMeter>]>,
    /// URRs measure its packets before QoS enforcement.
    pub measures_before: bool,
    /// Copies that its FAR makes.
    pub duplicates: Box<[Forward]>,
    /// What measures the delay of its packets, if they go to the RAN under a QoS flow that is monitored.
    pub delay: Option<Arc<FlowDelay>>,
}

impl CompiledPdr {
    /// Stands where a session has no PDR.
    fn none() -> Self {
        Self {
            id: PdrId(0),
            direction: Direction::Uplink,
            decapsulates: false,
            line: 0,
            meter: None,
            more: None,
            action: CompiledAction::Drop,
        }
    }

    /// Where its packets are counted.
    #[inline(always)]
    pub fn lines(&self) -> Lines {
        Lines {
            start: self.line,
            each: self.more.as_ref().map_or(1, |more| more.lines_each),
        }
    }
}

/// A FAR, ready for packets.
pub enum CompiledAction {
    /// FORW.
    Forward(Forward),
    /// DROP.
    Drop,
    /// BUFF.
    Buffer(Box<Buffering>),
    /// A QER's gate is closed: whatever the FAR says.
    Gated,
}

/// How packets wait.
pub struct Buffering {
    /// NOCP: report the first packet.
    pub notify: bool,
    /// The FAR.
    pub far: FarId,
    /// QoS flow of the PDR's QERs, for the report.
    pub qfi: Option<Qfi>,
    /// What the session has in buffers.
    pub account: Arc<BufferAccount>,
    /// Its bounds.
    pub bounds: BufferBounds,
}

/// Forwarding parameters, ready for packets.
pub struct Forward {
    /// Where it goes.
    pub to: Destination,
    /// How its packets wait for a busy port: the PDR's, for its copies too.
    pub scheduling: Scheduling,
    /// Traffic class value and mask, for the outer header or for the packet itself.
    pub marking: Option<(u8, u8)>,
}

impl Forward {
    /// Bytes that it adds to an IP packet that came with this QoS flow.
    #[inline(always)]
    pub fn overhead(&self, qfi: Option<u8>) -> usize {
        if let Destination::Tunnel(tunnel) = &self.to {
            tunnel.overhead(qfi)
        } else {
            0
        }
    }
}

/// Where packets go.
pub enum Destination {
    /// Into a tunnel.
    Tunnel(Tunnel),
    /// Plain, by the routes of this network instance.
    Plain(NetworkInstanceId),
    /// The tunnel's peer is of a family in which we have no address, or has no route.
    Unreachable,
}

/// What of a session outlives a change of its rules; the management thread keeps one for each session.
#[derive(Default)]
pub struct Lasting {
    /// What was counted for its rules.
    pub ledger: Ledger,
    /// A meter for each of its QERs, in their order.
    meters: Box<[Arc<QerMeter>]>,
    /// What it has in buffers; from its first rule on that says BUFF.
    buffer: Option<Arc<BufferAccount>>,
    /// Delay of its QoS flows.
    pub delays: FlowDelays,
}

impl Lasting {
    /// What it has in buffers.
    pub fn buffered(&self) -> Count {
        self.buffer.as_deref().map(BufferAccount::count).unwrap_or_default()
    }

    /// A buffering period begins: its first packet is reported.
    pub fn rearm(&self) {
        self.buffer.iter().for_each(|account| account.rearm());
    }

    /// A change has taken effect: `session` is in the place of `before`, which this was of.
    pub fn adopt(&mut self, before: Option<&Session>, session: &Session, next: Next) {
        self.meters = next.meters;
        self.buffer = next.buffer;
        self.delays = next.delays;
        self.ledger.adopt(before, session, next.lines);
    }
}

/// What becomes [`Lasting`] with a new version of a session.
pub struct Next {
    lines: Fitted,
    meters: Box<[Arc<QerMeter>]>,
    buffer: Option<Arc<BufferAccount>>,
    delays: FlowDelays,
}

/// What a change needs besides the session itself.
pub struct Compiler<'a> {
    /// Ports, routes and bounds.
    pub env: &'a Environment,
    /// How many lcores count.
    pub lcores: usize,
    /// Depth of token buckets.
    pub burst: BurstPolicy,
    /// The meters' clock.
    pub now_ns: u64,
}

/// A session, ready to be put into the classifier.
pub struct Compiled {
    /// By what it is found.
    pub keys: SessionKeys,
    /// What detects its packets.
    pub rules: Vec<PdrMatch>,
    /// What becomes of them.
    pub session: CompiledSession,
    /// For [`Lasting::adopt`], once it is put.
    pub next: Next,
}

impl Compiler<'_> {
    fn endpoint(&self, addr: IpAddr) -> Option<EndpointId> {
        self.env
            .endpoints
            .iter()
            .position(|&e| e == addr)
            .map(|i| EndpointId(i as u16))
    }

    /// Compile. `lasting` is of the version `before`, if there is one; `drain` as in [`CompiledSession::drain`].
    pub fn compile(&self, before: Option<&Session>, session: &Session, lasting: &Lasting, drain: bool) -> Compiled {
        let endpoint = |addr| self.endpoint(addr);
        let next = Next {
            lines: lasting.ledger.fit(before, session, self.lcores),
            meters: self.meters(before, session, lasting),
            buffer: match &lasting.buffer {
                None => session.buffers().then(Arc::default),
                account => account.clone(),
            },
            delays: delay::follow(session, self.env.monitoring, &lasting.delays),
        };
        let rules: Vec<PdrMatch> = session.pdrs.iter().map(|pdr| PdrMatch::of(pdr, endpoint)).collect();
        let mut pdrs = session.pdrs.iter().map(|pdr| self.pdr(session, pdr, &next));
        let first = std::array::from_fn(|_| pdrs.next().unwrap_or_else(CompiledPdr::none));
        let more = pdrs.collect();
        let downlink = rules.iter().filter(|rule| !rule.source_interface.is_uplink());
        let downlink_tunnels: Box<[SessionKey]> = downlink.flat_map(|rule| rule.tunnel.iter().copied()).collect();
        let (sources, further) = sources(session);
        let turns = !downlink_tunnels.is_empty();
        let unusual = (turns || !further.is_empty() || !next.delays.is_empty()).then(|| {
            Box::new(Unusual {
                downlink_tunnels,
                sources: further,
                delays: next.delays.clone(),
            })
        });
        let compiled = CompiledSession {
            counters: next.lines.counters.clone(),
            more,
            sources,
            drain,
            turns,
            rare: Box::new(Rare {
                seid: session.seid,
                id: session.id,
                epoch: session.epoch,
                unusual,
            }),
            first,
        };
        Compiled {
            keys: SessionKeys::of(session, endpoint),
            rules,
            session: compiled,
            next,
        }
    }

    fn pdr(&self, session: &Session, pdr: &Pdr, next: &Next) -> CompiledPdr {
        let direction = direction_of(pdr);
        let lines = next.lines.lines(pdr.id).unwrap_or_default();
        let qers = || pdr.qers.iter().filter_map(|&id| session.qer(id));
        let gated = closed_gate(qers(), direction == Direction::Uplink).is_some();
        let meter_of = |qer: &Qer| {
            let at = session.qers.iter().position(|q| q.id == qer.id)?;
            next.meters
                .get(at)
                .filter(|meter| meter.meter(direction).is_some())
                .cloned()
        };
        let mut meters: Vec<_> = qers().filter_map(meter_of).collect();
        let mark = mark_of(session, pdr);
        let (action, duplicates) = self.action(session, pdr, direction, mark, next);
        let urrs = pdr.urrs.iter().filter_map(|&id| session.urr(id));
        let measures_before = urrs.clone().any(|urr| urr.before_qos);
        let to_ran = matches!(action, CompiledAction::Forward(_)) && direction == Direction::Downlink;
        let delay = mark
            .filter(|_| to_ran)
            .and_then(|mark| next.delays.of(Qfi(mark.qfi)).cloned());
        let usual = meters.len() <= 1 && !measures_before && duplicates.is_empty() && delay.is_none();
        CompiledPdr {
            id: pdr.id,
            direction,
            decapsulates: pdr.outer_header_removal.is_some() || pdr.pdi.local_fteid.is_none(),
            line: lines.start,
            meter: if usual { meters.pop() } else { None },
            more: (!usual).then(|| {
                Box::new(More {
                    lines_each: lines.each,
                    meters: meters.into(),
                    measures_before,
                    duplicates,
                    delay,
                })
            }),
            action: if gated { CompiledAction::Gated } else { action },
        }
    }

    /// Meters of unchanged QERs go on; changed ones start as empty as the old ones are.
    fn meters(&self, before: Option<&Session>, session: &Session, lasting: &Lasting) -> Box<[Arc<QerMeter>]> {
        let old = |qer: &Qer| {
            let mut old = before?.qers.iter().zip(&lasting.meters);
            old.find(|(was, _)| was.id == qer.id)
        };
        let meter = |qer: &Qer| match old(qer) {
            Some((same, meter)) if same == qer => meter.clone(),
            Some((_, before)) => Arc::new(QerMeter::replacing(qer, &self.burst, before, self.now_ns)),
            None => Arc::new(QerMeter::new(qer, &self.burst, self.now_ns)),
        };
        session.qers.iter().map(meter).collect()
    }

    fn bounds(&self, session: &Session) -> BufferBounds {
        let configured = &self.env.buffering;
        let suggested = session
            .bars
            .iter()
            .filter_map(|b| b.suggested_packets)
            .map(u32::from)
            .max();
        BufferBounds {
            packets: suggested.unwrap_or(u32::MAX).min(configured.packets_per_session),
            bytes: configured.bytes_per_session,
        }
    }

    fn action(
        &self,
        session: &Session,
        pdr: &Pdr,
        direction: Direction,
        mark: Option<QosFlowMark>,
        next: &Next,
    ) -> (CompiledAction, Box<[Forward]>) {
        // A validated session resolves its FARs; a missing one would drop, as an unmatched packet does.
        let Some(far) = session.far(pdr.far) else {
            return (CompiledAction::Drop, Box::default());
        };
        let scheduling = scheduling_of(session, pdr);
        let forward = |p: &ForwardingParameters| self.forward(p, direction, mark, scheduling);
        let duplicates = if far.action.duplicate {
            far.duplicating.iter().map(forward).collect()
        } else {
            Box::default()
        };
        let action = match (far.action.disposition, &far.forwarding) {
            (Disposition::Forward, Some(parameters)) => CompiledAction::Forward(forward(parameters)),
            (Disposition::Buffer { notify }, _) => CompiledAction::Buffer(Box::new(Buffering {
                notify,
                far: far.id,
                qfi: mark.map(|m| Qfi(m.qfi)),
                account: next.buffer.clone().unwrap_or_default(),
                bounds: self.bounds(session),
            })),
            (Disposition::Drop | Disposition::Forward, _) => CompiledAction::Drop,
        };
        (action, duplicates)
    }

    /// Compile forwarding parameters: resolve the next hop, build the outer header.
    pub fn forward(
        &self,
        parameters: &ForwardingParameters,
        direction: Direction,
        mark: Option<QosFlowMark>,
        scheduling: Scheduling,
    ) -> Forward {
        let instance = parameters.network_instance;
        let to = match parameters.outer_header_creation {
            None => Destination::Plain(instance),
            Some(creation) => {
                let source = |hop| {
                    let port = self.env.neighbours.get(hop).port;
                    Some((hop, self.env.ports[usize::from(port)].source_for(creation.peer)?))
                };
                match self.env.next_hop(instance, creation.peer).and_then(source) {
                    Some((hop, source)) => Destination::Tunnel(Tunnel::new(creation, source, direction, mark, hop)),
                    None => Destination::Unreachable,
                }
            }
        };
        Forward {
            scheduling,
            marking: parameters.transport_level_marking,
            to,
        }
    }
}

fn direction_of(pdr: &Pdr) -> Direction {
    if pdr.pdi.source_interface.is_uplink() {
        Direction::Uplink
    } else {
        Direction::Downlink
    }
}

/// How a PDR's packets wait for a busy port.
pub fn scheduling_of(session: &Session, pdr: &Pdr) -> Scheduling {
    Scheduling::of(pdr.qers.iter().filter_map(|&id| session.qer(id)))
}

/// The first of a PDR's QERs that names a QoS flow marks its packets.
fn mark_of(session: &Session, pdr: &Pdr) -> Option<QosFlowMark> {
    pdr.qers.iter().filter_map(|&id| session.qer(id)).find_map(|q| {
        q.qfi.map(|qfi| QosFlowMark {
            qfi: qfi.0,
            rqi: q.rqi,
            ppi: q.ppi,
        })
    })
}

/// The first address of each family, and all others.
fn sources(session: &Session) -> (Sources, Box<[IpPrefix]>) {
    let mut sources = Sources {
        any: session.ue_ips.is_empty() && session.framed_routes.is_empty(),
        has_v4: false,
        has_v6: false,
        v4: Ipv4Addr::UNSPECIFIED,
        v6: 0,
    };
    let mut further = Vec::new();
    let addresses = session.ue_ips.iter().flat_map(|ue| {
        let v4 = ue.ipv4.and_then(|a| IpPrefix::new(a.into(), 32));
        v4.into_iter().chain(ue.ipv6.map(IpPrefix::V6))
    });
    for prefix in addresses.chain(session.framed_routes.iter().copied()) {
        match prefix {
            IpPrefix::V4(p) if p.len() == 32 && !sources.has_v4 => {
                (sources.has_v4, sources.v4) = (true, p.addr());
            }
            IpPrefix::V6(p) if p.len() == 64 && !sources.has_v6 => {
                (sources.has_v6, sources.v6) = (true, (p.addr().to_bits() >> 64) as u64);
            }
            other => further.push(other),
        }
    }
    (sources, further.into())
}
