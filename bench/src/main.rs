//! `bench`: measures the parts of the UPF that must be fast, beside what they compete with and what limits them.
//!
//! ```text
//!   bench SUITE [--quick] [--json FILE] [--plot DIR]     measure
//!   bench compare OLD NEW                                what became slower or faster; fails if anything became slower
//!   bench report                                         the tables of docs/PERFORMANCE.md, from bench/results/
//! ```
//! | module | owns |
//! | --- | --- |
//! | [`host`] | suite: packets a second of one core through the pipeline, without any port |
//! | [`pktgen`] | suite: the same over real ports between processes: zero-loss rate, latency, loss; a generator to be used alone |
//! | [`pfcp`] | suite: sessions and modifications a second over N4, and what traffic notices of them |
//! | [`scale`] | suite: a million sessions: memory, traffic over all, costs against their number |
//! | [`idle`] | suite: CPU time of no load and of some, waking up, the first packets |
//! | [`p4`], [`classifier`], [`ipc`], [`qos_push`] | suites: the fast path, rule matching, the channel, contexts |
//! | [`figure`], [`record`] | what is measured and how it is kept, compared, drawn and told |
//! | [`stage`], [`pages`], [`smf`], [`progress`] | upf-host and upf-ctl as processes; huge pages; the SMF; what is being done |
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the modules are the chapters of the text above"
)]

mod classifier;
mod figure;
mod host;
mod idle;
mod ipc;
mod p4;
mod pages;
mod pfcp;
mod pktgen;
mod progress;
mod qos_push;
mod record;
mod scale;
mod smf;
mod stage;

use clap::{Parser, Subcommand};
use figure::Figure;
use process as _; // as upf-host has it
use record::{Begun, Record, compare::Comparison, document, plot, table};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What a suite gives.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
#[command(about = "Measures the parts of the UPF that must be fast, beside what they compete with")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Fewer and shorter repetitions.
    #[arg(long, global = true)]
    quick: bool,
    /// Write the figures as JSON to this file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures into this directory, as SVG.
    #[arg(long, global = true, value_name = "DIR")]
    plot: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Packets a second of one core through the host pipeline, beside the same ports without UPF work.
    Host {
        /// Packet memory in 4 KiB pages even where huge pages can be had.
        #[arg(long)]
        no_huge: bool,
        /// Measure with this many sessions only.
        #[arg(long)]
        sessions: Option<u32>,
    },
    /// Packets a second, latency and loss of the real upf-host between a generator's ports; or the generator alone.
    Pktgen(Box<pktgen::alone::Options>),
    /// The P4 program on p4-switch, beside BMv2: packets a second, rule writes, latency of both paths.
    P4,
    /// Finding sessions and PDRs, beside other classifiers.
    Classifier(classifier::Options),
    /// From a context over HTTP to the packets, in each plane, with thousands of sessions.
    QosPush,
    /// The shared-memory channel between upf-ctl and upf-host, beside UNIX sockets and gRPC.
    Ipc,
    /// Sessions and modifications a second over N4, and what traffic notices of them.
    Pfcp,
    /// A million sessions over N4: memory, traffic over all of them, costs against their number.
    Scale,
    /// CPU time of an idle and of a little busy upf-host, and what becomes of the first packets.
    Idle,
    /// All suites, one after the other, each in a process of its own.
    All,
    /// What became slower or faster from one record to another, beyond noise; fails if anything became slower.
    Compare {
        /// What `--json` wrote before.
        old: PathBuf,
        /// What `--json` wrote now.
        new: PathBuf,
    },
    /// Make the tables of a document anew from records.
    Report {
        /// Which document; default: docs/PERFORMANCE.md.
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
        /// Which records; default: all of bench/results/.
        records: Vec<PathBuf>,
    },
    /// The other process of the ipc suite; started by it.
    #[command(hide = true)]
    IpcPeer { transport: String, address: String },
    /// The forwarder without UPF work of the suites that measure one; started by them.
    #[command(hide = true)]
    Bare(pktgen::bare::Options),
}

