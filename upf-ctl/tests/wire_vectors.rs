//! Messages and IEs that others' implementations encoded: scapy's captures of a real SMF and UPF, go-pfcp's tests.

mod wire_support;

use rs_pfcp::ie::IeIterator;
use std::net::{Ipv4Addr, Ipv6Addr};
use upf_ctl::pfcp::wire::incoming::{SessionEstablishmentRequest, SessionModificationRequest};
use upf_ctl::pfcp::wire::{Cause, FSeid, Message, NodeId, NtpSeconds, WireError, read_message};
use upf_model::decoded::{FTeid, Far, OuterHeaderCreation, Pdi, Pdr, Qer, SdfFilter, UeIp, Urr, VolumeThreshold};
use wire_support::encode::ie;
use wire_support::{establishment, modification, vector, vectors};

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

/// The octets of an IE from go-pfcp's tests.
fn go(name: &str) -> Vec<u8> {
    vector("go_pfcp_ies.txt", name)
}

/// What is read of a PDI with this one IE in it.
fn pdi_with(element: &[u8]) -> Pdi {
    let mut request = established(&establishment(&ie(1, &ie(2, element))));
    request.rules.create_pdrs.remove(0).pdi.expect("a PDI")
}

fn far_with(element: &[u8]) -> Far {
    established(&establishment(&ie(3, element))).rules.create_fars.remove(0)
}

fn qer_with(element: &[u8]) -> Qer {
    established(&establishment(&ie(7, element))).rules.create_qers.remove(0)
}

const LOOPBACK: Option<Ipv4Addr> = Some(Ipv4Addr::LOCALHOST);
const EXAMPLE6: Option<Ipv6Addr> = Some(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 1));

