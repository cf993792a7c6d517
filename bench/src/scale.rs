//! The `scale` suite: as many sessions as the UPF is for, set up over PFCP as an SMF does it; what each takes of memory
//! in both daemons, traffic over all of them; and what finding and changing rules costs against their number, in the
//! tables alone up to ten million.
//!
//! Memory of a session is the growth of both processes' resident memory over their sessions. What does not fit into this
//! machine's memory is left out, and said to be.

use crate::classifier;
use crate::figure::{Bound, Figure};
use crate::pfcp::{Controller, Load, PARTS};
use crate::pktgen::frames::Way;
use crate::pktgen::generator::{Load as Traffic, Tally, Trial};
use crate::pktgen::mix::{Distribution, Sizes, User};
use crate::pktgen::{BARE, Bench, OURS, Seated};
use crate::progress::doing;
use crate::record::machine::available_bytes;
use crate::stage::{self, Stage, resident_bytes};
use crate::{Outcome, pfcp};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use upf::lab::{Resources, with_resources};

/// Bytes of a session over both daemons, at most.
const MEMORY_BAR: f64 = 1_536.0;
/// Bytes that a session may take here before the kernel ends somebody, in daemons, store and generator; twice what it does.
const ROOM: u64 = 6_144;
/// Bytes of a session in the tables alone, with what the measurement itself holds.
const ROOM_IN_TABLES: u64 = 900;
const WINDOW: u64 = 512;
/// Until answers to requests are given up, and their memory with them, where PFCP's timers are as by default.
const SETTLING: Duration = Duration::from_secs(30);
/// Requests in flight.
const CONCURRENCY: usize = 64;

/// How much.
struct Effort {
    sessions: u32,
    runs: usize,
    each: Duration,
    /// Sessions in the tables alone.
    tables: &'static [u32],
}

/// Measures everything.
///
/// # Errors
/// The UPF cannot be had or refuses a session.
pub fn run(quick: bool) -> Outcome<Vec<Figure>> {
    let effort = match quick {
        true => Effort {
            sessions: 50_000,
            runs: 3,
            each: Duration::from_millis(300),
            tables: &[10_000, 100_000, 1_000_000],
        },
        false => Effort {
            sessions: 1_000_000,
            runs: 7,
            each: Duration::from_secs(1),
            tables: &[10_000, 100_000, 1_000_000, 10_000_000],
        },
    };
    with_resources(|resources| measure(&effort, resources))
}

fn measure(effort: &Effort, resources: &Arc<Resources>) -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    let bench = Bench::start()?;
    // Two PDRs, two FARs, a QER, a URR; and with an SDF filter four PDRs.
    for (number, sdf_filters) in [0, 1].into_iter().enumerate() {
        let fitting = u32::try_from(available_bytes() / ROOM).unwrap_or(u32::MAX);
        let sessions = effort.sessions.min(fitting);
        if sessions < effort.sessions {
            println!(
                "left out: {} sessions; memory is enough for {sessions}",
                effort.sessions
            );
        }
        match loaded(&bench, number, sessions, sdf_filters, effort, resources) {
            Ok(measured) => figures.extend(measured),
            // What was measured before, in minutes, is not thrown away for it.
            Err(error) => println!("left out: {sessions} sessions, {sdf_filters} SDF filters each: {error}"),
        }
    }
    drop(bench);
    for &sessions in effort.tables {
        if available_bytes() / ROOM_IN_TABLES < u64::from(sessions) {
            println!("left out: {sessions} sessions in the tables alone; memory is not enough");
            continue;
        }
        doing("scale", format_args!("{sessions} sessions in the tables alone"));
        figures.extend(classifier::of_ours(sessions)?.into_iter().map(|figure| Figure {
            suite: "scale".into(),
            name: format!("tables: {}", figure.name),
            ..figure
        }));
    }
    Ok(figures)
}

