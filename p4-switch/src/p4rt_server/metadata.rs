//! The controller's notes on entities, which the engine keeps as octets: a table entry's cookie and metadata as one
//! string, and what it does not keep at all, of multicast groups and clone sessions.
//!
//! The engine keeps one byte string with a table entry. Without a note it is empty. Otherwise its first octet is the
//! number of octets of the cookie (`controller_metadata`) that follow, then comes `metadata`.

use p4runtime::v1;
use p4runtime::v1::packet_replication_engine_entry::Type as Replication;
use p4runtime::v1::replica::PortKind;

use super::decode::Change;
use super::pipeline::{Note, Notes};

/// Cookie and metadata as one byte string.
pub fn join(cookie: u64, metadata: Vec<u8>) -> Vec<u8> {
    if cookie == 0 && metadata.is_empty() {
        return metadata;
    }
    let cookie_octets = if cookie == 0 { 0 } else { 8 };
    let mut joined = Vec::with_capacity(1 + cookie_octets + metadata.len());
    joined.push(cookie_octets as u8);
    joined.extend(&cookie.to_be_bytes()[8 - cookie_octets..]);
    joined.extend(metadata);
    joined
}

/// The way back.
pub fn split(joined: &[u8]) -> (u64, Vec<u8>) {
    match joined.split_first() {
        Some((8, rest)) => match rest.split_first_chunk() {
            Some((cookie, metadata)) => (u64::from_be_bytes(*cookie), metadata.to_vec()),
            None => (0, Vec::new()),
        },
        Some((_, metadata)) => (0, metadata.to_vec()),
        None => (0, Vec::new()),
    }
}

/// What an update says of a group or session beyond what the engine keeps.
#[derive(Debug)]
pub struct Remark {
    id: u32,
    is_group: bool,
    note: Note,
}

impl Remark {
    /// Of an update of a replication entry.
    pub fn of(update: &v1::Update) -> Option<Remark> {
        let Some(v1::entity::Entity::PacketReplicationEngineEntry(entry)) = update.entity.as_ref()?.entity.as_ref()
        else {
            return None;
        };
        #[expect(deprecated, reason = "clients older than 1.4 still send it")]
        let numeric = |replica: &v1::Replica| matches!(replica.port_kind, Some(PortKind::EgressPort(_)));
        Some(match entry.r#type.as_ref()? {
            Replication::MulticastGroupEntry(group) => {
                let numeric_ports = group.replicas.iter().any(numeric);
                let note = Note {
                    metadata: group.metadata.clone(),
                    numeric_ports,
                };
                Remark {
                    id: group.multicast_group_id,
                    is_group: true,
                    note,
                }
            }
            Replication::CloneSessionEntry(session) => {
                let note = Note {
                    metadata: Vec::new(),
                    numeric_ports: session.replicas.iter().any(numeric),
                };
                Remark {
                    id: session.session_id,
                    is_group: false,
                    note,
                }
            }
        })
    }

    /// Keep it, once the update is done.
    pub fn keep(self, change: Change, notes: &Notes) {
        let of = if self.is_group { &notes.groups } else { &notes.sessions };
        let mut of = of.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match change {
            Change::Delete => of.remove(&self.id),
            _ if self.note == Note::default() => of.remove(&self.id),
            _ => of.insert(self.id, self.note),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cookie_and_metadata_survive(cookie in any::<u64>(), metadata in any::<Vec<u8>>()) {
            prop_assert_eq!(split(&join(cookie, metadata.clone())), (cookie, metadata.clone()));
            prop_assert_eq!(split(&join(0, metadata.clone())), (0, metadata));
        }
    }

    #[test]
    fn no_note_takes_no_room() {
        assert!(join(0, Vec::new()).is_empty());
        assert_eq!(split(&[8, 1, 2]), (0, Vec::new()));
    }
}
