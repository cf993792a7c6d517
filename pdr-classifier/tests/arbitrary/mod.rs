//! Arbitrary sessions and packets out of a small world, so that they meet.

use pdr_classifier::{
    ApplicationId, EthernetFields, EthernetFilter, InterfaceSet, MacMatch, MacRange, PacketFields, PdrMatch,
    SessionKey, TagMatch,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::{
    AddressMatch, EndpointId, Interface, IpFilterRule, IpPrefix, NetworkInstanceId, PortRange, Precedence, Qfi,
    SdfFilter, Teid, TosMatch,
};

fn interface() -> impl Strategy<Value = Interface> {
    prop_oneof![4 => Just(Interface::Access), 2 => Just(Interface::Core), 1 => Just(Interface::VnInternal)]
}

pub fn instance() -> impl Strategy<Value = NetworkInstanceId> {
    prop_oneof![5 => Just(NetworkInstanceId(0)), 1 => Just(NetworkInstanceId(1))]
}

/// A few addresses of each family that share prefixes of many lengths.
pub fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (select(vec![0, 1, 2, 5, 64, 255]), select(vec![0, 1, 128, 129]))
        .prop_map(|(c, d)| IpAddr::V4(Ipv4Addr::new(10, 45, c, d)));
    let v6 = (
        select(vec![0u16, 1, 0x8000]),
        select(vec![0u16, 1, 0x100]),
        select(vec![0u16, 7]),
    )
        .prop_map(|(c, d, h)| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, c, d, h, 0, 0, h)));
    prop_oneof![2 => v4, 1 => v6]
}

pub fn prefix() -> impl Strategy<Value = IpPrefix> {
    (
        address(),
        select(vec![0u8, 7, 8, 12, 16, 20, 24, 25, 31, 32, 48, 56, 63, 64, 65, 128]),
    )
        .prop_map(|(addr, len)| {
            IpPrefix::new(addr, if addr.is_ipv4() { len.min(32) } else { len }).expect("a length of its family")
        })
}

pub fn key() -> impl Strategy<Value = SessionKey> {
    let tunnel = (0..2u16, 1..4u32).prop_map(|(e, t)| SessionKey::FTeid {
        endpoint: EndpointId(e),
        teid: Teid(t),
    });
    let home = [
        "10.45.0.1",
        "10.45.64.129",
        "10.46.0.1",
        "2001:db8:0:1::",
        "2001:db8:8000:100::",
    ];
    let home = home.map(|a| a.parse::<IpAddr>().expect("an address"));
    let ue = (instance(), prop_oneof![6 => select(home.to_vec()), 1 => address()])
        .prop_map(|(ni, addr)| SessionKey::ue(ni, addr));
    prop_oneof![tunnel, ue]
}

fn application() -> impl Strategy<Value = ApplicationId> {
    (1..3u16).prop_map(|number| ApplicationId::new(number).expect("a number of an application"))
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![0u16, 1, 53, 80, 443, 5060, 50_000, 65_535])
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (port(), port()).prop_map(|(a, b)| PortRange {
        low: a.min(b),
        high: a.max(b),
    });
    let one = port().prop_map(|p| PortRange { low: p, high: p });
    prop_oneof![4 => Just(Vec::new()), 2 => prop::collection::vec(one, 1..3), 1 => prop::collection::vec(range, 1..4)]
}

fn end() -> impl Strategy<Value = AddressMatch> {
    prop_oneof![
        2 => Just(AddressMatch::Any),
        1 => Just(AddressMatch::Assigned),
        4 => prefix().prop_map(AddressMatch::Prefix),
    ]
}

fn protocol() -> impl Strategy<Value = u8> {
    select(vec![1u8, 6, 17, 50])
}

fn tos() -> impl Strategy<Value = u8> {
    select(vec![0u8, 0xb8, 0xba, 0x20])
}

