//! The rules of a session as an SMF declares them (TS 29.244 7.5.2.2 to 7.5.2.6): plain data, nothing checked.
//!
//! Identifiers are the bare integers of the protocol, so that a test can also say what no SMF should.

use crate::wire::UeIps;
use rs_pfcp::ie::Ie;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Source or destination interface (8.2.2, 8.2.24).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Interface {
    /// Towards the RAN.
    Access = 0,
    /// Towards the data network.
    Core = 1,
    /// SGi-LAN / N6-LAN.
    SgiLan = 2,
    /// CP function.
    CpFunction = 3,
    /// 5G VN internal.
    VnInternal = 4,
}

/// Packet detection rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdr {
    /// PDR ID.
    pub id: u16,
    /// The lower value wins.
    pub precedence: u32,
    /// What it detects.
    pub pdi: Pdi,
    /// Outer Header Removal Description (8.2.64): 0 GTP-U/UDP/IPv4, 1 GTP-U/UDP/IPv6, 6 GTP-U/UDP/IP.
    pub outer_header_removal: Option<u8>,
    /// FAR ID.
    pub far: u32,
    /// QER IDs.
    pub qers: Vec<u32>,
    /// URR IDs.
    pub urrs: Vec<u32>,
    /// Appended inside the Create PDR as they are.
    pub extra: Vec<Ie>,
}

/// Packet detection information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdi {
    /// Source Interface.
    pub source_interface: Interface,
    /// Local F-TEID.
    pub fteid: Option<FTeid>,
    /// Network Instance; none: the UPF's default for the interface.
    pub network_instance: Option<String>,
    /// UE IP addresses.
    pub ue_ips: Vec<UeIp>,
    /// SDF filters, OR.
    pub sdf_filters: Vec<SdfFilter>,
    /// QFIs, OR.
    pub qfis: Vec<u8>,
    /// Framed-Route texts (RFC 2865 5.22) and, where they contain a colon, Framed-IPv6-Route (RFC 3162 2.5).
    pub framed_routes: Vec<String>,
    /// Appended inside the PDI as they are.
    pub extra: Vec<Ie>,
}

impl Pdi {
    /// A PDI that matches everything from this interface.
    pub fn from(source_interface: Interface) -> Self {
        Self {
            source_interface,
            fteid: None,
            network_instance: None,
            ue_ips: Vec::new(),
            sdf_filters: Vec::new(),
            qfis: Vec::new(),
            framed_routes: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// F-TEID (8.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FTeid {
    /// CH: the UPF allocates.
    Choose {
        /// An IPv4 endpoint is wanted.
        v4: bool,
        /// An IPv6 endpoint is wanted.
        v6: bool,
        /// PDRs of one request with the same CHOOSE ID share one F-TEID.
        choose_id: Option<u8>,
    },
    /// The SMF's own choice, or one allocated before.
    Given {
        /// TEID.
        teid: u32,
        /// The UPF's IPv4 endpoint.
        v4: Option<Ipv4Addr>,
        /// The UPF's IPv6 endpoint.
        v6: Option<Ipv6Addr>,
    },
}

impl FTeid {
    /// CHOOSE with the family of `peer`: an IPv4 gNB needs an IPv4 endpoint.
    pub fn choose_for(peer: IpAddr, choose_id: Option<u8>) -> Self {
        Self::Choose {
            v4: peer.is_ipv4(),
            v6: peer.is_ipv6(),
            choose_id,
        }
    }

    /// A given F-TEID at one address.
    pub fn given(teid: u32, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::Given {
                teid,
                v4: Some(a),
                v6: None,
            },
            IpAddr::V6(a) => Self::Given {
                teid,
                v4: None,
                v6: Some(a),
            },
        }
    }
}

/// UE IP address (8.2.62).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UeIp {
    /// Assigned by the SMF.
    Given {
        /// The addresses; IPv6 is a prefix of 64 bits unless `v6_prefix_length` says otherwise.
        ips: UeIps,
        /// S/D: false: the packet's source (uplink), true: its destination (downlink).
        destination: bool,
        /// IP6PL.
        v6_prefix_length: Option<u8>,
    },
    /// CHV4/CHV6: the UPF assigns.
    Choose {
        /// CHV4.
        v4: bool,
        /// CHV6.
        v6: bool,
        /// S/D as above.
        destination: bool,
    },
}

/// SDF filter (8.2.5): what is present is AND.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SdfFilter {
    /// `permit out ...`, as text.
    pub flow_description: Option<String>,
    /// ToS or Traffic Class: value, mask.
    pub tos: Option<(u8, u8)>,
    /// IPsec SPI.
    pub spi: Option<u32>,
    /// Flow Label, 20 bits.
    pub flow_label: Option<u32>,
    /// SDF Filter ID.
    pub filter_id: Option<u32>,
}

impl SdfFilter {
    /// A filter of a flow description only.
    pub fn flow(flow_description: &str) -> Self {
        Self {
            flow_description: Some(flow_description.to_owned()),
            ..Self::default()
        }
    }
}

/// Apply Action (8.2.26), as flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyAction(pub u16);

impl ApplyAction {
    /// Octet 5 bit 1.
    pub const DROP: Self = Self(0x01);
    /// Octet 5 bit 2.
    pub const FORW: Self = Self(0x02);
    /// Octet 5 bit 3.
    pub const BUFF: Self = Self(0x04);
    /// Octet 5 bit 4.
    pub const NOCP: Self = Self(0x08);
    /// Octet 5 bit 5.
    pub const DUPL: Self = Self(0x10);
}

