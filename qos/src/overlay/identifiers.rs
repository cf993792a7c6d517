//! Owns the identifiers of what the overlay makes: hashes of what it stands for.

use std::hash::{Hash, Hasher};

/// Of QERs and FARs from the UP function's own range (TS 29.244 8.2.74, 8.2.75).
const UP_FUNCTION: u32 = 1 << 31;

/// FNV-1a: the same in every run, unlike the standard library's. Nobody outside chooses what is hashed to do harm: two
/// values that meet cost a step.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Mixed, as the low bits of FNV are the only good ones.
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// A free identifier of a QER or FAR for what has that hash.
pub(super) fn of_up_function(hash: u64, taken: impl Fn(u32) -> bool) -> u32 {
    let mut id = hash as u32 | UP_FUNCTION;
    while taken(id) {
        id = id.wrapping_add(1) | UP_FUNCTION;
    }
    id
}

/// A free identifier of a PDR for what has that hash. A session has far fewer PDRs than there are.
pub(super) fn of_derived_pdr(hash: u64, taken: impl Fn(u16) -> bool) -> u16 {
    const UPPER_HALF: u16 = 1 << 15;
    let mut id = hash as u16 | UPPER_HALF;
    while taken(id) {
        id = id.wrapping_add(1) | UPPER_HALF;
    }
    id
}
