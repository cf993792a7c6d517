//! Programs: the rows of a session as columns of words, compared many rows at a time.
//!
//! Rows are put into *groups* by how a packet must have arrived (interface, network instance, key, set of UE
//! addresses), so that a packet looks at the rows of its own direction only. Within a group, rows stand in order of
//! precedence, in *chunks* of 4, 8 or 16, and a chunk holds columns: for each packet word that some row of the group
//! looks at, the `a` of every row, then the `b` of every row; at last the [`Place`] of every row. Columns that no row
//! looks at do not exist. Four rows that look at a remote prefix and a protocol take 80 bytes.
//!
//! One program is one array of cache lines: first the groups, eight words each, then the chunks.

use crate::PacketFields;
use crate::packet::word;
use crate::row::{Place, Row};
use crate::vector::Vectors;

/// One cache line of a program.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; 16]);

/// A program's lines as words.
#[inline(always)]
pub(crate) fn words(lines: &[Line]) -> &[u32] {
    // SAFETY: a line is sixteen words without padding, and a word is less aligned than a line.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 16) }
}

/// How a packet must have arrived for the rows of a group to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Bit in bits 16 to 23: the interface. Bits 0 to 15: the network instance. As in [`word::ARRIVAL`].
    pub interface_and_instance: u32,
    /// Accepted keys by ordinal.
    pub keys: u32,
    /// The set of UE addresses to check.
    pub ue_set: Option<u8>,
}

/// Where rows are: some chunks, or a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Few: compare all, in order.
    Chunks(Chunks),
    /// Many: the index of a ladder in the rule set.
    Ladder(u32),
}

/// Chunks of rows in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    /// Rows in a chunk: 4, 8 or 16.
    lanes: u8,
    /// Words looked at.
    columns: u16,
    /// First word, and how many chunks.
    start: u32,
    count: u32,
}

/// One group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub arrival: Arrival,
    /// The lowest place in it.
    pub best: Place,
    pub rows: Rows,
}

const NO_UE_SET: u32 = 0xff;
/// Words of an encoded group. Word 7 of the first one is the number of groups.
const GROUP_WORDS: usize = 8;

impl Group {
    fn encode(&self) -> [u32; GROUP_WORDS] {
        let ue_set = self.arrival.ue_set.map_or(NO_UE_SET, u32::from);
        let (lanes, columns, start, count) = match self.rows {
            Rows::Chunks(c) => (u32::from(c.lanes), u32::from(c.columns), c.start, c.count),
            Rows::Ladder(index) => (0, 0, index, 0),
        };
        let arrival = self.arrival.interface_and_instance | lanes << 24;
        [
            arrival,
            self.arrival.keys,
            columns | ue_set << 16,
            self.best.0,
            start,
            count,
            0,
            0,
        ]
    }

    #[inline(always)]
    fn decode(w: &[u32; GROUP_WORDS]) -> Self {
        let ue_set = w[2] >> 16;
        let arrival = Arrival {
            interface_and_instance: w[0] & 0x00ff_ffff,
            keys: w[1],
            ue_set: if ue_set == NO_UE_SET { None } else { Some(ue_set as u8) },
        };
        let rows = match (w[0] >> 24) as u8 {
            0 => Rows::Ladder(w[4]),
            lanes => Rows::Chunks(Chunks {
                lanes,
                columns: w[2] as u16,
                start: w[4],
                count: w[5],
            }),
        };
        Self {
            arrival,
            best: Place(w[3]),
            rows,
        }
    }
}

/// The groups of a program that accept a packet which came by the key of that ordinal, the best first; `ue` is the
/// packet's UE end.
#[inline(always)]
pub(crate) fn accepting(
    program: &[u32],
    packet: &PacketFields,
    ordinal: u8,
    ue: UeVerdict,
) -> impl Iterator<Item = Group> {
    let count = program.get(GROUP_WORDS - 1).map_or(0, |n| *n as usize);
    let arrived = packet.0[word::ARRIVAL];
    let groups = program.as_chunks::<GROUP_WORDS>().0.iter().take(count);
    let accepting = groups.filter(move |[arrival, keys, columns_and_set, ..]| {
        // One branch, not four: each of them may well go either way.
        ((arrived ^ arrival) & 0xffff == 0)
            & (arrived & arrival & 0x00ff_0000 != 0)
            & (keys >> ordinal & 1 == 1)
            & ((columns_and_set >> 16 != 0) | (ue != UeVerdict::OutsideFirst))
    });
    accepting.map(Group::decode)
}

/// What is known of a packet's UE end before any set of UE addresses is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UeVerdict {
    /// The session's first set contains it.
    InFirst,
    /// The session's first set does not contain it.
    OutsideFirst,
    /// The first set has to be searched.
    Open,
}

