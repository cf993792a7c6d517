//! The compiled program under test: `p4/compiled/upf-small`, whose arrays BMv2 can allocate in a moment.

use p4runtime::P4Info;

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
