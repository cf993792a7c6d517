//! The configuration compiled: names resolved to the indices that rules and packets carry.

use crate::Config;
use std::net::IpAddr;
use upf_model::{EndpointId, Interface, IpPrefix, NetworkInstanceId};

/// Names resolved. Indices are positions in the configuration, so both daemons that read one file agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Names of the network instances, by [`NetworkInstanceId`].
    pub instances: Vec<String>,
    /// GTP-U endpoint addresses, by [`EndpointId`].
    pub endpoints: Vec<Endpoint>,
    /// Ports, in configuration order.
    pub ports: Vec<PortTopology>,
    /// The prefixes of the ports' own addresses: their hosts are reached without a next hop.
    pub on_link: Vec<OnLink>,
    /// Static routes, in configuration order, each with the port at which its next hop is on-link.
    pub routes: Vec<StaticRoute>,
}

/// A prefix whose hosts are on-link at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnLink {
    /// Where it holds.
    pub network_instance: NetworkInstanceId,
    /// Without host bits.
    pub prefix: IpPrefix,
    /// The port's position.
    pub port: usize,
}

/// A route whose next hop is known to be on-link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRoute {
    /// Where it holds.
    pub network_instance: NetworkInstanceId,
    /// Without host bits.
    pub prefix: IpPrefix,
    /// The next hop.
    pub via: IpAddr,
    /// Position of the port that the next hop is at.
    pub port: usize,
}

/// A GTP-U endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Its port's position.
    pub port: usize,
}

/// A port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortTopology {
    /// Its network instance.
    pub network_instance: NetworkInstanceId,
    /// Bit `Interface as u8` set: it stands for that interface.
    pub interfaces: u8,
}

impl Config {
    /// Resolves names. An unknown network instance counts as the first, and a route whose next hop is on-link nowhere
    /// is left out: [`crate::load`] refuses both.
    pub fn topology(&self) -> Topology {
        let instances: Vec<String> = self.network_instances.iter().map(|n| n.name.clone()).collect();
        let index = |name: &str| instances.iter().position(|n| n == name).unwrap_or(0) as u16;
        let ports: Vec<PortTopology> = self
            .ports
            .iter()
            .map(|port| PortTopology {
                network_instance: NetworkInstanceId(index(&port.network_instance)),
                interfaces: port
                    .interfaces
                    .iter()
                    .fold(0, |set, &name| set | 1 << Interface::from(name) as u8),
            })
            .collect();
        let own = |port: usize| {
            self.ports[port]
                .addresses
                .iter()
                .filter_map(|a| IpPrefix::new(a.addr, a.len))
        };
        let on_link: Vec<OnLink> = ports
            .iter()
            .enumerate()
            .flat_map(|(port, p)| {
                let network_instance = p.network_instance;
                own(port).map(move |prefix| OnLink {
                    network_instance,
                    prefix,
                    port,
                })
            })
            .collect();
        let static_routes = self.network_instances.iter().flat_map(|n| {
            let network_instance = NetworkInstanceId(index(&n.name));
            n.routes.iter().map(move |r| (network_instance, r))
        });
        let routes = static_routes
            .filter_map(|(network_instance, r)| {
                // The longest prefix, as for any destination.
                let at = on_link
                    .iter()
                    .filter(|l| l.network_instance == network_instance && l.prefix.contains(r.via));
                let port = at.max_by_key(|l| l.prefix.len())?.port;
                Some(StaticRoute {
                    network_instance,
                    prefix: IpPrefix::new(r.prefix.addr, r.prefix.len)?,
                    via: r.via,
                    port,
                })
            })
            .collect();
        let gtpu = self.ports.iter().enumerate().filter(|(_, port)| port.gtpu);
        let endpoints = gtpu.flat_map(|(port, p)| p.addresses.iter().map(move |a| Endpoint { addr: a.addr, port }));
        Topology {
            endpoints: endpoints.collect(),
            ports,
            on_link,
            routes,
            instances,
        }
    }
}

impl Topology {
    /// The endpoint of an address.
    pub fn endpoint(&self, addr: IpAddr) -> Option<EndpointId> {
        self.endpoints
            .iter()
            .position(|e| e.addr == addr)
            .map(|i| EndpointId(i as u16))
    }

    /// The network instance of a name.
    pub fn instance(&self, name: &str) -> Option<NetworkInstanceId> {
        self.instances
            .iter()
            .position(|n| n == name)
            .map(|i| NetworkInstanceId(i as u16))
    }

    /// The network instance of rules that name none: that of the first port which stands for the interface.
    pub fn default_instance(&self, interface: Interface) -> Option<NetworkInstanceId> {
        self.ports
            .iter()
            .find(|p| p.interfaces >> interface as u8 & 1 == 1)
            .map(|p| p.network_instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
pfcp: { listen: 127.0.0.8:8805 }
ports:
  - { name: n3, device: a, addresses: [192.0.2.1/24, "2001:db8::1/64"], network_instance: ran, interfaces: [access], gtpu: true }
  - { name: n9, device: b, addresses: [203.0.113.1/24], network_instance: ran, interfaces: [core, access], gtpu: true }
  - { name: n6, device: c, addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }
network_instances:
  - name: internet
    routes: [{ prefix: 0.0.0.0/0, via: 198.51.100.2 }]
  - name: ran
    routes: [{ prefix: 10.0.0.0/8, via: 203.0.113.9 }]
"#;

    #[test]
    fn indices_are_positions_in_the_configuration() {
        let topology = crate::parse(TEXT, "text").unwrap_or_else(|e| panic!("{e}")).topology();
        let (internet, ran) = (NetworkInstanceId(0), NetworkInstanceId(1));
        assert_eq!(
            (topology.instance("internet"), topology.instance("ran")),
            (Some(internet), Some(ran))
        );
        assert_eq!(topology.instance("Ran"), None);
        assert_eq!(
            topology.ports.iter().map(|p| p.network_instance).collect::<Vec<_>>(),
            [ran, ran, internet]
        );
        assert_eq!(topology.endpoints.iter().map(|e| e.port).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(topology.endpoint("203.0.113.1".parse().unwrap()), Some(EndpointId(2)));
        assert_eq!(topology.endpoint("198.51.100.1".parse().unwrap()), None);
    }

    #[test]
    fn the_default_instance_is_that_of_the_first_port_with_the_interface() {
        let topology = crate::parse(TEXT, "text").unwrap().topology();
        assert_eq!(topology.default_instance(Interface::Access), Some(NetworkInstanceId(1)));
        assert_eq!(topology.default_instance(Interface::Core), Some(NetworkInstanceId(1)));
        assert_eq!(topology.default_instance(Interface::SgiLan), None);
    }

    #[test]
    fn next_hops_are_found_at_the_ports_where_they_are_on_link() {
        let topology = crate::parse(TEXT, "text").unwrap().topology();
        assert_eq!(topology.on_link.len(), 4);
        assert_eq!(
            topology
                .routes
                .iter()
                .map(|r| (r.network_instance.0, r.port))
                .collect::<Vec<_>>(),
            [(0, 2), (1, 1)]
        );
    }
}
