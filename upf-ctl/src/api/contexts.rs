//! The context API: facts put, taken back, listed; and what they have made of a session.

use super::clients::Client;
use super::facts::{
    Checked, QOD_PREFIX, ShownFact, ValueBody, decode, decode_steps, now_ms, parse_key, parse_seid, parse_subject,
};
use super::refusal::Refusal;
use crate::context_push::{Command, Contexts, Outcome};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use qos::{Fact, Key, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Facts in one answer, unless fewer are asked for.
const PAGE: usize = 1_000;

/// What became of one fact.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PutAnswer {
    /// As it is kept.
    #[serde(flatten)]
    pub fact: ShownFact,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From the request's being read to the outcome, microseconds.
    pub took_us: u64,
}

/// What became of one step of a batch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StepAnswer {
    /// Of `put`.
    Put(Outcome),
    /// Of `remove`.
    Removed {
        /// Whether there was such a fact.
        removed: bool,
    },
}

/// What became of a batch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BatchAnswer {
    /// One for each step, in order. A step that is refused does not undo the others.
    pub results: Vec<StepAnswer>,
    /// How many were refused.
    pub refused: usize,
    /// From the request's being read to the last outcome, microseconds.
    pub took_us: u64,
}

/// Facts there are.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListAnswer {
    /// In order of subject and key.
    pub facts: Vec<ShownFact>,
    /// There are more behind these: ask again with a greater `offset`.
    pub more: bool,
}

/// Parameters of a path and query that name a fact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowParameter {
    flow: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    about: Option<String>,
    flow: Option<String>,
    key_prefix: String,
    offset: usize,
    limit: Option<usize>,
}

fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Contexts {
    /// Puts facts; one outcome each.
    pub(super) async fn put(&self, facts: Vec<Fact>) -> Result<Vec<Outcome>, Refusal> {
        let count = facts.len();
        let since = Instant::now();
        let outcomes = self.ask(|reply| Command::Put { facts, since, reply }).await?;
        match outcomes.len() == count {
            true => Ok(outcomes),
            false => Err(Refusal::unavailable("the controller has not answered for every fact")),
        }
    }

    pub(super) async fn remove(&self, facts: Vec<(Subject, Key)>) -> Result<Vec<Fact>, Refusal> {
        let since = Instant::now();
        self.ask(|reply| Command::Remove { facts, since, reply }).await
    }

    async fn list(&self, about: Option<Subject>, page: &Page) -> Result<Json<ListAnswer>, Refusal> {
        let key_prefix = page.key_prefix.clone();
        let facts = self
            .ask(|reply| Command::List {
                about,
                key_prefix,
                reply,
            })
            .await?;
        let limit = page.limit.unwrap_or(PAGE).clamp(1, 10 * PAGE);
        let mut ours = facts
            .iter()
            .filter(|fact| !fact.key.as_str().starts_with(QOD_PREFIX))
            .skip(page.offset);
        let shown = ours.by_ref().take(limit).map(ShownFact::from).collect();
        Ok(Json(ListAnswer {
            facts: shown,
            more: ours.next().is_some(),
        }))
    }
}

