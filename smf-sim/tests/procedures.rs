//! The SMF's procedures against a fake UPF: octets on the wire, retransmission, refusals, reports.

mod fake_upf;

use fake_upf::{FakeUpf, GNB, RECOVERY, UPLINK_TEID, usage_report, willing};
use smf_sim::load::{self, LoadPlan};
use smf_sim::rules::{BitRates, Gate};
use smf_sim::{Ie, IeType, ModificationSpec, PfcpError, Report, SessionSpec, UeIps, cause, raw_ie, transport};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn ue() -> UeIps {
    UeIps::v4([10, 60, 0, 1])
}

#[tokio::test]
async fn association_setup_sends_node_id_and_recovery_time_stamp_and_reads_the_features() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    let info = smf.associate().await.unwrap();
    assert_eq!(info.node_id, [127, 0, 0, 1].into());
    assert_eq!(info.recovery_time_stamp, Some(RECOVERY));
    assert!(info.ftup() && info.empu() && info.ueip());
    let sent = upf.last().octets;
    // Version 1, no SEID; type 5; length 4 + 9 + 8; sequence 1; Node ID; the time stamp's header.
    assert_eq!(sent[..8], [0x20, 5, 0, 21, 0, 0, 1, 0]);
    assert_eq!(sent[8..17], [0, 60, 0, 5, 0, 127, 0, 0, 1]);
    assert_eq!(sent[17..21], [0, 96, 0, 4]);
}

/// Written by hand from TS 29.244 7.5.2 and 8.2.
#[tokio::test]
async fn the_basic_session_is_these_octets() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    let established = smf.establish(&SessionSpec::basic(ue(), GNB, 0x1001)).await.unwrap();
    let sent = upf.last().octets;
    let cp_seid = established.cp_seid.to_be_bytes();
    let expected: Vec<&[u8]> = vec![
        &[0, 60, 0, 5, 0, 127, 0, 0, 1],
        &[0, 57, 0, 13, 2],
        &cp_seid,
        &[127, 0, 0, 1],
        // Create PDR 1: uplink.
        &[0, 1, 0, 67, 0, 56, 0, 2, 0, 1, 0, 29, 0, 4, 0, 0, 0xfd, 0xe8],
        &[
            0, 2, 0, 20, 0, 20, 0, 1, 0, 0, 21, 0, 2, 0x0d, 1, 0, 93, 0, 5, 2, 10, 60, 0, 1,
        ],
        &[
            0, 95, 0, 1, 0, 0, 108, 0, 4, 0, 0, 0, 1, 0, 81, 0, 4, 0, 0, 0, 1, 0, 109, 0, 4, 0, 0, 0, 1,
        ],
        // Create PDR 2: downlink.
        &[0, 1, 0, 56, 0, 56, 0, 2, 0, 2, 0, 29, 0, 4, 0, 0, 0xfd, 0xe8],
        &[0, 2, 0, 14, 0, 20, 0, 1, 1, 0, 93, 0, 5, 6, 10, 60, 0, 1],
        &[
            0, 108, 0, 4, 0, 0, 0, 2, 0, 81, 0, 4, 0, 0, 0, 1, 0, 109, 0, 4, 0, 0, 0, 1,
        ],
        // Create FAR 1 and 2.
        &[
            0, 3, 0, 23, 0, 108, 0, 4, 0, 0, 0, 1, 0, 44, 0, 2, 2, 0, 0, 4, 0, 5, 0, 42, 0, 1, 1,
        ],
        &[
            0, 3, 0, 42, 0, 108, 0, 4, 0, 0, 0, 2, 0, 44, 0, 2, 2, 0, 0, 4, 0, 19, 0, 42, 0, 1, 0,
        ],
        &[0, 84, 0, 10, 1, 0, 0, 0, 0x10, 0x01, 192, 0, 2, 1, 0, 88, 0, 1, 1],
        // Create URR, QER, BAR; PDN Type.
        &[
            0, 6, 0, 20, 0, 81, 0, 4, 0, 0, 0, 1, 0, 62, 0, 1, 3, 0, 37, 0, 3, 0, 0, 0,
        ],
        &[0, 7, 0, 18, 0, 109, 0, 4, 0, 0, 0, 1, 0, 25, 0, 1, 0, 0, 124, 0, 1, 9],
        &[0, 85, 0, 5, 0, 88, 0, 1, 1],
        &[0, 113, 0, 1, 1],
    ];
    assert_eq!(sent[16..], expected.concat());
    assert_eq!((sent[0], sent[1]), (0x21, 50));
    assert_eq!(sent[4..12], [0; 8], "the UP SEID is not known yet");
}

