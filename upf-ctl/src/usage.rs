//! What usage reporting rules have measured, across reports and across restarts of data planes (TS 29.244 5.2.2).
//!
//! A data plane counts from zero whenever it starts, and for as long as the rule lives. An SMF wants, in each
//! Usage Report, what was used since the previous one. An account stands between the two: for each rule and
//! plane it keeps what earlier starts of the plane had counted (`before`) and what this one has (`current`);
//! their sum only grows. A report is the sum less what was reported already.
//!
//! ## Reports nobody asked for
//! After a poll, [`UsageAccount::due`] compares what is not yet reported with the rule's thresholds and its
//! period, and makes the reports (TS 29.244 5.2.2.3.1). So a threshold is overshot by what passes between two
//! polls. The reports of a session go together in one request. Until the SMF has taken it, the account
//! remembers what was told ([`Unanswered`]), and no other such request is made; if the SMF refuses it or says
//! nothing, that becomes part of the rule's next report, whichever it is, under the next UR-SEQN. The same
//! happens when the controller ends with a request on its way. It follows that an SMF which took a report, but
//! none of whose answers arrived, is told its content twice, and that what is on its way when the rule or its
//! session is deleted is told by that request or not at all.
//!
//! ## Polling
//! Planes are polled about once a second ([`POLL`], [`POLL_SESSIONS`]) and accounts that moved are stored. So
//! when a data plane dies, at most what it counted since the last poll is lost: about one second of traffic up
//! to [`POLL_SESSIONS`] sessions, and proportionally more with more of them. When only the controller dies,
//! nothing is lost: the plane goes on counting.

use crate::pfcp::wire::NtpSeconds;
use crate::pfcp::wire::outgoing::{UsageReport, UsageReportTrigger, VolumeMeasurement};
use crate::planes::{Measured, PlaneId};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use upf_model::batch::{Count, UrrUsage};
use upf_model::{Reporting, Urr, UrrId};

/// Between two polls of the planes.
pub const POLL: Duration = Duration::from_secs(1);
/// Sessions asked for in one poll; the next poll goes on where it ended.
pub const POLL_SESSIONS: usize = 16_384;

/// Usage reports in one Session Report Request: few enough for any path's datagrams.
pub const DUE_AT_ONCE: usize = 64;

/// Milliseconds since the UNIX epoch, now.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

fn ntp(ms: u64) -> NtpSeconds {
    NtpSeconds::from(UNIX_EPOCH + Duration::from_millis(ms))
}

/// The accounts of one session's rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageAccount {
    urrs: Vec<UrrAccount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UrrAccount {
    id: UrrId,
    meters: Vec<Meter>,
    /// What earlier reports have told.
    reported_uplink: Count,
    reported_downlink: Count,
    /// UR-SEQN of the next report.
    sequence: u32,
    /// When the last report was made, milliseconds since the UNIX epoch.
    since_ms: u64,
    /// Milliseconds of duration that were measured before `since_ms` and not reported.
    carried_ms: u64,
    /// When measuring for the next report began, if that was before `since_ms`.
    carried_since_ms: Option<u64>,
    /// The Measurement Period in force, seconds.
    period_s: Option<NonZeroU32>,
    /// When the present period began. Other reports do not move it.
    period_since_ms: u64,
    /// What the report on its way tells.
    unanswered: Option<Unanswered>,
}

/// The content of a report that the SMF has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unanswered {
    uplink: Count,
    downlink: Count,
    duration_ms: u64,
    since_ms: u64,
}

/// One rule in one data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meter {
    plane: PlaneId,
    /// Which start of the plane `current` was counted by.
    instance: u64,
    before: UrrUsage,
    current: UrrUsage,
}

/// Sum of two measurements of the same rule.
fn sum(a: &UrrUsage, b: &UrrUsage) -> UrrUsage {
    let mut total = *a;
    total.uplink += b.uplink;
    total.downlink += b.downlink;
    total.first_packet_ns = match (a.first_packet_ns, b.first_packet_ns) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    };
    total.last_packet_ns = a.last_packet_ns.max(b.last_packet_ns);
    total
}

/// Whether `a` was counted before `b`: counters only grow.
fn is_before(a: &UrrUsage, b: &UrrUsage) -> bool {
    a.uplink.packets < b.uplink.packets || a.downlink.packets < b.downlink.packets
}

fn less(total: Count, reported: Count) -> Count {
    Count {
        packets: total.packets.saturating_sub(reported.packets),
        bytes: total.bytes.saturating_sub(reported.bytes),
    }
}

impl UrrAccount {
    fn new(id: UrrId, now_ms: u64) -> Self {
        Self {
            id,
            meters: Vec::new(),
            reported_uplink: Count::default(),
            reported_downlink: Count::default(),
            sequence: 0,
            since_ms: now_ms,
            carried_ms: 0,
            carried_since_ms: None,
            period_s: None,
            period_since_ms: now_ms,
            unanswered: None,
        }
    }

