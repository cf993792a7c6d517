//! The targets: p4-switch in this process or in one of its own, and BMv2 in one of its own.

use super::{Outcome, Population, Program};
use p4_switch::{Switch, SwitchConfig, p4rt_server};
use p4runtime::Client;
use p4runtime::client::{Options, PipelineAction};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How figures call it.
pub const P4_SWITCH: &str = "p4-switch";
/// How figures call it.
pub const BMV2: &str = "BMv2 simple_switch_grpc";

/// How long a target may take to come up, and to take a program.
const PATIENCE: Duration = Duration::from_secs(60);
/// Updates of one Write.
pub const PER_WRITE: usize = 1_000;

/// A switch of this process, with its sessions.
pub fn embedded(population: Population) -> Outcome<Arc<Switch>> {
    let runtime = runtime()?;
    let switch = Arc::new(Switch::new(SwitchConfig {
        priority_queues: 8,
        ..SwitchConfig::default()
    }));
    let program = Program::for_sessions(population.sessions)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(p4rt_server::serve(switch.clone(), Some(0), listener));
        let client = connect(address, &program).await?;
        client.write_all(population.updates(&program.info)?, PER_WRITE).await?;
        Outcome::Ok(())
    })?;
    Ok(switch)
}

/// A client of the target at `address`, primary, the program loaded.
pub async fn connect(address: SocketAddr, program: &Program) -> Outcome<Client> {
    let options = Options {
        device_id: 0,
        ..Options::default()
    };
    let (client, _events) = Client::connect(&address.to_string(), options)?;
    client.primary(PATIENCE).await?;
    client
        .set_pipeline(
            &program.info,
            program.json.clone(),
            None,
            PipelineAction::VerifyAndCommit,
        )
        .await?;
    Ok(client)
}

/// Write a population; how many updates there were and how long they took.
pub async fn populate(client: &Client, population: Population, program: &Program) -> Outcome<(usize, Duration)> {
    let updates = population.updates(&program.info)?;
    let many = updates.len();
    let begin = Instant::now();
    client.write_all(updates, PER_WRITE).await?;
    Ok((many, begin.elapsed()))
}

pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
