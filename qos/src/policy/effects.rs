//! Owns what a policy or profile changes, as the file says it and as the overlay applies it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upf_model::{BitRates, Gate};

/// Changes of the rules of the packets that a policy applies to. What is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// Precedence of the PDRs: the lower value wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precedence: Option<Precedence>,
    /// QoS flow to mark downlink packets with, 0 to 63.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub qfi: Option<u8>,
    /// The same by 5QI, through the table `five_qis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub five_qi: Option<u8>,
    /// Maximum bit rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbr: Option<Rates>,
    /// Guaranteed bit rate: subject to admission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gbr: Option<Rates>,
    /// Percentage of the session AMBR that the SMF gave, 0 to 1000; whatever the policy applies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub session_ambr_percent: Option<u16>,
    /// Priority queue, 0 to 7: the higher, the sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 7))]
    pub queue: Option<u8>,
    /// Differentiated services code point of the outer header, 0 to 63 (of the packet where there is no outer header).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<u8>,
    /// L4S: packets of ECN-capable senders are marked while the queue is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l4s: Option<bool>,
    /// Gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gates>,
}

/// A new precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precedence {
    /// This one.
    Absolute(u32),
    /// So much more than the SMF's; less than nothing goes first.
    Relative(i64),
}

impl Precedence {
    /// Of a PDR with that precedence.
    pub fn of(self, base: u32) -> u32 {
        match self {
            Self::Absolute(value) => value,
            Self::Relative(by) => {
                u32::try_from(i64::from(base).saturating_add(by).clamp(0, u32::MAX.into())).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Bit rates in kbit/s (1 kbit = 1,000 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// From the UE.
    pub uplink_kbps: u64,
    /// To the UE.
    pub downlink_kbps: u64,
}

impl From<Rates> for BitRates {
    fn from(rates: Rates) -> Self {
        Self {
            uplink_kbps: rates.uplink_kbps,
            downlink_kbps: rates.downlink_kbps,
        }
    }
}

/// Gates of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// From the UE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<GateStatus>,
    /// To the UE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downlink: Option<GateStatus>,
}

/// Whether packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateStatus {
    /// They do.
    Open,
    /// They do not.
    Closed,
}

impl From<GateStatus> for Gate {
    fn from(status: GateStatus) -> Self {
        match status {
            GateStatus::Open => Self::Open,
            GateStatus::Closed => Self::Closed,
        }
    }
}

/// Allocation and retention priority (TS 23.501 5.7.2.2): what counts when a GBR cannot be had for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Arp {
    /// 1 to 15; 1 is the highest.
    #[schemars(range(min = 1, max = 15))]
    pub priority_level: u8,
    /// May take from those of a lower priority that are preemptable (pre-emption capability).
    pub may_preempt: bool,
    /// May be taken from (pre-emption vulnerability).
    pub preemptable: bool,
}

impl Default for Arp {
    /// Level 8, takes from nobody, may be taken from.
    fn default() -> Self {
        Self {
            priority_level: 8,
            may_preempt: false,
            preemptable: true,
        }
    }
}
