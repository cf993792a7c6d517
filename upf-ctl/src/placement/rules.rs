//! Owns what PDRs, QERs and FARs become in the program: entries of `rules` and `fars`, rates of meters.
//!
//! ## Meters
//! A packet passes at most two meters, `flow_meters` first. Which of a PDR's two QERs is which matters only in that a QER
//! must have one place for all PDRs that share it, or it would hand out its rate twice: QERs are coloured so that the
//! two of a PDR differ, the QER of most PDRs (the session's aggregate rate, as a rule) being the session's. A PDR for
//! which that cannot be is the host's.

use super::entry::{Action, Forward, Marking, Rates};
use super::world::World;
use qos::BurstPolicy;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use upf_model::{BitRates, Disposition, Far, FarId, ForwardingParameters, Gate, Pdr, Qer, QerId, Scheduling, Session};

/// Where a rule's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FarRef {
    /// By this FAR.
    Of(FarId),
    /// To the host, for what the program cannot do.
    Host,
}

/// What a PDR says of its packets, without numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleDraft {
    /// A gate is closed.
    GateClosed,
    /// On it goes.
    Forward {
        /// Where.
        far: FarRef,
        /// Its meter of the first kind.
        flow: Option<QerId>,
        /// Its meter of the second kind.
        session: Option<QerId>,
        /// Its priority queue.
        queue: u8,
        /// 0x80 and the QoS flow to mark with, 0: keep the packet's own.
        mark_qfi: u8,
        /// Reflective QoS.
        rqi: bool,
        /// 8 and the paging policy indicator, 0: none.
        ppi: u8,
    },
}

/// Whether packets of this PDR go towards the data network.
pub fn is_uplink(pdr: &Pdr) -> bool {
    pdr.pdi.source_interface.is_uplink()
}

/// The kinds of meter of the QERs of one direction, for the PDRs given.
#[derive(Debug, Default)]
pub struct Meters {
    /// True: one of `session_meters`.
    of_session: BTreeMap<QerId, bool>,
}

fn kbps(rates: BitRates, uplink: bool) -> u64 {
    if uplink { rates.uplink_kbps } else { rates.downlink_kbps }
}

/// The QERs of a PDR that limit a rate in its direction.
fn metered<'s>(session: &'s Session, pdr: &'s Pdr) -> impl Iterator<Item = &'s Qer> {
    let qers = pdr.qers.iter().filter_map(|&id| session.qer(id));
    qers.filter(|qer| qer.mbr.is_some())
}

impl Meters {
    /// Colours the QERs of these PDRs, which are all of one direction.
    pub fn of<'s>(session: &'s Session, pdrs: impl Iterator<Item = &'s Pdr>) -> Self {
        let (mut uses, mut pairs) = (BTreeMap::<QerId, usize>::new(), Vec::new());
        for pdr in pdrs {
            let qers: Vec<QerId> = metered(session, pdr).map(|q| q.id).collect();
            for qer in &qers {
                *uses.entry(*qer).or_default() += 1;
            }
            if let [a, b] = qers[..] {
                pairs.push((a, b));
            }
        }
        let mut by_use: Vec<QerId> = uses.keys().copied().collect();
        by_use.sort_by_key(|qer| std::cmp::Reverse(uses[qer]));
        let mut of_session = BTreeMap::new();
        for qer in by_use {
            let mut open = vec![(qer, true)];
            while let Some((qer, color)) = open.pop() {
                if of_session.contains_key(&qer) {
                    continue;
                }
                of_session.insert(qer, color);
                let beside = pairs.iter().filter_map(|&(a, b)| match qer {
                    _ if a == qer => Some(b),
                    _ if b == qer => Some(a),
                    _ => None,
                });
                open.extend(beside.map(|other| (other, !color)));
            }
        }
        Self { of_session }
    }

    /// Whether the QER's meter is one of `session_meters`.
    pub fn is_of_session(&self, qer: QerId) -> bool {
        self.of_session.get(&qer).copied().unwrap_or(false)
    }

    /// The flow and the session meter of a PDR; `None`: it needs what the program does not have.
    fn fit(&self, session: &Session, pdr: &Pdr) -> Option<(Option<QerId>, Option<QerId>)> {
        let uplink = is_uplink(pdr);
        let (mut flow, mut of_session) = (None, None);
        for qer in metered(session, pdr) {
            // A rate of zero lets nothing pass, a meter lets its burst pass first.
            if qer.mbr.is_none_or(|rates| kbps(rates, uplink) == 0) {
                return None;
            }
            let place = if self.is_of_session(qer.id) {
                &mut of_session
            } else {
                &mut flow
            };
            if place.replace(qer.id).is_some() {
                return None;
            }
        }
        Some((flow, of_session))
    }
}

