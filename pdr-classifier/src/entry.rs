//! Entries: a session as packets find it.
//!
//! An entry is two blocks of cache lines in the [arena](crate::arena):
//!
//! ```text
//!   front:  header (1 line) │ own block of rows (0 or more lines, if no set is shared)
//!   back:   what few packets need: Cold, keys, gates, …
//! ```
//! The header has all that most packets need: how a packet must have arrived (the *gates*), the UE's address, which row
//! wins (the [order](crate::order)), and the rows, or where they are. A session of up to three rows that ask for something,
//! and one more that does not, is a [`Tight`] entry: its rows are in the header, whether it shares them or not, and a packet
//! needs that one line. Others are [`Wide`]; a private set of four rows is the line after the header. Of [`Many`] rows, the
//! header says where the sections are.
//!
//! An entry never changes after it is published but for two things: whether something has taken its place (and what),
//! and the order.

mod body;
mod detect;

use crate::arena::{Arena, LINE, Line, back_of, prefetch_back_of};
use crate::block::Form;
use crate::compile::{Gate, OwnUe, UeAddresses};
use crate::memory::prefetch;
use crate::precedence::Precedences;
use crate::ruleset::RuleSet;
use crate::shape::{self, Personal};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::{PdrMatch, SessionKey};
pub(crate) use detect::Door;

use body::{Body, Many, Marks, OPEN_LANE, Tight, USER_BITS, Way, Wide};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use upf_model::{IpPrefix, NetworkInstanceId, Precedence, SessionId};

const _: () = assert!(usize::BITS == 64, "pointers have room for marks");

/// The first line of a session's entry.
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// The payload, with [`Marks`] in the bits that a pointer does not use.
    payload: *const (),
    /// Zero while it is in force; then [`Cold`] says what has taken its place.
    state: AtomicU32,
    /// Of a tight entry, its rows' [order](crate::order).
    answers: AtomicU32,
    body: Body,
    /// How packets of the first two gates have arrived; of a tight entry, the rows that they accept above
    /// [`ARRIVAL_BITS`].
    arrivals: [u32; INLINE_GATES],
    /// Stands for all that is written before the entry is published, and for its end: loom tells if a reader looks at it
    /// before the one or after the other.
    #[cfg(loom)]
    pub witness: loom::cell::UnsafeCell<()>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == LINE);

