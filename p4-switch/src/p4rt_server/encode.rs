//! From the engine's entities to messages. What the engine gives is canonical already; ids become P4Info's.
//!
//! An object that P4Info does not have (`@hidden` tables, what the compiler made for itself) has no message: `None`.

use p4runtime::p4info::MatchKind;
use p4runtime::v1;
use p4runtime::v1::field_match::FieldMatchType;
use p4runtime::v1::replica::PortKind;
use p4runtime::value::canonical;

use super::metadata;
use super::pipeline::{Action, Field, Note, Notes, Pipeline, Profile, Table};
use crate::control::{
    ActionCall, CounterData, Entity, FieldMatch, MeterConfig, Replica, TableAction, TableEntry, Value,
};

/// Which of an entry's data a read asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub counter: bool,
    pub meter: bool,
    pub time_since_last_hit: bool,
}

/// Any entity but a direct counter or meter, which are read as entries.
pub fn entity(pipeline: &Pipeline, entity: Entity, wanted: Wanted) -> Option<v1::Entity> {
    Some(match entity {
        Entity::TableEntry(entry) => table_entry(pipeline, entry, wanted)?.into(),
        Entity::DirectCounter(entry) => direct_counter(pipeline, entry)?.into(),
        Entity::DirectMeter(entry) => direct_meter(pipeline, entry)?.into(),
        Entity::ActionProfileMember(member) => {
            let profile = pipeline.profiles.of_engine(member.profile.0)?;
            let action = Some(call(&profile.actions, member.call)?);
            v1::ActionProfileMember {
                action_profile_id: profile.id,
                member_id: member.member,
                action,
            }
            .into()
        }
        Entity::ActionProfileGroup(group) => {
            let profile = pipeline.profiles.of_engine(group.profile.0)?;
            let members = group
                .members
                .into_iter()
                .map(|member| v1::action_profile_group::Member {
                    member_id: member.member,
                    weight: weight(profile, member.weight),
                    watch_kind: member
                        .watch_port
                        .map(|port| v1::action_profile_group::member::WatchKind::WatchPort(port_bytes(port))),
                });
            v1::ActionProfileGroup {
                action_profile_id: profile.id,
                group_id: group.group,
                members: members.collect(),
                max_size: group.max_size as i32,
            }
            .into()
        }
        Entity::Counter(cell) => {
            let counter_id = pipeline.counters.of_engine(cell.counter.0)?.id;
            v1::CounterEntry {
                counter_id,
                index: index(cell.index),
                data: Some(counter_data(cell.data)),
            }
            .into()
        }
        Entity::Meter(cell) => {
            let meter_id = pipeline.meters.of_engine(cell.meter.0)?.id;
            let config = cell.config.map(meter_config);
            v1::MeterEntry {
                meter_id,
                index: index(cell.index),
                config,
                counter_data: None,
            }
            .into()
        }
        Entity::Register(cell) => {
            let register_id = pipeline.registers.of_engine(cell.register.0)?.id;
            let data = Some(v1::P4Data {
                data: Some(v1::p4_data::Data::Bitstring(owned(cell.value))),
            });
            v1::RegisterEntry {
                register_id,
                index: index(cell.index),
                data,
            }
            .into()
        }
        Entity::MulticastGroup(group) => {
            let note = note(&pipeline.notes, true, group.group);
            v1::MulticastGroupEntry {
                multicast_group_id: group.group,
                replicas: replicas(group.replicas, note.numeric_ports),
                metadata: note.metadata,
            }
            .into()
        }
        Entity::CloneSession(session) => {
            let note = note(&pipeline.notes, false, session.session);
            v1::CloneSessionEntry {
                session_id: session.session,
                replicas: replicas(session.replicas, note.numeric_ports),
                class_of_service: session.class_of_service,
                packet_length_bytes: session.packet_length_bytes as i32,
            }
            .into()
        }
        Entity::ValueSet(entry) => {
            let set = pipeline.value_sets.of_engine(entry.value_set.0)?;
            let member = |fields| v1::ValueSetMember {
                r#match: matches(&set.key, fields),
            };
            let members = entry.members.into_iter().map(member).collect();
            v1::ValueSetEntry {
                value_set_id: set.id,
                members,
            }
            .into()
        }
        Entity::Digest(config) => {
            let digest_id = pipeline.digests.of_engine(config.digest.0)?.id;
            let config = v1::digest_entry::Config {
                max_timeout_ns: config.max_timeout.as_nanos() as i64,
                max_list_size: config.max_list_size as i32,
                ack_timeout_ns: config.ack_timeout.as_nanos() as i64,
            };
            v1::DigestEntry {
                digest_id,
                config: Some(config),
            }
            .into()
        }
    })
}

