//! Rule sets: compiled shapes, shared by all sessions that have them.

use crate::ladder::Ladder;
use crate::program::{Arrival, Assembler, Group, Line, Rows};
use crate::row::{Place, Row, TooManyRows};
use crate::shape::{Shape, Shapes};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A group with more rows than this is indexed by a ladder.
const LARGE: usize = 64;

/// A compiled set of rules. Immutable; freed when the last session that has it is.
pub(crate) struct RuleSet {
    pub shapes: Shapes<'static>,
    /// Rank of each rule: the inverse of [`Shapes::order`].
    pub ranks: Box<[u16]>,
    pub program: Box<[Line]>,
    pub ladders: Box<[Ladder]>,
}

impl RuleSet {
    /// Compiles shapes. Cost: linear in the rows.
    pub fn of(shapes: Shapes<'static>) -> Result<Self, TooManyRows> {
        let mut groups: Vec<(Arrival, Vec<Row>)> = Vec::new();
        let mut ranks: Box<[u16]> = shapes.order.clone();
        let mut rows = Vec::new();
        let mut total = 0;
        for (rank, &rule) in shapes.order.iter().enumerate() {
            ranks[usize::from(rule)] = rank as u16;
            let shape = &shapes.rules[usize::from(rule)];
            rows.clear();
            Row::of(shape, Place::new(rank, rule), &mut rows)?;
            for arrival in arrivals(shape) {
                total += rows.len();
                match groups.iter_mut().find(|(known, _)| *known == arrival) {
                    Some((_, known)) => known.extend_from_slice(&rows),
                    None => groups.push((arrival, rows.clone())),
                }
            }
            if total > crate::row::MAX_ROWS {
                return Err(TooManyRows);
            }
        }
        groups.retain(|(_, rows)| !rows.is_empty());
        groups.sort_by_key(|(_, rows)| rows[0].place);
        let mut assembler = Assembler::with_groups(groups.len());
        let mut ladders = Vec::new();
        let place = |(arrival, rows): (Arrival, Vec<Row>)| {
            let best = rows[0].place;
            let rows = if rows.len() > LARGE {
                ladders.push(Ladder::of(&rows));
                Rows::Ladder(ladders.len() as u32 - 1)
            } else {
                Rows::Chunks(assembler.rows(&rows))
            };
            Group { arrival, best, rows }
        };
        let groups: Vec<Group> = groups.into_iter().map(place).collect();
        Ok(Self {
            shapes,
            ranks,
            program: assembler.finish(&groups),
            ladders: ladders.into(),
        })
    }
}

/// How packets of a rule may arrive: by keys that leave nothing to check, and by keys that do.
fn arrivals(shape: &Shape<'_>) -> impl Iterator<Item = Arrival> {
    let interface = 1 << (shape.source_interface as u32 + 16);
    let interface_and_instance = interface | u32::from(shape.network_instance.0);
    let ways = [(shape.free_keys, None), (shape.checked_keys, shape.ue_set)];
    let possible = ways.into_iter().filter(|(keys, _)| *keys != 0);
    possible.map(move |(keys, ue_set)| Arrival {
        interface_and_instance,
        keys,
        ue_set,
    })
}

/// The rule sets that sessions have, each once.
///
/// They are found by a keyed hash of their shapes. Should two different ones have the same 64 bits, the later one is
/// not shared: it costs its own memory, and nothing else.
#[derive(Default)]
pub(crate) struct RuleSets {
    by_hash: HashMap<u64, Arc<RuleSet>, RandomState>,
    hasher: RandomState,
}

impl RuleSets {
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// The set of those shapes, compiled if no session has it yet. `hint` is a set that it may well be.
    pub fn get(&mut self, shapes: Shapes<'_>, hint: Option<&Arc<RuleSet>>) -> Result<Arc<RuleSet>, TooManyRows> {
        if let Some(hint) = hint.filter(|hint| hint.shapes == shapes) {
            return Ok(Arc::clone(hint));
        }
        match self.by_hash.entry(self.hasher.hash_one(&shapes)) {
            Entry::Occupied(known) if known.get().shapes == shapes => Ok(Arc::clone(known.get())),
            Entry::Occupied(_) => Ok(Arc::new(RuleSet::of(shapes.into_owned())?)),
            Entry::Vacant(place) => Ok(Arc::clone(place.insert(Arc::new(RuleSet::of(shapes.into_owned())?)))),
        }
    }

    /// A session no longer has that set: forgets it if it was the last one.
    pub fn release(&mut self, set: Arc<RuleSet>) {
        // This handle, and the collection's if it has one.
        if Arc::strong_count(&set) <= 2
            && let Entry::Occupied(known) = self.by_hash.entry(self.hasher.hash_one(&set.shapes))
            && Arc::ptr_eq(known.get(), &set)
        {
            known.remove();
        }
    }
}
