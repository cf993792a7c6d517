//! Contexts from the command line: put, removed, listed, and replayed from a file of events.
//!
//! An event is a line of JSON: what happens, and when.
//!
//! ```text
//! {"at_ms": 0,    "put": {"about": "subscriber/imsi-001010000000001", "key": "app.call", "value": true, "ttl_s": 30}}
//! {"at_ms": 5000, "remove": {"about": "subscriber/imsi-001010000000001", "key": "app.call"}}
//! ```
//!
//! `at_ms` counts from the start of the replay; `epoch_ms` instead is a time of the UNIX clock. What happens is a step of
//! `POST /v1/contexts` (docs/QOS_API.md), and is sent as it stands: upf-ctl says what is wrong with it.

use crate::client::{Client, ClientError};
use hyper::Method;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::BufRead;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events sent in one request.
const TOGETHER: usize = 1_000;

/// Something that happens at a time of the replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// From the start of the replay.
    pub at: Duration,
    /// A step of a batch.
    pub step: Value,
}

/// Why events cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file or standard input.
    #[error("cannot read the events: {0}")]
    Read(#[from] std::io::Error),
    /// A line.
    #[error("line {line}: expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// What would be right.
        expected: String,
    },
    /// upf-ctl.
    #[error("events from {at:?} on: {error}")]
    Client {
        /// Of the first of those that were sent together.
        at: Duration,
        /// What it said.
        error: ClientError,
    },
}

/// What a replay came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Events sent.
    pub events: usize,
    /// Requests they went in.
    pub requests: usize,
    /// Events that were refused.
    pub refused: usize,
}

/// One line; none if it is empty. `start_ms` is when the replay starts, for times of the clock: what is past then
/// happens at once.
///
/// # Errors
/// What is expected of the line of this number.
pub fn event(text: &str, line: usize, start_ms: u64) -> Result<Option<Event>, ReplayError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let wrong = |expected: &str| ReplayError::Line {
        line,
        expected: expected.to_owned(),
    };
    let read: Value = serde_json::from_str(text).map_err(|error| wrong(&format!("an object in JSON: {error}")))?;
    let Value::Object(mut step) = read else {
        return Err(wrong("an object in JSON"));
    };
    let times = (step.remove("at_ms"), step.remove("epoch_ms"));
    let number = |value: Value| {
        value
            .as_u64()
            .ok_or_else(|| wrong("milliseconds, a whole number from 0"))
    };
    let at = match times {
        (Some(at), None) => number(at)?,
        (None, Some(at)) => number(at)?.saturating_sub(start_ms),
        _ => return Err(wrong("at_ms or epoch_ms, one of them")),
    };
    if step.len() != 1 || !(step.contains_key("put") || step.contains_key("remove")) {
        return Err(wrong("put or remove, one of them, and nothing else"));
    }
    Ok(Some(Event {
        at: Duration::from_millis(at),
        step: Value::Object(step),
    }))
}

/// Every event of a text, in order of time; those of one time in order of lines.
///
/// # Errors
/// The first line that is wrong: nothing has been sent then.
pub fn events(lines: impl BufRead, start_ms: u64) -> Result<Vec<Event>, ReplayError> {
    let mut events = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        events.extend(event(&line?, index + 1, start_ms)?);
    }
    events.sort_by_key(|event| event.at);
    Ok(events)
}

/// Milliseconds since the UNIX epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where steps go: to upf-ctl, or wherever a test wants them.
pub trait Steps {
    /// Does these in order; how many were refused.
    fn perform(&mut self, steps: &[Value]) -> Result<usize, ClientError>;
}

impl Steps for &Client {
    fn perform(&mut self, steps: &[Value]) -> Result<usize, ClientError> {
        let done = self.call(Method::POST, "/v1/contexts", Some(&json!({ "steps": steps })))?;
        for (step, result) in steps.iter().zip(done["results"].as_array().into_iter().flatten()) {
            if result["outcome"] == "refused" {
                eprintln!(
                    "upf: refused: {}: {step}",
                    result["reason"].as_str().unwrap_or_default()
                );
            }
        }
        Ok(done["refused"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0))
    }
}

