//! Sections: more rows of one direction than a block holds, or rows that ask for an Ethernet header.
//!
//! The rows stand in order of precedence, so that the lowest position wins. Two indexes say which of them are worth
//! comparing with a packet; whichever it is, the rows that are compared are compared in full, so an index may name too
//! many and must not name too few: a [`Sieve`], up to [`MOST_SIEVED`] rows, or a [`Ladder`], for more.
//!
//! A section never changes once readers may see it. [`Section::spliced`] makes another one out of it, which has some rows
//! less and some more, without looking at the others again.

use crate::block::generic;
use crate::ethernet::HeaderRow;
use crate::ladder::Ladder;
use crate::row::{COMPACT, Row, agrees};
use crate::sieve::{MOST_SIEVED, Plan, Sieve, Sieved};
use crate::vector::Vectors;
use crate::{EthernetFields, FlowMask, PacketFields, RuleIndex};
use std::ops::Range;

/// A packet as rows of a section are compared with it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'p> {
    pub packet: &'p PacketFields,
    /// Its [kind](crate::row::kind).
    pub kind: u32,
    pub frame: Option<&'p EthernetFields>,
}

/// The rows of one direction. (Aligned, so that a pointer to it has room for marks.)
#[repr(align(64))]
pub(crate) struct Section {
    rows: Rows,
    /// Of more rows than a sieve is made for.
    ladder: Option<Ladder>,
    flow_mask: FlowMask,
    /// How many rows have come or gone since the bytes of the sieve were chosen.
    spliced: usize,
}

impl Section {
    /// Of rows in order of precedence.
    pub fn of(rows: &[Row]) -> Self {
        let is_sieved = rows.len() <= MOST_SIEVED;
        let ladder = (!is_sieved).then(|| Ladder::of(rows));
        let rows = Rows::of(rows, is_sieved);
        Self {
            ladder,
            flow_mask: rows.flow_mask(),
            rows,
            spliced: 0,
        }
    }

    /// The same section, but that the rows in `removed` are gone, `rows` have come in at `at` (a position among those
    /// that are left), and every rule has the number that `renumber` gives it. `None`: it is better made anew, because
    /// it has a ladder or gets one, gets other columns, or has come far from what its sieve was made for.
    pub fn spliced(
        &self,
        removed: Range<usize>,
        (at, rows): (usize, &[Row]),
        renumber: impl Fn(RuleIndex) -> RuleIndex,
    ) -> Option<Self> {
        let len = self.rows.len();
        let spliced = self.spliced + rows.len().max(removed.len());
        let is_far = spliced > 16 + len / 4;
        if self.ladder.is_some()
            || is_far
            || len - removed.len() + rows.len() > MOST_SIEVED
            || Rows::columns(rows) & !self.rows.columns != 0
        {
            return None;
        }
        let rows = self.rows.spliced(removed, (at, rows), renumber);
        Some(Self {
            ladder: None,
            flow_mask: rows.flow_mask(),
            rows,
            spliced,
        })
    }

    /// How many rows it has.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a row asks for an Ethernet header.
    pub const fn has_headers(&self) -> bool {
        self.rows.columns & HEADERS != 0
    }

    /// Whether it is a section of the same rows.
    pub fn is_like(&self, other: &Self) -> bool {
        self.rows == other.rows
    }

    /// Whether it was made of these rows.
    pub fn is_of(&self, rows: &[Row]) -> bool {
        rows.len() == self.rows.len() && self.rows == Rows::of(rows, false)
    }

    /// Where the rows of that rule are.
    pub fn rows_of(&self, rule: RuleIndex) -> Range<usize> {
        let rules = || self.rows.sieve.rows().iter().map(|row| row.rule);
        let first = rules().take_while(|of| *of != rule).count();
        first..first + rules().skip(first).take_while(|of| *of == rule).count()
    }

    /// How many rows are before a rule's, not counting those in `own`. `is_before` knows which rules are.
    pub fn position(&self, own: &Range<usize>, is_before: impl Fn(RuleIndex) -> bool) -> usize {
        let rows = self.rows.sieve.rows();
        let (before, after) = (&rows[..own.start], &rows[own.end..]);
        let is_before = |row: &Sieved| is_before(row.rule);
        if before.last().is_some_and(|last| !is_before(last)) {
            before.partition_point(is_before)
        } else {
            own.start + after.partition_point(is_before)
        }
    }

    /// What its rows look at.
    pub const fn flow_mask(&self) -> FlowMask {
        self.flow_mask
    }

