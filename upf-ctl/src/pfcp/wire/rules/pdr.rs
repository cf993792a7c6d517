//! Create PDR, Update PDR, PDI and SDF Filter (TS 29.244 7.5.2.2, 7.5.4.2, 8.2.5).

use crate::pfcp::wire::address::{read_fteid, read_ue_ip};
use crate::pfcp::wire::cause::Refusal;
use crate::pfcp::wire::element::{Element, first};
use crate::pfcp::wire::{identity, unsupported};
use rs_pfcp::ie::IeType;
use upf_model::decoded::{Pdi, Pdr, SdfFilter};

/// IEs that an Update removes by sending them with length 0 (5.6.3). Whether the rule can be without is for validation.
const REMOVABLE: &[IeType] = &[
    IeType::Precedence,
    IeType::Pdi,
    IeType::OuterHeaderRemoval,
    IeType::FarId,
    IeType::UrrId,
    IeType::QerId,
];

/// Reads a Create PDR or an Update PDR.
pub fn read_pdr(group: &Element<'_>) -> Result<Pdr, Refusal> {
    let mut pdr = Pdr::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::PdrId => first(&mut pdr.id, element.u16()?),
            removed if element.value.is_empty() && REMOVABLE.contains(&removed) => {
                unsupported::add(&mut pdr.removed, removed);
            }
            IeType::Precedence => first(&mut pdr.precedence, element.u32()?),
            IeType::Pdi => first(&mut pdr.pdi, read_pdi(&element)?),
            IeType::OuterHeaderRemoval => {
                let mut octets = element.octets();
                first(&mut pdr.outer_header_removal, (octets.u8()?, octets.optional_u8()));
            }
            // Several FARs are for multi-access and redundant sessions, which other unsupported IEs set up.
            IeType::FarId if pdr.far_id.is_some() => unsupported::add(&mut pdr.unsupported, IeType::FarId),
            IeType::FarId => pdr.far_id = Some(element.u32()?),
            IeType::UrrId => pdr.urr_ids.push(element.u32()?),
            IeType::QerId => pdr.qer_ids.push(element.u32()?),
            other => unsupported::note(&mut pdr.unsupported, unsupported::PDR, other),
        }
    }
    Ok(pdr)
}

fn read_pdi(group: &Element<'_>) -> Result<Pdi, Refusal> {
    let mut pdi = Pdi::default();
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::SourceInterface => first(&mut pdi.source_interface, element.u8()? & 0x0f),
            // A second tunnel is for redundant transmission.
            IeType::Fteid if pdi.local_fteid.is_some() => unsupported::add(&mut pdi.unsupported, IeType::Fteid),
            IeType::Fteid => pdi.local_fteid = Some(read_fteid(&element)?),
            IeType::NetworkInstance => {
                first(
                    &mut pdi.network_instance,
                    identity::name(element.ie_type, element.value)?,
                );
            }
            IeType::UeIpAddress => pdi.ue_ips.push(read_ue_ip(&element)?),
            IeType::SdfFilter => pdi.sdf_filters.push(read_sdf_filter(&element)?),
            IeType::Qfi => pdi.qfis.push(element.u8()? & 0x3f),
            IeType::FramedRoute => pdi.framed_routes.push(element.text()?),
            IeType::FramedIpv6Route => pdi.framed_ipv6_routes.push(element.text()?),
            IeType::FramedRouting if element.u32()? != 0 => {
                unsupported::add(&mut pdi.unsupported, IeType::FramedRouting);
            }
            other => unsupported::note(&mut pdi.unsupported, unsupported::PDI, other),
        }
    }
    Ok(pdi)
}

/// Flags: FD bit 1, TTC bit 2, SPI bit 3, FL bit 4, BID bit 5; a spare octet; then the fields whose flags are set.
fn read_sdf_filter(element: &Element<'_>) -> Result<SdfFilter, Refusal> {
    let mut octets = element.octets();
    let flags = octets.u8()?;
    octets.u8()?;
    let mut filter = SdfFilter::default();
    if flags & 0x01 != 0 {
        let length = usize::from(octets.u16()?);
        filter.flow_description = Some(octets.text(length)?);
    }
    if flags & 0x02 != 0 {
        filter.tos_traffic_class = Some((octets.u8()?, octets.u8()?));
    }
    if flags & 0x04 != 0 {
        filter.spi = Some(octets.u32()?);
    }
    if flags & 0x08 != 0 {
        // Bits 8 to 5 of the first octet are spare: a flow label has 20 bits.
        filter.flow_label = Some(octets.u24()? & 0x000f_ffff);
    }
    if flags & 0x10 != 0 {
        filter.filter_id = Some(octets.u32()?);
    }
    Ok(filter)
}
