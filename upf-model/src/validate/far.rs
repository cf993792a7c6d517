//! Create FAR and Update FAR (TS 29.244 7.5.2.3, 7.5.4.3).

use super::{Refusal, Resources, limits};
use crate::{
    Action, BarId, Disposition, Far, FarId, ForwardingParameters, Interface, OuterHeaderCreation, Teid, decoded, ie,
};
use std::net::IpAddr;

// Apply Action (8.2.26): octet 5 in the low byte, octet 6 in the high one.
const DROP: u16 = 1 << 0;
const FORW: u16 = 1 << 1;
const BUFF: u16 = 1 << 2;
const NOCP: u16 = 1 << 3;
const DUPL: u16 = 1 << 4;

// Outer Header Creation Description (8.2.56): octet 5 in the high byte.
const GTPU_UDP_IPV4: u16 = 0x0100;
const GTPU_UDP_IPV6: u16 = 0x0200;

/// What an Update FAR makes of a FAR.
pub(super) struct Updated {
    pub(super) far: Far,
    /// The tunnel it leaves, if an End Marker was asked for.
    pub(super) end_marker: Option<OuterHeaderCreation>,
}

pub(super) fn id(far: &decoded::Far) -> Result<FarId, Refusal> {
    far.id.map(FarId).ok_or_else(|| Refusal::missing(ie::FAR_ID, "FAR ID"))
}

pub(super) fn create(resources: &dyn Resources, id: FarId, far: &decoded::Far) -> Result<Far, Refusal> {
    Refusal::of_unsupported(&far.unsupported)?;
    Refusal::of_removed(&far.removed)?;
    let flags = far
        .apply_action
        .ok_or_else(|| Refusal::missing(ie::APPLY_ACTION, "Apply Action"))?;
    let forwarding = far
        .forwarding
        .as_ref()
        .map(|f| create_parameters(resources, f))
        .transpose()?;
    let duplicating = read_duplicating(resources, &far.duplicating)?;
    complete(Far {
        id,
        action: read_action(flags)?,
        forwarding,
        duplicating,
        bar: far.bar_id.map(BarId),
    })
}

