//! Tables: what each match kind matches, what wins, and what the controller may do with entries.

mod program;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use p4_switch::control::{
    ActionProfileGroup, ActionProfileMember, ControlError, CounterData, Entity, Event, FieldMatch, GroupMember,
    MeterConfig, Query, TableAction, TableEntry, Update, WeightedAction,
};
use program::{Loaded, exact, load, lpm, range, ternary};

/// A packet for table `which`.
fn packet(which: u8, a: u16, b: u32, wide: u128) -> Vec<u8> {
    let mut bytes = vec![which, 0];
    bytes.extend(a.to_be_bytes());
    bytes.extend(b.to_be_bytes());
    bytes.extend(wide.to_be_bytes());
    bytes
}

/// What table `which` wrote.
fn result(loaded: &Loaded, which: u8, a: u16, b: u32) -> u8 {
    let outputs = loaded.inject(0, &packet(which, a, b, 0));
    assert_eq!(outputs.len(), 1);
    outputs[0].bytes[1]
}

#[test]
fn exact_fields_match_whole_and_count() {
    let loaded = load("tables");
    let entry = loaded.entry("exact_t", &[exact(5), exact(6)], 0, "counted", &[42]);
    loaded.insert(Entity::TableEntry(entry.clone()));
    assert_eq!(result(&loaded, 0, 5, 6), 42);
    assert_eq!(result(&loaded, 0, 5, 7), 0);
    assert_eq!(result(&loaded, 0, 6, 5), 0);
    let found = loaded.read(&Query::TableEntry {
        table: entry.table,
        key: entry.key.clone(),
        priority: 0,
    });
    let [Entity::TableEntry(read)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(read.counter_data, Some(CounterData { packets: 1, bytes: 24 }));
    assert_eq!(read.action, entry.action);
}

#[test]
fn direct_meters_color_packets() {
    let loaded = load("tables");
    let mut entry = loaded.entry("exact_t", &[exact(5), exact(6)], 0, "counted", &[1]);
    entry.meter_config = Some(MeterConfig {
        cir: 1,
        cburst: 1,
        pir: 2,
        pburst: 2,
    });
    loaded.insert(Entity::TableEntry(entry));
    let sent = |n: usize| {
        (0..n)
            .map(|_| loaded.inject(0, &packet(0, 5, 6, 0)).len())
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(3), [1, 1, 0]);
    loaded.switch.advance(Duration::from_secs(1));
    assert_eq!(sent(3), [1, 1, 0]);
}

#[test]
fn wide_keys_and_arguments_keep_all_their_bits() {
    let loaded = load("tables");
    let (key, value) = (
        0xfedc_ba98_7654_3210_0123_4567_89ab_cdef,
        0x8000_0000_0000_0001_7fff_ffff_ffff_fffe,
    );
    let entry = loaded.entry("wide_t", &[exact(key)], 0, "set_wide", &[value]);
    loaded.insert(Entity::TableEntry(entry));
    assert_eq!(
        loaded.inject(0, &packet(1, 0, 0, key))[0].bytes[8..],
        value.to_be_bytes()
    );
    assert_eq!(
        loaded.inject(0, &packet(1, 0, 0, key ^ 1 << 64))[0].bytes[8..],
        (key ^ 1 << 64).to_be_bytes()
    );
}

#[test]
fn the_longest_prefix_wins_and_the_default_takes_the_rest() {
    let loaded = load("tables");
    for (prefix, len, value) in [
        (0x0a00_0000, 8, 1),
        (0x0a0b_0000, 16, 2),
        (0x0a0b_0c0d, 32, 3),
        (0, 0, 4),
    ] {
        let entry = loaded.entry("lpm_t", &[exact(1), lpm(prefix, len)], 0, "set", &[value]);
        loaded.insert(Entity::TableEntry(entry));
    }
    assert_eq!(result(&loaded, 2, 1, 0x0a01_0101), 1);
    assert_eq!(result(&loaded, 2, 1, 0x0a0b_0101), 2);
    assert_eq!(result(&loaded, 2, 1, 0x0a0b_0c0d), 3);
    assert_eq!(result(&loaded, 2, 1, 0x0b0b_0c0d), 4);
    assert_eq!(result(&loaded, 2, 2, 0x0a0b_0c0d), 99);
    let table = loaded.table("lpm_t");
    let other = TableEntry::default_entry(table, Some(loaded.call(table, "set", &[50])));
    loaded.modify(Entity::TableEntry(other));
    assert_eq!(result(&loaded, 2, 2, 0), 50);
    loaded.modify(Entity::TableEntry(TableEntry::default_entry(table, None)));
    assert_eq!(result(&loaded, 2, 2, 0), 99);
}

#[test]
fn the_highest_priority_wins_whatever_the_masks() {
    let loaded = load("tables");
    let rules = [
        (ternary(0x1200, 0xff00), FieldMatch::Any, 10, 1),
        (ternary(0x1234, 0xffff), FieldMatch::Any, 5, 2),
        (FieldMatch::Any, ternary(7, 0xff), 20, 3),
        (ternary(0x1200, 0xff00), ternary(8, 0xff), 15, 4),
    ];
    for (a, b, priority, value) in rules {
        let entry = loaded.entry("ternary_t", &[a, b], priority, "set", &[value]);
        loaded.insert(Entity::TableEntry(entry));
    }
    assert_eq!(result(&loaded, 3, 0x1234, 0), 1);
    assert_eq!(result(&loaded, 3, 0x1234, 7), 3);
    assert_eq!(result(&loaded, 3, 0x1234, 8), 4);
    assert_eq!(result(&loaded, 3, 0x0000, 8), 0);
    let gone = loaded.entry(
        "ternary_t",
        &[ternary(0x1200, 0xff00), FieldMatch::Any],
        10,
        "set",
        &[1],
    );
    assert_eq!(loaded.write(Update::Delete(Entity::TableEntry(gone))), Ok(()));
    assert_eq!(result(&loaded, 3, 0x1234, 0), 2);
}

#[test]
fn equal_matches_of_different_priorities_are_different_entries() {
    let loaded = load("tables");
    for (priority, value) in [(1, 1), (3, 3), (2, 2)] {
        let entry = loaded.entry(
            "ternary_t",
            &[ternary(1, 1), FieldMatch::Any],
            priority,
            "set",
            &[value],
        );
        loaded.insert(Entity::TableEntry(entry));
    }
    for (value, priority) in [(3, 3), (2, 2), (1, 1)] {
        assert_eq!(result(&loaded, 3, 1, 0), value);
        let entry = loaded.entry("ternary_t", &[ternary(1, 1), FieldMatch::Any], priority, "set", &[0]);
        assert_eq!(loaded.write(Update::Delete(Entity::TableEntry(entry))), Ok(()));
    }
    assert_eq!(result(&loaded, 3, 1, 0), 0);
}

#[test]
fn ranges_include_their_bounds_and_optional_fields_may_be_left_out() {
    let loaded = load("tables");
    for (a, b, priority, value) in [
        (range(10, 20), FieldMatch::Any, 1, 1),
        (range(15, 15), FieldMatch::Any, 2, 2),
        (range(0, 0xffff), exact(9), 3, 3),
    ] {
        let entry = loaded.entry("range_t", &[a, b], priority, "set", &[value]);
        loaded.insert(Entity::TableEntry(entry));
    }
    let results: Vec<u8> = [9, 10, 15, 20, 21].iter().map(|a| result(&loaded, 4, *a, 0)).collect();
    assert_eq!(results, [0, 1, 2, 1, 0]);
    assert_eq!(result(&loaded, 4, 21, 9), 3);
}

#[test]
fn constant_entries_keep_the_order_of_the_program_and_cannot_be_changed() {
    let loaded = load("tables");
    let results: Vec<u8> = [0x1100, 0x1200, 0x2000, 0x3000]
        .iter()
        .map(|a| result(&loaded, 6, *a, 0))
        .collect();
    assert_eq!(results, [1, 1, 3, 7]);
    let entry = loaded.entry("const_t", &[ternary(0x4000, 0xf000)], 1, "set", &[1]);
    let refused = loaded.write(Update::Insert(Entity::TableEntry(entry)));
    assert!(matches!(refused, Err(ControlError::Constant(_))));
    let table = loaded.table("const_t");
    let default = TableEntry::default_entry(table, Some(loaded.call(table, "set", &[1])));
    let refused = loaded.write(Update::Modify(Entity::TableEntry(default)));
    assert!(matches!(refused, Err(ControlError::Constant(_))));
    assert_eq!(loaded.read(&Query::TableEntries { table: Some(table) }).len(), 3);
}

fn members(loaded: &Loaded, values: &[u128]) -> p4_switch::control::ActionProfileId {
    let table = loaded.table("selected_t");
    let profile = loaded.info.tables[table.index()].action_profile.unwrap();
    for (i, value) in values.iter().enumerate() {
        let call = loaded.call(table, "set", &[*value]);
        loaded.insert(Entity::ActionProfileMember(ActionProfileMember {
            profile,
            member: i as u32 + 1,
            call,
        }));
    }
    profile
}

#[test]
fn a_group_spreads_flows_over_its_members_by_weight() {
    let loaded = load("tables");
    let profile = members(&loaded, &[10, 20]);
    let weighted = |member, weight| GroupMember {
        member,
        weight,
        watch_port: None,
    };
    let group = ActionProfileGroup {
        profile,
        group: 1,
        members: vec![weighted(1, 3), weighted(2, 1)],
        max_size: 0,
    };
    loaded.insert(Entity::ActionProfileGroup(group));
    let entry = TableEntry::new(loaded.table("selected_t"), vec![exact(1)], 0, TableAction::Group(1));
    loaded.insert(Entity::TableEntry(entry));
    let results: Vec<u8> = (0..1000u32)
        .map(|b| result(&loaded, 7, 1, b.wrapping_mul(2_654_435_761)))
        .collect();
    let tens = results.iter().filter(|r| **r == 10).count();
    assert!((650..850).contains(&tens), "{tens} of 1000");
    assert_eq!(results.iter().filter(|r| **r == 20).count(), 1000 - tens);
    // The same flow always goes the same way.
    let again: Vec<u8> = (0..50u32)
        .map(|b| result(&loaded, 7, 1, b.wrapping_mul(2_654_435_761)))
        .collect();
    assert_eq!(results[..50], again);
    // A table with an action profile has no default action in BMv2: a miss does nothing.
    assert_eq!(result(&loaded, 7, 2, 0), 0);
}

#[test]
fn what_is_referred_to_cannot_be_deleted() {
    let loaded = load("tables");
    let profile = members(&loaded, &[10]);
    let table = loaded.table("selected_t");
    let entry = TableEntry::new(table, vec![exact(1)], 0, TableAction::Member(1));
    loaded.insert(Entity::TableEntry(entry.clone()));
    assert_eq!(result(&loaded, 7, 1, 0), 10);
    let call = loaded.call(table, "set", &[11]);
    let member = ActionProfileMember {
        profile,
        member: 1,
        call,
    };
    loaded.modify(Entity::ActionProfileMember(member.clone()));
    assert_eq!(result(&loaded, 7, 1, 0), 11);
    let delete = || loaded.write(Update::Delete(Entity::ActionProfileMember(member.clone())));
    assert!(matches!(delete(), Err(ControlError::InUse(..))));
    assert_eq!(loaded.write(Update::Delete(Entity::TableEntry(entry))), Ok(()));
    assert_eq!(delete(), Ok(()));
    let dangling = TableEntry::new(table, vec![exact(1)], 0, TableAction::Member(1));
    assert!(matches!(
        loaded.write(Update::Insert(Entity::TableEntry(dangling))),
        Err(ControlError::NotFound(_))
    ));
}

#[test]
fn one_shot_groups_belong_to_their_entry() {
    let loaded = load("tables");
    let table = loaded.table("selected_t");
    let shot = |value: u128| {
        let call = loaded.call(table, "set", &[value]);
        TableAction::OneShot(vec![WeightedAction {
            call,
            weight: 2,
            watch_port: None,
        }])
    };
    let entry = TableEntry::new(table, vec![exact(1)], 0, shot(33));
    loaded.insert(Entity::TableEntry(entry.clone()));
    assert_eq!(result(&loaded, 7, 1, 0), 33);
    let found = loaded.read(&Query::TableEntries { table: Some(table) });
    assert!(matches!(&found[..], [Entity::TableEntry(e)] if e.action == entry.action));
    assert!(
        loaded
            .read(&Query::ActionProfileMembers {
                profile: None,
                member: None
            })
            .is_empty()
    );
    loaded.modify(Entity::TableEntry(TableEntry {
        action: Some(shot(34)),
        ..entry.clone()
    }));
    assert_eq!(result(&loaded, 7, 1, 0), 34);
    assert_eq!(loaded.write(Update::Delete(Entity::TableEntry(entry))), Ok(()));
    assert_eq!(result(&loaded, 7, 1, 0), 0);
}

#[test]
fn an_entry_that_nothing_hits_is_reported_once() {
    let loaded = load("tables");
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    loaded.switch.on_event(move |event| sink.lock().unwrap().push(event));
    let mut entry = loaded.entry("timed_t", &[exact(1)], 0, "set", &[1]);
    entry.idle_timeout = Duration::from_secs(1);
    loaded.insert(Entity::TableEntry(entry.clone()));
    let told = |time| {
        loaded.switch.advance(time);
        std::mem::take(&mut *events.lock().unwrap())
    };
    assert_eq!(told(Duration::from_millis(900)), []);
    assert_eq!(result(&loaded, 5, 1, 0), 1);
    assert_eq!(told(Duration::from_millis(900)), []);
    let events = told(Duration::from_millis(200));
    assert!(
        matches!(&events[..], [Event::IdleTimeout(e)] if e.len() == 1 && e[0].key == entry.key),
        "{events:?}"
    );
    assert_eq!(told(Duration::from_secs(5)), []);
}

#[test]
fn requests_that_make_no_sense_are_refused_and_change_nothing() {
    let loaded = load("tables");
    let entry = |key: &[FieldMatch], priority| loaded.entry("exact_t", key, priority, "counted", &[1]);
    let insert = |entry| loaded.write(Update::Insert(Entity::TableEntry(entry)));
    let invalid = |outcome: Result<(), ControlError>| {
        assert!(matches!(outcome, Err(ControlError::InvalidArgument(_))), "{outcome:?}")
    };
    invalid(insert(entry(&[exact(1)], 0)));
    invalid(insert(entry(&[exact(0x1_0000), exact(1)], 0)));
    invalid(insert(entry(&[FieldMatch::Any, exact(1)], 0)));
    invalid(insert(entry(&[exact(1), exact(1)], 5)));
    invalid(insert(loaded.entry(
        "ternary_t",
        &[FieldMatch::Any, FieldMatch::Any],
        0,
        "set",
        &[1],
    )));
    invalid(insert(loaded.entry(
        "ternary_t",
        &[ternary(3, 1), FieldMatch::Any],
        1,
        "set",
        &[1],
    )));
    invalid(insert(loaded.entry("lpm_t", &[exact(1), lpm(1, 8)], 0, "set", &[1])));
    invalid(insert(loaded.entry("lpm_t", &[exact(1), lpm(0, 33)], 0, "set", &[1])));
    invalid(insert(loaded.entry(
        "range_t",
        &[range(2, 1), FieldMatch::Any],
        1,
        "set",
        &[1],
    )));
    invalid(insert(loaded.entry("wide_t", &[exact(1)], 0, "set", &[256])));
    let mut none = entry(&[exact(1), exact(1)], 0);
    none.action = None;
    invalid(insert(none));
    let missing = loaded.write(Update::Delete(Entity::TableEntry(entry(&[exact(1), exact(1)], 0))));
    assert!(matches!(missing, Err(ControlError::NotFound(_))));
    assert_eq!(insert(entry(&[exact(1), exact(1)], 0)), Ok(()));
    assert!(matches!(
        insert(entry(&[exact(1), exact(1)], 0)),
        Err(ControlError::AlreadyExists(_))
    ));
    for i in 0..4 {
        assert_eq!(insert(loaded.entry("wide_t", &[exact(i)], 0, "set", &[1])), Ok(()));
    }
    let full = insert(loaded.entry("wide_t", &[exact(4)], 0, "set", &[1]));
    assert_eq!(
        full,
        Err(ControlError::ResourceExhausted("table TestIngress.wide_t".into(), 4))
    );
    assert_eq!(loaded.read(&Query::TableEntries { table: None }).len(), 3 + 1 + 4);
}

#[test]
fn an_atomic_batch_is_applied_whole_or_not_at_all() {
    let loaded = load("tables");
    let entry = |a: u128, value: u128| {
        Entity::TableEntry(loaded.entry("exact_t", &[exact(a), exact(0)], 0, "counted", &[value]))
    };
    loaded.insert(entry(1, 1));
    assert_eq!(result(&loaded, 0, 1, 0), 1);
    let before = loaded.read(&Query::TableEntries { table: None });
    let batch = [
        Update::Insert(entry(2, 2)),
        Update::Modify(entry(1, 9)),
        Update::Delete(entry(2, 2)),
        Update::Delete(entry(1, 1)),
        Update::Insert(entry(3, 3)),
        Update::Delete(entry(7, 7)),
    ];
    let error = loaded.switch.write_atomic(&batch).unwrap_err();
    assert_eq!(error.index, 5);
    assert_eq!(loaded.read(&Query::TableEntries { table: None }), before);
    assert_eq!(result(&loaded, 0, 1, 0), 1);
    assert_eq!(loaded.switch.write_atomic(&batch[..5]), Ok(()));
    assert_eq!((result(&loaded, 0, 1, 0), result(&loaded, 0, 3, 0)), (0, 3));
}

#[test]
fn entries_read_back_as_they_were_written() {
    let loaded = load("tables");
    let mut entries = vec![
        loaded.entry("exact_t", &[exact(1), exact(0xffff_ffff)], 0, "counted", &[1]),
        loaded.entry("lpm_t", &[exact(0), lpm(0x8000_0000, 1)], 0, "set", &[2]),
        loaded.entry("lpm_t", &[exact(0), FieldMatch::Any], 0, "set", &[2]),
        loaded.entry("ternary_t", &[ternary(0x10, 0xf0), FieldMatch::Any], 4, "set", &[3]),
        // p4c's JSON says ternary of optional fields.
        loaded.entry("range_t", &[range(1, 2), ternary(3, 0xffff_ffff)], 5, "set", &[0]),
        loaded.entry("timed_t", &[exact(0)], 0, "NoAction", &[]),
    ];
    entries[5].metadata = vec![1, 2, 3];
    entries[5].idle_timeout = Duration::from_secs(3);
    entries[0].counter_data = Some(CounterData { packets: 5, bytes: 6 });
    for entry in &entries {
        loaded.insert(Entity::TableEntry(entry.clone()));
    }
    for entry in &entries {
        let query = Query::TableEntry {
            table: entry.table,
            key: entry.key.clone(),
            priority: entry.priority,
        };
        let found = loaded.read(&query);
        let [Entity::TableEntry(read)] = &found[..] else {
            panic!("{found:?}")
        };
        let mut read = read.clone();
        read.time_since_last_hit = None;
        assert_eq!(read, *entry);
    }
}

#[test]
fn packets_in_bursts_have_the_same_fate_in_the_same_order_as_alone() {
    let loaded = load("tables");
    for a in 0..800 {
        loaded.insert(Entity::TableEntry(loaded.entry(
            "timed_t",
            &[exact(3 * a)],
            0,
            "set",
            &[a % 256],
        )));
    }
    let packets: Vec<Vec<u8>> = (0..500).map(|i| packet(5, i * 7 % 2400, i as u32, i as u128)).collect();
    let alone: Vec<Vec<u8>> = packets.iter().map(|p| loaded.inject(0, p).remove(0).bytes).collect();
    let burst: Vec<(u32, &[u8])> = packets.iter().map(|p| (0, p.as_slice())).collect();
    let mut together = Vec::new();
    p4_switch::ports::memory::MemoryPorts::default().run(&loaded.switch, &burst, |port, bytes| {
        assert_eq!(port, 1);
        together.push(bytes.to_vec());
    });
    assert_eq!(together, alone);
}
