//! What effects do to the rules of a session, and what they leave alone.

mod fixture;

use fixture::*;
use upf_model::{BitRates, Gate, PdrId, Precedence, QerId, Qfi, Session};

/// Identifiers of derived PDRs begin here.
const DERIVED: u16 = 1 << 15;

/// The session under one policy that always acts.
fn under(policy: &str) -> Session {
    let mut engine = engine(&format!("policies:\n- name: p\n{policy}"), &[1]);
    effective(&mut engine, 1, 0)
}

#[test]
fn an_effect_on_all_that_use_a_qer_changes_it_in_place() {
    let session = under("  apply_to: {qfis: [9]}\n  effects: {queue: 2, qfi: 7}");
    assert_eq!(session.qers.len(), 3);
    assert_eq!(session.qer(QerId(1)).unwrap().scheduling.queue, 2);
    assert_eq!(session.qer(QerId(1)).unwrap().qfi, Some(Qfi(7)));
    assert_eq!(session.pdrs, fixture::session(1).pdrs);
}

#[test]
fn an_effect_on_one_of_those_that_share_a_qer_does_not_reach_the_others() {
    let session = under("  apply_to: {pdrs: [2]}\n  effects: {queue: 6, gate: {downlink: closed}}");
    assert_eq!(first_qer(&session, 1), &fixture::session(1).qers[0]);
    let own = first_qer(&session, 2);
    assert_ne!(own.id.0 & 1 << 31, 0, "from the UP function's range");
    assert_eq!(
        (own.scheduling.queue, own.gate_downlink, own.qfi),
        (6, Gate::Closed, Some(Qfi(9)))
    );
    assert_eq!(own.mbr, fixture::session(1).qers[0].mbr);
    let qers = &session.pdrs.iter().find(|pdr| pdr.id == PdrId(2)).unwrap().qers;
    assert_eq!(qers[1], QerId(3), "the session's QER stays");
}

#[test]
fn a_pdr_without_a_qer_of_its_flow_gets_one_beside_the_sessions() {
    let mut base = session(1);
    for pdr in &mut base.pdrs {
        pdr.qers.retain(|id| *id == QerId(3));
    }
    let mut engine = engine(
        "policies: [{name: p, apply_to: {pdrs: [1, 2]}, effects: {queue: 4}}]",
        &[1],
    );
    let decision = engine.decide(base.id, &base, 0);
    let session = laid_over(&base, &decision).session;
    let own = first_qer(&session, 1);
    assert_eq!((own.scheduling.queue, own.mbr, own.qfi), (4, None, None));
    assert_eq!(own.id, first_qer(&session, 2).id, "both directions share it");
    assert_eq!(first_qer(&session, 3), &base.qers[2]);
    assert_eq!(session.qer(QerId(3)), base.qer(QerId(3)));
}

#[test]
fn session_ambr_is_a_share_of_the_sessions_qer() {
    let session = under("  effects: {session_ambr_percent: 25}");
    let quarter = BitRates {
        uplink_kbps: 2_500,
        downlink_kbps: 2_500,
    };
    assert_eq!(session.qer(QerId(3)).unwrap().mbr, Some(quarter));
    assert_eq!(session.qers[..2], fixture::session(1).qers[..2]);
}

#[test]
fn dscp_marks_a_copy_of_the_far_unless_all_that_use_it_agree() {
    let session = under("  apply_to: {pdrs: [4]}\n  effects: {dscp: 46}");
    let far_of = |id: u16| {
        session
            .far(session.pdrs.iter().find(|p| p.id == PdrId(id)).unwrap().far)
            .unwrap()
    };
    let marking = |id: u16| far_of(id).forwarding.as_ref().unwrap().transport_level_marking;
    assert_eq!(marking(4), Some((46 << 2, 0xfc)));
    assert_ne!(far_of(4).id.0 & 1 << 31, 0);
    assert_eq!(marking(2), None);
    assert_eq!(session.fars.len(), 3);

    let session = under("  apply_to: {direction: downlink}\n  effects: {dscp: 46}");
    assert_eq!(session.fars.len(), 2);
    assert_eq!(session.pdrs, fixture::session(1).pdrs);
}

#[test]
fn precedence_moves_pdrs_absolutely_or_relatively() {
    let order = |session: Session| {
        session
            .pdrs
            .iter()
            .map(|p| (p.id.0, p.precedence.0))
            .collect::<Vec<_>>()
    };
    let session = under("  apply_to: {qfis: [9]}\n  effects: {precedence: {absolute: 10}}");
    assert_eq!(order(session), [(1, 10), (2, 10), (3, 100), (4, 100)]);
    let session = under("  apply_to: {pdrs: [2]}\n  effects: {precedence: {relative: -150}}");
    assert_eq!(order(session), [(2, 50), (3, 100), (4, 100), (1, 200)]);
}

#[test]
fn a_flow_without_a_pdr_gets_derived_ones_directly_above_their_origins() {
    let flow = "permit out 17 from 203.0.113.5 5060 to assigned";
    let session = under(&format!(
        "  apply_to: {{flow: {flow:?}}}\n  effects: {{queue: 7, mbr: {{uplink_kbps: 100, downlink_kbps: 200}}}}"
    ));
    let order: Vec<(u16, u32)> = session
        .pdrs
        .iter()
        .map(|p| (p.id.0.min(DERIVED), p.precedence.0))
        .collect();
    // DNS is another port: nothing of PDRs 3 and 4 is in the flow. PDR 1 makes room between itself and PDR 2.
    assert_eq!(
        order,
        [(3, 100), (4, 100), (DERIVED, 198), (1, 199), (DERIVED, 199), (2, 200)]
    );
}

