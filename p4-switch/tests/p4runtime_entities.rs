//! Every entity over P4Runtime: written, read back the same, and met by packets.

mod target;

use std::time::Duration;

use p4runtime::client::{Atomicity, Event};
use p4runtime::entity::{self, delete, insert, modify};
use p4runtime::entry::ActionCall;
use p4runtime::v1;
use p4runtime::{Client, EntryView, P4Info, TableEntry, Value};
use target::{Packet, SOON, Target, write};
use tonic::Code;

fn session(info: &P4Info, teid: u16) -> TableEntry<'_> {
    TableEntry::new(info, "In.sessions")
        .match_exact("address", 0x0a00_0001u32)
        .match_exact("teid", teid)
}

fn forwarding(info: &P4Info, teid: u16, port: u16) -> TableEntry<'_> {
    session(info, teid)
        .action("In.forward_session")
        .param("port", port)
        .param("session", 5u8)
}

async fn read_one(client: &Client, entity: impl Into<v1::Entity>) -> v1::Entity {
    let mut found = client.read(vec![entity.into()]).await.expect("readable");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Write, read back, and expect the same.
async fn symmetric(client: &Client, entity: impl Into<v1::Entity>, key: impl Into<v1::Entity>) {
    let entity = entity.into();
    write(client, [insert(entity.clone())]).await;
    assert_eq!(read_one(client, key).await, entity);
}

#[tokio::test]
async fn entries_are_inserted_modified_deleted_and_packets_follow() {
    let (target, client, _events) = Target::start().await;
    let packet = Packet {
        id: 300,
        ..Packet::default()
    }
    .octets();
    let ports = |port| {
        target
            .inject(port, &packet)
            .iter()
            .map(|output| output.port)
            .collect::<Vec<_>>()
    };
    assert_ne!(ports(1), [3]);
    write(&client, [forwarding(&target.info, 300, 3).insert().expect("valid")]).await;
    assert_eq!(ports(1), [3]);
    write(&client, [forwarding(&target.info, 300, 4).modify().expect("valid")]).await;
    assert_eq!(ports(1), [4]);
    let found = client
        .read_entries(session(&target.info, 300).key().expect("valid"))
        .await
        .expect("readable");
    let view = EntryView::new(&target.info, &found[0]).expect("of this P4Info");
    assert_eq!(
        (view.number("teid"), view.param("port"), view.param("session")),
        (Some(300), Some(4), Some(5))
    );
    write(&client, [session(&target.info, 300).delete().expect("valid")]).await;
    assert_ne!(ports(1), [4]);
    assert!(
        client
            .read_entries(v1::TableEntry::default())
            .await
            .expect("readable")
            .iter()
            .all(|e| e.is_const)
    );
}

#[tokio::test]
async fn every_kind_of_match_is_answered_as_written() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let entry = TableEntry::new(info, "In.acl")
        .priority(10)
        .match_ternary("source", 0x0a00_0000u32, 0xff00_0000u32)
        .match_range("length", 40u16, 60u16)
        .match_optional("protocol", 17u8)
        .metadata([1, 2, 3])
        .action("In.flood")
        .param("group", 1u8);
    let entry = entry.build().expect("valid");
    symmetric(&client, entry.clone(), entry).await;
    let any = TableEntry::new(info, "In.acl")
        .priority(1)
        .action("In.drop")
        .build()
        .expect("valid");
    let key = v1::TableEntry {
        action: None,
        ..any.clone()
    };
    symmetric(&client, any, key).await;
}

#[tokio::test]
async fn reads_filter_by_table_action_priority_and_metadata() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let acl = |priority| {
        TableEntry::new(info, "acl")
            .priority(priority)
            .match_optional("protocol", priority as u8)
    };
    write(
        &client,
        [
            acl(1).action("drop").insert().expect("valid"),
            acl(2).action("drop").metadata([9]).insert().expect("valid"),
            acl(3).action("forward").param("port", 1u8).insert().expect("valid"),
            forwarding(info, 1, 1).insert().expect("valid"),
        ],
    )
    .await;
    let count = async |filter| client.read_entries(filter).await.expect("readable").len();
    let table = entity::all_entries(info, Some("acl"), false).expect("a table");
    assert_eq!(count(table.clone()).await, 3);
    assert_eq!(count(v1::TableEntry::default()).await, 5, "four, and the constant one");
    assert_eq!(
        count(v1::TableEntry {
            priority: 2,
            ..table.clone()
        })
        .await,
        1
    );
    assert_eq!(
        count(v1::TableEntry {
            metadata: vec![9],
            ..table.clone()
        })
        .await,
        1
    );
    let drop = acl(1).action("drop").build().expect("valid");
    assert_eq!(
        count(v1::TableEntry {
            action: drop.action,
            ..table.clone()
        })
        .await,
        2
    );
    let key_of_any_priority = v1::TableEntry {
        priority: 0,
        ..acl(3).key().expect("valid")
    };
    assert_eq!(count(key_of_any_priority).await, 1);
    assert_eq!(count(acl(4).key().expect("valid")).await, 0);
}

