// Every entity that P4Runtime knows of v1model, in one small program: for the tests of the P4Runtime server.
// p4c --target bmv2 --arch v1model --p4runtime-files entities.p4info.txtpb -o . entities.p4
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> type;
}

header ipv4_t {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;
    bit<16> length;
    bit<16> id;
    bit<3>  flags;
    bit<13> fragment;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

@controller_header("packet_in")
header packet_in_t {
    bit<9>  ingress_port;
    bit<7>  _pad;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9>  egress_port;
    bit<7>  _pad;
}

struct headers_t {
    packet_in_t  packet_in;
    packet_out_t packet_out;
    ethernet_t   ethernet;
    ipv4_t       ipv4;
}

struct learn_t {
    bit<48> src;
    bit<9>  port;
}

struct metadata_t {
    bit<2>  colour;
    bit<16> hash;
}

const bit<9> CPU_PORT = 510;

parser Parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    value_set<bit<16>>(4) experimental_types;

    state start {
        transition select(std.ingress_port) {
            CPU_PORT: from_controller;
            default: ethernet;
        }
    }
    state from_controller {
        packet.extract(hdr.packet_out);
        transition ethernet;
    }
    state ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.type) {
            0x0800: ipv4;
            experimental_types: ipv4;
            default: accept;
        }
    }
    state ipv4 {
        packet.extract(hdr.ipv4);
        transition accept;
    }
}

control Verify(inout headers_t hdr, inout metadata_t meta) {
    apply {}
}

control In(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_counter(CounterType.packets_and_bytes) session_counter;
    direct_meter<bit<2>>(MeterType.bytes) session_meter;
    counter(16, CounterType.packets_and_bytes) port_counter;
    meter(16, MeterType.packets) port_meter;
    register<bit<32>>(16) last_length;
    action_selector(HashAlgorithm.crc16, 64, 14) hops;
    action_profile(8) classes;

    action drop() {
        mark_to_drop(std);
    }
    action forward(bit<9> port) {
        std.egress_spec = port;
    }
    action forward_session(bit<9> port, bit<20> session) {
        std.egress_spec = port;
        hdr.ethernet.src[19:0] = session;
        session_counter.count();
        session_meter.read(meta.colour);
    }
    action to_controller() {
        std.egress_spec = CPU_PORT;
    }
    action flood(bit<16> group) {
        std.mcast_grp = group;
    }
    action mirror(bit<32> session) {
        clone(CloneType.I2E, session);
    }
    action learn() {
        digest<learn_t>(1, {hdr.ethernet.src, std.ingress_port});
    }
    action set_tos(bit<8> tos) {
        hdr.ipv4.tos = tos;
    }

    // exact, with direct counter and meter
    table sessions {
        key = {
            hdr.ipv4.dst: exact @name("address");
            hdr.ipv4.id: exact @name("teid");
        }
        actions = { forward_session; to_controller; drop; @defaultonly NoAction; }
        default_action = NoAction();
        counters = session_counter;
        meters = session_meter;
        support_timeout = true;
        size = 131072;
    }
    // ternary, range, optional
    table acl {
        key = {
            hdr.ipv4.src: ternary @name("source");
            hdr.ipv4.length: range @name("length");
            hdr.ipv4.protocol: optional @name("protocol");
        }
        actions = { drop; to_controller; flood; mirror; @tableonly forward; @defaultonly NoAction; }
        default_action = NoAction();
        size = 16;
    }
    // lpm over an action selector
    table routes {
        key = {
            hdr.ipv4.dst: lpm @name("destination");
            hdr.ipv4.src: selector;
            hdr.ipv4.id: selector;
        }
        actions = { forward; drop; NoAction; }
        implementation = hops;
        size = 64;
    }
    // exact over an action profile
    table marking {
        key = { hdr.ipv4.protocol: exact @name("protocol"); }
        actions = { set_tos; NoAction; }
        implementation = classes;
        size = 64;
    }
    // constant entries
    table constant {
        key = { hdr.ethernet.type: exact @name("type"); }
        actions = { learn; NoAction; }
        const default_action = NoAction();
        const entries = {
            0x88b5: learn();
        }
    }
    // no key
    table keyless {
        actions = { set_tos; NoAction; }
        default_action = NoAction();
    }

    apply {
        bit<32> index = (bit<32>)std.ingress_port & 15;
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            port_counter.count(index);
            last_length.write(index, std.packet_length);
            port_meter.execute_meter<bit<2>>(index, meta.colour);
            constant.apply();
            if (hdr.ipv4.isValid()) {
                routes.apply();
                marking.apply();
                keyless.apply();
                sessions.apply();
                acl.apply();
            }
        }
    }
}

control Out(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        if (std.egress_port == CPU_PORT) {
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = std.ingress_port;
            hdr.packet_in._pad = 0;
        }
    }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    apply {}
}

control Deparse(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
    }
}

V1Switch(Parse(), Verify(), In(), Out(), Compute(), Deparse()) main;
