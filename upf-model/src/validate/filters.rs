//! Bidirectional SDF filters: an SDF Filter ID names one filter of the session, wherever it is used (TS 29.244
//! 8.2.5, BID).
//!
//! The SMF may describe such a filter in one PDR and name it by its id alone in others. A new description in a
//! later request is the filter's new meaning in every PDR that uses it.

use super::pdr::DraftPdr;
use super::table::Table;
use super::{Refusal, limits};
use crate::{PdrId, SdfFilter, ie};
use std::collections::HashMap;

/// Gives every filter that is only named its description, and every filter of an id the same one.
pub(super) fn resolve(pdrs: &mut Table<PdrId, DraftPdr>) -> Result<(), Refusal> {
    let mut descriptions: HashMap<u32, SdfFilter> = HashMap::new();
    for (pdr, draft) in pdrs.iter().filter(|(_, draft)| draft.fresh_pdi) {
        for filter in &draft.rule.pdi.sdf {
            let Some(id) = filter.id else { continue };
            if descriptions.get(&id).is_some_and(|other| other != filter) {
                let message = format!("SDF Filter ID {id} is described in two ways");
                return Err(Refusal::incorrect(ie::SDF_FILTER, message).in_rule(pdr));
            }
            descriptions.insert(id, filter.clone());
        }
    }
    for (_, draft) in pdrs.iter().filter(|(_, draft)| !draft.fresh_pdi) {
        for filter in &draft.rule.pdi.sdf {
            if let Some(id) = filter.id {
                descriptions.entry(id).or_insert_with(|| filter.clone());
            }
        }
    }
    for (pdr, draft) in pdrs.iter_mut() {
        for filter in &mut draft.rule.pdi.sdf {
            if let Some(described) = filter.id.and_then(|id| descriptions.get(&id)) {
                filter.clone_from(described);
            }
        }
        for id in std::mem::take(&mut draft.wishes.filters) {
            let filter = descriptions.get(&id).ok_or_else(|| {
                Refusal::rule(
                    ie::SDF_FILTER,
                    format!("no PDR of the session describes SDF Filter ID {id}"),
                )
                .in_rule(pdr)
            })?;
            draft.rule.pdi.sdf.push(filter.clone());
        }
        if draft.rule.pdi.sdf.len() > limits::SDF_FILTERS_PER_PDR {
            let limit = limits::SDF_FILTERS_PER_PDR;
            return Err(Refusal::too_many(ie::SDF_FILTER, "SDF filters in a PDR", limit).in_rule(pdr));
        }
    }
    Ok(())
}
