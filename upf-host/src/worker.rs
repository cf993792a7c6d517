//! One lcore's loop: receive from every port, run the pipeline, transmit; back off when there is nothing to do.

use crate::counters::{DropReason, LcoreCounters};
use crate::dpdk::{Mbuf, Mempool, RxQueue, TxQueue, tsc, tsc_hz};
use crate::host_port::HostPort;
use crate::neighbours::PortIndex;
use crate::packet::{Allocator, Packet};
use crate::pipeline::{BURST, Command, Io, Now, Pipeline};
use arrayvec::ArrayVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds between two calls of [`Pipeline::tick`].
const TICK_NS: u64 = 10_000_000;
/// Attempts to hand a burst to a port before what is left is dropped.
const TX_ATTEMPTS: usize = 8;
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
        let mut next_tick = 0;
        let mut received: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let mut busy = false;
            while let Ok(command) = self.commands.try_recv() {
                self.pipeline.execute(command, now, &mut self.outlet);
                busy = true;
            }
            for (port, rx) in self.rx.iter_mut().enumerate() {
                if rx.burst_up_to(&mut received, self.burst) > 0 {
                    let (pipeline, outlet) = (&mut self.pipeline, &mut self.outlet);
                    match &self.host_port {
                        None => pipeline.process(port as PortIndex, &mut received, now, outlet),
                        Some(host_port) => host_port.receive(&mut received, pipeline, now, outlet),
                    }
                    busy = true;
                }
            }
            if now.ns >= next_tick {
                next_tick = now.ns + TICK_NS;
                clock.follow_wall();
                self.pipeline.tick(self.lcore == 0, now, &mut self.outlet);
            }
            self.outlet.flush();
            idle.after_poll(busy, now.ns);
        }
    }
}

/// A worker's way out: packets are staged per port and leave in bursts.
pub struct Outlet {
    ports: Vec<(TxQueue, ArrayVec<Mbuf, BURST>)>,
    host_port: Option<Arc<HostPort>>,
    pool: Mempool,
    counters: Arc<LcoreCounters>,
}

impl Outlet {
    /// Over a transmit queue of every port.
    pub fn new(queues: Vec<TxQueue>, pool: Mempool, counters: Arc<LcoreCounters>) -> Self {
        Self {
            ports: queues.into_iter().map(|q| (q, ArrayVec::new())).collect(),
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

    fn flush_one(queue: &mut TxQueue, staged: &mut ArrayVec<Mbuf, BURST>, counters: &LcoreCounters) {
        for _ in 0..TX_ATTEMPTS {
            if staged.is_empty() {
                return;
            }
            queue.burst(staged);
        }
        for refused in staged.drain(..) {
            counters.dropped(DropReason::TxFull, refused.bytes().len());
        }
    }
}

impl Allocator<Mbuf> for Outlet {
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}

impl Io<Mbuf> for Outlet {
    #[inline]
    fn send(&mut self, port: PortIndex, mut packet: Mbuf) {
        let mut device = usize::from(port);
        if let Some(host_port) = &self.host_port {
            match host_port.reinject(port, packet) {
                Some(frame) => (device, packet) = (0, frame),
                None => return,
            }
        }
        let (queue, staged) = &mut self.ports[device];
        staged.push(packet);
        if staged.is_full() {
            Self::flush_one(queue, staged, &self.counters);
        }
    }

    /// What a port refuses again and again is dropped and counted.
    fn flush(&mut self) {
        for (queue, staged) in &mut self.ports {
            Self::flush_one(queue, staged, &self.counters);
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

    #[inline]
    fn after_poll(&mut self, busy: bool, now_ns: u64) {
        let quiet_ns = now_ns.saturating_sub(self.last_busy_ns);
        if busy {
            self.last_busy_ns = now_ns;
        } else if self.longest_ns > 0 && quiet_ns > self.spin_ns {
            let shortest = SHORTEST_SLEEP_NS.min(self.longest_ns);
            std::thread::sleep(Duration::from_nanos(
                (quiet_ns / SLEEP_FRACTION).clamp(shortest, self.longest_ns),
            ));
        } else {
            std::hint::spin_loop();
        }
    }
}
