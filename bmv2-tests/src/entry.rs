//! The tables of `p4/` as types: what a test may write into a target, and how it travels.
//!
//! Names are the program's. An [`Entry`] becomes an update by the names in P4Info, so a table, key or parameter that is
//! renamed in `p4/` fails here and not as a packet that goes astray.

use p4runtime::{EntryError, P4Info, TableEntry, Value, v1};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::punt::PuntReason;

/// A hardware address.
pub type Mac = [u8; 6];

/// One entry of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `host_ports`: the host is at this port.
    HostPort(u16),
    /// `my_station`: frames to this address are ours.
    Station {
        /// Ingress port.
        port: u16,
        /// VLAN identifier; 0: untagged.
        vlan: u16,
        /// Hardware address.
        mac: Mac,
        /// Network instance of its packets.
        instance: u16,
    },
    /// `endpoints_v4`, `endpoints_v6`: tunnels end at this address.
    Endpoint {
        /// Network instance.
        instance: u16,
        /// The address.
        address: IpAddr,
        /// Its number, in `uplink_sessions`.
        id: u16,
    },
    /// `uplink_sessions`.
    UplinkSession {
        /// The endpoint at which the tunnel ends.
        endpoint: u16,
        /// The tunnel.
        teid: u32,
        /// Addresses that its packets may come from.
        sources: Sources,
        /// What the target knows of the session.
        session: Session,
    },
    /// `downlink_sessions_v4`, `downlink_sessions_v6`.
    DownlinkSession {
        /// Network instance of the packets.
        instance: u16,
        /// The UE's address; of IPv6 the first 64 bits.
        ue: IpAddr,
        /// What the target knows of the session.
        session: Session,
    },
    /// `flows`.
    Flow {
        /// Session.
        session: u32,
        /// Version of its rules.
        epoch: u32,
        /// From the UE.
        uplink: bool,
        /// IPv6 inside.
        ipv6: bool,
        /// The packet's fields under the session's mask.
        fields: FlowFields,
        /// The winner.
        rule: u32,
    },
    /// `rules`.
    Rule {
        /// Its number.
        rule: u32,
        /// What it says.
        does: RuleAction,
    },
    /// `fars`.
    Far {
        /// Its number.
        far: u32,
        /// What it says.
        does: FarAction,
    },
    /// `routes_v4`, `routes_v6`.
    Route {
        /// Network instance of the route.
        instance: u16,
        /// Destination.
        prefix: (IpAddr, u32),
        /// Next hops of equal cost; none: the destination is on the link.
        via: Vec<u32>,
    },
    /// `next_hops`.
    NextHop {
        /// Its number.
        hop: u32,
        /// Egress port.
        port: u16,
        /// The neighbour's hardware address.
        dst: Mac,
        /// Ours.
        src: Mac,
        /// VLAN identifier; 0: untagged.
        vlan: u16,
        /// Longest IP packet.
        mtu: u16,
    },
    /// `reasons`.
    Reason {
        /// Why a packet leaves the fast path.
        reason: PuntReason,
        /// What becomes of it.
        does: ReasonAction,
    },
}

/// How a session is held in the target, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// One rule takes every packet.
    Direct {
        /// Session.
        session: u32,
        /// Version of its rules.
        epoch: u32,
        /// The rule.
        rule: u32,
    },
    /// Look in `flows`.
    ByFlow {
        /// Session.
        session: u32,
        /// Version of its rules.
        epoch: u32,
        /// What its rules look at.
        mask: FlowFields,
    },
    /// Everything is punted.
    OnHost {
        /// Session.
        session: u32,
        /// Version of its rules.
        epoch: u32,
    },
}

/// Which source addresses an uplink session accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// All.
    Any,
    /// One IPv4 address, one IPv6 /64, or both.
    Only(Option<Ipv4Addr>, Option<Ipv6Addr>),
}

/// Fields of a packet, or a mask of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowFields {
    /// The far end; IPv4 in the low 32 bits.
    pub remote: u128,
    /// The UE's end.
    pub ue: u128,
    /// The far end's port.
    pub remote_port: u16,
    /// The UE's port.
    pub ue_port: u16,
    /// Protocol or next header.
    pub protocol: u8,
    /// ToS or traffic class.
    pub tos: u8,
    /// 0x80 and the QFI; 0: none.
    pub qfi: u8,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// `forward`.
    Forward(Rule),
    /// `gate_closed`.
    GateClosed {
        /// Counter cell.
        cell: u32,
    },
}

