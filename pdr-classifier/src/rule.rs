//! A detection rule as the classifier takes it, and how it comes out of a validated [`Pdr`].

use crate::{ApplicationId, EthernetFilter, SessionKey};
use std::net::IpAddr;
use upf_model::{
    EndpointId, Interface, IpPrefix, LocalFTeid, NetworkInstanceId, Pdr, Precedence, SdfFilter, Session, UeIpAddress,
};

/// Which rule of a session: its position among those that were put, from 0.
pub type RuleIndex = u32;

/// One PDR, reduced to what detects packets. Parts are AND, values of one part are OR, an empty part matches
/// everything (TS 29.244 5.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdrMatch {
    /// The lower value wins; of equals, the rule that comes first in its set.
    pub precedence: Precedence,
    /// The packet arrived on it.
    pub source_interface: Interface,
    /// The packet arrived from it.
    pub network_instance: NetworkInstanceId,
    /// The F-TEIDs it may have come by, one per address family. Empty: it came plain, by UE address or framed route.
    pub tunnel: Vec<SessionKey>,
    /// The UE's end lies in one of these: the UE addresses and framed routes of the PDI. Empty: not asked.
    pub ue: Vec<IpPrefix>,
    /// Bit *q* set: QoS flow *q* is accepted. Zero: not asked.
    pub qfis: u64,
    /// Its flow was found to be this application's (TS 29.244 8.2.6). None: not asked.
    pub application: Option<ApplicationId>,
    /// One of these matches. Empty: not asked.
    pub sdf: Vec<SdfFilter>,
    /// The packet is an Ethernet frame that one of these matches. Empty: not asked.
    pub ethernet: Vec<EthernetFilter>,
}

impl PdrMatch {
    /// What detects packets in `pdr`. `endpoint` gives the index of a local GTP-U address; a tunnel none of whose
    /// addresses is a configured one detects nothing (validation does not let that happen).
    pub fn of(pdr: &Pdr, endpoint: impl Fn(IpAddr) -> Option<EndpointId>) -> Self {
        let pdi = &pdr.pdi;
        let addresses = pdi.ue_ip.iter().flat_map(ue_prefixes);
        Self {
            precedence: pdr.precedence,
            source_interface: pdi.source_interface,
            network_instance: pdi.network_instance,
            tunnel: pdi.local_fteid.iter().flat_map(|f| tunnel_keys(f, &endpoint)).collect(),
            ue: addresses.chain(pdi.framed_routes.iter().copied()).collect(),
            qfis: pdi.qfis.iter().fold(0, |set, q| set | 1 << (q.0 & 0x3f)),
            application: None,
            sdf: pdi.sdf.clone(),
            ethernet: Vec::new(),
        }
    }
}

/// By what a session is found: the arguments of [`crate::Writer::put`] besides its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionKeys {
    /// Exact keys, each once.
    pub exact: Vec<SessionKey>,
    /// Framed routes and UE prefixes shorter than /64, each once.
    pub framed: Vec<(NetworkInstanceId, IpPrefix)>,
}

impl SessionKeys {
    /// The keys of all PDRs of `session`: F-TEIDs of those that have one; of the others the UE addresses and framed
    /// routes in their network instance (the session's addresses where the PDI names none).
    pub fn of(session: &Session, endpoint: impl Fn(IpAddr) -> Option<EndpointId>) -> Self {
        let mut keys = Self::default();
        for Pdr { pdi, .. } in &session.pdrs {
            if let Some(f_teid) = &pdi.local_fteid {
                tunnel_keys(f_teid, &endpoint).for_each(|key| keys.add_exact(key));
                continue;
            }
            let ni = pdi.network_instance;
            if pdi.ue_ip.is_none() && pdi.framed_routes.is_empty() {
                session
                    .ue_ips
                    .iter()
                    .flat_map(ue_prefixes)
                    .for_each(|p| keys.add_ue(ni, p));
                session.framed_routes.iter().for_each(|p| keys.add_framed(ni, *p));
            } else {
                pdi.ue_ip.iter().flat_map(ue_prefixes).for_each(|p| keys.add_ue(ni, p));
                pdi.framed_routes.iter().for_each(|p| keys.add_framed(ni, *p));
            }
        }
        keys
    }

    fn add_ue(&mut self, ni: NetworkInstanceId, prefix: IpPrefix) {
        match prefix {
            IpPrefix::V6(p) if p.len() < 64 => self.add_framed(ni, prefix),
            _ => self.add_exact(SessionKey::ue(ni, prefix.addr())),
        }
    }

    fn add_exact(&mut self, key: SessionKey) {
        if !self.exact.contains(&key) {
            self.exact.push(key);
        }
    }

    fn add_framed(&mut self, ni: NetworkInstanceId, prefix: IpPrefix) {
        if !self.framed.contains(&(ni, prefix)) {
            self.framed.push((ni, prefix));
        }
    }
}

fn tunnel_keys<F>(f_teid: &LocalFTeid, endpoint: F) -> impl Iterator<Item = SessionKey>
where
    F: Fn(IpAddr) -> Option<EndpointId>,
{
    let teid = f_teid.teid;
    let addresses = [f_teid.ipv4.map(IpAddr::V4), f_teid.ipv6.map(IpAddr::V6)];
    addresses
        .into_iter()
        .flatten()
        .filter_map(endpoint)
        .map(move |endpoint| SessionKey::FTeid { endpoint, teid })
}

fn ue_prefixes(ue: &UeIpAddress) -> impl Iterator<Item = IpPrefix> {
    let v4 = ue.ipv4.and_then(|a| IpPrefix::new(IpAddr::V4(a), 32));
    v4.into_iter().chain(ue.ipv6.map(IpPrefix::V6))
}
