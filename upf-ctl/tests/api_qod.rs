//! CAMARA Quality-On-Demand, request by request, through TCP sockets: the API's, and those of sinks.

mod api_support;

use api_support::{Answered, Asked, Served, client, closed, eventually, open};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use upf_ctl::context_push::What;

const SESSIONS: &str = "/quality-on-demand/v1/sessions";

fn wanted() -> Value {
    json!({
        "device": {"ipv4Address": {"publicAddress": "203.0.113.1", "privateAddress": "10.45.0.7"}},
        "applicationServer": {"ipv4Address": "198.51.100.7"},
        "applicationServerPorts": {"ports": [5060]},
        "qosProfile": "QOS_E",
        "duration": 60,
    })
}

/// As wanted, but with one field otherwise; null takes it away.
fn but(field: &str, value: Value) -> Value {
    let mut body = wanted();
    body[field] = value;
    if body[field].is_null() {
        body.as_object_mut().unwrap().remove(field);
    }
    body
}

fn path(session: &Value) -> String {
    format!("{SESSIONS}/{}", session["sessionId"].as_str().expect("an identifier"))
}

/// A sink that answers as it is told, and remembers requests.
struct Sink {
    url: String,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Sink {
    async fn listen() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), "204 No Content")
    }

    fn on(listener: TcpListener, status: &'static str) -> Self {
        let url = format!("http://{}/sink?of=me", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                let mut piece = [0; 4_096];
                let event = loop {
                    let read = stream.read(&mut piece).await.unwrap_or(0);
                    text.extend_from_slice(&piece[..read]);
                    let whole = String::from_utf8_lossy(&text).into_owned();
                    let Some((header, body)) = whole.split_once("\r\n\r\n") else {
                        assert!(read > 0, "{whole}");
                        continue;
                    };
                    if let Ok(event) = serde_json::from_str(body) {
                        break (header.to_ascii_lowercase(), event);
                    }
                };
                all.lock().unwrap().push(event);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, heard }
    }

    /// What was said of it, in order: `AVAILABLE`, `UNAVAILABLE DELETE_REQUESTED`.
    fn said(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let text = |event: &Value| event.as_str().unwrap_or_default().to_owned();
        let one = |event: &Value| format!("{} {}", text(&event["qosStatus"]), text(&event["statusInfo"]));
        heard
            .iter()
            .map(|(_, event)| one(&event["data"]).trim_end().to_owned())
            .collect()
    }

    async fn hears(&self, expected: &[&str]) {
        eventually(|| async { self.said().len() >= expected.len() }).await;
        assert_eq!(self.said(), expected);
    }
}

#[tokio::test]
async fn a_session_is_created_shown_extended_and_deleted() {
    let api = Served::start(open()).await;
    let asked = Asked::new("POST", SESSIONS)
        .json(wanted())
        .header("x-correlator", "b4333c46:1");
    let created = api.send(asked).await;
    assert_eq!(created.header("x-correlator"), Some("b4333c46:1"));
    let location = created.header("location").unwrap().to_owned();
    let session = created.ok(201);
    assert_eq!(location, path(&session));
    assert_eq!(
        (session["qosStatus"].as_str(), session["duration"].as_u64()),
        (Some("AVAILABLE"), Some(60))
    );
    assert!(session["startedAt"].is_string() && session["expiresAt"].is_string());
    for field in ["device", "applicationServer", "applicationServerPorts", "qosProfile"] {
        assert_eq!(session[field], wanted()[field], "{field}");
    }

    let facts = api.controller.facts();
    assert_eq!(facts.len(), 1);
    assert_eq!(
        facts[0].key.as_str(),
        format!("qod.{}", session["sessionId"].as_str().unwrap())
    );
    assert_eq!(facts[0].value, qos::Value::Text("QOS_E".into()));
    assert!(format!("{:?}", facts[0].about).contains("permit out ip from 198.51.100.7 5060 to assigned"));

    assert_eq!(api.get(&location).await.ok(200), session);
    let more = json!({"requestedAdditionalDuration": 100});
    let extended = api.post(&format!("{location}/extend"), more).await.ok(200);
    assert_eq!(extended["duration"], 160);
    assert_eq!(
        api.controller.facts()[0].expires_ms,
        facts[0].expires_ms.map(|at| at + 100_000)
    );
    let more = json!({"requestedAdditionalDuration": 1_000_000});
    let capped = api.post(&format!("{location}/extend"), more).await.ok(200);
    assert_eq!(capped["duration"], 3_600, "the profile's longest");

    let device = json!({"device": wanted()["device"]});
    let found = api
        .post("/quality-on-demand/v1/retrieve-sessions", device)
        .await
        .ok(200);
    assert_eq!(found, json!([capped]));

    api.delete(&location).await.ok(204);
    assert!(api.controller.facts().is_empty());
    api.get(&location).await.refused(404, "NOT_FOUND");
    api.delete(&location).await.refused(404, "NOT_FOUND");
    api.post(&format!("{location}/extend"), json!({"requestedAdditionalDuration": 1}))
        .await
        .refused(404, "NOT_FOUND");
    let other = json!({"device": {"phoneNumber": "+491701234567"}});
    assert_eq!(
        api.post("/quality-on-demand/v1/retrieve-sessions", other).await.ok(200),
        json!([])
    );
}

