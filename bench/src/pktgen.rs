//! The `pktgen` suite: packets through the real upf-host, from port to port, by a generator and sink on a lcore of its
//! own; and the generator alone, for any device (`bench pktgen --n3 DEVICE ...`, docs/BENCHMARKING.md).
//!
//! ```text
//!   generator ─ N3, GTP-U ─▶ upf-host | bare ─ N6, IP ─▶ generator      uplink
//!   generator ─ N6, IP ─▶ upf-host | bare ─ N3, GTP-U ─▶ generator      downlink
//! ```
//! The ports are memif: shared-memory rings, into and out of which both sides copy. *Bare* passes packets between the
//! same ports and does nothing else; it runs by turns with upf-host, which is stopped meanwhile, on the same CPU.
//!
//! * **throughput**: as many packets a second as come back with a bounded number in flight. Nothing can overflow.
//! * **zero-loss rate**: RFC 2544's search, sending at a rate whatever comes back.
//! * **latency**: at half of upf-host's zero-loss rate, for both, from before a burst is sent until it is received; not of the
//!   first 50 ms, in which an idle upf-host wakes up.
//!
//! The generator's own work is in all of it: what it sends and receives is one core's work too, and with bare
//! forwarding it may be the slower of the two.
//!
//! | file | owns |
//! | --- | --- |
//! | [`frames`], [`mix`] | what is on the wire; whose packets, how long |
//! | [`generator`], [`lcore`], [`latency`] | sending and receiving; its thread; the histogram |
//! | [`search`] | the greatest rate without loss |
//! | [`alone`], [`capture`] | the generator for any device; its frames as a file |
//! | [`bare`] | the limit |

pub mod alone;
pub mod bare;
mod capture;
pub mod frames;
pub mod generator;
pub mod latency;
pub mod lcore;
pub mod mix;
pub mod search;

use crate::Outcome;
use crate::figure::{Bound, Figure};
use crate::host::sessions;
use crate::pages::Pages;
use crate::progress::doing;
use crate::stage::{self, Stage};
use frames::Way;
use generator::{Load, Tally, Trial};
use lcore::Lcore;
use mix::{Distribution, Sizes, User};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use upf::lab::{Resources, with_resources};
use upf_host::dpdk::{Eal, EalConfig, LogLevel, Mempool, Port, PortConfig};

/// Whose figures these are.
pub const OURS: &str = "upf-host";
/// The limit.
pub const BARE: &str = "no UPF work (limit)";
/// Packets in flight when throughput is measured: half of a ring, so that nothing overflows.
const WINDOW: u64 = 512;
/// Memory of the generator, and its packets: more than both rings of both stages hold.
const MEMORY_MB: u32 = 160;
const PACKETS: u32 = 32_767;
/// Latency is that of steady traffic: waking up is the `idle` suite's.
pub const SETTLING: Duration = Duration::from_millis(50);
/// How much later than bare forwarding 99.9 % of packets may come, microseconds.
const LATENCY_BAR: f64 = 20.0;
/// A rate that loses is tried again once: virtual machines pause.
const ATTEMPTS: u32 = 2;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
struct Effort {
    runs: usize,
    each: Duration,
    steps: u32,
    searches: usize,
    latency: Duration,
    sessions: u32,
}

impl Effort {
    const FULL: Self = Self {
        runs: 7,
        each: Duration::from_millis(500),
        steps: 7,
        searches: 3,
        latency: Duration::from_secs(2),
        sessions: 1_000_000,
    };
    const QUICK: Self = Self {
        runs: 3,
        each: Duration::from_millis(150),
        steps: 6,
        searches: 1,
        latency: Duration::from_millis(500),
        sessions: 10_000,
    };
}

/// Packets of one kind.
struct Case {
    ways: &'static [Way],
    sizes: Sizes,
    sessions: u32,
    distribution: Distribution,
}

