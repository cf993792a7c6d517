//! One writer, several readers: every packet sees a session as it was at some moment, and nothing is freed too early
//! or never.

use pdr_classifier::{InterfaceSet, OwnerId, PacketFields, PdrMatch, PutError, Quota, SessionKey, Table};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, SdfFilter,
    SessionId, Teid,
};

const NI: NetworkInstanceId = NetworkInstanceId(3);

fn tunnel(n: u32) -> SessionKey {
    SessionKey::FTeid {
        endpoint: EndpointId(0),
        teid: Teid(n + 1),
    }
}

fn ue_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + n)
}

fn ue(n: u32) -> SessionKey {
    SessionKey::UeV4 {
        ni: NI,
        addr: ue_address(n),
    }
}

fn uplink(n: u32, remote_port: u16) -> PacketFields {
    PacketFields::v4(Ipv4Addr::new(192, 0, 2, 1), ue_address(n), 17, 0)
        .arrived(InterfaceSet::of(&[Interface::Access]), NI)
        .with_ports(remote_port, 4000)
}

fn rule(precedence: u32, tunnel: SessionKey, remote_port: Option<u16>) -> PdrMatch {
    let port = remote_port.map(|p| PortRange { low: p, high: p });
    let flow = IpFilterRule {
        protocol: Some(17),
        remote: AddressMatch::Any,
        remote_ports: port.into_iter().collect(),
        ue: AddressMatch::Assigned,
        ue_ports: Vec::new(),
    };
    PdrMatch {
        precedence: Precedence(precedence),
        source_interface: Interface::Access,
        network_instance: NI,
        tunnel: vec![tunnel],
        ue: Vec::new(),
        qfis: 0,
        application: None,
        ethernet: Vec::new(),
        sdf: vec![SdfFilter {
            flow: Some(flow),
            ..SdfFilter::default()
        }],
    }
}

/// Runs `read` again and again on two threads while `write` runs once.
fn meanwhile(read: impl Fn(&AtomicBool) + Sync, write: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| read(&stop));
        }
        write();
        stop.store(true, Ordering::Relaxed);
    });
}

fn short_while() -> impl Fn() -> bool {
    let end = Instant::now() + Duration::from_millis(if cfg!(miri) { 50 } else { 400 });
    move || Instant::now() < end
}

/// What the sessions of the next test carry: the payload says which rules it was put with.
#[derive(Debug, Clone, Copy)]
struct Version {
    session: u32,
    number: u64,
}

fn versioned_rules(n: u32, version: u64) -> Vec<PdrMatch> {
    // The port that the packets have stands in rule `version % 3`.
    (0..3)
        .map(|i| rule(10, tunnel(n), Some(if i == version % 3 { 80 } else { 81 })))
        .collect()
}

#[test]
fn rules_payload_and_keys_are_replaced_as_one_and_no_key_that_stays_is_missed() {
    const SESSIONS: u32 = 8;
    let (table, mut writer) = Table::new();
    let mut put = |n: u32, version: u64| {
        // The UE address comes and goes, the tunnel stays.
        let keys = [tunnel(n), ue(n)];
        let keys = if version.is_multiple_of(2) {
            &keys[..]
        } else {
            &keys[..1]
        };
        writer.put(
            SessionId(n),
            keys,
            &[],
            &versioned_rules(n, version),
            Version {
                session: n,
                number: version,
            },
        )
    };
    for n in 0..SESSIONS {
        put(n, 0).expect("its own keys");
    }
    let lookups = AtomicU64::new(0);
    meanwhile(
        |stop| {
            let mut reader = table.register();
            let mut last = [0; SESSIONS as usize];
            while !stop.load(Ordering::Relaxed) {
                let keys: Vec<_> = (0..SESSIONS).flat_map(|n| [tunnel(n), ue(n)]).collect();
                let guard = reader.enter();
                let mut found = vec![None; keys.len()];
                guard.sessions(&keys, &mut found);
                for (n, found) in (0..SESSIONS).zip(found.chunks(2)) {
                    let by_tunnel = found[0].expect("a key that stays");
                    let Version { session, number } = *by_tunnel.payload();
                    assert_eq!(session, n);
                    assert_eq!(by_tunnel.classify(&uplink(n, 80)).map(u64::from), Some(number % 3));
                    assert!(
                        number >= last[n as usize],
                        "a reader never goes back to what was replaced"
                    );
                    last[n as usize] = number;
                    if let Some(by_address) = found[1] {
                        assert_eq!(by_address.payload().session, n);
                        assert_eq!(
                            by_address.payload().number % 2,
                            0,
                            "found by a key that this version has"
                        );
                    }
                }
                lookups.fetch_add(1, Ordering::Relaxed);
            }
        },
        || {
            let go_on = short_while();
            let mut version = 0;
            while go_on() {
                version += 1;
                for n in 0..SESSIONS {
                    put(n, version).expect("its own keys");
                }
            }
            assert!(version > 1);
        },
    );
    assert!(lookups.into_inner() > 0);
}

