//! What an accepted request makes of a session, and what happens besides.

mod controller;

use controller::requests::*;
use controller::scenario::*;
use controller::{ACCESS, INTERNET};
use std::net::IpAddr;
use upf_model::decoded::{FTeid, Far, Forwarding, Pdr, Qer, SdfFilter, SessionRequest, UeIp, Urr};
use upf_model::validate::{Cause, CreatedPdr, RuleKind, modify};
use upf_model::{
    Disposition, Epoch, FarId, Gate, OuterHeaderCreation, PdrId, QerId, Seid, Session, SessionId, Teid, UeIpAddress,
    UrrId, ie,
};

#[test]
fn a_usual_session_is_complete_and_tells_what_was_chosen() {
    let (plan, controller) = try_establish(&usual()).unwrap();
    let session = &plan.session;
    assert_eq!(
        (session.id, session.seid, session.epoch),
        (SessionId(4), Seid(44), Epoch(1))
    );
    let fteid = session.pdrs[0].pdi.local_fteid.unwrap();
    assert_eq!(
        plan.created_pdrs,
        [CreatedPdr {
            id: PdrId(1),
            fteid: Some(fteid),
            ue_ip: None
        }]
    );
    assert_eq!(
        (
            session.pdrs[0].pdi.network_instance,
            session.pdrs[1].pdi.network_instance
        ),
        (ACCESS, INTERNET)
    );
    assert_eq!(
        session.ue_ips,
        [UeIpAddress {
            ipv4: Some(UE),
            ipv6: None
        }]
    );
    assert_eq!(session.far(FarId(1)).unwrap().action.disposition, Disposition::Forward);
    let tunnel = session
        .far(FarId(2))
        .unwrap()
        .forwarding
        .as_ref()
        .unwrap()
        .outer_header_creation;
    assert_eq!(
        tunnel,
        Some(OuterHeaderCreation {
            teid: Teid(7),
            peer: IpAddr::V4(GNB)
        })
    );
    controller.assert_holds(session);
}

#[test]
fn pdrs_are_ordered_by_precedence_then_id() {
    let mut request = usual();
    request.create_pdrs.push(Pdr {
        precedence: Some(u32::MAX),
        ..downlink(3, 2)
    });
    request.create_pdrs.push(Pdr {
        precedence: Some(0),
        ..downlink(9, 2)
    });
    let (plan, _) = try_establish(&request).unwrap();
    assert_eq!(
        plan.session.pdrs.iter().map(|pdr| pdr.id.0).collect::<Vec<_>>(),
        [9, 1, 2, 3]
    );
}

#[test]
fn an_f_teid_that_the_smf_chose_is_reserved_and_not_reported_back() {
    let mut request = usual();
    pdi(&mut request.create_pdrs[0]).local_fteid = Some(given(9));
    let (plan, controller) = try_establish(&request).unwrap();
    assert_eq!(plan.created_pdrs, []);
    assert_eq!(plan.session.pdrs[0].pdi.local_fteid.unwrap().teid, Teid(9));
    controller.assert_holds(&plan.session);
}

#[test]
fn pdrs_of_one_choose_id_share_an_f_teid_and_others_do_not() {
    let mut request = usual();
    request.create_pdrs.push(uplink(3, Some(choose(Some(5))), 1));
    request.create_pdrs.push(uplink(4, Some(choose(Some(6))), 1));
    request.create_pdrs.push(uplink(5, Some(choose(None)), 1));
    request.create_pdrs.push(uplink(6, Some(choose(None)), 1));
    let (plan, controller) = try_establish(&request).unwrap();
    let teids: Vec<_> = plan
        .created_pdrs
        .iter()
        .map(|pdr| (pdr.id.0, pdr.fteid.unwrap().teid.0 & 0xff))
        .collect();
    assert_eq!(teids, [(1, 1), (3, 1), (4, 2), (5, 3), (6, 4)]);
    assert_eq!(controller.fteids.len(), 4);
    let mut contradictory = usual();
    contradictory.create_pdrs.push(uplink(
        3,
        Some(FTeid {
            v6: true,
            ..choose(Some(5))
        }),
        1,
    ));
    let refusal = try_establish(&contradictory).unwrap_err();
    assert_eq!(
        (refusal.cause, refusal.offending_ie),
        (Cause::InvalidFTeidAllocationOption, Some(ie::F_TEID))
    );
}

