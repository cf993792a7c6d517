//! Create QER and Update QER (TS 29.244 7.5.2.5, 7.5.4.5).

use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::unsupported;
use rs_pfcp::ie::IeType;
use upf_model::decoded::Qer;

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::QerCorrelationId,
    IeType::GateStatus,
    IeType::Mbr,
    IeType::Gbr,
    IeType::Qfi,
    IeType::Rqi,
    IeType::PagingPolicyIndicator,
    IeType::AveragingWindow,
];

/// Reads a Create QER or an Update QER.
pub fn read_qer(group: &Element<'_>) -> Result<Qer, Refusal> {
    let mut qer = Qer::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::QerId => first(&mut qer.id, element.u32()?),
            removed if element.value.is_empty() && REMOVABLE.contains(&removed) => {
                unsupported::add(&mut qer.removed, removed);
            }
            IeType::QerCorrelationId => first(&mut qer.correlation_id, element.u32()?),
            IeType::GateStatus => first(&mut qer.gate_status, element.u8()?),
            IeType::Mbr => first(&mut qer.mbr, read_bit_rates(&element)?),
            IeType::Gbr => first(&mut qer.gbr, read_bit_rates(&element)?),
            IeType::Qfi => first(&mut qer.qfi, element.u8()? & 0x3f),
            IeType::Rqi => first(&mut qer.rqi, element.u8()? & 1 != 0),
            IeType::PagingPolicyIndicator => first(&mut qer.ppi, element.u8()? & 0x07),
            IeType::AveragingWindow => first(&mut qer.averaging_window_ms, element.u32()?),
            other => unsupported::note(&mut qer.unsupported, unsupported::QER, other),
        }
    }
    Ok(qer)
}

/// Uplink, then downlink, 5 octets of kbit/s each (8.2.8, 8.2.9).
fn read_bit_rates(element: &Element<'_>) -> Result<(u64, u64), Refusal> {
    let mut octets = element.octets();
    Ok((octets.u40()?, octets.u40()?))
}
