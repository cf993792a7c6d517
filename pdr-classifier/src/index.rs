//! The exact index: session keys to entries, in buckets of one cache line.
//!
//! # Layout
//! A bucket is 64 bytes: four cells of 16. A cell is `low` (the 64 bits of the key that differ most: TEID, address,
//! prefix) and a *link*: a pointer with the rest of the key in the bits that a pointer does not use. Entries are
//! aligned to 64 bytes and lie below 2^48, which leaves 16 bits on top (network instance or endpoint) and six below:
//!
//! ```text
//!   63            48 47                                6 5    4 3    2 1    0
//!  | instance       | address of the entry              | tail | gate | kind |
//! ```
//! *Kind* is 1 to 3; 0 says that the cell holds no key: [`EMPTY`] (never used: a search ends here), [`BURIED`] (a
//! removed key: readers may still look at it) or [`FREE`] (removed, nobody looks any more: may be reused). *Gate*
//! says by which of its session's gates packets of this key come in, so that rules need not compare keys again, and
//! *tail* how many lines after the entry's header they will need, so that all of them are asked for at once.
//!
//! # Invariant
//! A key is in at most one cell that is not buried, at or after its home bucket, and no bucket from its home to the
//! one before its own has an empty cell. So a search may stop at the first bucket that has one.
//!
//! # Readers and the writer
//! A new key is published by its link, stored last with release order; a replaced link is one store. A cell changes
//! its *key* only when a grace period has passed since it was buried, so no reader combines the link of one key with
//! the `low` of another.
//!
//! # TEIDs that index
//! A UPF that allocates its F-TEIDs itself makes them dense: an index in the low bits, a generation above. With
//! [`Table::with_direct_teids`](crate::Table::with_direct_teids) there is an array of cells beside the buckets, and an
//! F-TEID's cell is the one that the low bits of the TEID say: no hash, and neighbours on one line. The cell holds the
//! whole key like any other, so a TEID of another generation or endpoint, or one that an SMF chose, misses it, and is
//! looked for (and put, if the cell is taken) in the buckets. A key never moves from one to the other.
//!
//! # Growth without a pause
//! When five of eight cells are used, the index doubles: a second bucket array is published beside the first, and
//! after a grace period (every reader knows of both) each change moves a few buckets: a key is inserted in the new
//! array *before* it is buried in the old one, and readers look in the old one *first*. Hence a reader that misses a
//! key in the old array because it has moved finds it in the new one.

mod cells;

use crate::SessionKey;
use crate::memory::prefetch;
use crate::rcu::Ticket;
use crate::sync::Ordering;
use crate::vector::Vectors;
use cells::{BURIED, Bucket, Buckets, CELLS, Cell, Direct, EMPTY, FREE, array};
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::ptr::{self, NonNull};
use std::sync::Arc;

pub(crate) use cells::{Hint, Link, PackedKey};

/// (Loom looks at all interleavings of few cells.)
const FIRST_BUCKETS: usize = if cfg!(loom) { 1 } else { 64 };
/// Buckets moved with each change while the index grows.
const STRIDE: usize = 4;

/// What readers search: the bucket array, and while the index grows the one before it.
pub(crate) struct Generation<E> {
    direct: Arc<Direct<E>>,
    growing_from: Option<Arc<Buckets<E>>>,
    buckets: Arc<Buckets<E>>,
    hasher: KeyHasher,
}

impl<E> Generation<E> {
    #[inline(always)]
    pub fn hash(&self, key: PackedKey) -> u64 {
        self.hasher.hash(key)
    }