#[test]
fn an_uplink_pdr_of_a_pcc_rule_takes_over_the_only_tunnel_there_is() {
    let (session, mut controller) = established();
    let add = || SessionRequest {
        create_pdrs: vec![uplink(7, None, 1)],
        ..SessionRequest::default()
    };
    let plan = modified(&session, &mut controller, add());
    let tunnel_of = |session: &Session, id| {
        session
            .pdrs
            .iter()
            .find(|pdr| pdr.id == PdrId(id))
            .unwrap()
            .pdi
            .local_fteid
    };
    assert_eq!(tunnel_of(&plan.session, 7), tunnel_of(&session, 1));
    assert_eq!(plan.created_pdrs, []);

    // The tunnel stays when the PDR it came from goes.
    let gone = modified(
        &plan.session,
        &mut controller,
        SessionRequest {
            remove_pdrs: vec![1],
            ..SessionRequest::default()
        },
    );
    assert_eq!(tunnel_of(&gone.session, 7), tunnel_of(&session, 1));

    // With two tunnels it is not to be told which is meant.
    let (session, mut controller) = established();
    let second = SessionRequest {
        create_pdrs: vec![uplink(3, Some(choose(None)), 1)],
        ..SessionRequest::default()
    };
    let two = modified(&session, &mut controller, second).session;
    let refusal = modify(&mut controller, &two, &add()).unwrap_err();
    assert_eq!(
        fault(refusal),
        (Cause::ConditionalIeMissing, Some(ie::F_TEID), Some((RuleKind::Pdr, 7)))
    );
}

#[test]
fn an_updated_pdi_without_f_teid_keeps_the_tunnel_it_had() {
    let (session, mut controller) = established();
    let second = SessionRequest {
        create_pdrs: vec![uplink(3, Some(choose(None)), 1)],
        ..SessionRequest::default()
    };
    let session = modified(&session, &mut controller, second).session;
    let mut pdr = uplink(3, None, 1);
    pdi(&mut pdr).sdf_filters = vec![flow("permit out 6 from any to assigned")];
    let plan = modified(
        &session,
        &mut controller,
        SessionRequest {
            update_pdrs: vec![pdr],
            ..SessionRequest::default()
        },
    );
    assert_eq!(plan.session.pdrs[2].pdi.local_fteid, session.pdrs[2].pdi.local_fteid);
    assert_eq!(plan.session.pdrs[2].pdi.sdf.len(), 1);
}

#[test]
fn a_chosen_ue_address_is_the_same_in_both_directions_and_from_the_data_network_s_pool() {
    let mut request = usual();
    for pdr in &mut request.create_pdrs {
        pdi(pdr).ue_ips = vec![UeIp {
            choose_v4: true,
            choose_v6: true,
            ..UeIp::default()
        }];
    }
    let (plan, controller) = try_establish(&request).unwrap();
    let chosen: Vec<_> = plan.created_pdrs.iter().map(|pdr| pdr.ue_ip.unwrap()).collect();
    assert_eq!(chosen.len(), 2);
    assert_eq!(chosen[0], chosen[1]);
    assert!(chosen[0].ipv4.is_some() && chosen[0].ipv6.is_some());
    assert_eq!(plan.session.ue_ips, chosen[..1]);
    assert!(
        controller
            .ue_ips
            .iter()
            .all(|key| key.starts_with(&INTERNET.to_string()))
    );
    controller.assert_holds(&plan.session);
}

#[test]
fn a_ue_address_chosen_for_the_uplink_alone_is_given_to_a_later_downlink_pdr() {
    let mut request = usual();
    pdi(&mut request.create_pdrs[0]).ue_ips = vec![UeIp {
        choose_v4: true,
        ..UeIp::default()
    }];
    let mut downlink = request.create_pdrs.remove(1);
    let (plan, mut controller) = try_establish(&request).unwrap();
    pdi(&mut downlink).ue_ips = vec![UeIp {
        choose_v4: true,
        ..UeIp::default()
    }];
    let later = SessionRequest {
        create_pdrs: vec![downlink],
        ..SessionRequest::default()
    };
    let later = modified(&plan.session, &mut controller, later);
    assert_eq!(later.session.ue_ips, plan.session.ue_ips);
    assert_eq!(later.created_pdrs[0].ue_ip, plan.created_pdrs[0].ue_ip);
}

