//! Rule sets and traces in ClassBench's formats, so that anybody can bring other rules and other programs.
//!
//! ```text
//! filter   @198.51.100.0/24  192.0.2.7/32  0 : 65535  1024 : 2047  0x06/0xFF  0x0000/0x0200
//!          @source/length    destination   ports      ports        protocol   flags (not looked at)
//! trace    3325256704  3221225991  40000  1200  6  [..]  17
//!          source      destination ports        proto     the filter it was made for
//! ```
//! The order of the filters is their precedence. A trace's last column is the filter that the header was made from;
//! filters before it may match too, so that a result may differ from it rightly, but must never be a later one: that is
//! counted apart. Traces count filters from 0 or from 1; it is taken for what gives fewer later ones.
//!
//! With `--session-field` one address column is the session: it must be exact in every filter, and contestants with a
//! session stage have their turn.

use super::Effort;
use super::acl::AclTable;
use super::contest::{Change, Contestant, Global, PerSession};
use super::linear::LinearList;
use super::measure::{Traffic, check, make_changes, memory_in_use};
use super::ours::{Ours, pdrs};
use super::partition_sort::PartitionSort;
use super::population::Random;
use super::rule::{MISS, Packet, Rule, Session, Span, Tuple, oracle};
use super::tuple_merge::TupleMerge;
use super::tuple_space::TupleSpace;
use crate::figure::Figure;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};
use upf_host::dpdk::Eal;

/// The column that identifies the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SessionField {
    /// The source address.
    Sa,
    /// The destination address.
    Da,
    /// None: all filters are one session's.
    None,
}

/// Rules of one session may have these many.
const MOST_OURS: usize = 65_535;
/// The list is for small sets.
const LONGEST_LIST: usize = 20_000;
/// Filters that rte_acl builds in seconds.
const MOST_STATIC: usize = 20_000;

/// A filter set, cut into sessions.
struct Filters {
    sessions: Vec<(Session, Vec<Rule>)>,
    by_value: HashMap<u32, usize>,
    keyed: bool,
    /// Of each line: the session, and the rule's number in it.
    lines: Vec<(usize, u32)>,
}

