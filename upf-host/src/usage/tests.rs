use super::*;
use upf_model::{Action, BitRates, Far, FarId, Interface, MeasurementMethod, NetworkInstanceId, Pdi, Precedence, Urr};

const PDR: PdrId = PdrId(1);

fn urr(id: u32, before_qos: bool) -> Urr {
    Urr {
        id: UrrId(id),
        method: MeasurementMethod {
            volume: true,
            duration: false,
            event: false,
        },
        before_qos,
        reporting: Default::default(),
    }
}

fn qer(id: u32) -> Qer {
    Qer {
        id: QerId(id),
        correlation_id: None,
        gate_uplink: Gate::Open,
        gate_downlink: Gate::Open,
        mbr: Some(BitRates {
            uplink_kbps: 1,
            downlink_kbps: 1,
        }),
        gbr: None,
        qfi: None,
        rqi: false,
        ppi: None,
        averaging_window_ms: None,
        scheduling: Default::default(),
    }
}

/// One uplink PDR that forwards, with these QERs and URRs.
fn session(qers: &[u32], urrs: &[Urr]) -> Session {
    Session {
        pdrs: vec![Pdr {
            id: PDR,
            precedence: Precedence(1),
            pdi: Pdi {
                source_interface: Interface::Access,
                network_instance: NetworkInstanceId(0),
                local_fteid: None,
                ue_ip: None,
                framed_routes: Vec::new(),
                sdf: Vec::new(),
                qfis: Vec::new(),
            },
            outer_header_removal: None,
            far: FarId(1),
            qers: qers.iter().map(|&id| QerId(id)).collect(),
            urrs: urrs.iter().map(|urr| urr.id).collect(),
        }],
        fars: vec![Far {
            id: FarId(1),
            action: Action {
                disposition: Disposition::Forward,
                duplicate: false,
            },
            forwarding: None,
            duplicating: Vec::new(),
            bar: None,
        }],
        qers: qers.iter().map(|&id| qer(id)).collect(),
        urrs: urrs.to_vec(),
        ..Session::default()
    }
}

/// A ledger at its first version, and that version's lines.
fn ledger(session: &Session, lcores: usize) -> (Ledger, SessionCounters, Lines) {
    let mut ledger = Ledger::default();
    let (counters, lines) = next(&mut ledger, None, session, lcores);
    (ledger, counters, lines)
}

fn next(ledger: &mut Ledger, before: Option<&Session>, session: &Session, lcores: usize) -> (SessionCounters, Lines) {
    let fitted = ledger.fit(before, session, lcores);
    let (counters, lines) = (fitted.counters.clone(), fitted.lines(PDR));
    ledger.adopt(before, session, fitted);
    (counters, lines.unwrap_or(Lines { start: 0, each: 1 }))
}

const ONE: Count = Count { packets: 1, bytes: 100 };

#[test]
fn one_line_counts_for_the_pdr_its_qers_and_its_urrs() {
    let session = session(&[1, 2], &[urr(1, false), urr(2, false)]);
    let (ledger, counters, lines) = ledger(&session, 2);
    let line = counters.line(lines, 1);
    line.detected(100);
    line.passed(100, 7);
    let usage = ledger.usage(&session);
    assert_eq!(usage.pdrs[0].1, ONE);
    assert!(
        usage
            .qers
            .iter()
            .all(|(_, qer)| qer.passed == ONE && qer.policed == Count::default())
    );
    assert!(
        usage
            .urrs
            .iter()
            .all(|(_, urr)| urr.uplink == ONE && urr.first_packet_ns == 7)
    );
}

#[test]
fn each_rate_has_its_own_refusals_whatever_stands_between() {
    let session = session(&[1, 2, 3, 4, 5, 6], &[urr(1, true)]);
    let (ledger, counters, lines) = ledger(&session, 2);
    for lcore in 0..2 {
        counters.offered(lines, lcore, 100, 7);
        for rate in 0..6 {
            (0..=rate).for_each(|_| counters.over_rate(lines, lcore, true, rate, 10));
        }
    }
    let usage = ledger.usage(&session);
    let policed: Vec<u64> = usage.qers.iter().map(|(_, qer)| qer.policed.packets).collect();
    assert_eq!(policed, [2, 4, 6, 8, 10, 12]);
    assert_eq!(usage.urrs[0].1.uplink.packets, 2);
}

