//! What a gNB counted: atomics while it runs, plain numbers in a report.

use serde::Serialize;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// End Markers and Error Indications kept with their particulars; more are only counted.
const KEPT: usize = 64;

/// Everything a gNB counted, as JSON too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GnbReport {
    /// N3 address.
    pub bind: SocketAddr,
    /// Tunnels in the order they came, those handed over included.
    pub tunnels: Vec<TunnelReport>,
    /// Echo Requests answered.
    pub echo_answered: u64,
    /// Echo Responses received.
    pub echo_responses: u64,
    /// G-PDUs for a TEID that nobody has; each was answered with an Error Indication.
    pub unknown_teid: u64,
    /// Error Indications received, all of them.
    pub error_indications: u64,
    /// The last of them.
    pub last_error_indications: Vec<ErrorIndicationSeen>,
    /// Datagrams that are not GTP-U, or whose headers contradict themselves.
    pub malformed: u64,
    /// Messages of other types.
    pub other_messages: u64,
}

impl GnbReport {
    /// The newest tunnel of the UE of this name.
    pub fn ue(&self, name: &str) -> Option<&TunnelReport> {
        self.tunnels.iter().rev().find(|t| t.ue == name)
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> String {
        // Integers, strings and lists only: nothing that JSON cannot say.
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
    }
}

/// One N3 tunnel of one UE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelReport {
    /// The UE's name.
    pub ue: String,
    /// The gNB's TEID.
    pub teid_dl: u32,
    /// The UPF's TEID.
    pub teid_ul: u32,
    /// Whether the UE is still here; false after a handover to another gNB.
    pub serving: bool,
    /// From the UE.
    pub uplink: UplinkReport,
    /// To the UE.
    pub downlink: DownlinkReport,
    /// QoS monitoring.
    pub monitoring: MonitoringReport,
}

/// QoS monitoring of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MonitoringReport {
    /// Downlink packets with a time stamp.
    pub questions: u64,
    /// Packets of the UE's that answered.
    pub answers: u64,
    /// Answers without a packet of the UE's.
    pub empty_answers: u64,
}

/// From the UE to the UPF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UplinkReport {
    /// Packets sent.
    pub packets: u64,
    /// Octets of the UE's IP packets.
    pub bytes: u64,
    /// QoS flow they were marked with.
    pub qfi: u8,
    /// Packets that the N3 socket did not take.
    pub send_errors: u64,
    /// Multicast and unspecified-source chatter of the UE's own kernel, not sent.
    pub suppressed: u64,
}

/// From the UPF to the UE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DownlinkReport {
    /// G-PDUs received.
    pub packets: u64,
    /// Octets of the IP packets inside.
    pub bytes: u64,
    /// Packets of each QoS flow, by the PDU Session Container.
    pub qfis: Vec<QfiCount>,
    /// G-PDUs without a PDU Session Container.
    pub without_qfi: u64,
    /// Packets with the reflective QoS indicator.
    pub rqi: u64,
    /// Packets with a paging policy indicator.
    pub ppi: u64,
    /// Packets that the TUN device did not take.
    pub write_errors: u64,
    /// End Markers received.
    pub end_markers: u64,
    /// Where the first of them came.
    pub end_markers_seen: Vec<EndMarkerSeen>,
    /// G-PDUs that came after the first End Marker: a UPF in order sends none.
    pub packets_after_end_marker: u64,
}

/// Packets of a QoS flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QfiCount {
    /// Which.
    pub qfi: u8,
    /// How many.
    pub packets: u64,
}

/// An End Marker and its place in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EndMarkerSeen {
    /// G-PDUs of the same tunnel received before it.
    pub after_packets: u64,
}

/// An Error Indication of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ErrorIndicationSeen {
    /// Who sent it.
    pub from: SocketAddr,
    /// The TEID it does not know.
    pub teid: u32,
    /// The address that the packet had been sent to.
    pub peer: IpAddr,
}

