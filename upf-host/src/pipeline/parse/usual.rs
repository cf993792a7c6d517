//! The two frames that nearly all are: a user's IPv4 packet with UDP or TCP, plain, or in a GTP-U tunnel over IPv4 with one
//! PDU Session Container; without VLAN tag and IPv4 options.
//!
//! Where all offsets are known in advance, whole words are compared with what they should be, the differences are gathered,
//! and one branch asks whether there was any. What is accepted here is read by [`super::parse_any`] in the same way; what is
//! not accepted is not wrong for that, and goes there.

use super::UserPacket;
use crate::checksum;
use crate::environment::OwnAddress;
use crate::neighbours::Mac;
use pdr_classifier::{InterfaceSet, PacketFields, SessionKey};
use std::net::{IpAddr, Ipv4Addr};
use upf_model::{EndpointId, NetworkInstanceId, Qfi, Teid};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// With a PDU Session Container of four octets.
const GTPU: usize = 16;
const TUNNEL: usize = ETHERNET + IPV4 + 8 + GTPU;
/// As far as the ports of the user's packet.
const PORTS: usize = IPV4 + 4;

/// What a port's usual frames have in common, in the order of bytes of a frame.
#[derive(Debug, Clone)]
pub struct UsualFrames {
    /// The first eight octets under [`STATION`].
    station: u64,
    /// Our IPv4 addresses here.
    own: Box<[u32]>,
    /// The one that tunnels end at: then no plain packet is usual.
    endpoint: Option<(u32, EndpointId)>,
    interfaces: InterfaceSet,
    network_instance: NetworkInstanceId,
}

const STATION: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

impl UsualFrames {
    /// Those of a port; none with VLAN tags.
    pub fn of(
        mac: Mac,
        vlan: Option<u16>,
        addresses: &[OwnAddress],
        interfaces: u8,
        network_instance: NetworkInstanceId,
    ) -> Option<Self> {
        let [a, b, c, d, e, f] = mac;
        let v4 = |own: &OwnAddress| match own.addr {
            IpAddr::V4(addr) => Some((u32::from_ne_bytes(addr.octets()), own.endpoint)),
            IpAddr::V6(_) => None,
        };
        let endpoint = |(addr, endpoint): (u32, Option<EndpointId>)| Some((addr, endpoint?));
        vlan.is_none().then(|| Self {
            station: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
            own: addresses.iter().filter_map(v4).map(|(addr, _)| addr).collect(),
            endpoint: addresses.iter().filter_map(v4).find_map(endpoint),
            interfaces: InterfaceSet::from_bits(interfaces),
            network_instance,
        })
    }

    /// Read a frame of this port into `user`. False: it is not a usual one, and nothing is written.
    #[inline(always)]
    pub fn read(&self, user: &mut UserPacket, frame: &[u8], ipv4_checksum_verified: bool) -> bool {
        match self.endpoint {
            Some(endpoint) => self.tunnelled(endpoint, user, frame, ipv4_checksum_verified),
            None => self.plain(user, frame, ipv4_checksum_verified),
        }
    }

    /// ```text
    ///   Ethernet 14 │ IPv4 20 │ UDP 8 │ GTP-U 16 │ IPv4 20 │ ports 4
    /// ```
    #[inline(always)]
    fn tunnelled(
        &self,
        (address, endpoint): (u32, EndpointId),
        user: &mut UserPacket,
        frame: &[u8],
        ipv4_checksum_verified: bool,
    ) -> bool {
        let Some((h, start)) = headers::<{ TUNNEL + PORTS }>(frame, TUNNEL) else {
            return false;
        };
        let different = self.ethernet_differs(h)
            | differs(word(h, 20), NO_FRAGMENT_UDP)
            | u64::from(word(h, 30) ^ address)
            | differs(word(h, 34), TO_PORT_2152)
            | differs(word(h, 42), GPDU)
            | differs(word(h, 50), ONE_CONTAINER)
            | differs(word(h, 54), NO_FLAGS)
            | start.differs();
        // Each length has room for what is inside it. GTP-U's counts from its ninth octet.
        let (ip, udp, gtpu, user_len) = (be16(h, 16), be16(h, 38), be16(h, 44), start.len());
        let lengths = (frame.len() as i64 - (ETHERNET as i64 + ip)) // a frame may be padded
            | (ip - (IPV4 as i64 + udp))
            | (udp - (8 + 8 + gtpu))
            | (gtpu - (GTPU as i64 - 8 + user_len));
        if different != 0 || (lengths | start.spare()) < 0 || !(ipv4_checksum_verified || has_right_checksum(h)) {
            return false;
        }
        let key = SessionKey::FTeid {
            endpoint,
            teid: Teid(u32::from_be(word(h, 46))),
        };
        let ((src, dst), (from, to)) = (start.ends(), start.ports());
        let qfi = h[56] & 0x3f;
        let fields = self.fields(&start, (dst, src)).with_ports(to, from).with_qfi(Qfi(qfi));
        *user = start.user(key, fields, TUNNEL, h[15] & ECN, Some(qfi));
        true
    }

