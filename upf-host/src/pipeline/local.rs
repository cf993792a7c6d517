//! Packets for the UPF itself: ARP, neighbour discovery, ICMP echo, GTP-U signalling (TS 29.281 7).

use super::parse::{Datagram, Ipv4, Ipv6, Local, be16};
use super::wire::{self, Arp};
use super::{Io, Lane, Now};
use crate::counters::{DropReason, HostEvent};
use crate::egress::Class;
use crate::neighbours::{Mac, PortIndex};
use crate::packet::Packet;
use gtpu::{ErrorIndication, ExtensionType, Header, Message};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use upf_model::batch::Event;

impl<P: Packet> Lane<P> {
    /// Serve a packet for the UPF itself.
    #[cold]
    pub(super) fn local(&mut self, kind: Local, ingress: PortIndex, packet: P, now: Now, io: &mut impl Io<P>) {
        match kind {
            Local::Arp(at) => self.arp(at.into(), ingress, packet, now, io),
            Local::NeighbourDiscovery(at) => self.neighbour_discovery(at.into(), ingress, packet, now, io),
            Local::Ip(at) => self.icmp_echo(at.into(), ingress, packet, io),
            Local::Gtpu(datagram) => self.signalling(datagram, ingress, packet, io),
            Local::UnknownExtension(datagram) => self.unknown_extension(datagram, ingress, packet, io),
        }
    }

    fn arp(&mut self, at: usize, ingress: PortIndex, mut packet: P, now: Now, io: &mut impl Io<P>) {
        let Some(arp) = Arp::read(&packet.bytes()[at..]) else {
            return self.counters.dropped(DropReason::Malformed, packet.bytes().len());
        };
        self.learn(ingress, arp.sender.into(), arp.sender_mac, now, io);
        let port = &self.env.ports[usize::from(ingress)];
        if arp.operation != 1 || port.own(arp.target.into()).is_none() {
            return; // a reply, or somebody else's question: heard, nothing to answer
        }
        let reply = Arp {
            operation: 2,
            sender_mac: port.mac,
            sender: arp.target,
            target: arp.sender,
        };
        if reply.write(&mut packet, port, Some(arp.sender_mac)) {
            self.counters.event(HostEvent::NeighbourAnswered);
            io.send(ingress, packet, Class::OWN);
        }
    }

    fn neighbour_discovery(&mut self, at: usize, ingress: PortIndex, mut packet: P, now: Now, io: &mut impl Io<P>) {
        let bytes = packet.bytes();
        let Ok(ip) = Ipv6::read(&bytes[at..]) else {
            return self.counters.dropped(DropReason::Malformed, bytes.len());
        };
        let message = &bytes[at + 40..at + ip.total_len];
        let sum = wire_sum(&bytes[at..], message);
        // RFC 4861 7.1: from this link only, whole, and intact.
        let (true, Some(fixed), 0xffff) = (ip.hop_limit == 255, message.first_chunk::<24>(), sum) else {
            return self.counters.dropped(DropReason::Malformed, bytes.len());
        };
        let target = Ipv6Addr::from(*fixed[8..].first_chunk::<16>().unwrap_or(&[0; 16]));
        let link_address = link_layer_option(&message[24..]);
        if fixed[0] == 136 {
            if let Some(mac) = link_address {
                self.learn(ingress, target.into(), mac, now, io);
            }
            return;
        }
        if ip.src.is_unspecified() {
            return; // duplicate address detection by somebody else
        }
        let to_mac = link_address.or_else(|| source_mac(bytes));
        let Some(to_mac) = to_mac else { return };
        self.learn(ingress, ip.src.into(), to_mac, now, io);
        let port = &self.env.ports[usize::from(ingress)];
        if port.own(target.into()).is_some()
            && wire::write_neighbour_advertisement(&mut packet, port, target, ip.src, to_mac)
        {
            self.counters.event(HostEvent::NeighbourAnswered);
            io.send(ingress, packet, Class::OWN);
        }
    }

