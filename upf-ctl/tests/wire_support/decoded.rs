//! Any decoded rules that an encoding exists for.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::subsequence;
use std::net::{Ipv4Addr, Ipv6Addr};
use upf_model::decoded::*;

prop_compose! {
    /// Rules as in a Session Establishment Request.
    pub fn creates()(
        create_pdrs in vec(pdr(), 0..4),
        create_fars in vec(far(true), 0..4),
        create_urrs in vec(urr(), 0..3),
        create_qers in vec(qer(), 0..3),
        create_bars in vec(bar(), 0..2),
        unsupported in subsequence(vec![127_u16, 165, 212], 0..=3),
    ) -> SessionRequest {
        SessionRequest {
            create_pdrs, create_fars, create_urrs, create_qers, create_bars, unsupported,
            ..SessionRequest::default()
        }
    }
}

prop_compose! {
    /// Rules as in a Session Modification Request.
    pub fn changes()(
        creates in creates(),
        removed in (vec(any::<u16>(), 0..3), vec(any::<u32>(), 0..3), vec(any::<u32>(), 0..3),
            vec(any::<u32>(), 0..3), vec(any::<u8>(), 0..3)),
        updated in (vec(pdr(), 0..3), vec(far(false), 0..3), vec(urr(), 0..3), vec(qer(), 0..3), vec(bar(), 0..3)),
        query_urrs in vec(any::<u32>(), 0..3),
        flags in any::<[bool; 2]>(),
    ) -> SessionRequest {
        let (remove_pdrs, remove_fars, remove_urrs, remove_qers, remove_bars) = removed;
        let (update_pdrs, update_fars, update_urrs, update_qers, update_bars) = updated;
        SessionRequest {
            remove_pdrs, remove_fars, remove_urrs, remove_qers, remove_bars,
            update_pdrs, update_fars, update_urrs, update_qers, update_bars,
            query_urrs, query_all_urrs: flags[0], drop_buffered: flags[1],
            ..creates
        }
    }
}

fn ipv4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from)
}

fn network_instance() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.-]{0,20}"
}

prop_compose! {
    fn pdr()(
        id in any::<Option<u16>>(), precedence in any::<Option<u32>>(), pdi in of(pdi()),
        outer_header_removal in of((any::<u8>(), of(any::<u8>()))),
        far_id in any::<Option<u32>>(), urr_ids in vec(any::<u32>(), 0..3), qer_ids in vec(any::<u32>(), 0..3),
        unsupported in subsequence(vec![106_u16, 107, 163, 170, 188], 0..=5),
    ) -> Pdr {
        // What is not there may as well be removed.
        let removed = [(29, precedence.is_none()), (95, outer_header_removal.is_none()), (109, qer_ids.is_empty())];
        let removed = removed.into_iter().filter_map(|(ie_type, absent)| absent.then_some(ie_type)).collect();
        Pdr { id, precedence, pdi, outer_header_removal, far_id, urr_ids, qer_ids, removed, unsupported }
    }
}

prop_compose! {
    fn pdi()(
        source_interface in of(0_u8..16), local_fteid in of(fteid()), network_instance in of(network_instance()),
        ue_ips in vec(ue_ip(), 0..3), sdf_filters in vec(sdf_filter(), 0..4), qfis in vec(0_u8..64, 0..4),
        framed_routes in vec("[0-9./ ]{1,20}", 0..2), framed_ipv6_routes in vec("[0-9a-f:/ ]{1,20}", 0..2),
        unsupported in subsequence(vec![24_u16, 131, 132, 142], 0..=4),
    ) -> Pdi {
        Pdi {
            source_interface, local_fteid, network_instance, ue_ips, sdf_filters, qfis, framed_routes,
            framed_ipv6_routes, unsupported,
        }
    }
}

/// Any F-TEID.
pub fn fteid() -> impl Strategy<Value = FTeid> {
    prop_oneof![
        (any::<bool>(), any::<bool>(), of(any::<u8>())).prop_map(|(v4, v6, choose_id)| FTeid {
            choose: true,
            choose_id,
            v4,
            v6,
            ..FTeid::default()
        }),
        (any::<u32>(), of(ipv4()), of(ipv6())).prop_map(|(teid, ipv4, ipv6)| FTeid {
            v4: ipv4.is_some(),
            v6: ipv6.is_some(),
            teid,
            ipv4,
            ipv6,
            ..FTeid::default()
        }),
    ]
}

prop_compose! {
    fn ue_ip()(
        flags in any::<[bool; 3]>(), ipv4 in of(ipv4()), ipv6 in of(ipv6()),
        ipv6_delegation_bits in any::<Option<u8>>(), ipv6_prefix_length in any::<Option<u8>>(),
    ) -> UeIp {
        let [destination, choose_v4, choose_v6] = flags;
        UeIp { destination, choose_v4, choose_v6, ipv4, ipv6, ipv6_delegation_bits, ipv6_prefix_length }
    }
}

