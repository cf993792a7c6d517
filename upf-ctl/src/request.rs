//! A PFCP session request's way, from the queue to the answer; read downwards.
//!
//! ```text
//! decode ─▶ duplicate? ─▶ find session ─▶ validate ─▶ plan ─▶ apply (with undo) ─▶ commit ─▶ answer
//! └─ pfcp/transport ─┘    └──────── [prepare], one by one ───┘ └────── [Batch::finish], together ──────┘
//! ```
//!
//! A request takes effect whole, in every data plane, in the store and in the session table, or not at all; the
//! answer says which. Retransmissions were recognised before they came here.
//!
//! Requests that have queued up while others were being served are served together, up to [`BATCH`]: they share
//! one round trip to each data plane and one transaction of the store, so that the rate of requests is not
//! bound by the time of either. Each keeps its own fate: when a data plane refuses the batch, its requests are
//! applied one by one. Two requests for one session are never in one batch, so the second is validated against
//! what the first has made of the session.

use crate::controller::Controller;
use crate::pfcp::duplicates::RequestKey;
use crate::pfcp::node;
use crate::pfcp::transport::{Request, Unreadable};
use crate::pfcp::wire::incoming::{SessionEstablishmentRequest, SessionModificationRequest};
use crate::pfcp::wire::outgoing::{
    Outcome, SessionDeletionResponse, SessionEstablishmentResponse, SessionModificationResponse, UsageReport,
    UsageReportTrigger,
};
use crate::pfcp::wire::{Cause, FSeid, Message, Refusal, TooLong};
use crate::plan;
use crate::planes::{Measured, PlaneError, Step};
use crate::sessions::allocations::Reserved;
use crate::sessions::{Entry, LastAnswer, SessionRecord};
use crate::store::Write;
use crate::usage::{UsageAccount, now_ms};
use rs_pfcp::ie::IeType;
use rs_pfcp::message::MsgType;
use std::net::IpAddr;
use upf_model::SessionId;
use upf_model::validate::{self, Plan};

/// The most requests served together.
pub const BATCH: usize = 64;

/// Serves requests that have queued up, in order.
pub async fn serve(controller: &mut Controller, requests: Vec<Request>) {
    let mut batch = Batch::default();
    for request in requests {
        if !is_session_request(&request) {
            batch.finish(controller).await;
            node::serve(controller, request).await;
            continue;
        }
        let session = request.header.seid.and_then(|seid| controller.sessions.by_seid(seid));
        let session = session.map(|entry| entry.record.session.id);
        if batch.works.len() == BATCH || session.is_some_and(|id| batch.concerns(id)) {
            batch.finish(controller).await;
        }
        let from = Asked {
            key: request.key(),
            cp_seid: cp_seid_of(controller, &request),
        };
        let mut prepared = prepare(controller, &request, session, batch.works.len());
        if prepared.is_err() && batch.works.iter().any(|work| work.removal().is_some()) {
            // It may want what a deletion before it is about to give back.
            batch.finish(controller).await;
            prepared = prepare(controller, &request, session, 0);
        }
        match prepared {
            Ok(work) => batch.works.push(Work {
                asked: Some(from),
                ..work
            }),
            Err(refusal) => refuse(controller, from, &refusal).await,
        }
    }
    batch.finish(controller).await;
}

/// Changes a session because of an SMF's answer to a report (Update BAR, DROBU): nobody waits for an outcome.
pub async fn modify_unasked(controller: &mut Controller, id: SessionId, request: SessionModificationRequest) {
    match prepare_modification(controller, Some(id), &request) {
        Ok(work) => Batch { works: vec![work] }.finish(controller).await,
        Err(refusal) => tracing::warn!(session = %id, %refusal, "the answer to a session report cannot be followed"),
    }
}

fn is_session_request(request: &Request) -> bool {
    matches!(
        MsgType::from(request.header.message_type),
        MsgType::SessionEstablishmentRequest | MsgType::SessionModificationRequest | MsgType::SessionDeletionRequest
    )
}

