//! What is kept of a run: the machine, when and under what load it was, and the figures. One JSON file.
//!
//! | file | owns |
//! | --- | --- |
//! | [`machine`] | processor, memory, kernel, DPDK, compiler: nothing that names the machine |
//! | [`table`] | figures for a terminal |
//! | [`plot`] | figures as pictures |
//! | [`compare`] | two records: what got slower |
//! | [`document`] | the tables of a document, between markers |

pub mod compare;
pub mod document;
pub mod machine;
pub mod plot;
pub mod table;

use crate::figure::Figure;
use machine::Machine;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it ran on.
    pub machine: Machine,
    /// One for each suite.
    pub runs: Vec<Run>,
    /// Of all suites.
    pub figures: Vec<Figure>,
}

/// One run of one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which.
    pub suite: String,
    /// When it began, UTC.
    pub date: String,
    /// The commit of the sources, with `-dirty` where they had been changed.
    pub commit: String,
    /// The suite's command line.
    pub settings: Vec<String>,
    /// Load average over a minute, before and after.
    pub load_average: [f64; 2],
    /// How long it took.
    pub seconds: f64,
}

/// A run that has begun.
pub struct Begun {
    suite: String,
    settings: Vec<String>,
    date: String,
    load: f64,
    start: std::time::Instant,
}

impl Begun {
    /// Now. `settings` is the suite's command line without what names files.
    pub fn now(suite: &str, settings: Vec<String>) -> Self {
        Self {
            suite: suite.to_owned(),
            settings,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            load: machine::load_average(),
            start: std::time::Instant::now(),
        }
    }

    /// It is over.
    pub fn end(self) -> Run {
        Run {
            suite: self.suite,
            date: self.date,
            commit: commit(),
            settings: self.settings,
            load_average: [self.load, machine::load_average()],
            seconds: (self.start.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is none of ours.
    #[error("{path}: expected what `bench SUITE --json FILE` writes, found {error}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl Record {
    /// Of suites that ran on this machine, now.
    pub fn new(runs: Vec<Run>, figures: Vec<Figure>) -> Self {
        Self {
            machine: Machine::this(),
            runs,
            figures,
        }
    }

    /// From a file.
    ///
    /// # Errors
    /// It is not there, or none of ours.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = std::fs::read_to_string(path).map_err(|error| io(path, error))?;
        serde_json::from_str(&text).map_err(|error| RecordError::Json {
            path: path.to_owned(),
            error,
        })
    }

    /// To a file; its directory is made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let write = || -> std::io::Result<()> {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
            serde_json::to_writer_pretty(&mut file, self)?;
            writeln!(file)?;
            file.flush()
        };
        write().map_err(|error| io(path, error))
    }
}

fn io(path: &Path, error: std::io::Error) -> RecordError {
    RecordError::Io {
        path: path.to_owned(),
        error,
    }
}

/// The root of the sources.
pub fn sources() -> &'static Path {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench)
}

/// The records that are kept with the sources, from which the document's tables are made.
///
/// # Errors
/// One of them is none of ours.
pub fn kept() -> Result<Vec<Record>, RecordError> {
    let directory = sources().join("bench/results");
    let entries = std::fs::read_dir(&directory).map_err(|error| io(&directory, error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths.iter().map(|path| Record::read(path)).collect()
}

fn commit() -> String {
    let described = Command::new("git")
        .arg("-C")
        .arg(sources())
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output();
    let described = described.ok().filter(|o| o.status.success());
    described.map_or_else(
        || "unknown".to_owned(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_names_neither_the_machine_nor_a_directory() {
        let run = Begun::now("host", vec!["--quick".into()]).end();
        let figure = Figure::of("host", ("n", "x"), serde_json::json!({ "a": 1 }), "ns", vec![1.5, 2.5]).unwrap();
        let record = Record::new(vec![run], vec![figure]);
        let path = std::env::temp_dir().join(format!("bench-record-{}/r.json", std::process::id()));
        record.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let machine = serde_json::to_string(&record.machine).unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(!machine.contains(host.trim()), "the host's name");
        assert!(!text.contains(&*sources().to_string_lossy()), "a directory");
    }
}