const BOTH: &[Way] = &[Way::Uplink, Way::Downlink];
const SMALL: Sizes = Sizes::Fixed(64);
const USUAL: u32 = 10_000;

const fn case(ways: &'static [Way], sizes: Sizes, sessions: u32, distribution: Distribution) -> Case {
    Case {
        ways,
        sizes,
        sessions,
        distribution,
    }
}

/// The first ones are those of `--quick`; the very first is the one with the bar.
const CASES: [Case; 7] = [
    case(BOTH, SMALL, USUAL, Distribution::Uniform),
    case(BOTH, Sizes::Imix, USUAL, Distribution::Zipf),
    case(&[Way::Uplink], SMALL, USUAL, Distribution::Uniform),
    case(&[Way::Downlink], SMALL, USUAL, Distribution::Uniform),
    case(BOTH, Sizes::Fixed(1_400), USUAL, Distribution::Uniform),
    case(BOTH, SMALL, USUAL, Distribution::Zipf),
    case(BOTH, SMALL, 1_000_000, Distribution::Uniform),
];
const QUICK_CASES: usize = 2;

/// Measures everything.
///
/// # Errors
/// The UPF, a second CPU or DPDK cannot be had, or its packets do not come out.
pub fn run(quick: bool) -> Outcome<Vec<Figure>> {
    let (effort, cases) = match quick {
        true => (Effort::QUICK, &CASES[..QUICK_CASES]),
        false => (Effort::FULL, &CASES[..]),
    };
    with_resources(|resources| {
        let mut suite = Suite::set_up(effort, resources)?;
        for case in cases {
            suite.measure(case)?;
        }
        Ok(std::mem::take(&mut suite.figures))
    })
}

struct Suite {
    effort: Effort,
    bench: Bench,
    ours: Seated,
    bare: Seated,
    installed: u32,
    figures: Vec<Figure>,
}

/// DPDK of this process, and its generator.
pub struct Bench {
    /// Before the memory and the environment, which it uses.
    pub lcore: Lcore,
    /// Of all packets.
    pub pool: Mempool,
    /// The CPU that is left for the UPF.
    pub other_cpu: usize,
}

impl Bench {
    /// Once in a process.
    ///
    /// # Errors
    /// DPDK or a second CPU cannot be had.
    pub fn start() -> Outcome<Self> {
        let (cpu, other_cpu) = stage::two_cpus()?;
        let pages = Pages::huge(MEMORY_MB);
        let eal = Eal::init(&EalConfig {
            name: format!("bench-{}", std::process::id()),
            hugepages: pages.are_huge(),
            memory_mb: MEMORY_MB,
            log_level: LogLevel::Error, // memif warns of what secondary processes would need
            ..EalConfig::default()
        })?;
        Ok(Self {
            pool: Mempool::new(&eal, "generator", PACKETS, 256, 2_048)?,
            lcore: Lcore::start(&eal, cpu)?,
            other_cpu,
        })
    }

