//! A controller in memory, for the tests: names, pools and what other sessions hold.
#![allow(dead_code)] // Each test crate uses its part of it.

pub mod requests;
pub mod scenario;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use upf_model::validate::{ResourceError, Resources};
use upf_model::{Interface, IpPrefix, Ipv6Prefix, LocalFTeid, NetworkInstanceId, Session, Teid, UeIpAddress};

/// Network instance of the access.
pub const ACCESS: NetworkInstanceId = NetworkInstanceId(1);
/// Network instance `internet`, the default of every other interface.
pub const INTERNET: NetworkInstanceId = NetworkInstanceId(2);
/// Network instance `ims`, of the core.
pub const IMS: NetworkInstanceId = NetworkInstanceId(3);
/// Our GTP-U address.
pub const N3_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Our GTP-U address.
pub const N3_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1);

/// What one session holds, and what it may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    next: u32,
    pub fteids: BTreeSet<String>,
    pub ue_ips: BTreeSet<String>,
    pub routes: BTreeSet<String>,
    /// Addresses that were chosen are held until the session ends, even when no plain PDI has them.
    pub chosen_ue_ips: BTreeSet<String>,
    /// What other sessions hold, as the keys above.
    pub taken: BTreeSet<String>,
    pub teids_left: u32,
    pub ue_ips_left: u32,
}

impl Controller {
    pub fn new() -> Self {
        Self {
            next: 0,
            fteids: BTreeSet::new(),
            ue_ips: BTreeSet::new(),
            routes: BTreeSet::new(),
            chosen_ue_ips: BTreeSet::new(),
            taken: BTreeSet::new(),
            teids_left: u32::MAX,
            ue_ips_left: u32::MAX,
        }
    }

    /// Panics unless exactly what the session's rules say is held.
    pub fn assert_holds(&self, session: &Session) {
        let (mut fteids, mut ue_ips, mut routes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for pdr in &session.pdrs {
            let ni = pdr.pdi.network_instance;
            match pdr.pdi.local_fteid {
                Some(fteid) => {
                    fteids.insert(fteid_key(fteid));
                }
                None => {
                    if let Some(ue) = pdr.pdi.ue_ip {
                        let v4 = ue.ipv4.map(|_| UeIpAddress { ipv6: None, ..ue });
                        let v6 = ue.ipv6.map(|_| UeIpAddress { ipv4: None, ..ue });
                        ue_ips.extend([v4, v6].into_iter().flatten().map(|ue| ue_key(ni, ue)));
                    }
                    routes.extend(pdr.pdi.framed_routes.iter().map(|route| route_key(ni, *route)));
                }
            }
        }
        assert_eq!(self.fteids, fteids);
        assert_eq!(self.routes, routes);
        let beyond: BTreeSet<_> = self.ue_ips.difference(&ue_ips).cloned().collect();
        assert!(
            self.ue_ips.is_superset(&ue_ips),
            "{:?} lacks some of {ue_ips:?}",
            self.ue_ips
        );
        assert!(beyond.is_subset(&self.chosen_ue_ips), "held without need: {beyond:?}");
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn take(held: &mut BTreeSet<String>, taken: &BTreeSet<String>, key: String) -> Result<(), ResourceError> {
        if taken.contains(&key) {
            return Err(ResourceError::InUse(key));
        }
        held.insert(key);
        Ok(())
    }
}

pub fn fteid_key(fteid: LocalFTeid) -> String {
    format!("{} {:?} {:?}", fteid.teid, fteid.ipv4, fteid.ipv6)
}

pub fn ue_key(ni: NetworkInstanceId, ue: UeIpAddress) -> String {
    format!("{ni} {:?} {:?}", ue.ipv4, ue.ipv6.map(|p| (p.addr(), p.len())))
}

pub fn route_key(ni: NetworkInstanceId, route: IpPrefix) -> String {
    format!("{ni} {route}")
}

impl Resources for Controller {
    fn network_instance(&self, name: Option<&str>, interface: Interface) -> Option<NetworkInstanceId> {
        match (name, interface) {
            (None | Some("access"), Interface::Access) => Some(ACCESS),
            (None | Some("internet"), _) => Some(INTERNET),
            (Some("ims"), Interface::Core) => Some(IMS),
            _ => None,
        }
    }

    fn is_endpoint(&self, addr: IpAddr) -> bool {
        addr == IpAddr::V4(N3_V4) || addr == IpAddr::V6(N3_V6)
    }

    fn allocate_fteid(
        &mut self,
        _choose_id: Option<u8>,
        v4: bool,
        v6: bool,
        _interface: Interface,
        _ni: NetworkInstanceId,
    ) -> Result<LocalFTeid, ResourceError> {
        assert!(v4 || v6);
        self.teids_left = self
            .teids_left
            .checked_sub(1)
            .ok_or_else(|| ResourceError::Exhausted("TEID".into()))?;
        let teid = Teid(0x8000_0000 | self.number());
        let fteid = LocalFTeid {
            teid,
            ipv4: v4.then_some(N3_V4),
            ipv6: v6.then_some(N3_V6),
        };
        assert!(self.fteids.insert(fteid_key(fteid)));
        Ok(fteid)
    }

    fn reserve_fteid(&mut self, fteid: LocalFTeid) -> Result<(), ResourceError> {
        assert!(!self.fteids.contains(&fteid_key(fteid)), "reserved twice");
        Self::take(&mut self.fteids, &self.taken, fteid_key(fteid))
    }

    fn release_fteid(&mut self, fteid: LocalFTeid) {
        assert!(self.fteids.remove(&fteid_key(fteid)), "released without holding it");
    }

    fn allocate_ue_ip(&mut self, ni: NetworkInstanceId, v4: bool, v6: bool) -> Result<UeIpAddress, ResourceError> {
        assert!(v4 || v6);
        self.ue_ips_left = self
            .ue_ips_left
            .checked_sub(1)
            .ok_or_else(|| ResourceError::Exhausted("address".into()))?;
        let n = self.number();
        let ipv4 = v4.then(|| Ipv4Addr::from_bits(0x0a2d_0000 + n));
        let ipv6 = v6.then(|| Ipv6Prefix::new(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n) << 64), 64));
        let ue = UeIpAddress {
            ipv4,
            ipv6: ipv6.flatten(),
        };
        let v4 = ue.ipv4.map(|_| UeIpAddress { ipv6: None, ..ue });
        let v6 = ue.ipv6.map(|_| UeIpAddress { ipv4: None, ..ue });
        for part in [v4, v6].into_iter().flatten() {
            self.ue_ips.insert(ue_key(ni, part));
            self.chosen_ue_ips.insert(ue_key(ni, part));
        }
        Ok(ue)
    }

    fn reserve_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress) -> Result<(), ResourceError> {
        assert!(ue.ipv4.is_some() != ue.ipv6.is_some());
        Self::take(&mut self.ue_ips, &self.taken, ue_key(ni, ue))
    }

    fn release_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress) {
        assert!(ue.ipv4.is_some() != ue.ipv6.is_some());
        assert!(self.ue_ips.remove(&ue_key(ni, ue)), "released without holding it");
    }

    fn reserve_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix) -> Result<(), ResourceError> {
        Self::take(&mut self.routes, &self.taken, route_key(ni, route))
    }

    fn release_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix) {
        assert!(self.routes.remove(&route_key(ni, route)), "released without holding it");
    }
}
