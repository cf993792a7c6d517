//! The fuzz targets over their corpus, and over programs that have been damaged at random.

#[path = "../../fuzz/entry/p4_packet.rs"]
mod p4_packet;
#[path = "../../fuzz/entry/p4_program.rs"]
mod p4_program;

use proptest::prelude::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn programs_of_the_corpus() {
    corpus("p4_program")
        .iter()
        .for_each(|data| p4_program::p4_program(data));
}

#[test]
fn packets_of_the_corpus() {
    corpus("p4_packet").iter().for_each(|data| p4_packet::p4_packet(data));
}

/// What takes a value's place.
fn damage() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        (0u8..20).prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        Just("scalars".into()),
        Just("0xffffffffffffffffffff".into()),
        Just("-0x1".into()),
        Just("default".into()),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
    ]
}

/// The `at`th value of a document in some order.
fn nth<'v>(value: &'v mut serde_json::Value, at: &mut usize) -> Option<&'v mut serde_json::Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        serde_json::Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        serde_json::Value::Object(members) => members.values_mut().find_map(|member| nth(member, at)),
        _ => None,
    }
}

fn count(value: &serde_json::Value) -> usize {
    1 + match value {
        serde_json::Value::Array(items) => items.iter().map(count).sum(),
        serde_json::Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn damaged_programs_are_refused_or_take_any_packet(
        program in prop::sample::select(vec!["parsing", "tables", "externs"]),
        places in proptest::collection::vec((any::<prop::sample::Index>(), damage()), 1..4)
    ) {
        let path = format!("{}/tests/programs/{program}.json", env!("CARGO_MANIFEST_DIR"));
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (place, damage) in places {
            let mut at = place.index(count(&document));
            if let Some(value) = nth(&mut document, &mut at) {
                *value = damage;
            }
        }
        p4_program::p4_program(document.to_string().as_bytes());
    }
}
