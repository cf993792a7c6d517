//! The `ipc` suite: the shared-memory channel beside UNIX sockets and gRPC.
//!
//! Two processes on two CPUs (this program and a child of it) do what `upf-ctl` and `upf-host` do: one sends batches of
//! sessions, the other looks at every PDR of the batch and answers `Applied`. All transports carry the same rkyv
//! archives of the same messages and are read in place, so that only the transport differs; gRPC, which would encode
//! every field, is spared that and carries the archive as one `bytes` field. All of it runs on one thread per process.
//!
//! * **round trip**: one session down, one answer up, one at a time. *Polling*: neither end ever sleeps. *Sleeping*:
//!   both sleep between messages, as the daemons do when idle.
//! * **throughput**: as fast as it goes with several batches on the way, every one of them answered.
//!
//! Beside the round trips stands how long a cache line alone takes to the other CPU and back: no transport can be
//! faster, and on a virtual machine it changes while one measures. On a busy machine, measure under `chrt -r 10`.

mod grpc;
mod message;
mod shared;
mod unix;

use crate::figure::Figure;
use message::Work;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use upf_model::batch::ToHost;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The sending end of a transport, seen alike.
trait Link {
    fn send(&mut self, message: &ToHost) -> Outcome<()>;
    /// The sequence number of the next answer; waits for it.
    fn receive(&mut self) -> Outcome<u64>;
}

/// A way to the peer process.
struct Transport {
    /// What figures call it.
    subject: &'static str,
    /// What the child is told to be.
    peer: &'static str,
    connect: fn(&str) -> Outcome<Box<dyn Link>>,
    /// Needs a CPU for each end.
    polls: bool,
    /// Compared for the time of a round trip.
    round_trip: bool,
    /// The largest batch compared for throughput, sessions; 0: none.
    largest_batch: u32,
}

const TRANSPORTS: [Transport; 10] = [
    transport(
        "shared memory, polling",
        "shared-polling",
        |a| shared::connect(a, false),
        true,
        true,
        256,
    ),
    transport(
        "shared memory, sleeping",
        "shared",
        |a| shared::connect(a, true),
        false,
        true,
        256,
    ),
    transport(
        "shared memory, read as owned values",
        "shared-owned",
        |a| shared::connect(a, true),
        false,
        false,
        256,
    ),
    transport(
        "UNIX seqpacket, polling",
        "seqpacket-polling",
        |a| unix::connect_seqpacket(a, false),
        true,
        true,
        0,
    ),
    // A datagram has to fit in the socket's buffer: no batches.
    transport(
        "UNIX seqpacket, sleeping",
        "seqpacket",
        |a| unix::connect_seqpacket(a, true),
        false,
        true,
        1,
    ),
    transport(
        "UNIX stream, sleeping",
        "stream",
        unix::connect_stream,
        false,
        true,
        256,
    ),
    transport("gRPC unary over TCP", "grpc-tcp", grpc::connect_unary, false, true, 256),
    transport(
        "gRPC stream over TCP",
        "grpc-tcp",
        grpc::connect_stream,
        false,
        true,
        256,
    ),
    transport(
        "gRPC unary over UNIX",
        "grpc-unix",
        grpc::connect_unary,
        false,
        true,
        256,
    ),
    transport(
        "gRPC stream over UNIX",
        "grpc-unix",
        grpc::connect_stream,
        false,
        true,
        256,
    ),
];

const fn transport(
    subject: &'static str,
    peer: &'static str,
    connect: fn(&str) -> Outcome<Box<dyn Link>>,
    polls: bool,
    round_trip: bool,
    largest_batch: u32,
) -> Transport {
    Transport {
        subject,
        peer,
        connect,
        polls,
        round_trip,
        largest_batch,
    }
}

/// How long and how often.
#[derive(Clone, Copy)]
struct Effort {
    repetitions: usize,
    each: Duration,
}

