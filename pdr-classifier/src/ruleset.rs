//! Rule sets that sessions share, each stored once.
//!
//! Two sessions share a set if their rows and shapes are the same; what differs (keys, addresses, precedence values) is
//! in their entries. Most sessions' sets are either everybody's or nobody else's, and the latter would fill a table of
//! all sets with a million entries that are never found. So a set is kept here from its *second* appearance on: a small
//! filter remembers which ones were seen lately. Large sets, which are dear, are kept from the first on.

use crate::FlowMask;
use crate::arena::Line;
use crate::block::{Form, Words};
use crate::precedence::Ranking;
use crate::row::Row;
use crate::section::Section;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};

/// Sets that the filter remembers.
const SEEN: usize = 1 << 14;

/// Rankings that are remembered.
const RANKINGS: usize = 16;

/// A set of rules. Immutable; freed when the last session that has it is.
pub(crate) struct RuleSet {
    hash: u64,
    shapes: Box<[u8]>,
    body: Body,
}

enum Body {
    Block(Form, Box<[Line]>),
    Sections {
        sections: Box<[Arc<Section>]>,
        ranking: Arc<Ranking>,
    },
}

impl RuleSet {
    pub fn shapes(&self) -> &[u8] {
        &self.shapes
    }
    pub const fn has_sections(&self) -> bool {
        matches!(self.body, Body::Sections { .. })
    }
    /// Its block, unless it has sections.
    pub fn block(&self) -> &[Line] {
        match &self.body {
            Body::Block(_, block) => block,
            Body::Sections { .. } => &[],
        }
    }
    /// Its sections, if it has any.
    pub fn sections(&self) -> &[Arc<Section>] {
        match &self.body {
            Body::Block(..) => &[],
            Body::Sections { sections, .. } => sections,
        }
    }
    /// A section.
    #[inline(always)]
    pub fn section(&self, number: u16) -> Option<&Section> {
        self.sections().get(usize::from(number)).map(|section| &**section)
    }
    /// What a section's rows look at.
    pub fn flow_mask(&self, section: u16) -> FlowMask {
        self.section(section).map_or_else(FlowMask::default, Section::flow_mask)
    }
    /// The ranking of its rules, if it has sections.
    pub const fn ranking(&self) -> Option<&Arc<Ranking>> {
        match &self.body {
            Body::Block(..) => None,
            Body::Sections { ranking, .. } => Some(ranking),
        }
    }
}

/// The rule sets that sessions share.
pub(crate) struct RuleSets {
    by_hash: HashMap<u64, Arc<RuleSet>, RandomState>,
    seen: Box<[u32]>,
    /// Rankings of late, by their hash: sets that differ otherwise have few.
    rankings: [Weak<Ranking>; RANKINGS],
    hasher: RandomState,
}

impl Default for RuleSets {
    fn default() -> Self {
        Self {
            by_hash: HashMap::default(),
            seen: vec![0; SEEN].into(),
            rankings: Default::default(),
            hasher: RandomState::default(),
        }
    }
}

impl RuleSets {
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// The set of that block and those shapes, if it is worth sharing. Should two different sets have the same 64 bits
    /// of hash, the later one is not shared: it costs its own memory, and nothing else.
    pub fn block(&mut self, form: Form, block: &[Line], shapes: &[u8]) -> Option<Arc<RuleSet>> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(u32::from(form.columns) << 16 | u32::from(form.lanes) << 8 | u32::from(form.is_plain));
        let words = block.as_flattened_words();
        words
            .as_chunks::<2>()
            .0
            .iter()
            .for_each(|[a, b]| hasher.write_u64(u64::from(*a) << 32 | u64::from(*b)));
        hasher.write(shapes);
        let hash = hasher.finish();
        if let Some(known) = self.by_hash.get(&hash) {
            let is_it =
                matches!(&known.body, Body::Block(f, b) if *f == form && **b == *block) && *known.shapes == *shapes;
            return is_it.then(|| Arc::clone(known));
        }
        let mark = (hash >> 32) as u32 | 1;
        let seen = &mut self.seen[hash as usize % SEEN];
        if std::mem::replace(seen, mark) != mark {
            return None;
        }
        let set = Arc::new(RuleSet {
            hash,
            shapes: shapes.into(),
            body: Body::Block(form, block.into()),
        });
        self.by_hash.insert(hash, Arc::clone(&set));
        Some(set)
    }

    /// The set of those rows and shapes, made if no session has it.
    pub fn sections(&mut self, sections: &[Vec<Row>], ranking: Ranking, shapes: &[u8]) -> Arc<RuleSet> {
        let are_they = |theirs: &[Arc<Section>]| {
            theirs.len() == sections.len() && theirs.iter().zip(sections).all(|(s, rows)| s.is_of(rows))
        };
        let make = || sections.iter().map(|rows| Arc::new(Section::of(rows))).collect();
        self.known_or_new(Arc::new(ranking), shapes, are_they, make)
    }

    /// The set of those sections, which were made out of those of another set, and shapes.
    pub fn spliced(&mut self, sections: Box<[Arc<Section>]>, ranking: Arc<Ranking>, shapes: &[u8]) -> Arc<RuleSet> {
        let are_they = |theirs: &[Arc<Section>]| {
            theirs.len() == sections.len() && theirs.iter().zip(&sections).all(|(a, b)| a.is_like(b))
        };
        self.known_or_new(ranking, shapes, are_they, || sections.clone())
    }

    /// Sets are looked for by their shapes and ranking: who differs in the rows all the same (by addresses of UEs that are
    /// in them) has a set of its own.
    fn known_or_new(
        &mut self,
        ranking: Arc<Ranking>,
        shapes: &[u8],
        are_they: impl Fn(&[Arc<Section>]) -> bool,
        make: impl Fn() -> Box<[Arc<Section>]>,
    ) -> Arc<RuleSet> {
        let mut hasher = self.hasher.build_hasher();
        ranking.order.iter().for_each(|rule| hasher.write_u32(*rule));
        let recent = &mut self.rankings[hasher.finish() as usize % RANKINGS];
        let ranking = match recent.upgrade().filter(|recent| *recent == ranking) {
            Some(known) => known,
            None => {
                *recent = Arc::downgrade(&ranking);
                ranking
            }
        };
        hasher.write(shapes);
        let hash = hasher.finish();
        let new = |ranking| {
            Arc::new(RuleSet {
                hash,
                shapes: shapes.into(),
                body: Body::Sections {
                    sections: make(),
                    ranking,
                },
            })
        };
        match self.by_hash.entry(hash) {
            Entry::Occupied(known) => {
                let set = known.get();
                let has_them = *set.shapes == *shapes && set.ranking() == Some(&ranking) && are_they(set.sections());
                if has_them { Arc::clone(set) } else { new(ranking) }
            }
            Entry::Vacant(place) => Arc::clone(place.insert(new(ranking))),
        }
    }

    /// A session no longer has that set: forgets it if it was the last one.
    pub fn release(&mut self, set: Arc<RuleSet>) {
        // This handle, and the collection's if it has one.
        if Arc::strong_count(&set) <= 2
            && let Entry::Occupied(known) = self.by_hash.entry(set.hash)
            && Arc::ptr_eq(known.get(), &set)
        {
            known.remove();
        }
    }
}
