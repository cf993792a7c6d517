//! Writing: updates of entities, one by one or all or nothing.

mod cells;
mod profiles;

use std::time::Duration;

use num_bigint::{BigInt, Sign};

use super::Engine;
use crate::control::{
    ActionCall, ActionProfileId, BatchError, ControlError, Entity, Event, GroupMember, MatchKind, MeterConfig,
    TableAction, TableEntry, TableId, Update, Value,
};
use crate::externs::meter::MeterMut;
use crate::program::action::Action;
use crate::program::table::{KeyField, Table};
use crate::tables::matching::{Matcher, number};
use crate::tables::profile::Group;
use crate::tables::{Control, DEFAULT_ROW, InsertError, MatchTable};

type Result<T> = std::result::Result<T, ControlError>;

fn invalid<T>(reason: impl ToString) -> Result<T> {
    Err(ControlError::InvalidArgument(reason.to_string()))
}

fn missing(what: &str, id: impl std::fmt::Display) -> ControlError {
    ControlError::NotFound(format!("{what} {id}"))
}

/// What an update does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Modify,
    Delete,
}

/// Most members of a group, weights counted.
const MAX_GROUP: u64 = 1 << 16;

impl Engine {
    /// Puts in what the program gives: default and constant entries.
    pub(crate) fn install_constants(&mut self) {
        self.machine.set_drop_port(self.config.drop_port);
        let program = std::sync::Arc::clone(&self.program);
        for (i, table) in program.tables.iter().enumerate() {
            self.reset_default(i);
            let worst = table.entries.iter().map(|e| e.priority).max().unwrap_or(0);
            let matcher = Matcher::of(table);
            for entry in &table.entries {
                let (spec, prefix) = matcher.const_spec(&entry.key);
                // Here higher wins, there lower.
                let priority = if table.by_prefix {
                    prefix as i64
                } else {
                    worst - entry.priority + 1
                };
                let priority = if matcher.is_exact() { 0 } else { priority };
                let entries = &mut self.tables[i];
                // An entry that is there twice: the first counts.
                if let Ok(row) = entries.insert(spec, priority) {
                    let action = &program.actions[table.actions[entry.action].action];
                    let words = encode(action, &entry.arguments);
                    set_row(entries, row, Control::Action(entry.action as u32), &words);
                    entries.cold[row as usize].is_const = true;
                }
            }
        }
    }

    fn reset_default(&mut self, table: usize) {
        let model = &self.program.tables[table];
        let entries = &mut self.tables[table];
        match &model.default {
            Some((slot, arguments)) => {
                let action = &self.program.actions[model.actions[*slot].action];
                let words = encode(action, arguments);
                set_row(entries, DEFAULT_ROW, Control::Action(*slot as u32), &words);
            }
            None => set_row(entries, DEFAULT_ROW, Control::Nothing, &[]),
        }
    }

    /// One update.
    pub(crate) fn apply(&mut self, update: &Update) -> Result<()> {
        let (kind, entity) = match update {
            Update::Insert(entity) => (Kind::Insert, entity),
            Update::Modify(entity) => (Kind::Modify, entity),
            Update::Delete(entity) => (Kind::Delete, entity),
        };
        let modify_only = |what| {
            if kind == Kind::Modify {
                Ok(())
            } else {
                Err(ControlError::ModifyOnly(what))
            }
        };
        match entity {
            Entity::TableEntry(entry) if entry.is_default => {
                modify_only("a default entry")?;
                self.write_default(entry)
            }
            Entity::TableEntry(entry) => self.write_entry(kind, entry),
            Entity::ActionProfileMember(member) => self.write_member(kind, member),
            Entity::ActionProfileGroup(group) => self.write_group(kind, group),
            Entity::Counter(cell) => modify_only("a counter cell").and_then(|()| self.write_counter(cell)),
            Entity::Meter(cell) => modify_only("a meter cell").and_then(|()| self.write_meter(cell)),
            Entity::Register(cell) => modify_only("a register cell").and_then(|()| self.write_register(cell)),
            Entity::DirectCounter(entry) => {
                modify_only("a direct counter")?;
                let row = self.existing(entry)?;
                let counter = entry.counter_data.unwrap_or_default();
                self.set_direct_counter(entry.table, row, counter)
            }
            Entity::DirectMeter(entry) => {
                modify_only("a direct meter")?;
                let row = self.existing(entry)?;
                self.set_direct_meter(entry.table, row, entry.meter_config)
            }
            Entity::MulticastGroup(group) => self.write_multicast(kind, group),
            Entity::CloneSession(session) => self.write_clone(kind, session),
            Entity::ValueSet(set) => modify_only("a value set").and_then(|()| self.write_value_set(set)),
            Entity::Digest(config) => self.write_digest(kind, config),
        }
    }