    /// For a batch of searches.
    #[inline(always)]
    pub fn search(&self) -> Search<'_, E> {
        Search {
            generation: self,
            direct: &self.direct,
            buckets: &self.buckets.0,
            hasher: self.hasher,
            is_growing: self.growing_from.is_some(),
        }
    }

    #[cold]
    fn prefetch_old(&self, hash: u64) {
        if let Some(old) = &self.growing_from {
            prefetch(&old.0[old.home(hash)]);
        }
    }

    #[inline(never)]
    fn find_elsewhere(&self, key: PackedKey) -> Option<Link<E>> {
        self.find(key, self.hasher.hash(key))
    }

    /// The link of `key`. The old array first: see the module's words on growth.
    #[inline(always)]
    pub fn find(&self, key: PackedKey, hash: u64) -> Option<Link<E>> {
        if let Some((_, link)) = self.direct.find(key) {
            return Some(link);
        }
        if let Some(old) = &self.growing_from
            && let Some((_, link)) = old.find(key, hash)
        {
            return Some(link);
        }
        self.buckets.find(key, hash).map(|(_, link)| link)
    }
}

/// A batch of searches: what all of them need, at hand.
#[derive(Clone, Copy)]
pub(crate) struct Search<'g, E> {
    generation: &'g Generation<E>,
    direct: &'g Direct<E>,
    buckets: &'g [Bucket<E>],
    hasher: KeyHasher,
    is_growing: bool,
}

/// The line where a key is, unless it had to give way.
pub(crate) struct Home<'g, E>(&'g Bucket<E>);

impl<E> Clone for Home<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Home<'_, E> {}

impl<'g, E> Search<'g, E> {
    /// Where `key` would be; asks for that line.
    #[inline(always)]
    pub fn home(&self, key: PackedKey) -> Home<'g, E> {
        let line = self.direct.line(key).unwrap_or_else(|| {
            let hash = self.hasher.hash(key);
            if self.is_growing {
                self.generation.prefetch_old(hash);
            }
            let home = hash as usize & self.buckets.len().wrapping_sub(1);
            // SAFETY: there is at least one bucket, and there are a power of two.
            unsafe { self.buckets.get_unchecked(home) }
        });
        prefetch(line);
        Home(line)
    }

    /// The link of `key`, whose home this is, by vectors: most keys are there. (While the index grows, a key that is in the
    /// new array is not in the old one any more, or as well; only one that is missed has to be looked for in the order
    /// that the module's words on growth say.)
    #[inline(always)]
    pub fn find<V: Vectors>(&self, key: PackedKey, home: Home<'g, E>) -> Option<Link<E>> {
        match home.0.link_of::<V>(key) {
            Some(link) => Some(link),
            None => self.generation.find_elsewhere(key),
        }
    }
}

/// The keyed hash of session keys. Its two secrets differ in every process, so that nobody can choose keys that
/// meet in one bucket.
#[derive(Debug, Clone, Copy)]
struct KeyHasher([u64; 2]);

impl KeyHasher {
    fn new() -> Self {
        if cfg!(loom) {
            // Loom wants the same world every time.
            return Self([0x9e37_79b9, 0x85eb_ca6b]);
        }
        let random = RandomState::default();
        Self([0u8, 1].map(|which| random.hash_one(which)))
    }

    /// One wide multiplication, both halves folded together.
    #[inline(always)]
    fn hash(self, key: PackedKey) -> u64 {
        let product = u128::from(key.low ^ self.0[0]) * u128::from(key.bits as u64 ^ self.0[1]);
        product as u64 ^ (product >> 64) as u64
    }
}

/// A buried cell, until it may be used again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grave {
    position: usize,
    home: usize,
    /// It is one of the cells that F-TEIDs index.
    is_direct: bool,
    /// How many times the index had grown when it was dug: the cells of an earlier array are of no interest.
    growth: u32,
}

/// The writer's side of the index.
pub(crate) struct Index<E> {
    direct: Arc<Direct<E>>,
    buckets: Arc<Buckets<E>>,
    /// For each bucket: how many keys (buried ones too) went past it to a later one.
    passing: Vec<u16>,
    /// Cells of `buckets` with a key, or buried.
    used: usize,
    growth: u32,
    growing: Option<Growing<E>>,
    hasher: KeyHasher,
}

struct Growing<E> {
    from: Arc<Buckets<E>>,
    /// Next bucket to move.
    cursor: usize,
    /// Keys still in it.
    left: usize,
    /// Passed: every reader knows of both arrays.
    known: Ticket,
}

