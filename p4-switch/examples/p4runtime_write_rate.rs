//! How many table entries a second p4-switch takes over P4Runtime, on loopback, in one process:
//! `cargo run --release -p p4-switch --example p4runtime_write_rate -- [ENTRIES] [BATCH]`.
//!
//! One client writes, one batch after the other, entries of an exact table: INSERT, MODIFY, a read of all, DELETE.

use std::sync::Arc;
use std::time::Instant;

use p4_switch::{Switch, SwitchConfig, p4rt_server};
use p4runtime::client::{Atomicity, PipelineAction};
use p4runtime::entity::{delete, insert, modify};
use p4runtime::{Client, Options, P4Info, TableEntry, v1};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |position| {
        std::env::args()
            .nth(position)
            .and_then(|word| word.parse::<usize>().ok())
    };
    let (entries, batch) = (
        number(1).unwrap_or(100_000).min(120_000),
        number(2).unwrap_or(256).max(1),
    );

    let switch = Arc::new(Switch::new(SwitchConfig::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(p4rt_server::serve(switch, Some(1), listener));
    let info = P4Info::from_text(include_str!("../tests/programs/entities.p4info.txtpb"))?;
    let (client, _events) = Client::connect(&address, Options::default())?;
    client.primary(std::time::Duration::from_secs(10)).await?;
    let program = include_bytes!("../tests/programs/entities.json").to_vec();
    client
        .set_pipeline(&info, program, None, PipelineAction::VerifyAndCommit)
        .await?;

    let entry = |number: usize, port: u8| {
        TableEntry::new(&info, "sessions")
            .match_exact("address", (number >> 16) as u32)
            .match_exact("teid", number as u16)
            .action("forward_session")
            .param("port", port)
            .param("session", (number & 0xf_ffff) as u32)
            .build()
    };
    let inserted = (0..entries)
        .map(|number| entry(number, 1))
        .collect::<Result<Vec<_>, _>>()?;
    let modified = (0..entries)
        .map(|number| entry(number, 2))
        .collect::<Result<Vec<_>, _>>()?;
    timed(&client, "INSERT", batch, inserted.iter().cloned().map(insert).collect()).await?;
    timed(&client, "MODIFY", batch, modified.into_iter().map(modify).collect()).await?;
    let start = Instant::now();
    let read = client.read_entries(v1::TableEntry::default()).await?.len();
    println!(
        "read   {:>9.0} entries/s ({read} entries)",
        read as f64 / start.elapsed().as_secs_f64()
    );
    timed(&client, "DELETE", batch, inserted.into_iter().map(delete).collect()).await?;
    Ok(())
}

async fn timed(
    client: &Client,
    what: &str,
    batch: usize,
    updates: Vec<v1::Update>,
) -> Result<(), Box<dyn std::error::Error>> {
    let count = updates.len();
    let batches: Vec<Vec<v1::Update>> = updates.chunks(batch).map(<[v1::Update]>::to_vec).collect();
    let start = Instant::now();
    for batch in batches {
        client.write(batch, Atomicity::ContinueOnError).await?;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{what} {rate:>9.0} updates/s ({count} updates, {batch} in a request)");
    Ok(())
}
