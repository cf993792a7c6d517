//! Outer headers (TS 29.244 8.2.56, TS 29.281): compiled once for a rule, copied in front of each packet.

use crate::checksum;
use crate::neighbours::NextHopId;
use crate::packet::Packet;
use crate::traffic_class::{DSCP, ECN};
use gtpu::{GpduTemplate, PduSessionContainer, TimeStamp};
use qos::Direction;
use std::net::IpAddr;
use upf_model::OuterHeaderCreation;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const HOP_LIMIT: u8 = 64;
const UDP: u8 = 17;

/// How a rule encapsulates: all that differs from tunnel to tunnel, in half a cache line.
#[derive(Debug, Clone)]
pub struct Tunnel {
    outer: Outer,
    /// The GTP-U header, with the PDU Session Container if the rule names a QoS flow.
    gtpu: GpduTemplate,
    /// The rule names no QoS flow: keep the one the packet came with, if any, towards the RAN or the core.
    keep_qfi: Option<Direction>,
    /// Where it goes first.
    pub next_hop: NextHopId,
}

/// The outer IP header, but for lengths, checksum and traffic class.
#[derive(Debug, Clone)]
enum Outer {
    V4 {
        src: [u8; 4],
        dst: [u8; 4],
        /// Folded sum over the header with its lengths, checksum and traffic class zero.
        sum: u16,
    },
    /// Source and destination.
    V6(Box<[[u8; 16]; 2]>),
}

const _: () = assert!(size_of::<Tunnel>() <= 32);

/// QoS marking of a tunnel's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QosFlowMark {
    /// QoS flow.
    pub qfi: u8,
    /// Reflective QoS indication, downlink only.
    pub rqi: bool,
    /// Paging policy indicator, downlink only.
    pub ppi: Option<u8>,
}

