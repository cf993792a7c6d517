//! The client against a small server in the same process: arbitration, batches with errors, reads, the stream, and
//! what happens when the stream breaks.

mod server;

use p4runtime::client::{Atomicity, Event, PipelineAction, from_uint128, uint128};
use p4runtime::entity;
use p4runtime::v1;
use p4runtime::{Client, ClientError, Options, P4Info, State, TableEntry, WriteError};
use server::Server;
use std::time::Duration;
use tonic::Code;

const SOON: Duration = Duration::from_secs(30);

fn info() -> P4Info {
    P4Info::from_text(include_str!("program/small.p4info.txt")).expect("the test's P4Info is valid")
}

fn session(info: &P4Info, teid: u32, port: u16) -> v1::TableEntry {
    TableEntry::new(info, "sessions")
        .match_exact("teid", teid)
        .match_exact("address", 1u8)
        .action("forward")
        .param("port", port)
        .param("mac", 1u8)
        .build()
        .expect("valid")
}

fn options(election_id: u128) -> Options {
    Options {
        election_id,
        backoff: Duration::from_millis(5),
        ..Options::default()
    }
}

#[tokio::test]
async fn the_higher_election_id_is_primary_and_the_other_becomes_backup() {
    let server = Server::start().await;
    let (first, _events) = Client::connect(&server.address, options(1 << 70)).expect("an address");
    assert_eq!(first.primary(SOON).await.expect("primary"), 1);
    let (second, _events) = Client::connect(&server.address, options((1 << 70) + 1)).expect("an address");
    second.primary(SOON).await.expect("primary");
    let backup = State::Backup {
        connection: 1,
        primary: Some((1 << 70) + 1),
    };
    first
        .state()
        .wait_for(|state| *state == backup)
        .await
        .expect("the client lives");
    let error = first.primary(Duration::from_millis(1)).await.expect_err("it is backup");
    assert!(matches!(error, ClientError::NotPrimary { .. }), "{error}");
}

