//! Packet buffers: bytes with room before them, so that headers can grow in place; and a pool of used ones.

use std::ops::{Deref, DerefMut};

/// Bytes kept free before a received packet: tunnels are added there.
pub(crate) const HEADROOM: usize = 384;

/// A packet. It passes from hand to hand, hence the box: what is moved is a pointer.
#[derive(Debug, Default)]
pub(crate) struct Packet(Box<Body>);

/// What a packet consists of.
#[derive(Debug, Default)]
pub(crate) struct Body {
    data: Vec<u8>,
    begin: usize,
    /// Where the payload begins: what the parser has not consumed.
    pub(crate) cursor: usize,
    pub(crate) ingress_port: u32,
    /// Length on arrival: what meters and counters count.
    pub(crate) ingress_length: u32,
    /// BMv2's packet length register: changes as headers are added and removed.
    pub(crate) length: i64,
    /// Longest that it may leave.
    pub(crate) truncated: usize,
    pub(crate) enqueued_ns: u64,
}

impl Packet {
    /// A packet of these bytes.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut packet = Packet::default();
        packet.fill(bytes);
        packet
    }

    /// A copy in a buffer from `pool`.
    pub(crate) fn copy(&self, pool: &mut Pool) -> Packet {
        let mut packet = pool.get();
        let mut data = std::mem::take(&mut packet.data);
        data.clear();
        data.extend_from_slice(&self.data);
        *packet.0 = Body { data, ..**self };
        packet
    }
}

impl Deref for Packet {
    type Target = Body;

    #[inline(always)]
    fn deref(&self) -> &Body {
        &self.0
    }
}

impl DerefMut for Packet {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.0
    }
}

impl Body {
    /// Takes these bytes in.
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        self.data.resize(HEADROOM + bytes.len(), 0);
        self.data[HEADROOM..].copy_from_slice(bytes);
        self.begin = HEADROOM;
        self.cursor = HEADROOM;
        self.truncated = usize::MAX;
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.begin..]
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.begin
    }

    /// What the parser has not consumed.
    #[inline(always)]
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.data[self.cursor..]
    }

    /// Eight bytes, big endian, that begin so many bytes before the cursor; none if the packet ends before they do.
    #[inline(always)]
    pub(crate) fn word_before_cursor(&self, bytes: usize) -> Option<u64> {
        let at = self.cursor.checked_sub(bytes)?;
        self.data.get(at..)?.first_chunk().map(|word| u64::from_be_bytes(*word))
    }

    /// Forgets what the parser consumed.
    pub(crate) fn rewind(&mut self) {
        self.cursor = self.begin;
    }

    /// Drops what the parser consumed.
    pub(crate) fn drop_headers(&mut self) {
        self.begin = self.cursor;
    }

    /// What is free before all that is there.
    pub(crate) fn headroom(&mut self) -> &mut [u8] {
        &mut self.data[..self.begin]
    }

    /// Room for a header before all that is there.
    #[inline]
    pub(crate) fn prepend(&mut self, bytes: usize) -> &mut [u8] {
        if bytes > self.begin {
            self.grow(bytes + HEADROOM);
        }
        self.begin -= bytes;
        &mut self.data[self.begin..][..bytes]
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        self.data.splice(0..0, std::iter::repeat_n(0, more));
        self.begin += more;
        self.cursor += more;
    }

    /// Cuts it to at most so many bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        let len = len.min(self.len());
        self.data.truncate(self.begin + len);
    }
}

/// Used buffers.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    packets: Vec<Packet>,
    states: Vec<Vec<u8>>,
}

/// Most buffers that are kept.
const POOL: usize = 1024;

impl Pool {
    pub(crate) fn get(&mut self) -> Packet {
        self.packets.pop().unwrap_or_default()
    }

    pub(crate) fn put(&mut self, packet: Packet) {
        if self.packets.len() < POOL {
            self.packets.push(packet);
        }
    }

    /// A copy of a packet state.
    pub(crate) fn save(&mut self, phv: &[u8]) -> Vec<u8> {
        let mut state = self.states.pop().unwrap_or_default();
        state.clear();
        state.extend_from_slice(phv);
        state
    }

    pub(crate) fn put_state(&mut self, state: Vec<u8>) {
        if self.states.len() < POOL {
            self.states.push(state);
        }
    }
}
