//! Owns the facts, by subject, and when they expire.

use super::notice::FactError;
use crate::context::{Fact, Flow, Key, Subject, User, Value};
use crate::policy::Limits;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use upf_model::validate::limits::PORT_RANGES;
use upf_model::{IpFilterRule, IpPrefix};

/// Facts about one subject.
pub(super) type Held = BTreeMap<Key, Fact>;

/// The longest name of a slice, cell or subscriber, and the longest text of a value, bytes.
const TEXT_MAX: usize = 256;
/// The longest flow description and note, bytes.
const LONG_TEXT_MAX: usize = 1024;

/// Facts about a user and the user's flows.
#[derive(Debug, Default)]
pub(super) struct OfUser {
    pub(super) own: Held,
    pub(super) flows: BTreeMap<Flow, OfFlow>,
    count: usize,
}

/// Facts about a flow.
#[derive(Debug)]
pub(super) struct OfFlow {
    pub(super) rule: Arc<IpFilterRule>,
    pub(super) held: Held,
}

/// Every fact.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) network: Held,
    slices: HashMap<String, Held>,
    cells: HashMap<String, Held>,
    users: HashMap<User, OfUser>,
    /// Addresses that users of `users` are named by.
    addresses: BTreeSet<IpAddr>,
    expiries: BTreeSet<(u64, Subject, Key)>,
    count: usize,
}

impl Facts {
    pub(super) fn slice(&self, name: &str) -> Option<&Held> {
        self.slices.get(name)
    }

    pub(super) fn cell(&self, name: &str) -> Option<&Held> {
        self.cells.get(name)
    }

    pub(super) fn user(&self, user: &User) -> Option<&OfUser> {
        self.users.get(user)
    }

    /// Users named by an address within a prefix.
    pub(super) fn users_within(&self, prefix: IpPrefix) -> impl Iterator<Item = &OfUser> {
        let from = self.addresses.range(prefix.addr()..);
        let within = from.take_while(move |address| prefix.contains(**address));
        within.filter_map(|address| self.users.get(&User::Address(*address)))
    }

    /// Keeps a fact. Returns the one it replaced.
    pub(super) fn put(&mut self, fact: Fact, limits: &Limits) -> Result<Option<Fact>, FactError> {
        let rule = check(&fact)?;
        if self.get(&fact.about, &fact.key).is_none() {
            if self.count >= limits.facts {
                return Err(FactError::Quota { limit: limits.facts });
            }
            let user = match &fact.about {
                Subject::User(user) | Subject::Flow(user, _) => self.users.get(user),
                _ => None,
            };
            if user.is_some_and(|user| user.count >= limits.facts_per_user) {
                return Err(FactError::UserQuota {
                    limit: limits.facts_per_user,
                });
            }
        }
        Ok(self.insert(fact, rule))
    }

    fn insert(&mut self, fact: Fact, rule: Option<IpFilterRule>) -> Option<Fact> {
        if let Some(expires_ms) = fact.expires_ms {
            self.expiries.insert((expires_ms, fact.about.clone(), fact.key.clone()));
        }
        let (about, key, expires_ms) = (fact.about.clone(), fact.key.clone(), fact.expires_ms);
        let replaced = match &about {
            Subject::Network => self.network.insert(key, fact),
            Subject::Slice(name) => self.slices.entry(name.clone()).or_default().insert(key, fact),
            Subject::Cell(name) => self.cells.entry(name.clone()).or_default().insert(key, fact),
            Subject::User(user) | Subject::Flow(user, _) => {
                if let User::Address(address) = user {
                    self.addresses.insert(*address);
                }
                let of_user = self.users.entry(user.clone()).or_default();
                let replaced = match (&about, rule) {
                    (Subject::Flow(_, flow), Some(rule)) => {
                        let of_flow = of_user.flows.entry(flow.clone()).or_insert_with(|| OfFlow {
                            rule: Arc::new(rule),
                            held: Held::new(),
                        });
                        of_flow.held.insert(key, fact)
                    }
                    _ => of_user.own.insert(key, fact),
                };
                of_user.count += usize::from(replaced.is_none());
                replaced
            }
        };
        self.count += usize::from(replaced.is_none());
        if let Some(old) = &replaced
            && let Some(expired_ms) = old.expires_ms.filter(|_| old.expires_ms != expires_ms)
        {
            self.expiries.remove(&(expired_ms, old.about.clone(), old.key.clone()));
        }
        replaced
    }

    pub(super) fn get(&self, about: &Subject, key: &Key) -> Option<&Fact> {
        self.held(about)?.get(key)
    }

    fn held(&self, about: &Subject) -> Option<&Held> {
        match about {
            Subject::Network => Some(&self.network),
            Subject::Slice(name) => self.slices.get(name),
            Subject::Cell(name) => self.cells.get(name),
            Subject::User(user) => self.users.get(user).map(|user| &user.own),
            Subject::Flow(user, flow) => self.users.get(user)?.flows.get(flow).map(|flow| &flow.held),
        }
    }

