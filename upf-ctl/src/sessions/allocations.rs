//! Tunnel endpoints, UE addresses and framed routes: who has which, and which are free.
//!
//! [`Transaction`] implements [`Resources`], through which validation takes and gives back on behalf of one
//! session. What it takes is taken at once, so that two requests in flight never get the same; what it gives
//! back stays taken until [`Transaction::commit`], so that nobody else gets it should the request fail.
//!
//! ## TEID layout
//! `generation << index bits | index`: the low 24 bits are a dense index, the high 8 bits a generation that
//! starts at random and moves on with every reuse of the index. The data plane may therefore index an array
//! by the low bits of the TEIDs we chose, while a late packet of a removed tunnel, or a guess, does not hit the
//! new one. They are unique over all our addresses, and never 0. An SMF that chooses TEIDs itself is not bound
//! by any of this: its choices are only kept from colliding.

mod fteids;

use super::slots::Slots;
use fteids::{FTeids, TeidIndex, TeidIndexes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_config::{Config, Topology};
use upf_model::validate::{ResourceError, Resources};
use upf_model::{
    Interface, IpPrefix, Ipv4Prefix, Ipv6Prefix, LocalFTeid, NetworkInstanceId, SessionId, Teid, UeIpAddress,
};

/// Low bits of a TEID that are its dense index.
pub const TEID_INDEX_BITS: u32 = 24;
/// Freed TEID indexes that rest before the first of them is used again.
const TEID_REST: usize = 4_096;
/// Freed UE addresses that rest before the first of them is used again.
const UE_ADDRESS_REST: usize = 64;

/// What one session holds, kept with it so that all of it can be given back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holdings {
    /// Local F-TEIDs, whoever chose them.
    pub fteids: Vec<LocalFTeid>,
    /// UE addresses, one family in each.
    pub ue_ips: Vec<(NetworkInstanceId, UeIpAddress)>,
    /// Framed routes.
    pub framed_routes: Vec<(NetworkInstanceId, IpPrefix)>,
}

/// A GTP-U port's addresses and where it may be used.
#[derive(Debug)]
struct Endpoint {
    network_instance: NetworkInstanceId,
    interfaces: Vec<Interface>,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

/// A prefix that UE addresses are taken from.
#[derive(Debug)]
struct Pool {
    prefix: IpPrefix,
    slots: Slots,
}

impl Pool {
    fn new(prefix: IpPrefix) -> Self {
        let capacity = match prefix {
            // The network and broadcast addresses of a subnet are nobody's, and the first one is by custom
            // the router's.
            IpPrefix::V4(p) if p.len() <= 29 => (1_u64 << (32 - p.len())) - 3,
            IpPrefix::V4(p) => 1_u64 << (32 - p.len()),
            IpPrefix::V6(p) if p.len() <= 64 => 1_u64 << (64 - p.len()).min(40),
            // Too small for one /64.
            IpPrefix::V6(_) => 0,
        };
        Self {
            prefix,
            slots: Slots::new(capacity, UE_ADDRESS_REST),
        }
    }

