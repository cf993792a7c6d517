//! A session while a request is worked on: removals, creations and updates applied, wishes not yet granted.

use super::pdr::{DraftPdr, Origin};
use super::table::{RuleId, Table};
use super::{CreatedPdr, Refusal, Resources, bar, far, pdi, pdr, qer, ue_addresses, urr};
use crate::{
    Bar, BarId, Disposition, Epoch, Far, FarId, OuterHeaderCreation, PdrId, Qer, QerId, Session, Urr, UrrId, decoded,
    ie,
};

/// All rules by identifier.
pub(super) struct Draft {
    pub(super) pdrs: Table<PdrId, DraftPdr>,
    pub(super) fars: Table<FarId, Far>,
    qers: Table<QerId, Qer>,
    urrs: Table<UrrId, Urr>,
    bars: Table<BarId, Bar>,
    /// Old tunnels that are to get an End Marker, each once.
    pub(super) end_markers: Vec<OuterHeaderCreation>,
}

impl Draft {
    pub(super) fn of(current: &Session) -> Self {
        Self {
            pdrs: Table::new(current.pdrs.iter().map(|pdr| (pdr.id, DraftPdr::kept(pdr)))),
            fars: Table::new(current.fars.iter().map(|far| (far.id, far.clone()))),
            qers: Table::new(current.qers.iter().map(|qer| (qer.id, qer.clone()))),
            urrs: Table::new(current.urrs.iter().map(|urr| (urr.id, urr.clone()))),
            bars: Table::new(current.bars.iter().map(|bar| (bar.id, bar.clone()))),
            end_markers: Vec::new(),
        }
    }

    /// Removes rules. QERs and URRs leave the PDRs they were in, and BARs their FARs, as an SMF has no other way
    /// to take the last one of a list away at the same time. A FAR that a PDR still needs is found later.
    pub(super) fn remove(&mut self, request: &decoded::SessionRequest) -> Result<(), Refusal> {
        for &id in &request.remove_pdrs {
            self.pdrs.remove(PdrId(id))?;
        }
        for &id in &request.remove_fars {
            self.fars.remove(FarId(id))?;
        }
        for &id in &request.remove_qers {
            self.qers.remove(QerId(id))?;
            self.pdrs
                .iter_mut()
                .for_each(|(_, draft)| draft.rule.qers.retain(|qer| qer.0 != id));
        }
        for &id in &request.remove_urrs {
            self.urrs.remove(UrrId(id))?;
            self.pdrs
                .iter_mut()
                .for_each(|(_, draft)| draft.rule.urrs.retain(|urr| urr.0 != id));
        }
        for &id in &request.remove_bars {
            self.bars.remove(BarId(id))?;
            self.fars
                .iter_mut()
                .for_each(|(_, far)| far.bar = far.bar.filter(|bar| bar.0 != id));
        }
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        resources: &dyn Resources,
        request: &decoded::SessionRequest,
    ) -> Result<(), Refusal> {
        for decoded in &request.create_pdrs {
            let id = pdr::id(decoded)?;
            self.pdrs.create(
                id,
                pdr::create(resources, id, decoded).map_err(|refusal| refusal.in_rule(id))?,
            )?;
        }
        for decoded in &request.create_fars {
            let id = far::id(decoded)?;
            self.fars.create(
                id,
                far::create(resources, id, decoded).map_err(|refusal| refusal.in_rule(id))?,
            )?;
        }
        for decoded in &request.create_qers {
            let id = qer::id(decoded)?;
            self.qers
                .create(id, qer::create(id, decoded).map_err(|refusal| refusal.in_rule(id))?)?;
        }
        for decoded in &request.create_urrs {
            let id = urr::id(decoded)?;
            self.urrs
                .create(id, urr::create(id, decoded).map_err(|refusal| refusal.in_rule(id))?)?;
        }
        for decoded in &request.create_bars {
            let id = bar::id(decoded)?;
            self.bars
                .create(id, bar::create(id, decoded).map_err(|refusal| refusal.in_rule(id))?)?;
        }
        Ok(())
    }

    pub(super) fn update(
        &mut self,
        resources: &dyn Resources,
        request: &decoded::SessionRequest,
    ) -> Result<(), Refusal> {
        for decoded in &request.update_pdrs {
            let id = pdr::id(decoded)?;
            let draft = self.pdrs.existing(id)?;
            *draft = pdr::update(resources, draft, decoded).map_err(|refusal| refusal.in_rule(id))?;
        }
        for decoded in &request.update_fars {
            let id = far::id(decoded)?;
            let far = self.fars.existing(id)?;
            let updated = far::update(resources, far, decoded).map_err(|refusal| refusal.in_rule(id))?;
            *far = updated.far;
            if let Some(tunnel) = updated.end_marker.filter(|tunnel| !self.end_markers.contains(tunnel)) {
                self.end_markers.push(tunnel);
            }
        }
        for decoded in &request.update_qers {
            let id = qer::id(decoded)?;
            let qer = self.qers.existing(id)?;
            *qer = qer::update(qer, decoded).map_err(|refusal| refusal.in_rule(id))?;
        }
        for decoded in &request.update_urrs {
            let id = urr::id(decoded)?;
            let urr = self.urrs.existing(id)?;
            *urr = urr::update(urr, decoded).map_err(|refusal| refusal.in_rule(id))?;
        }
        for decoded in &request.update_bars {
            let id = bar::id(decoded)?;
            let bar = self.bars.existing(id)?;
            *bar = bar::update(bar, decoded).map_err(|refusal| refusal.in_rule(id))?;
        }
        Ok(())
    }

