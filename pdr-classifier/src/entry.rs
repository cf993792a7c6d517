//! Entries: a session as packets find it.
//!
//! An entry is one block of cache lines in the [arena](crate::arena):
//!
//! ```text
//!   header (1 line) │ own block of rows (0 or more lines, if no set is shared) │ what few packets need: Cold, keys, …
//! ```
//! The header has all that most packets need: how a packet must have arrived (the *gates*), the UE's address, which row
//! wins (the [order](crate::order)), where the rows are. A private set of four rules is the line after it.
//!
//! An entry never changes after it is published but for two words: what has taken its place, and the order.

mod detect;

use crate::arena::{Arena, LINE, Line};
use crate::block::Form;
use crate::compile::{Gate, OwnUe, UeAddresses};
use crate::precedence::Precedences;
use crate::ruleset::RuleSet;
use crate::shape::{self, Personal};
use crate::sync::{AtomicPtr, Ordering};
use crate::{PdrMatch, SessionKey};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use upf_model::{IpPrefix, NetworkInstanceId, Precedence, SessionId};

const _: () = assert!(usize::BITS == 64, "an order is kept in a pointer");

/// The first line of a session's entry.
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// What has taken this entry's place: null while it is in force, itself if the session was removed.
    successor: AtomicPtr<Entry>,
    /// A block of rows, or a [`RuleSet`] with sections.
    rows: *const (),
    payload: *const (),
    /// Of a block, its rows' [order](crate::order); of sections, the [`Precedences`] and their marks, or null while they
    /// are those that the rules were put with.
    order: AtomicPtr<Precedences>,
    /// The first two gates.
    arrivals: [u32; INLINE_GATES],
    accepts: [u16; INLINE_GATES],
    form: Form,
    ue: UeAddresses,
    /// Which of `ue` there are: bit 0 the IPv4 address, bit 1 the IPv6 prefix.
    families: u8,
    has_sections: bool,
    /// Lines of its own block.
    tail: u8,
    /// Stands for all that is written before the entry is published, and for its end: loom tells if a reader looks at it
    /// before the one or after the other.
    #[cfg(loom)]
    pub witness: loom::cell::UnsafeCell<()>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == LINE);

/// Lines of the header: one. (Loom's atomics are larger.)
const HEADER: usize = size_of::<Entry>() / LINE;

/// Gates that the header has.
pub(crate) const INLINE_GATES: usize = 2;

// SAFETY: its pointers lead to a block that nobody changes, to a `RuleSet` that it holds a count of, to precedences made
// of atomics, and to a payload, whose type `Table<T>` asks to be `Send` and `Sync`. None of them is tied to a thread.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

/// What few packets need. After it come the keys, the gates, the gate of each key, and two strings of bytes.
#[repr(C)]
struct Cold {
    id: SessionId,
    /// Lines of the whole entry.
    lines: u32,
    /// Length of the [`Personal`] part.
    personal: u32,
    /// Length of the shapes; zero if those of `set` are the session's.
    shapes: u32,
    /// From `Arc::into_raw`, or null: the session's rules are its own.
    set: *const RuleSet,
    keys: u8,
    gates: u8,
    framed_gate: u8,
}

/// Where the rows and shapes of a new entry come from.
pub(crate) enum Source<'s> {
    /// A set that is shared, or has sections.
    Set(Arc<RuleSet>),
    /// The entry's own: the lines of its block, and its shapes.
    Own(&'s [Line], &'s [u8]),
}

/// All that a new entry is made of.
pub(crate) struct Parts<'s> {
    pub id: SessionId,
    pub keys: &'s [SessionKey],
    pub gates: &'s [Gate],
    pub gate_of: &'s [u8],
    pub framed_gate: u8,
    pub form: Form,
    pub own_ue: OwnUe,
    pub order: u64,
    pub personal: &'s [u8],
    pub source: Source<'s>,
    pub payload: NonNull<()>,
}

