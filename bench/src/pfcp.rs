//! The `pfcp` suite: how many sessions and modifications a second the UPF takes over N4, and what traffic notices of
//! them. A real SMF's messages over loopback to the real upf-ctl, which has a real upf-host behind it.
//!
//! ```text
//!   SMF ── PFCP, UDP ──▶ upf-ctl ══ shared memory ══▶ upf-host ◀── memif ──▶ generator
//! ```
//! An answer means that every packet meets the new rules (docs/ARCHITECTURE.md), so a latency here is one to the effect.
//! The limit beside the rates is the same transport's: heartbeats, which no session is looked up for.
//!
//! *During traffic*, modifications (handovers, each with its End Marker) come at 10,000 a second while the generator has
//! a bounded number of packets in flight. Where there are but two CPUs, the SMF, upf-ctl and upf-host's management share
//! the generator's: what the generator then cannot send is not upf-host's loss. So throughput is told twice: by the
//! clock, and by the CPU time that the generator had; the bar is judged by the second.

mod smf;

pub use smf::{Controller, Load};

use crate::figure::{Bound, Figure};
use crate::pktgen::frames::Way;
use crate::pktgen::generator::{Load as Traffic, Tally, Trial};
use crate::pktgen::mix::{Distribution, Sizes};
use crate::pktgen::{Bench, LATENCIES, OURS, Seated, micros};
use crate::progress::doing;
use crate::stage::{self, Stage};
use crate::{Outcome, ipc};
use serde_json::{Value, json};
use smf_sim::load::ProcedureReport;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use upf::lab::{Resources, with_resources};

/// Requests in flight when rates are measured.
const CONCURRENCY: usize = 32;
/// Parts of a load, each of them one run.
pub const PARTS: u32 = 5;
/// During traffic.
const MODIFICATIONS_PER_SECOND: f64 = 10_000.0;
/// As `pktgen` has it.
const WINDOW: u64 = 512;
/// upf-ctl asks for counters every second.
const COUNTERS: Duration = Duration::from_millis(1_500);
/// How much of the throughput modifications may take, per cent.
const THROUGHPUT_BAR: f64 = 5.0;

/// How long and how often.
struct Effort {
    sessions: u32,
    runs: usize,
    each: Duration,
}

/// Measures everything.
///
/// # Errors
/// The UPF cannot be had or refuses a request.
pub fn run(quick: bool) -> Outcome<Vec<Figure>> {
    let effort = match quick {
        true => Effort {
            sessions: 5_000,
            runs: 3,
            each: Duration::from_millis(500),
        },
        false => Effort {
            sessions: 100_000,
            runs: 5,
            each: Duration::from_secs(3),
        },
    };
    with_resources(|resources| measure(&effort, resources))
}

fn measure(effort: &Effort, resources: &Arc<Resources>) -> Outcome<Vec<Figure>> {
    let bench = Bench::start()?;
    let options = stage::Options {
        ctl: true,
        // When the generator's CPU is taken from it, the lcore's sleep would be counted as lost throughput.
        host: "  idle: { sleep_us: 0 }".into(),
        ..stage::Options::new(effort.sessions, bench.other_cpu)
    };
    doing("pfcp", "upf-host and upf-ctl start");
    let seated = bench.sit(Stage::upf(&options, resources)?, 0, true)?;
    let mut controller = Controller::associate(&seated.stage)?;
    let params = json!({ "sessions": effort.sessions, "in flight": CONCURRENCY });
    let mut figures = Vec::new();

    let load = Load {
        concurrency: CONCURRENCY,
        sdf_filters: 0,
    };
    let mut limits = Vec::new();
    let mut setups = Vec::new();
    for part in 0..PARTS {
        doing("pfcp", format_args!("session setups, part {} of {PARTS}", part + 1));
        limits.push(controller.heartbeats(effort.sessions / PARTS, CONCURRENCY)?);
        setups.push(controller.establish(effort.sessions / PARTS, load)?);
    }
    // Now that there are tunnels to it, upf-host learns the gNB's hardware address: End Markers will need it.
    bench.lcore.resolve(seated.seat)?;
    figures.extend(told(
        "session setup",
        "session setups a second",
        &params,
        &setups,
        &limits,
    ));

    let (mut modifications, mut limits) = (Vec::new(), Vec::new());
    for part in 0..PARTS {
        doing("pfcp", format_args!("modifications, part {} of {PARTS}", part + 1));
        limits.push(controller.heartbeats(effort.sessions / PARTS, CONCURRENCY)?);
        modifications.push(controller.modify(effort.sessions / PARTS, CONCURRENCY, None)?);
    }
    figures.extend(told(
        "modification",
        "session modifications a second",
        &params,
        &modifications,
        &limits,
    ));
    figures.extend(during_traffic(&bench, &seated, &mut controller, effort)?);

    doing("pfcp", "session deletions");
    let deletions = controller.delete(CONCURRENCY)?;
    figures.extend(told(
        "deletion",
        "session deletions a second",
        &params,
        &[deletions],
        &[],
    ));
    Ok(figures)
}

