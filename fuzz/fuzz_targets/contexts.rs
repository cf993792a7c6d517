//! libFuzzer's loop around entry/contexts.rs.
#![no_main]

#[path = "../entry/contexts.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::contexts(data));
