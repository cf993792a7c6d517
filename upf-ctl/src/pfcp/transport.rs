//! PFCP over UDP: the socket, the receiving task, and requests of our own (TS 29.244 6.4).
//!
//! The receiving task does at once what needs no state of the controller: it answers heartbeats (so that a busy
//! controller is not taken for a dead one), repeats answers to retransmissions, answers what cannot be read, and
//! hands responses to whoever waits for them. Everything else goes to the controller's task, through a bounded
//! queue: when it is full the datagram is dropped and counted, and its sender retransmits.

use super::duplicates::{Duplicates, RequestKey, Seen};
use super::wire::outgoing::{self, HeartbeatResponse};
use super::wire::{self, Cause, FSeid, Header, Message, NtpSeconds, Refusal, TooLong, WireError};
use crate::metrics::Metrics;
use rs_pfcp::message::MsgType;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

/// Where every PFCP entity takes requests (TS 29.244 6.1).
pub const PFCP_PORT: u16 = 8805;
/// Receive buffer asked of the kernel: a burst of some ten thousand requests.
const SOCKET_BUFFER: usize = 8 << 20;
/// Added to T1 * N1 for how long a request is remembered.
const DUPLICATE_MARGIN: Duration = Duration::from_secs(2);

/// A request that has been read and is new.
#[derive(Debug)]
pub struct Request {
    /// Who sent it, and where the response goes.
    pub peer: SocketAddr,
    /// Its header.
    pub header: Header,
    /// What it says.
    pub contents: Result<Message, Unreadable>,
}

/// A request whose header can be read and whose body cannot: to be refused.
#[derive(Debug)]
pub struct Unreadable {
    /// The SMF's end of the session to be, if that much could be read.
    pub cp_fseid: Option<FSeid>,
    /// Why, for the answer.
    pub refusal: Refusal,
}

impl Request {
    /// By which it and its retransmissions are known.
    pub fn key(&self) -> RequestKey {
        key(self.peer, &self.header)
    }
}

fn key(peer: SocketAddr, header: &Header) -> RequestKey {
    RequestKey {
        peer,
        sequence: header.sequence,
        message_type: header.message_type,
    }
}

/// What the receiving task tells the controller.
#[derive(Debug)]
pub enum Inbound {
    /// Do this, then [`Transport::respond`].
    Request(Request),
    /// A heartbeat of the peer told when it started.
    Heartbeat {
        /// The peer.
        peer: SocketAddr,
        /// When it started.
        recovery_time_stamp: NtpSeconds,
    },
}

/// Why a request of ours has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// N1 times nothing came back within T1.
    #[error("no response")]
    NoResponse,
    /// It cannot be sent.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The socket and what belongs to it. Shared by the receiving task, the controller and the tasks it starts.
#[derive(Debug)]
pub struct Transport {
    socket: UdpSocket,
    local: SocketAddr,
    t1: Duration,
    n1: u32,
    recovery_time_stamp: NtpSeconds,
    duplicates: Mutex<Duplicates>,
    next_sequence: AtomicU32,
    waiting: Mutex<HashMap<(IpAddr, u32), oneshot::Sender<Message>>>,
    metrics: Arc<Metrics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// T1 and N1 (TS 29.244 6.4).
fn timers(config: &upf_config::Pfcp) -> (Duration, u32) {
    (Duration::from_millis(config.t1_ms.max(1)), config.n1.max(1))
}

/// For how long a request may be retransmitted.
pub fn retransmission_time(config: &upf_config::Pfcp) -> Duration {
    let (t1, n1) = timers(config);
    t1 * n1 + DUPLICATE_MARGIN
}

impl Transport {
    /// Binds the socket.
    pub fn bind(config: &upf_config::Pfcp, recovery_time_stamp: NtpSeconds, metrics: Arc<Metrics>) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(config.listen);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        // The kernel gives what its limits allow: less is no error.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&config.listen.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        let (t1, n1) = timers(config);
        let start = Instant::now();
        // A start anywhere in the 24 bits: a restarted controller does not repeat the numbers of the one before.
        let seed = recovery_time_stamp.0 ^ std::process::id() << 8 ^ start.elapsed().subsec_nanos();
        Ok(Self {
            socket,
            local,
            t1,
            n1,
            recovery_time_stamp,
            duplicates: Mutex::new(Duplicates::new(retransmission_time(config))),
            next_sequence: AtomicU32::new(seed),
            waiting: Mutex::default(),
            metrics,
        })
    }

