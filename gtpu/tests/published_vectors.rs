//! Messages that others published, read and (where we send such messages) written again.
//!
//! Sources: the test data of wmnsk/go-gtp `gtpv1/message/*_test.go` (MIT), and two messages dissected in secdev/scapy
//! `test/contrib/gtp.uts`, and two PDU Session Containers of a public Go implementation of TS 38.415; data only.

use gtpu::{ErrorIndication, ExtensionType, GPdu, Header, Message, MessageType, PduSessionContainer, parse_gpdu};

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

#[test]
fn go_gtp_headers_with_every_combination_of_flags() {
    let udp_port = (ExtensionType::UDP_PORT, vec![0x22, 0xb8]);
    let two = vec![udp_port.clone(), udp_port];
    for (hex, kind, sequence, npdu, extensions) in [
        ("30ff0004deadbeef deadbeef", MessageType::G_PDU, None, None, vec![]),
        (
            "32010008deadbeef cafe0000 deadbeef",
            MessageType::ECHO_REQUEST,
            Some(0xcafe),
            None,
            vec![],
        ),
        (
            "31010008deadbeef 0000ff00 deadbeef",
            MessageType::ECHO_REQUEST,
            None,
            Some(0xff),
            vec![],
        ),
        (
            "34010010deadbeef 00000040 0122b840 0122b800 deadbeef",
            MessageType::ECHO_REQUEST,
            None,
            None,
            two.clone(),
        ),
        (
            "33010008deadbeef cafeff00 deadbeef",
            MessageType::ECHO_REQUEST,
            Some(0xcafe),
            Some(0xff),
            vec![],
        ),
        (
            "36010010deadbeef cafe0040 0122b840 0122b800 deadbeef",
            MessageType::ECHO_REQUEST,
            Some(0xcafe),
            None,
            two.clone(),
        ),
        (
            "37010010deadbeef cafeff40 0122b840 0122b800 deadbeef",
            MessageType::ECHO_REQUEST,
            Some(0xcafe),
            Some(0xff),
            two,
        ),
    ] {
        let message = octets(hex);
        let header = Header::parse(&message).unwrap();
        assert_eq!(header.message_type(), kind, "{hex}");
        assert_eq!(header.teid(), 0xdead_beef, "{hex}");
        assert_eq!(header.sequence_number(), sequence, "{hex}");
        assert_eq!(header.npdu_number(), npdu, "{hex}");
        assert!(
            header.extensions().map(|e| (e.kind, e.content.to_vec())).eq(extensions),
            "{hex}"
        );
        assert_eq!(header.payload(), [0xde, 0xad, 0xbe, 0xef], "{hex}");
    }
}

#[test]
fn go_gtp_headers_that_are_too_short() {
    for hex in ["36030004 00000000 0006ffc1", "32033033 00000000 0006ff00"] {
        assert!(Header::parse(&octets(hex)).is_err(), "{hex}");
    }
}

#[test]
fn go_gtp_fuzz_seeds() {
    for seed in [
        &b"10000000"[..],
        b"70\x00\x0400000000\x000",
        b"70\x00\x0400000000\x0100\x00",
    ] {
        let _ = Header::parse(seed);
    }
}

#[test]
fn go_gtp_g_pdus() {
    for (hex, header_len, qfi) in [
        ("30ff0004deadbeef deadbeef", 8, None),
        ("32ff0008deadbeef 00010000 deadbeef", 12, None),
        ("34ff000cdeadbeef 00000085 01000500 deadbeef", 16, Some(5)),
    ] {
        let message = octets(hex);
        let gpdu = GPdu::from_header(&Header::parse(&message).unwrap()).unwrap();
        assert_eq!(
            (gpdu.teid, gpdu.header_len, gpdu.qfi),
            (0xdead_beef, header_len, qfi),
            "{hex}"
        );
        assert_eq!(
            message[gpdu.header_len..][..gpdu.payload_len],
            [0xde, 0xad, 0xbe, 0xef],
            "{hex}"
        );
        if qfi.is_some() || header_len == 8 {
            assert_eq!(parse_gpdu(&message), Ok(gpdu));
            let mut written = [0; 16];
            let container = qfi.map(PduSessionContainer::downlink);
            let len = gtpu::write_gpdu_header(&mut written, gpdu.teid, 4, container.as_ref()).unwrap();
            assert_eq!(written[..len], message[..header_len], "{hex}");
        }
    }
}