/// Replays events that come in order of time, `speed` times as fast as they happened. Those that are due together go
/// together. An event whose time is past when it comes, as standard input may have them, happens at once.
///
/// # Errors
/// The first line or request that fails; what was before it is done.
pub fn replay(
    events: impl Iterator<Item = Result<Event, ReplayError>>,
    speed: f64,
    to: &mut impl Steps,
) -> Result<Replayed, ReplayError> {
    let started = Instant::now();
    let mut replayed = Replayed::default();
    let mut due: Vec<Event> = Vec::new();
    let mut flush = |due: &mut Vec<Event>, replayed: &mut Replayed| -> Result<(), ReplayError> {
        let Some(first) = due.first() else { return Ok(()) };
        let at = first.at;
        let steps: Vec<Value> = due.drain(..).map(|event| event.step).collect();
        let refused = to.perform(&steps).map_err(|error| ReplayError::Client { at, error })?;
        replayed.events += steps.len();
        replayed.requests += 1;
        replayed.refused += refused;
        Ok(())
    };
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                flush(&mut due, &mut replayed)?;
                return Err(error);
            }
        };
        let wait = event.at.div_f64(speed).saturating_sub(started.elapsed());
        if !wait.is_zero() || due.len() == TOGETHER {
            flush(&mut due, &mut replayed)?;
            std::thread::sleep(wait);
        }
        due.push(event);
    }
    flush(&mut due, &mut replayed)?;
    Ok(replayed)
}

/// Events of standard input as they come.
pub fn incoming(lines: impl BufRead, start_ms: u64) -> impl Iterator<Item = Result<Event, ReplayError>> {
    lines.lines().enumerate().filter_map(move |(index, line)| {
        let read = line
            .map_err(ReplayError::from)
            .and_then(|line| event(&line, index + 1, start_ms));
        read.transpose()
    })
}

/// Percent-encoded, as a part of a path or query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~:@".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

/// The path of a fact.
pub fn path(about: &str, key: &str) -> String {
    let (kind, name) = about.split_once('/').unwrap_or((about, "-"));
    format!("/v1/contexts/{}/{}/{}", encoded(kind), encoded(name), encoded(key))
}

/// A value as people type it: `true`, `1.5`, anything else is text; in quotation marks, it is text too.
pub fn value(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// What `put` became, in a line.
pub fn outcome(answer: &Value) -> String {
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    match answer["outcome"].as_str() {
        Some("in-effect") => format!(
            "in effect in {} sessions, after {} us\n",
            answer["sessions"], answer["took_us"]
        ),
        Some("delayed") => format!("kept; delayed: {}\n", text("reason")),
        Some("kept") => "kept; it changes no session now\n".to_owned(),
        _ => format!("{answer}\n"),
    }
}

/// `upf context list`.
pub fn list(answer: &Value) -> String {
    let mut out = String::new();
    for fact in answer["facts"].as_array().into_iter().flatten() {
        let text = |field: &str| fact[field].as_str().unwrap_or_default();
        let _ = write!(out, "{}  {} = {}", text("about"), text("key"), fact["value"]);
        for (field, word) in [("flow", "flow"), ("expires_at", "until"), ("put_by", "by")] {
            if let Some(said) = fact[field].as_str() {
                let _ = write!(out, "  {word} {said}");
            }
        }
        out.push('\n');
    }
    if answer["more"] == true {
        out += "... and more\n";
    }
    out
}

/// Any JSON as indented text: `upf qos explain`.
pub fn indented(value: &Value) -> String {
    let mut out = String::new();
    lines(value, 0, &mut out);
    out
}

fn lines(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('_', " ");
                match leaf(value) {
                    Some(text) => {
                        let _ = writeln!(out, "{indent}{name}: {text}");
                    }
                    None => {
                        let _ = writeln!(out, "{indent}{name}:");
                        lines(value, depth + 1, out);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match leaf(item) {
                    Some(text) => {
                        let _ = writeln!(out, "{indent}- {text}");
                    }
                    None => {
                        // The first line of the item stands behind the dash.
                        let mut inner = String::new();
                        lines(item, depth + 1, &mut inner);
                        let _ = write!(out, "{indent}- {}", inner.trim_start());
                    }
                }
            }
        }
        other => {
            let _ = writeln!(out, "{indent}{}", leaf(other).unwrap_or_default());
        }
    }
}

