//! The P4 plane: keeps a P4 target in step with the session table, as far as it can, as a fast path in front of the host.
//!
//! The host is the truth for packets: it has every session, and everything the target does not know is punted to it. It
//! follows that this plane never refuses a request. What does not fit stays with the host, and a target that is slow or
//! away does not hold up the SMF: [`APPLY_TIME`] at most.
//!
//! One task ([`actor`]) has the target and all that is known about it; the [`P4Plane`] that the controller holds is a
//! queue to it.
//!
//! ```text
//!   waiting for sessions ──synchronise──▶ connecting ──connected──▶ synchronising ──▶ following
//!           ▲                                 ▲                          │  ▲            │
//!           └───────── distrust ──────────────┴── connection lost ───────┘  └─ unexpected ┘
//! ```
//!
//! ## What a target that cannot be reached means
//! It goes on forwarding by the rules it has. Changes that the SMF makes meanwhile take effect at the host at once, and in
//! the target when it is back: it is read, what is not as it should be is deleted (and so punted) first, then what is
//! missing is written. So for the time of the disconnection a change is *not* atomic over both planes: fast-path packets
//! meet old rules, punted ones new rules. A deleted session's packets are forwarded until then.
//!
//! | module | owns |
//! | --- | --- |
//! | [`target`] | what is asked of a target |
//! | [`runtime`] | a P4Runtime server as a target |
//! | [`memory`] | a target in memory, for tests |
//! | [`actor`] | the task: its loop and its clock |
//! | `change` | from a session that changed to writes, and what becomes of failures |
//! | `reconcile` | synchronisation: read, compare, write the difference |
//! | `flows` | promotion and eviction of flows |
//! | `writes` | batches of writes, and cleaning up |
//! | `counting`, [`account`] | reading counters, and what they mean |
//! | [`figures`] | what people are told |

pub mod account;
pub mod actor;
mod change;
mod counting;
pub mod figures;
mod flows;
pub mod memory;
mod reconcile;
pub mod runtime;
pub mod target;
mod writes;

pub use figures::{Description, Figures};
pub use target::Target;

use super::{Answer, DataPlane, PlaneError, PlaneEvent, PlaneEvents, PlaneId, PlaneState};
use crate::placement::{Place, World};
use actor::{Actor, Command};
use qos::BurstPolicy;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use upf_config::Config;
use upf_model::batch::{Change, Event, HostCounters, SessionUsage};
use upf_model::{Session, SessionId};

const NAME: &str = "p4";

/// A request of an SMF waits for the target for this long; then it is answered without.
pub const APPLY_TIME: Duration = Duration::from_millis(500);
/// A usage poll waits for this long.
const USAGE_TIME: Duration = Duration::from_secs(2);

/// What the plane's handle and its task share.
#[derive(Debug)]
pub(crate) struct Shared {
    id: PlaneId,
    /// The task has been given the sessions, and nothing has made them doubtful since.
    given: AtomicBool,
    /// The target is as it should be.
    synchronised: AtomicBool,
    /// The task has not caught up with what was asked: nobody waits for it.
    behind: AtomicBool,
    places: Mutex<HashMap<SessionId, Place>>,
    figures: Mutex<Figures>,
    events: PlaneEvents,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The P4 plane.
#[derive(Debug)]
pub struct P4Plane {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    instance: u64,
}

impl P4Plane {
    /// Starts the task that keeps `target` in step. Needs a tokio runtime. `None`: the configuration has no section
    /// `p4`.
    pub fn start(config: &Config, target: impl Target, id: PlaneId, events: PlaneEvents) -> Option<Self> {
        let world = World::new(config)?;
        let burst = BurstPolicy {
            milliseconds: config.host.policing.burst_ms,
            at_least_bytes: config.host.policing.burst_min_bytes,
        };
        let shared = Arc::new(Shared {
            id,
            given: AtomicBool::new(false),
            synchronised: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            places: Mutex::default(),
            figures: Mutex::default(),
            events,
        });
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (commands, queue) = mpsc::unbounded_channel();
        // Milliseconds: another start's epochs are far away.
        let actor = Actor::new(target, world, burst, shared.clone(), queue, started.as_millis() as u32);
        tokio::spawn(actor.run());
        let plane = Self {
            shared,
            commands,
            instance: started.as_nanos() as u64,
        };
        plane.wants_synchronisation();
        Some(plane)
    }

