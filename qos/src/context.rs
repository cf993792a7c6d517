//! What is true of users now: facts that policies turn into changes.
//!
//! A [`Fact`] says that something ([`Fact::key`], [`Fact::value`]) is so of somebody ([`Fact::about`]) until it expires or
//! is taken back. Its identity is (about, key): putting it again replaces value and lifetime. Facts come from
//! applications and operators over HTTP, from measurements, and from files; where they come from makes no difference.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use upf_model::{IpFilterRule, Seid};

/// Something that is so for a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Of whom or what.
    pub about: Subject,
    /// What: words of `a-z`, `0-9`, `-` and `_`, joined by dots, such as `app.foreground`; at most [`Key::MAX`] bytes.
    pub key: Key,
    /// How it is.
    pub value: Value,
    /// Until when, in milliseconds since the UNIX epoch; none: until it is taken back.
    pub expires_ms: Option<u64>,
    /// For whoever put it; policies do not see it.
    pub note: Option<String>,
}

/// Whom or what a fact is about, from everybody to one flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// All sessions.
    Network,
    /// Sessions of a slice, by its S-NSSAI as `SST` or `SST-SD`: `1`, `1-00000a`.
    Slice(String),
    /// Sessions of users of whom a fact `cell` says this name.
    Cell(String),
    /// Sessions of a user.
    User(User),
    /// One flow of a user, which need not have a PDR of its own.
    Flow(User, Flow),
}

/// How a user is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// By identity as the SMF gives it (User ID, TS 29.244 8.2.101): `imsi-...`, `msisdn-...`, or a network access identifier.
    Subscriber(String),
    /// By an address of a session, or one within its prefix or framed routes.
    Address(IpAddr),
    /// By one session's local SEID.
    Session(Seid),
}

/// A flow, as a filter rule written for the downlink; in its text form, which two equal rules share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow(String);

impl Flow {
    /// Of a rule.
    pub fn new(rule: &IpFilterRule) -> Self {
        Self(rule.to_string())
    }

    /// The rule.
    pub fn rule(&self) -> Option<IpFilterRule> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a fact says something about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that is no [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected words of a-z, 0-9, - and _ joined by dots, 64 bytes at most, found {0:?}")]
pub struct NotAKey(pub String);

impl Key {
    /// The longest, in bytes.
    pub const MAX: usize = 64;

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        let word = |w: &str| !w.is_empty() && w.bytes().all(letter);
        if text.len() <= Self::MAX && text.split('.').all(word) {
            Ok(Self(text))
        } else {
            Err(NotAKey(text))
        }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A word.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => t.fmt(f),
        }
    }
}
