//! The grid: sessions by PDRs, shared and private sets, each with everybody who can hold it.
//!
//! Where a combination would take gigabytes or minutes, it is left out, and the output says which and why. What fits
//! side by side is built side by side, and repetitions take turns, so that whatever else the machine does meets all
//! alike; large ones are built one after the other.

use super::acl::AclTable;
use super::bars;
use super::contest::{Change, Contestant, Global, PUSH, PerSession};
use super::linear::LinearList;
use super::measure::{Traffic, check, make_changes, memory_in_use};
use super::ours::{Ours, pdrs};
use super::partition_sort::PartitionSort;
use super::population::{Law, Population, Random, Sets, packet_of, session};
use super::rule::{Packet, Rule};
use super::tuple_merge::TupleMerge;
use super::tuple_space::TupleSpace;
use super::{Effort, Options, report};
use crate::figure::Figure;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use upf_host::dpdk::Eal;

/// How many sessions, how many PDRs each.
const SESSIONS: [u32; 4] = [1, 10_000, 100_000, 1_000_000];
const PDRS: [u32; 6] = [2, 4, 8, 16, 100, 1_000];
/// Rules that ours holds, if the sets are shared; otherwise everybody's limit with the session stage.
const MOST_SHARED: u64 = 16_000_000;
const MOST: u64 = 4_000_000;
/// Rules in one table for all sessions; the combination that a bar asks for is let through.
const MOST_GLOBAL: u64 = 400_000;
/// Rules that are built side by side.
const SIDE_BY_SIDE: u64 = 200_000;
/// Rules that rte_acl builds in a second or two.
const MOST_STATIC: u64 = 40_000;
/// No bar looks at a list of more.
const LONGEST_LIST: u64 = 1_000;

/// Where changes are worth measuring at all.
const PATIENCE: Duration = Duration::from_millis(400);

/// When all changes are to be made.
const FOREVER: Duration = Duration::from_secs(3_600);
/// Sessions whose lines stay in the cache.
const FEW: usize = 64;

type Entrant = Box<dyn Fn() -> Box<dyn Contestant>>;

fn entrant<C: Contestant + 'static>(make: impl Fn() -> C + 'static) -> Entrant {
    Box::new(move || Box::new(make()))
}

/// Those that can hold that many rules; what is left out is told.
fn entrants(population: Population, eal: Option<&Eal>, effort: Effort) -> Vec<Entrant> {
    let rules = population.rules_in_all();
    let sessions = population.sessions;
    let mut entrants = vec![
        entrant(|| Ours::new(true)),
        entrant(move || Ours::with_own_teids(sessions)),
    ];
    let mut left_out = Vec::new();
    if rules <= MOST {
        entrants.push(entrant(|| PerSession::new("linear list", LinearList::default)));
        entrants.push(entrant(|| PerSession::new("PSTSS", TupleSpace::default)));
        entrants.push(entrant(|| PerSession::new("TupleMerge", TupleMerge::default)));
        entrants.push(entrant(|| PerSession::new("PartitionSort", PartitionSort::default)));
    } else {
        left_out.push("the comparisons with session stage (gigabytes)");
    }
    let asked_for = population
        == (Population {
            sessions: 1_000_000,
            pdrs: 4,
            sets: Sets::Private,
        });
    if rules <= MOST_GLOBAL.min(effort.most_global) || asked_for && !effort.quick {
        entrants.push(entrant(|| Global::new("PSTSS", TupleSpace::default())));
        entrants.push(entrant(|| Global::new("TupleMerge", TupleMerge::default())));
        entrants.push(entrant(|| Global::new("PartitionSort", PartitionSort::default())));
    } else {
        left_out.push("the comparisons without session stage (minutes to build)");
    }
    if rules <= LONGEST_LIST {
        entrants.push(entrant(|| Global::new("linear list", LinearList::default())));
    }
    if let Some(eal) = eal {
        if rules <= MOST_STATIC.min(effort.most_static) {
            let eal = eal.clone();
            entrants.push(entrant(move || {
                Global::new_static("rte_acl (static)", AclTable::new(eal.clone()))
            }));
        } else {
            left_out.push("rte_acl (minutes to build)");
        }
        if population.sessions == 1 {
            let eal = eal.clone();
            entrants.push(entrant(move || {
                let eal = eal.clone();
                PerSession::new_static("rte_acl (static)", move || AclTable::new(eal.clone()))
            }));
        }
    }
    if !left_out.is_empty() {
        println!("  left out: {}", left_out.join(", "));
    }
    entrants
}

