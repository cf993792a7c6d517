//! Entries as P4Runtime carries them; names are those of `p4/upf.p4`. Writing is here, reading in `codec/read.rs`.

mod read;

use crate::placement::entry::{Marking, Sources};
use crate::placement::{Action, Entry, Key, MeterCell, Rates};
use p4runtime::error::EntryError;
use p4runtime::{P4Info, TableEntry, entity, v1};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::entry::Forward;
    use crate::placement::{FlowFields, FlowMask};
    use upf_model::{Ipv4Prefix, Ipv6Prefix};

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
