//! The cells of the index: keys and links as they lie in memory, and the arrays that readers search.

use crate::SessionKey;
use crate::memory::Zeroable;
#[cfg(not(loom))]
use crate::memory::ZeroedArray;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::vector::Vectors;
use std::ptr::{self, NonNull};

const _: () = assert!(usize::BITS == 64, "links keep half of a key in a 64-bit pointer");

pub(super) const CELLS: usize = 4;

pub(super) const KIND: usize = 0b11;
/// The kind of F-TEIDs.
const TUNNEL: usize = 1;
const HINT_SHIFT: u32 = 2;
const INSTANCE_SHIFT: u32 = 48;
pub(super) const KEY_BITS: usize = 0xffff << INSTANCE_SHIFT | KIND;
const ADDRESS_BITS: usize = (1 << INSTANCE_SHIFT) - 64;

pub(super) const EMPTY: usize = 0;
pub(super) const BURIED: usize = 0b0100;
pub(super) const FREE: usize = 0b1000;

/// What a link says of an entry: gate and tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint(u8);

impl Hint {
    /// The gate of keys whose gate does not fit: the session's list of keys tells.
    pub const GATE_UNSAID: u8 = 3;

    /// Of packets that come in by that gate and need that many lines after the header.
    pub fn new(gate: u8, tail: u8) -> Self {
        Self(gate.min(Self::GATE_UNSAID) | tail.min(3) << 2)
    }

    /// The gate, or [`Self::GATE_UNSAID`].
    #[inline(always)]
    pub const fn gate(self) -> u8 {
        self.0 & 0b11
    }

    /// Lines after the header; 3 stands for more, too.
    #[inline(always)]
    pub const fn tail(self) -> u8 {
        self.0 >> 2
    }
}

/// A session key as cells hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedKey {
    pub(super) low: u64,
    pub(super) bits: usize,
}

impl PackedKey {
    /// That of no session.
    pub const NONE: Self = Self { low: 0, bits: 0 };
}

impl From<SessionKey> for PackedKey {
    /// An IPv4 address is taken as it lies in memory: one load, as for a TEID.
    #[inline(always)]
    fn from(key: SessionKey) -> Self {
        let (low, instance) = match key {
            SessionKey::FTeid { endpoint, teid } => (teid.0 as u64, endpoint.0),
            SessionKey::UeV4 { ni, addr } => (u32::from_ne_bytes(addr.octets()) as u64, ni.0),
            SessionKey::UeV6 { ni, prefix64 } => (prefix64, ni.0),
        };
        let kind = match key {
            SessionKey::FTeid { .. } => TUNNEL,
            SessionKey::UeV4 { .. } => 2,
            SessionKey::UeV6 { .. } => 3,
        };
        Self {
            low,
            bits: (instance as usize) << INSTANCE_SHIFT | kind,
        }
    }
}

/// A pointer to an entry, with the key's other half and a hint.
pub(crate) struct Link<E>(pub(super) NonNull<E>);

impl<E> Clone for Link<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Link<E> {}

impl<E> Link<E> {
    const ALIGNED: () = assert!(align_of::<E>() >= 64);

    pub(super) fn new(entry: NonNull<E>, key: PackedKey, hint: Hint) -> Self {
        const { Self::ALIGNED };
        let beside = key.bits | (hint.0 as usize) << HINT_SHIFT;
        Self(entry.map_addr(|address| {
            assert!(
                address.get() & !ADDRESS_BITS == 0,
                "user space lies below 2^48 and entries are aligned to 64"
            );
            address | beside
        }))
    }

    /// The entry.
    #[inline]
    pub fn entry(self) -> *mut E {
        self.0.as_ptr().map_addr(|a| a & ADDRESS_BITS)
    }

    /// What it says of the entry.
    #[inline]
    pub fn hint(self) -> Hint {
        Hint((self.0.addr().get() >> HINT_SHIFT) as u8 & 0xf)
    }
}

pub(super) struct Cell<E> {
    low: AtomicU64,
    pub link: AtomicPtr<E>,
}

impl<E> Default for Cell<E> {
    fn default() -> Self {
        Self {
            low: AtomicU64::new(0),
            link: AtomicPtr::new(ptr::without_provenance_mut(EMPTY)),
        }
    }
}

impl<E> Cell<E> {
    pub fn mark(&self, mark: usize) {
        self.link.store(ptr::without_provenance_mut(mark), Ordering::Release);
    }

    /// Its link, if `key` is in it: in the order that the writer relies on.
    #[inline(always)]
    pub fn link_of(&self, key: PackedKey) -> Option<Link<E>> {
        let link = self.link.load(Ordering::Acquire);
        let is_it = (link.addr() & KEY_BITS == key.bits) & (self.low.load(Ordering::Relaxed) == key.low);
        if is_it { NonNull::new(link).map(Link) } else { None }
    }

    pub fn fill(&self, key: PackedKey, link: Link<E>) {
        self.low.store(key.low, Ordering::Relaxed);
        self.link.store(link.0.as_ptr(), Ordering::Release);
    }

