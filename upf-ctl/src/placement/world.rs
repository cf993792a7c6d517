//! Owns what the target must know besides sessions: its stations, our tunnel endpoints, routes, neighbours, and what
//! becomes of packets that leave the fast path.
//!
//! ## Arrivals
//! The program looks tunnel endpoints and users up by the *network instance* of the port at which a packet came in. But
//! PDRs also ask for the source interface, and a tunnel ends at the port that has its address, not at any port of the
//! instance. So what the tables are given is the number of an [`Arrival`]: ports of one network instance that stand for
//! the same interfaces and have no tunnel endpoints share one, every other port has its own. Where each network instance
//! has one kind of port, as is usual, arrivals are numbered as the network instances are. Routes are looked up by the
//! network instance that a FAR names, and by nothing else.
//!
//! ## Routes
//! The same as upf-host has: prefixes on the link, then static routes, of equal prefixes the last; the longest prefix
//! wins. A destination on the link needs a neighbour's hardware address, so each known one gets a route of its own and
//! the rest of the prefix is punted, for the host to ask. Next hops are numbered by a hash of port and address, or the
//! next number that is free: the same neighbour has the same number after every restart, as a rule, and none ever changes
//! its meaning.

use super::entry::{Action, Entry, Key, Mac, MeterCell, Rates, Write};
use super::{FAR_ON_HOST, TargetSizes};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use upf_config::{Config, P4, Topology};
use upf_model::batch::Neighbour;
use upf_model::punt::PuntReason;
use upf_model::{EndpointId, Interface, IpPrefix, NetworkInstanceId};

/// Number of an arrival in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArrivalId(pub u16);

/// How packets may have arrived: what rules can ask of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number in the tables.
    pub id: ArrivalId,
    /// From this network instance.
    pub network_instance: NetworkInstanceId,
    /// Bit `Interface as u8` set: from there.
    pub interfaces: u8,
    /// At this port, if it is one that has tunnel endpoints.
    pub port: Option<usize>,
    /// A port of it is tagged.
    pub tagged: bool,
}

impl Arrival {
    /// Whether packets may have that source interface.
    pub const fn stands_for(&self, interface: Interface) -> bool {
        self.interfaces >> interface as u8 & 1 == 1
    }
}

/// A port of the target.
#[derive(Debug, Clone)]
struct PortFacts {
    number: u16,
    mac: Mac,
    vlan: u16,
    mtu: u16,
    arrival: usize,
    addresses: Vec<(IpAddr, IpPrefix)>,
}

impl PortFacts {
    /// As `PortEnvironment::source_for` of upf-host.
    fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|(a, _)| a.is_ipv4() == peer.is_ipv4());
        let near = family().find(|(_, on_link)| on_link.contains(peer));
        near.or_else(|| family().next()).map(|(a, _)| *a)
    }
}

/// Where a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Via { port: usize, next_hop: IpAddr },
    OnLink { port: usize },
}

/// Everything that is configured, and the neighbours that are known.
#[derive(Debug, Clone)]
pub struct World {
    p4: P4,
    arrivals: Vec<Arrival>,
    ports: Vec<PortFacts>,
    endpoints: Vec<(IpAddr, usize)>,
    /// By network instance.
    routes: BTreeMap<(NetworkInstanceId, IpPrefix), Route>,
    neighbours: BTreeMap<(u16, IpAddr), Mac>,
    /// Numbers of next hops, and the other way round.
    hops: BTreeMap<(u16, IpAddr), u32>,
    hop_of: BTreeMap<u32, (u16, IpAddr)>,
}

impl World {
    /// Of a configuration with a section `p4`; `None` without one.
    pub fn new(config: &Config) -> Option<Self> {
        let p4 = config.p4.clone()?;
        let topology = config.topology();
        let (arrivals, of_port) = arrivals(config, &topology);
        let ports = config.ports.iter().zip(&of_port).map(|(port, &arrival)| PortFacts {
            number: port.p4_port().unwrap_or(u16::MAX),
            mac: port.mac.as_deref().and_then(parse_mac).unwrap_or_default(),
            vlan: port.vlan.unwrap_or(0),
            mtu: port.mtu,
            arrival,
            addresses: port
                .addresses
                .iter()
                .filter_map(|a| Some((a.addr, IpPrefix::new(a.addr, a.len)?)))
                .collect(),
        });
        let mut routes = BTreeMap::new();
        for link in &topology.on_link {
            routes.insert((link.network_instance, link.prefix), Route::OnLink { port: link.port });
        }
        for route in &topology.routes {
            let via = Route::Via {
                port: route.port,
                next_hop: route.via,
            };
            routes.insert((route.network_instance, route.prefix), via);
        }
        let mut world = Self {
            p4,
            arrivals,
            ports: ports.collect(),
            endpoints: topology.endpoints.iter().map(|e| (e.addr, e.port)).collect(),
            routes,
            neighbours: BTreeMap::new(),
            hops: BTreeMap::new(),
            hop_of: BTreeMap::new(),
        };
        for route in &topology.routes {
            world.number(route.port as u16, route.via);
        }
        Some(world)
    }

