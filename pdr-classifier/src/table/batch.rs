//! Batches: packets walked side by side through buckets, entries and rows, each step some packets ahead of the next one.
//!
//! A step asks for the lines of the next one. The steps take turns, a few packets each, and not one of them the whole
//! batch: so the lines that are on their way are never more than the processor can wait for at a time, and it compares
//! rows while they come.

use super::{Detection, Found, Guard};
use crate::arena::Line;
use crate::entry::{Door, Entry};
use crate::index::{Home, Link, PackedKey};
use crate::memory::prefetch;
use crate::sieve::{Left, Plan};
use crate::vector::{Task, Vectors};
use crate::{PacketFields, SessionKey};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Packets that are walked side by side, at most.
pub(super) const BATCH: usize = 32;
/// Packets that a step takes at a time.
const STRIDE: usize = 16;

/// What is done with packets when their session is known.
trait Visit<'g, T> {
    /// These packets came by one key, and belong to that session.
    fn visit<V: Vectors>(&mut self, packets: Range<usize>, session: Option<Found<'g, T>>);

    /// Takes packets a step further that were put off at a visit, for want of lines. Whether some are not done yet.
    fn go_on<V: Vectors>(&mut self) -> bool;
}

/// Packets that follow each other and came by the same key: they need one search.
#[derive(Clone, Copy)]
struct Run<'g> {
    /// The first of them; the last one is before the start of the next run.
    start: u32,
    key: PackedKey,
    home: Home<'g, Entry>,
}

/// Walks up to [`BATCH`] keys. (Arrays are filled where they stand and read element by element: a wide load right behind
/// narrow stores would wait for them.)
#[inline(always)]
fn walk<'g, V: Vectors, T: 'g>(guard: &'g Guard<'g, T>, keys: &[SessionKey], visitor: &mut impl Visit<'g, T>) {
    let keys = &keys[..keys.len().min(BATCH)];
    let search = guard.generation().search();
    let mut runs = [const { MaybeUninit::<Run<'g>>::uninit() }; BATCH];
    let mut links: [Option<Link<Entry>>; BATCH] = [None; BATCH];
    let mut last = PackedKey::NONE;
    // Keys that were looked at, runs that they make, runs whose search is done, runs that were visited.
    let (mut read, mut begun, mut searched, mut visited) = (0, 0, 0, 0);
    loop {
        let (to_search, to_visit) = (begun, searched);
        let stride = keys.len().min(read + STRIDE);
        for (key, start) in keys[read..stride].iter().zip(read as u32..) {
            let key = PackedKey::from(*key);
            if key != last {
                last = key;
                let home = search.home(key);
                runs[begun].write(Run { start, key, home });
                begun += 1;
            }
        }
        read = stride;
        // SAFETY: so many runs were written.
        let written: &[Run<'g>] = unsafe { std::slice::from_raw_parts(runs.as_ptr().cast(), begun) };

        for (run, link) in written[searched..to_search].iter().zip(&mut links[searched..to_search]) {
            *link = search.find::<V>(run.key, run.home);
            if let Some(link) = link {
                ask_for(*link);
            }
        }
        searched = to_search;

        visitor.go_on::<V>();
        while visited < to_visit {
            let start = written[visited].start as usize;
            let end = match written.get(visited + 1) {
                Some(next) => next.start as usize,
                None if read == keys.len() => read,
                // It may go on.
                None => break,
            };
            let session = guard.resolve_or_around(keys[start], links[visited]);
            visitor.visit::<V>(start..end, session);
            visited += 1;
        }
        if visited == begun && read == keys.len() {
            break;
        }
    }
    while visitor.go_on::<V>() {}
}

/// Asks for the lines of an entry.
#[inline(always)]
fn ask_for(link: Link<Entry>) {
    let entry = link.entry().cast::<Line>();
    let tail = link.hint().tail();
    prefetch(entry);
    if tail > 0 {
        (1..=usize::from(tail) + usize::from(tail > 1)).for_each(|line| prefetch(entry.wrapping_add(line)));
    }
}

/// [`Guard::sessions`] of up to [`BATCH`] keys.
pub(super) struct FindAll<'a, 'g, T> {
    pub guard: &'g Guard<'g, T>,
    pub keys: &'a [SessionKey],
    pub found: &'a mut [Option<Found<'g, T>>],
}

impl<T> Task for FindAll<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(mut self) {
        let keys = &self.keys[..self.keys.len().min(self.found.len())];
        walk::<V, T>(self.guard, keys, &mut self);
    }
}

impl<'g, T> Visit<'g, T> for FindAll<'_, 'g, T> {
    #[inline(always)]
    fn visit<V: Vectors>(&mut self, packets: Range<usize>, session: Option<Found<'g, T>>) {
        if let Some(session) = session {
            prefetch(session.entry.first_line());
        }
        self.found[packets].fill(session);
    }

    #[inline(always)]
    fn go_on<V: Vectors>(&mut self) -> bool {
        false
    }
}

/// [`Guard::detect`] of up to [`BATCH`] packets.
pub(super) struct DetectAll<'a, 'g, T, F> {
    pub guard: &'g Guard<'g, T>,
    pub keys: &'a [SessionKey],
    pub packet: F,
    pub detections: &'a mut [Detection<'g, T>],
}

