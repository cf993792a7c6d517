//! The session table: every PFCP session there is, by the SEID we gave it.
//!
//! A local SEID is 32 random bits above the 32 bits of the session's slot: found without a search, and not to
//! be guessed by a peer who was not told it. The slot is the [`SessionId`] that the data planes index by.
//!
//! The table belongs to the controller's one task; nothing here locks. What a request changes is put in only
//! after every data plane and the store have it.
//!
//! A session rests packed, in one piece of memory (`at_rest`), with what is looked at every second beside it. Whoever
//! wants more gets it unpacked, as a copy. So a session of two PDRs takes a tenth of the memory that its structures
//! would, and a request some microseconds more.

pub mod allocations;
mod at_rest;
pub mod slots;

pub use allocations::{Allocations, Holdings};
pub use at_rest::{Notes, Watched};

use crate::context_push::measured::Reading;
use crate::pfcp::wire::{FSeid, Subscription};
use crate::usage::UsageAccount;
use at_rest::AtRest;
use qos::Overlaid;
use qos::engine::Decision;
use serde::{Deserialize, Serialize};
use slots::Slots;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use upf_model::candidates::Candidates;
use upf_model::packed::Packer;
use upf_model::{Epoch, FarId, PdrId, Seid, Session, SessionId, Teid};

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

/// A session, unpacked: a copy. What is changed in it is to be [put](Sessions::put) to hold.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the store has too, but for the last answer, which only the store has.
    pub record: SessionRecord,
    /// What its URRs have measured.
    pub usage: UsageAccount,
    /// What contexts make of the rules.
    pub adapted: Arc<Adapted>,
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

    /// Whether it is nothing: the SMF's rules as they are.
    pub fn is_none(&self) -> bool {
        self.decision.is_empty() && self.overlaid.is_none()
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

    fn smf_pdr(&self, pdr: PdrId) -> PdrId {
        let mut derived = self.overlaid.iter().flat_map(|overlaid| &overlaid.derived);
        derived.find(|(id, _)| *id == pdr).map_or(pdr, |(_, origin)| *origin)
    }
}

impl Entry {
    /// A session with these accounts, of which contexts make nothing else.
    pub fn new(record: SessionRecord, usage: UsageAccount) -> Self {
        Self {
            record,
            usage,
            adapted: Arc::default(),
        }
    }

    /// The rules as the data planes have them.
    pub fn in_planes(&self) -> &Session {
        self.adapted.session(&self.record.session)
    }

    /// The same, kept.
    pub fn into_planes(self) -> Session {
        match &self.adapted.overlaid {
            None => self.record.session,
            Some(overlaid) => overlaid.session.clone(),
        }
    }

    /// The SMF's PDR of one that the data planes name.
    pub fn smf_pdr(&self, pdr: PdrId) -> PdrId {
        self.adapted.smf_pdr(pdr)
    }
}

/// Slots and SEIDs, and what is in them.
#[derive(Debug)]
pub struct Sessions {
    slots: Slots,
    entries: Vec<Option<AtRest>>,
    packer: Packer,
    count: usize,
    random: RandomState,
    seids_made: u64,
    /// Given up while a data plane may still have had them.
    unconfirmed: Vec<SessionId>,
    /// Which sessions send into a tunnel of a peer.
    by_remote_tunnel: Candidates<(IpAddr, Teid)>,
    /// What few sessions have.
    beside: HashMap<SessionId, Beside>,
}

/// What few sessions have.
#[derive(Debug, Default)]
struct Beside {
    /// What contexts make of the rules.
    adapted: Arc<Adapted>,
    /// Its counters, for rates.
    reading: Option<Reading>,
    /// The SMF has not taken a usage report; before this it is not asked again.
    usage_report_not_before: Option<Instant>,
}

impl Beside {
    fn is_empty(&self) -> bool {
        self.adapted.is_none() && self.reading.is_none() && self.usage_report_not_before.is_none()
    }
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
            packer: Packer::default(),
            count: 0,
            random: RandomState::new(),
            seids_made: 0,
            unconfirmed: Vec::new(),
            by_remote_tunnel: Candidates::default(),
            beside: HashMap::new(),
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

