//! From messages to the engine's updates: every check of the specification that needs P4Info, then the engine's ids.
//!
//! One P4Runtime update becomes none, one or two of the engine's: a MODIFY that leaves `meter_config` unset resets the
//! meter (specification, "Direct Resources"), which is a second one, and one that changes nothing is none.

mod entry;
mod externs;

pub use entry::fields;

use p4runtime::v1;
use p4runtime::v1::entity::Entity as Kind;
use p4runtime::v1::update::Type;
use p4runtime::value;
use tonic::Code;

use super::pipeline::{Field, Pipeline};
use super::refusal::Refusal;
use crate::control::{Entity, Update, Value};

/// What kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Insert,
    Modify,
    Delete,
}

impl Change {
    fn of(self, entity: Entity) -> Update {
        match self {
            Change::Insert => Update::Insert(entity),
            Change::Modify => Update::Modify(entity),
            Change::Delete => Update::Delete(entity),
        }
    }

    /// For what is always there.
    fn modify_only(self, kind: &str) -> Result<(), Refusal> {
        match self {
            Change::Modify => Ok(()),
            _ => Err(Refusal::invalid(format!("{kind} can only be modified"))),
        }
    }
}

/// Decode one update; the engine's updates are appended to `updates`, all or none.
pub fn update(pipeline: &Pipeline, message: v1::Update, updates: &mut Vec<Update>) -> Result<(), Refusal> {
    let change =
        change(&message).ok_or_else(|| Refusal::invalid("the update's type is none of INSERT, MODIFY and DELETE"))?;
    let kind = message.entity.and_then(|entity| entity.entity);
    match kind.ok_or_else(|| Refusal::invalid("the update has no entity"))? {
        Kind::TableEntry(entry) => entry::table_entry(pipeline, change, entry, updates)?,
        Kind::DirectCounterEntry(entry) => updates.extend(entry::direct_counter(pipeline, change, entry)?),
        Kind::DirectMeterEntry(entry) => updates.push(entry::direct_meter(pipeline, change, entry)?),
        Kind::ActionProfileMember(member) => updates.push(externs::member(pipeline, change, member)?),
        Kind::ActionProfileGroup(group) => updates.push(externs::group(pipeline, change, group)?),
        Kind::CounterEntry(entry) => updates.extend(externs::counter(pipeline, change, entry)?),
        Kind::MeterEntry(entry) => updates.push(externs::meter(pipeline, change, entry)?),
        Kind::RegisterEntry(entry) => updates.push(externs::register(pipeline, change, entry)?),
        Kind::DigestEntry(entry) => updates.push(externs::digest(pipeline, change, entry)?),
        Kind::ValueSetEntry(entry) => updates.push(externs::value_set(pipeline, change, entry)?),
        Kind::PacketReplicationEngineEntry(entry) => updates.push(externs::replication(change, entry)?),
        Kind::ExternEntry(_) => return Err(Refusal::unimplemented("v1model has no externs of its own")),
    }
    Ok(())
}

/// A value of a field, checked. It stays as it came: the engine takes padded values.
fn checked(owner: &str, field: &Field, bytes: Value) -> Result<Value, Refusal> {
    check_width(owner, &field.name, field.width, &bytes, Code::InvalidArgument)?;
    Ok(bytes)
}

fn check_width(owner: &str, name: &str, width: u32, bytes: &[u8], code: Code) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::new(code, format!("{owner}.{name} is an empty byte string")));
    }
    if value::significant_bits(bytes) > width {
        let shown = value::canonical(bytes);
        return Err(Refusal::new(
            code,
            format!("{owner}.{name} has {width} bits, {shown:02x?} does not fit"),
        ));
    }
    Ok(())
}

/// A port in a byte string; the engine's ports are 32-bit numbers.
fn port(bytes: &[u8]) -> Result<u32, Refusal> {
    let number = value::to_u128(bytes)
        .filter(|_| !bytes.is_empty())
        .and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Refusal::invalid(format!("{bytes:02x?} is not a port")))
}

fn non_negative(number: i64, what: &str) -> Result<u64, Refusal> {
    u64::try_from(number).map_err(|_| Refusal::invalid(format!("{what} is {number}, which is negative")))
}

fn index(index: Option<v1::Index>) -> Result<Option<u64>, Refusal> {
    index.map(|index| non_negative(index.index, "the index")).transpose()
}

/// The index of a read: of one array only.
pub fn cell_index(id: u32, cell: Option<v1::Index>) -> Result<Option<u64>, Refusal> {
    if id == 0 { Ok(None) } else { index(cell) }
}

/// The kind of change of a message, if it has one.
pub fn change(message: &v1::Update) -> Option<Change> {
    match Type::try_from(message.r#type) {
        Ok(Type::Insert) => Some(Change::Insert),
        Ok(Type::Modify) => Some(Change::Modify),
        Ok(Type::Delete) => Some(Change::Delete),
        _ => None,
    }
}
