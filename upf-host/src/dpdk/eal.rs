//! The environment abstraction layer: one per process, initialised once, cleaned up with its last user.

use super::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::{fmt, fs, mem};

/// How the environment is set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EalConfig {
    /// Names the process in DPDK's own files and logs: two processes on a machine need two names.
    pub name: String,
    /// Take packet memory from huge pages. Without them everything works, at perhaps half the packet rate.
    pub hugepages: bool,
    /// Memory for packets and queues, in MiB. 2,500 bytes per packet is a good estimate.
    pub memory_mb: u32,
    /// PCI addresses (`0000:03:00.0`) that may be opened as ports. Where there is none, the PCI bus is left alone.
    pub pci: Vec<String>,
    /// What DPDK writes to standard error.
    pub log_level: LogLevel,
    /// Arguments handed to `rte_eal_init` as they are; `--iova-mode` and `--lcores` replace the ones made here.
    pub extra_args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            name: "upf-host".into(),
            hugepages: false,
            memory_mb: 256,
            pci: Vec::new(),
            log_level: LogLevel::default(),
            extra_args: Vec::new(),
        }
    }
}

/// DPDK's log levels, of which each includes the ones above it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(missing_docs, reason = "the names are DPDK's own")]
pub enum LogLevel {
    Error,
    #[default]
    Warning,
    Notice,
    Info,
    Debug,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        })
    }
}

/// Why there is no environment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EalError {
    /// DPDK keeps its state in globals and cannot be initialised twice, not even after a clean-up or a failure.
    #[error("DPDK was initialised in this process before; it can be only once")]
    AlreadyInitialised,
    /// There are too few free huge pages.
    #[error(
        "{wanted_mb} MiB of huge pages are configured, {free_mb} MiB are free: `sysctl -w vm.nr_hugepages={pages}`, \
         or run without huge pages",
        pages = wanted_mb.div_ceil(2)
    )]
    TooFewHugepages {
        /// As configured.
        wanted_mb: u32,
        /// In all page sizes, as the kernel tells.
        free_mb: u64,
    },
    /// An argument cannot be passed to C.
    #[error("argument {0:?} contains a NUL byte")]
    NulInArgument(String),
    /// The CPUs this process may run on could not be read or restored.
    #[error("CPU affinity: {0}")]
    Affinity(#[from] nix::errno::Errno),
    /// DPDK refused; what it wrote to standard error says more.
    #[error("rte_eal_init({arguments}): {errno}")]
    Init {
        /// DPDK's reason.
        errno: Errno,
        /// The whole command line.
        arguments: String,
    },
}

/// The initialised environment: proof that DPDK's functions may be called. Clones share it; the last one cleans up.
#[derive(Clone, Debug)]
pub struct Eal(Arc<Environment>);

#[derive(Debug)]
struct Environment {
    /// Devices that are open as ports, by name. The lock also makes probing and removing devices one at a time.
    open_devices: Mutex<HashSet<String>>,
}

