//! The context push: from a fact about a user to packets of both planes; read downwards.
//!
//! ```text
//!   HTTP, measurements, files ──Command──▶ take (quotas, store) ──▶ policies decide ──▶ overlay on the SMF's rules
//!                                                                                                │
//!     Outcome, Happened ◀── in effect ◀── each data plane, for itself ◀── one change a session ◀─┘
//! ```
//!
//! The SMF's rules stay what they are ([`crate::sessions::SessionRecord::session`]); what contexts make of them
//! ([`Adapted`](crate::sessions::Adapted)) is what the data planes have. Nothing is undone by editing back: when the facts
//! are gone, the overlay is empty and the planes get the SMF's rules again.
//!
//! Facts that have queued up are taken together: a session that several of them concern is changed once, and up to
//! [`BATCH`] sessions go to the data planes in one batch. A plane that is slow or away holds up nobody but those who
//! wait to hear that it follows: it gets what it missed when it is synchronised.

pub mod measured;
mod messages;

pub use messages::{Command, Contexts, Happened, Outcome, What};

use crate::controller::Controller;
use crate::planes::{PlaneError, PlaneId};
use crate::sessions::{Adapted, SessionRecord};
use crate::store::Write;
use crate::usage::now_ms;
use qos::{Engine, EngineState, Fact, Key, Notice, Policies, PolicyErrors, SessionProfile, Subject};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use upf_config::Config;
use upf_model::batch::Change;
use upf_model::{Session, SessionId};

/// The most sessions changed together.
pub const BATCH: usize = 128;
/// Commands taken together.
pub const COMMANDS: usize = 1_024;
/// Facts of this key, or beginning with it and a dot, are sessions of CAMARA's Quality on Demand: one that cannot be
/// served is not kept.
const ON_DEMAND: &str = "qod";

/// Why there are no policies.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What it says is no policies.
    #[error(transparent)]
    Policies(#[from] PolicyErrors),
}

/// Reads a policy file; none: no policies.
pub fn read_policies(path: Option<&Path>) -> Result<Policies, PolicyFileError> {
    let Some(path) = path else {
        return Ok(Policies::empty());
    };
    let text = std::fs::read_to_string(path).map_err(|error| PolicyFileError::File {
        path: path.to_owned(),
        error,
    })?;
    Ok(Policies::parse(&text, &path.display().to_string())?)
}

/// The controller's part of it.
#[derive(Debug)]
pub struct ContextPush {
    engine: Engine,
    happened: broadcast::Sender<Happened>,
    /// As the store has it.
    stored_state: Vec<u8>,
}

/// What has become of a [`follow`].
#[derive(Default)]
struct Followed {
    /// Sessions whose rules in the planes are others now.
    changed: HashSet<SessionId>,
    /// Sessions that a plane refused to change.
    delayed: HashMap<SessionId, String>,
    /// Facts whose effects were not admitted.
    refused: HashMap<(Subject, Key), String>,
    /// Facts whose admission ended.
    preempted: Vec<(Fact, String)>,
    /// Fast paths that are still at it.
    asked: Vec<(PlaneId, JoinHandle<Result<(), PlaneError>>)>,
}

impl Followed {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.delayed.is_empty() && self.preempted.is_empty()
    }
}

