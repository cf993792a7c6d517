//! What the pipeline does to packets, one behaviour a test.

mod support;

use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use support::*;
use upf_host::counters::{DropReason, HostEvent};
use upf_model::batch::{Change, Count, Event};
use upf_model::*;

fn upf_with(session: &Session) -> Upf {
    let mut upf = Upf::new();
    upf.put(session);
    upf
}

#[test]
fn uplink_leaves_the_tunnel_one_hop_older_towards_the_next_hop() {
    let mut upf = upf_with(&session());
    let inner = udp(UE, SERVER, 64, b"hello");
    let (port, frame) = upf.forwarded(N3, &uplink(0x100, Some(9), &inner));
    assert_eq!(port, N6);
    assert_eq!((&frame[..6], &frame[6..12]), (&DN_MAC[..], &UPF_MAC[1][..]));
    let ip = Ipv4HeaderSlice::from_slice(ip_of(&frame)).unwrap();
    assert_eq!(ip.ttl(), 63);
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
    assert_eq!(ip_of(&frame)[20..], inner[20..]);
}

#[test]
fn downlink_enters_the_tunnel_of_its_ue_with_its_qos_flow() {
    let mut upf = upf_with(&session());
    let inner = udp(SERVER, UE, 64, b"hello");
    let (port, frame) = upf.forwarded(N6, &downlink(&inner));
    assert_eq!(port, N3);
    assert_eq!(&frame[..6], &GNB_MAC);
    let (ip, gpdu, packet) = tunnelled(&frame);
    assert_eq!((ip.source, ip.destination), (UPF_N3.octets(), GNB.octets()));
    assert_eq!(
        (gpdu.teid, gpdu.qfi, gpdu.pdu_type),
        (0x200, Some(9), Some(gtpu::PduType::Downlink))
    );
    assert_eq!(packet[8], 63);
    assert_eq!(packet[20..], inner[20..]);
}

#[test]
fn ethernet_padding_is_not_forwarded() {
    let mut upf = upf_with(&session());
    let inner = udp(SERVER, UE, 64, b"");
    let mut frame = downlink(&inner);
    frame.resize(60, 0xaa);
    let (_, out) = upf.forwarded(N6, &frame);
    assert_eq!(tunnelled(&out).2.len(), inner.len());
}

#[test]
fn tunnels_over_ipv6_carry_both_families() {
    let mut s = session();
    s.fars[1].forwarding.as_mut().unwrap().outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x200),
        peer: "fd03::2".parse().unwrap(),
    });
    let prefix = Ipv6Prefix::new("fd60:0:0:1::".parse().unwrap(), 64).unwrap();
    s.pdrs[1].pdi.ue_ip.as_mut().unwrap().ipv6 = Some(prefix);
    s.ue_ips[0].ipv6 = Some(prefix);
    let mut upf = upf_with(&s);

    for inner in [
        udp(SERVER, UE, 64, b"four"),
        udp6(
            "2001:db8::7".parse().unwrap(),
            "fd60::1:0:0:0:5".parse().unwrap(),
            b"six!",
        ),
    ] {
        let (port, frame) = upf.forwarded(N6, &downlink(&inner));
        assert_eq!(port, N3);
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(etherparse::NetSlice::Ipv6(ip)), Some(etherparse::TransportSlice::Udp(outer))) =
            (&sliced.net, &sliced.transport)
        else {
            panic!("not UDP over IPv6")
        };
        let sum = outer
            .to_header()
            .calc_checksum_ipv6(&ip.header().to_header(), outer.payload())
            .unwrap();
        assert_eq!(outer.checksum(), sum);
        let gpdu = gtpu::parse_gpdu(outer.payload()).unwrap();
        assert_eq!(gpdu.payload_len, inner.len());
    }

    let inner = udp6(
        "fd60::1:0:0:0:5".parse().unwrap(),
        "2001:db8::7".parse().unwrap(),
        b"up",
    );
    let mut frame = Vec::new();
    let (gnb, us) = (
        "fd03::2".parse::<std::net::Ipv6Addr>().unwrap(),
        "fd03::1".parse::<std::net::Ipv6Addr>().unwrap(),
    );
    PacketBuilder::ethernet2(GNB_MAC, UPF_MAC[0])
        .ipv6(gnb.octets(), us.octets(), 64)
        .udp(2152, 2152)
        .write(&mut frame, &gpdu(0x100, Some(9), &inner))
        .unwrap();
    let (port, out) = upf.forwarded(N3, &frame);
    assert_eq!(port, N6);
    assert_eq!(ip_of(&out)[7], 63, "hop limit");
    assert_eq!(ip_of(&out)[8..], inner[8..]);
}

