//! What upf-ctl tells upf-host, and what it hears back. Everything here crosses shared memory (`ipc/`).

// rkyv's derive makes types for the fields of enum variants, and gives them no documentation.
#![allow(missing_docs)]

use crate::{EndpointId, Epoch, FarId, OuterHeaderCreation, PdrId, QerId, Qfi, Session, SessionId, UrrId};
use rkyv::{Archive, Deserialize, Serialize};
use std::net::IpAddr;

/// From upf-ctl to upf-host.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ToHost {
    /// First message after (re)connecting. `controller` differs for every start of upf-ctl.
    Hello {
        /// Start of this upf-ctl.
        controller: u64,
    },
    /// A full synchronisation starts: what is not put before its end is stale.
    SyncBegin,
    /// The full synchronisation is complete: remove every session not put since `SyncBegin`.
    SyncEnd {
        /// Answered by `Applied` with the same number.
        seq: u64,
    },
    /// Apply these changes, each atomically, in order; all of them or none.
    Apply {
        /// Answered by `Applied` with the same number.
        seq: u64,
        /// In order.
        changes: Vec<Change>,
    },
    /// Report the counters of these sessions.
    QueryUsage {
        /// Answered by `Usage` with the same number.
        seq: u64,
        /// Which ones; unknown ones are left out of the answer.
        sessions: Vec<SessionId>,
    },
    /// Report the hardware address of every neighbour known now, each as an [`Event::Neighbour`].
    QueryNeighbours,
    /// Report ports, drops and buffers.
    QueryCounters {
        /// Answered by `Counters` with the same number.
        seq: u64,
    },
}

/// One change of one session, atomic for packets.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // Nearly all changes put a session: a box would only cost an allocation.
pub enum Change {
    /// Make the session be this. Counters of rules whose ids persist go on.
    Put {
        /// The whole session.
        session: Session,
        /// Send an End Marker to each of these once no packet can follow on the old path (TS 29.281 7.3.2).
        end_markers: Vec<OuterHeaderCreation>,
        /// Throw away what these FARs have buffered (DROBU, or the FAR now drops).
        discard_buffered: Vec<FarId>,
    },
    /// Remove the session. Its final usage comes with `Applied`.
    Remove {
        /// Which one.
        id: SessionId,
    },
}

/// From upf-host to upf-ctl.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum FromHost {
    /// The answer to `Hello`, and sent unasked when upf-host starts.
    Hello {
        /// Start of this upf-host: a new number means that its tables are empty.
        host: u64,
        /// How many sessions fit.
        max_sessions: u32,
    },
    /// The answer to `Apply` and `SyncEnd`, sent after the last packet under the old rules has left.
    Applied {
        /// As asked.
        seq: u64,
        /// Why not, in words, if it was refused; then nothing of the batch took effect.
        error: Option<String>,
        /// Final usage of the sessions removed.
        removed: Vec<SessionUsage>,
    },
    /// The answer to `QueryUsage`.
    Usage {
        /// As asked.
        seq: u64,
        /// One for each known session.
        sessions: Vec<SessionUsage>,
    },
    /// The answer to `QueryCounters`.
    Counters {
        /// As asked.
        seq: u64,
        /// Sums over all lcores.
        counters: HostCounters,
    },
    /// Something happened in the data plane.
    Event(Event),
}

/// Things the data plane reports unasked.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Event {
    /// The first downlink packet was buffered under a FAR with NOCP (TS 29.244 7.5.8.2).
    DownlinkData {
        /// Whose.
        session: SessionId,
        /// The PDR that detected it.
        pdr: PdrId,
        /// QoS flow of its QER.
        qfi: Option<Qfi>,
        /// Traffic class octet of the packet.
        dscp: u8,
    },
    /// A peer does not know this tunnel of its own (TS 29.281 7.3.1): stop sending, tell the SMF.
    ErrorIndication {
        /// The peer's GTP-U address.
        peer: IpAddr,
        /// The peer's TEID.
        teid: u32,
        /// The address of ours that it answered.
        endpoint: EndpointId,
    },
    /// A packet that a P4 target punted for want of a flow was classified: its flow may go there. Told once for many
    /// packets of a flow, and not for all flows of a flood.
    Flow(Flow),
    /// A neighbour's hardware address became known, or another one.
    Neighbour(Neighbour),
}

/// The flow of a packet that the host has classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct Flow {
    /// Whose.
    pub session: SessionId,
    /// The version of its rules under which it was classified.
    pub epoch: Epoch,
    /// The winner.
    pub pdr: PdrId,
    /// What rules can ask of it.
    pub packet: FlowPacket,
}