    /// Gives a next hop its number.
    fn number(&mut self, port: u16, addr: IpAddr) {
        if self.hops.contains_key(&(port, addr)) {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (port, addr).hash(&mut hasher);
        let mut id = hasher.finish() as u32;
        while self.hop_of.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.hops.insert((port, addr), id);
        self.hop_of.insert(id, (port, addr));
    }

    fn hop_id(&self, port: u16, addr: IpAddr) -> u32 {
        self.hops.get(&(port, addr)).copied().unwrap_or(0)
    }

    /// The section `p4`.
    pub const fn config(&self) -> &P4 {
        &self.p4
    }

    /// A neighbour's hardware address became known. True: it was another one before, or none.
    pub fn learn(&mut self, neighbour: &Neighbour) -> bool {
        if usize::from(neighbour.port) >= self.ports.len() {
            return false;
        }
        self.number(neighbour.port, neighbour.addr);
        self.neighbours.insert((neighbour.port, neighbour.addr), neighbour.mac) != Some(neighbour.mac)
    }

    /// The endpoint of an address.
    pub fn endpoint(&self, addr: IpAddr) -> Option<EndpointId> {
        let position = self.endpoints.iter().position(|(a, _)| *a == addr);
        position.map(|i| EndpointId(i as u16))
    }

    /// How packets to an endpoint arrive, and whether over IPv6.
    pub fn arrival_at(&self, endpoint: EndpointId) -> Option<(&Arrival, bool)> {
        let (addr, port) = self.endpoints.get(usize::from(endpoint.0))?;
        Some((&self.arrivals[self.ports[*port].arrival], addr.is_ipv6()))
    }

    /// How packets from a network instance may arrive.
    pub fn arrivals_from(&self, instance: NetworkInstanceId) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(move |a| a.network_instance == instance)
    }

    fn lookup(&self, instance: NetworkInstanceId, dst: IpAddr) -> Option<Route> {
        let of_instance = self.routes.iter().filter(|((i, _), _)| *i == instance);
        let matching = of_instance.filter(|((_, prefix), _)| prefix.contains(dst));
        matching.max_by_key(|((_, prefix), _)| prefix.len()).map(|(_, r)| *r)
    }

    /// The address of ours that tunnel packets to `peer` come from: one of the port that they leave by, as on the host.
    pub fn tunnel_source(&self, instance: NetworkInstanceId, peer: IpAddr) -> Option<IpAddr> {
        let port = match self.lookup(instance, peer)? {
            Route::Via { port, .. } | Route::OnLink { port } => port,
        };
        self.ports[port].source_for(peer)
    }

