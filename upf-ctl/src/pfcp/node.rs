//! PFCP nodes: associations, heartbeats, and what the restart of a peer means (TS 29.244 6.2, 7.4).
//!
//! What is decided here, where the standard leaves room or is easily misread:
//! * *Setup from a node that is associated already* replaces the association: its sessions are removed, unless
//!   PFCP Session Retention Information asks to keep them (6.2.6.2.2).
//! * *A later Recovery Time Stamp* in a heartbeat or setup means that the peer has restarted and forgotten its
//!   sessions: they and the association are removed (TS 23.527 4.3). An earlier one is a message that was delayed.
//! * *A peer that stops answering heartbeats* is marked down and nothing else: users keep their traffic, and the
//!   sessions are there when the path is back. A peer that has really lost them says so by its time stamp.
//! * *Session requests* are answered for sessions of associated nodes only (cause 72 otherwise), whatever address
//!   they come from: an SMF may use several.

use super::transport::{PFCP_PORT, Request, RequestError};
use super::wire::incoming::{AssociationSetupRequest, AssociationUpdateRequest};
use super::wire::outgoing::{AssociationSetupResponse, HeartbeatRequest, NodeRequest, NodeResponse, Outcome};
use super::wire::{Cause, CpFunctionFeatures, Message, NodeId, NtpSeconds, TooLong, UpFeature, UpFunctionFeatures};
use crate::controller::{Controller, Outside};
use crate::store::{AssociationRecord, Write};
use crate::usage::now_ms;
use rs_pfcp::message::MsgType;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What this UPF offers, and nothing that does not work (TS 29.244 8.2.25).
pub const FEATURES: UpFunctionFeatures = UpFunctionFeatures::NONE
    .with(UpFeature::Ftup)
    .with(UpFeature::Empu)
    .with(UpFeature::Ueip)
    .with(UpFeature::Ddnd)
    .with(UpFeature::Udbc)
    .with(UpFeature::Frrt)
    .with(UpFeature::Mnop);

/// An association and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// What the store has too.
    pub record: AssociationRecord,
    /// It answers heartbeats, as far as is known.
    pub up: bool,
    /// A heartbeat of ours is on its way.
    heartbeat_outstanding: bool,
}

impl Association {
    /// Where its PFCP entity takes requests.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.record.peer.ip(), PFCP_PORT)
    }

    /// What it can do.
    pub fn features(&self) -> CpFunctionFeatures {
        CpFunctionFeatures(self.record.features)
    }
}

/// Every node we are associated with, by its Node ID as text.
#[derive(Debug, Default)]
pub struct Associations {
    nodes: BTreeMap<String, Association>,
}

impl Associations {
    /// Those that the store had.
    pub fn recovered(records: Vec<AssociationRecord>) -> Self {
        let associations = records.into_iter().map(|record| {
            let association = Association {
                record,
                up: true,
                heartbeat_outstanding: false,
            };
            (association.record.node.clone(), association)
        });
        Self {
            nodes: associations.collect(),
        }
    }

