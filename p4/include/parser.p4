/* Owns reading frames, checking and filling checksums, and writing frames. What is cut short or strange is accepted as
   far as it was read: the controls tell why it leaves the fast path. */
#ifndef UPF_PARSER_P4
#define UPF_PARSER_P4

/* Protocols besides UDP whose header begins with two ports. */
#define OTHERS_WITH_PORTS(next) 6: next; 33: next; 132: next; 136: next;

parser UpfParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start {
        meta.session = NO_SESSION;
        transition select(packet.lookahead<bit<112>>()[15:0]) { // the EtherType
            ETHERTYPE_REINJECT: reinject;
            default: ethernet;
        }
    }

    state reinject {
        packet.extract(hdr.host_ethernet);
        packet.extract(hdr.reinject);
        transition accept;
    }

    state ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN: vlan;
            ETHERTYPE_IPV4: ipv4;
            ETHERTYPE_IPV6: ipv6;
            default: accept;
        }
    }

    state vlan {
        packet.extract(hdr.vlan);
        transition select(hdr.vlan.ether_type) {
            ETHERTYPE_IPV4: ipv4;
            ETHERTYPE_IPV6: ipv6;
            default: accept;
        }
    }

    state ipv4 {
        packet.extract(hdr.ipv4);
        transition select(hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.fragment_offset) {
            (4, 5, 0): ipv4_payload;
            default: accept;
        }
    }

    /* Ports only if the IP packet, not Ethernet padding, has them. */
    state ipv4_payload {
        transition select(hdr.ipv4.total_len) {
            0 .. 23: accept;
            default: ipv4_protocol;
        }
    }

    /* A fragment of a tunnel packet is the host's, whatever it carries. */
    state ipv4_protocol {
        transition select(hdr.ipv4.protocol, hdr.ipv4.more_fragments) {
            (PROTOCOL_UDP, 0): udp_ports;
            (PROTOCOL_UDP, 1): ports;
            (6, _): ports; (33, _): ports; (132, _): ports; (136, _): ports;
            default: accept;
        }
    }

    state ipv6 {
        packet.extract(hdr.ipv6);
        transition select(hdr.ipv6.version, hdr.ipv6.payload_len) {
            (6, 0 .. 3): accept;
            (6, 4 .. 65535): ipv6_protocol;
            default: accept;
        }
    }

    state ipv6_protocol {
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_UDP: udp_ports;
            OTHERS_WITH_PORTS(ports)
            default: accept;
        }
    }

    state ports {
        packet.extract(hdr.ports);
        transition accept;
    }

    state udp_ports {
        packet.extract(hdr.ports);
        transition select(hdr.ports.dst) {
            GTPU_PORT: udp_rest;
            default: accept;
        }
    }

    state udp_rest {
        packet.extract(hdr.udp_rest);
        transition select(hdr.udp_rest.length) {
            0 .. 15: accept;
            default: gtpu;
        }
    }

    state gtpu {
        packet.extract(hdr.gtpu);
        transition select(hdr.gtpu.version, hdr.gtpu.protocol_type, hdr.gtpu.message_type,
                          hdr.gtpu.extension, hdr.gtpu.sequence, hdr.gtpu.n_pdu, hdr.gtpu.length) {
            (1, 1, GTPU_GPDU, 0, 0, 0, _): inner;
            (1, 1, GTPU_GPDU, _, _, _, 0 .. 3): accept;
            (1, 1, GTPU_GPDU, _, _, _, _): gtpu_options;
            default: accept;
        }
    }

    state gtpu_options {
        packet.extract(hdr.gtpu_options);
        transition select(hdr.gtpu.extension, hdr.gtpu_options.next_extension, hdr.gtpu.length) {
            (0, _, _): inner;
            (1, _, 0 .. 7): accept;
            (1, EXTENSION_PSC, _): psc;
            default: accept;
        }
    }

    state psc {
        packet.extract(hdr.psc);
        transition select(hdr.psc.length, hdr.psc.pdu_type, hdr.psc.flags, hdr.psc.ppp, hdr.psc.rqi, hdr.psc.next_extension) {
            (1, 0, 0, 0, _, 0): inner;
            (1, 1, 0, 0, 0, 0): inner;
            default: accept;
        }
    }

    state inner {
        transition select(packet.lookahead<bit<4>>()) {
            4: inner_ipv4;
            6: inner_ipv6;
            default: accept;
        }
    }

    state inner_ipv4 {
        packet.extract(hdr.inner_ipv4);
        transition select(hdr.inner_ipv4.ihl, hdr.inner_ipv4.fragment_offset, hdr.inner_ipv4.total_len) {
            (5, 0, 24 .. 65535): inner_ipv4_protocol;
            default: accept;
        }
    }

    state inner_ipv4_protocol {
        transition select(hdr.inner_ipv4.protocol) {
            PROTOCOL_UDP: inner_ports;
            OTHERS_WITH_PORTS(inner_ports)
            default: accept;
        }
    }

    state inner_ipv6 {
        packet.extract(hdr.inner_ipv6);
        transition select(hdr.inner_ipv6.payload_len) {
            0 .. 3: accept;
            default: inner_ipv6_protocol;
        }
    }

    state inner_ipv6_protocol {
        transition select(hdr.inner_ipv6.next_header) {
            PROTOCOL_UDP: inner_ports;
            OTHERS_WITH_PORTS(inner_ports)
            default: accept;
        }
    }

    state inner_ports {
        packet.extract(hdr.inner_ports);
        transition accept;
    }
}

