//! Rule sets: compiled shapes, shared by all sessions that have them.

use crate::PacketFields;
use crate::ladder::Ladder;
use crate::packet::word;
use crate::program::{Arrival, Assembler, Group, Line, Rows};
use crate::row::{Place, Row, TooManyRows};
use crate::shape::{Shape, Shapes};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A group with more rows than this is indexed by a ladder.
const LARGE: usize = 64;

/// A compiled set of rules. Immutable; freed when the last session that has it is.
pub(crate) struct RuleSet {
    pub shapes: Shapes,
    /// Rank of each rule: the inverse of [`Shapes::order`].
    pub ranks: Box<[u16]>,
    pub program: Box<[Line]>,
    pub ladders: Box<[Ladder]>,
}

impl RuleSet {
    /// Compiles shapes. Cost: linear in the rows.
    pub fn of(shapes: Shapes) -> Result<Self, TooManyRows> {
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
fn arrivals(shape: &Shape) -> impl Iterator<Item = Arrival> {
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

const _: () = assert!(word::COUNT == 16 && size_of::<PacketFields>() == 64);

/// A rule set in the writer's collection: equal and hashed by its shapes.
pub(crate) struct Interned(pub Arc<RuleSet>);

impl Borrow<Shapes> for Interned {
    fn borrow(&self) -> &Shapes {
        &self.0.shapes
    }
}
impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        self.0.shapes == other.0.shapes
    }
}
impl Eq for Interned {}
impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.shapes.hash(state);
    }
}
