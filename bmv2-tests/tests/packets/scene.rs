//! Frames of the usual session, and what is expected of a target.

use bmv2_tests::frame::{Tunnel, UserPacket, frame};
use bmv2_tests::world::*;
use bmv2_tests::{Frames, Target};
use upf_model::punt::{PuntHeader, PuntReason};
use upf_model::{Epoch, SessionId};

/// A packet of the usual user to the usual server.
pub fn uplink_packet() -> UserPacket {
    UserPacket::udp(UE, SERVER, 4000, 53)
}

/// And one back.
pub fn downlink_packet() -> UserPacket {
    UserPacket::udp(SERVER, UE, 53, 4000)
}

/// The same for IPv6.
pub fn uplink_packet_v6() -> UserPacket {
    UserPacket::udp(UE_V6, SERVER_V6, 4000, 53)
}

/// The same for IPv6.
pub fn downlink_packet_v6() -> UserPacket {
    UserPacket::udp(SERVER_V6, UE_V6, 53, 4000)
}

/// The usual uplink tunnel.
pub fn n3_tunnel() -> Tunnel {
    Tunnel::new(GNB, UPF_N3, UPLINK_TEID).qfi(9)
}

/// The usual downlink tunnel.
pub fn gnb_tunnel() -> Tunnel {
    Tunnel::new(UPF_N3, GNB, DOWNLINK_TEID).downlink(9, false, None)
}

/// A frame from the neighbour at this port.
pub fn from(port: u16, packet: &[u8]) -> Vec<u8> {
    frame(our_mac(port), peer_mac(port), 0, packet)
}

/// A frame to the neighbour at this port.
pub fn to(port: u16, packet: &[u8]) -> Vec<u8> {
    frame(peer_mac(port), our_mac(port), 0, packet)
}

/// A user's packet in the usual tunnel.
pub fn uplink(packet: &UserPacket) -> Vec<u8> {
    from(N3, &n3_tunnel().around(&packet.bytes()))
}

/// A packet from the data network.
pub fn downlink(packet: &UserPacket) -> Vec<u8> {
    from(N6, &packet.bytes())
}

/// The usual session in the usual network.
pub fn usual(target: &Target) {
    target.insert(network());
    target.insert(session());
}

/// What a punted frame looks like at the host port.
pub fn punted(port: u16, frame: &[u8], reason: PuntReason, session: Option<(u32, u32)>) -> (u16, Vec<u8>) {
    let header = PuntHeader {
        reason,
        ingress_port: port,
        session: session.map(|(session, epoch)| (SessionId(session), Epoch(epoch))),
    };
    (HOST, [&header.to_bytes()[..], frame].concat())
}

/// One frame in, exactly these out.
#[track_caller]
pub fn expect(target: &Target, port: u16, frame: &[u8], out: Frames) {
    let found = target.send(port, frame);
    assert!(
        found == out,
        "{}: frame at port {port}: {}\nexpected:{}\nfound:{}",
        target.name,
        hex(frame),
        listed(&out),
        listed(&found)
    );
}

/// One frame in, one out, to the neighbour at a port.
#[track_caller]
pub fn forwards(target: &Target, port: u16, frame: &[u8], egress: u16, packet: &[u8]) {
    expect(target, port, frame, vec![(egress, to(egress, packet))]);
}

/// The frame goes to the host as it came, without a session.
#[track_caller]
pub fn punts(target: &Target, port: u16, frame: &[u8], reason: PuntReason) {
    expect(target, port, frame, vec![punted(port, frame, reason, None)]);
}

/// The frame goes to the host as it came, with the usual session.
#[track_caller]
pub fn punts_of_session(target: &Target, port: u16, frame: &[u8], reason: PuntReason) {
    expect(
        target,
        port,
        frame,
        vec![punted(port, frame, reason, Some((SESSION, EPOCH)))],
    );
}

/// Nothing comes out.
#[track_caller]
pub fn drops(target: &Target, port: u16, frame: &[u8]) {
    expect(target, port, frame, vec![]);
}

fn listed(frames: &Frames) -> String {
    let mut text = String::new();
    for (port, frame) in frames {
        let why = PuntHeader::read(frame).ok().filter(|_| *port == HOST);
        let why = why.map_or(String::new(), |h| format!(" (punted: {})", h.reason.name()));
        text += &format!("\n  port {port}: {}{why}", hex(frame));
    }
    if frames.is_empty() { "\n  nothing".into() } else { text }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