    fn icmp_echo(&mut self, at: usize, ingress: PortIndex, mut packet: P, io: &mut impl Io<P>) {
        let bytes = packet.bytes();
        let (src, dst, start, end, request, reply) = match bytes[at] >> 4 {
            4 => match Ipv4::read(&bytes[at..]) {
                Ok(ip) if ip.protocol == 1 && !ip.more_fragments && ip.fragment_offset == 0 => (
                    IpAddr::V4(ip.src),
                    IpAddr::V4(ip.dst),
                    at + ip.header_len,
                    at + ip.total_len,
                    8,
                    0,
                ),
                _ => return self.counters.dropped(DropReason::NotServed, bytes.len()),
            },
            _ => match Ipv6::read(&bytes[at..]) {
                Ok(ip) if ip.next_header == 58 => (
                    IpAddr::V6(ip.src),
                    IpAddr::V6(ip.dst),
                    at + 40,
                    at + ip.total_len,
                    128,
                    129,
                ),
                _ => return self.counters.dropped(DropReason::NotServed, bytes.len()),
            },
        };
        let message = &bytes[start..end];
        let Some(&[kind, 0, _, _, a, b, c, d]) = message.first_chunk::<8>() else {
            return self.counters.dropped(DropReason::NotServed, bytes.len());
        };
        if kind != request {
            return self.counters.dropped(DropReason::NotServed, bytes.len());
        }
        let body = message[8..].to_vec();
        let header = [reply, 0, 0, 0, a, b, c, d];
        if self.reply(ingress, &mut packet, |p| {
            wire::write_icmp(p, dst, src, 64, header, &body)
        }) {
            self.counters.event(HostEvent::IcmpEchoAnswered);
            io.send(ingress, packet, Class::queue(0)); // anybody may ask, at any rate: it must not push users aside
        }
    }

    fn signalling(&mut self, datagram: Datagram, ingress: PortIndex, mut packet: P, io: &mut impl Io<P>) {
        let Datagram { endpoint, ip, gtpu: at } = datagram;
        let at = usize::from(at);
        let bytes = packet.bytes();
        let Some((peer, own, port)) = ends(bytes, ip.into(), at) else {
            return self.counters.dropped(DropReason::GtpuMalformed, bytes.len());
        };
        let message = Header::parse(&bytes[at..]).and_then(|h| Message::from_header(&h).map(|m| (m, h.teid())));
        match message {
            Ok((Message::EchoRequest { sequence_number, .. }, _)) => {
                let mut body = [0; 32];
                let Ok(length) = gtpu::write_echo_response(&mut body, sequence_number) else {
                    return;
                };
                let answer = (own, gtpu::UDP_PORT);
                if self.reply(ingress, &mut packet, |p| {
                    wire::write_udp(p, answer, (peer, port), &body[..length])
                }) {
                    self.counters.event(HostEvent::EchoAnswered);
                    io.send(ingress, packet, Class::OWN);
                }
            }
            Ok((Message::ErrorIndication(indication), _)) => {
                self.counters.event(HostEvent::ErrorIndicationReceived);
                let (peer, teid) = (indication.peer, indication.teid);
                self.report(Event::ErrorIndication { peer, teid, endpoint });
            }
            Ok((Message::EndMarker { .. }, _)) => self.counters.event(HostEvent::EndMarkerReceived),
            Ok(_) => self.counters.dropped(DropReason::GtpuUnsupported, bytes.len()),
            Err(_) => self.counters.dropped(DropReason::GtpuMalformed, bytes.len()),
        }
    }

    /// TS 29.281 5.2.1: tell the sender which extension headers are understood, and drop.
    fn unknown_extension(&mut self, datagram: Datagram, ingress: PortIndex, mut packet: P, io: &mut impl Io<P>) {
        let bytes = packet.bytes();
        self.counters.dropped(DropReason::ExtensionHeader, bytes.len());
        let Some((peer, own, port)) = ends(bytes, datagram.ip.into(), datagram.gtpu.into()) else {
            return;
        };
        if !self.error_indications.take() {
            return self.counters.event(HostEvent::ErrorIndicationSuppressed);
        }
        let mut body = [0; 32];
        let understood = [ExtensionType::PDU_SESSION_CONTAINER];
        let Ok(length) = gtpu::write_supported_extension_headers_notification(&mut body, &understood) else {
            return;
        };
        let from = (own, gtpu::UDP_PORT);
        if self.reply(ingress, &mut packet, |p| {
            wire::write_udp(p, from, (peer, port), &body[..length])
        }) {
            self.counters.event(HostEvent::ExtensionNotificationSent);
            io.send(ingress, packet, Class::OWN);
        }
    }

