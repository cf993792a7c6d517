//! Frames as users, gNBs and data networks send them. Built by etherparse and `gtpu`, not by what is tested.

use crate::entry::Mac;
use etherparse::PacketBuilder;
use gtpu::{DownlinkInformation, PduSessionContainer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A user's IP packet: what it says, before any hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPacket {
    /// Source.
    pub src: IpAddr,
    /// Destination, of the same family.
    pub dst: IpAddr,
    /// What it carries.
    pub transport: Transport,
    /// ToS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP, from a port to a port.
    Udp(u16, u16),
    /// TCP, from a port to a port.
    Tcp(u16, u16),
    /// An echo request.
    IcmpEcho,
    /// Another protocol, without ports.
    Raw(u8),
}

impl UserPacket {
    /// A UDP packet with a little payload.
    pub fn udp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, src_port: u16, dst_port: u16) -> Self {
        Self {
            src: src.into(),
            dst: dst.into(),
            transport: Transport::Udp(src_port, dst_port),
            tos: 0,
            hop_limit: 64,
            payload: b"payload of a user".to_vec(),
        }
    }

    /// With this ToS or traffic class.
    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }

    /// With this TTL or hop limit.
    pub fn hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// With so many bytes of payload.
    pub fn payload_len(self, len: usize) -> Self {
        Self {
            payload: (0..len).map(|i| (i * 7 + 3) as u8).collect(),
            ..self
        }
    }

    /// After one hop.
    pub fn aged(&self) -> Self {
        self.clone().hop_limit(self.hop_limit - 1)
    }

    /// On the wire.
    ///
    /// # Panics
    /// If the families differ, or the payload is too long.
    pub fn bytes(&self) -> Vec<u8> {
        let builder = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = etherparse::Ipv4Header::new(
                    0,
                    self.hop_limit,
                    etherparse::IpNumber::UDP,
                    src.octets(),
                    dst.octets(),
                )
                .expect("no payload yet");
                header.dscp = etherparse::IpDscp::try_new(self.tos >> 2).expect("six bits");
                header.ecn = etherparse::IpEcn::try_new(self.tos & 3).expect("two bits");
                header.dont_fragment = true;
                header.identification = 0x1dea;
                PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
                etherparse::Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: etherparse::Ipv6FlowLabel::try_new(0x12345).expect("20 bits"),
                    payload_length: 0,
                    next_header: etherparse::IpNumber::UDP,
                    hop_limit: self.hop_limit,
                    source: src.octets(),
                    destination: dst.octets(),
                },
                Default::default(),
            )),
            _ => panic!("{} and {} are of two families", self.src, self.dst),
        };
        let mut bytes = Vec::new();
        let written = match self.transport {
            Transport::Udp(src, dst) => builder
                .udp(src, dst)
                .write(&mut bytes, &self.payload)
                .map_err(|e| e.to_string()),
            Transport::Tcp(src, dst) => builder
                .tcp(src, dst, 1, 1_000)
                .write(&mut bytes, &self.payload)
                .map_err(|e| e.to_string()),
            Transport::IcmpEcho if self.src.is_ipv4() => builder
                .icmpv4_echo_request(1, 2)
                .write(&mut bytes, &self.payload)
                .map_err(|e| e.to_string()),
            Transport::IcmpEcho => builder
                .icmpv6_echo_request(1, 2)
                .write(&mut bytes, &self.payload)
                .map_err(|e| e.to_string()),
            // Of an extension header etherparse would want to know more.
            Transport::Raw(_) => builder
                .write(&mut bytes, etherparse::IpNumber(59), &self.payload)
                .map_err(|e| e.to_string()),
        };
        written.expect("a packet that etherparse can write");
        match (self.transport, self.src) {
            (Transport::Raw(protocol), IpAddr::V4(_)) => {
                bytes[9] = protocol;
                fill_ipv4_checksum(&mut bytes);
            }
            (Transport::Raw(protocol), IpAddr::V6(_)) => bytes[6] = protocol,
            _ => {}
        }
        bytes
    }
}

