//! Work inside another network namespace, on a thread that exists for it: a namespace belongs to a thread, and the
//! caller's threads keep theirs.

use crate::GnbError;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `ip netns add NAME` keeps it.
const NAMED: &str = "/var/run/netns";

/// Runs `work` inside the namespace (a name of `ip netns`, or a path) and returns what it returns; without a name,
/// inside the caller's. Sockets and devices made there stay there, commands started there run there.
///
/// # Errors
/// The namespace does not exist, or may not be entered.
pub fn within<T: Send>(name: Option<&str>, work: impl FnOnce() -> T + Send) -> Result<T, GnbError> {
    let Some(name) = name else { return Ok(work()) };
    let path = if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NAMED).join(name)
    };
    let failed = |source| GnbError::Namespace {
        name: name.to_owned(),
        source,
    };
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(File::open(&path)?, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread inside it panicked")))
            .map_err(failed)
    })
}

/// Runs `ip` with these arguments in the current thread's namespace.
///
/// # Errors
/// With what it printed, if it fails or cannot be run.
pub fn ip(arguments: &[&str]) -> Result<(), GnbError> {
    let failed = |reason: String| GnbError::Ip {
        arguments: arguments.join(" "),
        reason,
    };
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