/// A put that waits for its effect.
struct Put {
    since: Instant,
    taken: Vec<Result<Fact, String>>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

/// A removal that waits for its effect.
struct Removal {
    since: Instant,
    removed: Vec<Fact>,
    reply: oneshot::Sender<Vec<Fact>>,
}

fn is_on_demand(key: &Key) -> bool {
    key.as_str()
        .strip_prefix(ON_DEMAND)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl ContextPush {
    /// Whether a policy asks for what the UPF measures itself.
    pub fn measures(&self) -> bool {
        measured::is_wanted(self.engine.policies())
    }

    /// Takes up where the last controller ended: `facts` and `state` as the store has them.
    pub fn new(
        policies: Policies,
        happened: broadcast::Sender<Happened>,
        facts: Vec<Fact>,
        state: Option<Vec<u8>>,
    ) -> Self {
        let now = now_ms();
        let mut engine = Engine::new(policies);
        let stored_state = state.unwrap_or_default();
        // Nothing remembered, or by another version: conditions begin anew.
        let remembered: EngineState = serde_json::from_slice(&stored_state).unwrap_or_default();
        engine.restore(EngineState { facts, ..remembered }, now);
        Self {
            engine,
            happened,
            stored_state,
        }
    }

    /// When [`expire`] has something to do.
    pub fn due(&self) -> Option<Duration> {
        let due = self.engine.due_ms()?;
        Some(Duration::from_millis(due.saturating_sub(now_ms())))
    }

    fn tell(&self, fact: Fact, what: What) {
        // Nobody need listen.
        let _ = self.happened.send(Happened { fact, what });
    }
}

// --- what the controller's loop calls -------------------------------------------------------------------------

/// Serves commands that have queued up, in order.
pub async fn serve(controller: &mut Controller, commands: Vec<Command>) {
    let (mut puts, mut removals) = (Vec::new(), Vec::new());
    for command in commands {
        match command {
            Command::Put { facts, since, reply } => {
                let taken = take(controller, facts);
                puts.push(Put { since, taken, reply });
            }
            Command::Remove { facts, since, reply } => {
                let removed = facts
                    .iter()
                    .filter_map(|(about, key)| controller.contexts.engine.remove_fact(about, key));
                let removed = removed.collect();
                removals.push(Removal { since, removed, reply });
            }
            // Whoever asked may have hung up.
            Command::List {
                about,
                key_prefix,
                reply,
            } => {
                let facts = controller.contexts.engine.facts(about.as_ref(), &key_prefix);
                drop(reply.send(facts.into_iter().cloned().collect()));
            }
            Command::Explain { seid, reply } => drop(reply.send(explain(controller, seid))),
            Command::Profiles { reply } => {
                let profiles: serde_json::Map<_, _> = controller
                    .contexts
                    .engine
                    .policies()
                    .profiles()
                    .filter_map(|(name, profile)| Some((name.to_owned(), serde_json::to_value(profile).ok()?)))
                    .collect();
                drop(reply.send(profiles.into()));
            }
        }
    }
    if puts.is_empty() && removals.is_empty() {
        return;
    }
    store(controller, &mut puts, &removals);
    let followed = follow(controller).await;
    answer(controller, puts, removals, followed);
}

/// Ends what has lived its time, and acts on conditions that hold for long enough now.
pub async fn expire(controller: &mut Controller) {
    let since = Instant::now();
    let expired = controller.contexts.engine.advance(now_ms());
    forget(controller, &expired);
    let followed = follow(controller).await;
    let told = expired
        .into_iter()
        .filter(|fact| !measured::is_measured(&fact.key))
        .map(|fact| (fact, What::Expired))
        .collect();
    tell_when_in_effect(controller, followed, since, told);
}

/// A session is new, or its SMF has changed its rules: the planes have the overlay of the last decision already.
pub fn session_changed(controller: &mut Controller, record: &SessionRecord) {
    let profile = profile(&controller.config, record);
    controller
        .contexts
        .engine
        .put_session(profile, &record.session, now_ms());
}

/// By what policies find a session, and what its guaranteed rates take room of.
fn profile(config: &Config, record: &SessionRecord) -> SessionProfile {
    let session = &record.session;
    let parameters = session.fars.iter().filter_map(|far| far.forwarding.as_ref());
    let instances: HashSet<usize> = parameters.map(|p| usize::from(p.network_instance.0)).collect();
    let names = instances
        .iter()
        .filter_map(|&i| Some(&config.network_instances.get(i)?.name));
    let names: HashSet<&String> = names.collect();
    let ports = config
        .ports
        .iter()
        .filter(|port| names.contains(&port.network_instance));
    SessionProfile {
        id: session.id,
        seid: session.seid,
        subscriber: record.subscription.names.clone(),
        slice: record.subscription.slice.clone(),
        dnn: record.subscription.dnn.clone(),
        ports: ports.map(|port| port.name.clone()).collect(),
    }
}

/// A session has ended, and what was said of it alone with it.
pub fn session_ended(controller: &mut Controller, id: SessionId) {
    let ended = controller.contexts.engine.remove_session(id);
    forget(controller, &ended);
    for fact in ended {
        controller.contexts.tell(fact, What::SessionEnded);
    }
}

/// Brings the planes to what policies decide of sessions that have changed since.
pub async fn catch_up(controller: &mut Controller) {
    let since = Instant::now();
    let followed = follow(controller).await;
    if !followed.is_empty() {
        tell_when_in_effect(controller, followed, since, Vec::new());
    }
}

/// All sessions as policies decide now, without telling the planes: they are synchronised afterwards.
pub fn adapt_all(controller: &mut Controller) {
    let ids: Vec<SessionId> = controller.sessions.ids().collect();
    for id in ids {
        if let Some(entry) = controller.sessions.get(id) {
            session_changed(controller, &entry.record);
        }
    }
    loop {
        let marked = controller.contexts.engine.marked(BATCH);
        if marked.is_empty() {
            return;
        }
        adapt(controller, marked);
    }
}

/// Takes other policies; those of a file with errors are not taken.
pub async fn reload(controller: &mut Controller) {
    let path = controller.config.qos.policies.clone();
    match read_policies(path.as_deref()) {
        Ok(policies) => {
            controller.contexts.engine.replace_policies(policies, now_ms());
            tracing::info!(path = ?path, "policies read again");
            catch_up(controller).await;
        }
        Err(error) => tracing::error!(%error, "the policies stay as they are"),
    }
}

/// Brings what policies remember besides facts to the store, if it has changed.
pub fn store_state(controller: &mut Controller) {
    // Facts are in the store one by one.
    let Ok(state) = serde_json::to_vec(&controller.contexts.engine.remembered()) else {
        return;
    };
    if state == controller.contexts.stored_state {
        return;
    }
    match controller.store.commit([Write::PutPolicyState(&state)]) {
        Ok(()) => controller.contexts.stored_state = state,
        Err(error) => tracing::error!(%error, "what policies remember cannot be stored"),
    }
}

// --- take -----------------------------------------------------------------------------------------------------

fn take(controller: &mut Controller, facts: Vec<Fact>) -> Vec<Result<Fact, String>> {
    let (engine, now) = (&mut controller.contexts.engine, now_ms());
    let take = |fact: Fact| match engine.put_fact(fact.clone(), now) {
        Ok(_) => Ok(fact),
        Err(error) => Err(error.to_string()),
    };
    facts.into_iter().map(take).collect()
}

/// Facts are in the store before anything follows from them. Those that cannot be stored are given up.
fn store(controller: &mut Controller, puts: &mut [Put], removals: &[Removal]) {
    let put = puts.iter().flat_map(|put| &put.taken).flatten().map(Write::PutFact);
    // One that was put again after its removal is there.
    let engine = &controller.contexts.engine;
    let is_there = |fact: &Fact| {
        engine
            .facts(Some(&fact.about), fact.key.as_str())
            .iter()
            .any(|f| f.key == fact.key)
    };
    let removed = removals.iter().flat_map(|removal| &removal.removed);
    let removed = removed
        .filter(|fact| !is_there(fact))
        .map(|fact| Write::RemoveFact(&fact.about, &fact.key));
    let Err(error) = controller.store.commit(put.chain(removed)) else {
        return;
    };
    tracing::error!(%error, "facts cannot be stored; they are refused");
    for taken in puts.iter_mut().flat_map(|put| &mut put.taken) {
        if let Ok(fact) = taken {
            controller.contexts.engine.remove_fact(&fact.about, &fact.key);
            *taken = Err("the session store failed".into());
        }
    }
}

fn forget(controller: &Controller, facts: &[Fact]) {
    let stored = facts.iter().filter(|fact| !measured::is_measured(&fact.key));
    let mut writes = stored.map(|fact| Write::RemoveFact(&fact.about, &fact.key)).peekable();
    if writes.peek().is_some()
        && let Err(error) = controller.store.commit(writes)
    {
        tracing::error!(%error, "facts that have ended stay in the store; they end again after a restart");
    }
}

// --- decide, overlay, push ------------------------------------------------------------------------------------

/// Decides of all sessions that are marked and brings the planes to it.
async fn follow(controller: &mut Controller) -> Followed {
    let mut followed = Followed::default();
    loop {
        let marked = controller.contexts.engine.marked(BATCH);
        if marked.is_empty() {
            return followed;
        }
        let before = adapt(controller, marked);
        note(controller, &mut followed);
        push(controller, &mut followed, before).await;
    }
}

/// Decides of these sessions. Returns those whose planes are to change, with the rules they have now.
fn adapt(controller: &mut Controller, sessions: Vec<SessionId>) -> Vec<(SessionId, Arc<Adapted>)> {
    let now = now_ms();
    let mut changed = Vec::new();
    for id in sessions {
        let Some(entry) = controller.sessions.get(id) else {
            continue;
        };
        let base = &entry.record.session;
        let decision = controller.contexts.engine.decide(id, base, now);
        if decision == entry.adapted.decision {
            continue;
        }
        let adapted = Adapted::of(base, decision);
        let differs = adapted.session(base) != entry.in_planes();
        controller.sessions.set_adapted(id, Arc::new(adapted));
        if differs {
            changed.push((id, entry.adapted));
        }
    }
    changed
}

fn note(controller: &mut Controller, followed: &mut Followed) {
    for notice in controller.contexts.engine.take_notices() {
        match notice {
            Notice::Refused {
                fact: Some(fact),
                reason,
                ..
            } => {
                followed.refused.insert((fact.about, fact.key), reason);
            }
            Notice::Preempted {
                fact: Some(fact),
                reason,
                ..
            } => followed.preempted.push((fact, reason)),
            Notice::Overbooked { .. } => tracing::warn!(?notice, "guaranteed rates"),
            Notice::Refused { .. } | Notice::Preempted { .. } | Notice::Conflict { .. } => {
                tracing::debug!(?notice, "policies");
            }
        }
    }
}

fn put(session: Session) -> Change {
    Change::Put {
        session,
        end_markers: Vec::new(),
        discard_buffered: Vec::new(),
    }
}

/// Puts these sessions into every plane. A plane that has all sessions decides whether that holds; a session that it
/// refuses stays as it was, also elsewhere.
async fn push(controller: &mut Controller, followed: &mut Followed, changed: Vec<(SessionId, Arc<Adapted>)>) {
    if changed.is_empty() {
        return;
    }
    let of = |controller: &Controller, id: &SessionId| Some(put(controller.sessions.get(*id)?.into_planes()));
    let changes: Vec<Change> = changed.iter().filter_map(|(id, _)| of(controller, id)).collect();
    let refused = ask(controller, followed, &changes).await;
    if refused.is_none() {
        followed.changed.extend(changed.iter().map(|(id, _)| *id));
        return;
    }
    for (id, before) in changed {
        let Some(change) = of(controller, &id) else { continue };
        let Some(reason) = ask(controller, followed, &[change]).await else {
            followed.changed.insert(id);
            continue;
        };
        tracing::error!(session = %id, reason, "a data plane refuses what policies make of a session");
        controller.sessions.set_adapted(id, before);
        if let Some(change) = of(controller, &id) {
            ask(controller, followed, &[change]).await;
        }
        followed.delayed.insert(id, reason);
    }
}

/// Asks every plane and waits for those that have all sessions. Returns why one of them refuses; one that is away, or does
/// not answer, follows when it is synchronised.
async fn ask(controller: &Controller, followed: &mut Followed, changes: &[Change]) -> Option<String> {
    let mut refused = None;
    for (id, asked) in controller.planes.push(changes) {
        let Some(plane) = controller.planes.get(id) else {
            continue;
        };
        if plane.is_fast_path() {
            followed.asked.push((id, asked));
            continue;
        }
        match asked.await.unwrap_or(Err(PlaneError::Unknown("host"))) {
            // Late: it follows all the same.
            Ok(()) | Err(PlaneError::Away(_) | PlaneError::Late(_)) => {}
            Err(PlaneError::Unknown(_)) => plane.distrust(),
            Err(error @ (PlaneError::Behind(_) | PlaneError::Full { .. } | PlaneError::Refused { .. })) => {
                refused = Some(error.to_string())
            }
        }
    }
    controller.planes.commit();
    refused
}

// --- answer ---------------------------------------------------------------------------------------------------

fn answer(controller: &mut Controller, puts: Vec<Put>, removals: Vec<Removal>, followed: Followed) {
    let (mut outcomes, mut told) = (Vec::new(), Vec::new());
    let since = puts
        .iter()
        .map(|put| put.since)
        .chain(removals.iter().map(|r| r.since))
        .min();
    for put in puts {
        let each = put.taken.into_iter().map(|taken| match taken {
            Ok(fact) => {
                let outcome = outcome(controller, &followed, &fact);
                if matches!(outcome, Outcome::InEffect { .. }) {
                    told.push((fact, What::InEffect));
                }
                outcome
            }
            Err(reason) => Outcome::Refused { reason },
        });
        let each: Vec<Outcome> = each.collect();
        each.iter().for_each(|outcome| controller.metrics.outcome(outcome));
        outcomes.push((put.reply, each));
    }
    let mut gone = Vec::new();
    for removal in removals {
        told.extend(removal.removed.iter().map(|fact| (fact.clone(), What::Removed)));
        gone.push((removal.reply, removal.removed));
    }
    let answered = tell_when_in_effect(controller, followed, since.unwrap_or_else(Instant::now), told);
    tokio::spawn(async move {
        // A task of ours that has ended has told what there was to tell.
        let _ = answered.await;
        for (reply, outcomes) in outcomes {
            drop(reply.send(outcomes)); // whoever asked may have hung up
        }
        for (reply, facts) in gone {
            drop(reply.send(facts));
        }
    });
}

/// What became of a fact that was taken. One that is a session on demand and cannot be served is given up.
fn outcome(controller: &mut Controller, followed: &Followed, fact: &Fact) -> Outcome {
    if let Some(reason) = followed.refused.get(&(fact.about.clone(), fact.key.clone())) {
        let reason = reason.clone();
        if !is_on_demand(&fact.key) {
            return Outcome::Delayed { reason };
        }
        if let Some(fact) = controller.contexts.engine.remove_fact(&fact.about, &fact.key) {
            forget(controller, &[fact]);
        }
        return Outcome::Refused { reason };
    }
    let sessions = controller.contexts.engine.sessions_of(&fact.about);
    if let Some(reason) = sessions.iter().find_map(|id| followed.delayed.get(id)) {
        return Outcome::Delayed { reason: reason.clone() };
    }
    match sessions.iter().filter(|id| followed.changed.contains(id)).count() {
        0 if sessions.is_empty() || !is_on_demand(&fact.key) => Outcome::Kept,
        0 => Outcome::InEffect {
            sessions: sessions.len(),
        },
        sessions => Outcome::InEffect { sessions },
    }
}

/// Once the fast paths follow too: counts how long it took and tells what happened. `since`: the event.
fn tell_when_in_effect(
    controller: &Controller,
    followed: Followed,
    since: Instant,
    told: Vec<(Fact, What)>,
) -> JoinHandle<()> {
    let names: Vec<&'static str> = controller.planes.iter().map(|plane| plane.name()).collect();
    let (metrics, happened) = (controller.metrics.clone(), controller.contexts.happened.clone());
    if !followed.changed.is_empty() {
        // Those that have all sessions have answered already.
        let with_all = controller.planes.iter().filter(|plane| !plane.is_fast_path());
        with_all.for_each(|plane| metrics.in_effect(plane.name(), since.elapsed()));
    }
    tokio::spawn(async move {
        for (id, asked) in followed.asked {
            if let Ok(Ok(())) = asked.await {
                metrics.in_effect(names[id], since.elapsed());
            }
        }
        let preempted = followed
            .preempted
            .into_iter()
            .map(|(fact, by)| (fact, What::Preempted(by)));
        for (fact, what) in told.into_iter().chain(preempted) {
            let _ = happened.send(Happened { fact, what }); // nobody need listen
        }
    })
}

/// The way to the contexts that made a session what it is.
fn explain(controller: &Controller, seid: u64) -> Option<serde_json::Value> {
    let entry = controller.sessions.get(controller.sessions.by_seid(seid)?)?;
    let session = &entry.record.session;
    serde_json::to_value(controller.contexts.engine.explain(session.id, session, now_ms())).ok()
}
