//! When policies act, which of them wins, and what the engine says about it.

mod fixture;

use fixture::*;
use qos::engine::Decision;
use qos::{Engine, Fact, FactError, Notice, Policies, Subject, User, Value};
use upf_model::{Seid, SessionId};

const CALL: &str =
    "policies: [{name: call, when: {key: app, in: [call, meeting]}, apply_to: {qfis: [9]}, effects: {queue: 7}}]";

/// The queue of session 1's traffic under QFI 9.
fn queue(engine: &mut Engine, now_ms: u64) -> u8 {
    effective(engine, 1, now_ms).qers[0].scheduling.queue
}

fn put(engine: &mut Engine, fact: Fact) {
    engine.put_fact(fact, 0).unwrap();
}

#[test]
fn a_fact_that_expires_leaves_nothing_behind() {
    let mut engine = engine(CALL, &[1, 2]);
    engine.marked(10);
    let call = Fact {
        expires_ms: Some(5_000),
        ..fact(user(1), "app", text("call"))
    };
    assert_eq!(engine.put_fact(call.clone(), 1_000), Ok(None));
    assert_eq!(engine.marked(10), [SessionId(1)]);
    assert_eq!(queue(&mut engine, 1_000), 7);
    assert_eq!(engine.due_ms(), Some(5_000));
    assert_eq!(engine.advance(4_999), []);
    assert_eq!(engine.advance(5_000), [call]);
    assert_eq!(engine.marked(10), [SessionId(1)]);
    assert!(engine.decide(SessionId(1), &session(1), 5_000).is_empty());
    assert_eq!(effective(&mut engine, 1, 5_000), session(1));
    assert_eq!(engine.due_ms(), None);
}

#[test]
fn a_fact_put_again_replaces_value_and_lifetime() {
    let mut engine = engine(CALL, &[1]);
    let call = fact(user(1), "app", text("call"));
    put(
        &mut engine,
        Fact {
            expires_ms: Some(10),
            ..call.clone()
        },
    );
    let replaced = engine
        .put_fact(
            Fact {
                expires_ms: Some(99),
                ..call.clone()
            },
            1,
        )
        .unwrap();
    assert_eq!(replaced.and_then(|f| f.expires_ms), Some(10));
    assert_eq!(engine.due_ms(), Some(99));
    put(&mut engine, fact(user(1), "app", text("game")));
    assert_eq!((queue(&mut engine, 2), engine.due_ms()), (0, None));
}

#[test]
fn marks_coalesce_keep_their_order_and_are_made_only_where_a_policy_asks() {
    let mut engine = engine(CALL, &[1, 2, 3]);
    assert_eq!(engine.marked(2), [SessionId(1), SessionId(2)]);
    assert_eq!(engine.marked(9), [SessionId(3)]);
    put(&mut engine, fact(user(3), "app", text("call")));
    put(&mut engine, fact(user(1), "app", text("call")));
    put(&mut engine, fact(user(3), "app", text("meeting")));
    put(&mut engine, fact(user(2), "weather", text("fine")));
    put(&mut engine, fact(user(1), "app", text("call")));
    assert_eq!(engine.marked(9), [SessionId(3), SessionId(1)]);
    put(&mut engine, fact(Subject::Network, "app", text("call")));
    assert_eq!(engine.marked(9).len(), 3);
}

#[test]
fn a_user_is_known_by_identity_address_framed_route_and_session() {
    let mut base = session(1);
    base.framed_routes.push("198.51.100.0/24".parse().unwrap());
    base.ue_ips[0].ipv6 = upf_model::Ipv6Prefix::new("2001:db8:1::".parse().unwrap(), 64);
    let named = |user: User| {
        let mut engine = Engine::new(policies(CALL));
        // Facts may be there before the session is.
        put(&mut engine, fact(Subject::User(user.clone()), "app", text("call")));
        engine.put_session(profile(&base), &base, 0);
        let acts = !engine.decide(base.id, &base, 0).is_empty();
        assert_eq!(acts, engine.sessions_of(&Subject::User(user)) == [base.id]);
        acts
    };
    assert!(named(User::Subscriber("imsi-1".into())));
    assert!(named(User::Session(Seid(101))));
    for address in ["10.45.0.1", "198.51.100.77", "2001:db8:1::abcd"] {
        assert!(named(User::Address(address.parse().unwrap())), "{address}");
    }
    for address in ["10.45.0.2", "198.51.101.1", "2001:db8:2::1"] {
        assert!(!named(User::Address(address.parse().unwrap())), "{address}");
    }
}

