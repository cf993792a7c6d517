//! The rest of a packet's way once its PDR says that it goes on: headers off, hop limit down, next hop, headers on.

use super::parse::UserPacket;
use super::tunnel::{self, Tunnel};
use super::{Io, Lane, Now, wire};
use crate::checksum;
use crate::compile::{CompiledPdr, Destination, Forward};
use crate::counters::{DropReason, HostEvent};
use crate::delay::{self, FlowDelay};
use crate::egress::{Class, Marking};
use crate::neighbours::{NextHopId, PortIndex};
use crate::packet::Packet;
use crate::traffic_class::{self, DSCP, ECN};
use gtpu::TimeStamp;
use qos::Direction;
use std::net::IpAddr;

impl<P: Packet> Lane<P> {
    /// Headers off, hop limit down, headers on, out.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        delay: Option<&FlowDelay>,
        ingress: PortIndex,
        user: &UserPacket,
        mut packet: P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        if !pdr.decapsulates {
            return self.discard(user, DropReason::NotServed);
        }
        if user.hop_limit <= 1 {
            return self.time_exceeded(forward, pdr, ingress, *user, packet, now, io);
        }
        let (at, len) = (usize::from(user.ip_offset), usize::from(user.ip_len));
        if !age(&mut packet.bytes_mut()[at..], user) {
            return self.discard(user, DropReason::EcnCongestion);
        }
        let hop = match self.towards(forward, pdr, user) {
            Ok(hop) => hop,
            Err(reason) => return self.discard(user, reason),
        };
        self.emit(forward, pdr, delay, ingress, user, packet, (at, len), hop, now, io);
    }

    /// The next hop: the tunnel's, or by the routes.
    #[inline(always)]
    fn towards(&mut self, forward: &Forward, pdr: &CompiledPdr, user: &UserPacket) -> Result<NextHopId, DropReason> {
        match &forward.to {
            Destination::Tunnel(tunnel) => Ok(tunnel.next_hop),
            Destination::Plain(instance) => self.next_hop(*instance, destination(pdr, user)),
            Destination::Unreachable => Err(DropReason::NoRoute),
        }
    }

    /// An IP packet of `len` bytes that starts `at` there in its buffer, one hop older: all headers on at once, then out.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(super) fn emit(
        &mut self,
        forward: &Forward,
        pdr: &CompiledPdr,
        delay: Option<&FlowDelay>,
        ingress: PortIndex,
        user: &UserPacket,
        mut packet: P,
        (at, len): (usize, usize),
        hop: NextHopId,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let next = self.env.neighbours.get(hop);
        let port = &self.env.ports[usize::from(next.port)];
        let (ethernet, offload) = (port.ethernet_len(), port.udp_checksum_offload);
        let overhead = forward.overhead(user.qfi);
        let room = usize::from(port.mtu).saturating_sub(overhead);
        if len > room {
            packet.advance(at);
            packet.truncate(len);
            return self.too_big(forward, pdr, ingress, *user, packet, room, hop, now, io);
        }
        if let (Some(delay), Destination::Tunnel(tunnel)) = (delay, &forward.to)
            && let Some(stamp) = delay.mark(now, || len + delay::STAMP_LEN <= room)
        {
            return self.emit_stamped(forward, tunnel, user, packet, stamp, now, io);
        }
        let Some(frame) = packet.reframe(at, len, ethernet + overhead) else {
            return self.discard(user, DropReason::NoHeadroom);
        };
        let (headers, ip) = frame.split_at_mut(ethernet + overhead);
        let (ethernet_header, outer) = headers.split_at_mut(ethernet);
        let mut is_v6 = user.fields.is_v6();
        match (&forward.to, forward.marking) {
            (Destination::Tunnel(tunnel), marking) => {
                let class = tunnel::outer_traffic_class(traffic_class::of(ip), marking);
                if !tunnel.write(outer, len, class, user.qfi) {
                    return self.discard(user, DropReason::NoHeadroom);
                }
                is_v6 = tunnel.is_v6();
            }
            (_, Some(marking)) => mark(ip, marking),
            (_, None) => {}
        }
        let mac = next.mac();
        if let Some(mac) = mac {
            wire::write_ethernet(ethernet_header, port, mac, wire::ether_type(is_v6));
        }
        if is_v6 && let Destination::Tunnel(_) = &forward.to {
            tunnel::finish_v6(&mut packet, ethernet, ethernet, offload);
        }
        let class = class(forward, len, offload, overhead + len);
        match mac {
            Some(_) => io.send(next.port, packet, class),
            None => {
                packet.advance(ethernet);
                self.wait_for(hop, packet, class, now, io);
            }
        }
    }

    /// [`Self::emit`] of a packet that takes a time stamp along.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    fn emit_stamped(
        &mut self,
        forward: &Forward,
        tunnel: &Tunnel,
        user: &UserPacket,
        mut packet: P,
        stamp: TimeStamp,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let port = &self.env.ports[usize::from(self.env.neighbours.get(tunnel.next_hop).port)];
        let (ethernet, offload) = (port.ethernet_len(), port.udp_checksum_offload);
        packet.advance(usize::from(user.ip_offset));
        packet.truncate(usize::from(user.ip_len));
        let class_of_user = traffic_class::of(packet.bytes());
        let outer_class = tunnel::outer_traffic_class(class_of_user, forward.marking);
        if !tunnel.encapsulate_stamped(&mut packet, outer_class, user.qfi, stamp, ethernet, offload) {
            return self.discard(user, DropReason::NoHeadroom);
        }
        self.counters.event(HostEvent::MonitoringMarked);
        let class = class(forward, user.ip_len.into(), offload, packet.bytes().len());
        self.send_to(tunnel.next_hop, packet, class, now, io);
    }

    /// DUPL: a copy by other parameters.
    #[allow(clippy::too_many_arguments)]
    #[cold]
    pub(super) fn duplicate(
        &mut self,
        to: &Forward,
        pdr: &CompiledPdr,
        ingress: PortIndex,
        user: &UserPacket,
        packet: &P,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let mut copy = io.allocate();
        match copy.take_if(|c| wire::rewrite(c, &[packet.bytes()])) {
            Some(copy) => {
                self.counters.event(HostEvent::Duplicated);
                self.forward(to, pdr, None, ingress, user, copy, now, io);
            }
            None => self.discard(user, DropReason::NoMbuf),
        }
    }
}

