//! `smf-sim`: PFCP load on a UPF (`load`), or one session held up by hand (`session`).

use clap::{Args, Parser, Subcommand};
use smf_sim::load::{self, LoadPlan};
use smf_sim::rules::BitRates;
use smf_sim::{FlowQos, SessionSpec, Smf, UeIps};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// An SMF stand-in: speaks PFCP to a UPF.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Establish, modify and delete many sessions and report rates and latencies.
    Load(Load),
    /// Establish one session, keep it until Ctrl-C or --seconds, delete it and print its usage.
    Session(Session),
}

#[derive(Args)]
struct N4 {
    /// The UPF's N4 address.
    #[arg(long, default_value = "127.0.0.1:8805")]
    upf: SocketAddr,
    /// This SMF's N4 address; its IP is the Node ID.
    #[arg(long, default_value = "127.0.0.2:8805")]
    local: SocketAddr,
}

#[derive(Args)]
struct Load {
    #[command(flatten)]
    n4: N4,
    /// Sessions to establish.
    #[arg(long, default_value_t = 1000)]
    sessions: u32,
    /// Requests in flight.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Modifications (handovers) of each session.
    #[arg(long, default_value_t = 0)]
    modify: u32,
    /// Delete the sessions at the end.
    #[arg(long)]
    delete: bool,
    /// SDF filters of each session besides its two wildcard PDRs.
    #[arg(long, default_value_t = 0)]
    sdf: u32,
    /// UE addresses count up from here.
    #[arg(long, default_value = "10.60.0.1")]
    first_ue: Ipv4Addr,
    /// The gNB's N3 address.
    #[arg(long, default_value = "192.0.2.1")]
    gnb: IpAddr,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Session {
    #[command(flatten)]
    n4: N4,
    /// The UE's address, once for each family.
    #[arg(long, required = true)]
    ue: Vec<IpAddr>,
    /// The gNB's N3 address.
    #[arg(long)]
    gnb: IpAddr,
    /// The gNB's TEID for downlink packets.
    #[arg(long, default_value_t = 1)]
    dl_teid: u32,
    /// Maximum bit rates of the session, UPLINK,DOWNLINK in kbit/s.
    #[arg(long, value_parser = rates)]
    mbr: Option<BitRates>,
    /// A flow description (`permit out ...`) with PDRs of its own; may be repeated.
    #[arg(long)]
    sdf: Vec<String>,
    /// Delete the session after this time rather than at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
}

fn rates(text: &str) -> Result<BitRates, String> {
    let parse = || {
        let (uplink, downlink) = text.split_once(',')?;
        Some(BitRates {
            uplink_kbps: uplink.parse().ok()?,
            downlink_kbps: downlink.parse().ok()?,
        })
    };
    parse().ok_or_else(|| "expected UPLINK,DOWNLINK, two numbers".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Arguments::parse().command {
        Command::Load(arguments) => run_load(arguments).await,
        Command::Session(arguments) => run_session(arguments).await,
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("smf-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_load(arguments: Load) -> Result<ExitCode, smf_sim::PfcpError> {
    let smf = Arc::new(Smf::connect(arguments.n4.local, arguments.n4.upf, arguments.n4.local.ip()).await?);
    smf.associate().await?;
    let plan = LoadPlan {
        sessions: arguments.sessions,
        concurrency: arguments.concurrency,
        modifications: arguments.modify,
        delete: arguments.delete,
        first_ue: arguments.first_ue,
        gnb: arguments.gnb,
        sdf_filters: arguments.sdf,
    };
    let reports = load::run(&smf, &plan).await;
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({ "sessions": plan.sessions, "concurrency": plan.concurrency, "procedures": reports })
        );
    } else {
        for report in &reports {
            println!("{report}");
        }
    }
    smf.release().await?;
    Ok(if reports.iter().any(|r| r.failed > 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn run_session(arguments: Session) -> Result<ExitCode, smf_sim::PfcpError> {
    let smf = Smf::connect(arguments.n4.local, arguments.n4.upf, arguments.n4.local.ip()).await?;
    let upf = smf.associate().await?;
    println!(
        "associated with {} (FTUP {}, EMPU {}, UEIP {})",
        upf.node_id,
        upf.ftup(),
        upf.empu(),
        upf.ueip()
    );
    let mut ue = UeIps::default();
    for address in &arguments.ue {
        match address {
            IpAddr::V4(a) => ue.v4 = Some(*a),
            IpAddr::V6(a) => ue.v6 = Some(*a),
        }
    }
    let mut spec = SessionSpec::basic(ue, arguments.gnb, arguments.dl_teid);
    if let Some(mbr) = arguments.mbr {
        spec = spec.with_mbr(mbr.uplink_kbps, mbr.downlink_kbps);
    }
    for (precedence, flow) in (100..).zip(&arguments.sdf) {
        spec = spec.with_sdf(precedence, flow, FlowQos::default());
    }
    let mut reports = smf.reports();
    let session = smf.establish(&spec).await?;
    let uplink = session.created.iter().find_map(|c| Some((c.teid?, c.addr()?)));
    match uplink {
        Some((teid, addr)) => println!(
            "session {:#x}: uplink TEID {teid} ({teid:#010x}) at {addr}",
            session.up_seid
        ),
        None => println!("session {:#x}: the UPF allocated no F-TEID", session.up_seid),
    }
    let end = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            Ok(report) = reports.recv() => println!("report: {:?}", report.report),
        }
    }
    for usage in smf.delete(session.up_seid).await? {
        println!(
            "usage of URR {}: {:?}, {:?} s",
            usage.urr_id,
            usage.volume.unwrap_or_default(),
            usage.duration
        );
    }
    smf.release().await?;
    Ok(ExitCode::SUCCESS)
}
