//! One lcore's loop: receive from every port and from other lcores, run the pipeline, transmit; back off when there is
//! nothing to do.

use crate::counters::{LcoreCounters, QueueCounters};
use crate::dpdk::{Interrupts, Mbuf, Mempool, RxQueue, TxQueue, tsc, tsc_hz};
use crate::egress::{Class, Line, PortOutlet, Profile};
use crate::host_port::HostPort;
use crate::neighbours::PortIndex;
use crate::packet::Allocator;
use crate::pipeline::{BURST, Command, Io, Now, Pipeline};
use crate::spread::Spread;
use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, ppoll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds between two calls of [`Pipeline::tick`].
const TICK_NS: u64 = 10_000_000;
/// A sleep is this fraction of the time without packets so far: a pause within a flow costs little latency, and a long
/// one little CPU.
const SLEEP_FRACTION: u64 = 32;
/// The shortest sleep worth a system call.
const SHORTEST_SLEEP_NS: u64 = 10_000;

/// What a worker owns.
pub struct Worker {
    /// Number among the workers; 0 leads the periodic work.
    pub lcore: usize,
    /// Its receive queue of every port, or of the host port.
    pub rx: Vec<RxQueue>,
    /// With a P4 target: what is between the host port and the pipeline, as the outlet has it.
    pub host_port: Option<Arc<HostPort>>,
    /// With several lcores: what it hands over to the others and they to it.
    pub spread: Option<Spread<Mbuf>>,
    /// Its way out.
    pub outlet: Outlet,
    /// The packet's way.
    pub pipeline: Pipeline<Mbuf>,
    /// From the management thread.
    pub commands: Receiver<Command>,
    /// Set to end the loop.
    pub stop: Arc<AtomicBool>,
    /// Load-proportional polling.
    pub idle: upf_config::Idle,
    /// Packets per receive burst.
    pub burst: usize,
}

impl Worker {
    /// Poll until told to stop.
    pub fn run(mut self) {
        let mut clock = Clock::new();
        let mut idle = IdlePolicy::new(&self.idle);
        let interrupts = Interrupts::of(&self.rx);
        let mut next_tick = 0;
        let mut received: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let now = clock.now();
            self.outlet.now_ns = now.ns;
            let mut busy = false;
            while let Ok(command) = self.commands.try_recv() {
                self.pipeline.execute(command, now, &mut self.outlet);
                busy = true;
            }
            for device in 0..self.rx.len() {
                if self.rx[device].burst_up_to(&mut received, self.burst) > 0 {
                    self.keep_own(device as PortIndex, &mut received);
                    self.process(device as PortIndex, &mut received, now);
                    busy = true;
                }
            }
            for _ in 0..self.spread.as_ref().map_or(0, Spread::peers) {
                if let Some(device) = self.spread.as_mut().and_then(|s| s.take(self.burst, &mut received)) {
                    self.process(device, &mut received, now);
                    busy = true;
                }
            }
            if now.ns >= next_tick {
                next_tick = now.ns + TICK_NS;
                clock.follow_wall();
                self.pipeline.tick(self.lcore == 0, now, &mut self.outlet);
            }
            self.outlet.flush();
            match idle.after_poll(busy, now.ns, self.outlet.next_departure()) {
                Some(pause) => sleep(interrupts.as_ref(), self.spread.as_ref(), pause),
                None => std::hint::spin_loop(),
            }
        }
    }

    /// Of what came in by a device: hand over what is other lcores'.
    #[inline(always)]
    fn keep_own(&mut self, device: PortIndex, received: &mut ArrayVec<Mbuf, BURST>) {
        let Some(spread) = &mut self.spread else { return };
        match &self.host_port {
            None => spread.keep_own(device, received),
            Some(host_port) => spread.keep_own_by(device, received, |frame| host_port.peek(frame)),
        }
    }

    #[inline(always)]
    fn process(&mut self, device: PortIndex, received: &mut ArrayVec<Mbuf, BURST>, now: Now) {
        if received.is_empty() {
            return;
        }
        match &self.host_port {
            None => self.pipeline.process(device, received, now, &mut self.outlet),
            Some(host_port) => host_port.receive(received, &mut self.pipeline, now, &mut self.outlet),
        }
    }
}

