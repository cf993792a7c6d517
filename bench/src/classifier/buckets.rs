//! Rules by the hash of their masked fields: what tuple space search and TupleMerge are made of.
//!
//! The hash stands for the key, and whoever finds a rule compares all of it: two keys with one hash share a bucket and
//! nothing worse. The first rule of a bucket, the one of best precedence, lies in the table itself, so that a bucket of
//! one costs one access.

use super::rule::{FIELDS, Rule, Span, Tuple, mask};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Which bits of each field are compared: prefix lengths of the addresses, all or nothing of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask(pub [u32; FIELDS]);

impl Mask {
    /// The hash of what the mask leaves of `tuple`.
    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        let [a, b, c, d, e] = self.0;
        let addresses = u64::from(tuple[0] & a) << 32 | u64::from(tuple[1] & b);
        let rest = u64::from(tuple[2] & c) << 32 | u64::from(tuple[3] & d) << 16 | u64::from(tuple[4] & e);
        fold(
            fold(addresses ^ 0x243f_6a88_85a3_08d3, 0x9e37_79b9_7f4a_7c15) ^ rest,
            0xd6e8_feb8_6659_fd93,
        )
    }

    /// The mask of two prefix lengths.
    pub const fn of_lengths(lengths: [u32; 2]) -> Self {
        Self([mask(lengths[0]), mask(lengths[1]), 0, 0, 0])
    }

    /// Whether a rule can be found under it: every bit it compares is fixed by the rule.
    pub fn fits(&self, rule: &Rule) -> bool {
        self.0
            .iter()
            .zip(rule.spans)
            .all(|(mask, Span { low, high })| (low ^ high) & mask == 0)
    }
}

/// Both halves of the product: every bit of the result depends on every bit of the factors.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Keys are hashes already.
#[derive(Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = fold(self.0 ^ u64::from(*byte), 0x9e37_79b9_7f4a_7c15));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Rules with one key, in order of precedence.
pub struct Bucket {
    first: Rule,
    rest: Vec<Rule>,
}

impl Bucket {
    pub const fn len(&self) -> usize {
        1 + self.rest.len()
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn insert(&mut self, rule: Rule) {
        let displaced = if rule.precedence < self.first.precedence {
            std::mem::replace(&mut self.first, rule)
        } else {
            rule
        };
        let at = self
            .rest
            .partition_point(|other| other.precedence <= displaced.precedence);
        self.rest.insert(at, displaced);
    }
}

/// The rules of one mask.
pub struct Buckets {
    pub mask: Mask,
    by_hash: HashMap<u64, Bucket, BuildHasherDefault<Hashed>>,
    /// How many rules have which precedence, to know the best when one goes.
    census: BTreeMap<u32, u32>,
    best: u32,
}

impl Buckets {
    pub fn new(mask: Mask) -> Self {
        Self {
            mask,
            by_hash: HashMap::default(),
            census: BTreeMap::new(),
            best: u32::MAX,
        }
    }

    /// The lowest precedence value in it.
    #[inline]
    pub const fn best(&self) -> u32 {
        self.best
    }

    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn hash_of(&self, rule: &Rule) -> u64 {
        self.mask.hash(&rule.spans.map(|span| span.low))
    }

    /// The rules that share the bucket of `rule`.
    pub fn bucket_of(&self, rule: &Rule) -> Option<&Bucket> {
        self.by_hash.get(&self.hash_of(rule))
    }

    pub fn insert(&mut self, rule: Rule) {
        let hash = self.hash_of(&rule);
        *self.census.entry(rule.precedence).or_default() += 1;
        self.best = self.best.min(rule.precedence);
        match self.by_hash.get_mut(&hash) {
            Some(bucket) => bucket.insert(rule),
            None => drop(self.by_hash.insert(
                hash,
                Bucket {
                    first: rule,
                    rest: Vec::new(),
                },
            )),
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, rule: &Rule) -> bool {
        let hash = self.hash_of(rule);
        let Some(bucket) = self.by_hash.get_mut(&hash) else {
            return false;
        };
        let same = |other: &Rule| other.spans == rule.spans && other.precedence == rule.precedence;
        if same(&bucket.first) {
            if bucket.rest.is_empty() {
                self.by_hash.remove(&hash);
            } else {
                bucket.first = bucket.rest.remove(0);
            }
        } else if let Some(at) = bucket.rest.iter().position(same) {
            bucket.rest.remove(at);
        } else {
            return false;
        }
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

    /// The best rule that matches.
    #[inline]
    pub fn find(&self, tuple: &Tuple) -> Option<&Rule> {
        let bucket = self.by_hash.get(&self.mask.hash(tuple))?;
        bucket.rules().find(|rule| rule.matches(tuple))
    }
}

/// The best match of tables in order of their best precedence: the search ends where no table can be better.
#[inline]
pub fn find_in_order<'b>(tables: &'b [Buckets], tuple: &Tuple) -> Option<&'b Rule> {
    let mut found: Option<&Rule> = None;
    for table in tables {
        if found.is_some_and(|found| found.precedence <= table.best()) {
            break;
        }
        if let Some(rule) = table.find(tuple)
            && found.is_none_or(|found| rule.precedence < found.precedence)
        {
            found = Some(rule);
        }
    }
    found
}
