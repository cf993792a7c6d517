//! The `classifier` suite: finding a packet's session and PDR, ours beside what else there is.
//!
//! The comparison is meant to be one that the authors of the others would accept. Every algorithm is written here after
//! its published idea (it is not its authors' code), in the same language, and gets packets that are parsed already, out
//! of the nearest cache. Each has its turn twice: as published, with all sessions' rules in one table, and behind our
//! own session stage, which is what a UPF's author would do with it. `rte_acl` is DPDK's. Before anything is timed,
//! everybody's answers are compared with the linear oracle's, and again after changes: a wrong one ends the run.
//!
//! | file | owns |
//! | --- | --- |
//! | [`rule`], [`contest`] | rules and packets; what contestants can do, without and with the session stage |
//! | [`ours`], [`linear`], [`tuple_space`], [`partition_sort`], [`tuple_merge`], [`acl`] | one algorithm each, and what it is about |
//! | [`population`] | rule sets shaped like a UPF's, and packets for them |
//! | [`measure`] | the clock, and the check against the oracle |
//! | [`suite`], [`hostile`], [`classbench`] | the grid; the hostile session; rule sets from files |
//! | [`report`], [`bars`] | tables; what must hold, and whether it does |
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the modules are the chapters of the text above"
)]

mod acl;
mod bars;
mod buckets;
mod classbench;
mod contest;
mod hostile;
mod linear;
mod measure;
mod ours;
mod partition_sort;
mod population;
mod report;
mod rule;
mod suite;
mod tuple_merge;
mod tuple_space;

use crate::Outcome;
use crate::figure::Figure;
use classbench::SessionField;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use population::Population;
use std::path::PathBuf;
use std::time::Duration;
use upf_host::dpdk::{Eal, EalConfig};

/// What the suite can be asked for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A filter set in ClassBench's format, instead of the suite's own.
    #[arg(long, requires = "trace")]
    rules: Option<PathBuf>,
    /// A trace in ClassBench's format.
    #[arg(long, requires = "rules")]
    trace: Option<PathBuf>,
    /// Which address of the filters identifies the session.
    #[arg(long, value_enum, default_value = "none", requires = "rules")]
    session_field: SessionField,
    /// Only combinations of so many sessions; any number may be asked for, 10,000,000 too.
    #[arg(long, conflicts_with = "rules")]
    sessions: Option<u32>,
    /// Only combinations of so many PDRs in a session.
    #[arg(long, conflicts_with = "rules")]
    pdrs: Option<u32>,
    /// Only combinations that a bar looks at.
    #[arg(long, conflicts_with_all = ["rules", "sessions", "pdrs"])]
    bars: bool,
    /// Only ours: without the comparisons.
    #[arg(long, conflicts_with = "rules")]
    ours: bool,
}

impl Options {
    /// Whether only a part of the grid is asked for.
    const fn is_part(&self) -> bool {
        self.sessions.is_some() || self.pdrs.is_some()
    }
}

/// How long and how often, and how much of the grid.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    quick: bool,
    repetitions: usize,
    each: Duration,
    /// Rules that changes are about, in all.
    changes: usize,
    /// Answers that are compared with the oracle's before measuring.
    checked: usize,
    most_packets: usize,
    most_global: u64,
    most_static: u64,
    /// How often the hostile session comes and goes.
    rounds: usize,
}

impl Effort {
    const FULL: Self = Self {
        quick: false,
        repetitions: 5,
        each: Duration::from_millis(12),
        changes: 16_000,
        checked: 8_192,
        most_packets: 1 << 18,
        most_global: 400_000,
        most_static: 40_000,
        rounds: 15,
    };
    const QUICK: Self = Self {
        quick: true,
        repetitions: 3,
        each: Duration::from_millis(6),
        changes: 4_000,
        checked: 2_048,
        most_packets: 1 << 17,
        most_global: 40_000,
        most_static: 4_000,
        rounds: 7,
    };

    /// What `--quick` looks at: the hot ones, and one large population.
    const fn is_in_quick(self, population: Population) -> bool {
        match (population.sessions, population.pdrs) {
            (1, _) => true,
            (10_000, pdrs) => pdrs == 4,
            (1_000_000, pdrs) => pdrs == 4 && matches!(population.sets, population::Sets::Shared),
            _ => false,
        }
    }
}

/// Runs the suite; prints a table of each combination as it goes.
///
/// # Errors
/// Somebody answered wrong: then no figure would mean anything.
pub fn run(options: &Options, quick: bool) -> Outcome<Vec<Figure>> {
    let effort = if quick { Effort::QUICK } else { Effort::FULL };
    let eal = environment();
    stay_on_one_cpu();
    if let (Some(rules), Some(trace)) = (&options.rules, &options.trace) {
        return Ok(classbench::run(
            (rules, trace),
            options.session_field,
            eal.as_ref(),
            effort,
        )?);
    }
    let mut figures = suite::grid(options, eal.as_ref(), effort)?;
    if !options.is_part() {
        figures.extend(hostile::run(effort)?);
        figures.extend(bars::judge(&figures));
    }
    Ok(figures)
}

/// Ours alone, with so many sessions of two PDRs: what finding and changing rules costs, and memory.
///
/// # Errors
/// An answer was wrong.
pub fn of_ours(sessions: u32) -> Outcome<Vec<Figure>> {
    let options = Options {
        rules: None,
        trace: None,
        session_field: SessionField::None,
        sessions: Some(sessions),
        pdrs: Some(2),
        bars: false,
        ours: true,
    };
    let mut figures = suite::grid(&options, None, Effort::QUICK)?;
    figures.retain(|figure| figure.subject == ours::NAME);
    Ok(figures)
}

/// DPDK, for `rte_acl`, with its widest instructions allowed; without it the suite goes on, and says so.
fn environment() -> Option<Eal> {
    let config = EalConfig {
        name: format!("bench-{}", std::process::id()),
        memory_mb: 2_048,
        extra_args: vec!["--force-max-simd-bitwidth=512".to_owned()],
        ..EalConfig::default()
    };
    Eal::init(&config)
        .inspect_err(|error| println!("left out everywhere: rte_acl ({error})"))
        .ok()
}

/// The last CPU that may be used; a failure costs precision and nothing else.
fn stay_on_one_cpu() {
    let mut one = CpuSet::new();
    if let Some(cpu) = crate::ipc::cpus().last()
        && one.set(*cpu).is_ok()
        && let Err(error) = sched_setaffinity(Pid::from_raw(0), &one)
    {
        println!("not on one CPU: {error}");
    }
}
