//! Create URR and Update URR (TS 29.244 7.5.2.4, 7.5.4.4).

use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::unsupported;
use rs_pfcp::ie::IeType;
use upf_model::decoded::Urr;

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::MeasurementMethod,
    IeType::ReportingTriggers,
    IeType::MeasurementInformation,
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
            other => unsupported::note(&mut urr.unsupported, unsupported::URR, other),
        }
    }
    Ok(urr)
}
