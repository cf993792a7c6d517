//! Every input that fuzzing found worth keeping (fuzz/corpus/punted_frame), through the entry that was fuzzed.

#[path = "../../fuzz/entry/punted_frame.rs"]
mod entry;

#[test]
fn the_corpus_of_punted_frame_is_read_without_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/punted_frame");
    let files = std::fs::read_dir(corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    let mut inputs = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        entry::punted_frame(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        inputs += 1;
    }
    assert!(inputs > 0, "{corpus} is empty");
}
