//! What an SMF sends is read as TS 29.244 lays it out: round trips against an independent encoder, and the
//! answers that broken or unusual requests get.

mod wire_support;

use proptest::prelude::*;
use rs_pfcp::ie::IeType;
use upf_ctl::pfcp::wire::incoming::{SessionEstablishmentRequest, SessionModificationRequest};
use upf_ctl::pfcp::wire::{Cause, Message, NodeId, NtpSeconds, Refusal, WireError, read_message};
use upf_model::decoded::SessionRequest;
use wire_support::encode::{ie, message, rules};
use wire_support::{decoded, establishment, hex, modification};

fn established(datagram: &[u8]) -> SessionEstablishmentRequest {
    match read_message(datagram).expect("readable").message {
        Message::SessionEstablishmentRequest(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn modified(datagram: &[u8]) -> SessionModificationRequest {
    match read_message(datagram).expect("readable").message {
        Message::SessionModificationRequest(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn refused(datagram: &[u8]) -> Refusal {
    match read_message(datagram) {
        Err(WireError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn cause_and_ie(datagram: &[u8]) -> (Cause, Option<u16>) {
    let refusal = refused(datagram);
    (refusal.cause, refusal.offending_ie)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rules_of_an_establishment_request_are_read_as_they_were_encoded(request in decoded::creates()) {
        prop_assert_eq!(established(&establishment(&rules(&request))).rules, request);
    }

    #[test]
    fn rules_of_a_modification_request_are_read_as_they_were_encoded(request in decoded::changes()) {
        prop_assert_eq!(modified(&modification(&rules(&request))).rules, request);
    }

    #[test]
    fn any_prefix_of_a_request_is_an_error_and_not_another_request(
        request in decoded::creates(),
        cut in any::<prop::sample::Index>(),
    ) {
        let datagram = establishment(&rules(&request));
        prop_assert!(read_message(&datagram[..cut.index(datagram.len())]).is_err());
    }
}

#[test]
fn the_header_gives_seid_24_bit_sequence_number_and_priority() {
    let received = read_message(&message(54, Some(0x0102_0304_0506_0708), 0x00ff_fefd, &[])).unwrap();
    assert_eq!(received.header.seid, Some(0x0102_0304_0506_0708));
    assert_eq!(received.header.sequence, 0x00ff_fefd);
    assert_eq!(received.header.priority, None);
    assert_eq!(received.message, Message::SessionDeletionRequest);

    let with_priority = read_message(&hex("22 01 000c 000007 50 0060 0004 00000001")).unwrap();
    assert_eq!(with_priority.header.priority, Some(5));
    assert_eq!(with_priority.header.seid, None);
}

#[test]
fn another_version_is_told_apart_with_its_sequence_number() {
    let error = read_message(&hex("40 01 0004 000102 00")).unwrap_err();
    assert_eq!(
        error,
        WireError::Version {
            version: 2,
            sequence: 0x0102
        }
    );
}

#[test]
fn a_datagram_too_short_for_a_header_is_discarded() {
    assert_eq!(read_message(&[]), Err(WireError::NoHeader { length: 0 }));
    assert_eq!(
        read_message(&hex("20 01 0004 000102")),
        Err(WireError::NoHeader { length: 7 })
    );
    assert_eq!(
        read_message(&hex("21 36 000c 00000000")),
        Err(WireError::NoHeader { length: 8 })
    );
}

#[test]
fn a_length_field_that_disagrees_with_the_datagram_is_refused_with_cause_68_and_no_ie() {
    let mut datagram = message(1, None, 1, &[&ie(96, &[0; 4])]);
    datagram[3] += 1;
    assert_eq!(cause_and_ie(&datagram), (Cause::InvalidLength, None));
    let mut datagram = message(1, None, 1, &[&ie(96, &[0; 4])]);
    datagram.push(0);
    assert_eq!(cause_and_ie(&datagram), (Cause::InvalidLength, None));
}

#[test]
fn a_missing_mandatory_ie_is_refused_with_cause_66_and_its_type() {
    assert_eq!(
        cause_and_ie(&message(1, None, 1, &[])),
        (Cause::MandatoryIeMissing, Some(96))
    );
    assert_eq!(
        cause_and_ie(&message(5, None, 1, &[&ie(96, &[0; 4])])),
        (Cause::MandatoryIeMissing, Some(60))
    );
    assert_eq!(
        cause_and_ie(&message(9, None, 1, &[])),
        (Cause::MandatoryIeMissing, Some(60))
    );
    let without_fseid = message(50, Some(0), 1, &[&ie(60, &[0, 192, 0, 2, 1])]);
    assert_eq!(cause_and_ie(&without_fseid), (Cause::MandatoryIeMissing, Some(57)));
    assert_eq!(
        cause_and_ie(&modification(&ie(15, &[]))),
        (Cause::MandatoryIeMissing, Some(56))
    );
}

#[test]
fn an_ie_too_short_for_its_type_is_refused_with_cause_68_and_its_type() {
    for (ie_type, inside) in [(56, vec![1]), (29, vec![0; 3]), (108, vec![1, 2]), (81, vec![0; 3])] {
        assert_eq!(
            cause_and_ie(&establishment(&ie(1, &ie(ie_type, &inside)))),
            (Cause::InvalidLength, Some(ie_type))
        );
    }
    let fteid = ie(1, &ie(2, &ie(21, &[1, 0, 0, 0, 1, 192, 0, 2])));
    assert_eq!(cause_and_ie(&establishment(&fteid)), (Cause::InvalidLength, Some(21)));
    let mbr = ie(7, &ie(26, &[0; 9]));
    assert_eq!(cause_and_ie(&establishment(&mbr)), (Cause::InvalidLength, Some(26)));
}

#[test]
fn an_ie_that_reaches_over_the_end_of_its_group_is_refused_with_cause_68_and_its_type() {
    let mut pdr = ie(56, &[0, 1]);
    pdr[3] = 3;
    assert_eq!(
        cause_and_ie(&establishment(&ie(1, &pdr))),
        (Cause::InvalidLength, Some(56))
    );
    assert_eq!(
        cause_and_ie(&establishment(&ie(1, &[0, 56, 0]))),
        (Cause::InvalidLength, Some(1))
    );
}

#[test]
fn a_refused_establishment_request_still_tells_the_smfs_endpoint() {
    let Err(WireError::Refused {
        cp_fseid: Some(fseid), ..
    }) = read_message(&establishment(&ie(1, &ie(56, &[1]))))
    else {
        panic!("refused with an F-SEID");
    };
    assert_eq!(fseid.seid, 9);
}

#[test]
fn octets_after_the_known_part_of_an_ie_are_ignored() {
    let pdr = ie(1, &[ie(56, &[0, 1, 0xaa]), ie(29, &[0, 0, 0, 5, 0xbb])].concat());
    let request = established(&establishment(&pdr));
    assert_eq!(request.rules.create_pdrs[0].id, Some(1));
    assert_eq!(request.rules.create_pdrs[0].precedence, Some(5));
}

#[test]
fn unknown_vendor_specific_and_misplaced_ies_are_ignored_even_when_empty() {
    let ies = [
        ie(0x7ffe, &[1, 2, 3]),
        ie(0x7ffe, &[]),
        ie(0x8005, &[0x28, 0xaf, 1]),
        ie(0x8005, &[]),
        ie(25, &[0]), // Gate Status belongs into a QER.
    ]
    .concat();
    assert_eq!(established(&establishment(&ies)).rules, SessionRequest::default());
    let qer = ie(7, &[ies.clone(), ie(109, &[0, 0, 0, 1])].concat());
    assert_eq!(
        established(&establishment(&qer)).rules.create_qers[0].gate_status,
        Some(0)
    );
}

#[test]
fn only_the_first_of_an_ie_that_may_not_repeat_counts() {
    let pdr = ie(1, &[ie(29, &[0, 0, 0, 1]), ie(29, &[0, 0, 0, 2])].concat());
    assert_eq!(
        established(&establishment(&pdr)).rules.create_pdrs[0].precedence,
        Some(1)
    );
}

#[test]
fn a_second_far_or_tunnel_of_a_pdr_is_noted_as_unsupported() {
    let fteid = ie(21, &[1, 0, 0, 0, 1, 192, 0, 2, 1]);
    let pdi = ie(2, &[fteid.clone(), fteid].concat());
    let pdr = ie(1, &[ie(108, &[0, 0, 0, 1]), ie(108, &[0, 0, 0, 2]), pdi].concat());
    let pdr = &established(&establishment(&pdr)).rules.create_pdrs[0];
    assert_eq!(pdr.far_id, Some(1));
    assert_eq!(pdr.unsupported, [108]);
    assert_eq!(pdr.pdi.as_ref().unwrap().unsupported, [21]);
}

#[test]
fn an_empty_ie_in_an_update_is_a_removal() {
    let parameters = ie(11, &[ie(84, &[]), ie(30, &[])].concat());
    let far = ie(10, &[ie(108, &[0, 0, 0, 1]), parameters, ie(88, &[])].concat());
    let far = &modified(&modification(&far)).rules.update_fars[0];
    assert_eq!(far.removed, [88]);
    assert_eq!(far.forwarding.as_ref().unwrap().removed, [84, 30]);
    let qer = ie(14, &[ie(109, &[0, 0, 0, 1]), ie(26, &[])].concat());
    assert_eq!(modified(&modification(&qer)).rules.update_qers[0].removed, [26]);
}

#[test]
fn an_empty_identifier_is_no_removal_but_a_wrong_length() {
    assert_eq!(
        cause_and_ie(&modification(&ie(14, &ie(109, &[])))),
        (Cause::InvalidLength, Some(109))
    );
}

#[test]
fn apply_action_may_have_one_octet_or_two() {
    for (value, expected) in [
        (&[0x02][..], 0x0002),
        (&[0x0c, 0x01][..], 0x010c),
        (&[1, 0, 0xff][..], 1),
    ] {
        let far = ie(3, &ie(44, value));
        assert_eq!(
            established(&establishment(&far)).rules.create_fars[0].apply_action,
            Some(expected)
        );
    }
}

#[test]
fn reporting_triggers_may_have_one_to_three_octets() {
    for (value, expected) in [
        (&[0x01][..], 1),
        (&[0x02, 0x01][..], 0x102),
        (&[0, 0, 0x04][..], 0x4_0000),
    ] {
        let urr = ie(6, &ie(37, value));
        assert_eq!(
            established(&establishment(&urr)).rules.create_urrs[0].reporting_triggers,
            Some(expected)
        );
    }
}

#[test]
fn a_network_instance_is_the_same_as_text_and_as_labels() {
    for octets in [
        &b"internet.example"[..],
        b"\x08internet\x07example",
        b"\x08internet\x07example\x00",
    ] {
        let pdr = ie(1, &ie(2, &ie(22, octets)));
        let pdi = established(&establishment(&pdr))
            .rules
            .create_pdrs
            .remove(0)
            .pdi
            .unwrap();
        assert_eq!(pdi.network_instance.as_deref(), Some("internet.example"));
    }
    let not_text = ie(1, &ie(2, &ie(22, &[0xff, 0xfe])));
    assert_eq!(
        cause_and_ie(&establishment(&not_text)),
        (Cause::MandatoryIeIncorrect, Some(22))
    );
}

#[test]
fn flags_of_requests_are_acted_on_or_noted_as_unsupported() {
    let request = established(&establishment(&ie(186, &[0x01])));
    assert!(request.restoration && request.rules.unsupported.is_empty());
    assert_eq!(established(&establishment(&ie(186, &[0x02]))).rules.unsupported, [186]);
    let request = modified(&modification(&ie(49, &[0x05]))).rules;
    assert!(request.drop_buffered && request.query_all_urrs && request.unsupported.is_empty());
    assert_eq!(modified(&modification(&ie(49, &[0x08]))).rules.unsupported, [49]);
}

#[test]
fn ies_that_only_describe_the_session_are_ignored() {
    let ies = [
        ie(141, &[0]),
        ie(159, b"\x08internet"),
        ie(257, &[1, 0, 0, 1]),
        ie(113, &[1]),
    ]
    .concat();
    let request = established(&establishment(&ies));
    assert_eq!(request.pdn_type, Some(1));
    assert_eq!(request.rules, SessionRequest::default());
}

#[test]
fn association_messages_are_read() {
    let node_id = ie(60, &[1, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let setup = message(
        5,
        None,
        1,
        &[&node_id, &ie(96, &[0, 0, 0, 7]), &ie(89, &[0x3f]), &ie(183, &[])],
    );
    let Message::AssociationSetupRequest(setup) = read_message(&setup).unwrap().message else {
        panic!()
    };
    assert_eq!(setup.node_id, NodeId::Ipv6("2001:db8::1".parse().unwrap()));
    assert_eq!(setup.recovery_time_stamp, NtpSeconds(7));
    assert_eq!(setup.features.0, 0x3f);
    assert!(setup.retain_sessions);

    let release = message(9, None, 1, &[&node_id]);
    assert!(matches!(
        read_message(&release).unwrap().message,
        Message::AssociationReleaseRequest(_)
    ));
    let wrong_node_id = message(9, None, 1, &[&ie(60, &[7, 1, 2, 3, 4])]);
    assert_eq!(cause_and_ie(&wrong_node_id), (Cause::MandatoryIeIncorrect, Some(60)));
}

#[test]
fn a_report_response_may_change_the_buffering_and_drop_what_is_buffered() {
    let bar = ie(
        12,
        &[ie(88, &[1]), ie(46, &[2]), ie(47, &[0x23]), ie(48, &[0x01, 0x00])].concat(),
    );
    let datagram = message(57, Some(7), 1, &[&ie(19, &[1]), &bar, &ie(50, &[1])]);
    let Message::SessionReportResponse(response) = read_message(&datagram).unwrap().message else {
        panic!()
    };
    assert!(response.drop_buffered);
    let update = response.update_bar.unwrap();
    assert_eq!(
        (update.bar.id, update.bar.downlink_data_notification_delay),
        (Some(1), Some(2))
    );
    assert_eq!(
        (update.dl_buffering_duration, update.dl_buffering_suggested_packet_count),
        (Some(0x23), Some(256))
    );
}

#[test]
fn messages_that_no_upf_is_sent_are_unexpected_whatever_is_in_them() {
    for message_type in [0, 12, 51, 53, 55, 56, 99, 255] {
        assert_eq!(
            read_message(&message(message_type, Some(1), 1, &[&[1, 2, 3]]))
                .unwrap()
                .message,
            Message::Unexpected
        );
    }
}

#[test]
fn ie_types_are_those_of_table_8_1_2_1() {
    let known = [
        (IeType::Fteid, 21),
        (IeType::Fseid, 57),
        (IeType::UpdatedPdr, 256),
        (IeType::UeIpAddress, 93),
    ];
    known
        .into_iter()
        .for_each(|(ie_type, number)| assert_eq!(ie_type as u16, number));
}