/// A GTP-U tunnel packet's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// Source of the outer header.
    pub src: IpAddr,
    /// Destination of the outer header.
    pub dst: IpAddr,
    /// Tunnel.
    pub teid: u32,
    /// ToS or traffic class of the outer header.
    pub tos: u8,
    /// PDU Session Container.
    pub container: Option<Container>,
}

/// The PDU Session Containers that the fast path reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// From the RAN, with this QFI.
    Uplink(u8),
    /// Towards the RAN: QFI, reflective QoS, paging policy indicator.
    Downlink(u8, bool, Option<u8>),
}

impl Tunnel {
    /// A tunnel without marking and container.
    pub fn new(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, teid: u32) -> Self {
        Self {
            src: src.into(),
            dst: dst.into(),
            teid,
            tos: 0,
            container: None,
        }
    }

    /// With this ToS or traffic class outside.
    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }

    /// With an uplink container.
    pub fn qfi(self, qfi: u8) -> Self {
        Self {
            container: Some(Container::Uplink(qfi)),
            ..self
        }
    }

    /// With a downlink container.
    pub fn downlink(self, qfi: u8, rqi: bool, ppi: Option<u8>) -> Self {
        Self {
            container: Some(Container::Downlink(qfi, rqi, ppi)),
            ..self
        }
    }

    /// Around a user's packet: outer IP packet as the UPF writes it (identification 0, DF, hop limit 64).
    ///
    /// # Panics
    /// If the families differ, or the packet is too long.
    pub fn around(&self, inner: &[u8]) -> Vec<u8> {
        let container = self.container.map(|container| match container {
            Container::Uplink(qfi) => PduSessionContainer::uplink(qfi),
            Container::Downlink(qfi, rqi, ppi) => PduSessionContainer::Downlink(DownlinkInformation {
                qfi,
                rqi,
                ppi,
                ..DownlinkInformation::default()
            }),
        });
        let mut message = vec![0; 64];
        let n = gtpu::write_gpdu_header(&mut message, self.teid, inner.len(), container.as_ref()).expect("a G-PDU");
        message.truncate(n);
        message.extend_from_slice(inner);
        self.around_message(&message)
    }

    /// Around a GTP-U message.
    ///
    /// # Panics
    /// If the families differ, or the message is too long.
    pub fn around_message(&self, message: &[u8]) -> Vec<u8> {
        let mut packet = UserPacket {
            src: self.src,
            dst: self.dst,
            transport: Transport::Udp(gtpu::UDP_PORT, gtpu::UDP_PORT),
            tos: self.tos,
            hop_limit: 64,
            payload: message.to_vec(),
        }
        .bytes();
        if self.src.is_ipv4() {
            packet[4..6].fill(0); // identification
            packet[26..28].fill(0); // UDP checksum: none over IPv4
            fill_ipv4_checksum(&mut packet);
        } else {
            packet[1] &= 0xf0; // flow label
            packet[2..4].fill(0);
        }
        packet
    }
}

/// An Ethernet frame around an IP packet, with a tag if `vlan` is not 0.
pub fn frame(dst: Mac, src: Mac, vlan: u16, packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    raw_frame(dst, src, vlan, ether_type, packet)
}

/// An Ethernet frame around anything.
pub fn raw_frame(dst: Mac, src: Mac, vlan: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [dst, src].concat();
    if vlan != 0 {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The same frame, made at least 60 bytes long with this byte, as Ethernet has it.
pub fn padded(mut frame: Vec<u8>, byte: u8) -> Vec<u8> {
    while frame.len() < 60 {
        frame.push(byte);
    }
    frame
}

/// Make the header checksum of an IPv4 packet right.
pub fn fill_ipv4_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let mut sum: u32 = packet[..header_len]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
}

/// An IPv4 address from text.
///
/// # Panics
/// If it is none.
pub fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

/// An IPv6 address from text.
///
/// # Panics
/// If it is none.
pub fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}
