//! The usual session, a million times: what differs is the number.

use std::net::Ipv4Addr;
use upf_model::*;

/// The UPF on N3.
pub const UPF_N3: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
/// The gNB.
pub const GNB: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
/// The router of the data network.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 2);
/// The QoS flow of all sessions.
pub const QFI: u8 = 9;

/// 100 Gbit/s: more than a core can forward.
const MBR_KBPS: u64 = 100_000_000;
const ACCESS: NetworkInstanceId = NetworkInstanceId(0);
const INTERNET: NetworkInstanceId = NetworkInstanceId(1);

pub const CONFIG: &str = "
name: bench
pfcp: { listen: '127.0.0.1:8805' }
ports:
  - { name: n3, device: net_null0, addresses: [10.3.0.1/24], network_instance: access, interfaces: [access], gtpu: true }
  - { name: n6, device: net_null1, addresses: [10.6.0.1/24], network_instance: internet, interfaces: [core] }
network_instances:
  - { name: access }
  - { name: internet, routes: [{ prefix: 0.0.0.0/0, via: 10.6.0.2 }] }
";

/// The UE of a session.
pub const fn ue(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + number)
}

/// Its uplink tunnel.
pub const fn uplink_teid(number: u32) -> u32 {
    number + 1
}

/// Its downlink tunnel, another one in each version.
pub const fn downlink_teid(number: u32, version: u32) -> u32 {
    version << 24 | number
}

/// Whether, and how, a session's PDRs look at what its packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// One PDR each way, which takes everything.
    None,
    /// [`FILTERS`] PDRs each way, for a remote port each: the same of all sessions.
    Shared,
    /// The same, and for a server that no other session has.
    Private,
}

/// PDRs with an SDF filter, each way.
pub const FILTERS: u16 = 50;

impl Filters {
    /// The remote port of a PDR.
    pub const fn port(rule: u16) -> u16 {
        5_000 + rule
    }

    /// The server of a session's packets.
    pub const fn server(self, number: u32) -> Ipv4Addr {
        match self {
            Self::None | Self::Shared => Ipv4Addr::new(198, 51, 100, 7),
            Self::Private => Ipv4Addr::from_bits(0xc680_0000 + number),
        }
    }
}

/// The usual session with [`FILTERS`] PDRs each way instead of one.
pub fn filtered_session(number: u32, filters: Filters) -> Session {
    let mut session = usual_session(number, 1);
    let remote = match filters {
        Filters::Private => {
            IpPrefix::new(filters.server(number).into(), 32).map_or(AddressMatch::Any, AddressMatch::Prefix)
        }
        Filters::None | Filters::Shared => AddressMatch::Any,
    };
    let filter = |rule| SdfFilter {
        flow: Some(IpFilterRule {
            protocol: Some(17),
            remote,
            remote_ports: vec![PortRange {
                low: Filters::port(rule),
                high: Filters::port(rule),
            }],
            ue: AddressMatch::Assigned,
            ue_ports: vec![],
        }),
        ..SdfFilter::default()
    };
    let one_of = |pdr: &Pdr, rule: u16| {
        let mut pdr = pdr.clone();
        pdr.id = PdrId(2 * rule + pdr.id.0);
        pdr.precedence = Precedence(100 + u32::from(rule));
        pdr.pdi.sdf = vec![filter(rule)];
        pdr
    };
    let pdrs = session.pdrs.iter();
    session.pdrs = pdrs
        .flat_map(|pdr| (0..FILTERS).map(move |rule| one_of(pdr, rule)))
        .collect();
    session
}

/// 2 PDRs, 2 FARs, 1 QER, 1 URR.
pub fn usual_session(number: u32, version: u32) -> Session {
    let ue = UeIpAddress {
        ipv4: Some(ue(number)),
        ipv6: None,
    };
    let pdr = |id, source_interface, network_instance, local_fteid: Option<LocalFTeid>, ue_ip| Pdr {
        id: PdrId(id),
        precedence: Precedence(255),
        pdi: Pdi {
            source_interface,
            network_instance,
            local_fteid,
            ue_ip,
            framed_routes: vec![],
            sdf: vec![],
            qfis: vec![],
        },
        outer_header_removal: local_fteid.map(|_| OuterHeaderRemoval::GtpuUdpIp),
        far: FarId(id.into()),
        qers: vec![QerId(1)],
        urrs: vec![UrrId(1)],
    };
    let far = |id, destination_interface, network_instance, outer_header_creation| Far {
        id: FarId(id),
        action: Action {
            disposition: Disposition::Forward,
            duplicate: false,
        },
        forwarding: Some(ForwardingParameters {
            destination_interface,
            network_instance,
            outer_header_creation,
            transport_level_marking: None,
        }),
        duplicating: vec![],
        bar: None,
    };
    let fteid = LocalFTeid {
        teid: Teid(uplink_teid(number)),
        ipv4: Some(UPF_N3),
        ipv6: None,
    };
    let to_gnb = OuterHeaderCreation {
        teid: Teid(downlink_teid(number, version)),
        peer: GNB.into(),
    };
    Session {
        id: SessionId(number),
        seid: Seid(u64::from(number) + 1),
        epoch: Epoch(version),
        ue_ips: vec![ue],
        framed_routes: vec![],
        pdrs: vec![
            pdr(1, Interface::Access, ACCESS, Some(fteid), Some(ue)),
            pdr(2, Interface::Core, INTERNET, None, Some(ue)),
        ],
        fars: vec![
            far(1, Interface::Core, INTERNET, None),
            far(2, Interface::Access, ACCESS, Some(to_gnb)),
        ],
        qers: vec![Qer {
            id: QerId(1),
            correlation_id: None,
            gate_uplink: Gate::Open,
            gate_downlink: Gate::Open,
            mbr: Some(BitRates {
                uplink_kbps: MBR_KBPS,
                downlink_kbps: MBR_KBPS,
            }),
            gbr: None,
            qfi: Some(Qfi(QFI)),
            rqi: false,
            ppi: None,
            averaging_window_ms: None,
            scheduling: Scheduling::default(),
        }],
        urrs: vec![Urr {
            id: UrrId(1),
            method: MeasurementMethod {
                volume: true,
                duration: true,
                event: false,
            },
            before_qos: false,
            reporting: Default::default(),
        }],
        bars: vec![],
    }
}
