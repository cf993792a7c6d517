//! Who gets in, how often, and what happens to floods, slow clients and repeated requests.

mod api_support;

use api_support::{Asked, Directory, Served, client, closed, eventually, exchange, open};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use upf_config::ApiTls;

const FACT: &str = "/v1/contexts/network/-/load";

fn three_clients() -> String {
    client("video", "token", b"video-token", "qod")
        + &client("reader", "token", b"reader-token", "contexts:read")
        + &client("writer", "token", b"writer-token", "contexts:read,contexts:write")
}

#[tokio::test]
async fn only_those_with_a_token_get_in_and_only_as_far_as_its_scopes() {
    let directory = Directory::new();
    let api = Served::start(closed(&directory, &three_clients())).await;
    let put = |token: &str| api.send(Asked::new("PUT", FACT).json(json!({"value": 1})).token(token));
    let get = |token: &str| api.send(Asked::new("GET", "/v1/contexts").token(token));

    let nobody = api.put(FACT, json!({"value": 1})).await;
    nobody.refused(401, "UNAUTHENTICATED");
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    put("wrong").await.refused(401, "UNAUTHENTICATED");
    let basic = Asked::new("GET", "/v1/contexts").header("authorization", "Basic dmlkZW86eA==");
    api.send(basic).await.refused(401, "UNAUTHENTICATED");
    api.get("/openapi.json").await.refused(401, "UNAUTHENTICATED");
    api.get("/nowhere").await.refused(401, "UNAUTHENTICATED");

    assert_eq!(
        put("video-token").await.refused(403, "PERMISSION_DENIED"),
        "video lacks the scope contexts:write"
    );
    put("reader-token").await.refused(403, "PERMISSION_DENIED");
    assert_eq!(api.controller.changes(), 0);
    put("writer-token").await.ok(200);
    get("reader-token").await.ok(200);
    get("video-token").await.refused(403, "PERMISSION_DENIED");
    let qod = Asked::new("POST", "/quality-on-demand/v1/sessions")
        .json(json!({}))
        .token("writer-token");
    api.send(qod).await.refused(403, "PERMISSION_DENIED");
    assert_eq!(api.controller.facts()[0].note.as_deref(), Some("writer"));
}

