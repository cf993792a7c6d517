//! libFuzzer's loop around entry/policy.rs.
#![no_main]

#[path = "../entry/policy.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::policy(data));