    /// All updates, or none of them.
    pub(crate) fn apply_all(&mut self, updates: &[Update]) -> std::result::Result<(), BatchError> {
        let mut undo = Vec::with_capacity(updates.len());
        for (index, update) in updates.iter().enumerate() {
            let inverse = self.inverse(update);
            if let Err(error) = self.apply(update) {
                for update in undo.iter().rev() {
                    // What was there a moment ago can be there again.
                    let undone = self.apply(update);
                    debug_assert!(undone.is_ok(), "{undone:?}");
                }
                return Err(BatchError { index, error });
            }
            undo.extend(inverse);
        }
        Ok(())
    }

    /// What takes an update back, if it succeeds.
    fn inverse(&self, update: &Update) -> Option<Update> {
        Some(match update {
            Update::Insert(entity) => Update::Delete(entity.clone()),
            Update::Modify(entity) => Update::Modify(self.present(entity)?),
            Update::Delete(entity) => Update::Insert(self.present(entity)?),
        })
    }

    pub(crate) fn table_model(&self, table: TableId) -> Result<&Table> {
        self.program
            .tables
            .get(table.index())
            .ok_or_else(|| missing("table", table.0))
    }

    /// The row of the entry with this key.
    pub(crate) fn existing(&self, entry: &TableEntry) -> Result<u32> {
        let model = self.table_model(entry.table)?;
        let (spec, priority) = self.spec(model, entry)?;
        let row = self.tables[entry.table.index()].find(&spec, priority);
        row.ok_or_else(|| ControlError::NotFound(format!("this entry of table {}", model.name)))
    }

    fn spec(&self, model: &Table, entry: &TableEntry) -> Result<(crate::program::table::MatchSpec, i64)> {
        let matcher = Matcher::of(model);
        let (spec, prefix) = matcher.spec(&entry.key)?;
        let by_priority = matcher
            .fields
            .iter()
            .any(|f| matches!(f.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional));
        let priority = match (by_priority, entry.priority) {
            (true, 1..) => entry.priority as i64,
            (true, _) => return invalid(format_args!("entries of table {} need a priority above 0", model.name)),
            (false, 0) => prefix as i64,
            (false, _) => return invalid(format_args!("entries of table {} have no priority", model.name)),
        };
        Ok((spec, priority))
    }

