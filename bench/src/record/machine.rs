//! What figures were measured on, as far as it decides them. Nothing here names the machine.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Logical CPUs: not only those that this process may use.
    pub cpus: usize,
    /// Physical cores, as far as the machine tells.
    pub cores: usize,
    /// The first CPU's, such as `L2 1024K`.
    pub caches: Vec<String>,
    /// All of it, MiB.
    pub memory_mb: u64,
    /// Huge pages set aside, MiB. `bench` may ask for more for the length of a run; figures say what they had.
    pub huge_pages_mb: u64,
    /// Whether the kernel makes huge pages by itself: `always`, `madvise` or `never`.
    pub transparent_huge_pages: String,
    /// Release.
    pub kernel: String,
    /// Version.
    pub dpdk: String,
    /// Version.
    pub rustc: String,
    /// `release` or `dev`.
    pub profile: String,
    /// At which `bench` and what it started ran, as by `chrt`; 0: like everything else.
    #[serde(default)]
    pub real_time_priority: u32,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        let huge = field("/proc/meminfo", "HugePages_Total:") * field("/proc/meminfo", "Hugepagesize:");
        Self {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            cpus: cpuinfo.lines().filter(|l| l.starts_with("processor")).count(),
            cores: cores(&cpuinfo),
            caches: (0..8).filter_map(cache).collect(),
            memory_mb: field("/proc/meminfo", "MemTotal:") / 1_024,
            huge_pages_mb: huge / 1_024,
            transparent_huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            dpdk: upf_host::dpdk::version(),
            rustc: env!("BENCH_RUSTC").to_owned(),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
            real_time_priority: real_time_priority(&read("/proc/self/stat")),
        }
    }

    /// In one sentence.
    pub fn in_words(&self) -> String {
        let priority = match self.real_time_priority {
            0 => String::new(),
            priority => format!(", real-time priority {priority}"),
        };
        format!(
            "{}, {} CPUs ({} cores; {}), {} GiB, Linux {}, {}, {}, profile {}{priority}",
            self.cpu,
            self.cpus,
            self.cores,
            self.caches.join(", "),
            self.memory_mb.div_ceil(1_024),
            self.kernel,
            self.dpdk,
            self.rustc,
            self.profile
        )
    }
}

/// The first number of a line that begins with this word; of `/proc/meminfo`, KiB.
fn field(path: &str, word: &str) -> u64 {
    let text = read(path);
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Memory that could be used without swapping, bytes.
pub fn available_bytes() -> u64 {
    field("/proc/meminfo", "MemAvailable:") * 1_024
}

/// Over one minute.
pub fn load_average() -> f64 {
    let text = read("/proc/loadavg");
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Of a process, by its `/proc/PID/stat`: the 40th field; the second one, the program's name, may hold anything.
fn real_time_priority(stat: &str) -> u32 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = after_name.split(' ').nth(40 - 3);
    field.and_then(|priority| priority.parse().ok()).unwrap_or(0)
}

/// Distinct pairs of package and core.
fn cores(cpuinfo: &str) -> usize {
    let of = |cpu: &str, what: &str| {
        let line = cpu.lines().find_map(|l| l.strip_prefix(what)?.split_once(':'));
        line.and_then(|(_, n)| n.trim().parse::<u32>().ok())
    };
    let cpus = cpuinfo.split("\n\n").filter(|cpu| !cpu.trim().is_empty());
    let pairs: BTreeSet<_> = cpus.map(|cpu| (of(cpu, "physical id"), of(cpu, "core id"))).collect();
    pairs.len()
}

fn cache(index: usize) -> Option<String> {
    let of = |what: &str| {
        let text = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}")).ok()?;
        Some(text.trim().to_owned())
    };
    let kind = match of("type")?.as_str() {
        "Data" => "d",
        "Instruction" => "i",
        _ => "",
    };
    Some(format!("L{}{kind} {}", of("level")?, of("size")?))
}

/// `madvise` of `always [madvise] never`.
fn chosen(setting: &str) -> String {
    let chosen = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or("unknown", |(word, _)| word).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_of_a_core_are_one_core() {
        let of = |cpu, core| format!("processor\t: {cpu}\nphysical id\t: 0\ncore id\t\t: {core}\n\n");
        assert_eq!(cores(&[of(0, 0), of(1, 0), of(2, 1), of(3, 1)].concat()), 2);
    }

    #[test]
    fn the_real_time_priority_is_found_whatever_the_programs_name() {
        let stat = |name: &str| {
            let rest: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
            format!("7 ({name}) {}", rest.join(" "))
        };
        assert_eq!(real_time_priority(&stat("bench")), 40);
        assert_eq!(real_time_priority(&stat("a) b (c")), 40);
        assert_eq!(real_time_priority(""), 0);
    }

    #[test]
    fn the_setting_in_brackets_is_the_chosen_one() {
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen(""), "unknown");
    }

    #[test]
    fn this_machine_has_a_processor_memory_and_dpdk() {
        let machine = Machine::this();
        assert!(
            machine.cpus >= 1 && machine.memory_mb > 0 && machine.dpdk.starts_with("DPDK"),
            "{machine:?}"
        );
        assert!(machine.rustc.starts_with("rustc"), "{machine:?}");
    }
}