#[test]
fn packets_are_detected_by_the_pdr_of_lowest_precedence_that_matches() {
    let mut s = session();
    let mut web = s.pdrs[1].clone();
    web.id = PdrId(3);
    web.precedence = Precedence(10);
    web.pdi.sdf = vec![SdfFilter {
        flow: Some("permit out 17 from 198.51.100.0/24 53 to assigned".parse().unwrap()),
        ..SdfFilter::default()
    }];
    web.far = FarId(3);
    s.pdrs.insert(0, web);
    s.fars.push(Far {
        id: FarId(3),
        action: Action {
            disposition: Disposition::Drop,
            duplicate: false,
        },
        forwarding: None,
        duplicating: vec![],
        bar: None,
    });
    let mut upf = upf_with(&s);
    let mut from_53 = Vec::new();
    PacketBuilder::ipv4(SERVER.octets(), UE.octets(), 64)
        .udp(53, 4000)
        .write(&mut from_53, b"x")
        .unwrap();
    upf.dropped(N6, &downlink(&from_53), DropReason::FarDrop);
    let mut from_54 = Vec::new();
    PacketBuilder::ipv4(SERVER.octets(), UE.octets(), 64)
        .udp(54, 4000)
        .write(&mut from_54, b"x")
        .unwrap();
    upf.forwarded(N6, &downlink(&from_54));
    let usage = upf.usage(SessionId(1));
    assert_eq!(
        usage.pdrs.iter().map(|(id, c)| (id.0, c.packets)).collect::<Vec<_>>(),
        [(3, 1), (1, 0), (2, 1)]
    );
}

#[test]
fn an_uplink_packet_with_a_foreign_source_is_dropped() {
    let mut upf = upf_with(&session());
    let inner = udp("10.60.0.2".parse().unwrap(), SERVER, 64, b"");
    upf.dropped(N3, &uplink(0x100, Some(9), &inner), DropReason::Spoofed);
}

#[test]
fn a_packet_that_no_pdr_matches_is_dropped_and_no_error_indication_is_sent() {
    let mut s = session();
    s.pdrs[0].pdi.sdf = vec![SdfFilter {
        flow: Some("permit out 6 from any to assigned".parse().unwrap()),
        ..SdfFilter::default()
    }];
    let mut upf = upf_with(&s);
    upf.dropped(
        N3,
        &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"")),
        DropReason::NoPdr,
    );
    assert_eq!(upf.events(HostEvent::ErrorIndicationSent), 0);
}

#[test]
fn an_unknown_teid_gets_an_error_indication_within_its_rate() {
    let mut upf = upf_with(&session());
    let (port, frame) = upf.forwarded(N3, &uplink(0x999, Some(9), &udp(UE, SERVER, 64, b"")));
    assert_eq!((port, &frame[..6]), (N3, &GNB_MAC[..]));
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Udp(datagram)) = &sliced.transport else {
        panic!("not UDP")
    };
    assert_eq!((datagram.source_port(), datagram.destination_port()), (2152, 2152));
    let header = gtpu::Header::parse(datagram.payload()).unwrap();
    assert_eq!(header.teid(), 0, "path signalling");
    let gtpu::Message::ErrorIndication(indication) = gtpu::Message::from_header(&header).unwrap() else {
        panic!()
    };
    assert_eq!((indication.teid, indication.peer), (0x999, UPF_N3.into()));
    for _ in 0..200 {
        upf.receive(N3, &uplink(0x999, None, &udp(UE, SERVER, 64, b"")));
    }
    assert_eq!(upf.events(HostEvent::ErrorIndicationSent), 100);
    assert_eq!(upf.events(HostEvent::ErrorIndicationSuppressed), 101);
}

#[test]
fn echo_is_answered_with_its_sequence_number() {
    let mut upf = Upf::new();
    let mut request = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut request, 0x4711).unwrap();
    let (port, frame) = upf.forwarded(N3, &gtpu_frame(&request[..n]));
    assert_eq!(port, N3);
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Udp(datagram)) = &sliced.transport else {
        panic!("not UDP")
    };
    let header = gtpu::Header::parse(datagram.payload()).unwrap();
    assert!(matches!(
        gtpu::Message::from_header(&header).unwrap(),
        gtpu::Message::EchoResponse {
            sequence_number: 0x4711,
            ..
        }
    ));
}

#[test]
fn an_error_indication_from_a_peer_is_reported() {
    let mut upf = upf_with(&session());
    let mut message = [0; gtpu::ERROR_INDICATION_MAX_LEN];
    let indication = gtpu::ErrorIndication {
        teid: 0x200,
        peer: GNB.into(),
        udp_source_port: None,
    };
    let n = gtpu::write_error_indication(&mut message, &indication).unwrap();
    assert!(upf.receive(N3, &gtpu_frame(&message[..n])).is_empty());
    assert_eq!(
        upf.reports(),
        [Event::ErrorIndication {
            peer: GNB.into(),
            teid: 0x200,
            endpoint: EndpointId(0)
        }]
    );
}

