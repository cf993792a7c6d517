//! Read-back: what a target has against what it should have, entity by entity.

use crate::api::p4::v1;
use crate::entity;
use prost::Message;
use std::collections::HashMap;

/// How the entries of a target differ from those expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Expected, not there.
    pub missing: Vec<v1::Entity>,
    /// There, not expected.
    pub unexpected: Vec<v1::Entity>,
    /// There with another action, rate, ...: expected, found.
    pub changed: Vec<(v1::Entity, v1::Entity)>,
}

impl Difference {
    /// No difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.changed.is_empty()
    }

    /// The updates that make the target what is expected: deletions, then insertions and modifications.
    pub fn repair(self) -> Vec<v1::Update> {
        let deletions = self.unexpected.into_iter().map(entity::delete);
        let insertions = self.missing.into_iter().map(entity::insert);
        let changes = self.changed.into_iter().map(|(expected, _)| entity::modify(expected));
        deletions.chain(insertions).chain(changes).collect()
    }
}

/// Compare entities by key: what is missing, unexpected or changed.
pub fn difference(expected: &[v1::Entity], found: Vec<v1::Entity>) -> Difference {
    let mut found: HashMap<Vec<u8>, v1::Entity> = found
        .into_iter()
        .filter(|entity| !is_fixed(entity))
        .map(|entity| (key(&entity), entity))
        .collect();
    let mut result = Difference::default();
    for entity in expected.iter().filter(|entity| !is_fixed(entity)) {
        match found.remove(&key(entity)) {
            None => result.missing.push(entity.clone()),
            Some(there) if content(&there) == content(entity) => {}
            Some(there) => result.changed.push((entity.clone(), there)),
        }
    }
    result.unexpected = found.into_values().collect();
    result.unexpected.sort_by_key(key);
    result
}

/// Default actions and constant entries cannot be inserted or deleted.
fn is_fixed(entity: &v1::Entity) -> bool {
    match &entity.entity {
        Some(v1::entity::Entity::TableEntry(entry)) => entry.is_default_action || entry.is_const,
        _ => false,
    }
}

/// What identifies an entity: its message without what may change.
fn key(entity: &v1::Entity) -> Vec<u8> {
    use v1::entity::Entity as Kind;
    let mut entity = content(entity);
    match &mut entity.entity {
        Some(Kind::TableEntry(entry)) => {
            let r#match = std::mem::take(&mut entry.r#match);
            let (table_id, priority) = (entry.table_id, entry.priority);
            *entry = v1::TableEntry {
                table_id,
                r#match,
                priority,
                ..Default::default()
            };
        }
        Some(Kind::ActionProfileMember(member)) => member.action = None,
        Some(Kind::ActionProfileGroup(group)) => (group.members, group.max_size) = (Vec::new(), 0),
        Some(Kind::MeterEntry(meter)) => (meter.config, meter.counter_data) = (None, None),
        Some(Kind::CounterEntry(counter)) => counter.data = None,
        Some(Kind::RegisterEntry(register)) => register.data = None,
        Some(Kind::DigestEntry(digest)) => digest.config = None,
        Some(Kind::ValueSetEntry(set)) => set.members.clear(),
        Some(Kind::PacketReplicationEngineEntry(entry)) => match &mut entry.r#type {
            Some(v1::packet_replication_engine_entry::Type::MulticastGroupEntry(group)) => {
                (group.replicas, group.metadata) = (Vec::new(), Vec::new());
            }
            Some(v1::packet_replication_engine_entry::Type::CloneSessionEntry(session)) => {
                *session = v1::CloneSessionEntry {
                    session_id: session.session_id,
                    ..Default::default()
                };
            }
            None => {}
        },
        _ => {}
    }
    entity.encode_to_vec()
}

/// What is compared of an entity: no counters and times, fields in order.
fn content(entity: &v1::Entity) -> v1::Entity {
    let mut entity = entity.clone();
    if let Some(v1::entity::Entity::TableEntry(entry)) = &mut entity.entity {
        entry.counter_data = None;
        entry.meter_counter_data = None;
        entry.time_since_last_hit = None;
        entry.r#match.sort_by_key(|field| field.field_id);
    }
    entity
}