/// The suites in the order of `all`: the short ones first.
const SUITES: [&str; 9] = [
    "host",
    "pktgen",
    "pfcp",
    "idle",
    "ipc",
    "p4",
    "classifier",
    "qos-push",
    "scale",
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.task {
        Task::Compare { old, new } => return compare(old, new),
        Task::Report { document, records } => report(document.as_deref(), records),
        Task::IpcPeer { transport, address } => {
            ipc::peer(transport, address);
            return ExitCode::SUCCESS;
        }
        Task::Bare(options) => pktgen::bare::serve(options),
        Task::All => all(&arguments),
        _ => one(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    /// The suite's name in figures, and on the command line.
    const fn suite(&self) -> &'static str {
        match self {
            Self::Host { .. } => "host",
            Self::Pktgen(_) => "pktgen",
            Self::P4 => "p4",
            Self::Classifier(_) => "classifier",
            Self::QosPush => "qos-push",
            Self::Ipc | Self::IpcPeer { .. } => "ipc",
            Self::Pfcp => "pfcp",
            Self::Scale => "scale",
            Self::Idle => "idle",
            Self::All => "all",
            Self::Compare { .. } | Self::Report { .. } | Self::Bare(_) => "",
        }
    }

    fn measure(&self, quick: bool) -> Outcome<Vec<Figure>> {
        match self {
            Self::Host { no_huge, sessions } => host::run(quick, !no_huge, *sessions),
            Self::Pktgen(options) if options.is_alone() => pktgen::alone::run(options),
            Self::Pktgen(_) => pktgen::run(quick),
            Self::P4 => p4::run(quick),
            Self::Classifier(options) => classifier::run(options, quick),
            Self::QosPush => Ok(qos_push::run(quick)),
            Self::Ipc => Ok(ipc::run(quick)),
            Self::Pfcp => pfcp::run(quick),
            Self::Scale => scale::run(quick),
            Self::Idle => idle::run(quick),
            Self::All | Self::Compare { .. } | Self::Report { .. } | Self::IpcPeer { .. } | Self::Bare(_) => {
                Ok(Vec::new())
            }
        }
    }
}

/// One suite, in this process.
fn one(arguments: &Arguments) -> Outcome<()> {
    let suite = arguments.task.suite();
    let begun = Begun::now(suite, settings());
    let mut figures = arguments.task.measure(arguments.quick)?;
    figure::beside_limits(&mut figures);
    table::print(&figures);
    keep(arguments, &Record::new(vec![begun.end()], figures))
}

/// The command line behind the suite, without what names files.
fn settings() -> Vec<String> {
    let mut settings = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let is_file = ["--json", "--plot"].iter().any(|o| word.starts_with(o));
        match (is_file, word.contains('=')) {
            (true, true) => {}
            (true, false) => drop(words.next()),
            (false, _) if SUITES.contains(&word.as_str()) => {}
            (false, _) => settings.push(word),
        }
    }
    settings
}

/// Every suite in a process of its own: DPDK starts once in a process, and some hold their threads to a CPU.
fn all(arguments: &Arguments) -> Outcome<()> {
    let (mut runs, mut figures, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let directory = std::env::temp_dir().join(format!("bench-all-{}", std::process::id()));
    for suite in SUITES {
        progress::doing("all", format_args!("suite {suite}"));
        let file = directory.join(format!("{suite}.json"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(suite).arg("--json").arg(&file);
        if arguments.quick {
            command.arg("--quick");
        }
        match command.status()?.success().then(|| Record::read(&file)) {
            Some(Ok(record)) => {
                runs.extend(record.runs);
                figures.extend(record.figures);
            }
            _ => failed.push(suite),
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
    keep(arguments, &Record::new(runs, figures))?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("these suites failed: {}", failed.join(", ")).into())
    }
}

fn keep(arguments: &Arguments, record: &Record) -> Outcome<()> {
    if let Some(path) = &arguments.json {
        record.write(path)?;
    }
    if let Some(directory) = &arguments.plot {
        let pictures = plot::write(directory, &record.figures)?;
        eprintln!("{} pictures in {}", pictures.len(), directory.display());
    }
    Ok(())
}

fn compare(old: &Path, new: &Path) -> ExitCode {
    match Record::read(old).and_then(|old| Ok((old, Record::read(new)?))) {
        Ok((old, new)) => {
            if old.machine != new.machine {
                println!(
                    "not the same machine: {}; and {}",
                    old.machine.in_words(),
                    new.machine.in_words()
                );
            }
            let comparison = Comparison::of(&old, &new);
            print!("{}", comparison.in_words());
            ExitCode::from(u8::from(!comparison.slower.is_empty()))
        }
        Err(error) => {
            eprintln!("bench compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn report(document: Option<&Path>, records: &[PathBuf]) -> Outcome<()> {
    let path = document.map_or_else(|| record::sources().join("docs/PERFORMANCE.md"), Path::to_owned);
    let records = match records {
        [] => record::kept()?,
        some => some.iter().map(|path| Record::read(path)).collect::<Result<_, _>>()?,
    };
    let renewed = document::renew(&std::fs::read_to_string(&path)?, &records)?;
    std::fs::write(&path, renewed)?;
    eprintln!("{}: tables renewed from {} records", path.display(), records.len());
    Ok(())
}
