//! Entries that were read.

use super::Codec;
use crate::placement::entry::{Forward, Marking, Sources};
use crate::placement::{Action, Entry, FlowFields, FlowMask, Key, Table};
use p4runtime::entry::{ActionView, Matched};
use p4runtime::{EntryView, v1};
use std::net::{Ipv4Addr, Ipv6Addr};
use upf_model::{Ipv4Prefix, Ipv6Prefix};

impl Codec {
    /// An entry that was read; `None`: it is none that this controller writes.
    pub fn read(&self, message: &v1::TableEntry) -> Option<Entry> {
        let view = EntryView::new(&self.info, message).ok()?;
        let table = Table::ALL.into_iter().find(|t| view.table.preamble.alias == t.name())?;
        let key = read_key(table, &view)?;
        let action = match &view.action {
            Some(action) => self.read_action(action, key, message)?,
            None => self.read_set(message)?,
        };
        Some(Entry { key, action })
    }

    /// The key of an entry, whatever it does.
    pub fn read_key(&self, message: &v1::TableEntry) -> Option<Key> {
        let view = EntryView::new(&self.info, message).ok()?;
        let table = Table::ALL.into_iter().find(|t| view.table.preamble.alias == t.name())?;
        read_key(table, &view)
    }

    /// The actions of a route.
    fn read_set(&self, message: &v1::TableEntry) -> Option<Action> {
        let Some(v1::table_action::Type::ActionProfileActionSet(set)) = message.action.as_ref()?.r#type.as_ref() else {
            return None;
        };
        let mut hops = Vec::new();
        for weighted in &set.action_profile_actions {
            let action = ActionView::new(&self.info, weighted.action.as_ref()?).ok()?;
            match short(&action.name) {
                "via" => hops.push(number(&action, "next_hop")?),
                "on_link" if set.action_profile_actions.len() == 1 => return Some(Action::OnLink),
                _ => return None,
            }
        }
        (!hops.is_empty()).then_some(Action::Via(hops))
    }

    fn read_action(&self, view: &ActionView, key: Key, message: &v1::TableEntry) -> Option<Action> {
        let a = Arguments(view);
        Some(match view.name.strip_prefix("UpfIngress.")? {
            "reinject.host" => Action::Host,
            "station.station" => Action::Station {
                arrival: a.get("network_instance")?,
            },
            "station.endpoint" => Action::Endpoint { id: a.get("id")? },
            "sessions.on_host" => Action::OnHost {
                session: a.get("session")?,
                epoch: a.get("epoch")?,
            },
            "sessions.uplink_direct" | "sessions.downlink_direct" => Action::Direct {
                session: a.get("session")?,
                epoch: a.get("epoch")?,
                sources: a.sources(key)?,
                rule: a.get("rule")?,
            },
            "sessions.uplink_by_flow" | "sessions.downlink_by_flow" => Action::ByFlow {
                session: a.get("session")?,
                epoch: a.get("epoch")?,
                sources: a.sources(key)?,
                mask: FlowMask {
                    remote: a.get("remote")?,
                    ue: a.get("ue")?,
                    remote_port: a.get("remote_port")?,
                    ue_port: a.get("ue_port")?,
                    protocol: a.get("protocol")?,
                    tos: a.get("tos")?,
                    qfi: a.get("qfi")?,
                },
            },
            "flows.flow" => Action::Flow { rule: a.get("rule")? },
            "rules.forward" => Action::Forward(Forward {
                cell: a.get("cell")?,
                far: a.get("far")?,
                flow_meter: a.get("flow_meter")?,
                session_meter: a.get("session_meter")?,
                usual_overhead: a.get("usual_overhead")?,
                queue: a.get("queue")?,
                mark_qfi: a.get("mark_qfi")?,
                rqi: a.get::<u8>("rqi")? == 1,
                ppi: a.get("ppi")?,
            }),
            "rules.gate_closed" => Action::GateClosed { cell: a.get("cell")? },
            "fars.plain" => Action::Plain {
                instance: a.get("network_instance")?,
                marking: a.marking()?,
            },
            "fars.tunnel_v4" => Action::TunnelV4 {
                instance: a.get("network_instance")?,
                src: Ipv4Addr::from_bits(a.get("src")?),
                dst: Ipv4Addr::from_bits(a.get("dst")?),
                teid: a.get("teid")?,
                marking: a.marking()?,
            },
            "fars.tunnel_v6" => Action::TunnelV6 {
                instance: a.get("network_instance")?,
                src: Ipv6Addr::from_bits(a.get("src")?),
                dst: Ipv6Addr::from_bits(a.get("dst")?),
                teid: a.get("teid")?,
                marking: a.marking()?,
            },
            "fars.drop" => Action::Drop,
            "fars.buffer" => Action::Buffer,
            "fars.on_host" => Action::FarOnHost,
            "routing.next_hop" => Action::NextHop {
                port: a.get("port")?,
                dst: mac(a.get("dst_mac")?),
                src: mac(a.get("src_mac")?),
                vlan: a.get("vlan")?,
                mtu: a.get("mtu")?,
            },
            "punt.punt" => Action::Punt {
                port: a.get("port")?,
                limit_users: a.get::<u8>("limit_users")? == 1,
                per_second: match key {
                    Key::Reason(reason) => match (self.reason_rates.get(&reason), &message.meter_config) {
                        (Some(written), _) => *written,
                        (None, None) => u32::MAX,
                        (None, Some(rates)) => u32::try_from(rates.pir).ok().filter(|n| *n > 0).unwrap_or(u32::MAX),
                    },
                    _ => return None,
                },
            },
            "punt.discard" => Action::Discard,
            _ => return None,
        })
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn mac(bits: u64) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
    [a, b, c, d, e, f]
}

