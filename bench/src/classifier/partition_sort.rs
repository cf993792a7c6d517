//! PartitionSort.
//!
//! *Problem*: a search tree finds one of *n* intervals in log *n* steps, if the intervals can be put in order, and
//! multi-dimensional rules cannot. *Idea* (Yingchareonthawornchai, Daly, Liu, Torng: A Sorted Partitioning Approach to
//! High-speed and Fast-update OpenFlow Classification, ICNP'16): many subsets of them can. Rules are *sortable* in an
//! order of the fields, if in the first field any two intervals are equal or disjoint, and among those that are equal,
//! the rules are sortable in the rest. Sortable rules are a tree of intervals whose nodes are trees of intervals of the
//! next field; a packet takes one path through it, of fields plus log *n* steps. Real rule sets fall into few sortable
//! *partitions*.
//!
//! Online, a rule goes into the first partition in which it stays sortable; a new partition is made if there is none.
//! The order of a new partition's fields is that of the rule's own, narrowest first; while it has few rules and one
//! does not fit, another order is looked for greedily as the paper's GrInd does: of the fields that leave no partial
//! overlap, the one with most distinct intervals. Partitions are searched in order of their best precedence, and no
//! further than one can be better.
//!
//! *Cost*: per partition the logarithm of its rules, each step a dependent cache miss in a large one; a change costs
//! the same. The published trees are red-black; these are B-trees, which touch fewer lines. One rule alone at the end of
//! a path is compared at once. Overlapping rules make partitions, so a hostile session makes them for everybody.

use super::contest::RuleTable;
use super::rule::{FIELDS, MISS, Rule, Span, Tuple};
use std::collections::BTreeMap;

/// Partitions up to this size are sorted anew, if that lets a rule in.
const FEW: usize = 32;

type Order = [usize; FIELDS];

/// Disjoint intervals of one field, by their low end.
type Level = BTreeMap<u32, (u32, Below)>;

/// What an interval leads to.
enum Below {
    /// One rule, none of whose later fields has been looked at.
    One(Rule),
    /// Rules that are equal in all fields, in order of precedence.
    Equal(Vec<Rule>),
    /// The intervals of the next field.
    Next(Box<Level>),
}

#[derive(Default)]
struct Partition {
    order: Order,
    root: Level,
    len: usize,
    census: BTreeMap<u32, u32>,
    best: u32,
}

/// Sortable partitions, the best precedence first.
#[derive(Default)]
pub struct PartitionSort(Vec<Partition>);

/// The interval among disjoint ones that meets `span`.
fn meeting(level: &Level, span: Span) -> Option<(Span, &Below)> {
    let (low, (high, below)) = level.range(..=span.high).next_back()?;
    (*high >= span.low).then_some((Span { low: *low, high: *high }, below))
}

/// Whether two rules are sortable in those fields.
fn pair_is_sortable(a: &Rule, b: &Rule, fields: &[usize]) -> bool {
    for &field in fields {
        let (a, b) = (a.spans[field], b.spans[field]);
        if a != b {
            return a.high < b.low || b.high < a.low;
        }
    }
    true
}

fn fits(level: &Level, rule: &Rule, fields: &[usize]) -> bool {
    let [field, rest @ ..] = fields else { return true };
    match meeting(level, rule.spans[*field]) {
        None => true,
        Some((span, below)) if span == rule.spans[*field] => match below {
            Below::One(other) => pair_is_sortable(other, rule, rest),
            Below::Equal(_) => true,
            Below::Next(level) => fits(level, rule, rest),
        },
        Some(_) => false,
    }
}

/// Puts a rule that [`fits`].
fn insert(level: &mut Level, rule: Rule, fields: &[usize]) {
    let [field, rest @ ..] = fields else { return };
    let Span { low, high } = rule.spans[*field];
    let Some((_, below)) = level.get_mut(&low) else {
        level.insert(low, (high, Below::One(rule)));
        return;
    };
    match below {
        Below::One(other) => {
            let other = *other;
            *below = if rest.iter().all(|field| other.spans[*field] == rule.spans[*field]) {
                let mut both = vec![other, rule];
                both.sort_by_key(|rule| rule.precedence);
                Below::Equal(both)
            } else {
                let mut next = Level::new();
                insert(&mut next, other, rest);
                insert(&mut next, rule, rest);
                Below::Next(Box::new(next))
            };
        }
        Below::Equal(rules) => {
            let at = rules.partition_point(|other| other.precedence <= rule.precedence);
            rules.insert(at, rule);
        }
        Below::Next(next) => insert(next, rule, rest),
    }
}

fn remove(level: &mut Level, rule: &Rule, fields: &[usize]) -> bool {
    let [field, rest @ ..] = fields else { return false };
    let same = |other: &Rule| other.spans == rule.spans && other.precedence == rule.precedence;
    let low = rule.spans[*field].low;
    let Some((high, below)) = level.get_mut(&low) else {
        return false;
    };
    if *high != rule.spans[*field].high {
        return false;
    }
    let (removed, is_empty) = match below {
        Below::One(other) => (same(other), same(other)),
        Below::Equal(rules) => {
            let at = rules.iter().position(same);
            if let Some(at) = at {
                rules.remove(at);
            }
            (at.is_some(), rules.is_empty())
        }
        Below::Next(next) => (remove(next, rule, rest), next.is_empty()),
    };
    if is_empty {
        level.remove(&low);
    }
    removed
}

