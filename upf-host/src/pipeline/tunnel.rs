//! Outer headers (TS 29.244 8.2.56, TS 29.281): compiled once for a rule, copied in front of each packet.

use crate::checksum;
use crate::neighbours::NextHopId;
use crate::packet::Packet;
use crate::traffic_class::{DSCP, ECN};
use gtpu::{GpduTemplate, TimeStamp};
use qos::Direction;
use std::net::IpAddr;
use upf_model::OuterHeaderCreation;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const OUTER_V4_LEN: usize = IPV4_LEN + UDP_LEN;
/// With a PDU Session Container of four octets: what most packets have, and all whose QoS flow is kept.
const GTPU_LEN: usize = 16;
/// Over IPv4, with a QoS flow.
const USUAL_LEN: usize = OUTER_V4_LEN + GTPU_LEN;
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
        /// Source and destination.
        ends: [u8; 8],
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
                let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
                let ends = [a, b, c, d, e, f, g, h];
                let header = ipv4_header(ends, [0; 4], 0);
                let sum = checksum::fold(checksum::add(0, &header));
                Outer::V4 { ends, sum }
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
    #[inline(always)]
    pub fn overhead(&self, qfi: Option<u8>) -> usize {
        let keeps = self.keep_qfi.is_some() && qfi.is_some();
        self.outer_len() + if keeps { GTPU_LEN } else { self.gtpu.len() }
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

    /// Over IPv6.
    pub const fn is_v6(&self) -> bool {
        matches!(self.outer, Outer::V6(_))
    }

    const fn outer_len(&self) -> usize {
        match self.outer {
            Outer::V4 { .. } => OUTER_V4_LEN,
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

    /// Write the headers of an IP packet of `inner` bytes into [`Self::overhead`] bytes in front of it; `traffic_class` becomes
    /// the outer one. Over IPv6 a UDP checksum is still due: [`finish_v6`]. False: not as much room, or too long a packet.
    #[inline(always)]
    pub fn write(&self, headers: &mut [u8], inner: usize, traffic_class: u8, qfi: Option<u8>) -> bool {
        if self.keep_qfi.is_none()
            && let Outer::V4 { ends, sum } = &self.outer
            && let Ok(headers) = <&mut [u8; USUAL_LEN]>::try_from(&mut *headers)
            && let Some((outer, inside)) = headers.split_first_chunk_mut()
            && let Ok(inside) = inside.try_into()
        {
            write_outer_v4(outer, *ends, *sum, GTPU_LEN + inner, traffic_class);
            return self.gtpu.write_usual(inside, inner as u16);
        }
        self.write_any(headers, inner, traffic_class, qfi)
    }

    #[inline(never)]
    fn write_any(&self, headers: &mut [u8], inner: usize, traffic_class: u8, qfi: Option<u8>) -> bool {
        let gtpu = self.gtpu_for(qfi);
        let Some((outer, inside)) = headers.split_at_mut_checked(self.outer_len()) else {
            return false;
        };
        self.write_outer(outer, gtpu.len() + inner, traffic_class);
        gtpu.write(inside, inner).is_ok()
    }

    /// Put the headers in front of an IP packet, with a time stamp that asks the RAN for an answer (QoS monitoring);
    /// parameters as of [`Self::outer`]. False: no room.
    #[cold]
    pub fn encapsulate_stamped<P: Packet>(
        &self,
        packet: &mut P,
        traffic_class: u8,
        qfi: Option<u8>,
        stamp: TimeStamp,
        ethernet: usize,
        offload: bool,
    ) -> bool {
        let gtpu = self.gtpu_for(qfi);
        let inner = packet.bytes().len();
        let container = gtpu.monitoring(stamp);
        let len = match &container {
            Some(container) => gtpu::MANDATORY_LEN + gtpu::OPTIONAL_LEN + container.extension_len(),
            None => gtpu.len(),
        };
        let written = packet.prepend(len).map(|header| match &container {
            Some(container) => gtpu::write_gpdu_header(header, gtpu.teid(), inner, Some(container)),
            None => gtpu.write(header, inner),
        });
        matches!(written, Some(Ok(_))) && self.outer(packet, traffic_class, ethernet, offload)
    }

    /// Put the outer IP and UDP header in front of a GTP-U message, such as an End Marker. `traffic_class` becomes the outer
    /// one, `ethernet` bytes more will be put in front later; with `offload` the device may finish the UDP checksum over
    /// IPv6. False: no room.
    pub fn outer<P: Packet>(&self, packet: &mut P, traffic_class: u8, ethernet: usize, offload: bool) -> bool {
        let message = packet.bytes().len();
        let Some(header) = packet.prepend(self.outer_len()) else {
            return false;
        };
        self.write_outer(header, message, traffic_class);
        if self.is_v6() {
            finish_v6(packet, 0, ethernet, offload);
        }
        true
    }

    /// The outer headers of a GTP-U message of that length, in as much room as they need.
    #[inline(always)]
    fn write_outer(&self, header: &mut [u8], message: usize, traffic_class: u8) {
        let udp_len = (message + UDP_LEN) as u16;
        match &self.outer {
            Outer::V4 { ends, sum } => {
                if let Ok(header) = header.try_into() {
                    write_outer_v4(header, *ends, *sum, message, traffic_class);
                }
            }
            Outer::V6(ends) => {
                let start = [0x60 | traffic_class >> 4, traffic_class << 4, 0, 0];
                header[..4].copy_from_slice(&start);
                let [high, low] = udp_len.to_be_bytes();
                header[4..8].copy_from_slice(&[high, low, UDP, HOP_LIMIT]);
                header[8..24].copy_from_slice(&ends[0]);
                header[24..40].copy_from_slice(&ends[1]);
                header[IPV6_LEN..IPV6_LEN + UDP_LEN].copy_from_slice(&udp_header(udp_len));
            }
        }
    }
}

/// Outer IPv4 and UDP header of a GTP-U message of that length.
#[inline(always)]
fn write_outer_v4(header: &mut [u8; OUTER_V4_LEN], ends: [u8; 8], sum: u16, message: usize, traffic_class: u8) {
    let (udp_len, total) = ((message + UDP_LEN) as u16, (message + UDP_LEN + IPV4_LEN) as u16);
    let sum = u64::from(sum) + u64::from(total) + u64::from(traffic_class);
    let ([a, b], [c, d]) = (total.to_be_bytes(), checksum::finish(sum).to_be_bytes());
    header[..IPV4_LEN].copy_from_slice(&ipv4_header(ends, [a, b, c, d], traffic_class));
    // The UDP checksum over IPv4 stays zero: allowed, and the inner packet has its own (TS 29.281 4.4.2.0).
    header[IPV4_LEN..].copy_from_slice(&udp_header(udp_len));
}

#[inline(always)]
const fn udp_header(length: u16) -> [u8; UDP_LEN] {
    const PORT: [u8; 2] = gtpu::UDP_PORT.to_be_bytes();
    let [high, low] = length.to_be_bytes();
    [PORT[0], PORT[1], PORT[0], PORT[1], high, low, 0, 0]
}

/// An outer IPv4 header. `varying`: total length and checksum. Not to be fragmented: the MTU is checked before.
#[inline(always)]
const fn ipv4_header(ends: [u8; 8], varying: [u8; 4], tos: u8) -> [u8; IPV4_LEN] {
    let ([a, b, c, d, e, f, g, h], [l0, l1, s0, s1]) = (ends, varying);
    [
        0x45, tos, l0, l1, 0, 0, 0x40, 0, HOP_LIMIT, UDP, s0, s1, a, b, c, d, e, f, g, h,
    ]
}

/// Fill the UDP checksum of the IPv6 packet that starts `at` there in the buffer, or leave it to the device. `ethernet`: as
/// much will be in front of it when it is sent.
#[cold]
pub fn finish_v6<P: Packet>(packet: &mut P, at: usize, ethernet: usize, offload: bool) {
    let bytes = &mut packet.bytes_mut()[at..];
    let udp_len = (bytes.len() - IPV6_LEN) as u32;
    let pseudo = checksum::pseudo_v6(&bytes[8..24], &bytes[24..40], UDP, udp_len);
    if offload && {
        bytes[IPV6_LEN + 6..IPV6_LEN + 8].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        packet.request_udp_checksum(ethernet, IPV6_LEN)
    } {
        return;
    }
    let bytes = &mut packet.bytes_mut()[at..];
    bytes[IPV6_LEN + 6..IPV6_LEN + 8].fill(0);
    let sum = match checksum::finish(checksum::add(pseudo, &bytes[IPV6_LEN..])) {
        0 => 0xffff, // zero would mean that there is none (RFC 768)
        sum => sum,
    };
    bytes[IPV6_LEN + 6..IPV6_LEN + 8].copy_from_slice(&sum.to_be_bytes());
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
        let headers = tunnel.overhead(qfi);
        let frame = packet.reframe(0, INNER.len(), headers).unwrap();
        assert!(tunnel.write(&mut frame[..headers], INNER.len(), 0xb9, qfi));
        if tunnel.is_v6() {
            finish_v6(&mut packet, 0, 14, false);
        }
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
