//! The whole data plane with a port slower than what comes: real packet buffers wait, leave or are dropped, and all are
//! counted. One test, since DPDK starts once in a process.

mod support;

use ipc::ControllerEnd;
use std::sync::atomic::AtomicBool;
use support::process::{StopAtEnd, counters_when, file, read_capture, write_capture};
use support::*;
use upf_host::host::Host;
use upf_model::batch::{HostCounters, ToHost};

const PINGS: u16 = 500;
const WAITING: usize = 64;

fn ping(sequence: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(DN_MAC, UPF_MAC[1])
        .ipv4(DN.octets(), [10, 6, 0, 1], 64)
        .icmpv4_echo_request(1, sequence)
        .write(&mut frame, &[7; 900])
        .unwrap();
    frame
}

fn dropped(counted: &HostCounters) -> u64 {
    let full = counted.drops.iter().find(|(reason, _)| reason == "queue_full");
    full.map_or(0, |(_, count)| count.packets)
}

#[test]
fn of_what_a_slow_port_is_sent_all_leaves_in_order_or_is_counted_as_dropped() {
    let (rx_pcap, tx_pcap) = (file("pings.pcap"), file("answers.pcap"));
    write_capture(&rx_pcap, &(0..PINGS).map(ping).collect::<Vec<_>>());
    let name = format!("egress-process-{}", std::process::id());
    let config = format!(
        "
name: {name}
pfcp: {{ listen: '127.0.0.1:8805' }}
host: {{ mempool_packets: 2047, buffering: {{ packets_per_session: 4, packets_total: 6 }} }}
ports:
  - name: n6
    device: 'net_pcap0,rx_pcap={},tx_pcap={}'
    mac: '02:00:00:00:00:06'
    addresses: [10.6.0.1/24]
    network_instance: internet
    interfaces: [core]
    egress: {{ rate_mbps: 5, queue_packets: {WAITING}, queue_ms: 1000 }}
network_instances: [{{ name: internet }}]
",
        rx_pcap.display(),
        tx_pcap.display()
    );
    let config = upf_config::parse(&config, "test").unwrap_or_else(|error| panic!("{error}"));
    let mut host = Host::start(&config).unwrap_or_else(|error| panic!("{error}"));
    let stop = AtomicBool::new(false);
    let counted = std::thread::scope(|scope| {
        scope.spawn(|| host.serve(&stop));
        let _stop = StopAtEnd(&stop);
        let mut controller = ControllerEnd::open(&name).unwrap();
        controller.send(&ToHost::Hello { controller: 1 }).unwrap();
        let counted = counters_when(&mut controller, |counted| {
            counted.ports[0].tx.packets + dropped(counted) == u64::from(PINGS)
        });
        let _ = std::fs::remove_file(controller.path());
        counted
    });
    drop(host);

    let queue = counted.ports[0].queues[0];
    assert_eq!(queue.sent.packets + queue.dropped.packets, u64::from(PINGS));
    assert_eq!(queue.dropped.packets, dropped(&counted));
    assert!(
        queue.sent.packets >= WAITING as u64 && queue.dropped.packets > 0,
        "{queue:?}"
    );
    assert!(queue.longest_backlog_bytes > 0);
    let left: Vec<u16> = read_capture(&tx_pcap)
        .iter()
        .map(|frame| u16::from_be_bytes([frame[40], frame[41]]))
        .collect();
    assert_eq!(left.len() as u64, queue.sent.packets);
    assert!(left.is_sorted(), "{left:?}");
    for path in [rx_pcap, tx_pcap] {
        std::fs::remove_file(path).unwrap();
    }
}
