//! Lcores of upf-host without their loops: ports, pipelines, and the manager of their rules.

use super::PER_BURST;
use super::sessions::{CONFIG, GNB, ROUTER};
use super::traffic::{DOWNLINK_FRAME, Traffic, UPLINK_FRAME, Way};
use crate::Outcome;
use arrayvec::ArrayVec;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use upf_host::counters::{DropReason, LcoreCounters};
use upf_host::dpdk::{Eal, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue};
use upf_host::environment::Environment;
use upf_host::host::sessions_table;
use upf_host::manage::{Hardware, LcoreHandle, Manager, Parts};
use upf_host::neighbours::Mac;
use upf_host::pipeline::{BURST, Command, Io, Pipeline};
use upf_host::reports::{Reporter, Reports};
use upf_host::spread::Spread;
use upf_host::worker::{Clock, Outlet};
use upf_model::batch::PortCounters;

/// The gNB's hardware address.
pub const GNB_MAC: Mac = [2, 0, 0, 0, 3, 2];
/// The router's.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 6, 2];

const PACKETS: u32 = 8_191;

/// One lcore and its manager.
pub struct Rig {
    pub manager: Manager<Unasked>,
    pub lane: Lane,
}

/// An lcore's share of upf-host, N3 first and N6 second.
pub struct Lane {
    pub pipeline: Pipeline<Mbuf>,
    pub pool: Mempool,
    pub clock: Clock,
    env: Arc<Environment>,
    outlet: Outlet,
    ports: Vec<Port>,
    rx: Vec<RxQueue>,
    /// Beside those of the outlet.
    tx: Vec<TxQueue>,
    /// What it hands over to other lcores, and they to it.
    spread: Spread<Mbuf>,
    counters: Arc<LcoreCounters>,
    _commands: Receiver<Command>,
    _reports: Reports,
}

/// Packets that left by the egress port, and all that were dropped.
#[derive(Clone, Copy)]
pub struct Tally {
    pub sent: u64,
    pub dropped: u64,
}

/// Nobody asks the manager for device counters here.
pub struct Unasked;

impl Hardware for Unasked {
    fn ports(&self) -> Vec<PortCounters> {
        Vec::new()
    }
    fn mempool_free(&self) -> u64 {
        0
    }
}

impl Rig {
    pub fn new(eal: &Eal) -> Outcome<Self> {
        let (manager, mut lanes) = lanes(eal, 1)?;
        let lane = lanes.pop().ok_or("no lcore")?;
        Ok(Self { manager, lane })
    }
}

/// So many lcores, each with ports of its own in the place of a queue of shared ones.
pub fn lanes(eal: &Eal, lcores: usize) -> Outcome<(Manager<Unasked>, Vec<Lane>)> {
    let opened: Vec<Opened> = (0..lcores).map(|lcore| open(eal, lcore)).collect::<Outcome<_>>()?;
    let config = upf_config::parse(CONFIG, "bench").map_err(|e| e.to_string())?;
    let devices = opened[0].ports.iter().map(|p| (p.mac(), p.tx_checksums().udp));
    let env = Arc::new(Environment::new(&config, &devices.collect::<Vec<(Mac, bool)>>())?);
    let counters: Vec<Arc<LcoreCounters>> = (0..lcores).map(|_| Arc::default()).collect();
    let spreads = Spread::between(&env, &counters)?;
    let (table, writer) = sessions_table();
    let (mut lanes, mut handles) = (Vec::new(), Vec::new());
    for (lcore, ((opened, spread), counters)) in opened.into_iter().zip(spreads).zip(counters).enumerate() {
        let (commands, _commands) = mpsc::channel();
        let (reporter, _reports) = Reporter::channel(16, None);
        let of_lcore = (lcore, lcores);
        handles.push(LcoreHandle {
            commands,
            counters: counters.clone(),
        });
        lanes.push(Lane {
            pipeline: Pipeline::new(env.clone(), table.register(), of_lcore, counters.clone(), reporter),
            clock: Clock::new(),
            env: env.clone(),
            outlet: Outlet::new(opened.to_outlet, opened.pool.clone(), counters.clone()),
            pool: opened.pool,
            ports: opened.ports,
            rx: opened.rx,
            tx: opened.tx,
            spread,
            counters,
            _commands,
            _reports,
        });
    }
    let clock = Clock::new();
    let manager = Manager::new(Parts {
        env,
        writer,
        lcores: handles,
        hardware: Unasked,
        burst: qos::BurstPolicy::default(),
        clock: Box::new(move || clock.now().ns),
        max_sessions: u32::MAX,
        instance: 1,
    });
    Ok((manager, lanes))
}