#[tokio::test]
async fn prometheus_is_told_of_requests_and_of_what_kept_them_from_their_handlers() {
    let directory = Directory::new();
    let mut config = closed(&directory, &three_clients());
    config.limits.requests_per_second = 1;
    config.limits.burst_requests = 3;
    let api = Served::start(config).await;
    let put = |token: &str| api.send(Asked::new("PUT", FACT).json(json!({"value": 1})).token(token));
    put("writer-token").await.ok(200);
    put("reader-token").await.refused(403, "PERMISSION_DENIED");
    put("wrong").await.refused(401, "UNAUTHENTICATED");
    for path in ["/nowhere", "/also/nowhere"] {
        let asked = api.send(Asked::new("GET", path).token("reader-token")).await;
        asked.refused(404, "NOT_FOUND");
    }
    // Three in a second, and the fourth is one too many, or the fifth if a second has passed.
    let mut refused = 0;
    while refused == 0 {
        let asked = api.send(Asked::new("BREW", FACT).token("reader-token")).await;
        refused += usize::from(asked.status == 429);
    }
    let page = api.figures();
    let route = "route=\"/v1/contexts/{kind}/{subject}/{key}\"";
    for line in [
        format!("api_requests_total{{method=\"PUT\",{route},status=\"200\"}} 1"),
        format!("api_requests_total{{method=\"PUT\",{route},status=\"403\"}} 1"),
        format!("api_requests_total{{method=\"PUT\",{route},status=\"401\"}} 1"),
        "api_requests_total{method=\"\",route=\"\",status=\"404\"} 2".to_owned(),
        "api_refused_total{by=\"scope\"} 1".to_owned(),
        "api_refused_total{by=\"authentication\"} 1".to_owned(),
        "api_refused_total{by=\"client-rate\"} 1".to_owned(),
    ] {
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn the_clients_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let directory = Directory::new();
    let config = closed(&directory, &three_clients());
    let api = Served::start(config).await;
    let status = |token: &'static str| async { api.send(Asked::new("GET", "/v1/contexts").token(token)).await.status };
    assert_eq!((status("reader-token").await, status("new-token").await), (200, 401));
    directory.file("clients", &client("new", "token", b"new-token", "contexts:read"));
    eventually(|| async { status("new-token").await == 200 }).await;
    assert_eq!(status("reader-token").await, 401);
    directory.file("clients", "new token:nonsense contexts:read");
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(status("new-token").await, 200);
}

#[tokio::test]
async fn a_flood_is_refused_and_does_not_touch_other_clients() {
    let directory = Directory::new();
    let mut config = closed(&directory, &three_clients());
    config.limits.requests_per_second = 1;
    config.limits.burst_requests = 20;
    let api = Served::start(config).await;
    let mut refused = 0;
    for _ in 0..200 {
        let answer = api
            .send(Asked::new("PUT", FACT).json(json!({"value": 1})).token("writer-token"))
            .await;
        if answer.status == 429 {
            answer.refused(429, "TOO_MANY_REQUESTS");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    // A request in a second passes beside the burst, however slow the machine is.
    assert!(refused >= 100, "{refused}");
    assert_eq!(api.controller.changes(), 200 - refused);
    api.send(Asked::new("GET", "/v1/contexts").token("reader-token"))
        .await
        .ok(200);
    // Guessing tokens is limited by address.
    let mut limited = false;
    for guess in 0..60 {
        limited |= api
            .send(Asked::new("GET", "/v1/contexts").token(&format!("guess-{guess}")))
            .await
            .status
            == 429;
    }
    assert!(limited);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_others_go() {
    let mut config = open();
    config.limits.connections = 2;
    let api = Served::start(config).await;
    let idle: Vec<TcpStream> = [
        TcpStream::connect(api.address).await,
        TcpStream::connect(api.address).await,
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect();
    let mut waiting = TcpStream::connect(api.address).await.unwrap();
    waiting
        .write_all(b"GET /v1/contexts HTTP/1.1\r\nhost: upf\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut octet = [0; 1];
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), waiting.read(&mut octet)).await;
    assert!(early.is_err(), "answered beyond the limit");
    drop(idle);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let api = Served::start(open()).await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let _ = stream
        .write_all(format!("GET /{} HTTP/1.1\r\n", "a".repeat(1 << 20)).as_bytes())
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    api.get("/v1/contexts").await.ok(200);
}

#[tokio::test]
async fn a_post_with_an_idempotency_key_is_done_once() {
    let api = Served::start(open()).await;
    let body = |value: i32| json!({"steps": [{"put": {"about": "network", "key": "a", "value": value}}]});
    let post = |key: &str, value: i32| {
        let asked = Asked::new("POST", "/v1/contexts")
            .json(body(value))
            .header("idempotency-key", key);
        api.send(asked)
    };
    let first = post("k1", 1).await;
    let again = post("k1", 1).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(api.controller.changes(), 1);
    post("k1", 2).await.refused(409, "CONFLICT");
    post("k2", 2).await.ok(200);
    assert_eq!(api.controller.changes(), 2);
    let endless = Asked::new("POST", "/v1/contexts")
        .json(body(1))
        .header("idempotency-key", &"k".repeat(256));
    api.send(endless).await.refused(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn an_idempotency_key_is_its_clients_alone_and_sessions_are_made_once() {
    let api = Served::start(open()).await;
    let body = json!({
        "device": {"phoneNumber": "+491701234567"}, "applicationServer": {"ipv4Address": "198.51.100.7"},
        "qosProfile": "QOS_E", "duration": 60,
    });
    let post = || {
        let asked = Asked::new("POST", "/quality-on-demand/v1/sessions").json(body.clone());
        api.send(asked.header("idempotency-key", "once"))
    };
    let (first, again) = (post().await, post().await);
    assert_eq!(
        (first.header("location"), first.status),
        (again.header("location"), 201)
    );
    assert_eq!(first.text, again.text);
    assert_eq!(api.controller.facts().len(), 1);
}

#[tokio::test]
async fn every_operation_is_described_with_schemas_that_are_there() {
    let api = Served::start(open()).await;
    let document = api.get("/openapi.json").await.ok(200);
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = 0;
    for route in upf_ctl::api::routes::all() {
        let operation = &document["paths"][route.path][route.method];
        assert_eq!(
            operation["operationId"], route.operation,
            "{} {}",
            route.method, route.path
        );
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(operation["responses"][route.success.as_str()].is_object());
        described += 1;
    }
    let operations = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len());
    assert_eq!(operations.sum::<usize>(), described);
    let text = document.to_string();
    for reference in text
        .split(r##""$ref":"#"##)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    for schema in [
        "SessionInfo",
        "CreateSession",
        "ErrorInfo",
        "CloudEvent",
        "Batch",
        "Step",
    ] {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

/// A certificate authority with a server's and a client's certificate, in files.
struct Authority {
    directory: Directory,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = Directory::new();
        directory.file("ca.pem", &issuer.pem());
        Self { directory, issuer }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        (certificate, key)
    }

    fn server(&self, clients: &str) -> upf_config::Api {
        let (certificate, key) = self.issue("localhost");
        let mut config = closed(&self.directory, clients);
        config.tls = Some(ApiTls {
            certificate: self.directory.file("api.pem", &certificate.pem()),
            key: self.directory.file("api.key", &key.serialize_pem()),
            client_ca: Some(self.directory.0.join("ca.pem")),
        });
        config
    }

    /// A client that shows this certificate, or none.
    fn connector(&self, shown: Option<&(rcgen::Certificate, KeyPair)>) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(upf_ctl::api::server::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn over_tls(api: &Served, connector: &TlsConnector, asked: Asked) -> Option<api_support::Answered> {
    let stream = TcpStream::connect(api.address).await.unwrap();
    let stream = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .ok()?;
    exchange(stream, asked).await.ok()
}

#[tokio::test]
async fn over_mutual_tls_a_certificate_is_who_one_is() {
    let authority = Authority::new();
    let operator = authority.issue("operator");
    let stranger = authority.issue("stranger");
    let clients = client(
        "operator",
        "certificate",
        operator.0.der(),
        "contexts:read,contexts:write",
    );
    let api = Served::start(authority.server(&clients)).await;

    let ours = authority.connector(Some(&operator));
    let put = Asked::new("PUT", FACT).json(json!({"value": 1}));
    over_tls(&api, &ours, put.clone()).await.unwrap().ok(200);
    let qod = Asked::new("POST", "/quality-on-demand/v1/sessions").json(json!({}));
    over_tls(&api, &ours, qod)
        .await
        .unwrap()
        .refused(403, "PERMISSION_DENIED");

    let known_issuer = over_tls(&api, &authority.connector(Some(&stranger)), put.clone())
        .await
        .unwrap();
    known_issuer.refused(401, "UNAUTHENTICATED");
    let foreign = Authority::new().issue("operator");
    assert!(
        over_tls(&api, &authority.connector(Some(&foreign)), put.clone())
            .await
            .is_none()
    );
    assert!(over_tls(&api, &authority.connector(None), put).await.is_none());
    assert_eq!(api.controller.changes(), 1);
}
