//! `upf trace` beside a running UPF: it says what would become of a packet, and nothing happens.

#[macro_use]
mod scene;

use scene::{Scene, assert_reaches, dl_teid, eventually, ue_v4, upf_program};
use serde_json::Value;
use smf_sim::session::FlowQos;
use smf_sim::{ModificationSpec, SessionSpec, UeIps};
use upf::lab::{DN, GNB, LabError, Side, Target};

/// This program's labs.
const NAME: &str = "t-trc";

on_each_target! {
    a_packet_of_a_session_is_followed_to_where_it_leaves,
    every_pdr_is_judged_and_the_loser_names_the_winner,
    what_nobody_knows_is_told_with_the_reason,
    a_buffering_session_is_the_hosts,
}

/// In the UPF's namespace, where its P4 target is reached.
fn run(scene: &Scene, arguments: &[&str]) -> Result<String, LabError> {
    let config = scene.lab.daemons.configuration().display().to_string();
    let command = [&[upf_program(), "trace", "--config", &config], arguments].concat();
    scene.lab.run(Side::Upf, &command)
}

fn text(scene: &Scene, arguments: &[&str]) -> String {
    run(scene, arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn json(scene: &Scene, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(scene, &[arguments, &["--json"]].concat())).expect("JSON")
}

/// The tables that the packet met at the target, with the actions taken.
fn actions(trace: &Value) -> Vec<(String, String)> {
    let tables = trace["target"]["tables"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    tables
        .map(|table| (word(&table["table"]), word(&table["action"])))
        .collect()
}

fn a_packet_of_a_session_is_followed_to_where_it_leaves(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    let seid = format!("{:#x}", ue.session.up_seid);
    let counted = || scene.ask(&format!("/v1/sessions/{seid}"))["counters"].clone();
    let before = counted();

    let server = DN.to_string();
    let uplink = [
        "--uplink",
        "--session",
        &seid,
        "--dst",
        &server,
        "--dport",
        "443",
        "--proto",
        "tcp",
    ];
    let trace = json(&scene, &uplink);
    assert_eq!(trace["port"], "n3");
    assert_eq!(trace["host"]["verdict"]["outcome"], "forwarded", "{trace:#}");
    assert_eq!(trace["host"]["session"]["candidates"][0]["won"], true, "{trace:#}");
    let shown = text(&scene, &uplink);
    assert!(shown.contains("into internet, by its routes"), "{shown}");

    if on == Target::None {
        assert!(trace["target"].is_null());
        assert!(shown.contains("no P4 target"), "{shown}");
    } else {
        let met = actions(&trace);
        for expected in [
            ("uplink_sessions", "uplink_direct"),
            ("rules", "forward"),
            ("fars", "plain"),
            ("routes_v4", "via"),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert!(met.contains(&expected), "{expected:?} in {met:?}");
        }
        assert_eq!(trace["target"]["outcome"]["outcome"], "forwarded", "{trace:#}");
        assert_eq!(trace["target"]["outcome"]["port"], "n6");
        assert!(
            shown.contains("leaves through n6") && shown.contains("the fast path"),
            "{shown}"
        );

        let downlink = json(&scene, &["--downlink", "--src", &server, "--dst", "10.60.0.1"]);
        assert_eq!(downlink["target"]["outcome"]["port"], "n3", "{downlink:#}");
        let frame = downlink["target"]["outcome"]["frame"].as_str().unwrap();
        assert!(
            frame.contains(&format!("{:08x}", dl_teid(1))),
            "it is in the tunnel to the gNB: {frame}"
        );
    }
    assert_eq!(counted(), before, "nothing was sent");
}

fn every_pdr_is_judged_and_the_loser_names_the_winner(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let video = format!("permit out 17 from {DN} 5203 to assigned");
    let spec =
        SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB.into(), dl_teid(1)).with_sdf(100, &video, FlowQos::default());
    let ue = scene.attach(1, &[ue_v4(1).into()], spec);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    let seid = format!("{:#x}", ue.session.up_seid);
    let server = DN.to_string();
    let trace = json(
        &scene,
        &["--uplink", "--session", &seid, "--dst", &server, "--dport", "5203"],
    );
    let candidates = trace["host"]["session"]["candidates"].as_array().unwrap();
    let because: Vec<&str> = candidates.iter().filter_map(|c| c["because"].as_str()).collect();
    assert_eq!(candidates.iter().filter(|c| c["won"] == true).count(), 1);
    assert!(because.iter().any(|b| b.contains("has precedence 100")), "{because:?}");
    assert!(because.iter().any(|b| b.contains("source interface")), "{because:?}");
    if on != Target::None {
        // A flow that nobody has sent a packet of is the host's to classify.
        assert_eq!(trace["target"]["outcome"]["reason"], "flow_miss", "{trace:#}");
        assert!(actions(&trace).contains(&("uplink_sessions".into(), "uplink_by_flow".into())));
    }
}

fn what_nobody_knows_is_told_with_the_reason(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let server = DN.to_string();
    let uplink = json(
        &scene,
        &["--uplink", "--teid", "0xdead", "--src", "10.60.0.9", "--dst", &server],
    );
    assert_eq!(uplink["host"]["verdict"]["reason"], "unknown_teid", "{uplink:#}");
    let downlink = json(&scene, &["--downlink", "--src", &server, "--dst", "10.60.0.9"]);
    assert_eq!(downlink["host"]["verdict"]["reason"], "unknown_ue", "{downlink:#}");
    if on != Target::None {
        for (trace, reason) in [(&uplink, "unknown_teid"), (&downlink, "unknown_ue")] {
            assert_eq!(trace["target"]["outcome"]["outcome"], "punted", "{trace:#}");
            assert_eq!(trace["target"]["outcome"]["reason"], reason, "{trace:#}");
        }
    }
    let nothing = run(&scene, &["--uplink", "--dst", &server]).unwrap_err();
    assert!(nothing.to_string().contains("--src"), "{nothing}");
}

fn a_buffering_session_is_the_hosts(on: Target) {
    let Some(scene) = Scene::open(NAME, on) else { return };
    let ue = scene.attach_v4(1);
    assert_reaches(&scene.lab, Side::Ue(1), DN);
    scene.modify(&ue, &ModificationSpec::to_idle());
    let server = DN.to_string();
    let downlink = ["--downlink", "--src", &server, "--dst", "10.60.0.1"];
    let trace = json(&scene, &downlink);
    assert_eq!(trace["host"]["verdict"]["outcome"], "buffered", "{trace:#}");
    if on != Target::None {
        assert_eq!(trace["target"]["outcome"]["outcome"], "punted", "{trace:#}");
    }
    scene.modify(&ue, &ModificationSpec::to_active(GNB.into(), dl_teid(1)));
    eventually("it is forwarded again", || {
        json(&scene, &downlink)["host"]["verdict"]["outcome"] == "forwarded"
    });
}
