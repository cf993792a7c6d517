//! Running a script, with the meaning that p4c's own runner for BMv2 gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use num_bigint::BigInt;
use num_traits::Num;
use thiserror::Error;

use super::script::{Command, Pairs, ScriptError, parse};
use crate::control::{
    ActionCall, ActionId, CloneSession, ControlError, CounterCell, CounterData, Entity, FieldMatch, MatchKind,
    MeterCell, MeterConfig, MulticastGroup, ProgramInfo, Query, RegisterCell, Replica, TableAction, TableEntry,
    TableId, Update, Value,
};
use crate::program::{LoadError, Program};
use crate::switch::{Switch, SwitchConfig};

/// Why a test did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// A file could not be read.
    #[error("{0}: {1}")]
    File(String, String),
    /// The program could not be loaded.
    #[error("program: {0}")]
    Load(#[from] LoadError),
    /// The script is malformed.
    #[error("script: {0}")]
    Script(#[from] ScriptError),
    /// A command of the script failed.
    #[error("line {line}: {reason}")]
    Command {
        /// Its line.
        line: usize,
        /// What went wrong.
        reason: String,
    },
    /// Not as many packets as expected left through a port.
    #[error("port {port}: expected {expected} packets, got {got}")]
    Count {
        /// The port.
        port: u32,
        /// Expected.
        expected: usize,
        /// Got.
        got: usize,
    },
    /// A packet is not the one expected.
    #[error("port {port}, packet {index}: expected {expected}, got {got}")]
    Differs {
        /// The port.
        port: u32,
        /// Which one.
        index: usize,
        /// Expected digits.
        expected: String,
        /// Got.
        got: String,
    },
}

/// Runs a script against a program.
pub fn run(json: &[u8], script: &str) -> Result<(), Failure> {
    let program = Program::from_json(json)?;
    let commands = parse(script)?;
    let switch = Switch::with_manual_clock(SwitchConfig {
        priority_queues: 8,
        ..SwitchConfig::default()
    });
    let info = Arc::clone(&program.info);
    switch.load(Arc::new(program));
    // Only ports that the script names have a capture file in p4c's runner.
    let mut ports = BTreeSet::new();
    for (_, command) in &commands {
        if let Command::Packet { port, .. } | Command::Expect { port, .. } = command {
            ports.insert(*port);
        }
    }
    let mut runner = Runner {
        switch,
        info,
        nodes: Vec::new(),
        entries: BTreeMap::new(),
        got: BTreeMap::new(),
        expected: BTreeMap::new(),
    };
    for (line, command) in commands {
        runner
            .command(command)
            .map_err(|reason| Failure::Command { line, reason })?;
    }
    runner.compare(&ports)
}

struct Runner {
    switch: Switch,
    info: Arc<ProgramInfo>,
    /// Multicast nodes: rid and ports.
    nodes: Vec<(u16, Vec<u32>)>,
    /// Entries by the names that the script gives them.
    entries: BTreeMap<String, TableEntry>,
    got: BTreeMap<u32, Vec<Vec<u8>>>,
    expected: BTreeMap<u32, Vec<Option<String>>>,
}

type Outcome = Result<(), String>;

/// A number as scripts and BMv2's CLI write them.
fn number(text: &str) -> Result<BigInt, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0b") => (&lower[2..], 2),
        Some("0o") => (&lower[2..], 8),
        _ => (lower.as_str(), 10),
    };
    BigInt::from_str_radix(digits, radix).map_err(|_| format!("{text:?} is not a number"))
}

fn value(number: &BigInt) -> Value {
    number.to_bytes_be().1
}

fn small<T: TryFrom<BigInt>>(text: &str) -> Result<T, String> {
    T::try_from(number(text)?).map_err(|_| format!("{text} is too large"))
}

/// A pattern with `*` for digits that do not matter: value and mask.
fn masked(text: &str, width: usize) -> Result<(BigInt, BigInt), String> {
    let all: BigInt = (BigInt::from(1) << width) - 1;
    if !text.contains('*') {
        // The mask covers the digits that are written.
        let bits = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 4 * (text.len() - 2),
            Some("0b") => text.len() - 2,
            _ => width,
        };
        let mask: BigInt = (BigInt::from(1) << bits) - 1;
        return Ok((number(text)?, mask & all));
    }
    let (prefix, digits) = text
        .split_at_checked(2)
        .ok_or_else(|| format!("{text:?} is not a pattern"))?;
    let one = if prefix.eq_ignore_ascii_case("0x") { "f" } else { "1" };
    let mask: String = digits.chars().map(|c| if c == '*' { "0" } else { one }).collect();
    Ok((
        number(&format!("{prefix}{}", digits.replace('*', "0")))?,
        number(&format!("{prefix}{mask}"))? & all,
    ))
}

