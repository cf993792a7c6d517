//! What a read asks for: one entity of a ReadRequest as a query of the engine and a filter over what it gives.
//!
//! Fields that are left at their default are wildcards, as the specification says for each entity (sections "Wildcard
//! Reads"). A table entry may also be filtered by its action, priority, cookie and metadata; all filters apply at once.

use p4runtime::v1;
use p4runtime::v1::entity::Entity as Kind;
use p4runtime::v1::packet_replication_engine_entry::Type as Replication;
use tonic::Code;

use super::decode;
use super::encode::{self, Wanted};
use super::metadata;
use super::pipeline::{Pipeline, Table};
use super::refusal::Refusal;
use crate::Switch;
use crate::control::{Entity, FieldMatch, Query, TableEntry};

/// As what table entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Entry,
    Counter,
    Meter,
}

/// One read, understood.
#[derive(Debug)]
pub struct Read {
    query: Query,
    shape: As,
    wanted: Wanted,
    /// Nothing found is an error: a direct counter or meter of an entry that is not there.
    must_exist: bool,
    priority: i32,
    action: Option<u32>,
    cookie: u64,
    metadata: Vec<u8>,
    key: Option<Vec<FieldMatch>>,
}

impl Read {
    fn of(query: Query) -> Read {
        Read {
            query,
            shape: As::Entry,
            wanted: Wanted::default(),
            must_exist: false,
            priority: 0,
            action: None,
            cookie: 0,
            metadata: Vec::new(),
            key: None,
        }
    }

    /// Understand one entity of a request. `None`: it asks for what v1model never has.
    pub fn new(pipeline: &Pipeline, entity: v1::Entity) -> Result<Option<Read>, Refusal> {
        let id = |id: u32| (id != 0).then_some(id);
        let query = match entity
            .entity
            .ok_or_else(|| Refusal::invalid("an entity of the request is empty"))?
        {
            Kind::TableEntry(entry) => return Read::table_entries(pipeline, entry, As::Entry).map(Some),
            Kind::DirectCounterEntry(entry) => {
                let entry = entry.table_entry.unwrap_or_default();
                return Read::table_entries(pipeline, entry, As::Counter).map(Some);
            }
            Kind::DirectMeterEntry(entry) => {
                if entry.counter_data.is_some() {
                    return Err(Refusal::unimplemented("meters do not count packets by colour"));
                }
                let entry = entry.table_entry.unwrap_or_default();
                return Read::table_entries(pipeline, entry, As::Meter).map(Some);
            }
            Kind::ActionProfileMember(member) => Query::ActionProfileMembers {
                profile: profile(pipeline, member.action_profile_id)?,
                member: id(member.member_id),
            },
            Kind::ActionProfileGroup(group) => Query::ActionProfileGroups {
                profile: profile(pipeline, group.action_profile_id)?,
                group: id(group.group_id),
            },
            Kind::CounterEntry(entry) => Query::Counters {
                counter: match id(entry.counter_id) {
                    Some(id) => Some(pipeline.counters.require(id, "counter")?.engine),
                    None => None,
                },
                index: decode::cell_index(entry.counter_id, entry.index)?,
            },
            Kind::MeterEntry(entry) => {
                if entry.counter_data.is_some() {
                    return Err(Refusal::unimplemented("meters do not count packets by colour"));
                }
                Query::Meters {
                    meter: match id(entry.meter_id) {
                        Some(id) => Some(pipeline.meters.require(id, "meter")?.engine),
                        None => None,
                    },
                    index: decode::cell_index(entry.meter_id, entry.index)?,
                }
            }
            Kind::RegisterEntry(entry) => Query::Registers {
                register: match id(entry.register_id) {
                    Some(id) => Some(pipeline.registers.require(id, "register")?.engine),
                    None => None,
                },
                index: decode::cell_index(entry.register_id, entry.index)?,
            },
            Kind::DigestEntry(entry) => Query::Digests {
                digest: match id(entry.digest_id) {
                    Some(id) => Some(pipeline.digests.require(id, "digest")?.engine),
                    None => None,
                },
            },
            Kind::ValueSetEntry(entry) => Query::ValueSets {
                value_set: match id(entry.value_set_id) {
                    Some(id) => Some(pipeline.value_sets.require(id, "value set")?.engine),
                    None => None,
                },
            },
            Kind::PacketReplicationEngineEntry(entry) => match entry.r#type {
                Some(Replication::MulticastGroupEntry(group)) => Query::MulticastGroups {
                    group: id(group.multicast_group_id),
                },
                Some(Replication::CloneSessionEntry(session)) => Query::CloneSessions {
                    session: id(session.session_id),
                },
                None => return Err(Refusal::invalid("the replication entry is empty")),
            },
            Kind::ExternEntry(entry) if entry.extern_type_id == 0 => return Ok(None),
            Kind::ExternEntry(_) => return Err(Refusal::unimplemented("v1model has no externs of its own")),
        };
        Ok(Some(Read::of(query)))
    }

    fn table_entries(pipeline: &Pipeline, filter: v1::TableEntry, shape: As) -> Result<Read, Refusal> {
        let table = match filter.table_id {
            0 => None,
            id => Some(pipeline.tables.require(id, "table")?),
        };
        if filter.meter_counter_data.is_some() {
            return Err(Refusal::unimplemented("meters do not count packets by colour"));
        }
        if let Some(table) = table {
            check_resources(table, &filter, shape)?;
        }
        let engine = table.map(|table| table.engine);
        let mut read = Read::of(Query::TableEntries { table: engine });
        read.shape = shape;
        read.wanted = Wanted {
            counter: filter.counter_data.is_some(),
            meter: filter.meter_config.is_some(),
            time_since_last_hit: filter.time_since_last_hit.is_some(),
        };
        // With all tables "no other filter can be used" but the default entries.
        if filter.is_default_action {
            read.query = Query::DefaultEntries { table: engine };
            return Ok(read);
        }
        let Some(table) = table else { return Ok(read) };
        read.priority = filter.priority;
        #[expect(deprecated, reason = "clients still use it")]
        {
            read.cookie = filter.controller_metadata;
        }
        read.metadata = filter.metadata;
        read.action = match filter.action.and_then(|action| action.r#type) {
            Some(v1::table_action::Type::Action(action)) => Some(action.action_id).filter(|&id| id != 0),
            Some(_) => return Err(Refusal::invalid("entries can be filtered by a direct action only")),
            None => None,
        };
        if filter.r#match.is_empty() {
            return Ok(read);
        }
        let key = decode::fields(&table.name, &table.key, filter.r#match)?;
        if table.needs_priority && read.priority == 0 {
            read.key = Some(key);
        } else {
            read.must_exist = shape != As::Entry;
            read.query = Query::TableEntry {
                table: table.engine,
                key,
                priority: read.priority,
            };
        }
        Ok(read)
    }

    /// Run it; `emit` gets each entity found.
    pub fn run(&self, pipeline: &Pipeline, switch: &Switch, emit: &mut dyn FnMut(v1::Entity)) -> Result<(), Refusal> {
        let mut found = false;
        switch.read(&self.query, &mut |entity| {
            let message = match entity {
                Entity::TableEntry(entry) if !self.admits(pipeline, &entry) => None,
                Entity::TableEntry(entry) => match self.shape {
                    As::Entry => encode::table_entry(pipeline, entry, self.wanted).map(Into::into),
                    As::Counter => encode::direct_counter(pipeline, entry).map(Into::into),
                    As::Meter => encode::direct_meter(pipeline, entry).map(Into::into),
                },
                other => encode::entity(pipeline, other, self.wanted),
            };
            if let Some(message) = message {
                found = true;
                emit(message);
            }
        })?;
        if self.must_exist && !found {
            return Err(Refusal::new(Code::NotFound, "there is no such entry"));
        }
        Ok(())
    }

    fn admits(&self, pipeline: &Pipeline, entry: &TableEntry) -> bool {
        if self.priority != 0 && entry.priority != self.priority {
            return false;
        }
        if let Some(wanted) = self.action {
            let call = match &entry.action {
                Some(crate::control::TableAction::Call(call)) => call,
                _ => return false,
            };
            let table = pipeline.tables.of_engine(entry.table.0);
            if table
                .and_then(|table| table.of_engine(call.action))
                .is_none_or(|action| action.id != wanted)
            {
                return false;
            }
        }
        if self.cookie != 0 || !self.metadata.is_empty() {
            let (cookie, metadata) = metadata::split(&entry.metadata);
            if (self.cookie != 0 && cookie != self.cookie) || (!self.metadata.is_empty() && metadata != self.metadata) {
                return false;
            }
        }
        self.key.as_ref().is_none_or(|key| same_key(key, &entry.key))
    }
}

