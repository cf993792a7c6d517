//! Create BAR and Update BAR, also within a Session Report Response (TS 29.244 7.5.2.6, 7.5.4.11, 7.5.9.2).

use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::unsupported;
use rs_pfcp::ie::IeType;
use upf_model::decoded::Bar;

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::DownlinkDataNotificationDelay,
    IeType::SuggestedBufferingPacketsCount,
];

/// Reads a Create BAR or an Update BAR of a session request.
pub fn read_bar(group: &Element<'_>) -> Result<Bar, Refusal> {
    let mut bar = Bar::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::BarId => first(&mut bar.id, element.u8()?),
            removed if element.value.is_empty() && REMOVABLE.contains(&removed) => {
                unsupported::add(&mut bar.removed, removed);
            }
            IeType::DownlinkDataNotificationDelay => first(&mut bar.downlink_data_notification_delay, element.u8()?),
            IeType::SuggestedBufferingPacketsCount => {
                first(&mut bar.suggested_buffering_packets_count, element.u8()?);
            }
            other => unsupported::note(&mut bar.unsupported, unsupported::BAR, other),
        }
    }
    Ok(bar)
}
