//! What is on the wire: frames of users with a stamp in them, read back whether a tunnel header came on, went off, or
//! nothing happened; and ARP, so that the UPF finds the two ends.
//!
//! ```text
//!   N3   Ethernet | IPv4 | UDP | GTP-U, PDU Session Container | IPv4 | UDP | stamp | ...
//!   N6   Ethernet |                                             IPv4 | UDP | stamp | ...
//! ```

use super::mix::User;
use std::net::Ipv4Addr;
use upf_host::checksum;
use upf_host::neighbours::Mac;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const GTPU_PORT: u16 = 2_152;
/// With a PDU Session Container.
const GTPU: usize = 16;
const TUNNEL: usize = IPV4 + UDP + GTPU;
const MAGIC: [u8; 4] = *b"uPkG";
/// Magic, trial, number, time.
const STAMP: usize = 24;
/// Of both directions, the most that is written into a frame; what follows is whatever was there.
const HEAD: usize = ETHERNET + TUNNEL + IPV4 + UDP + STAMP;
/// The bit of a number on the wire that tells its direction.
const DOWNLINK: u64 = 1 << 63;
/// Where a stamp may be: behind no tunnel header, one with a container, one without.
const STAMPS: [usize; 3] = [ETHERNET + IPV4 + UDP, HEAD - STAMP, HEAD - STAMP - 8];
const HOP_LIMIT: u8 = 64;
const ETHERTYPE_ARP: [u8; 2] = [8, 6];
const BROADCAST: Mac = [0xff; 6];

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From N3 to N6: a tunnel header comes off.
    Uplink,
    /// From N6 to N3: a tunnel header goes on.
    Downlink,
}

/// One end of a link: ours, and the UPF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The generator's hardware address.
    pub mac: Mac,
    /// What it is here: the gNB on N3, the router on N6.
    pub addr: Ipv4Addr,
    /// The UPF's hardware address; all ones until it has answered.
    pub upf_mac: Mac,
    /// The UPF's address.
    pub upf: Ipv4Addr,
}

/// What of packets' headers is the same for all users.
#[derive(Debug, Clone)]
pub struct Headers {
    /// N3.
    pub n3: Link,
    /// N6.
    pub n6: Link,
    /// The QoS flow in uplink PDU Session Containers; none: no container.
    pub qfi: Option<u8>,
    /// A server behind N6.
    pub server: Ipv4Addr,
}

/// What a packet carries to be known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Packets of another trial are none of ours.
    pub trial: u32,
    /// Its direction.
    pub way: Way,
    /// Counts up from 0 in each direction.
    pub number: u64,
    /// When it was sent, ticks.
    pub time: u64,
}

/// Frames of one direction and length.
#[derive(Debug, Clone)]
pub struct Template {
    way: Way,
    head: [u8; HEAD],
    head_len: usize,
    /// Of the whole frame.
    len: usize,
    /// Where the user's IP header is, and in it the UE's address.
    ip: usize,
    address: usize,
    /// Sum over that header without checksum and UE address.
    sum: u64,
}

impl Template {
    /// For users' IP packets of `inner` bytes.
    pub fn new(way: Way, inner: usize, headers: &Headers) -> Self {
        let mut bytes = Vec::with_capacity(HEAD);
        let link = match way {
            Way::Uplink => headers.n3,
            Way::Downlink => headers.n6,
        };
        bytes.extend(ethernet(link.upf_mac, link.mac, [8, 0]));
        if way == Way::Uplink {
            let container = headers.qfi.map(gtpu::PduSessionContainer::uplink);
            let mut tunnel = [0; GTPU];
            // Sixteen bytes are enough for either header.
            let written = gtpu::write_gpdu_header(&mut tunnel, 0, inner, container.as_ref()).unwrap_or(0);
            let message = written + inner;
            bytes.extend(ipv4(link.addr, link.upf, UDP + message));
            bytes.extend(udp(GTPU_PORT, GTPU_PORT, message));
            bytes.extend(&tunnel[..written]);
        }
        let ip = bytes.len();
        let (src, dst, address) = match way {
            Way::Uplink => (Ipv4Addr::UNSPECIFIED, headers.server, 12),
            Way::Downlink => (headers.server, Ipv4Addr::UNSPECIFIED, 16),
        };
        let mut header = ipv4(src, dst, inner - IPV4);
        header[10..12].fill(0);
        bytes.extend(header);
        bytes.extend(udp(4_000, 53, inner - IPV4 - UDP));
        bytes.extend(MAGIC);
        bytes.extend([0; STAMP - MAGIC.len()]);
        let mut head = [0; HEAD];
        let head_len = bytes.len();
        head[..head_len].copy_from_slice(&bytes);
        Self {
            way,
            head,
            head_len,
            len: ip + inner,
            ip,
            address,
            sum: checksum::add(0, &header),
        }
    }

