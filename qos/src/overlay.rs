//! The overlay: the SMF's rules with a decision laid over them.
//!
//! A decision is a list of layers, each with effects on some PDRs or on one flow of some PDRs; the first layer that sets
//! a field of a packet's treatment wins it. What comes out is a session like any other, so that no data plane knows of
//! policies. Nothing is kept from one overlay to the next, and so nothing needs to be undone.
//!
//! # The walk
//! 1. `regions`: a flow that is part of what a PDR detects gets a PDR of its own, derived from that one, for every PDR
//!    that it could hit. Whole PDRs and derived ones are from here on *items*, each with the layers that apply to it.
//! 2. `treatment`: the layers of an item become one set of changes.
//! 3. `qers`: changes of rates, gates, QFI and scheduling. If all that use a QER want the same, the QER changes and
//!    keeps its identifier (and with it its tokens in the data planes); otherwise they get QERs of their own.
//! 4. `fars`: the same for the marking of outer headers.
//! 5. `order`: every item its place, and precedences that say so.
//!
//! # Which QER
//! The *session QER* is the one without QFI that most PDRs share, two at least: it carries the session AMBR, and only
//! `session_ambr_percent` changes it. The *flow QER* of a PDR is its first with a QFI, or else its first other than the
//! session QER: effects of the PDR change that one, and a PDR without one gets one. As all QERs of a PDR are enforced,
//! the session AMBR stays a limit whatever becomes of the flow.
//!
//! QERs of one's own are metered apart from what they are copied from. A flow whose treatment sets no rate thus has the
//! MBR of its origin once more for itself (the session AMBR bounds the sum), and no GBR: nobody promised that twice.
//!
//! # Identifiers
//! Copies of QERs and FARs have bit 31 set: no SMF's rule has, as that means "predefined in the UP function"
//! (TS 29.244 8.2.74, 8.2.75). Derived PDRs are numbered in the upper half. All are hashes of what they stand for, so
//! that they stay the same while other policies come and go; where two hashes meet, the next free number is taken.
//!
//! Cost: about linear in the rules of the session times the layers; a session of 4 PDRs and one flow: some microseconds.

mod fars;
mod identifiers;
mod order;
pub(crate) mod qers;
pub(crate) mod regions;
pub(crate) mod treatment;

use crate::engine::Decision;
use regions::Regions;
use treatment::Treatment;
use upf_model::{BitRates, FarId, Pdr, PdrId, QerId, Session};

/// A session with a decision laid over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlaid {
    /// Valid as the base is; id, SEID and epoch as there.
    pub session: Session,
    /// Derived PDR and the SMF's PDR that it comes from, for reports; ascending.
    pub derived: Vec<(PdrId, PdrId)>,
    /// The same of FARs that were copied: what the SMF does to the original, such as dropping buffered packets, is meant
    /// for the copy too. Ascending.
    pub derived_fars: Vec<(FarId, FarId)>,
    /// The same of QERs that were copied or made. None: it is copied from none.
    pub derived_qers: Vec<(QerId, Option<QerId>)>,
}

/// A PDR, or a flow of a PDR, on its way to being one of the session.
struct Item {
    /// The PDR to be. Its identifier and precedence are given at the end if it is derived.
    pdr: Pdr,
    /// The SMF's PDR.
    origin: PdrId,
    /// Which flows its packets belong to, as a set of bits; and their hash.
    flows: u64,
    flows_hash: u64,
    /// A part of its origin only.
    derived: bool,
    /// What changes.
    treatment: Treatment,
}

/// Lays a decision over the SMF's rules. `overlay(base, &Decision::default()).session == base`.
///
/// A decision made for other rules of the session is laid over what it can be: PDRs that are not there are passed over.
pub fn overlay(base: &Session, decision: &Decision) -> Overlaid {
    let mut overlaid = Overlaid {
        session: base.clone(),
        derived: Vec::new(),
        derived_fars: Vec::new(),
        derived_qers: Vec::new(),
    };
    if decision.is_empty() {
        return overlaid;
    }
    let session = &mut overlaid.session;
    for (id, queue) in &decision.queues {
        if let Some(qer) = session.qers.iter_mut().find(|qer| qer.id == *id) {
            qer.scheduling.queue = *queue;
        }
    }
    if decision.layers.is_empty() {
        return overlaid;
    }
    let percent = decision
        .layers
        .iter()
        .find_map(|layer| layer.effects.session_ambr_percent);
    if let Some(percent) = percent {
        scale_session_ambr(session, percent);
    }
    let mut items = items(session, decision);
    overlaid.derived_qers = qers::assign(session, &mut items);
    overlaid.derived_fars = fars::assign(session, &mut items);
    overlaid.derived = order::assign(session, items);
    overlaid
}

/// Whole PDRs and the flows derived from them, the latter before their origin.
fn items(session: &mut Session, decision: &Decision) -> Vec<Item> {
    let regions = Regions::new(session, &decision.layers);
    let session_qer = qers::session_qer(session);
    let mut items = Vec::with_capacity(session.pdrs.len() + regions.derived());
    for (pdr, parts) in session.pdrs.iter().zip(&regions.of_pdrs) {
        let item = |pdr: Pdr, flows: u64, derived: bool| Item {
            treatment: Treatment::of(decision.layers.iter().filter(|layer| {
                layer.flow.as_ref().is_none_or(|flow| regions.contains(flows, flow))
                    && qers::selects(session, session_qer, &layer.select, &pdr)
            })),
            origin: pdr.id,
            flows,
            flows_hash: regions.hash(flows),
            derived,
            pdr,
        };
        for part in &parts.derived {
            let mut derived = pdr.clone();
            derived.pdi.sdf.clone_from(&part.filters);
            items.push(item(derived, part.flows, true));
        }
        items.push(item(pdr.clone(), parts.whole, false));
    }
    items
}

/// The session QER's MBR, or where there is none, that of the QER which most PDRs share.
fn scale_session_ambr(session: &mut Session, percent: u16) {
    let id = qers::session_qer(session).or_else(|| qers::most_shared(session, |_| true).map(|(id, _)| id));
    let Some(qer) = session.qers.iter_mut().find(|qer| Some(qer.id) == id) else {
        return;
    };
    let share = |kbps: u64| u64::try_from(u128::from(kbps) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    qer.mbr = qer.mbr.map(|mbr| BitRates {
        uplink_kbps: share(mbr.uplink_kbps),
        downlink_kbps: share(mbr.downlink_kbps),
    });
    treatment::keep_gbr_within_mbr(qer);
}
