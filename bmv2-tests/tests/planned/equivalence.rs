//! The P4 path and the host path alone are one UPF: for random sessions and packets the same bytes leave by the same ports.
//!
//! ```text
//!   session ──▶ upf-host alone                            frame ──▶ upf-host alone ─────────────────────▶ frames out
//!       └─────▶ upf-host behind a P4 target                 └────▶ P4 target ───────────────────────────▶ frames out
//!       └─────▶ upf-ctl's planner ──▶ entries in the target           └─▶ punted ▶ upf-host ▶ reinjected ──┘
//! ```
//! Each frame is sent, then the flow that a miss would have promoted is written, then the frame is sent again: now the
//! target may answer it alone.
//!
//! What the two ways have counted for each PDR is the same as well.
//!
//! Free fields, which may differ: none. What is left out: how many tokens a bucket holds (the two planes have a bucket
//! each), the UDP checksum over IPv6 of a packet whose Ethernet padding is not zero, and the order of frames at different
//! ports.
//!
//! `UPF_EQUIVALENCE_CASES=10000` says how many sessions (default 3,000); each meets up to 24 frames. A counterexample is
//! shrunk and printed.

use crate::host::Host;
use crate::packet::{self, Arriving};
use crate::placed::Placed;
use crate::{session, world};
use bmv2_tests::target::with_all_targets;
use bmv2_tests::world::HOST;
use bmv2_tests::{Frames, Target};
use p4runtime::v1::update::Type;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use upf_ctl::placement::{Ids, Key, Planner, SessionPlan, World, Write};
use upf_model::punt::{PUNT_LEN, PuntHeader, PuntReason};
use upf_model::{PdrId, Session};

/// Sessions where nothing else is said: a few seconds of `make test`.
const CASES: u32 = 3_000;

#[test]
fn the_p4_path_and_the_host_alone_send_the_same_bytes() {
    let cases = std::env::var("UPF_EQUIVALENCE_CASES")
        .ok()
        .map(|n| n.parse().expect("UPF_EQUIVALENCE_CASES"));
    let cases = cases.unwrap_or(CASES);
    with_all_targets(|targets| {
        for target in targets {
            // Real wires are slow: fewer there.
            let cases = if target.name == "p4-switch" {
                cases
            } else {
                cases.div_ceil(10)
            };
            let tally = Tally::default();
            check(target, cases, &tally);
            eprintln!("{}: {cases} sessions; {tally:?}", target.name);
            let share = tally.by_target.get() * 100 / tally.frames.get().max(1);
            assert!(share >= 10, "the fast path was hardly tested: {share} % of the frames");
            assert!(
                tally.flows.get() > u64::from(cases) / 10,
                "flows were hardly tested: {}",
                tally.flows.get()
            );
        }
    });
}

/// What was seen, that the test is not about nothing.
#[derive(Debug, Default)]
struct Tally {
    frames: Cell<u64>,
    /// Frames that the target forwarded by itself.
    by_target: Cell<u64>,
    /// Of those, after a flow of theirs was written.
    flows: Cell<u64>,
    /// Frames after which anything left.
    forwarded: Cell<u64>,
    /// PDRs for which the target has counted.
    counted: Cell<u64>,
    /// Frames that the host finished, by reason.
    punted: RefCell<BTreeMap<&'static str, u64>>,
}

fn add(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

fn check(target: &mut Target, cases: u32, tally: &Tally) {
    let world = world::world();
    target.clear();
    let entries = world.entries();
    target.insert(entries.iter().map(Placed::unlimited));
    let config = Config {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (session::session(), vec(packet::arriving(), 1..24));
    let checked = TestRunner::new(config).run(&strategy, |(session, frames)| {
        let mut case = Case::new(target, &world, session)?;
        let result = frames.iter().try_for_each(|arriving| case.meets(arriving, tally));
        let result = result.and_then(|()| case.has_counted(tally));
        case.end();
        result
    });
    if let Err(e) = checked {
        panic!("{}: {e}", target.name);
    }
}

/// One session, in three places.
struct Case<'t> {
    target: &'t Target,
    alone: Host,
    behind: Host,
    plan: SessionPlan,
    written: HashMap<Key, Placed>,
    counted_before: HashMap<PdrId, InTarget>,
}

/// What the target has counted for a PDR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct InTarget {
    packets: i64,
    /// Users' bytes.
    bytes: i64,
    /// Packets dropped by gate or FAR.
    dropped: i64,
}

impl<'t> Case<'t> {
    fn new(target: &'t Target, world: &World, session: Session) -> Result<Self, TestCaseError> {
        let (mut alone, mut behind) = (Host::new(&world::alone()), Host::new(&world::behind_p4()));
        alone.put(&session);
        behind.put(&session);
        let planner = Planner {
            world,
            burst: qos::BurstPolicy::default(),
        };
        let planned = planner.plan(Arc::new(session), None, None, &mut Ids::new(65_536, 65_536, 1_000));
        let (plan, change) = planned.map_err(|e| TestCaseError::fail(format!("no plan: {}", e.name())))?;
        let mut case = Self {
            target,
            alone,
            behind,
            plan,
            written: HashMap::new(),
            counted_before: HashMap::new(),
        };
        case.counted_before = case.counted();
        case.write(change.prepare.into_iter().chain(change.switch))?;
        Ok(case)
    }