/* Only the first IPv4 header is this node's to check; the user's is the receiver's. */
control VerifyChecksums(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid() && hdr.ipv4.ihl == 5,
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_len, hdr.ipv4.identification,
              hdr.ipv4.reserved, hdr.ipv4.dont_fragment, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

/* Of the tunnel that is put on. User's headers are updated in place (RFC 1624) where they are changed. Fields of
   headers that are not there are left out of the sum. */
control ComputeChecksums(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.tunnel_ipv4.isValid(),
            { hdr.tunnel_ipv4.version, hdr.tunnel_ipv4.ihl, hdr.tunnel_ipv4.tos, hdr.tunnel_ipv4.total_len,
              hdr.tunnel_ipv4.identification, hdr.tunnel_ipv4.reserved, hdr.tunnel_ipv4.dont_fragment,
              hdr.tunnel_ipv4.more_fragments, hdr.tunnel_ipv4.fragment_offset, hdr.tunnel_ipv4.ttl,
              hdr.tunnel_ipv4.protocol, hdr.tunnel_ipv4.src, hdr.tunnel_ipv4.dst },
            hdr.tunnel_ipv4.checksum, HashAlgorithm.csum16);
        /* Over IPv4 the UDP checksum stays zero; over IPv6 it must be there (TS 29.281 4.4.2.0, RFC 8200 8.1). */
        update_checksum_with_payload(hdr.tunnel_ipv6.isValid(),
            { hdr.tunnel_ipv6.src, hdr.tunnel_ipv6.dst, 16w0, hdr.tunnel_udp.length, 24w0, PROTOCOL_UDP,
              hdr.tunnel_udp.src, hdr.tunnel_udp.dst, hdr.tunnel_udp.length,
              hdr.tunnel_gtpu.version, hdr.tunnel_gtpu.protocol_type, hdr.tunnel_gtpu.spare,
              hdr.tunnel_gtpu.extension, hdr.tunnel_gtpu.sequence, hdr.tunnel_gtpu.n_pdu,
              hdr.tunnel_gtpu.message_type, hdr.tunnel_gtpu.length, hdr.tunnel_gtpu.teid,
              hdr.tunnel_options.sequence, hdr.tunnel_options.n_pdu, hdr.tunnel_options.next_extension,
              hdr.tunnel_psc.length, hdr.tunnel_psc.pdu_type, hdr.tunnel_psc.flags, hdr.tunnel_psc.ppp,
              hdr.tunnel_psc.rqi, hdr.tunnel_psc.qfi, hdr.tunnel_psc.next_extension,
              hdr.tunnel_psc_ppi.length, hdr.tunnel_psc_ppi.pdu_type, hdr.tunnel_psc_ppi.flags,
              hdr.tunnel_psc_ppi.ppp, hdr.tunnel_psc_ppi.rqi, hdr.tunnel_psc_ppi.qfi, hdr.tunnel_psc_ppi.ppi,
              hdr.tunnel_psc_ppi.spare, hdr.tunnel_psc_ppi.padding, hdr.tunnel_psc_ppi.next_extension,
              hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_len, hdr.ipv4.identification,
              hdr.ipv4.reserved, hdr.ipv4.dont_fragment, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.checksum, hdr.ipv4.src, hdr.ipv4.dst,
              hdr.ipv6.version, hdr.ipv6.traffic_class, hdr.ipv6.flow_label, hdr.ipv6.payload_len,
              hdr.ipv6.next_header, hdr.ipv6.hop_limit, hdr.ipv6.src, hdr.ipv6.dst,
              hdr.ports.src, hdr.ports.dst,
              hdr.inner_ipv4.version, hdr.inner_ipv4.ihl, hdr.inner_ipv4.tos, hdr.inner_ipv4.total_len,
              hdr.inner_ipv4.identification, hdr.inner_ipv4.reserved, hdr.inner_ipv4.dont_fragment,
              hdr.inner_ipv4.more_fragments, hdr.inner_ipv4.fragment_offset, hdr.inner_ipv4.ttl,
              hdr.inner_ipv4.protocol, hdr.inner_ipv4.checksum, hdr.inner_ipv4.src, hdr.inner_ipv4.dst,
              hdr.inner_ipv6.version, hdr.inner_ipv6.traffic_class, hdr.inner_ipv6.flow_label,
              hdr.inner_ipv6.payload_len, hdr.inner_ipv6.next_header, hdr.inner_ipv6.hop_limit,
              hdr.inner_ipv6.src, hdr.inner_ipv6.dst,
              hdr.inner_ports.src, hdr.inner_ports.dst },
            hdr.tunnel_udp.checksum, HashAlgorithm.csum16);
        /* A sum of zero is sent as its other form, for zero means that there is none (RFC 768). */
        update_checksum(hdr.tunnel_ipv6.isValid() && hdr.tunnel_udp.checksum == 0, { 16w0 },
            hdr.tunnel_udp.checksum, HashAlgorithm.csum16);
    }
}

control UpfDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.host_ethernet);
        packet.emit(hdr.punt);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.vlan);
        packet.emit(hdr.tunnel_ipv4);
        packet.emit(hdr.tunnel_ipv6);
        packet.emit(hdr.tunnel_udp);
        packet.emit(hdr.tunnel_gtpu);
        packet.emit(hdr.tunnel_options);
        packet.emit(hdr.tunnel_psc);
        packet.emit(hdr.tunnel_psc_ppi);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.ports);
        packet.emit(hdr.udp_rest);
        packet.emit(hdr.gtpu);
        packet.emit(hdr.gtpu_options);
        packet.emit(hdr.psc);
        packet.emit(hdr.inner_ipv4);
        packet.emit(hdr.inner_ipv6);
        packet.emit(hdr.inner_ports);
    }
}

#endif
