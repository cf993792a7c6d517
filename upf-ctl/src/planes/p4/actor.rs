//! The task that has the target: its state, its loop and its clock.
//!
//! While there is no connection, changes are noted in the session map and answered at once. While there is one, every
//! call of the target has a time limit; a call that fails ends the connection as far as this task is concerned, and the
//! next one begins with a synchronisation.

use super::account::{Account, Reading, Retired};
use super::figures::{DescribedFlow, Description};
use super::target::{Target, TargetError, TargetEvent, WriteFailure};
use super::{Shared, account, lock};
use crate::placement::{Action, Freed, HostReason, Ids, Key, Place, SessionPlan, Table, TargetSizes, World, Write};
use qos::BurstPolicy;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use upf_model::batch::{Change, Count, Event, FlowPacket, HostCounters, SessionUsage};
use upf_model::{Session, SessionId};

/// After a switch: no packet is on its way any more that has found the old entry.
pub const GRACE: Duration = Duration::from_millis(10);
/// The longest that the target may take for one call.
pub const CALL_TIME: Duration = Duration::from_secs(2);
/// The longest that it may take to start a program.
const PREPARE_TIME: Duration = Duration::from_secs(30);
/// Updates in one Write.
pub const WRITE_BATCH: usize = 512;
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
/// A usage poll reads counters for this long, so that requests need not wait longer; sessions go by turns.
const MEASURE_TIME: Duration = Duration::from_millis(250);
/// Sessions whose counters are read at once.
const MEASURED_AT_ONCE: usize = 512;
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

