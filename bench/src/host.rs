//! The `host` suite: packets a second that one core takes through the host pipeline, beside the same ports, batches
//! and frames without any UPF work.
//!
//! ```text
//!   net_null ─rx 32─▶ fill: a frame of a random session ─▶ [pipeline] ─▶ tx ─▶ net_null
//! ```
//! `net_null` gives real mbufs at no cost and takes them back, so what is measured is the core and its memory, not a
//! link. *Filling* copies a prepared frame into the mbuf and sets TEID, UE address and header checksum of a session
//! drawn uniformly: every packet is another session's, the worst case for caches. The limit is the same without the
//! pipeline, in turn with it. Sessions are installed by the manager as upf-ctl's batches are: 2 PDRs, 2 FARs, a QER
//! with a QoS flow and an MBR that is never reached, a URR for volume and duration. Then, in a table of their own, sessions
//! with 100 PDRs, each with an SDF filter: packets are of a random session and match a random one of its PDRs.
//!
//! With two CPUs and more, two lcores with 10,000 sessions, beside one of the two: packets of each lcore's own users come
//! to it, or those of any user to any, or all to one of them; lcores hand over what is not theirs.
//!
//! Two things are kinder than a network card: a filled frame is in the first-level cache when the pipeline reads it,
//! and few mbufs are in use at a time. One is not: filling takes its time from the same core.
//!
//! Every repetition checks that as many packets left as came in and that none was dropped; one packet of each
//! direction is looked at before.

mod rig;
pub mod sessions;
mod several;
mod traffic;

use crate::Outcome;
use crate::figure::Figure;
use crate::pages::Pages;
use crate::progress::doing;
use arrayvec::ArrayVec;
use rig::Rig;
use serde_json::{Value, json};
use sessions::{FILTERS, Filters, filtered_session, usual_session};
use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use traffic::{Traffic, Way};
use upf_host::dpdk::{Eal, EalConfig, Mbuf, spawn_worker, tsc, tsc_hz};
use upf_host::egress::Class;
use upf_host::pipeline::{BURST, Io};
use upf_model::batch::Change;

/// Packets per receive burst, upf-host's default.
const PER_BURST: usize = 32;
/// Bursts between two looks at the clock.
const PER_LOOK: usize = 128;
/// How many sessions there are when packets are measured.
const POPULATIONS: [u32; 3] = [1, 10_000, 1_000_000];
/// How many there are with many PDRs, and whether their filters are the same: few sessions show what the PDRs cost, many
/// what their memory costs.
const FILTERED: [(u32, Filters); 4] = [
    (100, Filters::Shared),
    (100, Filters::Private),
    (10_000, Filters::Shared),
    (10_000, Filters::Private),
];
/// Sessions of one batch while installing.
const PER_BATCH: u32 = 256;
/// The same memory for packets either way.
const MEMORY_MB: u32 = 128;

/// How long and how often.
#[derive(Clone, Copy)]
struct Effort {
    repetitions: usize,
    each: Duration,
    replacements: u32,
}

/// Measures everything.
///
/// # Errors
/// DPDK cannot be had, or packets got lost on the way: then no figure would mean anything.
pub fn run(quick: bool, hugepages: bool, only: Option<u32>) -> Outcome<Vec<Figure>> {
    let effort = match quick {
        true => Effort {
            repetitions: 5,
            each: Duration::from_millis(40),
            replacements: 1_000,
        },
        false => Effort {
            repetitions: 9,
            each: Duration::from_millis(200),
            replacements: 10_000,
        },
    };
    let pages = if hugepages {
        Pages::huge(MEMORY_MB)
    } else {
        Pages::Small
    };
    let config = EalConfig {
        name: format!("bench-{}", std::process::id()),
        hugepages: pages.are_huge(),
        memory_mb: MEMORY_MB,
        ..EalConfig::default()
    };
    let eal = Eal::init(&config)?;
    let memory = pages.name();
    drop(pages); // DPDK has them; the system's setting goes back to what it was
    let populations = only.map_or(POPULATIONS.to_vec(), |sessions| vec![sessions]);
    let (tell, told) = mpsc::channel();
    let of_worker = eal.clone();
    let work = move || {
        let suite = || {
            let figures = Vec::new();
            Rig::new(&of_worker).map(|rig| Suite {
                rig,
                effort,
                memory,
                figures,
            })
        };
        let figures = suite()
            .and_then(|suite| suite.measure(&populations))
            .and_then(|mut figures| {
                if only.is_none() {
                    figures.extend(suite()?.filtered()?);
                }
                Ok(figures)
            });
        let _ = tell.send(figures);
    };
    let cpu = crate::ipc::cpus().last().copied().unwrap_or(0);
    let worker = spawn_worker(&eal, cpu, "bench", work)?;
    let figures = told.recv();
    worker.join().map_err(|_| "the measuring thread panicked")?;
    let mut figures = figures??;
    if only.is_none() {
        figures.extend(several::run(&eal, effort, memory)?);
    }
    Ok(figures)
}

