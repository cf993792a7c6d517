//! Plans: how a sieve is searched.

use super::{Byte, COLUMNS, Shape, Sieve, Sieved};
use crate::arena::{LINE, Line};
use crate::memory::prefetch;
use crate::vector::Vectors;
use crate::{PacketFields, RuleIndex};
use std::marker::PhantomData;

/// Lines that are asked for ahead.
const MOST_ASKED: usize = 12;

/// All that has to be known to search a [`Sieve`].
#[derive(Clone, Copy)]
pub(crate) struct Plan<'s> {
    lines: *const Line,
    /// Rows in bits 0 to 11, columns in 12 and 13, whether they are spread in 14, then the bytes, six bits each.
    word: u64,
    of: PhantomData<&'s Sieve>,
}

/// Bits of [`Plan::word`].
pub(crate) const PLAN_BITS: u32 = 15 + 6 * COLUMNS as u32;

/// Rows that are looked at together.
const TOGETHER: usize = 2 * LINE;

/// Rows that are left of some that were looked at together.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// One bit each.
    rows: u128,
    /// The number of the first of them.
    first: u32,
}

impl Left {
    /// Of rows that nobody has looked at yet.
    pub const NONE: Self = Self { rows: 0, first: 0 };
}

impl<'s> Plan<'s> {
    #[inline(always)]
    pub(super) fn of(sieve: &'s Sieve) -> Self {
        let Shape {
            bytes,
            columns,
            is_spread,
        } = sieve.shape;
        let words = bytes.iter().rev().fold(0, |word, byte| word << 6 | u64::from(byte.0));
        Self {
            lines: sieve.lines.as_ptr(),
            word: sieve.len as u64 | (columns as u64) << 12 | u64::from(is_spread) << 14 | words << 15,
            of: PhantomData,
        }
    }

    /// Its two words. The first is a pointer to a line; of the second, [`PLAN_BITS`] are used.
    pub const fn words(self) -> (*const Line, u64) {
        (self.lines, self.word)
    }

    /// From its words.
    ///
    /// # Safety
    /// They are those of a plan whose sieve outlives this.
    #[inline(always)]
    pub const unsafe fn from_words(lines: *const Line, word: u64) -> Self {
        Self {
            lines,
            word,
            of: PhantomData,
        }
    }

    #[inline(always)]
    const fn len(self) -> usize {
        (self.word & 0xfff) as usize
    }

    /// How many columns there are.
    #[inline(always)]
    pub const fn columns(self) -> usize {
        (self.word >> 12 & 3) as usize
    }

    /// Whether it is said how many more values there are than the lows.
    #[inline(always)]
    pub const fn is_spread(self) -> bool {
        self.word >> 14 & 1 == 1
    }

    #[inline(always)]
    const fn byte(self, column: usize) -> Byte {
        Byte((self.word >> (15 + 6 * column) & 0x3f) as u8)
    }

    /// Lines of a column, or of how many more.
    #[inline(always)]
    const fn height(self) -> usize {
        self.len().div_ceil(LINE)
    }

    /// Lines of all columns.
    #[inline(always)]
    const fn column_lines(self) -> usize {
        self.height() * (self.columns() << self.is_spread() as u32)
    }

    /// The rows, behind the columns.
    #[inline(always)]
    const fn rows(self) -> *const Sieved {
        self.lines.wrapping_add(self.column_lines()).cast()
    }

