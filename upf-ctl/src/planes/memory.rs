//! A data plane that is a map: for tests of the controller. It can be told to fail and to pretend traffic.

use super::{Answer, DataPlane, PlaneError, PlaneEvent, PlaneEvents, PlaneState};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use upf_model::batch::{Change, Count, DelayUsage, Event, HostCounters, SessionUsage, UrrUsage};
use upf_model::{PdrId, Qfi, Session, SessionId, UrrId};

/// How the next batch shall end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Refused: nothing takes effect.
    Refuse,
    /// Applied, but the answer is lost.
    LoseAnswer,
    /// Not answered in time: applied by [`MemoryPlane::get_on`], or before what comes next.
    Late,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<SessionId, Session>,
    usage: BTreeMap<(SessionId, UrrId), UrrUsage>,
    pdrs: BTreeMap<(SessionId, PdrId), Count>,
    delays: BTreeMap<(SessionId, Qfi), DelayUsage>,
    failures: VecDeque<Option<Failure>>,
    late: Vec<Change>,
    synchronisations: usize,
    applied: Vec<Change>,
    away: bool,
    distrusted: bool,
    instance: u64,
}

/// A data plane in memory.
#[derive(Debug)]
pub struct MemoryPlane {
    inner: Mutex<Inner>,
    events: PlaneEvents,
}

impl MemoryPlane {
    /// Empty and ready.
    pub fn new(events: PlaneEvents) -> Self {
        let plane = Self {
            inner: Mutex::new(Inner {
                distrusted: true,
                instance: 1,
                ..Inner::default()
            }),
            events,
        };
        plane.wants_synchronisation();
        plane
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants_synchronisation(&self) {
        // Nobody listening: the controller is shutting down.
        let _ = self.events.send(PlaneEvent::WantsSynchronisation(0));
    }

    /// How the next batches shall end; `None`: well.
    pub fn fail(&self, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.lock().failures.extend(failures);
    }

    /// Does all that it was late with.
    pub fn get_on(&self) {
        self.lock().get_on();
        let _ = self.events.send(PlaneEvent::CaughtUp(0));
    }

    /// Goes away or comes back; whoever comes back has lost everything.
    pub fn set_away(&self, away: bool) {
        let mut inner = self.lock();
        inner.away = away;
        inner.distrusted = true;
        inner.late.clear();
        if away {
            let _ = self.events.send(PlaneEvent::Gone(0));
        } else {
            inner.sessions.clear();
            inner.usage.clear();
            inner.pdrs.clear();
            inner.delays.clear();
            inner.instance += 1;
            self.wants_synchronisation();
        }
    }

    /// The sessions it has.
    pub fn sessions(&self) -> Vec<Session> {
        self.lock().sessions.values().cloned().collect()
    }

    /// How often it was synchronised.
    pub fn synchronisations(&self) -> usize {
        self.lock().synchronisations
    }

    /// Every change applied since the last call, in order.
    pub fn take_applied(&self) -> Vec<Change> {
        std::mem::take(&mut self.lock().applied)
    }

    /// Pretends that a URR has measured this much since its session was put.
    pub fn measure(&self, session: SessionId, urr: UrrId, usage: UrrUsage) {
        self.lock().usage.insert((session, urr), usage);
    }

    /// Pretends that a PDR has detected so many more packets.
    pub fn detect(&self, session: SessionId, pdr: PdrId, count: Count) {
        *self.lock().pdrs.entry((session, pdr)).or_default() += count;
    }

    /// Pretends that monitoring of a QoS flow has found this so far.
    pub fn monitor(&self, session: SessionId, qfi: Qfi, delay: DelayUsage) {
        self.lock().delays.insert((session, qfi), delay);
    }

    /// Pretends that something happened.
    pub fn happen(&self, event: Event) {
        let _ = self.events.send(PlaneEvent::Traffic(event));
    }
}

impl Inner {
    fn usage_of(&self, session: &Session) -> SessionUsage {
        let urrs = session
            .urrs
            .iter()
            .map(|u| (u.id, self.usage.get(&(session.id, u.id)).copied().unwrap_or_default()));
        SessionUsage {
            session: session.id,
            urrs: urrs.collect(),
            pdrs: session
                .pdrs
                .iter()
                .map(|pdr| {
                    (
                        pdr.id,
                        self.pdrs.get(&(session.id, pdr.id)).copied().unwrap_or_default(),
                    )
                })
                .collect(),
            delays: self
                .delays
                .range((session.id, Qfi(0))..=(session.id, Qfi(63)))
                .map(|((_, qfi), delay)| (*qfi, *delay))
                .collect(),
            ..SessionUsage::default()
        }
    }