    /// Gives back a slot whose session did not come to be. `confirmed`: as for [`Sessions::remove`].
    pub fn give_back(&mut self, id: SessionId, confirmed: bool) {
        if confirmed {
            self.slots.free(u64::from(id.0));
        } else {
            self.unconfirmed.push(id);
        }
    }

    /// Puts a session into its slot, in place of what was there. What was noted of that one stays, if it is of the same
    /// SEID.
    pub fn put(&mut self, entry: &Entry) {
        let session = &entry.record.session;
        let (id, slot) = (session.id, session.id.0 as usize);
        if slot >= self.entries.len() {
            self.entries.resize_with(slot + 1, || None);
        }
        let before = self.entries[slot].take();
        let tunnels_before: Vec<_> = before.as_ref().map_or_else(Vec::new, |before| {
            let session = before.record(&self.packer).session;
            remote_tunnels(&session).collect()
        });
        for tunnel in tunnels_before {
            self.by_remote_tunnel.leave(&tunnel, id);
        }
        for tunnel in remote_tunnels(session) {
            self.by_remote_tunnel.enter(&tunnel, id);
        }
        let mut at_rest = AtRest::new(&mut self.packer, entry);
        match before {
            Some(before) if before.seid(id) == session.seid => at_rest.notes = before.notes,
            Some(_) => drop(self.beside.remove(&id)),
            None => self.count += 1,
        }
        self.entries[slot] = Some(at_rest);
        self.set_adapted(id, entry.adapted.clone());
    }

