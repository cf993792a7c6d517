//! Messages an SMF sends, decoded: what they carry that this UPF acts on, and how to read them.

use super::cause::{self, Refusal};
use super::element::{Element, Elements, first};
use super::features::CpFunctionFeatures;
use super::header::Header;
use super::identity::{FSeid, NodeId, NtpSeconds};
use super::rules::{read_bar, read_far, read_pdr, read_qer, read_reference, read_urr};
use super::subscription::{self, Subscription};
use super::unsupported;
use rs_pfcp::ie::IeType;
use rs_pfcp::message::MsgType;
use upf_model::decoded::{Bar, SessionRequest};

/// A message, by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    HeartbeatRequest(Heartbeat),
    HeartbeatResponse(Heartbeat),
    /// PFDM is not offered: answer with cause 76.
    PfdManagementRequest,
    AssociationSetupRequest(AssociationSetupRequest),
    AssociationSetupResponse(AssociationSetupResponse),
    AssociationUpdateRequest(AssociationUpdateRequest),
    AssociationUpdateResponse(NodeResponse),
    AssociationReleaseRequest(AssociationReleaseRequest),
    AssociationReleaseResponse(NodeResponse),
    VersionNotSupportedResponse,
    NodeReportResponse(NodeResponse),
    /// Sets of sessions are not kept: answer with cause 76.
    SessionSetDeletionRequest,
    /// Sets of sessions are not kept: answer with cause 76.
    SessionSetModificationRequest,
    SessionEstablishmentRequest(Box<SessionEstablishmentRequest>),
    SessionModificationRequest(Box<SessionModificationRequest>),
    SessionDeletionRequest,
    SessionReportResponse(SessionReportResponse),
    /// Nothing a UPF is ever sent: a type unknown to the standard, or one that only UPFs send. Discard it
    /// (TS 29.244 7.6.4, 7.6.5).
    Unexpected,
}

/// Heartbeat Request or Response (7.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the peer started: another value than before means that it lost its sessions.
    pub recovery_time_stamp: NtpSeconds,
}

/// Association Setup Request (7.4.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationSetupRequest {
    /// The SMF.
    pub node_id: NodeId,
    /// When it started.
    pub recovery_time_stamp: NtpSeconds,
    /// What it can do.
    pub features: CpFunctionFeatures,
    /// PFCP Session Retention Information is present: keep the sessions of an association that exists already.
    pub retain_sessions: bool,
}

/// Association Setup Response, to a setup that this UPF asked for (7.4.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationSetupResponse {
    /// The SMF.
    pub node_id: NodeId,
    /// Cause value as it came.
    pub cause: u8,
    /// When the SMF started. Some leave it out when they refuse.
    pub recovery_time_stamp: Option<NtpSeconds>,
    /// What it can do.
    pub features: CpFunctionFeatures,
}

/// Association Update Request (7.4.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationUpdateRequest {
    /// The SMF.
    pub node_id: NodeId,
    /// What it can do now, if that changed.
    pub features: Option<CpFunctionFeatures>,
}

/// Association Release Request (7.4.4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationReleaseRequest {
    /// The SMF.
    pub node_id: NodeId,
}

/// A response that carries a Node ID and a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeResponse {
    /// The SMF.
    pub node_id: NodeId,
    /// Cause value as it came.
    pub cause: u8,
    /// Type of the IE it objects to.
    pub offending_ie: Option<u16>,
}

/// Session Establishment Request (7.5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEstablishmentRequest {
    /// The SMF.
    pub node_id: NodeId,
    /// The SMF's endpoint of the session: responses and reports go to this SEID.
    pub cp_fseid: FSeid,
    /// PDN Type: 1 IPv4, 2 IPv6, 3 IPv4v6, 4 Non-IP, 5 Ethernet.
    pub pdn_type: Option<u8>,
    /// RESTI: the session is restored after a failure, with its old F-TEIDs and UE addresses.
    pub restoration: bool,
    /// Whose session it is.
    pub subscription: Subscription,
    /// The rules.
    pub rules: SessionRequest,
}

/// Session Modification Request (7.5.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionModificationRequest {
    /// The SMF's endpoint, if it changes.
    pub cp_fseid: Option<FSeid>,
    /// The SMF, if another one of its set takes over.
    pub node_id: Option<NodeId>,
    /// To be repeated in the usage reports that Query URR asks for.
    pub query_urr_reference: Option<u32>,
    /// The rules.
    pub rules: SessionRequest,
}

