//! The DPDK data plane, behind the shared-memory channel of [`ipc`].
//!
//! Whoever asks writes the question into the channel; a thread of its own reads what comes back, matches answers to
//! questions by their sequence numbers, and watches the other process come and go. Towards the controller each question
//! is a future with a time limit.
//!
//! ```text
//!   away ──host attaches──▶ connecting ──Hello──▶ unsynchronised ──SyncBegin, Apply..., SyncEnd──▶ ready
//!    ▲                                                 ▲                                            │
//!    └──────── host is gone (from any state) ───────────┴── new Hello, or an outcome is unknown ─────┘
//! ```
//!
//! Whenever the host announces itself (it started, or we did), its sessions are brought to what the session
//! table says: `SyncBegin`, a `Put` of every session, `SyncEnd`, after which the host removes what was not put.
//! A host that went on forwarding while the controller was away does so without a gap, because putting a
//! session as it is changes nothing for packets.
//!
//! The channel keeps its order, and the host does one thing after the other. So a batch that is not answered in time is
//! not a reason to synchronise a million sessions: what undoes it is sent behind it, and the answers to both are waited
//! for in the background ([`Link::late`]). A late refusal, or the host's end, is settled by a synchronisation.

mod bridge;

use super::{Answer, DataPlane, PlaneError, PlaneEvent, PlaneEvents, PlaneId, PlaneState};
use bridge::{Bridge, Line};
use ipc::{ControllerEnd, Waker};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, oneshot};
use upf_model::batch::{Change, FromHost, HostCounters, SessionUsage, ToHost};
use upf_model::{Session, SessionId};

const NAME: &str = "host";
/// The longest that the host may take for one batch: installing it, and a grace period of its lcores.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The longest that the host may take at the end of a synchronisation, to remove all that was not put.
const SYNC_END_TIME: Duration = Duration::from_secs(20);
/// The longest that an attached host may take to say Hello.
const HELLO_TIME: Duration = Duration::from_secs(1);
/// Sessions in one batch of a synchronisation.
const SYNC_SESSIONS: usize = 256;
/// Rules and filters in one batch of a synchronisation: keeps a batch of large sessions within the channel.
const SYNC_RULES: usize = 8_192;
/// A synchronisation says so after so many sessions.
const SYNC_PROGRESS: usize = 100_000;
/// Batches of a synchronisation that are on their way at once.
const SYNC_WINDOW: usize = 4;
/// Sessions in one usage query: what is to be applied waits for one at most.
const USAGE_SESSIONS: usize = 128;
/// How often the thread looks around when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// An answer of the host to a numbered question.
type Reply = Result<FromHost, PlaneError>;

#[derive(Debug, Default)]
struct Link {
    attached: bool,
    /// Start of the host, once it has said Hello.
    instance: Option<u64>,
    max_sessions: u32,
    synchronised: bool,
    /// The plane is being dropped: its thread is to end.
    closing: bool,
    next_seq: u64,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    /// Changes for whose answers nobody waits any more, or nobody ever did.
    late: HashSet<u64>,
}

impl Link {
    /// Of the next question.
    fn number(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// What the host has is not known any more, and what it was asked is not going to be answered.
    fn lose(&mut self) {
        self.synchronised = false;
        self.late.clear();
        for (_, waiter) in self.waiting.drain() {
            // The waiter may have given up.
            let _ = waiter.send(Err(PlaneError::Unknown(NAME)));
        }
    }

    fn state(&self) -> PlaneState {
        match (self.attached, self.synchronised) {
            (false, _) => PlaneState::Away,
            (true, false) => PlaneState::Unsynchronised,
            (true, true) => PlaneState::Ready,
        }
    }
}

#[derive(Debug)]
struct Shared {
    id: PlaneId,
    /// Locked before `link` where both are.
    line: Mutex<Line>,
    link: Mutex<Link>,
    said_hello: Notify,
    caught_up: Notify,
    events: PlaneEvents,
}

impl Shared {
    fn distrust(&self) {
        {
            let mut link = self.link();
            link.synchronised = false;
            link.late.clear();
        }
        self.caught_up.notify_waiters();
        self.tell(PlaneEvent::WantsSynchronisation(self.id));
    }

