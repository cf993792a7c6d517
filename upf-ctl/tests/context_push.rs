//! What contexts do to sessions, seen by whoever puts them on the one side and a data plane on the other.

mod smf;

use smf::*;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use upf_config::Config;
use upf_ctl::planes::memory::Failure;
use upf_model::batch::Change;
use upf_model::{FarId, Qfi, Session};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
const OTHER_UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 3);
const POLICIES: &str = "
profiles:
  QOS_L: { effects: { queue: 5 } }
policies:
  - name: call-first
    when: { key: app.foreground, equals: call }
    effects: { qfi: 7, queue: 6, dscp: 46 }
  - name: elephants-wait
    when: { key: measured.downlink-kbps, above: 10000, clear: 5000 }
    effects: { queue: 1 }
";

/// Configures the policies, in a file of the test's directory.
fn with_policies(directory: &Path) -> impl FnOnce(&mut Config) + use<> {
    let path = directory.join("qos.yaml");
    std::fs::write(&path, POLICIES).unwrap();
    move |config| config.qos.policies = Some(path)
}

/// A controller with these policies, and an SMF that is associated with it. The directory goes when it is dropped.
async fn stage() -> (Upf, Smf, Directory) {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start_with(network, &directory.0, with_policies(&directory.0)).await;
    (upf, Smf::associated(network).await, directory)
}

fn call(ue: Ipv4Addr) -> String {
    format!("/v1/contexts/address/{ue}/app.foreground")
}

