//! How frames leave a busy port: order, shares, rate, limits, marks. Time is simulated.

mod support;

use arrayvec::ArrayVec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use support::*;
use upf_config::Egress;
use upf_host::counters::{DropReason, LcoreCounters, QueueCounters};
use upf_host::egress::{Class, Line, Marking, PortOutlet, Profile, QUEUES, wire_bytes};
use upf_host::packet::{HeapPacket, Packet};
use upf_host::pipeline::BURST;

const START_NS: u64 = 1_000_000_000;
const MTU: u16 = 1_500;
/// The longest frame without a tag, and what it takes on the wire.
const LONG: usize = 1_514;
const LONG_ON_WIRE: u64 = 1_538;

/// A device that takes so many frames more.
struct Device {
    room: usize,
    taken: Vec<Vec<u8>>,
}

impl Line<HeapPacket> for Device {
    fn transmit(&mut self, frames: &mut ArrayVec<HeapPacket, BURST>) {
        let taken = frames.len().min(self.room);
        self.room -= taken;
        self.taken
            .extend(frames.drain(..taken).map(|frame| frame.bytes().to_vec()));
    }
}

/// A port, its counters and its clock.
struct Port {
    outlet: PortOutlet<HeapPacket, Device>,
    counters: LcoreCounters,
    queues: Arc<QueueCounters>,
    now_ns: u64,
    next: u32,
}

impl Port {
    fn unscheduled(room: usize) -> Self {
        Self {
            outlet: PortOutlet::new(Device { room, taken: vec![] }),
            counters: LcoreCounters::default(),
            queues: Arc::default(),
            now_ns: START_NS,
            next: 0,
        }
    }

    fn new(egress: &Egress, room: usize) -> Self {
        Self::sharing(&Arc::new(Profile::new(egress, MTU)), room)
    }

    /// One lcore's side of a port that others use too.
    fn sharing(profile: &Arc<Profile>, room: usize) -> Self {
        let port = Self::unscheduled(room);
        Self {
            outlet: port.outlet.scheduled(profile.clone(), port.queues.clone()),
            ..port
        }
    }

    /// Send a frame of this length that says its number and its class' queue.
    fn send(&mut self, len: usize, class: Class) -> u32 {
        let number = self.next;
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes[4] = class.queue;
        self.next += 1;
        self.send_bytes(&bytes, class);
        number
    }

    fn send_bytes(&mut self, bytes: &[u8], class: Class) {
        let packet = HeapPacket::new(bytes);
        self.outlet.send(packet, class, self.now_ns, &self.counters);
    }

    /// What leaves now.
    fn flush(&mut self) -> Vec<Frame> {
        self.outlet.flush(self.now_ns, &self.counters);
        self.taken().iter().map(|bytes| Frame::read(bytes)).collect()
    }

    fn taken(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outlet.line().taken)
    }

    /// The device has room for so many.
    fn make_room(&mut self, room: usize) {
        self.outlet.line().room = room;
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.drops(reason).packets
    }

    /// Frames that leave within this time, each with when it left; the clock goes from departure to departure.
    fn run(&mut self, ns: u64) -> Vec<(u64, Frame)> {
        let end = self.now_ns + ns;
        let mut left = Vec::new();
        loop {
            left.extend(self.flush().into_iter().map(|frame| (self.now_ns, frame)));
            match self.outlet.next_departure(self.now_ns) {
                Some(at) if at < end => self.now_ns = at,
                _ => break,
            }
        }
        self.now_ns = end;
        left
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    number: u32,
    queue: u8,
    len: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Self {
        Self {
            number: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            queue: bytes[4],
            len: bytes.len(),
        }
    }
}

fn numbers(frames: &[Frame]) -> Vec<u32> {
    frames.iter().map(|f| f.number).collect()
}

fn with_rate(rate_mbps: u32) -> Egress {
    Egress {
        rate_mbps: Some(rate_mbps),
        ..Egress::default()
    }
}

#[test]
fn while_the_port_takes_everything_frames_leave_at_once_in_the_order_they_came() {
    let mut port = Port::new(&Egress::default(), usize::MAX);
    let sent: Vec<u32> = [0, 7, 3, 0, 5].map(|q| port.send(100, Class::queue(q))).to_vec();
    assert_eq!(port.outlet.held(), 0);
    assert_eq!(numbers(&port.flush()), sent);
    let counted = port.queues.read();
    assert_eq!((counted[0].sent.packets, counted[0].sent.bytes), (2, 200));
    assert_eq!(counted[0].longest_backlog_bytes, 0);
}