    fn write_entry(&mut self, kind: Kind, entry: &TableEntry) -> Result<()> {
        let program = std::sync::Arc::clone(&self.program);
        let model = self.table_model(entry.table)?;
        if model.fields.is_empty() {
            return invalid(format_args!("table {} has no key, only a default entry", model.name));
        }
        if model.const_entries {
            return Err(ControlError::Constant(format!("table {}", model.name)));
        }
        let number = entry.table.index();
        match kind {
            Kind::Insert => {
                let (spec, priority) = self.spec(model, entry)?;
                let Some(action) = &entry.action else {
                    return invalid("an entry needs an action");
                };
                self.check_extras(entry)?;
                let exists =
                    || ControlError::AlreadyExists(format!("this entry of table {}", program.tables[number].name));
                if matches!(action, TableAction::OneShot(_)) && self.tables[number].find(&spec, priority).is_some() {
                    return Err(exists());
                }
                let (control, words) = self.resolve(number, action)?;
                let entries = &mut self.tables[number];
                let row = match entries.insert(spec, priority) {
                    Ok(row) => row,
                    Err(error) => {
                        self.release(number, control);
                        return Err(match error {
                            InsertError::Exists => exists(),
                            InsertError::Full => {
                                let model = &program.tables[number];
                                ControlError::ResourceExhausted(format!("table {}", model.name), model.max_size)
                            }
                        });
                    }
                };
                set_row(entries, row, control, &words);
                if program.tables[number].timeouts {
                    let at = entries.layout.last_hit;
                    entries.row_mut(row)[at] = self.machine.now_ns;
                }
                self.refer(number, control, 1);
                self.set_extras(entry, row)
            }
            Kind::Modify => {
                let row = self.existing(entry)?;
                self.check_extras(entry)?;
                if let Some(action) = &entry.action {
                    let (control, words) = self.resolve(number, action)?;
                    let old = self.control(number, row);
                    set_row(&mut self.tables[number], row, control, &words);
                    self.refer(number, control, 1);
                    self.refer(number, old, -1);
                    self.release(number, old);
                }
                self.set_extras(entry, row)
            }
            Kind::Delete => {
                let row = self.existing(entry)?;
                let old = self.control(number, row);
                self.tables[number].remove(row);
                self.refer(number, old, -1);
                self.release(number, old);
                Ok(())
            }
        }
    }

    fn write_default(&mut self, entry: &TableEntry) -> Result<()> {
        let number = entry.table.index();
        let model = self.table_model(entry.table)?;
        if !entry.key.is_empty() || entry.priority != 0 {
            return invalid("a default entry has no key and no priority");
        }
        if model.const_default {
            return Err(ControlError::Constant(format!(
                "the default action of table {}",
                model.name
            )));
        }
        let old = self.control(number, DEFAULT_ROW);
        match &entry.action {
            Some(action) => {
                let (control, words) = self.resolve(number, action)?;
                set_row(&mut self.tables[number], DEFAULT_ROW, control, &words);
                self.refer(number, control, 1);
            }
            None => self.reset_default(number),
        }
        self.refer(number, old, -1);
        self.release(number, old);
        self.tables[number].cold[DEFAULT_ROW as usize].metadata = entry.metadata.clone();
        Ok(())
    }

    /// An entry's control word.
    pub(crate) fn control(&self, table: usize, row: u32) -> Control {
        let entries = &self.tables[table];
        Control::from_word(entries.row(row)[entries.layout.control])
    }

    fn refer(&mut self, table: usize, control: Control, change: isize) {
        if let Some(profile) = self.program.tables[table].profile {
            self.profiles[profile].refer(control, change);
        }
    }

    /// Takes a one-shot group apart that nothing refers to any more.
    fn release(&mut self, table: usize, control: Control) {
        let (Some(profile), Control::Group(at)) = (self.program.tables[table].profile, control) else {
            return;
        };
        let profile = &mut self.profiles[profile];
        let group = &profile.groups[at as usize];
        if group.one_shot && group.references == 0 {
            let mut members: Vec<u32> = group.slots.to_vec();
            members.dedup();
            profile.remove_group(at);
            for member in members {
                profile.remove_member(member);
            }
        }
    }

