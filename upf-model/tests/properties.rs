//! Whatever requests come, in whatever order: sessions keep their invariants, and nothing panics.

mod controller;

use controller::requests::*;
use controller::{Controller, N3_V4, N3_V6};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use upf_model::decoded::{
    Bar, FTeid, Far, Forwarding, OuterHeaderCreation, Pdi, Pdr, Qer, SdfFilter, SessionRequest, UeIp, Urr,
};
use upf_model::validate::{Plan, Refusal, establish, modify};
use upf_model::{Disposition, Seid, Session, SessionId};

/// What [`Session`] promises to every data plane.
fn assert_invariants(session: &Session) {
    assert!(session.pdrs.is_sorted_by_key(|pdr| (pdr.precedence, pdr.id)));
    let mut ids: Vec<_> = session.pdrs.iter().map(|pdr| pdr.id).collect();
    ids.sort_unstable();
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert!(session.fars.is_sorted_by(|a, b| a.id < b.id));
    assert!(session.qers.is_sorted_by(|a, b| a.id < b.id));
    assert!(session.urrs.is_sorted_by(|a, b| a.id < b.id));
    assert!(session.bars.is_sorted_by(|a, b| a.id < b.id));
    for pdr in &session.pdrs {
        assert!(session.far(pdr.far).is_some());
        assert!(pdr.qers.iter().all(|id| session.qer(*id).is_some()));
        assert!(pdr.urrs.iter().all(|id| session.urr(*id).is_some()));
        let pdi = &pdr.pdi;
        assert!(pdi.local_fteid.is_some() || pdi.ue_ip.is_some() || !pdi.framed_routes.is_empty());
        assert_eq!(pdi.local_fteid.is_some(), pdr.outer_header_removal.is_some());
        assert!(pdi.local_fteid.is_some() || !pdi.source_interface.is_uplink());
        assert!(
            pdi.local_fteid
                .is_none_or(|fteid| fteid.teid.0 != 0 && (fteid.ipv4.is_some() || fteid.ipv6.is_some()))
        );
        assert!(pdi.sdf.iter().all(|filter| filter.is_defined()));
        assert!(pdi.qfis.iter().all(|qfi| qfi.0 < 64));
        assert!(
            pdi.framed_routes
                .iter()
                .all(|route| session.framed_routes.contains(route))
        );
        if let Some(ue) = pdi.ue_ip {
            assert!(ue.ipv4.is_some() || ue.ipv6.is_some());
            assert!(
                ue.ipv4
                    .is_none_or(|addr| session.ue_ips.iter().any(|known| known.ipv4 == Some(addr)))
            );
            assert!(
                ue.ipv6
                    .is_none_or(|prefix| session.ue_ips.iter().any(|known| known.ipv6 == Some(prefix)))
            );
        }
    }
    for far in &session.fars {
        assert!(far.forwarding.is_some() || far.action.disposition != Disposition::Forward);
        assert!(!far.action.duplicate || !far.duplicating.is_empty());
        assert!(far.bar.is_none_or(|id| session.bars.iter().any(|bar| bar.id == id)));
        for forwarding in far.forwarding.iter().chain(&far.duplicating) {
            assert!(forwarding.outer_header_creation.is_none_or(|tunnel| tunnel.teid.0 != 0));
        }
    }
    for qer in &session.qers {
        assert!(qer.qfi.is_none_or(|qfi| qfi.0 < 64) && qer.ppi.is_none_or(|ppi| ppi < 8));
        if let (Some(mbr), Some(gbr)) = (qer.mbr, qer.gbr) {
            assert!(gbr.uplink_kbps <= mbr.uplink_kbps && gbr.downlink_kbps <= mbr.downlink_kbps);
        }
    }
}