#[test]
fn a_closed_gate_drops_one_direction_and_spends_no_tokens() {
    let mut s = session();
    s.qers[0].gate_downlink = Gate::Closed;
    let mut upf = upf_with(&s);
    upf.dropped(N6, &downlink(&udp(SERVER, UE, 64, b"")), DropReason::GateClosed);
    upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"")));
    let qer = upf.usage(SessionId(1)).qers[0].1;
    assert_eq!((qer.gated.packets, qer.passed.packets), (1, 1));
}

#[test]
fn rates_over_the_mbr_are_policed_and_counted() {
    let mut s = session();
    s.qers[0].mbr = Some(BitRates {
        uplink_kbps: 1_000,
        downlink_kbps: 1_000,
    });
    let mut upf = upf_with(&s);
    let packet = downlink(&udp(SERVER, UE, 64, &[0; 972])); // 1,000 bytes of IP
    let passed = (0..10).filter(|_| !upf.receive(N6, &packet).is_empty()).count();
    assert_eq!(passed, 3, "a burst of 3,000 bytes");
    assert_eq!(upf.drops(), [("policed", 7)]);
    upf.wait_ms(8); // 1,000 bytes at 1 Mbit/s
    upf.forwarded(N6, &packet);
    let usage = upf.usage(SessionId(1));
    assert_eq!(
        usage.qers[0].1.policed,
        Count {
            packets: 7,
            bytes: 7_000
        }
    );
    assert_eq!(
        usage.urrs[0].1.downlink,
        Count {
            packets: 4,
            bytes: 4_000
        },
        "volume is measured after policing"
    );
}

#[test]
fn a_session_ambr_is_shared_by_its_flows_and_not_charged_for_what_a_flow_loses() {
    let mut s = session();
    s.qers[0].mbr = Some(BitRates {
        uplink_kbps: 1_000,
        downlink_kbps: 1_000,
    });
    let mut ambr = s.qers[0].clone();
    ambr.id = QerId(2);
    ambr.qfi = None;
    ambr.mbr = Some(BitRates {
        uplink_kbps: 4_000,
        downlink_kbps: 4_000,
    });
    s.qers.push(ambr);
    s.pdrs.iter_mut().for_each(|p| p.qers = vec![QerId(1), QerId(2)]);
    let mut upf = upf_with(&s);
    let packet = downlink(&udp(SERVER, UE, 64, &[0; 972]));
    (0..10).for_each(|_| drop(upf.receive(N6, &packet)));
    let usage = upf.usage(SessionId(1));
    assert_eq!(usage.qers[0].1.policed.packets, 7);
    assert_eq!(usage.qers[1].1.policed.packets, 0);
    assert_eq!(usage.qers[1].1.passed.packets, 3);
}

#[test]
fn a_change_of_rate_or_rules_keeps_counters() {
    let mut s = session();
    let mut upf = upf_with(&s);
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    s.qers[0].mbr = Some(BitRates {
        uplink_kbps: 1,
        downlink_kbps: 1,
    });
    s.urrs.push(Urr {
        id: UrrId(2),
        ..s.urrs[0].clone()
    });
    s.pdrs[1].urrs.push(UrrId(2));
    upf.put(&s);
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    let usage = upf.usage(SessionId(1));
    assert_eq!(usage.urrs[0].1.downlink.packets, 2);
    assert_eq!(usage.urrs[1].1.downlink.packets, 1);
    assert_eq!(usage.pdrs[1].1.packets, 2);
}

fn buffering() -> Session {
    let mut s = session();
    s.fars[1].action.disposition = Disposition::Buffer { notify: true };
    s
}

#[test]
fn buffered_packets_are_reported_once_and_leave_in_order_when_the_far_forwards() {
    let mut upf = upf_with(&buffering());
    for i in 0..3 {
        assert!(upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[i]))).is_empty());
    }
    assert_eq!(
        upf.reports(),
        [Event::DownlinkData {
            session: SessionId(1),
            pdr: PdrId(2),
            qfi: Some(Qfi(9)),
            dscp: 0
        }]
    );
    assert_eq!(
        upf.usage(SessionId(1)).buffered,
        Count {
            packets: 3,
            bytes: 3 * 29
        }
    );
    upf.put(&session());
    let sent = std::mem::take(&mut upf.wire.sent);
    let payloads: Vec<u8> = sent.iter().map(|(_, frame)| tunnelled(frame).2[28]).collect();
    assert_eq!(payloads, [0, 1, 2]);
    let usage = upf.usage(SessionId(1));
    assert_eq!(usage.buffered, Count::default());
    assert_eq!(usage.urrs[0].1.downlink.packets, 3);
    assert_eq!(usage.pdrs[1].1.packets, 3, "detected once each");
}

#[test]
fn a_packet_that_arrives_before_the_drain_command_does_not_overtake() {
    let mut upf = upf_with(&buffering());
    upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[0])));
    let change = Change::Put {
        session: session(),
        end_markers: vec![],
        discard_buffered: vec![],
    };
    upf.manager.apply(&[change]).unwrap();
    let sent = upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[1])));
    let payloads: Vec<u8> = sent.iter().map(|(_, frame)| tunnelled(frame).2[28]).collect();
    assert_eq!(payloads, [0, 1]);
    upf.run_commands();
    assert!(upf.wire.sent.is_empty());
}