    /// The slot of an address of this pool, if it is one.
    fn slot(&self, ue: &UeIpAddress) -> Option<u64> {
        let slot = match (self.prefix, ue.ipv4, ue.ipv6) {
            (IpPrefix::V4(p), Some(a), _) if p.contains(a) => u64::from(a.to_bits().checked_sub(first_ipv4(p))?),
            (IpPrefix::V6(p), None, Some(a)) if a.len() == 64 && p.contains(a.addr()) => {
                ((a.addr().to_bits() ^ p.addr().to_bits()) >> 64) as u64
            }
            _ => return None,
        };
        (slot < self.slots.capacity()).then_some(slot)
    }
}

fn first_ipv4(prefix: Ipv4Prefix) -> u32 {
    prefix.addr().to_bits() + if prefix.len() <= 29 { 2 } else { 0 }
}

/// The address of a pool's slot.
fn address_of(prefix: IpPrefix, slot: u64) -> UeIpAddress {
    match prefix {
        IpPrefix::V4(p) => {
            let bits = first_ipv4(p).wrapping_add(slot as u32);
            UeIpAddress {
                ipv4: Some(Ipv4Addr::from_bits(bits)),
                ipv6: None,
            }
        }
        IpPrefix::V6(p) => {
            let bits = p.addr().to_bits() | (u128::from(slot) << 64);
            UeIpAddress {
                ipv4: None,
                ipv6: Ipv6Prefix::new(Ipv6Addr::from_bits(bits), 64),
            }
        }
    }
}

/// All that sessions hold, and the pools it comes from.
#[derive(Debug)]
pub struct Allocations {
    topology: Topology,
    endpoints: Vec<Endpoint>,
    teids: Slots,
    teid_indexes: TeidIndexes,
    generation_seed: RandomState,
    pools: Vec<(NetworkInstanceId, Pool)>,
    fteids: FTeids,
    ue_ipv4: HashMap<(NetworkInstanceId, Ipv4Addr), SessionId>,
    /// First address of each prefix held -> its last address and holder; the prefixes are disjoint.
    ue_ipv6: BTreeMap<(NetworkInstanceId, u128), (u128, SessionId)>,
    framed_routes: HashMap<(NetworkInstanceId, IpPrefix), SessionId>,
}

impl Allocations {
    /// What this configuration offers, all of it free.
    pub fn new(config: &Config) -> Self {
        let topology = config.topology();
        let gtpu = config.ports.iter().zip(&topology.ports).filter(|(port, _)| port.gtpu);
        let endpoints = gtpu.map(|(port, resolved)| Endpoint {
            network_instance: resolved.network_instance,
            interfaces: port.interfaces.iter().map(|&i| i.into()).collect(),
            ipv4: port.addresses.iter().find_map(|p| match p.addr {
                IpAddr::V4(a) => Some(a),
                IpAddr::V6(_) => None,
            }),
            ipv6: port.addresses.iter().find_map(|p| match p.addr {
                IpAddr::V6(a) if !a.is_unicast_link_local() => Some(a),
                _ => None,
            }),
        });
        let endpoints = endpoints.collect();
        let mut pools = Vec::new();
        for (i, ni) in config.network_instances.iter().enumerate() {
            let Ok(i) = u16::try_from(i) else { break };
            for pool in &ni.ue_pools {
                if let Some(prefix) = IpPrefix::new(pool.addr, pool.len) {
                    pools.push((NetworkInstanceId(i), Pool::new(prefix)));
                }
            }
        }
        Self {
            topology,
            endpoints,
            teids: Slots::new(1 << TEID_INDEX_BITS, TEID_REST),
            teid_indexes: TeidIndexes::default(),
            generation_seed: RandomState::new(),
            pools,
            fteids: FTeids::default(),
            ue_ipv4: HashMap::new(),
            ue_ipv6: BTreeMap::new(),
            framed_routes: HashMap::new(),
        }
    }

    /// Name of a network instance, for people.
    pub fn network_instance_name(&self, ni: NetworkInstanceId) -> Option<&str> {
        self.topology.instances.get(usize::from(ni.0)).map(String::as_str)
    }

    /// How many F-TEIDs, UE addresses and framed routes are held, in this order.
    pub fn held(&self) -> (usize, usize, usize) {
        (
            self.fteids.len(),
            self.ue_ipv4.len() + self.ue_ipv6.len(),
            self.framed_routes.len(),
        )
    }

    /// Starts taking and giving back on behalf of `session`, which holds `holdings`.
    pub fn begin(&mut self, session: SessionId, holdings: Holdings) -> Transaction<'_> {
        Transaction {
            allocations: self,
            reserved: Reserved {
                session,
                before: holdings.clone(),
                now: holdings,
            },
        }
    }

    /// Marks what a session from the store holds. Fails, with nothing marked, if another has it.
    pub fn restore(&mut self, session: SessionId, holdings: &Holdings) -> Result<(), ResourceError> {
        let mut transaction = self.begin(session, Holdings::default());
        let marked = (|| {
            for &fteid in &holdings.fteids {
                transaction.reserve_fteid(fteid)?;
            }
            for &(ni, ue) in &holdings.ue_ips {
                transaction.reserve_ue_ip(ni, ue)?;
            }
            for &(ni, route) in &holdings.framed_routes {
                transaction.reserve_framed_route(ni, route)?;
            }
            Ok(())
        })();
        let reserved = transaction.finish();
        match marked {
            Ok(()) => {
                for fteid in &holdings.fteids {
                    let (index, generation) = split(fteid.teid);
                    self.teid_indexes.insert(
                        index,
                        TeidIndex {
                            generation,
                            in_use: true,
                        },
                    );
                }
                self.commit(reserved);
                Ok(())
            }
            Err(error) => {
                self.roll_back(reserved);
                Err(error)
            }
        }
    }

