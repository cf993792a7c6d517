//! Entities other than table entries, made from names, and the updates that carry entities.

use crate::api::p4::v1;
use crate::api::p4::v1::entity::Entity as Kind;
use crate::entry::{ActionCall, check_width};
use crate::error::EntryError;
use crate::p4info::{P4Info, Ref};
use crate::value::Value;

macro_rules! into_entity {
    ($($message:ident),*) => {$(
        impl From<v1::$message> for v1::Entity {
            fn from(message: v1::$message) -> v1::Entity {
                v1::Entity { entity: Some(Kind::$message(message)) }
            }
        }
    )*};
}
into_entity!(
    ExternEntry,
    TableEntry,
    ActionProfileMember,
    ActionProfileGroup,
    MeterEntry,
    DirectMeterEntry,
    CounterEntry,
    DirectCounterEntry,
    PacketReplicationEngineEntry,
    ValueSetEntry,
    RegisterEntry,
    DigestEntry
);

impl From<v1::MulticastGroupEntry> for v1::Entity {
    fn from(group: v1::MulticastGroupEntry) -> v1::Entity {
        use v1::packet_replication_engine_entry::Type;
        v1::PacketReplicationEngineEntry {
            r#type: Some(Type::MulticastGroupEntry(group)),
        }
        .into()
    }
}

impl From<v1::CloneSessionEntry> for v1::Entity {
    fn from(session: v1::CloneSessionEntry) -> v1::Entity {
        use v1::packet_replication_engine_entry::Type;
        v1::PacketReplicationEngineEntry {
            r#type: Some(Type::CloneSessionEntry(session)),
        }
        .into()
    }
}

/// An INSERT.
pub fn insert(entity: impl Into<v1::Entity>) -> v1::Update {
    v1::Update {
        r#type: v1::update::Type::Insert as i32,
        entity: Some(entity.into()),
    }
}

/// A MODIFY.
pub fn modify(entity: impl Into<v1::Entity>) -> v1::Update {
    v1::Update {
        r#type: v1::update::Type::Modify as i32,
        entity: Some(entity.into()),
    }
}

/// A DELETE.
pub fn delete(entity: impl Into<v1::Entity>) -> v1::Update {
    v1::Update {
        r#type: v1::update::Type::Delete as i32,
        entity: Some(entity.into()),
    }
}

/// Every entry of a table, or of all tables: for a read. With counters and time since the last hit, if `all_data`.
pub fn all_entries<'a>(
    info: &P4Info,
    table: Option<impl Into<Ref<'a>>>,
    all_data: bool,
) -> Result<v1::TableEntry, EntryError> {
    let table_id = match table {
        Some(table) => info.table(table)?.preamble.id,
        None => 0,
    };
    let mut entry = v1::TableEntry {
        table_id,
        ..Default::default()
    };
    if all_data {
        entry.counter_data = Some(v1::CounterData::default());
        entry.meter_config = Some(v1::MeterConfig::default());
        entry.time_since_last_hit = Some(v1::table_entry::IdleTimeout::default());
    }
    Ok(entry)
}

/// A cell of an indirect counter, or all its cells for a read.
pub fn counter<'a>(
    info: &P4Info,
    counter: impl Into<Ref<'a>>,
    index: Option<i64>,
    data: Option<v1::CounterData>,
) -> Result<v1::CounterEntry, EntryError> {
    let counter_id = info.counters.require(counter)?.preamble.id;
    Ok(v1::CounterEntry {
        counter_id,
        index: index.map(|index| v1::Index { index }),
        data,
    })
}

/// A cell of an indirect meter, or all its cells for a read. Written without rates it is green for ever.
pub fn meter<'a>(
    info: &P4Info,
    meter: impl Into<Ref<'a>>,
    index: Option<i64>,
    config: Option<v1::MeterConfig>,
) -> Result<v1::MeterEntry, EntryError> {
    let meter_id = info.meters.require(meter)?.preamble.id;
    Ok(v1::MeterEntry {
        meter_id,
        index: index.map(|index| v1::Index { index }),
        config,
        counter_data: None,
    })
}

/// A cell of a register of `bit<W>`, or all its cells for a read.
pub fn register<'a>(
    info: &P4Info,
    register: impl Into<Ref<'a>>,
    index: Option<i64>,
    value: Option<Value>,
) -> Result<v1::RegisterEntry, EntryError> {
    let register_id = info.registers.require(register)?.preamble.id;
    let data = value.map(|value| v1::P4Data {
        data: Some(v1::p4_data::Data::Bitstring(value.into_bytes())),
    });
    Ok(v1::RegisterEntry {
        register_id,
        index: index.map(|index| v1::Index { index }),
        data,
    })
}

/// A member of an action profile.
pub fn member<'a>(
    info: &P4Info,
    profile: impl Into<Ref<'a>>,
    member_id: u32,
    action: ActionCall<'_>,
) -> Result<v1::ActionProfileMember, EntryError> {
    let action_profile_id = info.action_profiles.require(profile)?.preamble.id;
    Ok(v1::ActionProfileMember {
        action_profile_id,
        member_id,
        action: Some(action.build()?),
    })
}

