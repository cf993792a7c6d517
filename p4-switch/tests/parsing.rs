//! Parsing and deparsing: stacks, unions, varbits, look-ahead, value sets, errors; and whatever bytes may come.

mod program;

use p4_switch::control::{Entity, FieldMatch, ValueSetEntry, ValueSetId};
use program::{exact, load};
use proptest::prelude::*;

fn out(bytes: &[u8]) -> Vec<u8> {
    let loaded = load("parsing");
    let outputs = loaded.inject(0, bytes);
    assert_eq!(outputs.len(), 1);
    outputs[0].bytes.clone()
}

#[test]
fn a_stack_takes_as_many_elements_as_it_has() {
    assert_eq!(out(&[1, 0, 0, 0, 0x11, 64, 0xee]), [1, 0, 0, 0, 0x11, 64, 0xee]);
    assert_eq!(
        out(&[1, 0, 0, 0, 0x10, 64, 0, 0, 0x21, 65]),
        [1, 0, 0, 0, 0x10, 64, 0, 0, 0x21, 65]
    );
    let four = [1, 0, 0, 0, 0x10, 1, 0, 0, 0x10, 2, 0, 0, 0x10, 3, 0, 0, 0x11, 4];
    let mut expected = four;
    expected[1] = 0x82;
    assert_eq!(out(&four), expected);
}

#[test]
fn elements_move_when_a_stack_is_popped_or_pushed() {
    assert_eq!(out(&[1, 0, 0, 0, 0x0e, 1, 0, 0, 0x21, 65]), [1, 0, 0, 0, 0x21, 64]);
    assert_eq!(out(&[1, 0, 0, 0, 0x0d, 1]), [1, 0, 0xab, 0xcd, 0xe0, 0, 0, 0, 0x0d, 1]);
}

#[test]
fn a_varbit_has_the_length_that_was_looked_ahead() {
    assert_eq!(out(&[2, 0, 3, 0xa, 0xb, 0xc, 4]), [2, 0, 3, 0xa, 0xb, 0xc, 254]);
    assert_eq!(out(&[2, 0, 0, 9, 7]), [2, 0, 0, 255, 7]);
    // Longer than the varbit can be.
    assert_eq!(out(&[2, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[..2], [2, 0x80]);
}

#[test]
fn making_a_member_of_a_union_valid_makes_the_others_invalid() {
    assert_eq!(out(&[3, 0, 0, 5, 6]), [3, 0, 9, 1, 2, 3, 6]);
    assert_eq!(out(&[3, 0, 1, 5, 6, 7]), [3, 0, 1, 5, 6, 7]);
}

#[test]
fn errors_end_parsing_and_are_told_to_the_program() {
    assert_eq!(out(&[4, 0, 9]), [4, 0x81, 9]);
    assert_eq!(out(&[4, 0, 10]), [4, 0, 10]);
    assert_eq!(out(&[6, 0, 1, 2]), [6, 0x83, 1, 2]);
    assert_eq!(out(&[3, 0]), [3, 0x83]);
}

#[test]
fn fields_across_byte_boundaries_and_skipped_bytes() {
    let odd = [0x5f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x55];
    let expected = [0x40, 0, 0, 0, 0, 0, 0, 0, 0xab];
    assert_eq!(
        out(&[&[6, 0][..], &odd, &[1]].concat()),
        [&[6, 0][..], &expected, &[1]].concat()
    );
    assert_eq!(
        out(&[&[5, 0, 0xaa, 0xbb][..], &odd].concat()),
        [&[5, 0][..], &expected].concat()
    );
}

#[test]
fn masks_and_value_sets_choose_states() {
    assert_eq!(out(&[0x27, 0]), [0x27, 2]);
    let loaded = load("parsing");
    let set = |members: Vec<FieldMatch>| {
        let members = members.into_iter().map(|m| vec![m]).collect();
        loaded.modify(Entity::ValueSet(ValueSetEntry {
            value_set: ValueSetId(0),
            members,
        }));
    };
    assert_eq!(loaded.inject(0, &[0x42, 0])[0].bytes, [0x42, 0]);
    set(vec![exact(0x42)]);
    assert_eq!(loaded.inject(0, &[0x42, 0])[0].bytes, [0x42, 1]);
    set(vec![FieldMatch::Ternary {
        value: vec![0x40],
        mask: vec![0xf0],
    }]);
    assert_eq!(loaded.inject(0, &[0x4f, 0])[0].bytes, [0x4f, 1]);
    set(vec![]);
    assert_eq!(loaded.inject(0, &[0x42, 0])[0].bytes, [0x42, 0]);
}

proptest! {
    /// The code that runs packets and the trees that run while one is traced are the same program.
    #[test]
    fn traced_or_not_a_packet_has_the_same_fate(
        program in prop::sample::select(vec!["parsing", "tables", "externs"]),
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20)
    ) {
        let (one, other) = (load(program), load(program));
        for mut packet in packets {
            // Nothing random, and the first byte within what programs know.
            if let Some(first) = packet.first_mut() {
                *first %= 18;
                if *first == 4 && program == "externs" {
                    *first = 3;
                }
            }
            prop_assert_eq!(one.inject(1, &packet), other.switch.trace(1, &packet).0);
        }
    }
}
