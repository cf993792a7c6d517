//! Prints what a lookup costs: nanoseconds per packet for tables of several sizes, batches of 32, uniformly random
//! sessions; then what changes cost. `cargo run --release -p pdr-classifier --example lookup_cost [SESSIONS...]`

use pdr_classifier::{Found, InterfaceSet, PacketFields, PdrMatch, SessionKey, Table, Writer};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, SdfFilter,
    SessionId, Teid,
};

const NI: NetworkInstanceId = NetworkInstanceId(0);
const BATCH: usize = 32;

/// What stands for a session's compiled rules and counters.
type Payload = [u64; 4];

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn keys(n: u32) -> [SessionKey; 2] {
    let tunnel = SessionKey::FTeid {
        endpoint: EndpointId(0),
        teid: Teid(n.wrapping_mul(0x9e37_79b1) | 1),
    };
    [tunnel, SessionKey::UeV4 { ni: NI, addr: ue(n) }]
}

fn ue(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + n)
}

/// The remote network of a filter: the same for all sessions, or the session's own.
fn remote(n: u32, filter: usize, private: bool) -> Ipv4Addr {
    let own = if private { n.wrapping_mul(0x85eb_ca6b) } else { 7 };
    Ipv4Addr::from_bits((0xc000_0000 | own >> 4).wrapping_add(filter as u32 * 256) & !0xff)
}

/// `pdrs` rules: half uplink, half downlink; in each direction the last one takes everything.
fn rules(n: u32, pdrs: usize, private: bool) -> Vec<PdrMatch> {
    let [tunnel, _] = keys(n);
    let half = pdrs.div_ceil(2);
    let one = |i: usize, uplink: bool| {
        let flow = IpFilterRule {
            protocol: Some(17),
            remote: IpPrefix::new(remote(n, i, private).into(), 24).map_or(AddressMatch::Any, AddressMatch::Prefix),
            remote_ports: vec![PortRange { low: 1000, high: 1999 }],
            ue: AddressMatch::Assigned,
            ue_ports: Vec::new(),
        };
        PdrMatch {
            precedence: Precedence(10 + i as u32),
            source_interface: if uplink { Interface::Access } else { Interface::Core },
            network_instance: NI,
            tunnel: if uplink { vec![tunnel] } else { Vec::new() },
            ue: IpPrefix::new(ue(n).into(), 32).into_iter().collect(),
            qfis: 0,
            sdf: if i + 1 == half {
                vec![]
            } else {
                vec![SdfFilter {
                    flow: Some(flow),
                    ..SdfFilter::default()
                }]
            },
        }
    };
    (0..pdrs).map(|i| one(i / 2, i % 2 == 0)).collect()
}

fn put(writer: &mut Writer<Payload>, n: u32, pdrs: usize, private: bool) {
    let outcome = writer.put(SessionId(n), &keys(n), &[], &rules(n, pdrs, private), [n.into(); 4]);
    assert!(outcome.is_ok(), "keys are each session's own");
}

/// Packets of random sessions and directions, each meant for a random rule of its session, with the rule's index.
fn packets(sessions: u32, pdrs: usize, private: bool, count: usize) -> Vec<(SessionKey, PacketFields, u16)> {
    let mut state = 0x1234_5678_9abc_def1;
    let half = pdrs.div_ceil(2);
    let one = |_| {
        let r = random(&mut state);
        let (n, uplink, filter) = (
            (r % u64::from(sessions)) as u32,
            r >> 40 & 1 == 0,
            (r >> 44) as usize % half,
        );
        let is_last = filter + 1 == half;
        let interface = if uplink { Interface::Access } else { Interface::Core };
        let protocol = if is_last { 6 } else { 17 };
        let fields = PacketFields::v4(remote(n, filter, private), ue(n), protocol, 0)
            .arrived(InterfaceSet::of(&[interface]), NI)
            .with_ports(1234, 40_000);
        let [tunnel, address] = keys(n);
        (
            if uplink { tunnel } else { address },
            fields,
            (filter * 2 + usize::from(!uplink)) as u16,
        )
    };
    (0..count).map(one).collect()
}

