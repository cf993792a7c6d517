//! An encoder of SMF requests, by the tables of TS 29.244, for tests.

use upf_model::decoded::*;

/// One IE.
pub fn ie(ie_type: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = ie_type.to_be_bytes().to_vec();
    octets.extend(u16::try_from(value.len()).expect("short enough").to_be_bytes());
    octets.extend(value);
    octets
}

/// One message.
pub fn message(message_type: u8, seid: Option<u64>, sequence: u32, bodies: &[&[u8]]) -> Vec<u8> {
    let mut rest = Vec::new();
    if let Some(seid) = seid {
        rest.extend(seid.to_be_bytes());
    }
    rest.extend(&sequence.to_be_bytes()[1..]);
    rest.push(0);
    bodies.iter().for_each(|body| rest.extend(*body));
    let mut octets = vec![0x20 | u8::from(seid.is_some()), message_type];
    octets.extend(u16::try_from(rest.len()).expect("short enough").to_be_bytes());
    octets.extend(rest);
    octets
}

fn optional(ie_type: u16, value: Option<impl AsRef<[u8]>>) -> Vec<u8> {
    value.map(|value| ie(ie_type, value.as_ref())).unwrap_or_default()
}

fn all<T>(values: &[T], encode: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
    values.iter().flat_map(encode).collect()
}

fn empty(types: &[u16]) -> Vec<u8> {
    all(types, |ie_type| ie(*ie_type, &[]))
}

/// Unsupported IEs: what is in them does not matter.
fn opaque(types: &[u16]) -> Vec<u8> {
    all(types, |ie_type| ie(*ie_type, &[0xff; 3]))
}

/// The rules of a request.
pub fn rules(rules: &SessionRequest) -> Vec<u8> {
    let mut flags = u8::from(rules.drop_buffered);
    flags |= u8::from(rules.query_all_urrs) << 2;
    [
        all(&rules.remove_pdrs, |id| ie(15, &ie(56, &id.to_be_bytes()))),
        all(&rules.remove_fars, |id| ie(16, &ie(108, &id.to_be_bytes()))),
        all(&rules.remove_urrs, |id| ie(17, &ie(81, &id.to_be_bytes()))),
        all(&rules.remove_qers, |id| ie(18, &ie(109, &id.to_be_bytes()))),
        all(&rules.remove_bars, |id| ie(87, &ie(88, &[*id]))),
        all(&rules.create_pdrs, |p| ie(1, &pdr(p))),
        all(&rules.create_fars, |f| ie(3, &far(f, 4, 5))),
        all(&rules.create_urrs, |u| ie(6, &urr(u))),
        all(&rules.create_qers, |q| ie(7, &qer(q))),
        all(&rules.create_bars, |b| ie(85, &bar(b))),
        all(&rules.update_pdrs, |p| ie(9, &pdr(p))),
        all(&rules.update_fars, |f| ie(10, &far(f, 11, 105))),
        all(&rules.update_urrs, |u| ie(13, &urr(u))),
        all(&rules.update_qers, |q| ie(14, &qer(q))),
        all(&rules.update_bars, |b| ie(86, &bar(b))),
        all(&rules.query_urrs, |id| ie(77, &ie(81, &id.to_be_bytes()))),
        optional(49, (flags != 0).then_some([flags])),
        opaque(&rules.unsupported),
    ]
    .concat()
}

fn pdr(pdr: &Pdr) -> Vec<u8> {
    [
        optional(56, pdr.id.map(u16::to_be_bytes)),
        optional(29, pdr.precedence.map(u32::to_be_bytes)),
        optional(2, pdr.pdi.as_ref().map(pdi)),
        optional(
            95,
            pdr.outer_header_removal
                .map(|(first, second)| [Some(first), second].into_iter().flatten().collect::<Vec<_>>()),
        ),
        optional(108, pdr.far_id.map(u32::to_be_bytes)),
        all(&pdr.urr_ids, |id| ie(81, &id.to_be_bytes())),
        all(&pdr.qer_ids, |id| ie(109, &id.to_be_bytes())),
        empty(&pdr.removed),
        opaque(&pdr.unsupported),
    ]
    .concat()
}

fn pdi(pdi: &Pdi) -> Vec<u8> {
    [
        optional(20, pdi.source_interface.map(|value| [value])),
        optional(21, pdi.local_fteid.as_ref().map(fteid)),
        optional(22, pdi.network_instance.as_ref()),
        all(&pdi.ue_ips, |ip| ie(93, &ue_ip(ip))),
        all(&pdi.sdf_filters, |filter| ie(23, &sdf_filter(filter))),
        all(&pdi.qfis, |qfi| ie(124, &[*qfi])),
        all(&pdi.framed_routes, |route| ie(153, route.as_bytes())),
        all(&pdi.framed_ipv6_routes, |route| ie(155, route.as_bytes())),
        opaque(&pdi.unsupported),
    ]
    .concat()
}

fn addresses(v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>) -> Vec<u8> {
    let mut octets = Vec::new();
    v4.iter().for_each(|address| octets.extend(address.octets()));
    v6.iter().for_each(|address| octets.extend(address.octets()));
    octets
}

fn bits(flags: &[bool]) -> u8 {
    flags.iter().enumerate().map(|(bit, flag)| u8::from(*flag) << bit).sum()
}

/// The value of an F-TEID.
pub fn fteid(fteid: &FTeid) -> Vec<u8> {
    let mut octets = vec![bits(&[fteid.v4, fteid.v6, fteid.choose, fteid.choose_id.is_some()])];
    if fteid.choose {
        octets.extend(fteid.choose_id);
    } else {
        octets.extend(fteid.teid.to_be_bytes());
        octets.extend(addresses(fteid.ipv4, fteid.ipv6));
    }
    octets
}

