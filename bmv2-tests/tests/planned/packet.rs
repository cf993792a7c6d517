//! Random frames: valid ones that may well be the session's, near misses, and broken ones.

use crate::session::TEIDS;
use crate::world::{self, N3, N6, N9};
use bmv2_tests::frame::{Container, Transport, Tunnel, UserPacket, fill_ipv4_checksum, frame, padded};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use upf_host::neighbours::PortIndex;

/// A frame and where it arrives.
#[derive(Clone)]
pub struct Arriving {
    pub port: PortIndex,
    pub frame: Vec<u8>,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "port {}: ", self.port)?;
        self.frame.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is done to a good frame.
#[derive(Debug, Clone)]
enum Damage {
    None,
    /// A byte becomes another, and the first IPv4 header's checksum is made right again, or not.
    Byte(usize, u8, bool),
    /// It ends early.
    Cut(usize),
    /// Bytes follow.
    Extended(Vec<u8>),
}

pub fn arriving() -> impl Strategy<Value = Arriving> {
    let damage = prop_oneof![
        20 => Just(Damage::None),
        4 => (0..90usize, any::<u8>(), any::<bool>()).prop_map(|(at, to, repair)| Damage::Byte(at, to, repair)),
        1 => (14..90usize).prop_map(Damage::Cut),
        1 => vec(any::<u8>(), 1..60).prop_map(Damage::Extended),
    ];
    let user = prop_oneof![6 => user_v4().boxed(), 4 => user_v6().boxed()];
    let port = prop_oneof![5 => Just(N3), 1 => Just(N9), 5 => Just(N6)];
    let away = (0..100u8, 0..100u8, any::<bool>(), any::<bool>());
    (port, user, tunnel(), inside(), damage, away).prop_map(
        |(port, user, tunnel, inside, damage, (mac, vlan, swap, pad))| {
            let mut packet = inside.applied(user, port, swap);
            if port != N6 || tunnel.everywhere {
                packet = tunnel.around(port, &packet);
            }
            let our_mac = match mac {
                0 => [2, 0, 0, 0, 9, 9],
                1 => [0xff; 6],
                _ => world::our_mac(port),
            };
            let vlan = match vlan {
                0 => 8,
                1 => 0x3000,
                2 => 0,
                3 => world::vlan(port) | 0xa000,
                _ => world::vlan(port),
            };
            let mut frame = frame(our_mac, [2, 0, 0, 0, 2, 0], vlan, &packet);
            if pad {
                frame = padded(frame, 0);
            }
            damage.done_to(&mut frame);
            zero_padding(&mut frame);
            Arriving { port, frame }
        },
    )
}

impl Damage {
    fn done_to(&self, frame: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Byte(at, to, repair) => {
                if let Some(byte) = frame.get_mut(*at) {
                    *byte = *to;
                }
                let ip = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
                let header = frame.get(ip).map_or(0, |first| usize::from(first & 0xf) * 4);
                if *repair && header >= 20 && frame.len() >= ip + header {
                    fill_ipv4_checksum(&mut frame[ip..]);
                }
            }
            Self::Cut(at) => frame.truncate(*at),
            Self::Extended(bytes) => frame.extend(bytes),
        }
    }
}

/// A free field: v1model sums up a tunnel's UDP checksum over IPv6 with what pads a short frame, so that has to be zero,
/// as Ethernet has it.
fn zero_padding(frame: &mut [u8]) {
    let ip = if frame.len() > 18 && frame[12..14] == [0x81, 0] {
        18
    } else {
        14
    };
    if frame.len() > 64 || frame.len() < ip + 6 {
        return;
    }
    let be16 = |at: usize| usize::from(u16::from_be_bytes([frame[ip + at], frame[ip + at + 1]]));
    let len = if frame[ip] >> 4 == 4 { be16(2) } else { be16(4) + 40 };
    if let Some(padding) = frame.get_mut(ip + len..) {
        padding.fill(0);
    }
}

fn user_v4() -> impl Strategy<Value = UserPacket> {
    let remote = prop_oneof![
        12 => select(&["8.8.8.8", "8.8.8.9", "8.9.9.9", "9.9.9.9"][..]),
        1 => select(&["10.6.0.77", "10.6.0.88", "10.6.0.1", "10.3.0.1", "224.0.0.1", "255.255.255.255"][..]),
    ];
    let ue = prop_oneof![
        12 => Just("10.60.0.2"),
        3 => select(&["10.60.0.3", "172.16.0.7", "172.16.9.7"][..]),
        1 => select(&["10.61.0.1", "10.6.0.1", "10.3.0.1"][..]),
    ];
    user(remote, ue)
}

fn user_v6() -> impl Strategy<Value = UserPacket> {
    let remote = prop_oneof![
        12 => select(&["2001:db8:8::8", "2001:db8:8::9", "2001:db8:9::9", "2003::1"][..]),
        1 => select(&["fd06::77", "fd06::1", "fd03::1"][..]),
    ];
    let ue = prop_oneof![
        12 => select(&["fd60:0:0:2::1", "fd60:0:0:2::2"][..]),
        2 => select(&["fd60:0:0:3::1", "fd61::1"][..]),
        1 => select(&["fd62::1", "fe80::1", "ff02::1", "fd06::1"][..]),
    ];
    user(remote, ue)
}

