//! Reading: entities as they are now, a piece at a time so that packets are not held up.

use std::time::Duration;

use num_bigint::BigInt;

use super::Engine;
use super::control::value_set_fields;
use crate::control::{
    ActionCall, ActionId, ActionProfileGroup, ActionProfileId, ActionProfileMember, CloneSession, ControlError,
    CounterCell, CounterData, CounterId, DigestId, Entity, MeterCell, MeterId, MulticastGroup, Query, RegisterCell,
    RegisterId, TableAction, TableEntry, TableId, ValueSetEntry, ValueSetId, WeightedAction,
};
use crate::externs::meter::Meter;
use crate::program::packing::Packing;
use crate::tables::matching::{Matcher, canonical};
use crate::tables::profile::{ActionProfile, Group, Member};
use crate::tables::{Control, DEFAULT_ROW};

/// Entities that are read before packets get a chance.
const PIECE: usize = 1024;

/// How far a query has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    object: usize,
    position: usize,
}

/// A counter's cell.
fn counter_data(cell: &[u64; 2]) -> CounterData {
    CounterData {
        packets: cell[0],
        bytes: cell[1],
    }
}

/// Values from words.
pub(crate) fn arguments(packing: &Packing, words: &[u64]) -> Vec<BigInt> {
    (0..packing.fields.len())
        .map(|field| packing.get(field, words))
        .collect()
}

fn missing(what: &str, id: impl std::fmt::Display) -> ControlError {
    ControlError::NotFound(format!("{what} {id}"))
}

impl Engine {
    fn call(&self, action: usize, words: &[u64]) -> ActionCall {
        let values = arguments(&self.program.actions[action].packing, words);
        ActionCall {
            action: ActionId(action as u32),
            arguments: values.iter().map(canonical).collect(),
        }
    }

    /// An entry, or the default entry.
    pub(crate) fn entry(&self, table: usize, row: u32) -> TableEntry {
        let model = &self.program.tables[table];
        let entries = &self.tables[table];
        let cold = &entries.cold[row as usize];
        let layout = entries.layout;
        let action = match (self.control(table, row), model.profile) {
            (Control::Action(slot), _) => Some(TableAction::Call(
                self.call(model.actions[slot as usize].action, entries.arguments(row)),
            )),
            (Control::Member(at), Some(profile)) => {
                Some(TableAction::Member(self.profiles[profile].members[at as usize].id))
            }
            (Control::Group(at), Some(profile)) => {
                let group = &self.profiles[profile].groups[at as usize];
                Some(if group.one_shot {
                    TableAction::OneShot(self.one_shot(&self.profiles[profile], group))
                } else {
                    TableAction::Group(group.id)
                })
            }
            _ => None,
        };
        let is_default = row == DEFAULT_ROW;
        let words = entries.row(row);
        let by_priority = self.program.info.tables[table].needs_priority;
        TableEntry {
            table: TableId(table as u32),
            key: if is_default {
                Vec::new()
            } else {
                Matcher::of(model).describe(&entries.spec(row))
            },
            priority: if by_priority && !is_default {
                cold.priority as i32
            } else {
                0
            },
            is_default,
            action,
            idle_timeout: cold.idle_timeout,
            metadata: cold.metadata.clone(),
            meter_config: entries.meters.get(row as usize).and_then(|m| Meter(m).config()),
            counter_data: model.counters.then(|| CounterData {
                packets: words[layout.counter],
                bytes: words[layout.counter + 1],
            }),
            time_since_last_hit: (model.timeouts && !is_default)
                .then(|| Duration::from_nanos(self.machine.now_ns.saturating_sub(words[layout.last_hit]))),
            is_const: if is_default { model.const_default } else { cold.is_const },
        }
    }

