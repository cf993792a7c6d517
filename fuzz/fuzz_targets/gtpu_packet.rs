//! libFuzzer's loop around entry/gtpu_packet.rs.
#![no_main]

#[path = "../entry/gtpu_packet.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::gtpu_packet(data));
