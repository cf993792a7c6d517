//! Create BAR and Update BAR (TS 29.244 7.5.2.6, 7.5.4.11).

use super::Refusal;
use crate::{Bar, BarId, decoded, ie};

/// Unit of the Downlink Data Notification Delay (8.2.28), milliseconds.
const DELAY_UNIT_MS: u32 = 50;

pub(super) fn id(bar: &decoded::Bar) -> Result<BarId, Refusal> {
    bar.id.map(BarId).ok_or_else(|| Refusal::missing(ie::BAR_ID, "BAR ID"))
}

pub(super) fn create(id: BarId, bar: &decoded::Bar) -> Result<Bar, Refusal> {
    Refusal::of_removed(&bar.removed)?;
    update(
        &Bar {
            id,
            notification_delay_ms: 0,
            suggested_packets: None,
        },
        bar,
    )
}

pub(super) fn update(current: &Bar, bar: &decoded::Bar) -> Result<Bar, Refusal> {
    Refusal::of_unsupported(&bar.unsupported)?;
    let mut new = current.clone();
    for &removed in &bar.removed {
        match removed {
            ie::DOWNLINK_DATA_NOTIFICATION_DELAY => new.notification_delay_ms = 0,
            ie::SUGGESTED_BUFFERING_PACKETS_COUNT => new.suggested_packets = None,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(units) = bar.downlink_data_notification_delay {
        new.notification_delay_ms = u32::from(units) * DELAY_UNIT_MS;
    }
    new.suggested_packets = bar.suggested_buffering_packets_count.or(new.suggested_packets);
    Ok(new)
}
