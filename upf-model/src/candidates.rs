//! Which sessions may have a key: an index that keeps hashes instead of keys.
//!
//! An index of a million addresses, tunnels or names, with a list of sessions for each, takes a hundred bytes and more a
//! session, though the sessions know all that themselves. This one keeps half a hash and the session, some 18 bytes, and
//! answers with every session that has the key and, now and then, one that has another: who asks looks at the session.
//!
//! Cost: that of a hash table; it grows without asking the sessions for their keys.

use crate::SessionId;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;

/// From keys to sessions. See the module.
#[derive(Debug)]
pub struct Candidates<K: ?Sized> {
    /// Half of a key's hash, and a session.
    sessions: HashTable<(u32, SessionId)>,
    random: RandomState,
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized> Default for Candidates<K> {
    fn default() -> Self {
        Self {
            sessions: HashTable::new(),
            random: RandomState::new(),
            keys: PhantomData,
        }
    }
}

/// The table wants 64 bits that differ at both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl<K: Hash + ?Sized> Candidates<K> {
    fn hash(&self, key: &K) -> u32 {
        self.random.hash_one(key) as u32
    }

    /// The session has the key. To say so twice is to say so once.
    pub fn enter(&mut self, key: &K, id: SessionId) {
        let hash = self.hash(key);
        let same = |entry: &(u32, SessionId)| *entry == (hash, id);
        if self.sessions.find(spread(hash), same).is_none() {
            self.sessions
                .insert_unique(spread(hash), (hash, id), |(hash, _)| spread(*hash));
        }
    }

    /// The session does not have the key any more. Should two keys of a session have one hash, it takes both out: who
    /// changes some of a session's keys takes out all that it had and enters all that it has.
    pub fn leave(&mut self, key: &K, id: SessionId) {
        let hash = self.hash(key);
        if let Ok(entry) = self.sessions.find_entry(spread(hash), |entry| *entry == (hash, id)) {
            entry.remove();
        }
    }

    /// All sessions that have the key, and possibly others, in any order.
    pub fn of(&self, key: &K) -> impl Iterator<Item = SessionId> {
        let hash = self.hash(key);
        let of_hash = self.sessions.iter_hash(spread(hash));
        of_hash.filter(move |(other, _)| *other == hash).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_that_has_a_key_is_found_until_it_leaves() {
        let mut index = Candidates::<str>::default();
        for n in 0..1_000 {
            index.enter(&format!("key {}", n % 10), SessionId(n));
            index.enter(&format!("key {}", n % 10), SessionId(n));
        }
        index.leave("key 3", SessionId(13));
        let mut found: Vec<u32> = index.of("key 3").map(|id| id.0).filter(|n| n % 10 == 3).collect();
        found.sort_unstable();
        let expected: Vec<u32> = (0..1_000).filter(|n| n % 10 == 3 && *n != 13).collect();
        assert_eq!(found, expected);
    }
}