    /// Makes a transaction's outcome the truth: frees what was given back and returns what the session holds.
    pub fn commit(&mut self, reserved: Reserved) -> Holdings {
        self.free_difference(&reserved.before, &reserved.now);
        reserved.now
    }

    /// Undoes a transaction: frees what was taken.
    pub fn roll_back(&mut self, reserved: Reserved) {
        self.free_difference(&reserved.now, &reserved.before);
    }

    /// Frees all that a removed session held.
    pub fn release(&mut self, holdings: &Holdings) {
        self.free_difference(holdings, &Holdings::default());
    }

    fn free_difference(&mut self, from: &Holdings, keep: &Holdings) {
        for fteid in from.fteids.iter().filter(|f| !keep.fteids.contains(f)) {
            self.free_fteid(fteid, &keep.fteids);
        }
        for (ni, ue) in from.ue_ips.iter().filter(|u| !keep.ue_ips.contains(u)) {
            self.free_ue_ip(*ni, ue);
        }
        for held in from.framed_routes.iter().filter(|r| !keep.framed_routes.contains(r)) {
            self.framed_routes.remove(held);
        }
    }

    /// `keep`: other F-TEIDs of the same session, which may share an address and TEID with this one.
    fn free_fteid(&mut self, fteid: &LocalFTeid, keep: &[LocalFTeid]) {
        for addr in addresses(fteid) {
            if !keep
                .iter()
                .any(|k| k.teid == fteid.teid && addresses(k).any(|a| a == addr))
            {
                self.fteids.remove(addr, fteid.teid);
            }
        }
        let (index, generation) = split(fteid.teid);
        let known = self.teid_indexes.get(index);
        if known.is_some_and(|known| known.in_use && known.generation == generation) {
            let in_use = false;
            self.teid_indexes.insert(index, TeidIndex { generation, in_use });
            self.teids.free(u64::from(index));
        }
    }

    fn free_ue_ip(&mut self, ni: NetworkInstanceId, ue: &UeIpAddress) {
        if let Some(a) = ue.ipv4 {
            self.ue_ipv4.remove(&(ni, a));
        }
        if let Some(p) = ue.ipv6 {
            self.ue_ipv6.remove(&(ni, p.addr().to_bits()));
        }
        for (_, pool) in self.pools.iter_mut().filter(|(i, _)| *i == ni) {
            if let Some(slot) = pool.slot(ue) {
                pool.slots.free(slot);
            }
        }
    }

