//! What is counted, and where: each lcore has its own cells, written without locks or locked instructions, and the
//! management thread sums them. What is counted for the rules of a session is in [`crate::usage`].
//!
//! * [`LcoreCounters`]: drops by reason, other events, and what a P4 target punted, of one lcore.
//! * [`QueueCounters`]: the egress queues of one port at one lcore.

use crate::egress::QUEUES;
use std::sync::atomic::{AtomicU64, Ordering};
use upf_model::PuntReason;
use upf_model::batch::{Count, QueueUsage};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every one, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// Its name in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// Why a packet was dropped. Nothing is dropped without one.
    DropReason {
        /// Shorter than its headers say, or a wrong version or header length.
        Malformed => "malformed",
        /// IPv4 header checksum wrong.
        Checksum => "checksum",
        /// Addressed to another station.
        NotOurMac => "not_our_mac",
        /// A VLAN tag that is not the port's.
        Vlan => "vlan",
        /// Neither IPv4, IPv6 nor ARP.
        EtherType => "ether_type",
        /// Addressed to us, but nothing here serves it.
        NotServed => "not_served",
        /// A fragment of a tunnel packet.
        OuterFragment => "outer_fragment",
        /// GTP-U of a version or message type that is not served.
        GtpuUnsupported => "gtpu_unsupported",
        /// GTP-U that does not parse.
        GtpuMalformed => "gtpu_malformed",
        /// A GTP-U extension header that must be understood and is not (TS 29.281 5.2.1).
        ExtensionHeader => "extension_header",
        /// No session has this TEID.
        UnknownTeid => "unknown_teid",
        /// No session has this UE address.
        UnknownUe => "unknown_ue",
        /// What the tunnel carries is not IP.
        InnerNotIp => "inner_not_ip",
        /// The inner packet is malformed.
        InnerMalformed => "inner_malformed",
        /// The inner source is not an address of the session.
        Spoofed => "spoofed",
        /// No PDR of the session matches (TS 29.244 5.2.1).
        NoPdr => "no_pdr",
        /// The FAR says DROP.
        FarDrop => "far_drop",
        /// A QER's gate is closed.
        GateClosed => "gate_closed",
        /// Over a QER's bit rate.
        Policed => "policed",
        /// ECN: congestion was signalled on the outer header of a packet that cannot carry it on (RFC 6040).
        EcnCongestion => "ecn_congestion",
        /// Hop limit or TTL ran out.
        HopLimit => "hop_limit",
        /// Larger than the next link's MTU and not to be fragmented.
        TooBig => "too_big",
        /// No route in the network instance.
        NoRoute => "no_route",
        /// The next hop does not answer ARP or neighbour discovery, or too many packets wait for it.
        NoNeighbour => "no_neighbour",
        /// The session's buffer was full: its oldest packet went.
        BufferOldest => "buffer_oldest",
        /// The buffer of all sessions was full.
        BufferFull => "buffer_full",
        /// The FAR's buffer was discarded on request.
        BufferDiscarded => "buffer_discarded",
        /// The session went while packets were buffered.
        BufferSessionGone => "buffer_session_gone",
        /// The packet pool is empty.
        NoMbuf => "no_mbuf",
        /// No room in front of the packet for the new header.
        NoHeadroom => "no_headroom",
        /// The port did not take it.
        TxFull => "tx_full",
        /// Its queue of the port was full; `upf counters` says which.
        QueueFull => "queue_full",
        /// The lcore that the user belongs to is too far behind.
        LcoreFull => "lcore_full",
        /// At the host port, but no punted frame.
        NotPunted => "not_punted",
        /// Punted from a port of the P4 target that the configuration does not have.
        PuntPort => "punt_port",
    }
}

named! {
    /// What else is worth counting.
    HostEvent {
        /// GTP-U Echo Request answered.
        EchoAnswered => "gtpu_echo_answered",
        /// GTP-U Error Indication sent.
        ErrorIndicationSent => "gtpu_error_indication_sent",
        /// GTP-U Error Indication wanted but over its rate, or too early after a start to know all sessions.
        ErrorIndicationSuppressed => "gtpu_error_indication_suppressed",
        /// GTP-U Error Indication received.
        ErrorIndicationReceived => "gtpu_error_indication_received",
        /// GTP-U End Marker received.
        EndMarkerReceived => "gtpu_end_marker_received",
        /// GTP-U End Marker sent.
        EndMarkerSent => "gtpu_end_marker_sent",
        /// Supported Extension Headers Notification sent.
        ExtensionNotificationSent => "gtpu_extension_notification_sent",
        /// ARP or neighbour solicitation answered.
        NeighbourAnswered => "neighbour_answered",
        /// ARP request or neighbour solicitation sent.
        NeighbourAsked => "neighbour_asked",
        /// ICMP echo to an address of ours answered.
        IcmpEchoAnswered => "icmp_echo_answered",
        /// ICMP error sent.
        IcmpErrorSent => "icmp_error_sent",
        /// ICMP error wanted but over its rate.
        IcmpErrorSuppressed => "icmp_error_suppressed",
        /// Packets fragmented for a smaller MTU.
        Fragmented => "fragmented",
        /// Copies made for FARs with DUPL.
        Duplicated => "duplicated",
        /// Packets put into a buffer.
        Buffered => "buffered",
        /// Packets taken out of a buffer and forwarded.
        Drained => "drained",
        /// Reports that did not fit the queue to the management thread.
        EventLost => "event_lost",
        /// Packets handed over to the lcore that their user belongs to.
        HandedOver => "handed_over",
        /// Frames given to the P4 target to send.
        Reinjected => "reinjected",
        /// Flows reported, for the P4 target to have.
        FlowReported => "flow_reported",
        /// Packets of flows that had been reported a moment before.
        FlowSuppressed => "flow_suppressed",
        /// Downlink packets that left with a time stamp for QoS monitoring.
        MonitoringMarked => "qos_monitoring_marked",
        /// Answers to them.
        MonitoringAnswered => "qos_monitoring_answered",
        /// Uplink packets with time stamps that answer nothing we asked, or contradict themselves.
        MonitoringIgnored => "qos_monitoring_ignored",
    }
}