/// Session Report Response (7.5.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReportResponse {
    /// Cause value as it came.
    pub cause: u8,
    /// Type of the IE it objects to.
    pub offending_ie: Option<u16>,
    /// Update BAR: how to go on buffering.
    pub update_bar: Option<BarUpdate>,
    /// DROBU: throw away what is buffered.
    pub drop_buffered: bool,
    /// The SMF's endpoint, if it changes.
    pub cp_fseid: Option<FSeid>,
}

/// Update BAR within a Session Report Response (7.5.9.2): it has two values more than elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BarUpdate {
    /// As in any Update BAR.
    pub bar: Bar,
    /// DL Buffering Duration as encoded (8.2.29): unit in bits 8 to 6, value in bits 5 to 1.
    pub dl_buffering_duration: Option<u8>,
    /// How many packets to keep for that time.
    pub dl_buffering_suggested_packet_count: Option<u16>,
}

/// Reads the body of a message.
pub(super) fn read(header: &Header, body: &[u8]) -> Result<Message, Refusal> {
    let elements = Elements::of_message(body);
    Ok(match MsgType::from(header.message_type) {
        MsgType::HeartbeatRequest => Message::HeartbeatRequest(read_heartbeat(elements)?),
        MsgType::HeartbeatResponse => Message::HeartbeatResponse(read_heartbeat(elements)?),
        MsgType::PfdManagementRequest => Message::PfdManagementRequest,
        MsgType::AssociationSetupRequest => Message::AssociationSetupRequest(read_association_setup(elements)?),
        MsgType::AssociationSetupResponse => {
            Message::AssociationSetupResponse(read_association_setup_response(elements)?)
        }
        MsgType::AssociationUpdateRequest => Message::AssociationUpdateRequest(read_association_update(elements)?),
        MsgType::AssociationUpdateResponse => Message::AssociationUpdateResponse(read_node_response(elements)?),
        MsgType::AssociationReleaseRequest => Message::AssociationReleaseRequest(AssociationReleaseRequest {
            node_id: find_node_id(elements)?,
        }),
        MsgType::AssociationReleaseResponse => Message::AssociationReleaseResponse(read_node_response(elements)?),
        MsgType::VersionNotSupportedResponse => Message::VersionNotSupportedResponse,
        MsgType::NodeReportResponse => Message::NodeReportResponse(read_node_response(elements)?),
        MsgType::SessionSetDeletionRequest => Message::SessionSetDeletionRequest,
        MsgType::SessionSetModificationRequest => Message::SessionSetModificationRequest,
        MsgType::SessionEstablishmentRequest => Message::SessionEstablishmentRequest(read_establishment(elements)?),
        MsgType::SessionModificationRequest => Message::SessionModificationRequest(read_modification(elements)?),
        MsgType::SessionDeletionRequest => Message::SessionDeletionRequest,
        MsgType::SessionReportResponse => Message::SessionReportResponse(read_report_response(elements)?),
        _ => Message::Unexpected,
    })
}

/// The CP F-SEID of a request whose reading failed elsewhere: its refusal goes to that SEID.
pub(super) fn find_cp_fseid(body: &[u8]) -> Option<FSeid> {
    let element = Elements::of_message(body)
        .map_while(Result::ok)
        .find(|e| e.ie_type == IeType::Fseid)?;
    FSeid::read(&element).ok()
}

fn mandatory<T>(value: Option<T>, ie_type: IeType) -> Result<T, Refusal> {
    value.ok_or_else(|| cause::missing(ie_type, "the message"))
}

fn find_node_id(elements: Elements<'_>) -> Result<NodeId, Refusal> {
    let mut node_id = None;
    for element in elements {
        let element = element?;
        if element.ie_type == IeType::NodeId {
            first(&mut node_id, NodeId::read(&element)?);
        }
    }
    mandatory(node_id, IeType::NodeId)
}

fn read_heartbeat(elements: Elements<'_>) -> Result<Heartbeat, Refusal> {
    let mut time = None;
    for element in elements {
        let element = element?;
        if element.ie_type == IeType::RecoveryTimeStamp {
            first(&mut time, NtpSeconds::read(&element)?);
        }
    }
    Ok(Heartbeat {
        recovery_time_stamp: mandatory(time, IeType::RecoveryTimeStamp)?,
    })
}

