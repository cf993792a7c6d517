//! The switch as its users hold it: load a program, control it, run packets through it. Thread-safe.
//!
//! All of a switch's state is behind one lock that the packet thread takes once per burst. A control call waits for
//! the end of the burst, does its work between two packets, and is done when it returns: no queues of commands, no
//! packet sees half of a batch. Whoever wants control is let in after the burst at hand.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::control::{BatchError, ControlError, DigestId, Entity, Event, ProgramInfo, Query, Update};
use crate::engine::packet::Packet;
use crate::engine::read::Progress;
use crate::engine::{Engine, Statistics};
use crate::program::Program;
use crate::trace::Trace;

/// Updates that are applied before packets get a chance, where a batch need not be atomic.
const PIECE: usize = 256;

/// Packets from the controller that may wait for the packet thread.
const INBOX: usize = 1024;

/// How a switch is set up, before any program.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Packets that leave through this port become [`Event::PacketIn`]; [`Switch::packet_out`] enters through it.
    pub cpu_port: Option<u32>,
    /// The value of `egress_spec` that drops.
    pub drop_port: u32,
    /// Queues per port. Queue 0 has the lowest priority.
    pub priority_queues: usize,
    /// Packets that a queue holds if nothing else is said.
    pub queue_depth: usize,
    /// Rates of ports, by number; the others send whatever comes at once.
    pub port_rates: BTreeMap<u32, PortRate>,
}

/// A port's rate on the wire, which its queues share strictly by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRate {
    /// Gaps between frames included.
    pub bits_per_second: u64,
    /// How much may leave at once after a pause, and how late the packet thread may come by without loss of rate: time
    /// at the rate.
    pub burst_ns: u64,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        Self {
            cpu_port: None,
            drop_port: 511,
            priority_queues: 1,
            queue_depth: 64,
            port_rates: BTreeMap::new(),
        }
    }
}

/// A packet that left the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Time as the switch sees it.
#[derive(Debug)]
enum Clock {
    Real(Instant),
    /// Stands still but for [`Switch::advance`].
    Manual(AtomicU64),
}

