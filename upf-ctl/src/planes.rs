//! The data planes behind the controller, and the promise that all of them follow or none does.
//!
//! [`DataPlane`] is what a data plane must be able to do: say beforehand whether changes fit, apply a batch of
//! them as one, take a full synchronisation, and report what it counted. [`Planes`] drives all of them: checks
//! everywhere, applies one after the other, and undoes what is done when a later one refuses. An undo that
//! fails is not passed over: that plane is synchronised from scratch, because the session table is the truth.
//!
//! **Late answers.** A plane that is there and does not answer in time ([`PlaneError::Late`]) has the changes before it and
//! will get to them, but nobody waits any longer: the request is refused. What undoes it is put in behind
//! ([`DataPlane::retract`]) at once, before anything else can be, so that whatever came of the changes comes to nothing;
//! what was to be removed will be. Until the plane has caught up ([`PlaneEvent::CaughtUp`]) new changes wait or are
//! refused, and no slot is used again that it may still have.
//!
//! There is the host plane ([`host`]), which has every session and decides whether a request is accepted, and, where
//! one is configured, the P4 plane ([`p4`]), a fast path in front of it. [`memory`] is a plane for tests that can be
//! told to fail.
//!
//! **Order.** Changes are applied host first: what the P4 target punts meanwhile is treated by the new rules, what it
//! forwards by the old ones, and buffered packets are drained before the fast path opens. Removals are applied the other
//! way round: what the target no longer knows is punted to a host that still does, which would otherwise answer the gNB
//! that there is no such tunnel.

pub mod host;
pub mod memory;
pub mod p4;

use crate::placement::Place;
use p4::{Description, Figures};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use upf_model::batch::{Change, Event, HostCounters, SessionUsage};
use upf_model::{Session, SessionId};

/// A future of a data plane's answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PlaneError>> + Send + 'a>>;

/// Why a data plane did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// It is not there. Nothing took effect.
    #[error("the {0} data plane is not connected")]
    Away(&'static str),
    /// It has no room. Nothing took effect.
    #[error("the {plane} data plane is full: {message}")]
    Full {
        /// Which one.
        plane: &'static str,
        /// What is full.
        message: String,
    },
    /// It refused. Nothing took effect.
    #[error("the {plane} data plane refused: {message}")]
    Refused {
        /// Which one.
        plane: &'static str,
        /// In its words.
        message: String,
    },
    /// It is busy with earlier changes that it has not answered in time. Nothing took effect.
    #[error("the {0} data plane is busy with earlier changes")]
    Behind(&'static str),
    /// It has not answered in time. It does what it is asked in order, so these changes may yet take effect; what is asked
    /// later comes later.
    #[error("the {0} data plane did not answer in time")]
    Late(&'static str),
    /// It vanished while it was working, or did something else: the changes may or may not have taken effect, so it must
    /// be synchronised before it is used again.
    #[error("the {0} data plane did not answer")]
    Unknown(&'static str),
}

/// Whether a data plane can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaneState {
    /// Nobody there.
    Away,
    /// There, but it does not have the sessions yet.
    Unsynchronised,
    /// It has what the session table has.
    Ready,
}

/// What data planes say unasked.
#[derive(Debug)]
pub enum PlaneEvent {
    /// It is there and wants a full synchronisation: it started, we started, or an outcome was unknown.
    WantsSynchronisation(PlaneId),
    /// It is gone. Its own forwarding may well go on.
    Gone(PlaneId),
    /// It has answered everything that it was late with.
    CaughtUp(PlaneId),
    /// Something happened to packets.
    Traffic(Event),
}

/// Index of a plane in [`Planes`].
pub type PlaneId = usize;

/// Where planes send what they say unasked.
pub type PlaneEvents = mpsc::UnboundedSender<PlaneEvent>;

/// A data plane.
///
/// The controller's one task calls these, one at a time, except [`DataPlane::counters`] and
/// [`DataPlane::state`], which anyone may call at any time.
pub trait DataPlane: Send + Sync {
    /// Its name in logs, messages and metrics.
    fn name(&self) -> &'static str;

    /// Whether it can be used now.
    fn state(&self) -> PlaneState;

    /// A number that is another one after its counters have started again from zero.
    fn instance(&self) -> u64;

    /// Validates: whether `changes` could take effect, as far as can be told without asking. `sessions`: how
    /// many there will be with them. Fast, and has no effect.
    fn check(&self, changes: &[Change], sessions: usize) -> Result<(), PlaneError>;

    /// Applies all of `changes` in order, or none. Final usage of the sessions removed is returned. Once it
    /// returns, no packet meets the old rules any more.
    fn apply(&self, changes: Vec<Change>) -> Answer<'_, Vec<SessionUsage>>;

    /// After changes that it was [late](PlaneError::Late) with: these are to be made next, before anything that is asked
    /// for later. Nobody waits for them; a plane that cannot promise them is to be synchronised.
    fn retract(&self, _undo: Vec<Change>) {
        self.distrust();
    }

    /// Whether it has not yet answered what it was [late](PlaneError::Late) with.
    fn is_behind(&self) -> bool {
        false
    }

    /// Gives it some time to catch up, if it is behind.
    fn catch_up(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// All other planes have the changes too: what was kept for an undo may go.
    fn commit(&self) {}

    /// Makes it have exactly these sessions. It is [`PlaneState::Ready`] afterwards.
    fn synchronise<'a>(&'a self, sessions: Box<dyn Iterator<Item = Session> + Send + 'a>) -> Answer<'a, ()>;

    /// Its state is no longer known: it must not be used until it has been synchronised, and it asks for that.
    fn distrust(&self);

    /// Counters of these sessions; unknown ones are left out.
    fn usage(&self, sessions: Vec<SessionId>) -> Answer<'_, Vec<SessionUsage>>;

    /// Counters of the whole plane.
    fn counters(&self) -> Answer<'_, HostCounters>;

    /// It is in front of another plane that has every session: it never refuses, and may have fewer.
    fn is_fast_path(&self) -> bool {
        false
    }

    /// Another plane noticed this.
    fn happened(&self, _event: &Event) {}

    /// Asks for an [`Event::Neighbour`] for each neighbour that it knows.
    fn tell_neighbours(&self) {}

    /// Which sessions are near a volume threshold (true), or no longer.
    fn near_threshold(&self, _sessions: Vec<(SessionId, bool)>) {}

    /// What people are told of a fast path.
    fn figures(&self) -> Option<Figures> {
        None
    }

    /// Where in a fast path a session lives.
    fn place(&self, _session: SessionId) -> Option<Place> {
        None
    }

    /// A session's entries in a fast path.
    fn describe(&self, _session: SessionId) -> Answer<'_, Option<Description>> {
        Box::pin(async { Ok(None) })
    }
}

/// A change and what would undo it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is to be done.
    pub change: Change,
    /// What makes the session be as it was.
    pub undo: Change,
}

/// What a plane counted of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Which plane.
    pub plane: PlaneId,
    /// Of which start of it.
    pub instance: u64,
    /// Its counters.
    pub usage: SessionUsage,
}

