//! One frame at the host port of a P4 target, and what must hold of any.

use arrayvec::ArrayVec;
use pdr_classifier::Table;
use std::cell::RefCell;
use std::sync::Arc;
use upf_host::compile::CompiledSession;
use upf_host::counters::{DropReason, LcoreCounters};
use upf_host::egress::Class;
use upf_host::environment::Environment;
use upf_host::host_port::HostPort;
use upf_host::neighbours::PortIndex;
use upf_host::packet::{Allocator, HeapPacket, Packet};
use upf_host::pipeline::{Io, Now, Pipeline};
use upf_host::reports::{Reporter, Reports};
use upf_model::punt::REINJECT_LEN;
use upf_model::{PuntHeader, PuntReason};

const CONFIG: &str = "
pfcp: { listen: '127.0.0.1:8805' }
ports:
  - { name: n3, device: 'p4:1', mac: '02:00:00:00:00:03', addresses: [10.3.0.1/24, 'fd03::1/64'], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: 'p4:2', mac: '02:00:00:00:00:06', addresses: [10.6.0.1/24, 'fd06::1/64'], network_instance: internet, interfaces: [core] }
network_instances: [{ name: access }, { name: internet, routes: [{ prefix: 0.0.0.0/0, via: 10.6.0.2 }] }]
p4: { target: '127.0.0.1:9559', host_port: 3, host_device: net_null0 }
";

/// A host without sessions behind a target, and what it sends.
struct Host {
    host_port: Arc<HostPort>,
    pipeline: Pipeline<HeapPacket>,
    counters: Arc<LcoreCounters>,
    wire: Wire,
    _reports: Reports,
}

struct Wire {
    host_port: Arc<HostPort>,
    sent: Vec<Vec<u8>>,
}

impl Allocator<HeapPacket> for Wire {
    fn allocate(&mut self) -> Option<HeapPacket> {
        Some(HeapPacket::new(&[]))
    }
}

impl Io<HeapPacket> for Wire {
    fn send(&mut self, port: PortIndex, packet: HeapPacket, class: Class) {
        let frame = self
            .host_port
            .reinject(port, class.queue, packet)
            .expect("room for the header");
        self.sent.push(frame.bytes().to_vec());
    }
    fn flush(&mut self) {}
}

impl Host {
    fn new() -> Self {
        let config = upf_config::parse(CONFIG, "fuzz").expect("a good configuration");
        let stations = [([2, 0, 0, 0, 0, 3], false), ([2, 0, 0, 0, 0, 6], false)];
        let env = Arc::new(Environment::new(&config, &stations).expect("good routes"));
        let counters = Arc::new(LcoreCounters::default());
        let host_port = HostPort::new(&config, counters.clone()).map(Arc::new);
        let host_port = host_port.expect("a configuration with a P4 target");
        let (table, _writer) = Table::<CompiledSession>::new();
        let (reporter, _reports) = Reporter::channel(16, None);
        Self {
            pipeline: Pipeline::new(env, table.register(), (0, 1), counters.clone(), reporter),
            wire: Wire {
                host_port: host_port.clone(),
                sent: Vec::new(),
            },
            host_port,
            counters,
            _reports,
        }
    }

    fn punts(&self) -> u64 {
        PuntReason::ALL.iter().map(|&r| self.counters.punts(r).packets).sum()
    }
}

/// Reads the header, then takes the frame all the way: it is counted as punted or as none, and what comes out leaves by
/// a port of ours.
pub fn punted_frame(data: &[u8]) {
    thread_local!(static HOST: RefCell<Host> = RefCell::new(Host::new()));
    let header = PuntHeader::read(data);
    if let Ok(header) = header {
        assert_eq!(PuntHeader::read(&header.to_bytes()), Ok(header));
    }
    HOST.with_borrow_mut(|host| {
        let (punts, others) = (host.punts(), host.counters.drops(DropReason::NotPunted).packets);
        let mut burst = ArrayVec::new();
        burst.push(HeapPacket::new(data));
        let now = Now {
            ns: 1_000_000_000,
            wall_ns: 1_000_000_000,
            wall_offset_ns: 1_699_999_999_000_000_000,
        };
        host.host_port
            .receive(&mut burst, &mut host.pipeline, now, &mut host.wire);
        assert!(burst.is_empty());
        let others = host.counters.drops(DropReason::NotPunted).packets - others;
        assert_eq!(host.punts() - punts, u64::from(header.is_ok()));
        assert_eq!(others, u64::from(header.is_err()));
        for frame in host.wire.sent.drain(..) {
            assert!(frame.len() > REINJECT_LEN && matches!(frame[16..18], [0, 1 | 2]));
        }
    });
}
