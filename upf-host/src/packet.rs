//! A packet buffer as the pipeline sees it: contiguous bytes with room in front. DPDK's mbufs are one kind
//! (`dpdk::mbuf`), plain memory is the other (tests, fuzzing).

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
    /// Cut to `len` bytes; no effect if shorter already.
    fn truncate(&mut self, len: usize);
    /// Grow by `n` bytes behind and give them (their content is unspecified); `None` if the tailroom is too small.
    fn append(&mut self, n: usize) -> Option<&mut [u8]>;
}

/// Where new packets come from.
pub trait Allocator<P> {
    /// An empty packet with at least 128 bytes of headroom; `None` when the pool is empty (counted by the caller).
    fn allocate(&mut self) -> Option<P>;
}
