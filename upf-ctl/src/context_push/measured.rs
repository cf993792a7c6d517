//! What the UPF measures of users itself, as facts about their sessions and flows.
//!
//! | key | value, since the last usage poll |
//! | --- | --- |
//! | `measured.downlink-kbps`, `measured.uplink-kbps` | what both planes have carried, kbit/s |
//! | `measured.downlink-packet-bytes`, `measured.uplink-packet-bytes` | mean size of these packets, bytes |
//! | `measured.downlink-delay-ms`, `measured.uplink-delay-ms` | mean packet delay between UPF and UE, where `qos.delay` is configured and the gNB answers |
//! | `measured.round-trip-delay-ms` | the same there and back |
//!
//! Each is so of the session. With `.qfi-N` behind it (`measured.downlink-kbps.qfi-5`) it is about the session's packets of
//! that QoS flow: those whose PDRs the SMF has put into it. Where a policy with `apply_to: {flow: fact}` asks for a key, it
//! is measured of each flow that has PDRs of its own too, as a fact about that flow: a flow is what one filter of packets
//! describes. The delay of a flow is that of its QoS flow.
//!
//! So a policy finds an elephant (`measured.downlink-kbps` above a rate, `clear` below another) or a conversation (small
//! packets at a small rate). A fact is there only while a policy asks for it; it is not stored, and expires when nothing
//! measures any more.

mod reading;

pub use reading::{Increase, Reading};

use crate::controller::Controller;
use crate::planes::Measured;
use crate::sessions::Entry;
use crate::usage::now_ms;
use qos::context::Flow;
use qos::{Fact, Key, Policies, Subject, User, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use upf_model::batch::{Count, DelayUsage};
use upf_model::{Pdr, PdrId, Qfi, SdfFilter, Session};

/// All keys here begin so.
const PREFIX: &str = "measured.";
/// Between the name of a key and the QoS flow that it is about.
const QFI: &str = ".qfi-";
/// Facts outlive a few polls that were late.
const LIFETIME: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    /// kbit/s, of uplink or downlink packets.
    Rate {
        uplink: bool,
    },
    /// Bytes.
    Size {
        uplink: bool,
    },
    /// Milliseconds.
    DownlinkDelay,
    UplinkDelay,
    RoundTripDelay,
}

const QUANTITIES: [(&str, Quantity); 7] = [
    ("uplink-kbps", Quantity::Rate { uplink: true }),
    ("downlink-kbps", Quantity::Rate { uplink: false }),
    ("uplink-packet-bytes", Quantity::Size { uplink: true }),
    ("downlink-packet-bytes", Quantity::Size { uplink: false }),
    ("downlink-delay-ms", Quantity::DownlinkDelay),
    ("uplink-delay-ms", Quantity::UplinkDelay),
    ("round-trip-delay-ms", Quantity::RoundTripDelay),
];

/// Whether a fact is one of these.
pub fn is_measured(key: &Key) -> bool {
    key.as_str().starts_with(PREFIX)
}

/// Whether a policy asks for any.
pub fn is_wanted(policies: &Policies) -> bool {
    policies.keys().any(|key| quantity(key).is_some())
}

/// What a key is about: a quantity, and of one QoS flow (none: of all packets of its subject).
fn quantity(key: &Key) -> Option<(Quantity, Option<Qfi>)> {
    let name = key.as_str().strip_prefix(PREFIX)?;
    let (name, qfi) = match name.split_once(QFI) {
        None => (name, None),
        Some((name, qfi)) => (name, Some(Qfi(qfi.parse().ok().filter(|qfi| *qfi < 64)?))),
    };
    let (_, quantity) = QUANTITIES.iter().find(|(known, _)| *known == name)?;
    Some((*quantity, qfi))
}

/// What policies ask for.
struct Wanted {
    /// Of sessions, and of their QoS flows.
    of_sessions: Vec<(Key, Quantity, Option<Qfi>)>,
    /// Of each flow.
    of_flows: Vec<(Key, Quantity)>,
}

impl Wanted {
    fn new(policies: &Policies) -> Self {
        let of_sessions = policies.keys().filter_map(|key| {
            let (quantity, qfi) = quantity(key)?;
            Some((key.clone(), quantity, qfi))
        });
        let of_flows = policies.keys_of_flows().into_iter().filter_map(|key| {
            let (quantity, qfi) = quantity(&key)?;
            qfi.is_none().then_some((key, quantity))
        });
        Self {
            of_sessions: of_sessions.collect(),
            of_flows: of_flows.collect(),
        }
    }
}

/// Takes in what the planes have counted.
pub fn take(controller: &mut Controller, measured: &[Measured]) {
    let wanted = Wanted::new(controller.contexts.engine.policies());
    if wanted.of_sessions.is_empty() {
        return;
    }
    let mut sessions: BTreeMap<_, Vec<&Measured>> = BTreeMap::new();
    for measured in measured {
        sessions.entry(measured.usage.session).or_default().push(measured);
    }
    let (at, now) = (Instant::now(), now_ms());
    for (id, measured) in sessions {
        let read = |reading: &mut Reading| reading.take(&measured, at);
        let Some(increases) = controller.sessions.with_reading(id, read).flatten() else {
            continue;
        };
        let Some(entry) = controller.sessions.get(id) else {
            continue;
        };
        for fact in facts(&entry, &wanted, &increases, now) {
            // Refused: the user has as many facts as may be. The next poll measures again.
            let _ = controller.contexts.engine.put_fact(fact, now);
        }
    }
}

