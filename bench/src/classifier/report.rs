//! The figures of one combination as a table: a row for each contestant.

use crate::figure::Figure;

/// A column: what it is called, the figure it is of, and of a lookup the traffic and the batch.
type Column = (&'static str, &'static str, Option<(&'static str, u64)>);

const COLUMNS: [Column; 10] = [
    ("uni/32 ns", "lookup", Some(("uniform", 32))),
    ("uni/1 ns", "lookup", Some(("uniform", 1))),
    ("zipf/32 ns", "lookup", Some(("zipf", 32))),
    ("zipf/1 ns", "lookup", Some(("zipf", 1))),
    ("replace ns", "replace a rule", None),
    ("prec. ns", "change a precedence", None),
    ("p. pushed", "change a precedence, pushed", None),
    ("p. few ns", "change a precedence, few sessions", None),
    ("p. first ns", "change a precedence, first of a session", None),
    ("B/session", "memory of a session", None),
];

/// Prints them.
pub fn print_cell(figures: &[Figure]) {
    let mut subjects: Vec<&str> = Vec::new();
    for figure in figures {
        if !subjects.contains(&figure.subject.as_str()) {
            subjects.push(&figure.subject);
        }
    }
    let head: String = COLUMNS.iter().map(|(title, ..)| format!(" {title:>11}")).collect();
    println!("  {:32}{head}", "");
    for subject in subjects {
        let cells: String = COLUMNS
            .iter()
            .map(|(_, name, how)| {
                let value = figures
                    .iter()
                    .find(|f| f.subject == subject && f.name == *name && is_how(f, *how));
                value.map_or_else(
                    || format!(" {:>11}", "-"),
                    |figure| format!(" {:>11}", short(figure.value)),
                )
            })
            .collect();
        println!("  {subject:32}{cells}");
    }
}

fn is_how(figure: &Figure, how: Option<(&str, u64)>) -> bool {
    how.is_none_or(|(traffic, batch)| figure.params["traffic"] == traffic && figure.params["batch"] == batch)
}

/// Three digits, and the unit if it is large.
fn short(value: f64) -> String {
    match value {
        v if v < 100.0 => format!("{v:.1}"),
        v if v < 100_000.0 => format!("{v:.0}"),
        v if v < 1e8 => format!("{:.0}k", v / 1e3),
        v => format!("{:.0}M", v / 1e6),
    }
}