#[test]
fn a_full_buffer_drops_the_oldest_and_counts_it() {
    let mut upf = upf_with(&buffering());
    for i in 0..6 {
        upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[i])));
    }
    assert_eq!(upf.drops(), [("buffer_oldest", 2)]);
    upf.put(&session());
    let payloads: Vec<u8> = upf.wire.sent.iter().map(|(_, frame)| tunnelled(frame).2[28]).collect();
    assert_eq!(payloads, [2, 3, 4, 5]);
}

#[test]
fn buffers_are_bounded_in_bytes_and_over_all_sessions() {
    let mut upf = upf_with(&buffering());
    for _ in 0..4 {
        upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[0; 1400])));
    }
    assert_eq!(
        upf.usage(SessionId(1)).buffered.packets,
        2,
        "4,000 bytes hold two packets of 1,428"
    );
    for id in 2..=4 {
        let mut other = buffering();
        other.id = SessionId(id);
        other.seid = Seid(id.into());
        let ue = UeIpAddress {
            ipv4: Some(std::net::Ipv4Addr::new(10, 60, 0, id as u8)),
            ipv6: None,
        };
        other.ue_ips = vec![ue];
        other.pdrs[1].pdi.ue_ip = Some(ue);
        other.pdrs[0].pdi.local_fteid.as_mut().unwrap().teid = Teid(0x100 + id);
        upf.put(&other);
        for _ in 0..2 {
            upf.receive(N6, &downlink(&udp(SERVER, ue.ipv4.unwrap(), 64, &[0])));
        }
    }
    assert_eq!(
        upf.counters.drops(DropReason::BufferFull).packets,
        2,
        "six packets in all"
    );
}

#[test]
fn discarding_and_removal_account_for_every_buffered_packet() {
    let mut upf = upf_with(&buffering());
    upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[0])));
    upf.put_with(&buffering(), vec![], vec![FarId(2)]);
    assert_eq!(upf.drops(), [("buffer_discarded", 1)]);
    upf.receive(N6, &downlink(&udp(SERVER, UE, 64, &[0])));
    upf.manager.apply(&[Change::Remove { id: SessionId(1) }]).unwrap();
    upf.run_commands();
    assert_eq!(upf.drops(), [("buffer_discarded", 1), ("buffer_session_gone", 1)]);
    upf.dropped(N6, &downlink(&udp(SERVER, UE, 64, &[0])), DropReason::UnknownUe);
}

#[test]
fn a_handover_sends_an_end_marker_into_the_old_tunnel_and_packets_into_the_new() {
    let mut upf = upf_with(&session());
    let old = OuterHeaderCreation {
        teid: Teid(0x200),
        peer: GNB.into(),
    };
    let mut moved = session();
    moved.fars[1].forwarding.as_mut().unwrap().outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x300),
        ..old
    });
    upf.put_with(&moved, vec![old], vec![]);
    assert_eq!(end_marker(&mut upf), 0x200);
    let (_, frame) = upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    assert_eq!(tunnelled(&frame).1.teid, 0x300);
}

#[test]
fn an_end_marker_asked_for_after_the_handover_still_goes_into_the_old_tunnel() {
    let mut upf = upf_with(&session());
    let old = OuterHeaderCreation {
        teid: Teid(0x200),
        peer: GNB.into(),
    };
    let mut moved = session();
    moved.fars[1].forwarding.as_mut().unwrap().outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x300),
        ..old
    });
    upf.put_with(&moved, vec![], vec![]);
    assert_eq!(upf.wire.sent, []);
    upf.put_with(&moved, vec![old], vec![]);
    assert_eq!(end_marker(&mut upf), 0x200);
}

/// The TEID of the End Marker that was sent on N3.
fn end_marker(upf: &mut Upf) -> u32 {
    let (port, marker) = upf.wire.sent.remove(0);
    assert_eq!(port, N3);
    let sliced = etherparse::SlicedPacket::from_ethernet(&marker).unwrap();
    let Some(etherparse::TransportSlice::Udp(datagram)) = &sliced.transport else {
        panic!("not UDP")
    };
    let header = gtpu::Header::parse(datagram.payload()).unwrap();
    assert_eq!(header.message_type(), gtpu::MessageType::END_MARKER);
    header.teid()
}

#[test]
fn a_duplicating_far_sends_a_copy_by_its_own_parameters() {
    let mut s = session();
    s.fars[1].action.duplicate = true;
    let mut copy = s.fars[1].forwarding.clone().unwrap();
    copy.outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x777),
        peer: GNB.into(),
    });
    s.fars[1].duplicating = vec![copy];
    let mut upf = upf_with(&s);
    let sent = upf.receive(N6, &downlink(&udp(SERVER, UE, 64, b"twice")));
    let teids: Vec<u32> = sent.iter().map(|(_, frame)| tunnelled(frame).1.teid).collect();
    assert_eq!(teids, [0x777, 0x200]);
    assert_eq!(tunnelled(&sent[0].1).2, tunnelled(&sent[1].1).2);
}

