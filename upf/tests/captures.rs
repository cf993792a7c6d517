//! The same pipeline on capture files: ports that read a pcap and write one, no interface and no gNB.

mod scene;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nix::sys::signal::Signal;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use scene::{Scene, dl_teid, eventually, options, ue_v4, uplink_gpdu};
use smf_sim::rules::FTeid;
use smf_sim::{SessionSpec, UeIps};
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use upf::lab::{DN, Daemon, GNB, Target, UPF_N3};

/// This program's labs.
const NAME: &str = "t-pcap";
/// The hardware addresses that DPDK gives to its first and second pcap port.
const UPF_MACS: [[u8; 6]; 2] = [[0x02, 0x70, 0x63, 0x61, 0x70, 0], [0x02, 0x70, 0x63, 0x61, 0x70, 1]];
const GNB_MAC: [u8; 6] = [2, 0, 0, 0, 3, 2];
const DN_MAC: [u8; 6] = [2, 0, 0, 0, 6, 2];
/// The SMF chooses the tunnel: the capture is made before the session.
const TEID: u32 = 0x4242;

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(File::create(path).unwrap(), header).unwrap();
    for frame in frames {
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, frame))
            .unwrap();
    }
}

/// The whole frames of a capture; one that is being written may end in the middle of one.
fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let Some(mut reader) = File::open(path).ok().and_then(|file| PcapReader::new(file).ok()) else {
        return Vec::new();
    };
    std::iter::from_fn(|| reader.next_packet()?.ok().map(|p| p.data.into_owned())).collect()
}

/// An uplink packet on N3.
fn uplink_frame(payload: &[u8]) -> Vec<u8> {
    let message = uplink_gpdu(TEID, ue_v4(1), payload);
    let builder = PacketBuilder::ethernet2(GNB_MAC, UPF_MACS[0])
        .ipv4(GNB.octets(), UPF_N3.octets(), 64)
        .udp(2152, 2152);
    let mut frame = Vec::new();
    builder.write(&mut frame, &message).unwrap();
    frame
}

/// An ARP reply of the data network's server, so that its hardware address is known.
fn arp_reply() -> Vec<u8> {
    let mut frame = [&UPF_MACS[1][..], &DN_MAC, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]].concat();
    frame.extend(DN_MAC);
    frame.extend(DN.octets());
    frame.extend(UPF_MACS[1]);
    frame.extend([10, 6, 0, 1]);
    frame.resize(60, 0);
    frame
}

#[test]
fn a_capture_of_uplink_packets_goes_in_and_one_of_decapsulated_packets_comes_out() {
    let mut options = options(NAME, Target::None);
    options.ues = 0;
    std::fs::create_dir_all(&options.directory).unwrap();
    let file = |name: &str| options.directory.join(name);
    let (n3_in, n3_out, n6_in, n6_out) = (
        file("n3-in.pcap"),
        file("n3-out.pcap"),
        file("n6-in.pcap"),
        file("n6-out.pcap"),
    );
    write_capture(&n3_in, &[uplink_frame(b"first"), uplink_frame(b"second")]);
    write_capture(&n6_in, &[arp_reply()]);
    // The files are read over and over: what comes before the session stands is dropped, what comes after is not. The
    // session's rate keeps the output small.
    let device = |number: usize, rx: &Path, tx: &Path| {
        format!(
            "net_pcap{number},rx_pcap={},tx_pcap={},infinite_rx=1",
            rx.display(),
            tx.display()
        )
    };
    options.devices = [device(0, &n3_in, &n3_out), device(1, &n6_in, &n6_out)];
    let Some(mut scene) = Scene::open_with(&options) else {
        return;
    };
    let spec = SessionSpec::basic(UeIps::v4(ue_v4(1)), GNB.into(), dl_teid(1))
        .with_fteid(FTeid::given(TEID, IpAddr::V4(UPF_N3)))
        .with_mbr(1_000, 1_000);
    scene.establish(spec);
    eventually("decapsulated packets", || udp_payloads(&n6_out).len() >= 4);
    assert!(scene.drops("unknown_teid") > 0, "those before the session stood");
    scene.lab.daemons.kill(Daemon::Ctl);
    scene
        .lab
        .signal(scene.lab.daemons.pid(Daemon::Host).unwrap(), Signal::SIGTERM);

    let payloads = udp_payloads(&n6_out);
    assert!(payloads.iter().any(|p| p == b"first") && payloads.iter().any(|p| p == b"second"));
    assert!(payloads.iter().all(|p| p == b"first" || p == b"second"));
}

/// What UDP carries in the frames of a capture, which must be a UE's, towards the data network, one hop older.
fn udp_payloads(path: &Path) -> Vec<Vec<u8>> {
    let frames = read_capture(path);
    let payload = |frame: &Vec<u8>| {
        assert_eq!((&frame[..6], &frame[6..12]), (&DN_MAC[..], &UPF_MACS[1][..]));
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
            panic!("{sliced:?}")
        };
        let header = ip.header();
        assert_eq!(
            (header.source_addr(), header.destination_addr(), header.ttl()),
            (ue_v4(1), DN, 63)
        );
        assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else {
            panic!("{sliced:?}")
        };
        let sum = udp
            .to_header()
            .calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload());
        assert_eq!(Ok(udp.checksum()), sum);
        udp.payload().to_vec()
    };
    // ARP requests for the server are none of the user's.
    frames
        .iter()
        .filter(|f| f[12..14] == [0x08, 0x00])
        .map(payload)
        .collect()
}