/// By whom an answer is awaited.
#[derive(Debug, Clone, Copy)]
struct Asked {
    key: RequestKey,
    /// The SEID that goes into the header of the response; 0 if it is not known.
    cp_seid: u64,
}

fn cp_seid_of(controller: &Controller, request: &Request) -> u64 {
    let established = request.header.seid.and_then(|seid| controller.sessions.by_seid(seid));
    match &request.contents {
        Ok(Message::SessionEstablishmentRequest(r)) => r.cp_fseid.seid,
        Err(Unreadable { cp_fseid: Some(cp), .. }) => cp.seid,
        _ => established.map_or(0, |entry| entry.record.cp.seid),
    }
}

// --- find session, validate, plan ---------------------------------------------------------------------------

/// A request that may take effect: everything is decided, what it needs is reserved, nothing is changed yet.
#[derive(Debug)]
struct Work {
    asked: Option<Asked>,
    intent: Intent,
    /// What the data planes are to do; empty for deletions, which go their own way, and where no rule changes.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Intent {
    Establish {
        record: SessionRecord,
        reserved: Reserved,
        plan: Plan,
    },
    Modify {
        record: SessionRecord,
        reserved: Reserved,
        plan: Plan,
        query_reference: Option<u32>,
    },
    Delete {
        id: SessionId,
    },
}

impl Intent {
    fn session(&self) -> SessionId {
        match self {
            Self::Establish { record, .. } | Self::Modify { record, .. } => record.session.id,
            Self::Delete { id } => *id,
        }
    }
}

/// `session`: the one whose SEID is in the header. `pending`: how many requests are prepared before this one.
fn prepare(
    controller: &mut Controller,
    request: &Request,
    session: Option<SessionId>,
    pending: usize,
) -> Result<Work, Refusal> {
    match request
        .contents
        .as_ref()
        .map_err(|unreadable| unreadable.refusal.clone())?
    {
        Message::SessionEstablishmentRequest(request) => prepare_establishment(controller, request, pending),
        Message::SessionModificationRequest(request) if session.is_some() => {
            prepare_modification(controller, session, request)
        }
        _ => match session {
            Some(id) => Ok(Work {
                asked: None,
                intent: Intent::Delete { id },
                steps: Vec::new(),
            }),
            None => Err(unknown_session(controller, request.peer.ip())),
        },
    }
}

fn unknown_session(controller: &Controller, peer: IpAddr) -> Refusal {
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

fn prepare_establishment(
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
            controller.sessions.give_back(id);
            Err(refusal)
        }
    }
}

