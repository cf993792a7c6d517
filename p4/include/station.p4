/* Owns whose frame this is: which station of ours it was sent to, and whether it came in a tunnel. Fills meta.user. */
#ifndef UPF_STATION_P4
#define UPF_STATION_P4

control Station(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    action station(instance_t network_instance) {
        meta.instance = network_instance;
    }
    action not_ours() {
        meta.reason = REASON_NOT_OURS;
    }
    /* A port may carry several interfaces, told apart by VLAN: each is a station with a network instance. */
    @description("The hardware addresses at which frames are accepted, with the network instance of the interface.")
    table my_station {
        key = {
            standard.ingress_port: exact @name("ingress_port");
            meta.vlan: exact @name("vlan");              // 0: untagged
            hdr.ethernet.dst: exact @name("dst_mac");
        }
        actions = { station; @defaultonly not_ours; }
        const default_action = not_ours();
        size = STATIONS;
    }

    action endpoint(bit<16> id) {
        meta.endpoint = id;
    }
    action no_endpoint() {
    }
    @description("Addresses at which GTP-U tunnels over IPv4 end, by network instance.")
    table endpoints_v4 {
        key = {
            meta.instance: exact @name("network_instance");
            hdr.ipv4.dst: exact @name("address");
        }
        actions = { endpoint; @defaultonly no_endpoint; }
        const default_action = no_endpoint();
        size = ENDPOINTS;
    }
    @description("Addresses at which GTP-U tunnels over IPv6 end, by network instance.")
    table endpoints_v6 {
        key = {
            meta.instance: exact @name("network_instance");
            hdr.ipv6.dst: exact @name("address");
        }
        actions = { endpoint; @defaultonly no_endpoint; }
        const default_action = no_endpoint();
        size = ENDPOINTS;
    }

    /* The far end is the destination uplink and the source downlink. */
    action user_v4(bit<32> remote, bit<32> ue, bit<8> protocol, bit<8> tos, bit<8> hop_limit, bit<16> length) {
        meta.user.ipv6 = 0;
        meta.user.remote = (bit<128>)remote;
        meta.user.ue = (bit<128>)ue;
        meta.user.protocol = protocol;
        meta.user.tos = tos;
        meta.user.hop_limit = hop_limit;
        meta.user.length = length;
    }
    action user_v6(bit<128> remote, bit<128> ue, bit<8> protocol, bit<8> tos, bit<8> hop_limit, bit<16> payload_len) {
        meta.user.ipv6 = 1;
        meta.user.remote = remote;
        meta.user.ue = ue;
        meta.user.protocol = protocol;
        meta.user.tos = tos;
        meta.user.hop_limit = hop_limit;
        meta.user.length = payload_len + 40;
    }

    apply {
        if (!hdr.ethernet.isValid()) {
            meta.reason = REASON_MALFORMED;
            return;
        }
        bit<16> l2_len = 14;
        bit<16> around = 0; // bytes of the headers of the tunnel it came in
        if (hdr.vlan.isValid()) {
            l2_len = 18;
            meta.vlan = hdr.vlan.vid;
        }
        if (hdr.ethernet.dst[40:40] == 1) {
            meta.reason = REASON_LOCAL;
            return;
        }
        if (hdr.vlan.isValid() && meta.vlan == 0) {
            meta.reason = REASON_NOT_OURS; // a priority tag is a tag: it is not what an untagged station expects
            return;
        }
        if (!my_station.apply().hit) {
            return;
        }
        if (standard.parser_error != error.NoError) {
            meta.reason = REASON_MALFORMED; // a header is cut short
            return;
        }
        if (standard.checksum_error == 1) {
            meta.reason = REASON_CHECKSUM;
            return;
        }

        /* The first IP packet, which Ethernet may have padded. */
        bit<16> ip_len = 0;
        bit<16> ip_header_len = 0;
        if (hdr.ipv4.isValid()) {
            ip_len = hdr.ipv4.total_len;
            ip_header_len = 20;
            if (hdr.ipv4.version != 4 || hdr.ipv4.ihl < 5) {
                meta.reason = REASON_MALFORMED;
                return;
            }
            if (hdr.ipv4.ihl != 5) {
                meta.reason = REASON_OPTIONS;
                return;
            }
        } else if (hdr.ipv6.isValid()) {
            ip_len = hdr.ipv6.payload_len + 40;
            ip_header_len = 40;
            if (hdr.ipv6.version != 6 || hdr.ipv6.payload_len > 65495) {
                meta.reason = REASON_MALFORMED;
                return;
            }
        } else if (hdr.ethernet.ether_type == ETHERTYPE_ARP || hdr.vlan.isValid() && hdr.vlan.ether_type == ETHERTYPE_ARP) {
            meta.reason = REASON_LOCAL;
            return;
        } else {
            meta.reason = REASON_ETHERTYPE;
            return;
        }
        bit<16> frame_len = (bit<16>)standard.packet_length;
        if (ip_len < ip_header_len || ip_len > frame_len - l2_len) {
            meta.reason = REASON_MALFORMED;
            return;
        }

        /* Tunnels end only at addresses of ours, and their fragments have no header to tell them by. */
        bool fragment = hdr.ipv4.isValid() && hdr.ipv4.protocol == PROTOCOL_UDP
                            && (hdr.ipv4.more_fragments == 1 || hdr.ipv4.fragment_offset != 0)
                        || hdr.ipv6.isValid() && hdr.ipv6.next_header == IPV6_FRAGMENT;
        if (hdr.gtpu.isValid() || fragment) {
            bool ours = false;
            if (hdr.ipv4.isValid()) {
                ours = endpoints_v4.apply().hit;
            } else {
                ours = endpoints_v6.apply().hit;
            }
            if (fragment && ours) {
                meta.reason = REASON_FRAGMENT;
            } else if (!fragment && !ours) {
                meta.reason = REASON_ENDPOINT;
            }
            if (meta.reason != REASON_NONE) {
                return;
            }
        }

        if (!hdr.gtpu.isValid()) {
            if (hdr.udp_rest.isValid()) {
                meta.reason = REASON_ENDPOINT; // to the GTP-U port, but too short for it
                return;
            }
            meta.direction = DOWNLINK;
            meta.user.complete = 1;
            if (hdr.ipv4.isValid()) {
                user_v4(hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4.protocol, hdr.ipv4.tos, hdr.ipv4.ttl, ip_len);
                if (hdr.ipv4.fragment_offset != 0) {
                    meta.user.complete = 0;
                }
            } else {
                user_v6(hdr.ipv6.src, hdr.ipv6.dst, hdr.ipv6.next_header, hdr.ipv6.traffic_class, hdr.ipv6.hop_limit,
                        hdr.ipv6.payload_len);
            }
            if (hdr.ports.isValid()) {
                meta.user.remote_port = hdr.ports.src;
                meta.user.ue_port = hdr.ports.dst;
            }
        } else {
            meta.tunnelled = 1;
            meta.teid = hdr.gtpu.teid;
            meta.direction = UPLINK;
            if (!hdr.inner_ipv4.isValid() && !hdr.inner_ipv6.isValid()) {
                meta.reason = REASON_GTPU;
                return;
            }
            /* Every length within the one around it. */
            bit<16> inner_len = hdr.gtpu.length;
            around = ip_header_len + 16;
            if (hdr.gtpu_options.isValid()) {
                inner_len = inner_len - 4;
                around = around + 4;
            }
            if (hdr.psc.isValid()) {
                inner_len = inner_len - 4;
                around = around + 4;
                meta.user.qfi = 0x80 | (bit<8>)hdr.psc.qfi;
            }
            meta.user.complete = 1;
            if (hdr.inner_ipv4.isValid()) {
                user_v4(hdr.inner_ipv4.dst, hdr.inner_ipv4.src, hdr.inner_ipv4.protocol, hdr.inner_ipv4.tos,
                        hdr.inner_ipv4.ttl, hdr.inner_ipv4.total_len);
                if (hdr.inner_ipv4.fragment_offset != 0 || hdr.inner_ipv4.ihl != 5) {
                    meta.user.complete = 0;
                }
                if (hdr.inner_ipv4.ihl < 5 || hdr.inner_ipv4.total_len < ((bit<16>)hdr.inner_ipv4.ihl << 2)) {
                    meta.reason = REASON_MALFORMED;
                }
            } else {
                user_v6(hdr.inner_ipv6.dst, hdr.inner_ipv6.src, hdr.inner_ipv6.next_header,
                        hdr.inner_ipv6.traffic_class, hdr.inner_ipv6.hop_limit, hdr.inner_ipv6.payload_len);
                if (hdr.inner_ipv6.payload_len > 65495) {
                    meta.reason = REASON_MALFORMED;
                }
            }
            if (hdr.inner_ports.isValid()) {
                meta.user.remote_port = hdr.inner_ports.dst;
                meta.user.ue_port = hdr.inner_ports.src;
            }
            if (hdr.udp_rest.length > ip_len - ip_header_len
                || hdr.gtpu.length > hdr.udp_rest.length - 16
                || meta.user.length > inner_len) {
                meta.reason = REASON_MALFORMED;
            }
        }
        /* A transport header cut short, and IPv6 extension headers, are the host's to look at. */
        if (!hdr.ports.isValid() && meta.tunnelled == 0 || !hdr.inner_ports.isValid() && meta.tunnelled == 1) {
            if (meta.user.protocol == 6 || meta.user.protocol == 17 || meta.user.protocol == 33
                || meta.user.protocol == 132 || meta.user.protocol == 136) {
                meta.user.complete = 0;
            }
        }
        if (meta.user.ipv6 == 1) {
            if (meta.user.protocol == 0 || meta.user.protocol == 43 || meta.user.protocol == 44
                || meta.user.protocol == 60 || meta.user.protocol == 135) {
                meta.user.complete = 0;
            }
        }
        meta.user.behind = frame_len - l2_len - meta.user.length - around;
        meta.overhead = (bit<8>)(frame_len - meta.user.length);
        if (frame_len - meta.user.length > 255) {
            meta.reason = REASON_MALFORMED; // more around the packet than any tunnel and padding
        }
    }
}

#endif
