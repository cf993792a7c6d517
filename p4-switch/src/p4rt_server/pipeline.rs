//! A pipeline: P4Info bound to the program it describes. P4Info's ids on one side, the engine's on the other.
//!
//! Objects are found by name. The fields of a key and the parameters of an action are found by name, or, where the
//! compiler has renamed them, by position, and must have P4Info's width. A P4Info that names what the program does not
//! have is refused whole, at SetForwardingPipelineConfig, so that later no lookup can lead nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use p4runtime::p4info::{self, ActionScope, MeterType, Object, Objects, SizeSemantics};
use p4runtime::{P4Info, v1};

use super::refusal::Refusal;
use crate::Program;
use crate::control::{
    ActionId, ActionInfo, ActionProfileId, CounterId, DigestId, KeyInfo, MatchKind, MeterId, ProgramInfo, RegisterId,
    TableId, ValueSetId,
};

/// P4Info and program, bound.
#[derive(Debug)]
pub struct Pipeline {
    pub info: P4Info,
    pub program: Arc<Program>,
    /// As the client sent it, for GetForwardingPipelineConfig.
    pub config: v1::ForwardingPipelineConfig,
    pub tables: Bound<Table>,
    pub profiles: Bound<Profile>,
    pub counters: Bound<Cells>,
    pub meters: Bound<Meter>,
    pub registers: Bound<Register>,
    pub digests: Bound<Digest>,
    pub value_sets: Bound<ValueSet>,
    pub notes: Notes,
}

/// What the engine does not keep of replication entries, for reading back.
#[derive(Debug, Default)]
pub struct Notes {
    /// Of multicast groups.
    pub groups: Mutex<HashMap<u32, Note>>,
    /// Of clone sessions.
    pub sessions: Mutex<HashMap<u32, Note>>,
}

/// What the client wrote beside what the engine keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    pub metadata: Vec<u8>,
    /// Ports were given as numbers (deprecated since 1.4), and are answered so.
    pub numeric_ports: bool,
}

/// Objects of one kind by both ids.
#[derive(Debug)]
pub struct Bound<T> {
    objects: Vec<T>,
    by_p4info: HashMap<u32, usize>,
    by_engine: HashMap<u32, usize>,
}

impl<T> Bound<T> {
    fn new<O: Object>(objects: &Objects<O>, bind: impl Fn(&O) -> Result<(u32, T), Refusal>) -> Result<Self, Refusal> {
        let mut bound = Bound {
            objects: Vec::new(),
            by_p4info: HashMap::new(),
            by_engine: HashMap::new(),
        };
        for object in objects.iter() {
            let (engine, binding) = bind(object)?;
            bound.by_p4info.insert(object.preamble().id, bound.objects.len());
            bound.by_engine.insert(engine, bound.objects.len());
            bound.objects.push(binding);
        }
        Ok(bound)
    }

    /// By P4Info's id.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.by_p4info.get(&id).map(|&position| &self.objects[position])
    }

    /// By P4Info's id; the refusal says what is missing.
    pub fn require(&self, id: u32, kind: &str) -> Result<&T, Refusal> {
        self.get(id)
            .ok_or_else(|| Refusal::invalid(format!("the P4Info has no {kind} {id:#010x}")))
    }

    /// By the engine's id.
    pub fn of_engine(&self, id: u32) -> Option<&T> {
        self.by_engine.get(&id).map(|&position| &self.objects[position])
    }
}

/// A field of a key, or a parameter.
#[derive(Debug)]
pub struct Field {
    /// P4Info's id in its table or action.
    pub id: u32,
    pub name: String,
    /// The program's width.
    pub width: u32,
    pub kind: p4info::MatchKind,
    /// p4c compiles an optional field to a ternary one, for which "equal" is a mask of ones.
    pub optional_as_ternary: bool,
}

/// An action as one table or profile may use it.
#[derive(Debug)]
pub struct Action {
    /// P4Info's id.
    pub id: u32,
    pub engine: ActionId,
    pub name: String,
    pub scope: ActionScope,
    /// In the engine's order.
    pub params: Vec<Field>,
}

