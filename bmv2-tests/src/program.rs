//! The compiled program under test: `p4/compiled/upf-small`, whose arrays BMv2 can allocate in a moment.

use p4runtime::P4Info;

/// The files, for a controller that reads them itself: what the target runs, and P4Info.
pub const FILES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../p4/compiled/upf-small.json"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../p4/compiled/upf-small.p4info.bin"),
];
/// What BMv2 and p4-switch run.
pub const DEVICE_CONFIG: &str = include_str!("../../p4/compiled/upf-small.json");
const P4INFO: &[u8] = include_bytes!("../../p4/compiled/upf-small.p4info.bin");

/// Its tables and externs by name.
///
/// # Panics
/// If `p4/compiled/` is not what p4c wrote.
pub fn p4info() -> P4Info {
    P4Info::from_binary(P4INFO).expect("p4/compiled/upf-small.p4info.bin is a P4Info")
}
