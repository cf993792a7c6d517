//! The JSON schema of the configuration, for editors and other programs.

use crate::Config;

/// The schema (JSON Schema, draft 2020-12). `config/upf.schema.json` is this, and a test keeps it so.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
