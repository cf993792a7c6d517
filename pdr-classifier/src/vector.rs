//! Which vectors the processor has. The same code is compiled for each width, so that results agree by construction.

/// A width of vectors that rows are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Sixteen rows at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Eight rows at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the target has at least: four rows at a time on x86-64 and AArch64.
    Portable,
}

/// The widest there is. Cost: a load; the processor is asked once.
#[inline(always)]
pub(crate) fn widest() -> Width {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::is_x86_feature_detected as has;
        let has_bits = has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has_bits {
            return Width::Avx512;
        }
        if has!("avx2") && has_bits {
            return Width::Avx2;
        }
    }
    Width::Portable
}
