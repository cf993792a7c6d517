//! The linear list.
//!
//! *Problem*: the first of the rules, in order of precedence, that matches. *Idea*: look at one after the other.
//! *Cost*: half of the rules per packet on average, at about a nanosecond each while they are in the cache; inserting
//! moves what follows. This is what UPG-VPP and open5GS do within a session, with two to sixteen rules; on so few,
//! little that has to hash or to branch is better. With a thousand it is the slowest of all.

use super::contest::RuleTable;
use super::rule::{MISS, Rule, Tuple};

/// Rules in order of precedence.
#[derive(Default)]
pub struct LinearList(Vec<Rule>);

impl RuleTable for LinearList {
    fn insert(&mut self, rule: Rule) {
        let at = self.0.partition_point(|other| other.precedence <= rule.precedence);
        self.0.insert(at, rule);
    }
    fn remove(&mut self, rule: &Rule) -> bool {
        let first = self.0.partition_point(|other| other.precedence < rule.precedence);
        let same = |other: &Rule| other.spans == rule.spans && other.precedence == rule.precedence;
        let Some(at) = self.0[first..].iter().position(same) else {
            return false;
        };
        self.0.remove(first + at);
        true
    }
    fn find(&self, tuple: &Tuple) -> u32 {
        self.0
            .iter()
            .find(|rule| rule.matches(tuple))
            .map_or(MISS, |rule| rule.number)
    }
}
