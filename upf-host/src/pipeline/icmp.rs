//! What cannot go on as it is: hop limit run out, or larger than the next link carries (RFC 792, 1191, 4443, 8201).
//!
//! Errors about a downlink packet go back to its sender by the routes of the network instance it came from. Errors
//! about an uplink packet go to the UE: they take the whole way of a packet that arrives for it.

use super::parse::{Ipv4, UserPacket};
use super::{Io, Lane, Now, wire};
use crate::checksum;
use crate::compile::{CompiledPdr, Destination, Forward};
use crate::counters::{DropReason, HostEvent};
use crate::egress::Class;
use crate::neighbours::{NextHopId, PortIndex};
use crate::packet::Packet;
use qos::Direction;
use std::net::IpAddr;
use upf_model::NetworkInstanceId;

/// An ICMP error names this much of the packet it is about at most: the whole error stays within the minimum MTU.
const QUOTE_V4: usize = 576 - 20 - 8;
const QUOTE_V6: usize = 1280 - 40 - 8;

impl<P: Packet> Lane<P> {
    /// The hop limit ran out. `packet` is as it arrived.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    pub(super) fn time_exceeded(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: UserPacket,
        mut packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        self.counters.dropped(DropReason::HopLimit, user.ip_len.into());
        packet.advance(user.ip_offset.into());
        packet.truncate(user.ip_len.into());
        let kind = if user.fields.is_v6() { 3 } else { 11 };
        self.error(
            [kind, 0, 0, 0, 0, 0, 0, 0],
            forward,
            pdr,
            ingress,
            &user,
            packet,
            now,
            io,
        );
    }

    /// Larger than the `room` there is: fragmented if it may be, else its sender is told. `packet` starts with the
    /// user's IP header, one hop older already.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    pub(super) fn too_big(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: UserPacket,
        packet: P,
        room: usize,
        hop: NextHopId,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if !user.dont_fragment && room >= 68 {
            return self.fragment(forward, pdr, ingress, &user, &packet, room, hop, now, io);
        }
        self.counters.dropped(DropReason::TooBig, user.ip_len.into());
        let mtu = (room as u32).to_be_bytes();
        let header = if user.fields.is_v6() {
            [2, 0, 0, 0, mtu[0], mtu[1], mtu[2], mtu[3]]
        } else {
            [3, 4, 0, 0, 0, 0, mtu[2], mtu[3]]
        };
        self.error(header, forward, pdr, ingress, &user, packet, now, io);
    }

    /// Send an ICMP error about `packet`, which starts with the user's IP header.
    #[allow(clippy::too_many_arguments)]
    fn error(
        &mut self,
        header: [u8; 8],
        forward: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        mut packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if !may_answer(packet.bytes()) {
            return;
        }
        if !self.icmp_errors.take() {
            return self.counters.event(HostEvent::IcmpErrorSuppressed);
        }
        let sender = if pdr.direction == Direction::Uplink {
            user.fields.ue()
        } else {
            user.fields.remote()
        };
        let bytes = packet.bytes();
        let quote = bytes[..bytes.len().min(if sender.is_ipv4() { QUOTE_V4 } else { QUOTE_V6 })].to_vec();
        let env = self.env.clone();
        match pdr.direction {
            Direction::Downlink => {
                let port = &env.ports[usize::from(ingress)];
                let Some(source) = port.source_for(sender) else { return };
                let Ok(hop) = self.next_hop(port.network_instance, sender) else {
                    return;
                };
                if wire::write_icmp(&mut packet, source, sender, 64, header, &quote) {
                    self.counters.event(HostEvent::IcmpErrorSent);
                    self.send_to(hop, packet, Class::OWN, now, io);
                }
            }
            Direction::Uplink => {
                let Some(port) = self.port_towards(forward, sender) else {
                    return;
                };
                let towards = &env.ports[usize::from(port)];
                let Some(source) = towards.source_for(sender) else {
                    return;
                };
                if wire::write_icmp(&mut packet, source, sender, 64, header, &quote)
                    && wire::prepend_ethernet(
                        &mut packet,
                        towards,
                        towards.mac,
                        if sender.is_ipv4() {
                            super::parse::ETHERTYPE_IPV4
                        } else {
                            super::parse::ETHERTYPE_IPV6
                        },
                    )
                {
                    self.counters.event(HostEvent::IcmpErrorSent);
                    self.looped.push_back((port, packet));
                }
            }
        }
    }

    /// A port of the network instance that an uplink packet was on its way to, with an address in the UE's family:
    /// from there an answer to the UE starts.
    fn port_towards(&self, forward: &Forward, ue: IpAddr) -> Option<PortIndex> {
        let instance: NetworkInstanceId = match &forward.to {
            Destination::Plain(instance) => *instance,
            Destination::Tunnel(_) | Destination::Unreachable => return None,
        };
        let suits =
            |p: &crate::environment::PortEnvironment| p.network_instance == instance && p.source_for(ue).is_some();
        self.env.ports.iter().position(suits).map(|i| i as PortIndex)
    }

    /// Cut an IPv4 packet into fragments that fit `room`, and forward each (RFC 791).
    #[allow(clippy::too_many_arguments)]
    fn fragment(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        packet: &P,
        room: usize,
        hop: NextHopId,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let bytes = packet.bytes();
        let Ok(ip) = Ipv4::read(bytes) else { return };
        self.counters.event(HostEvent::Fragmented);
        let step = (room - ip.header_len) / 8 * 8;
        let body = &bytes[ip.header_len..ip.total_len];
        let mut header = bytes[..ip.header_len].to_vec();
        for (index, part) in body.chunks(step).enumerate() {
            let last = (index + 1) * step >= body.len();
            let offset = ip.fragment_offset + (index * step / 8) as u16;
            let flags = if last && !ip.more_fragments { 0 } else { 0x2000 };
            header[2..4].copy_from_slice(&((ip.header_len + part.len()) as u16).to_be_bytes());
            header[6..8].copy_from_slice(&(flags | offset).to_be_bytes());
            header[10..12].fill(0);
            let sum = checksum::finish(checksum::add(0, &header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut piece = io.allocate();
            match piece.take_if(|p| wire::rewrite(p, &[&header, part])) {
                Some(piece) => {
                    let len = piece.bytes().len();
                    self.emit(forward, pdr, None, ingress, user, piece, (0, len), hop, now, io);
                }
                None => self.counters.dropped(DropReason::NoMbuf, part.len()),
            }
        }
    }
}

/// RFC 1122 3.2.2, RFC 4443 2.4: no error about an error, a later fragment, or a group's packet.
fn may_answer(ip: &[u8]) -> bool {
    if ip[0] >> 4 == 4 {
        let Ok(h) = Ipv4::read(ip) else { return false };
        let is_error = h.protocol == 1 && matches!(ip.get(h.header_len), Some(3 | 4 | 5 | 11 | 12));
        h.fragment_offset == 0 && !is_error && !h.src.is_unspecified() && !h.src.is_multicast()
    } else {
        let Ok(h) = super::parse::Ipv6::read(ip) else {
            return false;
        };
        let is_error = h.next_header == 58 && ip.get(40).is_some_and(|&t| t < 128);
        !is_error && !h.src.is_unspecified() && !h.src.is_multicast() && !h.dst.is_multicast()
    }
}
