//! An embedded v1model switch: runs the BMv2 JSON that p4c writes, as `simple_switch` does, only much faster.

pub mod control;
pub mod p4rt_server;
pub mod ports;
pub mod program;
pub mod switch;

pub use program::{LoadError, Program};
pub use switch::{Output, Switch, SwitchConfig};
