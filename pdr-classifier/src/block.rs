//! Blocks: the rows of a small set, side by side, so that one vector instruction looks at all of them.
//!
//! A block has 4, 8 or 16 lanes, one for each row, in the order of the rules. First the three words of the compact form
//! ([`crate::row`]), then two words for each generic column, then the index of each row's rule in 16 bits:
//!
//! ```text
//!   remote  × lanes │ kind × lanes │ ports × lanes │ generic: a × lanes, b × lanes │ … │ rule × lanes (16 bits)
//! ```
//! What no row looks at is left out: four rows that ask for a remote prefix, a protocol and a remote port are one cache
//! line, and a set that asks for nothing has no block at all. Lanes that are no row's may match: the session's gates do
//! not accept them.

use crate::arena::{LINE_WORDS, Line};
use crate::packet::word;
use crate::row::{COMPACT, Compact, Row};
use crate::vector::Vectors;
use crate::{FlowMask, PacketFields};

/// Lanes and columns of a block: all that has to be known to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Form {
    /// Which columns it has; see [`crate::row::COMPACT`].
    pub columns: u16,
    /// 4, 8 or 16.
    pub lanes: u8,
    /// Whether row *r* is of rule *r*: the block has no rule indexes then.
    pub is_plain: bool,
}

impl Form {
    /// Of no rows.
    pub const NONE: Self = Self {
        columns: 0,
        lanes: 4,
        is_plain: true,
    };

    /// Of up to four rows that are in the compact form, one for each rule: what most sessions have.
    pub const USUAL: Self = Self {
        columns: COMPACT,
        lanes: 4,
        is_plain: true,
    };

    /// Of at most sixteen rows.
    pub fn of(rows: &[Row]) -> Self {
        Self {
            columns: rows.iter().fold(0, |set, row| set | row.columns()),
            lanes: match rows.len() {
                0..=4 => 4,
                5..=8 => 8,
                _ => 16,
            },
            is_plain: rows.iter().enumerate().all(|(at, row)| row.rule as usize == at),
        }
    }

    /// All of it in one word: one comparison.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.columns as u32 | (self.lanes as u32) << 16 | (self.is_plain as u32) << 24
    }

    /// Words before the rule indexes.
    #[inline(always)]
    const fn matched_words(self) -> usize {
        let compact = if self.columns & COMPACT != 0 { 3 } else { 0 };
        (compact + 2 * (self.columns & !COMPACT).count_ones() as usize) * self.lanes as usize
    }

    /// How long the block is.
    pub const fn lines(self) -> usize {
        let rules = if self.is_plain { 0 } else { self.lanes as usize / 2 };
        (self.matched_words() + rules).div_ceil(LINE_WORDS)
    }
}

/// Writes the block of those rows into as many lines as [`Form::lines`] says.
pub(crate) fn write(form: Form, rows: &[Row], lines: &mut [Line]) {
    let mut words = lines.iter_mut().flat_map(|line| line.0.iter_mut());
    let lanes = usize::from(form.lanes);
    let mut lane = |values: &mut dyn Iterator<Item = u32>| {
        words
            .by_ref()
            .take(lanes)
            .for_each(|word| *word = values.next().unwrap_or(0));
    };
    if form.columns & COMPACT != 0 {
        lane(&mut rows.iter().map(|row| row.compact().remote));
        lane(&mut rows.iter().map(|row| row.compact().kind));
        lane(&mut rows.iter().map(|row| row.compact().ports));
    }
    for w in generic(form.columns) {
        lane(&mut rows.iter().map(|row| row.generic(w)[0]));
        lane(&mut rows.iter().map(|row| row.generic(w)[1]));
    }
    if !form.is_plain {
        for pair in 0..lanes / 2 {
            let rule = |row: usize| rows.get(row).map_or(0, |row| row.rule & 0xffff);
            if let Some(word) = words.next() {
                *word = rule(2 * pair) | rule(2 * pair + 1) << 16;
            }
        }
    }
    words.for_each(|word| *word = 0);
}

/// Writes another row into the lane of row `at`, in a block that has its columns and is plain.
pub(crate) fn patch(form: Form, row: &Row, at: u16, lines: &mut [Line]) {
    let lanes = usize::from(form.lanes);
    let mut lane = usize::from(at);
    let mut set = |word: u32| {
        if let Some(line) = lines.get_mut(lane / LINE_WORDS) {
            line.0[lane % LINE_WORDS] = word;
        }
        lane += lanes;
    };
    if form.columns & COMPACT != 0 {
        let Compact { remote, kind, ports } = row.compact();
        [remote, kind, ports].into_iter().for_each(&mut set);
    }
    for w in generic(form.columns) {
        row.generic(w).into_iter().for_each(&mut set);
    }
}

/// The packet words of the generic columns, ascending.
#[inline(always)]
pub(crate) fn generic(columns: u16) -> impl Iterator<Item = usize> {
    let mut left = columns & !COMPACT;
    std::iter::from_fn(move || {
        (left != 0).then(|| {
            let w = left.trailing_zeros() as usize % word::COUNT;
            left &= left - 1;
            w
        })
    })
}

/// The rows that match a packet of that [kind](crate::row::kind), one bit each.
///
/// # Safety
/// `block` is a block of that form, aligned to a line, or the form has no columns.
#[inline(always)]
pub(crate) unsafe fn matching<V: Vectors>(form: Form, block: *const u32, packet: &PacketFields, kind: u32) -> u32 {
    if form.columns == 0 {
        return u32::MAX;
    }
    // SAFETY: the caller's word; the block has that many lanes.
    unsafe {
        match form.lanes {
            4 => V::compare::<4>(form.columns, block, packet, kind),
            8 => V::compare::<8>(form.columns, block, packet, kind),
            _ => V::compare::<16>(form.columns, block, packet, kind),
        }
    }
}

/// The rule of a row.
///
/// # Safety
/// As for [`matching`], and there is such a row.
#[inline(always)]
pub(crate) unsafe fn rule(form: Form, block: *const u32, row: u32) -> u16 {
    if form.is_plain {
        return row as u16;
    }
    // SAFETY: the rule indexes, two a word, come after the words that are compared.
    unsafe { block.add(form.matched_words()).cast::<u16>().add(row as usize).read() }
}

/// What the rows in `accepted` look at.
pub(crate) fn flow_mask(form: Form, block: &[Line], accepted: u16) -> FlowMask {
    let words = block.as_flattened_words();
    let lanes = usize::from(form.lanes);
    let word = |lane: usize, row: usize| words.get(lane * lanes + row).copied().unwrap_or(0);
    let mut mask = FlowMask::default();
    for row in (0..lanes).filter(|row| accepted >> row & 1 == 1) {
        let (mut lane, mut is_v6) = (0, false);
        if form.columns & COMPACT != 0 {
            let [remote, kind, ports] = [0, 1, 2].map(|lane| word(lane, row));
            let compact = Compact { remote, kind, ports };
            is_v6 = compact.is_v6();
            mask.look_at(&compact);
            lane = 3;
        }
        for w in generic(form.columns) {
            mask.look_at_generic(w, [word(lane, row), word(lane + 1, row)], is_v6);
            lane += 2;
        }
    }
    mask
}

/// Lines as words.
pub(crate) trait Words {
    fn as_flattened_words(&self) -> &[u32];
}

impl Words for [Line] {
    fn as_flattened_words(&self) -> &[u32] {
        // SAFETY: a line is sixteen words without padding, and a word is less aligned than a line.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * LINE_WORDS) }
    }
}
