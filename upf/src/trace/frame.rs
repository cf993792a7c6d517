//! The frame to be traced, and the port at which it comes in: from a capture, from hexadecimal text, or made of fields.

use super::TraceError;
use etherparse::err::packet::BuildWriteError;
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep};
use gtpu::GpduTemplate;
use pcap_file::pcap::PcapReader;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use upf_config::{Config, InterfaceName, Port};
use upf_model::Session;

/// The hardware address that made frames come from: nobody's.
const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What to trace. A capture or hexadecimal text holds a whole Ethernet frame; otherwise one is made of the fields, of
/// which a session supplies the tunnel and the user's address.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PacketArguments {
    /// A capture (pcap) with the frame.
    #[arg(long, conflicts_with_all = ["hex", "uplink", "downlink"])]
    pub pcap: Option<PathBuf>,
    /// Which frame of the capture, from 1.
    #[arg(long, default_value_t = 1, requires = "pcap")]
    pub frame: usize,
    /// The frame as hexadecimal digits; blanks and colons do not matter.
    #[arg(long, conflicts_with_all = ["uplink", "downlink"])]
    pub hex: Option<String>,
    /// The port at which it comes in, by name; default: uplink the first with tunnel endpoints, downlink the first
    /// towards the core.
    #[arg(long)]
    pub port: Option<String>,
    /// Make an uplink packet: in a tunnel, from the user.
    #[arg(long, conflicts_with = "downlink")]
    pub uplink: bool,
    /// Make a downlink packet: plain, to the user.
    #[arg(long)]
    pub downlink: bool,
    /// Take what is missing from this session: our SEID, decimal or 0x...
    #[arg(long)]
    pub session: Option<String>,
    /// Uplink: the tunnel, decimal or 0x...
    #[arg(long, value_parser = number)]
    pub teid: Option<u32>,
    /// Uplink: the address of the gNB.
    #[arg(long)]
    pub gnb: Option<IpAddr>,
    /// Uplink: the QoS flow in the PDU Session Container.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..64))]
    pub qfi: Option<u8>,
    /// Source of the user's packet.
    #[arg(long)]
    pub src: Option<IpAddr>,
    /// Destination of the user's packet.
    #[arg(long)]
    pub dst: Option<IpAddr>,
    /// Its protocol: tcp, udp, icmp or a number.
    #[arg(long, value_parser = protocol, default_value = "udp")]
    pub proto: u8,
    /// Its source port.
    #[arg(long, default_value_t = 40_000)]
    pub sport: u16,
    /// Its destination port.
    #[arg(long, default_value_t = 40_000)]
    pub dport: u16,
    /// Its type of service or traffic class.
    #[arg(long, default_value_t = 0)]
    pub tos: u8,
    /// Its time to live or hop limit.
    #[arg(long, default_value_t = 64)]
    pub ttl: u8,
    /// Bytes of its payload.
    #[arg(long, default_value_t = 32)]
    pub length: usize,
}

