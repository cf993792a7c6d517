//! libFuzzer's loop around entry/p4_program.rs.
#![no_main]

#[path = "../entry/p4_program.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::p4_program(data));
