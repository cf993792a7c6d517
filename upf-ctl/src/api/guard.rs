//! Before a handler: who asks, whether they may, how often, and whether they have asked the same before.
//!
//! A token or a certificate makes a [`Client`]. Whoever has none, or a wrong one, is limited by address, so that guessing
//! is as slow as flooding.

use super::clients::{Client, Clients, ClientsError, Proof, Scope};
use super::figures::{Figures, Obstacle};
use super::idempotency::{Answer, Keys, Name, Seen};
use super::rate::Limiter;
use super::refusal::Refusal;
use super::server::Peer;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// For a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How often the clients file is looked at.
const REREAD: Duration = Duration::from_millis(500);
/// Octets of an idempotency key.
const KEY_MAX: usize = 255;

static CORRELATOR: HeaderName = HeaderName::from_static("x-correlator");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Client(String),
    Address(IpAddr),
}

#[derive(Debug)]
struct Inner {
    clients: RwLock<Clients>,
    file: Option<PathBuf>,
    open_on_loopback: bool,
    limiter: Limiter<Who>,
    keys: Keys,
    body_bytes: usize,
    figures: Figures,
}

/// The guard of one server.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Inner>);

impl Guard {
    /// As configured.
    ///
    /// # Errors
    /// The clients file is wrong.
    pub fn new(config: &upf_config::Api, figures: Figures) -> io::Result<Self> {
        let clients = config.clients_file.as_deref().map(Clients::load).transpose();
        let limits = &config.limits;
        Ok(Self(Arc::new(Inner {
            clients: RwLock::new(clients.map_err(io::Error::other)?.unwrap_or_default()),
            file: config.clients_file.clone(),
            open_on_loopback: config.loopback_without_token,
            limiter: Limiter::new(limits.requests_per_second, limits.burst_requests),
            keys: Keys::default(),
            body_bytes: limits.body_bytes as usize,
            figures,
        })))
    }

    /// Reads the clients file again whenever it has changed; one that is wrong leaves the clients as they were.
    pub async fn keep_current(&self) {
        let Some(file) = &self.0.file else {
            return std::future::pending().await;
        };
        let stamp = || std::fs::metadata(file).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        // What was read before this is not known to be this old or older: read once more.
        let mut seen: Option<(SystemTime, u64)> = None;
        loop {
            let now = stamp();
            if now.is_some() && now != seen {
                match Clients::load(file) {
                    Ok(clients) => *self.0.clients.write().unwrap_or_else(PoisonError::into_inner) = clients,
                    Err(error @ (ClientsError::Read { .. } | ClientsError::Line { .. })) => {
                        tracing::error!(%error, "the clients stay as they were");
                    }
                }
                seen = now;
            }
            tokio::time::sleep(REREAD).await;
        }
    }

