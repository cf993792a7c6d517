//! libFuzzer's loop around entry/pfcp_request.rs.
#![no_main]

#[path = "../entry/pfcp_request.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::pfcp_request(data));
