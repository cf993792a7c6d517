//! Which requests are refused, with which cause, offending IE and failed rule.

mod controller;

use controller::requests::*;
use controller::scenario::*;
use controller::{Controller, IMS, INTERNET, fteid_key, ue_key};
use upf_model::decoded::{Bar, FTeid, Far, Forwarding, Pdi, Qer, SdfFilter, SessionRequest, UeIp};
use upf_model::validate::{Cause, RuleKind, establish};
use upf_model::{Interface, LocalFTeid, Seid, SessionId, Teid, UeIpAddress, UrrId, ie};

#[test]
fn mandatory_ies_are_missed_by_type() {
    use Cause::MandatoryIeMissing as Missing;
    assert_eq!(
        refused(|r| r.create_pdrs.clear()),
        (Missing, Some(ie::CREATE_PDR), None)
    );
    assert_eq!(
        refused(|r| r.create_fars.clear()),
        (Missing, Some(ie::CREATE_FAR), None)
    );
    assert_eq!(
        refused(|r| r.create_pdrs[0].id = None),
        (Missing, Some(ie::PDR_ID), None)
    );
    let pdr = Some((RuleKind::Pdr, 1));
    assert_eq!(
        refused(|r| r.create_pdrs[0].precedence = None),
        (Missing, Some(ie::PRECEDENCE), pdr)
    );
    assert_eq!(refused(|r| r.create_pdrs[0].pdi = None), (Missing, Some(ie::PDI), pdr));
    assert_eq!(
        refused(|r| pdi(&mut r.create_pdrs[0]).source_interface = None),
        (Missing, Some(ie::SOURCE_INTERFACE), pdr)
    );
    let far = Some((RuleKind::Far, 1));
    assert_eq!(
        refused(|r| r.create_fars[0].apply_action = None),
        (Missing, Some(ie::APPLY_ACTION), far)
    );
    assert_eq!(
        refused(|r| r.create_fars[0].forwarding.as_mut().unwrap().destination_interface = None),
        (Missing, Some(ie::DESTINATION_INTERFACE), far)
    );
    assert_eq!(
        refused(|r| r.create_qers[0].gate_status = None),
        (Missing, Some(ie::GATE_STATUS), Some((RuleKind::Qer, 1)))
    );
    let urr = Some((RuleKind::Urr, 1));
    assert_eq!(
        refused(|r| r.create_urrs[0].measurement_method = None),
        (Missing, Some(ie::MEASUREMENT_METHOD), urr)
    );
    assert_eq!(
        refused(|r| r.create_urrs[0].reporting_triggers = None),
        (Missing, Some(ie::REPORTING_TRIGGERS), urr)
    );
    assert_eq!(
        refused(|r| r.create_bars.push(Bar::default())),
        (Missing, Some(ie::BAR_ID), None)
    );
}

#[test]
fn conditional_ies_are_missed_where_the_circumstances_demand_them() {
    use Cause::ConditionalIeMissing as Missing;
    let pdr = Some((RuleKind::Pdr, 1));
    assert_eq!(
        refused(|r| r.create_pdrs[0].far_id = None),
        (Missing, Some(ie::FAR_ID), pdr)
    );
    assert_eq!(
        refused(|r| r.create_pdrs[0].outer_header_removal = None),
        (Missing, Some(ie::OUTER_HEADER_REMOVAL), pdr)
    );
    assert_eq!(
        refused(|r| pdi(&mut r.create_pdrs[0]).local_fteid = None),
        (Missing, Some(ie::F_TEID), pdr)
    );
    assert_eq!(
        refused(|r| pdi(&mut r.create_pdrs[1]).ue_ips.clear()),
        (Missing, Some(ie::UE_IP_ADDRESS), Some((RuleKind::Pdr, 2)))
    );
    let far = Some((RuleKind::Far, 1));
    assert_eq!(
        refused(|r| r.create_fars[0].forwarding = None),
        (Missing, Some(ie::FORWARDING_PARAMETERS), far)
    );
    assert_eq!(
        refused(|r| r.create_fars[0].apply_action = Some(0x12)),
        (Missing, Some(ie::DUPLICATING_PARAMETERS), far)
    );
}

