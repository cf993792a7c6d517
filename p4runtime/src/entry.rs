//! Typed builders of table entries, and what an entry that was read says by name.
//!
//! A builder resolves names through [`P4Info`], checks widths, kinds, actions and priorities as the specification
//! asks of clients, and makes canonical byte strings; a match that matches everything is left out, as the
//! specification wants it. It keeps the first error until [`TableEntry::build`], so that a chain of calls reads like
//! the entry itself. [`EntryView`] is the way back.

mod view;

pub use view::{ActionView, EntryView, Matched};

use crate::api::p4::v1;
use crate::entity;
use crate::error::EntryError;
use crate::p4info::{Action, ActionScope, MatchField, MatchKind, P4Info, Ref, Table};
use crate::value::Value;
use std::time::Duration;

/// An action and its arguments under construction.
#[derive(Debug)]
pub struct ActionCall<'i> {
    action: Result<&'i Action, EntryError>,
    params: Vec<v1::action::Param>,
}

impl<'i> ActionCall<'i> {
    /// A call of an action by name, alias or id.
    pub fn new<'a>(info: &'i P4Info, action: impl Into<Ref<'a>>) -> Self {
        ActionCall {
            action: info.action(action).map_err(EntryError::from),
            params: Vec::new(),
        }
    }

    /// Give a parameter, by name or id, its value.
    pub fn param<'a>(mut self, param: impl Into<Ref<'a>>, value: impl Into<Value>) -> Self {
        self.push(param.into(), value.into());
        self
    }

    fn push(&mut self, param: Ref<'_>, value: Value) {
        if let Ok(action) = self.action {
            match argument(action, param, value) {
                Ok(param) => self.params.push(param),
                Err(error) => self.action = Err(error),
            }
        }
    }

    /// The message, if every parameter has one value.
    pub fn build(mut self) -> Result<v1::Action, EntryError> {
        let action = self.action?;
        for param in &action.params {
            let times = self.params.iter().filter(|given| given.param_id == param.id).count();
            if times != 1 {
                let (owner, field) = (action.preamble.name.clone(), param.name.clone());
                return Err(EntryError::Times { owner, field, times });
            }
        }
        self.params.sort_by_key(|param| param.param_id);
        Ok(v1::Action {
            action_id: action.preamble.id,
            params: self.params,
        })
    }
}

fn argument(action: &Action, param: Ref<'_>, value: Value) -> Result<v1::action::Param, EntryError> {
    let owner = || action.preamble.name.clone();
    let field = action.param(param).ok_or_else(|| EntryError::UnknownField {
        owner: owner(),
        name: param.to_string(),
    })?;
    check_width(&action.preamble.name, &field.name, field.bitwidth, &value)?;
    Ok(v1::action::Param {
        param_id: field.id,
        value: value.into_bytes(),
    })
}

/// A bitwidth of 0 marks a translated string, which has no width to check.
pub(crate) fn check_width(owner: &str, field: &str, width: u32, value: &Value) -> Result<(), EntryError> {
    if width == 0 || value.fits(width) {
        return Ok(());
    }
    let (owner, field, value) = (owner.to_owned(), field.to_owned(), value.to_string());
    Err(EntryError::TooWide {
        owner,
        field,
        width,
        value,
    })
}

/// What an entry does: nothing yet, one action, a member or group, or a set of weighted actions.
#[derive(Debug)]
enum Does<'i> {
    Nothing,
    Action(ActionCall<'i>),
    Indirect(v1::table_action::Type),
    OneShot(Vec<Weighted<'i>>),
}

#[derive(Debug)]
struct Weighted<'i> {
    call: ActionCall<'i>,
    weight: i32,
    watch_port: Option<Value>,
}

/// A table entry under construction.
#[derive(Debug)]
pub struct TableEntry<'i> {
    info: &'i P4Info,
    table: Result<&'i Table, EntryError>,
    entry: v1::TableEntry,
    does: Does<'i>,
}