#[test]
fn precedences_change_one_by_one_and_never_show_a_mixture() {
    let (table, mut writer) = Table::new();
    let key = tunnel(0);
    // The third rule is never the best: before it lowers the one, the writer has raised the other.
    let rules = [rule(1, key, None), rule(5, key, None), rule(3, key, None)];
    writer.put(SessionId(0), &[key], &[], &rules, ()).expect("a free key");
    meanwhile(
        |stop| {
            let mut reader = table.register();
            let mut wins = [0u64; 3];
            while !stop.load(Ordering::Relaxed) {
                let guard = reader.enter();
                for _ in 0..if cfg!(miri) { 2 } else { 64 } {
                    let found = guard.session(key).expect("it stays");
                    wins[found.classify(&uplink(0, 80)).expect("all three match") as usize] += 1;
                }
            }
            assert_eq!(wins[2], 0);
        },
        || {
            let go_on = short_while();
            while go_on() {
                for (rule, precedence) in [(1, 1), (0, 5), (0, 1), (1, 5)] {
                    assert!(writer.set_precedence(SessionId(0), rule, Precedence(precedence)));
                }
            }
        },
    );
}

#[test]
fn no_session_is_missed_while_the_table_grows_and_shrinks() {
    const STAYING: u32 = if cfg!(miri) { 3 } else { 50 };
    const COMING: u32 = if cfg!(miri) { 150 } else { 30_000 };
    let (table, mut writer) = Table::new();
    for n in 0..STAYING {
        writer
            .put(SessionId(n), &[tunnel(n), ue(n)], &[], &[], n)
            .expect("its own keys");
    }
    meanwhile(
        |stop| {
            let mut reader = table.register();
            while !stop.load(Ordering::Relaxed) {
                let guard = reader.enter();
                for n in 0..STAYING {
                    assert_eq!(guard.session(tunnel(n)).map(|f| *f.payload()), Some(n));
                    assert_eq!(guard.session(ue(n)).map(|f| *f.payload()), Some(n));
                }
            }
        },
        || {
            for n in STAYING..COMING {
                writer
                    .put(SessionId(n), &[tunnel(n), ue(n)], &[], &[], n)
                    .expect("its own keys");
            }
            for n in STAYING..COMING {
                assert!(writer.remove(SessionId(n)).is_some());
            }
            for n in STAYING..COMING / 2 {
                writer.put(SessionId(n), &[ue(n)], &[], &[], n).expect("its own keys");
            }
        },
    );
    let mut reader = table.register();
    let guard = reader.enter();
    for n in 0..COMING {
        assert_eq!(guard.session(tunnel(n)).is_some(), n < STAYING);
        assert_eq!(guard.session(ue(n)).is_some(), n < COMING / 2);
    }
}

