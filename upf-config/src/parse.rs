//! From text to a checked configuration, and from the YAML reader's errors to ours.

use crate::error::{ConfigError, Position, Problem};
use crate::source::Source;
use crate::{Config, validate};
use serde_saphyr::Error as YamlError;
use std::path::Path;

/// The largest configuration read, bytes.
pub const TEXT_MAX: usize = 4 << 20;

/// Reads, parses and checks a configuration file.
///
/// # Errors
/// [`ConfigError::Read`], or everything that is wrong with its contents (after the first error in its form, what is
/// wrong with its meaning cannot be known).
pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, &path.display().to_string())
}

/// Parses and checks a configuration. `source_name` is what errors call the text.
///
/// # Errors
/// As [`load`], but for reading.
pub fn parse(text: &str, source_name: &str) -> Result<Config, ConfigError> {
    if text.len() > TEXT_MAX {
        let problem = Problem::new("", format!("at most {TEXT_MAX} bytes"), format!("{} bytes", text.len()));
        return Err(ConfigError::Invalid(vec![named(problem, source_name)]));
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let config: Config = serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| ConfigError::Invalid(vec![named(explain(&e, &Source::new(text)), source_name)]))?;
    let mut problems = validate(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    let source = Source::new(text);
    for problem in &mut problems {
        problem.position = source.position_of(&problem.field);
    }
    problems.sort_by_key(|p| p.position);
    Err(ConfigError::Invalid(
        problems.into_iter().map(|p| named(p, source_name)).collect(),
    ))
}

fn named(mut problem: Problem, source_name: &str) -> Problem {
    source_name.clone_into(&mut problem.source);
    problem
}

/// What the YAML reader objects to, in terms of the configuration.
fn explain(error: &YamlError, source: &Source) -> Problem {
    let error = error.without_snippet();
    let position = error
        .location()
        .and_then(|l| {
            Some(Position {
                line: usize::try_from(l.line()).ok()?,
                column: usize::try_from(l.column()).ok()?,
            })
        })
        .filter(|p| p.line > 0);
    let field = position.and_then(|at| source.field_at(at)).unwrap_or_default();
    let scalar = position.and_then(|at| source.scalar_at(at));
    let found = || scalar.map_or_else(|| "something else".to_owned(), quoted);
    let problem = match error {
        YamlError::SerdeUnknownField {
            field: unknown,
            expected,
            ..
        } => {
            let problem = Problem::new(field, format!("one of {}", expected.join(", ")), quoted(unknown));
            match nearest(unknown, expected) {
                Some(near) => problem.hint(format!("did you mean {near}?")),
                None => problem.hint("no such field here"),
            }
        }
        YamlError::SerdeMissingField { field: missing, .. } => {
            let around = parent(field);
            let field = if around.is_empty() {
                (*missing).to_owned()
            } else {
                format!("{around}.{missing}")
            };
            let mut problem = Problem::new(field, expectation(missing).unwrap_or("a value"), "nothing");
            problem.hint = Some(format!("{missing} must be given"));
            problem.position = source.position_of(&problem.field).or(position);
            return problem;
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            let problem = Problem::new(field, format!("one of {}", expected.join(", ")), quoted(variant));
            match nearest(variant, expected) {
                Some(near) => problem.hint(format!("did you mean {near}?")),
                None => problem,
            }
        }
        YamlError::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            Problem::new(field, format!("{key} once"), "it a second time")
        }
        YamlError::SerdeInvalidType {
            unexpected, expected, ..
        }
        | YamlError::SerdeInvalidValue {
            unexpected, expected, ..
        } => Problem::new(field, expected.as_str(), unexpected.as_str()),
        YamlError::InvalidScalar { ty, .. } => Problem::new(field, type_in_words(ty), found()),
        YamlError::InvalidBooleanStrict { .. } => Problem::new(field, type_in_words("bool"), found()),
        YamlError::Unexpected { expected, .. } => Problem::new(field, structure_in_words(expected), found()),
        YamlError::Eof { .. } => {
            Problem::new(field, "a configuration", "an empty text").hint("config/upf.yaml is an example to start from")
        }
        other => from_message(field, &other.to_string(), found),
    };
    Problem { position, ..problem }
}

/// Errors of our own types say "expected X, found Y"; those of the standard library's say less, and the field says more.
fn from_message(field: &str, message: &str, found: impl Fn() -> String) -> Problem {
    let message = message.rsplit_once(" at line ").map_or(message, |(m, _)| m);
    let parts = message.strip_prefix("expected ").and_then(|m| m.split_once(", found "));
    match (parts, expectation(last_segment(field))) {
        (Some((expected, found)), _) => Problem::new(field, expected, found),
        (None, Some(expected)) => Problem::new(field, expected, found()),
        (None, None) => Problem::new(field, "well-formed YAML", message),
    }
}

/// What a field wants, where its type does not say it well.
fn expectation(field: &str) -> Option<&'static str> {
    Some(match field {
        "listen" => "ADDRESS:PORT, such as 192.0.2.1:8805 or \"[2001:db8::1]:8805\"",
        "via" => "an IP address",
        "addresses" => "our addresses, such as [192.0.2.1/24]",
        "prefix" | "ue_pools" => "a prefix, such as 10.45.0.0/16",
        "name" => "a name",
        "device" => "a PCI address or a DPDK vdev, such as net_af_packet0,iface=eth1",
        "interfaces" => "a list of access, core, sgi-lan",
        "network_instance" => "the name of one of network_instances",
        "pfcp" => "the N4 side, with its listen address",
        "ports" => "a list of ports",
        "network_instances" => "a list of network instances",
        _ => return None,
    })
}

fn type_in_words(ty: &str) -> String {
    match ty {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => "a whole number from 0".into(),
        "bool" => "true or false".into(),
        other => other.into(),
    }
}

fn structure_in_words(expected: &str) -> &str {
    match expected {
        "string scalar" => "a text",
        "sequence start" => "a list",
        "mapping start" => "fields (name: value)",
        other => other,
    }
}

/// At most 64 characters of it, in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}

/// The field around a field.
fn parent(field: &str) -> &str {
    field.rfind(['.', '[']).map_or("", |at| &field[..at])
}

/// `addresses` of `ports[1].addresses[0]`.
fn last_segment(field: &str) -> &str {
    let name = field.rsplit('.').next().unwrap_or(field);
    name.split('[').next().unwrap_or(name)
}

/// The candidate that differs in the fewest letters, if it differs in few. The first letter is seldom the wrong one.
pub(crate) fn nearest<'a, S: AsRef<str>>(word: &str, candidates: &'a [S]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let (_, distance, best) = candidates
        .iter()
        .map(|c| {
            let (candidate, distance) = (c.as_ref(), distance(word, c.as_ref()));
            let begins_otherwise = usize::from(candidate.chars().next() != word.chars().next());
            (distance + 2 * begins_otherwise, distance, candidate)
        })
        .min()?;
    (distance <= best.len().max(word.len()) / 3 + 1 && distance < best.len()).then_some(best)
}

/// Letters to insert, remove or replace to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