impl<'i> TableEntry<'i> {
    /// An entry of a table by name, alias or id.
    pub fn new<'a>(info: &'i P4Info, table: impl Into<Ref<'a>>) -> Self {
        let table = info.table(table).map_err(EntryError::from);
        let table_id = table.as_ref().map(|table| table.preamble.id).unwrap_or_default();
        TableEntry {
            info,
            table,
            entry: v1::TableEntry {
                table_id,
                ..Default::default()
            },
            does: Does::Nothing,
        }
    }

    /// The default action of a table. It can only be modified.
    pub fn default_of<'a>(info: &'i P4Info, table: impl Into<Ref<'a>>) -> Self {
        let mut entry = TableEntry::new(info, table);
        entry.entry.is_default_action = true;
        entry
    }

    /// Match one value.
    pub fn match_exact<'a>(self, field: impl Into<Ref<'a>>, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.matching(field.into(), &[MatchKind::Exact], "exact", |field, owner| {
            check_width(owner, &field.field.name, field.field.bitwidth, &value)?;
            let value = value.into_bytes();
            Ok(Some(v1::field_match::FieldMatchType::Exact(v1::field_match::Exact {
                value,
            })))
        })
    }

    /// Match the first `prefix_len` bits of a value; the others are cleared.
    pub fn match_lpm<'a>(self, field: impl Into<Ref<'a>>, value: impl Into<Value>, prefix_len: u32) -> Self {
        let value = value.into();
        self.matching(field.into(), &[MatchKind::Lpm], "lpm", |field, owner| {
            let (name, width) = (&field.field.name, field.field.bitwidth);
            check_width(owner, name, width, &value)?;
            if prefix_len > width {
                let problem = format!("prefix of {prefix_len} bits, the field has {width}");
                return Err(EntryError::Match {
                    owner: owner.into(),
                    field: name.clone(),
                    problem,
                });
            }
            let value = value.and(&Value::prefix_mask(prefix_len, width)).into_bytes();
            let lpm = v1::field_match::Lpm {
                value,
                prefix_len: prefix_len as i32,
            };
            Ok((prefix_len > 0).then_some(v1::field_match::FieldMatchType::Lpm(lpm)))
        })
    }

    /// Match the bits of a value under a mask; the others are cleared.
    pub fn match_ternary<'a>(self, field: impl Into<Ref<'a>>, value: impl Into<Value>, mask: impl Into<Value>) -> Self {
        let (value, mask) = (value.into(), mask.into());
        self.matching(field.into(), &[MatchKind::Ternary], "ternary", |field, owner| {
            check_width(owner, &field.field.name, field.field.bitwidth, &value)?;
            check_width(owner, &field.field.name, field.field.bitwidth, &mask)?;
            let value = value.and(&mask).into_bytes();
            let any = mask == Value::from(0u8);
            let ternary = v1::field_match::Ternary {
                value,
                mask: mask.into_bytes(),
            };
            Ok((!any).then_some(v1::field_match::FieldMatchType::Ternary(ternary)))
        })
    }

    /// Match the numbers from `low` to `high`, both included.
    pub fn match_range<'a>(self, field: impl Into<Ref<'a>>, low: impl Into<Value>, high: impl Into<Value>) -> Self {
        let (low, high) = (low.into(), high.into());
        self.matching(field.into(), &[MatchKind::Range], "range", |field, owner| {
            let (name, width) = (&field.field.name, field.field.bitwidth);
            check_width(owner, name, width, &low)?;
            check_width(owner, name, width, &high)?;
            if low.padded(width) > high.padded(width) {
                let problem = format!("the range from {low} to {high} is empty");
                return Err(EntryError::Match {
                    owner: owner.into(),
                    field: name.clone(),
                    problem,
                });
            }
            let all = low == Value::from(0u8) && high == Value::prefix_mask(width, width);
            let range = v1::field_match::Range {
                low: low.into_bytes(),
                high: high.into_bytes(),
            };
            Ok((!all).then_some(v1::field_match::FieldMatchType::Range(range)))
        })
    }

    /// Match one value of an optional field. To match any, do not mention the field.
    pub fn match_optional<'a>(self, field: impl Into<Ref<'a>>, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.matching(field.into(), &[MatchKind::Optional], "optional", |field, owner| {
            check_width(owner, &field.field.name, field.field.bitwidth, &value)?;
            let value = value.into_bytes();
            Ok(Some(v1::field_match::FieldMatchType::Optional(
                v1::field_match::Optional { value },
            )))
        })
    }

    fn matching(
        mut self,
        key: Ref<'_>,
        kinds: &[MatchKind],
        given: &'static str,
        make: impl FnOnce(&MatchField, &str) -> Result<Option<v1::field_match::FieldMatchType>, EntryError>,
    ) -> Self {
        let Ok(table) = self.table else { return self };
        let owner = &table.preamble.name;
        let made = match table.match_field(key) {
            None => Err(EntryError::UnknownField {
                owner: owner.clone(),
                name: key.to_string(),
            }),
            Some(field) if !kinds.contains(&field.kind) => Err(EntryError::WrongKind {
                owner: owner.clone(),
                field: field.field.name.clone(),
                expected: field.kind,
                found: given,
            }),
            Some(field) => make(field, owner).map(|made| (field.field.id, made)),
        };
        match made {
            Ok((_, None)) => {}
            Ok((field_id, field_match_type)) => self.entry.r#match.push(v1::FieldMatch {
                field_id,
                field_match_type,
            }),
            Err(error) => self.table = Err(error),
        }
        self
    }

    /// Priority; higher wins. Needed exactly if the key has a ternary, range or optional field.
    pub fn priority(mut self, priority: i32) -> Self {
        self.entry.priority = priority;
        self
    }

    /// What the entry does: an action by name, alias or id. After [`TableEntry::one_shot`]: one more action of the set.
    pub fn action<'a>(mut self, action: impl Into<Ref<'a>>) -> Self {
        let call = ActionCall::new(self.info, action);
        match &mut self.does {
            Does::OneShot(set) => set.push(Weighted {
                call,
                weight: 1,
                watch_port: None,
            }),
            does => *does = Does::Action(call),
        }
        self
    }

    /// Give a parameter of the action named last its value.
    pub fn param<'a>(mut self, param: impl Into<Ref<'a>>, value: impl Into<Value>) -> Self {
        let call = match &mut self.does {
            Does::Action(call) => Some(call),
            Does::OneShot(set) => set.last_mut().map(|weighted| &mut weighted.call),
            _ => None,
        };
        match (call, &self.table) {
            (Some(call), _) => call.push(param.into(), value.into()),
            (None, Ok(table)) => {
                self.table = Err(EntryError::NoAction {
                    table: table.preamble.name.clone(),
                })
            }
            (None, Err(_)) => {}
        }
        self
    }

    /// The actions named from here on are a one-shot set for the table's action selector.
    pub fn one_shot(mut self) -> Self {
        self.does = Does::OneShot(Vec::new());
        self
    }

    /// Weight of the action named last in a one-shot set; 1 if this is not called.
    pub fn weight(mut self, weight: i32) -> Self {
        if let Does::OneShot(set) = &mut self.does
            && let Some(last) = set.last_mut()
        {
            last.weight = weight;
        }
        self
    }

    /// Port that the action named last in a one-shot set depends on: it is not chosen while the port is down.
    pub fn watch_port(mut self, port: impl Into<Value>) -> Self {
        if let Does::OneShot(set) = &mut self.does
            && let Some(last) = set.last_mut()
        {
            last.watch_port = Some(port.into());
        }
        self
    }

    /// The entry does what a member of the table's action profile says.
    pub fn member(mut self, member_id: u32) -> Self {
        self.does = Does::Indirect(v1::table_action::Type::ActionProfileMemberId(member_id));
        self
    }

    /// The entry does what one of a group's members says.
    pub fn group(mut self, group_id: u32) -> Self {
        self.does = Does::Indirect(v1::table_action::Type::ActionProfileGroupId(group_id));
        self
    }

    /// Have the target notify when nothing matched for this long. Zero: never.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.entry.idle_timeout_ns = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        self
    }

    /// Octets of the controller's own that the target keeps with the entry.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.entry.metadata = metadata.into();
        self
    }

    /// Rates of the entry's direct meter. Without them it is green for ever.
    pub fn meter(mut self, config: v1::MeterConfig) -> Self {
        self.entry.meter_config = Some(config);
        self
    }

    /// Start value of the entry's direct counter. In a read: ask for the counter.
    pub fn counter(mut self, data: v1::CounterData) -> Self {
        self.entry.counter_data = Some(data);
        self
    }

    /// The whole entry, as INSERT and MODIFY need it.
    pub fn build(self) -> Result<v1::TableEntry, EntryError> {
        let table = match &self.table {
            Ok(table) => *table,
            Err(_) => return self.key(),
        };
        let action = match self.does {
            // MODIFY of a default action without an action resets it to the program's.
            Does::Nothing if self.entry.is_default_action => None,
            Does::Nothing => {
                return Err(EntryError::NoAction {
                    table: table.preamble.name.clone(),
                });
            }
            _ => Some(()),
        };
        let is_default = self.entry.is_default_action;
        let (mut entry, does) = self.checked_key()?;
        if action.is_some() {
            entry.action = Some(v1::TableAction {
                r#type: Some(does.build(table, is_default)?),
            });
        }
        for (set, has, what) in [
            (
                entry.meter_config.is_some(),
                table.direct_meter.is_some(),
                "direct meter",
            ),
            (
                entry.counter_data.is_some(),
                table.direct_counter.is_some(),
                "direct counter",
            ),
            (entry.idle_timeout_ns != 0, table.idle_timeout, "idle timeout"),
        ] {
            if set && !has {
                return Err(EntryError::NoResource {
                    table: table.preamble.name.clone(),
                    what,
                });
            }
        }
        Ok(entry)
    }

    /// Table, match and priority only, as DELETE and reads of one entry need it.
    pub fn key(self) -> Result<v1::TableEntry, EntryError> {
        self.checked_key().map(|(entry, _)| entry)
    }

    fn checked_key(self) -> Result<(v1::TableEntry, Does<'i>), EntryError> {
        let (table, mut entry) = (self.table?, self.entry);
        let name = &table.preamble.name;
        let needed = table.needs_priority() && !entry.is_default_action;
        if needed != (entry.priority > 0) || entry.priority < 0 {
            return Err(EntryError::Priority {
                table: name.clone(),
                needed,
            });
        }
        for field in &table.match_fields {
            let times = entry
                .r#match
                .iter()
                .filter(|given| given.field_id == field.field.id)
                .count();
            let missing = times == 0 && field.kind == MatchKind::Exact && !entry.is_default_action;
            if times > 1 || missing || (times > 0 && entry.is_default_action) {
                return Err(EntryError::Times {
                    owner: name.clone(),
                    field: field.field.name.clone(),
                    times,
                });
            }
        }
        entry.r#match.sort_by_key(|field| field.field_id);
        Ok((entry, self.does))
    }

    /// An update that inserts the entry.
    pub fn insert(self) -> Result<v1::Update, EntryError> {
        Ok(entity::insert(self.build()?))
    }

    /// An update that modifies the entry.
    pub fn modify(self) -> Result<v1::Update, EntryError> {
        Ok(entity::modify(self.build()?))
    }

    /// An update that deletes the entry.
    pub fn delete(self) -> Result<v1::Update, EntryError> {
        Ok(entity::delete(self.key()?))
    }
}