/// A group of an action selector: members and their weights.
pub fn group<'a>(
    info: &P4Info,
    profile: impl Into<Ref<'a>>,
    group_id: u32,
    members: impl IntoIterator<Item = (u32, i32)>,
) -> Result<v1::ActionProfileGroup, EntryError> {
    let action_profile_id = info.action_profiles.require(profile)?.preamble.id;
    let members = members
        .into_iter()
        .map(|(member_id, weight)| v1::action_profile_group::Member {
            member_id,
            weight,
            watch_kind: None,
        });
    Ok(v1::ActionProfileGroup {
        action_profile_id,
        group_id,
        members: members.collect(),
        max_size: 0,
    })
}

/// A multicast group: ports and instances.
pub fn multicast_group(
    multicast_group_id: u32,
    replicas: impl IntoIterator<Item = (u32, u32)>,
) -> v1::MulticastGroupEntry {
    let replicas = replicas.into_iter().map(replica).collect();
    v1::MulticastGroupEntry {
        multicast_group_id,
        replicas,
        metadata: Vec::new(),
    }
}

/// A clone session: ports and instances, and to how many octets clones are cut (0: not at all).
pub fn clone_session(
    session_id: u32,
    replicas: impl IntoIterator<Item = (u32, u32)>,
    packet_length_bytes: i32,
) -> v1::CloneSessionEntry {
    let replicas = replicas.into_iter().map(replica).collect();
    v1::CloneSessionEntry {
        session_id,
        replicas,
        class_of_service: 0,
        packet_length_bytes,
    }
}

fn replica((port, instance): (u32, u32)) -> v1::Replica {
    let port_kind = Some(v1::replica::PortKind::Port(Value::from(port).into_bytes()));
    v1::Replica {
        port_kind,
        instance,
        backup_replicas: Vec::new(),
    }
}

/// How a digest is gathered into lists and acknowledged.
pub fn digest<'a>(
    info: &P4Info,
    digest: impl Into<Ref<'a>>,
    config: Option<v1::digest_entry::Config>,
) -> Result<v1::DigestEntry, EntryError> {
    Ok(v1::DigestEntry {
        digest_id: info.digests.require(digest)?.preamble.id,
        config,
    })
}

/// The members of a parser value set whose fields are all exact: one value for each field.
pub fn value_set<'a>(
    info: &P4Info,
    set: impl Into<Ref<'a>>,
    members: impl IntoIterator<Item = Vec<Value>>,
) -> Result<v1::ValueSetEntry, EntryError> {
    let set = info.value_sets.require(set)?;
    let owner = &set.preamble.name;
    let member = |values: Vec<Value>| {
        if values.len() != set.match_fields.len() {
            let (owner, field) = (owner.clone(), "a member's fields".to_owned());
            return Err(EntryError::Times {
                owner,
                field,
                times: values.len(),
            });
        }
        let fields = set.match_fields.iter().zip(values).map(|(field, value)| {
            check_width(owner, &field.field.name, field.field.bitwidth, &value)?;
            let exact = v1::field_match::Exact {
                value: value.into_bytes(),
            };
            let field_match_type = Some(v1::field_match::FieldMatchType::Exact(exact));
            Ok(v1::FieldMatch {
                field_id: field.field.id,
                field_match_type,
            })
        });
        Ok(v1::ValueSetMember {
            r#match: fields.collect::<Result<_, EntryError>>()?,
        })
    };
    let members = members.into_iter().map(member).collect::<Result<_, EntryError>>()?;
    Ok(v1::ValueSetEntry {
        value_set_id: set.preamble.id,
        members,
    })
}

/// Metadata of packet-in (`packet_in`) or packet-out (`packet_out`) by name; every field needs a value.
pub fn packet_metadata(
    info: &P4Info,
    header: &str,
    values: &[(&str, Value)],
) -> Result<Vec<v1::PacketMetadata>, EntryError> {
    let header = info.controller_packet_metadata.require(header)?;
    let owner = &header.preamble.name;
    if let Some((unknown, _)) = values
        .iter()
        .find(|(name, _)| !header.metadata.iter().any(|f| f.name == *name))
    {
        return Err(EntryError::UnknownField {
            owner: owner.clone(),
            name: format!("{unknown:?}"),
        });
    }
    let value = |field: &crate::p4info::Field| {
        let mut given = values.iter().filter(|(name, _)| *name == field.name);
        let (Some((_, value)), None) = (given.next(), given.next()) else {
            let times = values.iter().filter(|(name, _)| *name == field.name).count();
            return Err(EntryError::Times {
                owner: owner.clone(),
                field: field.name.clone(),
                times,
            });
        };
        check_width(owner, &field.name, field.bitwidth, value)?;
        Ok(v1::PacketMetadata {
            metadata_id: field.id,
            value: value.as_bytes().to_vec(),
        })
    };
    header.metadata.iter().map(value).collect()
}
