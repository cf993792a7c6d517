//! Entries: a session as packets find it, immutable but for two pointers.
//!
//! The first cache line of an entry has all that most packets need: where the program is, the UE's address, whether
//! precedences have changed. What few packets need is in [`Own`], one pointer further. The payload follows the first
//! line, or is in it if it is small.

use crate::packet::word;
use crate::precedence::{Precedences, UPSET};
use crate::program::{self, Group, Line, Rows, UeVerdict};
use crate::row::Place;
use crate::ruleset::RuleSet;
use crate::shape::UeSets;
use crate::vector::{self, Task, Vectors};

use crate::{Explanation, PacketFields, PdrMatch, SessionKey};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use upf_model::{IpPrefix, NetworkInstanceId, SessionId};

/// A session as packets find it.
#[repr(C, align(64))]
pub(crate) struct Entry<T> {
    /// What has taken this entry's place: null while it is in force, itself if the session was removed.
    successor: AtomicPtr<Entry<T>>,
    program: *const [Line],
    /// The [`Precedences`] and their marks; null while they are those that the rules were put with.
    outlook: AtomicPtr<Precedences>,
    own: Box<Own>,
    id: SessionId,
    /// The first set of UE addresses, if it is so simple: at most one IPv4 address and one IPv6 prefix up to /64.
    ue: PlainUe,
    payload: T,
}

// SAFETY: `program` points into the `RuleSet` that `own` holds, and `outlook` to precedences made of atomics, which
// the entry owns; neither is tied to a thread. The rest is as `T` is.
unsafe impl<T: Send> Send for Entry<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Entry<T> {}

/// What is the session's own and few packets need.
pub(crate) struct Own {
    pub keys: Box<[SessionKey]>,
    pub framed: Box<[(NetworkInstanceId, IpPrefix)]>,
    pub ue_sets: UeSets,
    /// Precedences as put.
    pub precedences: Box<[upf_model::Precedence]>,
    pub rules: Arc<RuleSet>,
}

/// A set of UE addresses in twenty bytes.
#[derive(Debug, Clone, Copy, Default)]
struct PlainUe {
    v4: u32,
    v6: [u32; 2],
    v6_len: u8,
    has_v4: bool,
    has_v6: bool,
    /// The set is not like that: look at the list.
    is_listed: bool,
}

impl PlainUe {
    fn of(set: Option<&[IpPrefix]>) -> Self {
        let mut plain = Self::default();
        for prefix in set.unwrap_or_default() {
            match prefix {
                IpPrefix::V4(p) if p.len() == 32 && !plain.has_v4 => {
                    plain.v4 = p.addr().to_bits();
                    plain.has_v4 = true;
                }
                IpPrefix::V6(p) if p.len() <= 64 && !plain.has_v6 => {
                    let bits = p.addr().to_bits();
                    plain.v6 = [(bits >> 96) as u32, (bits >> 64) as u32];
                    plain.v6_len = p.len();
                    plain.has_v6 = true;
                }
                _ => plain.is_listed = true,
            }
        }
        plain
    }

    /// Without branches that depend on the packet.
    #[inline(always)]
    fn judge(&self, packet: &PacketFields) -> UeVerdict {
        let bits = |[high, low]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
        let differing = bits([packet.0[word::UE], packet.0[word::UE + 1]]) ^ bits(self.v6);
        let as_v6 = self.has_v6 & (differing.leading_zeros() >= u32::from(self.v6_len));
        let as_v4 = self.has_v4 & (packet.0[word::UE] == self.v4);
        let is_in = if packet.is_v6() { as_v6 } else { as_v4 };
        match (self.is_listed, is_in) {
            (true, _) => UeVerdict::Open,
            (false, true) => UeVerdict::InFirst,
            (false, false) => UeVerdict::OutsideFirst,
        }
    }
}

