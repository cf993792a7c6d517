//! libFuzzer's loop around entry/classifier.rs.
#![no_main]

#[path = "../entry/classifier.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::classifier(data));
