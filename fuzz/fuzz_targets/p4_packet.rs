//! libFuzzer's loop around entry/p4_packet.rs.
#![no_main]

#[path = "../entry/p4_packet.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::p4_packet(data));