/// A frame at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The port's position in the configuration.
    pub port: usize,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl PacketArguments {
    /// The frame that is asked for. `session`: the one named by [`Self::session`].
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub fn frame(&self, config: &Config, session: Option<&Session>) -> Result<Frame, TraceError> {
        if let Some(path) = &self.pcap {
            let bytes = captured(path, self.frame)?;
            let port = self.ingress(config, looks_tunnelled(&bytes))?;
            return Ok(Frame { port, bytes });
        }
        if let Some(text) = &self.hex {
            let bytes = unhex(text).ok_or(TraceError::Hex)?;
            let port = self.ingress(config, looks_tunnelled(&bytes))?;
            return Ok(Frame { port, bytes });
        }
        if self.uplink == self.downlink {
            return Err(TraceError::Missing("one of --uplink, --downlink, --pcap and --hex"));
        }
        let port = self.ingress(config, self.uplink)?;
        let bytes = if self.uplink {
            self.uplink_frame(&config.ports[port], session)?
        } else {
            self.downlink_frame(&config.ports[port], session)?
        };
        Ok(Frame { port, bytes })
    }

    /// The port's position.
    fn ingress(&self, config: &Config, tunnelled: bool) -> Result<usize, TraceError> {
        let position = match &self.port {
            Some(name) => config.ports.iter().position(|port| port.name == *name),
            None if tunnelled => config.ports.iter().position(|port| port.gtpu),
            None => config
                .ports
                .iter()
                .position(|port| port.interfaces.contains(&InterfaceName::Core)),
        };
        position.ok_or_else(|| TraceError::NoPort(self.port.clone().unwrap_or_default()))
    }

    fn uplink_frame(&self, port: &Port, session: Option<&Session>) -> Result<Vec<u8>, TraceError> {
        let src = self.src.or_else(|| session.and_then(|s| ue_address(s, self.dst)));
        let src = src.ok_or(TraceError::Missing("--src, the user's address, or --session"))?;
        let dst = self
            .dst
            .ok_or(TraceError::Missing("--dst, the address of the far end"))?;
        let teid = self.teid.or_else(|| session.and_then(uplink_teid));
        let teid = teid.ok_or(TraceError::Missing("--teid, the tunnel, or --session"))?;
        let inner = self.user_packet(src, dst)?;
        let template = self
            .qfi
            .map_or_else(|| GpduTemplate::plain(teid), |qfi| GpduTemplate::uplink(teid, qfi));
        let mut message = vec![0; template.len()];
        template
            .write(&mut message, inner.len())
            .map_err(|_| TraceError::Missing("a shorter --length"))?;
        message.extend(inner);

        let family = |address: &&upf_config::Prefix| self.gnb.is_none_or(|gnb| gnb.is_ipv4() == address.addr.is_ipv4());
        let upf = port.addresses.iter().find(family).map(|a| a.addr);
        let upf = upf.ok_or(TraceError::Missing("--gnb, an address of a family that the port has"))?;
        let gnb = self.gnb.unwrap_or_else(|| neighbour_of(upf));
        let outer = ip_headers(gnb, upf, UDP, 0, 64)?;
        let mut frame = ethernet(port, upf.is_ipv6());
        write(
            PacketBuilder::ip(outer)
                .udp(gtpu::UDP_PORT, gtpu::UDP_PORT)
                .write(&mut frame, &message),
        )?;
        Ok(frame)
    }

    fn downlink_frame(&self, port: &Port, session: Option<&Session>) -> Result<Vec<u8>, TraceError> {
        let dst = self.dst.or_else(|| session.and_then(|s| ue_address(s, self.src)));
        let dst = dst.ok_or(TraceError::Missing("--dst, the user's address, or --session"))?;
        let src = self
            .src
            .ok_or(TraceError::Missing("--src, the address of the far end"))?;
        let mut frame = ethernet(port, dst.is_ipv6());
        frame.extend(self.user_packet(src, dst)?);
        Ok(frame)
    }

    /// The user's IP packet.
    fn user_packet(&self, src: IpAddr, dst: IpAddr) -> Result<Vec<u8>, TraceError> {
        let mut packet = Vec::new();
        let payload = vec![0xa5; self.length];
        let protocol = if self.proto == ICMP && src.is_ipv6() {
            ICMPV6
        } else {
            self.proto
        };
        let step: PacketBuilderStep<IpHeaders> = PacketBuilder::ip(ip_headers(src, dst, protocol, self.tos, self.ttl)?);
        write(match protocol {
            UDP => step.udp(self.sport, self.dport).write(&mut packet, &payload),
            TCP => step
                .tcp(self.sport, self.dport, 1, 65_535)
                .syn()
                .write(&mut packet, &payload),
            ICMP => step.icmpv4_echo_request(1, 1).write(&mut packet, &payload),
            ICMPV6 => step.icmpv6_echo_request(1, 1).write(&mut packet, &payload),
            other => step.write(&mut packet, IpNumber(other), &payload),
        })?;
        Ok(packet)
    }
}

