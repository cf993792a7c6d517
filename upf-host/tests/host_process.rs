//! The whole data plane behind a P4 target: what the target punts is in a capture file, what it is given back goes into
//! another. One test, since DPDK starts once in a process.

mod support;

use ipc::ControllerEnd;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;
use upf_host::host::Host;
use upf_model::PuntReason;
use upf_model::batch::{Event, FromHost, HostCounters, Neighbour, ToHost};

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("upf-host-{}-{name}", std::process::id()))
}

fn arp(operation: u8, from: ([u8; 6], [u8; 4]), to: [u8; 4]) -> Vec<u8> {
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    [&[0xff; 6], &from.0[..], &fixed, &from.0, &from.1, &[0; 6], &to].concat()
}

/// The next message that is what `wanted` looks for.
fn receive<T>(controller: &mut ControllerEnd, wanted: impl Fn(FromHost) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "upf-host does not say what is expected");
        match controller.try_receive().unwrap().map(&wanted) {
            Some(Some(found)) => return found,
            Some(None) => {}
            None => {
                controller.wait(Duration::from_millis(100));
            }
        }
    }
}

fn counters(controller: &mut ControllerEnd) -> HostCounters {
    controller.send(&ToHost::QueryCounters { seq: 1 }).unwrap();
    receive(controller, |message| match message {
        FromHost::Counters { counters, .. } => Some(counters),
        _ => None,
    })
}

fn count(of: &[(String, upf_model::batch::Count)], name: &str) -> u64 {
    of.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| count.packets)
}

/// Stops the host when its controller is through, or has panicked.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    let mut writer = PcapWriter::new(File::create(&rx_pcap).unwrap()).unwrap();
    for frame in &punts {
        let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);

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
        let deadline = Instant::now() + Duration::from_secs(10);
        let counted = loop {
            let counted = counters(&mut controller);
            if counted.ports[0].tx.packets == 2 || Instant::now() > deadline {
                break counted;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
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
    let mut reader = PcapReader::new(File::open(&tx_pcap).unwrap()).unwrap();
    let mut written = Vec::new();
    while let Some(packet) = reader.next_packet() {
        written.push(packet.unwrap().data.into_owned());
    }
    assert_eq!(written, expected, "the same as with packets in plain memory");
    for path in [rx_pcap, tx_pcap] {
        std::fs::remove_file(path).unwrap();
    }
}
