//! The DPDK wrappers on virtual devices. A process has one environment: these tests share it, and open devices of
//! different names.

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, unshare};
use nix::unistd::Pid;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use upf_host::dpdk::device::DeviceError;
use upf_host::dpdk::{
    Checksum, Eal, EalConfig, EalError, Interrupts, LcoreError, Mbuf, Mempool, MempoolError, Port, PortConfig,
    PortError, Queues, TxChecksums, spawn_worker, tsc, tsc_hz,
};
use upf_host::packet::Packet;

const ROOM: u16 = 2048;

fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let name = format!("wrappers-{}", std::process::id());
        Eal::init(&EalConfig {
            name,
            memory_mb: 256,
            ..EalConfig::default()
        })
        .unwrap()
    })
}

fn pool(packets: u32) -> Mempool {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("pool{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Mempool::new(eal(), &name, packets, 0, ROOM).unwrap()
}

fn open(device: &str, pool: &Mempool) -> (Port, Queues) {
    Port::open(&PortConfig::new(device), pool).unwrap_or_else(|error| panic!("{error}"))
}

fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.allocate().unwrap();
    packet.append(bytes.len()).unwrap().copy_from_slice(bytes);
    packet
}

/// An Ethernet frame for local experiments (EtherType 0x88b5) whose payload tells `number`.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("upf-host-{}-{name}", std::process::id()))
}

/// Send `frames` from one port until all of them came out of the other, in order.
fn assert_carried(frames: &[Vec<u8>], pool: &Mempool, from: &mut Queues, to: &mut Queues) {
    let ours = |packet: &Mbuf| packet.bytes()[12..14] == [0x88, 0xb5];
    let mut outgoing: ArrayVec<Mbuf, 64> = frames.iter().map(|bytes| packet(pool, bytes)).collect();
    let (mut arrived, mut incoming) = (Vec::new(), ArrayVec::<Mbuf, 64>::new());
    let deadline = Instant::now() + Duration::from_secs(5);
    while arrived.len() < frames.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} arrived",
            arrived.len(),
            frames.len()
        );
        from.tx[0].burst(&mut outgoing);
        to.rx[0].burst(&mut incoming);
        arrived.extend(incoming.drain(..).filter(ours).map(|packet| packet.bytes().to_vec()));
    }
    assert_eq!(arrived, frames);
}

/// Run in a thread that has a network namespace to itself, if this user may make one.
fn in_own_namespace(test: impl FnOnce() + Send + 'static) {
    let inside = thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(reason) => eprintln!("skipped, needs root: {reason}"),
    });
    inside.join().unwrap();
}

fn allowed_cpu() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap()).unwrap()
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("ip of iproute2");
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn a_second_environment_is_refused() {
    let _first = eal();
    assert_eq!(
        Eal::init(&EalConfig::default()).unwrap_err(),
        EalError::AlreadyInitialised
    );
}

#[test]
fn a_new_packet_is_empty_with_headroom_and_all_of_the_room_behind() {
    let pool = pool(63);
    let mut packet = pool.allocate().unwrap();
    assert_eq!(packet.bytes(), b"");
    assert_eq!(packet.append(usize::from(ROOM)).unwrap().len(), usize::from(ROOM));
    assert!(packet.append(1).is_none(), "no tailroom is left");
    assert_eq!(packet.prepend(128).unwrap().len(), 128);
    assert!(packet.prepend(1).is_none(), "no headroom is left");
    assert_eq!(packet.bytes().len(), 128 + usize::from(ROOM));
    assert!(packet.prepend(usize::MAX).is_none() && packet.append(usize::MAX).is_none());
}

#[test]
fn bytes_stay_in_place_when_headers_come_and_go() {
    let pool = pool(63);
    let mut packet = packet(&pool, b"ethernet ip payload");
    packet.advance(9);
    assert_eq!(packet.bytes(), b"ip payload");
    packet.prepend(4).unwrap().copy_from_slice(b"gtp ");
    assert_eq!(packet.bytes(), b"gtp ip payload");
    packet.truncate(6);
    assert_eq!(packet.bytes(), b"gtp ip");
    packet.truncate(100);
    packet.append(2).unwrap().copy_from_slice(b"v6");
    assert_eq!(packet.bytes(), b"gtp ipv6");
    packet.bytes_mut()[0] = b'G';
    let copy = packet.copy(&pool).unwrap();
    packet.advance(8);
    assert_eq!((packet.bytes(), copy.bytes()), (&b""[..], &b"Gtp ipv6"[..]));
}

