//! What a client may do wrong, and the specification's code for it.

mod target;

use p4runtime::client::{Atomicity, Event, PipelineAction, uint128};
use p4runtime::entity::{self, delete, insert, modify};
use p4runtime::v1;
use p4runtime::v1::p4_runtime_client::P4RuntimeClient;
use p4runtime::{Client, Options, P4Info, State, TableEntry};
use target::{PROGRAM, SOON, Target, refused, write};
use tonic::Code;

fn session(info: &P4Info, teid: u16) -> v1::TableEntry {
    TableEntry::new(info, "sessions")
        .match_exact("address", 1u8)
        .match_exact("teid", teid)
        .action("forward_session")
        .param("port", 1u8)
        .param("session", 1u8)
        .build()
        .expect("valid")
}

fn acl(info: &P4Info) -> v1::TableEntry {
    TableEntry::new(info, "acl")
        .priority(1)
        .action("drop")
        .build()
        .expect("valid")
}

/// An entry with one thing changed.
fn with(entry: &v1::TableEntry, change: impl FnOnce(&mut v1::TableEntry)) -> v1::Update {
    let mut entry = entry.clone();
    change(&mut entry);
    insert(entry)
}

fn exact(value: &[u8]) -> Option<v1::field_match::FieldMatchType> {
    Some(v1::field_match::FieldMatchType::Exact(v1::field_match::Exact {
        value: value.to_vec(),
    }))
}

fn params(entry: &mut v1::TableEntry) -> &mut Vec<v1::action::Param> {
    match entry.action.as_mut().and_then(|action| action.r#type.as_mut()) {
        Some(v1::table_action::Type::Action(action)) => &mut action.params,
        _ => panic!("a direct action"),
    }
}

