//! Making actions shorter: p4c inlines expressions as often as they are used, and fills headers field by field.
//!
//! Nothing here changes what an action does. Subexpressions that occur several times in one assignment are computed once
//! into a scratch cell. Constants that are written to a header after it was made valid are written with it, at once.

use std::collections::HashMap;

use super::action::{InitHeader, Op, has_jumps};
use super::expr::{Cond, E};
use super::layout::Layout;
use super::slot::Slot;

/// Smallest expression that is worth looking for repetitions in.
const LARGE: usize = 8;

/// Improves an action's operations.
pub(crate) fn improve(ops: Vec<Op>, layout: &Layout) -> Vec<Op> {
    if has_jumps(&ops) {
        // Targets are positions, and branches end every run of assignments.
        return ops;
    }
    let mut shared = Vec::with_capacity(ops.len());
    for op in ops {
        match op {
            Op::Set(slot, e) if size(&e) >= LARGE => share(slot, e, layout, &mut shared),
            op => shared.push(op),
        }
    }
    fill_headers(shared, layout)
}

/// Calls `visit` for each operand of an expression that is computed without side conditions.
fn operands<'e>(e: &'e E, visit: &mut dyn FnMut(&'e E)) {
    match e {
        E::Add(pair) | E::Sub(pair) | E::And(pair) | E::Or(pair) | E::Binary(_, pair) => {
            visit(&pair.0);
            visit(&pair.1);
        }
        E::AndConst(a, _) | E::ShlConst(a, _) | E::ShrConst(a, _) | E::Complement(a) => visit(a),
        _ => {}
    }
}

fn operands_mut(e: &mut E, visit: &mut dyn FnMut(&mut E)) {
    match e {
        E::Add(pair) | E::Sub(pair) | E::And(pair) | E::Or(pair) | E::Binary(_, pair) => {
            visit(&mut pair.0);
            visit(&mut pair.1);
        }
        E::AndConst(a, _) | E::ShlConst(a, _) | E::ShrConst(a, _) | E::Complement(a) => visit(a),
        _ => {}
    }
}

fn size(e: &E) -> usize {
    let mut total = 1;
    operands(e, &mut |operand| total += size(operand));
    total
}

fn count<'e>(e: &'e E, counts: &mut HashMap<&'e E, usize>) {
    let mut leaf = true;
    operands(e, &mut |_| leaf = false);
    if !leaf {
        *counts.entry(e).or_default() += 1;
        operands(e, &mut |operand| count(operand, counts));
    }
}

fn replace(e: &mut E, what: &E, by: Slot) {
    if e == what {
        *e = E::Load(by);
    } else {
        operands_mut(e, &mut |operand| replace(operand, what, by));
    }
}

/// `slot = e`, with what occurs several times in `e` computed first.
fn share(slot: Slot, e: E, layout: &Layout, ops: &mut Vec<Op>) {
    let mut parts = vec![(slot, e)];
    for scratch in &layout.scratch {
        // All parts together: the largest that occurs twice.
        let mut counts = HashMap::new();
        parts.iter().for_each(|(_, e)| count(e, &mut counts));
        let best = counts
            .into_iter()
            .filter(|(e, n)| *n > 1 && size(e) > 2)
            .max_by_key(|(e, _)| size(e));
        let Some(part) = best.map(|(e, _)| e.clone()) else {
            break;
        };
        parts.iter_mut().for_each(|(_, e)| replace(e, &part, *scratch));
        parts.push((*scratch, part));
    }
    // What was taken out last is needed first: it may be part of what was taken out before.
    ops.extend(parts.into_iter().rev().map(|(slot, e)| Op::Set(slot, e)));
}

/// The slots that an expression reads; none if it reads others as well.
fn reads(e: &E, slots: &mut Vec<Slot>) -> bool {
    match e {
        E::Const(_) | E::Param(_) => true,
        E::Load(slot) | E::LoadSigned(slot) => {
            slots.push(*slot);
            true
        }
        E::LoadMasked(at) | E::LoadPlus(at) => {
            slots.push(at.0);
            true
        }
        E::Bool(cond) => match &**cond {
            Cond::Is(slot, _) | Cond::IsNot(slot, _) => {
                slots.push(*slot);
                true
            }
            Cond::Valid(_) | Cond::Const(_) => true,
            _ => false,
        },
        E::Add(_)
        | E::Sub(_)
        | E::And(_)
        | E::Or(_)
        | E::Binary(..)
        | E::AndConst(..)
        | E::ShlConst(..)
        | E::ShrConst(..)
        | E::Complement(_) => {
            let mut known = true;
            operands(e, &mut |operand| known &= reads(operand, slots));
            known
        }
        _ => false,
    }
}

/// Turns `make H valid; H.a = 1; H.b = x; H.c = 2` into `make H valid with a = 1, c = 2; H.b = x`.
fn fill_headers(ops: Vec<Op>, layout: &Layout) -> Vec<Op> {
    let mut out: Vec<Op> = Vec::with_capacity(ops.len());
    let mut rest = ops.into_iter().peekable();
    while let Some(op) = rest.next() {
        let Op::AddHeader(place) = &op else {
            out.push(op);
            continue;
        };
        let header = &layout.headers[place.header.0];
        let kind = layout.type_of(place.header);
        if place.element.is_some() || header.member_of.is_some() || kind.varbit.is_some() {
            out.push(op);
            continue;
        }
        let range = header.base..header.base + kind.bits.div_ceil(8);
        let mut template = vec![0u8; range.end + super::slot::PADDING];
        let (mut fields, mut others): (Vec<(Slot, u64)>, Vec<Op>) = (Vec::new(), Vec::new());
        // What the other operations so far have read or written.
        let mut touched: Vec<Slot> = Vec::new();
        while let Some(next) = rest.peek() {
            let known = match next {
                Op::Const(slot, value) => {
                    if slot.is_within(&range) && touched.iter().all(|t| !t.overlaps(*slot)) {
                        fields.push((*slot, *value));
                        slot.store(&mut template, *value);
                        rest.next();
                        continue;
                    }
                    touched.push(*slot);
                    true
                }
                Op::Copy(to, from) => {
                    touched.extend([*to, *from]);
                    true
                }
                Op::Param(slot, _) => {
                    touched.push(*slot);
                    true
                }
                Op::Set(slot, e) => {
                    touched.push(*slot);
                    reads(e, &mut touched)
                }
                _ => false,
            };
            if !known {
                break;
            }
            others.extend(rest.next());
        }
        out.push(Op::InitHeader(Box::new(InitHeader {
            valid: header.valid as u32,
            base: header.base as u32,
            template: template[range].into(),
            fields,
        })));
        out.append(&mut others);
    }
    out
}