impl Parts<'_> {
    /// Writes the entry.
    pub fn build(self, arena: &mut Arena) -> NonNull<Entry> {
        let (block, shapes, set) = match self.source {
            Source::Set(set) => (&[][..], &[][..], Some(set)),
            Source::Own(block, shapes) => (block, shapes, None),
        };
        let bytes = size_of::<Cold>()
            + size_of_val(self.keys)
            + size_of_val(self.gates)
            + self.gate_of.len()
            + self.personal.len()
            + shapes.len();
        let lines = HEADER + block.len() + bytes.div_ceil(LINE);
        let place = arena.take(lines);
        let gate = |i: usize| self.gates.get(i).copied().unwrap_or(Gate::SHUT);
        let has_sections = set.as_ref().is_some_and(|set| set.has_sections());
        let rows = match &set {
            Some(set) if has_sections => Arc::as_ptr(set).cast(),
            Some(set) => set.block().as_ptr().cast(),
            // SAFETY: the block's place is after the header; without a block nobody looks there.
            None => unsafe { place.add(HEADER) }.as_ptr().cast_const().cast(),
        };
        let entry = Entry {
            successor: AtomicPtr::default(),
            rows,
            payload: self.payload.as_ptr(),
            order: AtomicPtr::new(if has_sections {
                ptr::null_mut()
            } else {
                ptr::without_provenance_mut(self.order as usize)
            }),
            arrivals: [0, 1].map(|i| gate(i).arrival),
            accepts: [0, 1].map(|i| gate(i).accept),
            form: self.form,
            ue: self.own_ue.addresses,
            families: self.own_ue.families,
            has_sections,
            tail: block.len() as u8,
            #[cfg(loom)]
            witness: loom::cell::UnsafeCell::new(()),
        };
        let cold = Cold {
            id: self.id,
            lines: lines as u32,
            personal: self.personal.len() as u32,
            shapes: shapes.len() as u32,
            set: set.map_or(ptr::null(), Arc::into_raw),
            keys: self.keys.len() as u8,
            gates: self.gates.len() as u8,
            framed_gate: self.framed_gate,
        };
        // SAFETY: the block has room for all of it: `lines` was made of the same lengths. Each part is aligned as it
        // has to be: `Cold` to a line, keys and gates after multiples of eight bytes, bytes anywhere.
        unsafe {
            place.cast::<Entry>().write(entry);
            place
                .add(HEADER)
                .copy_from_nonoverlapping(NonNull::from(block).cast(), block.len());
            let at = place.add(HEADER + block.len()).cast::<Cold>();
            at.write(cold);
            let at = append(at.add(1).cast(), self.keys);
            let at = append(at, self.gates);
            let at = append(at, self.gate_of);
            let at = append(at, self.personal);
            append(at, shapes);
        }
        place.cast()
    }
}

/// Writes a slice; gives where it ends.
///
/// # Safety
/// There is room, and `at` is aligned for `V`.
unsafe fn append<V: Copy>(at: NonNull<u8>, values: &[V]) -> NonNull<u8> {
    // SAFETY: the caller's word.
    unsafe {
        at.cast()
            .copy_from_nonoverlapping(NonNull::from(values).cast::<V>(), values.len());
        at.add(size_of_val(values))
    }
}

/// The parts of an entry that few packets need.
#[derive(Clone, Copy)]
pub(crate) struct Own<'e> {
    cold: &'e Cold,
    pub keys: &'e [SessionKey],
    pub gates: &'e [Gate],
    pub gate_of: &'e [u8],
    /// Framed routes and UE addresses: see [`Personal`].
    pub personal: &'e [u8],
    pub shapes: &'e [u8],
}

impl<'e> Own<'e> {
    pub const fn id(self) -> SessionId {
        self.cold.id
    }
    pub const fn framed_gate(self) -> u8 {
        self.cold.framed_gate
    }
    /// Lines of the whole entry.
    pub const fn lines(self) -> usize {
        self.cold.lines as usize
    }
    /// From `Arc::into_raw`, or null.
    pub const fn set(self) -> *const RuleSet {
        self.cold.set
    }
    pub fn framed(self) -> Vec<(NetworkInstanceId, IpPrefix)> {
        if self.cold.framed_gate == Gate::NO_GATE {
            Vec::new()
        } else {
            Personal::read(self.personal).framed
        }
    }
    /// The session's rules, with those precedences.
    pub fn to_rules(self, precedence: impl Fn(usize) -> Precedence) -> Vec<PdrMatch> {
        shape::read(self.shapes, self.keys, &Personal::read(self.personal), precedence)
    }
}

