//! Owns the ledger: what is booked, and who waits.

use super::{Booking, NoRoom, Resource, Source, Way};
use crate::policy::file::Capacities;
use crate::policy::{Capacity, Rates};
use std::collections::{BTreeMap, BTreeSet};
use upf_model::SessionId;

/// Whose booking: a session may have several.
type BookingKey = (SessionId, Source);

/// Who waits first: by priority level, then as they came.
type Place = (u8, u64);

/// Rates as (uplink, downlink), kbit/s.
type Pair = [u64; 2];

const WAYS: [Way; 2] = [Way::Uplink, Way::Downlink];

fn pair(rates: Rates) -> Pair {
    [rates.uplink_kbps, rates.downlink_kbps]
}

/// What is promised on a resource.
#[derive(Debug, Default)]
struct Account {
    /// None: no limit.
    capacity: [Option<u64>; 2],
    /// By the SMF.
    base: Pair,
    /// By us.
    booked: Pair,
    bookings: BTreeSet<BookingKey>,
    /// And what is asked for.
    waiting: BTreeMap<Place, (SessionId, Pair)>,
}

impl Account {
    /// Left in a direction; without limit: the largest number.
    fn free(&self, way: usize) -> u64 {
        let used = self.base[way].saturating_add(self.booked[way]);
        self.capacity[way].map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }

    /// How much more there is than there may be.
    fn excess(&self, way: usize) -> u64 {
        let used = self.base[way].saturating_add(self.booked[way]);
        self.capacity[way].map_or(0, |capacity| used.saturating_sub(capacity))
    }
}

/// Everything that is promised.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Of resources that have a capacity.
    accounts: BTreeMap<Resource, Account>,
    bookings: BTreeMap<BookingKey, Booking>,
    /// What the SMF promised to a session and where.
    base: BTreeMap<SessionId, (Vec<Resource>, Pair)>,
    /// Where a session waits.
    waiting: BTreeMap<SessionId, Vec<(Resource, Place)>>,
    arrivals: u64,
    /// Where something was released since [`Ledger::take_ready`].
    released: BTreeSet<Resource>,
}