fn fteid() -> impl Strategy<Value = FTeid> {
    let any_fteid = (
        any::<bool>(),
        option::of(0..3u8),
        any::<bool>(),
        any::<bool>(),
        0..3u32,
        0..4u8,
    )
        .prop_map(|(choose, choose_id, v4, v6, teid, addresses)| FTeid {
            choose,
            choose_id,
            v4,
            v6,
            teid,
            ipv4: (addresses & 1 != 0).then_some(N3_V4),
            ipv6: (addresses & 2 != 0).then_some(N3_V6),
        });
    prop_oneof![4 => (1..5u32).prop_map(given), 4 => option::of(0..3u8).prop_map(choose), 1 => any_fteid]
}

fn any_ue_ip_ie() -> impl Strategy<Value = UeIp> {
    let any_ue_ip = (
        any::<(bool, bool, bool)>(),
        option::of(any::<u32>()),
        option::of(any::<u128>()),
        option::of(any::<u8>()),
        option::of(any::<u8>()),
    )
        .prop_map(|((destination, choose_v4, choose_v6), ipv4, ipv6, bits, length)| UeIp {
            destination,
            choose_v4,
            choose_v6,
            ipv4: ipv4.map(Ipv4Addr::from_bits),
            ipv6: ipv6.map(Ipv6Addr::from_bits),
            ipv6_delegation_bits: bits,
            ipv6_prefix_length: length,
        });
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x45, 0, 0, 0, 0, 0);
    prop_oneof![
        6 => any::<bool>().prop_map(ue_ip),
        2 => Just(UeIp { ipv6: Some(prefix), ..UeIp::default() }),
        1 => Just(UeIp { choose_v4: true, ..UeIp::default() }),
        1 => any_ue_ip,
    ]
}

fn sdf_filter() -> impl Strategy<Value = SdfFilter> {
    let flows = prop_oneof![
        Just("permit out 6 from any 80,443 to assigned".to_owned()),
        Just("permit out ip from 198.51.100.0/24 to assigned".to_owned()),
        "permit (out|in) [0-9a-z.:/ -]{0,20}",
    ];
    let tos = option::weighted(0.2, any::<(u8, u8)>());
    (
        option::weighted(0.9, flows),
        tos,
        option::weighted(0.1, any::<u32>()),
        option::weighted(0.1, any::<u32>()),
        option::weighted(0.3, 0..3u32),
    )
        .prop_map(
            |(flow_description, tos_traffic_class, spi, flow_label, filter_id)| SdfFilter {
                flow_description,
                tos_traffic_class,
                spi,
                flow_label,
                filter_id,
            },
        )
}

fn removed() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![9 => Just(vec![]), 1 => vec(0..160u16, 1)]
}

fn unsupported() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![30 => Just(vec![]), 1 => vec(any::<u16>(), 1)]
}

fn any_pdi() -> impl Strategy<Value = Pdi> {
    let names = prop_oneof![Just("internet".to_owned()), Just("ims".to_owned()), "[a-z]{0,3}"];
    let routes = prop_oneof![Just("198.51.100.0/24 0.0.0.0 1".to_owned()), "[0-9./]{0,9}"];
    (
        option::weighted(0.98, prop_oneof![8 => 0..2u8, 1 => any::<u8>()]),
        option::weighted(0.5, fteid()),
        option::weighted(0.2, names),
        vec(any_ue_ip_ie(), 0..3),
        vec(sdf_filter(), 0..3),
        vec(0..66u8, 0..2),
        vec(routes, 0..2),
        unsupported(),
    )
        .prop_map(
            |(
                source_interface,
                local_fteid,
                network_instance,
                ue_ips,
                sdf_filters,
                qfis,
                framed_routes,
                unsupported,
            )| {
                let framed_ipv6_routes = vec![];
                Pdi {
                    source_interface,
                    local_fteid,
                    network_instance,
                    ue_ips,
                    sdf_filters,
                    qfis,
                    framed_routes,
                    framed_ipv6_routes,
                    unsupported,
                }
            },
        )
}

