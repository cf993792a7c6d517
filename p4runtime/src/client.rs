//! A P4Runtime client: one connection to one device, kept up.
//!
//! [`Client::connect`] starts a task that holds the stream: it connects, arbitrates with the client's role and election
//! id, passes on what the target sends as [`Event`]s, and when the stream ends connects again, waiting longer each time
//! up to a limit. [`Client::state`] says where that stands. Calls ([`Client::write`], [`Client::read`], ...) go over the
//! same HTTP/2 connection and may be made from any task; the client is a handle that is cheap to clone. The stream
//! ends when the last handle is dropped.
//!
//! Whoever programs a target watches the state: each [`State::Primary`] carries the number of the connection, and a
//! new number means that the target may have restarted and lost its entries, so read back and compare
//! ([`Client::compare`]).

mod compare;
mod stream;

pub use compare::{Difference, difference};

use crate::api::p4::v1;
use crate::api::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::error::{ClientError, WriteError};
use crate::p4info::P4Info;
use std::fmt;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};

pub use crate::api::p4::v1::set_forwarding_pipeline_config_request::Action as PipelineAction;
pub use crate::api::p4::v1::write_request::Atomicity;

/// Largest message sent or received: a whole program with its P4Info, or a long read.
const MAX_MESSAGE: usize = 256 << 20;

/// How to connect, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Device at that server.
    pub device_id: u64,
    /// Election id; the highest one of a role is primary.
    pub election_id: u128,
    /// Role by name; `None` is the default role with full access.
    pub role: Option<v1::Role>,
    /// First wait before the stream is opened again.
    pub backoff: Duration,
    /// Longest wait; each is twice the one before.
    pub max_backoff: Duration,
    /// Events that wait for the reader of [`Events`]; more are dropped and counted in [`Client::dropped_events`].
    pub event_buffer: usize,
}

impl Default for Options {
    /// Device 1, election id 1, the default role, 50 ms to 5 s.
    fn default() -> Self {
        Options {
            device_id: 1,
            election_id: 1,
            role: None,
            backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(5),
            event_buffer: 4096,
        }
    }
}

/// Where the stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Connecting, or arbitration is not answered yet.
    Connecting,
    /// This client is primary of its role and may write.
    Primary {
        /// Number of the connection, from 1. A new one: the target may have restarted.
        connection: u64,
    },
    /// Another client is primary.
    Backup {
        /// Number of the connection.
        connection: u64,
        /// Highest election id that the target knows, if it has a primary.
        primary: Option<u128>,
    },
    /// The stream ended; it is opened again after a wait.
    Disconnected {
        /// What the server or the network said.
        reason: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Connecting => write!(f, "connecting"),
            State::Primary { .. } => write!(f, "primary"),
            State::Backup { primary: Some(id), .. } => write!(f, "backup; the primary has election id {id}"),
            State::Backup { primary: None, .. } => write!(f, "backup; there is no primary"),
            State::Disconnected { reason } => write!(f, "disconnected: {reason}"),
        }
    }
}

/// What the target sends by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A packet for the controller.
    Packet(v1::PacketIn),
    /// A list of digests; answer with [`Client::acknowledge`].
    Digest(v1::DigestList),
    /// Entries that nothing matched for their idle timeout.
    IdleTimeout(v1::IdleTimeoutNotification),
    /// A packet-out or acknowledgement was refused.
    Error(v1::StreamError),
}

