//! The uplink thread: TUN devices in, GTP-U out.

use crate::GnbError;
use crate::monitoring::Monitor;
use crate::report::UplinkCounters;
use crate::tun::Tun;
use gtpu::{GpduTemplate, PduSessionContainer};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Packets for one system call.
const BATCH: usize = 64;
/// Room for a packet of the largest MTU asked of a TUN device here, and the tunnel header before it.
const SLOT: usize = 9216;
/// How long the thread sleeps before it looks whether to stop, milliseconds.
const STOP_CHECK_MS: u16 = 100;

/// The uplink of one tunnel.
#[derive(Debug)]
pub(crate) struct UplinkTunnel {
    pub tun: Arc<Tun>,
    pub upf: SocketAddr,
    pub template: GpduTemplate,
    pub monitor: Arc<Monitor>,
    pub counters: UplinkCounters,
}

/// The TUN devices that a gNB serves: the thread waits on them, others add and remove them.
pub(crate) struct Uplinks {
    epoll: Epoll,
    tunnels: Mutex<HashMap<u64, Arc<UplinkTunnel>>>,
    next: AtomicU64,
}

impl Uplinks {
    pub(crate) fn new() -> Result<Self, GnbError> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| GnbError::system("cannot create an epoll", e))?;
        Ok(Self {
            epoll,
            tunnels: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// The map stays usable if a thread died holding it: each operation on it is a single call.
    fn tunnels(&self) -> MutexGuard<'_, HashMap<u64, Arc<UplinkTunnel>>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the device from now on; the number is for [`Self::remove`].
    pub(crate) fn add(&self, tunnel: &Arc<UplinkTunnel>) -> Result<u64, GnbError> {
        let token = self.next.fetch_add(1, Relaxed);
        self.tunnels().insert(token, Arc::clone(tunnel));
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        self.epoll.add(&*tunnel.tun, event).map_err(|e| {
            self.tunnels().remove(&token);
            GnbError::system("cannot wait on a TUN device", e)
        })?;
        Ok(token)
    }

    /// Leaves the device to another gNB. A batch being read now still goes out by the old tunnel.
    pub(crate) fn remove(&self, token: u64) {
        if let Some(tunnel) = self.tunnels().remove(&token) {
            // It fails only if the device is not registered, which is what is wanted.
            let _ = self.epoll.delete(&*tunnel.tun);
        }
    }

    /// The thread's work until `stop`.
    pub(crate) fn run(&self, socket: &UdpSocket, stop: &AtomicBool) {
        let mut events = [EpollEvent::empty(); BATCH];
        let mut batch = Batch::new();
        while !stop.load(Relaxed) {
            // Interrupted by a signal: the loop asks again.
            let ready = self
                .epoll
                .wait(&mut events, EpollTimeout::from(STOP_CHECK_MS))
                .unwrap_or(0);
            for event in &events[..ready] {
                let tunnel = self.tunnels().get(&event.data()).map(Arc::clone);
                let Some(tunnel) = tunnel else { continue };
                if batch.fill(&tunnel).is_err() {
                    // The device's namespace was deleted: stop waiting on what will never read again.
                    self.remove(event.data());
                    continue;
                }
                batch.send(&tunnel, socket);
            }
        }
    }
}

/// Packets read from one device, each with its tunnel header in front.
struct Batch {
    slots: Vec<u8>,
    lengths: [usize; BATCH],
    count: usize,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Batch {
    fn new() -> Self {
        Self {
            slots: vec![0; BATCH * SLOT],
            lengths: [0; BATCH],
            count: 0,
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Reads what the device has, up to a batch.
    fn fill(&mut self, tunnel: &UplinkTunnel) -> nix::Result<()> {
        self.count = 0;
        let head = tunnel.template.len();
        let (mut bytes, mut suppressed) = (0, 0);
        for slot in self.slots.chunks_exact_mut(SLOT) {
            let packet = &mut slot[head..];
            let len = loop {
                match tunnel.tun.read(packet)? {
                    Some(len) if is_chatter(&packet[..len]) => suppressed += 1,
                    other => break other,
                }
            };
            let Some(len) = len else { break };
            let teid = tunnel.template.teid();
            let answer = tunnel.monitor.next().and_then(|c| answer(slot, head, len, teid, &c));
            // A slot is shorter than the length field's reach and the header fits: it cannot fail.
            let plain = || {
                tunnel
                    .template
                    .write(&mut slot[..head], len)
                    .ok()
                    .map(|head| head + len)
            };
            if let Some(total) = answer.or_else(plain) {
                self.lengths[self.count] = total;
                self.count += 1;
                bytes += len as u64;
            }
        }
        tunnel.counters.suppressed.fetch_add(suppressed, Relaxed);
        tunnel.counters.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Sends them all, in as many calls as it takes; a packet that the socket refuses is counted and passed over.
    fn send(&mut self, tunnel: &UplinkTunnel, socket: &UdpSocket) {
        let address = [Some(SockaddrStorage::from(tunnel.upf)); BATCH];
        let mut done = 0;
        while done < self.count {
            let rest = done..self.count;
            let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|i| {
                let len = self
                    .lengths
                    .get(done + i)
                    .copied()
                    .filter(|_| done + i < self.count)
                    .unwrap_or(0);
                let at = (done + i).min(BATCH - 1) * SLOT;
                [IoSlice::new(&self.slots[at..at + len])]
            });
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.headers,
                &slices[..rest.len()],
                &address[..rest.len()],
                [],
                MsgFlags::empty(),
            )
            .map(|results| results.count());
            match sent {
                Ok(sent) => {
                    tunnel.counters.packets.fetch_add(sent as u64, Relaxed);
                    done += sent.max(1);
                }
                Err(nix::Error::EINTR) => {}
                Err(_) => {
                    tunnel.counters.send_errors.fetch_add(1, Relaxed);
                    done += 1;
                }
            }
        }
    }
}

/// Makes room for a longer header than the usual one of `head` octets, and writes it. None: the slot is too short.
#[cold]
fn answer(slot: &mut [u8], head: usize, len: usize, teid: u32, container: &PduSessionContainer) -> Option<usize> {
    let header_len = gtpu::MANDATORY_LEN + gtpu::OPTIONAL_LEN + container.extension_len();
    let total = header_len + len;
    if total > slot.len() {
        return None;
    }
    slot.copy_within(head..head + len, header_len);
    gtpu::write_gpdu_header(slot, teid, len, Some(container))
        .ok()
        .map(|_| total)
}

/// IPv6 multicast listener reports and router solicitations: a real modem answers or drops these itself.
fn is_chatter(packet: &[u8]) -> bool {
    const MULTICAST: u8 = 0xff;
    packet.len() >= 40 && packet[0] >> 4 == 6 && packet[24] == MULTICAST
}

#[cfg(test)]
mod tests {
    use super::is_chatter;

    #[test]
    fn only_ipv6_multicast_counts_as_chatter() {
        let mut packet = [0; 48];
        packet[0] = 0x60;
        assert!(!is_chatter(&packet));
        packet[24] = 0xff;
        assert!(is_chatter(&packet));
        assert!(!is_chatter(&packet[..39]));
        packet[0] = 0x45;
        assert!(!is_chatter(&packet));
    }
}