    fn wants_synchronisation(&self) {
        // Nobody listening: the controller is shutting down.
        let _ = self
            .shared
            .events
            .send(PlaneEvent::WantsSynchronisation(self.shared.id));
    }

    fn send(&self, command: Command) {
        // The task ends with this handle.
        let _ = self.commands.send(command);
    }

    /// Asks, and waits for at most so long.
    async fn ask<T>(&self, at_most: Duration, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply));
        tokio::time::timeout(at_most, answer).await.ok()?.ok()
    }
}

impl DataPlane for P4Plane {
    fn name(&self) -> &'static str {
        NAME
    }

    fn state(&self) -> PlaneState {
        if !self.shared.given.load(Ordering::Acquire) {
            PlaneState::Unsynchronised
        } else if self.shared.synchronised.load(Ordering::Acquire) {
            PlaneState::Ready
        } else {
            PlaneState::Away
        }
    }

    fn instance(&self) -> u64 {
        self.instance
    }

    fn is_fast_path(&self) -> bool {
        true
    }

    /// Whatever it is: what does not fit is the host's.
    fn check(&self, _changes: &[Change], _sessions: usize) -> Result<(), PlaneError> {
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.send(Command::Apply { changes, reply });
            if self.shared.behind.load(Ordering::Acquire) {
                return Ok(Vec::new());
            }
            match tokio::time::timeout(APPLY_TIME, answer).await {
                Ok(usage) => Ok(usage.unwrap_or_default()),
                Err(_) => {
                    self.shared.behind.store(true, Ordering::Release);
                    lock(&self.shared.figures).late += 1;
                    tracing::warn!("the P4 target is late; requests are answered without waiting for it");
                    Ok(Vec::new())
                }
            }
        })
    }

    /// Hands the sessions over; the target is brought in step behind the controller's back.
    fn synchronise<'a>(&'a self, sessions: Box<dyn Iterator<Item = Session> + Send + 'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let sessions = sessions.map(Arc::new).collect();
            // In this order: the task takes commands first, so it never sees the one without the other.
            self.send(Command::Synchronise { sessions });
            self.shared.given.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn distrust(&self) {
        self.shared.given.store(false, Ordering::Release);
        self.wants_synchronisation();
    }

    fn usage(&self, sessions: Vec<SessionId>) -> Answer<'_, Vec<SessionUsage>> {
        Box::pin(async move {
            let usage = self.ask(USAGE_TIME, |reply| Command::Usage { sessions, reply }).await;
            usage.ok_or(PlaneError::Unknown(NAME))
        })
    }

    fn counters(&self) -> Answer<'_, HostCounters> {
        Box::pin(async move {
            let counters = self.ask(USAGE_TIME, Command::Counters).await;
            counters.ok_or(PlaneError::Unknown(NAME))
        })
    }

    fn happened(&self, event: &Event) {
        if let Event::Flow(_) | Event::Neighbour(_) = event {
            self.send(Command::Event(event.clone()));
        }
    }

    fn near_threshold(&self, sessions: Vec<(SessionId, bool)>) {
        if !sessions.is_empty() {
            self.send(Command::NearThreshold(sessions));
        }
    }

    fn figures(&self) -> Option<Figures> {
        Some(lock(&self.shared.figures).clone())
    }

    fn place(&self, session: SessionId) -> Option<Place> {
        lock(&self.shared.places).get(&session).copied()
    }

    fn describe(&self, session: SessionId) -> Answer<'_, Option<Description>> {
        Box::pin(async move {
            let described = self.ask(USAGE_TIME, |reply| Command::Describe(session, reply)).await;
            described.ok_or(PlaneError::Unknown(NAME))
        })
    }
}