#[test]
fn an_absent_ie_of_an_update_keeps_and_a_present_one_replaces() {
    let (session, mut controller) = established();
    let request = SessionRequest {
        update_pdrs: vec![Pdr {
            id: Some(2),
            precedence: Some(7),
            ..Pdr::default()
        }],
        update_qers: vec![Qer {
            id: Some(1),
            gate_status: Some(0b0100),
            mbr: Some((1000, 2000)),
            ..Qer::default()
        }],
        update_urrs: vec![Urr {
            id: Some(1),
            measurement_method: Some(3),
            ..Urr::default()
        }],
        ..SessionRequest::default()
    };
    let plan = modified(&session, &mut controller, request);
    let pdr = &plan.session.pdrs[0];
    assert_eq!((pdr.id, pdr.precedence.0), (PdrId(2), 7));
    assert_eq!(
        (&pdr.pdi, pdr.far, &pdr.qers),
        (&session.pdrs[1].pdi, FarId(2), &vec![QerId(1)])
    );
    let qer = plan.session.qer(QerId(1)).unwrap();
    assert_eq!((qer.gate_uplink, qer.gate_downlink), (Gate::Closed, Gate::Open));
    let request = SessionRequest {
        update_qers: vec![Qer {
            id: Some(1),
            qfi: Some(9),
            rqi: Some(true),
            ..Qer::default()
        }],
        ..SessionRequest::default()
    };
    let plan = modified(&plan.session, &mut controller, request);
    let qer = plan.session.qer(QerId(1)).unwrap();
    assert_eq!(
        (
            qer.gate_uplink,
            qer.mbr.unwrap().downlink_kbps,
            qer.qfi.unwrap().0,
            qer.rqi
        ),
        (Gate::Closed, 2000, 9, true)
    );
    assert!(plan.session.urr(UrrId(1)).unwrap().method.duration);
    assert_eq!(plan.session.epoch, Epoch(3));
}

#[test]
fn an_ie_of_length_zero_in_an_update_removes_it() {
    let (session, mut controller) = established();
    let request = SessionRequest {
        update_pdrs: vec![Pdr {
            id: Some(2),
            removed: vec![ie::QER_ID, ie::URR_ID],
            ..Pdr::default()
        }],
        ..SessionRequest::default()
    };
    let plan = modified(&session, &mut controller, request);
    assert_eq!(
        (plan.session.pdrs[1].qers.len(), plan.session.pdrs[1].urrs.len()),
        (0, 0)
    );
    let precedence = Pdr {
        id: Some(2),
        removed: vec![ie::PRECEDENCE],
        ..Pdr::default()
    };
    let request = SessionRequest {
        update_pdrs: vec![precedence],
        ..SessionRequest::default()
    };
    let fault = modification_refused(request);
    assert_eq!(
        fault,
        (
            Cause::MandatoryIeIncorrect,
            Some(ie::PRECEDENCE),
            Some((RuleKind::Pdr, 2))
        )
    );
    let (cause, ie, _) = refused(|r| r.create_qers[0].removed = vec![ie::MBR]);
    assert_eq!((cause, ie), (Cause::InvalidLength, Some(ie::MBR)));
}

#[test]
fn a_handover_sends_an_end_marker_to_the_old_tunnel_only_if_asked_and_only_if_it_changes() {
    let (session, mut controller) = established();
    let path_switch = |teid, send_end_marker| SessionRequest {
        update_fars: vec![Far {
            id: Some(2),
            forwarding: Some(Forwarding {
                outer_header_creation: Some(tunnel(teid)),
                send_end_marker,
                ..Forwarding::default()
            }),
            ..Far::default()
        }],
        ..SessionRequest::default()
    };
    let old = OuterHeaderCreation {
        teid: Teid(7),
        peer: IpAddr::V4(GNB),
    };
    assert_eq!(
        modified(&session, &mut controller, path_switch(8, true)).end_markers,
        [old]
    );
    assert_eq!(
        modified(&session, &mut controller, path_switch(8, false)).end_markers,
        []
    );
    assert_eq!(
        modified(&session, &mut controller, path_switch(7, true)).end_markers,
        []
    );
}

#[test]
fn buffered_packets_are_discarded_when_they_have_no_future() {
    let mut request = usual();
    request.create_fars[1].apply_action = Some(0x0c);
    let (plan, mut controller) = try_establish(&request).unwrap();
    let session = plan.session;
    assert_eq!(
        session.far(FarId(2)).unwrap().action.disposition,
        Disposition::Buffer { notify: true }
    );
    let action = |flags| SessionRequest {
        update_fars: vec![Far {
            id: Some(2),
            apply_action: Some(flags),
            ..Far::default()
        }],
        ..SessionRequest::default()
    };
    assert_eq!(modified(&session, &mut controller, action(0x02)).discard_buffered, []);
    assert_eq!(
        modified(&session, &mut controller, action(0x01)).discard_buffered,
        [FarId(2)]
    );
    let drobu = SessionRequest {
        drop_buffered: true,
        ..action(0x02)
    };
    assert_eq!(modified(&session, &mut controller, drobu).discard_buffered, [FarId(2)]);
}

#[test]
fn a_query_alone_leaves_rules_and_epoch_as_they_are() {
    let (session, mut controller) = established();
    let plan = modified(
        &session,
        &mut controller,
        SessionRequest {
            query_urrs: vec![1, 1],
            ..SessionRequest::default()
        },
    );
    assert_eq!((&plan.session, &plan.queried_urrs[..]), (&session, &[UrrId(1)][..]));
    let all = SessionRequest {
        query_all_urrs: true,
        create_urrs: vec![urr(2)],
        ..SessionRequest::default()
    };
    assert_eq!(modified(&session, &mut controller, all).queried_urrs, [UrrId(1)]);
}