struct Suite {
    rig: Rig,
    effort: Effort,
    memory: &'static str,
    figures: Vec<Figure>,
}

/// What one repetition took.
#[derive(Clone, Copy)]
struct Sample {
    packets: f64,
    seconds: f64,
    cycles: f64,
}

impl Suite {
    fn measure(mut self, populations: &[u32]) -> Outcome<Vec<Figure>> {
        let mut installed = 0;
        for &population in populations {
            doing("host", format_args!("{population} sessions"));
            let resident = resident_bytes();
            let rates = self.install(installed..population)?;
            let grown = resident_bytes().saturating_sub(resident);
            let added = f64::from(population.saturating_sub(installed)).max(1.0);
            installed = population;
            if Some(&population) == populations.last() {
                let params = json!({ "sessions": population, "batch": PER_BATCH });
                self.add("installing sessions", "upf-host manager", &params, "1/s", rates);
                let params = json!({ "sessions": population });
                self.add(
                    "memory of a session",
                    "upf-host",
                    &params,
                    "B",
                    vec![grown as f64 / added],
                );
            }
            for way in [Way::Uplink, Way::Downlink] {
                self.forwarding(way, population, Filters::None)?;
            }
        }
        doing("host", "replacing sessions");
        self.replacing(installed)?;
        Ok(self.figures)
    }

    /// Sessions with many PDRs.
    fn filtered(mut self) -> Outcome<Vec<Figure>> {
        for (population, filters) in FILTERED {
            let of_each = 2 * FILTERS;
            doing(
                "host",
                format_args!("{population} sessions of {of_each} PDRs, filters {filters:?}"),
            );
            let put = |number| change(filtered_session(number, filters));
            batches(0..population, put).try_for_each(|batch| self.rig.manager.apply(&batch).map(drop))?;
            for way in [Way::Uplink, Way::Downlink] {
                self.forwarding(way, population, filters)?;
            }
        }
        Ok(self.figures)
    }

    fn add(&mut self, name: &str, subject: &str, params: &Value, unit: &'static str, values: Vec<f64>) {
        self.figures
            .extend(Figure::of("host", (name, subject), params.clone(), unit, values));
    }

    /// Installs sessions in batches; the rates of parts of it, sessions a second.
    fn install(&mut self, numbers: Range<u32>) -> Outcome<Vec<f64>> {
        let part = (numbers.len() as u32 / 10).max(1).next_multiple_of(PER_BATCH);
        let mut rates = Vec::new();
        for start in numbers.clone().step_by(part as usize) {
            let part = start..numbers.end.min(start + part);
            let mut taken = Duration::ZERO;
            for batch in batches(part.clone(), |number| put(number, 1)) {
                let begin = Instant::now();
                self.rig.manager.apply(&batch)?;
                taken += begin.elapsed();
            }
            rates.push(part.len() as f64 / taken.as_secs_f64());
        }
        Ok(rates)
    }

    /// Packets of random sessions one way: with the pipeline and without, by turns.
    fn forwarding(&mut self, way: Way, population: u32, filters: Filters) -> Outcome<()> {
        let mut traffic = Traffic::new(way, population, filters, &self.rig.lane);
        self.rig.lane.refresh_neighbours();
        self.look_at_one(&mut traffic)?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for repetition in 0..=self.effort.repetitions {
            let samples = [
                self.repetition(&mut traffic, true)?,
                self.repetition(&mut traffic, false)?,
            ];
            // The first one warms up.
            if repetition > 0 {
                with.push(samples[0]);
                without.push(samples[1]);
            }
        }
        let mut params = json!({
            "direction": way.name(), "sessions": population, "inner_bytes": traffic::INNER_BYTES, "burst": PER_BURST,
            "memory": self.memory,
        });
        if filters != Filters::None {
            params["filters"] = json!(format!("{filters:?}").to_lowercase());
        }
        let ratios = with.iter().zip(&without).map(|(w, l)| w.rate() / l.rate()).collect();
        let (ours, limit) = ("upf-host pipeline", "no UPF work (limit)");
        let name = |what: &str| match filters {
            Filters::None => what.to_owned(),
            Filters::Shared | Filters::Private => format!("{what}, {} PDRs a session", 2 * FILTERS),
        };
        for (subject, samples) in [(ours, &with), (limit, &without)] {
            let of = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<f64>>();
            let figures = [
                ("packets per core", "Mpps", of(|s| s.rate() / 1e6)),
                ("time per packet", "ns", of(|s| s.seconds * 1e9 / s.packets)),
                ("time stamp counter per packet", "cycles", of(|s| s.cycles / s.packets)),
            ];
            for (what, unit, values) in figures {
                self.add(&name(what), subject, &params, unit, values);
            }
        }
        self.add(&name("share of the limit"), ours, &params, "", ratios);
        Ok(())
    }