#[tokio::test]
async fn a_batch_reports_each_update_that_failed() {
    let server = Server::start().await;
    let info = info();
    let (client, _events) = Client::connect(&server.address, options(1)).expect("an address");
    client.primary(SOON).await.expect("primary");
    let update = |teid| entity::insert(session(&info, teid, 1));
    client
        .write(vec![update(1), update(2)], Atomicity::ContinueOnError)
        .await
        .expect("both are new");
    let error = client
        .write(vec![update(3), update(1)], Atomicity::ContinueOnError)
        .await
        .expect_err("1 is there");
    let [failed] = error.updates() else {
        panic!("one failed: {error}")
    };
    assert_eq!((failed.index, failed.code), (1, Code::AlreadyExists));
    let error = client
        .write_all((1..8).map(update).collect(), 3)
        .await
        .expect_err("three are there");
    assert_eq!(
        error.updates().iter().map(|error| error.index).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(
        client
            .read_entries(v1::TableEntry::default())
            .await
            .expect("readable")
            .len(),
        7
    );
}

#[tokio::test]
async fn an_error_of_the_whole_request_is_not_taken_for_an_updates() {
    let server = Server::start().await;
    let (client, _events) = Client::connect(
        &server.address,
        Options {
            device_id: 9,
            ..options(1)
        },
    )
    .expect("an address");
    let error = client
        .write(vec![], Atomicity::DataplaneAtomic)
        .await
        .expect_err("there is no device 9");
    assert!(
        matches!(&error, WriteError::Request(status) if status.code() == Code::NotFound),
        "{error}"
    );
}

#[tokio::test]
async fn reading_back_finds_what_is_missing_unexpected_and_changed() {
    let server = Server::start().await;
    let info = info();
    let (client, _events) = Client::connect(&server.address, options(1)).expect("an address");
    client.primary(SOON).await.expect("primary");
    let there = [session(&info, 1, 1), session(&info, 2, 2), session(&info, 3, 3)];
    let updates = there.iter().cloned().map(entity::insert).collect();
    client
        .write(updates, Atomicity::ContinueOnError)
        .await
        .expect("all are new");
    let expected: Vec<v1::Entity> = [session(&info, 2, 2), session(&info, 3, 4), session(&info, 4, 4)]
        .into_iter()
        .map(Into::into)
        .collect();
    let scope = || {
        vec![
            entity::all_entries(&info, Some("sessions"), false)
                .expect("a table")
                .into(),
        ]
    };
    let difference = client.compare(scope(), &expected).await.expect("readable");
    assert_eq!(difference.missing, [session(&info, 4, 4).into()]);
    assert_eq!(difference.unexpected, [session(&info, 1, 1).into()]);
    assert_eq!(
        difference.changed,
        [(session(&info, 3, 4).into(), session(&info, 3, 3).into())]
    );
    client
        .write(difference.repair(), Atomicity::ContinueOnError)
        .await
        .expect("repaired");
    assert!(client.compare(scope(), &expected).await.expect("readable").is_empty());
}

#[tokio::test]
async fn packets_digests_timeouts_and_errors_arrive_as_events() {
    let server = Server::start().await;
    let (client, mut events) = Client::connect(&server.address, options(1)).expect("an address");
    client.primary(SOON).await.expect("primary");
    let packet = v1::PacketOut {
        payload: vec![1, 2, 3],
        metadata: Vec::new(),
    };
    client.packet_out(packet).await.expect("there is a stream");
    let echoed = v1::PacketIn {
        payload: vec![1, 2, 3],
        metadata: Vec::new(),
    };
    assert_eq!(events.next().await, Some(Event::Packet(echoed)));
    let list = v1::DigestList {
        digest_id: 5,
        list_id: 7,
        ..Default::default()
    };
    server.send(v1::stream_message_response::Update::Digest(list.clone()));
    assert_eq!(events.next().await, Some(Event::Digest(list.clone())));
    client.acknowledge(&list).await.expect("there is a stream");
    // The test's server answers an acknowledgement with an error that says what it got.
    let Some(Event::Error(error)) = events.next().await else {
        panic!("an error")
    };
    assert_eq!(error.message, "ack of list 7 of digest 5");
    let timeout = v1::IdleTimeoutNotification {
        timestamp: 4,
        ..Default::default()
    };
    server.send(v1::stream_message_response::Update::IdleTimeoutNotification(
        timeout.clone(),
    ));
    assert_eq!(events.next().await, Some(Event::IdleTimeout(timeout)));
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_and_numbered() {
    let server = Server::start().await;
    let (client, _events) = Client::connect(&server.address, options(1)).expect("an address");
    assert_eq!(client.primary(SOON).await.expect("primary"), 1);
    server.break_streams();
    let mut state = client.state();
    state
        .wait_for(|state| *state == State::Primary { connection: 2 })
        .await
        .expect("the client lives");
}

#[tokio::test]
async fn a_client_waits_for_a_server_that_is_not_there_yet() {
    let address = Server::free_address();
    let (client, _events) = Client::connect(&address, options(1)).expect("an address");
    let mut state = client.state();
    state
        .wait_for(|state| matches!(state, State::Disconnected { .. }))
        .await
        .expect("the client lives");
    let packet = v1::PacketOut::default();
    assert!(matches!(
        client.packet_out(packet).await,
        Err(ClientError::Disconnected)
    ));
    let _server = Server::start_at(&address).await;
    assert_eq!(client.primary(SOON).await.expect("primary"), 1);
}

#[tokio::test]
async fn a_pipeline_is_set_and_read() {
    let server = Server::start().await;
    let info = info();
    let (client, _events) = Client::connect(&server.address, options(1)).expect("an address");
    client.primary(SOON).await.expect("primary");
    let unset = client.p4info().await.expect_err("no pipeline yet");
    assert_eq!(unset.code(), Some(Code::FailedPrecondition));
    let device_config = br#"{"program": "small"}"#.to_vec();
    client
        .set_pipeline(&info, device_config.clone(), Some(77), PipelineAction::VerifyAndCommit)
        .await
        .expect("accepted");
    assert_eq!(client.p4info().await.expect("set").message(), info.message());
    let config = client.pipeline(Default::default()).await.expect("set");
    assert_eq!(config.p4_device_config, device_config);
    assert_eq!(config.cookie.expect("set").cookie, 77);
    assert_eq!(
        client.capabilities().await.expect("answered").p4runtime_api_version,
        "1.4.1"
    );
}

#[test]
fn election_ids_survive_their_message() {
    for id in [0, 1, u64::MAX.into(), 1 << 64, u128::MAX] {
        assert_eq!(from_uint128(&uint128(id)), id);
    }
}
