//! From the message to the typed view: every check of a P4Info, object by object.

use super::*;

impl P4Info {
    /// Check a message and resolve its references.
    pub fn new(message: config::P4Info) -> Result<P4Info, P4InfoError> {
        let direct_counters = Objects::new(each(&message.direct_counters, |counter| {
            Ok(DirectCounter {
                preamble: preamble("direct counter", &counter.preamble)?,
                unit: counter_unit(&counter.spec),
                table_id: counter.direct_table_id,
            })
        })?)?;
        let direct_meters = Objects::new(each(&message.direct_meters, |meter| {
            let (unit, meter_type) = meter_spec(&meter.spec);
            let preamble = preamble("direct meter", &meter.preamble)?;
            Ok(DirectMeter {
                preamble,
                unit,
                meter_type,
                table_id: meter.direct_table_id,
            })
        })?)?;
        let info = P4Info {
            tables: Objects::new(each(&message.tables, |table| {
                table_of(table, &direct_counters, &direct_meters)
            })?)?,
            actions: Objects::new(each(&message.actions, action_of)?)?,
            action_profiles: Objects::new(each(&message.action_profiles, action_profile_of)?)?,
            counters: Objects::new(each(&message.counters, |counter| {
                let preamble = preamble("counter", &counter.preamble)?;
                let size = size_of(&preamble, counter.size)?;
                Ok(Counter {
                    preamble,
                    unit: counter_unit(&counter.spec),
                    size,
                })
            })?)?,
            meters: Objects::new(each(&message.meters, |meter| {
                let (unit, meter_type) = meter_spec(&meter.spec);
                let preamble = preamble("meter", &meter.preamble)?;
                let size = size_of(&preamble, meter.size)?;
                Ok(Meter {
                    preamble,
                    unit,
                    meter_type,
                    size,
                })
            })?)?,
            controller_packet_metadata: Objects::new(each(&message.controller_packet_metadata, |header| {
                let fields = header.metadata.iter().map(|field| {
                    field_of(
                        &header.preamble,
                        field.id,
                        &field.name,
                        field.bitwidth,
                        &field.type_name,
                        &field.annotations,
                    )
                });
                let metadata = unique(&header.preamble, fields.collect::<Result<_, _>>()?)?;
                Ok(ControllerPacketMetadata {
                    preamble: preamble("packet metadata", &header.preamble)?,
                    metadata,
                })
            })?)?,
            value_sets: Objects::new(each(&message.value_sets, |set| {
                let preamble = preamble("value set", &set.preamble)?;
                let size = size_of(&preamble, set.size.into())?;
                Ok(ValueSet {
                    match_fields: match_fields_of(&set.preamble, &set.r#match)?,
                    preamble,
                    size,
                })
            })?)?,
            registers: Objects::new(each(&message.registers, |register| {
                let preamble = preamble("register", &register.preamble)?;
                let size = size_of(&preamble, register.size.into())?;
                Ok(Register {
                    preamble,
                    type_spec: register.type_spec.clone().unwrap_or_default(),
                    size,
                })
            })?)?,
            digests: Objects::new(each(&message.digests, |digest| {
                let type_spec = digest.type_spec.clone().unwrap_or_default();
                Ok(Digest {
                    preamble: preamble("digest", &digest.preamble)?,
                    type_spec,
                })
            })?)?,
            direct_counters,
            direct_meters,
            message,
        };
        info.check_references()?;
        Ok(info)
    }

    fn check_references(&self) -> Result<(), P4InfoError> {
        for table in self.tables.iter() {
            let from = || table.preamble.name.clone();
            for action in table
                .actions
                .iter()
                .map(|action| action.id)
                .chain(table.const_default_action)
            {
                if self.actions.get(action).is_none() {
                    return Err(P4InfoError::Reference {
                        from: from(),
                        id: action,
                    });
                }
            }
            if let Some(profile) = table.implementation
                && self.action_profiles.get(profile).is_none()
            {
                return Err(P4InfoError::Reference {
                    from: from(),
                    id: profile,
                });
            }
        }
        let tables = self
            .action_profiles
            .iter()
            .flat_map(|p| p.table_ids.iter().map(move |id| (&p.preamble, *id)));
        let counters = self.direct_counters.iter().map(|c| (&c.preamble, c.table_id));
        let meters = self.direct_meters.iter().map(|m| (&m.preamble, m.table_id));
        for (preamble, table) in tables.chain(counters).chain(meters) {
            if self.tables.get(table).is_none() {
                return Err(P4InfoError::Reference {
                    from: preamble.name.clone(),
                    id: table,
                });
            }
        }
        Ok(())
    }
}

fn each<M, T>(messages: &[M], convert: impl Fn(&M) -> Result<T, P4InfoError>) -> Result<Vec<T>, P4InfoError> {
    messages.iter().map(convert).collect()
}

fn preamble(kind: &'static str, message: &Option<config::Preamble>) -> Result<Preamble, P4InfoError> {
    let message = message.as_ref().ok_or(P4InfoError::NoPreamble { kind })?;
    Ok(Preamble {
        id: message.id,
        name: message.name.clone(),
        alias: message.alias.clone(),
        annotations: message.annotations.clone(),
    })
}

fn table_of(
    table: &config::Table,
    counters: &Objects<DirectCounter>,
    meters: &Objects<DirectMeter>,
) -> Result<Table, P4InfoError> {
    let preamble = preamble("table", &table.preamble)?;
    let mut result = Table {
        match_fields: match_fields_of(&table.preamble, &table.match_fields)?,
        actions: table
            .action_refs
            .iter()
            .map(|action| ActionRef {
                id: action.id,
                scope: scope(action),
            })
            .collect(),
        const_default_action: some_id(table.const_default_action_id),
        initial_default_action: table.initial_default_action.clone(),
        implementation: some_id(table.implementation_id),
        direct_counter: None,
        direct_meter: None,
        size: size_of(&preamble, table.size)?,
        idle_timeout: table.idle_timeout_behavior() == config::table::IdleTimeoutBehavior::NotifyControl,
        is_const: table.is_const_table,
        has_initial_entries: table.has_initial_entries,
        preamble,
    };
    for &id in &table.direct_resource_ids {
        match (counters.get(id), meters.get(id)) {
            (Some(counter), _) => result.direct_counter = Some(counter.unit),
            (_, Some(meter)) => result.direct_meter = Some((meter.unit, meter.meter_type)),
            _ => {
                return Err(P4InfoError::Reference {
                    from: result.preamble.name,
                    id,
                });
            }
        }
    }
    Ok(result)
}

fn action_of(action: &config::Action) -> Result<Action, P4InfoError> {
    let params = action.params.iter().map(|param| {
        field_of(
            &action.preamble,
            param.id,
            &param.name,
            param.bitwidth,
            &param.type_name,
            &param.annotations,
        )
    });
    let params = unique(&action.preamble, params.collect::<Result<_, _>>()?)?;
    Ok(Action {
        preamble: preamble("action", &action.preamble)?,
        params,
    })
}

fn action_profile_of(profile: &config::ActionProfile) -> Result<ActionProfile, P4InfoError> {
    use config::action_profile::SelectorSizeSemantics;
    let preamble = preamble("action profile", &profile.preamble)?;
    Ok(ActionProfile {
        table_ids: profile.table_ids.clone(),
        with_selector: profile.with_selector,
        size: size_of(&preamble, profile.size)?,
        max_group_size: size_of(&preamble, profile.max_group_size.into())? as u32,
        size_semantics: match &profile.selector_size_semantics {
            Some(SelectorSizeSemantics::SumOfMembers(members)) => SizeSemantics::SumOfMembers {
                max_member_weight: members.max_member_weight.max(0) as u32,
            },
            _ => SizeSemantics::SumOfWeights,
        },
        weights_disallowed: profile.weights_disallowed,
        preamble,
    })
}

fn match_fields_of(
    owner: &Option<config::Preamble>,
    fields: &[config::MatchField],
) -> Result<Vec<MatchField>, P4InfoError> {
    use config::match_field::{Match, MatchType};
    let fields: Vec<MatchField> = fields
        .iter()
        .map(|message| {
            let field = field_of(
                owner,
                message.id,
                &message.name,
                message.bitwidth,
                &message.type_name,
                &message.annotations,
            )?;
            let kind = match &message.r#match {
                Some(Match::MatchType(kind)) => MatchType::try_from(*kind).ok(),
                _ => None,
            };
            let kind = match kind {
                Some(MatchType::Exact) => MatchKind::Exact,
                Some(MatchType::Lpm) => MatchKind::Lpm,
                Some(MatchType::Ternary) => MatchKind::Ternary,
                Some(MatchType::Range) => MatchKind::Range,
                Some(MatchType::Optional) => MatchKind::Optional,
                _ => {
                    return Err(P4InfoError::MatchKind {
                        owner: name_of(owner),
                        field: field.name,
                    });
                }
            };
            Ok(MatchField { field, kind })
        })
        .collect::<Result<_, _>>()?;
    unique(owner, fields.iter().map(|field| field.field.clone()).collect())?;
    Ok(fields)
}