/// Writes programs.
#[derive(Default)]
pub(crate) struct Assembler(Vec<u32>);

impl Assembler {
    /// Leaves room for that many groups, which [`Self::finish`] is to be given.
    pub fn with_groups(groups: usize) -> Self {
        Self(vec![0; groups * GROUP_WORDS])
    }

    /// Appends rows, which are in order of precedence.
    pub fn rows(&mut self, rows: &[Row]) -> Chunks {
        let lanes: usize = match rows.len() {
            0..=4 => 4,
            5..=8 => 8,
            _ => 16,
        };
        let columns = rows.iter().fold(0, |set, row| set | row.columns());
        self.0.resize(self.0.len().next_multiple_of(lanes), 0);
        let start = self.0.len() as u32;
        for chunk in rows.chunks(lanes) {
            for w in (0..word::COUNT).filter(|w| columns >> w & 1 == 1) {
                self.lane(lanes, 0, chunk.iter().map(|row| row.a[w]));
                self.lane(lanes, 0, chunk.iter().map(|row| row.b[w]));
            }
            self.lane(lanes, Place::NONE.0, chunk.iter().map(|row| row.place.0));
        }
        Chunks {
            lanes: lanes as u8,
            columns,
            start,
            count: rows.len().div_ceil(lanes) as u32,
        }
    }

    fn lane(&mut self, lanes: usize, padding: u32, values: impl Iterator<Item = u32>) {
        let end = self.0.len() + lanes;
        self.0.extend(values);
        self.0.resize(end, padding);
    }

    /// The program.
    pub fn finish(mut self, groups: &[Group]) -> Box<[Line]> {
        for (words, group) in self.0.as_chunks_mut::<GROUP_WORDS>().0.iter_mut().zip(groups) {
            *words = group.encode();
        }
        if !groups.is_empty() {
            self.0[GROUP_WORDS - 1] = groups.len() as u32;
        }
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        self.0.as_chunks::<16>().0.iter().map(|words| Line(*words)).collect()
    }
}

impl Chunks {
    /// The lowest place of a row that matches, if it is lower than `bound`.
    #[inline(always)]
    pub fn first<V: Vectors>(&self, program: &[u32], packet: &PacketFields, bound: Place) -> Option<Place> {
        match self.lanes {
            4 => self.first_of::<V, 4>(program, packet, bound),
            8 => self.first_of::<V, 8>(program, packet, bound),
            _ => self.first_of::<V, 16>(program, packet, bound),
        }
    }

    /// The places of all rows that match.
    #[inline(always)]
    pub fn each<V: Vectors>(&self, program: &[u32], packet: &PacketFields, seen: &mut impl FnMut(Place)) {
        match self.lanes {
            4 => self.each_of::<V, 4>(program, packet, seen),
            8 => self.each_of::<V, 8>(program, packet, seen),
            _ => self.each_of::<V, 16>(program, packet, seen),
        }
    }

    /// For each chunk its columns and its places.
    #[inline(always)]
    fn chunks<'p, const L: usize>(&self, program: &'p [u32]) -> impl Iterator<Item = (&'p [[u32; L]], &'p [u32; L])> {
        let columns = 2 * self.columns.count_ones() as usize;
        let mut left = self.count;
        let mut rest = program.get(self.start as usize..).unwrap_or_default();
        // Not `chunks_exact`: a length that is known only now would cost a division.
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let chunk;
            (chunk, rest) = rest.split_at_checked((columns + 1) * L)?;
            let (lanes, _) = chunk.as_chunks::<L>();
            let (places, columns) = lanes.split_last()?;
            Some((columns, places))
        })
    }

    #[inline(always)]
    fn first_of<V: Vectors, const L: usize>(
        &self,
        program: &[u32],
        packet: &PacketFields,
        bound: Place,
    ) -> Option<Place> {
        for (columns, places) in self.chunks::<L>(program) {
            let matching = V::compare::<L>(self.columns, columns, packet);
            if matching != 0 {
                let place = Place(places[matching.trailing_zeros() as usize % L]);
                return (place < bound).then_some(place);
            }
        }
        None
    }

    #[inline(always)]
    fn each_of<V: Vectors, const L: usize>(
        &self,
        program: &[u32],
        packet: &PacketFields,
        seen: &mut impl FnMut(Place),
    ) {
        for (columns, places) in self.chunks::<L>(program) {
            let mut matching = V::compare::<L>(self.columns, columns, packet);
            while matching != 0 {
                let place = Place(places[matching.trailing_zeros() as usize % L]);
                if place == Place::NONE {
                    break;
                }
                seen(place);
                matching &= matching - 1;
            }
        }
    }
}
