//! What must hold of any sequence of facts: all returns to the SMF's rules, what is in effect follows from the facts that
//! there are, and derived PDRs mean what they should.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use qos::{Engine, Fact, Notice, Subject, User, Value};
use upf_model::{FlowFields, IpFilterRule, Pdr, Seid, Session, SessionId};

const FILE: &str = r#"
queues: {}
profiles:
  FAST: {effects: {queue: 6, dscp: 46, mbr: {uplink_kbps: 900, downlink_kbps: 900}}}
  FIRST: {priority: 10, effects: {precedence: {absolute: 5}, gbr: {uplink_kbps: 10, downlink_kbps: 10}}}
policies:
- {name: a, when: {key: app, equals: call}, apply_to: {flow: fact}, effects: {queue: 7, dscp: 40, l4s: true}}
- {name: b, when: {key: app, equals: call}, effects: {queue: 3, session_ambr_percent: 50}}
- {name: c, when: {key: load, above: 50}, apply_to: {direction: downlink}, effects: {dscp: 10, gate: {downlink: closed}}}
- {name: d, when: {key: load, above: 20}, apply_to: {flow: permit out 17 from any 50-60 to assigned}, effects: {qfi: 3, precedence: {relative: -1}}}
- {name: e, priority: 5, when: {not: {any: [{key: load, below: 80}, {key: load, exists: false}]}}, apply_to: {qfis: [9], pdrs: [2, 4]}, effects: {mbr: {uplink_kbps: 1, downlink_kbps: 1}}}
"#;

const FLOWS: [&str; 4] = [
    "permit out 17 from 203.0.113.0/24 to assigned",
    "permit out ip from 203.0.113.5 to assigned",
    "permit out 17 from any 53,80 to 10.45.0.0/16",
    "permit out ip from any to any",
];

fn about() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Network),
        Just(Subject::Slice("1".into())),
        Just(Subject::Cell("c".into())),
        (1u8..3).prop_map(user),
        (1u8..3).prop_map(|n| Subject::User(User::Session(Seid(100 + u64::from(n))))),
        (1u8..3).prop_map(|n| Subject::User(User::Address([10, 45, 0, n].into()))),
        (1u8..3, 0usize..4).prop_map(|(n, i)| flow(n, FLOWS[i])),
    ]
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let said = prop_oneof![
        prop::sample::select(vec!["call", "game"]).prop_map(|v| ("app", text(v))),
        (0u8..10).prop_map(|n| ("load", Value::Number(f64::from(n) * 10.0))),
        prop::sample::select(vec!["FAST", "FIRST"]).prop_map(|v| ("qod", text(v))),
        prop::sample::select(vec!["FAST", "FIRST"]).prop_map(|v| ("qod.2", text(v))),
        prop::sample::select(vec!["c", "d"]).prop_map(|v| ("cell", text(v))),
    ];
    (about(), said, prop::option::of(1u64..100)).prop_map(|(about, (key, value), expires_ms)| Fact {
        expires_ms,
        ..fact(about, key, value)
    })
}

/// What happens, and after how many milliseconds.
#[derive(Debug, Clone)]
enum Step {
    Put(Fact),
    Remove(usize),
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        4 => any_fact().prop_map(Step::Put),
        2 => (0usize..8).prop_map(Step::Remove),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec((step, 0u64..10), 1..40)
}

fn apply(engine: &mut Engine, step: &Step, now_ms: u64) {
    match step {
        Step::Put(fact) => {
            let _ = engine.put_fact(fact.clone(), now_ms);
        }
        Step::Remove(index) => {
            let facts = engine.facts(None, "");
            let fact = facts
                .get(*index % facts.len().max(1))
                .map(|f| (f.about.clone(), f.key.clone()));
            if let Some((about, key)) = fact {
                assert!(engine.remove_fact(&about, &key).is_some());
            }
        }
        Step::Expire => drop(engine.advance(now_ms)),
    }
}

