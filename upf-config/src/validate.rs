//! What types cannot say: that the parts of a configuration fit together.

use crate::error::Problem;
use crate::parse::{nearest, quoted};
use crate::{Config, NetworkInstance, Port, Prefix};
use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use upf_model::IpPrefix;

/// Ethernet header, one VLAN tag and frame check sequence.
const FRAME_OVERHEAD: u32 = 14 + 4 + 4;
/// DPDK's default limit (RTE_MAX_ETHPORTS).
const PORTS_MAX: usize = 32;

/// Everything that is wrong with a configuration whose form is right; positions and source are left open.
pub fn validate(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    process(config, &mut problems);
    api(config, &mut problems);
    pfcp(config, &mut problems);
    qos(config, &mut problems);
    host(config, &mut problems);
    p4(config, &mut problems);
    egress(config, &mut problems);
    ports(config, &mut problems);
    network_instances(config, &mut problems);
    problems
}

/// Names become parts of file names, metric labels and command lines.
fn name(field: String, text: &str, problems: &mut Vec<Problem>) {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(letter) {
        let expected = "1 to 64 letters, digits, '-', '_' or '.', not starting with '.'";
        problems.push(Problem::new(field, expected, quoted(text)));
    }
}

fn within<T: PartialOrd + Display>(field: &str, value: T, low: T, high: T, problems: &mut Vec<Problem>) {
    if value < low || value > high {
        problems.push(Problem::new(field, format!("{low} to {high}"), value.to_string()));
    }
}

fn process(config: &Config, problems: &mut Vec<Problem>) {
    name("name".into(), &config.name, problems);
    for (field, directory) in [("runtime_dir", &config.runtime_dir), ("state_dir", &config.state_dir)] {
        if !directory.is_absolute() {
            let found = quoted(&directory.display().to_string());
            problems.push(Problem::new(field, "an absolute path, such as /run/upf", found));
        }
    }
    if config.metrics.as_ref().is_some_and(|m| m.listen.port() == 0) {
        problems.push(Problem::new("metrics.listen", "a port from 1 to 65535", "port 0"));
    }
}

/// Nobody gets in without a name by accident, and no token crosses a network in clear.
fn api(config: &Config, problems: &mut Vec<Problem>) {
    let Some(api) = &config.api else { return };
    if api.listen.port() == 0 {
        problems.push(Problem::new("api.listen", "a port from 1 to 65535", "port 0"));
    }
    let loopback = api.listen.ip().is_loopback();
    if !loopback && api.tls.is_none() {
        problems.push(
            Problem::new(
                "api.listen",
                "a loopback address, or api.tls beside it",
                api.listen.to_string(),
            )
            .hint("tokens would cross the network in clear"),
        );
    }
    if !loopback && api.loopback_without_token {
        let problem = Problem::new("api.loopback_without_token", "false beyond loopback", "true");
        problems.push(problem.hint("everybody who reaches the address could change everybody's QoS"));
    }
    if api.clients_file.is_none() && !api.loopback_without_token {
        let problem = Problem::new("api.clients_file", "a file of tokens or certificates", "none");
        problems.push(problem.hint("without it nobody may ask; on loopback, loopback_without_token lets everybody in"));
    }
    let limits = &api.limits;
    for (field, value, low, high) in [
        (
            "api.limits.requests_per_second",
            limits.requests_per_second,
            1,
            1_000_000,
        ),
        ("api.limits.burst_requests", limits.burst_requests, 1, 1_000_000),
        ("api.limits.connections", limits.connections, 1, 65_536),
        ("api.limits.body_bytes", limits.body_bytes, 1_024, 1 << 26),
        ("api.limits.qod_sessions", limits.qod_sessions, 1, 1_000_000),
    ] {
        within(field, value, low, high, problems);
    }
}

fn qos(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(delay) = &config.qos.delay {
        within("qos.delay.every_ms", delay.every_ms, 10, 3_600_000, problems);
    }
}

