//! The whole data plane behind a P4 target: what the target punts is in a capture file, what it is given back goes into
//! another. One test, since DPDK starts once in a process.

mod support;

use ipc::ControllerEnd;
use std::sync::atomic::AtomicBool;
use support::process::{StopAtEnd, counters_when, file, read_capture, receive, write_capture};
use support::*;
use upf_host::host::Host;
use upf_model::PuntReason;
use upf_model::batch::{Event, FromHost, Neighbour, ToHost};

fn arp(operation: u8, from: ([u8; 6], [u8; 4]), to: [u8; 4]) -> Vec<u8> {
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    [&[0xff; 6], &from.0[..], &fixed, &from.0, &from.1, &[0; 6], &to].concat()
}

fn count(of: &[(String, upf_model::batch::Count)], name: &str) -> u64 {
    of.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| count.packets)
}

#[test]
fn punted_frames_go_in_and_reinjected_ones_come_out_of_the_host_device() {
    let mut echo = [0; 32];
    let n = gtpu::signalling::write_echo_request(&mut echo, 0x4711).unwrap();
    let punts = [
        punted(
            PuntReason::Local,
            N3,
            None,
            &arp(1, (GNB_MAC, GNB.octets()), UPF_N3.octets()),
        ),
        punted(
            PuntReason::Local,
            N6,
            None,
            &arp(2, (DN_MAC, DN.octets()), [10, 6, 0, 1]),
        ),
        punted(PuntReason::Gtpu, N3, None, &gtpu_frame(&echo[..n])),
        gtpu_frame(&echo[..n]),
    ];
    let (rx_pcap, tx_pcap) = (file("punted.pcap"), file("reinjected.pcap"));
    write_capture(&rx_pcap, &punts);

    let device = format!(
        "host_device: 'net_pcap0,rx_pcap={},tx_pcap={}'",
        rx_pcap.display(),
        tx_pcap.display()
    );
    let name = format!("host-process-{}", std::process::id());
    let config = config_behind_p4()
        .replace("host_device: net_null0", &device)
        .replace("name: in-memory", &format!("name: {name}"))
        .replace(", { prefix: '::/0', via: 'fd06::2' }", "") // it would be asked for
        .replace("packets_total: 6 }", "packets_total: 6 }, mempool_packets: 2048");
    let config = upf_config::parse(&config, "test").unwrap();
    let mut host = Host::start(&config).unwrap_or_else(|error| panic!("{error}"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| host.serve(&stop));
        let _stop = StopAtEnd(&stop);
        let mut controller = ControllerEnd::open(&name).unwrap();
        controller.send(&ToHost::Hello { controller: 1 }).unwrap();
        let counted = counters_when(&mut controller, |counted| counted.ports[0].tx.packets == 2);
        assert_eq!(counted.ports.len(), 1);
        assert_eq!(counted.ports[0].name, "host");
        assert_eq!((counted.ports[0].rx.packets, counted.ports[0].tx.packets), (4, 2));
        assert_eq!(count(&counted.punts, "local"), 2);
        assert_eq!(count(&counted.punts, "gtpu"), 1);
        assert_eq!(count(&counted.drops, "not_punted"), 1);

        controller.send(&ToHost::QueryNeighbours).unwrap();
        let neighbour = receive(&mut controller, |message| match message {
            FromHost::Event(Event::Neighbour(neighbour)) => Some(neighbour),
            _ => None,
        });
        let expected = Neighbour {
            port: N6.into(),
            addr: DN.into(),
            mac: DN_MAC,
        };
        assert_eq!(neighbour, expected, "a router that had told its address");
        let _ = std::fs::remove_file(controller.path());
    });
    drop(host);

    let mut in_memory = Upf::behind_p4();
    let expected: Vec<Vec<u8>> = punts
        .chunks(1)
        .flat_map(|frame| in_memory.receive_at_host(frame))
        .map(|(_, frame)| frame)
        .collect();
    assert_eq!(
        read_capture(&tx_pcap),
        expected,
        "the same as with packets in plain memory"
    );
    for path in [rx_pcap, tx_pcap] {
        std::fs::remove_file(path).unwrap();
    }
}
