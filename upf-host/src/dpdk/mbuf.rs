//! One packet in DPDK's memory, with one owner.

use super::Mempool;
use crate::packet::Packet;
use dpdk_sys::*;
use std::fmt;
use std::ptr::NonNull;

/// A packet: one segment of a [`Mempool`], which it goes back to when dropped.
///
/// The same pointer as C's `struct rte_mbuf *`, so that an array of these is what the burst functions take. Fields are
/// read where the header says they are, one load each. All of them but those of transmit offloads are in the first
/// cache line of the mbuf.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to no thread, and freeing one is allowed from any.
unsafe impl Send for Mbuf {}

/// What the receiving port found out about a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// The port did not look.
    Unknown,
    /// Verified.
    Good,
    /// Verified to be wrong.
    Bad,
    /// Not filled in by the sender, a virtual machine or an interface of this one; the packet is intact all the same.
    NotNeeded,
}

/// Checksums that the sending port shall fill in, of the outermost IP and UDP headers. What is inside is payload to it.
///
/// The packet must have zero in the IPv4 header checksum, and the sum of the pseudo header in the UDP one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TxChecksums {
    /// The IPv4 header's only.
    Ipv4,
    /// The IPv4 header's and that of the UDP header behind it.
    Ipv4Udp,
    /// That of the UDP header behind an IPv6 header, which has none itself.
    Ipv6Udp,
}

impl Mbuf {
    /// # Safety
    /// `raw` is allocated, not referred to from elsewhere, and its pool outlives it.
    pub(super) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Where a field is, at one of the `RTE_MBUF_OFFSET_*`.
    #[inline(always)]
    fn field<T>(&self, offset: u64) -> *mut T {
        // SAFETY: the offset of a field is inside the structure.
        unsafe { self.0.as_ptr().byte_add(offset as usize).cast() }
    }

    #[inline(always)]
    fn get<T: Copy>(&self, offset: u64) -> T {
        // SAFETY: callers pair an offset with its type; an mbuf is initialised when its pool is made.
        unsafe { self.field::<T>(offset).read() }
    }

    #[inline(always)]
    fn set<T: Copy>(&mut self, offset: u64, value: T) {
        // SAFETY: as in `get`, and the mbuf is not shared.
        unsafe { self.field::<T>(offset).write(value) }
    }

    #[inline(always)]
    fn len(&self) -> u16 {
        self.get(RTE_MBUF_OFFSET_DATA_LEN)
    }

    #[inline(always)]
    fn headroom(&self) -> u16 {
        self.get(RTE_MBUF_OFFSET_DATA_OFF)
    }

    /// Lay the packet's bytes somewhere else in the buffer.
    #[inline(always)]
    fn set_extent(&mut self, headroom: u16, len: u16) {
        debug_assert!(u32::from(headroom) + u32::from(len) <= u32::from(self.get::<u16>(RTE_MBUF_OFFSET_BUF_LEN)));
        self.set(RTE_MBUF_OFFSET_DATA_OFF, headroom);
        self.set(RTE_MBUF_OFFSET_DATA_LEN, len);
        self.set(RTE_MBUF_OFFSET_PKT_LEN, u32::from(len));
    }

