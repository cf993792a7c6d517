//! What the data planes have followed, made into a session, its usage, and the response; and refusals.

use super::{Asked, CpSeid, Done, Effect, Failed, Intent, Work, without_ie};
use crate::controller::Controller;
use crate::pfcp::wire::outgoing::{
    Outcome, SessionDeletionResponse, SessionEstablishmentResponse, SessionModificationResponse, UsageReport,
    UsageReportTrigger,
};
use crate::pfcp::wire::{Cause, FSeid, Refusal, TooLong};
use crate::plan;
use crate::planes::Measured;
use crate::sessions::{Entry, LastAnswer, SessionRecord};
use crate::usage::{UsageAccount, now_ms};
use rs_pfcp::message::MsgType;
use upf_model::SessionId;
use upf_model::validate::Plan;

/// What there is to say, and what the session's rules have used as of now.
type Settled = Result<(Vec<u8>, UsageAccount), Refusal>;

/// Works out the response and what is to be committed. `measured_before`: counts taken before a modification;
/// `measured_last`: those of removed sessions.
pub(super) fn settle(
    controller: &Controller,
    work: Work,
    measured_before: &[Measured],
    measured_last: &[Measured],
) -> Result<Done, Box<Failed>> {
    let Work { asked, intent, steps } = work;
    let now = now_ms();
    let settled = match &intent {
        Intent::Establish { record, plan, .. } => established(controller, asked, record, plan, now),
        Intent::Modify {
            record,
            plan,
            query_reference,
            ..
        } => modified(controller, asked, record, plan, *query_reference, measured_before, now),
        Intent::Delete { id } => deleted(controller, asked, *id, measured_last, now),
    };
    let (response, usage) = match settled {
        Ok(settled) => settled,
        Err(refusal) => {
            return Err(Box::new(Failed {
                refusal,
                intent,
                applied: steps,
            }));
        }
    };
    let effect = match intent {
        Intent::Establish { record, reserved, .. } => {
            let record = with_answer(controller, record, asked, &response, now);
            Effect::Put {
                entry: Box::new(Entry::new(record, usage)),
                reserved,
                is_new: true,
            }
        }
        Intent::Modify {
            record,
            reserved,
            adapted,
            ..
        } => {
            let record = with_answer(controller, record, asked, &response, now);
            Effect::Put {
                entry: Box::new(Entry { record, usage, adapted }),
                reserved,
                is_new: false,
            }
        }
        Intent::Delete { id } => Effect::Remove { id },
    };
    Ok(Done {
        asked,
        steps,
        cause: Cause::RequestAccepted,
        response,
        effect,
    })
}

fn sequence(asked: Option<Asked>) -> u32 {
    asked.map_or(0, |asked| asked.key.sequence)
}

fn established(
    controller: &Controller,
    asked: Option<Asked>,
    record: &SessionRecord,
    plan: &Plan,
    now: u64,
) -> Settled {
    let mut usage = UsageAccount::default();
    usage.follow(&record.session.urrs, &[], now);
    let ours = asked.map(|asked| controller.transport.address_towards(asked.key.peer.ip()));
    let response = SessionEstablishmentResponse {
        node_id: controller.node_id.clone(),
        outcome: Outcome::ACCEPTED,
        up_fseid: ours.map(|address| FSeid::at(record.session.seid.0, address)),
        created_pdrs: plan::chosen(&plan.created_pdrs),
    };
    Ok((
        response.encode(record.cp.seid, sequence(asked)).map_err(too_long)?,
        usage,
    ))
}

fn modified(
    controller: &Controller,
    asked: Option<Asked>,
    record: &SessionRecord,
    plan: &Plan,
    query_urr_reference: Option<u32>,
    measured: &[Measured],
    now: u64,
) -> Settled {
    let Some(before) = controller.sessions.get(record.session.id) else {
        return Err(no_such_session());
    };
    let mut usage = before.usage;
    take_in(&mut usage, record.session.id, measured);
    let mut usage_reports = Vec::new();
    for urr in &before.record.session.urrs {
        let trigger = if plan.removed_urrs.contains(&urr.id) {
            UsageReportTrigger::TERMINATION
        } else if plan.queried_urrs.contains(&urr.id) {
            UsageReportTrigger::IMMEDIATE
        } else {
            continue;
        };
        let report = usage.report(urr, trigger, now);
        usage_reports.extend(report.map(|report| UsageReport {
            query_urr_reference,
            ..report
        }));
    }
    usage.follow(&record.session.urrs, &plan.removed_urrs, now);
    let response = SessionModificationResponse {
        outcome: Outcome::ACCEPTED,
        created_pdrs: plan::chosen(&plan.created_pdrs),
        updated_pdrs: plan::chosen(&plan.updated_pdrs),
        usage_reports,
    };
    Ok((
        response.encode(record.cp.seid, sequence(asked)).map_err(too_long)?,
        usage,
    ))
}

