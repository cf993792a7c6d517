//! Table entries and what belongs to them: matches, actions, direct counters and meters.

use std::time::Duration;

use p4runtime::p4info::{ActionScope, MatchKind, MeterType, SizeSemantics};
use p4runtime::v1;
use p4runtime::v1::field_match::FieldMatchType;
use p4runtime::value;
use tonic::Code;

use super::{Change, checked, non_negative, port};
use crate::control::{
    ActionCall, CounterData, Entity, FieldMatch, MeterConfig, TableAction, TableEntry, Update, Value, WeightedAction,
};
use crate::p4rt_server::metadata;
use crate::p4rt_server::pipeline::{Action, Field, Pipeline, Profile, Table};
use crate::p4rt_server::refusal::Refusal;

/// An update of a table entry or default entry.
pub fn table_entry(
    pipeline: &Pipeline,
    change: Change,
    entry: v1::TableEntry,
    updates: &mut Vec<Update>,
) -> Result<(), Refusal> {
    let table = pipeline.tables.require(entry.table_id, "table")?;
    if entry.is_const {
        return Err(Refusal::invalid("is_const must not be set in a write"));
    }
    if entry.is_default_action && change != Change::Modify {
        return Err(Refusal::invalid("the default entry can only be modified"));
    }
    if change == Change::Insert && table.key.is_empty() {
        return Err(Refusal::invalid(format!(
            "table {:?} has no key, and so no entries",
            table.name
        )));
    }
    // Only what identifies the entry counts in a DELETE; the rest may be nonsense.
    let has_resources = change != Change::Delete && (entry.meter_config.is_some() || entry.counter_data.is_some());
    if table.is_const && !entry.is_default_action && (change != Change::Modify || entry.action.is_some()) {
        return Err(Refusal::new(
            Code::PermissionDenied,
            format!("the entries of table {:?} are constant", table.name),
        ));
    }
    let (action, meter, counter) = (entry.action, entry.meter_config, entry.counter_data);
    let mut decoded = TableEntry {
        table: table.engine,
        key: Vec::new(),
        priority: entry.priority,
        is_default: entry.is_default_action,
        action: None,
        idle_timeout: Duration::ZERO,
        metadata: Vec::new(),
        meter_config: None,
        counter_data: None,
        time_since_last_hit: None,
        is_const: false,
    };
    if entry.is_default_action {
        check_default(table, &entry.r#match, entry.priority, entry.idle_timeout_ns)?;
    } else {
        decoded.key = key(table, entry.r#match, entry.priority)?;
    }
    if change == Change::Delete {
        updates.push(Update::Delete(Entity::TableEntry(decoded)));
        return Ok(());
    }
    if entry.meter_counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count packets by colour"));
    }
    if entry.time_since_last_hit.is_some() {
        return Err(Refusal::invalid("time_since_last_hit can only be read"));
    }
    if entry.idle_timeout_ns != 0 && !table.idle_timeout {
        return Err(Refusal::invalid(format!(
            "table {:?} does not support idle timeouts",
            table.name
        )));
    }
    decoded.idle_timeout = Duration::from_nanos(non_negative(entry.idle_timeout_ns, "idle_timeout_ns")?);
    #[expect(deprecated, reason = "clients still use it")]
    let cookie = entry.controller_metadata;
    decoded.metadata = metadata::join(cookie, entry.metadata);
    decoded.meter_config = meter.map(|config| direct_meter_config(table, config)).transpose()?;
    decoded.counter_data = counter.map(|data| direct_counter_data(table, data)).transpose()?;
    decoded.action = match action {
        Some(action) => Some(table_action(pipeline, table, action, entry.is_default_action)?),
        None if change == Change::Insert => {
            return Err(Refusal::invalid(format!(
                "an entry for table {:?} needs an action",
                table.name
            )));
        }
        None => None,
    };
    // Only the meter and counter of a constant entry may change.
    if table.is_const && !entry.is_default_action {
        let counts = decoded.counter_data.is_some();
        let resets = table.meter.is_some();
        if has_resources && resets {
            updates.push(Update::Modify(Entity::DirectMeter(decoded.clone())));
        }
        if has_resources && counts {
            updates.push(Update::Modify(Entity::DirectCounter(decoded)));
        }
        return Ok(());
    }
    // A default entry has no meter in v1model.
    let has_meter = table.meter.is_some() && !decoded.is_default;
    let resets_meter = change == Change::Modify && has_meter && decoded.meter_config.is_none();
    let reset = resets_meter.then(|| {
        let mut key = decoded.clone();
        key.action = None;
        Update::Modify(Entity::DirectMeter(key))
    });
    updates.push(change.of(Entity::TableEntry(decoded)));
    updates.extend(reset);
    Ok(())
}

fn check_default(table: &Table, r#match: &[v1::FieldMatch], priority: i32, timeout: i64) -> Result<(), Refusal> {
    if !r#match.is_empty() || priority != 0 || timeout != 0 {
        return Err(Refusal::invalid(
            "a default entry has no match, no priority and no idle timeout",
        ));
    }
    if table.profile.is_some() {
        return Err(Refusal::invalid(format!(
            "the default entry of indirect table {:?} is NoAction",
            table.name
        )));
    }
    if table.const_default {
        let problem = format!("the default action of table {:?} is constant", table.name);
        return Err(Refusal::new(Code::PermissionDenied, problem));
    }
    Ok(())
}

