/* The fast path of a 5G/6G user-plane function: GTP-U forwarding and tunnelling for v1model.
 *
 *   Station ▶ Sessions ▶ Flows ▶ Rules ▶ Fars ▶ Routing ▶ Ecn ▶ Meters ▶ Forward
 *      └──────────┴────────┴───────┴──────┴───────┴───────┴──────┴──▶ Punt (by reason: to the host, or dropped)
 *
 * A packet meets all its tables before anything is changed, metered or counted. If one of them has no answer the packet
 * leaves with a reason, as it came, and the host finishes it: a table may be incomplete at any time, never wrong.
 * Hot tables match exactly only; sizes are in include/sizes.p4. */
#include <core.p4>
#include <v1model.p4>
#include "include/sizes.p4"
#include "include/headers.p4"
#include "include/parser.p4"
#include "include/station.p4"
#include "include/sessions.p4"
#include "include/flows.p4"
#include "include/rules.p4"
#include "include/fars.p4"
#include "include/routing.p4"
#include "include/ecn.p4"
#include "include/meters.p4"
#include "include/forward.p4"
#include "include/punt.p4"

control UpfIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    Reinject() reinject;
    Station() station;
    Sessions() sessions;
    Flows() flows;
    Rules() rules;
    Fars() fars;
    Routing() routing;
    Ecn() ecn;
    Meters() meters;
    Forward() forward;
    Punt() punt;

    apply {
        if (hdr.host_ethernet.isValid()) {
            reinject.apply(hdr, meta, standard);
        } else {
            station.apply(hdr, meta, standard);
            if (meta.reason == REASON_NONE) { sessions.apply(hdr, meta); }
            if (meta.reason == REASON_NONE) { flows.apply(meta); }
            if (meta.reason == REASON_NONE) { rules.apply(meta); }
            if (meta.reason == REASON_NONE) { fars.apply(hdr, meta); }
            if (meta.reason == REASON_NONE) { routing.apply(hdr, meta, standard); }
            if (meta.reason == REASON_NONE) { ecn.apply(hdr, meta); }
            meters.apply(meta);
            if (meta.reason == REASON_NONE) { forward.apply(hdr, meta, standard); }
        }
        if (meta.reason != REASON_NONE) {
            punt.apply(hdr, meta, standard);
        }
    }
}

control UpfEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply { }
}

@pkginfo(name="upf.p4", version="1")
V1Switch(UpfParser(), VerifyChecksums(), UpfIngress(), UpfEgress(), ComputeChecksums(), UpfDeparser()) main;
