//! Owns the way from text to policies, and from the YAML reader's errors to ours.

use super::file::PolicyFile;
use super::problem::{PolicyErrors, Position, Problem, quoted};
use super::source::Source;
use super::{Policies, validate};
use serde_saphyr::Error as YamlError;

/// The largest policy file, bytes.
const TEXT_MAX: usize = 4 << 20;
/// So many problems are told; who has mended them will be told of others.
const PROBLEMS_MAX: usize = 100;

/// After the first error in the form of the file, what is wrong with its meaning cannot be known.
pub(super) fn parse(text: &str, name: &str) -> Result<Policies, PolicyErrors> {
    let located = |mut problems: Vec<Problem>, source: Option<Source>| {
        problems.truncate(PROBLEMS_MAX);
        for problem in &mut problems {
            name.clone_into(&mut problem.source);
            if problem.position.is_none() {
                problem.position = source.as_ref().and_then(|s| s.position_of(&problem.field));
            }
        }
        problems.sort_by_key(|p| p.position);
        PolicyErrors::new(problems)
    };
    if text.len() > TEXT_MAX {
        let problem = Problem::new("", format!("at most {TEXT_MAX} bytes"), format!("{} bytes", text.len()));
        return Err(located(vec![problem], None));
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let file: PolicyFile = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let source = Source::new(text);
        let problem = explain(&error, &source);
        located(vec![problem], Some(source))
    })?;
    validate::policies(&file).map_err(|problems| located(problems, Some(Source::new(text))))
}

/// What the YAML reader objects to, in terms of the policy file.
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
    let field = position.map_or("", |at| source.field_at(at));
    let problem = match error {
        YamlError::SerdeUnknownField {
            field: unknown,
            expected,
            ..
        } => Problem::new(field, format!("one of {}", expected.join(", ")), quoted(unknown)),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            Problem::new(field, format!("one of {}", expected.join(", ")), quoted(variant))
        }
        YamlError::SerdeMissingField { field: missing, .. } => {
            Problem::new(field, format!("{missing} to be given"), "nothing")
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
        YamlError::InvalidScalar { ty, .. } => Problem::new(field, format!("a value of type {ty}"), "something else"),
        YamlError::Unexpected { expected, .. } => Problem::new(field, *expected, "something else"),
        YamlError::Eof { .. } => Problem::new(field, "policies", "an empty text"),
        other => {
            let message = other.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(m, _)| m);
            Problem::new(field, "well-formed YAML", message)
        }
    };
    Problem { position, ..problem }
}
