//! The inputs of context-aware QoS over HTTP: CAMARA Quality-On-Demand for applications, contexts for operators.
//!
//! ```text
//!   client ──TCP, TLS──▶ server ──▶ guard ──▶ routes ──┬─▶ contexts ──┐
//!                                                      └─▶ qod ───────┴──▶ Command ──▶ controller
//!   sink ◀── notify ◀── qod/book ◀───────────────────────────────── Happened ◀──────────┘
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`routes`] | every path with its method, scope and handler, in one table |
//! | [`server`] | connections: TLS, how many, how long, how large |
//! | [`guard`] | who asks, whether they may, and how often |
//! | [`clients`], [`rate`], [`idempotency`] | the clients file; token buckets; answers given again |
//! | [`figures`] | what Prometheus is told of it |
//! | [`refusal`] | errors as CAMARA writes them |
//! | [`facts`] | facts and subjects in JSON and in paths |
//! | [`contexts`] | the context API |
//! | [`qod`] | CAMARA Quality-On-Demand and QoS Profiles |
//! | [`openapi`] | the description of all this, from the same table and types |
//!
//! The context API is on the control socket too, where the file's permissions protect it: [`routes::local_router`].
//! Everything that is kept here for somebody else is bounded: connections, bodies, clients, idempotency keys, sessions,
//! notifications. docs/QOS_API.md is the users' view.

pub mod clients;
pub mod contexts;
pub mod facts;
pub mod figures;
pub mod guard;
pub mod idempotency;
pub mod openapi;
pub mod qod;
pub mod rate;
pub mod refusal;
pub mod routes;
pub mod server;

use crate::context_push::{Command, Contexts};
use axum::extract::FromRef;
use figures::Figures;
use qod::book::Book;
use refusal::Refusal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long the controller may take for a command.
const PATIENCE: Duration = Duration::from_secs(5);

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    /// To the controller.
    pub contexts: Contexts,
    /// The Quality-On-Demand sessions.
    pub book: Arc<Book>,
}

impl Api {
    /// Over this controller; Quality-On-Demand as configured.
    ///
    /// # Errors
    /// The roots for sinks cannot be read.
    pub fn new(contexts: Contexts, config: &upf_config::Api) -> io::Result<Self> {
        let notifier = qod::notify::Notifier::new(&config.sinks)?;
        let book = Arc::new(Book::new(config.limits.qod_sessions as usize, notifier));
        Ok(Self { contexts, book })
    }
}

impl FromRef<Api> for Contexts {
    fn from_ref(api: &Api) -> Self {
        api.contexts.clone()
    }
}

impl Contexts {
    /// Asks the controller.
    ///
    /// # Errors
    /// 503: it is not there, or its queue stays full; 504: it does not answer in time.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let away = || Refusal::unavailable("the controller does not take requests now; try again");
        let asked = async {
            self.commands.send(command(reply)).await.map_err(|_| away())?;
            answer.await.map_err(|_| away())
        };
        let late = || Refusal::timeout("the controller has not answered in time; whether it acted is not known");
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())?
    }
}

/// Serves both APIs on this socket until the process ends, after the Quality-On-Demand sessions have been taken up again.
///
/// # Errors
/// A file that the configuration names cannot be read or makes no sense.
pub async fn serve(
    listener: TcpListener,
    contexts: Contexts,
    config: &upf_config::Api,
    figures: Figures,
) -> io::Result<()> {
    // Heard from before the sessions are asked for, so that nothing is missed in between.
    let happened = contexts.happened.subscribe();
    let api = Api::new(contexts, config)?;
    figures.follow(api.book.clone());
    let guard = guard::Guard::new(config, figures)?;
    let router = api.router(guard.clone());
    let tls = config.tls.as_ref().map(server::tls).transpose()?;
    tokio::select! {
        ended = server::serve(listener, tls, config.limits.connections as usize, router) => ended,
        () = qod::follow(api, happened) => Ok(()),
        () = guard.keep_current() => Ok(()),
    }
}
