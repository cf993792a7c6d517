//! From decoded rules to validated ones: the only way there is.
//!
//! [`establish`] and [`modify`] take the session as it is and a request, and give the session as it will be with
//! everything that has to happen besides ([`Plan`]), or one [`Refusal`] that names cause, IE and rule. They never
//! change the session they are given. What they take from the controller ([`Resources`]) is a transaction that
//! the controller rolls back after a refusal. A request therefore takes effect whole or not at all, and no IE is
//! accepted and then ignored.
//!
//! # The walk
//! 1. Rules are removed, created and updated, in this order, kind by kind; each is checked by itself.
//! 2. SDF filters that are named by their id alone get their description.
//! 3. Every reference is followed.
//! 4. Local F-TEIDs are chosen, and taken over by uplink PDRs that leave theirs out; UE addresses are chosen.
//! 5. Every PDR must say whose packets it means.
//! 6. What the session no longer holds is released, what it newly holds is reserved.
//!
//! # What is refused
//!
//! | cause | when | offending IE |
//! | --- | --- | --- |
//! | 66 mandatory IE missing | an identifier; Create PDR or Create FAR of an establishment; Precedence, PDI, Source Interface; Apply Action, Destination Interface; Gate Status; Measurement Method, Reporting Triggers | the absent one |
//! | 67 conditional IE missing | a PDR without FAR; FORW without Forwarding Parameters; DUPL without Duplicating Parameters; tunnelled without Outer Header Removal; a PDR of the access whose tunnel is not to be told; another PDR with neither F-TEID, UE address nor framed route; a UE address to be chosen from no one network | the absent one |
//! | 68 invalid length | length 0 in a Create IE | that one |
//! | 69 mandatory IE incorrect | a value the standard does not allow or that contradicts its neighbours: QFI over 63, PPI over 7, flow label over 20 bits, gate 2 or 3, MBR below GBR, TEID 0, addresses that are nobody's, an F-TEID that is not at an address of ours, UE IP flags at odds, none or several of DROP, FORW and BUFF, a flow description that does not parse, a header to remove that cannot be there, length 0 for an IE the rule needs | that one |
//! | 71 invalid F-TEID allocation option | one CHOOSE ID for PDRs of different families, interfaces or instances; no endpoint to choose from | F-TEID |
//! | 73 rule creation/modification failure | Create of an identifier that is taken; Update, Remove or Query of one that is not; a reference to a rule that is not there; Remove FAR of one that a PDR still needs; an unknown network instance; an F-TEID, UE address or framed route of another session | the identifier or the IE |
//! | 75 no resources available | more than [`limits`] allow; no TEID left | the IE that is one too many |
//! | 76 service not supported | IEs, flags and descriptions that the standard has and this UPF has not (each rule's `unsupported` list; other Apply Actions; tunnels other than GTP-U; thresholds and triggers of URRs) | that one |
//! | 77 system failure | the controller's answer does not fit the question | F-TEID or UE IP Address |
//! | 79 all dynamic addresses are occupied | no UE address left | UE IP Address |
//!
//! # What an update means
//! An absent IE keeps what was, a present one replaces it, one of length 0 removes it (TS 29.244 5.6.3). A PDI, and
//! the list of a PDR's QERs or URRs, is replaced as a whole. Forwarding Parameters are updated IE by IE. Removing
//! a QER or URR takes it out of the PDRs that name it; removing a FAR does not remove its PDRs.
//!
//! # What is read generously
//! Spare bits, bits beyond a prefix length and beyond a mask, and the S/D flag of a UE IP Address: some SMFs leave it
//! clear for the downlink too, and the source interface says in any case at which end the UE is.
//!
//! Cost: about linear in the rules of the session and the request, whatever the request changes; quadratic in the
//! PDRs that each have a tunnel or UE address of their own. [`limits`] bound both.

mod bar;
mod draft;
mod far;
mod filters;
mod holdings;
pub mod limits;
mod pdi;
mod pdr;
mod qer;
mod refusal;
mod resources;
mod table;
mod tunnels;
mod ue_addresses;
mod urr;

pub use refusal::{Cause, FailedRule, Refusal, RuleKind};
pub use resources::{ResourceError, Resources};

