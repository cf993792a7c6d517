//! The task that holds the stream: connect, arbitrate, pass messages, connect again.

use super::{Event, Options, State, from_uint128, uint128};
use crate::api::p4::v1;
use crate::api::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::api::p4::v1::stream_message_response::Update;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

pub(super) struct Stream {
    pub api: P4RuntimeClient<Channel>,
    pub options: Arc<Options>,
    pub requests: mpsc::Receiver<v1::StreamMessageRequest>,
    pub events: mpsc::Sender<Event>,
    pub state: watch::Sender<State>,
    pub dropped: Arc<AtomicU64>,
}

/// Why a stream ended.
enum End {
    /// Every handle of the client is gone.
    Dropped,
    /// The server or the network ended it.
    Broken(String),
}

impl Stream {
    pub async fn run(mut self) {
        let mut wait = self.options.backoff;
        let mut connection = 0;
        loop {
            let before = connection;
            match self.hold(&mut connection).await {
                End::Dropped => return,
                End::Broken(reason) => self.state.send_replace(State::Disconnected { reason }),
            };
            if connection != before {
                wait = self.options.backoff; // it had worked
            }
            if self.wait_or_dropped(wait).await {
                return;
            }
            wait = (wait * 2).min(self.options.max_backoff);
        }
    }

    /// One stream from its opening to its end.
    async fn hold(&mut self, connection: &mut u64) -> End {
        let (outbox, inbox) = mpsc::channel(1024);
        if outbox.try_send(self.arbitration()).is_err() {
            return End::Broken("the first message cannot be sent".into());
        }
        let mut api = self.api.clone();
        let opening = api.stream_channel(ReceiverStream::new(inbox));
        tokio::pin!(opening);
        let mut responses = loop {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(response) => break response.into_inner(),
                    Err(status) => return End::Broken(format!("{:?}: {}", status.code(), status.message())),
                },
                request = self.requests.recv() => if request.is_none() { return End::Dropped },
            }
        };
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.received(response, connection),
                    Ok(None) => return End::Broken("the server closed the stream".into()),
                    Err(status) => return End::Broken(format!("{:?}: {}", status.code(), status.message())),
                },
                request = self.requests.recv() => match request {
                    None => return End::Dropped,
                    Some(request) => if outbox.send(request).await.is_err() {
                        return End::Broken("the server does not read the stream".into());
                    },
                },
            }
        }
    }

    fn received(&mut self, response: v1::StreamMessageResponse, connection: &mut u64) {
        let event = match response.update {
            Some(Update::Arbitration(update)) => {
                if !matches!(*self.state.borrow(), State::Primary { .. } | State::Backup { .. }) {
                    *connection += 1;
                }
                let connection = *connection;
                self.state.send_replace(match update.status {
                    Some(status) if status.code != 0 => {
                        let primary = update.election_id.as_ref().map(from_uint128);
                        let primary = primary.filter(|_| status.code == tonic::Code::AlreadyExists as i32);
                        State::Backup { connection, primary }
                    }
                    _ => State::Primary { connection },
                });
                return;
            }
            Some(Update::Packet(packet)) => Event::Packet(packet),
            Some(Update::Digest(list)) => Event::Digest(list),
            Some(Update::IdleTimeoutNotification(notification)) => Event::IdleTimeout(notification),
            Some(Update::Error(error)) => Event::Error(error),
            Some(Update::Other(_)) | None => return,
        };
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn arbitration(&self) -> v1::StreamMessageRequest {
        let update = v1::MasterArbitrationUpdate {
            device_id: self.options.device_id,
            role: self.options.role.clone(),
            election_id: Some(uint128(self.options.election_id)),
            status: None,
        };
        v1::StreamMessageRequest {
            update: Some(v1::stream_message_request::Update::Arbitration(update)),
        }
    }

    /// Wait; whether the last handle was dropped meanwhile. What was to be sent on the stream that ended is lost.
    async fn wait_or_dropped(&mut self, wait: std::time::Duration) -> bool {
        let sleep = tokio::time::sleep(wait);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return false,
                request = self.requests.recv() => if request.is_none() { return true },
            }
        }
    }
}