#[test]
fn a_reference_that_does_not_resolve_fails_the_rule_that_makes_it() {
    use Cause::RuleCreationModificationFailure as Failure;
    let pdr = Some((RuleKind::Pdr, 2));
    assert_eq!(
        refused(|r| r.create_pdrs[1].far_id = Some(9)),
        (Failure, Some(ie::FAR_ID), pdr)
    );
    assert_eq!(
        refused(|r| r.create_pdrs[1].qer_ids = vec![1, 9]),
        (Failure, Some(ie::QER_ID), pdr)
    );
    assert_eq!(
        refused(|r| r.create_pdrs[1].urr_ids = vec![9]),
        (Failure, Some(ie::URR_ID), pdr)
    );
    assert_eq!(
        refused(|r| r.create_fars[1].bar_id = Some(9)),
        (Failure, Some(ie::BAR_ID), Some((RuleKind::Far, 2)))
    );
}

#[test]
fn identifiers_are_created_once_and_must_exist_to_be_updated_or_removed() {
    use Cause::RuleCreationModificationFailure as Failure;
    let failed = |kind, ie, id| (Failure, Some(ie), Some((kind, id)));
    assert_eq!(
        refused(|r| r.create_pdrs.push(downlink(2, 2))),
        failed(RuleKind::Pdr, ie::PDR_ID, 2)
    );
    assert_eq!(
        refused(|r| r.create_fars.push(to_core(1))),
        failed(RuleKind::Far, ie::FAR_ID, 1)
    );
    assert_eq!(
        refused(|r| r.create_qers.push(qer(1))),
        failed(RuleKind::Qer, ie::QER_ID, 1)
    );
    assert_eq!(
        refused(|r| r.create_urrs.push(urr(1))),
        failed(RuleKind::Urr, ie::URR_ID, 1)
    );
    let r = SessionRequest::default;
    assert_eq!(
        modification_refused(SessionRequest {
            create_fars: vec![to_core(2)],
            ..r()
        }),
        failed(RuleKind::Far, ie::FAR_ID, 2)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            update_fars: vec![to_core(3)],
            ..r()
        }),
        failed(RuleKind::Far, ie::FAR_ID, 3)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            update_qers: vec![qer(3)],
            ..r()
        }),
        failed(RuleKind::Qer, ie::QER_ID, 3)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            remove_pdrs: vec![3],
            ..r()
        }),
        failed(RuleKind::Pdr, ie::PDR_ID, 3)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            remove_urrs: vec![1, 1],
            ..r()
        }),
        failed(RuleKind::Urr, ie::URR_ID, 1)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            remove_bars: vec![1],
            ..r()
        }),
        failed(RuleKind::Bar, ie::BAR_ID, 1)
    );
    assert_eq!(
        modification_refused(SessionRequest {
            query_urrs: vec![2],
            ..r()
        }),
        failed(RuleKind::Urr, ie::URR_ID, 2)
    );
}

