//! Tables at run time: entries, and finding the one that a packet matches.
//!
//! # Layout
//! A key is a few 64-bit words (fields packed side by side, [`Packing`](crate::program::packing::Packing)). Entries
//! are *rows*: one array of words per table in which each row holds the key, what to do, the arguments, the direct
//! counter and the time of the last hit, side by side, so that a hit touches one or two cache lines. What only the
//! controller asks for (priority, masks as written, metadata) is kept apart.
//!
//! Rows with the same mask form a *tuple* with an open-addressing index of hashes ([`index`]). An exact table is one
//! tuple of a full mask; a longest-prefix table has a tuple for each prefix length in use, longest first; ternary,
//! range and optional tables have one for each combination of masks, in order of their best priority, and the search
//! ends as soon as no further tuple can win. Range bounds are checked on the candidates of their tuple.
//!
//! # Costs
//! Exact look-up ([`lookup`]): one index line and one row. Insertion: the same, and amortised growth of the index by
//! doubling. Rows have address space for as many as the table may hold from the start, and do not move.

pub(crate) mod index;
mod lookup;
pub(crate) mod matching;
pub(crate) mod profile;

use std::time::Duration;

use crate::memory::Cells;
use crate::program::table::{MatchSpec, RangeCheck, Table};
use index::{Index, hash_words};
use matching::Matcher;

/// The row that a miss uses: the default entry.
pub(crate) const DEFAULT_ROW: u32 = 0;

/// Tables with fewer entries are in the caches anyway.
const FAR: usize = 512;

/// Words of a cache line.
const LINE: usize = 8;

/// No row.
const NONE: u32 = u32::MAX;

/// Where in a row what stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowLayout {
    pub(crate) key: usize,
    /// Action and kind.
    pub(crate) control: usize,
    pub(crate) arguments: usize,
    pub(crate) argument_words: usize,
    /// Packets, bytes.
    pub(crate) counter: usize,
    pub(crate) last_hit: usize,
    pub(crate) stride: usize,
}

/// What a row does: the control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// Nothing: a miss without default action.
    Nothing,
    /// Action of the table, by position.
    Action(u32),
    /// Member of the action profile, by position.
    Member(u32),
    /// Group of the action profile, by position.
    Group(u32),
}

impl Control {
    #[inline]
    pub(crate) fn word(self) -> u64 {
        match self {
            Control::Action(n) => n as u64,
            Control::Member(n) => 1 << 32 | n as u64,
            Control::Group(n) => 2 << 32 | n as u64,
            Control::Nothing => 3 << 32,
        }
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        match word >> 32 {
            0 => Control::Action(word as u32),
            1 => Control::Member(word as u32),
            2 => Control::Group(word as u32),
            _ => Control::Nothing,
        }
    }
}

/// What only the controller asks for.
#[derive(Debug, Clone)]
pub(crate) struct Cold {
    /// Ranges; the rest of the match is the row's key and its tuple's mask.
    ranges: Option<Box<[RangeCheck]>>,
    pub(crate) priority: i64,
    /// Order of insertion: of equal priorities the older wins.
    sequence: u64,
    /// Next row of the same tuple with the same masked key, worse than this one.
    next: u32,
    tuple: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) timed_out: bool,
    pub(crate) metadata: Vec<u8>,
    pub(crate) is_const: bool,
    live: bool,
}

/// Rows that have the same mask.
#[derive(Debug)]
struct Tuple {
    mask: Box<[u64]>,
    /// Best priority of any row, never less.
    best: i64,
    rows: usize,
    index: Index,
}

/// A table's entries.
#[derive(Debug)]
pub(crate) struct MatchTable {
    pub(crate) layout: RowLayout,
    pub(crate) rows: Cells<u64>,
    pub(crate) cold: Vec<Cold>,
    pub(crate) meters: Vec<[u64; 8]>,
    free: Vec<u32>,
    tuples: Vec<Tuple>,
    /// Positions in `tuples`, the best priority first; tuples without rows are left out.
    order: Vec<u32>,
    pub(crate) count: usize,
    /// Words of a row that a hit may touch, by the entries that there have been.
    pub(crate) reach: usize,
    pub(crate) max_size: usize,
    /// One tuple, of a full mask: no priorities.
    exact: bool,
    has_ranges: bool,
    metered: bool,
    seed: u64,
    sequence: u64,
    /// Rows that have an idle timeout.
    pub(crate) with_timeout: usize,
}

/// Why a row could not be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InsertError {
    Exists,
    Full,
}

/// Words from one row to the next: rows of a cache line or less do not reach over two, longer ones begin at one.
fn row_stride(words: usize) -> usize {
    if words <= LINE {
        words.next_power_of_two()
    } else {
        words.next_multiple_of(LINE)
    }
}