fn deleted(controller: &Controller, asked: Option<Asked>, id: SessionId, measured: &[Measured], now: u64) -> Settled {
    let Some(entry) = controller.sessions.get(id) else {
        return Err(no_such_session());
    };
    let mut usage = entry.usage;
    take_in(&mut usage, id, measured);
    let urrs = entry.record.session.urrs.iter();
    let reports = urrs
        .filter_map(|urr| usage.report(urr, UsageReportTrigger::TERMINATION, now))
        .collect();
    Ok((encode_deletion(reports, entry.record.cp.seid, sequence(asked)), usage))
}

fn take_in(usage: &mut UsageAccount, session: SessionId, measured: &[Measured]) {
    for measured in measured.iter().filter(|m| m.usage.session == session) {
        usage.measure(measured);
    }
}

/// As the store is to have it. What nobody asked for leaves the answer there that was given last.
fn with_answer(
    controller: &Controller,
    record: SessionRecord,
    asked: Option<Asked>,
    response: &[u8],
    now: u64,
) -> SessionRecord {
    let last_answer = match asked {
        Some(asked) => Some(LastAnswer {
            peer: asked.key.peer,
            message_type: asked.key.message_type,
            sequence: asked.key.sequence,
            at_ms: now,
            datagram: response.to_vec(),
        }),
        None => controller.store.last_answer(record.session.id).unwrap_or_else(|error| {
            tracing::error!(%error, "the last answer to a session's SMF cannot be read");
            None
        }),
    };
    SessionRecord { last_answer, ..record }
}

fn no_such_session() -> Refusal {
    without_ie(Cause::SessionContextNotFound, "there is no such session")
}

fn too_long(error: TooLong) -> Refusal {
    without_ie(
        Cause::NoResourcesAvailable,
        &format!("the response would be too long: {error}"),
    )
}

/// A deletion is not refused because it has much to report: reports that do not fit into the datagram (beyond
/// some 600 rules) are left out.
fn encode_deletion(mut usage_reports: Vec<UsageReport>, cp_seid: u64, sequence: u32) -> Vec<u8> {
    loop {
        let response = SessionDeletionResponse {
            outcome: Outcome::ACCEPTED,
            usage_reports,
        };
        match response.encode(cp_seid, sequence) {
            Ok(datagram) => return datagram,
            Err(_) if response.usage_reports.is_empty() => return Vec::new(),
            Err(error) => {
                usage_reports = response.usage_reports;
                usage_reports.truncate(usage_reports.len() / 2);
                tracing::error!(%error, kept = usage_reports.len(), "not all usage reports fit into one response");
            }
        }
    }
}

/// Tells whoever asked that nothing has changed, and why.
pub(super) async fn refuse(controller: &Controller, asked: Asked, refusal: &Refusal) {
    let Asked { key, cp_seid } = asked;
    let cp_seid = match cp_seid {
        CpSeid::Told(seid) => seid,
        CpSeid::Of(id) => controller.sessions.get(id).map_or(0, |entry| entry.record.cp.seid),
        CpSeid::Unknown => 0,
    };
    tracing::info!(peer = %key.peer, message_type = key.message_type, %refusal, "request refused");
    let outcome = Outcome::from(refusal);
    let response = match MsgType::from(key.message_type) {
        MsgType::SessionEstablishmentRequest => {
            let node_id = controller.node_id.clone();
            SessionEstablishmentResponse {
                node_id,
                outcome,
                up_fseid: None,
                created_pdrs: Vec::new(),
            }
            .encode(cp_seid, key.sequence)
        }
        MsgType::SessionModificationRequest => {
            let (created_pdrs, updated_pdrs, usage_reports) = (Vec::new(), Vec::new(), Vec::new());
            SessionModificationResponse {
                outcome,
                created_pdrs,
                updated_pdrs,
                usage_reports,
            }
            .encode(cp_seid, key.sequence)
        }
        _ => SessionDeletionResponse {
            outcome,
            usage_reports: Vec::new(),
        }
        .encode(cp_seid, key.sequence),
    };
    if let Ok(response) = response {
        controller.transport.respond(key, response, Some(refusal.cause)).await;
    }
}
