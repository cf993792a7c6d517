//! Rules as they arrived: faithful to the message, nothing checked beyond the encoding (TS 29.244 7.5.2 to 7.5.4).
//!
//! An absent IE is `None` or an empty list. Mandatory IEs are options here too: their absence is
//! [`crate::validate`]'s to refuse, with cause 66 and the IE's type.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Rule IEs of a Session Establishment or Modification Request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SessionRequest {
    pub remove_pdrs: Vec<u16>,
    pub remove_fars: Vec<u32>,
    pub remove_urrs: Vec<u32>,
    pub remove_qers: Vec<u32>,
    pub remove_bars: Vec<u8>,
    pub create_pdrs: Vec<Pdr>,
    pub create_fars: Vec<Far>,
    pub create_urrs: Vec<Urr>,
    pub create_qers: Vec<Qer>,
    pub create_bars: Vec<Bar>,
    pub update_pdrs: Vec<Pdr>,
    pub update_fars: Vec<Far>,
    pub update_urrs: Vec<Urr>,
    pub update_qers: Vec<Qer>,
    pub update_bars: Vec<Bar>,
    /// Query URR, and the Query All URRs flag as `query_all_urrs`.
    pub query_urrs: Vec<u32>,
    pub query_all_urrs: bool,
    /// PFCPSMReq-Flags DROBU.
    pub drop_buffered: bool,
    /// IEs the UPF knows of but does not support here (Create MAR, Create Traffic Endpoint...): their types.
    pub unsupported: Vec<u16>,
}

/// Create PDR and Update PDR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Pdr {
    pub id: Option<u16>,
    pub precedence: Option<u32>,
    pub pdi: Option<Pdi>,
    /// First octet: the description; second, if present: GTP-U extension header deletion.
    pub outer_header_removal: Option<(u8, Option<u8>)>,
    pub far_id: Option<u32>,
    pub urr_ids: Vec<u32>,
    pub qer_ids: Vec<u32>,
    /// Update only: types of IEs that came with length 0, to be removed from the rule (5.6.3).
    pub removed: Vec<u16>,
    /// Types of IEs inside it that change its meaning and are not supported (predefined rules, MAR, ...).
    pub unsupported: Vec<u16>,
}

/// PDI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Pdi {
    pub source_interface: Option<u8>,
    pub local_fteid: Option<FTeid>,
    /// Raw octets, or dotted labels already decoded: the configuration knows names as text.
    pub network_instance: Option<String>,
    pub ue_ips: Vec<UeIp>,
    pub sdf_filters: Vec<SdfFilter>,
    pub qfis: Vec<u8>,
    pub framed_routes: Vec<String>,
    pub framed_ipv6_routes: Vec<String>,
    /// Types of IEs inside it that would narrow the match and are not supported (Ethernet, application id...).
    pub unsupported: Vec<u16>,
}

/// F-TEID (8.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct FTeid {
    /// CH: the UPF chooses. `teid` and the addresses are absent then.
    pub choose: bool,
    pub choose_id: Option<u8>,
    /// V4 and V6 flags: with CH, which families to allocate.
    pub v4: bool,
    pub v6: bool,
    pub teid: u32,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// UE IP address (8.2.62).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct UeIp {
    /// S/D flag: false: source address, true: destination address.
    pub destination: bool,
    /// CHV4: the UPF chooses an IPv4 address.
    pub choose_v4: bool,
    /// CHV6: the UPF chooses an IPv6 prefix.
    pub choose_v6: bool,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// IPv6D: prefix delegation bits; the prefix is 64 minus this long.
    pub ipv6_delegation_bits: Option<u8>,
    /// IP6PL: the prefix length itself.
    pub ipv6_prefix_length: Option<u8>,
}

/// SDF filter (8.2.5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SdfFilter {
    pub flow_description: Option<String>,
    /// Value octet and mask octet.
    pub tos_traffic_class: Option<(u8, u8)>,
    pub spi: Option<u32>,
    pub flow_label: Option<u32>,
    pub filter_id: Option<u32>,
}

/// Create FAR and Update FAR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Far {
    pub id: Option<u32>,
    /// Apply Action, first octet in the low byte, second octet (if present) in the high byte.
    pub apply_action: Option<u16>,
    pub forwarding: Option<Forwarding>,
    pub duplicating: Vec<Forwarding>,
    pub bar_id: Option<u8>,
    /// Update only: types of IEs that came with length 0, to be removed (5.6.3).
    pub removed: Vec<u16>,
    pub unsupported: Vec<u16>,
}

/// (Update) Forwarding Parameters and (Update) Duplicating Parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Forwarding {
    pub destination_interface: Option<u8>,
    pub network_instance: Option<String>,
    pub outer_header_creation: Option<OuterHeaderCreation>,
    /// Two octets: value, mask.
    pub transport_level_marking: Option<(u8, u8)>,
    /// PFCPSMReq-Flags SNDEM within Update Forwarding Parameters.
    pub send_end_marker: bool,
    /// Update only: types of IEs that came with length 0, to be removed (5.6.3).
    pub removed: Vec<u16>,
    pub unsupported: Vec<u16>,
}

/// Outer Header Creation (8.2.56).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct OuterHeaderCreation {
    /// Description: octet 5 in the high byte, octet 6 in the low byte (0x0100: GTP-U/UDP/IPv4).
    pub description: u16,
    pub teid: Option<u32>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub port: Option<u16>,
}

/// Create QER and Update QER.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Qer {
    pub id: Option<u32>,
    pub correlation_id: Option<u32>,
    /// Gate Status octet: bits 3-4 uplink, bits 1-2 downlink.
    pub gate_status: Option<u8>,
    /// Uplink, downlink, kbit/s.
    pub mbr: Option<(u64, u64)>,
    /// Uplink, downlink, kbit/s.
    pub gbr: Option<(u64, u64)>,
    pub qfi: Option<u8>,
    pub rqi: Option<bool>,
    pub ppi: Option<u8>,
    pub averaging_window_ms: Option<u32>,
    /// Update only: types of IEs that came with length 0, to be removed (5.6.3).
    pub removed: Vec<u16>,
    pub unsupported: Vec<u16>,
}

/// Create URR and Update URR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Urr {
    pub id: Option<u32>,
    /// Measurement Method octet: DURAT 1, VOLUM 2, EVENT 4.
    pub measurement_method: Option<u8>,
    /// Reporting Triggers, first octet in the low byte.
    pub reporting_triggers: Option<u32>,
    /// Measurement Information, first octet.
    pub measurement_information: Option<u8>,
    pub volume_threshold: Option<VolumeThreshold>,
    /// Seconds.
    pub time_threshold: Option<u32>,
    /// Seconds.
    pub measurement_period: Option<u32>,
    /// Update only: types of IEs that came with length 0, to be removed (5.6.3).
    pub removed: Vec<u16>,
    pub unsupported: Vec<u16>,
}

/// Volume Threshold (8.2.13), octets: TOVOL, ULVOL, DLVOL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct VolumeThreshold {
    pub total: Option<u64>,
    pub uplink: Option<u64>,
    pub downlink: Option<u64>,
}

/// Create BAR and Update BAR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Bar {
    pub id: Option<u8>,
    /// In units of 50 ms.
    pub downlink_data_notification_delay: Option<u8>,
    pub suggested_buffering_packets_count: Option<u8>,
    /// Update only: types of IEs that came with length 0, to be removed (5.6.3).
    pub removed: Vec<u16>,
    pub unsupported: Vec<u16>,
}
