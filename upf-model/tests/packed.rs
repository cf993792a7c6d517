//! Sessions packed and unpacked: any session under any shape comes back as it was, and equal ones pack to equal bytes.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::packed::{Packer, TEMPLATES};
use upf_model::*;

fn prefix() -> impl Strategy<Value = IpPrefix> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(a, len)| (IpAddr::V4(Ipv4Addr::from_bits(a)), len));
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(a, len)| (IpAddr::V6(Ipv6Addr::from_bits(a)), len));
    prop_oneof![v4, v6].prop_map(|(addr, len)| IpPrefix::new(addr, len).unwrap())
}

fn ue_ip() -> impl Strategy<Value = UeIpAddress> {
    (of(any::<u32>()), of((any::<u128>(), 0..=128_u8))).prop_map(|(v4, v6)| UeIpAddress {
        ipv4: v4.map(Ipv4Addr::from_bits),
        ipv6: v6.and_then(|(a, len)| Ipv6Prefix::new(Ipv6Addr::from_bits(a), len)),
    })
}

fn fteid() -> impl Strategy<Value = LocalFTeid> {
    (any::<u32>(), of(any::<u32>()), of(any::<u128>())).prop_map(|(teid, v4, v6)| LocalFTeid {
        teid: Teid(teid),
        ipv4: v4.map(Ipv4Addr::from_bits),
        ipv6: v6.map(Ipv6Addr::from_bits),
    })
}

fn filter() -> impl Strategy<Value = SdfFilter> {
    let ports = || {
        vec(
            (any::<u16>(), any::<u16>()).prop_map(|(low, high)| PortRange { low, high }),
            0..3,
        )
    };
    let end = || {
        prop_oneof![
            Just(AddressMatch::Any),
            Just(AddressMatch::Assigned),
            prefix().prop_map(AddressMatch::Prefix)
        ]
    };
    let flow = (of(any::<u8>()), end(), ports(), end(), ports());
    (of(any::<u32>()), of(flow)).prop_map(|(id, flow)| SdfFilter {
        id,
        flow: flow.map(|(protocol, remote, remote_ports, ue, ue_ports)| IpFilterRule {
            protocol,
            remote,
            remote_ports,
            ue,
            ue_ports,
        }),
        ..SdfFilter::default()
    })
}

fn pdr() -> impl Strategy<Value = Pdr> {
    let pdi = (
        of(fteid()),
        of(ue_ip()),
        vec(prefix(), 0..2),
        vec(filter(), 0..3),
        vec(0..64_u8, 0..2),
    );
    let ids = (
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
        vec(any::<u32>(), 0..3),
        vec(any::<u32>(), 0..3),
    );
    (pdi, ids, any::<bool>()).prop_map(|(pdi, ids, uplink)| Pdr {
        id: PdrId(ids.0),
        precedence: Precedence(ids.1),
        pdi: Pdi {
            source_interface: if uplink { Interface::Access } else { Interface::Core },
            network_instance: NetworkInstanceId(ids.0),
            local_fteid: pdi.0,
            ue_ip: pdi.1,
            framed_routes: pdi.2,
            sdf: pdi.3,
            qfis: pdi.4.into_iter().map(Qfi).collect(),
        },
        outer_header_removal: uplink.then_some(OuterHeaderRemoval::GtpuUdpIpv4),
        far: FarId(ids.2),
        qers: ids.3.into_iter().map(QerId).collect(),
        urrs: ids.4.into_iter().map(UrrId).collect(),
    })
}

fn far() -> impl Strategy<Value = Far> {
    (
        any::<u32>(),
        any::<bool>(),
        of((any::<u32>(), any::<u32>())),
        of(any::<u8>()),
    )
        .prop_map(|(id, notify, to, bar)| Far {
            id: FarId(id),
            action: Action {
                disposition: Disposition::Buffer { notify },
                duplicate: notify,
            },
            forwarding: to.map(|(teid, peer)| ForwardingParameters {
                destination_interface: Interface::Access,
                network_instance: NetworkInstanceId(3),
                outer_header_creation: Some(OuterHeaderCreation {
                    teid: Teid(teid),
                    peer: IpAddr::V4(Ipv4Addr::from_bits(peer)),
                }),
                transport_level_marking: None,
            }),
            duplicating: Vec::new(),
            bar: bar.map(BarId),
        })
}

fn session() -> impl Strategy<Value = Session> {
    let ids = (any::<u32>(), any::<u64>(), any::<u32>());
    (
        ids,
        vec(ue_ip(), 0..3),
        vec(prefix(), 0..2),
        vec(pdr(), 0..5),
        vec(far(), 0..4),
    )
        .prop_map(|(ids, ue_ips, framed_routes, pdrs, fars)| Session {
            id: SessionId(ids.0),
            seid: Seid(ids.1),
            epoch: Epoch(ids.2),
            ue_ips,
            framed_routes,
            pdrs,
            fars,
            ..Session::default()
        })
}

fn pack(packer: &mut Packer, shape: u64, session: &Session) -> Vec<u8> {
    let mut packed = vec![0xa5];
    packer.pack(shape, session, &mut packed);
    assert_eq!(packed.remove(0), 0xa5, "what was there before stays");
    packed
}

proptest! {
    #[test]
    fn a_session_comes_back_as_it_was_whatever_was_packed_under_its_shape(sessions in vec((0..3_u64, session()), 1..12)) {
        let mut packer = Packer::default();
        // Under shapes of any kind, and under its own.
        for own in [false, true] {
            let packed: Vec<_> = sessions
                .iter()
                .map(|(shape, session)| pack(&mut packer, if own { session.shape() } else { *shape }, session))
                .collect();
            for ((shape, session), packed) in sessions.iter().zip(&packed) {
                prop_assert_eq!(&packer.unpack::<Session>(packed), session);
                let again = pack(&mut packer, if own { session.shape() } else { *shape }, session);
                prop_assert_eq!(&again, packed, "equal sessions pack to equal bytes");
            }
        }
    }

    #[test]
    fn a_session_like_one_before_is_packed_into_few_bytes(session in session(), id in any::<u32>(), teid in any::<u32>()) {
        let mut packer = Packer::default();
        let whole = pack(&mut packer, session.shape(), &session).len();
        let mut like = session.clone();
        like.id = SessionId(id);
        if let Some(fteid) = like.pdrs.iter_mut().find_map(|pdr| pdr.pdi.local_fteid.as_mut()) {
            fteid.teid = Teid(teid);
        }
        let packed = pack(&mut packer, like.shape(), &like);
        prop_assert!(packed.len() <= whole + 20, "{} and {whole}", packed.len());
        prop_assert_eq!(packer.unpack::<Session>(&packed), like);
    }
}

#[test]
fn shapes_beyond_the_most_templates_are_kept_whole() {
    let mut packer = Packer::default();
    for n in 0..TEMPLATES as u64 + 10 {
        let session = Session {
            seid: Seid(n),
            ..Session::default()
        };
        let packed = pack(&mut packer, n, &session);
        assert_eq!(packer.unpack::<Session>(&packed), session);
        assert_eq!(pack(&mut packer, n, &session), packed);
    }
}
