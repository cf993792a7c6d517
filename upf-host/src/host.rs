//! Putting the data plane together: devices, packet memory, lcores, and the channel to upf-ctl.

use crate::compile::CompiledSession;
use crate::counters::{LcoreCounters, QueueCounters};
use crate::dpdk::{
    Eal, EalConfig, EalError, LcoreError, Mempool, MempoolError, Port, PortConfig, PortError, RxQueue, TxQueue,
    spawn_worker,
};
use crate::egress::Profile;
use crate::environment::{Environment, EnvironmentError};
use crate::host_port::HostPort;
use crate::manage::{Hardware, LcoreHandle, Manager, Parts};
use crate::neighbours::Mac;
use crate::pipeline::{BURST, Pipeline};
use crate::reports::{Reporter, Reports};
use crate::spread::Spread;
use crate::worker::{Clock, Egress, Outlet, Worker};
use ipc::{ChannelError, HostEnd, SendError};
use pdr_classifier::{Table, Writer};
use qos::BurstPolicy;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use upf_config::{Config, Distribution};
use upf_model::batch::{Count, FromHost, PortCounters, QueueUsage};
use upf_model::punt::MTU_OVERHEAD;

/// Reports of lcores that may wait for the management thread, of each kind.
const REPORTS: usize = 4_096;
/// TEIDs that index: upf-ctl allocates dense ones, from below. At most 16 MiB; more sessions are found by hash.
const DIRECT_TEIDS: usize = 1 << 20;
/// The management thread looks at least this often for the stop flag and for lcores that died.
const PATROL: Duration = Duration::from_millis(100);
/// Name of the host port in messages and metrics.
const HOST_PORT: &str = "host";
/// Bytes in front of each packet for the headers that encapsulation adds.
const HEADROOM: u64 = 128;

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// DPDK's environment.
    #[error("DPDK: {0}")]
    Eal(#[from] EalError),
    /// Packet memory.
    #[error("packet memory: {0}")]
    Mempool(#[from] MempoolError),
    /// A port.
    #[error("port {name:?}: {error}")]
    Port {
        /// As configured.
        name: String,
        /// Why.
        error: PortError,
    },
    /// A port has fewer queues than there are lcores.
    #[error(
        "port {name:?}: expected {expected} queues, one for each of host.lcores, found {found}; configure fewer lcores or a device with more queues"
    )]
    Queues {
        /// As configured.
        name: String,
        /// How many lcores there are.
        expected: usize,
        /// How many queues the device has.
        found: usize,
    },
    /// A hardware address in the configuration.
    #[error("port {name:?}: mac: expected six octets such as 02:00:00:00:00:01, found {found:?}")]
    Mac {
        /// As configured.
        name: String,
        /// What was there.
        found: String,
    },
    /// Routes.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// An lcore.
    #[error("lcore: {0}")]
    Lcore(#[from] LcoreError),
    /// Rings between lcores.
    #[error("rings between lcores: {0}")]
    Rings(std::io::Error),
    /// The channel to upf-ctl.
    #[error("channel to upf-ctl: {0}")]
    Channel(#[from] ChannelError),
}

/// A running data plane.
pub struct Host {
    channel: HostEnd,
    manager: Manager<Devices>,
    reports: Reports,
    workers: Vec<JoinHandle<()>>,
    stop_workers: Arc<AtomicBool>,
}

/// The devices behind the data plane.
pub struct Devices {
    ports: Vec<(String, Port)>,
    pool: Mempool,
    /// Of each lcore, what each port's queues count; none: the port has none.
    queues: Vec<Vec<Option<Arc<QueueCounters>>>>,
}

impl Devices {
    /// A port's queues, summed over lcores; of the longest backlogs, the longest one.
    fn queues_of(&self, port: usize) -> Vec<QueueUsage> {
        let mut sum = Vec::new();
        for of_lcore in self.queues.iter().filter_map(|lcore| lcore.get(port)?.as_ref()) {
            let read = of_lcore.read();
            sum.resize(read.len(), QueueUsage::default());
            sum.iter_mut().zip(read).for_each(|(sum, queue)| *sum += queue);
        }
        sum
    }
}

impl Hardware for Devices {
    fn ports(&self) -> Vec<PortCounters> {
        let counters = |(index, (name, port)): (usize, &(String, Port))| {
            let s = port.statistics();
            PortCounters {
                name: name.clone(),
                rx: Count {
                    packets: s.ipackets,
                    bytes: s.ibytes,
                },
                tx: Count {
                    packets: s.opackets,
                    bytes: s.obytes,
                },
                rx_missed: s.imissed + s.rx_nombuf,
                tx_dropped: s.oerrors,
                link_up: port.link().up,
                queues: self.queues_of(index),
            }
        };
        self.ports.iter().enumerate().map(counters).collect()
    }
    fn mempool_free(&self) -> u64 {
        self.pool.free_count().into()
    }
}

impl Host {
    /// Open the devices and start the lcores. Packets flow from here on; sessions come from upf-ctl.
    ///
    /// # Errors
    /// What of the configuration cannot be had on this machine, and what to do about it.
    pub fn start(config: &Config) -> Result<Self, HostError> {
        let instance = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        let channel = HostEnd::open(&config.name)?;
        let eal = Eal::init(&eal_config(config))?;
        let host = &config.host;
        let pool = Mempool::new(&eal, "packets", host.mempool_packets, 256, host.packet_room)?;
        let lcores = host.lcores.len();

        let mut ports = Vec::with_capacity(config.ports.len());
        let mut queues: Vec<(Vec<RxQueue>, Vec<TxQueue>)> = (0..lcores).map(|_| Default::default()).collect();
        for (name, wanted) in devices(config)? {
            let (opened, of_port) = open(&name, &wanted, &pool)?;
            for ((rx, tx), (queues_rx, queues_tx)) in of_port.rx.into_iter().zip(of_port.tx).zip(&mut queues) {
                queues_rx.push(rx);
                queues_tx.push(tx);
            }
            ports.push((name, opened));
        }
        let env = Arc::new(Environment::new(config, &stations(config, &ports)?)?);
        env.sessions_known.store(false, Ordering::Relaxed); // upf-ctl will tell

        let (table, writer) = sessions_table();
        let waker = channel.waker();
        let (reporter, reports) = Reporter::channel(REPORTS, Some(Arc::new(move || waker.wake())));
        let profiles: Vec<Option<Arc<Profile>>> = config.ports.iter().map(profile).collect();
        let mut queue_counters = Vec::with_capacity(lcores);
        let stop_workers = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::with_capacity(lcores);
        let mut handles = Vec::with_capacity(lcores);
        let counters: Vec<Arc<LcoreCounters>> = (0..lcores).map(|_| Arc::default()).collect();
        let mut spreads = match host.distribution {
            Distribution::Software if lcores > 1 => Spread::between(&env, &counters).map_err(HostError::Rings)?,
            Distribution::Software | Distribution::Rss => Vec::new(),
        }
        .into_iter();
        for (lcore, ((&cpu, counters), (rx, tx))) in host.lcores.iter().zip(counters).zip(queues).enumerate() {
            let (commands_in, commands) = mpsc::channel();
            let host_port = HostPort::new(config, counters.clone()).map(Arc::new);
            let egress: Vec<Option<Egress>> = profiles
                .iter()
                .map(|profile| Some((profile.clone()?, Arc::default())))
                .collect();
            queue_counters.push(egress.iter().map(|e| Some(e.as_ref()?.1.clone())).collect());
            let worker = Worker {
                lcore,
                rx,
                outlet: Outlet::new(tx, pool.clone(), counters.clone())
                    .scheduled(egress)
                    .through(host_port.clone()),
                host_port,
                spread: spreads.next(),
                pipeline: Pipeline::new(
                    env.clone(),
                    table.register(),
                    (lcore, lcores),
                    counters.clone(),
                    reporter.clone(),
                ),
                commands,
                stop: stop_workers.clone(),
                idle: host.idle.clone(),
                burst: usize::from(host.burst).clamp(1, BURST),
            };
            handles.push(LcoreHandle {
                commands: commands_in,
                counters,
            });
            workers.push(spawn_worker(
                &eal,
                cpu as usize,
                &format!("lcore-{lcore}"),
                move || worker.run(),
            )?);
        }
        let clock = Clock::new();
        let manager = Manager::new(Parts {
            env,
            writer,
            lcores: handles,
            hardware: Devices {
                ports,
                pool,
                queues: queue_counters,
            },
            burst: BurstPolicy {
                milliseconds: host.policing.burst_ms,
                at_least_bytes: host.policing.burst_min_bytes,
            },
            clock: Box::new(move || clock.now().ns),
            max_sessions: config.pfcp.max_sessions,
            instance,
        });
        Ok(Self {
            channel,
            manager,
            reports,
            workers,
            stop_workers,
        })
    }

    /// Serve upf-ctl until `stop` is set: take batches, answer, pass reports on. It sleeps while there is nothing to
    /// do, and goes on forwarding while upf-ctl is away.
    pub fn serve(&mut self, stop: &AtomicBool) {
        let Self {
            channel,
            manager,
            reports,
            workers,
            ..
        } = self;
        say(channel, &manager.hello(), stop);
        while !stop.load(Ordering::Relaxed) {
            if workers.iter().any(JoinHandle::is_finished) {
                tracing::error!("an lcore has stopped");
                break;
            }
            channel.wait(PATROL);
            loop {
                match channel.try_receive() {
                    Ok(Some(message)) => {
                        if let Some(answer) = manager.handle(message) {
                            say(channel, &answer, stop);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => tracing::warn!(%error, "unreadable message from upf-ctl"),
                }
            }
            for event in reports.try_iter() {
                say(channel, &FromHost::Event(event), stop);
            }
            for message in manager.late() {
                say(channel, &message, stop);
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_workers.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("an lcore panicked");
            }
        }
    }
}

/// The classifier, empty, as a data plane has it.
pub fn sessions_table() -> (Table<CompiledSession>, Writer<CompiledSession>) {
    Table::with_direct_teids(DIRECT_TEIDS)
}

/// Tell upf-ctl. Nobody there is no news: it asks for everything when it comes back, and so does a successor.
fn say(channel: &mut HostEnd, message: &FromHost, stop: &AtomicBool) {
    let addressee = channel.peer_incarnation();
    while channel.peer_incarnation() == addressee && !stop.load(Ordering::Relaxed) {
        match channel.send(message) {
            Ok(()) | Err(SendError::NoPeer) => return,
            Err(SendError::Full { .. }) => {
                channel.wait(PATROL);
            }
            Err(error) => return tracing::error!(%error, "message to upf-ctl lost"),
        }
    }
}

/// The devices to open, with their names in messages: one for each port, or that of the host port.
fn devices(config: &Config) -> Result<Vec<(String, PortConfig)>, HostError> {
    let queues = u16::try_from(config.host.lcores.len()).unwrap_or(u16::MAX);
    let wanted = |device: &str, mtu, mac| PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        mtu,
        mac,
        promiscuous: true,
        interrupts: config.host.idle.sleep_us > 0 && has_interrupts(device),
        ..PortConfig::new(device)
    };
    if let Some(p4) = &config.p4 {
        let largest = config.ports.iter().map(|p| p.mtu).max().unwrap_or(0);
        let wanted = wanted(&p4.host_device, largest + MTU_OVERHEAD, None);
        return Ok(vec![(HOST_PORT.to_owned(), wanted)]);
    }
    let of_port = |port: &upf_config::Port| Ok((port.name.clone(), wanted(&port.device, port.mtu, mac_of(port)?)));
    config.ports.iter().map(of_port).collect()
}

/// Whether a device may wake an lcore: network cards, by their PCI addresses, and taps. Of the other virtual devices none can,
/// and DPDK says so in its log when asked.
fn has_interrupts(device: &str) -> bool {
    is_pci(device) || device.starts_with("net_tap")
}

fn is_pci(device: &str) -> bool {
    device.as_bytes().get(4) == Some(&b':')
}

/// Hardware address of every port, and whether UDP checksums can be left to it. A P4 target's ports have the configured
/// address, and frames from the host leave as they are.
fn stations(config: &Config, opened: &[(String, Port)]) -> Result<Vec<(Mac, bool)>, HostError> {
    if config.p4.is_none() {
        return Ok(opened.iter().map(|(_, p)| (p.mac(), p.tx_checksums().udp)).collect());
    }
    let station = |port| Ok((mac_of(port)?.unwrap_or_default(), false));
    config.ports.iter().map(station).collect()
}

/// The egress of a port, if it has queues.
fn profile(port: &upf_config::Port) -> Option<Arc<Profile>> {
    let egress = port.egress.as_ref()?;
    Some(Arc::new(Profile::new(egress, port.mtu)))
}

fn mac_of(port: &upf_config::Port) -> Result<Option<Mac>, HostError> {
    let parsed = port.mac.as_deref().map(|text| {
        parse_mac(text).ok_or_else(|| HostError::Mac {
            name: port.name.clone(),
            found: text.to_owned(),
        })
    });
    parsed.transpose()
}

fn open(name: &str, wanted: &PortConfig, pool: &Mempool) -> Result<(Port, crate::dpdk::Queues), HostError> {
    let (opened, of_port) = Port::open(wanted, pool).map_err(|error| HostError::Port {
        name: name.to_owned(),
        error,
    })?;
    let (found, expected) = (of_port.rx.len().min(of_port.tx.len()), usize::from(wanted.rx_queues));
    if found < expected {
        return Err(HostError::Queues {
            name: name.to_owned(),
            expected,
            found,
        });
    }
    tracing::info!(port = name, driver = opened.driver(), mtu = opened.mtu(), "port open");
    Ok((opened, of_port))
}

fn eal_config(config: &Config) -> EalConfig {
    let host = &config.host;
    let bytes = u64::from(host.mempool_packets) * (u64::from(host.packet_room) + HEADROOM + 512);
    EalConfig {
        name: format!("upf-{}", config.name),
        hugepages: host.hugepages,
        memory_mb: (bytes >> 20) as u32 + 64,
        pci: config
            .ports
            .iter()
            .map(|p| p.device.clone())
            .chain(config.p4.iter().map(|p4| p4.host_device.clone()))
            .filter(|d| is_pci(d))
            .collect(),
        extra_args: host.eal_args.clone(),
        ..EalConfig::default()
    }
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut octets = text.split(':').map(|o| u8::from_str_radix(o, 16));
    let mut mac = [0; 6];
    for octet in &mut mac {
        *octet = octets.next()?.ok()?;
    }
    octets.next().is_none().then_some(mac)
}
