//! A PFCP session request's way, from the queue to the answer; read downwards.
//!
//! ```text
//! decode ─▶ duplicate? ─▶ find session ─▶ validate ─▶ plan ─▶ apply (with undo) ─▶ commit ─▶ answer
//! └─ pfcp/transport ─┘    └───── `prepare`, one by one ──────┘ └───── `Batch::finish`, together ──────┘
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
//!
//! The steps are here; `prepare` and `answer` hold what each of them says about each kind of request.

mod answer;
mod prepare;

use crate::context_push;
use crate::controller::Controller;
use crate::pfcp::duplicates::RequestKey;
use crate::pfcp::node;
use crate::pfcp::transport::{Request, Unreadable};
use crate::pfcp::wire::incoming::SessionModificationRequest;
use crate::pfcp::wire::{Cause, Message, Refusal};
use crate::planes::{Measured, PlaneError, Step};
use crate::sessions::allocations::Reserved;
use crate::sessions::{Adapted, Entry, SessionRecord};
use crate::store::Write;
use answer::{refuse, settle};
use rs_pfcp::message::MsgType;
use std::sync::Arc;
use upf_model::SessionId;
use upf_model::validate::Plan;

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
        if batch.works.len() == BATCH || session.is_some_and(|id| batch.concerns(id)) {
            batch.finish(controller).await;
        }
        let from = Asked {
            key: request.key(),
            cp_seid: cp_seid_of(&request, session),
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
    match prepare::modification(controller, Some(id), &request) {
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
    cp_seid: CpSeid,
}

/// The SEID that goes into the header of a refusal.
#[derive(Debug, Clone, Copy)]
enum CpSeid {
    /// The request says it.
    Told(u64),
    /// The session's.
    Of(SessionId),
    /// 0, as TS 29.244 7.2.2.4.2 has it for sessions that are not there.
    Unknown,
}

fn cp_seid_of(request: &Request, session: Option<SessionId>) -> CpSeid {
    match &request.contents {
        Ok(Message::SessionEstablishmentRequest(r)) => CpSeid::Told(r.cp_fseid.seid),
        Err(Unreadable { cp_fseid: Some(cp), .. }) => CpSeid::Told(cp.seid),
        _ => session.map_or(CpSeid::Unknown, CpSeid::Of),
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
        adapted: Arc<Adapted>,
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
        Message::SessionEstablishmentRequest(request) => prepare::establishment(controller, request, pending),
        Message::SessionModificationRequest(request) if session.is_some() => {
            prepare::modification(controller, session, request)
        }
        _ => match session {
            Some(id) => Ok(Work {
                asked: None,
                intent: Intent::Delete { id },
                steps: Vec::new(),
            }),
            None => Err(prepare::unknown_session(controller, request.peer.ip())),
        },
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
        PlaneError::Behind(_) => Cause::PfcpEntityInCongestion,
        PlaneError::Away(_) | PlaneError::Refused { .. } | PlaneError::Late(_) | PlaneError::Unknown(_) => {
            Cause::SystemFailure
        }
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

/// A request that takes no effect after all.
#[derive(Debug)]
struct Failed {
    refusal: Refusal,
    intent: Intent,
    /// What the data planes have done and are to undo.
    applied: Vec<Step>,
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
                Err(error) => Err(Box::new(Failed {
                    refusal: of_plane(&error),
                    intent: work.intent,
                    applied: Vec::new(),
                })),
            };
            match result {
                Ok(finished) => done.push(finished),
                Err(failed) => {
                    let Failed {
                        refusal,
                        intent,
                        applied,
                    } = *failed;
                    if !applied.is_empty() {
                        controller.planes.undo_all(&Vec::from_iter(&applied)).await;
                    }
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
    let steps: Vec<&Step> = works.iter().flat_map(|work| &work.steps).collect();
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
                controller.planes.apply(&Vec::from_iter(&work.steps)).await.map(drop)
            }
            outcome => outcome.clone(),
        };
        outcomes.push((work, outcome));
    }
    outcomes
}

/// Gives back what a request had reserved that takes no effect. A data plane that is late with it, or with its undo, may
/// have it for a while: then the slot is kept back.
fn abandon(controller: &mut Controller, intent: Intent) {
    match intent {
        Intent::Establish { record, reserved, .. } => {
            controller.allocations.roll_back(reserved);
            let confirmed = controller.planes.are_settled();
            controller.sessions.give_back(record.session.id, confirmed);
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
                controller.sessions.put(&entry);
                context_push::session_changed(controller, &entry.record);
                if is_new {
                    controller.metrics.session_established();
                }
            }
            Effect::Remove { id } => {
                if let Some(entry) = controller.sessions.remove(id, confirmed) {
                    controller.allocations.release(&entry.record.holdings);
                    controller.metrics.session_removed("deletion-request");
                }
                context_push::session_ended(controller, id);
            }
        }
        if let Some(asked) = d.asked {
            controller.transport.respond(asked.key, d.response, Some(d.cause)).await;
        }
    }
    controller.metrics.set_sessions(controller.sessions.len());
}

async fn take_back(controller: &mut Controller, done: Vec<Done>) {
    let steps: Vec<&Step> = done.iter().flat_map(|d| &d.steps).collect();
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
                let confirmed = controller.planes.are_settled();
                controller.sessions.give_back(entry.record.session.id, confirmed);
            }
        }
        if let Some(asked) = d.asked {
            let refusal = without_ie(Cause::SystemFailure, "the session store failed");
            refuse(controller, asked, &refusal).await;
        }
    }
}
