//! Facts and their subjects in JSON and in paths, decoded with errors that say which field and what was expected.
//!
//! A subject is text: `network`, `slice/1-00000a`, `cell/c17`, `subscriber/imsi-001010000000001`, `address/10.45.0.7`,
//! `session/0x1`. A flow of a user is the user's text and a `flow` beside it, as an IPFilterRule (TS 29.212 5.4.2).

use super::refusal::Refusal;
use qos::context::Flow;
use qos::{Fact, Key, Subject, User, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use upf_model::{IpFilterRule, Seid};

/// Facts in one batch.
pub const BATCH_MAX: usize = 10_000;
/// Octets of a text value, a name in a subject.
const TEXT_MAX: usize = 256;
/// Octets of a flow's rule.
const FLOW_MAX: usize = 1_024;
/// The longest lifetime, seconds: ten years.
const TTL_MAX_S: f64 = 315_360_000.0;
/// Keys of Quality-On-Demand sessions begin so; the context API neither changes nor shows them.
pub const QOD_PREFIX: &str = "qod.";

/// Milliseconds since the UNIX epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC with as many digits as it takes.
pub fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The instant of an RFC 3339 text with its time zone.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// How a fact is and how long, as `PUT /v1/contexts/...` takes it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueBody {
    /// A boolean, a finite number, or a text of at most 256 octets.
    pub value: serde_json::Value,
    /// Seconds from now, fractions too. Neither this nor `expires_at`: until it is taken back.
    pub ttl_s: Option<f64>,
    /// RFC 3339 with its time zone.
    pub expires_at: Option<String>,
    /// One flow of the user, as an IPFilterRule written for the downlink.
    pub flow: Option<String>,
}

/// A fact, as batches take it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactBody {
    /// Whom it is about, such as `subscriber/imsi-001010000000001`.
    pub about: String,
    /// What, such as `app.foreground`.
    pub key: String,
    /// A boolean, a finite number, or a text of at most 256 octets.
    pub value: serde_json::Value,
    /// Seconds from now, fractions too. Neither this nor `expires_at`: until it is taken back.
    pub ttl_s: Option<f64>,
    /// RFC 3339 with its time zone.
    pub expires_at: Option<String>,
    /// One flow of the user, as an IPFilterRule written for the downlink.
    pub flow: Option<String>,
}

/// The name of a fact.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactName {
    /// Whom it is about.
    pub about: String,
    /// What.
    pub key: String,
    /// One flow of the user.
    pub flow: Option<String>,
}

/// One step of a batch, and one line of NDJSON.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// This is so from now on.
    Put(FactBody),
    /// This is so no longer.
    Remove(FactName),
}

/// Steps in one request, done in order.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 10,000.
    pub steps: Vec<Step>,
}

/// A step that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// To be put.
    Put(Fact),
    /// To be removed.
    Remove(Subject, Key),
}

/// A fact as answers show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownFact {
    /// Whom it is about.
    pub about: String,
    /// The flow of that user, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// What.
    pub key: String,
    /// How it is.
    pub value: serde_json::Value,
    /// Until when, RFC 3339; none: until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The client that put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_by: Option<String>,
}

impl From<&Fact> for ShownFact {
    fn from(fact: &Fact) -> Self {
        let (about, flow) = subject_text(&fact.about);
        Self {
            about,
            flow,
            key: fact.key.to_string(),
            value: match &fact.value {
                Value::Bool(b) => (*b).into(),
                Value::Number(n) => (*n).into(),
                Value::Text(t) => t.as_str().into(),
            },
            expires_at: fact.expires_ms.map(rfc3339),
            put_by: fact.note.clone(),
        }
    }
}

/// A subject's text, and its flow.
pub fn subject_text(about: &Subject) -> (String, Option<String>) {
    match about {
        Subject::Network => ("network".into(), None),
        Subject::Slice(name) => (format!("slice/{name}"), None),
        Subject::Cell(name) => (format!("cell/{name}"), None),
        Subject::User(user) => (user_text(user), None),
        Subject::Flow(user, flow) => (user_text(user), Some(flow.to_string())),
    }
}