fn pdr() -> impl Strategy<Value = Pdr> {
    let any_pdr = (
        (
            option::weighted(0.98, 1..6u16),
            option::weighted(0.9, any::<u32>()),
            option::weighted(0.9, any_pdi()),
        ),
        option::weighted(
            0.5,
            (prop_oneof![4 => Just(0u8), 1 => 0..10u8], option::weighted(0.1, 0..3u8)),
        ),
        (option::weighted(0.95, 1..4u32), vec(1..4u32, 0..3), vec(1..4u32, 0..3)),
        (removed(), unsupported()),
    )
        .prop_map(
            |((id, precedence, pdi), outer_header_removal, (far_id, qer_ids, urr_ids), (removed, unsupported))| Pdr {
                id,
                precedence,
                pdi,
                outer_header_removal,
                far_id,
                urr_ids,
                qer_ids,
                removed,
                unsupported,
            },
        );
    prop_oneof![
        2 => (1..6u16, option::of(fteid()), 1..4u32).prop_map(|(id, fteid, far)| uplink(id, fteid, far)),
        2 => (1..6u16, 1..4u32).prop_map(|(id, far)| downlink(id, far)),
        1 => any_pdr,
    ]
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let tunnel = (
        prop_oneof![8 => Just(0x0100u16), 1 => Just(0x0200u16), 1 => any::<u16>()],
        option::weighted(0.9, 0..4u32),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(description, teid, v4, v6)| OuterHeaderCreation {
            description,
            teid,
            ipv4: (v4 || description == 0x0100).then_some(GNB),
            ipv6: (v6 && description != 0x0100).then_some(N3_V6),
            port: None,
        });
    (
        option::weighted(0.8, 0..3u8),
        option::weighted(0.1, "[a-z]{0,3}"),
        option::of(tunnel),
        option::of(any::<(u8, u8)>()),
        any::<bool>(),
        removed(),
        unsupported(),
    )
        .prop_map(
            |(
                destination_interface,
                network_instance,
                outer_header_creation,
                transport_level_marking,
                send_end_marker,
                removed,
                unsupported,
            )| {
                Forwarding {
                    destination_interface,
                    network_instance,
                    outer_header_creation,
                    transport_level_marking,
                    send_end_marker,
                    removed,
                    unsupported,
                }
            },
        )
}

fn far() -> impl Strategy<Value = Far> {
    let action = prop_oneof![8 => prop_oneof![Just(1u16), Just(2), Just(4), Just(12), Just(0x12)], 1 => any::<u16>()];
    (
        option::weighted(0.98, 1..4u32),
        option::weighted(0.8, action),
        option::of(forwarding()),
        vec(forwarding(), 0..2),
        option::weighted(0.1, 0..2u8),
        removed(),
        unsupported(),
    )
        .prop_map(
            |(id, apply_action, forwarding, duplicating, bar_id, removed, unsupported)| Far {
                id,
                apply_action,
                forwarding,
                duplicating,
                bar_id,
                removed,
                unsupported,
            },
        )
}

fn any_qer() -> impl Strategy<Value = Qer> {
    let rates = || option::of((0..3u64, 0..3u64));
    (
        (
            option::weighted(0.98, 1..4u32),
            option::of(any::<u32>()),
            option::weighted(0.9, prop_oneof![Just(0u8), Just(1), Just(4), Just(5), any::<u8>()]),
        ),
        (rates(), rates()),
        (
            option::of(0..66u8),
            option::of(any::<bool>()),
            option::of(0..9u8),
            option::of(any::<u32>()),
        ),
        (removed(), unsupported()),
    )
        .prop_map(
            |(
                (id, correlation_id, gate_status),
                (mbr, gbr),
                (qfi, rqi, ppi, averaging_window_ms),
                (removed, unsupported),
            )| Qer {
                id,
                correlation_id,
                gate_status,
                mbr,
                gbr,
                qfi,
                rqi,
                ppi,
                averaging_window_ms,
                removed,
                unsupported,
            },
        )
}

