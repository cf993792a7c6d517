//! The program at the size that a population needs.

use super::Outcome;
use p4runtime::P4Info;

const SMALL: &[u8] = include_bytes!("../../../p4/compiled/upf-small.json");
const SMALL_INFO: &[u8] = include_bytes!("../../../p4/compiled/upf-small.p4info.bin");
const FULL: &[u8] = include_bytes!("../../../p4/compiled/upf.json");
const FULL_INFO: &[u8] = include_bytes!("../../../p4/compiled/upf.p4info.bin");

/// Sessions that the small profile has room for.
const SMALL_SESSIONS: u32 = 16_000;
/// Cells of an array in the full profile as it is measured.
const CELLS: u64 = 1 << 20;

/// A compiled program.
pub struct Program {
    /// BMv2 JSON.
    pub json: Vec<u8>,
    /// Its P4Info.
    pub info: P4Info,
}

impl Program {
    /// With room for so many sessions.
    pub fn for_sessions(sessions: u32) -> Outcome<Self> {
        if sessions <= SMALL_SESSIONS {
            let info = P4Info::from_binary(SMALL_INFO)?;
            return Ok(Self {
                json: SMALL.to_vec(),
                info,
            });
        }
        let mut json: serde_json::Value = serde_json::from_slice(FULL)?;
        for arrays in ["counter_arrays", "meter_arrays"] {
            for array in json[arrays].as_array_mut().into_iter().flatten() {
                if array["size"].as_u64().is_some_and(|size| size > CELLS) {
                    array["size"] = CELLS.into();
                }
            }
        }
        Ok(Self {
            json: serde_json::to_vec(&json)?,
            info: P4Info::from_binary(FULL_INFO)?,
        })
    }
}
