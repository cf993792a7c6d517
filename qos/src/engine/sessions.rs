//! Owns the sessions, and which of them a subject means.

use super::SessionProfile;
use super::evaluate::Memory;
use crate::admission::Source;
use crate::context::{Subject, User};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use upf_model::{IpPrefix, Ipv4Prefix, Seid, Session, SessionId};

/// A session as far as the engine remembers it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) profile: SessionProfile,
    /// UE addresses and framed routes.
    pub(super) prefixes: Vec<IpPrefix>,
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

type Index<K> = HashMap<K, BTreeSet<SessionId>>;

/// Every session.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, Entry>,
    by_seid: HashMap<Seid, SessionId>,
    by_slice: Index<String>,
    by_subscriber: Index<String>,
    by_cell: Index<String>,
    by_prefix: Index<IpPrefix>,
    /// How many prefixes there are of each length, by family.
    lengths: BTreeMap<(bool, u8), usize>,
    /// By time.
    due: BTreeSet<(u64, SessionId)>,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&Entry> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (SessionId, &Entry)> {
        self.by_id.iter().map(|(id, entry)| (*id, entry))
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.by_id.values_mut()
    }

    pub(super) fn by_seid(&self, seid: Seid) -> Option<SessionId> {
        self.by_seid.get(&seid).copied()
    }

    /// A new session, or one whose profile or addresses may be others. True: it is new.
    pub(super) fn put(&mut self, profile: SessionProfile, base: &Session) -> bool {
        let id = profile.id;
        let prefixes = prefixes(base);
        let old = self.by_id.remove(&id);
        let is_new = old.is_none();
        let entry = match old {
            Some(old) if old.profile == profile && old.prefixes == prefixes => old,
            old => {
                if let Some(old) = &old {
                    self.unindex(old);
                }
                let entry = match old {
                    Some(old) => Entry {
                        profile,
                        prefixes,
                        ..old
                    },
                    None => Entry {
                        profile,
                        prefixes,
                        cell: None,
                        memory: Memory::new(),
                        due_ms: None,
                        denied: BTreeMap::new(),
                        conflicts: BTreeSet::new(),
                    },
                };
                self.index(&entry);
                entry
            }
        };
        self.by_id.insert(id, entry);
        is_new
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.unindex(&entry);
        if let Some(cell) = &entry.cell {
            leave(&mut self.by_cell, cell, id);
        }
        if let Some(due_ms) = entry.due_ms {
            self.due.remove(&(due_ms, id));
        }
        Some(entry)
    }

    fn index(&mut self, entry: &Entry) {
        let profile = &entry.profile;
        self.by_seid.insert(profile.seid, profile.id);
        if let Some(slice) = &profile.slice {
            enter(&mut self.by_slice, slice, profile.id);
        }
        for name in &profile.subscriber {
            enter(&mut self.by_subscriber, name, profile.id);
        }
        for prefix in &entry.prefixes {
            if enter(&mut self.by_prefix, prefix, profile.id) {
                *self.lengths.entry(length(prefix)).or_default() += 1;
            }
        }
    }

    fn unindex(&mut self, entry: &Entry) {
        let profile = &entry.profile;
        self.by_seid.remove(&profile.seid);
        if let Some(slice) = &profile.slice {
            leave(&mut self.by_slice, slice, profile.id);
        }
        for name in &profile.subscriber {
            leave(&mut self.by_subscriber, name, profile.id);
        }
        for prefix in &entry.prefixes {
            if leave(&mut self.by_prefix, prefix, profile.id)
                && let Some(count) = self.lengths.get_mut(&length(prefix))
            {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length(prefix));
                }
            }
        }
    }

    /// The session is in another cell, or in none.
    pub(super) fn set_cell(&mut self, id: SessionId, cell: Option<String>) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        if entry.cell == cell {
            return;
        }
        if let Some(old) = &entry.cell {
            leave(&mut self.by_cell, old, id);
        }
        if let Some(new) = &cell {
            enter(&mut self.by_cell, new, id);
        }
        entry.cell = cell;
    }

    /// When to look at the session again.
    pub(super) fn set_due(&mut self, id: SessionId, due_ms: Option<u64>) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        if entry.due_ms == due_ms {
            return;
        }
        if let Some(old) = entry.due_ms {
            self.due.remove(&(old, id));
        }
        if let Some(new) = due_ms {
            self.due.insert((new, id));
        }
        entry.due_ms = due_ms;
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
                User::Subscriber(name) => of(self.by_subscriber.get(name)),
                User::Session(seid) => self.by_seid(*seid).into_iter().collect(),
                User::Address(address) => self.of_address(*address),
            },
        }
    }

    fn of_address(&self, address: IpAddr) -> Vec<SessionId> {
        let lengths = self.lengths.keys().filter(|(ipv6, _)| *ipv6 == address.is_ipv6());
        let prefixes = lengths.filter_map(|(_, length)| IpPrefix::new(address, *length));
        let mut sessions: Vec<SessionId> = prefixes
            .filter_map(|prefix| self.by_prefix.get(&prefix))
            .flatten()
            .copied()
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }
}

/// True: the first one under that key.
fn enter<K: Clone + Eq + std::hash::Hash>(index: &mut Index<K>, key: &K, id: SessionId) -> bool {
    let sessions = index.entry(key.clone()).or_default();
    sessions.insert(id);
    sessions.len() == 1
}

/// True: the last one under that key.
fn leave<K: Eq + std::hash::Hash>(index: &mut Index<K>, key: &K, id: SessionId) -> bool {
    let Some(sessions) = index.get_mut(key) else {
        return false;
    };
    sessions.remove(&id);
    let empty = sessions.is_empty();
    if empty {
        index.remove(key);
    }
    empty
}

fn length(prefix: &IpPrefix) -> (bool, u8) {
    (prefix.addr().is_ipv6(), prefix.len())
}

/// UE addresses and framed routes, each once.
fn prefixes(base: &Session) -> Vec<IpPrefix> {
    let ipv4 = base.ue_ips.iter().filter_map(|ue| ue.ipv4);
    let ipv4 = ipv4
        .filter_map(|address| Ipv4Prefix::new(address, 32))
        .map(IpPrefix::V4);
    let ipv6 = base.ue_ips.iter().filter_map(|ue| ue.ipv6).map(IpPrefix::V6);
    let prefixes: BTreeSet<IpPrefix> = ipv4.chain(ipv6).chain(base.framed_routes.iter().copied()).collect();
    prefixes.into_iter().collect()
}