/// Measures one filter set with one trace.
///
/// # Errors
/// A file cannot be read, or an answer is wrong.
pub fn run(
    (filters, trace): (&Path, &Path),
    field: SessionField,
    eal: Option<&Eal>,
    effort: Effort,
) -> Result<Vec<Figure>, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let filters = Filters::of(&read(filters)?, field).map_err(|error| format!("{}: {error}", filters.display()))?;
    let headers = headers(&read(trace)?, field).map_err(|error| format!("{}: {error}", trace.display()))?;
    println!(
        "{} filters of {} session(s), {} headers",
        filters.lines.len(),
        filters.sessions.len(),
        headers.len()
    );
    // The linear oracle over everything is what takes longest; it sees a part of the trace.
    let sample = (20_000_000 / filters.lines.len().max(1)).clamp(100, headers.len().max(100));
    let packets: Vec<Packet> = headers.iter().map(|(tuple, _)| filters.packet(*tuple, MISS)).collect();
    let checked: Vec<Packet> = packets
        .iter()
        .take(sample)
        .map(|p| filters.packet(p.tuple, filters.oracle(&p.tuple)))
        .collect();
    let mut traffic = Traffic::new(packets);

    let mut figures = Vec::new();
    for mut contestant in contestants(&filters, eal) {
        let contestant = &mut *contestant;
        let name = contestant.name().to_owned();
        let heap = memory_in_use();
        let start = Instant::now();
        let built = filters
            .sessions
            .iter()
            .try_for_each(|(session, rules)| contestant.insert(*session, rules));
        built
            .and_then(|()| contestant.settle())
            .map_err(|error| format!("{name}: {error}"))?;
        let build = start.elapsed();
        let bytes = memory_in_use().saturating_sub(heap) + contestant.foreign_bytes();
        check(contestant, &checked)?;
        let (differing, later) = filters.compare_with_trace(contestant, &headers);

        let mut params = json!({ "filters": filters.lines.len(), "sessions": filters.sessions.len() });
        let mut add = |what: &str, unit, values: Vec<f64>, more: Option<usize>| {
            if let Some(batch) = more {
                params["batch"] = batch.into();
            }
            figures.extend(Figure::of("classifier", (what, &name), params.clone(), unit, values));
        };
        let changes = filters.changes();
        let patience = Duration::from_millis(500);
        let updates = make_changes(&changes, patience, |change| contestant.replace(change))?;
        let undo: Vec<Change> = changes[..updates.made]
            .iter()
            .rev()
            .map(|c| filters.undone(c))
            .collect();
        make_changes(&undo, Duration::from_secs(3_600), |change| contestant.replace(change))?;
        check(contestant, &checked)?;
        add(
            "updates",
            "1/s",
            updates.times.iter().map(|ns| 1e9 / ns).collect(),
            None,
        );
        add("build", "s", vec![build.as_secs_f64()], None);
        add("memory", "B", vec![bytes as f64], None);
        add("results that differ from the trace", "", vec![differing as f64], None);
        add("results later than the trace's", "", vec![later as f64], None);
        for batch in [1, 32] {
            traffic.rewind();
            traffic.lookup(contestant, batch, effort.each);
            let times = (0..effort.repetitions).map(|_| traffic.lookup(contestant, batch, effort.each));
            add("lookups", "1/s", times.map(|ns| 1e9 / ns).collect(), Some(batch));
        }
        if later > 0 {
            println!("{name}: {later} results are later than the trace's filter");
        }
    }
    Ok(figures)
}

fn contestants(filters: &Filters, eal: Option<&Eal>) -> Vec<Box<dyn Contestant>> {
    let count = filters.lines.len();
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    let largest = filters.sessions.iter().map(|(_, rules)| rules.len()).max().unwrap_or(0);
    if largest <= MOST_OURS {
        contestants.push(Box::new(Ours::new(filters.keyed)));
    } else {
        println!(
            "left out: {}, a session of it has at most {MOST_OURS} rules",
            super::ours::NAME
        );
    }
    if count <= LONGEST_LIST {
        contestants.push(Box::new(Global::new("linear list", LinearList::default())));
    }
    contestants.push(Box::new(Global::new("PSTSS", TupleSpace::default())));
    contestants.push(Box::new(Global::new("TupleMerge", TupleMerge::default())));
    contestants.push(Box::new(Global::new("PartitionSort", PartitionSort::default())));
    if filters.keyed {
        contestants.push(Box::new(PerSession::new("linear list", LinearList::default)));
        contestants.push(Box::new(PerSession::new("PSTSS", TupleSpace::default)));
        contestants.push(Box::new(PerSession::new("TupleMerge", TupleMerge::default)));
        contestants.push(Box::new(PerSession::new("PartitionSort", PartitionSort::default)));
    }
    match eal {
        Some(eal) if count <= MOST_STATIC && !filters.keyed => {
            contestants.push(Box::new(Global::new_static(
                "rte_acl (static)",
                AclTable::new(eal.clone()),
            )));
        }
        _ => println!("left out: rte_acl (not available, session field, or minutes to build)"),
    }
    contestants
}

