//! The controller's one task: it owns all state, and everything that changes state passes through its loop.
//!
//! One task, so that nothing needs a lock and requests have an order. It is kept fast by what it does not do:
//! the receiving task reads and repeats ([`crate::pfcp::transport`]), a thread talks to the host
//! ([`crate::planes::host`]), requests of ours wait for their answers in tasks of their own, and requests of
//! SMFs that have queued up share round trips and transactions ([`crate::request`]).
//!
//! While a data plane is being synchronised, requests wait in the queue; each step of the synchronisation has a
//! time limit, so they wait for seconds at most, and heartbeats are answered all the while.

use crate::context_push::{self, ContextPush, Happened, measured};
use crate::http::{self, Query};
use crate::metrics::Metrics;
use crate::pfcp::duplicates::RequestKey;
use crate::pfcp::node::{self, Associations};
use crate::pfcp::transport::{Inbound, Request, RequestError, Transport};
use crate::pfcp::wire::outgoing::DownlinkDataReport;
use crate::pfcp::wire::{Message, NodeId, NtpSeconds};
use crate::planes::{Measured, PlaneEvent, PlaneId, PlaneState, Planes};
use crate::sessions::{Allocations, Entry, Sessions, Watched};
use crate::store::{Recovered, Store, Write};
use crate::usage::{POLL, POLL_SESSIONS, UsageAccount};
use crate::{report, request};
use qos::Policies;
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use upf_config::Config;
use upf_model::{Epoch, Seid, SessionId};

/// Requests and notices that wait for the controller at most.
pub const QUEUE: usize = 8_192;
/// Sessions removed in one batch when an association ends.
const REMOVALS: usize = 256;
/// Sessions whose usage is asked for, and taken in, at once.
const POLL_PART: usize = 64;
/// Before a synchronisation that failed is tried again.
const SYNC_RETRY: Duration = Duration::from_millis(500);

/// What tasks of ours, and timers, report back.
#[derive(Debug)]
pub enum Outside {
    /// A heartbeat of ours was answered, or was not.
    HeartbeatAnswered {
        /// Whose.
        node: String,
        /// Where.
        peer: IpAddr,
        /// How.
        answer: Result<Message, RequestError>,
    },
    /// A session report was answered, or was not.
    ReportAnswered {
        /// Of which session.
        seid: Seid,
        /// How.
        answer: Result<Message, RequestError>,
    },
    /// The notification delay of buffered downlink data is over.
    DownlinkDataDue {
        /// Of which session.
        seid: Seid,
        /// What to report.
        report: DownlinkDataReport,
    },
    /// The data planes have answered what sessions have used.
    Measured {
        /// Who was asked about.
        polled: Vec<Polled>,
        /// What the planes have counted.
        measured: Vec<Measured>,
        /// This was the last part of the poll.
        is_last: bool,
    },
    /// A data plane is to be synchronised again.
    SynchroniseAgain(PlaneId),
    /// The policy file is to be read again.
    ReloadPolicies,
}

/// A session as it was when its usage was asked for: an answer about others of its number, or other rules, is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polled {
    id: SessionId,
    seid: Seid,
    epoch: Epoch,
}

impl Polled {
    fn of(sessions: &Sessions, id: SessionId) -> Option<Self> {
        let (seid, epoch) = sessions.version(id)?;
        Some(Self { id, seid, epoch })
    }
}

/// What wakes the loop.
#[derive(Debug)]
pub struct Inputs {
    /// From the receiving task.
    pub inbound: mpsc::Receiver<Inbound>,
    /// From the data planes.
    pub plane_events: mpsc::UnboundedReceiver<PlaneEvent>,
    /// From tasks of ours.
    pub outside: mpsc::UnboundedReceiver<Outside>,
    /// From the HTTP side.
    pub queries: mpsc::Receiver<Query>,
    /// From the context side.
    pub contexts: mpsc::Receiver<context_push::Command>,
}

/// All state of the controller.
#[derive(Debug)]
pub struct Controller {
    pub(crate) config: Arc<Config>,
    pub(crate) node_id: NodeId,
    pub(crate) recovery_time_stamp: NtpSeconds,
    pub(crate) started: Instant,
    pub(crate) sessions: Sessions,
    pub(crate) allocations: Allocations,
    pub(crate) associations: Associations,
    pub(crate) store: Store,
    pub(crate) planes: Planes,
    pub(crate) transport: Arc<Transport>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) outside: mpsc::UnboundedSender<Outside>,
    pub(crate) contexts: ContextPush,
    next_polled: SessionId,
    /// The data planes have been asked what sessions have used, and have not answered yet.
    polling: bool,
}