/// As the far end sends it to the user.
fn user(
    remote: impl Strategy<Value = &'static str>,
    ue: impl Strategy<Value = &'static str>,
) -> impl Strategy<Value = UserPacket> {
    let port = || select(&[0u16, 53, 53, 80, 85, 90, 443, 2152][..]);
    let transport = prop_oneof![
        5 => (port(), port()).prop_map(|(a, b)| Transport::Udp(a, b)),
        3 => (port(), port()).prop_map(|(a, b)| Transport::Tcp(a, b)),
        1 => Just(Transport::IcmpEcho),
        1 => select(&[0u8, 33, 43, 44, 50, 51, 58, 59, 60, 132, 135, 136, 254][..]).prop_map(Transport::Raw),
    ];
    let tos = prop_oneof![3 => select(&[0u8, 0xb8, 0xb9, 0x10, 0x12][..]), 1 => any::<u8>()];
    let hop_limit = prop_oneof![8 => Just(64u8), 1 => 0..3u8, 1 => any::<u8>()];
    let len = prop_oneof![6 => 0..60usize, 1 => 1_250..1_500usize];
    (remote, ue, transport, tos, hop_limit, len).prop_map(|(remote, ue, transport, tos, hop_limit, len)| {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        UserPacket {
            src: address(remote),
            dst: address(ue),
            transport,
            tos,
            hop_limit,
            payload: Vec::new(),
        }
        .payload_len(len)
    })
}

/// What is unusual about the user's IP packet.
#[derive(Debug, Clone, Copy)]
struct Inside {
    fragment: Option<(bool, u8)>,
    options: bool,
}

fn inside() -> impl Strategy<Value = Inside> {
    (
        option::weighted(0.1, (any::<bool>(), select(&[0u8, 1, 100][..]))),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(fragment, options)| Inside { fragment, options })
}

impl Inside {
    /// The user's packet as it travels at this port: uplink packets are turned round, some at the wrong port.
    fn applied(self, user: UserPacket, port: PortIndex, swap: bool) -> Vec<u8> {
        let uplink = match port {
            N3 => true,
            N9 => swap,
            _ => false,
        };
        let user = if uplink {
            let transport = match user.transport {
                Transport::Udp(a, b) => Transport::Udp(b, a),
                Transport::Tcp(a, b) => Transport::Tcp(b, a),
                other => other,
            };
            UserPacket {
                src: user.dst,
                dst: user.src,
                transport,
                ..user
            }
        } else {
            user
        };
        let mut packet = user.bytes();
        if user.src.is_ipv4() {
            if self.options {
                packet[0] = 0x46;
                let len = u16::from_be_bytes([packet[2], packet[3]]) + 4;
                packet[2..4].copy_from_slice(&len.to_be_bytes());
                packet.splice(20..20, [1, 1, 1, 0]);
            }
            if let Some((more, offset)) = self.fragment {
                packet[6..8].copy_from_slice(&[if more { 0x20 } else { 0 }, offset]);
            }
            fill_ipv4_checksum(&mut packet);
        }
        packet
    }
}

/// The tunnel around a packet.
#[derive(Debug, Clone)]
struct Around {
    /// Also at the port of the data network.
    everywhere: bool,
    v6: bool,
    /// To another address than the port's endpoint.
    elsewhere: bool,
    teid: u32,
    tos: u8,
    container: Option<Container>,
    sequence: bool,
    message_type: u8,
}

fn tunnel() -> impl Strategy<Value = Around> {
    let teid = prop_oneof![14 => Just(TEIDS[0]), 2 => select(&TEIDS[..]), 1 => any::<u32>()];
    let container = option::weighted(
        0.6,
        prop_oneof![
            8 => (0..4u8).prop_map(Container::Uplink),
            1 => (0..64u8, any::<bool>(), option::of(0..8u8)).prop_map(|(qfi, rqi, ppi)| Container::Downlink(qfi, rqi, ppi)),
        ],
    );
    let message_type = prop_oneof![30 => Just(255u8), 1 => select(&[1u8, 2, 26, 31, 254][..])];
    let tos = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let rare = || prop::bool::weighted(0.04);
    (
        rare(),
        prop::bool::weighted(0.3),
        rare(),
        teid,
        tos,
        container,
        rare(),
        message_type,
    )
        .prop_map(
            |(everywhere, v6, elsewhere, teid, tos, container, sequence, message_type)| Around {
                everywhere,
                v6,
                elsewhere,
                teid,
                tos,
                container,
                sequence,
                message_type,
            },
        )
}

impl Around {
    fn around(&self, port: PortIndex, packet: &[u8]) -> Vec<u8> {
        let (peer, own): (&str, &str) = match (port, self.elsewhere, self.v6) {
            (N9, false, _) => ("10.9.0.2", "10.9.0.1"),
            (N6, _, _) => ("10.6.0.2", "10.6.0.1"),
            (_, false, false) => ("10.3.0.2", "10.3.0.1"),
            (_, false, true) => ("fd03::2", "fd03::1"),
            (N3, true, _) => ("10.3.0.2", "10.9.0.1"),
            (_, true, _) => ("10.9.0.2", "10.3.0.1"),
        };
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let tunnel = Tunnel {
            src: address(peer),
            dst: address(own),
            teid: self.teid,
            tos: self.tos,
            container: self.container,
        };
        if self.sequence && self.container.is_none() {
            let length = (packet.len() + 4) as u16;
            let header = [
                &[0x32, self.message_type][..],
                &length.to_be_bytes(),
                &self.teid.to_be_bytes(),
                &[0, 1, 0, 0],
            ];
            return tunnel.around_message(&[&header.concat(), packet].concat());
        }
        let mut bytes = tunnel.around(packet);
        let gtpu = if own.contains(':') { 48 } else { 28 };
        bytes[gtpu + 1] = self.message_type;
        bytes
    }
}
