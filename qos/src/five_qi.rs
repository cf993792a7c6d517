//! Owns the standardized 5QIs (TS 23.501 table 5.7.4-1, Release 18) and a default DSCP for each.
//!
//! # DSCP
//! 3GPP leaves the mapping to the operator (TS 23.501 5.8.2.7: transport level marking "based on 5QI, Priority Level
//! and optionally ARP"). The default here continues GSMA IR.34's table for QCI 1 to 9 (EF for conversational
//! classes, AF41 streaming, AF31 signalling, AF32, AF21, AF11, best effort) to the newer 5QIs by their resource
//! type and example services: push-to-talk voice and delay-critical GBR as EF, streamed video as AF41,
//! mission-critical signalling as AF31. It is a default and nothing more: what a FAR or the configuration says wins.

use serde::Serialize;

/// A standardized 5QI and its QoS characteristics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FiveQi {
    /// The 5QI.
    pub value: u8,
    /// Whether a bit rate is guaranteed, and what comes with it.
    pub resource_type: ResourceType,
    /// Default Priority Level, 1..=127; 1 goes first.
    pub priority_level: u8,
    /// Packet Delay Budget between UE and UPF, milliseconds.
    pub packet_delay_budget_ms: u16,
    /// Packet Error Rate.
    pub packet_error_rate: PacketErrorRate,
    /// Default Differentiated Services Code Point, 0..=63: see the module.
    pub dscp: u8,
    /// Example services, shortened.
    pub services: &'static str,
}

/// Resource type (TS 23.501 5.7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceType {
    /// Guaranteed bit rate.
    Gbr {
        /// Default Averaging Window, milliseconds.
        averaging_window_ms: u16,
    },
    /// No bit rate is guaranteed.
    NonGbr,
    /// Guaranteed bit rate; a packet later than the delay budget counts as lost.
    DelayCriticalGbr {
        /// Default Averaging Window, milliseconds.
        averaging_window_ms: u16,
        /// Default Maximum Data Burst Volume, bytes within one delay budget.
        maximum_data_burst_volume: u32,
    },
}

/// A power of ten: `PacketErrorRate(6)` is 10^-6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PacketErrorRate(
    /// The exponent without its sign.
    pub u8,
);

impl std::fmt::Display for PacketErrorRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "10^-{}", self.0)
    }
}

/// Code points of the default mapping.
mod dscp {
    pub const BEST_EFFORT: u8 = 0;
    pub const AF11: u8 = 10;
    pub const AF21: u8 = 18;
    pub const AF31: u8 = 26;
    pub const AF32: u8 = 28;
    pub const AF41: u8 = 34;
    pub const EF: u8 = 46;
}

impl FiveQi {
    /// The row of a 5QI; none: not standardized (75 was, and is no more). Cost: a binary search among 31 rows.
    pub fn standardized(value: u8) -> Option<&'static Self> {
        TABLE
            .binary_search_by_key(&value, |row| row.value)
            .ok()
            .map(|i| &TABLE[i])
    }

    /// Every row, by ascending 5QI.
    pub fn all() -> &'static [Self] {
        &TABLE
    }

    /// GBR or delay-critical GBR.
    pub const fn is_gbr(&self) -> bool {
        !matches!(self.resource_type, ResourceType::NonGbr)
    }

    /// Default Averaging Window, milliseconds; none for non-GBR.
    pub const fn averaging_window_ms(&self) -> Option<u16> {
        match self.resource_type {
            ResourceType::Gbr { averaging_window_ms }
            | ResourceType::DelayCriticalGbr {
                averaging_window_ms, ..
            } => Some(averaging_window_ms),
            ResourceType::NonGbr => None,
        }
    }
}

const fn row(
    value: u8,
    resource_type: ResourceType,
    priority_level: u8,
    packet_delay_budget_ms: u16,
    per: u8,
    dscp: u8,
    services: &'static str,
) -> FiveQi {
    FiveQi {
        value,
        resource_type,
        priority_level,
        packet_delay_budget_ms,
        packet_error_rate: PacketErrorRate(per),
        dscp,
        services,
    }
}

