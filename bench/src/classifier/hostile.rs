//! The hostile set: one session with a thousand odd PDRs among ten thousand normal ones. Do the others feel it?
//!
//! Traffic is the normal sessions' only. The hostile session comes and goes, and lookups are measured with it and
//! without it by turns, so that a drift of the machine does not look like an effect. The effect of a round is the
//! median of its halves' ratios; what counts is the median of the rounds.

use super::Effort;
use super::contest::{Contestant, Global, PerSession};
use super::linear::LinearList;
use super::measure::Traffic;
use super::ours::Ours;
use super::partition_sort::PartitionSort;
use super::population::{Law, Population, Sets, odd_rules, session};
use super::tuple_merge::TupleMerge;
use super::tuple_space::TupleSpace;
use crate::figure::Figure;
use serde_json::json;
use std::time::Duration;

/// The name of the figure that the bar looks at.
pub const EFFECT: &str = "lookups of the others, with the hostile session";
const NORMAL: Population = Population {
    sessions: 10_000,
    pdrs: 4,
    sets: Sets::Private,
};
const ODD: u32 = 1_000;
const BATCH: usize = 32;

/// Measures everybody who takes changes.
///
/// # Errors
/// An answer is wrong.
pub fn run(effort: Effort) -> Result<Vec<Figure>, String> {
    println!(
        "\n{ODD} odd PDRs of one session among {} sessions of {} PDRs",
        NORMAL.sessions, NORMAL.pdrs
    );
    let contestants: [Box<dyn Contestant>; 6] = [
        Box::new(Ours::new(true)),
        Box::new(PerSession::new("linear list", LinearList::default)),
        Box::new(PerSession::new("PartitionSort", PartitionSort::default)),
        Box::new(Global::new("PSTSS", TupleSpace::default())),
        Box::new(Global::new("TupleMerge", TupleMerge::default())),
        Box::new(Global::new("PartitionSort", PartitionSort::default())),
    ];
    let mut traffic = Traffic::new(NORMAL.packets(Law::Uniform, 1 << 15, 0x0dd));
    let mut figures = Vec::new();
    for mut contestant in contestants {
        figures.extend(affected(&mut *contestant, &mut traffic, effort)?);
    }
    for figure in &figures {
        let [least, greatest] = figure.spread;
        println!(
            "  {:32} {:9.2} {} ({least:.2} to {greatest:.2}), {}",
            figure.subject, figure.value, figure.unit, figure.name
        );
    }
    Ok(figures)
}

fn affected(contestant: &mut dyn Contestant, traffic: &mut Traffic, effort: Effort) -> Result<Vec<Figure>, String> {
    for number in 0..NORMAL.sessions {
        contestant.insert(session(number), &NORMAL.rules(number, 0))?;
    }
    contestant.settle()?;
    traffic.check(contestant, effort.checked)?;
    let hostile = session(NORMAL.sessions);
    let odd = odd_rules(hostile, ODD);
    let each = effort.each.min(Duration::from_millis(20));
    let mut measured = |contestant: &mut dyn Contestant| {
        let mut times: Vec<f64> = (0..5).map(|_| traffic.lookup(contestant, BATCH, each)).collect();
        times.sort_by(f64::total_cmp);
        1e3 / times[times.len() / 2]
    };
    measured(contestant); // warms up
    let (mut without, mut with, mut effect) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let before = measured(contestant);
        contestant.insert(hostile, &odd)?;
        contestant.settle()?;
        let meanwhile = measured(contestant);
        contestant.remove(hostile, &odd)?;
        contestant.settle()?;
        let after = measured(contestant);
        without.extend([before, after]);
        with.push(meanwhile);
        effect.push((meanwhile / ((before + after) / 2.0) - 1.0) * 100.0);
    }
    traffic.check(contestant, effort.checked)?;
    let params = json!({ "sessions": NORMAL.sessions, "pdrs": NORMAL.pdrs, "odd": ODD, "batch": BATCH });
    let name = contestant.name();
    let figure = |what: &str, unit, values| Figure::of("classifier", (what, name), params.clone(), unit, values);
    Ok([
        figure("lookups of the others, without", "Mpps", without),
        figure("lookups of the others, with", "Mpps", with),
        figure(EFFECT, "%", effect),
    ]
    .into_iter()
    .flatten()
    .collect())
}