    /// Changes that nobody waited for have taken effect, or were refused.
    fn settled(&self, seq: u64, refused: Option<&str>) {
        let is_last = {
            let mut link = self.link();
            if !link.late.remove(&seq) {
                return;
            }
            link.late.is_empty()
        };
        if let Some(message) = refused {
            tracing::error!(
                message,
                "changes were refused after their time; the host data plane will be synchronised"
            );
            self.distrust();
        } else if is_last {
            tracing::info!("the host data plane has caught up");
            self.caught_up.notify_waiters();
            self.tell(PlaneEvent::CaughtUp(self.id));
        }
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: PlaneEvent) {
        // Nobody listening: the controller is shutting down.
        let _ = self.events.send(event);
    }
}

/// The DPDK data plane.
#[derive(Debug)]
pub struct HostPlane {
    shared: Arc<Shared>,
    waker: Waker,
}

impl HostPlane {
    /// Opens our end of the channel called `name` and starts its thread. The host need not be there.
    ///
    /// # Errors
    /// As [`ControllerEnd::open`]: above all, another controller of that name is running.
    pub fn open(name: &str, id: PlaneId, events: PlaneEvents) -> Result<Self, ipc::ChannelError> {
        let end = ControllerEnd::open(name)?;
        let link = Link {
            attached: end.peer_alive(),
            ..Link::default()
        };
        let (waker, doorbell) = (end.waker(), end.doorbell());
        let line = Line {
            end,
            unsent: VecDeque::new(),
            peer: None,
        };
        let shared = Arc::new(Shared {
            id,
            line: Mutex::new(line),
            link: Mutex::new(link),
            said_hello: Notify::new(),
            caught_up: Notify::new(),
            events,
        });
        let bridge = Bridge {
            doorbell,
            controller: start_number(),
            shared: shared.clone(),
        };
        std::thread::Builder::new()
            .name("host-channel".into())
            .spawn(move || bridge.run())
            .map_err(|source| ipc::ChannelError::Io {
                doing: "start a thread for",
                path: name.into(),
                source,
            })?;
        Ok(Self { shared, waker })
    }

    fn send(&self, message: ToHost) -> Result<(), PlaneError> {
        self.shared.line().send(message)
    }

    /// Sends a numbered question; its answer will be at the receiver.
    fn ask(&self, question: impl FnOnce(u64) -> ToHost) -> Result<(u64, oneshot::Receiver<Reply>), PlaneError> {
        let (waiter, reply) = oneshot::channel();
        let seq = {
            let mut link = self.shared.link();
            if !link.attached {
                return Err(PlaneError::Away(NAME));
            }
            let seq = link.number();
            link.waiting.insert(seq, waiter);
            seq
        };
        if let Err(error) = self.send(question(seq)) {
            self.shared.link().waiting.remove(&seq);
            return Err(error);
        }
        Ok((seq, reply))
    }

    async fn answer(&self, asked: (u64, oneshot::Receiver<Reply>)) -> Reply {
        self.answer_within(ANSWER_TIME, asked).await
    }

    async fn answer_within(&self, time: Duration, (seq, reply): (u64, oneshot::Receiver<Reply>)) -> Reply {
        match tokio::time::timeout(time, reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => {
                self.shared.link().waiting.remove(&seq);
                Err(PlaneError::Unknown(NAME))
            }
        }
    }

    /// The answer to changes: where there is none in time, the host is late with it.
    async fn answer_to_changes(&self, (seq, mut reply): (u64, oneshot::Receiver<Reply>)) -> Reply {
        if let Ok(reply) = tokio::time::timeout(ANSWER_TIME, &mut reply).await {
            return reply.unwrap_or(Err(PlaneError::Unknown(NAME)));
        }
        {
            let mut link = self.shared.link();
            if link.waiting.remove(&seq).is_some() {
                if link.state() != PlaneState::Ready {
                    return Err(PlaneError::Unknown(NAME));
                }
                link.late.insert(seq);
                return Err(PlaneError::Late(NAME));
            }
        }
        // It came this moment.
        reply.await.unwrap_or(Err(PlaneError::Unknown(NAME)))
    }

    async fn synchronise_now(&self, sessions: Box<dyn Iterator<Item = Session> + Send + '_>) -> Result<(), PlaneError> {
        let instance = self.hello().await?;
        self.send(ToHost::SyncBegin)?;
        let mut sessions = sessions.peekable();
        let (mut on_their_way, mut sent) = (VecDeque::new(), 0);
        while sessions.peek().is_some() {
            let changes = next_sync_batch(&mut sessions);
            let before = sent;
            sent += changes.len();
            if sent / SYNC_PROGRESS > before / SYNC_PROGRESS {
                tracing::info!(sessions = sent, "synchronising the host data plane");
            }
            on_their_way.push_back(self.ask(|seq| ToHost::Apply { seq, changes })?);
            if on_their_way.len() == SYNC_WINDOW
                && let Some(oldest) = on_their_way.pop_front()
            {
                applied(self.answer(oldest).await?)?;
            }
        }
        for batch in on_their_way {
            applied(self.answer(batch).await?)?;
        }
        let end = self.ask(|seq| ToHost::SyncEnd { seq })?;
        applied(self.answer_within(SYNC_END_TIME, end).await?)?;
        let mut link = self.shared.link();
        if !link.attached || link.instance != Some(instance) {
            return Err(PlaneError::Unknown(NAME));
        }
        link.synchronised = true;
        Ok(())
    }