/// What is left of an old plan until no packet can be on its way to it.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    pub keys: Vec<Key>,
    pub freed: Freed,
    pub retired: Vec<(SessionId, Retired)>,
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
    measured: SessionId,
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
                let known = sessions.iter().filter_map(|id| Some((id, self.sessions.get(id)?)));
                let _ = reply.send(known.map(|(id, resident)| resident.account.usage(*id)).collect());
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
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return Ended::Closed,
                },
                event = self.target.event() => match event {
                    TargetEvent::Lost => Err(TargetError::Lost("the connection broke".into())),
                    TargetEvent::Idle(flows) => self.idle(flows).await,
                },
                () = tokio::time::sleep_until(timer) => self.timer().await,
            };
            if let Err(error) = outcome {
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
                let outcome = self.measure(&sessions).await;
                self.note(Command::Usage { sessions, reply });
                outcome
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

    /// Writes in batches. Returns the places of writes that took no effect; counts entries.
    pub async fn write(&mut self, writes: Vec<Write>) -> Result<Vec<(usize, WriteFailure)>, TargetError> {
        let mut failed = Vec::new();
        for (batch, chunk) in writes.chunks(WRITE_BATCH).enumerate() {
            let start = Instant::now();
            let failures = in_time(CALL_TIME, self.target.write(chunk.to_vec())).await?;
            {
                let mut figures = lock(&self.shared.figures);
                figures.write_latency.record(start.elapsed());
                figures.updates += chunk.len() as u64;
                figures.failed_updates += failures.len() as u64;
            }
            for (place, write) in chunk.iter().enumerate() {
                if failures.iter().any(|(at, _)| *at == place) {
                    continue;
                }
                match write {
                    Write::Insert(entry) => self.used[entry.key.table() as usize] += 1,
                    Write::Delete(key) => {
                        let used = &mut self.used[key.table() as usize];
                        *used = used.saturating_sub(1);
                    }
                    Write::Modify(_) | Write::Meter(..) => {}
                }
            }
            failed.extend(
                failures
                    .into_iter()
                    .map(|(at, failure)| (batch * WRITE_BATCH + at, failure)),
            );
        }
        Ok(failed)
    }

    /// Deletes entries that are there.
    pub async fn delete(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<(), TargetError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        let failed = self.write(keys.iter().map(|key| Write::Delete(*key)).collect()).await?;
        match failed.first() {
            None => Ok(()),
            Some((place, _)) => Err(TargetError::Lost(format!("{:?} was not deleted", keys[*place]))),
        }
    }

    /// Deletes what nothing refers to any more, and takes last readings.
    pub async fn clean_up(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        while self.cleanups.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, cleanup)) = self.cleanups.pop_front() else {
                break;
            };
            if let Err(error) = self.clean(&cleanup).await {
                // The synchronisation frees its numbers.
                self.cleanups.push_front((at, cleanup));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn clean(&mut self, cleanup: &Cleanup) -> Result<(), TargetError> {
        self.read_last(&cleanup.retired).await?;
        self.delete(cleanup.keys.iter().copied()).await?;
        if let Some(ids) = &mut self.ids {
            ids.free(cleanup.freed.clone());
            let cells = cleanup
                .retired
                .iter()
                .map(|(_, r)| (crate::placement::ids::Kind::Cell, r.cell()));
            ids.free(Freed(cells.collect()));
        }
        Ok(())
    }

    /// Takes the last readings of cells that were given up.
    pub async fn read_last(&mut self, retired: &[(SessionId, Retired)]) -> Result<(), TargetError> {
        if retired.is_empty() {
            return Ok(());
        }
        let cells: Vec<u32> = retired.iter().map(|(_, r)| r.cell()).collect();
        let before: Vec<Reading> = retired.iter().map(|(_, r)| r.last()).collect();
        let readings = in_time(CALL_TIME, account::read(&mut self.target, &cells, &before)).await?;
        let now = now_ns();
        for ((id, retired), reading) in retired.iter().zip(readings) {
            self.spent.insert(retired.cell(), reading);
            self.uncertain.remove(&retired.cell());
            if let Some(resident) = self.sessions.get_mut(id) {
                resident.account.read_last(retired.clone(), reading, now);
            }
        }
        Ok(())
    }

    /// Reads the counters of sessions: of as many as there is time for, those first that were left out last time.
    async fn measure(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let start = Instant::now();
        let mut known: Vec<SessionId> = sessions
            .iter()
            .filter(|id| self.sessions.contains_key(id))
            .copied()
            .collect();
        known.sort_unstable();
        let first = known.partition_point(|id| *id <= self.measured);
        known.rotate_left(first);
        for chunk in known.chunks(MEASURED_AT_ONCE) {
            if start.elapsed() > MEASURE_TIME {
                return Ok(());
            }
            self.measure_all(chunk).await?;
            self.measured = chunk.last().copied().unwrap_or_default();
        }
        self.measured = SessionId(0);
        Ok(())
    }

    async fn measure_all(&mut self, sessions: &[SessionId]) -> Result<(), TargetError> {
        let (mut cells, mut before) = (Vec::new(), Vec::new());
        for id in sessions {
            for (cell, last) in self.sessions[id].account.cells() {
                cells.push(cell);
                before.push(last);
            }
        }
        if cells.is_empty() {
            return Ok(());
        }
        let readings = in_time(CALL_TIME, account::read(&mut self.target, &cells, &before)).await?;
        let (now, mut at) = (now_ns(), 0);
        for id in sessions {
            let Some(resident) = self.sessions.get_mut(id) else {
                continue;
            };
            let count = resident.account.cells().count();
            resident
                .account
                .read(resident.plan.as_ref(), &readings[at..at + count], now);
            at += count;
        }
        Ok(())
    }

    /// What counters stand at that cells are given out with.
    pub async fn bases(&mut self, cells: &[u32]) -> Result<HashMap<u32, Reading>, TargetError> {
        let (mut bases, mut unknown) = (HashMap::new(), Vec::new());
        for cell in cells {
            if self.uncertain.contains(cell) {
                unknown.push(*cell);
            } else if let Some(reading) = self.spent.get(cell) {
                bases.insert(*cell, *reading);
            } else if self.virgin {
                bases.insert(*cell, Reading::default());
            } else {
                unknown.push(*cell);
            }
        }
        if !unknown.is_empty() {
            let readings = in_time(CALL_TIME, account::read(&mut self.target, &unknown, &[])).await?;
            bases.extend(unknown.into_iter().zip(readings));
        }
        Ok(bases)
    }

    /// In the form of the host's: what the target dropped and what it punted, by reason.
    fn counters(&self) -> HostCounters {
        let used: BTreeMap<_, _> = Table::ALL.iter().map(|t| (t.name(), self.used[*t as usize])).collect();
        let mut figures = lock(&self.shared.figures);
        figures.flows = self.used[Table::Flows as usize];
        figures.entries = used;
        let mut counters = HostCounters {
            sessions: self.sessions.values().filter(|r| r.plan.is_some()).count() as u64,
            ..HostCounters::default()
        };
        let mut limited = Count::default();
        for left in &figures.left {
            if left.reason.is_drop() {
                counters.drops.push((left.reason.name().into(), left.count));
            } else {
                let punted = Count {
                    packets: left.count.packets.saturating_sub(left.limited.packets),
                    bytes: left.count.bytes.saturating_sub(left.limited.bytes),
                };
                counters.punts.push((left.reason.name().into(), punted));
            }
            limited += left.limited;
        }
        counters
            .drops
            .push((upf_model::punt::PuntReason::Limited.name().into(), limited));
        counters
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