/// Two sessions in effect as a controller has them: each decided when marked, and only then.
fn follow(engine: &mut Engine, now_ms: u64, effective: &mut [Session; 2]) {
    engine.advance(now_ms);
    for id in engine.marked(10) {
        let n = id.0 as u8;
        effective[usize::from(n) - 1] = fixture::effective(engine, n, now_ms);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn when_all_facts_are_gone_the_smfs_rules_are_in_effect_exactly(steps in steps()) {
        let mut engine = engine(FILE, &[1, 2]);
        let mut effective = [session(1), session(2)];
        let mut now_ms = 0;
        for (step, after) in &steps {
            now_ms += after;
            apply(&mut engine, step, now_ms);
            follow(&mut engine, now_ms, &mut effective);
        }
        for fact in engine.state().facts.iter().rev() {
            engine.remove_fact(&fact.about, &fact.key);
        }
        follow(&mut engine, now_ms, &mut effective);
        prop_assert_eq!(&effective, &[session(1), session(2)]);
        prop_assert!(engine.decide(SessionId(1), &session(1), now_ms).is_empty());
        prop_assert_eq!(engine.state(), Default::default());
        prop_assert_eq!(engine.due_ms(), None);
    }

    #[test]
    fn what_is_in_effect_is_what_an_engine_with_the_surviving_facts_would_decide(steps in steps()) {
        let mut engine = engine(FILE, &[1, 2]);
        let mut effective = [session(1), session(2)];
        let mut now_ms = 0;
        for (step, after) in &steps {
            now_ms += after;
            apply(&mut engine, step, now_ms);
            follow(&mut engine, now_ms, &mut effective);
            let mut fresh = fixture::engine(FILE, &[1, 2]);
            for fact in engine.state().facts {
                fresh.put_fact(fact, now_ms).unwrap();
            }
            for n in [1, 2] {
                let in_effect = &effective[n as usize - 1];
                prop_assert_eq!(in_effect, &fixture::effective(&mut fresh, n, now_ms));
                let explanation = engine.explain(SessionId(n.into()), &session(n), now_ms);
                prop_assert_eq!(explanation.differences.is_empty(), *in_effect == session(n));
            }
        }
    }
}

/// Sessions with overlapping filters of both directions.
fn any_base() -> impl Strategy<Value = Session> {
    let filters = [
        "permit out ip from any to assigned",
        "permit out 17 from 203.0.113.0/25 to assigned",
        "permit out 17 from any 50-55 to assigned",
        "permit out 6 from 203.0.113.5 to 10.45.0.1 1000-2000",
        "permit out ip from 203.0.112.0/22 to any",
    ];
    let one = (
        0u32..6,
        any::<bool>(),
        prop::collection::vec(prop::sample::select(filters.to_vec()), 0..3),
        0usize..4,
    );
    prop::collection::vec(one, 1..7).prop_map(|pdrs| {
        let qers: [&[u32]; 4] = [&[1, 3], &[2, 3], &[3], &[]];
        let mut base = session(1);
        let pdrs = pdrs.into_iter().enumerate();
        base.pdrs = pdrs
            .map(|(i, (precedence, uplink, sdf, q))| pdr(10 + i as u16, precedence, uplink, &sdf, qers[q]))
            .collect();
        base.pdrs.sort_by_key(|pdr| (pdr.precedence, pdr.id));
        base
    })
}

fn any_flow() -> impl Strategy<Value = String> {
    let protocol = prop::sample::select(vec!["ip", "6", "17"]);
    let remote = prop::sample::select(vec![
        "any",
        "203.0.113.0/24",
        "203.0.113.5",
        "203.0.113.4/31",
        "2001:db8::/32",
    ]);
    let ports = prop::sample::select(vec!["", " 53", " 40-54", " 50,53-60"]);
    let ue = prop::sample::select(vec!["assigned", "any", "assigned 1500-3000"]);
    (protocol, remote, ports, ue)
        .prop_map(|(protocol, remote, ports, ue)| format!("permit out {protocol} from {remote}{ports} to {ue}"))
}

fn any_packet() -> impl Strategy<Value = FlowFields> {
    let remote = prop::sample::select(vec![
        "203.0.113.5",
        "203.0.113.4",
        "203.0.113.200",
        "203.0.112.1",
        "192.0.2.1",
    ]);
    let port = prop::sample::select(vec![40u16, 50, 53, 54, 55, 60, 80]);
    let ue_port = prop::sample::select(vec![900u16, 1000, 1500, 2000, 2500]);
    (remote, prop::sample::select(vec![6u8, 17, 1]), port, ue_port).prop_map(|(remote, protocol, port, ue_port)| {
        FlowFields {
            ue_addr: [10, 45, 0, 1].into(),
            remote_addr: remote.parse().unwrap(),
            protocol,
            ports: (protocol != 1).then_some((ue_port, port)),
            tos: 0,
            spi: None,
            flow_label: None,
        }
    })
}

fn winner<'s>(session: &'s Session, uplink: bool, packet: &FlowFields) -> Option<&'s Pdr> {
    session.pdrs.iter().find(|pdr| {
        pdr.pdi.source_interface.is_uplink() == uplink
            && (pdr.pdi.sdf.is_empty() || pdr.pdi.sdf.iter().any(|filter| filter.matches(packet)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn derived_pdrs_treat_the_packets_of_their_flows_and_no_others(
        base in any_base(),
        flows in prop::collection::vec((any_flow(), prop::sample::select(vec!["", "precedence: {absolute: 0}, ", "precedence: {absolute: 4}, "])), 1..4),
        packets in prop::collection::vec((any_packet(), any::<bool>()), 40),
    ) {
        // The first policy sets the queue, the second the gate, the third L4S: whatever the others do.
        let effects = ["queue: 7", "gate: {uplink: closed, downlink: closed}", "l4s: true"];
        let policies: Vec<String> = flows.iter().zip(effects).enumerate().map(|(i, ((flow, precedence), effect))| {
            format!("{{name: p{i}, apply_to: {{flow: {flow:?}}}, effects: {{{precedence}{effect}}}}}")
        }).collect();
        let mut engine = Engine::new(fixture::policies(&format!("policies: [{}]", policies.join(", "))));
        engine.put_session(profile(&base), &base, 0);
        let decision = engine.decide(base.id, &base, 0);
        let overlaid = laid_over(&base, &decision);
        let refused = engine.take_notices().into_iter().filter(|n| matches!(n, Notice::Refused { .. })).count();
        prop_assert_eq!(refused, 0);
        let rules: Vec<IpFilterRule> = flows.iter().map(|(flow, _)| flow.parse().unwrap()).collect();
        // One flow moved to the front is that of the same origins; others may cross PDRs, as is asked for.
        let cross = flows.iter().any(|(_, p)| p.contains('4') || (flows.len() > 1 && !p.is_empty()));
        for (packet, uplink) in &packets {
            let (before, after) = (winner(&base, *uplink, packet), winner(&overlaid.session, *uplink, packet));
            let (Some(before), Some(after)) = (before, after) else {
                prop_assert_eq!(before, after);
                continue;
            };
            let origin = overlaid.derived.iter().find(|(id, _)| *id == after.id).map_or(after.id, |(_, origin)| *origin);
            if !cross {
                prop_assert_eq!(origin, before.id);
                prop_assert_eq!((after.far, &after.urrs), (before.far, &before.urrs));
            }
            let qers = || after.qers.iter().filter_map(|id| overlaid.session.qer(*id));
            let in_flow = |i: usize| rules.get(i).is_some_and(|rule| rule.matches(packet));
            prop_assert_eq!(qers().any(|q| q.scheduling.queue == 7), in_flow(0));
            prop_assert_eq!(qers().any(|q| q.gate_uplink == upf_model::Gate::Closed), in_flow(1));
            prop_assert_eq!(qers().any(|q| q.scheduling.l4s), in_flow(2));
        }
        // Apart from them, PDRs stand in the SMF's order, unless a flow that holds one was moved.
        if flows.iter().all(|(_, precedence)| precedence.is_empty()) {
            let order = overlaid.session.pdrs.iter().map(|pdr| pdr.id).filter(|id| id.0 < 1 << 15);
            prop_assert_eq!(order.collect::<Vec<_>>(), base.pdrs.iter().map(|pdr| pdr.id).collect::<Vec<_>>());
        }
    }
}
