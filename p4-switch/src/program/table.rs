//! Tables and the control flow between them.

mod key;

use std::collections::HashMap;

use num_bigint::BigInt;

use super::ast::{Reader, hex};
use super::expr::{Compiler, Cond};
use super::layout::Layout;
use super::packing::Packing;
use super::{LoadError, Names};
use crate::control::MatchKind;
use crate::json::Node;
pub(crate) use key::{ConstMatch, KeyField, MatchSpec, RangeCheck, TablePart};
use key::{const_match, match_kind, table_key};

/// The end of a pipeline.
pub(crate) const END: u32 = u32::MAX;

/// What an action of a table is, and what comes after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableAction {
    pub(crate) action: usize,
    pub(crate) next: u32,
}

/// An entry given by the program.
#[derive(Debug, Clone)]
pub(crate) struct ConstEntry {
    pub(crate) key: Vec<ConstMatch>,
    /// BMv2's: lower wins.
    pub(crate) priority: i64,
    /// Position in [`Table::actions`].
    pub(crate) action: usize,
    pub(crate) arguments: Vec<BigInt>,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) fields: Vec<KeyField>,
    pub(crate) key: Packing,
    pub(crate) parts: Box<[TablePart]>,
    /// The longest prefix wins, rather than a priority.
    pub(crate) by_prefix: bool,
    pub(crate) actions: Vec<TableAction>,
    /// Where a hit or a miss leads, whatever the action.
    pub(crate) on_hit: Option<u32>,
    pub(crate) on_miss: Option<u32>,
    /// Position in [`Self::actions`] and arguments; none: a miss does nothing.
    pub(crate) default: Option<(usize, Vec<BigInt>)>,
    /// Where a miss without any default action leads.
    pub(crate) base_default: u32,
    pub(crate) const_default: bool,
    pub(crate) max_size: usize,
    pub(crate) profile: Option<usize>,
    pub(crate) counters: bool,
    /// Position in [`Names::direct_meters`].
    pub(crate) meter: Option<usize>,
    pub(crate) timeouts: bool,
    pub(crate) entries: Vec<ConstEntry>,
    pub(crate) const_entries: bool,
}

impl Table {
    /// Where it may lead.
    pub(crate) fn successors(&self) -> impl Iterator<Item = u32> + '_ {
        let actions = self.actions.iter().map(|a| a.next);
        actions
            .chain(self.on_hit)
            .chain(self.on_miss)
            .chain([self.base_default])
    }
}

/// An action profile.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) max_size: usize,
    /// Position among the calculations.
    pub(crate) selector: Option<usize>,
}

/// A node of the control flow.
#[derive(Debug, Clone)]
pub(crate) enum Flow {
    Apply(u32),
    /// An action without arguments, in place.
    Call {
        action: u32,
        next: u32,
    },
    If {
        condition: Cond,
        yes: u32,
        no: u32,
    },
}

/// A pipeline: ingress or egress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    pub(crate) flow: Vec<Flow>,
    pub(crate) start: u32,
}

/// Both pipelines' tables together.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) tables: Vec<Table>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) selectors: Vec<crate::externs::calculation::Calculation>,
}

