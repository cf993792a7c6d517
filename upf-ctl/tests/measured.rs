//! What the data planes measure, as facts that policies act on: rates of flows, QoS flows and sessions, and packet delay.

mod smf;

use smf::*;
use std::net::Ipv4Addr;
use std::time::Duration;
use upf_model::batch::{Count, DelayUsage};
use upf_model::{Pdr, PdrId, Qfi, Scheduling, Session, SessionId};

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
const FLOW: &str = "permit out 17 from 198.51.100.7 5060 to assigned";
const POLICIES: &str = "
policies:
  - name: elephants-wait
    when: { key: measured.downlink-kbps, above: 10000, clear: 5000 }
    apply_to: { flow: fact }
    effects: { queue: 1 }
  - name: a-busy-qos-flow-is-bulk
    when: { key: measured.downlink-kbps.qfi-9, above: 1000000 }
    apply_to: { qfis: [9] }
    effects: { dscp: 10 }
  - name: a-slow-user-is-told
    when: { key: measured.round-trip-delay-ms, above: 40, clear: 20 }
    effects: { l4s: true }
";

struct Stage {
    upf: Upf,
    _smf: Smf,
    _directory: Directory,
    seid: u64,
    /// As the SMF wants it.
    base: Session,
}

impl Stage {
    /// A UE with a downlink PDR for all (2) and one for a flow (3), in QoS flow 9.
    async fn new() -> Self {
        let (network, directory) = (network(), Directory::new());
        let path = directory.0.join("qos.yaml");
        std::fs::write(&path, POLICIES).unwrap();
        let upf = Upf::start_with(network, &directory.0, |config| config.qos.policies = Some(path)).await;
        let mut smf = Smf::associated(network).await;
        let mut elements = smf.establishment(1, UE);
        let ue = [&[6], UE.octets().as_slice()].concat();
        let filter = [&[1, 0], (FLOW.len() as u16).to_be_bytes().as_slice(), FLOW.as_bytes()].concat();
        let pdi = group(
            2,
            &[ie(20, &[1]), network_instance("internet"), ie(93, &ue), ie(23, &filter)],
        );
        elements.push(group(
            1,
            &[pdr_id(3), precedence(10), pdi, far_id(2), urr_id(1), qer_id(1)],
        ));
        let answer = smf.ask(ESTABLISHMENT_REQUEST, Some(0), &elements).await;
        assert_eq!(answer.cause(), ACCEPTED);
        let base = upf.plane.sessions().remove(0);
        Self {
            upf,
            _smf: smf,
            _directory: directory,
            seid: answer.up_seid(),
            base,
        }
    }

    fn id(&self) -> SessionId {
        self.base.id
    }

    fn now(&self) -> Session {
        self.upf.plane.sessions().remove(0)
    }

    /// Every 10 ms these PDRs detect so much more, until the session in the plane is so.
    async fn carry_until(&self, bytes: &[(u16, u64)], is_so: impl Fn(&Session) -> bool) {
        for _ in 0..1_000 {
            if is_so(&self.now()) {
                return;
            }
            for (pdr, bytes) in bytes {
                let packets = bytes / 1_000;
                let count = Count { packets, bytes: *bytes };
                self.upf.plane.detect(self.id(), PdrId(*pdr), count);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come to be: {:?}", self.now());
    }

    /// Keys and subjects of what is measured now.
    async fn facts(&self) -> Vec<(String, Option<String>, f64)> {
        let list = self.upf.json("/v1/contexts?key_prefix=measured.").await;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let facts = list["facts"].as_array().unwrap().iter();
        facts
            .map(|fact| {
                assert_eq!(fact["about"], format!("session/{:#x}", self.seid), "{fact}");
                (
                    text(&fact["key"]).unwrap(),
                    text(&fact["flow"]),
                    fact["value"].as_f64().unwrap(),
                )
            })
            .collect()
    }
}

fn scheduling(session: &Session, pdr: &Pdr) -> Scheduling {
    Scheduling::of(pdr.qers.iter().filter_map(|id| session.qer(*id)))
}

/// The queue of a PDR's packets.
fn queue(session: &Session, pdr: u16) -> u8 {
    let pdr = session.pdrs.iter().find(|other| other.id == PdrId(pdr)).unwrap();
    scheduling(session, pdr).queue
}

#[tokio::test]
async fn an_elephant_flow_waits_and_the_rest_of_its_session_does_not() {
    let stage = Stage::new().await;
    // Some 400 Mbit/s of the flow and 40 kbit/s of the rest.
    stage
        .carry_until(&[(3, 500_000), (2, 50)], |session| queue(session, 3) == 1)
        .await;
    assert_eq!(queue(&stage.now(), 2), 0);
    let facts = stage.facts().await;
    let rate = |flow: Option<&str>| {
        facts
            .iter()
            .find(|(key, of, _)| key == "measured.downlink-kbps" && of.as_deref() == flow)
    };
    let (of_flow, of_session) = (rate(Some(FLOW)).unwrap().2, rate(None).unwrap().2);
    assert!(of_flow > 10_000.0 && of_session >= of_flow, "{facts:?}");

    stage.carry_until(&[(2, 50)], |session| *session == stage.base).await;
    stage.upf.stop().await;
}

#[tokio::test]
async fn the_rate_of_a_qos_flow_counts_for_that_qos_flow() {
    let stage = Stage::new().await;
    // Some 4 Gbit/s together.
    let changed = |session: &Session| *session != stage.base;
    stage.carry_until(&[(3, 2_500_000), (2, 2_500_000)], changed).await;
    let facts = stage.facts().await;
    assert!(
        facts.iter().any(|(key, ..)| key == "measured.downlink-kbps.qfi-9"),
        "{facts:?}"
    );
    stage.upf.stop().await;
}

#[tokio::test]
async fn packet_delay_is_a_fact_that_policies_act_on() {
    let stage = Stage::new().await;
    let l4s = |session: &Session| session.pdrs.iter().all(|pdr| scheduling(session, pdr).l4s);
    let mut delay = DelayUsage {
        answers: 5,
        downlink_ns: 1_000_000_000,
        uplink_ns: 1_000_000_000,
        round_trip_ns: 2_000_000_000,
    };
    // What was before the first reading is not known to be of now.
    stage.upf.plane.monitor(stage.id(), Qfi(9), delay);
    for _ in 0..300 {
        if !stage.facts().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!l4s(&stage.now()));

    delay.answers += 2;
    delay.round_trip_ns += 110_000_000; // 55 ms on average
    stage.upf.plane.monitor(stage.id(), Qfi(9), delay);
    stage.carry_until(&[], l4s).await;
    let facts = stage.facts().await;
    let found = facts.iter().find(|(key, ..)| key == "measured.round-trip-delay-ms");
    assert_eq!(found.map(|(_, flow, ms)| (flow.is_none(), *ms)), Some((true, 55.0)));

    delay.answers += 1;
    delay.round_trip_ns += 15_000_000;
    stage.upf.plane.monitor(stage.id(), Qfi(9), delay);
    stage.carry_until(&[], |session| *session == stage.base).await;
    stage.upf.stop().await;
}
