//! Create FAR, Update FAR and what they forward or duplicate to (TS 29.244 7.5.2.3, 7.5.4.3).

use crate::pfcp::wire::address::read_outer_header_creation;
use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::{identity, unsupported};
use rs_pfcp::ie::IeType;
use upf_model::decoded::{Far, Forwarding};

/// SNDEM of PFCPSMReq-Flags (8.2.34).
const SEND_END_MARKER: u8 = 0x02;

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::ApplyAction,
    IeType::ForwardingParameters,
    IeType::UpdateForwardingParameters,
    IeType::DuplicatingParameters,
    IeType::UpdateDuplicatingParameters,
    IeType::BarId,
];

/// The same inside their parameters.
const REMOVABLE_PARAMETERS: &[IeType] = &[
    IeType::DestinationInterface,
    IeType::NetworkInstance,
    IeType::OuterHeaderCreation,
    IeType::TransportLevelMarking,
];

/// Reads a Create FAR or an Update FAR: the types of their parameters differ, their contents do not.
pub fn read_far(group: &Element<'_>) -> Result<Far, Refusal> {
    let mut far = Far::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::FarId => first(&mut far.id, element.u32()?),
            removed if element.value.is_empty() && REMOVABLE.contains(&removed) => {
                unsupported::add(&mut far.removed, removed);
            }
            IeType::ApplyAction => {
                // One octet up to release 15, two since.
                let mut octets = element.octets();
                let low = octets.u8()?;
                let high = octets.optional_u8().unwrap_or(0);
                first(&mut far.apply_action, u16::from_le_bytes([low, high]));
            }
            IeType::ForwardingParameters | IeType::UpdateForwardingParameters => {
                first(&mut far.forwarding, read_forwarding(&element)?);
            }
            IeType::DuplicatingParameters | IeType::UpdateDuplicatingParameters => {
                far.duplicating.push(read_forwarding(&element)?);
            }
            IeType::BarId => first(&mut far.bar_id, element.u8()?),
            other => unsupported::note(&mut far.unsupported, unsupported::FAR, other),
        }
    }
    Ok(far)
}

fn read_forwarding(group: &Element<'_>) -> Result<Forwarding, Refusal> {
    let mut forwarding = Forwarding::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            removed if element.value.is_empty() && REMOVABLE_PARAMETERS.contains(&removed) => {
                unsupported::add(&mut forwarding.removed, removed);
            }
            IeType::DestinationInterface => first(&mut forwarding.destination_interface, element.u8()? & 0x0f),
            IeType::NetworkInstance => {
                first(
                    &mut forwarding.network_instance,
                    identity::name(element.ie_type, element.value)?,
                );
            }
            IeType::OuterHeaderCreation => {
                first(
                    &mut forwarding.outer_header_creation,
                    read_outer_header_creation(&element)?,
                );
            }
            IeType::TransportLevelMarking => {
                let mut octets = element.octets();
                first(&mut forwarding.transport_level_marking, (octets.u8()?, octets.u8()?));
            }
            IeType::PfcpsmReqFlags => forwarding.send_end_marker |= element.u8()? & SEND_END_MARKER != 0,
            other => unsupported::note(&mut forwarding.unsupported, unsupported::FORWARDING, other),
        }
    }
    Ok(forwarding)
}