    fn total(&self) -> UrrUsage {
        self.meters
            .iter()
            .fold(UrrUsage::default(), |total, m| sum(&total, &sum(&m.before, &m.current)))
    }

    /// The planes see the same rule before and after, and go on counting: so does the sum, but what it has come
    /// to is nobody's usage any more.
    fn restart(&mut self, now_ms: u64) {
        let total = self.total();
        *self = Self {
            meters: std::mem::take(&mut self.meters),
            reported_uplink: total.uplink,
            reported_downlink: total.downlink,
            ..Self::new(self.id, now_ms)
        };
    }

    /// Duration to be reported, milliseconds: from the first packet on (ISTM is not offered).
    fn duration_ms(&self, total: &UrrUsage, now_ms: u64) -> u64 {
        let first_ms = total.first_packet_ns / 1_000_000;
        let counted = match first_ms {
            0 => 0,
            first_ms => now_ms.saturating_sub(first_ms.max(self.since_ms)),
        };
        self.carried_ms + counted
    }

    /// Which of the rule's triggers are met.
    fn met(&self, reporting: &Reporting, now_ms: u64) -> Option<UsageReportTrigger> {
        let total = self.total();
        let uplink = less(total.uplink, self.reported_uplink).bytes;
        let downlink = less(total.downlink, self.reported_downlink).bytes;
        let volume = reporting
            .volume_threshold_in_force()
            .is_some_and(|threshold| threshold.is_reached_by(uplink, downlink));
        let time = reporting
            .time_threshold_in_force()
            .is_some_and(|seconds| self.duration_ms(&total, now_ms) / 1_000 >= u64::from(seconds.get()));
        let period = self
            .period_s
            .is_some_and(|seconds| now_ms.saturating_sub(self.period_since_ms) >= u64::from(seconds.get()) * 1_000);
        let met = [
            (volume, UsageReportTrigger::VOLUME_THRESHOLD),
            (time, UsageReportTrigger::TIME_THRESHOLD),
            (period, UsageReportTrigger::PERIODIC),
        ];
        let met = met.iter().filter(|(met, _)| *met);
        met.map(|(_, trigger)| *trigger)
            .reduce(|a, b| UsageReportTrigger(a.0 | b.0))
    }

    /// Begins the period that is running now. Periods in which nothing could be sent are not made up for.
    fn next_period(&mut self, now_ms: u64) {
        if let Some(seconds) = self.period_s {
            let period_ms = u64::from(seconds.get()) * 1_000;
            let elapsed_ms = now_ms.saturating_sub(self.period_since_ms);
            self.period_since_ms += elapsed_ms - elapsed_ms % period_ms;
        }
    }

    /// What was told and not heard is to be told again.
    fn take_back(&mut self, unanswered: &Unanswered) {
        self.reported_uplink = less(self.reported_uplink, unanswered.uplink);
        self.reported_downlink = less(self.reported_downlink, unanswered.downlink);
        self.carried_ms += unanswered.duration_ms;
        self.carried_since_ms = Some(unanswered.since_ms);
    }
}

impl UsageAccount {
    /// Follows a change of the session's rules: accounts of rules that stay go on, the others end. `restarted`
    /// names rules that were removed and created again under the same id, by one request.
    pub fn follow(&mut self, urrs: &[Urr], restarted: &[UrrId], now_ms: u64) {
        self.urrs.retain(|account| urrs.iter().any(|u| u.id == account.id));
        for urr in urrs {
            match self.urrs.iter_mut().find(|account| account.id == urr.id) {
                None => self.urrs.push(UrrAccount::new(urr.id, now_ms)),
                Some(account) if restarted.contains(&urr.id) => account.restart(now_ms),
                Some(_) => {}
            }
        }
        for account in &mut self.urrs {
            let urr = urrs.iter().find(|urr| urr.id == account.id);
            let period_s = urr.and_then(|urr| urr.reporting.period_in_force());
            if account.period_s != period_s {
                account.period_s = period_s;
                account.period_since_ms = now_ms;
            }
        }
    }