    pub(super) fn remove(&mut self, about: &Subject, key: &Key) -> Option<Fact> {
        let removed = match about {
            Subject::Network => self.network.remove(key)?,
            Subject::Slice(name) => remove(&mut self.slices, name, key)?,
            Subject::Cell(name) => remove(&mut self.cells, name, key)?,
            Subject::User(user) | Subject::Flow(user, _) => {
                let of_user = self.users.get_mut(user)?;
                let removed = match about {
                    Subject::Flow(_, flow) => {
                        let of_flow = of_user.flows.get_mut(flow)?;
                        let removed = of_flow.held.remove(key)?;
                        if of_flow.held.is_empty() {
                            of_user.flows.remove(flow);
                        }
                        removed
                    }
                    _ => of_user.own.remove(key)?,
                };
                of_user.count -= 1;
                if of_user.count == 0 {
                    self.users.remove(user);
                    if let User::Address(address) = user {
                        self.addresses.remove(address);
                    }
                }
                removed
            }
        };
        self.count -= 1;
        if let Some(expires_ms) = removed.expires_ms {
            self.expiries.remove(&(expires_ms, about.clone(), key.clone()));
        }
        Some(removed)
    }

    /// Everything about a user and the user's flows, removed.
    pub(super) fn remove_user(&mut self, user: &User) -> Vec<Fact> {
        let facts: Vec<Fact> = self
            .users
            .get(user)
            .map_or_else(Vec::new, |u| u.all().cloned().collect());
        facts
            .iter()
            .filter_map(|fact| self.remove(&fact.about, &fact.key))
            .collect()
    }

    /// The next to expire.
    pub(super) fn next_expiry(&self) -> Option<(u64, &Subject, &Key)> {
        self.expiries.first().map(|(at, about, key)| (*at, about, key))
    }

    /// About a subject (none: about all), with keys that begin so, by (subject, key).
    pub(super) fn list(&self, about: Option<&Subject>, key_prefix: &str) -> Vec<&Fact> {
        let begins = |fact: &&Fact| fact.key.as_str().starts_with(key_prefix);
        if let Some(about) = about {
            return self
                .held(about)
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter(begins)
                .collect();
        }
        let wide = self.slices.values().chain(self.cells.values());
        let wide = std::iter::once(&self.network).chain(wide).flat_map(BTreeMap::values);
        let mut all: Vec<&Fact> = wide
            .chain(self.users.values().flat_map(OfUser::all))
            .filter(begins)
            .collect();
        all.sort_unstable_by(|a, b| (&a.about, &a.key).cmp(&(&b.about, &b.key)));
        all
    }
}

impl OfUser {
    fn all(&self) -> impl Iterator<Item = &Fact> {
        let flows = self.flows.values().flat_map(|flow| flow.held.values());
        self.own.values().chain(flows)
    }
}

/// Out of a map that keeps no empty subjects.
fn remove(subjects: &mut HashMap<String, Held>, name: &str, key: &Key) -> Option<Fact> {
    let held = subjects.get_mut(name)?;
    let removed = held.remove(key)?;
    if held.is_empty() {
        subjects.remove(name);
    }
    Some(removed)
}

/// Whether a fact can be kept; the rule of the flow that it is about.
fn check(fact: &Fact) -> Result<Option<IpFilterRule>, FactError> {
    let short = |expected, text: &str, most| {
        if text.len() <= most {
            return Ok(());
        }
        let found = format!("{} bytes", text.len());
        Err(FactError::Malformed { expected, found })
    };
    match &fact.value {
        Value::Number(number) if !number.is_finite() => return Err(FactError::NotFinite(number.to_string())),
        Value::Text(text) => short("a value of at most 256 bytes", text, TEXT_MAX)?,
        _ => {}
    }
    short(
        "a note of at most 1024 bytes",
        fact.note.as_deref().unwrap_or(""),
        LONG_TEXT_MAX,
    )?;
    let name = |text| short("a name of at most 256 bytes", text, TEXT_MAX);
    match &fact.about {
        Subject::Slice(text) | Subject::Cell(text) => name(text)?,
        Subject::User(User::Subscriber(text)) | Subject::Flow(User::Subscriber(text), _) => name(text)?,
        _ => {}
    }
    let Subject::Flow(_, flow) = &fact.about else {
        return Ok(None);
    };
    let text = flow.to_string();
    short("a flow description of at most 1024 bytes", &text, LONG_TEXT_MAX)?;
    let rule = flow.rule().ok_or(FactError::Malformed {
        expected: "a flow description (TS 29.212 5.4.2)",
        found: format!("{text:?}"),
    })?;
    let ranges = rule.remote_ports.len().max(rule.ue_ports.len());
    if ranges > PORT_RANGES {
        return Err(FactError::Malformed {
            expected: "a flow of at most 64 port ranges at either end",
            found: format!("{ranges}"),
        });
    }
    Ok(Some(rule))
}