#[test]
fn transport_level_marking_goes_to_the_outer_header_or_to_the_plain_packet() {
    let mut s = session();
    s.fars
        .iter_mut()
        .for_each(|f| f.forwarding.as_mut().unwrap().transport_level_marking = Some((0xb8, 0xfc)));
    let mut upf = upf_with(&s);
    let (_, frame) = upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    let (outer, _, inner) = tunnelled(&frame);
    assert_eq!((outer.dscp.value(), inner[1]), (0x2e, 0));
    let (_, frame) = upf.forwarded(N3, &uplink(0x100, None, &udp(UE, SERVER, 64, b"")));
    let ip = Ipv4HeaderSlice::from_slice(ip_of(&frame)).unwrap();
    assert_eq!(ip.dcp().value(), 0x2e);
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
}

#[test]
fn congestion_seen_on_n3_reaches_the_user_or_drops_what_cannot_carry_it() {
    let mut upf = upf_with(&session());
    let mut ect = udp(UE, SERVER, 64, b"");
    ect[1] = 0b10;
    let sum = Ipv4HeaderSlice::from_slice(&ect)
        .unwrap()
        .to_header()
        .calc_header_checksum();
    ect[10..12].copy_from_slice(&sum.to_be_bytes());
    let mark_outer = |frame: &mut Vec<u8>| {
        frame[15] |= 0b11;
        let sum = Ipv4HeaderSlice::from_slice(ip_of(frame))
            .unwrap()
            .to_header()
            .calc_header_checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    };
    let mut frame = uplink(0x100, Some(9), &ect);
    mark_outer(&mut frame);
    let (_, out) = upf.forwarded(N3, &frame);
    assert_eq!(ip_of(&out)[1] & 0b11, 0b11);
    let mut frame = uplink(0x100, Some(9), &udp(UE, SERVER, 64, b""));
    mark_outer(&mut frame);
    upf.dropped(N3, &frame, DropReason::EcnCongestion);
}

#[test]
fn a_hop_limit_that_runs_out_is_told_to_the_sender_on_either_side() {
    let mut upf = upf_with(&session());
    let (port, frame) = upf.forwarded(N6, &downlink(&udp(SERVER, UE, 1, b"")));
    assert_eq!(port, N6);
    assert_eq!(ip_of(&frame)[20..22], [11, 0]);
    assert_eq!(ip_of(&frame)[16..20], SERVER.octets());

    let (port, frame) = upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 1, b"")));
    assert_eq!(port, N3, "to the UE, through its tunnel");
    let (_, gpdu, error) = tunnelled(&frame);
    assert_eq!(gpdu.teid, 0x200);
    assert_eq!(error[20..22], [11, 0]);
    assert_eq!(error[16..20], UE.octets());
    assert_eq!(upf.drops(), [("hop_limit", 2)]);
}

#[test]
fn a_downlink_packet_too_big_for_n3_is_refused_with_the_room_there_is_or_fragmented() {
    let mut upf = upf_with(&session());
    let mut refused = udp(SERVER, UE, 64, &[7; 1450]); // 1,478 bytes; 1,500 - 44 of room
    assert_eq!(refused[6] & 0x40, 0x40, "etherparse sets don't fragment");
    let (port, frame) = upf.forwarded(N6, &downlink(&refused));
    assert_eq!(port, N6);
    assert_eq!(ip_of(&frame)[20..22], [3, 4]);
    assert_eq!(ip_of(&frame)[26..28], 1456u16.to_be_bytes());

    refused[6] = 0;
    let sum = Ipv4HeaderSlice::from_slice(&refused)
        .unwrap()
        .to_header()
        .calc_header_checksum();
    refused[10..12].copy_from_slice(&sum.to_be_bytes());
    let sent = upf.receive(N6, &downlink(&refused));
    let pieces: Vec<_> = sent.iter().map(|(_, frame)| tunnelled(frame).2).collect();
    assert_eq!(pieces.len(), 2);
    assert_eq!(
        pieces[0].len() % 8,
        20 % 8,
        "all but the last carry a multiple of eight"
    );
    let body: Vec<u8> = pieces.iter().flat_map(|p| p[20..].to_vec()).collect();
    assert_eq!(body, refused[20..]);
    assert_eq!((pieces[0][6] & 0x20, pieces[1][6] & 0x20), (0x20, 0));
    for piece in &pieces {
        let ip = Ipv4HeaderSlice::from_slice(piece).unwrap();
        assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
    }
}