    fn get_on(&mut self) {
        for change in std::mem::take(&mut self.late) {
            self.apply(&change);
        }
    }

    fn apply(&mut self, change: &Change) -> Option<SessionUsage> {
        self.applied.push(change.clone());
        match change {
            Change::Put { session, .. } => {
                self.sessions.insert(session.id, session.clone());
                None
            }
            Change::Remove { id } => {
                let session = self.sessions.remove(id)?;
                let usage = self.usage_of(&session);
                self.usage.retain(|(s, _), _| s != id);
                Some(usage)
            }
        }
    }
}

impl DataPlane for MemoryPlane {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn state(&self) -> PlaneState {
        let inner = self.lock();
        match (inner.away, inner.distrusted) {
            (true, _) => PlaneState::Away,
            (false, true) => PlaneState::Unsynchronised,
            (false, false) => PlaneState::Ready,
        }
    }

    fn instance(&self) -> u64 {
        self.lock().instance
    }

    fn check(&self, _changes: &[Change], _sessions: usize) -> Result<(), PlaneError> {
        match self.state() {
            PlaneState::Ready if self.is_behind() => Err(PlaneError::Behind(self.name())),
            PlaneState::Ready => Ok(()),
            _ => Err(PlaneError::Away(self.name())),
        }
    }

    fn apply(&self, changes: Vec<Change>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            if self.state() != PlaneState::Ready {
                return Err(PlaneError::Away(self.name()));
            }
            let mut inner = self.lock();
            let failure = inner.failures.pop_front().flatten();
            if failure == Some(Failure::Late) {
                inner.late.extend(changes);
                return Err(PlaneError::Late("memory"));
            }
            inner.get_on();
            if failure == Some(Failure::Refuse) {
                return Err(PlaneError::Refused {
                    plane: "memory",
                    message: "as told".into(),
                });
            }
            let removed = changes.iter().filter_map(|change| inner.apply(change)).collect();
            if failure == Some(Failure::LoseAnswer) {
                return Err(PlaneError::Unknown("memory"));
            }
            Ok(removed)
        })
    }

    fn retract(&self, undo: Vec<Change>) {
        self.lock().late.extend(undo);
    }

    fn is_behind(&self) -> bool {
        !self.lock().late.is_empty()
    }

    fn synchronise<'a>(&'a self, sessions: Box<dyn Iterator<Item = Session> + Send + 'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut inner = self.lock();
            inner.late.clear();
            inner.synchronisations += 1;
            inner.sessions = sessions.map(|s| (s.id, s)).collect();
            inner.distrusted = false;
            Ok(())
        })
    }

    fn distrust(&self) {
        self.lock().distrusted = true;
        self.wants_synchronisation();
    }

    fn usage(&self, sessions: Vec<SessionId>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            let inner = self.lock();
            Ok(sessions
                .iter()
                .filter_map(|id| inner.sessions.get(id))
                .map(|s| inner.usage_of(s))
                .collect())
        })
    }

    fn counters(&self) -> Answer<'_, HostCounters> {
        Box::pin(async move {
            let sessions = self.lock().sessions.len() as u64;
            Ok(HostCounters {
                sessions,
                ..HostCounters::default()
            })
        })
    }
}
