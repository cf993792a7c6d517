//! The session table: every PFCP session there is, by the SEID we gave it.
//!
//! A local SEID is 32 random bits above the 32 bits of the session's slot: found without a search, and not to
//! be guessed by a peer who was not told it. The slot is the [`SessionId`] that the data planes index by.
//!
//! The table belongs to the controller's one task; nothing here locks. What a request changes is put in only
//! after every data plane and the store have it.

pub mod allocations;
pub mod slots;

pub use allocations::{Allocations, Holdings};

use crate::context_push::measured::Reading;
use crate::pfcp::wire::{FSeid, Subscription};
use crate::usage::UsageAccount;
use qos::Overlaid;
use qos::engine::Decision;
use serde::{Deserialize, Serialize};
use slots::Slots;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use upf_model::{FarId, PdrId, Seid, Session, SessionId, Teid};

/// Freed slots that rest before the first of them is used again.
const SLOT_REST: usize = 1_024;

/// The SMF's end of a session (CP F-SEID, TS 29.244 8.2.37).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpEndpoint {
    /// The SMF's SEID.
    pub seid: u64,
    /// Where it takes session reports.
    pub ipv4: Option<Ipv4Addr>,
    /// Where it takes session reports.
    pub ipv6: Option<Ipv6Addr>,
}

impl From<FSeid> for CpEndpoint {
    fn from(f: FSeid) -> Self {
        Self {
            seid: f.seid,
            ipv4: f.ipv4,
            ipv6: f.ipv6,
        }
    }
}

impl CpEndpoint {
    /// The address to send to, of the family of our own socket.
    pub fn address(&self, ours: IpAddr) -> Option<IpAddr> {
        match ours {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self
                .ipv6
                .map(IpAddr::V6)
                .or(self.ipv4.map(|a| IpAddr::V6(a.to_ipv6_mapped()))),
        }
    }
}

/// The answer to the last request that changed a session, kept with it: a retransmission that reaches a
/// controller which was killed before it could answer still gets the one answer that is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswer {
    /// Who asked.
    pub peer: SocketAddr,
    /// Message type of the request.
    pub message_type: u8,
    /// Sequence number of the request.
    pub sequence: u32,
    /// Milliseconds since the UNIX epoch.
    pub at_ms: u64,
    /// The response.
    pub datagram: Vec<u8>,
}

/// A session as it is kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The validated rules as the SMF wants them; what contexts make of them is in [`Entry::adapted`].
    pub session: Session,
    /// The SMF's end.
    pub cp: CpEndpoint,
    /// Node ID of the SMF, as text.
    pub node: String,
    /// Whose it is.
    pub subscription: Subscription,
    /// F-TEIDs, UE addresses and framed routes it holds.
    pub holdings: Holdings,
    /// Milliseconds since the UNIX epoch.
    pub established_ms: u64,
    /// See [`LastAnswer`].
    pub last_answer: Option<LastAnswer>,
}

/// A session as the table has it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the store has too.
    pub record: SessionRecord,
    /// What its URRs have measured.
    pub usage: UsageAccount,
    /// A Session Report Request is on its way and not yet answered.
    pub report_outstanding: bool,
    /// The SMF has been told of what is in the buffer now.
    pub downlink_reported: bool,
    /// The SMF has not taken a usage report; before this it is not asked again.
    pub usage_report_not_before: Option<Instant>,
    /// Little is left of a volume threshold, as data planes were told last.
    pub near_threshold: bool,
    /// What contexts make of the rules.
    pub adapted: Adapted,
    /// Its counters, for rates.
    pub reading: Option<Reading>,
}

/// The rules as the data planes have them, where contexts make them others than the SMF's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adapted {
    /// What policies decided last.
    pub decision: Decision,
    /// None: nothing differs.
    overlaid: Option<Box<Overlaid>>,
}

impl Adapted {
    /// A decision, applied to an SMF's rules.
    pub fn of(base: &Session, decision: Decision) -> Self {
        let overlaid = (!decision.is_empty()).then(|| Box::new(qos::overlay(base, &decision)));
        Self {
            decision,
            overlaid: overlaid.filter(|overlaid| overlaid.session != *base),
        }
    }

    /// The rules for the data planes, of the base that it was made [of](Self::of).
    pub fn session<'s>(&'s self, base: &'s Session) -> &'s Session {
        self.overlaid.as_ref().map_or(base, |overlaid| &overlaid.session)
    }

    /// FARs that stand for these of the SMF in the data planes, besides themselves.
    pub fn copies_of<'s>(&'s self, fars: &'s [FarId]) -> impl Iterator<Item = FarId> + 's {
        let copies = self.overlaid.iter().flat_map(|overlaid| &overlaid.derived_fars);
        copies
            .filter(|(_, origin)| fars.contains(origin))
            .map(|(copy, _)| *copy)
    }
}

impl Entry {
    /// A session with these accounts, of which nothing is on its way to the SMF.
    pub fn new(record: SessionRecord, usage: UsageAccount) -> Self {
        Self {
            record,
            usage,
            report_outstanding: false,
            downlink_reported: false,
            usage_report_not_before: None,
            near_threshold: false,
            adapted: Adapted::default(),
            reading: None,
        }
    }

    /// The rules as the data planes have them.
    pub fn in_planes(&self) -> &Session {
        self.adapted.session(&self.record.session)
    }

    /// The SMF's PDR of one that the data planes name.
    pub fn smf_pdr(&self, pdr: PdrId) -> PdrId {
        let derived = self.adapted.overlaid.iter().flat_map(|overlaid| &overlaid.derived);
        derived
            .filter(|(id, _)| *id == pdr)
            .map(|(_, origin)| *origin)
            .next()
            .unwrap_or(pdr)
    }
}