#[test]
fn a_cell_is_the_sessions_whose_users_are_in_it() {
    let policy = "policies: [{name: busy, when: {key: load, above: 80}, apply_to: {qfis: [9]}, effects: {queue: 2}}]";
    let mut engine = engine(policy, &[1, 2]);
    put(&mut engine, fact(user(1), "cell", text("c1")));
    put(
        &mut engine,
        fact(Subject::Cell("c1".into()), "load", Value::Number(90.0)),
    );
    assert_eq!(engine.sessions_of(&Subject::Cell("c1".into())), [SessionId(1)]);
    assert_eq!(queue(&mut engine, 0), 2);
    engine.marked(9);
    put(&mut engine, fact(user(1), "cell", text("c2")));
    assert_eq!(engine.marked(9), [SessionId(1)]);
    assert_eq!(queue(&mut engine, 0), 0);
    assert_eq!(engine.sessions_of(&Subject::Cell("c1".into())), []);
}

#[test]
fn the_fact_about_the_narrowest_subject_counts() {
    let mut engine = engine(CALL, &[1]);
    put(&mut engine, fact(Subject::Network, "app", text("call")));
    assert_eq!(queue(&mut engine, 0), 7);
    put(&mut engine, fact(Subject::Slice("1".into()), "app", text("none")));
    assert_eq!(queue(&mut engine, 0), 0);
    put(&mut engine, fact(user(1), "app", text("meeting")));
    assert_eq!(queue(&mut engine, 0), 7);
    put(
        &mut engine,
        fact(Subject::User(User::Session(Seid(101))), "app", text("none")),
    );
    assert_eq!(queue(&mut engine, 0), 0);
    engine.remove_session(SessionId(1));
    assert_eq!(
        engine.facts(None, "").len(),
        3,
        "facts about the session alone end with it"
    );
}

#[test]
fn hysteresis_keeps_a_threshold_passed_until_the_clear_bound() {
    let policy =
        "policies: [{name: busy, when: {key: load, above: 80, clear: 60}, apply_to: {qfis: [9]}, effects: {queue: 2}}]";
    let mut engine = engine(policy, &[1]);
    for (load, expected) in [
        (70.0, 0),
        (80.0, 0),
        (81.0, 2),
        (70.0, 2),
        (61.0, 2),
        (60.0, 0),
        (70.0, 0),
        (90.0, 2),
    ] {
        put(&mut engine, fact(Subject::Network, "load", Value::Number(load)));
        assert_eq!(queue(&mut engine, 0), expected, "{load}");
    }
    engine.remove_fact(&Subject::Network, &key("load"));
    put(&mut engine, fact(Subject::Network, "load", Value::Number(70.0)));
    assert_eq!(
        queue(&mut engine, 0),
        2,
        "that it was away between two decisions nobody saw"
    );
    engine.remove_fact(&Subject::Network, &key("load"));
    assert_eq!(queue(&mut engine, 0), 0);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(70.0)));
    assert_eq!(queue(&mut engine, 0), 0);
}

#[test]
fn a_policy_waits_before_it_acts_and_holds_once_it_does() {
    let policy = "policies: [{name: p, when: {key: app, exists: true}, for_ms: 100, hold_ms: 1000, apply_to: {qfis: [9]}, effects: {queue: 7}}]";
    let mut engine = engine(policy, &[1]);
    let app = fact(user(1), "app", Value::Bool(true));
    put(&mut engine, app.clone());
    assert_eq!(queue(&mut engine, 1_000), 0);
    assert_eq!(engine.due_ms(), Some(1_100));
    engine.remove_fact(&app.about, &app.key);
    assert_eq!(queue(&mut engine, 1_050), 0);
    put(&mut engine, app.clone());
    assert_eq!(queue(&mut engine, 1_090), 0, "the wait begins anew");
    assert_eq!(engine.due_ms(), Some(1_190));
    engine.marked(9);
    engine.advance(1_190);
    assert_eq!(engine.marked(9), [SessionId(1)]);
    assert_eq!(queue(&mut engine, 1_190), 7);
    assert_eq!(engine.due_ms(), None);
    engine.remove_fact(&app.about, &app.key);
    assert_eq!(queue(&mut engine, 1_200), 7, "held");
    assert_eq!(engine.due_ms(), Some(2_190));
    assert_eq!(queue(&mut engine, 2_189), 7);
    assert_eq!(queue(&mut engine, 2_190), 0);
    assert!(engine.state().policies.is_empty());
}

