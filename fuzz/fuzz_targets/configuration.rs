//! libFuzzer's loop around entry/configuration.rs.
#![no_main]

#[path = "../entry/configuration.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::configuration(data));
