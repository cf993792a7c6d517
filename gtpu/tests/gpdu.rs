//! Users' packets: the fast path against the general one, templates against the general builder.

use gtpu::{
    DownlinkInformation, Error, GPdu, GpduTemplate, Header, NotFast, PduSessionContainer, PduType, UplinkInformation,
    UplinkTimeStamps, parse_gpdu, write_gpdu_header,
};
use proptest::prelude::*;

fn packet(teid: u32, container: Option<&PduSessionContainer>, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xee; 64];
    let len = write_gpdu_header(&mut buffer, teid, payload.len(), container).unwrap();
    buffer.truncate(len);
    buffer.extend(payload);
    buffer
}

#[test]
fn the_two_common_headers_take_the_fast_path() {
    let plain = parse_gpdu(&packet(7, None, b"ip")).unwrap();
    assert_eq!(
        plain,
        GPdu {
            teid: 7,
            header_len: 8,
            payload_len: 2,
            qfi: None,
            pdu_type: None,
            rqi: false
        }
    );
    let uplink = parse_gpdu(&packet(7, Some(&PduSessionContainer::uplink(63)), b"ip")).unwrap();
    assert_eq!((uplink.header_len, uplink.payload_len), (16, 2));
    assert_eq!(
        (uplink.qfi, uplink.pdu_type, uplink.rqi),
        (Some(63), Some(PduType::Uplink), false)
    );
    let reflective = DownlinkInformation {
        qfi: 1,
        rqi: true,
        ..Default::default()
    };
    let downlink = parse_gpdu(&packet(7, Some(&PduSessionContainer::Downlink(reflective)), b"ip")).unwrap();
    assert_eq!(
        (downlink.qfi, downlink.pdu_type, downlink.rqi),
        (Some(1), Some(PduType::Downlink), true)
    );
}

#[test]
fn other_shapes_leave_the_fast_path_but_are_read_the_same_by_the_general_one() {
    let paging = DownlinkInformation {
        qfi: 9,
        ppi: Some(3),
        ..Default::default()
    };
    let octets = packet(7, Some(&PduSessionContainer::Downlink(paging)), b"ip");
    assert_eq!(parse_gpdu(&octets), Err(NotFast));
    let general = GPdu::from_header(&Header::parse(&octets).unwrap()).unwrap();
    assert_eq!((general.qfi, general.header_len, general.payload_len), (Some(9), 20, 2));
    // A sequence number, as S1-U peers may send.
    let sequenced = [0x32, 0xff, 0, 5, 0, 0, 0, 7, 0, 1, 0, 0, 0x45];
    assert_eq!(parse_gpdu(&sequenced), Err(NotFast));
    assert_eq!(
        GPdu::from_header(&Header::parse(&sequenced).unwrap())
            .unwrap()
            .header_len,
        12
    );
}

#[test]
fn signalling_and_broken_packets_leave_the_fast_path() {
    let whole = packet(7, Some(&PduSessionContainer::uplink(1)), &[0; 4]);
    for cut in 0..whole.len() {
        assert_eq!(parse_gpdu(&whole[..cut]), Err(NotFast), "cut after {cut}");
    }
    assert_eq!(parse_gpdu(&[0x30, 254, 0, 0, 0, 0, 0, 1]), Err(NotFast));
    assert_eq!(parse_gpdu(&[0x50, 255, 0, 0, 0, 0, 0, 1]), Err(NotFast));
    // The length covers only half of the extension header.
    let mut short = whole;
    short[3] = 6;
    assert_eq!(parse_gpdu(&short), Err(NotFast));
}

#[test]
fn octets_beyond_the_length_are_not_payload() {
    let mut octets = packet(7, None, b"ip");
    octets.extend([0; 20]);
    assert_eq!(parse_gpdu(&octets).unwrap().payload_len, 2);
}

#[test]
fn a_payload_that_the_length_field_cannot_tell_is_refused() {
    let container = PduSessionContainer::uplink(1);
    let mut buffer = [0; 64];
    assert_eq!(write_gpdu_header(&mut buffer, 1, 65_535, None), Ok(8));
    assert_eq!(
        write_gpdu_header(&mut buffer, 1, 65_528, Some(&container)),
        Err(Error::PayloadTooLong {
            expected: 65_527,
            actual: 65_528
        })
    );
    assert_eq!(
        GpduTemplate::plain(1).write(&mut buffer, 65_536),
        Err(Error::PayloadTooLong {
            expected: 65_535,
            actual: 65_536
        })
    );
}