/// How a packet waits for its port: the user's of `user_len` bytes, `len` with its outer header.
#[inline(always)]
fn class(forward: &Forward, user_len: usize, offload: bool, len: usize) -> Class {
    let marking = forward.scheduling.l4s.then(|| Marking {
        user_len: user_len as u16,
        udp_checksum: match &forward.to {
            Destination::Tunnel(tunnel) => tunnel.udp_checksum(offload).map_or(0, |at| (len - at) as u16),
            _ => 0,
        },
    });
    Class {
        marking,
        ..Class::queue(forward.scheduling.queue)
    }
}

/// Where an IP packet goes by its own header.
#[inline]
fn destination(pdr: &CompiledPdr, user: &UserPacket) -> IpAddr {
    match pdr.direction {
        Direction::Uplink => user.fields.remote(),
        Direction::Downlink => user.fields.ue(),
    }
}

/// One hop older: hop limit down, and congestion seen outside carried inside (RFC 6040 4.2). False: congestion was
/// signalled to a packet whose ends do not know ECN, so it has to be dropped.
#[inline(always)]
fn age(ip: &mut [u8], user: &UserPacket) -> bool {
    match ip.first_chunk_mut::<12>() {
        Some(ip) if !user.fields.is_v6() => {
            ip[8] -= 1;
            let sum = u16::from_be_bytes([ip[10], ip[11]]);
            [ip[10], ip[11]] = checksum::one_hop_older(sum).to_be_bytes();
        }
        _ => ip[7] -= 1,
    }
    user.outer_ecn == 0 || carry_congestion(ip, user.outer_ecn)
}

#[cold]
fn carry_congestion(ip: &mut [u8], outer_ecn: u8) -> bool {
    let before = traffic_class::of(ip);
    match decapsulated_ecn(before, outer_ecn) {
        Some(class) if class != before => traffic_class::set(ip, class),
        Some(_) => {}
        None => return false,
    }
    true
}

#[inline]
const fn decapsulated_ecn(inner: u8, outer_ecn: u8) -> Option<u8> {
    match (outer_ecn, inner & ECN) {
        (0b11, 0b00) => None,
        (0b11, _) => Some(inner | 0b11),
        (0b01, 0b10) => Some(inner & !ECN | 0b01),
        _ => Some(inner),
    }
}

/// Transport-level marking of a packet that gets no outer header: DSCP under the mask, ECN untouched.
fn mark(ip: &mut [u8], (value, mask): (u8, u8)) {
    let mask = mask & DSCP;
    traffic_class::set(ip, traffic_class::of(ip) & !mask | value & mask);
}
