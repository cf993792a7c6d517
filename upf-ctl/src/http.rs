//! What people and tools may ask: JSON over a UNIX socket, and Prometheus over TCP.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/sessions?after=SLOT&limit=N` | list of [`SessionSummary`], by slot; default limit 1000 |
//! | `GET /v1/sessions/SEID` | [`SessionDetail`]; SEID in decimal or as `0x...`; 404 if there is none |
//! | `GET /v1/sessions/SEID/placement` | [`Description`] of it in the P4 target; 404: none, or no target |
//! | `.../v1/contexts...`, `GET /v1/sessions/SEID/qos` | the context API: [`crate::api`] |
//! | `GET /v1/counters` | counters of each data plane by its name; null: it cannot be asked |
//!
//! The socket is `RUNTIME_DIR/NAME.sock`, for its owner and group only. SEIDs and TEIDs are hexadecimal text,
//! because JSON numbers lose the low bits of a SEID in many readers. Times are milliseconds since the UNIX epoch.

use crate::controller::Controller;
use crate::metrics::Metrics;
use crate::planes::p4::Description;
use crate::planes::{PlaneState, Planes};
use crate::sessions::{Entry, SessionRecord};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use upf_model::batch::{HostCounters, SessionUsage, UrrUsage};
use upf_model::{Session, SessionId, UrrId};

/// A question for the controller's task, with where the answer goes.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Query {
    Status(oneshot::Sender<Status>),
    Sessions {
        after: Option<u32>,
        limit: usize,
        reply: oneshot::Sender<Vec<SessionSummary>>,
    },
    Session {
        seid: u64,
        reply: oneshot::Sender<Option<SessionDetail>>,
    },
}

/// The UPF as a whole.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Configured name.
    pub name: String,
    /// Of this program.
    pub version: String,
    /// Our PFCP Node ID.
    pub node_id: String,
    /// Where PFCP is listened for.
    pub pfcp: SocketAddr,
    /// Since this process started, seconds.
    pub uptime_s: u64,
    /// Since when sessions have been kept, NTP seconds.
    pub recovery_time_stamp: u32,
    /// Sessions there are.
    pub sessions: usize,
    /// Sessions there may be.
    pub max_sessions: u32,
    /// F-TEIDs held, each address counted.
    pub fteids: usize,
    /// UE addresses held.
    pub ue_addresses: usize,
    /// SMFs.
    pub associations: Vec<AssociationStatus>,
    /// Data planes.
    pub planes: Vec<PlaneStatus>,
}

/// An association with an SMF.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssociationStatus {
    /// Its Node ID.
    pub node: String,
    /// Where its setup request came from.
    pub peer: SocketAddr,
    /// It answers heartbeats, as far as is known.
    pub up: bool,
    /// When it was set up.
    pub since_ms: u64,
    /// When the peer started, NTP seconds.
    pub recovery_time_stamp: u32,
}

/// A data plane.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlaneStatus {
    /// Its name.
    pub name: String,
    /// `away`, `unsynchronised` or `ready`.
    pub state: String,
    /// Changes whenever its counters start from zero.
    pub instance: u64,
}

/// A session in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Our SEID, hexadecimal.
    pub seid: String,
    /// Slot in the data planes.
    pub id: u32,
    /// Node ID of its SMF.
    pub node: String,
    /// The SMF's SEID, hexadecimal.
    pub cp_seid: String,
    /// UE addresses: IPv4 addresses, IPv6 prefixes.
    pub ue_addresses: Vec<String>,
    /// How many PDRs it has.
    pub pdrs: usize,
    /// When it was established.
    pub established_ms: u64,
    /// Where it lives: `direct` or `by flow` in the P4 target, or `host` with why; none: there is no target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// A session in full.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// Its validated rules, as the data planes have them.
    pub rules: Session,
    /// The SMF's, where contexts make them others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Session>,
    /// Counters of each data plane that could be asked, by its name, since it started or the session did.
    pub counters: BTreeMap<String, SessionUsage>,
    /// What each URR has measured in all, over restarts of data planes.
    pub usage: Vec<(UrrId, UrrUsage)>,
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn summary(record: &SessionRecord, planes: &Planes) -> SessionSummary {
    let session = &record.session;
    let v4 = session.ue_ips.iter().filter_map(|ue| ue.ipv4).map(|a| a.to_string());
    let v6 = session
        .ue_ips
        .iter()
        .filter_map(|ue| ue.ipv6)
        .map(|p| format!("{}/{}", p.addr(), p.len()));
    SessionSummary {
        seid: hex(session.seid.0),
        id: session.id.0,
        node: record.node.clone(),
        cp_seid: hex(record.cp.seid),
        ue_addresses: v4.chain(v6).collect(),
        pdrs: session.pdrs.len(),
        established_ms: record.established_ms,
        place: planes
            .iter()
            .find_map(|plane| plane.place(session.id))
            .map(|p| p.to_string()),
    }
}

/// Answers from the controller's task.
pub async fn answer(controller: &Controller, query: Query) {
    // Whoever asked may have hung up: nothing to be done then.
    match query {
        Query::Status(reply) => drop(reply.send(status(controller))),
        Query::Sessions { after, limit, reply } => {
            let first = after.map_or(0, |slot| slot.saturating_add(1));
            let entries = controller.sessions.iter_from(SessionId(first)).take(limit);
            drop(
                reply.send(
                    entries
                        .map(|entry| summary(&entry.record, &controller.planes))
                        .collect(),
                ),
            );
        }
        Query::Session { seid, reply } => {
            let id = controller.sessions.by_seid(seid);
            let detail = match id.and_then(|id| controller.sessions.get(id)) {
                Some(entry) => Some(detail(controller, &entry).await),
                None => None,
            };
            drop(reply.send(detail));
        }
    }
}

