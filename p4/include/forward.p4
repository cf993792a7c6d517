/* Owns the rewrite of a packet that goes on: tunnel header off, one hop older, congestion mark carried inwards, tunnel
 * header or marking on, Ethernet header. Nothing here can fail any more. */
#ifndef UPF_FORWARD_P4
#define UPF_FORWARD_P4

const bit<8> ECN  = 0x03;
const bit<8> DSCP = 0xfc;

control Forward(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    /* RFC 1624, equation 3. Of the words before and after only the difference matters: what they have in common, the
       other octet for one, may be left out. */
    action update_ipv4_checksum(inout bit<16> checksum, in bit<16> before, in bit<16> after) {
        bit<32> sum = (bit<32>)(~checksum) + (bit<32>)(~before) + (bit<32>)after;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        checksum = ~sum[15:0];
    }

    action age_ipv4(inout bit<8> ttl, inout bit<16> checksum) {
        ttl = ttl - 1;
        update_ipv4_checksum(checksum, 0x0100, 0);
    }
    action mark_ipv4(inout bit<8> field, inout bit<16> checksum, in bit<8> tos) {
        update_ipv4_checksum(checksum, (bit<16>)field, (bit<16>)tos);
        field = tos;
    }

    action decapsulate() {
        hdr.ipv4.setInvalid();
        hdr.ipv6.setInvalid();
        hdr.ports.setInvalid();
        hdr.udp_rest.setInvalid();
        hdr.gtpu.setInvalid();
        hdr.gtpu_options.setInvalid();
        hdr.psc.setInvalid();
    }

    action gtpu(bit<16> length) {
        hdr.tunnel_gtpu.setValid();
        hdr.tunnel_gtpu.version = 1;
        hdr.tunnel_gtpu.protocol_type = 1;
        hdr.tunnel_gtpu.spare = 0;
        hdr.tunnel_gtpu.extension = 0;
        hdr.tunnel_gtpu.sequence = 0;
        hdr.tunnel_gtpu.n_pdu = 0;
        hdr.tunnel_gtpu.message_type = GTPU_GPDU;
        hdr.tunnel_gtpu.length = length;
        hdr.tunnel_gtpu.teid = meta.tunnel_teid;
    }
    action extension() {
        hdr.tunnel_gtpu.extension = 1;
        hdr.tunnel_options.setValid();
        hdr.tunnel_options.sequence = 0;
        hdr.tunnel_options.n_pdu = 0;
        hdr.tunnel_options.next_extension = EXTENSION_PSC;
    }
    action container(bit<4> pdu_type, bit<1> rqi, bit<6> qfi) {
        extension();
        hdr.tunnel_psc.setValid();
        hdr.tunnel_psc.length = 1;
        hdr.tunnel_psc.pdu_type = pdu_type;
        hdr.tunnel_psc.flags = 0;
        hdr.tunnel_psc.ppp = 0;
        hdr.tunnel_psc.rqi = rqi;
        hdr.tunnel_psc.qfi = qfi;
        hdr.tunnel_psc.next_extension = 0;
    }
    action container_with_ppi(bit<1> rqi, bit<6> qfi, bit<3> ppi) {
        extension();
        hdr.tunnel_psc_ppi.setValid();
        hdr.tunnel_psc_ppi.length = 2;
        hdr.tunnel_psc_ppi.pdu_type = 0;
        hdr.tunnel_psc_ppi.flags = 0;
        hdr.tunnel_psc_ppi.ppp = 1;
        hdr.tunnel_psc_ppi.rqi = rqi;
        hdr.tunnel_psc_ppi.qfi = qfi;
        hdr.tunnel_psc_ppi.ppi = ppi;
        hdr.tunnel_psc_ppi.spare = 0;
        hdr.tunnel_psc_ppi.padding = 0;
        hdr.tunnel_psc_ppi.next_extension = 0;
    }
    action udp(bit<16> length) {
        hdr.tunnel_udp.setValid();
        hdr.tunnel_udp.src = GTPU_PORT;
        hdr.tunnel_udp.dst = GTPU_PORT;
        hdr.tunnel_udp.length = length;
        hdr.tunnel_udp.checksum = 0;
    }
    action outer_ipv4(bit<8> tos, bit<16> total_len) {
        hdr.tunnel_ipv4.setValid();
        hdr.tunnel_ipv4.version = 4;
        hdr.tunnel_ipv4.ihl = 5;
        hdr.tunnel_ipv4.tos = tos;
        hdr.tunnel_ipv4.total_len = total_len;
        hdr.tunnel_ipv4.identification = 0;
        hdr.tunnel_ipv4.reserved = 0;
        hdr.tunnel_ipv4.dont_fragment = 1;
        hdr.tunnel_ipv4.more_fragments = 0;
        hdr.tunnel_ipv4.fragment_offset = 0;
        hdr.tunnel_ipv4.ttl = TUNNEL_HOP_LIMIT;
        hdr.tunnel_ipv4.protocol = PROTOCOL_UDP;
        hdr.tunnel_ipv4.checksum = 0;
        hdr.tunnel_ipv4.src = meta.tunnel_src_v4;
        hdr.tunnel_ipv4.dst = meta.tunnel_dst_v4;
    }
    action outer_ipv6(bit<8> traffic_class, bit<16> payload_len) {
        hdr.tunnel_ipv6.setValid();
        hdr.tunnel_ipv6.version = 6;
        hdr.tunnel_ipv6.traffic_class = traffic_class;
        hdr.tunnel_ipv6.flow_label = 0;
        hdr.tunnel_ipv6.payload_len = payload_len;
        hdr.tunnel_ipv6.next_header = PROTOCOL_UDP;
        hdr.tunnel_ipv6.hop_limit = TUNNEL_HOP_LIMIT;
        hdr.tunnel_ipv6.src = meta.tunnel_src_v6;
        hdr.tunnel_ipv6.dst = meta.tunnel_dst_v6;
    }

    apply {
        /* Congestion seen outside is carried inside (RFC 6040 4.2); Ecn has punted what cannot carry it. */
        bit<8> tos = meta.user.tos;
        if (meta.tunnelled == 1) {
            bit<8> outer;
            if (hdr.ipv4.isValid()) {
                outer = hdr.ipv4.tos & ECN;
            } else {
                outer = hdr.ipv6.traffic_class & ECN;
            }
            if (outer == 3) {
                tos = tos | 3;
            } else if (outer == 1 && tos & ECN == 2) {
                tos = tos & DSCP | 1;
            }
        }
        bit<8> outer_tos = meta.mark_value & meta.mark_mask & DSCP | tos & ECN;
        if (meta.tunnel == TUNNEL_NONE) {
            bit<8> mask = meta.mark_mask & DSCP;
            tos = tos & ~mask | meta.mark_value & mask;
        }

        if (meta.tunnelled == 1) {
            decapsulate();
            if (hdr.inner_ipv4.isValid()) {
                age_ipv4(hdr.inner_ipv4.ttl, hdr.inner_ipv4.checksum);
                if (tos != meta.user.tos) {
                    mark_ipv4(hdr.inner_ipv4.tos, hdr.inner_ipv4.checksum, tos);
                }
            } else {
                hdr.inner_ipv6.hop_limit = hdr.inner_ipv6.hop_limit - 1;
                hdr.inner_ipv6.traffic_class = tos;
            }
        } else if (hdr.ipv4.isValid()) {
            age_ipv4(hdr.ipv4.ttl, hdr.ipv4.checksum);
            if (tos != meta.user.tos) {
                mark_ipv4(hdr.ipv4.tos, hdr.ipv4.checksum, tos);
            }
        } else {
            hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
            hdr.ipv6.traffic_class = tos;
        }

        if (meta.tunnel != TUNNEL_NONE) {
            bit<16> ip_header_len = 20;
            if (meta.tunnel == TUNNEL_IPV6) {
                ip_header_len = 40;
            }
            bit<16> udp_len = meta.user.length + meta.tunnel_len - ip_header_len;
            udp(udp_len);
            gtpu(udp_len - 16);
            if (meta.direction == UPLINK) {
                if (meta.mark_qfi != 0) {
                    container(1, 0, meta.mark_qfi[5:0]);
                } else if (meta.user.qfi != 0) {
                    container(1, 0, meta.user.qfi[5:0]);
                }
            } else if (meta.mark_qfi != 0) {
                if (meta.ppi != 0) {
                    container_with_ppi(meta.rqi, meta.mark_qfi[5:0], meta.ppi[2:0]);
                } else {
                    container(0, meta.rqi, meta.mark_qfi[5:0]);
                }
            }
            if (meta.tunnel == TUNNEL_IPV4) {
                outer_ipv4(outer_tos, udp_len + 20);
            } else {
                outer_ipv6(outer_tos, udp_len);
            }
        }

        bit<16> ether_type = ETHERTYPE_IPV4;
        if (hdr.tunnel_ipv6.isValid() || meta.tunnel == TUNNEL_NONE && meta.user.ipv6 == 1) {
            ether_type = ETHERTYPE_IPV6;
        }
        hdr.ethernet.dst = meta.egress_dst;
        hdr.ethernet.src = meta.egress_src;
        bit<16> l2_len = 14;
        if (meta.egress_vlan != 0) {
            hdr.vlan.setValid();
            hdr.vlan.pcp = 0;
            hdr.vlan.dei = 0;
            hdr.vlan.vid = meta.egress_vlan;
            hdr.vlan.ether_type = ether_type;
            hdr.ethernet.ether_type = ETHERTYPE_VLAN;
            l2_len = 18;
        } else {
            hdr.vlan.setInvalid();
            hdr.ethernet.ether_type = ether_type;
        }
        /* What followed the user's packet, Ethernet padding for one, stays behind. */
        truncate((bit<32>)(l2_len + meta.tunnel_len + meta.user.length));
        standard.egress_spec = meta.egress_port;
        standard.priority = meta.queue;
    }
}

#endif
