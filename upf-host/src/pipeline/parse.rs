//! First step of a packet's way: what is it, whose is it, and what can rules ask of it.
//!
//! Reads Ethernet, VLAN, outer IP, UDP, GTP-U and the inner IP and transport headers, checks every length before it
//! is relied on, and changes nothing.

mod usual;

use crate::checksum;
use crate::counters::DropReason;
use crate::environment::PortEnvironment;
use gtpu::{ExtensionType, GPdu, Header, MessageType, PduSessionContainer};
use pdr_classifier::{InterfaceSet, PacketFields, SessionKey};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::{EndpointId, Qfi, Teid};
pub use usual::UsualFrames;

/// EtherTypes.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const UDP: u8 = 17;

/// What a frame turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A user's packet: find its session and rule.
    User(UserPacket),
    /// For the UPF itself.
    Local(Local),
    /// For nobody.
    Drop(DropReason),
}

/// A user's packet, in a tunnel or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserPacket {
    /// By what its session is found.
    pub key: SessionKey,
    /// What rules ask of it. The ends are those of an uplink packet if it came in a tunnel, of a downlink packet if
    /// it came plain; [`PacketFields::reversed`] where that turns out wrong.
    pub fields: PacketFields,
    /// Where the user's IP header starts in the frame.
    pub ip_offset: u16,
    /// Length of the user's IP packet by its own header.
    pub ip_len: u16,
    /// Its hop limit or TTL.
    pub hop_limit: u8,
    /// It asks not to be fragmented (always, for IPv6).
    pub dont_fragment: bool,
    /// ECN bits of the outer header; zero if there is none.
    pub outer_ecn: u8,
    /// QoS flow from the PDU Session Container.
    pub qfi: Option<u8>,
    /// Length of its GTP-U header, which ends where the user's packet starts, if that has time stamps of QoS monitoring
    /// (then `ip_len` may be zero: the RAN has answered without a user's packet); otherwise 0.
    pub stamped: u8,
}

/// Packets that the UPF answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// ARP; the offset of its body.
    Arp(u16),
    /// ICMPv6 neighbour discovery; the offset of the IPv6 header.
    NeighbourDiscovery(u16),
    /// IP to an address of ours that is no tunnel; the offset of the IP header.
    Ip(u16),
    /// GTP-U signalling to an endpoint of ours.
    Gtpu(Datagram),
    /// A G-PDU with an extension header that must be understood and is not.
    UnknownExtension(Datagram),
}

/// A GTP-U message's place in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Our endpoint.
    pub endpoint: EndpointId,
    /// Offset of the outer IP header.
    pub ip: u16,
    /// Offset of the GTP-U header; the UDP header is the eight bytes before it.
    pub gtpu: u16,
}

/// [`Parsed`], where a user's packet has been written elsewhere: two cache lines are not moved about for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user's packet.
    User,
    /// For the UPF itself.
    Local(Local),
    /// For nobody.
    Drop(DropReason),
}

impl UserPacket {
    /// Room for one.
    pub fn blank() -> Self {
        Self {
            key: SessionKey::FTeid {
                endpoint: EndpointId(0),
                teid: Teid(0),
            },
            fields: PacketFields::none(),
            ip_offset: 0,
            ip_len: 0,
            hop_limit: 0,
            dont_fragment: false,
            outer_ecn: 0,
            qfi: None,
            stamped: 0,
        }
    }
}

/// Parse a frame from this port.
pub fn parse(port: &PortEnvironment, frame: &[u8], ipv4_checksum_verified: bool) -> Parsed {
    let mut user = UserPacket::blank();
    match parse_into(&mut user, port, frame, ipv4_checksum_verified) {
        Kind::User => Parsed::User(user),
        Kind::Local(local) => Parsed::Local(local),
        Kind::Drop(reason) => Parsed::Drop(reason),
    }
}

/// Parse a frame from this port; `user` is written if it is a user's packet.
#[inline(always)]
pub fn parse_into(user: &mut UserPacket, port: &PortEnvironment, frame: &[u8], ipv4_checksum_verified: bool) -> Kind {
    match &port.usual {
        Some(usual) if usual.read(user, frame, ipv4_checksum_verified) => Kind::User,
        _ => parse_any(user, port, frame, ipv4_checksum_verified),
    }
}

/// The same of any frame, whether [usual](UsualFrames) or not.
#[inline(never)]
fn parse_any(user: &mut UserPacket, port: &PortEnvironment, frame: &[u8], ipv4_checksum_verified: bool) -> Kind {
    match frame_kind(port, frame) {
        Ok((ETHERTYPE_IPV4, at)) => ipv4(user, port, frame, at, ipv4_checksum_verified),
        Ok((ETHERTYPE_IPV6, at)) => ipv6(user, port, frame, at),
        Ok((ETHERTYPE_ARP, at)) => Kind::Local(Local::Arp(at as u16)),
        Ok(_) => Kind::Drop(DropReason::EtherType),
        Err(reason) => Kind::Drop(reason),
    }
}

