//! A UPF in memory: ports n3, n6 and n9, next hops that answer, sessions by the manager, packets by etherparse.
#![allow(dead_code)]

pub mod process;

use arrayvec::ArrayVec;
use etherparse::PacketBuilder;
use pdr_classifier::Table;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use upf_host::compile::CompiledSession;
use upf_host::counters::{DropReason, HostEvent, LcoreCounters};
use upf_host::egress::Class;
use upf_host::environment::Environment;
use upf_host::host_port::HostPort;
use upf_host::manage::{Hardware, LcoreHandle, Manager, Parts};
use upf_host::neighbours::{Mac, PortIndex};
use upf_host::packet::{Allocator, HeapPacket, Packet};
use upf_host::pipeline::{BURST, Command, Io, Now, Pipeline};
use upf_host::reports::{Reporter, Reports};
use upf_model::batch::{Change, Event, PortCounters};
use upf_model::*;

pub const N3: PortIndex = 0;
pub const N6: PortIndex = 1;
/// Where frames leave with a P4 target, whatever their logical port.
pub const HOST: PortIndex = PortIndex::MAX;
pub const UPF_MAC: [Mac; 2] = [[2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 6]];
pub const GNB_MAC: Mac = [2, 0, 0, 0, 3, 2];
pub const DN_MAC: Mac = [2, 0, 0, 0, 6, 2];
pub const UPF_N3: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
pub const GNB: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
pub const DN: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
pub const ACCESS: NetworkInstanceId = NetworkInstanceId(0);
pub const INTERNET: NetworkInstanceId = NetworkInstanceId(1);

pub const CONFIG: &str = "
name: in-memory
pfcp: { listen: '127.0.0.1:8805' }
host: { buffering: { packets_per_session: 4, bytes_per_session: 4000, packets_total: 6 } }
ports:
  - { name: n3, device: net_null0, addresses: [10.3.0.1/24, 'fd03::1/64'], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: net_null1, addresses: [10.6.0.1/24, 'fd06::1/64'], network_instance: internet, interfaces: [core] }
network_instances:
  - { name: access }
  - { name: internet, routes: [{ prefix: 0.0.0.0/0, via: 10.6.0.2 }, { prefix: '::/0', via: 'fd06::2' }] }
";

/// The same UPF with a P4 target, at whose ports 7 and 2 n3 and n6 are.
pub fn config_behind_p4() -> String {
    CONFIG
        .replace("device: net_null0", "device: 'p4:7', mac: '02:00:00:00:00:03'")
        .replace("device: net_null1", "device: 'p4:2', mac: '02:00:00:00:00:06'")
        + "p4: { target: '127.0.0.1:9559', host_port: 3, host_device: net_null0 }\n"
}

/// The target's port at which a logical port is.
pub const fn p4_port(port: PortIndex) -> u16 {
    if port == N3 { 7 } else { 2 }
}

/// A frame as the target punts it from one of its ports.
pub fn punted(reason: PuntReason, port: PortIndex, session: Option<(SessionId, Epoch)>, frame: &[u8]) -> Vec<u8> {
    let header = PuntHeader {
        reason,
        ingress_port: p4_port(port),
        session,
    };
    [&header.to_bytes(), frame].concat()
}

/// The frame in a reinjected one, and the target's port at which it leaves.
pub fn reinjected(frame: &[u8]) -> (u16, Vec<u8>) {
    let port = u16::from_be_bytes([frame[16], frame[17]]);
    let header = ReinjectHeader {
        egress_port: port,
        queue: frame[15],
    };
    assert_eq!(frame[..punt::REINJECT_LEN], header.to_bytes());
    (port, frame[punt::REINJECT_LEN..].to_vec())
}

/// What came out, and packets for the pipeline to fill.
#[derive(Default)]
pub struct Wire {
    pub sent: Vec<(PortIndex, Vec<u8>)>,
    /// How each of them was to wait.
    pub classes: Vec<Class>,
    pub pool_empty: bool,
    pub host_port: Option<Arc<HostPort>>,
}

impl Allocator<HeapPacket> for Wire {
    fn allocate(&mut self) -> Option<HeapPacket> {
        (!self.pool_empty).then(|| HeapPacket::new(&[]))
    }
}

