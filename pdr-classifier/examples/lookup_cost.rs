//! What a lookup costs, in cycles of the time stamp counter: `cargo run --release -p pdr-classifier --example lookup_cost
//! [sessions] [rules]`. For looking into this crate; `bench -- classifier` is for comparing it.

use pdr_classifier::{Detection, InterfaceSet, PacketFields, PdrMatch, SessionKey, Table};
use std::hint::black_box;
use std::time::{Duration, Instant};
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, SdfFilter,
    SessionId, Teid,
};

const BATCH: usize = 32;
const NI: NetworkInstanceId = NetworkInstanceId(0);

fn key(session: u32) -> SessionKey {
    SessionKey::FTeid {
        endpoint: EndpointId(0),
        teid: Teid((session + 1).wrapping_mul(0x9e37_79b1)),
    }
}

fn remote(session: u32, rule: u32) -> u32 {
    session.wrapping_mul(0x85eb_ca6b) ^ rule.wrapping_mul(0xc2b2_ae35)
}

fn rules(session: u32, count: u32) -> Vec<PdrMatch> {
    let rule = |number: u32| {
        let flow = IpFilterRule {
            protocol: Some(17),
            remote: AddressMatch::Prefix(
                IpPrefix::new(std::net::IpAddr::from(remote(session, number).to_be_bytes()), 24)
                    .expect("a length of IPv4"),
            ),
            remote_ports: vec![PortRange {
                low: 1_000,
                high: 2_000,
            }],
            ue: AddressMatch::Assigned,
            ue_ports: Vec::new(),
        };
        let filter = SdfFilter {
            flow: Some(flow),
            ..SdfFilter::default()
        };
        PdrMatch {
            precedence: Precedence(number),
            source_interface: Interface::Access,
            network_instance: NI,
            tunnel: vec![key(session)],
            ue: Vec::new(),
            qfis: 0,
            application: None,
            ethernet: Vec::new(),
            sdf: if number + 1 == count { Vec::new() } else { vec![filter] },
        }
    };
    (0..count).map(rule).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u32>().unwrap_or(1));
    let (sessions, count) = (arguments.next().unwrap_or(1), arguments.next().unwrap_or(4));
    let (table, mut writer) = Table::<[u64; 4]>::new();
    for session in 0..sessions {
        let put = writer.put(SessionId(session), &[key(session)], &[], &rules(session, count), [0; 4]);
        put.expect("its own keys");
    }
    while writer.try_reclaim() > 0 {}
    let mut seed = 1u64;
    let mut random = |below: u32| {
        seed = seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (((seed >> 32) * u64::from(below)) >> 32) as u32
    };
    let packets: Vec<(SessionKey, PacketFields)> = (0..1 << 16)
        .map(|_| {
            let (session, rule) = (random(sessions), random(count));
            let fields = PacketFields::v4(remote(session, rule).into(), 7.into(), 17, 0)
                .arrived(InterfaceSet::of(&[Interface::Access]), NI)
                .with_ports(1_500, 4_000);
            (key(session), fields)
        })
        .collect();
    let mut reader = table.register();
    for (name, how) in [("sessions, then classify", 0), ("detect", 1), ("sessions alone", 2)] {
        let mut best = f64::MAX;
        for _ in 0..7 {
            let (mut spent, mut done, mut at) = (Duration::ZERO, 0, 0);
            while spent < Duration::from_millis(20) {
                let near: Vec<_> = packets[at..at + 2 * BATCH].to_vec();
                at = (at + 2 * BATCH) % packets.len();
                let start = Instant::now();
                for burst in black_box(&near).chunks_exact(BATCH) {
                    let guard = reader.enter();
                    let mut keys = [burst[0].0; BATCH];
                    keys.iter_mut().zip(burst).for_each(|(key, packet)| *key = packet.0);
                    if how == 1 {
                        let mut detections = [Detection::default(); BATCH];
                        guard.detect(&keys, |i| &burst[i].1, &mut detections);
                        black_box(&detections);
                    } else {
                        let mut found = [None; BATCH];
                        guard.sessions(&keys, &mut found);
                        let mut rules = [None; BATCH];
                        if how == 0 {
                            for (rule, (found, (_, fields))) in rules.iter_mut().zip(found.iter().zip(burst)) {
                                *rule = found.and_then(|found| found.classify(fields));
                            }
                        }
                        black_box((&found, &rules));
                    }
                }
                spent += start.elapsed().saturating_sub(Duration::from_nanos(25));
                done += near.len();
            }
            best = best.min(spent.as_nanos() as f64 / done as f64);
        }
        println!("{name}: {best:.1} ns a packet ({sessions} sessions of {count} rules)");
    }
    let start = Instant::now();
    for round in 0..10 {
        for session in 0..100_000u32 {
            writer.set_precedence(
                SessionId(session.wrapping_mul(0x9e37_79b1) % sessions),
                0,
                Precedence(round + 1),
            );
        }
    }
    println!("precedence: {:.1} ns", start.elapsed().as_nanos() as f64 / 1e6);
    let changes: Vec<_> = (0..100_000u32)
        .map(|s| (SessionId(s.wrapping_mul(0x9e37_79b1) % sessions), 0, Precedence(s % 7)))
        .collect();
    let start = Instant::now();
    for _ in 0..10 {
        writer.set_precedences(&changes);
    }
    println!(
        "precedence, in batches: {:.1} ns",
        start.elapsed().as_nanos() as f64 / 1e6
    );
    let replacements: Vec<_> = (0..20_000u32)
        .map(|s| {
            let id = s.wrapping_mul(0x9e37_79b1) % sessions;
            let mut r = rules(id, 2).swap_remove(0);
            if let Some(f) = &mut r.sdf[0].flow {
                f.protocol = Some((s % 200) as u8);
            }
            (SessionId(id), r)
        })
        .collect();
    let start = Instant::now();
    for (id, rule) in replacements.iter().cycle().take(20_000) {
        writer.replace_rule(*id, 0, rule).expect("it is there");
    }
    println!("replace a rule: {:.0} ns", start.elapsed().as_nanos() as f64 / 2e4);
}
