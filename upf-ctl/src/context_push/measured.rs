//! What the UPF measures of users itself, as facts about their sessions.
//!
//! | key | value |
//! | --- | --- |
//! | `measured.downlink-kbps`, `measured.uplink-kbps` | what both planes have carried since the last usage poll, kbit/s |
//! | `measured.downlink-packet-bytes`, `measured.uplink-packet-bytes` | mean size of these packets, bytes |
//!
//! So a policy finds an elephant (`measured.downlink-kbps` above a rate, `clear` below another) or a conversation (small
//! packets at a small rate). A fact is there only while a policy asks for it; it is not stored, and expires when nothing
//! measures any more.

use crate::controller::Controller;
use crate::planes::Measured;
use crate::usage::now_ms;
use qos::{Fact, Key, Policies, Subject, User, Value};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use upf_model::batch::Count;
use upf_model::{Seid, Session, SessionId};

/// All keys here begin so.
const PREFIX: &str = "measured.";
/// Facts outlive a few polls that were late.
const LIFETIME: Duration = Duration::from_secs(10);
/// Between two readings at least: of less, a rate says little.
const SHORTEST: Duration = Duration::from_millis(500);

const KEYS: [[&str; 2]; 2] = [
    ["measured.uplink-kbps", "measured.uplink-packet-bytes"],
    ["measured.downlink-kbps", "measured.downlink-packet-bytes"],
];

/// A session's counters as they were read last: of uplink and downlink.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    at: Instant,
    counts: [Count; 2],
}

/// Whether a fact is one of these.
pub fn is_measured(key: &Key) -> bool {
    key.as_str().starts_with(PREFIX)
}

/// Whether a policy asks for any.
pub fn is_wanted(policies: &Policies) -> bool {
    keys(policies).next().is_some()
}

/// Those that policies ask for, with their place in [`KEYS`].
fn keys(policies: &Policies) -> impl Iterator<Item = (Key, usize, usize)> + '_ {
    let all = KEYS
        .iter()
        .enumerate()
        .flat_map(|(way, keys)| keys.iter().enumerate().map(move |(i, k)| (*k, way, i)));
    all.filter_map(|(text, way, i)| Some((Key::try_from(text.to_owned()).ok()?, way, i)))
        .filter(|(key, ..)| policies.asks_for(key))
}

/// Uplink and downlink packets of a session by the counters of its PDRs.
fn counts(session: &Session, measured: &Measured) -> [Count; 2] {
    let mut counts = [Count::default(); 2];
    for (id, count) in &measured.usage.pdrs {
        if let Some(pdr) = session.pdrs.iter().find(|pdr| pdr.id == *id) {
            counts[usize::from(!pdr.pdi.source_interface.is_uplink())] += *count;
        }
    }
    counts
}

/// Takes in what the planes have counted.
pub fn take(controller: &mut Controller, measured: &[Measured]) {
    let wanted: Vec<_> = keys(controller.contexts.engine.policies()).collect();
    if wanted.is_empty() {
        return;
    }
    let mut totals: HashMap<SessionId, [Count; 2]> = HashMap::new();
    for measured in measured {
        let id = measured.usage.session;
        let Some(entry) = controller.sessions.get(id) else {
            continue;
        };
        let total = totals.entry(id).or_default();
        for (total, count) in total.iter_mut().zip(counts(entry.in_planes(), measured)) {
            *total += count;
        }
    }
    let (at, now) = (Instant::now(), now_ms());
    for (id, counts) in totals {
        let Some(entry) = controller.sessions.get_mut(id) else {
            continue;
        };
        if entry.reading.is_some_and(|reading| at - reading.at < SHORTEST) {
            continue;
        }
        let seid = entry.record.session.seid;
        let Some(before) = entry.reading.replace(Reading { at, counts }) else {
            continue;
        };
        for (key, way, i) in &wanted {
            let Some(value) = value(&before, at, counts[*way], *way, *i == 0) else {
                continue;
            };
            // Refused: the user has as many facts as may be. The next poll measures again.
            let _ = controller
                .contexts
                .engine
                .put_fact(fact(seid, key.clone(), value, now), now);
        }
    }
}

/// A rate, or a mean size; none: a plane has counted from the start again, or there were no packets to be measured.
fn value(before: &Reading, at: Instant, now: Count, way: usize, is_rate: bool) -> Option<f64> {
    let packets = now.packets.checked_sub(before.counts[way].packets)?;
    let bytes = now.bytes.checked_sub(before.counts[way].bytes)? as f64;
    if is_rate {
        Some(bytes * 8e-3 / (at - before.at).as_secs_f64())
    } else {
        (packets > 0).then(|| bytes / packets as f64)
    }
}

fn fact(seid: Seid, key: Key, value: f64, now: u64) -> Fact {
    Fact {
        about: Subject::User(User::Session(seid)),
        key,
        value: Value::Number(value),
        expires_ms: Some(now + LIFETIME.as_millis() as u64),
        note: None,
    }
}