    /// Takes in what a plane has counted. True: something moved.
    pub fn measure(&mut self, measured: &Measured) -> bool {
        let mut moved = false;
        for (id, usage) in &measured.usage.urrs {
            let Some(account) = self.urrs.iter_mut().find(|account| account.id == *id) else {
                continue;
            };
            match account.meters.iter_mut().find(|m| m.plane == measured.plane) {
                // What was counted earlier may be told later.
                Some(meter) if meter.instance == measured.instance && is_before(usage, &meter.current) => {}
                Some(meter) if meter.instance == measured.instance => {
                    moved |= meter.current != *usage;
                    meter.current = *usage;
                }
                Some(meter) => {
                    meter.before = sum(&meter.before, &meter.current);
                    meter.current = *usage;
                    meter.instance = measured.instance;
                    moved = true;
                }
                // Sums begin with nothing anyway: a meter is kept once there is something to keep.
                None if *usage == UrrUsage::default() => {}
                None => {
                    account.meters.push(Meter {
                        plane: measured.plane,
                        instance: measured.instance,
                        before: UrrUsage::default(),
                        current: *usage,
                    });
                    moved = true;
                }
            }
        }
        moved
    }

    /// Whether less than this share of a volume threshold is left of some rule, percent.
    pub fn is_near_threshold(&self, urrs: &[Urr], percent: u8) -> bool {
        let share = |limit: Option<std::num::NonZeroU64>| limit.map(|n| n.get() - n.get() / 100 * u64::from(percent));
        self.urrs.iter().any(|account| {
            let urr = urrs.iter().find(|urr| urr.id == account.id);
            let Some(threshold) = urr.and_then(|urr| urr.reporting.volume_threshold_in_force()) else {
                return false;
            };
            let total = account.total();
            let uplink = less(total.uplink, account.reported_uplink).bytes;
            let downlink = less(total.downlink, account.reported_downlink).bytes;
            let near = |limit, used| share(limit).is_some_and(|limit| used > limit);
            near(threshold.total, uplink.saturating_add(downlink))
                || near(threshold.uplink, uplink)
                || near(threshold.downlink, downlink)
        })
    }

    /// All that a rule has measured since it was created (or last created again); `None` for an unknown one.
    pub fn total(&self, id: UrrId) -> Option<UrrUsage> {
        self.urrs.iter().find(|account| account.id == id).map(UrrAccount::total)
    }

    /// Makes the reports that are due, at most [`DUE_AT_ONCE`]; the rest is due again at the next poll. They
    /// count as on their way until [`UsageAccount::answered`]. None while others are.
    pub fn due(&mut self, urrs: &[Urr], now_ms: u64) -> Vec<UsageReport> {
        let mut reports = Vec::new();
        if self.urrs.iter().any(|account| account.unanswered.is_some()) {
            return reports;
        }
        for urr in urrs.iter().filter(|urr| urr.reporting.triggers != Default::default()) {
            if reports.len() == DUE_AT_ONCE {
                break;
            }
            let Some(before) = self.urrs.iter().find(|account| account.id == urr.id) else {
                continue;
            };
            let Some(trigger) = before.met(&urr.reporting, now_ms) else {
                continue;
            };
            let total = before.total();
            let unanswered = Unanswered {
                uplink: less(total.uplink, before.reported_uplink),
                downlink: less(total.downlink, before.reported_downlink),
                duration_ms: before.duration_ms(&total, now_ms) / 1_000 * 1_000,
                since_ms: before.carried_since_ms.unwrap_or(before.since_ms),
            };
            reports.extend(self.report(urr, trigger, now_ms));
            if let Some(account) = self.urrs.iter_mut().find(|account| account.id == urr.id) {
                account.unanswered = Some(unanswered);
                if trigger.0 & UsageReportTrigger::PERIODIC.0 != 0 {
                    account.next_period(now_ms);
                }
            }
        }
        reports
    }

    /// The reports on their way were taken by the SMF, or were not and are to be told again. True: there were
    /// any.
    pub fn answered(&mut self, taken: bool) -> bool {
        let mut any = false;
        for account in &mut self.urrs {
            if let Some(unanswered) = account.unanswered.take() {
                any = true;
                if !taken {
                    account.take_back(&unanswered);
                }
            }
        }
        any
    }

