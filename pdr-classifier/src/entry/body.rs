//! What an entry's header has beside gates and payload: rows, or where they are.
//!
//! A *tight* entry has its rows here: three of the compact form, and one that asks for nothing, which is not written down.
//! That one may be any of the session's rows; so the rows have *lanes* of their own, in which it is the last, and what
//! accepts rows and what answers for them is said in lanes.
//!
//! A *wide* entry says where its block of rows is. One of [many](Many) rows says where its sections are: how they are
//! searched is said in bits that a pointer does not use, so that after the header a packet reads nothing but their lines.

use super::INLINE_GATES;
use crate::arena::Line;
use crate::block::Form;
use crate::compile::{Gate, OwnUe, UeAddresses};
use crate::order;
use crate::precedence::Precedences;
use crate::row::Compact;
use crate::section::Section;
use crate::sieve::{PLAN_BITS, Plan};
use crate::sync::{AtomicPtr, AtomicU64};
use std::mem::ManuallyDrop;
use std::ptr;

/// The marks say which.
#[repr(C)]
pub(super) union Body {
    pub tight: Tight,
    pub wide: ManuallyDrop<Wide>,
    pub many: ManuallyDrop<Many>,
}

/// Three rows of the compact form (a fourth one asks for nothing), and the UE's IPv4 address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tight {
    /// Their [`Compact::remote`], then their kinds, then their ports.
    pub rows: [[u32; TIGHT]; 3],
    pub v4: u32,
}

/// Rows of a tight entry that ask for something, at most.
pub(super) const TIGHT: usize = 3;

/// The lane of a tight entry's row that asks for nothing, behind the others, as a bit: it matches always.
pub(super) const OPEN_LANE: u32 = 1 << TIGHT;

/// What an entry has whose rows are a block elsewhere.
#[repr(C)]
pub(super) struct Wide {
    pub rows: *const Line,
    /// The rows' [order](crate::order).
    pub order: AtomicU64,
    pub form: Form,
    pub accepts: [u16; INLINE_GATES],
    pub ue: UeAddresses,
}

/// What an entry with sections has.
#[repr(C)]
pub(super) struct Many {
    /// The [ways](Way) behind its first gates.
    pub ways: [*const (); INLINE_GATES],
    /// The present [`Precedences`] and their marks, or null while they are those that the rules were put with.
    pub outlook: AtomicPtr<Precedences>,
    pub ue: UeAddresses,
    /// The rest of the ways.
    pub rest: [u16; INLINE_GATES],
}