#[test]
fn an_unresolved_next_hop_is_asked_for_and_its_packets_wait_for_the_answer() {
    let mut upf = Upf::unresolved(CONFIG);
    upf.put(&session());
    let (port, question) = upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"")));
    assert_eq!((port, &question[12..14]), (N6, &[8, 6][..]), "ARP");
    assert_eq!(question[38..42], DN.octets());
    let mut answer = question.clone();
    answer[..6].copy_from_slice(&UPF_MAC[1]);
    answer[6..12].copy_from_slice(&DN_MAC);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&DN_MAC);
    answer[28..32].copy_from_slice(&DN.octets());
    let (port, frame) = upf.forwarded(N6, &answer);
    assert_eq!((port, &frame[..6]), (N6, &DN_MAC[..]));
    assert_eq!(ip_of(&frame)[16..20], SERVER.octets());
}

#[test]
fn packets_for_a_next_hop_that_never_answers_are_counted() {
    let mut upf = Upf::unresolved(CONFIG);
    upf.put(&session());
    upf.receive(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"")));
    upf.wait_ms(3_100);
    assert_eq!(upf.drops(), [("no_neighbour", 1)]);
}

#[test]
fn arp_and_neighbour_discovery_answer_for_our_own_addresses_only() {
    let mut upf = Upf::new();
    let ask = |target: [u8; 4]| {
        let mut frame = [
            &[0xff; 6][..],
            &GNB_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &GNB_MAC,
            &GNB.octets(),
            &[0; 6],
            &target,
        ]
        .concat();
        frame.resize(60, 0);
        frame
    };
    let (_, reply) = upf.forwarded(N3, &ask(UPF_N3.octets()));
    assert_eq!(
        (&reply[..6], &reply[20..28]),
        (&GNB_MAC[..], &[&[0, 2][..], &UPF_MAC[0]].concat()[..])
    );
    assert!(upf.receive(N3, &ask([10, 3, 0, 9])).is_empty());

    let gnb: std::net::Ipv6Addr = "fd03::2".parse().unwrap();
    let solicited: std::net::Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
    let target: std::net::Ipv6Addr = "fd03::1".parse().unwrap();
    let mut frame = Vec::new();
    let mut body = [0; 24];
    body[..16].copy_from_slice(&target.octets());
    body[16..18].copy_from_slice(&[1, 1]);
    body[18..].copy_from_slice(&GNB_MAC);
    PacketBuilder::ethernet2(GNB_MAC, [0x33, 0x33, 0xff, 0, 0, 1])
        .ipv6(gnb.octets(), solicited.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &body)
        .unwrap();
    let (_, reply) = upf.forwarded(N3, &frame);
    assert_eq!(reply[54], 136);
    assert_eq!(reply[62..78], target.octets());
    assert_eq!(reply[80..86], UPF_MAC[0]);
}

#[test]
fn our_own_addresses_answer_ping() {
    let mut upf = Upf::new();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(DN_MAC, UPF_MAC[1])
        .ipv4(DN.octets(), [10, 6, 0, 1], 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut frame, b"ping")
        .unwrap();
    let (_, reply) = upf.forwarded(N6, &frame);
    assert_eq!(ip_of(&reply)[20], 0);
    assert_eq!(&ip_of(&reply)[28..], b"ping");
}

#[test]
fn what_is_malformed_or_not_for_us_is_dropped_under_its_reason() {
    let mut upf = upf_with(&session());
    let good = uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"hello"));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame
    };
    upf.dropped(N3, &good[..10], DropReason::Malformed);
    upf.dropped(N3, &with(&|f| f[5] = 9), DropReason::NotOurMac);
    upf.dropped(N3, &with(&|f| f[12] = 0x88), DropReason::EtherType);
    upf.dropped(N3, &with(&|f| f[22] = 3), DropReason::Checksum);
    upf.dropped(N3, &with(&|f| f[42] = 0x50), DropReason::GtpuUnsupported);
    upf.dropped(N3, &with(&|f| f[44] = 0xff), DropReason::GtpuMalformed);
    upf.dropped(N3, &with(&|f| f[58] = 0x15), DropReason::InnerNotIp);
    upf.dropped(N3, &with(&|f| f[61] = 0xff), DropReason::InnerMalformed);
    let fragment = with(&|f| {
        f[20] = 0x20;
        let sum = Ipv4HeaderSlice::from_slice(ip_of(f))
            .unwrap()
            .to_header()
            .calc_header_checksum();
        f[24..26].copy_from_slice(&sum.to_be_bytes());
    });
    upf.dropped(N3, &fragment, DropReason::OuterFragment);
}

#[test]
fn an_extension_header_that_must_be_understood_is_answered_with_those_that_are() {
    let mut upf = upf_with(&session());
    let inner = udp(UE, SERVER, 64, b"");
    // E flag; next type 0xc1: comprehension required by the endpoint, unknown; one unit of four octets
    let mut message = vec![0x34, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc1, 1, 0, 0, 0];
    message.extend_from_slice(&inner);
    let length = (message.len() as u16 - 8).to_be_bytes();
    message[2..4].copy_from_slice(&length);
    let (_, reply) = upf.forwarded(N3, &gtpu_frame(&message));
    assert_eq!(reply[43], 31);
    assert_eq!(upf.drops(), [("extension_header", 1)]);
}

