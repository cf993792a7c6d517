//! Finding the session, validating, planning: what turns a request into [`Work`], or refuses it.
//!
//! Nothing is changed here but reservations, and those of a refused request are given back.

use super::{Intent, Work, of_plane, without_ie};
use crate::controller::Controller;
use crate::pfcp::wire::incoming::{SessionEstablishmentRequest, SessionModificationRequest};
use crate::pfcp::wire::{Cause, Refusal};
use crate::plan;
use crate::sessions::{Adapted, SessionRecord};
use crate::usage::now_ms;
use rs_pfcp::ie::IeType;
use std::net::IpAddr;
use std::sync::Arc;
use upf_model::SessionId;
use upf_model::validate;

pub(super) fn unknown_session(controller: &Controller, peer: IpAddr) -> Refusal {
    let (cause, message) = if controller.associations.any_at(peer) {
        (Cause::SessionContextNotFound, "there is no session of that SEID")
    } else {
        (
            Cause::NoEstablishedPfcpAssociation,
            "there is no association with this peer",
        )
    };
    Refusal {
        cause,
        offending_ie: None,
        failed_rule: None,
        message: message.into(),
    }
}

/// PDN types that are not IP (TS 29.244 8.2.79).
const NON_IP_PDN_TYPES: [u8; 2] = [4, 5];

pub(super) fn establishment(
    controller: &mut Controller,
    request: &SessionEstablishmentRequest,
    pending: usize,
) -> Result<Work, Refusal> {
    let node = request.node_id.to_string();
    if !controller.associations.contains(&node) {
        let message = format!("there is no association with node {node}");
        return Err(Refusal::new(
            Cause::NoEstablishedPfcpAssociation,
            IeType::NodeId as u16,
            message,
        ));
    }
    if request.pdn_type.is_some_and(|t| NON_IP_PDN_TYPES.contains(&t)) {
        let message = "only PDN types IPv4, IPv6 and IPv4v6 are supported";
        return Err(Refusal::new(
            Cause::ServiceNotSupported,
            IeType::PdnType as u16,
            message,
        ));
    }
    let Some((id, seid)) = controller.sessions.reserve() else {
        return Err(without_ie(Cause::NoResourcesAvailable, "the session table is full"));
    };
    let mut transaction = controller.allocations.begin(id, Default::default());
    let planned = validate::establish(&mut transaction, id, seid, &request.rules);
    let reserved = transaction.finish();
    let sessions = controller.sessions.len() + pending + 1;
    let planned = planned.and_then(|plan| {
        let steps = plan::establishment(&plan);
        controller
            .planes
            .check(&steps, sessions)
            .map_err(|error| of_plane(&error))?;
        Ok((plan, steps))
    });
    match planned {
        Ok((plan, steps)) => {
            let record = SessionRecord {
                session: plan.session.clone(),
                cp: request.cp_fseid.into(),
                node,
                subscription: request.subscription.clone(),
                holdings: reserved.holdings().clone(),
                established_ms: now_ms(),
                last_answer: None,
            };
            Ok(Work {
                asked: None,
                intent: Intent::Establish { record, reserved, plan },
                steps,
            })
        }
        Err(refusal) => {
            controller.allocations.roll_back(reserved);
            controller.sessions.give_back(id, true);
            Err(refusal)
        }
    }
}

pub(super) fn modification(
    controller: &mut Controller,
    session: Option<SessionId>,
    request: &SessionModificationRequest,
) -> Result<Work, Refusal> {
    let Some(entry) = session.and_then(|id| controller.sessions.get(id)) else {
        return Err(without_ie(Cause::SessionContextNotFound, "there is no such session"));
    };
    let current = &entry.record;
    if request
        .node_id
        .as_ref()
        .is_some_and(|node| node.to_string() != current.node)
    {
        let message = "another SMF cannot take over the session: SSET is not offered";
        return Err(Refusal::new(Cause::ServiceNotSupported, IeType::NodeId as u16, message));
    }
    let mut transaction = controller
        .allocations
        .begin(current.session.id, current.holdings.clone());
    let planned = validate::modify(&mut transaction, &current.session, &request.rules);
    let reserved = transaction.finish();
    let sessions = controller.sessions.len();
    let planned = planned.and_then(|plan| {
        // As policies decided last; once the SMF's change is in effect, they decide again.
        let adapted = Adapted::of(&plan.session, entry.adapted.decision.clone());
        let steps = plan::modification(&entry, &plan, &adapted);
        if !steps.is_empty() {
            controller
                .planes
                .check(&steps, sessions)
                .map_err(|error| of_plane(&error))?;
        }
        Ok((plan, adapted, steps))
    });
    match planned {
        Ok((plan, adapted, steps)) => {
            let record = SessionRecord {
                session: plan.session.clone(),
                cp: request.cp_fseid.map_or(current.cp, Into::into),
                holdings: reserved.holdings().clone(),
                ..current.clone()
            };
            let query_reference = request.query_urr_reference;
            Ok(Work {
                asked: None,
                intent: Intent::Modify {
                    record,
                    reserved,
                    plan,
                    adapted: Arc::new(adapted),
                    query_reference,
                },
                steps,
            })
        }
        Err(refusal) => {
            controller.allocations.roll_back(reserved);
            Err(refusal)
        }
    }
}