fn field_of(
    owner: &Option<config::Preamble>,
    id: u32,
    name: &str,
    bitwidth: i32,
    type_name: &Option<config::P4NamedType>,
    annotations: &[String],
) -> Result<Field, P4InfoError> {
    match u32::try_from(bitwidth) {
        Ok(width) if width <= MAX_BITWIDTH => Ok(Field {
            id,
            name: name.to_owned(),
            bitwidth: width,
            type_name: type_name.as_ref().map(|named| named.name.clone()),
            annotations: annotations.to_vec(),
        }),
        _ => Err(P4InfoError::Width {
            owner: name_of(owner),
            field: name.to_owned(),
            width: bitwidth,
        }),
    }
}

fn unique(owner: &Option<config::Preamble>, fields: Vec<Field>) -> Result<Vec<Field>, P4InfoError> {
    let mut ids = std::collections::HashSet::new();
    for field in &fields {
        if field.id == 0 || !ids.insert(field.id) {
            let name = format!("{}.{}", name_of(owner), field.name);
            return Err(P4InfoError::Id {
                kind: "field",
                name,
                id: field.id,
            });
        }
    }
    Ok(fields)
}

fn name_of(owner: &Option<config::Preamble>) -> String {
    owner.as_ref().map(|preamble| preamble.name.clone()).unwrap_or_default()
}