fn prepare_modification(
    controller: &mut Controller,
    session: Option<SessionId>,
    request: &SessionModificationRequest,
) -> Result<Work, Refusal> {
    let Some(current) = session.and_then(|id| controller.sessions.get(id)) else {
        return Err(without_ie(Cause::SessionContextNotFound, "there is no such session"));
    };
    let current = &current.record;
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
        let steps = plan::modification(&current.session, &plan);
        if !steps.is_empty() {
            controller
                .planes
                .check(&steps, sessions)
                .map_err(|error| of_plane(&error))?;
        }
        Ok((plan, steps))
    });
    match planned {
        Ok((plan, steps)) => {
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

fn without_ie(cause: Cause, message: &str) -> Refusal {
    Refusal {
        cause,
        offending_ie: None,
        failed_rule: None,
        message: message.into(),
    }
}

/// What a data plane's error is to an SMF.
fn of_plane(error: &PlaneError) -> Refusal {
    let cause = match error {
        PlaneError::Full { .. } => Cause::NoResourcesAvailable,
        PlaneError::Away(_) | PlaneError::Refused { .. } | PlaneError::Unknown(_) => Cause::SystemFailure,
    };
    without_ie(cause, &error.to_string())
}

// --- apply, commit, answer ----------------------------------------------------------------------------------

/// Requests that are prepared and will take effect together.
#[derive(Debug, Default)]
struct Batch {
    works: Vec<Work>,
}

/// A request that every data plane has followed, with what is left to write and to say.
#[derive(Debug)]
struct Done {
    asked: Option<Asked>,
    steps: Vec<Step>,
    cause: Cause,
    response: Vec<u8>,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    Put {
        entry: Box<Entry>,
        reserved: Reserved,
        is_new: bool,
    },
    Remove {
        id: SessionId,
    },
}

impl Batch {
    fn concerns(&self, id: SessionId) -> bool {
        self.works.iter().any(|work| work.intent.session() == id)
    }

    /// Takes the prepared requests through the data planes, the store and the table, and answers them.
    async fn finish(&mut self, controller: &mut Controller) {
        let works = std::mem::take(&mut self.works);
        if works.is_empty() {
            return;
        }
        let measured_before = measure_ending_rules(controller, &works).await;

        let removals: Vec<SessionId> = works.iter().filter_map(Work::removal).collect();
        let (measured_last, confirmed) = if removals.is_empty() {
            (Vec::new(), true)
        } else {
            controller.planes.remove(&removals).await
        };
        let applied = apply(controller, works).await;

        let mut done = Vec::with_capacity(applied.len());
        for (work, outcome) in applied {
            let asked = work.asked;
            let result = match outcome {
                Ok(()) => settle(controller, work, &measured_before, &measured_last),
                Err(error) => Err((of_plane(&error), work.intent)),
            };
            match result {
                Ok(finished) => done.push(finished),
                Err((refusal, intent)) => {
                    abandon(controller, intent);
                    if let Some(asked) = asked {
                        refuse(controller, asked, &refusal).await;
                    }
                }
            }
        }
        commit(controller, done, confirmed).await;
    }
}

impl Work {
    fn removal(&self) -> Option<SessionId> {
        match self.intent {
            Intent::Delete { id } => Some(id),
            Intent::Establish { .. } | Intent::Modify { .. } => None,
        }
    }
}

/// The last counts of rules that a modification ends or asks about. What passes between this and the change of
/// a removed rule (some microseconds) is counted by nobody.
async fn measure_ending_rules(controller: &Controller, works: &[Work]) -> Vec<Measured> {
    let asked_for = works.iter().filter_map(|work| match &work.intent {
        Intent::Modify { plan, .. } if !plan.queried_urrs.is_empty() || !plan.removed_urrs.is_empty() => {
            Some(plan.session.id)
        }
        _ => None,
    });
    let sessions: Vec<SessionId> = asked_for.collect();
    if sessions.is_empty() {
        Vec::new()
    } else {
        controller.planes.usage(&sessions).await
    }
}

/// Applies all in one go, or, if that is refused, each on its own.
async fn apply(controller: &Controller, works: Vec<Work>) -> Vec<(Work, Result<(), PlaneError>)> {
    let steps: Vec<Step> = works.iter().flat_map(|work| work.steps.iter().cloned()).collect();
    let together = if steps.is_empty() {
        Ok(())
    } else {
        controller.planes.apply(&steps).await.map(drop)
    };
    let alone = works.iter().filter(|work| !work.steps.is_empty()).count() == 1;
    let mut outcomes = Vec::with_capacity(works.len());
    for work in works {
        let outcome = match &together {
            _ if work.steps.is_empty() => Ok(()),
            Err(PlaneError::Refused { .. } | PlaneError::Full { .. }) if !alone => {
                controller.planes.apply(&work.steps).await.map(drop)
            }
            outcome => outcome.clone(),
        };
        outcomes.push((work, outcome));
    }
    outcomes
}

/// The data planes have followed: works out the session as it is now, its usage, and the response.
fn settle(
    controller: &Controller,
    work: Work,
    measured_before: &[Measured],
    measured_last: &[Measured],
) -> Result<Done, (Refusal, Intent)> {
    let Work { asked, intent, steps } = work;
    let (sequence, cp_seid) = asked.map_or((0, 0), |a| (a.key.sequence, a.cp_seid));
    let now = now_ms();
    match intent {
        Intent::Establish { record, reserved, plan } => {
            let mut usage = UsageAccount::default();
            usage.follow(&record.session.urrs, &[], now);
            let peer = asked.map(|a| a.key.peer.ip());
            let response = SessionEstablishmentResponse {
                node_id: controller.node_id.clone(),
                outcome: Outcome::ACCEPTED,
                up_fseid: peer.map(|peer| FSeid::at(record.session.seid.0, controller.transport.address_towards(peer))),
                created_pdrs: plan::chosen(&plan.created_pdrs),
            };
            match response.encode(cp_seid, sequence) {
                Ok(response) => {
                    let record = answered(record, asked, &response, now);
                    let entry = Box::new(Entry::new(record, usage));
                    let effect = Effect::Put {
                        entry,
                        reserved,
                        is_new: true,
                    };
                    Ok(Done {
                        asked,
                        steps,
                        cause: Cause::RequestAccepted,
                        response,
                        effect,
                    })
                }
                Err(error) => Err((too_long(error), Intent::Establish { record, reserved, plan })),
            }
        }
        Intent::Modify {
            record,
            reserved,
            plan,
            query_reference,
        } => {
            let before = controller.sessions.get(record.session.id);
            let mut usage = before.map(|entry| entry.usage.clone()).unwrap_or_default();
            take_in(&mut usage, record.session.id, measured_before);
            let urrs = before
                .map(|entry| entry.record.session.urrs.as_slice())
                .unwrap_or_default();
            let mut usage_reports = Vec::new();
            for urr in urrs {
                let trigger = if plan.removed_urrs.contains(&urr.id) {
                    UsageReportTrigger::TERMINATION
                } else if plan.queried_urrs.contains(&urr.id) {
                    UsageReportTrigger::IMMEDIATE
                } else {
                    continue;
                };
                let report = usage.report(urr, trigger, now);
                usage_reports.extend(report.map(|r| UsageReport {
                    query_urr_reference: query_reference,
                    ..r
                }));
            }
            usage.follow(&record.session.urrs, &plan.removed_urrs, now);
            let response = SessionModificationResponse {
                outcome: Outcome::ACCEPTED,
                created_pdrs: plan::chosen(&plan.created_pdrs),
                updated_pdrs: plan::chosen(&plan.updated_pdrs),
                usage_reports,
            };
            match response.encode(record.cp.seid, sequence) {
                Ok(response) => {
                    let record = answered(record, asked, &response, now);
                    let mut entry = Box::new(Entry::new(record, usage));
                    if let Some(before) = before {
                        entry.report_outstanding = before.report_outstanding;
                        entry.downlink_reported = before.downlink_reported;
                    }
                    let effect = Effect::Put {
                        entry,
                        reserved,
                        is_new: false,
                    };
                    Ok(Done {
                        asked,
                        steps,
                        cause: Cause::RequestAccepted,
                        response,
                        effect,
                    })
                }
                Err(error) => Err((
                    too_long(error),
                    Intent::Modify {
                        record,
                        reserved,
                        plan,
                        query_reference,
                    },
                )),
            }
        }
        Intent::Delete { id } => {
            let Some(entry) = controller.sessions.get(id) else {
                return Err((
                    without_ie(Cause::SessionContextNotFound, "there is no such session"),
                    intent,
                ));
            };
            let mut usage = entry.usage.clone();
            take_in(&mut usage, id, measured_last);
            let urrs = entry.record.session.urrs.iter();
            let usage_reports = urrs.filter_map(|urr| usage.report(urr, UsageReportTrigger::TERMINATION, now));
            let response = encode_deletion(usage_reports.collect(), cp_seid, sequence);
            Ok(Done {
                asked,
                steps,
                cause: Cause::RequestAccepted,
                response,
                effect: Effect::Remove { id },
            })
        }
    }
}

fn take_in(usage: &mut UsageAccount, session: SessionId, measured: &[Measured]) {
    for measured in measured.iter().filter(|m| m.usage.session == session) {
        usage.measure(measured);
    }
}

fn answered(record: SessionRecord, asked: Option<Asked>, response: &[u8], now: u64) -> SessionRecord {
    let last_answer = asked.map(|asked| LastAnswer {
        peer: asked.key.peer,
        message_type: asked.key.message_type,
        sequence: asked.key.sequence,
        at_ms: now,
        datagram: response.to_vec(),
    });
    SessionRecord {
        last_answer: last_answer.or(record.last_answer),
        ..record
    }
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
            Err(error) => {
                usage_reports = response.usage_reports;
                if usage_reports.is_empty() {
                    return Vec::new();
                }
                usage_reports.truncate(usage_reports.len() / 2);
                tracing::error!(%error, kept = usage_reports.len(), "not all usage reports fit into one response");
            }
        }
    }
}