#[test]
fn a_busy_port_is_given_the_highest_strict_queue_first_and_each_in_its_order() {
    let mut port = Port::new(&Egress::default(), 0);
    for _ in 0..BURST {
        port.send(100, Class::queue(0)); // with the device, or as good as
    }
    let mut sent: Vec<(u8, u32)> = [4, 0, 7, 5, 7, 6, 4, 0]
        .map(|q| (q, port.send(100, Class::queue(q))))
        .to_vec();
    port.make_room(BURST);
    assert_eq!(port.flush().len(), BURST);
    port.make_room(usize::MAX);
    sent.sort_by_key(|(queue, number)| (std::cmp::Reverse(*queue), *number));
    let expected: Vec<u32> = sent.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers(&port.flush()), expected);
}

#[test]
fn a_port_without_queues_that_is_full_drops_the_lowest_queues_first() {
    let mut port = Port::unscheduled(5);
    let sent: Vec<u32> = [0, 0, 0, 7, 1, 0, 7, 1]
        .map(|q| port.send(100, Class::queue(q)))
        .to_vec();
    port.outlet.flush(port.now_ns, &port.counters);
    let left = port.taken();
    assert_eq!(left.len(), 5, "what the device takes at first goes as it came");
    assert_eq!(port.dropped(DropReason::TxFull), 3);
    // The device takes nothing at first, then has room while it is asked again.
    struct Slow(usize, Vec<u32>);
    impl Line<HeapPacket> for Slow {
        fn transmit(&mut self, frames: &mut ArrayVec<HeapPacket, BURST>) {
            self.0 += 1;
            if self.0 == 2 {
                self.1 = frames.drain(..4).map(|f| Frame::read(f.bytes()).number).collect();
            }
        }
    }
    let mut outlet = PortOutlet::new(Slow(0, vec![]));
    for (queue, number) in [0u8, 0, 0, 7, 1, 0, 7, 1].into_iter().zip(&sent) {
        let mut bytes = [0; 100];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        outlet.send(HeapPacket::new(&bytes), Class::queue(queue), START_NS, &port.counters);
    }
    outlet.flush(START_NS, &port.counters);
    assert_eq!(outlet.line().1, [sent[3], sent[6], sent[4], sent[7]]);
    assert_eq!(port.dropped(DropReason::TxFull), 3 + 4);
}

#[test]
fn the_rate_is_exact_whatever_the_frames() {
    for (mbps, seconds) in [(1, 20), (10, 4), (100, 1), (1_000, 1)] {
        let mut port = Port::new(&with_rate(mbps), usize::MAX);
        let end = START_NS + seconds * 1_000_000_000;
        let mut bits = 0;
        let lengths = [60, 1_514, 300, 999];
        let mut turn = 0;
        while port.now_ns < end {
            while port.outlet.held() < 64 {
                turn += 1;
                port.send(lengths[turn % 4], Class::queue((turn % 8) as u8));
            }
            bits += port
                .flush()
                .iter()
                .map(|f| u64::from(wire_bytes(f.len)) * 8)
                .sum::<u64>();
            // The lcore comes back when something may leave, or a little late.
            port.now_ns = port.outlet.next_departure(port.now_ns).unwrap() + (turn as u64 % 5) * 10_000;
        }
        let seconds = (port.now_ns - START_NS) as f64 / 1e9;
        let off = bits as f64 / (f64::from(mbps) * 1e6 * seconds) - 1.0;
        assert!(off.abs() < 0.01, "{mbps} Mbit/s: {:.3} % off", off * 100.0);
    }
}

#[test]
fn lcores_that_share_a_port_share_its_rate_and_one_alone_has_all_of_it() {
    let profile = Arc::new(Profile::new(&with_rate(100), MTU));
    let mut lcores = [Port::sharing(&profile, usize::MAX), Port::sharing(&profile, usize::MAX)];
    let mut bits = [0u64; 2];
    let (second, step_ns) = (1_000_000_000, 50_000);
    // Both have packets for a second, then only the first one.
    for now_ns in (START_NS..START_NS + 2 * second).step_by(step_ns) {
        for (number, lcore) in lcores.iter_mut().enumerate() {
            lcore.now_ns = now_ns;
            while lcore.outlet.held() < 8 && (number == 0 || now_ns < START_NS + second) {
                lcore.send(LONG, Class::queue(0));
            }
            bits[number] += lcore.flush().len() as u64 * LONG_ON_WIRE * 8;
        }
    }
    let off = (bits[0] + bits[1]) as f64 / 200e6 - 1.0;
    assert!(off.abs() < 0.01, "{bits:?}");
    assert!(bits[0] > 100_000_000, "{bits:?}");
}

