//! Owns which packets belong to which flows: the parts of PDRs that flows cut out of them.
//!
//! Each PDR begins as one part, itself. A flow cuts every part that it meets in two: what is in the flow, directly above
//! what is not. So the first part that matches a packet says of every flow whether the packet is in it, however flows
//! overlap. A flow that holds a whole part only marks it; one that is disjoint from a part leaves it.
//!
//! Cutting is exact, as filters are sets: lists of filters are OR, the parts of a filter AND; prefixes contain one another
//! or are disjoint; ports are ranges. (Flow descriptions say nothing about ToS, security parameter index and flow
//! label: those parts of a PDR's filter stay as they are.)

use super::identifiers::hash;
use super::qers;
use crate::engine::Layer;
use std::sync::Arc;
use upf_model::validate::limits::PDRS;
use upf_model::{AddressMatch, IpFilterRule, PortRange, SdfFilter, Session};

/// Derived PDRs that one session may have, as long as all its PDRs are no more than the SMF may have made.
const DERIVED_MAX: usize = 64;
/// Flows that one session may have effects on: bits of a set.
const FLOWS_MAX: usize = 64;

/// How many derived PDRs a session may have.
pub(crate) fn derived_max(session: &Session) -> usize {
    DERIVED_MAX.min(PDRS.saturating_sub(session.pdrs.len()))
}

/// The parts of every PDR.
pub(crate) struct Regions {
    /// Flows in the order of the layers, each once, with their hash.
    flows: Vec<(Arc<IpFilterRule>, u64)>,
    /// In the order of the session's PDRs.
    pub(super) of_pdrs: Vec<Parts>,
    /// Flows that would have made too many parts; they have no bit.
    pub(crate) refused: Vec<Arc<IpFilterRule>>,
}

/// The parts of a PDR.
#[derive(Clone, Default)]
pub(super) struct Parts {
    /// In order of matching.
    pub(super) derived: Vec<Part>,
    /// What none of them matches: the flows that hold all of it.
    pub(super) whole: u64,
}

/// Packets of a PDR that belong to the same flows.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) filters: Vec<SdfFilter>,
    /// A set of bits.
    pub(super) flows: u64,
}

impl Regions {
    /// Of the flows of these layers.
    pub(crate) fn new(session: &Session, layers: &[Layer]) -> Self {
        let mut regions = Self {
            flows: Vec::new(),
            of_pdrs: vec![Parts::default(); session.pdrs.len()],
            refused: Vec::new(),
        };
        let session_qer = qers::session_qer(session);
        for (i, layer) in layers.iter().enumerate() {
            let Some(flow) = &layer.flow else { continue };
            let before = layers[..i].iter();
            if before
                .filter_map(|other| other.flow.as_ref())
                .any(|other| other == flow)
            {
                continue;
            }
            let same = || layers[i..].iter().filter(|other| other.flow.as_ref() == Some(flow));
            let cut = session.pdrs.iter().zip(&regions.of_pdrs).map(|(pdr, parts)| {
                let selected = same().any(|layer| qers::selects(session, session_qer, &layer.select, pdr));
                selected.then(|| parts.cut(&pdr.pdi.sdf, flow, 1 << (regions.flows.len() % FLOWS_MAX)))
            });
            let cut: Vec<Option<Parts>> = cut.collect();
            let derived = cut.iter().zip(&regions.of_pdrs);
            let derived: usize = derived
                .map(|(new, old)| new.as_ref().unwrap_or(old).derived.len())
                .sum();
            if derived > derived_max(session) || regions.flows.len() == FLOWS_MAX {
                regions.refused.push(Arc::clone(flow));
                continue;
            }
            for (parts, new) in regions.of_pdrs.iter_mut().zip(cut) {
                *parts = new.unwrap_or_else(|| std::mem::take(parts));
            }
            regions.flows.push((Arc::clone(flow), hash(flow)));
        }
        regions
    }

    /// How many PDRs are derived.
    pub(super) fn derived(&self) -> usize {
        self.of_pdrs.iter().map(|parts| parts.derived.len()).sum()
    }

    /// Whether a flow is in a set of them.
    pub(super) fn contains(&self, flows: u64, flow: &IpFilterRule) -> bool {
        let index = self.flows.iter().position(|(known, _)| **known == *flow);
        index.is_some_and(|index| flows & 1 << index != 0)
    }

    /// A set of flows in one number, which is the same whatever other flows there are.
    pub(super) fn hash(&self, flows: u64) -> u64 {
        let of_set = self.flows.iter().enumerate().filter(|(i, _)| flows & 1 << i != 0);
        of_set.fold(0, |sum, (_, (_, hash))| sum.wrapping_add(*hash))
    }
}

impl Parts {
    /// Cuts a flow out of every part. `filters` are those of the PDR itself.
    fn cut(&self, filters: &[SdfFilter], flow: &IpFilterRule, bit: u64) -> Self {
        let mut cut = Self {
            derived: Vec::with_capacity(2 * self.derived.len() + 1),
            whole: self.whole,
        };
        for part in &self.derived {
            match intersect(&part.filters, flow) {
                Intersection::None => cut.derived.push(part.clone()),
                Intersection::All => cut.derived.push(Part {
                    filters: part.filters.clone(),
                    flows: part.flows | bit,
                }),
                Intersection::Some(filters) => {
                    let flows = part.flows | bit;
                    cut.derived.extend([Part { filters, flows }, part.clone()]);
                }
            }
        }
        match intersect(filters, flow) {
            Intersection::None => {}
            Intersection::All => cut.whole |= bit,
            Intersection::Some(filters) => cut.derived.push(Part {
                filters,
                flows: self.whole | bit,
            }),
        }
        cut
    }
}

