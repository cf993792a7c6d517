//! The header, its optional part and its extension headers, as TS 29.281 5.1 and 5.2 describe them.

use gtpu::{Comprehension, Error, ExtensionType, Header, MessageType, PduSessionContainer, PduType};

#[test]
fn without_flags_the_header_is_eight_octets_and_what_follows_is_payload() {
    let header = Header::parse(&[0x30, 0xff, 0, 4, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4]).unwrap();
    assert_eq!(header.message_type(), MessageType::G_PDU);
    assert_eq!(header.teid(), 0xdead_beef);
    assert_eq!(header.header_len(), 8);
    assert_eq!(header.payload(), [1, 2, 3, 4]);
    assert_eq!(header.sequence_number(), None);
    assert_eq!(header.npdu_number(), None);
    assert_eq!(header.extensions().count(), 0);
}

#[test]
fn any_one_flag_brings_all_four_optional_octets_but_gives_meaning_only_to_its_own() {
    for (flags, sequence, npdu) in [
        (0x32, Some(0x0102), None),
        (0x31, None, Some(3)),
        (0x33, Some(0x0102), Some(3)),
        (0x34, None, None),
    ] {
        let header = [flags, 0xff, 0, 5, 0, 0, 0, 9, 1, 2, 3, 0, 0x45];
        let header = Header::parse(&header).unwrap();
        assert_eq!(header.header_len(), 12, "{flags:#x}");
        assert_eq!(header.sequence_number(), sequence, "{flags:#x}");
        assert_eq!(header.npdu_number(), npdu, "{flags:#x}");
        assert_eq!(header.payload(), [0x45]);
    }
}

#[test]
fn without_the_e_flag_the_next_extension_type_means_nothing() {
    let header = [0x32, 0xff, 0, 5, 0, 0, 0, 9, 1, 2, 3, 0x85, 0x45];
    let header = Header::parse(&header).unwrap();
    assert_eq!(header.extensions().count(), 0);
    assert_eq!(header.payload(), [0x45]);
}

#[test]
fn the_spare_bit_is_ignored() {
    assert!(Header::parse(&[0x38, 0xff, 0, 0, 0, 0, 0, 1]).is_ok());
}

#[test]
fn octets_beyond_the_length_are_tolerated_and_told() {
    let header = Header::parse(&[0x30, 0xff, 0, 1, 0, 0, 0, 1, 0x45, 0, 0]).unwrap();
    assert_eq!(header.payload(), [0x45]);
    assert_eq!(header.trailing(), [0, 0]);
}

#[test]
fn a_length_beyond_the_buffer_is_refused_with_both_lengths() {
    let error = Header::parse(&[0x30, 0xff, 0, 9, 0, 0, 0, 1, 0x45]).unwrap_err();
    assert_eq!(
        error,
        Error::LengthBeyondBuffer {
            announced: 9,
            actual: 1
        }
    );
    assert_eq!(
        error.to_string(),
        "length at offset 2: announces 9 octets after the mandatory header, the buffer has 1"
    );
}

#[test]
fn other_versions_and_gtp_prime_are_refused() {
    assert_eq!(
        Header::parse(&[0x48, 0x01, 0, 0, 0, 0, 0, 0]).unwrap_err(),
        Error::Version { actual: 2 }
    );
    assert_eq!(
        Header::parse(&[0x20, 0x01, 0, 0, 0, 0, 0, 0]).unwrap_err(),
        Error::ProtocolType
    );
}

#[test]
fn a_buffer_of_less_than_eight_octets_is_refused() {
    let error = Header::parse(&[0x30, 0xff, 0]).unwrap_err();
    assert_eq!(
        error,
        Error::Truncated {
            field: "mandatory header",
            offset: 0,
            expected: 8,
            actual: 3
        }
    );
}

