//! Contexts over HTTP, seen in the packets of both planes: they take effect, and packets do not suffer from it.

#[macro_use]
mod scene;

use scene::{Scene, dl_teid, installed, options, ue_v4};
use serde_json::json;
use smf_sim::session::FlowQos;
use smf_sim::{SessionSpec, UeIps};
use upf::lab::probe::{Probe, Seen};
use upf::lab::{GNB2, Target};

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
    let mut options = options(NAME, on);
    std::fs::create_dir_all(&options.directory).unwrap();
    let policies = options.directory.join("qos.yaml");
    std::fs::write(&policies, POLICIES).unwrap();
    options.sections = format!("qos: {{ policies: '{}' }}", policies.display());
    Scene::open_with(&options)
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