    /// The address and port it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of ours that `peer` reaches us at: the one we listen on, or where that is the unspecified
    /// one, the one that the routes to the peer choose.
    pub fn address_towards(&self, peer: IpAddr) -> IpAddr {
        if !self.local.ip().is_unspecified() {
            return self.local.ip();
        }
        let any: IpAddr = if peer.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        std::net::UdpSocket::bind((any, 0))
            .and_then(|probe| probe.connect((peer, PFCP_PORT)).and_then(|()| probe.local_addr()))
            .map_or(self.local.ip(), |addr| addr.ip())
    }

    /// Remembers an answer that was given by the controller before this one.
    pub fn remember(&self, key: RequestKey, datagram: Vec<u8>) {
        lock(&self.duplicates).answer(key, datagram, Instant::now());
    }

    /// Forgets answers that nobody can ask for again.
    pub fn forget_answers(&self) {
        lock(&self.duplicates).forget(Instant::now());
    }

    /// Sends a response and remembers it for retransmissions of its request.
    /// `cause`: the one in it, for the metrics.
    pub async fn respond(&self, key: RequestKey, datagram: Vec<u8>, cause: Option<Cause>) {
        self.send(key.peer, &datagram, cause).await;
        lock(&self.duplicates).answer(key, datagram, Instant::now());
    }

    async fn send(&self, peer: SocketAddr, datagram: &[u8], cause: Option<Cause>) {
        self.metrics.sent(datagram, cause);
        if let Err(error) = self.socket.send_to(datagram, peer).await {
            tracing::warn!(%peer, %error, "sending failed");
        }
    }

    /// Sends a request of ours until it is answered: N1 times, T1 apart. `encode` gets the sequence number.
    pub async fn request(
        &self,
        peer: SocketAddr,
        encode: impl FnOnce(u32) -> Result<Vec<u8>, TooLong>,
    ) -> Result<Message, RequestError> {
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff;
        let datagram = encode(sequence)?;
        let (answer, mut answered) = oneshot::channel();
        let waiting = Waiting {
            transport: self,
            key: (peer.ip(), sequence),
        };
        lock(&self.waiting).insert(waiting.key, answer);
        for _ in 0..self.n1 {
            self.metrics.sent(&datagram, None);
            self.socket.send_to(&datagram, peer).await?;
            if let Ok(Ok(message)) = tokio::time::timeout(self.t1, &mut answered).await {
                return Ok(message);
            }
        }
        Err(RequestError::NoResponse)
    }