    /// Whether there is one with this node.
    pub fn contains(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Whether there is one with a node at this address.
    pub fn any_at(&self, address: IpAddr) -> bool {
        self.nodes.values().any(|a| a.record.peer.ip() == address)
    }

    /// All, by Node ID.
    pub fn iter(&self) -> impl Iterator<Item = &Association> {
        self.nodes.values()
    }
}

/// Whether time stamp `a` is later than `b`; they wrap in 2036 and every 136 years after.
fn is_later(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

// --- requests of a node -------------------------------------------------------------------------------------

/// Serves a request that is no session request.
pub async fn serve(controller: &mut Controller, request: Request) {
    let message_type = MsgType::from(request.header.message_type);
    let key = request.key();
    let (outcome, response) = match request.contents {
        Err(unreadable) => refused(
            controller,
            message_type,
            Outcome::from(&unreadable.refusal),
            key.sequence,
        ),
        Ok(Message::AssociationSetupRequest(setup)) => {
            let outcome = set_up(controller, key.peer, setup).await;
            (outcome, encode_setup(controller, outcome, key.sequence))
        }
        Ok(Message::AssociationUpdateRequest(update)) => {
            let outcome = follow_update(controller, update);
            (
                outcome,
                encode_response(controller, NodeRequest::AssociationUpdate, outcome, key.sequence),
            )
        }
        Ok(Message::AssociationReleaseRequest(release)) => {
            let outcome = self::release(controller, &release.node_id).await;
            (
                outcome,
                encode_response(controller, NodeRequest::AssociationRelease, outcome, key.sequence),
            )
        }
        Ok(_) => refused(
            controller,
            message_type,
            Outcome::with_cause(Cause::ServiceNotSupported),
            key.sequence,
        ),
    };
    match response {
        Some(Ok(response)) => controller.transport.respond(key, response, Some(outcome.cause)).await,
        Some(Err(error)) => tracing::error!(%error, ?message_type, "no response"),
        None => controller.metrics.discarded("no-response-defined"),
    }
}

type Response = Option<Result<Vec<u8>, TooLong>>;

fn encode_setup(controller: &Controller, outcome: Outcome, sequence: u32) -> Response {
    let response = AssociationSetupResponse {
        node_id: controller.node_id.clone(),
        outcome,
        recovery_time_stamp: controller.recovery_time_stamp,
        features: FEATURES,
    };
    Some(response.encode(sequence))
}

fn encode_response(controller: &Controller, request: NodeRequest, outcome: Outcome, sequence: u32) -> Response {
    Some(
        NodeResponse {
            request,
            node_id: controller.node_id.clone(),
            outcome,
        }
        .encode(sequence),
    )
}

fn refused(controller: &Controller, message_type: MsgType, outcome: Outcome, sequence: u32) -> (Outcome, Response) {
    let node_request = match message_type {
        MsgType::AssociationSetupRequest => return (outcome, encode_setup(controller, outcome, sequence)),
        MsgType::AssociationUpdateRequest => NodeRequest::AssociationUpdate,
        MsgType::AssociationReleaseRequest => NodeRequest::AssociationRelease,
        MsgType::PfdManagementRequest => NodeRequest::PfdManagement,
        MsgType::SessionSetDeletionRequest => NodeRequest::SessionSetDeletion,
        MsgType::SessionSetModificationRequest => NodeRequest::SessionSetModification,
        _ => return (outcome, None),
    };
    (outcome, encode_response(controller, node_request, outcome, sequence))
}

async fn set_up(controller: &mut Controller, peer: SocketAddr, setup: AssociationSetupRequest) -> Outcome {
    let node = setup.node_id.to_string();
    if controller.associations.contains(&node) && !setup.retain_sessions {
        controller.remove_sessions_of(&node, "association-set-up-again").await;
    }
    let record = AssociationRecord {
        node: node.clone(),
        peer,
        recovery_time_stamp: setup.recovery_time_stamp.0,
        features: setup.features.0,
        since_ms: now_ms(),
    };
    if let Err(error) = controller.store.commit([Write::PutAssociation(&record)]) {
        tracing::error!(%error, node, "the association cannot be stored");
        return Outcome::with_cause(Cause::SystemFailure);
    }
    tracing::info!(node, %peer, "association set up");
    controller.associations.nodes.insert(
        node,
        Association {
            record,
            up: true,
            heartbeat_outstanding: false,
        },
    );
    Outcome::ACCEPTED
}

fn follow_update(controller: &mut Controller, update: AssociationUpdateRequest) -> Outcome {
    let Some(association) = controller.associations.nodes.get_mut(&update.node_id.to_string()) else {
        return Outcome::with_cause(Cause::NoEstablishedPfcpAssociation);
    };
    let features = update
        .features
        .map_or(association.record.features, |features| features.0);
    let record = AssociationRecord {
        features,
        ..association.record.clone()
    };
    if let Err(error) = controller.store.commit([Write::PutAssociation(&record)]) {
        tracing::error!(%error, node = record.node, "the association cannot be stored");
        return Outcome::with_cause(Cause::SystemFailure);
    }
    association.record = record;
    Outcome::ACCEPTED
}

async fn release(controller: &mut Controller, node: &NodeId) -> Outcome {
    let node = node.to_string();
    if !controller.associations.contains(&node) {
        return Outcome::with_cause(Cause::NoEstablishedPfcpAssociation);
    }
    remove(controller, &node, "association-release").await;
    tracing::info!(node, "association released");
    Outcome::ACCEPTED
}

async fn remove(controller: &mut Controller, node: &str, reason: &'static str) {
    controller.remove_sessions_of(node, reason).await;
    controller.associations.nodes.remove(node);
    if let Err(error) = controller.store.commit([Write::RemoveAssociation(node)]) {
        tracing::error!(%error, node, "the association cannot be removed from the store");
    }
}

// --- heartbeats ---------------------------------------------------------------------------------------------

/// A peer has told when it started, in a heartbeat of its own or in the answer to ours.
pub async fn heard_from(controller: &mut Controller, peer: IpAddr, recovery_time_stamp: NtpSeconds) {
    let mut restarted = Vec::new();
    for association in controller
        .associations
        .nodes
        .values_mut()
        .filter(|a| a.record.peer.ip() == peer)
    {
        if !association.up {
            tracing::info!(node = association.record.node, "peer is back");
        }
        association.up = true;
        if is_later(recovery_time_stamp.0, association.record.recovery_time_stamp) {
            restarted.push(association.record.node.clone());
        }
    }
    for node in restarted {
        tracing::warn!(node, "peer has restarted; its association and sessions are removed");
        remove(controller, &node, "peer-restart").await;
    }
}

/// Sends a heartbeat to every associated node that does not owe us an answer yet.
pub fn send_heartbeats(controller: &mut Controller) {
    for association in controller
        .associations
        .nodes
        .values_mut()
        .filter(|a| !a.heartbeat_outstanding)
    {
        association.heartbeat_outstanding = true;
        let (node, peer) = (association.record.node.clone(), association.address());
        let heartbeat = HeartbeatRequest {
            recovery_time_stamp: controller.recovery_time_stamp,
        };
        let (transport, outside) = (controller.transport.clone(), controller.outside.clone());
        tokio::spawn(async move {
            let answer = transport.request(peer, |sequence| heartbeat.encode(sequence)).await;
            // The controller may be shutting down.
            let _ = outside.send(Outside::HeartbeatAnswered {
                node,
                peer: peer.ip(),
                answer,
            });
        });
    }
}

/// A heartbeat of ours was answered, or was not.
pub async fn heartbeat_answered(
    controller: &mut Controller,
    node: &str,
    peer: IpAddr,
    answer: Result<Message, RequestError>,
) {
    if let Some(association) = controller.associations.nodes.get_mut(node) {
        association.heartbeat_outstanding = false;
        if let Err(error) = &answer
            && association.up
        {
            association.up = false;
            tracing::warn!(node, %peer, %error, "peer does not answer heartbeats; its sessions are kept");
        }
    }
    if let Ok(Message::HeartbeatResponse(heartbeat)) = answer {
        heard_from(controller, peer, heartbeat.recovery_time_stamp).await;
    }
}

#[cfg(test)]
mod tests {
    use super::is_later;

    #[test]
    fn time_stamps_are_compared_across_their_wrap() {
        assert!(is_later(5, 4));
        assert!(!is_later(4, 5));
        assert!(!is_later(4, 4));
        assert!(is_later(3, u32::MAX - 3));
    }
}