impl Tables {
    /// Reads one item of `pipelines`.
    pub(crate) fn pipeline(&mut self, node: &Node, layout: &Layout, names: &Names) -> Result<Pipeline, LoadError> {
        for profile in node.get("action_profiles").items()? {
            let selector = profile.get("selector");
            let selector = if selector.is_null() {
                None
            } else {
                self.selectors
                    .push(crate::externs::calculation::Calculation::load(&selector, layout)?);
                Some(self.selectors.len() - 1)
            };
            self.profiles.push(Profile {
                name: profile.get("name").str()?.to_owned(),
                max_size: profile.get("max_size").usize_or(1024)?,
                selector,
            });
        }
        let mut numbers = HashMap::new();
        let (tables, conditionals, calls) = (node.get("tables"), node.get("conditionals"), node.get("action_calls"));
        for item in tables.items()?.chain(conditionals.items()?).chain(calls.items()?) {
            let name = item.get("name");
            let number = numbers.len() as u32;
            if numbers.insert(name.str()?.to_owned(), number).is_some() {
                return Err(name.error("another node of the pipeline has this name"));
            }
        }
        let next = |node: &Node| -> Result<u32, LoadError> {
            if node.is_null() {
                return Ok(END);
            }
            let name = node.str()?;
            numbers
                .get(name)
                .copied()
                .ok_or_else(|| node.error(format_args!("there is no table or condition {name}")))
        };
        let mut flow = Vec::new();
        for item in tables.items()? {
            let table = self.table(&item, layout, names, &next)?;
            // What p4c makes of a statement: no key, an action that stays. No look-up is needed.
            let action = table.default.as_ref().filter(|(_, arguments)| {
                table.fields.is_empty() && table.const_default && arguments.is_empty() && !table.counters
            });
            flow.push(match action {
                Some((action, _)) => {
                    let action = table.actions[*action];
                    Flow::Call {
                        action: action.action as u32,
                        next: table.on_miss.unwrap_or(action.next),
                    }
                }
                None => Flow::Apply(self.tables.len() as u32),
            });
            self.tables.push(table);
        }
        let reader = Reader { layout, params: &[] };
        let compiler = Compiler { layout, params: &[] };
        for item in conditionals.items()? {
            flow.push(Flow::If {
                condition: compiler.condition(&reader.condition(&item.get("expression"))?),
                yes: next(&item.get("true_next"))?,
                no: next(&item.get("false_next"))?,
            });
        }
        for item in calls.items()? {
            let action = names.action(&item.get("action_id"))?;
            flow.push(Flow::Call {
                action: action as u32,
                next: next(&item.get("next_node"))?,
            });
        }
        let pipeline = Pipeline {
            start: next(&node.get("init_table"))?,
            flow,
        };
        self.check_acyclic(&pipeline, node)?;
        Ok(pipeline)
    }

    /// A packet must get out of a pipeline.
    fn check_acyclic(&self, pipeline: &Pipeline, node: &Node) -> Result<(), LoadError> {
        let successors = |at: u32| -> Vec<u32> {
            match &pipeline.flow[at as usize] {
                Flow::If { yes, no, .. } => vec![*yes, *no],
                Flow::Call { next, .. } => vec![*next],
                Flow::Apply(table) => self.tables[*table as usize].successors().collect(),
            }
        };
        // 0 new, 1 on the way, 2 done.
        let mut state = vec![0u8; pipeline.flow.len()];
        let mut path: Vec<(u32, Vec<u32>)> = Vec::new();
        let mut enter = vec![pipeline.start];
        loop {
            if let Some(at) = enter.pop().filter(|at| *at != END) {
                match state[at as usize] {
                    0 => {
                        state[at as usize] = 1;
                        path.push((at, successors(at)));
                    }
                    1 => return Err(node.error("the control flow has a loop")),
                    _ => {}
                }
            }
            let Some((at, rest)) = path.last_mut() else {
                return Ok(());
            };
            match rest.pop() {
                Some(next) => enter.push(next),
                None => {
                    state[*at as usize] = 2;
                    path.pop();
                }
            }
        }
    }