/// What has come of a session since its last reading, in facts.
fn facts(entry: &Entry, wanted: &Wanted, increases: &[Increase], now: u64) -> Vec<Fact> {
    let session = entry.in_planes();
    let user = User::Session(entry.record.session.seid);
    let fact = |about: Subject, key: &Key, value: f64| Fact {
        about,
        key: key.clone(),
        value: Value::Number(value),
        expires_ms: Some(now + LIFETIME.as_millis() as u64),
        note: None,
    };
    let mut facts = Vec::new();
    for (key, quantity, qfi) in &wanted.of_sessions {
        let meant = |pdr: &&Pdr| qfi.is_none() || smf_qfi(entry, pdr) == *qfi;
        let pdrs: Vec<&Pdr> = session.pdrs.iter().filter(meant).collect();
        if let Some(value) = value(*quantity, session, &pdrs, increases) {
            facts.push(fact(Subject::User(user.clone()), key, value));
        }
    }
    if wanted.of_flows.is_empty() {
        return facts;
    }
    for (flow, pdrs) in flows(session) {
        for (key, quantity) in &wanted.of_flows {
            if let Some(value) = value(*quantity, session, &pdrs, increases) {
                facts.push(fact(Subject::Flow(user.clone(), flow.clone()), key, value));
            }
        }
    }
    facts
}

/// The QoS flow of a PDR's packets as the SMF has it, whatever policies make of it.
fn smf_qfi(entry: &Entry, pdr: &Pdr) -> Option<Qfi> {
    let base = &entry.record.session;
    let id = entry.smf_pdr(pdr.id);
    qfi(base, base.pdrs.iter().find(|pdr| pdr.id == id)?)
}

/// The QoS flow of a PDR's packets: that of its QERs, or the only one that it asks for.
fn qfi(session: &Session, pdr: &Pdr) -> Option<Qfi> {
    let marked = pdr.qers.iter().find_map(|id| session.qer(*id)?.qfi);
    marked.or_else(|| match pdr.pdi.qfis[..] {
        [qfi] => Some(qfi),
        _ => None,
    })
}

/// Flows with PDRs of their own, and these.
fn flows(session: &Session) -> BTreeMap<Flow, Vec<&Pdr>> {
    let mut flows: BTreeMap<Flow, Vec<&Pdr>> = BTreeMap::new();
    for pdr in &session.pdrs {
        if let [
            SdfFilter {
                flow: Some(rule),
                tos: None,
                spi: None,
                flow_label: None,
                ..
            },
        ] = &pdr.pdi.sdf[..]
        {
            flows.entry(Flow::new(rule)).or_default().push(pdr);
        }
    }
    flows
}

/// A quantity of the packets of some PDRs; none: there was nothing to measure it by.
fn value(quantity: Quantity, session: &Session, pdrs: &[&Pdr], increases: &[Increase]) -> Option<f64> {
    match quantity {
        Quantity::Rate { uplink } => {
            let kbps = |increase: &Increase| count(pdrs, uplink, increase).bytes as f64 * 8e-3 / increase.seconds;
            (!increases.is_empty()).then(|| increases.iter().map(kbps).sum())
        }
        Quantity::Size { uplink } => {
            let mut total = Count::default();
            increases
                .iter()
                .for_each(|increase| total += count(pdrs, uplink, increase));
            (total.packets > 0).then(|| total.bytes as f64 / total.packets as f64)
        }
        Quantity::DownlinkDelay => delay_ms(session, pdrs, increases, |delay| delay.downlink_ns),
        Quantity::UplinkDelay => delay_ms(session, pdrs, increases, |delay| delay.uplink_ns),
        Quantity::RoundTripDelay => delay_ms(session, pdrs, increases, |delay| delay.round_trip_ns),
    }
}

/// What PDRs of a direction have counted.
fn count(pdrs: &[&Pdr], uplink: bool, increase: &Increase) -> Count {
    let mut total = Count::default();
    let of = |id: PdrId| increase.pdrs.iter().find(|(other, _)| *other == id);
    for pdr in pdrs.iter().filter(|pdr| pdr.pdi.source_interface.is_uplink() == uplink) {
        if let Some((_, count)) = of(pdr.id) {
            total += *count;
        }
    }
    total
}

/// The mean over the answers of the QoS flows that packets of these PDRs leave by.
fn delay_ms(session: &Session, pdrs: &[&Pdr], increases: &[Increase], way: impl Fn(&DelayUsage) -> u64) -> Option<f64> {
    let qfis: BTreeSet<Qfi> = pdrs.iter().filter_map(|pdr| qfi(session, pdr)).collect();
    let delays = increases.iter().flat_map(|increase| &increase.delays);
    let (mut ns, mut answers) = (0, 0);
    for (_, delay) in delays.filter(|(qfi, _)| qfis.contains(qfi)) {
        ns += way(delay);
        answers += delay.answers;
    }
    (answers > 0).then(|| ns as f64 / answers as f64 / 1e6)
}
