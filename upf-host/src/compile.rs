//! From a validated session to what a packet needs of it: references resolved, headers built, cells and meters found.
//!
//! Compiled sessions are immutable. A change makes a new one, which the classifier publishes in one store; what must
//! outlive a change (counters, token buckets, buffer accounts) is shared between the old and the new.

use crate::counters::{CellIndex, CellMap, CellOf, SessionCounters};
use crate::delay::{self, FlowDelay, FlowDelays};
use crate::environment::Environment;
use crate::pipeline::buffer::{BufferAccount, BufferBounds};
use crate::pipeline::tunnel::{QosFlowMark, Tunnel};
use pdr_classifier::{PdrMatch, SessionKey, SessionKeys};
use qos::{BurstPolicy, Direction, QerMeter};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use upf_model::{
    Disposition, EndpointId, Epoch, FarId, ForwardingParameters, Interface, IpPrefix, NetworkInstanceId, Pdr, PdrId,
    Qer, QerId, Qfi, Scheduling, Seid, Session, SessionId,
};

/// A session, ready for packets. What every packet reads comes first.
#[repr(C)]
pub struct CompiledSession {
    /// In the order of the classifier's rules.
    pub pdrs: Box<[CompiledPdr]>,
    /// The PDRs' QERs, each PDR's side by side.
    pub qers: Box<[CompiledQer]>,
    /// Cells of the PDRs' URRs, each PDR's side by side.
    pub urr_cells: Box<[UrrCells]>,
    /// Addresses that uplink packets may come from; empty: the session names none, nothing is checked.
    pub sources: Box<[IpPrefix]>,
    /// Tunnels that carry downlink packets (N9 from another UPF): the UE is the destination.
    pub downlink_tunnels: Box<[SessionKey]>,
    /// The session's cells on all lcores.
    pub counters: SessionCounters,
    /// Unique among all sessions ever.
    pub seid: Seid,
    /// Packets may wait in buffers from before this version: they go first.
    pub drain: bool,
    /// Its slot.
    pub id: SessionId,
    /// This version of its rules.
    pub epoch: Epoch,
    /// What it has in buffers.
    pub buffer: Arc<BufferAccount>,
    /// Bounds of its buffer.
    pub bounds: BufferBounds,
    /// Its QoS flows whose delay is measured.
    pub delays: FlowDelays,
}

/// A PDR, ready for packets.
pub struct CompiledPdr {
    /// Its id.
    pub id: PdrId,
    /// Its FAR's id.
    pub far: FarId,
    /// Which way its packets go.
    pub direction: Direction,
    /// Where its packets are counted.
    pub cell: CellIndex,
    /// It takes the tunnel header off, or there is none.
    pub decapsulates: bool,
    /// Its QERs in the session's.
    pub qers: Range<u16>,
    /// Its URRs in the session's.
    pub urrs: Range<u16>,
    /// QoS flow of its QERs, for reports.
    pub qfi: Option<Qfi>,
    /// What its FAR does.
    pub action: CompiledAction,
    /// Copies that its FAR makes.
    pub duplicates: Box<[Forward]>,
}

/// A FAR, ready for packets.
pub enum CompiledAction {
    /// DROP.
    Drop,
    /// BUFF.
    Buffer {
        /// NOCP: report the first packet.
        notify: bool,
    },
    /// FORW.
    Forward(Forward),
}

/// Forwarding parameters, ready for packets.
pub struct Forward {
    /// How its packets wait for a busy port: the PDR's, for its copies too.
    pub scheduling: Scheduling,
    /// Traffic class value and mask, for the outer header or for the packet itself.
    pub marking: Option<(u8, u8)>,
    /// Where it goes.
    pub to: Destination,
    /// What measures the delay of its packets, if they go to the RAN under a QoS flow that is monitored.
    pub delay: Option<Arc<FlowDelay>>,
}

impl Forward {
    /// Bytes that it adds to an IP packet that came with this QoS flow.
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

/// A QER, ready for packets.
pub struct CompiledQer {
    /// Its gates and rates, shared by all PDRs that name it.
    pub meter: Arc<QerMeter>,
    /// Where it counts.
    pub cells: QerCells,
}

/// Where a QER counts.
#[derive(Clone, Copy)]
pub struct QerCells {
    /// Within gate and rates.
    pub passed: CellIndex,
    /// Dropped by the gate.
    pub gated: CellIndex,
    /// Dropped over the rate.
    pub policed: CellIndex,
}

/// Where a URR counts.
#[derive(Clone, Copy)]
pub struct UrrCells {
    /// Volume in the PDR's direction.
    pub volume: CellIndex,
    /// Times of the first and last packet.
    pub times: CellIndex,
    /// MBQE: before QoS enforcement.
    pub before_qos: bool,
}

/// What of a session outlives a change of its rules; the management thread keeps one for each session.
#[derive(Default)]
pub struct Lasting {
    /// Cells of its rules.
    pub cells: CellMap,
    meters: Meters,
    /// What it has in buffers.
    pub buffer: Arc<BufferAccount>,
    /// Delay of its QoS flows.
    pub delays: FlowDelays,
}

/// The meter of each QER, and the QER it was made of.
type Meters = HashMap<QerId, (Qer, Arc<QerMeter>)>;

impl Lasting {
    /// A change has taken effect: what its rules no longer name is forgotten.
    pub fn adopt(&mut self, session: &Session, meters: Meters) {
        self.meters = meters;
        self.cells.keep_only(session);
    }
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
    pub meters: Meters,
}

impl Compiler<'_> {
    fn endpoint(&self, addr: IpAddr) -> Option<EndpointId> {
        self.env
            .endpoints
            .iter()
            .position(|&e| e == addr)
            .map(|i| EndpointId(i as u16))
    }

