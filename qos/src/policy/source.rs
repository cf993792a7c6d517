//! Owns where each field stands in the text.

use super::problem::Position;
use serde_saphyr::granit_parser::{Event, Parser, Span};

/// Every field of a YAML text with the place of its key (of an item of a list: of itself), in the order of the text.
/// A text that does not parse is known up to its error.
#[derive(Debug, Default)]
pub(super) struct Source(Vec<(String, Position)>);

/// An open collection: its field and, of a list, the next item; of a mapping, the key whose value comes next.
enum Open {
    List(String, usize),
    Mapping(String, Option<(String, Position)>),
}

/// More than any policy file has, few enough for any text to be quick.
const FIELDS_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

impl Source {
    pub(super) fn new(text: &str) -> Self {
        let mut source = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            if source.0.len() > FIELDS_MAX || open.len() > DEPTH_MAX {
                break;
            }
            match event {
                Event::Scalar(value, ..) => match open.last_mut() {
                    Some(Open::Mapping(_, key @ None)) => *key = Some((value.into_owned(), position(&span))),
                    _ => drop(source.enter(&mut open, &span)),
                },
                Event::Alias(_) => drop(source.enter(&mut open, &span)),
                Event::SequenceStart(..) => {
                    let field = source.enter(&mut open, &span);
                    open.push(Open::List(field, 0));
                }
                Event::MappingStart(..) => {
                    let field = source.enter(&mut open, &span);
                    open.push(Open::Mapping(field, None));
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                _ => {}
            }
        }
        source
    }

    /// Notes the value that starts here and says which field it is.
    fn enter(&mut self, open: &mut [Open], span: &Span) -> String {
        let (field, start) = match open.last_mut() {
            None => (String::new(), position(span)),
            Some(Open::List(field, next)) => {
                *next += 1;
                (format!("{field}[{}]", *next - 1), position(span))
            }
            Some(Open::Mapping(field, key)) => {
                let (key, at) = key.take().unwrap_or_else(|| ("?".into(), position(span)));
                let field = if field.is_empty() {
                    key
                } else {
                    format!("{field}.{key}")
                };
                (field, at)
            }
        };
        self.0.push((field.clone(), start));
        field
    }

    /// Where a field stands; if it is not in the text, where the nearest thing around it stands.
    pub(super) fn position_of(&self, mut field: &str) -> Option<Position> {
        loop {
            if let Some((_, at)) = self.0.iter().find(|(name, _)| name == field) {
                return Some(*at);
            }
            if field.is_empty() {
                return None;
            }
            field = field.rfind(['.', '[']).map_or("", |at| &field[..at]);
        }
    }

    /// The innermost field at a position.
    pub(super) fn field_at(&self, at: Position) -> &str {
        let before = self.0.iter().filter(|(_, start)| *start <= at);
        before.max_by_key(|(_, start)| *start).map_or("", |(name, _)| name)
    }
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}