impl Io<HeapPacket> for Wire {
    fn send(&mut self, port: PortIndex, packet: HeapPacket, class: Class) {
        self.classes.push(class);
        match &self.host_port {
            None => self.sent.push((port, packet.bytes().to_vec())),
            Some(host_port) => {
                let frame = host_port.reinject(port, class.queue, packet);
                self.sent.extend(frame.map(|frame| (HOST, frame.bytes().to_vec())));
            }
        }
    }
    fn flush(&mut self) {}
}

pub struct NoHardware;
impl Hardware for NoHardware {
    fn ports(&self) -> Vec<PortCounters> {
        Vec::new()
    }
    fn mempool_free(&self) -> u64 {
        0
    }
}

pub struct Upf {
    pub env: Arc<Environment>,
    pub manager: Manager<NoHardware>,
    pub pipeline: Pipeline<HeapPacket>,
    pub counters: Arc<LcoreCounters>,
    pub wire: Wire,
    pub now: Now,
    commands: Receiver<Command>,
    reports: Reports,
    epoch: u32,
}

impl Upf {
    /// Its next hops are resolved.
    pub fn new() -> Self {
        Self::resolved(CONFIG)
    }

    /// With a P4 target; its next hops are resolved.
    pub fn behind_p4() -> Self {
        Self::resolved(&config_behind_p4())
    }

    /// Of this configuration; its next hops are resolved.
    pub fn resolved(config: &str) -> Self {
        let upf = Self::unresolved(config);
        for (port, addr, mac) in [(N3, IpAddr::V4(GNB), GNB_MAC), (N6, IpAddr::V4(DN), DN_MAC)] {
            upf.env.neighbours.intern(port, addr).unwrap();
            assert!(upf.env.neighbours.learn(port, addr, mac, 1_000));
        }
        for (port, addr, mac) in [(N3, "fd03::2", GNB_MAC), (N6, "fd06::2", DN_MAC)] {
            let addr = addr.parse().unwrap();
            upf.env.neighbours.intern(port, addr).unwrap();
            assert!(upf.env.neighbours.learn(port, addr, mac, 1_000));
        }
        upf.env.neighbours.take_news();
        upf
    }

    /// Nothing is known of its neighbours.
    pub fn unresolved(config: &str) -> Self {
        let config = upf_config::parse(config, "test").unwrap();
        let env = Arc::new(Environment::new(&config, &[(UPF_MAC[0], false), (UPF_MAC[1], false)]).unwrap());
        let (table, writer) = Table::<CompiledSession>::new();
        let counters = Arc::new(LcoreCounters::default());
        let (commands_in, commands) = mpsc::channel();
        let (reporter, reports) = Reporter::channel(16, None);
        let host_port = HostPort::new(&config, counters.clone()).map(Arc::new);
        let pipeline = Pipeline::new(env.clone(), table.register(), (0, 1), counters.clone(), reporter);
        let manager = Manager::new(Parts {
            env: env.clone(),
            writer,
            lcores: vec![LcoreHandle {
                commands: commands_in,
                counters: counters.clone(),
            }],
            hardware: NoHardware,
            burst: qos::BurstPolicy {
                milliseconds: 10,
                at_least_bytes: 3_000,
            },
            clock: Box::new(|| 1_000_000_000),
            max_sessions: 100,
            instance: 1,
        });
        let now = Now {
            ns: 1_000_000_000,
            wall_ns: 1_700_000_000_000_000_000,
            wall_offset_ns: 1_699_999_999_000_000_000,
        };
        let mut upf = Self {
            env,
            manager,
            pipeline,
            counters,
            wire: Wire {
                host_port,
                ..Wire::default()
            },
            now,
            commands,
            reports,
            epoch: 0,
        };
        upf.pipeline.tick(false, now, &mut upf.wire);
        upf
    }

    pub fn put(&mut self, session: &Session) {
        self.put_with(session, vec![], vec![]);
    }

    pub fn put_with(&mut self, session: &Session, end_markers: Vec<OuterHeaderCreation>, discard: Vec<FarId>) {
        self.epoch += 1;
        let session = Session {
            epoch: Epoch(self.epoch),
            ..session.clone()
        };
        self.manager
            .apply(&[Change::Put {
                session,
                end_markers,
                discard_buffered: discard,
            }])
            .unwrap();
        self.run_commands();
    }