    /// Bytes of a frame.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Make these [`Self::len`] bytes a frame of this user's.
    #[inline]
    pub fn write(&self, frame: &mut [u8], user: User, stamp: Stamp) {
        frame[..self.head_len].copy_from_slice(&self.head[..self.head_len]);
        if self.way == Way::Uplink {
            let teid = ETHERNET + IPV4 + UDP + 4;
            frame[teid..teid + 4].copy_from_slice(&user.teid.to_be_bytes());
        }
        let ue = user.ue.to_bits();
        let sum = checksum::finish(self.sum + u64::from(ue >> 16) + u64::from(ue & 0xffff));
        let header = &mut frame[self.ip..self.ip + IPV4];
        header[self.address..self.address + 4].copy_from_slice(&ue.to_be_bytes());
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let at = self.ip + IPV4 + UDP + MAGIC.len();
        frame[at..at + 4].copy_from_slice(&stamp.trial.to_be_bytes());
        let number = stamp.number | if stamp.way == Way::Downlink { DOWNLINK } else { 0 };
        frame[at + 4..at + 12].copy_from_slice(&number.to_be_bytes());
        frame[at + 12..at + 20].copy_from_slice(&stamp.time.to_be_bytes());
    }
}

impl Stamp {
    /// Of a frame that came, wherever its user's packet begins.
    #[inline]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let stamp = |&at: &usize| {
            frame
                .get(at..at + STAMP)?
                .first_chunk::<STAMP>()
                .filter(|s| s[..4] == MAGIC)
        };
        let s = STAMPS.iter().find_map(stamp)?;
        let number = |at: usize| {
            u64::from_be_bytes([
                s[at],
                s[at + 1],
                s[at + 2],
                s[at + 3],
                s[at + 4],
                s[at + 5],
                s[at + 6],
                s[at + 7],
            ])
        };
        Some(Self {
            trial: u32::from_be_bytes([s[4], s[5], s[6], s[7]]),
            way: if number(8) & DOWNLINK == 0 {
                Way::Uplink
            } else {
                Way::Downlink
            },
            number: number(8) & !DOWNLINK,
            time: number(16),
        })
    }
}

/// An ARP packet (RFC 826), as far as it concerns us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Whose hardware address this is.
    pub mac: Mac,
    /// Its address.
    pub sender: Ipv4Addr,
    /// Who is asked, or told.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Bytes of its frame.
    pub const LEN: usize = 42;

    /// Of an untagged frame.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let f = frame.first_chunk::<{ Self::LEN }>()?;
        let is_arp = f[12..14] == ETHERTYPE_ARP && f[14..20] == [0, 1, 8, 0, 6, 4];
        is_arp.then(|| Self {
            operation: u16::from_be_bytes([f[20], f[21]]),
            mac: [f[22], f[23], f[24], f[25], f[26], f[27]],
            sender: Ipv4Addr::new(f[28], f[29], f[30], f[31]),
            target: Ipv4Addr::new(f[38], f[39], f[40], f[41]),
        })
    }

    /// Its frame, to one station or to all.
    pub fn frame(&self, to: Option<Mac>) -> [u8; Self::LEN] {
        let mut f = [0; Self::LEN];
        f[..ETHERNET].copy_from_slice(&ethernet(to.unwrap_or(BROADCAST), self.mac, ETHERTYPE_ARP));
        f[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        f[20..22].copy_from_slice(&self.operation.to_be_bytes());
        f[22..28].copy_from_slice(&self.mac);
        f[28..32].copy_from_slice(&self.sender.octets());
        f[32..38].copy_from_slice(&to.unwrap_or([0; 6]));
        f[38..42].copy_from_slice(&self.target.octets());
        f
    }
}