fn status(controller: &Controller) -> Status {
    let associations = controller.associations.iter().map(|association| AssociationStatus {
        node: association.record.node.clone(),
        peer: association.record.peer,
        up: association.up,
        since_ms: association.record.since_ms,
        recovery_time_stamp: association.record.recovery_time_stamp,
    });
    let planes = controller.planes.iter().map(|plane| PlaneStatus {
        name: plane.name().to_owned(),
        state: match plane.state() {
            PlaneState::Away => "away",
            PlaneState::Unsynchronised => "unsynchronised",
            PlaneState::Ready => "ready",
        }
        .to_owned(),
        instance: plane.instance(),
    });
    let (fteids, ue_addresses, _) = controller.allocations.held();
    Status {
        name: controller.config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: controller.node_id.to_string(),
        pfcp: controller.transport.local_addr(),
        uptime_s: controller.started.elapsed().as_secs(),
        recovery_time_stamp: controller.recovery_time_stamp.0,
        sessions: controller.sessions.len(),
        max_sessions: controller.config.pfcp.max_sessions,
        fteids,
        ue_addresses,
        associations: associations.collect(),
        planes: planes.collect(),
    }
}

async fn detail(controller: &Controller, entry: &Entry) -> SessionDetail {
    let session = &entry.record.session;
    let mut usage = entry.usage.clone();
    let mut counters = BTreeMap::new();
    for measured in controller.planes.usage(&[session.id]).await {
        usage.measure(&measured);
        let name = controller.planes.get(measured.plane).map_or("", |plane| plane.name());
        counters.insert(name.to_owned(), measured.usage);
    }
    let totals = session
        .urrs
        .iter()
        .filter_map(|urr| Some((urr.id, usage.total(urr.id)?)));
    SessionDetail {
        summary: summary(&entry.record, &controller.planes),
        rules: entry.in_planes().clone(),
        base: (entry.in_planes() != session).then(|| session.clone()),
        counters,
        usage: totals.collect(),
    }
}

/// What the HTTP side works with.
#[derive(Debug, Clone)]
pub struct Http {
    /// To the controller's task.
    pub queries: mpsc::Sender<Query>,
    /// Asked directly: their counters belong to nobody.
    pub planes: Planes,
    /// See [`Metrics::scrape`].
    pub metrics: Arc<Metrics>,
}

impl Http {
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, StatusCode> {
        let (reply, answer) = oneshot::channel();
        self.queries
            .send(query(reply))
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Serves the control socket. One that a killed controller has left behind is replaced.
///
/// # Errors
/// The directory cannot be made or the socket not be bound.
pub fn control_socket(config: &upf_config::Config) -> io::Result<UnixListener> {
    std::fs::create_dir_all(&config.runtime_dir)?;
    let path = config.runtime_dir.join(format!("{}.sock", config.name));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves JSON on the control socket until the process ends; `contexts`: the context API.
pub async fn serve_control(http: Http, contexts: Router, listener: UnixListener) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/sessions", get(get_sessions))
        .route("/v1/sessions/{seid}", get(get_session))
        .route("/v1/sessions/{seid}/placement", get(get_placement))
        .route("/v1/counters", get(get_counters))
        .route("/metrics", get(get_metrics))
        .with_state(http)
        .merge(contexts);
    axum::serve(listener, router).await
}

/// Serves Prometheus until the process ends.
pub async fn serve_metrics(http: Http, listener: TcpListener) -> io::Result<()> {
    axum::serve(
        listener,
        Router::new().route("/metrics", get(get_metrics)).with_state(http),
    )
    .await
}

async fn get_status(State(http): State<Http>) -> Result<Json<Status>, StatusCode> {
    http.ask(Query::Status).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct Page {
    after: Option<u32>,
    limit: Option<usize>,
}

/// Sessions in one answer, unless fewer are asked for.
const PAGE: usize = 1_000;

async fn get_sessions(
    State(http): State<Http>,
    Parameters(page): Parameters<Page>,
) -> Result<Json<Vec<SessionSummary>>, StatusCode> {
    let limit = page.limit.unwrap_or(PAGE).min(10 * PAGE);
    http.ask(|reply| Query::Sessions {
        after: page.after,
        limit,
        reply,
    })
    .await
    .map(Json)
}

fn parse_seid(seid: &str) -> Result<u64, StatusCode> {
    let parsed = match seid.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => seid.parse(),
    };
    parsed.map_err(|_| StatusCode::BAD_REQUEST)
}

async fn get_placement(State(http): State<Http>, Path(seid): Path<String>) -> Result<Json<Description>, StatusCode> {
    let seid = parse_seid(&seid)?;
    let id = SessionId(seid as u32);
    let known = http.ask(|reply| Query::Session { seid, reply }).await?;
    known.ok_or(StatusCode::NOT_FOUND)?;
    for plane in http.planes.iter() {
        if let Ok(Some(description)) = plane.describe(id).await {
            return Ok(Json(description));
        }
    }
    Err(StatusCode::NOT_FOUND)
}

async fn get_session(State(http): State<Http>, Path(seid): Path<String>) -> Result<Json<SessionDetail>, StatusCode> {
    let seid = parse_seid(&seid)?;
    let detail = http.ask(|reply| Query::Session { seid, reply }).await?;
    detail.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn get_counters(State(http): State<Http>) -> Json<BTreeMap<&'static str, Option<HostCounters>>> {
    let mut counters = BTreeMap::new();
    for plane in http.planes.iter() {
        counters.insert(plane.name(), plane.counters().await.ok());
    }
    Json(counters)
}

async fn get_metrics(State(http): State<Http>) -> Response {
    let page = http.metrics.scrape(&http.planes).await;
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        page,
    )
        .into_response()
}
