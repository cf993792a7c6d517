//! A cursor over BMv2 JSON that knows where it is, so that every error says the place:
//! `pipelines[0].tables[3].key[1].match_type: expected a string, found null`.

use std::fmt;

use serde_json::Value as Json;

use crate::program::LoadError;

/// One step of a path.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Item(usize),
}

/// A JSON value and the way to it. Lives on the stack of whoever walks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    value: &'a Json,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

static NULL: Json = Json::Null;

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Member(name) if self.parent.is_some_and(|p| matches!(p.step, Step::Root)) => write!(f, "{name}"),
            Step::Member(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

impl<'a> Node<'a> {
    /// The top of a document.
    pub(crate) fn root(value: &'a Json) -> Self {
        Node {
            value,
            parent: None,
            step: Step::Root,
        }
    }

    /// An error at this place.
    pub(crate) fn error(&self, reason: impl fmt::Display) -> LoadError {
        LoadError {
            place: self.to_string(),
            reason: reason.to_string(),
        }
    }

    fn expected(&self, what: &str) -> LoadError {
        self.error(format_args!("expected {what}, found {}", kind(self.value)))
    }

    /// Whether nothing is here.
    pub(crate) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// The member `name`; null if there is none or this is no object.
    pub(crate) fn get(&'a self, name: &'a str) -> Node<'a> {
        Node {
            value: self.value.get(name).unwrap_or(&NULL),
            parent: Some(self),
            step: Step::Member(name),
        }
    }

    /// The item at `index`; null if there is none or this is no array.
    pub(crate) fn at(&'a self, index: usize) -> Node<'a> {
        Node {
            value: self.value.get(index).unwrap_or(&NULL),
            parent: Some(self),
            step: Step::Item(index),
        }
    }

    /// Number of items; 0 for anything but an array.
    pub(crate) fn len(&self) -> usize {
        self.value.as_array().map_or(0, Vec::len)
    }

    /// The items of an array; none where nothing is.
    pub(crate) fn items(&'a self) -> Result<impl Iterator<Item = Node<'a>>, LoadError> {
        let items: &[Json] = match self.value {
            Json::Array(items) => items,
            Json::Null => &[],
            _ => return Err(self.expected("an array")),
        };
        Ok(items.iter().enumerate().map(move |(i, value)| Node {
            value,
            parent: Some(self),
            step: Step::Item(i),
        }))
    }

    /// The members of an object.
    pub(crate) fn members(&'a self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)>, LoadError> {
        let Json::Object(members) = self.value else {
            return Err(self.expected("an object"));
        };
        Ok(members.iter().map(move |(name, value)| {
            (
                name.as_str(),
                Node {
                    value,
                    parent: Some(self),
                    step: Step::Member(name.as_str()),
                },
            )
        }))
    }

    /// A string.
    pub(crate) fn str(&self) -> Result<&'a str, LoadError> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// A boolean.
    pub(crate) fn bool(&self) -> Result<bool, LoadError> {
        self.value.as_bool().ok_or_else(|| self.expected("a boolean"))
    }

    /// A boolean, or `default` where nothing is.
    pub(crate) fn bool_or(&self, default: bool) -> Result<bool, LoadError> {
        if self.is_null() { Ok(default) } else { self.bool() }
    }

    /// A non-negative integer.
    pub(crate) fn usize(&self) -> Result<usize, LoadError> {
        self.value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| self.expected("a non-negative integer"))
    }

    /// A non-negative integer, or `default` where nothing is.
    pub(crate) fn usize_or(&self, default: usize) -> Result<usize, LoadError> {
        if self.is_null() { Ok(default) } else { self.usize() }
    }

    /// Any integer.
    pub(crate) fn i64(&self) -> Result<i64, LoadError> {
        self.value.as_i64().ok_or_else(|| self.expected("an integer"))
    }

    /// Whether this is an object that has `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some()
    }

    /// Whether this is a string.
    pub(crate) fn is_str(&self) -> bool {
        self.value.is_string()
    }
}
