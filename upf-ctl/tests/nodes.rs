//! Heartbeats and associations, seen by an SMF.

mod smf;

use smf::*;
use std::net::Ipv4Addr;
use std::time::Duration;

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);

#[tokio::test]
async fn heartbeats_are_answered_to_anybody() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::new(network).await;
    let answer = smf.ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()]).await;
    assert_eq!(answer.one(96).len(), 4);
    upf.stop().await;
}

#[tokio::test]
async fn an_associated_peer_gets_heartbeats_of_ours_and_keeps_its_sessions_when_it_does_not_answer() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start_with(network, &directory.0, |config| {
        config.pfcp.heartbeat_interval_s = 1;
        config.pfcp.t1_ms = 100;
    })
    .await;
    let mut smf = Smf::associated(network).await;
    smf.establish(1, UE).await;
    let first = smf.request_within(Duration::from_secs(3)).await.unwrap();
    assert_eq!((first.message_type, first.seid), (HEARTBEAT_REQUEST, None));
    // N1 times the same.
    for _ in 1..3 {
        let again = smf.request_within(Duration::from_secs(1)).await.unwrap();
        assert_eq!(again.datagram, first.datagram);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = upf.json("/v1/status").await;
    assert_eq!(
        (&status["associations"][0]["up"], &status["sessions"]),
        (&false.into(), &1.into())
    );

    // It answers again.
    smf.requests.clear();
    let heartbeat = smf.request_within(Duration::from_secs(3)).await.unwrap();
    let answer = message(
        HEARTBEAT_RESPONSE,
        None,
        heartbeat.sequence,
        &[smf.recovery_time_stamp()],
    );
    smf.send(&answer).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = upf.json("/v1/status").await;
    assert_eq!(
        (&status["associations"][0]["up"], &status["sessions"]),
        (&true.into(), &1.into())
    );
    upf.stop().await;
}

#[tokio::test]
async fn a_peer_that_has_restarted_loses_its_sessions_and_its_association() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    smf.establish(1, UE).await;
    // A heartbeat that was delayed since before the present start changes nothing.
    smf.recovery -= 10;
    smf.ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()]).await;
    assert_eq!(upf.plane.sessions().len(), 1);
    smf.recovery += 20;
    smf.ask(HEARTBEAT_REQUEST, None, &[smf.recovery_time_stamp()]).await;
    let refused = smf.establish(2, UE).await;
    assert_eq!((refused.cause(), refused.offending_ie()), (NO_ASSOCIATION, Some(60)));
    assert!(upf.plane.sessions().is_empty());
    assert_eq!(upf.held().await, (0, 0));
    upf.stop().await;
}

#[tokio::test]
async fn features_are_offered_as_they_work() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::new(network).await;
    let answer = smf.associate().await;
    let features = answer.one(43);
    assert_eq!(features[0] & 0x10, 0x10, "FTUP");
    assert_eq!(features[1] & 0x01, 0x01, "EMPU");
    assert_eq!(features[2] & 0x04, 0x04, "UEIP");
    assert_eq!(features[2] & 0x40, 0, "BUNDL");
    assert_eq!(features[0] & 0x20, 0, "PFDM");
    assert_eq!(answer.one(60), [&[0], upf.address.octets().as_slice()].concat());
    upf.stop().await;
}

#[tokio::test]
async fn setting_up_again_replaces_the_association_and_its_sessions_unless_they_are_to_be_kept() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let keep = [smf.node_id(), smf.recovery_time_stamp(), group(183, &[])];
    assert_eq!(smf.ask(ASSOCIATION_SETUP_REQUEST, None, &keep).await.cause(), ACCEPTED);
    assert_eq!(upf.plane.sessions().len(), 1);
    assert_eq!(smf.associate().await.cause(), ACCEPTED);
    assert!(upf.plane.sessions().is_empty());
    assert_eq!(smf.delete(seid).await.cause(), SESSION_CONTEXT_NOT_FOUND);
    assert_eq!(smf.establish(1, UE).await.cause(), ACCEPTED);
    upf.stop().await;
}