pub fn filter() -> impl Strategy<Value = SdfFilter> {
    let ue = prop_oneof![5 => Just(AddressMatch::Assigned), 1 => end()];
    let flow = (prop::option::of(protocol()), end(), ports(), ue, ports()).prop_map(
        |(protocol, remote, remote_ports, ue, ue_ports)| IpFilterRule {
            protocol,
            remote,
            remote_ports,
            ue,
            ue_ports,
        },
    );
    let tos = (tos(), select(vec![0xffu8, 0xfc, 0x00])).prop_map(|(v, mask)| TosMatch { value: v & mask, mask });
    (
        prop::option::weighted(0.9, flow),
        prop::option::weighted(0.2, tos),
        prop::option::weighted(0.1, 0..3u32),
        prop::option::weighted(0.1, 0..3u32),
    )
        .prop_map(|(flow, tos, spi, flow_label)| SdfFilter {
            id: None,
            flow,
            tos,
            spi,
            flow_label,
        })
}

/// A rule of a session with those keys; now and then it asks for a key or an address that the session does not have.
pub fn rule(keys: Vec<SessionKey>, filtered: f64) -> impl Strategy<Value = PdrMatch> {
    let tunnels: Vec<_> = keys.into_iter().filter(|k| k.is_tunnel()).collect();
    let own = if tunnels.is_empty() {
        Just(Vec::new()).boxed()
    } else {
        select(tunnels).prop_map(|k| vec![k]).boxed()
    };
    let other = key().prop_map(|k| if k.is_tunnel() { vec![k] } else { Vec::new() });
    let ue = prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(prefix(), 1..4)];
    let sdf = prop_oneof![
        1 => prop::collection::vec(filter(), 1..4),
        4 => filter().prop_map(|f| vec![f]),
    ];
    (
        (0..8u32).prop_map(Precedence),
        interface(),
        instance(),
        prop_oneof![6 => own, 2 => Just(Vec::new()), 1 => other],
        ue,
        prop_oneof![3 => Just(0u64), 1 => any::<u64>(), 1 => (0..64u32).prop_map(|q| 1 << q)],
        prop::option::weighted(0.1, application()),
        if filtered > 0.0 {
            prop::option::weighted(filtered, sdf).boxed()
        } else {
            Just(None).boxed()
        },
    )
        .prop_map(
            |(precedence, source_interface, network_instance, tunnel, ue, qfis, application, sdf)| PdrMatch {
                precedence,
                source_interface,
                network_instance,
                tunnel,
                ue,
                qfis,
                application,
                sdf: sdf.unwrap_or_default(),
                ethernet: Vec::new(),
            },
        )
}

/// A few MAC addresses of which some are neighbours.
fn mac() -> impl Strategy<Value = [u8; 6]> {
    select(vec![0u8, 1, 2, 7, 8, 0xff]).prop_map(|last| [2, 0, 0, 0, last & 1, last])
}

fn mac_match() -> impl Strategy<Value = MacMatch> {
    let one = || mac().prop_map(MacRange::exact);
    let range = || (mac(), mac()).prop_map(|(a, b)| MacRange::between(a.min(b), a.max(b)));
    let end = move || prop::option::weighted(0.7, prop_oneof![2 => one(), 1 => range()]);
    (end(), end()).prop_map(|(source, destination)| MacMatch { source, destination })
}

fn ethertype() -> impl Strategy<Value = u16> {
    select(vec![0x0800u16, 0x86dd, 0x0806, 0x88f7])
}

fn tag_match() -> impl Strategy<Value = TagMatch> {
    let part = |most: u16| prop::option::weighted(0.5, 0..=most);
    // Three bits hold no eight.
    (part(8), prop::option::weighted(0.3, any::<bool>()), part(2)).prop_map(|(pcp, dei, vid)| TagMatch {
        pcp: pcp.map(|pcp| pcp as u8),
        dei,
        vid,
    })
}

fn ethernet_filter() -> impl Strategy<Value = EthernetFilter> {
    (
        prop::collection::vec(mac_match(), 0..3),
        prop::option::weighted(0.4, ethertype()),
        prop::option::weighted(0.2, tag_match()),
        prop::option::weighted(0.2, tag_match()),
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(filter(), 1..3)],
        any::<bool>(),
    )
        .prop_map(|(mac, ethertype, c_tag, s_tag, sdf, is_reversed)| {
            let filter = EthernetFilter {
                mac,
                ethertype,
                c_tag,
                s_tag,
                sdf,
            };
            if is_reversed { filter.reversed() } else { filter }
        })
}

