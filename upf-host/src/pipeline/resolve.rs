//! Next hops on the way out: packets wait here, bounded, while ARP (RFC 826) or neighbour discovery (RFC 4861) asks.

use super::wire::{self, Arp};
use super::{Io, Lane, Now};
use crate::counters::{DropReason, HostEvent};
use crate::egress::Class;
use crate::neighbours::{NextHop, NextHopId, PortIndex};
use crate::packet::Packet;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use upf_model::NetworkInstanceId;

/// Packets that wait for one next hop, and for all.
const PER_HOP: usize = 64;
const IN_ALL: usize = 1_024;
/// A next hop that has not answered for this long loses its packets.
const PATIENCE_MS: u64 = 3_000;

/// Packets of one lcore that wait for hardware addresses, as IP packets without Ethernet header.
pub struct Waiting<P> {
    hops: HashMap<NextHopId, Queue<P>>,
    in_all: usize,
}

struct Queue<P> {
    since_ms: u64,
    packets: VecDeque<(P, Class)>,
}

impl<P> Default for Waiting<P> {
    fn default() -> Self {
        Self {
            hops: HashMap::new(),
            in_all: 0,
        }
    }
}

impl<P: Packet> Lane<P> {
    /// The next hop for a destination in a network instance. An on-link destination takes a lock once, then this
    /// lcore remembers it.
    #[inline(always)]
    pub(super) fn next_hop(&mut self, instance: NetworkInstanceId, dst: IpAddr) -> Result<NextHopId, DropReason> {
        use crate::environment::Route;
        let fib = self
            .env
            .instances
            .get(usize::from(instance.0))
            .ok_or(DropReason::NoRoute)?;
        match fib.lookup(dst).ok_or(DropReason::NoRoute)? {
            Route::Via(hop) => Ok(hop),
            Route::OnLink(port) => match self.learnt.get(&(port, dst)) {
                Some(&hop) => Ok(hop),
                None if self.env.ports[usize::from(port)].own(dst).is_some() => Err(DropReason::NotServed),
                None => {
                    let hop = self.env.neighbours.intern(port, dst).ok_or(DropReason::NoNeighbour)?;
                    self.learnt.insert((port, dst), hop);
                    Ok(hop)
                }
            },
        }
    }

    /// Send an IP packet to a next hop, now or when its hardware address is known.
    pub(super) fn send_to(&mut self, hop: NextHopId, mut packet: P, class: Class, now: Now, io: &mut impl Io<P>) {
        let next = self.env.neighbours.get(hop);
        match next.mac() {
            Some(mac) => {
                let port = &self.env.ports[usize::from(next.port)];
                let ether_type = wire::ether_type(packet.bytes()[0] >> 4 != 4);
                if wire::prepend_ethernet(&mut packet, port, mac, ether_type) {
                    io.send(next.port, packet, class);
                } else {
                    self.counters.dropped(DropReason::NoHeadroom, packet.bytes().len());
                }
            }
            None => self.wait_for(hop, packet, class, now, io),
        }
    }

    /// Let an IP packet wait for its next hop's hardware address.
    #[cold]
    pub(super) fn wait_for(&mut self, hop: NextHopId, packet: P, class: Class, now: Now, io: &mut impl Io<P>) {
        let queue = self.waiting.hops.entry(hop).or_insert_with(|| Queue {
            since_ms: now.ms(),
            packets: VecDeque::new(),
        });
        if queue.packets.len() >= PER_HOP || self.waiting.in_all >= IN_ALL {
            self.counters.dropped(DropReason::NoNeighbour, packet.bytes().len());
        } else {
            queue.packets.push_back((packet, class));
            self.waiting.in_all += 1;
        }
        self.solicit(hop, now, io);
    }

    /// Ask for a hardware address if it is time to.
    fn solicit(&mut self, hop: NextHopId, now: Now, io: &mut impl Io<P>) {
        let env = self.env.clone();
        let next = env.neighbours.get(hop);
        if next.claim_solicitation(now.ms()) {
            self.ask(next, io);
        }
    }

    fn ask(&mut self, next: &NextHop, io: &mut impl Io<P>) {
        let env = self.env.clone();
        let port = &env.ports[usize::from(next.port)];
        let Some(source) = port.source_for(next.addr) else {
            return;
        };
        let Some(mut packet) = io.allocate() else {
            return self.counters.dropped(DropReason::NoMbuf, 0);
        };
        let written = match (source, next.addr) {
            (IpAddr::V4(sender), IpAddr::V4(target)) => Arp {
                operation: 1,
                sender_mac: port.mac,
                sender,
                target,
            }
            .write(&mut packet, port, None),
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                wire::write_neighbour_solicitation(&mut packet, port, source, target)
            }
            _ => false,
        };
        if written {
            self.counters.event(HostEvent::NeighbourAsked);
            io.send(next.port, packet, Class::OWN);
        }
    }

    /// A station told us its hardware address: remember it if we know the station, and let its packets go.
    pub(super) fn learn(&mut self, port: PortIndex, addr: IpAddr, mac: [u8; 6], now: Now, io: &mut impl Io<P>) {
        if self.env.neighbours.learn(port, addr, mac, now.ms()) {
            if self.env.neighbours.any_news() {
                self.reports.wake();
            }
            self.release_resolved(now, io);
        }
    }

    /// Periodic work: let packets go whose next hop is known by now (another lcore may have heard), give up those
    /// that waited too long, ask again. `lead` is true on one lcore, which also keeps all entries fresh.
    pub(super) fn resolve_tick(&mut self, lead: bool, now: Now, io: &mut impl Io<P>) {
        self.release_resolved(now, io);
        let (late, due): (Vec<_>, Vec<_>) = self
            .waiting
            .hops
            .iter()
            .map(|(&hop, queue)| (hop, now.ms().saturating_sub(queue.since_ms) >= PATIENCE_MS))
            .partition(|(_, late)| *late);
        for (hop, _) in late {
            let queue = self.waiting.hops.remove(&hop).into_iter().flat_map(|q| q.packets);
            for (packet, _) in queue {
                self.waiting.in_all -= 1;
                self.counters.dropped(DropReason::NoNeighbour, packet.bytes().len());
            }
        }
        for (hop, _) in due {
            self.solicit(hop, now, io);
        }
        if lead {
            let env = self.env.clone();
            for next in env.neighbours.iter().filter(|n| n.claim_solicitation(now.ms())) {
                self.ask(next, io);
            }
        }
    }

    fn release_resolved(&mut self, now: Now, io: &mut impl Io<P>) {
        if self.waiting.hops.is_empty() {
            return;
        }
        let env = self.env.clone();
        let ready: Vec<_> = self
            .waiting
            .hops
            .keys()
            .copied()
            .filter(|&hop| env.neighbours.get(hop).mac().is_some())
            .collect();
        for hop in ready {
            for (packet, class) in self.waiting.hops.remove(&hop).into_iter().flat_map(|q| q.packets) {
                self.waiting.in_all -= 1;
                self.send_to(hop, packet, class, now, io);
            }
        }
    }
}
