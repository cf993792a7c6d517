//! What readers and the writer share, and the readers' side of it.

use crate::entry::Entry;
use crate::framed::FramedRoutes;
use crate::index::{Generation, Link, ORDINAL_UNSAID, PackedKey};
use crate::memory::prefetch;
use crate::rcu::{Epochs, Presence};
use crate::shape::FRAMED;
use crate::writer::{Holdings, Writer};
use crate::{Explanation, PacketFields, SessionKey};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};
use upf_model::{IpPrefix, NetworkInstanceId, SessionId};

/// Packets that [`Guard::sessions`] takes at a time: enough for the memory to answer many questions at once.
const BATCH: usize = 32;
/// Lines of a program that are asked for ahead of use: the groups and the rows of two small ones.
const PROGRAM_LINES: usize = 4;

pub(crate) struct Shared<T> {
    pub epochs: Epochs,
    /// From `Box::into_raw`; replaced by the writer, freed after a grace period.
    pub generation: AtomicPtr<Generation<Entry<T>>>,
    pub framed: FramedRoutes<Entry<T>>,
    /// What the writer owned, once it has gone and readers may still look.
    pub estate: Mutex<Option<Holdings<T>>>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and `&mut self` says that no reader is left.
        drop(unsafe { Box::from_raw(*self.generation.get_mut()) });
    }
}

/// A table of sessions: where readers register. Cheap to clone; the table lives as long as any of its handles.
pub struct Table<T>(Arc<Shared<T>>);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync> Table<T> {
    /// An empty table and its one writer.
    #[allow(clippy::new_ret_no_self, reason = "a table without its writer is of no use")]
    pub fn new() -> (Self, Writer<T>) {
        let holdings = Holdings::new();
        let shared = Arc::new(Shared {
            epochs: Epochs::default(),
            generation: AtomicPtr::new(Box::into_raw(holdings.generation())),
            framed: FramedRoutes::new(),
            estate: Mutex::new(None),
        });
        (Self(Arc::clone(&shared)), Writer::new(shared, holdings))
    }

    /// A reader, for one thread.
    pub fn register(&self) -> Reader<T> {
        Reader {
            presence: self.0.epochs.register(),
            shared: Arc::clone(&self.0),
        }
    }
}

/// One thread's right to look up.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    presence: Arc<Presence>,
}

impl<T> Reader<T> {
    /// Starts a burst. Nothing found in it is freed before the guard is dropped, so keep bursts short, and keep none
    /// while sleeping. Cost: one store and one fence.
    #[inline]
    pub fn enter(&mut self) -> Guard<'_, T> {
        self.shared.epochs.enter(&self.presence);
        Guard { reader: self }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.shared.epochs.deregister(&self.presence);
    }
}

/// A burst: what it finds stays as it is until the guard is dropped.
pub struct Guard<'r, T> {
    reader: &'r Reader<T>,
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.reader.shared.epochs.exit(&self.reader.presence);
    }
}

/// A session as one packet found it: the session, and the key that led to it.
pub struct Found<'g, T> {
    entry: &'g Entry<T>,
    ordinal: u8,
}

impl<T> Clone for Found<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Found<'_, T> {}