fn containers() -> impl Strategy<Value = PduSessionContainer> {
    let sequence = || prop::option::of(0u32..1 << 24);
    let downlink = (
        0u8..64,
        any::<bool>(),
        prop::option::of(0u8..8),
        any::<Option<u64>>(),
        sequence(),
        any::<Option<u32>>(),
    )
        .prop_map(|(qfi, rqi, ppi, sending_time, sequence_number, mbs_sequence_number)| {
            PduSessionContainer::Downlink(DownlinkInformation {
                qfi,
                rqi,
                ppi,
                sending_time,
                sequence_number,
                mbs_sequence_number,
            })
        });
    let stamps = any::<Option<(u64, u64, u64)>>();
    let delays = any::<(Option<u32>, Option<u32>, Option<u32>, Option<u32>)>();
    let uplink = (0u8..64, stamps, delays, sequence()).prop_map(|(qfi, stamps, delays, sequence_number)| {
        PduSessionContainer::Uplink(UplinkInformation {
            qfi,
            time_stamps: stamps.map(|(downlink_sent, downlink_received, uplink_sent)| UplinkTimeStamps {
                downlink_sent,
                downlink_received,
                uplink_sent,
            }),
            downlink_delay: delays.0,
            uplink_delay: delays.1,
            sequence_number,
            n3_n9_delay: delays.2,
            d1_uplink_pdcp_delay: delays.3,
        })
    });
    prop_oneof![downlink, uplink]
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(
        teid: u32, container in prop::option::of(containers()), payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let octets = packet(teid, container.as_ref(), &payload);
        let header = Header::parse(&octets).unwrap();
        prop_assert_eq!(header.teid(), teid);
        prop_assert_eq!(header.pdu_session_container().unwrap(), container);
        prop_assert_eq!(header.payload(), &payload[..]);
        prop_assert!(header.trailing().is_empty());
        let extension_len = container.map_or(0, |c| c.extension_len() + 4);
        prop_assert_eq!(header.header_len(), 8 + extension_len);
    }

    #[test]
    fn a_template_writes_what_the_general_builder_writes(
        teid: u32, qfi in 0u8..64, rqi: bool, ppi in prop::option::of(0u8..8), payload_len in 0usize..65_000,
    ) {
        let downlink = PduSessionContainer::Downlink(DownlinkInformation { qfi, rqi, ppi, ..Default::default() });
        let uplink = PduSessionContainer::uplink(qfi);
        for (template, container) in [
            (GpduTemplate::plain(teid), None),
            (GpduTemplate::downlink(teid, qfi, rqi, ppi), Some(&downlink)),
            (GpduTemplate::uplink(teid, qfi), Some(&uplink)),
        ] {
            let (mut a, mut b) = ([0xee; 24], [0xee; 24]);
            prop_assert_eq!(
                template.write(&mut a, payload_len),
                write_gpdu_header(&mut b, teid, payload_len, container)
            );
            prop_assert_eq!(a, b);
            prop_assert_eq!(template.teid(), teid);
        }
    }

    #[test]
    fn any_octets_are_survived_and_the_fast_path_agrees_with_the_general_one(
        octets in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        agree(&octets);
    }
}

/// Reads octets in every way there is; where the fast path takes them, both must say the same.
fn agree(octets: &[u8]) {
    let fast = parse_gpdu(octets);
    match Header::parse(octets) {
        Ok(header) => {
            let payload = header.payload();
            assert!(header.header_len() + payload.len() + header.trailing().len() == octets.len());
            let chain: usize = header.extensions().map(|e| e.content.len() + 2).sum();
            assert!(header.header_len() == 8 || header.header_len() == 12 + chain);
            let _ = gtpu::Message::from_header(&header);
            let general = GPdu::from_header(&header);
            if let Ok(fast) = fast {
                assert_eq!(general, Ok(fast), "{octets:02x?}");
            }
        }
        Err(error) => assert_eq!(fast, Err(NotFast), "{error}: {octets:02x?}"),
    }
}

#[test]
fn a_million_mutated_packets_are_survived_and_read_the_same_by_both_paths() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let stamps = UplinkInformation {
        qfi: 3,
        time_stamps: Some(UplinkTimeStamps::default()),
        n3_n9_delay: Some(1),
        ..Default::default()
    };
    let mut indication = [0; gtpu::ERROR_INDICATION_MAX_LEN];
    let peer = std::net::Ipv6Addr::LOCALHOST.into();
    gtpu::write_error_indication(
        &mut indication,
        &gtpu::ErrorIndication {
            teid: 1,
            peer,
            udp_source_port: Some(9),
        },
    )
    .unwrap();
    let seeds = [
        packet(1, None, &[0x45; 8]),
        packet(2, Some(&PduSessionContainer::uplink(5)), &[0x45; 8]),
        packet(3, Some(&PduSessionContainer::downlink(9)), &[0x45; 8]),
        packet(4, Some(&PduSessionContainer::Uplink(stamps)), &[0x45; 8]),
        vec![
            0x36, 0xff, 0, 20, 0, 0, 0, 1, 0, 7, 0, 0x40, 1, 8, 0x68, 0xc0, 1, 0, 0x2a, 0x85, 1, 0, 5, 0, 0, 0, 0, 0,
        ],
        vec![0x32, 31, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 141, 2, 0x85, 0x40],
        indication.to_vec(),
    ];
    let mut taken = 0;
    let mut octets = [0; 80];
    for _ in 0..1_000_000 {
        let r = random();
        let seed = &seeds[r as usize % seeds.len()];
        let len = if r & 0x700 == 0 {
            (r >> 16) as usize % (seed.len() + 8)
        } else {
            seed.len()
        };
        octets[seed.len()..].fill(0);
        octets[..seed.len()].copy_from_slice(seed);
        for _ in 0..=(r >> 11) % 3 {
            let m = random();
            // Most bytes that matter are in the first 24.
            octets[(m >> 8) as usize % 24] = m as u8 & (m >> 16) as u8;
        }
        agree(&octets[..len]);
        taken += u32::from(parse_gpdu(&octets[..len]).is_ok());
    }
    assert!(
        taken > 10_000,
        "the mutations must leave packets for the fast path: {taken}"
    );
}