impl Tunnel {
    /// Compile. The direction decides the PDU type of the PDU Session Container (TS 38.415 5.5.2); `source` is the address of ours that the packets come from, in the peer's family.
    pub fn new(
        creation: OuterHeaderCreation,
        source: IpAddr,
        direction: Direction,
        mark: Option<QosFlowMark>,
        next_hop: NextHopId,
    ) -> Self {
        let outer = match (source, creation.peer) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (src, dst) = (src.octets(), dst.octets());
                let header = ipv4_header(src, dst, [0; 4], 0);
                let sum = checksum::fold(checksum::add(0, &header));
                Outer::V4 { src, dst, sum }
            }
            (src, dst) => Outer::V6(Box::new([octets_v6(src), octets_v6(dst)])),
        };
        let teid = creation.teid.0;
        let gtpu = match (mark, direction) {
            (None, _) => GpduTemplate::plain(teid),
            (Some(m), Direction::Downlink) => GpduTemplate::downlink(teid, m.qfi, m.rqi, m.ppi),
            (Some(m), Direction::Uplink) => GpduTemplate::uplink(teid, m.qfi),
        };
        Self {
            outer,
            gtpu,
            keep_qfi: mark.is_none().then_some(direction),
            next_hop,
        }
    }

    /// Bytes it adds in front of a packet that came with this QoS flow, Ethernet not counted.
    pub fn overhead(&self, qfi: Option<u8>) -> usize {
        self.outer_len() + self.gtpu_for(qfi).len()
    }

    /// Where in its packets the UDP checksum is, if it covers the user's packet and is there when they leave: over IPv6,
    /// and not with `offload`.
    pub const fn udp_checksum(&self, offload: bool) -> Option<usize> {
        if matches!(self.outer, Outer::V6(_)) && !offload {
            Some(IPV6_LEN + 6)
        } else {
            None
        }
    }

    /// The peer's TEID.
    pub fn teid(&self) -> u32 {
        self.gtpu.teid()
    }

    const fn outer_len(&self) -> usize {
        match self.outer {
            Outer::V4 { .. } => IPV4_LEN + UDP_LEN,
            Outer::V6(_) => IPV6_LEN + UDP_LEN,
        }
    }

    fn gtpu_for(&self, qfi: Option<u8>) -> GpduTemplate {
        match (self.keep_qfi, qfi) {
            (Some(Direction::Downlink), Some(qfi)) => GpduTemplate::downlink(self.teid(), qfi, false, None),
            (Some(Direction::Uplink), Some(qfi)) => GpduTemplate::uplink(self.teid(), qfi),
            _ => self.gtpu,
        }
    }

    /// Put the headers in front of an IP packet. `traffic_class` becomes the outer one. `ethernet` bytes more will
    /// be put in front later; with `offload` the device may finish the UDP checksum over IPv6. `stamp` asks the RAN for
    /// an answer (QoS monitoring). False: no room.
    #[inline]
    pub fn encapsulate<P: Packet>(
        &self,
        packet: &mut P,
        traffic_class: u8,
        qfi: Option<u8>,
        stamp: Option<TimeStamp>,
        ethernet: usize,
        offload: bool,
    ) -> bool {
        let inner = packet.bytes().len();
        let gtpu = self.gtpu_for(qfi);
        if let Some(container) = stamp.and_then(|stamp| gtpu.monitoring(stamp)) {
            return prepend_stamped(packet, gtpu.teid(), &container)
                && self.outer(packet, traffic_class, ethernet, offload);
        }
        let outer_len = self.outer_len();
        let Some(header) = packet.prepend(outer_len + gtpu.len()) else {
            return false;
        };
        let (outer, inside) = header.split_at_mut(outer_len);
        if gtpu.write(inside, inner).is_err() {
            return false;
        }
        self.write_outer(outer, gtpu.len() + inner, traffic_class);
        self.finish(packet, ethernet, offload);
        true
    }

    /// Put the outer IP and UDP header in front of a GTP-U message, such as an End Marker; parameters as of
    /// [`Self::encapsulate`].
    pub fn outer<P: Packet>(&self, packet: &mut P, traffic_class: u8, ethernet: usize, offload: bool) -> bool {
        let message = packet.bytes().len();
        let Some(header) = packet.prepend(self.outer_len()) else {
            return false;
        };
        self.write_outer(header, message, traffic_class);
        self.finish(packet, ethernet, offload);
        true
    }

    /// The outer headers of a GTP-U message of that length, in as much room as they need.
    #[inline]
    fn write_outer(&self, header: &mut [u8], message: usize, traffic_class: u8) {
        const PORT: [u8; 2] = gtpu::UDP_PORT.to_be_bytes();
        let (udp_len, total) = ((message + UDP_LEN) as u16, (message + UDP_LEN + IPV4_LEN) as u16);
        let [length_high, length_low] = udp_len.to_be_bytes();
        let ports = [PORT[0], PORT[1], PORT[0], PORT[1], length_high, length_low, 0, 0];
        match &self.outer {
            Outer::V4 { src, dst, sum } => {
                let sum = u64::from(*sum) + u64::from(total) + u64::from(traffic_class);
                let [a, b] = total.to_be_bytes();
                let [c, d] = checksum::finish(sum).to_be_bytes();
                header[..IPV4_LEN].copy_from_slice(&ipv4_header(*src, *dst, [a, b, c, d], traffic_class));
                // The UDP checksum over IPv4 stays zero: allowed, and the inner packet has its own (TS 29.281 4.4.2.0).
                header[IPV4_LEN..IPV4_LEN + UDP_LEN].copy_from_slice(&ports);
            }
            Outer::V6(ends) => {
                let start = [0x60 | traffic_class >> 4, traffic_class << 4, 0, 0];
                header[..4].copy_from_slice(&start);
                header[4..8].copy_from_slice(&[length_high, length_low, UDP, HOP_LIMIT]);
                header[8..24].copy_from_slice(&ends[0]);
                header[24..40].copy_from_slice(&ends[1]);
                header[IPV6_LEN..IPV6_LEN + UDP_LEN].copy_from_slice(&ports);
            }
        }
    }

    #[inline]
    fn finish<P: Packet>(&self, packet: &mut P, ethernet: usize, offload: bool) {
        if let Outer::V6(_) = self.outer {
            udp_checksum_v6(packet, ethernet, offload);
        }
    }
}

/// An outer IPv4 header. `varying`: total length and checksum. Not to be fragmented: the MTU is checked before.
#[inline(always)]
const fn ipv4_header(src: [u8; 4], dst: [u8; 4], varying: [u8; 4], tos: u8) -> [u8; IPV4_LEN] {
    let ([a, b, c, d], [e, f, g, h], [l0, l1, s0, s1]) = (src, dst, varying);
    [
        0x45, tos, l0, l1, 0, 0, 0x40, 0, HOP_LIMIT, UDP, s0, s1, a, b, c, d, e, f, g, h,
    ]
}

/// Put a GTP-U header with a time stamp in front of an IP packet. False: no room.
#[cold]
fn prepend_stamped<P: Packet>(packet: &mut P, teid: u32, container: &PduSessionContainer) -> bool {
    let inner = packet.bytes().len();
    let len = gtpu::MANDATORY_LEN + gtpu::OPTIONAL_LEN + container.extension_len();
    let header = packet.prepend(len);
    header.is_some_and(|header| gtpu::write_gpdu_header(header, teid, inner, Some(container)).is_ok())
}

