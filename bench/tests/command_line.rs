//! `bench` as people and scripts call it: what compares, what generates, and with which exit code it ends.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bench-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A record with one rate in it.
fn record(mpps: f64) -> Value {
    json!({
        "machine": {
            "cpu": "x", "cpus": 2, "cores": 2, "caches": [], "memory_mb": 1, "huge_pages_mb": 0,
            "transparent_huge_pages": "never", "kernel": "6", "dpdk": "DPDK", "rustc": "rustc", "profile": "release",
        },
        "runs": [],
        "figures": [{
            "suite": "host", "name": "packets per core", "subject": "upf-host", "params": { "sessions": 1 },
            "value": mpps, "unit": "Mpps", "spread": [mpps, mpps], "runs": 5,
        }],
    })
}

#[test]
fn compare_fails_with_1_if_something_became_slower_and_with_2_if_it_cannot_tell() {
    let directory = Directory::new("compare");
    let (old, slow) = (
        directory.file("old.json", &record(10.0)),
        directory.file("slow.json", &record(8.0)),
    );
    let slower = bench(&["compare", text(&old), text(&slow)]);
    assert_eq!(slower.status.code(), Some(1));
    let told = String::from_utf8(slower.stdout).unwrap();
    assert!(told.contains("10.0 -> 8.00 Mpps (-20.0 %)"), "{told}");
    assert_eq!(bench(&["compare", text(&slow), text(&old)]).status.code(), Some(0));
    assert_eq!(bench(&["compare", text(&old), "nowhere.json"]).status.code(), Some(2));
}

#[test]
fn the_generator_alone_sends_through_a_ring_and_tells_what_became_of_it() {
    let directory = Directory::new("ring");
    let file = directory.0.join("ring.json");
    let arguments = [
        "pktgen",
        "--n3",
        "net_ring0",
        "--no-arp",
        "--size",
        "imix",
        "--distribution",
        "zipf",
        "--rate",
        "2000",
        "--seconds",
        "0.2",
        "--json",
        text(&file),
        "--plot",
        text(&directory.0),
    ];
    let output = bench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let value = |name: &str| {
        let figures = record["figures"].as_array().unwrap();
        figures
            .iter()
            .find(|f| f["name"] == name)
            .and_then(|f| f["value"].as_f64())
    };
    assert!(value("packets offered") > Some(0.0));
    assert_eq!(
        (value("packets lost"), value("packets reordered")),
        (Some(0.0), Some(0.0))
    );
    assert!(value("latency p99.9") > Some(0.0));
    assert!(directory.0.join("pktgen-latency-p50.svg").exists());
}
