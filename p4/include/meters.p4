/* Owns policing and counting. Reached only by packets that will be sent unless a meter says no: what is punted or
 * dropped for another reason spends no tokens. (A packet that the session's meter drops has spent the flow's: v1model
 * meters cannot look without spending.) */
#ifndef UPF_METERS_P4
#define UPF_METERS_P4

control Meters(inout metadata_t meta) {
    /* Bytes are those of frames as they came: the target counts no others. The user's bytes are bytes - packets *
       usual_overhead, where a rule's frames are all alike; for one that is not, its overhead is counted bit by bit. */
    counter(CELLS, CounterType.packets_and_bytes) passed;
    counter(CELLS, CounterType.packets_and_bytes) dropped;
    /* Cell (cell * 8 + bit): frames with another overhead than usual whose overhead has that bit. */
    counter(CELLS << 3, CounterType.packets) odd_overhead;
    /* Cell: frames with another overhead than usual. */
    counter(CELLS, CounterType.packets) odd;

    meter(CELLS, MeterType.bytes) flow_meters;
    meter(CELLS, MeterType.bytes) session_meters;

    action count_passed() {
        passed.count(meta.cell);
    }
    action count_dropped() {
        dropped.count(meta.cell);
    }

    apply {
        if (meta.reason == REASON_NONE) {
            meta.color = 0;
            if (meta.flow_meter != 0) {
                flow_meters.execute_meter(meta.flow_meter, meta.color);
            }
            if (meta.color != 2 && meta.session_meter != 0) {
                session_meters.execute_meter(meta.session_meter, meta.color);
            }
            if (meta.color == 2) {
                meta.reason = REASON_POLICED;
            }
        }
        if (meta.reason == REASON_NONE) {
            count_passed();
            if (meta.overhead != meta.usual_overhead) {
                odd.count(meta.cell);
                bit<32> at = meta.cell << 3;
                if (meta.overhead[0:0] == 1) { odd_overhead.count(at); }
                if (meta.overhead[1:1] == 1) { odd_overhead.count(at | 1); }
                if (meta.overhead[2:2] == 1) { odd_overhead.count(at | 2); }
                if (meta.overhead[3:3] == 1) { odd_overhead.count(at | 3); }
                if (meta.overhead[4:4] == 1) { odd_overhead.count(at | 4); }
                if (meta.overhead[5:5] == 1) { odd_overhead.count(at | 5); }
                if (meta.overhead[6:6] == 1) { odd_overhead.count(at | 6); }
                if (meta.overhead[7:7] == 1) { odd_overhead.count(at | 7); }
            }
        } else if (meta.reason == REASON_GATE_CLOSED || meta.reason == REASON_FAR_DROP
                   || meta.reason == REASON_POLICED) {
            count_dropped();
        }
    }
}

#endif
