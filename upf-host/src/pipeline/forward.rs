//! The rest of a packet's way once its PDR says that it goes on: headers off, hop limit down, next hop, headers on.

use super::parse::UserPacket;
use super::{Io, Lane, Now, tunnel, wire};
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
        packet.advance(usize::from(user.ip_offset));
        packet.truncate(usize::from(user.ip_len));
        if !age(packet.bytes_mut(), user.outer_ecn) {
            return self.discard(user, DropReason::EcnCongestion);
        }
        let hop = match self.towards(forward, pdr, user) {
            Ok(hop) => hop,
            Err(reason) => return self.discard(user, reason),
        };
        let mtu = usize::from(self.env.ports[usize::from(self.env.neighbours.get(hop).port)].mtu);
        let room = mtu.saturating_sub(forward.overhead(user.qfi));
        if usize::from(user.ip_len) > room {
            return self.too_big(forward, pdr, ingress, *user, packet, room, hop, now, io);
        }
        let fits = || usize::from(user.ip_len) + delay::STAMP_LEN <= room;
        let stamp = delay.and_then(|delay| delay.mark(now, fits));
        self.emit(forward, user, packet, stamp, hop, now, io);
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

    /// An IP packet that fits: outer header or marking, then to the next hop.
    #[inline(always)]
    pub(super) fn emit(
        &mut self,
        forward: &Forward,
        user: &UserPacket,
        mut packet: P,
        stamp: Option<TimeStamp>,
        hop: NextHopId,
        now: Now,
        io: &mut impl Io<P>,
    ) {
        let user_len = packet.bytes().len();
        let mut udp_checksum = None;
        match (&forward.to, forward.marking) {
            (Destination::Tunnel(tunnel), marking) => {
                let port = &self.env.ports[usize::from(self.env.neighbours.get(hop).port)];
                let class = tunnel::outer_traffic_class(traffic_class::of(packet.bytes()), marking);
                let (ethernet, offload) = (port.ethernet_len(), port.udp_checksum_offload);
                if !tunnel.encapsulate(&mut packet, class, user.qfi, stamp, ethernet, offload) {
                    return self.discard(user, DropReason::NoHeadroom);
                }
                if stamp.is_some() {
                    self.counters.event(HostEvent::MonitoringMarked);
                }
                udp_checksum = tunnel.udp_checksum(offload);
            }
            (_, Some(marking)) => mark(packet.bytes_mut(), marking),
            (_, None) => {}
        }
        let marking = forward.scheduling.l4s.then(|| Marking {
            user_len: user_len as u16,
            udp_checksum: udp_checksum.map_or(0, |at| (packet.bytes().len() - at) as u16),
        });
        let class = Class {
            marking,
            ..Class::queue(forward.scheduling.queue)
        };
        self.send_to(hop, packet, class, now, io);
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
fn age(ip: &mut [u8], outer_ecn: u8) -> bool {
    if ip[0] >> 4 == 4 {
        ip[8] -= 1;
        let sum = u16::from_be_bytes([ip[10], ip[11]]);
        ip[10..12].copy_from_slice(&checksum::one_hop_older(sum).to_be_bytes());
    } else {
        ip[7] -= 1;
    }
    if outer_ecn == 0 {
        return true;
    }
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