#[tokio::test]
async fn both_families_of_a_server_are_two_facts_of_one_session() {
    let api = Served::start(open()).await;
    let server = json!({"ipv4Address": "198.51.100.0/24", "ipv6Address": "2001:db8::1"});
    let session = api.post(SESSIONS, but("applicationServer", server)).await.ok(201);
    let id = session["sessionId"].as_str().unwrap();
    let mut keys: Vec<String> = api.controller.facts().iter().map(|fact| fact.key.to_string()).collect();
    keys.sort();
    assert_eq!(keys, [format!("qod.{id}.0"), format!("qod.{id}.1")]);
    api.delete(&path(&session)).await.ok(204);
    assert!(api.controller.facts().is_empty());
}

#[tokio::test]
async fn the_context_api_neither_shows_nor_touches_sessions() {
    let api = Served::start(open()).await;
    let session = api.post(SESSIONS, wanted()).await.ok(201);
    assert_eq!(api.get("/v1/contexts").await.ok(200)["facts"], json!([]));
    let key = format!(
        "/v1/contexts/address/10.45.0.7/qod.{}",
        session["sessionId"].as_str().unwrap()
    );
    api.delete(&key).await.refused(400, "INVALID_ARGUMENT");
    api.get(&key).await.refused(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn what_camara_does_not_allow_is_refused_with_its_code_and_reaches_nobody() {
    let api = Served::start(open()).await;
    let in_time = "2099-01-01T00:00:00Z";
    let credential = |kind: &str, token: &str, expires: &str| {
        let mut body = but("sink", json!("https://198.51.100.9/sink"));
        body["sinkCredential"] = json!({
            "credentialType": kind, "accessToken": "secret", "accessTokenType": token, "accessTokenExpiresUtc": expires,
        });
        body
    };
    let device = |device: Value| but("device", device);
    let duration = "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE";
    for (body, status, code) in [
        (json!({}), 400, "INVALID_ARGUMENT"),
        (json!([]), 400, "INVALID_ARGUMENT"),
        (but("device", Value::Null), 422, "MISSING_IDENTIFIER"),
        (device(json!({})), 400, "INVALID_ARGUMENT"),
        (device(json!({"phoneNumber": "0170"})), 400, "INVALID_ARGUMENT"),
        (
            device(json!({"ipv4Address": {"publicAddress": "203.0.113.1"}})),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            device(json!({"ipv4Address": {"publicAddress": "203.0.113.1", "publicPort": 65_536}})),
            400,
            "OUT_OF_RANGE",
        ),
        (device(json!({"ipv6Address": "2001:db8::/64"})), 400, "INVALID_ARGUMENT"),
        (
            device(json!({"networkAccessIdentifier": "me"})),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            device(json!({"networkAccessIdentifier": "me@example.org"})),
            422,
            "UNSUPPORTED_IDENTIFIER",
        ),
        (device(json!({"imsi": "001010000000001"})), 400, "INVALID_ARGUMENT"),
        (but("applicationServer", json!({})), 400, "INVALID_ARGUMENT"),
        (
            but("applicationServer", json!({"ipv4Address": "2001:db8::1"})),
            400,
            "INVALID_ARGUMENT",
        ),
        (
            but("applicationServer", json!({"ipv4Address": "198.51.100.0/33"})),
            400,
            "INVALID_ARGUMENT",
        ),
        (but("devicePorts", json!({"ports": [65_536]})), 400, "OUT_OF_RANGE"),
        (
            but("devicePorts", json!({"ranges": [{"from": 2, "to": 1}]})),
            400,
            "INVALID_ARGUMENT",
        ),
        (but("devicePorts", json!({})), 400, "INVALID_ARGUMENT"),
        (but("qosProfile", json!("QOS_X")), 400, "INVALID_ARGUMENT"),
        (but("qosProfile", json!("a b")), 400, "INVALID_ARGUMENT"),
        (but("duration", json!(0)), 400, "OUT_OF_RANGE"),
        (but("duration", json!(-1)), 400, "OUT_OF_RANGE"),
        (but("duration", json!(1u64 << 40)), 400, "OUT_OF_RANGE"),
        (but("duration", json!("60")), 400, "INVALID_ARGUMENT"),
        (but("duration", json!(1)), 400, duration),
        (but("duration", json!(3_601)), 400, duration),
        (but("sink", json!("ftp://198.51.100.9/")), 400, "INVALID_SINK"),
        (but("sink", json!("https://me:pw@198.51.100.9/")), 400, "INVALID_SINK"),
        (
            but("sinkCredential", json!({"credentialType": "ACCESSTOKEN"})),
            400,
            "INVALID_ARGUMENT",
        ),
        (credential("PLAIN", "bearer", in_time), 400, "INVALID_CREDENTIAL"),
        (credential("ACCESSTOKEN", "mac", in_time), 400, "INVALID_TOKEN"),
        (
            credential("ACCESSTOKEN", "bearer", "2020-01-01T00:00:00Z"),
            400,
            "INVALID_TOKEN",
        ),
        (but("devicePort", json!({"ports": [1]})), 400, "INVALID_ARGUMENT"),
    ] {
        let answer = api.post(SESSIONS, body.clone()).await;
        assert_eq!(answer.json()["code"], code, "{body}: {answer:?}");
        answer.refused(status, code);
    }
    api.get(&format!("{SESSIONS}/seven"))
        .await
        .refused(400, "INVALID_ARGUMENT");
    api.post("/quality-on-demand/v1/retrieve-sessions", json!({}))
        .await
        .refused(422, "MISSING_IDENTIFIER");
    let correlated = Asked::new("POST", SESSIONS)
        .json(wanted())
        .header("x-correlator", "a b");
    api.send(correlated).await.refused(400, "INVALID_ARGUMENT");
    assert_eq!(api.controller.changes(), 0);
}

#[tokio::test]
async fn what_the_network_refuses_leaves_nothing() {
    let api = Served::start(open()).await;
    let message = api
        .post(SESSIONS, but("qosProfile", json!("refuse")))
        .await
        .refused(422, "SERVICE_NOT_APPLICABLE");
    assert_eq!(message, "no capacity is left");
    assert!(api.controller.facts().is_empty());
    // The flow is free again.
    api.post(SESSIONS, wanted()).await.ok(201);
}

#[tokio::test]
async fn a_flow_has_one_session_at_a_time() {
    let api = Served::start(open()).await;
    let first = api.post(SESSIONS, wanted()).await.ok(201);
    api.post(SESSIONS, wanted()).await.refused(409, "CONFLICT");
    api.post(SESSIONS, but("applicationServerPorts", json!({"ports": [5061]})))
        .await
        .ok(201);
    api.delete(&path(&first)).await.ok(204);
    api.post(SESSIONS, wanted()).await.ok(201);
}

#[tokio::test]
async fn sessions_are_no_more_than_configured() {
    let mut config = open();
    config.limits.qod_sessions = 3;
    let api = Served::start(config).await;
    let of = |port: u16| but("applicationServerPorts", json!({"ports": [port]}));
    for port in 1..=3 {
        api.post(SESSIONS, of(port)).await.ok(201);
    }
    let answer = api.post(SESSIONS, of(4)).await;
    answer.refused(429, "TOO_MANY_REQUESTS");
    assert_eq!(answer.header("retry-after"), Some("60"));
}

#[tokio::test]
async fn a_device_that_is_away_gets_its_session_when_it_comes() {
    let api = Served::start(open()).await;
    let sink = Sink::listen().await;
    let mut body = but(
        "device",
        json!({"ipv4Address": {"publicAddress": "10.45.0.99", "publicPort": 9}}),
    );
    body["sink"] = json!(sink.url);
    let session = api.post(SESSIONS, body).await.ok(201);
    assert_eq!(session["qosStatus"], "REQUESTED");
    assert!(session["startedAt"].is_null() && session["expiresAt"].is_null());
    let more = json!({"requestedAdditionalDuration": 5});
    let code = "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED";
    api.post(&format!("{}/extend", path(&session)), more)
        .await
        .refused(409, code);

    let asked_for = api.controller.facts()[0].expires_ms;
    api.controller.happens(What::InEffect);
    sink.hears(&["AVAILABLE"]).await;
    // Its time begins now: the fact is put again with another end.
    eventually(|| async { api.controller.changes() == 2 }).await;
    assert!(api.controller.facts()[0].expires_ms >= asked_for);
    assert_eq!(api.get(&path(&session)).await.ok(200)["qosStatus"], "AVAILABLE");
}

#[tokio::test]
async fn a_sink_is_told_of_every_change_with_its_token() {
    let api = Served::start(open()).await;
    let sink = Sink::listen().await;
    let mut body = but("sink", json!(sink.url));
    body["sinkCredential"] = json!({
        "credentialType": "ACCESSTOKEN", "accessToken": "open-sesame", "accessTokenType": "bearer",
        "accessTokenExpiresUtc": "2099-01-01T00:00:00Z",
    });
    let session = api.post(SESSIONS, body).await.ok(201);
    assert!(session["sinkCredential"].is_null(), "the token is not shown");
    sink.hears(&["AVAILABLE"]).await;
    let page = api.figures();
    assert!(page.contains("qod_sessions{status=\"AVAILABLE\"} 1"), "{page}");
    api.delete(&path(&session)).await.ok(204);
    sink.hears(&["AVAILABLE", "UNAVAILABLE DELETE_REQUESTED"]).await;
    let page = api.figures();
    assert!(page.contains("qod_notifications_total{outcome=\"failed\"} 0"), "{page}");

    let heard = sink.heard.lock().unwrap();
    let (header, event) = &heard[0];
    assert!(header.starts_with("post /sink?of=me http/1.1"), "{header}");
    assert!(header.contains("authorization: bearer open-sesame"), "{header}");
    assert!(
        header.contains("content-type: application/cloudevents+json"),
        "{header}"
    );
    assert_eq!(
        event["type"],
        "org.camaraproject.quality-on-demand.v1.qos-status-changed"
    );
    assert_eq!(
        (&event["specversion"], &event["data"]["sessionId"]),
        (&json!("1.0"), &session["sessionId"])
    );
    assert_ne!(event["id"], heard[1].1["id"]);
}

#[tokio::test]
async fn what_ends_a_session_is_told_apart() {
    for (what, info) in [
        (What::Expired, "DURATION_EXPIRED"),
        (What::Preempted("an emergency call".into()), "NETWORK_TERMINATED"),
        (What::SessionEnded, "NETWORK_TERMINATED"),
        (What::Removed, "NETWORK_TERMINATED"),
    ] {
        let api = Served::start(open()).await;
        let sink = Sink::listen().await;
        let session = api.post(SESSIONS, but("sink", json!(sink.url))).await.ok(201);
        api.controller.happens(what.clone());
        sink.hears(&["AVAILABLE", &format!("UNAVAILABLE {info}")]).await;
        // Still there to be asked, for those without a sink.
        let ended = api.get(&path(&session)).await.ok(200);
        assert_eq!(
            (ended["qosStatus"].as_str(), ended["statusInfo"].as_str()),
            (Some("UNAVAILABLE"), Some(info))
        );
        eventually(|| async { api.controller.facts().is_empty() }).await;
        let again = api.post(SESSIONS, wanted()).await;
        if what != What::Expired {
            again.refused(409, "CONFLICT");
            api.delete(&path(&session)).await.ok(204);
            api.post(SESSIONS, wanted()).await.ok(201);
        } else {
            again.ok(201);
        }
        assert_eq!(sink.said().len(), 2, "an ended session is not ended again");
    }
}

#[tokio::test]
async fn a_sink_that_is_down_is_tried_again_and_holds_nobody_up() {
    let api = Served::start(open()).await;
    // An address that nobody listens on, until later.
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let down = api
        .post(SESSIONS, but("sink", json!(format!("http://{address}/sink?of=me"))))
        .await
        .ok(201);
    api.delete(&path(&down)).await.ok(204);

    let sink = Sink::listen().await;
    api.post(SESSIONS, but("sink", json!(sink.url))).await.ok(201);
    sink.hears(&["AVAILABLE"]).await;

    let up = Sink::on(TcpListener::bind(address).await.unwrap(), "204 No Content");
    up.hears(&["AVAILABLE", "UNAVAILABLE DELETE_REQUESTED"]).await;
}

#[tokio::test]
async fn a_sink_that_says_no_is_not_asked_again() {
    let api = Served::start(open()).await;
    let sink = Sink::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), "410 Gone");
    let session = api.post(SESSIONS, but("sink", json!(sink.url))).await.ok(201);
    api.delete(&path(&session)).await.ok(204);
    sink.hears(&["AVAILABLE", "UNAVAILABLE DELETE_REQUESTED"]).await;
}