/// What the rules of the P4 path can ask of a packet: fields of the user's IP packet, its ends named by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct FlowPacket {
    /// The UE is its source.
    pub uplink: bool,
    /// The far end.
    pub remote: IpAddr,
    /// The UE's end.
    pub ue: IpAddr,
    /// Protocol, or next header.
    pub protocol: u8,
    /// The far end's port and the UE's; none: the packet has no ports.
    pub ports: Option<(u16, u16)>,
    /// ToS or traffic class octet.
    pub tos: u8,
    /// QoS flow from the PDU Session Container.
    pub qfi: Option<Qfi>,
}

/// A next hop whose hardware address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct Neighbour {
    /// Position of the port in the configuration.
    pub port: u16,
    /// Its address.
    pub addr: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// Packets and bytes (octets of the inner IP packet).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, o: Self) {
        self.packets += o.packets;
        self.bytes += o.bytes;
    }
}

/// The counters of one session since it was put, summed over lcores.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct SessionUsage {
    /// Whose.
    pub session: SessionId,
    /// Detected by each PDR.
    pub pdrs: Vec<(PdrId, Count)>,
    /// Passed and dropped by each QER.
    pub qers: Vec<(QerId, QerUsage)>,
    /// Measured by each URR.
    pub urrs: Vec<(UrrId, UrrUsage)>,
    /// In the buffer now.
    pub buffered: Count,
    /// Packet delay of the QoS flows that are monitored.
    pub delays: Vec<(Qfi, DelayUsage)>,
}

/// What QoS monitoring has measured of a QoS flow: sums over its answers, in nanoseconds between UPF and UE.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct DelayUsage {
    /// Measurements.
    pub answers: u64,
    /// To the UE.
    pub downlink_ns: u64,
    /// From the UE.
    pub uplink_ns: u64,
    /// There and back.
    pub round_trip_ns: u64,
}

/// What a QER did.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct QerUsage {
    /// Within its gate and rates.
    pub passed: Count,
    /// Dropped by a closed gate.
    pub gated: Count,
    /// Dropped over its rate.
    pub policed: Count,
}

/// What a URR measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct UrrUsage {
    /// Uplink volume.
    pub uplink: Count,
    /// Downlink volume.
    pub downlink: Count,
    /// First packet, nanoseconds since the UNIX epoch; 0: none yet.
    pub first_packet_ns: u64,
    /// Last packet, nanoseconds since the UNIX epoch (to about a millisecond); 0: none yet.
    pub last_packet_ns: u64,
}

/// Counters of the whole host data plane, summed over lcores.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct HostCounters {
    /// One for each port, in configuration order; with a P4 target, which has the ports, the host port alone.
    pub ports: Vec<PortCounters>,
    /// Every drop reason with its count, zero ones too.
    pub drops: Vec<(String, Count)>,
    /// Frames that a P4 target punted, by the name of the [`crate::PuntReason`], zero ones too; none without a target.
    /// Bytes are those of the frames as they came to the target.
    pub punts: Vec<(String, Count)>,
    /// Other events by name: echo answered, error indications sent, ICMP sent, ARP answered...
    pub events: Vec<(String, u64)>,
    /// In buffers now, all sessions.
    pub buffered: Count,
    /// Sessions in the table.
    pub sessions: u64,
    /// Packet buffers not in use.
    pub mempool_free: u64,
}

/// One port.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct PortCounters {
    /// Its configured name.
    pub name: String,
    /// Received.
    pub rx: Count,
    /// Sent.
    pub tx: Count,
    /// Dropped by the device on receive.
    pub rx_missed: u64,
    /// Not accepted by the device on transmit.
    pub tx_dropped: u64,
    /// Whether the link is up.
    pub link_up: bool,
    /// Its egress queues from the lowest on; none are configured: empty.
    pub queues: Vec<QueueUsage>,
}

/// One egress queue of a port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize,
)]
pub struct QueueUsage {
    /// Handed over to the device. Bytes are those of frames.
    pub sent: Count,
    /// Found the queue full.
    pub dropped: Count,
    /// The most that has waited at an lcore since the start; bytes on the wire.
    pub longest_backlog_bytes: u64,
    /// Packets marked with Congestion Experienced.
    pub ecn_marked: u64,
}

impl std::ops::AddAssign for QueueUsage {
    fn add_assign(&mut self, o: Self) {
        self.sent += o.sent;
        self.dropped += o.dropped;
        self.longest_backlog_bytes = self.longest_backlog_bytes.max(o.longest_backlog_bytes);
        self.ecn_marked += o.ecn_marked;
    }
}