/// A v1model switch.
pub struct Switch {
    config: SwitchConfig,
    clock: Clock,
    engine: Mutex<Option<Engine>>,
    /// Threads that want control.
    wanted: AtomicUsize,
    sink: Mutex<Option<Sink>>,
    inbox: Mutex<VecDeque<Vec<u8>>>,
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switch {
    /// A switch without a program: it drops everything.
    pub fn new(config: SwitchConfig) -> Self {
        Self::with_clock(config, Clock::Real(Instant::now()))
    }

    /// A switch whose time only passes by [`Self::advance`]: for tests of meters, timeouts, queues.
    pub fn with_manual_clock(config: SwitchConfig) -> Self {
        Self::with_clock(config, Clock::Manual(AtomicU64::new(0)))
    }

    fn with_clock(config: SwitchConfig, clock: Clock) -> Self {
        Self {
            config,
            clock,
            engine: Mutex::new(None),
            wanted: AtomicUsize::new(0),
            sink: Mutex::new(None),
            inbox: Mutex::new(VecDeque::new()),
        }
    }

    /// Lets time pass on a manual clock, and does what becomes due. Gives the packets that leave.
    pub fn advance(&self, time: Duration) -> Vec<Output> {
        if let Clock::Manual(now) = &self.clock {
            now.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.run(|_| ())
    }

    fn now_ns(&self) -> u64 {
        match &self.clock {
            Clock::Real(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Clock::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &SwitchConfig {
        &self.config
    }

    /// Replaces the program and forgets all state: entries, counters, groups, sessions, queued packets.
    pub fn load(&self, program: Arc<Program>) {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let mut engine = Engine::new(program, self.config.clone(), seed);
        engine.machine.now_ns = self.now_ns();
        let old = self.control(|place| place.replace(engine));
        drop(old);
    }

    /// Does something with the engine between two bursts.
    fn control<R>(&self, work: impl FnOnce(&mut Option<Engine>) -> R) -> R {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let mut engine = locked(&self.engine);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        if let Some(engine) = &mut *engine {
            engine.machine.now_ns = self.now_ns();
        }
        work(&mut engine)
    }

    fn with<R>(&self, work: impl FnOnce(&mut Engine) -> Result<R, ControlError>) -> Result<R, ControlError> {
        self.control(|engine| engine.as_mut().ok_or(ControlError::NoProgram).and_then(work))
    }

    /// The program at work, if any. [`Program::info`] says what it offers.
    pub fn program(&self) -> Option<Arc<Program>> {
        self.with(|engine| Ok(Arc::clone(&engine.program))).ok()
    }

    /// What the program offers, if one is loaded.
    pub fn info(&self) -> Option<Arc<ProgramInfo>> {
        self.with(|engine| Ok(Arc::clone(&engine.program.info))).ok()
    }

    /// What the switch did with packets since the program was loaded.
    pub fn statistics(&self) -> Statistics {
        self.with(|engine| Ok(engine.statistics)).unwrap_or_default()
    }

    /// Applies updates one after another, each or none of it; a refused one does not stop the rest (P4Runtime's
    /// CONTINUE_ON_ERROR). Large batches let packets through in between. Results in the order of the updates.
    pub fn write(&self, updates: &[Update]) -> Vec<Result<(), ControlError>> {
        let mut results = Vec::with_capacity(updates.len());
        for piece in updates.chunks(PIECE) {
            self.control(|engine| match engine {
                Some(engine) => results.extend(piece.iter().map(|update| engine.apply(update))),
                None => results.extend(piece.iter().map(|_| Err(ControlError::NoProgram))),
            });
        }
        results
    }

    /// Applies all updates between two packets, or none of them (P4Runtime's DATAPLANE_ATOMIC).
    pub fn write_atomic(&self, updates: &[Update]) -> Result<(), BatchError> {
        self.control(|engine| match engine {
            Some(engine) => engine.apply_all(updates),
            None => Err(BatchError {
                index: 0,
                error: ControlError::NoProgram,
            }),
        })
    }

    /// Calls `visit` for everything that `query` asks for, without holding the switch up: each entity is consistent,
    /// the set of them need not be while others write.
    pub fn read(&self, query: &Query, visit: &mut dyn FnMut(Entity)) -> Result<(), ControlError> {
        let mut progress = Progress::default();
        let mut piece = Vec::new();
        loop {
            let done = self.with(|engine| engine.read(query, &mut progress, &mut piece))?;
            piece.drain(..).for_each(&mut *visit);
            if done {
                return Ok(());
            }
        }
    }

    /// Where notifications go; replaces an earlier one. Called from the packet thread without any lock held; must not
    /// block for long.
    pub fn on_event(&self, sink: impl Fn(Event) + Send + Sync + 'static) {
        *locked(&self.sink) = Some(Arc::new(sink));
    }

    /// The controller has seen this digest list; its digests may be sent again.
    pub fn acknowledge_digest(&self, digest: DigestId, list_id: u64) {
        self.control(|engine| {
            if let Some(engine) = engine {
                engine.digests.acknowledge(digest, list_id);
            }
        });
    }

    /// A packet from the controller: enters through the CPU port, the program's packet-out header leading it. What it
    /// becomes leaves through the ports with the next burst. Refused if there is no CPU port or the inbox is full.
    pub fn packet_out(&self, bytes: &[u8]) -> Result<(), ControlError> {
        if self.config.cpu_port.is_none() {
            return Err(ControlError::Unsupported("packet-out without a CPU port".to_owned()));
        }
        let mut inbox = locked(&self.inbox);
        if inbox.len() >= INBOX {
            return Err(ControlError::ResourceExhausted(
                "the packet-out inbox".to_owned(),
                INBOX,
            ));
        }
        inbox.push_back(bytes.to_vec());
        Ok(())
    }

    /// Runs one packet through and returns what comes out at once (not what waits in a rate-limited queue). For tests
    /// and tools; a packet thread uses [`ports`](crate::ports).
    pub fn inject(&self, port: u32, bytes: &[u8]) -> Vec<Output> {
        self.run(|engine| {
            let mut packet = engine.pool.get();
            packet.fill(bytes);
            engine.receive(port, packet);
        })
    }

    /// Like [`Self::inject`], and says which way the packet and its copies went.
    pub fn trace(&self, port: u32, bytes: &[u8]) -> (Vec<Output>, Trace) {
        let mut trace = Trace::default();
        let outputs = self.run(|engine| {
            engine.trace = Some(Box::default());
            engine.receive(port, Packet::new(bytes));
            trace = engine.trace.take().map_or_else(Trace::default, |t| *t);
        });
        (outputs, trace)
    }

    /// What `log_msg` says from now on is kept for [`Self::take_log`].
    pub fn keep_log(&self, keep: bool) {
        self.control(|engine| {
            if let Some(engine) = engine {
                engine.machine.log = keep.then(Vec::new);
            }
        });
    }

    /// What `log_msg` said since the last call.
    pub fn take_log(&self) -> Vec<String> {
        self.with(|engine| Ok(engine.machine.log.as_mut().map(std::mem::take).unwrap_or_default()))
            .unwrap_or_default()
    }

    fn run(&self, work: impl FnOnce(&mut Engine)) -> Vec<Output> {
        let mut inbox = std::mem::take(&mut *locked(&self.inbox));
        let (outputs, events) = self.control(|engine| {
            let Some(engine) = engine else {
                return (Vec::new(), Vec::new());
            };
            if let Some(port) = self.config.cpu_port {
                for bytes in inbox.drain(..) {
                    engine.receive(port, Packet::new(&bytes));
                }
            }
            work(engine);
            engine.tick(self.now_ns());
            let mut outputs = Vec::with_capacity(engine.out.len());
            for (port, packet) in engine.out.drain(..) {
                outputs.push(Output {
                    port,
                    bytes: packet.bytes().to_vec(),
                });
                engine.pool.put(packet);
            }
            (outputs, std::mem::take(&mut engine.events))
        });
        self.tell(events);
        outputs
    }

    fn tell(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let sink = locked(&self.sink).clone();
        if let Some(sink) = sink {
            events.into_iter().for_each(|event| sink(event));
        }
    }

    /// A burst: what came in is taken from `received`, what goes out is added to `sent`. Without a program everything
    /// is dropped. Used buffers come back in `received`'s stead through [`Burst::buffer`].
    pub(crate) fn burst(&self, burst: &mut Burst) {
        // Control first: it waits for one burst at most.
        let mut spins = 0;
        while self.wanted.load(Ordering::Relaxed) > 0 && spins < 1000 {
            std::thread::yield_now();
            spins += 1;
        }
        let inbox = match self.config.cpu_port {
            Some(_) => std::mem::take(&mut *locked(&self.inbox)),
            None => VecDeque::new(),
        };
        let events = {
            let mut place = locked(&self.engine);
            match &mut *place {
                None => {
                    burst.spare.extend(burst.received.drain(..).map(|(_, packet)| packet));
                    Vec::new()
                }
                Some(engine) => {
                    let now = self.now_ns();
                    engine.machine.now_ns = now;
                    if let Some(port) = self.config.cpu_port {
                        for bytes in inbox {
                            engine.receive(port, Packet::new(&bytes));
                        }
                    }
                    engine.receive_burst(&mut burst.received);
                    engine.tick(now);
                    std::mem::swap(&mut engine.out, &mut burst.sent);
                    // Buffers of packets that were dropped.
                    while burst.spare.len() < BURST {
                        burst.spare.push(engine.pool.get());
                    }
                    engine.out.clear();
                    std::mem::take(&mut engine.events)
                }
            }
        };
        self.tell(events);
    }

    /// Packets wait in rate-limited queues or for the packet thread: the loop must not sleep long.
    pub(crate) fn is_waiting(&self) -> bool {
        !locked(&self.inbox).is_empty() || locked(&self.engine).as_ref().is_some_and(|e| e.queues.waiting() > 0)
    }

    /// Rate in packets per second of a queue of a port; 0 is unlimited. Absent port or queue: all of them.
    pub fn set_queue_rate(&self, port: Option<u32>, queue: Option<usize>, packets_per_second: u64) {
        self.control(|engine| {
            if let Some(engine) = engine {
                engine.queues.set_rate(port, queue, packets_per_second);
            }
        });
    }

    /// Depth in packets of a queue of a port. Absent port or queue: all of them.
    pub fn set_queue_depth(&self, port: Option<u32>, queue: Option<usize>, packets: usize) {
        self.control(|engine| {
            if let Some(engine) = engine {
                engine.queues.set_depth(port, queue, packets);
            }
        });
    }
}

/// Packets in a burst.
pub(crate) const BURST: usize = 32;

/// What a packet thread hands to the switch and gets back.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    pub(crate) received: Vec<(u32, Packet)>,
    pub(crate) sent: Vec<(u32, Packet)>,
    pub(crate) spare: Vec<Packet>,
}

impl Burst {
    /// A buffer for a packet.
    pub(crate) fn buffer(&mut self) -> Packet {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a buffer whose packet has been sent.
    pub(crate) fn recycle(&mut self, packet: Packet) {
        if self.spare.len() < 4 * BURST {
            self.spare.push(packet);
        }
    }
}