/// Fill the UDP checksum of an IPv6 packet that starts with its IP header, or leave it to the device.
fn udp_checksum_v6<P: Packet>(packet: &mut P, ethernet: usize, offload: bool) {
    let bytes = packet.bytes_mut();
    let udp_len = (bytes.len() - IPV6_LEN) as u32;
    let pseudo = checksum::pseudo_v6(&bytes[8..24], &bytes[24..40], UDP, udp_len);
    if offload && {
        bytes[IPV6_LEN + 6..IPV6_LEN + 8].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        packet.request_udp_checksum(ethernet, IPV6_LEN)
    } {
        return;
    }
    let bytes = packet.bytes_mut();
    bytes[IPV6_LEN + 6..IPV6_LEN + 8].fill(0);
    let sum = match checksum::finish(checksum::add(pseudo, &bytes[IPV6_LEN..])) {
        0 => 0xffff, // zero would mean that there is none (RFC 768)
        sum => sum,
    };
    packet.bytes_mut()[IPV6_LEN + 6..IPV6_LEN + 8].copy_from_slice(&sum.to_be_bytes());
}

fn octets_v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// The outer traffic class for an inner one: ECN is copied (RFC 6040, normal mode), DSCP is marked or zero.
pub const fn outer_traffic_class(inner: u8, marking: Option<(u8, u8)>) -> u8 {
    let dscp = match marking {
        Some((value, mask)) => value & mask & DSCP,
        None => 0,
    };
    dscp | inner & ECN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::HeapPacket;
    use upf_model::Teid;

    const INNER: [u8; 24] = [
        0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4,
    ];

    fn tunnel(peer: &str, source: &str, mark: Option<QosFlowMark>) -> Tunnel {
        let creation = OuterHeaderCreation {
            teid: Teid(0x11223344),
            peer: peer.parse().unwrap(),
        };
        Tunnel::new(
            creation,
            source.parse().unwrap(),
            Direction::Downlink,
            mark,
            NextHopId(0),
        )
    }

    fn encapsulated(tunnel: &Tunnel, qfi: Option<u8>) -> Vec<u8> {
        let mut packet = HeapPacket::new(&INNER);
        assert!(tunnel.encapsulate(&mut packet, 0xb9, qfi, None, 14, false));
        assert_eq!(packet.bytes().len(), INNER.len() + tunnel.overhead(qfi));
        packet.bytes().to_vec()
    }

    #[test]
    fn ipv4_tunnel_has_right_lengths_checksum_marking_and_qos_flow() {
        let mark = QosFlowMark {
            qfi: 9,
            rqi: true,
            ppi: None,
        };
        let bytes = encapsulated(&tunnel("10.0.3.2", "10.0.3.1", Some(mark)), None);
        let sliced = etherparse::SlicedPacket::from_ip(&bytes).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
            panic!("not IPv4")
        };
        let header = ip.header();
        assert_eq!(header.total_len() as usize, bytes.len());
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert_eq!(bytes[1], 0xb9);
        let gpdu = gtpu::parse_gpdu(&bytes[28..]).unwrap();
        assert_eq!(
            (gpdu.teid, gpdu.qfi, gpdu.rqi, gpdu.payload_len),
            (0x11223344, Some(9), true, INNER.len())
        );
        assert_eq!(&bytes[28 + gpdu.header_len..], &INNER);
    }

    #[test]
    fn ipv6_tunnel_has_a_valid_udp_checksum() {
        let bytes = encapsulated(&tunnel("fd00::2", "fd00::1", None), None);
        let sliced = etherparse::SlicedPacket::from_ip(&bytes).unwrap();
        let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else {
            panic!("not UDP")
        };
        let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else {
            panic!("not IPv6")
        };
        let expected = udp
            .to_header()
            .calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
            .unwrap();
        assert_eq!(udp.checksum(), expected);
        assert_eq!(ip.header().traffic_class(), 0xb9);
        assert_eq!(gtpu::parse_gpdu(udp.payload()).unwrap().qfi, None);
    }

    #[test]
    fn a_rule_without_a_qos_flow_keeps_the_packets_own() {
        let bytes = encapsulated(&tunnel("10.0.3.2", "10.0.3.1", None), Some(5));
        assert_eq!(gtpu::parse_gpdu(&bytes[28..]).unwrap().qfi, Some(5));
    }

    #[test]
    fn congestion_marks_are_copied_outwards_and_dscp_comes_from_the_rule() {
        assert_eq!(outer_traffic_class(0xb9, None), 0x01);
        assert_eq!(outer_traffic_class(0x03, Some((0xb8, 0xfc))), 0xbb);
    }
}