impl<T> Entry<T> {
    pub fn new(id: SessionId, own: Own, payload: T) -> Self {
        let program = ptr::from_ref::<[Line]>(&own.rules.program);
        let ue = PlainUe::of(own.ue_sets.first().map(|set| &**set));
        Self {
            successor: AtomicPtr::default(),
            program,
            outlook: AtomicPtr::default(),
            own: Box::new(own),
            id,
            ue,
            payload,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }
    pub fn payload(&self) -> &T {
        &self.payload
    }
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Whether nothing has taken its place.
    #[inline(always)]
    pub fn is_in_force(&self) -> bool {
        self.successor.load(Ordering::Acquire).is_null()
    }

    /// What is in force in its place; `None` if the session was removed. Good for as long as the caller's hold on
    /// `self` is: an entry and those that took its place are freed in that order.
    pub fn last(&self) -> Option<&Self> {
        let mut entry = self;
        loop {
            let successor = entry.successor.load(Ordering::Acquire);
            if successor.is_null() {
                return Some(entry);
            }
            if ptr::eq(successor, entry) {
                return None;
            }
            // SAFETY: it took the place of an entry that the caller may look at, hence was retired no earlier than
            // that one, if at all: the caller may look at it too.
            entry = unsafe { &*successor };
        }
    }

    /// Puts `successor` in its place, for all its keys at once.
    pub fn replace_by(&self, successor: *mut Self) {
        self.successor.store(successor, Ordering::Release);
    }

    /// Ends it.
    pub fn remove(&self) {
        self.successor.store(ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    /// The position of `key` among the session's.
    pub fn ordinal_of(&self, key: SessionKey) -> Option<u8> {
        self.own
            .keys
            .iter()
            .position(|k| *k == key)
            .map(|position| position as u8)
    }

    /// The program, for asking for its lines ahead of use.
    #[inline(always)]
    pub fn program(&self) -> &[Line] {
        // SAFETY: it is in the rule set that `self.own` keeps alive and nobody changes.
        unsafe { &*self.program }
    }

    /// The present precedences, if any has changed since the rules were put, and their marks.
    #[inline(always)]
    pub fn outlook(&self) -> Option<(&Precedences, usize)> {
        let outlook = self.outlook.load(Ordering::Acquire);
        let marks = outlook.addr() & 0b11;
        // SAFETY: null, or from `Box::into_raw` with marks in its low bits; freed after a grace period.
        unsafe { outlook.map_addr(|a| a & !0b11).as_ref() }.map(|precedences| (precedences, marks))
    }

    /// Turns readers to other marks of the same precedences.
    pub fn turn(&self, marks: usize) {
        let outlook = self.outlook.load(Ordering::Relaxed);
        self.outlook
            .store(outlook.map_addr(|a| a & !0b11 | marks), Ordering::Release);
    }

    /// Turns readers to these precedences; gives the former ones, which readers may still look at.
    pub fn turn_to(&self, precedences: Box<Precedences>, marks: usize) -> Option<Superseded> {
        let outlook = Box::into_raw(precedences).map_addr(|a| a | marks);
        Superseded::of(self.outlook.swap(outlook, Ordering::AcqRel))
    }

    /// The rule that detects the packet.
    #[inline(always)]
    pub fn classify(&self, ordinal: u8, packet: &PacketFields) -> Option<u16> {
        match self.outlook() {
            Some((precedences, marks)) if marks & UPSET != 0 => vector::run(Least {
                entry: self,
                ordinal,
                packet,
                precedences,
                marks,
            }),
            _ => vector::run(First {
                entry: self,
                ordinal,
                packet,
            }),
        }
    }

    /// Whether the packet's UE end is in the set that an accepting group asks for.
    #[inline(always)]
    fn ue_fits(&self, group: &Group, ue: UeVerdict, packet: &PacketFields) -> bool {
        match group.arrival.ue_set {
            Some(set) if set != 0 || ue == UeVerdict::Open => self.own.ue_sets[usize::from(set)]
                .iter()
                .any(|p| p.contains(packet.ue())),
            // The first set, which contains it, or none.
            _ => true,
        }
    }

    /// The rules with their present precedences.
    pub fn rules(&self) -> Vec<PdrMatch> {
        let Own {
            keys,
            ue_sets,
            precedences,
            rules,
            ..
        } = &*self.own;
        let outlook = self.outlook();
        let precedence = |rule: usize| outlook.map_or(precedences[rule], |(now, marks)| now.get(rule as u16, marks));
        let shapes = rules.shapes.rules.iter().enumerate();
        shapes
            .map(|(rule, shape)| shape.rule(keys, ue_sets, precedence(rule)))
            .collect()
    }

    /// Why [`Self::classify`] says what it says.
    pub fn explain(&self, ordinal: u8, packet: &PacketFields) -> Explanation {
        // A packet that a framed route led here came plain; the rules ask no more of its key.
        let framed = || SessionKey::ue(packet.network_instance(), packet.ue());
        let key = self.own.keys.get(usize::from(ordinal)).copied().unwrap_or_else(framed);
        Explanation::of(&self.rules(), key, packet)
    }
}

/// Finds the rule of the first row that matches.
struct First<'a, T> {
    entry: &'a Entry<T>,
    ordinal: u8,
    packet: &'a PacketFields,
}

impl<T> Task for First<'_, T> {
    type Output = Option<u16>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Option<u16> {
        let Self { entry, ordinal, packet } = self;
        let program = program::words(entry.program());
        let ue = entry.ue.judge(packet);
        let mut best = Place::NONE;
        for group in program::accepting(program, packet, ordinal, ue) {
            if group.best >= best {
                break;
            }
            if !entry.ue_fits(&group, ue, packet) {
                continue;
            }
            let first = match group.rows {
                Rows::Chunks(chunks) => chunks.first::<V>(program, packet, best),
                Rows::Ladder(index) => entry.own.rules.ladders[index as usize].first(packet, best),
            };
            best = first.unwrap_or(best);
        }
        (best != Place::NONE).then_some(best.rule())
    }
}

/// Finds the rule of least precedence among all rows that match.
struct Least<'a, T> {
    entry: &'a Entry<T>,
    ordinal: u8,
    packet: &'a PacketFields,
    precedences: &'a Precedences,
    marks: usize,
}