#[test]
fn a_new_pdi_releases_what_it_no_longer_holds() {
    let (session, mut controller) = established();
    let mut pdr = downlink(2, 2);
    pdi(&mut pdr).network_instance = Some("ims".into());
    pdi(&mut pdr).framed_routes = vec!["198.51.100.0/24 10.45.0.2 1".into()];
    let request = SessionRequest {
        update_pdrs: vec![pdr],
        ..SessionRequest::default()
    };
    let plan = modified(&session, &mut controller, request);
    assert_eq!(plan.session.framed_routes, ["198.51.100.0/24".parse().unwrap()]);
    let again = SessionRequest {
        update_pdrs: vec![downlink(2, 2)],
        ..SessionRequest::default()
    };
    let plan = modified(&plan.session, &mut controller, again);
    assert!(plan.session.framed_routes.is_empty() && controller.routes.is_empty());
    let choose_anew = uplink(1, Some(choose(None)), 1);
    let plan = modified(
        &plan.session,
        &mut controller,
        SessionRequest {
            update_pdrs: vec![choose_anew],
            ..SessionRequest::default()
        },
    );
    assert_eq!(
        (
            plan.updated_pdrs.len(),
            plan.created_pdrs.len(),
            controller.fteids.len()
        ),
        (1, 0, 1)
    );
}

#[test]
fn a_filter_named_by_its_id_alone_is_the_one_described_elsewhere() {
    let described = SdfFilter {
        filter_id: Some(3),
        ..flow("permit out 6 from any 443 to assigned")
    };
    let named = SdfFilter {
        filter_id: Some(3),
        ..SdfFilter::default()
    };
    let mut request = usual();
    pdi(&mut request.create_pdrs[0]).sdf_filters = vec![named.clone()];
    pdi(&mut request.create_pdrs[1]).sdf_filters = vec![described];
    let (plan, mut controller) = try_establish(&request).unwrap();
    assert_eq!(plan.session.pdrs[0].pdi.sdf, plan.session.pdrs[1].pdi.sdf);

    let mut pdr = downlink(2, 2);
    pdi(&mut pdr).sdf_filters = vec![SdfFilter {
        filter_id: Some(3),
        ..flow("permit out 17 from any to assigned")
    }];
    let plan = modified(
        &plan.session,
        &mut controller,
        SessionRequest {
            update_pdrs: vec![pdr],
            ..SessionRequest::default()
        },
    );
    assert_eq!(
        plan.session.pdrs[0].pdi.sdf[0].flow.as_ref().unwrap().protocol,
        Some(17)
    );
    assert_eq!(plan.session.pdrs[0].pdi.sdf, plan.session.pdrs[1].pdi.sdf);

    let (cause, ie, _) = refused(|r| pdi(&mut r.create_pdrs[0]).sdf_filters = vec![named]);
    assert_eq!(
        (cause, ie),
        (Cause::RuleCreationModificationFailure, Some(ie::SDF_FILTER))
    );
}

#[test]
fn a_threshold_stays_until_it_is_replaced_and_cannot_go_before_its_trigger() {
    use upf_model::decoded::VolumeThreshold;
    use upf_model::validate::Cause;
    let (session, mut controller) = established();
    let update = |urr: Urr| SessionRequest {
        update_urrs: vec![Urr { id: Some(1), ..urr }],
        ..SessionRequest::default()
    };
    let uplink = VolumeThreshold {
        uplink: Some(500),
        ..VolumeThreshold::default()
    };
    let armed = update(Urr {
        reporting_triggers: Some(0x02),
        volume_threshold: Some(uplink),
        ..Urr::default()
    });
    let plan = modified(&session, &mut controller, armed);
    let threshold = plan.session.urrs[0].reporting.volume_threshold_in_force().unwrap();
    assert!(threshold.is_reached_by(500, 0) && !threshold.is_reached_by(499, 9_000));
    let removal = update(Urr {
        removed: vec![ie::VOLUME_THRESHOLD],
        ..Urr::default()
    });
    let refusal = modify(&mut controller, &plan.session, &removal).unwrap_err();
    assert_eq!(
        (refusal.cause, refusal.offending_ie),
        (Cause::ConditionalIeMissing, Some(ie::VOLUME_THRESHOLD))
    );
    let disarmed = update(Urr {
        reporting_triggers: Some(0),
        ..Urr::default()
    });
    let plan = modified(&plan.session, &mut controller, disarmed);
    assert_eq!(plan.session.urrs[0].reporting.volume_threshold_in_force(), None);
}