    /// Makes a rule's next report and starts measuring for the one after. `None` for an unknown rule.
    pub fn report(&mut self, urr: &Urr, trigger: UsageReportTrigger, now_ms: u64) -> Option<UsageReport> {
        let account = self.urrs.iter_mut().find(|account| account.id == urr.id)?;
        let total = account.total();
        let uplink = less(total.uplink, account.reported_uplink);
        let downlink = less(total.downlink, account.reported_downlink);
        let (first_ms, last_ms) = (total.first_packet_ns / 1_000_000, total.last_packet_ns / 1_000_000);
        let duration_ms = account.duration_ms(&total, now_ms);
        let since_ms = account.carried_since_ms.unwrap_or(account.since_ms);
        let moved = uplink.packets + downlink.packets > 0;
        let report = UsageReport {
            urr_id: urr.id.0,
            ur_seqn: account.sequence,
            trigger,
            start_time: Some(ntp(since_ms)),
            end_time: Some(ntp(now_ms)),
            volume: urr
                .method
                .volume
                .then(|| VolumeMeasurement::of(uplink, downlink, urr.reporting.packets)),
            duration_s: urr
                .method
                .duration
                .then(|| u32::try_from(duration_ms / 1_000).unwrap_or(u32::MAX)),
            // Of later periods nobody has noted the first packet.
            time_of_first_packet: (moved && first_ms >= since_ms).then(|| ntp(first_ms)),
            time_of_last_packet: moved.then(|| ntp(last_ms)),
            query_urr_reference: None,
        };
        account.reported_uplink = total.uplink;
        account.reported_downlink = total.downlink;
        account.sequence = account.sequence.wrapping_add(1);
        account.since_ms = now_ms;
        // Whole seconds are reported; what is left over goes into the next report.
        account.carried_ms = duration_ms % 1_000;
        account.carried_since_ms = None;
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upf_model::batch::SessionUsage;
    use upf_model::{MeasurementMethod, SessionId};

    fn urr() -> Urr {
        Urr {
            id: UrrId(7),
            method: MeasurementMethod {
                volume: true,
                duration: true,
                event: false,
            },
            before_qos: false,
            reporting: Reporting::default(),
        }
    }

    fn measured(instance: u64, bytes: u64) -> Measured {
        let usage = UrrUsage {
            uplink: Count {
                packets: bytes / 100,
                bytes,
            },
            downlink: Count::default(),
            first_packet_ns: 5_000_000_000,
            last_packet_ns: 6_000_000_000,
        };
        let usage = SessionUsage {
            session: SessionId(0),
            urrs: vec![(UrrId(7), usage)],
            ..SessionUsage::default()
        };
        Measured {
            plane: 0,
            instance,
            usage,
        }
    }

    fn uplink(report: &UsageReport) -> u64 {
        report.volume.and_then(|v| v.uplink).unwrap()
    }

    #[test]
    fn a_report_tells_what_was_used_since_the_one_before() {
        let mut account = UsageAccount::default();
        account.follow(&[urr()], &[], 1_000);
        account.measure(&measured(1, 300));
        let first = account.report(&urr(), UsageReportTrigger::IMMEDIATE, 9_000).unwrap();
        account.measure(&measured(1, 1_000));
        let second = account.report(&urr(), UsageReportTrigger::TERMINATION, 11_500).unwrap();
        assert_eq!((uplink(&first), first.ur_seqn, first.duration_s), (300, 0, Some(4)));
        assert_eq!((uplink(&second), second.ur_seqn, second.duration_s), (700, 1, Some(2)));
        assert_eq!(second.start_time, first.end_time);
    }

    #[test]
    fn what_an_earlier_start_of_the_data_plane_counted_is_not_forgotten() {
        let mut account = UsageAccount::default();
        account.follow(&[urr()], &[], 0);
        account.measure(&measured(1, 500));
        account.measure(&measured(2, 0));
        account.measure(&measured(2, 200));
        assert_eq!(account.total(UrrId(7)).unwrap().uplink.bytes, 700);
    }

    #[test]
    fn the_last_of_a_threshold_is_near() {
        let mut urr = urr();
        urr.reporting.triggers.volume_threshold = true;
        urr.reporting.volume_threshold = Some(upf_model::VolumeThreshold {
            total: std::num::NonZeroU64::new(1_000),
            uplink: None,
            downlink: None,
        });
        let mut account = UsageAccount::default();
        account.follow(&[urr.clone()], &[], 0);
        account.measure(&measured(1, 950));
        assert!(!account.is_near_threshold(std::slice::from_ref(&urr), 5));
        account.measure(&measured(1, 951));
        assert!(account.is_near_threshold(std::slice::from_ref(&urr), 5));
        account.report(&urr, UsageReportTrigger::VOLUME_THRESHOLD, 1_000);
        assert!(
            !account.is_near_threshold(&[urr], 5),
            "reported: all of the next one is left"
        );
    }

    #[test]
    fn a_rule_created_again_starts_from_nothing() {
        let mut account = UsageAccount::default();
        account.follow(&[urr()], &[], 0);
        account.measure(&measured(1, 500));
        account.follow(&[urr()], &[UrrId(7)], 3_000);
        account.measure(&measured(1, 600));
        let report = account.report(&urr(), UsageReportTrigger::TERMINATION, 8_000).unwrap();
        assert_eq!((uplink(&report), report.ur_seqn), (100, 0));
    }

    #[test]
    fn without_a_packet_no_time_was_used() {
        let mut account = UsageAccount::default();
        account.follow(&[urr()], &[], 0);
        let report = account.report(&urr(), UsageReportTrigger::TERMINATION, 60_000).unwrap();
        assert_eq!(
            (uplink(&report), report.duration_s, report.time_of_last_packet),
            (0, Some(0), None)
        );
    }
}
