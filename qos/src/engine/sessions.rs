//! Owns the sessions, and which of them a subject means.

use super::SessionProfile;
use super::evaluate::Memory;
use crate::admission::Source;
use crate::context::{Subject, User};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use upf_model::candidates::Candidates;
use upf_model::{IpPrefix, Ipv4Prefix, Seid, Session, SessionId};

/// A session as far as the engine remembers it: a million of them take some 80 bytes each, besides names.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seid: Seid,
    /// The same for many sessions.
    pub(super) affiliation: Arc<Affiliation>,
    /// The user's identities. The outer box is one word, where most sessions have nothing.
    #[allow(clippy::box_collection)]
    names: Option<Box<Vec<Box<str>>>>,
    prefixes: Prefixes,
    /// It is in the queue of sessions that may have to change.
    pub(super) is_marked: bool,
    more: Option<Box<More>>,
}

/// What a session shares with others.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Affiliation {
    pub(super) slice: Option<String>,
    pub(super) dnn: Option<String>,
    /// Names of the ports that its packets leave by.
    pub(super) ports: Vec<String>,
}

/// UE addresses and framed routes, ascending.
#[derive(Debug, PartialEq, Eq)]
enum Prefixes {
    /// One address, as most sessions have.
    Address(Ipv4Addr),
    /// Any others. One word, as above.
    #[allow(clippy::box_collection)]
    Several(Box<Vec<IpPrefix>>),
}

impl Prefixes {
    fn iter(&self) -> impl Iterator<Item = IpPrefix> {
        let (address, several) = match self {
            Self::Address(address) => (Ipv4Prefix::new(*address, 32).map(IpPrefix::V4), &[][..]),
            Self::Several(prefixes) => (None, prefixes.as_slice()),
        };
        address.into_iter().chain(several.iter().copied())
    }
}

/// What few sessions have: those that policies concern.
#[derive(Debug, Default)]
pub(super) struct More {
    /// By the fact `cell`.
    pub(super) cell: Option<String>,
    /// What policies remember, by index in the file and flow.
    pub(super) memory: Memory,
    /// When something may change by time alone.
    pub(super) due_ms: Option<u64>,
    /// What was refused when last asked, and why.
    pub(super) denied: BTreeMap<Source, String>,
    /// Pairs of sources that were told to be in conflict.
    pub(super) conflicts: BTreeSet<(String, String, &'static str)>,
}

static NOTHING: More = More {
    cell: None,
    memory: Memory::new(),
    due_ms: None,
    denied: BTreeMap::new(),
    conflicts: BTreeSet::new(),
};

impl More {
    fn is_nothing(&self) -> bool {
        let remembers = !self.memory.is_empty() || !self.denied.is_empty() || !self.conflicts.is_empty();
        self.cell.is_none() && self.due_ms.is_none() && !remembers
    }
}

impl Entry {
    /// The user's identities.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flat_map(|names| names.iter()).map(|name| &**name)
    }

    /// UE addresses and framed routes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpPrefix> {
        self.prefixes.iter()
    }

    /// What policies make of it.
    pub(super) fn more(&self) -> &More {
        self.more.as_deref().unwrap_or(&NOTHING)
    }

    /// Whether that is anything.
    pub(super) fn is_concerned(&self) -> bool {
        self.more.is_some()
    }

    /// Changes the same; what is nothing afterwards is not kept.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut More) -> R) -> R {
        let more = self.more.get_or_insert_default();
        let result = change(more);
        if more.is_nothing() {
            self.more = None;
        }
        result
    }

    fn is_of(&self, profile: &SessionProfile) -> bool {
        let Affiliation { slice, dnn, ports } = &*self.affiliation;
        let names = profile.subscriber.iter().map(String::as_str);
        self.seid == profile.seid
            && (slice, dnn, ports) == (&profile.slice, &profile.dnn, &profile.ports)
            && self.names().eq(names)
    }
}

type Index<K> = HashMap<K, BTreeSet<SessionId>>;