#[test]
fn a_time_window_opens_and_closes_by_itself() {
    const MIDNIGHT: u64 = 1_672_617_600_000;
    const HOUR: u64 = 3_600_000;
    let policy =
        "policies: [{name: p, when: {time: {from: '09:00', to: '17:00'}}, apply_to: {qfis: [9]}, effects: {queue: 7}}]";
    let mut engine = engine(policy, &[1]);
    assert_eq!(queue(&mut engine, MIDNIGHT), 0);
    assert_eq!(engine.due_ms(), Some(MIDNIGHT + 9 * HOUR));
    engine.marked(9);
    engine.advance(MIDNIGHT + 9 * HOUR);
    assert_eq!(engine.marked(9), [SessionId(1)]);
    assert_eq!(queue(&mut engine, MIDNIGHT + 9 * HOUR), 7);
    assert_eq!(engine.due_ms(), Some(MIDNIGHT + 17 * HOUR));
}

#[test]
fn the_lower_priority_number_wins_then_the_earlier_policy_and_both_are_told() {
    let policies = "policies:
- {name: a, apply_to: {qfis: [9]}, effects: {queue: 1, dscp: 10}}
- {name: b, apply_to: {qfis: [9]}, effects: {queue: 2}}
- {name: c, priority: 50, apply_to: {pdrs: [2]}, effects: {dscp: 46}}";
    let mut engine = engine(policies, &[1]);
    assert_eq!(queue(&mut engine, 0), 1);
    let conflict = Notice::Conflict {
        session: SessionId(1),
        winner: "policy a".into(),
        loser: "policy b".into(),
        field: "queue",
    };
    assert_eq!(engine.take_notices(), [conflict]);
    queue(&mut engine, 0);
    assert_eq!(engine.take_notices(), [], "said once");
    let explanation = engine.explain(SessionId(1), &session(1), 0);
    let states: Vec<_> = explanation
        .effects
        .iter()
        .map(|e| (e.source.as_str(), e.field, e.state.as_str()))
        .collect();
    assert_eq!(
        states,
        [
            ("policy c", "dscp", "in force"),
            ("policy a", "queue", "in force"),
            ("policy a", "dscp", "in force, but in part overruled by policy c"),
            ("policy b", "queue", "overruled by policy a (of the same priority)"),
        ]
    );
}

#[test]
fn a_profile_applies_to_what_the_fact_is_about() {
    let file = "profiles: {FAST: {effects: {queue: 6}}}";
    let mut engine = engine(file, &[1]);
    put(
        &mut engine,
        fact(
            flow(1, "permit out 6 from 203.0.113.5 443 to assigned"),
            "qod.17",
            text("FAST"),
        ),
    );
    let session = effective(&mut engine, 1, 0);
    assert_eq!(session.pdrs.len(), 6);
    assert_eq!(session.qers.iter().filter(|qer| qer.scheduling.queue == 6).count(), 1);
    put(&mut engine, fact(user(1), "qod", text("FAST")));
    let session = effective(&mut engine, 1, 0);
    assert!(
        session
            .pdrs
            .iter()
            .all(|pdr| session.qer(pdr.qers[0]).unwrap().scheduling.queue == 6)
    );
    let unknown = engine.put_fact(fact(user(1), "qod.2", text("SLOW")), 0);
    assert_eq!(unknown, Err(FactError::UnknownProfile("SLOW".into())));
    assert_eq!(
        engine.put_fact(fact(user(1), "qod-2", text("SLOW")), 0),
        Ok(None),
        "another key"
    );
}