    fn write(&mut self, writes: impl IntoIterator<Item = Write>) -> Result<(), TestCaseError> {
        let mut entries = Vec::new();
        for write in writes {
            match write {
                Write::Insert(planned) => {
                    let entry = Placed::unlimited(&planned);
                    if self.written.insert(planned.key, entry.clone()).is_none() {
                        entries.push(entry);
                    }
                }
                Write::Meter(..) => {} // no rate of this test is ever exceeded
                other => return Err(TestCaseError::fail(format!("a first plan only inserts: {other:?}"))),
            }
        }
        let updates = self.target.updates(Type::Insert, entries);
        self.target
            .try_write(updates)
            .map_err(|e| TestCaseError::fail(e.to_string()))
    }

    fn meets(&mut self, arriving: &Arriving, tally: &Tally) -> Result<(), TestCaseError> {
        let missed = self.compare(arriving, tally)?.contains(&PuntReason::FlowMiss);
        if !missed {
            return Ok(());
        }
        let packet = self.behind.flow_packet(arriving.port, &arriving.frame);
        let flows: Vec<_> = packet.map(|packet| self.plan.flows_of(&packet)).unwrap_or_default();
        self.write(flows.into_iter().map(|(entry, _)| Write::Insert(entry)))?;
        if self.compare(arriving, tally)?.is_empty() {
            add(&tally.flows);
        }
        Ok(())
    }

    /// Both ways; the reasons for which the target punted.
    fn compare(&mut self, arriving: &Arriving, tally: &Tally) -> Result<Vec<PuntReason>, TestCaseError> {
        let expected = self.alone.receive(arriving.port, &arriving.frame);
        let mut found = self.target.send(world::p4_port(arriving.port), &arriving.frame);
        let (mut punted, mut reasons) = (Vec::new(), Vec::new());
        found.retain(|(port, frame)| {
            if *port == HOST {
                reasons.extend(PuntHeader::read(frame).map(|header| header.reason));
                punted.push(frame.clone());
            }
            *port != HOST
        });
        let as_it_came = punted.iter().all(|frame| frame[PUNT_LEN..] == arriving.frame);
        prop_assert!(
            as_it_came,
            "punted otherwise than it came: {:?} {:?}",
            arriving,
            reasons
        );
        let reinjected = self.behind.finish(&punted);
        let reinjected: Frames = reinjected.into_iter().map(|frame| (HOST, frame)).collect();
        if !reinjected.is_empty() {
            found.extend(self.target.exchange(&reinjected));
        }
        add(&tally.frames);
        if !expected.is_empty() {
            add(&tally.forwarded);
        }
        for reason in &reasons {
            *tally.punted.borrow_mut().entry(reason.name()).or_default() += 1;
        }
        if reasons.is_empty() && !found.is_empty() {
            add(&tally.by_target);
        }
        let (expected, found) = (by_port(expected), by_port(found));
        prop_assert!(
            expected == found,
            "{:?}\nthe host alone sends {}\nthe P4 path sends   {}\npunted: {:?}\nplan: {:?}",
            arriving,
            listed(&expected),
            listed(&found),
            reasons,
            self.plan.modes().collect::<Vec<_>>()
        );
        Ok(reasons)
    }

    /// By PDR, as the controller reckons it.
    fn counted(&self) -> HashMap<PdrId, InTarget> {
        const PER_PDR: usize = 11;
        let cells = self.plan.cells().flat_map(|(_, cell)| {
            let bits = (0..8).map(|bit| ("odd_overhead", cell.cell * 8 + bit));
            let whole = ["passed", "dropped", "odd"].map(|counter| (counter, cell.cell));
            whole.into_iter().chain(bits)
        });
        let counts = self.target.counters(&cells.collect::<Vec<_>>());
        let of_pdr = self.plan.cells().zip(counts.chunks(PER_PDR));
        of_pdr
            .map(|((pdr, cell), counts)| {
                let (passed, dropped, odd) = (counts[0], counts[1], counts[2].packets);
                let odd_overhead: i64 = (0..8).map(|bit| counts[3 + bit].packets << bit).sum();
                let around = (passed.packets - odd) * i64::from(cell.usual_overhead) + odd_overhead;
                let in_target = InTarget {
                    packets: passed.packets,
                    bytes: passed.bytes - around,
                    dropped: dropped.packets,
                };
                (pdr, in_target)
            })
            .collect()
    }

    /// Both ways have counted the same for each PDR. Bytes of packets that the target drops it does not know.
    fn has_counted(&mut self, tally: &Tally) -> Result<(), TestCaseError> {
        let session = self.plan.session().id;
        let (alone, behind) = (self.alone.usage(session), self.behind.usage(session));
        let after = self.counted();
        for ((pdr, alone), (_, behind)) in alone.pdrs.iter().zip(&behind.pdrs) {
            let [after, before] = [&after, &self.counted_before].map(|c| c.get(pdr).copied().unwrap_or_default());
            let dropped = after.dropped - before.dropped;
            let packets = behind.packets as i64 + after.packets - before.packets + dropped;
            prop_assert_eq!(alone.packets as i64, packets, "packets of {:?}", pdr);
            if dropped == 0 {
                let bytes = behind.bytes as i64 + after.bytes - before.bytes;
                prop_assert_eq!(alone.bytes as i64, bytes, "bytes of {:?}", pdr);
            }
            if after != before {
                add(&tally.counted);
            }
        }
        Ok(())
    }

    fn end(self) {
        self.target.delete(self.written.into_values());
    }
}

fn by_port(mut frames: Frames) -> Frames {
    frames.sort_by_key(|(port, _)| *port);
    frames
}

fn listed(frames: &Frames) -> String {
    let hex = |frame: &[u8]| frame.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let all: Vec<_> = frames
        .iter()
        .map(|(port, frame)| format!("{port}: {}", hex(frame)))
        .collect();
    if all.is_empty() {
        "nothing".into()
    } else {
        all.join(", ")
    }
}
