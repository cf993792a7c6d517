//! Local F-TEIDs: choosing them (TS 29.244 5.5.3), and finding the one that a PDI leaves out.
//!
//! An SMF that adds a PDR for a PCC rule may name its UE address only, and leave out the F-TEID that the
//! session's other uplink PDRs have. What arrives from the access arrives in a tunnel, so that a PDR of the
//! access without one would never match. It takes over the tunnel it had before, or else the one tunnel that the
//! session has from the access in that network instance; where there is none, or more than one, it is refused.

use super::pdr::{ChooseFTeid, DraftPdr};
use super::table::Table;
use super::{Cause, Refusal, Resources};
use crate::{Interface, LocalFTeid, NetworkInstanceId, OuterHeaderRemoval, PdrId, ie};
use std::collections::HashMap;
use std::net::IpAddr;

/// The request's CHOOSE IDs: what was asked for with each, and what was chosen.
type Chosen = HashMap<u8, (ChooseFTeid, Interface, NetworkInstanceId, LocalFTeid)>;

/// Grants every wish for an F-TEID. Returns what was chosen.
pub(super) fn choose(
    resources: &mut dyn Resources,
    pdrs: &mut Table<PdrId, DraftPdr>,
) -> Result<Vec<LocalFTeid>, Refusal> {
    let mut by_choose_id = Chosen::new();
    let mut chosen = Vec::new();
    for (id, draft) in pdrs.iter_mut() {
        let Some(choice) = draft.wishes.fteid else { continue };
        let pdi = &mut draft.rule.pdi;
        let (interface, instance) = (pdi.source_interface, pdi.network_instance);
        let fteid = match choice.id.and_then(|choose_id| by_choose_id.get(&choose_id)) {
            Some(&(first, at, within, fteid)) if (first, at, within) == (choice, interface, instance) => fteid,
            Some(_) => {
                let message = "PDRs of one CHOOSE ID must agree in families, source interface and network instance";
                return Err(Refusal::new(Cause::InvalidFTeidAllocationOption, ie::F_TEID, message).in_rule(id));
            }
            None => allocate(resources, choice, interface, instance).map_err(|refusal| refusal.in_rule(id))?,
        };
        if let Some(choose_id) = choice.id {
            by_choose_id.insert(choose_id, (choice, interface, instance, fteid));
        }
        pdi.local_fteid = Some(fteid);
        chosen.push(fteid);
    }
    Ok(chosen)
}

fn allocate(
    resources: &mut dyn Resources,
    choice: ChooseFTeid,
    interface: Interface,
    instance: NetworkInstanceId,
) -> Result<LocalFTeid, Refusal> {
    let fteid = resources
        .allocate_fteid(choice.id, choice.v4, choice.v6, interface, instance)
        .map_err(|error| Refusal::new(error.fteid_cause(), ie::F_TEID, error.to_string()))?;
    if fteid.teid.0 == 0 || fteid.ipv4.is_some() != choice.v4 || fteid.ipv6.is_some() != choice.v6 {
        return Err(Refusal::new(
            Cause::SystemFailure,
            ie::F_TEID,
            "the F-TEID chosen is not the one asked for",
        ));
    }
    Ok(fteid)
}

/// Gives the PDRs of the access that have no tunnel the one they can only mean.
pub(super) fn inherit(pdrs: &mut Table<PdrId, DraftPdr>) -> Result<(), Refusal> {
    let mut known: HashMap<NetworkInstanceId, Vec<LocalFTeid>> = HashMap::new();
    for (_, draft) in pdrs
        .iter()
        .filter(|(_, draft)| draft.rule.pdi.source_interface == Interface::Access)
    {
        let tunnels = known.entry(draft.rule.pdi.network_instance).or_default();
        if let Some(fteid) = draft.rule.pdi.local_fteid.filter(|fteid| !tunnels.contains(fteid)) {
            tunnels.push(fteid);
        }
    }
    for (id, draft) in pdrs.iter_mut() {
        let pdi = &mut draft.rule.pdi;
        if pdi.source_interface != Interface::Access || pdi.local_fteid.is_some() {
            continue;
        }
        let previous = draft
            .previous_tunnel
            .filter(|&(interface, instance, _)| (interface, instance) == (pdi.source_interface, pdi.network_instance))
            .map(|(.., fteid)| fteid);
        let tunnels = known.get(&pdi.network_instance).map_or(&[][..], Vec::as_slice);
        pdi.local_fteid = Some(match (previous, tunnels) {
            (Some(fteid), _) => fteid,
            (None, [fteid]) => *fteid,
            (None, tunnels) => {
                let count = tunnels.len();
                let message = format!("the session has {count} tunnels from the access that this PDR could mean");
                return Err(Refusal::conditional(ie::F_TEID, message).in_rule(id));
            }
        });
    }
    Ok(())
}

/// Checks that the tunnels of a session are told apart by what packets show: TEID and our address.
pub(super) fn check(pdrs: &Table<PdrId, DraftPdr>) -> Result<(), Refusal> {
    let mut owners: HashMap<(u32, IpAddr), LocalFTeid> = HashMap::new();
    for (id, draft) in pdrs.iter() {
        let Some(fteid) = draft.rule.pdi.local_fteid else {
            if draft.rule.outer_header_removal.is_some() {
                let message = "this PDR's packets arrive without a tunnel: there is no outer header to remove";
                return Err(Refusal::incorrect(ie::OUTER_HEADER_REMOVAL, message).in_rule(id));
            }
            continue;
        };
        let removable = match draft.rule.outer_header_removal {
            Some(OuterHeaderRemoval::GtpuUdpIp) => true,
            Some(OuterHeaderRemoval::GtpuUdpIpv4) => fteid.ipv4.is_some(),
            Some(OuterHeaderRemoval::GtpuUdpIpv6) => fteid.ipv6.is_some(),
            None => {
                let message = "this PDR's packets arrive in a tunnel, which must be removed to forward them";
                return Err(Refusal::conditional(ie::OUTER_HEADER_REMOVAL, message).in_rule(id));
            }
        };
        if !removable {
            let message = "the F-TEID has no address of the family whose header is to be removed";
            return Err(Refusal::incorrect(ie::OUTER_HEADER_REMOVAL, message).in_rule(id));
        }
        for addr in [fteid.ipv4.map(IpAddr::V4), fteid.ipv6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
        {
            if *owners.entry((fteid.teid.0, addr)).or_insert(fteid) != fteid {
                let message = format!("TEID {:#010x} at {addr} belongs to two different F-TEIDs", fteid.teid.0);
                return Err(Refusal::rule(ie::F_TEID, message).in_rule(id));
            }
        }
    }
    Ok(())
}
