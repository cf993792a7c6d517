//! Messages built by scapy, an implementation that shares nothing with ours: `vectors/scapy_generated.py` wrote them
//! together with the values it built them from, and every value must be read back.

use gtpu::{GPdu, Header, Message, PduSessionContainer, parse_gpdu};
use std::collections::HashMap;
use std::fmt::{Debug, Display};

/// One line: what it is, its octets, the values it was built from.
struct Vector {
    name: &'static str,
    octets: Vec<u8>,
    values: HashMap<&'static str, &'static str>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("vectors/scapy_generated.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let (name, hex) = (words.next().unwrap(), words.next().unwrap());
            let octet = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            Vector {
                name,
                octets: (0..hex.len()).step_by(2).map(octet).collect(),
                values: words.map(|word| word.split_once('=').unwrap()).collect(),
            }
        })
        .collect()
}

impl Vector {
    /// The value read, as text, is the value built from; absent is absent.
    fn tells<T: Display + Debug>(&self, key: &str, read: Option<T>) {
        assert_eq!(
            read.map(|v| v.to_string()).as_deref(),
            self.values.get(key).copied(),
            "{key} of {:?}",
            self.values
        );
    }
}

#[test]
fn every_value_of_every_message_is_read_back() {
    let all = vectors();
    assert!(all.len() > 100);
    for vector in &all {
        let header = Header::parse(&vector.octets).unwrap();
        vector.tells("teid", Some(header.teid()));
        match Message::from_header(&header).unwrap() {
            Message::GPdu => {
                assert_eq!(vector.name, "g-pdu");
                vector.tells("seq", header.sequence_number());
                vector.tells("payload", Some(header.payload().len()));
                etherparse::SlicedPacket::from_ip(header.payload()).unwrap();
                container(vector, header.pdu_session_container().unwrap());
            }
            Message::EchoRequest { sequence_number } => {
                assert_eq!(vector.name, "echo-request");
                vector.tells("seq", Some(sequence_number));
            }
            Message::EchoResponse {
                sequence_number,
                recovery,
            } => {
                assert_eq!(vector.name, "echo-response");
                vector.tells("seq", Some(sequence_number));
                vector.tells("recovery", recovery);
            }
            Message::ErrorIndication(indication) => {
                assert_eq!(vector.name, "error-indication");
                vector.tells("tunnel", Some(indication.teid));
                vector.tells("peer", Some(indication.peer));
            }
            Message::EndMarker { .. } => assert_eq!(vector.name, "end-marker"),
            other => panic!("{other:?}"),
        }
    }
}

fn container(vector: &Vector, container: Option<PduSessionContainer>) {
    vector.tells("type", container.map(|c| c.pdu_type() as u8));
    vector.tells("qfi", container.map(|c| c.qfi()));
    match container {
        Some(PduSessionContainer::Downlink(d)) => {
            vector.tells("rqi", Some(u8::from(d.rqi)));
            vector.tells("ppi", d.ppi);
            vector.tells("number", d.sequence_number);
            vector.tells("sent", d.sending_time);
        }
        Some(PduSessionContainer::Uplink(u)) => {
            vector.tells("sent", u.time_stamps.map(|t| t.downlink_sent));
            vector.tells("received", u.time_stamps.map(|t| t.downlink_received));
            vector.tells("uplink", u.time_stamps.map(|t| t.uplink_sent));
            vector.tells("dldelay", u.downlink_delay);
            vector.tells("uldelay", u.uplink_delay);
            vector.tells("n3n9", u.n3_n9_delay);
        }
        None => {}
    }
}

#[test]
fn the_fast_path_takes_the_common_headers_and_reads_them_as_the_general_path_does() {
    let mut taken = 0;
    for vector in vectors() {
        let header = Header::parse(&vector.octets).unwrap();
        if let Ok(fast) = parse_gpdu(&vector.octets) {
            assert_eq!(GPdu::from_header(&header), Ok(fast));
            taken += 1;
        } else {
            let common = vector.name == "g-pdu" && matches!(header.header_len(), 8 | 16);
            assert!(!common, "{:?}", vector.values);
        }
    }
    assert!(taken >= 28, "{taken}");
}

#[test]
fn headers_we_write_from_the_same_values_are_scapys_octet_for_octet() {
    for vector in vectors()
        .iter()
        .filter(|v| v.name == "g-pdu" && !v.values.contains_key("seq"))
    {
        let header = Header::parse(&vector.octets).unwrap();
        let container = header.pdu_session_container().unwrap();
        let mut written = [0; 64];
        let len =
            gtpu::write_gpdu_header(&mut written, header.teid(), header.payload().len(), container.as_ref()).unwrap();
        assert_eq!(written[..len], vector.octets[..len], "{:?}", vector.values);
        assert_eq!(len, header.header_len());
    }
}