#[test]
fn go_gtp_error_indication() {
    let message = octets("321a0010 11223344 00010000 10deadbeef 850004 01010101");
    let indication = ErrorIndication::from_header(&Header::parse(&message).unwrap()).unwrap();
    assert_eq!(indication.teid, 0xdead_beef);
    assert_eq!(indication.peer.to_string(), "1.1.1.1");
    assert_eq!(indication.udp_source_port, None);
}

#[test]
fn go_gtp_echo_response_and_end_marker() {
    let response = octets("32020006 00000000 00000000 0e80");
    assert!(matches!(
        Message::from_header(&Header::parse(&response).unwrap()),
        Ok(Message::EchoResponse {
            sequence_number: 0,
            recovery: Some(0x80)
        })
    ));
    let mut written = [0; 8];
    gtpu::write_end_marker(&mut written, 0).unwrap();
    assert_eq!(written[..], octets("30fe0000 00000000"));
}

#[test]
fn scapy_error_indication_over_ipv6() {
    // Ethernet, IPv6 and UDP 2152 taken off.
    let message = octets("321a001c 00000000 00000000 10000004d2 850010 fd010001000000000000000000000001");
    let indication = ErrorIndication::from_header(&Header::parse(&message).unwrap()).unwrap();
    assert_eq!(
        (indication.teid, indication.peer.to_string()),
        (1234, "fd01:1::1".to_owned())
    );
    let mut written = [0; 64];
    let len = gtpu::write_error_indication(&mut written, &indication).unwrap();
    assert_eq!(written[..len], message[..]);
}

#[test]
fn scapy_echo_response_with_ethernet_padding() {
    // As captured on a GTP-C port, with the four octets of padding that follow the IP packet.
    let message = octets("32020006c192a26c 8cb40000 0e0e 00000000");
    let header = Header::parse(&message).unwrap();
    assert_eq!(header.trailing().len(), 4);
    assert!(matches!(
        Message::from_header(&header),
        Ok(Message::EchoResponse {
            sequence_number: 0x8cb4,
            recovery: Some(14)
        })
    ));
}

#[test]
fn go_pdu_session_containers_with_every_optional_field() {
    let downlink = octets("0ec220 00000000e653e0c4 080808 00000003");
    let Ok(PduSessionContainer::Downlink(d)) = PduSessionContainer::parse(&downlink) else {
        panic!()
    };
    assert_eq!((d.qfi, d.rqi, d.ppi), (2, true, Some(1)));
    assert_eq!(d.sending_time, Some(0xe653_e0c4));
    assert_eq!((d.sequence_number, d.mbs_sequence_number), (Some(0x08_0808), Some(3)));

    let uplink = octets("1f8a 00000000e653f560 00000000e653f7d8 00000000e6540369 00000000 00000000 060606 0000020d");
    let Ok(PduSessionContainer::Uplink(u)) = PduSessionContainer::parse(&uplink) else {
        panic!()
    };
    assert_eq!(u.qfi, 10);
    assert_eq!(u.time_stamps.map(|t| t.uplink_sent), Some(0xe654_0369));
    assert_eq!((u.downlink_delay, u.uplink_delay), (Some(0), Some(0)));
    assert_eq!((u.sequence_number, u.n3_n9_delay), (Some(0x06_0606), Some(525)));
    assert_eq!(u.d1_uplink_pdcp_delay, None);
}
