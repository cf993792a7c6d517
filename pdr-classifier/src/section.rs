//! Sections: more rows of one direction than a block holds, or rows that ask for an Ethernet header.
//!
//! The rows stand in order of precedence, so that the lowest position wins. Two indexes say which of them are worth
//! comparing with a packet; whichever it is, the rows that are compared are compared in full, so an index may name too
//! many and must not name too few: [`BitMaps`], up to [`MOST_MAPPED`] rows, or a [`Ladder`], for more.
//!
//! A section never changes once readers may see it. [`Section::spliced`] makes another one out of it, which has some rows
//! less and some more, without looking at the others again.

use crate::bitmaps::{BitMaps, MOST_MAPPED, NarrowMaps};
use crate::block::generic;
use crate::ethernet::HeaderRow;
use crate::ladder::Ladder;
use crate::row::{COMPACT, Compact, Row, agrees};
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

/// The rows of one direction.
pub(crate) struct Section {
    rows: Rows,
    index: Index,
    flow_mask: FlowMask,
    /// How many rows have come or gone since the bytes of the maps were chosen.
    spliced: usize,
}

enum Index {
    Maps(BitMaps),
    Ladder(Ladder),
}

impl Section {
    /// Of rows in order of precedence.
    pub fn of(rows: &[Row]) -> Self {
        let index = if rows.len() <= MOST_MAPPED {
            Index::Maps(BitMaps::of(rows))
        } else {
            Index::Ladder(Ladder::of(rows))
        };
        let rows = Rows::of(rows);
        Self {
            index,
            flow_mask: rows.flow_mask(),
            rows,
            spliced: 0,
        }
    }

    /// The same section, but that the rows in `removed` are gone, `rows` have come in at `at` (a position among those
    /// that are left), and every rule has the number that `renumber` gives it. `None`: it is better made anew, because
    /// it has a ladder or gets one, gets other columns, or has come far from what its maps were made for.
    pub fn spliced(
        &self,
        removed: Range<usize>,
        (at, rows): (usize, &[Row]),
        renumber: impl Fn(RuleIndex) -> RuleIndex,
    ) -> Option<Self> {
        let Index::Maps(maps) = &self.index else { return None };
        let len = self.rows.len();
        let spliced = self.spliced + rows.len().max(removed.len());
        let is_far = spliced > 16 + len / 4;
        if is_far || len - removed.len() + rows.len() > MOST_MAPPED || Rows::columns(rows) & !self.rows.columns != 0 {
            return None;
        }
        let index = Index::Maps(maps.spliced(len, removed.clone(), (at, rows)));
        let rows = self.rows.spliced(removed, (at, rows), renumber);
        Some(Self {
            index,
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
        rows.len() == self.rows.len() && self.rows == Rows::of(rows)
    }

    /// Where the rows of that rule are.
    pub fn rows_of(&self, rule: RuleIndex) -> Range<usize> {
        let rules = || self.rows.compact.iter().map(|(_, of)| *of);
        let first = rules().take_while(|of| *of != rule).count();
        first..first + rules().skip(first).take_while(|of| *of == rule).count()
    }

    /// How many rows are before a rule's, not counting those in `own`. `is_before` knows which rules are.
    pub fn position(&self, own: &Range<usize>, is_before: impl Fn(RuleIndex) -> bool) -> usize {
        let (before, after) = (&self.rows.compact[..own.start], &self.rows.compact[own.end..]);
        let is_before = |(_, rule): &(Compact, RuleIndex)| is_before(*rule);
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

    /// Its rows, if there are few enough for bit maps of sets of `W` words, and they have the compact form alone.
    #[inline(always)]
    pub fn narrow<const W: usize>(&self) -> Option<Narrow<'_, W>> {
        match &self.index {
            Index::Maps(maps) if self.rows.columns == 0 => Some(Narrow {
                maps: maps.narrow()?,
                rows: &self.rows.compact,
            }),
            _ => None,
        }
    }

    /// The rule of the first row that matches.
    #[inline(always)]
    pub fn first(&self, subject: Subject<'_>) -> Option<RuleIndex> {
        if let Some(narrow) = self.narrow::<2>() {
            return narrow.first(subject.packet, subject.kind);
        }
        if let Some(narrow) = self.narrow::<1>() {
            return narrow.first(subject.packet, subject.kind);
        }
        let row = match &self.index {
            Index::Maps(maps) => maps.first(subject.packet, |row| self.rows.matches(row, subject)),
            Index::Ladder(ladder) => ladder.first(&self.rows, subject),
        };
        self.rows.rule(row?)
    }

    /// The rules of all rows that match.
    #[inline]
    pub fn each(&self, subject: Subject<'_>, seen: &mut impl FnMut(RuleIndex)) {
        let matching = |row: &usize| self.rows.matches(*row, subject);
        let rule = |row: usize| self.rows.rule(row);
        match &self.index {
            Index::Maps(maps) => maps
                .candidates(subject.packet)
                .filter(matching)
                .filter_map(rule)
                .for_each(seen),
            Index::Ladder(ladder) => ladder
                .candidates(subject.packet)
                .filter(matching)
                .filter_map(rule)
                .for_each(seen),
        }
    }
}

/// The rows of a [section](Section::narrow) of up to 128 usual rows.
#[derive(Clone, Copy)]
pub(crate) struct Narrow<'s, const W: usize> {
    maps: NarrowMaps<'s, W>,
    rows: &'s [(Compact, RuleIndex)],
}

impl<const W: usize> Narrow<'_, W> {
    /// The rule of the first row that matches: nearly always the first candidate, so that asking one after the other is
    /// foreseen rightly, and cheaper than comparing two of them for nothing.
    #[inline(always)]
    pub fn first(&self, packet: &PacketFields, kind: u32) -> Option<RuleIndex> {
        let mut left = self.maps.candidates(packet);
        while left != 0 {
            let (row, rule) = self.rows.get(left.trailing_zeros() as usize)?;
            if row.agrees(packet, kind) {
                return Some(*rule);
            }
            left &= left - 1;
        }
        None
    }
}

