//! Usage reporting rules, validated (TS 29.244 7.5.2.4).

use crate::UrrId;
use rkyv::{Archive, Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroU64};

/// A usage reporting rule. Quotas are not here: validation refuses them.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Urr {
    /// Unique in the session.
    pub id: UrrId,
    /// What is measured.
    pub method: MeasurementMethod,
    /// MBQE: count before QoS enforcement rather than after it (TS 29.244 8.2.96).
    pub before_qos: bool,
    /// When to report while the rule lives. Data planes do not need it: they count, the controller compares.
    pub reporting: Reporting,
}

/// Measurement method (TS 29.244 8.2.40). At least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct MeasurementMethod {
    /// VOLUM.
    pub volume: bool,
    /// DURAT.
    pub duration: bool,
    /// EVENT.
    pub event: bool,
}

/// What a rule reports, and when besides its end and being queried (TS 29.244 5.2.2.3). The default is never.
///
/// Thresholds stay when their trigger is cleared, as an Update URR may set it again without repeating them;
/// what is in force is told by [`Reporting::volume_threshold_in_force`] and its like.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct Reporting {
    /// What makes it report.
    pub triggers: ReportingTriggers,
    /// Volume Threshold. There if its trigger is set.
    pub volume_threshold: Option<VolumeThreshold>,
    /// Time Threshold, seconds. There if its trigger is set.
    pub time_threshold_s: Option<NonZeroU32>,
    /// Measurement Period, seconds. There if its trigger is set.
    pub measurement_period_s: Option<NonZeroU32>,
    /// MNOP: reports tell the number of packets besides that of octets (TS 29.244 8.2.96).
    pub packets: bool,
}

/// The supported Reporting Triggers (TS 29.244 8.2.19).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct ReportingTriggers {
    /// PERIO.
    pub periodic: bool,
    /// VOLTH.
    pub volume_threshold: bool,
    /// TIMTH.
    pub time_threshold: bool,
}

/// Volume Threshold (TS 29.244 8.2.13), octets. At least one is set; whichever is reached first counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct VolumeThreshold {
    /// TOVOL: both directions together.
    pub total: Option<NonZeroU64>,
    /// ULVOL.
    pub uplink: Option<NonZeroU64>,
    /// DLVOL.
    pub downlink: Option<NonZeroU64>,
}

impl VolumeThreshold {
    /// Whether these volumes, in octets, reach it.
    pub fn is_reached_by(&self, uplink: u64, downlink: u64) -> bool {
        let reached = |threshold: Option<NonZeroU64>, volume| threshold.is_some_and(|t| volume >= t.get());
        reached(self.total, uplink.saturating_add(downlink))
            || reached(self.uplink, uplink)
            || reached(self.downlink, downlink)
    }
}

impl Reporting {
    /// The volume at which to report, if any.
    pub fn volume_threshold_in_force(&self) -> Option<VolumeThreshold> {
        self.volume_threshold.filter(|_| self.triggers.volume_threshold)
    }

    /// The duration in seconds at which to report, if any.
    pub fn time_threshold_in_force(&self) -> Option<NonZeroU32> {
        self.time_threshold_s.filter(|_| self.triggers.time_threshold)
    }

    /// The seconds between periodic reports, if there are to be any.
    pub fn period_in_force(&self) -> Option<NonZeroU32> {
        self.measurement_period_s.filter(|_| self.triggers.periodic)
    }
}
