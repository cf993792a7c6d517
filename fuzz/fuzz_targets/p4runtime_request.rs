//! libFuzzer's loop around entry/p4runtime_request.rs.
#![no_main]

#[path = "../entry/p4runtime_request.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::p4runtime_request(data));
