//! The downlink thread: GTP-U in, TUN devices out, signalling answered.

use crate::monitoring::Monitor;
use crate::report::{DownlinkCounters, ErrorIndicationSeen, PathCounters};
use crate::tun::Tun;
use gtpu::{ErrorIndication, GPdu, Header, Message, PduSessionContainer};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Datagrams for one system call.
const BATCH: usize = 64;
/// Room for a datagram; a longer one is cut by the kernel and then malformed.
const SLOT: usize = 9216;

/// The downlink of one tunnel.
#[derive(Debug)]
pub(crate) struct DownlinkTunnel {
    pub tun: Arc<Tun>,
    pub counters: DownlinkCounters,
    pub monitor: Arc<Monitor>,
}

/// What a gNB listens for.
pub(crate) struct Downlinks {
    tunnels: RwLock<HashMap<u32, Arc<DownlinkTunnel>>>,
    local: SocketAddr,
    upf: SocketAddr,
}

impl Downlinks {
    pub(crate) fn new(local: SocketAddr, upf: SocketAddr) -> Self {
        Self {
            tunnels: RwLock::default(),
            local,
            upf,
        }
    }

    /// False if the TEID is taken.
    pub(crate) fn add(&self, teid: u32, tunnel: &Arc<DownlinkTunnel>) -> bool {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        if tunnels.contains_key(&teid) {
            return false;
        }
        tunnels.insert(teid, Arc::clone(tunnel));
        true
    }

    pub(crate) fn remove(&self, teid: u32) {
        self.tunnels
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&teid);
    }

    /// The thread's work until `stop`; the socket has a receive timeout.
    pub(crate) fn run(&self, socket: &UdpSocket, counters: &PathCounters, stop: &AtomicBool) {
        let mut buffer = vec![0; BATCH * SLOT];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut received: Vec<(usize, Option<SockaddrStorage>)> = Vec::with_capacity(BATCH);
        while !stop.load(Relaxed) {
            received.clear();
            {
                let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffer
                    .chunks_exact_mut(SLOT)
                    .map(|slot| [IoSliceMut::new(slot)])
                    .collect();
                // One datagram wakes it; more are taken if they are there.
                match recvmmsg(
                    socket.as_raw_fd(),
                    &mut headers,
                    &mut slices,
                    MsgFlags::MSG_WAITFORONE,
                    None,
                ) {
                    Ok(messages) => received.extend(messages.map(|m| (m.bytes, m.address))),
                    // The timeout, or a signal: look whether to stop.
                    Err(_) => continue,
                }
            }
            let tunnels = self.tunnels.read().unwrap_or_else(PoisonError::into_inner);
            for (slot, (len, from)) in buffer.chunks_exact(SLOT).zip(&received) {
                self.datagram(&slot[..*len], from.as_ref(), &tunnels, socket, counters);
            }
        }
    }

    /// One datagram: a user's packet mostly, signalling otherwise.
    fn datagram(
        &self,
        datagram: &[u8],
        from: Option<&SockaddrStorage>,
        tunnels: &HashMap<u32, Arc<DownlinkTunnel>>,
        socket: &UdpSocket,
        counters: &PathCounters,
    ) {
        let Ok(header) = Header::parse(datagram) else {
            counters.malformed.fetch_add(1, Relaxed);
            return;
        };
        let Ok(message) = Message::from_header(&header) else {
            counters.malformed.fetch_add(1, Relaxed);
            return;
        };
        let from = from.and_then(socket_addr);
        match message {
            Message::GPdu => match tunnels.get(&header.teid()) {
                Some(tunnel) => tunnel.packet(&header, counters, socket),
                None => {
                    counters.unknown_teid.fetch_add(1, Relaxed);
                    self.send_error_indication(header.teid(), from, socket);
                }
            },
            Message::EndMarker { teid } => match tunnels.get(&teid) {
                Some(tunnel) => tunnel.counters.end_marker(),
                None => drop(counters.other_messages.fetch_add(1, Relaxed)),
            },
            Message::EchoRequest { sequence_number } => {
                let mut answer = [0; 16];
                if let (Some(from), Ok(len)) = (from, gtpu::write_echo_response(&mut answer, sequence_number)) {
                    counters.echo_answered.fetch_add(1, Relaxed);
                    // A lost answer is asked for again.
                    drop(socket.send_to(&answer[..len], from));
                }
            }
            Message::EchoResponse { .. } => drop(counters.echo_responses.fetch_add(1, Relaxed)),
            Message::ErrorIndication(ErrorIndication { teid, peer, .. }) => {
                if let Some(from) = from {
                    counters.error_indication(ErrorIndicationSeen { from, teid, peer });
                }
            }
            _ => drop(counters.other_messages.fetch_add(1, Relaxed)),
        }
    }

    /// TS 29.281 7.3.1: to the GTP-U port of whoever sent the packet, naming its TEID and the address it came to.
    fn send_error_indication(&self, teid: u32, from: Option<SocketAddr>, socket: &UdpSocket) {
        let Some(from) = from else { return };
        // A UPF that listens elsewhere (in tests) is known by its configured port.
        let port = if from.ip() == self.upf.ip() {
            self.upf.port()
        } else {
            gtpu::UDP_PORT
        };
        let indication = ErrorIndication {
            teid,
            peer: self.local.ip(),
            udp_source_port: None,
        };
        let mut message = [0; gtpu::ERROR_INDICATION_MAX_LEN];
        if let Ok(len) = gtpu::write_error_indication(&mut message, &indication) {
            drop(socket.send_to(&message[..len], SocketAddr::new(from.ip(), port)));
        }
    }
}

impl DownlinkTunnel {
    fn packet(&self, header: &Header<'_>, path: &PathCounters, socket: &UdpSocket) {
        let Ok(_) = GPdu::from_header(header) else {
            path.malformed.fetch_add(1, Relaxed);
            return;
        };
        let counters = &self.counters;
        let packet = header.payload();
        counters.packets.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(packet.len() as u64, Relaxed);
        if counters.end_markers.load(Relaxed) > 0 {
            counters.packets_after_end_marker.fetch_add(1, Relaxed);
        }
        match header.pdu_session_container() {
            Ok(Some(container)) => {
                counters.qfis[usize::from(container.qfi() & 0x3f)].fetch_add(1, Relaxed);
                if let PduSessionContainer::Downlink(information) = container {
                    counters.rqi.fetch_add(u64::from(information.rqi), Relaxed);
                    counters.ppi.fetch_add(u64::from(information.ppi.is_some()), Relaxed);
                    if let Some(sent) = information.sending_time {
                        self.monitor.ask(information.qfi, sent, socket);
                    }
                }
            }
            _ => drop(counters.without_qfi.fetch_add(1, Relaxed)),
        }
        if self.tun.write(packet).is_err() {
            counters.write_errors.fetch_add(1, Relaxed);
        }
    }
}

fn socket_addr(from: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = from.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::new(v4.ip(), v4.port())));
    }
    from.as_sockaddr_in6().map(|v6| {
        let v6 = SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id());
        match IpAddr::V6(*v6.ip()).to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
            IpAddr::V6(_) => SocketAddr::V6(v6),
        }
    })
}
