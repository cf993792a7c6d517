//! Admission control.

/// Where guaranteed bit rates add up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// A port, by name.
    Port(String),
    /// A slice, by S-NSSAI.
    Slice(String),
    /// A cell, by name.
    Cell(String),
}

/// Which way packets go.
pub use crate::policy::file::Way;