fn any_urr() -> impl Strategy<Value = Urr> {
    (
        option::weighted(0.98, 1..4u32),
        option::weighted(0.9, 0..8u8),
        option::weighted(0.9, prop_oneof![9 => Just(0u32), 1 => any::<u32>()]),
        option::weighted(0.2, any::<u8>()),
        removed(),
        unsupported(),
    )
        .prop_map(
            |(id, measurement_method, reporting_triggers, measurement_information, removed, unsupported)| Urr {
                id,
                measurement_method,
                reporting_triggers,
                measurement_information,
                removed,
                unsupported,
                ..Urr::default()
            },
        )
}

fn bar() -> impl Strategy<Value = Bar> {
    (
        option::weighted(0.98, 0..2u8),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        removed(),
        unsupported(),
    )
        .prop_map(
            |(id, downlink_data_notification_delay, suggested_buffering_packets_count, removed, unsupported)| Bar {
                id,
                downlink_data_notification_delay,
                suggested_buffering_packets_count,
                removed,
                unsupported,
            },
        )
}

/// One to three changes at once.
fn request() -> impl Strategy<Value = SessionRequest> {
    let one = prop_oneof![
        pdr().prop_map(|x| SessionRequest {
            create_pdrs: vec![x],
            ..SessionRequest::default()
        }),
        far().prop_map(|x| SessionRequest {
            create_fars: vec![x],
            ..SessionRequest::default()
        }),
        any_qer().prop_map(|x| SessionRequest {
            create_qers: vec![x],
            ..SessionRequest::default()
        }),
        any_urr().prop_map(|x| SessionRequest {
            create_urrs: vec![x],
            ..SessionRequest::default()
        }),
        bar().prop_map(|x| SessionRequest {
            create_bars: vec![x],
            ..SessionRequest::default()
        }),
        pdr().prop_map(|x| SessionRequest {
            update_pdrs: vec![x],
            ..SessionRequest::default()
        }),
        far().prop_map(|x| SessionRequest {
            update_fars: vec![x],
            ..SessionRequest::default()
        }),
        any_qer().prop_map(|x| SessionRequest {
            update_qers: vec![x],
            ..SessionRequest::default()
        }),
        any_urr().prop_map(|x| SessionRequest {
            update_urrs: vec![x],
            ..SessionRequest::default()
        }),
        bar().prop_map(|x| SessionRequest {
            update_bars: vec![x],
            ..SessionRequest::default()
        }),
        (1..6u16).prop_map(|x| SessionRequest {
            remove_pdrs: vec![x],
            ..SessionRequest::default()
        }),
        (1..4u32).prop_map(|x| SessionRequest {
            remove_fars: vec![x],
            ..SessionRequest::default()
        }),
        (1..4u32).prop_map(|x| SessionRequest {
            remove_qers: vec![x],
            ..SessionRequest::default()
        }),
        (1..4u32).prop_map(|x| SessionRequest {
            remove_urrs: vec![x],
            ..SessionRequest::default()
        }),
        (0..2u8).prop_map(|x| SessionRequest {
            remove_bars: vec![x],
            ..SessionRequest::default()
        }),
        (1..4u32).prop_map(|x| SessionRequest {
            query_urrs: vec![x],
            ..SessionRequest::default()
        }),
        any::<(bool, bool)>().prop_map(|(query_all_urrs, drop_buffered)| SessionRequest {
            query_all_urrs,
            drop_buffered,
            ..SessionRequest::default()
        }),
    ];
    vec(one, 1..4).prop_map(|parts| {
        parts.into_iter().fold(SessionRequest::default(), |mut all, part| {
            all.remove_pdrs.extend(part.remove_pdrs);
            all.remove_fars.extend(part.remove_fars);
            all.remove_urrs.extend(part.remove_urrs);
            all.remove_qers.extend(part.remove_qers);
            all.remove_bars.extend(part.remove_bars);
            all.create_pdrs.extend(part.create_pdrs);
            all.create_fars.extend(part.create_fars);
            all.create_urrs.extend(part.create_urrs);
            all.create_qers.extend(part.create_qers);
            all.create_bars.extend(part.create_bars);
            all.update_pdrs.extend(part.update_pdrs);
            all.update_fars.extend(part.update_fars);
            all.update_urrs.extend(part.update_urrs);
            all.update_qers.extend(part.update_qers);
            all.update_bars.extend(part.update_bars);
            all.query_urrs.extend(part.query_urrs);
            all.query_all_urrs |= part.query_all_urrs;
            all.drop_buffered |= part.drop_buffered;
            all
        })
    })
}

