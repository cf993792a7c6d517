//! Guaranteed bit rates: what is promised, refused and pre-empted.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use qos::{Engine, Notice};
use std::collections::BTreeMap;
use upf_model::{BitRates, SessionId};

/// Profiles of 40 kbit/s at three priorities; a slice with room for two.
const FILE: &str = "
capacities: {slices: {'1': {downlink_kbps: 100}}, ports: {n3: {downlink_kbps: 150}}, cells: {c: {uplink_kbps: 90}}}
profiles:
  LOW: {arp: {priority_level: 12}, effects: {gbr: {uplink_kbps: 40, downlink_kbps: 40}}}
  SAFE: {arp: {priority_level: 14, preemptable: false}, effects: {gbr: {uplink_kbps: 40, downlink_kbps: 40}}}
  MEEK: {arp: {priority_level: 2}, effects: {gbr: {uplink_kbps: 40, downlink_kbps: 40}}}
  HIGH: {arp: {priority_level: 3, may_preempt: true, preemptable: false}, effects: {gbr: {uplink_kbps: 40, downlink_kbps: 40}}}
  HUGE: {arp: {priority_level: 1, may_preempt: true}, effects: {gbr: {uplink_kbps: 200, downlink_kbps: 200}}}
";

/// Asks for a profile for a flow of a session; whether it is in force.
fn ask(engine: &mut Engine, n: u8, profile: &str) -> bool {
    let web = flow(n, "permit out 6 from any 80 to assigned");
    engine.put_fact(fact(web, "qod", text(profile)), 0).unwrap();
    has(engine, n)
}

fn has(engine: &mut Engine, n: u8) -> bool {
    effective(engine, n, 0).pdrs.len() > 4
}