/// What fits in a line: no list or object but an empty one, and lists of short scalars.
fn leaf(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some("-".to_owned()),
        Value::Array(items) if items.iter().all(|item| item.is_number() || item.is_boolean()) => {
            let words: Vec<String> = items.iter().map(Value::to_string).collect();
            Some(if words.is_empty() {
                "none".to_owned()
            } else {
                words.join(", ")
            })
        }
        Value::Object(fields) if fields.is_empty() => Some("none".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<Vec<String>>);

    impl Steps for Heard {
        fn perform(&mut self, steps: &[Value]) -> Result<usize, ClientError> {
            self.0.push(
                steps
                    .iter()
                    .map(|step| step["put"]["key"].as_str().unwrap_or("-").to_owned())
                    .collect(),
            );
            Ok(0)
        }
    }

    fn line(at: u64, key: &str) -> String {
        format!("{{\"at_ms\": {at}, \"put\": {{\"about\": \"network\", \"key\": \"{key}\", \"value\": 1}}}}\n")
    }

    #[test]
    fn a_file_is_replayed_in_order_of_time_and_what_is_due_together_goes_together() {
        let text = line(40, "late") + &line(0, "a") + "\n" + &line(0, "b") + &line(40, "later");
        let events = events(text.as_bytes(), 0).unwrap();
        let mut heard = Heard::default();
        let replayed = replay(events.into_iter().map(Ok), 2.0, &mut heard).unwrap();
        assert_eq!(heard.0, [vec!["a", "b"], vec!["late", "later"]]);
        assert_eq!((replayed.events, replayed.requests), (4, 2));
    }

    #[test]
    fn many_at_once_go_in_several_requests() {
        let text: String = (0..2_500).map(|i| line(0, &format!("k{i}"))).collect();
        let mut heard = Heard::default();
        replay(incoming(text.as_bytes(), 0), 1.0, &mut heard).unwrap();
        assert_eq!(heard.0.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    }

    #[test]
    fn a_wrong_line_is_named_and_of_a_file_nothing_is_sent() {
        let wrong = |text: &str| events(text.as_bytes(), 0).unwrap_err().to_string();
        assert!(wrong("{}").starts_with("line 1: expected at_ms or epoch_ms"));
        assert!(wrong("\n{\"at_ms\": -1, \"put\": {}}").starts_with("line 2: expected milliseconds"));
        assert!(wrong("{\"at_ms\": 1, \"puts\": {}}").starts_with("line 1: expected put or remove"));
        assert!(wrong("{\"at_ms\": 1, \"put\": {}, \"remove\": {}}").contains("one of them"));
        assert!(wrong("[]").contains("an object"));
    }

    #[test]
    fn times_of_the_clock_count_from_the_start_and_the_past_is_now() {
        let at = |ms: u64| {
            let text = format!("{{\"epoch_ms\": {ms}, \"remove\": {{}}}}");
            event(&text, 1, 1_000).unwrap().unwrap().at
        };
        assert_eq!((at(1_250), at(10)), (Duration::from_millis(250), Duration::ZERO));
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(path("network", "load"), "/v1/contexts/network/-/load");
        assert_eq!(path("subscriber/a b?c", "x"), "/v1/contexts/subscriber/a%20b%3Fc/x");
        assert_eq!(path("address/2001:db8::7", "x"), "/v1/contexts/address/2001:db8::7/x");
    }

    #[test]
    fn values_are_what_they_look_like() {
        assert_eq!(
            (value("true"), value("1.5"), value("yes")),
            (json!(true), json!(1.5), json!("yes"))
        );
        assert_eq!(
            (value("\"true\""), value("[1]"), value("null")),
            (json!("true"), json!("[1]"), json!("null"))
        );
    }

    #[test]
    fn an_explanation_is_read_from_top_to_bottom() {
        // One field at each level: whether fields keep their order is up to how serde_json was built.
        let shown = |value: Value| indented(&value);
        assert_eq!(
            shown(json!({"facts": [{"key": "app.call"}, {"key": "cell"}]})),
            "facts:\n  - key: app.call\n  - key: cell\n"
        );
        assert_eq!(shown(json!({"base": {"max_rate": null}})), "base:\n  max rate: -\n");
        assert_eq!(shown(json!({"qers": [1, 2]})), "qers: 1, 2\n");
        assert_eq!(shown(json!({"conflicts": []})), "conflicts: none\n");
        assert_eq!(shown(json!({"by": ["a", "b"]})), "by:\n  - a\n  - b\n");
    }
}
