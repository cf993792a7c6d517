//! A P4Runtime server just large enough to answer the client: entries in a map, no pipeline behind it.

use p4runtime::api::google::rpc;
use p4runtime::client::from_uint128;
use p4runtime::v1;
use p4runtime::v1::p4_runtime_server::{P4Runtime, P4RuntimeServer};
use p4runtime::v1::stream_message_response::Update;
use prost::Message;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Outbox = mpsc::UnboundedSender<Result<v1::StreamMessageResponse, Status>>;

#[derive(Default)]
struct State {
    streams: Vec<(u128, Outbox)>,
    entries: HashMap<Vec<u8>, v1::TableEntry>,
    config: Option<v1::ForwardingPipelineConfig>,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Server {
    pub async fn start() -> Server {
        Server::start_at("127.0.0.1:0").await
    }

    pub async fn start_at(address: &str) -> Server {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .expect("the address is free");
        let address = listener.local_addr().expect("bound").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let service = P4RuntimeServer::new(Service(state.clone()));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Server { address, state }
    }

    /// An address that was free a moment ago.
    pub fn free_address() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.local_addr().expect("bound").to_string()
    }

    /// Send to every stream.
    pub fn send(&self, update: Update) {
        for (_, stream) in &self.lock().streams {
            let _ = stream.send(Ok(v1::StreamMessageResponse {
                update: Some(update.clone()),
            }));
        }
    }

    /// End every stream with an error.
    pub fn break_streams(&self) {
        for (_, stream) in self.lock().streams.drain(..) {
            let _ = stream.send(Err(Status::unavailable("the test breaks the stream")));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

impl State {
    /// Tell every stream who is primary.
    fn arbitrate(&mut self) {
        let primary = self.streams.iter().map(|(id, _)| *id).max().unwrap_or_default();
        for (id, stream) in &self.streams {
            let code = if *id == primary { Code::Ok } else { Code::AlreadyExists };
            let update = v1::MasterArbitrationUpdate {
                device_id: 1,
                role: None,
                election_id: Some(p4runtime::client::uint128(primary)),
                status: Some(rpc::Status {
                    code: code as i32,
                    ..Default::default()
                }),
            };
            let _ = stream.send(Ok(v1::StreamMessageResponse {
                update: Some(Update::Arbitration(update)),
            }));
        }
    }

    fn apply(&mut self, update: v1::Update) -> Result<(), Code> {
        let Some(v1::entity::Entity::TableEntry(entry)) = update.entity.and_then(|entity| entity.entity) else {
            return Err(Code::Unimplemented);
        };
        let key = v1::TableEntry {
            table_id: entry.table_id,
            r#match: entry.r#match.clone(),
            priority: entry.priority,
            ..Default::default()
        }
        .encode_to_vec();
        match (
            v1::update::Type::try_from(update.r#type),
            self.entries.contains_key(&key),
        ) {
            (Ok(v1::update::Type::Insert), true) => Err(Code::AlreadyExists),
            (Ok(v1::update::Type::Delete), true) => {
                self.entries.remove(&key);
                Ok(())
            }
            (Ok(v1::update::Type::Delete | v1::update::Type::Modify), false) => Err(Code::NotFound),
            _ => {
                self.entries.insert(key, entry);
                Ok(())
            }
        }
    }
}

#[tonic::async_trait]
impl P4Runtime for Service {
    type ReadStream = Responses<v1::ReadResponse>;
    type StreamChannelStream = Responses<v1::StreamMessageResponse>;

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        if request.device_id != 1 {
            return Err(Status::not_found("only device 1 is here"));
        }
        let mut state = self.0.lock().expect("not poisoned");
        let results: Vec<_> = request.updates.into_iter().map(|update| state.apply(update)).collect();
        if results.iter().all(Result::is_ok) {
            return Ok(Response::new(v1::WriteResponse {}));
        }
        let details = results.into_iter().map(|result| {
            let canonical_code = result.err().map_or(0, |code| code as i32);
            let error = v1::Error {
                canonical_code,
                message: "refused".into(),
                ..Default::default()
            };
            prost_types::Any {
                type_url: "type.googleapis.com/p4.v1.Error".into(),
                value: error.encode_to_vec(),
            }
        });
        let status = rpc::Status {
            code: Code::Unknown as i32,
            details: details.collect(),
            ..Default::default()
        };
        Err(Status::with_details(
            Code::Unknown,
            "some updates failed",
            status.encode_to_vec().into(),
        ))
    }

    async fn read(&self, _: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let entries: Vec<_> = self.0.lock().expect("not poisoned").entries.values().cloned().collect();
        // One entity in each response, so that the client has to gather them.
        let responses = entries.into_iter().map(|entry| {
            Ok(v1::ReadResponse {
                entities: vec![entry.into()],
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        self.0.lock().expect("not poisoned").config = request.into_inner().config;
        Ok(Response::new(v1::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        _: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        match self.0.lock().expect("not poisoned").config.clone() {
            Some(config) => Ok(Response::new(v1::GetForwardingPipelineConfigResponse {
                config: Some(config),
            })),
            None => Err(Status::failed_precondition("no pipeline")),
        }
    }

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (mut requests, shared) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                use v1::stream_message_request::Update as Sent;
                let update = match message.update {
                    Some(Sent::Arbitration(update)) => {
                        let mut state = shared.lock().expect("not poisoned");
                        let id = from_uint128(&update.election_id.unwrap_or_default());
                        state.streams.push((id, outbox.clone()));
                        state.arbitrate();
                        continue;
                    }
                    Some(Sent::Packet(packet)) => Update::Packet(v1::PacketIn {
                        payload: packet.payload,
                        metadata: packet.metadata,
                    }),
                    Some(Sent::DigestAck(ack)) => Update::Error(v1::StreamError {
                        message: format!("ack of list {} of digest {}", ack.list_id, ack.digest_id),
                        ..Default::default()
                    }),
                    _ => continue,
                };
                let _ = outbox.send(Ok(v1::StreamMessageResponse { update: Some(update) }));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(inbox))))
    }

    async fn capabilities(
        &self,
        _: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        let p4runtime_api_version = "1.4.1".into();
        Ok(Response::new(v1::CapabilitiesResponse {
            p4runtime_api_version,
            experimental: None,
        }))
    }
}
