//! Two targets that run the same program are one: the same entries and frames give the same frames out of the same ports,
//! and the same counts.
//!
//! Entries are a random session's as the planner has them, of which some are left out, so that every kind of miss
//! happens; flows are what frames of the case would have. `UPF_DIFFERENTIAL_CASES` says how many (default 100).

use crate::packet::{self, Arriving};
use crate::placed::Placed;
use crate::{session, world};
use bmv2_tests::target::{Count, with_all_targets};
use bmv2_tests::world::HOST;
use bmv2_tests::{Frames, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::Arc;
use upf_ctl::placement::{Ids, Key, Planner, Write};
use upf_model::Session;

const CASES: u32 = 100;

#[test]
fn every_target_sends_what_p4_switch_sends() {
    let cases = std::env::var("UPF_DIFFERENTIAL_CASES")
        .ok()
        .map(|n| n.parse().expect("UPF_DIFFERENTIAL_CASES"));
    with_all_targets(|targets| {
        let [first, others @ ..] = targets else {
            panic!("p4-switch is always there");
        };
        if others.is_empty() {
            println!("SKIPPED: there is no target to compare p4-switch with");
            return;
        }
        let entries: Vec<Placed> = world::world().entries().iter().map(Placed::unlimited).collect();
        for target in [&mut *first].into_iter().chain(&mut *others) {
            target.clear();
            target.insert(entries.iter().cloned());
        }
        let config = Config {
            cases: cases.unwrap_or(CASES),
            max_shrink_iters: 2_000,
            failure_persistence: None,
            ..Config::default()
        };
        let left_out = vec(prop::bool::weighted(0.05), 64);
        let strategy = (session::session(), vec(packet::arriving(), 1..24), left_out);
        let checked = TestRunner::new(config).run(&strategy, |(session, frames, left_out)| {
            let case = Case::new(session, &frames, &left_out)?;
            let expected = case.seen_at(first)?;
            for other in &*others {
                let found = case.seen_at(other)?;
                prop_assert!(
                    expected == found,
                    "{:?}\n{} {:?}\n{} {:?}",
                    case.entries,
                    first.name,
                    expected,
                    other.name,
                    found
                );
            }
            Ok(())
        });
        if let Err(e) = checked {
            panic!("{e}");
        }
    });
}

struct Case {
    entries: Vec<Placed>,
    cells: Vec<u32>,
    frames: Frames,
}

/// What a target is seen to do: frames out, and what its counters say in each cell.
#[derive(PartialEq, Eq)]
struct Seen {
    out: Frames,
    counts: Vec<Count>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (port, frame) in &self.out {
            write!(f, "\n  {port}: ")?;
            frame.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        write!(f, "\n  counts {:?}", self.counts)
    }
}

impl Case {
    fn new(session: Session, frames: &[Arriving], left_out: &[bool]) -> Result<Self, TestCaseError> {
        let world = world::world();
        let planner = Planner {
            world: &world,
            burst: qos::BurstPolicy::default(),
        };
        let planned = planner.plan(Arc::new(session), None, None, &mut Ids::new(65_536, 65_536, 1_000));
        let (plan, change) = planned.map_err(|e| TestCaseError::fail(format!("no plan: {}", e.name())))?;
        let parser = crate::host::Host::new(&world::alone());
        let packets = frames.iter().filter_map(|a| parser.flow_packet(a.port, &a.frame));
        let flows = packets
            .flat_map(|packet| plan.flows_of(&packet))
            .map(|(flow, _)| Write::Insert(flow));
        let mut known: Vec<Key> = Vec::new();
        let mut entries = Vec::new();
        for write in change.prepare.into_iter().chain(change.switch).chain(flows) {
            let Write::Insert(planned) = write else { continue };
            if !known.contains(&planned.key) {
                known.push(planned.key);
                if !left_out[known.len() % left_out.len()] {
                    entries.push(Placed::unlimited(&planned));
                }
            }
        }
        Ok(Self {
            entries,
            cells: plan.cells().map(|(_, cell)| cell.cell).collect(),
            frames: frames
                .iter()
                .map(|a| (world::p4_port(a.port), a.frame.clone()))
                .collect(),
        })
    }

    fn seen_at(&self, target: &Target) -> Result<Seen, TestCaseError> {
        let before = self.counts(target);
        target.insert(self.entries.iter().cloned());
        // Port by port: in which order frames at different ports are taken is a target's own affair.
        let of_port = |port| {
            self.frames
                .iter()
                .filter(move |(at, _)| *at == port)
                .cloned()
                .collect::<Frames>()
        };
        let out = (1..HOST).flat_map(|port| target.exchange(&of_port(port))).collect();
        let after = self.counts(target);
        target.delete(self.entries.iter().cloned());
        let counts = after
            .into_iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        Ok(Seen { out, counts })
    }

    fn counts(&self, target: &Target) -> Vec<Count> {
        let cells = self.cells.iter().flat_map(|&cell| {
            let bits = (0..8).map(move |bit| ("odd_overhead", cell * 8 + bit));
            [("passed", cell), ("dropped", cell), ("odd", cell)]
                .into_iter()
                .chain(bits)
        });
        let cells: Vec<_> = cells.collect();
        target.counters(&cells)
    }
}
