//! upf-host in memory: its manager and its pipeline, without DPDK.

use crate::world;
use arrayvec::ArrayVec;
use bmv2_tests::Frames;
use pdr_classifier::Table;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use upf_config::Config;
use upf_host::compile::CompiledSession;
use upf_host::counters::LcoreCounters;
use upf_host::egress::Class;
use upf_host::environment::Environment;
use upf_host::host_port::HostPort;
use upf_host::manage::{Hardware, LcoreHandle, Manager, Parts};
use upf_host::neighbours::PortIndex;
use upf_host::packet::{Allocator, HeapPacket, Packet};
use upf_host::pipeline::parse::{Parsed, parse};
use upf_host::pipeline::{BURST, Command, Io, Now, Pipeline};
use upf_host::reports::{Reporter, Reports};
use upf_model::batch::{Change, FlowPacket, FromHost, PortCounters, SessionUsage, ToHost};
use upf_model::punt::REINJECT_LEN;
use upf_model::{Qfi, Session, SessionId};

/// Time stands still: no bucket fills, nobody is asked for twice.
const NOW: Now = Now {
    ns: 1_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
    wall_offset_ns: 1_699_999_999_000_000_000,
};

pub struct Host {
    env: Arc<Environment>,
    manager: Manager<NoHardware>,
    pipeline: Pipeline<HeapPacket>,
    wire: Wire,
    commands: Receiver<Command>,
    _reports: Reports,
}

#[derive(Default)]
struct Wire {
    /// Port of the P4 target, and frame. With a host port the frames have reinject headers.
    sent: Frames,
    host_port: Option<Arc<HostPort>>,
}

impl Allocator<HeapPacket> for Wire {
    fn allocate(&mut self) -> Option<HeapPacket> {
        Some(HeapPacket::new(&[]))
    }
}

impl Io<HeapPacket> for Wire {
    fn send(&mut self, port: PortIndex, packet: HeapPacket, class: Class) {
        let sent = match &self.host_port {
            None => Some(packet),
            Some(host_port) => host_port.reinject(port, class.queue, packet),
        };
        self.sent
            .extend(sent.map(|frame| (world::p4_port(port), frame.bytes().to_vec())));
    }
    fn flush(&mut self) {}
}

struct NoHardware;
impl Hardware for NoHardware {
    fn ports(&self) -> Vec<PortCounters> {
        Vec::new()
    }
    fn mempool_free(&self) -> u64 {
        0
    }
}

impl Host {
    /// With the neighbours of the test known.
    pub fn new(config: &Config) -> Self {
        let mac = |port| (world::our_mac(port), false);
        let env = Environment::new(config, &[mac(world::N3), mac(world::N9), mac(world::N6)]);
        let env = Arc::new(env.unwrap_or_else(|e| panic!("{e}")));
        for neighbour in world::neighbours() {
            let port = neighbour.port as PortIndex;
            env.neighbours.intern(port, neighbour.addr);
            env.neighbours.learn(port, neighbour.addr, neighbour.mac, 1_000);
        }
        let (table, writer) = Table::<CompiledSession>::new();
        let counters = Arc::new(LcoreCounters::default());
        let (commands_in, commands) = mpsc::channel();
        let (reporter, reports) = Reporter::channel(16, None);
        let host_port = HostPort::new(config, counters.clone()).map(Arc::new);
        let pipeline = Pipeline::new(env.clone(), table.register(), (0, 1), counters.clone(), reporter);
        let manager = Manager::new(Parts {
            env: env.clone(),
            writer,
            lcores: vec![LcoreHandle {
                commands: commands_in,
                counters,
            }],
            hardware: NoHardware,
            burst: qos::BurstPolicy::default(),
            clock: Box::new(|| NOW.ns),
            max_sessions: 16,
            instance: 1,
        });
        let wire = Wire {
            host_port,
            ..Wire::default()
        };
        let mut host = Self {
            env,
            manager,
            pipeline,
            wire,
            commands,
            _reports: reports,
        };
        host.pipeline.tick(false, NOW, &mut host.wire);
        host
    }

    pub fn put(&mut self, session: &Session) {
        let put = Change::Put {
            session: session.clone(),
            end_markers: vec![],
            discard_buffered: vec![],
        };
        self.manager.apply(&[put]).unwrap_or_else(|e| panic!("{e}"));
        for command in self.commands.try_iter() {
            self.pipeline.execute(command, NOW, &mut self.wire);
        }
    }

    /// One frame in at a port of its own; what leaves, by the target's port numbers.
    pub fn receive(&mut self, port: PortIndex, frame: &[u8]) -> Frames {
        let mut burst: ArrayVec<HeapPacket, BURST> = ArrayVec::new();
        burst.push(HeapPacket::new(frame));
        self.pipeline.process(port, &mut burst, NOW, &mut self.wire);
        std::mem::take(&mut self.wire.sent)
    }

    /// Punted frames in; what is reinjected because of them.
    pub fn finish(&mut self, punted: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let host_port = self.wire.host_port.clone().expect("behind a P4 target");
        for burst in punted.chunks(BURST) {
            let mut burst: ArrayVec<HeapPacket, BURST> = burst.iter().map(|frame| HeapPacket::new(frame)).collect();
            host_port.receive(&mut burst, &mut self.pipeline, NOW, &mut self.wire);
        }
        let reinjected = std::mem::take(&mut self.wire.sent);
        reinjected
            .into_iter()
            .map(|(port, frame)| {
                assert_eq!(
                    frame[16..REINJECT_LEN],
                    port.to_be_bytes(),
                    "egress port of the reinject header"
                );
                frame
            })
            .collect()
    }

    /// What it has counted for a session.
    pub fn usage(&mut self, session: SessionId) -> SessionUsage {
        let query = ToHost::QueryUsage {
            seq: 1,
            sessions: vec![session],
        };
        match self.manager.handle(query) {
            Some(FromHost::Usage { mut sessions, .. }) if sessions.len() == 1 => sessions.remove(0),
            other => panic!("expected the usage of one session, found {other:?}"),
        }
    }

    /// What rules of the P4 path may ask of a frame, if it is a user's.
    pub fn flow_packet(&self, port: PortIndex, frame: &[u8]) -> Option<FlowPacket> {
        let Parsed::User(user) = parse(&self.env.ports[usize::from(port)], frame, false) else {
            return None;
        };
        Some(FlowPacket {
            uplink: user.key.is_tunnel(),
            remote: user.fields.remote(),
            ue: user.fields.ue(),
            protocol: user.fields.protocol(),
            ports: user.fields.ports(),
            tos: user.fields.tos(),
            qfi: user.qfi.map(Qfi),
        })
    }
}