impl<'p, T, F: Fn(usize) -> &'p PacketFields> Task for DetectAll<'_, '_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Self {
            guard,
            keys,
            packet,
            detections,
        } = self;
        let keys = &keys[..keys.len().min(detections.len())];
        let mut late = [const { MaybeUninit::uninit() }; BATCH];
        let mut detecting = Detecting {
            packet,
            detections,
            late: &mut late,
            sieved: 0,
            put_off: 0,
            done: 0,
        };
        walk::<V, T>(guard, keys, &mut detecting);
    }
}

/// A packet among so many rows that their lines are asked for before it is compared with them.
#[derive(Clone, Copy)]
struct Late<'g> {
    packet: u32,
    entry: &'g Entry,
    plan: Plan<'g>,
    left: Left,
}

/// Packets of one session that follow each other, from which on their first one waits for the lines of all: they will be
/// nobody else's.
const MANY: usize = 4;

/// [`DetectAll`] on its way.
struct Detecting<'a, 'g, T, F> {
    packet: F,
    detections: &'a mut [Detection<'g, T>],
    /// Packets that are done, those of which is known what rows are left, and those that were put off.
    late: &'a mut [MaybeUninit<Late<'g>>; BATCH],
    done: usize,
    sieved: usize,
    put_off: usize,
}

impl<'g, T, F> Detecting<'_, 'g, T, F> {
    /// Puts a packet off until the columns of its rows are there.
    #[inline(always)]
    fn put_off(&mut self, packet: usize, entry: &'g Entry, plan: Plan<'g>) {
        plan.ask_for_columns();
        let late = Late {
            packet: packet as u32,
            entry,
            plan,
            left: Left::NONE,
        };
        self.late[self.put_off].write(late);
        self.put_off += 1;
    }
}

impl<'g, 'p, T, F: Fn(usize) -> &'p PacketFields> Detecting<'_, 'g, T, F> {
    /// Packets of one session among rows of so many columns, which are the same for all of them.
    #[inline(always)]
    fn visit_all<V: Vectors, const COLUMNS: usize, const SPREAD: bool>(
        &mut self,
        packets: Range<usize>,
        found: Found<'g, T>,
        door: Door<'g>,
        plan: Plan<'g>,
    ) {
        for i in packets {
            let packet = (self.packet)(i);
            let rule = found.entry.detect_planned::<V, COLUMNS, SPREAD>(door, plan, packet);
            self.detections[i] = Detection {
                session: Some(found),
                rule,
            };
        }
    }
}

impl<'g, 'p, T, F: Fn(usize) -> &'p PacketFields> Visit<'g, T> for Detecting<'_, 'g, T, F> {
    // No closures around comparisons: they would be compiled without this function's vectors.
    #[inline(always)]
    fn visit<V: Vectors>(&mut self, packets: Range<usize>, session: Option<Found<'g, T>>) {
        let Self { packet, detections, .. } = self;
        let Some(found) = session else {
            detections[packets].fill(Detection::default());
            return;
        };
        let Found { entry, gate, .. } = found;
        if let Some(rows) = entry.tight_rows::<V>() {
            let door = entry.door_of_tight(gate);
            for i in packets {
                let rule = entry.detect_tight::<V>(door, rows, packet(i));
                detections[i] = Detection { session, rule };
            }
            return;
        }
        if let Some(rows) = entry.usual_rows::<V, 4>() {
            let door = entry.door_of_block(gate);
            for i in packets {
                let rule = entry.detect_usual::<V, 4>(door, rows, packet(i));
                detections[i] = Detection { session, rule };
            }
            return;
        }
        let door = entry.door(gate);
        if let Some(rows) = entry.usual_rows::<V, 8>() {
            for i in packets {
                let rule = entry.detect_usual::<V, 8>(door, rows, packet(i));
                detections[i] = Detection { session, rule };
            }
        } else if let Some(plan) = door.plan() {
            if packets.len() < MANY {
                for i in packets {
                    self.detections[i] = Detection { session, rule: None };
                    if door.lets_through((self.packet)(i)) {
                        self.put_off(i, entry, plan);
                    }
                }
                return;
            }
            match (plan.columns(), plan.is_spread()) {
                (3, true) => self.visit_all::<V, 3, true>(packets, found, door, plan),
                (2, true) => self.visit_all::<V, 2, true>(packets, found, door, plan),
                (1, true) => self.visit_all::<V, 1, true>(packets, found, door, plan),
                (3, false) => self.visit_all::<V, 3, false>(packets, found, door, plan),
                (2, false) => self.visit_all::<V, 2, false>(packets, found, door, plan),
                (1, false) => self.visit_all::<V, 1, false>(packets, found, door, plan),
                _ => self.visit_all::<V, 0, false>(packets, found, door, plan),
            }
        } else {
            for i in packets {
                let rule = entry.detect_by::<V>(door, packet(i), None);
                detections[i] = Detection { session, rule };
            }
        }
    }

    #[inline(always)]
    fn go_on<V: Vectors>(&mut self) -> bool {
        if self.done == self.put_off {
            return false;
        }
        // SAFETY: so many were written.
        let late: &mut [Late<'g>] =
            unsafe { std::slice::from_raw_parts_mut(self.late.as_mut_ptr().cast(), self.put_off) };
        for late in &late[self.done..self.sieved] {
            let at = late.packet as usize;
            self.detections[at].rule = late
                .entry
                .detect_among_left::<V>(late.plan, late.left, (self.packet)(at));
        }
        self.done = self.sieved;
        for late in &mut late[self.sieved..] {
            late.left = late.plan.left::<V>((self.packet)(late.packet as usize));
            late.plan.ask_for_row(late.left);
        }
        self.sieved = self.put_off;
        self.done < self.put_off
    }
}