#[test]
fn what_waits_is_sent_as_fast_as_the_rate_allows_and_nothing_waits_below_it() {
    let mut port = Port::new(&with_rate(100), usize::MAX);
    let gap_ns = LONG_ON_WIRE * 80 + 1;
    for _ in 0..1_000 {
        port.send(LONG, Class::queue(0));
        assert_eq!(port.flush().len(), 1);
        port.now_ns += gap_ns;
    }
    assert_eq!(port.queues.read()[0].longest_backlog_bytes, 0);
    // And from a backlog, the line never rests.
    let wanted = 300;
    for _ in 0..wanted {
        port.send(LONG, Class::queue(0));
    }
    let left = port.run(wanted * LONG_ON_WIRE * 80);
    assert_eq!(left.len() as u64, wanted);
}

#[test]
fn limits_hold_in_packets_and_in_time_and_what_is_over_is_counted() {
    let egress = Egress {
        queue_packets: 10,
        ..Egress::default()
    };
    let mut port = Port::new(&egress, 0);
    for _ in 0..BURST + 10 + 7 {
        port.send(100, Class::queue(3));
    }
    assert_eq!((port.outlet.held(), port.dropped(DropReason::QueueFull)), (10, 7));
    assert_eq!(port.queues.read()[3].dropped.packets, 7);
    assert_eq!(port.queues.read()[2].dropped.packets, 0);

    let egress = Egress {
        queue_ms: 20,
        burst_us: 0,
        ..with_rate(10)
    };
    let mut port = Port::new(&egress, usize::MAX);
    for _ in 0..100 {
        port.send(LONG, Class::queue(0));
    }
    let limit = 10_000_000 / 8 / 50; // 20 ms
    let backlog = port.queues.read()[0].longest_backlog_bytes;
    assert!(
        (limit - LONG_ON_WIRE..=limit).contains(&backlog),
        "{backlog} of {limit}"
    );
    let left = port.run(1_000_000_000);
    let waited = left.last().unwrap().0 - START_NS;
    assert!(waited <= 20_000_000 + LONG_ON_WIRE * 800, "{waited} ns");
}

#[test]
fn packets_of_our_own_pass_whatever_users_do() {
    let mut port = Port::new(&with_rate(10), usize::MAX);
    // Users overload every queue, the highest too.
    for round in 0..2_000u32 {
        port.send(LONG, Class::queue((round % 8) as u8));
    }
    let full = port.dropped(DropReason::QueueFull);
    assert!(full > 1_000);
    let own: Vec<u32> = (0..10).map(|_| port.send(60, Class::OWN)).collect();
    assert_eq!(port.dropped(DropReason::QueueFull), full, "none of ours is dropped");
    let left = port.run(100_000_000);
    let ours: Vec<u32> = left.iter().map(|(_, f)| f.number).filter(|n| own.contains(n)).collect();
    assert_eq!(ours, own);
    // If users fill lower queues only, ours wait for one frame that is on its way.
    let mut port = Port::new(&with_rate(10), usize::MAX);
    for _ in 0..2_000 {
        port.send(LONG, Class::queue(6));
    }
    port.run(30_000_000);
    let (asked, number) = (port.now_ns, port.send(60, Class::OWN));
    let left = port.run(10_000_000);
    let (at, _) = left.iter().find(|(_, f)| f.number == number).unwrap();
    assert!(at - asked <= LONG_ON_WIRE * 800, "{} ns", at - asked);
}

/// Percentile 99 of what frames of one flow take from their arrival to their last bit at the port's rate, microseconds,
/// while `load` times the port's rate comes beside them.
fn delay_of_a_priority_flow(load: f64, queue: u8) -> f64 {
    const MBPS: u64 = 100;
    let mut port = Port::new(&with_rate(MBPS as u32), usize::MAX);
    let on_wire_ns = LONG_ON_WIRE * 8_000 / MBPS;
    let (every_ns, end) = (1_000_000, START_NS + 2_000_000_000);
    let beside_ns = (on_wire_ns as f64 / load.max(1e-9)) as u64;
    let (mut next, mut beside) = (START_NS + 12_345, if load > 0.0 { START_NS } else { u64::MAX });
    let mut asked = VecDeque::new();
    let mut delays = Vec::new();
    while port.now_ns < end {
        let departure = port.outlet.next_departure(port.now_ns).unwrap_or(u64::MAX);
        port.now_ns = departure.min(next).min(beside);
        if port.now_ns == beside {
            port.send(LONG, Class::queue(0));
            beside += beside_ns;
        }
        if port.now_ns == next {
            asked.push_back((port.send(LONG, Class::queue(queue)), next));
            next += every_ns;
        }
        for frame in port.flush() {
            if asked.front().is_some_and(|(number, _)| *number == frame.number) {
                let (_, since) = asked.pop_front().unwrap();
                delays.push((port.now_ns - since + on_wire_ns) as f64 / 1e3);
            }
        }
    }
    assert!(delays.len() > 1_900 || queue == 0, "{} arrived", delays.len());
    delays.sort_by(f64::total_cmp);
    delays[delays.len() * 99 / 100]
}

