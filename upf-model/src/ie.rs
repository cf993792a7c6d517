//! Information element types (TS 29.244 table 8.1.2-1) that validation names as missing, wrong or unsupported.
//!
//! A refusal carries one of these in its Offending IE, so that the SMF's log says which element was at fault.
//! They are plain numbers, because a message may hold types that nobody here has a name for.

#![allow(missing_docs)] // The name of each constant is the name of the IE in the table.

pub const CREATE_PDR: u16 = 1;
pub const PDI: u16 = 2;
pub const CREATE_FAR: u16 = 3;
pub const FORWARDING_PARAMETERS: u16 = 4;
pub const DUPLICATING_PARAMETERS: u16 = 5;
pub const CREATE_URR: u16 = 6;
pub const CREATE_QER: u16 = 7;
pub const CREATED_PDR: u16 = 8;
pub const UPDATE_PDR: u16 = 9;
pub const UPDATE_FAR: u16 = 10;
pub const UPDATE_FORWARDING_PARAMETERS: u16 = 11;
pub const UPDATE_URR: u16 = 13;
pub const UPDATE_QER: u16 = 14;
pub const REMOVE_PDR: u16 = 15;
pub const REMOVE_FAR: u16 = 16;
pub const REMOVE_URR: u16 = 17;
pub const REMOVE_QER: u16 = 18;
pub const SOURCE_INTERFACE: u16 = 20;
pub const F_TEID: u16 = 21;
pub const NETWORK_INSTANCE: u16 = 22;
pub const SDF_FILTER: u16 = 23;
pub const GATE_STATUS: u16 = 25;
pub const MBR: u16 = 26;
pub const GBR: u16 = 27;
pub const QER_CORRELATION_ID: u16 = 28;
pub const PRECEDENCE: u16 = 29;
pub const TRANSPORT_LEVEL_MARKING: u16 = 30;
pub const VOLUME_THRESHOLD: u16 = 31;
pub const TIME_THRESHOLD: u16 = 32;
pub const REPORTING_TRIGGERS: u16 = 37;
pub const DESTINATION_INTERFACE: u16 = 42;
pub const APPLY_ACTION: u16 = 44;
pub const DOWNLINK_DATA_NOTIFICATION_DELAY: u16 = 46;
pub const PDR_ID: u16 = 56;
pub const MEASUREMENT_METHOD: u16 = 62;
pub const MEASUREMENT_PERIOD: u16 = 64;
pub const QUERY_URR: u16 = 77;
pub const URR_ID: u16 = 81;
pub const OUTER_HEADER_CREATION: u16 = 84;
pub const CREATE_BAR: u16 = 85;
pub const UPDATE_BAR: u16 = 86;
pub const REMOVE_BAR: u16 = 87;
pub const BAR_ID: u16 = 88;
pub const UE_IP_ADDRESS: u16 = 93;
pub const OUTER_HEADER_REMOVAL: u16 = 95;
pub const MEASUREMENT_INFORMATION: u16 = 100;
pub const UPDATE_DUPLICATING_PARAMETERS: u16 = 105;
pub const FAR_ID: u16 = 108;
pub const QER_ID: u16 = 109;
pub const RQI: u16 = 123;
pub const QFI: u16 = 124;
pub const CREATE_TRAFFIC_ENDPOINT: u16 = 127;
pub const SUGGESTED_BUFFERING_PACKETS_COUNT: u16 = 140;
pub const FRAMED_ROUTE: u16 = 153;
pub const FRAMED_IPV6_ROUTE: u16 = 155;
pub const AVERAGING_WINDOW: u16 = 157;
pub const PAGING_POLICY_INDICATOR: u16 = 158;
pub const CREATE_MAR: u16 = 165;
