//! What a UPF sends: octet for octet as other implementations encode it, and readable by one of them.

mod wire_support;

use proptest::prelude::*;
use rs_pfcp::message::parse;
use std::net::Ipv4Addr;
use upf_ctl::pfcp::wire::cause::{FailedRule, RuleKind};
use upf_ctl::pfcp::wire::outgoing::*;
use upf_ctl::pfcp::wire::{Cause, FSeid, Message, NodeId, NtpSeconds, UpFeature, UpFunctionFeatures, read_message};
use upf_model::batch::Count;
use upf_model::decoded::{FTeid, UeIp};
use wire_support::encode::{ie, message};
use wire_support::{decoded, vector};

const NODE: [u8; 5] = [0, 192, 0, 2, 9];

fn node_id() -> NodeId {
    NodeId::Ipv4(Ipv4Addr::new(192, 0, 2, 9))
}

fn refused() -> Outcome {
    Outcome {
        cause: Cause::RuleCreationModificationFailure,
        offending_ie: Some(21),
        failed_rule: Some(FailedRule {
            kind: RuleKind::Pdr,
            id: 0xffff,
        }),
    }
}

#[test]
fn heartbeats_are_those_of_scapy() {
    let octets = HeartbeatRequest {
        recovery_time_stamp: NtpSeconds(3_785_653_512),
    }
    .encode(3)
    .unwrap();
    assert_eq!(octets, vector("scapy.txt", "HReq"));
    let octets = HeartbeatResponse {
        recovery_time_stamp: NtpSeconds(3_785_652_985),
    }
    .encode(3)
    .unwrap();
    assert_eq!(octets, vector("scapy.txt", "HResp"));
}

#[test]
fn version_not_supported_is_that_of_go_pfcp() {
    let octets = version_not_supported(0x0011_2233).unwrap();
    assert_eq!(
        octets,
        vector("go_pfcp_messages.txt", "version-not-supported-response/Normal")
    );
}

#[test]
fn association_responses_are_those_of_go_pfcp() {
    let node_id = NodeId::Fqdn("go-pfcp.epc.3gppnetwork.org".to_owned());
    let response = |request, outcome| NodeResponse {
        request,
        node_id: node_id.clone(),
        outcome,
    };
    let octets = response(NodeRequest::AssociationRelease, Outcome::ACCEPTED)
        .encode(0x0011_2233)
        .unwrap();
    assert_eq!(
        octets,
        vector("go_pfcp_messages.txt", "association-release-response/Normal")
    );
    let with_offending_ie = Outcome {
        offending_ie: Some(19),
        ..Outcome::ACCEPTED
    };
    let octets = response(NodeRequest::SessionSetDeletion, with_offending_ie)
        .encode(0x0011_2233)
        .unwrap();
    assert_eq!(
        octets,
        vector("go_pfcp_messages.txt", "session-set-deletion-response/Normal")
    );
}

#[test]
fn an_association_setup_response_offers_features_in_at_least_two_octets() {
    let mut response = AssociationSetupResponse {
        node_id: node_id(),
        outcome: Outcome::ACCEPTED,
        recovery_time_stamp: NtpSeconds(1),
        features: UpFunctionFeatures::NONE.with(UpFeature::Ftup),
    };
    let common = [ie(60, &NODE), ie(19, &[1]), ie(96, &[0, 0, 0, 1])].concat();
    assert_eq!(
        response.encode(1).unwrap(),
        message(6, None, 1, &[&common, &ie(43, &[0x10, 0])])
    );
    response.features = response
        .features
        .with(UpFeature::Empu)
        .with(UpFeature::Ueip)
        .with(UpFeature::Mnop);
    assert_eq!(
        response.encode(1).unwrap(),
        message(6, None, 1, &[&common, &ie(43, &[0x10, 0x01, 0x14])])
    );
    assert!(response.features.has(UpFeature::Mnop) && !response.features.has(UpFeature::Pfdm));
}

