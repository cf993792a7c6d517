//! Externs of v1model: what keeps state or computes beside the tables.

pub(crate) mod calculation;
pub(crate) mod hash;
pub(crate) mod meter;
