//! PDI: what a packet detection rule matches (TS 29.244 table 7.5.2.2-2).

use super::pdr::{ChooseFTeid, Wishes};
use super::{Refusal, Resources, limits, qer};
use crate::{
    Interface, IpFilterRule, IpPrefix, Ipv6Prefix, LocalFTeid, Pdi, SdfFilter, Teid, TosMatch, UeIpAddress, decoded, ie,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads a PDI as far as it stands by itself. What it leaves for us to choose, and the SDF filters that it only
/// names, are wishes to be granted when all rules of the request are known.
pub(super) fn read(resources: &dyn Resources, pdi: &decoded::Pdi) -> Result<(Pdi, Wishes), Refusal> {
    Refusal::of_unsupported(&pdi.unsupported)?;
    let mut wishes = Wishes::default();

    let source_interface = pdi
        .source_interface
        .ok_or_else(|| Refusal::missing(ie::SOURCE_INTERFACE, "Source Interface"))?;
    let source_interface = Interface::from_value(source_interface).ok_or_else(|| {
        Refusal::incorrect(
            ie::SOURCE_INTERFACE,
            format!("expected 0 to 4, found {}", source_interface & 0x0f),
        )
    })?;
    let name = pdi.network_instance.as_deref();
    let network_instance = resources
        .network_instance(name, source_interface)
        .ok_or_else(|| super::unknown_network_instance(name, source_interface))?;

    let mut local_fteid = None;
    match pdi.local_fteid {
        Some(fteid) if fteid.choose => wishes.fteid = Some(read_choice(fteid)?),
        Some(fteid) => local_fteid = Some(read_fteid(resources, fteid)?),
        None => {}
    }

    if pdi.sdf_filters.len() > limits::SDF_FILTERS_PER_PDR {
        return Err(Refusal::too_many(
            ie::SDF_FILTER,
            "SDF filters in a PDR",
            limits::SDF_FILTERS_PER_PDR,
        ));
    }
    let mut sdf = Vec::with_capacity(pdi.sdf_filters.len());
    for filter in &pdi.sdf_filters {
        let filter = read_filter(filter)?;
        match filter.id {
            _ if filter.is_defined() => sdf.push(filter),
            Some(id) => wishes.filters.push(id),
            None => return Err(Refusal::incorrect(ie::SDF_FILTER, "the filter says nothing")),
        }
    }

    let mut qfis = pdi
        .qfis
        .iter()
        .map(|&qfi| qer::read_qfi(qfi))
        .collect::<Result<Vec<_>, _>>()?;
    qfis.sort_unstable();
    qfis.dedup();

    let ue_ip = read_ue_ips(&pdi.ue_ips, &mut wishes)?;
    let framed_routes = read_framed_routes(pdi)?;
    Ok((
        Pdi {
            source_interface,
            network_instance,
            local_fteid,
            ue_ip,
            framed_routes,
            sdf,
            qfis,
        },
        wishes,
    ))
}

/// F-TEID with CH (8.2.3).
fn read_choice(fteid: decoded::FTeid) -> Result<ChooseFTeid, Refusal> {
    if fteid.teid != 0 || fteid.ipv4.is_some() || fteid.ipv6.is_some() {
        return Err(Refusal::incorrect(
            ie::F_TEID,
            "with CH neither TEID nor addresses may be given",
        ));
    }
    if !fteid.v4 && !fteid.v6 {
        return Err(Refusal::incorrect(
            ie::F_TEID,
            "with CH at least one of V4 and V6 is expected",
        ));
    }
    Ok(ChooseFTeid {
        id: fteid.choose_id,
        v4: fteid.v4,
        v6: fteid.v6,
    })
}

/// F-TEID that the SMF chose, or that we chose in an earlier request.
fn read_fteid(resources: &dyn Resources, fteid: decoded::FTeid) -> Result<LocalFTeid, Refusal> {
    let incorrect = |message: String| Err(Refusal::incorrect(ie::F_TEID, message));
    if fteid.choose_id.is_some() {
        return incorrect("CHOOSE ID is for CH only".into());
    }
    if fteid.teid == 0 {
        return incorrect("expected a TEID other than 0".into());
    }
    let addresses = [fteid.ipv4.map(IpAddr::V4), fteid.ipv6.map(IpAddr::V6)];
    if addresses == [None, None] {
        return incorrect("expected an address".into());
    }
    if let Some(foreign) = addresses
        .into_iter()
        .flatten()
        .find(|addr| !resources.is_endpoint(*addr))
    {
        return incorrect(format!("{foreign} is not one of this UPF's GTP-U addresses"));
    }
    Ok(LocalFTeid {
        teid: Teid(fteid.teid),
        ipv4: fteid.ipv4,
        ipv6: fteid.ipv6,
    })
}

/// UE IP Address (8.2.62): one of each family at most, in one IE or in two. S/D is not looked at: the source
/// interface says at which end of the packet the UE is, and the other end would never match.
fn read_ue_ips(list: &[decoded::UeIp], wishes: &mut Wishes) -> Result<Option<UeIpAddress>, Refusal> {
    let incorrect = |message: &str| Err(Refusal::incorrect(ie::UE_IP_ADDRESS, message));
    let mut ue = UeIpAddress { ipv4: None, ipv6: None };
    for ip in list {
        let (v4, v6) = (ip.ipv4.is_some() || ip.choose_v4, ip.ipv6.is_some() || ip.choose_v6);
        if !v4 && !v6 {
            return incorrect("expected an address or a request to choose one");
        }
        if (ip.ipv4.is_some() && ip.choose_v4) || (ip.ipv6.is_some() && ip.choose_v6) {
            return incorrect("an address is given and to be chosen at once");
        }
        if (v4 && (ue.ipv4.is_some() || wishes.ue_ipv4)) || (v6 && (ue.ipv6.is_some() || wishes.ue_ipv6)) {
            return Err(Refusal::unsupported(
                ie::UE_IP_ADDRESS,
                "one UE address of each family in a PDI is supported",
            ));
        }
        let length = match (ip.ipv6_delegation_bits, ip.ipv6_prefix_length) {
            (None, None) => 64,
            _ if !v6 => return incorrect("IPv6D and IP6PL are for IPv6 addresses only"),
            (Some(_), Some(_)) => return incorrect("IPv6D and IP6PL exclude each other"),
            (Some(bits), None) if bits < 64 => 64 - bits,
            (None, Some(length)) if (1..=128).contains(&length) => length,
            _ => return incorrect("expected a prefix length of 1 to 128"),
        };
        if ip.choose_v6 && length != 64 {
            return Err(Refusal::unsupported(
                ie::UE_IP_ADDRESS,
                "prefixes are chosen with 64 bits here",
            ));
        }
        if let Some(addr) = ip.ipv4 {
            if addr.is_unspecified() || addr.is_multicast() || addr.is_broadcast() || addr.is_loopback() {
                return incorrect("the IPv4 address is not one host's");
            }
            ue.ipv4 = Some(addr);
        }
        if let Some(addr) = ip.ipv6 {
            if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
                return incorrect("the IPv6 address is not one host's");
            }
            ue.ipv6 = Ipv6Prefix::new(addr, length);
        }
        wishes.ue_ipv4 |= ip.choose_v4;
        wishes.ue_ipv6 |= ip.choose_v6;
    }
    Ok(present(ue.ipv4, ue.ipv6))
}

