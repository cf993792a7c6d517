//! Packets per second of `p4/upf.p4` in memory: `cargo run --release -p p4-switch --example upf_in_memory -- JSON`.

use std::sync::Arc;
use std::time::Instant;

use p4_switch::control::{
    ActionCall, Entity, FieldMatch, MeterCell, MeterConfig, ProgramInfo, TableAction, TableEntry, Update,
    WeightedAction,
};
use p4_switch::ports::memory::MemoryPorts;
use p4_switch::{Program, Switch, SwitchConfig};

const STATION: u64 = 0x02_00_00_00_00_aa;

fn be(value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(15);
    bytes[start..].to_vec()
}

fn exact(value: impl Into<u128>) -> FieldMatch {
    FieldMatch::Exact(be(value.into()))
}

/// An entry of `table`, whose names are found by their ends.
fn entry(info: &ProgramInfo, table: &str, key: Vec<FieldMatch>, action: &str, arguments: &[u128]) -> Update {
    let id = info.tables.iter().position(|t| t.name.ends_with(table)).expect("table");
    let id = p4_switch::control::TableId(id as u32);
    let call = call(info, id, action, arguments);
    Update::Insert(Entity::TableEntry(TableEntry::new(id, key, 0, TableAction::Call(call))))
}

fn call(info: &ProgramInfo, table: p4_switch::control::TableId, action: &str, arguments: &[u128]) -> ActionCall {
    let actions = &info.tables[table.index()].actions;
    let action = *actions
        .iter()
        .find(|a| info.actions[a.index()].name.ends_with(action))
        .expect("action");
    ActionCall {
        action,
        arguments: arguments.iter().map(|a| be(*a)).collect(),
    }
}