impl<E> Index<E> {
    /// An empty one, with so many cells that F-TEIDs index (rounded up to a power of two), or none.
    pub fn new(direct: usize) -> Self {
        let lines = (direct > 0).then(|| array(direct.div_ceil(CELLS).next_power_of_two()));
        Self {
            direct: Arc::new(Direct(lines)),
            buckets: Arc::new(Buckets::new(FIRST_BUCKETS)),
            passing: vec![0; FIRST_BUCKETS],
            used: 0,
            growth: 0,
            growing: None,
            hasher: KeyHasher::new(),
        }
    }

    /// What readers are to search now.
    pub fn generation(&self) -> Box<Generation<E>> {
        Box::new(Generation {
            direct: Arc::clone(&self.direct),
            growing_from: self.growing.as_ref().map(|g| Arc::clone(&g.from)),
            buckets: Arc::clone(&self.buckets),
            hasher: self.hasher,
        })
    }

    /// Whether `more` keys need a larger array.
    pub fn is_tight(&self, more: usize) -> bool {
        (self.used + self.growing.as_ref().map_or(0, |g| g.left) + more) * 8 > self.buckets.cells() * 5
    }

    pub fn is_growing(&self) -> bool {
        self.growing.is_some()
    }

    /// Starts to grow, so that `more` keys fit. The caller publishes [`Self::generation`], then draws the ticket that
    /// [`Self::known_from`] takes. Not while growing.
    pub fn grow(&mut self, more: usize, not_yet: Ticket) {
        debug_assert!(self.growing.is_none());
        let len = ((self.used + more) * 2)
            .div_ceil(CELLS)
            .next_power_of_two()
            .max(self.buckets.0.len() * 2);
        let from = std::mem::replace(&mut self.buckets, Arc::new(Buckets::new(len)));
        self.passing = vec![0; len];
        self.growing = Some(Growing {
            from,
            cursor: 0,
            left: std::mem::take(&mut self.used),
            known: not_yet,
        });
        self.growth += 1;
    }

    /// Every reader knows of both arrays once `ticket` has passed.
    pub fn known_from(&mut self, ticket: Ticket) {
        if let Some(growing) = &mut self.growing {
            growing.known = ticket;
        }
    }

    /// When moving may start; `None` if there is nothing to move.
    pub fn moves_from(&self) -> Option<Ticket> {
        self.growing.as_ref().map(|g| g.known)
    }

    /// Moves the keys of a few buckets; `true` when that was the last of them, and the caller is to publish
    /// [`Self::generation`].
    pub fn move_some(&mut self, strides: usize, passed: Ticket) -> bool {
        let Some(mut growing) = self.growing.take_if(|g| g.known <= passed) else {
            return false;
        };
        let end = growing
            .cursor
            .saturating_add(STRIDE.saturating_mul(strides))
            .min(growing.from.0.len());
        for bucket in &growing.from.0[growing.cursor..end] {
            for cell in &bucket.0 {
                if let Some((key, link)) = cell.content() {
                    self.place(key, link);
                    cell.mark(BURIED);
                    growing.left = growing.left.saturating_sub(1);
                }
            }
        }
        growing.cursor = end;
        let done = end == growing.from.0.len();
        if !done {
            self.growing = Some(growing);
        }
        done
    }

    /// The low bits of a key's hash.
    pub fn hash(&self, key: SessionKey) -> u32 {
        self.hasher.hash(PackedKey::from(key)) as u32
    }

    /// Asks for the bucket of a key with that hash.
    pub fn prefetch(&self, hash: u32) {
        prefetch(&self.buckets.0[self.buckets.home(hash.into())]);
    }

    /// The entry that has `key`.
    pub fn get(&self, key: SessionKey) -> Option<Link<E>> {
        let key = PackedKey::from(key);
        let direct = self.direct.find(key).map(|(_, link)| link);
        direct.or_else(|| self.find(key, self.hasher.hash(key)).map(|(_, _, link)| link))
    }