/// Measures everything. What fails is reported to standard error and left out.
pub fn run(quick: bool) -> Vec<Figure> {
    let effort = match quick {
        true => Effort {
            repetitions: 3,
            each: Duration::from_millis(150),
        },
        false => Effort {
            repetitions: 5,
            each: Duration::from_secs(1),
        },
    };
    let cpus = cpus();
    let (&ours, &theirs) = (cpus.first().unwrap_or(&0), cpus.last().unwrap_or(&0));
    pin(ours);
    let mut suite = Suite {
        effort,
        theirs,
        cache_line_ns: Vec::new(),
        figures: Vec::new(),
    };
    for transport in TRANSPORTS.iter().filter(|t| !t.polls || ours != theirs) {
        crate::progress::doing("ipc", transport.subject);
        if let Err(e) = suite.measure(transport) {
            eprintln!("{}: {e}", transport.subject);
        }
    }
    if ours != theirs {
        suite.note_cache_line(ours);
    }
    hold_to(&cpus);
    suite.figures
}

struct Suite {
    effort: Effort,
    theirs: usize,
    /// Taken before and after every transport.
    cache_line_ns: Vec<f64>,
    figures: Vec<Figure>,
}

impl Suite {
    fn measure(&mut self, transport: &Transport) -> Outcome<()> {
        if let Some(&ours) = cpus().first().filter(|&&c| c != self.theirs) {
            self.cache_line_ns.push(cache_line_round_trip(ours, self.theirs));
            pin(ours);
        }
        if transport.round_trip {
            let work = Work::new(1);
            let params = serde_json::json!({ "sessions": 1, "bytes": work.bytes });
            let (mut middle, mut late) = (Vec::new(), Vec::new());
            for _ in 0..self.effort.repetitions {
                let mut connection = Connection::open(transport, self.theirs)?;
                let times = round_trips(connection.link.as_mut(), &work, self.effort.each)?;
                middle.push(times[times.len() / 2]);
                late.push(times[times.len() * 99 / 100]);
            }
            self.add("round trip, median", transport.subject, &params, "ns", middle);
            self.add("round trip, 99th percentile", transport.subject, &params, "ns", late);
        }
        for sessions in [1, 256].into_iter().filter(|&n| n <= transport.largest_batch) {
            let work = Work::new(sessions);
            let params = serde_json::json!({ "sessions": sessions, "bytes": work.bytes });
            let mut rates = Vec::new();
            for _ in 0..self.effort.repetitions {
                let mut connection = Connection::open(transport, self.theirs)?;
                rates.push(throughput(connection.link.as_mut(), &work, self.effort.each)?);
            }
            if sessions > 1 {
                let per_session = rates.iter().map(|r| r * f64::from(sessions)).collect();
                self.add("throughput, sessions", transport.subject, &params, "1/s", per_session);
            }
            self.add("throughput, messages", transport.subject, &params, "1/s", rates);
        }
        Ok(())
    }

    fn add(&mut self, name: &str, subject: &str, params: &serde_json::Value, unit: &'static str, values: Vec<f64>) {
        self.figures
            .extend(Figure::of("ipc", (name, subject), params.clone(), unit, values));
    }

    /// Puts the cache line's own round trip beside those of the transports.
    fn note_cache_line(&mut self, ours: usize) {
        self.cache_line_ns.push(cache_line_round_trip(ours, self.theirs));
        let subject = "a cache line alone (limit)";
        for name in ["round trip, median", "round trip, 99th percentile"] {
            if let Some(params) = self.figures.iter().find(|f| f.name == name).map(|f| f.params.clone()) {
                self.add(name, subject, &params, "ns", self.cache_line_ns.clone());
            }
        }
    }
}

