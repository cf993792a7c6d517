//! The whole UPF behind ports of the kernel: CPU time of an idle `upf-host`, and what becomes of the first packets after.
//!
//! The real programs run in a laboratory of network namespaces, with `af_packet` ports on veth pairs, for which upf-host can
//! only look now and then, and with taps, whose interrupts wake it as a network card's do. After a time
//! without packets the data network sends a burst of downlink packets for one UE, and the gNB's side of N3 counts and
//! times what comes out of the tunnel; a second burst follows while the lcore still polls. What the kernel's sockets
//! and veth pairs need is in both.

use super::{BURST, cpu_time};
use crate::figure::Figure;
use crate::progress::doing;
use crate::smf;
use serde_json::json;
use smf_sim::{SessionSpec, UeIps};
use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upf::lab::{DN, Daemon, GNB, Lab, LabOptions, Resources, Side, Target};

type Outcome<T> = Result<T, Box<dyn Error>>;

const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const UE_PORT: u16 = 4_000;
const GTPU_PORT: u16 = 2_152;
const DOWNLINK_TEID: u32 = 0x1001;
/// Bytes of user data: 64 with the IP and UDP headers.
const PAYLOAD: usize = 36;
/// A burst is over when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(300);

/// What is between the kernel and upf-host.
#[derive(Debug, Clone, Copy)]
enum Ports {
    AfPacket,
    Tap,
}

impl Ports {
    const fn name(self) -> &'static str {
        match self {
            Self::AfPacket => "af_packet",
            Self::Tap => "tap",
        }
    }
}

/// Measures; without root, or where the programs are missing, says so and gives nothing.
pub fn run(quick: bool, resources: &Arc<Resources>) -> Vec<Figure> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("idle, kernel's ports: skipped, network namespaces need root");
        return Vec::new();
    }
    let mut figures = Vec::new();
    for ports in [Ports::AfPacket, Ports::Tap] {
        doing(
            "idle",
            format_args!("the same behind ports of the kernel, {}", ports.name()),
        );
        let measured = measure(quick, ports, resources);
        resources.release();
        match measured {
            Ok(measured) => figures.extend(measured),
            Err(error) => eprintln!("idle, kernel's ports, {}: {error}", ports.name()),
        }
    }
    figures
}

fn measure(quick: bool, ports: Ports, resources: &Arc<Resources>) -> Outcome<Vec<Figure>> {
    let (repetitions, idle) = if quick {
        (2, Duration::from_secs(3))
    } else {
        (5, Duration::from_secs(10))
    };
    let programs = std::env::current_exe()?
        .parent()
        .ok_or("this program lies nowhere")?
        .to_owned();
    if let Some(missing) = ["upf-host", "upf-ctl"].iter().find(|p| !programs.join(p).exists()) {
        return Err(format!("skipped, {missing} is not beside this program: build the whole workspace").into());
    }
    let directory = Directory::make()?;
    let name = format!("idle{}", std::process::id());
    let mut options = LabOptions::new(&name, directory.0.clone(), 0, programs, Target::None);
    if let Ports::Tap = ports {
        options.devices = [0, 1].map(|number| format!("net_tap{number},iface={}", TAPS[number].tap));
    }
    let lab = Lab::start(&options, resources.clone())?;
    if let Ports::Tap = ports {
        TAPS.iter().try_for_each(|tap| tap.take_the_place_of_its_link(&lab))?;
    }
    let host = lab.daemons.pid(Daemon::Host).ok_or("upf-host is not running")?;
    let session = SessionSpec::basic(UeIps::v4(UE), GNB.into(), DOWNLINK_TEID);
    lab.namespaces.within(Side::Smf, || smf::establish(vec![session]))??;
    let link = Link::open(&lab)?;
    link.burst()?; // neighbours are asked for

    let mut shares = Vec::new();
    let (mut first, mut second) = (Bursts::default(), Bursts::default());
    for _ in 0..repetitions {
        let before = cpu_time(host)?;
        std::thread::sleep(idle);
        let used = cpu_time(host)?.saturating_sub(before);
        shares.push(100.0 * used.as_secs_f64() / idle.as_secs_f64());
        first.add(link.burst()?);
        second.add(link.burst()?);
        std::thread::sleep(QUIET);
    }
    let seconds = idle.as_secs();
    let mut figures: Vec<Figure> = Figure::of(
        "idle",
        ("CPU time while idle", "upf-host"),
        json!({ "seconds": seconds, "ports": ports.name() }),
        "%",
        shares,
    )
    .into_iter()
    .collect();
    let params = json!({ "packets": BURST, "bytes": PAYLOAD + 28, "ports": ports.name() });
    let after = format!("after {seconds} s of idleness");
    for (subject, bursts) in [(after.as_str(), first), ("right after another burst", second)] {
        figures.extend(Figure::of(
            "idle",
            ("burst: delay of the first packet", subject),
            params.clone(),
            "us",
            bursts.delay_us,
        ));
        figures.extend(Figure::of(
            "idle",
            ("burst: packets lost", subject),
            params.clone(),
            "",
            bursts.lost,
        ));
    }
    Ok(figures)
}

