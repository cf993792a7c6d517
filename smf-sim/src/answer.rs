//! What the UPF says: responses and its own Session Report Requests, decoded (TS 29.244 7.5.3, 7.5.5, 7.5.7, 7.5.8).

use crate::error::{PfcpError, Rejection, cause};
use crate::transport::RawAnswer;
use crate::wire::{self, NodeId, Octets, UeIps};
use rs_pfcp::ie::{Ie, IeIterator, IeType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the UPF said of itself in its Association Setup Response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationInfo {
    /// Its Node ID.
    pub node_id: NodeId,
    /// When it started, NTP seconds.
    pub recovery_time_stamp: Option<u32>,
    /// UP Function Features (8.2.25), octet 5 first.
    pub up_function_features: Vec<u8>,
}

impl AssociationInfo {
    fn feature(&self, octet: usize, bit: u8) -> bool {
        self.up_function_features
            .get(octet - 5)
            .is_some_and(|o| o >> (bit - 1) & 1 == 1)
    }
    /// FTUP: F-TEIDs are allocated by the UPF.
    pub fn ftup(&self) -> bool {
        self.feature(5, 5)
    }
    /// EMPU: the UPF sends End Markers.
    pub fn empu(&self) -> bool {
        self.feature(6, 1)
    }
    /// UEIP: the UPF allocates UE addresses.
    pub fn ueip(&self) -> bool {
        self.feature(7, 3)
    }
}

/// A session that the UPF has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// Our SEID.
    pub cp_seid: u64,
    /// The UPF's SEID.
    pub up_seid: u64,
    /// What it allocated.
    pub created: Vec<CreatedPdr>,
}

impl Established {
    /// TEID of the first PDR for which the UPF allocated one.
    pub fn uplink_teid(&self) -> Option<u32> {
        self.created.iter().find_map(|c| c.teid)
    }
    /// Where that tunnel ends: the UPF's address, IPv4 before IPv6.
    pub fn uplink_addr(&self) -> Option<IpAddr> {
        self.created
            .iter()
            .find(|c| c.teid.is_some())
            .and_then(CreatedPdr::addr)
    }
    /// The UE address that the UPF chose, if it was asked to.
    pub fn ue_ips(&self) -> Option<UeIps> {
        self.created.iter().find_map(|c| c.ue_ip)
    }
}

/// Created PDR (7.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedPdr {
    /// Which PDR.
    pub pdr_id: u16,
    /// TEID allocated for it.
    pub teid: Option<u32>,
    /// IPv4 endpoint allocated for it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 endpoint allocated for it.
    pub v6: Option<Ipv6Addr>,
    /// UE address allocated for it.
    pub ue_ip: Option<UeIps>,
}

impl CreatedPdr {
    /// The endpoint, IPv4 before IPv6.
    pub fn addr(&self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or(self.v6.map(IpAddr::V6))
    }
}

/// A modification that the UPF has applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modified {
    /// What it allocated for created PDRs.
    pub created: Vec<CreatedPdr>,
    /// Usage asked for, or of URRs removed.
    pub usage: Vec<UsageReport>,
}

/// Usage Report (7.5.5.2, 7.5.7.2, 7.5.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    /// Whose.
    pub urr_id: u32,
    /// UR-SEQN: counts the reports of one URR.
    pub sequence: u32,
    /// Usage Report Trigger (8.2.41), octets 5 to 7.
    pub trigger: [u8; 3],
    /// Volume and packets.
    pub volume: Option<VolumeMeasurement>,
    /// Duration, seconds.
    pub duration: Option<u32>,
    /// NTP seconds.
    pub start_time: Option<u32>,
    /// NTP seconds.
    pub end_time: Option<u32>,
    /// NTP seconds.
    pub time_of_first_packet: Option<u32>,
    /// NTP seconds.
    pub time_of_last_packet: Option<u32>,
}