    fn find(&self, key: PackedKey, hash: u64) -> Option<(&Buckets<E>, usize, Link<E>)> {
        let here = self
            .buckets
            .find(key, hash)
            .map(|(position, link)| (&*self.buckets, position, link));
        here.or_else(|| {
            let old = &*self.growing.as_ref()?.from;
            old.find(key, hash).map(|(position, link)| (old, position, link))
        })
    }

    /// Makes `key` lead to `entry`: one store if it is there already. Not when [tight](Self::is_tight).
    pub fn set(&mut self, key: SessionKey, entry: NonNull<E>, hint: Hint) {
        let key = PackedKey::from(key);
        let link = Link::new(entry, key, hint);
        if let Some((cell, _)) = self.direct.find(key) {
            cell.link.store(link.0.as_ptr(), Ordering::Release);
            return;
        }
        match self.find(key, self.hasher.hash(key)) {
            Some((buckets, position, _)) => buckets.cell(position).link.store(link.0.as_ptr(), Ordering::Release),
            None => match self.direct.cell(key) {
                Some((_, cell)) if cell.link.load(Ordering::Relaxed).is_null() => cell.fill(key, link),
                _ => self.place(key, link),
            },
        }
    }

    fn place(&mut self, key: PackedKey, link: Link<E>) {
        let mut bucket = self.buckets.home(self.hasher.hash(key));
        loop {
            let vacant = |cell: &&Cell<E>| matches!(cell.link.load(Ordering::Relaxed).addr(), EMPTY | FREE);
            if let Some(cell) = self.buckets.0[bucket].0.iter().find(vacant) {
                cell.fill(key, link);
                self.used += 1;
                return;
            }
            self.passing[bucket] = self.passing[bucket].saturating_add(1);
            bucket = self.buckets.next(bucket);
        }
    }

    /// Buries `key`: readers miss it from now on. The grave, if it needs [filling](Self::fill_grave) after grace.
    pub fn bury(&mut self, key: SessionKey) -> Option<Grave> {
        let key = PackedKey::from(key);
        if let Some((position, cell)) = self.direct.cell(key).filter(|(_, cell)| cell.link_of(key).is_some()) {
            cell.mark(BURIED);
            return Some(Grave {
                position,
                home: position,
                is_direct: true,
                growth: self.growth,
            });
        }
        let hash = self.hasher.hash(key);
        let (buckets, position, _) = self.find(key, hash)?;
        buckets.cell(position).mark(BURIED);
        if ptr::eq(buckets, &*self.buckets) {
            Some(Grave {
                position,
                home: self.buckets.home(hash),
                is_direct: false,
                growth: self.growth,
            })
        } else {
            if let Some(growing) = &mut self.growing {
                growing.left = growing.left.saturating_sub(1);
            }
            None
        }
    }

    /// Gives the cell back: a grace period has passed since it was buried.
    pub fn fill_grave(&mut self, grave: Grave) {
        if grave.is_direct {
            if let Some(cell) = self.direct.at(grave.position) {
                cell.mark(EMPTY);
            }
            return;
        }
        if grave.growth != self.growth {
            return;
        }
        self.used -= 1;
        self.buckets.cell(grave.position).mark(FREE);
        let own = grave.position / CELLS;
        let mut bucket = grave.home;
        while bucket != own {
            // A count that has saturated is no longer known: the bucket keeps its free cells free.
            if self.passing[bucket] != u16::MAX {
                self.passing[bucket] -= 1;
            }
            self.empty_if_nothing_passes(bucket);
            bucket = self.buckets.next(bucket);
        }
        self.empty_if_nothing_passes(own);
    }

    fn empty_if_nothing_passes(&self, bucket: usize) {
        if self.passing[bucket] == 0 {
            let cells = &self.buckets.0[bucket].0;
            let free = cells.iter().filter(|c| c.link.load(Ordering::Relaxed).addr() == FREE);
            free.for_each(|cell| cell.mark(EMPTY));
        }
    }
}
