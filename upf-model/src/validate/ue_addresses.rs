//! UE addresses: choosing them (TS 29.244 5.21), and what a session's are.
//!
//! A session has one chosen address of each family at most: every PDI that asks for one gets the same, whether in
//! one request or in several. It comes from the pool of the network instance at the data network's side, which
//! is that of a PDI without tunnel; where only tunnelled PDIs ask, that into which their FAR forwards.

use super::pdr::DraftPdr;
use super::table::Table;
use super::{Cause, Refusal, Resources, pdi};
use crate::{Far, FarId, Interface, IpPrefix, Ipv6Prefix, NetworkInstanceId, PdrId, Session, UeIpAddress, ie};
use std::net::Ipv4Addr;

/// Grants every wish for a UE address. Returns what was allocated, and where.
pub(super) fn choose(
    resources: &mut dyn Resources,
    current: &Session,
    pdrs: &mut Table<PdrId, DraftPdr>,
    fars: &Table<FarId, Far>,
) -> Result<Option<(NetworkInstanceId, UeIpAddress)>, Refusal> {
    let v4 = pdrs.iter().any(|(_, draft)| draft.wishes.ue_ipv4);
    let v6 = pdrs.iter().any(|(_, draft)| draft.wishes.ue_ipv6);
    let mut ipv4 = if v4 { the_one(current, |ue| ue.ipv4)? } else { None };
    let mut ipv6 = if v6 { the_one(current, |ue| ue.ipv6)? } else { None };

    let mut allocated = None;
    let (need_v4, need_v6) = (v4 && ipv4.is_none(), v6 && ipv6.is_none());
    if need_v4 || need_v6 {
        let instance = pool_instance(pdrs, fars)?;
        let ue = resources
            .allocate_ue_ip(instance, need_v4, need_v6)
            .map_err(|error| Refusal::new(error.ue_ip_cause(), ie::UE_IP_ADDRESS, error.to_string()))?;
        if ue.ipv4.is_some() != need_v4 || ue.ipv6.is_some() != need_v6 {
            let message = "the UE address chosen is not of the families asked for";
            return Err(Refusal::new(Cause::SystemFailure, ie::UE_IP_ADDRESS, message));
        }
        (ipv4, ipv6) = (ipv4.or(ue.ipv4), ipv6.or(ue.ipv6));
        allocated = Some((instance, ue));
    }
    for (_, draft) in pdrs.iter_mut() {
        let given = draft.rule.pdi.ue_ip;
        draft.rule.pdi.ue_ip = pdi::present(
            if draft.wishes.ue_ipv4 {
                ipv4
            } else {
                given.and_then(|ue| ue.ipv4)
            },
            if draft.wishes.ue_ipv6 {
                ipv6
            } else {
                given.and_then(|ue| ue.ipv6)
            },
        );
    }
    Ok(allocated)
}

/// The session's address of one family, if it has one already; refused if it has several to choose among.
fn the_one<Address: PartialEq>(
    current: &Session,
    family: impl Fn(&UeIpAddress) -> Option<Address>,
) -> Result<Option<Address>, Refusal> {
    let mut addresses = current.ue_ips.iter().filter_map(family);
    let first = addresses.next();
    if addresses.any(|other| Some(other) != first) {
        return Err(Refusal::rule(
            ie::UE_IP_ADDRESS,
            "the session has several UE addresses: which one is to be chosen?",
        ));
    }
    Ok(first)
}

/// The network instance whose pool the address comes from.
fn pool_instance(pdrs: &Table<PdrId, DraftPdr>, fars: &Table<FarId, Far>) -> Result<NetworkInstanceId, Refusal> {
    let choosing = || {
        pdrs.iter()
            .filter(|(_, draft)| draft.wishes.ue_ipv4 || draft.wishes.ue_ipv6)
    };
    let plain = choosing()
        .filter(|(_, draft)| draft.rule.pdi.local_fteid.is_none())
        .map(|(_, draft)| draft.rule.pdi.network_instance);
    let forwarded = choosing()
        .filter_map(|(_, draft)| fars.get(draft.rule.far)?.forwarding.as_ref())
        .filter(|forwarding| forwarding.destination_interface != Interface::Access)
        .map(|forwarding| forwarding.network_instance);
    let mut plain = plain.peekable();
    let single = if plain.peek().is_some() {
        all_equal(plain)
    } else {
        all_equal(forwarded)
    };
    single.ok_or_else(|| {
        let message = "the PDRs that ask for a UE address do not agree on one network to take it from";
        Refusal::conditional(ie::NETWORK_INSTANCE, message)
    })
}

fn all_equal<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// The union of the PDIs' addresses; an address that a fuller one includes is left out.
pub(super) fn union<'a>(addresses: impl Iterator<Item = &'a UeIpAddress>) -> Vec<UeIpAddress> {
    let mut union: Vec<UeIpAddress> = Vec::new();
    for ue in addresses {
        if !union.iter().any(|other| includes(other, ue)) {
            union.retain(|other| !includes(ue, other));
            union.push(*ue);
        }
    }
    union
}

fn includes(fuller: &UeIpAddress, ue: &UeIpAddress) -> bool {
    (ue.ipv4.is_none() || ue.ipv4 == fuller.ipv4) && (ue.ipv6.is_none() || ue.ipv6 == fuller.ipv6)
}

/// The union of the PDIs' framed routes.
pub(super) fn union_of_routes<'a>(routes: impl Iterator<Item = &'a IpPrefix>) -> Vec<IpPrefix> {
    let mut union: Vec<IpPrefix> = routes.copied().collect();
    union.sort_unstable();
    union.dedup();
    union
}

/// One family's part of an address.
pub(super) fn families(ue: &UeIpAddress) -> impl Iterator<Item = UeIpAddress> + use<> {
    let ipv4 = ue.ipv4.map(|addr: Ipv4Addr| UeIpAddress {
        ipv4: Some(addr),
        ipv6: None,
    });
    let ipv6 = ue.ipv6.map(|prefix: Ipv6Prefix| UeIpAddress {
        ipv4: None,
        ipv6: Some(prefix),
    });
    ipv4.into_iter().chain(ipv6)
}
