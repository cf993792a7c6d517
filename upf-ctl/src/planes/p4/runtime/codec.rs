//! Entries as P4Runtime carries them, both ways. Names are those of `p4/upf.p4`.

use crate::placement::entry::{Forward, Marking, Sources};
use crate::placement::{Action, Entry, FlowFields, FlowMask, Key, MeterCell, Rates, Table};
use p4runtime::entry::{ActionView, Matched};
use p4runtime::error::EntryError;
use p4runtime::{EntryView, P4Info, TableEntry, entity, v1};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use upf_model::{Ipv4Prefix, Ipv6Prefix};

/// Reads and writes entries of one program.
#[derive(Debug)]
pub struct Codec {
    /// The program's.
    pub info: P4Info,
    /// A flow times out after this long; none: it does not.
    pub idle: Option<Duration>,
    /// Rates of reasons as they were written: targets do not agree on how a direct meter is read.
    pub reason_rates: HashMap<u8, u32>,
}

impl Codec {
    fn keyed(&self, key: &Key) -> TableEntry<'_> {
        let entry = TableEntry::new(&self.info, key.table().name());
        match *key {
            Key::HostPort(port) => entry.match_exact("ingress_port", port),
            Key::Station { port, vlan, mac } => entry
                .match_exact("ingress_port", port)
                .match_exact("vlan", vlan)
                .match_exact("dst_mac", mac),
            Key::EndpointV4 { arrival, addr } => entry
                .match_exact("network_instance", arrival)
                .match_exact("address", addr),
            Key::EndpointV6 { arrival, addr } => entry
                .match_exact("network_instance", arrival)
                .match_exact("address", addr),
            Key::Uplink { endpoint, teid } => entry.match_exact("endpoint", endpoint).match_exact("teid", teid),
            Key::DownlinkV4 { arrival, ue } => entry
                .match_exact("network_instance", arrival)
                .match_exact("ue_address", ue),
            Key::DownlinkV6 { arrival, prefix } => entry
                .match_exact("network_instance", arrival)
                .match_exact("ue_prefix", prefix),
            Key::Flow { session, epoch, flow } => entry
                .match_exact("session", session)
                .match_exact("epoch", epoch)
                .match_exact("direction", flow.downlink)
                .match_exact("ipv6", flow.ipv6)
                .match_exact("remote", flow.remote)
                .match_exact("ue", flow.ue)
                .match_exact("remote_port", flow.remote_port)
                .match_exact("ue_port", flow.ue_port)
                .match_exact("protocol", flow.protocol)
                .match_exact("tos", flow.tos)
                .match_exact("qfi", flow.qfi),
            Key::Rule(id) => entry.match_exact("rule", id),
            Key::Far(id) => entry.match_exact("far", id),
            Key::RouteV4 { instance, prefix } => entry.match_exact("network_instance", instance).match_lpm(
                "destination",
                prefix.addr(),
                prefix.len().into(),
            ),
            Key::RouteV6 { instance, prefix } => entry.match_exact("network_instance", instance).match_lpm(
                "destination",
                prefix.addr(),
                prefix.len().into(),
            ),
            Key::NextHop(id) => entry.match_exact("next_hop", id),
            Key::Reason(reason) => entry.match_exact("reason", reason),
        }
    }

    /// A key, as deleting and reading need it.
    pub fn key(&self, key: &Key) -> Result<v1::TableEntry, EntryError> {
        self.keyed(key).key()
    }

    /// An entry, as inserting and modifying need it.
    pub fn entry(&self, Entry { key, action }: &Entry) -> Result<v1::TableEntry, EntryError> {
        let entry = self.keyed(key);
        let uplink = key.is_uplink();
        let entry = match action {
            Action::Host => entry.action("host"),
            Action::Station { arrival } => entry.action("station").param("network_instance", *arrival),
            Action::Endpoint { id } => entry.action("endpoint").param("id", *id),
            Action::OnHost { session, epoch } => entry
                .action("UpfIngress.sessions.on_host")
                .param("session", *session)
                .param("epoch", *epoch),
            Action::Direct {
                session,
                epoch,
                sources,
                rule,
            } => {
                let entry = entry
                    .action(if uplink { "uplink_direct" } else { "downlink_direct" })
                    .param("session", *session)
                    .param("epoch", *epoch);
                with_sources(entry, sources).param("rule", *rule)
            }
            Action::ByFlow {
                session,
                epoch,
                sources,
                mask,
            } => {
                let entry = entry
                    .action(if uplink { "uplink_by_flow" } else { "downlink_by_flow" })
                    .param("session", *session)
                    .param("epoch", *epoch);
                with_sources(entry, sources)
                    .param("remote", mask.remote)
                    .param("ue", mask.ue)
                    .param("remote_port", mask.remote_port)
                    .param("ue_port", mask.ue_port)
                    .param("protocol", mask.protocol)
                    .param("tos", mask.tos)
                    .param("qfi", mask.qfi)
            }
            Action::Flow { rule } => {
                let entry = match self.idle {
                    Some(idle) => entry.idle_timeout(idle),
                    None => entry,
                };
                entry.action("UpfIngress.flows.flow").param("rule", *rule)
            }
            Action::Forward(f) => entry
                .action("UpfIngress.rules.forward")
                .param("cell", f.cell)
                .param("far", f.far)
                .param("flow_meter", f.flow_meter)
                .param("session_meter", f.session_meter)
                .param("usual_overhead", f.usual_overhead)
                .param("queue", f.queue)
                .param("mark_qfi", f.mark_qfi)
                .param("rqi", f.rqi)
                .param("ppi", f.ppi),
            Action::GateClosed { cell } => entry.action("gate_closed").param("cell", *cell),
            Action::Plain { instance, marking } => {
                let entry = entry.action("plain").param("network_instance", *instance);
                with_marking(entry, *marking)
            }
            Action::TunnelV4 {
                instance,
                src,
                dst,
                teid,
                marking,
            } => {
                let entry = entry
                    .action("tunnel_v4")
                    .param("network_instance", *instance)
                    .param("src", *src)
                    .param("dst", *dst)
                    .param("teid", *teid);
                with_marking(entry, *marking)
            }
            Action::TunnelV6 {
                instance,
                src,
                dst,
                teid,
                marking,
            } => {
                let entry = entry
                    .action("tunnel_v6")
                    .param("network_instance", *instance)
                    .param("src", *src)
                    .param("dst", *dst)
                    .param("teid", *teid);
                with_marking(entry, *marking)
            }
            Action::Drop => entry.action("UpfIngress.fars.drop"),
            Action::Buffer => entry.action("UpfIngress.fars.buffer"),
            Action::FarOnHost => entry.action("UpfIngress.fars.on_host"),
            Action::Via(hops) => {
                let set = entry.one_shot();
                hops.iter()
                    .fold(set, |set, hop| set.action("via").param("next_hop", *hop))
            }
            Action::OnLink => entry.one_shot().action("on_link"),
            Action::NextHop {
                port,
                dst,
                src,
                vlan,
                mtu,
            } => entry
                .action("UpfIngress.routing.next_hop")
                .param("port", *port)
                .param("dst_mac", *dst)
                .param("src_mac", *src)
                .param("vlan", *vlan)
                .param("mtu", *mtu),
            Action::Punt {
                port,
                limit_users,
                per_second,
            } => {
                let entry = entry
                    .action("UpfIngress.punt.punt")
                    .param("port", *port)
                    .param("limit_users", *limit_users);
                match *per_second {
                    u32::MAX => entry,
                    rate => entry.meter(meter_config(&Rates::packets(rate))),
                }
            }
            Action::Discard => entry.action("UpfIngress.punt.discard"),
        };
        entry.build()
    }

    /// A meter cell with its rates.
    pub fn meter(&self, cell: MeterCell, rates: &Rates) -> Result<v1::MeterEntry, EntryError> {
        let (meter, index) = match cell {
            MeterCell::Flow(index) => ("flow_meters", index),
            MeterCell::Session(index) => ("session_meters", index),
            MeterCell::PuntUsers(index) => ("punt_users", index),
        };
        entity::meter(&self.info, meter, Some(index.into()), Some(meter_config(rates)))
    }

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