    fn table(
        &self,
        node: &Node,
        layout: &Layout,
        names: &Names,
        next: &dyn Fn(&Node) -> Result<u32, LoadError>,
    ) -> Result<Table, LoadError> {
        let name_node = node.get("name");
        let name = name_node.str()?.to_owned();
        let (fields, key, parts) = table_key(node, layout)?;
        let base_default = next(&node.get("base_default_next"))?;
        let next_tables = node.get("next_tables");
        let (mut on_hit, mut on_miss) = (None, None);
        let mut by_action = HashMap::new();
        if !next_tables.is_null() {
            for (action, target) in next_tables.members()? {
                match action {
                    "__HIT__" => on_hit = Some(next(&target)?),
                    "__MISS__" => on_miss = Some(next(&target)?),
                    action => {
                        by_action.insert(action, next(&target)?);
                    }
                }
            }
        }
        let mut actions = Vec::new();
        let (ids, action_names) = (node.get("action_ids"), node.get("actions"));
        for i in 0..action_names.len().max(ids.len()) {
            let name = action_names.at(i);
            let action = if ids.is_null() {
                names.action_named(&name)?
            } else {
                names.action(&ids.at(i))?
            };
            let next = by_action
                .get(names.actions[action].as_str())
                .copied()
                .unwrap_or(base_default);
            actions.push(TableAction { action, next });
        }
        let table_action = |id: &Node| -> Result<usize, LoadError> {
            let action = names.action(id)?;
            actions
                .iter()
                .position(|a| a.action == action)
                .ok_or_else(|| id.error("the action is not one of the table's"))
        };
        let arguments = |data: &Node, action: usize| -> Result<Vec<BigInt>, LoadError> {
            let values = data.items()?.map(|n| hex(&n)).collect::<Result<Vec<_>, _>>()?;
            let widths = &names.action_widths[actions[action].action];
            if values.len() != widths.len() {
                return Err(data.error(format_args!("the action takes {} arguments", widths.len())));
            }
            Ok(values)
        };
        let default = node.get("default_entry");
        let mut const_default = default.get("action_const").bool_or(false)?;
        let default = if default.is_null() {
            None
        } else {
            let action = table_action(&default.get("action_id"))?;
            let data = default.get("action_data");
            if data.is_null() && !names.action_widths[actions[action].action].is_empty() {
                const_default = false;
                None
            } else {
                Some((action, arguments(&data, action)?))
            }
        };
        let profile = match node.get("type") {
            kind if kind.is_null() || kind.str()? == "simple" => None,
            _ => {
                let profile = match node.get("action_profile") {
                    p if p.is_null() => node.get("act_prof_name"),
                    p => p,
                };
                let name = profile.str()?;
                let found = self.profiles.iter().position(|p| p.name == name);
                Some(found.ok_or_else(|| profile.error(format_args!("there is no action profile {name}")))?)
            }
        };
        let match_type = node.get("match_type");
        let by_prefix = match match_kind(&match_type)? {
            MatchKind::Lpm => true,
            MatchKind::Exact | MatchKind::Valid => fields.iter().any(|f| f.kind == MatchKind::Lpm),
            _ => false,
        };
        if by_prefix && fields.iter().filter(|f| f.kind == MatchKind::Lpm).count() > 1 {
            return Err(node.error("a table has at most one lpm field"));
        }
        let meter = node.get("direct_meters");
        let meter = if meter.is_null() {
            None
        } else {
            Some(names.direct_meter(&meter)?)
        };
        let entries_node = node.get("entries");
        let mut entries = Vec::new();
        for entry in entries_node.items()? {
            let (key_node, action_entry) = (entry.get("match_key"), entry.get("action_entry"));
            if key_node.len() != fields.len() {
                return Err(key_node.error(format_args!("the table's key has {} fields", fields.len())));
            }
            let key = key_node
                .items()?
                .map(|m| const_match(&m))
                .collect::<Result<Vec<_>, _>>()?;
            let action = table_action(&action_entry.get("action_id"))?;
            let priority = entry.get("priority");
            entries.push(ConstEntry {
                key,
                priority: if priority.is_null() { 0 } else { priority.i64()? },
                action,
                arguments: arguments(&action_entry.get("action_data"), action)?,
            });
        }
        let max_size = node.get("max_size").usize_or(1024)?;
        Ok(Table {
            name,
            key,
            parts,
            by_prefix,
            actions,
            on_hit,
            on_miss,
            default,
            base_default,
            const_default,
            max_size: max_size.max(entries.len()),
            profile,
            counters: node.get("with_counters").bool_or(false)?,
            meter,
            timeouts: node.get("support_timeout").bool_or(false)?,
            const_entries: !entries_node.is_null() && !entries.is_empty(),
            entries,
            fields,
        })
    }
}
