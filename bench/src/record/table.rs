//! Figures for people: those with the same name and parameters together, bars last.

use crate::figure::Figure;
use serde_json::Value;

/// Prints them.
pub fn print(figures: &[Figure]) {
    let width = figures
        .iter()
        .map(|f| f.subject.chars().count())
        .max()
        .unwrap_or(0)
        .min(48);
    let mut printed: Vec<(&str, &Value)> = Vec::new();
    for first in figures.iter().filter(|f| !f.is_bar()) {
        let group = (first.name.as_str(), &first.params);
        if printed.contains(&group) {
            continue;
        }
        printed.push(group);
        println!("\n{}{}", first.name, in_words(&first.params));
        for f in figures.iter().filter(|f| (f.name.as_str(), &f.params) == group) {
            let [least, greatest] = f.spread.map(rounded);
            let ratio = f
                .ratio
                .map_or_else(String::new, |r| format!("  {} of the limit", rounded(r)));
            println!(
                "  {:width$}  {:>12} {}  ({least} to {greatest} in {}){ratio}",
                f.subject,
                rounded(f.value),
                f.unit,
                if f.runs == 1 {
                    "one run".to_owned()
                } else {
                    format!("{} runs", f.runs)
                }
            );
        }
    }
    let bars: Vec<&Figure> = figures.iter().filter(|f| f.is_bar()).collect();
    if !bars.is_empty() {
        println!("\nWhat must hold");
    }
    for bar in bars {
        let verdict = match bar.params["holds"].as_bool() {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "-",
        };
        let what = if bar.subject == "bar" { &bar.name } else { &bar.subject };
        let bound = as_text(&bar.params["bound"]);
        println!(
            "  {verdict:5}  {what}: {bound} {}, measured {}",
            bar.unit,
            rounded(bar.value)
        );
    }
}

/// `, sessions 1, bytes 900`.
fn in_words(params: &Value) -> String {
    let params = params.as_object().into_iter().flatten();
    params.map(|(k, v)| format!(", {k} {}", as_text(v))).collect()
}

/// A parameter's value as people write it.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_u64()
            .map_or_else(|| number.to_string(), |n| grouped(&n.to_string())),
        other => other.to_string(),
    }
}

/// Three significant digits, thousands apart.
pub fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if magnitude < 2 {
        return format!("{value:.*}", usize::try_from(2 - magnitude).unwrap_or(0).min(6));
    }
    let step = 10f64.powi(magnitude - 2);
    grouped(&format!("{:.0}", (value / step).round() * step))
}

fn grouped(digits: &str) -> String {
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
    fn three_digits_are_shown() {
        let shown = [0.012_345, 1.234_5, 12.345, 123.45, 1_234.5, 1_234_567.0].map(rounded);
        assert_eq!(shown, ["0.0123", "1.23", "12.3", "123", "1,230", "1,230,000"]);
    }
}
