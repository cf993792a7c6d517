//! Sieves: which rows of a section are worth comparing with a packet, by up to three bytes of it.
//!
//! Of each row it is written down which values a byte of its packets may have: from one value on, so many more (beyond
//! 255 it goes on with 0). That is a *column*: a byte for each row, sixty-four rows in a line, and in as many lines again
//! how many more, unless every row takes one value of every byte. A vector instruction or two say which of sixty-four rows
//! are left. Which bytes are looked at is decided when the sieve is made, by which of them tell the rows apart best; none
//! is, that tells no more than those before it. Usually one or two rows are left, and are compared in full.
//!
//! ```text
//!   lows of column 0 │ more of column 0 │ lows of column 1 │ … │ rows, 16 bytes each, in order of precedence
//! ```
//! All this is one block of lines, and a [`Plan`] of it two words, which fit the header of an [entry](crate::entry): so the
//! lines of the columns can be asked for as soon as the header is there.

mod plan;

use crate::arena::{LINE, Line};
use crate::packet::{octets, word};
use crate::row::{Compact, Row};
use crate::{PacketFields, RuleIndex};
use std::ops::Range;

pub(crate) use plan::{Left, PLAN_BITS, Plan};

/// Rows that a sieve is made for.
pub(crate) const MOST_SIEVED: usize = 2_048;
/// Bytes that it looks at.
const COLUMNS: usize = 3;
/// A byte of a packet's words: the number of its word above two bits that say which byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Byte(u8);

/// The bytes that are worth looking at.
const CANDIDATES: [Byte; 26] = {
    let mut bytes = [Byte(0); 26];
    let mut at = 0;
    // Both addresses' leading eight bytes: what lies behind is a host's, and four of the UE's are enough.
    while at < 12 {
        let word = if at < 8 { word::REMOTE + at / 4 } else { word::UE };
        bytes[at] = Byte((word << 2 | (3 - at % 4)) as u8);
        at += 1;
    }
    let others = [
        (word::REMOTE + 2, 3),
        (word::REMOTE + 3, 0),
        (word::REMOTE_PORT, 1),
        (word::REMOTE_PORT, 0),
        (word::UE_PORT, 1),
        (word::UE_PORT, 0),
        (word::OCTETS, 0),
        (word::OCTETS, 1),
        (word::SPI, 0),
        (word::SPI, 1),
        (word::FLOW_LABEL, 0),
        (word::FLOW_LABEL, 1),
        (word::QFI_LOW, 0),
        (word::QFI_LOW, 1),
    ];
    let mut i = 0;
    while i < others.len() {
        bytes[at] = Byte((others[i].0 << 2 | others[i].1) as u8);
        at += 1;
        i += 1;
    }
    bytes
};

impl Byte {
    const fn word(self) -> usize {
        (self.0 >> 2) as usize
    }

    const fn shift(self) -> u32 {
        8 * (self.0 & 3) as u32
    }

    #[inline(always)]
    fn of(self, packet: &PacketFields) -> u8 {
        packet.byte(self.word(), usize::from(self.0 & 3))
    }

    /// How a packet's byte may be, if it matches the row. (It may say too much, never too little.)
    fn accepted(self, row: &Row) -> Values {
        let w = self.word();
        let (a, b) = (row.a[w], row.b[w]);
        if word::RANGES >> w & 1 == 1 {
            let (low, high) = (a >> self.shift(), a.saturating_add(b) >> self.shift());
            return if b > 0xffff || high - low >= 0xff {
                Values::EVERY
            } else {
                Values {
                    low: low as u8,
                    more: (high - low) as u8,
                }
            };
        }
        let b = if w == word::OCTETS {
            b & (octets::PROTOCOL | octets::TOS)
        } else {
            b
        };
        let (a, b) = ((a >> self.shift()) as u8, (b >> self.shift()) as u8);
        Values { low: a & b, more: !b }
    }
}

/// Values of a byte: from the lowest on, so many more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Values {
    low: u8,
    more: u8,
}

impl Values {
    const EVERY: Self = Self { low: 0, more: u8::MAX };

    const fn contains(self, value: u8) -> bool {
        value.wrapping_sub(self.low) <= self.more
    }

