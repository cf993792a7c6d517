/* Owns what is on the wire, and the metadata that the controls pass on. All fields are big-endian. */
#ifndef UPF_HEADERS_P4
#define UPF_HEADERS_P4

typedef bit<9>  port_t;
typedef bit<48> mac_t;
typedef bit<32> ipv4_t;
typedef bit<128> ipv6_t;
typedef bit<32> teid_t;
typedef bit<32> session_t;
typedef bit<32> epoch_t;
typedef bit<32> rule_t;
typedef bit<32> far_t;
typedef bit<32> cell_t;
typedef bit<16> instance_t;
typedef bit<32> next_hop_t;
typedef bit<8>  reason_t;

const bit<16> ETHERTYPE_IPV4     = 0x0800;
const bit<16> ETHERTYPE_ARP      = 0x0806;
const bit<16> ETHERTYPE_VLAN     = 0x8100;
const bit<16> ETHERTYPE_IPV6     = 0x86dd;
const bit<16> ETHERTYPE_PUNT     = 0x88b5;   // IEEE Std 802 local experimental 1: from here to the host
const bit<16> ETHERTYPE_REINJECT = 0x88b6;   // local experimental 2: from the host to here
const bit<8>  PROTOCOL_UDP       = 17;
const bit<8>  IPV6_FRAGMENT      = 44;
const bit<16> GTPU_PORT          = 2152;     // TS 29.281 4.4.2
const bit<8>  GTPU_GPDU          = 255;
const bit<8>  EXTENSION_PSC      = 0x85;     // PDU Session Container, TS 38.415
const bit<8>  TUNNEL_HOP_LIMIT   = 64;

header ethernet_h {
    mac_t   dst;
    mac_t   src;
    bit<16> ether_type;
}

header vlan_h {
    bit<3>  pcp;
    bit<1>  dei;
    bit<12> vid;
    bit<16> ether_type;
}

/* After an Ethernet header with ETHERTYPE_PUNT; the frame as it came follows. */
header punt_h {
    bit<8>    version;        // 1
    reason_t  reason;
    bit<16>   ingress_port;
    session_t session;        // NO_SESSION if none was found
    epoch_t   epoch;          // under which it was looked up
}

/* After an Ethernet header with ETHERTYPE_REINJECT; the frame as it shall leave follows. */
header reinject_h {
    bit<8>  version;          // 1
    bit<8>  queue;            // priority queue, 0 to 7
    bit<16> egress_port;
}

header ipv4_h {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;              // DSCP and ECN
    bit<16> total_len;
    bit<16> identification;
    bit<1>  reserved;
    bit<1>  dont_fragment;
    bit<1>  more_fragments;
    bit<13> fragment_offset;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    ipv4_t  src;
    ipv4_t  dst;
}

header ipv6_h {
    bit<4>  version;
    bit<8>  traffic_class;
    bit<20> flow_label;
    bit<16> payload_len;
    bit<8>  next_header;
    bit<8>  hop_limit;
    ipv6_t  src;
    ipv6_t  dst;
}

/* What TCP, UDP, DCCP, SCTP and UDP-Lite begin with. */
header ports_h {
    bit<16> src;
    bit<16> dst;
}

/* The rest of a UDP header, of which only tunnels need to know. */
header udp_rest_h {
    bit<16> length;
    bit<16> checksum;
}

header udp_h {
    bit<16> src;
    bit<16> dst;
    bit<16> length;
    bit<16> checksum;
}

/* TS 29.281 5.1 */
header gtpu_h {
    bit<3>  version;          // 1
    bit<1>  protocol_type;    // 1: GTP
    bit<1>  spare;
    bit<1>  extension;        // E
    bit<1>  sequence;         // S
    bit<1>  n_pdu;            // PN
    bit<8>  message_type;
    bit<16> length;           // of all that follows these eight octets
    teid_t  teid;
}

header gtpu_options_h {
    bit<16> sequence;
    bit<8>  n_pdu;
    bit<8>  next_extension;
}

/* TS 38.415 5.5.2 within TS 29.281 5.2.2.7: a container of one unit of four octets. */
header psc_h {
    bit<8> length;            // in units of four octets
    bit<4> pdu_type;          // 0 downlink, 1 uplink
    bit<4> flags;             // QMP, SNP and others: none on the fast path
    bit<1> ppp;               // downlink: paging policy indicator follows; uplink: N3/N9 delay
    bit<1> rqi;               // downlink: reflective QoS; uplink: new IE
    bit<6> qfi;
    bit<8> next_extension;
}

/* The same with a paging policy indicator: two units. */
header psc_ppi_h {
    bit<8>  length;
    bit<4>  pdu_type;
    bit<4>  flags;
    bit<1>  ppp;
    bit<1>  rqi;
    bit<6>  qfi;
    bit<3>  ppi;
    bit<5>  spare;
    bit<24> padding;
    bit<8>  next_extension;
}

struct headers_t {
    /* Towards the host, or from it. */
    ethernet_h     host_ethernet;
    punt_h         punt;
    reinject_h     reinject;
    /* The frame. */
    ethernet_h     ethernet;
    vlan_h         vlan;
    /* The tunnel that is put on. */
    ipv4_h         tunnel_ipv4;
    ipv6_h         tunnel_ipv6;
    udp_h          tunnel_udp;
    gtpu_h         tunnel_gtpu;
    gtpu_options_h tunnel_options;
    psc_h          tunnel_psc;
    psc_ppi_h      tunnel_psc_ppi;
    /* The first IP header that came: of the tunnel it came in, or the user's. */
    ipv4_h         ipv4;
    ipv6_h         ipv6;
    ports_h        ports;
    udp_rest_h     udp_rest;
    gtpu_h         gtpu;
    gtpu_options_h gtpu_options;
    psc_h          psc;
    /* The user's IP header, if it came in a tunnel. */
    ipv4_h         inner_ipv4;
    ipv6_h         inner_ipv6;
    ports_h        inner_ports;
}

