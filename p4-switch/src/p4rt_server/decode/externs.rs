//! Everything that is not of a table: action profiles, counters, meters, registers, digests, value sets, groups and
//! sessions.

use std::collections::HashSet;
use std::time::Duration;

use p4runtime::v1;
use p4runtime::v1::packet_replication_engine_entry::Type as Replication;
use p4runtime::v1::replica::PortKind;
use tonic::Code;

use super::entry::{call, check_group_size, counter_data, fields, meter_config, weight};
use super::{Change, check_width, index, non_negative, port};
use crate::control::{
    ActionCall, ActionProfileGroup, ActionProfileMember, CloneSession, CounterCell, DigestConfig, Entity, GroupMember,
    MeterCell, MulticastGroup, RegisterCell, Replica, Update, ValueSetEntry,
};
use crate::p4rt_server::pipeline::{Pipeline, Profile};
use crate::p4rt_server::refusal::Refusal;

pub fn member(pipeline: &Pipeline, change: Change, message: v1::ActionProfileMember) -> Result<Update, Refusal> {
    let profile = pipeline.profiles.require(message.action_profile_id, "action profile")?;
    if message.member_id == 0 {
        return Err(Refusal::invalid("member_id is 0"));
    }
    let call = match message.action {
        _ if change == Change::Delete => no_call(profile)?,
        Some(action) => call(&profile.name, &profile.actions, action, false)?,
        None => return Err(Refusal::invalid("a member needs an action")),
    };
    let member = ActionProfileMember {
        profile: profile.engine,
        member: message.member_id,
        call,
    };
    Ok(change.of(Entity::ActionProfileMember(member)))
}

/// DELETE does not look at the action; any will do.
fn no_call(profile: &Profile) -> Result<ActionCall, Refusal> {
    let action = profile
        .actions
        .first()
        .ok_or_else(|| Refusal::invalid("the action profile has no actions"))?;
    Ok(ActionCall {
        action: action.engine,
        arguments: Vec::new(),
    })
}

pub fn group(pipeline: &Pipeline, change: Change, message: v1::ActionProfileGroup) -> Result<Update, Refusal> {
    let profile = pipeline.profiles.require(message.action_profile_id, "action profile")?;
    if !profile.with_selector {
        return Err(Refusal::invalid(format!(
            "{:?} has no selector, and so no groups",
            profile.name
        )));
    }
    if message.group_id == 0 {
        return Err(Refusal::invalid("group_id is 0"));
    }
    let mut group = ActionProfileGroup {
        profile: profile.engine,
        group: message.group_id,
        members: Vec::new(),
        max_size: 0,
    };
    if change == Change::Delete {
        return Ok(Update::Delete(Entity::ActionProfileGroup(group)));
    }
    group.max_size = u32::try_from(message.max_size).map_err(|_| Refusal::invalid("max_size is negative"))?;
    if profile.max_group_size > 0 && group.max_size > profile.max_group_size {
        let most = profile.max_group_size;
        return Err(Refusal::invalid(format!(
            "max_size is above {most}, the most for {:?}",
            profile.name
        )));
    }
    let mut seen = HashSet::new();
    for member in message.members {
        if !seen.insert(member.member_id) {
            return Err(Refusal::invalid(format!(
                "member {} is in the group twice; use its weight",
                member.member_id
            )));
        }
        #[expect(deprecated, reason = "clients older than 1.4 still send it")]
        let watch_port = match member.watch_kind {
            Some(v1::action_profile_group::member::WatchKind::WatchPort(bytes)) if bytes.is_empty() => None,
            Some(v1::action_profile_group::member::WatchKind::WatchPort(bytes)) => Some(port(&bytes)?),
            Some(v1::action_profile_group::member::WatchKind::Watch(port)) => {
                u32::try_from(port).ok().filter(|&port| port != 0)
            }
            None => None,
        };
        let weight = weight(profile, member.weight)?;
        group.members.push(GroupMember {
            member: member.member_id,
            weight,
            watch_port,
        });
    }
    let most = if group.max_size > 0 {
        group.max_size
    } else {
        profile.max_group_size
    };
    let weights = group.members.iter().map(|member| member.weight);
    check_group_size(profile, weights, most, Code::ResourceExhausted)?;
    Ok(change.of(Entity::ActionProfileGroup(group)))
}

/// Without data nothing changes.
pub fn counter(pipeline: &Pipeline, change: Change, message: v1::CounterEntry) -> Result<Option<Update>, Refusal> {
    change.modify_only("a counter")?;
    let counter = pipeline.counters.require(message.counter_id, "counter")?;
    let index = index(message.index)?;
    let Some(data) = message.data else { return Ok(None) };
    let cell = CounterCell {
        counter: counter.engine,
        index,
        data: counter_data(data)?,
    };
    Ok(Some(Update::Modify(Entity::Counter(cell))))
}

pub fn meter(pipeline: &Pipeline, change: Change, message: v1::MeterEntry) -> Result<Update, Refusal> {
    change.modify_only("a meter")?;
    if message.counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count packets by colour"));
    }
    let meter = pipeline.meters.require(message.meter_id, "meter")?;
    let config = message
        .config
        .map(|config| meter_config(config, meter.meter_type))
        .transpose()?;
    let cell = MeterCell {
        meter: meter.engine,
        index: index(message.index)?,
        config,
    };
    Ok(Update::Modify(Entity::Meter(cell)))
}

