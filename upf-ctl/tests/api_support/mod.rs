//! A served API over a controller that only keeps facts, and a client of it on real sockets.
#![allow(dead_code)]

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use qos::{Fact, Key, Subject, Value};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use upf_config::{Api as Config, ApiLimits, Sinks};
use upf_ctl::api::figures::Figures;
use upf_ctl::context_push::{Command, Contexts, Happened, Outcome, What};

/// The facts that the controller has, and how many commands changed them.
#[derive(Debug, Default)]
pub struct Kept {
    pub facts: BTreeMap<(Subject, Key), Fact>,
    pub changes: usize,
    /// How many facts each put had.
    pub puts: Vec<usize>,
}

/// A controller that keeps facts; what a fact's value or subject says decides the outcome.
#[derive(Debug, Clone)]
pub struct Controller {
    pub kept: Arc<Mutex<Kept>>,
    pub contexts: Contexts,
}

fn outcome(fact: &Fact) -> Outcome {
    let about = format!("{:?}", fact.about);
    match &fact.value {
        Value::Text(text) if text == "refuse" => Outcome::Refused {
            reason: "no capacity is left".to_owned(),
        },
        Value::Text(text) if text == "delay" => Outcome::Delayed {
            reason: "p4 is away".to_owned(),
        },
        _ if about.contains("10.45.0.99") => Outcome::Kept,
        _ => Outcome::InEffect { sessions: 1 },
    }
}

impl Controller {
    pub fn start() -> Self {
        let (commands, mut asked) = mpsc::channel(64);
        let (happened, _) = broadcast::channel(64);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let mine = kept.clone();
        tokio::spawn(async move {
            while let Some(command) = asked.recv().await {
                let mut kept = mine.lock().unwrap();
                match command {
                    Command::Put { facts, reply, .. } => {
                        kept.changes += 1;
                        kept.puts.push(facts.len());
                        let outcomes = facts.iter().map(outcome).collect::<Vec<_>>();
                        for (fact, outcome) in facts.into_iter().zip(&outcomes) {
                            if !matches!(outcome, Outcome::Refused { .. }) {
                                kept.facts.insert((fact.about.clone(), fact.key.clone()), fact);
                            }
                        }
                        let _ = reply.send(outcomes);
                    }
                    Command::Remove { facts, reply, .. } => {
                        kept.changes += 1;
                        let _ = reply.send(facts.iter().filter_map(|name| kept.facts.remove(name)).collect());
                    }
                    Command::List {
                        about,
                        key_prefix,
                        reply,
                    } => {
                        let fits = |fact: &&Fact| {
                            about.as_ref().is_none_or(|a| *a == fact.about)
                                && fact.key.as_str().starts_with(&key_prefix)
                        };
                        let _ = reply.send(kept.facts.values().filter(fits).cloned().collect());
                    }
                    Command::Explain { seid, reply } => {
                        let _ = reply.send((seid == 1).then(|| json!({"policies": ["calls first"]})));
                    }
                    Command::Profiles { reply } => {
                        let profiles = json!({
                            "QOS_E": {"description": "for calls", "min_duration_s": 2, "max_duration_s": 3_600},
                            "QOS_L": "for downloads", "refuse": "never admitted", "delay": "always late",
                        });
                        let _ = reply.send(profiles);
                    }
                }
            }
        });
        let contexts = Contexts { commands, happened };
        Self { kept, contexts }
    }

    pub fn changes(&self) -> usize {
        self.kept.lock().unwrap().changes
    }

    pub fn facts(&self) -> Vec<Fact> {
        self.kept.lock().unwrap().facts.values().cloned().collect()
    }

    /// Says that this happened to all facts there are; those that are over are kept no longer.
    pub fn happens(&self, what: What) {
        for fact in self.facts() {
            if what != What::InEffect && !matches!(what, What::Preempted(_)) {
                let name = (fact.about.clone(), fact.key.clone());
                self.kept.lock().unwrap().facts.remove(&name);
            }
            let what = what.clone();
            let _ = self.contexts.happened.send(Happened { fact, what });
        }
    }
}

/// A directory of this test's own, gone with it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("upf-api-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A line of the clients file.
pub fn client(name: &str, kind: &str, secret: &[u8], scopes: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret);
    let hex: String = digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{name} {kind}:{hex} {scopes}\n")
}

/// Open on loopback, with sinks there too.
pub fn open() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        clients_file: None,
        loopback_without_token: true,
        tls: None,
        limits: ApiLimits {
            requests_per_second: 100_000,
            burst_requests: 100_000,
            ..ApiLimits::default()
        },
        sinks: Sinks {
            plain_http: true,
            private_addresses: true,
            ..Sinks::default()
        },
    }
}

/// With clients in a file.
pub fn closed(directory: &Directory, clients: &str) -> Config {
    Config {
        clients_file: Some(directory.file("clients", clients)),
        loopback_without_token: false,
        ..open()
    }
}

/// A served API.
pub struct Served {
    pub controller: Controller,
    pub address: SocketAddr,
    figures: Figures,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    pub async fn start(config: Config) -> Self {
        Self::over(Controller::start(), config).await
    }

    pub async fn over(controller: Controller, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let contexts = controller.contexts.clone();
        let figures = Figures::default();
        let shown = figures.clone();
        let task = tokio::spawn(async move {
            upf_ctl::api::serve(listener, contexts, &config, shown)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        });
        Self {
            controller,
            address,
            figures,
            task,
        }
    }

    /// What Prometheus reads.
    pub fn figures(&self) -> String {
        let mut registry = Registry::default();
        self.figures.register(&mut registry);
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        page
    }

    pub async fn send(&self, request: Asked) -> Answered {
        let stream = TcpStream::connect(self.address).await.unwrap();
        exchange(stream, request).await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.send(Asked::new("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        self.send(Asked::new("DELETE", path)).await
    }

    pub async fn put(&self, path: &str, body: serde_json::Value) -> Answered {
        self.send(Asked::new("PUT", path).json(body)).await
    }

    pub async fn post(&self, path: &str, body: serde_json::Value) -> Answered {
        self.send(Asked::new("POST", path).json(body)).await
    }
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Asked {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn json(self, body: serde_json::Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a refusal as CAMARA writes them, and gives its message.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        let json = self.json();
        assert_eq!((self.status, json["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(json["status"], status);
        json["message"].as_str().expect("a message").to_owned()
    }

    #[track_caller]
    pub fn ok(self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.text.is_empty() {
            serde_json::Value::Null
        } else {
            self.json()
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One request over a stream.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    asked: Asked,
) -> Result<Answered, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = hyper::Request::builder()
        .method(asked.method.as_str())
        .uri(asked.path)
        .header("host", "upf");
    for (name, value) in asked.headers {
        request = request.header(name, value);
    }
    let response = sender
        .send_request(request.body(Full::new(asked.body)).unwrap())
        .await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answered {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Asks until it is so; for what happens beside the request.
pub async fn eventually<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    for _ in 0..1_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never was so");
}
