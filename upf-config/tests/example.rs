//! The committed example and schema are what they claim to be.

use std::path::{Path, PathBuf};
use upf_config::{ApiLimits, Config, Egress, Host, Sinks, load, parse, schema};

fn config_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn example() -> Config {
    load(config_directory().join("upf.yaml")).unwrap_or_else(|e| panic!("{e}"))
}

/// The least that must be said about the example's UPF.
const MINIMAL: &str = r#"
pfcp: { listen: 127.0.0.8:8805 }
ports:
  - name: n3
    device: net_af_packet0,iface=n3
    addresses: [192.168.3.1/24, "2001:db8:3::1/64"]
    network_instance: access
    interfaces: [access]
    gtpu: true
  - name: n6
    device: net_af_packet1,iface=n6
    addresses: [192.168.6.1/24, "2001:db8:6::1/64"]
    network_instance: internet
    interfaces: [core]
network_instances:
  - name: access
  - name: internet
"#;

#[test]
fn the_example_shows_the_defaults_of_everything_that_may_be_left_out() {
    let mut example = example();
    let minimal = parse(MINIMAL, "minimal").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(example.host, Host::default());
    // Where there is no value by default, the example shows a possible one.
    assert_eq!(example.pfcp.node_id.take().as_deref(), Some("127.0.0.8"));
    assert!(example.metrics.take().is_some());
    let api = example.api.take().expect("the example has an api section");
    assert_eq!(api.limits, ApiLimits::default());
    assert_eq!(api.sinks, Sinks::default());
    assert!(!api.loopback_without_token);
    assert_eq!(example.ports[0].mac.take().as_deref(), Some("02:00:00:00:00:03"));
    assert_eq!(example.ports[0].vlan.take(), Some(100));
    let egress = example.ports[0].egress.take().expect("one with queues");
    assert_eq!(egress.rate_mbps, Some(1_000));
    assert_eq!(
        Egress {
            rate_mbps: None,
            ..egress
        },
        Egress::default()
    );
    assert_eq!(std::mem::take(&mut example.network_instances[1].routes).len(), 2);
    assert_eq!(std::mem::take(&mut example.network_instances[1].ue_pools).len(), 2);
    assert_eq!(example, minimal);
}

#[test]
fn every_field_of_every_type_is_in_the_example() {
    let text = std::fs::read_to_string(config_directory().join("upf.yaml")).unwrap();
    fn properties(schema: &serde_json::Value, names: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(fields)) = map.get("properties") {
                    names.extend(fields.keys().cloned());
                }
                map.values().for_each(|v| properties(v, names));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| properties(v, names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    properties(&schema(), &mut names);
    assert!(names.len() > 40);
    for name in names {
        assert!(text.contains(&format!("{name}:")), "{name} is not in config/upf.yaml");
    }
}

#[test]
fn the_committed_schema_is_current() {
    let path = config_directory().join("upf.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&schema()).unwrap() + "\n").unwrap();
    }
    let committed: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        committed,
        schema(),
        "run UPDATE_SCHEMA=1 cargo test -p upf-config to write config/upf.schema.json anew"
    );
}

#[test]
fn a_configuration_survives_being_written_and_read_again() {
    let json = serde_json::to_string(&example()).unwrap();
    // JSON is YAML.
    assert_eq!(parse(&json, "json").unwrap_or_else(|e| panic!("{e}")), example());
}