use crate::{
    FarId, Interface, LocalFTeid, OuterHeaderCreation, PdrId, Seid, Session, SessionId, UeIpAddress, UrrId, decoded, ie,
};
use draft::Draft;
use pdr::Origin;

/// What a request makes of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The session as it will be. Its epoch is the next one if any rule differs, and the same if none does.
    pub session: Session,
    /// For each Create PDR for which we chose something: what a Created PDR IE tells the SMF.
    pub created_pdrs: Vec<CreatedPdr>,
    /// The same for each Update PDR (Updated PDR IE).
    pub updated_pdrs: Vec<CreatedPdr>,
    /// The *old* tunnels of the FARs whose Update Forwarding Parameters asked for an End Marker (SNDEM) and
    /// changed the tunnel; each once.
    pub end_markers: Vec<OuterHeaderCreation>,
    /// FARs of the session as it was whose buffered packets are to be thrown away.
    pub discard_buffered: Vec<FarId>,
    /// URRs to report on now; they go on.
    pub queried_urrs: Vec<UrrId>,
    /// URRs that end now, to be reported for the last time.
    pub removed_urrs: Vec<UrrId>,
}

/// What we chose for a PDR. At least one of the two is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedPdr {
    /// Whose.
    pub id: PdrId,
    /// The local F-TEID, if we chose it.
    pub fteid: Option<LocalFTeid>,
    /// The UE address in those families that we chose.
    pub ue_ip: Option<UeIpAddress>,
}

/// Validates a Session Establishment Request. The session starts with epoch 1.
///
/// # Errors
/// See the table of this module. `resources` must be rolled back then.
pub fn establish(
    resources: &mut dyn Resources,
    id: SessionId,
    seid: Seid,
    request: &decoded::SessionRequest,
) -> Result<Plan, Refusal> {
    if request.create_pdrs.is_empty() {
        return Err(Refusal::missing(ie::CREATE_PDR, "Create PDR"));
    }
    if request.create_fars.is_empty() {
        return Err(Refusal::missing(ie::CREATE_FAR, "Create FAR"));
    }
    modify(
        resources,
        &Session {
            id,
            seid,
            ..Session::default()
        },
        request,
    )
}

/// Validates a Session Modification Request.
///
/// # Errors
/// See the table of this module. `resources` must be rolled back then; `current` stands as it is.
pub fn modify(
    resources: &mut dyn Resources,
    current: &Session,
    request: &decoded::SessionRequest,
) -> Result<Plan, Refusal> {
    Refusal::of_unsupported(&request.unsupported)?;
    let mut draft = Draft::of(current);
    draft.remove(request)?;
    draft.create(resources, request)?;
    draft.update(resources, request)?;
    filters::resolve(&mut draft.pdrs)?;
    draft.check_references(request)?;

    let chosen_fteids = tunnels::choose(resources, &mut draft.pdrs)?;
    tunnels::inherit(&mut draft.pdrs)?;
    tunnels::check(&draft.pdrs)?;
    let allocated_ue_ip = ue_addresses::choose(resources, current, &mut draft.pdrs, &draft.fars)?;
    draft.check_identification()?;

    let created_pdrs = draft.chosen(Origin::Created);
    let updated_pdrs = draft.chosen(Origin::Updated);
    let end_markers = std::mem::take(&mut draft.end_markers);
    let session = draft.into_session(current);
    let queried_urrs = draft::queried(current, &session, request)?;
    holdings::exchange(resources, &current.pdrs, &session.pdrs, &chosen_fteids, allocated_ue_ip)?;

    Ok(Plan {
        created_pdrs,
        updated_pdrs,
        end_markers,
        discard_buffered: draft::discarded(current, &session, request),
        queried_urrs,
        removed_urrs: request.remove_urrs.iter().map(|&id| UrrId(id)).collect(),
        session,
    })
}

/// A name that the configuration does not have, or an interface that has no default.
fn unknown_network_instance(name: Option<&str>, interface: Interface) -> Refusal {
    let message = match name {
        Some(name) => {
            let shown: String = name.chars().take(64).collect();
            format!("network instance {shown:?} is not configured for interface {interface:?}")
        }
        None => format!("interface {interface:?} has no default network instance"),
    };
    Refusal::rule(ie::NETWORK_INSTANCE, message)
}