async fn put(upf: &Upf, path: &str, body: &str) -> serde_json::Value {
    let (status, answer) = upf.request("PUT", path, body).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn remove(upf: &Upf, path: &str) {
    let (status, answer) = upf.request("DELETE", path, "").await;
    assert!((200..300).contains(&status), "{status} {answer}");
}

/// The only session in the plane.
fn the_session(upf: &Upf) -> Session {
    let mut sessions = upf.plane.sessions();
    assert_eq!(sessions.len(), 1);
    sessions.remove(0)
}

/// The queue and the QoS flow of the session's packets, if all of its QERs agree.
fn treatment(session: &Session) -> (u8, Option<Qfi>) {
    let mut each = session.pdrs.iter().map(|pdr| {
        let qers = pdr.qers.iter().filter_map(|id| session.qer(*id));
        let qfi = qers.clone().find_map(|qer| qer.qfi);
        (upf_model::Scheduling::of(qers).queue, qfi)
    });
    let first = each.next().unwrap();
    assert!(each.all(|other| other == first), "{session:?}");
    first
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come to be");
}

#[tokio::test]
async fn a_context_changes_the_rules_in_the_plane_and_leaves_the_smfs_as_they_were() {
    let (upf, mut smf, _directory) = stage().await;
    let seid = smf.establish(1, UE).await.up_seid();
    let base = the_session(&upf);
    assert_eq!(treatment(&base), (0, Some(Qfi(9))));

    let answer = put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    assert_eq!(
        (&answer["outcome"], &answer["sessions"]),
        (&"in-effect".into(), &1.into())
    );
    assert_eq!(treatment(&the_session(&upf)), (6, Some(Qfi(7))));
    let detail = upf.json(&format!("/v1/sessions/{seid:#x}")).await;
    assert_ne!(detail["rules"], detail["base"]);
    let explained = upf.json(&format!("/v1/sessions/{seid:#x}/qos")).await;
    assert!(explained.to_string().contains("call-first"), "{explained}");

    remove(&upf, &call(UE)).await;
    assert_eq!(the_session(&upf), base, "exactly as the SMF wants it");
    upf.stop().await;
}

#[tokio::test]
async fn what_has_expired_is_undone() {
    let (upf, mut smf, _directory) = stage().await;
    smf.establish(1, UE).await;
    let base = the_session(&upf);
    put(&upf, &call(UE), r#"{"value": "call", "ttl_s": 0.3}"#).await;
    assert_ne!(the_session(&upf), base);
    until(|| the_session(&upf) == base).await;
    upf.stop().await;
}

#[tokio::test]
async fn an_smf_changes_its_rules_under_a_context() {
    let (upf, mut smf, _directory) = stage().await;
    let seid = smf.establish(1, UE).await.up_seid();
    put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    upf.plane.take_applied();

    let change = smf.downlink(FORWARD, 0x1234);
    let modified = smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await;
    assert_eq!(modified.cause(), ACCEPTED);
    for change in upf.plane.take_applied() {
        let Change::Put { session, .. } = change else {
            panic!("{change:?}")
        };
        assert_eq!(
            treatment(&session),
            (6, Some(Qfi(7))),
            "never without the context, not for a moment"
        );
    }
    remove(&upf, &call(UE)).await;
    let session = the_session(&upf);
    let tunnel = session
        .far(FarId(2))
        .unwrap()
        .forwarding
        .as_ref()
        .unwrap()
        .outer_header_creation;
    assert_eq!(
        (treatment(&session), tunnel.unwrap().teid.0),
        ((0, Some(Qfi(9))), 0x1234)
    );
    upf.stop().await;
}

#[tokio::test]
async fn contexts_outlive_the_controller() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start_with(network, &directory.0, with_policies(&directory.0)).await;
    let mut smf = Smf::associated(network).await;
    smf.establish(1, UE).await;
    let base = the_session(&upf);
    put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    let with_context = the_session(&upf);
    upf.stop().await;

    let upf = Upf::start_with(network, &directory.0, with_policies(&directory.0)).await;
    until(|| upf.plane.sessions().len() == 1).await;
    assert_eq!(
        the_session(&upf),
        with_context,
        "the same as before, from the first moment"
    );
    remove(&upf, &call(UE)).await;
    assert_eq!(the_session(&upf), base);
    upf.stop().await;
}

/// On one thread, requests that are there together reach the controller together.
#[tokio::test]
async fn a_context_that_is_taken_back_and_put_again_together_outlives_the_controller() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start_with(network, &directory.0, with_policies(&directory.0)).await;
    let contexts: Vec<String> = (0..20).map(|i| format!("/v1/contexts/cell/c{i}/load")).collect();
    for context in &contexts {
        put(&upf, context, r#"{"value": 1}"#).await;
    }
    for context in &contexts {
        let (removed, put) = tokio::join!(
            upf.request("DELETE", context, ""),
            upf.request("PUT", context, r#"{"value": 2}"#)
        );
        assert!(
            (removed.0, put.0) == (204, 200) || removed.0 == 200,
            "{removed:?} {put:?}"
        );
    }
    let before = upf.json("/v1/contexts").await;
    assert_eq!(
        before["facts"].as_array().unwrap().len(),
        contexts.len(),
        "put last: {before}"
    );
    upf.stop().await;

    let upf = Upf::start_with(network, &directory.0, with_policies(&directory.0)).await;
    assert_eq!(upf.json("/v1/contexts").await, before);
    upf.stop().await;
}

#[tokio::test]
async fn a_context_waits_for_its_user() {
    let (upf, mut smf, _directory) = stage().await;
    assert_eq!(put(&upf, &call(UE), r#"{"value": "call"}"#).await["outcome"], "kept");
    smf.establish(1, UE).await;
    until(|| treatment(&the_session(&upf)) == (6, Some(Qfi(7)))).await;
    upf.stop().await;
}

#[tokio::test]
async fn a_plane_that_refuses_keeps_the_session_as_it_was_and_others_follow() {
    let (upf, mut smf, _directory) = stage().await;
    smf.establish(1, UE).await;
    let base = the_session(&upf);
    // Once in the batch, once alone.
    upf.plane.fail([Some(Failure::Refuse), Some(Failure::Refuse)]);
    let answer = put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    assert_eq!(answer["outcome"], "delayed", "{answer}");
    assert_eq!(the_session(&upf), base);

    smf.establish(2, OTHER_UE).await;
    put(&upf, &call(OTHER_UE), r#"{"value": "call"}"#).await;
    let sessions = upf.plane.sessions();
    let queues: Vec<u8> = sessions.iter().map(|session| treatment(session).0).collect();
    assert_eq!(queues, [0, 6]);
    upf.stop().await;
}

#[tokio::test]
async fn a_plane_that_comes_back_has_what_it_missed() {
    let (upf, mut smf, _directory) = stage().await;
    smf.establish(1, UE).await;
    upf.plane.set_away(true);
    put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    upf.plane.set_away(false);
    until(|| upf.plane.sessions().len() == 1).await;
    assert_eq!(treatment(&the_session(&upf)), (6, Some(Qfi(7))));
    upf.stop().await;
}

#[tokio::test]
async fn a_lost_answer_leads_to_a_plane_that_is_as_decided() {
    let (upf, mut smf, _directory) = stage().await;
    smf.establish(1, UE).await;
    upf.plane.fail([Some(Failure::LoseAnswer)]);
    put(&upf, &call(UE), r#"{"value": "call"}"#).await;
    until(|| treatment(&the_session(&upf)) == (6, Some(Qfi(7)))).await;
    upf.stop().await;
}

#[tokio::test]
async fn many_facts_about_a_user_change_the_session_once() {
    let (upf, mut smf, _directory) = stage().await;
    smf.establish(1, UE).await;
    upf.plane.take_applied();
    let step = |i: usize| {
        let value = if i.is_multiple_of(2) { "idle" } else { "call" };
        format!(r#"{{"put": {{"about": "address/{UE}", "key": "app.foreground", "value": "{value}"}}}}"#)
    };
    let steps: Vec<String> = (0..1_000).map(step).collect();
    let (status, answer) = upf
        .request(
            "POST",
            "/v1/contexts",
            &format!(r#"{{"steps": [{}]}}"#, steps.join(",")),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(upf.plane.take_applied().len(), 1, "coalesced");
    assert_eq!(treatment(&the_session(&upf)), (6, Some(Qfi(7))));
    upf.stop().await;
}

#[tokio::test]
async fn what_was_said_of_a_session_ends_with_it() {
    let (upf, mut smf, _directory) = stage().await;
    let seid = smf.establish(1, UE).await.up_seid();
    put(
        &upf,
        &format!("/v1/contexts/session/{seid:#x}/app.foreground"),
        r#"{"value": "call"}"#,
    )
    .await;
    assert_eq!(treatment(&the_session(&upf)).0, 6);
    smf.delete(seid).await;
    let left = upf.json("/v1/contexts").await;
    assert_eq!(left["facts"].as_array().unwrap().len(), 0, "{left}");
    upf.stop().await;
}

#[tokio::test]
async fn policies_with_errors_keep_the_controller_from_starting() {
    let (network, directory) = (network(), Directory::new());
    let text = config_text(host(network, 1), &directory.0);
    let mut config = upf_config::parse(&text, "test").unwrap();
    let path = directory.0.join("qos.yaml");
    std::fs::write(&path, "policies:\n  - name: wrong\n    effects: { queue: 8 }\n").unwrap();
    config.qos.policies = Some(path);
    let (_, plane_events) = upf_ctl::plane_events();
    let error = upf_ctl::run_with(config, Vec::new(), plane_events, std::future::pending()).await;
    let error = error.expect_err("it starts").to_string();
    assert!(error.contains("qos.yaml:3") && error.contains("queue"), "{error}");
}