fn read_association_setup(elements: Elements<'_>) -> Result<AssociationSetupRequest, Refusal> {
    let (mut node_id, mut time, mut features, mut retain_sessions) = (None, None, None, false);
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut node_id, NodeId::read(&element)?),
            IeType::RecoveryTimeStamp => first(&mut time, NtpSeconds::read(&element)?),
            IeType::CpFunctionFeatures => first(&mut features, CpFunctionFeatures::read(&element)),
            IeType::PfcpSessionRetentionInformation => retain_sessions = true,
            _ => {}
        }
    }
    Ok(AssociationSetupRequest {
        node_id: mandatory(node_id, IeType::NodeId)?,
        recovery_time_stamp: mandatory(time, IeType::RecoveryTimeStamp)?,
        features: features.unwrap_or_default(),
        retain_sessions,
    })
}

fn read_association_setup_response(elements: Elements<'_>) -> Result<AssociationSetupResponse, Refusal> {
    let (mut node_id, mut cause, mut time, mut features) = (None, None, None, None);
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut node_id, NodeId::read(&element)?),
            IeType::Cause => first(&mut cause, element.u8()?),
            IeType::RecoveryTimeStamp => first(&mut time, NtpSeconds::read(&element)?),
            IeType::CpFunctionFeatures => first(&mut features, CpFunctionFeatures::read(&element)),
            _ => {}
        }
    }
    Ok(AssociationSetupResponse {
        node_id: mandatory(node_id, IeType::NodeId)?,
        cause: mandatory(cause, IeType::Cause)?,
        recovery_time_stamp: time,
        features: features.unwrap_or_default(),
    })
}

fn read_association_update(elements: Elements<'_>) -> Result<AssociationUpdateRequest, Refusal> {
    let (mut node_id, mut features) = (None, None);
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut node_id, NodeId::read(&element)?),
            IeType::CpFunctionFeatures => first(&mut features, CpFunctionFeatures::read(&element)),
            _ => {}
        }
    }
    Ok(AssociationUpdateRequest {
        node_id: mandatory(node_id, IeType::NodeId)?,
        features,
    })
}

fn read_node_response(elements: Elements<'_>) -> Result<NodeResponse, Refusal> {
    let (mut node_id, mut cause, mut offending_ie) = (None, None, None);
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut node_id, NodeId::read(&element)?),
            IeType::Cause => first(&mut cause, element.u8()?),
            IeType::OffendingIe => first(&mut offending_ie, element.u16()?),
            _ => {}
        }
    }
    Ok(NodeResponse {
        node_id: mandatory(node_id, IeType::NodeId)?,
        cause: mandatory(cause, IeType::Cause)?,
        offending_ie,
    })
}

/// Flags of PFCPSEReq-Flags (8.2.129): the only one acted on is RESTI.
const RESTORATION: u8 = 0x01;

fn read_establishment(elements: Elements<'_>) -> Result<Box<SessionEstablishmentRequest>, Refusal> {
    let (mut node_id, mut cp_fseid, mut pdn_type, mut restoration) = (None, None, None, false);
    let mut subscription = subscription::Reader::default();
    let mut rules = SessionRequest::default();
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut node_id, NodeId::read(&element)?),
            IeType::Fseid => first(&mut cp_fseid, FSeid::read(&element)?),
            IeType::PdnType => first(&mut pdn_type, element.u8()? & 0x07),
            IeType::PfcpseReqFlags => {
                let flags = element.u8()?;
                restoration |= flags & RESTORATION != 0;
                if flags & !RESTORATION != 0 {
                    unsupported::add(&mut rules.unsupported, IeType::PfcpseReqFlags);
                }
            }
            _ if subscription.take(&element)? || read_create(&mut rules, &element)? => {}
            other => unsupported::note(&mut rules.unsupported, unsupported::SESSION_ESTABLISHMENT, other),
        }
    }
    Ok(Box::new(SessionEstablishmentRequest {
        node_id: mandatory(node_id, IeType::NodeId)?,
        cp_fseid: mandatory(cp_fseid, IeType::Fseid)?,
        pdn_type,
        restoration,
        subscription: subscription.finish(),
        rules,
    }))
}

/// Flags of PFCPSMReq-Flags (8.2.34) at message level. SNDEM belongs into Update Forwarding Parameters.
const DROP_BUFFERED: u8 = 0x01;
const QUERY_ALL_URRS: u8 = 0x04;