/// The parameters of `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Counter cell.
    pub cell: u32,
    /// FAR.
    pub far: u32,
    /// Cell of the flow's meter; 0: none.
    pub flow_meter: u32,
    /// Cell of the session's meter; 0: none.
    pub session_meter: u32,
    /// Bytes around the user's packet in most frames.
    pub usual_overhead: u8,
    /// Priority queue.
    pub queue: u8,
    /// QFI to mark with; none: keep the packet's own.
    pub qfi: Option<u8>,
    /// Reflective QoS.
    pub rqi: bool,
    /// Paging policy indicator.
    pub ppi: Option<u8>,
}

/// What a FAR says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarAction {
    /// `plain`.
    Plain {
        /// Network instance of the way out.
        instance: u16,
        /// Transport level marking: value and mask.
        mark: (u8, u8),
    },
    /// `tunnel_v4` or `tunnel_v6`, as its addresses are.
    Tunnel {
        /// Network instance of the way out.
        instance: u16,
        /// Our end.
        src: IpAddr,
        /// The peer.
        dst: IpAddr,
        /// The peer's TEID.
        teid: u32,
        /// Transport level marking: value and mask.
        mark: (u8, u8),
    },
    /// `drop`.
    Drop,
    /// `buffer`.
    Buffer,
    /// `on_host`.
    OnHost,
}

/// What becomes of packets of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonAction {
    /// To the host.
    Punt {
        /// The host's port.
        port: u16,
        /// Users are limited one by one.
        limit_users: bool,
        /// Packets a second and burst of all of this reason.
        limit: Option<(u32, u32)>,
    },
    /// Dropped.
    Discard,
}

impl Entry {
    /// As a message.
    ///
    /// # Errors
    /// A name or width that P4Info does not have.
    pub fn message(&self, info: &P4Info) -> Result<v1::TableEntry, EntryError> {
        self.typed(info).build()
    }

    fn typed<'i>(&self, info: &'i P4Info) -> TableEntry<'i> {
        match self {
            Self::HostPort(port) => TableEntry::new(info, "host_ports")
                .match_exact("ingress_port", *port)
                .action("host"),
            Self::Station {
                port,
                vlan,
                mac,
                instance,
            } => TableEntry::new(info, "my_station")
                .match_exact("ingress_port", *port)
                .match_exact("vlan", *vlan)
                .match_exact("dst_mac", *mac)
                .action("station")
                .param("network_instance", *instance),
            Self::Endpoint { instance, address, id } => {
                let table = by_family(*address, "endpoints_v4", "endpoints_v6");
                TableEntry::new(info, table)
                    .match_exact("network_instance", *instance)
                    .match_exact("address", *address)
                    .action("endpoint")
                    .param("id", *id)
            }
            Self::UplinkSession {
                endpoint,
                teid,
                sources,
                session,
            } => {
                let entry = TableEntry::new(info, "uplink_sessions")
                    .match_exact("endpoint", *endpoint)
                    .match_exact("teid", *teid);
                session.action(entry, Some(*sources))
            }
            Self::DownlinkSession { instance, ue, session } => {
                let (table, field, value): (_, _, Value) = match ue {
                    IpAddr::V4(ue) => ("downlink_sessions_v4", "ue_address", (*ue).into()),
                    IpAddr::V6(ue) => ("downlink_sessions_v6", "ue_prefix", prefix_64(*ue).into()),
                };
                let entry = TableEntry::new(info, table)
                    .match_exact("network_instance", *instance)
                    .match_exact(field, value);
                session.action(entry, None)
            }
            Self::Flow {
                session,
                epoch,
                uplink,
                ipv6,
                fields,
                rule,
            } => TableEntry::new(info, "flows")
                .match_exact("session", *session)
                .match_exact("epoch", *epoch)
                .match_exact("direction", !*uplink)
                .match_exact("ipv6", *ipv6)
                .match_exact("remote", fields.remote)
                .match_exact("ue", fields.ue)
                .match_exact("remote_port", fields.remote_port)
                .match_exact("ue_port", fields.ue_port)
                .match_exact("protocol", fields.protocol)
                .match_exact("tos", fields.tos)
                .match_exact("qfi", fields.qfi)
                .action("flow")
                .param("rule", *rule),
            Self::Rule { rule, does } => does.action(TableEntry::new(info, "rules").match_exact("rule", *rule)),
            Self::Far { far, does } => does.action(TableEntry::new(info, "fars").match_exact("far", *far)),
            Self::Route {
                instance,
                prefix: (address, len),
                via,
            } => {
                let table = by_family(*address, "routes_v4", "routes_v6");
                let entry = TableEntry::new(info, table)
                    .match_exact("network_instance", *instance)
                    .match_lpm("destination", *address, *len)
                    .one_shot();
                match via.as_slice() {
                    [] => entry.action("on_link"),
                    hops => hops
                        .iter()
                        .fold(entry, |entry, hop| entry.action("via").param("next_hop", *hop)),
                }
            }
            Self::NextHop {
                hop,
                port,
                dst,
                src,
                vlan,
                mtu,
            } => TableEntry::new(info, "next_hops")
                .match_exact("next_hop", *hop)
                .action("next_hop")
                .param("port", *port)
                .param("dst_mac", *dst)
                .param("src_mac", *src)
                .param("vlan", *vlan)
                .param("mtu", *mtu),
            Self::Reason { reason, does } => {
                let entry = TableEntry::new(info, "reasons").match_exact("reason", *reason as u8);
                match does {
                    ReasonAction::Discard => entry.action("discard"),
                    ReasonAction::Punt {
                        port,
                        limit_users,
                        limit,
                    } => {
                        let entry = entry
                            .action("punt")
                            .param("port", *port)
                            .param("limit_users", *limit_users);
                        match limit {
                            None => entry,
                            Some((rate, burst)) => entry.meter(meter_config(*rate, *burst)),
                        }
                    }
                }
            }
        }
    }
}