    /// Receives until the controller is gone.
    pub async fn receive(self: Arc<Self>, controller: mpsc::Sender<Inbound>) {
        let mut buffer = vec![0; 65_536];
        while !controller.is_closed() {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, peer)) => self.received(peer, &buffer[..length], &controller).await,
                // Mostly an ICMP error for something sent earlier; should it be worse, no reason to spin.
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }

    async fn received(&self, peer: SocketAddr, datagram: &[u8], controller: &mpsc::Sender<Inbound>) {
        let received = match wire::read_message(datagram) {
            Ok(received) => received,
            Err(error) => return self.unreadable(peer, error, controller).await,
        };
        let header = received.header;
        match received.message {
            Message::HeartbeatRequest(heartbeat) => {
                self.metrics.received(header.message_type, None);
                let response = HeartbeatResponse {
                    recovery_time_stamp: self.recovery_time_stamp,
                };
                if let Ok(response) = response.encode(header.sequence) {
                    self.send(peer, &response, None).await;
                }
                let recovery_time_stamp = heartbeat.recovery_time_stamp;
                // A full queue loses only the notice; the next heartbeat brings it again.
                let _ = controller.try_send(Inbound::Heartbeat {
                    peer,
                    recovery_time_stamp,
                });
            }
            Message::Unexpected => self.metrics.discarded("unexpected-message"),
            message if is_response(&message) => {
                self.metrics.received(header.message_type, cause_of(&message));
                match lock(&self.waiting).remove(&(peer.ip(), header.sequence)) {
                    // The waiter may just have given up.
                    Some(waiter) => drop(waiter.send(message)),
                    None => self.metrics.discarded("unasked-response"),
                }
            }
            message => {
                self.take_in(
                    Request {
                        peer,
                        header,
                        contents: Ok(message),
                    },
                    controller,
                )
                .await
            }
        }
    }

    /// A request that the controller is to serve, unless it is a retransmission.
    async fn take_in(&self, request: Request, controller: &mpsc::Sender<Inbound>) {
        let key = request.key();
        let seen = lock(&self.duplicates).see(key, Instant::now());
        match seen {
            Seen::New => {
                self.metrics.received(key.message_type, None);
                if controller.try_send(Inbound::Request(request)).is_err() {
                    lock(&self.duplicates).withdraw(key);
                    self.metrics.discarded("queue-full");
                }
            }
            Seen::InProgress => self.metrics.discarded("duplicate-in-progress"),
            Seen::Answered(answer) => {
                self.metrics.discarded("duplicate-answered");
                self.send(key.peer, &answer, None).await;
            }
        }
    }

    async fn unreadable(&self, peer: SocketAddr, error: WireError, controller: &mpsc::Sender<Inbound>) {
        match error {
            WireError::NoHeader { .. } => self.metrics.discarded("no-header"),
            WireError::Version { sequence, .. } => {
                self.metrics.discarded("version");
                if let Ok(response) = outgoing::version_not_supported(sequence) {
                    self.send(peer, &response, None).await;
                }
            }
            WireError::Refused {
                header,
                cp_fseid,
                refusal,
            } if is_request(header.message_type) => {
                tracing::info!(%peer, message_type = header.message_type, %refusal, "unreadable request");
                let contents = Err(Unreadable { cp_fseid, refusal });
                self.take_in(Request { peer, header, contents }, controller).await;
            }
            WireError::Refused { .. } => self.metrics.discarded("unreadable"),
        }
    }
}

/// Requests that have a response saying why not.
fn is_request(message_type: u8) -> bool {
    matches!(
        MsgType::from(message_type),
        MsgType::PfdManagementRequest
            | MsgType::AssociationSetupRequest
            | MsgType::AssociationUpdateRequest
            | MsgType::AssociationReleaseRequest
            | MsgType::SessionSetDeletionRequest
            | MsgType::SessionSetModificationRequest
            | MsgType::SessionEstablishmentRequest
            | MsgType::SessionModificationRequest
            | MsgType::SessionDeletionRequest
    )
}

/// Stops waiting for a response however the waiting ends.
struct Waiting<'a> {
    transport: &'a Transport,
    key: (IpAddr, u32),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.transport.waiting).remove(&self.key);
    }
}

fn is_response(message: &Message) -> bool {
    matches!(
        message,
        Message::HeartbeatResponse(_)
            | Message::AssociationSetupResponse(_)
            | Message::AssociationUpdateResponse(_)
            | Message::AssociationReleaseResponse(_)
            | Message::VersionNotSupportedResponse
            | Message::NodeReportResponse(_)
            | Message::SessionReportResponse(_)
    )
}

fn cause_of(message: &Message) -> Option<u8> {
    match message {
        Message::AssociationSetupResponse(r) => Some(r.cause),
        Message::AssociationUpdateResponse(r)
        | Message::AssociationReleaseResponse(r)
        | Message::NodeReportResponse(r) => Some(r.cause),
        Message::SessionReportResponse(r) => Some(r.cause),
        _ => None,
    }
}
