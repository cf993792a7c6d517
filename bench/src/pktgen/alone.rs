//! The generator alone, at any DPDK device: a NIC towards another machine's UPF, an interface, a memif or a ring.

use super::capture;
use super::frames::{Headers, Link, Way};
use super::generator::{Load, Tally, Trial};
use super::lcore::Lcore;
use super::mix::{Distribution, Sizes, User};
use super::{LATENCIES, direction, micros, search};
use crate::figure::Figure;
use crate::progress::doing;
use crate::{Outcome, ipc};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upf_host::dpdk::{Eal, EalConfig, Mempool, Port, PortConfig};

/// A link that is not up by then stays down.
const LINK: Duration = Duration::from_secs(10);
const PACKETS: u32 = 32_767;

/// What the generator is to do at a device. Without `--n3` the suite runs, with a upf-host of its own.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// DPDK device towards N3: 0000:03:00.0, net_af_packet0,iface=eth1, net_memif0,role=client,socket=..., net_ring0.
    #[arg(long, visible_alias = "port", value_name = "DEVICE")]
    n3: Option<String>,
    /// DPDK device towards N6; default: what comes back comes by the first one.
    #[arg(long, requires = "n3", value_name = "DEVICE")]
    n6: Option<String>,
    /// Address of the gNB that this is.
    #[arg(long, default_value = "10.3.0.2")]
    gnb: Ipv4Addr,
    /// Address of the UPF on N3.
    #[arg(long, visible_alias = "peer", default_value = "10.3.0.1")]
    upf_n3: Ipv4Addr,
    /// Address of the router behind N6 that this is.
    #[arg(long, default_value = "10.6.0.2")]
    router: Ipv4Addr,
    /// Address of the UPF on N6.
    #[arg(long, default_value = "10.6.0.1")]
    upf_n6: Ipv4Addr,
    /// Do not ask for the UPF's hardware addresses: frames go to the broadcast address, which a switch or testpmd takes.
    #[arg(long)]
    no_arp: bool,
    /// Users; their addresses and uplink TEIDs count up.
    #[arg(long, default_value_t = 1_000)]
    sessions: u32,
    /// The first user's address.
    #[arg(long, default_value = "10.60.0.1")]
    first_ue: Ipv4Addr,
    /// The first user's uplink TEID.
    #[arg(long, default_value_t = 1)]
    first_teid: u32,
    /// QoS flow in uplink PDU Session Containers; 64: no container.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(0..=64))]
    qfi: u8,
    /// uplink, downlink or both.
    #[arg(long, default_value = "both", value_parser = ways)]
    direction: Ways,
    /// How packets are spread over users.
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// Bytes of users' IP packets, or imix.
    #[arg(long, default_value = "64")]
    size: Sizes,
    /// Packets a second, all directions together; default: as many as come back, --window in flight.
    #[arg(long)]
    rate: Option<f64>,
    /// Packets in flight where there is no --rate.
    #[arg(long, default_value_t = 512)]
    window: u64,
    /// Find the greatest rate without loss (RFC 2544), up to this many packets a second.
    #[arg(long, value_name = "PPS", conflicts_with = "rate")]
    search: Option<f64>,
    /// How long a trial takes, seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// CPU of the generator; default: the first one.
    #[arg(long)]
    cpu: Option<usize>,
    /// Packet memory in huge pages, which must have been set aside.
    #[arg(long)]
    hugepages: bool,
    /// One more argument for DPDK's EAL; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    eal_arg: Vec<String>,
    /// Write this many frames of each direction as captures instead of sending them, for testpmd, pktgen-dpdk or TRex.
    #[arg(long, value_name = "DIRECTORY")]
    write_pcap: Option<PathBuf>,
}

/// Directions, as one value of the command line.
#[derive(Debug, Clone)]
struct Ways(Vec<Way>);

fn ways(text: &str) -> Result<Ways, String> {
    match text {
        "uplink" => Ok(Ways(vec![Way::Uplink])),
        "downlink" => Ok(Ways(vec![Way::Downlink])),
        "both" => Ok(Ways(vec![Way::Uplink, Way::Downlink])),
        _ => Err("expected uplink, downlink or both".into()),
    }
}

impl Options {
    /// Whether a device or a file is named, so that this is no run of the suite.
    pub const fn is_alone(&self) -> bool {
        self.n3.is_some() || self.write_pcap.is_some()
    }

    fn headers(&self) -> Headers {
        let link = |port: u8, addr, upf| Link {
            mac: [2, 0, 0, 0, port, 2],
            addr,
            upf_mac: [0xff; 6],
            upf,
        };
        Headers {
            n3: link(3, self.gnb, self.upf_n3),
            n6: link(6, self.router, self.upf_n6),
            qfi: (self.qfi < 64).then_some(self.qfi),
            server: Ipv4Addr::new(198, 51, 100, 7),
        }
    }