/// The parts a controller is made of.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Parts {
    pub config: Arc<Config>,
    pub node_id: NodeId,
    pub store: Store,
    pub planes: Planes,
    pub transport: Arc<Transport>,
    pub metrics: Arc<Metrics>,
    pub outside: mpsc::UnboundedSender<Outside>,
    pub policies: Policies,
    pub happened: broadcast::Sender<Happened>,
}

/// The Recovery Time Stamp of a store.
pub fn recovery_time_stamp(recovered: &Recovered) -> NtpSeconds {
    NtpSeconds::from(UNIX_EPOCH + Duration::from_secs(recovered.recovery_unix_s))
}

impl Controller {
    /// Takes up where the store's last controller ended.
    pub fn new(parts: Parts, recovered: Recovered) -> Self {
        let Parts {
            config,
            node_id,
            store,
            planes,
            transport,
            metrics,
            outside,
            policies,
            happened,
        } = parts;
        let recovery_time_stamp = recovery_time_stamp(&recovered);
        let mut allocations = Allocations::new(&config);
        for entry in recovered.sessions.iter_from(SessionId(0)) {
            let session = &entry.record.session;
            if let Err(error) = allocations.restore(session.id, &entry.record.holdings) {
                // The store is written from this very table, in which nothing is held twice.
                tracing::error!(%error, seid = %session.seid, "two stored sessions hold the same");
            }
        }
        for answer in recovered.answers {
            let key = RequestKey {
                peer: answer.peer,
                sequence: answer.sequence,
                message_type: answer.message_type,
            };
            transport.remember(key, answer.datagram);
        }
        let sessions = recovered.sessions;
        metrics.set_sessions(sessions.len());
        let associations = Associations::recovered(recovered.associations);
        tracing::info!(
            sessions = sessions.len(),
            associations = associations.iter().count(),
            "state recovered"
        );
        let mut controller = Self {
            config,
            node_id,
            recovery_time_stamp,
            started: Instant::now(),
            sessions,
            allocations,
            associations,
            store,
            planes,
            transport,
            metrics,
            outside,
            contexts: ContextPush::new(policies, happened, recovered.facts, recovered.policy_state),
            next_polled: SessionId(0),
            polling: false,
        };
        context_push::adapt_all(&mut controller);
        controller
    }