    fn one_shot(&self, profile: &ActionProfile, group: &Group) -> Vec<WeightedAction> {
        let action = |m: &crate::control::GroupMember| {
            let member = &profile.members[m.member as usize];
            WeightedAction {
                call: self.call(member.action, &member.arguments),
                weight: m.weight,
                watch_port: m.watch_port,
            }
        };
        group.members.iter().map(action).collect()
    }

    fn member(&self, profile: usize, member: &Member) -> ActionProfileMember {
        ActionProfileMember {
            profile: ActionProfileId(profile as u32),
            member: member.id,
            call: self.call(member.action, &member.arguments),
        }
    }

    fn group(&self, profile: usize, group: &Group) -> ActionProfileGroup {
        ActionProfileGroup {
            profile: ActionProfileId(profile as u32),
            group: group.id,
            members: group.members.clone(),
            max_size: group.max_size,
        }
    }

    fn register(&self, register: usize, index: usize) -> RegisterCell {
        let words = self.program.names.registers[register].bitwidth.div_ceil(64);
        let cell = &self.machine.registers[register][index * words..][..words];
        let value = cell.iter().fold(BigInt::default(), |n, word| (n << 64) + *word);
        RegisterCell {
            register: RegisterId(register as u32),
            index: Some(index as u64),
            value: canonical(&value),
        }
    }

    fn value_set(&self, set: usize) -> ValueSetEntry {
        let model = &self.program.parser.value_sets[set];
        let fields = value_set_fields(model);
        let matcher = Matcher {
            name: &model.name,
            fields: &fields,
            key: &model.key,
        };
        let members = self.machine.value_sets[set]
            .members
            .iter()
            .map(|m| matcher.describe(m))
            .collect();
        ValueSetEntry {
            value_set: ValueSetId(set as u32),
            members,
        }
    }

    /// An entity as it is now, identified by what a written one names.
    pub(crate) fn present(&self, entity: &Entity) -> Option<Entity> {
        Some(match entity {
            Entity::TableEntry(e) if e.is_default => {
                self.tables.get(e.table.index())?;
                Entity::TableEntry(self.entry(e.table.index(), DEFAULT_ROW))
            }
            Entity::TableEntry(e) => Entity::TableEntry(self.entry(e.table.index(), self.existing(e).ok()?)),
            Entity::DirectCounter(e) => Entity::DirectCounter(self.entry(e.table.index(), self.existing(e).ok()?)),
            Entity::DirectMeter(e) => Entity::DirectMeter(self.entry(e.table.index(), self.existing(e).ok()?)),
            Entity::ActionProfileMember(m) => {
                let profile = self.profiles.get(m.profile.index())?;
                let at = *profile.member_ids.get(&m.member)?;
                Entity::ActionProfileMember(self.member(m.profile.index(), &profile.members[at as usize]))
            }
            Entity::ActionProfileGroup(g) => {
                let profile = self.profiles.get(g.profile.index())?;
                let at = *profile.group_ids.get(&g.group)?;
                Entity::ActionProfileGroup(self.group(g.profile.index(), &profile.groups[at as usize]))
            }
            Entity::Counter(c) => {
                let cells = self.machine.counters.get(c.counter.index())?;
                Entity::Counter(CounterCell {
                    data: counter_data(cells.get(c.index? as usize)?),
                    ..*c
                })
            }
            Entity::Meter(m) => {
                let cells = self.machine.meters.get(m.meter.index())?;
                Entity::Meter(MeterCell {
                    config: Meter(cells.get(m.index? as usize)?).config(),
                    ..*m
                })
            }
            Entity::Register(r) => {
                let info = self.program.names.registers.get(r.register.index())?;
                let index = usize::try_from(r.index?).ok().filter(|i| *i < info.size)?;
                Entity::Register(self.register(r.register.index(), index))
            }
            Entity::MulticastGroup(g) => Entity::MulticastGroup(MulticastGroup {
                group: g.group,
                replicas: self.multicast.get(&g.group)?.clone(),
            }),
            Entity::CloneSession(s) => Entity::CloneSession(self.clones.get(&s.session)?.clone()),
            Entity::ValueSet(v) => {
                self.program.parser.value_sets.get(v.value_set.index())?;
                Entity::ValueSet(self.value_set(v.value_set.index()))
            }
            Entity::Digest(d) => Entity::Digest(self.digests.config(d.digest)?.clone()),
        })
    }

