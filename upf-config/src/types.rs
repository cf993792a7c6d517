//! What a configuration says, typed. Defaults are those of the commented example `config/upf.yaml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use upf_model::Interface;

/// One UPF.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this UPF on this machine: names its shared-memory channel, so that several may run side by side.
    #[serde(default = "default_name")]
    pub name: String,
    /// Where the control socket lives.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// Where sessions are kept across restarts.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The N4 side.
    pub pfcp: Pfcp,
    /// Prometheus endpoint; absent: none.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// CAMARA Quality-On-Demand and the context API over HTTP; absent: only on the control socket.
    #[serde(default)]
    pub api: Option<Api>,
    /// The DPDK data plane.
    #[serde(default)]
    pub host: Host,
    /// The P4 target in front of it; absent: upf-host has the ports itself.
    #[serde(default)]
    pub p4: Option<P4>,
    /// Context-aware QoS; default: no policies.
    #[serde(default)]
    pub qos: Qos,
    /// Ports in order. Their addresses are ours: ARP and neighbour discovery answer for them.
    #[schemars(length(min = 1))]
    pub ports: Vec<Port>,
    /// Network instances in order (TS 29.244 8.2.4).
    pub network_instances: Vec<NetworkInstance>,
}

/// The N4 side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pfcp {
    /// Address and port to listen on; 8805 is PFCP's.
    pub listen: SocketAddr,
    /// Our Node ID: an IP address or a name. Default: the listening address.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Seconds between our heartbeats to an associated peer; 0: none.
    #[serde(default = "default_heartbeat_s")]
    pub heartbeat_interval_s: u64,
    /// T1: milliseconds before a request of ours is sent again (TS 29.244 6.4).
    #[serde(default = "default_t1_ms")]
    pub t1_ms: u64,
    /// N1: how many times it is sent in all.
    #[serde(default = "default_n1")]
    pub n1: u32,
    /// The most sessions accepted.
    #[serde(default = "default_max_sessions")]
    pub max_sessions: u32,
}

/// Prometheus endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port for HTTP.
    pub listen: SocketAddr,
}

/// CAMARA Quality-On-Demand and the context API over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address and port for HTTP, or HTTPS with `tls`. Beyond this machine only with `tls`.
    pub listen: SocketAddr,
    /// Who may ask for what: a line `NAME token:SHA256 SCOPES` or `NAME certificate:SHA256 SCOPES` each. Read again when
    /// it changes.
    #[serde(default)]
    pub clients_file: Option<PathBuf>,
    /// Whoever reaches a loopback address may do everything, without a token.
    #[serde(default)]
    pub loopback_without_token: bool,
    /// HTTPS; absent: HTTP.
    #[serde(default)]
    pub tls: Option<ApiTls>,
    /// How much is taken from each client.
    #[serde(default)]
    pub limits: ApiLimits,
    /// Where notifications may be sent.
    #[serde(default)]
    pub sinks: Sinks,
}

/// Certificates of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTls {
    /// Ours with those between it and the root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Clients must show a certificate issued by one of these, PEM; absent: none is asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// How much the API takes. What is over is refused with 429 and `Retry-After`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiLimits {
    /// Requests of one client, in the long run.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: u32,
    /// Requests of one client at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst_requests: u32,
    /// Connections at once.
    #[schemars(range(min = 1, max = 65_536))]
    pub connections: u32,
    /// Bytes of one request's body.
    #[schemars(range(min = 1_024, max = 67_108_864))]
    pub body_bytes: u32,
    /// Quality-On-Demand sessions at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub qod_sessions: u32,
}

/// Where notifications may be sent: by default to HTTPS servers of the public Internet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sinks {
    /// Roots that sinks' certificates are checked against, PEM.
    pub roots: PathBuf,
    /// `http://` sinks too, which CAMARA does not allow: whoever is on the way reads their tokens.
    pub plain_http: bool,
    /// Sinks at private, link-local and loopback addresses too: clients can then make the UPF send requests there.
    pub private_addresses: bool,
}