fn ethernet(to: Mac, from: Mac, ethertype: [u8; 2]) -> [u8; ETHERNET] {
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&ethertype);
    header
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, payload: usize) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((payload + IPV4) as u16).to_be_bytes());
    header[6] = 0x40; // don't fragment
    header[8] = HOP_LIMIT;
    header[9] = 17;
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    let sum = checksum::finish(checksum::add(0, &header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Without a checksum, as IPv4 allows.
fn udp(src: u16, dst: u16, payload: usize) -> [u8; UDP] {
    let ([a, b], [c, d]) = (src.to_be_bytes(), dst.to_be_bytes());
    let [e, f] = ((payload + UDP) as u16).to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(qfi: Option<u8>) -> Headers {
        let link = |n: u8| Link {
            mac: [2, 0, 0, 0, n, 2],
            addr: Ipv4Addr::new(10, n, 0, 2),
            upf_mac: [2, 0, 0, 0, n, 1],
            upf: Ipv4Addr::new(10, n, 0, 1),
        };
        Headers {
            n3: link(3),
            n6: link(6),
            qfi,
            server: Ipv4Addr::new(198, 51, 100, 7),
        }
    }

    const USER: User = User {
        ue: Ipv4Addr::new(10, 60, 7, 9),
        teid: 0x0102_0304,
    };
    const SENT: Stamp = Stamp {
        trial: 3,
        way: Way::Downlink,
        number: 1 << 40,
        time: 0x1122_3344_5566_7788,
    };

    fn frame(way: Way, inner: usize, qfi: Option<u8>) -> Vec<u8> {
        let template = Template::new(way, inner, &headers(qfi));
        let mut frame = vec![0xa5; template.len()];
        template.write(&mut frame, USER, SENT);
        frame
    }

    #[test]
    fn an_uplink_frame_is_a_g_pdu_of_the_user_with_a_container_if_one_is_wanted() {
        for qfi in [Some(9), None] {
            let frame = frame(Way::Uplink, 64, qfi);
            let message = &frame[ETHERNET + IPV4 + UDP..];
            let gpdu = gtpu::parse_gpdu(message).unwrap();
            assert_eq!((gpdu.teid, gpdu.qfi), (USER.teid, qfi));
            let inner = &frame[frame.len() - 64..];
            assert_eq!(inner[12..16], USER.ue.octets());
            for header in [&inner[..IPV4], &frame[ETHERNET..ETHERNET + IPV4]] {
                assert_eq!(checksum::fold(checksum::add(0, header)), 0xffff, "header checksum");
            }
            assert_eq!(Stamp::read(&frame), Some(SENT));
        }
    }

    #[test]
    fn the_stamp_is_found_when_the_tunnel_header_came_off_or_on() {
        let uplink = frame(Way::Uplink, 1_400, Some(9));
        let decapsulated = [&uplink[..ETHERNET], &uplink[ETHERNET + TUNNEL..]].concat();
        assert_eq!(Stamp::read(&decapsulated), Some(SENT));
        let downlink = frame(Way::Downlink, 64, Some(9));
        assert_eq!(downlink.len(), ETHERNET + 64);
        assert_eq!(downlink[ETHERNET + 16..ETHERNET + 20], USER.ue.octets());
        let encapsulated = [&downlink[..ETHERNET], &[0; TUNNEL], &downlink[ETHERNET..]].concat();
        assert_eq!(Stamp::read(&encapsulated), Some(SENT));
        assert_eq!(Stamp::read(&[0; 200]), None);
        assert_eq!(Stamp::read(&downlink[..50]), None);
    }

    #[test]
    fn arp_is_read_as_it_was_written() {
        let arp = Arp {
            operation: 1,
            mac: [2, 0, 0, 0, 3, 2],
            sender: Ipv4Addr::new(10, 3, 0, 2),
            target: Ipv4Addr::new(10, 3, 0, 1),
        };
        let frame = arp.frame(None);
        assert_eq!((Arp::read(&frame), &frame[..6]), (Some(arp), &BROADCAST[..]));
        assert_eq!(Arp::read(&frame[..41]), None);
    }
}