#[tokio::test]
async fn the_answer_gives_the_up_seid_and_what_the_upf_allocated() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    let session = smf.establish(&SessionSpec::basic(ue(), GNB, 1)).await.unwrap();
    assert_eq!(session.up_seid, session.cp_seid | 0x8000_0000_0000_0000);
    assert_eq!(session.uplink_teid(), Some(UPLINK_TEID));
    assert_eq!(session.uplink_addr(), Some(Ipv4Addr::LOCALHOST.into()));
    smf.modify(session.up_seid, &ModificationSpec::to_idle()).await.unwrap();
    assert_eq!(upf.last().message.seid, Some(session.up_seid));
    let usage = smf.delete(session.up_seid).await.unwrap();
    assert_eq!(usage.len(), 1);
    assert!(usage[0].is_termination() && !usage[0].is_immediate());
    assert_eq!(usage[0].duration, Some(42));
    let volume = usage[0].volume.unwrap();
    assert_eq!(
        (volume.total, volume.uplink, volume.downlink),
        (Some(3000), Some(1000), Some(2000))
    );
    assert_eq!((volume.uplink_packets, volume.downlink_packets), (Some(10), Some(20)));
}

#[tokio::test]
async fn handover_asks_for_the_new_tunnel_and_end_markers() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    smf.modify(7, &ModificationSpec::handover([192, 0, 2, 2].into(), 0x2002))
        .await
        .unwrap();
    let expected: [&[u8]; 3] = [
        &[0, 10, 0, 41, 0, 108, 0, 4, 0, 0, 0, 2, 0, 44, 0, 2, 2, 0],
        &[0, 11, 0, 19, 0, 84, 0, 10, 1, 0, 0, 0, 0x20, 0x02, 192, 0, 2, 2],
        &[0, 49, 0, 1, 2],
    ];
    let mut expected = expected.concat();
    // The grouped length follows from its parts.
    expected[3] = (expected.len() - 4) as u8;
    assert_eq!(upf.last().octets[16..], expected);
}

#[tokio::test]
async fn an_idle_ue_is_buffered_with_a_notification_and_a_closed_uplink_gate_is_0x04() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    smf.modify(7, &ModificationSpec::to_idle()).await.unwrap();
    assert_eq!(
        upf.last().octets[16..],
        [0, 10, 0, 14, 0, 108, 0, 4, 0, 0, 0, 2, 0, 44, 0, 2, 0x0c, 0]
    );
    smf.modify(7, &ModificationSpec::gate(1, Gate::Closed, Gate::Open))
        .await
        .unwrap();
    assert_eq!(
        upf.last().octets[16..],
        [0, 14, 0, 13, 0, 109, 0, 4, 0, 0, 0, 1, 0, 25, 0, 1, 4]
    );
}

#[tokio::test]
async fn every_message_is_accepted_by_an_independent_parser() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    smf.associate().await.unwrap();
    smf.heartbeat().await.unwrap();
    let flow = "permit out 17 from 198.51.100.0/24 1000-2000 to assigned";
    let rates = BitRates {
        uplink_kbps: 1000,
        downlink_kbps: 2000,
    };
    let qos = smf_sim::FlowQos {
        qfi: Some(5),
        mbr: Some(rates),
        gbr: Some(rates),
        closed: false,
    };
    let spec = SessionSpec::basic(UeIps::dual([10, 0, 0, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), GNB, 1)
        .with_network_instances("access", "internet")
        .with_mbr(10, 20)
        .with_qfi(6)
        .with_sdf(100, flow, qos);
    let session = smf.establish(&spec).await.unwrap();
    let change = ModificationSpec {
        remove_pdrs: vec![4],
        create_pdrs: vec![spec.pdrs[0].clone()],
        create_fars: vec![smf_sim::rules::Far::drop(9)],
        query_all_urrs: true,
        drop_buffered: true,
        ..ModificationSpec::precedence(1, 3)
    };
    smf.modify(session.up_seid, &change).await.unwrap();
    smf.delete(session.up_seid).await.unwrap();
    smf.release().await.unwrap();
    let received = upf.received();
    assert_eq!(received.len(), 6);
    for request in received {
        let parsed = rs_pfcp::message::parse(&request.octets).unwrap_or_else(|e| panic!("{e}: {:x?}", request.octets));
        assert_eq!(parsed.msg_type() as u8, request.message.message_type);
    }
}