/// The bits of [`Gate::arrival`].
const ARRIVAL_BITS: u32 = 0xff_ffff;

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
    /// What has taken the entry's place: itself, if the session was removed. Null while it is in force.
    successor: AtomicPtr<Entry>,
    id: SessionId,
    /// Lines of the back.
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
        let (block, shapes, set) = match &self.source {
            Source::Set(set) => (set.block(), &[][..], Some(set)),
            Source::Own(block, shapes) => (*block, *shapes, None),
        };
        let has_sections = set.is_some_and(|set| set.has_sections());
        let tight = (!has_sections)
            .then(|| Tight::of(self.form, block, self.gates, self.own_ue))
            .flatten();
        let own_block = if tight.is_some() || set.is_some() {
            &[][..]
        } else {
            block
        };
        let bytes = size_of::<Cold>()
            + size_of_val(self.keys)
            + size_of_val(self.gates)
            + self.gate_of.len()
            + self.personal.len()
            + shapes.len();
        let lines = bytes.div_ceil(LINE);
        let (place, back) = arena.take(HEADER + own_block.len(), lines);
        let gate = |i: usize| self.gates.get(i).copied().unwrap_or(Gate::SHUT);
        let (OwnUe { addresses, families }, tail) = (self.own_ue, own_block.len());
        let marks = Marks::new(tight.map(|(_, lanes)| lanes), has_sections, families, tail);
        let (body, arrivals) = match (tight, set) {
            (Some((tight, lanes)), _) => {
                let of_gate = |Gate { arrival, accept }: Gate| {
                    arrival | u32::from(lanes.gather(accept)) << ARRIVAL_BITS.count_ones()
                };
                (Body { tight }, [0, 1].map(|i| of_gate(gate(i))))
            }
            (None, Some(set)) if has_sections => {
                let way = |gate: &Gate| set.section(gate.accept).map_or(Way::None, Way::to);
                let ways = [0, 1].map(|i| self.gates.get(i).map_or(Way::None, way).packed());
                let many = ManuallyDrop::new(Many {
                    ways: ways.map(|(way, _)| way),
                    outlook: AtomicPtr::default(),
                    ue: addresses,
                    rest: ways.map(|(_, rest)| rest),
                });
                (Body { many }, [0, 1].map(|i| gate(i).arrival))
            }
            (None, set) => {
                let wide = ManuallyDrop::new(Wide {
                    rows: match set {
                        Some(set) => set.block().as_ptr(),
                        // SAFETY: the block's place is after the header; without a block nobody looks there.
                        None => unsafe { place.add(HEADER) }.as_ptr(),
                    },
                    order: AtomicU64::new(self.order),
                    form: self.form,
                    accepts: [0, 1].map(|i| gate(i).accept),
                    ue: addresses,
                });
                (Body { wide }, [0, 1].map(|i| gate(i).arrival))
            }
        };
        let payload = self.payload.as_ptr().cast_const();
        assert!(payload.addr() >> USER_BITS == 0, "user space lies below 2^48");
        let entry = Entry {
            payload: payload.map_addr(|address| address | usize::from(marks.0) << USER_BITS),
            state: AtomicU32::new(0),
            answers: AtomicU32::new(tight.map_or(0, |(_, lanes)| lanes.answers(self.order))),
            body,
            arrivals,
            #[cfg(loom)]
            witness: loom::cell::UnsafeCell::new(()),
        };
        let cold = Cold {
            successor: AtomicPtr::default(),
            id: self.id,
            lines: lines as u32,
            personal: self.personal.len() as u32,
            shapes: shapes.len() as u32,
            set: set.map_or(ptr::null(), |set| Arc::into_raw(Arc::clone(set))),
            keys: self.keys.len() as u8,
            gates: self.gates.len() as u8,
            framed_gate: self.framed_gate,
        };
        // SAFETY: both blocks have room for all of it: `lines` was made of the same lengths. Each part is aligned as it
        // has to be: `Cold` to a line, keys and gates after multiples of eight bytes, bytes anywhere.
        unsafe {
            place.cast::<Entry>().write(entry);
            place
                .add(HEADER)
                .copy_from_nonoverlapping(NonNull::from(own_block).cast(), own_block.len());
            let at = back.cast::<Cold>();
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
    /// Lines of the entry's back.
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
        // SAFETY: it is that one.
        unsafe { self.own_at(self.back()) }
    }

    /// The same for who knows where its [back](Self::back) is, and need not wait for the line that says so.
    ///
    /// # Safety
    /// It is this entry's.
    pub unsafe fn own_at(&self, back: NonNull<Line>) -> Own<'_> {
        // SAFETY: as `Parts::build` has written it, and nobody changes it. The back is one block, reached by a pointer to
        // all of it.
        unsafe {
            let at = back.cast::<Cold>().as_ptr().cast_const();
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

    #[inline(always)]
    fn marks(&self) -> Marks {
        Marks((self.payload.addr() >> USER_BITS) as u16)
    }

    /// Its rows, if they are in the header.
    #[inline(always)]
    fn tight(&self) -> Option<&Tight> {
        if self.marks().is_tight() {
            // SAFETY: the marks say so.
            Some(unsafe { &self.body.tight })
        } else {
            None
        }
    }

    /// Where its rows are, if they are a block elsewhere.
    #[inline(always)]
    fn wide(&self) -> Option<&Wide> {
        // SAFETY: the marks say so.
        self.marks().is_wide().then(|| unsafe { &*self.body.wide })
    }

    /// Where its sections are, if it has any.
    #[inline(always)]
    fn many(&self) -> Option<&Many> {
        // SAFETY: the marks say so.
        self.marks().has_sections().then(|| unsafe { &*self.body.many })
    }

    #[inline(always)]
    pub fn payload(&self) -> *const () {
        self.payload.map_addr(|address| address & ((1 << USER_BITS) - 1))
    }
    /// Of its [block](Self::block).
    pub fn form(&self) -> Form {
        self.wide().map_or(Form::USUAL, |wide| wide.form)
    }
    #[inline(always)]
    pub fn own_ue(&self) -> OwnUe {
        let addresses = match (self.tight(), self.wide()) {
            (Some(tight), _) => UeAddresses {
                v4: tight.v4,
                ..UeAddresses::default()
            },
            (None, Some(wide)) => wide.ue,
            // SAFETY: it is that one if it is none of the others.
            (None, None) => unsafe { &*self.body.many }.ue,
        };
        OwnUe {
            addresses,
            families: self.marks().families(),
        }
    }
    /// Lines that follow the header and that most packets need.
    pub fn tail(&self) -> u8 {
        self.marks().tail()
    }
    /// Does something with the lines of its block, which is in the header, its own or a shared one.
    pub fn with_block<R>(&self, look: impl FnOnce(&[Line]) -> R) -> R {
        match (self.tight(), self.wide()) {
            (Some(tight), _) => look(&[tight.block(self.marks().lanes())]),
            // SAFETY: `rows` is a block of that form, which is as long as it says.
            (None, Some(wide)) => look(unsafe { std::slice::from_raw_parts(wide.rows, wide.form.lines()) }),
            (None, None) => look(&[]),
        }
    }
    /// The set with the sections. Cost: a line that packets do not need.
    pub fn sections(&self) -> Option<&RuleSet> {
        // SAFETY: null, or a set that the entry holds.
        self.many().and_then(|_| unsafe { self.own().set().as_ref() })
    }

    /// Lines of its front.
    pub fn front_lines(&self) -> usize {
        HEADER + usize::from(self.tail())
    }

    /// Where its back is, for who will want to [ask for it](Self::prefetch) without having looked at the entry.
    pub fn back(&self) -> NonNull<Line> {
        // SAFETY: `self` is the first line of a front, and backs are not null.
        unsafe { NonNull::new_unchecked(back_of(ptr::from_ref(self).cast()).cast_mut()) }
    }

    /// Asks for the lines of an entry that a change will read, and write when it uses them again. Its back has `lines`.
    pub fn prefetch(entry: NonNull<Self>, (back, lines): (NonNull<Line>, usize)) {
        const MOST: usize = 6;
        prefetch(entry.as_ptr());
        (0..lines.min(MOST)).for_each(|line| prefetch(back.as_ptr().wrapping_add(line)));
        prefetch_back_of(entry.as_ptr().cast());
    }

    /// Whether nothing has taken its place.
    #[inline(always)]
    pub fn is_in_force(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    /// What is in force in its place; `None` if the session was removed. Good for as long as the caller's hold on
    /// `self` is: an entry and those that took its place are freed in that order.
    pub fn last(&self) -> Option<&Self> {
        let mut entry = self;
        loop {
            if entry.is_in_force() {
                return Some(entry);
            }
            let successor = entry.own().cold.successor.load(Ordering::Acquire);
            if ptr::eq(successor, entry) {
                return None;
            }
            // SAFETY: it took the place of an entry that the caller may look at, hence was retired no earlier than
            // that one, if at all: the caller may look at it too. It was written before the state was.
            entry = unsafe { &*successor };
        }
    }

    /// Puts `successor` in its place, for all its keys at once: when the state says so. `own` is this entry's.
    pub fn replace_by(&self, own: Own<'_>, successor: *mut Self) {
        own.cold.successor.store(successor, Ordering::Release);
        self.state.store(1, Ordering::Release);
    }

    /// Ends it.
    pub fn remove(&self) {
        self.replace_by(self.own(), ptr::from_ref(self).cast_mut());
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
        match (self.tight(), self.wide()) {
            (Some(_), _) => {
                let answers = self.marks().lanes().answers(order);
                self.answers.store(answers, Ordering::Release);
            }
            (None, Some(wide)) => wide.order.store(order, Ordering::Release),
            (None, None) => {}
        }
    }

    /// The present order of its block, if it is wide.
    #[inline(always)]
    fn order(&self) -> u64 {
        self.wide().map_or(0, |wide| wide.order.load(Ordering::Acquire))
    }

    /// Of sections: the present precedences, if any has changed since the rules were put, and their marks.
    #[inline(always)]
    pub fn outlook(&self) -> Option<(&Precedences, usize)> {
        let outlook = self.many()?.outlook.load(Ordering::Acquire);
        let marks = outlook.addr() & 0b11;
        // SAFETY: null, or from `Box::into_raw` with marks in its low bits; freed after a grace period.
        unsafe { outlook.map_addr(|a| a & !0b11).as_ref() }.map(|precedences| (precedences, marks))
    }

    /// Turns readers to other marks of the same precedences.
    pub fn turn(&self, marks: usize) {
        if let Some(Many { outlook: place, .. }) = self.many() {
            let outlook = place.load(Ordering::Relaxed);
            place.store(outlook.map_addr(|a| a & !0b11 | marks), Ordering::Release);
        }
    }

    /// Turns readers to these precedences; gives the former ones, which readers may still look at.
    pub fn turn_to(&self, precedences: Box<Precedences>, marks: usize) -> Option<Superseded> {
        let many = self.many()?;
        let outlook = Box::into_raw(precedences).map_addr(|a| a | marks);
        Superseded::of(many.outlook.swap(outlook, Ordering::AcqRel))
    }

    /// What has to be freed with it.
    pub fn superseded(&self) -> Option<Superseded> {
        Superseded::of(self.many()?.outlook.load(Ordering::Relaxed))
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
