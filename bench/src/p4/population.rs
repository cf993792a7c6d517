//! The usual session, many times, as entries of the program.

use super::Outcome;
use p4runtime::entity;
use p4runtime::{P4Info, TableEntry, v1};
use std::net::Ipv4Addr;

/// Port towards the gNB, the data network and the host.
pub const N3: u32 = 1;
/// See [`N3`].
pub const N6: u32 = 2;
/// See [`N3`].
pub const HOST: u32 = 3;
/// Our hardware address at both ports, and that of both neighbours.
pub const STATION: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
/// See [`STATION`].
pub const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 0xcc];
/// The UPF on N3.
pub const UPF_N3: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
/// The gNB.
pub const GNB: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
/// The QoS flow of all sessions.
pub const QFI: u8 = 9;

const ACCESS: u32 = 1;
const INTERNET: u32 = 2;
const ENDPOINT: u32 = 7;
/// Bytes a second: more than any port.
const RATE: i64 = 10_000_000_000;
const BURST: i64 = 1_000_000_000;

/// Sessions 0 to N.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    /// N.
    pub sessions: u32,
}

/// The UE of a session.
pub const fn ue(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + number)
}

/// Its uplink tunnel.
pub const fn uplink_teid(number: u32) -> u32 {
    number + 1
}

impl Population {
    pub const fn new(sessions: u32) -> Self {
        Self { sessions }
    }

    /// What does not belong to a session.
    pub fn world(info: &P4Info) -> Outcome<Vec<v1::Update>> {
        let mut updates = Vec::new();
        for (port, instance) in [(N3, ACCESS), (N6, INTERNET)] {
            let station = TableEntry::new(info, "my_station")
                .match_exact("ingress_port", port)
                .match_exact("vlan", 0u32)
                .match_exact("dst_mac", &STATION[..]);
            updates.push(station.action("station").param("network_instance", instance).insert()?);
            let next_hop = TableEntry::new(info, "next_hops")
                .match_exact("next_hop", port)
                .action("next_hop");
            let next_hop = next_hop
                .param("port", port)
                .param("dst_mac", &NEIGHBOUR[..])
                .param("src_mac", &STATION[..])
                .param("vlan", 0u32)
                .param("mtu", 1_500u32);
            updates.push(next_hop.insert()?);
            let route = TableEntry::new(info, "routes_v4")
                .match_exact("network_instance", instance)
                .match_lpm("destination", 0u32, 0);
            updates.push(route.one_shot().action("via").param("next_hop", port).insert()?);
        }
        let endpoint = TableEntry::new(info, "endpoints_v4")
            .match_exact("network_instance", ACCESS)
            .match_exact("address", UPF_N3);
        updates.push(endpoint.action("endpoint").param("id", ENDPOINT).insert()?);
        let host = TableEntry::new(info, "host_ports").match_exact("ingress_port", HOST);
        updates.push(host.action("host").insert()?);
        for reason in 1..30u32 {
            let punt = TableEntry::new(info, "reasons")
                .match_exact("reason", reason)
                .action("punt");
            updates.push(punt.param("port", HOST).param("limit_users", 0u32).insert()?);
        }
        Ok(updates)
    }

    /// Entries of one session: two session entries, two rules, two FARs.
    pub fn session(info: &P4Info, number: u32) -> Outcome<[v1::Update; 6]> {
        let (up, down) = (2 * number + 2, 2 * number + 3);
        let uplink = TableEntry::new(info, "uplink_sessions")
            .match_exact("endpoint", ENDPOINT)
            .match_exact("teid", uplink_teid(number))
            .action("uplink_direct")
            .param("session", number)
            .param("epoch", 1u32)
            .param("sources", 1u32)
            .param("source_v4", ue(number))
            .param("source_v6", 0u64)
            .param("rule", up);
        let downlink = TableEntry::new(info, "downlink_sessions_v4")
            .match_exact("network_instance", INTERNET)
            .match_exact("ue_address", ue(number))
            .action("downlink_direct")
            .param("session", number)
            .param("epoch", 1u32)
            .param("rule", down);
        // Bytes around the user's packet: the tunnel and Ethernet uplink, Ethernet downlink.
        let rule = |rule: u32, overhead: u32| {
            TableEntry::new(info, "rules")
                .match_exact("rule", rule)
                .action("forward")
                .param("cell", rule)
                .param("far", rule)
                .param("flow_meter", rule)
                .param("session_meter", 0u32)
                .param("usual_overhead", overhead)
                .param("queue", 3u32)
                .param("mark_qfi", u32::from(0x80 | QFI))
                .param("rqi", 0u32)
                .param("ppi", 0u32)
        };
        let plain = TableEntry::new(info, "fars").match_exact("far", up).action("plain");
        let plain = plain
            .param("network_instance", INTERNET)
            .param("mark_value", 0u32)
            .param("mark_mask", 0u32);
        let tunnel = TableEntry::new(info, "fars")
            .match_exact("far", down)
            .action("tunnel_v4");
        let tunnel = tunnel
            .param("network_instance", ACCESS)
            .param("src", UPF_N3)
            .param("dst", GNB)
            .param("teid", 0x100_0000 + number)
            .param("mark_value", 0u32)
            .param("mark_mask", 0u32);
        Ok([
            plain.insert()?,
            tunnel.insert()?,
            rule(up, 58).insert()?,
            rule(down, 14).insert()?,
            uplink.insert()?,
            downlink.insert()?,
        ])
    }

    /// The meters of one session, which are never exceeded.
    pub fn meters(info: &P4Info, number: u32) -> Outcome<[v1::Update; 2]> {
        let config = v1::MeterConfig {
            cir: RATE,
            cburst: BURST,
            pir: RATE,
            pburst: BURST,
            ..Default::default()
        };
        let meter = |cell: u32| -> Outcome<v1::Update> {
            let entry = entity::meter(info, "flow_meters", Some(i64::from(cell)), Some(config))?;
            Ok(entity::modify(entry))
        };
        Ok([meter(2 * number + 2)?, meter(2 * number + 3)?])
    }

    /// Everything, in the order in which upf-ctl writes it.
    pub fn updates(self, info: &P4Info) -> Outcome<Vec<v1::Update>> {
        let mut updates = Self::world(info)?;
        for number in 0..self.sessions {
            updates.extend(Self::meters(info, number)?);
            updates.extend(Self::session(info, number)?);
        }
        Ok(updates)
    }
}
