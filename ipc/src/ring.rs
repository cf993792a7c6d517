//! One ring: a single producer and a single consumer, byte records, positions that only grow.
//!
//! A record is a header of 16 bytes and a payload, together padded to 16. The producer writes it behind `tail` and
//! then moves `tail` (Release); the consumer reads it and then moves `head`. A producer that dies while writing has
//! not moved `tail`: nothing of the record exists. Each side keeps its own cursor privately and only publishes it,
//! so that damage to the shared copy cannot lead it astray; the other side's cursor is checked at every use.

use crate::mapping::{Mapping, RING_BYTES, RingState};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

const RECORD_HEADER: usize = 16;
const ALIGN: usize = 16;
const CHECK: u32 = 0x5550_4652;

/// Bytes of the largest message that fits.
pub const MAX_MESSAGE: usize = RING_BYTES - RECORD_HEADER;

/// Who wrote a record and for whom: the incarnations of both ends. A record that an earlier incarnation wrote, or
/// that was meant for one, is not delivered to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Four words before each payload. Atomics, since damage and death may leave anything here.
#[repr(C, align(16))]
struct RecordHeader {
    bytes: AtomicU32,
    from: AtomicU32,
    to: AtomicU32,
    /// Exclusive or of the others and a constant: tells a record's start from anything else.
    check: AtomicU32,
}

const fn padded(payload: usize) -> usize {
    RECORD_HEADER + payload.next_multiple_of(ALIGN)
}

/// Where position `at` of ring `index` lies.
fn place(mapping: &Mapping, index: usize, at: u64) -> NonNull<u8> {
    // SAFETY: the offset is below RING_BYTES, and twice that is mapped.
    unsafe { mapping.ring(index).add(at as usize % RING_BYTES) }
}

/// The writing side of a ring.
#[derive(Debug)]
pub(crate) struct Producer {
    mapping: Arc<Mapping>,
    index: usize,
    tail: u64,
}

/// The writer left no room: the ring is too full, or the payload too large for any ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    /// Bytes in the ring.
    pub(crate) waiting: usize,
}

impl Producer {
    /// Takes the ring over, going on where the last producer stopped. The caller holds that end's lock.
    pub(crate) fn attach(mapping: Arc<Mapping>, index: usize) -> Self {
        let state = &mapping.header().rings[index];
        let head = state.head.0.load(Ordering::Acquire);
        let tail = state.tail.0.load(Ordering::Acquire);
        let sound = tail.wrapping_sub(head) <= RING_BYTES as u64 && tail.is_multiple_of(ALIGN as u64);
        let tail = if sound {
            tail
        } else {
            head.next_multiple_of(ALIGN as u64)
        };
        state.tail.0.store(tail, Ordering::Release);
        state.starved.store(0, Ordering::Relaxed);
        Self { mapping, index, tail }
    }

    fn state(&self) -> &RingState {
        &self.mapping.header().rings[self.index]
    }

    /// Bytes not yet read by the consumer; all of them if its cursor makes no sense.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = self.tail.wrapping_sub(self.state().head.0.load(Ordering::Acquire));
        usize::try_from(waiting).unwrap_or(RING_BYTES).min(RING_BYTES)
    }

    /// Lets `write` fill the free space and publishes what it wrote (it returns the length; `None`: it did not fit).
    pub(crate) fn push(
        &mut self,
        address: Address,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), NoRoom> {
        let waiting = self.waiting();
        let no_room = NoRoom { waiting };
        let room = (RING_BYTES - waiting).checked_sub(RECORD_HEADER).ok_or(no_room)?;
        let start = place(&self.mapping, self.index, self.tail);
        // SAFETY: `room` bytes behind the record header are free: the consumer does not touch anything at or behind
        // `tail`, this is the only producer (it holds the end's lock), and the mirror makes the range contiguous.
        let payload = unsafe { std::slice::from_raw_parts_mut(start.add(RECORD_HEADER).as_ptr(), room) };
        let bytes = write(payload).filter(|&n| n <= room).ok_or(no_room)?;
        // SAFETY: 16-aligned (positions are multiples of 16, the ring starts on a page), mapped, atomics only.
        let header = unsafe { start.cast::<RecordHeader>().as_ref() };
        let length = bytes as u32;
        header.bytes.store(length, Ordering::Relaxed);
        header.from.store(address.from, Ordering::Relaxed);
        header.to.store(address.to, Ordering::Relaxed);
        header
            .check
            .store(length ^ address.from ^ address.to ^ CHECK, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(padded(bytes) as u64);
        self.state().tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Asks the consumer to ring once half of the ring is free. True if it already is: then it will not ring.
    pub(crate) fn starve(&self) -> bool {
        self.state().starved.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.half_free()
    }

    pub(crate) fn half_free(&self) -> bool {
        self.waiting() <= RING_BYTES / 2
    }
}

/// The reading side of a ring.
#[derive(Debug)]
pub(crate) struct Consumer {
    mapping: Arc<Mapping>,
    index: usize,
    head: u64,
}

/// Record boundaries were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Bytes skipped.
    pub(crate) lost: usize,
}