static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Start DPDK. Takes 0.1 to 0.4 s, starts a few housekeeping threads, and leaves the calling thread on the CPUs it
    /// was on (DPDK by itself would pin it, and every thread spawned from it later). Devices are opened afterwards, by
    /// [`super::Port::open`]. Memory is anonymous: nothing is left behind in a hugetlbfs.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        if config.hugepages {
            let free_mb = free_hugepages_mb();
            if free_mb < u64::from(config.memory_mb) {
                return Err(EalError::TooFewHugepages {
                    wanted_mb: config.memory_mb,
                    free_mb,
                });
            }
        }
        let affinity = sched_getaffinity(Pid::from_raw(0))?;
        let arguments = arguments(config, &affinity);
        let argv = arguments
            .iter()
            .map(|argument| CString::new(argument.as_str()).map(CString::into_raw))
            .chain([Ok(std::ptr::null_mut::<c_char>())])
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| EalError::NulInArgument(arguments.join(" ")))?;
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        // DPDK reorders the array and keeps pointers into the strings: they live as long as the process.
        let argv = argv.leak();
        // SAFETY: argv is null-terminated, writable and never freed, and this is the only call in this process.
        let result = unsafe { dpdk_sys::rte_eal_init(arguments.len() as c_int, argv.as_mut_ptr()) };
        let errno = Errno::last();
        sched_setaffinity(Pid::from_raw(0), &affinity)?;
        if result < 0 {
            return Err(EalError::Init {
                errno,
                arguments: arguments.join(" "),
            });
        }
        Ok(Self(Arc::new(Environment {
            open_devices: Mutex::default(),
        })))
    }

    /// Do something to the set of devices while nobody else does.
    pub(super) fn with_devices<T>(&self, change: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        change(
            &mut self
                .0
                .open_devices
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    /// Never clean up: something that DPDK owns is still referred to.
    pub(super) fn keep_forever(&self) {
        mem::forget(self.clone());
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // SAFETY: ports, mempools and lcores hold an `Eal`, so that none of them is left.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

fn arguments(config: &EalConfig, affinity: &CpuSet) -> Vec<String> {
    let given = |option: &str| config.extra_args.iter().any(|argument| argument.starts_with(option));
    let mut arguments = vec![
        config.name.clone(),
        format!("--file-prefix={}", config.name),
        "--no-telemetry".into(),
        format!("--log-level={}", config.log_level),
        "-m".into(),
        config.memory_mb.to_string(),
    ];
    // Either way no secondary process can attach, and no file outlives this one.
    if config.hugepages {
        arguments.push("--in-memory".into());
    } else {
        arguments.extend(["--no-huge".into(), "--no-shconf".into()]);
    }
    // One lcore for the calling thread, floating over all its CPUs; workers register themselves.
    if !given("--lcores") && !given("-l") && !given("-c") {
        let cpus = (0..CpuSet::count()).filter(|&cpu| affinity.is_set(cpu).unwrap_or(false));
        arguments.push(format!(
            "--lcores=0@({})",
            cpus.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
        ));
    }
    if config.pci.is_empty() {
        arguments.push("--no-pci".into());
        // Virtual devices need no physical addresses; by default root gets them all the same. With PCI devices the
        // kernel driver they are bound to decides.
        if !given("--iova-mode") {
            arguments.push("--iova-mode=va".into());
        }
    }
    for address in &config.pci {
        arguments.extend(["-a".into(), address.clone()]);
    }
    arguments.extend(config.extra_args.iter().cloned());
    arguments
}

/// Free huge pages of all sizes, in MiB. `/sys` is the kernel's, not this namespace's.
fn free_hugepages_mb() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return 0;
    };
    sizes
        .flatten()
        .filter_map(|size| {
            let kib: u64 = size
                .file_name()
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let pages: u64 = fs::read_to_string(size.path().join("free_hugepages"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            Some(kib * pages / 1024)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments_of(config: &EalConfig) -> String {
        let mut affinity = CpuSet::new();
        affinity.set(1).unwrap();
        affinity.set(3).unwrap();
        arguments(config, &affinity).join(" ")
    }

    #[test]
    fn by_default_neither_huge_pages_nor_the_pci_bus_are_touched_and_the_caller_keeps_its_cpus() {
        assert_eq!(
            arguments_of(&EalConfig::default()),
            "upf-host --file-prefix=upf-host --no-telemetry --log-level=warning -m 256 --no-huge --no-shconf \
             --lcores=0@(1,3) --no-pci --iova-mode=va"
        );
    }

    #[test]
    fn pci_devices_are_allowed_one_by_one_and_choose_the_address_mode() {
        let config = EalConfig {
            hugepages: true,
            pci: vec!["0000:03:00.0".into()],
            ..EalConfig::default()
        };
        let arguments = arguments_of(&config);
        assert!(
            arguments.ends_with("-m 256 --in-memory --lcores=0@(1,3) -a 0000:03:00.0"),
            "{arguments}"
        );
    }

    #[test]
    fn extra_arguments_replace_the_ones_made_here() {
        let extra_args = vec!["--lcores=0@0".into(), "--iova-mode=pa".into()];
        let arguments = arguments_of(&EalConfig {
            extra_args,
            ..EalConfig::default()
        });
        assert!(
            arguments.ends_with("--no-shconf --no-pci --lcores=0@0 --iova-mode=pa"),
            "{arguments}"
        );
    }
}