/// An update of the counter of an entry. Without data nothing changes.
pub fn direct_counter(
    pipeline: &Pipeline,
    change: Change,
    entry: v1::DirectCounterEntry,
) -> Result<Option<Update>, Refusal> {
    change.modify_only("a direct counter")?;
    let (table, mut key) = table_entry_key(pipeline, entry.table_entry)?;
    let Some(data) = entry.data else { return Ok(None) };
    key.counter_data = Some(direct_counter_data(table, data)?);
    Ok(Some(Update::Modify(Entity::DirectCounter(key))))
}

/// An update of the meter of an entry. Without rates it becomes green for everything.
pub fn direct_meter(pipeline: &Pipeline, change: Change, entry: v1::DirectMeterEntry) -> Result<Update, Refusal> {
    change.modify_only("a direct meter")?;
    if entry.counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count packets by colour"));
    }
    let (table, mut key) = table_entry_key(pipeline, entry.table_entry)?;
    if table.meter.is_none() {
        return Err(no_resource(table, "meter"));
    }
    key.meter_config = entry
        .config
        .map(|config| direct_meter_config(table, config))
        .transpose()?;
    Ok(Update::Modify(Entity::DirectMeter(key)))
}

/// What identifies the entry of a direct resource.
pub fn table_entry_key(pipeline: &Pipeline, entry: Option<v1::TableEntry>) -> Result<(&Table, TableEntry), Refusal> {
    let entry = entry.ok_or_else(|| Refusal::invalid("table_entry is not set"))?;
    let table = pipeline.tables.require(entry.table_id, "table")?;
    let mut decoded = TableEntry::default_entry(table.engine, None);
    if !entry.is_default_action {
        decoded.is_default = false;
        decoded.priority = entry.priority;
        decoded.key = key(table, entry.r#match, entry.priority)?;
    }
    Ok((table, decoded))
}

fn direct_counter_data(table: &Table, data: v1::CounterData) -> Result<CounterData, Refusal> {
    if table.has_counter {
        counter_data(data)
    } else {
        Err(no_resource(table, "counter"))
    }
}

fn direct_meter_config(table: &Table, config: v1::MeterConfig) -> Result<MeterConfig, Refusal> {
    meter_config(config, table.meter.ok_or_else(|| no_resource(table, "meter"))?)
}

fn no_resource(table: &Table, what: &str) -> Refusal {
    Refusal::invalid(format!("table {:?} has no direct {what}", table.name))
}

pub fn counter_data(data: v1::CounterData) -> Result<CounterData, Refusal> {
    let bytes = non_negative(data.byte_count, "byte_count")?;
    Ok(CounterData {
        packets: non_negative(data.packet_count, "packet_count")?,
        bytes,
    })
}

/// The rules of section "MeterEntry & DirectMeterEntry", and RFC 2698's: PIR is at least CIR.
pub fn meter_config(config: v1::MeterConfig, meter_type: MeterType) -> Result<MeterConfig, Refusal> {
    let decoded = MeterConfig {
        cir: non_negative(config.cir, "cir")?,
        cburst: non_negative(config.cburst, "cburst")?,
        pir: non_negative(config.pir, "pir")?,
        pburst: non_negative(config.pburst, "pburst")?,
    };
    let one_rate = decoded.cir == decoded.pir && decoded.cburst == decoded.pburst;
    match meter_type {
        MeterType::SingleRateThreeColor if config.eburst != 0 => {
            Err(Refusal::unimplemented("v1model's meters have no excess burst"))
        }
        _ if config.eburst != 0 => Err(Refusal::invalid("this meter has no excess burst: eburst must be unset")),
        MeterType::SingleRateThreeColor | MeterType::SingleRateTwoColor if !one_rate => Err(Refusal::invalid(
            "a single-rate meter needs pir equal to cir and pburst equal to cburst",
        )),
        _ if decoded.pir < decoded.cir => Err(Refusal::invalid("pir is below cir")),
        _ => Ok(decoded),
    }
}

/// A table's key: a match for each field, in the engine's order.
pub fn key(table: &Table, matches: Vec<v1::FieldMatch>, priority: i32) -> Result<Vec<FieldMatch>, Refusal> {
    if priority < 0 || table.needs_priority != (priority != 0) {
        let needed = if table.needs_priority { "greater than 0" } else { "0" };
        return Err(Refusal::invalid(format!(
            "entries of table {:?} have a priority of {needed}",
            table.name
        )));
    }
    fields(&table.name, &table.key, matches)
}

/// Matches for a list of fields: of a table's key or of a value set.
pub fn fields(owner: &str, fields: &[Field], matches: Vec<v1::FieldMatch>) -> Result<Vec<FieldMatch>, Refusal> {
    let mut decoded: Vec<Option<FieldMatch>> = fields.iter().map(|_| None).collect();
    for message in matches {
        let position = fields
            .iter()
            .position(|field| field.id == message.field_id)
            .ok_or_else(|| Refusal::invalid(format!("{owner} has no match field with id {}", message.field_id)))?;
        if decoded[position].is_some() {
            return Err(Refusal::invalid(format!(
                "{owner}.{} is given twice",
                fields[position].name
            )));
        }
        decoded[position] = Some(field_match(owner, &fields[position], message.field_match_type)?);
    }
    decoded
        .into_iter()
        .zip(fields)
        .map(|(given, field)| match given {
            Some(given) => Ok(given),
            None if field.kind == MatchKind::Exact => Err(Refusal::invalid(format!(
                "{owner}.{} is exact and cannot be left out",
                field.name
            ))),
            None => Ok(FieldMatch::Any),
        })
        .collect()
}

fn field_match(owner: &str, field: &Field, given: Option<FieldMatchType>) -> Result<FieldMatch, Refusal> {
    let wrong = |problem: &str| Refusal::invalid(format!("{owner}.{}: {problem}", field.name));
    match (field.kind, given) {
        (MatchKind::Exact, Some(FieldMatchType::Exact(exact))) => {
            Ok(FieldMatch::Exact(checked(owner, field, exact.value)?))
        }
        (MatchKind::Optional, Some(FieldMatchType::Optional(optional))) => {
            let value = checked(owner, field, optional.value)?;
            Ok(match field.optional_as_ternary {
                true => FieldMatch::Ternary {
                    value,
                    mask: ones(field.width),
                },
                false => FieldMatch::Exact(value),
            })
        }
        (MatchKind::Lpm, Some(FieldMatchType::Lpm(lpm))) => {
            let value = checked(owner, field, lpm.value)?;
            let prefix_len = match u32::try_from(lpm.prefix_len) {
                Ok(0) => return Err(wrong("a prefix of length 0 matches everything: leave the field out")),
                Ok(length) if length <= field.width => length,
                _ => return Err(wrong("the prefix is longer than the field")),
            };
            if trailing_zeros(&value) < field.width - prefix_len {
                return Err(wrong("bits beyond the prefix are set"));
            }
            Ok(FieldMatch::Lpm {
                value,
                prefix_len: prefix_len as usize,
            })
        }
        (MatchKind::Ternary, Some(FieldMatchType::Ternary(ternary))) => {
            let value = checked(owner, field, ternary.value)?;
            let mask = checked(owner, field, ternary.mask)?;
            if value::significant_bits(&mask) == 0 {
                return Err(wrong("a mask of zero matches everything: leave the field out"));
            }
            if !within(&value, &mask) {
                return Err(wrong("bits outside the mask are set"));
            }
            Ok(FieldMatch::Ternary { value, mask })
        }
        (MatchKind::Range, Some(FieldMatchType::Range(range))) => {
            let low = checked(owner, field, range.low)?;
            let high = checked(owner, field, range.high)?;
            let (from, to) = (value::canonical(&low), value::canonical(&high));
            if (from.len(), from) > (to.len(), to) {
                return Err(wrong("the range is empty"));
            }
            if value::significant_bits(&low) == 0 && all_ones(&high, field.width) {
                return Err(wrong("the range matches everything: leave the field out"));
            }
            Ok(FieldMatch::Range { low, high })
        }
        (_, None) => Err(wrong("no match is set")),
        (kind, Some(_)) => Err(wrong(&format!("the field is matched {kind:?}, another kind is given"))),
    }
}

/// Zero bits at the end; more than any width if the value is zero.
fn trailing_zeros(bytes: &[u8]) -> u32 {
    match bytes.iter().rev().position(|&octet| octet != 0) {
        Some(zeros) => zeros as u32 * 8 + bytes[bytes.len() - 1 - zeros].trailing_zeros(),
        None => u32::MAX,
    }
}

/// Whether every bit of a value is one of the mask.
fn within(bytes: &[u8], mask: &[u8]) -> bool {
    let padding = std::iter::repeat(&0);
    bytes
        .iter()
        .rev()
        .zip(mask.iter().rev().chain(padding))
        .all(|(octet, mask)| octet & !mask == 0)
}

/// A mask of ones.
fn ones(width: u32) -> Vec<u8> {
    p4runtime::Value::prefix_mask(width, width).into_bytes()
}

fn all_ones(bytes: &[u8], width: u32) -> bool {
    let ones: u32 = bytes.iter().map(|octet| octet.count_ones()).sum();
    ones == width
}

fn table_action(
    pipeline: &Pipeline,
    table: &Table,
    action: v1::TableAction,
    is_default: bool,
) -> Result<TableAction, Refusal> {
    use v1::table_action::Type;
    let profile = table.profile.and_then(|id| pipeline.profiles.get(id));
    let wrong = |what: &str| Refusal::invalid(format!("table {:?} does not take {what}", table.name));
    match (
        action.r#type.ok_or_else(|| Refusal::invalid("the action is empty"))?,
        profile,
    ) {
        (Type::Action(action), None) => Ok(TableAction::Call(call(
            &table.name,
            &table.actions,
            action,
            is_default,
        )?)),
        (Type::ActionProfileMemberId(member), Some(_)) => Ok(TableAction::Member(member)),
        (Type::ActionProfileGroupId(group), Some(profile)) if profile.with_selector => Ok(TableAction::Group(group)),
        (Type::ActionProfileActionSet(set), Some(profile)) if profile.with_selector => {
            Ok(TableAction::OneShot(one_shot(table, profile, set)?))
        }
        (Type::Action(_), Some(_)) => Err(wrong("an action: its action profile does")),
        (Type::ActionProfileMemberId(_), None) => Err(wrong("a member: it has no action profile")),
        (Type::ActionProfileGroupId(_), _) => Err(wrong("a group: it has no action selector")),
        (Type::ActionProfileActionSet(_), _) => Err(wrong("a set of actions: it has no action selector")),
    }
}

/// An action with its arguments, one for each parameter.
pub fn call(owner: &str, actions: &[Action], message: v1::Action, is_default: bool) -> Result<ActionCall, Refusal> {
    let action = actions
        .iter()
        .find(|action| action.id == message.action_id)
        .ok_or_else(|| Refusal::invalid(format!("{owner} has no action with id {:#010x}", message.action_id)))?;
    match action.scope {
        ActionScope::DefaultOnly if !is_default => {
            let problem = format!("action {:?} of {owner} is for the default entry only", action.name);
            return Err(Refusal::new(Code::PermissionDenied, problem));
        }
        ActionScope::TableOnly if is_default => {
            let problem = format!("action {:?} of {owner} is not for the default entry", action.name);
            return Err(Refusal::new(Code::PermissionDenied, problem));
        }
        _ => {}
    }
    let mut arguments: Vec<Option<Value>> = action.params.iter().map(|_| None).collect();
    for param in message.params {
        let position = action
            .params
            .iter()
            .position(|field| field.id == param.param_id)
            .ok_or_else(|| {
                Refusal::invalid(format!(
                    "action {:?} has no parameter with id {}",
                    action.name, param.param_id
                ))
            })?;
        let field = &action.params[position];
        if arguments[position].is_some() {
            return Err(Refusal::invalid(format!(
                "{}.{} is given twice",
                action.name, field.name
            )));
        }
        arguments[position] = Some(checked(&action.name, field, param.value)?);
    }
    let missing = |field: &Field| Refusal::invalid(format!("{}.{} has no value", action.name, field.name));
    let arguments = arguments
        .into_iter()
        .zip(&action.params)
        .map(|(argument, field)| argument.ok_or_else(|| missing(field)))
        .collect::<Result<_, _>>()?;
    Ok(ActionCall {
        action: action.engine,
        arguments,
    })
}

fn one_shot(table: &Table, profile: &Profile, set: v1::ActionProfileActionSet) -> Result<Vec<WeightedAction>, Refusal> {
    if set.group_action.is_some() {
        return Err(Refusal::unimplemented("an action before the group's is not supported"));
    }
    if set.action_selection_mode == v1::action_profile_action_set::ActionSelectionMode::Random as i32 {
        return Err(Refusal::unimplemented("v1model's action selectors choose by hash"));
    }
    #[expect(deprecated, reason = "clients older than 1.4 still send it")]
    let watched = |watch| match watch {
        Some(v1::action_profile_action::WatchKind::WatchPort(bytes)) if bytes.is_empty() => Ok(None),
        Some(v1::action_profile_action::WatchKind::WatchPort(bytes)) => port(&bytes).map(Some),
        Some(v1::action_profile_action::WatchKind::Watch(port)) => Ok(u32::try_from(port).ok().filter(|&p| p != 0)),
        None => Ok(None),
    };
    let actions = set
        .action_profile_actions
        .into_iter()
        .map(|message| {
            let action = message
                .action
                .ok_or_else(|| Refusal::invalid("an action of the set is empty"))?;
            Ok(WeightedAction {
                call: call(&table.name, &table.actions, action, false)?,
                weight: weight(profile, message.weight)?,
                watch_port: watched(message.watch_kind)?,
            })
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    check_group_size(
        profile,
        actions.iter().map(|action| action.weight),
        profile.max_group_size,
        Code::InvalidArgument,
    )?;
    Ok(actions)
}

/// A member's weight: 0 where weights are disallowed, and then the engine's 1; otherwise at least 1.
pub fn weight(profile: &Profile, weight: i32) -> Result<u32, Refusal> {
    let most = match profile.size_semantics {
        SizeSemantics::SumOfMembers { max_member_weight } if max_member_weight > 0 => max_member_weight,
        _ => u32::MAX,
    };
    match u32::try_from(weight) {
        Ok(0) if profile.weights_disallowed => Ok(1),
        Ok(1..) if profile.weights_disallowed => Err(Refusal::invalid(format!("{:?} takes no weights", profile.name))),
        Ok(weight) if weight > 0 && weight <= most => Ok(weight),
        _ => Err(Refusal::invalid(format!(
            "{weight} is not a weight for {:?}",
            profile.name
        ))),
    }
}

/// A group must not be larger than `most` (0: no limit), counted as the profile counts.
pub fn check_group_size(
    profile: &Profile,
    weights: impl Iterator<Item = u32>,
    most: u32,
    code: Code,
) -> Result<(), Refusal> {
    let size: u64 = match profile.size_semantics {
        SizeSemantics::SumOfWeights => weights.map(u64::from).sum(),
        SizeSemantics::SumOfMembers { .. } => weights.count() as u64,
    };
    if most > 0 && size > most.into() {
        let problem = format!(
            "a group of {:?} may have a size of {most}, this one has {size}",
            profile.name
        );
        return Err(Refusal::new(code, problem));
    }
    Ok(())
}
