//! A Session Modification Request, declared (TS 29.244 7.5.4). What is absent stays as it is in the UPF.

use crate::rules::{ApplyAction, Bar, BitRates, Far, Gate, Interface, Pdi, Pdr, Qer, Urr};
use crate::session::DOWNLINK_FAR;
use rs_pfcp::ie::{Ie, IeType};
use std::net::IpAddr;

/// The changes of one request, which the UPF applies whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the fields are the message's IEs by their names
pub struct ModificationSpec {
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
    pub update_pdrs: Vec<PdrUpdate>,
    pub update_fars: Vec<FarUpdate>,
    pub update_urrs: Vec<Urr>,
    pub update_qers: Vec<QerUpdate>,
    pub update_bars: Vec<Bar>,
    pub query_urrs: Vec<u32>,
    /// PFCPSMReq-Flags QAURR: report every URR.
    pub query_all_urrs: bool,
    /// PFCPSMReq-Flags DROBU: drop what is buffered.
    pub drop_buffered: bool,
    /// Appended to the message as they are.
    pub extra: Vec<Ie>,
    /// IE types left out of the message wherever they would stand.
    pub omit: Vec<IeType>,
}

/// Update PDR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct PdrUpdate {
    pub id: u16,
    pub precedence: Option<u32>,
    /// The whole PDI, replaced.
    pub pdi: Option<Pdi>,
    pub outer_header_removal: Option<u8>,
    pub far: Option<u32>,
    /// Not empty: the whole list, replaced.
    pub qers: Vec<u32>,
    /// Not empty: the whole list, replaced.
    pub urrs: Vec<u32>,
}

/// Update FAR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct FarUpdate {
    pub id: u32,
    pub apply_action: Option<ApplyAction>,
    pub forwarding: Option<ForwardingUpdate>,
    pub bar: Option<u8>,
}

/// Update Forwarding Parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ForwardingUpdate {
    pub destination_interface: Option<Interface>,
    pub network_instance: Option<String>,
    pub outer_header_creation: Option<(u32, IpAddr)>,
    pub transport_level_marking: Option<(u8, u8)>,
    /// PFCPSMReq-Flags SNDEM: End Markers to the old tunnel.
    pub send_end_marker: bool,
}

/// Update QER.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct QerUpdate {
    pub id: u32,
    /// Uplink, downlink.
    pub gate: Option<(Gate, Gate)>,
    pub mbr: Option<BitRates>,
    pub gbr: Option<BitRates>,
    pub qfi: Option<u8>,
    pub rqi: Option<bool>,
    pub ppi: Option<u8>,
    pub averaging_window_ms: Option<u32>,
}

impl ModificationSpec {
    /// Handover: downlink to the new gNB's tunnel, End Markers to the old one (TS 23.502 4.9.1.2).
    pub fn handover(new_gnb: IpAddr, new_teid: u32) -> Self {
        Self::default().far(FarUpdate {
            id: DOWNLINK_FAR,
            apply_action: Some(ApplyAction::FORW),
            forwarding: Some(ForwardingUpdate {
                outer_header_creation: Some((new_teid, new_gnb)),
                send_end_marker: true,
                ..ForwardingUpdate::default()
            }),
            bar: None,
        })
    }

    /// The UE goes idle: buffer downlink, report the first packet (TS 23.502 4.2.6).
    pub fn to_idle() -> Self {
        Self::default().far(FarUpdate {
            id: DOWNLINK_FAR,
            apply_action: Some(ApplyAction::BUFF | ApplyAction::NOCP),
            ..FarUpdate::default()
        })
    }

    /// The UE is reachable again at this gNB: forward, what is buffered first (TS 23.502 4.2.3).
    pub fn to_active(gnb: IpAddr, teid: u32) -> Self {
        Self::default().far(FarUpdate {
            id: DOWNLINK_FAR,
            apply_action: Some(ApplyAction::FORW),
            forwarding: Some(ForwardingUpdate {
                outer_header_creation: Some((teid, gnb)),
                ..ForwardingUpdate::default()
            }),
            bar: None,
        })
    }

    /// Opens or closes the gates of a QER.
    pub fn gate(qer: u32, uplink: Gate, downlink: Gate) -> Self {
        Self::default().qer(QerUpdate {
            id: qer,
            gate: Some((uplink, downlink)),
            ..QerUpdate::default()
        })
    }

    /// Changes the maximum bit rate of a QER, kbit/s.
    pub fn mbr(qer: u32, uplink_kbps: u64, downlink_kbps: u64) -> Self {
        Self::default().qer(QerUpdate {
            id: qer,
            mbr: Some(BitRates {
                uplink_kbps,
                downlink_kbps,
            }),
            ..QerUpdate::default()
        })
    }

    /// Changes the precedence of a PDR.
    pub fn precedence(pdr: u16, precedence: u32) -> Self {
        Self {
            update_pdrs: vec![PdrUpdate {
                id: pdr,
                precedence: Some(precedence),
                ..PdrUpdate::default()
            }],
            ..Self::default()
        }
    }

    /// Asks for the usage of every URR, changing nothing.
    pub fn query_all() -> Self {
        Self {
            query_all_urrs: true,
            ..Self::default()
        }
    }

    /// Adds an Update FAR.
    pub fn far(mut self, update: FarUpdate) -> Self {
        self.update_fars.push(update);
        self
    }

    /// Adds an Update QER.
    pub fn qer(mut self, update: QerUpdate) -> Self {
        self.update_qers.push(update);
        self
    }

    /// Adds an Update PDR.
    pub fn pdr(mut self, update: PdrUpdate) -> Self {
        self.update_pdrs.push(update);
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
