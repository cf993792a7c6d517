//! What a validated request means: changes for the data planes, what undoes them, and what the SMF is told.

use crate::pfcp::wire::outgoing::CreatedPdr;
use crate::planes::Step;
use crate::sessions::{Adapted, Entry};
use upf_model::batch::Change;
use upf_model::validate::{self, Plan};
use upf_model::{LocalFTeid, UeIpAddress, decoded};

/// A new session: undone by removing it.
pub fn establishment(plan: &Plan) -> Vec<Step> {
    vec![Step {
        change: Change::Put {
            session: plan.session.clone(),
            end_markers: plan.end_markers.clone(),
            discard_buffered: plan.discard_buffered.clone(),
        },
        undo: Change::Remove { id: plan.session.id },
    }]
}

/// A change, of which contexts make `adapted`: undone by putting the session as the planes have it. Packets that were
/// thrown away and End Markers that were sent stay so. Empty where no rule changes and nothing is to be done.
pub fn modification(current: &Entry, plan: &Plan, adapted: &Adapted) -> Vec<Step> {
    let (before, after) = (current.in_planes(), adapted.session(&plan.session));
    if after == before && plan.end_markers.is_empty() && plan.discard_buffered.is_empty() {
        return Vec::new();
    }
    let mut discard_buffered = plan.discard_buffered.clone();
    discard_buffered.extend(current.adapted.copies_of(&plan.discard_buffered));
    vec![Step {
        change: Change::Put {
            session: after.clone(),
            end_markers: plan.end_markers.clone(),
            discard_buffered,
        },
        undo: Change::Put {
            session: before.clone(),
            end_markers: Vec::new(),
            discard_buffered: Vec::new(),
        },
    }]
}

/// What we chose for PDRs, as the response says it.
pub fn chosen(pdrs: &[validate::CreatedPdr]) -> Vec<CreatedPdr> {
    pdrs.iter()
        .map(|created| CreatedPdr {
            pdr_id: created.id.0,
            local_fteid: created.fteid.as_ref().map(wire_fteid),
            ue_ips: created.ue_ip.as_ref().map(wire_ue_ip).into_iter().collect(),
        })
        .collect()
}

fn wire_fteid(fteid: &LocalFTeid) -> decoded::FTeid {
    decoded::FTeid {
        v4: fteid.ipv4.is_some(),
        v6: fteid.ipv6.is_some(),
        teid: fteid.teid.0,
        ipv4: fteid.ipv4,
        ipv6: fteid.ipv6,
        ..decoded::FTeid::default()
    }
}

fn wire_ue_ip(ue: &UeIpAddress) -> decoded::UeIp {
    decoded::UeIp {
        ipv4: ue.ipv4,
        ipv6: ue.ipv6.map(|p| p.addr()),
        ..decoded::UeIp::default()
    }
}