fn pfcp(config: &Config, problems: &mut Vec<Problem>) {
    let pfcp = &config.pfcp;
    match &pfcp.node_id {
        Some(id) if id.parse::<IpAddr>().is_err() && !is_domain_name(id) => {
            problems.push(Problem::new(
                "pfcp.node_id",
                "an IP address or a domain name",
                quoted(id),
            ));
        }
        None if pfcp.listen.ip().is_unspecified() => problems.push(
            Problem::new(
                "pfcp.listen",
                "one address, or pfcp.node_id beside it",
                pfcp.listen.to_string(),
            )
            .hint("our Node ID is the address we listen on unless node_id says otherwise"),
        ),
        _ => {}
    }
    within("pfcp.t1_ms", pfcp.t1_ms, 10, 60_000, problems);
    within("pfcp.n1", pfcp.n1, 1, 20, problems);
    within(
        "pfcp.heartbeat_interval_s",
        pfcp.heartbeat_interval_s,
        0,
        86_400,
        problems,
    );
    within("pfcp.max_sessions", pfcp.max_sessions, 1, 16_000_000, problems);
}

/// TS 29.244 8.2.38: a Node ID may be an FQDN.
fn is_domain_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn host(config: &Config, problems: &mut Vec<Problem>) {
    let host = &config.host;
    if host.lcores.is_empty() || host.lcores.len() > 64 {
        let found = format!("{} of them", host.lcores.len());
        problems.push(Problem::new("host.lcores", "1 to 64 CPUs", found).hint("each lcore is one worker's CPU"));
    }
    for (i, cpu) in host.lcores.iter().enumerate() {
        if *cpu > 1_023 {
            problems.push(Problem::new(
                format!("host.lcores[{i}]"),
                "a CPU from 0 to 1023",
                cpu.to_string(),
            ));
        }
        if host.lcores[..i].contains(cpu) {
            problems.push(Problem::new(
                format!("host.lcores[{i}]"),
                "each CPU once",
                format!("{cpu} again"),
            ));
        }
    }
    within("host.burst", host.burst, 1, 64, problems);
    within("host.mempool_packets", host.mempool_packets, 1_024, 1 << 26, problems);
    within("host.idle.spin_us", host.idle.spin_us, 0, 1_000_000, problems);
    within("host.idle.sleep_us", host.idle.sleep_us, 0, 100_000, problems);
    within("host.policing.burst_ms", host.policing.burst_ms, 1, 60_000, problems);
    within(
        "host.policing.burst_min_bytes",
        host.policing.burst_min_bytes,
        64,
        1 << 30,
        problems,
    );
    let largest = config.ports.iter().map(|p| p.mtu).max().unwrap_or(0);
    let punted = config.p4.as_ref().map_or(0, |_| upf_model::punt::MTU_OVERHEAD);
    let overhead = FRAME_OVERHEAD + u32::from(punted);
    if u32::from(host.packet_room) < u32::from(largest) + overhead {
        let expected = format!("at least {} bytes", u32::from(largest) + overhead);
        problems.push(
            Problem::new("host.packet_room", expected, host.packet_room.to_string()).hint(format!(
                "a frame of the largest mtu, {largest}, has {overhead} bytes more"
            )),
        );
    }
    let buffering = &host.buffering;
    if buffering.packets_total >= host.mempool_packets {
        let expected = format!("less than host.mempool_packets, {}", host.mempool_packets);
        problems.push(
            Problem::new(
                "host.buffering.packets_total",
                expected,
                buffering.packets_total.to_string(),
            )
            .hint("buffered packets stay in the pool that packets are received into"),
        );
    }
    if buffering.packets_per_session > buffering.packets_total {
        let expected = format!("at most host.buffering.packets_total, {}", buffering.packets_total);
        let found = buffering.packets_per_session.to_string();
        problems.push(Problem::new("host.buffering.packets_per_session", expected, found));
    }
}

