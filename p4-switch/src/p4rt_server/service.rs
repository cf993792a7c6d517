//! The RPCs over gRPC. Long work is done on blocking threads, so that streams stay responsive beside it.

use std::pin::Pin;
use std::sync::Arc;

use p4runtime::v1;
use p4runtime::v1::p4_runtime_server::P4Runtime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::device::Device;

/// Batches up to this many updates are done where they arrive, if nothing else is at work.
const SMALL_BATCH: usize = 64;
/// Entities in one message of a read: well below gRPC's usual limit of 4 MiB for a message.
const READ_CHUNK: usize = 512;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service of one device.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<Device>);

impl Service {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Device) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let device = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&device)).await;
        done.unwrap_or_else(|error| Err(Status::internal(format!("the request failed: {error}"))))
    }
}

#[tonic::async_trait]
impl P4Runtime for Service {
    type ReadStream = Responses<v1::ReadResponse>;
    type StreamChannelStream = Responses<v1::StreamMessageResponse>;

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        if request.updates.len() <= SMALL_BATCH && self.0.is_idle() {
            self.0.write(request)?;
        } else {
            self.blocking(move |device| device.write(request)).await?;
        }
        Ok(Response::new(v1::WriteResponse {}))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (request, device) = (request.into_inner(), self.0.clone());
        // Not bounded: the switch must not wait for a slow reader, for writers wait for the read.
        let (responses, stream) = mpsc::unbounded_channel();
        tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(READ_CHUNK);
            let result = device.read(request, &mut |entity| {
                chunk.push(entity);
                if chunk.len() == READ_CHUNK {
                    let entities = std::mem::replace(&mut chunk, Vec::with_capacity(READ_CHUNK));
                    let _ = responses.send(Ok(v1::ReadResponse { entities }));
                }
            });
            if !chunk.is_empty() {
                let _ = responses.send(Ok(v1::ReadResponse { entities: chunk }));
            }
            if let Err(status) = result {
                let _ = responses.send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        self.blocking(move |device| device.set_pipeline(request)).await?;
        Ok(Response::new(v1::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        self.blocking(move |device| device.pipeline(request))
            .await
            .map(Response::new)
    }

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (stream, responses) = self.0.open_stream();
        let (device, mut requests) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut status = None;
            while let Ok(Some(message)) = requests.message().await {
                if let Err(refused) = device.received(stream, message) {
                    status = Some(refused);
                    break;
                }
            }
            device.close_stream(stream, status);
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn capabilities(
        &self,
        request: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        Ok(Response::new(self.0.capabilities(request.into_inner())?))
    }
}
