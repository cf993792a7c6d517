//! What the classifier must hold, and whether it does: each bar is a ratio within one run, or a time.

use super::population::Population;
use super::{hostile, ours};
use crate::figure::{Bound, Figure};

/// The algorithms that take changes, each with all sessions in one table.
const ONLINE: [&str; 3] = ["PSTSS", "TupleMerge", "PartitionSort"];
const MILLION: u64 = 1_000_000;

/// Whether a bar looks at figures of that population.
pub const fn look_at(population: Population) -> bool {
    let Population { sessions, pdrs, .. } = population;
    sessions == 1 || sessions as u64 == MILLION && pdrs == 4
}

/// A bar: what was measured, whether it had to be at least or at most what.
struct Bar {
    what: String,
    measured: Option<f64>,
    bound: Bound,
    unit: &'static str,
    remark: String,
}

/// Looks figures up.
struct Figures<'f>(&'f [Figure]);

impl Figures<'_> {
    fn value(&self, name: &str, subject: &str, (sessions, pdrs, sets): (u64, u64, &str)) -> Option<f64> {
        let fits = |f: &&Figure| {
            f.name == name
                && f.subject == subject
                && f.params["sessions"] == sessions
                && f.params["pdrs"] == pdrs
                && f.params["sets"] == sets
        };
        self.0.iter().find(fits).map(|f| f.value)
    }

    /// Nanoseconds of a lookup, uniform traffic, batches of 32.
    fn lookup(&self, subject: &str, (sessions, pdrs, sets): (u64, u64, &str)) -> Option<f64> {
        let fits = |f: &&Figure| {
            f.name == "lookup"
                && f.subject == subject
                && f.params["sessions"] == sessions
                && f.params["pdrs"] == pdrs
                && f.params["sets"] == sets
                && f.params["traffic"] == "uniform"
                && f.params["batch"] == 32
        };
        self.0.iter().find(fits).map(|f| f.value)
    }

    fn best<'n>(&self, names: &[&'n str], cell: (u64, u64, &str)) -> Option<(&'n str, f64)> {
        let values = names.iter().filter_map(|name| Some((*name, self.lookup(name, cell)?)));
        values.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

fn all(figures: &[Figure]) -> Vec<Bar> {
    let figures = Figures(figures);
    let mut bars = Vec::new();
    for sets in ["private", "shared"] {
        let cell = (MILLION, 4, sets);
        // Without a session stage nothing can be shared: the private table stands for both, if only it was built.
        let theirs = figures
            .best(&ONLINE, cell)
            .or_else(|| figures.best(&ONLINE, (MILLION, 4, "private")));
        for (subject, teids) in [(ours::NAME, "drawn"), (ours::OWN_TEIDS, "own")] {
            let ours = figures.lookup(subject, cell);
            let rate = ours.map_or_else(String::new, |ns| format!("{:.1} M/s", 1e3 / ns));
            bars.push(Bar {
                what: format!(
                    "1 M sessions x 4 PDRs, {sets}, {teids} TEIDs, batch 32: times the best online one without session stage"
                ),
                measured: theirs.zip(ours).map(|((_, theirs), ours)| theirs / ours),
                bound: Bound::AtLeast(8.0),
                unit: "x",
                remark: format!(
                    "{rate}; {}",
                    theirs.map_or_else(String::new, |(name, ns)| format!("{name} {ns:.0} ns"))
                ),
            });
        }
    }
    for (pdrs, bound) in [(100, 3.0), (1_000, 1.5)] {
        let cell = (1, pdrs, "private");
        let theirs = figures.best(&["PartitionSort", "session stage + PartitionSort"], cell);
        let ours = figures.lookup(ours::NAME, cell);
        bars.push(Bar {
            what: format!("{pdrs} PDRs, hot: times PartitionSort"),
            measured: theirs.zip(ours).map(|((_, theirs), ours)| theirs / ours),
            bound: Bound::AtLeast(bound),
            unit: "x",
            remark: ours.map_or_else(String::new, |ns| format!("{:.1} M/s", 1e3 / ns)),
        });
    }
    bars.extend(never_slower_than_a_list(&figures));
    for (sessions, sets) in [(1, "private"), (MILLION, "private"), (MILLION, "shared")] {
        let cell = (sessions, 4, sets);
        let value = |name| figures.value(name, ours::NAME, cell);
        let first = value("change a precedence, first of a session").unwrap_or(f64::NAN);
        let few = value("change a precedence, few sessions").unwrap_or(f64::NAN);
        for (name, how) in [
            ("change a precedence", "one by one"),
            ("change a precedence, pushed", "64 at a time"),
        ] {
            bars.push(Bar {
                what: format!("precedence change, {sessions} session(s) x 4 PDRs, {sets}, random sessions, {how}"),
                measured: value(name),
                bound: Bound::AtMost(50.0),
                unit: "ns",
                remark: format!("sessions in the cache {few:.0} ns; a session's first {first:.0} ns"),
            });
        }
    }
    for sets in ["private", "shared"] {
        bars.push(Bar {
            what: format!("rule replace, 1 M sessions x 4 PDRs, {sets}"),
            measured: figures
                .value("replace a rule", ours::NAME, (MILLION, 4, sets))
                .map(|ns| ns / 1e3),
            bound: Bound::AtMost(0.7),
            unit: "us",
            remark: String::new(),
        });
    }
    let effect = figures
        .0
        .iter()
        .find(|f| f.name == hostile::EFFECT && f.subject == ours::NAME);
    bars.push(Bar {
        what: "hostile session: change of the others' lookups".to_owned(),
        measured: effect.map(|figure| figure.value.abs()),
        bound: Bound::Below(2.0),
        unit: "%",
        remark: effect.map_or_else(String::new, |f| {
            format!("rounds from {:.2} to {:.2}", f.spread[0], f.spread[1])
        }),
    });
    bars
}

fn never_slower_than_a_list(figures: &Figures<'_>) -> Vec<Bar> {
    [
        ("with the session stage", "session stage + linear list"),
        ("without", "linear list"),
    ]
    .into_iter()
    .map(|(how, list)| {
        let lookups = figures
            .0
            .iter()
            .filter(|f| f.name == "lookup" && f.subject == ours::NAME);
        let small = lookups.filter(|f| f.params["pdrs"].as_u64().is_some_and(|pdrs| pdrs <= 8));
        let ratios = small.filter_map(|ours| {
            let same = |f: &&Figure| f.name == "lookup" && f.subject == list && f.params == ours.params;
            let theirs = figures.0.iter().find(same)?;
            Some((theirs.value / ours.value, &ours.params))
        });
        let worst = ratios.min_by(|a, b| a.0.total_cmp(&b.0));
        Bar {
            what: format!("2 to 8 PDRs: times the linear list {how}, at worst"),
            measured: worst.map(|(ratio, _)| ratio),
            bound: Bound::AtLeast(1.0),
            unit: "x",
            remark: worst.map_or_else(String::new, |(_, params)| params.to_string()),
        }
    })
    .collect()
}

/// Gives the bars as figures; prints where the static algorithm wins.
pub fn judge(figures: &[Figure]) -> Vec<Figure> {
    let judged = all(figures).into_iter().filter_map(|bar| {
        let Some(measured) = bar.measured else {
            println!("  not measured in this run: {}", bar.what);
            return None;
        };
        Figure::bar("classifier", &bar.what, bar.bound, measured, bar.unit, &bar.remark)
    });
    let judged = judged.collect();
    println!("\nWhere rte_acl, which takes no changes, is faster");
    let mut wins = 0;
    for ours in figures.iter().filter(|f| f.name == "lookup" && f.subject == ours::NAME) {
        let theirs = figures
            .iter()
            .filter(|f| f.subject.contains("rte_acl") && f.name == "lookup");
        for theirs in theirs.filter(|f| f.params == ours.params && f.value < ours.value) {
            println!(
                "  {}: {:.1} ns, ours {:.1} ns: {}",
                theirs.subject, theirs.value, ours.value, ours.params
            );
            wins += 1;
        }
    }
    if wins == 0 {
        println!("  nowhere in this run");
    }
    judged
}
