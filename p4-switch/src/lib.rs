//! An embedded v1model switch: runs the BMv2 JSON that p4c writes, as `simple_switch` does, only much faster.

pub mod control;
mod engine;
mod externs;
mod json;
mod memory;
pub mod p4rt_server;
pub mod ports;
pub mod program;
pub mod stf;
pub mod switch;
mod tables;
pub mod trace;

pub use engine::Statistics;
pub use program::{LoadError, Program};
pub use switch::{Output, PortRate, Switch, SwitchConfig};