#[tokio::test]
async fn sinks_are_https_and_public_unless_configured() {
    let mut config = open();
    config.sinks.plain_http = false;
    config.sinks.private_addresses = false;
    let api = Served::start(config).await;
    for url in [
        "http://198.51.100.9/",
        "https://127.0.0.1/",
        "https://[::1]:9/",
        "https://10.0.0.1/",
        "sink",
    ] {
        api.post(SESSIONS, but("sink", json!(url)))
            .await
            .refused(400, "INVALID_SINK");
    }
    assert_eq!(api.controller.changes(), 0);
}

#[tokio::test]
async fn sessions_outlive_a_restart_of_the_api() {
    let first = Served::start(open()).await;
    let sink = Sink::listen().await;
    let server = json!({"ipv4Address": "198.51.100.7", "ipv6Address": "2001:db8::1"});
    let mut body = but("applicationServer", server);
    body["sink"] = json!(sink.url);
    let session = first.post(SESSIONS, body).await.ok(201);
    sink.hears(&["AVAILABLE"]).await;
    let before = first.controller.facts();
    let controller = first.controller.clone();
    drop(first);

    let second = Served::over(controller, open()).await;
    eventually(|| async { second.get(&path(&session)).await.status == 200 }).await;
    eventually(|| async { second.get(&path(&session)).await.json() == session }).await;
    assert_eq!(second.controller.facts(), before);
    second.delete(&path(&session)).await.ok(204);
    sink.hears(&["AVAILABLE", "UNAVAILABLE DELETE_REQUESTED"]).await;
}