/// The Ethernet header of a frame to this port.
fn ethernet(port: &Port, ipv6: bool) -> Vec<u8> {
    let mut header = mac(port).to_vec();
    header.extend(NEIGHBOUR_MAC);
    if let Some(vlan) = port.vlan {
        header.extend(0x8100_u16.to_be_bytes());
        header.extend(vlan.to_be_bytes());
    }
    header.extend(if ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    header
}

fn write(result: Result<(), BuildWriteError>) -> Result<(), TraceError> {
    result.map_err(|error| TraceError::Frame(error.to_string()))
}

/// Headers whose lengths the builder sets.
fn ip_headers(src: IpAddr, dst: IpAddr, protocol: u8, tos: u8, hop_limit: u8) -> Result<IpHeaders, TraceError> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(0, hop_limit, IpNumber(protocol), src.octets(), dst.octets());
            let mut header = header.map_err(|error| TraceError::Frame(error.to_string()))?;
            header.dscp = (tos >> 2).try_into().unwrap_or_default();
            header.ecn = (tos & 3).try_into().unwrap_or_default();
            Ok(IpHeaders::Ipv4(header, Default::default()))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                traffic_class: tos,
                hop_limit,
                next_header: IpNumber(protocol),
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            Ok(IpHeaders::Ipv6(header, Default::default()))
        }
        _ => Err(TraceError::Missing("--src and --dst of one family")),
    }
}

/// The hardware address of a port: as configured, or a stand-in where the device has its own.
pub(super) fn mac(port: &Port) -> [u8; 6] {
    let octets = port.mac.as_deref().and_then(unhex);
    octets.and_then(|o| o.try_into().ok()).unwrap_or([2, 0, 0, 0, 0, 1])
}

/// An address beside ours, for a gNB that was not named.
fn neighbour_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() ^ 3).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() ^ 3).into()),
    }
}

/// A session's user address of the family of `like`, else its first.
fn ue_address(session: &Session, like: Option<IpAddr>) -> Option<IpAddr> {
    let v4 = session.ue_ips.iter().filter_map(|ue| ue.ipv4).map(IpAddr::V4);
    let v6 = session.ue_ips.iter().filter_map(|ue| ue.ipv6);
    let v6 = v6.map(|prefix| IpAddr::V6((prefix.addr().to_bits() | 1).into()));
    let all: Vec<IpAddr> = v4.chain(v6).collect();
    let family = all
        .iter()
        .find(|a| like.is_none_or(|like| like.is_ipv4() == a.is_ipv4()));
    family.or(all.first()).copied()
}

fn uplink_teid(session: &Session) -> Option<u32> {
    session.pdrs.iter().find_map(|pdr| Some(pdr.pdi.local_fteid?.teid.0))
}

/// Whether a frame is a UDP packet to the GTP-U port, to choose its port by.
fn looks_tunnelled(frame: &[u8]) -> bool {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame)
        .ok()
        .and_then(|s| s.transport);
    matches!(sliced, Some(etherparse::TransportSlice::Udp(udp)) if udp.destination_port() == gtpu::UDP_PORT)
}

fn captured(path: &Path, number: usize) -> Result<Vec<u8>, TraceError> {
    let unreadable = |reason: String| TraceError::Capture {
        path: path.display().to_string(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let mut reader = PcapReader::new(file).map_err(|e| unreadable(e.to_string()))?;
    for _ in 1..number {
        reader.next_packet();
    }
    match reader.next_packet() {
        Some(Ok(packet)) => Ok(packet.data.into_owned()),
        Some(Err(error)) => Err(unreadable(error.to_string())),
        None => Err(unreadable(format!("it has no frame {number}"))),
    }
}

/// Octets of hexadecimal text; none if it is anything else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace() && *b != b':')
        .collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(octet).collect()
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|e| e.to_string())
}

