//! The tables of a document, made from records: prose is written by hand, figures are not.
//!
//! ```text
//!   <!-- figures: host: packets per core; time per packet -->      figures of one suite by name; without names, all
//!   | ... |
//!   <!-- end -->
//!   <!-- subjects: classifier: lookup; batch 32 -->                one figure by circumstances, a column for each subject
//!   <!-- run: host -->                                             machine, date, commit, load of that suite's run
//! ```
//! A table has a row for each figure that is not a limit; the limit and the share of it stand in its row. Parameters
//! that are the same in all rows stand above the table.

use super::Record;
use super::table::{as_text, rounded};
use crate::figure::Figure;
use serde_json::Value;
use std::fmt::Write;

const FIGURES: &str = "<!-- figures:";
const SUBJECTS: &str = "<!-- subjects:";
const RUN: &str = "<!-- run:";
const CLOSE: &str = "-->";
const END: &str = "<!-- end -->";

/// What is wrong with a document.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A marker without its end.
    #[error("line {line}: expected {END} after {marker:?}, found none")]
    NoEnd {
        /// Of the marker, from 1.
        line: usize,
        /// As it stands there.
        marker: String,
    },
    /// Nothing to put there.
    #[error("line {line}: expected figures for {marker:?} in the records, found none")]
    NoFigures {
        /// Of the marker, from 1.
        line: usize,
        /// As it stands there.
        marker: String,
    },
}

/// The document with what is between its markers made anew.
///
/// # Errors
/// A marker has no end, or the records have nothing for it.
pub fn renew(document: &str, records: &[Record]) -> Result<String, DocumentError> {
    let mut renewed = String::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let _ = writeln!(renewed, "{line}");
        let place = || (number + 1, line.to_owned());
        let made = if let Some(what) = marker(line, FIGURES) {
            figures(what, records)
        } else if let Some(what) = marker(line, SUBJECTS) {
            subjects(what, records)
        } else if let Some(suite) = marker(line, RUN) {
            run(suite, records)
        } else {
            continue;
        };
        let (line, marker) = place();
        renewed += &made.ok_or(DocumentError::NoFigures {
            line,
            marker: marker.clone(),
        })?;
        if !lines.any(|(_, line)| line.trim() == END) {
            return Err(DocumentError::NoEnd { line, marker });
        }
        let _ = writeln!(renewed, "{END}");
    }
    Ok(renewed)
}

fn marker<'l>(line: &'l str, kind: &str) -> Option<&'l str> {
    Some(line.trim().strip_prefix(kind)?.strip_suffix(CLOSE)?.trim())
}

/// The newest record with this suite.
fn of_suite<'r>(suite: &str, records: &'r [Record]) -> Option<&'r Record> {
    let with = records.iter().filter(|r| r.runs.iter().any(|run| run.suite == suite));
    with.max_by_key(|r| r.runs.iter().find(|run| run.suite == suite).map(|run| &run.date))
}

fn run(suite: &str, records: &[Record]) -> Option<String> {
    let record = of_suite(suite, records)?;
    let run = record.runs.iter().find(|run| run.suite == suite)?;
    let command = [&["bench".to_owned(), suite.to_owned()], run.settings.as_slice()]
        .concat()
        .join(" ");
    let [before, after] = run.load_average;
    Some(format!(
        "`{command}`, {}, commit {}, {:.0} s, load average {before:.1} before and {after:.1} after; {}.\n",
        run.date,
        run.commit,
        run.seconds,
        record.machine.in_words()
    ))
}

fn figures(what: &str, records: &[Record]) -> Option<String> {
    let (suite, names) = what.split_once(':').unwrap_or((what, ""));
    let names: Vec<&str> = names.split(';').map(str::trim).filter(|n| !n.is_empty()).collect();
    let record = of_suite(suite.trim(), records)?;
    let wanted = |f: &&Figure| {
        let named = names.is_empty() && !f.is_bar() || names.contains(&f.name.as_str());
        f.suite == suite.trim() && named && (!f.is_limit() || f.is_bar())
    };
    let mut rows: Vec<&Figure> = record.figures.iter().filter(wanted).collect();
    // In the order in which they were asked for.
    rows.sort_by_key(|f| names.iter().position(|n| *n == f.name));
    if rows.is_empty() {
        return None;
    }
    Some(if rows.iter().all(|f| f.is_bar()) {
        bars(&rows)
    } else {
        table(&rows)
    })
}