/// Slots and SEIDs, and what is in them.
#[derive(Debug)]
pub struct Sessions {
    slots: Slots,
    entries: Vec<Option<Box<Entry>>>,
    count: usize,
    random: RandomState,
    seids_made: u64,
    /// Removed while a data plane may still have had them.
    unconfirmed: Vec<SessionId>,
    /// Which sessions send into a tunnel of a peer.
    by_remote_tunnel: HashMap<(IpAddr, Teid), Vec<SessionId>>,
}

/// The peers' tunnels that a session's FARs send into.
fn remote_tunnels(session: &Session) -> impl Iterator<Item = (IpAddr, Teid)> + '_ {
    let parameters = session
        .fars
        .iter()
        .flat_map(|far| far.forwarding.iter().chain(&far.duplicating));
    parameters
        .filter_map(|p| p.outer_header_creation)
        .map(|tunnel| (tunnel.peer, tunnel.teid))
}

impl Sessions {
    /// Empty, with room for `max_sessions`.
    pub fn new(max_sessions: u32) -> Self {
        Self {
            slots: Slots::new(u64::from(max_sessions), SLOT_REST),
            entries: Vec::new(),
            count: 0,
            random: RandomState::new(),
            seids_made: 0,
            unconfirmed: Vec::new(),
            by_remote_tunnel: HashMap::new(),
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A slot and a SEID for a new session; `None` if the table is full. It must be [put](Self::put) or
    /// [given back](Self::give_back).
    pub fn reserve(&mut self) -> Option<(SessionId, Seid)> {
        let entries = &self.entries;
        let occupied = |slot: u64| entries.get(slot as usize).is_some_and(Option::is_some);
        let slot = self.slots.take(occupied)? as u32;
        self.seids_made += 1;
        // `RandomState` is keyed from the operating system's entropy: SipHash of a counter under that key is
        // not to be predicted by who does not know it.
        let random = (self.random.hash_one(self.seids_made) as u32).max(1);
        Some((SessionId(slot), Seid(u64::from(random) << 32 | u64::from(slot))))
    }

    /// Gives back a slot whose session did not come to be.
    pub fn give_back(&mut self, id: SessionId) {
        self.slots.free(u64::from(id.0));
    }

    /// Puts a session into its slot, in place of what was there.
    pub fn put(&mut self, entry: Entry) {
        let id = entry.record.session.id;
        let slot = id.0 as usize;
        if slot >= self.entries.len() {
            self.entries.resize_with(slot + 1, || None);
        }
        for tunnel in remote_tunnels(&entry.record.session) {
            let sessions = self.by_remote_tunnel.entry(tunnel).or_default();
            if !sessions.contains(&id) {
                sessions.push(id);
            }
        }
        match self.entries[slot].replace(Box::new(entry)) {
            None => self.count += 1,
            Some(before) => self.forget_tunnels(&before),
        }
    }

    /// Takes the tunnels of what was in a slot out of the index, but for those that what is there now uses too.
    fn forget_tunnels(&mut self, before: &Entry) {
        let id = before.record.session.id;
        let now: Vec<_> = self
            .get(id)
            .map(|e| remote_tunnels(&e.record.session).collect())
            .unwrap_or_default();
        for tunnel in remote_tunnels(&before.record.session).filter(|tunnel| !now.contains(tunnel)) {
            if let Some(sessions) = self.by_remote_tunnel.get_mut(&tunnel) {
                sessions.retain(|session| *session != id);
                if sessions.is_empty() {
                    self.by_remote_tunnel.remove(&tunnel);
                }
            }
        }
    }

    /// The sessions that send into this tunnel of a peer.
    pub fn by_remote_tunnel(&self, peer: IpAddr, teid: Teid) -> Vec<SessionId> {
        self.by_remote_tunnel.get(&(peer, teid)).cloned().unwrap_or_default()
    }

    /// Takes a session out. `confirmed`: every data plane has said that it no longer has it; otherwise its slot
    /// is kept back until [`Sessions::synchronised`].
    pub fn remove(&mut self, id: SessionId, confirmed: bool) -> Option<Box<Entry>> {
        let entry = self.entries.get_mut(id.0 as usize)?.take()?;
        self.count -= 1;
        self.forget_tunnels(&entry);
        if confirmed {
            self.slots.free(u64::from(id.0));
        } else {
            self.unconfirmed.push(id);
        }
        Some(entry)
    }

    /// Every data plane has exactly the sessions that are here.
    pub fn synchronised(&mut self) {
        for id in std::mem::take(&mut self.unconfirmed) {
            self.slots.free(u64::from(id.0));
        }
    }

    /// The session of that slot.
    pub fn get(&self, id: SessionId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_deref()
    }

    /// The session of that slot.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The session of that local SEID. Cost: one array access.
    pub fn by_seid(&self, seid: u64) -> Option<&Entry> {
        self.get(SessionId(seid as u32))
            .filter(|e| e.record.session.seid.0 == seid)
    }

    /// All sessions, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter_map(|e| e.as_deref())
    }

    /// All sessions from a slot on.
    pub fn iter_from(&self, first: SessionId) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(first.0 as usize).filter_map(|e| e.as_deref())
    }

    /// All sessions of an SMF.
    pub fn of_node(&self, node: &str) -> Vec<SessionId> {
        self.iter()
            .filter(|e| e.record.node == node)
            .map(|e| e.record.session.id)
            .collect()
    }
}
