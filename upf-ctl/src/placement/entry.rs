//! Entries of `p4/upf.p4` as values: what a plan consists of, what two plans differ in, what a target is asked to write.
//! How they travel is the target's ([`crate::planes::p4::Target`]) to know.

use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use upf_model::{Ipv4Prefix, Ipv6Prefix};

/// A hardware address.
pub type Mac = [u8; 6];

/// Tables of the program, in the order in which packets meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the program's")]
pub enum Table {
    HostPorts,
    MyStation,
    EndpointsV4,
    EndpointsV6,
    UplinkSessions,
    DownlinkSessionsV4,
    DownlinkSessionsV6,
    Flows,
    Rules,
    Fars,
    RoutesV4,
    RoutesV6,
    NextHops,
    Reasons,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 14] = [
        Self::HostPorts,
        Self::MyStation,
        Self::EndpointsV4,
        Self::EndpointsV6,
        Self::UplinkSessions,
        Self::DownlinkSessionsV4,
        Self::DownlinkSessionsV6,
        Self::Flows,
        Self::Rules,
        Self::Fars,
        Self::RoutesV4,
        Self::RoutesV6,
        Self::NextHops,
        Self::Reasons,
    ];

    /// Its name in P4Info.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostPorts => "host_ports",
            Self::MyStation => "my_station",
            Self::EndpointsV4 => "endpoints_v4",
            Self::EndpointsV6 => "endpoints_v6",
            Self::UplinkSessions => "uplink_sessions",
            Self::DownlinkSessionsV4 => "downlink_sessions_v4",
            Self::DownlinkSessionsV6 => "downlink_sessions_v6",
            Self::Flows => "flows",
            Self::Rules => "rules",
            Self::Fars => "fars",
            Self::RoutesV4 => "routes_v4",
            Self::RoutesV6 => "routes_v6",
            Self::NextHops => "next_hops",
            Self::Reasons => "reasons",
        }
    }
}

/// The key of a flow: what is left of a packet under its session's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FlowFields {
    /// From the data network.
    pub downlink: bool,
    /// Its family.
    pub ipv6: bool,
    /// The far end; an IPv4 address is the low 32 bits.
    pub remote: u128,
    /// The user's end.
    pub ue: u128,
    /// The far end's port.
    pub remote_port: u16,
    /// The user's port.
    pub ue_port: u16,
    /// Protocol, or next header.
    pub protocol: u8,
    /// ToS or traffic class octet.
    pub tos: u8,
    /// 0x80 and the QoS flow; 0: none.
    pub qfi: u8,
}

/// A table with a key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the program's")]
pub enum Key {
    HostPort(u16),
    Station { port: u16, vlan: u16, mac: Mac },
    EndpointV4 { arrival: u16, addr: Ipv4Addr },
    EndpointV6 { arrival: u16, addr: Ipv6Addr },
    Uplink { endpoint: u16, teid: u32 },
    DownlinkV4 { arrival: u16, ue: Ipv4Addr },
    DownlinkV6 { arrival: u16, prefix: u64 },
    Flow { session: u32, epoch: u32, flow: FlowFields },
    Rule(u32),
    Far(u32),
    RouteV4 { instance: u16, prefix: Ipv4Prefix },
    RouteV6 { instance: u16, prefix: Ipv6Prefix },
    NextHop(u32),
    Reason(u8),
}

impl Key {
    /// The table that it is a key of.
    pub const fn table(&self) -> Table {
        match self {
            Self::HostPort(_) => Table::HostPorts,
            Self::Station { .. } => Table::MyStation,
            Self::EndpointV4 { .. } => Table::EndpointsV4,
            Self::EndpointV6 { .. } => Table::EndpointsV6,
            Self::Uplink { .. } => Table::UplinkSessions,
            Self::DownlinkV4 { .. } => Table::DownlinkSessionsV4,
            Self::DownlinkV6 { .. } => Table::DownlinkSessionsV6,
            Self::Flow { .. } => Table::Flows,
            Self::Rule(_) => Table::Rules,
            Self::Far(_) => Table::Fars,
            Self::RouteV4 { .. } => Table::RoutesV4,
            Self::RouteV6 { .. } => Table::RoutesV6,
            Self::NextHop(_) => Table::NextHops,
            Self::Reason(_) => Table::Reasons,
        }
    }

    /// Whether packets that came in a tunnel are looked up by it.
    pub const fn is_uplink(&self) -> bool {
        matches!(self, Self::Uplink { .. })
    }
}