#[test]
fn an_establishment_response_tells_what_the_upf_chose() {
    let fteid = FTeid {
        v4: true,
        teid: 5,
        ipv4: Some(Ipv4Addr::new(192, 0, 2, 9)),
        ..FTeid::default()
    };
    let ue_ip = UeIp {
        ipv4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        ..UeIp::default()
    };
    let response = SessionEstablishmentResponse {
        node_id: node_id(),
        outcome: Outcome::ACCEPTED,
        up_fseid: Some(FSeid::at(7, Ipv4Addr::new(192, 0, 2, 9).into())),
        created_pdrs: vec![CreatedPdr {
            pdr_id: 1,
            local_fteid: Some(fteid),
            ue_ips: vec![ue_ip],
        }],
    };
    let created = [
        ie(56, &[0, 1]),
        ie(21, &[1, 0, 0, 0, 5, 192, 0, 2, 9]),
        ie(93, &[2, 10, 0, 0, 1]),
    ]
    .concat();
    let fseid = [2, 0, 0, 0, 0, 0, 0, 0, 7, 192, 0, 2, 9];
    let expected = [ie(60, &NODE), ie(19, &[1]), ie(57, &fseid), ie(8, &created)].concat();
    let octets = response.encode(0x99, 2).unwrap();
    assert_eq!(octets, message(51, Some(0x99), 2, &[&expected]));
    parse(&octets).expect("rs-pfcp reads it");
}

#[test]
fn a_refusal_tells_cause_offending_ie_and_failed_rule() {
    let response = SessionEstablishmentResponse {
        node_id: node_id(),
        outcome: refused(),
        up_fseid: None,
        created_pdrs: vec![],
    };
    let expected = [
        ie(60, &NODE),
        ie(19, &[73]),
        ie(40, &[0, 21]),
        ie(114, &[0, 0xff, 0xff]),
    ]
    .concat();
    assert_eq!(response.encode(1, 2).unwrap(), message(51, Some(1), 2, &[&expected]));
}

#[test]
fn a_failed_rule_id_has_the_length_of_its_kind_and_goes_with_cause_73_only() {
    let failed_rule = |kind, id, cause| {
        let outcome = Outcome {
            cause,
            offending_ie: None,
            failed_rule: Some(FailedRule { kind, id }),
        };
        let response = SessionModificationResponse {
            outcome,
            created_pdrs: vec![],
            updated_pdrs: vec![],
            usage_reports: vec![],
        };
        response.encode(1, 2).unwrap()[21..].to_vec()
    };
    let failure = Cause::RuleCreationModificationFailure;
    let go = |name: &str| vector("go_pfcp_ies.txt", &format!("FailedRuleID/{name}"));
    assert_eq!(failed_rule(RuleKind::Pdr, 0xffff, failure), go("PDR"));
    assert_eq!(failed_rule(RuleKind::Far, 0xffff_ffff, failure), go("FAR"));
    assert_eq!(failed_rule(RuleKind::Bar, 0xff, failure), go("BAR"));
    assert!(failed_rule(RuleKind::Pdr, 1, Cause::MandatoryIeMissing).is_empty());
}

#[test]
fn a_modification_response_tells_created_and_updated_pdrs_and_usage() {
    let pdr = |pdr_id| CreatedPdr {
        pdr_id,
        ..CreatedPdr::default()
    };
    let response = SessionModificationResponse {
        outcome: Outcome::ACCEPTED,
        created_pdrs: vec![pdr(1)],
        updated_pdrs: vec![pdr(2)],
        usage_reports: vec![UsageReport {
            urr_id: 3,
            ..UsageReport::default()
        }],
    };
    let usage = [ie(81, &[0, 0, 0, 3]), ie(104, &[0; 4]), ie(63, &[0; 3])].concat();
    let expected = [
        ie(19, &[1]),
        ie(8, &ie(56, &[0, 1])),
        ie(256, &ie(56, &[0, 2])),
        ie(78, &usage),
    ]
    .concat();
    assert_eq!(response.encode(1, 2).unwrap(), message(53, Some(1), 2, &[&expected]));
}

