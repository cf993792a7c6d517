//! Usage reporting rules, validated (TS 29.244 7.5.2.4).

use crate::UrrId;
use rkyv::{Archive, Deserialize, Serialize};

/// A usage reporting rule. Thresholds and quotas are not here yet: validation refuses them.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Urr {
    /// Unique in the session.
    pub id: UrrId,
    /// What is measured.
    pub method: MeasurementMethod,
    /// MBQE: count before QoS enforcement rather than after it (TS 29.244 8.2.96).
    pub before_qos: bool,
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