    /// Which start of the host this is; waits a little for it to say so.
    async fn hello(&self) -> Result<u64, PlaneError> {
        let wait = async {
            loop {
                let said = self.shared.said_hello.notified();
                let (attached, instance) = {
                    let link = self.shared.link();
                    (link.attached, link.instance)
                };
                match instance {
                    _ if !attached => return Err(PlaneError::Away(NAME)),
                    Some(instance) => return Ok(instance),
                    None => said.await,
                }
            }
        };
        tokio::time::timeout(HELLO_TIME, wait)
            .await
            .unwrap_or(Err(PlaneError::Unknown(NAME)))
    }
}

fn next_sync_batch(sessions: &mut std::iter::Peekable<impl Iterator<Item = Session>>) -> Vec<Change> {
    let (mut changes, mut rules) = (Vec::new(), 0);
    while changes.len() < SYNC_SESSIONS
        && let Some(session) = sessions.next_if(|s| changes.is_empty() || rules + size(s) <= SYNC_RULES)
    {
        rules += size(&session);
        changes.push(Change::Put {
            session,
            end_markers: Vec::new(),
            discard_buffered: Vec::new(),
        });
    }
    changes
}

/// Rules and filters of a session.
fn size(session: &Session) -> usize {
    let filters: usize = session.pdrs.iter().map(|p| p.pdi.sdf.len()).sum();
    session.pdrs.len() + filters + session.fars.len() + session.qers.len() + session.urrs.len()
}

fn applied(reply: FromHost) -> Result<Vec<SessionUsage>, PlaneError> {
    match reply {
        FromHost::Applied {
            error: None, removed, ..
        } => Ok(removed),
        FromHost::Applied {
            error: Some(message), ..
        } => Err(PlaneError::Refused { plane: NAME, message }),
        _ => Err(PlaneError::Unknown(NAME)),
    }
}

/// A number that no earlier start of a controller had.
fn start_number() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

impl DataPlane for HostPlane {
    fn name(&self) -> &'static str {
        NAME
    }

    fn state(&self) -> PlaneState {
        self.shared.link().state()
    }

    fn instance(&self) -> u64 {
        self.shared.link().instance.unwrap_or(0)
    }

    fn check(&self, _changes: &[Change], sessions: usize) -> Result<(), PlaneError> {
        let link = self.shared.link();
        if link.state() != PlaneState::Ready {
            return Err(PlaneError::Away(NAME));
        }
        if !link.late.is_empty() {
            return Err(PlaneError::Behind(NAME));
        }
        if sessions > link.max_sessions as usize {
            let message = format!("it has room for {} sessions", link.max_sessions);
            return Err(PlaneError::Full { plane: NAME, message });
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            if self.state() != PlaneState::Ready {
                return Err(PlaneError::Away(NAME));
            }
            let asked = self.ask(|seq| ToHost::Apply { seq, changes })?;
            applied(self.answer_to_changes(asked).await?)
        })
    }

    fn retract(&self, undo: Vec<Change>) {
        let seq = {
            let mut link = self.shared.link();
            if link.state() != PlaneState::Ready {
                // The synchronisation that is due puts everything right.
                return;
            }
            let seq = link.number();
            link.late.insert(seq);
            seq
        };
        if self.send(ToHost::Apply { seq, changes: undo }).is_err() {
            self.shared.distrust();
        }
    }

    fn is_behind(&self) -> bool {
        !self.shared.link().late.is_empty()
    }

    fn catch_up(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let caught_up = async {
                loop {
                    let next = self.shared.caught_up.notified();
                    tokio::pin!(next);
                    next.as_mut().enable();
                    if !self.is_behind() {
                        return;
                    }
                    next.await;
                }
            };
            let in_time = tokio::time::timeout(ANSWER_TIME, caught_up).await;
            in_time.map_err(|_| PlaneError::Behind(NAME))
        })
    }

    fn synchronise<'a>(&'a self, sessions: Box<dyn Iterator<Item = Session> + Send + 'a>) -> Answer<'a, ()> {
        Box::pin(self.synchronise_now(sessions))
    }

    fn distrust(&self) {
        self.shared.distrust();
    }

    fn usage(&self, sessions: Vec<SessionId>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            let mut usage = Vec::with_capacity(sessions.len());
            for sessions in sessions.chunks(USAGE_SESSIONS) {
                let asked = self.ask(|seq| ToHost::QueryUsage {
                    seq,
                    sessions: sessions.to_vec(),
                })?;
                match self.answer(asked).await? {
                    FromHost::Usage { sessions, .. } => usage.extend(sessions),
                    _ => return Err(PlaneError::Unknown(NAME)),
                }
            }
            Ok(usage)
        })
    }

    fn tell_neighbours(&self) {
        if self.state() == PlaneState::Ready {
            // Gone meanwhile: asked again when it is back.
            let _ = self.send(ToHost::QueryNeighbours);
        }
    }

    fn counters(&self) -> Answer<'_, HostCounters> {
        Box::pin(async move {
            let asked = self.ask(|seq| ToHost::QueryCounters { seq })?;
            match self.answer(asked).await? {
                FromHost::Counters { counters, .. } => Ok(counters),
                _ => Err(PlaneError::Unknown(NAME)),
            }
        })
    }
}

impl Drop for HostPlane {
    fn drop(&mut self) {
        self.shared.link().closing = true;
        self.waker.wake();
    }
}
