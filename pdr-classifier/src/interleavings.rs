//! The publication protocol under loom: what a reader sees of keys, entries and orders while the writer changes them, in
//! every interleaving with a few preemptions and everything that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pdr-classifier --lib`. The whole table runs, over loom's atomics; each
//! entry has a witness that loom watches: whoever finds an entry must see all that was written into it, and nobody may
//! look at one that has been freed. The index has one bucket of four cells to begin with, so that keys meet in it.

use crate::{InterfaceSet, PacketFields, PdrMatch, Reader, SessionKey, Table, Writer};
use loom::thread;
use upf_model::{EndpointId, Interface, NetworkInstanceId, Precedence, SessionId, Teid};

const NI: NetworkInstanceId = NetworkInstanceId(0);

fn key(teid: u32) -> SessionKey {
    SessionKey::FTeid {
        endpoint: EndpointId(0),
        teid: Teid(teid),
    }
}

/// A rule that takes everything of that tunnel.
fn rule(teid: u32, precedence: u32) -> PdrMatch {
    PdrMatch {
        precedence: Precedence(precedence),
        source_interface: Interface::Access,
        network_instance: NI,
        tunnel: vec![key(teid)],
        ue: Vec::new(),
        qfis: 0,
        application: None,
        sdf: Vec::new(),
        ethernet: Vec::new(),
    }
}

fn packet() -> PacketFields {
    PacketFields::v4([192, 0, 2, 1].into(), [10, 0, 0, 1].into(), 6, 0)
        .arrived(InterfaceSet::of(&[Interface::Access]), NI)
}

fn put(writer: &mut Writer<u32>, teid: u32, precedences: [u32; 2], payload: u32) {
    let rules = precedences.map(|precedence| rule(teid, precedence));
    let put = writer.put(SessionId(teid), &[key(teid)], &[], &rules, payload);
    assert!(put.is_ok(), "{put:?}");
}

/// Which rule and which payload the reader sees of a session, in a burst of its own; if `batch`, by vectors.
fn look(reader: &mut Reader<u32>, teid: u32, batch: bool) -> Option<(Option<u32>, u32)> {
    let guard = reader.enter();
    if !batch {
        return guard
            .session(key(teid))
            .map(|found| (found.classify(&packet()), *found.payload()));
    }
    let mut detections = [Default::default()];
    guard.detect(&[key(teid)], |_| &PACKET, &mut detections);
    let [detection] = detections;
    detection.session.map(|found| (detection.rule, *found.payload()))
}

static PACKET: std::sync::LazyLock<PacketFields> = std::sync::LazyLock::new(packet);

/// Runs `change` beside `read`, on a table that `prepare` has made, in every interleaving.
fn check(
    prepare: fn(&mut Writer<u32>),
    change: fn(&mut Writer<u32>),
    read: impl Fn(&mut Reader<u32>) + Send + Sync + Copy + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 20_000;
    model.check(move || {
        let (table, mut writer) = Table::new();
        prepare(&mut writer);
        let mut reader = table.register();
        let reading = thread::spawn(move || read(&mut reader));
        change(&mut writer);
        reading.join().expect("the reader ends");
    });
}

#[test]
fn a_new_session_is_found_whole_or_not_at_all_and_its_neighbours_all_the_time() {
    check(
        |writer| put(writer, 1, [5, 4], 10),
        |writer| put(writer, 2, [4, 5], 20),
        |reader| {
            assert!(matches!(look(reader, 2, false), None | Some((Some(0), 20))));
            assert_eq!(look(reader, 1, true), Some((Some(1), 10)));
        },
    );
}

#[test]
fn rules_and_payload_are_replaced_as_one_and_never_come_back() {
    check(
        |writer| put(writer, 1, [5, 4], 10),
        |writer| put(writer, 1, [4, 5], 11),
        |reader| {
            let [first, second] = [false, true].map(|batch| look(reader, 1, batch));
            let (old, new) = (Some((Some(1), 10)), Some((Some(0), 11)));
            assert!(first == old || first == new);
            assert!(second == new || first == old && second == old);
        },
    );
}

#[test]
fn a_rule_is_replaced_alone_and_the_order_with_it() {
    check(
        |writer| put(writer, 1, [5, 4], 10),
        |writer| {
            assert!(writer.replace_rule(SessionId(1), 0, &rule(1, 3)).is_ok());
            assert!(writer.set_precedence(SessionId(1), 0, Precedence(9)));
        },
        |reader| {
            let seen = [false, true].map(|batch| look(reader, 1, batch));
            assert!(seen.iter().all(|seen| matches!(seen, Some((Some(0 | 1), 10)))));
        },
    );
}

#[test]
fn a_precedence_changes_in_one_store() {
    check(
        |writer| put(writer, 1, [5, 4], 10),
        |writer| assert!(writer.set_precedence(SessionId(1), 0, Precedence(3))),
        |reader| {
            let seen = [(); 2].map(|()| look(reader, 1, false).and_then(|(rule, _)| rule));
            assert!(
                matches!(seen, [Some(0), Some(0)] | [Some(1), Some(0 | 1)]),
                "the new order after the old one: {seen:?}"
            );
        },
    );
}

#[test]
fn a_cell_that_is_used_again_never_leads_a_key_to_another_session() {
    check(
        |writer| put(writer, 1, [5, 4], 10),
        |writer| {
            assert!(writer.remove(SessionId(1)).is_some());
            writer.try_reclaim();
            put(writer, 2, [4, 5], 20);
        },
        |reader| {
            assert!(matches!(look(reader, 1, true), None | Some((Some(1), 10))));
            assert!(matches!(look(reader, 2, false), None | Some((Some(0), 20))));
        },
    );
}

#[test]
fn no_session_is_missed_while_the_index_grows() {
    check(
        |writer| [1, 2].into_iter().for_each(|teid| put(writer, teid, [5, 4], teid)),
        |writer| {
            // Two of four cells are all that may be used: it grows, and moves what it may.
            put(writer, 3, [5, 4], 3);
            writer.try_reclaim();
            writer.try_reclaim();
        },
        |reader| {
            assert_eq!(look(reader, 1, false), Some((Some(1), 1)));
            assert_eq!(look(reader, 2, true), Some((Some(1), 2)));
        },
    );
}

#[test]
fn a_large_set_turns_to_other_precedences_in_one_store() {
    const RULES: u32 = 17;
    check(
        |writer| {
            let rules: Vec<PdrMatch> = (0..RULES).map(|number| rule(1, 10 + number)).collect();
            let put = writer.put(SessionId(1), &[key(1)], &[], &rules, 10);
            assert!(put.is_ok(), "{put:?}");
        },
        |writer| {
            for precedence in [3, 2] {
                assert!(writer.set_precedence(SessionId(1), 5, Precedence(precedence)));
            }
        },
        |reader| {
            let seen = [(); 2].map(|()| look(reader, 1, false).and_then(|(rule, _)| rule));
            assert!(matches!(seen, [Some(5), Some(5)] | [Some(0), Some(0 | 5)]), "{seen:?}");
        },
    );
}
