//! A measured figure: the median of its runs, how far they lie apart, and the physical limit beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a subject's name ends with if it is not ours nor a competitor's, but what the same machine does in the same run
/// without the work that is measured.
pub const LIMIT: &str = "(limit)";
/// The name under which [`Figure::bar`] tells that something must hold.
pub const BAR: &str = "bar";

/// One measured value. A comparison or a limit is another `subject` with the same `name` and `params`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The suite, such as `ipc`.
    pub suite: String,
    /// What was measured.
    pub name: String,
    /// Whose it is.
    pub subject: String,
    /// Under which circumstances.
    pub params: Value,
    /// The median of the runs.
    pub value: f64,
    /// Of the value.
    pub unit: String,
    /// Least and greatest of the runs.
    pub spread: [f64; 2],
    /// How many runs there were.
    #[serde(default = "one")]
    pub runs: usize,
    /// The median of the physical limit, measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The value over that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

const fn one() -> usize {
    1
}

/// What is good in a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The more, the better.
    Higher,
    /// The less, the better.
    Lower,
}

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// It, or more.
    AtLeast(f64),
    /// It, or less.
    AtMost(f64),
    /// Less than it.
    Below(f64),
}

impl Bound {
    /// Whether this is enough.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(bound) => measured >= bound,
            Self::AtMost(bound) => measured <= bound,
            Self::Below(bound) => measured < bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::Below(bound) => write!(f, "below {bound}"),
        }
    }
}

impl Figure {
    /// The figure of several runs: their median, and how far they lie apart. `None` without runs.
    pub fn of(
        suite: &str,
        (name, subject): (&str, &str),
        params: Value,
        unit: &str,
        mut runs: Vec<f64>,
    ) -> Option<Self> {
        runs.sort_by(f64::total_cmp);
        let (&least, &greatest) = (runs.first()?, runs.last()?);
        Some(Self {
            suite: suite.to_owned(),
            name: name.to_owned(),
            subject: subject.to_owned(),
            params,
            value: runs[runs.len() / 2],
            unit: unit.to_owned(),
            spread: [least, greatest],
            runs: runs.len(),
            limit: None,
            ratio: None,
        })
    }

    /// What must hold and whether it does. `remark` is what a reader needs to judge it.
    pub fn bar(suite: &str, what: &str, bound: Bound, measured: f64, unit: &str, remark: &str) -> Option<Self> {
        let params = serde_json::json!({
            "bound": bound.to_string(), "holds": bound.holds(measured), "remark": remark,
        });
        Self::of(suite, (BAR, what), params, unit, vec![measured])
    }

    /// Whether this is what the machine does without our work.
    pub fn is_limit(&self) -> bool {
        self.subject.ends_with(LIMIT)
    }

    /// Whether this is a judgement of other figures.
    pub fn is_bar(&self) -> bool {
        self.name == BAR || self.subject == BAR
    }

    /// What is good in it; `None` where nothing is, as with the machine's own load.
    pub fn better(&self) -> Option<Better> {
        let harms = ["lost", "loss", "reorder", "former flow"];
        if self.subject == "machine" || self.is_bar() {
            return None;
        }
        match self.unit.as_str() {
            "Mpps" | "1/s" | "Gbit/s" => Some(Better::Higher),
            "ns" | "us" | "ms" | "s" | "B" | "cycles" | "%" => Some(Better::Lower),
            _ if self.name.contains("share of the limit") => Some(Better::Higher),
            _ if harms.iter().any(|harm| self.name.contains(harm)) => Some(Better::Lower),
            _ => None,
        }
    }
}

/// Puts the limit measured with the same name and parameters beside each figure.
pub fn beside_limits(figures: &mut [Figure]) {
    let limits: Vec<(String, Value, f64)> = figures
        .iter()
        .filter(|f| f.is_limit())
        .map(|f| (f.name.clone(), f.params.clone(), f.value))
        .collect();
    for figure in figures.iter_mut().filter(|f| !f.is_limit()) {
        let same = limits
            .iter()
            .find(|(name, params, _)| *name == figure.name && *params == figure.params);
        if let Some((.., limit)) = same {
            figure.limit = Some(*limit);
            figure.ratio = (*limit != 0.0).then(|| figure.value / limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_is_the_median_of_its_runs_with_their_extremes() {
        let figure = Figure::of("s", ("n", "x"), json!({}), "ns", vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figure.value, figure.spread, figure.runs), (2.0, [1.0, 3.0], 3));
        assert!(Figure::of("s", ("n", "x"), json!({}), "ns", vec![]).is_none());
    }

    #[test]
    fn a_limit_of_the_same_name_and_parameters_stands_beside_a_figure_and_no_other_does() {
        let of = |subject: &str, sessions: u32, value| {
            Figure::of(
                "s",
                ("rate", subject),
                json!({ "sessions": sessions }),
                "Mpps",
                vec![value],
            )
            .unwrap()
        };
        let mut figures = [
            of("upf-host", 1, 10.0),
            of("no UPF work (limit)", 1, 40.0),
            of("upf-host", 2, 9.0),
        ];
        beside_limits(&mut figures);
        assert_eq!((figures[0].limit, figures[0].ratio), (Some(40.0), Some(0.25)));
        assert_eq!((figures[1].limit, figures[2].limit), (None, None));
    }

    #[test]
    fn rates_are_good_losses_are_bad_and_the_load_of_the_machine_is_neither() {
        let of = |name: &str, subject: &str, unit: &str| Figure::of("s", (name, subject), json!({}), unit, vec![1.0]);
        let better = |name, subject, unit| of(name, subject, unit).unwrap().better();
        assert_eq!(better("packets lost", "upf-host", ""), Some(Better::Lower));
        assert_eq!(better("zero-loss rate", "upf-host", "Mpps"), Some(Better::Higher));
        assert_eq!(better("load average", "machine", ""), None);
    }
}
