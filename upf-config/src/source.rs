//! Where each field stands in the text: fields by position, positions by field.

use crate::error::Position;
use serde_saphyr::granit_parser::{Event, Parser, Span};

/// A value in the text.
#[derive(Debug, Clone)]
struct Node {
    /// As in `ports[1].addresses[0]`.
    field: String,
    /// Of its key in a mapping, otherwise of the value itself.
    start: Position,
    /// Of the value.
    value: Position,
    /// The value, if it is a scalar.
    scalar: Option<String>,
}

/// Every value of a YAML text, in its order. A text that does not parse is known up to its error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    nodes: Vec<Node>,
}

/// An open collection.
enum Open {
    Sequence {
        field: String,
        next: usize,
    },
    /// `key` is there between a key and its value.
    Mapping {
        field: String,
        key: Option<(String, Position)>,
    },
}

/// How many values are looked at: more than any configuration has, few enough for any text to be quick.
const NODES_MAX: usize = 100_000;

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let mut source = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            if source.nodes.len() > NODES_MAX || open.len() > 64 {
                break;
            }
            match event {
                Event::Scalar(value, ..) => {
                    if let Some(Open::Mapping { key: key @ None, .. }) = open.last_mut() {
                        *key = Some((value.into_owned(), position(&span)));
                    } else {
                        source.enter(&mut open, &span, Some(value.into_owned()));
                    }
                }
                Event::Alias(_) => {
                    source.enter(&mut open, &span, None);
                }
                Event::SequenceStart(..) => {
                    let field = source.enter(&mut open, &span, None);
                    open.push(Open::Sequence { field, next: 0 });
                }
                Event::MappingStart(..) => {
                    let field = source.enter(&mut open, &span, None);
                    open.push(Open::Mapping { field, key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                }
                _ => {}
            }
        }
        source
    }

    /// Notes the value that starts here and says which field it is.
    fn enter(&mut self, open: &mut [Open], span: &Span, scalar: Option<String>) -> String {
        let value = position(span);
        let (field, start) = match open.last_mut() {
            None => (String::new(), value),
            Some(Open::Sequence { field, next }) => {
                *next += 1;
                (format!("{field}[{}]", *next - 1), value)
            }
            Some(Open::Mapping { field, key }) => match key.take() {
                Some((key, at)) if field.is_empty() => (key, at),
                Some((key, at)) => (format!("{field}.{key}"), at),
                // A collection as a key: nothing in a configuration has one.
                None => (format!("{field}.?"), value),
            },
        };
        self.nodes.push(Node {
            field: field.clone(),
            start,
            value,
            scalar,
        });
        field
    }

    /// Where a field's value stands; if it is not in the text, where the nearest thing around it stands.
    pub(crate) fn position_of(&self, field: &str) -> Option<Position> {
        let mut field = field;
        loop {
            if let Some(node) = self.nodes.iter().find(|n| n.field == field) {
                return Some(if field.is_empty() { node.start } else { node.value });
            }
            field = &field[..field.rfind(['.', '['])?.min(field.len())];
        }
    }

    /// The innermost field at a position.
    pub(crate) fn field_at(&self, at: Position) -> Option<&str> {
        self.nodes
            .iter()
            .filter(|n| n.start <= at)
            .max_by_key(|n| n.start)
            .map(|n| n.field.as_str())
    }

    /// The scalar at a position, as written.
    pub(crate) fn scalar_at(&self, at: Position) -> Option<&str> {
        self.nodes
            .iter()
            .find(|n| n.value == at)
            .and_then(|n| n.scalar.as_deref())
    }
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}
