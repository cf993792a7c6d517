//! A packet buffer as the pipeline sees it: contiguous bytes with room in front. DPDK's mbufs are one kind
//! (`dpdk::mbuf`), plain memory ([`HeapPacket`]) is the other, for tests and fuzzing.

/// Most packets of one burst.
pub const BURST: usize = 64;

/// One packet in one contiguous segment.
pub trait Packet: Sized {
    /// The packet's bytes, starting with the Ethernet header on receive.
    fn bytes(&self) -> &[u8];
    /// The same, mutable.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Take `n` bytes off the front. Panics if there are fewer: the caller has parsed them.
    fn advance(&mut self, n: usize);
    /// Grow by `n` bytes in front and give them (their content is unspecified); `None` if the headroom is too small.
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]>;
    /// Take `off` bytes off the front, leave `len` of the others, and grow by `on` in front, whose content is unspecified:
    /// all bytes there are then. `None`, and nothing done, if the headroom is too small. Panics if there are fewer: the
    /// caller has parsed them.
    fn reframe(&mut self, off: usize, len: usize, on: usize) -> Option<&mut [u8]>;
    /// Cut to `len` bytes; no effect if shorter already.
    fn truncate(&mut self, len: usize);
    /// Grow by `n` bytes behind and give them (their content is unspecified); `None` if the tailroom is too small.
    fn append(&mut self, n: usize) -> Option<&mut [u8]>;
    /// Ask the device to finish the UDP checksum on transmit. The packet starts with its IPv6 header of `l3` bytes,
    /// `l2` more will be put in front, and the checksum field holds the pseudo-header's sum. False: it cannot.
    fn request_udp_checksum(&mut self, _l2: usize, _l3: usize) -> bool {
        false
    }
    /// The device checked the outermost IPv4 header's checksum on receive and found it right.
    fn ipv4_checksum_verified(&self) -> bool {
        false
    }
    /// What the device found out about checksums, and was asked to do about them, concerned headers that are off now.
    fn forget_checksums(&mut self) {}
    /// Bring the first cache line of the bytes closer. No effect where there is nothing to gain.
    fn prefetch(&self) {}
}

/// Where new packets come from.
pub trait Allocator<P> {
    /// An empty packet with at least 128 bytes of headroom; `None` when the pool is empty (counted by the caller).
    fn allocate(&mut self) -> Option<P>;
}

/// A packet in plain memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeapPacket {
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl HeapPacket {
    const HEADROOM: usize = 128;
    const TAILROOM: usize = 2_048;

    /// A packet with these bytes, 128 bytes of headroom and 2,048 of tailroom.
    pub fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; Self::HEADROOM + bytes.len() + Self::TAILROOM];
        room[Self::HEADROOM..Self::HEADROOM + bytes.len()].copy_from_slice(bytes);
        Self {
            room,
            start: Self::HEADROOM,
            end: Self::HEADROOM + bytes.len(),
        }
    }
}

impl Packet for HeapPacket {
    fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.end]
    }
    fn advance(&mut self, n: usize) {
        assert!(n <= self.end - self.start, "advance beyond the end of the packet");
        self.start += n;
    }
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        Some(&mut self.room[self.start..self.start + n])
    }
    fn reframe(&mut self, off: usize, len: usize, on: usize) -> Option<&mut [u8]> {
        assert!(
            off + len <= self.end - self.start,
            "reframe beyond the end of the packet"
        );
        let start = self.start + off;
        self.start = start.checked_sub(on)?;
        self.end = start + len;
        Some(&mut self.room[self.start..self.end])
    }
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let end = self.end + n;
        (end <= self.room.len()).then(|| {
            let tail = self.end..end;
            self.end = end;
            &mut self.room[tail]
        })
    }
}
