//! Contexts over HTTP, seen in the packets of both planes: they take effect, and packets do not suffer from it.

#[macro_use]
mod scene;

use gnb_sim::{AirDelay, TunnelReport, UeConfig};
use scene::{Scene, dl_teid, installed, options, ue_v4};
use serde_json::json;
use smf_sim::session::FlowQos;
use smf_sim::{SessionSpec, UeIps};
use upf::lab::probe::{Probe, Seen};
use upf::lab::{GNB, GNB2, Side, Target};

/// This program's labs.
const NAME: &str = "t-ctx";
/// Contexts put, and as many taken back.
const CONTEXTS: usize = 500;
const POLICIES: &str = "policies:
  - name: another-flow
    when: { key: app.foreground, equals: call }
    effects: { qfi: 7 }
  - name: higher-precedence
    when: { key: app.foreground, equals: game }
    apply_to: { qfis: [5] }
    effects: { precedence: { absolute: 1 } }
";

on_each_target! {
    a_thousand_updates_under_traffic_lose_reorder_and_mix_nothing,
    a_precedence_decides_at_once_which_pdr_wins,
}

/// BMv2 loses packets by itself while it has no CPU: its receive ring holds 32.
#[test]
fn updates_on_bmv2_reorder_and_mix_nothing() {
    if !installed("simple_switch_grpc") {
        return;
    }
    if let Some(seen) = update(Target::Bmv2, CONTEXTS / 5) {
        assert_eq!((seen.reordered, seen.mixed), (0, 0), "{seen:?}");
    }
}

fn scene(on: Target) -> Option<Scene> {
    scene_with(on, ("qos.yaml", POLICIES), "")
}

/// A scene with policies in this file, and `more` in the section `qos` of the configuration. Tests that wait for their lab
/// have written their file already: each text has a name of its own.
fn scene_with(on: Target, (file, text): (&str, &str), more: &str) -> Option<Scene> {
    let mut options = options(NAME, on);
    std::fs::create_dir_all(&options.directory).unwrap();
    let policies = options.directory.join(file);
    std::fs::write(&policies, text).unwrap();
    options.sections = format!("qos: {{ policies: '{}'{more} }}", policies.display());
    Scene::open_with(&options)
}

/// The gNB's air takes 70 ms there and back, of which its answers tell.
#[test]
fn a_user_whose_packets_take_long_is_found_by_time_stamps_and_gets_another_qos_flow() {
    const SLOW: &str = "policies:
  - name: slow
    when: { key: measured.round-trip-delay-ms, above: 60 }
    effects: { qfi: 7 }
";
    let Some(scene) = scene_with(Target::None, ("slow.yaml", SLOW), ", delay: { every_ms: 50 }") else {
        return;
    };
    let spec = SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB.into(), dl_teid(1)).with_qfi(9);
    let session = scene.establish(spec);
    let name = scene.lab.namespaces.name(Side::Ue(1));
    let mut ue = UeConfig::in_netns(&name, &[ue_v4(1).into()], session.uplink_teid().unwrap(), dl_teid(1), 9);
    ue.air = Some(AirDelay {
        downlink_ms: 20,
        uplink_ms: 50,
    });
    scene.gnb.add_ue(ue).unwrap();
    let found = |report: &TunnelReport| report.downlink.qfis.iter().any(|flow| flow.qfi == 7);
    let mut rounds = 0..20;
    while !found(scene.gnb.counters().ue(&name).unwrap()) {
        let facts = scene.lab.client().get("/v1/contexts?key_prefix=measured.").unwrap();
        assert!(rounds.next().is_some(), "{facts} {}", scene.gnb.counters().to_json());
        let address = ue_v4(1).to_string();
        scene
            .lab
            .run(Side::Dn, &["ping", "-n", "-i", "0.02", "-c", "25", &address])
            .unwrap();
    }
    let facts = scene
        .lab
        .client()
        .get("/v1/contexts?key_prefix=measured.round-trip")
        .unwrap();
    let delay = facts["facts"][0]["value"].as_f64().unwrap();
    assert!(delay >= 70.0, "{facts}");
    let monitoring = scene.gnb.counters().ue(&name).unwrap().monitoring;
    assert!(monitoring.answers > 0, "{monitoring:?}");
}

/// The context of a user's application.
fn path(user: u8) -> String {
    format!("/v1/contexts/address/{}/app.foreground", ue_v4(user))
}

fn a_thousand_updates_under_traffic_lose_reorder_and_mix_nothing(on: Target) {
    if let Some(seen) = update(on, CONTEXTS) {
        assert_eq!((seen.lost, seen.reordered, seen.mixed), (0, 0, 0), "{seen:?}");
    }
}

/// Puts and takes back so many contexts, of ten users by turns, and says what became of the packets meanwhile.
fn update(on: Target, contexts: usize) -> Option<Seen> {
    let scene = scene(on)?;
    for user in 1..=10 {
        let spec = SessionSpec::basic(UeIps::v4(ue_v4(user)), GNB2.into(), dl_teid(user.into()));
        scene.establish(spec.with_qfi(9));
    }
    let probe = Probe::open(&scene.lab, GNB2).unwrap();
    let client = scene.lab.client();
    let mut seen = Seen::default();
    for update in 0..contexts {
        let user = 1 + (update % 10) as u8;
        let put = || client.put(&path(user), &json!({ "value": "call" })).map(drop);
        let (_, part) = probe.until(ue_v4(user), 7, put).unwrap();
        seen += part;
        let remove = || client.call(hyper::Method::DELETE, &path(user), None).map(drop);
        let (_, part) = probe.until(ue_v4(user), 9, remove).unwrap();
        seen += part;
    }
    println!("{on}: {seen:?}");
    Some(seen)
}

fn a_precedence_decides_at_once_which_pdr_wins(on: Target) {
    let Some(scene) = scene(on) else { return };
    let basic = SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB2.into(), dl_teid(1)).with_qfi(9);
    // The same packets, and a precedence that loses.
    let flow = FlowQos {
        qfi: Some(5),
        ..FlowQos::default()
    };
    scene.establish(basic.with_sdf(100_000, "permit out ip from any to assigned", flow));
    let probe = Probe::open(&scene.lab, GNB2).unwrap();
    let client = scene.lab.client();
    for round in 0..20 {
        let put = || client.put(&path(1), &json!({ "value": "game" })).map(drop);
        let (_, won) = probe.until(ue_v4(1), 5, put).unwrap();
        let remove = || client.call(hyper::Method::DELETE, &path(1), None).map(drop);
        let (_, lost) = probe.until(ue_v4(1), 9, remove).unwrap();
        // In the first round the flow moves from the host to the target, and may overtake itself.
        if round > 0 {
            assert_eq!((won.lost + lost.lost, won.mixed + lost.mixed), (0, 0));
        }
    }
}
