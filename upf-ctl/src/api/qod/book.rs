//! The Quality-On-Demand sessions there are, with their status.
//!
//! What has to outlive a restart is in the facts' notes, which the controller keeps; the rest is learnt again by putting
//! the same facts once more (see [`super::learn`]). A session that has ended stays for [`KEPT_MS`], so that clients
//! without a sink can see that it did.

use super::super::facts::rfc3339;
use super::super::refusal::Refusal;
use super::notify::Notifier;
use super::types::{CreateSession, Device, QosStatus, SessionInfo, StatusInfo};
use qos::{Fact, Key, Subject};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How long a session is kept after its end: CAMARA wants 360 s at least.
pub const KEPT_MS: u64 = 360_000;

/// What a fact remembers of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose it is.
    pub client: String,
    /// As asked, with the sink's credential.
    pub request: CreateSession,
    /// The identifier that was used.
    pub device: Device,
    /// When it was asked for.
    pub created_ms: u64,
    /// When it became available, if that was later.
    pub started_ms: Option<u64>,
    /// Seconds granted.
    pub duration_s: u64,
}

/// One of its facts, and whether what follows from it is in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its identity.
    pub name: (Subject, Key),
    /// As told last.
    pub in_effect: bool,
}

/// A session.
#[derive(Debug, Clone)]
pub struct QodSession {
    /// What was asked.
    pub note: Note,
    /// Its facts.
    pub parts: Vec<Part>,
    /// Requested, available, unavailable.
    pub status: QosStatus,
    /// Why it is unavailable.
    pub info: Option<StatusInfo>,
    /// When it is to end.
    pub expires_ms: u64,
    /// When it has ended.
    pub ended_ms: Option<u64>,
}

impl QodSession {
    /// A new one, requested now.
    pub fn new(note: Note, names: Vec<(Subject, Key)>) -> Self {
        let expires_ms = note.started_ms.unwrap_or(note.created_ms) + note.duration_s * 1_000;
        let part = |name| Part { name, in_effect: false };
        Self {
            note,
            parts: names.into_iter().map(part).collect(),
            status: QosStatus::Requested,
            info: None,
            expires_ms,
            ended_ms: None,
        }
    }

    /// The facts that make it.
    pub fn facts(&self) -> Vec<Fact> {
        let note = serde_json::to_string(&self.note).ok();
        let fact = |part: &Part| Fact {
            about: part.name.0.clone(),
            key: part.name.1.clone(),
            value: qos::Value::Text(self.note.request.qos_profile.clone()),
            expires_ms: Some(self.expires_ms),
            note: note.clone(),
        };
        self.parts.iter().map(fact).collect()
    }

    /// Their identities.
    pub fn names(&self) -> Vec<(Subject, Key)> {
        self.parts.iter().map(|part| part.name.clone()).collect()
    }

    fn started_ms(&self) -> u64 {
        self.note.started_ms.unwrap_or(self.note.created_ms)
    }

    /// As answers show it.
    pub fn shown(&self, id: Uuid) -> SessionInfo {
        let request = self.note.request.clone();
        let ended = self.ended_ms.unwrap_or(self.expires_ms);
        let known = self.status != QosStatus::Requested;
        SessionInfo {
            session_id: id.to_string(),
            device: self.note.device.clone(),
            application_server: request.application_server,
            device_ports: request.device_ports,
            application_server_ports: request.application_server_ports,
            qos_profile: request.qos_profile,
            sink: request.sink,
            duration: match self.ended_ms {
                Some(ended) => (ended.saturating_sub(self.started_ms()) / 1_000).max(1),
                None => self.note.duration_s,
            },
            started_at: known.then(|| rfc3339(self.started_ms())),
            expires_at: known.then(|| rfc3339(ended)),
            qos_status: self.status,
            status_info: self.info,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Book {
    sessions: Mutex<HashMap<Uuid, QodSession>>,
    most: usize,
    /// Tells their sinks.
    pub notifier: Notifier,
}

impl Book {
    /// None yet, and never more than this.
    pub fn new(most: usize, notifier: Notifier) -> Self {
        Self {
            sessions: Mutex::default(),
            most,
            notifier,
        }
    }

    /// For as long as nothing is awaited.
    pub fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, QodSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are of each status.
    pub fn by_status(&self) -> [(&'static str, usize); 3] {
        let mut counts = [("REQUESTED", 0), ("AVAILABLE", 0), ("UNAVAILABLE", 0)];
        for session in self.sessions().values() {
            let place = match session.status {
                QosStatus::Requested => 0,
                QosStatus::Available => 1,
                QosStatus::Unavailable => 2,
            };
            counts[place].1 += 1;
        }
        counts
    }

    /// Enters a new one.
    ///
    /// # Errors
    /// `CONFLICT`: the same flow of the same device has one; 429: there are too many.
    pub fn enter(&self, id: Uuid, session: QodSession) -> Result<(), Refusal> {
        let mut sessions = self.sessions();
        let flows = |session: &QodSession| -> Vec<Subject> { session.parts.iter().map(|p| p.name.0.clone()).collect() };
        let wanted = flows(&session);
        // CAMARA: one that the network has ended is in the way until it is deleted, or forgotten here.
        let over = |other: &QodSession| other.info == Some(StatusInfo::DurationExpired);
        let taken = |other: &QodSession| !over(other) && other.parts.iter().any(|part| wanted.contains(&part.name.0));
        if sessions.values().any(taken) {
            return Err(Refusal::conflict(
                "the same flow of this device has a session; delete it first",
            ));
        }
        if sessions.len() >= self.most {
            let message = format!("there are {} sessions, as many as may be", self.most);
            return Err(Refusal::too_many(message, Duration::from_secs(60)));
        }
        sessions.insert(id, session);
        Ok(())
    }

    /// The session, if it is this client's.
    ///
    /// # Errors
    /// `NOT_FOUND`: whose it is otherwise is nobody else's business.
    pub fn of_client(&self, id: Uuid, client: &str) -> Result<QodSession, Refusal> {
        let sessions = self.sessions();
        let found = sessions.get(&id).filter(|session| session.note.client == client);
        found
            .cloned()
            .ok_or_else(|| Refusal::not_found("there is no such session"))
    }

    /// Tells the sink of a session how it is.
    pub fn tell(&self, id: Uuid, session: &QodSession) {
        if let Some(sink) = &session.note.request.sink {
            let credential = session.note.request.sink_credential.as_ref();
            self.notifier.tell(id, sink, credential, session.status, session.info);
        }
    }

    /// Ends a session that has not ended; its facts' identities, for what of them may be left.
    pub fn end(&self, id: Uuid, info: StatusInfo, now_ms: u64) -> Option<Vec<(Subject, Key)>> {
        let mut sessions = self.sessions();
        let session = sessions.get_mut(&id).filter(|s| s.status != QosStatus::Unavailable)?;
        session.status = QosStatus::Unavailable;
        session.info = Some(info);
        session.ended_ms = Some(now_ms);
        self.tell(id, session);
        Some(session.names())
    }

    /// Forgets those that have ended long ago, and returns those that should have ended by now without our being told.
    pub fn sweep(&self, now_ms: u64, grace_ms: u64) -> Vec<Uuid> {
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.ended_ms.is_none_or(|ended| now_ms < ended + KEPT_MS));
        let overdue = sessions
            .iter()
            .filter(|(_, s)| s.ended_ms.is_none() && s.expires_ms + grace_ms < now_ms);
        overdue.map(|(id, _)| *id).collect()
    }
}