#[test]
fn values_the_standard_does_not_allow_are_incorrect() {
    use Cause::MandatoryIeIncorrect as Incorrect;
    let in_pdr = |ie, change: fn(&mut Pdi)| {
        assert_eq!(
            refused(|r| change(pdi(&mut r.create_pdrs[0]))),
            (Incorrect, Some(ie), Some((RuleKind::Pdr, 1))),
            "IE {ie}"
        );
    };
    in_pdr(ie::SOURCE_INTERFACE, |p| p.source_interface = Some(5));
    in_pdr(ie::QFI, |p| p.qfis = vec![9, 64]);
    in_pdr(ie::F_TEID, |p| p.local_fteid = Some(given(0)));
    in_pdr(ie::F_TEID, |p| {
        p.local_fteid = Some(FTeid {
            ipv4: Some(GNB),
            ..given(1)
        })
    });
    in_pdr(ie::F_TEID, |p| p.local_fteid = Some(FTeid { ipv4: None, ..given(1) }));
    in_pdr(ie::F_TEID, |p| {
        p.local_fteid = Some(FTeid {
            v4: false,
            ..choose(None)
        })
    });
    in_pdr(ie::F_TEID, |p| {
        p.local_fteid = Some(FTeid {
            teid: 3,
            ..choose(None)
        })
    });
    in_pdr(ie::SDF_FILTER, |p| p.sdf_filters = vec![SdfFilter::default()]);
    in_pdr(ie::SDF_FILTER, |p| p.sdf_filters = vec![flow("permit out ip from any")]);
    in_pdr(ie::SDF_FILTER, |p| {
        p.sdf_filters = vec![SdfFilter {
            flow_label: Some(0x10_0000),
            ..SdfFilter::default()
        }]
    });
    in_pdr(ie::UE_IP_ADDRESS, |p| p.ue_ips = vec![UeIp::default()]);
    in_pdr(ie::UE_IP_ADDRESS, |p| p.ue_ips[0].choose_v4 = true);
    in_pdr(ie::UE_IP_ADDRESS, |p| p.ue_ips[0].ipv4 = Some([0; 4].into()));
    in_pdr(ie::UE_IP_ADDRESS, |p| p.ue_ips[0].ipv6_prefix_length = Some(56));
    in_pdr(ie::FRAMED_ROUTE, |p| p.framed_routes = vec!["2001:db8::/32".into()]);
    in_pdr(ie::FRAMED_IPV6_ROUTE, |p| {
        p.framed_ipv6_routes = vec!["somewhere".into()]
    });

    let in_far = |ie, change: fn(&mut Far)| {
        let fault = (Incorrect, Some(ie), Some((RuleKind::Far, 2)));
        assert_eq!(refused(|r| change(&mut r.create_fars[1])), fault, "IE {ie}");
    };
    for flags in [0x00, 0x03, 0x06, 0x0a, 0x09] {
        let fault = (Incorrect, Some(ie::APPLY_ACTION), Some((RuleKind::Far, 2)));
        assert_eq!(
            refused(|r| r.create_fars[1].apply_action = Some(flags)),
            fault,
            "flags {flags:#x}"
        );
    }
    in_far(ie::DESTINATION_INTERFACE, |f| {
        f.forwarding.as_mut().unwrap().destination_interface = Some(6)
    });
    in_far(ie::OUTER_HEADER_CREATION, |f| {
        f.forwarding.as_mut().unwrap().outer_header_creation = Some(tunnel(0))
    });

    let in_qer = |ie, change: fn(&mut Qer)| {
        let fault = (Incorrect, Some(ie), Some((RuleKind::Qer, 1)));
        assert_eq!(refused(|r| change(&mut r.create_qers[0])), fault, "IE {ie}");
    };
    in_qer(ie::GATE_STATUS, |q| q.gate_status = Some(0b0010));
    in_qer(ie::GATE_STATUS, |q| q.gate_status = Some(0b1100));
    in_qer(ie::QFI, |q| q.qfi = Some(64));
    in_qer(ie::PAGING_POLICY_INDICATOR, |q| q.ppi = Some(8));
    in_qer(ie::GBR, |q| (q.mbr, q.gbr) = (Some((100, 100)), Some((100, 101))));
    assert_eq!(
        refused(|r| r.create_urrs[0].measurement_method = Some(0xf8)),
        (Incorrect, Some(ie::MEASUREMENT_METHOD), Some((RuleKind::Urr, 1)))
    );
    assert_eq!(
        refused(|r| r.create_pdrs[1].outer_header_removal = Some((0, None))),
        (Incorrect, Some(ie::OUTER_HEADER_REMOVAL), Some((RuleKind::Pdr, 2)))
    );
    assert_eq!(
        refused(|r| r.create_pdrs[0].outer_header_removal = Some((1, None))),
        (Incorrect, Some(ie::OUTER_HEADER_REMOVAL), Some((RuleKind::Pdr, 1)))
    );
}