/// Moves the cursor past a record even if the reader panics.
struct Advance<'a> {
    consumer: &'a mut Consumer,
    to: u64,
}

impl Drop for Advance<'_> {
    fn drop(&mut self) {
        self.consumer.head = self.to;
        self.consumer.publish();
    }
}

impl Consumer {
    /// Takes the ring over and forgets what is in it: it was meant for an earlier incarnation.
    pub(crate) fn attach(mapping: Arc<Mapping>, index: usize) -> Self {
        let head = mapping.header().rings[index].tail.0.load(Ordering::Acquire);
        let consumer = Self { mapping, index, head };
        consumer.publish();
        consumer
    }

    fn state(&self) -> &RingState {
        &self.mapping.header().rings[self.index]
    }

    fn publish(&self) {
        self.state().head.0.store(self.head, Ordering::Release);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().tail.0.load(Ordering::Acquire) == self.head
    }

    /// Whether a starved producer now has its half free; true once for each time it asked.
    pub(crate) fn feeds_the_starved(&self) -> bool {
        fence(Ordering::SeqCst);
        self.state().starved.load(Ordering::Relaxed) != 0
            && self.state().tail.0.load(Ordering::Relaxed).wrapping_sub(self.head) <= RING_BYTES as u64 / 2
            && self.state().starved.swap(0, Ordering::SeqCst) != 0
    }

    /// Hands the next record's payload to `read`, in place, and says who wrote it. Records with another address are
    /// skipped.
    ///
    /// The bytes are those of the ring itself: only a peer that breaks the discipline of this module (or another
    /// program that writes to the file) can change them during `read`.
    /// `address` is asked only after a record was seen, so that it knows of the incarnation that wrote it.
    pub(crate) fn pop<R>(
        &mut self,
        address: impl Fn() -> Address,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<(R, u32)>, Damaged> {
        loop {
            let tail = self.state().tail.0.load(Ordering::Acquire);
            let available = tail.wrapping_sub(self.head);
            if available == 0 {
                return Ok(None);
            }
            let sound = available <= RING_BYTES as u64 && (self.head | tail).is_multiple_of(ALIGN as u64);
            let start = place(&self.mapping, self.index, self.head);
            let Some((bytes, found)) = sound
                .then(|| Self::header_at(start))
                .flatten()
                .filter(|&(bytes, _)| u64::try_from(padded(bytes)).is_ok_and(|n| n <= available))
            else {
                self.head = tail;
                self.publish();
                return Err(Damaged {
                    lost: usize::try_from(available).unwrap_or(RING_BYTES).min(RING_BYTES),
                });
            };
            let advance = Advance {
                to: self.head.wrapping_add(padded(bytes) as u64),
                consumer: self,
            };
            if found != address() {
                continue;
            }
            // SAFETY: the record lies between `head` and `tail`: the producer has finished writing it and does not
            // touch it until `head` moves, which happens when `advance` drops, after `read` has returned.
            let payload = unsafe { std::slice::from_raw_parts(start.add(RECORD_HEADER).as_ptr(), bytes) };
            let result = read(payload);
            drop(advance);
            return Ok(Some((result, found.from)));
        }
    }

    /// Length and address of the record there, if it is one. `start` is 16-aligned and inside a ring.
    fn header_at(start: NonNull<u8>) -> Option<(usize, Address)> {
        // SAFETY: mapped and 16-aligned (checked by the caller); atomics only.
        let header = unsafe { start.cast::<RecordHeader>().as_ref() };
        let bytes = header.bytes.load(Ordering::Relaxed);
        let address = Address {
            from: header.from.load(Ordering::Relaxed),
            to: header.to.load(Ordering::Relaxed),
        };
        let check = header.check.load(Ordering::Relaxed);
        (check == bytes ^ address.from ^ address.to ^ CHECK && bytes as usize <= MAX_MESSAGE)
            .then_some((bytes as usize, address))
    }
}
