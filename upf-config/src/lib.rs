//! The configuration file, shared by `upf-ctl`, `upf-host` and `upf`: one YAML file describes one UPF.

pub mod types;
pub use types::*;