/// Two numbers that one lcore writes and anybody reads.
#[derive(Debug, Default)]
pub struct Cell {
    a: AtomicU64,
    b: AtomicU64,
}

impl Cell {
    /// Count one packet. Only the owning lcore may call this: two plain loads and stores, no locked instruction.
    #[inline(always)]
    pub fn count(&self, bytes: u64) {
        self.a.store(self.a.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.b.store(self.b.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
    /// Note the times of the first and last packet; writes only when the coarse clock has moved.
    #[inline(always)]
    pub fn seen(&self, now_ns: u64) {
        if self.b.load(Ordering::Relaxed) != now_ns {
            if self.a.load(Ordering::Relaxed) == 0 {
                self.a.store(now_ns, Ordering::Relaxed);
            }
            self.b.store(now_ns, Ordering::Relaxed);
        }
    }
    /// The two numbers as packets and bytes.
    pub fn read(&self) -> Count {
        Count {
            packets: self.a.load(Ordering::Relaxed),
            bytes: self.b.load(Ordering::Relaxed),
        }
    }
}

/// Drops, events and punts of one lcore.
#[derive(Debug)]
pub struct LcoreCounters {
    drops: [Cell; DropReason::COUNT],
    events: [AtomicU64; HostEvent::COUNT],
    /// By the reason's value, which starts with 1.
    punts: [Cell; PuntReason::ALL.len() + 1],
}

impl Default for LcoreCounters {
    fn default() -> Self {
        Self {
            drops: std::array::from_fn(|_| Cell::default()),
            events: std::array::from_fn(|_| AtomicU64::new(0)),
            punts: std::array::from_fn(|_| Cell::default()),
        }
    }
}

impl LcoreCounters {
    /// Count a dropped packet. Only the owning lcore may call this.
    #[inline]
    pub fn dropped(&self, reason: DropReason, bytes: usize) {
        self.drops[reason as usize].count(bytes as u64);
    }
    /// Count an event. Only the owning lcore may call this.
    #[inline]
    pub fn event(&self, event: HostEvent) {
        self.happened(event, 1);
    }
    /// Count so many of an event at once. Only the owning lcore may call this.
    #[inline]
    pub fn happened(&self, event: HostEvent, times: usize) {
        let cell = &self.events[event as usize];
        cell.store(cell.load(Ordering::Relaxed) + times as u64, Ordering::Relaxed);
    }
    /// Count a punted frame. Only the owning lcore may call this.
    #[inline]
    pub fn punted(&self, reason: PuntReason, bytes: usize) {
        self.punts[usize::from(reason as u8)].count(bytes as u64);
    }
    /// What was punted for this reason.
    pub fn punts(&self, reason: PuntReason) -> Count {
        self.punts[usize::from(reason as u8)].read()
    }
    /// What was dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> Count {
        self.drops[reason as usize].read()
    }
    /// How often this happened.
    pub fn events(&self, event: HostEvent) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }
}

/// The egress queues of one port at one lcore. Only that lcore writes.
#[derive(Debug, Default)]
pub struct QueueCounters([QueueCells; QUEUES]);

#[derive(Debug, Default)]
struct QueueCells {
    sent: Cell,
    dropped: Cell,
    longest_backlog: AtomicU64,
    marked: AtomicU64,
}

impl QueueCounters {
    /// Count a frame that leaves.
    #[inline]
    pub fn sent(&self, queue: usize, bytes: usize) {
        self.0[queue].sent.count(bytes as u64);
    }
    /// Count a frame that did not find room.
    pub fn dropped(&self, queue: usize, bytes: usize) {
        self.0[queue].dropped.count(bytes as u64);
    }
    /// Note how much waits.
    #[inline]
    pub fn backlog(&self, queue: usize, bytes: u64) {
        let longest = &self.0[queue].longest_backlog;
        if bytes > longest.load(Ordering::Relaxed) {
            longest.store(bytes, Ordering::Relaxed);
        }
    }
    /// Count a packet that was marked with Congestion Experienced.
    pub fn marked(&self, queue: usize) {
        let marked = &self.0[queue].marked;
        marked.store(marked.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    /// What was counted for each queue, from the lowest on.
    pub fn read(&self) -> Vec<QueueUsage> {
        let queue = |cells: &QueueCells| QueueUsage {
            sent: cells.sent.read(),
            dropped: cells.dropped.read(),
            longest_backlog_bytes: cells.longest_backlog.load(Ordering::Relaxed),
            ecn_marked: cells.marked.load(Ordering::Relaxed),
        };
        self.0.iter().map(queue).collect()
    }
}
