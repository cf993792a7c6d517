//! What the builders make of names and values, and what they refuse.

use p4runtime::entity;
use p4runtime::entry::{ActionCall, Matched};
use p4runtime::p4info::{MatchKind, MeterType, MeterUnit};
use p4runtime::v1;
use p4runtime::v1::field_match::FieldMatchType;
use p4runtime::{EntryError, EntryView, P4Info, P4InfoError, TableEntry, Value};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

fn info() -> P4Info {
    P4Info::from_text(include_str!("program/small.p4info.txt")).expect("the test's P4Info is valid")
}

fn session(info: &P4Info) -> TableEntry<'_> {
    TableEntry::new(info, "sessions")
        .match_exact("teid", 0x1234u32)
        .match_exact("address", Ipv4Addr::new(10, 0, 0, 1))
        .action("forward")
        .param("mac", [2, 0, 0, 0, 0, 1])
        .param("port", 511u16)
}

#[test]
fn objects_are_found_by_name_alias_and_id() {
    let info = info();
    for id in [info.table("ingress.acl"), info.table("acl"), info.table(0x0200_0002u32)] {
        let table = id.expect("found");
        assert_eq!(table.preamble.name, "ingress.acl");
        assert!(table.needs_priority());
        assert_eq!(table.match_field("port").expect("field").kind, MatchKind::Range);
    }
    let sessions = info.table("sessions").expect("found");
    assert_eq!(
        sessions.direct_meter,
        Some((MeterUnit::Bytes, MeterType::TwoRateThreeColor))
    );
    assert!(sessions.direct_counter.is_some() && sessions.idle_timeout && sessions.size == 1024);
    let error = info.table("nothing").expect_err("there is no such table");
    assert_eq!(error.to_string(), "the P4Info has no table \"nothing\"");
}

#[test]
fn binary_and_text_p4info_say_the_same() {
    use prost::Message;
    let info = info();
    let again = P4Info::from_binary(&info.message().encode_to_vec()).expect("valid");
    assert_eq!(again.message(), info.message());
}

#[test]
fn an_entry_has_canonical_values_in_the_order_of_ids() {
    let entry = session(&info())
        .idle_timeout(Duration::from_secs(2))
        .metadata([7])
        .build()
        .expect("valid");
    let values: Vec<_> = entry
        .r#match
        .iter()
        .map(|field| (field.field_id, field.field_match_type.clone()))
        .collect();
    let exact = |value: &[u8]| Some(FieldMatchType::Exact(v1::field_match::Exact { value: value.to_vec() }));
    assert_eq!(values, [(1, exact(&[10, 0, 0, 1])), (2, exact(&[0x12, 0x34]))]);
    assert_eq!(
        (entry.idle_timeout_ns, entry.metadata.as_slice()),
        (2_000_000_000, [7].as_slice())
    );
    let Some(v1::table_action::Type::Action(action)) = entry.action.and_then(|action| action.r#type) else {
        panic!("a direct action");
    };
    assert_eq!(
        action.params[0],
        v1::action::Param {
            param_id: 1,
            value: vec![1, 0xff]
        }
    );
    assert_eq!(
        action.params[1],
        v1::action::Param {
            param_id: 2,
            value: vec![2, 0, 0, 0, 0, 1]
        }
    );
}

