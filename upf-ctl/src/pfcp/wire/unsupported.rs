//! IEs that the standard allows in a place and this UPF does not implement there.
//!
//! An IE that would change what a rule or session does must not be accepted and ignored: its type goes into the
//! `unsupported` list of what it is in, and validation refuses the request with it. Three kinds remain that are
//! ignored: types unknown to the standard, types in a place where the standard has none of them (TS 29.244 7.6),
//! and these, which only describe or concern features that were not offered:
//!
//! | in | IE | why ignoring it is harmless |
//! | --- | --- | --- |
//! | Session Establishment, Modification | FQ-CSIDs (65) | sets of sessions are given up by Session Set Deletion, refused |
//! | | HPLMN S-NSSAI (338), RAT Type (275) | say where |
//! | | Trace Information (152) | TRACE not offered |
//! | | Group Id (291), PFCP Session Change Info (290) | restoration by groups not offered |
//! | | Recovery Time Stamp (96) | the association's counts |
//! | Create PDR | RAT Type (275) | says where |
//! | PDI | 3GPP Interface Type (160) | names the reference point; the traffic is told apart by F-TEID and address |
//! | | Framed-Routing (154) 0 | "none" |
//! | | Protocol Description (334) | marks PDU sets, never narrows the match |
//! | Forwarding Parameters | 3GPP Interface Type (160) | as above |
//! | | Linked Traffic Endpoint ID (131) | correlates Error Indications, found by F-TEID here |
//! | Session Report Response | Alternative SMF IP Address (178) | MPAS and SSET not offered |

use rs_pfcp::ie::IeType;
use rs_pfcp::ie::IeType::*;

/// In a Session Establishment Request.
pub(super) const SESSION_ESTABLISHMENT: &[IeType] = &[
    CreateTrafficEndpoint,
    UserPlaneInactivityTimer,
    CreateMar,
    CreateBridgeInfoForTsc,
    CreateSrr,
    ProvideAtsssControlInformation,
    ProvideRdsConfigurationInformation,
    L2tpTunnelInformation,
    L2tpSessionInformation,
    MbsSessionN4mbControlInformation,
    MbsSessionN4ControlInformation,
    DscpToPpiControlInformation,
    TlContainer,
];

/// In a Session Modification Request.
pub(super) const SESSION_MODIFICATION: &[IeType] = &[
    CreateTrafficEndpoint,
    UpdateTrafficEndpoint,
    RemoveTrafficEndpoint,
    UserPlaneInactivityTimer,
    CreateMar,
    UpdateMar,
    RemoveMar,
    CreateSrr,
    UpdateSrr,
    RemoveSrr,
    TscManagementInformationWithinSessionModificationRequest,
    ProvideAtsssControlInformation,
    EthernetContextInformation,
    AccessAvailabilityInformation,
    QueryPacketRateStatusWithinSessionModificationRequest,
    L2tpTunnelInformation,
    L2tpSessionInformation,
    MbsSessionN4ControlInformation,
    DscpToPpiControlInformation,
    UeLevelMeasurementsConfiguration,
    TlContainer,
];

/// In a Create PDR or Update PDR.
pub(super) const PDR: &[IeType] = &[
    ActivatePredefinedRules,
    DeactivatePredefinedRules,
    ActivationTime,
    DeactivationTime,
    MarId,
    PacketReplicationAndDetectionCarryOnInformation,
    IpMulticastAddressingInfo,
    UeIpAddressPoolIdentity,
    MptcpApplicableIndication,
    TransportDelayReporting,
];

/// In a PDI: each would narrow or widen the match.
pub(super) const PDI: &[IeType] = &[
    ApplicationId,
    TrafficEndpointId,
    EthernetPacketFilter,
    EthernetPduSessionInformation,
    IpMulticastAddressingInfo,
    RedundantTransmissionParameters,
    DnsQueryResponseFilter,
    MbsSessionIdentifier,
    AreaSessionId,
    LocalIngressTunnel,
];

/// In a Create FAR or Update FAR.
pub(super) const FAR: &[IeType] = &[
    RedundantTransmissionParameters,
    RedundantTransmissionForwardingParameters,
    MbsMulticastParameters,
    AddMbsUnicastParameters,
    RemoveMbsUnicastParameters,
];

/// In (Update) Forwarding Parameters and (Update) Duplicating Parameters.
pub(super) const FORWARDING: &[IeType] = &[
    RedirectInformation,
    ForwardingPolicy,
    HeaderEnrichment,
    Proxying,
    DataNetworkAccessIdentifier,
    IpAddressAndPortNumberReplacement,
    Metadata,
    N6RoutingInformation,
];

/// In a Create QER or Update QER.
pub(super) const QER: &[IeType] = &[
    PacketRate,
    PacketRateStatus,
    DlFlowLevelMarking,
    QerControlIndications,
    QerIndications,
];

/// In a Create URR or Update URR: quotas, other thresholds and what goes with them.
pub(super) const URR: &[IeType] = &[
    VolumeQuota,
    EventThreshold,
    EventQuota,
    TimeQuota,
    QuotaHoldingTime,
    DroppedDlTrafficThreshold,
    QuotaValidityTime,
    MonitoringTime,
    SubsequentVolumeThreshold,
    SubsequentTimeThreshold,
    SubsequentVolumeQuota,
    SubsequentTimeQuota,
    SubsequentEventThreshold,
    SubsequentEventQuota,
    InactivityDetectionTime,
    LinkedUrrId,
    TimeQuotaMechanism,
    AggregatedUrrs,
    FarId,
    EthernetInactivityTimer,
    AdditionalMonitoringTime,
    NumberOfReports,
    ApplicationId,
    SdfFilter,
    UserPlaneInactivityTimer,
];

/// In a Create BAR or Update BAR.
pub(super) const BAR: &[IeType] = &[MtedtControlInformation];

/// Notes `ie_type` once if it is one of `list`.
pub(super) fn note(unsupported: &mut Vec<u16>, list: &[IeType], ie_type: IeType) {
    if list.contains(&ie_type) {
        add(unsupported, ie_type);
    }
}

/// Notes `ie_type` once.
pub(super) fn add(unsupported: &mut Vec<u16>, ie_type: IeType) {
    if !unsupported.contains(&(ie_type as u16)) {
        unsupported.push(ie_type as u16);
    }
}