/// EtherType and where its payload starts, once the station and VLAN are right.
#[inline(always)]
fn frame_kind(port: &PortEnvironment, frame: &[u8]) -> Result<(u16, usize), DropReason> {
    let header = frame.first_chunk::<14>().ok_or(DropReason::Malformed)?;
    if header[..6] != port.mac && header[0] & 1 == 0 {
        return Err(DropReason::NotOurMac);
    }
    let ether_type = be16(frame, 12);
    match (ether_type == ETHERTYPE_VLAN, port.vlan) {
        (false, None) => Ok((ether_type, 14)),
        (true, Some(vlan)) => {
            let tag = frame.get(14..18).ok_or(DropReason::Malformed)?;
            if be16(tag, 0) & 0xfff == vlan {
                Ok((be16(tag, 2), 18))
            } else {
                Err(DropReason::Vlan)
            }
        }
        _ => Err(DropReason::Vlan),
    }
}

#[inline(always)]
fn ipv4(user: &mut UserPacket, port: &PortEnvironment, frame: &[u8], at: usize, checksum_verified: bool) -> Kind {
    let ip = match Ipv4::read(&frame[at..]) {
        Ok(ip) => ip,
        Err(reason) => return Kind::Drop(reason),
    };
    let is_right = || match frame[at..at + ip.header_len].first_chunk::<20>() {
        Some(header) if ip.header_len == 20 => checksum::is_right(header),
        _ => checksum::fold(checksum::add(0, &frame[at..at + ip.header_len])) == 0xffff,
    };
    if !checksum_verified && !is_right() {
        return Kind::Drop(DropReason::Checksum);
    }
    let Some(own) = port.own(IpAddr::V4(ip.dst)) else {
        return plain_v4(user, port, &frame[at..], &ip, at);
    };
    let Some(endpoint) = own.endpoint.filter(|_| ip.protocol == UDP) else {
        return Kind::Local(Local::Ip(at as u16));
    };
    if ip.more_fragments || ip.fragment_offset != 0 {
        return Kind::Drop(DropReason::OuterFragment);
    }
    tunnel(
        user,
        port,
        frame,
        at,
        at + ip.header_len,
        at + ip.total_len,
        endpoint,
        ip.tos & 3,
    )
}

#[inline(always)]
fn ipv6(user: &mut UserPacket, port: &PortEnvironment, frame: &[u8], at: usize) -> Kind {
    let ip = match Ipv6::read(&frame[at..]) {
        Ok(ip) => ip,
        Err(reason) => return Kind::Drop(reason),
    };
    let own = port.own(IpAddr::V6(ip.dst));
    if ip.dst.is_multicast() || own.is_some() || ip.dst.is_unicast_link_local() {
        if ip.next_header == 58 && matches!(frame.get(at + 40), Some(135 | 136)) {
            return Kind::Local(Local::NeighbourDiscovery(at as u16));
        }
        let Some(own) = own else {
            return Kind::Drop(DropReason::NotServed);
        };
        let Some(endpoint) = own.endpoint.filter(|_| matches!(ip.next_header, UDP | 44)) else {
            return Kind::Local(Local::Ip(at as u16));
        };
        if ip.next_header == 44 {
            return Kind::Drop(DropReason::OuterFragment);
        }
        return tunnel(
            user,
            port,
            frame,
            at,
            at + 40,
            at + ip.total_len,
            endpoint,
            ip.traffic_class & 3,
        );
    }
    plain_v6(user, port, &frame[at..], &ip, at)
}

