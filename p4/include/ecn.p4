/* Owns one question: can the user's packet carry the congestion mark of the tunnel it came in? If not it must be dropped
 * (RFC 6040 4.2), which the host does and counts. */
#ifndef UPF_ECN_P4
#define UPF_ECN_P4

control Ecn(inout headers_t hdr, inout metadata_t meta) {
    apply {
        if (meta.tunnelled == 1 && meta.user.tos[1:0] == 0) {
            if (hdr.ipv4.isValid() && hdr.ipv4.tos[1:0] == 3 || hdr.ipv6.isValid() && hdr.ipv6.traffic_class[1:0] == 3) {
                meta.reason = REASON_ECN;
            }
        }
    }
}

#endif
