//! Messages built by scapy in every shape, whose names say what is in them (`vectors/scapy.txt`).

use gtpu::{ExtensionType, GPdu, Header, Message, PduSessionContainer, PduType, parse_gpdu};
use std::fmt::{Debug, Display};

struct Vector {
    name: &'static str,
    octets: Vec<u8>,
}

impl Vector {
    /// The words of the name that follow one of its words: `gpdu_dl_qfi_9` has `9` after `qfi`.
    fn after(&self, word: &str) -> Option<impl Iterator<Item = &'static str> + use<>> {
        let mut words = self.name.split('_');
        words.any(|w| w == word).then_some(words)
    }

    /// The number in the name, in decimal, is the number read; absent is absent.
    fn tells<T: Display + Debug>(&self, word: &str, read: Option<T>) {
        let told = self.after(word).and_then(|mut words| words.next());
        assert_eq!(
            read.map(|value| value.to_string()).as_deref(),
            told,
            "{word} of {}",
            self.name
        );
    }

    /// The same in hexadecimal, for TEIDs and time stamps.
    fn hexadecimal(&self, word: &str) -> Option<u64> {
        self.after(word)
            .and_then(|mut words| words.next())
            .map(|digits| u64::from_str_radix(digits, 16).unwrap())
    }
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors/scapy.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let octet = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            Vector {
                name,
                octets: (0..hex.len()).step_by(2).map(octet).collect(),
            }
        })
        .collect()
}

#[test]
fn every_message_says_what_its_name_says() {
    let all = vectors();
    assert!(all.len() > 30);
    for vector in &all {
        let header = Header::parse(&vector.octets).unwrap();
        match Message::from_header(&header).unwrap() {
            Message::GPdu => user_packet(vector, &header),
            Message::EchoRequest { sequence_number } => {
                assert!(vector.name.starts_with("echo_request"));
                vector.tells("seq", Some(sequence_number));
            }
            Message::EchoResponse {
                sequence_number,
                recovery,
            } => {
                assert!(vector.name.starts_with("echo_response"));
                vector.tells("seq", Some(sequence_number));
                vector.tells("recovery", recovery);
            }
            Message::ErrorIndication(indication) => {
                assert!(vector.name.starts_with("error_indication"));
                assert_eq!(vector.hexadecimal("teid"), Some(indication.teid.into()));
                let family = if indication.peer.is_ipv4() { "ipv4" } else { "ipv6" };
                vector.tells(family, Some(indication.peer));
            }
            Message::EndMarker { teid } => assert_eq!((vector.name, teid), ("end_marker", 0x1234_5678)),
            other => panic!("{}: {other:?}", vector.name),
        }
    }
}

fn user_packet(vector: &Vector, header: &Header<'_>) {
    assert!(vector.name.starts_with("gpdu"));
    assert_eq!(
        u64::from(header.teid()),
        vector.hexadecimal("teid").unwrap_or(0x1234_5678),
        "{}",
        vector.name
    );
    vector.tells("seq", header.sequence_number());
    vector.tells("npdu", header.npdu_number());
    for (word, kind) in [
        ("udpport", ExtensionType::UDP_PORT),
        ("pdcp", ExtensionType::PDCP_PDU_NUMBER),
    ] {
        let extension = header.extensions().find(|e| e.kind == kind);
        vector.tells(
            word,
            extension.map(|e| u16::from_be_bytes(e.content.try_into().unwrap())),
        );
    }
    let container = header.pdu_session_container().unwrap();
    vector.tells("qfi", container.map(|c| c.qfi()));
    assert_eq!(
        container.map(|c| c.pdu_type()),
        match vector.name {
            name if name.contains("_dl_") => Some(PduType::Downlink),
            name if name.contains("_ul_") => Some(PduType::Uplink),
            _ => None,
        }
    );
    match container {
        Some(PduSessionContainer::Downlink(d)) => {
            assert_eq!(d.rqi, vector.after("rqi").is_some(), "{}", vector.name);
            vector.tells("ppi", d.ppi);
            assert_eq!(d.sending_time, vector.hexadecimal("sendtime"), "{}", vector.name);
            vector.tells("sn", d.sequence_number);
        }
        Some(PduSessionContainer::Uplink(u)) => {
            let times = u
                .time_stamps
                .map(|t| [t.downlink_sent, t.downlink_received, t.uplink_sent]);
            let told = vector
                .after("times")
                .map(|words| words.take(3).map(|w| w.parse().unwrap()).collect::<Vec<u64>>());
            assert_eq!(times.map(Vec::from), told, "{}", vector.name);
            vector.tells("sn", u.sequence_number);
            vector.tells("dldelay", u.downlink_delay);
            vector.tells("uldelay", u.uplink_delay);
            vector.tells("n3n9delay", u.n3_n9_delay);
        }
        None => {}
    }
    if !header.payload().is_empty() {
        let inner = etherparse::SlicedPacket::from_ip(header.payload()).unwrap();
        let ipv4 = matches!(inner.net, Some(etherparse::NetSlice::Ipv4(_)));
        assert_eq!(ipv4, vector.name.contains("_ipv4_"), "{}", vector.name);
    }
}

#[test]
fn the_fast_path_reads_what_it_takes_as_the_general_path_does() {
    for vector in vectors().iter().filter(|v| v.name.starts_with("gpdu")) {
        let general = GPdu::from_header(&Header::parse(&vector.octets).unwrap()).unwrap();
        match parse_gpdu(&vector.octets) {
            Ok(fast) => assert_eq!(fast, general, "{}", vector.name),
            Err(_) => assert!(vector.octets[0] > 0x30, "{} has the plainest header", vector.name),
        }
    }
}
