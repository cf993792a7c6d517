//! Messages a UPF sends: a type each, written by `encode`.
//!
//! Node related messages take a sequence number; session related ones also the SEID of the SMF's endpoint (0 if
//! it is not known, as when a Session Establishment Request had no readable CP F-SEID).

mod report;

pub use report::{
    DownlinkDataReport, ErrorIndicationReport, SessionReportRequest, UsageReport, UsageReportTrigger, VolumeMeasurement,
};

use super::address::{write_fteid, write_ue_ip};
use super::cause::{Cause, FailedRule, Refusal, RuleKind};
use super::features::UpFunctionFeatures;
use super::identity::{FSeid, NodeId, NtpSeconds};
use super::writer::{TooLong, Writer};
use report::write_usage_reports;
use rs_pfcp::ie::IeType;
use rs_pfcp::message::MsgType;
use std::net::IpAddr;
use upf_model::decoded::{FTeid, UeIp};

/// What became of a request: Cause, and for refusals Offending IE and Failed Rule ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Cause IE.
    pub cause: Cause,
    /// Type of the IE at fault.
    pub offending_ie: Option<u16>,
    /// The rule at fault: sent with cause 73 only, as table 7.5.3.1-1 has it.
    pub failed_rule: Option<FailedRule>,
}

impl Outcome {
    /// Done.
    pub const ACCEPTED: Self = Self::with_cause(Cause::RequestAccepted);

    /// Nothing but a cause.
    pub const fn with_cause(cause: Cause) -> Self {
        Self {
            cause,
            offending_ie: None,
            failed_rule: None,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.element(IeType::Cause, |w| w.u8(self.cause.value()));
        if let Some(ie_type) = self.offending_ie {
            writer.element(IeType::OffendingIe, |w| w.u16(ie_type));
        }
    }

    /// Failed Rule ID (8.2.80): the kind of rule, and its identifier in as many octets as that kind has.
    fn write_failed_rule(&self, writer: &mut Writer) {
        let Some(FailedRule { kind, id }) = self.failed_rule else {
            return;
        };
        if self.cause != Cause::RuleCreationModificationFailure {
            return;
        }
        writer.element(IeType::FailedRuleId, |w| match kind {
            RuleKind::Pdr => w.u8(kind as u8).u16(id as u16),
            RuleKind::Far | RuleKind::Qer | RuleKind::Urr => w.u8(kind as u8).u32(id),
            RuleKind::Bar => w.u8(kind as u8).u8(id as u8),
        });
    }
}

impl From<&Refusal> for Outcome {
    fn from(refusal: &Refusal) -> Self {
        Self {
            cause: refusal.cause,
            offending_ie: refusal.offending_ie,
            failed_rule: refusal.failed_rule,
        }
    }
}

/// Heartbeat Request (7.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// When this UPF started.
    pub recovery_time_stamp: NtpSeconds,
}

impl HeartbeatRequest {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        encode_heartbeat(MsgType::HeartbeatRequest, self.recovery_time_stamp, sequence)
    }
}

/// Heartbeat Response (7.4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// When this UPF started.
    pub recovery_time_stamp: NtpSeconds,
}

impl HeartbeatResponse {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        encode_heartbeat(MsgType::HeartbeatResponse, self.recovery_time_stamp, sequence)
    }
}

fn encode_heartbeat(message_type: MsgType, time: NtpSeconds, sequence: u32) -> Result<Vec<u8>, TooLong> {
    let mut writer = Writer::message(message_type, None, sequence);
    time.write(&mut writer, IeType::RecoveryTimeStamp);
    writer.finish()
}

/// Version Not Supported Response (7.4.4.7): nothing but a header with the version that is supported.
pub fn version_not_supported(sequence: u32) -> Result<Vec<u8>, TooLong> {
    Writer::message(MsgType::VersionNotSupportedResponse, None, sequence).finish()
}

/// Association Setup Request by the UPF (7.4.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationSetupRequest {
    /// This UPF.
    pub node_id: NodeId,
    /// When it started.
    pub recovery_time_stamp: NtpSeconds,
    /// What it can do.
    pub features: UpFunctionFeatures,
}

impl AssociationSetupRequest {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::AssociationSetupRequest, None, sequence);
        self.node_id.write(&mut writer);
        self.recovery_time_stamp.write(&mut writer, IeType::RecoveryTimeStamp);
        self.features.write(&mut writer);
        writer.finish()
    }
}

/// Association Setup Response (7.4.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationSetupResponse {
    /// This UPF.
    pub node_id: NodeId,
    /// What became of it.
    pub outcome: Outcome,
    /// When this UPF started.
    pub recovery_time_stamp: NtpSeconds,
    /// What it can do.
    pub features: UpFunctionFeatures,
}

impl AssociationSetupResponse {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::AssociationSetupResponse, None, sequence);
        self.node_id.write(&mut writer);
        self.outcome.write(&mut writer);
        self.recovery_time_stamp.write(&mut writer, IeType::RecoveryTimeStamp);
        self.features.write(&mut writer);
        writer.finish()
    }
}

/// Which request a [`NodeResponse`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NodeRequest {
    PfdManagement,
    AssociationUpdate,
    AssociationRelease,
    SessionSetDeletion,
    SessionSetModification,
}

/// The responses that consist of Node ID, Cause and Offending IE (7.4.3.2, 7.4.4.4, 7.4.4.6, 7.4.6.2, 7.4.7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeResponse {
    /// To what.
    pub request: NodeRequest,
    /// This UPF.
    pub node_id: NodeId,
    /// What became of it.
    pub outcome: Outcome,
}