const bit<1> UPLINK   = 0;
const bit<1> DOWNLINK = 1;

const session_t NO_SESSION = 0xffffffff;

/* What a session's packets are told apart by. As a mask: the bits that its PDRs look at; the rest is ignored. As a key:
   a packet's fields under that mask. IPv4 addresses are the low 32 bits. */
struct flow_t {
    bit<128> remote;
    bit<128> ue;
    bit<16>  remote_port;
    bit<16>  ue_port;
    bit<8>   protocol;
    bit<8>   tos;
    bit<8>   qfi;
}

/* The user's packet, wherever its headers are. */
struct user_t {
    bit<1>   ipv6;
    bit<128> remote;          // the far end
    bit<128> ue;              // the user's end
    bit<16>  remote_port;
    bit<16>  ue_port;
    bit<8>   protocol;
    bit<8>   tos;
    bit<8>   qfi;             // 0x80 and the QFI; 0: the packet has none
    bit<8>   hop_limit;
    bit<16>  length;          // of the IP packet, by its own header
    bit<1>   complete;        // all that rules ask of was parsed
    bit<16>  behind;          // bytes of the frame that follow the IP packet
}

struct metadata_t {
    reason_t   reason;        // why the packet leaves the fast path; 0: it does not
    bit<12>    vlan;          // the frame came with; 0: untagged
    instance_t instance;      // network instance: of the ingress port, then of the route
    bit<1>     tunnelled;
    bit<1>     direction;
    bit<16>    endpoint;
    teid_t     teid;
    session_t  session;
    epoch_t    epoch;
    bit<1>     direct;        // the session entry named the rule
    flow_t     mask;
    flow_t     flow;          // the packet under the mask
    user_t     user;
    rule_t     rule;
    cell_t     cell;
    cell_t     flow_meter;
    cell_t     session_meter;
    bit<8>     usual_overhead;
    bit<8>     overhead;
    far_t      far;
    bit<3>     queue;
    bit<8>     mark_qfi;      // 0x80 and the QFI; 0: keep the packet's own
    bit<1>     rqi;
    bit<4>     ppi;           // 8 and the indicator; 0: none
    bit<2>     tunnel;        // which is put on: TUNNEL_*
    ipv4_t     tunnel_src_v4;
    ipv4_t     tunnel_dst_v4;
    ipv6_t     tunnel_src_v6;
    ipv6_t     tunnel_dst_v6;
    teid_t     tunnel_teid;
    bit<8>     mark_value;    // transport level marking
    bit<8>     mark_mask;
    bit<1>     route_ipv6;
    ipv6_t     route_dst;
    next_hop_t next_hop;
    port_t     egress_port;
    mac_t      egress_dst;    // hardware addresses it leaves with
    mac_t      egress_src;
    bit<12>    egress_vlan;
    bit<16>    mtu;
    bit<16>    tunnel_len;    // bytes that the tunnel adds
    bit<2>     color;
}

const bit<2> TUNNEL_NONE = 0;
const bit<2> TUNNEL_IPV4 = 1;
const bit<2> TUNNEL_IPV6 = 2;

/* Why a packet is not on the fast path. The host reads these from the punt header; upf-model has the same list. */
const reason_t REASON_NONE          = 0;
const reason_t REASON_NOT_OURS      = 1;   // hardware address or VLAN of nobody here
const reason_t REASON_LOCAL         = 2;   // group frames, ARP: for the UPF itself
const reason_t REASON_ETHERTYPE     = 3;
const reason_t REASON_MALFORMED     = 4;   // lengths that contradict each other, headers cut short
const reason_t REASON_CHECKSUM      = 5;
const reason_t REASON_OPTIONS       = 6;   // IPv4 options in the first header
const reason_t REASON_FRAGMENT      = 7;   // of a tunnel packet
const reason_t REASON_GTPU          = 8;   // signalling, or an extension header besides one plain container
const reason_t REASON_ENDPOINT      = 9;   // UDP port 2152, but of no tunnel endpoint
const reason_t REASON_UNKNOWN_TEID  = 10;
const reason_t REASON_UNKNOWN_UE    = 11;
const reason_t REASON_HOST_SESSION  = 12;  // the session is the host's by decision of the controller
const reason_t REASON_SPOOFED       = 13;
const reason_t REASON_FLOW_MISS     = 14;
const reason_t REASON_UNPARSED      = 15;  // rules ask for what was not parsed: fragment, options, extension headers
const reason_t REASON_RULE_MISSING  = 16;
const reason_t REASON_FAR_MISSING   = 17;
const reason_t REASON_BUFFER        = 18;
const reason_t REASON_FAR_HOST      = 19;  // the action is the host's, as duplicating is
const reason_t REASON_GATE_CLOSED   = 20;  // dropped
const reason_t REASON_FAR_DROP      = 21;  // dropped
const reason_t REASON_POLICED       = 22;  // dropped
const reason_t REASON_HOP_LIMIT     = 23;
const reason_t REASON_MTU           = 24;
const reason_t REASON_NO_ROUTE      = 25;
const reason_t REASON_NO_NEIGHBOUR  = 26;  // on-link, hardware address unknown here
const reason_t REASON_ECN           = 27;  // congestion signalled to a packet that cannot carry the signal
const reason_t REASON_FORGED        = 28;  // a reinject frame that did not come from the host
const reason_t REASON_BAD_REINJECT  = 29;
const reason_t REASON_LIMITED       = 30;  // to be punted, but over the rate of its reason or user

#endif
