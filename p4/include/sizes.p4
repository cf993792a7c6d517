/* Owns every size. `-DUPF_PROFILE_SMALL` makes a program for tests: BMv2 allocates all cells of an array at start. */
#ifndef UPF_SIZES_P4
#define UPF_SIZES_P4

#ifdef UPF_PROFILE_SMALL
#define SESSIONS 16384
#define FLOWS    65536
#define RULES    65536
#define FARS     65536
#define CELLS    65536
#define ROUTES   1024
#define NEXT_HOPS 1024
#else
#define SESSIONS 2097152     /* entries: an IPv4v6 session has two in downlink_sessions */
#define FLOWS    4194304
#define RULES    4194304     /* a PDR has two while its session changes from one epoch to the next */
#define FARS     4194304
#define CELLS    4194304     /* counters and meters of rules */
#define ROUTES   16384
#define NEXT_HOPS 16384
#endif

#define STATIONS  512        /* ports times VLANs */
#define ENDPOINTS 1024       /* N3 and N9 addresses of ours */
#define REASONS   64
#define PUNT_USERS 4096      /* meters of misses; users share them by hash */

/* Bits of the overhead of a frame: Ethernet to GTP-U and Ethernet padding make 255 bytes at most. */
#define OVERHEAD_BITS 8

#endif