#[test]
fn matches_of_everything_are_left_out_and_bits_that_do_not_matter_are_cleared() {
    let info = info();
    let entry = TableEntry::new(&info, "acl")
        .priority(10)
        .match_lpm("prefix", Ipv4Addr::new(10, 1, 2, 3), 16)
        .match_ternary("dscp", 0x3fu8, 0u8)
        .match_range("port", 0u16, u16::MAX)
        .action("forward")
        .param("port", 1u8)
        .param("mac", 0u8)
        .build()
        .expect("valid");
    assert_eq!(entry.r#match.len(), 1);
    let view = EntryView::new(&info, &entry).expect("it is of this P4Info");
    assert_eq!(
        view.field("prefix"),
        Some(&Matched::Prefix(Value::from(0x0a01_0000u32), 16))
    );
    assert_eq!(
        view.to_string(),
        "ingress.acl prefix=0x0a010000/16 priority=10 -> ingress.forward(port=0x01, mac=0x00)"
    );
}

#[test]
fn a_value_too_wide_for_its_field_is_refused_by_name() {
    let info = info();
    let error = TableEntry::new(&info, "sessions")
        .match_exact("teid", 1u64 << 32)
        .build()
        .expect_err("33 bits");
    assert_eq!(
        error.to_string(),
        "0x0100000000 does not fit the 32 bits of ingress.sessions.teid"
    );
    let error = session(&info)
        .action("forward")
        .param("port", 512u16)
        .build()
        .expect_err("10 bits");
    assert!(matches!(error, EntryError::TooWide { width: 9, .. }));
}

#[test]
fn what_p4info_does_not_allow_is_refused() {
    let info = info();
    let refused = |entry: TableEntry<'_>| entry.build().expect_err("not allowed");
    assert!(matches!(
        refused(session(&info).match_exact("port", 1u8)),
        EntryError::UnknownField { .. }
    ));
    assert!(matches!(
        refused(session(&info).match_exact("teid", 1u8)),
        EntryError::Times { times: 2, .. }
    ));
    assert!(matches!(
        refused(session(&info).match_lpm("teid", 1u8, 3)),
        EntryError::WrongKind { .. }
    ));
    assert!(matches!(
        refused(session(&info).priority(1)),
        EntryError::Priority { needed: false, .. }
    ));
    assert!(matches!(
        refused(session(&info).action("NoAction")),
        EntryError::ActionNotAllowed { .. }
    ));
    assert!(matches!(
        refused(session(&info).action("forward")),
        EntryError::Times { times: 0, .. }
    ));
    assert!(matches!(
        refused(session(&info).member(1)),
        EntryError::NoResource { .. }
    ));
    assert!(matches!(
        refused(TableEntry::new(&info, "sessions").match_exact(1, 1u8)),
        EntryError::NoAction { .. }
    ));
    assert!(matches!(
        refused(TableEntry::new(&info, "nothing")),
        EntryError::P4Info(P4InfoError::Unknown { .. })
    ));
    let acl = || {
        TableEntry::new(&info, "acl")
            .action("forward")
            .param("port", 1u8)
            .param("mac", 1u8)
    };
    assert!(matches!(refused(acl()), EntryError::Priority { needed: true, .. }));
    assert!(matches!(
        refused(acl().priority(1).match_range("port", 2u8, 1u8)),
        EntryError::Match { .. }
    ));
    assert!(matches!(
        refused(acl().priority(1).match_lpm("prefix", 0u8, 33)),
        EntryError::Match { .. }
    ));
    assert!(matches!(
        refused(acl().priority(1).idle_timeout(Duration::from_secs(1))),
        EntryError::NoResource {
            what: "idle timeout",
            ..
        }
    ));
}

#[test]
fn default_actions_are_modified_without_match() {
    let info = info();
    let entry = TableEntry::default_of(&info, "sessions")
        .action("NoAction")
        .build()
        .expect("valid");
    assert!(entry.is_default_action && entry.r#match.is_empty());
    assert!(
        TableEntry::default_of(&info, "sessions")
            .build()
            .expect("a reset")
            .action
            .is_none()
    );
}

#[test]
fn a_one_shot_set_keeps_weights_and_ports() {
    let info = info();
    let hop = |entry: TableEntry<'static>, port: u8| entry.action("forward").param("port", port).param("mac", port);
    let info: &'static P4Info = Box::leak(Box::new(info));
    let entry = TableEntry::new(info, "routes")
        .match_lpm("destination", 0u8, 0)
        .one_shot();
    let entry = hop(hop(entry, 1).weight(3), 2).watch_port(2u8).build().expect("valid");
    let Some(v1::table_action::Type::ActionProfileActionSet(set)) = entry.action.and_then(|action| action.r#type)
    else {
        panic!("a set");
    };
    let weights: Vec<_> = set.action_profile_actions.iter().map(|action| action.weight).collect();
    assert_eq!(weights, [3, 1]);
    let port = v1::action_profile_action::WatchKind::WatchPort(vec![2]);
    assert_eq!(set.action_profile_actions[1].watch_kind, Some(port));
}

#[test]
fn other_entities_are_made_from_names() {
    let info = info();
    let call = ActionCall::new(&info, "forward").param("port", 1u8).param("mac", 1u8);
    assert_eq!(
        entity::member(&info, "hops", 7, call).expect("valid").action_profile_id,
        0x1100_0001
    );
    let group = entity::group(&info, "hops", 1, [(7, 2), (8, 1)]).expect("valid");
    assert_eq!(
        group.members.iter().map(|member| member.weight).collect::<Vec<_>>(),
        [2, 1]
    );
    let cell = entity::counter(&info, "count", Some(3), None).expect("valid");
    assert_eq!(
        (cell.counter_id, cell.index),
        (0x1200_0001, Some(v1::Index { index: 3 }))
    );
    assert!(entity::register(&info, "count", None, None).is_err());
    assert!(entity::value_set(&info, "ports", [vec![Value::from(80u16)]]).is_ok());
    assert!(entity::value_set(&info, "ports", [vec![]]).is_err());
    let out = entity::packet_metadata(
        &info,
        "packet_out",
        &[("egress_port", 3u8.into()), ("_pad", 0u8.into())],
    );
    assert_eq!(
        out.expect("valid")[0],
        v1::PacketMetadata {
            metadata_id: 1,
            value: vec![3]
        }
    );
    assert!(entity::packet_metadata(&info, "packet_out", &[("egress_port", 3u8.into())]).is_err());
}

#[test]
fn a_p4info_that_contradicts_itself_is_refused() {
    let refused = |text: &str| P4Info::from_text(text).expect_err("invalid");
    let table = r#"tables { preamble { id: 1 name: "t" } "#;
    assert!(matches!(
        refused(&format!("{table} }} {table} }}")),
        P4InfoError::Id { id: 1, .. }
    ));
    assert!(matches!(
        refused(&format!("{table} action_refs {{ id: 9 }} }}")),
        P4InfoError::Reference { id: 9, .. }
    ));
    assert!(matches!(
        refused(&format!("{table} size: -1 }}")),
        P4InfoError::Size { size: -1, .. }
    ));
    assert!(matches!(refused("tables { }"), P4InfoError::NoPreamble { .. }));
    let field = "match_fields { id: 1 bitwidth: -5 match_type: EXACT }";
    assert!(matches!(
        refused(&format!("{table} {field} }}")),
        P4InfoError::Width { width: -5, .. }
    ));
    assert!(matches!(
        refused(&format!("{table} match_fields {{ id: 1 }} }}")),
        P4InfoError::MatchKind { .. }
    ));
}

proptest! {
    #[test]
    fn every_field_survives_the_way_through_a_message(
        prefix in any::<u32>(), length in 0u32..=32, dscp in 0u8..64, mask in 0u8..64,
        ports in any::<(u16, u16)>(), protocol in any::<u8>(), priority in 1i32..,
    ) {
        let info = info();
        let (low, high) = (ports.0.min(ports.1), ports.0.max(ports.1));
        let entry = TableEntry::new(&info, "acl")
            .priority(priority)
            .match_lpm("prefix", prefix, length)
            .match_ternary("dscp", dscp, mask)
            .match_range("port", low, high)
            .match_optional("protocol", protocol)
            .key()
            .expect("valid");
        let view = EntryView::new(&info, &entry).expect("of this P4Info");
        let lpm_mask = Value::prefix_mask(length, 32).to_u128().expect("32 bits");
        let expected = (length > 0).then(|| Matched::Prefix((u128::from(prefix) & lpm_mask).into(), length));
        prop_assert_eq!(view.field("prefix"), expected.as_ref());
        let expected = (mask > 0).then(|| Matched::Masked((dscp & mask).into(), mask.into()));
        prop_assert_eq!(view.field("dscp"), expected.as_ref());
        let expected = ((low, high) != (0, u16::MAX)).then(|| Matched::Range(low.into(), high.into()));
        prop_assert_eq!(view.field("port"), expected.as_ref());
        prop_assert_eq!(view.number("protocol"), Some(protocol.into()));
    }
}