/// The address, if either family is there.
pub(super) fn present(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Prefix>) -> Option<UeIpAddress> {
    (ipv4.is_some() || ipv6.is_some()).then_some(UeIpAddress { ipv4, ipv6 })
}

/// SDF Filter (8.2.5).
fn read_filter(filter: &decoded::SdfFilter) -> Result<SdfFilter, Refusal> {
    let flow = match &filter.flow_description {
        None => None,
        Some(text) => {
            let rule = text
                .parse::<IpFilterRule>()
                .map_err(|error| Refusal::incorrect(ie::SDF_FILTER, format!("flow description: {error}")))?;
            if rule.remote_ports.len().max(rule.ue_ports.len()) > limits::PORT_RANGES {
                return Err(Refusal::too_many(
                    ie::SDF_FILTER,
                    "port ranges in a flow description",
                    limits::PORT_RANGES,
                ));
            }
            Some(rule)
        }
    };
    // A mask of 0 compares nothing.
    let tos = filter
        .tos_traffic_class
        .filter(|&(_, mask)| mask != 0)
        .map(|(value, mask)| TosMatch {
            value: value & mask,
            mask,
        });
    if let Some(label) = filter.flow_label.filter(|&label| label > 0x000f_ffff) {
        return Err(Refusal::incorrect(
            ie::SDF_FILTER,
            format!("expected a flow label of 20 bits, found {label:#x}"),
        ));
    }
    Ok(SdfFilter {
        id: filter.filter_id,
        flow,
        tos,
        spi: filter.spi,
        flow_label: filter.flow_label,
    })
}

/// Framed-Route (RFC 2865 5.22) and Framed-IPv6-Route (RFC 3162 2.5): the prefix, then a gateway and metrics,
/// which mean nothing here: what lies behind a UE is reached through its tunnel.
fn read_framed_routes(pdi: &decoded::Pdi) -> Result<Vec<IpPrefix>, Refusal> {
    let limit = limits::FRAMED_ROUTES_PER_PDR;
    if pdi.framed_routes.len() + pdi.framed_ipv6_routes.len() > limit {
        return Err(Refusal::too_many(ie::FRAMED_ROUTE, "framed routes in a PDR", limit));
    }
    let ipv4 = pdi
        .framed_routes
        .iter()
        .map(|text| (text, ie::FRAMED_ROUTE, IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let ipv6 = pdi
        .framed_ipv6_routes
        .iter()
        .map(|text| (text, ie::FRAMED_IPV6_ROUTE, IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let mut routes = Vec::new();
    for (text, ie, family) in ipv4.chain(ipv6) {
        let word = text.split_whitespace().next().unwrap_or("");
        let route: IpPrefix = word
            .parse()
            .map_err(|error: crate::prefix::PrefixError| Refusal::incorrect(ie, error.to_string()))?;
        if route.addr().is_ipv4() != family.is_ipv4() || route.len() == 0 || route.addr().is_multicast() {
            return Err(Refusal::incorrect(
                ie,
                format!("expected a unicast prefix of this IE's family, found {route}"),
            ));
        }
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Ok(routes)
}