fn for_each(level: &Level, act: &mut impl FnMut(&Rule)) {
    for (_, below) in level.values() {
        match below {
            Below::One(rule) => act(rule),
            Below::Equal(rules) => rules.iter().for_each(&mut *act),
            Below::Next(next) => for_each(next, act),
        }
    }
}

/// The rule's fields, the narrowest first.
fn own_order(rule: &Rule) -> Order {
    let mut order: Order = std::array::from_fn(|field| field);
    let width = |field: usize| {
        let (Span { low, high }, any) = (rule.spans[field], Span::ANY[field]);
        f64::from(high - low) / f64::from(any.high)
    };
    order.sort_by(|a, b| width(*a).total_cmp(&width(*b)));
    order
}

/// An order in which all of them are sortable, found greedily.
fn common_order(rules: &[Rule]) -> Option<Order> {
    let mut order = Order::default();
    let mut groups = vec![rules.to_vec()];
    for at in 0..FIELDS {
        let candidates = (0..FIELDS).filter(|field| !order[..at].contains(field));
        let split_by = |field: usize| -> Option<Vec<Vec<Rule>>> {
            let mut split = Vec::new();
            for group in &groups {
                let mut group = group.clone();
                group.sort_by_key(|rule| rule.spans[field]);
                for chunk in group.chunk_by(|a, b| a.spans[field] == b.spans[field]) {
                    split.push(chunk.to_vec());
                }
                let clean = |pair: &[Rule]| {
                    let (a, b) = (pair[0].spans[field], pair[1].spans[field]);
                    a == b || a.high < b.low
                };
                if !group.windows(2).all(clean) {
                    return None;
                }
            }
            Some(split)
        };
        let (field, split) = candidates
            .filter_map(|field| Some((field, split_by(field)?)))
            .max_by_key(|(_, split)| split.len())?;
        order[at] = field;
        groups = split;
    }
    Some(order)
}

impl Partition {
    fn new(order: Order, rules: &[Rule]) -> Self {
        let mut partition = Self {
            order,
            best: u32::MAX,
            ..Self::default()
        };
        rules.iter().for_each(|rule| partition.insert(*rule));
        partition
    }

    fn insert(&mut self, rule: Rule) {
        insert(&mut self.root, rule, &self.order);
        self.len += 1;
        *self.census.entry(rule.precedence).or_default() += 1;
        self.best = self.best.min(rule.precedence);
    }

    /// Takes the rule in, if need be in another order; whether it could.
    fn admit(&mut self, rule: Rule) -> bool {
        if !fits(&self.root, &rule, &self.order) {
            if self.len > FEW {
                return false;
            }
            let mut rules = vec![rule];
            for_each(&self.root, &mut |rule| rules.push(*rule));
            let Some(order) = common_order(&rules) else {
                return false;
            };
            *self = Self::new(order, &rules);
            return true;
        }
        self.insert(rule);
        true
    }

    fn remove(&mut self, rule: &Rule) -> bool {
        if !remove(&mut self.root, rule, &self.order) {
            return false;
        }
        self.len -= 1;
        if let Some(count) = self.census.get_mut(&rule.precedence) {
            *count -= 1;
            if *count == 0 {
                self.census.remove(&rule.precedence);
                self.best = self
                    .census
                    .first_key_value()
                    .map_or(u32::MAX, |(precedence, _)| *precedence);
            }
        }
        true
    }

    #[inline]
    fn find(&self, tuple: &Tuple) -> Option<&Rule> {
        let mut level = &self.root;
        for &field in &self.order {
            let value = tuple[field];
            let (_, (high, below)) = level.range(..=value).next_back()?;
            if *high < value {
                return None;
            }
            match below {
                Below::One(rule) => return rule.matches(tuple).then_some(rule),
                Below::Equal(rules) => return rules.first().filter(|rule| rule.matches(tuple)),
                Below::Next(next) => level = next,
            }
        }
        None
    }
}

impl PartitionSort {
    fn sort(&mut self) {
        if !self.0.is_sorted_by_key(|partition| partition.best) {
            self.0.sort_by_key(|partition| partition.best);
        }
    }
}

impl RuleTable for PartitionSort {
    fn insert(&mut self, rule: Rule) {
        if !self.0.iter_mut().any(|partition| partition.admit(rule)) {
            self.0.push(Partition::new(own_order(&rule), &[rule]));
        }
        self.sort();
    }
    fn remove(&mut self, rule: &Rule) -> bool {
        let removed = self.0.iter_mut().any(|partition| partition.remove(rule));
        self.0.retain(|partition| partition.len > 0);
        self.sort();
        removed
    }
    fn find(&self, tuple: &Tuple) -> u32 {
        let mut found: Option<&Rule> = None;
        for partition in &self.0 {
            if found.is_some_and(|found| found.precedence <= partition.best) {
                break;
            }
            if let Some(rule) = partition.find(tuple)
                && found.is_none_or(|found| rule.precedence < found.precedence)
            {
                found = Some(rule);
            }
        }
        found.map_or(MISS, |rule| rule.number)
    }
}