fn user_text(user: &User) -> String {
    match user {
        User::Subscriber(name) => format!("subscriber/{name}"),
        User::Address(address) => format!("address/{address}"),
        User::Session(seid) => format!("session/{:#x}", seid.0),
    }
}

/// A SEID in decimal or as `0x...`.
pub fn parse_seid(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The subject of a text and a flow beside it.
///
/// # Errors
/// What is expected there.
pub fn parse_subject(about: &str, flow: Option<&str>) -> Result<Subject, Refusal> {
    let (kind, name) = about.split_once('/').unwrap_or((about, ""));
    let subject = match (kind, name) {
        ("network", "" | "-") => Subject::Network,
        ("slice", name) => Subject::Slice(slice(name)?),
        ("cell", name) => Subject::Cell(plain("cell", name)?),
        ("subscriber", name) => Subject::User(User::Subscriber(plain("subscriber", name)?)),
        ("address", name) => match name.parse::<IpAddr>() {
            Ok(address) => Subject::User(User::Address(address)),
            Err(_) => return Err(expected("about", "address/ and an IPv4 or IPv6 address", name)),
        },
        ("session", name) => match parse_seid(name) {
            Some(seid) => Subject::User(User::Session(Seid(seid))),
            None => return Err(expected("about", "session/ and a SEID, decimal or 0x...", name)),
        },
        _ => {
            let kinds = "network, slice/NAME, cell/NAME, subscriber/NAME, address/ADDRESS or session/SEID";
            return Err(expected("about", kinds, about));
        }
    };
    match (subject, flow) {
        (subject, None) => Ok(subject),
        (Subject::User(user), Some(text)) => Ok(Subject::Flow(user, parse_flow(text)?)),
        _ => Err(Refusal::invalid(
            "flow: expected only with a subscriber, address or session",
        )),
    }
}

fn parse_flow(text: &str) -> Result<Flow, Refusal> {
    if text.len() > FLOW_MAX {
        return Err(Refusal::invalid(format!("flow: expected {FLOW_MAX} octets at most")));
    }
    match text.parse::<IpFilterRule>() {
        Ok(rule) => Ok(Flow::new(&rule)),
        Err(error) => Err(Refusal::invalid(format!("flow: {error}"))),
    }
}

/// An S-NSSAI as text (TS 23.003 28.4.2): SST 0 to 255, SD of six hexadecimal digits, written in lower case.
fn slice(name: &str) -> Result<String, Refusal> {
    let (sst, sd) = match name.split_once('-') {
        Some((sst, sd)) => (sst, Some(sd)),
        None => (name, None),
    };
    let sound = sd.is_none_or(|sd| sd.len() == 6 && sd.bytes().all(|c| c.is_ascii_hexdigit()));
    match (sst.parse::<u8>(), sd) {
        (Ok(sst), None) if sound => Ok(sst.to_string()),
        (Ok(sst), Some(sd)) if sound => Ok(format!("{sst}-{}", sd.to_ascii_lowercase())),
        _ => Err(expected(
            "about",
            "slice/SST or slice/SST-SD, such as slice/1-00000a",
            name,
        )),
    }
}

fn plain(kind: &str, name: &str) -> Result<String, Refusal> {
    let sound = !name.is_empty() && name.len() <= TEXT_MAX && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    match sound {
        true => Ok(name.to_owned()),
        false => Err(expected(
            "about",
            &format!("{kind}/ and 1 to {TEXT_MAX} printable characters"),
            name,
        )),
    }
}

fn expected(field: &str, what: &str, found: &str) -> Refusal {
    let found: String = found.chars().take(64).collect();
    Refusal::invalid(format!("{field}: expected {what}, found {found:?}"))
}

/// A key that the context API may use.
///
/// # Errors
/// It is no key, or one of Quality-On-Demand's.
pub fn parse_key(text: &str) -> Result<Key, Refusal> {
    if text.starts_with(QOD_PREFIX) {
        let message =
            format!("key: {QOD_PREFIX} begins the keys of Quality-On-Demand sessions; use /quality-on-demand/v1");
        return Err(Refusal::invalid(message));
    }
    Key::try_from(text.to_owned()).map_err(|error| Refusal::invalid(format!("key: {error}")))
}

fn parse_value(value: &serde_json::Value) -> Result<Value, Refusal> {
    let found = match value {
        serde_json::Value::Bool(b) => return Ok(Value::Bool(*b)),
        serde_json::Value::Number(n) => match n.as_f64().filter(|n| n.is_finite()) {
            Some(number) => return Ok(Value::Number(number)),
            None => "a number without end",
        },
        serde_json::Value::String(text) if text.len() <= TEXT_MAX => return Ok(Value::Text(text.clone())),
        serde_json::Value::String(_) => "a longer text",
        serde_json::Value::Null => "null",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    };
    let message = format!("value: expected a boolean, a number or a text of {TEXT_MAX} octets at most, found {found}");
    Err(Refusal::invalid(message))
}

fn parse_lifetime(ttl_s: Option<f64>, expires_at: Option<&str>, now_ms: u64) -> Result<Option<u64>, Refusal> {
    match (ttl_s, expires_at) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::invalid("expected ttl_s or expires_at, found both")),
        (Some(ttl), None) if ttl > 0.0 && ttl <= TTL_MAX_S => Ok(Some(now_ms + (ttl * 1e3).ceil() as u64)),
        (Some(ttl), None) => {
            let message = format!("ttl_s: expected more than 0 and at most {TTL_MAX_S} seconds, found {ttl}");
            Err(Refusal::out_of_range(message))
        }
        (None, Some(text)) => match parse_rfc3339(text) {
            Some(at) if at <= now_ms => Err(Refusal::out_of_range(
                "expires_at: expected a time to come, found the past",
            )),
            Some(at) => Ok(Some(at)),
            None => Err(expected("expires_at", "RFC 3339 with its time zone", text)),
        },
    }
}