    /// The next piece of what a query asks for; true once there is no more.
    pub(crate) fn read(
        &self,
        query: &Query,
        progress: &mut Progress,
        out: &mut Vec<Entity>,
    ) -> Result<bool, ControlError> {
        match query {
            Query::TableEntries { table } => {
                let ids = chosen(table.map(|t| t.index()), self.tables.len(), "table")?;
                pieces(
                    ids,
                    progress,
                    |t| self.tables[t].row_count(),
                    |t, row| {
                        let row = row as u32;
                        self.tables[t]
                            .is_live(row)
                            .then(|| out.push(Entity::TableEntry(self.entry(t, row))))
                            .is_some()
                    },
                )
            }
            Query::TableEntry { table, key, priority } => {
                let mut wanted = TableEntry::default_entry(*table, None);
                (wanted.key, wanted.priority, wanted.is_default) = (key.clone(), *priority, false);
                match self.existing(&wanted) {
                    Ok(row) => out.push(Entity::TableEntry(self.entry(table.index(), row))),
                    Err(ControlError::NotFound(_)) if table.index() < self.tables.len() => {}
                    Err(error) => return Err(error),
                }
                Ok(true)
            }
            Query::DefaultEntries { table } => {
                for table in chosen(table.map(|t| t.index()), self.tables.len(), "table")? {
                    out.push(Entity::TableEntry(self.entry(table, DEFAULT_ROW)));
                }
                Ok(true)
            }
            Query::ActionProfileMembers { profile, member } => {
                for p in chosen(profile.map(|p| p.index()), self.profiles.len(), "action profile")? {
                    let members = self.profiles[p]
                        .live_members()
                        .filter(|(_, m)| member.is_none_or(|id| m.id == id));
                    out.extend(members.map(|(_, m)| Entity::ActionProfileMember(self.member(p, m))));
                }
                Ok(true)
            }
            Query::ActionProfileGroups { profile, group } => {
                for p in chosen(profile.map(|p| p.index()), self.profiles.len(), "action profile")? {
                    let groups = self.profiles[p].groups.iter().filter(|g| g.live && !g.one_shot);
                    let groups = groups.filter(|g| group.is_none_or(|id| g.id == id));
                    out.extend(groups.map(|g| Entity::ActionProfileGroup(self.group(p, g))));
                }
                Ok(true)
            }
            Query::Counters { counter, index } => {
                let infos = &self.program.names.counters;
                let ids = chosen(counter.map(|c| c.index()), infos.len(), "counter")?;
                let cells = &self.machine.counters;
                if let Some(index) = index {
                    for id in ids {
                        let at = within(*index, infos[id].size, &infos[id].name)?;
                        let (counter, index) = (CounterId(id as u32), Some(*index));
                        out.push(Entity::Counter(CounterCell {
                            counter,
                            index,
                            data: counter_data(&cells[id][at]),
                        }));
                    }
                    return Ok(true);
                }
                pieces(
                    ids,
                    progress,
                    |c| infos[c].size,
                    |c, at| {
                        let (counter, index) = (CounterId(c as u32), Some(at as u64));
                        out.push(Entity::Counter(CounterCell {
                            counter,
                            index,
                            data: counter_data(&cells[c][at]),
                        }));
                        true
                    },
                )
            }
            Query::Meters { meter, index } => {
                let infos = &self.program.names.meters;
                let ids = chosen(meter.map(|c| c.index()), infos.len(), "meter")?;
                let cells = &self.machine.meters;
                let cell = |id: usize, at: usize| {
                    let (meter, index) = (MeterId(id as u32), Some(at as u64));
                    Entity::Meter(MeterCell {
                        meter,
                        index,
                        config: Meter(&cells[id][at]).config(),
                    })
                };
                if let Some(index) = index {
                    for id in ids {
                        out.push(cell(id, within(*index, infos[id].size, &infos[id].name)?));
                    }
                    return Ok(true);
                }
                pieces(
                    ids,
                    progress,
                    |m| infos[m].size,
                    |m, at| {
                        out.push(cell(m, at));
                        true
                    },
                )
            }
            Query::Registers { register, index } => {
                let infos = &self.program.names.registers;
                let ids = chosen(register.map(|r| r.index()), infos.len(), "register")?;
                if let Some(index) = index {
                    for id in ids {
                        let at = within(*index, infos[id].size, &infos[id].name)?;
                        out.push(Entity::Register(self.register(id, at)));
                    }
                    return Ok(true);
                }
                pieces(
                    ids,
                    progress,
                    |r| infos[r].size,
                    |r, at| {
                        out.push(Entity::Register(self.register(r, at)));
                        true
                    },
                )
            }
            Query::MulticastGroups { group } => {
                let mut ids: Vec<u32> = self
                    .multicast
                    .keys()
                    .copied()
                    .filter(|g| group.is_none_or(|id| *g == id))
                    .collect();
                ids.sort_unstable();
                let entity = |g: u32| {
                    Entity::MulticastGroup(MulticastGroup {
                        group: g,
                        replicas: self.multicast[&g].clone(),
                    })
                };
                out.extend(ids.into_iter().map(entity));
                Ok(true)
            }
            Query::CloneSessions { session } => {
                let mut known: Vec<&CloneSession> = self
                    .clones
                    .values()
                    .filter(|s| session.is_none_or(|id| s.session == id))
                    .collect();
                known.sort_unstable_by_key(|s| s.session);
                out.extend(known.into_iter().map(|s| Entity::CloneSession(s.clone())));
                Ok(true)
            }
            Query::ValueSets { value_set } => {
                let count = self.program.parser.value_sets.len();
                for set in chosen(value_set.map(|v| v.index()), count, "value set")? {
                    out.push(Entity::ValueSet(self.value_set(set)));
                }
                Ok(true)
            }
            Query::Digests { digest } => {
                let count = self.program.learn_lists.len();
                for id in chosen(digest.map(|d| d.index()), count, "digest")? {
                    out.extend(self.digests.config(DigestId(id as u32)).cloned().map(Entity::Digest));
                }
                Ok(true)
            }
        }
    }
}

/// The one object asked for, or all.
fn chosen(id: Option<usize>, count: usize, what: &str) -> Result<std::ops::Range<usize>, ControlError> {
    match id {
        None => Ok(0..count),
        Some(id) if id < count => Ok(id..id + 1),
        Some(id) => Err(missing(what, id)),
    }
}

fn within(index: u64, size: usize, name: &str) -> Result<usize, ControlError> {
    if index < size as u64 {
        return Ok(index as usize);
    }
    Err(ControlError::OutOfRange {
        name: name.to_owned(),
        size,
        index,
    })
}

/// Visits positions of objects from where the last piece ended; `visit` says whether it found something.
fn pieces(
    objects: std::ops::Range<usize>,
    progress: &mut Progress,
    size: impl Fn(usize) -> usize,
    mut visit: impl FnMut(usize, usize) -> bool,
) -> Result<bool, ControlError> {
    let mut looked = 0;
    progress.object = progress.object.max(objects.start);
    while progress.object < objects.end {
        while progress.position < size(progress.object) {
            let _ = visit(progress.object, progress.position);
            progress.position += 1;
            looked += 1;
            if looked >= PIECE {
                return Ok(false);
            }
        }
        progress.object += 1;
        progress.position = 0;
    }
    Ok(true)
}
