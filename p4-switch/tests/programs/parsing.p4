/* Header stacks, unions, varbits, look-ahead, value sets, verify, advance; the result is the error and what was valid. */
#include <core.p4>
#include <v1model.p4>

error { TooLow }
header kind_h { bit<8> kind; bit<8> result; }
header label_h { bit<20> label; bit<3> tc; bit<1> bottom; bit<8> ttl; }
header options_h { bit<8> len; varbit<64> bytes; bit<8> after; }
header left_h { bit<8> tag; bit<8> value; }
header right_h { bit<8> tag; bit<24> value; }
header odd_h { bit<3> a; bit<61> b; bit<7> c; bit<1> d; }
header_union either_h { left_h left; right_h right; }
struct headers_t { kind_h kind; label_h[3] labels; options_h options; either_h either; odd_h odd; }
struct metadata_t { bit<8> marked; }

parser TestParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    value_set<bit<8>>(4) marks;
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            marks: marked;
            1: labels;
            2: options;
            3: either;
            4: low;
            5: skip;
            6: odd;
            7 &&& 0x0f: masked;
            default: accept;
        }
    }
    state marked { meta.marked = 1; transition accept; }
    state masked { meta.marked = 2; transition accept; }
    state labels {
        packet.extract(hdr.labels.next);
        transition select(hdr.labels.last.bottom) { 0: labels; default: accept; }
    }
    state options {
        packet.extract(hdr.options, (bit<32>)packet.lookahead<bit<8>>() << 3);
        transition accept;
    }
    state either {
        transition select(packet.lookahead<bit<8>>()) { 0: left; default: right; }
    }
    state left { packet.extract(hdr.either.left); transition accept; }
    state right { packet.extract(hdr.either.right); transition accept; }
    state low {
        verify(packet.lookahead<bit<8>>() >= 10, error.TooLow);
        transition accept;
    }
    state skip { packet.advance(16); packet.extract(hdr.odd); transition accept; }
    state odd { packet.extract(hdr.odd); transition accept; }
}
control TestIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {
        standard.egress_spec = 1;
        if (standard.parser_error != error.NoError) { hdr.kind.result = 0x80; }
        if (standard.parser_error == error.TooLow) { hdr.kind.result = 0x81; }
        if (standard.parser_error == error.StackOutOfBounds) { hdr.kind.result = 0x82; }
        if (standard.parser_error == error.PacketTooShort) { hdr.kind.result = 0x83; }
        if (meta.marked != 0) { hdr.kind.result = meta.marked; }
        if (hdr.labels[0].isValid() && hdr.labels[0].tc == 7) { hdr.labels.pop_front(1); hdr.labels[0].ttl = hdr.labels[0].ttl - 1; }
        if (hdr.labels[0].isValid() && hdr.labels[0].tc == 6) { hdr.labels.push_front(1); hdr.labels[0].setValid(); hdr.labels[0].label = 0xabcde; }
        if (hdr.either.left.isValid()) {
            hdr.either.right.setValid();
            hdr.either.right.tag = 9;
            hdr.either.right.value = 0x010203;
        }
        if (hdr.odd.isValid()) {
            hdr.odd.b = hdr.odd.b + 1;
            hdr.odd.c = ~hdr.odd.c;
        }
        if (hdr.options.isValid()) { hdr.options.after = hdr.options.after |+| 250; }
    }
}
control TestEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) { apply { } }
control TestDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.kind);
        packet.emit(hdr.labels);
        packet.emit(hdr.options);
        packet.emit(hdr.either);
        packet.emit(hdr.odd);
    }
}
#include "shell.p4"