    /// Every entry that does not belong to a session.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![
            Entry::new(Key::HostPort(self.p4.host_port), Action::Host),
            Entry::new(Key::Far(FAR_ON_HOST), Action::FarOnHost),
        ];
        for port in &self.ports {
            let key = Key::Station {
                port: port.number,
                vlan: port.vlan,
                mac: port.mac,
            };
            let arrival = self.arrivals[port.arrival].id.0;
            entries.push(Entry::new(key, Action::Station { arrival }));
        }
        for (id, (addr, port)) in self.endpoints.iter().enumerate() {
            let arrival = self.arrivals[self.ports[*port].arrival].id.0;
            let key = match *addr {
                IpAddr::V4(addr) => Key::EndpointV4 { arrival, addr },
                IpAddr::V6(addr) => Key::EndpointV6 { arrival, addr },
            };
            entries.push(Entry::new(key, Action::Endpoint { id: id as u16 }));
        }
        entries.extend(PuntReason::ALL.iter().filter_map(|&reason| self.reason(reason)));
        self.routing(&mut entries);
        entries
    }

    /// Routes and next hops.
    fn routing(&self, entries: &mut Vec<Entry>) {
        let mut hops = BTreeSet::new();
        for (&(instance, prefix), route) in &self.routes {
            let action = match *route {
                Route::OnLink { .. } => Action::OnLink,
                Route::Via { port, next_hop } => {
                    hops.insert((port as u16, next_hop));
                    Action::Via(vec![self.hop_id(port as u16, next_hop)])
                }
            };
            entries.push(Entry::new(route_key(instance, prefix), action));
        }
        for &(port, addr) in self.neighbours.keys() {
            let instance = self.arrivals[self.ports[usize::from(port)].arrival].network_instance;
            let here = Route::OnLink {
                port: usize::from(port),
            };
            let own = self.ports[usize::from(port)].addresses.iter().any(|(a, _)| *a == addr);
            let full = IpPrefix::new(addr, if addr.is_ipv4() { 32 } else { 128 });
            if let Some(prefix) = full
                && !own
                && !self.routes.contains_key(&(instance, prefix))
                && self.lookup(instance, addr) == Some(here)
            {
                hops.insert((port, addr));
                let action = Action::Via(vec![self.hop_id(port, addr)]);
                entries.push(Entry::new(route_key(instance, prefix), action));
            }
        }
        for (port, addr) in hops {
            let facts = &self.ports[usize::from(port)];
            if let Some(&dst) = self.neighbours.get(&(port, addr)) {
                let action = Action::NextHop {
                    port: facts.number,
                    dst,
                    src: facts.mac,
                    vlan: facts.vlan,
                    mtu: facts.mtu,
                };
                entries.push(Entry::new(Key::NextHop(self.hop_id(port, addr)), action));
            }
        }
    }

    /// What becomes of packets of a reason. Those of sessions are not limited by reason, or one user's flood would be
    /// everybody's loss; users whose flows are not known yet are limited one by one.
    fn reason(&self, reason: PuntReason) -> Option<Entry> {
        use PuntReason as R;
        let serves_nobody = matches!(
            reason,
            R::Local
                | R::EtherType
                | R::Malformed
                | R::Checksum
                | R::Options
                | R::Fragment
                | R::Gtpu
                | R::Endpoint
                | R::UnknownTeid
                | R::UnknownUe
                | R::Spoofed
                | R::HopLimit
                | R::Mtu
                | R::NoRoute
                | R::NoNeighbour
                | R::Ecn
        );
        let action = if reason == R::Limited {
            return None; // it has no entry: counted apart
        } else if reason.is_drop() {
            Action::Discard
        } else {
            Action::Punt {
                port: self.p4.host_port,
                limit_users: matches!(reason, R::FlowMiss | R::Unparsed),
                per_second: if serves_nobody {
                    self.p4.punt.per_reason
                } else {
                    u32::MAX
                },
            }
        };
        Some(Entry::new(Key::Reason(reason as u8), action))
    }

    /// Meters that do not belong to a session.
    pub fn meters(&self, sizes: &TargetSizes) -> Vec<Write> {
        let rates = Rates::packets(self.p4.punt.per_user);
        (0..sizes.punt_users as u32)
            .map(|cell| Write::Meter(MeterCell::PuntUsers(cell), rates))
            .collect()
    }
}

/// Groups ports by how packets from them arrive. Returns the arrivals, and which one each port is.
fn arrivals(config: &Config, topology: &Topology) -> (Vec<Arrival>, Vec<usize>) {
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut next = topology.instances.len() as u16;
    let mut of_port = Vec::with_capacity(config.ports.len());
    for (index, (port, facts)) in config.ports.iter().zip(&topology.ports).enumerate() {
        let alike = |a: &Arrival| {
            (a.network_instance, a.interfaces, a.port)
                == (facts.network_instance, facts.interfaces, port.gtpu.then_some(index))
        };
        let tagged = port.vlan.is_some();
        if let Some(known) = arrivals.iter().position(alike) {
            arrivals[known].tagged |= tagged;
            of_port.push(known);
            continue;
        }
        let first = !arrivals.iter().any(|a| a.network_instance == facts.network_instance);
        let id = if first {
            facts.network_instance.0
        } else {
            next += 1;
            next - 1
        };
        of_port.push(arrivals.len());
        arrivals.push(Arrival {
            id: ArrivalId(id),
            network_instance: facts.network_instance,
            interfaces: facts.interfaces,
            port: port.gtpu.then_some(index),
            tagged,
        });
    }
    (arrivals, of_port)
}

const fn route_key(instance: NetworkInstanceId, prefix: IpPrefix) -> Key {
    let instance = instance.0;
    match prefix {
        IpPrefix::V4(prefix) => Key::RouteV4 { instance, prefix },
        IpPrefix::V6(prefix) => Key::RouteV6 { instance, prefix },
    }
}

