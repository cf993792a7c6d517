//! Owns the order of PDRs: where derived and moved ones stand, and the precedences that say so.
//!
//! A derived PDR stands directly above its origin; one with a precedence of its own stands there, among several of one
//! flow in the order of their origins. But never below the PDR that it is a part of, as no packet would find it there.
//! Precedences that need not change do not; where there is no room above a PDR, the ones before it make room. The SMF does
//! not see them.

use super::Item;
use super::identifiers::{hash, of_derived_pdr};
use upf_model::{PdrId, Precedence, Session};

/// Puts the items in order into the session. Derived PDRs and their origins, by ascending identifier.
pub(super) fn assign(session: &mut Session, mut items: Vec<Item>) -> Vec<(PdrId, PdrId)> {
    let mut derived: Vec<(PdrId, PdrId)> = Vec::new();
    for item in items.iter_mut().filter(|item| item.derived) {
        let taken = |id: u16| {
            let id = PdrId(id);
            session.pdrs.iter().any(|pdr| pdr.id == id) || derived.iter().any(|(other, _)| *other == id)
        };
        item.pdr.id = PdrId(of_derived_pdr(hash(&(item.origin, item.flows_hash)), taken));
        derived.push((item.pdr.id, item.origin));
    }
    let moved = items.iter().any(|item| item.treatment.precedence.is_some());
    if moved {
        for i in (0..items.len()).rev() {
            let item = &items[i];
            let own = item
                .treatment
                .precedence
                .map_or(item.pdr.precedence.0, |p| p.of(item.pdr.precedence.0));
            let after = items[i + 1..].iter().take_while(|other| other.origin == item.origin);
            let holding = after.filter(|other| item.flows & other.flows == other.flows);
            let lowest = holding.fold(own, |lowest, other| lowest.min(other.pdr.precedence.0));
            items[i].pdr.precedence = Precedence(lowest);
        }
        // Stable: among equals, origins stay in their order, and what is derived before its origin.
        items.sort_by_key(|item| item.pdr.precedence);
    }
    if (moved || !derived.is_empty()) && !make_room(&mut items) {
        for (i, item) in items.iter_mut().enumerate() {
            item.pdr.precedence = Precedence(u32::try_from(i).unwrap_or(u32::MAX));
        }
    }
    session.pdrs = items.into_iter().map(|item| item.pdr).collect();
    derived.sort_unstable();
    derived
}

/// Lowers precedences, from the last item to the first, until (precedence, id) ascend. False: there is no room below.
fn make_room(items: &mut [Item]) -> bool {
    for i in (1..items.len()).rev() {
        let (next, id) = (items[i].pdr.precedence.0, items[i].pdr.id);
        let item = &mut items[i - 1].pdr;
        if (item.precedence.0, item.id) < (next, id) {
            continue;
        }
        item.precedence.0 = match next.checked_sub(u32::from(item.id > id)) {
            Some(precedence) => precedence,
            None => return false,
        };
    }
    true
}