/// A UDP packet to one of our endpoints: `udp` is where its header starts, `end` where the IP packet ends.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tunnel(
    user: &mut UserPacket,
    port: &PortEnvironment,
    frame: &[u8],
    ip: usize,
    udp: usize,
    end: usize,
    endpoint: EndpointId,
    outer_ecn: u8,
) -> Kind {
    let Some(header) = frame[udp..end].first_chunk::<8>() else {
        return Kind::Drop(DropReason::Malformed);
    };
    if be16(header, 2) != gtpu::UDP_PORT {
        return Kind::Local(Local::Ip(ip as u16));
    }
    let udp_len = usize::from(be16(header, 4));
    if udp_len < 8 || udp + udp_len > end {
        return Kind::Drop(DropReason::Malformed);
    }
    let at = udp + 8;
    let payload = &frame[at..udp + udp_len];
    let (gpdu, stamped) = match gtpu::parse_gpdu(payload) {
        Ok(gpdu) => (gpdu, 0),
        Err(_) => match uncommon(payload) {
            Ok(found) => found,
            Err(uncommon) => {
                let datagram = Datagram {
                    endpoint,
                    ip: ip as u16,
                    gtpu: at as u16,
                };
                return match uncommon {
                    Uncommon::Signalling => Kind::Local(Local::Gtpu(datagram)),
                    Uncommon::Extension => Kind::Local(Local::UnknownExtension(datagram)),
                    Uncommon::Drop(reason) => Kind::Drop(reason),
                };
            }
        },
    };
    let inner_at = at + gpdu.header_len;
    let inner = &frame[inner_at..inner_at + gpdu.payload_len];
    let key = SessionKey::FTeid {
        endpoint,
        teid: Teid(gpdu.teid),
    };
    let (fields, ip_len, hop_limit, dont_fragment) = match inner.first().map(|b| b >> 4) {
        Some(4) => match Ipv4::read(inner) {
            Ok(ip) => (
                fields_v4(port, inner, &ip, true),
                ip.total_len,
                ip.ttl,
                ip.dont_fragment,
            ),
            Err(_) => return Kind::Drop(DropReason::InnerMalformed),
        },
        Some(6) => match Ipv6::read(inner) {
            Ok(ip) => (fields_v6(port, inner, &ip, true), ip.total_len, ip.hop_limit, true),
            Err(_) => return Kind::Drop(DropReason::InnerMalformed),
        },
        None if stamped > 0 => {
            let nobody = PacketFields::v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0, 0);
            let arrived = nobody.arrived(InterfaceSet::from_bits(port.interfaces), port.network_instance);
            (arrived, 0, 0, true)
        }
        _ => return Kind::Drop(DropReason::InnerNotIp),
    };
    *user = UserPacket {
        key,
        fields: match gpdu.qfi {
            Some(qfi) => fields.with_qfi(Qfi(qfi)),
            None => fields,
        },
        ip_offset: inner_at as u16,
        ip_len: ip_len as u16,
        hop_limit,
        dont_fragment,
        outer_ecn,
        qfi: gpdu.qfi,
        stamped,
    };
    Kind::User
}

enum Uncommon {
    Signalling,
    Extension,
    Drop(DropReason),
}

/// Whatever is not one of the two common G-PDU headers. With the header's length if it has time stamps, otherwise 0.
#[cold]
fn uncommon(payload: &[u8]) -> Result<(GPdu, u8), Uncommon> {
    let header = Header::parse(payload).map_err(|e| {
        Uncommon::Drop(match e {
            gtpu::Error::Version { .. } => DropReason::GtpuUnsupported,
            _ => DropReason::GtpuMalformed,
        })
    })?;
    if header.message_type() != MessageType::G_PDU {
        return Err(Uncommon::Signalling);
    }
    if header.not_understood(&[ExtensionType::PDU_SESSION_CONTAINER]).is_some() {
        return Err(Uncommon::Extension);
    }
    let gpdu = GPdu::from_header(&header).map_err(|_| Uncommon::Drop(DropReason::GtpuMalformed))?;
    let stamped = match header.pdu_session_container() {
        Ok(Some(PduSessionContainer::Uplink(information))) => information.time_stamps.is_some(),
        _ => false,
    };
    let len = u8::try_from(gpdu.header_len).unwrap_or(0);
    Ok((gpdu, if stamped { len } else { 0 }))
}

#[inline(always)]
fn plain_v4(user: &mut UserPacket, port: &PortEnvironment, packet: &[u8], ip: &Ipv4, at: usize) -> Kind {
    if ip.dst.is_multicast() || ip.dst.is_broadcast() {
        return Kind::Drop(DropReason::NotServed);
    }
    *user = UserPacket {
        key: SessionKey::UeV4 {
            ni: port.network_instance,
            addr: ip.dst,
        },
        fields: fields_v4(port, packet, ip, false),
        ip_offset: at as u16,
        ip_len: ip.total_len as u16,
        hop_limit: ip.ttl,
        dont_fragment: ip.dont_fragment,
        outer_ecn: 0,
        qfi: None,
        stamped: 0,
    };
    Kind::User
}

fn plain_v6(user: &mut UserPacket, port: &PortEnvironment, packet: &[u8], ip: &Ipv6, at: usize) -> Kind {
    *user = UserPacket {
        key: SessionKey::ue_v6(port.network_instance, ip.dst),
        fields: fields_v6(port, packet, ip, false),
        ip_offset: at as u16,
        ip_len: ip.total_len as u16,
        hop_limit: ip.hop_limit,
        dont_fragment: true,
        outer_ecn: 0,
        qfi: None,
        stamped: 0,
    };
    Kind::User
}

