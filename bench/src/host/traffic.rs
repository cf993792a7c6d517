//! Frames of random sessions, made by copying a prepared one and setting what differs.

use super::rig::{GNB_MAC, Lane, ROUTER_MAC};
use super::sessions::{FILTERS, Filters, GNB, QFI, UPF_N3, downlink_teid, ue, uplink_teid};
use crate::Outcome;
use std::net::Ipv4Addr;
use upf_host::checksum;
use upf_host::dpdk::Mbuf;
use upf_host::packet::Packet;
use upf_host::pipeline::wire::ipv4_header;

/// The user's IP packets.
pub const INNER_BYTES: usize = 64;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
const UDP: u8 = 17;
/// With a PDU Session Container.
const GTPU_LEN: usize = 16;
/// Of the UE, and of a server that no filter asks for.
const UE_PORT: u16 = 4_000;
const HOP_LIMIT: u8 = 64;

/// Bytes of a frame from the gNB, and from the data network.
pub const UPLINK_FRAME: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + GTPU_LEN + INNER_BYTES;
/// As above.
pub const DOWNLINK_FRAME: usize = ETHERNET_LEN + INNER_BYTES;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From N3 to N6: a tunnel header comes off.
    Uplink,
    /// From N6 to N3: a tunnel header goes on.
    Downlink,
}

impl Way {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Downlink => "downlink",
        }
    }
    /// The port they come from.
    pub const fn ingress(self) -> u8 {
        self as u8
    }
    /// The port they leave by.
    pub const fn egress(self) -> u8 {
        1 - self as u8
    }
}

/// An endless supply of frames.
pub struct Traffic {
    way: Way,
    sessions: u32,
    /// Of so many neighbouring sessions, the one that packets are of.
    share: (u32, u32),
    random: u64,
    template: Vec<u8>,
    /// Where the user's IP header starts.
    ip: usize,
    /// Where in it the UE's address is.
    address: usize,
    /// Sum over the user's IP header without checksum and UE address.
    sum: u64,
    filters: Filters,
}

impl Traffic {
    /// Of so many sessions, and of all their PDRs.
    pub fn new(way: Way, sessions: u32, filters: Filters, lane: &Lane) -> Self {
        let own = lane.mac(way.ingress());
        let (neighbour, address) = match way {
            Way::Uplink => (GNB_MAC, 12),
            Way::Downlink => (ROUTER_MAC, 16),
        };
        let mut template = [&own[..], &neighbour, &[8, 0]].concat();
        if way == Way::Uplink {
            let message = GTPU_LEN + INNER_BYTES;
            template.extend(ipv4_header(GNB, UPF_N3, UDP, HOP_LIMIT, 0, UDP_LEN + message));
            template.extend(udp_header(2152, 2152, message));
            let mut header = [0; GTPU_LEN];
            let container = gtpu::PduSessionContainer::uplink(QFI);
            let written = gtpu::write_gpdu_header(&mut header, 0, INNER_BYTES, Some(&container));
            debug_assert_eq!(written, Ok(GTPU_LEN));
            template.extend(header);
        }
        let ip = template.len();
        let (nobody, server) = (Ipv4Addr::UNSPECIFIED, Filters::None.server(0));
        let (src, dst) = match way {
            Way::Uplink => (nobody, server),
            Way::Downlink => (server, nobody),
        };
        let mut header = ipv4_header(src, dst, UDP, HOP_LIMIT, 0, INNER_BYTES - IPV4_LEN);
        header[10..12].fill(0);
        template.extend(header);
        template.extend(udp_header(UE_PORT, UE_PORT, INNER_BYTES - IPV4_LEN - UDP_LEN));
        template.resize(ip + INNER_BYTES, 0xa5);
        Self {
            way,
            sessions,
            share: (0, 1),
            random: 0x9e37_79b9_7f4a_7c15,
            template,
            ip,
            address,
            sum: checksum::add(0, &header),
            filters,
        }
    }

    /// Of the `of`th part of the sessions, and other ones at that than another part's.
    #[must_use]
    pub fn share(mut self, part: u32, of: u32) -> Self {
        self.random ^= u64::from(part) << 40;
        (self.sessions, self.share) = (self.sessions / of, (part, of));
        self
    }

    pub const fn way(&self) -> Way {
        self.way
    }

    /// A session, each as likely as any other.
    #[inline(always)]
    pub fn next(&mut self) -> u32 {
        let (part, of) = self.share;
        self.below(self.sessions) * of + part
    }