/// The DPDK data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// CPU of each worker lcore. One worker polls queue i of every port.
    #[schemars(length(min = 1))]
    pub lcores: Vec<u32>,
    /// With several lcores: how users' packets come to them.
    pub distribution: Distribution,
    /// Use hugepages; `false` runs anywhere.
    pub hugepages: bool,
    /// Packet buffers in the pool, shared by all ports and by buffering.
    pub mempool_packets: u32,
    /// Data room of one packet buffer in bytes, headroom of 128 not counted.
    pub packet_room: u16,
    /// Packets per receive burst, 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub burst: u16,
    /// More arguments for the DPDK environment abstraction layer.
    pub eal_args: Vec<String>,
    /// Load-proportional polling.
    pub idle: Idle,
    /// Downlink buffering.
    pub buffering: Buffering,
    /// How deep the token buckets of QERs are.
    pub policing: Policing,
    /// Error Indications sent at most, per second (TS 29.281 7.3.1).
    pub error_indications_per_second: u32,
    /// ICMP errors sent at most, per second.
    pub icmp_errors_per_second: u32,
}

/// How packets come to lcores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// As the device spreads over its queues. A device that knows nothing of GTP-U puts all uplink packets of a gNB into one.
    #[default]
    Rss,
    /// By the user's address: an lcore that receives a packet of another one's user hands it over. All packets of a user, up
    /// and down, are one lcore's.
    Software,
}

/// The P4 target: it has the ports, forwards what it knows, and punts the rest to upf-host through its host port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct P4 {
    /// Address and port of its P4Runtime server.
    pub target: SocketAddr,
    /// Its P4Runtime device identifier.
    #[serde(default)]
    pub device_id: u64,
    /// Our election identifier: the highest one is primary.
    #[serde(default = "default_election_id")]
    pub election_id: u64,
    /// The program as the target takes it, with its P4Info (binary protobuf): both or neither. Default: `p4/upf.p4` for
    /// BMv2 and p4-switch, as it was when upf-ctl was built.
    #[serde(default)]
    pub program: Option<P4Program>,
    /// The target's port at which upf-host is, 0 to 510.
    #[schemars(range(min = 0, max = 510))]
    pub host_port: u16,
    /// upf-host's end of that port: a PCI address or a DPDK virtual device. Its MTU must be 40 more than the largest.
    pub host_device: String,
    /// Which sessions and flows live in the target.
    #[serde(default)]
    pub placement: Placement,
    /// How many packets a second may be punted.
    #[serde(default)]
    pub punt: PuntLimits,
    /// The embedded switch, where `upf run --with-p4-switch` starts it; other targets are set up by their own means.
    #[serde(default)]
    pub switch: P4Switch,
}

/// Queues of the embedded P4 switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct P4Switch {
    /// Rates of ports on the wire in Mbit/s, by name; a port's eight queues share its rate strictly by priority. Default: none,
    /// so that nothing waits.
    pub port_rates_mbps: BTreeMap<String, u32>,
    /// Packets that may wait in each queue.
    #[schemars(range(min = 1, max = 65_536))]
    pub queue_packets: u32,
}

/// A compiled P4 program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct P4Program {
    /// What the target runs: BMv2 JSON for BMv2 and p4-switch.
    pub device_config: PathBuf,
    /// Its P4Info, binary protobuf.
    pub p4info: PathBuf,
}

/// Context-aware QoS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Qos {
    /// The policy file (`config/qos.yaml` is a commented example); read again on SIGHUP. Default: none.
    pub policies: Option<PathBuf>,
    /// Measure packet delay by time stamps in GTP-U; absent: not at all.
    pub delay: Option<Delay>,
}

/// Packet delay by QoS monitoring (TS 23.501 5.33.3.2): the gNB answers to marked downlink packets, if it can.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delay {
    /// A downlink packet of each QoS flow is marked at most so often, milliseconds.
    #[schemars(range(min = 10, max = 3_600_000))]
    pub every_ms: u32,
    /// Our clock and the gNBs' agree well within the delays, so that each way is measured; otherwise each has half of
    /// N3's round trip.
    pub clocks_agree: bool,
}