#[derive(Debug)]
pub struct Table {
    pub id: u32,
    pub engine: TableId,
    pub name: String,
    /// In the engine's order.
    pub key: Vec<Field>,
    pub needs_priority: bool,
    pub actions: Vec<Action>,
    /// P4Info's id of the profile that implements it.
    pub profile: Option<u32>,
    pub is_const: bool,
    pub const_default: bool,
    pub has_counter: bool,
    pub meter: Option<MeterType>,
    pub idle_timeout: bool,
}

#[derive(Debug)]
pub struct Profile {
    pub id: u32,
    pub engine: ActionProfileId,
    pub name: String,
    pub with_selector: bool,
    pub actions: Vec<Action>,
    pub max_group_size: u32,
    pub size_semantics: SizeSemantics,
    pub weights_disallowed: bool,
}

/// An indirect counter.
#[derive(Debug)]
pub struct Cells {
    pub id: u32,
    pub engine: CounterId,
}

#[derive(Debug)]
pub struct Meter {
    pub id: u32,
    pub engine: MeterId,
    pub meter_type: MeterType,
}

#[derive(Debug)]
pub struct Register {
    pub id: u32,
    pub engine: RegisterId,
    pub name: String,
    pub width: u32,
}

#[derive(Debug)]
pub struct Digest {
    pub id: u32,
    pub engine: DigestId,
}

#[derive(Debug)]
pub struct ValueSet {
    pub id: u32,
    pub engine: ValueSetId,
    pub name: String,
    pub key: Vec<Field>,
}

impl Table {
    pub fn of_engine(&self, id: ActionId) -> Option<&Action> {
        self.actions.iter().find(|action| action.engine == id)
    }
}

impl Pipeline {
    /// Compile the device configuration (BMv2's JSON) and bind P4Info to it.
    pub fn new(config: v1::ForwardingPipelineConfig) -> Result<Pipeline, Refusal> {
        let message = config
            .p4info
            .clone()
            .ok_or_else(|| Refusal::invalid("the configuration has no P4Info"))?;
        let info = P4Info::new(message).map_err(|error| Refusal::invalid(format!("P4Info: {error}")))?;
        if config.p4_device_config.is_empty() {
            return Err(Refusal::invalid(
                "p4_device_config is empty; BMv2's JSON, as p4c writes it, is expected",
            ));
        }
        let program = Program::from_json(&config.p4_device_config)
            .map_err(|error| Refusal::invalid(format!("p4_device_config is not a BMv2 program: {error}")))?;
        Pipeline::bind(info, Arc::new(program), config)
    }

    fn bind(info: P4Info, program: Arc<Program>, config: v1::ForwardingPipelineConfig) -> Result<Pipeline, Refusal> {
        let engine = program.info();
        let tables = Bound::new(&info.tables, |table| bind_table(&info, engine, table))?;
        let profiles = Bound::new(&info.action_profiles, |profile| bind_profile(&info, engine, profile))?;
        let counters = Bound::new(&info.counters, |counter| {
            let id = found(engine.counter(name(counter)), counter)?;
            Ok((
                id.0,
                Cells {
                    id: counter.preamble.id,
                    engine: id,
                },
            ))
        })?;
        let meters = Bound::new(&info.meters, |meter| {
            let id = found(engine.meter(name(meter)), meter)?;
            let (p4info_id, meter_type) = (meter.preamble.id, meter.meter_type);
            Ok((
                id.0,
                Meter {
                    id: p4info_id,
                    engine: id,
                    meter_type,
                },
            ))
        })?;
        let registers = Bound::new(&info.registers, |register| {
            let id = found(engine.register(name(register)), register)?;
            let width = engine.registers[id.index()].bitwidth as u32;
            Ok((
                id.0,
                Register {
                    id: register.preamble.id,
                    engine: id,
                    name: name(register).to_owned(),
                    width,
                },
            ))
        })?;
        let digests = Bound::new(&info.digests, |digest| {
            let id = found(engine.digest(name(digest)), digest)?;
            Ok((
                id.0,
                Digest {
                    id: digest.preamble.id,
                    engine: id,
                },
            ))
        })?;
        let value_sets = Bound::new(&info.value_sets, |set| {
            let id = found(engine.value_set(name(set)), set)?;
            let key = bind_value_set(name(set), &set.match_fields, &engine.value_sets[id.index()].fields)?;
            Ok((
                id.0,
                ValueSet {
                    id: set.preamble.id,
                    engine: id,
                    name: name(set).to_owned(),
                    key,
                },
            ))
        })?;
        let notes = Notes::default();
        Ok(Pipeline {
            tables,
            profiles,
            counters,
            meters,
            registers,
            digests,
            value_sets,
            notes,
            program: program.clone(),
            info,
            config,
        })
    }
}

