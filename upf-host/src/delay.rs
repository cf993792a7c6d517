//! Packet delay between UPF and UE, by time stamps in user packets: QoS monitoring per QoS flow (TS 23.501 5.33.3.2,
//! TS 38.415 5.4.1 and 5.5.2).
//!
//! ```text
//!        UPF ── downlink packet, QMP, T1 ──▶ gNB     T1, T2: when it leaves here, when it comes there
//!        UPF ◀─ uplink packet, QMP, T1, T2, T3, delay of the air down and up ── gNB
//!                                                    T3, T4: when it leaves there, when it comes here
//! ```
//! The gNB answers with its next uplink packet of the QoS flow, or with one that carries nothing. N3's share of the round
//! trip is (T4 - T1) - (T3 - T2), whatever the two clocks say; one way it is half of that, or T2 - T1 and T4 - T3 where
//! the configuration says that the clocks agree. What the gNB tells of the air is added.
//!
//! A packet in `every_ms` of each QoS flow is marked, at its leave from the pipeline: the time in egress queues counts as
//! N3's. Packets that would be too long with a time stamp are left to the next one. What is measured is summed up here,
//! and read with the session's other counters; means over a time are differences of two readings.
//!
//! Costs: nothing but a test for a null pointer where nothing is monitored; where it is, a load and a compare a packet. The
//! rest happens once in `every_ms`.

use crate::pipeline::Now;
use gtpu::{TimeStamp, UplinkInformation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use upf_model::batch::DelayUsage;
use upf_model::{Qfi, Session};

/// Octets that a time stamp makes a packet longer.
pub const STAMP_LEN: usize = 8;
/// An answer that took longer is none of ours, or nobody's concern any more.
const LATEST_NS: i64 = 60_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// How delay is measured, by the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Monitoring {
    every_ns: u64,
    clocks_agree: bool,
}

impl Monitoring {
    /// As configured.
    pub fn new(delay: &upf_config::Delay) -> Self {
        Self {
            every_ns: u64::from(delay.every_ms) * NS_PER_MS as u64,
            clocks_agree: delay.clocks_agree,
        }
    }
}

/// What is measured of one QoS flow of one session, by all lcores.
#[derive(Debug)]
pub struct FlowDelay {
    how: Monitoring,
    next_mark_ns: AtomicU64,
    answers: AtomicU64,
    downlink_ns: AtomicU64,
    uplink_ns: AtomicU64,
    round_trip_ns: AtomicU64,
}

/// The QoS flows of a session that are monitored: of most sessions none.
#[derive(Debug, Clone, Default)]
pub struct FlowDelays(Option<Arc<Vec<MonitoredFlow>>>);

type MonitoredFlow = (Qfi, Arc<FlowDelay>);

/// The QoS flows that a session's rules name; those that were monitored before go on.
pub fn follow(session: &Session, how: Option<Monitoring>, before: &FlowDelays) -> FlowDelays {
    let Some(how) = how else { return FlowDelays::default() };
    let mut qfis: Vec<Qfi> = session.qers.iter().filter_map(|qer| qer.qfi).collect();
    qfis.sort_unstable();
    qfis.dedup();
    let delay = |qfi| {
        let known = before.of(qfi).cloned();
        known.unwrap_or_else(|| Arc::new(FlowDelay::new(how)))
    };
    let flows: Vec<_> = qfis.into_iter().map(|qfi| (qfi, delay(qfi))).collect();
    FlowDelays((!flows.is_empty()).then(|| Arc::new(flows)))
}

impl FlowDelays {
    fn flows(&self) -> &[MonitoredFlow] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// None is monitored.
    pub fn is_empty(&self) -> bool {
        self.flows().is_empty()
    }

    /// That of a QoS flow.
    pub fn of(&self, qfi: Qfi) -> Option<&Arc<FlowDelay>> {
        let mut flows = self.flows().iter();
        flows.find(|(other, _)| *other == qfi).map(|(_, delay)| delay)
    }

    /// What was measured so far.
    pub fn usage(&self) -> Vec<(Qfi, DelayUsage)> {
        let flows = self.flows().iter();
        flows.map(|(qfi, delay)| (*qfi, delay.usage())).collect()
    }
}

impl FlowDelay {
    fn new(how: Monitoring) -> Self {
        let zero = AtomicU64::default;
        Self {
            how,
            next_mark_ns: zero(),
            answers: zero(),
            downlink_ns: zero(),
            uplink_ns: zero(),
            round_trip_ns: zero(),
        }
    }

    /// The time stamp for a packet that leaves now, if it is time for one. `fits`: there is room for it.
    #[inline]
    pub fn mark(&self, now: Now, fits: impl FnOnce() -> bool) -> Option<TimeStamp> {
        let next = self.next_mark_ns.load(Relaxed);
        let mine = now.ns >= next
            && fits()
            && self
                .next_mark_ns
                .compare_exchange(next, now.ns + self.how.every_ns, Relaxed, Relaxed)
                .is_ok();
        mine.then(|| TimeStamp::from_unix_ns(now.exact_wall_ns()))
    }

    /// Take in what an uplink packet says that came now. False: it makes no sense, and was not.
    pub fn answered(&self, information: &UplinkInformation, now: Now) -> bool {
        let Some(stamps) = information.time_stamps else {
            return false;
        };
        let [sent, received, answered] =
            [stamps.downlink_sent, stamps.downlink_received, stamps.uplink_sent].map(TimeStamp);
        let came = TimeStamp::from_unix_ns(now.exact_wall_ns());
        let (there_and_back, held) = (came.ns_since(sent), answered.ns_since(received));
        if !(0..=LATEST_NS).contains(&there_and_back) || !(0..=there_and_back).contains(&held) {
            return false;
        }
        let n3 = there_and_back - held;
        let (n3_downlink, n3_uplink) = if self.how.clocks_agree {
            (received.ns_since(sent).max(0), came.ns_since(answered).max(0))
        } else {
            (n3 / 2, n3 / 2)
        };
        let air = |delay: Option<u32>| i64::from(delay.unwrap_or(0)) * NS_PER_MS;
        let (air_downlink, air_uplink) = (air(information.downlink_delay), air(information.uplink_delay));
        let sums = [
            (&self.downlink_ns, n3_downlink + air_downlink),
            (&self.uplink_ns, n3_uplink + air_uplink),
            (&self.round_trip_ns, n3 + air_downlink + air_uplink),
            (&self.answers, 1),
        ];
        for (sum, by) in sums {
            sum.fetch_add(by as u64, Relaxed);
        }
        true
    }

    fn usage(&self) -> DelayUsage {
        DelayUsage {
            answers: self.answers.load(Relaxed),
            downlink_ns: self.downlink_ns.load(Relaxed),
            uplink_ns: self.uplink_ns.load(Relaxed),
            round_trip_ns: self.round_trip_ns.load(Relaxed),
        }
    }
}