/// What a flow and a list of filters have in common.
enum Intersection {
    None,
    /// Every packet that the filters match is in the flow.
    All,
    Some(Vec<SdfFilter>),
}

/// An empty list matches every packet.
fn intersect(filters: &[SdfFilter], flow: &IpFilterRule) -> Intersection {
    let everything = [SdfFilter::default()];
    let filters = if filters.is_empty() { &everything } else { filters };
    let common: Vec<SdfFilter> = filters
        .iter()
        .filter_map(|filter| filter_and_flow(filter, flow))
        .collect();
    if common.is_empty() {
        Intersection::None
    } else if holds_everything(flow) || (common.len() == filters.len() && common.iter().zip(filters).all(same_flow)) {
        Intersection::All
    } else {
        Intersection::Some(common)
    }
}

fn same_flow((common, filter): (&SdfFilter, &SdfFilter)) -> bool {
    common.flow == filter.flow
}

fn holds_everything(flow: &IpFilterRule) -> bool {
    let any = |address| !matches!(address, AddressMatch::Prefix(_));
    flow.protocol.is_none()
        && any(flow.remote)
        && any(flow.ue)
        && flow.remote_ports.is_empty()
        && flow.ue_ports.is_empty()
}

/// The identifier stays with the filter as the SMF wrote it.
fn filter_and_flow(filter: &SdfFilter, flow: &IpFilterRule) -> Option<SdfFilter> {
    let common = match &filter.flow {
        Some(own) => rules(own, flow)?,
        None => flow.clone(),
    };
    Some(SdfFilter {
        id: None,
        flow: Some(common),
        ..filter.clone()
    })
}

/// Whether a flow has packets in common with a list of filters.
pub(crate) fn touches(filters: &[SdfFilter], flow: &IpFilterRule) -> bool {
    !matches!(intersect(filters, flow), Intersection::None)
}

/// Whether two flows have packets in common.
pub(crate) fn meet(a: &IpFilterRule, b: &IpFilterRule) -> bool {
    rules(a, b).is_some()
}

/// None: no packet matches both.
fn rules(a: &IpFilterRule, b: &IpFilterRule) -> Option<IpFilterRule> {
    if matches!((a.protocol, b.protocol), (Some(a), Some(b)) if a != b) {
        return None;
    }
    let (remote, ue) = (addresses(a.remote, b.remote)?, addresses(a.ue, b.ue)?);
    if let (AddressMatch::Prefix(remote), AddressMatch::Prefix(ue)) = (remote, ue)
        && remote.addr().is_ipv4() != ue.addr().is_ipv4()
    {
        return None;
    }
    Some(IpFilterRule {
        protocol: a.protocol.or(b.protocol),
        remote,
        remote_ports: ports(&a.remote_ports, &b.remote_ports)?,
        ue,
        ue_ports: ports(&a.ue_ports, &b.ue_ports)?,
    })
}

/// `any` and `assigned` leave nothing to compare.
fn addresses(a: AddressMatch, b: AddressMatch) -> Option<AddressMatch> {
    match (a, b) {
        (AddressMatch::Prefix(p), AddressMatch::Prefix(q)) => {
            let (wide, narrow) = if p.len() <= q.len() { (p, q) } else { (q, p) };
            wide.contains(narrow.addr()).then_some(AddressMatch::Prefix(narrow))
        }
        (_, AddressMatch::Prefix(_)) => Some(b),
        _ => Some(a),
    }
}

/// Both lists ascend and an empty one is every packet, with ports or without.
fn ports(a: &[PortRange], b: &[PortRange]) -> Option<Vec<PortRange>> {
    if a.is_empty() || b.is_empty() {
        return Some(if a.is_empty() { b } else { a }.to_vec());
    }
    let pairs = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| (a.low.max(b.low), a.high.min(b.high))));
    let common: Vec<PortRange> = pairs
        .filter(|(low, high)| low <= high)
        .map(|(low, high)| PortRange { low, high })
        .collect();
    (!common.is_empty()).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(a: &str, b: &str) -> Option<String> {
        let (a, b): (IpFilterRule, IpFilterRule) = (a.parse().unwrap(), b.parse().unwrap());
        rules(&a, &b).map(|rule| rule.to_string())
    }

    #[test]
    fn what_two_rules_have_in_common_is_the_narrower_of_each_part() {
        assert_eq!(
            common(
                "permit out 17 from 10.0.0.0/8 to assigned 5000-6000",
                "permit out ip from 10.1.0.0/16 53,80 to any 5500-7000"
            ),
            Some("permit out 17 from 10.1.0.0/16 53,80 to assigned 5500-6000".into())
        );
    }

    #[test]
    fn rules_that_differ_in_one_part_have_nothing_in_common() {
        let rule = "permit out 17 from 10.0.0.0/8 53 to assigned";
        for other in [
            "permit out 6 from any to assigned",
            "permit out ip from 11.0.0.0/8 to assigned",
            "permit out ip from 2001:db8::/32 to assigned",
            "permit out ip from any 54 to assigned",
            "permit out ip from any to 2001:db8::1",
        ] {
            assert_eq!(common(rule, other), None, "{other}");
        }
    }
}
