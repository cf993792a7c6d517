//! What is counted, and where: each lcore has its own cells, written without locks or locked instructions, and the
//! management thread sums them.
//!
//! * [`LcoreCounters`]: drops by reason, other events, and what a P4 target punted, of one lcore.
//! * [`QueueCounters`]: the egress queues of one port at one lcore.
//! * [`SessionCounters`]: the cells of one session's rules for every lcore. They outlive a change of the rules: a
//!   rule that keeps its id keeps its cells.

use crate::egress::QUEUES;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use upf_model::batch::{Count, QerUsage, QueueUsage, SessionUsage, UrrUsage};
use upf_model::{PdrId, PuntReason, QerId, Session, UrrId};

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
    fn seen(&self, now_ns: u64) {
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
        let cell = &self.events[event as usize];
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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

/// Which rule a cell belongs to, and what it counts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellOf {
    /// Packets a PDR detected.
    Pdr(PdrId),
    /// Packets within a QER's gate and rates.
    QerPassed(QerId),
    /// Packets dropped by a QER's gate.
    QerGated(QerId),
    /// Packets dropped over a QER's rate.
    QerPoliced(QerId),
    /// A URR's uplink volume.
    UrrUplink(UrrId),
    /// A URR's downlink volume.
    UrrDownlink(UrrId),
    /// A URR's first and last packet.
    UrrTimes(UrrId),
}

/// Four cells: one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Cell; 4]);

/// Index of a cell within its session.
pub type CellIndex = u16;

/// The cells of one session: for each lcore a run of whole cache lines. Clones share them.
#[derive(Debug, Clone)]
pub struct SessionCounters {
    lines: Arc<[Line]>,
    lines_per_lcore: usize,
}

impl SessionCounters {
    fn new(lcores: usize, cells: usize) -> Self {
        let lines_per_lcore = cells.div_ceil(4);
        Self {
            lines: (0..lcores * lines_per_lcore).map(|_| Line::default()).collect(),
            lines_per_lcore,
        }
    }
    /// The cell of one lcore.
    #[inline(always)]
    pub fn cell(&self, lcore: usize, index: CellIndex) -> &Cell {
        let index = usize::from(index);
        &self.lines[lcore * self.lines_per_lcore + index / 4].0[index % 4]
    }
    /// Note a packet's time for a URR.
    #[inline(always)]
    pub fn seen(&self, lcore: usize, index: CellIndex, now_ns: u64) {
        self.cell(lcore, index).seen(now_ns);
    }
    fn capacity(&self) -> usize {
        self.lines_per_lcore * 4
    }
    fn lcores(&self) -> usize {
        self.lines.len().checked_div(self.lines_per_lcore).unwrap_or(0)
    }
}

/// The management thread's view of a session's cells: which rule has which, and what earlier blocks had counted.
#[derive(Debug, Default)]
pub struct CellMap {
    current: Option<SessionCounters>,
    index: HashMap<CellOf, CellIndex>,
    /// The next cell of `current` never given out. Cells of removed rules are not given to others: a late packet
    /// may still count in them.
    next: usize,
    /// Blocks that were outgrown and in which a reader may still be counting.
    outgrown: Vec<(SessionCounters, HashMap<CellOf, CellIndex>)>,
    /// What settled blocks had counted.
    settled: HashMap<CellOf, Count>,
}

impl CellMap {
    /// Give every rule of `session` its cells, keeping those of rules that stay, and return the block.
    pub fn fit(&mut self, session: &Session, lcores: usize) -> SessionCounters {
        let wanted = wanted(session);
        let missing: Vec<CellOf> = wanted.iter().copied().filter(|c| !self.index.contains_key(c)).collect();
        if let Some(block) = &self.current {
            if self.next + missing.len() <= block.capacity() {
                for of in missing {
                    self.index.insert(of, self.next as CellIndex);
                    self.next += 1;
                }
                return block.clone();
            }
            self.outgrown.push((block.clone(), std::mem::take(&mut self.index)));
        }
        let block = SessionCounters::new(lcores, wanted.len());
        self.index = wanted.iter().enumerate().map(|(i, &c)| (c, i as CellIndex)).collect();
        self.next = wanted.len();
        self.current = Some(block.clone());
        block
    }

    /// Forget the cells of rules that `session` does not have: a rule made later under the same id starts from zero.
    pub fn keep_only(&mut self, session: &Session) {
        let wanted = wanted(session);
        let stays = |of: &CellOf| wanted.contains(of);
        self.index.retain(|of, _| stays(of));
        self.outgrown
            .iter_mut()
            .for_each(|(_, index)| index.retain(|of, _| stays(of)));
        self.settled.retain(|of, _| stays(of));
    }

    /// No reader uses anything but the current block any more: fold the others into plain numbers.
    pub fn settle(&mut self) {
        for (block, index) in std::mem::take(&mut self.outgrown) {
            for (of, cell) in index {
                let sum = self.settled.entry(of).or_default();
                for lcore in 0..block.lcores() {
                    merge(of, sum, block.cell(lcore, cell).read());
                }
            }
        }
    }

    /// The cell of a rule in the current block.
    pub fn index(&self, cell: CellOf) -> CellIndex {
        self.index[&cell]
    }