impl std::ops::BitOr for ApplyAction {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Forwarding action rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Far {
    /// FAR ID.
    pub id: u32,
    /// Flags.
    pub apply_action: ApplyAction,
    /// Forwarding Parameters.
    pub forwarding: Option<Forwarding>,
    /// Duplicating Parameters, one for each copy.
    pub duplicating: Vec<Forwarding>,
    /// BAR ID.
    pub bar: Option<u8>,
    /// Appended inside the Create FAR as they are.
    pub extra: Vec<Ie>,
}

impl Far {
    /// FORW by these parameters.
    pub fn forward(id: u32, forwarding: Forwarding) -> Self {
        Self {
            id,
            apply_action: ApplyAction::FORW,
            forwarding: Some(forwarding),
            duplicating: Vec::new(),
            bar: None,
            extra: Vec::new(),
        }
    }

    /// DROP.
    pub fn drop(id: u32) -> Self {
        Self {
            id,
            apply_action: ApplyAction::DROP,
            forwarding: None,
            duplicating: Vec::new(),
            bar: None,
            extra: Vec::new(),
        }
    }
}

/// Forwarding or Duplicating Parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Destination Interface.
    pub destination_interface: Interface,
    /// Network Instance; none: the UPF's default for the interface.
    pub network_instance: Option<String>,
    /// The peer's tunnel: TEID and address.
    pub outer_header_creation: Option<(u32, IpAddr)>,
    /// Transport Level Marking (8.2.12): ToS value and mask.
    pub transport_level_marking: Option<(u8, u8)>,
}

impl Forwarding {
    /// Plain, to this interface.
    pub fn to(destination_interface: Interface) -> Self {
        Self {
            destination_interface,
            network_instance: None,
            outer_header_creation: None,
            transport_level_marking: None,
        }
    }

    /// Into the gNB's tunnel.
    pub fn to_gnb(teid: u32, gnb: IpAddr) -> Self {
        Self {
            outer_header_creation: Some((teid, gnb)),
            ..Self::to(Interface::Access)
        }
    }
}

/// Gate status (8.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Gate {
    /// Packets pass.
    Open = 0,
    /// Packets are discarded.
    Closed = 1,
}

/// A pair of rates, kbit/s (8.2.8, 8.2.9): 40 bits each on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRates {
    /// Uplink, kbit/s.
    pub uplink_kbps: u64,
    /// Downlink, kbit/s.
    pub downlink_kbps: u64,
}

/// QoS enforcement rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qer {
    /// QER ID.
    pub id: u32,
    /// QER Correlation ID.
    pub correlation_id: Option<u32>,
    /// Uplink gate.
    pub gate_uplink: Gate,
    /// Downlink gate.
    pub gate_downlink: Gate,
    /// Maximum bit rate.
    pub mbr: Option<BitRates>,
    /// Guaranteed bit rate.
    pub gbr: Option<BitRates>,
    /// QoS flow identifier for downlink marking.
    pub qfi: Option<u8>,
    /// Reflective QoS.
    pub rqi: bool,
    /// Paging policy indicator.
    pub ppi: Option<u8>,
    /// Averaging window, milliseconds.
    pub averaging_window_ms: Option<u32>,
}

impl Qer {
    /// Open gates, no rates.
    pub fn open(id: u32) -> Self {
        Self {
            id,
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: None,
            gbr: None,
            qfi: None,
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
        }
    }
}

/// Usage reporting rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urr {
    /// URR ID.
    pub id: u32,
    /// Measurement Method VOLUM.
    pub volume: bool,
    /// Measurement Method DURAT.
    pub duration: bool,
    /// Reporting Triggers (8.2.19), octets 5 to 7; all zero: reports at deletion and on query only.
    pub reporting_triggers: [u8; 3],
    /// Measurement Information (8.2.96), octet 5; MBQE is bit 1.
    pub measurement_information: Option<u8>,
    /// Volume Threshold in total octets.
    pub volume_threshold: Option<u64>,
    /// Time Threshold, seconds.
    pub time_threshold: Option<u32>,
    /// Measurement Period, seconds.
    pub measurement_period: Option<u32>,
}

impl Urr {
    /// Volume and duration, reported at deletion and on query.
    pub fn volume_and_duration(id: u32) -> Self {
        Self {
            id,
            volume: true,
            duration: true,
            reporting_triggers: [0; 3],
            measurement_information: None,
            volume_threshold: None,
            time_threshold: None,
            measurement_period: None,
        }
    }

    /// Reports whenever that many octets, of both directions together, were used (VOLTH).
    pub fn with_volume_threshold(mut self, octets: u64) -> Self {
        self.volume_threshold = Some(octets);
        self.reporting_triggers[0] |= 0x02;
        self
    }

    /// Reports whenever it was used for that many seconds (TIMTH).
    pub fn with_time_threshold(mut self, seconds: u32) -> Self {
        self.time_threshold = Some(seconds);
        self.reporting_triggers[0] |= 0x04;
        self
    }

    /// Reports every so many seconds (PERIO).
    pub fn with_measurement_period(mut self, seconds: u32) -> Self {
        self.measurement_period = Some(seconds);
        self.reporting_triggers[0] |= 0x01;
        self
    }
}

/// Buffering action rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// BAR ID.
    pub id: u8,
    /// Downlink Data Notification Delay, units of 50 ms.
    pub notification_delay: Option<u8>,
    /// Suggested Buffering Packets Count.
    pub suggested_packets: Option<u8>,
}
