//! A Session Establishment Request, declared (TS 29.244 7.5.2).

use crate::rules::{Bar, BitRates, FTeid, Far, Forwarding, Gate, Interface, Pdi, Pdr, Qer, SdfFilter, UeIp, Urr};
use crate::wire::UeIps;
use rs_pfcp::ie::{Ie, IeType};
use std::net::IpAddr;

/// PDR ID of the wildcard uplink PDR of [`SessionSpec::basic`].
pub const UPLINK_PDR: u16 = 1;
/// PDR ID of the wildcard downlink PDR of [`SessionSpec::basic`].
pub const DOWNLINK_PDR: u16 = 2;
/// FAR ID that sends uplink packets to the data network.
pub const UPLINK_FAR: u32 = 1;
/// FAR ID that sends downlink packets to the gNB.
pub const DOWNLINK_FAR: u32 = 2;
/// QER ID of the whole session: QFI and, with [`SessionSpec::with_mbr`], the session's rate.
pub const SESSION_QER: u32 = 1;
/// URR ID of the whole session.
pub const SESSION_URR: u32 = 1;
/// BAR ID of the downlink FAR.
pub const SESSION_BAR: u8 = 1;
/// The CHOOSE ID under which all uplink PDRs of a session share one F-TEID.
pub const SHARED_CHOOSE_ID: u8 = 1;
/// Precedence of the two wildcard PDRs: any PDR added later with a lower value goes before them.
pub const WILDCARD_PRECEDENCE: u32 = 65_000;
/// The default QoS flow.
pub const DEFAULT_QFI: u8 = 9;

/// All the rules of a session to establish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionSpec {
    /// Create PDR.
    pub pdrs: Vec<Pdr>,
    /// Create FAR.
    pub fars: Vec<Far>,
    /// Create QER.
    pub qers: Vec<Qer>,
    /// Create URR.
    pub urrs: Vec<Urr>,
    /// Create BAR.
    pub bars: Vec<Bar>,
    /// PDN Type (8.2.79): 1 IPv4, 2 IPv6, 3 IPv4v6.
    pub pdn_type: Option<u8>,
    /// Appended to the message as they are.
    pub extra: Vec<Ie>,
    /// IE types left out of the message wherever they would stand: for requests that a UPF must refuse.
    pub omit: Vec<IeType>,
}

/// How a flow added by [`SessionSpec::with_sdf`] is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowQos {
    /// QoS flow; none: the default one.
    pub qfi: Option<u8>,
    /// Maximum bit rate of the flow.
    pub mbr: Option<BitRates>,
    /// Guaranteed bit rate of the flow.
    pub gbr: Option<BitRates>,
    /// Both gates closed: the flow is blocked.
    pub closed: bool,
}

impl SessionSpec {
    /// The usual PDU session: one wildcard PDR each way, the uplink F-TEID chosen by the UPF, one QER (open, QFI
    /// [`DEFAULT_QFI`]), one URR (volume and duration) and one BAR.
    ///
    /// `gnb` and `dl_teid` are the gNB's end of the N3 tunnel; the UPF is asked for an endpoint of the same family.
    pub fn basic(ue: UeIps, gnb: IpAddr, dl_teid: u32) -> Self {
        let ue_ip = |destination| UeIp::Given {
            ips: ue,
            destination,
            v6_prefix_length: None,
        };
        Self::around(ue_ip(false), ue_ip(true), gnb, dl_teid).with_pdn_type(ue)
    }

    /// As [`Self::basic`], the UE's address being chosen by the UPF (feature UEIP).
    pub fn basic_with_chosen_ue_ip(v4: bool, v6: bool, gnb: IpAddr, dl_teid: u32) -> Self {
        let ue_ip = |destination| UeIp::Choose { v4, v6, destination };
        Self::around(ue_ip(false), ue_ip(true), gnb, dl_teid)
    }

    fn around(source: UeIp, destination: UeIp, gnb: IpAddr, dl_teid: u32) -> Self {
        let uplink = Pdr {
            id: UPLINK_PDR,
            precedence: WILDCARD_PRECEDENCE,
            pdi: Pdi {
                fteid: Some(FTeid::choose_for(gnb, Some(SHARED_CHOOSE_ID))),
                ue_ips: vec![source],
                ..Pdi::from(Interface::Access)
            },
            outer_header_removal: Some(if gnb.is_ipv4() { 0 } else { 1 }),
            far: UPLINK_FAR,
            qers: vec![SESSION_QER],
            urrs: vec![SESSION_URR],
            extra: Vec::new(),
        };
        let downlink = Pdr {
            id: DOWNLINK_PDR,
            precedence: WILDCARD_PRECEDENCE,
            pdi: Pdi {
                ue_ips: vec![destination],
                ..Pdi::from(Interface::Core)
            },
            outer_header_removal: None,
            far: DOWNLINK_FAR,
            qers: vec![SESSION_QER],
            urrs: vec![SESSION_URR],
            extra: Vec::new(),
        };
        Self {
            pdrs: vec![uplink, downlink],
            fars: vec![
                Far::forward(UPLINK_FAR, Forwarding::to(Interface::Core)),
                Far {
                    bar: Some(SESSION_BAR),
                    ..Far::forward(DOWNLINK_FAR, Forwarding::to_gnb(dl_teid, gnb))
                },
            ],
            qers: vec![Qer {
                qfi: Some(DEFAULT_QFI),
                ..Qer::open(SESSION_QER)
            }],
            urrs: vec![Urr::volume_and_duration(SESSION_URR)],
            bars: vec![Bar {
                id: SESSION_BAR,
                notification_delay: None,
                suggested_packets: None,
            }],
            ..Self::default()
        }
    }

