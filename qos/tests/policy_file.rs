//! What a policy file may say, and how one that is wrong is told where.

use qos::{Policies, policy_schema};
use std::path::{Path, PathBuf};

fn config_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn example() -> String {
    std::fs::read_to_string(config_directory().join("qos.yaml")).unwrap()
}

/// The problems of a text, one a line.
fn problems(text: &str) -> String {
    match Policies::parse(text, "qos.yaml") {
        Ok(_) => "none".into(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_example_is_valid_and_offers_the_four_profiles_of_camara() {
    let policies = Policies::parse(&example(), "qos.yaml").unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<&str> = policies.profiles().map(|(name, _)| name).collect();
    assert_eq!(names, ["QOS_E", "QOS_L", "QOS_M", "QOS_S"]);
    assert!(
        policies
            .profiles()
            .all(|(_, p)| !p.description.is_empty() && p.max_downlink_kbps.is_some())
    );
}

#[test]
fn every_field_of_every_type_is_in_the_example() {
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
    let (mut names, text) = (Vec::new(), example());
    properties(&policy_schema(), &mut names);
    assert!(names.len() > 40);
    for name in names {
        assert!(text.contains(&format!("{name}:")), "{name} is not in config/qos.yaml");
    }
}

#[test]
fn the_committed_schema_is_current() {
    let path = config_directory().join("qos.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&policy_schema()).unwrap() + "\n").unwrap();
    }
    let committed: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        committed,
        policy_schema(),
        "run UPDATE_SCHEMA=1 cargo test -p qos --test policy_file to write config/qos.schema.json anew"
    );
}

#[test]
fn nothing_at_all_is_no_policy_file_but_an_empty_one_is() {
    assert_eq!(problems("{}"), "none");
}

#[test]
fn an_unknown_field_is_told_with_its_place() {
    let text = "policies:\n  - name: call\n    effects:\n      que: 7\n";
    let found = problems(text);
    assert!(found.starts_with("qos.yaml:4:"), "{found}");
    assert!(
        found.contains("expected one of precedence, qfi") && found.ends_with("found \"que\""),
        "{found}"
    );
}

#[test]
fn a_wrong_type_is_told_with_its_place() {
    let found = problems("policies:\n  - name: call\n    effects: {queue: high}\n");
    assert!(found.starts_with("qos.yaml:3:"), "{found}");
    assert!(found.contains("policies[0].effects.queue"), "{found}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_in_order() {
    let text = "\
queues: {64: 1}
profiles:
  VOICE:
    arp: {priority_level: 16}
    effects: {five_qi: 1}
policies:
  - name: a b
    when: {key: load, above: 80, clear: 90}
    effects: {dscp: 64}
  - name: p
    when: {all: [{key: X, exists: true}, {slice: '1', dnn: internet}, {key: a, equals: 1, below: 2}, {time: {from: '9:00', to: '17:00'}}]}
    apply_to: {flow: permit in}
    effects: {gbr: {uplink_kbps: 2, downlink_kbps: 1}, mbr: {uplink_kbps: 1, downlink_kbps: 1}}
  - name: p
    effects: {}
";
    let found = problems(text);
    let expected = "\
qos.yaml:1:10: queues.64: expected 0 to 63, found 64
qos.yaml:4:11: profiles.VOICE.arp.priority_level: expected 1 to 15, found 16
qos.yaml:5:15: profiles.VOICE.effects.five_qi: expected one of five_qis, found 1
qos.yaml:7:5: policies[0].name: expected a name of 1 to 64 letters, digits, '-', '_' or '.', found \"a b\"
qos.yaml:8:35: policies[0].when.clear: expected at most 80, found 90
qos.yaml:9:15: policies[0].effects.dscp: expected 0 to 63, found 64
qos.yaml:11:18: policies[1].when.all[0].key: expected words of a-z, 0-9, - and _ joined by dots, 64 bytes at most, found \"X\"
qos.yaml:11:42: policies[1].when.all[1]: expected one of all, any, not, key, time, slice, dnn, subscriber, found slice and dnn
qos.yaml:11:71: policies[1].when.all[2]: expected one of equals, in, exists, above, below, found equals and below
qos.yaml:11:111: policies[1].when.all[3].time.from: expected \"HH:MM\", from \"00:00\" to \"23:59\", found \"9:00\"
qos.yaml:12:16: policies[1].apply_to.flow: expected fact, or ip or a protocol number of at most 255 at byte 9, found the end
qos.yaml:13:15: policies[1].effects.gbr: expected at most the mbr beside it, found more
qos.yaml:14:5: policies[2].name: expected each name once, found \"p\" again
qos.yaml:15:5: policies[2].effects: expected at least one effect, found none";
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (found, expected) = (lines(&found), lines(expected));
    // Columns of flow mappings are the parser's business; lines and fields are ours.
    let without_column = |line: &String| {
        let mut parts = line.splitn(4, ':');
        let parts: Vec<&str> = [parts.next(), parts.next(), parts.nth(1)]
            .into_iter()
            .flatten()
            .collect();
        parts.join(":")
    };
    assert_eq!(
        found.iter().map(without_column).collect::<Vec<_>>(),
        expected.iter().map(without_column).collect::<Vec<_>>()
    );
}

#[test]
fn conditions_may_be_only_so_deep() {
    let nested = |depth: usize| {
        format!(
            "policies: [{{name: p, when: {}{{dnn: a}}{}, effects: {{queue: 1}}}}]",
            "{not: ".repeat(depth),
            "}".repeat(depth)
        )
    };
    assert_eq!(problems(&nested(10)), "none");
    assert!(problems(&nested(20)).contains("a depth of at most 16"));
    assert_ne!(problems(&nested(5_000)), "none");
}