fn number<N: TryFrom<u128>>(action: &ActionView, name: &str) -> Option<N> {
    let (_, value) = action.params.iter().find(|(param, _)| param == name)?;
    N::try_from(value.to_u128()?).ok()
}

struct Arguments<'a>(&'a ActionView);

impl Arguments<'_> {
    fn get<N: TryFrom<u128>>(&self, name: &str) -> Option<N> {
        number(self.0, name)
    }

    fn marking(&self) -> Option<Marking> {
        Some((self.get("mark_value")?, self.get("mark_mask")?))
    }

    /// `Some(None)`: a downlink entry.
    fn sources(&self, key: Key) -> Option<Option<Sources>> {
        if !key.is_uplink() {
            return Some(None);
        }
        let bits: u8 = self.get("sources")?;
        let has = |bit: u8| bits >> bit & 1 == 1;
        Some(Some(Sources {
            v4: has(0).then_some(Ipv4Addr::from_bits(self.get("source_v4")?)),
            v6: has(1).then_some(self.get("source_v6")?),
            others: has(2),
            any: has(3),
        }))
    }
}

fn read_key(table: Table, view: &EntryView<'_>) -> Option<Key> {
    fn get<N: TryFrom<u128>>(view: &EntryView<'_>, name: &str) -> Option<N> {
        N::try_from(view.number(name)?).ok()
    }
    // A prefix of length zero is not mentioned.
    let prefix = || match view.field("destination") {
        None => Some((0, 0)),
        Some(Matched::Prefix(value, length)) => Some((value.to_u128()?, *length as u8)),
        Some(_) => None,
    };
    Some(match table {
        Table::HostPorts => Key::HostPort(get(view, "ingress_port")?),
        Table::MyStation => Key::Station {
            port: get(view, "ingress_port")?,
            vlan: get(view, "vlan")?,
            mac: mac(get(view, "dst_mac")?),
        },
        Table::EndpointsV4 => Key::EndpointV4 {
            arrival: get(view, "network_instance")?,
            addr: Ipv4Addr::from_bits(get(view, "address")?),
        },
        Table::EndpointsV6 => Key::EndpointV6 {
            arrival: get(view, "network_instance")?,
            addr: Ipv6Addr::from_bits(get(view, "address")?),
        },
        Table::UplinkSessions => Key::Uplink {
            endpoint: get(view, "endpoint")?,
            teid: get(view, "teid")?,
        },
        Table::DownlinkSessionsV4 => Key::DownlinkV4 {
            arrival: get(view, "network_instance")?,
            ue: Ipv4Addr::from_bits(get(view, "ue_address")?),
        },
        Table::DownlinkSessionsV6 => Key::DownlinkV6 {
            arrival: get(view, "network_instance")?,
            prefix: get(view, "ue_prefix")?,
        },
        Table::Flows => Key::Flow {
            session: get(view, "session")?,
            epoch: get(view, "epoch")?,
            flow: FlowFields {
                downlink: get::<u8>(view, "direction")? == 1,
                ipv6: get::<u8>(view, "ipv6")? == 1,
                remote: get(view, "remote")?,
                ue: get(view, "ue")?,
                remote_port: get(view, "remote_port")?,
                ue_port: get(view, "ue_port")?,
                protocol: get(view, "protocol")?,
                tos: get(view, "tos")?,
                qfi: get(view, "qfi")?,
            },
        },
        Table::Rules => Key::Rule(get(view, "rule")?),
        Table::Fars => Key::Far(get(view, "far")?),
        Table::RoutesV4 => {
            let (addr, len) = prefix()?;
            Key::RouteV4 {
                instance: get(view, "network_instance")?,
                prefix: Ipv4Prefix::new(Ipv4Addr::from_bits(addr as u32), len)?,
            }
        }
        Table::RoutesV6 => {
            let (addr, len) = prefix()?;
            Key::RouteV6 {
                instance: get(view, "network_instance")?,
                prefix: Ipv6Prefix::new(Ipv6Addr::from_bits(addr), len)?,
            }
        }
        Table::NextHops => Key::NextHop(get(view, "next_hop")?),
        Table::Reasons => Key::Reason(get(view, "reason")?),
    })
}
