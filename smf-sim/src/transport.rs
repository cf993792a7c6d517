//! PFCP over UDP as a CP function speaks it (TS 29.244 6.4, 7.2): one socket, requests sent again after T1 of
//! silence up to N1 times, responses matched by sequence number, and the UPF's own requests answered.

use crate::answer::{self, SessionReport};
use crate::error::{PfcpError, cause};
use crate::wire;
use rs_pfcp::ie::{Ie, IeType, marshal_ies};
use rs_pfcp::message::MsgType;
use rs_pfcp::message::header::Header;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, oneshot};

/// Largest UDP payload.
const MAX_DATAGRAM: usize = 65_535;
/// How many of the UPF's requests are remembered, to tell a retransmission from a new one.
const REMEMBERED_REQUESTS: usize = 256;
/// Session reports a slow receiver may lag behind before it loses the oldest.
const REPORT_BACKLOG: usize = 4096;

/// Retransmission (6.4): a request is sent up to `n1` times in all, `t1` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Wait for a response.
    pub t1: Duration,
    /// Transmissions in all, at least one.
    pub n1: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_secs(1),
            n1: 4,
        }
    }
}

/// A response (or any message), split into IEs and otherwise as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// Message type.
    pub message_type: u8,
    /// SEID, where the header has one.
    pub seid: Option<u64>,
    /// Sequence number.
    pub sequence: u32,
    /// IEs in order.
    pub ies: Vec<Ie>,
}

impl RawAnswer {
    /// Decodes one message; `None` if it is not PFCP version 1 or shorter than it says.
    fn decode(datagram: &[u8]) -> Option<Self> {
        let header = Header::unmarshal(datagram).ok()?;
        // The length counts everything after the first four octets (7.2.2.1).
        let body = datagram.get(usize::from(header.len())..4 + usize::from(header.length))?;
        (header.version == 1).then(|| Self {
            message_type: datagram[1],
            seid: header.has_seid.then_some(header.seid.0),
            sequence: header.sequence_number.0,
            ies: answer::split(body),
        })
    }

    /// Payload of the first IE of this type.
    pub fn find(&self, t: IeType) -> Option<&[u8]> {
        answer::find(&self.ies, t)
    }

    /// Value of the Cause IE.
    pub fn cause(&self) -> Option<u8> {
        self.find(IeType::Cause).and_then(|p| p.first().copied())
    }

    /// Value of the Offending IE.
    pub fn offending_ie(&self) -> Option<u16> {
        self.find(IeType::OffendingIe).and_then(|p| wire::Octets(p).u16())
    }
}

/// A message on the wire. `message_type` may be one that does not exist.
pub fn encode(message_type: u8, seid: Option<u64>, sequence: u32, ies: &[Ie]) -> Vec<u8> {
    let (has_seid, seid) = (seid.is_some(), seid.unwrap_or(0));
    let known = MsgType::from(message_type);
    let mut header = Header::new_unknown(message_type, has_seid, seid, sequence)
        .unwrap_or_else(|_| Header::new(known, has_seid, seid, sequence));
    let body = marshal_ies(ies);
    // A body over 64 KiB would not fit a datagram either: it is sent with a wrong length, and lost.
    header.length = (usize::from(header.len()) - 4 + body.len()) as u16;
    let mut message = header.marshal();
    message.extend(body);
    message
}

/// The socket and what it is waiting for; shared by the receiving task and the procedures.
pub(crate) struct Transport {
    socket: UdpSocket,
    upf: SocketAddr,
    timers: Timers,
    recovery_time_stamp: u32,
    next_sequence: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<RawAnswer>>>,
    sessions: Mutex<Sessions>,
    reports: broadcast::Sender<SessionReport>,
}

/// The sessions that stand, by either side's SEID.
#[derive(Default)]
struct Sessions {
    /// CP SEID to UP SEID, which is learnt with the response.
    up_of: HashMap<u64, Option<u64>>,
    /// UP SEID to CP SEID.
    cp_of: HashMap<u64, u64>,
}

