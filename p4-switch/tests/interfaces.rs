//! Ports on network interfaces and capture files.

mod program;

use std::process::Command;
use std::sync::atomic::AtomicBool;

use p4_switch::ports::capture::CapturePort;
use p4_switch::ports::interface::Interface;
use p4_switch::ports::{Port, Ports};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use program::load;

/// A packet of the test program `externs` that leaves through port `index`.
fn packet(index: u8) -> Vec<u8> {
    let mut bytes = vec![15, index];
    bytes.resize(60, 0);
    bytes
}

#[test]
fn capture_files_are_read_to_their_end_and_what_leaves_is_written() {
    let directory = std::env::temp_dir().join(format!("p4-switch-capture-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let name = |port: u32| directory.join(format!("pcap{port}")).to_string_lossy().into_owned();
    let file = std::fs::File::create(format!("{}_in.pcap", name(0))).unwrap();
    let mut writer = PcapWriter::new(file).unwrap();
    for index in 0..100 {
        let bytes = packet(1 + index % 2);
        writer.write_packet(&PcapPacket::new(Default::default(), bytes.len() as u32, &bytes)).unwrap();
    }
    drop(writer);
    let loaded = load("externs");
    let mut ports = Ports::new();
    for number in 0..2 {
        ports.add(number, Box::new(CapturePort::open(&name(number)).unwrap()));
    }
    ports.run(&loaded.switch, &AtomicBool::new(false)).unwrap();
    let counters = ports.counters();
    assert_eq!((counters[0].1.received, counters[1].1.sent, ports.unknown()), (100, 50, 50));
    drop(ports);
    let mut reader = PcapReader::new(std::fs::File::open(format!("{}_out.pcap", name(1))).unwrap()).unwrap();
    let mut count = 0;
    while let Some(written) = reader.next_packet() {
        assert_eq!(written.unwrap().data[..2], [15, 1]);
        count += 1;
    }
    assert_eq!(count, 50);
    std::fs::remove_dir_all(directory).unwrap();
}

/// `unshare -n cargo test -p p4-switch --test interfaces -- --ignored`
#[test]
#[ignore = "needs root in a network namespace of its own"]
fn frames_pass_between_interfaces_with_their_vlan_tags() {
    let ip = |arguments: &str| {
        let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    };
    for pair in ["a", "b"] {
        ip(&format!("link add in{pair} type veth peer name out{pair}"));
        ip(&format!("link set in{pair} up"));
        ip(&format!("link set out{pair} up"));
    }
    let loaded = load("externs");
    let mut ports = Ports::new();
    ports.add(1, Box::new(Interface::open("ina").unwrap()));
    ports.add(2, Box::new(Interface::open("inb").unwrap()));
    let (mut left, mut right) = (Interface::open("outa").unwrap(), Interface::open("outb").unwrap());
    // A frame whose source address and tag make it one with a VLAN; the program reads the first bytes only.
    let mut tagged = packet(2);
    tagged[12..16].copy_from_slice(&[0x81, 0, 0x20, 7]);
    assert_eq!(left.send(&[&packet(2), &tagged]).unwrap(), 2);
    let mut got: Vec<Vec<u8>> = Vec::new();
    for _ in 0..1000 {
        ports.turn(&loaded.switch).unwrap();
        right.receive(&mut |frame| got.push(frame.to_vec())).unwrap();
        got.retain(|frame| frame[0] == 15);
        if got.len() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(got.iter().map(|f| (f[1], f.len())).collect::<Vec<_>>(), [(2, 60), (2, 60)]);
    assert_eq!(got[1][12..16], [0x81, 0, 0x20, 7]);
}