fn give_back(engine: &mut Engine, n: u8) {
    engine.remove_fact(&flow(n, "permit out 6 from any 80 to assigned"), &key("qod"));
    assert!(!has(engine, n));
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason_and_had_when_there_is_room() {
    let mut engine = engine(FILE, &[1, 2, 3]);
    assert!(ask(&mut engine, 1, "LOW") && ask(&mut engine, 2, "LOW"));
    assert!(!ask(&mut engine, 3, "LOW"));
    let notices = engine.take_notices();
    let [
        Notice::Refused {
            session,
            fact,
            reason,
            source,
        },
    ] = &notices[..]
    else {
        panic!("{notices:?}")
    };
    assert_eq!((session.0, source.as_str()), (3, "profile LOW"));
    assert_eq!(
        fact.as_ref().unwrap().about,
        flow(3, "permit out 6 from any 80 to assigned")
    );
    assert_eq!(
        reason,
        "slice 1 has 20 kbit/s downlink left for guaranteed rates, and 40 are asked for"
    );
    engine.marked(9);
    assert!(!has(&mut engine, 3));
    assert_eq!(engine.take_notices(), [], "said once");
    give_back(&mut engine, 1);
    assert_eq!(engine.marked(9), [SessionId(1), SessionId(3)], "who waits is told");
    assert!(has(&mut engine, 3));
}

#[test]
fn only_who_may_preempts_and_only_the_preemptable_of_a_worse_priority() {
    for (first, second, later, had) in [
        ("LOW", "LOW", "MEEK", [true, true, false]),
        ("LOW", "LOW", "HIGH", [false, true, true]),
        ("SAFE", "SAFE", "HIGH", [true, true, false]),
        ("SAFE", "LOW", "HIGH", [true, false, true]),
        ("MEEK", "MEEK", "HIGH", [true, true, false]),
        ("LOW", "LOW", "HUGE", [true, true, false]),
    ] {
        let mut engine = engine(FILE, &[1, 2, 3]);
        assert!(ask(&mut engine, 1, first) && ask(&mut engine, 2, second));
        engine.marked(9);
        ask(&mut engine, 3, later);
        let notices = engine.take_notices();
        let preempted = notices.iter().filter(|n| matches!(n, Notice::Preempted { .. })).count();
        assert_eq!(
            preempted,
            had.iter().filter(|had| !**had).count() - usize::from(!had[2])
        );
        for id in engine.marked(9) {
            has(&mut engine, id.0 as u8);
        }
        assert_eq!([1, 2, 3].map(|n| has(&mut engine, n)), had, "{first} {second} {later}");
        assert!(
            !engine
                .take_notices()
                .iter()
                .any(|n| matches!(n, Notice::Preempted { .. }))
        );
    }
}

#[test]
fn what_the_smf_promises_is_never_refused_and_others_make_room() {
    let mut engine = engine(FILE, &[1, 2]);
    assert!(ask(&mut engine, 1, "SAFE") && ask(&mut engine, 2, "LOW"));
    let mut base = session(3);
    let kbps = |kbps| {
        Some(BitRates {
            uplink_kbps: kbps,
            downlink_kbps: kbps,
        })
    };
    base.qers[0].gbr = kbps(50);
    engine.put_session(profile(&base), &base, 0);
    assert!(!has(&mut engine, 1) && has(&mut engine, 2), "SAFE has the worse level");
    base.qers[0].gbr = kbps(500);
    engine.put_session(profile(&base), &base, 0);
    assert!(!has(&mut engine, 2));
    let overbooked = engine
        .take_notices()
        .into_iter()
        .filter(|n| matches!(n, Notice::Overbooked { booked_kbps: 500, .. }));
    assert_eq!(overbooked.count(), 2, "of slice and port");
    engine.marked(9);
    engine.remove_session(SessionId(3));
    assert_eq!(engine.marked(9).len(), 2);
    assert!(has(&mut engine, 1) && has(&mut engine, 2));
}

#[test]
fn a_smaller_capacity_takes_from_the_lowest_priority() {
    let mut engine = engine(FILE, &[1, 2]);
    assert!(ask(&mut engine, 1, "MEEK") && ask(&mut engine, 2, "LOW"));
    engine.replace_policies(policies(&FILE.replace("downlink_kbps: 100", "downlink_kbps: 50")), 0);
    assert_eq!([1, 2].map(|n| has(&mut engine, n)), [true, false]);
    engine.replace_policies(policies(FILE), 0);
    assert_eq!([1, 2].map(|n| has(&mut engine, n)), [true, true]);
}

#[test]
fn a_user_in_another_cell_is_booked_there() {
    let mut engine = engine(&FILE.replace("downlink_kbps: 100", "downlink_kbps: 1000"), &[1, 2, 3]);
    for n in [1, 2] {
        engine.put_fact(fact(user(n), "cell", text("c")), 0).unwrap();
        assert!(ask(&mut engine, n, "LOW"));
    }
    assert!(ask(&mut engine, 3, "LOW"));
    engine.marked(9);
    engine.put_fact(fact(user(3), "cell", text("c")), 0).unwrap();
    assert!(!has(&mut engine, 3));
    engine.put_fact(fact(user(1), "cell", text("d")), 0).unwrap();
    assert!(has(&mut engine, 1));
    assert!(engine.marked(9).contains(&SessionId(3)));
    assert!(has(&mut engine, 3));
}

#[test]
fn what_is_booked_is_what_the_rules_in_effect_promise() {
    let gbr = "effects: {gbr: {uplink_kbps: 40, downlink_kbps: 40}";
    let flow = r#"flow: "permit out 17 from 203.0.113.5 to assigned""#;
    for (apply_to, effects, downlink_kbps) in [
        // Both QERs, each changed in place.
        ("{direction: downlink}", format!("{gbr}}}"), 80),
        ("{qfis: [9]}", format!("{gbr}}}"), 40),
        // A flow of DNS and the rest, which are marked with two QFIs: two QERs.
        (&format!("{{{flow}}}"), format!("{gbr}}}"), 80),
        // And with one: one.
        (
            &format!("{{{flow}}}"),
            format!("{gbr}, qfi: 3, mbr: {{uplink_kbps: 50, downlink_kbps: 50}}}}"),
            40,
        ),
    ] {
        let file = format!(
            "capacities: {{slices: {{'1': {{downlink_kbps: 100}}}}}}\npolicies: [{{name: p, apply_to: {apply_to}, {effects}}}]"
        );
        let mut engine = engine(&file, &[1]);
        let session = effective(&mut engine, 1, 0);
        assert_eq!(booked(&engine)["slice 1"].1, downlink_kbps, "{file}");
        let promised: u64 = session
            .qers
            .iter()
            .filter_map(|qer| qer.gbr)
            .map(|gbr| gbr.downlink_kbps)
            .sum();
        assert_eq!(promised, downlink_kbps, "{file}");
    }
}

/// Sums of what is promised, by resource.
fn booked(engine: &Engine) -> BTreeMap<String, (u64, u64)> {
    let mut sums = BTreeMap::new();
    for booking in engine.state().bookings {
        for resource in booking.resources {
            let sum: &mut (u64, u64) = sums.entry(resource.to_string()).or_default();
            sum.0 += booking.rates.uplink_kbps;
            sum.1 += booking.rates.downlink_kbps;
        }
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_capacity_is_ever_exceeded(steps in prop::collection::vec((1u8..7, 0usize..9, 0u64..60), 1..60)) {
        let mut engine = engine(FILE, &[1, 2, 3, 4, 5, 6]);
        let mut guaranteed = [0u64; 7];
        for (n, what, kbps) in steps {
            let web = flow(n, "permit out 6 from any 80 to assigned");
            match what {
                0 => drop(engine.remove_fact(&web, &key("qod"))),
                1 => drop(engine.put_fact(fact(user(n), "cell", text(if kbps < 30 { "c" } else { "d" })), 0)),
                2 => {
                    let mut base = session(n);
                    base.qers[0].gbr = Some(BitRates { uplink_kbps: kbps, downlink_kbps: kbps });
                    guaranteed[usize::from(n)] = kbps;
                    engine.put_session(profile(&base), &base, 0);
                }
                3 => {
                    engine.remove_session(SessionId(n.into()));
                    guaranteed[usize::from(n)] = 0;
                    engine.put_session(profile(&session(n)), &session(n), 0);
                }
                _ => {
                    let names = ["LOW", "SAFE", "MEEK", "HIGH", "HUGE"];
                    engine.put_fact(fact(web, "qod", text(names[what - 4])), 0).unwrap();
                }
            }
            // A few of those marked, as a busy controller would.
            for id in engine.marked(2) {
                let mut base = session(id.0 as u8);
                let kbps = guaranteed[id.0 as usize];
                base.qers[0].gbr = (kbps > 0).then_some(BitRates { uplink_kbps: kbps, downlink_kbps: kbps });
                let decision = engine.decide(id, &base, 0);
                laid_over(&base, &decision);
            }
            let sums = booked(&engine);
            let of = |name: &str| sums.get(name).copied().unwrap_or_default();
            let base: u64 = guaranteed.iter().sum();
            prop_assert!(of("slice 1").1 == 0 || of("slice 1").1 + base <= 100);
            prop_assert!(of("port n3").1 == 0 || of("port n3").1 + base <= 150);
            prop_assert!(of("cell c").0 <= 90);
        }
        // What remains marked comes to an end.
        for _ in 0..100 {
            let Some(id) = engine.marked(1).first().copied() else { return Ok(()) };
            let base = session(id.0 as u8);
            engine.put_session(profile(&base), &base, 0);
            engine.marked(100);
            engine.decide(id, &base, 0);
        }
    }
}