#[test]
fn optional_octets_must_be_within_the_length_not_only_within_the_buffer() {
    let error = Header::parse(&[0x32, 0xff, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(
        error,
        Error::Truncated {
            field: "optional header",
            offset: 8,
            expected: 4,
            actual: 3
        }
    );
}

#[test]
fn extension_headers_are_walked_in_order() {
    let message = [
        0x36, 0xff, 0, 0x15, 0, 0, 0, 1, 0, 7, 0, 0x40, // optional part, next: UDP port
        1, 0x08, 0x68, 0xc0, // UDP port 2152, next: PDCP PDU number
        1, 0x00, 0x2a, 0x20, // PDCP PDU number, next: service class
        2, 1, 2, 3, 4, 5, 6, 0x00, // service class of eight octets, no next
        0x45,
    ];
    let header = Header::parse(&message).unwrap();
    let chain: Vec<_> = header.extensions().map(|e| (e.kind, e.content)).collect();
    assert_eq!(
        chain,
        [
            (ExtensionType::UDP_PORT, &[0x08, 0x68][..]),
            (ExtensionType::PDCP_PDU_NUMBER, &[0x00, 0x2a][..]),
            (ExtensionType::SERVICE_CLASS_INDICATOR, &[1, 2, 3, 4, 5, 6][..]),
        ]
    );
    assert_eq!(header.header_len(), 28);
    assert_eq!(header.payload(), [0x45]);
}

#[test]
fn an_extension_header_of_length_zero_is_refused_with_its_place() {
    let error = Header::parse(&[0x34, 0xff, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x85, 0, 0, 5, 0]).unwrap_err();
    assert_eq!(
        error,
        Error::ExtensionLengthZero {
            kind: ExtensionType::PDU_SESSION_CONTAINER,
            offset: 12
        }
    );
    assert_eq!(
        error.to_string(),
        "extension header 0x85 (PDU Session Container) at offset 12: \
         expected a length of 1 or more times 4 octets, found 0"
    );
}

#[test]
fn an_extension_header_that_leaves_the_message_is_refused_even_if_the_buffer_goes_on() {
    let message = [0x34, 0xff, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x85, 2, 0, 5, 0, 0, 0, 0, 0];
    let error = Header::parse(&message).unwrap_err();
    assert_eq!(
        error,
        Error::Truncated {
            field: "extension header",
            offset: 12,
            expected: 8,
            actual: 4
        }
    );
}

#[test]
fn an_announced_extension_header_that_is_missing_is_refused() {
    let error = Header::parse(&[0x34, 0xff, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x85]).unwrap_err();
    assert_eq!(
        error,
        Error::Truncated {
            field: "extension header",
            offset: 12,
            expected: 4,
            actual: 0
        }
    );
}

#[test]
fn the_two_highest_bits_of_a_type_say_who_must_understand_it() {
    let comprehension = |kind: ExtensionType| kind.comprehension();
    assert_eq!(
        comprehension(ExtensionType::SERVICE_CLASS_INDICATOR),
        Comprehension::NotRequired
    );
    assert_eq!(
        comprehension(ExtensionType::UDP_PORT),
        Comprehension::NotRequiredAndNotForwarded
    );
    assert_eq!(
        comprehension(ExtensionType::PDU_SESSION_CONTAINER),
        Comprehension::RequiredByEndpoint
    );
    assert_eq!(
        comprehension(ExtensionType::PDCP_PDU_NUMBER),
        Comprehension::RequiredByEveryone
    );
    let required = (0..=255).filter(|&kind| comprehension(ExtensionType(kind)).required_by_endpoint());
    assert!(required.eq(0x80..=0xff));
}

#[test]
fn the_first_required_header_that_is_not_understood_is_found() {
    let message = [
        0x34, 0xff, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0x3f, // next: unknown, not required
        1, 0, 0, 0x85, 1, 0x10, 5, 0xc5, 1, 0, 0, 0, 0x45, // container, then unknown 0xc5, required
    ];
    let header = Header::parse(&message).unwrap();
    assert_eq!(
        header.not_understood(&[ExtensionType::PDU_SESSION_CONTAINER]),
        Some(ExtensionType(0xc5))
    );
    assert_eq!(header.not_understood(&[]), Some(ExtensionType::PDU_SESSION_CONTAINER));
    assert_eq!(
        header.not_understood(&[ExtensionType::PDU_SESSION_CONTAINER, ExtensionType(0xc5)]),
        None
    );
}

#[test]
fn a_downlink_container_has_its_indicators_and_optional_fields() {
    let content = [
        0x0e, 0xc9, 0xa0, // QMP, SNP, MSNP; PPP, RQI, QFI 9; PPI 5
        1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 0, 0, 1, 0, // time stamp, sequence number, MBS sequence number
        0, 0, 0, 0, // padding
    ];
    let Ok(PduSessionContainer::Downlink(d)) = PduSessionContainer::parse(&content) else {
        panic!()
    };
    assert_eq!((d.qfi, d.rqi, d.ppi), (9, true, Some(5)));
    assert_eq!(d.sending_time, Some(0x0102_0304_0506_0708));
    assert_eq!(d.sequence_number, Some(0x0000_0102));
    assert_eq!(d.mbs_sequence_number, Some(0x0000_0100));
}

#[test]
fn an_uplink_container_has_its_time_stamps_and_delays() {
    let mut content = vec![0x1f, 0xc5]; // QMP, both delays, SNP; N3/N9 delay, new IEs, QFI 5
    content.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
    content.extend([0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 6, 0, 0, 0, 7, 1, 0, 0, 0, 8]);
    let container = PduSessionContainer::parse(&content).unwrap();
    assert_eq!((container.qfi(), container.pdu_type()), (5, PduType::Uplink));
    let PduSessionContainer::Uplink(u) = container else {
        panic!()
    };
    let stamps = u.time_stamps.unwrap();
    assert_eq!(
        (stamps.downlink_sent, stamps.downlink_received, stamps.uplink_sent),
        (1, 2, 3)
    );
    assert_eq!(
        (u.downlink_delay, u.uplink_delay, u.sequence_number),
        (Some(4), Some(5), Some(6))
    );
    assert_eq!((u.n3_n9_delay, u.d1_uplink_pdcp_delay), (Some(7), Some(8)));
}

#[test]
fn a_container_whose_flag_announces_a_missing_field_is_refused_with_its_name() {
    assert_eq!(
        PduSessionContainer::parse(&[0x08, 0x05]).unwrap_err(),
        Error::Truncated {
            field: "DL sending time stamp",
            offset: 2,
            expected: 8,
            actual: 0
        }
    );
}

#[test]
fn a_container_of_unknown_pdu_type_is_refused() {
    assert_eq!(
        PduSessionContainer::parse(&[0x20, 5]).unwrap_err(),
        Error::PduType { actual: 2 }
    );
}