    /// The sessions that send into this tunnel of a peer.
    pub fn by_remote_tunnel(&self, peer: IpAddr, teid: Teid) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.by_remote_tunnel.of(&(peer, teid)).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions.retain(|id| {
            let record = self.at_rest(*id).map(|at_rest| at_rest.record(&self.packer));
            record.is_some_and(|record| remote_tunnels(&record.session).any(|tunnel| tunnel == (peer, teid)))
        });
        sessions
    }

    /// Takes a session out. `confirmed`: every data plane has said that it no longer has it; otherwise its slot
    /// is kept back until [`Sessions::synchronised`].
    pub fn remove(&mut self, id: SessionId, confirmed: bool) -> Option<Entry> {
        let entry = self.get(id)?;
        *self.entries.get_mut(id.0 as usize)? = None;
        self.beside.remove(&id);
        self.count -= 1;
        for tunnel in remote_tunnels(&entry.record.session) {
            self.by_remote_tunnel.leave(&tunnel, id);
        }
        self.give_back(id, confirmed);
        Some(entry)
    }

    /// Every data plane has exactly the sessions that are here.
    pub fn synchronised(&mut self) {
        for id in std::mem::take(&mut self.unconfirmed) {
            self.slots.free(u64::from(id.0));
        }
    }

    fn at_rest(&self, id: SessionId) -> Option<&AtRest> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    fn at_rest_mut(&mut self, id: SessionId) -> Option<&mut AtRest> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    /// The session of a slot, unpacked. Cost: about a microsecond for one of two PDRs; what can be asked for by the
    /// methods below costs an array access.
    pub fn get(&self, id: SessionId) -> Option<Entry> {
        Some(self.unpack(id, self.at_rest(id)?))
    }

    fn unpack(&self, id: SessionId, at_rest: &AtRest) -> Entry {
        Entry {
            record: at_rest.record(&self.packer),
            usage: at_rest.usage(),
            adapted: self.adapted(id),
        }
    }

    /// The session of a local SEID.
    pub fn by_seid(&self, seid: u64) -> Option<SessionId> {
        let id = SessionId(seid as u32);
        self.at_rest(id)
            .filter(|at_rest| at_rest.seid(id).0 == seid)
            .map(|_| id)
    }

    /// Which session is in a slot, and which version of its rules.
    pub fn version(&self, id: SessionId) -> Option<(Seid, Epoch)> {
        self.at_rest(id).map(|at_rest| (at_rest.seid(id), at_rest.epoch))
    }

    /// What is noted of a session.
    pub fn notes(&self, id: SessionId) -> Option<Notes> {
        self.at_rest(id).map(|at_rest| at_rest.notes)
    }

    /// The same, to be changed.
    pub fn notes_mut(&mut self, id: SessionId) -> Option<&mut Notes> {
        self.at_rest_mut(id).map(|at_rest| &mut at_rest.notes)
    }

    /// What there is in a session's rules that has to be looked at regularly.
    pub fn watched(&self, id: SessionId) -> Option<Watched> {
        self.at_rest(id).map(|at_rest| at_rest.watched)
    }

    /// What a session's URRs have measured.
    pub fn usage(&self, id: SessionId) -> Option<UsageAccount> {
        self.at_rest(id).map(AtRest::usage)
    }

    /// Lets what a session's URRs have measured change. `change` says whether it has; what it says is given back. False
    /// too if there is no such session.
    pub fn account(&mut self, id: SessionId, change: impl FnOnce(&mut UsageAccount) -> bool) -> bool {
        let Some(at_rest) = self.at_rest_mut(id) else {
            return false;
        };
        let mut usage = at_rest.usage();
        let changed = change(&mut usage);
        if changed {
            at_rest.set_usage(&usage);
        }
        changed
    }

    /// What contexts make of a session's rules.
    pub fn adapted(&self, id: SessionId) -> Arc<Adapted> {
        self.beside
            .get(&id)
            .map_or_else(Arc::default, |beside| beside.adapted.clone())
    }

    /// Contexts make this of a session's rules from now on.
    pub fn set_adapted(&mut self, id: SessionId, adapted: Arc<Adapted>) {
        if !adapted.is_none() || self.beside.contains_key(&id) {
            self.beside(id, |beside| beside.adapted = adapted);
        }
    }

    /// A session's counters as they were read last, if a policy asks for rates.
    pub fn with_reading<R>(&mut self, id: SessionId, change: impl FnOnce(&mut Reading) -> R) -> Option<R> {
        self.at_rest(id)?;
        Some(self.beside(id, |beside| change(beside.reading.get_or_insert_default())))
    }

    /// Whether an SMF that has not taken a session's usage is left alone still.
    pub fn is_paused(&self, id: SessionId, now: Instant) -> bool {
        let until = self.beside.get(&id).and_then(|beside| beside.usage_report_not_before);
        until.is_some_and(|until| now < until)
    }

    /// Until when the SMF is not told again what a session has used.
    pub fn pause(&mut self, id: SessionId, until: Option<Instant>) {
        if until.is_some() || self.beside.contains_key(&id) {
            self.beside(id, |beside| beside.usage_report_not_before = until);
        }
    }

    /// Changes what few sessions have, and forgets it when nothing is left.
    fn beside<R>(&mut self, id: SessionId, change: impl FnOnce(&mut Beside) -> R) -> R {
        let beside = self.beside.entry(id).or_default();
        let result = change(beside);
        if beside.is_empty() {
            self.beside.remove(&id);
        }
        result
    }

    /// The slots in use, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.ids_from(SessionId(0))
    }

    /// The slots in use from one on.
    pub fn ids_from(&self, first: SessionId) -> impl Iterator<Item = SessionId> {
        let entries = self.entries.iter().enumerate().skip(first.0 as usize);
        entries
            .filter(|(_, entry)| entry.is_some())
            .map(|(slot, _)| SessionId(slot as u32))
    }

    /// All sessions from a slot on, each unpacked when it is its turn.
    pub fn iter_from(&self, first: SessionId) -> impl Iterator<Item = Entry> {
        self.ids_from(first).filter_map(|id| self.get(id))
    }

    /// All sessions of an SMF. Every session is unpacked for it.
    pub fn of_node(&self, node: &str) -> Vec<SessionId> {
        self.iter_from(SessionId(0))
            .filter(|entry| entry.record.node == node)
            .map(|entry| entry.record.session.id)
            .collect()
    }
}

#[cfg(test)]
mod tests;