/// What Ethernet packet filters a rule of an Ethernet PDU session has.
pub fn ethernet() -> impl Strategy<Value = Vec<EthernetFilter>> {
    prop::collection::vec(ethernet_filter(), 0..3)
}

/// The header of a frame around a packet, or of one that carries none.
pub fn frame() -> impl Strategy<Value = EthernetFields> {
    let tag = || {
        prop::option::weighted(
            0.4,
            (0..8u16, 0..2u16, 0..3u16).prop_map(|(p, d, v)| p << 13 | d << 12 | v),
        )
    };
    (mac(), mac(), ethertype(), tag(), tag()).prop_map(|(destination, source, ethertype, c_tag, s_tag)| {
        let mut frame = EthernetFields::new(destination, source, ethertype);
        if let Some(tag) = c_tag {
            frame = frame.with_c_tag(tag);
        }
        if let Some(tag) = s_tag {
            frame = frame.with_s_tag(tag);
        }
        frame
    })
}

/// What a session is put with.
#[derive(Debug, Clone)]
pub struct Content {
    pub keys: Vec<SessionKey>,
    pub framed: Vec<(NetworkInstanceId, IpPrefix)>,
    pub rules: Vec<PdrMatch>,
}

pub fn content(rules: std::ops::Range<usize>, filtered: f64) -> impl Strategy<Value = Content> {
    let framed = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec((instance(), prefix()), 1..3)];
    (prop::collection::vec(key(), 0..7), framed).prop_flat_map(move |(keys, framed)| {
        prop::collection::vec(rule(keys.clone(), filtered), rules.clone()).prop_map(move |rules| Content {
            keys: keys.clone(),
            framed: framed.clone(),
            rules,
        })
    })
}

/// A packet and the key it came by. A plain packet's UE end is its key's.
pub fn packet() -> impl Strategy<Value = (SessionKey, PacketFields)> {
    let fields = (
        (address(), address(), protocol(), tos(), 0..3u32),
        (prop::collection::vec(interface(), 1..3), instance()),
        prop::option::weighted(0.8, (port(), port())),
        prop::option::of(0..64u8),
        prop::option::weighted(0.2, 0..3u32),
        prop::option::weighted(0.4, application()),
    );
    (key(), fields).prop_map(
        |(key, ((remote, ue, protocol, tos, label), (interfaces, ni), ports, qfi, spi, application))| {
            let ue = match key {
                SessionKey::FTeid { .. } => ue,
                SessionKey::UeV4 { addr, .. } => IpAddr::V4(addr),
                SessionKey::UeV6 { prefix64, .. } => {
                    let host = if let IpAddr::V6(a) = ue { a.to_bits() as u64 } else { 7 };
                    IpAddr::V6(Ipv6Addr::from_bits(u128::from(prefix64) << 64 | u128::from(host)))
                }
            };
            let mut fields = match (remote, ue) {
                (IpAddr::V4(r), IpAddr::V4(u)) => PacketFields::v4(r, u, protocol, tos),
                (IpAddr::V4(_), IpAddr::V6(u)) => PacketFields::v6(Ipv6Addr::LOCALHOST, u, protocol, tos, label),
                (IpAddr::V6(r), IpAddr::V6(u)) => PacketFields::v6(r, u, protocol, tos, label),
                (IpAddr::V6(_), IpAddr::V4(u)) => PacketFields::v4(Ipv4Addr::LOCALHOST, u, protocol, tos),
            };
            // A plain packet comes from its key's network instance.
            let ni = match key {
                SessionKey::FTeid { .. } => ni,
                SessionKey::UeV4 { ni, .. } | SessionKey::UeV6 { ni, .. } => ni,
            };
            fields = fields.arrived(InterfaceSet::of(&interfaces), ni);
            if let Some((remote, ue)) = ports {
                fields = fields.with_ports(remote, ue);
            }
            if let Some(qfi) = qfi {
                fields = fields.with_qfi(Qfi(qfi));
            }
            if let Some(application) = application {
                fields = fields.with_application(application);
            }
            if let Some(spi) = spi {
                fields = fields.with_spi(spi);
            }
            (key, fields)
        },
    )
}