#[tokio::test]
async fn default_actions_are_modified_read_and_reset() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let table = |entry: v1::TableEntry| v1::TableEntry { action: None, ..entry };
    let entry = TableEntry::default_of(info, "sessions")
        .action("drop")
        .build()
        .expect("valid");
    write(&client, [modify(entry.clone())]).await;
    assert_eq!(read_one(&client, table(entry.clone())).await, entry.clone().into());
    assert!(target.inject(1, &Packet::default().octets()).is_empty());
    write(&client, [modify(table(entry.clone()))]).await;
    let v1::Entity {
        entity: Some(v1::entity::Entity::TableEntry(found)),
    } = read_one(&client, table(entry)).await
    else {
        panic!("a table entry")
    };
    assert_eq!(
        EntryView::new(info, &found)
            .expect("valid")
            .action
            .expect("an action")
            .name,
        "NoAction"
    );
    let all = v1::TableEntry {
        is_default_action: true,
        ..Default::default()
    };
    assert!(client.read_entries(all).await.expect("readable").len() >= 4);
}

#[tokio::test]
async fn direct_counters_count_and_direct_meters_are_reset_by_a_modify_without() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let rates = v1::MeterConfig {
        cir: 1000,
        cburst: 2000,
        pir: 3000,
        pburst: 4000,
        eburst: 0,
    };
    write(&client, [forwarding(info, 1, 1).meter(rates).insert().expect("valid")]).await;
    target.inject(1, &Packet::default().octets());
    target.inject(1, &Packet::default().octets());
    let key = session(info, 1).key().expect("valid");
    let counter = v1::DirectCounterEntry {
        table_entry: Some(key.clone()),
        data: None,
    };
    let data = Some(v1::CounterData {
        byte_count: 120,
        packet_count: 2,
    });
    assert_eq!(
        read_one(&client, counter).await,
        v1::DirectCounterEntry {
            table_entry: Some(key.clone()),
            data
        }
        .into()
    );

    let asked = v1::TableEntry {
        counter_data: Some(v1::CounterData::default()),
        meter_config: Some(v1::MeterConfig::default()),
        ..key.clone()
    };
    let found = &client.read_entries(asked).await.expect("readable")[0];
    assert_eq!((found.counter_data, found.meter_config), (data, Some(rates)));
    let found = &client.read_entries(key.clone()).await.expect("readable")[0];
    assert_eq!(
        (found.counter_data, found.meter_config),
        (None, None),
        "neither was asked for"
    );

    let meter = |config| v1::DirectMeterEntry {
        table_entry: Some(key.clone()),
        config,
        counter_data: None,
    };
    write(&client, [forwarding(info, 1, 2).modify().expect("valid")]).await;
    assert_eq!(read_one(&client, meter(None)).await, meter(None).into());
    write(&client, [modify(meter(Some(rates)))]).await;
    assert_eq!(read_one(&client, meter(None)).await, meter(Some(rates)).into());

    let data = Some(v1::CounterData {
        byte_count: 7,
        packet_count: 8,
    });
    let counter = v1::DirectCounterEntry {
        table_entry: Some(key),
        data,
    };
    write(&client, [modify(counter.clone())]).await;
    assert_eq!(read_one(&client, counter.clone()).await, counter.into());
}

