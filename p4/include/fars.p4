/* Owns forwarding action rules (TS 29.244 7.5.2.3). A handover is the MODIFY of one entry. */
#ifndef UPF_FARS_P4
#define UPF_FARS_P4

control Fars(inout headers_t hdr, inout metadata_t meta) {
    action missing() {
        meta.reason = REASON_FAR_MISSING;
    }
    action drop() {
        meta.reason = REASON_FAR_DROP;
    }
    action buffer() {
        meta.reason = REASON_BUFFER;
    }
    action on_host() {
        meta.reason = REASON_FAR_HOST;
    }
    /* Plain, by the routes of this network instance. Marking: DSCP bits under the mask. */
    action plain(instance_t network_instance, bit<8> mark_value, bit<8> mark_mask) {
        meta.instance = network_instance;
        meta.tunnel = TUNNEL_NONE;
        meta.mark_value = mark_value;
        meta.mark_mask = mark_mask;
        meta.route_ipv6 = meta.user.ipv6;
        if (meta.direction == UPLINK) {
            meta.route_dst = meta.user.remote;
        } else {
            meta.route_dst = meta.user.ue;
        }
    }
    action tunnel_v4(instance_t network_instance, ipv4_t src, ipv4_t dst, teid_t teid, bit<8> mark_value,
                     bit<8> mark_mask) {
        meta.instance = network_instance;
        meta.tunnel = TUNNEL_IPV4;
        meta.tunnel_src_v4 = src;
        meta.tunnel_dst_v4 = dst;
        meta.tunnel_teid = teid;
        meta.mark_value = mark_value;
        meta.mark_mask = mark_mask;
        meta.route_ipv6 = 0;
        meta.route_dst = (bit<128>)dst;
    }
    action tunnel_v6(instance_t network_instance, ipv6_t src, ipv6_t dst, teid_t teid, bit<8> mark_value,
                     bit<8> mark_mask) {
        meta.instance = network_instance;
        meta.tunnel = TUNNEL_IPV6;
        meta.tunnel_src_v6 = src;
        meta.tunnel_dst_v6 = dst;
        meta.tunnel_teid = teid;
        meta.mark_value = mark_value;
        meta.mark_mask = mark_mask;
        meta.route_ipv6 = 1;
        meta.route_dst = dst;
    }

    @description("Forwarding action rules, by FAR identifier.")
    table fars {
        key = { meta.far: exact @name("far"); }
        actions = { plain; tunnel_v4; tunnel_v6; drop; buffer; on_host; @defaultonly missing; }
        const default_action = missing();
        size = FARS;
    }

    apply {
        fars.apply();
    }
}

#endif
