//! The STF language: one command a line, `#` begins a comment.

use thiserror::Error;

/// A line that is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Names and values of a call or a match.
pub type Pairs = Vec<(String, String)>;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `add TABLE [PRIORITY] KEY:VALUE… ACTION(NAME:VALUE, …) [= ID]`
    Add {
        /// Table.
        table: String,
        /// Higher wins.
        priority: Option<i64>,
        /// Fields and values: numbers, with `*` for digits that do not matter, or `VALUE/LENGTH`.
        key: Pairs,
        /// Action.
        action: String,
        /// Its arguments.
        arguments: Pairs,
        /// What `check_counter` calls the entry.
        id: Option<String>,
    },
    /// `setdefault TABLE ACTION(NAME:VALUE, …)`
    SetDefault {
        /// Table.
        table: String,
        /// Action.
        action: String,
        /// Its arguments.
        arguments: Pairs,
    },
    /// `packet PORT HEX`
    Packet {
        /// Port.
        port: u32,
        /// Bytes.
        bytes: Vec<u8>,
    },
    /// `expect PORT [HEX]`: digits may be `*`; a `$` at the end forbids further bytes.
    Expect {
        /// Port.
        port: u32,
        /// Digits.
        pattern: Option<String>,
    },
    /// `check_counter NAME(INDEX) [packets|bytes OPERATOR NUMBER]`
    CheckCounter {
        /// Counter.
        counter: String,
        /// Cell.
        index: String,
        /// Count, operator, number.
        check: Option<(String, String, u64)>,
    },
    /// `remove all`
    RemoveAll,
    /// `wait`
    Wait,
    /// `no_packet`
    NoPacket,
    /// A command of BMv2's CLI: `mirroring_add`, `mc_mgrp_create`, `register_write` …
    Cli(String, Vec<String>),
}

const CLI: &[&str] = &[
    "mirroring_add",
    "mirroring_add_mc",
    "mirroring_delete",
    "mirroring_get",
    "mc_mgrp_create",
    "mc_node_create",
    "mc_node_update",
    "mc_node_associate",
    "counter_read",
    "counter_write",
    "register_read",
    "register_write",
    "register_reset",
    "meter_get_rates",
    "meter_set_rates",
    "meter_array_set_rates",
];

/// All commands of a script, with the numbers of their lines.
pub fn parse(script: &str) -> Result<Vec<(usize, Command)>, ScriptError> {
    let mut commands = Vec::new();
    for (i, line) in script.lines().enumerate() {
        let line_number = i + 1;
        let text = line.split('#').next().unwrap_or("").trim();
        if !text.is_empty() {
            let command = command(text).map_err(|reason| ScriptError {
                line: line_number,
                reason,
            })?;
            commands.push((line_number, command));
        }
    }
    Ok(commands)
}

fn command(text: &str) -> Result<Command, String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match word.to_ascii_lowercase().as_str() {
        "add" => add(rest),
        "setdefault" => {
            let (table, call) = rest
                .split_once(char::is_whitespace)
                .ok_or("expected a table and an action")?;
            let (action, arguments) = call_of(call.trim())?;
            Ok(Command::SetDefault {
                table: unquoted(table),
                action,
                arguments,
            })
        }
        "packet" => {
            let (port, digits) = port_of(rest)?;
            Ok(Command::Packet {
                port,
                bytes: hex(&digits)?,
            })
        }
        "expect" => {
            let (port, digits) = port_of(rest)?;
            if !digits
                .trim_end_matches('$')
                .chars()
                .all(|c| c.is_ascii_hexdigit() || c == '*')
            {
                return Err(format!("{digits:?} are not hexadecimal digits"));
            }
            Ok(Command::Expect {
                port,
                pattern: (!digits.is_empty()).then_some(digits),
            })
        }
        "check_counter" => {
            let (call, check) = rest.split_once(')').ok_or("expected NAME(INDEX)")?;
            let (counter, index) = call.split_once('(').ok_or("expected NAME(INDEX)")?;
            let words: Vec<&str> = check.split_whitespace().collect();
            let check = match words[..] {
                [] => None,
                [count, operator, number] => {
                    let number = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
                    Some((count.to_ascii_lowercase(), operator.to_owned(), number))
                }
                _ => return Err("expected packets or bytes, an operator and a number".to_owned()),
            };
            Ok(Command::CheckCounter {
                counter: unquoted(counter.trim()),
                index: index.trim().to_owned(),
                check,
            })
        }
        "remove" if rest.eq_ignore_ascii_case("all") => Ok(Command::RemoveAll),
        "wait" => Ok(Command::Wait),
        "no_packet" => Ok(Command::NoPacket),
        other if CLI.contains(&other) => Ok(Command::Cli(
            other.to_owned(),
            rest.split_whitespace().map(unquoted).collect(),
        )),
        other => Err(format!("unknown command {other:?}")),
    }
}