#[tokio::test]
async fn a_request_without_response_is_sent_again_unchanged_until_answered() {
    let seen = AtomicU32::new(0);
    let third_time = move |request: &fake_upf::Received| {
        (seen.fetch_add(1, Ordering::Relaxed) == 2)
            .then(|| willing(request))
            .flatten()
    };
    let upf = FakeUpf::scripted(Box::new(third_time)).await;
    let smf = upf.smf().await;
    assert_eq!(smf.heartbeat().await.unwrap(), RECOVERY);
    let received = upf.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|r| r.octets == received[0].octets));
}

#[tokio::test]
async fn after_n1_transmissions_the_upf_counts_as_silent() {
    let upf = FakeUpf::scripted(Box::new(|_| None)).await;
    let smf = upf.smf().await;
    let error = smf.associate().await.unwrap_err();
    assert!(matches!(error, PfcpError::NoResponse { attempts: 3, .. }), "{error}");
    assert_eq!(upf.received().len(), 3);
}

#[tokio::test]
async fn a_refusal_carries_cause_and_offending_ie() {
    let refuse = |request: &fake_upf::Received| {
        let ies = vec![raw_ie(60, &[0, 127, 0, 0, 1]), raw_ie(19, &[66]), raw_ie(40, &[0, 29])];
        Some((request.message.seid, ies))
    };
    let upf = FakeUpf::scripted(Box::new(refuse)).await;
    let smf = upf.smf().await;
    let spec = SessionSpec::basic(ue(), GNB, 1).without(IeType::Precedence);
    let error = smf.establish(&spec).await.unwrap_err();
    assert_eq!(error.cause(), Some(cause::MANDATORY_IE_MISSING));
    assert_eq!(error.offending_ie(), Some(IeType::Precedence as u16));
    assert_eq!(
        error.to_string(),
        "the UPF refused Session Establishment Request: cause 66 (Mandatory IE missing), offending IE 29"
    );
    let sent = upf.last().message;
    let pdr = sent.find(IeType::CreatePdr).unwrap();
    // It is left out of the group too: PDR ID is followed by the PDI.
    assert_eq!(pdr[..8], [0, 56, 0, 2, 0, 1, 0, 2]);
}

#[tokio::test]
async fn the_upfs_heartbeat_is_answered_with_our_recovery_time_stamp() {
    let upf = FakeUpf::scripted(Box::new(|_| None)).await;
    let smf = upf.smf().await;
    let heartbeat = transport::encode(1, None, 77, &[raw_ie(96, &[0, 0, 0, 1])]);
    upf.socket.send_to(&heartbeat, smf.local_addr().unwrap()).await.unwrap();
    let answer = upf.wait_for(2, 1).await.remove(0).message;
    assert_eq!(answer.sequence, 77);
    assert_eq!(answer.find(IeType::RecoveryTimeStamp).unwrap().len(), 4);
}