#[test]
#[should_panic(expected = "advance by 2 in a packet of 1 bytes")]
fn advancing_beyond_the_end_is_a_bug_of_the_caller() {
    packet(&pool(63), b"x").advance(2);
}

#[test]
fn checksum_requests_change_no_byte_and_can_be_taken_back() {
    let pool = pool(63);
    let mut packet = packet(&pool, &frame(1, 60));
    assert_eq!(
        (packet.ip_checksum(), packet.l4_checksum()),
        (Checksum::Unknown, Checksum::Unknown)
    );
    for which in [TxChecksums::Ipv4, TxChecksums::Ipv4Udp, TxChecksums::Ipv6Udp] {
        packet.request_checksums(which, 14, 20);
    }
    assert!(packet.request_udp_checksum(14, 40));
    assert!(!packet.request_udp_checksum(256, 40), "no such Ethernet header");
    packet.request_no_checksums();
    assert_eq!(packet.bytes(), frame(1, 60));
}

#[test]
fn an_exhausted_pool_gives_nothing_and_recovers() {
    let pool = pool(255);
    let all: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!((all.len(), pool.free_count()), (255, 0));
    assert!(pool.allocate().is_none());
    assert!(all[0].copy(&pool).is_none());
    drop(all);
    assert_eq!(pool.free_count(), 255);
    assert!(pool.allocate().is_some());
}

#[test]
fn a_packet_may_be_freed_by_another_thread_and_outlive_the_handles_on_its_pool() {
    let pool = pool(63);
    let packet = packet(&pool, b"still here");
    drop(pool);
    thread::spawn(move || assert_eq!(packet.bytes(), b"still here"))
        .join()
        .unwrap();
}

#[test]
fn impossible_pools_are_refused_with_what_was_expected() {
    let new = |name, packets, cache, room| Mempool::new(eal(), name, packets, cache, room).unwrap_err();
    assert!(matches!(new("", 63, 0, ROOM), MempoolError::Name(_)));
    assert!(matches!(new("a\0b", 63, 0, ROOM), MempoolError::Name(_)));
    assert!(matches!(
        new("longer than DPDK's 25 bytes", 63, 0, ROOM),
        MempoolError::Name(_)
    ));
    assert!(matches!(new("cache", 63, 63, ROOM), MempoolError::Cache { .. }));
    assert!(matches!(new("cache", 65535, 513, ROOM), MempoolError::Cache { .. }));
    assert!(matches!(new("room", 63, 0, u16::MAX), MempoolError::Room(_)));
}

#[test]
fn net_null_gives_and_takes_bursts_without_a_leak() {
    let pool = pool(1023);
    let (port, mut queues) = open("net_null0", &pool);
    assert_eq!(
        (port.name(), port.driver(), port.mtu()),
        ("net_null0", "net_null", 1500)
    );
    let free = pool.free_count();
    let mut packets = ArrayVec::<Mbuf, 64>::new();
    for _ in 0..100 {
        assert_eq!(queues.rx[0].burst(&mut packets), 64);
        assert_eq!(queues.rx[0].burst(&mut packets), 0, "no capacity is left");
        assert_eq!(packets[63].port(), port.id());
        assert_eq!(queues.tx[0].burst(&mut packets), 64);
        assert_eq!(queues.tx[0].burst(&mut packets), 0, "nothing is left to send");
    }
    assert_eq!(pool.free_count(), free);
    let statistics = port.statistics();
    assert_eq!(
        (statistics.ipackets, statistics.opackets, statistics.imissed),
        (6400, 6400, 0)
    );
    drop((port, queues));
    assert_eq!(pool.free_count(), 1023);
}

