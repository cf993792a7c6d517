//! The streams of all clients: who has one, what comes in on it, and what goes out.
//!
//! Two queues lead to a client. Arbitration must arrive; a client that does not read it loses its stream. Packets,
//! digests, notifications and errors may be dropped when a client is slow: nobody waits for it, least of all packets.

use std::collections::HashMap;

use p4runtime::client::from_uint128;
use p4runtime::v1;
use p4runtime::v1::stream_message_response::Update as Message;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::arbitration::{Arbitration, Notifications, StreamId};
use super::device::Device;
use super::refusal::Refusal;

/// Arbitration messages that a client may leave unread.
const ARBITRATION_QUEUE: usize = 256;
/// Other messages that a client may leave unread; more are dropped.
const DATA_QUEUE: usize = 8192;

type Response = Result<v1::StreamMessageResponse, Status>;

/// The server's end of every stream of a device.
#[derive(Debug, Default)]
pub struct Streams {
    pub arbitration: Arbitration,
    outboxes: HashMap<StreamId, Outbox>,
    next: StreamId,
}

#[derive(Debug, Clone)]
struct Outbox {
    arbitration: mpsc::Sender<Response>,
    data: mpsc::Sender<Response>,
}

impl Streams {
    fn open(&mut self) -> (StreamId, impl tokio_stream::Stream<Item = Response> + Send + use<>) {
        let (arbitration, first) = mpsc::channel(ARBITRATION_QUEUE);
        let (data, second) = mpsc::channel(DATA_QUEUE);
        self.next += 1;
        self.outboxes.insert(self.next, Outbox { arbitration, data });
        (self.next, ReceiverStream::new(first).merge(ReceiverStream::new(second)))
    }

    fn notify(&mut self, notifications: Notifications) {
        for (stream, update) in notifications {
            let message = response(Message::Arbitration(update));
            let refused = self
                .outboxes
                .get(&stream)
                .is_some_and(|o| o.arbitration.try_send(Ok(message)).is_err());
            if refused {
                self.outboxes.remove(&stream);
            }
        }
    }

    /// Send to every role's primary; whether any could be sent to.
    pub fn tell_primaries(&self, message: Message) -> bool {
        let mut primaries = self
            .arbitration
            .primaries()
            .filter_map(|stream| self.outboxes.get(&stream));
        let Some(first) = primaries.next() else { return false };
        let mut told = false;
        for other in primaries {
            told |= other.data.try_send(Ok(response(message.clone()))).is_ok();
        }
        first.data.try_send(Ok(response(message))).is_ok() || told
    }
}

fn response(update: Message) -> v1::StreamMessageResponse {
    v1::StreamMessageResponse { update: Some(update) }
}

impl Device {
    /// A new stream: its id, and what goes out on it.
    pub fn open_stream(&self) -> (StreamId, impl tokio_stream::Stream<Item = Response> + Send + use<>) {
        self.streams().open()
    }

    /// A stream ended, from whichever side. With a status, that is the last the client hears.
    pub fn close_stream(&self, stream: StreamId, status: Option<Status>) {
        let _quiet = self.between_writes();
        let mut streams = self.streams();
        if let (Some(outbox), Some(status)) = (streams.outboxes.remove(&stream), status) {
            let _ = outbox.arbitration.try_send(Err(status));
        }
        tracing::info!(stream, "stream ended");
        let notifications = streams.arbitration.end(stream, self.id());
        streams.notify(notifications);
    }

    /// A message of a client. An error ends the stream; what is wrong with packets and acknowledgements does not.
    pub fn received(&self, stream: StreamId, message: v1::StreamMessageRequest) -> Result<(), Status> {
        use v1::stream_error::Details;
        use v1::stream_message_request::Update;
        let primary = || match self.streams().arbitration.is_primary(stream) {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::PermissionDenied,
                "only the primary client may send this",
            )),
        };
        let (done, details) = match message.update {
            Some(Update::Arbitration(update)) => return self.arbitrate(stream, update),
            Some(Update::Packet(packet)) => {
                let done = primary().and_then(|()| self.packet_out(&packet));
                (
                    done,
                    Details::PacketOut(v1::PacketOutError {
                        packet_out: Some(packet),
                    }),
                )
            }
            Some(Update::DigestAck(ack)) => {
                let done = primary().and_then(|()| self.acknowledge(&ack));
                (
                    done,
                    Details::DigestListAck(v1::DigestListAckError {
                        digest_list_ack: Some(ack),
                    }),
                )
            }
            Some(Update::Other(other)) => {
                let refused = Err(Refusal::unimplemented("v1model has no messages of its own"));
                (refused, Details::Other(v1::StreamOtherError { other: Some(other) }))
            }
            None => return Err(Status::invalid_argument("the stream message is empty")),
        };
        if let Err(refusal) = done
            && let Some(outbox) = self.streams().outboxes.get(&stream)
        {
            let error = v1::StreamError {
                canonical_code: refusal.code as i32,
                message: refusal.message,
                details: Some(details),
                ..Default::default()
            };
            let _ = outbox.data.try_send(Ok(response(Message::Error(error))));
        }
        Ok(())
    }

    fn arbitrate(&self, stream: StreamId, update: v1::MasterArbitrationUpdate) -> Result<(), Status> {
        let _quiet = self.between_writes();
        let mut streams = self.streams();
        self.adopt(update.device_id).map_err(|mut refusal| {
            if streams.arbitration.knows(stream) {
                refusal.code = Code::FailedPrecondition;
            }
            refusal
        })?;
        let election_id = update.election_id.as_ref().map(from_uint128);
        let notifications = streams.arbitration.update(stream, update)?;
        let primary = streams.arbitration.is_primary(stream);
        tracing::info!(stream, ?election_id, primary, "client arbitrated");
        streams.notify(notifications);
        Ok(())
    }
}