impl<T> Task for Least<'_, T> {
    type Output = Option<u16>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Option<u16> {
        let Self {
            entry,
            ordinal,
            packet,
            precedences,
            marks,
        } = self;
        let program = program::words(entry.program());
        let ue = entry.ue.judge(packet);
        let mut least = None;
        let mut seen = |place: Place| {
            let rule = place.rule();
            let candidate = (precedences.get(rule, marks), rule);
            if least.is_none_or(|least| candidate < least) {
                least = Some(candidate);
            }
        };
        for group in program::accepting(program, packet, ordinal, ue) {
            if !entry.ue_fits(&group, ue, packet) {
                continue;
            }
            match group.rows {
                Rows::Chunks(chunks) => chunks.each::<V>(program, packet, &mut seen),
                Rows::Ladder(index) => entry.own.rules.ladders[index as usize].each::<V>(packet, &mut seen),
            }
        }
        least.map(|(_, rule)| rule)
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        drop(Superseded::of(*self.outlook.get_mut()));
    }
}

/// Precedences that readers may still look at: freed when dropped. (Not a box until then, for that reason.)
pub(crate) struct Superseded(NonNull<Precedences>);

impl Superseded {
    /// Of what was in [`Entry::outlook`] and is there no more.
    fn of(outlook: *mut Precedences) -> Option<Self> {
        NonNull::new(outlook.map_addr(|a| a & !0b11)).map(Self)
    }
}

impl Drop for Superseded {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw` in `turn_to`, taken out of the only place that leads to it, and dropped when
        // a grace period has passed.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
