//! CAMARA Quality-On-Demand 1.1: a session is one fact, or one for each family of its server, with the key
//! `qod.UUID` (`qod.UUID.N`) and the profile's name as its value.
//!
//! | module | owns |
//! | --- | --- |
//! | [`types`] | what is said on the wire |
//! | [`flows`] | devices and servers as subjects of facts |
//! | [`book`] | the sessions and their status |
//! | [`profiles`] | QoS Profiles |
//! | [`notify`] | CloudEvents to sinks |
//!
//! | the controller says | status |
//! | --- | --- |
//! | `InEffect`, of every fact | `AVAILABLE`; from now on the duration counts |
//! | `Kept`, `Delayed` | `REQUESTED`: the device is not here yet, or a data plane could not follow |
//! | `Refused` | 422 `SERVICE_NOT_APPLICABLE`, and nothing is kept |
//! | `Expired` | `UNAVAILABLE`, `DURATION_EXPIRED` |
//! | `Preempted`, `SessionEnded`, `Removed` by another way | `UNAVAILABLE`, `NETWORK_TERMINATED` |

pub mod book;
pub mod flows;
pub mod notify;
pub mod profiles;
pub mod types;

use super::Api;
use super::clients::Client;
use super::facts::{QOD_PREFIX, decode, now_ms};
use super::refusal::Refusal;
use crate::context_push::{Command, Happened, Outcome, What};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use book::{Note, QodSession};
use qos::{Fact, Key, Subject};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast;
use types::{CreateSession, ExtendSessionDuration, QosStatus, RetrieveSessionsInput, SessionInfo, StatusInfo};
use uuid::Uuid;

/// How often sessions are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// How long after its time a session may go without our having been told.
const GRACE_MS: u64 = 10_000;
/// How long until the controller is asked again for the sessions.
const LEARN_AGAIN: Duration = Duration::from_secs(1);

fn keys(id: Uuid, count: usize) -> Result<Vec<Key>, Refusal> {
    let text = |index: usize| match count {
        1 => format!("{QOD_PREFIX}{id}"),
        _ => format!("{QOD_PREFIX}{id}.{index}"),
    };
    let keys = (0..count).map(|index| Key::try_from(text(index)));
    keys.collect::<Result<_, _>>()
        .map_err(|error| Refusal::unavailable(error.to_string()))
}

fn id_of(key: &Key) -> Option<Uuid> {
    let rest = key.as_str().strip_prefix(QOD_PREFIX)?;
    rest.split('.').next()?.parse().ok()
}

fn session_id(text: &str) -> Result<Uuid, Refusal> {
    let parsed = text.parse();
    parsed.map_err(|_| Refusal::invalid("sessionId: expected a UUID"))
}