fn protocol(text: &str) -> Result<u8, String> {
    match text {
        "tcp" => Ok(TCP),
        "udp" => Ok(UDP),
        "icmp" => Ok(ICMP),
        other => other
            .parse()
            .map_err(|_| "expected tcp, udp, icmp or a protocol number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        packet: PacketArguments,
    }

    fn config() -> Config {
        let text = "pfcp: { listen: '127.0.0.8:8805' }
ports:
  - { name: n3, device: a, mac: '02:00:00:00:03:01', vlan: 7, addresses: [192.0.2.1/24, '2001:db8::1/64'], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: b, addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }
network_instances: [{ name: access }, { name: internet }]
";
        upf_config::parse(text, "text").unwrap_or_else(|error| panic!("{error}"))
    }

    fn frame(arguments: &str) -> Result<Frame, TraceError> {
        let arguments = std::iter::once("trace").chain(arguments.split_whitespace());
        let command = Command::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        command.packet.frame(&config(), None)
    }

    #[test]
    fn an_uplink_packet_of_fields_is_a_frame_to_the_first_port_with_tunnels() {
        let frame =
            frame("--uplink --teid 0x42 --qfi 9 --src 10.0.0.7 --dst 203.0.113.5 --proto tcp --dport 443").unwrap();
        assert_eq!(frame.port, 0);
        assert_eq!(&frame.bytes[..6], [2, 0, 0, 0, 3, 1]);
        assert_eq!(&frame.bytes[12..18], [0x81, 0, 0, 7, 8, 0], "tagged as the port is");
        let gpdu = gtpu::parse_gpdu(&frame.bytes[18 + 28..]).unwrap();
        assert_eq!((gpdu.teid, gpdu.qfi), (0x42, Some(9)));
        let inner = etherparse::SlicedPacket::from_ip(&frame.bytes[18 + 28 + gpdu.header_len..]).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = inner.transport else {
            panic!("{inner:?}")
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 443));
    }

    #[test]
    fn an_ipv6_gnb_makes_an_ipv6_tunnel() {
        let frame = frame("--uplink --teid 1 --gnb 2001:db8::2 --src 10.0.0.7 --dst 203.0.113.5").unwrap();
        assert_eq!(&frame.bytes[16..18], [0x86, 0xdd]);
        assert_eq!(gtpu::parse_gpdu(&frame.bytes[18 + 48..]).unwrap().qfi, None);
    }

    #[test]
    fn a_downlink_packet_of_fields_is_plain_and_comes_from_the_core() {
        let frame = frame("--downlink --src 203.0.113.5 --dst 10.0.0.7 --tos 184 --ttl 3 --proto icmp").unwrap();
        assert_eq!(frame.port, 1);
        assert_eq!(&frame.bytes[12..14], [8, 0]);
        assert_eq!((frame.bytes[15], frame.bytes[22], frame.bytes[23]), (184, 3, ICMP));
    }

    #[test]
    fn hexadecimal_text_is_a_frame_and_its_port_is_guessed_or_named() {
        let plain = frame("--hex 02:00:00:00:00:01:02:00:00:00:00:02:08:00:45").unwrap();
        assert_eq!((plain.port, plain.bytes.len()), (1, 15));
        assert_eq!(frame("--hex 0200 --port n3").unwrap().port, 0);
        assert!(matches!(frame("--hex 020"), Err(TraceError::Hex)));
        assert!(matches!(frame("--hex 02 --port n9"), Err(TraceError::NoPort(_))));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(matches!(
            frame("--uplink --dst 203.0.113.5"),
            Err(TraceError::Missing(_))
        ));
        assert!(matches!(
            frame("--downlink --src 203.0.113.5 --dst 2001:db8::9"),
            Err(TraceError::Missing(_))
        ));
        assert!(matches!(frame("--dst 10.0.0.1"), Err(TraceError::Missing(_))));
    }
}
