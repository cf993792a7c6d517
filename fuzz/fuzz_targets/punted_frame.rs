//! libFuzzer's loop around entry/punted_frame.rs.
#![no_main]

#[path = "../entry/punted_frame.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::punted_frame(data));