#[inline(always)]
fn fields_v4(port: &PortEnvironment, packet: &[u8], ip: &Ipv4, uplink: bool) -> PacketFields {
    let (remote, ue) = if uplink { (ip.dst, ip.src) } else { (ip.src, ip.dst) };
    let fields = PacketFields::v4(remote, ue, ip.protocol, ip.tos)
        .arrived(InterfaceSet::from_bits(port.interfaces), port.network_instance);
    if ip.fragment_offset != 0 {
        return fields; // a later fragment has no transport header
    }
    transport(fields, ip.protocol, &packet[ip.header_len..ip.total_len], uplink)
}

#[inline(always)]
fn fields_v6(port: &PortEnvironment, packet: &[u8], ip: &Ipv6, uplink: bool) -> PacketFields {
    let (protocol, at) = upper_layer(packet, ip.next_header, ip.total_len);
    let (remote, ue) = if uplink { (ip.dst, ip.src) } else { (ip.src, ip.dst) };
    let fields = PacketFields::v6(remote, ue, protocol, ip.traffic_class, ip.flow_label)
        .arrived(InterfaceSet::from_bits(port.interfaces), port.network_instance);
    match at {
        Some(at) => transport(fields, protocol, &packet[at..ip.total_len], uplink),
        None => fields,
    }
}

/// Ports or security parameter index of the transport header, if there is one and it is long enough.
#[inline(always)]
fn transport(fields: PacketFields, protocol: u8, header: &[u8], uplink: bool) -> PacketFields {
    match protocol {
        6 | 17 | 33 | 132 | 136 => match header.first_chunk::<4>() {
            Some(h) => {
                let (src, dst) = (be16(h, 0), be16(h, 2));
                let (remote, ue) = if uplink { (dst, src) } else { (src, dst) };
                fields.with_ports(remote, ue)
            }
            None => fields,
        },
        50 => header
            .first_chunk::<4>()
            .map_or(fields, |h| fields.with_spi(be32(h, 0))),
        51 => header.get(4..8).map_or(fields, |h| fields.with_spi(be32(h, 0))),
        _ => fields,
    }
}

/// Walk IPv6 extension headers (RFC 8200 4): the upper-layer protocol, and where its header starts unless this is a
/// later fragment or the chain is broken. At most eight headers are walked.
fn upper_layer(packet: &[u8], mut next: u8, end: usize) -> (u8, Option<usize>) {
    let mut at = 40;
    for _ in 0..8 {
        let Some(header) = packet[..end].get(at..at + 8) else {
            break;
        };
        match next {
            0 | 43 | 60 | 135 => {
                next = header[0];
                at += (usize::from(header[1]) + 1) * 8;
            }
            44 => {
                next = header[0];
                if be16(header, 2) & 0xfff8 != 0 {
                    return (next, None);
                }
                at += 8;
            }
            _ => break,
        }
    }
    (next, (at <= end).then_some(at))
}

/// What forwarding reads of an IPv4 header.
pub(crate) struct Ipv4 {
    pub header_len: usize,
    pub total_len: usize,
    pub tos: u8,
    pub ttl: u8,
    pub protocol: u8,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    pub fragment_offset: u16,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
}

impl Ipv4 {
    /// Read and check against the buffer, which may be longer (Ethernet padding).
    #[inline(always)]
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let h = packet.first_chunk::<20>().ok_or(DropReason::Malformed)?;
        let header_len = usize::from(h[0] & 0x0f) * 4;
        let total_len = usize::from(be16(h, 2));
        if h[0] >> 4 != 4 || header_len < 20 || total_len < header_len || total_len > packet.len() {
            return Err(DropReason::Malformed);
        }
        let fragment = be16(h, 6);
        Ok(Self {
            header_len,
            total_len,
            tos: h[1],
            ttl: h[8],
            protocol: h[9],
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            src: Ipv4Addr::from_bits(be32(h, 12)),
            dst: Ipv4Addr::from_bits(be32(h, 16)),
        })
    }
}

/// What forwarding reads of an IPv6 header.
pub(crate) struct Ipv6 {
    pub total_len: usize,
    pub traffic_class: u8,
    pub flow_label: u32,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
}

impl Ipv6 {
    /// Read and check against the buffer, which may be longer (Ethernet padding).
    #[inline(always)]
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let h = packet.first_chunk::<40>().ok_or(DropReason::Malformed)?;
        let total_len = usize::from(be16(h, 4)) + 40;
        if h[0] >> 4 != 6 || total_len > packet.len() {
            return Err(DropReason::Malformed);
        }
        let first = be32(h, 0);
        let addr = |at: usize| Ipv6Addr::from(*h[at..].first_chunk::<16>().unwrap_or(&[0; 16]));
        Ok(Self {
            total_len,
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            next_header: h[6],
            hop_limit: h[7],
            src: addr(8),
            dst: addr(24),
        })
    }
}

#[inline(always)]
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

#[inline(always)]
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