/// Measures the whole grid, or with `--quick` a part of it.
///
/// # Errors
/// An answer is wrong: then no figure means anything.
pub fn grid(options: &Options, eal: Option<&Eal>, effort: Effort) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let asked = |one: Option<u32>, all: &[u32]| one.map_or_else(|| all.to_vec(), |one| vec![one]);
    for sessions in asked(options.sessions, &SESSIONS) {
        for pdrs in asked(options.pdrs, &PDRS) {
            for sets in [Sets::Shared, Sets::Private] {
                let population = Population { sessions, pdrs, sets };
                if effort.quick && !options.is_part() && !effort.is_in_quick(population)
                    || options.bars && !bars::look_at(population)
                {
                    continue;
                }
                if sessions == 1 && sets == Sets::Shared {
                    continue; // one session has nobody to share with
                }
                println!("\n{}", heading(population));
                let limit = if sets == Sets::Shared { MOST_SHARED } else { MOST };
                if population.rules_in_all() > limit && !options.is_part() {
                    println!(
                        "  left out: {} rules take gigabytes and minutes",
                        population.rules_in_all()
                    );
                    continue;
                }
                let mut entrants = entrants(population, eal, effort);
                if options.ours {
                    entrants.truncate(2);
                }
                let of_cell = Cell::new(population, effort).measure(entrants)?;
                report::print_cell(&of_cell);
                figures.extend(of_cell);
            }
        }
    }
    Ok(figures)
}

fn heading(Population { sessions, pdrs, sets }: Population) -> String {
    format!("{sessions} session(s) of {pdrs} PDRs, {} sets", sets_name(sets))
}

const fn sets_name(sets: Sets) -> &'static str {
    match sets {
        Sets::Shared => "shared",
        Sets::Private => "private",
    }
}

/// One combination.
struct Cell {
    population: Population,
    effort: Effort,
    traffic: [(Law, Traffic); 2],
    figures: Vec<Figure>,
}

/// Somebody who holds the rules.
struct Held {
    contestant: Box<dyn Contestant>,
    build: f64,
    bytes: f64,
}

impl Cell {
    fn new(population: Population, effort: Effort) -> Self {
        let most = if population.pdrs > 16 {
            1 << 15
        } else {
            effort.most_packets
        };
        let count = (population.sessions as usize * 4).clamp(1 << 13, most);
        let traffic = [Law::Uniform, Law::Zipf].map(|law| (law, Traffic::new(population.packets(law, count, 0x5eed))));
        Self {
            population,
            effort,
            traffic,
            figures: Vec::new(),
        }
    }

    fn measure(mut self, entrants: Vec<Entrant>) -> Result<Vec<Figure>, String> {
        let at_once = if self.population.rules_in_all() <= SIDE_BY_SIDE {
            entrants.len()
        } else {
            1
        };
        for group in entrants.chunks(at_once) {
            let mut held = group
                .iter()
                .map(|make| self.build(make))
                .collect::<Result<Vec<_>, _>>()?;
            self.lookups(&mut held);
            for held in &mut held {
                self.changes(held)?;
            }
        }
        Ok(self.figures)
    }

    fn params(&self) -> Value {
        let Population { sessions, pdrs, sets } = self.population;
        json!({ "sessions": sessions, "pdrs": pdrs, "sets": sets_name(sets) })
    }

    fn add(&mut self, name: &str, subject: &str, more: &[(&str, Value)], unit: &'static str, values: Vec<f64>) {
        let mut params = self.params();
        more.iter().for_each(|(key, value)| params[*key] = value.clone());
        self.figures
            .extend(Figure::of("classifier", (name, subject), params, unit, values));
    }

    fn build(&self, make: &Entrant) -> Result<Held, String> {
        let heap = memory_in_use();
        let mut contestant = make();
        let mut taken = Duration::ZERO;
        for number in 0..self.population.sessions {
            let rules = self.population.rules(number, 0);
            let start = Instant::now();
            contestant.insert(session(number), &rules)?;
            taken += start.elapsed();
        }
        let start = Instant::now();
        contestant.settle()?;
        taken += start.elapsed();
        let bytes = memory_in_use().saturating_sub(heap) + contestant.foreign_bytes();
        for (_, traffic) in &self.traffic {
            traffic.check(&mut *contestant, self.effort.checked)?;
        }
        let bytes = bytes as f64 / f64::from(self.population.sessions);
        Ok(Held {
            contestant,
            build: taken.as_secs_f64(),
            bytes,
        })
    }

    fn lookups(&mut self, held: &mut [Held]) {
        for (law, law_name) in [(0, "uniform"), (1, "zipf")] {
            for batch in [1usize, 32] {
                let mut times = vec![Vec::new(); held.len()];
                for repetition in 0..=self.effort.repetitions {
                    for (held, times) in held.iter_mut().zip(&mut times) {
                        let traffic = &mut self.traffic[law].1;
                        if repetition == 0 {
                            traffic.rewind();
                            traffic.lookup(&mut *held.contestant, batch, self.effort.each / 4); // warms up
                        } else {
                            times.push(traffic.lookup(&mut *held.contestant, batch, self.effort.each));
                        }
                    }
                }
                for (held, times) in held.iter().zip(times) {
                    let how = [("traffic", json!(law_name)), ("batch", json!(batch))];
                    self.add("lookup", held.contestant.name(), &how, "ns", times);
                }
            }
        }
    }

