//! The PFCP controller: it owns the truth about sessions, and makes the data planes follow it.
//!
//! ```text
//!   SMF ──UDP 8805──▶ pfcp/transport ──▶ request ──▶ validate (upf-model) ──▶ plan ──▶ planes ──▶ host
//!    ▲                                      │                                              (shared memory)
//!    └────────────── answer ◀── sessions ◀── store
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`pfcp`] | messages, the socket, associations and heartbeats |
//! | [`request`] | a session request's way from decoding to the answer: start reading here |
//! | [`context_push`] | from facts about users to changes of their sessions |
//! | [`plan`] | what a validated request means for the data planes, and its undo |
//! | [`placement`] | which entries of a P4 target carry a session, and atomic changes of them |
//! | [`sessions`] | the session table, F-TEIDs, UE addresses |
//! | [`store`] | what outlives a restart |
//! | [`planes`] | the data planes, driven as one |
//! | [`usage`] | what was used, over reports and restarts |
//! | [`report`] | downlink data and error indications, told to the SMF |
//! | [`controller`] | the one task that owns all state |
//! | [`api`] | CAMARA Quality-On-Demand and the context API over HTTP |
//! | [`http`], [`metrics`] | what people and Prometheus may ask |

pub mod api;
pub mod context_push;
pub mod controller;
pub mod http;
pub mod metrics;
pub mod pfcp;
pub mod placement;
pub mod plan;
pub mod planes;
pub mod report;
pub mod request;
pub mod sessions;
pub mod store;
pub mod usage;

use context_push::{Contexts, PolicyFileError};
use controller::{Controller, Inputs, Parts};
use http::Http;
use metrics::Metrics;
use pfcp::transport::Transport;
use pfcp::wire::NodeId;
use planes::host::HostPlane;
use planes::p4::P4Plane;
use planes::p4::runtime::{RuntimeError, RuntimeTarget};
use planes::{DataPlane, PlaneEvents, Planes};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use upf_config::Config;

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shared-memory channel to `upf-host` cannot be opened.
    #[error("channel to the host data plane: {0}")]
    Channel(#[from] ipc::ChannelError),
    /// See [`PolicyFileError`].
    #[error(transparent)]
    Policies(#[from] PolicyFileError),
    /// See [`RuntimeError`].
    #[error("P4 target: {0}")]
    P4(#[from] RuntimeError),
    /// An address cannot be listened on.
    #[error("{what} on {address}: {error}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Which one.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The Node ID cannot be told from the configuration.
    #[error("pfcp.node_id: expected an address or a name where pfcp.listen is {0}: peers need to know who we are")]
    NoNodeId(IpAddr),
}

/// Runs the controller over the host data plane, and the P4 target where one is configured, until `shutdown` is ready.
///
/// # Errors
/// What keeps it from starting; once it runs, it goes on.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let (events, plane_events) = mpsc::unbounded_channel();
    let host: Arc<dyn DataPlane> = Arc::new(HostPlane::open(&config.name, 0, events.clone())?);
    let mut planes = vec![host];
    if let Some(p4) = &config.p4 {
        let target = RuntimeTarget::new(p4)?;
        let plane = P4Plane::start(&config, target, planes.len(), events);
        planes.extend(plane.map(|plane| Arc::new(plane) as Arc<dyn DataPlane>));
    }
    run_with(config, planes, plane_events, shutdown).await
}

/// Makes the channel that data planes for [`run_with`] send their events through.
pub fn plane_events() -> (PlaneEvents, mpsc::UnboundedReceiver<planes::PlaneEvent>) {
    mpsc::unbounded_channel()
}

/// Runs the controller over these data planes until `shutdown` is ready.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    planes: Vec<Arc<dyn DataPlane>>,
    plane_events: mpsc::UnboundedReceiver<planes::PlaneEvent>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let config = Arc::new(config);
    let node_id = node_id(&config)?;
    let policies = context_push::read_policies(config.qos.policies.as_deref())?;
    let (store, recovered) = Store::open(&config.state_dir, &config, &node_id.to_string())?;
    let metrics = Arc::new(Metrics::default());
    let time_stamp = controller::recovery_time_stamp(&recovered);
    let transport = Transport::bind(&config.pfcp, time_stamp, metrics.clone());
    let transport = Arc::new(transport.map_err(|error| listen("PFCP", config.pfcp.listen, error))?);
    let control = http::control_socket(&config);
    let control = control.map_err(|error| listen("control socket", config.runtime_dir.display(), error))?;
    let scrapes = match &config.metrics {
        Some(metrics) => Some(bind("metrics", metrics.listen).await?),
        None => None,
    };

    let api = match &config.api {
        Some(api) => Some((api.clone(), bind("API", api.listen).await?)),
        None => None,
    };

    let planes = Planes::new(planes);
    let (inbound_sender, inbound) = mpsc::channel(controller::QUEUE);
    let (outside_sender, outside) = mpsc::unbounded_channel();
    let (query_sender, queries) = mpsc::channel(64);
    let (command_sender, commands) = mpsc::channel(context_push::COMMANDS);
    let (happened, _) = broadcast::channel(context_push::COMMANDS);
    let contexts = Contexts {
        commands: command_sender,
        happened: happened.clone(),
    };
    let http = Http {
        queries: query_sender,
        planes: planes.clone(),
        metrics: metrics.clone(),
    };
    let flusher = store.flusher();
    let parts = Parts {
        config,
        node_id,
        store,
        planes,
        transport: transport.clone(),
        metrics,
        outside: outside_sender.clone(),
        policies,
        happened,
    };
    let controller = Controller::new(parts, recovered);

    let mut beside = JoinSet::new();
    beside.spawn(transport.receive(inbound_sender));
    beside.spawn(reload_on_hangup(outside_sender));
    if let Ok(flusher) = flusher {
        beside.spawn(controller::flush_regularly(flusher));
    }
    let local = api::routes::local_router(contexts.clone());
    beside.spawn(logged(
        "control socket",
        http::serve_control(http.clone(), local, control),
    ));
    if let Some((api, listener)) = api {
        let figures = http.metrics.api.clone();
        beside.spawn(logged("API", async move {
            api::serve(listener, contexts, &api, figures).await
        }));
    }
    if let Some(scrapes) = scrapes {
        beside.spawn(logged("metrics", http::serve_metrics(http, scrapes)));
    }
    controller
        .run(
            Inputs {
                inbound,
                plane_events,
                outside,
                queries,
                contexts: commands,
            },
            shutdown,
        )
        .await;
    // What stands beside the controller ends with it.
    beside.shutdown().await;
    Ok(())
}

fn listen(what: &'static str, address: impl ToString, error: io::Error) -> Error {
    Error::Listen {
        what,
        address: address.to_string(),
        error,
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| listen(what, address, error))
}

async fn logged(what: &'static str, server: impl Future<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, what, "server ended");
    }
}

/// SIGHUP has the policy file read again.
async fn reload_on_hangup(outside: mpsc::UnboundedSender<controller::Outside>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() && outside.send(controller::Outside::ReloadPolicies).is_ok() {}
}

/// The configured Node ID, or the address that is listened on.
fn node_id(config: &Config) -> Result<NodeId, Error> {
    let listening: SocketAddr = config.pfcp.listen;
    match &config.pfcp.node_id {
        Some(text) => Ok(text
            .parse::<IpAddr>()
            .map_or_else(|_| NodeId::Fqdn(text.clone()), NodeId::from)),
        None if listening.ip().is_unspecified() => Err(Error::NoNodeId(listening.ip())),
        None => Ok(listening.ip().into()),
    }
}