impl Filters {
    fn of(text: &str, field: SessionField) -> Result<Self, String> {
        let keyed = field != SessionField::None;
        let mut filters = Self {
            sessions: Vec::new(),
            by_value: HashMap::new(),
            keyed,
            lines: Vec::new(),
        };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let located = |error: &str| format!("line {}: {error}", index + 1);
            let mut spans = filter(line).ok_or_else(|| {
                located("expected @source/length destination/length low : high low : high protocol/mask")
            })?;
            if field == SessionField::Da {
                spans.swap(0, 1);
                spans.swap(2, 3);
            }
            if keyed && !spans[0].is_exact() {
                return Err(located(
                    "expected an exact address in the session's column; see --session-field none",
                ));
            }
            let value = if keyed { spans[0].low } else { 0 };
            let id = filters.sessions.len();
            let at = *filters.by_value.entry(value).or_insert(id);
            if at == id {
                filters.sessions.push((Session { id: id as u32, value }, Vec::new()));
            }
            let rules = &mut filters.sessions[at].1;
            let number = rules.len() as u32;
            rules.push(Rule {
                spans,
                precedence: filters.lines.len() as u32,
                number,
            });
            filters.lines.push((at, number));
        }
        Ok(filters)
    }

    fn session_of(&self, tuple: &Tuple) -> Option<usize> {
        self.by_value.get(if self.keyed { &tuple[0] } else { &0 }).copied()
    }

    fn packet(&self, tuple: Tuple, expected: u32) -> Packet {
        let nobody = Session {
            id: u32::MAX,
            value: if self.keyed { tuple[0] } else { 0 },
        };
        Packet::new(
            self.session_of(&tuple).map_or(nobody, |at| self.sessions[at].0),
            tuple,
            expected,
        )
    }

    fn oracle(&self, tuple: &Tuple) -> u32 {
        self.session_of(tuple)
            .map_or(MISS, |at| oracle(&self.sessions[at].1, tuple))
    }

    /// How many results differ from the trace's filter, and how many of them come after it.
    fn compare_with_trace(&self, contestant: &mut dyn Contestant, headers: &[(Tuple, u64)]) -> (usize, usize) {
        let mut lines: HashMap<(usize, u32), u64> = HashMap::new();
        lines.extend(self.lines.iter().copied().zip(0u64..));
        let results: Vec<Option<u64>> = headers
            .iter()
            .map(|(tuple, _)| {
                let mut answer = [0];
                contestant.lookup(&[self.packet(*tuple, MISS)], &mut answer);
                lines.get(&(self.session_of(tuple)?, answer[0])).copied()
            })
            .collect();
        let count = |first: u64| {
            let traced = headers.iter().map(|(_, line)| line.checked_sub(first));
            let pairs: Vec<_> = results.iter().copied().zip(traced).collect();
            let differing = pairs.iter().filter(|(result, traced)| result != traced).count();
            let later =
                |(result, traced): &&(Option<u64>, Option<u64>)| result.is_none_or(|r| traced.is_some_and(|t| r > t));
            (differing, pairs.iter().filter(later).count())
        };
        let (from_zero, from_one) = (count(0), count(1));
        if (from_one.1, from_one.0) < (from_zero.1, from_zero.0) {
            from_one
        } else {
            from_zero
        }
    }

    /// Random rules that get another port, and their own again.
    fn changes(&self) -> Vec<Change> {
        let largest = self.sessions.iter().map(|(_, rules)| rules.len()).max().unwrap_or(1);
        let mut random = Random(0xcb);
        let mut seen = HashSet::new();
        let count = (1_000_000 / largest).clamp(4, 2_000);
        let mut lines: Vec<usize> = (0..count)
            .map(|_| random.below(self.lines.len() as u32) as usize)
            .collect();
        // What is undone in any order has to be changed once: the session, or with one session for all, the rule.
        lines.retain(|line| seen.insert(if self.keyed { self.lines[*line].0 } else { *line }));
        lines.into_iter().map(|line| self.change(line, &mut random)).collect()
    }

    fn change(&self, line: usize, random: &mut Random) -> Change {
        let (at, number) = self.lines[line];
        let (session, rules) = &self.sessions[at];
        let before = rules[number as usize];
        let mut after = before;
        after.spans[3] = Span::exact(random.below(0x1_0000));
        let mut changed = rules.clone();
        changed[number as usize] = after;
        Change {
            session: *session,
            before,
            after,
            pdrs: pdrs(self.keyed, *session, &changed),
        }
    }

    fn undone(&self, change: &Change) -> Change {
        let rules = &self.sessions[change.session.id as usize].1;
        let pdrs = pdrs(self.keyed, change.session, rules);
        Change {
            session: change.session,
            before: change.after,
            after: change.before,
            pdrs,
        }
    }
}