/// Six octets in hexadecimal; the configuration was checked when it was loaded.
fn parse_mac(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
pfcp: { listen: 127.0.0.8:8805 }
p4: { target: 127.0.0.1:9559, host_port: 9, host_device: net_null0 }
ports:
  - { name: n3, device: "p4:1", mac: 02:00:00:00:03:01, addresses: [192.0.2.1/24, "2001:db8::1/64"], network_instance: ran, interfaces: [access], gtpu: true }
  - { name: n9, device: "p4:2", mac: 02:00:00:00:09:01, vlan: 7, addresses: [203.0.113.1/24], network_instance: ran, interfaces: [core, access], gtpu: true }
  - { name: n6, device: "p4:3", mac: 02:00:00:00:06:01, addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }
  - { name: n6b, device: "p4:4", mac: 02:00:00:00:06:02, addresses: [198.18.0.1/24], network_instance: internet, interfaces: [core] }
network_instances:
  - name: internet
    routes: [{ prefix: 0.0.0.0/0, via: 198.51.100.2 }]
  - name: ran
    routes: [{ prefix: 10.0.0.0/8, via: 203.0.113.9 }]
"#;

    fn world() -> World {
        let config = upf_config::parse(TEXT, "text").unwrap_or_else(|e| panic!("{e}"));
        World::new(&config).unwrap()
    }

    fn action_of(world: &World, key: &Key) -> Option<Action> {
        world.entries().into_iter().find(|e| e.key == *key).map(|e| e.action)
    }

    #[test]
    fn ports_that_differ_for_rules_are_told_apart_and_others_share_their_instances_number() {
        let ids: Vec<(u16, u8)> = world().arrivals.iter().map(|a| (a.id.0, a.interfaces)).collect();
        assert_eq!(ids, [(1, 0b01), (2, 0b11), (0, 0b10)]);
    }

    #[test]
    fn a_tunnel_comes_from_an_address_of_the_port_that_it_leaves_by() {
        let world = world();
        let source = |instance, peer: &str| world.tunnel_source(NetworkInstanceId(instance), peer.parse().unwrap());
        assert_eq!(source(1, "192.0.2.77"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(source(1, "10.1.1.1"), Some("203.0.113.1".parse().unwrap()));
        assert_eq!(source(1, "2001:db8::9"), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(source(1, "2001:db9::9"), None, "no route");
        assert_eq!(source(0, "2001:db8::9"), None, "not in this instance");
    }

    #[test]
    fn a_neighbour_gets_a_route_of_its_own_once_its_hardware_address_is_known() {
        let mut world = world();
        let addr: IpAddr = "198.51.100.7".parse().unwrap();
        let key = route_key(NetworkInstanceId(0), IpPrefix::new(addr, 32).unwrap());
        assert_eq!(action_of(&world, &key), None);
        let neighbour = Neighbour {
            port: 2,
            addr,
            mac: [2, 0, 0, 0, 0, 7],
        };
        assert!(world.learn(&neighbour));
        assert!(!world.learn(&neighbour), "known already");
        let Some(Action::Via(hops)) = action_of(&world, &key) else {
            panic!("no route")
        };
        let hop = action_of(&world, &Key::NextHop(hops[0]));
        let expected = Action::NextHop {
            port: 3,
            dst: [2, 0, 0, 0, 0, 7],
            src: [2, 0, 0, 0, 6, 1],
            vlan: 0,
            mtu: 1_500,
        };
        assert_eq!(hop, Some(expected));
    }

    #[test]
    fn our_own_addresses_and_strangers_off_the_link_are_no_neighbours() {
        let mut world = world();
        let before = world.entries();
        for addr in ["198.51.100.1", "8.8.8.8"] {
            world.learn(&Neighbour {
                port: 2,
                addr: addr.parse().unwrap(),
                mac: [2, 0, 0, 0, 0, 7],
            });
        }
        assert_eq!(world.entries(), before);
    }

    #[test]
    fn a_router_has_its_next_hop_once_it_is_a_known_neighbour() {
        let mut world = world();
        let default = route_key(NetworkInstanceId(0), "0.0.0.0/0".parse().unwrap());
        let Some(Action::Via(hops)) = action_of(&world, &default) else {
            panic!("no default route")
        };
        assert_eq!(action_of(&world, &Key::NextHop(hops[0])), None);
        world.learn(&Neighbour {
            port: 2,
            addr: "198.51.100.2".parse().unwrap(),
            mac: [2, 0, 0, 0, 0, 2],
        });
        assert!(matches!(
            action_of(&world, &Key::NextHop(hops[0])),
            Some(Action::NextHop { port: 3, .. })
        ));
    }

    #[test]
    fn every_reason_but_the_one_that_is_counted_apart_has_an_entry() {
        let world = world();
        for &reason in PuntReason::ALL {
            let action = action_of(&world, &Key::Reason(reason as u8));
            match action {
                None => assert_eq!(reason, PuntReason::Limited),
                Some(Action::Discard) => assert!(reason.is_drop()),
                Some(Action::Punt { port, .. }) => assert!(port == 9 && !reason.is_drop()),
                other => panic!("{other:?}"),
            }
        }
    }
}
