//! The task that has the target: its state, its loop and its clock.
//!
//! While there is no connection, changes are noted in the session map and answered at once. While there is one, every
//! call of the target has a time limit; a call that fails ends the connection as far as this task is concerned, and the
//! next one begins with a synchronisation.

use super::account::{Account, Reading};
use super::counting::Measuring;
use super::figures::{DescribedFlow, Description};
use super::target::{Target, TargetError, TargetEvent};
use super::writes::Cleanup;
use super::{Shared, lock};
use crate::placement::{Action, Freed, HostReason, Ids, Key, Place, SessionPlan, Table, TargetSizes, World};
use qos::BurstPolicy;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use upf_model::batch::{Change, Event, FlowPacket, HostCounters, SessionUsage};
use upf_model::{Session, SessionId};

/// After a switch: no packet is on its way any more that has found the old entry.
pub const GRACE: Duration = Duration::from_millis(10);
/// The longest that the target may take for one call.
pub const CALL_TIME: Duration = Duration::from_secs(2);
/// The longest that it may take to start a program.
const PREPARE_TIME: Duration = Duration::from_secs(30);
/// Updates in one Write.
pub const WRITE_BATCH: usize = 512;
/// Between two looks whether sessions have been given.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two tries to synchronise.
const RETRY: Duration = Duration::from_millis(500);
/// Between two tries to place a session that did not fit, and how many are tried at once.
const PLACE_AGAIN: Duration = Duration::from_secs(5);
const PLACED_AT_ONCE: usize = 64;
/// Flows are gathered for this long, or until there are so many.
pub const FLOW_WAIT: Duration = Duration::from_millis(1);
/// See [`FLOW_WAIT`].
pub const FLOW_BATCH: usize = 256;
/// Between two looks at idle flows, and at some sessions' entries.
const LOOK_FLOWS: Duration = Duration::from_secs(1);
const LOOK_SESSIONS: Duration = Duration::from_secs(5);
/// Sessions looked at each time.
const LOOKED_AT: usize = 64;

/// What the plane's handle asks.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Command {
    Apply {
        changes: Vec<Change>,
        reply: oneshot::Sender<Vec<SessionUsage>>,
    },
    Synchronise {
        sessions: Vec<Arc<Session>>,
    },
    Usage {
        sessions: Vec<SessionId>,
        reply: oneshot::Sender<Vec<SessionUsage>>,
    },
    Counters(oneshot::Sender<HostCounters>),
    Event(Event),
    NearThreshold(Vec<(SessionId, bool)>),
    Describe(SessionId, oneshot::Sender<Option<Description>>),
}

/// A flow that is in the target.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// The packet that made it: what it is classified by when rules change.
    pub packet: FlowPacket,
    /// Its packets when they were counted last, and since when it has been as many.
    pub hits: u64,
    pub since: Instant,
}

/// A session, with what of it is in the target.
#[derive(Debug)]
pub(super) struct Resident {
    pub session: Arc<Session>,
    /// What the target has, or is to have after the next synchronisation; none: nothing.
    pub plan: Option<SessionPlan>,
    pub account: Account,
    pub flows: HashMap<Key, Flow>,
    /// It is to stay at the host: near a volume threshold.
    pub near: bool,
    /// It did not fit, or the target failed it: to be tried again.
    pub stuck: Option<HostReason>,
}

impl Resident {
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            plan: None,
            account: Account::default(),
            flows: HashMap::new(),
            near: false,
            stuck: None,
        }
    }

    pub fn forced(&self) -> Option<HostReason> {
        self.near.then_some(HostReason::NearThreshold)
    }

    fn place(&self) -> Place {
        match (&self.plan, self.stuck) {
            (None, stuck) => Place::OnHost(stuck.unwrap_or(HostReason::NoRule)),
            (Some(plan), _) => plan.place(),
        }
    }
}