impl Runner {
    fn command(&mut self, command: Command) -> Outcome {
        match command {
            Command::Add {
                table,
                priority,
                key,
                action,
                arguments,
                id,
            } => {
                let entry = self.entry(&table, priority, &key, &action, &arguments)?;
                if let Some(id) = id {
                    self.entries.insert(id, entry.clone());
                }
                self.write(Update::Insert(Entity::TableEntry(entry)))
            }
            Command::SetDefault {
                table,
                action,
                arguments,
            } => {
                let table = self.table(&table)?;
                let call = self.call(table, &action, &arguments)?;
                self.write(Update::Modify(Entity::TableEntry(TableEntry::default_entry(
                    table,
                    Some(call),
                ))))
            }
            Command::Packet { port, bytes } => {
                self.switch.advance(Duration::from_millis(1));
                for output in self.switch.inject(port, &bytes) {
                    self.got.entry(output.port).or_default().push(output.bytes);
                }
                Ok(())
            }
            Command::Expect { port, pattern } => {
                self.expected.entry(port).or_default().push(pattern);
                Ok(())
            }
            Command::CheckCounter { counter, index, check } => self.check_counter(&counter, &index, check),
            Command::RemoveAll => self.remove_all(),
            Command::Wait | Command::NoPacket => {
                self.pass(Duration::from_secs(1));
                Ok(())
            }
            Command::Cli(name, words) => {
                // BMv2's runner waits a second after each of these.
                self.pass(Duration::from_secs(1));
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.cli(&name, &words)
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        for output in self.switch.advance(time) {
            self.got.entry(output.port).or_default().push(output.bytes);
        }
    }

    fn write(&self, update: Update) -> Outcome {
        self.switch
            .write(&[update])
            .into_iter()
            .collect::<Result<(), ControlError>>()
            .map_err(|e| e.to_string())
    }

    /// By its whole name, or by its end if only one has it.
    fn find(names: &[&str], wanted: &str, what: &str) -> Result<usize, String> {
        if let Some(found) = names.iter().position(|n| *n == wanted) {
            return Ok(found);
        }
        let mut ends = names
            .iter()
            .enumerate()
            .filter(|(_, n)| n.ends_with(wanted))
            .map(|(i, _)| i);
        match (ends.next(), ends.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => Err(format!("there is no {what} {wanted}")),
            (Some(_), Some(_)) => Err(format!("several {what}s end in {wanted}")),
        }
    }

    fn table(&self, name: &str) -> Result<TableId, String> {
        let names: Vec<&str> = self.info.tables.iter().map(|t| t.name.as_str()).collect();
        Ok(TableId(Self::find(&names, name, "table")? as u32))
    }

    fn action(&self, table: TableId, name: &str) -> Result<ActionId, String> {
        let actions = &self.info.tables[table.index()].actions;
        let names: Vec<&str> = actions
            .iter()
            .map(|a| self.info.actions[a.index()].name.as_str())
            .collect();
        Ok(actions[Self::find(&names, name, "action")?])
    }

    fn call(&self, table: TableId, action: &str, arguments: &Pairs) -> Result<ActionCall, String> {
        let action = self.action(table, action)?;
        let parameters = &self.info.actions[action.index()].parameters;
        if let Some((name, _)) = arguments.iter().find(|(n, _)| parameters.iter().all(|p| p.name != *n)) {
            return Err(format!("the action has no parameter {name}"));
        }
        let argument = |p: &crate::control::ParameterInfo| {
            let given = arguments.iter().find(|(n, _)| *n == p.name);
            let (_, text) = given.ok_or_else(|| format!("argument {} is missing", p.name))?;
            let number = number(text)?;
            let all: BigInt = (BigInt::from(1) << p.bitwidth) - 1;
            if number > all {
                Err(format!("{text} is wider than {} bits", p.bitwidth))
            } else {
                Ok(value(&number))
            }
        };
        Ok(ActionCall {
            action,
            arguments: parameters.iter().map(argument).collect::<Result<_, _>>()?,
        })
    }

    /// Which key field a script means.
    fn key_field(names: &[&str], wanted: &str) -> Option<usize> {
        // h$1.f is h[1].f
        let mut wanted = wanted.to_owned();
        if let Some((before, after)) = wanted.split_once('$') {
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if digits > 0 {
                wanted = format!("{before}[{}]{}", &after[..digits], &after[digits..]);
            }
        }
        let valid = wanted.strip_suffix(".valid").map(|stem| format!("{stem}.$valid$"));
        let exact = [wanted.clone(), format!("{wanted}$"), format!("{wanted}.$valid$")];
        let whole = exact
            .iter()
            .chain(&valid)
            .find_map(|w| names.iter().position(|n| n == w));
        whole.or_else(|| {
            let ends = [format!(".{wanted}"), format!(".{wanted}$")];
            let by_end = names.iter().rposition(|n| ends.iter().any(|e| n.ends_with(e.as_str())));
            by_end.or_else(|| {
                let is_valid = |n: &&&str| wanted == "valid" && n.ends_with("$valid$");
                names.iter().rposition(|n| is_valid(&n))
            })
        })
    }

    fn entry(
        &self,
        table: &str,
        priority: Option<i64>,
        key: &Pairs,
        action: &str,
        arguments: &Pairs,
    ) -> Result<TableEntry, String> {
        let table = self.table(table)?;
        let model = &self.info.tables[table.index()];
        let names: Vec<&str> = model.key.iter().map(|k| k.name.as_str()).collect();
        let mut texts: Vec<Option<&str>> = vec![None; names.len()];
        for (name, text) in key {
            let field = Self::key_field(&names, name).ok_or_else(|| format!("the key has no field {name}"))?;
            texts[field] = Some(text);
        }
        let mut matches = Vec::new();
        for (field, text) in model.key.iter().zip(texts) {
            let width = field.bitwidth;
            matches.push(match (field.kind, text) {
                (MatchKind::Exact | MatchKind::Valid, None) => FieldMatch::Exact(vec![0]),
                (_, None) => FieldMatch::Any,
                (MatchKind::Exact | MatchKind::Valid, Some(text)) => FieldMatch::Exact(value(&number(text)?)),
                (MatchKind::Ternary | MatchKind::Optional, Some(text)) => {
                    let (number, mask) = match text.split_once("&&&") {
                        Some((v, m)) => (number(v)?, number(m)?),
                        None => masked(text, width)?,
                    };
                    FieldMatch::Ternary {
                        value: value(&(number & &mask)),
                        mask: value(&mask),
                    }
                }
                (MatchKind::Lpm, Some(text)) => {
                    let (number, prefix_len) = match text.split_once('/') {
                        Some((v, len)) => (number(v)?, small::<usize>(len)?),
                        None => {
                            let (number, mask) = masked(text, width)?;
                            (number, mask.magnitude().count_ones() as usize)
                        }
                    };
                    let prefix_len = prefix_len.min(width);
                    let mask: BigInt = ((BigInt::from(1) << prefix_len) - 1) << (width - prefix_len);
                    FieldMatch::Lpm {
                        value: value(&(number & mask)),
                        prefix_len,
                    }
                }
                (MatchKind::Range, Some(text)) => {
                    let (low, high) = text.split_once("->").unwrap_or((text, text));
                    FieldMatch::Range {
                        low: value(&number(low)?),
                        high: value(&number(high)?),
                    }
                }
            });
        }
        // 0 is a priority in scripts, the least; here priorities begin at 1.
        let priority = if model.needs_priority {
            priority.unwrap_or(0).clamp(0, i32::MAX as i64 - 1) as i32 + 1
        } else {
            0
        };
        let call = self.call(table, action, arguments)?;
        Ok(TableEntry::new(table, matches, priority, TableAction::Call(call)))
    }

    fn remove_all(&self) -> Outcome {
        let mut entries = Vec::new();
        let query = Query::TableEntries { table: None };
        self.switch
            .read(&query, &mut |entity| entries.push(entity))
            .map_err(|e| e.to_string())?;
        let constant = |e: &Entity| matches!(e, Entity::TableEntry(entry) if entry.is_const);
        entries
            .into_iter()
            .filter(|e| !constant(e))
            .try_for_each(|e| self.write(Update::Delete(e)))
    }

    fn check_counter(&self, name: &str, index: &str, check: Option<(String, String, u64)>) -> Outcome {
        let query = match index.strip_prefix('$') {
            Some(id) => {
                let entry = self.entries.get(id).ok_or_else(|| format!("there is no entry {id}"))?;
                Query::TableEntry {
                    table: entry.table,
                    key: entry.key.clone(),
                    priority: entry.priority,
                }
            }
            None => {
                let names: Vec<&str> = self.info.counters.iter().map(|c| c.name.as_str()).collect();
                let counter = crate::control::CounterId(Self::find(&names, name, "counter")? as u32);
                Query::Counters {
                    counter: Some(counter),
                    index: Some(small(index)?),
                }
            }
        };
        let mut data = CounterData::default();
        let mut visit = |entity| match entity {
            Entity::Counter(cell) => data = cell.data,
            Entity::TableEntry(entry) => data = entry.counter_data.unwrap_or_default(),
            _ => {}
        };
        self.switch.read(&query, &mut visit).map_err(|e| e.to_string())?;
        let (count, operator, number) = check.unwrap_or(("packets".into(), "==".into(), 0));
        let have = if count == "bytes" { data.bytes } else { data.packets };
        let holds = match operator.as_str() {
            "==" => have == number,
            "!=" => have != number,
            "<" => have < number,
            "<=" => have <= number,
            ">" => have > number,
            ">=" => have >= number,
            other => return Err(format!("unknown operator {other:?}")),
        };
        if holds {
            Ok(())
        } else {
            Err(format!(
                "{name}({index}) has {have} {count}, expected {operator} {number}"
            ))
        }
    }

    fn cli(&mut self, name: &str, words: &[&str]) -> Outcome {
        match (name, words) {
            ("mirroring_add", [session, port]) => {
                let replica = Replica {
                    port: small(port)?,
                    instance: 0,
                };
                self.mirror(small(session)?, vec![replica])
            }
            ("mirroring_add_mc", [session, group]) => {
                let replicas = self.group(small(group)?)?;
                self.mirror(small(session)?, replicas)
            }
            ("mirroring_delete", [session]) => {
                let session = small(session)?;
                let gone = CloneSession {
                    session,
                    replicas: Vec::new(),
                    class_of_service: 0,
                    packet_length_bytes: 0,
                };
                self.write(Update::Delete(Entity::CloneSession(gone)))
            }
            ("mc_mgrp_create", [group]) => {
                let group = MulticastGroup {
                    group: small(group)?,
                    replicas: Vec::new(),
                };
                self.write(Update::Insert(Entity::MulticastGroup(group)))
            }
            ("mc_node_create", [rid, ports @ ..]) => {
                self.nodes
                    .push((small(rid)?, ports.iter().map(|p| small(p)).collect::<Result<_, _>>()?));
                Ok(())
            }
            ("mc_node_associate", [group, node]) => {
                let (group, node) = (small::<u32>(group)?, small::<usize>(node)?);
                let (rid, ports) = self.nodes.get(node).cloned().ok_or("there is no such node")?;
                let mut replicas = self.group(group)?;
                replicas.extend(ports.into_iter().map(|port| Replica { port, instance: rid }));
                self.write(Update::Modify(Entity::MulticastGroup(MulticastGroup {
                    group,
                    replicas,
                })))
            }
            ("register_write", [register, index, number_text]) => {
                let register = self.register(register)?;
                let cell = RegisterCell {
                    register,
                    index: Some(small(index)?),
                    value: value(&number(number_text)?),
                };
                self.write(Update::Modify(Entity::Register(cell)))
            }
            ("register_reset", [register]) => {
                let register = self.register(register)?;
                self.write(Update::Modify(Entity::Register(RegisterCell {
                    register,
                    index: None,
                    value: vec![0],
                })))
            }
            ("meter_set_rates", [meter, index, rates @ ..]) => self.meter(meter, Some(small(index)?), rates),
            ("meter_array_set_rates", [meter, rates @ ..]) => self.meter(meter, None, rates),
            ("counter_write", [counter, index, packets, bytes]) => {
                let names: Vec<&str> = self.info.counters.iter().map(|c| c.name.as_str()).collect();
                let counter = crate::control::CounterId(Self::find(&names, counter, "counter")? as u32);
                let data = CounterData {
                    packets: small(packets)?,
                    bytes: small(bytes)?,
                };
                self.write(Update::Modify(Entity::Counter(CounterCell {
                    counter,
                    index: Some(small(index)?),
                    data,
                })))
            }
            // What these print nobody compares.
            ("mirroring_get" | "register_read" | "counter_read" | "meter_get_rates", _) => Ok(()),
            (name, words) => Err(format!("{name} does not take {} words", words.len())),
        }
    }

    fn mirror(&self, session: u32, replicas: Vec<Replica>) -> Outcome {
        let session = CloneSession {
            session,
            replicas,
            class_of_service: 0,
            packet_length_bytes: 0,
        };
        let known = Query::CloneSessions {
            session: Some(session.session),
        };
        let mut exists = false;
        self.switch
            .read(&known, &mut |_| exists = true)
            .map_err(|e| e.to_string())?;
        let entity = Entity::CloneSession(session);
        self.write(if exists {
            Update::Modify(entity)
        } else {
            Update::Insert(entity)
        })
    }

    fn group(&self, group: u32) -> Result<Vec<Replica>, String> {
        let mut replicas = None;
        let mut visit = |entity| {
            if let Entity::MulticastGroup(group) = entity {
                replicas = Some(group.replicas);
            }
        };
        let query = Query::MulticastGroups { group: Some(group) };
        self.switch.read(&query, &mut visit).map_err(|e| e.to_string())?;
        replicas.ok_or_else(|| format!("there is no multicast group {group}"))
    }

    fn register(&self, name: &str) -> Result<crate::control::RegisterId, String> {
        let names: Vec<&str> = self.info.registers.iter().map(|r| r.name.as_str()).collect();
        Ok(crate::control::RegisterId(Self::find(&names, name, "register")? as u32))
    }

    /// Rates are in units per microsecond, with bursts: `RATE:BURST RATE:BURST`.
    fn meter(&self, meter: &str, index: Option<u64>, rates: &[&str]) -> Outcome {
        let names: Vec<&str> = self.info.meters.iter().map(|m| m.name.as_str()).collect();
        let meter = crate::control::MeterId(Self::find(&names, meter, "meter")? as u32);
        let mut pairs = Vec::new();
        for rate in rates {
            let (rate, burst) = rate.split_once(':').ok_or("expected RATE:BURST")?;
            let rate: f64 = rate.parse().map_err(|_| format!("{rate:?} is not a rate"))?;
            pairs.push(((rate * 1e6).round() as u64, small::<u64>(burst)?));
        }
        let [(cir, cburst), (pir, pburst)] = pairs[..] else {
            return Err("expected two rates".to_owned());
        };
        let config = Some(MeterConfig {
            cir,
            cburst,
            pir,
            pburst,
        });
        self.write(Update::Modify(Entity::Meter(MeterCell { meter, index, config })))
    }

    fn compare(&mut self, ports: &BTreeSet<u32>) -> Result<(), Failure> {
        self.pass(Duration::from_secs(2));
        for port in ports {
            let expected = self.expected.remove(port).unwrap_or_default();
            let got = self.got.remove(port).unwrap_or_default();
            for (index, (pattern, bytes)) in expected.iter().zip(&got).enumerate() {
                if let Some(pattern) = pattern
                    && !matches(pattern, bytes)
                {
                    let got = digits(bytes);
                    return Err(Failure::Differs {
                        port: *port,
                        index,
                        expected: pattern.clone(),
                        got,
                    });
                }
            }
            if expected.len() != got.len() {
                return Err(Failure::Count {
                    port: *port,
                    expected: expected.len(),
                    got: got.len(),
                });
            }
        }
        Ok(())
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// Whether a packet begins with the digits of a pattern; with `$`, and has no more.
fn matches(pattern: &str, bytes: &[u8]) -> bool {
    let (pattern, whole) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let got = digits(bytes);
    let same = |(p, g): (char, char)| p == '*' || p.eq_ignore_ascii_case(&g);
    got.len() >= pattern.len() && pattern.chars().zip(got.chars()).all(same) && (!whole || got.len() == pattern.len())
}
