//! `bench`: measures the parts of the UPF that must be fast, beside what they compete with.

mod classifier;
mod figure;
mod host;
mod idle;
mod ipc;
mod p4;
mod qos_push;
mod smf;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Measures the parts of the UPF that must be fast, beside what they compete with")]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
    /// Fewer and shorter repetitions.
    #[arg(long, global = true)]
    quick: bool,
    /// Write the figures as JSON to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Suite {
    /// The shared-memory channel between upf-ctl and upf-host, beside UNIX sockets and gRPC.
    Ipc,
    /// Packets a second of one core through the host pipeline, beside the same ports without UPF work.
    Host {
        /// Packet memory in 4 KiB pages even where huge pages can be had.
        #[arg(long)]
        no_huge: bool,
        /// Measure with this many sessions only.
        #[arg(long)]
        sessions: Option<u32>,
    },
    /// The P4 program on p4-switch, beside BMv2: packets a second, rule writes, latency of both paths.
    P4,
    /// From a context over HTTP to the packets, in each plane, with thousands of sessions.
    QosPush,
    /// Finding sessions and PDRs, beside other classifiers.
    Classifier(classifier::Options),
    /// The other process of the ipc suite; started by it.
    #[command(hide = true)]
    IpcPeer { transport: String, address: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let figures = match arguments.suite {
        // First what is idle: ipc::run pins this thread, and those it starts, to one CPU.
        Suite::Ipc => [idle::run(arguments.quick), ipc::run(arguments.quick)].concat(),
        Suite::Host { no_huge, sessions } => match host::run(arguments.quick, !no_huge, sessions) {
            Ok(figures) => figures,
            Err(error) => {
                eprintln!("bench host: {error}");
                return ExitCode::FAILURE;
            }
        },
        Suite::P4 => match p4::run(arguments.quick) {
            Ok(figures) => figures,
            Err(error) => {
                eprintln!("bench p4: {error}");
                return ExitCode::FAILURE;
            }
        },
        Suite::QosPush => qos_push::run(arguments.quick),
        Suite::Classifier(options) => return classifier::run(&options, arguments.quick, arguments.json.as_deref()),
        Suite::IpcPeer { transport, address } => {
            ipc::peer(&transport, &address);
            return ExitCode::SUCCESS;
        }
    };
    figure::print_table(&figures);
    if let Some(path) = arguments.json
        && let Err(e) = figure::write_json(&path, &figures)
    {
        eprintln!("cannot write {}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
