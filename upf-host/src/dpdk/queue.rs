//! Receive and transmit queues: where bursts of packets enter and leave.

use super::Mbuf;
use super::port::OpenDevice;
use arrayvec::ArrayVec;
use dpdk_sys::{
    rte_eth_dev_rx_intr_ctl_q_get_fd, rte_eth_dev_rx_intr_disable, rte_eth_dev_rx_intr_enable, rte_eth_rx_burst,
    rte_eth_tx_burst, rte_mbuf,
};
use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

/// A receive queue of a port. It may move to another thread but not be shared: DPDK's queues have no locks.
#[derive(Debug)]
pub struct RxQueue {
    handle: Handle,
    oversized: u64,
    /// Readable while packets wait; the driver's.
    interrupt: Option<RawFd>,
}

/// A transmit queue of a port. It may move to another thread but not be shared: DPDK's queues have no locks.
#[derive(Debug)]
pub struct TxQueue {
    handle: Handle,
}

#[derive(Debug)]
struct Handle {
    /// Keeps the port started.
    _open: Arc<OpenDevice>,
    port: u16,
    queue: u16,
    /// Not `Sync`.
    _one_thread: PhantomData<Cell<()>>,
}

impl Handle {
    fn new(open: Arc<OpenDevice>, queue: u16) -> Self {
        Self {
            port: open.id(),
            _open: open,
            queue,
            _one_thread: PhantomData,
        }
    }
}

impl RxQueue {
    pub(super) fn new(open: Arc<OpenDevice>, queue: u16, interrupts: bool) -> Self {
        let descriptor = |handle: &Handle| {
            // SAFETY: the port is started and has this queue.
            let fd = unsafe { rte_eth_dev_rx_intr_ctl_q_get_fd(handle.port, handle.queue) };
            (fd >= 0).then_some(fd)
        };
        let handle = Handle::new(open, queue);
        Self {
            interrupt: interrupts.then(|| descriptor(&handle)).flatten(),
            handle,
            oversized: 0,
        }
    }

    /// What becomes readable when packets come, after [`Self::arm`]; none where the driver has no interrupts.
    #[must_use]
    pub fn interrupt(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the driver keeps it open as long as the port is, which this queue's handle sees to.
        self.interrupt.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Ask for an interrupt when packets come. What is there already may not give one: whoever sleeps on it sets a time limit.
    pub fn arm(&self) {
        if self.interrupt.is_none() {
            return;
        }
        // SAFETY: the port is started and has this queue. A driver whose descriptor needs no arming refuses.
        let _ = unsafe { rte_eth_dev_rx_intr_enable(self.handle.port, self.handle.queue) };
    }

    /// No more interrupts: packets are polled for.
    pub fn disarm(&self) {
        if self.interrupt.is_none() {
            return;
        }
        // SAFETY: as above.
        let _ = unsafe { rte_eth_dev_rx_intr_disable(self.handle.port, self.handle.queue) };
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