fn size_of(preamble: &Preamble, size: i64) -> Result<u64, P4InfoError> {
    u64::try_from(size).map_err(|_| P4InfoError::Size {
        name: preamble.name.clone(),
        size,
    })
}

fn some_id(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

fn scope(action: &config::ActionRef) -> ActionScope {
    match action.scope() {
        config::action_ref::Scope::TableOnly => ActionScope::TableOnly,
        config::action_ref::Scope::DefaultOnly => ActionScope::DefaultOnly,
        _ => ActionScope::TableAndDefault,
    }
}

fn counter_unit(spec: &Option<config::CounterSpec>) -> CounterUnit {
    use config::counter_spec::Unit;
    match spec.as_ref().map(|spec| spec.unit()) {
        Some(Unit::Bytes) => CounterUnit::Bytes,
        Some(Unit::Packets) => CounterUnit::Packets,
        _ => CounterUnit::Both,
    }
}

fn meter_spec(spec: &Option<config::MeterSpec>) -> (MeterUnit, MeterType) {
    use config::meter_spec::{Type, Unit};
    let unit = match spec.as_ref().map(|spec| spec.unit()) {
        Some(Unit::Packets) => MeterUnit::Packets,
        _ => MeterUnit::Bytes,
    };
    let meter_type = match spec.as_ref().map(|spec| spec.r#type()) {
        Some(Type::SingleRateThreeColor) => MeterType::SingleRateThreeColor,
        Some(Type::SingleRateTwoColor) => MeterType::SingleRateTwoColor,
        _ => MeterType::TwoRateThreeColor,
    };
    (unit, meter_type)
}