#[test]
fn net_ring_returns_what_it_was_given_in_order() {
    let pool = pool(1023);
    let (_port, mut queues) = open("net_ring0", &pool);
    let mut packets: ArrayVec<Mbuf, 64> = (0..64).map(|number| packet(&pool, &frame(number, 100))).collect();
    assert_eq!(queues.tx[0].burst(&mut packets), 64);
    assert!(packets.is_empty());
    assert_eq!(queues.rx[0].burst(&mut packets), 64);
    for (number, packet) in (0..).zip(&packets) {
        assert_eq!(packet.bytes(), frame(number, 100));
    }
    drop(packets);
    assert_eq!(pool.free_count(), 1023);
}

#[test]
fn what_a_full_queue_does_not_take_stays_in_order() {
    let pool = pool(2047);
    let (_port, mut queues) = open("net_ring1", &pool);
    let mut unsent = ArrayVec::<Mbuf, 64>::new();
    let mut sent: u16 = 0;
    while unsent.is_empty() {
        unsent.extend((0..50).map(|i: u16| packet(&pool, &(sent + i).to_be_bytes())));
        sent += queues.tx[0].burst(&mut unsent) as u16;
        assert!(sent < 2000, "a net_ring is 1024 long");
    }
    for (number, packet) in (sent..).zip(&unsent) {
        assert_eq!(packet.bytes(), number.to_be_bytes());
    }
    // Make room, and the rest follows.
    let mut received = ArrayVec::<Mbuf, 64>::new();
    assert_eq!(queues.rx[0].burst(&mut received), 64);
    let left = unsent.len();
    assert_eq!(queues.tx[0].burst(&mut unsent), left);
    let mut received: Vec<Mbuf> = received.into_iter().collect();
    let mut burst = ArrayVec::<Mbuf, 64>::new();
    while queues.rx[0].burst(&mut burst) > 0 {
        received.extend(burst.drain(..));
    }
    let numbers = received
        .iter()
        .map(|packet| u16::from_be_bytes(packet.bytes().try_into().unwrap()));
    assert!(numbers.eq(0..sent + left as u16));
}

#[test]
fn queues_are_as_many_as_wanted_and_the_device_has() {
    let pool = pool(1023);
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 3,
        ..PortConfig::new("net_null1")
    };
    let (_port, queues) = Port::open(&config, &pool).unwrap();
    assert_eq!((queues.rx.len(), queues.tx.len()), (2, 3));

    let tx_pcap = file("queues.pcap");
    let config = PortConfig {
        device: format!("net_pcap0,tx_pcap={}", tx_pcap.display()),
        ..config
    };
    let (_port, queues) = Port::open(&config, &pool).unwrap();
    assert_eq!((queues.rx.len(), queues.tx.len()), (1, 1));
    drop(queues);
    fs::remove_file(tx_pcap).unwrap();
}

#[test]
fn a_capture_file_goes_in_and_comes_out_again() {
    let (rx_pcap, tx_pcap) = (file("in.pcap"), file("out.pcap"));
    let frames: Vec<Vec<u8>> = (0..100)
        .map(|number| frame(number, 60 + 10 * usize::from(number)))
        .collect();
    let mut writer = PcapWriter::new(File::create(&rx_pcap).unwrap()).unwrap();
    for (number, frame) in frames.iter().enumerate() {
        let time = Duration::from_millis(number as u64);
        writer
            .write_packet(&PcapPacket::new(time, frame.len() as u32, frame))
            .unwrap();
    }
    drop(writer);

    let pool = pool(1023);
    let device = format!("net_pcap1,rx_pcap={},tx_pcap={}", rx_pcap.display(), tx_pcap.display());
    let (port, mut queues) = open(&device, &pool);
    let (mut packets, mut count) = (ArrayVec::<Mbuf, 64>::new(), 0);
    while queues.rx[0].burst(&mut packets) > 0 {
        count += queues.tx[0].burst(&mut packets);
    }
    assert_eq!(count, frames.len());
    drop((port, queues));
    assert_eq!(pool.free_count(), 1023);

    let mut reader = PcapReader::new(File::open(&tx_pcap).unwrap()).unwrap();
    let mut written = Vec::new();
    while let Some(packet) = reader.next_packet() {
        written.push(packet.unwrap().data.into_owned());
    }
    assert_eq!(written, frames);
    fs::remove_file(rx_pcap).unwrap();
    fs::remove_file(tx_pcap).unwrap();
}

