//! Owns the channel's end, on a thread of its own: sends what there is, hands answers to who waits for them, and watches the
//! host come and go.

use super::{IDLE, NAME, Shared};
use crate::planes::{PlaneError, PlaneEvent};
use ipc::{ControllerEnd, SendError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use upf_model::batch::{FromHost, ToHost};

/// The thread that holds the channel's end.
pub(super) struct Bridge {
    pub(super) end: ControllerEnd,
    pub(super) queue: Receiver<ToHost>,
    /// Did not fit into the channel yet.
    pub(super) unsent: VecDeque<ToHost>,
    pub(super) peer: Option<u32>,
    pub(super) controller: u64,
    pub(super) shared: Arc<Shared>,
}

impl Bridge {
    /// Until the plane is dropped.
    pub(super) fn run(mut self) {
        loop {
            if self.shared.link().closing {
                return;
            }
            self.watch_peer();
            self.receive();
            if !self.send() {
                return;
            }
            self.end.wait(IDLE);
        }
    }

    /// A host that came, went or was replaced: what was asked of the one before is never answered.
    fn watch_peer(&mut self) {
        let peer = self.end.peer_incarnation();
        if peer == self.peer {
            return;
        }
        if self.peer.is_some() {
            // Messages for it are of no use to a successor.
            self.unsent.clear();
        }
        self.peer = peer;
        {
            let mut link = self.shared.link();
            link.attached = peer.is_some();
            link.instance = None;
            link.lose();
        }
        self.shared.said_hello.notify_waiters();
        self.shared.caught_up.notify_waiters();
        if peer.is_some() {
            self.unsent.push_front(ToHost::Hello {
                controller: self.controller,
            });
        } else {
            tracing::warn!("the host data plane is gone");
            self.shared.tell(PlaneEvent::Gone(self.shared.id));
        }
    }

    fn receive(&mut self) {
        loop {
            match self.end.try_receive() {
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

    /// Sends what there is, as far as it fits. False: there will never be more.
    fn send(&mut self) -> bool {
        loop {
            if self.unsent.is_empty() {
                match self.queue.try_recv() {
                    Ok(message) => self.unsent.push_back(message),
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
            let Some(message) = self.unsent.front() else {
                return true;
            };
            match self.end.send(message) {
                Ok(()) => {
                    self.unsent.pop_front();
                }
                Err(SendError::Full { .. }) => return true,
                Err(error) => {
                    let seq = seq_of(message);
                    let error = match error {
                        SendError::TooLarge { .. } => PlaneError::Refused {
                            plane: NAME,
                            message: error.to_string(),
                        },
                        _ => PlaneError::Away(NAME),
                    };
                    self.unsent.pop_front();
                    let waiter = seq.and_then(|seq| self.shared.link().waiting.remove(&seq));
                    match (waiter, seq) {
                        (Some(waiter), _) => drop(waiter.send(Err(error))),
                        (None, Some(seq)) => self.shared.settled(seq, Some(&error.to_string())),
                        (None, None) => {}
                    }
                }
            }
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