/// Which sessions and flows live in the P4 target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// A flow without a packet for this long is evicted from the target, seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub flow_idle_s: u32,
    /// Flows that one session may have in the target.
    pub flows_per_session: u32,
    /// A session goes to the host when less than this share of a volume threshold is left, percent; 0: never.
    #[schemars(range(min = 0, max = 100))]
    pub near_threshold_percent: u8,
}

/// How many packets a second the P4 target may punt. What is over is dropped there and counted under its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PuntLimits {
    /// Of each reason by which nobody's session is served: unknown TEIDs and addresses, signalling, errors.
    pub per_reason: u32,
    /// Of each user whose flows are not known yet.
    pub per_user: u32,
}

/// Load-proportional polling: poll at full speed while packets come, then back off and sleep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idle {
    /// Keep polling at full speed for this long after the last packet, microseconds.
    pub spin_us: u32,
    /// Longest sleep between two polls when idle, microseconds; 0: never sleep. A sleep is a 32nd of the time without
    /// packets so far, so this is reached after 32 times as long.
    pub sleep_us: u32,
}

/// Downlink buffering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffering {
    /// Packets of one session; the oldest goes when full.
    pub packets_per_session: u32,
    /// Bytes of one session; the oldest goes when full.
    pub bytes_per_session: u64,
    /// Packets of all sessions; the newest goes when full.
    pub packets_total: u32,
}

/// How deep the token buckets of QERs are: PFCP signals rates but no bursts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policing {
    /// Milliseconds at the rate.
    pub burst_ms: u32,
    /// But never less than this many bytes.
    pub burst_min_bytes: u32,
}

/// A port: a NIC, a virtual function or a virtual device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name in messages and metrics.
    pub name: String,
    /// PCI address (`0000:3b:00.1`) or DPDK vdev (`net_af_packet0,iface=n3`, `net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap`);
    /// with a P4 target, its port there (`p4:1`).
    pub device: String,
    /// Hardware address to use; default: the device's own.
    #[serde(default)]
    pub mac: Option<String>,
    /// Largest IP packet in bytes.
    #[serde(default = "default_mtu")]
    #[schemars(range(min = 576, max = 9_600))]
    pub mtu: u16,
    /// 802.1Q VLAN to send and accept, 1 to 4094; absent: untagged.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4_094))]
    pub vlan: Option<u16>,
    /// Our addresses with prefix lengths.
    pub addresses: Vec<Prefix>,
    /// Its network instance, by name.
    pub network_instance: String,
    /// Source interfaces that packets from here may have, and destination interfaces it serves.
    pub interfaces: Vec<InterfaceName>,
    /// Its addresses are GTP-U endpoints (N3, N9).
    #[serde(default)]
    pub gtpu: bool,
    /// How packets wait while it is busy; absent: they do not, what it does not take is dropped.
    #[serde(default)]
    pub egress: Option<Egress>,
}

/// Eight priority queues at each lcore, the higher the sooner, and a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Rate on the wire in Mbit/s, gaps between frames included; absent: as fast as the device takes them.
    #[schemars(range(min = 1, max = 400_000))]
    pub rate_mbps: Option<u32>,
    /// How much may leave at once after a pause, and how late a poll may come without loss of rate: microseconds at the
    /// rate.
    #[schemars(range(min = 0, max = 100_000))]
    pub burst_us: u32,
    /// Weights of the lower queues, from queue 0 on: they share what the queues above them leave, which are strict.
    #[schemars(length(max = 8))]
    pub weights: Vec<u8>,
    /// Packets that may wait in each queue of each lcore.
    #[schemars(range(min = 1, max = 65_536))]
    pub queue_packets: u32,
    /// With a rate: milliseconds in which a full queue would be sent; no more bytes wait.
    #[schemars(range(min = 1, max = 10_000))]
    pub queue_ms: u32,
    /// Packets under rules with L4S that have waited longer than this are marked Congestion Experienced, microseconds.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ecn_threshold_us: u32,
}

impl Egress {
    /// Places in each queue, besides `queue_packets`, for packets of the UPF's own.
    pub const OWN_PACKETS: u32 = 64;

    /// The most packets that wait at each lcore.
    pub fn packets(&self) -> u64 {
        8 * (u64::from(self.queue_packets) + u64::from(Self::OWN_PACKETS))
    }
}