    /// A TEID that nobody has at these addresses; `None` if all are taken.
    fn choose_teid(&mut self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Option<Teid> {
        loop {
            let indexes = &self.teid_indexes;
            let in_use = |index: u64| indexes.get(index as u32).is_some_and(|known| known.in_use);
            let index = self.teids.take(in_use)? as u32;
            let generation = match self.teid_indexes.get(index) {
                Some(known) => known.generation.wrapping_add(1),
                None => self.generation_seed.hash_one(index) as u8,
            };
            let generation = if index == 0 { generation.max(1) } else { generation };
            let teid = Teid(u32::from(generation) << TEID_INDEX_BITS | index);
            // An SMF may have chosen this one itself: then the index rests once more.
            let taken = addresses(&LocalFTeid { teid, ipv4, ipv6 }).any(|a| self.fteids.get(a, teid).is_some());
            self.teid_indexes.insert(
                index,
                TeidIndex {
                    generation,
                    in_use: !taken,
                },
            );
            if !taken {
                return Some(teid);
            }
            self.teids.free(u64::from(index));
        }
    }

    fn holder_of_ipv6(&self, ni: NetworkInstanceId, prefix: Ipv6Prefix) -> Option<SessionId> {
        let first = prefix.addr().to_bits();
        let last = first | !prefix.mask();
        let (&(_, _), &(end, holder)) = self.ue_ipv6.range((ni, 0)..=(ni, last)).next_back()?;
        (end >= first).then_some(holder)
    }

    fn is_held(&self, ni: NetworkInstanceId, ue: &UeIpAddress) -> bool {
        ue.ipv4.is_some_and(|a| self.ue_ipv4.contains_key(&(ni, a)))
            || ue.ipv6.is_some_and(|p| self.holder_of_ipv6(ni, p).is_some())
    }

    fn hold_ue_ip(&mut self, ni: NetworkInstanceId, ue: &UeIpAddress, session: SessionId) {
        if let Some(a) = ue.ipv4 {
            self.ue_ipv4.insert((ni, a), session);
        }
        if let Some(p) = ue.ipv6 {
            let first = p.addr().to_bits();
            self.ue_ipv6.insert((ni, first), (first | !p.mask(), session));
        }
    }

    fn take_from_pools(&mut self, ni: NetworkInstanceId, v4: bool) -> Result<UeIpAddress, ResourceError> {
        let mut pools = std::mem::take(&mut self.pools);
        let family = if v4 { "IPv4" } else { "IPv6" };
        let mut result = Err(ResourceError::NotConfigured(format!(
            "network instance {:?} has no pool of {family} UE addresses",
            self.network_instance_name(ni).unwrap_or_default()
        )));
        for (_, pool) in pools
            .iter_mut()
            .filter(|(i, p)| *i == ni && matches!(p.prefix, IpPrefix::V4(_)) == v4)
        {
            let prefix = pool.prefix;
            match pool.slots.take(|slot| self.is_held(ni, &address_of(prefix, slot))) {
                Some(slot) => {
                    result = Ok(address_of(prefix, slot));
                    break;
                }
                None => result = Err(ResourceError::Exhausted(format!("{family} UE address"))),
            }
        }
        self.pools = pools;
        result
    }
}

fn addresses(fteid: &LocalFTeid) -> impl Iterator<Item = IpAddr> + use<> {
    fteid.ipv4.map(IpAddr::V4).into_iter().chain(fteid.ipv6.map(IpAddr::V6))
}

/// Index and generation of a TEID.
fn split(teid: Teid) -> (u32, u8) {
    (teid.0 & ((1 << TEID_INDEX_BITS) - 1), (teid.0 >> TEID_INDEX_BITS) as u8)
}

/// What a finished transaction took and gave back, to be committed or rolled back.
#[derive(Debug)]
#[must_use = "what it took leaks unless it is committed or rolled back"]
pub struct Reserved {
    session: SessionId,
    before: Holdings,
    now: Holdings,
}

impl Reserved {
    /// What the session will hold once this is committed.
    pub fn holdings(&self) -> &Holdings {
        &self.now
    }
}

/// Taking and giving back on behalf of one session.
#[derive(Debug)]
pub struct Transaction<'a> {
    allocations: &'a mut Allocations,
    reserved: Reserved,
}

impl Transaction<'_> {
    /// Ends the taking; [`Allocations::commit`] or [`Allocations::roll_back`] follows.
    pub fn finish(self) -> Reserved {
        self.reserved
    }
}

