//! Protobuf's text format (<https://protobuf.dev/reference/protobuf/textformat-spec/>), read into a P4Info.
//!
//! p4c writes P4Info as text by default, and most scripts and repositories keep that form. The reader knows messages,
//! fields, enums and maps from a table that is generated from the protos beside the API, turns text into protobuf's
//! binary form and lets prost decode that. Unknown fields are errors: a misspelt field must not vanish.

use crate::api::p4::config::v1 as config;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// A message as the reader needs it: its fields.
pub(crate) struct MessageSchema {
    name: &'static str,
    fields: &'static [FieldSchema],
}

/// A field: name, number and kind.
pub(crate) struct FieldSchema {
    name: &'static str,
    number: u32,
    kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Integer,
    Bool,
    String,
    Bytes,
    Enum(&'static [(&'static str, i32)]),
    Message(usize),
}

include!("api/schema.rs");

/// Text that is not a message, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Deepest nesting of messages: P4Info needs 8.
const MAX_DEPTH: usize = 64;

/// Read a `p4.config.v1.P4Info`.
pub fn p4info(text: &str) -> Result<config::P4Info, TextError> {
    let mut reader = Reader { text, position: 0 };
    let octets = reader.message(ROOT, None, 0)?;
    config::P4Info::decode(octets.as_slice()).map_err(|error| reader.error(error.to_string()))
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Reader<'a> {
    /// Fields up to `end` (or the end of the text), in binary form.
    fn message(&mut self, schema: usize, end: Option<u8>, depth: usize) -> Result<Vec<u8>, TextError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("messages nest deeper than {MAX_DEPTH}")));
        }
        let mut octets = Vec::new();
        loop {
            match (self.peek(), end) {
                (None, None) => return Ok(octets),
                (Some(found), Some(end)) if found == end => {
                    self.position += 1;
                    return Ok(octets);
                }
                (None, Some(end)) => return Err(self.error(format!("the text ends before {:?}", end as char))),
                (Some(_), _) => self.field(schema, depth, &mut octets)?,
            }
        }
    }

    fn field(&mut self, schema: usize, depth: usize, octets: &mut Vec<u8>) -> Result<(), TextError> {
        let schema = &MESSAGES[schema];
        let name = self.word()?;
        let Some(field) = schema.fields.iter().find(|field| field.name == name) else {
            return Err(self.error(format!("{} has no field {name:?}", schema.name)));
        };
        let colon = self.accept(b':');
        if self.accept(b'[') {
            while !self.accept(b']') {
                self.value(field, colon, depth, octets)?;
                self.accept(b',');
            }
        } else {
            self.value(field, colon, depth, octets)?;
        }
        if !self.accept(b',') {
            self.accept(b';');
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldSchema, colon: bool, depth: usize, out: &mut Vec<u8>) -> Result<(), TextError> {
        if !colon && !matches!(field.kind, Kind::Message(_)) {
            return Err(self.error(format!("':' is expected after {:?}", field.name)));
        }
        match field.kind {
            Kind::Message(schema) => {
                let end = match (self.accept(b'{'), self.accept(b'<')) {
                    (true, _) => b'}',
                    (_, true) => b'>',
                    _ => return Err(self.error(format!("'{{' is expected after {:?}", field.name))),
                };
                let inner = self.message(schema, Some(end), depth + 1)?;
                length_delimited(field.number, &inner, out);
            }
            Kind::String | Kind::Bytes => {
                let value = self.string()?;
                length_delimited(field.number, &value, out);
            }
            Kind::Integer => {
                let word = self.word()?;
                let value = integer(word).ok_or_else(|| self.error(format!("{word:?} is not an integer")))?;
                varint(field.number, value, out);
            }
            Kind::Bool => {
                let value = match self.word()? {
                    "true" | "True" | "t" | "1" => 1,
                    "false" | "False" | "f" | "0" => 0,
                    other => return Err(self.error(format!("{other:?} is not a bool"))),
                };
                varint(field.number, value, out);
            }
            Kind::Enum(names) => {
                let word = self.word()?;
                let named = names
                    .iter()
                    .find(|(name, _)| *name == word)
                    .map(|(_, value)| *value as u64);
                let value = named
                    .or_else(|| integer(word))
                    .ok_or_else(|| self.error(format!("{word:?} is not a value of {:?}", field.name)))?;
                varint(field.number, value, out);
            }
        }
        Ok(())
    }

    /// One or more adjacent quoted strings.
    fn string(&mut self) -> Result<Vec<u8>, TextError> {
        let mut value = Vec::new();
        let mut any = false;
        while let Some(quote @ (b'"' | b'\'')) = self.peek() {
            any = true;
            self.position += 1;
            loop {
                match self.next_octet() {
                    None | Some(b'\n') => return Err(self.error("a string does not end".into())),
                    Some(octet) if octet == quote => break,
                    Some(b'\\') => self.escape(&mut value)?,
                    Some(octet) => value.push(octet),
                }
            }
        }
        if any {
            Ok(value)
        } else {
            Err(self.error("a string is expected".into()))
        }
    }

    fn escape(&mut self, value: &mut Vec<u8>) -> Result<(), TextError> {
        let octet = self
            .next_octet()
            .ok_or_else(|| self.error("a string does not end".into()))?;
        let simple = match octet {
            b'a' => 7,
            b'b' => 8,
            b't' => 9,
            b'n' => 10,
            b'v' => 11,
            b'f' => 12,
            b'r' => 13,
            b'\\' | b'\'' | b'"' | b'?' => octet,
            b'0'..=b'7' => {
                self.position -= 1;
                self.digits(8, 3)? as u8
            }
            b'x' | b'X' => self.digits(16, 2)? as u8,
            b'u' | b'U' => {
                let code = self.digits(16, if octet == b'u' { 4 } else { 8 })?;
                let character = char::from_u32(code).ok_or_else(|| self.error("no such character".into()))?;
                value.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error(format!("unknown escape \\{}", octet as char))),
        };
        value.push(simple);
        Ok(())
    }

    fn digits(&mut self, radix: u32, most: usize) -> Result<u32, TextError> {
        let start = self.position;
        let mut value = 0u32;
        while self.position < start + most
            && let Some(digit) = self.octet().and_then(|octet| (octet as char).to_digit(radix))
        {
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.position += 1;
        }
        if self.position == start {
            Err(self.error("digits are expected".into()))
        } else {
            Ok(value)
        }
    }

    /// A name, number or enum value.
    fn word(&mut self) -> Result<&'a str, TextError> {
        self.skip_blank();
        let rest = &self.text[self.position..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-+".contains(c);
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            let found = rest.chars().next();
            return Err(self.error(match found {
                Some(character) => format!("unexpected {character:?}"),
                None => "the text ends too early".into(),
            }));
        }
        self.position += length;
        Ok(&rest[..length])
    }

    fn accept(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.position += usize::from(found);
        found
    }

    /// The next octet that is neither blank nor comment.
    fn peek(&mut self) -> Option<u8> {
        self.skip_blank();
        self.octet()
    }

    fn skip_blank(&mut self) {
        while let Some(octet) = self.octet() {
            if octet == b'#' {
                let rest = &self.text[self.position..];
                self.position += rest.find('\n').unwrap_or(rest.len());
            } else if octet.is_ascii_whitespace() {
                self.position += 1;
            } else {
                return;
            }
        }
    }

    fn octet(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn next_octet(&mut self) -> Option<u8> {
        let octet = self.octet();
        self.position += usize::from(octet.is_some());
        octet
    }

    fn error(&self, problem: String) -> TextError {
        let end = self.position.min(self.text.len());
        let line = 1 + self.text.as_bytes()[..end]
            .iter()
            .filter(|&&octet| octet == b'\n')
            .count();
        TextError { line, problem }
    }
}