/// Gives back what a request had reserved that takes no effect.
fn abandon(controller: &mut Controller, intent: Intent) {
    match intent {
        Intent::Establish { record, reserved, .. } => {
            controller.allocations.roll_back(reserved);
            controller.sessions.give_back(record.session.id);
        }
        Intent::Modify { reserved, .. } => controller.allocations.roll_back(reserved),
        Intent::Delete { .. } => {}
    }
}

/// Store first, then memory, then the answers. If the store fails, the data planes go back to how it was.
async fn commit(controller: &mut Controller, done: Vec<Done>, confirmed: bool) {
    let writes = done.iter().flat_map(|d| match &d.effect {
        Effect::Put { entry, .. } => {
            let id = entry.record.session.id;
            [
                Some(Write::PutSession(&entry.record)),
                Some(Write::PutUsage(id, &entry.usage)),
            ]
        }
        Effect::Remove { id } => [Some(Write::RemoveSession(*id)), None],
    });
    let stored = controller.store.commit(writes.flatten());
    if let Err(error) = stored {
        tracing::error!(%error, requests = done.len(), "the session store failed; the requests are refused");
        return take_back(controller, done).await;
    }
    controller.planes.commit();
    for d in done {
        match d.effect {
            Effect::Put {
                entry,
                reserved,
                is_new,
            } => {
                controller.allocations.commit(reserved);
                controller.sessions.put(*entry);
                if is_new {
                    controller.metrics.session_established();
                }
            }
            Effect::Remove { id } => {
                if let Some(entry) = controller.sessions.remove(id, confirmed) {
                    controller.allocations.release(&entry.record.holdings);
                    controller.metrics.session_removed("deletion-request");
                }
            }
        }
        if let Some(asked) = d.asked {
            controller.transport.respond(asked.key, d.response, Some(d.cause)).await;
        }
    }
    controller.metrics.set_sessions(controller.sessions.len());
}

async fn take_back(controller: &mut Controller, done: Vec<Done>) {
    let steps: Vec<Step> = done.iter().flat_map(|d| d.steps.iter().cloned()).collect();
    if !steps.is_empty() {
        controller.planes.undo_all(&steps).await;
    }
    if done.iter().any(|d| matches!(d.effect, Effect::Remove { .. })) {
        controller.planes.iter().for_each(|plane| plane.distrust());
    }
    for d in done {
        if let Effect::Put {
            entry,
            reserved,
            is_new,
        } = d.effect
        {
            controller.allocations.roll_back(reserved);
            if is_new {
                controller.sessions.give_back(entry.record.session.id);
            }
        }
        if let Some(asked) = d.asked {
            let refusal = without_ie(Cause::SystemFailure, "the session store failed");
            refuse(controller, asked, &refusal).await;
        }
    }
}

async fn refuse(controller: &Controller, asked: Asked, refusal: &Refusal) {
    let Asked { key, cp_seid } = asked;
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
            let response = SessionModificationResponse {
                outcome,
                created_pdrs: Vec::new(),
                updated_pdrs: Vec::new(),
                usage_reports: Vec::new(),
            };
            response.encode(cp_seid, key.sequence)
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
