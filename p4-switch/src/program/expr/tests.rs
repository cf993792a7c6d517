//! The machines against each other.

use num_traits::{One, Signed, Zero};
use proptest::prelude::*;

use super::*;
use crate::json::Node;
use crate::program::ast::{HeaderRef, Range};

/// A layout with fields of many widths, metadata and header.
fn layout() -> Layout {
    let fields = serde_json::json!([
        ["f1", 1, false],
        ["f7", 7, false],
        ["f8", 8, false],
        ["f16", 16, false],
        ["f31", 31, false],
        ["f32", 32, false],
        ["f33", 33, false],
        ["f63", 63, false],
        ["f64", 64, false],
        ["f65", 65, false],
        ["f127", 127, false],
        ["f128", 128, false],
        ["f200", 200, false],
        ["s8", 8, true],
        ["s64", 64, true],
        ["s72", 72, true],
        ["pad", 9, false]
    ]);
    let document = serde_json::json!({
        "header_types": [{"name": "t", "id": 0, "fields": fields}],
        "headers": [
            {"name": "m", "id": 0, "header_type": "t", "metadata": true},
            {"name": "h", "id": 1, "header_type": "t", "metadata": false}
        ]
    });
    Layout::load(&Node::root(&document)).unwrap()
}

const FIELDS: usize = 16;

fn number() -> impl Strategy<Value = Ast> {
    let field = (0..2usize, 0..FIELDS).prop_map(|(h, f)| Ast::Field(HeaderRef::Fixed(HeaderId(h)), f));
    let constant = prop_oneof![
        any::<u8>().prop_map(BigInt::from),
        any::<u64>().prop_map(BigInt::from),
        any::<i16>().prop_map(BigInt::from),
        any::<u128>().prop_map(BigInt::from),
        (1u32..140).prop_map(ones),
    ];
    let leaf = prop_oneof![3 => field, 1 => constant.prop_map(Ast::Const)];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let op = prop::sample::select(vec![
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::And,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Xor,
        ]);
        let compare = prop::sample::select(vec![
            Compare::Eq,
            Compare::Ne,
            Compare::Lt,
            Compare::Le,
            Compare::Gt,
            Compare::Ge,
        ]);
        let shift = prop::sample::select(vec![BinaryOp::Shl, BinaryOp::Shr]);
        let two = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            (op, two()).prop_map(|(op, (a, b))| Ast::Binary(op, a, b)),
            (shift, inner.clone(), 0u32..140).prop_map(|(op, a, by)| Ast::Binary(
                op,
                Box::new(a),
                Box::new(Ast::Const(by.into()))
            )),
            inner.clone().prop_map(|a| Ast::Complement(Box::new(a))),
            (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::Wrap(Box::new(a), w)),
            (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::SaturateUnsigned(Box::new(a), w)),
            (inner.clone(), 1u32..130).prop_map(|(a, w)| Ast::SaturateSigned(Box::new(a), w)),
            (inner.clone(), 1u32..130)
                .prop_map(|(a, w)| { Ast::Binary(BinaryOp::And, Box::new(a), Box::new(Ast::Const(ones(w)))) }),
            (compare, two(), two())
                .prop_map(|(op, (a, b), (yes, no))| { Ast::Choice(Box::new(Ast::Compare(op, a, b)), yes, no) }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every machine gives the low bits that integers of any size give.
    #[test]
    fn the_smaller_machines_agree_with_integers_of_any_size(
        ast in number(), width in 1u32..200, seed in proptest::collection::vec(any::<u8>(), 400)
    ) {
        let layout = layout();
        let mut phv = layout.template.clone();
        for header in 0..2 {
            for field in 0..FIELDS {
                let span = layout.span(HeaderId(header), field);
                let words: Vec<u64> = seed[header * 200 + field * 8..].chunks(8).take(4)
                    .map(|c| c.iter().fold(0, |w, b| w << 8 | *b as u64)).collect();
                span.store_words(&mut phv, &words);
            }
        }
        let env = Env { layout: &layout, params: &[], widths: &[], ahead: &[] };
        let compiler = Compiler { layout: &layout, params: &[] };
        let expected = big(&ast, &phv, &env);
        let got = match compiler.number(&ast, Demand::Bits(width)) {
            Num::Word(e) => BigInt::from(e.eval(&phv, &env)),
            Num::Double(x) => BigInt::from(x.eval(&phv, &env)),
            Num::Big(ast) => big(&ast, &phv, &env),
        };
        prop_assert_eq!(got & ones(width), &expected & ones(width));
        let range = Range::of(&ast, &layout, &[]);
        prop_assert!(expected < BigInt::one() << range.above);
        prop_assert!(expected >= range.below.map_or(BigInt::zero(), |b| -(BigInt::one() << b)));
        let zero = Ast::Compare(Compare::Gt, Box::new(ast), Box::new(Ast::Const(BigInt::zero())));
        prop_assert_eq!(compiler.condition(&zero).eval(&phv, &env), expected.is_positive());
    }
}
