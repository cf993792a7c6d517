//! A session as every data plane gets it: self-contained, validated, replaced as one.

use crate::{Bar, Disposition, Epoch, Far, FarId, IpPrefix, Pdr, Qer, QerId, Seid, SessionId, UeIpAddress, Urr, UrrId};
use rkyv::{Archive, Deserialize, Serialize};

/// All the rules of one PFCP session. Invariants (kept by [`crate::validate`]): `pdrs` ascend by
/// (precedence, id); identifiers are unique; every reference of a PDR or FAR resolves.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct Session {
    /// Slot in the data planes.
    pub id: SessionId,
    /// Our SEID, for people and logs.
    pub seid: Seid,
    /// Version of these rules.
    pub epoch: Epoch,
    /// Every UE address of the session: the union over its PDIs. Uplink packets must come from one of them.
    pub ue_ips: Vec<UeIpAddress>,
    /// Every framed route of the session: the union over its PDIs.
    pub framed_routes: Vec<IpPrefix>,
    /// Ascending by (precedence, id).
    pub pdrs: Vec<Pdr>,
    /// Ascending by id.
    pub fars: Vec<Far>,
    /// Ascending by id.
    pub qers: Vec<Qer>,
    /// Ascending by id.
    pub urrs: Vec<Urr>,
    /// Ascending by id.
    pub bars: Vec<Bar>,
}

impl Session {
    /// The FAR of that id. Cost: a binary search.
    pub fn far(&self, id: FarId) -> Option<&Far> {
        self.fars
            .binary_search_by_key(&id, |f| f.id)
            .ok()
            .map(|i| &self.fars[i])
    }
    /// The QER of that id. Cost: a binary search.
    pub fn qer(&self, id: QerId) -> Option<&Qer> {
        self.qers
            .binary_search_by_key(&id, |q| q.id)
            .ok()
            .map(|i| &self.qers[i])
    }
    /// The URR of that id. Cost: a binary search.
    pub fn urr(&self, id: UrrId) -> Option<&Urr> {
        self.urrs
            .binary_search_by_key(&id, |u| u.id)
            .ok()
            .map(|i| &self.urrs[i])
    }

    /// Some of its FARs say BUFF.
    pub fn buffers(&self) -> bool {
        let mut fars = self.fars.iter();
        fars.any(|far| matches!(far.action.disposition, Disposition::Buffer { .. }))
    }
}
