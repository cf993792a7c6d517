//! What the bindings claim about the headers, against the library that is loaded at run time.

use dpdk_sys::*;
use std::ffi::CStr;

#[test]
fn the_loaded_library_is_one_this_crate_supports() {
    // SAFETY: a static string, available without an EAL.
    let version = unsafe { CStr::from_ptr(rte_version()) }.to_str().unwrap();
    let number = version.strip_prefix("DPDK ").unwrap();
    let mut parts = number.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    assert!((parts.next().unwrap(), parts.next().unwrap()) >= (22, 11), "{version}");
}

#[test]
fn mbuf_is_two_cache_lines_and_the_fields_of_the_receive_path_are_in_the_first() {
    assert_eq!((size_of::<rte_mbuf>(), align_of::<rte_mbuf>()), (128, 64));
    for offset in [
        RTE_MBUF_OFFSET_BUF_ADDR,
        RTE_MBUF_OFFSET_DATA_OFF,
        RTE_MBUF_OFFSET_REFCNT,
        RTE_MBUF_OFFSET_NB_SEGS,
        RTE_MBUF_OFFSET_PORT,
        RTE_MBUF_OFFSET_OL_FLAGS,
        RTE_MBUF_OFFSET_PKT_LEN,
        RTE_MBUF_OFFSET_DATA_LEN,
        RTE_MBUF_OFFSET_BUF_LEN,
    ] {
        assert!(offset < 64, "{offset}");
    }
    assert!((64..128).contains(&RTE_MBUF_OFFSET_TX_OFFLOAD));
}

#[test]
fn mbuf_fields_do_not_overlap() {
    let mut fields = [
        (RTE_MBUF_OFFSET_BUF_ADDR, 8),
        (RTE_MBUF_OFFSET_DATA_OFF, 2),
        (RTE_MBUF_OFFSET_REFCNT, 2),
        (RTE_MBUF_OFFSET_NB_SEGS, 2),
        (RTE_MBUF_OFFSET_PORT, 2),
        (RTE_MBUF_OFFSET_OL_FLAGS, 8),
        (RTE_MBUF_OFFSET_PKT_LEN, 4),
        (RTE_MBUF_OFFSET_DATA_LEN, 2),
        (RTE_MBUF_OFFSET_BUF_LEN, 2),
        (RTE_MBUF_OFFSET_TX_OFFLOAD, 8),
    ];
    fields.sort_unstable();
    assert!(
        fields.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0),
        "{fields:?}"
    );
    assert!(
        fields.iter().all(|(offset, size)| offset % size == 0),
        "naturally aligned: {fields:?}"
    );
}

#[test]
fn constants_behind_bit_macros_are_evaluated() {
    assert_eq!(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, 1 << 1);
    assert_eq!(RTE_ETH_TX_OFFLOAD_UDP_CKSUM, 1 << 2);
    assert_eq!(
        RTE_MBUF_F_RX_IP_CKSUM_MASK,
        RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_BAD
    );
    assert_eq!(
        RTE_MBUF_F_TX_OFFLOAD_MASK & RTE_MBUF_F_TX_UDP_CKSUM,
        RTE_MBUF_F_TX_UDP_CKSUM
    );
}

#[test]
fn inline_functions_and_thread_local_variables_are_reachable() {
    // SAFETY: reads the time stamp counter and a thread-local variable.
    let (earlier, later, errno) = unsafe { (rte_rdtsc(), rte_rdtsc(), dpdk_errno()) };
    assert!(later >= earlier);
    assert_eq!(errno, 0);
}