/// The highest port number of a v1model target: 511 drops.
const P4_PORT_MAX: u16 = 510;

/// With a P4 target all ports are there, and their hardware addresses must be told: the target has none of its own.
fn p4(config: &Config, problems: &mut Vec<Problem>) {
    let Some(p4) = &config.p4 else {
        for (i, port) in config
            .ports
            .iter()
            .enumerate()
            .filter(|(_, p)| p.device.starts_with("p4:"))
        {
            let problem = Problem::new(format!("ports[{i}].device"), "a DPDK device", quoted(&port.device));
            problems.push(problem.hint("ports of a P4 target need the section `p4`"));
        }
        return;
    };
    within("p4.host_port", p4.host_port, 0, P4_PORT_MAX, problems);
    within("p4.election_id", p4.election_id, 1, u64::MAX, problems);
    let placement = &p4.placement;
    within("p4.placement.flow_idle_s", placement.flow_idle_s, 1, 86_400, problems);
    within(
        "p4.placement.near_threshold_percent",
        placement.near_threshold_percent,
        0,
        100,
        problems,
    );
    within("p4.switch.queue_packets", p4.switch.queue_packets, 1, 65_536, problems);
    for (name, rate) in &p4.switch.port_rates_mbps {
        let field = format!("p4.switch.port_rates_mbps.{name}");
        within(&field, *rate, 1, 400_000, problems);
        if !config.ports.iter().any(|port| port.name == *name) {
            problems.push(Problem::new(field, "the name of one of ports", quoted(name)));
        }
    }
    if p4.host_device.trim().is_empty() || p4.host_device.starts_with("p4:") {
        let expected = "a PCI address or a DPDK vdev, such as net_af_packet0,iface=host";
        problems.push(Problem::new("p4.host_device", expected, quoted(&p4.host_device)));
    }
    for (i, port) in config.ports.iter().enumerate() {
        match port.p4_port() {
            Some(number) if number > P4_PORT_MAX => {
                let expected = format!("p4:0 to p4:{P4_PORT_MAX}");
                problems.push(Problem::new(
                    format!("ports[{i}].device"),
                    expected,
                    quoted(&port.device),
                ));
            }
            Some(number) if number == p4.host_port => {
                let expected = "another port than p4.host_port";
                problems.push(Problem::new(
                    format!("ports[{i}].device"),
                    expected,
                    quoted(&port.device),
                ));
            }
            Some(_) => {}
            None => {
                let problem = Problem::new(
                    format!("ports[{i}].device"),
                    "a port of the P4 target, such as p4:1",
                    quoted(&port.device),
                );
                problems.push(problem.hint("with `p4`, all ports are the target's"));
            }
        }
        if port.mac.is_none() {
            let expected = "a hardware address such as \"02:00:00:00:00:03\"";
            problems.push(
                Problem::new(format!("ports[{i}].mac"), expected, "none")
                    .hint("ports of a P4 target have none of their own"),
            );
        }
    }
}

