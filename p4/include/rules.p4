/* Owns rules: what a PDR with its QERs and URRs says of a packet, besides where it goes. A rule is one PDR of one epoch,
 * or of several if nothing of it changed; its cells (counters, meters) stay the PDR's. */
#ifndef UPF_RULES_P4
#define UPF_RULES_P4

control Rules(inout metadata_t meta) {
    action missing() {
        meta.reason = REASON_RULE_MISSING;
    }
    /* `cell`: of its counters. Meter 0: none. `usual_overhead`: bytes around the user's packet in most of its frames.
       `mark_qfi`: 0x80 and the QFI to mark with, 0 to keep the packet's own; `ppi`: 8 and the indicator, or 0. */
    action forward(cell_t cell, far_t far, cell_t flow_meter, cell_t session_meter, bit<8> usual_overhead,
                   bit<3> queue, bit<8> mark_qfi, bit<1> rqi, bit<4> ppi) {
        meta.cell = cell;
        meta.far = far;
        meta.flow_meter = flow_meter;
        meta.session_meter = session_meter;
        meta.usual_overhead = usual_overhead;
        meta.queue = queue;
        meta.mark_qfi = mark_qfi;
        meta.rqi = rqi;
        meta.ppi = ppi;
    }
    /* A gate of its QERs is closed in this direction. */
    action gate_closed(cell_t cell) {
        meta.cell = cell;
        meta.reason = REASON_GATE_CLOSED;
    }

    @description("PDRs with their QERs, by rule identifier.")
    table rules {
        key = { meta.rule: exact @name("rule"); }
        actions = { forward; gate_closed; @defaultonly missing; }
        const default_action = missing();
        size = RULES;
    }

    apply {
        rules.apply();
    }
}

#endif
