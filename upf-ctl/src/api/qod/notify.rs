//! CloudEvents to the sinks of sessions, with retries, in order for each session, and never more than fit.

use super::super::facts::{now_ms, parse_rfc3339, rfc3339};
use super::super::refusal::Refusal;
use super::super::server::{provider, roots};
use super::types::{QosStatus, SinkCredential, StatusInfo, sink};
use axum::body::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

/// Notifications waiting at once; what is over is dropped and counted.
const WAITING_MAX: usize = 4_096;
/// Connections to sinks at once.
const CONNECTIONS: usize = 32;
/// For a sink to take one.
const SINK_TIME: Duration = Duration::from_secs(5);
/// How often one is tried, the waits between doubling from [`FIRST_WAIT`].
const ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What a notification says (CAMARA `EventQosStatusChanged`, CloudEvents 1.0).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent {
    /// Unique; the same in every attempt.
    pub id: String,
    /// The session's path.
    pub source: String,
    /// `org.camaraproject.quality-on-demand.v1.qos-status-changed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `1.0`.
    pub specversion: String,
    /// `application/json`.
    pub datacontenttype: String,
    /// When it happened.
    pub time: String,
    /// What.
    pub data: StatusChange,
}

/// A session's new status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusChange {
    /// Whose.
    pub session_id: String,
    /// `AVAILABLE` or `UNAVAILABLE`.
    pub qos_status: QosStatus,
    /// Why it is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_info: Option<StatusInfo>,
}

/// The type of the one event there is.
pub const STATUS_CHANGED: &str = "org.camaraproject.quality-on-demand.v1.qos-status-changed";

/// A notification on its way.
#[derive(Debug, Clone)]
struct Notification {
    sink: String,
    credential: Option<SinkCredential>,
    event: CloudEvent,
}

#[derive(Debug, Default)]
struct Waiting {
    of_session: HashMap<Uuid, VecDeque<Notification>>,
    count: usize,
}

#[derive(Debug)]
struct Inner {
    tls: Arc<ClientConfig>,
    plain_http: bool,
    private_addresses: bool,
    waiting: Mutex<Waiting>,
    connections: Semaphore,
    delivered: AtomicU64,
    dropped: AtomicU64,
}

/// What has become of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// On their way.
    pub waiting: usize,
    /// Taken by their sinks.
    pub delivered: u64,
    /// Given up, or too many to wait.
    pub failed: u64,
}

/// Sends them.
#[derive(Debug, Clone)]
pub struct Notifier(Arc<Inner>);