impl Resources for Transaction<'_> {
    fn network_instance(&self, name: Option<&str>, interface: Interface) -> Option<NetworkInstanceId> {
        let topology = &self.allocations.topology;
        match name {
            // Names of data networks are domain names: case does not matter.
            Some(name) => {
                let at = topology.instances.iter().position(|n| n.eq_ignore_ascii_case(name))?;
                u16::try_from(at).ok().map(NetworkInstanceId)
            }
            None => topology.default_instance(interface),
        }
    }

    fn is_endpoint(&self, addr: IpAddr) -> bool {
        self.allocations.topology.endpoint(addr).is_some()
    }

    fn allocate_fteid(
        &mut self,
        _choose_id: Option<u8>,
        v4: bool,
        v6: bool,
        interface: Interface,
        ni: NetworkInstanceId,
    ) -> Result<LocalFTeid, ResourceError> {
        let allocations = &mut *self.allocations;
        let offers = |e: &&Endpoint| e.network_instance == ni && (!v4 || e.ipv4.is_some()) && (!v6 || e.ipv6.is_some());
        let mut offering = allocations.endpoints.iter().filter(offers);
        let endpoint = offering
            .clone()
            .find(|e| e.interfaces.contains(&interface))
            .or_else(|| offering.next());
        let Some(endpoint) = endpoint else {
            return Err(ResourceError::NotConfigured(format!(
                "network instance {:?} has no GTP-U port with the address families asked for",
                allocations.network_instance_name(ni).unwrap_or_default()
            )));
        };
        let (ipv4, ipv6) = (endpoint.ipv4.filter(|_| v4), endpoint.ipv6.filter(|_| v6));
        let teid = allocations
            .choose_teid(ipv4, ipv6)
            .ok_or_else(|| ResourceError::Exhausted("TEID".into()))?;
        let fteid = LocalFTeid { teid, ipv4, ipv6 };
        for addr in addresses(&fteid) {
            allocations.fteids.insert(addr, teid, self.reserved.session);
        }
        self.reserved.now.fteids.push(fteid);
        Ok(fteid)
    }

    fn reserve_fteid(&mut self, fteid: LocalFTeid) -> Result<(), ResourceError> {
        let session = self.reserved.session;
        let taken = addresses(&fteid).any(|a| {
            let holder = self.allocations.fteids.get(a, fteid.teid);
            holder.is_some_and(|holder| holder != session)
        });
        if taken {
            return Err(ResourceError::InUse(format!("TEID {:#x}", fteid.teid.0)));
        }
        for addr in addresses(&fteid) {
            self.allocations.fteids.insert(addr, fteid.teid, session);
        }
        if !self.reserved.now.fteids.contains(&fteid) {
            self.reserved.now.fteids.push(fteid);
        }
        Ok(())
    }

    fn release_fteid(&mut self, fteid: LocalFTeid) {
        self.reserved.now.fteids.retain(|f| *f != fteid);
        if !self.reserved.before.fteids.contains(&fteid) {
            self.allocations.free_fteid(&fteid, &self.reserved.now.fteids);
        }
    }

    fn allocate_ue_ip(&mut self, ni: NetworkInstanceId, v4: bool, v6: bool) -> Result<UeIpAddress, ResourceError> {
        let mut chosen = UeIpAddress { ipv4: None, ipv6: None };
        for (family, wanted) in [(true, v4), (false, v6)] {
            if !wanted {
                continue;
            }
            let ue = self.allocations.take_from_pools(ni, family)?;
            self.allocations.hold_ue_ip(ni, &ue, self.reserved.session);
            self.reserved.now.ue_ips.push((ni, ue));
            chosen.ipv4 = chosen.ipv4.or(ue.ipv4);
            chosen.ipv6 = chosen.ipv6.or(ue.ipv6);
        }
        Ok(chosen)
    }

    fn reserve_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress) -> Result<(), ResourceError> {
        let session = self.reserved.session;
        if self.reserved.now.ue_ips.contains(&(ni, ue)) {
            return Ok(());
        }
        // What this session gives back in the same request is still marked as its own.
        if !self.reserved.before.ue_ips.contains(&(ni, ue)) {
            if self.allocations.is_held(ni, &ue) {
                let v4 = ue.ipv4.map(|a| a.to_string());
                let shown = v4.or_else(|| ue.ipv6.map(|p| format!("{}/{}", p.addr(), p.len())));
                return Err(ResourceError::InUse(format!(
                    "UE address {}",
                    shown.unwrap_or_default()
                )));
            }
            self.allocations.hold_ue_ip(ni, &ue, session);
        }
        self.reserved.now.ue_ips.push((ni, ue));
        Ok(())
    }

    fn release_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress) {
        self.reserved.now.ue_ips.retain(|u| *u != (ni, ue));
        if !self.reserved.before.ue_ips.contains(&(ni, ue)) {
            self.allocations.free_ue_ip(ni, &ue);
        }
    }

    fn reserve_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix) -> Result<(), ResourceError> {
        let session = self.reserved.session;
        if self
            .allocations
            .framed_routes
            .get(&(ni, route))
            .is_some_and(|holder| *holder != session)
        {
            return Err(ResourceError::InUse(format!("framed route {route}")));
        }
        self.allocations.framed_routes.insert((ni, route), session);
        if !self.reserved.now.framed_routes.contains(&(ni, route)) {
            self.reserved.now.framed_routes.push((ni, route));
        }
        Ok(())
    }

    fn release_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix) {
        self.reserved.now.framed_routes.retain(|r| *r != (ni, route));
        if !self.reserved.before.framed_routes.contains(&(ni, route)) {
            self.allocations.framed_routes.remove(&(ni, route));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const TEXT: &str = "
pfcp: { listen: '127.0.0.1:8805' }
ports:
  - { name: n3, device: net_null0, addresses: [192.0.2.1/24, '2001:db8:3::1/64'], network_instance: access,
      interfaces: [access], gtpu: true }
  - { name: n6, device: net_null1, addresses: [198.51.100.1/24], network_instance: internet, interfaces: [core] }
network_instances:
  - { name: access }
  - { name: internet, ue_pools: [10.60.0.0/28, '2001:db8:60::/62'] }
";
    const ACCESS: NetworkInstanceId = NetworkInstanceId(0);
    const INTERNET: NetworkInstanceId = NetworkInstanceId(1);

    fn allocations() -> Allocations {
        Allocations::new(&upf_config::parse(TEXT, "test").unwrap())
    }

    fn choose(transaction: &mut Transaction<'_>, v6: bool) -> LocalFTeid {
        transaction
            .allocate_fteid(None, true, v6, Interface::Access, ACCESS)
            .unwrap()
    }

    #[test]
    fn a_rolled_back_transaction_leaves_no_trace_and_a_committed_one_what_it_holds() {
        let mut allocations = allocations();
        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        choose(&mut transaction, true);
        transaction.allocate_ue_ip(INTERNET, true, true).unwrap();
        transaction
            .reserve_framed_route(INTERNET, "10.9.0.0/16".parse().unwrap())
            .unwrap();
        let reserved = transaction.finish();
        assert_eq!(allocations.held(), (2, 2, 1));
        allocations.roll_back(reserved);
        assert_eq!(allocations.held(), (0, 0, 0));

        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        choose(&mut transaction, false);
        let reserved = transaction.finish();
        let holdings = allocations.commit(reserved);
        assert_eq!(allocations.held(), (1, 0, 0));
        allocations.release(&holdings);
        assert_eq!(allocations.held(), (0, 0, 0));
    }

    #[test]
    fn what_a_request_gives_back_is_not_anybody_elses_before_the_commit() {
        let mut allocations = allocations();
        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        let ue = transaction.allocate_ue_ip(INTERNET, true, false).unwrap();
        let reserved = transaction.finish();
        let holdings = allocations.commit(reserved);

        let mut transaction = allocations.begin(SessionId(1), holdings);
        transaction.release_ue_ip(INTERNET, ue);
        let giving_back = transaction.finish();
        let mut other = allocations.begin(SessionId(2), Holdings::default());
        assert!(matches!(
            other.reserve_ue_ip(INTERNET, ue),
            Err(ResourceError::InUse(_))
        ));
        let nothing = other.finish();
        allocations.roll_back(nothing);
        allocations.commit(giving_back);
        let mut other = allocations.begin(SessionId(2), Holdings::default());
        assert_eq!(other.reserve_ue_ip(INTERNET, ue), Ok(()));
        let reserved = other.finish();
        allocations.commit(reserved);
    }

    #[test]
    fn teids_are_never_zero_never_twice_and_not_soon_again() {
        let mut allocations = allocations();
        let mut seen = HashSet::new();
        for n in 0..2_000 {
            let mut transaction = allocations.begin(SessionId(n), Holdings::default());
            let teid = choose(&mut transaction, false).teid;
            assert_ne!(teid.0, 0);
            assert!(seen.insert(teid));
            let reserved = transaction.finish();
            let holdings = allocations.commit(reserved);
            allocations.release(&holdings);
        }
        assert_eq!(allocations.held(), (0, 0, 0));
    }

    #[test]
    fn a_teid_that_an_smf_has_chosen_is_not_chosen_again() {
        let mut allocations = allocations();
        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        let ours = choose(&mut transaction, false);
        let reserved = transaction.finish();
        allocations.commit(reserved);
        let mut other = allocations.begin(SessionId(2), Holdings::default());
        assert!(matches!(other.reserve_fteid(ours), Err(ResourceError::InUse(_))));
        let same_teid_elsewhere = LocalFTeid {
            ipv4: None,
            ipv6: Some("2001:db8:3::1".parse().unwrap()),
            ..ours
        };
        assert_eq!(other.reserve_fteid(same_teid_elsewhere), Ok(()));
        let reserved = other.finish();
        allocations.roll_back(reserved);
    }

    #[test]
    fn pools_skip_addresses_that_smfs_chose_and_end_when_they_are_empty() {
        let mut allocations = allocations();
        let taken = UeIpAddress {
            ipv4: Some(Ipv4Addr::new(10, 60, 0, 3)),
            ipv6: None,
        };
        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        transaction.reserve_ue_ip(INTERNET, taken).unwrap();
        let mut chosen = HashSet::new();
        while let Ok(ue) = transaction.allocate_ue_ip(INTERNET, true, false) {
            assert!(chosen.insert(ue.ipv4));
        }
        // 16 less network, router, broadcast, and the one that was taken.
        assert_eq!(chosen.len(), 12);
        assert!(!chosen.contains(&taken.ipv4));
        for _ in 0..4 {
            transaction.allocate_ue_ip(INTERNET, false, true).unwrap();
        }
        let empty = transaction.allocate_ue_ip(INTERNET, false, true);
        assert!(matches!(empty, Err(ResourceError::Exhausted(_))));
        assert!(matches!(
            transaction.allocate_ue_ip(ACCESS, true, false),
            Err(ResourceError::NotConfigured(_))
        ));
        let reserved = transaction.finish();
        allocations.roll_back(reserved);
    }

    #[test]
    fn prefixes_that_overlap_another_sessions_are_refused() {
        let mut allocations = allocations();
        let prefix = |text: &str, len| UeIpAddress {
            ipv4: None,
            ipv6: Ipv6Prefix::new(text.parse().unwrap(), len),
        };
        let mut transaction = allocations.begin(SessionId(1), Holdings::default());
        transaction
            .reserve_ue_ip(INTERNET, prefix("2001:db8:61:100::", 56))
            .unwrap();
        let reserved = transaction.finish();
        allocations.commit(reserved);
        let mut other = allocations.begin(SessionId(2), Holdings::default());
        for (text, len) in [
            ("2001:db8:61:1ff::", 64),
            ("2001:db8:61:100::", 56),
            ("2001:db8:61::", 48),
        ] {
            assert!(
                other.reserve_ue_ip(INTERNET, prefix(text, len)).is_err(),
                "{text}/{len}"
            );
        }
        assert_eq!(other.reserve_ue_ip(INTERNET, prefix("2001:db8:61:200::", 64)), Ok(()));
        assert_eq!(other.reserve_ue_ip(ACCESS, prefix("2001:db8:61:100::", 64)), Ok(()));
        let reserved = other.finish();
        allocations.roll_back(reserved);
    }

    #[test]
    fn after_a_restart_everything_is_held_as_before() {
        let mut before = allocations();
        let mut transaction = before.begin(SessionId(1), Holdings::default());
        let fteid = choose(&mut transaction, true);
        let ue = transaction.allocate_ue_ip(INTERNET, true, true).unwrap();
        let reserved = transaction.finish();
        let holdings = before.commit(reserved);

        let mut after = allocations();
        after.restore(SessionId(1), &holdings).unwrap();
        assert_eq!(after.held(), before.held());
        assert!(after.restore(SessionId(2), &holdings).is_err());
        assert_eq!(after.held(), before.held());
        let mut transaction = after.begin(SessionId(2), Holdings::default());
        assert_ne!(choose(&mut transaction, true).teid, fteid.teid);
        assert_ne!(transaction.allocate_ue_ip(INTERNET, true, true).unwrap(), ue);
        let reserved = transaction.finish();
        after.roll_back(reserved);
    }
}
