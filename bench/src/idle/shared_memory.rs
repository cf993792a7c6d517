//! upf-host behind memif ports, with its idle settings as by default: CPU time at several loads, single packets after
//! pauses, and the first burst after a long one. The generator polls, so what wakes late is upf-host.

use super::{BURST, cpu_time};
use crate::Outcome;
use crate::figure::{Bound, Figure};
use crate::host::sessions;
use crate::pktgen::frames::Way;
use crate::pktgen::generator::{Load, Tally, Trial};
use crate::pktgen::mix::{Distribution, Sizes, User};
use crate::pktgen::{BARE, Bench, OURS, Seated, micros};
use crate::progress::doing;
use crate::stage::{self, Stage};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use upf::lab::Resources;

const SESSIONS: u32 = 1_000;
/// Packets a second.
const RATES: [u32; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// Between two packets that wake upf-host up.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];
/// Share of a core that idleness may take, per cent.
const IDLE_BAR: f64 = 2.0;

/// How long and how often.
struct Effort {
    runs: usize,
    idle: Duration,
    load: Duration,
    wakes: usize,
}

struct Suite {
    effort: Effort,
    bench: Bench,
    ours: Seated,
    figures: Vec<Figure>,
}

/// Measures everything.
///
/// # Errors
/// upf-host cannot be had, or its packets do not come out.
pub fn measure(quick: bool, resources: &Arc<Resources>) -> Outcome<Vec<Figure>> {
    let effort = match quick {
        true => Effort {
            runs: 2,
            idle: Duration::from_secs(3),
            load: Duration::from_millis(500),
            wakes: 3,
        },
        false => Effort {
            runs: 5,
            idle: Duration::from_secs(10),
            load: Duration::from_secs(3),
            wakes: 15,
        },
    };
    let bench = Bench::start()?;
    let options = stage::Options::new(SESSIONS, bench.other_cpu);
    let ours = bench.sit(Stage::upf(&options, resources)?, 0, true)?;
    ours.stage.install(0..SESSIONS)?;
    let user = |number| User {
        ue: sessions::ue(number),
        teid: sessions::uplink_teid(number),
    };
    let users: Arc<[User]> = (0..SESSIONS).map(user).collect();
    bench
        .lcore
        .carry(ours.seat, &users, Distribution::Uniform, Sizes::Fixed(64))?;
    let mut suite = Suite {
        effort,
        bench,
        ours,
        figures: Vec::new(),
    };
    suite.first_bursts()?;
    suite.cpu_against_load()?;
    suite.waking()?;
    suite.limit(&options, resources, &users)?;
    Ok(suite.figures)
}

impl Suite {
    fn add(&mut self, name: &str, subject: &str, params: &Value, unit: &str, values: Vec<f64>) -> Option<Figure> {
        let figure = Figure::of("idle", (name, subject), params.clone(), unit, values);
        self.figures.extend(figure.clone());
        figure
    }

    fn trial(&self, load: Load, length: Duration) -> Outcome<Tally> {
        let trial = Trial {
            ways: vec![Way::Downlink],
            load,
            length,
            settling: Duration::ZERO,
            stop: None,
        };
        self.bench.lcore.run(self.ours.seat, &trial)
    }

    /// CPU time without packets, and what becomes of a burst after it.
    fn first_bursts(&mut self) -> Outcome<()> {
        let seconds = self.effort.idle.as_secs();
        let (mut shares, mut lost, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for run in 0..self.effort.runs {
            doing(
                "idle",
                format_args!("{seconds} s without packets, {} of {}", run + 1, self.effort.runs),
            );
            let used = self.used(|_| {
                std::thread::sleep(self.effort.idle);
                Ok(())
            })?;
            shares.push(100.0 * used.0.as_secs_f64() / self.effort.idle.as_secs_f64());
            let burst = self.trial(Load::Burst(BURST as u64), Duration::from_secs(2))?;
            lost.push(burst.lost() as f64);
            first.push(micros(burst.latency.quantile(0.0)));
            last.push(micros(burst.latency.greatest()));
        }
        let params = json!({ "seconds": seconds, "ports": "memif" });
        let idle = self.add("CPU time while idle", OURS, &params, "%", shares);
        let params = json!({ "seconds": seconds, "packets": BURST, "inner_bytes": 64, "ports": "memif" });
        let lost = self.add("first burst: packets lost", OURS, &params, "", lost);
        self.add("first burst: shortest latency", OURS, &params, "us", first);
        self.add("first burst: greatest latency", OURS, &params, "us", last);
        let bars = [
            idle.and_then(|f| {
                let what = format!("CPU time of an idle upf-host, {seconds} s without packets");
                Figure::bar("idle", &what, Bound::AtMost(IDLE_BAR), f.value, "%", "")
            }),
            lost.and_then(|f| {
                let what = format!("packets lost of the first {BURST} after {seconds} s, in any run");
                Figure::bar("idle", &what, Bound::AtMost(0.0), f.spread[1], "", "")
            }),
        ];
        self.figures.extend(bars.into_iter().flatten());
        Ok(())
    }

    /// CPU time that upf-host takes during something, and what that gives.
    fn used<T>(&self, work: impl FnOnce(Pid) -> Outcome<T>) -> Outcome<(Duration, T)> {
        let pid = self.ours.stage.host;
        let before = cpu_time(pid)?;
        let done = work(pid)?;
        Ok((cpu_time(pid)?.saturating_sub(before), done))
    }

    fn cpu_against_load(&mut self) -> Outcome<()> {
        for rate in RATES {
            doing("idle", format_args!("CPU time at {rate} packets/s"));
            let (mut shares, mut middle, mut late, mut lost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.effort.runs {
                let (used, tally) = self.used(|_| self.trial(Load::Rate(rate.into()), self.effort.load))?;
                shares.push(100.0 * used.as_secs_f64() / tally.seconds);
                middle.push(micros(tally.latency.quantile(0.5)));
                late.push(micros(tally.latency.quantile(0.99)));
                lost.push(tally.lost() as f64);
            }
            let params = json!({ "packets a second": rate, "inner_bytes": 64, "ports": "memif" });
            self.add("CPU time at a load", OURS, &params, "%", shares);
            self.add("latency at a load, p50", OURS, &params, "us", middle);
            self.add("latency at a load, p99", OURS, &params, "us", late);
            self.add("packets lost at a load", OURS, &params, "", lost);
        }
        Ok(())
    }

    /// Single packets after pauses.
    fn waking(&mut self) -> Outcome<()> {
        for pause in PAUSES {
            doing("idle", format_args!("single packets, {pause:?} apart"));
            let mut latencies = Vec::new();
            for _ in 0..self.effort.wakes {
                std::thread::sleep(pause);
                latencies.push(self.single()?);
            }
            let params = json!({ "ms without packets": pause.as_millis() as u64, "ports": "memif" });
            self.add("latency of a packet after a pause", OURS, &params, "us", latencies);
        }
        Ok(())
    }

    fn single(&self) -> Outcome<f64> {
        let tally = self.trial(Load::Burst(1), Duration::from_secs(1))?;
        if tally.received == 0 {
            return Err("a single packet was lost".into());
        }
        Ok(micros(tally.latency.greatest()))
    }

    /// The same packets through a forwarder that never sleeps.
    fn limit(&mut self, options: &stage::Options, resources: &Arc<Resources>, users: &Arc<[User]>) -> Outcome<()> {
        doing("idle", "a forwarder that never sleeps");
        let bare = self.bench.sit(Stage::bare(options, resources)?, 1, false)?;
        self.bench
            .lcore
            .carry(bare.seat, users, Distribution::Uniform, Sizes::Fixed(64))?;
        let ours = std::mem::replace(&mut self.ours, bare);
        for pause in PAUSES {
            let mut latencies = Vec::new();
            for _ in 0..self.effort.wakes {
                std::thread::sleep(pause);
                latencies.push(self.single()?);
            }
            let params = json!({ "ms without packets": pause.as_millis() as u64, "ports": "memif" });
            self.add("latency of a packet after a pause", BARE, &params, "us", latencies);
        }
        drop(ours);
        Ok(())
    }
}