#[test]
fn a_deletion_response_reports_octets_packets_and_times() {
    let volume = VolumeMeasurement::of(Count { packets: 2, bytes: 200 }, Count { packets: 3, bytes: 300 }, true);
    let report = UsageReport {
        urr_id: 1,
        ur_seqn: 4,
        trigger: UsageReportTrigger::TERMINATION,
        start_time: Some(NtpSeconds(10)),
        end_time: Some(NtpSeconds(20)),
        volume: Some(volume),
        duration_s: Some(10),
        time_of_first_packet: Some(NtpSeconds(11)),
        time_of_last_packet: Some(NtpSeconds(19)),
        query_urr_reference: Some(6),
    };
    let response = SessionDeletionResponse {
        outcome: Outcome::ACCEPTED,
        usage_reports: vec![report],
    };
    let numbers = [500_u64, 200, 300, 5, 2, 3].map(u64::to_be_bytes).concat();
    let usage = [
        ie(81, &[0, 0, 0, 1]),
        ie(104, &[0, 0, 0, 4]),
        ie(63, &[0, 0x08, 0]),
        ie(75, &[0, 0, 0, 10]),
        ie(76, &[0, 0, 0, 20]),
        ie(69, &[0, 0, 0, 11]),
        ie(70, &[0, 0, 0, 19]),
        ie(66, &[&[0x3f][..], &numbers].concat()),
        ie(67, &[0, 0, 0, 10]),
        ie(125, &[0, 0, 0, 6]),
    ]
    .concat();
    let octets = response.encode(9, 2).unwrap();
    assert_eq!(octets, message(55, Some(9), 2, &[&ie(19, &[1]), &ie(79, &usage)]));
    parse(&octets).expect("rs-pfcp reads it");
}

#[test]
fn numbers_of_packets_are_left_out_unless_asked_for() {
    let volume = VolumeMeasurement::of(Count { packets: 2, bytes: 200 }, Count::default(), false);
    assert_eq!((volume.total, volume.total_packets), (Some(200), None));
}

#[test]
fn a_downlink_data_report_names_pdr_dscp_and_qos_flow() {
    let report = DownlinkDataReport {
        pdr_ids: vec![2],
        paging_policy_indication: Some(46),
        qfi: Some(9),
    };
    let request = SessionReportRequest {
        downlink_data: Some(report),
        ..SessionReportRequest::default()
    };
    let expected = [ie(39, &[1]), ie(83, &[ie(56, &[0, 2]), ie(45, &[3, 46, 9])].concat())].concat();
    let octets = request.encode(9, 2).unwrap();
    assert_eq!(octets, message(56, Some(9), 2, &[&expected]));
    parse(&octets).expect("rs-pfcp reads it");
}

#[test]
fn an_error_indication_report_names_the_remote_f_teid() {
    let fteid = FTeid {
        v4: true,
        teid: 0x1111_1111,
        ipv4: Some(Ipv4Addr::LOCALHOST),
        ..FTeid::default()
    };
    let report = ErrorIndicationReport {
        remote_fteids: vec![fteid],
    };
    let request = SessionReportRequest {
        error_indication: Some(report),
        ..SessionReportRequest::default()
    };
    let expected = [ie(39, &[4]), vector("go_pfcp_ies.txt", "ErrorIndicationReport")].concat();
    assert_eq!(request.encode(9, 2).unwrap(), message(56, Some(9), 2, &[&expected]));
}

