//! `upf-ctl`: reads the configuration and runs the controller until it is told to stop.

use clap::Parser;
use process::scheduling::{SHORTEST, keep_off, set_slice};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use upf_config::Config;

/// The PFCP controller of a UPF.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Configuration file.
    #[arg(short, long, default_value = "/etc/upf/upf.yaml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("UPF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let config = match upf_config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // The runtime's threads inherit both; without either, changes take effect later on few CPUs.
    let _ = (set_slice(SHORTEST), keep_off(&config.host.lcores));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(serve(config)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upf-ctl: {error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// On the runtime's own threads: an HTTP request and the controller hand over to each other without waking anybody.
async fn serve(config: Config) -> Result<(), Error> {
    Ok(tokio::spawn(upf_ctl::run(config, stopped())).await??)
}

/// Ready when SIGTERM or SIGINT comes.
async fn stopped() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        _ => std::future::pending().await,
    }
}