fn with_sources<'i>(entry: TableEntry<'i>, sources: &Option<Sources>) -> TableEntry<'i> {
    match sources {
        None => entry,
        Some(from) => entry
            .param("sources", from.bits())
            .param("source_v4", from.v4.unwrap_or(Ipv4Addr::UNSPECIFIED))
            .param("source_v6", from.v6.unwrap_or(0)),
    }
}

fn with_marking(entry: TableEntry<'_>, (value, mask): Marking) -> TableEntry<'_> {
    entry.param("mark_value", value).param("mark_mask", mask)
}

fn meter_config(rates: &Rates) -> v1::MeterConfig {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    v1::MeterConfig {
        cir: signed(rates.cir),
        cburst: signed(rates.cburst),
        pir: signed(rates.pir),
        pburst: signed(rates.pburst),
        ..Default::default()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn codec() -> Codec {
        Codec {
            info: P4Info::from_binary(super::super::DEFAULT_P4INFO).unwrap(),
            idle: Some(Duration::from_secs(30)),
            reason_rates: HashMap::from([(10, 20_000), (12, u32::MAX)]),
        }
    }

    #[test]
    fn every_kind_of_entry_is_read_as_it_was_written() {
        let codec = codec();
        let flow = FlowFields {
            downlink: true,
            ipv6: true,
            remote: u128::MAX,
            ue: 1 << 100,
            remote_port: 443,
            ue_port: 0,
            protocol: 17,
            tos: 0xb8,
            qfi: 0x89,
        };
        let sources = Sources {
            v4: Some(Ipv4Addr::new(10, 45, 0, 2)),
            v6: Some(0x2001_0db8_0045_0002),
            others: true,
            any: false,
        };
        let mask = FlowMask {
            remote: u128::MAX << 64,
            protocol: 0xff,
            ..FlowMask::default()
        };
        let up = Key::Uplink {
            endpoint: 3,
            teid: 0xffff_fffe,
        };
        let down = Key::DownlinkV4 {
            arrival: 2,
            ue: Ipv4Addr::new(10, 45, 0, 2),
        };
        let (session, epoch) = (7, 0xdead_beef);
        let entries = [
            (Key::HostPort(9), Action::Host),
            (
                Key::Station {
                    port: 1,
                    vlan: 4_094,
                    mac: [2, 0, 0, 0, 3, 1],
                },
                Action::Station { arrival: 5 },
            ),
            (
                Key::EndpointV6 {
                    arrival: 1,
                    addr: "2001:db8::1".parse().unwrap(),
                },
                Action::Endpoint { id: 4 },
            ),
            (up, Action::OnHost { session, epoch }),
            (
                up,
                Action::Direct {
                    session,
                    epoch,
                    sources: Some(sources),
                    rule: 12,
                },
            ),
            (
                up,
                Action::ByFlow {
                    session,
                    epoch,
                    sources: Some(sources),
                    mask,
                },
            ),
            (
                down,
                Action::Direct {
                    session,
                    epoch,
                    sources: None,
                    rule: 12,
                },
            ),
            (
                Key::DownlinkV6 {
                    arrival: 1,
                    prefix: u64::MAX,
                },
                Action::ByFlow {
                    session,
                    epoch,
                    sources: None,
                    mask,
                },
            ),
            (Key::Flow { session, epoch, flow }, Action::Flow { rule: 12 }),
            (
                Key::Rule(12),
                Action::Forward(Forward {
                    cell: 1,
                    far: 2,
                    flow_meter: 3,
                    session_meter: 4,
                    usual_overhead: 58,
                    queue: 7,
                    mark_qfi: 0x89,
                    rqi: true,
                    ppi: 0xf,
                }),
            ),
            (Key::Rule(13), Action::GateClosed { cell: 1 }),
            (
                Key::Far(2),
                Action::Plain {
                    instance: 1,
                    marking: (0xb8, 0xfc),
                },
            ),
            (
                Key::Far(3),
                Action::TunnelV4 {
                    instance: 1,
                    src: Ipv4Addr::new(192, 0, 2, 1),
                    dst: Ipv4Addr::new(192, 0, 2, 50),
                    teid: 1,
                    marking: (0, 0),
                },
            ),
            (
                Key::Far(4),
                Action::TunnelV6 {
                    instance: 1,
                    src: "2001:db8::1".parse().unwrap(),
                    dst: "2001:db8::2".parse().unwrap(),
                    teid: 1,
                    marking: (0, 0),
                },
            ),
            (Key::Far(5), Action::Drop),
            (Key::Far(6), Action::Buffer),
            (Key::Far(7), Action::FarOnHost),
            (
                Key::RouteV4 {
                    instance: 1,
                    prefix: Ipv4Prefix::new(Ipv4Addr::UNSPECIFIED, 0).unwrap(),
                },
                Action::Via(vec![8, 9]),
            ),
            (
                Key::RouteV6 {
                    instance: 1,
                    prefix: Ipv6Prefix::new("2001:db8::".parse().unwrap(), 64).unwrap(),
                },
                Action::OnLink,
            ),
            (
                Key::NextHop(8),
                Action::NextHop {
                    port: 510,
                    dst: [2, 0, 0, 0, 0, 9],
                    src: [2, 0, 0, 0, 0, 8],
                    vlan: 0,
                    mtu: 1_500,
                },
            ),
            (
                Key::Reason(10),
                Action::Punt {
                    port: 9,
                    limit_users: false,
                    per_second: 20_000,
                },
            ),
            (
                Key::Reason(12),
                Action::Punt {
                    port: 9,
                    limit_users: true,
                    per_second: u32::MAX,
                },
            ),
            (Key::Reason(20), Action::Discard),
        ];
        for (key, action) in entries {
            let entry = Entry { key, action };
            let message = codec.entry(&entry).unwrap_or_else(|e| panic!("{entry:?}: {e}"));
            assert_eq!(codec.read(&message), Some(entry.clone()));
            let key = codec.key(&key).unwrap_or_else(|e| panic!("{key:?}: {e}"));
            assert_eq!(codec.read_key(&key), Some(entry.key));
        }
    }

    #[test]
    fn meters_have_their_arrays() {
        let codec = codec();
        for cell in [MeterCell::Flow(1), MeterCell::Session(2), MeterCell::PuntUsers(3)] {
            let entry = codec.meter(cell, &Rates::packets(1_000)).unwrap();
            assert_eq!(entry.config.map(|c| c.pir), Some(1_000));
        }
    }
}
