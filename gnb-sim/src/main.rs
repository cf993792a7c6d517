//! `gnb-sim`: one gNB until it is told to stop; then its report as JSON.

use clap::Parser;
use gnb_sim::config::n3_address;
use gnb_sim::{Gnb, GnbConfig, UeConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::SignalFd;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A gNB and the UEs behind it: TUN devices in network namespaces, tunnelled to a UPF by GTP-U.
///
/// Runs until SIGINT or SIGTERM (or --seconds), then prints what it counted as JSON.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// N3 address of the gNB, ADDRESS or ADDRESS:PORT.
    #[arg(long, value_parser = address)]
    bind: SocketAddr,
    /// N3 address of the UPF, ADDRESS or ADDRESS:PORT.
    #[arg(long, value_parser = address)]
    upf: SocketAddr,
    /// Network namespace of the N3 socket, if not the current one.
    #[arg(long)]
    netns: Option<String>,
    /// A UE: netns=ue1,teid-ul=0x101,teid-dl=1,addr=10.60.0.1,qfi=9 (also name, tun, route, mtu, upf); repeatable.
    #[arg(long = "ue", required = true)]
    ues: Vec<UeConfig>,
    /// Stop after this time.
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the report here rather than to standard output.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    n3_address(text).ok_or_else(|| "expected ADDRESS or ADDRESS:PORT".to_owned())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gnb-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Until one of the signals, or for this long.
fn wait(signals: &SigSet, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let signal = SignalFd::new(signals)?;
    let mut ready = [PollFd::new(signal.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::try_from(time)?)?;
    Ok(())
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Blocked before any thread starts, so that all inherit it and only the wait below takes them.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    let gnb = Gnb::start(GnbConfig {
        bind: arguments.bind,
        upf: arguments.upf,
        netns: arguments.netns,
        ues: arguments.ues,
    })?;
    eprintln!("gnb-sim: ready at {}", gnb.local_addr());
    match arguments.seconds {
        Some(seconds) => wait(&signals, Duration::from_secs(seconds))?,
        None => drop(signals.wait()?),
    }
    let report = gnb.stop().to_json();
    match arguments.report {
        Some(path) => std::fs::write(path, report)?,
        None => println!("{report}"),
    }
    Ok(())
}
