//! Owns what people are told of the P4 plane: where sessions live and why, what was promoted and evicted, how long writes
//! take, and the entries of one session.

use super::target::Left;
use crate::placement::{Entry, HostReason, Key, Mode, Place};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use upf_model::batch::FlowPacket;

/// Bounds of the buckets of write latency, seconds.
pub const LATENCY_BOUNDS_S: [f64; 8] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Why a flow left the target, or did not get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowReason {
    /// No packet for as long as is configured.
    Idle,
    /// Another needed its place.
    Full,
    /// Its session has as many as it may.
    SessionBound,
    /// The rules have changed, or packets like it cannot be told from others.
    NotPlaceable,
}

impl FlowReason {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Full => "full",
            Self::SessionBound => "session_bound",
            Self::NotPlaceable => "not_placeable",
        }
    }
}

/// How long writes took.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Latency {
    /// By bucket: those of [`LATENCY_BOUNDS_S`], and one for longer ones.
    pub buckets: [u64; LATENCY_BOUNDS_S.len() + 1],
    /// All together, seconds.
    pub sum_s: f64,
}

impl Latency {
    /// A write took this long.
    pub fn record(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let bucket = LATENCY_BOUNDS_S.iter().position(|bound| took <= *bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS_S.len())] += 1;
        self.sum_s += took;
    }
}

/// Everything countable.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Sessions all of whose packets find their rule at once.
    pub direct: u64,
    /// Sessions whose packets are looked up by flow in some direction.
    pub by_flow: u64,
    /// Sessions that are the host's wholly (true) or in part, by reason.
    pub on_host: BTreeMap<(HostReason, bool), u64>,
    /// Flows in the target.
    pub flows: u64,
    /// Flows put there.
    pub promotions: u64,
    /// Flows taken away, by reason.
    pub evictions: BTreeMap<FlowReason, u64>,
    /// Flows not put there, by reason.
    pub refusals: BTreeMap<FlowReason, u64>,
    /// Updates written.
    pub updates: u64,
    /// Updates that took no effect.
    pub failed_updates: u64,
    /// Time of each Write.
    pub write_latency: Latency,
    /// Synchronisations.
    pub synchronisations: u64,
    /// Entries that were not as they should be, found by synchronisations.
    pub differences: u64,
    /// Requests that were answered before the target had followed.
    pub late: u64,
    /// Packets that left the fast path, when last asked.
    pub left: Vec<Left>,
    /// Entries of each table, by its name.
    pub entries: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// Some session is to be tried again.
    pub(super) fn any_stuck(&self) -> bool {
        let stuck = |reason: &HostReason| matches!(reason, HostReason::Full | HostReason::Failed);
        self.on_host
            .iter()
            .any(|((reason, _), count)| stuck(reason) && *count > 0)
    }

    pub(super) fn refuse(&mut self, reason: FlowReason, flows: u64) {
        *self.refusals.entry(reason).or_default() += flows;
    }

    pub(super) fn evict(&mut self, reason: FlowReason, flows: u64) {
        *self.evictions.entry(reason).or_default() += flows;
    }

    /// A session lives here now, and lived there before.
    pub(super) fn moved(&mut self, from: Option<Place>, to: Option<Place>) {
        let mut add = |place: Option<Place>, one: i64| {
            let count = match place {
                None => return,
                Some(Place::Direct) => &mut self.direct,
                Some(Place::ByFlow) => &mut self.by_flow,
                Some(Place::Mixed(reason)) => self.on_host.entry((reason, false)).or_default(),
                Some(Place::OnHost(reason)) => self.on_host.entry((reason, true)).or_default(),
            };
            *count = count.saturating_add_signed(one);
        };
        add(from, -1);
        add(to, 1);
    }
}

/// One session in the target.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// Where it lives.
    pub place: Place,
    /// How each of its entries finds a packet's rule.
    pub modes: Vec<(Key, Mode)>,
    /// Its entries, but for flows.
    pub entries: Vec<Entry>,
    /// Its flows: the entry, and the packet that made it.
    pub flows: Vec<DescribedFlow>,
}

/// A flow of a session.
#[derive(Debug, Clone, Serialize)]
pub struct DescribedFlow {
    /// Its key.
    pub key: Key,
    /// The packet that made it, in words.
    pub packet: String,
}

impl DescribedFlow {
    pub(super) fn new(key: Key, packet: &FlowPacket) -> Self {
        let (remote_port, ue_port) = packet.ports.unwrap_or_default();
        let direction = if packet.uplink { "uplink" } else { "downlink" };
        let packet = format!(
            "{direction} protocol {} ue {} port {ue_port} remote {} port {remote_port}",
            packet.protocol, packet.ue, packet.remote
        );
        Self { key, packet }
    }
}
