//! What a session holds of the controller's resources, and the exchange from one version of it to the next.

use super::{Refusal, Resources, ue_addresses};
use crate::{IpPrefix, LocalFTeid, NetworkInstanceId, Pdr, PdrId, UeIpAddress, ie};
use std::collections::HashMap;
use std::hash::Hash;

/// Everything held.
#[derive(Default)]
struct Holdings {
    fteids: Held<LocalFTeid>,
    ue_ips: Held<(NetworkInstanceId, UeIpAddress)>,
    framed_routes: Held<(NetworkInstanceId, IpPrefix)>,
}

/// Things of one sort, each with the first PDR that needs it, in the order of those PDRs.
struct Held<K> {
    pdrs: HashMap<K, PdrId>,
    order: Vec<K>,
}

impl Holdings {
    /// See [`super::Resources`] for the rule.
    fn of(pdrs: &[Pdr]) -> Self {
        let mut held = Self::default();
        for Pdr { id, pdi, .. } in pdrs {
            if let Some(fteid) = pdi.local_fteid {
                held.fteids.add(fteid, *id);
                continue;
            }
            for ue in pdi.ue_ip.iter().flat_map(ue_addresses::families) {
                held.ue_ips.add((pdi.network_instance, ue), *id);
            }
            for route in &pdi.framed_routes {
                held.framed_routes.add((pdi.network_instance, *route), *id);
            }
        }
        held
    }
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self {
            pdrs: HashMap::new(),
            order: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Held<K> {
    fn add(&mut self, key: K, pdr: PdrId) {
        self.pdrs.entry(key).or_insert_with(|| {
            self.order.push(key);
            pdr
        });
    }

    /// Those that are not among the others.
    fn beyond(&self, others: &Self) -> impl Iterator<Item = (K, PdrId)> {
        self.order
            .iter()
            .filter(|key| !others.pdrs.contains_key(key))
            .map(|key| (*key, self.pdrs[key]))
    }
}

/// Releases what the old rules held and the new do not, then reserves what the new hold and the old did not,
/// except what has just been allocated.
pub(super) fn exchange(
    resources: &mut dyn Resources,
    old: &[Pdr],
    new: &[Pdr],
    chosen_fteids: &[LocalFTeid],
    allocated_ue_ip: Option<(NetworkInstanceId, UeIpAddress)>,
) -> Result<(), Refusal> {
    let (old, new) = (Holdings::of(old), Holdings::of(new));
    for (fteid, _) in old.fteids.beyond(&new.fteids) {
        resources.release_fteid(fteid);
    }
    for ((instance, ue), _) in old.ue_ips.beyond(&new.ue_ips) {
        resources.release_ue_ip(instance, ue);
    }
    for ((instance, route), _) in old.framed_routes.beyond(&new.framed_routes) {
        resources.release_framed_route(instance, route);
    }

    for (fteid, pdr) in new.fteids.beyond(&old.fteids) {
        if !chosen_fteids.contains(&fteid) {
            resources
                .reserve_fteid(fteid)
                .map_err(|error| Refusal::new(error.fteid_cause(), ie::F_TEID, error.to_string()).in_rule(pdr))?;
        }
    }
    for ((instance, ue), pdr) in new.ue_ips.beyond(&old.ue_ips) {
        let allocated =
            allocated_ue_ip.is_some_and(|(at, both)| at == instance && ue_addresses::families(&both).any(|a| a == ue));
        if !allocated {
            resources.reserve_ue_ip(instance, ue).map_err(|error| {
                Refusal::new(error.ue_ip_cause(), ie::UE_IP_ADDRESS, error.to_string()).in_rule(pdr)
            })?;
        }
    }
    for ((instance, route), pdr) in new.framed_routes.beyond(&old.framed_routes) {
        let ie = if route.addr().is_ipv4() {
            ie::FRAMED_ROUTE
        } else {
            ie::FRAMED_IPV6_ROUTE
        };
        resources
            .reserve_framed_route(instance, route)
            .map_err(|error| Refusal::new(error.ue_ip_cause(), ie, error.to_string()).in_rule(pdr))?;
    }
    Ok(())
}
