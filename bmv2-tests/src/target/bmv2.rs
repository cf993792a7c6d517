//! BMv2's `simple_switch_grpc` as a child process, in a network namespace of its own, on veth pairs.

use super::namespace::{Namespace, enter, ip};
use super::wires::Links;
use super::{PORTS, Target};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::runtime;

const PROGRAM: &str = "simple_switch_grpc";
const DEVICE_ID: u64 = 1;
/// A log level of BMv2's, to have its log kept in the temporary directory.
const LOG_LEVEL: &str = "UPF_P4_BMV2_LOG";
/// In a namespace of its own, no port is taken.
const ADDRESS: &str = "127.0.0.1:9559";

/// Start it, if it can be.
pub(super) fn start() -> Result<Target, String> {
    let skipped = |why: String| format!("BMv2: {why}");
    let program = on_path(PROGRAM).ok_or_else(|| skipped(format!("{PROGRAM} is not on PATH")))?;
    if !nix::unistd::geteuid().is_root() {
        return Err(skipped("not root, and it gets a network namespace".to_owned()));
    }
    let target = launch(program).map_err(|e| skipped(e.to_string()))?;
    let connected = Target::connect("BMv2", ADDRESS, DEVICE_ID, target.runtime, target.links);
    // It is there, so that it does not work is a failure and no reason to skip it.
    let connected = connected.unwrap_or_else(|e| panic!("{e}; what it wrote: {}", target.log.display()));
    if std::env::var_os(LOG_LEVEL).is_none() {
        let _ = std::fs::remove_file(&target.log);
    }
    Ok(connected)
}

struct Launched {
    runtime: runtime::Runtime,
    links: Arc<Mutex<Links>>,
    log: PathBuf,
}

fn launch(program: PathBuf) -> io::Result<Launched> {
    let namespace = Namespace::new()?;
    let log = std::env::temp_dir().join(format!("bmv2-tests-{}.log", std::process::id()));
    let (output, handle) = (File::create(&log)?, namespace.handle()?);
    let links = namespace.run(move || -> io::Result<Links> {
        let mut interfaces = Vec::new();
        for port in 1..=PORTS {
            let (ours, its) = (format!("test{port}"), format!("port{port}"));
            ip(&[
                "link", "add", &ours, "mtu", "9000", "type", "veth", "peer", "name", &its, "mtu", "9000",
            ])?;
            for end in [&ours, &its] {
                ip(&["link", "set", end, "up"])?;
            }
            interfaces.push((port, ours));
        }
        let links = Links::open(&interfaces)?;
        spawn(&program, output)?;
        Ok(links)
    })?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || enter(&handle).expect("the namespace is there while its handle is"))
        .build()?;
    // Kept for the whole test program: its thread is the child's parent.
    std::mem::forget(namespace);
    Ok(Launched {
        runtime,
        links: Arc::new(Mutex::new(links)),
        log,
    })
}

/// The child is killed when this thread ends, with the test program at the latest.
fn spawn(program: &Path, output: File) -> io::Result<()> {
    drop(TcpListener::bind(ADDRESS)?);
    let mut command = Command::new(program);
    command.arg("--no-p4").args(["--device-id", &DEVICE_ID.to_string()]);
    for port in 1..=PORTS {
        command.args(["-i", &format!("{port}@port{port}")]);
    }
    if let Ok(level) = std::env::var(LOG_LEVEL) {
        command.args(["--log-console", "--log-level", &level]);
    }
    command.args(["--", "--grpc-server-addr", ADDRESS, "--priority-queues", "8"]);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // SAFETY: between fork and exec only prctl is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
    }
    command.spawn().map(drop)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