impl MatchTable {
    pub(crate) fn new(table: &Table, argument_words: usize, matcher: &Matcher, seed: u64) -> Self {
        let key = table.key.words;
        let counter = key + 1 + argument_words;
        let last_hit = counter + if table.counters { 2 } else { 0 };
        let stride = row_stride(last_hit + usize::from(table.timeouts));
        let layout = RowLayout {
            key,
            control: key,
            arguments: key + 1,
            argument_words,
            counter,
            last_hit,
            stride,
        };
        let mut this = Self {
            layout,
            rows: Cells::for_up_to((table.max_size + 1).saturating_mul(stride)),
            cold: Vec::new(),
            meters: Vec::new(),
            free: Vec::new(),
            tuples: Vec::new(),
            order: Vec::new(),
            count: 0,
            reach: if table.counters || table.timeouts { stride } else { 0 },
            max_size: table.max_size,
            exact: matcher.is_exact(),
            has_ranges: matcher.has_ranges(),
            metered: table.meter.is_some(),
            seed,
            sequence: 0,
            with_timeout: 0,
        };
        if this.exact {
            this.tuples.push(Tuple {
                mask: matcher.full_mask(),
                best: 0,
                rows: 0,
                index: Index::default(),
            });
            this.order.push(0);
        }
        let default = this.new_row();
        this.rows[default as usize * stride + layout.control] = Control::Nothing.word();
        this
    }

    fn new_row(&mut self) -> u32 {
        if let Some(row) = self.free.pop() {
            return row;
        }
        let row = self.cold.len() as u32;
        self.rows
            .grow_to(self.cold.len() * self.layout.stride + self.layout.stride);
        if self.metered {
            self.meters.push([0; 8]);
        }
        self.cold.push(Cold {
            ranges: None,
            priority: 0,
            sequence: 0,
            next: NONE,
            tuple: NONE,
            idle_timeout: Duration::ZERO,
            timed_out: false,
            metadata: Vec::new(),
            is_const: false,
            live: row == DEFAULT_ROW,
        });
        row
    }

    /// A row's words.
    #[inline(always)]
    pub(crate) fn row(&self, row: u32) -> &[u64] {
        &self.rows[row as usize * self.layout.stride..][..self.layout.stride]
    }

    #[inline(always)]
    pub(crate) fn row_mut(&mut self, row: u32) -> &mut [u64] {
        &mut self.rows[row as usize * self.layout.stride..][..self.layout.stride]
    }

    /// A row's arguments.
    #[inline(always)]
    pub(crate) fn arguments(&self, row: u32) -> &[u64] {
        &self.row(row)[self.layout.arguments..][..self.layout.argument_words]
    }

    /// What a row does.
    #[inline(always)]
    pub(crate) fn control(&self, row: u32) -> Control {
        Control::from_word(self.row(row)[self.layout.control])
    }

    /// Rows there are, used or not, the default row included.
    pub(crate) fn row_count(&self) -> usize {
        self.cold.len()
    }

    /// Whether a row holds an entry.
    pub(crate) fn is_live(&self, row: u32) -> bool {
        row != DEFAULT_ROW && self.cold.get(row as usize).is_some_and(|c| c.live)
    }

    fn tuple_of(&self, mask: &[u64]) -> Option<usize> {
        self.tuples.iter().position(|t| *t.mask == *mask)
    }

    /// What an entry matches.
    pub(crate) fn spec(&self, row: u32) -> MatchSpec {
        let cold = &self.cold[row as usize];
        MatchSpec {
            value: self.row(row)[..self.layout.key].into(),
            mask: self.tuples[cold.tuple as usize].mask.clone(),
            ranges: cold.ranges.as_deref().unwrap_or_default().to_vec(),
        }
    }

    /// The row of the entry with exactly this match and priority.
    pub(crate) fn find(&self, spec: &MatchSpec, priority: i64) -> Option<u32> {
        let tuple = &self.tuples[self.tuple_of(&spec.mask)?];
        let mut row = self.probe(tuple, &spec.value).unwrap_or(NONE);
        while row != NONE {
            let cold = &self.cold[row as usize];
            if cold.ranges.as_deref().unwrap_or_default() == &*spec.ranges && (self.exact || cold.priority == priority)
            {
                return Some(row);
            }
            row = cold.next;
        }
        None
    }