fn measure(sessions: u32, pdrs: usize, private: bool) {
    let (table, mut writer) = Table::new();
    let start = Instant::now();
    (0..sessions).for_each(|n| put(&mut writer, n, pdrs, private));
    while writer.try_reclaim() > 0 {}
    let built = start.elapsed().as_nanos() as f64 / f64::from(sessions);

    let packets = packets(sessions, pdrs, private, 1 << 19);
    let mut reader = table.register();
    let mut wrong = 0;
    let (mut best_hash, mut best_batch, mut best_one) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..5 {
        best_hash = best_hash.min(timed(&packets, |burst| {
            let guard = reader.enter();
            let mut keys = [burst[0].0; BATCH];
            keys.iter_mut().zip(burst).for_each(|(key, packet)| *key = packet.0);
            let mut found: [Option<Found<'_, Payload>>; BATCH] = [None; BATCH];
            guard.sessions(&keys, &mut found);
            black_box(&found);
        }));
        best_batch = best_batch.min(timed(&packets, |burst| {
            let guard = reader.enter();
            let mut keys = [burst[0].0; BATCH];
            keys.iter_mut().zip(burst).for_each(|(key, packet)| *key = packet.0);
            let mut found: [Option<Found<'_, Payload>>; BATCH] = [None; BATCH];
            guard.sessions(&keys, &mut found);
            for ((_, fields, expected), found) in burst.iter().zip(found) {
                let rule = found.and_then(|found| {
                    black_box(found.payload());
                    found.classify(fields)
                });
                wrong += usize::from(rule != Some(*expected));
            }
        }));
        best_one = best_one.min(timed(&packets, |burst| {
            let guard = reader.enter();
            for (key, fields, expected) in burst {
                let rule = guard.session(*key).and_then(|found| found.classify(fields));
                wrong += usize::from(rule != Some(*expected));
            }
        }));
    }
    assert_eq!(wrong, 0);

    let mut state = 99;
    let mut session = || (random(&mut state) % u64::from(sessions)) as u32;
    let changes = 20_000;
    let precedence = per_change(changes, |i| {
        writer.set_precedence(SessionId(session()), 0, Precedence(if i % 2 == 0 { 11 } else { 10 }));
    });
    let again: Vec<_> = (0..changes)
        .map(|_| session())
        .map(|n| (n, rules(n, pdrs, private)))
        .collect();
    let replace = per_change(changes, |i| {
        let (n, rules) = &again[i];
        let outcome = writer.put(SessionId(*n), &keys(*n), &[], rules, [0; 4]);
        assert!(outcome.is_ok());
    });
    println!(
        "{sessions:>9} sessions x {pdrs:>4} PDRs {}: session {best_hash:6.1} ns, session and rule {best_batch:6.1} ns \
         (one by one {best_one:6.1}); insert {built:6.0}, replace {replace:6.0}, precedence {precedence:5.0} ns; \
         {} rule sets",
        if private { "private" } else { "shared " },
        writer.rule_sets(),
    );
}

/// Nanoseconds per packet. A burst's packets are in the nearest cache, as a parser leaves them: copied there before
/// the clock starts.
fn timed(
    packets: &[(SessionKey, PacketFields, u16)],
    mut burst: impl FnMut(&[(SessionKey, PacketFields, u16)]),
) -> f64 {
    let clock = (0..1000)
        .map(|_| Instant::now().elapsed().as_nanos())
        .min()
        .unwrap_or(0);
    let mut near = [packets[0]; BATCH];
    let mut spent = 0;
    for packets in packets.chunks_exact(BATCH) {
        near.copy_from_slice(packets);
        let start = Instant::now();
        burst(black_box(&near));
        spent += start.elapsed().as_nanos().saturating_sub(clock);
    }
    spent as f64 / packets.len() as f64
}

fn per_change(changes: usize, mut change: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..changes).for_each(&mut change);
    start.elapsed().as_nanos() as f64 / changes as f64
}

fn main() {
    let sizes: Vec<u32> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![1, 10_000, 1_000_000]
    } else {
        sizes
    };
    for sessions in sizes {
        for pdrs in [2, 4, 16, 100, 1000] {
            if pdrs as u64 * u64::from(sessions) > 16_000_000 {
                continue;
            }
            measure(sessions, pdrs, false);
            if sessions > 1 && pdrs > 2 && pdrs as u64 * u64::from(sessions) <= 4_000_000 {
                measure(sessions, pdrs, true);
            }
        }
    }
}