#[tokio::test]
async fn malformed_table_entries_are_invalid_arguments() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let (session, acl) = (session(info, 1), acl(info));
    let field = |field_id, field_match_type| v1::FieldMatch {
        field_id,
        field_match_type,
    };
    let ternary = |value: &[u8], mask: &[u8]| {
        let (value, mask) = (value.to_vec(), mask.to_vec());
        Some(v1::field_match::FieldMatchType::Ternary(v1::field_match::Ternary {
            value,
            mask,
        }))
    };
    let range = |low: &[u8], high: &[u8]| {
        let (low, high) = (low.to_vec(), high.to_vec());
        Some(v1::field_match::FieldMatchType::Range(v1::field_match::Range {
            low,
            high,
        }))
    };
    let cases = [
        ("unknown table", with(&session, |e| e.table_id = 0x0200_ffff)),
        (
            "an action's id as a table",
            with(&session, |e| e.table_id = 0x0100_0001),
        ),
        (
            "no entity",
            v1::Update {
                r#type: 1,
                entity: None,
            },
        ),
        (
            "no type",
            v1::Update {
                r#type: 0,
                ..insert(session.clone())
            },
        ),
        (
            "unknown type",
            v1::Update {
                r#type: 9,
                ..insert(session.clone())
            },
        ),
        ("unknown field", with(&session, |e| e.r#match[0].field_id = 9)),
        ("missing exact field", with(&session, |e| drop(e.r#match.pop()))),
        ("field twice", with(&session, |e| e.r#match[1].field_id = 1)),
        (
            "field without match",
            with(&session, |e| e.r#match[0].field_match_type = None),
        ),
        (
            "wrong kind",
            with(&session, |e| e.r#match[0].field_match_type = ternary(&[1], &[1])),
        ),
        (
            "too wide",
            with(&session, |e| e.r#match[1].field_match_type = exact(&[1, 0, 0])),
        ),
        (
            "empty value",
            with(&session, |e| e.r#match[1].field_match_type = exact(&[])),
        ),
        ("priority without need", with(&session, |e| e.priority = 1)),
        ("no action", with(&session, |e| e.action = None)),
        (
            "empty action",
            with(&session, |e| e.action = Some(v1::TableAction { r#type: None })),
        ),
        ("missing parameter", with(&session, |e| drop(params(e).pop()))),
        ("unknown parameter", with(&session, |e| params(e)[0].param_id = 9)),
        ("parameter twice", with(&session, |e| params(e)[0].param_id = 2)),
        (
            "parameter too wide",
            with(&session, |e| params(e)[0].value = vec![2, 0]),
        ),
        ("parameter empty", with(&session, |e| params(e)[0].value = vec![])),
        (
            "member in a direct table",
            with(&session, |e| {
                e.action = Some(v1::TableAction {
                    r#type: Some(v1::table_action::Type::ActionProfileMemberId(1)),
                });
            }),
        ),
        ("is_const", with(&session, |e| e.is_const = true)),
        ("default entry inserted", with(&session, |e| e.is_default_action = true)),
        ("negative timeout", with(&session, |e| e.idle_timeout_ns = -1)),
        (
            "time_since_last_hit",
            with(&session, |e| e.time_since_last_hit = Some(Default::default())),
        ),
        (
            "negative count",
            with(&session, |e| {
                e.counter_data = Some(v1::CounterData {
                    byte_count: -1,
                    packet_count: 0,
                });
            }),
        ),
        (
            "pir below cir",
            with(&session, |e| {
                e.meter_config = Some(v1::MeterConfig {
                    cir: 2,
                    cburst: 1,
                    pir: 1,
                    pburst: 1,
                    eburst: 0,
                });
            }),
        ),
        ("no priority", with(&acl, |e| e.priority = 0)),
        ("negative priority", with(&acl, |e| e.priority = -5)),
        (
            "no direct counter",
            with(&acl, |e| e.counter_data = Some(Default::default())),
        ),
        (
            "no direct meter",
            with(&acl, |e| e.meter_config = Some(Default::default())),
        ),
        ("no idle timeout", with(&acl, |e| e.idle_timeout_ns = 1)),
        (
            "mask of zero",
            with(&acl, |e| e.r#match.push(field(1, ternary(&[0], &[0])))),
        ),
        (
            "value outside the mask",
            with(&acl, |e| e.r#match.push(field(1, ternary(&[3], &[1])))),
        ),
        (
            "empty range",
            with(&acl, |e| e.r#match.push(field(2, range(&[2], &[1])))),
        ),
        (
            "range of everything",
            with(&acl, |e| e.r#match.push(field(2, range(&[0], &[0xff, 0xff])))),
        ),
    ];
    for (what, update) in cases {
        assert_eq!(refused(&client, update).await, Code::InvalidArgument, "{what}");
    }
    let lpm = |value: &[u8], prefix_len| {
        let one_shot = TableEntry::new(info, "routes")
            .one_shot()
            .action("drop")
            .build()
            .expect("valid");
        let lpm = v1::field_match::Lpm {
            value: value.to_vec(),
            prefix_len,
        };
        with(&one_shot, |e| {
            e.r#match
                .push(field(1, Some(v1::field_match::FieldMatchType::Lpm(lpm))))
        })
    };
    for (value, length) in [
        (&[10u8, 0, 0, 0][..], 0),
        (&[10, 0, 0, 0], 33),
        (&[10, 0, 0, 1], 24),
        (&[], 8),
        (&[1], -1),
    ] {
        assert_eq!(
            refused(&client, lpm(value, length)).await,
            Code::InvalidArgument,
            "{value:?}/{length}"
        );
    }
}

#[tokio::test]
async fn padded_values_are_accepted_and_answered_canonically() {
    let (target, client, _events) = Target::start().await;
    let canonical = session(&target.info, 5);
    let padded = with(&canonical, |e| {
        e.r#match[1].field_match_type = exact(&[0, 0, 0, 5]);
        params(e)[0].value = vec![0, 0, 1];
    });
    write(&client, [padded]).await;
    let found = client
        .read_entries(v1::TableEntry {
            action: None,
            ..canonical.clone()
        })
        .await
        .expect("readable");
    assert_eq!(found, std::slice::from_ref(&canonical));
    assert_eq!(refused(&client, insert(canonical)).await, Code::AlreadyExists);
}

#[tokio::test]
async fn what_the_program_fixed_stays() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let constant = |ethertype: u16| {
        TableEntry::new(info, "constant")
            .match_exact("type", ethertype)
            .action("NoAction")
            .build()
            .expect("valid")
    };
    assert_eq!(refused(&client, insert(constant(7))).await, Code::PermissionDenied);
    assert_eq!(refused(&client, modify(constant(0x88b5))).await, Code::PermissionDenied);
    assert_eq!(refused(&client, delete(constant(0x88b5))).await, Code::PermissionDenied);
    let default = TableEntry::default_of(info, "constant")
        .action("learn")
        .modify()
        .expect("valid");
    assert_eq!(refused(&client, default).await, Code::PermissionDenied);
    let keyless = TableEntry::new(info, "keyless")
        .action("NoAction")
        .insert()
        .expect("valid");
    assert_eq!(refused(&client, keyless).await, Code::InvalidArgument);
    let default_only = with(&session(info, 1), |e| {
        let action_id = info.action("NoAction").expect("an action").preamble.id;
        let action = v1::Action {
            action_id,
            params: Vec::new(),
        };
        e.action = Some(v1::TableAction {
            r#type: Some(v1::table_action::Type::Action(action)),
        });
    });
    assert_eq!(refused(&client, default_only).await, Code::PermissionDenied);
    let mut indirect = TableEntry::default_of(info, "routes").build().expect("a reset");
    indirect.table_id = info.table("routes").expect("a table").preamble.id;
    assert_eq!(refused(&client, modify(indirect)).await, Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_is_full_is_exhausted() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    assert_eq!(refused(&client, modify(session(info, 1))).await, Code::NotFound);
    assert_eq!(refused(&client, delete(session(info, 1))).await, Code::NotFound);
    let route = |entry: TableEntry<'static>| entry.insert().expect("valid");
    let leaked: &'static P4Info = Box::leak(Box::new(info.clone()));
    let to = || TableEntry::new(leaked, "routes").match_lpm("destination", 1u8, 32);
    assert_eq!(refused(&client, route(to().member(7))).await, Code::NotFound);
    assert_eq!(refused(&client, route(to().group(7))).await, Code::NotFound);
    let group = entity::group(info, "hops", 1, [(7, 1)]).expect("valid");
    assert_eq!(refused(&client, insert(group)).await, Code::NotFound);
    let full = (0..17).map(|protocol: u8| {
        let entry = TableEntry::new(info, "acl")
            .priority(1)
            .match_optional("protocol", protocol);
        entry.action("drop").insert().expect("valid")
    });
    let error = client
        .write(full.collect(), Atomicity::ContinueOnError)
        .await
        .expect_err("16 fit");
    assert_eq!(
        error.updates().iter().map(|e| (e.index, e.code)).collect::<Vec<_>>(),
        [(16, Code::ResourceExhausted)]
    );
    let key = v1::TableEntry {
        action: None,
        ..session(info, 1)
    };
    let counter = v1::DirectCounterEntry {
        table_entry: Some(key),
        data: Some(Default::default()),
    };
    assert_eq!(refused(&client, modify(counter.clone())).await, Code::NotFound);
    let error = client
        .read(vec![counter.into()])
        .await
        .expect_err("there is no such entry");
    assert_eq!(error.code(), Some(Code::Unknown), "a batch of reads reports each");
}

#[tokio::test]
async fn cells_groups_and_sets_are_checked() {
    let (target, client, _events) = Target::start().await;
    let info = &target.info;
    let cell = |index| entity::counter(info, "port_counter", Some(index), Some(Default::default())).expect("valid");
    assert_eq!(refused(&client, modify(cell(16))).await, Code::OutOfRange);
    assert_eq!(refused(&client, modify(cell(-1))).await, Code::InvalidArgument);
    assert_eq!(refused(&client, insert(cell(1))).await, Code::InvalidArgument);
    assert_eq!(refused(&client, delete(cell(1))).await, Code::InvalidArgument);
    let register = entity::register(info, "last_length", Some(1), Some((1u64 << 32).into())).expect("a register");
    assert_eq!(refused(&client, modify(register)).await, Code::OutOfRange);
    assert_eq!(
        refused(&client, insert(entity::multicast_group(0, [(1, 1)]))).await,
        Code::InvalidArgument
    );
    assert_eq!(
        refused(&client, insert(entity::multicast_group(1, [(1, 1), (1, 1)]))).await,
        Code::InvalidArgument
    );
    assert_eq!(
        refused(&client, insert(entity::multicast_group(1, [(1, 70_000)]))).await,
        Code::InvalidArgument
    );
    let mut backup = entity::multicast_group(1, [(1, 1)]);
    backup.replicas[0].backup_replicas.push(v1::BackupReplica {
        port: vec![2],
        instance: 1,
    });
    assert_eq!(refused(&client, insert(backup)).await, Code::Unimplemented);
    assert_eq!(
        refused(&client, insert(entity::clone_session(0, [(1, 1)], 0))).await,
        Code::InvalidArgument
    );
    let set = |ports: &[u16]| {
        let members = ports.iter().map(|port| vec![(*port).into()]);
        entity::value_set(info, "experimental_types", members).expect("valid")
    };
    assert_eq!(refused(&client, insert(set(&[1]))).await, Code::InvalidArgument);
    assert_eq!(refused(&client, modify(set(&[1, 1]))).await, Code::AlreadyExists);
    assert_eq!(
        refused(&client, modify(set(&[1, 2, 3, 4, 5]))).await,
        Code::ResourceExhausted
    );
    let group = |weight| entity::group(info, "hops", 1, [(1, weight)]).expect("valid");
    assert_eq!(refused(&client, insert(group(0))).await, Code::InvalidArgument);
    assert_eq!(refused(&client, insert(group(-1))).await, Code::InvalidArgument);
    let extern_entry = v1::ExternEntry {
        extern_type_id: 0x81,
        extern_id: 1,
        entry: None,
    };
    assert_eq!(refused(&client, insert(extern_entry)).await, Code::Unimplemented);
}

#[tokio::test]
async fn only_the_primary_writes_and_only_to_this_device() {
    let (target, primary, _events) = Target::start().await;
    let info = &target.info;
    let code = async |client: &Client| {
        let error = client
            .write(vec![insert(session(info, 1))], Atomicity::ContinueOnError)
            .await;
        match error.expect_err("not allowed") {
            p4runtime::WriteError::Request(status) => status.code(),
            other => panic!("{other}"),
        }
    };
    let (new, _events) = target.client(2).await;
    assert_eq!(code(&primary).await, Code::PermissionDenied);
    let backup = State::Backup {
        connection: 1,
        primary: Some(2),
    };
    primary
        .state()
        .wait_for(|state| *state == backup)
        .await
        .expect("the client lives");
    write(&new, [insert(session(info, 1))]).await;
    let (other, _events) = target.connect(Options {
        device_id: 2,
        election_id: 9,
        ..Options::default()
    });
    assert_eq!(code(&other).await, Code::NotFound);
    let role = Some(v1::Role {
        name: "nobody".into(),
        ..Default::default()
    });
    let (unknown_role, _events) = target.connect(Options {
        election_id: 9,
        role,
        device_id: 2,
        ..Options::default()
    });
    assert_eq!(code(&unknown_role).await, Code::NotFound);
    assert_eq!(
        primary
            .read_entries(v1::TableEntry::default())
            .await
            .expect("a backup may read")
            .len(),
        2
    );
}

#[tokio::test]
async fn a_backups_packets_are_refused_and_it_hears_none() {
    let (target, _primary, _events) = Target::start().await;
    let (backup, mut events) = target.connect(Options {
        election_id: 0,
        ..Options::default()
    });
    backup
        .state()
        .wait_for(|state| matches!(state, State::Backup { .. }))
        .await
        .expect("the client lives");
    backup
        .packet_out(v1::PacketOut::default())
        .await
        .expect("there is a stream");
    let Some(Event::Error(error)) = events.next().await else {
        panic!("an error")
    };
    assert_eq!(Code::from_i32(error.canonical_code), Code::PermissionDenied);
    backup
        .acknowledge(&v1::DigestList::default())
        .await
        .expect("there is a stream");
    let Some(Event::Error(error)) = events.next().await else {
        panic!("an error")
    };
    assert_eq!(Code::from_i32(error.canonical_code), Code::PermissionDenied);
}

#[tokio::test]
async fn without_a_pipeline_there_is_nothing_to_write_or_read() {
    let target = Target::bare().await;
    let (client, _events) = target.client(1).await;
    let error = client
        .write(vec![insert(session(&target.info, 1))], Atomicity::ContinueOnError)
        .await;
    let p4runtime::WriteError::Request(status) = error.expect_err("no pipeline") else {
        panic!("of the request")
    };
    assert_eq!(status.code(), Code::FailedPrecondition);
    let error = client
        .read_entries(v1::TableEntry::default())
        .await
        .expect_err("no pipeline");
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
}

#[tokio::test]
async fn pipelines_are_verified_saved_committed_and_reconciled() {
    let target = Target::bare().await;
    let info = &target.info;
    let (client, _events) = target.client(1).await;
    let set = async |config: &[u8], cookie, action| client.set_pipeline(info, config.to_vec(), cookie, action).await;
    let code = |result: Result<(), p4runtime::ClientError>| result.expect_err("refused").code();
    use PipelineAction::{ReconcileAndCommit, Verify, VerifyAndCommit, VerifyAndSave};
    for broken in [&b""[..], b"{}", b"no json", br#"{"program": 1}"#] {
        assert_eq!(
            code(set(broken, None, VerifyAndCommit).await),
            Some(Code::InvalidArgument)
        );
    }
    let other = P4Info::from_text("tables { preamble { id: 33554433 name: \"nowhere\" } }").expect("valid");
    let mismatch = client.set_pipeline(&other, PROGRAM.to_vec(), None, Verify).await;
    assert_eq!(code(mismatch), Some(Code::InvalidArgument));
    assert_eq!(code(client.commit_pipeline().await), Some(Code::NotFound));
    set(PROGRAM, None, Verify).await.expect("realizable");
    assert!(client.p4info().await.is_err(), "VERIFY changes nothing");

    set(PROGRAM, Some(1), VerifyAndSave).await.expect("saved");
    write(&client, [insert(session(info, 1))]).await;
    assert!(target.switch.program().is_none(), "packets do not meet it yet");
    client.commit_pipeline().await.expect("committed");
    assert!(target.switch.program().is_some());
    let entries = async || client.read_entries(v1::TableEntry::default()).await.expect("readable");
    assert_eq!(
        entries().await.len(),
        2,
        "what was written meanwhile, and the constant one"
    );

    let counter = v1::CounterData {
        byte_count: 1,
        packet_count: 2,
    };
    let cell = |data| entity::counter(info, "port_counter", Some(2), data).expect("a counter");
    write(
        &client,
        [
            modify(cell(Some(counter))),
            insert(entity::multicast_group(3, [(1, 1)])),
        ],
    )
    .await;
    let before = entries().await;
    set(PROGRAM, Some(2), ReconcileAndCommit)
        .await
        .expect("the same program");
    assert_eq!(entries().await, before);
    let kept = client.read(vec![cell(None).into()]).await.expect("readable");
    assert_eq!(kept, [cell(Some(counter)).into()]);
    assert_eq!(
        client
            .read(vec![entity::multicast_group(3, []).into()])
            .await
            .expect("readable")
            .len(),
        1
    );
    assert_eq!(
        client
            .pipeline(Default::default())
            .await
            .expect("set")
            .cookie
            .expect("set")
            .cookie,
        2
    );

    set(PROGRAM, None, VerifyAndCommit).await.expect("again");
    assert_eq!(
        entries().await.len(),
        1,
        "VERIFY_AND_COMMIT clears the forwarding state"
    );
}

#[tokio::test]
async fn streams_that_arbitrate_wrongly_are_ended_with_the_reason() {
    let target = Target::bare().await;
    let (_primary, _events) = target.client(5).await;
    let end = async |updates: Vec<v1::MasterArbitrationUpdate>| {
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", target.address)).expect("an address");
        let mut api = P4RuntimeClient::new(endpoint.connect().await.expect("it listens"));
        let requests = updates.into_iter().map(|update| v1::StreamMessageRequest {
            update: Some(v1::stream_message_request::Update::Arbitration(update)),
        });
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter(requests), tokio_stream::pending());
        let mut responses = api.stream_channel(requests).await.expect("a stream").into_inner();
        loop {
            match tokio::time::timeout(SOON, responses.message())
                .await
                .expect("an answer")
            {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status.code(),
            }
        }
    };
    let update = |device_id, role: Option<&str>, election_id: u128| v1::MasterArbitrationUpdate {
        device_id,
        role: role.map(|name| v1::Role {
            name: name.into(),
            ..Default::default()
        }),
        election_id: Some(uint128(election_id)),
        status: None,
    };
    assert_eq!(end(vec![update(2, None, 1)]).await, Code::NotFound);
    assert_eq!(end(vec![update(1, None, 5)]).await, Code::InvalidArgument);
    assert_eq!(
        end(vec![update(1, None, 4), update(2, None, 4)]).await,
        Code::FailedPrecondition
    );
    assert_eq!(
        end(vec![update(1, None, 4), update(1, Some("other"), 4)]).await,
        Code::FailedPrecondition
    );
    let mut configured = update(1, Some("other"), 4);
    configured.role.as_mut().expect("a role").config = Some(prost_types::Any::default());
    assert_eq!(end(vec![configured]).await, Code::InvalidArgument);
}

#[test]
fn a_device_without_an_id_takes_the_first_clients() {
    let device =
        p4_switch::p4rt_server::Device::new(std::sync::Arc::new(p4_switch::Switch::new(Default::default())), None);
    let arbitrate = |device_id: u64| {
        let (stream, _responses) = device.open_stream();
        let election_id = Some(uint128(device_id.into()));
        let update = v1::MasterArbitrationUpdate {
            device_id,
            election_id,
            ..Default::default()
        };
        let update = Some(v1::stream_message_request::Update::Arbitration(update));
        device
            .received(stream, v1::StreamMessageRequest { update })
            .map_err(|status| status.code())
    };
    assert_eq!(arbitrate(7), Ok(()));
    assert_eq!(arbitrate(8), Err(Code::NotFound));
    assert_eq!(arbitrate(0), Err(Code::NotFound));
}