    /// How to search it, if its rows have the compact form alone, and a sieve.
    #[inline(always)]
    pub fn plan(&self) -> Option<Plan<'_>> {
        (self.ladder.is_none() && self.rows.columns == 0).then(|| self.rows.sieve.plan())
    }

    /// The rule of the first row that matches.
    #[inline(always)]
    pub fn first<V: Vectors>(&self, subject: Subject<'_>) -> Option<RuleIndex> {
        match &self.ladder {
            Some(ladder) => self.rows.rule(ladder.first(&self.rows, subject)?),
            None => {
                let plan = self.rows.sieve.plan();
                let left = plan.left::<V>(subject.packet);
                plan.first_of::<V>(left, subject.packet, |row, _| self.rows.matches(row, subject))
            }
        }
    }

    /// The rules of all rows that match.
    #[inline]
    pub fn each<V: Vectors>(&self, subject: Subject<'_>, seen: &mut impl FnMut(RuleIndex)) {
        let matching = |row: &usize| self.rows.matches(*row, subject);
        let rule = |row: usize| self.rows.rule(row);
        match &self.ladder {
            Some(ladder) => ladder
                .candidates(subject.packet)
                .filter(matching)
                .filter_map(rule)
                .for_each(seen),
            None => {
                let plan = self.rows.sieve.plan();
                plan.each::<V>(subject.packet, |row, sieved| {
                    if self.rows.matches(row, subject) {
                        seen(sieved.rule);
                    }
                });
            }
        }
    }
}

/// Marks, among columns, rows that ask for an Ethernet header. (All rows have the compact form, which needs no bit here.)
const HEADERS: u16 = COMPACT;

/// Rows, one by one.
pub(crate) struct Rows {
    /// Each with the index of its rule.
    sieve: Sieve,
    /// Which generic columns there are, and their words, those of one row side by side.
    columns: u16,
    generic: Vec<[u32; 2]>,
    /// If there are [`HEADERS`], what each row asks of them.
    headers: Vec<HeaderRow>,
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
            && self.sieve.rows() == other.sieve.rows()
            && self.generic == other.generic
            && self.headers == other.headers
    }
}

impl Rows {
    fn of(rows: &[Row], is_sieved: bool) -> Self {
        let sieve = if is_sieved {
            Sieve::of(rows)
        } else {
            Sieve::without_columns(rows)
        };
        let mut of = Self {
            sieve,
            columns: Self::columns(rows),
            generic: Vec::new(),
            headers: Vec::new(),
        };
        of.put((0, rows));
        of
    }

    fn columns(rows: &[Row]) -> u16 {
        let headers = if rows.iter().any(Row::asks_for_header) {
            HEADERS
        } else {
            0
        };
        rows.iter().fold(0, |set, row| set | row.columns()) & !COMPACT | headers
    }

    /// Puts in what rows that have come in ask for beside their compact form: nothing that has no column.
    fn put(&mut self, (at, rows): (usize, &[Row])) {
        let columns = self.columns;
        let words = |row: &Row| generic(columns).map(|w| row.generic(w)).collect::<Vec<_>>();
        let at_word = at * self.generic_columns();
        self.generic.splice(at_word..at_word, rows.iter().flat_map(words));
        if columns & HEADERS != 0 {
            self.headers.splice(at..at, rows.iter().map(|row| row.header));
        }
    }

    fn spliced(&self, removed: Range<usize>, rows: (usize, &[Row]), renumber: impl Fn(RuleIndex) -> RuleIndex) -> Self {
        let count = self.generic_columns();
        let mut new = Self {
            sieve: self.sieve.spliced(removed.clone(), rows, renumber),
            columns: self.columns,
            generic: self.generic.clone(),
            headers: self.headers.clone(),
        };
        new.generic.drain(removed.start * count..removed.end * count);
        if self.columns & HEADERS != 0 {
            new.headers.drain(removed);
        }
        new.put(rows);
        new
    }

    const fn len(&self) -> usize {
        self.sieve.len()
    }

    const fn generic_columns(&self) -> usize {
        (self.columns & !HEADERS).count_ones() as usize
    }

    fn rule(&self, row: usize) -> Option<RuleIndex> {
        self.sieve.rows().get(row).map(|row| row.rule)
    }

    /// Whether that row matches.
    #[inline(always)]
    pub fn matches(&self, row: usize, subject: Subject<'_>) -> bool {
        let Some(sieved) = self.sieve.rows().get(row) else {
            return false;
        };
        sieved.row.agrees(subject.packet, subject.kind) && (self.columns == 0 || self.agrees(row, subject))
    }

    fn flow_mask(&self) -> FlowMask {
        let mut mask = FlowMask::default();
        for (at, Sieved { row, .. }) in self.sieve.rows().iter().enumerate() {
            mask.look_at(row);
            for (w, words) in generic(self.columns).zip(self.generic_of(at)) {
                mask.look_at_generic(w, *words, row.is_v6());
            }
        }
        self.headers.iter().for_each(|header| mask.ethernet.look_at(header));
        mask
    }

    fn generic_of(&self, row: usize) -> &[[u32; 2]] {
        let count = self.generic_columns();
        &self.generic[row * count..][..count]
    }

    fn agrees(&self, row: usize, Subject { packet, frame, .. }: Subject<'_>) -> bool {
        let columns = generic(self.columns).zip(self.generic_of(row));
        columns.into_iter().all(|(w, words)| agrees(packet, w, *words))
            && self.headers.get(row).is_none_or(|header| header.agrees(frame))
    }
}