#[test]
fn framed_routes_follow_their_session() {
    let (table, mut writer) = Table::new();
    let route = |len: u8| {
        (
            NI,
            IpPrefix::new(IpAddr::from([172, 16, 0, 0]), len).expect("a length of IPv4"),
        )
    };
    let behind = IpAddr::from([172, 16, 0, 9]);
    writer
        .put(SessionId(0), &[ue(0)], &[route(12)], &[], 0u64)
        .expect("free");
    meanwhile(
        |stop| {
            let mut reader = table.register();
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let guard = reader.enter();
                let found = guard.framed(NI, behind).expect("the /12 stays");
                assert!(
                    found.id() == SessionId(0) || *found.payload() == 0,
                    "the /24 comes and goes"
                );
                if found.id() == SessionId(0) {
                    assert!(*found.payload() >= last);
                    last = *found.payload();
                }
            }
        },
        || {
            let go_on = short_while();
            let mut version = 0;
            while go_on() {
                version += 1;
                writer
                    .put(SessionId(0), &[ue(0)], &[route(12)], &[], version)
                    .expect("free");
                writer.put(SessionId(1), &[ue(1)], &[route(24)], &[], 0).expect("free");
                writer.remove(SessionId(1)).expect("put above");
            }
        },
    );
}

/// Counts those of it that exist.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn payloads_are_dropped_after_the_grace_period_and_not_before() {
    let count = Arc::new(AtomicUsize::new(0));
    let (table, mut writer) = Table::new();
    let mut reader = table.register();
    writer
        .put(SessionId(0), &[tunnel(0)], &[], &[], Counted::new(&count))
        .expect("free");
    let guard = reader.enter();
    let found = guard.session(tunnel(0)).expect("put above");
    let replaced = writer
        .put(SessionId(0), &[tunnel(0)], &[], &[], Counted::new(&count))
        .expect("free");
    let removed = writer.remove(SessionId(0)).expect("put above");
    assert!(guard.session(tunnel(0)).is_none());
    writer.try_reclaim();
    assert!(!writer.passed(replaced) && !writer.passed(removed));
    assert_eq!(
        found.payload().0.load(Ordering::Relaxed),
        2,
        "both are there while the burst lasts"
    );
    drop(guard);
    assert!(writer.passed(replaced) && writer.passed(removed));
    writer.synchronize();
    assert_eq!(
        (count.load(Ordering::Relaxed), writer.pending(), writer.rule_sets()),
        (0, 0, 0)
    );
}