/// What a session's packets are told apart by; the rest of their bits is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct FlowMask {
    /// Of the far end's address.
    pub remote: u128,
    /// Of the user's address.
    pub ue: u128,
    /// Of the far end's port.
    pub remote_port: u16,
    /// Of the user's port.
    pub ue_port: u16,
    /// Of the protocol.
    pub protocol: u8,
    /// Of the ToS octet.
    pub tos: u8,
    /// Of the QoS flow.
    pub qfi: u8,
}

impl std::ops::BitOrAssign for FlowMask {
    fn bitor_assign(&mut self, o: Self) {
        self.remote |= o.remote;
        self.ue |= o.ue;
        self.remote_port |= o.remote_port;
        self.ue_port |= o.ue_port;
        self.protocol |= o.protocol;
        self.tos |= o.tos;
        self.qfi |= o.qfi;
    }
}

/// Which addresses a session's uplink packets may come from, as far as the target knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Sources {
    /// This one.
    pub v4: Option<Ipv4Addr>,
    /// This /64.
    pub v6: Option<u64>,
    /// There are others: the host knows them.
    pub others: bool,
    /// From everywhere.
    pub any: bool,
}

impl Sources {
    /// As the program has them.
    pub fn bits(&self) -> u8 {
        u8::from(self.v4.is_some())
            | u8::from(self.v6.is_some()) << 1
            | u8::from(self.others) << 2
            | u8::from(self.any) << 3
    }
}

/// Transport level marking: value and mask.
pub type Marking = (u8, u8);

/// What a packet's PDR says of it, besides where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the program's")]
pub struct Forward {
    pub cell: u32,
    pub far: u32,
    pub flow_meter: u32,
    pub session_meter: u32,
    pub usual_overhead: u8,
    pub queue: u8,
    pub mark_qfi: u8,
    pub rqi: bool,
    pub ppi: u8,
}

/// An action with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the program's")]
pub enum Action {
    Host,
    Station {
        arrival: u16,
    },
    Endpoint {
        id: u16,
    },
    OnHost {
        session: u32,
        epoch: u32,
    },
    /// `sources`: uplink only.
    Direct {
        session: u32,
        epoch: u32,
        sources: Option<Sources>,
        rule: u32,
    },
    /// `sources`: uplink only.
    ByFlow {
        session: u32,
        epoch: u32,
        sources: Option<Sources>,
        mask: FlowMask,
    },
    Flow {
        rule: u32,
    },
    Forward(Forward),
    GateClosed {
        cell: u32,
    },
    Plain {
        instance: u16,
        marking: Marking,
    },
    TunnelV4 {
        instance: u16,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        teid: u32,
        marking: Marking,
    },
    TunnelV6 {
        instance: u16,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        teid: u32,
        marking: Marking,
    },
    Drop,
    Buffer,
    FarOnHost,
    /// One next hop, or several of equal cost.
    Via(Vec<u32>),
    OnLink,
    NextHop {
        port: u16,
        dst: Mac,
        src: Mac,
        vlan: u16,
        mtu: u16,
    },
    /// `per_second`: packets of this reason.
    Punt {
        port: u16,
        limit_users: bool,
        per_second: u32,
    },
    Discard,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Entry {
    /// Table and key.
    pub key: Key,
    /// What it does.
    pub action: Action,
}

impl Entry {
    /// Of these.
    pub const fn new(key: Key, action: Action) -> Self {
        Self { key, action }
    }
}

/// A cell of a meter array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterCell {
    /// Of a flow: the first that a packet meets.
    Flow(u32),
    /// Of a session.
    Session(u32),
    /// Of punted packets of users that share it by hash.
    PuntUsers(u32),
}

/// Rates of a meter, in the meter's unit a second: bytes, or packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Rates {
    /// Committed.
    pub cir: u64,
    /// Committed burst.
    pub cburst: u64,
    /// Peak: what is over it is red.
    pub pir: u64,
    /// Peak burst.
    pub pburst: u64,
}

impl Rates {
    /// So many packets a second, and a tenth of a second's at once.
    pub fn packets(per_second: u32) -> Self {
        let (rate, burst) = (u64::from(per_second), u64::from(per_second / 10).max(32));
        Self {
            cir: rate,
            cburst: burst,
            pir: rate,
            pburst: burst,
        }
    }
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// A new entry.
    Insert(Entry),
    /// Another action for an entry that is there.
    Modify(Entry),
    /// An entry less.
    Delete(Key),
    /// Rates of a meter cell.
    Meter(MeterCell, Rates),
}

impl Write {
    /// The key it writes; none for a meter.
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Insert(entry) | Self::Modify(entry) => Some(&entry.key),
            Self::Delete(key) => Some(key),
            Self::Meter(..) => None,
        }
    }
}
