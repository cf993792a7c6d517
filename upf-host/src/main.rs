//! `upf-host`: the data plane as a process.

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use process::scheduling::{SHORTEST, keep_off, set_slice};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use upf_host::host::Host;

/// The DPDK data plane of a 6G UPF. It forwards what upf-ctl tells it to, and goes on when upf-ctl is away.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (YAML).
    #[arg(long, default_value = "/etc/upf/upf.yaml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upf-host: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = upf_config::load(&arguments.config)?;
    let stop = stop_on_signal()?;
    // Lcores have their own CPU whatever this thread may use; without either, packets and changes wait longer on few CPUs.
    let _ = (set_slice(SHORTEST), keep_off(&config.host.lcores));
    let mut host = Host::start(&config)?;
    tracing::info!(name = config.name, lcores = ?config.host.lcores, "forwarding");
    host.serve(&stop);
    Ok(())
}

/// A flag that SIGTERM and SIGINT set. The signals are blocked in every thread and waited for in one.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Box<dyn std::error::Error>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(stop)
}
