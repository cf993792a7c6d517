//! Next hops and what is known of their hardware addresses, shared by all lcores.
//!
//! Resolution itself (ARP, neighbour discovery) is in [`crate::pipeline::resolve`]. An entry is made once, on the
//! slow path, and never goes away; its state is one atomic word, so forwarding costs one relaxed load.
//!
//! What becomes known is news for the controller (a P4 target has a table of its own): each entry remembers what was
//! told of it last, so that no news is lost and none is queued, however often an address changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use upf_model::batch::Neighbour;

/// A hardware address.
pub type Mac = [u8; 6];

/// Index of a port in the configuration.
pub type PortIndex = u8;

/// Index of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHopId(pub u16);

/// The most next hops that are remembered; what does not fit is dropped and counted as such.
pub const CAPACITY: usize = 16_384;

/// Milliseconds between two solicitations of an address that does not answer.
const RETRY_MS: u64 = 1_000;
/// Milliseconds after which an address that answered is asked again.
const REFRESH_MS: u64 = 20_000;
/// Milliseconds without an answer after which an address no longer counts as resolved.
const EXPIRE_MS: u64 = 60_000;

/// One on-link address.
#[derive(Debug)]
pub struct NextHop {
    /// Where it is on-link.
    pub port: PortIndex,
    /// Its protocol address.
    pub addr: IpAddr,
    /// Bit 48: resolved; bits 0 to 47: hardware address, its first octet lowest.
    mac: AtomicU64,
    /// The same, as the controller was told last; 0: nothing yet.
    told: AtomicU64,
    /// Milliseconds on the host's clock: when last confirmed, and when last asked for.
    confirmed_ms: AtomicU64,
    asked_ms: AtomicU64,
}

const RESOLVED: u64 = 1 << 48;

impl NextHop {
    /// The hardware address, if known. One relaxed load.
    #[inline(always)]
    pub fn mac(&self) -> Option<Mac> {
        mac_of(self.mac.load(Ordering::Relaxed))
    }

    /// Whether it is time to ask for it (again); a `true` is given to one caller only and counts as having asked.
    pub fn claim_solicitation(&self, now_ms: u64) -> bool {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        let due = match self.mac() {
            None => asked == 0 || now_ms.saturating_sub(asked) >= RETRY_MS,
            Some(_) => {
                let silent = now_ms.saturating_sub(self.confirmed_ms.load(Ordering::Relaxed));
                if silent >= EXPIRE_MS {
                    self.mac.store(0, Ordering::Relaxed);
                }
                silent >= REFRESH_MS && now_ms.saturating_sub(asked) >= RETRY_MS
            }
        };
        due && self
            .asked_ms
            .compare_exchange(asked, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn learn(&self, mac: Mac, now_ms: u64) {
        let [a, b, c, d, e, f] = mac;
        self.confirmed_ms.store(now_ms, Ordering::Relaxed);
        self.mac.store(
            u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | RESOLVED,
            Ordering::Relaxed,
        );
    }

    /// What the controller has not been told yet. An address that was forgotten for its silence is no news: the
    /// controller goes on with the old one until there is another.
    fn take_news(&self) -> Option<Neighbour> {
        let word = self.mac.load(Ordering::Relaxed);
        let mac = mac_of(word)?;
        (self.told.swap(word, Ordering::Relaxed) != word).then_some(Neighbour {
            port: self.port.into(),
            addr: self.addr,
            mac,
        })
    }
}

#[inline(always)]
fn mac_of(word: u64) -> Option<Mac> {
    let [a, b, c, d, e, f, ..] = word.to_le_bytes();
    (word & RESOLVED != 0).then_some([a, b, c, d, e, f])
}

/// Every next hop.
pub struct Neighbours {
    entries: Box<[OnceLock<NextHop>]>,
    used: AtomicUsize,
    index: Mutex<HashMap<(PortIndex, IpAddr), NextHopId>>,
    /// Some entry may be news.
    news: AtomicBool,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            entries: (0..CAPACITY).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            index: Mutex::default(),
            news: AtomicBool::new(false),
        }
    }
}