/// Queues in front of the ports: their packets stay in the pool, beside those in buffers.
fn egress(config: &Config, problems: &mut Vec<Problem>) {
    let mut queued = 0;
    for (i, port) in config.ports.iter().enumerate() {
        let Some(egress) = &port.egress else { continue };
        let field = |f: &str| format!("ports[{i}].egress{f}");
        if config.p4.is_some() {
            let problem = Problem::new(field(""), "none with a P4 target", "queues");
            problems.push(problem.hint("its ports have queues of their own, in which upf-host's packets wait too; p4.switch has rates for the embedded one"));
        }
        if let Some(rate) = egress.rate_mbps {
            within(&field(".rate_mbps"), rate, 1, 400_000, problems);
        }
        within(&field(".burst_us"), egress.burst_us, 0, 100_000, problems);
        if egress.weights.len() > 8 {
            let found = format!("{} of them", egress.weights.len());
            problems.push(Problem::new(field(".weights"), "at most 8, one for each queue", found));
        }
        for (j, weight) in egress.weights.iter().enumerate().filter(|(_, weight)| **weight == 0) {
            let problem = Problem::new(field(&format!(".weights[{j}]")), "1 to 255", weight.to_string());
            problems.push(problem.hint("a queue without a share would never be served"));
        }
        within(&field(".queue_packets"), egress.queue_packets, 1, 65_536, problems);
        within(&field(".queue_ms"), egress.queue_ms, 1, 10_000, problems);
        within(
            &field(".ecn_threshold_us"),
            egress.ecn_threshold_us,
            0,
            1_000_000,
            problems,
        );
        queued += egress.packets() * config.host.lcores.len() as u64;
    }
    let buffered = u64::from(config.host.buffering.packets_total);
    let needed = queued + buffered;
    if queued > 0 && needed >= config.host.mempool_packets.into() {
        let expected = format!("more than {needed} packet buffers");
        problems.push(
            Problem::new(
                "host.mempool_packets",
                expected,
                config.host.mempool_packets.to_string(),
            )
            .hint(format!(
                "{queued} may wait in the ports' queues, eight at each lcore, and {buffered} in host.buffering"
            )),
        );
    }
}

fn ports(config: &Config, problems: &mut Vec<Problem>) {
    if config.ports.is_empty() || config.ports.len() > PORTS_MAX {
        let found = format!("{} of them", config.ports.len());
        problems.push(Problem::new("ports", format!("1 to {PORTS_MAX} ports"), found));
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut devices: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<IpAddr, String> = HashMap::new();
    for (i, port) in config.ports.iter().enumerate() {
        let field = |f: &str| format!("ports[{i}].{f}");
        name(field("name"), &port.name, problems);
        unique(&mut names, &port.name, i, field("name"), "ports", problems);
        if port.device.trim().is_empty() {
            let expected = "a PCI address or a DPDK vdev, such as net_af_packet0,iface=eth1";
            problems.push(Problem::new(field("device"), expected, quoted(&port.device)));
        }
        unique(&mut devices, &port.device, i, field("device"), "ports", problems);
        port_link(port, &field, problems);
        port_role(config, port, &field, problems);
        for (j, address) in port.addresses.iter().enumerate() {
            let field = format!("ports[{i}].addresses[{j}]");
            own_address(*address, &field, problems);
            if let Some(first) = addresses.get(&address.addr) {
                problems.push(Problem::new(
                    field,
                    "an address no port has",
                    format!("{}, that of {first}", address.addr),
                ));
            } else {
                addresses.insert(address.addr, field);
            }
        }
    }
}

/// Of a list whose elements are told apart by a key.
fn unique<'a>(
    seen: &mut HashMap<&'a str, usize>,
    key: &'a str,
    index: usize,
    field: String,
    list: &str,
    problems: &mut Vec<Problem>,
) {
    if let Some(first) = seen.insert(key, index) {
        let found = format!("{}, that of {list}[{first}]", quoted(key));
        problems.push(Problem::new(field, "each one once", found));
    }
}

fn port_link(port: &Port, field: &impl Fn(&str) -> String, problems: &mut Vec<Problem>) {
    if let Some(mac) = &port.mac {
        match parse_mac(mac) {
            Some(octets) if octets[0] & 1 == 0 && octets != [0; 6] => {}
            _ => {
                let expected = "a unicast hardware address, such as 02:00:00:00:00:01";
                problems.push(Problem::new(field("mac"), expected, quoted(mac)));
            }
        }
    }
    if let Some(vlan) = port.vlan {
        within(&field("vlan"), vlan, 1, 4_094, problems);
    }
    // RFC 8200 section 5: IPv6 needs 1280.
    let ipv6 = port.addresses.iter().any(|a| a.addr.is_ipv6());
    within(&field("mtu"), port.mtu, if ipv6 { 1_280 } else { 576 }, 9_600, problems);
}