pub fn register(pipeline: &Pipeline, change: Change, message: v1::RegisterEntry) -> Result<Update, Refusal> {
    change.modify_only("a register")?;
    let register = pipeline.registers.require(message.register_id, "register")?;
    let data = message.data.and_then(|data| data.data);
    let value = match data {
        Some(v1::p4_data::Data::Bitstring(bytes) | v1::p4_data::Data::EnumValue(bytes)) => bytes,
        Some(v1::p4_data::Data::Bool(bool)) => vec![u8::from(bool)],
        Some(_) => {
            return Err(Refusal::invalid(format!(
                "register {:?} holds bit strings",
                register.name
            )));
        }
        None => return Err(Refusal::invalid("data is not set")),
    };
    check_width(&register.name, "data", register.width, &value, Code::OutOfRange)?;
    let cell = RegisterCell {
        register: register.engine,
        index: index(message.index)?,
        value,
    };
    Ok(Update::Modify(Entity::Register(cell)))
}

pub fn digest(pipeline: &Pipeline, change: Change, message: v1::DigestEntry) -> Result<Update, Refusal> {
    let digest = pipeline.digests.require(message.digest_id, "digest")?;
    let config = message.config.unwrap_or_default();
    let nanoseconds = |number, what| non_negative(number, what).map(Duration::from_nanos);
    let mut decoded = DigestConfig {
        digest: digest.engine,
        max_timeout: Duration::ZERO,
        max_list_size: 0,
        ack_timeout: Duration::ZERO,
    };
    if change != Change::Delete {
        decoded.max_timeout = nanoseconds(config.max_timeout_ns, "max_timeout_ns")?;
        decoded.max_list_size = non_negative(config.max_list_size.into(), "max_list_size")? as usize;
        decoded.ack_timeout = nanoseconds(config.ack_timeout_ns, "ack_timeout_ns")?;
    }
    Ok(change.of(Entity::Digest(decoded)))
}

pub fn value_set(pipeline: &Pipeline, change: Change, message: v1::ValueSetEntry) -> Result<Update, Refusal> {
    change.modify_only("a value set")?;
    let set = pipeline.value_sets.require(message.value_set_id, "value set")?;
    let members = message
        .members
        .into_iter()
        .map(|member| fields(&set.name, &set.key, member.r#match))
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    if !members.iter().all(|member| seen.insert(member)) {
        let problem = format!("value set {:?} is given the same member twice", set.name);
        return Err(Refusal::new(Code::AlreadyExists, problem));
    }
    drop(seen);
    Ok(Update::Modify(Entity::ValueSet(ValueSetEntry {
        value_set: set.engine,
        members,
    })))
}

pub fn replication(change: Change, message: v1::PacketReplicationEngineEntry) -> Result<Update, Refusal> {
    match message
        .r#type
        .ok_or_else(|| Refusal::invalid("the replication entry is empty"))?
    {
        Replication::MulticastGroupEntry(group) => {
            if group.multicast_group_id == 0 {
                return Err(Refusal::invalid("multicast_group_id is 0"));
            }
            let replicas = if change == Change::Delete {
                Vec::new()
            } else {
                replicas(group.replicas)?
            };
            Ok(change.of(Entity::MulticastGroup(MulticastGroup {
                group: group.multicast_group_id,
                replicas,
            })))
        }
        Replication::CloneSessionEntry(session) => {
            if session.session_id == 0 {
                return Err(Refusal::invalid("session_id is 0"));
            }
            let mut decoded = CloneSession {
                session: session.session_id,
                replicas: Vec::new(),
                class_of_service: 0,
                packet_length_bytes: 0,
            };
            if change != Change::Delete {
                decoded.replicas = replicas(session.replicas)?;
                decoded.class_of_service = session.class_of_service;
                decoded.packet_length_bytes =
                    non_negative(session.packet_length_bytes.into(), "packet_length_bytes")? as u32;
            }
            Ok(change.of(Entity::CloneSession(decoded)))
        }
    }
}

fn replicas(messages: Vec<v1::Replica>) -> Result<Vec<Replica>, Refusal> {
    let mut seen = HashSet::new();
    messages
        .into_iter()
        .map(|message| {
            if !message.backup_replicas.is_empty() {
                return Err(Refusal::unimplemented("backup replicas are not supported"));
            }
            #[expect(deprecated, reason = "clients older than 1.4 still send it")]
            let port = match message.port_kind {
                Some(PortKind::Port(bytes)) => port(&bytes)?,
                Some(PortKind::EgressPort(port)) => port,
                None => return Err(Refusal::invalid("a replica has no port")),
            };
            let instance = u16::try_from(message.instance)
                .map_err(|_| Refusal::invalid(format!("instance {} is above 65535", message.instance)))?;
            let replica = Replica { port, instance };
            if !seen.insert(replica) {
                return Err(Refusal::invalid(format!(
                    "port {port} with instance {instance} is there twice"
                )));
            }
            Ok(replica)
        })
        .collect()
}
