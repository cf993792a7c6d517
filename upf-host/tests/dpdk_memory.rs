//! A packet pool that does not fit: asking for it takes all memory of the environment for a moment, so it has a process to
//! itself.

use upf_host::dpdk::{Eal, EalConfig, Mempool, MempoolError};

#[test]
fn a_pool_larger_than_memory_is_refused_and_leaves_none_of_it_taken() {
    let eal = Eal::init(&EalConfig {
        name: format!("memory-{}", std::process::id()),
        memory_mb: 256,
        ..EalConfig::default()
    });
    let eal = eal.unwrap();
    let refused = Mempool::new(&eal, "memory", 4_000_000, 0, 2048).unwrap_err();
    assert!(matches!(refused, MempoolError::Create { .. }), "{refused}");
    let pool = Mempool::new(&eal, "memory", 63, 0, 2048).unwrap();
    assert_eq!(pool.free_count(), 63);
}
