//! The fuzz target's entry over octets at random: what a fuzzer looks for, at every `make test`.

#[path = "../../fuzz/entry/classifier.rs"]
mod entry;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_octets_make_rules_that_detect_what_the_oracle_detects(octets in prop::collection::vec(any::<u8>(), 0..3_000)) {
        entry::classifier(&octets);
    }
}
