//! Priority-sorted tuple space search (PSTSS).
//!
//! *Problem*: hashing finds a rule at once if one knows which bits of the packet the rule looks at, and there are as
//! many answers to that as there are combinations of masks. *Idea* (Srinivasan, Suri, Varghese: Packet Classification
//! Using Tuple Space Search, SIGCOMM'99): rules with the same combination, a *tuple*, share a hash table, and a packet
//! is looked up in one table after the other. Open vSwitch (Pfaff et al., NSDI'15) orders the tables by the best
//! precedence in them and stops as soon as no table left can be better. Ranges of ports have no mask: such a field is
//! left out of the tuple, and compared in the bucket. *Cost*: a probe per tuple at worst, each a cache miss in a large
//! table; a change is one hash table operation. With rules of many sessions the order is worth little, for every tuple
//! has a rule of first precedence of some session; and whoever may choose masks chooses the number of probes.

use super::buckets::{Buckets, Mask, find_in_order};
use super::contest::RuleTable;
use super::rule::{MISS, Rule, Span, Tuple, mask};

/// A table per tuple, the best precedence first.
#[derive(Default)]
pub struct TupleSpace(Vec<Buckets>);

/// The tuple of a rule: prefix lengths, and which of the other fields are exact.
fn tuple_of(rule: &Rule) -> Mask {
    let [a, b, rest @ ..] = rule.spans;
    let [c, d, e] = rest.map(|span: Span| if span.is_exact() { u32::MAX } else { 0 });
    Mask([mask(a.prefix_length()), mask(b.prefix_length()), c, d, e])
}

impl RuleTable for TupleSpace {
    fn insert(&mut self, rule: Rule) {
        let tuple = tuple_of(&rule);
        let at = self.0.iter().position(|table| table.mask == tuple).unwrap_or_else(|| {
            self.0.push(Buckets::new(tuple));
            self.0.len() - 1
        });
        let best = self.0[at].best();
        self.0[at].insert(rule);
        if self.0[at].best() != best {
            self.0.sort_by_key(Buckets::best);
        }
    }
    fn remove(&mut self, rule: &Rule) -> bool {
        let tuple = tuple_of(rule);
        let Some(at) = self.0.iter().position(|table| table.mask == tuple) else {
            return false;
        };
        let best = self.0[at].best();
        let removed = self.0[at].remove(rule);
        if self.0[at].is_empty() {
            self.0.remove(at);
        } else if self.0[at].best() != best {
            self.0.sort_by_key(Buckets::best);
        }
        removed
    }
    fn find(&self, tuple: &Tuple) -> u32 {
        find_in_order(&self.0, tuple).map_or(MISS, |rule| rule.number)
    }
}
