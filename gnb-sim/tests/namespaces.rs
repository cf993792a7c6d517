//! The gNB with real TUN devices in network namespaces of the tests' own, against a fake UPF on loopback.
//!
//! Needs root; elsewhere each test prints that it is skipped. Namespaces have unique names and are removed when
//! the test ends, also by a panic.

use gnb_sim::{AirDelay, Gnb, GnbConfig, GnbReport, NewTunnel, UeConfig};
use gtpu::{DownlinkInformation, GpduTemplate, Header, Message, MessageType, PduSessionContainer, TimeStamp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A namespace that is gone when the value is.
struct Netns(String);

impl Netns {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gnbsim-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        assert!(
            ip(&["netns", "add", &name]).status.success(),
            "cannot add network namespace {name}"
        );
        Self(name)
    }

    fn run(&self, command: &[&str]) -> std::process::Output {
        ip(&[&["netns", "exec", &self.0], command].concat())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> std::process::Output {
    Command::new("ip")
        .args(arguments)
        .output()
        .expect("the `ip` command runs (package iproute2)")
}

/// Whether this test can run; says so if it cannot.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: it makes network namespaces and TUN devices, which needs root");
    }
    root
}

/// A UPF that sends every packet back where it came from: source and destination swapped, ICMP echo requests turned
/// into replies, in a downlink tunnel to the gNB that the test chose last.
struct Reflector {
    addr: SocketAddr,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Seen>>,
}

#[derive(Default)]
struct Seen {
    uplink_teids: Vec<u32>,
    uplink_qfis: Vec<u8>,
    error_indications: Vec<u32>,
}

impl Reflector {
    fn start(dl_teid: u32, dl_qfi: u8) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let addr = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (socket, stop) = (Arc::clone(&socket), Arc::clone(&stop));
            move || reflect(&socket, &stop, dl_teid, dl_qfi)
        });
        Self {
            addr,
            socket,
            stop,
            thread: Some(thread),
        }
    }

    fn send(&self, datagram: &[u8], gnb: &Gnb) {
        self.socket.send_to(datagram, gnb.local_addr()).unwrap();
    }

    fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn reflect(socket: &UdpSocket, stop: &AtomicBool, dl_teid: u32, dl_qfi: u8) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = [0; 9000];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let header = Header::parse(&buffer[..len]).expect("the gNB sends well-formed GTP-U");
        match Message::from_header(&header).unwrap() {
            Message::GPdu => {}
            Message::ErrorIndication(indication) => {
                seen.error_indications.push(indication.teid);
                continue;
            }
            _ => continue,
        }
        seen.uplink_teids.push(header.teid());
        match header.pdu_session_container().unwrap() {
            Some(PduSessionContainer::Uplink(information)) => seen.uplink_qfis.push(information.qfi),
            other => panic!("expected an uplink PDU Session Container, found {other:?}"),
        }
        let mut packet = header.payload().to_vec();
        swap_ends(&mut packet);
        socket.send_to(&g_pdu(dl_teid, dl_qfi, &packet), from).unwrap();
    }
    seen
}

fn g_pdu(teid: u32, qfi: u8, packet: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 20 + packet.len()];
    let head = GpduTemplate::downlink(teid, qfi, false, None)
        .write(&mut datagram, packet.len())
        .unwrap();
    datagram.truncate(head);
    datagram.extend(packet);
    datagram
}

