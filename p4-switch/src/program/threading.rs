//! Jump threading: conditions whose outcome is known on the way to them are skipped, and so are assignments that change
//! nothing.
//!
//! p4c turns `return` into a flag and asks for it again and again, and programs ask `if (reason == 0)` before every
//! stage. For each node of the control flow this finds out what must hold there, whichever way a packet came; an edge
//! that leads to a condition which that decides leads to the decision's successor instead.

use super::action::{Action, Op, Target, has_jumps};
use super::expr::{Cond, E};
use super::graph::{Graph, Node};
use super::layout::Layout;
use super::parser::{Parser, ParserOp};
use super::slot::Slot;
use super::table::{END, Table};
use super::{FieldList, Standard};

/// What must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    equal: Vec<(Slot, u64)>,
    unequal: Vec<(Slot, u64)>,
    valid: Vec<(u32, bool)>,
}

impl Facts {
    fn forget(&mut self, slot: Slot) {
        self.equal.retain(|(s, _)| !s.overlaps(slot));
        self.unequal.retain(|(s, _)| !s.overlaps(slot));
    }

    fn forget_bytes(&mut self, bytes: &std::ops::Range<usize>) {
        self.equal.retain(|(s, _)| !s.touches(bytes));
        self.unequal.retain(|(s, _)| !s.touches(bytes));
    }

    fn set(&mut self, slot: Slot, value: u64) {
        self.forget(slot);
        self.equal.push((slot, value));
    }

    fn set_valid(&mut self, header: u32, valid: bool) {
        self.valid.retain(|(h, _)| *h != header);
        self.valid.push((header, valid));
    }

    /// What holds either way.
    fn meet(&mut self, other: &Facts) {
        self.equal.retain(|f| other.equal.contains(f));
        self.unequal
            .retain(|f| other.unequal.contains(f) || other.equal.iter().any(|(s, v)| *s == f.0 && *v != f.1));
        self.valid.retain(|f| other.valid.contains(f));
    }