/// The receiving end of [`Event`]s.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// A handle of a connection. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Client {
    api: P4RuntimeClient<Channel>,
    options: std::sync::Arc<Options>,
    outbox: mpsc::Sender<v1::StreamMessageRequest>,
    state: watch::Receiver<State>,
    dropped: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Client {
    /// Start a client of the server at `address` (`HOST:PORT`, or with `http://`). Returns at once; the connection is
    /// made, and kept, in the background. Needs a tokio runtime.
    pub fn connect(address: &str, options: Options) -> Result<(Client, Events), ClientError> {
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(|source| ClientError::Address {
                address: address.to_owned(),
                source,
            })?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let api = P4RuntimeClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let options = std::sync::Arc::new(options);
        let (outbox, requests) = mpsc::channel(1024);
        let (events, receiver) = mpsc::channel(options.event_buffer.max(1));
        let (publish, state) = watch::channel(State::Connecting);
        let dropped = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let task = stream::Stream {
            api: api.clone(),
            options: options.clone(),
            requests,
            events,
            state: publish,
            dropped: dropped.clone(),
        };
        tokio::spawn(task.run());
        Ok((
            Client {
                api,
                options,
                outbox,
                state,
                dropped,
            },
            Events(receiver),
        ))
    }

    /// Where the stream stands now, and every change of it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Events that were dropped because nobody read them in time.
    pub fn dropped_events(&self) -> u64 {
        self.dropped.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Wait until this client is primary; the number of the connection.
    pub async fn primary(&self, at_most: Duration) -> Result<u64, ClientError> {
        let mut state = self.state.clone();
        let primary = state.wait_for(|state| matches!(state, State::Primary { .. }));
        match tokio::time::timeout(at_most, primary).await {
            Ok(Ok(state)) => match *state {
                State::Primary { connection } => Ok(connection),
                _ => Err(ClientError::Disconnected),
            },
            Ok(Err(_)) => Err(ClientError::Disconnected),
            Err(_) => Err(ClientError::NotPrimary {
                waited: at_most,
                state: self.state.borrow().to_string(),
            }),
        }
    }

    /// The version of the P4Runtime API that the server speaks.
    pub async fn capabilities(&self) -> Result<v1::CapabilitiesResponse, ClientError> {
        let request = v1::CapabilitiesRequest {
            device_id: self.options.device_id,
        };
        Ok(self.api.clone().capabilities(request).await?.into_inner())
    }

    /// Give the target a program: P4Info and the target's own form of it (for BMv2, p4c's JSON).
    pub async fn set_pipeline(
        &self,
        info: &P4Info,
        device_config: Vec<u8>,
        cookie: Option<u64>,
        action: PipelineAction,
    ) -> Result<(), ClientError> {
        let config = v1::ForwardingPipelineConfig {
            p4info: Some(info.message().clone()),
            p4_device_config: device_config,
            cookie: cookie.map(|cookie| v1::forwarding_pipeline_config::Cookie { cookie }),
        };
        self.set_pipeline_config(Some(config), action).await
    }

    /// Realize the program that was saved by `VERIFY_AND_SAVE`.
    pub async fn commit_pipeline(&self) -> Result<(), ClientError> {
        self.set_pipeline_config(None, PipelineAction::Commit).await
    }

    async fn set_pipeline_config(
        &self,
        config: Option<v1::ForwardingPipelineConfig>,
        action: PipelineAction,
    ) -> Result<(), ClientError> {
        let request = v1::SetForwardingPipelineConfigRequest {
            device_id: self.options.device_id,
            role: self.role(),
            election_id: Some(uint128(self.options.election_id)),
            action: action as i32,
            config,
            ..Default::default()
        };
        self.api.clone().set_forwarding_pipeline_config(request).await?;
        Ok(())
    }

    /// The program of the target, or parts of it.
    pub async fn pipeline(
        &self,
        parts: v1::get_forwarding_pipeline_config_request::ResponseType,
    ) -> Result<v1::ForwardingPipelineConfig, ClientError> {
        let request = v1::GetForwardingPipelineConfigRequest {
            device_id: self.options.device_id,
            response_type: parts as i32,
        };
        let response = self
            .api
            .clone()
            .get_forwarding_pipeline_config(request)
            .await?
            .into_inner();
        let missing = || tonic::Status::failed_precondition("the target has no pipeline");
        Ok(response.config.ok_or_else(missing)?)
    }

    /// The P4Info of the target.
    pub async fn p4info(&self) -> Result<P4Info, ClientError> {
        use v1::get_forwarding_pipeline_config_request::ResponseType;
        let config = self.pipeline(ResponseType::P4infoAndCookie).await?;
        Ok(P4Info::new(config.p4info.unwrap_or_default())?)
    }

    /// One batch. What happens to the other updates when one fails is `atomicity`'s to say; which failed, and why, is
    /// the error's.
    pub async fn write(&self, updates: Vec<v1::Update>, atomicity: Atomicity) -> Result<(), WriteError> {
        let total = updates.len();
        let request = v1::WriteRequest {
            device_id: self.options.device_id,
            role: self.role(),
            election_id: Some(uint128(self.options.election_id)),
            updates,
            atomicity: atomicity as i32,
            ..Default::default()
        };
        match self.api.clone().write(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(WriteError::from_status(status, total)),
        }
    }

    /// Many updates as requests of at most `batch`, in order, each going on after errors; all errors together, with
    /// indexes into `updates`. Stops when a request fails as a whole.
    pub async fn write_all(&self, updates: Vec<v1::Update>, batch: usize) -> Result<(), WriteError> {
        let (total, mut done, mut failed) = (updates.len(), 0, Vec::new());
        let mut updates = updates.into_iter();
        loop {
            let chunk: Vec<v1::Update> = updates.by_ref().take(batch.max(1)).collect();
            let length = chunk.len();
            if length == 0 {
                break;
            }
            match self.write(chunk, Atomicity::ContinueOnError).await {
                Ok(()) => {}
                Err(WriteError::Updates { errors, .. }) => failed.extend(errors.into_iter().map(|mut error| {
                    error.index += done;
                    error
                })),
                Err(request) => return Err(request),
            }
            done += length;
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(WriteError::Updates { errors: failed, total })
        }
    }

    /// Start a read. Fields left at their default are wildcards, as the specification says for each entity.
    pub async fn read_stream(
        &self,
        entities: Vec<v1::Entity>,
    ) -> Result<tonic::Streaming<v1::ReadResponse>, ClientError> {
        let request = v1::ReadRequest {
            device_id: self.options.device_id,
            role: self.role(),
            entities,
        };
        Ok(self.api.clone().read(request).await?.into_inner())
    }

    /// Read, and gather the answers.
    pub async fn read(&self, entities: Vec<v1::Entity>) -> Result<Vec<v1::Entity>, ClientError> {
        let mut stream = self.read_stream(entities).await?;
        let mut all = Vec::new();
        while let Some(mut response) = stream.message().await? {
            all.append(&mut response.entities);
        }
        Ok(all)
    }

    /// Read table entries that match a filter: a table and what else is set in it.
    pub async fn read_entries(&self, filter: v1::TableEntry) -> Result<Vec<v1::TableEntry>, ClientError> {
        let entities = self.read(vec![filter.into()]).await?;
        Ok(entities
            .into_iter()
            .filter_map(|entity| match entity.entity {
                Some(v1::entity::Entity::TableEntry(entry)) => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// Read back what `scope` covers and compare it with what is expected, by key. Counters, default actions and
    /// constant entries are not compared. Both sides are held in memory.
    pub async fn compare(&self, scope: Vec<v1::Entity>, expected: &[v1::Entity]) -> Result<Difference, ClientError> {
        let found = self.read(scope).await?;
        Ok(difference(expected, found))
    }

    /// Send a packet into the target's pipeline. A refusal arrives as [`Event::Error`].
    pub async fn packet_out(&self, packet: v1::PacketOut) -> Result<(), ClientError> {
        self.send(v1::stream_message_request::Update::Packet(packet)).await
    }

    /// Acknowledge a list of digests, so that the target reports the same values again when they occur again.
    pub async fn acknowledge(&self, list: &v1::DigestList) -> Result<(), ClientError> {
        let ack = v1::DigestListAck {
            digest_id: list.digest_id,
            list_id: list.list_id,
        };
        self.send(v1::stream_message_request::Update::DigestAck(ack)).await
    }

    async fn send(&self, update: v1::stream_message_request::Update) -> Result<(), ClientError> {
        if !matches!(*self.state.borrow(), State::Primary { .. } | State::Backup { .. }) {
            return Err(ClientError::Disconnected);
        }
        let message = v1::StreamMessageRequest { update: Some(update) };
        self.outbox.send(message).await.map_err(|_| ClientError::Disconnected)
    }

    fn role(&self) -> String {
        self.options
            .role
            .as_ref()
            .map(|role| role.name.clone())
            .unwrap_or_default()
    }
}

/// A 128-bit number as a message.
pub fn uint128(value: u128) -> v1::Uint128 {
    v1::Uint128 {
        high: (value >> 64) as u64,
        low: value as u64,
    }
}

/// A message as a 128-bit number.
pub fn from_uint128(value: &v1::Uint128) -> u128 {
    u128::from(value.high) << 64 | u128::from(value.low)
}