fn checksum(header: &mut [u8]) {
    let sum: u32 = header.chunks(2).map(|w| (w[0] as u32) << 8 | w[1] as u32).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = !((sum >> 16) + sum) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ipv4(src: u32, dst: u32, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(src.to_be_bytes());
    packet.extend(dst.to_be_bytes());
    checksum(&mut packet);
    packet.extend(payload);
    packet
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(src.to_be_bytes());
    packet.extend(dst.to_be_bytes());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb, 8, 0];
    frame.extend(packet);
    frame
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "p4/compiled/upf.json".into());
    let sessions: u32 = arguments.next().map_or(10_000, |n| n.parse().expect("sessions"));
    let begin = Instant::now();
    let program = Program::from_json(&std::fs::read(&path).expect("program")).expect("program");
    println!("loaded in {:?}", begin.elapsed());
    let switch = Switch::new(SwitchConfig {
        priority_queues: 8,
        ..SwitchConfig::default()
    });
    switch.load(Arc::new(program));
    let info = switch.info().expect("info");
    let (n3, n6, n3_address) = (1u32, 2u32, 0x0a00_0001u32);

    let mut updates = Vec::new();
    for (port, instance) in [(n3, 1u32), (n6, 2)] {
        let key = vec![exact(port), exact(0u32), exact(STATION)];
        updates.push(entry(&info, "my_station", key, "station.station", &[instance as u128]));
        updates.push(entry(
            &info,
            "next_hops",
            vec![exact(port)],
            "routing.next_hop",
            &[port as u128, 0x0200_0000_00cc, STATION as u128, 0, 1500],
        ));
        let routes = info
            .tables
            .iter()
            .position(|t| t.name.ends_with("routes_v4"))
            .expect("routes");
        let routes = p4_switch::control::TableId(routes as u32);
        let via = WeightedAction {
            call: call(&info, routes, "via", &[port as u128]),
            weight: 1,
            watch_port: None,
        };
        let key = vec![
            exact(instance),
            FieldMatch::Lpm {
                value: vec![0],
                prefix_len: 0,
            },
        ];
        let route = TableEntry::new(routes, key, 0, TableAction::OneShot(vec![via]));
        updates.push(Update::Insert(Entity::TableEntry(route)));
    }
    updates.push(entry(
        &info,
        "endpoints_v4",
        vec![exact(1u32), exact(n3_address)],
        "station.endpoint",
        &[7],
    ));
    let flow_meters = info
        .meters
        .iter()
        .position(|m| m.name.ends_with("flow_meters"))
        .expect("meter");
    for s in 1..=sessions {
        let (ue, up, down) = (0x0b00_0000 + s, 2 * s, 2 * s + 1);
        let n = |v: u32| v as u128;
        updates.push(entry(
            &info,
            "uplink_sessions",
            vec![exact(7u32), exact(s)],
            "uplink_direct",
            &[n(s), 1, 1, n(ue), 0, n(up)],
        ));
        updates.push(entry(
            &info,
            "downlink_sessions_v4",
            vec![exact(2u32), exact(ue)],
            "downlink_direct",
            &[n(s), 1, n(down)],
        ));
        // Bytes around the user's packet as frames come: tunnel and Ethernet uplink, Ethernet downlink.
        for (rule, overhead) in [(up, 58), (down, 14)] {
            updates.push(entry(
                &info,
                "rules.rules",
                vec![exact(rule)],
                "rules.forward",
                &[n(rule), n(rule), n(rule), n(rule), overhead, 3, 0x80 | 9, 0, 0],
            ));
            let config = Some(MeterConfig {
                cir: 1 << 33,
                cburst: 1 << 30,
                pir: 1 << 33,
                pburst: 1 << 30,
            });
            for meter in [flow_meters, flow_meters + 1] {
                let meter = p4_switch::control::MeterId(meter as u32);
                updates.push(Update::Modify(Entity::Meter(MeterCell {
                    meter,
                    index: Some(rule as u64),
                    config,
                })));
            }
        }
        updates.push(entry(&info, "fars.fars", vec![exact(up)], "fars.plain", &[2, 0, 0]));
        updates.push(entry(
            &info,
            "fars.fars",
            vec![exact(down)],
            "tunnel_v4",
            &[1, n(n3_address), 0x0a00_0002, n(s), 0, 0],
        ));
    }
    let begin = Instant::now();
    let failed = switch.write(&updates).into_iter().filter_map(Result::err).next();
    assert_eq!(failed, None);
    let took = begin.elapsed();
    println!(
        "{} updates in {took:?}: {:.0}/s",
        updates.len(),
        updates.len() as f64 / took.as_secs_f64()
    );

    let payload = [0u8; 64];
    let mut packets: Vec<(u32, Vec<u8>)> = Vec::new();
    for i in 0..sessions.max(1024) {
        let s = (i.wrapping_mul(2_654_435_761) % sessions) + 1;
        let ue = 0x0b00_0000 + s;
        let user = ipv4(ue, 0x0808_0808, &udp(1000, 53, &payload));
        let mut gtp = vec![0x34, 0xff, 0, 0];
        gtp[2..4].copy_from_slice(&(user.len() as u16 + 8).to_be_bytes());
        gtp.extend(s.to_be_bytes());
        gtp.extend([0, 0, 0, 0x85, 1, 0x10, 9, 0]);
        gtp.extend(&user);
        packets.push((n3, frame(&ipv4(0x0a00_0002, n3_address, &udp(2152, 2152, &gtp)))));
        packets.push((n6, frame(&ipv4(0x0808_0808, ue, &udp(53, 1000, &payload)))));
    }
    for direction in [n3, n6] {
        let (_, bytes) = packets.iter().find(|(port, _)| *port == direction).expect("packet");
        let (outputs, trace) = switch.trace(direction, bytes);
        if std::env::var_os("TRACE").is_some() || outputs.len() != 1 || outputs[0].port == direction {
            println!("{trace:#?}");
        }
    }
    for (name, filter) in [("uplink", Some(n3)), ("downlink", Some(n6)), ("both", None)] {
        let chosen: Vec<(u32, &[u8])> = packets
            .iter()
            .filter(|(port, _)| filter.is_none_or(|f| f == *port))
            .map(|(port, bytes)| (*port, bytes.as_slice()))
            .collect();
        let mut ports = MemoryPorts::default();
        let mut rates = Vec::new();
        let (repeat, least) = if std::env::var_os("ONCE").is_some() {
            (1, 1)
        } else {
            (7, 100)
        };
        for _ in 0..repeat {
            let (begin, mut sent, mut done) = (Instant::now(), 0, 0);
            while begin.elapsed().as_millis() < least {
                ports.run(&switch, &chosen, |_, _| sent += 1);
                done += chosen.len();
            }
            let seconds = begin.elapsed().as_secs_f64();
            assert_eq!(sent, done);
            rates.push(done as f64 / seconds);
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.2} Mpps, {:.0} ns/packet",
            rates[repeat / 2] / 1e6,
            1e9 / rates[repeat / 2]
        );
    }
}