/// The kernel's end of a tap, in the place of a veth pair of the laboratory.
struct Tap {
    tap: &'static str,
    side: Side,
    link: &'static str,
    address: Ipv4Addr,
    hardware_address: &'static str,
    route: Option<[&'static str; 3]>,
}

const TAPS: [Tap; 2] = [
    Tap {
        tap: "tap3",
        side: Side::Gnb,
        link: "n3",
        address: GNB,
        hardware_address: "02:00:00:00:33:02",
        route: None,
    },
    Tap {
        tap: "tap6",
        side: Side::Dn,
        link: "n6",
        address: DN,
        hardware_address: "02:00:00:00:66:02",
        route: Some(["10.60.0.0/16", "via", "10.6.0.1"]),
    },
];

impl Tap {
    fn take_the_place_of_its_link(&self, lab: &Lab) -> Outcome<()> {
        let ip = |side: Side, words: &[&str]| lab.run(side, &[&["ip"], words].concat());
        ip(
            Side::Upf,
            &["link", "set", self.tap, "netns", &lab.namespaces.name(self.side)],
        )?;
        ip(self.side, &["link", "del", self.link])?;
        ip(self.side, &["link", "set", self.tap, "address", self.hardware_address])?;
        ip(
            self.side,
            &["addr", "add", &format!("{}/24", self.address), "dev", self.tap],
        )?;
        ip(self.side, &["link", "set", self.tap, "up"])?;
        if let Some(route) = &self.route {
            ip(self.side, &[&["route", "replace"], route.as_slice()].concat())?;
        }
        Ok(())
    }
}

/// What several bursts gave.
#[derive(Default)]
struct Bursts {
    delay_us: Vec<f64>,
    lost: Vec<f64>,
}

impl Bursts {
    fn add(&mut self, burst: Burst) {
        self.delay_us.extend(burst.first.map(|delay| delay.as_secs_f64() * 1e6));
        self.lost.push((BURST - burst.received.min(BURST)) as f64);
    }
}

/// What came of one burst.
#[derive(Clone, Copy)]
struct Burst {
    received: usize,
    /// From before the first packet was sent until it was received.
    first: Option<Duration>,
}

/// The ends of the downlink: a server's socket, and the gNB's.
struct Link {
    server: UdpSocket,
    gnb: UdpSocket,
}

impl Link {
    fn open(lab: &Lab) -> Outcome<Self> {
        let server = lab.namespaces.within(Side::Dn, || UdpSocket::bind((DN, 0)))??;
        let gnb = lab
            .namespaces
            .within(Side::Gnb, || UdpSocket::bind((GNB, GTPU_PORT)))??;
        // As large as the kernel lets root have it: what is lost here is not the UPF's.
        nix::sys::socket::setsockopt(&gnb, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20))?;
        gnb.set_read_timeout(Some(QUIET))?;
        Ok(Self { server, gnb })
    }

    /// One burst, and what came of it. Returns as soon as the last packet has come, or when no more come. One thread
    /// does it all, looking for what has come between two packets: a second one would wait for a CPU.
    fn burst(&self) -> Outcome<Burst> {
        let payload = [0; PAYLOAD];
        let mut packet = [0; 2_048];
        let mut burst = Burst {
            received: 0,
            first: None,
        };
        self.gnb.set_nonblocking(true)?;
        let start = Instant::now();
        for _ in 0..BURST {
            self.server.send_to(&payload, (UE, UE_PORT))?;
            if burst.first.is_none() && self.gnb.recv(&mut packet).is_ok() {
                burst.came(start);
            }
        }
        self.gnb.set_nonblocking(false)?;
        while burst.received < BURST && self.gnb.recv(&mut packet).is_ok() {
            burst.came(start);
        }
        Ok(burst)
    }
}

impl Burst {
    fn came(&mut self, start: Instant) {
        self.received += 1;
        self.first.get_or_insert_with(|| start.elapsed());
    }
}

/// Where the laboratory's files are while it exists.
struct Directory(PathBuf);

impl Directory {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("upf-bench-idle-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
