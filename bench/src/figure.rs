//! A measured figure, and the two forms every suite writes its figures in: JSON for machines, a table for people.

use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// One measured value. A comparison or a limit is another `subject` with the same `name` and `params`.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The suite, such as `ipc`.
    pub suite: &'static str,
    /// What was measured.
    pub name: String,
    /// Whose it is.
    pub subject: String,
    /// Under which circumstances.
    pub params: serde_json::Value,
    /// The median of the repetitions.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// Least and greatest of the repetitions.
    pub spread: [f64; 2],
}

impl Figure {
    /// The figure of several repetitions: their median, and how far they lie apart. `None` without repetitions.
    pub fn of(
        suite: &'static str,
        (name, subject): (&str, &str),
        params: serde_json::Value,
        unit: &'static str,
        mut repetitions: Vec<f64>,
    ) -> Option<Self> {
        repetitions.sort_by(f64::total_cmp);
        let (&least, &greatest) = (repetitions.first()?, repetitions.last()?);
        let value = repetitions[repetitions.len() / 2];
        let (name, subject) = (name.to_owned(), subject.to_owned());
        Some(Self {
            suite,
            name,
            subject,
            params,
            value,
            unit,
            spread: [least, greatest],
        })
    }
}

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    profile: &'static str,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            // Not those that this process is held to.
            cpus: cpuinfo.lines().filter(|l| l.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        }
    }
}

/// Writes `{"machine": ..., "figures": [...]}`.
pub fn write_json(path: &Path, figures: &[Figure]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let report = serde_json::json!({ "machine": Machine::this(), "figures": figures });
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    serde_json::to_writer_pretty(&mut file, &report)?;
    writeln!(file)?;
    file.flush()
}

/// Prints the figures, those with the same name and parameters together.
pub fn print_table(figures: &[Figure]) {
    let width = figures.iter().map(|f| f.subject.chars().count()).max().unwrap_or(0);
    let mut printed: Vec<(&str, &serde_json::Value)> = Vec::new();
    for first in figures {
        let group = (first.name.as_str(), &first.params);
        if printed.contains(&group) {
            continue;
        }
        printed.push(group);
        println!("\n{}{}", first.name, in_words(&first.params));
        for f in figures.iter().filter(|f| (f.name.as_str(), &f.params) == group) {
            let [least, greatest] = f.spread.map(rounded);
            println!(
                "  {:width$}  {:>12} {}  ({least} to {greatest})",
                f.subject,
                rounded(f.value),
                f.unit
            );
        }
    }
}

/// `, sessions 1, bytes 900`.
fn in_words(params: &serde_json::Value) -> String {
    let Some(params) = params.as_object() else {
        return String::new();
    };
    params
        .iter()
        .map(|(k, v)| format!(", {k} {}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
        .collect()
}

/// Three significant digits, thousands apart.
fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if magnitude < 2 {
        return format!("{value:.*}", usize::try_from(2 - magnitude).unwrap_or(0).min(6));
    }
    let step = 10f64.powi(magnitude - 2);
    let digits = format!("{:.0}", (value / step).round() * step);
    let mut grouped = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && c.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_repetitions_with_their_extremes() {
        let figure = Figure::of("s", ("n", "x"), serde_json::json!({}), "ns", vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figure.value, figure.spread), (2.0, [1.0, 3.0]));
        assert!(Figure::of("s", ("n", "x"), serde_json::json!({}), "ns", vec![]).is_none());
    }

    #[test]
    fn three_digits_are_shown() {
        let shown = [0.012_345, 1.234_5, 12.345, 123.45, 1_234.5, 1_234_567.0].map(rounded);
        assert_eq!(shown, ["0.0123", "1.23", "12.3", "123", "1,230", "1,230,000"]);
    }
}
