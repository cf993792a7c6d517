//! Frames the UPF writes itself: Ethernet headers, ARP, neighbour discovery, replies over UDP and ICMP.

use super::parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, be16};
use crate::checksum;
use crate::environment::PortEnvironment;
use crate::neighbours::Mac;
use crate::packet::Packet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: Mac = [0xff; 6];

/// Put the Ethernet header of this port in front of a packet. False: no room.
pub fn prepend_ethernet<P: Packet>(packet: &mut P, port: &PortEnvironment, to: Mac, ether_type: u16) -> bool {
    let header = packet.prepend(port.ethernet_len());
    header.is_some_and(|header| write_ethernet(header, port, to, ether_type))
}

/// Write the Ethernet header of this port. False: there is no room for it.
#[inline(always)]
pub fn write_ethernet(frame: &mut [u8], port: &PortEnvironment, to: Mac, ether_type: u16) -> bool {
    let ([a, b, c, d, e, f], [g, h, i, j, k, l], [m, n]) = (to, port.mac, ether_type.to_be_bytes());
    match port.vlan {
        None => {
            let Some(header) = frame.first_chunk_mut() else {
                return false;
            };
            *header = [a, b, c, d, e, f, g, h, i, j, k, l, m, n];
        }
        Some(vlan) => {
            let Some(header) = frame.first_chunk_mut() else {
                return false;
            };
            let ([o, p], [q, r]) = (0x8100u16.to_be_bytes(), vlan.to_be_bytes());
            *header = [a, b, c, d, e, f, g, h, i, j, k, l, o, p, q, r, m, n];
        }
    }
    true
}

/// The EtherType of IP packets.
#[inline(always)]
pub const fn ether_type(is_v6: bool) -> u16 {
    if is_v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }
}

/// Replace a packet's content by these parts, one behind the other. False: no room.
pub fn rewrite<P: Packet>(packet: &mut P, parts: &[&[u8]]) -> bool {
    packet.truncate(0);
    parts.iter().all(|part| {
        packet
            .append(part.len())
            .map(|room| room.copy_from_slice(part))
            .is_some()
    })
}

/// An IPv4 header of 20 bytes with its checksum; `payload` is the length behind it.
pub fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, ttl: u8, tos: u8, payload: usize) -> [u8; 20] {
    let mut h = [0; 20];
    h[0] = 0x45;
    h[1] = tos;
    h[2..4].copy_from_slice(&((payload + 20) as u16).to_be_bytes());
    h[6] = 0x40;
    h[8] = ttl;
    h[9] = protocol;
    h[12..16].copy_from_slice(&src.octets());
    h[16..20].copy_from_slice(&dst.octets());
    let sum = checksum::finish(checksum::add(0, &h));
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    h
}

/// An IPv6 header of 40 bytes; `payload` is the length behind it.
pub fn ipv6_header(src: Ipv6Addr, dst: Ipv6Addr, next: u8, hop_limit: u8, payload: usize) -> [u8; 40] {
    let mut h = [0; 40];
    h[0] = 0x60;
    h[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    h[6] = next;
    h[7] = hop_limit;
    h[8..24].copy_from_slice(&src.octets());
    h[24..40].copy_from_slice(&dst.octets());
    h
}

/// Make `packet` an IP packet (no Ethernet header) with a UDP datagram. False: no room, or mixed families.
pub fn write_udp<P: Packet>(
    packet: &mut P,
    (src, src_port): (IpAddr, u16),
    (dst, dst_port): (IpAddr, u16),
    payload: &[u8],
) -> bool {
    let length = payload.len() + 8;
    let mut udp = [0; 8];
    udp[..2].copy_from_slice(&src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => rewrite(packet, &[&ipv4_header(s, d, 17, 64, 0, length), &udp, payload]),
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let pseudo = checksum::pseudo_v6(&s.octets(), &d.octets(), 17, length as u32);
            let sum = match checksum::finish(checksum::add(checksum::add(pseudo, &udp), payload)) {
                0 => 0xffff,
                sum => sum,
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            rewrite(packet, &[&ipv6_header(s, d, 17, 64, length), &udp, payload])
        }
        _ => false,
    }
}

/// Make `packet` an ICMP or ICMPv6 packet (no Ethernet header): `header` is type, code, zero checksum and the four
/// octets behind it, `body` follows. False: no room, or mixed families.
pub fn write_icmp<P: Packet>(
    packet: &mut P,
    src: IpAddr,
    dst: IpAddr,
    hop_limit: u8,
    header: [u8; 8],
    body: &[u8],
) -> bool {
    let length = body.len() + 8;
    let mut icmp = header;
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let sum = checksum::finish(checksum::add(checksum::add(0, &icmp), body));
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            rewrite(packet, &[&ipv4_header(s, d, 1, hop_limit, 0, length), &icmp, body])
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let pseudo = checksum::pseudo_v6(&s.octets(), &d.octets(), 58, length as u32);
            let sum = checksum::finish(checksum::add(checksum::add(pseudo, &icmp), body));
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            rewrite(packet, &[&ipv6_header(s, d, 58, hop_limit, length), &icmp, body])
        }
        _ => false,
    }
}