    fn changes(&mut self, held: &mut Held) -> Result<(), String> {
        let contestant = &mut *held.contestant;
        let subject = contestant.name().to_owned();
        self.add("build", &subject, &[], "s", vec![held.build]);
        self.add("memory of a session", &subject, &[], "B", vec![held.bytes]);
        if !contestant.takes_changes() {
            return Ok(());
        }
        let patience = if contestant.is_static() { PATIENCE / 4 } else { PATIENCE };

        // A precedence behind the next one's, and back; the first time, and when the session has had such a change.
        let away = self.precedence_changes();
        let first = make_changes(&away, patience, |change| contestant.set_precedence(change))?;
        let away = &away[..first.made];
        check(contestant, &self.packets_after(away))?;
        let cycles = |some: &[Change], changes: usize| -> Vec<Change> {
            let back: Vec<Change> = some.iter().map(reversed).collect();
            let both = || some.iter().chain(&back).cloned();
            (0..changes.div_ceil(2 * some.len()).max(1))
                .flat_map(|_| both())
                .collect()
        };
        let back: Vec<Change> = away.iter().map(reversed).collect();
        let mut again = make_changes(&back, FOREVER, |change| contestant.set_precedence(change))?;
        if !contestant.is_static() {
            let cycles_of_all = cycles(away, 4_000);
            again = make_changes(&cycles_of_all, FOREVER, |change| contestant.set_precedence(change))?;
            let pushes: Vec<&[Change]> = cycles_of_all.chunks(PUSH).collect();
            let pushed = make_changes(&pushes, FOREVER, |push| contestant.set_precedences(push))?;
            let each = cycles_of_all.len() as f64 / pushes.len() as f64;
            let times = pushed.times.iter().map(|ns| ns / each).collect();
            self.add("change a precedence, pushed", &subject, &[], "ns", times);
            let of_few = cycles(&away[..away.len().min(FEW)], 4_000);
            let soon = make_changes(&of_few, FOREVER, |change| contestant.set_precedence(change))?;
            self.add("change a precedence, few sessions", &subject, &[], "ns", soon.times);
        }
        self.add(
            "change a precedence, first of a session",
            &subject,
            &[],
            "ns",
            first.times,
        );
        self.add("change a precedence", &subject, &[], "ns", again.times);

        let replacements = self.replacements();
        let replaced = make_changes(&replacements, patience, |change| contestant.replace(change))?;
        check(contestant, &self.packets_after(&replacements[..replaced.made]))?;
        self.add("replace a rule", &subject, &[], "ns", replaced.times);
        Ok(())
    }

    fn changed_sessions(&self) -> Vec<u32> {
        let count = (self.effort.changes / self.population.pdrs as usize).clamp(64, 4_000);
        let mut random = Random(0xc4a9);
        (0..count).map(|_| random.below(self.population.sessions)).collect()
    }

    /// Each session at most once, so that the order in which they are reversed does not matter.
    fn precedence_changes(&self) -> Vec<Change> {
        let mut numbers = self.changed_sessions();
        numbers.sort_unstable();
        numbers.dedup();
        let mut random = Random(0x5f1e);
        (1..numbers.len()).for_each(|i| numbers.swap(i, random.below(i as u32 + 1) as usize));
        let change = |number: u32| {
            let rules = self.population.rules(number, 0);
            let after = Rule {
                precedence: rules[1].precedence + 5,
                ..rules[0]
            };
            Change {
                session: session(number),
                before: rules[0],
                after,
                pdrs: Vec::new(),
            }
        };
        numbers.into_iter().map(change).collect()
    }

    /// First rules that become others. Private sets become sets that nobody has had; shared ones one of two.
    fn replacements(&self) -> Vec<Change> {
        let mut versions: HashMap<u32, u32> = HashMap::new();
        let mut change = |number: u32| {
            let version = versions.entry(number).or_default();
            let before = self.population.rules(number, *version)[0];
            *version = match self.population.sets {
                Sets::Shared => 1 - *version,
                Sets::Private => *version + 1,
            };
            let rules = self.population.rules(number, *version);
            let session = session(number);
            Change {
                session,
                before,
                after: rules[0],
                pdrs: pdrs(true, session, &rules),
            }
        };
        self.changed_sessions().into_iter().map(&mut change).collect()
    }

    /// Packets of the sessions that were changed, with the answers that are right after the last change of each.
    fn packets_after(&self, changes: &[Change]) -> Vec<Packet> {
        let last: HashMap<u32, &Change> = changes.iter().map(|change| (change.session.id, change)).collect();
        let mut random = Random(0xaf7e);
        let packets = last.into_values().take(500).flat_map(|change| {
            let mut rules = self.population.rules(change.session.id, 0);
            rules[0] = change.after;
            [(); 4].map(|()| packet_of(change.session, &rules, &mut random))
        });
        packets.collect()
    }
}

fn reversed(change: &Change) -> Change {
    Change {
        session: change.session,
        before: change.after,
        after: change.before,
        pdrs: Vec::new(),
    }
}