fn name<O: Object>(object: &O) -> &str {
    &object.preamble().name
}

fn found<O: Object, I>(id: Option<I>, object: &O) -> Result<I, Refusal> {
    id.ok_or_else(|| {
        Refusal::invalid(format!(
            "the program has no {} {:?}, the P4Info has",
            O::KIND,
            name(object)
        ))
    })
}

fn bind_table(info: &P4Info, engine: &ProgramInfo, table: &p4info::Table) -> Result<(u32, Table), Refusal> {
    let id = found(engine.table(name(table)), table)?;
    let there = &engine.tables[id.index()];
    let mut actions = Vec::with_capacity(table.actions.len());
    for reference in &table.actions {
        let action = info
            .action(reference.id)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        // An action that no entry of the program's table can run: the P4Info is another program's.
        let Some(engine_id) = engine.table_action(id, name(action)) else {
            let problem = format!(
                "table {:?} of the program has no action {:?}",
                name(table),
                name(action)
            );
            return Err(Refusal::invalid(problem));
        };
        actions.push(bind_action(
            action,
            engine_id,
            &engine.actions[engine_id.index()],
            reference.scope,
        )?);
    }
    let table_name = name(table).to_owned();
    let key = bind_key(&table_name, &table.match_fields, &there.key)?;
    let needs_priority = table.needs_priority();
    if needs_priority != there.needs_priority {
        return Err(Refusal::invalid(format!(
            "table {table_name:?} has other match kinds in the program"
        )));
    }
    let bound = Table {
        id: table.preamble.id,
        engine: id,
        key,
        needs_priority,
        actions,
        profile: table.implementation,
        is_const: table.is_const || there.const_entries,
        const_default: table.const_default_action.is_some() || there.const_default,
        has_counter: table.direct_counter.is_some() && there.direct_counter.is_some(),
        meter: table
            .direct_meter
            .filter(|_| there.direct_meter.is_some())
            .map(|(_, meter_type)| meter_type),
        idle_timeout: table.idle_timeout,
        name: table_name,
    };
    Ok((id.0, bound))
}

fn bind_profile(
    info: &P4Info,
    engine: &ProgramInfo,
    profile: &p4info::ActionProfile,
) -> Result<(u32, Profile), Refusal> {
    let id = found(engine.action_profile(name(profile)), profile)?;
    let mut actions: Vec<Action> = Vec::new();
    for table in profile.table_ids.iter().filter_map(|table| info.tables.get(*table)) {
        for reference in &table.actions {
            if actions.iter().any(|action| action.id == reference.id) {
                continue;
            }
            let action = info
                .action(reference.id)
                .map_err(|error| Refusal::invalid(error.to_string()))?;
            if let Some(engine_id) = engine.profile_action(id, name(action)) {
                actions.push(bind_action(
                    action,
                    engine_id,
                    &engine.actions[engine_id.index()],
                    reference.scope,
                )?);
            }
        }
    }
    let bound = Profile {
        id: profile.preamble.id,
        engine: id,
        name: name(profile).to_owned(),
        with_selector: profile.with_selector,
        actions,
        max_group_size: profile.max_group_size,
        size_semantics: profile.size_semantics,
        weights_disallowed: profile.weights_disallowed,
    };
    Ok((id.0, bound))
}