/// A gNB's counters outside tunnels.
#[derive(Debug, Default)]
pub(crate) struct PathCounters {
    pub echo_answered: AtomicU64,
    pub echo_responses: AtomicU64,
    pub unknown_teid: AtomicU64,
    pub error_indications: AtomicU64,
    pub malformed: AtomicU64,
    pub other_messages: AtomicU64,
    last_error_indications: Mutex<VecDeque<ErrorIndicationSeen>>,
}

impl PathCounters {
    pub(crate) fn error_indication(&self, seen: ErrorIndicationSeen) {
        self.error_indications.fetch_add(1, Relaxed);
        if let Ok(mut last) = self.last_error_indications.lock() {
            if last.len() == KEPT {
                last.pop_front();
            }
            last.push_back(seen);
        }
    }

    pub(crate) fn report(&self, bind: SocketAddr, tunnels: Vec<TunnelReport>) -> GnbReport {
        GnbReport {
            bind,
            tunnels,
            echo_answered: self.echo_answered.load(Relaxed),
            echo_responses: self.echo_responses.load(Relaxed),
            unknown_teid: self.unknown_teid.load(Relaxed),
            error_indications: self.error_indications.load(Relaxed),
            last_error_indications: self
                .last_error_indications
                .lock()
                .map_or_else(|_| Vec::new(), |last| last.iter().copied().collect()),
            malformed: self.malformed.load(Relaxed),
            other_messages: self.other_messages.load(Relaxed),
        }
    }
}

/// Counters of one tunnel's uplink; one thread writes them.
#[derive(Debug, Default)]
pub(crate) struct UplinkCounters {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub send_errors: AtomicU64,
    pub suppressed: AtomicU64,
}

impl UplinkCounters {
    pub(crate) fn report(&self, qfi: u8) -> UplinkReport {
        UplinkReport {
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            qfi,
            send_errors: self.send_errors.load(Relaxed),
            suppressed: self.suppressed.load(Relaxed),
        }
    }
}

/// Counters of one tunnel's downlink; one thread writes them.
#[derive(Debug)]
pub(crate) struct DownlinkCounters {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub qfis: [AtomicU64; 64],
    pub without_qfi: AtomicU64,
    pub rqi: AtomicU64,
    pub ppi: AtomicU64,
    pub write_errors: AtomicU64,
    pub packets_after_end_marker: AtomicU64,
    pub end_markers: AtomicU64,
    end_markers_seen: Mutex<Vec<EndMarkerSeen>>,
}

impl Default for DownlinkCounters {
    fn default() -> Self {
        Self {
            packets: AtomicU64::default(),
            bytes: AtomicU64::default(),
            qfis: [const { AtomicU64::new(0) }; 64],
            without_qfi: AtomicU64::default(),
            rqi: AtomicU64::default(),
            ppi: AtomicU64::default(),
            write_errors: AtomicU64::default(),
            packets_after_end_marker: AtomicU64::default(),
            end_markers: AtomicU64::default(),
            end_markers_seen: Mutex::default(),
        }
    }
}

impl DownlinkCounters {
    pub(crate) fn end_marker(&self) {
        self.end_markers.fetch_add(1, Relaxed);
        let after_packets = self.packets.load(Relaxed);
        if let Ok(mut seen) = self.end_markers_seen.lock()
            && seen.len() < KEPT
        {
            seen.push(EndMarkerSeen { after_packets });
        }
    }

    pub(crate) fn report(&self) -> DownlinkReport {
        let qfis = (0..).zip(&self.qfis).map(|(qfi, count)| QfiCount {
            qfi,
            packets: count.load(Relaxed),
        });
        DownlinkReport {
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            qfis: qfis.filter(|q| q.packets > 0).collect(),
            without_qfi: self.without_qfi.load(Relaxed),
            rqi: self.rqi.load(Relaxed),
            ppi: self.ppi.load(Relaxed),
            write_errors: self.write_errors.load(Relaxed),
            end_markers: self.end_markers.load(Relaxed),
            end_markers_seen: self
                .end_markers_seen
                .lock()
                .map_or_else(|_| Vec::new(), |seen| seen.clone()),
            packets_after_end_marker: self.packets_after_end_marker.load(Relaxed),
        }
    }
}