#[test]
fn packets_longer_than_an_mbuf_are_dropped_and_counted_and_the_next_ones_received() {
    let rx_pcap = file("jumbo.pcap");
    let mut writer = PcapWriter::new(File::create(&rx_pcap).unwrap()).unwrap();
    for frame in [frame(1, 60), frame(2, 5000), frame(3, 2048), frame(4, 2049)] {
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame))
            .unwrap();
    }
    drop(writer);
    let pool = pool(1023);
    let (_port, mut queues) = open(&format!("net_pcap2,rx_pcap={}", rx_pcap.display()), &pool);
    let mut packets = ArrayVec::<Mbuf, 64>::new();
    assert_eq!(queues.rx[0].burst(&mut packets), 2);
    assert_eq!(
        (packets[0].bytes(), packets[1].bytes()),
        (&frame(1, 60)[..], &frame(3, 2048)[..])
    );
    assert_eq!(queues.rx[0].oversized(), 2);
    drop(packets);
    assert_eq!(pool.free_count(), 1023, "all segments went back");
    fs::remove_file(rx_pcap).unwrap();
}

#[test]
fn a_closed_device_can_be_opened_again_and_an_open_one_not() {
    let pool = pool(1023);
    let first = open("net_null2", &pool);
    let error = Port::open(&PortConfig::new("net_null2"), &pool).unwrap_err();
    assert_eq!(error, PortError::AlreadyOpen("net_null2".into()));
    drop(first);
    open("net_null2", &pool);
}

#[test]
fn ports_that_cannot_work_are_refused_with_what_to_do() {
    let pool = pool(1023);
    let refused = |config: PortConfig| Port::open(&config, &pool).unwrap_err();
    let device = |device| refused(PortConfig::new(device));
    assert!(matches!(device("eth0"), PortError::Device(DeviceError::Name(_))));
    assert!(matches!(
        device("net_af_packet9,iface=nowhere0"),
        PortError::Device(DeviceError::NoInterface { .. })
    ));
    let no_driver = device("net_imaginary0");
    assert!(
        matches!(no_driver, PortError::Probe { .. }) && no_driver.to_string().contains("driver"),
        "{no_driver}"
    );
    let no_pci = device("0000:7f:1f.7");
    assert!(no_pci.to_string().contains("vfio-pci"), "{no_pci}");

    let room = refused(PortConfig {
        mtu: 9000,
        ..PortConfig::new("net_null3")
    });
    assert!(
        matches!(
            room,
            PortError::Room {
                needed: 9026,
                room: ROOM,
                ..
            }
        ),
        "{room}"
    );
    let mtu = refused(PortConfig {
        mtu: 10,
        ..PortConfig::new("net_null3")
    });
    assert!(matches!(mtu, PortError::Mtu { .. }), "{mtu}");
    open("net_null3", &pool);
}

#[test]
fn the_configured_address_is_the_ports_whether_or_not_its_device_can_change_it() {
    let pool = pool(1023);
    for device in ["net_null4", "net_ring4"] {
        let config = PortConfig {
            mac: Some([2, 0, 0, 0, 0, 9]),
            ..PortConfig::new(device)
        };
        let (port, _queues) = Port::open(&config, &pool).unwrap();
        assert_eq!(port.mac(), [2, 0, 0, 0, 0, 9], "{device}");
    }
}

