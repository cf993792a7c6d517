//! Whole tunnel packets, built and taken apart by etherparse around our header.

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use gtpu::{GpduTemplate, PduSessionContainer, UDP_PORT, parse_gpdu, write_gpdu_header};

fn inner(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 60, 0, 1], [198, 51, 100, 1], 64)
        .udp(4000, 53)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// The user's packet of a frame, read with etherparse outside, with us in the middle, with etherparse inside.
fn decapsulated(frame: &[u8]) -> (u32, Option<u8>, Vec<u8>) {
    let outer = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = outer.transport else {
        panic!("no UDP")
    };
    assert_eq!(udp.destination_port(), UDP_PORT);
    let gpdu = parse_gpdu(udp.payload()).unwrap();
    let user = &udp.payload()[gpdu.header_len..][..gpdu.payload_len];
    let inner = SlicedPacket::from_ip(user).unwrap();
    let Some(TransportSlice::Udp(inner_udp)) = inner.transport else {
        panic!("no inner UDP")
    };
    assert_eq!(inner_udp.destination_port(), 53);
    (gpdu.teid, gpdu.qfi, inner_udp.payload().to_vec())
}

#[test]
fn an_uplink_packet_over_ipv4_is_read_through_all_its_layers() {
    let user = inner(b"query");
    let mut tunnel = vec![0; 16];
    write_gpdu_header(&mut tunnel, 0x100, user.len(), Some(&PduSessionContainer::uplink(9))).unwrap();
    tunnel.extend(&user);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(UDP_PORT, UDP_PORT)
        .write(&mut frame, &tunnel)
        .unwrap();
    assert_eq!(decapsulated(&frame), (0x100, Some(9), b"query".to_vec()));
}

#[test]
fn a_downlink_packet_over_ipv6_is_read_through_all_its_layers() {
    let user = inner(b"answer");
    let template = GpduTemplate::downlink(0xffff_ffff, 1, true, None);
    let mut tunnel = vec![0; template.len()];
    template.write(&mut tunnel, user.len()).unwrap();
    tunnel.extend(&user);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv6([0x20; 16], [0x21; 16], 64)
        .udp(50_000, UDP_PORT)
        .write(&mut frame, &tunnel)
        .unwrap();
    assert_eq!(decapsulated(&frame), (0xffff_ffff, Some(1), b"answer".to_vec()));
}

#[test]
fn ethernet_padding_of_a_short_frame_is_not_taken_for_payload() {
    // A signalling-sized user's packet: the frame is padded to 60 octets, behind what IP and UDP announce.
    let mut tunnel = vec![0; 8];
    write_gpdu_header(&mut tunnel, 1, 1, None).unwrap();
    tunnel.push(0x45);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(UDP_PORT, UDP_PORT)
        .write(&mut frame, &tunnel)
        .unwrap();
    frame.resize(60, 0);
    // Even a reader that ignores the outer lengths gets the right payload, by the GTP-U length.
    let gpdu = parse_gpdu(&frame[14 + 20 + 8..]).unwrap();
    assert_eq!(gpdu.payload_len, 1);
}