    /// Whoever shows this certificate and these headers.
    fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Result<Client, Refusal> {
        let clients = self.0.clients.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.as_bytes().split_at_checked(7);
            let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
            let Some((_, token)) = token else {
                return Err(Refusal::unauthenticated("authorization: expected Bearer and a token"));
            };
            let known = clients.find(Proof::Token, token.trim_ascii()).cloned();
            return known.ok_or_else(|| Refusal::unauthenticated("authorization: this token is not known"));
        }
        if let Some(certificate) = &peer.certificate {
            let known = clients.find(Proof::Certificate, certificate).cloned();
            return known.ok_or_else(|| Refusal::unauthenticated("this certificate is not in the clients file"));
        }
        if self.0.open_on_loopback && peer.address.is_loopback() {
            return Ok(Client::trusted("loopback"));
        }
        Err(Refusal::unauthenticated("expected a bearer token, found none"))
    }

    fn limit(&self, who: &Who) -> Result<(), Refusal> {
        let taken = self.0.limiter.take(who, Instant::now());
        taken.map_err(|after| {
            self.0.figures.refused(match who {
                Who::Client(_) => Obstacle::ClientRate,
                Who::Address(_) => Obstacle::AddressRate,
            });
            Refusal::too_many("too many requests of this client", after)
        })
    }

    async fn pass(&self, request: Request, next: Next) -> Result<Response, Refusal> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Refusal::unavailable("the connection has no address"))?;
        let client = match self.identify(&peer, request.headers()) {
            Ok(client) => client,
            Err(refusal) => {
                self.limit(&Who::Address(peer.address))?;
                self.0.figures.refused(Obstacle::Unauthenticated);
                return Err(refusal);
            }
        };
        self.limit(&Who::Client(client.name.clone()))?;
        correlator(request.headers())?;
        let (mut parts, body) = request.into_parts();
        let body = self.read(body, &parts.headers).await?;
        let key = match parts.headers.get(&IDEMPOTENCY_KEY) {
            Some(key) if parts.method == Method::POST => Some(idempotency_key(key)?),
            _ => None,
        };
        let name = key.map(|key| (client.name.clone(), format!("POST {}", parts.uri.path()), key));
        parts.extensions.insert(client);
        match name {
            None => Ok(next.run(Request::from_parts(parts, body.into())).await),
            Some(name) => {
                let run = next.run(Request::from_parts(parts, body.clone().into()));
                self.once(name, &body, run).await
            }
        }
    }

    async fn read(&self, body: Body, headers: &HeaderMap) -> Result<Bytes, Refusal> {
        let limit = self.0.body_bytes;
        let too_large = || {
            let message = format!("body: expected {limit} octets at most");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", message)
        };
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, limit)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => {
                let message = format!("body: expected within {} seconds", BODY_TIME.as_secs());
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message))
            }
        }
    }

    /// Does it, unless it was done before.
    async fn once(&self, name: Name, body: &[u8], run: impl Future<Output = Response>) -> Result<Response, Refusal> {
        match self.0.keys.begin(&name, body, Instant::now()) {
            Seen::Before(answer) => return Ok(again(&answer)),
            Seen::UnderWay => return Err(Refusal::conflict("a request with this idempotency key is under way")),
            Seen::Other => {
                return Err(Refusal::conflict(
                    "this idempotency key was used for a request with another body",
                ));
            }
            Seen::New => {}
        }
        // A client that hangs up ends this future wherever it is: then the key is free again.
        let mut claim = Claim {
            keys: &self.0.keys,
            name: Some(name),
        };
        let (parts, body) = run.await.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        let body = body.map_err(|_| Refusal::unavailable("the answer broke off"))?;
        let final_answer = !parts.status.is_server_error() && parts.status != StatusCode::TOO_MANY_REQUESTS;
        if let Some(name) = claim.name.take_if(|_| final_answer) {
            let answer = Answer {
                status: parts.status,
                content_type: parts.headers.get(header::CONTENT_TYPE).cloned(),
                location: parts.headers.get(header::LOCATION).cloned(),
                body: body.clone(),
            };
            self.0.keys.finish(&name, answer);
        }
        Ok(Response::from_parts(parts, body.into()))
    }
}

struct Claim<'a> {
    keys: &'a Keys,
    name: Option<Name>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.keys.forget(name);
        }
    }
}

fn again(answer: &Answer) -> Response {
    let mut response = (answer.status, answer.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in [
        (header::CONTENT_TYPE, &answer.content_type),
        (header::LOCATION, &answer.location),
    ] {
        headers.extend(value.clone().map(|value| (name, value)));
    }
    headers.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

fn idempotency_key(value: &HeaderValue) -> Result<String, Refusal> {
    let text = value.to_str().ok().filter(|text| (1..=KEY_MAX).contains(&text.len()));
    text.map(str::to_owned)
        .ok_or_else(|| Refusal::invalid(format!("idempotency-key: expected 1 to {KEY_MAX} printable characters")))
}

/// CAMARA `XCorrelator`: at most 256 characters of a few kinds.
fn correlator(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let Some(value) = headers.get(&CORRELATOR) else {
        return Ok(None);
    };
    let letter = |c: &u8| c.is_ascii_alphanumeric() || b"-_:;./<>{}".contains(c);
    if value.len() <= 256 && value.as_bytes().iter().all(letter) {
        return Ok(Some(value));
    }
    let expected = "x-correlator: expected at most 256 letters, digits or - _ : ; . / < > { }";
    Err(Refusal::invalid(expected))
}

/// Around the whole router.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let echoed = correlator(request.headers()).ok().flatten().cloned();
    let (method, route) = (
        request.method().clone(),
        request.extensions().get::<MatchedPath>().cloned(),
    );
    let mut response = guard.pass(request, next).await.unwrap_or_else(Refusal::into_response);
    let figures = &guard.0.figures;
    if response.extensions().get::<LacksScope>().is_some() {
        figures.refused(Obstacle::Scope);
    }
    let route = route.as_ref().map(MatchedPath::as_str);
    figures.answered(method.as_str(), route, response.status());
    if let Some(value) = echoed {
        response.headers_mut().insert(CORRELATOR.clone(), value);
    }
    response
}

/// Marks an answer to a client without the scope, for the guard around it.
#[derive(Debug, Clone, Copy)]
struct LacksScope;

/// Around one route.
pub async fn require(State(scope): State<Scope>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Client>() {
        Some(client) if client.scopes.contains(&scope) => next.run(request).await,
        Some(client) => {
            let message = format!("{} lacks the scope {}", client.name, scope.name());
            let mut response = Refusal::denied(message).into_response();
            response.extensions_mut().insert(LacksScope);
            response
        }
        None => Refusal::unauthenticated("expected a bearer token, found none").into_response(),
    }
}
