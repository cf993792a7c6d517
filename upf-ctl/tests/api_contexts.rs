//! The context API, request by request, through a TCP socket.

mod api_support;

use api_support::{Asked, Served, open};
use qos::{Subject, User, Value};
use serde_json::json;
use upf_model::Seid;

const CALL: &str = "/v1/contexts/subscriber/imsi-001010000000001/app.call";

#[tokio::test]
async fn a_context_is_put_shown_and_removed() {
    let api = Served::start(open()).await;
    let put = api.put(CALL, json!({"value": true, "ttl_s": 60})).await.ok(200);
    assert_eq!(
        (put["outcome"].as_str(), put["sessions"].as_u64()),
        (Some("in-effect"), Some(1))
    );
    assert!(put["took_us"].is_u64() && put["expires_at"].is_string());
    assert_eq!(put["about"], "subscriber/imsi-001010000000001");

    let fact = &api.controller.facts()[0];
    let user = User::Subscriber("imsi-001010000000001".into());
    assert_eq!((&fact.about, &fact.value), (&Subject::User(user), &Value::Bool(true)));
    assert_eq!(
        (fact.key.as_str(), fact.note.as_deref()),
        ("app.call", Some("loopback"))
    );

    assert_eq!(api.get(CALL).await.ok(200)["value"], true);
    assert_eq!(api.delete(CALL).await.ok(200)["key"], "app.call");
    api.get(CALL).await.refused(404, "NOT_FOUND");
    api.delete(CALL).await.refused(404, "NOT_FOUND");
    assert!(api.controller.facts().is_empty());
}

#[tokio::test]
async fn the_same_put_twice_is_one_fact() {
    let api = Served::start(open()).await;
    for _ in 0..2 {
        api.put(CALL, json!({"value": 5})).await.ok(200);
    }
    assert_eq!(api.controller.facts().len(), 1);
    assert_eq!(api.controller.facts()[0].expires_ms, None);
}

