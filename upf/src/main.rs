//! `upf`: the one command people type.

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use upf::client::Client;
use upf::demo::{self, DemoOptions, Story};
use upf::inspect;
use upf::lab::Target;
use upf::run::{self, Plan};
use upf::trace::{self, frame::PacketArguments};

/// A 6G user-plane function: DPDK data plane, PFCP controller.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the UPF on this machine. Needs root.
    Demo {
        /// What to show.
        #[arg(value_enum, default_value_t)]
        story: Story,
        /// What has the ports: a P4 target with upf-host behind it, or upf-host itself. Default: p4-switch for the tour,
        /// none for qos.
        #[arg(long, value_enum)]
        target: Option<Target>,
        /// Leave it up to play with, until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Take down what a demo left that was killed.
        #[arg(long, conflicts_with = "keep")]
        clean: bool,
        /// Seconds of each throughput measurement.
        #[arg(long, default_value_t = 2)]
        seconds: u32,
        /// Where logs, captures and report.json go.
        #[arg(long, default_value = "target/demo")]
        directory: PathBuf,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run both daemons; each is started again when it dies. A P4 target is expected to run already.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Run the embedded P4 switch too, as the target that the configuration names.
        #[arg(long)]
        with_p4_switch: bool,
        /// An interface of the embedded switch, PORT@INTERFACE; one for each port, and one for the host port.
        #[arg(short, long, value_name = "PORT@INTERFACE", requires = "with_p4_switch")]
        interface: Vec<String>,
    },
    /// Check a configuration file and say what is wrong with it.
    CheckConfig {
        /// The file.
        #[arg(default_value = "/etc/upf/upf.yaml")]
        file: PathBuf,
        /// Print the JSON schema of the format instead.
        #[arg(long)]
        schema: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Associations, data planes, how many sessions.
    Status(Question),
    /// The sessions, or one with its rules and counters.
    Sessions {
        /// Our SEID, decimal or 0x...
        seid: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        #[command(flatten)]
        question: Question,
    },
    /// Ports, drops by reason, events.
    Counters(Question),
    /// One packet's way through tables and rules in both planes, without sending it.
    Trace {
        #[command(flatten)]
        packet: Box<PacketArguments>,
        #[command(flatten)]
        question: Question,
    },
}

#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file (YAML).
    #[arg(long, default_value = "/etc/upf/upf.yaml")]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Question {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("upf: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False: it ran, and the answer is bad news.
fn execute(command: Command) -> Result<bool, Box<dyn std::error::Error>> {
    match command {
        Command::Demo { clean: true, .. } => {
            demo::clean();
            Ok(true)
        }
        Command::Demo {
            story,
            target,
            keep,
            seconds,
            directory,
            json,
            ..
        } => Ok(demo::run(&DemoOptions {
            story,
            target: target.unwrap_or(story.target()),
            directory,
            keep,
            seconds,
            json,
        })?),
        Command::Run {
            config,
            with_p4_switch,
            interface,
        } => {
            let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .init();
            let (file, programs) = (&config.config, demo::programs()?);
            let config = upf_config::load(file)?;
            let mut plan = Plan::daemons(file, &programs);
            if with_p4_switch {
                plan = plan.with_p4_switch(&config, &programs, &interface)?;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run::run(plan))?;
            Ok(true)
        }
        Command::CheckConfig { schema: true, .. } => {
            println!("{}", serde_json::to_string_pretty(&upf_config::schema())?);
            Ok(true)
        }
        Command::CheckConfig { file, json, .. } => Ok(check_config(&file, json)),
        Command::Status(question) => answer(&question, "/v1/status", inspect::status),
        Command::Sessions {
            seid: Some(seid),
            question,
            ..
        } => answer(&question, &format!("/v1/sessions/{seid}"), inspect::session),
        Command::Sessions {
            seid: None,
            limit,
            question,
        } => answer(&question, &format!("/v1/sessions?limit={limit}"), inspect::sessions),
        Command::Counters(question) => answer(&question, "/v1/counters", inspect::counters),
        Command::Trace { packet, question } => {
            let config = upf_config::load(&question.config.config)?;
            let trace = trace::trace(&config, &packet)?;
            if question.json {
                println!("{}", serde_json::to_string_pretty(&trace)?);
            } else {
                print!("{trace}");
            }
            Ok(true)
        }
    }
}

fn check_config(file: &Path, json: bool) -> bool {
    let result = upf_config::load(file);
    match (&result, json) {
        (Ok(_), false) => println!("{}: good", file.display()),
        (Err(error), false) => eprintln!("{error}"),
        (_, true) => {
            let error = result.as_ref().err().map(ToString::to_string);
            println!(
                "{}",
                serde_json::json!({ "file": file, "valid": error.is_none(), "error": error })
            );
        }
    }
    result.is_ok()
}

fn answer(
    question: &Question,
    path: &str,
    show: fn(&serde_json::Value) -> String,
) -> Result<bool, Box<dyn std::error::Error>> {
    let config = upf_config::load(&question.config.config)?;
    let socket = config.runtime_dir.join(format!("{}.sock", config.name));
    let value = Client::new(&socket).get(path)?;
    if question.json {
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", show(&value));
    }
    Ok(true)
}