impl UsageReport {
    /// TERMR: the session (or the URR) ended.
    pub fn is_termination(&self) -> bool {
        // Octet 6 bit 4.
        self.trigger[1] & 0x08 != 0
    }
    /// IMMER: it was asked for.
    pub fn is_immediate(&self) -> bool {
        // Octet 5 bit 8.
        self.trigger[0] & 0x80 != 0
    }
}

/// Volume Measurement (8.2.45); octets and packets, absent where not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct VolumeMeasurement {
    pub total: Option<u64>,
    pub uplink: Option<u64>,
    pub downlink: Option<u64>,
    pub total_packets: Option<u64>,
    pub uplink_packets: Option<u64>,
    pub downlink_packets: Option<u64>,
}

/// A Session Report Request of the UPF. It has been answered already when it is seen here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// Which session, by our SEID.
    pub cp_seid: u64,
    /// The UPF's SEID of it, if it is one of ours.
    pub up_seid: Option<u64>,
    /// One of what the request carried; a request with several gives several of these.
    pub report: Report,
}

/// What was reported (7.5.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// DLDR: a downlink packet came for an idle UE.
    DownlinkData {
        /// The PDR that detected it.
        pdr_id: Option<u16>,
        /// Its QoS flow.
        qfi: Option<u8>,
        /// Its paging policy indication value.
        ppi: Option<u8>,
    },
    /// ERIR: a peer does not know its tunnel.
    ErrorIndication {
        /// The peer's TEID.
        teid: u32,
        /// The peer's IPv4 address.
        v4: Option<Ipv4Addr>,
        /// The peer's IPv6 address.
        v6: Option<Ipv6Addr>,
    },
    /// USAR.
    Usage(UsageReport),
    /// Anything else: the Report Type octet.
    Other(u8),
}

/// Splits a message's or group's octets into IEs; what cannot be an IE is left out.
pub(crate) fn split(payload: &[u8]) -> Vec<Ie> {
    IeIterator::new(payload).filter_map(Result::ok).collect()
}

pub(crate) fn find(ies: &[Ie], t: IeType) -> Option<&[u8]> {
    ies.iter().find(|ie| ie.ie_type == t).map(|ie| ie.payload.as_slice())
}

fn find_u8(ies: &[Ie], t: IeType) -> Option<u8> {
    find(ies, t).and_then(|p| Octets(p).u8())
}

fn find_u16(ies: &[Ie], t: IeType) -> Option<u16> {
    find(ies, t).and_then(|p| Octets(p).u16())
}

pub(crate) fn find_u32(ies: &[Ie], t: IeType) -> Option<u32> {
    find(ies, t).and_then(|p| Octets(p).u32())
}

/// Accepted, or why not. A response without a cause is malformed.
pub(crate) fn accepted(request: &'static str, answer: &RawAnswer) -> Result<(), PfcpError> {
    match find_u8(&answer.ies, IeType::Cause) {
        Some(cause::REQUEST_ACCEPTED) => Ok(()),
        Some(cause) => Err(PfcpError::Rejected {
            request,
            rejection: Rejection {
                cause,
                offending_ie: find_u16(&answer.ies, IeType::OffendingIe),
                failed_rule: find(&answer.ies, IeType::FailedRuleId).map(<[u8]>::to_vec),
                header_seid: answer.seid,
            },
        }),
        None => Err(PfcpError::Malformed {
            request,
            reason: "expected a Cause IE, found none".into(),
        }),
    }
}

pub(crate) fn created_pdrs(ies: &[Ie]) -> Vec<CreatedPdr> {
    let created = |group: &Ie| {
        let ies = split(&group.payload);
        let fteid = find(&ies, IeType::Fteid).and_then(wire::read_f_teid);
        Some(CreatedPdr {
            pdr_id: find_u16(&ies, IeType::PdrId)?,
            teid: fteid.map(|f| f.0),
            v4: fteid.and_then(|f| f.1),
            v6: fteid.and_then(|f| f.2),
            ue_ip: find(&ies, IeType::UeIpAddress).and_then(wire::read_ue_ip),
        })
    };
    ies.iter()
        .filter(|ie| ie.ie_type == IeType::CreatedPdr)
        .filter_map(created)
        .collect()
}