impl Ledger {
    /// Whether there is any capacity: without, nothing needs to be booked.
    pub(crate) fn is_idle(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Those of these resources that have a capacity, ascending.
    pub(crate) fn limited(&self, resources: impl Iterator<Item = Resource>) -> Vec<Resource> {
        let limited: BTreeSet<Resource> = resources.filter(|r| self.accounts.contains_key(r)).collect();
        limited.into_iter().collect()
    }

    /// Other capacities: every session has to be booked anew ([`Ledger::set_base`], [`Ledger::book`]) where it uses
    /// a resource that had none. Returns bookings that no longer fit.
    pub(crate) fn set_capacities(&mut self, capacities: &Capacities) -> Vec<Booking> {
        let ports = capacities
            .ports
            .iter()
            .map(|(name, c)| (Resource::Port(name.clone()), c));
        let slices = capacities
            .slices
            .iter()
            .map(|(name, c)| (Resource::Slice(name.clone()), c));
        let cells = capacities
            .cells
            .iter()
            .map(|(name, c)| (Resource::Cell(name.clone()), c));
        let wanted: BTreeMap<Resource, &Capacity> = ports.chain(slices).chain(cells).collect();
        self.accounts.retain(|resource, _| wanted.contains_key(resource));
        let bookings = self.bookings.values_mut().map(|booking| &mut booking.resources);
        let base = self.base.values_mut().map(|(resources, _)| resources);
        bookings
            .chain(base)
            .for_each(|resources| resources.retain(|r| wanted.contains_key(r)));
        for (resource, capacity) in wanted {
            self.released.insert(resource.clone());
            let account = self.accounts.entry(resource).or_default();
            account.capacity = [capacity.uplink_kbps, capacity.downlink_kbps];
        }
        let resources: Vec<Resource> = self.accounts.keys().cloned().collect();
        resources.iter().flat_map(|resource| self.make_fit(resource)).collect()
    }

    /// What the SMF promised to a session. Returns bookings that had to make room; none: it was that already.
    pub(crate) fn set_base(
        &mut self,
        session: SessionId,
        resources: &[Resource],
        rates: Rates,
    ) -> Option<Vec<Booking>> {
        let new = (resources, pair(rates));
        let none: (&[Resource], Pair) = (resources, [0, 0]);
        let old = self.base.get(&session);
        if old.map_or(none, |(resources, rates)| (resources.as_slice(), *rates)) == new {
            return None;
        }
        self.take_base(session);
        for resource in resources {
            if let Some(account) = self.accounts.get_mut(resource) {
                (0..2).for_each(|way| account.base[way] = account.base[way].saturating_add(new.1[way]));
            }
        }
        if new.1 != [0, 0] {
            self.base.insert(session, (resources.to_vec(), new.1));
        }
        Some(resources.iter().flat_map(|resource| self.make_fit(resource)).collect())
    }

    fn take_base(&mut self, session: SessionId) {
        let Some((resources, rates)) = self.base.remove(&session) else {
            return;
        };
        for resource in resources {
            if let Some(account) = self.accounts.get_mut(&resource) {
                (0..2).for_each(|way| account.base[way] = account.base[way].saturating_sub(rates[way]));
                self.released.insert(resource);
            }
        }
    }

    /// Where the SMF alone promised more than there is: promised and capacity, kbit/s.
    pub(crate) fn overbooked(&self, resources: &[Resource]) -> Vec<(Resource, Way, u64, u64)> {
        let accounts = resources.iter().filter_map(|r| Some((r, self.accounts.get(r)?)));
        let ways = accounts.flat_map(|(r, account)| (0..2).map(move |way| (r, account, way)));
        let over = ways.filter_map(|(r, account, way)| {
            let capacity = account.capacity[way].filter(|capacity| account.base[way] > *capacity)?;
            Some((r.clone(), WAYS[way], account.base[way], capacity))
        });
        over.collect()
    }

    /// A session's bookings.
    pub(crate) fn of_session(&self, session: SessionId) -> impl Iterator<Item = &Booking> {
        let first = Source::Policy(String::new(), None);
        let bookings = self.bookings.range((session, first)..);
        bookings
            .map(|(_, booking)| booking)
            .take_while(move |booking| booking.session == session)
    }

    /// Every booking.
    pub(crate) fn bookings(&self) -> impl Iterator<Item = &Booking> {
        self.bookings.values()
    }

    pub(crate) fn has(&self, session: SessionId, source: &Source) -> bool {
        self.bookings.contains_key(&(session, source.clone()))
    }

    /// Books, or says why not; the session then waits. Returns what was pre-empted.
    pub(crate) fn book(&mut self, booking: Booking) -> Result<Vec<Booking>, NoRoom> {
        let lacking = self.lacking(&booking);
        let Some(first) = lacking.first().cloned() else {
            self.insert(booking);
            return Ok(Vec::new());
        };
        let victims = if booking.arp.may_preempt {
            self.victims(&booking, &lacking)
        } else {
            None
        };
        let Some(victims) = victims else {
            self.wait(&booking, &first.resource);
            return Err(first);
        };
        let preempted = victims.iter().filter_map(|key| self.release(key.0, &key.1)).collect();
        self.insert(booking);
        Ok(preempted)
    }

    /// Books what was booked before a restart, if it fits.
    pub(crate) fn recall(&mut self, booking: Booking) {
        if self.lacking(&booking).is_empty() {
            self.insert(booking);
        }
    }

    /// A promise is over; it was that.
    pub(crate) fn release(&mut self, session: SessionId, source: &Source) -> Option<Booking> {
        let key = (session, source.clone());
        let booking = self.bookings.remove(&key)?;
        let rates = pair(booking.rates);
        for resource in &booking.resources {
            if let Some(account) = self.accounts.get_mut(resource)
                && account.bookings.remove(&key)
            {
                (0..2).for_each(|way| account.booked[way] = account.booked[way].saturating_sub(rates[way]));
                self.released.insert(resource.clone());
            }
        }
        Some(booking)
    }

    /// The session is no more.
    pub(crate) fn remove_session(&mut self, session: SessionId) {
        let sources: Vec<Source> = self.of_session(session).map(|booking| booking.source.clone()).collect();
        for source in sources {
            self.release(session, &source);
        }
        self.take_base(session);
        self.stop_waiting(session);
    }

    /// The session asks anew for what it wants.
    pub(crate) fn stop_waiting(&mut self, session: SessionId) {
        for (resource, place) in self.waiting.remove(&session).unwrap_or_default() {
            if let Some(account) = self.accounts.get_mut(&resource) {
                account.waiting.remove(&place);
            }
        }
    }

    /// Sessions that should ask again, as something was released where they wait.
    pub(crate) fn take_ready(&mut self) -> Vec<SessionId> {
        let mut ready = Vec::new();
        for resource in std::mem::take(&mut self.released) {
            let Some(account) = self.accounts.get(&resource) else {
                continue;
            };
            let mut free: Pair = [account.free(0), account.free(1)];
            for (session, asked) in account.waiting.values() {
                if free == [0, 0] {
                    break;
                }
                if (0..2).all(|way| asked[way] <= free[way]) {
                    (0..2).for_each(|way| free[way] -= asked[way]);
                    ready.push(*session);
                }
            }
        }
        ready
    }

    fn insert(&mut self, booking: Booking) {
        let key = (booking.session, booking.source.clone());
        let rates = pair(booking.rates);
        for resource in &booking.resources {
            if let Some(account) = self.accounts.get_mut(resource) {
                (0..2).for_each(|way| account.booked[way] = account.booked[way].saturating_add(rates[way]));
                account.bookings.insert(key.clone());
            }
        }
        self.bookings.insert(key, booking);
    }

    fn wait(&mut self, booking: &Booking, resource: &Resource) {
        let place = (booking.arp.priority_level, self.arrivals);
        self.arrivals += 1;
        if let Some(account) = self.accounts.get_mut(resource) {
            account.waiting.insert(place, (booking.session, pair(booking.rates)));
            let places = self.waiting.entry(booking.session).or_default();
            places.push((resource.clone(), place));
        }
    }

    /// Where a booking does not fit.
    fn lacking(&self, booking: &Booking) -> Vec<NoRoom> {
        let asked = pair(booking.rates);
        let accounts = booking
            .resources
            .iter()
            .filter_map(|r| Some((r, self.accounts.get(r)?)));
        let ways = accounts.flat_map(|(r, account)| (0..2).map(move |way| (r, account.free(way), way)));
        ways.filter(|(_, free, way)| asked[*way] > *free)
            .map(|(resource, free_kbps, way)| NoRoom {
                resource: resource.clone(),
                way: WAYS[way],
                free_kbps,
                asked_kbps: asked[way],
            })
            .collect()
    }

    /// The bookings that have to go so that another fits; none: it cannot be made to.
    fn victims(&self, booking: &Booking, lacking: &[NoRoom]) -> Option<Vec<BookingKey>> {
        let level = booking.arp.priority_level;
        let on_lacking = lacking.iter().filter_map(|room| self.accounts.get(&room.resource));
        let keys: BTreeSet<&BookingKey> = on_lacking.flat_map(|account| &account.bookings).collect();
        let candidates = keys.into_iter().filter_map(|key| self.bookings.get(key));
        let candidates = candidates.filter(|other| other.arp.preemptable && other.arp.priority_level > level);
        let enough = |chosen: &[&Booking]| {
            lacking.iter().all(|room| {
                let there = chosen.iter().filter(|other| other.resources.contains(&room.resource));
                let gained = there.map(|other| pair(other.rates)[room.way as usize]).sum::<u64>();
                room.free_kbps.saturating_add(gained) >= room.asked_kbps
            })
        };
        fewest(worst_first(candidates), enough)
    }

    /// Releases bookings until a resource holds no more than it may, or none is left on it.
    fn make_fit(&mut self, resource: &Resource) -> Vec<Booking> {
        let Some(account) = self.accounts.get(resource) else {
            return Vec::new();
        };
        let excess: Pair = [account.excess(0), account.excess(1)];
        if excess == [0, 0] {
            return Vec::new();
        }
        let all = worst_first(account.bookings.iter().filter_map(|key| self.bookings.get(key)));
        let enough = |chosen: &[&Booking]| {
            (0..2).all(|way| chosen.iter().map(|other| pair(other.rates)[way]).sum::<u64>() >= excess[way])
        };
        // The SMF alone may hold more than there is: then all have to go.
        let every = || {
            all.iter()
                .map(|booking| (booking.session, booking.source.clone()))
                .collect()
        };
        let keys: Vec<BookingKey> = fewest(all.clone(), enough).unwrap_or_else(every);
        keys.iter().filter_map(|key| self.release(key.0, &key.1)).collect()
    }
}

/// By priority level from the worst, in a level the largest first.
fn worst_first<'b>(bookings: impl Iterator<Item = &'b Booking>) -> Vec<&'b Booking> {
    let mut bookings: Vec<&Booking> = bookings.collect();
    let size = |booking: &Booking| {
        pair(booking.rates)
            .iter()
            .fold(0u64, |sum, rate| sum.saturating_add(*rate))
    };
    bookings.sort_by_key(|b| std::cmp::Reverse((b.arp.priority_level, size(b))));
    bookings
}

/// As many from the front as are enough, without those that turn out not to be needed, from the best.
fn fewest(bookings: Vec<&Booking>, enough: impl Fn(&[&Booking]) -> bool) -> Option<Vec<BookingKey>> {
    if !enough(&bookings) {
        return None;
    }
    let counts: Vec<usize> = (0..=bookings.len()).collect();
    let count = counts.partition_point(|count| !enough(&bookings[..*count]));
    let mut chosen = bookings[..count].to_vec();
    for i in (0..chosen.len()).rev() {
        let without = chosen.remove(i);
        if !enough(&chosen) {
            chosen.insert(i, without);
        }
    }
    Some(chosen.iter().map(|b| (b.session, b.source.clone())).collect())
}