/// The task.
pub(super) struct Actor<T> {
    pub target: T,
    pub world: World,
    pub burst: BurstPolicy,
    pub shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    pub ids: Option<Ids>,
    first_epoch: u32,
    pub sizes: Option<TargetSizes>,
    pub sessions: BTreeMap<SessionId, Resident>,
    /// Entries that belong to no session, as the target has them.
    pub infrastructure: BTreeMap<Key, Action>,
    /// Entries in the target, by table.
    pub used: [u64; Table::ALL.len()],
    pub cleanups: VecDeque<(Instant, Cleanup)>,
    /// Plans of sessions that went while they could not be deleted.
    pub orphans: Vec<SessionPlan>,
    /// Numbers that are free after a synchronisation that succeeds.
    pub unfreed: Freed,
    pub waiting_flows: Vec<upf_model::batch::Flow>,
    /// Every flow, in the order in which they are looked at.
    pub clock: VecDeque<(SessionId, Key)>,
    /// The counters started from zero under this task, so that a cell never used stands at zero.
    pub virgin: bool,
    /// What free cells stand at.
    pub spent: HashMap<u32, Reading>,
    /// Free cells of which that is not known.
    pub uncertain: HashSet<u32>,
    pub neighbours_changed: bool,
    flush_at: Option<Instant>,
    synchronised_at: Option<Instant>,
    place_again_at: Instant,
    look_at_flows: Instant,
    look_at_sessions: Instant,
    looked_at: SessionId,
    /// The last session whose counters were read, if others were left out.
    pub measured: SessionId,
    pub measuring: Option<Measuring>,
}

/// Why serving ended.
enum Ended {
    /// The plane's handle is gone.
    Closed,
    /// The connection is to be made, or its other end to be read, again.
    Lost,
}

pub(super) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// Bounds a call.
pub(super) async fn in_time<R>(
    at_most: Duration,
    call: impl Future<Output = Result<R, TargetError>>,
) -> Result<R, TargetError> {
    tokio::time::timeout(at_most, call)
        .await
        .unwrap_or(Err(TargetError::Late))
}

impl<T: Target> Actor<T> {
    pub fn new(
        target: T,
        world: World,
        burst: BurstPolicy,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        first_epoch: u32,
    ) -> Self {
        let now = Instant::now();
        Self {
            target,
            world,
            burst,
            shared,
            commands,
            ids: None,
            first_epoch,
            sizes: None,
            sessions: BTreeMap::new(),
            infrastructure: BTreeMap::new(),
            used: [0; Table::ALL.len()],
            cleanups: VecDeque::new(),
            orphans: Vec::new(),
            unfreed: Freed::default(),
            waiting_flows: Vec::new(),
            clock: VecDeque::new(),
            virgin: false,
            spent: HashMap::new(),
            uncertain: HashSet::new(),
            neighbours_changed: false,
            flush_at: None,
            synchronised_at: None,
            place_again_at: now + PLACE_AGAIN,
            look_at_flows: now + LOOK_FLOWS,
            look_at_sessions: now + LOOK_SESSIONS,
            looked_at: SessionId(0),
            measured: SessionId(0),
            measuring: None,
        }
    }

    /// Until the plane's handle is dropped.
    pub async fn run(mut self) {
        while self.connect().await {
            match self.serve().await {
                Ended::Closed => return,
                Ended::Lost => self.set_synchronised(false),
            }
        }
    }

    fn set_synchronised(&self, synchronised: bool) {
        self.shared.synchronised.store(synchronised, Ordering::Release);
    }