pub(super) fn update(resources: &dyn Resources, current: &Far, far: &decoded::Far) -> Result<Updated, Refusal> {
    Refusal::of_unsupported(&far.unsupported)?;
    let mut new = current.clone();
    for &removed in &far.removed {
        match removed {
            ie::BAR_ID => new.bar = None,
            ie::UPDATE_FORWARDING_PARAMETERS => new.forwarding = None,
            ie::UPDATE_DUPLICATING_PARAMETERS => new.duplicating.clear(),
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(flags) = far.apply_action {
        new.action = read_action(flags)?;
    }
    if let Some(bar) = far.bar_id {
        new.bar = Some(BarId(bar));
    }
    if let Some(parameters) = &far.forwarding {
        new.forwarding = Some(match &new.forwarding {
            Some(old) => update_parameters(resources, old, parameters)?,
            None => create_parameters(resources, parameters)?,
        });
    }
    // Update Duplicating Parameters name none of several copies: only a single one can be updated IE by IE.
    match (new.duplicating.as_slice(), far.duplicating.as_slice()) {
        (_, []) => {}
        ([old], [parameters]) => new.duplicating = vec![update_parameters(resources, old, parameters)?],
        (_, list) => new.duplicating = read_duplicating(resources, list)?,
    }

    let tunnel = |far: &Far| far.forwarding.as_ref().and_then(|f| f.outer_header_creation);
    let asked = far.forwarding.as_ref().is_some_and(|f| f.send_end_marker);
    let far = complete(new)?;
    let end_marker = tunnel(current).filter(|old| asked && tunnel(&far) != Some(*old));
    Ok(Updated { far, end_marker })
}

/// What a FAR as a whole must hold, whether it was created so or became so.
fn complete(far: Far) -> Result<Far, Refusal> {
    if far.action.disposition == Disposition::Forward && far.forwarding.is_none() {
        return Err(Refusal::conditional(
            ie::FORWARDING_PARAMETERS,
            "FORW needs Forwarding Parameters",
        ));
    }
    if far.action.duplicate && far.duplicating.is_empty() {
        return Err(Refusal::conditional(
            ie::DUPLICATING_PARAMETERS,
            "DUPL needs Duplicating Parameters",
        ));
    }
    Ok(far)
}

fn read_action(flags: u16) -> Result<Action, Refusal> {
    if flags & !(DROP | FORW | BUFF | NOCP | DUPL) != 0 {
        return Err(Refusal::unsupported(
            ie::APPLY_ACTION,
            format!("DROP, FORW, BUFF, NOCP and DUPL are supported, found flags {flags:#06x}"),
        ));
    }
    let disposition = match flags & (DROP | FORW | BUFF) {
        DROP => Disposition::Drop,
        FORW => Disposition::Forward,
        BUFF => Disposition::Buffer {
            notify: flags & NOCP != 0,
        },
        _ => {
            return Err(Refusal::incorrect(
                ie::APPLY_ACTION,
                format!("expected exactly one of DROP, FORW and BUFF, found flags {flags:#06x}"),
            ));
        }
    };
    if flags & NOCP != 0 && flags & BUFF == 0 {
        return Err(Refusal::incorrect(
            ie::APPLY_ACTION,
            "NOCP is for packets that are buffered: expected BUFF",
        ));
    }
    if flags & DUPL != 0 && flags & FORW == 0 {
        return Err(Refusal::unsupported(
            ie::APPLY_ACTION,
            "only packets that are forwarded are duplicated here",
        ));
    }
    Ok(Action {
        disposition,
        duplicate: flags & DUPL != 0,
    })
}

fn read_duplicating(
    resources: &dyn Resources,
    list: &[decoded::Forwarding],
) -> Result<Vec<ForwardingParameters>, Refusal> {
    if list.len() > limits::DUPLICATES_PER_FAR {
        let limit = limits::DUPLICATES_PER_FAR;
        return Err(Refusal::too_many(
            ie::DUPLICATING_PARAMETERS,
            "Duplicating Parameters in a FAR",
            limit,
        ));
    }
    list.iter()
        .map(|parameters| create_parameters(resources, parameters))
        .collect()
}

fn create_parameters(
    resources: &dyn Resources,
    parameters: &decoded::Forwarding,
) -> Result<ForwardingParameters, Refusal> {
    Refusal::of_unsupported(&parameters.unsupported)?;
    Refusal::of_removed(&parameters.removed)?;
    let interface = parameters
        .destination_interface
        .ok_or_else(|| Refusal::missing(ie::DESTINATION_INTERFACE, "Destination Interface"))?;
    let destination_interface = read_destination(interface)?;
    Ok(ForwardingParameters {
        destination_interface,
        network_instance: resolve(resources, parameters.network_instance.as_deref(), destination_interface)?,
        outer_header_creation: parameters.outer_header_creation.map(read_tunnel).transpose()?,
        transport_level_marking: parameters.transport_level_marking.map(read_marking),
    })
}

fn update_parameters(
    resources: &dyn Resources,
    current: &ForwardingParameters,
    parameters: &decoded::Forwarding,
) -> Result<ForwardingParameters, Refusal> {
    Refusal::of_unsupported(&parameters.unsupported)?;
    let mut new = current.clone();
    let mut default_instance = false;
    for &removed in &parameters.removed {
        match removed {
            ie::OUTER_HEADER_CREATION => new.outer_header_creation = None,
            ie::TRANSPORT_LEVEL_MARKING => new.transport_level_marking = None,
            ie::NETWORK_INSTANCE => default_instance = true,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(interface) = parameters.destination_interface {
        let interface = read_destination(interface)?;
        // The network instance that was resolved for another interface means nothing for this one.
        default_instance |= interface != new.destination_interface;
        new.destination_interface = interface;
    }
    if default_instance || parameters.network_instance.is_some() {
        let name = parameters.network_instance.as_deref();
        new.network_instance = resolve(resources, name, new.destination_interface)?;
    }
    if let Some(tunnel) = parameters.outer_header_creation {
        new.outer_header_creation = Some(read_tunnel(tunnel)?);
    }
    if let Some(marking) = parameters.transport_level_marking {
        new.transport_level_marking = Some(read_marking(marking));
    }
    Ok(new)
}

fn read_destination(value: u8) -> Result<Interface, Refusal> {
    Interface::from_destination_value(value).ok_or_else(|| match value & 0x0f {
        4 => Refusal::unsupported(ie::DESTINATION_INTERFACE, "the LI function is no destination here"),
        other => Refusal::incorrect(ie::DESTINATION_INTERFACE, format!("expected 0 to 5, found {other}")),
    })
}

fn resolve(
    resources: &dyn Resources,
    name: Option<&str>,
    interface: Interface,
) -> Result<crate::NetworkInstanceId, Refusal> {
    resources
        .network_instance(name, interface)
        .ok_or_else(|| super::unknown_network_instance(name, interface))
}

fn read_tunnel(tunnel: decoded::OuterHeaderCreation) -> Result<OuterHeaderCreation, Refusal> {
    let incorrect = |message: &str| Err(Refusal::incorrect(ie::OUTER_HEADER_CREATION, message));
    let peer = match (tunnel.description, tunnel.ipv4, tunnel.ipv6) {
        (GTPU_UDP_IPV4, Some(addr), None) => IpAddr::V4(addr),
        (GTPU_UDP_IPV6, None, Some(addr)) => IpAddr::V6(addr),
        (GTPU_UDP_IPV4 | GTPU_UDP_IPV6, _, _) => {
            return incorrect("expected one address, of the family that the description names");
        }
        (other, _, _) => {
            return Err(Refusal::unsupported(
                ie::OUTER_HEADER_CREATION,
                format!("expected description 0x0100 (GTP-U/UDP/IPv4) or 0x0200 (GTP-U/UDP/IPv6), found {other:#06x}"),
            ));
        }
    };
    if peer.is_unspecified() || peer.is_multicast() || peer == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return incorrect("the peer's address is not one host's");
    }
    if tunnel.port.is_some() {
        return incorrect("GTP-U has its own port: none may be given");
    }
    match tunnel.teid {
        Some(teid) if teid != 0 => Ok(OuterHeaderCreation { teid: Teid(teid), peer }),
        _ => incorrect("expected the peer's TEID, other than 0"),
    }
}

/// Value and mask; value bits outside the mask say nothing and are cleared.
fn read_marking((value, mask): (u8, u8)) -> (u8, u8) {
    (value & mask, mask)
}
