//! Session Report Request and usage reports (TS 29.244 7.5.8, 8.2.41 to 8.2.45).

use crate::pfcp::wire::address::write_fteid;
use crate::pfcp::wire::identity::NtpSeconds;
use crate::pfcp::wire::writer::{TooLong, Writer};
use rs_pfcp::ie::IeType;
use rs_pfcp::message::MsgType;
use upf_model::batch::Count;
use upf_model::decoded::FTeid;

/// Session Report Request: the Report Type follows from what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionReportRequest {
    /// DLDR: downlink data arrived for a session that buffers.
    pub downlink_data: Option<DownlinkDataReport>,
    /// USAR.
    pub usage: Vec<UsageReport>,
    /// ERIR: a peer does not know our tunnel.
    pub error_indication: Option<ErrorIndicationReport>,
}

impl SessionReportRequest {
    /// The datagram.
    pub fn encode(&self, cp_seid: u64, sequence: u32) -> Result<Vec<u8>, TooLong> {
        let report_type = u8::from(self.downlink_data.is_some())
            | u8::from(!self.usage.is_empty()) << 1
            | u8::from(self.error_indication.is_some()) << 2;
        let mut writer = Writer::message(MsgType::SessionReportRequest, Some(cp_seid), sequence);
        writer.element(IeType::ReportType, |w| w.u8(report_type));
        if let Some(report) = &self.downlink_data {
            report.write(&mut writer);
        }
        write_usage_reports(&mut writer, IeType::UsageReportWithinSessionReportRequest, &self.usage);
        if let Some(report) = &self.error_indication {
            writer.element(IeType::ErrorIndicationReport, |w| {
                report.remote_fteids.iter().for_each(|fteid| write_fteid(w, fteid));
                w
            });
        }
        writer.finish()
    }
}

/// Downlink Data Report (7.5.8.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DownlinkDataReport {
    /// The PDRs that detected it.
    pub pdr_ids: Vec<u16>,
    /// Paging Policy Indication: the DSCP of the packet.
    pub paging_policy_indication: Option<u8>,
    /// QoS flow of the packet.
    pub qfi: Option<u8>,
}

impl DownlinkDataReport {
    fn write(&self, writer: &mut Writer) {
        writer.element(IeType::DownlinkDataReport, |w| {
            for id in &self.pdr_ids {
                w.element(IeType::PdrId, |w| w.u16(*id));
            }
            if self.paging_policy_indication.is_some() || self.qfi.is_some() {
                // Downlink Data Service Information (8.2.27): PPII bit 1, QFII bit 2.
                let flags = u8::from(self.paging_policy_indication.is_some()) | u8::from(self.qfi.is_some()) << 1;
                w.element(IeType::DownlinkDataServiceInformation, |w| {
                    w.u8(flags)
                        .optional_u8(self.paging_policy_indication.map(|ppi| ppi & 0x3f))
                        .optional_u8(self.qfi.map(|qfi| qfi & 0x3f))
                });
            }
            w
        });
    }
}

/// Error Indication Report (7.5.8.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorIndicationReport {
    /// The tunnels that peers do not know, as they named them.
    pub remote_fteids: Vec<FTeid>,
}

/// Why a usage report is sent (8.2.41): octet 5 in the low byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageReportTrigger(pub u32);

impl UsageReportTrigger {
    /// PERIO: periodic.
    pub const PERIODIC: Self = Self(0x01);
    /// VOLTH: a volume threshold is reached.
    pub const VOLUME_THRESHOLD: Self = Self(0x02);
    /// TIMTH: a time threshold is reached.
    pub const TIME_THRESHOLD: Self = Self(0x04);
    /// IMMER: asked for by Query URR.
    pub const IMMEDIATE: Self = Self(0x80);
    /// TERMR: the URR or its session is removed.
    pub const TERMINATION: Self = Self(0x0800);
}

/// Usage Report (7.5.5.2, 7.5.7.2, 7.5.8.3): the same contents in three messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageReport {
    /// Which URR.
    pub urr_id: u32,
    /// Counts this URR's reports from 0 on.
    pub ur_seqn: u32,
    /// Why now.
    pub trigger: UsageReportTrigger,
    /// When measuring began.
    pub start_time: Option<NtpSeconds>,
    /// When it ended.
    pub end_time: Option<NtpSeconds>,
    /// If volume is measured.
    pub volume: Option<VolumeMeasurement>,
    /// Seconds, if duration is measured.
    pub duration_s: Option<u32>,
    /// First packet in the period.
    pub time_of_first_packet: Option<NtpSeconds>,
    /// Last packet in the period.
    pub time_of_last_packet: Option<NtpSeconds>,
    /// As in the Session Modification Request that asked.
    pub query_urr_reference: Option<u32>,
}

/// Volume Measurement (8.2.44): octets and packets; each is there or not.
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

impl VolumeMeasurement {
    /// Of both directions and their sum; numbers of packets only if the SMF asked for them (MNOP).
    pub fn of(uplink: Count, downlink: Count, packets: bool) -> Self {
        Self {
            total: Some(uplink.bytes.saturating_add(downlink.bytes)),
            uplink: Some(uplink.bytes),
            downlink: Some(downlink.bytes),
            total_packets: packets.then(|| uplink.packets.saturating_add(downlink.packets)),
            uplink_packets: packets.then_some(uplink.packets),
            downlink_packets: packets.then_some(downlink.packets),
        }
    }

    /// Flags TOVOL, ULVOL, DLVOL, TONOP, ULNOP, DLNOP from bit 1 up, then the values in that order.
    fn write(self, w: &mut Writer) -> &mut Writer {
        let values = [
            self.total,
            self.uplink,
            self.downlink,
            self.total_packets,
            self.uplink_packets,
            self.downlink_packets,
        ];
        let flags = values
            .iter()
            .enumerate()
            .fold(0, |flags, (bit, value)| flags | u8::from(value.is_some()) << bit);
        values.iter().fold(w.u8(flags), |w, value| w.optional_u64(*value))
    }
}

pub(super) fn write_usage_reports(writer: &mut Writer, ie_type: IeType, reports: &[UsageReport]) {
    for report in reports {
        writer.element(ie_type, |w| {
            report.write(w);
            w
        });
    }
}

impl UsageReport {
    fn write(&self, w: &mut Writer) {
        let [trigger @ .., _] = self.trigger.0.to_le_bytes();
        w.element(IeType::UrrId, |w| w.u32(self.urr_id));
        w.element(IeType::UrSeqn, |w| w.u32(self.ur_seqn));
        w.element(IeType::UsageReportTrigger, |w| w.octets(&trigger));
        let times = [
            (IeType::StartTime, self.start_time),
            (IeType::EndTime, self.end_time),
            (IeType::TimeOfFirstPacket, self.time_of_first_packet),
            (IeType::TimeOfLastPacket, self.time_of_last_packet),
        ];
        for (ie_type, time) in times {
            if let Some(time) = time {
                time.write(w, ie_type);
            }
        }
        if let Some(volume) = self.volume {
            w.element(IeType::VolumeMeasurement, |w| volume.write(w));
        }
        if let Some(duration) = self.duration_s {
            w.element(IeType::DurationMeasurement, |w| w.u32(duration));
        }
        if let Some(reference) = self.query_urr_reference {
            w.element(IeType::QueryUrrReference, |w| w.u32(reference));
        }
    }
}
