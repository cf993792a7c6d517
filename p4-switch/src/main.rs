//! `p4-switch`: the embedded v1model switch as a program, in the place of `simple_switch_grpc`.
//!
//! `p4-switch [options] PROGRAM.json` or `p4-switch --no-p4 [options]`: see `options`. `p4-switch stf`: p4c's STF tests.

mod options;
mod recorder;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use options::{LogLevel, Options};
use p4_switch::ports::capture::CapturePort;
use p4_switch::ports::interface::Interface;
use p4_switch::ports::{Port, Ports};
use p4_switch::{Program, Switch, SwitchConfig, p4rt_server};
use recorder::Recorder;
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
        queue_depth: options.queue_depth as usize,
        port_rates: options.port_rates(),
    }));
    if let Some(path) = options.program.as_ref().filter(|_| !options.no_p4) {
        let json = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let program = Program::from_json(&json).map_err(|error| format!("{}: {error}", path.display()))?;
        switch.load(Arc::new(program));
    }
    let ports = attach(options)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, packets_end) = tokio::sync::oneshot::channel();
    let (running, stopping) = (switch.clone(), stop.clone());
    let wait = Duration::from_secs(options.use_files.unwrap_or(0).max(0) as u64);
    let packets = std::thread::Builder::new().name("packets".into()).spawn(move || {
        std::thread::sleep(wait);
        drop(ended.send(run_packets(ports, &running, &stopping)));
    })?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served: Result<(), Box<dyn std::error::Error>> = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.address()?).await?;
        println!("Server listening on {}", listener.local_addr()?);
        let serving = p4rt_server::serve(switch.clone(), options.device_id, listener);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            served = serving => Ok(served?),
            ended = packets_end => Ok(ended??),
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    // Capture files are complete when the thread has ended.
    stop.store(true, Ordering::Relaxed);
    let joined = packets.join().map_err(|_| "the packet thread panicked".into());
    served.and(joined)
}

/// Packets, until told to stop. Files that have ended end nothing: the controller may still send packets.
fn run_packets(mut ports: Ports, switch: &Switch, stop: &AtomicBool) -> std::io::Result<()> {
    ports.run(switch, stop)?;
    while !stop.load(Ordering::Relaxed) {
        if ports.turn(switch)? == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// The ports of the command line.
fn attach(options: &Options) -> Result<Ports, String> {
    let mut ports = Ports::new();
    for interface in &options.interface {
        let name = &interface.name;
        let opened = match options.use_files {
            Some(_) => CapturePort::open(name).map(|port| Box::new(port) as Box<dyn Port>),
            None => Interface::open(name).map(|port| Box::new(port) as Box<dyn Port>),
        };
        let port = opened.map_err(|error| format!("port {} on {name}: {error}", interface.port))?;
        let port = match &options.pcap {
            Some(directory) => {
                let recorder = Recorder::new(port, directory, name);
                Box::new(recorder.map_err(|error| format!("--pcap={}: {name}: {error}", directory.display()))?)
            }
            None => port,
        };
        ports.add(interface.port, port);
    }
    Ok(ports)
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