/// The egress of a port: as configured, and where this lcore counts.
pub type Egress = (Arc<Profile>, Arc<QueueCounters>);

/// A worker's way out: packets are staged per port and leave in bursts, or wait in the port's queues.
pub struct Outlet {
    ports: Vec<PortOutlet<Mbuf, TxQueue>>,
    now_ns: u64,
    host_port: Option<Arc<HostPort>>,
    pool: Mempool,
    counters: Arc<LcoreCounters>,
}

impl Outlet {
    /// Over a transmit queue of every port.
    pub fn new(queues: Vec<TxQueue>, pool: Mempool, counters: Arc<LcoreCounters>) -> Self {
        Self {
            ports: queues.into_iter().map(PortOutlet::new).collect(),
            now_ns: 0,
            host_port: None,
            pool,
            counters,
        }
    }

    /// Everything leaves by the first queue, which is that of the host port.
    #[must_use]
    pub fn through(self, host_port: Option<Arc<HostPort>>) -> Self {
        Self { host_port, ..self }
    }

    /// With queues at the ports that have an egress configured; one for each port, in order.
    #[must_use]
    pub fn scheduled(mut self, egress: Vec<Option<Egress>>) -> Self {
        let scheduled = |(port, egress): (PortOutlet<Mbuf, TxQueue>, Option<Egress>)| match egress {
            Some((profile, counters)) => port.scheduled(profile, counters),
            None => port,
        };
        self.ports = self.ports.into_iter().zip(egress).map(scheduled).collect();
        self
    }

    /// When a packet that waits in a queue may leave; none: none waits.
    fn next_departure(&self) -> Option<u64> {
        self.ports
            .iter()
            .filter_map(|port| port.next_departure(self.now_ns))
            .min()
    }
}

impl Line<Mbuf> for TxQueue {
    #[inline]
    fn transmit(&mut self, frames: &mut ArrayVec<Mbuf, BURST>) {
        self.burst(frames);
    }
}

impl Allocator<Mbuf> for Outlet {
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}

impl Io<Mbuf> for Outlet {
    #[inline(always)]
    fn send(&mut self, port: PortIndex, mut packet: Mbuf, class: Class) {
        let mut device = usize::from(port);
        if let Some(host_port) = &self.host_port {
            match host_port.reinject(port, class.queue, packet) {
                Some(frame) => (device, packet) = (0, frame),
                None => return,
            }
        }
        self.ports[device].send(packet, class, self.now_ns, &self.counters);
    }

    fn flush(&mut self) {
        for port in &mut self.ports {
            port.flush(self.now_ns, &self.counters);
        }
    }
}

/// Monotonic nanoseconds from the time stamp counter, and the wall clock beside them.
pub struct Clock {
    start: u64,
    /// Nanoseconds per tick, in units of 2^-32.
    scale: u64,
    wall_offset_ns: u64,
}

impl Clock {
    /// Starts now. Before the EAL has measured the counter's frequency, one tick counts as a nanosecond.
    pub fn new() -> Self {
        let hz = match tsc_hz() {
            0 => 1_000_000_000,
            hz => hz,
        };
        let scale = ((1_000_000_000u128 << 32) / u128::from(hz)) as u64;
        // Zero is kept free for "never".
        let mut clock = Self {
            start: tsc().saturating_sub(hz),
            scale,
            wall_offset_ns: 0,
        };
        clock.follow_wall();
        clock
    }

    fn ns(&self) -> u64 {
        ((u128::from(tsc() - self.start) * u128::from(self.scale)) >> 32) as u64
    }