#[test]
fn both_directions_of_a_flow_share_one_qer_and_its_origin_keeps_its_own() {
    let flow = "permit out 17 from 203.0.113.5 5060 to assigned";
    let session = under(&format!(
        "  apply_to: {{flow: {flow:?}}}\n  effects: {{gbr: {{uplink_kbps: 64, downlink_kbps: 64}}}}"
    ));
    let derived: Vec<_> = session.pdrs.iter().filter(|pdr| pdr.id.0 >= DERIVED).collect();
    assert_eq!(derived.len(), 2);
    assert_eq!(derived[0].qers, derived[1].qers);
    assert_eq!(derived[0].qers[1], QerId(3));
    assert_eq!(first_qer(&session, 1), &fixture::session(1).qers[0]);
}

#[test]
fn a_flow_that_has_a_pdr_of_its_own_needs_no_other() {
    let dns = "permit out 17 from any 53 to assigned";
    let session = under(&format!(
        "  apply_to: {{qfis: [5], flow: {dns:?}}}\n  effects: {{queue: 3}}"
    ));
    assert_eq!(session.pdrs, fixture::session(1).pdrs);
    assert_eq!(session.qer(QerId(2)).unwrap().scheduling.queue, 3);
}

#[test]
fn where_there_is_no_room_above_a_pdr_the_others_make_room_in_their_order() {
    let mut base = session(1);
    for (i, pdr) in base.pdrs.iter_mut().enumerate() {
        pdr.precedence = Precedence(i as u32);
    }
    let flow = "permit out 6 from any 80 to assigned";
    let text = format!("policies: [{{name: p, apply_to: {{flow: {flow:?}}}, effects: {{queue: 3}}}}]");
    let mut engine = engine(&text, &[1]);
    let decision = engine.decide(base.id, &base, 0);
    let overlaid = laid_over(&base, &decision);
    let order: Vec<u16> = overlaid
        .session
        .pdrs
        .iter()
        .map(|p| p.id.0)
        .filter(|id| *id < DERIVED)
        .collect();
    assert_eq!(order, [3, 4, 1, 2]);
    let origins: Vec<PdrId> = overlaid
        .session
        .pdrs
        .iter()
        .filter_map(|pdr| {
            overlaid
                .derived
                .iter()
                .find(|(id, _)| *id == pdr.id)
                .map(|(_, origin)| *origin)
        })
        .collect();
    assert_eq!(origins, [PdrId(1), PdrId(2)]);
}

#[test]
fn identifiers_stay_while_other_policies_come_and_go() {
    let ids = |policies: &str| {
        let mut engine = engine(policies, &[1]);
        let session = effective(&mut engine, 1, 0);
        let derived = session.pdrs.iter().find(|p| {
            p.pdi
                .sdf
                .iter()
                .any(|f| f.flow.as_ref().is_some_and(|r| r.protocol == Some(6)))
        });
        derived.map(|pdr| (pdr.id, pdr.qers[0])).unwrap()
    };
    let a = r#"{name: a, apply_to: {direction: uplink, flow: "permit out 6 from any 80 to assigned"}, effects: {queue: 3}}"#;
    let b = r#"{name: b, apply_to: {flow: "permit out 17 from any 80 to assigned"}, effects: {queue: 4, dscp: 10}}"#;
    let alone = ids(&format!("policies: [{a}]"));
    assert_eq!(ids(&format!("policies: [{b}, {a}]")), alone);
    assert_eq!(ids(&format!("policies: [{a}, {b}]")), alone);
}

#[test]
fn the_table_of_queues_is_the_lowest_layer() {
    let mut engine = engine(
        "queues: {9: 1, 5: 5}\npolicies: [{name: p, apply_to: {qfis: [5]}, effects: {queue: 6}}]",
        &[1],
    );
    let session = effective(&mut engine, 1, 0);
    let queues: Vec<u8> = session.qers.iter().map(|qer| qer.scheduling.queue).collect();
    assert_eq!(queues, [1, 6, 0]);
}

#[test]
fn a_decision_made_for_other_rules_is_laid_over_what_it_can_be() {
    let flow = "permit out 17 from 203.0.113.5 5060 to assigned";
    let text = format!(
        "policies:
- {{name: a, apply_to: {{flow: {flow:?}, pdrs: [2, 3]}}, effects: {{queue: 7, dscp: 46}}}}
- {{name: b, apply_to: {{pdrs: [3]}}, effects: {{precedence: {{absolute: 1}}, session_ambr_percent: 10}}}}
queues: {{5: 4}}"
    );
    let mut engine = engine(&text, &[1]);
    let decision = engine.decide(session(1).id, &session(1), 0);
    let mut base = session(1);
    base.pdrs.retain(|pdr| pdr.id != PdrId(3));
    base.pdrs
        .iter_mut()
        .for_each(|pdr| pdr.qers.retain(|id| *id == QerId(1)));
    base.qers.retain(|qer| qer.id == QerId(1));
    let session = laid_over(&base, &decision).session;
    assert_eq!(session.pdrs.len(), base.pdrs.len() + 1, "the flow of PDR 2");
    assert_eq!(laid_over(&Session::default(), &decision).session, Session::default());
}