/// A row for each circumstance of a figure, a column for each subject.
fn subjects(what: &str, records: &[Record]) -> Option<String> {
    let (suite, rest) = what.split_once(':')?;
    let mut parts = rest.split(';').map(str::trim);
    let name = parts.next()?;
    let conditions: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once(' ')).collect();
    let record = of_suite(suite.trim(), records)?;
    let meets = |f: &Figure| conditions.iter().all(|(key, value)| cell(&f.params[*key]) == *value);
    let wanted = |f: &&Figure| f.suite == suite.trim() && f.name == name && meets(f);
    let figures: Vec<&Figure> = record.figures.iter().filter(wanted).collect();
    let first = figures.first()?;
    let keys = first.params.as_object()?.keys().map(String::as_str);
    let keys: Vec<&str> = keys.filter(|key| conditions.iter().all(|(of, _)| of != key)).collect();
    let (mut columns, mut rows): (Vec<&str>, Vec<&Value>) = (Vec::new(), Vec::new());
    for figure in &figures {
        if !columns.contains(&figure.subject.as_str()) {
            columns.push(&figure.subject);
        }
        if !rows.contains(&&figure.params) {
            rows.push(&figure.params);
        }
    }
    let caption: Vec<String> = conditions
        .iter()
        .map(|(key, value)| format!(", {key} {value}"))
        .collect();
    let mut text = format!("{name}, {}{}:\n\n", first.unit, caption.concat());
    let head = [keys.as_slice(), columns.as_slice()].concat().join(" | ");
    let rule = ["---"]
        .repeat(keys.len())
        .into_iter()
        .chain(["---:"].repeat(columns.len()));
    let _ = writeln!(text, "| {head} |\n| {} |", rule.collect::<Vec<_>>().join(" | "));
    for params in rows {
        let mut cells: Vec<String> = keys.iter().map(|key| cell(&params[*key])).collect();
        cells.extend(columns.iter().map(|subject| {
            let of = figures.iter().find(|f| f.subject == *subject && f.params == *params);
            of.map_or_else(|| "-".to_owned(), |f| rounded(f.value))
        }));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    Some(text)
}

fn bars(rows: &[&Figure]) -> String {
    let mut text = String::from("| must hold | bound | measured | |\n| --- | --- | ---: | --- |\n");
    for bar in rows {
        let holds = if bar.params["holds"] == true {
            "holds"
        } else {
            "**fails**"
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} {} | {holds} |",
            bar.subject,
            as_text(&bar.params["bound"]),
            rounded(bar.value),
            bar.unit
        );
    }
    text
}

