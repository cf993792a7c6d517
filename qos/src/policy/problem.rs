//! Owns what is wrong with a policy file, told to the person who wrote it.

use std::fmt;

/// Everything that is wrong with a policy file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors(Vec<Problem>);

impl PolicyErrors {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// Each of them, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

/// One thing that is wrong: where, what was expected there, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What the text is called.
    pub source: String,
    /// Where, if it is known.
    pub position: Option<Position>,
    /// The field, such as `policies[1].effects.queue`; empty: the whole file.
    pub field: String,
    /// What would have been right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// A place in a text: line and column in characters, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[expect(missing_docs, reason = "said above")]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Problem {
    /// Of a field; source and position are filled in by who knows the text.
    pub(super) fn new(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            source: String::new(),
            position: None,
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// `qos.yaml:12:5: policies[0].effects.queue: expected 0 to 7, found 9`: as compilers write it, so that editors jump there.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.source)?;
        if let Some(at) = self.position {
            write!(f, "{}:{}:", at.line, at.column)?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " expected {}, found {}", self.expected, self.found)
    }
}

/// At most 64 characters of it, in quotes.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}