    /// One of them.
    const fn any_of(self, random: u8) -> u8 {
        let more = (random as u16 * (self.more as u16 + 1)) >> 8;
        self.low.wrapping_add(more as u8)
    }
}

/// A row as it is compared with packets, and its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Sieved {
    pub row: Compact,
    pub rule: RuleIndex,
}

impl Sieved {
    fn of(row: &Row) -> Self {
        Self {
            row: row.compact(),
            rule: row.rule,
        }
    }
}

/// Rows in a line.
const ROWS_IN_LINE: usize = LINE / size_of::<Sieved>();

/// The compact forms of a section's rows, behind a sieve for them, if it has one.
pub(crate) struct Sieve {
    lines: Box<[Line]>,
    shape: Shape,
    len: usize,
}

/// Which columns there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Shape {
    bytes: [Byte; COLUMNS],
    columns: usize,
    /// A row takes more than one value of one of the bytes.
    is_spread: bool,
}

impl Shape {
    fn bytes(&self) -> impl Iterator<Item = (usize, Byte)> {
        self.bytes.into_iter().take(self.columns).enumerate()
    }

    /// Lines of all columns, for so many rows.
    const fn lines(&self, rows: usize) -> usize {
        rows.div_ceil(LINE) * (self.columns << self.is_spread as u32)
    }

    /// Where the bytes of a column are, for so many rows: the lows, and how many more if that is said.
    fn places(&self, column: usize, rows: usize) -> (usize, Option<usize>) {
        let column_bytes = rows.div_ceil(LINE) * LINE;
        let at = column_bytes * (column << u32::from(self.is_spread));
        (at, self.is_spread.then_some(at + column_bytes))
    }
}

impl Sieve {
    /// Of rows in order of precedence, at most [`MOST_SIEVED`].
    pub fn of(rows: &[Row]) -> Self {
        Self::made(Self::telling(rows), rows)
    }

    /// Just the rows.
    pub fn without_columns(rows: &[Row]) -> Self {
        Self::made(Shape::default(), rows)
    }

    fn made(shape: Shape, rows: &[Row]) -> Self {
        let empty = Self {
            lines: Box::default(),
            shape,
            len: 0,
        };
        empty.spliced(0..0, (0, rows), |rule| rule)
    }

    /// The same for rows of which those in `removed` are gone and `rows` have come in at `at`, a position among those that
    /// are left; every rule has the number that `renumber` gives it.
    pub fn spliced(
        &self,
        removed: Range<usize>,
        (at, rows): (usize, &[Row]),
        renumber: impl Fn(RuleIndex) -> RuleIndex,
    ) -> Self {
        let len = self.len - removed.len() + rows.len();
        let mut shape = self.shape;
        if len == 0 {
            shape = Shape::default();
        }
        for (_, byte) in self.shape.bytes() {
            shape.is_spread |= rows.iter().any(|row| byte.accepted(row).more > 0);
        }
        let mut lines = vec![Line::ZERO; shape.lines(len) + len.div_ceil(ROWS_IN_LINE)].into_boxed_slice();
        let bytes = bytes_of(&mut lines);
        for (column, byte) in shape.bytes() {
            let (lows, more) = shape.places(column, len);
            let (old_lows, old_more) = self.shape.places(column, self.len);
            let new = |part: fn(Values) -> u8| rows.iter().map(move |row| part(byte.accepted(row)));
            let places = &mut bytes[lows..][..len];
            let old = &self.bytes()[old_lows..][..self.len];
            splice(places, old, &removed, (at, new(|values| values.low)));
            if let Some(more) = more {
                let places = &mut bytes[more..][..len];
                let new = (at, new(|values| values.more));
                match old_more {
                    Some(old_more) => splice(places, &self.bytes()[old_more..][..self.len], &removed, new),
                    None => splice(places, &vec![0; self.len], &removed, new),
                }
            }
        }
        let mut new = Self { lines, shape, len };
        let renumbered = |row: &Sieved| Sieved {
            rule: renumber(row.rule),
            ..*row
        };
        let others = self.rows()[..removed.start].iter().chain(&self.rows()[removed.end..]);
        let (places, mut others) = (new.rows_mut(), others.map(renumbered));
        let all = others.by_ref().take(at).collect::<Vec<_>>();
        let all = all.into_iter().chain(rows.iter().map(Sieved::of)).chain(others);
        places.iter_mut().zip(all).for_each(|(place, row)| *place = row);
        new
    }