fn table(rows: &[&Figure]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for key in rows
        .iter()
        .flat_map(|f| f.params.as_object().into_iter().flatten().map(|(k, _)| k.as_str()))
    {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let (fixed, varying): (Vec<&str>, Vec<&str>) = keys
        .into_iter()
        .partition(|key| rows.iter().all(|f| f.params[*key] == rows[0].params[*key]));
    let several = |of: fn(&Figure) -> &str| rows.iter().any(|f| of(f) != of(rows[0]));
    let (names, subjects) = (several(|f| &f.name), several(|f| &f.subject));
    let units = several(|f| &f.unit);
    let limits = rows.iter().any(|f| f.limit.is_some());

    let mut text = String::new();
    let mut caption: Vec<String> = fixed
        .iter()
        .map(|key| format!("{key} {}", cell(&rows[0].params[*key])))
        .collect();
    if !subjects {
        caption.insert(0, rows[0].subject.clone());
    }
    if !names {
        caption.insert(0, rows[0].name.clone());
    }
    let mut runs: Vec<usize> = rows.iter().map(|f| f.runs).collect();
    runs.sort_unstable();
    let (fewest, most) = (runs[0], runs[runs.len() - 1]);
    caption.push(if fewest == most {
        format!("runs {fewest}")
    } else {
        format!("runs {fewest} to {most}")
    });
    let _ = writeln!(text, "{}:\n", caption.join(", "));

    let mut head: Vec<String> = Vec::new();
    head.extend(names.then(|| "figure".to_owned()));
    head.extend(varying.iter().map(|key| (*key).to_owned()));
    head.extend(subjects.then(|| "of".to_owned()));
    let left = head.len();
    let unit = if units || rows[0].unit.is_empty() {
        String::new()
    } else {
        format!(", {}", rows[0].unit)
    };
    head.extend([format!("median{unit}"), "least to greatest".to_owned()]);
    if limits {
        head.extend(["limit".to_owned(), "share of it".to_owned()]);
    }
    let rule: Vec<&str> = (0..head.len()).map(|i| if i < left { "---" } else { "---:" }).collect();
    let _ = writeln!(text, "| {} |\n| {} |", head.join(" | "), rule.join(" | "));
    for f in rows {
        let mut cells: Vec<String> = Vec::new();
        cells.extend(names.then(|| f.name.clone()));
        cells.extend(varying.iter().map(|key| cell(&f.params[*key])));
        cells.extend(subjects.then(|| f.subject.clone()));
        let unit = if units && !f.unit.is_empty() {
            format!(" {}", f.unit)
        } else {
            String::new()
        };
        let [least, greatest] = f.spread.map(rounded);
        cells.push(rounded(f.value) + &unit);
        cells.push(if f.runs == 1 {
            String::new()
        } else {
            format!("{least} to {greatest}")
        });
        if limits {
            cells.push(f.limit.map_or_else(String::new, rounded));
            cells.push(f.ratio.map_or_else(String::new, rounded));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        other => as_text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Bound, beside_limits};
    use crate::record::{Begun, sources};
    use serde_json::json;
    use std::path::PathBuf;

    fn record() -> Record {
        let of = |name: &str, subject: &str, sessions: u32, runs: &[f64]| {
            let params = json!({ "direction": "uplink", "sessions": sessions });
            Figure::of("host", (name, subject), params, "Mpps", runs.to_vec()).unwrap()
        };
        let mut figures = vec![
            of("packets per core", "upf-host", 1, &[9.0, 10.0, 11.0]),
            of("packets per core", "no UPF work (limit)", 1, &[40.0]),
            of("packets per core", "upf-host", 10_000, &[5.0, 5.0, 5.0]),
        ];
        figures.extend(Figure::bar(
            "host",
            "Mpps with one session",
            Bound::AtLeast(10.0),
            10.0,
            "Mpps",
            "",
        ));
        beside_limits(&mut figures);
        Record::new(vec![Begun::now("host", vec!["--quick".into()]).end()], figures)
    }

    #[test]
    fn what_is_between_markers_is_made_anew_and_what_is_around_them_stays() {
        let document = "prose\n<!-- figures: host: packets per core -->\nold\n<!-- end -->\nmore prose\n";
        let renewed = renew(document, &[record()]).unwrap();
        assert_eq!(
            renewed,
            "prose\n<!-- figures: host: packets per core -->\n\
             packets per core, upf-host, direction uplink, runs 3:\n\n\
             | sessions | median, Mpps | least to greatest | limit | share of it |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | 1 | 10.0 | 9.00 to 11.0 | 40.0 | 0.250 |\n\
             | 10,000 | 5.00 | 5.00 to 5.00 |  |  |\n\
             <!-- end -->\nmore prose\n"
        );
        assert_eq!(renew(&renewed, &[record()]).unwrap(), renewed);
    }

    #[test]
    fn bars_have_a_table_of_their_own_and_a_run_is_told_in_a_sentence() {
        let document = "<!-- figures: host: bar -->\n<!-- end -->\n<!-- run: host -->\n<!-- end -->\n";
        let renewed = renew(document, &[record()]).unwrap();
        assert!(
            renewed.contains("| Mpps with one session | at least 10 | 10.0 Mpps | holds |"),
            "{renewed}"
        );
        assert!(renewed.contains("`bench host --quick`, 20"), "{renewed}");
    }

    #[test]
    fn subjects_stand_side_by_side() {
        let document = "<!-- subjects: host: packets per core; direction uplink -->\n<!-- end -->\n";
        let renewed = renew(document, &[record()]).unwrap();
        assert!(
            renewed.contains(
                "packets per core, Mpps, direction uplink:\n\n\
                 | sessions | upf-host | no UPF work (limit) |\n\
                 | --- | ---: | ---: |\n\
                 | 1 | 10.0 | 40.0 |\n\
                 | 10,000 | 5.00 | - |\n"
            ),
            "{renewed}"
        );
    }

    #[test]
    fn a_marker_without_end_or_without_figures_is_an_error_with_its_line() {
        let error = renew("a\n<!-- figures: host -->\n", &[record()]).unwrap_err();
        assert!(matches!(error, DocumentError::NoEnd { line: 2, .. }), "{error}");
        let error = renew("<!-- figures: scale -->\n<!-- end -->\n", &[record()]).unwrap_err();
        assert!(matches!(error, DocumentError::NoFigures { line: 1, .. }), "{error}");
    }

    #[test]
    fn the_performance_document_is_what_the_committed_records_give() {
        let records = super::super::kept().unwrap();
        let path: PathBuf = sources().join("docs/PERFORMANCE.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let renewed = renew(&document, &records).unwrap();
        assert!(document == renewed, "out of date: run `cargo run -p bench -- report`");
    }
}