#[test]
fn what_is_not_supported_is_refused_rather_than_ignored() {
    use Cause::ServiceNotSupported as Unsupported;
    assert_eq!(
        refused(|r| r.unsupported = vec![ie::CREATE_MAR]),
        (Unsupported, Some(ie::CREATE_MAR), None)
    );
    let pdr = Some((RuleKind::Pdr, 1));
    assert_eq!(
        refused(|r| r.create_pdrs[0].unsupported = vec![106]),
        (Unsupported, Some(106), pdr)
    );
    assert_eq!(
        refused(|r| pdi(&mut r.create_pdrs[0]).unsupported = vec![24]),
        (Unsupported, Some(24), pdr)
    );
    assert_eq!(
        refused(|r| r.create_pdrs[0].outer_header_removal = Some((7, None))),
        (Unsupported, Some(ie::OUTER_HEADER_REMOVAL), pdr)
    );
    let far = Some((RuleKind::Far, 2));
    assert_eq!(
        refused(|r| r.create_fars[1].unsupported = vec![38]),
        (Unsupported, Some(38), far)
    );
    for flags in [0x22, 0x82, 0x0104, 0x0204, 0x0402, 0x14] {
        assert_eq!(
            refused(|r| r.create_fars[1].apply_action = Some(flags)),
            (Unsupported, Some(ie::APPLY_ACTION), far),
            "flags {flags:#x}"
        );
    }
    let forwarding =
        |r: &mut SessionRequest, change: fn(&mut Forwarding)| change(r.create_fars[1].forwarding.as_mut().unwrap());
    assert_eq!(
        refused(|r| forwarding(r, |f| f.destination_interface = Some(4))),
        (Unsupported, Some(ie::DESTINATION_INTERFACE), far)
    );
    for description in [0x0000, 0x0101, 0x0300, 0x0400, 0x4000] {
        assert_eq!(
            refused(|r| {
                let tunnel = r.create_fars[1]
                    .forwarding
                    .as_mut()
                    .unwrap()
                    .outer_header_creation
                    .as_mut()
                    .unwrap();
                tunnel.description = description;
            }),
            (Unsupported, Some(ie::OUTER_HEADER_CREATION), far),
            "description {description:#x}"
        );
    }
    let urr = Some((RuleKind::Urr, 1));
    assert_eq!(
        refused(|r| r.create_urrs[0].unsupported = vec![33]),
        (Unsupported, Some(33), urr)
    );
    assert_eq!(
        refused(|r| r.create_urrs[0].reporting_triggers = Some(0x10)),
        (Unsupported, Some(ie::REPORTING_TRIGGERS), urr)
    );
    assert_eq!(
        refused(|r| r.create_urrs[0].measurement_information = Some(0x02)),
        (Unsupported, Some(ie::MEASUREMENT_INFORMATION), urr)
    );
}

#[test]
fn limits_are_refused_as_lack_of_resources() {
    use Cause::NoResourcesAvailable as Resources;
    let (cause, ie, _) = refused(|r| {
        pdi(&mut r.create_pdrs[1]).sdf_filters = vec![flow("permit out ip from any to assigned"); 65];
    });
    assert_eq!((cause, ie), (Resources, Some(ie::SDF_FILTER)));
    assert_eq!(
        refused(|r| r.create_pdrs.extend((3..=1025).map(|id| downlink(id, 2)))),
        (Resources, Some(ie::CREATE_PDR), Some((RuleKind::Pdr, 1025)))
    );
    let duplicating = vec![to_core(1).forwarding.unwrap(); 5];
    let (cause, ie, _) = refused(|r| r.create_fars[0].duplicating = duplicating);
    assert_eq!((cause, ie), (Resources, Some(ie::DUPLICATING_PARAMETERS)));
}

#[test]
fn an_empty_pool_has_its_own_cause() {
    let mut controller = Controller::new();
    controller.teids_left = 0;
    let refusal = establish(&mut controller, SessionId(1), Seid(1), &usual()).unwrap_err();
    assert_eq!(
        (refusal.cause, refusal.offending_ie),
        (Cause::NoResourcesAvailable, Some(ie::F_TEID))
    );

    let mut controller = Controller::new();
    controller.ue_ips_left = 0;
    let mut request = usual();
    pdi(&mut request.create_pdrs[1]).ue_ips = vec![UeIp {
        choose_v4: true,
        ..UeIp::default()
    }];
    let refusal = establish(&mut controller, SessionId(1), Seid(1), &request).unwrap_err();
    assert_eq!(
        (refusal.cause, refusal.offending_ie),
        (Cause::AllDynamicAddressesAreOccupied, Some(ie::UE_IP_ADDRESS))
    );
}