/// `02:00:00:00:00:01`: six octets of two hexadecimal digits.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts
            .next()
            .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

fn port_role(config: &Config, port: &Port, field: &impl Fn(&str) -> String, problems: &mut Vec<Problem>) {
    if !config.network_instances.iter().any(|n| n.name == port.network_instance) {
        let known: Vec<&str> = config.network_instances.iter().map(|n| n.name.as_str()).collect();
        let expected = format!("the name of one of network_instances: {}", known.join(", "));
        let problem = Problem::new(field("network_instance"), expected, quoted(&port.network_instance));
        problems.push(match nearest(&port.network_instance, &known) {
            Some(near) => problem.hint(format!("did you mean {near}?")),
            None => problem,
        });
    }
    if port.interfaces.is_empty() {
        let expected = "at least one of access, core, sgi-lan";
        problems.push(Problem::new(field("interfaces"), expected, "an empty list"));
    }
    for (i, interface) in port.interfaces.iter().enumerate() {
        if port.interfaces[..i].contains(interface) {
            problems.push(Problem::new(
                format!("{}[{i}]", field("interfaces")),
                "each one once",
                "it again",
            ));
        }
    }
    if port.gtpu && port.addresses.is_empty() {
        let problem = Problem::new(
            field("addresses"),
            "at least one address, since gtpu is true",
            "an empty list",
        );
        problems.push(problem.hint("the addresses of a gtpu port are the GTP-U endpoints"));
    }
}

fn own_address(address: Prefix, field: &str, problems: &mut Vec<Problem>) {
    let wide = match address.addr {
        IpAddr::V4(a) => {
            address.len < 31 && {
                let host_bits = u32::MAX.checked_shr(u32::from(address.len)).unwrap_or(0);
                let host = a.to_bits() & host_bits;
                host == 0 || host == host_bits
            }
        }
        IpAddr::V6(_) => false,
    };
    let usable = !address.addr.is_unspecified() && !address.addr.is_multicast() && !address.addr.is_loopback();
    if address.len == 0 || !usable {
        problems.push(Problem::new(
            field,
            "a unicast address with its prefix length",
            address.to_string(),
        ));
    } else if wide {
        problems.push(
            Problem::new(
                field,
                "one address and the prefix it is in, such as 192.0.2.1/24",
                address.to_string(),
            )
            .hint("this is the network's or its broadcast address"),
        );
    }
}

fn network_instances(config: &Config, problems: &mut Vec<Problem>) {
    if config.network_instances.len() > 1_024 {
        let found = format!("{} of them", config.network_instances.len());
        problems.push(Problem::new("network_instances", "at most 1024", found));
        return;
    }
    let mut names = HashMap::new();
    for (i, instance) in config.network_instances.iter().enumerate() {
        let field = |f: &str| format!("network_instances[{i}].{f}");
        if instance.name.is_empty() || instance.name.len() > 253 || instance.name.chars().any(char::is_control) {
            let found = quoted(&instance.name);
            problems.push(Problem::new(
                field("name"),
                "1 to 253 printable characters, as the SMF names it",
                found,
            ));
        }
        unique(
            &mut names,
            &instance.name,
            i,
            field("name"),
            "network_instances",
            problems,
        );
        routes(config, instance, &field("routes"), problems);
        pools(config, i, problems);
    }
}