/// Marks, among columns, rows that ask for an Ethernet header. (All rows have the compact form, which needs no bit here.)
const HEADERS: u16 = COMPACT;

/// Rows, one by one.
#[derive(PartialEq)]
pub(crate) struct Rows {
    /// Each with the index of its rule.
    compact: Vec<(Compact, RuleIndex)>,
    /// Which generic columns there are, and their words, those of one row side by side.
    columns: u16,
    generic: Vec<[u32; 2]>,
    /// If there are [`HEADERS`], what each row asks of them.
    headers: Vec<HeaderRow>,
}

impl Rows {
    fn of(rows: &[Row]) -> Self {
        let mut of = Self {
            compact: Vec::with_capacity(rows.len()),
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

    /// Puts rows in, which ask for no other columns.
    fn put(&mut self, (at, rows): (usize, &[Row])) {
        let columns = self.columns;
        let words = |row: &Row| generic(columns).map(|w| row.generic(w)).collect::<Vec<_>>();
        self.compact
            .splice(at..at, rows.iter().map(|row| (row.compact(), row.rule)));
        let at_word = at * self.generic_columns();
        self.generic.splice(at_word..at_word, rows.iter().flat_map(words));
        if columns & HEADERS != 0 {
            self.headers.splice(at..at, rows.iter().map(|row| row.header));
        }
    }

    fn spliced(&self, removed: Range<usize>, rows: (usize, &[Row]), renumber: impl Fn(RuleIndex) -> RuleIndex) -> Self {
        let (count, most) = (self.generic_columns(), self.len() + rows.1.len());
        let mut new = Self {
            compact: Vec::with_capacity(most),
            columns: self.columns,
            generic: Vec::with_capacity(most * count),
            headers: self.headers.clone(),
        };
        let renumbered = |(compact, rule): &(Compact, RuleIndex)| (*compact, renumber(*rule));
        new.compact.extend(self.compact.iter().map(renumbered));
        new.generic.extend_from_slice(&self.generic);
        new.compact.drain(removed.clone());
        new.generic.drain(removed.start * count..removed.end * count);
        if self.columns & HEADERS != 0 {
            new.headers.drain(removed);
        }
        new.put(rows);
        new
    }

    const fn len(&self) -> usize {
        self.compact.len()
    }

    const fn generic_columns(&self) -> usize {
        (self.columns & !HEADERS).count_ones() as usize
    }

    fn rule(&self, row: usize) -> Option<RuleIndex> {
        self.compact.get(row).map(|(_, rule)| *rule)
    }

    /// Whether that row matches.
    #[inline(always)]
    pub fn matches(&self, row: usize, subject: Subject<'_>) -> bool {
        let Some((compact, _)) = self.compact.get(row) else {
            return false;
        };
        compact.agrees(subject.packet, subject.kind) && (self.columns == 0 || self.agrees(row, subject))
    }

    fn flow_mask(&self) -> FlowMask {
        let mut mask = FlowMask::default();
        for (row, (compact, _)) in self.compact.iter().enumerate() {
            mask.look_at(compact);
            for (w, words) in generic(self.columns).zip(self.generic_of(row)) {
                mask.look_at_generic(w, *words, compact.is_v6());
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
