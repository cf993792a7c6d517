//! Every input worth keeping (fuzz/corpus/policy), through the entry that is fuzzed.

#[path = "../../fuzz/entry/policy.rs"]
mod entry;

#[test]
fn the_corpus_of_policy_is_read_without_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/policy");
    let files = std::fs::read_dir(corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    let mut inputs = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        entry::policy(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        inputs += 1;
    }
    assert!(inputs > 0, "{corpus} is empty");
}