const GBR: ResourceType = ResourceType::Gbr {
    averaging_window_ms: 2000,
};
const NON_GBR: ResourceType = ResourceType::NonGbr;

const fn critical(maximum_data_burst_volume: u32) -> ResourceType {
    ResourceType::DelayCriticalGbr {
        averaging_window_ms: 2000,
        maximum_data_burst_volume,
    }
}

#[rustfmt::skip]
static TABLE: [FiveQi; 31] = [
    //  5QI  resource type    prio  PDB  PER  DSCP               services
    row(  1, GBR,               20,  100, 2, dscp::EF,          "conversational voice"),
    row(  2, GBR,               40,  150, 3, dscp::EF,          "conversational video"),
    row(  3, GBR,               30,   50, 3, dscp::EF,          "real-time gaming, V2X, process monitoring"),
    row(  4, GBR,               50,  300, 6, dscp::AF41,        "buffered video"),
    row(  5, NON_GBR,           10,  100, 6, dscp::AF31,        "IMS signalling"),
    row(  6, NON_GBR,           60,  300, 6, dscp::AF32,        "buffered video, TCP applications"),
    row(  7, NON_GBR,           70,  100, 3, dscp::AF21,        "voice, live video, interactive gaming"),
    row(  8, NON_GBR,           80,  300, 6, dscp::AF11,        "buffered video, TCP applications"),
    row(  9, NON_GBR,           90,  300, 6, dscp::BEST_EFFORT, "buffered video, TCP applications; the usual default"),
    row( 10, NON_GBR,           90, 1100, 6, dscp::BEST_EFFORT, "buffered video, TCP applications over satellite"),
    row( 65, GBR,                7,   75, 2, dscp::EF,          "mission-critical push-to-talk voice"),
    row( 66, GBR,               20,  100, 2, dscp::EF,          "push-to-talk voice"),
    row( 67, GBR,               15,  100, 3, dscp::AF41,        "mission-critical video"),
    row( 69, NON_GBR,            5,   60, 6, dscp::AF31,        "mission-critical signalling"),
    row( 70, NON_GBR,           55,  200, 6, dscp::AF32,        "mission-critical data"),
    row( 71, GBR,               56,  150, 6, dscp::AF41,        "live uplink streaming"),
    row( 72, GBR,               56,  300, 4, dscp::AF41,        "live uplink streaming"),
    row( 73, GBR,               56,  300, 8, dscp::AF41,        "live uplink streaming"),
    row( 74, GBR,               56,  500, 8, dscp::AF41,        "live uplink streaming"),
    row( 76, GBR,               56,  500, 4, dscp::AF41,        "live uplink streaming"),
    row( 79, NON_GBR,           65,   50, 2, dscp::AF21,        "V2X messages"),
    row( 80, NON_GBR,           68,   10, 6, dscp::AF21,        "low-latency eMBB, augmented reality"),
    row( 82, critical(255),     19,   10, 4, dscp::EF,          "discrete automation"),
    row( 83, critical(1354),    22,   10, 4, dscp::EF,          "discrete automation, V2X platooning"),
    row( 84, critical(1354),    24,   30, 5, dscp::EF,          "intelligent transport systems"),
    row( 85, critical(255),     21,    5, 5, dscp::EF,          "high-voltage electricity distribution, V2X driving"),
    row( 86, critical(1354),    18,    5, 4, dscp::EF,          "V2X collision avoidance, platooning"),
    row( 87, critical(500),     25,    5, 3, dscp::EF,          "interactive service: motion tracking"),
    row( 88, critical(1125),    25,   10, 3, dscp::EF,          "interactive service: motion tracking"),
    row( 89, critical(17_000),  25,   15, 4, dscp::EF,          "cloud rendering, edge rendering"),
    row( 90, critical(63_000),  25,   20, 4, dscp::EF,          "cloud rendering, edge rendering"),
];