fn routes(config: &Config, instance: &NetworkInstance, field: &str, problems: &mut Vec<Problem>) {
    let ports = || config.ports.iter().filter(|p| p.network_instance == instance.name);
    let on_link = || {
        ports()
            .flat_map(|p| &p.addresses)
            .filter_map(|a| IpPrefix::new(a.addr, a.len))
    };
    // A port whose instance is misspelt is reported already; where it belongs is not known.
    let misplaced = config
        .ports
        .iter()
        .any(|p| config.network_instances.iter().all(|n| n.name != p.network_instance));
    let mut seen: HashMap<IpPrefix, usize> = HashMap::new();
    for (i, route) in instance.routes.iter().enumerate() {
        let (prefix_field, via_field) = (format!("{field}[{i}].prefix"), format!("{field}[{i}].via"));
        let Some(prefix) = network(route.prefix, &prefix_field, problems) else {
            continue;
        };
        if let Some(first) = seen.insert(prefix, i) {
            problems.push(Problem::new(
                prefix_field,
                "each prefix once",
                format!("{prefix}, that of {field}[{first}]"),
            ));
        }
        let found = route.via.to_string();
        if route.via.is_ipv4() != prefix.addr().is_ipv4() {
            problems.push(Problem::new(via_field, "an address of the prefix's family", found));
        } else if ports().flat_map(|p| &p.addresses).any(|a| a.addr == route.via) {
            problems.push(Problem::new(
                via_field,
                "the next hop's address",
                format!("{found}, which is our own"),
            ));
        } else if !misplaced && !on_link().any(|prefix| prefix.contains(route.via)) {
            let expected = format!("an address on-link at a port of {}", quoted(&instance.name));
            let prefixes: Vec<String> = ports().flat_map(|p| &p.addresses).map(ToString::to_string).collect();
            problems.push(Problem::new(via_field, expected, found).hint(if prefixes.is_empty() {
                "no port of this network instance has an address".to_owned()
            } else {
                format!("its ports have {}", prefixes.join(", "))
            }));
        }
    }
}

/// A prefix of a network: without host bits.
fn network(prefix: Prefix, field: &str, problems: &mut Vec<Problem>) -> Option<IpPrefix> {
    let network = IpPrefix::new(prefix.addr, prefix.len)?;
    if network.addr() != prefix.addr {
        let problem = Problem::new(field, "a prefix without host bits", prefix.to_string());
        problems.push(problem.hint(format!("did you mean {network}?")));
    }
    Some(network)
}

/// TS 29.244 5.21: the UPF allocates from its pools; IPv6 users get a /64 each.
fn pools(config: &Config, index: usize, problems: &mut Vec<Problem>) {
    let instance = &config.network_instances[index];
    let mut accepted: Vec<IpPrefix> = Vec::new();
    for (i, pool) in instance.ue_pools.iter().enumerate() {
        let field = format!("network_instances[{index}].ue_pools[{i}]");
        let Some(prefix) = network(*pool, &field, problems) else {
            continue;
        };
        let (short, long) = if prefix.addr().is_ipv4() { (8, 32) } else { (16, 64) };
        if prefix.len() < short || prefix.len() > long {
            let expected = format!("a length from {short} to {long}");
            let mut problem = Problem::new(field.as_str(), expected, prefix.to_string());
            if prefix.addr().is_ipv6() && prefix.len() > long {
                problem = problem.hint("each user gets a /64 of it");
            }
            problems.push(problem);
        }
        if prefix.addr().is_multicast() || prefix.addr().is_loopback() {
            problems.push(Problem::new(field.as_str(), "unicast addresses", prefix.to_string()));
        }
        if let Some(other) = accepted
            .iter()
            .find(|o| o.contains(prefix.addr()) || prefix.contains(o.addr()))
        {
            problems.push(Problem::new(
                field.as_str(),
                "pools apart from each other",
                format!("{prefix} and {other}"),
            ));
        }
        let own = config
            .ports
            .iter()
            .filter(|p| p.network_instance == instance.name)
            .flat_map(|p| &p.addresses);
        if let Some(ours) = own.map(|a| a.addr).find(|&a| prefix.contains(a)) {
            problems.push(Problem::new(
                field,
                "a pool without our own addresses",
                format!("{prefix}, with {ours} in it"),
            ));
        }
        accepted.push(prefix);
    }
}