enum Failure {
    /// Trying again may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Notifier {
    /// To the sinks that are allowed.
    ///
    /// # Errors
    /// The roots cannot be read. Where there is no such file, no sink over TLS is trusted.
    pub fn new(config: &upf_config::Sinks) -> io::Result<Self> {
        let roots = match roots(&config.roots) {
            Err(error) if !config.roots.exists() => {
                tracing::warn!(%error, "no HTTPS sink will be trusted");
                rustls::RootCertStore::empty()
            }
            read => read?,
        };
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(Inner {
            tls: Arc::new(tls),
            plain_http: config.plain_http,
            private_addresses: config.private_addresses,
            waiting: Mutex::default(),
            connections: Semaphore::new(CONNECTIONS),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })))
    }

    /// That notifications could be sent there.
    ///
    /// # Errors
    /// `INVALID_SINK`.
    pub fn check(&self, text: &str) -> Result<(), Refusal> {
        let (_, host, _, _) = sink(text, self.0.plain_http)?;
        match host.parse::<IpAddr>() {
            Ok(address) if !self.0.private_addresses && !is_public(address) => {
                let message = "sink: expected a public address";
                Err(Refusal::new(
                    axum::http::StatusCode::BAD_REQUEST,
                    "INVALID_SINK",
                    message,
                ))
            }
            _ => Ok(()),
        }
    }

    /// Tells a session's sink of its status. Returns at once; has to be called within a runtime.
    pub fn tell(
        &self,
        session: Uuid,
        to: &str,
        credential: Option<&SinkCredential>,
        status: QosStatus,
        info: Option<StatusInfo>,
    ) {
        let notification = Notification {
            sink: to.to_owned(),
            credential: credential.cloned(),
            event: CloudEvent {
                id: Uuid::new_v4().to_string(),
                source: format!("/quality-on-demand/v1/sessions/{session}"),
                kind: STATUS_CHANGED.to_owned(),
                specversion: "1.0".to_owned(),
                datacontenttype: "application/json".to_owned(),
                time: rfc3339(now_ms()),
                data: StatusChange {
                    session_id: session.to_string(),
                    qos_status: status,
                    status_info: info,
                },
            },
        };
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.count >= WAITING_MAX {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%session, "too many notifications wait: one is dropped");
            return;
        }
        waiting.count += 1;
        match waiting.of_session.get_mut(&session) {
            // Its task takes it when those before are through.
            Some(queue) => queue.push_back(notification),
            None => {
                waiting.of_session.insert(session, VecDeque::from([notification]));
                let notifier = self.clone();
                tokio::spawn(async move { notifier.deliver_all(session).await });
            }
        }
    }

    /// What has become of them so far.
    pub fn counts(&self) -> Counts {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).count;
        Counts {
            waiting,
            delivered: self.0.delivered.load(Ordering::Relaxed),
            failed: self.0.dropped.load(Ordering::Relaxed),
        }
    }

    async fn deliver_all(&self, session: Uuid) {
        loop {
            let next = {
                let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let next = waiting
                    .of_session
                    .get(&session)
                    .and_then(|queue| queue.front().cloned());
                if next.is_none() {
                    waiting.of_session.remove(&session);
                }
                next
            };
            let Some(notification) = next else { return };
            match self.deliver(&notification).await {
                Ok(()) => drop(self.0.delivered.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    self.0.dropped.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%session, sink = notification.sink, error, "a notification is given up");
                }
            }
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.count -= 1;
            if let Some(queue) = waiting.of_session.get_mut(&session) {
                queue.pop_front();
            }
        }
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), String> {
        let mut wait = FIRST_WAIT;
        let mut last = String::new();
        for attempt in 1..=ATTEMPTS {
            let tried = {
                let _place = self.0.connections.acquire().await;
                let tried = tokio::time::timeout(SINK_TIME, self.attempt(notification)).await;
                tried.unwrap_or_else(|_| Err(Failure::Passing("no answer in time".to_owned())))
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(Failure::Final(why)) => return Err(why),
                Err(Failure::Passing(why)) => last = why,
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
        Err(last)
    }

    async fn attempt(&self, notification: &Notification) -> Result<(), Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
        let expires = notification
            .credential
            .as_ref()
            .and_then(|c| c.access_token_expires_utc.as_deref());
        if expires.and_then(parse_rfc3339).is_some_and(|at| at <= now_ms()) {
            return Err(Failure::Final("the sink's access token has expired".to_owned()));
        }
        let (tls, host, port, uri) =
            sink(&notification.sink, self.0.plain_http).map_err(|refusal| Failure::Final(refusal.message))?;
        let found = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|e| passing(&e))?;
        let allowed: Vec<SocketAddr> = found
            .filter(|a| self.0.private_addresses || is_public(a.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(Failure::Final("the sink has no public address".to_owned()));
        }
        let stream = TcpStream::connect(&allowed[..]).await.map_err(|e| passing(&e))?;
        let body = serde_json::to_vec(&notification.event).map_err(|e| Failure::Final(e.to_string()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str());
        let mut request = hyper::Request::post(path)
            .header("host", authority)
            .header("content-type", "application/cloudevents+json");
        if let Some(token) = notification.credential.as_ref().and_then(|c| c.access_token.as_deref()) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Failure::Final(e.to_string()))?;
        let status = if tls {
            let name = ServerName::try_from(host).map_err(|e| Failure::Final(e.to_string()))?;
            let connector = TlsConnector::from(self.0.tls.clone());
            let stream = connector.connect(name, stream).await.map_err(|e| passing(&e))?;
            send(stream, request).await
        } else {
            send(stream, request).await
        };
        match status.map_err(|e| passing(&e))?.as_u16() {
            200..=299 => Ok(()),
            status @ (408 | 429 | 500..=599) => Err(Failure::Passing(format!("the sink answered {status}"))),
            status => Err(Failure::Final(format!("the sink answered {status}"))),
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::Request<Full<Bytes>>,
) -> Result<hyper::StatusCode, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    // The body, if there is one, says nothing that we need.
    connection.abort();
    answer.map(|answer| answer.status())
}

/// Neither ours, nor of a private or special network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let shared = a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64;
            !(a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_unspecified()
                || a.is_broadcast()
                || a.is_multicast()
                || shared)
        }
        IpAddr::V6(a) => match a.to_ipv4_mapped() {
            Some(a) => is_public(a.into()),
            None => {
                let special = a.is_unique_local() || a.is_unicast_link_local() || a.is_multicast();
                !(special || a.is_loopback() || a.is_unspecified())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_of_private_networks_are_not_public() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ];
        for text in private {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        assert!(is_public("198.51.100.1".parse().unwrap()) && is_public("2001:4860::1".parse().unwrap()));
    }
}