    /// Compile. `lasting` gets cells for what is new; `drain` as in [`CompiledSession::drain`].
    pub fn compile(&self, session: &Session, lasting: &mut Lasting, drain: bool) -> Compiled {
        let endpoint = |addr| self.endpoint(addr);
        let counters = lasting.cells.fit(session, self.lcores);
        let meters_of = self.meters(session, lasting);
        lasting.delays = delay::follow(session, self.env.monitoring, &lasting.delays);
        let (mut qers, mut urr_cells, mut downlink_tunnels) = (Vec::new(), Vec::new(), Vec::new());
        let mut pdrs = Vec::with_capacity(session.pdrs.len());
        let mut rules = Vec::with_capacity(session.pdrs.len());
        for pdr in &session.pdrs {
            let rule = PdrMatch::of(pdr, endpoint);
            let direction = direction_of(pdr);
            if direction == Direction::Downlink {
                downlink_tunnels.extend(&rule.tunnel);
            }
            let of_pdr = pdr
                .qers
                .iter()
                .filter_map(|id| Some((*id, meters_of.get(id)?.1.clone())));
            let of_pdr = of_pdr.map(|(id, meter)| CompiledQer {
                meter,
                cells: QerCells {
                    passed: lasting.cells.index(CellOf::QerPassed(id)),
                    gated: lasting.cells.index(CellOf::QerGated(id)),
                    policed: lasting.cells.index(CellOf::QerPoliced(id)),
                },
            });
            let of_pdr = grow(&mut qers, of_pdr);
            let urrs = pdr.urrs.iter().filter_map(|&id| session.urr(id)).map(|urr| UrrCells {
                volume: lasting.cells.index(match direction {
                    Direction::Uplink => CellOf::UrrUplink(urr.id),
                    Direction::Downlink => CellOf::UrrDownlink(urr.id),
                }),
                times: lasting.cells.index(CellOf::UrrTimes(urr.id)),
                before_qos: urr.before_qos,
            });
            let urrs = grow(&mut urr_cells, urrs);
            let mark = mark_of(session, pdr);
            let (mut action, duplicates) = self.action(session, pdr, direction, mark);
            if let (CompiledAction::Forward(forward), Direction::Downlink, Some(mark)) = (&mut action, direction, mark)
            {
                forward.delay = delay::of(&lasting.delays, Qfi(mark.qfi)).cloned();
            }
            pdrs.push(CompiledPdr {
                id: pdr.id,
                far: pdr.far,
                direction,
                cell: lasting.cells.index(CellOf::Pdr(pdr.id)),
                decapsulates: pdr.outer_header_removal.is_some() || pdr.pdi.local_fteid.is_none(),
                qers: of_pdr,
                urrs,
                qfi: mark.map(|m| Qfi(m.qfi)),
                action,
                duplicates,
            });
            rules.push(rule);
        }
        let compiled = CompiledSession {
            pdrs: pdrs.into(),
            qers: qers.into(),
            urr_cells: urr_cells.into(),
            sources: sources(session),
            downlink_tunnels: downlink_tunnels.into(),
            counters,
            seid: session.seid,
            drain,
            id: session.id,
            epoch: session.epoch,
            buffer: lasting.buffer.clone(),
            bounds: self.bounds(session),
            delays: lasting.delays.clone(),
        };
        Compiled {
            keys: SessionKeys::of(session, endpoint),
            rules,
            session: compiled,
            meters: meters_of,
        }
    }

    /// Meters of unchanged QERs go on; changed ones start as empty as the old ones are.
    fn meters(&self, session: &Session, lasting: &Lasting) -> Meters {
        let meter = |qer: &Qer| match lasting.meters.get(&qer.id) {
            Some((same, meter)) if same == qer => meter.clone(),
            Some((_, before)) => Arc::new(QerMeter::replacing(qer, &self.burst, before, self.now_ns)),
            None => Arc::new(QerMeter::new(qer, &self.burst, self.now_ns)),
        };
        session
            .qers
            .iter()
            .map(|qer| (qer.id, (qer.clone(), meter(qer))))
            .collect()
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
            (Disposition::Buffer { notify }, _) => CompiledAction::Buffer { notify },
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
                let hop = self.env.next_hop(instance, creation.peer);
                let port = hop.map(|h| &self.env.ports[usize::from(self.env.neighbours.get(h).port)]);
                match port.and_then(|p| p.source_for(creation.peer)) {
                    Some(source) => Destination::Tunnel(Tunnel::new(creation, source, direction, mark, hop)),
                    None => Destination::Unreachable,
                }
            }
        };
        Forward {
            scheduling,
            marking: parameters.transport_level_marking,
            to,
            delay: None,
        }
    }
}

/// Append to a vector; where it went.
fn grow<T>(to: &mut Vec<T>, items: impl Iterator<Item = T>) -> Range<u16> {
    let start = to.len() as u16;
    to.extend(items);
    start..to.len() as u16
}

fn direction_of(pdr: &Pdr) -> Direction {
    if pdr.pdi.source_interface == Interface::Access {
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

fn sources(session: &Session) -> Box<[IpPrefix]> {
    let addresses = session.ue_ips.iter().flat_map(|ue| {
        let v4 = ue.ipv4.and_then(|a| IpPrefix::new(a.into(), 32));
        v4.into_iter().chain(ue.ipv6.map(IpPrefix::V6))
    });
    addresses.chain(session.framed_routes.iter().copied()).collect()
}