/// Tries the request as the controller does: what was taken is given back if it is refused.
fn attempt(controller: &mut Controller, session: &Session, request: &SessionRequest) -> Result<Plan, Refusal> {
    let mut transaction = controller.clone();
    let plan = modify(&mut transaction, session, request)?;
    *controller = transaction;
    Ok(plan)
}

fn assert_plan(before: &Session, plan: &Plan, controller: &Controller, request: &SessionRequest) {
    let after = &plan.session;
    assert_invariants(after);
    controller.assert_holds(after);
    assert_eq!((after.id, after.seid), (before.id, before.seid));
    assert_eq!(after.epoch == before.epoch, after == before);
    for chosen in plan.created_pdrs.iter().chain(&plan.updated_pdrs) {
        let pdr = after.pdrs.iter().find(|pdr| pdr.id == chosen.id).unwrap();
        assert!(chosen.fteid.is_some() || chosen.ue_ip.is_some());
        assert!(chosen.fteid.is_none() || chosen.fteid == pdr.pdi.local_fteid);
    }
    let tunnels: Vec<_> = before
        .fars
        .iter()
        .filter_map(|far| far.forwarding.as_ref()?.outer_header_creation)
        .collect();
    assert!(request.create_fars.len() + tunnels.len() >= plan.end_markers.len());
    assert!(
        plan.queried_urrs
            .iter()
            .all(|id| before.urr(*id).is_some() && after.urr(*id).is_some())
    );
    assert!(plan.removed_urrs.iter().all(|id| before.urr(*id).is_some()));
    for id in &plan.discard_buffered {
        assert!(matches!(
            before.far(*id).unwrap().action.disposition,
            Disposition::Buffer { .. }
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_modifications_keeps_the_invariants(requests in vec(request(), 1..24)) {
        let mut controller = Controller::new();
        let mut session = establish(&mut controller, SessionId(1), Seid(1), &usual()).unwrap().session;
        for request in &requests {
            let before = (session.clone(), controller.clone());
            match attempt(&mut controller, &session, request) {
                Ok(plan) => {
                    assert_plan(&before.0, &plan, &controller, request);
                    session = plan.session;
                }
                Err(refusal) => {
                    // Nothing has changed, and the answer to the same request is the same again.
                    prop_assert!(!refusal.cause.is_acceptance());
                    prop_assert_eq!(&(session.clone(), controller.clone()), &before);
                    prop_assert_eq!(attempt(&mut controller, &session, request), Err(refusal));
                }
            }
        }
    }

    #[test]
    fn any_establishment_is_whole_or_refused(request in request(), usual_rules in any::<bool>()) {
        let mut request = request;
        if usual_rules {
            let usual = usual();
            request.create_pdrs.splice(0..0, usual.create_pdrs);
            request.create_fars.splice(0..0, usual.create_fars);
            request.create_qers.splice(0..0, usual.create_qers);
            request.create_urrs.splice(0..0, usual.create_urrs);
        }
        let mut controller = Controller::new();
        if let Ok(plan) = establish(&mut controller, SessionId(1), Seid(1), &request) {
            assert_invariants(&plan.session);
            controller.assert_holds(&plan.session);
            prop_assert_eq!(plan.session.epoch.0, 1);
        }
    }
}

#[test]
fn the_sequences_reach_far_enough_to_mean_something() {
    // A property over refused requests only would hold of anything.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..40 {
        let requests = vec(request(), 24).new_tree(&mut runner).unwrap().current();
        let mut controller = Controller::new();
        let mut session = establish(&mut controller, SessionId(1), Seid(1), &usual())
            .unwrap()
            .session;
        for request in &requests {
            match attempt(&mut controller, &session, request) {
                Ok(plan) => (session, taken) = (plan.session, taken + 1),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}
