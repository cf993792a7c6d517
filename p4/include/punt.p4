/* Owns the way to the host and back: every packet that is not on the fast path has a reason, is counted under it, and is
 * punted or dropped as the controller configures for that reason. A flood of one reason or of one user is cut short here,
 * before it can take the host's time from others. */
#ifndef UPF_PUNT_P4
#define UPF_PUNT_P4

control Punt(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    direct_counter(CounterType.packets_and_bytes) reason_counter;
    direct_meter<bit<2>>(MeterType.packets) reason_meter;
    /* Users share cells by hash: who shares one with a flooder suffers with him. */
    meter(PUNT_USERS, MeterType.packets) punt_users;
    /* By reason: packets that were to be punted, but over a rate. */
    counter(REASONS, CounterType.packets_and_bytes) limited;

    bit<1> to_host = 0;
    port_t host_port = 0;
    bit<1> user_limited = 0;
    bit<2> reason_color = 0;
    bit<2> user_color = 0;

    action discard() {
        reason_counter.count();
    }
    /* `limit_users`: 1: users are limited one by one as well. */
    action punt(port_t port, bit<1> limit_users) {
        to_host = 1;
        host_port = port;
        user_limited = limit_users;
        reason_counter.count();
        reason_meter.read(reason_color);
    }

    @description("What becomes of packets that leave the fast path, by reason.")
    table reasons {
        key = { meta.reason: exact @name("reason"); }
        actions = { punt; discard; }
        const default_action = discard();
        size = REASONS;
        counters = reason_counter;
        meters = reason_meter;
    }

    action write_punt_header() {
        hdr.host_ethernet.setValid();
        hdr.host_ethernet.dst = 0x020000000002;
        hdr.host_ethernet.src = 0x020000000001;
        hdr.host_ethernet.ether_type = ETHERTYPE_PUNT;
        hdr.punt.setValid();
        hdr.punt.version = 1;
        hdr.punt.reason = meta.reason;
        hdr.punt.ingress_port = (bit<16>)standard.ingress_port;
        hdr.punt.session = meta.session;
        hdr.punt.epoch = meta.epoch;
        standard.egress_spec = host_port;
    }

    apply {
        reasons.apply();
        if (to_host == 1 && user_limited == 1) {
            bit<32> user;
            hash(user, HashAlgorithm.crc32, (bit<32>)0, { meta.session, meta.teid, meta.user.ue }, (bit<32>)PUNT_USERS);
            punt_users.execute_meter(user, user_color);
        }
        if (to_host == 0) {
            mark_to_drop(standard);
        } else if (reason_color == 2 || user_color == 2) {
            limited.count((bit<32>)meta.reason);
            mark_to_drop(standard);
        } else {
            write_punt_header();
        }
    }
}

/* Frames that the host has finished. */
control Reinject(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    action host() {
    }
    action forged() {
        meta.reason = REASON_FORGED;
    }
    @description("The ports at which the host is: nobody else may reinject.")
    table host_ports {
        key = { standard.ingress_port: exact @name("ingress_port"); }
        actions = { host; @defaultonly forged; }
        const default_action = forged();
        size = 16;
    }

    apply {
        if (host_ports.apply().hit) {
            if (!hdr.reinject.isValid() || hdr.reinject.version != 1 || hdr.reinject.egress_port > 510) {
                meta.reason = REASON_BAD_REINJECT;
            } else {
                standard.egress_spec = (port_t)hdr.reinject.egress_port;
                standard.priority = hdr.reinject.queue[2:0];
                hdr.host_ethernet.setInvalid();
                hdr.reinject.setInvalid();
            }
        }
    }
}

#endif
