//! `p4-switch`: the embedded v1model switch as a program, in the place of `simple_switch_grpc`.
//!
//! `p4-switch [options] PROGRAM.json` or `p4-switch --no-p4 [options]`: see `options`. `p4-switch stf`: p4c's STF tests.

mod options;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use options::{LogLevel, Options};
use p4_switch::{Program, Switch, SwitchConfig, p4rt_server};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "stf") {
        return stf(words);
    }
    let options = match Options::parse_words(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    if options.json_version {
        println!("{}", options::JSON_VERSION);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("p4-switch: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Load, attach ports, serve P4Runtime, until SIGINT or SIGTERM.
fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    log(options)?;
    for ignored in options.ignored() {
        eprintln!("p4-switch: ignored {ignored}");
    }
    let switch = Arc::new(Switch::new(SwitchConfig {
        cpu_port: options.cpu_port,
        drop_port: options.drop_port,
        priority_queues: options.priority_queues as usize,
        ..SwitchConfig::default()
    }));
    if let Some(path) = options.program.as_ref().filter(|_| !options.no_p4) {
        let json = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let program = Program::from_json(&json).map_err(|error| format!("{}: {error}", path.display()))?;
        switch.load(Arc::new(program));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.address()?).await?;
        println!("Server listening on {}", listener.local_addr()?);
        let serving = p4rt_server::serve(switch.clone(), options.device_id, listener);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            served = serving => Ok(served?),
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

fn log(options: &Options) -> std::io::Result<()> {
    let level = match options.log_level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    };
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(format!("off,p4_switch={level}"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match &options.log_file {
        Some(path) => {
            let file = std::fs::File::create(path)?;
            subscriber
                .with_ansi(false)
                .with_writer(std::sync::Mutex::new(file))
                .init();
        }
        None if options.log_console => subscriber.init(),
        None => {}
    }
    Ok(())
}

/// Run STF tests of p4c.
#[derive(Debug, Parser)]
#[command(name = "p4-switch stf")]
struct StfOptions {
    /// The program's BMv2 JSON
    #[arg(required_unless_present = "all")]
    program: Option<PathBuf>,
    /// The test
    #[arg(required_unless_present = "all")]
    test: Option<PathBuf>,
    /// Run every pair of NAME.json and NAME.stf in this directory
    #[arg(long, conflicts_with_all = ["program", "test"])]
    all: Option<PathBuf>,
}

fn stf(words: Vec<String>) -> ExitCode {
    match StfOptions::parse_from(words) {
        StfOptions {
            all: Some(directory), ..
        } => match p4_switch::stf::run_directory(&directory) {
            Ok(summary) => {
                print!("{}", summary.report());
                ExitCode::from(u8::from(!summary.failed.is_empty()))
            }
            Err(error) => {
                eprintln!("{}: {error}", directory.display());
                ExitCode::from(2)
            }
        },
        StfOptions {
            program: Some(program),
            test: Some(test),
            ..
        } => match p4_switch::stf::run_files(&program, &test) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}
