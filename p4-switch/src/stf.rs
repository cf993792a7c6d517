//! p4c's STF tests: scripts of table entries, packets and expected packets, run against a program in memory.
//!
//! `p4-switch stf PROGRAM.json TEST.stf` runs one; `p4-switch stf --all DIR` runs every `NAME.json` in a directory that
//! has a `NAME.stf` beside it, and lists what fails.

mod run;
mod script;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

pub use run::{Failure, run};
pub use script::{Command, ScriptError, parse};

/// What became of a directory of tests.
#[derive(Debug, Default)]
pub struct Summary {
    /// Names of those that passed.
    pub passed: Vec<String>,
    /// Names of those that did not, and why.
    pub failed: Vec<(String, Failure)>,
}

impl Summary {
    /// As text: the failures, then the count.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (name, failure) in &self.failed {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "FAIL {name}: {failure}");
        }
        let total = self.passed.len() + self.failed.len();
        let _ = writeln!(text, "{} of {total} STF tests pass", self.passed.len());
        text
    }
}

/// Runs the script at `stf` against the program at `json`.
pub fn run_files(json: &Path, stf: &Path) -> Result<(), Failure> {
    let read = |path: &Path| fs::read(path).map_err(|e| Failure::File(path.display().to_string(), e.to_string()));
    let program = read(json)?;
    let script = String::from_utf8_lossy(&read(stf)?).into_owned();
    run(&program, &script)
}

/// Runs every pair of `NAME.json` and `NAME.stf` in `directory`.
pub fn run_directory(directory: &Path) -> std::io::Result<Summary> {
    let mut scripts: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "stf") && path.with_extension("json").exists())
        .collect();
    scripts.sort();
    let mut summary = Summary::default();
    for stf in scripts {
        let name = stf
            .file_stem()
            .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        match run_files(&stf.with_extension("json"), &stf) {
            Ok(()) => summary.passed.push(name),
            Err(failure) => summary.failed.push((name, failure)),
        }
    }
    Ok(summary)
}