#[test]
fn under_twice_the_load_a_priority_flow_keeps_its_delay_within_twice_and_an_ordinary_one_does_not() {
    let unloaded = delay_of_a_priority_flow(0.0, 7);
    let loaded = delay_of_a_priority_flow(2.0, 7);
    assert!(
        loaded <= 2.0 * unloaded,
        "{loaded} us under load, {unloaded} us without"
    );
    let weighted = delay_of_a_priority_flow(2.0, 3);
    assert!(
        weighted <= 3.0 * unloaded,
        "{weighted} us within its share, {unloaded} us without load"
    );
    let ordinary = delay_of_a_priority_flow(2.0, 0);
    assert!(ordinary > 20.0 * unloaded, "{ordinary} us");
}

/// The ECN field of an IP packet.
fn ecn(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 { ip[1] & 3 } else { ip[1] >> 4 & 3 }
}

fn with_ecn(mut ip: Vec<u8>, ecn: u8) -> Vec<u8> {
    upf_host::traffic_class::set(&mut ip, 0xb8 | ecn);
    ip
}

#[test]
fn only_packets_that_waited_too_long_that_ask_for_it_and_whose_ends_know_ecn_are_marked() {
    let egress = Egress {
        burst_us: 0,
        ..with_rate(10)
    };
    let mut port = Port::new(&egress, usize::MAX);
    let filler = udp(SERVER, UE, 64, &[0; 1_200]);
    let mut frames = Vec::new();
    for (position, asks) in [(0, true), (1, true), (1, false)] {
        for field in 0..4 {
            frames.push((position, asks, with_ecn(udp(SERVER, UE, 64, &[9; 40]), field)));
        }
    }
    let send = |port: &mut Port, asks: bool, ip: &[u8]| {
        let marking = asks.then_some(Marking {
            user_len: ip.len() as u16,
            udp_checksum: 0,
        });
        let class = Class {
            marking,
            ..Class::queue(5)
        };
        port.send_bytes(&downlink(ip), class);
    };
    // First those that come when there is nearly nothing in the queue, then those behind 10 ms of others.
    for (position, asks, ip) in &frames {
        if *position == 1 && port.queues.read()[5].longest_backlog_bytes < 10_000 {
            (0..12).for_each(|_| send(&mut port, false, &filler));
        }
        send(&mut port, *asks, ip);
    }
    port.outlet.flush(port.now_ns, &port.counters);
    let mut left = port.taken();
    while let Some(at) = port.outlet.next_departure(port.now_ns) {
        port.now_ns = at;
        port.outlet.flush(at, &port.counters);
        left.extend(port.taken());
    }
    left.retain(|frame| frame.len() < 200);
    let fields: Vec<u8> = left.iter().map(|frame| ecn(ip_of(frame))).collect();
    let (soon, late, not_asked) = ([0, 1, 2, 3], [0, 3, 3, 3], [0, 1, 2, 3]);
    assert_eq!(fields, [soon, late, not_asked].concat());
    assert_eq!(port.queues.read()[5].ecn_marked, 2);
    for frame in &left {
        let (header, _) = etherparse::Ipv4Header::from_slice(ip_of(frame)).unwrap();
        assert_eq!(header.calc_header_checksum(), header.header_checksum);
        assert_eq!(header.dscp.value(), 0xb8 >> 2);
    }
}