    #[inline(always)]
    fn at(self, row: usize) -> &'s Sieved {
        // SAFETY: the callers' rows are those of the sieve.
        unsafe { &*self.rows().add(row) }
    }

    /// Asks for the lines of the columns.
    #[inline(always)]
    pub fn ask_for_columns(self) {
        (0..self.column_lines().clamp(1, MOST_ASKED)).for_each(|line| prefetch(self.lines.wrapping_add(line)));
    }

    /// Asks for the line of the first row that is left.
    #[inline(always)]
    pub fn ask_for_row(self, left: Left) {
        let row = left.first as usize + left.rows.trailing_zeros() as usize;
        prefetch(self.rows().wrapping_add(row));
    }

    /// What is left of the rows that come first, of which some are.
    #[inline(always)]
    pub fn left<V: Vectors>(self, packet: &PacketFields) -> Left {
        self.left_from::<V>(0, packet)
    }

    /// The same of those from `first` on, a multiple of [`TOGETHER`].
    #[inline(always)]
    fn left_from<V: Vectors>(self, first: usize, packet: &PacketFields) -> Left {
        match (self.columns(), self.is_spread()) {
            (3, true) => self.sift::<V, 3, true>(first, packet),
            (2, true) => self.sift::<V, 2, true>(first, packet),
            (1, true) => self.sift::<V, 1, true>(first, packet),
            (3, false) => self.sift::<V, 3, false>(first, packet),
            (2, false) => self.sift::<V, 2, false>(first, packet),
            (1, false) => self.sift::<V, 1, false>(first, packet),
            _ => self.sift::<V, 0, false>(first, packet),
        }
    }

    /// The same with so many columns, all of them spread or none.
    #[inline(always)]
    fn sift<V: Vectors, const COLUMNS: usize, const SPREAD: bool>(
        self,
        mut first: usize,
        packet: &PacketFields,
    ) -> Left {
        let height = self.height();
        let mut bytes = [0; COLUMNS];
        for (column, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(column).of(packet);
        }
        loop {
            let mut at = self.lines.wrapping_add(first / LINE);
            let count = self.len().wrapping_sub(first);
            let is_row = |from: usize| match count.saturating_sub(from) {
                0 => 0,
                rows => u64::MAX >> LINE.saturating_sub(rows),
            };
            let mut left = [is_row(0), is_row(LINE)];
            for byte in bytes {
                // SAFETY: the column has a line for the first 64 of these rows, and one for those behind if there are
                // more; and as many as `height` lines behind it, if it is spread.
                unsafe {
                    left[0] = sift::<V, SPREAD>(left[0], at, height, byte);
                    if count > LINE {
                        left[1] = sift::<V, SPREAD>(left[1], at.add(1), height, byte);
                    }
                }
                at = at.wrapping_add(height << u32::from(SPREAD));
            }
            let rows = u128::from(left[0]) | u128::from(left[1]) << 64;
            if rows != 0 || count <= TOGETHER {
                return Left {
                    rows,
                    first: first as u32,
                };
            }
            first += TOGETHER;
        }
    }

    /// The first row that is left and matches: nearly always the first one left, so that asking one after the other is
    /// foreseen rightly, and cheaper than comparing two of them for nothing.
    #[inline(always)]
    pub fn first_of<V: Vectors>(
        self,
        mut left: Left,
        packet: &PacketFields,
        mut is_it: impl FnMut(usize, &Sieved) -> bool,
    ) -> Option<RuleIndex> {
        loop {
            while left.rows != 0 {
                let row = left.first as usize + left.rows.trailing_zeros() as usize;
                let sieved = self.at(row);
                if is_it(row, sieved) {
                    return Some(sieved.rule);
                }
                left.rows &= left.rows - 1;
            }
            let next = left.first as usize + TOGETHER;
            if next >= self.len() {
                return None;
            }
            left = self.left_from::<V>(next, packet);
        }
    }

    /// All rows that are left.
    #[inline(always)]
    pub fn each<V: Vectors>(self, packet: &PacketFields, mut seen: impl FnMut(usize, &Sieved)) {
        let left = self.left::<V>(packet);
        self.first_of::<V>(left, packet, |row, sieved| {
            seen(row, sieved);
            false
        });
    }

    /// [`Self::first`] of a plan that has so many columns, all of them spread or none: for one packet after the other.
    #[inline(always)]
    pub fn first_by<V: Vectors, const COLUMNS: usize, const SPREAD: bool>(
        self,
        packet: &PacketFields,
        kind: u32,
    ) -> Option<RuleIndex> {
        let mut left = self.sift::<V, COLUMNS, SPREAD>(0, packet);
        let rows = self.rows();
        while left.rows != 0 {
            // SAFETY: those that are left are rows.
            let sieved = unsafe { &*rows.add(left.first as usize + left.rows.trailing_zeros() as usize) };
            if sieved.row.agrees(packet, kind) {
                return Some(sieved.rule);
            }
            left.rows &= left.rows - 1;
        }
        let next = left.first as usize + TOGETHER;
        if next >= self.len() {
            return None;
        }
        let left = self.left_from::<V>(next, packet);
        self.first_of::<V>(left, packet, |_, sieved| sieved.row.agrees(packet, kind))
    }

    /// The rule of the first row that matches, of rows that ask for nothing but their compact form.
    #[inline(always)]
    pub fn first<V: Vectors>(self, packet: &PacketFields, kind: u32) -> Option<RuleIndex> {
        let left = self.left::<V>(packet);
        self.first_of::<V>(left, packet, |_, sieved| sieved.row.agrees(packet, kind))
    }
}

