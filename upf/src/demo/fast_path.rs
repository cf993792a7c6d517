//! Who forwards: the demo's table of packets by plane, and what a new flow costs the host until the target knows it.

use super::report::Report;
use crate::inspect;
use crate::lab::traffic::ping;
use crate::lab::{DN, Lab, Side};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a flow that was missed may take to be in the target.
const PROMOTION: Duration = Duration::from_secs(10);
/// Echo requests of one measurement.
const PINGS: u32 = 10;

/// What of a session's packets went which way.
#[derive(Debug, Clone, Default, Serialize)]
struct Ways {
    /// Matched and forwarded by the P4 target.
    fast_path: u64,
    /// Matched by upf-host.
    host: u64,
    /// All that came to upf-host, by the target's reason.
    punted: BTreeMap<String, u64>,
}

impl Ways {
    /// So far, of one session; reasons are those of all sessions.
    fn now(lab: &Lab, up_seid: u64) -> Self {
        let session = lab
            .client()
            .get(&format!("/v1/sessions/{up_seid:#x}"))
            .unwrap_or_default();
        let packets = |plane: &str| {
            let pdrs = session["counters"][plane]["pdrs"].as_array().into_iter().flatten();
            pdrs.filter_map(|pdr| pdr[1]["packets"].as_u64()).sum()
        };
        let counters = lab.client().get("/v1/counters").unwrap_or_default();
        let punts = counters["host"]["punts"].as_array().into_iter().flatten();
        let punts = punts.filter_map(|p| Some((p[0].as_str()?.to_owned(), p[1]["packets"].as_u64()?)));
        Self {
            fast_path: packets("p4"),
            host: packets("host"),
            punted: punts.collect(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let punted = self.punted.iter().map(|(reason, &packets)| {
            let before = before.punted.get(reason).copied().unwrap_or(0);
            (reason.clone(), packets.saturating_sub(before))
        });
        Self {
            fast_path: self.fast_path.saturating_sub(before.fast_path),
            host: self.host.saturating_sub(before.host),
            punted: punted.filter(|(_, packets)| *packets > 0).collect(),
        }
    }

    fn row(&self, what: &str) -> Vec<String> {
        let reasons = self
            .punted
            .iter()
            .map(|(reason, packets)| format!("{reason} {packets}"));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let because = if reasons.is_empty() { "-".to_owned() } else { reasons };
        vec![what.into(), self.fast_path.to_string(), self.host.to_string(), because]
    }
}

/// A session of the demo: the UE's number and the UPF's SEID.
pub(super) type Session = (usize, u64);

/// Pings of a UE with one PDR a way, and of one whose flows must be learnt: the first ones and later ones.
pub(super) fn show(lab: &Lab, direct: Session, by_flow: Session, report: &mut Report) {
    report.heading("Who forwards: the P4 target what it knows, upf-host the rest");
    // Next hops are asked for by the first packets, and known to the target a moment later.
    let _ = ping(lab, Side::Ue(direct.0), DN.into(), 2, 0.2);
    settle(lab, direct);

    let measured = [
        measure(lab, "ue1, one PDR each way", direct),
        measure(lab, "ue3, several PDRs: its flow is new", by_flow),
        {
            settle(lab, by_flow);
            measure(lab, "ue3, the same flow again", by_flow)
        },
    ];
    let head = ["PACKETS OF", "FAST PATH", "HOST", "PUNTED BECAUSE"];
    let rows = measured.iter().map(|(what, ways)| ways.row(what));
    report.note(&indented(&inspect::table(&head, rows)));
    let [(_, direct), (_, new), (_, known)] = &measured;
    let both_ways = u64::from(2 * PINGS);
    let seen = |ways: &Ways| format!("{} by the fast path, {} by the host", ways.fast_path, ways.host);
    report.step(
        "a session with one PDR each way is the target's",
        direct.host == 0 && direct.fast_path == both_ways,
        &seen(direct),
    );
    report.step(
        "a new flow of several PDRs is classified by the host",
        new.host > 0 && new.punted.contains_key("flow_miss"),
        &seen(new),
    );
    report.step(
        "once it is learnt, the target forwards it",
        known.host == 0 && known.fast_path == both_ways,
        &seen(known),
    );
    let rows: serde_json::Map<String, Value> = measured
        .iter()
        .map(|(what, ways)| (what.to_string(), serde_json::json!(ways)))
        .collect();
    report.table("fast_path", rows.into());
}

fn measure(lab: &Lab, what: &'static str, (ue, up_seid): Session) -> (&'static str, Ways) {
    let before = Ways::now(lab, up_seid);
    let _ = ping(lab, Side::Ue(ue), DN.into(), PINGS, 0.02);
    (what, Ways::now(lab, up_seid).since(&before))
}

/// Until an echo request and its reply go by the fast path, or for [`PROMOTION`].
fn settle(lab: &Lab, (ue, up_seid): Session) {
    let deadline = Instant::now() + PROMOTION;
    while Instant::now() < deadline {
        let before = Ways::now(lab, up_seid);
        let _ = ping(lab, Side::Ue(ue), DN.into(), 1, 0.2);
        let ways = Ways::now(lab, up_seid).since(&before);
        if ways.fast_path >= 2 && ways.host == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}