    pub fn run_commands(&mut self) {
        for command in self.commands.try_iter() {
            self.pipeline.execute(command, self.now, &mut self.wire);
        }
    }

    /// One frame in; what came out because of it.
    pub fn receive(&mut self, port: PortIndex, frame: &[u8]) -> Vec<(PortIndex, Vec<u8>)> {
        let mut burst: ArrayVec<HeapPacket, BURST> = ArrayVec::new();
        burst.push(HeapPacket::new(frame));
        self.pipeline.process(port, &mut burst, self.now, &mut self.wire);
        std::mem::take(&mut self.wire.sent)
    }

    /// A burst of frames from the host port; what came out because of it.
    pub fn receive_at_host(&mut self, frames: &[Vec<u8>]) -> Vec<(PortIndex, Vec<u8>)> {
        let host_port = self.wire.host_port.clone().expect("a UPF behind a P4 target");
        let mut burst: ArrayVec<HeapPacket, BURST> = frames.iter().map(|frame| HeapPacket::new(frame)).collect();
        host_port.receive(&mut burst, &mut self.pipeline, self.now, &mut self.wire);
        std::mem::take(&mut self.wire.sent)
    }

    /// One frame in, exactly one out.
    #[track_caller]
    pub fn forwarded(&mut self, port: PortIndex, frame: &[u8]) -> (PortIndex, Vec<u8>) {
        let mut sent = self.receive(port, frame);
        assert_eq!(sent.len(), 1, "one frame out; drops: {:?}", self.drops());
        sent.remove(0)
    }

    /// One frame in, nothing out, counted under this reason.
    #[track_caller]
    pub fn dropped(&mut self, port: PortIndex, frame: &[u8], reason: DropReason) {
        let before = self.counters.drops(reason).packets;
        let sent = self.receive(port, frame);
        assert!(sent.is_empty(), "expected a drop, {} frames out", sent.len());
        assert_eq!(
            self.counters.drops(reason).packets,
            before + 1,
            "drops: {:?}",
            self.drops()
        );
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = DropReason::ALL
            .iter()
            .map(|&r| (r.name(), self.counters.drops(r).packets));
        all.filter(|(_, n)| *n > 0).collect()
    }

    pub fn events(&self, event: HostEvent) -> u64 {
        self.counters.events(event)
    }

    pub fn reports(&self) -> Vec<Event> {
        self.reports.try_iter().collect()
    }

    pub fn usage(&mut self, id: SessionId) -> batch::SessionUsage {
        let query = batch::ToHost::QueryUsage {
            seq: 1,
            sessions: vec![id],
        };
        match self.manager.handle(query) {
            Some(batch::FromHost::Usage { mut sessions, .. }) => sessions.remove(0),
            other => panic!("expected usage, found {other:?}"),
        }
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.now.ns += ms * 1_000_000;
        self.now.wall_ns += ms * 1_000_000;
        self.pipeline.tick(false, self.now, &mut self.wire);
    }
}

