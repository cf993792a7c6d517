//! What upf-ctl's planner writes, as upf-ctl writes it.

use bmv2_tests::target::Written;
use p4runtime::error::EntryError;
use p4runtime::{P4Info, v1};
use std::collections::HashMap;
use std::sync::LazyLock;
use upf_ctl::placement::{Action, Entry};
use upf_ctl::planes::p4::runtime::codec::Codec;

static CODEC: LazyLock<Codec> = LazyLock::new(|| Codec {
    info: bmv2_tests::program::p4info(),
    idle: None,
    reason_rates: HashMap::new(),
});

/// An entry of the planner.
#[derive(Debug, Clone)]
pub struct Placed(Entry);

impl Placed {
    /// Without limits of punting: what is limited is not these tests' matter.
    pub fn unlimited(entry: &Entry) -> Self {
        let action = match entry.action {
            Action::Punt { port, .. } => Action::Punt {
                port,
                limit_users: false,
                per_second: u32::MAX,
            },
            ref other => other.clone(),
        };
        Self(Entry { action, ..*entry })
    }
}

impl Written for Placed {
    fn message(&self, _: &P4Info) -> Result<v1::TableEntry, EntryError> {
        CODEC.entry(&self.0)
    }
}
