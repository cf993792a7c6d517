//! TupleMerge.
//!
//! *Problem*: tuple space search has a table for each combination of masks, most of them nearly empty. *Idea* (Daly,
//! Bruschi, Linguaglossa, Pontarelli, Rossi, Tollet, Torng, Yourtchenko: TupleMerge: Fast Software Packet Processing
//! for Online Packet Classification, ToN'19): a rule can be found in any table whose mask compares *fewer* bits than
//! the rule fixes. So
//!
//! 1. a new table is made for a *relaxed* mask, a few bits shorter than the rule that causes it: lengths go down by 4
//!    from 32, by 3 above 24, by 2 above 16, by 1 above 8; and if two lengths are more than 4 apart, the shorter one is
//!    dropped altogether, since the longer one discriminates;
//! 2. a rule goes into a table that it fits and that has room in the rule's bucket;
//! 3. a bucket that would hold more than [`COLLISIONS`] rules is *split off*: its rules go to a table of the most
//!    specific mask that fits all of them. Rules of one mask cannot be split, and make the bucket longer.
//!
//! *Cost*: few tables, hence few probes, and up to as many comparisons as a bucket holds; a change is a probe of each
//! table and a hash table operation, and now and then a split. The tables are ordered as in PSTSS. Ports and protocol
//! are compared in the bucket. Which rules a split moves is our choice.

use super::buckets::{Buckets, Mask, find_in_order};
use super::contest::RuleTable;
use super::rule::{MISS, Rule, Tuple};

/// Rules of a bucket before it is split; implementations use 10 to 39.
const COLLISIONS: usize = 10;
/// Prefix lengths further apart than this: only the longer one is hashed.
const FAR_APART: u32 = 4;

/// Tables of relaxed masks, the best precedence first.
#[derive(Default)]
pub struct TupleMerge(Vec<Buckets>);

fn lengths(rule: &Rule) -> [u32; 2] {
    [rule.spans[0].prefix_length(), rule.spans[1].prefix_length()]
}

const fn relaxed_length(length: u32) -> u32 {
    match length {
        32 => 28,
        25..32 => length - 3,
        17..25 => length - 2,
        9..17 => length - 1,
        _ => length,
    }
}

/// The mask of a table made for `rule`.
fn relaxed(rule: &Rule) -> Mask {
    let [a, b] = lengths(rule);
    Mask::of_lengths(match (a, b) {
        _ if a > b + FAR_APART => [relaxed_length(a), 0],
        _ if b > a + FAR_APART => [0, relaxed_length(b)],
        _ => [relaxed_length(a), relaxed_length(b)],
    })
}

/// The most specific mask that fits all of them.
fn common<'r>(rules: impl Iterator<Item = &'r Rule>) -> Mask {
    Mask::of_lengths(rules.map(lengths).fold([32, 32], |[a, b], [c, d]| [a.min(c), b.min(d)]))
}

impl TupleMerge {
    /// The table of that mask, made if there is none.
    fn table(&mut self, mask: Mask) -> &mut Buckets {
        let at = self.0.iter().position(|table| table.mask == mask).unwrap_or_else(|| {
            self.0.push(Buckets::new(mask));
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    fn place(&mut self, rule: Rule) {
        let mut full = None;
        for (at, table) in self.0.iter_mut().enumerate() {
            if !table.mask.fits(&rule) {
                continue;
            }
            if table.bucket_of(&rule).is_none_or(|bucket| bucket.len() < COLLISIONS) {
                table.insert(rule);
                return;
            }
            full.get_or_insert(at);
        }
        let Some(full) = full else {
            self.table(relaxed(&rule)).insert(rule);
            return;
        };
        let crowd: Vec<Rule> = self.0[full]
            .bucket_of(&rule)
            .into_iter()
            .flat_map(|b| b.rules().copied())
            .collect();
        let split = common(crowd.iter().chain([&rule]));
        if split != self.0[full].mask && self.0.iter().all(|table| table.mask != split) {
            for rule in &crowd {
                self.0[full].remove(rule);
            }
            let table = self.table(split);
            crowd.into_iter().chain([rule]).for_each(|rule| table.insert(rule));
            self.0.retain(|table| !table.is_empty());
            return;
        }
        // The bucket's rules share no longer mask that is not taken: this rule's own tells it from most of them.
        let own = Mask::of_lengths(lengths(&rule));
        self.table(own).insert(rule);
    }
}

impl RuleTable for TupleMerge {
    fn insert(&mut self, rule: Rule) {
        self.place(rule);
        if !self.0.is_sorted_by_key(Buckets::best) {
            self.0.sort_by_key(Buckets::best);
        }
    }
    fn remove(&mut self, rule: &Rule) -> bool {
        let removed = self
            .0
            .iter_mut()
            .any(|table| table.mask.fits(rule) && table.remove(rule));
        self.0.retain(|table| !table.is_empty());
        if !self.0.is_sorted_by_key(Buckets::best) {
            self.0.sort_by_key(Buckets::best);
        }
        removed
    }
    fn find(&self, tuple: &Tuple) -> u32 {
        find_in_order(&self.0, tuple).map_or(MISS, |rule| rule.number)
    }
}