/// One population over PFCP, and traffic over all of it.
fn loaded(
    bench: &Bench,
    number: usize,
    sessions: u32,
    sdf_filters: u32,
    effort: &Effort,
    resources: &Arc<Resources>,
) -> Outcome<Vec<Figure>> {
    let pdrs = 2 + 2 * sdf_filters;
    // No room to spare: a refused setup leaves nothing behind.
    let options = stage::Options {
        ctl: true,
        ..stage::Options::new(sessions, bench.other_cpu)
    };
    let mut seated = bench.sit(Stage::upf(&options, resources)?, number, true)?;
    let mut controller = Controller::associate(&seated.stage)?;
    let daemons = [("upf-host", Some(seated.stage.host)), ("upf-ctl", seated.stage.ctl)];
    let resident = || -> Outcome<Vec<u64>> {
        let pids = daemons.iter().filter_map(|(_, pid)| *pid);
        pids.map(resident_bytes).collect()
    };
    let before = resident()?;
    let load = Load {
        concurrency: CONCURRENCY,
        sdf_filters,
    };
    let mut reports = Vec::new();
    for part in 0..PARTS {
        doing(
            "scale",
            format_args!(
                "{sessions} sessions of {pdrs} PDRs over PFCP, part {} of {PARTS}",
                part + 1
            ),
        );
        let report = controller.establish(sessions / PARTS, load)?;
        doing("scale", format_args!("{:.0} sessions a second", report.rate));
        reports.push(report);
    }
    let at_once = resident()?;
    doing("scale", "until nobody retransmits a request any more");
    std::thread::sleep(SETTLING);
    let after = resident()?;
    let params = json!({ "sessions": sessions, "pdrs": pdrs });
    let of = |name: &str, subject: &str, unit: &str, values: Vec<f64>| {
        Figure::of("scale", (name, subject), params.clone(), unit, values)
    };
    let setups = pfcp::told("session setup", "session setups a second", &params, &reports, &[]);
    let mut figures: Vec<Figure> = setups
        .into_iter()
        .map(|figure| Figure {
            suite: "scale".into(),
            ..figure
        })
        .collect();
    let refused = controller.refused() as f64;
    figures.extend(of(
        "session setups refused and asked for again",
        "upf-ctl",
        "",
        vec![refused],
    ));
    let grown = |now: &[u64]| -> Vec<f64> {
        let bytes = before.iter().zip(now).map(|(before, now)| now.saturating_sub(*before));
        bytes.map(|bytes| bytes as f64 / f64::from(sessions)).collect()
    };
    let with_answers: f64 = grown(&at_once).iter().sum();
    figures.extend(of(
        "memory of a session, with answers for retransmissions",
        "both daemons",
        "B",
        vec![with_answers],
    ));
    let grown = grown(&after);
    for ((daemon, _), bytes) in daemons.iter().zip(&grown) {
        figures.extend(of("memory of a session", daemon, "B", vec![*bytes]));
    }
    let both: f64 = grown.iter().sum();
    figures.extend(of("memory of a session", "both daemons", "B", vec![both]));
    if sdf_filters == 0 {
        let what = format!("memory of a session with 2 PDRs over both daemons, {sessions} sessions");
        figures.extend(Figure::bar("scale", &what, Bound::AtMost(MEMORY_BAR), both, "B", ""));
    }

    doing(
        "scale",
        format_args!("upf-ctl starts again with {sessions} sessions of {pdrs} PDRs"),
    );
    let restart = seated.stage.restart_ctl()?;
    figures.extend(of(
        "start-up with all sessions in the store",
        "upf-ctl",
        "s",
        vec![restart.as_secs_f64()],
    ));

    doing("scale", format_args!("traffic over {sessions} sessions of {pdrs} PDRs"));
    let traffic = throughput(bench, &seated, &controller.users(), effort)?;
    seated.stage.pause();
    let bare = bench.sit(Stage::bare(&options, resources)?, 2 + number, false)?;
    let limit = throughput(bench, &bare, &controller.users(), effort)?;
    for (subject, tallies) in [(OURS, &traffic), (BARE, &limit)] {
        let rates = tallies.iter().map(|t| t.rate() / 1e6).collect();
        figures.extend(of("throughput over all sessions", subject, "Mpps", rates));
    }
    let lost = traffic.iter().map(|t| t.lost() as f64).collect();
    figures.extend(of("packets lost", OURS, "", lost));
    Ok(figures)
}

/// Small packets of all these users, both ways.
fn throughput(bench: &Bench, seated: &Seated, users: &Arc<[User]>, effort: &Effort) -> Outcome<Vec<Tally>> {
    bench
        .lcore
        .carry(seated.seat, users, Distribution::Uniform, Sizes::Fixed(64))?;
    let trial = Trial {
        ways: vec![Way::Uplink, Way::Downlink],
        load: Traffic::Window(WINDOW),
        length: effort.each,
        settling: Duration::ZERO,
        stop: None,
    };
    bench.lcore.run(seated.seat, &trial)?; // warms up
    (0..effort.runs).map(|_| bench.lcore.run(seated.seat, &trial)).collect()
}
