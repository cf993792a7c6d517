//! Signalling messages, octet for octet.

use gtpu::{Error, ErrorIndication, ExtensionType, GPdu, GpduTemplate, Header, Message, MessageType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn written(write: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Vec<u8> {
    let mut buffer = [0xee; 300];
    let len = write(&mut buffer).unwrap();
    assert!(
        buffer[len..].iter().all(|&octet| octet == 0xee),
        "nothing is written beyond the length told"
    );
    buffer[..len].to_vec()
}

#[test]
fn an_echo_is_answered_with_the_same_sequence_number_and_a_recovery_of_zero() {
    let request = written(|b| gtpu::write_echo_request(b, 0xcafe));
    assert_eq!(request, [0x32, 1, 0, 4, 0, 0, 0, 0, 0xca, 0xfe, 0, 0]);
    let header = Header::parse(&request).unwrap();
    let Message::EchoRequest { sequence_number } = Message::from_header(&header).unwrap() else {
        panic!()
    };
    let response = written(|b| gtpu::write_echo_response(b, sequence_number));
    assert_eq!(response, [0x32, 2, 0, 6, 0, 0, 0, 0, 0xca, 0xfe, 0, 0, 14, 0]);
    let header = Header::parse(&response).unwrap();
    assert!(matches!(
        Message::from_header(&header),
        Ok(Message::EchoResponse {
            sequence_number: 0xcafe,
            recovery: Some(0)
        })
    ));
}

#[test]
fn an_error_indication_names_tunnel_address_and_port_of_the_packet_it_answers() {
    let indication = ErrorIndication {
        teid: 0x1122_3344,
        peer: Ipv4Addr::new(192, 0, 2, 1).into(),
        udp_source_port: Some(2152),
    };
    let message = written(|b| gtpu::write_error_indication(b, &indication));
    assert_eq!(
        message,
        [
            0x36, 26, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0x08, 0x68, 0, // header with UDP port
            16, 0x11, 0x22, 0x33, 0x44, 133, 0, 4, 192, 0, 2, 1, // TEID Data I, peer address
        ]
    );
    assert_eq!(
        ErrorIndication::from_header(&Header::parse(&message).unwrap()),
        Ok(indication)
    );
}

#[test]
fn an_error_indication_over_ipv6_without_port_survives_the_round_trip() {
    let peer: IpAddr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
    let indication = ErrorIndication {
        teid: 5,
        peer,
        udp_source_port: None,
    };
    let message = written(|b| gtpu::write_error_indication(b, &indication));
    assert_eq!(message.len(), 12 + 5 + 3 + 16);
    assert_eq!(
        ErrorIndication::from_header(&Header::parse(&message).unwrap()),
        Ok(indication)
    );
}

#[test]
fn the_longest_error_indication_is_as_long_as_told() {
    let peer = Ipv6Addr::LOCALHOST.into();
    let indication = ErrorIndication {
        teid: 5,
        peer,
        udp_source_port: Some(1),
    };
    assert_eq!(
        written(|b| gtpu::write_error_indication(b, &indication)).len(),
        gtpu::ERROR_INDICATION_MAX_LEN
    );
}

#[test]
fn an_error_indication_without_an_element_is_refused_by_its_name() {
    let message = [0x32, 26, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1];
    let error = ErrorIndication::from_header(&Header::parse(&message).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "information element GTP-U Peer Address (type 133): mandatory, not found"
    );
}

#[test]
fn unknown_elements_in_tlv_form_are_passed_over_and_in_tv_form_refused() {
    let known = [16, 0, 0, 0, 1, 133, 0, 4, 1, 2, 3, 4];
    let message = |unknown: &[u8]| {
        let mut m = vec![
            0x32,
            26,
            0,
            (4 + unknown.len() + known.len()) as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        m.extend(unknown);
        m.extend(known);
        m
    };
    let private = message(&[255, 0, 3, 9, 9, 9]);
    assert!(ErrorIndication::from_header(&Header::parse(&private).unwrap()).is_ok());
    let unknown = message(&[99, 1]);
    assert_eq!(
        ErrorIndication::from_header(&Header::parse(&unknown).unwrap()),
        Err(Error::UnknownElement { kind: 99, offset: 12 })
    );
}

#[test]
fn an_element_that_leaves_the_message_is_refused_with_its_place() {
    let message = [0x32, 26, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 133, 0, 9, 1, 2];
    assert_eq!(
        ErrorIndication::from_header(&Header::parse(&message).unwrap()),
        Err(Error::Truncated {
            field: "information element",
            offset: 12,
            expected: 12,
            actual: 5
        })
    );
}

#[test]
fn supported_extension_headers_are_listed_with_a_length_of_one_octet() {
    let types = [ExtensionType::PDU_SESSION_CONTAINER, ExtensionType::UDP_PORT];
    let message = written(|b| gtpu::write_supported_extension_headers_notification(b, &types));
    assert_eq!(message, [0x32, 31, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 141, 2, 0x85, 0x40]);
    let header = Header::parse(&message).unwrap();
    let Ok(Message::SupportedExtensionHeadersNotification { types }) = Message::from_header(&header) else {
        panic!()
    };
    assert_eq!(types, [0x85, 0x40]);
}

#[test]
fn an_end_marker_carries_the_tunnel_and_nothing_else() {
    let message = written(|b| gtpu::write_end_marker(b, 0x0102_0304));
    assert_eq!(message, [0x30, 254, 0, 0, 1, 2, 3, 4]);
    let header = Header::parse(&message).unwrap();
    assert!(matches!(
        Message::from_header(&header),
        Ok(Message::EndMarker { teid: 0x0102_0304 })
    ));
}

#[test]
fn a_message_of_another_type_is_told_by_its_number() {
    let header = [0x30, 77, 0, 0, 0, 0, 0, 0];
    let header = Header::parse(&header).unwrap();
    let Ok(Message::Other(kind)) = Message::from_header(&header) else {
        panic!()
    };
    assert_eq!(kind, MessageType(77));
    assert_eq!(
        GPdu::from_header(&header),
        Err(Error::MessageType {
            expected: 255,
            actual: 77
        })
    );
}

#[test]
fn no_builder_writes_into_a_buffer_that_is_too_small() {
    let indication = ErrorIndication {
        teid: 1,
        peer: Ipv6Addr::LOCALHOST.into(),
        udp_source_port: Some(1),
    };
    type Write<'a> = &'a dyn Fn(&mut [u8]) -> Result<usize, Error>;
    let writers: [Write<'_>; 7] = [
        &|b| gtpu::write_echo_request(b, 1),
        &|b| gtpu::write_echo_response(b, 1),
        &|b| gtpu::write_end_marker(b, 1),
        &|b| gtpu::write_error_indication(b, &indication),
        &|b| gtpu::write_supported_extension_headers_notification(b, &[ExtensionType::UDP_PORT; 255]),
        &|b| gtpu::write_gpdu_header(b, 1, 0, Some(&gtpu::PduSessionContainer::uplink(1))),
        &|b| GpduTemplate::downlink(1, 2, true, Some(3)).write(b, 0),
    ];
    for write in writers {
        let len = written(write).len();
        for short in 0..len {
            let mut buffer = vec![0xee; short];
            assert_eq!(
                write(&mut buffer),
                Err(Error::BufferTooSmall {
                    expected: len,
                    actual: short
                })
            );
            assert!(buffer.iter().all(|&octet| octet == 0xee));
        }
    }
}

#[test]
fn more_supported_types_than_there_are_is_refused() {
    let types = [ExtensionType::UDP_PORT; 256];
    assert_eq!(
        gtpu::write_supported_extension_headers_notification(&mut [0; 400], &types),
        Err(Error::PayloadTooLong {
            expected: 255,
            actual: 256
        })
    );
}
