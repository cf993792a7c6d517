//! What every lcore knows and nobody changes while packets flow: ports, our addresses, routes; and what all share:
//! the neighbour table and the limits.

use crate::delay::Monitoring;
use crate::neighbours::{Mac, Neighbours, NextHopId, PortIndex};
use crate::pipeline::buffer::BufferAccount;
use crate::pipeline::parse::UsualFrames;
use arrayvec::ArrayVec;
use ip_network_table_deps_treebitmap::IpLookupTable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use upf_model::{EndpointId, IpPrefix, Ipv4Prefix, NetworkInstanceId};

/// The world of the pipeline.
pub struct Environment {
    /// In configuration order; a [`PortIndex`] points here.
    pub ports: Vec<PortEnvironment>,
    /// By [`NetworkInstanceId`].
    pub instances: Vec<Fib>,
    /// Addresses of GTP-U endpoints, by [`EndpointId`].
    pub endpoints: Vec<IpAddr>,
    /// Hardware addresses of next hops.
    pub neighbours: Neighbours,
    /// What all sessions together have in buffers.
    pub buffered: Arc<BufferAccount>,
    /// Buffering bounds.
    pub buffering: upf_config::Buffering,
    /// Error Indications per second and lcore.
    pub error_indications_per_second: u32,
    /// ICMP errors per second and lcore.
    pub icmp_errors_per_second: u32,
    /// Every session that stands is known here, so that a TEID without one may be refused. False from a start until
    /// upf-ctl has told all its sessions: an Error Indication in between would make gNBs release good ones.
    pub sessions_known: AtomicBool,
    /// The ports are those of a P4 target.
    pub behind_p4: bool,
    /// Packet delay is measured so; none: it is not.
    pub monitoring: Option<Monitoring>,
}

/// One port.
#[derive(Debug, Clone)]
pub struct PortEnvironment {
    /// Name in messages.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// 802.1Q VLAN identifier, if tagged.
    pub vlan: Option<u16>,
    /// Largest IP packet.
    pub mtu: u16,
    /// Its network instance.
    pub network_instance: NetworkInstanceId,
    /// Bit `Interface as u8` set: packets from here may have that source interface.
    pub interfaces: u8,
    /// Our addresses here, with the on-link prefix.
    pub addresses: Vec<OwnAddress>,
    /// The device computes UDP checksums over IPv6.
    pub udp_checksum_offload: bool,
    /// By what usual frames are known; none: no frame is usual.
    pub usual: Option<UsualFrames>,
}

/// An address of ours.
#[derive(Debug, Clone, Copy)]
pub struct OwnAddress {
    /// The address.
    pub addr: IpAddr,
    /// The prefix that is on-link.
    pub on_link: IpPrefix,
    /// Its GTP-U endpoint, where tunnels may end.
    pub endpoint: Option<EndpointId>,
}

impl PortEnvironment {
    /// Our entry for this address, if it is ours. Ports have a handful: a short scan.
    #[inline]
    pub fn own(&self, addr: IpAddr) -> Option<&OwnAddress> {
        self.addresses.iter().find(|a| a.addr == addr)
    }
    /// An address of ours in the family of `peer`, the one that shares its prefix if there is one.
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|a| a.addr.is_ipv4() == peer.is_ipv4());
        family()
            .find(|a| a.on_link.contains(peer))
            .or_else(|| family().next())
            .map(|a| a.addr)
    }
    /// Bytes of the Ethernet header we send here.
    pub const fn ethernet_len(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }
}

/// Where a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Behind this router.
    Via(NextHopId),
    /// On the link of this port: the destination is its own next hop.
    OnLink(PortIndex),
}

/// The routes of one network instance. Lookup is a longest-prefix match in a tree bitmap: one to six cache lines. Where
/// there are few IPv4 routes (a link and a default route, say), they are compared one after the other: one line.
#[derive(Default)]
pub struct Fib {
    v4: IpLookupTable<Ipv4Addr, Route>,
    v6: IpLookupTable<Ipv6Addr, Route>,
    /// All of `v4`, longest first; none if they are more.
    few: Option<ArrayVec<(Ipv4Prefix, Route), FEW>>,
}

/// Routes that are compared faster than the tree is walked.
const FEW: usize = 4;

impl Fib {
    /// Add or replace a route.
    pub fn insert(&mut self, prefix: IpPrefix, route: Route) {
        match prefix {
            IpPrefix::V4(p) => {
                self.v4.insert(p.addr(), u32::from(p.len()), route);
                let prefixes = self.v4.iter().filter_map(|(addr, len, route)| {
                    let prefix = Ipv4Prefix::new(addr, u8::try_from(len).ok()?)?;
                    Some((prefix, *route))
                });
                let mut all: Vec<_> = prefixes.take(FEW + 1).collect();
                all.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                self.few = ArrayVec::try_from(all.as_slice()).ok();
            }
            IpPrefix::V6(p) => {
                self.v6.insert(p.addr(), u32::from(p.len()), route);
            }
        }
    }

