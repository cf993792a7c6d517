//! Create PDR and Update PDR (TS 29.244 7.5.2.2, 7.5.4.2).

use super::{Refusal, Resources, limits, pdi};
use crate::{
    FarId, Interface, LocalFTeid, NetworkInstanceId, OuterHeaderRemoval, Pdr, PdrId, Precedence, QerId, UrrId, decoded,
    ie,
};

/// A PDR while a request is worked on.
#[derive(Clone)]
pub(super) struct DraftPdr {
    /// The rule, complete but for its wishes.
    pub(super) rule: Pdr,
    /// What the request does with it.
    pub(super) origin: Origin,
    /// Whether the request gives its PDI anew.
    pub(super) fresh_pdi: bool,
    /// What its PDI leaves to us. Empty for a rule that is kept.
    pub(super) wishes: Wishes,
    /// The tunnel it had before this request, and for which interface and network instance.
    pub(super) previous_tunnel: Option<(Interface, NetworkInstanceId, LocalFTeid)>,
}

/// What the request does with a PDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Kept,
    Created,
    Updated,
}

/// What a PDI leaves to us.
#[derive(Clone, Default)]
pub(super) struct Wishes {
    /// Choose the local F-TEID.
    pub(super) fteid: Option<ChooseFTeid>,
    /// Choose the UE's IPv4 address.
    pub(super) ue_ipv4: bool,
    /// Choose the UE's IPv6 prefix.
    pub(super) ue_ipv6: bool,
    /// SDF filters named by their id alone.
    pub(super) filters: Vec<u32>,
}

/// A local F-TEID to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChooseFTeid {
    /// CHOOSE ID: PDRs of one request with the same one share the F-TEID.
    pub(super) id: Option<u8>,
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl DraftPdr {
    /// A PDR of the session as it is.
    pub(super) fn kept(rule: &Pdr) -> Self {
        let pdi = &rule.pdi;
        let previous_tunnel = pdi
            .local_fteid
            .map(|fteid| (pdi.source_interface, pdi.network_instance, fteid));
        Self {
            rule: rule.clone(),
            origin: Origin::Kept,
            fresh_pdi: false,
            wishes: Wishes::default(),
            previous_tunnel,
        }
    }
}

pub(super) fn id(pdr: &decoded::Pdr) -> Result<PdrId, Refusal> {
    pdr.id.map(PdrId).ok_or_else(|| Refusal::missing(ie::PDR_ID, "PDR ID"))
}

pub(super) fn create(resources: &dyn Resources, id: PdrId, pdr: &decoded::Pdr) -> Result<DraftPdr, Refusal> {
    Refusal::of_unsupported(&pdr.unsupported)?;
    Refusal::of_removed(&pdr.removed)?;
    let precedence = pdr
        .precedence
        .ok_or_else(|| Refusal::missing(ie::PRECEDENCE, "Precedence"))?;
    let pdi = pdr.pdi.as_ref().ok_or_else(|| Refusal::missing(ie::PDI, "PDI"))?;
    let (pdi, wishes) = pdi::read(resources, pdi)?;
    // Optional in the standard, where a predefined rule or a MAR may stand in for it.
    let far = pdr
        .far_id
        .ok_or_else(|| Refusal::conditional(ie::FAR_ID, "a PDR needs a FAR"))?;
    let rule = Pdr {
        id,
        precedence: Precedence(precedence),
        pdi,
        outer_header_removal: pdr.outer_header_removal.map(read_removal).transpose()?,
        far: FarId(far),
        qers: read_qers(&pdr.qer_ids)?,
        urrs: read_urrs(&pdr.urr_ids)?,
    };
    Ok(DraftPdr {
        rule,
        origin: Origin::Created,
        fresh_pdi: true,
        wishes,
        previous_tunnel: None,
    })
}

/// The lists of QERs and URRs and the PDI are replaced as wholes when they are present.
pub(super) fn update(resources: &dyn Resources, current: &DraftPdr, pdr: &decoded::Pdr) -> Result<DraftPdr, Refusal> {
    Refusal::of_unsupported(&pdr.unsupported)?;
    let mut new = current.clone();
    if new.origin == Origin::Kept {
        new.origin = Origin::Updated;
    }
    for &removed in &pdr.removed {
        match removed {
            ie::QER_ID => new.rule.qers.clear(),
            ie::URR_ID => new.rule.urrs.clear(),
            ie::OUTER_HEADER_REMOVAL => new.rule.outer_header_removal = None,
            other => return Err(Refusal::irremovable(other)),
        }
    }
    if let Some(precedence) = pdr.precedence {
        new.rule.precedence = Precedence(precedence);
    }
    if let Some(pdi) = &pdr.pdi {
        (new.rule.pdi, new.wishes) = pdi::read(resources, pdi)?;
        new.fresh_pdi = true;
    }
    if let Some(removal) = pdr.outer_header_removal {
        new.rule.outer_header_removal = Some(read_removal(removal)?);
    }
    if let Some(far) = pdr.far_id {
        new.rule.far = FarId(far);
    }
    if !pdr.qer_ids.is_empty() {
        new.rule.qers = read_qers(&pdr.qer_ids)?;
    }
    if !pdr.urr_ids.is_empty() {
        new.rule.urrs = read_urrs(&pdr.urr_ids)?;
    }
    Ok(new)
}

/// Outer Header Removal (8.2.64). Its second octet may ask to delete the PDU Session Container, which goes with
/// the GTP-U header in any case.
fn read_removal((description, extension_headers): (u8, Option<u8>)) -> Result<OuterHeaderRemoval, Refusal> {
    if extension_headers.is_some_and(|flags| flags & !1 != 0) {
        return Err(Refusal::unsupported(
            ie::OUTER_HEADER_REMOVAL,
            "of the extension headers only the PDU Session Container can be deleted",
        ));
    }
    match description {
        0 => Ok(OuterHeaderRemoval::GtpuUdpIpv4),
        1 => Ok(OuterHeaderRemoval::GtpuUdpIpv6),
        6 => Ok(OuterHeaderRemoval::GtpuUdpIp),
        2..=8 => Err(Refusal::unsupported(
            ie::OUTER_HEADER_REMOVAL,
            format!("expected 0, 1 or 6 (GTP-U over IPv4, IPv6, either), found {description}"),
        )),
        other => Err(Refusal::incorrect(
            ie::OUTER_HEADER_REMOVAL,
            format!("expected 0 to 8, found {other}"),
        )),
    }
}

fn read_qers(ids: &[u32]) -> Result<Vec<QerId>, Refusal> {
    distinct(ids.iter().map(|&id| QerId(id)), limits::QERS_PER_PDR)
        .ok_or_else(|| Refusal::too_many(ie::QER_ID, "QERs in a PDR", limits::QERS_PER_PDR))
}

fn read_urrs(ids: &[u32]) -> Result<Vec<UrrId>, Refusal> {
    distinct(ids.iter().map(|&id| UrrId(id)), limits::URRS_PER_PDR)
        .ok_or_else(|| Refusal::too_many(ie::URR_ID, "URRs in a PDR", limits::URRS_PER_PDR))
}

/// Each once, in the order of their first appearance; none if they are more than the limit.
fn distinct<Id: PartialEq>(ids: impl Iterator<Item = Id>, limit: usize) -> Option<Vec<Id>> {
    let mut list = Vec::new();
    for id in ids {
        if !list.contains(&id) {
            if list.len() == limit {
                return None;
            }
            list.push(id);
        }
    }
    Some(list)
}
