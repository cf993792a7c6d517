//! Receive and transmit queues: where bursts of packets enter and leave.

use super::Mbuf;
use super::port::OpenDevice;
use arrayvec::ArrayVec;
use dpdk_sys::{rte_eth_rx_burst, rte_eth_tx_burst, rte_mbuf};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// A receive queue of a port. It may move to another thread but not be shared: DPDK's queues have no locks.
#[derive(Debug)]
pub struct RxQueue {
    handle: Handle,
    oversized: u64,
    interrupts: bool,
}

/// A transmit queue of a port. It may move to another thread but not be shared: DPDK's queues have no locks.
#[derive(Debug)]
pub struct TxQueue {
    handle: Handle,
}

#[derive(Debug)]
struct Handle {
    /// Keeps the port started.
    open: Arc<OpenDevice>,
    port: u16,
    queue: u16,
    /// Not `Sync`.
    _one_thread: PhantomData<Cell<()>>,
}

impl Handle {
    fn new(open: Arc<OpenDevice>, queue: u16) -> Self {
        Self {
            port: open.id(),
            open,
            queue,
            _one_thread: PhantomData,
        }
    }
}

impl RxQueue {
    pub(super) fn new(open: Arc<OpenDevice>, queue: u16, interrupts: bool) -> Self {
        Self {
            handle: Handle::new(open, queue),
            oversized: 0,
            interrupts,
        }
    }

    /// The port, and its number of the queue, if the port was started with interrupts.
    pub(super) fn interrupting(&self) -> Option<(&Arc<OpenDevice>, u16)> {
        self.interrupts.then_some((&self.handle.open, self.handle.queue))
    }

    /// Append the packets that have arrived, up to the capacity that is left, and tell how many. Never waits; no
    /// packet is copied, except that one in several segments is joined into its first.
    pub fn burst<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        self.burst_up_to(packets, N)
    }

    /// [`Self::burst`] of at most `most` packets.
    pub fn burst_up_to<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>, most: usize) -> usize {
        let held = packets.len();
        let wanted = u16::try_from(packets.remaining_capacity().min(most)).unwrap_or(u16::MAX);
        // SAFETY: an Mbuf is a pointer to an rte_mbuf, and there is room for `wanted` of them behind the `held` ones.
        // The driver hands over at most that many, all of which are ours from now on. The port is started, the queue
        // is set up, and this is its only handle.
        unsafe {
            let spare = packets.as_mut_ptr().add(held).cast::<*mut rte_mbuf>();
            let received = rte_eth_rx_burst(self.handle.port, self.handle.queue, spare, wanted);
            packets.set_len(held + usize::from(received));
        }
        if packets[held..].iter().any(Mbuf::is_chain) {
            self.join_chains(packets);
        }
        packets.len() - held
    }

    /// Packets dropped since this queue was opened because they came in several segments, as drivers deliver what is
    /// longer than an mbuf, and did not fit into one.
    #[must_use]
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// The port this is a queue of, as [`Mbuf::port`] names it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.handle.port
    }

    #[cold]
    fn join_chains<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) {
        let before = packets.len();
        packets.retain(|packet| !packet.is_chain() || packet.linearize());
        self.oversized += (before - packets.len()) as u64;
    }
}

impl TxQueue {
    pub(super) fn new(open: Arc<OpenDevice>, queue: u16) -> Self {
        Self {
            handle: Handle::new(open, queue),
        }
    }

    /// Hand packets to the port, from the front, and tell how many it took; the others stay, in their order. Never
    /// waits and never drops: a full queue is the caller's to judge.
    pub fn burst<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let held = packets.len();
        if held == 0 {
            return 0;
        }
        // SAFETY: an Mbuf is a pointer to an rte_mbuf. The driver owns the first `sent` from the call on, so that they
        // are moved over, not dropped. The port is started, the queue is set up, and this is its only handle.
        unsafe {
            let first = packets.as_mut_ptr();
            let count = u16::try_from(held).unwrap_or(u16::MAX);
            let sent = rte_eth_tx_burst(
                self.handle.port,
                self.handle.queue,
                first.cast::<*mut rte_mbuf>(),
                count,
            );
            let sent = usize::from(sent);
            first.copy_from(first.add(sent), held - sent);
            packets.set_len(held - sent);
            sent
        }
    }

    /// The port this is a queue of.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.handle.port
    }
}
