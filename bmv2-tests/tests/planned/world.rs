//! The UPF of the equivalence test, as its configuration has it: once with its own ports, once behind a P4 target.

use bmv2_tests::entry::Mac;
use bmv2_tests::program::FILES;
use bmv2_tests::target::Borrowed;
use bmv2_tests::world::HOST;
use std::net::IpAddr;
use upf_config::{Config, P4Program};
use upf_ctl::placement::World;
use upf_host::neighbours::PortIndex;
use upf_model::NetworkInstanceId;
use upf_model::batch::Neighbour;

pub const INTERNET: NetworkInstanceId = NetworkInstanceId(0);
pub const RAN: NetworkInstanceId = NetworkInstanceId(1);

/// Ports in the order of the configuration.
pub const N3: PortIndex = 0;
pub const N9: PortIndex = 1;
pub const N6: PortIndex = 2;

/// The P4 target's number of a port.
pub const fn p4_port(port: PortIndex) -> u16 {
    match port {
        N3 => 1,
        N9 => 3,
        _ => 2,
    }
}

/// VLAN of a port; 0: untagged.
pub const fn vlan(port: PortIndex) -> u16 {
    if port == N9 { 7 } else { 0 }
}

pub const fn our_mac(port: PortIndex) -> Mac {
    [2, 0, 0, 0, 1, port]
}

const TEXT: &str = r#"
pfcp: { listen: 127.0.0.8:8805 }
host:
  buffering: { packets_per_session: 4, bytes_per_session: 4000, packets_total: 6 }
  error_indications_per_second: 4000000000
  icmp_errors_per_second: 4000000000
ports:
  - { name: n3, device: "DEV0", mac: 02:00:00:00:01:00, addresses: [10.3.0.1/24, "fd03::1/64"], network_instance: ran, interfaces: [access], gtpu: true }
  - { name: n9, device: "DEV1", mac: 02:00:00:00:01:01, vlan: 7, addresses: [10.9.0.1/24], network_instance: ran, interfaces: [core, access], gtpu: true }
  - { name: n6, device: "DEV2", mac: 02:00:00:00:01:02, mtu: 1400, addresses: [10.6.0.1/24, "fd06::1/64"], network_instance: internet, interfaces: [core] }
network_instances:
  - name: internet
    routes: [{ prefix: 0.0.0.0/0, via: 10.6.0.2 }, { prefix: "::/0", via: "fd06::2" }]
  - name: ran
    routes: [{ prefix: 10.4.0.0/16, via: 10.3.0.9 }]
"#;

fn parsed(text: &str) -> Config {
    upf_config::parse(text, "equivalence").unwrap_or_else(|e| panic!("{e}"))
}

/// With ports of its own.
pub fn alone() -> Config {
    parsed(&(0..3).fold(TEXT.to_owned(), |text, n| {
        text.replace(&format!("DEV{n}"), &format!("net_null{n}"))
    }))
}

/// Behind a P4 target.
pub fn behind_p4() -> Config {
    let text = (0..3).fold(TEXT.to_owned(), |text, n| {
        text.replace(&format!("DEV{n}"), &format!("p4:{}", p4_port(n)))
    });
    parsed(&(text + &format!("p4: {{ target: '127.0.0.1:9559', host_port: {HOST}, host_device: net_null0 }}\n")))
}

/// The same, with a controller that writes into this target.
pub fn controlled(target: Borrowed<'_>) -> Config {
    let mut config = behind_p4();
    if let Some(p4) = &mut config.p4 {
        p4.target = target.address.parse().expect("an address and port");
        (p4.device_id, p4.election_id) = (target.device_id, target.election_id);
        let [device_config, p4info] = FILES.map(Into::into);
        p4.program = Some(P4Program { device_config, p4info });
    }
    config
}

/// The neighbours that are known. 10.3.0.50, fd03::50 and 10.6.0.88 are not.
pub fn neighbours() -> Vec<Neighbour> {
    [
        (N3, "10.3.0.2"),
        (N3, "10.3.0.9"),
        (N3, "fd03::2"),
        (N9, "10.9.0.2"),
        (N6, "10.6.0.2"),
        (N6, "10.6.0.77"),
        (N6, "fd06::2"),
    ]
    .into_iter()
    .enumerate()
    .map(|(n, (port, addr))| Neighbour {
        port: port.into(),
        addr: addr.parse::<IpAddr>().expect("an address"),
        mac: [2, 0, 0, 0, 2, n as u8],
    })
    .collect()
}

/// What the planner knows.
pub fn world() -> World {
    let mut world = World::new(&behind_p4()).expect("a configuration with a P4 target");
    for neighbour in neighbours() {
        world.learn(&neighbour);
    }
    world
}