    /// The time, for one burst.
    #[inline]
    pub fn now(&self) -> Now {
        let ns = self.ns();
        Now {
            ns,
            wall_ns: (ns + self.wall_offset_ns) / 1_000_000 * 1_000_000,
            wall_offset_ns: self.wall_offset_ns,
        }
    }

    /// Take the wall clock's corrections over.
    fn follow_wall(&mut self) {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        self.wall_offset_ns = wall.saturating_sub(self.ns());
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Sleeps until the time is over, packets come to a port that has interrupts, or another lcore hands some over.
#[cold]
fn sleep(interrupts: Option<&Interrupts>, spread: Option<&Spread<Mbuf>>, time: Duration) {
    let mut wakers: ArrayVec<PollFd, 2> = ArrayVec::new();
    if let Some(spread) = spread {
        match spread.about_to_sleep() {
            Some(bell) => wakers.push(PollFd::new(bell, PollFlags::POLLIN)),
            None => return,
        }
    }
    wakers.extend(interrupts.map(|interrupts| PollFd::new(interrupts.arm(), PollFlags::POLLIN)));
    if wakers.is_empty() {
        return std::thread::sleep(time);
    }
    // An error, as by a signal, ends a sleep early: nothing is lost by that.
    let _ = ppoll(&mut wakers, Some(time.into()), None);
    interrupts.iter().for_each(|interrupts| interrupts.disarm());
    spread.iter().for_each(|spread| spread.awake());
}

/// Poll at full speed while packets come and for a while after; then sleep, the longer the longer nothing comes.
struct IdlePolicy {
    spin_ns: u64,
    longest_ns: u64,
    last_busy_ns: u64,
}

impl IdlePolicy {
    fn new(idle: &upf_config::Idle) -> Self {
        // Sleeps of tens of microseconds need the kernel's timer slack (50 us by default) out of the way.
        if idle.sleep_us > 0 {
            let _ = nix::sys::prctl::set_timerslack(1_000);
        }
        Self {
            spin_ns: u64::from(idle.spin_us) * 1_000,
            longest_ns: u64::from(idle.sleep_us) * 1_000,
            last_busy_ns: 0,
        }
    }

    /// How long to sleep now; none: not at all. `departure` is when a packet that waits for its port may leave: no sleep is
    /// longer.
    #[inline]
    fn after_poll(&mut self, busy: bool, now_ns: u64, departure: Option<u64>) -> Option<Duration> {
        if busy {
            self.last_busy_ns = now_ns;
        }
        self.pause(now_ns, departure)
    }

    #[inline]
    fn pause(&self, now_ns: u64, departure: Option<u64>) -> Option<Duration> {
        let quiet_ns = now_ns.saturating_sub(self.last_busy_ns);
        if self.longest_ns == 0 || quiet_ns <= self.spin_ns {
            return None;
        }
        let shortest = SHORTEST_SLEEP_NS.min(self.longest_ns);
        let pause = (quiet_ns / SLEEP_FRACTION).clamp(shortest, self.longest_ns);
        let pause = departure.map_or(pause, |at| pause.min(at.saturating_sub(now_ns)));
        (pause >= shortest).then(|| Duration::from_nanos(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_lcore_sleeps_no_longer_than_until_the_next_departure() {
        let policy = IdlePolicy {
            spin_ns: 50_000,
            longest_ns: 2_000_000,
            last_busy_ns: 0,
        };
        let (busy_a_moment_ago, quiet) = (40_000, 1_000_000_000);
        assert_eq!(policy.pause(busy_a_moment_ago, None), None);
        assert_eq!(policy.pause(quiet, None), Some(Duration::from_millis(2)));
        let departure = quiet + 300_000;
        assert_eq!(policy.pause(quiet, Some(departure)), Some(Duration::from_micros(300)));
        assert_eq!(policy.pause(quiet, Some(quiet)), None, "something may leave now");
    }
}