#[tokio::test]
async fn indirect_counters_meters_and_registers_have_cells() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    target.inject(3, &Packet::default().octets());
    let cell = |index, data| entity::counter(info, "port_counter", index, data).expect("a counter");
    let counted = v1::CounterData {
        byte_count: 60,
        packet_count: 1,
    };
    assert_eq!(
        read_one(&client, cell(Some(3), None)).await,
        cell(Some(3), Some(counted)).into()
    );
    assert_eq!(
        client
            .read(vec![cell(None, None).into()])
            .await
            .expect("readable")
            .len(),
        16
    );
    write(&client, [modify(cell(None, Some(v1::CounterData::default())))]).await;
    assert_eq!(
        read_one(&client, cell(Some(3), None)).await,
        cell(Some(3), Some(Default::default())).into()
    );

    let rates = v1::MeterConfig {
        cir: 1,
        cburst: 2,
        pir: 3,
        pburst: 4,
        eburst: 0,
    };
    let cell = |index, config| entity::meter(info, "port_meter", index, config).expect("a meter");
    write(&client, [modify(cell(Some(2), Some(rates)))]).await;
    assert_eq!(
        read_one(&client, cell(Some(2), None)).await,
        cell(Some(2), Some(rates)).into()
    );
    assert_eq!(read_one(&client, cell(Some(1), None)).await, cell(Some(1), None).into());

    let cell = |index, value: Option<u32>| {
        entity::register(info, "last_length", index, value.map(Value::from)).expect("a register")
    };
    assert_eq!(
        read_one(&client, cell(Some(3), None)).await,
        cell(Some(3), Some(60)).into()
    );
    write(&client, [modify(cell(Some(15), Some(0x0102_0304)))]).await;
    assert_eq!(
        read_one(&client, cell(Some(15), None)).await,
        cell(Some(15), Some(0x0102_0304)).into()
    );
    assert_eq!(
        client
            .read(vec![v1::RegisterEntry::default().into()])
            .await
            .expect("readable")
            .len(),
        16
    );
}

#[tokio::test]
async fn action_profiles_have_members_and_selectors_have_weighted_groups() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let hop = |member, port: u8| {
        entity::member(
            info,
            "hops",
            member,
            ActionCall::new(info, "forward").param("port", port),
        )
        .expect("valid")
    };
    let group = |members: &[(u32, i32)]| entity::group(info, "hops", 9, members.iter().copied()).expect("valid");
    write(&client, [insert(hop(1, 1)), insert(hop(2, 2))]).await;
    symmetric(&client, group(&[(1, 3), (2, 1)]), group(&[])).await;
    let route = TableEntry::new(info, "routes")
        .match_lpm("destination", 0x0a00_0000u32, 8)
        .group(9);
    let route = route.build().expect("valid");
    symmetric(&client, route.clone(), v1::TableEntry { action: None, ..route }).await;

    let mut ports = [0; 3];
    for id in 0..400 {
        let packet = Packet {
            id,
            source: u32::from(id) * 0x0101,
            ..Packet::default()
        };
        for output in target.inject(5, &packet.octets()) {
            ports[output.port as usize] += 1;
        }
    }
    assert_eq!(ports[1] + ports[2], 400);
    assert!(ports[1] > ports[2] && ports[2] > 0, "{ports:?}");

    write(&client, [modify(group(&[(2, 1)]))]).await;
    assert_eq!(target.inject(5, &Packet::default().octets())[0].port, 2);
    let in_use = target::refused(&client, delete(hop(2, 2))).await;
    assert_eq!(in_use, Code::FailedPrecondition);
    let all = v1::ActionProfileMember::default();
    assert_eq!(client.read(vec![all.into()]).await.expect("readable").len(), 2);

    let class = ActionCall::new(info, "set_tos").param("tos", 0x2eu8);
    write(
        &client,
        [insert(entity::member(info, "classes", 1, class).expect("valid"))],
    )
    .await;
    let marking = TableEntry::new(info, "marking").match_exact("protocol", 17u8).member(1);
    write(&client, [marking.insert().expect("valid")]).await;
    assert_eq!(target.inject(5, &Packet::default().octets())[0].bytes[15], 0x2e);
}

#[tokio::test]
async fn a_one_shot_selector_is_answered_as_written() {
    let (target, client, _events) = Target::start().await;
    let entry = TableEntry::new(&target.info, "routes")
        .match_lpm("destination", 0x0a00_0000u32, 8)
        .one_shot()
        .action("forward")
        .param("port", 1u8)
        .weight(1)
        .action("forward")
        .param("port", 2u8)
        .weight(3)
        .watch_port(2u8)
        .build()
        .expect("valid");
    symmetric(&client, entry.clone(), v1::TableEntry { action: None, ..entry }).await;
    assert!([1, 2].contains(&target.inject(5, &Packet::default().octets())[0].port));
}