    /// A condition's outcome, if it is known.
    fn outcome(&self, condition: &Cond) -> Option<bool> {
        match condition {
            Cond::Const(b) => Some(*b),
            Cond::Is(slot, value) => {
                let known = self.equal.iter().find(|(s, _)| s == slot).map(|(_, v)| v == value);
                known.or_else(|| self.unequal.contains(&(*slot, *value)).then_some(false))
            }
            Cond::IsNot(slot, value) => self.outcome(&Cond::Is(*slot, *value)).map(|b| !b),
            Cond::Valid(header) => self.valid.iter().find(|(h, _)| h == header).map(|(_, valid)| *valid),
            Cond::Not(inner) => self.outcome(inner).map(|b| !b),
            Cond::And(pair) => match (self.outcome(&pair.0), self.outcome(&pair.1)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Cond::Or(pair) => match (self.outcome(&pair.0), self.outcome(&pair.1)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes note of a condition's outcome.
    fn assume(&mut self, condition: &Cond, outcome: bool) {
        match (condition, outcome) {
            (Cond::Is(slot, value), true) | (Cond::IsNot(slot, value), false) => self.set(*slot, *value),
            (Cond::Is(slot, value), false) | (Cond::IsNot(slot, value), true) => {
                if slot.width() == 1 {
                    self.set(*slot, *value ^ 1);
                } else if !self.unequal.contains(&(*slot, *value)) {
                    self.unequal.push((*slot, *value));
                }
            }
            (Cond::Valid(header), valid) => self.set_valid(*header, valid),
            (Cond::Not(inner), outcome) => self.assume(inner, !outcome),
            (Cond::And(pair), true) | (Cond::Or(pair), false) => {
                self.assume(&pair.0, outcome);
                self.assume(&pair.1, outcome);
            }
            _ => {}
        }
    }

    /// What holds after an operation.
    fn after(&mut self, op: &Op, layout: &Layout) {
        let bytes = |header: super::layout::HeaderId| {
            let base = layout.headers[header.0].base;
            base..base + layout.type_of(header).bits.div_ceil(8)
        };
        let simple =
            |place: &super::expr::Place| place.element.is_none() && layout.headers[place.header.0].member_of.is_none();
        let target = |facts: &mut Facts, target: &Target| match target {
            Target::Slot(slot) => facts.forget(*slot),
            Target::Nowhere => {}
            Target::Span(span) => facts.forget_bytes(&span.touched()),
            Target::Element(..) => *facts = Facts::default(),
        };
        match op {
            Op::Const(slot, value) | Op::Set(slot, E::Const(value)) => self.set(*slot, *value & slot.mask()),
            Op::Copy(slot, _) | Op::Param(slot, _) | Op::Set(slot, _) => self.forget(*slot),
            Op::SetDouble(pair) => self.forget_bytes(&pair.0.touched()),
            Op::CopySpan(pair) => self.forget_bytes(&pair.0.touched()),
            Op::SetAny(pair) => target(self, &pair.0),
            Op::InitHeader(init) => {
                let base = init.base as usize;
                self.forget_bytes(&(base..base + init.template.len()));
                self.set_valid(init.valid, true);
            }
            Op::AddHeader(place) if simple(place) => {
                self.forget_bytes(&bytes(place.header));
                self.set_valid(layout.headers[place.header.0].valid as u32, true);
            }
            Op::RemoveHeader(place) if simple(place) => {
                self.set_valid(layout.headers[place.header.0].valid as u32, false);
            }
            Op::CopyHeader(pair) if simple(&pair.0) => {
                self.forget_bytes(&bytes(pair.0.header));
                let valid = layout.headers[pair.0.header.0].valid as u32;
                self.valid.retain(|(h, _)| *h != valid);
            }
            Op::Meter(parts) => target(self, &parts.2),
            Op::RegisterRead(parts) => target(self, &parts.0),
            Op::Hash(parts) => target(self, &parts.0),
            Op::Random(parts) => target(self, &parts.0),
            Op::Jump(_)
            | Op::JumpUnless(..)
            | Op::Count(..)
            | Op::RegisterWrite(_)
            | Op::Digest(_)
            | Op::Clone(_)
            | Op::Resubmit(_)
            | Op::Recirculate(_)
            | Op::Truncate(_)
            | Op::Log(_)
            | Op::Assert(_)
            | Op::Exit
            | Op::NeedAhead(_) => {}
            _ => *self = Facts::default(),
        }
    }

    /// What holds after operations of which some may be jumped over, or done again.
    fn after_any(&mut self, ops: &[Op], layout: &Layout) {
        for op in ops {
            let mut after = self.clone();
            after.after(op, layout);
            self.meet(&after);
        }
    }

    fn after_action(&self, action: &Action, layout: &Layout) -> Facts {
        let mut facts = self.clone();
        if action.has_jumps() {
            facts.after_any(&action.ops, layout);
        } else {
            action.ops.iter().for_each(|op| facts.after(op, layout));
        }
        facts
    }
}

/// Skips conditions that are decided, and constants that fields have already. `zero` are fields that are zero at the
/// beginning; `color` gives the field that a table's direct meter writes.
pub(crate) fn thread(
    mut graph: Graph,
    actions: &[Action],
    tables: &[Table],
    layout: &Layout,
    zero: &[Slot],
    color: &dyn Fn(&Table) -> Option<Slot>,
) -> Graph {
    let mut before: Vec<Option<Facts>> = vec![None; graph.nodes.len()];
    let reach = |before: &mut Vec<Option<Facts>>, node: u32, facts: &Facts| {
        if node != END {
            match &mut before[node as usize] {
                Some(known) => known.meet(facts),
                new => *new = Some(facts.clone()),
            }
        }
    };
    // Where an edge leads once the conditions that are decided on it are skipped.
    let skip = |nodes: &[Node], mut node: u32, facts: &Facts| {
        while node != END
            && let Node::If { condition, yes, no } = &nodes[node as usize]
            && let Some(outcome) = facts.outcome(condition)
        {
            node = if outcome { *yes } else { *no };
        }
        node
    };
    if graph.start != END {
        before[graph.start as usize] = Some(Facts {
            equal: zero.iter().map(|slot| (*slot, 0)).collect(),
            ..Facts::default()
        });
    }
    for node in graph.order(tables) {
        let Some(mut facts) = before[node as usize].clone() else {
            continue;
        };
        let mut at = graph.nodes[node as usize].clone();
        match &mut at {
            Node::If { condition, yes, no } => {
                for (next, outcome) in [(yes, true), (no, false)] {
                    let mut facts = facts.clone();
                    facts.assume(condition, outcome);
                    *next = skip(&graph.nodes, *next, &facts);
                    reach(&mut before, *next, &facts);
                }
            }
            Node::Do { ops, next } => {
                if has_jumps(ops) {
                    facts.after_any(ops, layout);
                } else {
                    ops.retain(|op| {
                        let known = matches!(op, Op::Const(slot, value) if facts.equal.contains(&(*slot, *value)));
                        facts.after(op, layout);
                        !known
                    });
                }
                *next = skip(&graph.nodes, *next, &facts);
                reach(&mut before, *next, &facts);
            }
            Node::Apply(table) => {
                let table = &tables[*table as usize];
                if let Some(slot) = color(table) {
                    facts.forget(slot);
                }
                let mut any = facts.clone();
                for action in &table.actions {
                    any.meet(&facts.after_action(&actions[action.action], layout));
                }
                for next in table.successors() {
                    reach(&mut before, next, &any);
                }
            }
        }
        graph.nodes[node as usize] = at;
    }
    graph
}

/// Metadata that is zero when a packet comes to ingress: what the parser does not write, no field list keeps for a packet
/// that comes again, and the switch itself does not set.
pub(crate) fn zero_cells(layout: &Layout, parser: &Parser, kept: &[FieldList], standard: &Standard) -> Vec<Slot> {
    let mut written: Vec<Slot> = standard.slots().collect();
    for op in parser.states.iter().flat_map(|state| &state.ops) {
        match op {
            ParserOp::Do(Op::Const(slot, _) | Op::Copy(slot, _) | Op::Set(slot, _)) => written.push(*slot),
            ParserOp::Do(Op::NeedAhead(_) | Op::InitHeader(_) | Op::AddHeader(_) | Op::RemoveHeader(_)) => {}
            ParserOp::Do(_) => return Vec::new(),
            _ => {}
        }
    }
    let kept: Vec<_> = kept
        .iter()
        .flat_map(|list| &list.spans)
        .map(|span| span.touched())
        .collect();
    layout
        .cells()
        .filter(|slot| !written.iter().any(|w| w.overlaps(*slot)) && !kept.iter().any(|k| slot.touches(k)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_jumped_over_is_not_known_afterwards() {
        let (asked, set, kept) = (Slot::cell(0, 8), Slot::cell(8, 8), Slot::cell(16, 8));
        let ops = [Op::JumpUnless(Cond::Is(asked, 1), 2), Op::Const(set, 1)];
        let mut facts = Facts::default();
        facts.set(set, 0);
        facts.set(kept, 5);
        facts.after_any(&ops, &Layout::default());
        assert_eq!(facts.outcome(&Cond::Is(set, 1)), None);
        assert_eq!(facts.outcome(&Cond::Is(set, 0)), None);
        assert_eq!(facts.outcome(&Cond::Is(kept, 5)), Some(true));
    }
}