impl Session {
    fn action<'i>(self, entry: TableEntry<'i>, sources: Option<Sources>) -> TableEntry<'i> {
        let side = if sources.is_some() { "uplink" } else { "downlink" };
        let begin = |entry: TableEntry<'i>, action: &str, session: u32, epoch: u32| {
            let entry = entry
                .action(format!("{side}_{action}").as_str())
                .param("session", session)
                .param("epoch", epoch);
            match sources {
                None => entry,
                Some(sources) => sources.params(entry),
            }
        };
        match self {
            Self::Direct { session, epoch, rule } => begin(entry, "direct", session, epoch).param("rule", rule),
            Self::ByFlow { session, epoch, mask } => begin(entry, "by_flow", session, epoch)
                .param("remote", mask.remote)
                .param("ue", mask.ue)
                .param("remote_port", mask.remote_port)
                .param("ue_port", mask.ue_port)
                .param("protocol", mask.protocol)
                .param("tos", mask.tos)
                .param("qfi", mask.qfi),
            Self::OnHost { session, epoch } => entry
                .action("sessions.on_host")
                .param("session", session)
                .param("epoch", epoch),
        }
    }
}

impl Sources {
    fn params(self, entry: TableEntry<'_>) -> TableEntry<'_> {
        let (bits, v4, v6) = match self {
            Self::Any => (8, None, None),
            Self::Only(v4, v6) => (u8::from(v4.is_some()) | u8::from(v6.is_some()) << 1, v4, v6),
        };
        entry
            .param("sources", bits)
            .param("source_v4", v4.unwrap_or(Ipv4Addr::UNSPECIFIED))
            .param("source_v6", v6.map_or(0, prefix_64))
    }
}

impl RuleAction {
    fn action(self, entry: TableEntry<'_>) -> TableEntry<'_> {
        match self {
            Self::GateClosed { cell } => entry.action("gate_closed").param("cell", cell),
            Self::Forward(rule) => entry
                .action("forward")
                .param("cell", rule.cell)
                .param("far", rule.far)
                .param("flow_meter", rule.flow_meter)
                .param("session_meter", rule.session_meter)
                .param("usual_overhead", rule.usual_overhead)
                .param("queue", rule.queue)
                .param("mark_qfi", rule.qfi.map_or(0, |qfi| 0x80 | qfi))
                .param("rqi", rule.rqi)
                .param("ppi", rule.ppi.map_or(0, |ppi| 8 | ppi)),
        }
    }
}

impl FarAction {
    fn action(self, entry: TableEntry<'_>) -> TableEntry<'_> {
        match self {
            Self::Plain { instance, mark } => {
                let entry = entry.action("plain").param("network_instance", instance);
                entry.param("mark_value", mark.0).param("mark_mask", mark.1)
            }
            Self::Tunnel {
                instance,
                src,
                dst,
                teid,
                mark,
            } => {
                let entry = entry
                    .action(by_family(dst, "tunnel_v4", "tunnel_v6"))
                    .param("network_instance", instance)
                    .param("src", src)
                    .param("dst", dst)
                    .param("teid", teid);
                entry.param("mark_value", mark.0).param("mark_mask", mark.1)
            }
            Self::Drop => entry.action("drop"),
            Self::Buffer => entry.action("buffer"),
            Self::OnHost => entry.action("fars.on_host"),
        }
    }
}

/// Rates of a meter: all beyond rate and burst is red.
pub fn meter_config(rate: u32, burst: u32) -> v1::MeterConfig {
    let (rate, burst) = (rate.into(), burst.into());
    v1::MeterConfig {
        cir: rate,
        cburst: burst,
        pir: rate,
        pburst: burst,
        ..Default::default()
    }
}

/// The first 64 bits of an address.
pub fn prefix_64(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

fn by_family<'a>(address: IpAddr, v4: &'a str, v6: &'a str) -> &'a str {
    if address.is_ipv4() { v4 } else { v6 }
}
