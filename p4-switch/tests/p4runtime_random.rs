//! Random conversations with the server: requests that are nearly right, and the corpus of the fuzz target. Nothing a
//! client says makes the server panic, and what it reads can always be written.

#[path = "../../fuzz/entry/p4runtime_request.rs"]
mod entry;

use p4runtime::P4Info;
use p4runtime::client::uint128;
use p4runtime::entity::{delete, insert, modify};
use p4runtime::v1;
use p4runtime::v1::field_match::FieldMatchType;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

fn info() -> P4Info {
    P4Info::from_text(include_str!("programs/entities.p4info.txtpb")).expect("valid")
}

/// Mostly one of these, sometimes anything.
fn mostly(ids: Vec<u32>) -> impl Strategy<Value = u32> + Clone {
    prop_oneof![20 => proptest::sample::select(ids), 1 => any::<u32>(), 1 => Just(0)]
}

fn value() -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![8 => vec(any::<u8>(), 1..3), 2 => vec(any::<u8>(), 0..8), 1 => Just(vec![0, 0, 1])]
}

fn small() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![8 => 0i64..20, 1 => any::<i64>()]
}

fn field_match() -> impl Strategy<Value = v1::FieldMatch> + Clone {
    let matched = prop_oneof![
        value().prop_map(|value| FieldMatchType::Exact(v1::field_match::Exact { value })),
        value().prop_map(|value| FieldMatchType::Optional(v1::field_match::Optional { value })),
        (value(), value()).prop_map(|(value, mask)| FieldMatchType::Ternary(v1::field_match::Ternary { value, mask })),
        (value(), value()).prop_map(|(low, high)| FieldMatchType::Range(v1::field_match::Range { low, high })),
        (value(), -1i32..40)
            .prop_map(|(value, prefix_len)| FieldMatchType::Lpm(v1::field_match::Lpm { value, prefix_len })),
    ];
    (0u32..5, proptest::option::weighted(0.95, matched)).prop_map(|(field_id, field_match_type)| v1::FieldMatch {
        field_id,
        field_match_type,
    })
}

fn action() -> impl Strategy<Value = v1::Action> + Clone {
    let ids = info().actions.iter().map(|action| action.preamble.id).collect();
    let param = (0u32..4, value()).prop_map(|(param_id, value)| v1::action::Param { param_id, value });
    (mostly(ids), vec(param, 0..4)).prop_map(|(action_id, params)| v1::Action { action_id, params })
}

