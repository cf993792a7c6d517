//! How rules and keys come out of a validated session.

use pdr_classifier::{InterfaceSet, PacketFields, PdrMatch, SessionKey, SessionKeys, Table};
use std::net::IpAddr;
use upf_model::{
    EndpointId, FarId, Interface, Ipv6Prefix, LocalFTeid, NetworkInstanceId, Pdi, Pdr, PdrId, Precedence, Qfi, Session,
    SessionId, Teid, UeIpAddress,
};

const ACCESS: NetworkInstanceId = NetworkInstanceId(0);
const INTERNET: NetworkInstanceId = NetworkInstanceId(1);

fn endpoint(address: IpAddr) -> Option<EndpointId> {
    let known: [IpAddr; 2] = [[192, 168, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
    known.iter().position(|a| *a == address).map(|i| EndpointId(i as u16))
}

fn pdr(id: u16, source_interface: Interface, network_instance: NetworkInstanceId) -> Pdr {
    Pdr {
        id: PdrId(id),
        precedence: Precedence(100),
        pdi: Pdi {
            source_interface,
            network_instance,
            local_fteid: None,
            ue_ip: None,
            framed_routes: Vec::new(),
            sdf: Vec::new(),
            qfis: Vec::new(),
        },
        outer_header_removal: None,
        far: FarId(1),
        qers: Vec::new(),
        urrs: Vec::new(),
    }
}

fn ue(prefix_length: u8) -> UeIpAddress {
    let prefix = Ipv6Prefix::new("2001:db8:1:2::".parse().unwrap(), prefix_length);
    UeIpAddress {
        ipv4: Some([10, 45, 0, 2].into()),
        ipv6: prefix,
    }
}

/// An uplink PDR for QoS flow 9 with a tunnel at both addresses, and a downlink PDR with a framed route.
fn session(prefix_length: u8) -> Session {
    let mut uplink = pdr(1, Interface::Access, ACCESS);
    uplink.pdi.local_fteid = Some(LocalFTeid {
        teid: Teid(7),
        ipv4: Some([192, 168, 0, 1].into()),
        ipv6: Some([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
    });
    uplink.pdi.ue_ip = Some(ue(prefix_length));
    uplink.pdi.qfis = vec![Qfi(9)];
    let mut downlink = pdr(2, Interface::Core, INTERNET);
    downlink.pdi.ue_ip = Some(ue(prefix_length));
    downlink.pdi.framed_routes = vec!["172.16.0.0/12".parse().unwrap()];
    Session {
        ue_ips: vec![ue(prefix_length)],
        pdrs: vec![uplink, downlink],
        ..Session::default()
    }
}

fn tunnels() -> [SessionKey; 2] {
    [0, 1].map(|endpoint| SessionKey::FTeid {
        endpoint: EndpointId(endpoint),
        teid: Teid(7),
    })
}

#[test]
fn a_tunnel_gives_a_key_for_each_of_its_addresses_and_a_plain_pdr_its_ue_addresses_and_routes() {
    let keys = SessionKeys::of(&session(64), endpoint);
    let [v4, v6] = tunnels();
    let plain = [
        SessionKey::UeV4 {
            ni: INTERNET,
            addr: [10, 45, 0, 2].into(),
        },
        SessionKey::UeV6 {
            ni: INTERNET,
            prefix64: 0x2001_0db8_0001_0002,
        },
    ];
    assert_eq!(keys.exact, [v4, v6, plain[0], plain[1]]);
    assert_eq!(keys.framed, [(INTERNET, "172.16.0.0/12".parse().unwrap())]);
}

#[test]
fn a_delegated_prefix_shorter_than_64_bits_is_found_as_a_framed_route_is() {
    let keys = SessionKeys::of(&session(56), endpoint);
    assert!(!keys.exact.iter().any(|key| matches!(key, SessionKey::UeV6 { .. })));
    assert!(keys.framed.contains(&(INTERNET, "2001:db8:1::/56".parse().unwrap())));
}

#[test]
fn a_plain_pdr_without_addresses_is_found_by_those_of_its_session() {
    let mut session = session(64);
    session.pdrs[1].pdi.ue_ip = None;
    session.pdrs[1].pdi.framed_routes.clear();
    let keys = SessionKeys::of(&session, endpoint);
    assert!(keys.exact.contains(&SessionKey::UeV4 {
        ni: INTERNET,
        addr: [10, 45, 0, 2].into()
    }));
}

#[test]
fn packets_are_detected_by_tunnel_flow_and_ue_address() {
    let session = session(64);
    let keys = SessionKeys::of(&session, endpoint);
    let rules: Vec<_> = session.pdrs.iter().map(|pdr| PdrMatch::of(pdr, endpoint)).collect();
    let (table, mut writer) = Table::new();
    writer.put(SessionId(0), &keys.exact, &keys.framed, &rules, ()).unwrap();
    let mut reader = table.register();
    let guard = reader.enter();

    let uplink = |source: [u8; 4], flow| {
        let packet = PacketFields::v4([8, 8, 8, 8].into(), source.into(), 17, 0).with_ports(53, 4000);
        let packet = packet.arrived(InterfaceSet::of(&[Interface::Access]), ACCESS);
        let packet = if let Some(flow) = flow {
            packet.with_qfi(Qfi(flow))
        } else {
            packet
        };
        tunnels().map(|key| guard.session(key).unwrap().classify(&packet))
    };
    assert_eq!(uplink([10, 45, 0, 2], Some(9)), [Some(0); 2]);
    assert_eq!(uplink([10, 45, 0, 2], Some(8)), [None; 2], "another flow");
    assert_eq!(uplink([10, 45, 0, 2], None), [None; 2], "no flow known");
    assert_eq!(uplink([10, 45, 0, 3], Some(9)), [None; 2], "another source address");

    let downlink = |destination: [u8; 4]| {
        let packet = PacketFields::v4([8, 8, 8, 8].into(), destination.into(), 17, 0);
        let packet = packet.arrived(InterfaceSet::of(&[Interface::Core]), INTERNET);
        guard
            .session(SessionKey::ue(INTERNET, IpAddr::from(destination)))
            .map(|found| found.classify(&packet))
    };
    assert_eq!(downlink([10, 45, 0, 2]), Some(Some(1)));
    assert_eq!(downlink([172, 16, 9, 9]), Some(Some(1)), "behind the UE");
    assert_eq!(downlink([172, 32, 0, 1]), None);
}