/// The times of single round trips, ascending, nanoseconds; never empty.
fn round_trips(link: &mut dyn Link, work: &Work, for_this_long: Duration) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(1 << 20);
    let warm = Instant::now() + for_this_long / 10;
    let end = warm + for_this_long;
    for seq in 0.. {
        let message = work.message(seq);
        let start = Instant::now();
        link.send(&message)?;
        let answered = link.receive()?;
        let done = Instant::now();
        if answered != seq {
            return Err(format!("sent {seq}, but {answered} was answered").into());
        }
        if start >= warm {
            times.push((done - start).as_nanos() as f64);
            if done >= end {
                break;
            }
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Messages a second, with a window of them on the way.
fn throughput(link: &mut dyn Link, work: &Work, for_this_long: Duration) -> Outcome<f64> {
    let window = if work.sessions == 1 { 64 } else { 4 };
    let messages: Vec<ToHost> = (0..window).map(|i| work.message(i)).collect();
    let start = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    while start.elapsed() < for_this_long {
        while sent - answered < window {
            link.send(&messages[(sent % window) as usize])?;
            sent += 1;
        }
        // Refill only when half of the window is answered, as a controller with a backlog does.
        while sent - answered > window / 2 {
            let seq = link.receive()?;
            if seq != answered % window {
                return Err(format!("expected the answer to {}, received that to {seq}", answered % window).into());
            }
            answered += 1;
        }
    }
    let elapsed = start.elapsed();
    let rate = answered as f64 / elapsed.as_secs_f64();
    while answered < sent {
        link.receive()?;
        answered += 1;
    }
    Ok(rate)
}

/// A child process and the link to it.
struct Connection {
    // Ended first: the one who is left removes the channel's file.
    _child: Peer,
    link: Box<dyn Link>,
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CPU_VARIABLE: &str = "BENCH_PEER_CPU";

impl Connection {
    fn open(transport: &Transport, cpu: usize) -> Outcome<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["ipc-peer", transport.peer, &name])
            .env(CPU_VARIABLE, cpu.to_string())
            .stdout(Stdio::piped());
        let mut child = Peer(command.spawn()?);
        // The peer says where it can be reached once it can.
        let mut address = String::new();
        BufReader::new(child.0.stdout.take().ok_or("no standard output")?).read_line(&mut address)?;
        let link = (transport.connect)(address.trim_end())?;
        Ok(Self { link, _child: child })
    }
}

/// The child's side: serves until it is killed.
pub fn peer(transport: &str, name: &str) {
    if let Some(cpu) = std::env::var(CPU_VARIABLE).ok().and_then(|c| c.parse().ok()) {
        pin(cpu);
    }
    let served = match transport {
        "shared-polling" => shared::serve(name, false, false),
        "shared" => shared::serve(name, true, false),
        "shared-owned" => shared::serve(name, true, true),
        "seqpacket-polling" => unix::serve_seqpacket(name, false),
        "seqpacket" => unix::serve_seqpacket(name, true),
        "stream" => unix::serve_stream(name),
        "grpc-tcp" => grpc::serve_tcp(),
        "grpc-unix" => grpc::serve_unix(name),
        other => Err(format!("no transport is called {other}").into()),
    };
    if let Err(e) = served {
        eprintln!("{transport} peer: {e}");
    }
}

/// Tells the parent where we are.
fn announce(address: &str) {
    println!("{address}");
}

/// The CPUs this process may use, ascending.
pub fn cpus() -> Vec<usize> {
    static FIRST: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let allowed = || {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        (0..CpuSet::count())
            .filter(|&c| set.is_set(c).unwrap_or(false))
            .collect()
    };
    // Before anything is pinned.
    FIRST.get_or_init(allowed).clone()
}

/// Keeps this thread on a CPU, where that is allowed.
fn pin(cpu: usize) {
    hold_to(&[cpu]);
}

/// Keeps this thread, and those it starts from now on, on these CPUs, where that is allowed.
pub fn hold_to(cpus: &[usize]) {
    let mut set = CpuSet::new();
    if cpus.iter().all(|&cpu| set.set(cpu).is_ok()) {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// Nanoseconds for one cache line from one CPU to another and back.
fn cache_line_round_trip(one: usize, other: usize) -> f64 {
    #[repr(align(128))]
    struct Line(AtomicU64);
    const ROUNDS: u64 = 100_000;
    let line = Line(AtomicU64::new(0));
    // Whoever finds its parity makes it the other's.
    let play = |cpu, parity: u64| {
        pin(cpu);
        let start = Instant::now();
        for round in 0..ROUNDS {
            while line.0.load(Ordering::Acquire) != 2 * round + parity {
                std::hint::spin_loop();
            }
            line.0.store(2 * round + parity + 1, Ordering::Release);
        }
        start.elapsed()
    };
    let elapsed = std::thread::scope(|scope| {
        let first = scope.spawn(|| play(one, 0));
        scope.spawn(|| play(other, 1));
        first.join().unwrap_or_default()
    });
    elapsed.as_nanos() as f64 / ROUNDS as f64
}