fn table_action() -> impl Strategy<Value = v1::TableAction> + Clone {
    use v1::table_action::Type;
    let weighted = (action(), -1i32..5, proptest::option::of(value())).prop_map(|(action, weight, port)| {
        let watch_kind = port.map(v1::action_profile_action::WatchKind::WatchPort);
        v1::ActionProfileAction {
            action: Some(action),
            weight,
            watch_kind,
        }
    });
    let kind = prop_oneof![
        6 => action().prop_map(Type::Action),
        1 => (0u32..4).prop_map(Type::ActionProfileMemberId),
        1 => (0u32..4).prop_map(Type::ActionProfileGroupId),
        2 => vec(weighted, 0..4).prop_map(|action_profile_actions| {
            Type::ActionProfileActionSet(v1::ActionProfileActionSet { action_profile_actions, ..Default::default() })
        }),
    ];
    kind.prop_map(|kind| v1::TableAction { r#type: Some(kind) })
}

fn counter_data() -> impl Strategy<Value = v1::CounterData> + Clone {
    (small(), small()).prop_map(|(byte_count, packet_count)| v1::CounterData {
        byte_count,
        packet_count,
    })
}

fn meter_config() -> impl Strategy<Value = v1::MeterConfig> + Clone {
    (small(), small(), small(), small(), 0i64..2).prop_map(|(cir, cburst, pir, pburst, eburst)| v1::MeterConfig {
        cir,
        cburst,
        pir,
        pburst,
        eburst,
    })
}

/// An entry whose table, fields and action have nothing to do with one another; and often one that is nearly right.
fn table_entry() -> impl Strategy<Value = v1::TableEntry> + Clone {
    let ids: Vec<u32> = info().tables.iter().map(|table| table.preamble.id).collect();
    let wild = (
        mostly(ids),
        vec(field_match(), 0..4),
        proptest::option::of(table_action()),
        -1i32..4,
    );
    let wild = wild.prop_map(|(table_id, r#match, action, priority)| v1::TableEntry {
        table_id,
        r#match,
        action,
        priority,
        ..Default::default()
    });
    let extras = (
        proptest::option::weighted(0.1, counter_data()),
        proptest::option::weighted(0.1, meter_config()),
        proptest::bool::weighted(0.1),
        vec(any::<u8>(), 0..3),
        prop_oneof![9 => Just(0), 1 => small()],
    );
    let changes = |entry: &mut v1::TableEntry, extras| {
        (
            entry.counter_data,
            entry.meter_config,
            entry.is_default_action,
            entry.metadata,
            entry.idle_timeout_ns,
        ) = extras;
    };
    prop_oneof![wild, session(), acl()].prop_flat_map(move |entry| {
        extras.clone().prop_map(move |extras| {
            let mut entry = entry.clone();
            changes(&mut entry, extras);
            entry
        })
    })
}

fn session() -> impl Strategy<Value = v1::TableEntry> + Clone {
    (0u16..8, 0u16..600, any::<u8>()).prop_map(|(teid, port, session)| {
        let info = info();
        let port = port.min(511);
        p4runtime::TableEntry::new(&info, "sessions")
            .match_exact("address", 1u8)
            .match_exact("teid", teid)
            .action("forward_session")
            .param("port", port)
            .param("session", session)
            .build()
            .expect("valid")
    })
}

fn acl() -> impl Strategy<Value = v1::TableEntry> + Clone {
    (any::<(u32, u32, u16, u16, u8)>(), 1i32..4).prop_map(|((source, mask, one, other, protocol), priority)| {
        let info = info();
        let entry = p4runtime::TableEntry::new(&info, "acl")
            .priority(priority)
            .match_ternary("source", source, mask)
            .match_range("length", one.min(other), one.max(other));
        let entry = if protocol % 2 == 0 {
            entry.match_optional("protocol", protocol)
        } else {
            entry
        };
        entry.action("drop").build().expect("valid")
    })
}

fn other_entity() -> impl Strategy<Value = v1::Entity> + Clone {
    let info = info();
    let id = |ids: Vec<u32>| mostly(ids);
    let profiles: Vec<u32> = info.action_profiles.iter().map(|object| object.preamble.id).collect();
    let counters = info.counters.iter().map(|object| object.preamble.id).collect();
    let meters = info.meters.iter().map(|object| object.preamble.id).collect();
    let registers = info.registers.iter().map(|object| object.preamble.id).collect();
    let digests = info.digests.iter().map(|object| object.preamble.id).collect();
    let sets = info.value_sets.iter().map(|object| object.preamble.id).collect();
    let index = || proptest::option::of(small().prop_map(|index| v1::Index { index }));
    let replica = (value(), 0u32..70_000).prop_map(|(port, instance)| v1::Replica {
        port_kind: Some(v1::replica::PortKind::Port(port)),
        instance,
        backup_replicas: Vec::new(),
    });
    let member = (0u32..4, -1i32..4).prop_map(|(member_id, weight)| v1::action_profile_group::Member {
        member_id,
        weight,
        watch_kind: None,
    });
    let data = prop_oneof![
        value().prop_map(v1::p4_data::Data::Bitstring),
        any::<bool>().prop_map(v1::p4_data::Data::Bool)
    ];
    prop_oneof![
        (id(profiles.clone()), 0u32..4, proptest::option::of(action())).prop_map(
            |(action_profile_id, member_id, action)| {
                v1::ActionProfileMember {
                    action_profile_id,
                    member_id,
                    action,
                }
                .into()
            }
        ),
        (id(profiles), 0u32..4, vec(member, 0..3), -1i32..8).prop_map(
            |(action_profile_id, group_id, members, max_size)| {
                v1::ActionProfileGroup {
                    action_profile_id,
                    group_id,
                    members,
                    max_size,
                }
                .into()
            }
        ),
        (id(counters), index(), proptest::option::of(counter_data())).prop_map(|(counter_id, index, data)| {
            v1::CounterEntry {
                counter_id,
                index,
                data,
            }
            .into()
        }),
        (id(meters), index(), proptest::option::of(meter_config())).prop_map(|(meter_id, index, config)| {
            v1::MeterEntry {
                meter_id,
                index,
                config,
                counter_data: None,
            }
            .into()
        }),
        (id(registers), index(), proptest::option::of(data)).prop_map(|(register_id, index, data)| {
            v1::RegisterEntry {
                register_id,
                index,
                data: Some(v1::P4Data { data }),
            }
            .into()
        }),
        (id(digests), small(), any::<i32>(), small()).prop_map(|(digest_id, max_timeout_ns, max_list_size, ack)| {
            let config = v1::digest_entry::Config {
                max_timeout_ns,
                max_list_size,
                ack_timeout_ns: ack,
            };
            v1::DigestEntry {
                digest_id,
                config: Some(config),
            }
            .into()
        }),
        (id(sets), vec(vec(field_match(), 0..2), 0..6)).prop_map(|(value_set_id, members)| {
            let members = members
                .into_iter()
                .map(|r#match| v1::ValueSetMember { r#match })
                .collect();
            v1::ValueSetEntry { value_set_id, members }.into()
        }),
        (0u32..4, vec(replica.clone(), 0..4)).prop_map(|(multicast_group_id, replicas)| {
            v1::MulticastGroupEntry {
                multicast_group_id,
                replicas,
                metadata: Vec::new(),
            }
            .into()
        }),
        (0u32..4, vec(replica, 0..4), small()).prop_map(|(session_id, replicas, length)| {
            let packet_length_bytes = length as i32;
            v1::CloneSessionEntry {
                session_id,
                replicas,
                class_of_service: 1,
                packet_length_bytes,
            }
            .into()
        }),
        (table_entry(), proptest::option::of(counter_data())).prop_map(|(entry, data)| {
            v1::DirectCounterEntry {
                table_entry: Some(entry),
                data,
            }
            .into()
        }),
        (table_entry(), proptest::option::of(meter_config())).prop_map(|(entry, config)| {
            v1::DirectMeterEntry {
                table_entry: Some(entry),
                config,
                counter_data: None,
            }
            .into()
        }),
    ]
}

fn entity() -> impl Strategy<Value = v1::Entity> + Clone {
    prop_oneof![table_entry().prop_map(v1::Entity::from), other_entity()]
}

/// Which RPC, and its message.
fn request() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let update = (entity(), 0u8..6).prop_map(|(entity, kind)| match kind {
        0..4 => insert(entity),
        4 => modify(entity),
        _ => delete(entity),
    });
    let write = (vec(update, 0..12), 0i32..3).prop_map(|(updates, atomicity)| {
        let election_id = Some(uint128(1));
        (
            0,
            v1::WriteRequest {
                updates,
                atomicity,
                election_id,
                ..Default::default()
            }
            .encode_to_vec(),
        )
    });
    let read = vec(entity(), 0..4).prop_map(|entities| {
        (
            2,
            v1::ReadRequest {
                entities,
                ..Default::default()
            }
            .encode_to_vec(),
        )
    });
    let metadata = (0u32..4, value()).prop_map(|(metadata_id, value)| v1::PacketMetadata { metadata_id, value });
    let packet = (vec(any::<u8>(), 0..40), vec(metadata, 0..3)).prop_map(|(payload, metadata)| {
        let update = v1::stream_message_request::Update::Packet(v1::PacketOut { payload, metadata });
        (3, v1::StreamMessageRequest { update: Some(update) }.encode_to_vec())
    });
    let noise = (any::<u8>(), vec(any::<u8>(), 0..40));
    prop_oneof![8 => write, 3 => read, 1 => packet, 1 => noise]
}

/// A conversation in the fuzz target's form.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    vec(request(), 1..8).prop_map(|requests| {
        let mut octets = Vec::new();
        for (rpc, message) in requests {
            octets.push(rpc);
            octets.extend((message.len() as u16).to_be_bytes());
            octets.extend(message);
        }
        octets
    })
}

proptest! {
    #[test]
    fn no_conversation_makes_the_server_panic(conversation in conversation()) {
        entry::p4runtime_request(&conversation);
    }
}

#[test]
fn the_corpus_of_p4runtime_request_is_answered_without_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/p4runtime_request");
    let files = std::fs::read_dir(corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    let mut inputs = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entry::p4runtime_request(&input);
        inputs += 1;
    }
    assert!(inputs > 0, "{corpus} is empty");
}
