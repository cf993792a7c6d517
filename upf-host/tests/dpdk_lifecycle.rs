//! From the first to the last moment of DPDK in a process: one test, since a process has one such life.

use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use upf_host::dpdk::{Eal, EalConfig, EalError, Mempool, Port, PortConfig};

#[test]
fn the_environment_starts_once_outlives_its_users_and_is_cleaned_up() {
    let affinity = || sched_getaffinity(Pid::from_raw(0)).unwrap();
    let affinity_before = affinity();
    let name = format!("lifecycle-{}", std::process::id());

    // What can be told beforehand leaves the one chance untouched.
    let absurd = EalConfig {
        name: name.clone(),
        hugepages: true,
        memory_mb: u32::MAX,
        ..EalConfig::default()
    };
    let error = Eal::init(&absurd).unwrap_err();
    assert!(matches!(error, EalError::TooFewHugepages { .. }), "{error}");
    assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
    let unprintable = EalConfig {
        extra_args: vec!["a\0b".into()],
        ..EalConfig::default()
    };
    assert!(matches!(Eal::init(&unprintable), Err(EalError::NulInArgument(_))));

    let config = EalConfig {
        name,
        memory_mb: 64,
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    assert_eq!(affinity(), affinity_before, "the calling thread is not pinned");
    assert_eq!(Eal::init(&config).unwrap_err(), EalError::AlreadyInitialised);

    let pool = Mempool::new(&eal, "pool", 1023, 0, 2048).unwrap();
    let (port, mut queues) = Port::open(&PortConfig::new("net_null0"), &pool).unwrap();
    drop((eal, pool, port));
    let mut packets = arrayvec::ArrayVec::<_, 32>::new();
    assert_eq!(
        queues.rx[0].burst(&mut packets),
        32,
        "a queue keeps everything it needs"
    );
    assert_eq!(queues.tx[0].burst(&mut packets), 32);
    drop(queues);

    assert_eq!(
        Eal::init(&config).unwrap_err(),
        EalError::AlreadyInitialised,
        "not even after the clean-up"
    );
}