    /// Sits down at the other end of a stage's ports.
    ///
    /// # Errors
    /// They do not connect, or the UPF does not answer.
    pub fn sit(&self, stage: Stage, number: usize, answers: bool) -> Outcome<Seated> {
        let (mut ports, mut queues) = (Vec::new(), Vec::new());
        for device in stage.devices(number) {
            let (port, of_port) = Port::open(&PortConfig::new(&device), &self.pool)?;
            ports.push(port);
            queues.push(of_port);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !ports.iter().all(|port| port.link().up) {
            if Instant::now() > deadline {
                return Err("the UPF's ports did not connect within 5 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let seat = self.lcore.seat(queues, self.pool.clone(), stage.headers())?;
        if answers && !self.lcore.resolve(seat)? {
            return Err("the UPF did not answer ARP at both ports".into());
        }
        Ok(Seated { stage, seat })
    }
}

/// A stage and our end of it.
pub struct Seated {
    /// The UPF's processes.
    pub stage: Stage,
    /// The generator's number for its ports.
    pub seat: usize,
}

impl Suite {
    fn set_up(effort: Effort, resources: &Arc<Resources>) -> Outcome<Self> {
        let bench = Bench::start()?;
        let options = stage::Options::new(effort.sessions, bench.other_cpu);
        doing("pktgen", "upf-host starts");
        let ours = bench.sit(Stage::upf(&options, resources)?, 0, true)?;
        ours.stage.pause();
        let bare = bench.sit(Stage::bare(&options, resources)?, 1, false)?;
        bare.stage.pause();
        Ok(Self {
            effort,
            bench,
            ours,
            bare,
            installed: 0,
            figures: Vec::new(),
        })
    }

    /// Cases come with their number of sessions ascending.
    fn measure(&mut self, case: &Case) -> Outcome<()> {
        if case.sessions > self.installed {
            doing("pktgen", format_args!("{} sessions are installed", case.sessions));
            self.ours.stage.resume();
            self.ours.stage.install(0..case.sessions)?;
            self.ours.stage.pause();
            self.installed = case.sessions;
        }
        let direction = direction(case.ways);
        let params = json!({
            "direction": direction, "inner_bytes": case.sizes.to_string(), "sessions": case.sessions,
            "distribution": case.distribution.name(), "ports": "memif", "memory": self.ours.stage.memory,
        });
        let what = format!(
            "{direction}, {} bytes, {} sessions {}",
            case.sizes,
            case.sessions,
            case.distribution.name()
        );
        doing("pktgen", format_args!("{what}: throughput"));
        let user = |number| User {
            ue: sessions::ue(number),
            teid: sessions::uplink_teid(number),
        };
        let users: Arc<[User]> = (0..case.sessions).map(user).collect();
        for seat in [self.ours.seat, self.bare.seat] {
            self.bench.lcore.carry(seat, &users, case.distribution, case.sizes)?;
        }
        let [ours, bare] = self.throughput(case, &params)?;
        doing("pktgen", format_args!("{what}: zero-loss rate"));
        let (mut rates, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..self.effort.searches {
            rates.push(self.zero_loss(true, case, ours)?);
            limits.push(self.zero_loss(false, case, bare)?);
        }
        let of_ours = self.add("zero-loss rate", OURS, &params, "Mpps", rates);
        self.add("zero-loss rate", BARE, &params, "Mpps", limits);
        if of_ours == 0.0 {
            println!("left out: latency, {what}; there is no rate without loss on this machine now");
            return Ok(());
        }
        doing("pktgen", format_args!("{what}: latency"));
        self.latency(case, &params, of_ours / 2.0)
    }

    /// The median.
    fn add(&mut self, name: &str, subject: &str, params: &Value, unit: &str, values: Vec<f64>) -> f64 {
        let figure = Figure::of("pktgen", (name, subject), params.clone(), unit, values);
        let value = figure.as_ref().map_or(0.0, |f| f.value);
        self.figures.extend(figure);
        value
    }

    /// A trial with one of the two while the other is stopped.
    fn trial(&self, ours: bool, case: &Case, load: Load, length: Duration) -> Outcome<Tally> {
        let seated = if ours { &self.ours } else { &self.bare };
        let trial = Trial {
            ways: case.ways.to_vec(),
            load,
            length,
            settling: SETTLING,
            stop: None,
        };
        seated.stage.resume();
        let tally = self.bench.lcore.run(seated.seat, &trial);
        seated.stage.pause();
        tally
    }

    /// Mpps of both.
    fn throughput(&mut self, case: &Case, params: &Value) -> Outcome<[f64; 2]> {
        let mut rates = [Vec::new(), Vec::new()];
        for run in 0..=self.effort.runs {
            for (ours, rates) in [true, false].into_iter().zip(&mut rates) {
                let tally = self.trial(ours, case, Load::Window(WINDOW), self.effort.each)?;
                // The first one warms up, and shows whether packets come out at all.
                if run > 0 {
                    rates.push(tally.rate() / 1e6);
                } else if tally.received == 0 {
                    return Err(format!("of {} packets none came back", tally.offered).into());
                }
            }
        }
        let [ours, bare] = rates;
        let gbits = ours.iter().map(|mpps| mpps * case.sizes.mean() * 8.0 / 1e3).collect();
        let ours = self.add("throughput", OURS, params, "Mpps", ours);
        let bare = self.add("throughput", BARE, params, "Mpps", bare);
        self.add("throughput, users' IP packets", OURS, params, "Gbit/s", gbits);
        Ok([ours, bare])
    }

    /// Mpps.
    fn zero_loss(&self, ours: bool, case: &Case, throughput: f64) -> Outcome<f64> {
        let found = search::zero_loss_rate(throughput * 1.1, self.effort.steps, ATTEMPTS, |mpps| {
            let tally = self.trial(ours, case, Load::Rate(mpps * 1e6), self.effort.each)?;
            // A generator that could not offer the rate has not tried it.
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(tally.lost() == 0 && tally.offered_rate() > 0.98e6 * mpps)
        })?;
        Ok(found.rate)
    }

    /// Of both at this rate, Mpps.
    fn latency(&mut self, case: &Case, params: &Value, mpps: f64) -> Outcome<()> {
        self.add("half the zero-loss rate", OURS, params, "Mpps", vec![mpps]);
        let mut beyond = Vec::new();
        let mut tallies = [Vec::new(), Vec::new()];
        for _ in 0..self.effort.runs.min(5) {
            for (ours, tallies) in [true, false].into_iter().zip(&mut tallies) {
                tallies.push(self.trial(ours, case, Load::Rate(mpps * 1e6), self.effort.latency)?);
            }
            if let [Some(ours), Some(bare)] = [tallies[0].last(), tallies[1].last()] {
                beyond.push(micros(ours.latency.quantile(0.999)) - micros(bare.latency.quantile(0.999)));
            }
        }
        for (subject, tallies) in [OURS, BARE].into_iter().zip(&tallies) {
            for (name, of) in LATENCIES {
                let values = tallies.iter().map(|tally| micros(of(tally))).collect();
                self.add(name, subject, params, "us", values);
            }
            let counts: [Told; 2] = [
                ("packets lost at half the rate", Tally::lost),
                ("packets reordered", |t| t.reordered),
            ];
            for (name, of) in counts {
                let values = tallies.iter().map(|tally| of(tally) as f64).collect();
                self.add(name, subject, params, "", values);
            }
        }
        let median = self.add("latency p99.9 beyond bare forwarding", OURS, params, "us", beyond);
        if self.figures.iter().all(|f| !f.is_bar()) {
            let what = "p99.9 at half the zero-loss rate, beyond bare forwarding's; 64 bytes, 10,000 sessions";
            let bar = Figure::bar(
                "pktgen",
                what,
                Bound::AtMost(LATENCY_BAR),
                median,
                "us",
                "medians of runs",
            );
            self.figures.extend(bar);
        }
        Ok(())
    }
}

/// Something that a tally tells, and its name.
pub type Told = (&'static str, fn(&Tally) -> u64);

/// What is told of a tally's latency, in nanoseconds.
pub const LATENCIES: [Told; 4] = [
    ("latency p50", |t| t.latency.quantile(0.5)),
    ("latency p99", |t| t.latency.quantile(0.99)),
    ("latency p99.9", |t| t.latency.quantile(0.999)),
    ("latency, greatest", |t| t.latency.greatest()),
];

/// From nanoseconds.
pub fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// As figures call it.
pub const fn direction(ways: &[Way]) -> &'static str {
    match ways {
        [Way::Uplink] => "uplink",
        [Way::Downlink] => "downlink",
        _ => "both",
    }
}