#[test]
fn a_refused_batch_leaves_every_session_as_it_was() {
    let mut upf = upf_with(&session());
    let mut changed = session();
    changed.fars[1].action.disposition = Disposition::Drop;
    let mut thief = session(); // another session that wants the same keys
    thief.id = SessionId(2);
    thief.seid = Seid(2);
    let put = |session: &Session| Change::Put {
        session: session.clone(),
        end_markers: vec![],
        discard_buffered: vec![],
    };
    let error = upf.manager.apply(&[put(&changed), put(&thief)]).unwrap_err();
    assert!(error.contains("0x2"), "{error}");
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    let mut fresh = session();
    fresh.id = SessionId(3);
    fresh.seid = Seid(3);
    let error = upf
        .manager
        .apply(&[Change::Remove { id: SessionId(1) }, put(&fresh), put(&thief)]);
    assert!(error.is_err());
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    assert_eq!(upf.usage(SessionId(1)).pdrs[1].1.packets, 2, "its counters too");
}

#[test]
fn a_synchronisation_removes_what_was_not_put_and_does_not_disturb_the_rest() {
    use upf_model::batch::{FromHost, ToHost};
    let mut upf = upf_with(&session());
    let mut other = session();
    other.id = SessionId(2);
    other.seid = Seid(2);
    let ue = UeIpAddress {
        ipv4: Some("10.60.0.2".parse().unwrap()),
        ipv6: None,
    };
    other.ue_ips = vec![ue];
    other.pdrs[1].pdi.ue_ip = Some(ue);
    other.pdrs[0].pdi.local_fteid.as_mut().unwrap().teid = Teid(0x101);
    upf.put(&other);
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));

    assert_eq!(upf.manager.handle(ToHost::SyncBegin), None);
    let keep = Change::Put {
        session: session(),
        end_markers: vec![],
        discard_buffered: vec![],
    };
    upf.manager.handle(ToHost::Apply {
        seq: 1,
        changes: vec![keep],
    });
    let Some(FromHost::Applied {
        seq: 2,
        error: None,
        removed,
    }) = upf.manager.handle(ToHost::SyncEnd { seq: 2 })
    else {
        panic!("not applied")
    };
    assert_eq!(removed.iter().map(|u| u.session).collect::<Vec<_>>(), [SessionId(2)]);
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    upf.dropped(
        N6,
        &downlink(&udp(SERVER, ue.ipv4.unwrap(), 64, b"")),
        DropReason::UnknownUe,
    );
    assert_eq!(upf.usage(SessionId(1)).pdrs[1].1.packets, 2);
}

/// An intermediate UPF: N9 towards the core both ways.
fn intermediate() -> Session {
    let mut s = session();
    s.pdrs[1].pdi.ue_ip = None;
    s.pdrs[1].pdi.network_instance = ACCESS;
    s.pdrs[1].pdi.local_fteid = Some(LocalFTeid {
        teid: Teid(0x900),
        ipv4: Some(UPF_N3),
        ipv6: None,
    });
    s.pdrs[1].outer_header_removal = Some(OuterHeaderRemoval::GtpuUdpIp);
    let n9 = s.fars[0].forwarding.as_mut().unwrap();
    n9.network_instance = ACCESS;
    n9.outer_header_creation = Some(OuterHeaderCreation {
        teid: Teid(0x950),
        peer: GNB.into(),
    });
    s.qers[0].qfi = None;
    s
}

#[test]
fn an_intermediate_upf_goes_from_tunnel_to_tunnel_and_keeps_the_qos_flow() {
    let config = CONFIG.replace("interfaces: [access]", "interfaces: [access, core]");
    let mut upf = Upf::unresolved(&config);
    upf.env.neighbours.intern(N3, GNB.into()).unwrap();
    assert!(upf.env.neighbours.learn(N3, GNB.into(), GNB_MAC, 1_000));
    upf.put(&intermediate());

    let up = udp(UE, SERVER, 64, b"up");
    let (port, frame) = upf.forwarded(N3, &uplink(0x100, Some(7), &up));
    let (_, gpdu, inner) = tunnelled(&frame);
    assert_eq!(port, N3);
    assert_eq!(
        (gpdu.teid, gpdu.qfi, gpdu.pdu_type),
        (0x950, Some(7), Some(gtpu::PduType::Uplink))
    );
    assert_eq!(inner[20..], up[20..]);

    let down = udp(SERVER, UE, 64, b"down");
    let (_, frame) = upf.forwarded(N3, &uplink(0x900, Some(7), &down));
    let (_, gpdu, inner) = tunnelled(&frame);
    assert_eq!(
        (gpdu.teid, gpdu.qfi, gpdu.pdu_type),
        (0x200, Some(7), Some(gtpu::PduType::Downlink))
    );
    assert_eq!(inner[20..], down[20..]);
    let usage = upf.usage(SessionId(1)).urrs[0].1;
    assert_eq!((usage.uplink.packets, usage.downlink.packets), (1, 1));
}