/// The usual session of one IPv4 UE: uplink TEID 0x100, downlink TEID 0x200 at the gNB, QFI 9.
pub fn session() -> Session {
    let fteid = LocalFTeid {
        teid: Teid(0x100),
        ipv4: Some(UPF_N3),
        ipv6: Some("fd03::1".parse().unwrap()),
    };
    let ue = UeIpAddress {
        ipv4: Some(UE),
        ipv6: None,
    };
    Session {
        id: SessionId(1),
        seid: Seid(0xabc),
        epoch: Epoch(1),
        ue_ips: vec![ue],
        framed_routes: vec![],
        pdrs: vec![
            Pdr {
                id: PdrId(1),
                precedence: Precedence(100),
                pdi: Pdi {
                    source_interface: Interface::Access,
                    network_instance: ACCESS,
                    local_fteid: Some(fteid),
                    ue_ip: None,
                    framed_routes: vec![],
                    sdf: vec![],
                    qfis: vec![],
                },
                outer_header_removal: Some(OuterHeaderRemoval::GtpuUdpIp),
                far: FarId(1),
                qers: vec![QerId(1)],
                urrs: vec![UrrId(1)],
            },
            Pdr {
                id: PdrId(2),
                precedence: Precedence(100),
                pdi: Pdi {
                    source_interface: Interface::Core,
                    network_instance: INTERNET,
                    local_fteid: None,
                    ue_ip: Some(ue),
                    framed_routes: vec![],
                    sdf: vec![],
                    qfis: vec![],
                },
                outer_header_removal: None,
                far: FarId(2),
                qers: vec![QerId(1)],
                urrs: vec![UrrId(1)],
            },
        ],
        fars: vec![
            Far {
                id: FarId(1),
                action: Action {
                    disposition: Disposition::Forward,
                    duplicate: false,
                },
                forwarding: Some(ForwardingParameters {
                    destination_interface: Interface::Core,
                    network_instance: INTERNET,
                    outer_header_creation: None,
                    transport_level_marking: None,
                }),
                duplicating: vec![],
                bar: None,
            },
            Far {
                id: FarId(2),
                action: Action {
                    disposition: Disposition::Forward,
                    duplicate: false,
                },
                forwarding: Some(ForwardingParameters {
                    destination_interface: Interface::Access,
                    network_instance: ACCESS,
                    outer_header_creation: Some(OuterHeaderCreation {
                        teid: Teid(0x200),
                        peer: GNB.into(),
                    }),
                    transport_level_marking: None,
                }),
                duplicating: vec![],
                bar: None,
            },
        ],
        qers: vec![Qer {
            id: QerId(1),
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: None,
            gbr: None,
            qfi: Some(Qfi(9)),
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
            scheduling: Scheduling::default(),
        }],
        urrs: vec![Urr {
            id: UrrId(1),
            method: MeasurementMethod {
                volume: true,
                duration: true,
                event: false,
            },
            before_qos: false,
            reporting: Default::default(),
        }],
        bars: vec![],
    }
}

/// A UDP packet of a user, without Ethernet header.
pub fn udp(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(src.octets(), dst.octets(), ttl)
        .udp(4000, 53)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// The same for IPv6.
pub fn udp6(src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(src.octets(), dst.octets(), 64)
        .udp(4000, 53)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// An uplink frame from the gNB: `inner` in tunnel `teid`, QFI as given.
pub fn uplink(teid: u32, qfi: Option<u8>, inner: &[u8]) -> Vec<u8> {
    gtpu_frame(&gpdu(teid, qfi, inner))
}

/// A G-PDU with an uplink PDU Session Container.
pub fn gpdu(teid: u32, qfi: Option<u8>, inner: &[u8]) -> Vec<u8> {
    let container = qfi.map(gtpu::PduSessionContainer::uplink);
    let mut message = vec![0; 64];
    let n = gtpu::write_gpdu_header(&mut message, teid, inner.len(), container.as_ref()).unwrap();
    message.truncate(n);
    message.extend_from_slice(inner);
    message
}

/// A frame from the gNB with this GTP-U message.
pub fn gtpu_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GNB_MAC, UPF_MAC[0])
        .ipv4(GNB.octets(), UPF_N3.octets(), 64)
        .udp(2152, 2152)
        .write(&mut frame, message)
        .unwrap();
    frame
}

/// A frame from the data network.
pub fn downlink(packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&UPF_MAC[1][..], &DN_MAC, &ether_type, packet].concat()
}

/// The Ethernet payload of an untagged frame.
pub fn ip_of(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

/// Outer IPv4 header, GTP-U header and inner packet of a frame to the gNB.
pub fn tunnelled(frame: &[u8]) -> (etherparse::Ipv4Header, gtpu::GPdu, Vec<u8>) {
    let (ip, rest) = etherparse::Ipv4Header::from_slice(ip_of(frame)).unwrap();
    assert_eq!(ip.calc_header_checksum(), ip.header_checksum, "outer header checksum");
    assert_eq!(usize::from(ip.total_len), ip_of(frame).len(), "outer total length");
    let (udp, message) = etherparse::UdpHeader::from_slice(rest).unwrap();
    assert_eq!(usize::from(udp.length), rest.len(), "UDP length");
    let header = gtpu::Header::parse(message).unwrap();
    let gpdu = gtpu::GPdu::from_header(&header).unwrap();
    (ip, gpdu, message[gpdu.header_len..].to_vec())
}