/// A PDR's rule.
pub fn draft(session: &Session, pdr: &Pdr, meters: &Meters) -> RuleDraft {
    let uplink = is_uplink(pdr);
    let mut qers = pdr.qers.iter().filter_map(|&id| session.qer(id));
    let gate = |qer: &Qer| if uplink { qer.gate_uplink } else { qer.gate_downlink };
    if qers.clone().any(|qer| gate(qer) == Gate::Closed) {
        return RuleDraft::GateClosed;
    }
    let before_qos = pdr
        .urrs
        .iter()
        .filter_map(|&id| session.urr(id))
        .any(|urr| urr.before_qos);
    let decapsulates = pdr.outer_header_removal.is_some() || pdr.pdi.local_fteid.is_none();
    let fits = meters.fit(session, pdr).filter(|_| decapsulates && !before_qos);
    let queue = Scheduling::of(qers.clone()).queue;
    let mark = qers.find(|qer| qer.qfi.is_some());
    let (flow, of_session) = fits.unwrap_or_default();
    RuleDraft::Forward {
        far: if fits.is_some() {
            FarRef::Of(pdr.far)
        } else {
            FarRef::Host
        },
        flow,
        session: of_session,
        queue,
        mark_qfi: mark.and_then(|qer| qer.qfi).map_or(0, |qfi| 0x80 | qfi.0),
        rqi: mark.is_some_and(|qer| qer.rqi) && !uplink,
        ppi: mark
            .and_then(|qer| qer.ppi)
            .filter(|_| !uplink)
            .map_or(0, |ppi| 8 | ppi),
    }
}

impl RuleDraft {
    /// With its numbers.
    pub fn numbered(
        &self,
        cell: u32,
        usual_overhead: u8,
        far: impl Fn(FarRef) -> u32,
        meter: impl Fn(QerId) -> u32,
    ) -> Action {
        match *self {
            Self::GateClosed => Action::GateClosed { cell },
            Self::Forward {
                far: to,
                flow,
                session,
                queue,
                mark_qfi,
                rqi,
                ppi,
            } => Action::Forward(Forward {
                cell,
                far: far(to),
                flow_meter: flow.map_or(0, &meter),
                session_meter: session.map_or(0, &meter),
                usual_overhead,
                queue,
                mark_qfi,
                rqi,
                ppi,
            }),
        }
    }
}

/// A FAR's entry.
pub fn far_action(world: &World, far: &Far) -> Action {
    if far.action.duplicate && !far.duplicating.is_empty() {
        return Action::FarOnHost;
    }
    match (far.action.disposition, &far.forwarding) {
        (Disposition::Forward, Some(parameters)) => forwarding(world, parameters),
        (Disposition::Buffer { .. }, _) => Action::Buffer,
        (Disposition::Drop | Disposition::Forward, _) => Action::Drop,
    }
}

fn forwarding(world: &World, parameters: &ForwardingParameters) -> Action {
    let instance = parameters.network_instance.0;
    let marking: Marking = parameters.transport_level_marking.unwrap_or_default();
    let Some(creation) = parameters.outer_header_creation else {
        return Action::Plain { instance, marking };
    };
    let teid = creation.teid.0;
    let source = world.tunnel_source(parameters.network_instance, creation.peer);
    match (source, creation.peer) {
        (Some(IpAddr::V4(src)), IpAddr::V4(dst)) => Action::TunnelV4 {
            instance,
            src,
            dst,
            teid,
            marking,
        },
        (Some(IpAddr::V6(src)), IpAddr::V6(dst)) => Action::TunnelV6 {
            instance,
            src,
            dst,
            teid,
            marking,
        },
        // Nowhere to go: the host drops and counts.
        _ => Action::FarOnHost,
    }
}

