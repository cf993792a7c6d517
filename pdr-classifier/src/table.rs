//! What readers and the writer share, and the readers' side of it.

mod batch;

use crate::entry::Entry;
use crate::framed::FramedRoutes;
use crate::index::{Generation, Hint, Link, PackedKey};
use crate::memory::prefetch;
use crate::rcu::{Epochs, Registered};
use crate::sync::{AtomicPtr, Ordering};
use crate::vector;
use crate::writer::{Holdings, Writer};
use crate::{EthernetFields, Explanation, FlowMask, PacketFields, RuleIndex, SessionKey};
use batch::{BATCH, DetectAll, FindAll};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use upf_model::{IpPrefix, NetworkInstanceId, SessionId};

pub(crate) struct Shared<T> {
    pub epochs: Epochs,
    /// From `Box::into_raw`; replaced by the writer, freed after a grace period.
    pub generation: AtomicPtr<Generation<Entry>>,
    pub framed: FramedRoutes<Entry>,
    /// What the writer owned, once it has gone and readers may still look.
    pub estate: Mutex<Option<Holdings<T>>>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let generation = self.generation.load(Ordering::Relaxed);
        // SAFETY: from `Box::into_raw`, and `&mut self` says that no reader is left.
        drop(unsafe { Box::from_raw(generation) });
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
        Self::with_direct_teids(0)
    }

    /// The same for a UPF that allocates its F-TEIDs itself, the low bits of a TEID being a dense index and the bits above
    /// a generation: so many of them (rounded up to a power of two) are found without a hash. All others, and all keys of
    /// other kinds, are found as always. Takes 16 bytes of address space each, and memory where TEIDs are used.
    pub fn with_direct_teids(indexes: usize) -> (Self, Writer<T>) {
        let holdings = Holdings::new(indexes);
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
    presence: Registered,
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
    entry: &'g Entry,
    gate: u8,
    payload: PhantomData<&'g T>,
}

impl<'g, T> Found<'g, T> {
    #[inline(always)]
    const fn new(entry: &'g Entry, gate: u8) -> Self {
        Self {
            entry,
            gate,
            payload: PhantomData,
        }
    }
}

/// What a packet was detected as: see [`Guard::detect`].
pub struct Detection<'g, T> {
    /// Its session.
    pub session: Option<Found<'g, T>>,
    /// The rule of that session: an index into the rules as put.
    pub rule: Option<RuleIndex>,
}

impl<T> Clone for Detection<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Detection<'_, T> {}

impl<T> Default for Detection<'_, T> {
    fn default() -> Self {
        Self {
            session: None,
            rule: None,
        }
    }
}

impl<T> Clone for Found<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Found<'_, T> {}

impl<T> Guard<'_, T> {
    #[inline(always)]
    fn generation(&self) -> &Generation<Entry> {
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
    /// [`Found::classify`] will need. Looks at as many as the shorter slice has.
    pub fn sessions<'g>(&'g self, keys: &[SessionKey], found: &mut [Option<Found<'g, T>>]) {
        for (keys, found) in keys.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            vector::run(FindAll {
                guard: self,
                keys,
                found,
            });
        }
    }

    /// Finds the session of every key, and which of its rules detects the packet: what [`Self::sessions`] and then
    /// [`Found::classify`] for each of them do, at once. `packet(i)` came by `keys[i]`.
    pub fn detect<'g, 'p>(
        &'g self,
        keys: &[SessionKey],
        packet: impl Fn(usize) -> &'p PacketFields,
        detections: &mut [Detection<'g, T>],
    ) {
        let mut done = 0;
        for (keys, detections) in keys.chunks(BATCH).zip(detections.chunks_mut(BATCH)) {
            vector::run(DetectAll {
                guard: self,
                keys,
                packet: |i| packet(done + i),
                detections,
            });
            done += keys.len();
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
                let is_routed = std::ptr::eq(entry, last) || last.own().framed().iter().any(around);
                is_routed.then(|| Found::new(last, last.framed_gate()))
            })
    }

    #[inline(always)]
    fn resolve_or_around(&self, key: SessionKey, link: Option<Link<Entry>>) -> Option<Found<'_, T>> {
        if let Some(link) = link
            && let Some(found) = self.resolve(key, link)
        {
            return Some(found);
        }
        self.around(key)
    }

    #[inline(always)]
    fn resolve(&self, key: SessionKey, link: Link<Entry>) -> Option<Found<'_, T>> {
        // SAFETY: the link of a key is that of an entry, and the guard keeps what can be reached within its burst.
        let entry = unsafe { &*link.entry() };
        let gate = link.hint().gate();
        if entry.is_in_force() && gate != Hint::GATE_UNSAID {
            return Some(Found::new(entry, gate));
        }
        Self::resolve_slowly(key, entry)
    }

    /// Follows an entry that is being replaced at this very moment, and finds the gate of a key whose link does not say.
    #[cold]
    fn resolve_slowly(key: SessionKey, entry: &Entry) -> Option<Found<'_, T>> {
        let entry = entry.last()?;
        entry.gate_of(key).map(|gate| Found::new(entry, gate))
    }
}

impl<'g, T> Found<'g, T> {
    /// What was put with the rules: it and they are replaced as one.
    #[inline]
    pub fn payload(self) -> &'g T {
        // SAFETY: the payloads of a `Table<T>` are `T`s, and live as long as the entries that lead to them.
        unsafe { &*self.entry.payload().cast() }
    }

    /// Asks for the first line of the payload, which is not where the rules are.
    #[inline]
    pub fn prefetch_payload(self) {
        prefetch(self.entry.payload());
    }

    /// Whose session it is. Cost: a cache line that classification does not need.
    pub fn id(self) -> SessionId {
        self.entry.own().id()
    }

    /// Whether both are the same session, in the same version.
    #[inline]
    pub fn is(self, other: Self) -> bool {
        std::ptr::eq(self.entry, other.entry)
    }

    /// The rule that detects the packet: an index into the rules as put. The packet's UE end is to be the address of
    /// the key, if that is a UE's.
    #[inline]
    pub fn classify(self, packet: &PacketFields) -> Option<RuleIndex> {
        self.entry.classify(self.gate, packet, None)
    }

    /// [`Self::classify`] of what an Ethernet frame carries ([`PacketFields::none`] if that is no IP packet), with the
    /// frame's header: for Ethernet PDU sessions. Rules without Ethernet packet filters ignore the header.
    pub fn classify_frame(self, packet: &PacketFields, frame: &EthernetFields) -> Option<RuleIndex> {
        self.entry.classify(self.gate, packet, Some(frame))
    }

    /// What of a packet decides which rule of the session detects it, in the direction that this one came from. Cost:
    /// linear in the rules of a small set, constant for a large one.
    pub fn flow_mask(self) -> FlowMask {
        self.entry.flow_mask(self.gate)
    }

    /// Why [`Self::classify`] says what it says, rule by rule. For people: linear in the rules, and allocates.
    pub fn explain(self, packet: &PacketFields) -> Explanation {
        self.entry.explain(self.gate, packet, None)
    }

    /// Why [`Self::classify_frame`] says what it says.
    pub fn explain_frame(self, packet: &PacketFields, frame: &EthernetFields) -> Explanation {
        self.entry.explain(self.gate, packet, Some(frame))
    }
}
