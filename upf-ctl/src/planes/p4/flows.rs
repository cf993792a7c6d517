//! Owns which flows are in the target.
//!
//! **Promotion.** The host tells of flows that it classified because the target did not know them. They are gathered for
//! a millisecond, classified again under the session's present rules (so that it does not matter which version the host
//! had), and written together.
//!
//! **Eviction.** A flow without a packet for `placement.flow_idle_s` goes: the target tells, where it can, else its
//! counter does. When the table is full, the flows that were looked at longest ago are looked at again, and those that had
//! no packet since make room: the clock algorithm, with the flow's counter for its mark. If all of them had, the new
//! flows are the host's, which will tell of them again.
//!
//! A session has at most `placement.flows_per_session`; a scan by one user is nobody else's loss.

use super::actor::{Actor, CALL_TIME, Flow, in_time};
use super::figures::FlowReason;
use super::lock;
use super::target::{Target, TargetError, WriteFailure};
use crate::placement::{Key, Table, Write};
use std::time::Duration;
use tokio::time::Instant;
use upf_model::SessionId;

/// Flows looked at in one go.
const LOOKED_AT: usize = 1_024;
/// To find one flow to evict, so many are looked at.
const LOOKS_PER_VICTIM: usize = 4;

impl<T: Target> Actor<T> {
    /// Puts the flows that wait into the target.
    pub async fn promote(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        let bound = self.world.config().placement.flows_per_session as usize;
        let mut new: Vec<(SessionId, Write, Flow)> = Vec::new();
        for told in std::mem::take(&mut self.waiting_flows) {
            let Some(resident) = self.sessions.get_mut(&told.session) else {
                continue;
            };
            let Some(plan) = &resident.plan else { continue };
            let flows = plan.flows_of(&told.packet);
            if flows.is_empty() {
                self.refuse(FlowReason::NotPlaceable, 1);
                continue;
            }
            for (entry, _) in flows {
                let key = entry.key;
                let waits = new.iter().any(|(_, write, _)| write.key() == Some(&key));
                if waits || resident.flows.contains_key(&key) {
                    continue;
                }
                let of_session = new.iter().filter(|(id, ..)| *id == told.session).count();
                if resident.flows.len() + of_session >= bound {
                    lock(&self.shared.figures).refuse(FlowReason::SessionBound, 1);
                    continue;
                }
                let flow = Flow {
                    packet: told.packet,
                    hits: 0,
                    since: now,
                };
                new.push((told.session, Write::Insert(entry), flow));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let size = self.sizes.as_ref().map_or(0, |sizes| sizes.of(Table::Flows));
        let room = size.saturating_sub(self.used[Table::Flows as usize]) as usize;
        if new.len() > room {
            self.make_room(new.len() - room).await?;
            let room = size.saturating_sub(self.used[Table::Flows as usize]) as usize;
            if new.len() > room {
                self.refuse(FlowReason::Full, new.len() - room);
                new.truncate(room);
            }
        }
        let writes = new.iter().map(|(_, write, _)| write.clone()).collect();
        let failed = self.write(writes).await?;
        let mut promoted = 0;
        for (place, (id, write, flow)) in new.into_iter().enumerate() {
            match failed.iter().find(|(at, _)| *at == place) {
                Some((_, WriteFailure::Full)) => self.refuse(FlowReason::Full, 1),
                Some((_, WriteFailure::Unexpected)) => {
                    return Err(TargetError::Lost("a flow was there that was not known".into()));
                }
                None => {
                    if let (Some(resident), Some(key)) = (self.sessions.get_mut(&id), write.key()) {
                        resident.flows.insert(*key, flow);
                        self.clock.push_back((id, *key));
                        promoted += 1;
                    }
                }
            }
        }
        lock(&self.shared.figures).promotions += promoted;
        if failed.iter().any(|(_, failure)| *failure == WriteFailure::Full) {
            // It holds less than its P4Info says.
            self.make_room(failed.len()).await?;
        }
        Ok(())
    }

    fn refuse(&self, reason: FlowReason, flows: usize) {
        lock(&self.shared.figures).refuse(reason, flows as u64);
    }

    /// Looks at some flows. Those for which `goes` says so, by whether they had a packet since and how long they had
    /// none, are evicted.
    async fn look(
        &mut self,
        at_most: usize,
        reason: FlowReason,
        mut goes: impl FnMut(bool, Duration) -> bool,
    ) -> Result<usize, TargetError> {
        let mut looked_at = Vec::new();
        while looked_at.len() < at_most
            && let Some((id, key)) = self.clock.pop_front()
        {
            // Flows that are gone are dropped from the clock when it comes to them.
            if self.sessions.get(&id).is_some_and(|r| r.flows.contains_key(&key)) {
                looked_at.push((id, key));
            }
        }
        if looked_at.is_empty() {
            return Ok(0);
        }
        let keys: Vec<Key> = looked_at.iter().map(|(_, key)| *key).collect();
        let hits = in_time(CALL_TIME, self.target.hits(&keys)).await?;
        let now = Instant::now();
        let mut victims = Vec::new();
        for ((id, key), hits) in looked_at.into_iter().zip(hits) {
            let Some(flow) = self.sessions.get_mut(&id).and_then(|r| r.flows.get_mut(&key)) else {
                continue;
            };
            let moved = flow.hits != hits;
            if moved {
                flow.hits = hits;
                flow.since = now;
            }
            if goes(moved, now - flow.since) {
                victims.push((id, key));
            } else {
                self.clock.push_back((id, key));
            }
        }
        let count = victims.len();
        self.evict(victims, reason).await?;
        Ok(count)
    }

    async fn make_room(&mut self, flows: usize) -> Result<(), TargetError> {
        let (mut missing, at_most) = (flows, (flows * LOOKS_PER_VICTIM).clamp(64, LOOKED_AT));
        let goes = |moved: bool, _| {
            let goes = !moved && missing > 0;
            missing -= usize::from(goes);
            goes
        };
        self.look(at_most, FlowReason::Full, goes).await?;
        Ok(())
    }

    async fn evict(&mut self, victims: Vec<(SessionId, Key)>, reason: FlowReason) -> Result<(), TargetError> {
        if victims.is_empty() {
            return Ok(());
        }
        self.delete(victims.iter().map(|(_, key)| *key)).await?;
        for (id, key) in &victims {
            if let Some(resident) = self.sessions.get_mut(id) {
                resident.flows.remove(key);
            }
        }
        lock(&self.shared.figures).evict(reason, victims.len() as u64);
        Ok(())
    }

    /// The target tells of idle flows.
    pub async fn idle(&mut self, flows: Vec<Key>) -> Result<(), TargetError> {
        let known = flows.into_iter().filter_map(|key| match key {
            Key::Flow { session, .. } => {
                let id = SessionId(session);
                self.sessions.get(&id)?.flows.contains_key(&key).then_some((id, key))
            }
            _ => None,
        });
        let victims = known.collect();
        self.evict(victims, FlowReason::Idle).await
    }

    /// Where the target does not tell: looks at the next flows itself.
    pub async fn evict_idle(&mut self) -> Result<(), TargetError> {
        if self.target.tells_idle() || self.clock.is_empty() {
            // What went by itself is dropped from the clock.
            while self
                .clock
                .front()
                .is_some_and(|(id, key)| self.sessions.get(id).is_none_or(|r| !r.flows.contains_key(key)))
            {
                self.clock.pop_front();
            }
            return Ok(());
        }
        let idle = Duration::from_secs(self.world.config().placement.flow_idle_s.into());
        let at_most = self.clock.len().div_ceil(8).clamp(1, 16 * LOOKED_AT);
        self.look(at_most, FlowReason::Idle, |_, since| since >= idle).await?;
        Ok(())
    }
}