    /// What is in it, for the writer.
    pub fn content(&self) -> Option<(PackedKey, Link<E>)> {
        let link = NonNull::new(self.link.load(Ordering::Relaxed))?;
        let key = PackedKey {
            low: self.low.load(Ordering::Relaxed),
            bits: link.addr().get() & KEY_BITS,
        };
        (key.bits & KIND != 0).then_some((key, Link(link)))
    }
}

#[repr(C, align(64))]
pub(super) struct Bucket<E>(pub [Cell<E>; CELLS]);

impl<E> Default for Bucket<E> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<E> Bucket<E> {
    /// The link of `key`, if it is in this very bucket, by vectors.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn link_of<V: Vectors>(&self, key: PackedKey) -> Option<Link<E>> {
        // What the vectors see is a hint; of two keys alike in these bits, one is looked for elsewhere.
        let cell = V::find_even(ptr::from_ref(self).cast(), key.low);
        self.0.get(cell)?.link_of(key)
    }

    /// The same cell by cell: vectors see nothing of loom's.
    #[cfg(loom)]
    pub fn link_of<V: Vectors>(&self, key: PackedKey) -> Option<Link<E>> {
        self.0.iter().find_map(|cell| cell.link_of(key))
    }
}

// SAFETY: zeroes are four cells whose link is null, that is, `EMPTY`; nothing is owned through a cell.
unsafe impl<E> Zeroable for Bucket<E> {}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket<u64>>() == 64);

/// An array of empty buckets, on huge pages if it is large.
#[cfg(not(loom))]
pub(super) type Array<Z> = ZeroedArray<Z>;

/// The same for loom, whose atomics are made one by one.
#[cfg(loom)]
pub(super) type Array<Z> = Box<[Z]>;

#[cfg(not(loom))]
pub(super) fn array<Z: Zeroable>(len: usize) -> Array<Z> {
    ZeroedArray::new(len)
}

#[cfg(loom)]
pub(super) fn array<Z: Default>(len: usize) -> Array<Z> {
    std::iter::repeat_with(Z::default).take(len).collect()
}

/// One array of buckets, a power of two of them.
pub(super) struct Buckets<E>(pub Array<Bucket<E>>);

impl<E> Buckets<E> {
    pub fn new(len: usize) -> Self {
        Self(array(len.next_power_of_two()))
    }

    #[inline(always)]
    pub fn home(&self, hash: u64) -> usize {
        hash as usize & (self.0.len() - 1)
    }

    #[inline(always)]
    pub fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.0.len() - 1)
    }

    /// Position and link of `key`. Cost: one cache line, rarely a second; one branch that is hard to foresee, if the
    /// key has been displaced.
    #[inline(always)]
    pub fn find(&self, key: PackedKey, hash: u64) -> Option<(usize, Link<E>)> {
        let mut bucket = self.home(hash);
        for _ in 0..self.0.len() {
            let mut found = (0, ptr::null_mut());
            let mut ends_here = false;
            for (i, cell) in self.0[bucket].0.iter().enumerate() {
                let link = cell.link.load(Ordering::Acquire);
                let is_it = (link.addr() & KEY_BITS == key.bits) & (cell.low.load(Ordering::Relaxed) == key.low);
                found = if is_it { (bucket * CELLS + i, link) } else { found };
                ends_here |= link.is_null();
            }
            if let Some(link) = NonNull::new(found.1) {
                return Some((found.0, Link(link)));
            }
            if ends_here {
                return None;
            }
            bucket = self.next(bucket);
        }
        None
    }

    pub fn cell(&self, position: usize) -> &Cell<E> {
        &self.0[position / CELLS].0[position % CELLS]
    }

    pub fn cells(&self) -> usize {
        self.0.len() * CELLS
    }
}

/// Cells that F-TEIDs index by their low bits, four to a line: a power of two of lines, or none.
pub(super) struct Direct<E>(pub Option<Array<Bucket<E>>>);

impl<E> Direct<E> {
    /// The line of a key that indexes.
    #[inline(always)]
    pub fn line(&self, key: PackedKey) -> Option<&Bucket<E>> {
        let lines = self.0.as_ref()?;
        if key.bits & KIND != TUNNEL {
            return None;
        }
        lines.get((key.low as usize / CELLS) & lines.len().wrapping_sub(1))
    }

    /// Position and cell of a key that indexes.
    pub fn cell(&self, key: PackedKey) -> Option<(usize, &Cell<E>)> {
        let lines = self.0.as_ref()?;
        let position = key.low as usize & (lines.len() * CELLS - 1);
        self.line(key).map(|line| (position, &line.0[position % CELLS]))
    }

    /// The cell at a position.
    pub fn at(&self, position: usize) -> Option<&Cell<E>> {
        let line = self.0.as_ref()?.get(position / CELLS)?;
        Some(&line.0[position % CELLS])
    }

    /// The link of `key`, if it is in its cell.
    pub fn find(&self, key: PackedKey) -> Option<(&Cell<E>, Link<E>)> {
        let (_, cell) = self.cell(key)?;
        cell.link_of(key).map(|link| (cell, link))
    }
}
