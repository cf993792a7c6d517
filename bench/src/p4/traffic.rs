//! Frames of random sessions, made before they are needed: half uplink, half downlink, in turn.

use super::population::{GNB, N3, N6, NEIGHBOUR, Population, QFI, STATION, UPF_N3, ue, uplink_teid};
use gtpu::GpduTemplate;
use std::net::Ipv4Addr;
use upf_host::checksum;
use upf_host::pipeline::wire::ipv4_header;

/// The user's IP packets.
pub const INNER_BYTES: usize = 64;
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const UDP: u8 = 17;
/// Users that no table knows start here.
const NOBODY: u32 = 0x40_0000;
/// Different frames that are made: more than caches keep.
const FRAMES: usize = 65_536;

/// A frame and the port at which it comes in.
pub type Frame = (u32, Vec<u8>);

/// Frames of this population, `hit_rate` per cent of them of sessions that it has.
pub fn frames(population: Population, hit_rate: u32) -> Vec<Frame> {
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut below = |bound: u32| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((random >> 32) * u64::from(bound)) >> 32) as u32
    };
    let many = FRAMES.min(4 * population.sessions as usize).max(2_048);
    let frame = |n: usize| {
        let known = below(100) < hit_rate;
        let number = if known {
            below(population.sessions)
        } else {
            NOBODY + below(100_000)
        };
        if n.is_multiple_of(2) {
            (N3, uplink(number))
        } else {
            (N6, downlink(number))
        }
    };
    (0..many).map(frame).collect()
}

fn user_packet(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut packet = ipv4_header(src, dst, UDP, 64, 0, INNER_BYTES - 20).to_vec();
    packet.extend(udp_header(4_000, 53, INNER_BYTES - 28));
    packet.resize(INNER_BYTES, 0xa5);
    packet
}

/// From the gNB.
pub fn uplink(number: u32) -> Vec<u8> {
    let template = GpduTemplate::uplink(uplink_teid(number), QFI);
    let mut message = vec![0; template.len()];
    template.write(&mut message, INNER_BYTES).expect("64 bytes fit a G-PDU");
    message.extend(user_packet(ue(number), SERVER));
    let mut frame = ethernet();
    frame.extend(ipv4_header(GNB, UPF_N3, UDP, 64, 0, 8 + message.len()));
    frame.extend(udp_header(2_152, 2_152, message.len()));
    frame.extend(message);
    frame
}

/// From the data network.
pub fn downlink(number: u32) -> Vec<u8> {
    let mut frame = ethernet();
    frame.extend(user_packet(SERVER, ue(number)));
    frame
}

fn ethernet() -> Vec<u8> {
    [&STATION[..], &NEIGHBOUR, &[8, 0]].concat()
}

/// Without a checksum, as IPv4 allows.
fn udp_header(src: u16, dst: u16, payload: usize) -> [u8; 8] {
    let ([a, b], [c, d]) = (src.to_be_bytes(), dst.to_be_bytes());
    let [e, f] = ((payload + 8) as u16).to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

/// Whether what a session's frame became is right: length, next hop, hop limit, checksum of the user's packet.
pub fn is_right(ingress: u32, frame: &[u8]) -> bool {
    let length = match ingress {
        N3 => 14 + INNER_BYTES,
        _ => 14 + 20 + 8 + 16 + INNER_BYTES,
    };
    frame.len() == length && frame[..6] == NEIGHBOUR && {
        let inner = &frame[length - INNER_BYTES..];
        inner[8] == 63 && checksum::fold(checksum::add(0, &inner[..20])) == 0xffff
    }
}
