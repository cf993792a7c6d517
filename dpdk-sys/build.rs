//! Binds the libdpdk that pkg-config finds: declarations by bindgen, and one C file of wrappers around the
//! `static inline` functions among them.

use bindgen::callbacks::{ItemInfo, ParseCallbacks};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, panic};

/// Debian 12's; what came before is not tested.
const OLDEST: &str = "22.11";
const INSTALL: &str = "on Debian and Ubuntu: apt-get install libdpdk-dev libclang-dev clang pkg-config";

const FUNCTIONS: &[&str] = &[
    // Environment and threads.
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_lcore_id",
    "rte_rdtsc",
    "rte_get_tsc_hz",
    "rte_strerror",
    "rte_version",
    "dpdk_errno",
    // Packet memory.
    "rte_pktmbuf_pool_create",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_full",
    "rte_pktmbuf_alloc",
    "rte_pktmbuf_free",
    "rte_pktmbuf_linearize",
    // Ports.
    "rte_eth_dev_is_valid_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_promiscuous_enable",
    "rte_eth_allmulticast_enable",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "dpdk_interrupts_into",
    "dpdk_interrupts_seen",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_rx_intr_disable",
    "rte_eth_rx_burst",
    "rte_eth_tx_burst",
    "dpdk_link_status",
    // Packet classification: what the classifier is compared with.
    "rte_acl_create",
    "rte_acl_free",
    "rte_acl_add_rules",
    "rte_acl_build",
    "rte_acl_classify",
    "rte_malloc_get_socket_stats",
];

/// Only ever behind a pointer here; their insides differ between releases, and some bindgen cannot lay out.
const OPAQUE: &[&str] = &["rte_mbuf", "rte_mempool", "rte_device", "rte_acl_rule"];

fn main() -> ExitCode {
    match bind() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error={problem}");
            ExitCode::FAILURE
        }
    }
}

fn bind() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    pkg_config(&["--exists"]).map_err(|found| format!("libdpdk not found ({found}); {INSTALL}"))?;
    let version = pkg_config(&["--modversion"])?;
    pkg_config(&[&format!("--atleast-version={OLDEST}")])
        .map_err(|_| format!("libdpdk is {}, at least {OLDEST} is needed", version.trim()))?;

    // All of it: `-include rte_config.h` and `-march` are part of DPDK's ABI, not only `-I`.
    let cflags = pkg_config(&["--cflags"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; cargo sets it")?);
    let wrappers = out.join("static_inline.c");
    generate(cflags.split_whitespace(), &wrappers)?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| error.to_string())?;

    let mut compiler = cc::Build::new();
    compiler
        .file(&wrappers)
        .include(env!("CARGO_MANIFEST_DIR"))
        .opt_level(3)
        .warnings(false);
    cflags.split_whitespace().for_each(|flag| {
        compiler.flag(flag);
    });
    compiler
        .try_compile("dpdk_static_inline")
        .map_err(|error| format!("{error}; {INSTALL}"))?;

    // Shared libraries; the linker leaves out those that nothing here calls, and the EAL loads the drivers at run time.
    for flag in pkg_config(&["--libs-only-L", "--libs-only-l"])?.split_whitespace() {
        match flag.split_at_checked(2) {
            Some(("-L", directory)) => println!("cargo::rustc-link-search=native={directory}"),
            Some(("-l", library)) => println!("cargo::rustc-link-lib=dylib={library}"),
            _ => {}
        }
    }
    Ok(())
}

fn pkg_config(arguments: &[&str]) -> Result<String, String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program)
        .args(arguments)
        .arg("libdpdk")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{} {} libdpdk: {}",
            program.display(),
            arguments.join(" "),
            output.status
        ))
    }
}

fn generate<'a>(cflags: impl Iterator<Item = &'a str>, wrappers: &PathBuf) -> Result<bindgen::Bindings, String> {
    // bindgen panics when it cannot load libclang: ask something harmless first.
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(bindgen::clang_version)
        .map_err(|_| format!("libclang, with which the DPDK headers are read, was not found; {INSTALL}"))?;
    let _ = panic::take_hook();

    let mut builder = bindgen::builder()
        .header(concat!(env!("CARGO_MANIFEST_DIR"), "/wrapper.h"))
        .clang_args(cflags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(wrappers)
        .allowlist_type("rte_eth_(conf|dev_info|rx_mq_mode|stats)")
        .allowlist_type("rte_acl_(config|field|field_def|param|rule_data)")
        .allowlist_var("RTE_ACL_(FIELD_TYPE_.*|MAX_PRIORITY)")
        .allowlist_var("dpdk_RTE_.*")
        .parse_callbacks(Box::new(ConstantsByTheirOwnName))
        .use_core()
        .derive_default(true)
        .prepend_enum_name(false)
        .generate_comments(false)
        .formatter(bindgen::Formatter::Rustfmt);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    builder.generate().map_err(|error| format!("{error}; {INSTALL}"))
}

/// `dpdk_RTE_X` of wrapper.h is `RTE_X` in Rust.
#[derive(Debug)]
struct ConstantsByTheirOwnName;

impl ParseCallbacks for ConstantsByTheirOwnName {
    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        item.name
            .strip_prefix("dpdk_")
            .filter(|name| name.starts_with("RTE_"))
            .map(str::to_owned)
    }
}
