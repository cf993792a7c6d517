//! Owns which flows the controller hears of, for a P4 target to have them: those of packets that the target punted for
//! want of a flow, each once in a while, however many of its packets come.

use super::detect::Rule;
use super::parse::UserPacket;
use super::{Lane, Now};
use crate::compile::{CompiledPdr, CompiledSession};
use crate::counters::HostEvent;
use crate::packet::Packet;
use qos::Direction;
use std::hash::{BuildHasher, RandomState};
use upf_model::batch::{Flow, FlowPacket};
use upf_model::{Qfi, SessionId};

/// The session for which a P4 target knew no flow of a packet. None: the packet was punted for another reason.
pub type Missed = Option<SessionId>;

/// Flows remembered. Two that share a place push each other out, and are reported more often than need be.
const PLACES: usize = 4_096;
/// Milliseconds after which a flow that still comes is reported again: the report, or what came of it, may be lost.
const AGAIN_MS: u64 = 100;

/// What was reported a moment ago: one lcore's memory of fixed size.
pub(super) struct Told {
    /// Seeded at random: nobody can choose flows that push others out.
    hasher: RandomState,
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    hash: u64,
    told_ms: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            places: vec![Place::default(); PLACES].into(),
        }
    }
}

impl Told {
    /// The flow's place and hash, if it is to be told now.
    fn due(&mut self, flow: &Flow, now_ms: u64) -> Option<(&mut Place, u64)> {
        let hash = self.hasher.hash_one(flow);
        let place = &mut self.places[hash as usize % PLACES];
        let lately = place.hash == hash && now_ms.saturating_sub(place.told_ms) < AGAIN_MS;
        (!lately).then_some((place, hash))
    }
}

impl<P: Packet> Lane<P> {
    /// Report the flow of a packet that a P4 target did not know, in the session that it found.
    #[cold]
    pub(super) fn report_flow(&mut self, missed: SessionId, rule: Option<Rule<'_>>, user: &UserPacket, now: Now) {
        let Some(flow) = rule.and_then(|(session, pdr)| flow_of(missed, session, pdr, user)) else {
            return;
        };
        let Some((place, hash)) = self.told.due(&flow, now.ms()) else {
            return self.counters.event(HostEvent::FlowSuppressed);
        };
        if self.reports.flow(flow) {
            let told_ms = now.ms();
            *place = Place { hash, told_ms };
            self.counters.event(HostEvent::FlowReported);
        } else {
            self.counters.event(HostEvent::EventLost); // the next packet tries again
        }
    }
}

/// The flow of a classified packet, if the target found the same session and the packet is the user's own. It names the
/// version of the rules that it was classified under: the target's epochs are numbers of the controller's own.
fn flow_of(id: SessionId, session: &CompiledSession, pdr: &CompiledPdr, user: &UserPacket) -> Option<Flow> {
    let uplink = pdr.direction == Direction::Uplink;
    if session.rare.id != id || uplink && !session.may_come_from(user.fields.ue()) {
        return None;
    }
    let fields = &user.fields;
    Some(Flow {
        session: id,
        epoch: session.rare.epoch,
        pdr: pdr.id,
        packet: FlowPacket {
            uplink,
            remote: fields.remote(),
            ue: fields.ue(),
            protocol: fields.protocol(),
            ports: fields.ports(),
            tos: fields.tos(),
            qfi: user.qfi.map(Qfi),
        },
    })
}
