/* One table of each match kind, direct counters and meters, constant entries, an action selector. The first byte of a
   packet chooses the table; what the entry says is written to the second. */
#include <core.p4>
#include <v1model.p4>

header key_h { bit<8> which; bit<8> result; bit<16> a; bit<32> b; bit<128> wide; }
struct headers_t { key_h key; }
struct metadata_t { bit<2> color; }

parser TestParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start { packet.extract(hdr.key); transition accept; }
}

control TestIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    direct_counter(CounterType.packets_and_bytes) exact_counter;
    direct_meter<bit<2>>(MeterType.packets) exact_meter;
    action_selector(HashAlgorithm.crc16, 16, 14) selector;

    action set(bit<8> result) { hdr.key.result = result; }
    action set_wide(bit<128> wide) { hdr.key.wide = wide; }
    action counted(bit<8> result) { exact_counter.count(); exact_meter.read(meta.color); hdr.key.result = result; }

    table exact_t {
        key = { hdr.key.a: exact @name("a"); hdr.key.b: exact @name("b"); }
        actions = { counted; NoAction; }
        counters = exact_counter;
        meters = exact_meter;
        size = 64;
    }
    table wide_t {
        key = { hdr.key.wide: exact @name("wide"); }
        actions = { set; set_wide; NoAction; }
        size = 4;
    }
    table lpm_t {
        key = { hdr.key.a: exact @name("a"); hdr.key.b: lpm @name("b"); }
        actions = { set; NoAction; }
        default_action = set(99);
    }
    table ternary_t {
        key = { hdr.key.a: ternary @name("a"); hdr.key.b: ternary @name("b"); }
        actions = { set; NoAction; }
    }
    table range_t {
        key = { hdr.key.a: range @name("a"); hdr.key.b: optional @name("b"); }
        actions = { set; NoAction; }
    }
    table timed_t {
        key = { hdr.key.a: exact @name("a"); }
        actions = { set; NoAction; }
        support_timeout = true;
    }
    table const_t {
        key = { hdr.key.a: ternary @name("a"); }
        actions = { set; NoAction; }
        const default_action = set(7);
        const entries = {
            0x1000 &&& 0xf000: set(1);
            0x1100 &&& 0xff00: set(2);
            0x2000 &&& 0xf000: set(3);
        }
    }
    table selected_t {
        key = { hdr.key.a: exact @name("a"); hdr.key.b: selector; }
        actions = { set; NoAction; }
        implementation = selector;
    }
    apply {
        standard.egress_spec = 1;
        if (hdr.key.which == 0) { exact_t.apply(); if (meta.color == 2) { mark_to_drop(standard); } }
        else if (hdr.key.which == 1) { wide_t.apply(); }
        else if (hdr.key.which == 2) { lpm_t.apply(); }
        else if (hdr.key.which == 3) { ternary_t.apply(); }
        else if (hdr.key.which == 4) { range_t.apply(); }
        else if (hdr.key.which == 5) { timed_t.apply(); }
        else if (hdr.key.which == 6) { const_t.apply(); }
        else if (hdr.key.which == 7) {
            switch (selected_t.apply().action_run) {
                set: { }
                default: { hdr.key.result = 255; }
            }
        }
    }
}
control TestEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) { apply { } }
control TestDeparser(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr.key); } }
#include "shell.p4"