    /// ```text
    ///   Ethernet 14 │ IPv4 20 │ ports 4
    /// ```
    #[inline(always)]
    fn plain(&self, user: &mut UserPacket, frame: &[u8], ipv4_checksum_verified: bool) -> bool {
        let Some((h, start)) = headers::<{ ETHERNET + PORTS }>(frame, ETHERNET) else {
            return false;
        };
        let different = self.ethernet_differs(h) | start.differs();
        let spare = frame.len() as i64 - (ETHERNET as i64 + start.len());
        let (src, dst) = start.ends();
        let for_users = dst.octets()[0] < FIRST_GROUP && !self.own.contains(&word(h, 30));
        if different != 0
            || (spare | start.spare()) < 0
            || !for_users
            || !(ipv4_checksum_verified || has_right_checksum(h))
        {
            return false;
        }
        let key = SessionKey::UeV4 {
            ni: self.network_instance,
            addr: dst,
        };
        let (from, to) = start.ports();
        let fields = self.fields(&start, (src, dst)).with_ports(from, to);
        *user = start.user(key, fields, ETHERNET, 0, None);
        true
    }

    /// Zero: to our station, IPv4, no options.
    #[inline(always)]
    fn ethernet_differs(&self, h: &[u8]) -> u64 {
        (long(h, 0) ^ self.station) & STATION | differs(word(h, 12), IPV4_WITHOUT_OPTIONS)
    }

    #[inline(always)]
    fn fields(&self, start: &Start<'_>, (remote, ue): (Ipv4Addr, Ipv4Addr)) -> PacketFields {
        PacketFields::v4(remote, ue, start.0[9], start.0[1]).arrived(self.interfaces, self.network_instance)
    }
}

/// The start of a user's IPv4 packet.
struct Start<'f>(&'f [u8; PORTS]);

impl Start<'_> {
    /// Zero: no options, not a later fragment, UDP or TCP.
    #[inline(always)]
    fn differs(&self) -> u64 {
        let protocol = self.0[9];
        differs(word(self.0, 0), NO_OPTIONS)
            | differs(word(self.0, 4), NO_LATER_FRAGMENT)
            | u64::from((protocol != UDP) & (protocol != TCP))
    }

    fn len(&self) -> i64 {
        be16(self.0, 2)
    }

    /// Not negative: it has ports.
    fn spare(&self) -> i64 {
        self.len() - PORTS as i64
    }

    /// Source and destination.
    fn ends(&self) -> (Ipv4Addr, Ipv4Addr) {
        let address = |at| Ipv4Addr::from(word(self.0, at).to_ne_bytes());
        (address(12), address(16))
    }

    /// Source and destination.
    fn ports(&self) -> (u16, u16) {
        (be16(self.0, 20) as u16, be16(self.0, 22) as u16)
    }

    #[inline(always)]
    fn user(&self, key: SessionKey, fields: PacketFields, at: usize, outer_ecn: u8, qfi: Option<u8>) -> UserPacket {
        UserPacket {
            key,
            fields,
            ip_offset: at as u16,
            ip_len: self.len() as u16,
            hop_limit: self.0[8],
            dont_fragment: self.0[6] & 0x40 != 0,
            outer_ecn,
            qfi,
            stamped: 0,
        }
    }
}

/// The headers of a frame that is as long as that, and of them the user's, which start there.
#[inline(always)]
fn headers<const LEN: usize>(frame: &[u8], at: usize) -> Option<(&[u8; LEN], Start<'_>)> {
    let h = frame.first_chunk::<LEN>()?;
    Some((h, Start(h[at..].first_chunk()?)))
}

/// Four octets, and which of their bits are of interest.
type Expected = ([u8; 4], [u8; 4]);

const IPV4_WITHOUT_OPTIONS: Expected = ([0x08, 0x00, 0x45, 0], [0xff, 0xff, 0xff, 0]);
const NO_OPTIONS: Expected = ([0x45, 0, 0, 0], [0xff, 0, 0, 0]);
const NO_FRAGMENT_UDP: Expected = ([0, 0, 0, UDP], [0x3f, 0xff, 0, 0xff]);
const NO_LATER_FRAGMENT: Expected = ([0; 4], [0, 0, 0x1f, 0xff]);
const TO_PORT_2152: Expected = ([0, 0, 0x08, 0x68], [0, 0, 0xff, 0xff]);
const GPDU: Expected = ([0x34, 0xff, 0, 0], [0xff, 0xff, 0, 0]);
/// No sequence or N-PDU number is announced, so whatever is there means nothing.
const ONE_CONTAINER: Expected = ([0, 0, 0, 0x85], [0, 0, 0, 0xff]);
/// Of four octets; either PDU type; no further extension header.
const NO_FLAGS: Expected = ([1, 0, 0, 0], [0xff, 0xef, 0xc0, 0xff]);
const UDP: u8 = 17;
const TCP: u8 = 6;
const ECN: u8 = 0x03;
/// First octet of multicast, reserved and broadcast addresses.
const FIRST_GROUP: u8 = 224;