#[test]
fn what_an_intermediate_upf_buffered_is_still_the_users_downlink_when_it_is_drained() {
    let config = CONFIG.replace("interfaces: [access]", "interfaces: [access, core]");
    let mut upf = Upf::unresolved(&config);
    upf.env.neighbours.intern(N3, GNB.into()).unwrap();
    assert!(upf.env.neighbours.learn(N3, GNB.into(), GNB_MAC, 1_000));
    let mut active = intermediate();
    active.pdrs[1].pdi.ue_ip = session().pdrs[1].pdi.ue_ip; // matches only if the UE's end is the destination
    let mut idle = active.clone();
    idle.fars[1].action.disposition = Disposition::Buffer { notify: true };
    upf.put(&idle);
    let frame = uplink(0x900, Some(7), &udp(SERVER, UE, 64, b"down"));
    assert!(upf.receive(N3, &frame).is_empty());
    upf.put(&active);
    assert_eq!(upf.wire.sent.len(), 1, "drops: {:?}", upf.drops());
}

#[test]
fn a_tagged_port_takes_and_sends_its_own_vlan_only() {
    let config = CONFIG.replace("interfaces: [core] }", "interfaces: [core], vlan: 42 }");
    let mut upf = Upf::unresolved(&config);
    upf.env.neighbours.intern(N3, GNB.into()).unwrap();
    assert!(upf.env.neighbours.learn(N3, GNB.into(), GNB_MAC, 1_000));
    assert!(upf.env.neighbours.learn(N6, DN.into(), DN_MAC, 1_000));
    upf.put(&session());
    let (_, frame) = upf.forwarded(N3, &uplink(0x100, Some(9), &udp(UE, SERVER, 64, b"tagged")));
    assert_eq!(frame[12..18], [0x81, 0, 0, 42, 8, 0]);

    let untagged = downlink(&udp(SERVER, UE, 64, b""));
    let tagged = |vlan: u8| [&untagged[..12], &[0x81, 0, 0, vlan], &untagged[12..]].concat();
    upf.forwarded(N6, &tagged(42));
    upf.dropped(N6, &tagged(43), DropReason::Vlan);
    upf.dropped(N6, &untagged, DropReason::Vlan);
}

#[test]
fn an_ipv6_packet_too_big_for_n3_is_answered_with_packet_too_big() {
    let mut s = session();
    let prefix = Ipv6Prefix::new("fd60:0:0:1::".parse().unwrap(), 64).unwrap();
    s.pdrs[1].pdi.ue_ip.as_mut().unwrap().ipv6 = Some(prefix);
    s.ue_ips[0].ipv6 = Some(prefix);
    let mut upf = upf_with(&s);
    let (src, dst) = ("fd06::2".parse().unwrap(), "fd60::1:0:0:0:5".parse().unwrap());
    let (port, frame) = upf.forwarded(N6, &downlink(&udp6(src, dst, &[0; 1430])));
    assert_eq!(port, N6);
    let error = ip_of(&frame);
    assert_eq!(
        (error[40], &error[44..48]),
        (2, &1456u32.to_be_bytes()[..]),
        "type, MTU"
    );
    assert!(error.len() <= 1280, "the error itself fits any link");
}

#[test]
fn an_empty_packet_pool_is_counted_and_survived() {
    let mut s = session();
    s.fars[1].action.duplicate = true;
    s.fars[1].duplicating = vec![s.fars[1].forwarding.clone().unwrap()];
    let mut upf = upf_with(&s);
    upf.wire.pool_empty = true;
    upf.forwarded(N6, &downlink(&udp(SERVER, UE, 64, b"")));
    assert_eq!(upf.drops(), [("no_mbuf", 1)]);
}

#[test]
fn framed_routes_lead_to_their_ue_and_are_valid_sources() {
    let mut s = session();
    let route: IpPrefix = "192.168.77.0/24".parse().unwrap();
    s.pdrs[1].pdi.framed_routes = vec![route];
    s.framed_routes = vec![route];
    let mut upf = upf_with(&s);
    let behind = "192.168.77.5".parse().unwrap();
    let (_, frame) = upf.forwarded(N6, &downlink(&udp(SERVER, behind, 64, b"")));
    assert_eq!(tunnelled(&frame).1.teid, 0x200);
    upf.forwarded(N3, &uplink(0x100, Some(9), &udp(behind, SERVER, 64, b"")));
    upf.dropped(
        N3,
        &uplink(0x100, Some(9), &udp("192.168.78.5".parse().unwrap(), SERVER, 64, b"")),
        DropReason::Spoofed,
    );
}
