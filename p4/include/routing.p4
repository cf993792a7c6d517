/* Owns where a packet goes next: routes per network instance, next hops, and what must hold before it may go: hop limit
 * and MTU. The only longest-prefix match; everything before it is exact. */
#ifndef UPF_ROUTING_P4
#define UPF_ROUTING_P4

control Routing(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    @description("Next hops of equal cost: a flow keeps to one of them.")
    action_selector(HashAlgorithm.crc16, ROUTES, 14) ecmp;

    action via(next_hop_t next_hop) {
        meta.next_hop = next_hop;
    }
    /* The destination is on the link, and its hardware address unknown here: the host asks for it. */
    action on_link() {
        meta.reason = REASON_NO_NEIGHBOUR;
    }
    @description("IPv4 routes by network instance and destination.")
    table routes_v4 {
        key = {
            meta.instance: exact @name("network_instance");
            meta.route_dst[31:0]: lpm @name("destination");
            meta.user.remote: selector;
            meta.user.ue: selector;
            meta.user.protocol: selector;
            meta.user.remote_port: selector;
            meta.user.ue_port: selector;
        }
        actions = { via; on_link; }
        size = ROUTES;
        implementation = ecmp;
    }
    @description("IPv6 routes by network instance and destination.")
    table routes_v6 {
        key = {
            meta.instance: exact @name("network_instance");
            meta.route_dst: lpm @name("destination");
            meta.user.remote: selector;
            meta.user.ue: selector;
            meta.user.protocol: selector;
            meta.user.remote_port: selector;
            meta.user.ue_port: selector;
        }
        actions = { via; on_link; }
        size = ROUTES;
        implementation = ecmp;
    }

    action next_hop(port_t port, mac_t dst_mac, mac_t src_mac, bit<12> vlan, bit<16> mtu) {
        meta.egress_port = port;
        meta.egress_dst = dst_mac;
        meta.egress_src = src_mac;
        meta.egress_vlan = vlan;
        meta.mtu = mtu;
    }
    action no_neighbour() {
        meta.reason = REASON_NO_NEIGHBOUR;
    }
    @description("Neighbours whose hardware address is known. VLAN 0: untagged. MTU: the longest IP packet.")
    table next_hops {
        key = { meta.next_hop: exact @name("next_hop"); }
        actions = { next_hop; @defaultonly no_neighbour; }
        const default_action = no_neighbour();
        size = NEXT_HOPS;
    }

    apply {
        if (meta.user.hop_limit <= 1) {
            meta.reason = REASON_HOP_LIMIT;
            return;
        }
        bool routed = false;
        if (meta.route_ipv6 == 0) {
            routed = routes_v4.apply().hit;
        } else {
            routed = routes_v6.apply().hit;
        }
        if (!routed) {
            meta.reason = REASON_NO_ROUTE; // a table with a selector has no default action in v1model
        }
        if (meta.reason == REASON_NONE) {
            next_hops.apply();
        }
        if (meta.reason != REASON_NONE) {
            return;
        }
        /* IP, UDP and GTP-U; with a PDU Session Container 8 more, with a paging policy indicator 12. */
        meta.tunnel_len = 0;
        if (meta.tunnel != TUNNEL_NONE) {
            meta.tunnel_len = 36;
            if (meta.tunnel == TUNNEL_IPV6) {
                meta.tunnel_len = 56;
            }
            if (meta.mark_qfi != 0 && meta.ppi != 0 && meta.direction == DOWNLINK) {
                meta.tunnel_len = meta.tunnel_len + 12;
            } else if (meta.mark_qfi != 0 || meta.user.qfi != 0) {
                meta.tunnel_len = meta.tunnel_len + 8;
            }
        }
        if (meta.user.length > 65535 - meta.tunnel_len || meta.user.length + meta.tunnel_len > meta.mtu) {
            meta.reason = REASON_MTU;
        }
        /* v1model sums up the UDP checksum over all that was not parsed, with what follows the IP packet: it may only be
           the zeros of Ethernet padding. Nobody pads frames longer than 64 bytes. */
        if (meta.tunnel == TUNNEL_IPV6 && meta.user.behind != 0 && standard.packet_length > 64) {
            meta.reason = REASON_MALFORMED;
        }
    }
}

#endif