    /// What a table action means: its control word and arguments. A one-shot group is made here.
    fn resolve(&mut self, table: usize, action: &TableAction) -> Result<(Control, Vec<u64>)> {
        let program = std::sync::Arc::clone(&self.program);
        let model = &program.tables[table];
        let mismatch = || invalid(format_args!("table {} has no action profile of this kind", model.name));
        match (action, model.profile) {
            (TableAction::Call(call), None) => {
                let slot = model.actions.iter().position(|a| a.action == call.action.index());
                let Some(slot) = slot else {
                    return invalid(format_args!("table {} has no action {}", model.name, call.action.0));
                };
                Ok((Control::Action(slot as u32), self.arguments(call)?))
            }
            (TableAction::Call(_), Some(_)) => invalid(format_args!(
                "table {} takes members or groups of its action profile",
                model.name
            )),
            (TableAction::Member(id), Some(profile)) => {
                let at = self.profiles[profile].member_ids.get(id);
                Ok((Control::Member(*at.ok_or_else(|| missing("member", id))?), Vec::new()))
            }
            (TableAction::Group(id), Some(profile)) => {
                if program.profiles[profile].selector.is_none() {
                    return mismatch();
                }
                let at = self.profiles[profile].group_ids.get(id);
                Ok((Control::Group(*at.ok_or_else(|| missing("group", id))?), Vec::new()))
            }
            (TableAction::OneShot(actions), Some(profile)) => {
                if program.profiles[profile].selector.is_none() {
                    return mismatch();
                }
                let mut checked = Vec::new();
                let weights: u64 = actions.iter().map(|a| a.weight as u64).sum();
                if actions.iter().any(|a| a.weight == 0) || weights > MAX_GROUP {
                    return invalid("weights are at least 1, and 65536 together at most");
                }
                for action in actions {
                    self.profile_action(ActionProfileId(profile as u32), action.call.action)?;
                    checked.push(self.arguments(&action.call)?);
                }
                let (mut slots, mut members) = (Vec::new(), Vec::new());
                for (action, words) in actions.iter().zip(checked) {
                    let at = self.profiles[profile].add_member(None, action.call.action.index(), words.into());
                    slots.extend(std::iter::repeat_n(at, action.weight as usize));
                    members.push(GroupMember {
                        member: at,
                        weight: action.weight,
                        watch_port: action.watch_port,
                    });
                }
                let group = Group {
                    id: 0,
                    members,
                    max_size: 0,
                    slots: slots.into(),
                    live: true,
                    references: 0,
                    one_shot: true,
                };
                Ok((
                    Control::Group(self.profiles[profile].add_group(None, group)),
                    Vec::new(),
                ))
            }
            (_, None) => mismatch(),
        }
    }

    /// A call's arguments as words.
    fn arguments(&self, call: &ActionCall) -> Result<Vec<u64>> {
        let Some(action) = self.program.actions.get(call.action.index()) else {
            return Err(missing("action", call.action.0));
        };
        if call.arguments.len() != action.widths.len() {
            let (want, have) = (action.widths.len(), call.arguments.len());
            return invalid(format_args!(
                "action {} takes {want} arguments, {have} are given",
                action.name
            ));
        }
        let packing = &action.packing;
        let mut words = vec![0; packing.words];
        for (field, value) in call.arguments.iter().enumerate() {
            let what = || format!("argument {} of action {}", action.parameters[field], action.name);
            let (width, parts) = &packing.fields[field];
            match (word(value, *width), &parts[..]) {
                (Some(value), [(word, shift, _)]) => words[*word] |= value << shift,
                _ => packing.put(field, &number(value, *width, &what())?, &mut words),
            }
        }
        Ok(words)
    }

    fn check_extras(&self, entry: &TableEntry) -> Result<()> {
        let model = self.table_model(entry.table)?;
        if !entry.idle_timeout.is_zero() && !model.timeouts {
            return invalid(format_args!("table {} has no idle timeouts", model.name));
        }
        if entry.counter_data.is_some() && !model.counters {
            return invalid(format_args!("table {} has no direct counter", model.name));
        }
        if entry.meter_config.is_some() && model.meter.is_none() {
            return invalid(format_args!("table {} has no direct meter", model.name));
        }
        entry.meter_config.map_or(Ok(()), check_meter)
    }

    fn set_extras(&mut self, entry: &TableEntry, row: u32) -> Result<()> {
        let entries = &mut self.tables[entry.table.index()];
        entries.set_timeout(row, entry.idle_timeout);
        entries.cold[row as usize].metadata = entry.metadata.clone();
        if let Some(counter) = entry.counter_data {
            self.set_direct_counter(entry.table, row, counter)?;
        }
        if entry.meter_config.is_some() {
            self.set_direct_meter(entry.table, row, entry.meter_config)?;
        }
        Ok(())
    }