/// One step of a port's life.
#[derive(Debug, Clone)]
enum Step {
    Arrive { queue: u8, len: usize, own: bool },
    Wait { ns: u64, room: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrive = (0u8..8, 60usize..1_515, prop::bool::weighted(0.05)).prop_map(|(queue, len, own)| Step::Arrive {
        queue,
        len,
        own,
    });
    let wait =
        (0u64..300_000, prop_oneof![Just(0), 0usize..80, Just(1_000)]).prop_map(|(ns, room)| Step::Wait { ns, room });
    prop::collection::vec(prop_oneof![4 => arrive, 1 => wait], 1..600)
}

fn any_egress() -> impl Strategy<Value = Egress> {
    let weights = prop::collection::vec(1u8..20, 0..=8);
    (prop::option::of(1u32..1_000), weights, 1u32..40).prop_map(|(rate_mbps, weights, queue_packets)| Egress {
        rate_mbps,
        weights,
        queue_packets,
        ..Egress::default()
    })
}

proptest! {
    #[test]
    fn every_frame_leaves_or_is_counted_or_waits_and_each_queue_keeps_its_order_and_limit(
        egress in any_egress(), steps in steps()
    ) {
        let mut port = Port::new(&egress, 0);
        let mut left = Vec::new();
        for step in &steps {
            match *step {
                Step::Arrive { queue, len, own } => {
                    port.send(len, Class { own, ..Class::queue(queue) });
                    prop_assert!(port.outlet.held() as u64 <= egress.packets());
                }
                Step::Wait { ns, room } => {
                    port.now_ns += ns;
                    port.make_room(room);
                    left.extend(port.flush());
                }
            }
        }
        let dropped = port.dropped(DropReason::QueueFull);
        prop_assert!(left.len() as u64 + dropped <= u64::from(port.next));
        port.make_room(usize::MAX);
        left.extend(port.run(1_000_000_000_000).into_iter().map(|(_, frame)| frame));
        prop_assert_eq!(port.outlet.held(), 0);
        prop_assert_eq!(left.len() as u64 + dropped, u64::from(port.next));
        for queue in 0..QUEUES as u8 {
            let of_queue: Vec<u32> = left.iter().filter(|f| f.queue == queue).map(|f| f.number).collect();
            prop_assert!(of_queue.is_sorted(), "queue {}: {:?}", queue, of_queue);
            let counted = port.queues.read()[usize::from(queue)];
            prop_assert_eq!(counted.sent.packets, of_queue.len() as u64);
        }
        let counted: u64 = port.queues.read().iter().map(|q| q.dropped.packets).sum();
        prop_assert_eq!(counted, dropped);
    }

    /// Shreedhar and Varghese: while two queues both have packets, what they sent, each divided by its weight, differs by
    /// no more than a quantum and a longest frame of each.
    #[test]
    fn weighted_queues_that_have_packets_share_by_weight_to_within_a_quantum(
        weights in prop::collection::vec(1u8..10, 2..=8),
        arrivals in prop::collection::vec((0usize..8, 60usize..1_515), 200..800),
        batch in 1usize..40,
    ) {
        let egress = Egress { weights: weights.clone(), queue_packets: 1_000, burst_us: 0, ..with_rate(100) };
        let mut port = Port::new(&egress, usize::MAX);
        let quantum = u64::from(wire_bytes(usize::from(MTU) + 18)) as f64;
        let least = f64::from(*weights.iter().min().unwrap());
        // Since when two queues have both had packets, and what each had sent by then.
        let mut waiting = vec![0usize; weights.len()];
        let mut sent = vec![0.0; weights.len()];
        let mut since = vec![vec![None; weights.len()]; weights.len()];
        let mut serve = |port: &mut Port, waiting: &mut Vec<usize>| -> Result<(), TestCaseError> {
            for frame in port.flush() {
                let queue = usize::from(frame.queue);
                sent[queue] += f64::from(wire_bytes(frame.len)) / (f64::from(weights[queue]) / least);
                waiting[queue] -= 1;
                for a in 0..weights.len() {
                    for b in 0..a {
                        if waiting[a] == 0 || waiting[b] == 0 {
                            since[a][b] = None;
                            continue;
                        }
                        let (from_a, from_b) = *since[a][b].get_or_insert((sent[a], sent[b]));
                        let apart: f64 = (sent[a] - from_a) - (sent[b] - from_b);
                        prop_assert!(apart.abs() <= 3.0 * quantum, "queues {} and {}: {} bytes apart", a, b, apart);
                    }
                }
            }
            Ok(())
        };
        for batch in arrivals.chunks(batch) {
            for (queue, len) in batch {
                let queue = queue % weights.len();
                waiting[queue] += 1;
                port.send(*len, Class::queue(queue as u8));
            }
            for _ in 0..batch.len() / 2 {
                serve(&mut port, &mut waiting)?;
                port.now_ns = port.outlet.next_departure(port.now_ns).unwrap_or(port.now_ns);
            }
        }
        while let Some(at) = port.outlet.next_departure(port.now_ns) {
            port.now_ns = at;
            serve(&mut port, &mut waiting)?;
        }
    }
}
