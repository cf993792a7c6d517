//! Where packets come from and go to: in memory, capture files, network interfaces; and the loop that runs them.

pub mod memory;