#[tokio::test]
async fn a_session_report_is_answered_each_time_and_told_once() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    let session = smf.establish(&SessionSpec::basic(ue(), GNB, 1)).await.unwrap();
    let mut reports = smf.reports();
    let ies = [
        raw_ie(39, &[0x07]),
        Ie::new_grouped(
            IeType::DownlinkDataReport,
            vec![raw_ie(56, &[0, 2]), raw_ie(45, &[0x02, 9])],
        ),
        usage_report(IeType::UsageReportWithinSessionReportRequest),
        Ie::new_grouped(
            IeType::ErrorIndicationReport,
            vec![raw_ie(21, &[1, 0, 0, 0, 5, 192, 0, 2, 1])],
        ),
    ];
    let request = transport::encode(56, Some(session.cp_seid), 5, &ies);
    for _ in 0..2 {
        upf.socket.send_to(&request, smf.local_addr().unwrap()).await.unwrap();
    }
    for answer in upf.wait_for(57, 2).await {
        assert_eq!(answer.message.seid, Some(session.up_seid));
        assert_eq!(answer.message.cause(), Some(cause::REQUEST_ACCEPTED));
        assert_eq!(answer.message.sequence, 5);
    }
    let mut told = Vec::new();
    while let Ok(report) = reports.try_recv() {
        assert_eq!(
            (report.cp_seid, report.up_seid),
            (session.cp_seid, Some(session.up_seid))
        );
        told.push(report.report);
    }
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(
        told[0],
        Report::DownlinkData {
            pdr_id: Some(2),
            qfi: Some(9),
            ppi: None
        }
    );
    assert_eq!(
        told[1],
        Report::ErrorIndication {
            teid: 5,
            v4: Some([192, 0, 2, 1].into()),
            v6: None
        }
    );
    assert!(matches!(&told[2], Report::Usage(usage) if usage.urr_id == 1));
}

#[tokio::test]
async fn a_report_about_a_session_that_does_not_stand_is_refused() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    let session = smf.establish(&SessionSpec::basic(ue(), GNB, 1)).await.unwrap();
    smf.delete(session.up_seid).await.unwrap();
    let request = transport::encode(56, Some(session.cp_seid), 6, &[raw_ie(39, &[1])]);
    upf.socket.send_to(&request, smf.local_addr().unwrap()).await.unwrap();
    let answer = upf.wait_for(57, 1).await.remove(0).message;
    assert_eq!(
        (answer.seid, answer.cause()),
        (Some(0), Some(cause::SESSION_CONTEXT_NOT_FOUND))
    );
}

#[tokio::test]
async fn octets_that_are_no_pfcp_disturb_nothing() {
    let upf = FakeUpf::willing().await;
    let smf = upf.smf().await;
    for junk in [
        &b""[..],
        &[0x20],
        &[0xff; 40],
        &[0x20, 2, 0xff, 0xff, 0, 0, 1, 0],
        &[0x21, 51, 0, 4, 0, 0, 0, 0],
    ] {
        upf.socket.send_to(junk, smf.local_addr().unwrap()).await.unwrap();
    }
    assert_eq!(smf.heartbeat().await.unwrap(), RECOVERY);
}

#[tokio::test]
async fn a_response_of_another_type_is_malformed_and_version_not_supported_is_named() {
    let upf = FakeUpf::scripted(Box::new(|_| None)).await;
    let smf = Arc::new(upf.smf().await);
    for (message_type, expected) in [(6, "malformed response"), (11, "Version Not Supported")] {
        let asking = tokio::spawn({
            let smf = Arc::clone(&smf);
            async move { smf.heartbeat().await.unwrap_err().to_string() }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let sequence = upf.last().message.sequence;
        let answer = transport::encode(message_type, None, sequence, &[]);
        upf.socket.send_to(&answer, smf.local_addr().unwrap()).await.unwrap();
        let error = asking.await.unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_load_generator_counts_every_procedure_of_every_session() {
    let upf = FakeUpf::willing().await;
    let smf = Arc::new(upf.smf().await);
    let plan = LoadPlan {
        sessions: 40,
        concurrency: 8,
        modifications: 2,
        delete: true,
        first_ue: [10, 60, 0, 1].into(),
        gnb: GNB,
        sdf_filters: 3,
    };
    let reports = load::run(&smf, &plan).await;
    let counts: Vec<_> = reports.iter().map(|r| (r.procedure, r.succeeded, r.failed)).collect();
    assert_eq!(counts, [("establish", 40, 0), ("modify", 80, 0), ("delete", 40, 0)]);
    assert!(
        reports
            .iter()
            .all(|r| r.rate > 0.0 && r.p50_us <= r.p99_us && r.p99_us <= r.max_us)
    );
}