    /// Every FAR, QER, URR and BAR that a rule names is there. A FAR that this request removes although a PDR
    /// still names it is at fault itself; otherwise the rule that names is.
    pub(super) fn check_references(&self, request: &decoded::SessionRequest) -> Result<(), Refusal> {
        for (id, draft) in self.pdrs.iter() {
            let rule = &draft.rule;
            if !self.fars.contains(rule.far) {
                return Err(match draft.origin {
                    Origin::Kept if request.remove_fars.contains(&rule.far.0) => {
                        Refusal::rule(ie::REMOVE_FAR, format!("PDR {id} still needs this FAR")).in_rule(rule.far)
                    }
                    _ => unresolved(rule.far).in_rule(id),
                });
            }
            if let Some(qer) = rule.qers.iter().find(|qer| !self.qers.contains(**qer)) {
                return Err(unresolved(*qer).in_rule(id));
            }
            if let Some(urr) = rule.urrs.iter().find(|urr| !self.urrs.contains(**urr)) {
                return Err(unresolved(*urr).in_rule(id));
            }
        }
        for (id, far) in self.fars.iter() {
            if let Some(bar) = far.bar.filter(|bar| !self.bars.contains(*bar)) {
                return Err(unresolved(bar).in_rule(id));
            }
        }
        Ok(())
    }

    /// Every PDR says whose packets it means: those of a tunnel, or those of a UE address or framed route.
    pub(super) fn check_identification(&self) -> Result<(), Refusal> {
        for (id, draft) in self.pdrs.iter() {
            let pdi = &draft.rule.pdi;
            if pdi.local_fteid.is_none() && pdi.ue_ip.is_none() && pdi.framed_routes.is_empty() {
                let message = "expected an F-TEID, a UE address or a framed route to know this PDR's packets by";
                return Err(Refusal::conditional(ie::UE_IP_ADDRESS, message).in_rule(id));
            }
        }
        Ok(())
    }

    /// What was chosen for the PDRs of that origin.
    pub(super) fn chosen(&self, origin: Origin) -> Vec<CreatedPdr> {
        let of_origin = self.pdrs.iter().filter(|(_, draft)| draft.origin == origin);
        let chosen = of_origin.map(|(id, DraftPdr { rule, wishes, .. })| CreatedPdr {
            id,
            fteid: rule.pdi.local_fteid.filter(|_| wishes.fteid.is_some()),
            ue_ip: rule
                .pdi
                .ue_ip
                .and_then(|ue| pdi::present(ue.ipv4.filter(|_| wishes.ue_ipv4), ue.ipv6.filter(|_| wishes.ue_ipv6))),
        });
        chosen
            .filter(|pdr| pdr.fteid.is_some() || pdr.ue_ip.is_some())
            .collect()
    }

    /// The session that the rules make. Its epoch is the current one if no rule differs.
    pub(super) fn into_session(self, current: &Session) -> Session {
        let mut pdrs: Vec<_> = self.pdrs.into_rules().into_iter().map(|draft| draft.rule).collect();
        pdrs.sort_by_key(|pdr| (pdr.precedence, pdr.id));
        let session = Session {
            id: current.id,
            seid: current.seid,
            epoch: current.epoch,
            ue_ips: ue_addresses::union(pdrs.iter().filter_map(|pdr| pdr.pdi.ue_ip.as_ref())),
            framed_routes: ue_addresses::union_of_routes(pdrs.iter().flat_map(|pdr| &pdr.pdi.framed_routes)),
            pdrs,
            fars: self.fars.into_rules(),
            qers: self.qers.into_rules(),
            urrs: self.urrs.into_rules(),
            bars: self.bars.into_rules(),
        };
        if session == *current {
            session
        } else {
            Session {
                epoch: Epoch(current.epoch.0.wrapping_add(1)),
                ..session
            }
        }
    }
}

fn unresolved<Id: RuleId>(id: Id) -> Refusal {
    Refusal::rule(Id::ID_IE, format!("the session has no {} {}", Id::KIND, id.number()))
}

/// FARs of the session as it is that buffer, and whose packets have no future: DROBU asks to drop them, or the
/// FAR drops from now on or is gone.
pub(super) fn discarded(current: &Session, new: &Session, request: &decoded::SessionRequest) -> Vec<FarId> {
    let buffers = |far: &&Far| matches!(far.action.disposition, Disposition::Buffer { .. });
    let hopeless = |far: &&Far| {
        new.far(far.id)
            .is_none_or(|far| far.action.disposition == Disposition::Drop)
    };
    let buffering = current.fars.iter().filter(buffers);
    buffering
        .filter(|far| request.drop_buffered || hopeless(far))
        .map(|far| far.id)
        .collect()
}

/// URRs to report on now: each once, only those that were there before the request and outlive it.
pub(super) fn queried(
    current: &Session,
    new: &Session,
    request: &decoded::SessionRequest,
) -> Result<Vec<UrrId>, Refusal> {
    let lasting = |id: UrrId| current.urr(id).is_some() && new.urr(id).is_some();
    if request.query_all_urrs {
        return Ok(current
            .urrs
            .iter()
            .map(|urr| urr.id)
            .filter(|id| lasting(*id))
            .collect());
    }
    let mut queried: Vec<UrrId> = Vec::new();
    for &id in &request.query_urrs {
        let id = UrrId(id);
        if !lasting(id) {
            let message = "expected a URR that was there before this request and is not removed by it";
            return Err(Refusal::rule(ie::URR_ID, message).in_rule(id));
        }
        if !queried.contains(&id) {
            queried.push(id);
        }
    }
    Ok(queried)
}