#[tokio::test]
async fn every_kind_of_subject_has_its_path() {
    let api = Served::start(open()).await;
    for subject in [
        "network/-",
        "slice/1-00000a",
        "cell/c17",
        "subscriber/user@example.org",
        "address/10.45.0.7",
        "address/2001:db8::7",
        "session/0x1f",
    ] {
        let path = format!("/v1/contexts/{subject}/load");
        api.put(&path, json!({"value": 0.5})).await.ok(200);
        assert_eq!(api.get(&path).await.ok(200)["value"], 0.5, "{subject}");
        assert_eq!(
            api.get(&format!("/v1/contexts/{subject}")).await.ok(200)["facts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
    let about: Vec<Subject> = api.controller.facts().into_iter().map(|fact| fact.about).collect();
    assert!(about.contains(&Subject::Network) && about.contains(&Subject::User(User::Session(Seid(31)))));
}

#[tokio::test]
async fn a_flow_is_named_in_the_body_and_in_the_query() {
    let api = Served::start(open()).await;
    let flow = "permit out 17 from 192.0.2.1 5060 to assigned";
    api.put(CALL, json!({"value": "x", "flow": flow})).await.ok(200);
    api.get(CALL).await.refused(404, "NOT_FOUND");
    let with_flow = format!("{CALL}?flow={}", flow.replace(' ', "%20"));
    assert_eq!(api.get(&with_flow).await.ok(200)["flow"], flow);
    api.delete(&with_flow).await.ok(200);
    let message = api
        .put(CALL, json!({"value": 1, "flow": "permit out"}))
        .await
        .refused(400, "INVALID_ARGUMENT");
    assert!(message.starts_with("flow: at byte"), "{message}");
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let api = Served::start(open()).await;
    let refused = api
        .put(CALL, json!({"value": "refuse"}))
        .await
        .refused(422, "CONTEXTS.REFUSED");
    assert_eq!(refused, "no capacity is left");
    let late = api.put(CALL, json!({"value": "delay"})).await.ok(202);
    assert_eq!(
        (late["outcome"].as_str(), late["reason"].as_str()),
        (Some("delayed"), Some("p4 is away"))
    );
    let kept = api
        .put("/v1/contexts/address/10.45.0.99/app", json!({"value": 1}))
        .await
        .ok(200);
    assert_eq!(kept["outcome"], "kept");
}

#[tokio::test]
async fn a_batch_is_done_in_order_and_neighbours_go_together() {
    let api = Served::start(open()).await;
    let put = |key: &str, value: &str| json!({"put": {"about": "network", "key": key, "value": value}});
    let remove = |key: &str| json!({"remove": {"about": "network", "key": key}});
    let steps = json!({"steps": [put("a", "x"), put("b", "refuse"), remove("a"), remove("c"), put("a", "y")]});
    let done = api.post("/v1/contexts", steps).await.ok(200);
    assert_eq!(done["refused"], 1);
    assert_eq!(done["results"][0]["outcome"], "in-effect");
    assert_eq!(
        done["results"][1],
        json!({"outcome": "refused", "reason": "no capacity is left"})
    );
    assert_eq!(
        (&done["results"][2], &done["results"][3]),
        (&json!({"removed": true}), &json!({"removed": false}))
    );
    assert_eq!(api.controller.facts()[0].value, Value::Text("y".into()));
    assert_eq!(api.controller.changes(), 3);
    assert_eq!(api.controller.kept.lock().unwrap().puts, [2, 1]);

    let lines = (0..3_000)
        .map(|i| json!({"put": {"about": format!("session/{i}"), "key": "a", "value": i}}).to_string() + "\n\n");
    let ndjson = Asked::new("POST", "/v1/contexts").body("application/x-ndjson", lines.collect::<String>());
    assert_eq!(
        api.send(ndjson).await.ok(200)["results"].as_array().unwrap().len(),
        3_000
    );
    assert_eq!(api.controller.kept.lock().unwrap().puts[2], 3_000);
}

#[tokio::test]
async fn lists_are_cut_into_pages() {
    let api = Served::start(open()).await;
    for key in ["app.a", "app.b", "app.c", "load"] {
        api.put(&format!("/v1/contexts/cell/c1/{key}"), json!({"value": 1}))
            .await
            .ok(200);
    }
    let list = |query: &'static str| {
        let api = &api;
        async move {
            let answer = api.get(&format!("/v1/contexts{query}")).await.ok(200);
            let facts = answer["facts"].as_array().unwrap();
            let keys: Vec<String> = facts.iter().map(|f| f["key"].as_str().unwrap().to_owned()).collect();
            (keys.join(" "), answer["more"].as_bool().unwrap())
        }
    };
    assert_eq!(list("").await, ("app.a app.b app.c load".into(), false));
    assert_eq!(list("?key_prefix=app&limit=2").await, ("app.a app.b".into(), true));
    assert_eq!(list("?key_prefix=app&limit=2&offset=2").await, ("app.c".into(), false));
    assert_eq!(list("?about=cell/c2").await, (String::new(), false));
    assert_eq!(api.get("/v1/contexts?abuot=network").await.status, 400);
}

#[tokio::test]
async fn what_makes_no_sense_is_named_and_reaches_nobody() {
    let api = Served::start(open()).await;
    let put = |body: &'static str| api.send(Asked::new("PUT", CALL).body("application/json", body));
    for (body, code, part) in [
        ("", "INVALID_ARGUMENT", "expected JSON, found nothing"),
        (
            "{",
            "INVALID_ARGUMENT",
            "EOF while parsing an object at line 1 column 1",
        ),
        ("[]", "INVALID_ARGUMENT", "body: "),
        ("{}", "INVALID_ARGUMENT", "missing field `value`"),
        (r#"{"value": null}"#, "INVALID_ARGUMENT", "value: expected a boolean"),
        (r#"{"value": {"a": 1}}"#, "INVALID_ARGUMENT", "found an object"),
        (r#"{"value": 1e999}"#, "INVALID_ARGUMENT", "number out of range"),
        (r#"{"value": 1, "ttl": 5}"#, "INVALID_ARGUMENT", "unknown field `ttl`"),
        (
            r#"{"value": 1, "ttl_s": "5"}"#,
            "INVALID_ARGUMENT",
            "invalid type: string",
        ),
        (r#"{"value": 1, "ttl_s": -5}"#, "OUT_OF_RANGE", "more than 0"),
        (r#"{"value": 1, "ttl_s": 1e300}"#, "OUT_OF_RANGE", "at most"),
        (
            r#"{"value": 1, "expires_at": "tomorrow"}"#,
            "INVALID_ARGUMENT",
            "RFC 3339",
        ),
        (
            r#"{"value": 1, "expires_at": "2020-01-01T00:00:00Z"}"#,
            "OUT_OF_RANGE",
            "the past",
        ),
        (r#"{"value": 1, "value": 2}"#, "INVALID_ARGUMENT", "duplicate field"),
    ] {
        let message = put(body).await.refused(400, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    for path in [
        "/v1/contexts/who/a/app",
        "/v1/contexts/session/x/app",
        "/v1/contexts/address/10.45.0/app",
        "/v1/contexts/slice/256/app",
        "/v1/contexts/subscriber/%00/app",
        "/v1/contexts/network/-/App",
        "/v1/contexts/network/-/qod.app",
    ] {
        api.put(path, json!({"value": 1}))
            .await
            .refused(400, "INVALID_ARGUMENT");
    }
    let message = api
        .post("/v1/contexts", json!({"steps": []}))
        .await
        .refused(400, "INVALID_ARGUMENT");
    assert_eq!(message, "steps: expected one at least");
    let step = json!({"put": {"about": "network", "key": "a", "value": 1}});
    let wrong = json!({"remove": {"about": "network", "key": "B"}});
    let message = api
        .post("/v1/contexts", json!({"steps": [step, wrong]}))
        .await
        .refused(400, "INVALID_ARGUMENT");
    assert!(message.starts_with("steps[1]: key: "), "{message}");
    let many: Vec<_> = (0..10_001).map(|_| step.clone()).collect();
    api.post("/v1/contexts", json!({"steps": many}))
        .await
        .refused(400, "OUT_OF_RANGE");
    let xml = Asked::new("POST", "/v1/contexts").body("text/xml", "<a/>");
    api.send(xml).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    let huge = format!("{{\"value\": \"{}\"}}", "x".repeat(2 << 20));
    api.send(Asked::new("PUT", CALL).body("application/json", huge))
        .await
        .refused(413, "INVALID_ARGUMENT");
    api.get("/v2/contexts").await.refused(404, "NOT_FOUND");
    api.post(CALL, json!({})).await.refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(api.controller.changes(), 0);
}

#[tokio::test]
async fn a_session_is_explained() {
    let api = Served::start(open()).await;
    assert_eq!(
        api.get("/v1/sessions/0x1/qos").await.ok(200)["policies"][0],
        "calls first"
    );
    api.get("/v1/sessions/2/qos").await.refused(404, "NOT_FOUND");
    api.get("/v1/sessions/one/qos").await.refused(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn without_a_controller_requests_are_refused_and_not_lost() {
    let mut api = Served::start(open()).await;
    let (commands, gone) = tokio::sync::mpsc::channel(1);
    drop(gone);
    api.controller.contexts.commands = commands;
    let api = Served::over(api.controller.clone(), open()).await;
    let answer = api.put(CALL, json!({"value": 1})).await;
    answer.refused(503, "UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn the_control_socket_has_the_context_api_without_tokens() {
    let controller = api_support::Controller::start();
    let directory = api_support::Directory::new();
    let path = directory.0.join("upf.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let router = upf_ctl::api::routes::local_router(controller.contexts.clone());
    let served = tokio::spawn(async move { axum::serve(listener, router).await });
    let send = |asked: Asked| async {
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        api_support::exchange(stream, asked).await.unwrap()
    };
    send(Asked::new("PUT", CALL).json(json!({"value": true}))).await.ok(200);
    assert_eq!(controller.facts()[0].note.as_deref(), Some("control socket"));
    assert_eq!(send(Asked::new("GET", "/v1/sessions/1/qos")).await.status, 200);
    assert_eq!(
        send(Asked::new("GET", "/qos-profiles/v1/qos-profiles/QOS_E"))
            .await
            .status,
        404
    );
    served.abort();
}
