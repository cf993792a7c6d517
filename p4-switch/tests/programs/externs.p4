/* Counters, meters, registers, hashes, digests, and what makes copies of packets. The first byte says what to do. */
#include <core.p4>
#include <v1model.p4>

header op_h { bit<8> op; bit<8> index; bit<16> value; bit<32> result; }
struct headers_t { op_h op; }
struct digest_t { bit<8> index; bit<16> value; }
struct metadata_t { @field_list(1) bit<8> passes; @field_list(1) bit<16> kept; bit<2> color; bit<32> scratch; }

parser TestParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start { packet.extract(hdr.op); transition accept; }
}

control TestIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    counter(8, CounterType.packets_and_bytes) counters;
    meter(8, MeterType.bytes) meters;
    register<bit<32>>(8) registers;
    register<bit<72>>(4) wide_registers;

    apply {
        standard.egress_spec = (bit<9>)hdr.op.index & 7;
        if (hdr.op.op == 0) {
            counters.count((bit<32>)hdr.op.index);
        } else if (hdr.op.op == 1) {
            meters.execute_meter((bit<32>)hdr.op.index, meta.color);
            hdr.op.result = (bit<32>)meta.color;
        } else if (hdr.op.op == 2) {
            registers.read(meta.scratch, (bit<32>)hdr.op.index);
            hdr.op.result = meta.scratch;
            registers.write((bit<32>)hdr.op.index, meta.scratch + (bit<32>)hdr.op.value);
        } else if (hdr.op.op == 3) {
            hash(hdr.op.result, HashAlgorithm.crc32, (bit<32>)0, { hdr.op.index, hdr.op.value }, 32w0xffffffff);
        } else if (hdr.op.op == 4) {
            random(hdr.op.result, 32w10, 32w12);
        } else if (hdr.op.op == 5) {
            digest<digest_t>(1, { hdr.op.index, hdr.op.value });
        } else if (hdr.op.op == 6) {
            meta.kept = hdr.op.value;
            clone_preserving_field_list(CloneType.I2E, 5, 1);
            hdr.op.value = 0;
        } else if (hdr.op.op == 7) {
            if (meta.passes < 3) {
                meta.passes = meta.passes + 1;
                resubmit_preserving_field_list(1);
            }
            hdr.op.result = (bit<32>)meta.passes;
        } else if (hdr.op.op == 8) {
            hdr.op.result = (bit<32>)meta.passes;
        } else if (hdr.op.op == 9) {
            standard.mcast_grp = hdr.op.value;
        } else if (hdr.op.op == 10) {
            truncate(10);
        } else if (hdr.op.op == 11) {
            log_msg("index {} value {}", { hdr.op.index, hdr.op.value });
            assert(hdr.op.value != 0xdead);
        } else if (hdr.op.op == 12) {
            standard.priority = (bit<3>)hdr.op.index;
            standard.egress_spec = 1;
        } else if (hdr.op.op == 13) {
            wide_registers.write(1, (bit<72>)hdr.op.value << 56);
            bit<72> wide;
            wide_registers.read(wide, 1);
            hdr.op.result = (bit<32>)(wide >> 40);
        } else if (hdr.op.op == 14) {
            mark_to_drop(standard);
            if (hdr.op.value == 1) { exit; }
            standard.egress_spec = 2;
        } else if (hdr.op.op == 15) {
            bit<32> sum = 0;
            sum = sum + 1;
            hdr.op.result = sum;
        }
    }
}
control TestEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {
        if (standard.instance_type == 1) {
            hdr.op.result = (bit<32>)meta.kept;
        } else if (hdr.op.op == 8 && meta.passes < 2) {
            meta.passes = meta.passes + 1;
            recirculate_preserving_field_list(1);
        } else if (hdr.op.op == 9) {
            hdr.op.result = (bit<32>)standard.egress_rid;
        } else if (hdr.op.op == 16 && standard.instance_type == 0) {
            clone_preserving_field_list(CloneType.E2E, 5, 1);
        } else if (hdr.op.op == 16) {
            hdr.op.result = standard.instance_type;
        } else if (hdr.op.op == 17) {
            hdr.op.result = (bit<32>)standard.enq_qdepth;
        }
    }
}
control TestDeparser(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr.op); } }
#include "shell.p4"