#[test]
fn readers_may_outlive_the_writer_and_the_last_handle_frees_everything() {
    let count = Arc::new(AtomicUsize::new(0));
    let (table, mut writer) = Table::new();
    let mut reader = table.register();
    let route = |n: u32| {
        (
            NI,
            IpPrefix::new(IpAddr::V4(ue_address(n)), 32).expect("a length of IPv4"),
        )
    };
    for n in 0..10 {
        let payload = Counted::new(&count);
        writer
            .put(SessionId(n), &[tunnel(n)], &[route(n)], &versioned_rules(n, 0), payload)
            .expect("its own keys");
    }
    writer.set_precedence(SessionId(1), 2, Precedence(0));
    drop((table, writer));
    assert!(reader.enter().session(tunnel(1)).is_some());
    drop(reader);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn sessions_that_differ_in_addresses_and_precedence_values_share_their_rules() {
    let (_table, mut writer) = Table::new();
    for n in 0..100 {
        let rules = [rule(n, tunnel(n), Some(80)), rule(n + 1, tunnel(n), None)];
        writer
            .put(SessionId(n), &[tunnel(n), ue(n)], &[], &rules, ())
            .expect("its own keys");
    }
    assert_eq!(writer.rule_sets(), 1);
    writer
        .put(SessionId(7), &[tunnel(7)], &[], &[rule(1, tunnel(7), Some(443))], ())
        .expect("its own keys");
    assert_eq!(writer.rule_sets(), 1, "nobody else has that one");
    writer
        .put(SessionId(8), &[tunnel(8)], &[], &[rule(1, tunnel(8), Some(443))], ())
        .expect("its own keys");
    assert_eq!(writer.rule_sets(), 2);
    (0..100).for_each(|n| assert!(writer.remove(SessionId(n)).is_some()));
    writer.synchronize();
    assert_eq!(writer.rule_sets(), 0);
}

#[test]
fn a_refused_put_changes_nothing() {
    let (table, mut writer) = Table::new();
    let mut reader = table.register();
    writer.put(SessionId(0), &[tunnel(0)], &[], &[], 0).expect("free");
    writer.put(SessionId(1), &[tunnel(1)], &[], &[], 1).expect("free");
    let stolen = writer.put(SessionId(1), &[tunnel(2), tunnel(0)], &[], &[], 2);
    assert_eq!(
        stolen,
        Err(PutError::KeyTaken {
            key: tunnel(0),
            owner: SessionId(0)
        })
    );
    let many: Vec<_> = (10..60).map(tunnel).collect();
    assert!(matches!(
        writer.put(SessionId(1), &many, &[], &[], 2),
        Err(PutError::TooMany { .. })
    ));
    // A million combinations of ports: too many for an interpreter to refuse in good time.
    if !cfg!(miri) {
        let wide: Vec<_> = (0..1000)
            .map(|p| PortRange {
                low: 2 * p,
                high: 2 * p,
            })
            .collect();
        let mut flood = rule(0, tunnel(1), None);
        if let Some(flow) = &mut flood.sdf[0].flow {
            (flow.remote_ports, flow.ue_ports) = (wide.clone(), wide);
        }
        let flooded = writer.put(SessionId(1), &[tunnel(1)], &[], &[flood], 2);
        assert!(matches!(flooded, Err(PutError::TooMany { .. })));
    }
    let guard = reader.enter();
    assert_eq!(guard.session(tunnel(0)).map(|f| *f.payload()), Some(0));
    assert_eq!(guard.session(tunnel(1)).map(|f| *f.payload()), Some(1));
    assert!(guard.session(tunnel(2)).is_none());
    assert_eq!(writer.get(SessionId(1)), Some(&1));
}

#[test]
fn an_owner_gets_what_its_quota_allows_and_others_do_not_feel_it() {
    let (_table, mut writer) = Table::new();
    let (mine, theirs) = (OwnerId(1), OwnerId(2));
    let quota = Quota {
        sessions: 2,
        rules: 4,
        rules_in_a_session: 3,
    };
    writer.set_quota(mine, quota);
    let rules = |n: u32, count: u32| (0..count).map(|i| rule(i, tunnel(n), Some(80))).collect::<Vec<_>>();
    let mut put = |owner, n, count| {
        writer
            .put_for(owner, SessionId(n), &[tunnel(n)], &[], &rules(n, count), ())
            .err()
    };
    assert_eq!(put(mine, 0, 1), None);
    let refused = |what, limit, found| {
        Some(PutError::OverQuota {
            owner: mine,
            what,
            limit,
            found,
        })
    };
    assert_eq!(put(mine, 1, 5), refused("rules in a session", 3, 5));
    assert_eq!(put(mine, 1, 3), None);
    assert_eq!(put(mine, 0, 2), refused("rules", 4, 5));
    assert_eq!(put(mine, 2, 0), refused("sessions", 2, 3));
    assert_eq!(put(theirs, 2, 9), None);
    assert_eq!(writer.usage(mine), (2, 4));
    let another = rule(9, tunnel(0), None);
    assert!(writer.insert_rule(SessionId(0), &another).is_err(), "a fifth rule");
    writer.remove(SessionId(1));
    assert_eq!(writer.insert_rule(SessionId(0), &another), Ok(1));
    assert_eq!(writer.usage(mine), (1, 2));
    assert_eq!(writer.usage(theirs), (1, 9));
}