/// The devices of one lcore.
struct Opened {
    pool: Mempool,
    ports: Vec<Port>,
    rx: Vec<RxQueue>,
    to_outlet: Vec<TxQueue>,
    tx: Vec<TxQueue>,
}

fn open(eal: &Eal, lcore: usize) -> Outcome<Opened> {
    let pool = Mempool::new(eal, &format!("packets{lcore}"), PACKETS, 256, 2_048)?;
    let (mut ports, mut rx, mut tx, mut to_outlet) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, size) in [UPLINK_FRAME, DOWNLINK_FRAME].into_iter().enumerate() {
        let device = PortConfig {
            tx_queues: 2,
            ..PortConfig::new(&format!("net_null{},size={size}", 2 * lcore + number))
        };
        let (port, queues) = Port::open(&device, &pool)?;
        let mut of_port = queues.tx.into_iter();
        to_outlet.extend(of_port.next());
        tx.extend(of_port.next());
        rx.extend(queues.rx);
        ports.push(port);
    }
    Ok(Opened {
        pool,
        ports,
        rx,
        to_outlet,
        tx,
    })
}

impl Lane {
    pub fn mac(&self, port: u8) -> Mac {
        self.env.ports[usize::from(port)].mac
    }

    /// The neighbours have just answered ARP.
    pub fn refresh_neighbours(&mut self) {
        let now_ms = self.clock.now().ns / 1_000_000;
        for (port, addr, mac) in [(0, GNB, GNB_MAC), (1, ROUTER, ROUTER_MAC)] {
            self.env.neighbours.intern(port, addr.into());
            self.env.neighbours.learn(port, addr.into(), mac, now_ms);
        }
    }

    /// Bursts from port through the pipeline to port, as an lcore does it; how many packets came in.
    pub fn forward(&mut self, traffic: &mut Traffic, bursts: usize) -> Outcome<u64> {
        let ingress = traffic.way().ingress();
        let rx = &mut self.rx[usize::from(ingress)];
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut packets = 0;
        for _ in 0..bursts {
            packets += receive(rx, traffic, &mut burst)?;
            let now = self.clock.now();
            self.pipeline.process(ingress, &mut burst, now, &mut self.outlet);
            self.outlet.flush();
        }
        Ok(packets)
    }

    /// The same where lcores hand over to each other what is not theirs. One that `receives` nothing lives from the others.
    pub fn forward_shared(&mut self, traffic: &mut Traffic, receives: bool, bursts: usize) -> Outcome<()> {
        let ingress = traffic.way().ingress();
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        for _ in 0..bursts {
            if receives {
                receive(&mut self.rx[usize::from(ingress)], traffic, &mut burst)?;
                self.spread.keep_own(ingress, &mut burst);
                let now = self.clock.now();
                self.pipeline.process(ingress, &mut burst, now, &mut self.outlet);
            }
            if let Some(ingress) = self.spread.take(PER_BURST, &mut burst) {
                let now = self.clock.now();
                self.pipeline.process(ingress, &mut burst, now, &mut self.outlet);
            }
            self.outlet.flush();
        }
        Ok(())
    }

    /// The same without the pipeline.
    pub fn pass(&mut self, traffic: &mut Traffic, bursts: usize) -> Outcome<u64> {
        let (ingress, egress) = (
            usize::from(traffic.way().ingress()),
            usize::from(traffic.way().egress()),
        );
        let (rx, tx) = (&mut self.rx[ingress], &mut self.tx[egress]);
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut packets = 0;
        for _ in 0..bursts {
            packets += receive(rx, traffic, &mut burst)?;
            tx.burst(&mut burst);
        }
        Ok(packets)
    }

    pub fn tally(&self, way: Way) -> Tally {
        let sent = self.ports[usize::from(way.egress())].statistics().opackets;
        Tally {
            sent,
            dropped: DropReason::ALL.iter().map(|&r| self.counters.drops(r).packets).sum(),
        }
    }

    /// Why packets were dropped.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = DropReason::ALL
            .iter()
            .map(|&r| (r.name(), self.counters.drops(r).packets));
        all.filter(|(_, packets)| *packets > 0).collect()
    }
}

#[inline(always)]
fn receive(rx: &mut RxQueue, traffic: &mut Traffic, burst: &mut ArrayVec<Mbuf, BURST>) -> Outcome<u64> {
    let received = rx.burst_up_to(burst, PER_BURST);
    let filled = match traffic.is_filtered() {
        false => burst.iter_mut().all(|packet| traffic.fill(packet)),
        true => burst.iter_mut().all(|packet| traffic.fill_filtered(packet)),
    };
    if received != PER_BURST || !filled {
        return Err(format!("net_null gave {received} packets of another length than asked for").into());
    }
    Ok(received as u64)
}
