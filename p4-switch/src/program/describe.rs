//! What a program offers to a controller.

use super::Program;
use crate::control::{
    ActionId, ActionInfo, ActionProfileId, ActionProfileInfo, DigestInfo, KeyInfo, MatchKind, ParameterInfo,
    ProgramInfo, TableInfo, ValueSetInfo,
};

impl Program {
    /// What it offers to a controller.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    pub(super) fn describe(&self) -> ProgramInfo {
        let tables: Vec<TableInfo> = self
            .tables
            .iter()
            .map(|t| TableInfo {
                name: t.name.clone(),
                key: t
                    .fields
                    .iter()
                    .map(|f| KeyInfo {
                        name: f.name.clone(),
                        bitwidth: f.width,
                        kind: f.kind,
                    })
                    .collect(),
                actions: t.actions.iter().map(|a| ActionId(a.action as u32)).collect(),
                max_size: t.max_size,
                needs_priority: t
                    .fields
                    .iter()
                    .any(|f| matches!(f.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional)),
                const_entries: t.const_entries,
                const_default: t.const_default,
                action_profile: t.profile.map(|p| ActionProfileId(p as u32)),
                direct_counter: t.counters.then(|| {
                    self.names
                        .direct_counters
                        .get(&t.name)
                        .cloned()
                        .unwrap_or_else(|| t.name.clone())
                }),
                direct_meter: t.meter.map(|m| {
                    let meter = &self.names.direct_meters[m];
                    (meter.name.clone(), meter.unit)
                }),
                idle_timeout: t.timeouts,
            })
            .collect();
        let action_profiles = self
            .profiles
            .iter()
            .enumerate()
            .map(|(i, p)| ActionProfileInfo {
                name: p.name.clone(),
                max_size: p.max_size,
                selector: p.selector.is_some(),
                tables: (0..self.tables.len() as u32)
                    .filter(|t| self.tables[*t as usize].profile == Some(i))
                    .map(crate::control::TableId)
                    .collect(),
            })
            .collect();
        ProgramInfo {
            tables,
            actions: self
                .actions
                .iter()
                .map(|a| ActionInfo {
                    name: a.name.clone(),
                    parameters: a
                        .parameters
                        .iter()
                        .zip(&a.widths)
                        .map(|(name, width)| ParameterInfo {
                            name: name.clone(),
                            bitwidth: *width,
                        })
                        .collect(),
                })
                .collect(),
            action_profiles,
            counters: self.names.counters.clone(),
            meters: self.names.meters.clone(),
            registers: self.names.registers.clone(),
            digests: self
                .learn_lists
                .iter()
                .map(|l| DigestInfo {
                    name: l.name.clone(),
                    bitwidths: l.spans.iter().map(|s| s.width as usize).collect(),
                })
                .collect(),
            value_sets: self
                .parser
                .value_sets
                .iter()
                .map(|v| ValueSetInfo {
                    name: v.name.clone(),
                    bitwidth: v.bitwidth,
                    fields: v.key.fields.iter().map(|(width, _)| *width).collect(),
                    max_size: v.max_size,
                })
                .collect(),
        }
    }
}