fn read_modification(elements: Elements<'_>) -> Result<Box<SessionModificationRequest>, Refusal> {
    let mut request = Box::<SessionModificationRequest>::default();
    let rules = &mut request.rules;
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::NodeId => first(&mut request.node_id, NodeId::read(&element)?),
            IeType::Fseid => first(&mut request.cp_fseid, FSeid::read(&element)?),
            IeType::QueryUrrReference => first(&mut request.query_urr_reference, element.u32()?),
            IeType::PfcpsmReqFlags => {
                let flags = element.u8()?;
                rules.drop_buffered |= flags & DROP_BUFFERED != 0;
                rules.query_all_urrs |= flags & QUERY_ALL_URRS != 0;
                if flags & !(DROP_BUFFERED | QUERY_ALL_URRS) != 0 {
                    unsupported::add(&mut rules.unsupported, IeType::PfcpsmReqFlags);
                }
            }
            IeType::RemovePdr => rules
                .remove_pdrs
                .push(read_reference(&element, IeType::PdrId, Element::u16)?),
            IeType::RemoveFar => rules
                .remove_fars
                .push(read_reference(&element, IeType::FarId, Element::u32)?),
            IeType::RemoveUrr => rules
                .remove_urrs
                .push(read_reference(&element, IeType::UrrId, Element::u32)?),
            IeType::RemoveQer => rules
                .remove_qers
                .push(read_reference(&element, IeType::QerId, Element::u32)?),
            IeType::RemoveBar => rules
                .remove_bars
                .push(read_reference(&element, IeType::BarId, Element::u8)?),
            IeType::QueryUrr => rules
                .query_urrs
                .push(read_reference(&element, IeType::UrrId, Element::u32)?),
            IeType::UpdatePdr => rules.update_pdrs.push(read_pdr(&element)?),
            IeType::UpdateFar => rules.update_fars.push(read_far(&element)?),
            IeType::UpdateUrr => rules.update_urrs.push(read_urr(&element)?),
            IeType::UpdateQer => rules.update_qers.push(read_qer(&element)?),
            IeType::UpdateBar => rules.update_bars.push(read_bar(&element)?),
            _ if read_create(rules, &element)? => {}
            other => unsupported::note(&mut rules.unsupported, unsupported::SESSION_MODIFICATION, other),
        }
    }
    Ok(request)
}

/// Reads a Create IE, which both requests have. False: it is another IE.
fn read_create(rules: &mut SessionRequest, element: &Element<'_>) -> Result<bool, Refusal> {
    match element.ie_type {
        IeType::CreatePdr => rules.create_pdrs.push(read_pdr(element)?),
        IeType::CreateFar => rules.create_fars.push(read_far(element)?),
        IeType::CreateUrr => rules.create_urrs.push(read_urr(element)?),
        IeType::CreateQer => rules.create_qers.push(read_qer(element)?),
        IeType::CreateBar => rules.create_bars.push(read_bar(element)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_report_response(elements: Elements<'_>) -> Result<SessionReportResponse, Refusal> {
    let (mut cause, mut offending_ie, mut update_bar, mut cp_fseid) = (None, None, None, None);
    let mut drop_buffered = false;
    for element in elements {
        let element = element?;
        match element.ie_type {
            IeType::Cause => first(&mut cause, element.u8()?),
            IeType::OffendingIe => first(&mut offending_ie, element.u16()?),
            IeType::UpdateBarWithinSessionReportResponse => first(&mut update_bar, read_bar_update(&element)?),
            IeType::PfcpsrrspFlags => drop_buffered |= element.u8()? & DROP_BUFFERED != 0,
            IeType::Fseid => first(&mut cp_fseid, FSeid::read(&element)?),
            _ => {}
        }
    }
    let cause = mandatory(cause, IeType::Cause)?;
    Ok(SessionReportResponse {
        cause,
        offending_ie,
        update_bar,
        drop_buffered,
        cp_fseid,
    })
}

fn read_bar_update(group: &Element<'_>) -> Result<BarUpdate, Refusal> {
    let mut update = BarUpdate {
        bar: read_bar(group)?,
        ..BarUpdate::default()
    };
    for element in group.elements() {
        let element = element?;
        match element.ie_type {
            IeType::DlBufferingDuration => first(&mut update.dl_buffering_duration, element.u8()?),
            // One octet, or two for counts over 255.
            IeType::DlBufferingSuggestedPacketCount => {
                let count = if element.value.len() > 1 {
                    element.u16()?
                } else {
                    u16::from(element.u8()?)
                };
                first(&mut update.dl_buffering_suggested_packet_count, count);
            }
            _ => {}
        }
    }
    Ok(update)
}
