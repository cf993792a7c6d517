//! `upf`: the one command people type.

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use upf::client::Client;
use upf::context;
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
    /// What is true of users now: put, remove, list, replay from a file of events.
    Context {
        #[command(subcommand)]
        command: ContextCommand,
        #[command(flatten)]
        question: Question,
    },
    /// What contexts and policies have made of a session.
    Qos {
        #[command(subcommand)]
        command: QosCommand,
        #[command(flatten)]
        question: Question,
    },
    /// One packet's way through tables and rules in both planes, without sending it.
    Trace {
        #[command(flatten)]
        packet: Box<PacketArguments>,
        #[command(flatten)]
        question: Question,
    },
}

#[derive(Subcommand)]
enum ContextCommand {
    /// This is so from now on.
    Put {
        /// network, slice/NAME, cell/NAME, subscriber/NAME, address/ADDRESS or session/SEID.
        about: String,
        /// What, such as app.call.
        key: String,
        /// true, a number, or a text.
        value: String,
        /// Seconds; default: until it is removed.
        #[arg(long)]
        ttl: Option<f64>,
        /// Of one flow, such as 'permit out 17 from 192.0.2.1 5060 to assigned'.
        #[arg(long)]
        flow: Option<String>,
    },
    /// It is so no longer.
    Rm {
        /// Whom it is about.
        about: String,
        /// What.
        key: String,
        /// Of one flow.
        #[arg(long)]
        flow: Option<String>,
    },
    /// What is so, of everybody or of one subject.
    List {
        /// Whom it is about.
        about: Option<String>,
        /// Keys that begin so.
        #[arg(long, default_value = "")]
        key_prefix: String,
    },
    /// Let events happen: lines of JSON with at_ms (from now) or epoch_ms, and put or remove.
    Replay {
        /// The file, or - for standard input, whose events happen as they come.
        file: PathBuf,
        /// Times as fast.
        #[arg(long, default_value_t = 1.0, value_parser = speed)]
        speed: f64,
    },
}

#[derive(Subcommand)]
enum QosCommand {
    /// Which contexts and policies made the session what it is.
    Explain {
        /// Our SEID, decimal or 0x...
        seid: String,
    },
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text
        .parse()
        .ok()
        .filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "expected a number above 0".to_owned())
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
        Command::Context { command, question } => contexts(&question, command),
        Command::Qos {
            command: QosCommand::Explain { seid },
            question,
        } => answer(&question, &format!("/v1/sessions/{seid}/qos"), context::indented),
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
    show_answer(question, &client(question)?.get(path)?, show)
}

fn client(question: &Question) -> Result<Client, upf_config::ConfigError> {
    let config = upf_config::load(&question.config.config)?;
    Ok(Client::new(&config.runtime_dir.join(format!("{}.sock", config.name))))
}

fn show_answer(
    question: &Question,
    value: &serde_json::Value,
    show: fn(&serde_json::Value) -> String,
) -> Result<bool, Box<dyn std::error::Error>> {
    if question.json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        print!("{}", show(value));
    }
    Ok(true)
}

fn contexts(question: &Question, command: ContextCommand) -> Result<bool, Box<dyn std::error::Error>> {
    let client = client(question)?;
    match command {
        ContextCommand::Put {
            about,
            key,
            value,
            ttl,
            flow,
        } => {
            let body = serde_json::json!({ "value": context::value(&value), "ttl_s": ttl, "flow": flow });
            let answer = client.put(&context::path(&about, &key), &body)?;
            show_answer(question, &answer, context::outcome)
        }
        ContextCommand::Rm { about, key, flow } => {
            let flow = flow
                .map(|flow| format!("?flow={}", context::encoded(&flow)))
                .unwrap_or_default();
            client.call(hyper::Method::DELETE, &(context::path(&about, &key) + &flow), None)?;
            Ok(true)
        }
        ContextCommand::List { about, key_prefix } => {
            let about = about
                .map(|about| format!("&about={}", context::encoded(&about)))
                .unwrap_or_default();
            let path = format!(
                "/v1/contexts?limit=10000&key_prefix={}{about}",
                context::encoded(&key_prefix)
            );
            show_answer(question, &client.get(&path)?, context::list)
        }
        ContextCommand::Replay { file, speed } => {
            let start = context::now_ms();
            let replayed = if file == Path::new("-") {
                let events = context::incoming(std::io::stdin().lock(), start);
                context::replay(events, speed, &mut &client)?
            } else {
                let file = std::fs::File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                let events = context::events(std::io::BufReader::new(file), start)?;
                context::replay(events.into_iter().map(Ok), speed, &mut &client)?
            };
            println!(
                "{} events in {} requests, {} refused",
                replayed.events, replayed.requests, replayed.refused
            );
            Ok(replayed.refused == 0)
        }
    }
}