    /// A G-PDU for a tunnel that no session has: say so to its sender (TS 29.281 7.3.1), within bounds.
    #[cold]
    pub(super) fn unknown_teid(&mut self, teid: u32, ingress: PortIndex, mut packet: P, io: &mut impl Io<P>) {
        let bytes = packet.bytes();
        self.counters.dropped(DropReason::UnknownTeid, bytes.len());
        let ip = self.env.ports[usize::from(ingress)].ethernet_len();
        let header_len = if bytes[ip] >> 4 == 4 {
            usize::from(bytes[ip] & 0x0f) * 4
        } else {
            40
        };
        let Some((peer, own, port)) = ends(bytes, ip, ip + header_len + 8) else {
            return;
        };
        if !self.env.sessions_known.load(Ordering::Relaxed) || !self.error_indications.take() {
            return self.counters.event(HostEvent::ErrorIndicationSuppressed);
        }
        let mut body = [0; gtpu::ERROR_INDICATION_MAX_LEN];
        let indication = ErrorIndication {
            teid,
            peer: own,
            udp_source_port: Some(port),
        };
        let Ok(length) = gtpu::write_error_indication(&mut body, &indication) else {
            return;
        };
        let (from, to) = ((own, gtpu::UDP_PORT), (peer, gtpu::UDP_PORT));
        if self.reply(ingress, &mut packet, |p| wire::write_udp(p, from, to, &body[..length])) {
            self.counters.event(HostEvent::ErrorIndicationSent);
            io.send(ingress, packet, Class::OWN);
        }
    }

    /// Turn a received frame into one back to the station it came from: `write` makes the IP packet.
    fn reply(&mut self, ingress: PortIndex, packet: &mut P, write: impl FnOnce(&mut P) -> bool) -> bool {
        let Some(to) = source_mac(packet.bytes()) else {
            return false;
        };
        let port = &self.env.ports[usize::from(ingress)];
        packet.advance(port.ethernet_len());
        let done = write(packet) && {
            let ether_type = wire::ether_type(packet.bytes()[0] >> 4 != 4);
            wire::prepend_ethernet(packet, port, to, ether_type)
        };
        if !done {
            self.counters.dropped(DropReason::NoHeadroom, 0);
        }
        done
    }
}

/// Source address, destination address and source port of a UDP datagram that parsing has found in the frame.
fn ends(frame: &[u8], ip: usize, gtpu: usize) -> Option<(IpAddr, IpAddr, u16)> {
    let port = be16(frame.get(gtpu - 8..gtpu)?, 0);
    Some(match frame.get(ip)? >> 4 {
        4 => {
            let ip = Ipv4::read(&frame[ip..]).ok()?;
            (ip.src.into(), ip.dst.into(), port)
        }
        _ => {
            let ip = Ipv6::read(&frame[ip..]).ok()?;
            (ip.src.into(), ip.dst.into(), port)
        }
    })
}

fn source_mac(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.first_chunk::<6>().copied().filter(|m| m[0] & 1 == 0)
}

/// The link-layer address option of a neighbour discovery message.
fn link_layer_option(mut options: &[u8]) -> Option<Mac> {
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if matches!(kind, 1 | 2) && length == 8 {
            return options[2..8].first_chunk::<6>().copied();
        }
        options = &options[length..];
    }
    None
}

/// Folded sum over an ICMPv6 message with its pseudo-header: all ones if it is intact.
fn wire_sum(ip: &[u8], message: &[u8]) -> u16 {
    use crate::checksum::{add, fold, pseudo_v6};
    fold(add(
        pseudo_v6(&ip[8..24], &ip[24..40], 58, message.len() as u32),
        message,
    ))
}
