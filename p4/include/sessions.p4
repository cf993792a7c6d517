/* Owns the session stage: whose packet it is, under which version of the rules (epoch), and in which mode.
 *
 *   direct   one PDR takes every packet of this direction: the entry names the rule
 *   by_flow  several do: look in `flows`, under the mask of what the session's PDRs look at
 *   on_host  the controller keeps the session at the host
 *
 * One entry is one direction of a session (of one address family, downlink). A change of a session's rules takes effect
 * with the one MODIFY of its entry: it carries the new epoch, under which the old `flows` entries match no longer. */
#ifndef UPF_SESSIONS_P4
#define UPF_SESSIONS_P4

control Sessions(inout headers_t hdr, inout metadata_t meta) {
    bit<4> allowed = 0;       // `sources` of the uplink entry
    ipv4_t allowed_v4 = 0;
    bit<64> allowed_v6 = 0;

    action unknown_teid() {
        meta.reason = REASON_UNKNOWN_TEID;
    }
    action unknown_ue() {
        meta.reason = REASON_UNKNOWN_UE;
    }
    action on_host(session_t session, epoch_t epoch) {
        meta.session = session;
        meta.epoch = epoch;
        meta.reason = REASON_HOST_SESSION;
    }
    /* `sources` says which of the two addresses uplink packets may come from: bit 0 source_v4, bit 1 source_v6 (a /64);
       bit 2: there are others, which the host knows; bit 3: from everywhere. */
    action uplink_direct(session_t session, epoch_t epoch, bit<4> sources, ipv4_t source_v4, bit<64> source_v6,
                         rule_t rule) {
        meta.session = session;
        meta.epoch = epoch;
        allowed = sources;
        allowed_v4 = source_v4;
        allowed_v6 = source_v6;
        meta.direct = 1;
        meta.rule = rule;
    }
    action uplink_by_flow(session_t session, epoch_t epoch, bit<4> sources, ipv4_t source_v4, bit<64> source_v6,
                          bit<128> remote, bit<128> ue, bit<16> remote_port, bit<16> ue_port, bit<8> protocol,
                          bit<8> tos, bit<8> qfi) {
        meta.session = session;
        meta.epoch = epoch;
        allowed = sources;
        allowed_v4 = source_v4;
        allowed_v6 = source_v6;
        meta.mask = { remote, ue, remote_port, ue_port, protocol, tos, qfi };
    }
    action downlink_direct(session_t session, epoch_t epoch, rule_t rule) {
        meta.session = session;
        meta.epoch = epoch;
        meta.direct = 1;
        meta.rule = rule;
    }
    action downlink_by_flow(session_t session, epoch_t epoch,
                            bit<128> remote, bit<128> ue, bit<16> remote_port, bit<16> ue_port, bit<8> protocol,
                            bit<8> tos, bit<8> qfi) {
        meta.session = session;
        meta.epoch = epoch;
        meta.mask = { remote, ue, remote_port, ue_port, protocol, tos, qfi };
    }

    @description("Sessions by local F-TEID (TS 29.244 8.2.3).")
    table uplink_sessions {
        key = {
            meta.endpoint: exact @name("endpoint");
            meta.teid: exact @name("teid");
        }
        actions = { uplink_direct; uplink_by_flow; on_host; @defaultonly unknown_teid; }
        const default_action = unknown_teid();
        size = SESSIONS;
    }
    @description("Sessions by network instance and UE IPv4 address.")
    table downlink_sessions_v4 {
        key = {
            meta.instance: exact @name("network_instance");
            hdr.ipv4.dst: exact @name("ue_address");
        }
        actions = { downlink_direct; downlink_by_flow; on_host; @defaultonly unknown_ue; }
        const default_action = unknown_ue();
        size = SESSIONS;
    }
    @description("Sessions by network instance and UE IPv6 prefix, a /64.")
    table downlink_sessions_v6 {
        key = {
            meta.instance: exact @name("network_instance");
            hdr.ipv6.dst[127:64]: exact @name("ue_prefix");
        }
        actions = { downlink_direct; downlink_by_flow; on_host; @defaultonly unknown_ue; }
        const default_action = unknown_ue();
        size = SESSIONS;
    }

    apply {
        if (meta.tunnelled == 0) {
            if (meta.user.ipv6 == 0) {
                downlink_sessions_v4.apply();
            } else {
                downlink_sessions_v6.apply();
            }
        } else if (uplink_sessions.apply().hit && meta.reason == REASON_NONE && allowed[3:3] == 0) {
            /* Anti-spoofing: the host drops and counts, for it knows framed routes as well. */
            bool own = false;
            if (meta.user.ipv6 == 0) {
                own = allowed[0:0] == 1 && meta.user.ue[31:0] == allowed_v4;
            } else {
                own = allowed[1:1] == 1 && meta.user.ue[127:64] == allowed_v6;
            }
            if (!own) {
                meta.reason = REASON_SPOOFED;
            }
        }
    }
}

#endif