/// Which of some rows of a line of a column a byte leaves.
///
/// # Safety
/// `lows` is a line of a column, and `height` lines behind it is the one that says how many more, if it is spread.
#[inline(always)]
unsafe fn sift<V: Vectors, const SPREAD: bool>(some: u64, lows: *const Line, height: usize, byte: u8) -> u64 {
    // SAFETY: the caller's word.
    unsafe {
        if SPREAD {
            V::within(some, lows.cast(), lows.add(height).cast(), byte)
        } else {
            V::equal(some, lows.cast(), byte)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::word;
    use crate::row::{Row, kind};
    use crate::sieve::MOST_SIEVED;
    use crate::vector::{Task, run_by_each};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use upf_model::{AddressMatch, IpFilterRule, IpPrefix, PortRange, SdfFilter};

    #[derive(Clone, Copy)]
    struct First<'a>(Plan<'a>, &'a PacketFields);

    impl Task for First<'_> {
        type Output = (Option<RuleIndex>, Vec<RuleIndex>);
        #[inline(always)]
        fn run<V: Vectors>(self) -> Self::Output {
            let Self(plan, packet) = self;
            let mut left = Vec::new();
            plan.each::<V>(packet, |_, sieved| left.push(sieved.rule));
            (plan.first::<V>(packet, kind(packet.0[word::OCTETS])), left)
        }
    }

    fn filter() -> impl Strategy<Value = SdfFilter> {
        let address = (0..6u8, 0..3u8, prop::sample::select(vec![0u8, 8, 20, 31, 32]));
        let ports = prop_oneof![
            3 => (0..600u16).prop_map(|port| Some((port, 0))),
            1 => (0..600u16, 0..700u16).prop_map(Some),
            1 => Just(None),
        ];
        let protocol = prop::option::weighted(0.7, 16..19u8);
        (address, ports, protocol).prop_map(|((c, d, length), ports, protocol)| {
            let remote = IpPrefix::new(Ipv4Addr::new(10, 45, c, d).into(), length);
            let ports = ports.map(|(low, more)| PortRange { low, high: low + more });
            SdfFilter {
                flow: Some(IpFilterRule {
                    protocol,
                    remote: remote.map_or(AddressMatch::Any, AddressMatch::Prefix),
                    remote_ports: ports.into_iter().collect(),
                    ue: AddressMatch::Any,
                    ue_ports: Vec::new(),
                }),
                ..SdfFilter::default()
            }
        })
    }

    /// One row of each filter.
    fn rows_of(filters: &[SdfFilter]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (filter, number) in filters.iter().zip(0..) {
            assert!(
                Row::any(number)
                    .filters(std::slice::from_ref(filter), &mut rows)
                    .is_ok()
            );
        }
        rows
    }

    fn packet() -> impl Strategy<Value = PacketFields> {
        (0..6u8, 0..3u8, 16..19u8, 0..1_300u16).prop_map(|(c, d, protocol, port)| {
            PacketFields::v4([10, 45, c, d].into(), [10, 0, 0, 1].into(), protocol, 0).with_ports(port, 1)
        })
    }

    fn expect_first(sieve: &Sieve, rows: &[Row], packets: &[PacketFields]) -> Result<(), TestCaseError> {
        prop_assert_eq!(sieve.len(), rows.len());
        let plan = sieve.plan();
        prop_assert!(plan.words().1 >> PLAN_BITS == 0);
        for packet in packets {
            let kind = kind(packet.0[word::OCTETS]);
            let agreeing = rows.iter().filter(|row| row.compact().agrees(packet, kind));
            let agreeing: Vec<RuleIndex> = agreeing.map(|row| row.rule).collect();
            let (_, of_first) = First(plan, packet).run::<crate::vector::Portable>();
            for (first, left) in run_by_each(|| First(plan, packet)) {
                prop_assert_eq!(first, agreeing.first().copied());
                prop_assert_eq!(&left, &of_first);
                prop_assert!(agreeing.iter().all(|rule| left.contains(rule)));
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_first_row_that_agrees_is_found_by_all_widths_before_and_after_a_change(
            filters in prop::collection::vec(filter(), 0..300),
            new in prop::collection::vec(filter(), 0..3),
            at in any::<prop::sample::Index>(),
            removed in 0..3usize,
            packets in prop::collection::vec(packet(), 12),
        ) {
            let mut rows = rows_of(&filters);
            let sieve = Sieve::of(&rows);
            expect_first(&sieve, &rows, &packets)?;
            let at = at.index(rows.len() + 1);
            let removed = at..rows.len().min(at + removed);
            let new: Vec<Row> = rows_of(&new).into_iter().map(|row| Row { rule: row.rule + 1_000, ..row }).collect();
            let changed = sieve.spliced(removed.clone(), (at, &new), |rule| rule);
            rows.splice(removed, new);
            expect_first(&changed, &rows, &packets)?;
            let none = changed.spliced(0..rows.len(), (0, &[]), |rule| rule);
            expect_first(&none, &[], &packets)?;
        }
    }

    #[test]
    fn as_many_rows_as_there_may_be_are_searched() {
        let filters: Vec<SdfFilter> = (0..MOST_SIEVED as u16)
            .map(|port| SdfFilter {
                flow: Some(IpFilterRule {
                    protocol: None,
                    remote: AddressMatch::Any,
                    remote_ports: vec![PortRange { low: port, high: port }],
                    ue: AddressMatch::Any,
                    ue_ports: Vec::new(),
                }),
                ..SdfFilter::default()
            })
            .collect();
        let rows = rows_of(&filters);
        let ports = [0, 1, 127, 128, 2_046, 2_047, 2_048];
        let to = |port| PacketFields::v4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 6, 0).with_ports(port, 1);
        assert!(expect_first(&Sieve::of(&rows), &rows, &ports.map(to)).is_ok());
    }
}