/// `PUT /v1/contexts/{kind}/{subject}/{key}`
pub async fn put_one(
    State(contexts): State<Contexts>,
    Extension(client): Extension<Client>,
    Path((kind, subject, key)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<(StatusCode, Json<PutAnswer>), Refusal> {
    let started = Instant::now();
    let body: ValueBody = decode(&body)?;
    let fact = body.check(&format!("{kind}/{subject}"), &key, &client.name, now_ms())?;
    let shown = ShownFact::from(&fact);
    let outcome = contexts.put(vec![fact]).await?.remove(0);
    let status = match &outcome {
        Outcome::InEffect { .. } | Outcome::Kept => StatusCode::OK,
        Outcome::Delayed { .. } => StatusCode::ACCEPTED,
        Outcome::Refused { reason } => return Err(Refusal::unprocessable("CONTEXTS.REFUSED", reason.clone())),
    };
    let answer = PutAnswer {
        fact: shown,
        outcome,
        took_us: microseconds(started),
    };
    Ok((status, Json(answer)))
}

fn named(kind: &str, subject: &str, flow: &FlowParameter, key: &str) -> Result<(Subject, Key), Refusal> {
    let about = parse_subject(&format!("{kind}/{subject}"), flow.flow.as_deref())?;
    Ok((about, parse_key(key)?))
}

/// `GET /v1/contexts/{kind}/{subject}/{key}`
pub async fn get_one(
    State(contexts): State<Contexts>,
    Path((kind, subject, key)): Path<(String, String, String)>,
    Query(flow): Query<FlowParameter>,
) -> Result<Json<ShownFact>, Refusal> {
    let (about, key) = named(&kind, &subject, &flow, &key)?;
    let (of, key_prefix) = (Some(about.clone()), key.to_string());
    let facts = contexts
        .ask(|reply| Command::List {
            about: of,
            key_prefix,
            reply,
        })
        .await?;
    let found = facts.iter().find(|fact| fact.about == about && fact.key == key);
    found
        .map(|fact| Json(fact.into()))
        .ok_or_else(|| Refusal::not_found("there is no such context"))
}

/// `DELETE /v1/contexts/{kind}/{subject}/{key}`
pub async fn delete_one(
    State(contexts): State<Contexts>,
    Path((kind, subject, key)): Path<(String, String, String)>,
    Query(flow): Query<FlowParameter>,
) -> Result<Json<ShownFact>, Refusal> {
    let name = named(&kind, &subject, &flow, &key)?;
    let removed = contexts.remove(vec![name]).await?;
    let first = removed.first().map(|fact| Json(fact.into()));
    first.ok_or_else(|| Refusal::not_found("there is no such context"))
}

/// `GET /v1/contexts`
pub async fn list_all(State(contexts): State<Contexts>, Query(page): Query<Page>) -> Result<Json<ListAnswer>, Refusal> {
    let about = page
        .about
        .as_deref()
        .map(|about| parse_subject(about, page.flow.as_deref()));
    contexts.list(about.transpose()?, &page).await
}

/// `GET /v1/contexts/{kind}/{subject}`
pub async fn list_of(
    State(contexts): State<Contexts>,
    Path((kind, subject)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Result<Json<ListAnswer>, Refusal> {
    let about = parse_subject(&format!("{kind}/{subject}"), page.flow.as_deref())?;
    contexts.list(Some(about), &page).await
}

/// Whether a body is NDJSON.
///
/// # Errors
/// 415: it is neither that nor JSON.
fn is_ndjson(headers: &HeaderMap) -> Result<bool, Refusal> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/x-ndjson" | "application/ndjson" => Ok(true),
        "application/json" | "" => Ok(false),
        other => {
            let message = format!("content-type: expected application/json or application/x-ndjson, found {other:?}");
            Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                message,
            ))
        }
    }
}

/// `POST /v1/contexts`
pub async fn batch(
    State(contexts): State<Contexts>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<BatchAnswer>, Refusal> {
    let started = Instant::now();
    let steps = decode_steps(&body, is_ndjson(&headers)?, &client.name, now_ms())?;
    let results = contexts.steps(steps).await?;
    let refused = |answer: &&StepAnswer| matches!(answer, StepAnswer::Put(Outcome::Refused { .. }));
    Ok(Json(BatchAnswer {
        refused: results.iter().filter(refused).count(),
        results,
        took_us: microseconds(started),
    }))
}

impl Contexts {
    /// Does steps in order: neighbours of a kind go as one command.
    async fn steps(&self, steps: Vec<Checked>) -> Result<Vec<StepAnswer>, Refusal> {
        let mut results = Vec::with_capacity(steps.len());
        let mut steps = steps.into_iter().peekable();
        while let Some(first) = steps.next() {
            let done = match first {
                Checked::Put(fact) => {
                    let mut facts = vec![fact];
                    while let Some(Checked::Put(fact)) = steps.next_if(|step| matches!(step, Checked::Put(_))) {
                        facts.push(fact);
                    }
                    let outcomes = self.put(facts).await;
                    outcomes.map(|outcomes| outcomes.into_iter().map(StepAnswer::Put).collect::<Vec<_>>())
                }
                Checked::Remove(about, key) => {
                    let mut names = vec![(about, key)];
                    while let Some(Checked::Remove(about, key)) =
                        steps.next_if(|step| matches!(step, Checked::Remove(..)))
                    {
                        names.push((about, key));
                    }
                    let removed = self.remove(names.clone()).await;
                    removed.map(|removed| {
                        let mut left: std::collections::HashSet<(Subject, Key)> =
                            removed.into_iter().map(|fact| (fact.about, fact.key)).collect();
                        let removed = names.iter().map(|name| left.remove(name));
                        removed.map(|removed| StepAnswer::Removed { removed }).collect()
                    })
                }
            };
            let done = done.map_err(|refusal| Refusal {
                message: format!("{}; the first {} steps are done", refusal.message, results.len()),
                ..refusal
            });
            results.extend(done?);
        }
        Ok(results)
    }
}

/// `GET /v1/sessions/{seid}/qos`
pub async fn explain(
    State(contexts): State<Contexts>,
    Path(seid): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let found = parse_seid(&seid);
    let seid = found.ok_or_else(|| Refusal::invalid("seid: expected a SEID, decimal or 0x..."))?;
    let explanation = contexts.ask(|reply| Command::Explain { seid, reply }).await?;
    explanation
        .map(Json)
        .ok_or_else(|| Refusal::not_found(format!("there is no session {seid:#x}")))
}