/// What is behind a gate of an entry with sections.
#[derive(Clone, Copy)]
pub(crate) enum Way<'e> {
    /// Nothing.
    None,
    /// Rows of the compact form alone, and how they are searched.
    Planned(Plan<'e>),
    /// Other rows.
    Other(&'e Section),
}

/// Bits of a pointer to a line that say nothing of where it is: so many below, and those from [`USER_BITS`] on.
const BELOW: u32 = 6;
/// Addresses of a program are below two to the power of this.
pub(super) const USER_BITS: u32 = 48;
/// The lowest bit marks a [planned](Way::Planned) way; the plan's bits go to the others below, those above, and the rest.
const PLANNED: usize = 1;
const _: () = assert!(PLAN_BITS < BELOW + (usize::BITS - USER_BITS) + u16::BITS);

impl<'e> Way<'e> {
    pub fn to(section: &'e Section) -> Self {
        section.plan().map_or(Self::Other(section), Self::Planned)
    }

    /// As a word and a half.
    pub fn packed(self) -> (*const (), u16) {
        match self {
            Self::None => (ptr::null(), 0),
            Self::Other(section) => (ptr::from_ref(section).cast(), 0),
            Self::Planned(plan) => {
                let (lines, word) = plan.words();
                let below = (word as usize) << 1 & ((1 << BELOW) - 1) | PLANNED;
                let above = (word as usize) >> (BELOW - 1) << USER_BITS;
                let rest = word >> (BELOW - 1 + usize::BITS - USER_BITS);
                (
                    lines.cast::<()>().map_addr(|address| address | below | above),
                    rest as u16,
                )
            }
        }
    }

    /// From its word and a half.
    ///
    /// # Safety
    /// They are from [`Self::packed`], and what they lead to outlives this.
    #[inline(always)]
    pub unsafe fn unpacked(packed: *const (), rest: u16) -> Self {
        let at = packed.map_addr(|address| address & ((1 << USER_BITS) - 1) & !((1 << BELOW) - 1));
        if packed.addr() & PLANNED != 0 {
            let word = packed.addr() >> 1 & ((1 << (BELOW - 1)) - 1) | packed.addr() >> USER_BITS << (BELOW - 1);
            let word = word as u64 | u64::from(rest) << (BELOW - 1 + usize::BITS - USER_BITS);
            // SAFETY: the caller's word.
            return Self::Planned(unsafe { Plan::from_words(at.cast(), word) });
        }
        // SAFETY: null, or the caller's word.
        unsafe { at.cast::<Section>().as_ref() }.map_or(Self::None, Self::Other)
    }
}

/// What kind of entry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(pub u16);

impl Marks {
    const TIGHT: u16 = 1;
    const SECTIONS: u16 = 1 << 1;

    /// Of a tight entry with those lanes, or of none; of one with sections, or with a block; which UE addresses there are;
    /// and how many lines the entry's own block has.
    pub const fn new(tight: Option<Lanes>, has_sections: bool, families: u8, tail: usize) -> Self {
        let (is_tight, open) = match tight {
            Some(Lanes(open)) => (true, open),
            None => (false, 0),
        };
        let kind = if is_tight { Self::TIGHT } else { 0 } | if has_sections { Self::SECTIONS } else { 0 };
        assert!(tail < 1 << 10, "the longest block has 34 lines");
        Self(kind | (families as u16) << 2 | (open as u16) << 4 | (tail as u16) << 6)
    }
    pub const fn is_tight(self) -> bool {
        self.0 & Self::TIGHT != 0
    }
    pub const fn is_wide(self) -> bool {
        self.0 & (Self::TIGHT | Self::SECTIONS) == 0
    }
    pub const fn has_sections(self) -> bool {
        self.0 & Self::SECTIONS != 0
    }
    pub const fn families(self) -> u8 {
        (self.0 >> 2 & 0b11) as u8
    }
    pub const fn lanes(self) -> Lanes {
        Lanes((self.0 >> 4 & 0b11) as u8)
    }
    pub const fn tail(self) -> u8 {
        (self.0 >> 6) as u8
    }
}

/// Which of the four rows of a tight entry is the one that asks for nothing. It is the last *lane*; the others move up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lanes(u8);

impl Lanes {
    /// The row of each lane.
    const fn rows(self) -> [u8; order::ANSWERED] {
        match self.0 {
            0 => [1, 2, 3, 0],
            1 => [0, 2, 3, 1],
            2 => [0, 1, 3, 2],
            _ => [0, 1, 2, 3],
        }
    }

    /// Rows as lanes, one bit each.
    pub fn gather(self, rows: u16) -> u16 {
        let lanes = self.rows().into_iter().enumerate();
        lanes.fold(0, |lanes, (lane, row)| lanes | (rows >> row & 1) << lane)
    }

    /// Lanes as rows.
    pub fn spread(self, lanes: u16) -> u16 {
        let rows = self.rows().into_iter().enumerate();
        rows.fold(0, |rows, (lane, row)| rows | (lanes >> lane & 1) << row)
    }

    /// The answers for lanes that those for rows are: which row wins, if these lanes match.
    #[inline(always)]
    pub fn answers(self, order: u64) -> u32 {
        if self.0 == TIGHT as u8 {
            return order as u32;
        }
        let answer = |lanes: u16| order::answer(order, self.spread(lanes).into()) << (2 * lanes);
        (1..1 << order::ANSWERED).fold(0, |answers, lanes| answers | answer(lanes))
    }
}

impl Tight {
    /// The rows of a block, if they fit.
    pub fn of(form: Form, block: &[Line], gates: &[Gate], own_ue: OwnUe) -> Option<(Self, Lanes)> {
        let v4 = own_ue.addresses.v4;
        if own_ue.has_v6() {
            return None;
        }
        let (true, Some(line)) = (form.word() == Form::USUAL.word(), block.first()) else {
            let Compact { remote, kind, ports } = Compact::OPEN;
            let rows = [[remote; TIGHT], [kind; TIGHT], [ports; TIGHT]];
            return (form.word() == Form::NONE.word()).then_some((Self { rows, v4 }, Lanes(TIGHT as u8)));
        };
        let word = |part: usize, row: u8| line.0[part * order::ANSWERED + usize::from(row)];
        let accepted = gates.iter().fold(0, |set, gate| set | gate.accept);
        let is_open = |row: &u8| {
            let [remote, kind, ports] = [0, 1, 2].map(|part| word(part, *row));
            accepted >> row & 1 == 0 || Compact { remote, kind, ports }.is_open()
        };
        let lanes = Lanes((0..order::ANSWERED as u8).rev().find(is_open)?);
        let [a, b, c, _] = lanes.rows();
        let rows = [0, 1, 2].map(|part| [a, b, c].map(|row| word(part, row)));
        Some((Self { rows, v4 }, lanes))
    }

    /// The block that it was made of.
    pub fn block(&self, lanes: Lanes) -> Line {
        let mut line = Line::ZERO;
        let Compact { remote, kind, ports } = Compact::OPEN;
        for (part, (of_rows, open)) in self.rows.iter().zip([remote, kind, ports]).enumerate() {
            let words = [of_rows[0], of_rows[1], of_rows[2], open];
            for (word, row) in words.into_iter().zip(lanes.rows()) {
                line.0[part * order::ANSWERED + usize::from(row)] = word;
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lanes_of_a_tight_entry_are_answered_as_their_rows_are(
            precedences in prop::array::uniform4(0..6u32),
            open in 0..4u8,
            rows in 1..16u16,
        ) {
            let (order, lanes) = (order::of_four(precedences), Lanes(open));
            prop_assert_eq!(lanes.spread(lanes.gather(rows)), rows);
            prop_assert_eq!(rows >> open & 1 == 1, u32::from(lanes.gather(rows)) & OPEN_LANE != 0);
            let answer = order::answer(lanes.answers(order).into(), lanes.gather(rows).into());
            prop_assert_eq!(answer, order::answer(order, rows.into()));
        }
    }
}
