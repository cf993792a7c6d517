//! Owns what types cannot say, and the policies made of a file that says it.

use super::condition::{Condition, When, Window};
use super::effects::{Arp, Effects};
use super::file::{ApplyTo, ConditionEntry, PolicyEntry, PolicyFile, Scalar, TimeEntry, Way};
use super::problem::{Problem, quoted};
use super::{Policies, Policy, PolicyTarget, Select};
use crate::context::{Key, Value};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use upf_model::{IpFilterRule, PdrId, Qfi};

/// Conditions may be so deep.
const DEPTH_MAX: usize = 16;
/// Thresholds with hysteresis of one policy: bits of the memory that there is for it.
const LATCHES_MAX: u32 = 64;
/// Policies of a file.
const POLICIES_MAX: usize = 10_000;

/// Everything that is wrong with a file whose form is right, or its policies.
pub(super) fn policies(file: &PolicyFile) -> Result<Policies, Vec<Problem>> {
    let mut reader = Reader {
        file,
        problems: Vec::new(),
    };
    reader.within("utc_offset_minutes", file.utc_offset_minutes, -840, 840);
    reader.tables();
    let profiles = file.profiles.iter().map(|(name, profile)| {
        let field = format!("profiles.{name}");
        reader.name(&field, name);
        reader.within(
            &format!("{field}.min_duration_s"),
            profile.min_duration_s,
            0,
            profile.max_duration_s,
        );
        reader.arp(&format!("{field}.arp"), profile.arp);
        let mut profile = profile.clone();
        profile.effects = reader.effects(&format!("{field}.effects"), &profile.effects);
        let effects = Arc::new(profile.effects.clone());
        (name.clone(), (profile, effects))
    });
    let profiles = profiles.collect();
    if file.policies.len() > POLICIES_MAX {
        reader.problem(
            "policies",
            format!("at most {POLICIES_MAX}"),
            file.policies.len().to_string(),
        );
    }
    let mut names = BTreeSet::new();
    let mut policies = Vec::new();
    for (i, entry) in file.policies.iter().enumerate().take(POLICIES_MAX) {
        let field = format!("policies[{i}]");
        if !names.insert(entry.name.as_str()) {
            reader.problem(
                format!("{field}.name"),
                "each name once",
                format!("{} again", quoted(&entry.name)),
            );
        }
        policies.extend(reader.policy(&field, entry));
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let mut keys = BTreeSet::new();
    policies.iter().for_each(|policy| policy.when.condition.keys(&mut keys));
    Ok(Policies {
        limits: file.limits,
        queues: file.queues.clone(),
        capacities: file.capacities.clone(),
        profiles,
        policies,
        keys,
    })
}

struct Reader<'f> {
    file: &'f PolicyFile,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        self.problems.push(Problem::new(field, expected, found));
    }

    fn within<T: PartialOrd + Display>(&mut self, field: &str, value: T, low: T, high: T) {
        if value < low || value > high {
            self.problem(field, format!("{low} to {high}"), value.to_string());
        }
    }

    /// Names become parts of messages and of values of facts.
    fn name(&mut self, field: &str, name: &str) {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(letter) {
            self.problem(
                field,
                "a name of 1 to 64 letters, digits, '-', '_' or '.'",
                quoted(name),
            );
        }
    }

    fn tables(&mut self) {
        for (qfi, queue) in &self.file.queues {
            let field = format!("queues.{qfi}");
            self.within(&field, *qfi, 0, 63);
            self.within(&field, *queue, 0, 7);
        }
        for (five_qi, qfi) in &self.file.five_qis {
            self.within(&format!("five_qis.{five_qi}"), *qfi, 0, 63);
        }
    }

    fn arp(&mut self, field: &str, arp: Arp) {
        self.within(&format!("{field}.priority_level"), arp.priority_level, 1, 15);
    }

    /// Checked, with `five_qi` resolved.
    fn effects(&mut self, field: &str, effects: &Effects) -> Effects {
        let mut resolved = effects.clone();
        if *effects == Effects::default() {
            self.problem(field, "at least one effect", "none");
        }
        if let Some(five_qi) = resolved.five_qi.take() {
            let qfi = self.file.five_qis.get(&five_qi).copied();
            match (qfi, effects.qfi) {
                (_, Some(qfi)) => {
                    self.problem(format!("{field}.five_qi"), "five_qi or qfi", format!("both, qfi {qfi}"))
                }
                (None, None) => self.problem(format!("{field}.five_qi"), "one of five_qis", five_qi.to_string()),
                (qfi, None) => resolved.qfi = qfi,
            }
        }
        self.within(&format!("{field}.qfi"), resolved.qfi.unwrap_or(0), 0, 63);
        self.within(&format!("{field}.queue"), effects.queue.unwrap_or(0), 0, 7);
        self.within(&format!("{field}.dscp"), effects.dscp.unwrap_or(0), 0, 63);
        let percent = effects.session_ambr_percent.unwrap_or(0);
        self.within(&format!("{field}.session_ambr_percent"), percent, 0, 1000);
        if let (Some(gbr), Some(mbr)) = (effects.gbr, effects.mbr)
            && (gbr.uplink_kbps > mbr.uplink_kbps || gbr.downlink_kbps > mbr.downlink_kbps)
        {
            self.problem(format!("{field}.gbr"), "at most the mbr beside it", "more");
        }
        resolved
    }

    fn policy(&mut self, field: &str, entry: &PolicyEntry) -> Option<Policy> {
        self.name(&format!("{field}.name"), &entry.name);
        self.arp(&format!("{field}.arp"), entry.arp);
        let effects = self.effects(&format!("{field}.effects"), &entry.effects);
        let mut latches = 0;
        let condition = match &entry.when {
            Some(when) => self.condition(&format!("{field}.when"), when, 1, &mut latches),
            None => Some(Condition::All(Vec::new())),
        };
        if latches > LATCHES_MAX {
            let expected = format!("at most {LATCHES_MAX} thresholds with clear");
            self.problem(format!("{field}.when"), expected, latches.to_string());
        }
        let target = self.target(&format!("{field}.apply_to"), &entry.apply_to);
        Some(Policy {
            name: entry.name.clone(),
            when: When {
                condition: condition?,
                latches,
            },
            for_ms: entry.for_ms,
            hold_ms: entry.hold_ms,
            priority: entry.priority,
            target: target?,
            effects: Arc::new(effects),
            arp: entry.arp,
        })
    }

    fn target(&mut self, field: &str, apply_to: &ApplyTo) -> Option<PolicyTarget> {
        for (i, qfi) in apply_to.qfis.iter().enumerate() {
            self.within(&format!("{field}.qfis[{i}]"), *qfi, 0, 63);
        }
        let select = Select {
            uplink: apply_to.direction.map(|way| way == Way::Uplink),
            qfis: apply_to.qfis.iter().copied().map(Qfi).collect(),
            pdrs: apply_to.pdrs.iter().copied().map(PdrId).collect(),
        };
        Some(match apply_to.flow.as_deref() {
            None => PolicyTarget::Pdrs(select),
            Some("fact") => PolicyTarget::FlowOfFact(select),
            Some(text) => match text.parse::<IpFilterRule>() {
                Ok(rule) => PolicyTarget::Flow(select, Arc::new(rule)),
                Err(error) => {
                    let expected = format!("fact, or {} at byte {}", error.expected, error.position);
                    self.problem(format!("{field}.flow"), expected, error.found);
                    return None;
                }
            },
        })
    }

    fn condition(&mut self, field: &str, entry: &ConditionEntry, depth: usize, latches: &mut u32) -> Option<Condition> {
        if depth > DEPTH_MAX {
            self.problem(field, format!("a depth of at most {DEPTH_MAX}"), "more");
            return None;
        }
        let kinds = [
            ("all", entry.all.is_some()),
            ("any", entry.any.is_some()),
            ("not", entry.not.is_some()),
            ("key", entry.key.is_some()),
            ("time", entry.time.is_some()),
            ("slice", entry.slice.is_some()),
            ("dnn", entry.dnn.is_some()),
            ("subscriber", entry.subscriber.is_some()),
        ];
        let given: Vec<&str> = kinds
            .iter()
            .filter(|(_, there)| *there)
            .map(|(kind, _)| *kind)
            .collect();
        if given.len() != 1 {
            let found = if given.is_empty() {
                "none".into()
            } else {
                given.join(" and ")
            };
            self.problem(
                field,
                format!("one of {}", kinds.map(|(kind, _)| kind).join(", ")),
                found,
            );
            return None;
        }
        let tests = tests(entry);
        if entry.key.is_none() && (!tests.is_empty() || entry.clear.is_some()) {
            self.problem(
                field,
                "key beside it",
                format!("{} alone", tests.first().unwrap_or(&"clear")),
            );
            return None;
        }
        let mut parts = |kind: &str, entries: &[ConditionEntry]| {
            let parts = entries.iter().enumerate();
            let parts: Vec<Option<Condition>> = parts
                .map(|(i, part)| self.condition(&format!("{field}.{kind}[{i}]"), part, depth + 1, latches))
                .collect();
            parts.into_iter().collect::<Option<Vec<Condition>>>()
        };
        if let Some(all) = &entry.all {
            Some(Condition::All(parts("all", all)?))
        } else if let Some(any) = &entry.any {
            Some(Condition::Any(parts("any", any)?))
        } else if let Some(not) = &entry.not {
            let part = self.condition(&format!("{field}.not"), not, depth + 1, latches)?;
            Some(Condition::Not(Box::new(part)))
        } else if let Some(key) = &entry.key {
            self.key_condition(field, key, entry, latches)
        } else if let Some(time) = &entry.time {
            self.window(&format!("{field}.time"), time).map(Condition::Time)
        } else if let Some(slice) = &entry.slice {
            Some(Condition::Slice(slice.clone()))
        } else if let Some(dnn) = &entry.dnn {
            Some(Condition::Dnn(dnn.clone()))
        } else {
            entry.subscriber.clone().map(Condition::Subscriber)
        }
    }

    fn key_condition(
        &mut self,
        field: &str,
        key: &str,
        entry: &ConditionEntry,
        latches: &mut u32,
    ) -> Option<Condition> {
        let key = match Key::try_from(key.to_owned()) {
            Ok(key) => key,
            Err(_) => {
                let expected = "words of a-z, 0-9, - and _ joined by dots, 64 bytes at most";
                self.problem(format!("{field}.key"), expected, quoted(key));
                return None;
            }
        };
        let tests = tests(entry);
        if tests.len() != 1 {
            let found = if tests.is_empty() {
                "none".into()
            } else {
                tests.join(" and ")
            };
            self.problem(field, "one of equals, in, exists, above, below", found);
            return None;
        }
        let bounds = [("above", entry.above), ("below", entry.below), ("clear", entry.clear)];
        for (name, bound) in bounds {
            if bound.is_some_and(|b| !b.is_finite()) {
                self.problem(format!("{field}.{name}"), "a finite number", "another");
                return None;
            }
        }
        let threshold = entry
            .above
            .map(|bound| (true, bound))
            .or(entry.below.map(|bound| (false, bound)));
        match (threshold, entry.clear) {
            (None, Some(_)) => {
                self.problem(format!("{field}.clear"), "above or below beside it", "neither");
                return None;
            }
            (Some((above, bound)), Some(clear)) if (above && clear > bound) || (!above && clear < bound) => {
                let expected = if above { "at most" } else { "at least" };
                self.problem(
                    format!("{field}.clear"),
                    format!("{expected} {bound}"),
                    clear.to_string(),
                );
                return None;
            }
            _ => {}
        }
        Some(if let Some((above, bound)) = threshold {
            let clear = entry.clear.map(|clear| {
                *latches += 1;
                (clear, *latches - 1)
            });
            Condition::Threshold {
                key,
                above,
                bound,
                clear,
            }
        } else if let Some(exists) = entry.exists {
            Condition::Exists(key, exists)
        } else {
            let equals = entry.equals.iter();
            Condition::In(key, equals.chain(entry.one_of.iter().flatten()).map(value).collect())
        })
    }

    fn window(&mut self, field: &str, time: &TimeEntry) -> Option<Window> {
        let mut minutes = |name: &str, text: &str| {
            let minutes = text.split_once(':').and_then(|(hours, minutes)| {
                let two = |digits: &str, below: u64| {
                    let number = digits.parse::<u64>().ok()?;
                    (digits.len() == 2 && number < below).then_some(number)
                };
                Some(two(hours, 24)? * 60 + two(minutes, 60)?)
            });
            if minutes.is_none() {
                self.problem(
                    format!("{field}.{name}"),
                    "\"HH:MM\", from \"00:00\" to \"23:59\"",
                    quoted(text),
                );
            }
            minutes
        };
        let (from, to) = (minutes("from", &time.from), minutes("to", &time.to));
        Some(Window {
            from: from?,
            to: to?,
            weekdays: Window::days(&time.weekdays),
            utc_offset_minutes: self.file.utc_offset_minutes.into(),
        })
    }
}

/// What a condition on a key asks of the value.
fn tests(entry: &ConditionEntry) -> Vec<&'static str> {
    let tests = [
        ("equals", entry.equals.is_some()),
        ("in", entry.one_of.is_some()),
        ("exists", entry.exists.is_some()),
        ("above", entry.above.is_some()),
        ("below", entry.below.is_some()),
    ];
    tests
        .iter()
        .filter(|(_, there)| *there)
        .map(|(test, _)| *test)
        .collect()
}

fn value(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(b) => Value::Bool(*b),
        Scalar::Number(n) => Value::Number(*n),
        Scalar::Text(t) => Value::Text(t.clone()),
    }
}