    /// Packets for a while; an error if any of them did not come out.
    fn repetition(&mut self, traffic: &mut Traffic, pipeline: bool) -> Outcome<Sample> {
        // Other work of the machine gets its turn here and not in between.
        std::thread::sleep(self.effort.each / 8);
        let before = self.rig.lane.tally(traffic.way());
        let mut packets = 0;
        let cycles = repeated(self.effort.each, || {
            packets += match pipeline {
                true => self.rig.lane.forward(traffic, PER_LOOK)?,
                false => self.rig.lane.pass(traffic, PER_LOOK)?,
            };
            Ok(())
        })?;
        let after = self.rig.lane.tally(traffic.way());
        let (sent, dropped) = (after.sent - before.sent, after.dropped - before.dropped);
        if sent != packets || dropped != 0 {
            let drops = self.rig.lane.drops();
            return Err(format!("{packets} packets in, {sent} out, {dropped} dropped: {drops:?}").into());
        }
        Ok(Sample {
            packets: packets as f64,
            seconds: cycles / tsc_hz() as f64,
            cycles,
        })
    }

    /// One packet through the pipeline, and what came out.
    fn look_at_one(&mut self, traffic: &mut Traffic) -> Outcome<()> {
        let number = traffic.next();
        let mut packet = self.rig.lane.pool.allocate().ok_or("no packet buffer")?;
        traffic.frame_of(number, &mut packet)?;
        let mut seen = Seen {
            pool: self.rig.lane.pool.clone(),
            sent: Vec::new(),
        };
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        burst.push(packet);
        let now = self.rig.lane.clock.now();
        self.rig
            .lane
            .pipeline
            .process(traffic.way().ingress(), &mut burst, now, &mut seen);
        match seen.sent.as_slice() {
            [(port, packet)] if *port == traffic.way().egress() => traffic.check(number, packet),
            sent => Err(format!(
                "{} packets came out of one; dropped: {:?}",
                sent.len(),
                self.rig.lane.drops()
            )
            .into()),
        }
    }

    /// Single sessions, each replaced by a version with another tunnel, as a handover does.
    fn replacing(&mut self, population: u32) -> Outcome<()> {
        let mut traffic = Traffic::new(Way::Downlink, population, Filters::None, &self.rig.lane);
        let (mut middle, mut late) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let mut times = Vec::with_capacity(self.effort.replacements as usize);
            for _ in 0..self.effort.replacements {
                let batch = [put(traffic.next(), round + 2)];
                let begin = Instant::now();
                self.rig.manager.apply(&batch)?;
                times.push(begin.elapsed().as_nanos() as f64 / 1e3);
            }
            times.sort_by(f64::total_cmp);
            middle.push(times[times.len() / 2]);
            late.push(times[times.len() * 99 / 100]);
        }
        let params = json!({ "sessions": population });
        self.add("replacing a session, median", "upf-host manager", &params, "us", middle);
        self.add(
            "replacing a session, 99th percentile",
            "upf-host manager",
            &params,
            "us",
            late,
        );
        Ok(())
    }
}

impl Sample {
    fn rate(&self) -> f64 {
        self.packets / self.seconds
    }
}

/// Does something again and again for at least so long; the ticks of the time stamp counter that it took.
fn repeated(each: Duration, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let length = (each.as_secs_f64() * tsc_hz() as f64) as u64;
    let start = tsc();
    loop {
        work()?;
        let taken = tsc() - start;
        if taken >= length {
            return Ok(taken as f64);
        }
    }
}

/// Changes about these sessions, in batches as upf-ctl sends them.
fn batches(numbers: Range<u32>, change: impl Fn(u32) -> Change) -> impl Iterator<Item = Vec<Change>> {
    let starts = numbers.clone().step_by(PER_BATCH as usize);
    starts.map(move |start| (start..numbers.end.min(start + PER_BATCH)).map(&change).collect())
}

/// Keeps what is sent.
struct Seen {
    pool: upf_host::dpdk::Mempool,
    sent: Vec<(u8, Mbuf)>,
}

impl upf_host::packet::Allocator<Mbuf> for Seen {
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}

impl Io<Mbuf> for Seen {
    fn send(&mut self, port: u8, packet: Mbuf, _: Class) {
        self.sent.push((port, packet));
    }
    fn flush(&mut self) {}
}

fn put(number: u32, version: u32) -> Change {
    change(usual_session(number, version))
}

fn change(session: upf_model::Session) -> Change {
    Change::Put {
        session,
        end_markers: Vec::new(),
        discard_buffered: Vec::new(),
    }
}

/// Memory of this process that is in use.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4_096
}