/// A table entry or default entry.
pub fn table_entry(pipeline: &Pipeline, entry: TableEntry, wanted: Wanted) -> Option<v1::TableEntry> {
    let table = pipeline.tables.of_engine(entry.table.0)?;
    let mut message = entry_key(table, entry.key, entry.priority, entry.is_default);
    let (cookie, metadata) = metadata::split(&entry.metadata);
    message.metadata = metadata;
    #[expect(deprecated, reason = "clients still use it")]
    {
        message.controller_metadata = cookie;
    }
    message.action = match entry.action {
        Some(action) => Some(v1::TableAction {
            r#type: Some(table_action(pipeline, table, action)?),
        }),
        None => None,
    };
    message.is_const = entry.is_const || (entry.is_default && table.const_default);
    message.idle_timeout_ns = entry.idle_timeout.as_nanos() as i64;
    message.meter_config = entry
        .meter_config
        .filter(|_| wanted.meter && table.meter.is_some())
        .map(meter_config);
    message.counter_data = entry
        .counter_data
        .filter(|_| wanted.counter && table.has_counter)
        .map(counter_data);
    if wanted.time_since_last_hit && table.idle_timeout && !entry.is_default {
        let elapsed_ns = entry.time_since_last_hit.unwrap_or_default().as_nanos() as i64;
        message.time_since_last_hit = Some(v1::table_entry::IdleTimeout { elapsed_ns });
    }
    Some(message)
}

/// The counter of an entry.
pub fn direct_counter(pipeline: &Pipeline, entry: TableEntry) -> Option<v1::DirectCounterEntry> {
    let table = pipeline
        .tables
        .of_engine(entry.table.0)
        .filter(|table| table.has_counter)?;
    let key = entry_key(table, entry.key, entry.priority, entry.is_default);
    let data = entry.counter_data.map(counter_data).unwrap_or_default();
    Some(v1::DirectCounterEntry {
        table_entry: Some(key),
        data: Some(data),
    })
}

/// The meter of an entry.
pub fn direct_meter(pipeline: &Pipeline, entry: TableEntry) -> Option<v1::DirectMeterEntry> {
    let table = pipeline
        .tables
        .of_engine(entry.table.0)
        .filter(|table| table.meter.is_some())?;
    let key = entry_key(table, entry.key, entry.priority, entry.is_default);
    let config = entry.meter_config.map(meter_config);
    Some(v1::DirectMeterEntry {
        table_entry: Some(key),
        config,
        counter_data: None,
    })
}

fn entry_key(table: &Table, key: Vec<FieldMatch>, priority: i32, is_default: bool) -> v1::TableEntry {
    let r#match = if is_default {
        Vec::new()
    } else {
        matches(&table.key, key)
    };
    v1::TableEntry {
        table_id: table.id,
        r#match,
        priority,
        is_default_action: is_default,
        ..Default::default()
    }
}

/// The fields that do not match everything, in P4Info's order of ids.
fn matches(fields: &[Field], key: Vec<FieldMatch>) -> Vec<v1::FieldMatch> {
    let mut messages: Vec<v1::FieldMatch> = fields
        .iter()
        .zip(key)
        .filter_map(|(field, given)| {
            let matched = match given {
                FieldMatch::Any => return None,
                FieldMatch::Exact(value) if field.kind == MatchKind::Optional => {
                    FieldMatchType::Optional(v1::field_match::Optional { value: owned(value) })
                }
                FieldMatch::Exact(value) => FieldMatchType::Exact(v1::field_match::Exact { value: owned(value) }),
                FieldMatch::Lpm { prefix_len: 0, .. } => return None,
                FieldMatch::Lpm { value, prefix_len } => FieldMatchType::Lpm(v1::field_match::Lpm {
                    value: owned(value),
                    prefix_len: prefix_len as i32,
                }),
                FieldMatch::Ternary { mask, .. } if canonical(&mask) == [0] => return None,
                // The engine has these as masks: optional fields, and the fields of value sets.
                FieldMatch::Ternary { value, .. } if field.kind == MatchKind::Optional => {
                    FieldMatchType::Optional(v1::field_match::Optional { value: owned(value) })
                }
                FieldMatch::Ternary { value, .. } if field.kind == MatchKind::Exact => {
                    FieldMatchType::Exact(v1::field_match::Exact { value: owned(value) })
                }
                FieldMatch::Ternary { value, mask } if field.kind == MatchKind::Lpm => {
                    let prefix_len = mask.iter().map(|octet| octet.count_ones()).sum::<u32>() as i32;
                    FieldMatchType::Lpm(v1::field_match::Lpm {
                        value: owned(value),
                        prefix_len,
                    })
                }
                FieldMatch::Ternary { value, mask } => FieldMatchType::Ternary(v1::field_match::Ternary {
                    value: owned(value),
                    mask: owned(mask),
                }),
                FieldMatch::Range { low, high } => FieldMatchType::Range(v1::field_match::Range {
                    low: owned(low),
                    high: owned(high),
                }),
            };
            Some(v1::FieldMatch {
                field_id: field.id,
                field_match_type: Some(matched),
            })
        })
        .collect();
    messages.sort_by_key(|field| field.field_id);
    messages
}

