//! Owns which QERs there are and which PDR uses which: changed in place where all users agree, own ones elsewhere.

use super::Item;
use super::identifiers::{hash, of_up_function};
use super::treatment::blank_qer;
use crate::policy::Select;
use upf_model::{Pdr, PdrId, Qer, QerId, Session};

/// The QER without QFI that most PDRs share, two at least. See the module above.
pub(crate) fn session_qer(session: &Session) -> Option<QerId> {
    let shared = most_shared(session, |qer| qer.qfi.is_none());
    shared.filter(|(_, users)| *users >= 2).map(|(id, _)| id)
}

/// The QER, of those, that most PDRs use, and how many do; of several the first.
pub(super) fn most_shared(session: &Session, of: impl Fn(&Qer) -> bool) -> Option<(QerId, usize)> {
    let users = |id: QerId| session.pdrs.iter().filter(|pdr| pdr.qers.contains(&id)).count();
    let candidates = session
        .qers
        .iter()
        .filter(|qer| of(qer))
        .map(|qer| (qer.id, users(qer.id)));
    candidates.rev().max_by_key(|(_, users)| *users)
}

/// The QER that effects on a PDR change. See the module above.
pub(crate) fn flow_qer(session: &Session, session_qer: Option<QerId>, pdr: &Pdr) -> Option<QerId> {
    let with_qfi = |id: &&QerId| session.qer(**id).is_some_and(|qer| qer.qfi.is_some());
    let other = |id: &&QerId| Some(**id) != session_qer;
    pdr.qers
        .iter()
        .find(with_qfi)
        .or_else(|| pdr.qers.iter().find(other))
        .copied()
}

/// Whether a PDR is among those meant.
pub(crate) fn selects(session: &Session, session_qer: Option<QerId>, select: &Select, pdr: &Pdr) -> bool {
    let has_qfi = || {
        let qer = flow_qer(session, session_qer, pdr).and_then(|id| session.qer(id));
        let marked = qer.and_then(|qer| qer.qfi);
        select
            .qfis
            .iter()
            .any(|qfi| pdr.pdi.qfis.contains(qfi) || marked == Some(*qfi))
    };
    select
        .uplink
        .is_none_or(|uplink| pdr.pdi.source_interface.is_uplink() == uplink)
        && (select.pdrs.is_empty() || select.pdrs.contains(&pdr.id))
        && (select.qfis.is_empty() || has_qfi())
}

/// A QER of their own for items with the same flows and the same wishes.
struct Own {
    flows_hash: u64,
    /// The QER it is a copy of; rates that policies set are shared whatever it was.
    origin: Option<QerId>,
    shares_rate: bool,
    /// With the identifier 0.
    qer: Qer,
    /// The lowest identifier among the origins of its items: names it.
    first: PdrId,
}

/// Gives every item its QERs. Own ones and what they are copies of, by ascending identifier.
pub(super) fn assign(session: &mut Session, items: &mut [Item]) -> Vec<(QerId, Option<QerId>)> {
    let session_qer = session_qer(session);
    let wishes = items.iter().map(|item| wish(session, session_qer, item));
    let wishes: Vec<(Option<QerId>, Qer)> = wishes.collect();
    let in_place: Vec<Qer> = session.qers.iter().map(|qer| agreed(qer, items, &wishes)).collect();
    session.qers = in_place;

    let mut owns: Vec<Own> = Vec::new();
    let mut users: Vec<(usize, usize)> = Vec::new();
    for (index, (item, (flow_qer, wanted))) in items.iter().zip(&wishes).enumerate() {
        let unchanged = match flow_qer {
            Some(id) => session.qer(*id) == Some(wanted),
            None => *wanted == blank_qer(),
        };
        if unchanged {
            continue;
        }
        let shares_rate = item.treatment.has_rate();
        let mut qer = Qer {
            id: QerId(0),
            ..wanted.clone()
        };
        if item.derived && item.treatment.gbr.is_none() {
            qer.gbr = None;
        }
        let same = owns.iter_mut().position(|own| {
            own.flows_hash == item.flows_hash
                && own.shares_rate == shares_rate
                && (shares_rate || own.origin == *flow_qer)
                && own.qer == qer
        });
        let own = same.unwrap_or(owns.len());
        match owns.get_mut(own) {
            Some(own) => own.first = own.first.min(item.origin),
            None => owns.push(Own {
                flows_hash: item.flows_hash,
                origin: *flow_qer,
                shares_rate,
                qer,
                first: item.origin,
            }),
        }
        users.push((index, own));
    }
    let ids = add(session, &owns);
    for (index, own) in users {
        let qers = &mut items[index].pdr.qers;
        match wishes[index]
            .0
            .and_then(|id| qers.iter().position(|other| *other == id))
        {
            Some(at) => qers[at] = ids[own],
            None => qers.insert(0, ids[own]),
        }
    }
    let mut derived: Vec<_> = ids.into_iter().zip(owns.iter().map(|own| own.origin)).collect();
    derived.sort_unstable();
    derived
}

/// The item's flow QER and what it should be.
fn wish(session: &Session, session_qer: Option<QerId>, item: &Item) -> (Option<QerId>, Qer) {
    let id = flow_qer(session, session_qer, &item.pdr);
    match id.and_then(|id| session.qer(id)) {
        Some(qer) => (id, item.treatment.of_qer(qer)),
        None => (None, item.treatment.of_qer(&blank_qer())),
    }
}

/// What all whole PDRs that use a QER want it to be, or what it is.
fn agreed(qer: &Qer, items: &[Item], wishes: &[(Option<QerId>, Qer)]) -> Qer {
    let users = items
        .iter()
        .zip(wishes)
        .filter(|(item, _)| !item.derived && item.pdr.qers.contains(&qer.id));
    let mut wanted = users.map(|(_, (flow_qer, wanted))| if *flow_qer == Some(qer.id) { wanted } else { qer });
    match wanted.next() {
        Some(first) if wanted.all(|other| other == first) => first.clone(),
        _ => qer.clone(),
    }
}

/// Adds own QERs to the session; their identifiers in order.
fn add(session: &mut Session, owns: &[Own]) -> Vec<QerId> {
    let mut ids: Vec<QerId> = Vec::with_capacity(owns.len());
    for own in owns {
        let origin = own.origin.filter(|_| !own.shares_rate);
        let name = hash(&(own.flows_hash, origin, own.first));
        let id = QerId(of_up_function(name, |id| {
            session.qers.iter().any(|qer| qer.id == QerId(id))
        }));
        session.qers.push(Qer { id, ..own.qer.clone() });
        ids.push(id);
    }
    session.qers.sort_unstable_by_key(|qer| qer.id);
    ids
}