    #[inline(always)]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.get(RTE_MBUF_OFFSET_BUF_ADDR);
        // SAFETY: the headroom is at most the length of the buffer.
        unsafe { buffer.add(usize::from(self.headroom())) }
    }

    /// The port it was received from; unspecified for a packet made here.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.get(RTE_MBUF_OFFSET_PORT)
    }

    /// The same bytes in a new packet of `pool`; `None` if there is no packet left or it is too small.
    #[must_use]
    pub fn copy(&self, pool: &Mempool) -> Option<Self> {
        let mut copy = pool.allocate()?;
        copy.append(self.bytes().len())?.copy_from_slice(self.bytes());
        copy.set(RTE_MBUF_OFFSET_PORT, self.port());
        Some(copy)
    }

    /// What the receiving port says of the IPv4 header checksum.
    #[must_use]
    pub fn ip_checksum(&self) -> Checksum {
        match self.get::<u64>(RTE_MBUF_OFFSET_OL_FLAGS) & RTE_MBUF_F_RX_IP_CKSUM_MASK {
            RTE_MBUF_F_RX_IP_CKSUM_GOOD => Checksum::Good,
            RTE_MBUF_F_RX_IP_CKSUM_BAD => Checksum::Bad,
            RTE_MBUF_F_RX_IP_CKSUM_NONE => Checksum::NotNeeded,
            _ => Checksum::Unknown,
        }
    }

    /// What the receiving port says of the UDP or TCP checksum.
    #[must_use]
    pub fn l4_checksum(&self) -> Checksum {
        match self.get::<u64>(RTE_MBUF_OFFSET_OL_FLAGS) & RTE_MBUF_F_RX_L4_CKSUM_MASK {
            RTE_MBUF_F_RX_L4_CKSUM_GOOD => Checksum::Good,
            RTE_MBUF_F_RX_L4_CKSUM_BAD => Checksum::Bad,
            RTE_MBUF_F_RX_L4_CKSUM_NONE => Checksum::NotNeeded,
            _ => Checksum::Unknown,
        }
    }

    /// Let the sending port fill in checksums of the headers that start after `l2_len` bytes of Ethernet header; the IP
    /// header with its options or extension headers has `l3_len` bytes. Only for a port that
    /// [can](super::Port::tx_checksums), and as the last step: lengths that change afterwards are not noticed.
    pub fn request_checksums(&mut self, which: TxChecksums, l2_len: u8, l3_len: u16) {
        debug_assert!(u64::from(l2_len) < 1 << RTE_MBUF_L2_LEN_BITS && u64::from(l3_len) < 1 << RTE_MBUF_L3_LEN_BITS);
        let requests = match which {
            TxChecksums::Ipv4 => RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM,
            TxChecksums::Ipv4Udp => RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM,
            TxChecksums::Ipv6Udp => RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM,
        };
        let lengths = u64::from(l2_len) << RTE_MBUF_L2_LEN_OFS | u64::from(l3_len) << RTE_MBUF_L3_LEN_OFS;
        self.set(RTE_MBUF_OFFSET_OL_FLAGS, self.other_flags() | requests);
        self.set(RTE_MBUF_OFFSET_TX_OFFLOAD, lengths);
    }

    /// Take back [`Self::request_checksums`], for a packet that came in with it through a `net_ring`.
    pub fn request_no_checksums(&mut self) {
        self.set(RTE_MBUF_OFFSET_OL_FLAGS, self.other_flags());
    }

    fn other_flags(&self) -> u64 {
        self.get::<u64>(RTE_MBUF_OFFSET_OL_FLAGS) & !RTE_MBUF_F_TX_OFFLOAD_MASK
    }

    /// A packet in several segments, as drivers deliver what does not fit into one.
    pub(super) fn is_chain(&self) -> bool {
        self.get::<u16>(RTE_MBUF_OFFSET_NB_SEGS) != 1
    }

    /// Copy all segments into the first one; false if they do not fit there.
    pub(super) fn linearize(&mut self) -> bool {
        // SAFETY: the chain is complete and ours alone.
        unsafe { rte_pktmbuf_linearize(self.0.as_ptr()) == 0 }
    }
}

impl Packet for Mbuf {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are inside the buffer, whose memory is zeroed when mapped and stays initialised, and
        // nobody writes to it while this packet is borrowed.
        unsafe { std::slice::from_raw_parts(self.data(), usize::from(self.len())) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and this packet is the only one in its buffer.
        unsafe { std::slice::from_raw_parts_mut(self.data(), usize::from(self.len())) }
    }

    fn advance(&mut self, n: usize) {
        let len = usize::from(self.len());
        assert!(n <= len, "advance by {n} in a packet of {len} bytes");
        self.set_extent(self.headroom() + n as u16, (len - n) as u16);
    }

    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let headroom = usize::from(self.headroom()).checked_sub(n)?;
        self.set_extent(headroom as u16, self.len() + n as u16);
        Some(&mut self.bytes_mut()[..n])
    }

    #[inline(always)]
    fn reframe(&mut self, off: usize, len: usize, on: usize) -> Option<&mut [u8]> {
        let held = usize::from(self.len());
        assert!(off + len <= held, "reframe {off} + {len} in a packet of {held} bytes");
        let headroom = (usize::from(self.headroom()) + off).checked_sub(on)?;
        self.set_extent(headroom as u16, (on + len) as u16);
        Some(self.bytes_mut())
    }

    fn truncate(&mut self, len: usize) {
        if len < usize::from(self.len()) {
            self.set_extent(self.headroom(), len as u16);
        }
    }

    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let (headroom, len) = (self.headroom(), self.len());
        let tailroom = self.get::<u16>(RTE_MBUF_OFFSET_BUF_LEN) - headroom - len;
        if n > usize::from(tailroom) {
            return None;
        }
        self.set_extent(headroom, len + n as u16);
        Some(&mut self.bytes_mut()[usize::from(len)..])
    }

    fn request_udp_checksum(&mut self, l2: usize, l3: usize) -> bool {
        let (Ok(l2), Ok(l3)) = (u8::try_from(l2), u16::try_from(l3)) else {
            return false;
        };
        self.request_checksums(TxChecksums::Ipv6Udp, l2, l3);
        true
    }

    #[inline(always)]
    fn ipv4_checksum_verified(&self) -> bool {
        matches!(self.ip_checksum(), Checksum::Good | Checksum::NotNeeded)
    }

    fn forget_checksums(&mut self) {
        let found = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK;
        self.set(RTE_MBUF_OFFSET_OL_FLAGS, self.other_flags() & !found);
    }

    #[inline(always)]
    fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; SSE is part of the architecture, and no address faults.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.data().cast());
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: ours alone, and not used after this.
        unsafe { rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("port", &self.port())
            .field("bytes", &self.bytes())
            .finish()
    }
}
