//! What the demo found: printed as it goes, and kept as JSON.

use serde::Serialize;
use std::path::Path;

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Under which heading.
    pub part: String,
    /// What was tried.
    pub what: String,
    /// Whether it did what it should.
    pub passed: bool,
    /// What was seen.
    pub seen: String,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    steps: Vec<Step>,
    /// What was counted where, by name.
    tables: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    part: String,
    #[serde(skip)]
    quiet: bool,
}

impl Report {
    /// An empty one. A quiet one prints nothing but its JSON at the end.
    pub fn new(quiet: bool) -> Self {
        Self {
            steps: Vec::new(),
            tables: serde_json::Map::new(),
            part: String::new(),
            quiet,
        }
    }

    /// A new part of the tour.
    pub fn heading(&mut self, text: &str) {
        text.clone_into(&mut self.part);
        self.note(&format!("\n== {text}"));
    }

    /// Something was tried.
    pub fn step(&mut self, what: &str, passed: bool, seen: &str) {
        let sign = if passed { "ok  " } else { "FAIL" };
        self.note(&format!("  {sign}  {what:<58} {seen}"));
        self.steps.push(Step {
            part: self.part.clone(),
            what: what.into(),
            passed,
            seen: seen.into(),
        });
    }

    /// Something was tried and failed.
    pub fn failed(&mut self, what: &str, why: &str) {
        self.step(what, false, why);
    }

    /// Something was tried: it passed if it gave a value that `judge` accepts.
    pub fn judge<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        got: Result<T, E>,
        judge: impl FnOnce(&T) -> (bool, String),
    ) -> Option<T> {
        match got {
            Ok(value) => {
                let (passed, seen) = judge(&value);
                self.step(what, passed, &seen);
                Some(value)
            }
            Err(error) => {
                self.failed(what, &error.to_string());
                None
            }
        }
    }

    /// Text that is no step.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    /// Keep a table of numbers.
    pub fn table(&mut self, name: &str, value: serde_json::Value) {
        self.tables.insert(name.into(), value);
    }

    /// Whether nothing failed.
    pub fn all_passed(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|s| s.passed)
    }

    /// The report as JSON.
    pub fn json_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Say how it went.
    pub fn close(&self, path: &Path) {
        let failed = self.steps.iter().filter(|s| !s.passed).count();
        self.note(&format!(
            "\n{} passed, {failed} failed; everything is in {}",
            self.steps.len() - failed,
            path.display()
        ));
        if self.quiet {
            println!("{}", self.json_text());
        }
    }
}