/// A QER's rates in a direction, bytes a second; as upf-host's meters have them.
pub fn rates(qer: &Qer, uplink: bool, burst: &BurstPolicy) -> Option<Rates> {
    let bytes = |kbps: u64| kbps.saturating_mul(125).min(i64::MAX as u64);
    let depth = |kbps: u64| {
        let bandwidth = burst.bandwidth(kbps, qer.averaging_window_ms);
        bandwidth.burst_bytes.min(i64::MAX as u64)
    };
    let peak = kbps(qer.mbr?, uplink);
    // A GBR of zero, or above the MBR: all that passes is within it.
    let guaranteed = qer
        .gbr
        .map(|rates| kbps(rates, uplink))
        .filter(|rate| (1..=peak).contains(rate));
    let committed = guaranteed.unwrap_or(peak);
    Some(Rates {
        cir: bytes(committed),
        cburst: depth(committed),
        pir: bytes(peak),
        pburst: depth(peak),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use upf_model::{Interface, PdrId, Precedence};

    fn qer(id: u32, mbr: u64) -> Qer {
        Qer {
            id: QerId(id),
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: Some(BitRates {
                uplink_kbps: mbr,
                downlink_kbps: mbr,
            }),
            gbr: None,
            qfi: None,
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
            scheduling: Scheduling::default(),
        }
    }

    fn pdr(id: u16, qers: &[u32]) -> Pdr {
        Pdr {
            id: PdrId(id),
            precedence: Precedence(id.into()),
            pdi: upf_model::Pdi {
                source_interface: Interface::Core,
                network_instance: upf_model::NetworkInstanceId(0),
                local_fteid: None,
                ue_ip: None,
                framed_routes: Vec::new(),
                sdf: Vec::new(),
                qfis: Vec::new(),
            },
            outer_header_removal: None,
            far: FarId(1),
            qers: qers.iter().map(|&q| QerId(q)).collect(),
            urrs: Vec::new(),
        }
    }

    fn fits(pdrs: &[Pdr], qers: &[Qer]) -> Vec<Option<(Option<u32>, Option<u32>)>> {
        let session = Session {
            pdrs: pdrs.to_vec(),
            qers: qers.to_vec(),
            ..Session::default()
        };
        let meters = Meters::of(&session, session.pdrs.iter());
        let plain = |(a, b): (Option<QerId>, Option<QerId>)| (a.map(|q| q.0), b.map(|q| q.0));
        session
            .pdrs
            .iter()
            .map(|p| meters.fit(&session, p).map(plain))
            .collect()
    }

    #[test]
    fn the_rate_that_most_pdrs_share_is_the_sessions() {
        let pdrs = [pdr(1, &[1, 9]), pdr(2, &[2, 9]), pdr(3, &[9])];
        let found = fits(&pdrs, &[qer(1, 10), qer(2, 10), qer(9, 10)]);
        assert_eq!(
            found,
            [
                Some((Some(1), Some(9))),
                Some((Some(2), Some(9))),
                Some((None, Some(9)))
            ]
        );
    }

    #[test]
    fn three_rates_a_ring_of_rates_and_a_rate_of_zero_are_the_hosts() {
        let qers = [qer(1, 10), qer(2, 10), qer(3, 10), qer(4, 0)];
        assert_eq!(fits(&[pdr(1, &[1, 2, 3])], &qers), [None]);
        let ring = [pdr(1, &[1, 2]), pdr(2, &[2, 3]), pdr(3, &[3, 1])];
        assert_eq!(fits(&ring, &qers).iter().filter(|fit| fit.is_none()).count(), 1);
        assert_eq!(fits(&[pdr(1, &[4])], &qers), [None]);
    }

    #[test]
    fn guaranteed_and_maximum_rates_become_committed_and_peak() {
        let mut qer = qer(1, 8_000);
        qer.gbr = Some(BitRates {
            uplink_kbps: 800,
            downlink_kbps: 9_000,
        });
        let burst = BurstPolicy::default();
        let up = rates(&qer, true, &burst).unwrap();
        assert_eq!(
            (up.cir, up.cburst, up.pir, up.pburst),
            (100_000, 10_000, 1_000_000, 100_000)
        );
        let down = rates(&qer, false, &burst).unwrap();
        assert_eq!(down.cir, down.pir, "a guarantee above the maximum says nothing");
    }
}
