//! Downlink buffering (TS 29.244 5.2.4): packets of sessions whose FAR says BUFF wait here, in order.
//!
//! Each lcore keeps the packets it received; a session's bounds and counts are shared by all. The packets wait as
//! they arrived, unchanged, and take the rest of their way under the rules of the moment they are drained.

use super::parse::UserPacket;
use crate::counters::DropReason;
use crate::neighbours::PortIndex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use upf_model::batch::Count;
use upf_model::{FarId, Seid};

/// What is in buffers, over all lcores: of one session, whose account outlives a change of its rules, or of all.
#[derive(Debug, Default)]
pub struct BufferAccount {
    packets: AtomicU32,
    bytes: AtomicU64,
    /// The Downlink Data Report of this buffering period has been sent.
    notified: AtomicBool,
}

impl BufferAccount {
    /// Packets and bytes waiting.
    pub fn count(&self) -> Count {
        Count {
            packets: self.packets.load(Ordering::Relaxed).into(),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
    /// True for the first caller since [`Self::rearm`].
    pub fn claim_notification(&self) -> bool {
        !self.notified.swap(true, Ordering::Relaxed)
    }
    /// A new buffering period begins.
    pub fn rearm(&self) {
        self.notified.store(false, Ordering::Relaxed);
    }
    /// Gives how many packets there were before.
    fn add(&self, bytes: usize) -> u32 {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.packets.fetch_add(1, Ordering::Relaxed)
    }
    fn sub(&self, bytes: usize) {
        self.packets.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferBounds {
    /// Most packets.
    pub packets: u32,
    /// Most bytes.
    pub bytes: u64,
}

/// A waiting packet.
#[derive(Debug)]
pub struct Held<P> {
    /// Where it came in.
    pub ingress: PortIndex,
    /// Under which FAR it was buffered.
    pub far: FarId,
    /// What parsing found.
    pub user: UserPacket,
    /// As it arrived.
    pub packet: P,
    account: Arc<BufferAccount>,
}

/// One lcore's buffers.
pub struct Buffers<P> {
    fifos: HashMap<Seid, VecDeque<Held<P>>>,
    total: Arc<BufferAccount>,
    total_bound: u32,
}

impl<P> Buffers<P> {
    /// Empty ones; `total` is shared by all lcores.
    pub fn new(total: Arc<BufferAccount>, total_bound: u32) -> Self {
        Self {
            fifos: HashMap::new(),
            total,
            total_bound,
        }
    }

    /// Whether packets of this session wait here.
    pub fn holds(&self, seid: Seid) -> bool {
        self.fifos.contains_key(&seid)
    }

    /// Put a packet behind the others of its session. `dropped` gets what has to go for it (the session's oldest) or
    /// the packet itself, with the reason.
    pub fn push(
        &mut self,
        seid: Seid,
        account: &Arc<BufferAccount>,
        bounds: BufferBounds,
        (ingress, far, user, packet): (PortIndex, FarId, UserPacket, P),
        mut dropped: impl FnMut(P, UserPacket, DropReason),
    ) -> bool {
        let bytes = u64::from(user.ip_len);
        loop {
            let now = account.count();
            if now.packets < u64::from(bounds.packets) && now.bytes + bytes <= bounds.bytes {
                break;
            }
            // Where the session's packets all wait at other lcores, or the bounds admit none at all, the new one goes.
            let admissible = bytes <= bounds.bytes && bounds.packets > 0;
            match self
                .fifos
                .get_mut(&seid)
                .filter(|_| admissible)
                .and_then(VecDeque::pop_front)
            {
                Some(oldest) => {
                    self.release(&oldest);
                    dropped(oldest.packet, oldest.user, DropReason::BufferOldest);
                }
                None => {
                    dropped(packet, user, DropReason::BufferFull);
                    return false;
                }
            }
        }
        if self.total.add(usize::from(user.ip_len)) >= self.total_bound {
            self.total.sub(usize::from(user.ip_len));
            dropped(packet, user, DropReason::BufferFull);
            return false;
        }
        account.add(usize::from(user.ip_len));
        let held = Held {
            ingress,
            far,
            user,
            packet,
            account: account.clone(),
        };
        self.fifos.entry(seid).or_default().push_back(held);
        true
    }

    fn release(&self, held: &Held<P>) {
        self.total.sub(usize::from(held.user.ip_len));
        held.account.sub(usize::from(held.user.ip_len));
    }

    /// Take everything of a session, oldest first.
    pub fn take(&mut self, seid: Seid) -> VecDeque<Held<P>> {
        let fifo = self.fifos.remove(&seid).unwrap_or_default();
        fifo.iter().for_each(|h| self.release(h));
        fifo
    }

    /// Take what these FARs of a session have buffered, oldest first; the rest keeps its order.
    pub fn take_of(&mut self, seid: Seid, fars: &[FarId]) -> VecDeque<Held<P>> {
        let all = self.fifos.remove(&seid).unwrap_or_default();
        let (taken, kept): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|h| fars.contains(&h.far));
        taken.iter().for_each(|h| self.release(h));
        if !kept.is_empty() {
            self.fifos.insert(seid, kept);
        }
        taken
    }
}
