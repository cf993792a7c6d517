//! Owns which FARs there are: the marking of outer headers, changed in place where all users agree, in a copy elsewhere.

use super::Item;
use super::identifiers::{hash, of_up_function};
use upf_model::{Far, FarId, Session};

/// The DSCP is the upper six bits of the traffic class; the lower two are ECN's.
const DSCP_MASK: u8 = 0b1111_1100;

/// Gives every item its FAR. Copies and what they are copies of, by ascending identifier.
pub(super) fn assign(session: &mut Session, items: &mut [Item]) -> Vec<(FarId, FarId)> {
    if items.iter().all(|item| item.treatment.dscp.is_none()) {
        return Vec::new();
    }
    let of_whole = |id: FarId| {
        let mut wishes = items.iter().filter(|item| !item.derived && item.pdr.far == id);
        let first = wishes.next()?.treatment.dscp;
        wishes.all(|item| item.treatment.dscp == first).then_some(first)?
    };
    let in_place: Vec<Option<u8>> = session.fars.iter().map(|far| of_whole(far.id)).collect();
    let base = session.fars.clone();
    for (far, dscp) in session.fars.iter_mut().zip(&in_place) {
        *far = marked(far, *dscp);
    }
    let mut copies: Vec<(FarId, FarId, Option<u8>)> = Vec::new();
    for item in items {
        let (id, dscp) = (item.pdr.far, item.treatment.dscp);
        let Ok(at) = base.binary_search_by_key(&id, |far| far.id) else {
            continue;
        };
        let mut wanted = marked(&base[at], dscp);
        if session.far(id) == Some(&wanted) {
            continue;
        }
        let known = copies.iter().find(|(_, origin, d)| (*origin, *d) == (id, dscp));
        item.pdr.far = match known {
            Some((copy, ..)) => *copy,
            None => {
                let taken = |id| session.fars.iter().any(|far| far.id == FarId(id));
                wanted.id = FarId(of_up_function(hash(&(id, dscp)), taken));
                copies.push((wanted.id, id, dscp));
                let place = session.fars.partition_point(|far| far.id < wanted.id);
                session.fars.insert(place, wanted);
                copies[copies.len() - 1].0
            }
        };
    }
    copies.sort_unstable();
    copies.into_iter().map(|(copy, origin, _)| (copy, origin)).collect()
}

/// With that DSCP, if it forwards at all.
fn marked(far: &Far, dscp: Option<u8>) -> Far {
    let mut far = far.clone();
    if let (Some(forwarding), Some(dscp)) = (&mut far.forwarding, dscp) {
        forwarding.transport_level_marking = Some((dscp << 2, DSCP_MASK));
    }
    far
}