#[test]
fn memif_connects_two_ports_also_where_a_crashed_server_left_its_socket() {
    let socket = file("memif.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "a stale socket");

    let pool = pool(4095);
    let memif = |name, role| format!("{name},role={role},socket={},socket-abstract=no", socket.display());
    let (server, mut server_queues) = open(&memif("net_memif0", "server"), &pool);
    let (_client, mut client_queues) = open(&memif("net_memif1", "client"), &pool);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !server.link().up {
        assert!(Instant::now() < deadline, "never connected");
        thread::sleep(Duration::from_millis(10));
    }
    let frames: Vec<Vec<u8>> = (0..32).map(|number| frame(number, 1400)).collect();
    assert_carried(&frames, &pool, &mut client_queues, &mut server_queues);
    assert_carried(&frames, &pool, &mut server_queues, &mut client_queues);
}

#[test]
fn af_packet_ports_exchange_packets_over_a_veth_pair() {
    let _first = eal();
    in_own_namespace(|| {
        ip("link add left type veth peer name right");
        ip("link set left up");
        ip("link set right up");
        let pool = pool(4095);
        let (_left, mut left) = open("net_af_packet0,iface=left", &pool);
        let (_right, mut right) = open("net_af_packet1,iface=right", &pool);
        let frames: Vec<Vec<u8>> = (0..32)
            .map(|number| frame(number, 60 + 45 * usize::from(number)))
            .collect();
        assert_carried(&frames, &pool, &mut left, &mut right);
        assert_carried(&frames, &pool, &mut right, &mut left);
    });
}

#[test]
fn what_comes_to_a_tap_wakes_who_sleeps_on_its_interrupt() {
    assert!(Interrupts::of(&open("net_null6", &pool(2047)).1.rx).is_none());
    if !Path::new("/dev/net/tun").exists() {
        return println!("SKIPPED: no /dev/net/tun, and the test is of a tap");
    }
    in_own_namespace(|| {
        let pool = pool(2047);
        let config = PortConfig {
            interrupts: true,
            ..PortConfig::new("net_tap6,iface=tap6")
        };
        let (_port, mut queues) = Port::open(&config, &pool).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/tap6/disable_ipv6", "1").unwrap(); // it would talk by itself
        ip("link set tap6 up");
        ip("addr add 10.9.0.1/24 dev tap6");
        let interrupts = Interrupts::of(&queues.rx).unwrap();
        let rx = &mut queues.rx[0];
        let mut packets = ArrayVec::<Mbuf, 64>::new();
        while rx.burst(&mut packets) > 0 {
            packets.clear();
        }
        let woken = |milliseconds: u16| {
            let mut waker = [PollFd::new(interrupts.arm(), PollFlags::POLLIN)];
            let ready = poll(&mut waker, milliseconds).unwrap();
            interrupts.disarm();
            ready == 1
        };
        assert!(!woken(50), "nothing has come");
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.send_to(b"who has", "10.9.0.2:9").unwrap();
        assert!(woken(5_000), "an ARP request has come");
        assert!(!woken(50), "nothing has come since");
        let deadline = Instant::now() + Duration::from_secs(5);
        while rx.burst(&mut packets) == 0 {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(packets[0].bytes()[12..14], [8, 6]);
    });
}

#[test]
fn a_worker_runs_on_its_cpu_and_gives_its_lcore_back_even_if_it_panics() {
    let cpu = allowed_cpu();
    // More often than there are lcores, so that one not given back would show.
    for round in 0..200 {
        let worker = spawn_worker(eal(), cpu, "worker", move || {
            let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
            assert!((0..CpuSet::count()).all(|other| own.is_set(other).unwrap() == (other == cpu)));
            if round % 100 == 0 {
                std::panic::resume_unwind(Box::new("a worker that fails"));
            }
        });
        assert_eq!(worker.unwrap().join().is_err(), round % 100 == 0);
    }
}

#[test]
fn a_worker_on_a_cpu_that_does_not_exist_is_refused_when_it_is_spawned() {
    for cpu in [CpuSet::count() - 1, usize::MAX] {
        let error = spawn_worker(eal(), cpu, "nowhere", || unreachable!()).unwrap_err();
        assert!(matches!(error, LcoreError::Cpu { .. }), "{error}");
    }
}

#[test]
fn a_workers_cache_is_part_of_the_free_count() {
    let pool = Mempool::new(eal(), "cached", 1023, 64, ROOM).unwrap();
    let theirs = pool.clone();
    let worker = spawn_worker(eal(), allowed_cpu(), "caching", move || {
        drop(packet(&theirs, b"back to the cache"))
    });
    worker.unwrap().join().unwrap();
    assert_eq!(pool.free_count(), 1023);
}

#[test]
fn the_time_stamp_counter_agrees_with_the_clock() {
    let _first = eal();
    let (start, clock) = (tsc(), Instant::now());
    thread::sleep(Duration::from_millis(50));
    let (ticks, elapsed) = (tsc() - start, clock.elapsed());
    let seconds = ticks as f64 / tsc_hz() as f64;
    assert!(
        (seconds / elapsed.as_secs_f64() - 1.0).abs() < 0.05,
        "{seconds} s, {elapsed:?}"
    );
}