impl Entry {
    /// What few packets need.
    pub fn own(&self) -> Own<'_> {
        let start = ptr::from_ref(self).cast::<Line>();
        // SAFETY: as `Parts::build` has written it, and nobody changes it. `self` is the first line of a block that is
        // one allocation, reached by a pointer to all of it.
        unsafe {
            let at = start.add(HEADER + usize::from(self.tail)).cast::<Cold>();
            let cold = &*at;
            let at = at.add(1).cast::<SessionKey>();
            let keys = std::slice::from_raw_parts(at, usize::from(cold.keys));
            let at = at.add(keys.len()).cast::<Gate>();
            let gates = std::slice::from_raw_parts(at, usize::from(cold.gates));
            let at = at.add(gates.len()).cast::<u8>();
            let gate_of = std::slice::from_raw_parts(at, keys.len());
            let at = at.add(keys.len());
            let personal = std::slice::from_raw_parts(at, cold.personal as usize);
            let shapes = match cold.set.as_ref() {
                Some(set) => set.shapes(),
                None => std::slice::from_raw_parts(at.add(personal.len()), cold.shapes as usize),
            };
            Own {
                cold,
                keys,
                gates,
                gate_of,
                personal,
                shapes,
            }
        }
    }

    pub const fn payload(&self) -> *const () {
        self.payload
    }
    pub const fn form(&self) -> Form {
        self.form
    }
    #[inline(always)]
    pub const fn own_ue(&self) -> OwnUe {
        OwnUe {
            addresses: self.ue,
            families: self.families,
        }
    }
    /// Lines that follow the header and that most packets need.
    pub const fn tail(&self) -> u8 {
        self.tail
    }
    /// The lines of its block, its own or a shared one.
    pub fn block(&self) -> &[Line] {
        if self.has_sections {
            return &[];
        }
        // SAFETY: `rows` is a block of that form, which is as long as it says.
        unsafe { std::slice::from_raw_parts(self.rows.cast(), self.form.lines()) }
    }
    /// The set with the sections.
    pub fn sections(&self) -> Option<&RuleSet> {
        // SAFETY: `rows` is a set then, which the entry holds.
        self.has_sections.then(|| unsafe { &*self.rows.cast::<RuleSet>() })
    }

    /// Asks for the lines that a change will read.
    pub fn prefetch_own(&self) {
        let start = ptr::from_ref(self).cast::<Line>();
        (1..6).for_each(|line| crate::memory::prefetch(start.wrapping_add(line)));
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

    /// The gate of packets that came by `key`.
    pub fn gate_of(&self, key: SessionKey) -> Option<u8> {
        let own = self.own();
        let position = own.keys.iter().position(|k| *k == key)?;
        own.gate_of.get(position).copied()
    }

    /// The gate of packets that a framed route led here.
    pub fn framed_gate(&self) -> u8 {
        self.own().framed_gate()
    }

    /// Gives the rows of its block another order: one store.
    #[inline(always)]
    pub fn set_order(&self, order: u64) {
        debug_assert!(!self.has_sections);
        self.order
            .store(ptr::without_provenance_mut(order as usize), Ordering::Release);
    }

    /// The present order of its block.
    #[inline(always)]
    pub fn order(&self) -> u64 {
        self.order.load(Ordering::Acquire).addr() as u64
    }

    /// Of sections: the present precedences, if any has changed since the rules were put, and their marks.
    #[inline(always)]
    pub fn outlook(&self) -> Option<(&Precedences, usize)> {
        debug_assert!(self.has_sections);
        let outlook = self.order.load(Ordering::Acquire);
        let marks = outlook.addr() & 0b11;
        // SAFETY: null, or from `Box::into_raw` with marks in its low bits; freed after a grace period.
        unsafe { outlook.map_addr(|a| a & !0b11).as_ref() }.map(|precedences| (precedences, marks))
    }

    /// Turns readers to other marks of the same precedences.
    pub fn turn(&self, marks: usize) {
        let outlook = self.order.load(Ordering::Relaxed);
        self.order
            .store(outlook.map_addr(|a| a & !0b11 | marks), Ordering::Release);
    }

    /// Turns readers to these precedences; gives the former ones, which readers may still look at.
    pub fn turn_to(&self, precedences: Box<Precedences>, marks: usize) -> Option<Superseded> {
        let outlook = Box::into_raw(precedences).map_addr(|a| a | marks);
        Superseded::of(self.order.swap(outlook, Ordering::AcqRel))
    }

    /// What has to be freed with it.
    pub fn superseded(&self) -> Option<Superseded> {
        if self.has_sections {
            Superseded::of(self.order.load(Ordering::Relaxed))
        } else {
            None
        }
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
