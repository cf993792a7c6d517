//! Owns what a QER does to packets: its gates and, for each direction, its meter (TS 29.244 5.4).
//!
//! A PDR names any number of QERs: usually one of the QoS flow, with its MBR and GBR, and one of the session, whose
//! MBR is the session AMBR and which all PDRs of the session share. Every one of them is enforced; a packet that one
//! of them drops is charged to none.
//!
//! | QER has | profile |
//! | --- | --- |
//! | no MBR | not policed (a GBR alone is a promise to the flow, not a limit) |
//! | MBR | single rate |
//! | MBR and GBR | RFC 2698 with CIR = GBR, PIR = MBR: yellow between them |

use crate::meter::{Bandwidth, Color, Meter, Profile, admit_colored};
use serde::{Deserialize, Serialize};
use upf_model::{BitRates, Gate, Qer};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the UE.
    Uplink,
    /// To the UE.
    Downlink,
}

/// How deep the buckets are. PFCP signals rates but no bursts, so this is the operator's to choose.
///
/// The burst is the time at the rate, but never less than `at_least_bytes`. A deep bucket is kind to TCP: where the
/// round trip is short, a sender runs into the policer, waits for its retransmission timer (200 ms and more) and can
/// make good only what the bucket saved meanwhile. A shallow one is kind to the radio's queues.
///
/// The averaging window of a QER (TS 23.501 5.7.3.6, 2 s where not signalled) is the time over which the rates are to
/// be true. A burst of a window would double the rate in that window, so the window only bounds the burst from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BurstPolicy {
    /// Milliseconds at the rate.
    pub milliseconds: u32,
    /// Bytes; two packets of the largest size, so that any packet can conform.
    pub at_least_bytes: u32,
}

impl Default for BurstPolicy {
    /// 100 ms, at least two packets of 1,500 bytes.
    fn default() -> Self {
        Self {
            milliseconds: 100,
            at_least_bytes: 3000,
        }
    }
}

impl BurstPolicy {
    /// The bucket of a rate in kbit/s, under an averaging window if one was signalled.
    pub fn bandwidth(&self, kbps: u64, averaging_window_ms: Option<u32>) -> Bandwidth {
        let milliseconds = self.milliseconds.min(averaging_window_ms.unwrap_or(u32::MAX));
        // 1 kbit/s is 1 bit/ms.
        let burst = kbps.saturating_mul(milliseconds.into()) / 8;
        Bandwidth {
            bits_per_second: kbps.saturating_mul(1000),
            burst_bytes: burst.max(self.at_least_bytes.into()),
        }
    }
}

/// A QER, ready to be enforced. Shared by lcores; lives as long as the QER's rates are what they are.
#[derive(Debug)]
pub struct QerMeter {
    uplink: OneWay,
    downlink: OneWay,
}

/// One cache line.
#[derive(Debug)]
#[repr(align(64))]
struct OneWay {
    gate: Gate,
    meter: Option<Meter>,
}

const _: () = assert!(size_of::<OneWay>() == 64);

impl OneWay {
    fn new(gate: Gate, mbr: Option<Bandwidth>, gbr: Option<Bandwidth>, now_ns: u64) -> Self {
        let profile = mbr.map(|peak| {
            // A GBR above the MBR promises what the MBR takes away: all that passes is within the GBR.
            let committed = gbr.filter(|gbr| (1..=peak.bits_per_second).contains(&gbr.bits_per_second));
            match committed.map(|committed| Profile::rfc2698(committed, peak)) {
                Some(Ok(profile)) => profile,
                Some(Err(_)) | None => Profile::single_rate(peak),
            }
        });
        Self {
            gate,
            meter: profile.map(|profile| Meter::new(profile, now_ns)),
        }
    }
}

impl QerMeter {
    /// Of a QER, with full buckets.
    pub fn new(qer: &Qer, burst: &BurstPolicy, now_ns: u64) -> Self {
        let bandwidth = |kbps| burst.bandwidth(kbps, qer.averaging_window_ms);
        let one_way = |gate, kbps: fn(BitRates) -> u64| {
            OneWay::new(
                gate,
                qer.mbr.map(kbps).map(bandwidth),
                qer.gbr.map(kbps).map(bandwidth),
                now_ns,
            )
        };
        Self {
            uplink: one_way(qer.gate_uplink, |rates| rates.uplink_kbps),
            downlink: one_way(qer.gate_downlink, |rates| rates.downlink_kbps),
        }
    }

    /// Of a QER that takes another's place (an Update QER): its buckets are as empty as the other's are now.
    pub fn replacing(qer: &Qer, burst: &BurstPolicy, old: &QerMeter, now_ns: u64) -> Self {
        let new = Self::new(qer, burst, now_ns);
        for direction in [Direction::Uplink, Direction::Downlink] {
            if let (Some(new), Some(old)) = (new.meter(direction), old.meter(direction)) {
                new.inherit(old, now_ns);
            }
        }
        new
    }

    /// The gate of a direction.
    #[inline]
    pub fn gate(&self, direction: Direction) -> Gate {
        self.way(direction).gate
    }

    /// The meter of a direction; none: not policed. A cache line of its own.
    #[inline]
    pub fn meter(&self, direction: Direction) -> Option<&Meter> {
        self.way(direction).meter.as_ref()
    }

    /// The cache line that a packet in this direction will need: to ask for it ahead of use.
    #[inline]
    pub fn line(&self, direction: Direction) -> &impl Sized {
        self.way(direction)
    }

    #[inline]
    fn way(&self, direction: Direction) -> &OneWay {
        match direction {
            Direction::Uplink => &self.uplink,
            Direction::Downlink => &self.downlink,
        }
    }
}

/// What the QERs of a PDR say about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Goes on.
    Pass {
        /// Above the GBR of a QER: the first to go where a queue is full.
        above_gbr: bool,
    },
    /// Dropped by a closed gate; no meter was charged.
    Gated {
        /// Which QER, by its place in the list.
        qer: usize,
    },
    /// Dropped for being over a rate; no meter was charged.
    Policed {
        /// Which QER, by its place in the list.
        qer: usize,
    },
}

/// Enforces every QER of a PDR on a packet: gates first, then all meters or none.
///
/// Cost: a load for each QER, then [`crate::admit`]'s. `now_ns` and `bytes` as there.
#[inline]
pub fn enforce(now_ns: u64, bytes: u32, direction: Direction, qers: &[&QerMeter]) -> Decision {
    if let Some(qer) = qers.iter().position(|q| q.gate(direction) == Gate::Closed) {
        return Decision::Gated { qer };
    }
    let meters = qers.iter().filter_map(|q| q.meter(direction));
    match admit_colored(now_ns, bytes, Color::Green, meters) {
        crate::Verdict::Green => Decision::Pass { above_gbr: false },
        crate::Verdict::Yellow => Decision::Pass { above_gbr: true },
        crate::Verdict::Red { meter } => {
            let policing = qers.iter().enumerate().filter(|(_, q)| q.meter(direction).is_some());
            Decision::Policed {
                qer: policing.map(|(index, _)| index).nth(meter).unwrap_or(0),
            }
        }
    }
}
