//! The `upf` command beside a running UPF, and its metrics: what people and tools are told.

mod scene;

use scene::{Scene, directory, eventually, installed, receive_numbers, send_numbers, ue_v4, upf_program};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;
use upf::lab::{DN, Side, Target};

/// This program's labs.
const NAME: &str = "t-cli";

fn upf(arguments: &[&str]) -> Output {
    Command::new(upf_program()).args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Of UE 1, 32 octets each.
fn three_uplink_packets(scene: &Scene) {
    let (dn, at_ue) = scene.udp_pair(1, DN.into(), ue_v4(1).into(), 7000);
    send_numbers(&at_ue, 0..3, Duration::ZERO);
    assert_eq!(receive_numbers(&dn, 2), [0, 1, 2]);
}

#[test]
fn status_sessions_and_counters_are_told_as_tables_and_as_json() {
    let Some(scene) = Scene::open(NAME, Target::None) else {
        return;
    };
    let ue = scene.attach_v4(1);
    three_uplink_packets(&scene);
    let config = scene.lab.daemons.configuration().display().to_string();
    let text = |arguments: &[&str]| printed(&upf(&[arguments, &["--config", &config]].concat()));
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&text(&[arguments, &["--json"]].concat())).expect("JSON")
    };
    let seid = format!("{:#x}", ue.session.up_seid);

    let status = text(&["status"]);
    for expected in ["sessions 1 of", "plane host: ready", "association with 10.4.0.2"] {
        assert!(status.contains(expected), "expected {expected:?} in:\n{status}");
    }
    let status = json(&["status"]);
    assert_eq!(
        (&status["sessions"], &status["planes"][0]["state"]),
        (&1.into(), &"ready".into())
    );

    let sessions = text(&["sessions"]);
    assert!(sessions.contains(&seid) && sessions.contains("10.60.0.1"), "{sessions}");
    assert_eq!(json(&["sessions"])[0]["seid"], seid);

    let session = text(&["sessions", &seid]);
    // A header and a row of each table: PDR, FAR, QER, URR.
    for expected in [
        "PRECEDENCE",
        "65000",
        "ACTION",
        "10.3.0.2 teid",
        "GATES UL/DL",
        "open/open",
        "UPLINK",
        "3 / 96",
    ] {
        assert!(
            session.to_lowercase().contains(&expected.to_lowercase()),
            "expected {expected:?} in:\n{session}"
        );
    }
    let session = json(&["sessions", &seid]);
    assert_eq!(session["rules"]["pdrs"].as_array().map(Vec::len), Some(2));
    assert_eq!(session["counters"]["host"]["urrs"][0][1]["uplink"]["packets"], 3);
    assert_eq!(
        text(&["sessions", &ue.session.up_seid.to_string()]).lines().next(),
        text(&["sessions", &seid]).lines().next()
    );

    let counters = text(&["counters"]);
    assert!(
        counters.contains("n3") && counters.contains("n6") && counters.contains("sessions 1"),
        "{counters}"
    );
    assert_eq!(json(&["counters"])["host"]["sessions"], 1);

    let nobody = upf(&["sessions", "0x1234567812345678", "--config", &config]);
    assert!(!nobody.status.success());
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("404"), "{nobody:?}");
}

#[test]
fn without_a_running_upf_the_command_says_so_and_fails() {
    let directory = directory("t-cli-none");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("upf.yaml");
    std::fs::write(
        &file,
        configuration().replace("runtime_dir: /run/upf", "runtime_dir: /nonexistent"),
    )
    .unwrap();
    let status = upf(&["status", "--config", &file.display().to_string()]);
    assert!(!status.status.success());
    assert!(
        String::from_utf8_lossy(&status.stderr).contains("is it running"),
        "{status:?}"
    );
}

fn configuration() -> String {
    "name: upf
runtime_dir: /run/upf
pfcp: { listen: '127.0.0.8:8805' }
ports:
  - { name: n3, device: 'net_null0', addresses: [192.0.2.1/24], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: 'net_null1', addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }
network_instances:
  - { name: access }
  - { name: internet }
"
    .to_owned()
}

#[test]
fn check_config_names_line_and_field_of_what_is_wrong() {
    let directory = directory("t-cli-config");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("upf.yaml");
    let path = file.display().to_string();
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        upf(&["check-config", &path])
    };
    let good = check(&configuration());
    assert!(printed(&good).contains("good"));

    for (from, to, line, words) in [
        ("127.0.0.8:8805", "127.0.0.8", 3, &["listen"][..]),
        ("198.51.100.1/24", "198.51.100.1/44", 6, &["addresses"][..]),
        (
            "network_instance: internet",
            "network_instance: intranet",
            6,
            &["network_instance", "internet"][..],
        ),
        ("gtpu: true", "gtpv: true", 5, &["gtpv", "gtpu"][..]),
    ] {
        let bad = check(&configuration().replacen(from, to, 1));
        assert!(!bad.status.success(), "{to} is taken for good");
        let said = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert!(
            said.contains(&format!(":{line}")) || said.contains(&format!("line {line}")),
            "line {line} of {to}:\n{said}"
        );
        for word in words {
            assert!(said.contains(word), "expected {word:?} in:\n{said}");
        }
        let json = upf(&["check-config", &path, "--json"]);
        assert!(!json.status.success());
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["valid"], false);
    }
    let missing = upf(&["check-config", "/nonexistent/upf.yaml"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/upf.yaml"));
}

#[test]
fn the_schema_is_json_and_names_the_sections() {
    let schema: Value = serde_json::from_str(&printed(&upf(&["check-config", "--schema"]))).unwrap();
    for section in ["pfcp", "host", "ports", "network_instances", "metrics"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn prometheus_is_told_of_sessions_messages_and_drops() {
    let Some(scene) = Scene::open(NAME, Target::None) else {
        return;
    };
    if !installed("curl") {
        return;
    }
    scene.attach_v4(1);
    three_uplink_packets(&scene);
    // Nobody's address: dropped for a reason.
    let dn = scene.lab.udp(Side::Dn, (DN, 7001)).unwrap();
    dn.send_to(b"lost", "10.60.99.99:7001").unwrap();
    eventually("its drop is counted", || scene.drops("unknown_ue") == 1);
    let page = scene
        .lab
        .run(Side::Upf, &["curl", "-sSf", "http://127.0.0.1:9090/metrics"])
        .unwrap();
    let value = |start: &str, label: &str| -> f64 {
        let line = page.lines().find(|l| l.starts_with(start) && l.contains(label));
        let line = line.unwrap_or_else(|| panic!("no {start} with {label} in:\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("upf_sessions ", ""), 1.0);
    assert_eq!(value("upf_sessions_established_total", ""), 1.0);
    assert_eq!(
        value(
            "upf_pfcp_messages_total{direction=\"received\"",
            "SessionEstablishmentRequest"
        ),
        1.0
    );
    assert_eq!(
        value(
            "upf_pfcp_messages_total{direction=\"sent\",type=\"SessionEstablishmentResponse\"",
            "cause=\"1\""
        ),
        1.0
    );
    assert_eq!(value("upf_drop_packets_total", "unknown_ue"), 1.0);
    assert!(value("upf_port_packets_total", "port=\"n3\",direction=\"rx\"") >= 3.0);
    assert_eq!(value("upf_plane_connected", "host"), 1.0);
    assert_eq!(value("upf_buffered_packets", "host"), 0.0);
    assert!(page.trim_end().ends_with("# EOF"));
}