impl<T> Guard<'_, T> {
    #[inline(always)]
    fn generation(&self) -> &Generation<Entry<T>> {
        // SAFETY: never null; a replaced one is freed only after every burst that might have seen it.
        unsafe { &*self.reader.shared.generation.load(Ordering::Acquire) }
    }

    /// The session of that key; of a UE key that no session has, the session with the longest framed route around
    /// it. An IPv6 key says 64 bits, so framed routes longer than /64 are left to [`Self::framed`].
    ///
    /// Cost: two dependent cache misses; in a large table use [`Self::sessions`], which overlaps those of a batch.
    #[inline]
    pub fn session(&self, key: SessionKey) -> Option<Found<'_, T>> {
        let packed = PackedKey::from(key);
        let generation = self.generation();
        let link = generation.find(packed, generation.hash(packed));
        link.and_then(|link| self.resolve(key, link))
            .or_else(|| self.around(key))
    }

    /// [`Self::session`] of every key: `found[i]` is the session of `keys[i]`. Also asks for the cache lines that
    /// [`Found::classify`] and [`Found::payload`] will need. Looks at as many as the shorter slice has.
    pub fn sessions<'g>(&'g self, keys: &[SessionKey], found: &mut [Option<Found<'g, T>>]) {
        let generation = self.generation();
        for (keys, found) in keys.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            let mut packed = [(PackedKey::default(), 0); BATCH];
            for (key, (packed, hash)) in keys.iter().zip(&mut packed) {
                *packed = PackedKey::from(*key);
                *hash = generation.hash(*packed);
                generation.prefetch(*hash);
            }
            let mut links = [None; BATCH];
            for ((packed, hash), link) in packed[..keys.len()].iter().zip(&mut links) {
                *link = generation.find(*packed, *hash);
                if let Some(link) = link {
                    prefetch(link.entry());
                }
            }
            for ((key, link), found) in keys.iter().zip(links).zip(found.iter_mut()) {
                *found = link
                    .and_then(|link| self.resolve(*key, link))
                    .or_else(|| self.around(*key));
                if let Some(Found { entry, .. }) = found {
                    entry
                        .program()
                        .iter()
                        .take(PROGRAM_LINES)
                        .for_each(|line| prefetch(line));
                    prefetch(entry.payload());
                }
            }
        }
    }

    /// The session with the longest framed route around `addr` in `ni`. Cost: one step per bit of the route.
    pub fn framed(&self, ni: NetworkInstanceId, addr: IpAddr) -> Option<Found<'_, T>> {
        match addr {
            IpAddr::V4(a) => self.longest(ni, addr, (a.to_bits() as u128) << 96, 32),
            IpAddr::V6(a) => self.longest(ni, addr, a.to_bits(), 128),
        }
    }

    /// The session with the longest framed route around all addresses of a key.
    #[inline]
    fn around(&self, key: SessionKey) -> Option<Found<'_, T>> {
        if self.reader.shared.framed.is_unused() {
            return None;
        }
        match key {
            SessionKey::FTeid { .. } => None,
            SessionKey::UeV4 { ni, addr } => self.longest(ni, IpAddr::V4(addr), (addr.to_bits() as u128) << 96, 32),
            SessionKey::UeV6 { ni, prefix64 } => {
                let bits = (prefix64 as u128) << 64;
                self.longest(ni, IpAddr::V6(Ipv6Addr::from_bits(bits)), bits, 64)
            }
        }
    }

    #[cold]
    fn longest(&self, ni: NetworkInstanceId, addr: IpAddr, bits: u128, len: u8) -> Option<Found<'_, T>> {
        let around = |(n, p): &(NetworkInstanceId, IpPrefix)| *n == ni && p.contains(addr);
        self.reader
            .shared
            .framed
            .longest(ni, (addr.is_ipv6(), bits, len), |entry| {
                // SAFETY: the guard keeps whatever can be reached within its burst.
                let entry = unsafe { entry.as_ref() };
                let last = entry.last()?;
                let is_routed = std::ptr::eq(entry, last) || last.own().framed.iter().any(around);
                is_routed.then_some(Found {
                    entry: last,
                    ordinal: FRAMED,
                })
            })
    }

    #[inline(always)]
    fn resolve(&self, key: SessionKey, link: Link<Entry<T>>) -> Option<Found<'_, T>> {
        // SAFETY: the link of a key is that of an entry, and the guard keeps what can be reached within its burst.
        let entry = unsafe { &*link.entry() };
        if entry.is_in_force() && link.ordinal() != ORDINAL_UNSAID {
            return Some(Found {
                entry,
                ordinal: link.ordinal(),
            });
        }
        Self::resolve_slowly(key, entry)
    }

    /// Follows an entry that is being replaced at this very moment, and finds the ordinal of a late key.
    #[cold]
    fn resolve_slowly(key: SessionKey, entry: &Entry<T>) -> Option<Found<'_, T>> {
        let entry = entry.last()?;
        entry.ordinal_of(key).map(|ordinal| Found { entry, ordinal })
    }
}

impl<'g, T> Found<'g, T> {
    /// What was put with the rules: it and they are replaced as one.
    #[inline]
    pub fn payload(self) -> &'g T {
        self.entry.payload()
    }

    /// Whose session it is.
    #[inline]
    pub fn id(self) -> SessionId {
        self.entry.id()
    }

    /// The rule that detects the packet: an index into the rules as put. The packet's UE end is to be the address of
    /// the key, if that is a UE's.
    #[inline]
    pub fn classify(self, packet: &PacketFields) -> Option<u16> {
        self.entry.classify(self.ordinal, packet)
    }

    /// Why [`Self::classify`] says what it says, rule by rule. For people: linear in the rules, and allocates.
    pub fn explain(self, packet: &PacketFields) -> Explanation {
        self.entry.explain(self.ordinal, packet)
    }
}
