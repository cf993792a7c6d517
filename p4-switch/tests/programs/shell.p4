/* What every test program shares: an empty checksum stage and a main package. Include last. */
control NoChecks(inout headers_t hdr, inout metadata_t meta) { apply { } }
V1Switch(TestParser(), NoChecks(), TestIngress(), TestEgress(), NoChecks(), TestDeparser()) main;
