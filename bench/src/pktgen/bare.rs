//! The physical limit: what upf-host's lcore does with its two ports, without any UPF work. A process of its own, as
//! upf-host is one, so that the same rings lie between.

use crate::Outcome;
use arrayvec::ArrayVec;
use std::io::{Read, Write};
use std::path::PathBuf;
use upf_host::dpdk::{Eal, EalConfig, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue, spawn_worker};

/// Packets per receive burst, upf-host's default.
const BURST: usize = 32;
/// Packet memory, as upf-host has it behind a generator.
pub const PACKETS: u32 = 16_384;
/// For it, MiB.
pub const MEMORY_MB: u32 = 110;

/// What the process is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Names it to DPDK.
    name: String,
    /// N3.
    n3: String,
    /// N6.
    n6: String,
    /// Where its lcore runs.
    cpu: usize,
    /// Packet memory in huge pages.
    #[arg(long)]
    huge: bool,
}

impl Options {
    /// As a command line.
    pub fn command(name: &str, [n3, n6]: &[String; 2], cpu: usize, huge: bool) -> (PathBuf, Vec<String>) {
        let program = std::env::current_exe().unwrap_or_else(|_| "bench".into());
        let mut words = vec!["bare".into(), name.to_owned(), n3.clone(), n6.clone(), cpu.to_string()];
        words.extend(huge.then(|| "--huge".to_owned()));
        (program, words)
    }
}

/// Passes packets between two ports until its standard input ends.
///
/// # Errors
/// DPDK or a device cannot be had.
pub fn serve(options: &Options) -> Outcome<()> {
    let eal = Eal::init(&EalConfig {
        name: options.name.clone(),
        hugepages: options.huge,
        memory_mb: MEMORY_MB,
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(&eal, "packets", PACKETS, 256, 2_048)?;
    let (_n3, mut n3) = Port::open(&PortConfig::new(&options.n3), &pool)?;
    let (_n6, mut n6) = Port::open(&PortConfig::new(&options.n6), &pool)?;
    let pairs = [n3.rx.pop().zip(n6.tx.pop()), n6.rx.pop().zip(n3.tx.pop())];
    let mut pairs: Vec<(RxQueue, TxQueue)> = pairs.into_iter().flatten().collect();
    spawn_worker(&eal, options.cpu, "bare", move || {
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        loop {
            for (rx, tx) in &mut pairs {
                if rx.burst(&mut burst) > 0 {
                    tx.burst(&mut burst);
                    burst.clear(); // what the port refuses is dropped, as in upf-host
                }
            }
        }
    })?;
    println!("ready");
    std::io::stdout().flush()?;
    // Whoever started us has gone when this ends.
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    std::process::exit(0)
}