#[tokio::test]
async fn a_released_association_takes_its_sessions_with_it() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    smf.establish(1, UE).await;
    assert_eq!(
        smf.ask(ASSOCIATION_UPDATE_REQUEST, None, &[smf.node_id()])
            .await
            .cause(),
        ACCEPTED
    );
    assert_eq!(
        smf.ask(ASSOCIATION_RELEASE_REQUEST, None, &[smf.node_id()])
            .await
            .cause(),
        ACCEPTED
    );
    assert!(upf.plane.sessions().is_empty());
    assert_eq!(
        smf.ask(ASSOCIATION_RELEASE_REQUEST, None, &[smf.node_id()])
            .await
            .cause(),
        NO_ASSOCIATION
    );
    assert_eq!(
        smf.ask(ASSOCIATION_UPDATE_REQUEST, None, &[smf.node_id()])
            .await
            .cause(),
        NO_ASSOCIATION
    );
    upf.stop().await;
}

#[tokio::test]
async fn session_requests_without_an_association_are_refused_with_cause_72() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::new(network).await;
    let refused = smf.establish(9, UE).await;
    assert_eq!(
        (refused.cause(), refused.seid, refused.offending_ie()),
        (NO_ASSOCIATION, Some(9), Some(60))
    );
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(5), &[]).await.cause(),
        NO_ASSOCIATION
    );
    assert_eq!(smf.delete(5).await.cause(), NO_ASSOCIATION);
    upf.stop().await;
}

#[tokio::test]
async fn another_version_is_answered_and_garbage_is_not() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::new(network).await;
    smf.send(&[0x40, 1, 0, 4, 0, 0, 9, 0]).await;
    let answer = smf.response().await;
    assert_eq!(
        (answer.message_type, answer.sequence, answer.datagram[0] >> 5),
        (11, 9, 1)
    );
    for garbage in [&[][..], &[0x20], &[0xff; 40], &[0x20, 77, 0, 4, 0, 0, 1, 0]] {
        smf.send(garbage).await;
    }
    // A heartbeat without its time stamp: nothing in its response could say so.
    smf.send(&[0x20, 1, 0, 4, 0, 0, 1, 0]).await;
    while let Some(answer) = smf.receive_within(Duration::from_millis(200)).await {
        assert_eq!(answer.message_type, 11, "{answer:?}");
    }
    upf.stop().await;
}

#[tokio::test]
async fn a_missing_mandatory_ie_is_named() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let refused = smf.ask(ASSOCIATION_SETUP_REQUEST, None, &[smf.node_id()]).await;
    assert_eq!(
        (refused.cause(), refused.offending_ie()),
        (MANDATORY_IE_MISSING, Some(96))
    );
    let without_fseid: Vec<_> = smf
        .establishment(1, UE)
        .into_iter()
        .filter(|e| e[..2] != 57_u16.to_be_bytes())
        .collect();
    let refused = smf.ask(ESTABLISHMENT_REQUEST, Some(0), &without_fseid).await;
    assert_eq!(
        (refused.cause(), refused.offending_ie(), refused.seid),
        (MANDATORY_IE_MISSING, Some(57), Some(0))
    );
    // A message of the standard that this UPF does not serve.
    let refused = smf.ask(3, None, &[]).await;
    assert_eq!(refused.cause(), 76);
    upf.stop().await;
}

#[tokio::test]
async fn associations_and_metrics_are_shown() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let established = smf.establish(1, UE).await;
    let status = upf.json("/v1/status").await;
    assert_eq!(status["associations"][0]["node"], host(network, 2).to_string());
    assert_eq!(status["planes"][0]["state"], "ready");
    let list = upf.json("/v1/sessions").await;
    assert_eq!(list[0]["seid"], format!("{:#x}", established.up_seid()));
    assert_eq!(list[0]["ue_addresses"][0], UE.to_string());
    let detail = upf.json(&format!("/v1/sessions/{:#x}", established.up_seid())).await;
    assert_eq!(detail["rules"]["pdrs"].as_array().unwrap().len(), 2);
    assert_eq!(upf.get("/v1/sessions/12345").await.0, 404);
    assert_eq!(upf.get("/v1/sessions/nonsense").await.0, 400);
    assert_eq!(upf.json("/v1/counters").await["memory"]["sessions"], 1);
    let (_, metrics) = upf.get("/metrics").await;
    assert!(metrics.contains("upf_sessions 1"), "{metrics}");
    let sent = "upf_pfcp_messages_total{direction=\"sent\",type=\"SessionEstablishmentResponse\",cause=\"1\"} 1";
    assert!(metrics.contains(sent), "{metrics}");
    assert!(metrics.contains("upf_plane_connected{plane=\"memory\"} 1"), "{metrics}");
    upf.stop().await;
}