    /// Adds an entry; its row's other words are zero.
    pub(crate) fn insert(&mut self, spec: MatchSpec, priority: i64) -> Result<u32, InsertError> {
        if self.find(&spec, priority).is_some() {
            return Err(InsertError::Exists);
        }
        if self.count >= self.max_size {
            return Err(InsertError::Full);
        }
        let tuple = match self.tuple_of(&spec.mask) {
            Some(tuple) => tuple,
            None => {
                let spare = self.tuples.iter().position(|t| t.rows == 0);
                let tuple = Tuple {
                    mask: spec.mask.clone(),
                    best: i64::MIN,
                    rows: 0,
                    index: Index::default(),
                };
                match spare {
                    Some(at) => {
                        self.tuples[at] = tuple;
                        at
                    }
                    None => {
                        self.tuples.push(tuple);
                        self.tuples.len() - 1
                    }
                }
            }
        };
        let row = self.new_row();
        self.sequence += 1;
        let sequence = self.sequence;
        let at = row as usize * self.layout.stride;
        self.rows[at..at + self.layout.stride].fill(0);
        self.rows[at..at + spec.value.len()].copy_from_slice(&spec.value);
        if self.metered {
            self.meters[row as usize] = [0; 8];
        }
        self.link(tuple, row, &spec.value, priority, sequence);
        self.cold[row as usize] = Cold {
            ranges: (!spec.ranges.is_empty()).then(|| spec.ranges.into()),
            priority,
            sequence,
            next: self.cold[row as usize].next,
            tuple: tuple as u32,
            idle_timeout: Duration::ZERO,
            timed_out: false,
            metadata: Vec::new(),
            is_const: false,
            live: true,
        };
        self.count += 1;
        Ok(row)
    }

    /// Puts a row into its tuple, in order of priority among those with the same masked key.
    fn link(&mut self, tuple: usize, row: u32, value: &[u64], priority: i64, sequence: u64) {
        let hash = hash_words(self.seed, value);
        let stride = self.layout.stride;
        let rows = &self.rows;
        let same = |r: u32| rows[r as usize * stride..][..value.len()] == *value;
        let head = self.tuples[tuple]
            .index
            .find(hash, same)
            .filter(|_| !self.exact)
            .unwrap_or(NONE);
        let before = |r: u32, cold: &[Cold]| {
            let c = &cold[r as usize];
            (c.priority, std::cmp::Reverse(c.sequence)) > (priority, std::cmp::Reverse(sequence))
        };
        if head == NONE || !before(head, &self.cold) {
            self.cold[row as usize].next = head;
            let index = &mut self.tuples[tuple].index;
            if head == NONE {
                index.insert(hash, row)
            } else {
                index.replace(hash, head, row)
            }
        } else {
            let mut at = head;
            while self.cold[at as usize].next != NONE && before(self.cold[at as usize].next, &self.cold) {
                at = self.cold[at as usize].next;
            }
            self.cold[row as usize].next = self.cold[at as usize].next;
            self.cold[at as usize].next = row;
        }
        let tuple_ref = &mut self.tuples[tuple];
        tuple_ref.rows += 1;
        let better = tuple_ref.rows == 1 || priority > tuple_ref.best;
        if better {
            tuple_ref.best = priority;
        }
        if better && !self.exact {
            self.sort();
        }
    }

    fn sort(&mut self) {
        let tuples = &self.tuples;
        self.order.clear();
        self.order
            .extend((0..tuples.len() as u32).filter(|t| tuples[*t as usize].rows > 0));
        self.order.sort_by_key(|t| std::cmp::Reverse(tuples[*t as usize].best));
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, row: u32) {
        let tuple = self.cold[row as usize].tuple as usize;
        let value = self.row(row)[..self.layout.key].to_vec();
        let hash = hash_words(self.seed, &value);
        let head = self.probe(&self.tuples[tuple], &value).unwrap_or(NONE);
        let next = self.cold[row as usize].next;
        if head == row {
            let index = &mut self.tuples[tuple].index;
            if next == NONE {
                index.remove(hash, row)
            } else {
                index.replace(hash, row, next)
            }
        } else {
            let mut at = head;
            while at != NONE && self.cold[at as usize].next != row {
                at = self.cold[at as usize].next;
            }
            if at != NONE {
                self.cold[at as usize].next = next;
            }
        }
        self.set_timeout(row, Duration::ZERO);
        let cold = &mut self.cold[row as usize];
        cold.live = false;
        cold.next = NONE;
        cold.metadata = Vec::new();
        cold.ranges = None;
        self.free.push(row);
        self.count -= 1;
        self.tuples[tuple].rows -= 1;
        if self.tuples[tuple].rows == 0 && !self.exact {
            self.sort();
        }
    }

    /// When an entry is reported as unused; zero: never.
    pub(crate) fn set_timeout(&mut self, row: u32, timeout: Duration) {
        let cold = &mut self.cold[row as usize];
        self.with_timeout -= usize::from(!cold.idle_timeout.is_zero());
        self.with_timeout += usize::from(!timeout.is_zero());
        cold.idle_timeout = timeout;
        cold.timed_out = false;
    }
}
