//! Every input that fuzzing found worth keeping (fuzz/corpus), through the entries that were fuzzed.

#[path = "../../fuzz/entry/contexts.rs"]
mod contexts;
#[path = "../../fuzz/entry/pfcp_request.rs"]
mod pfcp_request;

use proptest::prelude::*;

fn replay(name: &str, entry: fn(&[u8])) {
    let corpus = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    let mut inputs = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        entry(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        inputs += 1;
    }
    assert!(inputs > 0, "{corpus} is empty");
}

#[test]
fn the_corpus_of_pfcp_request_is_read_without_panic() {
    replay("pfcp_request", pfcp_request::pfcp_request);
}

#[test]
fn the_corpus_of_contexts_is_read_without_panic() {
    replay("contexts", contexts::contexts);
}

/// JSON with the words that the decoders know, in places that may be wrong.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "null",
        "true",
        "-1",
        "65536",
        "1e400",
        "\"put\"",
        "\"remove\"",
        "\"steps\"",
        "\"about\"",
        "\"key\"",
        "\"value\"",
        "\"flow\"",
        "\"ttl_s\"",
        "\"expires_at\"",
        "\"network\"",
        "\"session/1\"",
        "\"slice/1-FFFFFF\"",
        "\"a.b\"",
        "\"permit out 6 from any to assigned\"",
        "\"device\"",
        "\"duration\"",
        "\"ports\"",
        "\"\\u0000\"",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
}

/// A step that is well formed, with values that may be wrong.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let about = prop::sample::select(vec![
        "network",
        "slice/7-00aBcD",
        "cell/x",
        "address/::ffff:1.2.3.4",
        "session/18446744073709551615",
    ]);
    let flow = prop::option::of("permit (in|out) (ip|17) from (any|10.0.0.0/8)( 1-9,8)? to (any|assigned|10.1.0.0/16)");
    (about, "[a-z.]{0,5}", any::<f64>(), flow, any::<bool>()).prop_map(|(about, key, value, flow, put)| {
        let fact = match put {
            true => serde_json::json!({"about": about, "key": key, "value": value, "ttl_s": value, "flow": flow}),
            false => serde_json::json!({"about": about, "key": key, "flow": flow}),
        };
        let step = serde_json::json!({ if put { "put" } else { "remove" }: fact });
        step.to_string().into_bytes()
    })
}

proptest! {
    #[test]
    fn no_body_is_misread(choice in 0_u8..3, body in prop_oneof![body(), prop::collection::vec(any::<u8>(), 0..64)]) {
        let mut input = vec![choice];
        input.extend(body);
        contexts::contexts(&input);
    }

    #[test]
    fn what_is_read_of_a_step_is_written_the_same(step in step()) {
        let mut input = vec![1];
        input.extend(step);
        contexts::contexts(&input);
    }
}