    fn users(&self) -> Arc<[User]> {
        let user = |number: u32| User {
            ue: Ipv4Addr::from_bits(self.first_ue.to_bits().wrapping_add(number)),
            teid: self.first_teid.wrapping_add(number),
        };
        (0..self.sessions.max(1)).map(user).collect()
    }
}

/// Does it.
///
/// # Errors
/// A device cannot be had, its link stays down, or the UPF does not answer ARP.
pub fn run(options: &Options) -> Outcome<Vec<Figure>> {
    if let Some(directory) = &options.write_pcap {
        let written = capture::write(
            directory,
            &options.headers(),
            &options.users(),
            options.distribution,
            options.size,
        )?;
        written.iter().for_each(|path| println!("{}", path.display()));
        return Ok(Vec::new());
    }
    let devices: Vec<&String> = options.n3.iter().chain(&options.n6).collect();
    let eal = Eal::init(&EalConfig {
        name: format!("bench-{}", std::process::id()),
        hugepages: options.hugepages,
        memory_mb: 160,
        pci: devices
            .iter()
            .filter(|d| !d.starts_with("net_"))
            .map(|d| (*d).clone())
            .collect(),
        extra_args: options.eal_arg.clone(),
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(&eal, "generator", PACKETS, 256, 2_048)?;
    let (mut ports, mut queues) = (Vec::new(), Vec::new());
    for device in &devices {
        let config = PortConfig {
            promiscuous: true,
            ..PortConfig::new(device)
        };
        let (port, of_port) = Port::open(&config, &pool)?;
        ports.push(port);
        queues.push(of_port);
    }
    wait_for_links(&ports)?;
    let cpu = options.cpu.or_else(|| ipc::cpus().first().copied()).unwrap_or(0);
    let lcore = Lcore::start(&eal, cpu)?;
    let seat = lcore.seat(queues, pool, options.headers())?;
    if !options.no_arp && !lcore.resolve(seat)? {
        return Err("the UPF does not answer ARP; --no-arp sends to the broadcast address".into());
    }
    lcore.carry(seat, &options.users(), options.distribution, options.size)?;
    let trial = |load| Trial {
        ways: options.direction.0.clone(),
        load,
        length: Duration::from_secs_f64(options.seconds.max(0.001)),
        settling: super::SETTLING,
        stop: None,
    };
    let mut rate = options.rate;
    let mut figures = Vec::new();
    let params = params(options, &devices);
    let of = |name: &str, unit: &str, value| Figure::of("pktgen", (name, "device"), params.clone(), unit, vec![value]);
    if let Some(most) = options.search {
        let found = search::zero_loss_rate(most, 10, 2, |pps| {
            let tally = lcore.run(seat, &trial(Load::Rate(pps)))?;
            doing(
                "pktgen",
                format_args!("{pps:.0} packets/s: {} of {} lost", tally.lost(), tally.offered),
            );
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(tally.lost() == 0 && tally.offered_rate() > 0.98 * pps)
        })?;
        figures.extend(of("zero-loss rate", "Mpps", found.rate / 1e6));
        rate = Some(found.rate / 2.0);
        doing("pktgen", "latency at half of it");
    }
    let load = rate.map_or(Load::Window(options.window), Load::Rate);
    let tally = lcore.run(seat, &trial(load))?;
    figures.extend(
        told(&tally)
            .into_iter()
            .filter_map(|(name, unit, value)| of(name, unit, value)),
    );
    Ok(figures)
}

/// What a trial's tally says.
fn told(tally: &Tally) -> Vec<(&'static str, &'static str, f64)> {
    let mut told = vec![
        ("packets offered", "", tally.offered as f64),
        ("packets received", "", tally.received as f64),
        ("packets lost", "", tally.lost() as f64),
        ("of them refused by our own device", "", tally.refused as f64),
        ("packets reordered", "", tally.reordered as f64),
        ("frames of others", "", tally.foreign as f64),
        ("rate offered", "Mpps", tally.offered_rate() / 1e6),
        ("rate received", "Mpps", tally.rate() / 1e6),
    ];
    if tally.received > 0 {
        told.extend(LATENCIES.map(|(name, of)| (name, "us", micros(of(tally)))));
    }
    told
}

fn params(options: &Options, devices: &[&String]) -> serde_json::Value {
    let driver = |device: &&String| {
        device
            .split(|c: char| c == ',' || c.is_ascii_digit())
            .next()
            .map(str::to_owned)
    };
    let drivers: Vec<String> = devices.iter().filter_map(driver).collect();
    json!({
        "direction": direction(&options.direction.0), "inner_bytes": options.size.to_string(),
        "sessions": options.sessions, "distribution": options.distribution.name(), "ports": drivers.join(", "),
    })
}

fn wait_for_links(ports: &[Port]) -> Outcome<()> {
    let deadline = Instant::now() + LINK;
    while !ports.iter().all(|port| port.link().up) {
        if Instant::now() > deadline {
            return Err("a device's link stayed down for 10 s".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