/// Zero: as expected.
#[inline(always)]
fn differs(word: u32, (value, mask): Expected) -> u64 {
    u64::from((word ^ u32::from_ne_bytes(value)) & u32::from_ne_bytes(mask))
}

/// The outer IPv4 header of a frame.
#[inline(always)]
fn has_right_checksum(h: &[u8]) -> bool {
    h[ETHERNET..].first_chunk().is_some_and(checksum::is_right)
}

#[inline(always)]
fn word(h: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

#[inline(always)]
fn long(h: &[u8], at: usize) -> u64 {
    h[at..].first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets))
}

#[inline(always)]
fn be16(h: &[u8], at: usize) -> i64 {
    i64::from(super::be16(h, at))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, parse_any};
    use super::*;
    use crate::environment::{Environment, PortEnvironment};
    use proptest::prelude::*;

    const CONFIG: &str = "
name: test
pfcp: { listen: '127.0.0.1:8805' }
ports:
  - { name: n3, device: net_null0, addresses: [10.3.0.1/24], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: net_null1, addresses: [10.6.0.1/24, 10.7.0.1/24], network_instance: internet, interfaces: [core] }
network_instances: [{ name: access }, { name: internet }]
";
    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn ports() -> Vec<PortEnvironment> {
        let config = upf_config::parse(CONFIG, "test").map_err(|e| e.to_string()).unwrap();
        Environment::new(&config, &[(MAC, false), (MAC, false)]).unwrap().ports
    }

    /// A user's packet with 10 octets behind its ports, and padding behind it.
    fn plain() -> Vec<u8> {
        let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 2, 8, 0]].concat();
        let ends = ([198, 51, 100, 7].into(), [10, 128, 0, 9].into());
        frame.extend(crate::pipeline::wire::ipv4_header(ends.0, ends.1, UDP, 64, 0xb8, 14));
        frame.extend([0x0f, 0xa0, 0, 53, 0, 14, 0, 0, 1, 2, 3, 4, 5, 6]);
        frame.extend([0; 4]);
        frame
    }

    fn tunnelled() -> Vec<u8> {
        let user = &plain()[ETHERNET..ETHERNET + IPV4 + 14];
        let gtpu = GTPU + user.len();
        let mut frame = plain()[..ETHERNET].to_vec();
        let ends = ([10, 3, 0, 2].into(), [10, 3, 0, 1].into());
        frame.extend(crate::pipeline::wire::ipv4_header(ends.0, ends.1, UDP, 64, 0, 8 + gtpu));
        frame.extend([0x0f, 0xa0, 0x08, 0x68, 0, (8 + gtpu) as u8, 0, 0]);
        frame.extend([
            0x34,
            0xff,
            0,
            (gtpu - 8) as u8,
            0,
            0,
            0x12,
            0x34,
            0,
            0,
            0,
            0x85,
            1,
            0x10,
            9,
            0,
        ]);
        frame.extend(user);
        frame.extend([0; 4]);
        frame
    }

    fn is_usual(port: &PortEnvironment, frame: &[u8]) -> bool {
        let usual = port.usual.as_ref().unwrap();
        usual.read(&mut UserPacket::blank(), frame, false)
    }

    #[test]
    fn both_usual_frames_are_taken_for_what_they_are() {
        let ports = ports();
        assert!(is_usual(&ports[0], &tunnelled()) && is_usual(&ports[1], &plain()));
        assert!(!is_usual(&ports[0], &plain()));
        assert!(!is_usual(&ports[0], &tunnelled()[..TUNNEL + PORTS - 1]));
    }

    #[test]
    fn a_packet_to_an_address_of_ours_is_not_a_users() {
        let port = &ports()[1];
        for own in [[10, 6, 0, 1], [10, 7, 0, 1], [224, 0, 0, 1], [255; 4]] {
            let mut frame = plain();
            frame[30..34].copy_from_slice(&own);
            assert!(
                !port
                    .usual
                    .as_ref()
                    .unwrap()
                    .read(&mut UserPacket::blank(), &frame, true)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_usual_is_read_as_any_frame_is(
            tunnel: bool,
            verified: bool,
            changes in proptest::collection::vec((0usize..82, any::<u8>()), 0..3),
            flips in proptest::collection::vec((0usize..82, 0u8..8), 0..3),
            cut in 0usize..12,
        ) {
            let ports = ports();
            let (port, mut frame) = if tunnel { (&ports[0], tunnelled()) } else { (&ports[1], plain()) };
            let length = frame.len();
            for (at, value) in changes {
                frame[at % length] = value;
            }
            for (at, bit) in flips {
                frame[at % length] ^= 1 << bit;
            }
            frame.truncate(length - cut);
            let (mut one, mut other) = (UserPacket::blank(), UserPacket::blank());
            if port.usual.as_ref().unwrap().read(&mut one, &frame, verified) {
                prop_assert_eq!(parse_any(&mut other, port, &frame, verified), Kind::User);
                prop_assert_eq!(one, other);
            } else {
                prop_assert_eq!(one, UserPacket::blank());
            }
        }
    }
}
