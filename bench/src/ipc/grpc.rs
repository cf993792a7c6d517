//! gRPC by tonic: one service with a unary and a bidirectionally streaming method, written by hand instead of generated.

use super::{Link, Outcome, announce, message};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream, UnixListenerStream};
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use upf_model::batch::ToHost;

/// Carries an archive.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    archive: Vec<u8>,
}

type Codec = ProstCodec<Envelope, Envelope>;

const UNARY: &str = "/upf.Host/Apply";
const STREAM: &str = "/upf.Host/ApplyAll";
const MESSAGE_MAX: usize = 64 << 20;

fn answer(envelope: &Envelope) -> Result<Envelope, Status> {
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(envelope.archive.len());
    aligned.extend_from_slice(&envelope.archive);
    match message::answer_bytes(&aligned) {
        Ok(archive) => Ok(Envelope {
            archive: archive.into_vec(),
        }),
        Err(e) => Err(Status::invalid_argument(e.to_string())),
    }
}

#[derive(Clone)]
struct Host;

impl tonic::server::UnaryService<Envelope> for Host {
    type Response = Envelope;
    type Future = std::future::Ready<Result<Response<Envelope>, Status>>;
    fn call(&mut self, request: Request<Envelope>) -> Self::Future {
        std::future::ready(answer(request.get_ref()).map(Response::new))
    }
}

impl tonic::server::StreamingService<Envelope> for Host {
    type Response = Envelope;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;
    fn call(&mut self, request: Request<Streaming<Envelope>>) -> Self::Future {
        let answers = request.into_inner().map(|envelope| answer(&envelope?));
        std::future::ready(Ok(Response::new(Box::pin(answers))))
    }
}

impl Service<http::Request<tonic::body::Body>> for Host {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default()).max_decoding_message_size(MESSAGE_MAX);
            Ok(match request.uri().path() {
                UNARY => grpc.unary(Host, request).await,
                STREAM => grpc.streaming(Host, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

pub fn serve_tcp() -> Outcome<()> {
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce(&format!("http://{}", listener.local_addr()?));
        let incoming = TcpListenerStream::new(listener).map(|s| s.inspect(|s| drop(s.set_nodelay(true))));
        Ok(Server::builder().serve_with_incoming(Host, incoming).await?)
    })
}

pub fn serve_unix(name: &str) -> Outcome<()> {
    runtime()?.block_on(async {
        let path = std::env::temp_dir().join(format!("{name}.sock"));
        let listener = tokio::net::UnixListener::bind(&path)?;
        announce(&format!("unix://{}", path.display()));
        Ok(Server::builder()
            .serve_with_incoming(Host, UnixListenerStream::new(listener))
            .await?)
    })
}

async fn client(address: &str) -> Outcome<tonic::client::Grpc<Channel>> {
    let channel = Endpoint::from_shared(address.to_owned())?
        .tcp_nodelay(true)
        .connect()
        .await?;
    if let Some(path) = address.strip_prefix("unix://") {
        std::fs::remove_file(path)?;
    }
    Ok(tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX))
}

fn envelope(message: &ToHost) -> Outcome<Envelope> {
    Ok(Envelope {
        archive: message::archive(message)?.into_vec(),
    })
}

struct Unary {
    runtime: Runtime,
    client: tonic::client::Grpc<Channel>,
    calls: VecDeque<JoinHandle<Result<Response<Envelope>, Status>>>,
}

pub fn connect_unary(address: &str) -> Outcome<Box<dyn Link>> {
    let runtime = runtime()?;
    let client = runtime.block_on(client(address))?;
    Ok(Box::new(Unary {
        runtime,
        client,
        calls: VecDeque::new(),
    }))
}

impl Link for Unary {
    fn send(&mut self, message: &ToHost) -> Outcome<()> {
        let (mut client, request) = (self.client.clone(), Request::new(envelope(message)?));
        self.calls.push_back(self.runtime.spawn(async move {
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            client
                .unary(request, http::uri::PathAndQuery::from_static(UNARY), Codec::default())
                .await
        }));
        Ok(())
    }

    fn receive(&mut self) -> Outcome<u64> {
        let call = self.calls.pop_front().ok_or("nothing was sent")?;
        message::answered(&self.runtime.block_on(call)??.into_inner().archive)
    }
}

struct Streamed {
    runtime: Runtime,
    requests: mpsc::UnboundedSender<Envelope>,
    answers: Streaming<Envelope>,
}

pub fn connect_stream(address: &str) -> Outcome<Box<dyn Link>> {
    let runtime = runtime()?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let answers = runtime.block_on(async {
        let mut client = client(address).await?;
        client.ready().await?;
        let request = Request::new(UnboundedReceiverStream::new(outgoing));
        let path = http::uri::PathAndQuery::from_static(STREAM);
        Outcome::Ok(client.streaming(request, path, Codec::default()).await?.into_inner())
    })?;
    Ok(Box::new(Streamed {
        runtime,
        requests,
        answers,
    }))
}

impl Link for Streamed {
    fn send(&mut self, message: &ToHost) -> Outcome<()> {
        Ok(self.requests.send(envelope(message)?)?)
    }

    fn receive(&mut self) -> Outcome<u64> {
        let answer = self
            .runtime
            .block_on(self.answers.message())?
            .ok_or("the stream has ended")?;
        message::answered(&answer.archive)
    }
}