#[tokio::test]
async fn a_session_is_its_clients_alone() {
    let directory = api_support::Directory::new();
    let clients = client("mine", "token", b"my-token", "qod") + &client("other", "token", b"other-token", "qod");
    let api = Served::start(closed(&directory, &clients)).await;
    let asked = Asked::new("POST", SESSIONS).json(wanted()).token("my-token");
    let session = api.send(asked).await.ok(201);
    let as_other = |method: &str| api.send(Asked::new(method, &path(&session)).token("other-token"));
    as_other("GET").await.refused(404, "NOT_FOUND");
    as_other("DELETE").await.refused(404, "NOT_FOUND");
    assert_eq!(
        api.send(Asked::new("GET", &path(&session)).token("my-token"))
            .await
            .ok(200),
        session
    );
}

#[tokio::test]
async fn profiles_are_those_of_the_policies() {
    let api = Served::start(open()).await;
    let list = |body: Value| async { api.post("/qos-profiles/v1/retrieve-qos-profiles", body).await.ok(200) };
    let all = list(json!({})).await;
    assert_eq!(all.as_array().unwrap().len(), 4);
    let expected = json!({
        "name": "QOS_E", "description": "for calls", "status": "ACTIVE",
        "minDuration": {"value": 2, "unit": "Seconds"}, "maxDuration": {"value": 3_600, "unit": "Seconds"},
    });
    assert_eq!(list(json!({"name": "QOS_E"})).await, json!([expected]));
    assert_eq!(list(json!({"status": "INACTIVE"})).await, json!([]));
    assert_eq!(api.get("/qos-profiles/v1/qos-profiles/QOS_E").await.ok(200), expected);
    api.get("/qos-profiles/v1/qos-profiles/QOS_X")
        .await
        .refused(404, "NOT_FOUND");
    api.get("/qos-profiles/v1/qos-profiles/a%20b")
        .await
        .refused(400, "INVALID_ARGUMENT");
    let wrong: Answered = api
        .post("/qos-profiles/v1/retrieve-qos-profiles", json!({"status": "GOOD"}))
        .await;
    wrong.refused(400, "INVALID_ARGUMENT");
}