/// All data planes, driven as one.
#[derive(Clone)]
pub struct Planes {
    planes: Arc<[Arc<dyn DataPlane>]>,
}

impl std::fmt::Debug for Planes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.planes.iter().map(|p| (p.name(), p.state())))
            .finish()
    }
}

fn sends_end_markers(change: &Change) -> bool {
    matches!(change, Change::Put { end_markers, .. } if !end_markers.is_empty())
}

/// Spawns a future that has been polled once before this returns: what it does first, it has done.
fn started<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => tokio::spawn(async move { output }),
        // Polled again as soon as it is spawned, with a waker.
        Poll::Pending => tokio::spawn(future),
    }
}

async fn undo(done: impl Iterator<Item = &Arc<dyn DataPlane>>, steps: &[&Step]) {
    for plane in done {
        match plane.apply(undo_of(steps)).await {
            // It will.
            Ok(_) | Err(PlaneError::Late(_)) => {}
            Err(error) => {
                tracing::error!(plane = plane.name(), %error, "undo failed; the data plane will be synchronised");
                plane.distrust();
            }
        }
    }
}

fn undo_of(steps: &[&Step]) -> Vec<Change> {
    steps.iter().rev().map(|s| s.undo.clone()).collect()
}

impl Planes {
    /// In the order in which they are to be changed; the first one buffers, and sends End Markers.
    pub fn new(planes: Vec<Arc<dyn DataPlane>>) -> Self {
        Self { planes: planes.into() }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn DataPlane>> {
        self.planes.iter()
    }

    /// One of them.
    pub fn get(&self, id: PlaneId) -> Option<&Arc<dyn DataPlane>> {
        self.planes.get(id)
    }

    /// Whether every plane could take these changes.
    pub fn check(&self, steps: &[Step], sessions: usize) -> Result<(), PlaneError> {
        let each = |plane: &Arc<dyn DataPlane>| {
            steps
                .iter()
                .try_for_each(|step| plane.check(std::slice::from_ref(&step.change), sessions))
        };
        self.planes.iter().try_for_each(each)
    }

    /// Applies the steps in every plane, or in none.
    ///
    /// The first plane leads: what it has buffered is on its way before another one forwards newer packets. An End Marker
    /// is the last packet on its path, so where one is to be sent the first plane follows last.
    pub async fn apply(&self, steps: &[&Step]) -> Result<Vec<Measured>, PlaneError> {
        let mut order: Vec<PlaneId> = (0..self.planes.len()).collect();
        if steps.iter().any(|step| sends_end_markers(&step.change)) {
            order.reverse();
        }
        let mut measured = Vec::new();
        for (at, &id) in order.iter().enumerate() {
            let plane = &self.planes[id];
            match plane.apply(steps.iter().map(|s| s.change.clone()).collect()).await {
                Ok(removed) => {
                    let instance = plane.instance();
                    measured.extend(removed.into_iter().map(|usage| Measured {
                        plane: id,
                        instance,
                        usage,
                    }));
                }
                Err(error) => {
                    match error {
                        PlaneError::Unknown(_) => plane.distrust(),
                        PlaneError::Late(_) => plane.retract(undo_of(steps)),
                        _ => {}
                    }
                    let done = order[..at].iter().rev().map(|&id| &self.planes[id]);
                    undo(done, steps).await;
                    return Err(error);
                }
            }
        }
        Ok(measured)
    }

    /// Asks every plane for these changes at once; none of them waits for another, nor takes anything back if another does
    /// not follow. What is asked later of a plane comes later. For changes that may take effect in one plane before the
    /// other: rates, queues, precedences.
    pub fn push(&self, changes: &[Change]) -> Vec<(PlaneId, JoinHandle<Result<(), PlaneError>>)> {
        let asked = self.planes.iter().cloned().enumerate().map(|(id, plane)| {
            let changes = changes.to_vec();
            let apply = async move { plane.apply(changes).await.map(drop) };
            (id, started(apply))
        });
        asked.collect()
    }

    /// Undoes steps that every plane has applied (because the store could not take them).
    pub async fn undo_all(&self, steps: &[&Step]) {
        undo(self.planes.iter().rev(), steps).await;
    }

    /// The store has the changes: nothing will be undone.
    pub fn commit(&self) {
        self.planes.iter().for_each(|plane| plane.commit());
    }

    /// Whether every plane that has all sessions has exactly what it was asked for.
    pub fn are_settled(&self) -> bool {
        let mut with_all = self.planes.iter().filter(|plane| !plane.is_fast_path());
        with_all.all(|plane| plane.state() == PlaneState::Ready && !plane.is_behind())
    }

    /// Gives planes that are behind some time. What is asked of one that still is will be refused.
    pub async fn catch_up(&self) {
        for plane in self.planes.iter().filter(|plane| plane.is_behind()) {
            if let Err(error) = plane.catch_up().await {
                tracing::warn!(plane = plane.name(), %error, "changes are refused");
            }
        }
    }

    /// Removes sessions, come what may: a plane that cannot be told now is synchronised before it is used
    /// again. Returns what was counted last, and whether every plane has confirmed.
    pub async fn remove(&self, sessions: &[SessionId]) -> (Vec<Measured>, bool) {
        let (mut measured, mut confirmed) = (Vec::new(), true);
        for (id, plane) in self.planes.iter().enumerate().rev() {
            let changes = sessions.iter().map(|&id| Change::Remove { id }).collect();
            match plane.apply(changes).await {
                Ok(removed) => {
                    let instance = plane.instance();
                    measured.extend(removed.into_iter().map(|usage| Measured {
                        plane: id,
                        instance,
                        usage,
                    }));
                }
                Err(error) => {
                    confirmed = false;
                    if !matches!(error, PlaneError::Away(_) | PlaneError::Late(_)) {
                        tracing::error!(plane = plane.name(), %error, "removal failed; the data plane will be synchronised");
                        plane.distrust();
                    }
                }
            }
        }
        (measured, confirmed)
    }

    /// What every plane that can be asked has counted of these sessions.
    pub async fn usage(&self, sessions: &[SessionId]) -> Vec<Measured> {
        let mut measured = Vec::new();
        for (id, plane) in self.planes.iter().enumerate() {
            if plane.state() != PlaneState::Ready {
                continue;
            }
            let instance = plane.instance();
            match plane.usage(sessions.to_vec()).await {
                Ok(usage) => measured.extend(usage.into_iter().map(|usage| Measured {
                    plane: id,
                    instance,
                    usage,
                })),
                Err(error) => tracing::debug!(plane = plane.name(), %error, "usage not to be had"),
            }
        }
        measured
    }
}
