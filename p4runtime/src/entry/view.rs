//! An entry that was read, by name.

use crate::api::p4::v1;
use crate::api::p4::v1::field_match::FieldMatchType;
use crate::error::{EntryError, P4InfoError};
use crate::p4info::{P4Info, Ref, Table};
use crate::value::Value;
use std::fmt;

/// How one field of an entry matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Exact or optional.
    Value(Value),
    /// Value and prefix length.
    Prefix(Value, u32),
    /// Value and mask.
    Masked(Value, Value),
    /// Low and high.
    Range(Value, Value),
}

/// An action and its arguments, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionView {
    /// Name of the action.
    pub name: String,
    /// Names and values, in the order of the message.
    pub params: Vec<(String, Value)>,
}

/// An entry that was read, by name. `Display` gives one line for people.
#[derive(Clone, Debug)]
pub struct EntryView<'i> {
    /// The table.
    pub table: &'i Table,
    /// Names of fields and how they match; fields that match anything are left out.
    pub matches: Vec<(String, Matched)>,
    /// Priority; 0 without.
    pub priority: i32,
    /// The action, unless the entry refers to a member, group or set.
    pub action: Option<ActionView>,
}

impl<'i> EntryView<'i> {
    /// Resolve the ids of an entry.
    pub fn new(info: &'i P4Info, entry: &v1::TableEntry) -> Result<EntryView<'i>, EntryError> {
        let table = info.table(entry.table_id)?;
        let matches = entry
            .r#match
            .iter()
            .map(|field| matched(table, field))
            .collect::<Result<_, _>>()?;
        let action = match entry.action.as_ref().and_then(|action| action.r#type.as_ref()) {
            Some(v1::table_action::Type::Action(action)) => Some(ActionView::new(info, action)?),
            _ => None,
        };
        Ok(EntryView {
            table,
            matches,
            priority: entry.priority,
            action,
        })
    }

    /// How a field matches.
    pub fn field(&self, name: &str) -> Option<&Matched> {
        self.matches
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, matched)| matched)
    }

    /// The value of an exact or optional field, as a number.
    pub fn number(&self, name: &str) -> Option<u128> {
        match self.field(name)? {
            Matched::Value(value) => value.to_u128(),
            _ => None,
        }
    }

    /// An argument of the action, as a number.
    pub fn param(&self, name: &str) -> Option<u128> {
        let (_, value) = self.action.as_ref()?.params.iter().find(|(param, _)| param == name)?;
        value.to_u128()
    }
}

impl ActionView {
    /// Resolve the ids of an action call.
    pub fn new(info: &P4Info, message: &v1::Action) -> Result<ActionView, EntryError> {
        let action = info.action(message.action_id)?;
        let param = |param: &v1::action::Param| {
            let field = action.param(param.param_id).ok_or_else(|| EntryError::UnknownField {
                owner: action.preamble.name.clone(),
                name: Ref::Id(param.param_id).to_string(),
            })?;
            Ok((field.name.clone(), Value::from_be_bytes(&param.value)))
        };
        let params = message.params.iter().map(param).collect::<Result<_, EntryError>>()?;
        Ok(ActionView {
            name: action.preamble.name.clone(),
            params,
        })
    }
}

fn matched(table: &Table, message: &v1::FieldMatch) -> Result<(String, Matched), EntryError> {
    let key = Ref::Id(message.field_id);
    let field = table
        .match_field(message.field_id)
        .ok_or_else(|| EntryError::UnknownField {
            owner: table.preamble.name.clone(),
            name: key.to_string(),
        })?;
    let value = |bytes: &[u8]| Value::from_be_bytes(bytes);
    let matched = match message.field_match_type.as_ref() {
        Some(FieldMatchType::Exact(exact)) => Matched::Value(value(&exact.value)),
        Some(FieldMatchType::Optional(optional)) => Matched::Value(value(&optional.value)),
        Some(FieldMatchType::Lpm(lpm)) => Matched::Prefix(value(&lpm.value), lpm.prefix_len.max(0) as u32),
        Some(FieldMatchType::Ternary(ternary)) => Matched::Masked(value(&ternary.value), value(&ternary.mask)),
        Some(FieldMatchType::Range(range)) => Matched::Range(value(&range.low), value(&range.high)),
        Some(FieldMatchType::Other(_)) | None => {
            return Err(P4InfoError::MatchKind {
                owner: table.preamble.name.clone(),
                field: field.field.name.clone(),
            }
            .into());
        }
    };
    Ok((field.field.name.clone(), matched))
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matched::Value(value) => write!(f, "{value}"),
            Matched::Prefix(value, length) => write!(f, "{value}/{length}"),
            Matched::Masked(value, mask) => write!(f, "{value}&{mask}"),
            Matched::Range(low, high) => write!(f, "{low}..{high}"),
        }
    }
}

impl fmt::Display for ActionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (position, (name, value)) in self.params.iter().enumerate() {
            write!(f, "{}{name}={value}", if position > 0 { ", " } else { "" })?;
        }
        write!(f, ")")
    }
}

impl fmt::Display for EntryView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table.preamble.name)?;
        for (name, matched) in &self.matches {
            write!(f, " {name}={matched}")?;
        }
        if self.priority != 0 {
            write!(f, " priority={}", self.priority)?;
        }
        match &self.action {
            Some(action) => write!(f, " -> {action}"),
            None => Ok(()),
        }
    }
}
