//! The channel's two directions: [`Line`] writes what is asked, from whatever thread asks; [`Bridge`], on a thread of its
//! own, hands answers to who waits for them and watches the host come and go.

use super::{IDLE, NAME, Shared};
use crate::planes::{PlaneError, PlaneEvent};
use ipc::{ControllerEnd, Doorbell, SendError};
use std::collections::VecDeque;
use std::sync::Arc;
use upf_model::batch::{FromHost, ToHost};

/// The channel's end, and what waits for room in it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) end: ControllerEnd,
    /// Did not fit into the channel yet; in order.
    pub(super) unsent: VecDeque<ToHost>,
    /// For whom what is sent is meant.
    pub(super) peer: Option<u32>,
}

impl Line {
    /// Into the channel if there is room, else behind what waits for some.
    pub(super) fn send(&mut self, message: ToHost) -> Result<(), PlaneError> {
        if self.peer.is_none() || self.end.peer_incarnation() != self.peer {
            return Err(PlaneError::Away(NAME));
        }
        if !self.unsent.is_empty() {
            self.unsent.push_back(message);
            return Ok(());
        }
        match self.end.send(&message) {
            Ok(()) => Ok(()),
            Err(SendError::Full { .. }) => {
                self.unsent.push_back(message);
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        }
    }
}

fn refusal(error: &SendError) -> PlaneError {
    match error {
        SendError::TooLarge { .. } => PlaneError::Refused {
            plane: NAME,
            message: error.to_string(),
        },
        _ => PlaneError::Away(NAME),
    }
}

/// The thread that reads.
pub(super) struct Bridge {
    pub(super) doorbell: Doorbell,
    pub(super) controller: u64,
    pub(super) shared: Arc<Shared>,
}

impl Bridge {
    /// Until the plane is dropped.
    pub(super) fn run(self) {
        loop {
            if self.shared.link().closing {
                return;
            }
            {
                let mut line = self.shared.line();
                self.watch_peer(&mut line);
                self.receive(&mut line);
                self.send_rest(&mut line);
            }
            self.doorbell.wait(IDLE, || self.shared.line().end.has_reason());
        }
    }

    /// A host that came, went or was replaced: what was asked of the one before is never answered.
    fn watch_peer(&self, line: &mut Line) {
        let peer = line.end.peer_incarnation();
        if peer == line.peer {
            return;
        }
        // Messages for the one before are of no use to a successor.
        line.unsent.clear();
        line.peer = peer;
        {
            let mut link = self.shared.link();
            link.attached = peer.is_some();
            link.instance = None;
            link.lose();
        }
        self.shared.said_hello.notify_waiters();
        self.shared.caught_up.notify_waiters();
        if peer.is_some() {
            let controller = self.controller;
            line.unsent.push_back(ToHost::Hello { controller });
        } else {
            tracing::warn!("the host data plane is gone");
            self.shared.tell(PlaneEvent::Gone(self.shared.id));
        }
    }

    fn receive(&self, line: &mut Line) {
        loop {
            match line.end.try_receive() {
                Ok(Some(message)) => self.received(message),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the host channel is damaged; the host data plane will be synchronised");
                    self.shared.link().lose();
                    self.shared.distrust();
                }
            }
        }
    }

    fn received(&self, message: FromHost) {
        match message {
            FromHost::Hello { host, max_sessions } => {
                let mut link = self.shared.link();
                if link.instance == Some(host) {
                    // It has said so unasked before it answered.
                    return;
                }
                if link.instance.is_some() {
                    link.lose();
                }
                link.instance = Some(host);
                link.max_sessions = max_sessions;
                drop(link);
                tracing::info!(host, max_sessions, "the host data plane is here");
                self.shared.said_hello.notify_waiters();
                self.shared.distrust();
            }
            FromHost::Applied { seq, .. } | FromHost::Usage { seq, .. } | FromHost::Counters { seq, .. } => {
                let waiter = self.shared.link().waiting.remove(&seq);
                match (waiter, &message) {
                    // The waiter may have given up.
                    (Some(waiter), _) => drop(waiter.send(Ok(message))),
                    (None, FromHost::Applied { error, .. }) => self.shared.settled(seq, error.as_deref()),
                    (None, _) => {}
                }
            }
            FromHost::Event(event) => self.shared.tell(PlaneEvent::Traffic(event)),
        }
    }

    /// Sends what waits for room, as far as there is some.
    fn send_rest(&self, line: &mut Line) {
        while let Some(message) = line.unsent.front() {
            match line.end.send(message) {
                Ok(()) => {}
                Err(SendError::Full { .. }) => return,
                Err(error) => {
                    let seq = seq_of(message);
                    let waiter = seq.and_then(|seq| self.shared.link().waiting.remove(&seq));
                    match (waiter, seq) {
                        // The waiter may have given up.
                        (Some(waiter), _) => drop(waiter.send(Err(refusal(&error)))),
                        (None, Some(seq)) => self.shared.settled(seq, Some(&error.to_string())),
                        (None, None) => {}
                    }
                }
            }
            line.unsent.pop_front();
        }
    }
}

fn seq_of(message: &ToHost) -> Option<u64> {
    match message {
        ToHost::Hello { .. } | ToHost::SyncBegin | ToHost::QueryNeighbours => None,
        ToHost::SyncEnd { seq }
        | ToHost::Apply { seq, .. }
        | ToHost::QueryUsage { seq, .. }
        | ToHost::QueryCounters { seq } => Some(*seq),
    }
}