    fn set_direct_counter(&mut self, table: TableId, row: u32, counter: crate::control::CounterData) -> Result<()> {
        let model = self.table_model(table)?;
        if !model.counters {
            return invalid(format_args!("table {} has no direct counter", model.name));
        }
        let entries = &mut self.tables[table.index()];
        let at = entries.layout.counter;
        entries.row_mut(row)[at..at + 2].copy_from_slice(&[counter.packets, counter.bytes]);
        Ok(())
    }

    fn set_direct_meter(&mut self, table: TableId, row: u32, config: Option<MeterConfig>) -> Result<()> {
        let model = self.table_model(table)?;
        if model.meter.is_none() {
            return invalid(format_args!("table {} has no direct meter", model.name));
        }
        config.map_or(Ok(()), check_meter)?;
        let now = self.machine.now_ns;
        MeterMut(&mut self.tables[table.index()].meters[row as usize]).configure(config, now);
        Ok(())
    }

    /// Reports entries that have not been hit for too long, once.
    pub(crate) fn sweep_timeouts(&mut self, now_ns: u64) {
        let mut expired = Vec::new();
        for (i, entries) in self.tables.iter_mut().enumerate() {
            if entries.with_timeout == 0 {
                continue;
            }
            let last_hit = entries.layout.last_hit;
            for row in 1..entries.row_count() as u32 {
                if !entries.is_live(row) || entries.cold[row as usize].idle_timeout.is_zero() {
                    continue;
                }
                let idle = Duration::from_nanos(now_ns.saturating_sub(entries.row(row)[last_hit]));
                let cold = &mut entries.cold[row as usize];
                let over = idle >= cold.idle_timeout;
                if over && !cold.timed_out {
                    expired.push((i, row));
                }
                cold.timed_out = over;
            }
        }
        if !expired.is_empty() {
            let entries = expired.into_iter().map(|(table, row)| self.entry(table, row)).collect();
            self.events.push(Event::IdleTimeout(entries));
        }
    }
}

/// The key fields of a value set: each may be exact, masked or anything.
pub(crate) fn value_set_fields(set: &crate::program::parser::ValueSet) -> Vec<KeyField> {
    let field = |(width, _): &(usize, _)| KeyField {
        name: "member".to_owned(),
        kind: MatchKind::Ternary,
        width: *width,
    };
    set.key.fields.iter().map(field).collect()
}

fn set_row(entries: &mut MatchTable, row: u32, control: Control, arguments: &[u64]) {
    let layout = entries.layout;
    let words = entries.row_mut(row);
    words[layout.control] = control.word();
    let room = &mut words[layout.arguments..][..layout.argument_words];
    room.fill(0);
    room[..arguments.len()].copy_from_slice(arguments);
    entries.reach = entries.reach.max(layout.arguments + arguments.len());
}

fn check_meter(config: MeterConfig) -> Result<()> {
    if config.pir < config.cir {
        return invalid("the peak rate is less than the committed rate");
    }
    Ok(())
}

/// The usual value: of 1 to 64 bits, in as many bytes as they need at most.
fn word(value: &Value, width: usize) -> Option<u64> {
    let usual = (1..=64).contains(&width) && (1..=8).contains(&value.len());
    let word = usual.then(|| value.iter().fold(0u64, |w, b| w << 8 | *b as u64))?;
    (word <= u64::MAX >> (64 - width)).then_some(word)
}

/// The program's own arguments as words; negative numbers in two's complement.
fn encode(action: &Action, values: &[BigInt]) -> Vec<u64> {
    let mut words = vec![0; action.packing.words];
    for (field, (value, width)) in values.iter().zip(&action.widths).enumerate() {
        let value = match value.sign() {
            Sign::Minus => value + (BigInt::from(1) << *width),
            _ => value.clone(),
        };
        action.packing.put(field, &value, &mut words);
    }
    words
}
