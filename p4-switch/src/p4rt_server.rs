//! The P4Runtime server: clients program the switch, read it, and exchange packets and notifications with it.
//!
//! It implements the P4Runtime specification 1.5 for v1model (<https://p4.org/p4-spec/p4runtime/main/P4Runtime-Spec.html>):
//! arbitration with roles, all five actions of SetForwardingPipelineConfig, Write with all three atomicities, Read of
//! every entity with wildcards and filters, packet-in and packet-out, digests, idle timeouts. Read downwards:
//!
//! | file | owns |
//! | --- | --- |
//! | `service` | the RPCs as gRPC has them |
//! | `device` | what each RPC does, and in which order it is checked |
//! | `streams`, `arbitration` | the clients, and which of them is primary |
//! | `pipeline` | P4Info bound to the program: ids of the one to ids of the other |
//! | `decode` | updates: from messages to the engine's, with the specification's checks |
//! | `read`, `encode` | queries and filters; from the engine's entities to messages |
//! | `packet_io`, `digest`, `metadata` | packets with metadata; digests in their type's shape; the controller's notes |
//! | `refusal` | the specification's error codes, for single updates of a batch |
//!
//! A packet never waits for a client: what the engine tells goes into a bounded queue, and from there to clients.
//!
//! What it does not do: `@entry_restriction` and `@action_restriction` are not evaluated; entries of one action selector
//! may mix one-shot sets with members and groups; values translated to strings, backup replicas, excess bursts and
//! counters by colour are UNIMPLEMENTED; a role has no configuration, every role may do everything.

mod arbitration;
mod decode;
mod device;
mod digest;
mod encode;
mod metadata;
mod packet_io;
mod pipeline;
mod read;
mod refusal;
mod service;
mod streams;

use std::sync::Arc;

use p4runtime::v1::p4_runtime_server::P4RuntimeServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

pub use device::Device;

use crate::Switch;

/// Largest message: a program with its P4Info, or a long batch.
const MAX_MESSAGE: usize = 256 << 20;
/// Events of the engine that wait to be passed on; more are dropped.
const EVENT_QUEUE: usize = 8192;
/// HTTP/2 flow control: large batches should not wait for window updates.
const WINDOW: u32 = 8 << 20;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server ended: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serve a switch to whoever connects, until the future is dropped. `device_id`: see [`Device::new`].
pub async fn serve(switch: Arc<Switch>, device_id: Option<u64>, listener: TcpListener) -> Result<(), ServeError> {
    let device = Arc::new(Device::new(switch.clone(), device_id));
    let (events, mut inbox) = mpsc::channel(EVENT_QUEUE);
    // A full queue drops the event: the packet thread goes on.
    let counting = Arc::downgrade(&device);
    switch.on_event(move |event| {
        if events.try_send(event).is_err()
            && let Some(device) = counting.upgrade()
        {
            device.count_dropped();
        }
    });
    let teller = device.clone();
    let telling = async move {
        while let Some(event) = inbox.recv().await {
            teller.tell(event);
        }
    };
    let service = P4RuntimeServer::new(service::Service(device))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::select! {
        served = serving => Ok(served?),
        () = telling => Ok(()),
    }
}
