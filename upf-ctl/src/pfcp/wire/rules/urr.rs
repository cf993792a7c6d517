//! Create URR and Update URR (TS 29.244 7.5.2.4, 7.5.4.4).

use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::unsupported;
use rs_pfcp::ie::IeType;
use upf_model::decoded::{Urr, VolumeThreshold};

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::MeasurementMethod,
    IeType::ReportingTriggers,
    IeType::MeasurementInformation,
    IeType::VolumeThreshold,
    IeType::TimeThreshold,
    IeType::MeasurementPeriod,
];

/// Reads a Create URR or an Update URR.
pub fn read_urr(group: &Element<'_>) -> Result<Urr, Refusal> {
    let mut urr = Urr::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::UrrId => first(&mut urr.id, element.u32()?),
            removed if element.value.is_empty() && REMOVABLE.contains(&removed) => {
                unsupported::add(&mut urr.removed, removed);
            }
            IeType::MeasurementMethod => first(&mut urr.measurement_method, element.u8()?),
            IeType::ReportingTriggers => {
                // One octet in the first release, two up to release 15, three since.
                let mut octets = element.octets();
                let triggers = [
                    octets.u8()?,
                    octets.optional_u8().unwrap_or(0),
                    octets.optional_u8().unwrap_or(0),
                    0,
                ];
                first(&mut urr.reporting_triggers, u32::from_le_bytes(triggers));
            }
            IeType::MeasurementInformation => first(&mut urr.measurement_information, element.u8()?),
            IeType::VolumeThreshold => first(&mut urr.volume_threshold, read_volume_threshold(&element)?),
            IeType::TimeThreshold => first(&mut urr.time_threshold, element.u32()?),
            IeType::MeasurementPeriod => first(&mut urr.measurement_period, element.u32()?),
            other => unsupported::note(&mut urr.unsupported, unsupported::URR, other),
        }
    }
    Ok(urr)
}

/// Flags TOVOL, ULVOL, DLVOL from bit 1 up, then 8 octets for each that is set (8.2.13).
fn read_volume_threshold(element: &Element<'_>) -> Result<VolumeThreshold, Refusal> {
    let mut octets = element.octets();
    let flags = octets.u8()?;
    let mut volume = |bit: u8| (flags & bit != 0).then(|| octets.u64()).transpose();
    Ok(VolumeThreshold {
        total: volume(1)?,
        uplink: volume(2)?,
        downlink: volume(4)?,
    })
}