impl NodeResponse {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let message_type = match self.request {
            NodeRequest::PfdManagement => MsgType::PfdManagementResponse,
            NodeRequest::AssociationUpdate => MsgType::AssociationUpdateResponse,
            NodeRequest::AssociationRelease => MsgType::AssociationReleaseResponse,
            NodeRequest::SessionSetDeletion => MsgType::SessionSetDeletionResponse,
            NodeRequest::SessionSetModification => MsgType::SessionSetModificationResponse,
        };
        let mut writer = Writer::message(message_type, None, sequence);
        self.node_id.write(&mut writer);
        self.outcome.write(&mut writer);
        writer.finish()
    }
}

/// Association Update Request by the UPF that asks the SMF to release the association (7.4.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationUpdateRequest {
    /// This UPF.
    pub node_id: NodeId,
    /// What it can do now, if that changed.
    pub features: Option<UpFunctionFeatures>,
    /// SARR: the UPF wishes the association to be released.
    pub release: bool,
}

impl AssociationUpdateRequest {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::AssociationUpdateRequest, None, sequence);
        self.node_id.write(&mut writer);
        if let Some(features) = self.features {
            features.write(&mut writer);
        }
        if self.release {
            writer.element(IeType::PfcpAssociationReleaseRequest, |w| w.u8(1));
        }
        writer.finish()
    }
}

/// Node Report Request: paths to these GTP-U peers fail (7.4.5.1, UPFR).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPlanePathFailureReport {
    /// This UPF.
    pub node_id: NodeId,
    /// Peers that stopped answering.
    pub remote_gtpu_peers: Vec<IpAddr>,
}

impl UserPlanePathFailureReport {
    /// The datagram.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::NodeReportRequest, None, sequence);
        self.node_id.write(&mut writer);
        writer.element(IeType::NodeReportType, |w| w.u8(0x01));
        writer.element(IeType::UserPlanePathFailureReport, |w| {
            self.remote_gtpu_peers.iter().fold(w, |w, peer| {
                // V6 bit 1, V4 bit 2.
                w.element(IeType::RemoteGtpuPeer, |w| match peer {
                    IpAddr::V4(address) => w.u8(0x02).ipv4(Some(*address)),
                    IpAddr::V6(address) => w.u8(0x01).ipv6(Some(*address)),
                })
            })
        });
        writer.finish()
    }
}

/// Created PDR or Updated PDR: what the UPF chose for a PDR (7.5.3.2, 7.5.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreatedPdr {
    /// Of which PDR.
    pub pdr_id: u16,
    /// If CHOOSE was asked for.
    pub local_fteid: Option<FTeid>,
    /// If the UPF was asked to choose addresses.
    pub ue_ips: Vec<UeIp>,
}

impl CreatedPdr {
    fn write(&self, writer: &mut Writer, ie_type: IeType) {
        writer.element(ie_type, |w| {
            w.element(IeType::PdrId, |w| w.u16(self.pdr_id));
            if let Some(fteid) = &self.local_fteid {
                write_fteid(w, fteid);
            }
            for ue_ip in &self.ue_ips {
                write_ue_ip(w, ue_ip);
            }
            w
        });
    }
}

/// Session Establishment Response (7.5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEstablishmentResponse {
    /// This UPF.
    pub node_id: NodeId,
    /// What became of it.
    pub outcome: Outcome,
    /// This UPF's endpoint of the session; only if accepted.
    pub up_fseid: Option<FSeid>,
    /// What the UPF chose.
    pub created_pdrs: Vec<CreatedPdr>,
}

impl SessionEstablishmentResponse {
    /// The datagram.
    pub fn encode(&self, cp_seid: u64, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::SessionEstablishmentResponse, Some(cp_seid), sequence);
        self.node_id.write(&mut writer);
        self.outcome.write(&mut writer);
        if let Some(up_fseid) = &self.up_fseid {
            up_fseid.write(&mut writer);
        }
        self.created_pdrs
            .iter()
            .for_each(|created| created.write(&mut writer, IeType::CreatedPdr));
        self.outcome.write_failed_rule(&mut writer);
        writer.finish()
    }
}

/// Session Modification Response (7.5.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionModificationResponse {
    /// What became of it.
    pub outcome: Outcome,
    /// What the UPF chose for new PDRs.
    pub created_pdrs: Vec<CreatedPdr>,
    /// What it chose for PDRs that were there.
    pub updated_pdrs: Vec<CreatedPdr>,
    /// Of removed and queried URRs.
    pub usage_reports: Vec<UsageReport>,
}

impl SessionModificationResponse {
    /// The datagram.
    pub fn encode(&self, cp_seid: u64, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::SessionModificationResponse, Some(cp_seid), sequence);
        self.outcome.write(&mut writer);
        self.created_pdrs
            .iter()
            .for_each(|created| created.write(&mut writer, IeType::CreatedPdr));
        self.updated_pdrs
            .iter()
            .for_each(|updated| updated.write(&mut writer, IeType::UpdatedPdr));
        let ie_type = IeType::UsageReportWithinSessionModificationResponse;
        write_usage_reports(&mut writer, ie_type, &self.usage_reports);
        self.outcome.write_failed_rule(&mut writer);
        writer.finish()
    }
}

/// Session Deletion Response (7.5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDeletionResponse {
    /// What became of it.
    pub outcome: Outcome,
    /// Of every URR of the session.
    pub usage_reports: Vec<UsageReport>,
}

impl SessionDeletionResponse {
    /// The datagram.
    pub fn encode(&self, cp_seid: u64, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let mut writer = Writer::message(MsgType::SessionDeletionResponse, Some(cp_seid), sequence);
        self.outcome.write(&mut writer);
        write_usage_reports(
            &mut writer,
            IeType::UsageReportWithinSessionDeletionResponse,
            &self.usage_reports,
        );
        writer.finish()
    }
}