    /// Waits for sessions and a target, and brings the target in step. False: the handle is gone.
    async fn connect(&mut self) -> bool {
        // A target that is found wrong again and again is not synchronised all the time.
        let mut not_before = self.synchronised_at.map_or(Instant::now(), |at| at + RETRY);
        loop {
            let given = self.shared.given.load(Ordering::Acquire);
            let due = Instant::now() >= not_before;
            tokio::select! {
                // A target is never brought in step with sessions that are still in the queue.
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.note(command),
                    None => return false,
                },
                () = self.target.connected(), if given && due => {
                    match self.prepare_and_synchronise().await {
                        Ok(()) => {
                            self.set_synchronised(true);
                            self.synchronised_at = Some(Instant::now());
                            return true;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the P4 target cannot be synchronised; trying again");
                            not_before = Instant::now() + RETRY;
                        }
                    }
                }
                () = tokio::time::sleep_until(not_before), if given && !due => {}
                // That sessions are given is said a moment after they came, by nothing that wakes this task.
                () = tokio::time::sleep(LOOK_AGAIN), if !given => {}
            }
            self.caught_up();
        }
    }

    async fn prepare_and_synchronise(&mut self) -> Result<(), TargetError> {
        let ready = in_time(PREPARE_TIME, self.target.prepare()).await?;
        let sizes = ready.sizes.clone();
        let first = self.ids.is_none();
        if first {
            self.ids = Some(Ids::new(sizes.cells, sizes.meters, self.first_epoch));
        }
        self.sizes = Some(sizes);
        self.synchronise(ready.fresh, first).await
    }

    fn caught_up(&self) {
        if self.commands.is_empty() {
            self.shared.behind.store(false, Ordering::Release);
        }
    }

    /// A command while there is no target: what it asks for is done at the next synchronisation.
    fn note(&mut self, command: Command) {
        match command {
            Command::Apply { changes, reply } => {
                let mut usage = Vec::new();
                for change in changes {
                    match change {
                        Change::Put { session, .. } => self.note_session(Arc::new(session)),
                        Change::Remove { id } => usage.extend(self.forget(id)),
                    }
                }
                // The request may have been answered without us.
                let _ = reply.send(usage);
            }
            Command::Synchronise { sessions } => self.take_over(sessions),
            Command::Usage { sessions, reply } => {
                self.begin_measuring(sessions, reply);
                self.end_measuring();
            }
            Command::Counters(reply) => {
                let _ = reply.send(self.counters());
            }
            Command::Event(Event::Neighbour(neighbour)) => {
                self.world.learn(&neighbour);
            }
            Command::Event(_) => {}
            Command::NearThreshold(sessions) => {
                for (id, near) in sessions {
                    if let Some(resident) = self.sessions.get_mut(&id) {
                        resident.near = near;
                    }
                }
            }
            Command::Describe(id, reply) => {
                let _ = reply.send(self.describe(id));
            }
        }
    }

    fn note_session(&mut self, session: Arc<Session>) {
        let id = session.id;
        match self.sessions.get_mut(&id) {
            Some(resident) if resident.session.seid == session.seid => resident.session = session,
            _ => {
                // Another session in the same slot has nothing to do with the one before.
                self.forget(id);
                self.sessions.insert(id, Resident::new(session));
                self.show_place(id);
            }
        }
    }

    /// Drops a session; its entries go at the next synchronisation.
    fn forget(&mut self, id: SessionId) -> Option<SessionUsage> {
        let resident = self.sessions.remove(&id)?;
        self.orphans.extend(resident.plan);
        self.show_place(id);
        Some(resident.account.usage(id))
    }

    fn take_over(&mut self, sessions: Vec<Arc<Session>>) {
        let there: HashSet<SessionId> = sessions.iter().map(|s| s.id).collect();
        let gone: Vec<SessionId> = self.sessions.keys().filter(|id| !there.contains(id)).copied().collect();
        for id in gone {
            self.forget(id);
        }
        for session in sessions {
            self.note_session(session);
        }
    }

    /// Where a session lives now, for who asks.
    pub fn show_place(&self, id: SessionId) {
        let place = self.sessions.get(&id).map(Resident::place);
        let mut places = lock(&self.shared.places);
        let before = match place {
            Some(place) => places.insert(id, place),
            None => places.remove(&id),
        };
        drop(places);
        if before != place {
            lock(&self.shared.figures).moved(before, place);
        }
    }

    /// Serves while the target follows.
    async fn serve(&mut self) -> Ended {
        loop {
            let timer = self.next_timer();
            let outcome = tokio::select! {
                // Counters are read while there is nothing else to do.
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return Ended::Closed,
                },
                event = self.target.event() => match event {
                    TargetEvent::Lost => Err(TargetError::Lost("the connection broke".into())),
                    TargetEvent::Idle(flows) => self.idle(flows).await,
                },
                () = tokio::time::sleep_until(timer) => self.timer().await,
                () = std::future::ready(()), if self.measuring.is_some() => self.measure_some().await,
            };
            if let Err(error) = outcome {
                self.end_measuring();
                tracing::warn!(%error, "the P4 target is to be synchronised");
                return Ended::Lost;
            }
            self.caught_up();
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), TargetError> {
        match command {
            Command::Apply { changes, reply } => {
                let (usage, outcome) = self.apply(changes).await;
                // The request may have been answered without us.
                let _ = reply.send(usage);
                outcome
            }
            Command::Usage { sessions, reply } => {
                self.begin_measuring(sessions, reply);
                Ok(())
            }
            Command::Counters(reply) => {
                let left = in_time(CALL_TIME, self.target.left()).await?;
                lock(&self.shared.figures).left = left;
                self.note(Command::Counters(reply));
                Ok(())
            }
            Command::Event(Event::Flow(flow)) => {
                self.waiting_flows.push(flow);
                self.flush_soon();
                if self.waiting_flows.len() >= FLOW_BATCH {
                    self.flush().await?;
                }
                Ok(())
            }
            Command::Event(Event::Neighbour(neighbour)) => {
                if self.world.learn(&neighbour) {
                    self.neighbours_changed = true;
                    self.flush_soon();
                }
                Ok(())
            }
            Command::NearThreshold(sessions) => {
                let changed = |(id, near): &(SessionId, bool)| self.sessions.get(id).is_some_and(|r| r.near != *near);
                let moving: Vec<SessionId> = sessions.iter().filter(|s| changed(s)).map(|(id, _)| *id).collect();
                self.note(Command::NearThreshold(sessions));
                self.replan(&moving).await
            }
            Command::Synchronise { .. } => {
                self.note(command);
                Err(TargetError::Lost("a synchronisation was asked for".into()))
            }
            other => {
                self.note(other);
                Ok(())
            }
        }
    }

    fn flush_soon(&mut self) {
        self.flush_at.get_or_insert(Instant::now() + FLOW_WAIT);
    }

    fn next_timer(&self) -> Instant {
        let fixed = self.place_again_at.min(self.look_at_flows).min(self.look_at_sessions);
        let cleanup = self.cleanups.front().map(|(at, _)| *at);
        [cleanup, self.flush_at].into_iter().flatten().fold(fixed, Instant::min)
    }

    async fn timer(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush().await?;
        }
        self.clean_up().await?;
        if self.place_again_at <= now {
            self.place_again_at = now + PLACE_AGAIN;
            // Nobody is looked for where nobody is known to be.
            let any = lock(&self.shared.figures).any_stuck();
            if any {
                let stuck = self.sessions.iter().filter(|(_, r)| r.stuck.is_some());
                let stuck: Vec<SessionId> = stuck.map(|(id, _)| *id).take(PLACED_AT_ONCE).collect();
                self.replan(&stuck).await?;
            }
        }
        if self.look_at_flows <= now {
            self.look_at_flows = now + LOOK_FLOWS;
            self.evict_idle().await?;
        }
        if self.look_at_sessions <= now {
            self.look_at_sessions = now + LOOK_SESSIONS;
            self.look_at_some_sessions().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TargetError> {
        self.flush_at = None;
        if std::mem::take(&mut self.neighbours_changed) {
            self.follow_neighbours().await?;
        }
        self.promote().await
    }

    /// Compares what is there with what should be, for entries of no session and of the next few sessions.
    async fn look_at_some_sessions(&mut self) -> Result<(), TargetError> {
        let next = (Bound::Excluded(self.looked_at), Bound::Unbounded);
        let ids: Vec<SessionId> = self.sessions.range(next).map(|(id, _)| *id).take(LOOKED_AT).collect();
        self.looked_at = ids.last().copied().unwrap_or(SessionId(0));
        let infrastructure = self.infrastructure.iter();
        let mut entries: Vec<_> = infrastructure
            .map(|(key, action)| crate::placement::Entry::new(*key, action.clone()))
            .collect();
        let plans = ids.iter().filter_map(|id| self.sessions.get(id)?.plan.as_ref());
        entries.extend(plans.flat_map(SessionPlan::entries));
        let wrong = in_time(CALL_TIME, self.target.check(entries)).await?;
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(TargetError::Lost(format!(
                "{} entries are not as they were written",
                wrong.len()
            )))
        }
    }

    fn describe(&self, id: SessionId) -> Option<Description> {
        let resident = self.sessions.get(&id)?;
        let plan = resident.plan.as_ref();
        Some(Description {
            place: resident.place(),
            modes: plan.map(|p| p.modes().collect()).unwrap_or_default(),
            entries: plan.map(SessionPlan::entries).unwrap_or_default(),
            flows: resident
                .flows
                .iter()
                .map(|(key, flow)| DescribedFlow::new(*key, &flow.packet))
                .collect(),
        })
    }
}