impl Does<'_> {
    fn build(self, table: &Table, is_default: bool) -> Result<v1::table_action::Type, EntryError> {
        use v1::table_action::Type;
        Ok(match self {
            Does::Nothing => {
                return Err(EntryError::NoAction {
                    table: table.preamble.name.clone(),
                });
            }
            Does::Action(call) => Type::Action(allowed(call, table, is_default)?),
            Does::Indirect(reference) if table.implementation.is_some() => reference,
            Does::Indirect(_) => return Err(no_profile(table)),
            Does::OneShot(_) if table.implementation.is_none() => return Err(no_profile(table)),
            Does::OneShot(set) => {
                let action = |weighted: Weighted<'_>| {
                    let watch_kind = weighted
                        .watch_port
                        .map(|port| v1::action_profile_action::WatchKind::WatchPort(port.into_bytes()));
                    let action = Some(allowed(weighted.call, table, false)?);
                    Ok(v1::ActionProfileAction {
                        action,
                        weight: weighted.weight,
                        watch_kind,
                    })
                };
                let action_profile_actions = set.into_iter().map(action).collect::<Result<_, EntryError>>()?;
                Type::ActionProfileActionSet(v1::ActionProfileActionSet {
                    action_profile_actions,
                    ..Default::default()
                })
            }
        })
    }
}

fn no_profile(table: &Table) -> EntryError {
    EntryError::NoResource {
        table: table.preamble.name.clone(),
        what: "action profile",
    }
}

fn allowed(call: ActionCall<'_>, table: &Table, is_default: bool) -> Result<v1::Action, EntryError> {
    let action = match &call.action {
        Ok(action) => *action,
        Err(_) => return call.build(),
    };
    let here = match table.scope_of(action.preamble.id) {
        Some(ActionScope::TableAndDefault) => true,
        Some(ActionScope::TableOnly) => !is_default,
        Some(ActionScope::DefaultOnly) => is_default,
        None => false,
    };
    if !here {
        let (table, action) = (table.preamble.name.clone(), action.preamble.name.clone());
        return Err(EntryError::ActionNotAllowed { table, action });
    }
    call.build()
}