/// Every session. Their numbers are dense.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    entries: Vec<Option<Entry>>,
    affiliations: HashSet<Arc<Affiliation>>,
    /// Those whose slot is not the lower half of their SEID.
    by_seid: HashMap<Seid, SessionId>,
    by_slice: Index<String>,
    by_subscriber: Candidates<str>,
    by_cell: Index<String>,
    by_prefix: Candidates<IpPrefix>,
    /// How many prefixes sessions have of each length, by family.
    lengths: BTreeMap<(bool, u8), usize>,
    /// By time.
    due: BTreeSet<(u64, SessionId)>,
}

fn is_in_seid(id: SessionId, seid: Seid) -> bool {
    seid.0 as u32 == id.0
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.entries().map(|(id, _)| id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (SessionId, &Entry)> {
        let slots = self.entries.iter().enumerate();
        slots.filter_map(|(slot, entry)| Some((SessionId(slot as u32), entry.as_ref()?)))
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().flatten()
    }

    pub(super) fn by_seid(&self, seid: Seid) -> Option<SessionId> {
        let in_seid = SessionId(seid.0 as u32);
        let is_there = self.get(in_seid).is_some_and(|entry| entry.seid == seid);
        is_there.then_some(in_seid).or_else(|| self.by_seid.get(&seid).copied())
    }

    /// A new session, or one whose profile or addresses may be others. True: it is new.
    pub(super) fn put(&mut self, profile: SessionProfile, base: &Session) -> bool {
        let id = profile.id;
        let slot = id.0 as usize;
        if slot >= self.entries.len() {
            self.entries.resize_with(slot + 1, || None);
        }
        let prefixes = prefixes(base);
        let old = self.entries[slot].take();
        let is_new = old.is_none();
        let entry = match old {
            Some(old) if old.is_of(&profile) && old.prefixes == prefixes => old,
            old => {
                if let Some(old) = &old {
                    self.unindex(id, old);
                }
                let (is_marked, more) = old.map_or((false, None), |old| (old.is_marked, old.more));
                let names = profile.subscriber.into_iter().map(String::into_boxed_str);
                let names: Vec<Box<str>> = names.collect();
                let entry = Entry {
                    seid: profile.seid,
                    affiliation: self.affiliation(profile.slice, profile.dnn, profile.ports),
                    names: (!names.is_empty()).then(|| Box::new(names)),
                    prefixes,
                    is_marked,
                    more,
                };
                self.index(id, &entry);
                entry
            }
        };
        self.entries[slot] = Some(entry);
        is_new
    }

    /// The one that others have too, or a new one.
    fn affiliation(&mut self, slice: Option<String>, dnn: Option<String>, ports: Vec<String>) -> Arc<Affiliation> {
        let wanted = Affiliation { slice, dnn, ports };
        if let Some(known) = self.affiliations.get(&wanted) {
            return known.clone();
        }
        let new = Arc::new(wanted);
        self.affiliations.insert(new.clone());
        new
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.entries.get_mut(id.0 as usize)?.take()?;
        self.unindex(id, &entry);
        if let Some(cell) = &entry.more().cell {
            leave(&mut self.by_cell, cell, id);
        }
        if let Some(due_ms) = entry.more().due_ms {
            self.due.remove(&(due_ms, id));
        }
        Some(entry)
    }

    fn index(&mut self, id: SessionId, entry: &Entry) {
        if !is_in_seid(id, entry.seid) {
            self.by_seid.insert(entry.seid, id);
        }
        if let Some(slice) = &entry.affiliation.slice {
            self.by_slice.entry(slice.clone()).or_default().insert(id);
        }
        for name in entry.names() {
            self.by_subscriber.enter(name, id);
        }
        for prefix in entry.prefixes() {
            self.by_prefix.enter(&prefix, id);
            *self.lengths.entry(length(&prefix)).or_default() += 1;
        }
    }

    fn unindex(&mut self, id: SessionId, entry: &Entry) {
        if !is_in_seid(id, entry.seid) {
            self.by_seid.remove(&entry.seid);
        }
        if let Some(slice) = &entry.affiliation.slice {
            leave(&mut self.by_slice, slice, id);
        }
        for name in entry.names() {
            self.by_subscriber.leave(name, id);
        }
        for prefix in entry.prefixes() {
            self.by_prefix.leave(&prefix, id);
            if let Some(count) = self.lengths.get_mut(&length(&prefix)) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length(&prefix));
                }
            }
        }
        // The set has one, and the entry, which is on its way out, the other.
        if Arc::strong_count(&entry.affiliation) == 2 {
            self.affiliations.remove(&entry.affiliation);
        }
    }

    /// The session is in another cell, or in none.
    pub(super) fn set_cell(&mut self, id: SessionId, cell: Option<String>) {
        let Some(entry) = self.get_mut(id).filter(|entry| entry.more().cell != cell) else {
            return;
        };
        let old = entry.change(|more| std::mem::replace(&mut more.cell, cell.clone()));
        if let Some(old) = &old {
            leave(&mut self.by_cell, old, id);
        }
        if let Some(new) = cell {
            self.by_cell.entry(new).or_default().insert(id);
        }
    }

    /// When to look at the session again.
    pub(super) fn set_due(&mut self, id: SessionId, due_ms: Option<u64>) {
        let Some(entry) = self.get_mut(id).filter(|entry| entry.more().due_ms != due_ms) else {
            return;
        };
        let old = entry.change(|more| std::mem::replace(&mut more.due_ms, due_ms));
        if let Some(old) = old {
            self.due.remove(&(old, id));
        }
        if let Some(new) = due_ms {
            self.due.insert((new, id));
        }
    }

    /// The session to look at next, and when.
    pub(super) fn next_due(&self) -> Option<(u64, SessionId)> {
        self.due.first().copied()
    }

    /// The sessions that a subject means, ascending.
    pub(super) fn of(&self, about: &Subject) -> Vec<SessionId> {
        let of = |sessions: Option<&BTreeSet<SessionId>>| sessions.into_iter().flatten().copied().collect();
        match about {
            Subject::Network => self.ids().collect(),
            Subject::Slice(name) => of(self.by_slice.get(name)),
            Subject::Cell(name) => of(self.by_cell.get(name)),
            Subject::User(user) | Subject::Flow(user, _) => match user {
                User::Subscriber(name) => self.sorted(self.by_subscriber.of(name), |entry| {
                    entry.names().any(|other| other == name.as_str())
                }),
                User::Session(seid) => self.by_seid(*seid).into_iter().collect(),
                User::Address(address) => self.of_address(*address),
            },
        }
    }

    fn of_address(&self, address: IpAddr) -> Vec<SessionId> {
        let lengths = self.lengths.keys().filter(|(ipv6, _)| *ipv6 == address.is_ipv6());
        let prefixes = lengths.filter_map(|(_, length)| IpPrefix::new(address, *length));
        let candidates = prefixes.flat_map(|prefix| self.by_prefix.of(&prefix).collect::<Vec<_>>());
        self.sorted(candidates, |entry| {
            entry.prefixes().any(|prefix| prefix.contains(address))
        })
    }

    /// Those of the candidates that it is so of, ascending.
    fn sorted(&self, candidates: impl Iterator<Item = SessionId>, is_so: impl Fn(&Entry) -> bool) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = candidates.filter(|id| self.get(*id).is_some_and(&is_so)).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }
}

fn leave(index: &mut Index<String>, key: &str, id: SessionId) {
    if let Some(sessions) = index.get_mut(key) {
        sessions.remove(&id);
        if sessions.is_empty() {
            index.remove(key);
        }
    }
}

fn length(prefix: &IpPrefix) -> (bool, u8) {
    (prefix.addr().is_ipv6(), prefix.len())
}

/// UE addresses and framed routes, each once.
fn prefixes(base: &Session) -> Prefixes {
    let ipv4 = base.ue_ips.iter().filter_map(|ue| ue.ipv4);
    let ipv4 = ipv4
        .filter_map(|address| Ipv4Prefix::new(address, 32))
        .map(IpPrefix::V4);
    let ipv6 = base.ue_ips.iter().filter_map(|ue| ue.ipv6).map(IpPrefix::V6);
    let mut prefixes: Vec<IpPrefix> = ipv4.chain(ipv6).chain(base.framed_routes.iter().copied()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    match prefixes[..] {
        [IpPrefix::V4(prefix)] if prefix.len() == 32 => Prefixes::Address(prefix.addr()),
        _ => Prefixes::Several(Box::new(prefixes)),
    }
}