#[test]
fn a_report_type_is_what_the_report_holds() {
    let request = SessionReportRequest {
        downlink_data: Some(DownlinkDataReport::default()),
        usage: vec![UsageReport::default()],
        error_indication: Some(ErrorIndicationReport::default()),
    };
    assert_eq!(request.encode(1, 1).unwrap()[16..21], ie(39, &[7])[..]);
    let usage = SessionReportRequest {
        usage: vec![UsageReport::default()],
        ..SessionReportRequest::default()
    };
    assert_eq!(usage.encode(1, 1).unwrap()[16..21], ie(39, &[2])[..]);
}

#[test]
fn a_path_failure_report_names_the_peers() {
    let peers = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    let octets = UserPlanePathFailureReport {
        node_id: node_id(),
        remote_gtpu_peers: peers,
    }
    .encode(2)
    .unwrap();
    let v6 = [&[1, 0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7]].concat();
    let report = ie(102, &[ie(103, &[2, 192, 0, 2, 7]), ie(103, &v6)].concat());
    assert_eq!(octets, message(12, None, 2, &[&ie(60, &NODE), &ie(101, &[1]), &report]));
}

#[test]
fn requests_to_the_smf_are_read_back_by_the_reader_of_its_kind() {
    let setup = AssociationSetupRequest {
        node_id: NodeId::Fqdn("upf.example".to_owned()),
        recovery_time_stamp: NtpSeconds(8),
        features: UpFunctionFeatures::NONE,
    };
    let Message::AssociationSetupRequest(read) = read_message(&setup.encode(5).unwrap()).unwrap().message else {
        panic!()
    };
    assert_eq!(
        (read.node_id, read.recovery_time_stamp),
        (setup.node_id, setup.recovery_time_stamp)
    );
    let update = AssociationUpdateRequest {
        node_id: node_id(),
        features: None,
        release: true,
    };
    assert_eq!(
        update.encode(5).unwrap(),
        message(7, None, 5, &[&ie(60, &NODE), &ie(111, &[1])])
    );
}

#[test]
fn a_message_too_long_for_a_datagram_is_an_error_and_not_a_broken_message() {
    let usage_reports = vec![UsageReport::default(); 4000];
    let response = SessionDeletionResponse {
        outcome: Outcome::ACCEPTED,
        usage_reports,
    };
    assert_eq!(response.encode(1, 1), Err(upf_ctl::pfcp::wire::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chosen_f_teids_are_written_as_the_standard_lays_them_out(fteid in decoded::fteid()) {
        prop_assume!(!fteid.choose);
        let created = CreatedPdr { pdr_id: 1, local_fteid: Some(fteid), ue_ips: vec![] };
        let response = SessionModificationResponse {
            outcome: Outcome::ACCEPTED, created_pdrs: vec![created], updated_pdrs: vec![], usage_reports: vec![],
        };
        let expected = ie(8, &[ie(56, &[0, 1]), ie(21, &wire_support::encode::fteid(&fteid))].concat());
        prop_assert_eq!(&response.encode(1, 1).unwrap()[21..], &expected[..]);
    }

    #[test]
    fn any_usage_is_readable_for_rs_pfcp(values in any::<[Option<u64>; 6]>(), times in any::<[Option<u32>; 5]>()) {
        let [total, uplink, downlink, total_packets, uplink_packets, downlink_packets] = values;
        let volume = VolumeMeasurement { total, uplink, downlink, total_packets, uplink_packets, downlink_packets };
        let [start, end, first, last, duration_s] = times;
        let report = UsageReport {
            start_time: start.map(NtpSeconds), end_time: end.map(NtpSeconds),
            time_of_first_packet: first.map(NtpSeconds), time_of_last_packet: last.map(NtpSeconds),
            volume: Some(volume), duration_s,
            ..UsageReport::default()
        };
        let usage_reports = vec![report.clone(), report];
        let octets = SessionDeletionResponse { outcome: Outcome::ACCEPTED, usage_reports }.encode(1, 1).unwrap();
        prop_assert!(parse(&octets).is_ok());
    }
}