fn filter(line: &str) -> Option<[Span; 5]> {
    let line = line.trim().strip_prefix('@')?;
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || c == ':')
        .filter(|w| !w.is_empty())
        .collect();
    let [source, destination, a, b, c, d, protocol, ..] = words[..] else {
        return None;
    };
    let prefix = |text: &str| {
        let (address, length) = text.split_once('/')?;
        let length = length.parse().ok().filter(|length| *length <= 32)?;
        Some(Span::prefix(address.parse::<Ipv4Addr>().ok()?.to_bits(), length))
    };
    let ports = |low: &str, high: &str| {
        let (low, high) = (low.parse::<u16>().ok()?.into(), high.parse::<u16>().ok()?.into());
        (low <= high).then_some(Span { low, high })
    };
    let hexadecimal = |text: &str| u32::from_str_radix(text.trim_start_matches("0x").trim_start_matches("0X"), 16).ok();
    let (number, mask) = protocol.split_once('/')?;
    let protocol = match (hexadecimal(number)?, hexadecimal(mask)?) {
        (_, 0) => Span::PROTOCOL,
        (number @ 0..=0xff, 0xff) => Span::exact(number),
        _ => return None,
    };
    Some([
        prefix(source)?,
        prefix(destination)?,
        ports(a, b)?,
        ports(c, d)?,
        protocol,
    ])
}

fn headers(text: &str, field: SessionField) -> Result<Vec<(Tuple, u64)>, String> {
    let header = |line: &str| {
        let numbers: Option<Vec<u64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        let numbers = numbers?;
        let [a, b, c, d, e, .., line] = numbers[..] else {
            return None;
        };
        let mut tuple = [a, b, c, d, e].map(|n| u32::try_from(n).ok());
        if field == SessionField::Da {
            tuple.swap(0, 1);
            tuple.swap(2, 3);
        }
        let [
            Some(a),
            Some(b),
            Some(c @ 0..=0xffff),
            Some(d @ 0..=0xffff),
            Some(e @ 0..=0xff),
        ] = tuple
        else {
            return None;
        };
        Some(([a, b, c, d, e], line))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let expected = |index: usize| {
        format!(
            "line {}: expected source, destination, ports, protocol, filter number",
            index + 1
        )
    };
    let headers: Vec<_> = lines
        .map(|(index, line)| header(line).ok_or_else(|| expected(index)))
        .collect::<Result<_, _>>()?;
    if headers.is_empty() {
        Err("no headers".to_owned())
    } else {
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: &str = "@198.51.100.0/24\t192.0.2.7/32\t0 : 65535\t1024 : 2047\t0x06/0xFF\t0x0000/0x0200\n\
                           @0.0.0.0/0\t192.0.2.7/32\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\n";

    #[test]
    fn filters_and_headers_are_read_with_the_session_in_either_column() {
        let filters = Filters::of(FILTERS, SessionField::Da).unwrap();
        assert_eq!((filters.sessions.len(), filters.sessions[0].1.len()), (1, 2));
        let headers = headers("3325256706 3221225991 40000 1200 6 0 1\n", SessionField::Da).unwrap();
        assert_eq!(headers[0].0, [0xc000_0207, 0xc633_6402, 1200, 40_000, 6]);
        assert_eq!(filters.oracle(&headers[0].0), 0);
        assert_eq!(
            Filters::of(FILTERS, SessionField::Sa).err().unwrap(),
            "line 1: expected an exact address in the session's column; see --session-field none"
        );
    }
}
