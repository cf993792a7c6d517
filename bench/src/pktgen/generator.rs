//! One lcore that sends and receives: frames out at a rate, or as many as may be in flight; what comes back is counted,
//! timed and checked for its order.
//!
//! One thread does both, so that one clock stamps and reads, and a machine with two CPUs has one left for the UPF. What
//! the thread cannot send in time (it was stopped, or its CPU is too slow) is not offered: the tally has what was.

use super::frames::{Arp, Headers, Link, Stamp, Template, Way};
use super::latency::Histogram;
use super::mix::{Picks, Sizes};
use arrayvec::ArrayVec;
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use upf_host::dpdk::{Mbuf, Mempool, Queues, RxQueue, TxQueue, tsc, tsc_hz};
use upf_host::packet::Packet;

/// Packets of a burst.
const BURST: usize = 32;
/// After a pause of its own the generator sends no more than this at once; the rest it has not offered.
const MOST_BEHIND: u64 = 128;
/// What has not come this long after the last packet was sent is lost.
const DRAIN: Duration = Duration::from_millis(500);
/// With a window: if nothing comes for so long, what is on the way is taken for lost.
const STUCK: Duration = Duration::from_millis(200);
/// How long an end waits for the UPF's answer to ARP.
const RESOLVE: Duration = Duration::from_secs(3);

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many packets a second, all directions together, whatever comes back.
    Rate(f64),
    /// As fast as it goes with no more than so many in flight: nothing overflows, and all that waits is inside.
    Window(u64),
    /// So many packets as fast as they can be sent.
    Burst(u64),
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Directions, in turn.
    pub ways: Vec<Way>,
    /// How much.
    pub load: Load,
    /// How long.
    pub length: Duration,
    /// What is sent in this time at its beginning is counted and not timed: whoever was idle wakes up meanwhile.
    pub settling: Duration,
    /// Ends it earlier.
    pub stop: Option<Arc<AtomicBool>>,
}

/// What became of the packets of a trial.
#[derive(Clone, Default)]
pub struct Tally {
    /// Packets sent, or refused by the device: what was offered.
    pub offered: u64,
    /// Of them, what the device did not take, its queue being full.
    pub refused: u64,
    /// What came back.
    pub received: u64,
    /// What came after one that was sent later in its direction.
    pub reordered: u64,
    /// Frames that are none of ours, ARP aside.
    pub foreign: u64,
    /// Seconds in which packets were sent.
    pub seconds: f64,
    /// CPU seconds that the generator had meanwhile: fewer if its CPU was taken by others.
    pub cpu_seconds: f64,
    /// Nanoseconds from sending to receiving.
    pub latency: Histogram,
}

impl Tally {
    /// Never came, or was refused.
    pub const fn lost(&self) -> u64 {
        self.offered.saturating_sub(self.received)
    }

    /// Packets a second, received.
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Packets received in each second in which the generator had its CPU.
    pub fn rate_of_cpu(&self) -> f64 {
        self.received as f64 / self.cpu_seconds.max(f64::MIN_POSITIVE)
    }

