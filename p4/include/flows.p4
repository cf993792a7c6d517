/* Owns the flow stage of sessions with several PDRs in a direction. The host classifies the first packet of a flow
 * among all PDRs; the controller installs the winner here for exactly what the PDRs look at. Two packets that are alike
 * under the mask have the same winner, so this is right under any precedence, and needs no ternary match. */
#ifndef UPF_FLOWS_P4
#define UPF_FLOWS_P4

control Flows(inout metadata_t meta) {
    direct_counter(CounterType.packets) flow_counter;

    action flow(rule_t rule) {
        meta.rule = rule;
        flow_counter.count();
    }
    action miss() {
        meta.reason = REASON_FLOW_MISS;
        flow_counter.count();
    }

    @description("The winning PDR of each flow, by what the session's PDRs look at, for one epoch of the session.")
    table flows {
        key = {
            meta.session: exact @name("session");
            meta.epoch: exact @name("epoch");
            meta.direction: exact @name("direction");     // 0 uplink, 1 downlink
            meta.user.ipv6: exact @name("ipv6");
            meta.flow.remote: exact @name("remote");
            meta.flow.ue: exact @name("ue");
            meta.flow.remote_port: exact @name("remote_port");
            meta.flow.ue_port: exact @name("ue_port");
            meta.flow.protocol: exact @name("protocol");
            meta.flow.tos: exact @name("tos");
            meta.flow.qfi: exact @name("qfi");            // 0x80 and the QFI; 0: none
        }
        actions = { flow; @defaultonly miss; }
        const default_action = miss();
        size = FLOWS;
        support_timeout = true;
        counters = flow_counter;
    }

    apply {
        if (meta.direct == 0) {
            if (meta.user.complete == 0) {
                meta.reason = REASON_UNPARSED;
                return;
            }
            meta.flow.remote = meta.user.remote & meta.mask.remote;
            meta.flow.ue = meta.user.ue & meta.mask.ue;
            meta.flow.remote_port = meta.user.remote_port & meta.mask.remote_port;
            meta.flow.ue_port = meta.user.ue_port & meta.mask.ue_port;
            meta.flow.protocol = meta.user.protocol & meta.mask.protocol;
            meta.flow.tos = meta.user.tos & meta.mask.tos;
            meta.flow.qfi = meta.user.qfi & meta.mask.qfi;
            flows.apply();
        }
    }
}

#endif