/// The maps stay usable if a thread died while it held one: each operation on them is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport {
    pub(crate) async fn bind(local: SocketAddr, upf: SocketAddr, timers: Timers) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            socket: UdpSocket::bind(local).await?,
            upf,
            timers,
            recovery_time_stamp: wire::ntp_now(),
            next_sequence: AtomicU32::new(1),
            waiting: Mutex::default(),
            sessions: Mutex::default(),
            reports: broadcast::Sender::new(REPORT_BACKLOG),
        }))
    }

    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn recovery_time_stamp(&self) -> u32 {
        self.recovery_time_stamp
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<SessionReport> {
        self.reports.subscribe()
    }

    /// From now on reports about this CP SEID are accepted.
    pub(crate) fn session_stands(&self, cp_seid: u64, up_seid: Option<u64>) {
        let mut sessions = lock(&self.sessions);
        sessions.up_of.insert(cp_seid, up_seid);
        if let Some(up_seid) = up_seid {
            sessions.cp_of.insert(up_seid, cp_seid);
        }
    }

    /// The establishment failed: no reports are due.
    pub(crate) fn session_refused(&self, cp_seid: u64) {
        lock(&self.sessions).up_of.remove(&cp_seid);
    }

    /// The session was deleted.
    pub(crate) fn session_gone(&self, up_seid: u64) {
        let mut sessions = lock(&self.sessions);
        if let Some(cp_seid) = sessions.cp_of.remove(&up_seid) {
            sessions.up_of.remove(&cp_seid);
        }
    }

    pub(crate) async fn send_datagram(&self, datagram: &[u8]) -> std::io::Result<()> {
        self.socket.send_to(datagram, self.upf).await.map(|_| ())
    }

    /// Sends a request until it is answered. `name` is for the error.
    pub(crate) async fn request(
        &self,
        name: &'static str,
        message_type: u8,
        seid: Option<u64>,
        ies: &[Ie],
    ) -> Result<RawAnswer, PfcpError> {
        // 24 bits; a number still waiting after 16 million others has long timed out.
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff;
        let datagram = encode(message_type, seid, sequence, ies);
        let (sender, mut receiver) = oneshot::channel();
        lock(&self.waiting).insert(sequence, sender);
        let attempts = self.timers.n1.max(1);
        for _ in 0..attempts {
            if let Err(error) = self.send_datagram(&datagram).await {
                // A refused connection is a UPF that is not there yet: try again until N1.
                tracing::debug!(%error, request = name, "send failed");
            }
            if let Ok(answer) = tokio::time::timeout(self.timers.t1, &mut receiver).await {
                let answer = answer.map_err(|_| PfcpError::NoResponse {
                    request: name,
                    attempts,
                })?;
                if answer.message_type == MsgType::VersionNotSupportedResponse as u8 {
                    return Err(PfcpError::VersionNotSupported { request: name });
                }
                return Ok(answer);
            }
        }
        lock(&self.waiting).remove(&sequence);
        Err(PfcpError::NoResponse {
            request: name,
            attempts,
        })
    }

    /// Receives until the task is aborted.
    pub(crate) async fn receive(self: Arc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut answered: VecDeque<(SocketAddr, u32)> = VecDeque::with_capacity(REMEMBERED_REQUESTS);
        loop {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // ICMP port unreachable from an earlier send shows up here.
                    tracing::debug!(%error, "receive failed");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            let Some(message) = RawAnswer::decode(&buffer[..length]) else {
                tracing::warn!(%from, length, "not a PFCP version 1 message");
                continue;
            };
            match MsgType::from(message.message_type) {
                MsgType::HeartbeatRequest
                | MsgType::SessionReportRequest
                | MsgType::NodeReportRequest
                | MsgType::AssociationUpdateRequest
                | MsgType::AssociationReleaseRequest => {
                    let again = answered.contains(&(from, message.sequence));
                    if !again {
                        if answered.len() == REMEMBERED_REQUESTS {
                            answered.pop_front();
                        }
                        answered.push_back((from, message.sequence));
                    }
                    self.answer(&message, from, again).await;
                }
                _ => match lock(&self.waiting).remove(&message.sequence) {
                    // The receiver may have given up in this very moment.
                    Some(waiting) => drop(waiting.send(message)),
                    None => tracing::debug!(kind = message.message_type, "response to nothing that is waiting"),
                },
            }
        }
    }

    /// Answers a request of the UPF; `again`: it is a retransmission, and is not told of a second time.
    async fn answer(&self, request: &RawAnswer, from: SocketAddr, again: bool) {
        let cause_ie = |value| wire::u8_ie(IeType::Cause, value);
        // Each response type is its request's plus one.
        let response_type = request.message_type + 1;
        let (seid, ies) = match MsgType::from(request.message_type) {
            MsgType::HeartbeatRequest => (
                None,
                vec![wire::u32_ie(IeType::RecoveryTimeStamp, self.recovery_time_stamp)],
            ),
            MsgType::SessionReportRequest => {
                let cp_seid = request.seid.unwrap_or(0);
                let session = lock(&self.sessions).up_of.get(&cp_seid).copied();
                match session {
                    Some(up_seid) => {
                        if !again {
                            for report in answer::reports(&request.ies) {
                                // Nobody listening is fine.
                                drop(self.reports.send(SessionReport {
                                    cp_seid,
                                    up_seid,
                                    report,
                                }));
                            }
                        }
                        (Some(up_seid.unwrap_or(0)), vec![cause_ie(cause::REQUEST_ACCEPTED)])
                    }
                    None => (Some(0), vec![cause_ie(cause::SESSION_CONTEXT_NOT_FOUND)]),
                }
            }
            _ => {
                let local = self.socket.local_addr().map(|a| wire::node_id(&a.ip().into()));
                (
                    None,
                    local.into_iter().chain([cause_ie(cause::REQUEST_ACCEPTED)]).collect(),
                )
            }
        };
        let response = encode(response_type, seid, request.sequence, &ies);
        if let Err(error) = self.socket.send_to(&response, from).await {
            tracing::warn!(%error, %from, "could not answer the UPF");
        }
    }
}
