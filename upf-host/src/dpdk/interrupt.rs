//! Receive interrupts: to sleep until packets come, where a driver can tell.

use super::RxQueue;
use super::port::OpenDevice;
use dpdk_sys::{dpdk_interrupts_into, dpdk_interrupts_seen, rte_eth_dev_rx_intr_disable, rte_eth_dev_rx_intr_enable};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// The interrupts of some queues. They are off but between [`Self::arm`] and [`Self::disarm`]: packets are polled for.
#[derive(Debug)]
pub struct Interrupts {
    epoll: Epoll,
    /// Port and queue of each that has one. The ports stay open, since DPDK's part of `epoll` is theirs.
    queues: Vec<(Arc<OpenDevice>, u16)>,
}

impl Interrupts {
    /// Of those queues whose ports were opened with [`PortConfig::interrupts`](super::PortConfig::interrupts) and whose
    /// drivers have them; none if there are none, or the system has no descriptor left.
    #[must_use]
    pub fn of(queues: &[RxQueue]) -> Option<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        let interrupting = queues.iter().filter_map(RxQueue::interrupting);
        // SAFETY: the port is open and has this queue; `epoll` is an epoll instance.
        let into_epoll = |(open, queue): &(&Arc<OpenDevice>, u16)| unsafe {
            dpdk_interrupts_into(open.id(), *queue, epoll.0.as_raw_fd()) == 0
        };
        let queues = interrupting.filter(into_epoll);
        let queues: Vec<_> = queues.map(|(open, queue)| (open.clone(), queue)).collect();
        (!queues.is_empty()).then_some(Self { epoll, queues })
    }

    /// Asks for interrupts, and gives what becomes readable when packets come. What is there already may not give one:
    /// whoever sleeps on it sets a time limit.
    pub fn arm(&self) -> BorrowedFd<'_> {
        for (open, queue) in &self.queues {
            // SAFETY: the port is open and has this queue. A driver whose interrupts are always on refuses.
            let _ = unsafe { rte_eth_dev_rx_intr_enable(open.id(), *queue) };
        }
        self.epoll.0.as_fd()
    }

    /// No more interrupts, and those that came have been seen.
    pub fn disarm(&self) {
        for (open, queue) in &self.queues {
            // SAFETY: as above.
            let _ = unsafe { rte_eth_dev_rx_intr_disable(open.id(), *queue) };
        }
        // SAFETY: `epoll` is an epoll instance, all of whose events are DPDK's and of open ports.
        unsafe { dpdk_interrupts_seen(self.epoll.0.as_raw_fd()) };
    }
}