/// Rate and latencies of a procedure.
pub fn told(
    procedure: &str,
    rate: &str,
    params: &Value,
    reports: &[ProcedureReport],
    limits: &[ProcedureReport],
) -> Vec<Figure> {
    let of =
        |name: &str, subject: &str, unit: &str, reports: &[ProcedureReport], value: fn(&ProcedureReport) -> f64| {
            let values = reports.iter().map(value).collect();
            Figure::of("pfcp", (name, subject), params.clone(), unit, values)
        };
    let ours = "upf-ctl and upf-host";
    let latency = |which: &str, value| of(&format!("{procedure}, {which}"), ours, "us", reports, value);
    let figures = [
        of(rate, ours, "1/s", reports, |r| r.rate),
        of(rate, "heartbeats (limit)", "1/s", limits, |r| r.rate),
        latency("p50", |r| r.p50_us),
        latency("p99", |r| r.p99_us),
        latency("p99.9", |r| r.p999_us),
        latency("greatest", |r| r.max_us),
    ];
    figures.into_iter().flatten().collect()
}

/// Throughput with and without modifications, by turns; and what is lost.
fn during_traffic(
    bench: &Bench,
    seated: &Seated,
    controller: &mut Controller,
    effort: &Effort,
) -> Outcome<Vec<Figure>> {
    bench.lcore.carry(
        seated.seat,
        &controller.users(),
        Distribution::Uniform,
        Sizes::Fixed(64),
    )?;
    let trial = |load, stop: &Arc<AtomicBool>| Trial {
        ways: vec![Way::Uplink, Way::Downlink],
        load,
        length: Duration::from_secs(60),
        settling: Duration::ZERO,
        stop: Some(stop.clone()),
    };
    // Everything but the lcore's CPU is for everything else.
    let cpus = ipc::cpus();
    let others: Vec<usize> = cpus.iter().copied().filter(|&cpu| cpu != bench.other_cpu).collect();
    seated.stage.hold_control(&others)?;
    ipc::hold_to(&others);
    let mut quiet = Vec::new();
    let mut busy = Vec::new();
    let mut modifications = Vec::new();
    for run in 0..=effort.runs {
        doing(
            "pfcp",
            format_args!("traffic without and with modifications, {run} of {}", effort.runs),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let tally = bench.lcore.begin(seated.seat, &trial(Traffic::Window(WINDOW), &stop));
        std::thread::sleep(effort.each);
        stop.store(true, Ordering::Relaxed);
        let without = tally.recv()?;
        let stop = Arc::new(AtomicBool::new(false));
        let tally = bench.lcore.begin(seated.seat, &trial(Traffic::Window(WINDOW), &stop));
        let count = (MODIFICATIONS_PER_SECOND * effort.each.as_secs_f64()) as u32;
        let report = controller.modify(count, CONCURRENCY, Some(MODIFICATIONS_PER_SECOND));
        stop.store(true, Ordering::Relaxed);
        let with = tally.recv()?;
        let report = report?;
        // The first turn warms up.
        if run > 0 {
            modifications.push(report);
            quiet.push(without);
            busy.push(with);
        }
    }
    ipc::hold_to(&cpus);
    seated.stage.hold_control(&cpus)?;
    std::thread::sleep(COUNTERS);
    let drops = seated.stage.drops();
    println!("dropped by upf-host while it had traffic: {drops}");
    Ok(effect(&quiet, &busy, &modifications, effort, cpus.len()))
}

fn effect(
    quiet: &[Tally],
    busy: &[Tally],
    modifications: &[ProcedureReport],
    effort: &Effort,
    cpus: usize,
) -> Vec<Figure> {
    let params = json!({
        "sessions": effort.sessions, "wanted a second": MODIFICATIONS_PER_SECOND, "inner_bytes": 64, "window": WINDOW,
        "ports": "memif", "cpus": cpus,
    });
    let of = |name: &str, subject: &str, unit: &str, values: Vec<f64>| {
        Figure::of("pfcp", (name, subject), params.clone(), unit, values)
    };
    let each = |tallies: &[Tally], value: fn(&Tally) -> f64| tallies.iter().map(value).collect::<Vec<f64>>();
    let asked = |value: fn(&ProcedureReport) -> f64| modifications.iter().map(value).collect::<Vec<f64>>();
    let (without, with) = ("without modifications", "during modifications");
    let share = |value: fn(&Tally) -> f64| -> Vec<f64> {
        let pairs = quiet.iter().zip(busy);
        pairs
            .map(|(without, with)| 100.0 * (1.0 - value(with) / value(without)))
            .collect()
    };
    let mut figures: Vec<Figure> = [
        of("modifications a second during traffic", OURS, "1/s", asked(|r| r.rate)),
        of("modification during traffic, p50", OURS, "us", asked(|r| r.p50_us)),
        of("modification during traffic, p99", OURS, "us", asked(|r| r.p99_us)),
        of("throughput", without, "Mpps", each(quiet, |t| t.rate() / 1e6)),
        of("throughput", with, "Mpps", each(busy, |t| t.rate() / 1e6)),
        of(
            "throughput of the generator's CPU time",
            without,
            "Mpps",
            each(quiet, |t| t.rate_of_cpu() / 1e6),
        ),
        of(
            "throughput of the generator's CPU time",
            with,
            "Mpps",
            each(busy, |t| t.rate_of_cpu() / 1e6),
        ),
        of("throughput less, by the clock", with, "%", share(Tally::rate)),
        of(
            "throughput less, by the generator's CPU time",
            with,
            "%",
            share(Tally::rate_of_cpu),
        ),
        of("packets lost", without, "", each(quiet, |t| t.lost() as f64)),
        of("packets lost", with, "", each(busy, |t| t.lost() as f64)),
        of("packets reordered", with, "", each(busy, |t| t.reordered as f64)),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (subject, tallies) in [(without, quiet), (with, busy)] {
        for (name, value) in LATENCIES {
            let values = tallies.iter().map(|tally| micros(value(tally))).collect();
            figures.extend(of(name, subject, "us", values));
        }
    }
    let median = |name: &str| figures.iter().find(|f| f.name == name).map(|f| f.value);
    let less = median("throughput less, by the generator's CPU time");
    let rate = median("modifications a second during traffic");
    let lost = busy.iter().map(|tally| tally.lost() as f64).sum();
    let remark = format!("at {:.0} modifications a second", rate.unwrap_or(0.0));
    let bars = [
        less.and_then(|less| {
            let what = "throughput taken by modifications, by the generator's CPU time";
            Figure::bar("pfcp", what, Bound::Below(THROUGHPUT_BAR), less, "%", &remark)
        }),
        Figure::bar(
            "pfcp",
            "packets lost during modifications",
            Bound::AtMost(0.0),
            lost,
            "",
            &remark,
        ),
        rate.and_then(|rate| {
            let what = "modifications a second during traffic";
            Figure::bar(
                "pfcp",
                what,
                Bound::AtLeast(0.95 * MODIFICATIONS_PER_SECOND),
                rate,
                "1/s",
                "",
            )
        }),
    ];
    figures.extend(bars.into_iter().flatten());
    figures
}
