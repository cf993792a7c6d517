/* What of DPDK the data plane uses: the input of bindgen (see build.rs).
 *
 * Structures whose shape moves between DPDK releases are not touched from Rust. Their fields are reached through
 * offsets and constants that this file takes from the headers it is compiled against, or through a function below.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_acl.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_epoll.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Most of DPDK's constants are macros around RTE_BIT64(), which bindgen cannot evaluate; a `static const` it can.
 * build.rs takes the prefix off again. */
#define CONSTANT(name) static const uint64_t dpdk_##name = (name)
#define MBUF_FIELD(NAME, field) static const uint64_t dpdk_RTE_MBUF_OFFSET_##NAME = offsetof(struct rte_mbuf, field)

MBUF_FIELD(BUF_ADDR, buf_addr);
MBUF_FIELD(DATA_OFF, data_off);
MBUF_FIELD(REFCNT, refcnt);
MBUF_FIELD(NB_SEGS, nb_segs);
MBUF_FIELD(PORT, port);
MBUF_FIELD(OL_FLAGS, ol_flags);
MBUF_FIELD(PKT_LEN, pkt_len);
MBUF_FIELD(DATA_LEN, data_len);
MBUF_FIELD(BUF_LEN, buf_len);
MBUF_FIELD(TX_OFFLOAD, tx_offload);

CONSTANT(RTE_MBUF_F_RX_IP_CKSUM_MASK);
CONSTANT(RTE_MBUF_F_RX_IP_CKSUM_BAD);
CONSTANT(RTE_MBUF_F_RX_IP_CKSUM_GOOD);
CONSTANT(RTE_MBUF_F_RX_IP_CKSUM_NONE);
CONSTANT(RTE_MBUF_F_RX_L4_CKSUM_MASK);
CONSTANT(RTE_MBUF_F_RX_L4_CKSUM_BAD);
CONSTANT(RTE_MBUF_F_RX_L4_CKSUM_GOOD);
CONSTANT(RTE_MBUF_F_RX_L4_CKSUM_NONE);
CONSTANT(RTE_MBUF_F_TX_IPV4);
CONSTANT(RTE_MBUF_F_TX_IPV6);
CONSTANT(RTE_MBUF_F_TX_IP_CKSUM);
CONSTANT(RTE_MBUF_F_TX_UDP_CKSUM);
CONSTANT(RTE_MBUF_F_TX_OFFLOAD_MASK);
CONSTANT(RTE_MBUF_L2_LEN_BITS);
CONSTANT(RTE_MBUF_L2_LEN_OFS);
CONSTANT(RTE_MBUF_L3_LEN_BITS);
CONSTANT(RTE_MBUF_L3_LEN_OFS);

CONSTANT(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
CONSTANT(RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
CONSTANT(RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
CONSTANT(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
CONSTANT(RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
CONSTANT(RTE_ETH_RSS_IP);
CONSTANT(RTE_ETH_RSS_UDP);
CONSTANT(RTE_ETH_RSS_TCP);
CONSTANT(RTE_ETH_RSS_GTPU);

CONSTANT(RTE_PKTMBUF_HEADROOM);
CONSTANT(RTE_MAX_ETHPORTS);
CONSTANT(RTE_MEMPOOL_CACHE_MAX_SIZE);

/* rte_errno is a thread-local variable, which bindgen would bind as a plain global. */
static inline int dpdk_errno(void) { return rte_errno; }

/* The members of struct rte_eth_link moved into an anonymous union in DPDK 24.11. */
static inline int dpdk_link_status(uint16_t port, bool *up, uint32_t *mbps)
{
	struct rte_eth_link link = {0};
	int result = rte_eth_link_get_nowait(port, &link);
	*up = link.link_status == RTE_ETH_LINK_UP;
	*mbps = link.link_speed;
	return result;
}

/* Makes the epoll instance readable when packets come to the queue. */
static inline int dpdk_interrupts_into(uint16_t port, uint16_t queue, int epoll)
{
	return rte_eth_dev_rx_intr_ctl_q(port, queue, epoll, RTE_INTR_EVENT_ADD, NULL);
}

/* Takes in what has made it readable, as each driver wants that done. */
static inline void dpdk_interrupts_seen(int epoll)
{
	struct rte_epoll_event events[8];

	while (rte_epoll_wait(epoll, events, 8, 0) == 8)
		;
}