#[test]
fn a_policy_about_the_flow_of_a_fact_acts_on_each_such_flow_alone() {
    let file = "policies: [{name: p, when: {all: [{key: app, equals: call}, {key: load, above: 5}]}, hold_ms: 50, apply_to: {flow: fact, direction: downlink}, effects: {queue: 6}}]";
    let mut engine = engine(file, &[1]);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(9.0)));
    put(&mut engine, fact(user(1), "app", text("call")));
    assert_eq!(effective(&mut engine, 1, 0), session(1), "no flow is said to be one");
    let call = fact(
        flow(1, "permit out 17 from 203.0.113.5 to assigned"),
        "app",
        text("call"),
    );
    put(&mut engine, call.clone());
    put(
        &mut engine,
        fact(
            flow(1, "permit out 17 from 203.0.113.6 to assigned"),
            "app",
            text("game"),
        ),
    );
    // DNS from there, and the rest from there.
    assert_eq!(effective(&mut engine, 1, 0).pdrs.len(), 6);
    engine.remove_fact(&call.about, &call.key);
    assert_eq!(
        effective(&mut engine, 1, 10).pdrs.len(),
        6,
        "held, though nothing names the flow any more"
    );
    assert_eq!(effective(&mut engine, 1, 50), session(1));
}

#[test]
fn floods_and_nonsense_are_refused_and_change_nothing() {
    let mut engine = engine("limits: {facts_per_user: 2, facts: 3}", &[1]);
    let refused = |engine: &mut Engine, fact: Fact| {
        let before = engine.state();
        let error = engine.put_fact(fact, 100).unwrap_err();
        assert_eq!(engine.state(), before);
        error
    };
    put(&mut engine, fact(user(1), "a", Value::Bool(true)));
    put(
        &mut engine,
        fact(flow(1, "permit out ip from any to any"), "a", Value::Bool(true)),
    );
    assert_eq!(
        refused(&mut engine, fact(user(1), "b", Value::Bool(true))),
        FactError::UserQuota { limit: 2 }
    );
    put(&mut engine, fact(user(1), "a", Value::Bool(false)));
    put(&mut engine, fact(user(2), "a", Value::Bool(true)));
    assert_eq!(
        refused(&mut engine, fact(user(3), "a", Value::Bool(true))),
        FactError::Quota { limit: 3 }
    );
    let nan = refused(&mut engine, fact(user(1), "a", Value::Number(f64::NAN)));
    assert_eq!(nan, FactError::NotFinite("NaN".into()));
    let expired = Fact {
        expires_ms: Some(100),
        ..fact(user(1), "a", Value::Bool(true))
    };
    assert_eq!(
        refused(&mut engine, expired),
        FactError::Expired {
            expires_ms: 100,
            now_ms: 100
        }
    );
    let long = refused(&mut engine, fact(user(1), "a", text(&"x".repeat(300))));
    assert_eq!(
        long.to_string(),
        "expected a value of at most 256 bytes, found 300 bytes"
    );
}

#[test]
fn too_many_derived_pdrs_are_refused_flow_by_flow() {
    let file = "limits: {facts_per_user: 1000}\nprofiles: {FAST: {effects: {queue: 6}}}";
    let mut engine = engine(file, &[1]);
    for port in 0..40 {
        put(
            &mut engine,
            fact(
                flow(1, &format!("permit out 6 from any {} to assigned", 1000 + port)),
                "qod",
                text("FAST"),
            ),
        );
    }
    let session = effective(&mut engine, 1, 0);
    assert_eq!(session.pdrs.len(), 4 + 64);
    let refused = engine.take_notices();
    assert_eq!(refused.len(), 8);
    assert!(matches!(&refused[0], Notice::Refused { fact: Some(_), reason, .. } if reason.contains("64 derived PDRs")));
    effective(&mut engine, 1, 0);
    assert_eq!(engine.take_notices(), [], "said once");
    assert_eq!(engine.explain(SessionId(1), &fixture::session(1), 0).refusals.len(), 8);
}

