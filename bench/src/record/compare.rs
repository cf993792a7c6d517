//! Two records side by side: what got faster or slower, beyond what the runs of each differ among themselves.
//!
//! A figure has *moved* if the spreads of its runs do not touch and the medians lie further apart than a floor: 2 %, or
//! 10 % where there was one run on either side, whose spread says nothing. A figure that has a limit has only moved if
//! its share of the limit has moved the same way too: what became slower together with the bare machine did not become
//! slower by our doing.

use super::Record;
use super::table::{as_text, rounded};
use crate::figure::{Better, Figure};
use std::fmt::Write;

/// Medians of several runs that are nearer than this are the same.
const FLOOR: f64 = 0.02;
/// The same where one of them is of a single run.
const FLOOR_OF_ONE: f64 = 0.10;

/// What became of the figures.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// Old, new.
    pub slower: Vec<(Figure, Figure)>,
    /// Old, new.
    pub faster: Vec<(Figure, Figure)>,
    /// Within the noise, or together with their limit.
    pub same: usize,
    /// In one of the two only.
    pub unmatched: usize,
}

impl Comparison {
    /// Of what is in both. Limits, bars and the machine's own figures are nobody's merit.
    pub fn of(old: &Record, new: &Record) -> Self {
        let mut comparison = Self::default();
        let counts = |f: &&Figure| !f.is_limit() && f.better().is_some();
        for new in new.figures.iter().filter(counts) {
            let Some(old) = old.figures.iter().find(|old| is_same(old, new)) else {
                comparison.unmatched += 1;
                continue;
            };
            match verdict(old, new) {
                Some(true) => comparison.faster.push((old.clone(), new.clone())),
                Some(false) => comparison.slower.push((old.clone(), new.clone())),
                None => comparison.same += 1,
            }
        }
        let gone = |f: &&Figure| !new.figures.iter().any(|new| is_same(f, new));
        comparison.unmatched += old.figures.iter().filter(counts).filter(gone).count();
        comparison
    }

    /// For a terminal.
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for (title, figures) in [("Slower", &self.slower), ("Faster", &self.faster)] {
            if !figures.is_empty() {
                let _ = writeln!(text, "{title}:");
            }
            for (old, new) in figures {
                let _ = writeln!(text, "  {}", line(old, new));
            }
        }
        let _ = writeln!(
            text,
            "{} slower, {} faster, {} within the noise, {} in one record only",
            self.slower.len(),
            self.faster.len(),
            self.same,
            self.unmatched
        );
        text
    }
}

fn line(old: &Figure, new: &Figure) -> String {
    let params = new.params.as_object().into_iter().flatten();
    let params: String = params.map(|(k, v)| format!(", {k} {}", as_text(v))).collect();
    let change = if old.value == 0.0 {
        String::new()
    } else {
        format!(" ({:+.1} %)", 100.0 * (new.value / old.value - 1.0))
    };
    format!(
        "{}: {}, {}{params}: {} -> {} {}{change}",
        new.suite,
        new.name,
        new.subject,
        rounded(old.value),
        rounded(new.value),
        new.unit
    )
}

fn is_same(a: &Figure, b: &Figure) -> bool {
    (&a.suite, &a.name, &a.subject, &a.unit, &a.params) == (&b.suite, &b.name, &b.subject, &b.unit, &b.params)
}

/// Whether it became better; `None`: neither better nor worse.
fn verdict(old: &Figure, new: &Figure) -> Option<bool> {
    let higher = moved(old, new, 1.0, 1.0)?;
    if let (Some(of_old), Some(of_new)) = (limit(old), limit(new))
        && moved(old, new, of_old, of_new) != Some(higher)
    {
        return None;
    }
    Some(higher == (new.better()? == Better::Higher))
}

fn limit(figure: &Figure) -> Option<f64> {
    figure.limit.filter(|&limit| limit > 0.0)
}

/// Whether the value, in these units, went up (or down); `None`: it stayed.
fn moved(old: &Figure, new: &Figure, of_old: f64, of_new: f64) -> Option<bool> {
    let floor = if old.runs == 1 || new.runs == 1 {
        FLOOR_OF_ONE
    } else {
        FLOOR
    };
    let (before, after) = (old.value / of_old, new.value / of_new);
    let ([least_before, greatest_before], [least_after, greatest_after]) =
        (old.spread.map(|v| v / of_old), new.spread.map(|v| v / of_new));
    let far = (after - before).abs() > floor * before.abs();
    match () {
        () if far && least_after > greatest_before => Some(true),
        () if far && greatest_after < least_before => Some(false),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::machine::Machine;
    use serde_json::json;

    fn figure(name: &str, unit: &str, runs: &[f64], limit: Option<f64>) -> Figure {
        let figure = Figure::of("s", (name, "ours"), json!({ "sessions": 1 }), unit, runs.to_vec()).unwrap();
        let ratio = limit.map(|limit| figure.value / limit);
        Figure { limit, ratio, ..figure }
    }

    fn compared(old: Figure, new: Figure) -> (usize, usize) {
        let record = |figure| Record {
            machine: Machine::this(),
            runs: Vec::new(),
            figures: vec![figure],
        };
        let comparison = Comparison::of(&record(old), &record(new));
        (comparison.slower.len(), comparison.faster.len())
    }

    #[test]
    fn a_rate_that_fell_below_all_former_runs_is_slower_and_a_time_that_fell_is_faster() {
        let (old, new) = ([9.8, 10.0, 10.2], [8.8, 9.0, 9.2]);
        assert_eq!(
            compared(figure("rate", "Mpps", &old, None), figure("rate", "Mpps", &new, None)),
            (1, 0)
        );
        assert_eq!(
            compared(figure("time", "ns", &old, None), figure("time", "ns", &new, None)),
            (0, 1)
        );
    }

    #[test]
    fn runs_that_overlap_or_differ_by_less_than_two_per_cent_are_the_same() {
        let old = figure("rate", "Mpps", &[9.0, 10.0, 11.0], None);
        assert_eq!(
            compared(old.clone(), figure("rate", "Mpps", &[8.0, 8.5, 9.1], None)),
            (0, 0)
        );
        let exact = figure("rate", "Mpps", &[10.0, 10.0, 10.0], None);
        assert_eq!(compared(exact, figure("rate", "Mpps", &[9.9, 9.9, 9.9], None)), (0, 0));
    }

    #[test]
    fn a_single_run_must_differ_by_more_than_ten_per_cent() {
        let old = figure("memory of a session", "B", &[1_000.0], None);
        assert_eq!(
            compared(old.clone(), figure("memory of a session", "B", &[1_090.0], None)),
            (0, 0)
        );
        assert_eq!(
            compared(old, figure("memory of a session", "B", &[1_200.0], None)),
            (1, 0)
        );
    }

    #[test]
    fn what_became_slower_together_with_the_bare_machine_is_the_same() {
        let old = figure("rate", "Mpps", &[10.0, 10.0], Some(40.0));
        assert_eq!(
            compared(old.clone(), figure("rate", "Mpps", &[5.0, 5.0], Some(20.0))),
            (0, 0)
        );
        assert_eq!(compared(old, figure("rate", "Mpps", &[5.0, 5.0], Some(40.0))), (1, 0));
    }

    #[test]
    fn what_is_in_one_record_only_is_said_to_be() {
        let of = |name| Record {
            machine: Machine::this(),
            runs: Vec::new(),
            figures: vec![figure(name, "Mpps", &[1.0], None)],
        };
        let comparison = Comparison::of(&of("old"), &of("new"));
        assert_eq!((comparison.unmatched, comparison.slower.len()), (2, 0));
    }
}
