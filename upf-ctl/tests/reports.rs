//! Session reports: what the data plane notices and the SMF is told.

mod smf;

use smf::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use upf_model::batch::{Change, Event};
use upf_model::{EndpointId, PdrId, Qfi, SessionId};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
const SECOND: Duration = Duration::from_secs(1);

fn downlink_data(session: SessionId) -> Event {
    Event::DownlinkData {
        session,
        pdr: PdrId(2),
        qfi: Some(Qfi(9)),
        dscp: 0xb8,
    }
}

/// A session that buffers its downlink packets and wants to be told.
async fn buffering(smf: &mut Smf, upf: &Upf) -> (u64, SessionId) {
    let seid = smf.establish(1, UE).await.up_seid();
    let change = smf.downlink(BUFFER_AND_NOTIFY, 0);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    (seid, upf.plane.sessions()[0].id)
}

fn response(report: &Received, cause: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let elements = [&[ie(19, &[cause])], more].concat();
    message(REPORT_RESPONSE, Some(1), report.sequence, &elements)
}

#[tokio::test]
async fn buffered_downlink_data_is_reported_once_until_the_smf_has_answered() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (seid, id) = buffering(&mut smf, &upf).await;
    upf.plane.happen(downlink_data(id));
    let report = smf.request_within(SECOND).await.unwrap();
    assert_eq!((report.message_type, report.seid), (REPORT_REQUEST, Some(1)));
    assert_eq!(report.one(39), [1]);
    let data = elements(&report.one(83));
    assert_eq!(data[0], (56, vec![0, 2]));
    // Downlink Data Service Information: PPII and QFII, DSCP 46, QFI 9.
    assert_eq!(data[1], (45, vec![3, 46, 9]));
    // It is sent again while there is no answer; another event meanwhile brings no other report.
    upf.plane.happen(downlink_data(id));
    assert_eq!(smf.request_within(SECOND).await.unwrap().datagram, report.datagram);
    smf.send(&response(&report, ACCEPTED, &[])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    while smf.request_within(Duration::from_millis(100)).await.is_some() {}
    upf.plane.happen(downlink_data(id));
    let next = smf.request_within(SECOND).await.unwrap();
    assert_ne!(next.sequence, report.sequence);
    smf.send(&response(&next, ACCEPTED, &[])).await;
    let change = smf.downlink(FORWARD, 7);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    upf.stop().await;
}

#[tokio::test]
async fn a_report_that_comes_too_late_to_matter_is_not_sent() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (seid, id) = buffering(&mut smf, &upf).await;
    // Downlink Data Notification Delay: 4 times 50 ms.
    let bar = [
        group(85, &[ie(88, &[1]), ie(46, &[4])]),
        group(10, &[far_id(2), ie(88, &[1])]),
    ];
    assert_eq!(smf.ask(MODIFICATION_REQUEST, Some(seid), &bar).await.cause(), ACCEPTED);
    upf.plane.happen(downlink_data(id));
    assert!(smf.request_within(Duration::from_millis(100)).await.is_none());
    let report = smf.request_within(SECOND).await.unwrap();
    smf.send(&response(&report, ACCEPTED, &[])).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    upf.plane.happen(downlink_data(id));
    let change = smf.downlink(FORWARD, 7);
    assert_eq!(
        smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await.cause(),
        ACCEPTED
    );
    assert!(smf.request_within(Duration::from_millis(400)).await.is_none());
    upf.stop().await;
}

#[tokio::test]
async fn an_smf_that_does_not_know_the_session_any_more_has_it_removed() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (_, id) = buffering(&mut smf, &upf).await;
    upf.plane.happen(downlink_data(id));
    let report = smf.request_within(SECOND).await.unwrap();
    smf.send(&response(&report, SESSION_CONTEXT_NOT_FOUND, &[])).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(upf.plane.sessions().is_empty());
    assert_eq!(upf.held().await, (0, 0));
    upf.stop().await;
}

#[tokio::test]
async fn what_is_buffered_is_thrown_away_when_the_answer_says_so() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let (_, id) = buffering(&mut smf, &upf).await;
    upf.plane.take_applied();
    upf.plane.happen(downlink_data(id));
    let report = smf.request_within(SECOND).await.unwrap();
    // PFCPSRRsp-Flags: DROBU.
    smf.send(&response(&report, ACCEPTED, &[ie(50, &[1])])).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let applied = upf.plane.take_applied();
    assert!(
        matches!(&applied[..], [Change::Put { discard_buffered, .. }] if !discard_buffered.is_empty()),
        "{applied:?}"
    );
    upf.stop().await;
}

#[tokio::test]
async fn an_error_indication_is_reported_for_the_sessions_that_use_the_tunnel() {
    let (network, directory) = (network(), Directory::new());
    let upf = Upf::start(network, &directory.0).await;
    let mut smf = Smf::associated(network).await;
    let seid = smf.establish(1, UE).await.up_seid();
    let change = smf.downlink(FORWARD, 0x77);
    smf.ask(MODIFICATION_REQUEST, Some(seid), &[change]).await;
    let gnb: IpAddr = [192, 0, 2, 100].into();
    upf.plane.happen(Event::ErrorIndication {
        peer: gnb,
        teid: 0x78,
        endpoint: EndpointId(0),
    });
    assert!(smf.request_within(Duration::from_millis(200)).await.is_none());
    upf.plane.happen(Event::ErrorIndication {
        peer: gnb,
        teid: 0x77,
        endpoint: EndpointId(0),
    });
    let report = smf.request_within(SECOND).await.unwrap();
    assert_eq!(report.one(39), [4]);
    assert_eq!(
        elements(&report.one(99)),
        [(21, vec![1, 0, 0, 0, 0x77, 192, 0, 2, 100])]
    );
    upf.stop().await;
}