impl Neighbours {
    /// The entry of an on-link address, made if need be; `None` when the table is full. Takes a lock: slow path only.
    pub fn intern(&self, port: PortIndex, addr: IpAddr) -> Option<NextHopId> {
        let mut index = self.index.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&id) = index.get(&(port, addr)) {
            return Some(id);
        }
        let i = self.used.load(Ordering::Relaxed);
        let cell = self.entries.get(i)?;
        cell.set(NextHop {
            port,
            addr,
            mac: 0.into(),
            told: 0.into(),
            confirmed_ms: 0.into(),
            asked_ms: 0.into(),
        })
        .ok()?;
        self.used.store(i + 1, Ordering::Release);
        let id = NextHopId(i as u16);
        index.insert((port, addr), id);
        Some(id)
    }

    /// The entry of an id made by [`Self::intern`].
    #[inline(always)]
    pub fn get(&self, id: NextHopId) -> &NextHop {
        // Ids are made by `intern` only, after the cell was set.
        self.entries[usize::from(id.0)]
            .get()
            .expect("a NextHopId names a made entry")
    }

    /// All entries made so far.
    pub fn iter(&self) -> impl Iterator<Item = &NextHop> {
        self.entries[..self.used.load(Ordering::Acquire)]
            .iter()
            .filter_map(OnceLock::get)
    }

    /// An address told us its hardware address (ARP, NS or NA). Unknown addresses are not remembered, so that a
    /// stranger cannot fill the table. Takes a lock: slow path only.
    pub fn learn(&self, port: PortIndex, addr: IpAddr, mac: Mac, now_ms: u64) -> bool {
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return false;
        }
        let index = self.index.lock().unwrap_or_else(|e| e.into_inner());
        let known = index.get(&(port, addr)).copied();
        drop(index);
        let Some(id) = known else { return false };
        let entry = self.get(id);
        entry.learn(mac, now_ms);
        if entry.mac.load(Ordering::Relaxed) != entry.told.load(Ordering::Relaxed) {
            self.news.store(true, Ordering::Release);
        }
        true
    }

    /// Whether [`Self::take_news`] may have something. One load.
    pub fn any_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Hardware addresses that became known, or others, since the controller was told last. Walks all entries if there
    /// is anything.
    pub fn take_news(&self) -> Vec<Neighbour> {
        if !self.any_news() || !self.news.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        self.iter().filter_map(NextHop::take_news).collect()
    }

    /// Everything known is news: for a controller that has been told nothing.
    pub fn forget_told(&self) {
        self.iter().for_each(|hop| hop.told.store(0, Ordering::Relaxed));
        self.news.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_once_a_second_until_it_answers_and_refreshed_later() {
        let n = Neighbours::default();
        let addr: IpAddr = "10.0.0.1".parse().unwrap();
        let id = n.intern(0, addr).unwrap();
        assert_eq!(n.intern(0, addr), Some(id));
        let hop = n.get(id);
        assert!(hop.claim_solicitation(5_000));
        assert!(!hop.claim_solicitation(5_500));
        assert!(hop.claim_solicitation(6_000));
        assert!(n.learn(0, addr, [2, 0, 0, 0, 0, 9], 6_100));
        assert_eq!(hop.mac(), Some([2, 0, 0, 0, 0, 9]));
        assert!(!hop.claim_solicitation(10_000));
        assert!(hop.claim_solicitation(6_100 + REFRESH_MS));
        assert!(hop.mac().is_some());
        assert!(hop.claim_solicitation(6_100 + EXPIRE_MS));
        assert_eq!(hop.mac(), None, "silent for too long");
    }

    #[test]
    fn a_hardware_address_is_news_once_and_again_when_it_changes_or_all_is_asked_for() {
        let n = Neighbours::default();
        let addr: IpAddr = "10.0.0.1".parse().unwrap();
        n.intern(2, addr).unwrap();
        let news = |last: u8| {
            [Neighbour {
                port: 2,
                addr,
                mac: [2, 0, 0, 0, 0, last],
            }]
        };
        let learn = |last: u8| assert!(n.learn(2, addr, [2, 0, 0, 0, 0, last], 1_000));
        assert_eq!(n.take_news(), []);
        learn(1);
        assert_eq!(n.take_news(), news(1));
        learn(1);
        assert!(!n.any_news(), "confirmed, not changed");
        learn(2);
        learn(3);
        assert_eq!(n.take_news(), news(3), "the latest only");
        n.forget_told();
        assert_eq!(n.take_news(), news(3));
    }

    #[test]
    fn strangers_and_group_addresses_are_not_learnt() {
        let n = Neighbours::default();
        assert!(!n.learn(0, "10.0.0.7".parse().unwrap(), [2, 0, 0, 0, 0, 1], 1));
        n.intern(0, "10.0.0.8".parse().unwrap()).unwrap();
        assert!(!n.learn(0, "10.0.0.8".parse().unwrap(), [0xff; 6], 1));
        assert_eq!(n.iter().count(), 1);
    }
}