/// Echo request to echo reply, by incremental checksum (RFC 1624); addresses swapped, which changes no checksum.
fn swap_ends(packet: &mut [u8]) {
    let (source, destination, length, icmp, request, reply) = match packet[0] >> 4 {
        4 => (12, 16, 4, 20, 8, 0),
        _ => (8, 24, 16, 40, 128, 129),
    };
    for i in 0..length {
        packet.swap(source + i, destination + i);
    }
    if packet[icmp] == request {
        let old = u16::from_be_bytes([packet[icmp], packet[icmp + 1]]);
        packet[icmp] = reply;
        let new = u16::from_be_bytes([packet[icmp], packet[icmp + 1]]);
        let checksum = u16::from_be_bytes([packet[icmp + 2], packet[icmp + 3]]);
        let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        packet[icmp + 2..icmp + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

fn gnb(upf: &Reflector, ues: Vec<UeConfig>) -> Gnb {
    let mut config = GnbConfig::new((Ipv4Addr::LOCALHOST, 0).into(), upf.addr);
    config.ues = ues;
    Gnb::start(config).unwrap()
}

/// Waits until the report is as wanted; the last report.
fn eventually(gnb: &Gnb, wanted: impl Fn(&GnbReport) -> bool) -> GnbReport {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let report = gnb.counters();
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "it did not come true: {}", report.to_json());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn assert_ping(netns: &Netns, destination: &str) {
    let output = netns.run(&["ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", destination]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("3 received"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_ue_in_its_namespace_pings_through_the_tunnel_in_both_families() {
    if !is_root("ping through the tunnel") {
        return;
    }
    let netns = Netns::new();
    let upf = Reflector::start(0x11, 9);
    let addresses: [IpAddr; 2] = ["10.60.0.1".parse().unwrap(), "2001:db8:60::1".parse().unwrap()];
    let gnb = gnb(&upf, vec![UeConfig::in_netns(&netns.0, &addresses, 0x101, 0x11, 7)]);
    assert_ping(&netns, "198.51.100.1");
    assert_ping(&netns, "2001:db8:ffff::1");
    let report = gnb.stop();
    let ue = report.ue(&netns.0).unwrap();
    assert_eq!(ue.uplink.packets, 6);
    assert_eq!((ue.downlink.packets, ue.downlink.write_errors), (6, 0));
    assert_eq!(ue.uplink.bytes, ue.downlink.bytes);
    assert_eq!(
        ue.downlink.qfis.iter().map(|q| (q.qfi, q.packets)).collect::<Vec<_>>(),
        [(9, 6)]
    );
    let seen = upf.stop();
    assert_eq!(seen.uplink_teids, [0x101; 6]);
    assert_eq!(seen.uplink_qfis, [7; 6]);
    assert!(report.to_json().contains("\"packets_after_end_marker\": 0"));
}

#[test]
fn handover_moves_the_ue_and_the_old_tunnel_counts_its_end_marker() {
    if !is_root("handover") {
        return;
    }
    let netns = Netns::new();
    let (old_upf, new_upf) = (Reflector::start(0x21, 5), Reflector::start(0x31, 5));
    let ue = UeConfig::in_netns(&netns.0, &["10.60.0.2".parse().unwrap()], 0x201, 0x21, 5);
    let source = gnb(&old_upf, vec![ue]);
    let target = gnb(&new_upf, Vec::new());
    assert_ping(&netns, "198.51.100.1");
    let tunnel = NewTunnel {
        teid_dl: 0x31,
        teid_ul: Some(0x301),
        upf: Some(new_upf.addr),
    };
    source.move_ue(&netns.0, &target, tunnel).unwrap();
    assert_ping(&netns, "198.51.100.1");
    let mut end_marker = [0; 8];
    gtpu::write_end_marker(&mut end_marker, 0x21).unwrap();
    old_upf.send(&end_marker, &source);
    let report = eventually(&source, |r| r.tunnels[0].downlink.end_markers == 1);
    assert!(!report.tunnels[0].serving);
    assert_eq!(report.tunnels[0].downlink.end_markers_seen[0].after_packets, 3);
    assert_eq!(report.tunnels[0].downlink.packets_after_end_marker, 0);
    assert_eq!(target.counters().ue(&netns.0).unwrap().downlink.packets, 3);
    assert_eq!(old_upf.stop().uplink_teids, [0x201; 3]);
    assert_eq!(new_upf.stop().uplink_teids, [0x301; 3]);
}

#[test]
fn data_after_an_end_marker_is_told_apart() {
    if !is_root("data after an End Marker") {
        return;
    }
    let netns = Netns::new();
    let upf = Reflector::start(0x41, 1);
    let gnb = gnb(
        &upf,
        vec![UeConfig::in_netns(
            &netns.0,
            &["10.60.0.3".parse().unwrap()],
            1,
            0x41,
            1,
        )],
    );
    let mut end_marker = [0; 8];
    gtpu::write_end_marker(&mut end_marker, 0x41).unwrap();
    let packet = g_pdu(
        0x41,
        1,
        &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 198, 51, 100, 1, 10, 60, 0, 3],
    );
    for datagram in [&packet[..], &packet, &end_marker, &packet] {
        upf.send(datagram, &gnb);
    }
    let report = eventually(&gnb, |r| r.tunnels[0].downlink.packets == 3);
    assert_eq!(report.tunnels[0].downlink.end_markers_seen[0].after_packets, 2);
    assert_eq!(report.tunnels[0].downlink.packets_after_end_marker, 1);
}

#[test]
fn two_ues_of_one_gnb_are_told_apart_by_teid() {
    if !is_root("two UEs") {
        return;
    }
    let (one, two) = (Netns::new(), Netns::new());
    let (upf_one, upf_two) = (Reflector::start(0x51, 1), Reflector::start(0x52, 2));
    let mut ue_two = UeConfig::in_netns(&two.0, &["10.60.0.5".parse().unwrap()], 0x502, 0x52, 2);
    ue_two.upf = Some(upf_two.addr);
    let ue_one = UeConfig::in_netns(&one.0, &["10.60.0.4".parse().unwrap()], 0x501, 0x51, 1);
    let gnb = gnb(&upf_one, vec![ue_one, ue_two]);
    assert_ping(&one, "198.51.100.1");
    assert_ping(&two, "198.51.100.1");
    let removed = gnb.remove_ue(&one.0).unwrap();
    assert_eq!((removed.uplink.packets, removed.downlink.packets), (3, 3));
    let report = gnb.counters();
    assert!(report.ue(&one.0).is_none());
    assert_eq!(report.ue(&two.0).unwrap().downlink.qfis[0].qfi, 2);
    let links = one.run(&["ip", "-o", "link"]);
    assert!(
        !String::from_utf8_lossy(&links.stdout).contains("tun0"),
        "the device left with its UE"
    );
}

#[test]
fn monitoring_is_answered_by_the_ues_next_packet_or_by_one_without_content() {
    if !is_root("QoS monitoring") {
        return;
    }
    let netns = Netns::new();
    let upf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    upf.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut config = GnbConfig::new((Ipv4Addr::LOCALHOST, 0).into(), upf.local_addr().unwrap());
    let mut ue = UeConfig::in_netns(&netns.0, &["10.60.0.6".parse().unwrap()], 0x601, 0x61, 5);
    ue.air = Some(AirDelay {
        downlink_ms: 4,
        uplink_ms: 9,
    });
    config.ues.push(ue);
    let gnb = Gnb::start(config).unwrap();
    let ask = |qfi, sending_time| {
        let information = DownlinkInformation {
            qfi,
            sending_time: Some(sending_time),
            ..DownlinkInformation::default()
        };
        let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 198, 51, 100, 1, 10, 60, 0, 6];
        let mut datagram = [0; 64];
        let container = PduSessionContainer::Downlink(information);
        let head = gtpu::write_gpdu_header(&mut datagram, 0x61, packet.len(), Some(&container)).unwrap();
        datagram[head..head + packet.len()].copy_from_slice(&packet);
        upf.send_to(&datagram[..head + packet.len()], gnb.local_addr()).unwrap();
    };
    // The next uplink packet: what it answers, and how much of the UE's is in it.
    let answer = || {
        let mut buffer = [0; 2_048];
        let (len, _) = upf.recv_from(&mut buffer).unwrap();
        let header = Header::parse(&buffer[..len]).unwrap();
        assert_eq!(header.teid(), 0x601);
        match header.pdu_session_container() {
            Ok(Some(PduSessionContainer::Uplink(information))) => (information, header.payload().len()),
            other => panic!("{other:?}"),
        }
    };
    let ping = || netns.run(&["ping", "-n", "-c", "1", "-W", "0.1", "198.51.100.1"]);
    let asked = |questions| eventually(&gnb, |r| r.tunnels[0].monitoring.questions == questions);

    ask(5, 0x1234);
    asked(1);
    ping();
    let (information, len) = answer();
    let stamps = information.time_stamps.unwrap();
    assert_eq!((information.qfi, len, stamps.downlink_sent), (5, 84, 0x1234));
    assert_eq!(
        (information.downlink_delay, information.uplink_delay),
        (Some(4), Some(9))
    );
    let held = TimeStamp(stamps.uplink_sent).ns_since(TimeStamp(stamps.downlink_received));
    assert!((0..5_000_000_000).contains(&held));
    ping();
    assert_eq!(answer().0.time_stamps, None, "answered once");

    ask(5, 0x11);
    asked(2);
    ask(5, 0x22);
    let (information, len) = answer();
    assert_eq!((information.time_stamps.unwrap().downlink_sent, len), (0x11, 0));
    ask(7, 0x33);
    let (information, len) = answer();
    assert_eq!(
        (information.qfi, information.time_stamps.unwrap().downlink_sent, len),
        (7, 0x33, 0)
    );
    let report = gnb.stop().tunnels[0].monitoring;
    assert_eq!((report.questions, report.answers, report.empty_answers), (4, 1, 2));
}

/// Needs no namespace and no root: no UE is served.
#[test]
fn signalling_is_answered_without_any_ue() {
    let upf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    upf.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let config = GnbConfig::new((Ipv4Addr::LOCALHOST, 0).into(), upf.local_addr().unwrap());
    let gnb = Gnb::start(config).unwrap();
    let mut buffer = [0; 64];
    let mut exchange = |datagram: &[u8]| {
        upf.send_to(datagram, gnb.local_addr()).unwrap();
        let (len, _) = upf.recv_from(&mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    let mut request = [0; 12];
    gtpu::write_echo_request(&mut request, 0x1234).unwrap();
    let answer = exchange(&request);
    let header = Header::parse(&answer).unwrap();
    assert_eq!(
        (header.message_type(), header.sequence_number()),
        (MessageType::ECHO_RESPONSE, Some(0x1234))
    );

    let answer = exchange(&g_pdu(0xdead, 1, &[0x45; 20]));
    let Message::ErrorIndication(indication) = Message::from_header(&Header::parse(&answer).unwrap()).unwrap() else {
        panic!("expected an Error Indication, found {answer:x?}");
    };
    assert_eq!(
        (indication.teid, indication.peer),
        (0xdead, IpAddr::V4(Ipv4Addr::LOCALHOST))
    );

    upf.send_to(&answer, gnb.local_addr()).unwrap();
    upf.send_to(b"not GTP-U", gnb.local_addr()).unwrap();
    gnb.send_echo_request(7).unwrap();
    let (len, _) = upf.recv_from(&mut buffer).unwrap();
    assert_eq!(
        Header::parse(&buffer[..len]).unwrap().message_type(),
        MessageType::ECHO_REQUEST
    );
    let report = eventually(&gnb, |r| r.error_indications == 1 && r.malformed == 1);
    assert_eq!((report.echo_answered, report.unknown_teid), (1, 1));
    assert_eq!(report.last_error_indications[0].teid, 0xdead);
}

#[test]
fn a_namespace_that_does_not_exist_is_named_in_the_error() {
    let mut config = GnbConfig::new((Ipv4Addr::LOCALHOST, 0).into(), (Ipv4Addr::LOCALHOST, 2152).into());
    config.netns = Some("no-such-namespace".into());
    let Err(error) = Gnb::start(config) else {
        panic!("it started in a namespace that does not exist")
    };
    assert!(error.to_string().contains("no-such-namespace"), "{error}");
}
