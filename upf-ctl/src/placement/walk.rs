//! A packet's way through a session's entries, as the program goes: from the session stage to the FAR. For explanations,
//! and for tests of plans. What comes before (parsing) and after (routes, meters) is the same for all sessions.

use super::entry::{Action, FlowFields, FlowMask, Forward, Key, Sources};
use serde::Serialize;
use std::net::IpAddr;
use upf_model::batch::FlowPacket;
use upf_model::punt::PuntReason;

/// How a packet came, with what rules can ask of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Endpoint and TEID, if it came in a tunnel; otherwise the number of its arrival.
    pub by: By,
    /// The user's packet.
    pub flow: FlowPacket,
    /// All that rules ask of was parsed.
    pub complete: bool,
}

/// By what its session is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// In a tunnel of ours.
    Tunnel {
        /// Its endpoint.
        endpoint: u16,
        /// Its TEID.
        teid: u32,
    },
    /// Plain, with the number of its arrival.
    Plain(u16),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It leaves the fast path; some reasons drop it.
    Leaves(#[serde(serialize_with = "reason_name")] PuntReason),
    /// It goes on by this rule and this FAR.
    Goes(Forward, Action),
}

fn reason_name<S: serde::Serializer>(reason: &PuntReason, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(reason.name())
}

/// A way: the keys that were looked up, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// In order.
    pub looked_up: Vec<Key>,
    /// The end.
    pub end: End,
    /// Cell of the counters, if a rule was found.
    pub cell: Option<u32>,
}

impl Packet {
    /// By what the session stage looks it up.
    pub fn session_key(&self) -> Key {
        match (self.by, self.flow.ue) {
            (By::Tunnel { endpoint, teid }, _) => Key::Uplink { endpoint, teid },
            (By::Plain(arrival), IpAddr::V4(ue)) => Key::DownlinkV4 { arrival, ue },
            (By::Plain(arrival), IpAddr::V6(ue)) => Key::DownlinkV6 {
                arrival,
                prefix: (ue.to_bits() >> 64) as u64,
            },
        }
    }

    /// What is left of it under a mask, as the program masks it: a packet without ports has ports 0.
    pub fn masked(&self, mask: &FlowMask) -> FlowFields {
        let bits = |addr| match addr {
            IpAddr::V4(a) => u128::from(a.to_bits()),
            IpAddr::V6(a) => a.to_bits(),
        };
        let (remote_port, ue_port) = self.flow.ports.unwrap_or_default();
        FlowFields {
            downlink: matches!(self.by, By::Plain(_)),
            ipv6: self.flow.ue.is_ipv6(),
            remote: bits(self.flow.remote) & mask.remote,
            ue: bits(self.flow.ue) & mask.ue,
            remote_port: remote_port & mask.remote_port,
            ue_port: ue_port & mask.ue_port,
            protocol: self.flow.protocol & mask.protocol,
            tos: self.flow.tos & mask.tos,
            qfi: self.flow.qfi.map_or(0, |qfi| 0x80 | qfi.0) & mask.qfi,
        }
    }
}

fn is_own(sources: &Sources, ue: IpAddr) -> bool {
    sources.any
        || match ue {
            IpAddr::V4(a) => sources.v4 == Some(a),
            IpAddr::V6(a) => sources.v6 == Some((a.to_bits() >> 64) as u64),
        }
}

/// Takes a packet through the tables.
pub fn walk<'t>(table: impl Fn(&Key) -> Option<&'t Action>, packet: &Packet) -> Walk {
    let entry = table(&packet.session_key());
    walk_from(entry, table, packet)
}

/// Takes a packet on from the session entry that it has found.
pub fn walk_from<'t>(entry: Option<&Action>, table: impl Fn(&Key) -> Option<&'t Action>, packet: &Packet) -> Walk {
    let (mut looked_up, mut cell) = (vec![packet.session_key()], None);
    let end = match through(entry, table, packet, &mut looked_up, &mut cell) {
        Ok((forward, far)) => End::Goes(forward, far),
        Err(reason) => End::Leaves(reason),
    };
    Walk { looked_up, end, cell }
}

fn through<'t>(
    entry: Option<&Action>,
    table: impl Fn(&Key) -> Option<&'t Action>,
    packet: &Packet,
    looked_up: &mut Vec<Key>,
    cell: &mut Option<u32>,
) -> Result<(Forward, Action), PuntReason> {
    let mut find = |key: Key| {
        looked_up.push(key);
        table(&key)
    };
    let own = |sources: &Option<Sources>| sources.is_none_or(|from| is_own(&from, packet.flow.ue));
    let rule = match entry {
        None if matches!(packet.by, By::Tunnel { .. }) => return Err(PuntReason::UnknownTeid),
        None => return Err(PuntReason::UnknownUe),
        Some(Action::Direct { sources, rule, .. }) if own(sources) => *rule,
        Some(Action::ByFlow {
            session,
            epoch,
            sources,
            mask,
        }) if own(sources) => {
            if !packet.complete {
                return Err(PuntReason::Unparsed);
            }
            let key = Key::Flow {
                session: *session,
                epoch: *epoch,
                flow: packet.masked(mask),
            };
            match find(key) {
                Some(Action::Flow { rule }) => *rule,
                _ => return Err(PuntReason::FlowMiss),
            }
        }
        Some(Action::Direct { .. } | Action::ByFlow { .. }) => return Err(PuntReason::Spoofed),
        Some(_) => return Err(PuntReason::HostSession),
    };
    let forward = match find(Key::Rule(rule)) {
        Some(Action::Forward(forward)) => *forward,
        Some(Action::GateClosed { cell: own }) => {
            *cell = Some(*own);
            return Err(PuntReason::GateClosed);
        }
        _ => return Err(PuntReason::RuleMissing),
    };
    *cell = Some(forward.cell);
    match find(Key::Far(forward.far)) {
        Some(Action::Drop) => Err(PuntReason::FarDrop),
        Some(Action::Buffer) => Err(PuntReason::Buffer),
        Some(Action::FarOnHost) => Err(PuntReason::FarHost),
        Some(action) => Ok((forward, action.clone())),
        None => Err(PuntReason::FarMissing),
    }
}