impl ValueBody {
    /// The fact it says of this subject.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn check(&self, about: &str, key: &str, by: &str, now_ms: u64) -> Result<Fact, Refusal> {
        Ok(Fact {
            about: parse_subject(about, self.flow.as_deref())?,
            key: parse_key(key)?,
            value: parse_value(&self.value)?,
            expires_ms: parse_lifetime(self.ttl_s, self.expires_at.as_deref(), now_ms)?,
            note: Some(by.to_owned()),
        })
    }
}

impl Step {
    /// What is to be done.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn check(self, by: &str, now_ms: u64) -> Result<Checked, Refusal> {
        match self {
            Self::Put(fact) => {
                let (about, key) = (fact.about, fact.key);
                let value = ValueBody {
                    value: fact.value,
                    ttl_s: fact.ttl_s,
                    expires_at: fact.expires_at,
                    flow: fact.flow,
                };
                value.check(&about, &key, by, now_ms).map(Checked::Put)
            }
            Self::Remove(name) => Ok(Checked::Remove(
                parse_subject(&name.about, name.flow.as_deref())?,
                parse_key(&name.key)?,
            )),
        }
    }
}

/// JSON of a body into a type.
///
/// # Errors
/// What the reader expected, with line and column.
pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Err(Refusal::invalid("body: expected JSON, found nothing"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("body: {error}")))
}