#[test]
fn what_another_session_has_is_not_given_twice() {
    let fteid = LocalFTeid {
        teid: Teid(9),
        ipv4: Some(controller::N3_V4),
        ipv6: None,
    };
    let ue = UeIpAddress {
        ipv4: Some(UE),
        ipv6: None,
    };
    let mut request = usual();
    pdi(&mut request.create_pdrs[0]).local_fteid = Some(given(9));
    for (key, rule, ie) in [
        (fteid_key(fteid), 1, ie::F_TEID),
        (ue_key(INTERNET, ue), 2, ie::UE_IP_ADDRESS),
    ] {
        let mut controller = Controller::new();
        controller.taken.insert(key);
        let refusal = establish(&mut controller, SessionId(1), Seid(1), &request).unwrap_err();
        let fault = fault(refusal);
        assert_eq!(
            fault,
            (
                Cause::RuleCreationModificationFailure,
                Some(ie),
                Some((RuleKind::Pdr, rule))
            )
        );
    }
    // The same UE address in another network is another UE.
    let mut controller = Controller::new();
    controller.taken.insert(ue_key(IMS, ue));
    establish(&mut controller, SessionId(1), Seid(1), &request).unwrap();
}

#[test]
fn a_far_cannot_go_while_a_pdr_needs_it_but_a_qer_leaves_its_pdrs() {
    let remove_far = SessionRequest {
        remove_fars: vec![2],
        ..SessionRequest::default()
    };
    assert_eq!(
        modification_refused(remove_far),
        (
            Cause::RuleCreationModificationFailure,
            Some(ie::REMOVE_FAR),
            Some((RuleKind::Far, 2))
        )
    );
    let (session, mut controller) = established();
    let both = SessionRequest {
        remove_fars: vec![2],
        remove_pdrs: vec![2],
        ..SessionRequest::default()
    };
    assert_eq!(modified(&session, &mut controller, both).session.pdrs.len(), 1);

    let (session, mut controller) = established();
    let rules = SessionRequest {
        remove_qers: vec![1],
        remove_urrs: vec![1],
        ..SessionRequest::default()
    };
    let plan = modified(&session, &mut controller, rules);
    assert!(
        plan.session
            .pdrs
            .iter()
            .all(|pdr| pdr.qers.is_empty() && pdr.urrs.is_empty())
    );
    assert_eq!(plan.removed_urrs, [UrrId(1)]);
}

#[test]
fn an_unknown_network_instance_fails_the_rule() {
    let (cause, ie, rule) = refused(|r| pdi(&mut r.create_pdrs[1]).network_instance = Some("nowhere".into()));
    assert_eq!(
        (cause, ie, rule),
        (
            Cause::RuleCreationModificationFailure,
            Some(ie::NETWORK_INSTANCE),
            Some((RuleKind::Pdr, 2))
        )
    );
    let (_, ie, rule) = refused(|r| r.create_fars[0].forwarding.as_mut().unwrap().network_instance = Some("x".into()));
    assert_eq!((ie, rule), (Some(ie::NETWORK_INSTANCE), Some((RuleKind::Far, 1))));
}

#[test]
fn interfaces_count_differently_as_source_and_as_destination() {
    assert_eq!(Interface::from_value(4), Some(Interface::VnInternal));
    assert_eq!(Interface::from_destination_value(5), Some(Interface::VnInternal));
    assert_eq!(Interface::from_destination_value(4), None);
}

#[test]
fn a_refusal_tells_people_what_was_expected_and_found() {
    let mut request = usual();
    request.create_qers[0].qfi = Some(64);
    assert_eq!(
        try_establish(&request).unwrap_err().to_string(),
        "mandatory IE incorrect (69), QER 1, IE 124: expected 0 to 63, found 64"
    );
}
