//! Buffering action rules, validated (TS 29.244 7.5.2.6).

use crate::BarId;
use rkyv::{Archive, Deserialize, Serialize};

/// A buffering action rule.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize)]
pub struct Bar {
    /// Unique in the session.
    pub id: BarId,
    /// Downlink Data Notification Delay: wait this long before the report (TS 29.244 8.2.28), milliseconds.
    pub notification_delay_ms: u32,
    /// Suggested Buffering Packets Count (TS 29.244 8.2.99): the session's own bound, within the configured one.
    pub suggested_packets: Option<u8>,
}