#[tokio::test]
async fn packets_are_multicast_and_cloned() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let mut group = entity::multicast_group(1, [(2, 1), (3, 2)]);
    group.metadata = vec![4, 5];
    symmetric(&client, group.clone(), entity::multicast_group(1, [])).await;
    let flood = TableEntry::new(info, "acl")
        .priority(1)
        .action("flood")
        .param("group", 1u8);
    write(&client, [flood.insert().expect("valid")]).await;
    let mut ports: Vec<u32> = target
        .inject(1, &Packet::default().octets())
        .iter()
        .map(|o| o.port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [2, 3]);
    assert_eq!(
        client
            .read(vec![entity::multicast_group(0, []).into()])
            .await
            .expect("readable")
            .len(),
        1
    );

    symmetric(
        &client,
        entity::clone_session(5, [(7, 1)], 20),
        entity::clone_session(5, [], 0),
    )
    .await;
    let mirror = TableEntry::new(info, "acl").priority(2).match_optional("protocol", 1u8);
    let mirror = mirror.action("mirror").param("session", 5u8).insert().expect("valid");
    let session = forwarding(info, 1, 4).insert().expect("valid");
    write(&client, [mirror, session]).await;
    let mut outputs = target.inject(
        1,
        &Packet {
            protocol: 1,
            ..Packet::default()
        }
        .octets(),
    );
    outputs.sort_by_key(|output| output.port);
    assert_eq!(
        outputs.iter().map(|o| (o.port, o.bytes.len())).collect::<Vec<_>>(),
        [(4, 60), (7, 20)]
    );
    write(
        &client,
        [
            delete(entity::clone_session(5, [], 0)),
            delete(entity::multicast_group(1, [])),
        ],
    )
    .await;
    assert!(
        client
            .read(vec![entity::clone_session(0, [], 0).into()])
            .await
            .expect("readable")
            .is_empty()
    );
}

#[tokio::test]
async fn a_value_set_changes_what_the_parser_takes() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    write(&client, [forwarding(info, 1, 6).insert().expect("valid")]).await;
    let packet = Packet {
        ethertype: 0x1234,
        ..Packet::default()
    }
    .octets();
    let ports = || {
        target
            .inject(1, &packet)
            .iter()
            .map(|output| output.port)
            .collect::<Vec<_>>()
    };
    assert_ne!(ports(), [6]);
    let types = |types: &[u16]| {
        let members = types.iter().map(|ethertype| vec![Value::from(*ethertype)]);
        entity::value_set(info, "experimental_types", members).expect("valid")
    };
    write(&client, [modify(types(&[0x1234, 0x4321]))]).await;
    assert_eq!(ports(), [6]);
    assert_eq!(read_one(&client, types(&[])).await, types(&[0x1234, 0x4321]).into());
    write(&client, [modify(types(&[]))]).await;
    assert_ne!(ports(), [6]);
}

#[tokio::test]
async fn digests_are_gathered_filtered_and_acknowledged() {
    let (target, client, mut events) = Target::start().await;
    let info = &target.info;
    let config = v1::digest_entry::Config {
        max_timeout_ns: 0,
        max_list_size: 1,
        ack_timeout_ns: 60_000_000_000,
    };
    let digest = entity::digest(info, "learn_t", Some(config)).expect("a digest");
    symmetric(
        &client,
        digest,
        entity::digest(info, "learn_t", None).expect("a digest"),
    )
    .await;
    let learning = Packet {
        ethertype: 0x88b5,
        ..Packet::default()
    }
    .octets();
    target.inject(4, &learning);
    target.inject(4, &learning); // the same again: not sent before it is acknowledged
    let Some(Event::Digest(list)) = events.next().await else {
        panic!("a digest")
    };
    let bits = |value: &[u8]| v1::P4Data {
        data: Some(v1::p4_data::Data::Bitstring(value.to_vec())),
    };
    let members = vec![bits(&[2, 0, 0, 0, 0, 2]), bits(&[4])];
    let learned = v1::P4Data {
        data: Some(v1::p4_data::Data::Struct(v1::P4StructLike { members })),
    };
    assert_eq!(list.data, [learned]);
    client.acknowledge(&list).await.expect("there is a stream");
    target.inject(5, &learning);
    let Some(Event::Digest(next)) = events.next().await else {
        panic!("another digest")
    };
    assert_ne!(next.list_id, list.list_id);
    assert_eq!(next.data.len(), 1, "port 5, and port 4 only once");
}