fn unquoted(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

fn port_of(rest: &str) -> Result<(u32, String), String> {
    let (port, digits) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    Ok((port, digits.chars().filter(|c| !c.is_whitespace()).collect()))
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err("expected an even number of hexadecimal digits".to_owned());
    }
    (0..digits.len())
        .step_by(2)
        .map(|i| {
            u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| format!("{:?} is not a byte", &digits[i..i + 2]))
        })
        .collect()
}

/// `ACTION(NAME:VALUE, …)`
fn call_of(text: &str) -> Result<(String, Pairs), String> {
    let (action, rest) = text.split_once('(').ok_or_else(|| format!("{text:?} is not a call"))?;
    let (arguments, _) = rest.rsplit_once(')').ok_or("a ) is missing")?;
    let mut pairs = Vec::new();
    for argument in arguments.split(',').map(str::trim).filter(|a| !a.is_empty()) {
        pairs.push(pair(argument)?);
    }
    Ok((unquoted(action.trim()), pairs))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("{text:?} is not NAME:VALUE"))?;
    Ok((unquoted(name.trim()), value.trim().to_owned()))
}

/// Words outside quotes; what follows the first `(` stays together.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quoted, mut call) = (false, false);
    for c in text.chars() {
        quoted ^= c == '"';
        call |= c == '(' && !quoted;
        if c.is_whitespace() && !quoted && !call {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

fn add(rest: &str) -> Result<Command, String> {
    let mut words = words(rest).into_iter().peekable();
    let table = words.next().ok_or("expected a table")?;
    let priority = words.next_if(|w| w.parse::<i64>().is_ok()).and_then(|w| w.parse().ok());
    let mut key = Vec::new();
    for word in words {
        if word.contains('(') {
            let (action, arguments) = call_of(&word)?;
            let id = word
                .rsplit_once(')')
                .and_then(|(_, tail)| tail.trim().strip_prefix('='))
                .map(|id| unquoted(id.trim()));
            return Ok(Command::Add {
                table: unquoted(&table),
                priority,
                key,
                action,
                arguments,
                id,
            });
        }
        key.push(pair(&word)?);
    }
    Err("expected an action".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_priority_keys_and_an_action() {
        let text = "add t.x 503 data.f1:0x****0202 ip:10/8 ing.set(val:7, port:3) = A # comment";
        let commands = parse(text).unwrap();
        let expected = Command::Add {
            table: "t.x".into(),
            priority: Some(503),
            key: vec![("data.f1".into(), "0x****0202".into()), ("ip".into(), "10/8".into())],
            action: "ing.set".into(),
            arguments: vec![("val".into(), "7".into()), ("port".into(), "3".into())],
            id: Some("A".into()),
        };
        assert_eq!(commands, [(1, expected)]);
    }

    #[test]
    fn packets_and_expectations_are_digits_with_spaces() {
        let commands = parse("packet 0 00 0102\nexpect 3 0*02 $\nexpect 4").unwrap();
        assert_eq!(
            commands[0].1,
            Command::Packet {
                port: 0,
                bytes: vec![0, 1, 2]
            }
        );
        assert_eq!(
            commands[1].1,
            Command::Expect {
                port: 3,
                pattern: Some("0*02$".into())
            }
        );
        assert_eq!(commands[2].1, Command::Expect { port: 4, pattern: None });
    }

    #[test]
    fn errors_name_the_line() {
        let error = parse("wait\n\nfly away").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(parse("packet 0 0").is_err());
        assert!(parse("add t").is_err());
    }
}