    /// Packets a second, offered.
    pub fn offered_rate(&self) -> f64 {
        self.offered as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// What frames of a trial are like.
pub struct Traffic {
    picks: Picks,
    uplink: Vec<Template>,
    downlink: Vec<Template>,
    next: usize,
}

impl Traffic {
    /// Of users in this order and sizes.
    pub fn new(headers: &Headers, picks: Picks, sizes: Sizes) -> Self {
        let of = |way| {
            sizes
                .cycle()
                .iter()
                .map(|&inner| Template::new(way, inner, headers))
                .collect()
        };
        Self {
            picks,
            uplink: of(Way::Uplink),
            downlink: of(Way::Downlink),
            next: 0,
        }
    }

    /// Make an empty packet one of the next user's.
    #[inline]
    pub fn fill(&mut self, packet: &mut Mbuf, way: Way, stamp: Stamp) -> bool {
        let templates = match way {
            Way::Uplink => &self.uplink,
            Way::Downlink => &self.downlink,
        };
        let template = &templates[self.next];
        self.next = if self.next + 1 == templates.len() {
            0
        } else {
            self.next + 1
        };
        let user = self.picks.next();
        match packet.append(template.len()) {
            Some(frame) => template.write(frame, user, stamp),
            None => return false,
        }
        true
    }
}

/// The ends of N3 and N6; with one port, that is both.
pub struct Generator {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    pool: Mempool,
    headers: Headers,
    trial: u32,
}

/// What is known while a trial runs.
struct Running {
    tally: Tally,
    /// Of each direction: how many were sent, and the number after the highest that came.
    sent: [u64; 2],
    expected: [u64; 2],
    /// Of each direction: below this number nothing is on the way any more.
    settled: [u64; 2],
    last_received: u64,
    /// Packets sent from then on are timed.
    timed_from: u64,
}

impl Running {
    /// Packets on the way: what was sent after the last one that came, of each direction.
    fn inside(&self) -> u64 {
        (0..2).map(|way| self.sent[way] - self.settled[way]).sum()
    }
}

impl Generator {
    /// Over one port or two.
    pub fn new(ports: Vec<Queues>, pool: Mempool, headers: Headers) -> Self {
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for queues in ports {
            rx.extend(queues.rx.into_iter().next());
            tx.extend(queues.tx.into_iter().next());
        }
        Self {
            rx,
            tx,
            pool,
            headers,
            trial: 0,
        }
    }

    /// What frames should have in their headers now.
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Which port a direction's packets are sent by.
    fn port(&self, way: Way) -> usize {
        (way as usize).min(self.tx.len() - 1)
    }

    fn link(&mut self, port: usize) -> &mut Link {
        if port == 0 {
            &mut self.headers.n3
        } else {
            &mut self.headers.n6
        }
    }

    /// Ask the UPF for its hardware addresses, by which it learns ours; false if it does not answer.
    pub fn resolve(&mut self) -> bool {
        let end = tsc() + ticks(RESOLVE);
        let mut resolved = vec![false; self.rx.len()];
        let mut asked = 0;
        while resolved.contains(&false) && tsc() < end {
            if tsc() >= asked {
                asked = tsc() + ticks(Duration::from_millis(100));
                (0..self.rx.len()).for_each(|port| self.ask(port));
            }
            for (port, resolved) in resolved.iter_mut().enumerate() {
                *resolved |= self.hear(port);
            }
        }
        !resolved.contains(&false)
    }

    fn ask(&mut self, port: usize) {
        let link = *self.link(port);
        let question = Arp {
            operation: 1,
            mac: link.mac,
            sender: link.addr,
            target: link.upf,
        };
        self.send_arp(port, question, None);
    }

    /// Takes what has come and looks for the answer in it.
    fn hear(&mut self, port: usize) -> bool {
        let mut heard = false;
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        self.rx[port].burst(&mut burst);
        for packet in burst.drain(..) {
            let Some(arp) = Arp::read(packet.bytes()) else { continue };
            self.answer(port, arp);
            let link = self.link(port);
            if arp.operation == 2 && arp.sender == link.upf {
                link.upf_mac = arp.mac;
                heard = true;
            }
        }
        heard
    }

    fn send_arp(&mut self, port: usize, arp: Arp, to: Option<[u8; 6]>) {
        let Some(mut packet) = self.pool.allocate() else { return };
        if let Some(room) = packet.append(Arp::LEN) {
            room.copy_from_slice(&arp.frame(to));
        }
        let mut burst: ArrayVec<Mbuf, 1> = ArrayVec::from([packet]);
        self.tx[port].burst(&mut burst);
    }

    /// Everybody that the UPF asks for on a link is us: gNBs and routers have one address here.
    #[cold]
    fn answer(&mut self, port: usize, arp: Arp) {
        if arp.operation == 1 {
            let reply = Arp {
                operation: 2,
                mac: self.link(port).mac,
                sender: arp.target,
                target: arp.sender,
            };
            self.send_arp(port, reply, Some(arp.mac));
        }
    }

    /// Send and receive until the trial is over and what was sent has come or is lost.
    pub fn run(&mut self, traffic: &mut Traffic, trial: &Trial) -> Tally {
        self.trial = self.trial.wrapping_add(1);
        let per_tick = match trial.load {
            Load::Rate(pps) => pps / tsc_hz() as f64,
            Load::Window(_) | Load::Burst(_) => 0.0,
        };
        let had = thread_seconds();
        let start = tsc();
        let (end, drain, stuck) = (start + ticks(trial.length), ticks(DRAIN), ticks(STUCK));
        let mut running = Running {
            tally: Tally::default(),
            sent: [0; 2],
            expected: [0; 2],
            settled: [0; 2],
            last_received: start,
            timed_from: start + ticks(trial.settling),
        };
        let (mut scheduled, mut turn, mut stopped) = (0, 0, None);
        loop {
            let now = tsc();
            let over = now >= end || trial.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            let offered = running.tally.offered;
            let wanted = match trial.load {
                _ if over || stopped.is_some() => 0,
                Load::Rate(_) => {
                    let due = ((now - start) as f64 * per_tick) as u64;
                    scheduled = scheduled.max(due.saturating_sub(MOST_BEHIND));
                    let wanted = (due - scheduled.min(due)).min(BURST as u64);
                    scheduled += wanted;
                    wanted
                }
                Load::Window(window) => {
                    if now.saturating_sub(running.last_received) > stuck {
                        running.settled = running.sent;
                        running.last_received = now;
                    }
                    window.saturating_sub(running.inside()).min(BURST as u64)
                }
                Load::Burst(packets) => packets.saturating_sub(offered).min(BURST as u64),
            };
            if wanted > 0 {
                let way = trial.ways[turn % trial.ways.len()];
                turn += 1;
                self.send(traffic, way, wanted as usize, now, &mut running);
            }
            for port in 0..self.rx.len() {
                self.receive(port, &mut running);
            }
            let done_sending = over || matches!(trial.load, Load::Burst(packets) if running.tally.offered >= packets);
            if done_sending {
                let since = *stopped.get_or_insert(now);
                let all_came = running.tally.received + running.tally.refused >= running.tally.offered;
                if all_came || now - since > drain {
                    running.tally.seconds = (since - start) as f64 / tsc_hz() as f64;
                    running.tally.cpu_seconds = thread_seconds() - had;
                    return running.tally;
                }
            }
        }
    }

    #[inline]
    fn send(&mut self, traffic: &mut Traffic, way: Way, count: usize, now: u64, running: &mut Running) {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let number = &mut running.sent[way as usize];
        for _ in 0..count {
            let Some(mut packet) = self.pool.allocate() else { break };
            let stamp = Stamp {
                trial: self.trial,
                way,
                number: *number,
                time: now,
            };
            if !traffic.fill(&mut packet, way, stamp) {
                break;
            }
            *number += 1;
            burst.push(packet);
        }
        running.tally.offered += burst.len() as u64;
        let port = self.port(way);
        self.tx[port].burst(&mut burst);
        running.tally.refused += burst.len() as u64; // and dropped here
    }

    #[inline]
    fn receive(&mut self, port: usize, running: &mut Running) {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        if self.rx[port].burst(&mut burst) == 0 {
            return;
        }
        burst.iter().for_each(Packet::prefetch);
        let now = tsc();
        running.last_received = now;
        for packet in burst.drain(..) {
            match Stamp::read(packet.bytes()) {
                Some(stamp) if stamp.trial == self.trial => {
                    let way = stamp.way as usize;
                    let expected = &mut running.expected[way];
                    running.tally.received += 1;
                    running.tally.reordered += u64::from(stamp.number < *expected);
                    *expected = (*expected).max(stamp.number + 1);
                    running.settled[way] = running.settled[way].max(*expected);
                    if stamp.time >= running.timed_from {
                        let latency = nanoseconds(now.saturating_sub(stamp.time));
                        running.tally.latency.record(latency);
                    }
                }
                Some(_) => {}
                None => match Arp::read(packet.bytes()) {
                    Some(arp) => self.answer(port, arp),
                    None => running.tally.foreign += 1,
                },
            }
        }
    }
}

/// CPU time of this thread so far.
fn thread_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

fn ticks(time: Duration) -> u64 {
    (time.as_secs_f64() * tsc_hz() as f64) as u64
}

#[inline]
fn nanoseconds(ticks: u64) -> u64 {
    (ticks as f64 * (1e9 / tsc_hz() as f64)) as u64
}

#[cfg(test)]
mod tests {
    use super::super::mix::{Distribution, User};
    use super::*;
    use std::net::Ipv4Addr;
    use upf_host::dpdk::{Eal, EalConfig, Port, PortConfig};

    /// A ring gives back what it is sent: with nothing in between, nothing is lost or out of order.
    #[test]
    fn what_a_ring_gives_back_is_counted_timed_and_in_order() {
        let eal = Eal::init(&EalConfig {
            name: format!("bench-test-{}", std::process::id()),
            memory_mb: 64,
            ..EalConfig::default()
        })
        .unwrap();
        let pool = Mempool::new(&eal, "generator", 2_047, 64, 2_048).unwrap();
        let (_port, queues) = Port::open(&PortConfig::new("net_ring0"), &pool).unwrap();
        let link = Link {
            mac: [2, 0, 0, 0, 0, 2],
            addr: Ipv4Addr::new(10, 3, 0, 2),
            upf_mac: [2, 0, 0, 0, 0, 1],
            upf: Ipv4Addr::new(10, 3, 0, 1),
        };
        let headers = Headers {
            n3: link,
            n6: link,
            qfi: Some(9),
            server: Ipv4Addr::new(198, 51, 100, 7),
        };
        let user = User {
            ue: Ipv4Addr::new(10, 60, 0, 1),
            teid: 1,
        };
        let mut traffic = Traffic::new(&headers, Picks::draw(&[user], Distribution::Uniform), Sizes::Imix);
        let mut generator = Generator::new(vec![queues], pool, headers);
        let mut trial = Trial {
            ways: vec![Way::Uplink],
            load: Load::Burst(1_000),
            length: Duration::from_secs(5),
            settling: Duration::ZERO,
            stop: None,
        };
        let burst = generator.run(&mut traffic, &trial);
        assert_eq!(
            (burst.offered, burst.received, burst.lost(), burst.reordered),
            (1_000, 1_000, 0, 0)
        );
        assert_eq!((burst.foreign, burst.refused), (0, 0));
        assert!(burst.latency.greatest() > 0);

        trial.load = Load::Window(64);
        trial.length = Duration::from_millis(20);
        let window = generator.run(&mut traffic, &trial);
        assert!(
            window.received > 64 && window.lost() == 0,
            "{} received",
            window.received
        );

        trial.load = Load::Rate(10_000.0);
        trial.length = Duration::from_millis(50);
        let rate = generator.run(&mut traffic, &trial);
        assert!(
            (1..=501).contains(&rate.offered) && rate.lost() == 0,
            "{} offered",
            rate.offered
        );
        assert!(rate.latency.greatest() > 0);

        trial.settling = trial.length;
        let settling = generator.run(&mut traffic, &trial);
        assert!(settling.received > 0 && settling.lost() == 0);
        assert_eq!(
            settling.latency.greatest(),
            0,
            "what is sent while it settles is not timed"
        );
    }
}