    /// The longest match.
    #[inline(always)]
    pub fn lookup(&self, dst: IpAddr) -> Option<Route> {
        match dst {
            IpAddr::V4(a) => match &self.few {
                Some(few) => few
                    .iter()
                    .find(|(prefix, _)| prefix.contains(a))
                    .map(|(_, route)| *route),
                None => self.v4.longest_match(a).map(|(_, _, &r)| r),
            },
            IpAddr::V6(a) => self.v6.longest_match(a).map(|(_, _, &r)| r),
        }
    }
}

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A next hop does not share a prefix with any port of its instance.
    #[error("route {prefix} of network instance {instance:?}: next hop {via} is on no port's link")]
    NextHopOffLink {
        /// Whose route.
        instance: String,
        /// Its destination.
        prefix: String,
        /// Its next hop.
        via: IpAddr,
    },
    /// More next hops than are remembered.
    #[error("more than {max} next hops", max = crate::neighbours::CAPACITY)]
    TooManyNextHops,
}

impl Environment {
    /// From the configuration and what the devices turned out to be (hardware address, checksum offload), port by port.
    pub fn new(config: &upf_config::Config, devices: &[(Mac, bool)]) -> Result<Self, EnvironmentError> {
        let topology = config.topology();
        let neighbours = Neighbours::default();
        let mut instances: Vec<Fib> = config.network_instances.iter().map(|_| Fib::default()).collect();
        let mut ports = Vec::with_capacity(config.ports.len());
        for (index, (port, &(mac, udp_checksum_offload))) in config.ports.iter().zip(devices).enumerate() {
            let network_instance = topology.ports[index].network_instance;
            let addresses: Vec<OwnAddress> = port
                .addresses
                .iter()
                .filter_map(|p| {
                    let endpoint = port.gtpu.then(|| topology.endpoint(p.addr)).flatten();
                    Some(OwnAddress {
                        addr: p.addr,
                        on_link: IpPrefix::new(p.addr, p.len)?,
                        endpoint,
                    })
                })
                .collect();
            for own in &addresses {
                instances[usize::from(network_instance.0)].insert(own.on_link, Route::OnLink(index as PortIndex));
            }
            let interfaces = topology.ports[index].interfaces;
            ports.push(PortEnvironment {
                name: port.name.clone(),
                mac,
                vlan: port.vlan,
                mtu: port.mtu,
                network_instance,
                interfaces,
                usual: UsualFrames::of(mac, port.vlan, &addresses, interfaces, network_instance),
                addresses,
                udp_checksum_offload,
            });
        }
        for (instance, fib) in config.network_instances.iter().zip(&mut instances) {
            for route in &instance.routes {
                let Some(Route::OnLink(port)) = fib.lookup(route.via) else {
                    return Err(EnvironmentError::NextHopOffLink {
                        instance: instance.name.clone(),
                        prefix: route.prefix.to_string(),
                        via: route.via,
                    });
                };
                let hop = neighbours
                    .intern(port, route.via)
                    .ok_or(EnvironmentError::TooManyNextHops)?;
                if let Some(prefix) = IpPrefix::new(route.prefix.addr, route.prefix.len) {
                    fib.insert(prefix, Route::Via(hop));
                }
            }
        }
        Ok(Self {
            ports,
            instances,
            endpoints: topology.endpoints.iter().map(|e| e.addr).collect(),
            neighbours,
            buffered: Arc::default(),
            buffering: config.host.buffering.clone(),
            error_indications_per_second: config.host.error_indications_per_second,
            icmp_errors_per_second: config.host.icmp_errors_per_second,
            sessions_known: AtomicBool::new(true),
            behind_p4: config.p4.is_some(),
            monitoring: config.qos.delay.as_ref().map(Monitoring::new),
        })
    }

    /// The next hop towards `dst` in a network instance. Takes a lock for an on-link destination: compile time and
    /// slow path only; the pipeline keeps what it learnt.
    pub fn next_hop(&self, instance: NetworkInstanceId, dst: IpAddr) -> Option<NextHopId> {
        match self.instances.get(usize::from(instance.0))?.lookup(dst)? {
            Route::Via(hop) => Some(hop),
            Route::OnLink(port) => self.neighbours.intern(port, dst),
        }
    }
}