#[tokio::test]
async fn packets_go_to_the_controller_and_come_from_it() {
    let (target, client, mut events) = Target::start().await;
    let info = &target.info;
    write(
        &client,
        [session(info, 1).action("to_controller").insert().expect("valid")],
    )
    .await;
    let packet = Packet::default().octets();
    target.inject(9, &packet);
    let Some(Event::Packet(received)) = events.next().await else {
        panic!("a packet")
    };
    let metadata = entity::packet_metadata(info, "packet_in", &[("ingress_port", 9u8.into()), ("_pad", 0u8.into())]);
    assert_eq!(
        (received.payload, received.metadata),
        (packet.clone(), metadata.expect("valid"))
    );

    let metadata = entity::packet_metadata(info, "packet_out", &[("egress_port", 3u8.into()), ("_pad", 0u8.into())]);
    let mut out = v1::PacketOut {
        payload: packet,
        metadata: metadata.expect("valid"),
    };
    client.packet_out(out.clone()).await.expect("there is a stream");
    out.metadata[0].metadata_id = 77;
    client.packet_out(out.clone()).await.expect("there is a stream");
    let Some(Event::Error(error)) = events.next().await else {
        panic!("an error")
    };
    assert_eq!(Code::from_i32(error.canonical_code), Code::InvalidArgument);
    let about = v1::stream_error::Details::PacketOut(v1::PacketOutError { packet_out: Some(out) });
    assert_eq!(error.details, Some(about));
}

#[tokio::test]
async fn batches_are_all_or_nothing_where_that_is_asked_for() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let insert = |teid| forwarding(info, teid, 1).insert().expect("valid");
    let count = async || client.read_entries(session_table(info)).await.expect("readable").len();
    for atomicity in [Atomicity::DataplaneAtomic, Atomicity::RollbackOnError] {
        let error = client
            .write(vec![insert(1), insert(2), insert(1)], atomicity)
            .await
            .expect_err("1 twice");
        let codes: Vec<_> = error.updates().iter().map(|error| error.code).collect();
        assert_eq!(codes, [Code::Aborted, Code::Aborted, Code::AlreadyExists]);
        assert_eq!(count().await, 0);
    }
    let error = client
        .write(vec![insert(1), insert(1), insert(2)], Atomicity::ContinueOnError)
        .await;
    let error = error.expect_err("1 twice");
    assert_eq!(
        error.updates().iter().map(|e| (e.index, e.code)).collect::<Vec<_>>(),
        [(1, Code::AlreadyExists)]
    );
    assert_eq!(count().await, 2);
    client
        .write(vec![insert(3), insert(4)], Atomicity::DataplaneAtomic)
        .await
        .expect("both are new");
    assert_eq!(count().await, 4);
}

fn session_table(info: &P4Info) -> v1::TableEntry {
    entity::all_entries(info, Some("sessions"), false).expect("a table")
}

#[tokio::test]
async fn sixty_five_thousand_entries_are_written_read_and_compared() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let entries: Vec<v1::TableEntry> = (0..65_000)
        .map(|teid| forwarding(info, teid, teid % 500).build().expect("valid"))
        .collect();
    let updates = entries.iter().cloned().map(insert).collect();
    client.write_all(updates, 512).await.expect("there is room");
    let expected: Vec<v1::Entity> = entries.into_iter().map(Into::into).collect();
    let difference = client
        .compare(vec![session_table(info).into()], &expected)
        .await
        .expect("readable");
    assert!(difference.is_empty());
}

#[tokio::test]
async fn an_entry_that_nothing_hits_is_reported_idle() {
    let (target, client, mut events) = Target::start().await;
    let info = &target.info;
    let timeout = Duration::from_millis(20);
    write(
        &client,
        [forwarding(info, 1, 1)
            .idle_timeout(timeout)
            .metadata([3])
            .insert()
            .expect("valid")],
    )
    .await;
    let idle = async {
        loop {
            target.inject(
                1,
                &Packet {
                    id: 2,
                    ..Packet::default()
                }
                .octets(),
            );
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::IdleTimeout(notification)) => break notification,
                    other => panic!("{other:?} instead of an idle timeout"),
                },
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    };
    let notification = tokio::time::timeout(SOON, idle).await.expect("it is reported");
    let entry = &notification.table_entry[0];
    let view = EntryView::new(info, entry).expect("valid");
    assert_eq!(
        (view.number("teid"), entry.idle_timeout_ns, &entry.metadata[..]),
        (Some(1), 20_000_000, &[3][..])
    );
    let asked = v1::TableEntry {
        time_since_last_hit: Some(v1::table_entry::IdleTimeout::default()),
        ..session(info, 1).key().expect("valid")
    };
    assert!(
        client.read_entries(asked).await.expect("readable")[0]
            .time_since_last_hit
            .is_some()
    );
}