prop_compose! {
    fn sdf_filter()(
        flow_description in of("permit out (ip|17) from [0-9.]{7,12} to assigned"),
        tos_traffic_class in any::<Option<(u8, u8)>>(), spi in any::<Option<u32>>(), flow_label in of(0_u32..1 << 20), filter_id in any::<Option<u32>>(),
    ) -> SdfFilter {
        SdfFilter { flow_description, tos_traffic_class, spi, flow_label, filter_id }
    }
}

prop_compose! {
    fn far(create: bool)(
        id in any::<Option<u32>>(), apply_action in any::<Option<u16>>(), forwarding in of(forwarding()),
        duplicating in vec(forwarding(), 0..3), bar_id in any::<Option<u8>>(),
        unsupported in subsequence(vec![270_u16, 301], 0..=2),
    ) -> Far {
        let removed = if bar_id.is_none() && !create { vec![88] } else { vec![] };
        Far { id, apply_action, forwarding, duplicating, bar_id, removed, unsupported }
    }
}

prop_compose! {
    // Never empty: an empty grouped IE means removal.
    fn forwarding()(
        destination_interface in (0_u8..16).prop_map(Some), network_instance in of(network_instance()),
        outer_header_creation in of(outer_header_creation()), transport_level_marking in any::<Option<(u8, u8)>>(),
        send_end_marker in any::<bool>(), unsupported in subsequence(vec![38_u16, 41, 98], 0..=3),
    ) -> Forwarding {
        let removed = if outer_header_creation.is_none() { vec![84] } else { vec![] };
        Forwarding {
            destination_interface, network_instance, outer_header_creation, transport_level_marking,
            send_end_marker, removed, unsupported,
        }
    }
}

prop_compose! {
    fn outer_header_creation()(
        kinds in 0_u16..64, teid in any::<u32>(), ipv4 in ipv4(), ipv6 in ipv6(), port in any::<u16>(), low in 0_u16..8,
    ) -> OuterHeaderCreation {
        OuterHeaderCreation {
            description: kinds << 8 | low,
            teid: (kinds & 0b00_0011 != 0).then_some(teid),
            ipv4: (kinds & 0b01_0101 != 0).then_some(ipv4),
            ipv6: (kinds & 0b10_1010 != 0).then_some(ipv6),
            port: (kinds & 0b00_1100 != 0).then_some(port),
        }
    }
}

fn rates() -> impl Strategy<Value = (u64, u64)> {
    (0_u64..1 << 40, 0_u64..1 << 40)
}

prop_compose! {
    fn qer()(
        id in any::<Option<u32>>(), correlation_id in any::<Option<u32>>(), gate_status in any::<Option<u8>>(), mbr in of(rates()), gbr in of(rates()),
        qfi in of(0_u8..64), rqi in any::<Option<bool>>(), ppi in of(0_u8..8), averaging_window_ms in any::<Option<u32>>(),
        unsupported in subsequence(vec![94_u16, 97, 251], 0..=3),
    ) -> Qer {
        let removed = if mbr.is_none() { vec![26] } else { vec![] };
        Qer { id, correlation_id, gate_status, mbr, gbr, qfi, rqi, ppi, averaging_window_ms, removed, unsupported }
    }
}

prop_compose! {
    fn urr()(
        id in any::<Option<u32>>(), measurement_method in any::<Option<u8>>(), reporting_triggers in of(0_u32..1 << 24),
        measurement_information in any::<Option<u8>>(), unsupported in subsequence(vec![33_u16, 73, 74], 0..=3),
        volume in of(any::<(Option<u64>, Option<u64>, Option<u64>)>()), time_threshold in any::<Option<u32>>(), measurement_period in any::<Option<u32>>(),
    ) -> Urr {
        let removed = if measurement_information.is_none() { vec![100] } else { vec![] };
        let volume_threshold = volume.map(|(total, uplink, downlink)| VolumeThreshold { total, uplink, downlink });
        Urr { id, measurement_method, reporting_triggers, measurement_information, volume_threshold, time_threshold, measurement_period, removed, unsupported }
    }
}

prop_compose! {
    fn bar()(
        id in any::<Option<u8>>(), downlink_data_notification_delay in any::<Option<u8>>(),
        suggested_buffering_packets_count in any::<Option<u8>>(), unsupported in subsequence(vec![249_u16], 0..=1),
    ) -> Bar {
        let removed = if downlink_data_notification_delay.is_none() { vec![46] } else { vec![] };
        Bar { id, downlink_data_notification_delay, suggested_buffering_packets_count, removed, unsupported }
    }
}