#[test]
fn refusals_are_the_gates_while_it_is_closed() {
    let open = session(&[1], &[]);
    let mut closed = open.clone();
    closed.qers[0].gate_uplink = Gate::Closed;
    let (mut ledger, counters, lines) = ledger(&open, 1);
    counters.over_rate(lines, 0, false, 0, 100);
    let (counters, lines) = next(&mut ledger, Some(&open), &closed, 1);
    counters.line(lines, 0).refused(100);
    let usage = ledger.usage(&closed).qers[0].1;
    assert_eq!((usage.gated, usage.policed), (ONE, ONE));
}

#[test]
fn counts_survive_lines_that_were_outgrown_and_late_packets_count() {
    let (small, large) = (
        session(&[], &[urr(1, false)]),
        session(&[], &[urr(1, false), urr(2, false)]),
    );
    let (mut ledger, old, at) = ledger(&small, 2);
    old.line(at, 1).passed(100, 1);
    let (new, lines) = next(&mut ledger, Some(&small), &large, 2);
    assert!(!Arc::ptr_eq(&old.0, &new.0));
    new.line(lines, 0).passed(50, 2);
    old.line(at, 0).passed(1, 3);
    let expected = Count { packets: 3, bytes: 151 };
    assert_eq!(ledger.usage(&large).urrs[0].1.uplink, expected);
    assert_eq!(ledger.usage(&large).urrs[1].1.uplink, Count { packets: 1, bytes: 50 });
    ledger.settle();
    assert_eq!(ledger.usage(&large).urrs[0].1.uplink, expected);
}

#[test]
fn a_rule_that_was_removed_and_made_again_starts_from_zero() {
    let (with, without) = (session(&[1], &[urr(1, false)]), session(&[1], &[]));
    for settles in [false, true] {
        let (mut ledger, counters, lines) = ledger(&with, 1);
        counters.line(lines, 0).passed(100, 1);
        next(&mut ledger, Some(&with), &without, 1);
        if settles {
            ledger.settle();
        }
        next(&mut ledger, Some(&without), &with, 1);
        assert_eq!(ledger.usage(&with).urrs[0].1, UrrUsage::default());
        assert_eq!(ledger.usage(&with).qers[0].1.passed, ONE, "it stayed");
    }
}

#[test]
fn precedences_tunnels_and_rates_leave_the_lines_as_they_are() {
    let before = session(&[1], &[urr(1, false)]);
    let mut after = before.clone();
    after.pdrs[0].precedence = Precedence(9);
    after.qers[0].mbr.as_mut().unwrap().uplink_kbps = 2;
    after.fars[0].action.disposition = Disposition::Buffer { notify: true };
    let (mut ledger, counters, _) = ledger(&before, 1);
    assert!(Arc::ptr_eq(
        &counters.0,
        &next(&mut ledger, Some(&before), &after, 1).0.0
    ));
    after.fars[0].action.disposition = Disposition::Drop; // what passes is not the URRs' any more
    assert!(!Arc::ptr_eq(
        &counters.0,
        &next(&mut ledger, Some(&before), &after, 1).0.0
    ));
}

#[test]
fn first_and_last_packet_times_are_over_all_lcores() {
    let session = session(&[], &[urr(1, false)]);
    let (ledger, counters, lines) = ledger(&session, 2);
    for (lcore, time) in [(0, 20), (1, 10), (1, 30)] {
        counters.line(lines, lcore).passed(1, time);
    }
    let usage = ledger.usage(&session).urrs[0].1;
    assert_eq!((usage.first_packet_ns, usage.last_packet_ns), (10, 30));
}
