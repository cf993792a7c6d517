//! Figures as pictures: one SVG file for each suite and name, a bar for each figure with a line from the least to the
//! greatest of its runs. SVG is text, which every browser and document shows, and needs no crate.

use super::table::{as_text, rounded};
use crate::figure::Figure;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Height of a row, width of the labels, of the bars, and of the values behind them.
const ROW: usize = 22;
const LABELS: usize = 430;
const BARS: usize = 420;
const VALUES: usize = 170;
const HEAD: usize = 40;
/// Ours, and what it is compared with.
const OURS: &str = "#1f618d";
const LIMITS: &str = "#b0b0b0";
/// More bars than this nobody looks at.
const MOST: usize = 80;

/// Writes a picture for each name; their paths.
///
/// # Errors
/// A file cannot be written.
pub fn write(directory: &Path, figures: &[Figure]) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let mut done: Vec<(&str, &str)> = Vec::new();
    let mut paths = Vec::new();
    for first in figures.iter().filter(|f| !f.is_bar()) {
        let group = (first.suite.as_str(), first.name.as_str());
        if done.contains(&group) {
            continue;
        }
        done.push(group);
        let of_group: Vec<&Figure> = figures
            .iter()
            .filter(|f| (f.suite.as_str(), f.name.as_str()) == group)
            .take(MOST)
            .collect();
        let path = directory.join(format!("{}-{}.svg", group.0, file_name(group.1)));
        std::fs::write(&path, svg(&of_group))?;
        paths.push(path);
    }
    Ok(paths)
}

fn file_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).collect();
    name.split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// Figures of one name; there is at least one.
fn svg(figures: &[&Figure]) -> String {
    let highest = figures.iter().map(|f| f.spread[1]).fold(f64::MIN_POSITIVE, f64::max);
    let at = |value: f64| LABELS as f64 + (value.max(0.0) / highest) * BARS as f64;
    let (width, height) = (LABELS + BARS + VALUES, HEAD + ROW * figures.len() + 10);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let first = figures[0];
    let unit = if first.unit.is_empty() {
        String::new()
    } else {
        format!(", {}", first.unit)
    };
    let title = escaped(&format!("{}: {}{unit}", first.suite, first.name));
    // Writing to a String does not fail.
    let _ = writeln!(svg, "<text x=\"10\" y=\"20\" font-size=\"15\">{title}</text>");
    for (row, figure) in figures.iter().enumerate() {
        let top = HEAD + row * ROW;
        let (middle, base) = (top + ROW / 2, top + ROW / 2 + 4);
        let colour = if figure.is_limit() { LIMITS } else { OURS };
        let params = figure.params.as_object().into_iter().flatten();
        let params: String = params.map(|(k, v)| format!(", {k} {}", as_text(v))).collect();
        let label = escaped(&format!("{}{params}", figure.subject));
        let _ = writeln!(
            svg,
            "<svg x=\"0\" y=\"{top}\" width=\"{}\" height=\"{ROW}\"><text x=\"10\" y=\"{}\">{label}</text></svg>",
            LABELS - 10,
            ROW / 2 + 4
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            top + 4,
            at(figure.value) - LABELS as f64,
            ROW - 8
        );
        let [least, greatest] = figure.spread.map(at);
        let _ = writeln!(
            svg,
            "<line x1=\"{least:.1}\" x2=\"{greatest:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>"
        );
        let share = figure
            .ratio
            .map_or_else(String::new, |r| format!(" ({} of the limit)", rounded(r)));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{base}\">{}{share}</text>",
            greatest + 6.0,
            rounded(figure.value)
        );
    }
    svg += "</svg>\n";
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_name_has_a_picture_with_a_bar_for_each_figure() {
        let of = |name: &str, subject: &str| {
            Figure::of("host", (name, subject), json!({ "a": "<&>" }), "Mpps", vec![1.0, 2.0]).unwrap()
        };
        let figures = [
            of("rate, all", "ours"),
            of("rate, all", "bare (limit)"),
            of("time", "ours"),
        ];
        let directory = std::env::temp_dir().join(format!("bench-plot-{}", std::process::id()));
        let paths = write(&directory, &figures).unwrap();
        let names: Vec<_> = paths.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(names, ["host-rate-all.svg", "host-time.svg"]);
        let svg = std::fs::read_to_string(&paths[0]).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!((svg.matches(OURS).count(), svg.matches(LIMITS).count()), (1, 1));
        assert!(svg.contains("a &lt;&amp;&gt;") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