    /// Everything counted for the rules of `session`, summed over lcores and blocks.
    pub fn usage(&self, session: &Session) -> SessionUsage {
        SessionUsage {
            session: session.id,
            pdrs: session
                .pdrs
                .iter()
                .map(|p| (p.id, self.total(CellOf::Pdr(p.id))))
                .collect(),
            qers: session
                .qers
                .iter()
                .map(|q| {
                    let usage = QerUsage {
                        passed: self.total(CellOf::QerPassed(q.id)),
                        gated: self.total(CellOf::QerGated(q.id)),
                        policed: self.total(CellOf::QerPoliced(q.id)),
                    };
                    (q.id, usage)
                })
                .collect(),
            urrs: session
                .urrs
                .iter()
                .map(|u| {
                    let times = self.total(CellOf::UrrTimes(u.id));
                    let usage = UrrUsage {
                        uplink: self.total(CellOf::UrrUplink(u.id)),
                        downlink: self.total(CellOf::UrrDownlink(u.id)),
                        first_packet_ns: times.packets,
                        last_packet_ns: times.bytes,
                    };
                    (u.id, usage)
                })
                .collect(),
            buffered: Count::default(),
            delays: Vec::new(),
        }
    }

    fn total(&self, of: CellOf) -> Count {
        let mut total = self.settled.get(&of).copied().unwrap_or_default();
        let current = self.current.iter().map(|b| (b, &self.index));
        for (block, index) in current.chain(self.outgrown.iter().map(|(b, i)| (b, i))) {
            if let Some(&cell) = index.get(&of) {
                (0..block.lcores()).for_each(|lcore| merge(of, &mut total, block.cell(lcore, cell).read()));
            }
        }
        total
    }
}

/// Add one lcore's numbers to a total: sums, or for times the earliest and the latest.
fn merge(of: CellOf, total: &mut Count, cell: Count) {
    match of {
        CellOf::UrrTimes(_) => {
            let (first, last) = (cell.packets, cell.bytes);
            if total.packets == 0 || (first != 0 && first < total.packets) {
                total.packets = first;
            }
            total.bytes = total.bytes.max(last);
        }
        _ => *total += cell,
    }
}

/// The cells of a session, those touched by one packet side by side.
fn wanted(session: &Session) -> Vec<CellOf> {
    let pdrs = session.pdrs.iter().map(|p| CellOf::Pdr(p.id));
    let hot_qers = session.qers.iter().map(|q| CellOf::QerPassed(q.id));
    let urrs = session.urrs.iter().flat_map(|u| {
        [
            CellOf::UrrUplink(u.id),
            CellOf::UrrDownlink(u.id),
            CellOf::UrrTimes(u.id),
        ]
    });
    let cold_qers = session
        .qers
        .iter()
        .flat_map(|q| [CellOf::QerGated(q.id), CellOf::QerPoliced(q.id)]);
    pdrs.chain(hot_qers).chain(urrs).chain(cold_qers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upf_model::{MeasurementMethod, Urr};

    fn session(urrs: u32) -> Session {
        let method = MeasurementMethod {
            volume: true,
            duration: false,
            event: false,
        };
        Session {
            urrs: (0..urrs)
                .map(|i| Urr {
                    id: UrrId(i),
                    method,
                    before_qos: false,
                    reporting: Default::default(),
                })
                .collect(),
            ..Session::default()
        }
    }

    #[test]
    fn counts_survive_a_block_that_was_outgrown() {
        let mut map = CellMap::default();
        let small = map.fit(&session(1), 2);
        small.cell(1, map.index(CellOf::UrrUplink(UrrId(0)))).count(100);
        let large = map.fit(&session(5), 2);
        assert!(!Arc::ptr_eq(&small.lines, &large.lines));
        large.cell(0, map.index(CellOf::UrrUplink(UrrId(0)))).count(50);
        let usage = map.usage(&session(5));
        assert_eq!(usage.urrs[0].1.uplink, Count { packets: 2, bytes: 150 });
        assert_eq!(usage.urrs[4].1.uplink, Count::default());
        map.settle();
        assert_eq!(
            map.usage(&session(5)).urrs[0].1.uplink,
            Count { packets: 2, bytes: 150 }
        );
    }

    #[test]
    fn a_rule_that_was_removed_and_made_again_starts_from_zero() {
        let mut map = CellMap::default();
        map.fit(&session(1), 1)
            .cell(0, map.index(CellOf::UrrUplink(UrrId(0))))
            .count(100);
        map.fit(&session(0), 1);
        map.keep_only(&session(0));
        map.fit(&session(1), 1);
        assert_eq!(map.usage(&session(1)).urrs[0].1.uplink, Count::default());
    }

    #[test]
    fn unchanged_rules_keep_their_block() {
        let mut map = CellMap::default();
        let first = map.fit(&session(2), 1);
        assert!(Arc::ptr_eq(&first.lines, &map.fit(&session(2), 1).lines));
        assert!(Arc::ptr_eq(&first.lines, &map.fit(&session(1), 1).lines));
    }

    #[test]
    fn first_and_last_packet_times_are_over_all_lcores() {
        let mut map = CellMap::default();
        let block = map.fit(&session(1), 2);
        let times = map.index(CellOf::UrrTimes(UrrId(0)));
        block.seen(0, times, 20);
        block.seen(1, times, 10);
        block.seen(1, times, 30);
        let usage = map.usage(&session(1)).urrs[0].1;
        assert_eq!((usage.first_packet_ns, usage.last_packet_ns), (10, 30));
    }
}
