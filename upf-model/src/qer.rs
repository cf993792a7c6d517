//! QoS enforcement rules, validated (TS 29.244 7.5.2.5, 8.2.7 to 8.2.10).

use crate::{QerId, Qfi};
use rkyv::{Archive, Deserialize, Serialize};

/// A QoS enforcement rule.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Qer {
    /// Unique in the session.
    pub id: QerId,
    /// QER Correlation ID, if signalled.
    pub correlation_id: Option<u32>,
    /// Uplink gate.
    pub gate_uplink: Gate,
    /// Downlink gate.
    pub gate_downlink: Gate,
    /// Maximum bit rate; none: not policed.
    pub mbr: Option<BitRates>,
    /// Guaranteed bit rate; none: non-GBR.
    pub gbr: Option<BitRates>,
    /// QoS flow to mark downlink packets with.
    pub qfi: Option<Qfi>,
    /// Reflective QoS indication for downlink packets.
    pub rqi: bool,
    /// Paging policy indicator for downlink packets, 0..=7.
    pub ppi: Option<u8>,
    /// Averaging window in milliseconds, if signalled.
    pub averaging_window_ms: Option<u32>,
    /// How its packets wait for a busy port.
    pub scheduling: Scheduling,
}

/// How packets wait for a busy port. No PFCP IE says so: configuration and policies do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct Scheduling {
    /// Priority queue, 0..=7; the higher, the sooner.
    pub queue: u8,
    /// Packets of ECN-capable senders are marked Congestion Experienced while the queue is long (L4S, TS 23.501 5.37.3).
    pub l4s: bool,
}

impl Scheduling {
    /// The highest queue.
    pub const HIGHEST: u8 = 7;

    /// Of a packet that several QERs apply to: the highest queue, and marked if any of them says so.
    #[must_use]
    pub fn of<'q>(qers: impl Iterator<Item = &'q Qer>) -> Self {
        qers.fold(Self::default(), |a, qer| Self {
            queue: a.queue.max(qer.scheduling.queue),
            l4s: a.l4s | qer.scheduling.l4s,
        })
    }
}

/// Gate status (TS 29.244 8.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Wire value 0.
    Open,
    /// Wire value 1.
    Closed,
}

/// A pair of rates in kbit/s (1 kbit = 1,000 bits), as PFCP carries them (TS 29.244 8.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct BitRates {
    /// Uplink, kbit/s.
    pub uplink_kbps: u64,
    /// Downlink, kbit/s.
    pub downlink_kbps: u64,
}