fn table_action(pipeline: &Pipeline, table: &Table, action: TableAction) -> Option<v1::table_action::Type> {
    use v1::table_action::Type;
    Some(match action {
        TableAction::Call(action) => Type::Action(call(&table.actions, action)?),
        TableAction::Member(member) => Type::ActionProfileMemberId(member),
        TableAction::Group(group) => Type::ActionProfileGroupId(group),
        TableAction::OneShot(set) => {
            let profile = pipeline.profiles.get(table.profile?)?;
            let actions = set.into_iter().map(|weighted| {
                let watch_kind = weighted
                    .watch_port
                    .map(|port| v1::action_profile_action::WatchKind::WatchPort(port_bytes(port)));
                let action = Some(call(&table.actions, weighted.call)?);
                Some(v1::ActionProfileAction {
                    action,
                    weight: weight(profile, weighted.weight),
                    watch_kind,
                })
            });
            let action_profile_actions = actions.collect::<Option<_>>()?;
            Type::ActionProfileActionSet(v1::ActionProfileActionSet {
                action_profile_actions,
                ..Default::default()
            })
        }
    })
}

fn call(actions: &[Action], call: ActionCall) -> Option<v1::Action> {
    let action = actions.iter().find(|action| action.engine == call.action)?;
    let mut params: Vec<v1::action::Param> = action
        .params
        .iter()
        .zip(call.arguments)
        .map(|(field, value)| v1::action::Param {
            param_id: field.id,
            value: owned(value),
        })
        .collect();
    params.sort_by_key(|param| param.param_id);
    Some(v1::Action {
        action_id: action.id,
        params,
    })
}

fn weight(profile: &Profile, weight: u32) -> i32 {
    if profile.weights_disallowed { 0 } else { weight as i32 }
}

fn note(notes: &Notes, is_group: bool, id: u32) -> Note {
    let of = if is_group { &notes.groups } else { &notes.sessions };
    of.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .get(&id)
        .cloned()
        .unwrap_or_default()
}

fn replicas(replicas: Vec<Replica>, numeric_ports: bool) -> Vec<v1::Replica> {
    let replica = |replica: Replica| {
        #[expect(deprecated, reason = "answered to clients that wrote it")]
        let port_kind = if numeric_ports {
            PortKind::EgressPort(replica.port)
        } else {
            PortKind::Port(port_bytes(replica.port))
        };
        v1::Replica {
            port_kind: Some(port_kind),
            instance: replica.instance.into(),
            backup_replicas: Vec::new(),
        }
    };
    replicas.into_iter().map(replica).collect()
}

fn index(index: Option<u64>) -> Option<v1::Index> {
    index.map(|index| v1::Index { index: index as i64 })
}

fn counter_data(data: CounterData) -> v1::CounterData {
    v1::CounterData {
        byte_count: data.bytes as i64,
        packet_count: data.packets as i64,
    }
}

fn meter_config(config: MeterConfig) -> v1::MeterConfig {
    v1::MeterConfig {
        cir: config.cir as i64,
        cburst: config.cburst as i64,
        pir: config.pir as i64,
        pburst: config.pburst as i64,
        eburst: 0,
    }
}

fn port_bytes(port: u32) -> Vec<u8> {
    canonical(&port.to_be_bytes()).to_vec()
}

/// The value itself if it is canonical, as it should be.
fn owned(value: Value) -> Vec<u8> {
    let short = canonical(&value);
    if short.len() == value.len() {
        value
    } else {
        short.to_vec()
    }
}
