//! What Prometheus is told of the API on the network: requests as they are answered, sessions and notifications as they
//! are when it asks.

use super::qod::book::Book;
use crate::metrics::{counters, gauges};
use axum::http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    by: &'static str,
}

/// What keeps a request from its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// No token or certificate, or a wrong one.
    Unauthenticated,
    /// The client lacks the scope.
    Scope,
    /// The client asks too often.
    ClientRate,
    /// Somebody without a valid token does.
    AddressRate,
}

impl Obstacle {
    const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "authentication",
            Self::Scope => "scope",
            Self::ClientRate => "client-rate",
            Self::AddressRate => "address-rate",
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    requests: Family<RequestLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    book: OnceLock<Arc<Book>>,
}

/// The figures of one API. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Inner>);

impl Figures {
    /// Shows them to whoever reads the registry.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &self.0;
        registry.register("api_requests", "Requests answered", inner.requests.clone());
        registry.register(
            "api_refused",
            "Requests kept from their handlers by authentication, scope or rate",
            inner.refused.clone(),
        );
        registry.register_collector(Box::new(self.clone()));
    }

    /// The sessions that are served.
    pub(super) fn follow(&self, book: Arc<Book>) {
        // Another one than the first would be another API.
        let _ = self.0.book.set(book);
    }

    /// A request was answered. `route`: the path of the table that it was found by; none: by none.
    pub(super) fn answered(&self, method: &str, route: Option<&str>, status: StatusCode) {
        let labels = RequestLabels {
            // Those that nothing serves are text that anybody may choose.
            method: match route {
                Some(_) if status != StatusCode::METHOD_NOT_ALLOWED => method.to_owned(),
                _ => String::new(),
            },
            route: route.unwrap_or_default().to_owned(),
            status: status.as_u16(),
        };
        self.0.requests.get_or_create(&labels).inc();
    }

    /// A request was kept from its handler.
    pub(super) fn refused(&self, by: Obstacle) {
        self.0.refused.get_or_create(&RefusedLabels { by: by.name() }).inc();
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Some(book) = self.0.book.get() else { return Ok(()) };
        let sessions = book.by_status().into_iter();
        let sessions = sessions.map(|(status, count)| (vec![("status", status.to_owned())], count as u64));
        gauges(
            &mut encoder,
            "qod_sessions",
            "Quality-On-Demand sessions",
            sessions.collect(),
        )?;
        let counts = book.notifier.counts();
        let waiting = vec![(Vec::new(), counts.waiting as u64)];
        gauges(
            &mut encoder,
            "qod_notifications_waiting",
            "Notifications to sinks on their way",
            waiting,
        )?;
        let done = [("delivered", counts.delivered), ("failed", counts.failed)];
        let done = done.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        counters(
            &mut encoder,
            "qod_notifications",
            "Notifications to sinks, by what became of them",
            done.to_vec(),
        )
    }
}