    #[inline(always)]
    fn below(&mut self, bound: u32) -> u32 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((self.random >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Whether packets are to match one PDR of many.
    pub fn is_filtered(&self) -> bool {
        self.filters != Filters::None
    }

    /// Make a received packet one of a random session.
    #[inline(always)]
    pub fn fill(&mut self, packet: &mut Mbuf) -> bool {
        let number = self.next();
        let bytes = packet.bytes_mut();
        if bytes.len() != self.template.len() {
            return false;
        }
        bytes.copy_from_slice(&self.template);
        self.address(number, bytes);
        true
    }

    /// The same, and of a random PDR of that session.
    #[inline(always)]
    pub fn fill_filtered(&mut self, packet: &mut Mbuf) -> bool {
        let number = self.next();
        let rule = self.below(FILTERS.into()) as u16;
        let bytes = packet.bytes_mut();
        if bytes.len() != self.template.len() {
            return false;
        }
        bytes.copy_from_slice(&self.template);
        self.address(number, bytes);
        self.direct(number, rule, bytes);
        true
    }

    /// Make an empty packet one of this session.
    pub fn frame_of(&self, number: u32, packet: &mut Mbuf) -> Outcome<()> {
        let room = packet
            .append(self.template.len())
            .ok_or("the packet buffer is too small")?;
        room.copy_from_slice(&self.template);
        self.address(number, room);
        if self.is_filtered() {
            self.direct(number, FILTERS - 1, room);
        }
        Ok(())
    }

    #[inline(always)]
    fn address(&self, number: u32, frame: &mut [u8]) {
        if self.way == Way::Uplink {
            let teid = ETHERNET_LEN + IPV4_LEN + UDP_LEN + 4;
            frame[teid..teid + 4].copy_from_slice(&uplink_teid(number).to_be_bytes());
        }
        let ue = ue(number).to_bits();
        let sum = checksum::finish(self.sum + u64::from(ue >> 16) + u64::from(ue & 0xffff));
        let header = &mut frame[self.ip..self.ip + IPV4_LEN];
        header[self.address..self.address + 4].copy_from_slice(&ue.to_be_bytes());
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// To, or from, what one of the session's PDRs is for.
    #[inline(always)]
    fn direct(&self, number: u32, rule: u16, frame: &mut [u8]) {
        let user = &mut frame[self.ip..self.ip + IPV4_LEN + UDP_LEN];
        let (remote, port) = match self.way {
            Way::Uplink => (16, IPV4_LEN + 2),
            Way::Downlink => (12, IPV4_LEN),
        };
        let (server, instead_of) = (self.filters.server(number), Filters::None.server(number));
        user[remote..remote + 4].copy_from_slice(&server.octets());
        user[port..port + 2].copy_from_slice(&Filters::port(rule).to_be_bytes());
        // Subtracting is adding the complement.
        let words = [ue(number).to_bits(), server.to_bits(), !instead_of.to_bits()];
        let sum: u32 = words.iter().map(|word| (word >> 16) + (word & 0xffff)).sum();
        let sum = checksum::finish(self.sum + u64::from(sum));
        user[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// Whether a packet that the UPF sent is what should have become of this session's.
    pub fn check(&self, number: u32, packet: &Mbuf) -> Outcome<()> {
        let frame = packet.bytes();
        let (to, length) = match self.way {
            Way::Uplink => (ROUTER_MAC, DOWNLINK_FRAME),
            Way::Downlink => (GNB_MAC, UPLINK_FRAME),
        };
        let wrong = |what: &str| Err(format!("{} packet came out wrong: {what}", self.way.name()).into());
        if frame.len() != length || frame[..6] != to {
            return wrong("length or next hop");
        }
        let inner = &frame[length - INNER_BYTES..];
        if inner[8] != HOP_LIMIT - 1 || checksum::fold(checksum::add(0, &inner[..IPV4_LEN])) != 0xffff {
            return wrong("hop limit or checksum");
        }
        if inner[self.address..self.address + 4] != ue(number).octets() {
            return wrong("UE address");
        }
        if self.way == Way::Downlink {
            match gtpu::parse_gpdu(&frame[ETHERNET_LEN + IPV4_LEN + UDP_LEN..]) {
                Ok(g) if g.teid == downlink_teid(number, 1) && g.qfi == Some(QFI) => {}
                other => return wrong(&format!("tunnel header {other:?}")),
            }
        }
        Ok(())
    }
}

/// Without a checksum, as IPv4 allows.
fn udp_header(src: u16, dst: u16, payload: usize) -> [u8; UDP_LEN] {
    let ([a, b], [c, d]) = (src.to_be_bytes(), dst.to_be_bytes());
    let [e, f] = ((payload + UDP_LEN) as u16).to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}