    /// Serves until `shutdown` is ready. Sessions stay in the store and in the data planes.
    pub async fn run(mut self, mut inputs: Inputs, shutdown: impl Future<Output = ()>) {
        let heartbeats = self.config.pfcp.heartbeat_interval_s;
        let mut heartbeat = tokio::time::interval(Duration::from_secs(heartbeats.max(1)));
        let mut poll = tokio::time::interval(POLL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of an interval is immediate.
        heartbeat.reset();
        let mut received = Vec::with_capacity(request::BATCH);
        let mut commands = Vec::with_capacity(context_push::COMMANDS);
        tokio::pin!(shutdown);
        loop {
            let due = self.contexts.due();
            tokio::select! {
                () = &mut shutdown => break,
                _ = inputs.inbound.recv_many(&mut received, 4 * request::BATCH) => {
                    self.serve(std::mem::take(&mut received)).await;
                }
                Some(event) = inputs.plane_events.recv() => self.plane_event(event).await,
                Some(outside) = inputs.outside.recv() => self.outside(outside).await,
                Some(query) = inputs.queries.recv() => http::answer(&self, query).await,
                1.. = inputs.contexts.recv_many(&mut commands, context_push::COMMANDS) => {
                    context_push::serve(&mut self, std::mem::take(&mut commands)).await;
                }
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {
                    context_push::expire(&mut self).await;
                }
                _ = heartbeat.tick(), if heartbeats > 0 => node::send_heartbeats(&mut self),
                _ = poll.tick() => {
                    self.poll_usage();
                    self.transport.forget_answers();
                    context_push::store_state(&mut self);
                }
            }
            context_push::catch_up(&mut self).await;
        }
        let polled = self.next_to_poll();
        let ids: Vec<SessionId> = polled.iter().map(|polled| polled.id).collect();
        let measured = self.planes.usage(&ids).await;
        let moved = self.take_usage(&polled, measured);
        self.store_usage(&moved);
        match self.store.flusher().and_then(|flusher| flusher.flush()) {
            Ok(()) => tracing::info!(sessions = self.sessions.len(), "stopped; sessions are kept"),
            Err(error) => tracing::error!(%error, "stopped; the store could not be brought to the disk"),
        }
    }

    async fn serve(&mut self, received: Vec<Inbound>) {
        self.synchronise_all().await;
        self.planes.catch_up().await;
        let mut requests: Vec<Request> = Vec::with_capacity(received.len());
        for inbound in received {
            match inbound {
                Inbound::Request(request) => requests.push(request),
                Inbound::Heartbeat {
                    peer,
                    recovery_time_stamp,
                } => {
                    request::serve(self, std::mem::take(&mut requests)).await;
                    node::heard_from(self, peer.ip(), recovery_time_stamp).await;
                }
            }
        }
        request::serve(self, requests).await;
    }

    async fn outside(&mut self, outside: Outside) {
        match outside {
            Outside::HeartbeatAnswered { node, peer, answer } => {
                node::heartbeat_answered(self, &node, peer, answer).await;
            }
            Outside::ReportAnswered { seid, answer } => report::answered(self, seid, answer).await,
            Outside::DownlinkDataDue { seid, report } => report::downlink_data_due(self, seid, report),
            Outside::Measured {
                polled,
                measured,
                is_last,
            } => {
                self.polling &= !is_last;
                self.usage_measured(&polled, measured);
            }
            Outside::SynchroniseAgain(plane) => self.synchronise(plane).await,
            Outside::ReloadPolicies => context_push::reload(self).await,
        }
    }

    async fn plane_event(&mut self, event: PlaneEvent) {
        match event {
            PlaneEvent::WantsSynchronisation(plane) => self.synchronise(plane).await,
            PlaneEvent::Gone(_) => {}
            PlaneEvent::CaughtUp(_) => self.release_slots(),
            PlaneEvent::Traffic(event) => {
                self.planes.iter().for_each(|plane| plane.happened(&event));
                report::happened(self, event);
            }
        }
    }

    /// Synchronises every data plane that is there and not yet synchronised.
    async fn synchronise_all(&mut self) {
        for plane in 0..self.planes.iter().count() {
            self.synchronise(plane).await;
        }
    }

    async fn synchronise(&mut self, id: PlaneId) {
        let Some(plane) = self
            .planes
            .get(id)
            .filter(|p| p.state() == PlaneState::Unsynchronised)
            .cloned()
        else {
            return;
        };
        let start = Instant::now();
        let sessions = self.sessions.iter_from(SessionId(0)).map(Entry::into_planes);
        match plane.synchronise(Box::new(sessions)).await {
            Ok(()) => {
                let (sessions, took) = (self.sessions.len(), start.elapsed());
                tracing::info!(plane = plane.name(), sessions, ?took, "data plane synchronised");
                self.release_slots();
                plane.tell_neighbours();
            }
            Err(error) => {
                tracing::warn!(plane = plane.name(), %error, "synchronisation failed");
                let outside = self.outside.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(SYNC_RETRY).await;
                    // The controller may be shutting down.
                    let _ = outside.send(Outside::SynchroniseAgain(id));
                });
            }
        }
    }

    /// Slots of sessions that data planes may still have had can be used again, if they all have what is here. What a fast
    /// path still has of a session that is gone, it finds out by itself.
    fn release_slots(&mut self) {
        if self.planes.are_settled() {
            self.sessions.synchronised();
        }
    }

    /// Asks the data planes what the next sessions have used. They take their time, for which nobody waits.
    fn poll_usage(&mut self) {
        let polled = if self.polling { Vec::new() } else { self.next_to_poll() };
        if polled.is_empty() {
            return;
        }
        self.polling = true;
        let (planes, outside) = (self.planes.clone(), self.outside.clone());
        tokio::spawn(async move {
            let mut parts = polled.chunks(POLL_PART).peekable();
            while let Some(part) = parts.next() {
                let ids: Vec<SessionId> = part.iter().map(|polled| polled.id).collect();
                let measured = planes.usage(&ids).await;
                let (polled, is_last) = (part.to_vec(), parts.peek().is_none());
                // The controller may be shutting down.
                let _ = outside.send(Outside::Measured {
                    polled,
                    measured,
                    is_last,
                });
            }
        });
    }

    /// Takes in what sessions have used, and tells their SMFs if that is due. What is told is in the store first.
    fn usage_measured(&mut self, polled: &[Polled], measured: Vec<Measured>) {
        let mut moved = self.take_usage(polled, measured);
        let polled: Vec<SessionId> = polled.iter().map(|polled| polled.id).collect();
        let reports = report::usage_due(self, &polled);
        moved.extend(reports.iter().map(|(id, _)| *id));
        moved.sort_unstable();
        moved.dedup();
        self.store_usage(&moved);
        for (id, reports) in reports {
            report::usage(self, id, reports);
        }
        self.tell_who_is_near_a_threshold(&polled);
    }

    /// The host takes over sessions that have little left of a volume threshold, and gives them back afterwards.
    fn tell_who_is_near_a_threshold(&mut self, polled: &[SessionId]) {
        let percent = self
            .config
            .p4
            .as_ref()
            .map_or(0, |p4| p4.placement.near_threshold_percent);
        if percent == 0 {
            return;
        }
        let mut changed = Vec::new();
        for &id in polled {
            let triggers = self.sessions.watched(id).is_some_and(|watched| watched.triggers);
            let entry = triggers.then(|| self.sessions.get(id)).flatten();
            let near = entry.is_some_and(|entry| entry.usage.is_near_threshold(&entry.record.session.urrs, percent));
            if let Some(notes) = self.sessions.notes_mut(id)
                && std::mem::replace(&mut notes.near_threshold, near) != near
            {
                changed.push((id, near));
            }
        }
        self.planes
            .iter()
            .for_each(|plane| plane.near_threshold(changed.clone()));
    }

    /// Brings the accounts of these sessions to the store.
    pub(crate) fn store_usage(&self, sessions: &[SessionId]) {
        let accounts = sessions.iter().filter_map(|id| Some((*id, self.sessions.usage(*id)?)));
        let accounts: Vec<(SessionId, UsageAccount)> = accounts.collect();
        let writes = accounts.iter().map(|(id, account)| Write::PutUsage(*id, account));
        if !sessions.is_empty()
            && let Err(error) = self.store.commit(writes)
        {
            tracing::error!(%error, "usage cannot be stored");
        }
    }

    /// The sessions whose turn it is.
    fn next_to_poll(&mut self) -> Vec<Polled> {
        let all = self.contexts.measures();
        let is_wanted = |watched: Watched| all || watched.urrs || watched.notifies;
        let ids = self.sessions.ids_from(self.next_polled);
        let wanted = ids.filter(|id| self.sessions.watched(*id).is_some_and(is_wanted));
        let polled = wanted.filter_map(|id| Polled::of(&self.sessions, id));
        let polled: Vec<Polled> = polled.take(POLL_SESSIONS).collect();
        self.next_polled = match polled.last() {
            Some(last) if polled.len() == POLL_SESSIONS => SessionId(last.id.0 + 1),
            _ => SessionId(0),
        };
        polled
    }

    /// Takes in what the planes have counted. Returns the sessions that have used anything since.
    fn take_usage(&mut self, polled: &[Polled], mut measured: Vec<Measured>) -> Vec<SessionId> {
        let asked: HashMap<SessionId, Polled> = polled.iter().map(|polled| (polled.id, *polled)).collect();
        measured.retain(|measured| {
            let now = Polled::of(&self.sessions, measured.usage.session);
            now.is_some() && now.as_ref() == asked.get(&measured.usage.session)
        });
        measured::take(self, &measured);
        let mut moved = Vec::new();
        for measured in measured {
            let id = measured.usage.session;
            if self.sessions.account(id, |account| account.measure(&measured)) {
                moved.push(id);
            }
            let buffered = measured.usage.buffered.packets > 0;
            let Some(notes) = self.sessions.notes_mut(id) else {
                continue;
            };
            notes.downlink_reported &= buffered;
            if buffered
                && !notes.downlink_reported
                && let Some(entry) = self.sessions.get(id)
                && let Some(pdr) = report::notifying_pdr(&entry.record.session)
            {
                report::downlink_data(self, id, pdr, None, None);
            }
        }
        moved
    }

    /// Removes all sessions of a node.
    pub(crate) async fn remove_sessions_of(&mut self, node: &str, reason: &'static str) {
        let sessions = self.sessions.of_node(node);
        self.remove_sessions(sessions, reason).await;
    }

    /// Removes sessions that nobody asked to be deleted one by one. Nobody is told what they used.
    pub(crate) async fn remove_sessions(&mut self, sessions: Vec<SessionId>, reason: &'static str) {
        for sessions in sessions.chunks(REMOVALS) {
            let (_, confirmed) = self.planes.remove(sessions).await;
            if let Err(error) = self.store.commit(sessions.iter().map(|id| Write::RemoveSession(*id))) {
                // They would come back after a restart, and the peer's time stamp would remove them again.
                tracing::error!(%error, "sessions cannot be removed from the store");
            }
            for id in sessions {
                if let Some(entry) = self.sessions.remove(*id, confirmed) {
                    self.allocations.release(&entry.record.holdings);
                    self.metrics.session_removed(reason);
                }
                context_push::session_ended(self, *id);
            }
        }
        if !sessions.is_empty() {
            tracing::info!(sessions = sessions.len(), reason, "sessions removed");
        }
        self.metrics.set_sessions(self.sessions.len());
    }
}

/// Brings the store to the disk every now and then, until the controller ends.
pub(crate) async fn flush_regularly(flusher: crate::store::Flusher) {
    let flusher = Arc::new(flusher);
    loop {
        tokio::time::sleep(POLL).await;
        let flusher = flusher.clone();
        match tokio::task::spawn_blocking(move || flusher.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the session store cannot be brought to the disk"),
            Err(_) => return,
        }
    }
}