/// `POST /quality-on-demand/v1/sessions`
pub async fn create(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request: CreateSession = decode(&body)?;
    let created_ms = now_ms();
    request.check(created_ms)?;
    if let Some(sink) = &request.sink {
        api.book.notifier.check(sink)?;
    }
    let missing = || Refusal::unprocessable("MISSING_IDENTIFIER", "device: expected, since no token names one");
    let (user, device) = flows::user(request.device.as_ref().ok_or_else(missing)?)?;
    let subjects = flows::subjects(&request, &user)?;
    let duration_s = types::seconds("duration", request.duration)?;
    let durations = api.durations(&request.qos_profile).await?;
    if !durations.contains(&duration_s) {
        let (least, most) = durations.into_inner();
        let message = format!("duration: expected {least} to {most} seconds for this profile, found {duration_s}");
        let code = "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, code, message));
    }

    let id = Uuid::new_v4();
    let names = subjects.clone().into_iter().zip(keys(id, subjects.len())?).collect();
    let note = Note {
        client: client.name,
        request,
        device,
        created_ms,
        started_ms: None,
        duration_s,
    };
    let session = QodSession::new(note, names);
    let (facts, names) = (session.facts(), session.names());
    api.book.enter(id, session)?;
    // From here on the session must not stay in the book without its facts, nor the other way round, even if the
    // client hangs up: so it is done beside the request.
    let putting = api.clone();
    let put = tokio::spawn(async move {
        let outcomes = putting.contexts.put(facts).await;
        let refused = match &outcomes {
            Ok(outcomes) => outcomes.iter().find_map(refusal),
            Err(refusal) => Some(refusal.clone()),
        };
        if let Some(refusal) = refused {
            putting.book.sessions().remove(&id);
            // After a refusal of one fact, the others; after silence, whatever was done since.
            if let Err(error) = putting.contexts.remove(names).await {
                tracing::warn!(%id, ?error, "facts of a refused session may be left");
            }
            return Err(refusal);
        }
        putting.learn_outcomes(id, &outcomes?);
        Ok(())
    });
    put.await
        .map_err(|_| Refusal::unavailable("the session could not be made"))??;
    let Some(shown) = api.book.sessions().get(&id).map(|session| session.shown(id)) else {
        return Err(Refusal::conflict("the session was deleted while it was made"));
    };
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/quality-on-demand/v1/sessions/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn refusal(outcome: &Outcome) -> Option<Refusal> {
    match outcome {
        Outcome::Refused { reason } => Some(Refusal::unprocessable("SERVICE_NOT_APPLICABLE", reason.clone())),
        _ => None,
    }
}

/// `GET /quality-on-demand/v1/sessions/{sessionId}`
pub async fn get(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<SessionInfo>, Refusal> {
    let id = session_id(&id)?;
    Ok(Json(api.book.of_client(id, &client.name)?.shown(id)))
}

/// `DELETE /quality-on-demand/v1/sessions/{sessionId}`
pub async fn delete(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = session_id(&id)?;
    let session = api.book.of_client(id, &client.name)?;
    // Out of the book first: what the controller then says of the facts is not the network's doing.
    let Some(mut taken) = api.book.sessions().remove(&id) else {
        return Err(Refusal::not_found("there is no such session"));
    };
    if let Err(refusal) = api.contexts.remove(session.names()).await {
        // Whether they are gone is not known; the session stays, so that it can be deleted again.
        api.book.sessions().insert(id, taken);
        return Err(refusal);
    }
    if taken.status == QosStatus::Available {
        taken.status = QosStatus::Unavailable;
        taken.info = Some(StatusInfo::DeleteRequested);
        api.book.tell(id, &taken);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /quality-on-demand/v1/sessions/{sessionId}/extend`
pub async fn extend(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<SessionInfo>, Refusal> {
    let id = session_id(&id)?;
    let request: ExtendSessionDuration = decode(&body)?;
    let more = types::seconds("requestedAdditionalDuration", request.requested_additional_duration)?;
    let session = api.book.of_client(id, &client.name)?;
    let not_allowed = |why: &str| {
        let code = "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED";
        Refusal::new(
            StatusCode::CONFLICT,
            code,
            format!("Extending the session duration is not allowed: {why}"),
        )
    };
    if session.status != QosStatus::Available {
        return Err(not_allowed("the session must be in the AVAILABLE state"));
    }
    let durations = api.durations(&session.note.request.qos_profile).await?;
    let granted = (session.note.duration_s + more)
        .min(*durations.end())
        .max(session.note.duration_s);

    let change = |from: u64, to: u64| {
        let mut sessions = api.book.sessions();
        let current = sessions
            .get_mut(&id)
            .filter(|s| s.status == QosStatus::Available && s.note.duration_s == from)?;
        current.note.duration_s = to;
        current.expires_ms = current.expires_ms - from * 1_000 + to * 1_000;
        Some(current.clone())
    };
    // In the book before it is done: an expiry that was on its way is then known by its older time, and is none.
    let changed = change(session.note.duration_s, granted);
    let changed = changed.ok_or_else(|| not_allowed("the session has changed meanwhile"))?;
    let outcomes = api.contexts.put(changed.facts()).await;
    let failed = match &outcomes {
        Ok(outcomes) => outcomes
            .iter()
            .find_map(refusal)
            .map(|refusal| not_allowed(&refusal.message)),
        Err(refusal) => Some(refusal.clone()),
    };
    if let Some(refusal) = failed {
        change(granted, session.note.duration_s);
        return Err(refusal);
    }
    let now = api
        .book
        .sessions()
        .get(&id)
        .filter(|s| s.status == QosStatus::Available)
        .map(|s| s.shown(id));
    match now {
        Some(shown) => Ok(Json(shown)),
        None => {
            // It ended meanwhile, and putting its facts must not revive it.
            api.contexts.remove(changed.names()).await?;
            Err(not_allowed("the session has ended meanwhile"))
        }
    }
}

/// `POST /quality-on-demand/v1/retrieve-sessions`
pub async fn retrieve(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    body: Bytes,
) -> Result<Json<Vec<SessionInfo>>, Refusal> {
    let input: RetrieveSessionsInput = decode(&body)?;
    let missing = || Refusal::unprocessable("MISSING_IDENTIFIER", "device: expected, since no token names one");
    let (wanted, _) = flows::user(&input.device.ok_or_else(missing)?)?;
    let sessions = api.book.sessions();
    let of_device = |session: &&QodSession| {
        let about = |part: &book::Part| matches!(&part.name.0, Subject::Flow(user, _) if *user == wanted);
        session.note.client == client.name && session.parts.iter().any(about)
    };
    let found = sessions.iter().filter(|(_, session)| of_device(session));
    let mut shown: Vec<(u64, SessionInfo)> = found.map(|(id, s)| (s.note.created_ms, s.shown(*id))).collect();
    shown.sort_by(|a, b| (a.0, &a.1.session_id).cmp(&(b.0, &b.1.session_id)));
    Ok(Json(shown.into_iter().map(|(_, info)| info).collect()))
}

impl Api {
    /// How long a session of this profile may be.
    async fn durations(&self, profile: &str) -> Result<std::ops::RangeInclusive<u64>, Refusal> {
        let profiles = self.profiles().await?;
        let found = profiles.into_iter().find(|known| known.name == profile);
        found
            .map(|profile| profile.durations)
            .ok_or_else(|| Refusal::invalid("qosProfile: expected one of those that /qos-profiles/v1 names"))
    }

    /// What became of all facts of a session, in order.
    fn learn_outcomes(&self, id: Uuid, outcomes: &[Outcome]) {
        let mut sessions = self.book.sessions();
        let Some(session) = sessions.get_mut(&id) else { return };
        for (part, outcome) in session.parts.iter_mut().zip(outcomes) {
            part.in_effect |= matches!(outcome, Outcome::InEffect { .. });
        }
        if session.status == QosStatus::Requested && session.parts.iter().all(|part| part.in_effect) {
            session.status = QosStatus::Available;
            self.book.tell(id, session);
        }
    }

    /// What follows from one fact is in effect at last: the time of the session begins.
    async fn became_available(&self, id: Uuid, fact: &Fact) {
        let started = {
            let mut sessions = self.book.sessions();
            let Some(session) = sessions.get_mut(&id).filter(|s| s.status == QosStatus::Requested) else {
                return;
            };
            let same = |part: &&mut book::Part| part.name.0 == fact.about && part.name.1 == fact.key;
            if let Some(part) = session.parts.iter_mut().find(same) {
                part.in_effect = true;
            }
            if !session.parts.iter().all(|part| part.in_effect) {
                return;
            }
            let now = now_ms();
            session.status = QosStatus::Available;
            session.note.started_ms = Some(now);
            session.expires_ms = now + session.note.duration_s * 1_000;
            self.book.tell(id, session);
            session.facts()
        };
        if let Err(error) = self.contexts.put(started).await {
            tracing::warn!(%id, ?error, "a session ends earlier than it should: its time could not be set");
        }
    }

    async fn ended(&self, id: Uuid, info: StatusInfo) {
        let left = self.book.end(id, info, now_ms());
        if let Some(names) = left
            && let Err(error) = self.contexts.remove(names).await
        {
            tracing::warn!(%id, ?error, "facts of a session that has ended may be left");
        }
    }

    async fn heard(&self, happened: Happened) {
        let fact = happened.fact;
        let Some(id) = id_of(&fact.key) else { return };
        let known = self.book.sessions().get(&id).map(|session| session.expires_ms);
        match happened.what {
            What::InEffect => self.became_available(id, &fact).await,
            // One of before an extension is none.
            What::Expired if known.is_some_and(|expires| fact.expires_ms.is_some_and(|at| at < expires)) => {}
            What::Expired => {
                self.adopt(&[fact]);
                self.ended(id, StatusInfo::DurationExpired).await;
            }
            What::Preempted(_) | What::SessionEnded => {
                self.adopt(&[fact]);
                self.ended(id, StatusInfo::NetworkTerminated).await;
            }
            What::Removed => self.ended(id, StatusInfo::NetworkTerminated).await,
        }
    }

    /// Enters a session of before a restart by its facts, unless it is known.
    fn adopt(&self, facts: &[Fact]) {
        let Some(id) = facts.first().and_then(|fact| id_of(&fact.key)) else {
            return;
        };
        let note = facts
            .iter()
            .find_map(|fact| serde_json::from_str::<Note>(fact.note.as_deref()?).ok());
        let Some(note) = note else {
            tracing::warn!(%id, "facts of a session say nothing of it: left alone");
            return;
        };
        let mut session = QodSession::new(note, facts.iter().map(|f| (f.about.clone(), f.key.clone())).collect());
        session.expires_ms = facts
            .iter()
            .filter_map(|f| f.expires_ms)
            .min()
            .unwrap_or(session.expires_ms);
        self.book.sessions().entry(id).or_insert(session);
    }
}

/// Takes up the sessions that the controller has facts of. Putting the same facts again changes nothing and says how
/// they are; sessions without facts have ended.
///
/// # Errors
/// The controller could not be asked.
pub async fn learn(api: &Api) -> Result<(), Refusal> {
    let before: Vec<Uuid> = {
        let sessions = api.book.sessions();
        let entered = sessions
            .iter()
            .filter(|(_, s)| s.ended_ms.is_none() && s.status == QosStatus::Available);
        entered.map(|(id, _)| *id).collect()
    };
    let key_prefix = QOD_PREFIX.to_owned();
    let about = None;
    let facts = api
        .contexts
        .ask(|reply| Command::List {
            about,
            key_prefix,
            reply,
        })
        .await?;
    let mut of_session: BTreeMap<Uuid, Vec<Fact>> = BTreeMap::new();
    for fact in facts {
        if let Some(id) = id_of(&fact.key) {
            of_session.entry(id).or_default().push(fact);
        }
    }
    for id in before.iter().filter(|id| !of_session.contains_key(id)) {
        let expires = api.book.sessions().get(id).map_or(0, |session| session.expires_ms);
        let info = match expires <= now_ms() {
            true => StatusInfo::DurationExpired,
            false => StatusInfo::NetworkTerminated,
        };
        api.ended(*id, info).await;
    }
    for (id, facts) in of_session {
        let known = api.book.sessions().contains_key(&id);
        if !known {
            api.adopt(&facts);
            let outcomes = api.contexts.put(facts).await?;
            api.learn_restored(id, &outcomes);
        }
    }
    Ok(())
}

impl Api {
    /// As [`Self::learn_outcomes`], but a client that knows is not told again.
    fn learn_restored(&self, id: Uuid, outcomes: &[Outcome]) {
        let mut sessions = self.book.sessions();
        let Some(session) = sessions.get_mut(&id) else { return };
        for (part, outcome) in session.parts.iter_mut().zip(outcomes) {
            part.in_effect = matches!(outcome, Outcome::InEffect { .. });
        }
        if session.parts.iter().all(|part| part.in_effect) {
            session.status = QosStatus::Available;
        }
    }
}

/// Follows what happens to the facts of sessions until the process ends.
pub async fn follow(api: Api, mut happened: broadcast::Receiver<Happened>) {
    let mut sweep = tokio::time::interval(SWEEP);
    let mut current = false;
    loop {
        if !current {
            match learn(&api).await {
                Ok(()) => current = true,
                Err(error) => {
                    tracing::warn!(?error, "the sessions cannot be taken up yet");
                    tokio::time::sleep(LEARN_AGAIN).await;
                    continue;
                }
            }
        }
        tokio::select! {
            told = happened.recv() => match told {
                Ok(happened) => api.heard(happened).await,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "too much happened at once: the sessions are taken up anew");
                    current = false;
                }
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            },
            _ = sweep.tick() => {
                for id in api.book.sweep(now_ms(), GRACE_MS) {
                    api.ended(id, StatusInfo::DurationExpired).await;
                }
            }
        }
    }
}