fn bind_action(
    action: &p4info::Action,
    engine_id: ActionId,
    engine: &ActionInfo,
    scope: ActionScope,
) -> Result<Action, Refusal> {
    let owner = name(action);
    let there: Vec<(&str, usize)> = engine
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.bitwidth))
        .collect();
    let order = pair(owner, action.params.iter().collect(), &there)?;
    let params = order
        .into_iter()
        .zip(&there)
        .map(|(field, (_, width))| bind_field(owner, field, *width, p4info::MatchKind::Exact))
        .collect::<Result<_, _>>()?;
    Ok(Action {
        id: action.preamble.id,
        engine: engine_id,
        name: owner.to_owned(),
        scope,
        params,
    })
}

fn bind_key(owner: &str, fields: &[p4info::MatchField], there: &[KeyInfo]) -> Result<Vec<Field>, Refusal> {
    let names: Vec<(&str, usize)> = there
        .iter()
        .map(|field| (field.name.as_str(), field.bitwidth))
        .collect();
    let order = pair(owner, fields.iter().map(|field| &field.field).collect(), &names)?;
    order
        .into_iter()
        .zip(there)
        .map(|(field, there)| {
            let kind = match there.kind {
                MatchKind::Exact | MatchKind::Valid => p4info::MatchKind::Exact,
                MatchKind::Lpm => p4info::MatchKind::Lpm,
                MatchKind::Ternary => p4info::MatchKind::Ternary,
                MatchKind::Range => p4info::MatchKind::Range,
                MatchKind::Optional => p4info::MatchKind::Optional,
            };
            let wanted = fields
                .iter()
                .find(|candidate| candidate.field.id == field.id)
                .map(|field| field.kind);
            if (wanted, kind) == (Some(p4info::MatchKind::Optional), p4info::MatchKind::Ternary) {
                let field = bind_field(owner, field, there.bitwidth, p4info::MatchKind::Optional)?;
                return Ok(Field {
                    optional_as_ternary: true,
                    ..field
                });
            }
            if wanted != Some(kind) {
                let problem = format!(
                    "{owner}.{} is matched {kind:?} by the program, not {wanted:?}",
                    field.name
                );
                return Err(Refusal::invalid(problem));
            }
            bind_field(owner, field, there.bitwidth, kind)
        })
        .collect()
}

/// The fields of a value set have no names in the program.
fn bind_value_set(owner: &str, fields: &[p4info::MatchField], widths: &[usize]) -> Result<Vec<Field>, Refusal> {
    if fields.len() != widths.len() {
        return Err(Refusal::invalid(format!(
            "value set {owner:?} has {} fields in the program",
            widths.len()
        )));
    }
    fields
        .iter()
        .zip(widths)
        .map(|(field, width)| bind_field(owner, &field.field, *width, field.kind))
        .collect()
}

/// P4Info's fields in the order of the program's.
fn pair<'f>(
    owner: &str,
    fields: Vec<&'f p4info::Field>,
    there: &[(&str, usize)],
) -> Result<Vec<&'f p4info::Field>, Refusal> {
    if fields.len() != there.len() {
        let problem = format!(
            "{owner:?} has {} fields in the P4Info, {} in the program",
            fields.len(),
            there.len()
        );
        return Err(Refusal::invalid(problem));
    }
    let by_name: Option<Vec<&p4info::Field>> = there
        .iter()
        .map(|(name, _)| fields.iter().find(|field| field.name == *name).copied())
        .collect();
    Ok(by_name.unwrap_or(fields))
}

fn bind_field(owner: &str, field: &p4info::Field, width: usize, kind: p4info::MatchKind) -> Result<Field, Refusal> {
    if field.bitwidth == 0 && width != 0 {
        let problem = format!(
            "{owner}.{}: values that are translated to strings are not supported",
            field.name
        );
        return Err(Refusal::unimplemented(problem));
    }
    // A translated type (`@p4runtime_translation`) may have another width; its values must fit the program's.
    if field.bitwidth as usize != width && field.type_name.is_none() {
        let (name, here) = (&field.name, field.bitwidth);
        return Err(Refusal::invalid(format!(
            "{owner}.{name} has {here} bits in the P4Info, {width} in the program"
        )));
    }
    Ok(Field {
        id: field.id,
        name: field.name.clone(),
        width: width as u32,
        kind,
        optional_as_ternary: false,
    })
}
