//! What a context update costs: a fact put, a decision made, and the session laid over, with few facts and with many.
//!
//! `cargo run --release -p qos --example updates`

use qos::{Engine, Fact, Key, Policies, SessionProfile, Subject, User, Value, overlay};
use std::time::Instant;
use upf_model::{
    Action, BitRates, Disposition, Far, FarId, ForwardingParameters, Gate, Interface, NetworkInstanceId, Pdi, Pdr,
    PdrId, Precedence, Qer, QerId, Qfi, Scheduling, Seid, Session, SessionId, UeIpAddress,
};

const UPDATES: usize = 20_000;
const ROUNDS: usize = 7;

fn main() {
    let policies = include_str!("../../config/qos.yaml");
    let policies = Policies::parse(policies, "config/qos.yaml").expect("the example is valid");
    println!(
        "{:>9} {:>9} {:>22} {:>22}",
        "sessions", "facts", "policy on a session", "profile for a flow"
    );
    for (sessions, facts) in [(100, 1_000), (10_000, 1_000), (10_000, 100_000)] {
        let mut engine = Engine::new(policies.clone());
        let bases: Vec<Session> = (0..sessions).map(session).collect();
        for base in &bases {
            engine.put_session(profile(base), base, 0);
        }
        for i in 0..facts {
            let about = Subject::User(User::Subscriber(name(i % 50_000)));
            let put = engine.put_fact(fact(about, &format!("other.{}", i / 50_000), Value::Bool(true)), 0);
            put.expect("within the quotas");
        }
        engine.marked(usize::MAX);
        let flow: upf_model::IpFilterRule = "permit out 17 from 203.0.113.5 5060 to assigned"
            .parse()
            .expect("a rule");
        let flow = qos::context::Flow::new(&flow);
        let of_session = measure(&mut engine, &bases, |user, odd| {
            let percent = Value::Number(if odd { 10.0 } else { 90.0 });
            fact(Subject::User(user), "battery.percent", percent)
        });
        let of_flow = measure(&mut engine, &bases, |user, odd| {
            let name = Value::Text(if odd { "QOS_S" } else { "QOS_M" }.into());
            fact(Subject::Flow(user, flow.clone()), "qod", name)
        });
        println!("{sessions:>9} {facts:>9} {of_session:>17.2} us/u {of_flow:>17.2} us/u");
    }
}

/// The median over rounds of microseconds for an update, from fact to session.
fn measure(engine: &mut Engine, bases: &[Session], fact: impl Fn(User, bool) -> Fact) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let facts: Vec<Fact> = (0..UPDATES)
                .map(|i| {
                    let user = User::Subscriber(name(i * 7 % bases.len()));
                    fact(user, (i / bases.len() + round).is_multiple_of(2))
                })
                .collect();
            let start = Instant::now();
            let mut rules = 0;
            for fact in facts {
                let expires = Some(3_600_000);
                engine
                    .put_fact(
                        Fact {
                            expires_ms: expires,
                            ..fact
                        },
                        1,
                    )
                    .expect("within the quotas");
                for id in engine.marked(16) {
                    let base = &bases[id.0 as usize];
                    let decision = engine.decide(id, base, 1);
                    rules += overlay(base, &decision).session.pdrs.len();
                }
            }
            let elapsed = start.elapsed();
            assert!(rules > UPDATES, "every update reached a session");
            elapsed.as_secs_f64() * 1e6 / UPDATES as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn name(user: usize) -> String {
    format!("imsi-00101{user:010}")
}

fn fact(about: Subject, key: &str, value: Value) -> Fact {
    Fact {
        about,
        key: Key::try_from(key.to_owned()).expect("a key"),
        value,
        expires_ms: None,
        note: None,
    }
}

fn profile(base: &Session) -> SessionProfile {
    SessionProfile {
        id: base.id,
        seid: base.seid,
        subscriber: vec![name(base.id.0 as usize)],
        slice: Some("1".into()),
        dnn: Some("internet".into()),
        ports: vec!["n3".into(), "n6".into()],
    }
}

/// Two PDRs for voice and two for the rest, three QERs, two FARs.
fn session(n: usize) -> Session {
    let [_, a, b, c] = (n as u32).to_be_bytes();
    let pdr = |id: u16, uplink: bool, voice: bool| Pdr {
        id: PdrId(id),
        precedence: Precedence(if voice { 100 } else { 200 }),
        pdi: Pdi {
            source_interface: if uplink { Interface::Access } else { Interface::Core },
            network_instance: NetworkInstanceId(0),
            local_fteid: None,
            ue_ip: None,
            framed_routes: Vec::new(),
            sdf: if voice {
                let flow = "permit out 17 from 198.51.100.0/24 to assigned".parse().ok();
                vec![upf_model::SdfFilter {
                    flow,
                    ..Default::default()
                }]
            } else {
                Vec::new()
            },
            qfis: Vec::new(),
        },
        outer_header_removal: None,
        far: FarId(if uplink { 1 } else { 2 }),
        qers: vec![QerId(if voice { 2 } else { 1 }), QerId(3)],
        urrs: Vec::new(),
    };
    let far = |id, destination_interface| Far {
        id: FarId(id),
        action: Action {
            disposition: Disposition::Forward,
            duplicate: false,
        },
        forwarding: Some(ForwardingParameters {
            destination_interface,
            network_instance: NetworkInstanceId(0),
            outer_header_creation: None,
            transport_level_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    };
    let qer = |id, qfi: Option<u8>, kbps| Qer {
        id: QerId(id),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: Some(BitRates {
            uplink_kbps: kbps,
            downlink_kbps: kbps,
        }),
        gbr: None,
        qfi: qfi.map(Qfi),
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Scheduling::default(),
    };
    Session {
        id: SessionId(n as u32),
        seid: Seid(n as u64 + 1),
        ue_ips: vec![UeIpAddress {
            ipv4: Some([10, a, b, c].into()),
            ipv6: None,
        }],
        pdrs: vec![
            pdr(3, true, true),
            pdr(4, false, true),
            pdr(1, true, false),
            pdr(2, false, false),
        ],
        fars: vec![far(1, Interface::Core), far(2, Interface::Access)],
        qers: vec![qer(1, Some(9), 50_000), qer(2, Some(1), 500), qer(3, None, 100_000)],
        ..Session::default()
    }
}
