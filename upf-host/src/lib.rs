//! The DPDK data plane.

pub mod packet;