/// The steps of a batch: an object, or a step a line where `ndjson`. All make sense, or none is done.
///
/// # Errors
/// The first that is wrong, by its number from 0.
pub fn decode_steps(body: &[u8], ndjson: bool, by: &str, now_ms: u64) -> Result<Vec<Checked>, Refusal> {
    let too_many = || Refusal::out_of_range(format!("steps: expected {BATCH_MAX} at most"));
    let at = |index: usize| {
        move |refusal: Refusal| Refusal {
            message: format!("steps[{index}]: {}", refusal.message),
            ..refusal
        }
    };
    let mut checked = Vec::new();
    if ndjson {
        let lines = body.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
        for (index, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            if index == BATCH_MAX {
                return Err(too_many());
            }
            let step: Step = decode(line).map_err(at(index))?;
            checked.push(step.check(by, now_ms).map_err(at(index))?);
        }
    } else {
        let batch: Batch = decode(body)?;
        if batch.steps.len() > BATCH_MAX {
            return Err(too_many());
        }
        for (index, step) in batch.steps.into_iter().enumerate() {
            checked.push(step.check(by, now_ms).map_err(at(index))?);
        }
    }
    if checked.is_empty() {
        return Err(Refusal::invalid("steps: expected one at least"));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn subject(text: &str) {
        let parsed = parse_subject(text, None).unwrap();
        assert_eq!(subject_text(&parsed), (text.to_owned(), None));
    }

    #[test]
    fn every_kind_of_subject_is_written_as_it_was_read() {
        subject("network");
        subject("slice/1");
        subject("slice/1-00000a");
        subject("cell/c17");
        subject("subscriber/imsi-001010000000001");
        subject("subscriber/user@example.org");
        subject("address/10.45.0.7");
        subject("address/2001:db8::7");
        subject("session/0x1f");
    }

    #[test]
    fn a_flow_belongs_to_a_user_and_is_written_in_one_form() {
        let rule = "permit out 17 from 192.0.2.1 80,81 to assigned";
        let flow = parse_subject("session/3", Some(rule)).unwrap();
        let form = "permit out 17 from 192.0.2.1 80-81 to assigned".to_owned();
        assert_eq!(subject_text(&flow), ("session/0x3".to_owned(), Some(form)));
        assert!(
            parse_subject("cell/a", Some(rule))
                .unwrap_err()
                .message
                .starts_with("flow: expected only")
        );
        assert!(
            parse_subject("session/3", Some("permit"))
                .unwrap_err()
                .message
                .contains("at byte")
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let put = |text: &str| {
            let steps = decode_steps(text.as_bytes(), true, "test", 1_000);
            steps.unwrap_err().message
        };
        assert!(put(r#"{"put":{"about":"who","key":"a","value":1}}"#).starts_with("steps[0]: about: expected network"));
        assert!(put(r#"{"put":{"about":"network","key":"A","value":1}}"#).starts_with("steps[0]: key: "));
        assert!(put(r#"{"put":{"about":"network","key":"a","value":[]}}"#).contains("found a list"));
        assert!(put(r#"{"put":{"about":"network","key":"a","value":1,"ttl_s":0}}"#).contains("more than 0"));
        assert!(put(r#"{"put":{"about":"network","key":"a","value":1,"tll_s":1}}"#).contains("unknown field `tll_s`"));
        assert!(put(r#"{"put":{"about":"network","key":"qod.a","value":1}}"#).contains("Quality-On-Demand"));
        assert!(put("{}").contains("steps[0]: body: "));
        assert_eq!(put("\n \n"), "steps: expected one at least");
    }

    #[test]
    fn lifetimes_are_kept_to_the_millisecond() {
        assert_eq!(parse_lifetime(Some(0.0015), None, 10), Ok(Some(12)));
        assert_eq!(
            parse_lifetime(None, Some("1970-01-01T01:00:00.5+01:00"), 10),
            Ok(Some(500))
        );
        assert!(parse_lifetime(None, Some("1970-01-01T00:00:00Z"), 10).is_err());
        assert!(parse_lifetime(None, Some("2026-11-25T10:00:00"), 10).is_err());
        assert!(parse_lifetime(Some(1.0), Some("2026-11-25T10:00:00Z"), 10).is_err());
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
    }
}
