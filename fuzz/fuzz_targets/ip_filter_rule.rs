//! libFuzzer's loop around entry/ip_filter_rule.rs.
#![no_main]

#[path = "../entry/ip_filter_rule.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::ip_filter_rule(data));