/// Usage Reports of a response or request, whichever of the three IE types it uses.
pub(crate) fn usage_reports(ies: &[Ie]) -> Vec<UsageReport> {
    ies.iter()
        .filter(|ie| {
            matches!(
                ie.ie_type,
                IeType::UsageReportWithinSessionModificationResponse
                    | IeType::UsageReportWithinSessionDeletionResponse
                    | IeType::UsageReportWithinSessionReportRequest
            )
        })
        .filter_map(|group| usage_report(&split(&group.payload)))
        .collect()
}

fn usage_report(ies: &[Ie]) -> Option<UsageReport> {
    let mut trigger = [0; 3];
    for (to, from) in trigger.iter_mut().zip(find(ies, IeType::UsageReportTrigger)?) {
        *to = *from;
    }
    Some(UsageReport {
        urr_id: find_u32(ies, IeType::UrrId)?,
        sequence: find_u32(ies, IeType::UrSeqn)?,
        trigger,
        volume: find(ies, IeType::VolumeMeasurement).and_then(volume_measurement),
        duration: find_u32(ies, IeType::DurationMeasurement),
        start_time: find_u32(ies, IeType::StartTime),
        end_time: find_u32(ies, IeType::EndTime),
        time_of_first_packet: find_u32(ies, IeType::TimeOfFirstPacket),
        time_of_last_packet: find_u32(ies, IeType::TimeOfLastPacket),
    })
}

/// Flags TOVOL, ULVOL, DLVOL, TONOP, ULNOP, DLNOP from bit 1 up; the fields follow in that order.
fn volume_measurement(payload: &[u8]) -> Option<VolumeMeasurement> {
    let mut o = Octets(payload);
    let flags = o.u8()?;
    let mut next = |bit: u8| -> Option<Option<u64>> {
        if flags >> bit & 1 == 1 {
            Some(Some(o.u64()?))
        } else {
            Some(None)
        }
    };
    Some(VolumeMeasurement {
        total: next(0)?,
        uplink: next(1)?,
        downlink: next(2)?,
        total_packets: next(3)?,
        uplink_packets: next(4)?,
        downlink_packets: next(5)?,
    })
}

/// The reports that a Session Report Request carries.
pub(crate) fn reports(ies: &[Ie]) -> Vec<Report> {
    let mut reports = Vec::new();
    for ie in ies {
        let inner = || split(&ie.payload);
        match ie.ie_type {
            IeType::DownlinkDataReport => reports.push(downlink_data(&inner())),
            IeType::ErrorIndicationReport => {
                // Remote F-TEID, one for each tunnel.
                for fteid in inner().iter().filter(|i| i.ie_type == IeType::Fteid) {
                    if let Some((teid, v4, v6)) = wire::read_f_teid(&fteid.payload) {
                        reports.push(Report::ErrorIndication { teid, v4, v6 });
                    }
                }
            }
            _ => {}
        }
    }
    reports.extend(usage_reports(ies).into_iter().map(Report::Usage));
    if reports.is_empty() {
        reports.push(Report::Other(find_u8(ies, IeType::ReportType).unwrap_or(0)));
    }
    reports
}

fn downlink_data(ies: &[Ie]) -> Report {
    // Downlink Data Service Information (8.2.27): PPI flag bit 1, QFII bit 2, then the octets flagged.
    let (ppi, qfi) = find(ies, IeType::DownlinkDataServiceInformation)
        .map(|payload| {
            let mut o = Octets(payload);
            let flags = o.u8().unwrap_or(0);
            let ppi = if flags & 1 != 0 { o.u8() } else { None };
            let qfi = if flags & 2 != 0 { o.u8() } else { None };
            (ppi, qfi.map(|q| q & 0x3f))
        })
        .unwrap_or_default();
    Report::DownlinkData {
        pdr_id: find_u16(ies, IeType::PdrId),
        qfi,
        ppi,
    }
}