#[test]
fn every_message_is_read_but_the_incomplete_ones() {
    // What they lack. UPG-VPP leaves out its Node ID; the bodies of the header tests are not worth the name.
    let incomplete = [
        ("ASResp", 60),
        ("generic/Normal", 60),
        ("generic/No-SEID", 96),
        ("header/Session", 60),
    ];
    for file in ["scapy.txt", "go_pfcp_messages.txt"] {
        for (name, octets) in vectors(file) {
            let missing = incomplete.iter().find(|(n, _)| *n == name).map(|(_, ie_type)| *ie_type);
            match (read_message(&octets), missing) {
                (Ok(_), None) => {}
                (Err(WireError::Refused { refusal, .. }), Some(missing)) => {
                    assert_eq!(
                        (refusal.cause, refusal.offending_ie),
                        (Cause::MandatoryIeMissing, Some(missing))
                    );
                }
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn rs_pfcp_splits_every_message_body_into_the_same_ies() {
    for file in ["scapy.txt", "go_pfcp_messages.txt"] {
        for (name, octets) in vectors(file) {
            let body = &octets[if octets[0] & 1 == 1 { 16 } else { 8 }..];
            let theirs: Vec<u16> = IeIterator::new(body).map(|ie| ie.expect(&name).raw_type()).collect();
            let mut ours = Vec::new();
            let mut rest = body;
            while let [t0, t1, l0, l1, after @ ..] = rest {
                ours.push(u16::from_be_bytes([*t0, *t1]));
                rest = &after[usize::from(u16::from_be_bytes([*l0, *l1]))..];
            }
            assert_eq!(ours, theirs, "{name}");
            // And a reader that reads every element ends at the same place.
            let mut longer = octets.clone();
            longer.extend([0xff, 0xff, 0]);
            let length = u16::try_from(longer.len() - 4).unwrap();
            longer[2..4].copy_from_slice(&length.to_be_bytes());
            if matches!(octets[1], 1 | 2 | 5..=8 | 10 | 13 | 50 | 52 | 57) && !name.starts_with("generic") {
                assert!(
                    matches!(read_message(&longer), Err(WireError::Refused { .. })),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn scapys_association_and_heartbeat_are_read() {
    let setup = read_message(&vector("scapy.txt", "ASReq")).unwrap();
    assert_eq!((setup.header.sequence, setup.header.seid), (1, None));
    let Message::AssociationSetupRequest(setup) = setup.message else {
        panic!()
    };
    assert_eq!(setup.node_id, NodeId::Fqdn("ergw".to_owned()));
    assert_eq!(setup.recovery_time_stamp, NtpSeconds(3_785_653_512));

    let Message::HeartbeatResponse(heartbeat) = read_message(&vector("scapy.txt", "HResp")).unwrap().message else {
        panic!()
    };
    assert_eq!(heartbeat.recovery_time_stamp, NtpSeconds(3_785_652_985));
}

#[test]
fn scapys_first_establishment_is_read() {
    let request = established(&vector("scapy.txt", "SEReq1"));
    assert_eq!(request.node_id, NodeId::Fqdn("ergw".to_owned()));
    let ergw = FSeid {
        seid: 0xffde_7210_bf97_810a,
        ipv4: Some(Ipv4Addr::new(172, 18, 1, 1)),
        ipv6: None,
    };
    assert_eq!(request.cp_fseid, ergw);
    let rules = request.rules;
    assert_eq!(
        rules.create_fars.iter().map(|far| far.apply_action).collect::<Vec<_>>(),
        [Some(2), Some(1)]
    );
    let forwarding = rules.create_fars[0].forwarding.as_ref().unwrap();
    assert_eq!(forwarding.destination_interface, Some(0));
    assert_eq!(forwarding.network_instance.as_deref(), Some("access"));
    let [tunnelled, filtered] = &rules.create_pdrs[..] else {
        panic!()
    };
    let tunnel = FTeid {
        v4: true,
        teid: 0x104c_9033,
        ipv4: Some(Ipv4Addr::new(172, 18, 1, 2)),
        ..FTeid::default()
    };
    assert_eq!(tunnelled.pdi.as_ref().unwrap().local_fteid, Some(tunnel));
    assert_eq!(tunnelled.pdi.as_ref().unwrap().source_interface, Some(3));
    assert_eq!(tunnelled.outer_header_removal, Some((0, None)));
    assert_eq!(
        (tunnelled.id, tunnelled.precedence, tunnelled.far_id),
        (Some(2), Some(100), Some(2))
    );
    let filters = &filtered.pdi.as_ref().unwrap().sdf_filters;
    assert_eq!(
        filters[0].flow_description.as_deref(),
        Some("permit out ip from any to any")
    );
    assert_eq!((filtered.precedence, &filtered.urr_ids[..]), (Some(65000), &[1][..]));
    let urr = Urr {
        id: Some(1),
        measurement_method: Some(4),
        reporting_triggers: Some(0x10),
        unsupported: vec![74], // Time Quota
        ..Urr::default()
    };
    assert_eq!(rules.create_urrs, [urr]);
}

#[test]
fn scapys_other_session_messages_are_read() {
    let redirecting = established(&vector("scapy.txt", "SEReq2")).rules;
    assert_eq!(
        redirecting.create_fars[0].forwarding.as_ref().unwrap().unsupported,
        [38]
    ); // Redirect Information
    assert_eq!(redirecting.create_pdrs.len(), 4);
    let downlink = UeIp {
        destination: true,
        ipv4: Some(Ipv4Addr::new(10, 192, 0, 0)),
        ..UeIp::default()
    };
    assert_eq!(redirecting.create_pdrs[2].pdi.as_ref().unwrap().ue_ips, [downlink]);
    assert_eq!(modified(&vector("scapy.txt", "SMReq")).rules.query_urrs, [1]);
    let Message::SessionReportResponse(response) = read_message(&vector("scapy.txt", "SRResp")).unwrap().message else {
        panic!()
    };
    assert_eq!((response.cause, response.update_bar), (1, None));
}

#[test]
fn gate_status_keeps_its_octet_so_that_a_closed_uplink_stays_closed() {
    for (name, octet) in [
        ("OpenOpen", 0x00),
        ("OpenClosed", 0x01),
        ("ClosedOpen", 0x04),
        ("ClosedClosed", 0x05),
    ] {
        assert_eq!(qer_with(&go(&format!("GateStatus/{name}"))).gate_status, Some(octet));
    }
}

#[test]
fn an_sdf_filter_keeps_all_its_fields() {
    let filter = SdfFilter {
        flow_description: Some("aaaaaaaa".to_owned()),
        tos_traffic_class: Some((0x62, 0x62)),
        spi: Some(0x6363_6363),
        flow_label: Some(0x4_6464), // The four spare bits above it are not part of it.
        filter_id: Some(0xffff_ffff),
    };
    assert_eq!(pdi_with(&go("SDFFilter")).sdf_filters, [filter]);
}

#[test]
fn f_teids_are_read_with_and_without_choose() {
    let fteid = |name: &str| pdi_with(&go(&format!("FTEID/TEID/{name}"))).local_fteid.unwrap();
    let teid = 0x1111_1111;
    let v4 = FTeid {
        v4: true,
        teid,
        ipv4: LOOPBACK,
        ..FTeid::default()
    };
    assert_eq!(fteid("IPv4"), v4);
    assert_eq!(
        fteid("IPv6"),
        FTeid {
            v6: true,
            teid,
            ipv6: EXAMPLE6,
            ..FTeid::default()
        }
    );
    assert_eq!(
        fteid("IPv4v6"),
        FTeid {
            v6: true,
            ipv6: EXAMPLE6,
            ..v4
        }
    );
    assert_eq!(
        fteid("CH"),
        FTeid {
            choose: true,
            ..FTeid::default()
        }
    );
    assert_eq!(
        fteid("CH/CHID"),
        FTeid {
            choose: true,
            choose_id: Some(0xff),
            ..FTeid::default()
        }
    );
}

#[test]
fn ue_ip_addresses_are_read_with_all_their_flags() {
    let ue_ip = |name: &str| pdi_with(&go(&format!("UEIPAddress/{name}"))).ue_ips[0];
    assert_eq!(
        ue_ip("IPv4"),
        UeIp {
            ipv4: LOOPBACK,
            ..UeIp::default()
        }
    );
    assert_eq!(
        ue_ip("CHV4"),
        UeIp {
            choose_v4: true,
            ..UeIp::default()
        }
    );
    assert_eq!(
        ue_ip("CHV6"),
        UeIp {
            choose_v6: true,
            ..UeIp::default()
        }
    );
    assert_eq!(
        ue_ip("CHV6/PL"),
        UeIp {
            choose_v6: true,
            ipv6_prefix_length: Some(60),
            ..UeIp::default()
        }
    );
    let delegated = UeIp {
        ipv6: EXAMPLE6,
        ipv6_delegation_bits: Some(4),
        ..UeIp::default()
    };
    assert_eq!(ue_ip("IPv6"), delegated);
    assert_eq!(
        ue_ip("IPv6/PL"),
        UeIp {
            ipv6_prefix_length: Some(60),
            ..delegated
        }
    );
}

#[test]
fn outer_header_creation_is_read_by_its_description() {
    let header = |name: &str| {
        let far = far_with(&ie(4, &go(&format!("OuterHeaderCreation/{name}"))));
        far.forwarding.unwrap().outer_header_creation.unwrap()
    };
    let teid = Some(0x1122_3344);
    let gtpu = OuterHeaderCreation {
        description: 0x0100,
        teid,
        ipv4: LOOPBACK,
        ..OuterHeaderCreation::default()
    };
    assert_eq!(header("TEID/IPv4"), gtpu);
    let udp = OuterHeaderCreation {
        description: 0x0400,
        teid: None,
        port: Some(2152),
        ..gtpu
    };
    assert_eq!(header("IPv4/Port"), udp);
    assert_eq!(
        header("IPv4"),
        OuterHeaderCreation {
            description: 0x1000,
            port: None,
            ..udp
        }
    );
}

#[test]
fn a_far_with_every_ie_is_read_and_notes_what_is_not_supported() {
    let far = established(&establishment(&go("CreateFAR")))
        .rules
        .create_fars
        .remove(0);
    assert_eq!(
        (far.id, far.apply_action, far.bar_id),
        (Some(0xffff_ffff), Some(0x0004), Some(0xff))
    );
    let forwarding = far.forwarding.unwrap();
    assert_eq!(forwarding.transport_level_marking, Some((0x11, 0x11)));
    assert_eq!(forwarding.network_instance.as_deref(), Some("some.instance.example"));
    assert_eq!(forwarding.outer_header_creation.unwrap().teid, Some(0x1122_3344));
    assert_eq!(forwarding.unsupported, [38, 41, 98, 137, 232]);
    assert_eq!(far.duplicating.len(), 1);
    assert_eq!(far.duplicating[0].transport_level_marking, Some((0x11, 0x11)));

    let update = modified(&modification(&go("UpdateFAR"))).rules.update_fars.remove(0);
    assert_eq!(update.forwarding.unwrap().outer_header_creation.unwrap().ipv4, LOOPBACK);
}

#[test]
fn a_qer_with_every_ie_is_read_and_notes_what_is_not_supported() {
    let qer = Qer {
        id: Some(0xffff_ffff),
        correlation_id: Some(0x1111_1111),
        gate_status: Some(0),
        mbr: Some((0x11_1111_1111, 0x22_2222_2222)),
        gbr: Some((0x11_1111_1111, 0x22_2222_2222)),
        qfi: Some(1),
        rqi: Some(true),
        ppi: Some(1),
        averaging_window_ms: Some(0xffff_ffff),
        removed: vec![],
        unsupported: vec![94, 193, 97, 251],
    };
    assert_eq!(established(&establishment(&go("CreateQER"))).rules.create_qers[0], qer);
    assert_eq!(modified(&modification(&go("UpdateQER"))).rules.update_qers, [qer]);
}

#[test]
fn a_pdr_with_every_ie_is_read_and_notes_what_is_not_supported() {
    let pdr: Pdr = established(&establishment(&go("CreatePDR")))
        .rules
        .create_pdrs
        .remove(0);
    assert_eq!(
        (pdr.id, pdr.precedence, pdr.far_id),
        (Some(0xffff), Some(0x1111_1111), Some(0xffff_ffff))
    );
    assert_eq!(pdr.outer_header_removal, Some((1, Some(2))));
    assert_eq!(pdr.unsupported, [106, 163, 164, 170, 179, 188, 177, 265, 271]);
    let pdi = pdr.pdi.unwrap();
    assert_eq!(pdi.network_instance.as_deref(), Some("some.instance.example"));
    assert_eq!((pdi.sdf_filters.len(), pdi.ue_ips.len()), (1, 1));
    assert_eq!(pdi.unsupported, [255, 131, 24, 142, 132]);
}

#[test]
fn a_urr_with_every_ie_is_read_and_notes_its_quotas() {
    let urr = established(&establishment(&go("CreateURR")))
        .rules
        .create_urrs
        .remove(0);
    assert_eq!(
        (urr.measurement_method, urr.reporting_triggers),
        (Some(7), Some(0x2211))
    );
    assert_eq!(urr.measurement_information, Some(0x1f));
    let volume = VolumeThreshold {
        total: Some(0x3333_3333_3333_3333),
        uplink: Some(0x1111_1111_1111_1111),
        downlink: Some(0x2222_2222_2222_2222),
    };
    assert_eq!(urr.volume_threshold, Some(volume));
    assert_eq!((urr.time_threshold, urr.measurement_period), (Some(10), Some(10)));
    for quota in [33_u16, 73, 74, 82, 115, 118, 147, 182] {
        assert!(urr.unsupported.contains(&quota), "{quota}");
    }
}

#[test]
fn bars_and_removals_are_read() {
    let bar = established(&establishment(&go("CreateBAR")))
        .rules
        .create_bars
        .remove(0);
    assert_eq!((bar.id, bar.downlink_data_notification_delay), (Some(0xff), Some(2)));
    assert_eq!(
        (bar.suggested_buffering_packets_count, &bar.unsupported[..]),
        (Some(1), &[249][..])
    );
    let removals = ["RemovePDR", "RemoveFAR", "RemoveURR", "RemoveQER", "RemoveBAR"]
        .map(go)
        .concat();
    let rules = modified(&modification(&removals)).rules;
    assert_eq!(rules.remove_pdrs, [0xffff]);
    for removed in [&rules.remove_fars, &rules.remove_urrs, &rules.remove_qers] {
        assert_eq!(removed[..], [0xffff_ffff]);
    }
    assert_eq!(rules.remove_bars, [0xff]);
}

#[test]
fn f_seids_and_node_ids_are_read() {
    let seid = 0x1111_1111_2222_2222;
    let expected = [
        ("IPv4", LOOPBACK, None),
        ("IPv6", None, EXAMPLE6),
        ("IPv4v6", LOOPBACK, EXAMPLE6),
    ];
    for (name, ipv4, ipv6) in expected {
        let request = modified(&modification(&go(&format!("FSEID/SEID/{name}"))));
        assert_eq!(request.cp_fseid, Some(FSeid { seid, ipv4, ipv6 }));
    }
    assert_eq!(
        modified(&modification(&go("NodeID/IPv4"))).node_id,
        Some(NodeId::Ipv4(Ipv4Addr::LOCALHOST))
    );
    let fqdn = NodeId::Fqdn("go-pfcp.epc.3gppnetwork.org".to_owned());
    assert_eq!(modified(&modification(&go("NodeID/FQDN"))).node_id, Some(fqdn));
}