    fn with_pdn_type(mut self, ue: UeIps) -> Self {
        self.pdn_type = match (ue.v4, ue.v6) {
            (Some(_), Some(_)) => Some(3),
            (Some(_), None) => Some(1),
            (None, Some(_)) => Some(2),
            (None, None) => None,
        };
        self
    }

    /// The session's QoS flow: the QFI of the session QER.
    pub fn with_qfi(mut self, qfi: u8) -> Self {
        for qer in self.qers.iter_mut().filter(|q| q.id == SESSION_QER) {
            qer.qfi = Some(qfi);
        }
        self
    }

    /// Polices the whole session, kbit/s.
    pub fn with_mbr(mut self, uplink_kbps: u64, downlink_kbps: u64) -> Self {
        for qer in self.qers.iter_mut().filter(|q| q.id == SESSION_QER) {
            qer.mbr = Some(BitRates {
                uplink_kbps,
                downlink_kbps,
            });
        }
        self
    }

    /// Names the network instances: of N3, and of the data network.
    pub fn with_network_instances(mut self, access: &str, core: &str) -> Self {
        let name = |interface| match interface {
            Interface::Access => Some(access.to_owned()),
            _ => Some(core.to_owned()),
        };
        for pdr in &mut self.pdrs {
            pdr.pdi.network_instance = name(pdr.pdi.source_interface);
        }
        for forwarding in self.fars.iter_mut().filter_map(|f| f.forwarding.as_mut()) {
            forwarding.network_instance = name(forwarding.destination_interface);
        }
        self
    }

    /// Uplink PDRs listen at this F-TEID, chosen by the SMF, in place of CHOOSE.
    pub fn with_fteid(mut self, fteid: FTeid) -> Self {
        for pdr in self.pdrs.iter_mut().filter(|p| p.pdi.fteid.is_some()) {
            pdr.pdi.fteid = Some(fteid);
        }
        self
    }

    /// Adds a pair of PDRs before the wildcards for what this flow description matches (written for the downlink;
    /// the UPF swaps its ends for the uplink), with a QER of its own where `qos` says anything, and the session's
    /// QER and URR besides.
    pub fn with_sdf(self, precedence: u32, flow_description: &str, qos: FlowQos) -> Self {
        self.with_sdf_filters(precedence, vec![SdfFilter::flow(flow_description)], qos)
    }

    /// As [`Self::with_sdf`], with several filters (OR) or with more than a flow description.
    ///
    /// The pair copies the first uplink and the first downlink PDR; a spec without them is left as it is.
    pub fn with_sdf_filters(mut self, precedence: u32, filters: Vec<SdfFilter>, qos: FlowQos) -> Self {
        let flow_qer = (qos != FlowQos::default()).then(|| {
            let id = self.qers.iter().map(|q| q.id).max().unwrap_or(0) + 1;
            let gate = if qos.closed { Gate::Closed } else { Gate::Open };
            let qer = Qer {
                gate_uplink: gate,
                gate_downlink: gate,
                mbr: qos.mbr,
                gbr: qos.gbr,
                qfi: qos.qfi,
                ..Qer::open(id)
            };
            self.qers.push(qer);
            id
        });
        for interface in [Interface::Access, Interface::Core] {
            let Some(model) = self.pdrs.iter().find(|p| p.pdi.source_interface == interface) else {
                continue;
            };
            let mut pdr = model.clone();
            pdr.id = self.pdrs.iter().map(|p| p.id).max().unwrap_or(0) + 1;
            pdr.precedence = precedence;
            pdr.pdi.sdf_filters = filters.clone();
            // The flow's own QER goes first: where both carry a QFI, the UPF marks with the first one.
            pdr.qers = flow_qer.into_iter().chain(pdr.qers).collect();
            self.pdrs.push(pdr);
        }
        self
    }

    /// Leaves an IE type out of the whole message.
    pub fn without(mut self, ie: IeType) -> Self {
        self.omit.push(ie);
        self
    }

    /// Appends an IE to the message.
    pub fn with_extra(mut self, ie: Ie) -> Self {
        self.extra.push(ie);
        self
    }
}
