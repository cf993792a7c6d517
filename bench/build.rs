//! Which compiler made this: a figure's JSON says it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned());
    println!("cargo::rustc-env=BENCH_RUSTC={}", version.trim());
}