/// A network instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkInstance {
    /// As the SMF names it.
    pub name: String,
    /// Static routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Prefixes for UE addresses that the UPF allocates.
    #[serde(default)]
    pub ue_pools: Vec<Prefix>,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination.
    pub prefix: Prefix,
    /// Next hop, on-link at one of the instance's ports.
    pub via: IpAddr,
}

/// `ADDRESS/LENGTH`; the address part is kept as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Prefix {
    /// As written, host bits included.
    pub addr: IpAddr,
    /// Length in bits.
    pub len: u8,
}

/// An interface's name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceName {
    /// Towards the RAN.
    Access,
    /// Towards the data network.
    Core,
    /// N6-LAN.
    SgiLan,
}

impl Port {
    /// Its number at the P4 target, if it is there. Checked by [`crate::load`].
    pub fn p4_port(&self) -> Option<u16> {
        self.device.strip_prefix("p4:")?.parse().ok()
    }
}

impl From<InterfaceName> for Interface {
    fn from(n: InterfaceName) -> Self {
        match n {
            InterfaceName::Access => Self::Access,
            InterfaceName::Core => Self::Core,
            InterfaceName::SgiLan => Self::SgiLan,
        }
    }
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 200,
            burst_requests: 400,
            connections: 256,
            body_bytes: 1 << 20,
            qod_sessions: 10_000,
        }
    }
}

impl Default for Sinks {
    fn default() -> Self {
        Self {
            roots: "/etc/ssl/certs/ca-certificates.crt".into(),
            plain_http: false,
            private_addresses: false,
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            lcores: vec![0],
            distribution: Distribution::default(),
            hugepages: false,
            mempool_packets: 32_768,
            packet_room: 2_048,
            burst: 32,
            eal_args: Vec::new(),
            idle: Idle::default(),
            buffering: Buffering::default(),
            policing: Policing::default(),
            error_indications_per_second: 100,
            icmp_errors_per_second: 1_000,
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            rate_mbps: None,
            burst_us: 200,
            weights: vec![1, 2, 4, 8],
            queue_packets: 512,
            queue_ms: 50,
            ecn_threshold_us: 1_000,
        }
    }
}

impl Default for Delay {
    /// A second, and clocks of their own.
    fn default() -> Self {
        Self {
            every_ms: 1_000,
            clocks_agree: false,
        }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            flow_idle_s: 30,
            flows_per_session: 1_024,
            near_threshold_percent: 5,
        }
    }
}

impl Default for P4Switch {
    fn default() -> Self {
        Self {
            port_rates_mbps: BTreeMap::new(),
            queue_packets: 64,
        }
    }
}

impl Default for PuntLimits {
    fn default() -> Self {
        Self {
            per_reason: 20_000,
            per_user: 2_000,
        }
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            spin_us: 50,
            sleep_us: 2_000,
        }
    }
}

impl Default for Policing {
    fn default() -> Self {
        Self {
            burst_ms: 100,
            burst_min_bytes: 3_000,
        }
    }
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            packets_per_session: 512,
            bytes_per_session: 1 << 20,
            packets_total: 16_384,
        }
    }
}

fn default_name() -> String {
    "upf".into()
}
fn default_runtime_dir() -> PathBuf {
    "/run/upf".into()
}
fn default_state_dir() -> PathBuf {
    "/var/lib/upf".into()
}
const fn default_heartbeat_s() -> u64 {
    60
}
const fn default_t1_ms() -> u64 {
    3_000
}
const fn default_n1() -> u32 {
    3
}
const fn default_election_id() -> u64 {
    1
}
const fn default_max_sessions() -> u32 {
    1_000_000
}
const fn default_mtu() -> u16 {
    1_500
}

impl std::str::FromStr for Prefix {
    type Err = upf_model::prefix::PrefixError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let canonical: upf_model::IpPrefix = s.parse()?;
        let addr = s
            .split('/')
            .next()
            .unwrap_or(s)
            .parse()
            .map_err(|_| upf_model::prefix::PrefixError(s.into()))?;
        Ok(Self {
            addr,
            len: canonical.len(),
        })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}