#[test]
fn an_explanation_says_what_made_the_session_what_it_is() {
    let file = "policies: [{name: busy, when: {key: load, above: 80, clear: 60}, for_ms: 10, apply_to: {pdrs: [1, 2]}, effects: {queue: 2}}, {name: other, when: {dnn: ims}, effects: {queue: 1}}]";
    let mut engine = engine(file, &[1]);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(90.0)));
    queue(&mut engine, 5);
    let waiting = engine.explain(SessionId(1), &session(1), 5);
    assert!(waiting.policies[0].condition && !waiting.policies[0].in_force);
    assert_eq!(
        (waiting.policies[0].holds_since_ms, waiting.policies[0].until_ms),
        (Some(5), Some(15))
    );
    assert!(waiting.differences.is_empty());
    queue(&mut engine, 15);
    let explanation = engine.explain(SessionId(1), &session(1), 20);
    assert_eq!(explanation.contexts.len(), 1);
    assert_eq!(explanation.policies[0].in_force_since_ms, Some(15));
    assert!(!explanation.policies[1].condition);
    assert_eq!(explanation.differences.len(), 1);
    let difference = &explanation.differences[0];
    assert_eq!(difference.field, "qers[1].scheduling.queue");
    assert_eq!(
        (difference.base.as_u64(), difference.effective.as_u64()),
        (Some(0), Some(2))
    );
    assert_eq!(
        engine.explain(SessionId(9), &session(9), 20),
        qos::Explanation::default()
    );
}

#[test]
fn other_policies_take_over_what_those_of_their_name_remember() {
    let busy = |queue: u8| {
        format!(
            "policies: [{{name: x, when: {{dnn: ims}}, effects: {{queue: 1}}}}, {{name: busy, when: {{key: load, above: 80, clear: 60}}, apply_to: {{qfis: [9]}}, effects: {{queue: {queue}}}}}]"
        )
    };
    let mut engine = engine(&busy(2), &[1]);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(90.0)));
    queue(&mut engine, 0);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(70.0)));
    engine.marked(9);
    let text = busy(3).replace("{name: x, when: {dnn: ims}, effects: {queue: 1}}, ", "");
    engine.replace_policies(policies(&text), 0);
    assert_eq!(engine.marked(9), [SessionId(1)]);
    assert_eq!(queue(&mut engine, 0), 3);
    engine.replace_policies(Policies::empty(), 0);
    assert_eq!(engine.decide(SessionId(1), &session(1), 0), Decision::default());
}

#[test]
fn a_restart_decides_the_same() {
    let file = "profiles: {G: {effects: {gbr: {uplink_kbps: 60, downlink_kbps: 60}}}}
capacities: {slices: {'1': {downlink_kbps: 100}}}
policies:
- {name: busy, when: {key: load, above: 80, clear: 60}, apply_to: {qfis: [9]}, effects: {queue: 2}}
- {name: held, when: {key: app, exists: true}, hold_ms: 1000, apply_to: {qfis: [5]}, effects: {queue: 3}}";
    let mut engine = engine(file, &[1, 2]);
    put(&mut engine, fact(Subject::Network, "load", Value::Number(90.0)));
    put(&mut engine, fact(user(1), "app", Value::Bool(true)));
    put(
        &mut engine,
        fact(flow(2, "permit out 6 from any 80 to assigned"), "qod", text("G")),
    );
    let decide = |engine: &mut Engine, now_ms| [1, 2].map(|n| engine.decide(SessionId(n), &session(n as u8), now_ms));
    decide(&mut engine, 10);
    put(
        &mut engine,
        fact(flow(1, "permit out 6 from any 80 to assigned"), "qod", text("G")),
    );
    put(&mut engine, fact(Subject::Network, "load", Value::Number(70.0)));
    engine.remove_fact(&user(1), &key("app"));
    let before = decide(&mut engine, 20);
    let json = serde_json::to_string(&engine.state()).unwrap();
    for sessions_first in [true, false] {
        let mut again = Engine::new(policies(file));
        let restore = |again: &mut Engine| again.restore(serde_json::from_str(&json).unwrap(), 30);
        if !sessions_first {
            restore(&mut again);
            assert_eq!(serde_json::to_string(&again.state()).unwrap(), json);
        }
        for n in [1, 2] {
            again.put_session(profile(&session(n)), &session(n), 30);
        }
        if sessions_first {
            restore(&mut again);
        }
        assert_eq!(decide(&mut again, 30), before);
        assert_eq!(again.due_ms(), Some(1010));
        assert_eq!(again.state(), engine.state());
    }
}