/// An ARP body (RFC 826) for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target protocol address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Read a body; `None` if it is not IPv4 over Ethernet.
    pub fn read(body: &[u8]) -> Option<Self> {
        let b = body.first_chunk::<28>()?;
        if b[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        Some(Self {
            operation: be16(b, 6),
            sender_mac: [b[8], b[9], b[10], b[11], b[12], b[13]],
            sender: Ipv4Addr::new(b[14], b[15], b[16], b[17]),
            target: Ipv4Addr::new(b[24], b[25], b[26], b[27]),
        })
    }

    /// Make `packet` a whole frame with this body. Requests are broadcast, replies go to `target_mac`.
    pub fn write<P: Packet>(&self, packet: &mut P, port: &PortEnvironment, target_mac: Option<Mac>) -> bool {
        let mut b = [0; 28];
        b[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        b[6..8].copy_from_slice(&self.operation.to_be_bytes());
        b[8..14].copy_from_slice(&self.sender_mac);
        b[14..18].copy_from_slice(&self.sender.octets());
        b[18..24].copy_from_slice(&target_mac.unwrap_or([0; 6]));
        b[24..28].copy_from_slice(&self.target.octets());
        rewrite(packet, &[&b]) && prepend_ethernet(packet, port, target_mac.unwrap_or(BROADCAST), ETHERTYPE_ARP)
    }
}

/// Make `packet` a whole frame that solicits `target` (RFC 4861 4.3).
pub fn write_neighbour_solicitation<P: Packet>(
    packet: &mut P,
    port: &PortEnvironment,
    source: Ipv6Addr,
    target: Ipv6Addr,
) -> bool {
    let t = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(t[13]),
        u16::from_be_bytes([t[14], t[15]]),
    );
    let mut body = [0; 24];
    body[..16].copy_from_slice(&t);
    body[16..18].copy_from_slice(&[1, 1]); // source link-layer address, in units of eight octets
    body[18..].copy_from_slice(&port.mac);
    let header = [135, 0, 0, 0, 0, 0, 0, 0];
    write_icmp(packet, source.into(), group.into(), 255, header, &body)
        && prepend_ethernet(packet, port, [0x33, 0x33, 0xff, t[13], t[14], t[15]], ETHERTYPE_IPV6)
}

/// Make `packet` a whole frame that advertises our `target` to whoever solicited it (RFC 4861 4.4).
pub fn write_neighbour_advertisement<P: Packet>(
    packet: &mut P,
    port: &PortEnvironment,
    target: Ipv6Addr,
    to: Ipv6Addr,
    to_mac: Mac,
) -> bool {
    let mut body = [0; 24];
    body[..16].copy_from_slice(&target.octets());
    body[16..18].copy_from_slice(&[2, 1]); // target link-layer address
    body[18..].copy_from_slice(&port.mac);
    let header = [136, 0, 0, 0, 0x60, 0, 0, 0]; // solicited, override
    write_icmp(packet, target.into(), to.into(), 255, header, &body)
        && prepend_ethernet(packet, port, to_mac, ETHERTYPE_IPV6)
}