fn ue_ip(ip: &UeIp) -> Vec<u8> {
    let flags = [
        ip.ipv6.is_some(),
        ip.ipv4.is_some(),
        ip.destination,
        ip.ipv6_delegation_bits.is_some(),
        ip.choose_v4,
        ip.choose_v6,
        ip.ipv6_prefix_length.is_some(),
    ];
    let mut octets = vec![bits(&flags)];
    octets.extend(addresses(ip.ipv4, ip.ipv6));
    octets.extend(ip.ipv6_delegation_bits);
    octets.extend(ip.ipv6_prefix_length);
    octets
}

fn sdf_filter(filter: &SdfFilter) -> Vec<u8> {
    let flags = [
        filter.flow_description.is_some(),
        filter.tos_traffic_class.is_some(),
        filter.spi.is_some(),
        filter.flow_label.is_some(),
        filter.filter_id.is_some(),
    ];
    let mut octets = vec![bits(&flags), 0];
    if let Some(text) = &filter.flow_description {
        octets.extend((text.len() as u16).to_be_bytes());
        octets.extend(text.as_bytes());
    }
    filter
        .tos_traffic_class
        .iter()
        .for_each(|(value, mask)| octets.extend([*value, *mask]));
    filter.spi.iter().for_each(|spi| octets.extend(spi.to_be_bytes()));
    filter
        .flow_label
        .iter()
        .for_each(|label| octets.extend(&label.to_be_bytes()[1..]));
    filter.filter_id.iter().for_each(|id| octets.extend(id.to_be_bytes()));
    octets
}

fn far(far: &Far, forwarding_type: u16, duplicating_type: u16) -> Vec<u8> {
    [
        optional(108, far.id.map(u32::to_be_bytes)),
        optional(44, far.apply_action.map(u16::to_le_bytes)),
        optional(forwarding_type, far.forwarding.as_ref().map(forwarding)),
        all(&far.duplicating, |parameters| {
            ie(duplicating_type, &forwarding(parameters))
        }),
        optional(88, far.bar_id.map(|id| [id])),
        empty(&far.removed),
        opaque(&far.unsupported),
    ]
    .concat()
}

fn forwarding(parameters: &Forwarding) -> Vec<u8> {
    [
        optional(42, parameters.destination_interface.map(|value| [value])),
        optional(22, parameters.network_instance.as_ref()),
        optional(84, parameters.outer_header_creation.as_ref().map(outer_header_creation)),
        optional(
            30,
            parameters.transport_level_marking.map(|(value, mask)| [value, mask]),
        ),
        optional(49, parameters.send_end_marker.then_some([2])),
        empty(&parameters.removed),
        opaque(&parameters.unsupported),
    ]
    .concat()
}

fn outer_header_creation(header: &OuterHeaderCreation) -> Vec<u8> {
    let mut octets = header.description.to_be_bytes().to_vec();
    header.teid.iter().for_each(|teid| octets.extend(teid.to_be_bytes()));
    octets.extend(addresses(header.ipv4, header.ipv6));
    header.port.iter().for_each(|port| octets.extend(port.to_be_bytes()));
    octets
}

fn qer(qer: &Qer) -> Vec<u8> {
    let rates = |(uplink, downlink): (u64, u64)| [&uplink.to_be_bytes()[3..], &downlink.to_be_bytes()[3..]].concat();
    [
        optional(109, qer.id.map(u32::to_be_bytes)),
        optional(28, qer.correlation_id.map(u32::to_be_bytes)),
        optional(25, qer.gate_status.map(|gates| [gates])),
        optional(26, qer.mbr.map(rates)),
        optional(27, qer.gbr.map(rates)),
        optional(124, qer.qfi.map(|qfi| [qfi])),
        optional(123, qer.rqi.map(|rqi| [u8::from(rqi)])),
        optional(158, qer.ppi.map(|ppi| [ppi])),
        optional(157, qer.averaging_window_ms.map(u32::to_be_bytes)),
        empty(&qer.removed),
        opaque(&qer.unsupported),
    ]
    .concat()
}

fn urr(urr: &Urr) -> Vec<u8> {
    [
        optional(81, urr.id.map(u32::to_be_bytes)),
        optional(62, urr.measurement_method.map(|method| [method])),
        optional(
            37,
            urr.reporting_triggers
                .map(|triggers| triggers.to_le_bytes()[..3].to_vec()),
        ),
        optional(100, urr.measurement_information.map(|information| [information])),
        optional(31, urr.volume_threshold.as_ref().map(volume_threshold)),
        optional(32, urr.time_threshold.map(u32::to_be_bytes)),
        optional(64, urr.measurement_period.map(u32::to_be_bytes)),
        empty(&urr.removed),
        opaque(&urr.unsupported),
    ]
    .concat()
}

fn volume_threshold(threshold: &VolumeThreshold) -> Vec<u8> {
    let values = [threshold.total, threshold.uplink, threshold.downlink];
    let mut octets = vec![bits(&values.map(|value| value.is_some()))];
    values
        .iter()
        .flatten()
        .for_each(|value| octets.extend(value.to_be_bytes()));
    octets
}

fn bar(bar: &Bar) -> Vec<u8> {
    [
        optional(88, bar.id.map(|id| [id])),
        optional(46, bar.downlink_data_notification_delay.map(|delay| [delay])),
        optional(140, bar.suggested_buffering_packets_count.map(|count| [count])),
        empty(&bar.removed),
        opaque(&bar.unsupported),
    ]
    .concat()
}