fn integer(word: &str) -> Option<u64> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

fn varint(number: u32, value: u64, octets: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, octets);
    encode_varint(value, octets);
}

fn length_delimited(number: u32, value: &[u8], octets: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, octets);
    encode_varint(value.len() as u64, octets);
    octets.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lists_maps_comments_and_escapes_are_read() {
        let info = p4info(
            r#"
            # proto-file: p4/config/v1/p4info.proto
            pkg_info { arch: "v1model" annotations: ["a", 'b'] }
            actions { preamble < id: 16777217, name: "in" "gress.set" > params { id: 1 name: "p" bitwidth: 9 } }
            tables {
              preamble { id: 0x02000001; name: "t" }
              match_fields { id: 1 name: "f" bitwidth: 32 match_type: LPM }
              initial_default_action { action_id: 16777217 arguments { param_id: 1 value: "\001\xff\n" } }
            }
            type_info { headers { key: "h" value { members { name: "x" type_spec { bit { bitwidth: 8 } } } } } }
            "#,
        )
        .expect("valid text");
        assert_eq!(info.actions[0].preamble.as_ref().expect("preamble").name, "ingress.set");
        assert_eq!(info.pkg_info.expect("pkg_info").annotations, ["a", "b"]);
        let call = info.tables[0].initial_default_action.as_ref().expect("default action");
        assert_eq!(call.arguments[0].value, [1, 0xff, b'\n']);
        assert_eq!(
            info.tables[0].match_fields[0].r#match,
            Some(config::match_field::Match::MatchType(
                config::match_field::MatchType::Lpm as i32
            ))
        );
        assert!(info.type_info.expect("type info").headers.contains_key("h"));
    }

    #[test]
    fn errors_name_the_line_and_the_problem() {
        let error = |text| p4info(text).expect_err("invalid text");
        assert_eq!(
            error("\n\ntabels {}"),
            TextError {
                line: 3,
                problem: "P4Info has no field \"tabels\"".into()
            }
        );
        assert_eq!(error("tables { size: x }").problem, "\"x\" is not an integer");
        assert_eq!(error("tables {").problem, "the text ends before '}'");
        assert_eq!(error("pkg_info { name: \"a\n\" }").problem, "a string does not end");
        assert!(error("tables { size: 1 } }").problem.starts_with("unexpected"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z_{}<>\\[\\]:;,\"'\\\\x0-9 \n#é]{0,80}") {
            let _ = p4info(&text);
        }
    }
}