fn profile(pipeline: &Pipeline, id: u32) -> Result<Option<crate::control::ActionProfileId>, Refusal> {
    match id {
        0 => Ok(None),
        id => Ok(Some(pipeline.profiles.require(id, "action profile")?.engine)),
    }
}

fn check_resources(table: &Table, filter: &v1::TableEntry, shape: As) -> Result<(), Refusal> {
    let lacks = |what: &str| Err(Refusal::invalid(format!("table {:?} has no {what}", table.name)));
    if (filter.counter_data.is_some() || shape == As::Counter) && !table.has_counter && shape != As::Entry {
        return lacks("direct counter");
    }
    if shape == As::Meter && table.meter.is_none() {
        return lacks("direct meter");
    }
    if filter.time_since_last_hit.is_some() && !table.idle_timeout {
        return lacks("idle timeout");
    }
    Ok(())
}

/// Whether two keys are the same, however their values are padded.
fn same_key(one: &[FieldMatch], other: &[FieldMatch]) -> bool {
    use p4runtime::value::canonical as short;
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (FieldMatch::Any, FieldMatch::Any) => true,
            (FieldMatch::Exact(a), FieldMatch::Exact(b)) => short(a) == short(b),
            (
                FieldMatch::Lpm {
                    value: a,
                    prefix_len: l,
                },
                FieldMatch::Lpm {
                    value: b,
                    prefix_len: m,
                },
            ) => l == m && short(a) == short(b),
            (FieldMatch::Ternary { value: a, mask: m }, FieldMatch::Ternary { value: b, mask: n }) => {
                short(a) == short(b) && short(m) == short(n)
            }
            (FieldMatch::Range { low: a, high: h }, FieldMatch::Range { low: b, high: i }) => {
                short(a) == short(b) && short(h) == short(i)
            }
            _ => false,
        })
}