    /// The bytes that leave the fewest rows: one after the other, each the best beside those before it, judged by a few
    /// packets that are each meant for one of the rows, and by some of the rows.
    fn telling(rows: &[Row]) -> Shape {
        const PACKETS: usize = 16;
        const JUDGED: usize = 64;
        let some = |most: usize| rows.iter().step_by(rows.len().div_ceil(most).max(1));
        let used = rows.iter().fold(0, |set, row| set | row.looked_at());
        // For each byte worth looking at: the rows that each packet may match after a look at it.
        let look = |byte: &Byte| {
            let judged: Vec<Values> = some(JUDGED).map(|row| byte.accepted(row)).collect();
            let of_packet = |(number, row): (usize, &Row)| {
                let value = byte.accepted(row).any_of((number * 0x9d) as u8);
                let set = |set: u64, (at, values): (usize, &Values)| set | u64::from(values.contains(value)) << at;
                judged.iter().enumerate().fold(0u64, set)
            };
            let mut left = [0u64; PACKETS];
            left.iter_mut()
                .zip(some(PACKETS).enumerate().map(of_packet))
                .for_each(|(left, set)| *left = set);
            (*byte, left)
        };
        let worth = CANDIDATES.iter().filter(|byte| used >> byte.word() & 1 == 1);
        let looks: Vec<(Byte, [u64; PACKETS])> = worth.map(look).collect();
        let all = u64::MAX >> (JUDGED - some(JUDGED).count().clamp(1, JUDGED));
        let mut left = [all; PACKETS];
        let stands_for = rows.len().div_ceil(JUDGED);
        let mut shape = Shape::default();
        while shape.columns < COLUMNS {
            let count = |left: &[u64; PACKETS]| left.iter().map(|set| set.count_ones() as usize).sum::<usize>();
            let after = |look: &[u64; PACKETS]| {
                let mut after = left;
                after.iter_mut().zip(look).for_each(|(left, look)| *left &= look);
                after
            };
            let best = looks.iter().min_by_key(|(_, look)| count(&after(look)));
            let Some((byte, look)) = best else { break };
            // A column is worth its lines if it spares every fourth packet a row.
            let spared = (count(&left) - count(&after(look))) * stands_for;
            if spared * 4 < PACKETS {
                break;
            }
            left = after(look);
            shape.bytes[shape.columns] = *byte;
            shape.columns += 1;
        }
        shape
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: lines are words, of which every byte is one.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    /// The rows in order of precedence.
    pub fn rows(&self) -> &[Sieved] {
        let at = self.shape.lines(self.len) * LINE;
        let bytes = &self.bytes()[at..][..self.len * size_of::<Sieved>()];
        // SAFETY: rows are words of any value, and behind whole lines, hence aligned.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }

    fn rows_mut(&mut self) -> &mut [Sieved] {
        let (at, len) = (self.shape.lines(self.len) * LINE, self.len);
        let bytes = &mut bytes_of(&mut self.lines)[at..][..len * size_of::<Sieved>()];
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
    }

    /// How packets are compared with at most [`MOST_SIEVED`] rows.
    #[inline(always)]
    pub fn plan(&self) -> Plan<'_> {
        Plan::of(self)
    }
}

/// The bytes of lines.
fn bytes_of(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: lines are words, of which every byte is one, and may be any.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// Writes `old` without what is removed, and what has come in at a position of what is left.
fn splice(places: &mut [u8], old: &[u8], removed: &Range<usize>, (at, new): (usize, impl Iterator<Item = u8>)) {
    let mut all = Vec::with_capacity(places.len() + removed.len());
    all.extend_from_slice(&old[..removed.start]);
    all.extend_from_slice(&old[removed.end..]);
    all.splice(at..at, new);
    places.copy_from_slice(&all);
}
